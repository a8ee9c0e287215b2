//! The Docker driver against a real engine.
#![allow(clippy::unwrap_used)]

#[path = "docker/daemon.rs"]
mod daemon;
#[path = "support/dockerd.rs"]
mod dockerd;
#[path = "support/engine.rs"]
mod engine;
#[path = "docker/host.rs"]
mod host;
#[path = "docker/images.rs"]
mod images;
#[path = "docker/network.rs"]
mod network;
#[path = "support/registry.rs"]
mod registry;
#[path = "support/runner.rs"]
mod runner;
#[path = "docker/settings.rs"]
mod settings;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use driver::contract::{Driver, DriverError, ExecInput, ExecOutput, ExecRequest, Notes};
use driver::cores::Cores;
use driver::docker::Options;
use driver::host_mount::{HostMount, Propagation};
use driver::orphans::Keep;
use model::alloc::PortMapping;
use serde_json::json;
use tokio::sync::mpsc;

use engine::docker;
use host::{Host, eventually, image};

fn main() -> ExitCode {
    let missing = engine::missing();
    if missing.is_none() {
        engine::import(&image());
    }
    let all = [TESTS, settings::TESTS, images::TESTS, network::TESTS].concat();
    let codes = [
        runner::main(|| missing.clone(), &all),
        runner::main(|| missing.clone().or_else(dockerd::missing), daemon::TESTS),
    ];
    if missing.is_none() {
        docker(&["network", "rm", network::BRIDGE]);
        docker(&["rmi", "-f", &image()]);
    }
    if codes == [ExitCode::SUCCESS; 2] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const TESTS: &[runner::Test] = &[
    ("a_container_runs_and_its_output_and_exit_code_are_kept_docker_01_docker_10_docker_23_env_04", runs_and_keeps),
    ("a_container_ends_by_the_images_signal_or_the_tasks_or_by_force_docker_31_docker_32", ends_as_asked),
    ("output_is_complete_and_once_after_the_agent_died_docker_48_restore_03", output_survives),
    ("what_ended_while_no_agent_lived_is_told_by_the_next", ended_meanwhile),
    ("ports_are_published_and_reach_the_container_docker_28", ports_reach),
    ("mounts_are_as_asked_and_read_only_where_said_docker_20_docker_22", mounts_hold),
    ("a_volume_of_the_host_is_written_to_unless_it_is_for_reading_docker_22_volume_01", host_volumes_hold),
    ("a_container_that_takes_too_much_memory_is_killed_and_says_so_docker_13_docker_33", oom_is_told),
    ("a_stopped_container_of_the_same_name_is_replaced_docker_08", stopped_is_replaced),
    ("a_running_container_of_the_same_task_is_adopted_docker_09", running_is_adopted),
    ("a_container_of_somebody_else_is_never_touched", foreign_is_left),
    ("a_container_removed_by_hand_ends_its_task_docker_34", removed_by_hand),
    ("a_kept_container_remains_docker_35", kept_remains),
    ("containers_nobody_knows_are_removed_and_only_ours_docker_37", dangling_goes),
    ("a_later_sweep_spares_what_is_young_and_ends_nothing_when_switched_off_docker_37", later_sweeps),
    ("a_reserved_core_is_its_tasks_alone_and_every_ones_again_after_it", cores_apart),
    ("a_node_that_is_taken_down_leaves_no_container_held_or_not_and_starts_none", all_end),
    ("a_command_runs_beside_the_task_exec_session_01", exec_runs),
    ("a_command_ends_however_early_its_watcher_goes", exec_ends_unwatched),
    ("usage_is_read_from_the_containers_cgroup", usage_is_read),
    ("an_image_is_loaded_from_the_tasks_directory_docker_04", loads),
    ("an_image_goes_after_its_last_user_unless_another_comes_docker_36", image_goes),
    ("ten_tasks_share_one_pull_docker_02_docker_05", one_pull),
    ("an_image_that_does_not_exist_is_one_clear_sentence_docker_06", no_such_image),
    ("a_registry_that_hangs_is_given_up_docker_07", hanging_registry),
    ("credentials_of_the_task_and_of_a_helper_reach_the_registry_docker_44_docker_45", credentials_reach),
    ("an_engine_that_is_away_makes_the_driver_unhealthy_and_ends_no_task_docker_39_docker_40", engine_away),
    ("two_drivers_on_one_engine_leave_each_other_alone", two_nodes),
    ("logs_are_not_collected_when_told_so_logs_08", no_collection),
];

fn engine_time() -> String {
    docker(&["info", "--format", "{{.SystemTime}}"]).unwrap()
}

/// How many events of this kind the engine has told of a container.
fn told(container: &str, since: &str, event: &str) -> usize {
    let (of, kind, until) = (format!("container={container}"), format!("event={event}"), engine_time());
    let asked = ["events", "--since", since, "--until", &until, "--filter", &of, "--filter", &kind];
    docker(&asked).unwrap().lines().count()
}

fn runs_and_keeps() {
    let host = Host::new(json!({}));
    let script = "echo out; echo err >&2; id -u; echo $NOMAD_TASK_DIR $HOME; touch /local/a /alloc/data/b /secrets/c; \
                  touch /alloc/logs/x 2>/dev/null || echo read-only; [ -z \"$CARGO_HOME$RUST_BACKTRACE\" ] && echo clean; exit 3";
    let mut task = host.sh("web", script);
    task.user = "mail".into();
    let handle = host.start(task.clone());
    assert!(matches!(host.run(host.driver().start(task)), Err(DriverError::AlreadyStarted(_))));
    assert!(docker(&["inspect", "-f", "{{.Id}}", &host.name("web")]).is_some());
    let exit = host.run(host.driver().wait(&handle.task_id)).unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, 0, false));
    assert!(exit.error.unwrap().contains("non-zero exit code: 3"));
    assert_eq!(host.output("web.stdout"), "out\n8\n/local /\nread-only\nclean\n");
    assert_eq!(host.output("web.stderr"), "err\n");
    assert!(
        host.alloc.task("web").unwrap().local().join("a").exists() && host.alloc.root.join("alloc/data/b").exists()
    );
    host.run(host.driver().destroy(&handle.task_id, false)).unwrap();
    assert_eq!(docker(&["inspect", &host.name("web")]), None);
    assert!(matches!(host.run(host.driver().wait(&handle.task_id)), Err(DriverError::NotFound)));
}

