//! Which numbers follow from rows, or are measured at the node, and not counted by a process?
//!
//! Made when somebody reads them, so that nothing of a job or an allocation that is gone stays behind. Names and
//! labels are the reference's. Those of the whole cluster are given by the machine that leads, as the reference's
//! leader does: whoever adds up what all servers say counts each job once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::public::OperatorHealthReply;
use api::state::AUTOPILOT_HEALTH;
use api::usage::{AllocResourceUsage, HostStats};
use client::http::Call;
use futures::StreamExt as _;
use kit::metrics::GaugeValue;
use model::{Allocation, ClientStatus, EvalStatus, Node, NodeStatus, Role, TaskStateKind};
use queue::BlockedResources;

use crate::app::App;
use crate::processes::Process;
use crate::raft_status;
use crate::routes::at_node;

/// Whoever has not answered by then is left out.
const ASK: Duration = Duration::from_millis(500);
/// Tasks' usage asked for at the same time.
const ASKED_MAX: usize = 8;
/// Groups of jobs, and allocations, that have series of their own.
const ROWS_MAX: usize = 10_000;

/// Which of the costlier metrics are given.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Published {
    /// Give what the host of this machine's node uses.
    #[arg(long)]
    pub publish_node_metrics: bool,
    /// Give what each task of this machine's node uses.
    #[arg(long)]
    pub publish_allocation_metrics: bool,
    /// Series carry no label with the name of their process.
    #[arg(long)]
    pub metrics_without_host: bool,
}

type Labels = BTreeMap<String, String>;

struct Gauges(Vec<GaugeValue>);

impl Gauges {
    fn add(&mut self, name: impl Into<String>, labels: &Labels, value: f64) {
        self.0.push(GaugeValue { name: name.into(), value, labels: labels.clone() });
    }
}

