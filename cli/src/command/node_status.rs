//! `node status`: all nodes, or one with what it has and runs.

use std::collections::BTreeMap;

use api::usage::HostStats;
use client::public::Query;
use model::Node;
use model::alloc::AllocStub;
use model::node::NodeListStub;
use serde_json::Value;

use super::{Cx, Failure, lookup, machine, show, usage};
use crate::format::{self, id, mebibytes, pairs, row, table};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    if cx.flags.is("self") {
        let (agent, _) = cx
            .client
            .get::<Value>("/v1/agent/self", &Query::default())
            .await
            .map_err(|error| Failure::api("Error querying agent info", &error))?;
        let node = agent["stats"]["client"]["node_id"].as_str().unwrap_or("").to_owned();
        if node.is_empty() {
            return Err(Failure::new("Error querying agent info: the process at this address runs no node"));
        }
        return one(cx, &node, machine).await;
    }
    if cx.flags.args.is_empty() {
        return list(cx, machine).await;
    }
    let found = lookup::node(cx, cx.arg(0)).await?;
    one(cx, found.id.as_str(), machine).await
}

async fn list(cx: &mut Cx, machine: bool) -> Result<u8, Failure> {
    let mut query = Query {
        filter: cx.flags.some("filter").map(str::to_owned),
        per_page: cx.flags.uint("per-page"),
        next_token: cx.flags.some("page-token").map(str::to_owned),
        ..Query::default()
    };
    if cx.flags.is("os") {
        query = query.with("os", "true");
    }
    let (value, meta) = cx
        .client
        .get::<Value>("/v1/nodes", &query)
        .await
        .map_err(|error| Failure::api("Error querying node status", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let nodes: Option<Vec<NodeListStub>> =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying node status: {error}")))?;
    let mut nodes = nodes.unwrap_or_default();
    if cx.flags.is("quiet") {
        for node in &nodes {
            let text = id(&node.id, cx.verbose());
            cx.ui.line(text);
        }
        return Ok(0);
    }
    if nodes.is_empty() {
        cx.ui.line("No nodes registered");
        return Ok(0);
    }
    if query.per_page == 0 {
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    }
    let running = if cx.flags.is("allocs") { Some(running_counts(cx).await?) } else { None };
    let text = table(&node_table(cx, &nodes, running.as_ref()));
    cx.ui.line(text);
    cx.more("node status", meta.next_token.as_deref());
    Ok(0)
}

/// How many allocations run on each node.
async fn running_counts(cx: &Cx) -> Result<BTreeMap<String, usize>, Failure> {
    let query = cx.within("*").with("task_states", "false");
    let (allocs, _) = cx
        .client
        .get::<Option<Vec<AllocStub>>>("/v1/allocations", &query)
        .await
        .map_err(|error| Failure::api("Error querying allocations", &error))?;
    let mut counts = BTreeMap::new();
    for alloc in allocs.unwrap_or_default().iter().filter(|a| a.client_status == model::ClientStatus::Running) {
        *counts.entry(alloc.node_id.to_string()).or_default() += 1;
    }
    Ok(counts)
}

fn node_table(cx: &Cx, nodes: &[NodeListStub], running: Option<&BTreeMap<String, usize>>) -> Vec<Vec<String>> {
    let (verbose, os) = (cx.verbose(), cx.flags.is("os"));
    let mut heads = row(["ID", "Node Pool", "DC", "Name", "Class"]);
    heads.extend(os.then(|| "OS".to_owned()));
    if verbose {
        heads.extend(row(["Address", "Version"]));
    }
    heads.extend(row(["Drain", "Eligibility", "Status"]));
    heads.extend(running.map(|_| "Running Allocs".to_owned()));
    let mut rows = vec![heads];
    for node in nodes {
        let mut cells = vec![
            id(&node.id, verbose),
            node.node_pool.clone(),
            node.datacenter.clone(),
            node.name.clone(),
            node.node_class.clone(),
        ];
        cells.extend(os.then(|| node.attributes.get("os.name").cloned().unwrap_or_default()));
        if verbose {
            cells.extend([node.address.clone(), node.version.clone()]);
        }
        cells.extend([node.drain.to_string(), node.scheduling_eligibility.to_string(), node.status.to_string()]);
        cells.extend(running.map(|counts| counts.get(node.id.as_str()).copied().unwrap_or(0).to_string()));
        rows.push(cells);
    }
    rows
}

pub async fn one(cx: &mut Cx, node_id: &str, machine: bool) -> Result<u8, Failure> {
    let path = format!("/v1/node/{node_id}");
    let failed = |error| Failure::api("Error querying node info", &error);
    let (value, _) = cx.client.get::<Value>(&path, &Query::default()).await.map_err(failed)?;
    if machine {
        return machine::print(cx, &value);
    }
    let node: Node =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying node info: {error}")))?;
    let (allocs, _) = cx
        .client
        .get::<Option<Vec<model::Allocation>>>(&format!("{path}/allocations"), &Query::default())
        .await
        .map_err(|error| Failure::api("Error querying node allocations", &error))?;
    let mut allocs = allocs.unwrap_or_default();
    allocs.sort_by(|a, b| b.create_index.cmp(&a.create_index).then_with(|| a.id.cmp(&b.id)));
    let short = cx.flags.is("short");
    let stats = if short { None } else { host_stats(cx, &node).await };
    let text = pairs(&head(cx, &node, stats.as_ref()));
    cx.ui.line(text);
    if !short {
        for text in sections(cx, &node, &allocs) {
            cx.ui.line(text);
        }
        if let Some(stats) = stats {
            host_usage(cx, &node, &stats);
        }
    }
    let text = show::section(cx, "Allocations", &alloc_table(cx, &allocs));
    cx.ui.line(text);
    if cx.verbose() {
        for (title, map) in [("Attributes", &node.attributes), ("Meta", &node.meta)] {
            let rows: Vec<(&str, String)> = map.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            let text = show::section(cx, title, &pairs(&rows));
            cx.ui.line(text);
        }
    }
    Ok(0)
}

/// What the host says of itself now; a node that is not there cannot.
async fn host_stats(cx: &mut Cx, node: &Node) -> Option<HostStats> {
    if node.status != model::NodeStatus::Ready {
        return None;
    }
    let query = Query::default().with("node_id", node.id.as_str());
    match cx.client.get::<HostStats>("/v1/client/stats", &query).await {
        Ok((stats, _)) => Some(stats),
        Err(error) => {
            let text = Failure::api("Error querying node stats", &error).text;
            cx.ui.warn(&text);
            None
        }
    }
}

fn host_usage(cx: &mut Cx, node: &Node, stats: &HostStats) {
    let mhz = node.node_resources.as_ref().map_or(0, |has| has.cpu.cpu_shares);
    let text = show::section(cx, "Host Resource Utilization", &usage::host_row(stats, mhz));
    cx.ui.line(text);
    if cx.flags.is("stats") {
        for (title, text) in usage::host_sections(stats) {
            let text = show::section(cx, title, &text);
            cx.ui.line(text);
        }
    }
}

fn head(cx: &Cx, node: &Node, stats: Option<&HostStats>) -> Vec<(&'static str, String)> {
    let healthy = node.drivers.iter().filter(|(_, info)| info.detected && info.healthy);
    let drivers: Vec<String> = healthy.map(|(name, _)| name.clone()).collect();
    let names = |map: Vec<&String>| map.into_iter().cloned().collect::<Vec<_>>().join(",");
    let mut rows = vec![
        ("ID", node.id.to_string()),
        ("Name", node.name.clone()),
        ("Node Pool", node.node_pool.clone()),
        ("Class", node.node_class.clone()),
        ("DC", node.datacenter.clone()),
        ("Drain", (node.drain || node.drain_strategy.is_some()).to_string()),
        ("Eligibility", node.scheduling_eligibility.to_string()),
        ("Status", node.status.to_string()),
    ];
    if !cx.flags.is("short") {
        rows.extend([
            ("CSI Controllers", names(node.csi_controller_plugins.keys().collect())),
            ("CSI Drivers", names(node.csi_node_plugins.keys().collect())),
            ("Host Volumes", names(node.host_volumes.keys().collect())),
            ("Host Networks", names(node.host_networks.keys().collect())),
        ]);
    }
    if let Some(stats) = stats {
        let up = i64::try_from(stats.uptime).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        rows.push(("Uptime", model::Nanos(up).to_string()));
    }
    rows.push(("Driver Status", drivers.join(",")));
    rows
}

fn sections(cx: &Cx, node: &Node, allocs: &[model::Allocation]) -> Vec<String> {
    let mut out = Vec::new();
    if cx.verbose() {
        let mut rows = vec![row(["Driver", "Detected", "Healthy", "Message", "Time"])];
        for (name, info) in &node.drivers {
            rows.push(vec![
                name.clone(),
                info.detected.to_string(),
                info.healthy.to_string(),
                info.health_description.clone(),
                cx.stamp(info.update_time.unix_nanos()),
            ]);
        }
        if !node.host_volumes.is_empty() {
            let mut volumes = vec![row(["Name", "ReadOnly", "Source"])];
            volumes.extend(
                node.host_volumes
                    .iter()
                    .map(|(name, volume)| vec![name.clone(), volume.read_only.to_string(), volume.path.clone()]),
            );
            out.push(show::section(cx, "Host Volumes", &table(&volumes)));
        }
        if !node.host_networks.is_empty() {
            let mut networks = vec![row(["Name", "CIDR", "Interface", "ReservedPorts"])];
            networks.extend(node.host_networks.iter().map(|(name, network)| {
                vec![name.clone(), network.cidr.clone(), network.interface.clone(), network.reserved_ports.clone()]
            }));
            out.push(show::section(cx, "Host Networks", &table(&networks)));
        }
        out.push(show::section(cx, "Drivers", &table(&rows)));
    }
    let mut events: Vec<_> = node.events.iter().collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.timestamp));
    let mut rows = vec![row(["Time", "Subsystem", "Message"])];
    rows[0].extend(cx.verbose().then(|| "Details".to_owned()));
    for event in events {
        let mut cells = vec![cx.stamp(event.timestamp.unix_nanos()), event.subsystem.clone(), event.message.clone()];
        let details = event.details.iter().map(|(name, value)| format!("{name} = {value}"));
        cells.extend(cx.verbose().then(|| details.collect::<Vec<_>>().join(",")));
        rows.push(cells);
    }
    out.push(show::section(cx, "Node Events", &table(&rows)));
    if let Some(text) = allocated(node, allocs) {
        out.push(show::section(cx, "Allocated Resources", &text));
    }
    out
}

