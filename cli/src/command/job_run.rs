//! `job run`: a job file in, a running job out.

use model::{Index, Job};
use serde_json::{Value, json};

use super::{Cx, Failure, job_status, jobfile, monitor};
use crate::format;

/// Answer of a registration, as far as it is used here.
#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Registered {
    #[serde(rename = "EvalID")]
    eval_id: String,
    job_modify_index: Index,
    warnings: String,
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let file = jobfile::load(cx).await?;
    if cx.flags.is("output") {
        cx.ui.line(format::json(&json!({ "Job": file.job })));
        return Ok(0);
    }
    let check =
        match cx.flags.some("check-index") {
            Some(text) => Some(text.parse::<u64>().map_err(|_| {
                Failure::new(format!("Error parsing check-index value {text:?}: a whole number expected"))
            })?),
            None => None,
        };
    let mut body = json!({ "Job": file.job, "Submission": file.submission });
    let mut set = |name: &str, value: Value| body[name] = value;
    if let Some(index) = check {
        set("EnforceIndex", Value::Bool(true));
        set("JobModifyIndex", Value::from(index));
    }
    for (flag, field) in [
        ("policy-override", "PolicyOverride"),
        ("preserve-counts", "PreserveCounts"),
        ("preserve-resources", "PreserveResources"),
    ] {
        if cx.flags.is(flag) {
            set(field, Value::Bool(true));
        }
    }
    if cx.flags.given("eval-priority") {
        set("EvalPriority", Value::from(cx.flags.int("eval-priority")));
    }
    let query = file.query();
    let answer = cx.writer()?.put::<_, Registered>("/v1/jobs", &query, &body).await;
    let (registered, _) = match answer {
        Ok(registered) => registered,
        Err(error) => return Err(submitting(cx, &file, check.is_some(), &error)),
    };
    if !registered.warnings.trim().is_empty() {
        cx.ui.warn(&format!("Job Warnings:\n{}\n", registered.warnings.trim_end()));
    }
    let namespace = query.namespace.unwrap_or_default();
    if registered.eval_id.is_empty() {
        // A periodic or parameterized job waits for its time.
        cx.ui.line("Job registration successful");
        if let Some(kind) = ["Periodic", "ParameterizedJob"].iter().find(|kind| !file.job[**kind].is_null()) {
            let what = if *kind == "Periodic" { "its next launch" } else { "being dispatched" };
            cx.ui.line(format!("The job waits for {what}; modify index {}", registered.job_modify_index));
        }
        let job: Option<Job> = serde_json::from_value(file.job.clone()).ok();
        if let Some(next) = job.and_then(|job| job_status::next_launch(cx, &job)) {
            cx.ui.line(format!("Approximate next launch time: {next}"));
        }
        return Ok(0);
    }
    if cx.flags.is("detach") {
        cx.ui.line("Job registration successful");
    }
    monitor::or_detach(cx, &registered.eval_id, &namespace).await
}

fn submitting(cx: &mut Cx, file: &jobfile::JobFile, checked: bool, error: &client::public::PublicError) -> Failure {
    if let client::public::PublicError::Status { body, .. } = error
        && checked
        && body.contains("Enforcing job modify index")
    {
        return Failure::new(format!("Job not updated: {}", body.trim_end()))
            .hint(format!("somebody changed job {:?} since the plan was made: plan again", file.id()));
    }
    file.failure(cx, "Error submitting job", error)
}
