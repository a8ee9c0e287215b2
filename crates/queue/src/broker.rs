//! The broker: every open evaluation, where it stands, and who has it.
//!
//! ```text
//!  row pending ──► Timed ──due──► admit ─┬─► Ready ──dequeue──► Out ──ack──► Acked ──row seen──► gone
//!                    ▲                   └─► Behind (same job)    │ nack / session dead / too long
//!                    └──────────── Backoff ◄──────────────────────┘──► at the failure limit: Finishing
//!  row blocked ──► Blocked tracker ──freed──► Effect::Unblock ──► row pending
//!  superseded, duplicate, given up ──► Finishing ──► Effect::Finish ──► row terminal ──► gone
//! ```
//!
//! Invariants
//! 1. Of one (namespace, job) at most one evaluation is Ready, Out or Acked: the slot's holder. A slot
//!    with something Behind has a holder.
//! 2. A token names one delivery and is valid while that delivery stands; no two deliveries share one.
//! 3. Only a worker that *says* it failed brings an evaluation nearer to its limit. A dead session or a
//!    silent one does not.
//! 4. An acknowledged evaluation leaves when its row was seen at the acknowledged index; if the row is
//!    still pending then, unchanged, the worker lied and it counts as a failure. So a feed that lags
//!    behind the worker neither loses an evaluation nor delivers a finished one again.
//! 5. Nothing is delivered before the feed has reached the lease's own index, and every delivery's wait
//!    index is at least the lease's index, the row's, and that of the job's newest evaluation or plan.
//! 6. What waits behind is superseded only by a decision that the log shows was made on a state which
//!    included it (`SnapshotIndex` of a completed or blocked row of the job).
//! 7. A standby keeps the same rows and decides nothing; [`Broker::activate`] starts from the rows.
//!
//! Who drives it: the broker service, one call at a time, and [`Broker::tick`] when
//! [`Broker::next_deadline_ms`] has come. It fails by being wrong about nothing but liveness: what it
//! holds is rebuilt from rows, and safety rests on the fences of the state machine. An operator sees
//! trouble in [`Stats`]: evaluations that stay ready, unacked, or finishing.
//!
//! Deliberately absent: an enqueue call, random choice among kinds (equal heads go by age), timers.

mod deliver;
mod place;
mod rows;
mod tick;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use model::{EvalId, Evaluation, Index, Term, Timestamp};

use crate::blocked::Blocked;
use crate::finish::Finishing;
use crate::kind::Kind;
use crate::limits::Limits;
use crate::ready::{JobKey, Ready, Slot, ready_key};
use crate::stats::{BlockedResources, KindStats, Stats};
use crate::time::Now;

/// Names a worker's session; made by the worker, new at each connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

impl From<&str> for SessionId {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a call of a worker was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The worker asks another broker.
    #[error("this broker does not hold the lease")]
    NotActive,
    /// The worker waits and tries again.
    #[error("as many sessions are open as may be")]
    TooManySessions,
    /// The worker opens a new session; what it held was or will be delivered again.
    #[error("session is not open")]
    UnknownSession,
    /// The worker drops the evaluation.
    #[error("evaluation is not outstanding")]
    NotOutstanding,
    /// The worker drops the evaluation: somebody else has it.
    #[error("token is not the one of the present delivery")]
    TokenMismatch,
}

/// One evaluation handed to one worker.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub eval: Arc<Evaluation>,
    /// `<lease term>-<number>`.
    pub token: String,
    /// The worker's state must have reached this before it decides.
    pub wait_index: Index,
    /// How long it was ready.
    pub waited_ms: u64,
}

/// An accepted acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Time from delivery to acknowledgement.
    pub processed_ms: u64,
}

#[derive(Debug)]
struct Session {
    beat_ms: u64,
    out: BTreeSet<EvalId>,
}

#[derive(Clone, Debug)]
struct Out {
    session: SessionId,
    token: String,
    at_ms: u64,
    deadline_ms: u64,
    /// The row has been in another state than pending since it was delivered.
    left_pending: bool,
}

#[derive(Clone, Debug)]
struct Ack {
    index: Index,
    deadline_ms: u64,
    left_pending: bool,
}

