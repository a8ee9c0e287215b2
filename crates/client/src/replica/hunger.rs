//! How long may a source keep readers waiting for what is committed?

use std::time::Duration;

use model::Index;
use tokio::sync::watch;
use tokio::time::Instant;

/// A source may keep a reader waiting so long.
const STARVED: Duration = Duration::from_millis(500);

/// How long readers have waited for a line.
pub(super) struct Hunger {
    wanted: watch::Receiver<Index>,
    since: Option<Instant>,
}

impl Hunger {
    pub fn new(wanted: watch::Receiver<Index>) -> Self {
        Self { wanted, since: None }
    }

    /// Something came.
    pub fn fed(&mut self) {
        self.since = None;
    }

    /// Comes when the copy at `at` has lacked a committed index for too long. May be cancelled without loss.
    pub async fn starved(&mut self, at: Index) -> Index {
        let Ok(wanted) = self.wanted.wait_for(|wanted| *wanted > at).await.map(|wanted| *wanted) else {
            return std::future::pending().await;
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        tokio::time::sleep_until(since + STARVED).await;
        wanted
    }
}
