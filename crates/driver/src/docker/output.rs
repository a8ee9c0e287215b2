//! What a container writes, from the daemon into the task's log files: every entry once.
//!
//! The daemon keeps a container's output with a time for each entry, whether or not an agent lives. This
//! module follows it and remembers in a small file how far each stream has come: the time of the last entry,
//! how many entries had that time, and where in the log files that was.
//!
//! ```text
//!   daemon ─entries with times─► Sink ─1─► alloc/logs/<task>.stdout.N
//!                                    └─2─► .supervisor/<task>.output   (time, count, file number, size)
//! ```
//!
//! An agent that dies between 1 and 2 leaves files that are longer than the note says: the next one passes
//! over so many bytes of what comes after the noted entry. Nothing is lost or doubled, as far back as the
//! daemon keeps output (its `max-size` and `max-file`).
//!
//! Driven by one task per container; ends with the container. A log driver that cannot be read ends it at
//! once. When the daemon is away it tries again.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::engine::{Meaning, meaning, sentence, timely};
use crate::contract::LogSettings;
use crate::rotate::Rotator;

/// Entries taken at once.
const BATCH: usize = 32;
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// `2006-01-02T15:04:05.000000000Z`
const TIME_BYTES: usize = 30;
const NOTE_BYTES: usize = 512;
/// The streams are written side by side: one may lag this much behind the other.
const LAG_SECONDS: i64 = 5;

/// Where a container's output goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    pub dir: PathBuf,
    pub task: String,
    /// The file of the note.
    pub note: PathBuf,
    pub max_files: u32,
    pub max_bytes: u64,
    /// The container whose entries the note is about.
    pub container: String,
}

impl Place {
    pub fn new(dirs: &crate::taskdir::TaskDirs, task: &str, container: &str, logs: LogSettings) -> Self {
        let mut note = crate::supervisor::task::state_file(&dirs.alloc.supervisor(), task).into_os_string();
        note.push(".output");
        Self {
            dir: dirs.alloc.logs(),
            task: task.to_owned(),
            note: PathBuf::from(note),
            max_files: logs.max_files,
            max_bytes: logs.max_file_bytes,
            container: container.to_owned(),
        }
    }
}

/// How far one stream has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// The last entry's time, as the daemon writes it; fixed width, so text order is time order.
    time: String,
    /// Entries with that time.
    same: u32,
    index: u64,
    size: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Note {
    container: String,
    marks: [Mark; 2],
}

/// One stream's files.
struct Stream {
    log: Rotator,
    mark: Mark,
    /// Entries with the mark's time that came again.
    repeated: u32,
    /// Bytes that were written after the mark.
    ahead: u64,
}

impl Stream {
    fn open(place: &Place, name: &str, mark: Option<Mark>) -> io::Result<Self> {
        let log = Rotator::open(&place.dir, &format!("{}.{name}", place.task), place.max_files, place.max_bytes)?;
        let ahead = mark.as_ref().map_or(0, |mark| log.bytes_after(mark.index, mark.size));
        let mut stream = Self { log, mark: mark.unwrap_or_default(), repeated: 0, ahead };
        if stream.mark.time.is_empty() {
            // What was there before the container's first entry is not its.
            stream.note_position();
        }
        Ok(stream)
    }

    fn note_position(&mut self) {
        (self.mark.index, self.mark.size) = self.log.position();
    }

    /// Takes an entry, unless it was taken before.
    fn take(&mut self, entry: &[u8]) {
        let (time, text) = split(entry);
        if let Some(time) = time {
            match time.cmp(self.mark.time.as_str()) {
                std::cmp::Ordering::Less => {
                    // The daemon tells it again, as it does where its files changed: the last one comes again, too.
                    self.repeated = 0;
                    return;
                }
                std::cmp::Ordering::Equal if self.repeated < self.mark.same => {
                    self.repeated += 1;
                    return;
                }
                std::cmp::Ordering::Equal => (self.mark.same, self.repeated) = (self.mark.same + 1, self.repeated + 1),
                std::cmp::Ordering::Greater => {
                    self.mark.time = time.to_owned();
                    (self.mark.same, self.repeated) = (1, 1);
                }
            }
        }
        let skip = usize::try_from(self.ahead).unwrap_or(usize::MAX).min(text.len());
        self.ahead -= skip as u64;
        self.log.write(&text[skip..]);
    }
}

