//! `job scale|scaling-events|revert|start|tag`: what is changed about a job without its file.

use api::job_changes::{JobScaleStatus, JobTagResponse};
use api::public::JobRegisterResponse;
use client::public::segment;
use model::Job;
use serde_json::{Value, json};

use super::{Cx, Failure, job_status, lookup, monitor};
use crate::format::{row, table};

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::new(format!("Failed to parse {what} {text:?}: a whole number expected")))
}

pub async fn scale(cx: &mut Cx) -> Result<u8, Failure> {
    let given = cx.flags.args.clone();
    let found = lookup::job(cx, cx.arg(0)).await?;
    let (group, count) = match &given[..] {
        [_, group, count] => (group.clone(), count.clone()),
        [_, count] => (only_group(cx, &found).await?, count.clone()),
        _ => return Err(Failure::new("This command takes two or three arguments: <job> [<group>] <count>")),
    };
    let mut body = json!({
        "Count": number::<i64>(&count, "count")?,
        "Target": { "Namespace": found.namespace, "Job": found.id, "Group": group },
        "Message": "submitted using the Steppe CLI",
    });
    if cx.flags.uint("check-index") > 0 {
        body["JobModifyIndex"] = json!(cx.flags.uint("check-index"));
    }
    let path = format!("/v1/job/{}/scale", segment(&found.id));
    let (answer, _) = cx
        .writer()?
        .put::<_, JobRegisterResponse>(&path, &cx.within(&found.namespace), &body)
        .await
        .map_err(|error| Failure::api("Error submitting scaling request", &error))?;
    if !answer.warnings.is_empty() {
        cx.ui.warn(&format!("Job Warnings:\n{}\n", answer.warnings.trim_end()));
    }
    monitor::or_detach(cx, &answer.eval_id, &found.namespace).await
}

/// The group of a job that has one.
async fn only_group(cx: &Cx, found: &lookup::FoundJob) -> Result<String, Failure> {
    let job: Job = job_status::about(cx, &found.id, &found.namespace, "").await?;
    match &job.task_groups[..] {
        [group] => Ok(group.name().to_owned()),
        groups => {
            let names: Vec<&str> = groups.iter().map(|group| group.name()).collect();
            let text = format!("Group name required, because the job has several: {}", names.join(", "));
            Err(Failure::new(text))
        }
    }
}

pub async fn scaling_events(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::job(cx, cx.arg(0)).await?;
    let status: JobScaleStatus = job_status::about(cx, &found.id, &found.namespace, "/scale").await?;
    let mut events: Vec<_> = status
        .task_groups
        .iter()
        .flat_map(|(group, status)| status.events.iter().map(move |event| (group, event)))
        .collect();
    events.sort_by_key(|(group, event)| (std::cmp::Reverse(event.time), (*group).clone()));
    if events.is_empty() {
        cx.ui.line("No events found");
        return Ok(0);
    }
    let verbose = cx.verbose();
    let mut head = row(["Task Group", "Count", "PrevCount"]);
    head.extend(verbose.then(|| row(["Error", "Message", "Eval ID"])).into_iter().flatten());
    head.push("Date".to_owned());
    let mut rows = vec![head];
    for (group, event) in events {
        let count = event.count.map_or_else(|| "<none>".to_owned(), |count| count.to_string());
        let mut cells = vec![group.clone(), count, event.previous_count.to_string()];
        if verbose {
            let eval = event.eval_id.as_ref().map(ToString::to_string).unwrap_or_default();
            cells.extend([event.error.to_string(), event.message.clone(), eval]);
        }
        cells.push(cx.stamp(event.time));
        rows.push(cells);
    }
    cx.ui.line(table(&rows));
    Ok(0)
}

pub async fn revert(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::job(cx, cx.arg(0)).await?;
    let wanted = cx.arg(1).to_owned();
    let version = match wanted.parse::<u64>() {
        Ok(version) => version,
        Err(_) => tagged(cx, &found, &wanted).await?,
    };
    let body = json!({ "JobID": found.id, "JobVersion": version });
    let path = format!("/v1/job/{}/revert", segment(&found.id));
    let (answer, _) = cx
        .writer()?
        .put::<_, JobRegisterResponse>(&path, &cx.within(&found.namespace), &body)
        .await
        .map_err(|error| Failure::api("Error reverting job", &error))?;
    monitor::or_detach(cx, &answer.eval_id, &found.namespace).await
}

/// The version that has a name.
async fn tagged(cx: &Cx, found: &lookup::FoundJob, name: &str) -> Result<u64, Failure> {
    let answer: Value = job_status::about(cx, &found.id, &found.namespace, "/versions").await?;
    let versions = answer["Versions"].as_array().cloned().unwrap_or_default();
    let named = versions.iter().find(|job| job["VersionTag"]["Name"] == name);
    named.and_then(|job| job["Version"].as_u64()).ok_or_else(|| {
        Failure::new(format!("Error retrieving job versions: no version of job {:?} is tagged {name:?}", found.id))
            .hint(format!("`steppe job history {}` lists the versions", found.id))
    })
}

pub async fn start(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::job(cx, cx.arg(0)).await?;
    let mut job: Value = job_status::about(cx, &found.id, &found.namespace, "").await?;
    if job["Stop"] != json!(true) {
        return Err(Failure::new(format!("Error starting job: job {:?} is not stopped", found.id)));
    }
    job["Stop"] = json!(false);
    let (answer, _) = cx
        .writer()?
        .put::<_, JobRegisterResponse>("/v1/jobs", &cx.within(&found.namespace), &json!({ "Job": job }))
        .await
        .map_err(|error| Failure::api("Error starting job", &error))?;
    monitor::or_detach(cx, &answer.eval_id, &found.namespace).await
}

pub async fn tag(cx: &mut Cx) -> Result<u8, Failure> {
    let name = tag_name(cx)?;
    let found = lookup::job(cx, cx.arg(0)).await?;
    let mut body = json!({ "Description": cx.flags.text("description") });
    match cx.flags.some("version") {
        Some(text) => body["Version"] = json!(number::<u64>(text, "version")?),
        None => body["Latest"] = json!(true),
    }
    let path = format!("/v1/job/{}/versions/{}/tag", segment(&found.id), segment(&name));
    let sent = cx.writer()?.put::<_, JobTagResponse>(&path, &cx.within(&found.namespace), &body).await;
    sent.map_err(|error| Failure::api("Error tagging job version", &error))?;
    let version = cx.flags.some("version").map_or_else(|| "latest version".to_owned(), |v| format!("version {v}"));
    cx.ui.line(format!("Job {:?} {version} tagged with name {name:?}", found.id));
    Ok(0)
}

pub async fn untag(cx: &mut Cx) -> Result<u8, Failure> {
    let name = tag_name(cx)?;
    let found = lookup::job(cx, cx.arg(0)).await?;
    let path = format!("/v1/job/{}/versions/{}/tag", segment(&found.id), segment(&name));
    let sent = cx.writer()?.delete::<JobTagResponse>(&path, &cx.within(&found.namespace)).await;
    sent.map_err(|error| Failure::api("Error removing the tag", &error))?;
    cx.ui.line(format!("Tag {name:?} removed from job {:?}", found.id));
    Ok(0)
}

fn tag_name(cx: &Cx) -> Result<String, Failure> {
    let name = cx.flags.some("name").map(str::to_owned);
    name.ok_or_else(|| Failure::new("A version tag name must be specified using the -name flag"))
}
