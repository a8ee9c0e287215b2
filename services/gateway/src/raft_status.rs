//! Who leads? Asked of the state servers, since gossip and rows may be behind.

use std::pin::pin;
use std::time::Duration;

use api::state::{RAFT_STATUS, RaftStatus};
use client::http::Call;
use futures::StreamExt;
use model::Role;

use crate::app::App;

const ASK: Duration = Duration::from_millis(900);

/// Raft as a state server sees it: the first that knows a leader, else the last that answers. All are asked at
/// once, for one that is frozen answers nothing.
pub async fn ask(app: &App) -> Option<RaftStatus> {
    let call = Call::get(RAFT_STATUS, ASK);
    let mut answers = pin!(app.any(Role::State).ask_all::<RaftStatus>(&call));
    let mut found = None;
    while let Some(status) = answers.next().await {
        if status.leader.is_some() {
            return Some(status);
        }
        found = Some(status);
    }
    found
}
