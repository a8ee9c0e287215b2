//! Commands beside a `raw_exec` task: real processes, pipes and terminals.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use driver::cgroup::{Cgroups, Limits};
use driver::contract::{
    Driver, DriverError, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitResult, LogSettings, TaskConfig,
    new_task_id,
};
use driver::procfs;
use driver::raw_exec::{Options, RawExec};
use driver::supervisor::client::Launch;
use driver::taskdir::AllocDirs;
use model::AllocId;
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(20);
const ALLOC: &str = "5f1c2d3e-0000-0000-0000-000000000002";

struct Host {
    _base: tempfile::TempDir,
    driver: RawExec,
    task_id: String,
    dir: PathBuf,
    alloc: AllocDirs,
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its mounts go with it.
        let _ = self.alloc.destroy();
    }
}

impl Host {
    /// A task that stays, and its driver.
    async fn new(cgroups: Option<Cgroups>) -> Self {
        let base = tempfile::tempdir().unwrap();
        let alloc = AllocDirs::new(base.path(), ALLOC).unwrap();
        alloc.build().unwrap();
        let dirs = alloc.task("web").unwrap();
        dirs.build(1).unwrap();
        let launch = Launch {
            program: PathBuf::from(env!("CARGO_BIN_EXE_steppe-supervise-test")),
            args: vec![OsString::from("supervise")],
        };
        let driver = RawExec::new(Options { enabled: true, ..Options::default() }, launch, cgroups);
        let Value::Object(config) = json!({"command": "/bin/sleep", "args": ["600"]}) else { unreachable!() };
        let alloc_id = AllocId::from(ALLOC);
        let dir = dirs.dir.clone();
        let task = TaskConfig {
            task_id: new_task_id(&alloc_id, "web"),
            alloc_id,
            task: "web".to_owned(),
            config,
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("GREETING".to_owned(), "moin".to_owned()),
            ]),
            user: String::new(),
            limits: Limits { memory_mib: 64, ..Limits::default() },
            dirs,
            logs: Some(LogSettings { max_files: 1, max_file_bytes: 1 << 20 }),
            around: Default::default(),
        };
        let task_id = driver.start(task).await.unwrap().task_id;
        Self { _base: base, driver, task_id, dir, alloc }
    }

    async fn exec(&self, tty: bool, script: &str) -> ExecSession {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self.driver.exec(&self.task_id, ExecRequest { command, tty }).await.unwrap()
    }

    async fn end(&self) {
        self.driver.kill(&self.task_id, "SIGKILL", Duration::ZERO).await.unwrap();
        self.driver.destroy(&self.task_id, true).await.unwrap();
    }
}

#[derive(Debug, Default)]
struct Seen {
    out: String,
    err: String,
    closed: usize,
    exit: Option<ExitResult>,
}

async fn watch(session: &mut ExecSession) -> Seen {
    let mut seen = Seen::default();
    loop {
        let piece = tokio::time::timeout(WAIT, session.output.recv()).await.expect("it ends in time");
        match piece.expect("the end is told") {
            ExecOutput::Stdout(data) => seen.out.push_str(&String::from_utf8_lossy(&data)),
            ExecOutput::Stderr(data) => seen.err.push_str(&String::from_utf8_lossy(&data)),
            ExecOutput::StdoutClosed | ExecOutput::StderrClosed => seen.closed += 1,
            ExecOutput::Exited(exit) => {
                seen.exit = Some(exit);
                return seen;
            }
            ExecOutput::Failed(text) => panic!("{text}"),
        }
    }
}

