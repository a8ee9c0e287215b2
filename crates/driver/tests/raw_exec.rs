//! `raw_exec` with real processes and a real supervisor.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driver::cgroup::{Cgroups, Limits};
use driver::contract::{Driver, DriverError, LogSettings, TaskConfig, new_task_id};
use driver::cores::Cores;
use driver::procfs;
use driver::raw_exec::{Options, RawExec};
use driver::supervisor::client::{Launch, saved_status};
use driver::taskdir::{AllocDirs, TaskDirs};
use model::AllocId;
use serde_json::{Map, Value, json};

const WAIT: Duration = Duration::from_secs(20);
const ALLOC: &str = "5f1c2d3e-0000-0000-0000-000000000001";

struct Host {
    base: tempfile::TempDir,
    driver: RawExec,
    alloc: AllocDirs,
}

fn launch() -> Launch {
    Launch {
        program: PathBuf::from(env!("CARGO_BIN_EXE_steppe-supervise-test")),
        args: vec![OsString::from("supervise")],
    }
}

fn raw_exec(cgroups: Option<Cgroups>) -> RawExec {
    RawExec::new(Options { enabled: true, ..Options::default() }, launch(), cgroups)
}

impl Host {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        // Longer than a socket address can be: only handles get there.
        let deep = base.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let alloc = AllocDirs::new(&deep, ALLOC).unwrap();
        alloc.build().unwrap();
        Self { base, driver: raw_exec(None), alloc }
    }

    fn dirs(&self, task: &str) -> TaskDirs {
        let dirs = self.alloc.task(task).unwrap();
        dirs.build(1).unwrap();
        dirs
    }

    fn task(&self, task: &str, script: &str) -> TaskConfig {
        let Value::Object(config) = json!({"command": "/bin/sh", "args": ["-c", script]}) else { unreachable!() };
        self.with_config(task, config)
    }

    fn with_config(&self, task: &str, config: Map<String, Value>) -> TaskConfig {
        let alloc_id = AllocId::from(ALLOC);
        let env = [("PATH", "/usr/bin:/bin"), ("NOMAD_TASK_NAME", task), ("NOMAD_ALLOC_ID", ALLOC)];
        TaskConfig {
            task_id: new_task_id(&alloc_id, task),
            alloc_id,
            task: task.to_owned(),
            config,
            env: env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            user: String::new(),
            limits: Limits::default(),
            dirs: self.dirs(task),
            logs: Some(LogSettings { max_files: 10, max_file_bytes: 1 << 20 }),
            around: Default::default(),
        }
    }

    fn output(&self, name: &str) -> String {
        let logs = self.alloc.logs();
        let mut files: Vec<(u64, PathBuf)> = fs::read_dir(logs)
            .unwrap()
            .flatten()
            .filter_map(|e| {
                let file = e.file_name().into_string().ok()?;
                Some((file.strip_prefix(name)?.strip_prefix('.')?.parse().ok()?, e.path()))
            })
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    fn pid_file(&self, task: &str, name: &str) -> i32 {
        let path = self.alloc.task(task).unwrap().dir.join(name);
        let mut pid = None;
        eventually("a pid file", || {
            pid = fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
            pid.is_some()
        });
        pid.unwrap()
    }

    fn supervisor_pids(&self) -> Vec<i32> {
        let dir = self.alloc.supervisor().to_string_lossy().into_owned();
        procfs::pids().into_iter().filter(|pid| procfs::cmdline(*pid).contains(&dir)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for status in driver::supervisor::client::saved_statuses(&self.alloc.supervisor()) {
            if status.exit.is_none() {
                kill(status.pid);
            }
        }
        for pid in self.supervisor_pids() {
            kill(pid);
        }
        let _ = self.alloc.destroy();
        let _ = &self.base;
    }
}

fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alive(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|s| !s.zombie)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, future).await.expect("in time")
}

