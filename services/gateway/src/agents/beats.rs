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

use super::batch::{BatchError, Batcher, Bounds, Yielding};
use super::{controller, trusted_node};
use crate::app::App;

/// Beats are handed over this often at most; 16,384 may wait.
pub const BOUNDS: Bounds = Bounds {
    pace: Duration::from_millis(50),
    batch_max: 8_192,
    queued_max: 16_384,
    // Who beats late is taken for dead.
    yielding: Yielding::NEVER,
};
const CALL: Duration = Duration::from_millis(500);
/// How long a batch of beats waits for a controller that takes it. An agent waits 1.5 s for its answer.
const HOLD: Duration = Duration::from_millis(1_200);
/// Gateways told to an agent.
const GATEWAYS_MAX: usize = 16;

/// What one node says, or what its broken stream says for it.
#[derive(Clone, Debug)]
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
        Self(Batcher::start(BOUNDS, shutdown, move |signs| pass_on(gateway.clone(), controller.clone(), signs)))
    }

    /// # Errors
    /// No controller took it.
    pub async fn alive(&self, node: NodeId) -> Result<Taken, BatchError> {
        self.0.submit(Sign::Alive(node), 1).await
    }

    /// The node's stream broke. If this cannot be told, the node's time to live tells it later.
    pub fn broken(&self, node: NodeId) {
        if let Err(error) = self.0.tell(Sign::Broken(node.clone()), 1) {
            tracing::debug!(node_id = %node, error = %error, "broken stream is not told to the controller");
        }
    }
}

async fn pass_on(gateway: String, controller: Active, signs: Vec<Sign>) -> Result<Vec<Taken>, String> {
    let beats = gathered(gateway, &signs);
    let taken: BeatsTaken = controller::post(&controller, BEATS, &beats, CALL, HOLD).await?;
    let unknown: BTreeSet<&NodeId> = taken.unknown.iter().collect();
    let answer = |sign: &Sign| match sign {
        Sign::Alive(node) => Taken { period_ms: taken.period_ms, unknown: unknown.contains(node) },
        Sign::Broken(_) => Taken::default(),
    };
    Ok(signs.iter().map(answer).collect())
}

/// One message for all of them. The order matters: a node that beats after its stream broke is alive, and
/// one whose stream broke after it beat is both, which the controller takes as the latter.
fn gathered(gateway: String, signs: &[Sign]) -> Gathered {
    let (mut nodes, mut broken) = (BTreeSet::new(), BTreeSet::new());
    for sign in signs {
        match sign {
            Sign::Alive(node) => {
                broken.remove(node);
                nodes.insert(node.clone());
            }
            Sign::Broken(node) => {
                broken.insert(node.clone());
            }
        }
    }
    Gathered { gateway, nodes: nodes.into_iter().collect(), broken: broken.into_iter().collect() }
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
        (status = 429, description = "Too many beats are waiting", body = ErrorBody),
        (status = 503, description = "No controller takes it", body = ErrorBody)))]
pub async fn beat(State(app): State<App>, peer: Peer, Json(beat): Json<Beat>) -> Result<Json<BeatTaken>, Refused> {
    let node = trusted_node(&app, &peer, &beat.node_id)?;
    let taken = app.beats.alive(node.clone()).await.map_err(|e| refused(&e))?;
    // A controller whose copy of the state lags behind does not know a new node yet.
    let register_again = taken.unknown && app.watches.view().state.node(&node).is_none();
    let gateways = app.peers.peers(Role::Gateway).into_iter().take(GATEWAYS_MAX).map(|peer| peer.addr.to_string());
    Ok(Json(BeatTaken { period_ms: taken.period_ms, register_again, gateways: gateways.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_beats_after_its_stream_broke_is_not_told_as_broken() {
        let (one, two, three) = (NodeId::from("1"), NodeId::from("2"), NodeId::from("3"));
        let signs = [
            Sign::Broken(one.clone()),
            Sign::Alive(two.clone()),
            Sign::Alive(one.clone()),
            Sign::Broken(two.clone()),
            Sign::Broken(three.clone()),
            Sign::Alive(one.clone()),
        ];
        let told = gathered("g".to_owned(), &signs);
        assert_eq!(told.nodes, [one, two.clone()]);
        assert_eq!(told.broken, [two, three]);
    }
}
