//! Launches periodic jobs when their time comes.
//!
//! Wakes when a periodic job or the record of its last launch changed, when the next one falls due, and each half minute;
//! half a second after a launch that failed.
//! A launch that is not written is tried again; one that the log refuses was taken by somebody else.

use std::sync::Arc;
use std::time::Duration;

use client::lease::Held;
use client::state::{ProposeError, new_uuid};
use control::periodic::Agenda;
use futures::StreamExt as _;
use kit::process::Shutdown;
use model::{Index, Term, Timestamp};

use crate::Controller;

/// All are looked at this often, whatever was or was not told: clocks are set, too.
const ALL_EVERY: Duration = Duration::from_secs(30);
/// Changes of rows that come together are looked at once.
const COALESCE: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(500);
const PROPOSE: Duration = Duration::from_secs(5);
/// Commands on their way at once.
const PARALLEL: usize = 16;

/// Watches until shutdown.
pub async fn run(controller: Arc<Controller>, shutdown: Shutdown) {
    let mut agenda: Option<(Term, Agenda)> = None;
    let mut told = controller.shared.periodic.subscribe();
    while !shutdown.is_requested() {
        let Some(held) = controller.active().await else {
            agenda = None;
            let _ = shutdown.or(controller.standby()).await;
            continue;
        };
        let (_, kept) = match agenda.take().filter(|(term, _)| *term == held.term) {
            Some(kept) => agenda.insert(kept),
            None => agenda.insert((held.term, Agenda::default())),
        };
        // What was told is in the copy a moment later.
        let index = *told.borrow_and_update();
        let wait = match controller.replica.reached(index, PROPOSE).await {
            Ok(_) => look(&controller, &held, kept).await,
            Err(_) => Duration::ZERO,
        };
        let woken = async {
            tokio::select! {
                _ = told.changed() => tokio::time::sleep(COALESCE).await,
                () = tokio::time::sleep(wait) => {}
            }
        };
        let _ = shutdown.or(woken).await;
    }
}

/// One look; how long until the next is due without news.
async fn look(controller: &Controller, held: &Held, agenda: &mut Agenda) -> Duration {
    let state = controller.replica.state();
    let now = Timestamp(client::clock::unix_nanos());
    let decision = agenda.decide(&state, now, &mut new_uuid);
    let fence = held.fence();
    let propose = |command| {
        let (state, fence) = (&controller.state, fence.clone());
        async move { state.propose(command, Some(fence), PROPOSE).await }
    };
    let (mut written, mut failed) = (Index(0), false);
    let mut answers = futures::stream::iter(decision.commands).map(propose).buffer_unordered(PARALLEL);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok((index, _)) => written = written.max(index),
            Err(ProposeError::Refused(refusal)) => {
                tracing::debug!(refusal = %refusal, "launch is not taken");
                failed = true;
            }
            Err(error) => {
                tracing::warn!(error = %error, "periodic job is not launched, trying again");
                failed = true;
            }
        }
    }
    if failed {
        return AGAIN;
    }
    // What was just written is seen before the next look, or it would be decided again.
    let _ = controller.replica.reached(written, PROPOSE).await;
    let ahead = decision.wake_at.map(|at| at.unix_nanos().saturating_sub(client::clock::unix_nanos()));
    let ahead = ahead.map(|nanos| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)));
    ahead.unwrap_or(ALL_EVERY).clamp(Duration::from_millis(1), ALL_EVERY)
}