#[allow(clippy::cast_precision_loss)]
fn float(n: impl TryInto<i64>) -> f64 {
    n.try_into().map_or(f64::MAX, |n| n as f64)
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// All of them, for a machine of these processes.
pub async fn of(app: &App, machine: &[Process]) -> Vec<GaugeValue> {
    let mut gauges = Gauges(Vec::new());
    let status = raft_status::ask(app).await.unwrap_or_default();
    let leads = status.leader.as_ref().is_some_and(|leader| {
        machine.iter().any(|p| matches!(p, Process::Service { role: Role::State, name } if *name == leader.name))
    });
    if leads {
        cluster(app, &mut gauges);
        gauges.add("nomad.raft.peers", &Labels::new(), float(status.peers.iter().filter(|p| p.voter).count()));
        autopilot(app, &mut gauges).await;
    }
    for process in machine {
        let Process::Node(id) = process else { continue };
        let view = app.watches.view();
        let Some(node) = view.state.node(id) else { continue };
        let labels = of_node(node);
        let allocs: Vec<Arc<Allocation>> = view.state.allocs_of_node(id).take(ROWS_MAX).cloned().collect();
        allocations(&mut gauges, &labels, node, &allocs);
        if app.told.published().publish_node_metrics {
            host(app, &mut gauges, &labels, node).await;
        }
        if app.told.published().publish_allocation_metrics {
            usage(app, &mut gauges, node, &allocs).await;
        }
    }
    gauges.0
}

fn cluster(app: &App, gauges: &mut Gauges) {
    let (view, none) = (app.watches.view(), Labels::new());
    for status in ["pending", "running", "dead"] {
        let count = view.state.jobs().filter(|job| job.status.as_deref() == Some(status)).count();
        gauges.add(format!("nomad.nomad.job_status.{status}"), &none, float(count));
    }
    blocked(&view.state, gauges);
    let active = view.state.nodes().filter(|node| node.status == NodeStatus::Ready).count();
    gauges.add("nomad.nomad.heartbeat.active", &none, float(active));
    let summaries =
        view.state.jobs().filter_map(|job| view.state.job_summary(job.namespace.as_ref()?, job.id.as_ref()?));
    let groups = summaries.flat_map(|s| s.summary.iter().map(move |(group, count)| (s, group, count)));
    for (summary, group, count) in groups.take(ROWS_MAX) {
        let (job, namespace) = (summary.job_id.as_str(), summary.namespace.as_str());
        let labels = labels([("job", job), ("task_group", group), ("namespace", namespace)]);
        for (name, value) in [
            ("queued", count.queued),
            ("starting", count.starting),
            ("running", count.running),
            ("failed", count.failed),
            ("complete", count.complete),
            ("lost", count.lost),
            ("unknown", count.unknown),
        ] {
            gauges.add(format!("nomad.nomad.job_summary.{name}"), &labels, float(value));
        }
    }
}

/// What waits for room asks for, by job and by where it was looked for.
fn blocked(state: &fsm::State, gauges: &mut Gauges) {
    let rows = state.evals().filter(|eval| eval.status == EvalStatus::Blocked);
    let all = BlockedResources::sum(rows.map(|row| BlockedResources::of(row)));
    for ((namespace, job), asked) in all.by_job.iter().take(ROWS_MAX) {
        let labels = labels([("job", job.as_str()), ("namespace", namespace.as_str())]);
        gauges.add("nomad.nomad.blocked_evals.job.cpu", &labels, float(asked.cpu_mhz));
        gauges.add("nomad.nomad.blocked_evals.job.memory", &labels, float(asked.memory_mb));
    }
    for ((datacenter, class, pool), asked) in all.by_place.iter().take(ROWS_MAX) {
        let labels = labels([("datacenter", datacenter), ("node_class", class), ("node_pool", pool)]);
        gauges.add("nomad.nomad.blocked_evals.cpu", &labels, float(asked.cpu_mhz));
        gauges.add("nomad.nomad.blocked_evals.memory", &labels, float(asked.memory_mb));
    }
}

async fn autopilot(app: &App, gauges: &mut Gauges) {
    let asked = app.any(Role::State).ask::<OperatorHealthReply>(&Call::get(AUTOPILOT_HEALTH, ASK)).await;
    if let Ok(health) = asked {
        gauges.add("nomad.nomad.autopilot.healthy", &Labels::new(), f64::from(u8::from(health.healthy)));
        gauges.add("nomad.nomad.autopilot.failure_tolerance", &Labels::new(), float(health.failure_tolerance));
    }
}

fn of_node(node: &Node) -> Labels {
    let class = if node.node_class.is_empty() { "none" } else { &node.node_class };
    labels([
        ("node_id", node.id.as_str()),
        ("datacenter", &node.datacenter),
        ("node_class", class),
        ("node_pool", &node.node_pool),
        ("node_status", &node.status.to_string()),
        ("node_scheduling_eligibility", &node.scheduling_eligibility.to_string()),
    ])
}

fn allocations(gauges: &mut Gauges, labels: &Labels, node: &Node, allocs: &[Arc<Allocation>]) {
    let count = |is: fn(&Allocation) -> bool| float(allocs.iter().filter(|alloc| is(alloc)).count());
    gauges.add("nomad.client.allocations.pending", labels, count(|a| a.client_status == ClientStatus::Pending));
    gauges.add("nomad.client.allocations.running", labels, count(|a| a.client_status == ClientStatus::Running));
    gauges.add("nomad.client.allocations.terminal", labels, count(|a| a.client_status.is_terminal()));
    for (state, kind) in
        [("pending", TaskStateKind::Pending), ("running", TaskStateKind::Running), ("dead", TaskStateKind::Dead)]
    {
        let states = allocs.iter().flat_map(|alloc| alloc.task_states.values());
        let count = states.filter(|task| task.state == kind).count();
        gauges.add(format!("nomad.client.tasks.{state}"), labels, float(count));
    }
    let (mut cpu, mut memory, mut most, mut disk) = (0, 0, 0, 0);
    for alloc in allocs.iter().filter(|alloc| !alloc.client_status.is_terminal()) {
        let Some(resources) = &alloc.allocated_resources else { continue };
        disk += resources.shared.disk_mb;
        for task in resources.tasks.values() {
            cpu += task.cpu.cpu_shares;
            memory += task.memory.memory_mb;
            most += task.memory.memory_max_mb.max(task.memory.memory_mb);
        }
    }
    let of = |total: f64, reserved: u64, used: i64| (total - float(reserved) - float(used)).max(0.0);
    let (all, kept) = (&node.node_resources, &node.reserved_resources);
    let reserved = kept.as_ref().map_or((0, 0, 0), |k| (k.cpu.cpu_shares, k.memory.memory_mb, k.disk.disk_mb));
    for (name, value) in [("cpu", cpu), ("memory", memory), ("max_memory", most), ("disk", disk)] {
        gauges.add(format!("nomad.client.allocated.{name}"), labels, float(value));
    }
    if let Some(all) = all {
        gauges.add("nomad.client.unallocated.cpu", labels, of(float(all.cpu.cpu_shares), reserved.0, cpu));
        gauges.add("nomad.client.unallocated.memory", labels, of(float(all.memory.memory_mb), reserved.1, memory));
        gauges.add("nomad.client.unallocated.disk", labels, of(float(all.disk.disk_mb), reserved.2, disk));
    }
}

async fn ask<T: serde::de::DeserializeOwned>(app: &App, node: &Node, path: String) -> Option<T> {
    let asked = async {
        let target = at_node::target(app, &node.id).await.ok()?;
        let reply = app.http.call(&target, Call::get(path, ASK)).await.ok()?;
        serde_json::from_slice(&reply.body).ok()
    };
    tokio::time::timeout(ASK, asked).await.ok().flatten()
}

async fn host(app: &App, gauges: &mut Gauges, labels: &Labels, node: &Node) {
    let Some(stats) = ask::<HostStats>(app, node, "/v1/client/stats".to_owned()).await else { return };
    let memory = &stats.memory;
    let parts =
        [("total", memory.total), ("available", memory.available), ("used", memory.used), ("free", memory.free)];
    for (name, value) in parts {
        gauges.add(format!("nomad.client.host.memory.{name}"), labels, float(value));
    }
    for cpu in &stats.cpu {
        let mut labels = labels.clone();
        labels.insert("cpu".to_owned(), cpu.cpu.clone());
        for (name, value) in [
            ("total_percent", cpu.total_percent),
            ("total_ticks", cpu.total_ticks),
            ("user", cpu.user),
            ("system", cpu.system),
            ("idle", cpu.idle),
            ("total", cpu.total_percent),
        ] {
            gauges.add(format!("nomad.client.host.cpu.{name}"), &labels, value);
        }
    }
    for disk in &stats.disk_stats {
        let mut labels = labels.clone();
        labels.insert("disk".to_owned(), disk.device.clone());
        for (name, value) in [
            ("size", float(disk.size)),
            ("used", float(disk.used)),
            ("available", float(disk.available)),
            ("used_percent", disk.used_percent),
            ("inodes_percent", disk.inodes_used_percent),
        ] {
            gauges.add(format!("nomad.client.host.disk.{name}"), &labels, value);
        }
    }
}

async fn usage(app: &App, gauges: &mut Gauges, node: &Arc<Node>, allocs: &[Arc<Allocation>]) {
    let mut asked = Vec::new();
    for alloc in allocs.iter().filter(|alloc| alloc.client_status == ClientStatus::Running) {
        asked.push(usage_of(app.clone(), Arc::clone(node), Arc::clone(alloc)));
    }
    let answers: Vec<_> = futures::stream::iter(asked).buffer_unordered(ASKED_MAX).collect().await;
    for (alloc, usage) in answers.into_iter().flatten() {
        for (task, used) in &usage.tasks {
            of_task(gauges, &alloc, task, &used.resource_usage);
        }
    }
}

async fn usage_of(app: App, node: Arc<Node>, alloc: Arc<Allocation>) -> Option<(Arc<Allocation>, AllocResourceUsage)> {
    let path = format!("/v1/client/allocation/{}/stats", alloc.id);
    let usage = ask(&app, &node, path).await?;
    Some((alloc, usage))
}

fn of_task(gauges: &mut Gauges, alloc: &Allocation, task: &str, used: &api::usage::ResourceUsage) {
    let labels = labels([
        ("alloc_id", alloc.id.as_str()),
        ("job", alloc.job_id.as_str()),
        ("namespace", alloc.namespace.as_str()),
        ("node_id", alloc.node_id.as_str()),
        ("task", task),
        ("task_group", &alloc.task_group),
    ]);
    let given = alloc.allocated_resources.as_ref().and_then(|resources| resources.tasks.get(task));
    let (cpu, memory) = (&used.cpu_stats, &used.memory_stats);
    for (name, value) in [
        ("cpu.total_percent", cpu.percent),
        ("cpu.total_ticks", cpu.total_ticks),
        ("cpu.system", cpu.system_mode),
        ("cpu.user", cpu.user_mode),
        ("cpu.throttled_time", float(cpu.throttled_time)),
        ("cpu.throttled_periods", float(cpu.throttled_periods)),
        ("memory.rss", float(memory.rss)),
        ("memory.cache", float(memory.cache)),
        ("memory.swap", float(memory.swap)),
        ("memory.mapped_file", float(memory.mapped_file)),
        ("memory.usage", float(memory.usage)),
        ("memory.max_usage", float(memory.max_usage)),
        ("memory.kernel_usage", float(memory.kernel_usage)),
        ("memory.kernel_max_usage", float(memory.kernel_max_usage)),
    ] {
        gauges.add(format!("nomad.client.allocs.{name}"), &labels, value);
    }
    if let Some(given) = given {
        let bytes = float(given.memory.memory_mb) * 1_048_576.0;
        gauges.add("nomad.client.allocs.memory.allocated", &labels, bytes);
        gauges.add("nomad.client.allocs.cpu.allocated", &labels, float(given.cpu.cpu_shares));
    }
}
