//! The cluster's own facts: its beginning, how it schedules, its namespaces and node pools.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::access::{NODE_POOL_ALL, NODE_POOL_DEFAULT};
use model::namespace::{Namespace, NodePool};
use model::scheduler_config::{PreemptionConfig, SchedulerConfiguration};
use model::{Index, NamespaceName, Nanos};

use super::tx::Tx;
use crate::change::{Change, ClusterMeta};
use crate::command::{Founding, Refusal, Reply};

const NAME_BYTES_MAX: usize = 128;
const DESCRIPTION_BYTES_MAX: usize = 256;
/// How long the identities of a pool's nodes last unless it says otherwise.
const IDENTITY_TTL: Nanos = Nanos::from_secs(24 * 3_600);

/// Once per cluster: what every cluster has from the beginning.
pub(super) fn cluster_init(tx: &mut Tx, region: &str, epoch: &str, with: Option<&Founding>) -> Result<Reply, Refusal> {
    if !tx.state.cluster().epoch.is_empty() {
        return Err(Refusal::Conflict("cluster is initialized already".to_owned()));
    }
    if region.is_empty() || epoch.is_empty() {
        return Err(Refusal::Invalid("a cluster needs a region and an epoch".to_owned()));
    }
    let algorithm = with.and_then(|with| Some(with.scheduler.as_ref()?.scheduler_algorithm.as_str()));
    if !matches!(algorithm.unwrap_or("binpack"), "binpack" | "spread") {
        return Err(Refusal::Invalid(format!("invalid scheduler algorithm: {}", algorithm.unwrap_or_default())));
    }
    let feature_level = tx.state.cluster().feature_level;
    tx.put(Change::Cluster(ClusterMeta { region: region.to_owned(), epoch: epoch.to_owned(), feature_level }));
    let (create_index, modify_index) = (tx.index, tx.index);
    tx.put(Change::Namespace(Arc::new(Namespace {
        name: NamespaceName::default_namespace().to_string(),
        description: "Default shared namespace".to_owned(),
        create_index,
        modify_index,
        ..Namespace::default()
    })));
    let pools =
        [(NODE_POOL_ALL, "Node pool with all nodes in the cluster."), (NODE_POOL_DEFAULT, "Default node pool.")];
    for (name, description) in pools {
        put_pool(tx, name, description);
    }
    let usual = || SchedulerConfiguration {
        scheduler_algorithm: "binpack".to_owned(),
        preemption_config: PreemptionConfig { system_scheduler_enabled: true, ..PreemptionConfig::default() },
        ..SchedulerConfiguration::default()
    };
    let first = with.and_then(|with| with.scheduler.clone()).unwrap_or_else(usual);
    tx.put(Change::SchedulerConfig(Arc::new(SchedulerConfiguration { create_index, modify_index, ..first })));
    super::care::first_autopilot(tx, with.and_then(|with| with.autopilot.clone()).unwrap_or_default());
    Ok(Reply::Done)
}

/// A new node pool.
pub(super) fn put_pool(tx: &mut Tx, name: &str, description: &str) {
    tx.put(Change::NodePool(Arc::new(NodePool {
        name: name.to_owned(),
        description: description.to_owned(),
        node_identity_ttl: IDENTITY_TTL,
        create_index: tx.index,
        modify_index: tx.index,
        ..NodePool::default()
    })));
}

pub(super) fn feature_level(tx: &mut Tx, level: u32) -> Result<Reply, Refusal> {
    let current = tx.state.cluster().clone();
    if level < current.feature_level {
        let text = format!("feature level {level} is below the present {}", current.feature_level);
        return Err(Refusal::Conflict(text));
    }
    if level > current.feature_level {
        tx.put(Change::Cluster(ClusterMeta { feature_level: level, ..current }));
    }
    Ok(Reply::Done)
}