#[tokio::test]
async fn a_task_runs_and_its_output_and_exit_code_are_kept_task_run_01_task_run_02_logs_01() {
    let host = Host::new();
    let task = host.task("web", "echo out; echo err >&2; exit 3");
    let handle = within(host.driver.start(task.clone())).await.unwrap();
    assert!(matches!(within(host.driver.start(task)).await, Err(DriverError::AlreadyStarted(_))));
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!((exit.code, exit.signal, exit.error), (3, 0, None));
    assert_eq!(host.output("web.stdout"), "out\n");
    assert_eq!(host.output("web.stderr"), "err\n");
    let saved = saved_status(&host.alloc.supervisor(), "web").unwrap();
    assert_eq!(saved.exit.unwrap().code, 3);
    within(host.driver.destroy(&handle.task_id, false)).await.unwrap();
    assert!(matches!(within(host.driver.wait(&handle.task_id)).await, Err(DriverError::NotFound)));
    within(host.driver.release(&host.alloc)).await.unwrap();
    eventually("the supervisor to leave", || host.supervisor_pids().is_empty());
}

#[tokio::test]
async fn a_signal_death_is_told_as_128_plus_the_signal_task_run_03() {
    let host = Host::new();
    let handle = within(host.driver.start(host.task("web", "kill -9 $$"))).await.unwrap();
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, 9));
}

#[tokio::test]
async fn the_kill_signal_comes_first_and_a_task_may_end_by_itself_task_run_14() {
    let host = Host::new();
    let script = "trap 'echo got; exit 7' USR1; echo $$ > pid; while :; do sleep 0.05; done";
    let handle = within(host.driver.start(host.task("web", script))).await.unwrap();
    host.pid_file("web", "pid");
    within(host.driver.kill(&handle.task_id, "SIGUSR1", Duration::from_secs(10))).await.unwrap();
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (7, 0));
    assert_eq!(host.output("web.stdout"), "got\n");
    // Killing what has ended is no error.
    within(host.driver.kill(&handle.task_id, "", Duration::ZERO)).await.unwrap();
}

#[tokio::test]
async fn a_task_that_ignores_the_signal_is_killed_after_the_grace_task_run_13() {
    let host = Host::new();
    let script = "trap '' INT; echo $$ > pid; while :; do sleep 0.05; done";
    let handle = within(host.driver.start(host.task("web", script))).await.unwrap();
    host.pid_file("web", "pid");
    let begun = Instant::now();
    within(host.driver.kill(&handle.task_id, "", Duration::from_millis(300))).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, 9));
}

#[tokio::test]
async fn a_task_starts_with_no_signal_blocked_or_ignored() {
    let mut host = Host::new();
    // As an agent that was started in the background of a script starts it.
    let Launch { program, args } = launch();
    let shell = ["-c", "trap '' HUP INT QUIT TERM; exec \"$0\" \"$@\""].map(OsString::from);
    let args = shell.into_iter().chain([program.into_os_string()]).chain(args).collect();
    let launch = Launch { program: PathBuf::from("/bin/sh"), args };
    host.driver = RawExec::new(Options { enabled: true, ..Options::default() }, launch, None);
    let handle =
        within(host.driver.start(host.task("web", "exec grep -E 'Sig(Blk|Ign)' /proc/self/status"))).await.unwrap();
    within(host.driver.wait(&handle.task_id)).await.unwrap();
    // Above signal 31 stand the C library's own, which a parent far away may have ignored.
    let standard = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() & 0x7fff_ffff;
    let sets: Vec<u64> = host.output("web.stdout").lines().map(standard).collect();
    assert_eq!(sets, [0, 0]);
}

