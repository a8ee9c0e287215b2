//! The suite as containers: jobs of two drivers, and everything that happens to containers while they run.
#![allow(clippy::unwrap_used)]

#[path = "containers/compose.rs"]
mod compose;
#[path = "../../crates/driver/tests/support/engine.rs"]
mod engine;
#[path = "../../crates/driver/tests/support/runner.rs"]
mod runner;
#[path = "containers/suite.rs"]
mod suite;

use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::docker;
use suite::{IMAGE, Suite, containers_of_tasks, small, tag, task_image};

const TESTS: &[runner::Test] = &[
    ("a_suite_of_containers_runs_containers_and_processes", || with_suite(async |s| everyday(s).await)),
    ("schedulers_are_scaled_while_jobs_come", || with_suite(async |s| scaled(s).await)),
    ("a_state_server_that_was_cut_off_comes_back_with_everything", || with_suite(async |s| cut_off(s).await)),
    ("a_state_server_that_comes_back_under_another_address_is_found", || with_suite(async |s| moved(s).await)),
    ("nothing_acknowledged_is_lost_with_the_leader_s_container", || with_suite(async |s| leader_killed(s).await)),
    ("every_service_s_container_may_be_restarted", || with_suite(async |s| restarted(s).await)),
    ("containers_are_upgraded_one_at_a_time", || with_suite(async |s| upgraded(s).await)),
];

const COMPOSED: &[runner::Test] = &[
    ("the_compose_file_runs_with_docker_compose_1", || on_runtime(compose::scaled(&compose::V1))),
    ("a_composed_service_without_certificates_says_what_to_do", || compose::without_certificates(&compose::V1)),
];
const COMPOSED_V2: &[runner::Test] = &[
    ("the_compose_file_runs_with_compose_v2", || on_runtime(compose::scaled(&compose::V2))),
    ("a_service_of_compose_v2_without_certificates_says_what_to_do", || compose::without_certificates(&compose::V2)),
];

/// One suite for all tests that leave it whole; a test that fails takes it along.
static SUITE: Mutex<Option<Suite>> = Mutex::new(None);

fn main() -> ExitCode {
    let listing = std::env::args().any(|word| word == "--list");
    let missing = engine::missing();
    if missing.is_none() && !listing {
        images();
    }
    let mut codes = vec![runner::main(|| missing.clone(), TESTS)];
    let left = SUITE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(suite) = left {
        on_runtime(suite.end());
    }
    codes.push(runner::main(|| missing.clone().or_else(|| compose::V1.missing()), COMPOSED));
    codes.push(runner::main(|| missing.clone().or_else(|| compose::V2.missing()), COMPOSED_V2));
    if missing.is_none() && !listing {
        for image in [format!("{IMAGE}:{}", tag(2)), format!("{IMAGE}:{}", tag(1)), task_image()] {
            docker(&["rmi", "-f", &image]);
        }
    }
    if codes.iter().all(|code| *code == ExitCode::SUCCESS) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    // More than one thread: containers are removed where they are dropped.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn with_suite(test: impl AsyncFnOnce(&mut Suite)) {
    let left = SUITE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let suite = on_runtime(async {
        let mut suite = match left {
            Some(suite) => suite,
            None => {
                let mut suite = Suite::start().await;
                suite.run_everyday().await;
                suite.settled().await;
                suite
            }
        };
        test(&mut suite).await;
        suite
    });
    *SUITE.lock().unwrap_or_else(PoisonError::into_inner) = Some(suite);
}

/// Two builds of the suite's image, the second with a different label only, and one for tasks.
fn images() {
    let first = format!("{IMAGE}:{}", tag(1));
    let mut build = Command::new("scripts/image");
    build.arg(&first).env("STEPPE_BIN", e2e::cluster::program()).current_dir(e2e::cluster::root());
    let done = build.output().unwrap();
    assert!(done.status.success(), "scripts/image: {}", e2e::cluster::text(&done.stderr));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), format!("FROM {first}\nLABEL build=2\n")).unwrap();
    let second = format!("{IMAGE}:{}", tag(2));
    docker(&["build", "-q", "-t", &second, dir.path().to_str().unwrap()]).expect("the second image is built");
    engine::import(&task_image());
}

async fn everyday(suite: &mut Suite) {
    assert!(suite.answers());
    suite.settled().await;
    // What a container writes is in its allocation's directory: the same path on the host and in the agent.
    let ids = suite.ok(&["job", "allocs", "-t", "{{range .}}{{.ID}} {{end}}", "inside"]);
    let id = ids.split_whitespace().next().unwrap();
    assert!(suite.ok(&["alloc", "fs", id, "t/local/n"]).trim().parse::<u32>().is_ok());
    assert!(suite.ok(&["alloc", "logs", id]).starts_with("1\n"));
    assert!(suite.ok(&["alloc", "exec", "-i=false", "-t=false", id, "/bin/sh", "-c", "echo in"]) == "in\n");
    let published = docker(&["port", &containers_of_tasks()[0], "8080/tcp"]).unwrap();
    assert!(published.starts_with("127.0.0.1:2"), "{published}");
    let beside = suite.ok(&["alloc", "logs", "-job", "beside"]);
    assert_eq!(beside.trim(), suite.prefix);

    for name in suite.names() {
        let privileged = suite.inspect(&name, "{{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}}");
        assert_eq!(privileged, "false true", "{name}");
        let user = suite.inspect(&name, "{{.Config.User}}");
        assert_eq!(user == "0:0", name.starts_with("agent"), "{name} runs as {user}");
    }
    assert_eq!(suite.complaints(), Vec::<String>::new());
}

