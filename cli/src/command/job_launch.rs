//! `job dispatch` and `job periodic force`: a child of a job, now.

use std::collections::BTreeMap;
use std::io::Read as _;

use api::job_changes::{JobDispatchRequest, JobDispatchResponse, PeriodicForceResponse};
use client::public::segment;
use model::bytes::Bytes;
use model::launch::PAYLOAD_BYTES_MAX;
use serde_json::json;

use super::{Cx, Failure, lookup, monitor};
use crate::format::{id, pairs};

pub async fn dispatch(cx: &mut Cx) -> Result<u8, Failure> {
    let payload = cx.flags.args.get(1).map(|source| read(source)).transpose()?.unwrap_or_default();
    let found = lookup::job(cx, cx.arg(0)).await?;
    let request = JobDispatchRequest {
        job_id: found.id.clone(),
        payload: Bytes(payload),
        meta: meta(cx)?,
        id_prefix_template: cx.flags.text("id-prefix-template").to_owned(),
        priority: cx.flags.int("priority"),
        ..JobDispatchRequest::default()
    };
    let mut query = cx.within(&found.namespace);
    if let Some(token) = cx.flags.some("idempotency-token") {
        query = query.with("idempotency_token", token);
    }
    let path = format!("/v1/job/{}/dispatch", segment(&found.id));
    let (answer, _) = cx
        .writer()?
        .put::<_, JobDispatchResponse>(&path, &query, &request)
        .await
        .map_err(|error| Failure::api("Failed to dispatch job", &error))?;
    let mut rows = vec![("Dispatched Job ID", answer.dispatched_job_id.to_string())];
    if !answer.eval_id.is_empty() {
        rows.push(("Evaluation ID", id(&answer.eval_id, cx.verbose())));
    }
    cx.ui.line(pairs(&rows));
    if cx.flags.is("detach") || answer.eval_id.is_empty() {
        return Ok(0);
    }
    monitor::evaluation(cx, &answer.eval_id, &found.namespace).await
}

/// A file, or stdin for `-`.
fn read(source: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("Error reading input data: {error}"));
    let mut bytes = Vec::new();
    // One byte more than may be sent: the cluster says what is too much.
    let limit = u64::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    if source == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(source).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}

fn meta(cx: &Cx) -> Result<BTreeMap<String, String>, Failure> {
    let entry = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Failure::new(format!("Error parsing meta value: {text:?} is not key=value"))),
    };
    cx.flags.list("meta").iter().map(entry).collect()
}

pub async fn force(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::job(cx, cx.arg(0)).await?;
    let path = format!("/v1/job/{}/periodic/force", segment(&found.id));
    let (answer, _) = cx
        .writer()?
        .put::<_, PeriodicForceResponse>(&path, &cx.within(&found.namespace), &json!({}))
        .await
        .map_err(|error| Failure::api("Error forcing periodic job", &error))?;
    if cx.flags.is("detach") {
        cx.ui.line("Force periodic successful");
    }
    monitor::or_detach(cx, &answer.eval_id, &found.namespace).await
}
