//! `alloc status`: all allocations, or one with its tasks.

use api::usage::ResourceUsage;
use client::public::Query;
use model::alloc::{AllocStub, TaskState};
use model::{Allocation, Carried, Timestamp};
use serde_json::Value;

use super::{Cx, Failure, alloc_act, lookup, machine, placement, show, usage};
use crate::format::{bytes, id, mebibytes, pairs, row, table};

/// Events shown of a task.
const EVENTS_MAX: usize = 10;

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    if cx.flags.args.is_empty() {
        return list(cx, machine).await;
    }
    let found: AllocStub = lookup::one(cx, cx.arg(0)).await?;
    one(cx, found.id.as_str(), machine).await
}

async fn list(cx: &mut Cx, machine: bool) -> Result<u8, Failure> {
    let (value, _) = cx
        .client
        .get::<Value>("/v1/allocations", &Query::default())
        .await
        .map_err(|error| Failure::api("Error querying allocations", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let rows: Option<Vec<AllocStub>> =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying allocations: {error}")))?;
    let mut rows = rows.unwrap_or_default();
    show::newest_first(&mut rows);
    let text = if rows.is_empty() { "No allocations placed".to_owned() } else { table(&show::alloc_rows(cx, &rows)) };
    cx.ui.line(text);
    Ok(0)
}

pub async fn one(cx: &mut Cx, alloc_id: &str, machine: bool) -> Result<u8, Failure> {
    let path = format!("/v1/allocation/{alloc_id}");
    let (value, _) = cx
        .client
        .get::<Value>(&path, &Query::default())
        .await
        .map_err(|error| Failure::api("Error querying allocation", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let alloc: Allocation =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying allocation: {error}")))?;
    let text = pairs(&head(cx, &alloc));
    cx.ui.line(text);
    if cx.flags.is("short") {
        let text = show::section(cx, "Tasks", &short_tasks(cx, &alloc));
        cx.ui.line(text);
        return Ok(0);
    }
    if let Some(text) = addresses(&alloc) {
        let mode = alloc.allocated_resources.as_ref().and_then(|r| r.shared.networks.first()).map(|n| n.mode.as_str());
        let mode = mode.filter(|mode| !matches!(*mode, "" | "host")).map(|mode| format!(" (mode = {mode:?})"));
        let text = show::section(cx, &format!("Allocation Addresses{}:", mode.unwrap_or_default()), &text);
        cx.ui.line(text);
    }
    let running = alloc.client_status == model::ClientStatus::Running;
    let used = if running { alloc_act::usage(cx, &alloc).await } else { None };
    if running && used.is_none() && cx.flags.is("stats") {
        cx.ui.warn("The allocation's node does not say what its tasks use.");
    }
    for (name, state) in &alloc.task_states {
        let used = used.as_ref().and_then(|used| used.tasks.get(name));
        let text = task(cx, &alloc, name, state, used.map(|used| &used.resource_usage));
        cx.ui.line(text);
    }
    if (cx.verbose() || alloc.task_states.is_empty())
        && let Some(metric) = alloc.metrics.as_ref().map(Carried::look)
    {
        let mut body = placement::reasons(&metric).iter().map(|r| format!("  * {r}\n")).collect::<String>();
        body.push_str(&placement::scores(&metric, cx.verbose()));
        let text = show::section(cx, "Placement Metrics", body.trim_end());
        cx.ui.line(text);
    }
    Ok(0)
}

fn head(cx: &Cx, alloc: &Allocation) -> Vec<(&'static str, String)> {
    let verbose = cx.verbose();
    let mut rows = vec![
        ("ID", alloc.id.to_string()),
        ("Eval ID", id(&alloc.eval_id, verbose)),
        ("Name", alloc.name.clone()),
        ("Node ID", id(&alloc.node_id, verbose)),
        ("Node Name", alloc.node_name.clone()),
        ("Job ID", alloc.job_id.to_string()),
        ("Job Version", alloc.job_version().unwrap_or(0).to_string()),
        ("Client Status", alloc.client_status.to_string()),
        ("Client Description", alloc.client_description.clone()),
        ("Desired Status", alloc.desired_status.to_string()),
        ("Desired Description", alloc.desired_description.clone()),
        ("Created", cx.when(alloc.create_time)),
        ("Modified", cx.when(alloc.modify_time)),
    ];
    if let Some(deployment) = alloc.deployment_id.non_empty() {
        rows.push(("Deployment ID", id(deployment, verbose)));
        let health = match alloc.is_healthy() {
            None => "unset",
            Some(true) => "healthy",
            Some(false) => "unhealthy",
        };
        rows.push(("Deployment Health", health.to_owned()));
        if alloc.is_canary() {
            rows.push(("Canary", "true".to_owned()));
        }
    }
    if let Some(tracker) = &alloc.reschedule_tracker {
        rows.push(("Reschedule Attempts", tracker.events.len().to_string()));
    }
    if let Some(next) = alloc.next_allocation.non_empty() {
        rows.push(("Replacement Alloc ID", id(next, verbose)));
    }
    if let Some(metric) = alloc.metrics.as_ref().filter(|_| verbose).map(Carried::look) {
        rows.extend([
            ("Evaluated Nodes", metric.nodes_evaluated.to_string()),
            ("Filtered Nodes", metric.nodes_filtered.to_string()),
            ("Exhausted Nodes", metric.nodes_exhausted.to_string()),
            ("Allocation Time", metric.allocation_time.to_string()),
            ("Failures", metric.coalesced_failures.to_string()),
        ]);
    }
    rows
}

fn addresses(alloc: &Allocation) -> Option<String> {
    let shared = &alloc.allocated_resources.as_ref()?.shared;
    let is_dynamic =
        |label: &str| shared.networks.iter().any(|n| n.dynamic_ports.iter().any(|port| port.label == label));
    let mut rows = vec![row(["Label", "Dynamic", "Address"])];
    for port in &shared.ports {
        let host = if port.host_ip.contains(':') { format!("[{}]", port.host_ip) } else { port.host_ip.clone() };
        let mut address = format!("{host}:{}", port.value);
        if port.to > 0 && port.to != port.value {
            address.push_str(&format!(" -> {}", port.to));
        }
        let dynamic = if is_dynamic(&port.label) { "yes" } else { "no" };
        rows.push(vec![format!("*{}", port.label), dynamic.to_owned(), address]);
    }
    (rows.len() > 1).then(|| table(&rows))
}

fn moment(cx: &Cx, moment: Option<Timestamp>) -> String {
    cx.stamp(moment.unwrap_or_default().unix_nanos())
}

fn task(cx: &Cx, alloc: &Allocation, name: &str, state: &TaskState, used: Option<&ResourceUsage>) -> String {
    let status = state.state.to_string();
    let paused = match state.paused.as_str() {
        "" => String::new(),
        "scheduled_pause" => " (paused by its schedule)".to_owned(),
        "force_pause" => " (paused; `alloc pause -state=run` lets it run)".to_owned(),
        "force_run" => " (runs whatever its schedule says)".to_owned(),
        other => format!(" ({other})"),
    };
    let mut out = format!("\n{}\n", cx.ui.bold(&format!("Task {name:?} is {status:?}{paused}")));
    let taken = alloc.allocated_resources.as_ref().and_then(|all| Some((all.tasks.get(name)?, &all.shared)));
    if let Some((task, shared)) = taken {
        // What is used stands before what was given, where it is known.
        let of = |used: Option<String>| used.map(|used| format!("{used}/")).unwrap_or_default();
        let cpu = of(used.map(|used| format!("{:.0}", used.cpu_stats.total_ticks)));
        let memory = of(used.map(|used| bytes(used.memory_stats.rss)));
        let cells = vec![
            format!("{cpu}{} MHz", task.cpu.cpu_shares),
            format!("{memory}{}", mebibytes(task.memory.memory_mb)),
            mebibytes(shared.disk_mb),
        ];
        out.push_str(&format!("Task Resources:\n{}\n\n", table(&[row(["CPU", "Memory", "Disk"]), cells])));
    }
    if let Some(used) = used.filter(|_| cx.flags.is("stats")) {
        out.push_str(&format!("{}\n\n", usage::of_task(used)));
    }
    if let Some(volumes) = host_volumes(alloc, name) {
        out.push_str(&format!("Host Volumes:\n{volumes}\n\n"));
    }
    let times = [
        ("Started At", moment(cx, state.started_at)),
        ("Finished At", moment(cx, state.finished_at)),
        ("Total Restarts", state.restarts.to_string()),
        ("Last Restart", moment(cx, state.last_restart)),
    ];
    out.push_str(&format!("Task Events:\n{}\n\nRecent Events:\n", pairs(&times)));
    let mut rows = vec![row(["Time", "Type", "Description"])];
    for event in state.events.look().iter().rev().take(EVENTS_MAX) {
        let said = [&event.display_message, &event.message].into_iter().find(|text| !text.is_empty());
        rows.push(vec![cx.stamp(event.time), event.kind.clone(), said.cloned().unwrap_or_default()]);
    }
    out.push_str(&table(&rows));
    out
}

/// What a task sees of its host, by the names that the job gives.
fn host_volumes(alloc: &Allocation, name: &str) -> Option<String> {
    let group = alloc.job.as_deref()?.lookup_group(&alloc.task_group)?;
    let mut rows = vec![row(["ID", "Read Only"])];
    for mount in &group.lookup_task(name)?.volume_mounts {
        let id = mount.volume.as_deref().unwrap_or_default();
        if let Some(volume) = group.volumes.get(id).filter(|volume| volume.kind == "host") {
            let read_only = volume.read_only || mount.read_only == Some(true);
            rows.push(vec![id.to_owned(), read_only.to_string()]);
        }
    }
    (rows.len() > 1).then(|| table(&rows))
}

fn short_tasks(cx: &Cx, alloc: &Allocation) -> String {
    let mut rows = vec![row(["Name", "State", "Last Event", "Time", "Lifecycle"])];
    for (name, state) in &alloc.task_states {
        let lifecycles = alloc.allocated_resources.as_ref().map(|all| &all.task_lifecycles);
        let lifecycle = lifecycles.and_then(|all| all.get(name)?.as_ref()).map_or("main", |one| one.hook.as_str());
        let events = state.events.look();
        let last = events.last();
        rows.push(vec![
            name.clone(),
            state.state.to_string(),
            last.map_or_else(String::new, |event| event.kind.clone()),
            cx.stamp(last.map_or(0, |event| event.time)),
            lifecycle.to_owned(),
        ]);
    }
    table(&rows)
}
