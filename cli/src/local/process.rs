//! Processes of a local cluster: started, recognized later, and ended.
//!
//! A pid alone may name a stranger after a while: a process is ours if its pid *and* its start time are
//! the ones that were noted when it was started.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::plan::Spec;

/// Largest log file that is kept when a process is started anew; a larger one becomes `log.old`.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Two numbers of the largest kind and their names have room in it.
const NOTE_BYTES: usize = 63;

/// A started process, as it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    pub pid: u32,
    /// Start time in clock ticks since boot, from `/proc/PID/stat`.
    pub started: u64,
}

impl Noted {
    /// The process with this pid, as it is now; `None` when there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything; fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    pub fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            // It may end between the look and the signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to end, waits, and ends it if it does not.
    pub fn end(self, grace: Duration) {
        self.signal(Signal::TERM);
        if !wait_until(grace, || !self.is_alive()) {
            self.signal(Signal::KILL);
            wait_until(Duration::from_secs(5), || !self.is_alive());
        }
    }
}

/// Waits for `done`, looking often.
pub fn wait_until(within: Duration, done: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pid_file(spec: &Spec) -> PathBuf {
    spec.home.join("process.json")
}

/// Where a process's output goes, unless somebody reads it.
pub fn log_file(spec: &Spec) -> PathBuf {
    spec.home.join("log")
}

/// The process of that name, if it is running.
pub fn running(spec: &Spec) -> Option<Noted> {
    let text = fs::read(pid_file(spec)).ok()?;
    serde_json::from_slice::<Noted>(&text).ok().filter(|p| p.is_alive())
}

/// How a process is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// It goes on when we end; its output goes into its log.
    Loose,
    /// It ends with the thread that started it; its output goes into its log.
    Child,
    /// The same, and its output is read by us.
    Heard,
}

/// Starts a process from this very program, in a process group of its own.
///
/// # Errors
/// Files cannot be written, or it cannot be started.
pub fn start(spec: &Spec, tie: Tie) -> io::Result<Child> {
    start_from(Path::new("/proc/self/exe"), spec, tie)
}

/// The same from another program.
///
/// # Errors
/// As [`start`].
pub fn start_from(program: &Path, spec: &Spec, tie: Tie) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.arg0("steppe").arg("serve").arg(spec.role.as_str()).args(&spec.words);
    command.arg(format!("--log-level={}", spec.log_level));
    if tie != Tie::Loose {
        command.arg(format!("--die-with-parent={}", std::process::id()));
    }
    // Settings of ours that happen to be in the environment are meant for the command line.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with(crate::env::SERVICE_PREFIX)) {
            command.env_remove(name);
        }
    }
    command.process_group(0).stdin(Stdio::null());
    if tie == Tie::Heard {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    } else {
        let log = open_log(spec)?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    let mut child = command.spawn()?;
    let noted = Noted::of(child.id()).ok_or_else(|| io::Error::other("it ended at once"));
    if let Err(error) = noted.and_then(|noted| note(&pid_file(spec), noted)) {
        // Nobody would know it again.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok(child)
}

/// Over the one before it, and as long: nobody reads a part, and it needs no room where the disk is full.
fn note(path: &Path, noted: Noted) -> io::Result<()> {
    let text = serde_json::to_string(&noted).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all(format!("{text:<NOTE_BYTES$}\n").as_bytes())
}

fn open_log(spec: &Spec) -> io::Result<File> {
    let path = log_file(spec);
    if fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES_MAX) {
        fs::rename(&path, path.with_extension("old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last lines of a process's log, for when it does not do what it should.
pub fn log_tail(spec: &Spec, lines: usize) -> String {
    let text = fs::read(log_file(spec)).unwrap_or_default();
    let text =
        String::from_utf8_lossy(text.get(text.len().saturating_sub(16 << 10)..).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_replaced_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        for noted in [Noted { pid: u32::MAX, started: u64::MAX }, Noted { pid: 1, started: 1 }] {
            note(&path, noted).unwrap();
            assert_eq!(serde_json::from_slice::<Noted>(&fs::read(&path).unwrap()).unwrap(), noted);
            assert_eq!(fs::metadata(&path).unwrap().len(), 64);
        }
    }

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let me = Noted::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!Noted { started: me.started + 1, ..me }.is_alive());
    }

    #[test]
    fn a_process_that_does_not_want_to_end_is_ended() {
        let mut child =
            Command::new("/bin/sh").args(["-c", "trap '' TERM; while :; do sleep 0.05; done"]).spawn().unwrap();
        let noted = Noted::of(child.id()).unwrap();
        std::thread::spawn(move || child.wait());
        noted.end(Duration::from_millis(100));
        assert!(!noted.is_alive());
    }
}
