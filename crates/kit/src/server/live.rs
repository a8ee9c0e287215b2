//! Limits of a listener that may change while it listens. They go for connections that come from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::Limits;

/// Clones share them.
#[derive(Clone, Debug)]
pub struct Live(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    handshake_ms: AtomicU64,
    /// 0: no limit.
    per_ip_max: AtomicUsize,
}

impl Live {
    pub fn of(limits: &Limits) -> Self {
        let live = Self(Arc::new(Numbers { handshake_ms: AtomicU64::new(0), per_ip_max: AtomicUsize::new(0) }));
        live.set(limits);
        live
    }

    /// From here on these; of all limits, only those that may change.
    pub fn set(&self, limits: &Limits) {
        let handshake_ms = u64::try_from(limits.handshake.as_millis()).unwrap_or(u64::MAX);
        self.0.handshake_ms.store(handshake_ms, Relaxed);
        self.0.per_ip_max.store(limits.connections_per_ip_max.unwrap_or(0), Relaxed);
    }

    pub(super) fn handshake(&self) -> Duration {
        Duration::from_millis(self.0.handshake_ms.load(Relaxed))
    }

    pub(super) fn per_ip_max(&self) -> Option<usize> {
        Some(self.0.per_ip_max.load(Relaxed)).filter(|max| *max > 0)
    }
}
