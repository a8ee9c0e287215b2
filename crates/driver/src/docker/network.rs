//! The network that the tasks of an allocation share (`network { mode = "bridge" }`).
//!
//! ```text
//!   holder: container nomad_init_<alloc> ── on the node's bridge, with an address and the group's ports
//!       ▲ container:<id>            ▲ its namespace, by path
//!   containers of the group     programs of the group (raw_exec)
//! ```
//!
//! The holder does nothing but be there: it outlives its tasks' restarts and the agent, and keeps address and
//! ports. The engine makes bridge, addresses, forwarding and names. [`make`](Docker::make_network) finds
//! what is there, so that it may be called before each start, by several tasks at once.
//!
//! Invariants: a holder carries this node's mark, so another's is never taken or removed; a sweep spares the
//! holders of allocations that have not ended.
//!
//! Driven by the agent's runners, before the first start and after the last end. What the engine refuses is
//! a sentence of the engine.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, Ipam, IpamConfig, NetworkCreateRequest, PortBinding,
    PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptions, CreateImageOptionsBuilder};
use futures::StreamExt as _;

use super::container::{LABEL_ALLOC, LABEL_OWNER};
use super::engine::{Meaning, meaning, sentence, timely};
use super::image::Wanted;
use super::pause::{IMAGE, PROGRAM, archive};
use super::{Docker, remove};
use crate::contract::{DriverError, GroupNetwork, Namespace, Notes};

/// On a holder, beside the node's mark; its value is the allocation's id.
pub(super) const LABEL_HOLDER: &str = "io.steppe.network";
/// Tries of what races with somebody who does the same.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
const IMPORT_MAX: Duration = Duration::from_secs(60);

fn refused(message: String) -> DriverError {
    DriverError::Start { message, recoverable: false }
}

fn failed(what: &str, error: &Error) -> DriverError {
    DriverError::Start { message: format!("{what}: {}", sentence(error)), recoverable: true }
}

fn name_of(alloc_id: &str) -> String {
    format!("nomad_init_{alloc_id}")
}

/// In place of a task id.
fn mark(alloc_id: &str) -> String {
    format!("{alloc_id}/~network")
}

