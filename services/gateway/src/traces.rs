//! Asks the schedulers what they remember of an evaluation.

use std::time::Duration;

use api::explain::{EvalTrace, trace_path};
use client::http::Target;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::{EvalId, Role};

use crate::app::App;

const ASK: Duration = Duration::from_secs(2);

/// What is remembered, by the scheduler that knows the most recent: an evaluation that was delivered twice may
/// have been with two. All are asked at once.
pub async fn ask(app: &App, eval: &EvalId) -> Option<EvalTrace> {
    let path = trace_path(eval);
    let ask = |peer: client::peers::PeerAddr| {
        let path = path.as_str();
        async move {
            let target = Target::new(peer.addr, Role::Scheduler);
            let answer = app.http.get_json::<EvalTrace>(target, path, ASK).await;
            answer.inspect_err(|error| tracing::debug!(peer = peer.name, error = %error, "no trace")).ok()
        }
    };
    let asked: FuturesUnordered<_> = app.peers.peers(Role::Scheduler).into_iter().map(ask).collect();
    let found: Vec<EvalTrace> = asked.filter_map(|answer| async { answer }).collect().await;
    found.into_iter().max_by_key(|trace| trace.timeline.last().map(|moment| moment.time))
}
