//! The queue as the handlers, the feed and the clock share it.
//!
//! One lock around the sans-io machine, held for moments; whoever changes something wakes the pollers
//! and the ticker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::clock;
use client::replica::Observer;
use fsm::{Change, FeedLine, State};
use model::{Index, Timestamp};
use queue::{Broker, Freed, Limits, Now};
use tokio::sync::Notify;

pub struct Shared {
    broker: Mutex<Broker>,
    /// Something may be deliverable.
    pub work: Notify,
    /// The next deadline may have changed, or there may be effects.
    pub tick: Notify,
}

impl Shared {
    pub fn new() -> Arc<Self> {
        let broker = Broker::new(Limits::default(), Index(0), now());
        Arc::new(Self { broker: Mutex::new(broker), work: Notify::new(), tick: Notify::new() })
    }

    /// The machine; never keep it across a wait.
    pub fn lock(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wake(&self) {
        self.work.notify_waiters();
        self.tick.notify_one();
    }
}

/// Both clocks, read together.
pub fn now() -> Now {
    Now {
        mono_ms: u64::try_from(clock::boot_time().as_millis()).unwrap_or(u64::MAX),
        wall: Timestamp(clock::unix_nanos()),
    }
}

/// Hands the feed to the queue.
pub struct Feed(pub Arc<Shared>);

impl Observer for Feed {
    fn reset(&mut self, state: &Arc<State>) {
        self.0.lock().resync(state.evals(), state.index(), now());
        self.0.wake();
    }

    fn line(&mut self, state: &State, line: &FeedLine) {
        let mut broker = self.0.lock();
        let at = now();
        for change in &line.changes {
            match change {
                Change::Eval(row) => broker.on_eval(row, at),
                Change::EvalGone { id } => broker.on_eval_gone(id, at),
                Change::JobFence { namespace, id, index, .. } => broker.on_plan(namespace, id, *index),
                Change::Capacity { node, class, .. } => {
                    broker.on_freed(&Freed::Capacity { node: node.clone(), class: class.clone() }, line.index, at);
                }
                Change::SchedulerConfig(_) => broker.set_paused(state.scheduler_config().pause_eval_broker),
                _ => {}
            }
        }
        broker.on_index(line.index, at);
        let quiet = line.changes.is_empty();
        drop(broker);
        if !quiet {
            self.0.wake();
        }
    }

    fn settled(&mut self, _: &Arc<State>) {}
}
