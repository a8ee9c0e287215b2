//! `kill -9` at any moment loses nothing that was acknowledged.

#![allow(clippy::unwrap_used)]

mod group;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use group::*;
use raft::*;

const HOME: &str = "RAFT_TEST_HOME";

fn small(config: &mut Config) {
    config.snapshot_after_entries = 40;
    config.keep_entries_after_snapshot = 5;
}

async fn alone(home: &std::path::Path) -> Group {
    let mut group = Group::empty(small);
    std::fs::create_dir_all(home).unwrap();
    std::os::unix::fs::symlink(home, group.home(1)).unwrap();
    group.start(1).await.unwrap();
    if !group.node(1).status().borrow().initialized {
        group.node(1).initialize(vec![peer(1)]).await.unwrap();
    }
    group.node(1).status().wait_for(Status::is_leader).await.unwrap();
    group
}

/// Not a law: the process that gets killed by the test below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only as a child of the other test"]
async fn child_writes_until_killed() {
    let Ok(home) = std::env::var(HOME) else { return };
    let group = alone(home.as_ref()).await;
    let node = group.node(1);
    let writers = (0..4).map(|w| {
        let node = node.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let line = format!("{w}.{n}");
                let (index, _) = node.propose(text(&line)).await.unwrap();
                println!("ack {index} {line}");
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_comes_back_with_every_acknowledged_command() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("node");
    let mut acked: Vec<(u64, String)> = Vec::new();
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed", "--ignored", "--nocapture"])
            .env(HOME, &home)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((index, what)) = line.strip_prefix("ack ").and_then(|l| l.split_once(' ')) else { continue };
            acked.push((index.parse().unwrap(), what.to_owned()));
            seen += 1;
            if seen == 60 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= 60, "the child wrote something");
    }
    let group = alone(&home).await;
    let last = group.write(text("end")).await;
    tokio::time::timeout(Duration::from_secs(10), group.tapes[&1].reach(last)).await.unwrap();
    let lines = group.tapes[&1].lines();
    for (index, what) in acked {
        assert!(lines.contains(&(index, text(&what))), "lost {index} {what}");
    }
}
