//! How the group of state servers looks after itself.
//!
//! Source: the wire form of the compatible interface (`types.json`); its durations are text.

use serde::{Deserialize, Serialize};

use crate::ids::Index;
use crate::time::Nanos;

/// `AutopilotConfiguration` on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AutopilotConfiguration {
    /// Take dead servers out of the group while a majority lives.
    pub cleanup_dead_servers: bool,
    /// A server that has not heard from the leader for longer is not healthy.
    #[serde(with = "text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "200ms"))]
    pub last_contact_threshold: Nanos,
    /// A server that lags by more log entries is not healthy.
    pub max_trailing_logs: u64,
    /// Never fewer servers than this by taking dead ones out; 0 = no such limit.
    pub min_quorum: u64,
    /// A new server is healthy for this long before it votes.
    #[serde(with = "text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "10s"))]
    pub server_stabilization_time: Nanos,
    pub enable_redundancy_zones: bool,
    pub disable_upgrade_migration: bool,
    pub enable_custom_upgrades: bool,
    pub create_index: Index,
    pub modify_index: Index,
}

impl Default for AutopilotConfiguration {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Nanos(200_000_000),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Nanos::from_secs(10),
            enable_redundancy_zones: false,
            disable_upgrade_migration: false,
            enable_custom_upgrades: false,
            create_index: Index(0),
            modify_index: Index(0),
        }
    }
}

/// A duration as text; numbers are taken as nanoseconds.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::time::{Nanos, parse_go_duration};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(i64),
    }

    pub fn serialize<S: Serializer>(span: &Nanos, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(span)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Nanos, D::Error> {
        match Either::deserialize(d)? {
            Either::Number(nanos) => Ok(Nanos(nanos)),
            Either::Text(text) if text.is_empty() => Ok(Nanos(0)),
            Either::Text(text) => {
                parse_go_duration(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no duration")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_text_on_the_wire_and_numbers_are_taken_too() {
        let json = serde_json::to_value(AutopilotConfiguration::default()).unwrap();
        assert_eq!((&json["LastContactThreshold"], &json["ServerStabilizationTime"]), (&"200ms".into(), &"10s".into()));
        let read: AutopilotConfiguration =
            serde_json::from_str(r#"{"LastContactThreshold":"1m30s","ServerStabilizationTime":5000000000}"#).unwrap();
        assert_eq!(read.last_contact_threshold, Nanos::from_secs(90));
        assert_eq!(read.server_stabilization_time, Nanos::from_secs(5));
        assert!(serde_json::from_str::<AutopilotConfiguration>(r#"{"LastContactThreshold":"soon"}"#).is_err());
    }
}
