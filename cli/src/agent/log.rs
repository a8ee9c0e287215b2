//! Where a machine's log lines go: standard error, a file that is rotated, the system's log.
//!
//! Lines are the services' own; each gets the name of its process. A sink that fails loses its lines, and
//! never stops the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use config::Config;
use kit::process::machine_log::Writer;

const SYSLOG: &str = "/dev/log";
/// Our own name among the processes'.
const OWN: &str = "machine";

pub struct Log {
    json: bool,
    sinks: Mutex<Sinks>,
    /// For those who read our own lines by the API.
    shared: Mutex<Option<Writer>>,
}

struct Sinks {
    file: Option<Rotating>,
    syslog: Option<Syslog>,
}

impl Sinks {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let file = (!config.log_file.is_empty()).then(|| Rotating::open(config)).transpose()?;
        let syslog = config.enable_syslog.then(|| Syslog::open(Path::new(SYSLOG), &config.syslog_facility));
        Ok(Self { file, syslog: syslog.transpose()? })
    }
}

impl Log {
    /// # Errors
    /// The log file cannot be opened, or the system's log not be reached.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(Self { json: config.log_json, sinks: Mutex::new(Sinks::open(config)?), shared: Mutex::default() })
    }

    /// Our own lines go into this file, too.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn share(&self, path: PathBuf) -> io::Result<()> {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Writer::create(path)?);
        Ok(())
    }

    /// Where the log file is, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.file.as_ref().map(|file| file.path.clone())
    }

    /// Writes where the configuration says from now on; a file of the same name is opened anew, so that whoever
    /// moved it away gets a new one.
    ///
    /// # Errors
    /// As [`Log::open`]; everything stays as it was.
    pub fn reopen(&self, config: &Config) -> anyhow::Result<()> {
        let mut opened = Sinks::open(config)?;
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(new), Some(old)) = (&mut opened.file, &sinks.file)
            && new.path == old.path
        {
            new.since = old.since;
        }
        *sinks = opened;
        Ok(())
    }

    /// A line of a process.
    pub fn line(&self, name: &str, text: &str) {
        let line = if self.json {
            match text.strip_prefix('{') {
                Some(rest) => format!("{{\"process\":\"{name}\",{rest}"),
                None => serde_json::json!({ "process": name, "message": text }).to_string(),
            }
        } else {
            format!("{name:<10} {text}")
        };
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody is left to be told of what cannot be written.
        let _ = writeln!(io::stderr(), "{line}");
        if let Some(file) = &mut sinks.file {
            let _ = file.write(&line);
        }
        if let Some(syslog) = &sinks.syslog {
            syslog.send(text, &line);
        }
    }

    /// A line of our own.
    pub fn say(&self, level: &str, message: &str) {
        let now = jiff::Timestamp::now();
        let text = if self.json {
            serde_json::json!({ "timestamp": now.to_string(), "level": level, "message": message }).to_string()
        } else {
            format!("{now:.6} {level:>5} steppe: {message}")
        };
        self.line(OWN, &text);
        if let Some(shared) = &mut *self.shared.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = shared.say(format!("{now:.6}"), level, message);
        }
    }

    pub fn info(&self, message: &str) {
        self.say("INFO", message);
    }

    pub fn warn(&self, message: &str) {
        self.say("WARN", message);
    }
}

/// A file that is set aside when it is too long or too old.
struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
    since: Instant,
    bytes_max: u64,
    age_max: Duration,
    files_max: i64,
}

impl Rotating {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let mut path = PathBuf::from(&config.log_file);
        if config.log_file.ends_with('/') {
            path.push("steppe.log");
        }
        let about = || format!("opening the log file {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(about)?;
        }
        let file = appending(&path).with_context(about)?;
        let bytes = file.metadata().with_context(about)?.len();
        Ok(Self {
            file,
            bytes,
            since: Instant::now(),
            bytes_max: config.log_rotate_bytes,
            age_max: Duration::from_nanos(u64::try_from(config.log_rotate_duration.0).unwrap_or(0)),
            files_max: config.log_rotate_max_files,
            path,
        })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        let long = self.bytes_max > 0 && self.bytes > 0 && self.bytes.saturating_add(length) > self.bytes_max;
        let old = self.age_max > Duration::ZERO && self.since.elapsed() > self.age_max;
        if long || old {
            self.rotate()?;
        }
        writeln!(self.file, "{line}")?;
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let stamp = jiff::Timestamp::now().as_nanosecond();
        let aside = self.path.with_extension(format!("{stamp}.log"));
        if self.files_max == -1 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, aside)?;
        }
        self.file = appending(&self.path)?;
        (self.bytes, self.since) = (0, Instant::now());
        if let Ok(most @ 1..) = usize::try_from(self.files_max) {
            for path in self.aside()?.iter().rev().skip(most) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The files set aside, oldest first: their names hold the time.
    fn aside(&self) -> io::Result<Vec<PathBuf>> {
        let stem = self.path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        let is_ours = |path: &Path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let stamp = name.strip_prefix(&stem).and_then(|n| n.strip_prefix('.')).and_then(|n| n.strip_suffix(".log"));
            stamp.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()))
        };
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir)?.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_ours(p)).collect();
        files.sort();
        Ok(files)
    }
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Syslog {
    path: PathBuf,
    socket: UnixDatagram,
    facility: u8,
}

