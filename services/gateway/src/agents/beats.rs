//! Signs of life, gathered and handed to the controller.

use std::collections::BTreeSet;
use std::time::Duration;

use api::controller::{BEATS, Beats as Gathered, BeatsTaken};
use api::node::{BEAT, Beat, BeatTaken};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use client::active::Active;
use kit::guard::{Peer, Refused};
use kit::process::Shutdown;
use model::{NodeId, Role};

use super::batch::{BatchError, Batcher};
use super::{controller, own_node};
use crate::app::App;

/// How long beats gather.
pub const GATHER: Duration = Duration::from_millis(50);
const CALL: Duration = Duration::from_secs(2);
/// How long a batch of beats waits for a controller that takes it.
const HOLD: Duration = Duration::from_millis(1_500);
/// Gateways told to an agent.
const GATEWAYS_MAX: usize = 16;

/// What one node says, or what its broken stream says for it.
enum Sign {
    Alive(NodeId),
    Broken(NodeId),
}

/// What a node gets back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub period_ms: u64,
    pub unknown: bool,
}

/// Gathers beats.
pub struct Beats(Batcher<Sign, Taken>);

impl Beats {
    pub fn start(gateway: String, controller: Active, shutdown: Shutdown) -> Self {
        Self(Batcher::start(GATHER, shutdown, move |signs| hand_over(gateway.clone(), controller.clone(), signs)))
    }

    /// # Errors
    /// No controller took it.
    pub async fn alive(&self, node: NodeId) -> Result<Taken, BatchError> {
        self.0.submit(Sign::Alive(node)).await
    }

    /// The node's stream broke. If this cannot be told, the node's time to live tells it later.
    pub fn broken(&self, node: NodeId) {
        if !self.0.tell(Sign::Broken(node.clone())) {
            tracing::warn!(node_id = %node, "broken stream is not told to the controller");
        }
    }
}

async fn hand_over(gateway: String, controller: Active, signs: Vec<Sign>) -> Result<Vec<Taken>, String> {
    let (mut nodes, mut broken) = (Vec::new(), BTreeSet::new());
    for sign in &signs {
        match sign {
            Sign::Alive(node) => {
                // It came back, or beat on, after its stream broke.
                broken.remove(node);
                nodes.push(node.clone());
            }
            Sign::Broken(node) => drop(broken.insert(node.clone())),
        }
    }
    let beats = Gathered { gateway, nodes, broken: broken.into_iter().collect() };
    let taken: BeatsTaken = controller::post(&controller, BEATS, &beats, CALL, HOLD).await?;
    let unknown: BTreeSet<&NodeId> = taken.unknown.iter().collect();
    let answer = |sign: &Sign| match sign {
        Sign::Alive(node) => Taken { period_ms: taken.period_ms, unknown: unknown.contains(node) },
        Sign::Broken(_) => Taken::default(),
    };
    Ok(signs.iter().map(answer).collect())
}

pub(super) fn refused(error: &BatchError) -> Refused {
    let code = if *error == BatchError::Full { Code::TooMany } else { Code::NotReady };
    Refused::new(code, error.to_string())
}

/// Beat
///
/// Says that the node is alive. Answered once the controller knows.
#[utoipa::path(post, path = BEAT, operation_id = "beat", tag = "agents", request_body = Beat,
    responses(
        (status = 200, description = "Taken", body = BeatTaken),
        (status = 403, description = "Not the caller's node", body = ErrorBody),
        (status = 503, description = "No controller takes it", body = ErrorBody)))]
pub async fn beat(State(app): State<App>, peer: Peer, Json(beat): Json<Beat>) -> Result<Json<BeatTaken>, Refused> {
    let node = own_node(&peer, &beat.node_id)?;
    let taken = app.beats.alive(node).await.map_err(|e| refused(&e))?;
    let gateways = app.peers.peers(Role::Gateway).into_iter().take(GATEWAYS_MAX).map(|peer| peer.addr.to_string());
    Ok(Json(BeatTaken { period_ms: taken.period_ms, register_again: taken.unknown, gateways: gateways.collect() }))
}