/// What the node's allocations take of what it has to give.
fn allocated(node: &Node, allocs: &[model::Allocation]) -> Option<String> {
    let has = node.node_resources.as_ref()?;
    let kept = node.reserved_resources.clone().unwrap_or_default();
    let less = |total: i64, kept: u64| total - i64::try_from(kept).unwrap_or(0);
    let (mut cpu, mut memory, mut disk, mut count) = (0, 0, 0, 0);
    for alloc in allocs.iter().filter(|alloc| !alloc.is_terminal()) {
        let Some(taken) = &alloc.allocated_resources else { continue };
        cpu += taken.tasks.values().map(|task| task.cpu.cpu_shares).sum::<i64>();
        memory += taken.tasks.values().map(|task| task.memory.memory_mb).sum::<i64>();
        disk += taken.shared.disk_mb;
        count += 1;
    }
    let cells = vec![
        format!("{cpu}/{} MHz", less(has.cpu.cpu_shares, kept.cpu.cpu_shares)),
        format!("{}/{}", mebibytes(memory), mebibytes(less(has.memory.memory_mb, kept.memory.memory_mb))),
        format!("{}/{}", mebibytes(disk), mebibytes(less(has.disk.disk_mb, kept.disk.disk_mb))),
        count.to_string(),
    ];
    Some(table(&[row(["CPU", "Memory", "Disk", "Alloc Count"]), cells]))
}

fn alloc_table(cx: &Cx, allocs: &[model::Allocation]) -> String {
    if allocs.is_empty() {
        return "No allocations placed".to_owned();
    }
    let stubs: Vec<AllocStub> = allocs
        .iter()
        .map(|alloc| AllocStub {
            id: alloc.id.clone(),
            eval_id: alloc.eval_id.clone(),
            node_id: alloc.node_id.clone(),
            node_name: alloc.node_name.clone(),
            task_group: alloc.task_group.clone(),
            job_version: alloc.job_version().unwrap_or(0),
            desired_status: alloc.desired_status,
            client_status: alloc.client_status,
            create_time: alloc.create_time,
            modify_time: alloc.modify_time,
            ..AllocStub::default()
        })
        .collect();
    format::table(&show::alloc_rows(cx, &stubs))
}
