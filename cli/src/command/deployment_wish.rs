//! `deployment fail|pause|resume|promote|unblock`, and `job promote`.

use api::job_changes::DeploymentUpdateResponse;
use model::Deployment;
use serde_json::{Value, json};

use super::monitor::Aim;
use super::{Cx, Failure, job_status, lookup, monitor};
use crate::format::id;

/// What is asked for: the path's word, how it failed, and how it went.
struct Wish {
    verb: &'static str,
    failed: &'static str,
    done: &'static str,
    /// Whether something follows that is worth watching.
    watched: bool,
}

const FAIL: Wish = Wish { verb: "fail", failed: "Error failing deployment", done: "failed", watched: true };
const PAUSE: Wish = Wish { verb: "pause", failed: "Error pausing deployment", done: "paused", watched: false };
const RESUME: Wish = Wish { verb: "pause", failed: "Error resuming deployment", done: "resumed", watched: true };
const PROMOTE: Wish = Wish { verb: "promote", failed: "Error promoting deployment", done: "promoted", watched: true };
const UNBLOCK: Wish = Wish { verb: "unblock", failed: "Error unblocking deployment", done: "unblocked", watched: true };

pub async fn fail(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::one::<Deployment>(cx, cx.arg(0)).await?;
    carry_out(cx, &found, &FAIL, json!({})).await
}

pub async fn pause(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::one::<Deployment>(cx, cx.arg(0)).await?;
    carry_out(cx, &found, &PAUSE, json!({ "Pause": true })).await
}

pub async fn resume(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::one::<Deployment>(cx, cx.arg(0)).await?;
    carry_out(cx, &found, &RESUME, json!({ "Pause": false })).await
}

pub async fn unblock(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::one::<Deployment>(cx, cx.arg(0)).await?;
    carry_out(cx, &found, &UNBLOCK, json!({})).await
}

pub async fn promote(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::one::<Deployment>(cx, cx.arg(0)).await?;
    let body = groups(cx);
    carry_out(cx, &found, &PROMOTE, body).await
}

/// `job promote`: the job's latest deployment.
pub async fn promote_job(cx: &mut Cx) -> Result<u8, Failure> {
    let job = lookup::job(cx, cx.arg(0)).await?;
    let latest: Option<Deployment> = job_status::about(cx, &job.id, &job.namespace, "/deployment").await?;
    let latest = latest.ok_or_else(|| Failure::new(format!("Job {:?} has no deployment to promote", job.id)))?;
    let body = groups(cx);
    carry_out(cx, &latest, &PROMOTE, body).await
}

fn groups(cx: &Cx) -> Value {
    match cx.flags.list("group") {
        [] => json!({ "All": true }),
        some => json!({ "Groups": some }),
    }
}

async fn carry_out(cx: &mut Cx, found: &Deployment, wish: &Wish, mut body: Value) -> Result<u8, Failure> {
    body["DeploymentID"] = json!(found.id);
    let path = format!("/v1/deployment/{}/{}", wish.verb, found.id);
    let (answer, _) = cx
        .writer()?
        .put::<_, DeploymentUpdateResponse>(&path, &cx.within(found.namespace.as_str()), &body)
        .await
        .map_err(|error| Failure::api(wish.failed, &error))?;
    let shown = id(&found.id, cx.verbose());
    match answer.reverted_job_version {
        Some(version) => cx.ui.line(format!("Deployment {shown:?} {}; job goes back to version {version}", wish.done)),
        None => cx.ui.line(format!("Deployment {shown:?} {}", wish.done)),
    }
    if !wish.watched {
        return Ok(0);
    }
    let aim = if wish.verb == FAIL.verb { Aim::Failure } else { Aim::Rollout };
    monitor::or_detach_for(cx, &answer.eval_id, found.namespace.as_str(), aim).await
}
