//! Every number of the queue, named once.

/// Bounds and spans; see each for what happens at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Evaluations held in memory. Further rows are passed over and counted as overflow; when a quarter
    /// is free again, [`Effect::Rescan`](crate::Effect::Rescan) asks for all open rows once more.
    pub evals_max: usize,
    /// Sessions open at once; another is refused with `TooManySessions`.
    pub sessions_max: usize,
    /// Deliveries a session may hold; a dequeue beyond it returns nothing.
    pub session_unacked_max: usize,
    /// Deliveries in one dequeue.
    pub batch_max: usize,
    /// Evaluations in one effect.
    pub effect_evals_max: usize,
    /// Keys (classes, nodes, quotas, resources) whose last release is remembered; beyond it the
    /// oldest are forgotten, and evaluations that may have missed one of those are tried once more.
    pub freed_keys_max: usize,
    /// While more than this is ready, blocked evaluations are left blocked.
    pub ready_before_unblock_max: usize,
    /// Times a worker may say that it failed before the evaluation is given up.
    pub failures_max: u32,
    /// A session without a beat for this long is dead.
    pub session_ms: u64,
    /// An unanswered delivery of a living session goes out again after this.
    pub delivery_ms: u64,
    /// How long an acknowledged evaluation may wait for its row to arrive.
    pub ack_lag_ms: u64,
    /// How long the answer to a delivery whose row is finished is waited for.
    pub settle_ms: u64,
    /// Delay after the first reported failure.
    pub failure_first_ms: u64,
    /// Unit of the delay after further failures: the n-th waits (n - 1) times this.
    pub failure_next_ms: u64,
    /// An effect whose rows have not changed is asked for again after this.
    pub effect_retry_ms: u64,
    /// Least wait of the evaluation that follows one that was given up.
    pub follow_up_ms: u64,
    /// Span over which those waits are spread.
    pub follow_up_spread_ms: u64,
    /// Evaluations blocked by plan conflicts are tried again this often.
    pub conflict_retry_ms: u64,
    /// How long a release is remembered.
    pub freed_keep_ms: u64,
    /// Releases within this span wake blocked evaluations together.
    pub unblock_window_ms: u64,
    /// A silence of the shell itself beyond this does not count against anybody's deadline.
    pub gap_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            evals_max: 500_000,
            sessions_max: 1_024,
            session_unacked_max: 256,
            batch_max: 64,
            effect_evals_max: 728,
            freed_keys_max: 65_536,
            ready_before_unblock_max: 4_096,
            failures_max: 3,
            session_ms: 5_000,
            delivery_ms: 60_000,
            ack_lag_ms: 5_000,
            settle_ms: 1_000,
            failure_first_ms: 1_000,
            failure_next_ms: 20_000,
            effect_retry_ms: 10_000,
            follow_up_ms: 60_000,
            follow_up_spread_ms: 300_000,
            conflict_retry_ms: 5_000,
            freed_keep_ms: 15 * 60_000,
            unblock_window_ms: 20,
            gap_ms: 1_000,
        }
    }
}