#[derive(Debug)]
enum Place {
    Ready,
    Behind,
    Timed(Timestamp),
    Backoff(u64),
    Out(Out),
    Acked(Ack),
}

#[derive(Debug)]
struct Entry {
    row: Arc<Evaluation>,
    kind: Kind,
    place: Place,
    /// Deliveries that workers said they failed at.
    failures: u32,
    /// Deliveries that were lost with their worker.
    losses: u32,
    since_ms: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Broker {
    limits: Limits,
    active: Option<(Term, Index)>,
    paused: bool,
    /// How far the feed has been followed.
    index: Index,
    last: Now,
    tokens: u64,
    entries: BTreeMap<EvalId, Entry>,
    slots: BTreeMap<JobKey, Slot>,
    ready: Ready,
    timed: BTreeSet<(Timestamp, EvalId)>,
    backoff: BTreeSet<(u64, EvalId)>,
    deliveries: BTreeSet<(u64, EvalId)>,
    acked: BTreeSet<(Index, EvalId)>,
    blocked: Blocked,
    finishing: Finishing,
    sessions: BTreeMap<SessionId, Session>,
    overflow: usize,
    /// Not before this is a rescan asked for again.
    rescan_at_ms: u64,
}

impl Broker {
    /// A standby that has followed the feed from `index`: what was freed before is unknown to it.
    pub fn new(limits: Limits, index: Index, now: Now) -> Self {
        Self {
            limits,
            active: None,
            paused: false,
            index,
            last: now,
            tokens: 0,
            entries: BTreeMap::new(),
            slots: BTreeMap::new(),
            ready: Ready::default(),
            timed: BTreeSet::new(),
            backoff: BTreeSet::new(),
            deliveries: BTreeSet::new(),
            acked: BTreeSet::new(),
            blocked: Blocked::new(index),
            finishing: Finishing::default(),
            sessions: BTreeMap::new(),
            overflow: 0,
            rescan_at_ms: 0,
        }
    }

    /// The lease is this broker's, since `lease_index`. Everything is queued afresh from its row.
    pub fn activate(&mut self, term: Term, lease_index: Index, now: Now) {
        self.observe(now);
        self.sessions.clear();
        self.requeue_everything();
        self.active = Some((term, lease_index));
        self.tokens = 0;
    }

    /// The lease is lost or released: deliveries and sessions are void, no effects come any more.
    pub fn deactivate(&mut self, now: Now) {
        self.observe(now);
        self.active = None;
        self.sessions.clear();
        self.requeue_everything();
    }

    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Active, and the feed has reached the lease's index: deliveries are made.
    pub fn is_serving(&self) -> bool {
        !self.paused && self.active.is_some_and(|(_, lease_index)| self.index >= lease_index)
    }

    /// An operator stops the queue: no deliveries, no effects, until resumed. Rows are still followed.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// How far the feed has been followed.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Whether a dequeue for these kinds would return something now.
    pub fn has_ready(&self, kinds: &[Kind]) -> bool {
        self.is_serving() && self.ready.best(kinds).is_some()
    }

    /// The token under which an evaluation is outstanding.
    pub fn outstanding(&self, eval: &EvalId) -> Option<&str> {
        match &self.entries.get(eval)?.place {
            Place::Out(out) => Some(&out.token),
            _ => None,
        }
    }

    pub fn stats(&self) -> Stats {
        let mut by_kind: BTreeMap<Kind, KindStats> =
            Kind::ALL.into_iter().map(|kind| (kind, KindStats::default())).collect();
        for entry in self.entries.values() {
            let stats = by_kind.entry(entry.kind).or_default();
            match entry.place {
                Place::Ready => {
                    stats.ready += 1;
                    let age = self.last.mono_ms.saturating_sub(entry.since_ms);
                    stats.oldest_ready_ms = stats.oldest_ready_ms.max(age);
                }
                Place::Behind => stats.pending += 1,
                Place::Timed(_) | Place::Backoff(_) => stats.waiting += 1,
                Place::Out(_) | Place::Acked(_) => stats.unacked += 1,
            }
        }
        for kind in self.blocked.rows().filter_map(|row| Kind::of(row)) {
            by_kind.entry(kind).or_default().blocked += 1;
        }
        Stats {
            by_kind,
            escaped: self.blocked.escaped(),
            quota_limited: self.blocked.quota_limited(),
            finishing: self.finishing.len(),
            sessions: self.sessions.len(),
            overflow: self.overflow,
        }
    }