fn ends_as_asked() {
    let host = Host::new(json!({}));
    let trap = "trap 'echo term; exit 5' TERM; trap 'echo usr1; exit 6' USR1; echo up; while :; do usleep 10000; done";
    for (signal, word, code) in [("", "up\nterm\n", 5), ("SIGUSR1", "up\nterm\nup\nusr1\n", 6)] {
        let handle = host.start(host.sh("t", trap));
        eventually("the trap", || host.output("t.stdout").ends_with("up\n"));
        host.run(host.driver().kill(&handle.task_id, signal, Duration::from_secs(20))).unwrap();
        assert_eq!(host.run(host.driver().wait(&handle.task_id)).unwrap().code, code);
        assert_eq!(host.output("t.stdout"), word);
        host.destroy(&handle);
    }
    let handle = host.start(host.sh("deaf", "trap '' TERM; echo up; sleep 1000"));
    eventually("the trap", || host.output("deaf.stdout") == "up\n");
    assert!(matches!(host.run(host.driver().destroy(&handle.task_id, false)), Err(DriverError::StillRunning)));
    let began = Instant::now();
    host.run(host.driver().kill(&handle.task_id, "", Duration::from_millis(300))).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(host.run(host.driver().wait(&handle.task_id)).unwrap().code, 137);
    let bad = host.run(host.driver().signal(&handle.task_id, "SIGNOPE")).unwrap_err();
    assert!(bad.to_string().contains("SIGNOPE"));
    host.destroy(&handle);
}

fn output_survives() {
    let mut host = Host::new(json!({}));
    let script = "i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); [ $((i%100)) = 0 ] && usleep 30000; done; echo end >&2";
    let handle = host.start(host.sh("t", script));
    for round in 1..=4 {
        eventually("some output", || host.output("t.stdout").lines().count() > round * 300);
        host.die();
        host.begin();
        host.run(host.driver().recover(handle.clone())).unwrap();
        host.run(host.driver().recover(handle.clone())).unwrap();
    }
    assert!(host.run(host.driver().wait(&handle.task_id)).unwrap().is_success());
    let expected: String = (0..3000).map(|n| format!("line-{n}\n")).collect();
    assert_eq!(host.output("t.stdout"), expected);
    assert_eq!(host.output("t.stderr"), "end\n");
    host.destroy(&handle);
}

fn ended_meanwhile() {
    let mut host = Host::new(json!({}));
    let handle = host.start(
        host.sh("t", "cat /local/go 2>/dev/null; while [ ! -e /local/go ]; do usleep 10000; done; echo late; exit 4"),
    );
    host.die();
    fs::write(host.alloc.task("t").unwrap().local().join("go"), "").unwrap();
    eventually("the end", || docker(&["inspect", "-f", "{{.State.Running}}", &host.name("t")]).unwrap() == "false");
    host.begin();
    host.run(host.driver().recover(handle.clone())).unwrap();
    assert_eq!(host.run(host.driver().wait(&handle.task_id)).unwrap().code, 4);
    assert_eq!(host.output("t.stdout"), "late\n");
    host.destroy(&handle);
    let lost = host.run(host.driver().recover(handle)).unwrap_err();
    assert!(matches!(lost, DriverError::Lost(_)), "{lost}");
}

