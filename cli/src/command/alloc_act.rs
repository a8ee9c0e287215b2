//! `alloc restart`, `alloc signal`, `alloc pause`, `alloc checks`: one call each.

use api::usage::AllocResourceUsage;
use client::public::Query;
use model::Allocation;
use model::alloc::AllocStub;
use serde_json::{Value, json};

use super::alloc_logs::task_of;
use super::{Cx, Failure, lookup, machine, show};
use crate::format::{row, table};

/// The allocation that is meant, whole.
///
/// # Errors
/// There is none, or more than one.
pub async fn found(cx: &Cx, typed: &str) -> Result<Allocation, Failure> {
    let stub: AllocStub = lookup::one(cx, typed).await?;
    whole(cx, stub.id.as_str()).await
}

/// An allocation, whole.
///
/// # Errors
/// The API's.
pub async fn whole(cx: &Cx, id: &str) -> Result<Allocation, Failure> {
    let answer = cx.client.get::<Allocation>(&format!("/v1/allocation/{id}"), &Query::default()).await;
    answer.map(|(alloc, _)| alloc).map_err(|error| Failure::api("Error querying allocation", &error))
}

/// The task that was named, if one was.
fn named(cx: &Cx, alloc: &Allocation) -> Result<String, Failure> {
    let typed = cx.flags.some("task").is_some() || cx.flags.args.len() > 1;
    if typed { task_of(cx, alloc) } else { Ok(String::new()) }
}

pub async fn restart(cx: &mut Cx) -> Result<u8, Failure> {
    let all = cx.flags.is("all-tasks");
    let alloc = found(cx, cx.arg(0)).await?;
    let task = named(cx, &alloc)?;
    if all && !task.is_empty() {
        return Err(Failure::new("The -all-tasks option is not allowed when restarting a specific task."));
    }
    let body = json!({"TaskName": task, "AllTasks": all});
    let path = format!("/v1/client/allocation/{}/restart", alloc.id);
    let done = cx.client.put::<_, Value>(&path, &cx.within(alloc.namespace.as_str()), &body).await;
    done.map_err(|error| Failure::api("Failed to restart allocation", &error))?;
    Ok(0)
}

pub async fn signal(cx: &mut Cx) -> Result<u8, Failure> {
    let alloc = found(cx, cx.arg(0)).await?;
    let task = named(cx, &alloc)?;
    let body = json!({"Task": task, "Signal": cx.flags.text("s")});
    let path = format!("/v1/client/allocation/{}/signal", alloc.id);
    let done = cx.client.put::<_, Value>(&path, &cx.within(alloc.namespace.as_str()), &body).await;
    done.map_err(|error| Failure::api("Error signalling allocation", &error))?;
    Ok(0)
}

pub async fn pause(cx: &mut Cx) -> Result<u8, Failure> {
    let state = cx.flags.text("state").to_owned();
    if !matches!(state.as_str(), "pause" | "run" | "scheduled") {
        return Err(Failure::new(format!("-state must be pause, run or scheduled, not {state:?}")));
    }
    let alloc = found(cx, cx.arg(0)).await?;
    let task = task_of(cx, &alloc)?;
    let path = format!("/v1/client/allocation/{}/pause", alloc.id);
    if cx.flags.is("status") {
        let query = cx.within(alloc.namespace.as_str()).with("task", &task);
        let answer = cx.client.get::<Value>(&path, &query).await;
        let (value, _) = answer.map_err(|error| Failure::api("Error querying schedule state", &error))?;
        let state = value["ScheduleState"].as_str().unwrap_or_default();
        cx.ui.line(if state.is_empty() { "run" } else { state });
        return Ok(0);
    }
    let body = json!({"Task": task, "ScheduleState": state});
    let done = cx.client.put::<_, Value>(&path, &cx.within(alloc.namespace.as_str()), &body).await;
    done.map_err(|error| Failure::api("Failed to pause task", &error))?;
    Ok(0)
}

pub async fn checks(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let stub: AllocStub = lookup::one(cx, cx.arg(0)).await?;
    let path = format!("/v1/client/allocation/{}/checks", stub.id);
    let answer = cx.client.get::<Value>(&path, &cx.within(stub.namespace.as_str())).await;
    let (value, _) = answer.map_err(|error| Failure::api("Error querying allocation checks", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let mut rows = vec![row(["Service", "Task", "Name", "Mode", "Status"])];
    for check in value.as_object().into_iter().flat_map(|checks| checks.values()) {
        rows.push(["Service", "Task", "Check", "Mode", "Status"].map(|name| text(check, name)).to_vec());
    }
    let body = if rows.len() == 1 { "No checks".to_owned() } else { table(&rows) };
    let text = show::section(cx, &format!("Status of {} Nomad Service Checks", rows.len() - 1), &body);
    cx.ui.line(text.trim_start());
    Ok(0)
}

/// What the tasks use now; nothing if their node does not say.
pub async fn usage(cx: &Cx, alloc: &Allocation) -> Option<AllocResourceUsage> {
    let path = format!("/v1/client/allocation/{}/stats", alloc.id);
    let answer = cx.client.get::<AllocResourceUsage>(&path, &cx.within(alloc.namespace.as_str())).await;
    answer.ok().map(|(usage, _)| usage)
}
