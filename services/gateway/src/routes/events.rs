//! The event stream's endpoint. What a stream is made of: `crate::events`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use model::Index;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::events::log::Log;
use crate::events::stream::{self, BEAT};
use crate::events::topics::Wanted;
use crate::options::Options;
use crate::public::Streamed;
use crate::read::fresh;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct EventParams {
    /// `Topic`, `Topic:key` or `Topic:*`; may be repeated. Everything unless given.
    topic: Option<String>,
    /// Begin with what happened at this index; with the oldest that is kept unless given.
    index: Option<u64>,
    /// Namespace of the events that have one; `*` for all.
    namespace: Option<String>,
}

/// Follow events
///
/// Newline-delimited JSON without end: one object per committed index with its events, `{}` at the start and
/// every 30 s in which nothing happens. Every event comes exactly once and in the order of its index. A stream
/// that cannot go on without a gap ends with `{"Err": "…"}`.
#[utoipa::path(get, path = "/v1/event/stream", operation_id = "streamEvents", tag = "events", params(EventParams),
    responses(
        (status = 200, description = "Events", body = Object),
        (status = 400, description = "No such topic, or no index", body = String, content_type = "text/plain"),
        (status = 410, description = "The events behind that index are not kept any more, or never were", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many streams", body = String, content_type = "text/plain")))]
async fn events(State(app): State<App>, options: Options) -> Answered {
    let namespace = options.namespace();
    let namespace = (namespace != "*").then_some(namespace);
    let wanted = Wanted::parse(options.params.all("topic"), namespace).map_err(|e| ApiError::bad(e.to_string()))?;
    let permit = Arc::clone(&app.event_streams).try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::too_many("too many event streams are open"))?;
    let after = begin(&app, options.index).await?;
    let events = Arc::clone(app.watches.events());
    let body = Body::from_stream(stream::stream(events, wanted, after, BEAT, app.shutdown.clone(), Some(permit)));
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    let mut response = (kind, body).into_response();
    response.extensions_mut().insert(Streamed);
    Ok(response)
}

/// The index behind which a reader begins that wants what happened at `from` and later.
async fn begin(app: &App, from: Index) -> Result<Index, ApiError> {
    let view = fresh(app, true).await?;
    let log: &Log = app.watches.events();
    if from.get() == 0 {
        return Ok(log.floor());
    }
    if from > view.state.index().next() {
        // This copy may lag behind the caller's own write.
        let last = fresh(app, false).await?.state.index();
        if from > last.next() {
            return Err(gone(format!(
                "index {from} is beyond the last one, {last}: the cluster was restored, or is another; subscribe without an index"
            )));
        }
    }
    let after = Index(from.get() - 1);
    log.behind(after, 0).map_err(|missed| gone(missed.to_string()))?;
    Ok(after)
}

fn gone(text: String) -> ApiError {
    ApiError::new(StatusCode::GONE, text)
}
