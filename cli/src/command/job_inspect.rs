//! `job inspect`: a job as the cluster has it, or the file it came as.

use client::public::segment;
use model::job::JobSubmission;
use serde_json::{Value, json};

use super::{Cx, Failure, job_status, lookup, machine};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    if machine && cx.flags.is("hcl") {
        return Err(Failure::new("Error formatting: -hcl goes with neither -json nor -t"));
    }
    let version = match cx.flags.some("version") {
        Some(text) => Some(
            text.parse::<u64>()
                .map_err(|_| Failure::new(format!("Error parsing version value {text:?}: a whole number expected")))?,
        ),
        None => None,
    };
    let found = lookup::job(cx, cx.arg(0)).await?;
    let value = match version {
        None => job_status::about::<Value>(cx, &found.id, &found.namespace, "").await?,
        Some(version) => of_version(cx, &found, version).await?,
    };
    if cx.flags.is("hcl") {
        let version = value["Version"].as_u64().unwrap_or(0);
        return source(cx, &found, version).await;
    }
    if machine && cx.flags.some("t").is_some() {
        return machine::print(cx, &value);
    }
    cx.ui.line(crate::format::json(&json!({ "Job": value })));
    Ok(0)
}

async fn of_version(cx: &Cx, found: &lookup::FoundJob, version: u64) -> Result<Value, Failure> {
    let answer: Value = job_status::about(cx, &found.id, &found.namespace, "/versions").await?;
    let versions = answer["Versions"].as_array().cloned().unwrap_or_default();
    let wanted = versions.into_iter().find(|job| job["Version"].as_u64() == Some(version));
    wanted.ok_or_else(|| {
        Failure::new(format!("Error inspecting job: job {:?} has no version {version}", found.id))
            .hint(format!("`steppe job history {}` lists the versions", found.id))
    })
}

async fn source(cx: &mut Cx, found: &lookup::FoundJob, version: u64) -> Result<u8, Failure> {
    let path = format!("/v1/job/{}/submission", segment(&found.id));
    let query = cx.within(&found.namespace).with("version", version.to_string());
    let (submission, _) = cx
        .client
        .get::<JobSubmission>(&path, &query)
        .await
        .map_err(|error| Failure::api("Error inspecting job: its file is not there", &error))?;
    if cx.flags.is("with-vars") {
        let flags = submission.variable_flags.iter().map(|(name, value)| format!("{name} = {value:?}\n"));
        let text = format!("{}{}", flags.collect::<String>(), submission.variables);
        if !text.trim().is_empty() {
            cx.ui.line(format!("# Variables\n{}\n", text.trim_end()));
        }
    }
    cx.ui.line(submission.source.trim_end());
    Ok(0)
}
