//! Many nodes in one process, which only seem to run anything.
//!
//! ```text
//!   identity ─► Link (an agent's own: register, beat, stream, news) ─► Pretender ─► outbox ─► news
//! ```
//!
//! To the servers each is an agent like any other: a certificate, connections, a stream and beats of its own,
//! spoken by `agent::link`. Only what becomes of an allocation is made up: its tasks run at once, and end at
//! once when they are to. Started as a process of its own, so that what it uses is not counted as a service's;
//! says `N nodes` on stdout when all of them follow their stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::gateways::Gateways;
use agent::link::{Link, Listing, Told, Wishes};
use agent::node::Maker;
use agent::outbox::Outbox;
use anyhow::{Context as _, ensure};
use client::http::Http;
use client::tls::Identity;
use fsm::command::AllocClientUpdate;
use kit::pki::Authority;
use kit::process::ready::Readiness;
use kit::process::{Settings, Shutdown};
use lifecycle::events;
use model::alloc::{AllocDeploymentStatus, TaskState};
use model::node::DriverInfo;
use model::{AllocId, Allocation, ClientStatus, DesiredStatus, Node, NodeId, Role, TaskStateKind, Timestamp};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc, watch};

/// A gateway has room for so many streams.
pub const NODES_MAX: u64 = 12_000;
/// What one node offers.
pub const NODE_CPU_MHZ: i64 = 10_000;
pub const NODE_MEMORY_MIB: i64 = 16_384;
/// Allocations as the cases ask for them that one node has room for.
const NODE_ALLOCATIONS: usize = 200;
const NODE_DISK_MIB: i64 = 200_000;
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// Nodes that connect and register at the same time.
const STARTING_MAX: usize = 64;
const THREADS: usize = 2;
/// A node keeps a stream and a connection for beats and news open.
const FILES_PER_NODE: u64 = 3;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    pub nodes: usize,
    /// The agents' door.
    #[arg(long)]
    pub gateway: SocketAddr,
    /// The cluster's authority.
    #[arg(long)]
    pub ca_dir: PathBuf,
    /// Where the nodes' identities are kept.
    #[arg(long)]
    pub home: PathBuf,
    #[arg(long)]
    pub die_with_parent: Option<u32>,
}

/// Runs the nodes until it is asked to end.
///
/// # Errors
/// Identities cannot be made, or there are too few file descriptors.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let settings =
        Settings { die_with_parent: args.die_with_parent, log_level: "warn".to_owned(), ..Settings::default() };
    kit::process::start(&settings)?;
    allow_files(args.nodes)?;
    let identities = identities(args)?;
    let pattern = pattern(&args.home)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        follow(args, identities, &pattern, &shutdown).await;
        anyhow::Ok(())
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Whether so many allocations find a place.
///
/// # Errors
/// They do not; how many do.
pub fn has_room(nodes: usize, allocations: usize) -> anyhow::Result<()> {
    let room = nodes * NODE_ALLOCATIONS;
    ensure!(
        allocations <= room,
        "{nodes} nodes have room for {room} allocations, and {allocations} are wanted: take more --nodes"
    );
    Ok(())
}

/// Makes room for so many nodes' connections in this process and in those it starts.
///
/// # Errors
/// The system does not allow as many.
pub fn allow_files(nodes: usize) -> anyhow::Result<()> {
    let wanted = u64::try_from(nodes)? * FILES_PER_NODE + 512;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|most| most >= wanted),
        "{nodes} nodes need {wanted} file descriptors a process: allow them with `ulimit -n {wanted}`, or take fewer nodes"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("raising the limit of file descriptors")
}

fn node_id(n: usize) -> String {
    format!("{n:08x}-5113-4000-8000-000000000000")
}

