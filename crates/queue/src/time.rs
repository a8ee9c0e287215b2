//! What the shell says about time.

use model::Timestamp;

/// The two clocks of the shell, read together. Spans (sessions, back-off, deadlines) are measured on the
/// first; moments in rows (`WaitUntil`) are compared with the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back and also runs while the machine sleeps.
    pub mono_ms: u64,
    pub wall: Timestamp,
}
