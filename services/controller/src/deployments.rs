//! Moves deployments on: looks at each when rows it depends on changed, and when its own time comes.
//!
//! ```text
//!   feed ─► touched ─┐
//!   own moments ─────┼─► decide each ─► commands, at most PARALLEL on their way ─► seen in the replica
//!   now and then all ┘                     └ not written: again in a moment
//! ```
//!
//! How much is looked at follows from what changed, not from how many deployments there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::lease::Held;
use client::state::new_uuid;
use fsm::{Command, State};
use futures::StreamExt as _;
use kit::process::Shutdown;
use model::{DeploymentId, Index, Nanos, Term, Timestamp};

use crate::Controller;

/// All of them are looked at this often, whatever was or was not told.
const ALL_EVERY: Duration = Duration::from_secs(30);
/// Changes of rows that come together are looked at once.
const COALESCE: Duration = Duration::from_millis(10);
const PROPOSE: Duration = Duration::from_secs(5);
/// After a command that was not written.
const AGAIN: Nanos = Nanos::from_millis(500);
/// Commands on their way at once.
const PARALLEL: usize = 16;

/// Watches until shutdown.
pub async fn run(controller: Arc<Controller>, shutdown: Shutdown) {
    let mut agenda = Agenda::default();
    while !shutdown.is_requested() {
        let Some(held) = controller.active().await else {
            agenda = Agenda::default();
            let _ = shutdown.or(controller.standby()).await;
            continue;
        };
        let wait = look(&controller, &held, &mut agenda).await;
        let woken = async {
            tokio::select! {
                () = controller.shared.deployments.notified() => tokio::time::sleep(COALESCE).await,
                () = tokio::time::sleep(wait) => {}
            }
        };
        let _ = shutdown.or(woken).await;
    }
}

/// When which deployment is to be looked at without news.
#[derive(Default)]
struct Agenda {
    term: Option<Term>,
    all_at: Timestamp,
    due: BTreeSet<(Timestamp, DeploymentId)>,
    at: BTreeMap<DeploymentId, Timestamp>,
}

impl Agenda {
    fn set(&mut self, id: &DeploymentId, at: Option<Timestamp>) {
        if let Some(old) = self.at.remove(id) {
            self.due.remove(&(old, id.clone()));
        }
        if let Some(at) = at {
            self.at.insert(id.clone(), at);
            self.due.insert((at, id.clone()));
        }
    }

    /// Those whose time has come, and those that something happened to; all when `touched` says so, the
    /// term is new, or it is time.
    fn take(
        &mut self,
        state: &State,
        term: Term,
        touched: Option<BTreeSet<DeploymentId>>,
        now: Timestamp,
    ) -> BTreeSet<DeploymentId> {
        let anew = self.term != Some(term) || self.all_at <= now;
        let mut ids = match touched.filter(|_| !anew) {
            Some(ids) => ids,
            None => {
                (self.term, self.all_at) = (Some(term), now.plus(Nanos::from_secs(ALL_EVERY.as_secs() as i64)));
                state.deployments().filter(|d| d.status.is_active()).map(|d| d.id.clone()).collect()
            }
        };
        while let Some((at, id)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            self.due.remove(&(at, id.clone()));
            self.at.remove(&id);
            ids.insert(id);
        }
        ids
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let next = self.due.first().map_or(self.all_at, |(at, _)| (*at).min(self.all_at));
        let ahead = u64::try_from(next.unix_nanos().saturating_sub(now.unix_nanos())).unwrap_or(0);
        Duration::from_nanos(ahead).clamp(Duration::from_millis(20), ALL_EVERY)
    }
}

/// One look; how long until the next is due without news.
async fn look(controller: &Controller, held: &Held, agenda: &mut Agenda) -> Duration {
    let (touched, index) = controller.shared.touched().take();
    if controller.replica.reached(index, PROPOSE).await.is_err() {
        controller.shared.touched().touch_all();
        return AGAIN.to_std();
    }
    let state = controller.replica.state();
    let now = Timestamp(client::clock::unix_nanos());
    let mut commands = Vec::new();
    for id in agenda.take(&state, held.term, touched, now) {
        let active = state.deployment(&id).filter(|d| d.status.is_active());
        let decision = active.map(|d| control::deployment::decide(&state, d, now, &mut new_uuid)).unwrap_or_default();
        // A deadline that has passed and has no consequence is not waited for.
        agenda.set(&id, decision.wake_at.filter(|at| *at > now));
        commands.extend(decision.command.map(|command| (id, command)));
    }
    let fence = held.fence();
    let propose = |(id, command): (DeploymentId, Command)| {
        let (state, fence) = (&controller.state, fence.clone());
        async move { (id, state.propose(command, Some(fence), PROPOSE).await) }
    };
    let mut written = Index(0);
    let mut answers = futures::stream::iter(commands).map(propose).buffer_unordered(PARALLEL);
    while let Some((id, answer)) = answers.next().await {
        match answer {
            Ok((index, _)) => written = written.max(index),
            Err(error) => {
                tracing::warn!(deployment_id = %id, error = %error, "deployment is not moved on, trying again");
                agenda.set(&id, Some(now.plus(AGAIN)));
            }
        }
    }
    // What was just written is seen before the next look, or it would be decided again.
    let _ = controller.replica.reached(written, PROPOSE).await;
    agenda.wait(Timestamp(client::clock::unix_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_looked_at_when_touched_and_at_its_own_moment() {
        let (state, now) = (State::default(), Timestamp(1_000_000_000_000));
        let mut agenda = Agenda::default();
        let touched = |ids: &[&str]| Some(ids.iter().map(|id| DeploymentId::from(*id)).collect::<BTreeSet<_>>());
        assert!(agenda.take(&state, Term(1), touched(&["a"]), now).is_empty(), "a new term: all there are");
        assert_eq!(agenda.take(&state, Term(1), touched(&["a"]), now).len(), 1);
        let later = now.plus(Nanos::from_secs(5));
        agenda.set(&"b".into(), Some(later.plus(Nanos(1))));
        agenda.set(&"b".into(), Some(later));
        assert!(agenda.take(&state, Term(1), touched(&[]), now).is_empty());
        assert_eq!(agenda.wait(now), Duration::from_secs(5));
        assert_eq!(agenda.take(&state, Term(1), touched(&["a"]), later).len(), 2);
        assert!(agenda.take(&state, Term(1), touched(&[]), later).is_empty(), "once");
        assert_eq!(agenda.wait(later), ALL_EVERY - Duration::from_secs(5));
    }
}
