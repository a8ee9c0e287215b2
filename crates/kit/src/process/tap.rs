//! Who reads this process's log as it is written, and what do they get?
//!
//! ```text
//!   event ─► layer of a form (text, json, each with or without the place) ─► reader's queue ─► Lines::next
//!              off while nobody reads that form          full: counted as lost, never waited for
//! ```
//!
//! A reader has a level of its own, finer or coarser than that of the process's own lines. Libraries are heard
//! from WARN on only, whatever the level: their finer lines may hold what they send, and sending a line to a
//! reader must not make another.
//!
//! Invariants: at most [`READERS_MAX`] readers, each with at most [`LINES_MAX`] lines and [`BYTES_MAX`] bytes
//! waiting; who is too slow is told how many lines are missing, where they are missing. Nobody is waited for.
//! While nobody reads, an event costs what it costs without this module: the layers' filters are `off`.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// Readers at a time.
pub const READERS_MAX: usize = 16;
/// Lines that wait for one reader.
pub const LINES_MAX: usize = 1_024;
/// Bytes that wait for one reader; a longer line is lost, too.
pub const BYTES_MAX: usize = 256 << 10;
/// How targets of our own crates begin; `control` is `controller`, too.
const OWN: [&str; 20] = [
    "agent",
    "api",
    "applier",
    "broker",
    "client",
    "config",
    "control",
    "driver",
    "fsm",
    "gateway",
    "jobspec",
    "kit",
    "lifecycle",
    "model",
    "placement",
    "queue",
    "raft",
    "scheduler",
    "state",
    "steppe",
];
const FORMS: usize = 4;

/// How lines are written for a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Form {
    pub json: bool,
    /// With file and line of the code.
    pub location: bool,
}

impl Form {
    fn all() -> [Self; FORMS] {
        [(false, false), (true, false), (false, true), (true, true)].map(|(json, location)| Self { json, location })
    }

    fn index(self) -> usize {
        usize::from(self.json) + 2 * usize::from(self.location)
    }
}

/// There are as many readers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many readers of the log")]
pub struct Full;

/// Readers of a subscriber's events. Clones share them.
#[derive(Clone, Default)]
pub struct Tap(Arc<Inner>);

type SetFilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

#[derive(Default)]
struct Inner {
    readers: Mutex<Vec<Reader>>,
    /// One of each form, in the order of [`Form::index`].
    filters: [OnceLock<SetFilter>; FORMS],
    /// Held while filters are set, so that the last one set is that of the last change.
    setting: Mutex<()>,
    ids: AtomicU64,
}

struct Reader {
    id: u64,
    level: LevelFilter,
    form: Form,
    lines: mpsc::Sender<String>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    lost: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn filter_of(level: LevelFilter) -> EnvFilter {
    let (own, others) = (level.to_string().to_ascii_lowercase(), level.min(LevelFilter::WARN));
    let own: Vec<String> = OWN.iter().map(|target| format!("{target}={own}")).collect();
    // Made of constants: it can be read.
    EnvFilter::new(format!("{},{}", others.to_string().to_ascii_lowercase(), own.join(",")))
}

impl Tap {
    /// The layers of a subscriber whose events are to be read.
    pub fn layers<S>(&self) -> Vec<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        Form::all().into_iter().map(|form| self.layer(form)).collect()
    }

    fn layer<S>(&self, form: Form) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let (filter, handle) = reload::Layer::new(EnvFilter::new("off"));
        let set = move |filter| {
            // Fails only when the subscriber is gone, and nobody hears anything any more.
            let _ = handle.reload(filter);
        };
        // A second subscriber over the same tap hears nothing.
        let _ = self.0.filters[form.index()].set(Box::new(set));
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(Into { inner: Arc::clone(&self.0), form })
            .with_timer(SystemTime)
            .with_ansi(false)
            .with_file(form.location)
            .with_line_number(form.location)
            .log_internal_errors(false);
        if form.json {
            layer.json().flatten_event(true).with_current_span(false).with_filter(filter).boxed()
        } else {
            layer.with_filter(filter).boxed()
        }
    }

    /// What is logged from now on, down to this level.
    ///
    /// # Errors
    /// [`Full`].
    pub fn read(&self, level: LevelFilter, form: Form) -> Result<Lines, Full> {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let waiting = Arc::new(Waiting::default());
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        {
            let mut readers = locked(&self.0.readers);
            if readers.len() >= READERS_MAX {
                return Err(Full);
            }
            readers.push(Reader { id, level, form, lines: sender, waiting: Arc::clone(&waiting) });
        }
        self.0.set_filter(form);
        Ok(Lines { inner: Arc::clone(&self.0), id, form, lines, waiting })
    }
}

