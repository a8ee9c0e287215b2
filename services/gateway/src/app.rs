//! What the handlers share.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use client::active::Active;
use client::anyone::Anyone;
use client::http::Http;
use client::peers::Peers;
use client::replica::Replica;
use client::state::{StateClient, new_uuid};
use fsm::LeaseName;
use kit::gossip::{Directory, Gossip, KeyRing};
use kit::metrics::{Counter, Metrics, Sample};
use kit::process::Shutdown;
use model::Role;
use tokio::sync::Semaphore;

use crate::agents::beats::Beats;
use crate::agents::news::NewsDesk;
use crate::agents::stream::Streams;
use crate::blocking::Watches;
use crate::bounds::Told;
use crate::machine::Machine;

/// Log streams at a time.
pub const LOG_STREAMS_MAX: usize = 1_024;
/// Event streams at a time.
pub const EVENT_STREAMS_MAX: usize = 1_024;
/// Commands beside tasks at a time.
pub const EXEC_SESSIONS_MAX: usize = 256;
/// Job files parsed at a time; each has a thread with a large stack.
pub const PARSES_MAX: usize = 4;

/// A gateway. Clones share it.
#[derive(Clone)]
pub struct App(Arc<Inner>);

impl Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

pub struct Inner {
    pub name: String,
    pub region: String,
    pub datacenter: String,
    pub started: Instant,
    pub http: Http,
    pub peers: Arc<dyn Peers>,
    pub directory: Directory,
    pub state: StateClient,
    pub replica: Replica,
    pub watches: Arc<Watches>,
    pub metrics: Metrics,
    pub counts: Counts,
    pub shutdown: Shutdown,
    pub purge_revokes: bool,
    /// What is told of metrics.
    pub told: Told,
    /// `None` in tests, where the directory is fixed.
    pub gossip: Option<Gossip>,
    pub machine: Machine,
    /// Where a gateway keeps the little it keeps.
    pub data_dir: Option<PathBuf>,
    /// Keys that seal gossip.
    pub keys: KeyRing,
    pub controller: Active,
    pub beats: Beats,
    pub news: NewsDesk,
    pub streams: Streams,
    pub log_streams: Arc<Semaphore>,
    pub event_streams: Arc<Semaphore>,
    pub exec_sessions: Arc<Semaphore>,
    pub parses: Arc<Semaphore>,
}

/// What a gateway counts of its requests.
pub struct Counts {
    pub requests: Counter,
    /// Those that only read.
    pub queries: Counter,
    /// Those that could not be answered for a reason of ours.
    pub failed: Counter,
    /// Milliseconds until the answer begins, blocking queries not among them.
    pub answered: Sample,
}

/// What a gateway is made of.
pub struct Parts {
    pub name: String,
    pub region: String,
    pub datacenter: String,
    pub http: Http,
    pub directory: Directory,
    pub replica: Replica,
    pub watches: Arc<Watches>,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    /// Whether a purge takes a node's trust.
    pub purge_revokes: bool,
    /// What is told of metrics.
    pub told: Told,
    pub gossip: Option<Gossip>,
    pub machine: Machine,
    pub data_dir: Option<PathBuf>,
    pub keys: KeyRing,
}

impl App {
    /// Whoever of a role can be reached, to ask.
    pub fn any(&self, role: Role) -> Anyone<'_> {
        Anyone::new(&self.http, &*self.peers, role)
    }

    /// Starts what works in the background, too.
    pub fn start(parts: Parts) -> Self {
        let peers: Arc<dyn Peers> = Arc::new(parts.directory.clone());
        let controller = Active::new(parts.http.clone(), parts.replica.clone(), LeaseName::Controller);
        tokio::spawn(Arc::clone(&parts.watches).wake_tables(parts.shutdown.clone()));
        Self(Arc::new(Inner {
            beats: Beats::start(parts.name.clone(), controller.clone(), parts.shutdown.clone()),
            news: NewsDesk::start(controller.clone(), parts.shutdown.clone()),
            controller,
            streams: Streams::default(),
            state: StateClient::new(parts.http.clone(), Arc::clone(&peers), Role::Gateway),
            started: Instant::now(),
            log_streams: Arc::new(Semaphore::new(LOG_STREAMS_MAX)),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            exec_sessions: Arc::new(Semaphore::new(EXEC_SESSIONS_MAX)),
            parses: Arc::new(Semaphore::new(PARSES_MAX)),
            counts: Counts {
                requests: parts.metrics.counter("nomad.nomad.rpc.request", &[]),
                queries: parts.metrics.counter("nomad.nomad.rpc.query", &[]),
                failed: parts.metrics.counter("nomad.nomad.rpc.request_error", &[]),
                answered: parts.metrics.sample("steppe.gateway.request", &[]),
            },
            name: parts.name,
            region: parts.region,
            datacenter: parts.datacenter,
            http: parts.http,
            peers,
            directory: parts.directory,
            replica: parts.replica,
            watches: parts.watches,
            metrics: parts.metrics,
            shutdown: parts.shutdown,
            purge_revokes: parts.purge_revokes,
            told: parts.told,
            gossip: parts.gossip,
            machine: parts.machine,
            data_dir: parts.data_dir,
            keys: parts.keys,
        }))
    }
}

/// A random number from 0 up to 1.
pub fn random_unit() -> f64 {
    // A UUID is the random source this crate has; its first half is random but for the version.
    let bits = u32::from_str_radix(new_uuid().get(..8).unwrap_or("0"), 16).unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