fn ports_reach() {
    let host = Host::new(json!({}));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = json!({"command": "/bin/httpd", "args": ["-f", "-p", "8080", "-h", "/www"], "ports": ["http"]});
    let mut task = host.task("web", config);
    task.around.ports =
        vec![PortMapping { label: "http".into(), value: free.into(), to: 8080, host_ip: "127.0.0.1".into() }];
    let handle = host.start(task.clone());
    let get = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", free))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    eventually("an answer", || get().is_ok_and(|text| text.contains("hello from a container")));
    // Another container with the same port: one sentence, and it may be tried again.
    let mut other = task;
    other.task_id = "other".into();
    other.task = "other".into();
    let error = host.run(host.driver().start(other)).unwrap_err();
    assert!(error.to_string().contains("already allocated") && error.is_recoverable(), "{error}");
    assert_eq!(docker(&["inspect", &host.name("other")]), None);
    host.destroy(&handle);
}

fn mounts_hold() {
    let host = Host::new(json!({}));
    let config = json!({
        "command": "/bin/sh",
        "args": ["-c", "cat /conf/a; touch /conf/b 2>/dev/null || echo no-conf; echo x > /scratch/x && cat /scratch/x; touch /rootfs 2>/dev/null || echo no-root; pwd; hostname"],
        "volumes": ["local/conf:/conf:ro"],
        "mount": [{"type": "tmpfs", "target": "/scratch", "tmpfs_options": [{"size": 100_000}]}],
        "readonly_rootfs": true,
        "work_dir": "/local",
        "hostname": "named",
    });
    let task = host.task("t", config);
    fs::create_dir(task.dirs.local().join("conf")).unwrap();
    fs::write(task.dirs.local().join("conf/a"), "content\n").unwrap();
    let handle = host.start(task);
    assert!(host.run(host.driver().wait(&handle.task_id)).unwrap().is_success());
    assert_eq!(host.output("t.stdout"), "content\nno-conf\nx\nno-root\n/local\nnamed\n");
    host.destroy(&handle);
    assert!(host.alloc.task("t").unwrap().local().join("conf/a").exists());
    let refused = host.run(host.driver().start(host.task("u", json!({"volumes": ["/etc:/x"]})))).unwrap_err();
    assert!(!refused.is_recoverable() && refused.to_string().contains("not enabled"), "{refused}");
}

fn host_volumes_hold() {
    let host = Host::new(json!({}));
    let dir = tempfile::tempdir().unwrap();
    for name in ["rw", "ro"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a"), format!("{name}\n")).unwrap();
    }
    let mount = |name: &str, destination: &str| HostMount {
        volume: name.to_owned(),
        source: dir.path().join(name),
        destination: destination.to_owned(),
        read_only: name == "ro",
        propagation: Propagation::Private,
        selinux_label: String::new(),
    };
    let script = "cat /data/a /local/conf/a; echo x > /data/b; echo x > /local/conf/b || echo no";
    let mut task = host.sh("t", script);
    task.around.mounts = vec![mount("rw", "/x/../data"), mount("ro", "/local/conf")];
    let handle = host.start(task);
    assert!(host.run(host.driver().wait(&handle.task_id)).unwrap().is_success());
    assert_eq!(host.output("t.stdout"), "rw\nro\nno\n");
    assert_eq!(fs::read_to_string(dir.path().join("rw/b")).unwrap(), "x\n");
    assert!(!dir.path().join("ro/b").exists());
    host.destroy(&handle);
    let mut lost = host.sh("u", "true");
    lost.around.mounts = vec![mount("gone", "/data")];
    let refused = host.run(host.driver().start(lost)).unwrap_err();
    assert!(refused.to_string().contains(&dir.path().join("gone").display().to_string()), "{refused}");
    assert!(!dir.path().join("gone").exists(), "nothing is made in its place");
    // The volume is the operator's: it outlives the task and its directory.
    host.alloc.destroy().unwrap();
    assert!(dir.path().join("ro/a").exists() && dir.path().join("rw/b").exists());
}

