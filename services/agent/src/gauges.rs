//! What this agent counts. What it shares with the servers, its allocations, is counted from their rows.

use std::time::Instant;

use kit::metrics::{Gauge, Metrics};

use crate::roster::Roster;

pub struct Gauges {
    started: Instant,
    uptime: Gauge,
    unsent: Gauge,
}

impl Gauges {
    pub fn new(metrics: &Metrics, node_id: &str, datacenter: &str) -> Self {
        let labels = [("node_id", node_id), ("datacenter", datacenter)];
        let gauge = |name: &str| metrics.gauge(name, &labels);
        Self {
            started: Instant::now(),
            uptime: gauge("nomad.client.uptime"),
            unsent: gauge("steppe.agent.news_waiting"),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn set(&self, roster: &Roster) {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        self.unsent.set(roster.host().outbox.pending() as f64);
    }
}
