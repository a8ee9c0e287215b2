//! `steppe agent -dev` as a process, with a port and data of its own.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{WITHIN, processes_of, program, root};
use crate::ports::free_port;

pub struct Dev {
    dir: tempfile::TempDir,
    child: Child,
    pub port: u16,
}

impl Dev {
    /// Starts it, and waits until its API can be reached.
    pub fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let out = File::create(dir.path().join("out")).unwrap();
        let child = Command::new(program())
            .args(["agent", "-dev", "-http-port", &port.to_string(), "-data-dir"])
            .arg(dir.path().join("data"))
            .current_dir(root())
            .stdin(Stdio::null())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        let mut dev = Self { dir, child, port };
        let deadline = Instant::now() + WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = dev.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "does not start ({ended:?}): {}", dev.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        dev
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it printed so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out")).unwrap_or_default()
    }

    /// Ends it as Ctrl-C does; nothing of it may be left.
    pub fn stop(mut self) {
        self.interrupt();
        assert_eq!(processes_of(self.dir.path()), Vec::<String>::new(), "no process is left");
    }

    fn interrupt(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let deadline = Instant::now() + WITHIN;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.interrupt();
        }
    }
}
