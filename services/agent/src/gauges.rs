//! What this agent counts, under the names dashboards know.

use std::time::Instant;

use kit::metrics::{Gauge, Metrics};
use model::ClientStatus;

use crate::roster::Roster;

pub struct Gauges {
    started: Instant,
    uptime: Gauge,
    pending: Gauge,
    running: Gauge,
    terminal: Gauge,
    unsent: Gauge,
}

impl Gauges {
    pub fn new(metrics: &Metrics, node_id: &str, datacenter: &str) -> Self {
        let labels = [("node_id", node_id), ("datacenter", datacenter)];
        let gauge = |name: &str| metrics.gauge(name, &labels);
        Self {
            started: Instant::now(),
            uptime: gauge("nomad.client.uptime"),
            pending: gauge("nomad.client.allocations.pending"),
            running: gauge("nomad.client.allocations.running"),
            terminal: gauge("nomad.client.allocations.terminal"),
            unsent: gauge("steppe.agent.news_waiting"),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn set(&self, roster: &Roster) {
        let views = roster.views();
        let count = |is: fn(ClientStatus) -> bool| views.iter().filter(|v| is(v.report.client_status)).count() as f64;
        self.uptime.set(self.started.elapsed().as_secs_f64());
        self.pending.set(count(|s| s == ClientStatus::Pending));
        self.running.set(count(|s| s == ClientStatus::Running));
        self.terminal.set(count(ClientStatus::is_terminal));
        self.unsent.set(roster.host().outbox.pending() as f64);
    }
}
