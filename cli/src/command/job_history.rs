//! `job history`: the versions of a job and what changed between them.

use client::public::segment;
use model::Job;
use model::diff::JobDiff;
use serde_json::Value;

use super::{Cx, Failure, diff, lookup, machine};
use crate::format::{indent, json, pairs};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let wanted = match cx.flags.some("version") {
        Some(text) => Some(
            text.parse::<u64>()
                .map_err(|_| Failure::new(format!("Error parsing version value {text:?}: a whole number expected")))?,
        ),
        None => None,
    };
    let found = lookup::job(cx, cx.arg(0)).await?;
    let with_diffs = cx.flags.is("p");
    let (tag, against) = (cx.flags.some("diff-tag"), cx.flags.some("diff-version"));
    let with_diffs = with_diffs || tag.is_some() || against.is_some();
    let mut query = cx.within(&found.namespace).with("diffs", with_diffs.to_string());
    for (name, value) in [("diff_tag", tag), ("diff_version", against)] {
        if let Some(value) = value {
            query = query.with(name, value);
        }
    }
    let path = format!("/v1/job/{}/versions", segment(&found.id));
    let (answer, _) = cx
        .client
        .get::<Value>(&path, &query)
        .await
        .map_err(|error| Failure::api("Error retrieving job versions", &error))?;
    let versions: Vec<Value> = answer["Versions"].as_array().cloned().unwrap_or_default();
    let diffs: Vec<Option<JobDiff>> = serde_json::from_value(answer["Diffs"].clone()).unwrap_or_default();
    let mut rows = Vec::new();
    for (at, value) in versions.into_iter().enumerate() {
        if wanted.is_none_or(|version| value["Version"].as_u64() == Some(version)) {
            rows.push((value, diffs.get(at).cloned().flatten()));
        }
    }
    if rows.is_empty() {
        let which = wanted.map_or_else(|| "no versions".to_owned(), |version| format!("no version {version}"));
        return Err(Failure::new(format!("Error retrieving job versions: job {:?} has {which}", found.id)));
    }
    if machine {
        let only: Vec<Value> = rows.into_iter().map(|(value, _)| value).collect();
        return machine::print(cx, &Value::from(only));
    }
    let mut blocks = Vec::new();
    for (value, changed) in rows {
        blocks.push(block(cx, value, changed.as_ref())?);
    }
    cx.ui.line(blocks.join("\n\n"));
    Ok(0)
}

fn block(cx: &Cx, value: Value, changed: Option<&JobDiff>) -> Result<String, Failure> {
    let job: Job = serde_json::from_value(value.clone())
        .map_err(|error| Failure::new(format!("Error retrieving job versions: {error}")))?;
    let mut rows = vec![
        ("Version", job.version.unwrap_or(0).to_string()),
        ("Stable", job.stable.unwrap_or(false).to_string()),
        ("Submit Date", cx.stamp(job.submit_time.unwrap_or(0))),
    ];
    if let Some(tag) = &job.version_tag {
        rows.push(("Tag Name", tag.name.clone()));
        rows.push(("Tag Description", tag.description.clone()));
    }
    let mut text = pairs(&rows);
    if let Some(changed) = changed {
        text.push_str(&format!("\nDiff        =\n{}", diff::render(&cx.ui, changed, false)));
    }
    if cx.flags.is("full") {
        text.push_str(&format!("\nFull        =\n{}", indent(&json(&value), 2)));
    }
    Ok(text)
}
