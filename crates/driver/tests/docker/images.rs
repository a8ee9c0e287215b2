//! Where images come from: when a registry is asked, with whose credentials, and what is told meanwhile.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use driver::contract::{Driver as _, Notes};
use driver::docker::Options;
use driver::orphans::Keep;
use serde_json::json;
use tokio::sync::mpsc;

use super::engine::docker;
use super::host::{Host, eventually};
use super::registry::{Manner, Registry};
use super::runner;

pub const TESTS: &[runner::Test] = &[
    ("a_fixed_tag_that_is_here_is_pulled_only_when_forced_docker_01_docker_03", force_pull),
    ("the_progress_of_a_slow_pull_is_told_and_is_no_reason_to_give_up_docker_07", slow_pull),
    ("a_pull_ends_when_nobody_waits_for_it_any_more", abandoned_pull),
    ("a_pull_ends_when_the_last_start_that_waits_for_it_is_cancelled_docker_05", cancelled_pull),
    ("a_new_user_of_an_image_begins_its_delay_anew_docker_36", new_user),
    ("an_agent_that_starts_again_lets_go_of_what_nobody_uses_and_of_nothing_else", after_restart),
    ("credentials_come_from_the_operators_file_docker_44", credentials_of_file),
];

fn force_pull() {
    let registry = Registry::start(Manner::Serves);
    let host = Host::new(json!({}));
    let name = format!("127.0.0.1:{}/fixed:1", registry.port);
    let begin = |task: &str, forced: bool| {
        let handle = host.start(host.task(task, json!({"image": name, "command": "/bin/echo", "force_pull": forced})));
        host.destroy(&handle);
        registry.manifests.load(Ordering::SeqCst)
    };
    let first = begin("a", false);
    assert!(first > 0, "it was not here");
    assert_eq!(begin("b", false), first, "it is here");
    assert!(begin("c", true) > first, "forced");
    docker(&["rmi", "-f", &name]);
}

fn slow_pull() {
    let registry = Registry::start(Manner::Dribbles(Duration::from_secs(8)));
    let mut host = Host::new(json!({}));
    // Shorter than the pull, longer than any pause in it.
    host.die();
    host.begin_with(Options { pull_activity_timeout: Duration::from_secs(5), ..Options::default() });
    let name = format!("127.0.0.1:{}/dribbled:1", registry.port);
    let (sender, mut notes) = mpsc::channel(100);
    let mut task = host.task("t", json!({"image": name, "command": "/bin/echo"}));
    task.around.notes = Notes::new(sender);
    let handle = host.start(task);
    host.destroy(&handle);
    docker(&["rmi", "-f", &name]);
    let mut told = Vec::new();
    while let Ok(note) = notes.try_recv() {
        told.push(note);
    }
    assert_eq!(told[0], "Downloading image");
    assert!(told[1].starts_with("Image pull progress: 0 of 1 layers, ") && told[1].ends_with(" MiB"), "{told:?}");
}

fn abandoned_pull() {
    let registry = Registry::start(Manner::Dribbles(Duration::from_secs(3)));
    let host = Host::new(json!({}));
    let name = format!("127.0.0.1:{}/left:1", registry.port);
    let config = json!({"image": name, "command": "/bin/echo", "image_pull_timeout": "500ms"});
    let error = host.run(host.driver().start(host.task("t", config))).unwrap_err();
    assert!(error.to_string().contains("not complete after"), "{error}");
    // Longer than the pull would have taken.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(docker(&["image", "inspect", &name]), None, "the engine was told to stop");
}

fn cancelled_pull() {
    let registry = Registry::start(Manner::Dribbles(Duration::from_secs(3)));
    let host = Host::new(json!({}));
    let name = format!("127.0.0.1:{}/cancelled:1", registry.port);
    let (mut tasks, mut waiting) = (Vec::new(), Vec::new());
    for n in ["a", "b"] {
        let task = host.task(n, json!({"image": name, "command": "/bin/echo"}));
        let driver = host.driver().clone();
        tasks.push(task.around.cancel.clone());
        waiting.push(host.runtime.as_ref().unwrap().spawn(async move { driver.start(task).await }));
    }
    eventually("the registry is asked", || registry.manifests.load(Ordering::SeqCst) > 0);
    // One goes: the other still waits.
    tasks[0].cancel();
    let error = host.run(waiting.remove(0)).unwrap().unwrap_err();
    assert!(error.to_string().contains("cancelled") && !waiting[0].is_finished(), "{error}");
    tasks[1].cancel();
    assert!(host.run(waiting.remove(0)).unwrap().is_err());
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(docker(&["image", "inspect", &name]), None, "the engine was told to stop");
}