/// One directory for each node, as a process loads it.
fn identities(args: &Args) -> anyhow::Result<Vec<Identity>> {
    let authority = Authority::load(&args.ca_dir)?;
    let make = |n: usize| {
        let dir = args.home.join(format!("node-{n}"));
        authority.write_identity(&dir, Role::Agent, &node_id(n), "global", LIFETIME)?;
        anyhow::Ok(Identity::load(dir)?)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = std::thread::scope(|scope| {
        let part = |first| (first..args.nodes).step_by(threads).map(|n| Ok((n, make(n)?))).collect::<Vec<_>>();
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<anyhow::Result<Vec<_>>>()
    });
    let mut made = parts?;
    ensure!(made.len() == args.nodes, "not every node has got its identity");
    made.sort_by_key(|(n, _)| *n);
    Ok(made.into_iter().map(|(_, identity)| identity).collect())
}

/// This very host as an agent tells of it, with what each simulated node offers.
fn pattern(home: &Path) -> anyhow::Result<Node> {
    let config = agent::Config {
        cpu_total_compute: Some(NODE_CPU_MHZ),
        memory_total_mb: Some(NODE_MEMORY_MIB),
        disk_total_mb: Some(NODE_DISK_MIB),
        ..agent::Config::default()
    };
    // Nothing listens there: nobody asks a simulated node for files or logs.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut node = Maker::new(config, home.to_owned(), NodeId::default(), String::new(), nowhere, BTreeMap::new())
        .make()
        .context("looking at this host")?;
    for driver in ["mock_driver", "raw_exec"] {
        node.attributes.insert(format!("driver.{driver}"), "1".to_owned());
        let attributes = BTreeMap::from([(format!("driver.{driver}"), "true".to_owned())]);
        let info = DriverInfo { attributes, detected: true, healthy: true, ..DriverInfo::default() };
        node.drivers.insert(driver.to_owned(), info);
    }
    Ok(node)
}

/// The nth node made after the pattern.
fn nth(pattern: &Node, n: usize) -> Node {
    let (id, name) = (node_id(n), format!("simulated-{n}"));
    let mut node = Node { id: id.clone().into(), name: name.clone(), secret_id: id.clone(), ..pattern.clone() };
    node.attributes.insert("unique.hostname".to_owned(), name);
    node.attributes.insert(model::node::PLACE.to_owned(), id);
    node.computed_class = node.computed_class();
    node
}

async fn follow(args: &Args, identities: Vec<Identity>, pattern: &Node, shutdown: &Shutdown) {
    let gateway = args.gateway.to_string();
    let starting = Arc::new(Semaphore::new(STARTING_MAX));
    let (there, mut arrived) = mpsc::channel(STARTING_MAX);
    let mut running = tokio::task::JoinSet::new();
    let announce = tokio::spawn({
        let count = args.nodes;
        async move {
            for _ in 0..count {
                if arrived.recv().await.is_none() {
                    return;
                }
            }
            println!("{count} nodes");
        }
    });
    for (n, identity) in identities.into_iter().enumerate() {
        let Some(Ok(turn)) = shutdown.or(Arc::clone(&starting).acquire_owned()).await else { break };
        let node = watch::Sender::new(Arc::new(nth(pattern, n)));
        let outbox = Outbox::default();
        let pretender = Pretender::new(node_id(n).into(), outbox.clone());
        let http = Http::with_limits(identity, agent::limits_out());
        let link = Link::new(http, Gateways::new(vec![gateway.clone()]), node.subscribe(), pretender);
        let (there, shutdown) = (there.clone(), shutdown.clone());
        running.spawn(async move {
            let readiness = Readiness::new();
            let registered = readiness.condition("registered", "");
            let listing = readiness.condition("allocations", "");
            let arrival = async {
                readiness.ready().await;
                drop(turn);
                // Nobody counts any more when the fleet ends.
                let _ = there.send(()).await;
            };
            tokio::join!(
                link.follow(registered, listing, shutdown.clone()),
                link.beats(shutdown.clone()),
                link.news(outbox, Forgetful, shutdown.clone()),
                shutdown.or(arrival),
            );
            drop(node);
        });
    }
    drop(there);
    while running.join_next().await.is_some() {}
    announce.abort();
}

/// A node that never starts again need not remember what it told.
struct Forgetful;

impl Told for Forgetful {
    async fn told(&self, _: Arc<AllocClientUpdate>) -> bool {
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pretence {
    Runs,
    Ended,
}

/// Says of every allocation that it is as the cluster wants it.
struct Pretender {
    node_id: NodeId,
    outbox: Outbox,
    said: Mutex<BTreeMap<AllocId, Pretence>>,
}

impl Pretender {
    fn new(node_id: NodeId, outbox: Outbox) -> Self {
        Self { node_id, outbox, said: Mutex::default() }
    }

    fn update(&self, alloc: &Allocation, pretence: Pretence, now: i64) -> AllocClientUpdate {
        let client_status = match pretence {
            Pretence::Runs => ClientStatus::Running,
            Pretence::Ended => ClientStatus::Complete,
        };
        let groups = alloc.job.as_deref().map(|job| job.task_groups.as_slice()).unwrap_or_default();
        let tasks = groups
            .iter()
            .filter(|group| group.name.as_deref() == Some(&*alloc.task_group))
            .flat_map(|group| &group.tasks);
        let task_states = tasks.map(|task| (task.name.clone(), task_state(pretence, now))).collect();
        let healthy = alloc.deployment_id.non_empty().filter(|_| pretence == Pretence::Runs);
        AllocClientUpdate {
            id: alloc.id.clone(),
            node_id: self.node_id.clone(),
            client_status,
            client_description: "Tasks are running".to_owned(),
            task_states,
            deployment_status: healthy.map(|_| AllocDeploymentStatus {
                healthy: Some(true),
                timestamp: Timestamp(now),
                ..AllocDeploymentStatus::default()
            }),
            network_status: None,
            modify_time: now,
        }
    }
}

/// As after an ordinary start.
fn task_state(pretence: Pretence, now: i64) -> TaskState {
    let mut state = TaskState { started_at: Some(Timestamp(now)), ..TaskState::default() };
    for event in [events::received(), events::task_setup(), events::started()] {
        events::append(&mut state, event, Timestamp(now));
    }
    state.state = match pretence {
        Pretence::Runs => TaskStateKind::Running,
        Pretence::Ended => TaskStateKind::Dead,
    };
    if pretence == Pretence::Ended {
        state.finished_at = Some(Timestamp(now));
    }
    state
}

/// What is to be said of an allocation; `None`: it is as it should be.
fn pretence(alloc: &Allocation) -> Option<Pretence> {
    match (alloc.desired_status, alloc.client_status) {
        (_, status) if status.is_terminal() => None,
        (DesiredStatus::Run, ClientStatus::Running) => None,
        (DesiredStatus::Run, _) => Some(Pretence::Runs),
        _ => Some(Pretence::Ended),
    }
}

impl Wishes for Pretender {
    fn apply(&self, listing: Listing) {
        let now = client::clock::unix_nanos();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if listing.full {
            let listed: std::collections::BTreeSet<&AllocId> = listing.upserts.iter().map(|alloc| &alloc.id).collect();
            said.retain(|id, _| {
                let stays = listed.contains(id);
                if !stays {
                    self.outbox.forget(id);
                }
                stays
            });
        }
        for id in &listing.gone {
            said.remove(id);
            self.outbox.forget(id);
        }
        for alloc in &listing.upserts {
            let Some(pretence) = pretence(alloc) else { continue };
            if said.insert(alloc.id.clone(), pretence) != Some(pretence) {
                self.outbox.put(self.update(alloc, pretence, now), true);
            }
        }
        self.outbox.open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alloc(id: &str, desired: DesiredStatus, client: ClientStatus) -> Allocation {
        Allocation { id: id.into(), desired_status: desired, client_status: client, ..Allocation::default() }
    }

    #[tokio::test]
    async fn an_allocation_runs_at_once_and_ends_at_once_and_is_told_of_once() {
        let outbox = Outbox::default();
        let pretender = Pretender::new("n".into(), outbox.clone());
        let pending = || alloc("a", DesiredStatus::Run, ClientStatus::Pending);
        let listing = |alloc| Listing { full: false, upserts: vec![alloc], gone: Vec::new() };
        pretender.apply(listing(pending()));
        let batch = outbox.batch(9).await;
        assert_eq!(batch.iter().map(|u| u.client_status).collect::<Vec<_>>(), [ClientStatus::Running]);
        outbox.acknowledge(&batch);
        pretender.apply(listing(pending()));
        assert_eq!(outbox.pending(), 0, "said already");
        pretender.apply(listing(alloc("a", DesiredStatus::Stop, ClientStatus::Running)));
        let batch = outbox.batch(9).await;
        assert_eq!(batch.iter().map(|u| u.client_status).collect::<Vec<_>>(), [ClientStatus::Complete]);
        pretender.apply(Listing { full: true, upserts: Vec::new(), gone: Vec::new() });
        assert!(pretender.said.lock().unwrap().is_empty());
    }

    #[test]
    fn more_nodes_than_the_system_has_files_for_are_refused_in_words() {
        let error = allow_files(1 << 40).unwrap_err().to_string();
        assert!(error.contains("ulimit -n"), "{error}");
    }
}