async fn scaled(suite: &mut Suite) {
    for n in 3..=4 {
        suite.add(&format!("scheduler-{n}"), 1).await;
    }
    for n in 0..20 {
        suite.run(&small(&format!("scaled-{n}"))).await.unwrap();
    }
    for n in 3..=4 {
        suite.until_healthy(&format!("scheduler-{n}")).await;
    }
    suite.settled().await;
}

async fn cut_off(suite: &mut Suite) {
    let leader = suite.leader().await;
    // A follower, and then the leader.
    let follower = ["state-1", "state-2", "state-3"].into_iter().find(|name| *name != leader).unwrap().to_owned();
    for (round, name) in [follower, leader].into_iter().enumerate() {
        docker(&["network", "disconnect", &suite.prefix, &suite.full(&name)]).unwrap();
        let mut acknowledged = 0;
        for n in 0..10 {
            acknowledged += usize::from(suite.run(&small(&format!("cut-{round}-{n}"))).await.is_ok());
        }
        assert!(acknowledged > 0, "a majority is left");
        suite.settled().await;
        docker(&["network", "connect", &suite.prefix, &suite.full(&name)]).unwrap();
        suite.until_healthy(&name).await;
        until_caught_up(suite).await;
        suite.settled().await;
    }
}

/// All three vote, and are as far as the leader.
async fn until_caught_up(suite: &Suite) {
    let well = |v: &serde_json::Value| {
        let servers = v["Servers"].as_array().cloned().unwrap_or_default();
        v["Healthy"] == true && servers.len() == 3 && servers.iter().all(|s| s["Healthy"] == true && s["Voter"] == true)
    };
    suite.until("/v1/operator/autopilot/health", "three state servers are well", well).await;
}

async fn moved(suite: &mut Suite) {
    let name = "state-2";
    let address = |s: &Suite| s.inspect(name, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
    let before = address(suite);
    docker(&["network", "disconnect", &suite.prefix, &suite.full(name)]).unwrap();
    // Another container takes the address that is free now.
    suite.add("scheduler-5", 1).await;
    docker(&["network", "connect", &suite.prefix, &suite.full(name)]).unwrap();
    let after = address(suite);
    assert_ne!(before, after, "the engine gives a free address");
    let told = |v: &serde_json::Value| {
        v["Members"]
            .as_array()
            .is_some_and(|all| all.iter().any(|m| m["Addr"] == after.as_str() && m["Status"] == "alive"))
    };
    suite.until("/v1/agent/members", "the new address is known", told).await;
    suite.until_healthy(name).await;
    until_caught_up(suite).await;
    suite.run(&small("moved")).await.unwrap();
    suite.settled().await;
}

async fn leader_killed(suite: &mut Suite) {
    let leader = suite.leader().await;
    let mut acknowledged = 0;
    for n in 0..60 {
        if n == 20 {
            docker(&["kill", &suite.full(&leader)]).unwrap();
        }
        acknowledged += usize::from(suite.run(&small(&format!("load-{n}"))).await.is_ok());
    }
    assert!(acknowledged >= 50, "{acknowledged} of 60 were acknowledged");
    suite.settled().await;
    assert_ne!(suite.leader().await, leader);
    docker(&["start", &suite.full(&leader)]).unwrap();
    suite.until_healthy(&leader).await;
    until_caught_up(suite).await;
    suite.settled().await;
}

async fn restarted(suite: &mut Suite) {
    for name in suite.names() {
        docker(&["restart", "-t", "15", &suite.full(&name)]).unwrap();
        let job = small(&format!("restarted-{name}"));
        let began = std::time::Instant::now();
        while suite.run(&job).await.is_err() {
            assert!(began.elapsed() < suite::WITHIN, "no job is taken after a restart of {name}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        suite.until_healthy(&name).await;
        suite.settled().await;
    }
    until_caught_up(suite).await;
    suite.until_nodes(2).await;
}

async fn upgraded(suite: &mut Suite) {
    let nodes = async |s: &Suite| s.ok(&["node", "status", "-t", "{{range .}}{{.ID}} {{.Name}};{{end}}"]);
    let before = nodes(suite).await;
    for name in suite.names() {
        suite.replace(&name, 2).await;
        if name.starts_with("state") {
            until_caught_up(suite).await;
        }
        suite.settled().await;
        assert_eq!(suite.inspect(&name, "{{.Config.Image}}"), format!("{IMAGE}:{}", tag(2)));
    }
    suite.until_nodes(2).await;
    assert_eq!(nodes(suite).await, before, "an agent's container is replaced, its node is the same");
    suite.run(&small("upgraded")).await.unwrap();
    suite.settled().await;
}