pub(super) fn scheduler(tx: &mut Tx, config: &SchedulerConfiguration, cas: Option<Index>) -> Result<Reply, Refusal> {
    if !matches!(config.scheduler_algorithm.as_str(), "" | "binpack" | "spread") {
        return Err(Refusal::Invalid(format!("invalid scheduler algorithm: {}", config.scheduler_algorithm)));
    }
    let old = tx.state.scheduler_config.clone();
    if cas.is_some_and(|cas| old.as_ref().is_none_or(|old| old.modify_index != cas)) {
        return Ok(Reply::Set { updated: false });
    }
    let mut new = config.clone();
    new.create_index = old.map_or(tx.index, |old| old.create_index);
    new.modify_index = tx.index;
    if new.scheduler_algorithm.is_empty() {
        new.scheduler_algorithm = "binpack".to_owned();
    }
    tx.put(Change::SchedulerConfig(Arc::new(new)));
    Ok(Reply::Set { updated: true })
}

fn valid_name(name: &str, extra: &[u8]) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

pub(super) fn valid_pool_name(name: &str) -> bool {
    valid_name(name, b"-_")
}

pub(super) fn namespaces(tx: &mut Tx, namespaces: &[Namespace]) -> Result<Reply, Refusal> {
    for namespace in namespaces {
        if !valid_name(&namespace.name, b"-") {
            let name = &namespace.name;
            let text = format!("Invalid namespace \"{name}\": 1 to {NAME_BYTES_MAX} letters, digits and dashes");
            return Err(Refusal::Invalid(text));
        }
        if namespace.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(Refusal::Invalid(format!(
                "Invalid namespace \"{}\": description longer than {DESCRIPTION_BYTES_MAX}",
                namespace.name
            )));
        }
    }
    for namespace in namespaces {
        let old = tx.state.namespace(&namespace.name.as_str().into()).cloned();
        let mut new = namespace.clone();
        new.create_index = old.as_ref().map_or(tx.index, |old| old.create_index);
        new.modify_index = old.as_ref().map_or(tx.index, |old| old.modify_index);
        if old.as_deref() != Some(&new) {
            new.modify_index = tx.index;
            tx.put(Change::Namespace(Arc::new(new)));
        }
    }
    Ok(Reply::Done)
}

pub(super) fn node_pools(tx: &mut Tx, pools: &[NodePool]) -> Result<Reply, Refusal> {
    for NodePool { name, description, scheduler_configuration, .. } in pools {
        if [NODE_POOL_ALL, NODE_POOL_DEFAULT].contains(&name.as_str()) {
            return Err(Refusal::Invalid(format!("modifying node pool \"{name}\" is not allowed")));
        }
        if !valid_pool_name(name) {
            return Err(Refusal::Invalid(format!("invalid node pool name \"{name}\"")));
        }
        if description.len() > DESCRIPTION_BYTES_MAX {
            return Err(Refusal::Invalid(format!("description longer than {DESCRIPTION_BYTES_MAX}")));
        }
        let algorithm = scheduler_configuration.as_ref().map_or("", |config| config.scheduler_algorithm.as_str());
        if !matches!(algorithm, "" | "binpack" | "spread") {
            return Err(Refusal::Invalid(format!("invalid scheduler algorithm: {algorithm}")));
        }
    }
    let last: BTreeMap<&str, &NodePool> = pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
    for (name, pool) in last {
        let old = tx.state.node_pool(name).cloned();
        let mut new = pool.clone();
        if new.node_identity_ttl.0 <= 0 {
            new.node_identity_ttl = IDENTITY_TTL;
        }
        new.create_index = old.as_ref().map_or(tx.index, |old| old.create_index);
        new.modify_index = old.as_ref().map_or(tx.index, |old| old.modify_index);
        if old.as_deref() != Some(&new) {
            new.modify_index = tx.index;
            tx.put(Change::NodePool(Arc::new(new)));
        }
    }
    Ok(Reply::Done)
}
