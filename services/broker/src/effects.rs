//! Performs what the queue wants: cancels, failures and unblocking, as commands under the lease.
//!
//! Level-triggered: an effect whose command fails is asked for again by the next tick.

use std::sync::Arc;
use std::time::Duration;

use client::lease::{Held, LeaseKeeper};
use client::replica::Replica;
use client::state::{StateClient, new_uuid};
use fsm::command::{Command, EvalUpdate};
use kit::process::Shutdown;
use queue::Effect;

use crate::shared::{Shared, now};

const PROPOSE: Duration = Duration::from_secs(5);
const TICK_MAX: Duration = Duration::from_millis(500);

pub struct Ticker {
    pub shared: Arc<Shared>,
    pub lease: LeaseKeeper,
    pub replica: Replica,
    pub state: StateClient,
    pub gauges: crate::gauges::Gauges,
}

impl Ticker {
    pub async fn run(self, shutdown: Shutdown) {
        let mut term = None;
        while !shutdown.is_requested() {
            let held = self.follow_lease(&mut term);
            let effects = {
                let mut broker = self.shared.lock();
                let state = self.replica.state();
                let exists = |namespace: &_, id: &_| state.job(namespace, id).is_some();
                broker.tick(now(), &mut new_uuid, &exists)
            };
            if let Some(held) = held {
                for effect in effects {
                    self.perform(effect, &held).await;
                }
            }
            self.shared.work.notify_waiters();
            self.gauges.show(&self.shared.lock().stats());
            let _ = shutdown.or(self.pause()).await;
        }
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
        let wait = deadline.map_or(TICK_MAX, |at| Duration::from_millis(at.saturating_sub(now().mono_ms)));
        let mut lease = self.lease.watch();
        lease.borrow_and_update();
        // A short floor, so that an effect that cannot be performed is not tried in a tight loop.
        let wait = wait.clamp(Duration::from_millis(2), TICK_MAX);
        tokio::select! {
            () = self.shared.tick.notified() => {}
            _ = lease.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    async fn perform(&self, effect: Effect, held: &Held) {
        let command = match effect {
            Effect::Unblock { evals, reason } => Command::EvalUnblock { evals, reason: reason.as_str().to_owned() },
            Effect::Finish { evals, create } => {
                Command::EvalFinish { evals: evals.into_iter().map(|eval| EvalUpdate { eval }).collect(), create }
            }
            Effect::Rescan => {
                let state = self.replica.state();
                self.shared.lock().refill(state.evals(), now());
                return;
            }
        };
        if let Err(error) = self.state.propose(command, Some(held.fence()), PROPOSE).await {
            tracing::warn!(error = %error, "queue's wish is not carried out yet");
        }
    }
}