fn new_user() {
    let delay = Duration::from_secs(5);
    let host = Host::new(json!({"gc": {"image_delay": "5s"}}));
    let name = format!("steppe-test/timed:{}", std::process::id());
    docker(&["tag", &super::host::image(), &name]).unwrap();
    let used = |task: &str| {
        let handle = host.start(host.task(task, json!({"image": name, "command": "/bin/echo"})));
        host.run(host.driver().wait(&handle.task_id)).unwrap();
        // The delay begins within.
        let ending = Instant::now();
        host.destroy(&handle);
        ending
    };
    used("a");
    // In the first one's delay, and gone before its end.
    let last = used("b");
    eventually("its removal", || docker(&["image", "inspect", &name]).is_none());
    assert!(last.elapsed() >= delay, "{:?} after its last user", last.elapsed());
}

fn after_restart() {
    let mut host = Host::new(json!({"gc": {"image_delay": "1h"}}));
    let name = |what: &str| format!("steppe-test/{what}:{}", std::process::id());
    let is_here = |what: &str| docker(&["image", "inspect", &name(what)]).is_some();
    for what in ["left", "running"] {
        // Each an image of its own: what is counted are images, not names.
        super::engine::import(&name(what));
    }
    let task = |host: &Host, what: &str, command: &str| {
        let config = json!({"image": name(what), "command": command, "args": ["1000"]});
        host.start(host.task(what, config))
    };
    let left = task(&host, "left", "/bin/echo");
    host.run(host.driver().wait(&left.task_id)).unwrap();
    host.destroy(&left);
    let running = task(&host, "running", "/bin/sleep");
    let memory = host.base.path().join("images.json");
    let written = || std::fs::read_to_string(&memory).unwrap_or_default();
    eventually("both are written down", || written().contains("/left:") && written().contains("/running:"));
    host.die();
    host.options = json!({"gc": {"image_delay": "1s"}});
    host.begin();
    assert!(is_here("left") && is_here("running"));
    let task_ids = [running.task_id.clone()].into();
    let keep = Keep { handles: vec![running.clone()], task_ids, ..Keep::default() };
    host.finds_engine();
    host.run(host.driver().sweep(&keep)).unwrap();
    host.run(host.driver().recover(running.clone())).unwrap();
    eventually("what nobody uses is gone", || !is_here("left"));
    eventually("and forgotten", || !written().contains("/left:"));
    assert!(is_here("running"));
    host.destroy(&running);
    eventually("its task has ended, too", || !is_here("running"));
    eventually("nothing is remembered", || !written().contains("/running:"));
}

fn credentials_of_file() {
    let registry = Registry::start(Manner::Asks { user: "u", password: "pass:word" });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let host = Host::new(json!({"auth": {"config": path}}));
    let name = format!("127.0.0.1:{}/filed:1", registry.port);
    let start = || host.run(host.driver().start(host.task("t", json!({"image": name, "command": "/bin/echo"}))));
    let failed = |word: &str| {
        let error = start().unwrap_err();
        assert!(error.is_recoverable() && error.to_string().contains(word), "{error}");
    };
    failed("config.json");
    fs::write(&path, json!({"auths": {}}).to_string()).unwrap();
    failed("Failed to pull");
    // It is read anew: an operator who logs in needs no restart.
    let auth = base64::engine::general_purpose::STANDARD.encode("u:pass:word");
    let server = format!("http://127.0.0.1:{}/v2/", registry.port);
    fs::write(&path, json!({"auths": {server: {"auth": auth}}}).to_string()).unwrap();
    let handle = start().unwrap();
    host.destroy(&handle);
    docker(&["rmi", "-f", &name]);
}