fn oom_is_told() {
    let host = Host::new(json!({}));
    let eat = "/bin/dd if=/dev/zero of=/dev/null bs=100M";
    // The engine hears of what the kernel kills on a way of its own, and says at a container's end what it has heard by
    // then: the last program begins when the engine is known to have heard of an earlier one.
    let script = format!("until [ -e /local/heard ]; do {eat}; usleep 100000; done; exec {eat}");
    let mut task = host.sh("t", &script);
    task.limits.memory_mib = 16;
    let since = engine_time();
    let handle = host.start(task);
    eventually("the engine hears of it", || told(&host.name("t"), &since, "oom") > 0);
    fs::write(host.alloc.task("t").unwrap().local().join("heard"), "").unwrap();
    let exit = host.run(host.driver().wait(&handle.task_id)).unwrap();
    assert!(exit.oom_killed && exit.code != 0, "{exit:?}");
    assert_eq!(exit.error.as_deref(), Some("OOM Killed"));
    host.destroy(&handle);
}

fn stopped_is_replaced() {
    let host = Host::new(json!({}));
    let first = host.start(host.sh("t", "exit 1"));
    host.run(host.driver().wait(&first.task_id)).unwrap();
    let second = host.start(host.sh("t", "echo second; sleep 1000"));
    assert_ne!(first.state["container"], second.state["container"]);
    host.destroy(&first);
    eventually("output", || host.output("t.stdout").ends_with("second\n"));
    host.destroy(&second);
}

fn running_is_adopted() {
    let mut host = Host::new(json!({}));
    let first = host.start(host.sh("t", "sleep 1000"));
    // The agent died before it could store the handle.
    host.die();
    host.begin();
    let second = host.start(host.sh("t", "sleep 1000"));
    assert_eq!(first.state["container"], second.state["container"]);
    // Another command is another task.
    host.die();
    host.begin();
    let third = host.start(host.sh("t", "sleep 2000"));
    assert_ne!(third.state["container"], second.state["container"]);
    host.destroy(&third);
}

fn foreign_is_left() {
    let host = Host::new(json!({"container_exists_attempts": 1}));
    let name = host.name("t");
    let id = docker(&["run", "-d", "--name", &name, &image(), "/bin/sleep", "1000"]).unwrap();
    let error = host.run(host.driver().start(host.sh("t", "true"))).unwrap_err();
    assert!(error.to_string().contains("not this node's"), "{error}");
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &id]).unwrap(), "true");
    docker(&["rm", "-f", &id]);
}

fn removed_by_hand() {
    let host = Host::new(json!({}));
    let handle = host.start(host.sh("t", "sleep 1000"));
    docker(&["rm", "-f", &host.name("t")]).unwrap();
    let exit = host.run(host.driver().wait(&handle.task_id)).unwrap();
    assert!(!exit.is_success(), "{exit:?}");
    host.run(host.driver().destroy(&handle.task_id, false)).unwrap();
}

fn kept_remains() {
    let host = Host::new(json!({"gc": {"container": false}}));
    let handle = host.start(host.sh("t", "exit 0"));
    host.run(host.driver().wait(&handle.task_id)).unwrap();
    host.destroy(&handle);
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &host.name("t")]).unwrap(), "false");
    host.finds_engine();
    assert_eq!(host.run(host.driver().sweep(&Keep::default())).unwrap(), 0);
}

fn dangling_goes() {
    let mut host = Host::new(json!({}));
    let kept = host.start(host.sh("kept", "sleep 1000"));
    host.start(host.sh("lost", "sleep 1000"));
    let foreign = docker(&["run", "-d", "--label", "com.hashicorp.nomad.alloc_id=x", &image(), "/bin/sleep", "1000"]);
    host.die();
    host.options = json!({"gc": {"dangling_containers": {"dry_run": true}}});
    host.begin();
    host.finds_engine();
    let keep = Keep { handles: vec![kept.clone()], ..Keep::default() };
    assert_eq!(host.run(host.driver().sweep(&keep)).unwrap(), 0);
    host.die();
    host.options = json!({});
    host.begin();
    host.finds_engine();
    assert_eq!(host.run(host.driver().sweep(&keep)).unwrap(), 1);
    host.run(host.driver().recover(kept.clone())).unwrap();
    assert_eq!(docker(&["inspect", &host.name("lost")]), None);
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &host.name("kept")]).unwrap(), "true");
    let foreign = foreign.unwrap();
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &foreign]).unwrap(), "true");
    docker(&["rm", "-f", &foreign]);
    host.destroy(&kept);
}

