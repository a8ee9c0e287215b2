//! Every environment variable the command line reads, in one place.
//!
//! Each client setting has a name of ours and the compatible one; ours wins when both are set. What a
//! flag says wins over both.

use std::collections::BTreeMap;

/// A setting's names, strongest first.
pub type Names = &'static [&'static str];

/// Address of the public API.
pub const ADDR: Names = &["STEPPE_ADDR", "NOMAD_ADDR"];
/// Region that requests are meant for.
pub const REGION: Names = &["STEPPE_REGION", "NOMAD_REGION"];
/// Namespace that requests are meant for.
pub const NAMESPACE: Names = &["STEPPE_NAMESPACE", "NOMAD_NAMESPACE"];
/// Secret of the caller.
pub const TOKEN: Names = &["STEPPE_TOKEN", "NOMAD_TOKEN"];
/// PEM file of the CA to trust.
pub const CACERT: Names = &["STEPPE_CACERT", "NOMAD_CACERT"];
/// Directory of CAs to trust.
pub const CAPATH: Names = &["STEPPE_CAPATH", "NOMAD_CAPATH"];
/// PEM file of the client's certificate.
pub const CLIENT_CERT: Names = &["STEPPE_CLIENT_CERT", "NOMAD_CLIENT_CERT"];
/// PEM file of the client's key.
pub const CLIENT_KEY: Names = &["STEPPE_CLIENT_KEY", "NOMAD_CLIENT_KEY"];
/// Name to expect in the server's certificate.
pub const TLS_SERVER_NAME: Names = &["STEPPE_TLS_SERVER_NAME", "NOMAD_TLS_SERVER_NAME"];
/// Whether to trust any certificate.
pub const SKIP_VERIFY: Names = &["STEPPE_SKIP_VERIFY", "NOMAD_SKIP_VERIFY"];
/// `user:password` for a proxy in front of the API.
pub const HTTP_AUTH: Names = &["STEPPE_HTTP_AUTH", "NOMAD_HTTP_AUTH"];
/// Never colours. `NO_COLOR` is the custom of all programs: any value counts.
pub const NO_COLOR: Names = &["STEPPE_CLI_NO_COLOR", "NOMAD_CLI_NO_COLOR", "NO_COLOR"];
/// Colours even when the output is no terminal.
pub const FORCE_COLOR: Names = &["STEPPE_CLI_FORCE_COLOR", "NOMAD_CLI_FORCE_COLOR"];
/// Data directory of the local cluster that `scripts/up` starts.
pub const LOCAL_DATA: Names = &["STEPPE_DATA"];
/// Public port of the local cluster; the next two are its internal and gossip ports.
pub const LOCAL_HTTP_PORT: Names = &["STEPPE_HTTP_PORT"];
/// Prefixes of a job variable's value, the stronger one last: `STEPPE_VAR_count=3`.
pub const JOB_VARIABLE_PREFIXES: [&str; 2] = ["NOMAD_VAR_", "STEPPE_VAR_"];
/// Prefix of a service's setting: `STEPPE_DATA_DIR` is `-data-dir` of `steppe serve`.
pub const SERVICE_PREFIX: &str = "STEPPE_";

/// The environment as it was at the start.
#[derive(Clone, Debug, Default)]
pub struct Env(pub BTreeMap<String, String>);

impl Env {
    /// This process's own. What is not UTF-8 is passed over.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value of the first name that is set to something.
    pub fn get(&self, names: Names) -> Option<&str> {
        names.iter().find_map(|name| self.0.get(*name)).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A switch: any value but `0` and `false` turns it on.
    pub fn is_on(&self, names: Names) -> bool {
        self.get(names).is_some_and(|value| !matches!(value, "0" | "false" | "no"))
    }

    /// Everything.
    pub fn all(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The values of job variables.
    pub fn job_variables(&self) -> Vec<(String, String)> {
        let ours =
            self.0.iter().filter(|(name, _)| JOB_VARIABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
        ours.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}
