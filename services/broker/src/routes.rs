//! The broker's endpoints.
//!
//! A session *is* an open stream: when its connection breaks, the session ends and its evaluations go
//! out again. Beats say that the worker behind the connection is alive too.

use std::sync::Arc;
use std::time::Duration;

use api::broker::{
    BrokerStats, Delivered, Dequeue, Dequeued, Outcome, SessionBeat, SessionOpen, SessionOpened, Verdicts,
};
use api::{Code, ErrorBody};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::lease::LeaseKeeper;
use client::state::new_uuid;
use kit::guard::{Refused, require};
use kit::process::Shutdown;
use model::Role;
use queue::{Kind, QueueError, SessionId};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::shared::{Shared, now};

const SCHEDULERS: &[Role] = &[Role::Scheduler];
const READERS: &[Role] = &[Role::Scheduler, Role::Gateway, Role::Operator];
/// Longest wait of a dequeue.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A session's stream says something this often, so that a dead connection is noticed.
const STREAM_BEAT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct App {
    pub shared: Arc<Shared>,
    pub lease: LeaseKeeper,
    pub shutdown: Shutdown,
}

impl App {
    /// The queue hears of a lost lease with its next tick; who asks meanwhile hears it at once.
    fn active(&self) -> Result<(), Refused> {
        if self.lease.current().is_some() { Ok(()) } else { Err(refusal(QueueError::NotActive)) }
    }
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(
            OpenApiRouter::new()
                .routes(routes!(open_session))
                .routes(routes!(beat))
                .routes(routes!(dequeue))
                .routes(routes!(verdicts))
                .layer(require(SCHEDULERS)),
        )
        .merge(OpenApiRouter::new().routes(routes!(stats)).layer(require(READERS)))
}

/// The answer to a worker's call that the queue refuses.
fn refusal(error: QueueError) -> Refused {
    let code = match error {
        QueueError::NotActive => Code::NotActive,
        QueueError::TooManySessions => Code::TooMany,
        QueueError::UnknownSession | QueueError::NotOutstanding | QueueError::TokenMismatch => Code::StaleDelivery,
    };
    Refused::new(code, error.to_string())
}

/// Ends the session when the stream is dropped, however that comes about.
struct Open {
    shared: Arc<Shared>,
    session: SessionId,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.lock().session_closed(&self.session, now());
        self.shared.wake();
    }
}

/// Open a session
///
/// The answer is a stream of newline-delimited JSON that begins with the session's name and goes on with
/// empty objects. The session lasts as long as the stream, and as long as beats come.
#[utoipa::path(post, path = api::broker::SESSIONS, operation_id = "openSession", tag = "work",
    request_body = SessionOpen,
    responses(
        (status = 200, description = "The session, then beats", body = SessionOpened, content_type = "application/x-ndjson"),
        (status = 403, description = "The caller is no scheduler", body = ErrorBody),
        (status = 429, description = "Too many sessions", body = ErrorBody),
        (status = 503, description = "Not the active broker", body = ErrorBody)))]
async fn open_session(State(app): State<App>, Json(open): Json<SessionOpen>) -> Result<Response, Refused> {
    app.active()?;
    let name = new_uuid();
    let session = SessionId::from(name.as_str());
    app.shared.lock().session_open(&session, now()).map_err(refusal)?;
    tracing::info!(worker = open.name, session = name, "worker's session opened");
    let guard = Open { shared: Arc::clone(&app.shared), session };
    let first = serde_json::to_string(&SessionOpened { session: name }).unwrap_or_default() + "\n";
    let beats = futures::stream::unfold((Some(first), guard, app.shutdown), |(first, guard, shutdown)| async move {
        let piece = match first {
            Some(first) => Bytes::from(first),
            None => {
                shutdown.or(client::calm::about(STREAM_BEAT)).await?;
                if !guard.shared.lock().is_active() {
                    return None;
                }
                Bytes::from_static(b"{}\n")
            }
        };
        Some((Ok::<_, std::io::Error>(piece), (None, guard, shutdown)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(beats)).into_response())
}

/// Beat
#[utoipa::path(post, path = api::broker::BEAT, operation_id = "beatSession", tag = "work",
    request_body = SessionBeat,
    responses(
        (status = 204, description = "Taken"),
        (status = 409, description = "The session is not open: open another", body = ErrorBody),
        (status = 503, description = "Not the active broker", body = ErrorBody)))]