async fn gone(pid: i32) {
    let until = Instant::now() + WAIT;
    while procfs::stat(pid).is_some_and(|s| !s.zombie) {
        assert!(Instant::now() < until, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn first_line(session: &mut ExecSession) -> String {
    let mut text = String::new();
    while !text.contains('\n') {
        match tokio::time::timeout(WAIT, session.output.recv()).await.unwrap().unwrap() {
            ExecOutput::Stdout(data) => text.push_str(&String::from_utf8_lossy(&data)),
            other => panic!("{other:?}"),
        }
    }
    text
}

#[tokio::test]
async fn a_command_has_the_task_s_environment_and_directory_and_its_streams_are_apart_exec_session_01() {
    let host = Host::new(None).await;
    let seen = watch(&mut host.exec(false, "echo $GREETING $SECRET; pwd; echo oops >&2; exit 7").await).await;
    assert_eq!(seen.out, format!("moin\n{}\n", host.dir.display()));
    assert_eq!(seen.err, "oops\n");
    assert_eq!((seen.exit.unwrap().code, seen.closed), (7, 2));
    host.end().await;
}

#[tokio::test]
async fn a_terminal_has_the_size_it_is_given_and_one_stream_exec_session_02() {
    let host = Host::new(None).await;
    let mut session = host.exec(true, "echo ready; read line; stty size; tty >&2; echo got $line; exit 3").await;
    assert_eq!(first_line(&mut session).await, "ready\r\n");
    session.input.send(ExecInput::Resize { rows: 40, columns: 100 }).await.unwrap();
    session.input.send(ExecInput::Stdin(b"hello\r".to_vec())).await.unwrap();
    let seen = watch(&mut session).await;
    assert!(seen.out.contains("40 100\r\n") && seen.out.contains("/dev/pts/"), "{seen:?}");
    assert!(seen.out.ends_with("got hello\r\n") && seen.err.is_empty(), "{seen:?}");
    assert_eq!(seen.exit.unwrap().code, 3);
    // What a person types at a terminal reaches the foreground, as a signal where it means one.
    let mut session = host.exec(true, "echo ready; sleep 600").await;
    first_line(&mut session).await;
    let input = session.input.clone();
    // A shell that is just forking may miss it.
    let typing = tokio::spawn(async move {
        while input.send(ExecInput::Stdin(vec![3])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(watch(&mut session).await.exit.unwrap().signal, 2);
    typing.abort();
    host.end().await;
}

#[tokio::test]
async fn a_command_killed_by_a_signal_says_so_exec_session_03() {
    let host = Host::new(None).await;
    let exit = watch(&mut host.exec(false, "kill -TERM $$").await).await.exit.unwrap();
    assert_eq!((exit.code, exit.signal), (143, 15));
    host.end().await;
}

#[tokio::test]
async fn a_closed_input_ends_cat_exec_session_07() {
    let host = Host::new(None).await;
    let mut session = host.exec(false, "cat").await;
    session.input.send(ExecInput::Stdin(b"in\n".to_vec())).await.unwrap();
    session.input.send(ExecInput::StdinClosed).await.unwrap();
    let seen = watch(&mut session).await;
    assert_eq!((seen.out.as_str(), seen.exit.unwrap().code), ("in\n", 0));
    // At a terminal, by its own character.
    let mut session = host.exec(true, "echo ready; cat; echo over").await;
    first_line(&mut session).await;
    session.input.send(ExecInput::StdinClosed).await.unwrap();
    assert!(watch(&mut session).await.out.contains("over"));
    host.end().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_command_along() {
    let host = Host::new(None).await;
    for tty in [false, true] {
        let mut session = host.exec(tty, "trap '' HUP TERM INT; echo $$; sleep 600 & wait; sleep 600").await;
        let pid: i32 = first_line(&mut session).await.trim().parse().unwrap();
        let group: Vec<i32> =
            procfs::pids().into_iter().filter(|p| procfs::stat(*p).is_some_and(|s| s.pgrp == pid)).collect();
        assert!(group.contains(&pid));
        drop(session);
        for pid in group {
            gone(pid).await;
        }
    }
    host.end().await;
}

#[tokio::test]
async fn a_task_that_ends_takes_its_commands_along() {
    let host = Host::new(None).await;
    let mut session = host.exec(false, "echo $$; exec sleep 600").await;
    let pid: i32 = first_line(&mut session).await.trim().parse().unwrap();
    host.end().await;
    assert_eq!(watch(&mut session).await.exit.unwrap().signal, 9);
    gone(pid).await;
}

#[tokio::test]
async fn all_output_comes_before_the_end_and_a_stray_does_not_hold_it_up() {
    let host = Host::new(None).await;
    let mut session = host.exec(false, "head -c 3000000 /dev/zero | tr '\\0' x").await;
    // Nobody reads for a while: the command waits.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(watch(&mut session).await.out.len(), 3_000_000);
    let mut session = host.exec(false, "sleep 600 & echo $!; exit 4").await;
    let seen = watch(&mut session).await;
    assert_eq!(seen.exit.unwrap().code, 4);
    let stray: i32 = seen.out.trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(stray), nix::sys::signal::Signal::SIGKILL).unwrap();
    host.end().await;
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_exec_session_04() {
    let host = Host::new(None).await;
    let ask = |words: &[&str]| ExecRequest { command: words.iter().map(|w| (*w).to_owned()).collect(), tty: false };
    for words in [vec![], vec!["no-such-program"], vec!["/no/such/program"], vec![""], vec!["/bin"]] {
        let refused = host.driver.exec(&host.task_id, ask(&words)).await;
        assert!(matches!(refused, Err(DriverError::Exec(_))), "{words:?}");
    }
    assert!(matches!(host.driver.exec("a/b/c", ask(&["true"])).await, Err(DriverError::NotFound)));
    // There, but no program.
    std::fs::write(host.dir.join("text"), "x").unwrap();
    let mut session = host.driver.exec(&host.task_id, ask(&["./text"])).await.unwrap();
    let seen = watch(&mut session).await;
    assert_eq!(seen.exit.clone().unwrap().code, 126);
    assert!(seen.err.contains("./text"), "{seen:?}");
    host.driver.kill(&host.task_id, "SIGKILL", Duration::ZERO).await.unwrap();
    assert!(matches!(host.driver.exec(&host.task_id, ask(&["true"])).await, Err(DriverError::Exec(_))));
    host.end().await;
}

#[tokio::test]
async fn a_command_runs_in_the_task_s_cgroup_exec_session_10() {
    let node = format!("test-session-{}", std::process::id());
    let Some(cgroups) = Cgroups::detect("steppe-test.slice", &node) else {
        println!("skipped: cgroups cannot be written here");
        return;
    };
    let host = Host::new(Some(cgroups.clone())).await;
    let mut session = host.exec(false, "echo $$; exec sleep 600").await;
    let pid: i32 = first_line(&mut session).await.trim().parse().unwrap();
    let members = cgroups.scopes()[0].1.pids();
    assert!(members.contains(&pid), "{members:?} {pid}");
    assert!(!members.contains(&i32::try_from(std::process::id()).unwrap()));
    host.end().await;
    gone(pid).await;
    assert!(cgroups.scopes().is_empty());
    cgroups.remove_home();
}
