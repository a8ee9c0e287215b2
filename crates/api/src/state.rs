//! The state service: commands in, feed and snapshots out.

use fsm::{LeaseName, Reply};
use model::{Index, Role, Term};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST`: an `fsm::Envelope`, answered by [`Proposed`].
pub const PROPOSE: &str = "/v1/internal/propose";
/// `GET`: [`ReadIndex`].
pub const READ_INDEX: &str = "/v1/internal/read-index";
/// `GET ?after=&hash=&epoch=&tables=a,b`: newline-delimited `fsm::FeedLine`, without end.
pub const FEED: &str = "/v1/internal/feed";
/// A line of the feed that only says that the source is alive.
pub const FEED_BEAT: &[u8] = b"{}";
/// `GET ?tables=a,b`: a snapshot in fsm's codec.
pub const SNAPSHOT: &str = "/v1/internal/snapshot";
/// `GET ?index=`: the whole state once it has reached that index, with what followers never get.
pub const ARCHIVE: &str = "/v1/internal/archive";
/// `GET`: `OperatorHealthReply`, as the leader last found it.
pub const AUTOPILOT_HEALTH: &str = "/v1/internal/autopilot/health";
/// `POST`: the server that is called was taken out of the group by an operator.
pub const DISMISSED: &str = "/v1/internal/raft/dismissed";
/// `GET`: [`RaftStatus`].
pub const RAFT_STATUS: &str = "/v1/internal/raft/status";
/// `POST` [`ChangePeers`]: change the set of voters.
pub const RAFT_PEERS: &str = "/v1/internal/raft/peers";
/// `POST` raft messages between state servers, `…/{verb}`.
pub const RAFT_RPC: &str = "/v1/internal/raft/rpc";
/// `GET`: a stream that ends with the server, for its followers.
pub const RAFT_WATCH: &str = "/v1/internal/raft/watch";
/// `POST` [`RenewLease`], answered by [`RaftContact`]: the caller goes on holding its lease.
pub const LEASE: &str = "/v1/internal/lease";
/// `POST` [`SignRequest`]: a certificate for a key.
pub const CERTIFICATES: &str = "/v1/internal/certificates";

/// A command was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Proposed {
    pub index: Index,
    pub reply: Reply,
}

/// A linearizable read may be answered from a replica that has reached `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadIndex {
    pub index: Index,
}

/// A leader's word that it leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RaftContact {
    /// Milliseconds since it sent what a quorum has answered: until then nobody else led.
    pub age_ms: u64,
}

/// A holder's sign of life. Nothing of it is in the log: the leader remembers when it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewLease {
    pub lease: LeaseName,
    pub holder: String,
    pub term: Term,
}

/// Raft as one server sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RaftStatus {
    pub id: u64,
    /// It has a log.
    pub initialized: bool,
    /// Raft id of whom it expects to found the group while it has no log; 0 = nobody.
    pub founder: u64,
    /// It has a log, hears no leader, and was not removed by hand: it wants to be taken in.
    pub asks: bool,
    /// Why it is not part of a cluster, or what it waits for to be; empty when it is.
    pub waiting: String,
    pub name: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    pub term: Term,
    pub leader: Option<RaftPeer>,
    pub peers: Vec<RaftPeer>,
    pub last_log: Index,
    pub committed: Index,
    pub applied: Index,
    pub snapshot: Index,
    /// Milliseconds since this server last heard from the leader; on the leader, since it sent what a quorum has
    /// answered.
    pub last_contact_ms: u64,
    /// Milliseconds since each peer last answered this server, while it leads.
    pub healthy: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RaftPeer {
    pub id: u64,
    pub name: String,
    /// `host:port` of its internal listener.
    pub addr: String,
    pub voter: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ChangePeers {
    Add(RaftPeer),
    Remove { id: u64 },
    TransferLeadership { to: u64 },
}

/// `POST` [`RotateKey`], answered by [`RotatedKey`].
pub const ROTATE_KEY: &str = "/v1/internal/keyring/rotate";

/// Ask for a new root key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RotateKey {
    /// The asker's name for this wish, so that it is done once.
    pub request: Option<fsm::RequestId>,
    /// Id of the key to make, a UUID.
    pub key_id: String,
    /// Unix nanoseconds from which on it signs; 0 = at once.
    pub publish_time: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RotatedKey {
    pub key: model::keyring::RootKeyMeta,
    pub index: Index,
}

/// `POST` [`MintToken`], answered by [`Minted`].
pub const INTRODUCTION_TOKEN: &str = "/v1/internal/introduction-token";
/// `POST` [`Introduce`], answered by [`Introduced`]. The one call that needs no certificate.
pub const INTRODUCE: &str = "/v1/internal/introduce";

/// Ask for an introduction token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MintToken {
    /// How long it may be used, in nanoseconds; 0 = as usual.
    pub ttl_ns: i64,
    /// Only for a node of this name; empty: any.
    pub node_name: String,
    /// Only for a node of this pool; empty: any.
    pub node_pool: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Minted {
    pub token: String,
}

/// A node that has a token asks for its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Introduce {
    /// The token's claims, as they stand in it.
    pub claims: String,
    /// Certificate signing request, PEM.
    pub csr: String,
    /// A UUID.
    pub node_id: String,
    pub node_name: String,
    pub node_pool: String,
    /// That the asker has the token.
    pub proof: String,
    /// The mark for its certificate. Gateways say it; a node's own word is not looked at.
    pub admission: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Introduced {
    /// The cluster's authority, PEM.
    pub ca: String,
    /// The node's certificate, PEM.
    pub certificate: String,
    /// That the answerer may make tokens.
    pub proof: String,
}

impl Introduce {
    /// What its proof is about.
    pub fn parts(&self) -> [&str; 4] {
        [&self.csr, &self.node_id, &self.node_name, &self.node_pool]
    }
}

/// Ask for a certificate. The name and role must be the caller's own, or the caller an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignRequest {
    /// Certificate signing request, PEM.
    pub csr: String,
    pub role: Role,
    pub name: String,
    /// The mark of an agent's admission, as a gateway knows it.
    #[serde(default)]
    pub admission: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signed {
    /// Certificate chain, PEM.
    pub certificate: String,
    /// The cluster's authority, PEM.
    #[serde(default)]
    pub ca: String,
}
