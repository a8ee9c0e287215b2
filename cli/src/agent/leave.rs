//! A machine that leaves in good order, rather than ends and is expected back.
//!
//! ```text
//!   node: drain ─► drained, or deadline + 5 s ─┐
//!   server: hand over the lead ─► out of the raft group ─► the end, which says goodbye in gossip
//! ```
//!
//! Everything is asked of the machine's own public API while its processes run on. What cannot be done in its
//! time is said and passed over: the machine ends in any case, and a second signal ends it at once.

use std::time::{Duration, Instant};

use api::operate::{DrainSpec, NodeUpdateDrainRequest};
use api::public::RaftConfiguration;
use client::public::{PublicClient, PublicError, Query, Settings, segment};
use client::tls::Identity;
use config::settings::DrainOnShutdown;
use http::Method;
use model::{Nanos, Node};

use super::log::Log;
use super::plan::Machine;

/// Beyond a drain's deadline.
const MARGIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(500);
/// A server has this long to be let go.
const SERVER: Duration = Duration::from_secs(10);
const LEFT: &str = "this server has left the raft group";
const CALL: Duration = Duration::from_secs(5);
const CONFIGURATION: &str = "/v1/operator/raft/configuration";
const TRANSFER: &str = "/v1/operator/raft/transfer-leadership";
const PEER: &str = "/v1/operator/raft/peer";

/// Whether the machine has anything to do before it ends.
pub fn has_work(machine: &Machine) -> bool {
    let config = &machine.config;
    !machine.dev && (config.server.enabled || config.client.drain_on_shutdown.is_some())
}

/// Leaves, as far as can be.
pub async fn leave(machine: &Machine, log: &Log) {
    let settings = Settings { timeout: CALL, ..super::own_api(machine) };
    let Ok(api) = PublicClient::new(settings) else { return };
    let config = &machine.config;
    if let Some(drain) = config.client.drain_on_shutdown.as_ref().filter(|_| config.client.enabled) {
        match drained(machine, &api, drain).await {
            Ok(text) => log.info(text),
            Err(error) => log.warn(&format!("the node cannot be drained: {error}")),
        }
    }
    if config.server.enabled {
        match tokio::time::timeout(SERVER, out_of_the_group(machine, &api)).await {
            Ok(Ok(text)) => log.info(text),
            Ok(Err(error)) => log.warn(&format!("this server stays a member of the raft group: {error}")),
            Err(_) => log.warn("this server stays a member of the raft group: it was not let go in time"),
        }
    }
}

async fn drained(machine: &Machine, api: &PublicClient, drain: &DrainOnShutdown) -> anyhow::Result<&'static str> {
    let identity = Identity::load(machine.client_dir().join("identity"))?;
    let path = format!("/v1/node/{}", segment(&identity.me().name));
    let deadline = if drain.force { Nanos(-1) } else { drain.deadline };
    let request = NodeUpdateDrainRequest {
        drain_spec: Some(DrainSpec { deadline, ignore_system_jobs: drain.ignore_system_jobs }),
        ..NodeUpdateDrainRequest::default()
    };
    let until = Instant::now() + Duration::from_nanos(u64::try_from(deadline.0).unwrap_or(0)) + MARGIN;
    let mut asked = false;
    loop {
        let step = if asked {
            let node = api.get::<Node>(&path, &Query::default()).await;
            node.map(|(node, _)| node.drain_strategy.is_none())
        } else {
            let put = api.put::<_, serde_json::Value>(&format!("{path}/drain"), &Query::default(), &request).await;
            put.map(|_| {
                asked = true;
                false
            })
        };
        match step {
            Ok(true) => return Ok("the node is drained"),
            Ok(false) if Instant::now() > until => return Ok("the node is not drained in time, tasks run on"),
            Err(error) if Instant::now() > until => return Err(error.into()),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// Asks again and again: the lead may be on its way from one to another.
async fn out_of_the_group(machine: &Machine, api: &PublicClient) -> anyhow::Result<&'static str> {
    let own = format!("{}.{}", machine.name, machine.config.region);
    loop {
        match one_step(api, &own).await {
            Ok(Some(text)) => return Ok(text),
            Ok(None) | Err(PublicError::Status { .. }) => tokio::time::sleep(POLL / 2).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn one_step(api: &PublicClient, own: &str) -> Result<Option<&'static str>, PublicError> {
    let (group, _) = api.get::<RaftConfiguration>(CONFIGURATION, &Query::default()).await?;
    let Some(me) = group.servers.iter().find(|server| server.node == own) else {
        return Ok(Some(LEFT));
    };
    let Some(heir) = group.servers.iter().find(|server| server.node != own && server.voter) else {
        return Ok(Some("this server is the only one that votes, and stays the cluster's"));
    };
    if me.leader {
        api.send(Method::PUT, TRANSFER, &Query::default().with("id", &*heir.id), None).await?;
        return Ok(None);
    }
    // Nobody tells a server that is out what the group is now: the leader's word is the last one.
    api.send(Method::DELETE, PEER, &Query::default().with("id", &*me.id), None).await?;
    Ok(Some(LEFT))
}
