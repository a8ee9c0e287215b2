//! One member, as it travels in packets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use client::tls::{Role, is_label, is_name};
use serde::{Deserialize, Serialize};

use super::GossipConfig;

/// Names and values together; two members with full tags still fit into one packet.
const TAGS_BYTES_MAX: usize = 256;

/// A few short facts about a member.
pub type Tags = BTreeMap<String, String>;

/// What is believed of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Alive,
    /// It did not answer; it counts as alive until it had time to object.
    Suspect,
    /// It did not object, or it left.
    Failed,
    /// It failed, and somebody said that it will not come back as it was.
    Left,
}

impl Status {
    /// Whether it may be called.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A process of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: Arc<str>,
    pub role: Role,
    pub region: Arc<str>,
    pub datacenter: Arc<str>,
    /// Where it takes gossip packets.
    pub gossip: SocketAddr,
    /// Where its internal listener is.
    pub api: SocketAddr,
    /// Grows each time the process restarts, changes its facts or takes its name back: unix
    /// milliseconds, or one more than before.
    pub incarnation: u64,
    pub tags: Tags,
}

/// What stays the same when a process restarts elsewhere.
pub(super) type Key = (Role, Arc<str>, Arc<str>);

impl Member {
    pub(super) fn new(config: &GossipConfig, gossip: SocketAddr) -> Self {
        Self {
            name: config.name.as_str().into(),
            role: config.role,
            region: config.region.as_str().into(),
            datacenter: config.datacenter.as_str().into(),
            gossip,
            api: config.api,
            incarnation: unix_ms(),
            tags: config.tags.clone(),
        }
    }

    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    pub(super) fn key(&self) -> Key {
        (self.role, self.name.clone(), self.region.clone())
    }

    pub(super) fn is_same_process_as(&self, other: &Self) -> bool {
        self.role == other.role && self.name == other.name && self.region == other.region
    }

    /// Ourselves, anew: wins over `known` and over what we were.
    pub(super) fn renewed(&self, known: u64) -> Self {
        let incarnation = unix_ms().max(self.incarnation.max(known).saturating_add(1));
        Self { incarnation, ..self.clone() }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if !is_name(&self.name) {
            return Err("bad name");
        }
        if !is_label(&self.region) || !is_label(&self.datacenter) {
            return Err("bad region or datacenter");
        }
        if self.gossip.ip().is_unspecified() || self.gossip.port() == 0 {
            return Err("gossip address cannot be reached");
        }
        if self.api.ip().is_unspecified() || self.api.port() == 0 {
            return Err("internal address cannot be reached");
        }
        check_tags(&self.tags)
    }
}

pub(super) fn check_tags(tags: &Tags) -> Result<(), &'static str> {
    let bytes: usize = tags.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > TAGS_BYTES_MAX { Err("tags are too long") } else { Ok(()) }
}

impl foca::Identity for Member {
    type Addr = Key;

    fn renew(&self) -> Option<Self> {
        Some(self.renewed(0))
    }

    fn addr(&self) -> Key {
        self.key()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.incarnation, self.gossip) > (adversary.incarnation, adversary.gossip)
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX / 2)
}