fn later_sweeps() {
    let mut host = Host::new(json!({}));
    let sweep = |host: &Host| host.run(host.driver().sweep(&Keep::default())).unwrap();
    for enabled in [false, true] {
        let mut options = Options::default();
        let settings = &mut options.gc.dangling_containers;
        (settings.enabled, settings.period) = (enabled, Duration::from_millis(10));
        settings.creation_grace = Duration::from_secs(5);
        host.die();
        host.begin_with(options);
        host.finds_engine();
        assert_eq!(sweep(&host), 0, "the first");
        let label = format!("io.steppe.task={}/{}/lost/1", host.node, host.alloc_id);
        let began = Instant::now();
        let id = docker(&["run", "-d", "--label", &label, &image(), "/bin/sleep", "1000"]).unwrap();
        let mut ended = sweep(&host);
        // Ages are whole seconds: before four have passed it cannot be five old.
        while began.elapsed() < Duration::from_secs(4) {
            assert_eq!(ended, 0, "it is young");
            std::thread::sleep(Duration::from_millis(20));
            ended = sweep(&host);
        }
        if enabled {
            eventually("it is old enough", || {
                ended += sweep(&host);
                ended == 1
            });
            assert_eq!(docker(&["inspect", &id]), None);
        } else {
            std::thread::sleep(Duration::from_secs(2));
            assert_eq!(sweep(&host), 0, "switched off");
            docker(&["rm", "-f", &id]).unwrap();
        }
    }
}

fn cores_apart() {
    let mut host = Host::new(json!({}));
    let cores = Arc::new(Cores::of_host());
    let all = cores.share().list;
    if !all.contains([',', '-']) {
        return println!("skipped: there is one core only");
    }
    let follow = |host: &Host| drop(host.run(async { host.driver().clone().with_cores(Arc::clone(&cores)) }));
    let allowed = |host: &Host, task: &str| {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &host.name(task)]).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    follow(&host);
    let before = host.start(host.sh("before", "sleep 1000"));
    assert_eq!(allowed(&host, "before"), all);
    let mut task = host.sh("apart", "sleep 1000");
    let own: u16 = all.split([',', '-']).next().unwrap().parse().unwrap();
    task.around.cores = vec![own];
    cores.reserve(&task.task_id, &[own]);
    let share = cores.share().list;
    let apart = host.start(task);
    let after = host.start(host.sh("after", "sleep 1000"));
    eventually("the others' share", || allowed(&host, "before") == share);
    assert_eq!((allowed(&host, "apart"), allowed(&host, "after")), (own.to_string(), share));
    // Another agent finds them, and the cores are given back.
    host.die();
    host.begin();
    for handle in [&before, &apart, &after] {
        host.run(host.driver().recover(handle.clone())).unwrap();
    }
    follow(&host);
    host.destroy(&apart);
    cores.release(&apart.task_id);
    eventually("the whole", || allowed(&host, "before") == all && allowed(&host, "after") == all);
    host.destroy(&before);
    host.destroy(&after);
}

fn all_end() {
    let (mut host, other) = (Host::new(json!({})), Host::new(json!({})));
    let others = other.start(other.sh("t", "sleep 1000"));
    host.start(host.sh("lost", "sleep 1000"));
    host.die();
    host.begin();
    // Process 1 of a container does not hear SIGTERM unless it listens.
    let held = host.start(host.sh("held", "sleep 1000"));
    assert_eq!(host.run(host.driver().end_all()).unwrap(), 2);
    assert_eq!(
        docker(&["ps", "-aq", "--filter", &format!("label=com.hashicorp.nomad.alloc_id={}", host.alloc_id)]).unwrap(),
        ""
    );
    assert_eq!(host.run(host.driver().wait(&held.task_id)).unwrap().code, 137);
    let late = host.run(host.driver().start(host.sh("late", "sleep 1000"))).unwrap_err();
    assert!(late.to_string().contains("taken down"), "{late}");
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &other.name("t")]).unwrap(), "true");
    // Another node's agent was killed: whoever started it ends what it left.
    assert_eq!(other.run(driver::docker::end_all_of(&Options::default(), &other.node)).unwrap(), 1);
    other.destroy(&others);
}

fn exec_runs() {
    let host = Host::new(json!({}));
    let handle = host.start(host.sh("t", "sleep 1000"));
    let command = ["/bin/sh", "-c", "cat; echo err >&2; echo $NOMAD_TASK_DIR; exit 7"].map(str::to_owned).to_vec();
    let request = ExecRequest { command, tty: false };
    let told = host.run(async {
        let mut session = host.driver().exec(&handle.task_id, request).await.unwrap();
        session.input.send(ExecInput::Stdin(b"typed\n".to_vec())).await.unwrap();
        session.input.send(ExecInput::StdinClosed).await.unwrap();
        let mut told = Vec::new();
        while let Some(piece) = session.output.recv().await {
            told.push(piece);
        }
        told
    });
    let text = |err: bool| -> String {
        let pieces = told.iter().filter_map(|piece| match piece {
            ExecOutput::Stdout(bytes) if !err => Some(bytes.clone()),
            ExecOutput::Stderr(bytes) if err => Some(bytes.clone()),
            _ => None,
        });
        String::from_utf8(pieces.flatten().collect()).unwrap()
    };
    assert_eq!((text(false).as_str(), text(true).as_str()), ("typed\n/local\n", "err\n"));
    assert!(matches!(told.last(), Some(ExecOutput::Exited(exit)) if exit.code == 7), "{told:?}");
    // Nobody watches any more: the command ends.
    let request = ExecRequest { command: vec!["/bin/sleep".into(), "4321".into()], tty: true };
    let session = host.run(host.driver().exec(&handle.task_id, request)).unwrap();
    let running = || docker(&["top", &host.name("t")]).unwrap().contains("4321");
    eventually("the command", running);
    drop(session);
    eventually("its end", || !running());
    let request = ExecRequest { command: vec!["/no/such".into()], tty: false };
    let outcome = host.run(async {
        match host.driver().exec(&handle.task_id, request).await {
            Err(error) => error.to_string(),
            Ok(mut session) => {
                let mut last = None;
                while let Some(piece) = session.output.recv().await {
                    last = Some(piece);
                }
                format!("{last:?}")
            }
        }
    });
    assert!(outcome.contains("126") || outcome.contains("127") || outcome.contains("no such"), "{outcome}");
    host.destroy(&handle);
}

