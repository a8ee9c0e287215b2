//! The receiving side of pipelined appends: puts calls back in the order they were made.
//!
//! ```text
//! call (session 7, sequence 2) ──▶ lane of its sender: next = 1, held {2}
//! call (session 7, sequence 1) ──▶ next = 1: pass on 1, then 2 ──▶ openraft ──▶ answers, in order
//! ```
//!
//! One lane per sender, at most [`HELD_MAX`] calls in it. A higher session replaces the lane and its
//! calls get `StreamReplaced`; a lower one is told the session we know. A call whose predecessor was
//! lost waits until its sender gives up on the stream, which it does at the first failure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::codec::{AppendAnswer, AppendCall, decode_append, encode_answer};
use crate::contract::{Error, PeerId};
use crate::log::lock;
use crate::machine::MachineAdapter;
use crate::types::TypeConfig;

type Inner = openraft::Raft<TypeConfig, MachineAdapter>;
type Answer = AppendEntriesResponse<TypeConfig>;
type Waiting = (AppendEntriesRequest<TypeConfig>, oneshot::Sender<Answer>);

const HELD_MAX: usize = 64;
/// More senders than a group has members are refused; ids are 64 bits and callers choose them.
const LANES_MAX: usize = 64;

struct Lane {
    session: u64,
    next: u64,
    held: BTreeMap<u64, Waiting>,
    pass: mpsc::Sender<Waiting>,
}

pub(crate) struct Lanes {
    raft: Inner,
    runtime: Handle,
    lanes: Mutex<HashMap<PeerId, Lane>>,
}

enum Admitted {
    Waiting(oneshot::Receiver<Answer>),
    Stale(u64),
}

impl Lanes {
    pub fn new(raft: Inner, runtime: Handle) -> Self {
        Self { raft, runtime, lanes: Mutex::new(HashMap::new()) }
    }

    /// Handles one append call. The flag tells whether it came from the leader this node follows.
    pub async fn append(&self, body: Bytes) -> Result<(Bytes, bool), Error> {
        let call = decode_append(body).map_err(|e| Error::Malformed(e.to_string()))?;
        let answer = if call.session == 0 {
            let answer = self.raft.append_entries(call.request).await;
            answer.map_err(|e| Error::Stopped(e.to_string()))?
        } else {
            match self.admit(call)? {
                Admitted::Stale(known) => {
                    let answer = AppendAnswer::<Answer>::StaleSession { known };
                    return Ok((encode_answer(&answer), false));
                }
                Admitted::Waiting(answer) => answer.await.map_err(|_| Error::StreamReplaced)?,
            }
        };
        let heard = !matches!(answer, AppendEntriesResponse::HigherVote(_));
        Ok((encode_answer(&AppendAnswer::Done(answer)), heard))
    }

    fn admit(&self, call: AppendCall) -> Result<Admitted, Error> {
        let mut lanes = lock(&self.lanes);
        if lanes.len() >= LANES_MAX && !lanes.contains_key(&call.from) {
            return Err(Error::Malformed("too many different senders".into()));
        }
        let lane = match lanes.entry(call.from) {
            std::collections::hash_map::Entry::Occupied(lane) => {
                let lane = lane.into_mut();
                if call.session < lane.session {
                    return Ok(Admitted::Stale(lane.session));
                }
                if call.session > lane.session {
                    *lane = self.open(call.session);
                }
                lane
            }
            std::collections::hash_map::Entry::Vacant(free) => free.insert(self.open(call.session)),
        };
        if call.sequence < lane.next || lane.held.len() >= HELD_MAX {
            return Err(Error::StreamReplaced);
        }
        let (done, answer) = oneshot::channel();
        lane.held.insert(call.sequence, (call.request, done));
        while let Some(waiting) = lane.held.remove(&lane.next) {
            lane.next += 1;
            // Full or closed: the stream is over; dropping the sender tells the caller.
            let _ = lane.pass.try_send(waiting);
        }
        Ok(Admitted::Waiting(answer))
    }

    fn open(&self, session: u64) -> Lane {
        let (pass, calls) = mpsc::channel(HELD_MAX);
        self.runtime.spawn(serve(self.raft.clone(), calls));
        Lane { session, next: 0, held: BTreeMap::new(), pass }
    }
}

/// Feeds one stream of calls to openraft and hands its answers back in the same order.
async fn serve(raft: Inner, calls: mpsc::Receiver<Waiting>) {
    let asked: Arc<Mutex<VecDeque<oneshot::Sender<Answer>>>> = Arc::default();
    let asking = asked.clone();
    let requests = futures::stream::unfold(calls, |mut calls| async move {
        let call = calls.recv().await?;
        Some((call, calls))
    })
    .map(move |(request, done)| {
        lock(&asking).push_back(done);
        request
    });
    let mut answers = std::pin::pin!(raft.stream_append(requests));
    while let Some(Ok(answer)) = answers.next().await {
        if let Some(done) = lock(&asked).pop_front() {
            let _ = done.send(answer.into());
        }
    }
    // Who still waits learns it from the dropped senders.
    lock(&asked).clear();
}
