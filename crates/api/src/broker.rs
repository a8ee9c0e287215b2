//! The eval broker: work out, verdicts in.

use model::{EvalId, Evaluation, Index, JobKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST` [`SessionOpen`], answered by [`SessionOpened`].
pub const SESSIONS: &str = "/v1/internal/sessions";
/// `POST` [`SessionBeat`].
pub const BEAT: &str = "/v1/internal/sessions/beat";
/// `POST` [`Dequeue`], a long poll answered by [`Dequeued`].
pub const DEQUEUE: &str = "/v1/internal/dequeue";
/// `POST` [`Verdicts`].
pub const VERDICTS: &str = "/v1/internal/verdicts";
/// `GET`: [`BrokerStats`].
pub const STATS: &str = "/v1/internal/stats";

/// Milliseconds between a worker's beats.
pub const BEAT_MS: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionOpen {
    /// Name of the worker's process.
    pub name: String,
    pub kinds: Vec<JobKind>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionOpened {
    pub session: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionBeat {
    pub session: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dequeue {
    pub session: String,
    pub max: usize,
    pub wait_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dequeued {
    pub deliveries: Vec<Delivered>,
}

/// One evaluation, handed to one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Delivered {
    pub eval: Evaluation,
    /// Names this delivery; goes with the plan and the verdict.
    pub token: String,
    /// The worker's replica must have reached this.
    pub wait_index: Index,
}

/// What became of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdicts {
    pub session: String,
    pub verdicts: Vec<Verdict>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    pub eval_id: EvalId,
    pub token: String,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, last commit at this index.
    Ack { index: Index },
    /// The worker could not do it and says so: counts against the delivery limit.
    Failed,
    /// Not the worker's fault (no applier, shutting down): does not count.
    Returned,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BrokerStats {
    pub active: bool,
    pub ready: u64,
    pub unacked: u64,
    pub pending: u64,
    pub waiting: u64,
    pub blocked: u64,
    pub sessions: u64,
}