#[tokio::test]
async fn children_that_daemonize_die_with_their_task_raw_exec_04() {
    let host = Host::new();
    let script = "sh -c 'echo $$ > child; exec sleep 600' & setsid sh -c 'echo $$ > stray; exec sleep 600' & \
                  while [ ! -s child ] || [ ! -s stray ]; do sleep 0.01; done; echo $$ > pid; exec sleep 600";
    let handle = within(host.driver.start(host.task("web", script))).await.unwrap();
    let other = within(host.driver.start(host.task("other", "echo $$ > pid; exec sleep 600"))).await.unwrap();
    let all = [host.pid_file("web", "pid"), host.pid_file("web", "child"), host.pid_file("web", "stray")];
    let sibling = host.pid_file("other", "pid");
    within(host.driver.kill(&handle.task_id, "SIGKILL", Duration::ZERO)).await.unwrap();
    assert!(all.iter().all(|pid| !is_alive(*pid)));
    assert!(is_alive(sibling));
    within(host.driver.destroy(&other.task_id, true)).await.unwrap();
}

#[tokio::test]
async fn output_is_rotated_without_losing_a_line_logs_02_logs_03() {
    let host = Host::new();
    let mut task = host.task("web", "i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done");
    task.logs = Some(LogSettings { max_files: 100, max_file_bytes: 4096 });
    let handle = within(host.driver.start(task)).await.unwrap();
    within(host.driver.wait(&handle.task_id)).await.unwrap();
    let expected: String = (0..3000).map(|n| format!("line-{n}\n")).collect();
    assert_eq!(host.output("web.stdout"), expected);
    let logs = fs::read_dir(host.alloc.logs()).unwrap().flatten().filter(|e| e.metadata().unwrap().len() > 0);
    let files: Vec<_> = logs.map(|e| fs::read_to_string(e.path()).unwrap()).collect();
    assert!(files.len() > 5 && files.iter().all(|text| text.len() <= 4096 && text.ends_with('\n')));
}

