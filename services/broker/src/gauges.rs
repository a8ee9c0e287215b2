//! The queue's numbers, under the names dashboards know.

use kit::metrics::{Gauge, Metrics};
use queue::Stats;

#[derive(Clone)]
pub struct Gauges {
    ready: Gauge,
    unacked: Gauge,
    pending: Gauge,
    waiting: Gauge,
    blocked: Gauge,
    escaped: Gauge,
}

impl Gauges {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            ready: metrics.gauge("nomad.nomad.broker.total_ready", &[]),
            unacked: metrics.gauge("nomad.nomad.broker.total_unacked", &[]),
            pending: metrics.gauge("nomad.nomad.broker.total_pending", &[]),
            waiting: metrics.gauge("nomad.nomad.broker.total_waiting", &[]),
            blocked: metrics.gauge("nomad.nomad.blocked_evals.total_blocked", &[]),
            escaped: metrics.gauge("nomad.nomad.blocked_evals.total_escaped", &[]),
        }
    }

    pub fn show(&self, stats: &Stats) {
        let total = stats.total();
        self.ready.set(total.ready as f64);
        self.unacked.set(total.unacked as f64);
        self.pending.set(total.pending as f64);
        self.waiting.set(total.waiting as f64);
        self.blocked.set(total.blocked as f64);
        self.escaped.set(stats.escaped as f64);
    }
}
