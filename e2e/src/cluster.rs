//! The suite as separate processes, from the outside: started by the command line, asked over HTTP.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query, Settings};
use serde_json::Value;

use crate::ports::free_port;

pub const WITHIN: Duration = Duration::from_secs(60);

/// The program under test: `STEPPE_BIN`, or what `cargo build --release -p steppe` made.
pub fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("STEPPE_BIN") {
        return given.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = target.join("release/steppe");
    assert!(program.exists(), "{} is missing: cargo build --release -p steppe", program.display());
    program
}

/// Root of the checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A cluster as `scripts/up` starts it; stopped and forgotten at the end.
pub struct Cluster {
    dir: tempfile::TempDir,
    pub port: u16,
    pub api: PublicClient,
}

impl Cluster {
    pub fn start() -> Self {
        let port = free_port();
        let api =
            PublicClient::new(Settings { address: format!("http://127.0.0.1:{port}"), ..Settings::default() }).unwrap();
        let cluster = Self { dir: tempfile::tempdir().unwrap(), port, api };
        cluster.up();
        cluster
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    pub fn up(&self) {
        let done = self.steppe(&["local", "up", "-http-port", &self.port.to_string()]);
        assert!(done.status.success(), "up: {}", text(&done.stderr));
    }

    pub fn down(&self) {
        let done = self.steppe(&["local", "down"]);
        assert!(done.status.success(), "down: {}", text(&done.stderr));
    }

    /// Runs the command line against this cluster.
    pub fn steppe(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// The command line against this cluster, not run yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(words)
            .env("NOMAD_ADDR", format!("http://127.0.0.1:{}", self.port))
            .env("STEPPE_DATA", self.data())
            .current_dir(root());
        command
    }

    /// The same, and it must succeed; its stdout.
    pub fn ok(&self, words: &[&str]) -> String {
        let done = self.steppe(words);
        assert!(done.status.success(), "{words:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    /// Writes a job file and gives its path.
    pub fn file(&self, name: &str, contents: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.display().to_string()
    }

    /// Pid of a process of the cluster.
    pub fn pid(&self, name: &str) -> u32 {
        let noted = std::fs::read(self.data().join(name).join("process.json")).unwrap();
        let noted: Value = serde_json::from_slice(&noted).unwrap();
        u32::try_from(noted["pid"].as_u64().unwrap()).unwrap()
    }

    /// Names of all processes of the cluster.
    pub fn names(&self) -> Vec<String> {
        let listed = self.steppe(&["local", "status"]);
        text(&listed.stdout).lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect()
    }

    /// `kill -9`.
    pub fn kill(&self, name: &str) {
        kill_9(self.pid(name));
    }

    /// Logs of all processes, for checking what they complain about.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.data().join(name).join("log")).unwrap_or_default()
    }

    /// Reads JSON.
    pub async fn get(&self, path: &str) -> Value {
        let (value, _) = self.api.get(path, &Query::default()).await.unwrap_or_else(|e| panic!("{path}: {e}"));
        value
    }

    /// Sends JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.api.put(path, &Query::default(), body).await.map(|(v, _)| v).map_err(|e| e.to_string())
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WITHIN;
        let mut last = Value::Null;
        loop {
            if let Ok((value, _)) = self.api.get::<Value>(path, &Query::default()).await {
                if wanted(&value) {
                    return value;
                }
                last = value;
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{path}: {last:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until so many allocations of the job are in the state, and should be.
    pub async fn until_allocs(&self, job: &str, status: &str, count: usize) -> Vec<Value> {
        let of = |v: &Value| {
            let all = v.as_array().cloned().unwrap_or_default();
            all.into_iter().filter(|a| a["ClientStatus"] == status && a["DesiredStatus"] == "run").collect::<Vec<_>>()
        };
        let what = format!("{count} allocations of {job} are {status}");
        let found = self.until(&format!("/v1/job/{job}/allocations"), &what, |v| of(v).len() == count).await;
        of(&found)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let done = self.steppe(&["local", "down", "-purge"]);
        if !done.status.success() && !std::thread::panicking() {
            panic!("down: {}", text(&done.stderr));
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It is gone when this returns.
pub fn kill_9(pid: u32) {
    let done = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(done.success());
    let deadline = Instant::now() + WITHIN;
    while lives(pid) {
        assert!(Instant::now() < deadline, "{pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process is there, and not only its entry.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Processes whose command line mentions the directory.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let commands = entries.filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).filter_map(|e| {
        let command = std::fs::read(e.path().join("cmdline")).ok()?;
        Some(text(&command).replace('\0', " "))
    });
    commands.filter(|c| c.contains(&needle)).collect()
}