/// The entry's time and its text.
fn split(entry: &[u8]) -> (Option<&str>, &[u8]) {
    let time = entry.get(..TIME_BYTES).filter(|_| entry.get(TIME_BYTES) == Some(&b' '));
    let time = time.and_then(|time| std::str::from_utf8(time).ok());
    match time.filter(|time| time.as_bytes()[10] == b'T' && time.ends_with('Z')) {
        Some(time) => (Some(time), &entry[TIME_BYTES + 1..]),
        None => (None, entry),
    }
}

/// Both streams, and the note.
struct Sink {
    streams: [Stream; 2],
    file: File,
    container: String,
}

impl Sink {
    fn open(place: &Place) -> io::Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&place.note)?;
        let mut text = vec![0; NOTE_BYTES];
        let read = file.read_at(&mut text, 0)?;
        let note = serde_json::from_slice::<Note>(&text[..read]).ok();
        let marks = note.filter(|note| note.container == place.container).map(|note| note.marks);
        let [out, err] = marks.map_or([None, None], |marks| marks.map(Some));
        let streams = [Stream::open(place, "stdout", out)?, Stream::open(place, "stderr", err)?];
        Ok(Self { streams, file, container: place.container.clone() })
    }

    fn take(&mut self, entries: Vec<(usize, Bytes)>) {
        for (stream, entry) in entries {
            self.streams[stream].take(&entry);
        }
        for stream in &mut self.streams {
            // While old bytes are passed over, the old position is the right one.
            if stream.ahead == 0 {
                stream.note_position();
            }
        }
        if self.streams.iter().all(|stream| stream.ahead == 0) {
            self.write_note();
        }
    }

    fn write_note(&self) {
        let note = Note { container: self.container.clone(), marks: self.streams.each_ref().map(|s| s.mark.clone()) };
        let Ok(mut text) = serde_json::to_vec(&note) else { return };
        text.resize(text.len().max(NOTE_BYTES), b' ');
        // One write: a reader sees the old note or the new one. Without room on the disk the old one stays.
        let _ = self.file.write_at(&text, 0);
    }

    /// The second from which on the daemon is asked; 0 is from the beginning.
    fn since(&self) -> i32 {
        let newest = self.streams.iter().map(|stream| stream.mark.time.as_str()).max().unwrap_or_default();
        let seconds = unix_seconds(newest).map_or(0, |seconds| (seconds - LAG_SECONDS).max(0));
        i32::try_from(seconds).unwrap_or(0)
    }

    /// The same entries may come again.
    fn again(&mut self) {
        for stream in &mut self.streams {
            stream.repeated = 0;
        }
    }
}

/// Whether an engine of this version stops following as soon as the container ends, whatever it has not passed on yet.
/// One that is not known may.
pub(super) fn may_stop_early(version: Option<&str>) -> bool {
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    major.is_none_or(|major| major < 23)
}

