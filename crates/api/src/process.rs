//! What every process of the cluster answers a gateway.

use serde::{Deserialize, Serialize};

/// The process's log lines as they are written ([`LogAsk`]); an empty line says that the stream lives.
pub const MONITOR: &str = "/v1/internal/monitor";

/// Which lines of the log are wanted, and how they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogAsk {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    #[serde(default)]
    pub json: bool,
    /// With file and line of the code.
    #[serde(default)]
    pub location: bool,
}
