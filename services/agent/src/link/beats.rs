//! Signs of life.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use api::node::{BEAT, Beat, BeatTaken};
use kit::process::Shutdown;

use super::Link;

/// A gateway that does not answer must leave time to ask another one within the node's time to live.
const CALL: Duration = Duration::from_millis(1500);

impl Link {
    /// Beats at the cluster's pace until shutdown, once the node is registered.
    pub async fn beats(&self, shutdown: Shutdown) {
        let mut registered = self.registered.subscribe();
        if shutdown.or(registered.wait_for(|yes| *yes)).await.is_none() {
            return;
        }
        let mut failing = false;
        while !shutdown.is_requested() {
            let Some(taken) = shutdown.or(self.beat_anywhere()).await else { return };
            match (taken, failing) {
                (true, true) => tracing::info!("beats are taken again"),
                (false, false) => tracing::warn!("no gateway takes this node's beats"),
                _ => {}
            }
            failing = !taken;
            let period = Duration::from_millis(self.period_ms.load(Ordering::Relaxed));
            let wait = async {
                tokio::select! {
                    () = tokio::time::sleep(if failing { period.min(CALL) } else { period }) => {}
                    () = self.beat.notified() => {}
                }
            };
            if shutdown.or(wait).await.is_none() {
                return;
            }
        }
    }

    async fn beat_anywhere(&self) -> bool {
        for addr in self.gateways.in_order() {
            if self.beat_at(addr).await {
                return true;
            }
        }
        false
    }

    async fn beat_at(&self, addr: SocketAddr) -> bool {
        let beat = Beat { node_id: self.node_id.to_string() };
        match self.http.poll_json::<_, BeatTaken>(Self::target(addr), BEAT, &beat, CALL).await {
            Ok(taken) => {
                self.refused.store(false, Ordering::Relaxed);
                *self.beaten.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                self.adopt_period(taken.period_ms);
                self.gateways.learn(taken.gateways);
                if taken.register_again {
                    tracing::info!(gateway = %addr, "the cluster does not know this node, registering again");
                    self.register.notify_one();
                }
                true
            }
            Err(error) => {
                // In its own words, once: that the node was purged, say.
                if error.status().is_some_and(|status| status.as_u16() == 403)
                    && !self.refused.swap(true, Ordering::Relaxed)
                {
                    tracing::error!(gateway = %addr, error = %error, "the cluster refuses this node");
                }
                tracing::debug!(gateway = %addr, error = %error, "beat was not taken");
                false
            }
        }
    }
}
