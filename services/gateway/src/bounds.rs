//! What an operator may say about the listeners and the metrics of a gateway.

use std::sync::{Arc, PoisonError, RwLock};

use kit::metrics::MetricsSummary;
use kit::server::Limits;
use kit::server::bounds::{Bounds, limited};
use model::Nanos;
use model::time::parse_go_duration;

use crate::numbers::Published;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct ListenerBounds {
    #[command(flatten)]
    pub public: Bounds,
    /// Longest time for a TLS handshake of an agent; 0 = an hour.
    #[arg(long, value_parser = span, value_name = "SPAN")]
    pub rpc_handshake_timeout: Option<Nanos>,
    /// Most connections of one address to the agents' listener; 0 = no limit.
    #[arg(long, value_name = "N")]
    pub rpc_connections_per_client: Option<usize>,
    /// Metrics that are shown, `+nomad.raft`, or not, `-nomad.broker`, by how their names begin; the longest
    /// that fits decides. May be repeated.
    #[arg(long = "metrics-prefix", value_name = "+PREFIX|-PREFIX", value_parser = rule, allow_hyphen_values = true)]
    pub metrics_prefixes: Vec<Rule>,
    /// Metrics of which `--metrics-prefix` says nothing are not shown.
    #[arg(long)]
    pub metrics_hidden: bool,
}

impl ListenerBounds {
    /// Limits of the agents' listener.
    pub fn agents(&self) -> Limits {
        limited(Limits::internal(), self.rpc_handshake_timeout, self.rpc_connections_per_client)
    }

    pub fn shown(&self) -> Shown {
        Shown { rules: self.metrics_prefixes.clone(), hidden: self.metrics_hidden }
    }
}

/// What is told of metrics; may change while the gateway runs. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<RwLock<(Shown, Published)>>);

impl Told {
    pub fn new(shown: Shown, published: Published) -> Self {
        Self(Arc::new(RwLock::new((shown, published))))
    }

    pub fn set(&self, shown: Shown, published: Published) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (shown, published);
    }

    pub fn shown(&self) -> Shown {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub fn published(&self) -> Published {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// A prefix of names, with `.` as `_`, and whether such metrics are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    prefix: String,
    shown: bool,
}

/// Which metrics are shown: all, unless something was said.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    rules: Vec<Rule>,
    hidden: bool,
}

impl Shown {
    /// The name may have either form, with dots or without.
    pub fn is(&self, name: &str) -> bool {
        let name = plain(name);
        let fit = self.rules.iter().filter(|rule| name.starts_with(&rule.prefix));
        fit.max_by_key(|rule| rule.prefix.len()).map_or(!self.hidden, |rule| rule.shown)
    }

    pub fn retain(&self, summary: &mut MetricsSummary) {
        summary.gauges.retain(|gauge| self.is(&gauge.name));
        summary.counters.retain(|counter| self.is(&counter.name));
        summary.samples.retain(|sample| self.is(&sample.name));
    }
}

fn plain(name: &str) -> String {
    name.replace(['.', '-'], "_")
}

fn rule(text: &str) -> Result<Rule, String> {
    let rule = |prefix: &str, shown| Rule { prefix: plain(prefix), shown };
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(prefix), _) if !prefix.is_empty() => Ok(rule(prefix, true)),
        (_, Some(prefix)) if !prefix.is_empty() => Ok(rule(prefix, false)),
        _ => Err(format!("`{text}` begins with neither + nor -")),
    }
}

fn span(text: &str) -> Result<Nanos, String> {
    parse_go_duration(text).ok_or_else(|| format!("`{text}` is no duration such as 30s or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_that_fits_decides_in_either_form_of_a_name() {
        let rules = ["-nomad.broker", "+nomad.broker.total_ready"].map(|text| rule(text).unwrap());
        let shown = Shown { rules: rules.to_vec(), hidden: false };
        assert!(!shown.is("nomad.broker.total_waiting") && !shown.is("nomad_broker_total_waiting"));
        assert!(shown.is("nomad.broker.total_ready") && shown.is("nomad_broker_total_ready"));
        assert!(shown.is("nomad.http.request"));
        assert!(!Shown { hidden: true, ..shown }.is("nomad.http.request"));
        assert!(Shown::default().is("x") && rule("x").is_err() && rule("+").is_err());
    }

    #[test]
    fn the_agents_listener_has_the_limits_that_were_said() {
        let said = ListenerBounds { rpc_connections_per_client: Some(30), ..ListenerBounds::default() };
        assert_eq!(
            (said.agents().connections_per_ip_max, ListenerBounds::default().agents().connections_per_ip_max),
            (Some(30), None)
        );
    }
}