#[tokio::test]
async fn a_task_without_logs_writes_no_files_logs_07() {
    let host = Host::new();
    let mut task = host.task("web", "echo out");
    task.logs = None;
    let handle = within(host.driver.start(task)).await.unwrap();
    assert_eq!(within(host.driver.wait(&handle.task_id)).await.unwrap().code, 0);
    assert_eq!(fs::read_dir(host.alloc.logs()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why() {
    let host = Host::new();
    let config = |text: Value| match text {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let missing = host.with_config("web", config(json!({"command": "no-such-program"})));
    let error = within(host.driver.start(missing)).await.unwrap_err();
    assert!(error.to_string().contains("no-such-program") && !error.is_recoverable(), "{error}");
    fs::write(host.dirs("web").local().join("tool"), "not a program").unwrap();
    let broken = host.with_config("web", config(json!({"command": "tool"})));
    assert!(within(host.driver.start(broken)).await.is_err());
    let mut user = host.task("web", "true");
    user.user = "no-such-user".to_owned();
    assert!(within(host.driver.start(user)).await.unwrap_err().to_string().contains("no-such-user"));
    let off = RawExec::new(Options::default(), launch(), None);
    assert!(!off.fingerprint().detected);
    assert!(within(off.start(host.task("web", "true"))).await.unwrap_err().to_string().contains("disabled"));
}

#[tokio::test]
async fn a_program_in_local_is_found_and_made_executable_exec_05_raw_exec_02_raw_exec_03() {
    let host = Host::new();
    fs::write(host.dirs("web").local().join("tool"), "#!/bin/sh\nid -un; echo $HOME $USER [$SECRET_X]; pwd\n").unwrap();
    let Value::Object(config) = json!({"command": "tool", "denied_envvars": ["SECRET_*"]}) else { unreachable!() };
    let mut task = host.with_config("web", config);
    task.env.insert("SECRET_X".to_owned(), "x".to_owned());
    if rustix::process::geteuid().is_root() {
        task.user = "root".to_owned();
    }
    let handle = within(host.driver.start(task)).await.unwrap();
    assert_eq!(within(host.driver.wait(&handle.task_id)).await.unwrap().code, 0);
    let output = host.output("web.stdout");
    assert!(output.contains("[]"), "{output}");
    assert!(output.ends_with(&format!("{}\n", host.dirs("web").dir.display())), "{output}");
    if rustix::process::geteuid().is_root() {
        assert!(output.starts_with("root\n/root root"), "{output}");
    }
}

#[tokio::test]
async fn an_oom_score_is_the_tasks_alone_raw_exec_05() {
    let host = Host::new();
    let Value::Object(config) =
        json!({"command": "/bin/cat", "args": ["/proc/self/oom_score_adj"], "oom_score_adj": 500})
    else {
        unreachable!()
    };
    let handle = within(host.driver.start(host.with_config("web", config))).await.unwrap();
    within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!(host.output("web.stdout"), "500\n");
    let supervisor = host.supervisor_pids()[0];
    assert_ne!(fs::read_to_string(format!("/proc/{supervisor}/oom_score_adj")).unwrap().trim(), "500");
}

#[tokio::test]
async fn a_killed_supervisor_ends_its_tasks_without_a_result_raw_exec_09() {
    let host = Host::new();
    let handle = within(host.driver.start(host.task("web", "echo $$ > pid; exec sleep 600"))).await.unwrap();
    let pid = host.pid_file("web", "pid");
    kill(host.supervisor_pids()[0]);
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!(exit.code, -1);
    assert!(exit.error.is_some());
    eventually("the leftover to die", || !is_alive(pid));
    let again = within(host.driver.start(host.task("web", "exit 4"))).await.unwrap();
    assert_eq!(within(host.driver.wait(&again.task_id)).await.unwrap().code, 4);
}

#[tokio::test]
async fn a_task_in_its_cgroup_is_limited_killed_whole_and_leaves_nothing_cgroup_v1_06_cgroup_v1_07_cgroup_v1_08() {
    let node = format!("test-{}", std::process::id());
    let Some(cgroups) = Cgroups::detect("steppe-test.slice", &node) else {
        println!("skipped: cgroups cannot be written here");
        return;
    };
    let mut host = Host::new();
    host.driver = raw_exec(Some(cgroups.clone()));
    let mut task = host.task("web", "setsid sleep 600 & echo $! > stray; echo $$ > pid; exec sleep 600");
    task.limits = Limits { cpu_mhz: 500, memory_mib: 64, memory_max_mib: 128 };
    let handle = within(host.driver.start(task)).await.unwrap();
    let (pid, stray) = (host.pid_file("web", "pid"), host.pid_file("web", "stray"));
    let scopes = cgroups.scopes();
    assert_eq!(scopes.len(), 1);
    assert_eq!(scopes[0].0, format!("{ALLOC}.web"));
    let members = scopes[0].1.pids();
    assert!(members.contains(&pid) && members.contains(&stray) && !members.contains(&host.supervisor_pids()[0]));
    let usage = host.driver.stats(&handle.task_id).await.unwrap();
    assert!(usage.pids.len() >= 2 && usage.rss_bytes > 0);
    within(host.driver.kill(&handle.task_id, "", Duration::from_secs(10))).await.unwrap();
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (130, 2));
    eventually("the stray to die", || !is_alive(stray));
    within(host.driver.destroy(&handle.task_id, false)).await.unwrap();
    assert!(cgroups.scopes().is_empty());
    cgroups.remove_home();
}

#[tokio::test]
async fn a_reserved_core_is_its_tasks_alone_and_every_ones_again_after_it() {
    let node = format!("test-cores-{}", std::process::id());
    let cores = Arc::new(Cores::of_host());
    let all = cores.share().list;
    let Some(cgroups) = Cgroups::detect("steppe-test.slice", &node).filter(|_| all.contains([',', '-'])) else {
        println!("skipped: cgroups cannot be written here, or there is one core only");
        return;
    };
    let cgroups = cgroups.with_cores(Arc::clone(&cores));
    let mut host = Host::new();
    host.driver = raw_exec(Some(cgroups.clone()));
    let allowed = |host: &Host, task: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid_file(task, "pid"))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_owned()
    };
    let before = within(host.driver.start(host.task("before", "echo $$ > pid; exec sleep 600"))).await.unwrap();
    assert_eq!(allowed(&host, "before"), all);
    let mut task = host.task("apart", "echo $$ > pid; exec sleep 600");
    let own: u16 = all.split([',', '-']).next().unwrap().parse().unwrap();
    task.around.cores = vec![own];
    cores.reserve(&task.task_id, &[own]);
    cgroups.share_out();
    let share = cores.share().list;
    let apart = within(host.driver.start(task)).await.unwrap();
    let after = within(host.driver.start(host.task("after", "echo $$ > pid; exec sleep 600"))).await.unwrap();
    assert_eq!((allowed(&host, "before"), allowed(&host, "after")), (share.clone(), share));
    assert_eq!(allowed(&host, "apart"), own.to_string());
    cores.release(&apart.task_id);
    cgroups.share_out();
    assert_eq!((allowed(&host, "before"), allowed(&host, "after")), (all.clone(), all));
    for handle in [before, apart, after] {
        within(host.driver.kill(&handle.task_id, "SIGKILL", Duration::ZERO)).await.unwrap();
        within(host.driver.destroy(&handle.task_id, true)).await.unwrap();
    }
    assert!(cgroups.scopes().is_empty());
    cgroups.remove_home();
}

/// An agent in a process of its own, so that it can be killed.
#[test]
fn agent_child() {
    let Some(dir) = std::env::var_os("STEPPE_TEST_AGENT_DIR") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dir = PathBuf::from(dir);
        let alloc = AllocDirs { root: dir };
        let dirs = alloc.task("web").unwrap();
        let script = "i=0; while [ ! -e stop ]; do echo line-$i; i=$((i+1)); sleep 0.01; done; echo $i > count; exit 9";
        let Value::Object(config) = json!({"command": "/bin/sh", "args": ["-c", script]}) else { unreachable!() };
        let alloc_id = AllocId::from(ALLOC);
        let task = TaskConfig {
            task_id: new_task_id(&alloc_id, "web"),
            alloc_id,
            task: "web".to_owned(),
            config,
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            user: String::new(),
            limits: Limits::default(),
            dirs: dirs.clone(),
            logs: Some(LogSettings { max_files: 10, max_file_bytes: 1 << 20 }),
            around: Default::default(),
        };
        let handle = raw_exec(None).start(task).await.unwrap();
        fs::write(dirs.dir.join("handle.new"), serde_json::to_vec(&handle).unwrap()).unwrap();
        fs::rename(dirs.dir.join("handle.new"), dirs.dir.join("handle")).unwrap();
        std::future::pending::<()>().await;
    });
}

