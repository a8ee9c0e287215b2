//! What every process of the cluster answers a gateway.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Not this process's lines, but those of the one that keeps the machine's processes. Nobody keeps this one: 404.
    #[serde(default)]
    pub machine: bool,
}

/// `GET`: the log file of the process that keeps the machine's, to its end. There is none: 404.
pub const LOG_FILE: &str = "/v1/internal/log-file";

/// `GET`: [`HostData`], of the host that the process runs on.
pub const HOST: &str = "/v1/internal/host";

/// `HostData` on the wire: what a host is like, for whoever looks for what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostData {
    #[serde(rename = "OS")]
    pub os: String,
    /// An address of an interface each: `interface`, `address`.
    pub network: Vec<BTreeMap<String, String>>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/etc/hosts`.
    pub hosts: String,
    /// Of the process that answers; what may be a secret is `<redacted>`.
    pub environment: BTreeMap<String, String>,
    /// By the place where a disk is mounted.
    pub disk: BTreeMap<String, DiskUsage>,
}

/// `DiskUsage` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DiskUsage {
    #[serde(rename = "DiskMB")]
    pub disk_mb: u64,
    #[serde(rename = "UsedMB")]
    pub used_mb: u64,
}
