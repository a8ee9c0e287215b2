//! Asks the schedulers what they remember of an evaluation.

use std::time::Duration;

use api::explain::{EvalTrace, trace_path};
use client::http::Call;
use futures::StreamExt;
use model::{EvalId, Role};

use crate::app::App;

const ASK: Duration = Duration::from_secs(2);

/// What is remembered, by the scheduler that knows the most recent: an evaluation that was delivered twice may
/// have been with two.
pub async fn ask(app: &App, eval: &EvalId) -> Option<EvalTrace> {
    let call = Call::get(trace_path(eval), ASK);
    let found: Vec<EvalTrace> = app.any(Role::Scheduler).ask_all(&call).collect().await;
    found.into_iter().max_by_key(|trace| trace.timeline.last().map(|moment| moment.time))
}