async fn beat(State(app): State<App>, Json(beat): Json<SessionBeat>) -> Result<StatusCode, Refused> {
    app.active()?;
    app.shared.lock().beat(&SessionId::from(beat.session.as_str()), now()).map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Dequeue evaluations
///
/// Waits until there is something, at most `wait_ms`.
#[utoipa::path(post, path = api::broker::DEQUEUE, operation_id = "dequeue", tag = "work",
    request_body = Dequeue,
    responses(
        (status = 200, description = "Deliveries; none when the wait is over", body = Dequeued),
        (status = 409, description = "The session is not open: open another", body = ErrorBody),
        (status = 503, description = "Not the active broker", body = ErrorBody)))]
async fn dequeue(State(app): State<App>, Json(ask): Json<Dequeue>) -> Result<Json<Dequeued>, Refused> {
    let session = SessionId::from(ask.session.as_str());
    let kinds = [Kind::Service, Kind::Batch, Kind::System, Kind::SysBatch];
    let deadline = Instant::now() + Duration::from_millis(ask.wait_ms).min(WAIT_MAX);
    loop {
        // Registered before looking, so that nothing that comes in between is missed.
        let woken = app.shared.work.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        app.active()?;
        let found = app.shared.lock().dequeue(&session, &kinds, ask.max, now()).map_err(refusal)?;
        if !found.is_empty() || Instant::now() >= deadline || app.shutdown.is_requested() {
            let deliver =
                |d: queue::Delivery| Delivered { eval: (*d.eval).clone(), token: d.token, wait_index: d.wait_index };
            return Ok(Json(Dequeued { deliveries: found.into_iter().map(deliver).collect() }));
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = app.shutdown.requested() => {}
        }
    }
}

/// Give verdicts
///
/// Each on its own: one that is stale changes nothing and does not keep the others from counting.
#[utoipa::path(post, path = api::broker::VERDICTS, operation_id = "giveVerdicts", tag = "work",
    request_body = Verdicts,
    responses(
        (status = 204, description = "Taken"),
        (status = 409, description = "At least one was stale", body = ErrorBody),
        (status = 503, description = "Not the active broker", body = ErrorBody)))]
async fn verdicts(State(app): State<App>, Json(given): Json<Verdicts>) -> Result<StatusCode, Refused> {
    app.active()?;
    let session = SessionId::from(given.session.as_str());
    let mut first_error = None;
    {
        let mut broker = app.shared.lock();
        for verdict in &given.verdicts {
            let (eval, token) = (&verdict.eval_id, verdict.token.as_str());
            let taken = match verdict.outcome {
                Outcome::Ack { index } => broker.ack(&session, eval, token, index, now()).map(|_| ()),
                Outcome::Failed => broker.nack(&session, eval, token, now()),
                Outcome::Returned => broker.give_back(&session, eval, token, now()),
            };
            if let Err(error) = taken {
                first_error.get_or_insert(error);
            }
        }
    }
    app.shared.wake();
    first_error.map_or(Ok(StatusCode::NO_CONTENT), |error| Err(refusal(error)))
}

/// Numbers
#[utoipa::path(get, path = api::broker::STATS, operation_id = "brokerStats", tag = "work",
    responses((status = 200, description = "The queue at this moment", body = BrokerStats)))]
async fn stats(State(app): State<App>) -> Json<BrokerStats> {
    let broker = app.shared.lock();
    let (stats, active) = (broker.stats(), broker.is_active());
    drop(broker);
    let total = stats.total();
    Json(BrokerStats {
        active,
        ready: total.ready as u64,
        unacked: total.unacked as u64,
        pending: total.pending as u64,
        waiting: total.waiting as u64,
        blocked: total.blocked as u64,
        sessions: stats.sessions as u64,
    })
}