impl Inner {
    fn set_filter(&self, form: Form) {
        let _held = locked(&self.setting);
        let finest = locked(&self.readers).iter().filter(|r| r.form == form).map(|r| r.level).max();
        if let Some(set) = self.filters[form.index()].get() {
            set(filter_of(finest.unwrap_or(LevelFilter::OFF)));
        }
    }

    fn give(&self, form: Form, level: Level, text: &str) {
        for reader in locked(&self.readers).iter().filter(|r| r.form == form && r.level >= level) {
            reader.give(text);
        }
    }
}

impl Reader {
    /// Called for one line at a time: others only make room meanwhile.
    fn give(&self, text: &str) {
        let lost = self.waiting.lost.swap(0, Ordering::AcqRel);
        // What is missing is said where it is missing.
        let notice = (lost > 0).then(|| missing(self.form, lost));
        let bytes = text.len() + notice.as_ref().map_or(0, String::len);
        let lines = 1 + usize::from(lost > 0);
        let fits = self.waiting.bytes.load(Ordering::Acquire) + bytes <= BYTES_MAX && self.lines.capacity() >= lines;
        if !fits {
            self.waiting.lost.fetch_add(lost.saturating_add(1), Ordering::AcqRel);
            return;
        }
        for line in notice.into_iter().chain([text.to_owned()]) {
            let bytes = line.len();
            self.waiting.bytes.fetch_add(bytes, Ordering::AcqRel);
            // Fails only when the reader is going.
            if self.lines.try_send(line).is_err() {
                self.waiting.bytes.fetch_sub(bytes, Ordering::AcqRel);
            }
        }
    }
}

fn missing(form: Form, lost: u64) -> String {
    let now = jiff::Timestamp::now();
    if form.json {
        let line = serde_json::json!({ "timestamp": now.to_string(), "level": "WARN",
            "message": "lines are missing, their reader is too slow", "lost": lost, "target": "kit::process::tap" });
        return format!("{line}\n");
    }
    format!("{now:.6}  WARN kit::process::tap: lines are missing, their reader is too slow lost={lost}\n")
}

/// Lines for one reader, which is none any more once this is dropped.
pub struct Lines {
    inner: Arc<Inner>,
    id: u64,
    form: Form,
    lines: mpsc::Receiver<String>,
    waiting: Arc<Waiting>,
}

impl Lines {
    /// The next line, with its end. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(line) = self.ready() {
            return Some(line);
        }
        let line = self.lines.recv().await?;
        Some(self.taken(line))
    }

    /// A line that is here already.
    pub fn ready(&mut self) -> Option<String> {
        match self.lines.try_recv() {
            Ok(line) => Some(self.taken(line)),
            // Nothing may come for long: what is missing is said now.
            Err(_) => match self.waiting.lost.swap(0, Ordering::AcqRel) {
                0 => None,
                lost => Some(missing(self.form, lost)),
            },
        }
    }

    fn taken(&self, line: String) -> String {
        self.waiting.bytes.fetch_sub(line.len(), Ordering::AcqRel);
        line
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        locked(&self.inner.readers).retain(|reader| reader.id != self.id);
        self.inner.set_filter(self.form);
    }
}

/// What a layer writes into.
struct Into {
    inner: Arc<Inner>,
    form: Form,
}

struct Line<'a> {
    into: &'a Into,
    level: Level,
}

impl<'a> MakeWriter<'a> for Into {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { into: self, level: Level::ERROR }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { into: self, level: *meta.level() }
    }
}