impl Syslog {
    fn open(path: &Path, facility: &str) -> anyhow::Result<Self> {
        let facility = match facility.to_ascii_uppercase().as_str() {
            "USER" => 1,
            "DAEMON" => 3,
            local => 16 + local.strip_prefix("LOCAL").and_then(|n| n.parse::<u8>().ok()).unwrap_or(0),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect(path).with_context(|| format!("reaching the system's log at {}", path.display()))?;
        socket.set_nonblocking(true)?;
        Ok(Self { path: path.to_owned(), socket, facility })
    }

    fn send(&self, text: &str, line: &str) {
        // RFC 5424's severities, from the word in the line.
        let has = |level: &str| text.contains(level);
        let severity = match () {
            () if has("ERROR") => 3,
            () if has("WARN") => 4,
            () if has("DEBUG") || has("TRACE") => 7,
            () => 6,
        };
        let packet = format!("<{}>steppe[{}]: {line}", self.facility * 8 + severity, std::process::id());
        let again = |_| {
            // Whoever keeps the system's log was started anew.
            self.socket.connect(&self.path)?;
            self.socket.send(packet.as_bytes())
        };
        let _ = self.socket.send(packet.as_bytes()).or_else(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_is_set_aside_when_it_is_long_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            log_file: format!("{}/logs/", dir.path().display()),
            log_rotate_bytes: 40,
            log_rotate_max_files: 2,
            ..Config::default()
        };
        let log = Log::open(&config).unwrap();
        for n in 0..10 {
            log.line("state", &format!("line {n} of some length"));
        }
        let names: Vec<String> = fs::read_dir(dir.path().join("logs"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let newest = fs::read_to_string(dir.path().join("logs/steppe.log")).unwrap();
        assert!(newest.ends_with("state      line 9 of some length\n"), "{newest}");
    }

    #[test]
    fn a_log_file_is_set_aside_when_it_is_old_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let config = |age: Duration| Config {
            log_file: format!("{}/l.log", dir.path().display()),
            log_rotate_duration: model::Nanos(i64::try_from(age.as_nanos()).unwrap()),
            ..Config::default()
        };
        let log = Log::open(&config(Duration::from_secs(3_600))).unwrap();
        (0..100).for_each(|n| log.line("state", &format!("young {n}")));
        assert_eq!(count(), 1);
        // Read again: the time of the file that is there already counts.
        let age = Duration::from_millis(100);
        log.reopen(&config(age)).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while count() == 1 {
            assert!(Instant::now() < until, "it is never set aside");
            log.line("state", "old");
        }
        let began = Instant::now();
        log.line("state", "the next");
        let aside =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).find(|p| !p.ends_with("l.log")).unwrap();
        let (aside, new) = (fs::read_to_string(aside).unwrap(), fs::read_to_string(dir.path().join("l.log")).unwrap());
        assert!(aside.contains("young 99") && !new.contains("young"), "{new}");
        assert!(count() == 2 || began.elapsed() >= age, "the new one is young");
    }

    #[test]
    fn the_systems_log_gets_each_line_with_facility_and_severity_also_after_its_keeper_was_started_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(Syslog::open(&path, "USER").is_err(), "nobody keeps it");
        let keeper = || {
            let keeper = UnixDatagram::bind(&path).unwrap();
            keeper.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            keeper
        };
        let heard = |keeper: &UnixDatagram| {
            let mut packet = [0; 500];
            let length = keeper.recv(&mut packet).unwrap();
            String::from_utf8(packet[..length].to_vec()).unwrap()
        };
        let first = keeper();
        let log = |facility: &str| {
            let syslog = Some(Syslog::open(&path, facility).unwrap());
            Log { json: false, sinks: Mutex::new(Sinks { file: None, syslog }), shared: Mutex::default() }
        };
        let pid = std::process::id();
        for (facility, level, number) in [
            ("LOCAL3", "ERROR", 19 * 8 + 3),
            ("daemon", "WARN", 3 * 8 + 4),
            ("USER", "INFO", 8 + 6),
            ("LOCAL0", "DEBUG", 16 * 8 + 7),
        ] {
            log(facility).line("state", &format!("{level} text"));
            assert_eq!(heard(&first), format!("<{number}>steppe[{pid}]: state      {level} text"));
        }
        let log = log("LOCAL0");
        log.line("state", "before");
        assert!(heard(&first).ends_with("before"));
        drop(first);
        fs::remove_file(&path).unwrap();
        log.line("state", "nobody hears this");
        let second = keeper();
        log.line("state", "after");
        assert!(heard(&second).ends_with("after"));
    }

    #[test]
    fn a_json_line_stays_json_and_says_which_process_it_is_from() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let config = Config { log_file: path.display().to_string(), log_json: true, ..Config::default() };
        let log = Log::open(&config).unwrap();
        log.line("state", r#"{"level":"INFO"}"#);
        log.line("state", "plain");
        log.info("hello");
        for line in fs::read_to_string(path).unwrap().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["process"].is_string(), "{line}");
        }
    }
}
