//! Whether a node may be used, and which class it is of.
//!
//! The *computed class* is one number for everything that a constraint can ask of a node and that other
//! nodes may share: two nodes of a class pass or fail the same checks, so a scheduler asks once for a
//! class. Keys that start with `unique.` are left out; a constraint on one of those is asked node by
//! node.

use crate::hash;
use crate::ids::NodeId;
use crate::node::{Attribute, Node, NodeDeviceResource};
use crate::status::{Eligibility, NodeStatus};

/// Keys with this prefix say something about one node only.
pub const UNIQUE_PREFIX: &str = "unique.";

impl Node {
    /// May receive allocations: status `ready`, eligible, not draining.
    pub fn is_ready(&self) -> bool {
        self.status == NodeStatus::Ready && self.is_eligible() && !self.is_draining()
    }

    pub fn is_eligible(&self) -> bool {
        self.scheduling_eligibility == Eligibility::Eligible
    }

    pub fn is_draining(&self) -> bool {
        self.drain_strategy.is_some()
    }

    pub fn is_down(&self) -> bool {
        self.status == NodeStatus::Down
    }

    /// What runs on it must be moved or given up: down, disconnected or draining.
    pub fn is_tainted(&self) -> bool {
        self.is_draining() || matches!(self.status, NodeStatus::Down | NodeStatus::Disconnected)
    }

    /// The pool it is in; `default` when unset.
    pub fn pool(&self) -> &str {
        if self.node_pool.is_empty() { crate::access::NODE_POOL_DEFAULT } else { &self.node_pool }
    }

    /// True when a job of that pool may run here.
    pub fn is_in_pool(&self, pool: &str) -> bool {
        pool == crate::access::NODE_POOL_ALL || self.pool() == pool
    }

    /// True when the driver was found here and works.
    pub fn has_driver(&self, driver: &str) -> bool {
        self.drivers.get(driver).is_some_and(|info| info.detected && info.healthy)
    }

    /// The class of the node, as `v1:<decimal>`: a hash of datacenter, node class, node pool, and the
    /// attributes, metadata and devices that are not unique to it.
    pub fn computed_class(&self) -> String {
        let mut hash = Hash::new();
        for text in [&self.datacenter, &self.node_class, self.pool()] {
            hash.text(text);
        }
        for map in [&self.attributes, &self.meta] {
            let shared = map.iter().filter(|(key, _)| !key.starts_with(UNIQUE_PREFIX));
            for (key, value) in shared {
                hash.text(key);
                hash.text(value);
            }
            hash.end();
        }
        for device in self.node_resources.iter().flat_map(|resources| &resources.devices) {
            hash.device(device);
        }
        format!("v1:{}", hash.0)
    }

    /// The first eight characters of the id, as people see it.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }
}

/// The first eight characters of an id.
pub fn short_id(id: &NodeId) -> &str {
    id.as_str().get(..8).unwrap_or(id.as_str())
}

/// A hash over length-prefixed parts.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(hash::START)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = hash::fnv1a_from(self.0, bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }

    /// Ends a list, so that a part cannot move from one list to the next unseen.
    fn end(&mut self) {
        self.bytes(&u64::MAX.to_le_bytes());
    }

    fn device(&mut self, device: &NodeDeviceResource) {
        for text in [&device.vendor, &device.kind, &device.name] {
            self.text(text);
        }
        for (key, value) in device.attributes.iter().filter(|(key, _)| !key.starts_with(UNIQUE_PREFIX)) {
            self.text(key);
            self.attribute(value);
        }
        self.end();
    }

    fn attribute(&mut self, value: &Attribute) {
        match value {
            Attribute { float_val: Some(number), .. } => self.bytes(&number.to_bits().to_le_bytes()),
            Attribute { int_val: Some(number), .. } => self.bytes(&number.to_le_bytes()),
            Attribute { string_val: Some(text), .. } => self.text(text),
            Attribute { bool_val: Some(flag), .. } => self.bytes(&[u8::from(*flag)]),
            _ => self.end(),
        }
        self.text(&value.unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{DrainStrategy, DriverInfo, NodeResources};

    fn node() -> Node {
        let mut node = Node {
            id: "aaaaaaaa-1111-1111-1111-111111111111".into(),
            datacenter: "dc1".into(),
            status: NodeStatus::Ready,
            ..Node::default()
        };
        node.attributes.insert("kernel.name".into(), "linux".into());
        node.attributes.insert("unique.hostname".into(), "a".into());
        node
    }

    #[test]
    fn nodes_that_differ_only_in_what_is_unique_are_of_one_class() {
        let class = node().computed_class();
        let mut twin = node();
        twin.id = "b".into();
        twin.name = "b".into();
        twin.http_addr = "10.0.0.9:4646".into();
        twin.status = NodeStatus::Down;
        twin.attributes.insert("unique.hostname".into(), "b".into());
        twin.meta.insert("unique.rack".into(), "7".into());
        twin.drivers.insert("raw_exec".into(), DriverInfo::default());
        twin.node_resources = Some(NodeResources::default());
        assert_eq!(twin.computed_class(), class);
        assert!(class.starts_with("v1:") && class[3..].parse::<u64>().is_ok());
    }

    #[test]
    fn whatever_a_constraint_can_ask_of_a_class_changes_it() {
        let class = node().computed_class();
        let changes: [fn(&mut Node); 6] = [
            |node| node.datacenter = "dc2".into(),
            |node| node.node_class = "big".into(),
            |node| node.node_pool = "gpu".into(),
            |node| drop(node.attributes.insert("kernel.name".into(), "plan9".into())),
            |node| drop(node.meta.insert("kernel.name".into(), "linux".into())),
            |node| {
                let device = NodeDeviceResource { vendor: "acme".into(), ..NodeDeviceResource::default() };
                node.node_resources = Some(NodeResources { devices: vec![device], ..NodeResources::default() });
            },
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = node();
            change(&mut other);
            assert_ne!(other.computed_class(), class, "change {at}");
        }
    }

    #[test]
    fn a_draining_or_ineligible_node_is_not_ready() {
        let mut node = node();
        assert!(node.is_ready() && !node.is_tainted());
        node.drain_strategy = Some(DrainStrategy::default());
        assert!(!node.is_ready() && node.is_tainted());
        node.drain_strategy = None;
        node.scheduling_eligibility = Eligibility::Ineligible;
        assert!(!node.is_ready() && !node.is_tainted());
        assert!(node.is_in_pool("all") && node.is_in_pool("default") && !node.is_in_pool("gpu"));
    }
}
