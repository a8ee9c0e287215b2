//! Disks that fill, bytes that flip, and everything that stops at once.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::public::Query;
use e2e::cluster::WITHIN;
use e2e::disk::Disk;
use e2e::fleet::{Fleet, Shape, ready_nodes, sleeping_job};
use e2e::load::{Chance, Submitted};
use serde_json::{Value, json};

fn well(v: &Value) -> bool {
    v["FailureTolerance"] == 1
}

/// Of the server of this name, by autopilot's report.
fn raft_id<'a>(health: &'a Value, name: &str) -> Option<&'a str> {
    let named = |s: &&Value| s["Name"].as_str().is_some_and(|n| n.starts_with(name));
    health["Servers"].as_array()?.iter().find(named)?["ID"].as_str()
}

/// A write, tried again until it is accepted.
async fn write(fleet: &Fleet, id: &str) {
    let began = Instant::now();
    let mut job = sleeping_job(id, 0);
    // So that the log grows.
    job["Job"]["Meta"] = json!({"filler": "x".repeat(4_096)});
    loop {
        match fleet.api(0).put::<_, Value>("/v1/jobs", &Query::default(), &job).await {
            Ok(_) => return,
            Err(error) => assert!(began.elapsed() < WITHIN, "{id}: {error}\n{}", fleet.complaints()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_ids(fleet: &Fleet, count: usize) {
    let all = |v: &Value| v.as_array().is_some_and(|jobs| jobs.len() == count);
    fleet.until("/v1/jobs", &format!("{count} jobs are there"), all).await;
}

#[tokio::test]
async fn a_leader_whose_disk_is_full_steps_aside_says_so_and_returns_by_itself() {
    let mut fleet = Fleet::prepare(Shape::SMALL);
    let full = "state-3";
    let disk = Disk::mount(fleet.home(full).join("data"), 24);
    fleet.start_all();
    fleet.until_ready().await;
    let raft = fleet.until("/v1/operator/raft/configuration", "three servers", |v| v["Servers"].is_array()).await;
    let servers = raft["Servers"].as_array().unwrap();
    let id = servers.iter().find(|s| s["Node"].as_str().is_some_and(|n| n.starts_with(full))).unwrap()["ID"].clone();
    let path = format!("/v1/operator/raft/transfer-leadership?id={}", id.as_str().unwrap());
    if fleet.leader().await != full {
        let answer = fleet.api(0).put::<_, Value>(&path, &Query::default(), &Value::Null).await;
        answer.unwrap_or_else(|error| panic!("{error}"));
        let leads = |v: &Value| {
            v["Servers"].as_array().is_some_and(|all| all.iter().any(|s| s["ID"] == id && s["Leader"] == true))
        };
        fleet.until("/v1/operator/raft/configuration", "it leads", leads).await;
    }
    write(&fleet, "before").await;

    disk.fill();
    let mut written = 1;
    while !fleet.log(full).contains("raft storage failed") {
        assert!(written < 2_000, "{}", fleet.log(full));
        write(&fleet, &format!("full-{written}")).await;
        written += 1;
    }
    let (status, said) = fleet.readiness(full);
    assert!(status == 503 && said.contains("raft") && said.contains("No space left on device"), "{status} {said}");
    for n in 0..5 {
        write(&fleet, &format!("without-{n}")).await;
        written += 1;
    }
    assert_ne!(fleet.leader().await, full);
    until_ids(&fleet, written).await;

    disk.make_room();
    fleet.until("/v1/operator/autopilot/health", "all three are well", well).await;
    let began = Instant::now();
    while fleet.readiness(full).0 != 200 {
        assert!(began.elapsed() < WITHIN, "{:?}", fleet.readiness(full));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It counts: without another one nothing would be accepted but by its vote.
    fleet.kill("state-1");
    write(&fleet, "after").await;
    until_ids(&fleet, written + 1).await;
}

/// Flips one byte at each place where the file holds the text; how many.
fn flip_at(file: &Path, text: &str) -> usize {
    let bytes = std::fs::read(file).unwrap();
    let handle = std::fs::File::options().write(true).open(file).unwrap();
    let found: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes()).map(|(at, _)| at).collect();
    for at in &found {
        handle.write_at(&[bytes[*at] ^ 0x40], u64::try_from(*at).unwrap()).unwrap();
    }
    found.len()
}

/// Somewhere in the file, one bit is another.
fn flip_anywhere(file: &Path, chance: &mut Chance) {
    let bytes = std::fs::read(file).unwrap();
    let at = chance.below(bytes.len());
    let handle = std::fs::File::options().write(true).open(file).unwrap();
    handle.write_at(&[bytes[at] ^ (1 << chance.below(8))], u64::try_from(at).unwrap()).unwrap();
    println!("a bit at {at} of {} of {}", bytes.len(), file.display());
}

fn snapshot_of(fleet: &Fleet, name: &str) -> Option<PathBuf> {
    let dir = fleet.home(name).join("data/raft/snapshots");
    let entries = std::fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|e| e.path());
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snap-"))).max()
}

#[tokio::test]
async fn a_flipped_byte_in_log_or_snapshot_is_found_at_the_start_and_mended_by_the_peers() {
    const DAMAGED: &str = "raft data is damaged, setting it aside to rejoin as a new member";
    let mut chance = Chance::new("a flipped byte");
    let mut fleet = Fleet::prepare(Shape::SMALL);
    for name in fleet.of(model::Role::State) {
        fleet.tell(&name, &["--snapshot-after=60"]);
    }
    fleet.start_all();
    fleet.until_ready().await;
    let mut written = 0;
    let began = Instant::now();
    while snapshot_of(&fleet, "state-2").is_none() {
        write(&fleet, &format!("job-{written}")).await;
        written += 1;
        assert!(began.elapsed() < WITHIN, "no snapshot");
    }
    write(&fleet, "in-the-log-only").await;
    written += 1;
    for (victim, place) in [("state-1", "log"), ("state-2", "snapshot")] {
        let before = fleet.until("/v1/operator/autopilot/health", "all three are well", well).await;
        fleet.kill(victim);
        if place == "log" {
            let flipped = flip_at(&fleet.home(victim).join("data/raft/log.redb"), "in-the-log-only");
            assert!(flipped > 0, "it is in the log");
        } else {
            flip_anywhere(&snapshot_of(&fleet, victim).unwrap(), &mut chance);
        }
        fleet.spawn(victim);
        fleet.until_said(victim, DAMAGED, 1).await;
        // What was found before it died says nothing: it is another member now.
        let anew =
            |v: &Value| well(v) && raft_id(v, victim).is_some() && raft_id(v, victim) != raft_id(&before, victim);
        fleet.until("/v1/operator/autopilot/health", "all three are well, one of them anew", anew).await;
        assert_eq!(fleet.log(victim).matches(DAMAGED).count(), 1, "it is said once:\n{}", fleet.log(victim));
        // It counts: of the three one is gone, and what it was filled with is whole.
        fleet.kill("state-3");
        write(&fleet, &format!("after-{place}")).await;
        written += 1;
        until_ids(&fleet, written).await;
        fleet.spawn("state-3");
        fleet.until("/v1/operator/autopilot/health", "all three are well", well).await;
    }
    until_ids(&fleet, written).await;
}

/// Name of each allocation and the id it has.
async fn ids(fleet: &Fleet) -> BTreeMap<String, String> {
    let allocs = fleet.until("/v1/allocations?task_states=false", "allocations", Value::is_array).await;
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    allocs.as_array().unwrap().iter().map(|a| (text(&a["Name"]), text(&a["ID"]))).collect()
}

#[tokio::test]
async fn after_a_full_restart_the_state_and_the_running_tasks_are_still_there() {
    const JOBS: usize = 20;
    let mut fleet = Fleet::start(Shape { agents: 3, ..Shape::SMALL }).await;
    let submitted = Submitted::default();
    for n in 0..JOBS {
        submitted.submit(fleet.api(0), format!("job-{n}")).await;
    }
    assert_eq!(submitted.acknowledged().len(), JOBS);
    submitted.until_exact(&fleet, WITHIN, "submission").await;
    let (tasks, allocs) = (fleet.census(), ids(&fleet).await);
    let (jobs, meta) = fleet.api(0).get::<Value>("/v1/jobs", &Query::default()).await.unwrap();
    for kind in ["everything is killed at once", "services end in good order"] {
        if kind.starts_with("everything") {
            fleet.kill_all();
        } else {
            fleet.stop_all(true);
        }
        assert_eq!(fleet.census(), tasks, "{kind}: tasks run on");
        fleet.start_all();
        fleet.until("/v1/nodes", "all nodes are ready", |v| ready_nodes(v) == 3).await;
        submitted.until_exact(&fleet, WITHIN, kind).await;
        assert_eq!(fleet.census(), tasks, "{kind}: the same tasks");
        assert_eq!(ids(&fleet).await, allocs, "{kind}: the same allocations, and no other");
        let (now, after) = fleet.api(0).get::<Value>("/v1/jobs", &Query::default()).await.unwrap();
        assert!(after.index >= meta.index, "{kind}: {} after {}", after.index, meta.index);
        let identity = |v: &Value| -> Vec<(Value, Value)> {
            v.as_array().unwrap().iter().map(|j| (j["ID"].clone(), j["JobModifyIndex"].clone())).collect()
        };
        assert_eq!(identity(&now), identity(&jobs), "{kind}");
    }
}
