//! What nodes' agents ask of a gateway, over mutual TLS: register, beat, follow their allocations, tell
//! news, renew their certificate.
//!
//! ```text
//!   agent ──register──► command in the log, then a first beat
//!         ──beat──────► at most every 50 ms, together ─► controller
//!         ◄─stream────  the node's allocations from the replica, as deltas
//!         ──news──────► at most every 3 ms (busy: less often), together ─► controller, answered once committed
//! ```
//!
//! Invariants
//! * The caller's certificate names its node; nothing is taken from it that concerns another, and nothing from
//!   a node whose trust was revoked, or by a certificate from before that.
//! * A gateway keeps nothing of a node but its open stream.
//! * Whatever is passed on to the controller may be said twice, and is said again until one takes it or the
//!   agent has stopped waiting.

use std::sync::Arc;
use std::time::Duration;

use api::Code;
use axum::extract::DefaultBodyLimit;
use client::replica::NotReached;
use kit::guard::{Peer, Refused, require};
use model::{Index, NodeId, Role};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::blocking::View;

pub mod batch;
pub mod beats;
pub mod certificates;
pub mod controller;
pub mod introduce;
pub mod news;
pub mod register;
pub mod stream;
pub mod streams;

const AGENTS: &[Role] = &[Role::Agent];
/// Largest beat or signing request.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// The routes of the agents' protocol.
pub fn router() -> OpenApiRouter<App> {
    let limit = DefaultBodyLimit::max;
    OpenApiRouter::new()
        .routes(routes!(register::register).layer(limit(register::BODY_BYTES_MAX)))
        .routes(routes!(news::news))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(beats::beat))
                .routes(routes!(stream::stream))
                .routes(routes!(certificates::sign))
                .layer(limit(BODY_BYTES_MAX)),
        )
        .layer(require(AGENTS))
        .merge(OpenApiRouter::new().routes(routes!(introduce::introduce)).layer(limit(BODY_BYTES_MAX)))
}

/// The state as the whole cluster has it now, or newer; not merely what this copy happens to have.
///
/// # Errors
/// There is no leader, or the copy does not come up to it in time.
async fn fresh(app: &App, within: Duration) -> Result<Arc<View>, Refused> {
    let deadline = Instant::now() + within;
    let no_leader = |_| Refused::new(Code::NoLeader, "no cluster leader");
    let index = app.state.read_index(within).await.map_err(no_leader)?;
    let caught_up = app.replica.committed(index, deadline.saturating_duration_since(Instant::now())).await;
    caught_up.map_err(lags)?;
    Ok(app.watches.view())
}

fn lags(_: NotReached) -> Refused {
    Refused::new(Code::NotReady, "this gateway's copy of the state lags behind")
}

/// The state at this index, or newer.
///
/// # Errors
/// The copy does not come up to it in time.
async fn reached(app: &App, index: Index, deadline: Instant) -> Result<Arc<View>, Refused> {
    app.replica.reached(index, deadline.saturating_duration_since(Instant::now())).await.map_err(lags)?;
    // The view is stored before the replica says that it has reached its index.
    Ok(app.watches.view())
}

/// The caller's node, when it is the one named and still trusted. This copy of the state may be a moment
/// behind; what is written for the node is checked again in the log.
///
/// # Errors
/// It names another, or was purged and its trust revoked.
fn trusted_node(app: &App, peer: &Peer, named: &str) -> Result<NodeId, Refused> {
    let node = own_node(peer, named)?;
    trusted(app, peer)?;
    Ok(node)
}

/// Whether an agent's certificate is still taken.
///
/// # Errors
/// Its node was purged since it was made.
pub fn trusted(app: &App, peer: &Peer) -> Result<(), Refused> {
    let node = NodeId::from(peer.name.as_str());
    taken(&app.watches.view().state, &node, &peer.admission)
}

/// # Errors
/// As [`trusted`], by this state.
fn taken(state: &fsm::State, node: &NodeId, admission: &str) -> Result<(), Refused> {
    if !state.shuts_out(node, admission) {
        return Ok(());
    }
    let text = if state.is_revoked(node) {
        "this node was purged and must be introduced anew"
    } else {
        "this certificate is from before the node was purged and introduced anew"
    };
    Err(Refused::new(Code::Forbidden, text))
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
