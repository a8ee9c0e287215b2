//! What all runners share: drivers, directories, the node as tasks see it, where results go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bridge::Bridging;
use crate::denied::Denied;
use driver::Driver;
use driver::cgroup::Cgroups;
use driver::cores::Cores;
use driver::devices::Devices;
use kit::process::Shutdown;
use lifecycle::OfNode;
use model::{Allocation, Nanos, Node};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::outbox::Outbox;
use crate::runner::previous::Elsewhere;
use crate::store::Store;

pub type Drivers = BTreeMap<&'static str, Arc<dyn Driver>>;

pub struct Host {
    pub drivers: Drivers,
    pub cgroups: Option<Cgroups>,
    /// Which cores belong to one task alone.
    pub cores: Arc<Cores>,
    pub devices: Devices,
    /// Says how allocations of other nodes stand.
    pub elsewhere: Elsewhere,
    pub cgroup_parent: String,
    pub region: String,
    pub alloc_base: PathBuf,
    pub node: watch::Receiver<Arc<Node>>,
    /// The agent's environment, which tasks inherit in part.
    pub env: BTreeMap<String, String>,
    pub env_denied: Vec<String>,
    pub denied: Denied,
    pub kill_timeout_max: Nanos,
    pub bridging: Bridging,
    /// The machine's time zone.
    zone: String,
    pub store: Store,
    pub outbox: Outbox,
    /// Ends runners; their tasks run on.
    pub halt: Shutdown,
    /// Starts under way, so that the end waits for them.
    pub starts: TaskTracker,
    /// Directories are removed a few at a time.
    pub removals: Semaphore,
    /// Task ids that a driver holds or is about to.
    live: Mutex<BTreeSet<String>>,
    /// True while orphans are looked for: nothing is begun meanwhile.
    sweeping: watch::Sender<bool>,
}

/// Everything a [`Host`] is made of that has no state of its own.
pub struct Parts {
    pub drivers: Drivers,
    pub cgroups: Option<Cgroups>,
    /// Which cores belong to one task alone.
    pub cores: Arc<Cores>,
    pub devices: Devices,
    /// Says how allocations of other nodes stand.
    pub elsewhere: Elsewhere,
    pub cgroup_parent: String,
    pub region: String,
    pub alloc_base: PathBuf,
    pub node: watch::Receiver<Arc<Node>>,
    pub denied: Denied,
    /// Allocations' directories removed at the same time.
    pub removals_max: usize,
    pub kill_timeout_max: Nanos,
    pub bridging: Bridging,
    pub store: Store,
    pub outbox: Outbox,
}

impl Host {
    pub fn new(parts: Parts) -> Self {
        let Parts { drivers, cgroups, cgroup_parent, region, alloc_base, node, .. } = parts;
        let Parts {
            denied, removals_max, kill_timeout_max, bridging, store, outbox, cores, devices, elsewhere, ..
        } = parts;
        Self {
            drivers,
            cgroups,
            cores,
            devices,
            elsewhere,
            cgroup_parent,
            region,
            alloc_base,
            node,
            // What is no text cannot be passed on as such.
            env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            env_denied: denied.env(),
            denied,
            kill_timeout_max,
            bridging,
            zone: local_zone(),
            store,
            outbox,
            halt: Shutdown::new(),
            starts: TaskTracker::new(),
            removals: Semaphore::new(removals_max.max(1)),
            live: Mutex::default(),
            sweeping: watch::Sender::new(false),
        }
    }

    /// What the node adds to an allocation's specification.
    pub fn of_node(&self) -> OfNode<'_> {
        OfNode { kill_timeout_max: self.kill_timeout_max, zone: &self.zone }
    }

    pub fn driver(&self, name: &str) -> Option<Arc<dyn Driver>> {
        self.drivers.get(name).cloned()
    }

    fn live(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a driver hears of it. Cores that the cluster gave it are its alone from here on.
    pub fn holds(&self, task_id: &str, task: &str, alloc: &Allocation) {
        self.cores.reserve(task_id, cores_of(alloc, task));
        self.live().insert(task_id.to_owned());
    }

    /// After the driver has forgotten it.
    pub fn lets_go(&self, task_id: &str) {
        self.live().remove(task_id);
        self.cores.release(task_id);
    }

    pub fn held(&self) -> BTreeSet<String> {
        self.live().clone()
    }

    /// Waits while orphans are looked for.
    pub async fn may_begin(&self) {
        let mut sweeping = self.sweeping.subscribe();
        // The sender is in `self`, so the wait cannot fail.
        let _ = sweeping.wait_for(|busy| !busy).await;
    }

    /// Keeps everything from beginning until the guard is dropped.
    pub fn sweep_guard(&self) -> SweepGuard<'_> {
        self.sweeping.send_replace(true);
        SweepGuard(self)
    }
}

/// The machine's time zone, for hours that are to be local: `TZ`, or what `/etc/localtime` points to.
fn local_zone() -> String {
    let set = std::env::var("TZ").ok().map(|text| text.trim_start_matches(':').to_owned());
    let linked = || {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        target.to_str()?.split_once("zoneinfo/").map(|(_, name)| name.to_owned())
    };
    let named = set.filter(|name| !name.is_empty()).or_else(linked);
    named.filter(|name| model::cron::is_zone(name)).unwrap_or_else(|| "UTC".to_owned())
}

/// The cores that the cluster gave to a task alone.
pub fn cores_of<'a>(alloc: &'a Allocation, task: &str) -> &'a [u16] {
    let given = alloc.allocated_resources.as_ref().and_then(|r| r.tasks.get(task));
    given.map(|given| given.cpu.reserved_cores.as_slice()).unwrap_or_default()
}

pub struct SweepGuard<'a>(&'a Host);

impl Drop for SweepGuard<'_> {
    fn drop(&mut self) {
        self.0.sweeping.send_replace(false);
    }
}