/// Follows a container's output until it has ended; where the engine [may stop early](may_stop_early), what was written
/// at its end is read once more.
pub(super) async fn follow(docker: Docker, place: Place, tty: bool, stops_early: bool) {
    let opening = place.clone();
    let mut sink = match tokio::task::spawn_blocking(move || Sink::open(&opening)).await {
        Ok(Ok(sink)) => sink,
        Ok(Err(error)) => {
            tracing::warn!(task = place.task, error = %error, "output of a container cannot be kept");
            return;
        }
        Err(_) => return,
    };
    let (mut follows, mut pause) = (true, PAUSE_FIRST);
    loop {
        let options = LogsOptionsBuilder::new().follow(follows).stdout(true).stderr(true).timestamps(true);
        let options = options.since(sink.since()).tail("all").build();
        sink.again();
        let (back, ended) = read(&docker, &place.container, options, sink).await;
        let Some(back) = back else { return };
        sink = back;
        match ended {
            Ok(_) if !follows => return,
            Ok(moved) => {
                if moved {
                    pause = PAUSE_FIRST;
                }
                if !runs(&docker, &place.container).await {
                    if !stops_early {
                        return;
                    }
                    follows = false;
                    continue;
                }
            }
            Err(error) if meaning(&error) == Meaning::Unreachable => {}
            Err(error) => {
                // `none` and remote log drivers cannot be read: then there is nothing to keep.
                tracing::debug!(task = place.task, tty, error = sentence(&error), "output cannot be followed");
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Reads one stream to its end; says whether anything came.
async fn read(
    docker: &Docker,
    container: &str,
    options: bollard::query_parameters::LogsOptions,
    mut sink: Sink,
) -> (Option<Sink>, Result<bool, bollard::errors::Error>) {
    let mut batches = std::pin::pin!(docker.logs(container, Some(options)).ready_chunks(BATCH));
    let mut moved = false;
    while let Some(batch) = batches.next().await {
        let (mut entries, mut broken) = (Vec::with_capacity(batch.len()), None);
        for item in batch {
            match item {
                Ok(LogOutput::StdErr { message }) => entries.push((1, message)),
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => entries.push((0, message)),
                Ok(LogOutput::StdIn { .. }) => {}
                Err(error) => broken = Some(error),
            }
        }
        moved |= !entries.is_empty();
        let written = tokio::task::spawn_blocking(move || {
            sink.take(entries);
            sink
        });
        match written.await {
            Ok(back) => sink = back,
            Err(_) => return (None, Ok(moved)),
        }
        if let Some(error) = broken {
            return (Some(sink), Err(error));
        }
    }
    (Some(sink), Ok(moved))
}

async fn runs(docker: &Docker, container: &str) -> bool {
    match timely(docker.inspect_container(container, None)).await {
        Ok(found) => found.state.and_then(|state| state.running) == Some(true),
        Err(error) => meaning(&error) == Meaning::Unreachable,
    }
}

/// Forgets how far the output of a task had come.
pub(super) fn forget(note: &Path) {
    let _ = std::fs::remove_file(note);
}

/// Seconds since 1970 of a time in the daemon's notation.
fn unix_seconds(time: &str) -> Option<i64> {
    let part = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    // Days since 1970 in the civil calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + part(11, 13)? * 3_600 + part(14, 16)? * 60 + part(17, 19)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::fake_engine::FakeEngine;

    fn place(dir: &Path) -> Place {
        Place {
            dir: dir.to_path_buf(),
            task: "t".into(),
            note: dir.join("note"),
            max_files: 3,
            max_bytes: 20,
            container: "c".into(),
        }
    }

    fn entry(nanos: u32, text: &str) -> (usize, Bytes) {
        (0, Bytes::from(format!("2026-11-21T11:43:45.{nanos:09}Z {text}")))
    }

    fn output(dir: &Path) -> String {
        (0..10).filter_map(|n| std::fs::read_to_string(dir.join(format!("t.stdout.{n}"))).ok()).collect()
    }

    #[test]
    fn times_are_read_as_seconds() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00.000000000Z"), Some(0));
        assert_eq!(unix_seconds("2000-02-29T12:00:01.000000000Z"), Some(951_825_601));
        assert_eq!(unix_seconds("2026-11-21T11:43:45.123456789Z"), Some(1_795_261_425));
        assert_eq!(unix_seconds(""), None);
    }

    #[test]
    fn an_entry_is_taken_once_however_often_it_comes_docker_48() {
        let dir = tempfile::tempdir().unwrap();
        let all = || vec![entry(1, "a\n"), entry(2, "b"), entry(2, "b"), entry(2, "c\n"), entry(3, "d\n")];
        let mut sink = Sink::open(&place(dir.path())).unwrap();
        sink.take(all()[..3].to_vec());
        // The connection broke: everything comes again.
        sink.again();
        sink.take(all()[..4].to_vec());
        drop(sink);
        // Another agent.
        let mut sink = Sink::open(&place(dir.path())).unwrap();
        assert_eq!(sink.since(), 1_795_261_420);
        sink.take(all());
        assert_eq!(output(dir.path()), "a\nbbc\nd\n");
    }

    #[test]
    fn what_the_daemon_tells_again_by_itself_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(&place(dir.path())).unwrap();
        sink.take(vec![entry(1, "a\n"), entry(2, "b\n"), entry(3, "c"), entry(3, "c\n")]);
        // One stream, over a change of the daemon's files.
        sink.take(vec![entry(1, "a\n"), entry(2, "b\n"), entry(3, "c"), entry(3, "c\n"), entry(4, "d\n")]);
        assert_eq!(output(dir.path()), "a\nb\ncc\nd\n");
    }

    #[test]
    fn bytes_written_after_the_last_note_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(&place(dir.path())).unwrap();
        sink.take(vec![entry(1, "first\n")]);
        // It dies after writing, over two files, and before noting.
        sink.streams[0].take(&entry(2, "second-line\n").1);
        sink.streams[0].take(&entry(3, "third-line-\n").1);
        drop(sink);
        let mut sink = Sink::open(&place(dir.path())).unwrap();
        sink.take(vec![entry(1, "first\n"), entry(2, "second-line\n")]);
        drop(sink);
        let mut sink = Sink::open(&place(dir.path())).unwrap();
        sink.take(vec![entry(1, "first\n"), entry(2, "second-line\n"), entry(3, "third-line-\n"), entry(4, "x\n")]);
        assert_eq!(output(dir.path()), "first\nsecond-line\nthird-line-\nx\n");
    }

    #[tokio::test]
    async fn last_lines_that_come_only_when_nobody_follows_any_more_are_kept_docker_48() {
        fn framed(entries: &[(usize, Bytes)]) -> Vec<u8> {
            let frame = |entry: &Bytes| {
                let length = u32::try_from(entry.len()).unwrap().to_be_bytes();
                [&[1, 0, 0, 0], &length[..], entry].concat()
            };
            entries.iter().flat_map(|(_, entry)| frame(entry)).collect()
        }
        let engine = FakeEngine::start(|path| match path {
            path if path.contains("follow=true") => (200, framed(&[entry(1, "a\n"), entry(2, "b\n")])),
            path if path.contains("follow=false") => {
                (200, framed(&[entry(1, "a\n"), entry(2, "b\n"), entry(2, "c\n"), entry(3, "d\n")]))
            }
            _ => (200, br#"{"State":{"Running":false}}"#.to_vec()),
        });
        let dir = tempfile::tempdir().unwrap();
        let docker = super::super::client(&engine.options()).unwrap();
        tokio::time::timeout(Duration::from_secs(20), follow(docker, place(dir.path()), false, true)).await.unwrap();
        assert_eq!(output(dir.path()), "a\nb\nc\nd\n");
    }

    #[test]
    fn an_engine_may_stop_early_unless_it_is_known_not_to() {
        let versions = [Some("20.10.24+dfsg1"), Some("22.06.0-beta.0"), Some("soon"), None];
        assert!(versions.into_iter().all(may_stop_early));
        assert!(!may_stop_early(Some("23.0.0")) && !may_stop_early(Some("28.3.1")));
    }

    #[test]
    fn another_container_of_the_task_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        Sink::open(&place(dir.path())).unwrap().take(vec![entry(5, "old\n")]);
        let mut sink = Sink::open(&Place { container: "d".into(), ..place(dir.path()) }).unwrap();
        assert_eq!(sink.since(), 0);
        sink.take(vec![entry(1, "new\n")]);
        assert_eq!(output(dir.path()), "old\nnew\n");
    }
}
