//! Between a node's agent and a gateway, over mutual TLS. The agent's certificate names its node; a
//! gateway takes nothing from it that concerns another.

use fsm::command::AllocClientUpdate;
use model::{AllocId, Allocation, Index, Node};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST` [`Register`], answered by [`Registered`].
pub const REGISTER: &str = "/v1/internal/node/register";
/// `POST` [`Beat`], answered by [`BeatTaken`].
pub const BEAT: &str = "/v1/internal/node/beat";
/// `GET` at an agent: its section of `/v1/agent/self`.
pub const CLIENT_STATS: &str = "/v1/agent/client";
/// `GET`, `POST` at an agent: the servers it talks to, `host:port` each.
pub const SERVERS: &str = "/v1/agent/servers";
/// `GET ?node=&after=&epoch=`: newline-delimited [`StreamLine`], without end.
pub const STREAM: &str = "/v1/internal/node/stream";
/// `POST` [`News`]: answered once it is committed.
pub const NEWS: &str = "/v1/internal/node/allocs";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Register {
    pub node: Node,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    pub index: Index,
    /// Milliseconds between beats.
    pub period_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Beat {
    pub node_id: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BeatTaken {
    pub period_ms: u64,
    /// The cluster does not know the node (any more).
    pub register_again: bool,
    /// Addresses of the gateways' mutual-TLS listeners, for when this one is gone.
    pub gateways: Vec<String>,
}

/// What changed for one node. The first line of a stream is `full` unless it resumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StreamLine {
    pub index: Index,
    pub epoch: String,
    /// `upserts` is everything there is for the node: what is not in it is gone.
    pub full: bool,
    /// Allocations with their job.
    pub upserts: Vec<Allocation>,
    pub gone: Vec<AllocId>,
    /// Nothing happened; the stream is alive.
    pub keepalive: bool,
    /// The gateway is leaving or the stream has reached its age: connect again, somewhere.
    pub close: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct News {
    pub updates: Vec<AllocClientUpdate>,
}