fn start_agent(host: &Host) -> (std::process::Child, driver::Handle) {
    let dirs = host.dirs("web");
    let agent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent_child", "--nocapture"])
        .env("STEPPE_TEST_AGENT_DIR", &host.alloc.root)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let path = dirs.dir.join("handle");
    eventually("the agent's handle", || path.exists());
    let handle = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    (agent, handle)
}

fn lines(host: &Host) -> usize {
    host.output("web.stdout").lines().count()
}

fn stop_and_count(host: &Host) -> usize {
    let dir = host.dirs("web").dir;
    fs::write(dir.join("stop"), "").unwrap();
    eventually("the count", || fs::read_to_string(dir.join("count")).is_ok_and(|t| t.ends_with('\n')));
    fs::read_to_string(dir.join("count")).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_outlives_its_agent_and_is_found_again_with_all_its_output_restore_01() {
    let host = Host::new();
    let (mut agent, handle) = start_agent(&host);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let before = lines(&host);
    eventually("output without an agent", || lines(&host) > before + 5);
    within(host.driver.recover(handle.clone())).await.unwrap();
    within(host.driver.recover(handle.clone())).await.unwrap();
    let count = stop_and_count(&host);
    let exit = within(host.driver.wait(&handle.task_id)).await.unwrap();
    assert_eq!((exit.code, exit.error), (9, None));
    let expected: String = (0..count).map(|n| format!("line-{n}\n")).collect();
    assert_eq!(host.output("web.stdout"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_that_no_agent_saw_is_told_to_the_next_one_restore_06() {
    let host = Host::new();
    let (mut agent, handle) = start_agent(&host);
    agent.kill().unwrap();
    agent.wait().unwrap();
    stop_and_count(&host);
    let ended = || saved_status(&host.alloc.supervisor(), "web").is_some_and(|s| s.exit.is_some());
    eventually("the exit on disk", ended);
    within(host.driver.recover(handle.clone())).await.unwrap();
    assert_eq!(within(host.driver.wait(&handle.task_id)).await.unwrap().code, 9);
    // Even when the supervisor is gone too.
    kill(host.supervisor_pids()[0]);
    let third = raw_exec(None);
    within(third.recover(handle.clone())).await.unwrap();
    assert_eq!(within(third.wait(&handle.task_id)).await.unwrap().code, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_supervisor_died_too_is_lost_and_cleaned_up_restore_04() {
    let host = Host::new();
    let (mut agent, handle) = start_agent(&host);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let pid = saved_status(&host.alloc.supervisor(), "web").unwrap().pid;
    kill(host.supervisor_pids()[0]);
    eventually("the supervisor to die", || host.supervisor_pids().is_empty());
    let lost = within(host.driver.recover(handle)).await;
    assert!(matches!(lost, Err(DriverError::Lost(_))), "{lost:?} {:?}", saved_status(&host.alloc.supervisor(), "web"));
    eventually("the leftover to die", || !is_alive(pid));
}

#[tokio::test]
async fn a_supervisor_that_is_slow_to_answer_loses_no_task_and_what_it_starts_late_is_held() {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let host = Host::new();
    let script = "echo $$ > pid; exec sleep 600";
    let handle = within(host.driver.start(host.task("web", script))).await.unwrap();
    let supervisor = nix::unistd::Pid::from_raw(host.supervisor_pids()[0]);
    nix::sys::signal::kill(supervisor, SIGSTOP).unwrap();
    let next_agent = raw_exec(None);
    let slow = async {
        // Longer than one call to it takes at most.
        tokio::time::sleep(Duration::from_secs(11)).await;
        nix::sys::signal::kill(supervisor, SIGCONT).unwrap();
    };
    let late = within(host.driver.start(host.task("late", script)));
    let (late, found, ()) = tokio::join!(late, within(next_agent.recover(handle.clone())), slow);
    found.unwrap();
    let late = late.unwrap();
    assert!(is_alive(host.pid_file("web", "pid")) && is_alive(host.pid_file("late", "pid")));
    for handle in [handle, late] {
        within(host.driver.destroy(&handle.task_id, true)).await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_ends_only_what_is_ours_and_unwanted() {
    use driver::orphans::{Keep, sweep};
    let (host, other) = (Host::new(), Host::new());
    let script = "echo $$ > pid; exec sleep 600";
    let handles = [
        within(host.driver.start(host.task("web", script))).await.unwrap(),
        within(other.driver.start(other.task("web", script))).await.unwrap(),
    ];
    let (mine, theirs) = (host.pid_file("web", "pid"), other.pid_file("web", "pid"));
    let base = host.alloc.root.parent().unwrap();
    let mut keep =
        Keep { allocs: [ALLOC.to_owned()].into(), task_ids: [handles[0].task_id.clone()].into(), ..Keep::default() };
    assert!(!sweep(base, None, &keep).ended_anything());
    assert!(is_alive(mine));
    // A task whose handle was never stored goes; its supervisor stays with the allocation.
    keep.task_ids.clear();
    assert_eq!(sweep(base, None, &keep).tasks, 1);
    eventually("the unknown task to die", || !is_alive(mine));
    assert_eq!(host.supervisor_pids().len(), 1);
    // Nothing is wanted: a supervisor and even processes nobody has a record of go.
    let mut nobody = std::process::Command::new("/bin/sleep");
    nobody.arg("600").env("NOMAD_ALLOC_DIR", host.alloc.shared());
    let mut nobody = nobody.spawn().unwrap();
    // It is started, and has no environment yet: the kernel is still putting its program in place.
    let pid = i32::try_from(nobody.id()).unwrap();
    eventually("its environment", || !procfs::Environ::of(pid).is_empty());
    let swept = sweep(base, None, &Keep::default());
    assert_eq!((swept.supervisors, swept.processes, swept.dirs), (1, 1, vec![host.alloc.root.clone()]));
    nobody.wait().unwrap();
    eventually("the supervisor to die", || host.supervisor_pids().is_empty());
    assert!(is_alive(theirs));
    within(other.driver.destroy(&handles[1].task_id, true)).await.unwrap();
}

#[tokio::test]
async fn a_supervisor_costs_little_memory() {
    let host = Host::new();
    let handle = within(host.driver.start(host.task("web", "echo $$ > pid; exec sleep 600"))).await.unwrap();
    host.pid_file("web", "pid");
    let pss = procfs::pss_kib(host.supervisor_pids()[0]);
    println!("supervisor pss: {pss:?} KiB");
    // The floor is 5 MiB beside the task's own; debug builds are fatter than what is shipped.
    assert!(pss.is_none_or(|kib| kib < 5 << 10), "{pss:?}");
    within(host.driver.destroy(&handle.task_id, true)).await.unwrap();
}

#[tokio::test]
async fn many_tasks_of_one_allocation_share_one_supervisor() {
    let host = Host::new();
    let names: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let starts = names.iter().map(|name| host.driver.start(host.task(name, "echo $$ > pid; exec sleep 600")));
    let mut handles = Vec::new();
    for handle in join_all(starts.collect()).await {
        handles.push(handle.unwrap());
    }
    for name in &names {
        host.pid_file(name, "pid");
    }
    assert_eq!(host.supervisor_pids().len(), 1);
    for handle in handles {
        within(host.driver.destroy(&handle.task_id, true)).await.unwrap();
    }
}

/// Polls all futures together.
async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    within(std::future::poll_fn(move |cx| {
        for (future, slot) in futures.iter_mut().zip(&mut results) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = std::pin::Pin::new(future).poll(cx)
            {
                *slot = Some(value);
            }
        }
        if results.iter().all(Option::is_some) {
            std::task::Poll::Ready(results.drain(..).flatten().collect())
        } else {
            std::task::Poll::Pending
        }
    }))
    .await
}

#[test]
fn nonsense_on_the_socket_is_answered_or_cut_and_harms_nobody() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;
    let host = Host::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.block_on(host.driver.start(host.task("web", "echo $$ > pid; exec sleep 600"))).unwrap();
    let dir = fs::File::open(host.alloc.supervisor()).unwrap();
    let socket = format!("/proc/self/fd/{}/control.sock", std::os::fd::AsRawFd::as_raw_fd(&dir));
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"garbage\n{\"id\":7,\"request\":{\"op\":\"hello\"}}\n").unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("malformed"));
    assert!(lines.next().unwrap().unwrap().contains("\"version\":2"));
    let mut flood = UnixStream::connect(&socket).unwrap();
    let chunk = vec![b'x'; 64 << 10];
    // Cut off once the line is longer than any line may be.
    assert!((0..64).any(|_| flood.write_all(&chunk).is_err()));
    assert!(is_alive(host.pid_file("web", "pid")));
    runtime.block_on(host.driver.destroy(&handle.task_id, true)).unwrap();
    assert!(Path::new(&host.alloc.root).exists());
}
