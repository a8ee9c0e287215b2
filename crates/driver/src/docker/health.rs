//! Is there a Docker Engine, and does it answer?
//!
//! *Undetected* until it has answered once, *unhealthy* whenever it does not answer after that. The engine is
//! asked every [`PERIOD`], and at once when somebody met trouble; who follows [`Health::changes`] hears of a
//! change. The task ends with the driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::models::NetworkInspect;
use model::node::DriverInfo;
use tokio::sync::{Notify, watch};

use super::engine::sentence;
use super::options::Options;
use super::{NAME, Shared};

const PERIOD: Duration = Duration::from_secs(10);
/// An engine that does not answer within this does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Trouble is looked into no more often than this.
const SOON: Duration = Duration::from_millis(500);

pub(super) struct Health {
    info: Mutex<DriverInfo>,
    changed: watch::Sender<u64>,
    soon: Notify,
}

impl Default for Health {
    fn default() -> Self {
        let info =
            Mutex::new(DriverInfo { health_description: "not looked at yet".to_owned(), ..DriverInfo::default() });
        Self { info, changed: watch::Sender::new(0), soon: Notify::new() }
    }
}

impl Health {
    pub fn info(&self) -> DriverInfo {
        self.info.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Somebody met trouble.
    pub fn look_soon(&self) {
        self.soon.notify_one();
    }

    fn set(&self, found: Result<BTreeMap<String, String>, String>) {
        let mut info = self.info.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match found {
            Ok(attributes) => DriverInfo {
                attributes,
                detected: true,
                healthy: true,
                health_description: "Healthy".to_owned(),
                ..DriverInfo::default()
            },
            // What it was stays among the attributes: the node is the same node.
            Err(_) if info.detected => DriverInfo {
                healthy: false,
                health_description: "Failed to connect to docker daemon".to_owned(),
                ..info.clone()
            },
            Err(_) => DriverInfo {
                health_description: "Failed to connect to docker daemon".to_owned(),
                ..DriverInfo::default()
            },
        };
        if *info != now {
            *info = now;
            self.changed.send_modify(|n| *n += 1);
        }
    }
}

/// Looks once, and from then on again and again.
pub(super) async fn begin(shared: &Arc<Shared>) {
    shared.health.set(look(&shared.docker, &shared.options).await);
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        loop {
            {
                let Some(shared) = weak.upgrade() else { return };
                let soon = shared.health.soon.notified();
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    () = soon => tokio::time::sleep(SOON).await,
                }
            }
            let Some(shared) = weak.upgrade() else { return };
            let found = look(&shared.docker, &shared.options).await;
            if let Err(error) = &found {
                tracing::debug!(error, "Docker does not answer");
            }
            shared.health.set(found);
        }
    });
}

/// What the engine says of itself.
async fn look(docker: &Docker, options: &Options) -> Result<BTreeMap<String, String>, String> {
    let asking = async {
        let version = docker.version().await.map_err(|e| sentence(&e))?;
        let info = docker.info().await.map_err(|e| sentence(&e))?;
        let bridge = docker.inspect_network("bridge", None).await.ok();
        let mut attributes = BTreeMap::new();
        let mut set = |name: &str, value: String| {
            if !value.is_empty() {
                attributes.insert(format!("driver.{NAME}{name}"), value);
            }
        };
        set("", "true".to_owned());
        set(".version", version.version.unwrap_or_default());
        set(".os_type", info.os_type.unwrap_or_default());
        let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        set(".runtimes", runtimes.join(","));
        if options.allow_privileged {
            set(".privileged.enabled", "true".to_owned());
        }
        if options.volumes.enabled {
            set(".volumes.enabled", "true".to_owned());
        }
        if options.pids_limit > 0 {
            set(".pids.limit", options.pids_limit.to_string());
        }
        set(".bridge_ip", bridge.and_then(|bridge| bridge_ip(&bridge)).unwrap_or_default());
        if !rustix::process::geteuid().is_root() {
            set(".cpuset_management.disabled", "true".to_owned());
        }
        Ok(attributes)
    };
    tokio::time::timeout(ANSWER_MAX, asking).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// The host's address on the default network: what the engine says, else the interface's own.
fn bridge_ip(bridge: &NetworkInspect) -> Option<String> {
    let pools = bridge.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
    if let Some(gateway) = pools.into_iter().flatten().find_map(|pool| pool.gateway.clone()).filter(|ip| !ip.is_empty())
    {
        return Some(gateway);
    }
    let name = bridge.options.as_ref()?.get("com.docker.network.bridge.name")?;
    let found = nix::ifaddrs::getifaddrs().ok()?.filter(|one| one.interface_name == *name);
    let mut addresses = found.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()));
    addresses.next().map(|ip| ip.to_string())
}
