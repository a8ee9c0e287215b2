//! `job dispatch` and `job periodic force`: a child of a job, now.

use std::collections::BTreeMap;
use std::io::Read as _;

use api::job_changes::{JobDispatchRequest, JobDispatchResponse, PeriodicForceResponse};
use client::public::segment;
use model::Job;
use model::bytes::Bytes;
use model::launch::PAYLOAD_BYTES_MAX;
use model::summary::JobSummary;
use serde_json::json;

use super::{Cx, Failure, job_status, lookup, monitor, show};
use crate::format::{id, pairs};

/// More than this is not read to learn how much too much it is.
const INPUT_BYTES_MAX: u64 = 16 << 20;

pub async fn dispatch(cx: &mut Cx) -> Result<u8, Failure> {
    if cx.flags.is("wait") && cx.flags.is("detach") {
        return Err(Failure::new("-wait and -detach cannot be used together"));
    }
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
    if cx.flags.is("detach") {
        return Ok(0);
    }
    let code = match answer.eval_id.is_empty() {
        true => 0,
        false => monitor::evaluation(cx, &answer.eval_id, &found.namespace).await?,
    };
    if !cx.flags.is("wait") || code == 1 {
        return Ok(code);
    }
    until_dead(cx, answer.dispatched_job_id.as_str(), &found.namespace).await
}

/// Waits for the end of a child, and shows what became of its allocations.
async fn until_dead(cx: &mut Cx, job_id: &str, namespace: &str) -> Result<u8, Failure> {
    monitor::headline(cx, &format!("Waiting for job {job_id:?} to end"));
    let path = format!("/v1/job/{}", segment(job_id));
    let mut index = 0;
    loop {
        let (job, at): (Job, u64) = monitor::ask(cx, &path, namespace, index, "job").await?;
        index = at;
        if job.status.as_deref() == Some("dead") {
            break;
        }
    }
    let summary: JobSummary = job_status::about(cx, job_id, namespace, "/summary").await?;
    let text = show::section(cx, "Summary", &job_status::summary_table(&summary));
    cx.ui.line(text);
    let failed = summary.summary.values().any(|group| group.failed > 0 || group.lost > 0);
    Ok(u8::from(failed))
}

/// A file, or stdin for `-`.
fn read(source: &str) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("Error reading input data: {error}"));
    let mut bytes = Vec::new();
    let limit = INPUT_BYTES_MAX;
    if source == "-" {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(source).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() > PAYLOAD_BYTES_MAX {
        let more = if bytes.len() as u64 == INPUT_BYTES_MAX { "at least " } else { "" };
        let text = format!("Payload exceeds maximum size; {more}{} > {PAYLOAD_BYTES_MAX}", bytes.len());
        return Err(Failure::new(format!("Failed to dispatch job: {text}")));
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