    /// What the blocked evaluations ask for, counted anew: what is no longer blocked is not in it.
    pub fn blocked_resources(&self) -> BlockedResources {
        BlockedResources::sum(self.blocked.rows().map(|row| BlockedResources::of(row)))
    }

    fn held(&self) -> usize {
        self.entries.len() + self.blocked.len() + self.finishing.len()
    }

    /// Notes the time, and forgives everybody the time in which the shell itself stood still.
    fn observe(&mut self, now: Now) {
        let gap = now.mono_ms.saturating_sub(self.last.mono_ms);
        if gap > self.limits.gap_ms {
            for session in self.sessions.values_mut() {
                session.beat_ms = session.beat_ms.saturating_add(gap);
            }
            let ids: Vec<EvalId> = self.deliveries.iter().map(|(_, id)| id.clone()).collect();
            self.deliveries.clear();
            for id in ids {
                let Some(entry) = self.entries.get_mut(&id) else { continue };
                let (Place::Out(Out { deadline_ms, .. }) | Place::Acked(Ack { deadline_ms, .. })) = &mut entry.place
                else {
                    continue;
                };
                *deadline_ms = deadline_ms.saturating_add(gap);
                self.deliveries.insert((*deadline_ms, id));
            }
        }
        self.last = Now { mono_ms: self.last.mono_ms.max(now.mono_ms), wall: now.wall };
    }

    /// Checks the invariants; for tests and simulation.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        let mut held: BTreeMap<JobKey, usize> = BTreeMap::new();
        let mut tokens = BTreeSet::new();
        for (id, entry) in &self.entries {
            assert_eq!(*id, entry.row.id, "an entry is kept under its id");
            let key = crate::ready::job_key(&entry.row);
            let slot = self.slots.get(&key).expect("every entry's job has a slot");
            *held.entry(key).or_default() += 1;
            let holds = slot.holder.as_ref() == Some(id);
            match &entry.place {
                Place::Ready | Place::Acked(_) => assert!(holds, "only a holder is ready or acknowledged"),
                Place::Out(out) => {
                    assert!(holds, "only a holder is delivered");
                    assert!(tokens.insert(&out.token), "a token names one delivery");
                    let session = self.sessions.get(&out.session).expect("a delivery belongs to an open session");
                    assert!(session.out.contains(id), "a session knows its deliveries");
                    assert!(self.deliveries.contains(&(out.deadline_ms, id.clone())), "a delivery has a deadline");
                }
                Place::Behind => {
                    assert!(!holds && slot.holder.is_some(), "who waits behind waits for somebody");
                    assert!(slot.behind.contains(&crate::ready::behind_key(&entry.row)), "the slot knows who waits");
                }
                Place::Timed(due) => {
                    assert!(!holds && self.timed.contains(&(*due, id.clone())), "a wait has a due time")
                }
                Place::Backoff(due) => {
                    assert!(!holds && self.backoff.contains(&(*due, id.clone())), "a back-off has a due time");
                }
            }
            assert!(!self.finishing.contains(id), "what is given up is not queued");
        }
        assert_eq!(held.len(), self.slots.len(), "a slot goes with its last evaluation");
        for (key, slot) in &self.slots {
            assert_eq!(held.get(key), Some(&slot.held), "a slot counts its evaluations");
        }
        let ready = self.entries.values().filter(|e| matches!(e.place, Place::Ready)).count();
        assert_eq!(ready, self.ready.len(), "the ready queues hold what is ready");
        let out: usize = self.sessions.values().map(|s| s.out.len()).sum();
        assert_eq!(out, tokens.len(), "sessions hold what is delivered");
        assert!(
            self.entries
                .values()
                .filter(|e| matches!(e.place, Place::Ready))
                .all(|e| self.ready.best(&[e.kind]).is_some_and(|best| *best <= ready_key(&e.row))),
            "the head is the best"
        );
    }
}
