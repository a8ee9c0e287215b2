//! The queue as the handlers, the feed and the clock share it.
//!
//! One lock around the sans-io machine, held for moments; whoever changes something wakes the pollers
//! and the ticker.

use std::sync::atomic::{AtomicBool, Ordering};
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
    /// The queue wants to be shown all rows again; the feed does so with its next lines.
    pub refill: AtomicBool,
}

impl Shared {
    pub fn new() -> Arc<Self> {
        let broker = Broker::new(Limits::default(), Index(0), now());
        Arc::new(Self {
            broker: Mutex::new(broker),
            work: Notify::new(),
            tick: Notify::new(),
            refill: AtomicBool::new(false),
        })
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
pub struct Feed {
    shared: Arc<Shared>,
    news: bool,
}

impl Feed {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, news: false }
    }
}

impl Observer for Feed {
    fn reset(&mut self, state: &Arc<State>) {
        let mut broker = self.shared.lock();
        broker.set_paused(state.scheduler_config().pause_eval_broker);
        broker.resync(state.evals(), state.index(), now());
        drop(broker);
        self.shared.refill.store(false, Ordering::Release);
        self.shared.wake();
    }

    fn line(&mut self, state: &State, line: &FeedLine) {
        let mut broker = self.shared.lock();
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
        self.news |= !line.changes.is_empty();
    }

    /// Lines that came together are told together, so that their evaluations go out together.
    fn settled(&mut self, state: &Arc<State>) {
        if self.shared.refill.swap(false, Ordering::AcqRel) {
            // Here, and only here, the rows are exactly those that the queue has seen.
            self.shared.lock().refill(state.evals(), now());
            self.news = true;
        }
        if std::mem::take(&mut self.news) {
            self.shared.wake();
        }
    }
}
