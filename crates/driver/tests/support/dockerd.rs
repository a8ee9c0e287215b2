//! A Docker Engine of a test's own, which it may stop and kill: its own data, its own socket, no network.
//! The machine's engine is left alone. That takes a network namespace too: an engine without a bridge removes
//! the interface of that name where it finds one.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::engine;

const WITHIN: Duration = Duration::from_secs(60);

/// Why a test cannot have an engine of its own here.
pub fn missing() -> Option<String> {
    let mut command = Command::new("unshare");
    let found = command.args(["-n", "dockerd", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!found.is_ok_and(|status| status.success())).then(|| "no dockerd can run in a network namespace here".to_owned())
}

pub struct Dockerd {
    dir: tempfile::TempDir,
    child: Option<Child>,
    live_restore: bool,
}

impl Dockerd {
    /// Starts it, with an image; its containers outlive it when `live_restore`.
    pub fn start(image: &str, live_restore: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("steppe-dockerd").tempdir().unwrap();
        let mut one = Self { dir, child: None, live_restore };
        one.begin();
        let tar = one.dir.path().join("rootfs.tar");
        std::fs::write(&tar, engine::rootfs()).unwrap();
        one.docker(&["import", tar.to_str().unwrap(), image]).expect("it imports");
        one
    }

    pub fn begin(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        let log = std::fs::File::options().create(true).append(true).open(path("log")).unwrap();
        // One that was killed leaves it, and its process id may be another's by now.
        let _ = std::fs::remove_file(path("pid"));
        // It becomes dockerd itself: the process id is the engine's.
        let mut command = Command::new("unshare");
        command.args(["-n", "dockerd"]).arg("--data-root").arg(path("data")).arg("--exec-root").arg(path("exec"));
        command.arg("--pidfile").arg(path("pid")).arg("-H").arg(self.host());
        command.args(["--bridge=none", "--iptables=false", "--ip-masq=false"]);
        if self.live_restore {
            command.arg("--live-restore");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("dockerd starts");
        self.child = Some(child);
        let until = Instant::now() + WITHIN;
        while self.docker(&["version", "--format", "x"]).is_none() {
            assert!(Instant::now() < until, "it never answered:\n{}", std::fs::read_to_string(path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its address, as `-H` and `endpoint` have it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.dir.path().join("docker.sock").display())
    }

    /// Ends it by a signal, and waits for its end.
    pub fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            child.wait().unwrap();
            self.containerd_is_gone();
        }
    }

    /// One that was killed takes its containerd with it, a moment later; the next one must not find it dying.
    fn containerd_is_gone(&self) {
        let noted = self.dir.path().join("exec/containerd/containerd.pid");
        let Ok(pid) = std::fs::read_to_string(&noted) else { return };
        let until = Instant::now() + WITHIN;
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        while lives() {
            assert!(Instant::now() < until, "containerd {pid} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_file(noted);
    }

    /// The docker command, to this engine.
    pub fn docker(&self, args: &[&str]) -> Option<String> {
        let host = self.host();
        engine::docker(&[&["-H", host.as_str()], args].concat())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if self.child.is_none() && !std::thread::panicking() {
            self.begin();
        }
        for id in self.docker(&["ps", "-aq"]).unwrap_or_default().lines() {
            self.docker(&["rm", "-f", id]);
        }
        self.end("-TERM");
        // What one that was killed had mounted.
        let mut mounted: Vec<PathBuf> = std::fs::read_to_string("/proc/self/mounts")
            .unwrap_or_default()
            .lines()
            .filter_map(|line| Some(PathBuf::from(line.split(' ').nth(1)?)))
            .filter(|path| path.starts_with(self.dir.path()))
            .collect();
        mounted.sort();
        for path in mounted.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}