/// The engine answers before it has begun the command, and knows its process a moment later still.
fn exec_ends_unwatched() {
    const EACH: usize = 8;
    let host = Host::new(json!({}));
    let handle = host.start(host.sh("t", "sleep 1000"));
    let since = engine_time();
    for pause in [0, 1, 5, 20].map(Duration::from_millis) {
        for number in 0..EACH {
            // What it began goes with it, as well in a process group of its own.
            let script = "set -m; sleep 4321 & sleep 4321; exit 1";
            let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            let request = ExecRequest { command, tty: number % 2 == 0 };
            let session = host.run(host.driver().exec(&handle.task_id, request)).unwrap();
            std::thread::sleep(pause);
            drop(session);
        }
    }
    eventually("their ends", || told(&host.name("t"), &since, "exec_die") == 4 * EACH);
    let listed = docker(&["top", &host.name("t")]).unwrap();
    assert!(!listed.contains("4321"), "{listed}");
    host.destroy(&handle);
}

fn usage_is_read() {
    let host = Host::new(json!({}));
    let handle = host.start(host.sh("t", "while :; do :; done"));
    eventually("usage", || {
        let usage = host.run(host.driver().stats(&handle.task_id)).unwrap();
        usage.rss_bytes > 0 && usage.user_cpu > Duration::ZERO && !usage.pids.is_empty()
    });
    host.destroy(&handle);
    assert!(matches!(host.run(host.driver().stats(&handle.task_id)), Err(DriverError::NotFound)));
}

