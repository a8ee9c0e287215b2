//! The state machine as raft drives it: bytes in, replies out, and every change into the feed.
//!
//! One writer (raft's apply thread) changes the state and publishes it; readers take the published one.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use api::state::Proposed;
use arc_swap::ArcSwap;
use bytes::Bytes;
use fsm::command::{Command, Envelope};
use fsm::{Refusal, Reply, RestoreStep, State};
use model::Index;
use tokio::sync::watch;

use crate::feed::{Feed, Line};
use crate::numbers::Numbers;

pub struct Machine {
    writer: Mutex<State>,
    published: ArcSwap<State>,
    feed: Arc<Feed>,
    applied: watch::Sender<Index>,
    /// Commands that were read when they came in here, and when that was, by where their bytes lie.
    read: Mutex<HashMap<(usize, usize), (Envelope, Instant)>>,
    numbers: Numbers,
}

/// A command on its way through the log, that need not be read again when it comes out here. Keeps the
/// bytes where they are as long as they are known by their place.
pub struct Expected {
    machine: Arc<Machine>,
    bytes: Bytes,
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.machine.read).remove(&place(&self.bytes));
    }
}

fn place(bytes: &Bytes) -> (usize, usize) {
    (bytes.as_ptr() as usize, bytes.len())
}

impl Machine {
    pub fn new(feed: Arc<Feed>, numbers: Numbers) -> Self {
        Self {
            writer: Mutex::new(State::default()),
            published: ArcSwap::from_pointee(State::default()),
            feed,
            applied: watch::Sender::default(),
            read: Mutex::default(),
            numbers,
        }
    }

    /// `envelope` is what `bytes` say.
    pub fn expect(self: &Arc<Self>, bytes: &Bytes, envelope: Envelope) -> Expected {
        lock(&self.read).insert(place(bytes), (envelope, Instant::now()));
        Expected { machine: Arc::clone(self), bytes: bytes.clone() }
    }

    /// The state as of the last batch applied.
    pub fn state(&self) -> Arc<State> {
        self.published.load_full()
    }

    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Index of the last log entry applied, blank ones included.
    pub fn applied_index(&self) -> watch::Receiver<Index> {
        self.applied.subscribe()
    }

    fn apply_one(&self, state: &mut State, index: u64, bytes: &Bytes) -> Reply {
        let index = Index(index + state.offset());
        let expected = lock(&self.read).remove(&place(bytes)).map(|(envelope, proposed)| {
            self.numbers.committed(proposed);
            envelope
        });
        let began = Instant::now();
        let envelope: Envelope = match expected.map_or_else(|| serde_json::from_slice(bytes), Ok) {
            Ok(envelope) => envelope,
            Err(error) => {
                // The same on every server: the entry changes nothing.
                tracing::error!(index = index.get(), error = %error, "log entry is no command");
                return Reply::Refused(Refusal::Invalid("log entry is no command".to_owned()));
            }
        };
        let previous = self.feed.last();
        let outcome = fsm::apply_entry(state, index, &envelope, bytes);
        self.numbers.applied(&envelope.command, began);
        let epoch = Arc::from(state.cluster().epoch.as_str());
        let restored = matches!(envelope.command, Command::Restore(RestoreStep::Commit { .. }));
        if restored && outcome.reply == Reply::Done {
            // A snapshot took the state's place: nobody goes on across that.
            self.feed.reset(state.index(), epoch);
            return outcome.reply;
        }
        match Line::new(index, previous, epoch, state.hash_text(), outcome.cause, outcome.changes, outcome.texts) {
            Some(line) => self.feed.push(line),
            None => {
                tracing::error!(index = index.get(), "row change cannot be written as json");
                self.feed.reset(index, Arc::from(state.cluster().epoch.as_str()));
            }
        }
        outcome.reply
    }
}

impl raft::Machine for Machine {
    fn apply(&self, batch: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let mut state = lock(&self.writer);
        let began = Instant::now();
        let mut replies = Vec::with_capacity(batch.len());
        for (index, bytes) in &batch {
            let reply = self.apply_one(&mut state, *index, bytes);
            // After a restore, the state's index is not the log's.
            let proposed = Proposed { index: state.index(), reply };
            replies.push(serde_json::to_vec(&proposed).unwrap_or_default().into());
        }
        self.published.store(Arc::new(state.clone()));
        self.feed.announce();
        self.numbers.batch(batch.len(), began);
        replies
    }

    fn applied(&self, index: u64) {
        self.applied.send_replace(Index(index));
    }

    fn freeze(&self) -> raft::Frozen {
        let state = self.state();
        Box::new(move |w: &mut dyn Write| fsm::write_snapshot(&state, w, None).map_err(io::Error::other))
    }

    fn restore(&self, _index: u64, r: &mut dyn Read) -> io::Result<()> {
        let restored = fsm::read_snapshot(BufReader::new(r)).map_err(io::Error::other)?;
        let mut state = lock(&self.writer);
        *state = restored;
        self.feed.reset(state.index(), Arc::from(state.cluster().epoch.as_str()));
        self.published.store(Arc::new(state.clone()));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
