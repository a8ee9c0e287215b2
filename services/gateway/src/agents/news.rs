//! What nodes say of their allocations, gathered and handed to the controller; answered once committed.
//!
//! A node may speak of allocations that are placed on it and of no others. Where this gateway's copy of the
//! state does not have one, the copy first catches up: a message that the state machine refuses would
//! hold up those of other nodes. One that nobody has any more is passed on and left out there.

use std::time::Duration;

use api::controller::{ALLOC_NEWS, AllocNews};
use api::node::{NEWS, News};
use api::{Code, ErrorBody};
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::StatusCode;
use client::active::Active;
use fsm::State as Rows;
use fsm::command::AllocClientUpdate;
use futures::StreamExt;
use kit::guard::{Peer, Refused};
use kit::process::Shutdown;
use model::NodeId;

use super::batch::{BatchError, Batcher, Bounds, Yielding};
use super::beats::refused;
use super::{controller, fresh};
use crate::app::App;

/// Largest message of one node.
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// A longer one is read to its end, but not kept, up to this: who is cut off while sending does not hear why,
/// and would send the same again.
const DISCARDED_BYTES_MAX: usize = 32 << 20;
/// As much of a message has its room before it is there.
const FORETOLD_BYTES_MAX: usize = 64 << 10;
/// Updates in one message; a node that has more tells them in parts.
pub const UPDATES_MAX: usize = 1_024;
/// In bytes. Small batches early: a task's start is shown only after its news. One command of the log must
/// hold a batch.
const BOUNDS: Bounds = Bounds {
    pace: Duration::from_millis(3),
    batch_max: 4 << 20,
    queued_max: 64 << 20,
    yielding: Yielding { quiet: Duration::from_millis(10), factor: 2, most: Duration::from_millis(250) },
};
const CALL: Duration = Duration::from_secs(5);
/// How long a batch of news waits for a controller that takes it: longer than a dead one keeps its lease.
/// An agent waits 10 s for its answer.
const HOLD: Duration = Duration::from_secs(8);

const CATCH_UP: Duration = Duration::from_secs(2);

/// Gathers news.
pub struct NewsDesk(Batcher<Vec<AllocClientUpdate>, ()>);

impl NewsDesk {
    pub fn start(controller: Active, shutdown: Shutdown) -> Self {
        Self(Batcher::start(BOUNDS, shutdown, move |news| pass_on(controller.clone(), news)))
    }

    /// What is to be left to others in a busy time, see [`super::batch`].
    pub fn yields(&self) -> Duration {
        self.0.yields()
    }

    /// `bytes` is how long the message was.
    ///
    /// # Errors
    /// They are not committed, or it is not known.
    pub async fn tell(&self, updates: Vec<AllocClientUpdate>, bytes: usize) -> Result<(), BatchError> {
        self.0.submit(updates, u32::try_from(bytes).unwrap_or(u32::MAX)).await
    }
}

async fn pass_on(controller: Active, news: Vec<Vec<AllocClientUpdate>>) -> Result<Vec<()>, String> {
    let messages = news.len();
    let body = AllocNews { updates: news.into_iter().flatten().collect() };
    let taken: Result<Option<()>, _> = controller::post(&controller, ALLOC_NEWS, &body, CALL, HOLD).await;
    match taken {
        Ok(_) => Ok(vec![(); messages]),
        Err(error) => {
            tracing::warn!(error = %error, messages, "news of allocations is not taken, its nodes tell it again");
            Err(error)
        }
    }
}

/// Tell news of allocations
///
/// Answered once they are committed; the agent tells them again until then.
#[utoipa::path(post, path = NEWS, operation_id = "tellNews", tag = "agents", request_body = News,
    responses(
        (status = 204, description = "Committed"),
        (status = 400, description = "Not news", body = ErrorBody),
        (status = 403, description = "An allocation of another node", body = ErrorBody),
        (status = 413, description = "Too much at once; tell it in parts", body = ErrorBody),
        (status = 429, description = "Too much news is waiting", body = ErrorBody),
        (status = 503, description = "Not committed; tell again", body = ErrorBody)))]