impl io::Write for Line<'_> {
    /// A layer writes an event at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.into.inner.give(self.into.form, self.level, &String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Runs `work` with a subscriber that has only the tap; it is given what the finest event is that costs anything.
    fn heard(tap: &Tap, work: impl FnOnce(&dyn Fn() -> Option<LevelFilter>)) {
        let layers: Vec<Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>> = tap.layers();
        let subscriber = Arc::new(tracing_subscriber::registry().with(layers));
        let finest = || Subscriber::max_level_hint(&*subscriber);
        tracing::subscriber::with_default(Arc::clone(&subscriber), || work(&finest));
    }

    const TEXT: Form = Form { json: false, location: false };
    const JSON: Form = Form { json: true, location: true };

    #[test]
    fn each_reader_hears_its_level_in_its_form_while_it_reads() {
        let tap = Tap::default();
        heard(&tap, |finest| {
            assert_eq!(finest(), Some(LevelFilter::OFF), "nobody reads yet");
            let mut info = tap.read(LevelFilter::INFO, TEXT).unwrap();
            let mut debug = tap.read(LevelFilter::DEBUG, JSON).unwrap();
            tracing::debug!(answer = 42, "fine");
            tracing::info!("coarse");
            tracing::info!(target: "hyper::proto", "a library's");
            tracing::warn!(target: "hyper::proto", "a library's warning");
            let lines: Vec<String> = std::iter::from_fn(|| info.ready()).collect();
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].ends_with(": coarse\n") && lines[1].contains("WARN"), "{lines:?}");
            let first: serde_json::Value = serde_json::from_str(&debug.ready().unwrap()).unwrap();
            assert_eq!(
                (&first["message"], &first["answer"], &first["level"]),
                (&"fine".into(), &42.into(), &"DEBUG".into())
            );
            assert!(first["filename"].is_string() && first["line_number"].is_u64(), "{first}");
            drop(debug);
            assert_eq!(finest(), Some(LevelFilter::INFO), "nobody reads as finely any more");
            drop(info);
            assert_eq!(finest(), Some(LevelFilter::OFF));
        });
    }

    #[test]
    fn a_reader_that_is_too_slow_loses_lines_is_told_how_many_and_stops_nobody() {
        let tap = Tap::default();
        heard(&tap, |_| {
            let mut slow = tap.read(LevelFilter::INFO, TEXT).unwrap();
            for n in 0..LINES_MAX + 10 {
                tracing::info!(n, "line");
            }
            for n in 0..LINES_MAX {
                assert!(slow.ready().unwrap().ends_with(&format!(" line n={n}\n")));
            }
            assert!(slow.ready().unwrap().ends_with("lost=10\n"));
            assert_eq!(slow.ready(), None);
            tracing::info!(text = "x".repeat(BYTES_MAX), "too long");
            tracing::info!("short");
            assert!(slow.ready().unwrap().ends_with("lost=1\n"));
            assert!(slow.ready().unwrap().ends_with(": short\n"));
        });
    }

    #[test]
    fn bytes_that_wait_are_limited_and_free_again_when_they_are_taken() {
        let tap = Tap::default();
        heard(&tap, |_| {
            let mut slow = tap.read(LevelFilter::INFO, TEXT).unwrap();
            let long = "x".repeat(BYTES_MAX / 4);
            for _ in 0..2 {
                for _ in 0..6 {
                    tracing::info!(long, "line");
                }
                let lines: Vec<String> = std::iter::from_fn(|| slow.ready()).collect();
                assert_eq!(lines.len(), 4, "three lines and what is missing: {:?}", lines.iter().map(String::len));
                assert!(lines[3].ends_with("lost=3\n"), "{}", lines[3]);
            }
        });
    }

    #[test]
    fn readers_are_limited() {
        let tap = Tap::default();
        let held: Vec<Lines> = (0..READERS_MAX).map(|_| tap.read(LevelFilter::INFO, TEXT).unwrap()).collect();
        assert_eq!(tap.read(LevelFilter::INFO, TEXT).err(), Some(Full));
        drop(held);
        assert!(tap.read(LevelFilter::INFO, TEXT).is_ok());
    }

    #[test]
    fn every_crate_of_ours_that_may_log_is_heard() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for group in ["crates", "services"] {
            for entry in std::fs::read_dir(root.join(group)).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let logs =
                    std::fs::read_to_string(entry.path().join("Cargo.toml")).is_ok_and(|t| t.contains("\ntracing"));
                let heard = OWN.iter().any(|own| name.starts_with(own));
                assert!(heard || !logs, "{name} is missing in OWN");
            }
        }
    }
}
