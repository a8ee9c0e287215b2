//! What nodes' agents ask of a gateway, over mutual TLS: register, beat, follow their allocations, tell
//! news, renew their certificate.
//!
//! ```text
//!   agent ──register──► command in the log, then a first beat
//!         ──beat──────► gathered for 50 ms ─► controller
//!         ◄─stream────  the node's allocations from the replica, as deltas
//!         ──news──────► gathered while the last batch is on its way ─► controller, answered once committed
//! ```
//!
//! Invariants
//! * The caller's certificate names its node; nothing is taken from it that concerns another.
//! * A gateway keeps nothing of a node but its open stream.
//!
//! In work: the files of this module are being changed on their own (register, beats, stream, news,
//! certificates, batch). What the rest of the gateway uses stays as it is: `router()`, `Beats::start`,
//! `NewsDesk::start`, `Streams::default`.

use api::Code;
use kit::guard::{Peer, Refused, require};
use model::{NodeId, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub mod batch;
pub mod beats;
pub mod certificates;
mod controller;
pub mod news;
pub mod register;
pub mod stream;

const AGENTS: &[Role] = &[Role::Agent];

/// The routes of the agents' protocol.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register::register))
        .routes(routes!(beats::beat))
        .routes(routes!(stream::stream))
        .routes(routes!(news::news))
        .routes(routes!(certificates::sign))
        .layer(require(AGENTS))
}

/// The caller's node, when it is the one named.
///
/// # Errors
/// It names another.
fn own_node(peer: &Peer, named: &str) -> Result<NodeId, Refused> {
    if peer.name != named {
        tracing::warn!(node_id = %peer.name, named, "an agent spoke for another node");
        return Err(Refused::new(Code::Forbidden, "an agent speaks for its own node only"));
    }
    Ok(NodeId::from(named))
}
