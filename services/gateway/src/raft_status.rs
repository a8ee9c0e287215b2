//! Who leads? Asked of the state servers, since gossip and rows may be behind.

use std::time::Duration;

use api::state::{RAFT_STATUS, RaftStatus};
use client::http::Target;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::Role;

use crate::app::App;

const ASK: Duration = Duration::from_millis(900);

/// Raft as a state server sees it: the first that knows a leader, else the last that answers. All are asked at
/// once, for one that is frozen answers nothing.
pub async fn ask(app: &App) -> Option<RaftStatus> {
    let ask = |peer: client::peers::PeerAddr| async move {
        let target = Target::new(peer.addr, Role::State);
        let answer = app.http.get_json::<RaftStatus>(target, RAFT_STATUS, ASK).await;
        answer.inspect_err(|error| tracing::debug!(peer = peer.name, error = %error, "no raft status")).ok()
    };
    let mut asked: FuturesUnordered<_> = app.peers.peers(Role::State).into_iter().map(ask).collect();
    let mut found = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Some(status) if status.leader.is_some() => return Some(status),
            Some(status) => found = Some(status),
            None => {}
        }
    }
    found
}
