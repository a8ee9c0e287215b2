//! Small commands about a job: its allocations, its deployments, another look at it, an example file.

use std::io::Write as _;

use api::public::JobRegisterResponse;
use client::public::segment;
use model::Deployment;
use model::alloc::AllocStub;
use serde_json::{Value, json};

use super::{Cx, Failure, job_status, lookup, machine, monitor, show};
use crate::format::table;

const EXAMPLE: &str = include_str!("example.nomad.hcl");
const EXAMPLE_CONNECT: &str = include_str!("example-connect.nomad.hcl");

fn decode<T: serde::de::DeserializeOwned>(value: Value, what: &str) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying {what}: {error}")))
}

pub async fn allocs(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let found = lookup::job(cx, cx.arg(0)).await?;
    let value: Value = job_status::about(cx, &found.id, &found.namespace, "/allocations").await?;
    if machine {
        return machine::print(cx, &value);
    }
    let mut allocs: Vec<AllocStub> = decode::<Option<_>>(value, "allocations")?.unwrap_or_default();
    show::newest_first(&mut allocs);
    let text =
        if allocs.is_empty() { "No allocations placed".to_owned() } else { table(&show::alloc_rows(cx, &allocs)) };
    cx.ui.line(text);
    Ok(0)
}

pub async fn deployments(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let found = lookup::job(cx, cx.arg(0)).await?;
    let latest = cx.flags.is("latest");
    let what = if latest { "/deployment" } else { "/deployments" };
    let value: Value = job_status::about(cx, &found.id, &found.namespace, what).await?;
    if machine {
        return machine::print(cx, &value);
    }
    let text = if latest {
        decode::<Option<Deployment>>(value, "deployment")?.map(|one| show::deployment_block(cx, &one, cx.verbose()))
    } else {
        let mut rows: Vec<Deployment> = decode::<Option<_>>(value, "deployments")?.unwrap_or_default();
        rows.sort_by_key(|row| monitor::newest(row.create_index));
        (!rows.is_empty()).then(|| table(&show::deployment_rows(cx, &rows)))
    };
    cx.ui.line(text.unwrap_or_else(|| "No deployments found".to_owned()));
    Ok(0)
}

pub async fn evaluate(cx: &mut Cx) -> Result<u8, Failure> {
    let found = lookup::job(cx, cx.arg(0)).await?;
    let body = json!({ "JobID": found.id, "EvalOptions": { "ForceReschedule": cx.flags.is("force-reschedule") } });
    let path = format!("/v1/job/{}/evaluate", segment(&found.id));
    let (answer, _) = cx
        .writer()?
        .put::<_, JobRegisterResponse>(&path, &cx.within(&found.namespace), &body)
        .await
        .map_err(|error| Failure::api("Error evaluating job", &error))?;
    if cx.flags.is("detach") {
        cx.ui.line(format!("Created eval ID: {:?}", answer.eval_id));
        return Ok(0);
    }
    monitor::evaluation(cx, &answer.eval_id, &found.namespace).await
}

pub async fn init(cx: &mut Cx) -> Result<u8, Failure> {
    let path = cx.flags.args.first().map_or("example.nomad.hcl", String::as_str).to_owned();
    let example = if cx.flags.is("connect") { EXAMPLE_CONNECT } else { EXAMPLE };
    let text = if cx.flags.is("short") { without_comments(example) } else { example.to_owned() };
    let written = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(format!("Job '{path}' already exists")),
        _ => Failure::new(format!("Failed to write '{path}': {error}")),
    })?;
    cx.ui.line(format!("Example job file written to {path}"));
    Ok(0)
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect()
}
