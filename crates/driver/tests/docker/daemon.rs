//! An engine that is stopped, killed and started again under a driver: the tasks' truth stays right, and what
//! stands on another engine of the same machine notices nothing.

use std::fs;
use std::time::Duration;

use driver::contract::{Driver as _, DriverError};
use serde_json::json;

use super::dockerd::Dockerd;
use super::engine::docker;
use super::host::{Host, eventually, image};
use super::runner;

pub const TESTS: &[runner::Test] = &[
    ("tasks_outlive_an_engine_that_is_stopped_or_killed_and_started_again_docker_39", engine_restarts),
    ("tasks_that_end_with_their_engine_are_told_ended_and_start_again_docker_39", tasks_end_with_engine),
];

fn engine_restarts() {
    let mut engine = Dockerd::start(&image(), true);
    let neighbour = Host::new(json!({}));
    let beside = neighbour.start(neighbour.sh("beside", "sleep 1000"));
    let mut host = Host::new(json!({"endpoint": engine.host()}));
    host.finds_engine();
    let script =
        "i=0; while [ ! -e /local/stop ]; do echo $i; echo $i > /local/count; i=$((i+1)); usleep 20000; done; exit 9";
    let handle = host.start(host.sh("t", script));
    let count = |host: &Host| {
        let text = fs::read_to_string(host.alloc.task("t").unwrap().local().join("count")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    eventually("the task counts", || count(&host) > 3);
    for signal in ["-TERM", "-KILL"] {
        engine.end(signal);
        eventually("ill health", || !host.driver().fingerprint().healthy);
        let info = host.driver().fingerprint();
        assert!(info.detected && info.health_description.contains("Failed to connect"), "{info:?}");
        assert_eq!(info.attributes["driver.docker"], "true", "the node is the same node");
        let error = host.run(host.driver().start(host.sh("late", "true"))).unwrap_err();
        assert!(error.is_recoverable() && error.to_string().contains("cannot be reached"), "{error}");
        // The task goes on, and is not said to have ended.
        let before = count(&host);
        eventually("the task goes on", || count(&host) > before + 10);
        let pending =
            async { tokio::time::timeout(Duration::from_millis(200), host.driver().wait(&handle.task_id)).await };
        assert!(host.run(pending).is_err());
        // So it does when the agent is started anew meanwhile.
        host.die();
        host.begin();
        host.run(host.driver().recover(handle.clone())).unwrap();
        assert!(!host.driver().fingerprint().healthy);
        engine.begin();
        eventually("health", || host.driver().fingerprint().healthy);
        let usage = || host.run(host.driver().stats(&handle.task_id)).is_ok();
        eventually("its usage is known again", usage);
        let running = host.start(host.sh("after", "sleep 1000"));
        host.destroy(&running);
    }
    fs::write(host.alloc.task("t").unwrap().local().join("stop"), "").unwrap();
    assert_eq!(host.run(host.driver().wait(&handle.task_id)).unwrap().code, 9);
    let lines: Vec<usize> = host.output("t.stdout").lines().map(|line| line.parse().unwrap()).collect();
    assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "no line comes twice");
    host.destroy(&handle);
    assert_eq!(engine.docker(&["ps", "-aq"]).unwrap(), "");

    neighbour.finds_engine();
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.Running}} {{.RestartCount}}", &neighbour.name("beside")]).unwrap(),
        "true 0"
    );
    neighbour.destroy(&beside);
}

fn tasks_end_with_engine() {
    let mut engine = Dockerd::start(&image(), false);
    let host = Host::new(json!({"endpoint": engine.host()}));
    let first = host.start(host.sh("t", "trap 'exit 3' TERM; echo up; while :; do usleep 10000; done"));
    eventually("output", || host.output("t.stdout") == "up\n");
    // This engine takes its containers with it.
    engine.end("-TERM");
    eventually("ill health", || !host.driver().fingerprint().healthy);
    assert!(matches!(
        host.run(host.driver().kill(&first.task_id, "", Duration::from_millis(100))),
        Err(DriverError::Stop(_))
    ));
    engine.begin();
    let exit = host.run(host.driver().wait(&first.task_id)).unwrap();
    assert!(!exit.is_success(), "{exit:?}");
    host.destroy(&first);
    let second = host.start(host.sh("t", "echo again; sleep 1000"));
    assert_ne!(first.state["container"], second.state["container"]);
    eventually("output", || host.output("t.stdout").ends_with("again\n"));
    host.destroy(&second);
}
