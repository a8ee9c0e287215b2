//! `steppe dev` as a process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_steppe");

struct Dev {
    child: Child,
    address: String,
    dir: PathBuf,
}

impl Dev {
    fn start(temporary: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(PROGRAM);
        command.args(["dev", "-http-port", &port.to_string()]).env("TMPDIR", temporary);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // From here on it is ended, whatever happens.
        let mut dev = Self { child, address: format!("http://127.0.0.1:{port}"), dir: PathBuf::new() };
        let out = BufReader::new(dev.child.stdout.take().unwrap());
        let mut said = out.lines().map_while(Result::ok);
        if !said.any(|line| line.starts_with("Ctrl-C")) {
            let mut errors = String::new();
            dev.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("dev did not start: {errors}");
        }
        let dirs = std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path());
        dev.dir = dirs.last().unwrap();
        dev
    }

    fn steppe(&self, words: &[&str]) -> (bool, String) {
        let done = Command::new(PROGRAM).args(words).env("NOMAD_ADDR", &self.address).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Processes that work in its directory.
    fn processes(&self) -> usize {
        let needle = self.dir.display().to_string();
        let commands = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            Some([command, environ].concat())
        });
        commands.filter(|text| String::from_utf8_lossy(text).contains(&needle)).count()
    }

    fn end(&mut self, signal: Signal) -> Duration {
        let began = Instant::now();
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap();
        began.elapsed()
    }

    /// Waits until `holds`.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn job(dir: &Path) -> String {
    let path = dir.join("job.hcl").display().to_string();
    let text = "job \"greet\" {\n  group \"g\" {\n    task \"t\" {\n      driver = \"raw_exec\"\n      config {\n        \
        command = \"/bin/sh\"\n        args    = [\"-c\", \"echo hello; exec sleep 1000\"]\n      }\n    }\n  }\n}\n";
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn two_run_side_by_side_and_ctrl_c_leaves_nothing_behind() {
    let (one, two, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut a, mut b) = (Dev::start(one.path()), Dev::start(two.path()));
    let file = job(files.path());
    for dev in [&a, &b] {
        assert!(dev.steppe(&["job", "run", "-detach", &file]).0);
        dev.until("the task says hello", || dev.steppe(&["alloc", "logs", "-job", "greet"]).1 == "hello\n");
    }
    let took = a.end(Signal::INT);
    assert!(took < Duration::from_secs(5), "stopped within five seconds, not {took:?}");
    assert_eq!((a.processes(), a.dir.exists()), (0, false));
    assert_eq!(b.steppe(&["alloc", "logs", "-job", "greet"]).1, "hello\n", "the other is not touched");
    b.end(Signal::TERM);
    assert_eq!((b.processes(), b.dir.exists()), (0, false));
}

#[test]
fn killed_it_takes_its_services_and_tasks_with_it() {
    let (temporary, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut dev = Dev::start(temporary.path());
    let file = job(files.path());
    assert!(dev.steppe(&["job", "run", "-detach", &file]).0);
    dev.until("the task says hello", || dev.steppe(&["alloc", "logs", "-job", "greet"]).1 == "hello\n");
    dev.end(Signal::KILL);
    dev.until("nothing runs any more", || dev.processes() == 0);
}
