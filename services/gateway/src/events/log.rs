//! The last events, kept once for all readers.
//!
//! ```text
//!   push ─► [ batch batch batch ]  ◄── behind(n): the batches after index n
//!            └ oldest dropped: bounded      n before the floor: Missed, with the reason
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use model::Index;
use tokio::sync::watch;

use super::shape::Event;
use super::topics::Wanted;

/// Bounds of a log.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub events_max: usize,
    /// Rows and their JSON, roughly.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events_max: 32_768, bytes_max: 32 << 20 }
    }
}

/// What a row takes beyond its JSON, roughly.
const ROW_BYTES: usize = 1024;

/// The events of one committed index; at least one.
#[derive(Debug)]
pub struct Batch {
    pub index: Index,
    pub events: Vec<Event>,
    /// The line for those who want all of it.
    whole: OnceLock<Bytes>,
    weight: Weight,
}

/// Bytes that one batch adds to its log's; they go with it.
#[derive(Debug)]
struct Weight {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Weight {
    fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Batch {
    /// The line for a reader, with its end; `None` when nothing in it was asked for.
    pub fn line(&self, wanted: &Wanted) -> Option<Bytes> {
        if wanted.is_all() {
            let make = || {
                let line = self.write(self.events.iter());
                self.weight.add(line.len());
                line
            };
            return Some(self.whole.get_or_init(make).clone());
        }
        let takes = |e: &&Event| wanted.takes(e.topic, e.namespace.as_ref(), &e.key, &e.filter_keys);
        let mut taken = self.events.iter().filter(takes).peekable();
        taken.peek()?;
        Some(self.write(taken))
    }

    fn write<'a>(&self, events: impl Iterator<Item = &'a Event>) -> Bytes {
        let mut line = BytesMut::with_capacity(1024);
        line.put_slice(format!("{{\"Index\":{},\"Events\":[", self.index).as_bytes());
        for (at, event) in events.enumerate() {
            if at > 0 {
                line.put_u8(b',');
            }
            line.put_slice(event.json(|bytes| self.weight.add(bytes)));
        }
        line.put_slice(b"]}\n");
        line.freeze()
    }
}

/// What a reader asks for is not here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// The log is bounded, and the reader is behind it.
    #[error(
        "events behind index {after} are missed: only those behind index {floor} are kept; read what stands and subscribe again"
    )]
    TooOld { after: Index, floor: Index },
    /// This gateway's copy of the state began anew.
    #[error(
        "events behind index {after} are missed: this gateway's copy of the state began anew at index {floor}; read what stands and subscribe again"
    )]
    BeganAnew { after: Index, floor: Index },
}

/// The last events. Never waits.
#[derive(Debug)]
pub struct Log {
    limits: Limits,
    kept: Mutex<Kept>,
    /// What the batches weigh, those still being read included.
    bytes: Arc<AtomicUsize>,
    last: watch::Sender<Index>,
}

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Arc<Batch>>,
    /// How many events they have.
    events: usize,
    /// Everything behind this is here.
    floor: Index,
    /// The copy began at this index.
    began: Index,
}

impl Default for Log {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Log {
    pub fn new(limits: Limits) -> Self {
        Self { limits, kept: Mutex::default(), bytes: Arc::default(), last: watch::Sender::default() }
    }

    /// Nothing up to `index` is known.
    pub fn reset(&self, index: Index) {
        *self.lock() = Kept { floor: index, began: index, ..Kept::default() };
        self.last.send_replace(index);
    }

    /// Adds what happened at an index. Nobody is woken before [`Log::announce`].
    pub fn push(&self, index: Index, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let weight = Weight { own: AtomicUsize::new(0), all: Arc::clone(&self.bytes) };
        weight.add(events.len() * ROW_BYTES);
        let mut kept = self.lock();
        kept.events += events.len();
        kept.batches.push_back(Arc::new(Batch { index, events, whole: OnceLock::new(), weight }));
        while kept.batches.len() > 1 && (kept.events > self.limits.events_max || self.bytes() > self.limits.bytes_max) {
            let Some(oldest) = kept.batches.pop_front() else { break };
            kept.floor = oldest.index;
            kept.events -= oldest.events.len();
            drop(oldest);
        }
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Wakes the readers: the state is at `index`.
    pub fn announce(&self, index: Index) {
        self.last.send_replace(index);
    }

    /// Wakes when something was announced.
    pub fn subscribe(&self) -> watch::Receiver<Index> {
        self.last.subscribe()
    }

    /// The earliest index a reader can begin behind.
    pub fn floor(&self) -> Index {
        self.lock().floor
    }

    /// Up to `max` batches behind `after`.
    ///
    /// # Errors
    /// See [`Missed`].
    pub fn behind(&self, after: Index, max: usize) -> Result<Vec<Arc<Batch>>, Missed> {
        let kept = self.lock();
        let floor = kept.floor;
        if after < kept.began {
            return Err(Missed::BeganAnew { after, floor });
        }
        if after < floor {
            return Err(Missed::TooOld { after, floor });
        }
        let start = kept.batches.partition_point(|batch| batch.index <= after);
        Ok(kept.batches.range(start..).take(max).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::shape;
    use fsm::{Change, FeedLine, State};
    use model::Evaluation;

    fn push(log: &Log, index: u64) {
        let row = Evaluation { id: format!("e{index}").into(), namespace: "default".into(), ..Evaluation::default() };
        let line = FeedLine {
            index: Index(index),
            previous: Index(index - 1),
            epoch: "e".into(),
            hash: String::new(),
            cause: String::new(),
            changes: vec![Change::Eval(Arc::new(row))],
        };
        log.push(line.index, shape::events(&State::default(), &State::default(), &line));
    }

    fn wanted(topics: &[&str]) -> Wanted {
        Wanted::parse(topics.iter().copied(), None).unwrap()
    }

    #[test]
    fn a_reader_gets_every_batch_behind_its_index_or_hears_that_some_are_missed() {
        let log = Log::new(Limits { events_max: 3, bytes_max: 1 << 20 });
        log.reset(Index(10));
        (11..=13).for_each(|index| push(&log, index));
        let indexes = |after| log.behind(Index(after), 10).map(|all| all.iter().map(|b| b.index.0).collect::<Vec<_>>());
        assert_eq!(indexes(10).unwrap(), [11, 12, 13]);
        push(&log, 14);
        assert_eq!(indexes(10), Err(Missed::TooOld { after: Index(10), floor: Index(11) }));
        assert_eq!(indexes(11).unwrap(), [12, 13, 14]);
        assert_eq!(indexes(14).unwrap(), [] as [u64; 0]);
        log.reset(Index(20));
        assert_eq!(indexes(14), Err(Missed::BeganAnew { after: Index(14), floor: Index(20) }));
    }

    #[test]
    fn what_readers_make_counts_against_the_bound_and_goes_with_the_batch() {
        let log = Log::new(Limits { events_max: 100, bytes_max: 4 * ROW_BYTES });
        log.reset(Index(0));
        (1..=3).for_each(|index| push(&log, index));
        for batch in log.behind(Index(0), 10).unwrap() {
            assert!(batch.line(&wanted(&[])).is_some());
            assert!(batch.line(&wanted(&["Job"])).is_none());
        }
        assert!(log.bytes() > 4 * ROW_BYTES);
        push(&log, 4);
        assert!(log.bytes() <= 4 * ROW_BYTES, "{}", log.bytes());
        assert!(log.behind(Index(0), 10).is_err());
    }
}
