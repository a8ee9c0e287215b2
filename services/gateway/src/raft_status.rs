//! Who leads? Asked of the state servers, since gossip and rows may be behind.

use std::time::Duration;

use api::state::{RAFT_STATUS, RaftStatus};
use client::http::Target;
use model::Role;

use crate::app::App;

const ASK: Duration = Duration::from_secs(1);

/// Raft as the first state server that answers sees it; one that knows a leader goes first.
pub async fn ask(app: &App) -> Option<RaftStatus> {
    let mut found = None;
    for peer in app.peers.peers(Role::State) {
        let target = Target::new(peer.addr, Role::State);
        match app.http.get_json::<RaftStatus>(target, RAFT_STATUS, ASK).await {
            Ok(status) if status.leader.is_some() => return Some(status),
            Ok(status) => found = Some(status),
            Err(error) => tracing::debug!(peer = peer.name, error = %error, "no raft status"),
        }
    }
    found
}