pub async fn news(State(app): State<App>, peer: Peer, body: Body) -> Result<StatusCode, Refused> {
    let node = super::trusted_node(&app, &peer, &peer.name)?;
    let body = collect(body).await?;
    let updates = read(&body)?;
    let mut view = app.watches.view();
    if updates.iter().any(|update| view.state.alloc(&update.id).is_none()) {
        view = fresh(&app, CATCH_UP).await?;
    }
    check(&updates, &node, &view.state)?;
    if !updates.is_empty() {
        app.news.tell(updates, body.len()).await.map_err(|e| refused(&e))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn collect(body: Body) -> Result<Vec<u8>, Refused> {
    // Room is made for what is said to come, but not for much that may never come.
    let length = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX).min(FORETOLD_BYTES_MAX);
    let (mut pieces, mut kept, mut bytes) = (body.into_data_stream(), Vec::with_capacity(length), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
        bytes += piece.len();
        if bytes > DISCARDED_BYTES_MAX {
            break;
        }
        if bytes <= BODY_BYTES_MAX {
            kept.extend_from_slice(&piece);
        } else {
            kept = Vec::new();
        }
    }
    if bytes > BODY_BYTES_MAX {
        return Err(Refused::new(Code::TooLarge, format!("at most {BODY_BYTES_MAX} bytes at once")));
    }
    Ok(kept)
}

fn read(body: &[u8]) -> Result<Vec<AllocClientUpdate>, Refused> {
    let news: News = serde_json::from_slice(body).map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
    if news.updates.len() > UPDATES_MAX {
        return Err(Refused::new(Code::TooLarge, format!("at most {UPDATES_MAX} updates at once")));
    }
    Ok(news.updates)
}

/// All of it is the node's own.
fn check(updates: &[AllocClientUpdate], node: &NodeId, rows: &Rows) -> Result<(), Refused> {
    let foreign = |update: &&AllocClientUpdate| {
        update.node_id != *node || rows.alloc(&update.id).is_some_and(|row| row.node_id != *node)
    };
    match updates.iter().find(foreign) {
        None => Ok(()),
        Some(update) => {
            tracing::warn!(node_id = %node, alloc_id = %update.id, "an agent told news of another node's allocation");
            Err(Refused::new(Code::Forbidden, format!("allocation {} is not this node's", update.id)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(alloc: &str, node: &str) -> AllocClientUpdate {
        AllocClientUpdate { id: alloc.into(), node_id: node.into(), ..AllocClientUpdate::default() }
    }

    fn said(updates: Vec<AllocClientUpdate>) -> Result<usize, Code> {
        let body = serde_json::to_vec(&News { updates }).unwrap();
        let updates = read(&body).map_err(|refused| refused.0.code())?;
        check(&updates, &NodeId::from("n"), &Rows::default()).map_err(|refused| refused.0.code())?;
        Ok(updates.len())
    }

    #[tokio::test]
    async fn what_is_too_long_is_read_to_its_end_and_not_kept() {
        let pieces = |count: usize| {
            let pieces = (0..count).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
            Body::from_stream(futures::stream::iter(pieces))
        };
        assert_eq!(collect(pieces(32)).await.unwrap().len(), BODY_BYTES_MAX);
        for count in [33, 400, 100_000] {
            assert_eq!(collect(pieces(count)).await.unwrap_err().0.code(), Code::TooLarge);
        }
    }

    #[test]
    fn a_message_is_bounded_and_of_one_node_only() {
        assert_eq!(said(vec![]), Ok(0));
        assert_eq!(said((0..UPDATES_MAX).map(|n| update(&n.to_string(), "n")).collect()), Ok(UPDATES_MAX));
        assert_eq!(said((0..=UPDATES_MAX).map(|n| update(&n.to_string(), "n")).collect()), Err(Code::TooLarge));
        assert_eq!(said(vec![update("a", "n"), update("b", "other")]), Err(Code::Forbidden));
        let nonsense = [&b"[["[..], &b"{\"updates\":7}"[..], &b""[..], &[b'['; 10_000][..]];
        for body in nonsense {
            assert_eq!(read(body).unwrap_err().0.code(), Code::BadRequest);
        }
    }
}