fn loads() {
    let host = Host::new(json!({}));
    let name = format!("steppe-test/loaded:{}", std::process::id());
    let task = host.task("t", json!({"image": name, "load": "image.tar", "command": "/bin/echo", "args": ["loaded"]}));
    docker(&["tag", &image(), &name]).unwrap();
    let path = task.dirs.local().join("image.tar");
    docker(&["save", "-o", path.to_str().unwrap(), &name]).unwrap();
    docker(&["rmi", &name]).unwrap();
    let handle = host.start(task);
    assert!(host.run(host.driver().wait(&handle.task_id)).unwrap().is_success());
    assert_eq!(host.output("t.stdout"), "loaded\n");
    host.destroy(&handle);
    docker(&["rmi", &name]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", host.alloc.task("t").unwrap().local().join("out")).unwrap();
    for bad in ["out", "../../../etc/passwd", "none.tar"] {
        let error = host.run(host.driver().start(host.task("t", json!({"image": name, "load": bad})))).unwrap_err();
        assert!(error.to_string().contains("Failed to load image"), "{error}");
    }
}

fn image_goes() {
    // The second comes within it, however slow the machine: no registry has the image.
    let delay = Duration::from_secs(5);
    let host = Host::new(json!({"gc": {"image_delay": "5s"}}));
    let name = format!("steppe-test/going:{}", std::process::id());
    docker(&["tag", &image(), &name]).unwrap();
    let first = host.start(host.task("a", json!({"image": name, "command": "/bin/sleep", "args": ["1000"]})));
    host.destroy(&first);
    let released = Instant::now();
    let second = host.start(host.task("b", json!({"image": name, "command": "/bin/sleep", "args": ["1000"]})));
    std::thread::sleep((delay + Duration::from_secs(1)).saturating_sub(released.elapsed()));
    assert!(docker(&["image", "inspect", &name]).is_some(), "in use by the second");
    host.destroy(&second);
    eventually("its removal", || docker(&["image", "inspect", &name]).is_none());
    assert!(docker(&["image", "inspect", &image()]).is_some(), "another tag is another's");
}

fn one_pull() {
    let registry = registry::Registry::start(registry::Manner::Holds);
    let host = Host::new(json!({}));
    let name = format!("127.0.0.1:{}/pulled", registry.port);
    let (sender, mut notes) = mpsc::channel(100);
    let tasks = (0..10).map(|n| {
        let mut task = host.task(&format!("t{n}"), json!({"image": name, "command": "/bin/echo", "args": [n]}));
        task.around.notes = Notes::new(sender.clone());
        task
    });
    let starts: Vec<_> = tasks.map(|task| host.driver().start(task)).collect();
    // One that comes when the pull is over pulls again, for `latest` may have moved: it lasts until all are there.
    let all_wait = async {
        let mut waiting = 0;
        while waiting < 10 {
            waiting += usize::from(notes.recv().await.unwrap() == "Downloading image");
        }
        registry.let_go();
    };
    let (handles, ()) = host.run(futures::future::join(futures::future::join_all(starts), all_wait));
    for handle in handles {
        let handle = handle.unwrap();
        assert!(host.run(host.driver().wait(&handle.task_id)).unwrap().is_success());
        host.destroy(&handle);
    }
    assert_eq!(registry.manifests.load(Ordering::SeqCst), 1, "one pull for all");
    // `latest` may have moved: it is asked for again.
    let handle = host.start(host.task("again", json!({"image": name, "command": "/bin/echo"})));
    assert!(registry.manifests.load(Ordering::SeqCst) > 1);
    host.destroy(&handle);
    docker(&["rmi", "-f", &name]);
}

fn no_such_image() {
    let registry = registry::Registry::start(registry::Manner::Denies);
    let host = Host::new(json!({}));
    for image in [format!("127.0.0.1:{}/none:1", registry.port), "127.0.0.1:1/none:1".to_owned()] {
        let error = host.run(host.driver().start(host.task("t", json!({"image": image})))).unwrap_err();
        let text = error.to_string();
        assert!(error.is_recoverable() && text.starts_with(&format!("Failed to pull `{image}`: ")), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    host.finds_engine();
}

fn hanging_registry() {
    let registry = registry::Registry::start(registry::Manner::Hangs);
    let image = format!("127.0.0.1:{}/slow:1", registry.port);
    let mut host = Host::new(json!({}));
    let error = host.run(host.driver().start(host.task("t", json!({"image": image, "image_pull_timeout": "1s"}))));
    assert!(error.unwrap_err().to_string().contains("not complete after 1s"));
    host.die();
    host.begin_with(Options { pull_activity_timeout: Duration::from_millis(800), ..Options::default() });
    let began = Instant::now();
    let error = host.run(host.driver().start(host.task("t", json!({"image": image})))).unwrap_err();
    assert!(error.to_string().contains("no progress for 0.8s") && error.is_recoverable(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    // Others are not held up by it.
    let waiting = host.driver().clone();
    let slow = host.task("slow", json!({"image": image}));
    host.runtime.as_ref().unwrap().spawn(async move { waiting.start(slow).await });
    let handle = host.start(host.sh("quick", "exit 0"));
    host.destroy(&handle);
}

fn credentials_reach() {
    let registry = registry::Registry::start(registry::Manner::Asks { user: "u", password: "pass?~>?~>word" });
    let host = Host::new(json!({}));
    let name = format!("127.0.0.1:{}/private:1", registry.port);
    let config = |password: &str| json!({"image": name, "command": "/bin/echo", "auth": [{"username": "u", "password": password}]});
    let error = host.run(host.driver().start(host.task("t", config("wrong")))).unwrap_err();
    assert!(error.is_recoverable() && !error.to_string().contains("wrong"), "{error}");
    let handle = host.start(host.task("t", config("pass?~>?~>word")));
    host.destroy(&handle);
    docker(&["rmi", "-f", &name]);
    // A helper that knows.
    let bin = host.base.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\nread -r server\necho \"$server\" > \"$0.asked\"\nprintf '{\"Username\":\"u\",\"Secret\":\"pass?~>?~>word\"}'\n";
    let program = bin.join("docker-credential-test");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // Tests run one after the other, and no other thread reads the environment now.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("PATH", path);
    }
    let host = Host::new(json!({"auth": {"helper": "test"}}));
    let handle = host.start(host.task("t", json!({"image": name, "command": "/bin/echo"})));
    let asked = fs::read_to_string(bin.join("docker-credential-test.asked")).unwrap();
    assert_eq!(asked.trim(), format!("127.0.0.1:{}", registry.port));
    host.destroy(&handle);
    docker(&["rmi", "-f", &name]);
    let host = Host::new(json!({"auth": {"helper": "missing"}}));
    let plain = registry::Registry::start(registry::Manner::Serves);
    let open = format!("127.0.0.1:{}/open:1", plain.port);
    let error = host.run(host.driver().start(host.task("t", json!({"image": open})))).unwrap_err();
    assert!(error.to_string().contains("docker-credential-missing"), "{error}");
    let handle = host.start(host.task("t", json!({"image": open, "auth_soft_fail": true, "command": "/bin/echo"})));
    host.destroy(&handle);
    docker(&["rmi", "-f", &open]);
}

/// A socket that passes on to the engine's, until it is cut.
struct Wire {
    path: PathBuf,
    cut: Arc<AtomicBool>,
}

impl Wire {
    fn new(dir: &std::path::Path) -> Self {
        let wire = Self { path: dir.join("wire.sock"), cut: Arc::new(AtomicBool::new(true)) };
        let (path, cut) = (wire.path.clone(), Arc::clone(&wire.cut));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                loop {
                    while cut.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let listener = tokio::net::UnixListener::bind(&path).unwrap();
                    let mut passing = tokio::task::JoinSet::new();
                    while !cut.load(Ordering::SeqCst) {
                        let tick = tokio::time::sleep(Duration::from_millis(5));
                        tokio::select! {
                            Ok((mut near, _)) = listener.accept() => { passing.spawn(async move {
                                let mut far = tokio::net::UnixStream::connect(engine::SOCKET).await.unwrap();
                                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                            }); }
                            () = tick => {}
                        }
                    }
                    let _ = fs::remove_file(&path);
                }
            });
        });
        wire
    }

    fn set(&self, up: bool) {
        self.cut.store(!up, Ordering::SeqCst);
        eventually("the wire", || self.path.exists() == up);
    }
}