impl Docker {
    pub(super) async fn make_network(&self, wanted: &GroupNetwork) -> Result<Namespace, DriverError> {
        let name = name_of(wanted.alloc_id.as_str());
        if let Some(found) = self.holder(&name, wanted).await? {
            return Ok(found);
        }
        let image = self.infra_image(wanted).await?;
        if wanted.is_bridge() {
            self.make_bridge(wanted).await?;
        }
        let body = self.holder_body(wanted, &image);
        for _ in 0..TRIES {
            self.open()?;
            let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
            match timely(self.0.docker.create_container(Some(options), body.clone())).await {
                Ok(_) => {}
                // Another task of the group was faster.
                Err(error) if meaning(&error) == Meaning::Conflict => {}
                Err(error) => return Err(failed("Failed to create the group's network", &error)),
            }
            match timely(self.0.docker.start_container(&name, None)).await {
                Ok(()) => {}
                Err(error) if matches!(meaning(&error), Meaning::NotModified | Meaning::NotFound) => {}
                Err(error) => {
                    let _ = remove(&self.0.docker, &name).await;
                    return Err(failed("Failed to set up the group's network", &error));
                }
            }
            if let Some(found) = self.holder(&name, wanted).await? {
                return Ok(found);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(DriverError::Start { message: "the group's network does not come up".to_owned(), recoverable: true })
    }

    /// The holder of that name, if it runs. One that ended is removed.
    async fn holder(&self, name: &str, wanted: &GroupNetwork) -> Result<Option<Namespace>, DriverError> {
        let found = match timely(self.0.docker.inspect_container(name, None)).await {
            Ok(found) => found,
            Err(error) if meaning(&error) == Meaning::NotFound => return Ok(None),
            Err(error) => return Err(failed("Failed to look at the group's network", &error)),
        };
        let labels = found.config.as_ref().and_then(|set| set.labels.clone()).unwrap_or_default();
        if labels.get(LABEL_OWNER) != Some(&format!("{}/{}", self.0.node_id, mark(wanted.alloc_id.as_str()))) {
            return Err(refused(format!("container name {name:?} is taken by a container that is not this node's")));
        }
        let state = found.state.as_ref();
        if state.and_then(|state| state.running) == Some(true) {
            return Ok(Some(namespace_of(&found, wanted)));
        }
        let begun = state.and_then(|state| state.status).is_some_and(|s| s.to_string() != "created");
        if begun {
            remove(&self.0.docker, name).await.map_err(|e| failed("Failed to remove the group's network", &e))?;
        }
        Ok(None)
    }

    /// What the holder runs: the operator's image, or a program of a dozen bytes that waits.
    async fn infra_image(&self, wanted: &GroupNetwork) -> Result<Infra, DriverError> {
        let options = &self.0.options;
        if !options.infra_image.is_empty() {
            let notes = Notes::default();
            let asked = Wanted {
                image: &options.infra_image,
                force_pull: false,
                load: None,
                auth: None,
                auth_soft_fail: true,
                timeout: options.infra_image_pull_timeout,
                notes: &notes,
            };
            let held_by = mark(wanted.alloc_id.as_str());
            let image = self.0.images.acquire(&held_by, asked).await?;
            return Ok(Infra { image: image.id, program: None });
        }
        let own = Infra { image: IMAGE.to_owned(), program: Some(vec![PROGRAM.to_owned()]) };
        match timely(self.0.docker.inspect_image(IMAGE)).await {
            Ok(_) => return Ok(own),
            Err(error) if meaning(&error) == Meaning::NotFound => {}
            Err(error) => return Err(failed("Failed to look at the image of group networks", &error)),
        }
        let Some(files) = archive() else {
            let text = "there is no image of group networks for this processor: set infra_image of the docker plugin";
            return Err(refused(text.to_owned()));
        };
        let (repo, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
        let asked = CreateImageOptionsBuilder::new().from_src("-").repo(repo).tag(tag).build();
        let mut making = self.0.docker.create_image(Some(asked), Some(bollard::body_full(files.into())), None);
        let all = async {
            while let Some(said) = making.next().await {
                said?;
            }
            Ok(())
        };
        let made = tokio::time::timeout(IMPORT_MAX, all).await.unwrap_or(Err(Error::RequestTimeoutError));
        made.map_err(|e| failed("Failed to make the image of group networks", &e)).map(|()| own)
    }

    /// The node's bridge, unless it is there.
    async fn make_bridge(&self, wanted: &GroupNetwork) -> Result<(), DriverError> {
        let bridge = &wanted.bridge;
        match timely(self.0.docker.inspect_network(bridge, None)).await {
            Ok(found) => {
                let pools = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
                if pools.iter().any(|pool| pool.subnet.as_deref() == Some(wanted.subnet.as_str())) {
                    return Ok(());
                }
                let has: Vec<_> = pools.into_iter().filter_map(|pool| pool.subnet).collect();
                let (wants, has) = (&wanted.subnet, has.join(", "));
                return Err(refused(format!(
                    "network {bridge:?} of the engine has {has}, not {wants}: remove it, or change bridge_network_subnet"
                )));
            }
            Err(error) if meaning(&error) == Meaning::NotFound => {}
            Err(error) => return Err(failed("Failed to look at the bridge network", &error)),
        }
        let pool = IpamConfig { subnet: Some(wanted.subnet.clone()), ..IpamConfig::default() };
        let request = NetworkCreateRequest {
            name: bridge.clone(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![pool]), ..Ipam::default() }),
            options: Some(HashMap::from([("com.docker.network.bridge.name".to_owned(), bridge.clone())])),
            labels: Some(HashMap::from([(LABEL_HOLDER.to_owned(), "bridge".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        if let Err(error) = timely(self.0.docker.create_network(request)).await {
            // Somebody else may have been faster.
            if timely(self.0.docker.inspect_network(bridge, None)).await.is_err() {
                return Err(failed(&format!("Failed to create bridge network {bridge:?}"), &error));
            }
        }
        Ok(())
    }

    fn holder_body(&self, wanted: &GroupNetwork, infra: &Infra) -> ContainerCreateBody {
        let alloc = wanted.alloc_id.as_str();
        let labels = [
            (LABEL_ALLOC, alloc.to_owned()),
            (LABEL_HOLDER, alloc.to_owned()),
            (LABEL_OWNER, format!("{}/{}", self.0.node_id, mark(alloc))),
        ];
        let (mut exposed, mut bindings) = (Vec::new(), PortMap::new());
        for port in wanted.ports.iter().filter(|_| wanted.is_bridge()) {
            let inner = if port.to > 0 { port.to } else { port.value };
            let host_ip = self.0.options.publish_address.map_or_else(|| port.host_ip.clone(), |at| at.to_string());
            for protocol in ["tcp", "udp"] {
                let key = format!("{inner}/{protocol}");
                let binding = PortBinding { host_ip: Some(host_ip.clone()), host_port: Some(port.value.to_string()) };
                bindings.entry(key.clone()).or_default().get_or_insert_default().push(binding);
                exposed.push(key);
            }
        }
        exposed.sort();
        exposed.dedup();
        let network = if wanted.is_bridge() { wanted.bridge.clone() } else { "none".to_owned() };
        ContainerCreateBody {
            image: Some(infra.image.clone()),
            entrypoint: infra.program.clone(),
            hostname: (!wanted.hostname.is_empty()).then(|| wanted.hostname.clone()),
            labels: Some(labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            exposed_ports: (!exposed.is_empty()).then_some(exposed),
            host_config: Some(HostConfig {
                network_mode: Some(network),
                port_bindings: Some(bindings),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                readonly_rootfs: Some(true),
                pids_limit: Some(8),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                    ..RestartPolicy::default()
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    pub(super) async fn drop_network(&self, alloc_id: &str) -> Result<(), DriverError> {
        let name = name_of(alloc_id);
        let found = match timely(self.0.docker.inspect_container(&name, None)).await {
            Ok(found) => found,
            Err(error) if meaning(&error) == Meaning::NotFound => return Ok(()),
            Err(error) => return Err(DriverError::Stop(sentence(&error))),
        };
        let labels = found.config.as_ref().and_then(|set| set.labels.clone()).unwrap_or_default();
        if labels.get(LABEL_OWNER) != Some(&format!("{}/{}", self.0.node_id, mark(alloc_id))) {
            return Ok(());
        }
        remove(&self.0.docker, &name).await.map_err(|e| DriverError::Stop(sentence(&e)))?;
        if let Some(image) = found.image.filter(|_| !self.0.options.infra_image.is_empty()) {
            self.0.images.release(&image, &mark(alloc_id));
        }
        Ok(())
    }
}

struct Infra {
    image: String,
    program: Option<Vec<String>>,
}

fn namespace_of(found: &ContainerInspectResponse, wanted: &GroupNetwork) -> Namespace {
    let settings = found.network_settings.as_ref();
    let own = settings.and_then(|s| s.networks.as_ref()).and_then(|all| all.get(&wanted.bridge));
    let text = |given: Option<&String>| given.cloned().unwrap_or_default();
    let sandbox = settings.and_then(|s| s.sandbox_key.clone()).map(PathBuf::from).filter(|path| path.exists());
    let pid = found.state.as_ref().and_then(|state| state.pid).unwrap_or_default();
    let hostname = text(found.config.as_ref().and_then(|set| set.hostname.as_ref()));
    Namespace {
        container: found.id.clone().unwrap_or_default(),
        path: sandbox.unwrap_or_else(|| PathBuf::from(format!("/proc/{pid}/ns/net"))),
        interface: if wanted.is_bridge() { "eth0".to_owned() } else { String::new() },
        address: text(own.and_then(|own| own.ip_address.as_ref())),
        gateway: text(own.and_then(|own| own.gateway.as_ref())),
        hostname,
    }
}
