//! The controller's endpoints: beats and news of nodes, by way of the gateways.

use std::sync::Arc;

use api::controller::{AllocNews, Beats, BeatsTaken, Collect, Collected};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kit::guard::{Refused, require};
use model::{NodeStatus, Role};
use tokio::sync::{mpsc, oneshot};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Controller;
use crate::news::News;
use crate::shared::now_ms;

const GATEWAYS: &[Role] = &[Role::Gateway];

#[derive(Clone)]
pub struct App {
    pub controller: Arc<Controller>,
    pub news: mpsc::Sender<News>,
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(beats))
        .routes(routes!(alloc_news))
        .routes(routes!(collect))
        .layer(require(GATEWAYS))
}

/// Beats
///
/// Signs of life of nodes, and broken streams.
#[utoipa::path(post, path = api::controller::BEATS, operation_id = "takeBeats", tag = "nodes",
    request_body = Beats,
    responses(
        (status = 200, description = "Taken", body = BeatsTaken),
        (status = 403, description = "The caller is no gateway", body = ErrorBody),
        (status = 503, description = "Not the active controller", body = ErrorBody)))]
async fn beats(State(app): State<App>, Json(beats): Json<Beats>) -> Result<Json<BeatsTaken>, Refused> {
    let controller = &app.controller;
    let not_active = || Refused::new(Code::NotActive, "this controller is not the active one");
    let held = controller.active().await.ok_or_else(not_active)?;
    let state = controller.replica.state();
    let mut unknown = Vec::new();
    let mut news = false;
    let mut watch = controller.shared.lock();
    watch.begin(held.term, &state, now_ms());
    let mut period_ms = watch.beats.schedule().period_ms;
    for id in &beats.nodes {
        match state.node(id) {
            Some(node) => {
                period_ms = watch.beats.beat(id, &beats.gateway, now_ms()).period_ms;
                if node.status != NodeStatus::Ready {
                    watch.returning.insert(id.clone());
                    news = true;
                }
                news |= state.is_suspect(id);
            }
            None => unknown.push(id.clone()),
        }
    }
    for id in &beats.broken {
        if watch.beats.suspect(id, now_ms()) {
            tracing::info!(node_id = %id, "node's stream broke, waiting for a beat");
            news = true;
        }
    }
    drop(watch);
    if news {
        controller.shared.nodes.notify_one();
    }
    Ok(Json(BeatsTaken { period_ms, unknown }))
}

/// News of allocations
///
/// Answered once it is committed.
#[utoipa::path(post, path = api::controller::ALLOC_NEWS, operation_id = "takeAllocNews", tag = "nodes",
    request_body = AllocNews,
    responses(
        (status = 204, description = "Committed"),
        (status = 403, description = "The caller is no gateway", body = ErrorBody),
        (status = 429, description = "Too much news is waiting", body = ErrorBody),
        (status = 503, description = "Not the active controller, or no leader; send it again", body = ErrorBody)))]
async fn alloc_news(State(app): State<App>, Json(news): Json<AllocNews>) -> Result<StatusCode, Refused> {
    let (done, committed) = oneshot::channel();
    app.news
        .try_send(News { updates: news.updates, done })
        .map_err(|_| Refused::new(Code::TooMany, "too much news of allocations is waiting"))?;
    match committed.await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        _ => Err(Refused::new(Code::NotActive, "the news was not committed, send it again")),
    }
}

/// Collect garbage
///
/// Forgets all that is over, however young. Answered when nothing is left, or when its time is up.
#[utoipa::path(post, path = api::controller::COLLECT, operation_id = "collect", tag = "rows",
    request_body = Collect,
    responses(
        (status = 200, description = "Forgotten", body = Collected),
        (status = 403, description = "The caller is no gateway", body = ErrorBody),
        (status = 503, description = "Not the active controller, or no leader; ask again", body = ErrorBody)))]
async fn collect(State(app): State<App>, Json(ask): Json<Collect>) -> Result<Json<Collected>, Refused> {
    let unable = |text: String| Refused::new(Code::NotActive, text);
    let commands = crate::reap::collect(&app.controller, ask.index).await.map_err(unable)?;
    Ok(Json(Collected { commands }))
}
