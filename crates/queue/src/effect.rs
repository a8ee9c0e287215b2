//! What the queue wants the shell to propose to the state service.

use model::{EvalId, Evaluation};

/// A wish of the queue. All are level-triggered: one that had no effect is asked for again, one that is
/// performed twice changes nothing the second time.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// `EvalUnblock`: these may fit now and become pending.
    Unblock { evals: Vec<EvalId>, reason: UnblockReason },
    /// `EvalFinish`: rows as they shall stand (cancelled, failed), and the follow-ups to create.
    Finish { evals: Vec<Evaluation>, create: Vec<Evaluation> },
    /// There is room for rows that were passed over: call [`refill`](crate::Broker::refill).
    Rescan,
}

/// Why blocked evaluations are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnblockReason {
    Freed,
    ConflictRetry,
}

impl UnblockReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Freed => "what it waits for may be free now",
            Self::ConflictRetry => "retry after plan conflicts",
        }
    }
}
