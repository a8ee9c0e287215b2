//! `alloc stop`: ends an allocation so that another takes its place.

use api::public::AllocStopResponse;
use model::alloc::AllocStub;
use serde_json::json;

use super::{Cx, Failure, lookup, monitor};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let alloc: AllocStub = lookup::one(cx, cx.arg(0)).await?;
    let mut query = cx.within(alloc.namespace.as_str());
    if cx.flags.is("no-shutdown-delay") {
        query = query.with("no_shutdown_delay", "true");
    }
    let path = format!("/v1/allocation/{}/stop", alloc.id);
    let (answer, _) = cx
        .writer()?
        .put::<_, AllocStopResponse>(&path, &query, &json!({}))
        .await
        .map_err(|error| Failure::api("Error stopping allocation", &error))?;
    if cx.flags.is("detach") {
        cx.ui.line(&answer.eval_id);
        return Ok(0);
    }
    monitor::evaluation_for(cx, &answer.eval_id, alloc.namespace.as_str(), monitor::Aim::Beside).await
}
