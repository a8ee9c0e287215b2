//! What an operator may say about beats of nodes.

use control::heartbeat::Settings;
use model::Nanos;
use model::time::parse_go_duration;

/// Spans of time that nodes may be silent for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Patience {
    /// How much longer than its time to live a node may be silent, such as `10s`.
    #[arg(long, value_parser = span)]
    pub heartbeat_grace: Option<Nanos>,
    /// Shortest time to live of a node.
    #[arg(long, value_parser = span)]
    pub min_heartbeat_ttl: Option<Nanos>,
    /// Most beats of all nodes together in a second.
    #[arg(long, value_name = "RATE")]
    pub max_heartbeats_per_second: Option<f64>,
    /// What every node has to be heard of after another controller took over.
    #[arg(long, value_parser = span)]
    pub failover_heartbeat_ttl: Option<Nanos>,
}

impl Patience {
    /// What was said over what is usual.
    pub fn settings(&self) -> Settings {
        let usual = Settings::default();
        let ms = |span: Nanos| u64::try_from(span.0 / 1_000_000).unwrap_or(0);
        Settings {
            grace_ms: self.heartbeat_grace.map_or(usual.grace_ms, ms),
            ttl_ms_min: self.min_heartbeat_ttl.map_or(usual.ttl_ms_min, ms),
            period_us_per_node: self.max_heartbeats_per_second.map_or(usual.period_us_per_node, per_node),
            failover_ms: self.failover_heartbeat_ttl.map(ms).or(usual.failover_ms),
            ..usual
        }
    }
}

/// Microseconds that each node adds to the period.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn per_node(rate: f64) -> u64 {
    if rate.is_finite() && rate > 0.0 { (1e6 / rate).clamp(0.0, 1e12) as u64 } else { 0 }
}

fn span(text: &str) -> Result<Nanos, String> {
    parse_go_duration(text)
        .filter(|span| span.0 >= 0)
        .ok_or_else(|| format!("{text:?} is no span of time such as 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_beats_holds_and_the_rest_stays() {
        let usual = Settings::default();
        assert_eq!(Patience::default().settings(), usual);
        let said = Patience {
            heartbeat_grace: Some(Nanos::from_secs(7)),
            min_heartbeat_ttl: Some(Nanos::from_secs(20)),
            max_heartbeats_per_second: Some(50.0),
            failover_heartbeat_ttl: Some(Nanos::from_secs(300)),
        };
        let settings = said.settings();
        assert_eq!((settings.grace_ms, settings.failover_ms), (7_000, Some(300_000)));
        assert_eq!((settings.ttl_ms(1), settings.period_ms(1)), (20_000, usual.period_ms(1)));
        assert_eq!(settings.period_ms(1_000), 20_000, "a thousand nodes, fifty beats a second");
        assert_eq!(settings.ttl_ms(1_000), 60_000);
    }
}