fn engine_away() {
    let dir = tempfile::tempdir().unwrap();
    let wire = Wire::new(dir.path());
    let endpoint = json!({"endpoint": format!("unix://{}", wire.path.display())});
    let mut host = Host::new(endpoint);
    let info = host.driver().fingerprint();
    assert!(!info.detected && !info.healthy && info.attributes.is_empty(), "{info:?}");
    let error = host.run(host.driver().start(host.sh("t", "true"))).unwrap_err();
    assert!(error.is_recoverable() && error.to_string().contains("Docker cannot be reached"), "{error}");
    wire.set(true);
    eventually("health", || host.driver().fingerprint().healthy);
    let info = host.driver().fingerprint();
    assert_eq!(
        (info.attributes["driver.docker"].as_str(), info.attributes["driver.docker.os_type"].as_str()),
        ("true", "linux")
    );
    assert!(
        info.attributes["driver.docker.runtimes"].contains("runc")
            && info.attributes.contains_key("driver.docker.bridge_ip")
    );
    let script = "i=0; while [ ! -e /local/stop ]; do echo $i; i=$((i+1)); usleep 20000; done; exit 9";
    let handle = host.start(host.sh("t", script));
    eventually("output", || host.output("t.stdout").lines().count() > 5);
    let changes = host.driver().news().unwrap();
    wire.set(false);
    eventually("ill health", || !host.driver().fingerprint().healthy);
    assert!(changes.has_changed().unwrap() && host.driver().fingerprint().detected);
    assert!(matches!(
        host.run(host.driver().kill(&handle.task_id, "", Duration::from_secs(1))),
        Err(DriverError::Stop(_))
    ));
    // An agent that starts meanwhile takes the task over unseen.
    host.die();
    host.begin();
    host.run(host.driver().recover(handle.clone())).unwrap();
    fs::write(host.alloc.task("t").unwrap().local().join("stop"), "").unwrap();
    wire.set(true);
    assert_eq!(host.run(host.driver().wait(&handle.task_id)).unwrap().code, 9);
    let lines: Vec<usize> = host.output("t.stdout").lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines, (0..lines.len()).collect::<Vec<_>>());
    eventually("health", || host.driver().fingerprint().healthy);
    host.destroy(&handle);
}

fn two_nodes() {
    let (one, two) = (Host::new(json!({})), Host::new(json!({})));
    let a = one.start(one.sh("t", "sleep 1000"));
    let b = two.start(two.sh("t", "sleep 1000"));
    one.finds_engine();
    assert_eq!(one.run(one.driver().sweep(&Keep::default())).unwrap(), 0, "its own is held");
    for (host, handle) in [(&one, &a), (&two, &b)] {
        assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &host.name("t")]).unwrap(), "true");
        host.destroy(handle);
    }
}

fn no_collection() {
    let host = Host::new(json!({"disable_log_collection": true}));
    let handle = host.start(host.sh("t", "echo out"));
    host.run(host.driver().wait(&handle.task_id)).unwrap();
    assert_eq!(fs::read_dir(host.alloc.logs()).unwrap().count(), 0);
    host.destroy(&handle);
}
