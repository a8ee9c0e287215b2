//! What nodes say of their allocations, gathered and handed to the controller; answered once committed.

use std::time::Duration;

use api::ErrorBody;
use api::controller::{ALLOC_NEWS, AllocNews};
use api::node::{NEWS, News};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use client::active::Active;
use fsm::command::AllocClientUpdate;
use kit::guard::{Peer, Refused};
use kit::process::Shutdown;

use super::batch::{BatchError, Batcher};
use super::beats::refused;
use super::{controller, own_node};
use crate::app::App;

/// How long the first of a batch waits for others. Short: a task's start is shown only after it.
pub const GATHER: Duration = Duration::from_millis(2);
const CALL: Duration = Duration::from_secs(10);
/// How long a batch of news waits for a controller that takes it.
const HOLD: Duration = Duration::from_secs(3);

/// Gathers news.
pub struct NewsDesk(Batcher<Vec<AllocClientUpdate>, ()>);

impl NewsDesk {
    pub fn start(controller: Active, shutdown: Shutdown) -> Self {
        Self(Batcher::start(GATHER, shutdown, move |news: Vec<Vec<AllocClientUpdate>>| {
            let controller = controller.clone();
            async move {
                let messages = news.len();
                let updates = news.into_iter().flatten().collect();
                let body = AllocNews { updates };
                let _: Option<()> = controller::post(&controller, ALLOC_NEWS, &body, CALL, HOLD).await?;
                Ok(vec![(); messages])
            }
        }))
    }

    /// # Errors
    /// They are not committed, or it is not known.
    pub async fn tell(&self, updates: Vec<AllocClientUpdate>) -> Result<(), BatchError> {
        self.0.submit(updates).await
    }
}

/// Tell news of allocations
///
/// Answered once they are committed; the agent tells them again until then.
#[utoipa::path(post, path = NEWS, operation_id = "tellNews", tag = "agents", request_body = News,
    responses(
        (status = 204, description = "Committed"),
        (status = 403, description = "An allocation of another node", body = ErrorBody),
        (status = 503, description = "Not committed; tell again", body = ErrorBody)))]
pub async fn news(State(app): State<App>, peer: Peer, Json(news): Json<News>) -> Result<StatusCode, Refused> {
    for update in &news.updates {
        own_node(&peer, update.node_id.as_str())?;
    }
    if !news.updates.is_empty() {
        app.news.tell(news.updates).await.map_err(|e| refused(&e))?;
    }
    Ok(StatusCode::NO_CONTENT)
}
