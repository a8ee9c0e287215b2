//! Performs what the queue wants: cancels, failures and unblocking, as commands under the lease.
//!
//! ```text
//!   lease, feed, clock ─► tick ─► effects ─► at most WAITING ─► performed one after the other
//! ```
//!
//! Level-triggered: an effect that is not performed (no leader, too many waiting, lease lost) is asked for
//! again by a later tick. The clock never waits for a command, so the queue learns of a lost lease and of
//! dead sessions in time whatever the log does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::lease::{Held, LeaseKeeper};
use client::state::{StateClient, new_uuid};
use fsm::command::{Command, EvalUpdate};
use kit::process::Shutdown;
use queue::Effect;
use tokio::sync::mpsc;

use crate::gauges::Gauges;
use crate::shared::{Shared, now};

const PROPOSE: Duration = Duration::from_secs(5);
const TICK_MAX: Duration = Duration::from_millis(500);
/// While another holds the lease: it comes with a word of its own.
const STANDBY: Duration = Duration::from_secs(5);
/// A short floor, so that an effect that cannot be performed is not tried in a tight loop.
const TICK_MIN: Duration = Duration::from_millis(2);
/// Effects on their way; further ones are asked for again.
const WAITING: usize = 64;
/// Counting the whole queue for the gauges takes time that grows with it.
const SHOW_EVERY: Duration = Duration::from_secs(1);

pub struct Ticker {
    pub shared: Arc<Shared>,
    pub lease: LeaseKeeper,
    pub state: StateClient,
    pub gauges: Gauges,
}

impl Ticker {
    pub async fn run(self, shutdown: Shutdown) {
        let (wishes, waiting) = mpsc::channel(WAITING);
        let performing = tokio::spawn(perform_all(self.state.clone(), waiting));
        let (mut term, mut shown) = (None, None);
        while !shutdown.is_requested() {
            let held = self.follow_lease(&mut term);
            let effects = self.shared.lock().tick(now(), &mut new_uuid, &|_, _| true);
            if let Some(held) = held {
                effects.into_iter().for_each(|effect| self.wish(effect, &held, &wishes));
            }
            self.shared.work.notify_waiters();
            if shown.is_none_or(|at: Instant| at.elapsed() >= SHOW_EVERY) {
                shown = Some(Instant::now());
                self.gauges.show(&self.shared.lock().stats());
            }
            let _ = shutdown.or(self.pause()).await;
        }
        performing.abort();
    }

    /// Tells the queue when the lease comes and goes.
    fn follow_lease(&self, term: &mut Option<model::Term>) -> Option<Held> {
        let held = self.lease.current();
        let new = held.as_ref().map(|h| h.term);
        if new != *term {
            let mut broker = self.shared.lock();
            match &held {
                Some(held) => broker.activate(held.term, held.index, now()),
                None => broker.deactivate(now()),
            }
            *term = new;
        }
        held
    }

    async fn pause(&self) {
        let deadline = self.shared.lock().next_deadline_ms();
        let mut lease = self.lease.watch();
        let held = lease.borrow_and_update().is_some();
        let most = if held { TICK_MAX } else { STANDBY };
        let tick = async {
            match deadline.map(|at| Duration::from_millis(at.saturating_sub(now().mono_ms))) {
                Some(wait) => tokio::time::sleep(wait.clamp(TICK_MIN, most)).await,
                None => client::calm::about(most).await,
            }
        };
        let begun = tokio::time::Instant::now();
        tokio::select! {
            () = self.shared.tick.notified() => {}
            _ = lease.changed() => {}
            () = tick => {}
        }
        // A busy feed wakes all the time; a tick is for all that came.
        tokio::time::sleep_until(begun + TICK_MIN).await;
    }

    fn wish(&self, effect: Effect, held: &Held, wishes: &mpsc::Sender<(Command, Held)>) {
        let command = match effect {
            Effect::Unblock { evals, reason } => Command::EvalUnblock { evals, reason: reason.as_str().to_owned() },
            Effect::Finish { evals, create } => {
                Command::EvalFinish { evals: evals.into_iter().map(|eval| EvalUpdate { eval }).collect(), create }
            }
            Effect::Rescan => {
                self.shared.refill.store(true, Ordering::Release);
                return;
            }
        };
        if wishes.try_send((command, held.clone())).is_err() {
            tracing::debug!("more of the queue's wishes than are carried out at once");
        }
    }
}

async fn perform_all(state: StateClient, mut waiting: mpsc::Receiver<(Command, Held)>) {
    while let Some((command, held)) = waiting.recv().await {
        if !held.is_valid() {
            continue;
        }
        if let Err(error) = state.propose(command, Some(held.fence()), PROPOSE).await {
            tracing::warn!(error = %error, "queue's wish is not carried out yet");
        }
    }
}
