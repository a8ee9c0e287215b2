//! What the operator allows and sets for Docker: the `config` of `plugin "docker"`.
//!
//! Read from JSON in the shape an HCL reader gives it: a block is an object or a list with one object, and
//! a duration is text such as `3m`. Unknown keys are errors; what cannot mean anything is refused in words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Capabilities a task may have unless the operator says otherwise.
pub const CAPS_DEFAULT: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const MINUTE: Duration = Duration::from_secs(60);

/// Settings of the driver. Every key may be left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `unix:///path` or `tcp://host:port`; `DOCKER_HOST`, then the standard socket, unless given.
    pub endpoint: String,
    #[serde(deserialize_with = "block")]
    pub auth: Auth,
    #[serde(deserialize_with = "block")]
    pub tls: TlsFiles,
    /// Globs of further facts that become labels: `job_name`, `task*`, …
    pub extra_labels: Vec<String>,
    #[serde(deserialize_with = "block")]
    pub logging: Logging,
    #[serde(deserialize_with = "block")]
    pub gc: Gc,
    #[serde(deserialize_with = "block")]
    pub volumes: Volumes,
    pub allow_privileged: bool,
    pub allow_caps: Vec<String>,
    pub allow_runtimes: Vec<String>,
    pub nvidia_runtime: String,
    #[serde(deserialize_with = "block")]
    pub allowed_modes: AllowedModes,
    pub infra_image: String,
    #[serde(with = "span")]
    pub infra_image_pull_timeout: Duration,
    #[serde(with = "span")]
    pub image_pull_timeout: Duration,
    /// A pull that shows no progress for this long is given up.
    #[serde(with = "span")]
    pub pull_activity_timeout: Duration,
    pub container_exists_attempts: u32,
    pub oom_score_adj: i64,
    /// 0 and -1: no limit.
    pub pids_limit: i64,
    pub disable_log_collection: bool,
    /// Address of the engine's host at which all tasks' ports are published, those of host networks too; each at the
    /// address it was given on unless this is set. For an agent in a container, whose address the engine does not have.
    pub publish_address: Option<std::net::IpAddr>,
    pub windows_allow_insecure_container_admin: bool,
}

/// Where registry credentials come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A file as the `docker login` command writes it.
    pub config: String,
    /// `docker-credential-<helper>` is asked.
    pub helper: String,
}

/// Files for a `tcp://` endpoint with TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    pub cert: String,
    pub key: String,
    pub ca: String,
}

/// The daemon's log driver for tasks that name none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(deserialize_with = "texts")]
    pub config: BTreeMap<String, String>,
}

/// What is removed when.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gc {
    pub image: bool,
    #[serde(with = "span")]
    pub image_delay: Duration,
    pub container: bool,
    #[serde(deserialize_with = "block")]
    pub dangling_containers: Dangling,
}

/// Containers of this node that no task is behind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dangling {
    pub enabled: bool,
    #[serde(with = "span")]
    pub period: Duration,
    #[serde(with = "span")]
    pub creation_grace: Duration,
    pub dry_run: bool,
}

/// Host paths and volumes of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Volumes {
    pub enabled: bool,
    pub selinuxlabel: String,
}

/// Globs of namespace modes tasks may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AllowedModes {
    pub pid: Vec<String>,
    pub ipc: Vec<String>,
    pub userns: Vec<String>,
    pub uts: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Self {
            endpoint: String::new(),
            auth: Auth::default(),
            tls: TlsFiles::default(),
            extra_labels: Vec::new(),
            logging: Logging::default(),
            gc: Gc::default(),
            volumes: Volumes::default(),
            allow_privileged: false,
            allow_caps: words(&CAPS_DEFAULT),
            allow_runtimes: words(&["runc", "nvidia"]),
            nvidia_runtime: "nvidia".to_owned(),
            allowed_modes: AllowedModes::default(),
            infra_image: String::new(),
            infra_image_pull_timeout: 5 * MINUTE,
            image_pull_timeout: 5 * MINUTE,
            pull_activity_timeout: 2 * MINUTE,
            container_exists_attempts: 5,
            oom_score_adj: 0,
            pids_limit: 0,
            disable_log_collection: false,
            publish_address: None,
            windows_allow_insecure_container_admin: false,
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        let pairs = [("max-file", "2"), ("max-size", "2m")];
        let config = pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { kind: "json-file".to_owned(), config }
    }
}

impl Default for Gc {
    fn default() -> Self {
        Self { image: true, image_delay: 3 * MINUTE, container: true, dangling_containers: Dangling::default() }
    }
}

impl Default for Dangling {
    fn default() -> Self {
        Self { enabled: true, period: 5 * MINUTE, creation_grace: 5 * MINUTE, dry_run: false }
    }
}

impl Options {
    /// Reads and checks the plugin's `config`.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub fn parse(config: Value) -> Result<Self, String> {
        let options: Self = match one(config)? {
            Value::Null => Self::default(),
            Value::Object(map) => {
                let shaped = model::driver_config::plugin_shaped(super::NAME, &map)?;
                serde_json::from_value(Value::Object(shaped)).map_err(|e| e.to_string())?
            }
            _ => return Err("the settings of the Docker driver are a block".to_owned()),
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), String> {
        if self.pull_activity_timeout < MINUTE {
            return Err("pull_activity_timeout must be at least 1m".to_owned());
        }
        if self.gc.dangling_containers.creation_grace < MINUTE {
            return Err("gc.dangling_containers.creation_grace must be at least 1m".to_owned());
        }
        if self.gc.dangling_containers.period.is_zero() {
            return Err("gc.dangling_containers.period must not be zero".to_owned());
        }
        let helper = &self.auth.helper;
        if !helper.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(format!("auth.helper {helper:?} cannot be part of a program's name"));
        }
        if self.pids_limit < -1 {
            return Err("pids_limit must not be less than -1, which is no limit".to_owned());
        }
        super::engine::check_endpoint(&self.endpoint)?;
        Ok(())
    }
}

/// The object of a block: itself, or the only one of a list.
pub(super) fn one(value: Value) -> Result<Value, String> {
    match value {
        Value::Array(mut items) if items.len() == 1 => Ok(items.swap_remove(0)),
        Value::Array(items) if items.is_empty() => Ok(Value::Object(serde_json::Map::new())),
        Value::Array(_) => Err("a block that may stand once stands more than once".to_owned()),
        other => Ok(other),
    }
}

pub(super) fn block<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(T::default()),
        value => {
            one(value).and_then(|v| serde_json::from_value(v).map_err(|e| e.to_string())).map_err(D::Error::custom)
        }
    }
}

/// A map of texts, given as one object or as a list of them; numbers and booleans are texts too.
pub(super) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let maps = match Value::deserialize(from)? {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => vec![other],
    };
    let mut out = BTreeMap::new();
    for map in maps {
        let Value::Object(map) = map else { return Err(D::Error::custom("expected a map")) };
        for (key, value) in map {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => return Err(D::Error::custom(format!("{key} must be a text"))),
            };
            out.insert(key, text);
        }
    }
    Ok(out)
}

/// Durations as text.
pub(super) mod span {
    use super::{Deserialize, Deserializer, Duration};
    use serde::de::Error as _;

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        let nanos = model::time::parse_go_duration(&text).filter(|n| n.0 >= 0);
        nanos.map(|n| n.to_std()).ok_or_else(|| D::Error::custom(format!("{text:?} is no duration such as 30s")))
    }
}

impl std::fmt::Display for OptionsText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Options as they travel on a command line: JSON, or `@` and the path of a file with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptionsText(String);

impl std::str::FromStr for OptionsText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = Self(text.to_owned());
        read.read().map(|_| read)
    }
}

impl OptionsText {
    /// Reads the options, now.
    ///
    /// # Errors
    /// The file cannot be read, or its content is wrong.
    pub fn read(&self) -> Result<Options, String> {
        let text = match self.0.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?,
            None => self.0.clone(),
        };
        if text.trim().is_empty() {
            return Ok(Options::default());
        }
        Options::parse(serde_json::from_str(&text).map_err(|e| e.to_string())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_are_read_as_objects_and_as_lists_of_one() {
        for volumes in [json!({"enabled": true}), json!([{"enabled": true}])] {
            let options = Options::parse(json!({"volumes": volumes, "gc": [{"image_delay": "90s"}]})).unwrap();
            assert!(options.volumes.enabled && options.gc.container);
            assert_eq!(options.gc.image_delay, Duration::from_secs(90));
        }
        let logging =
            Options::parse(json!({"logging": {"type": "local", "config": [{"max-file": 3}]}})).unwrap().logging;
        assert_eq!((logging.kind.as_str(), logging.config["max-file"].as_str()), ("local", "3"));
        assert_eq!(Options::parse(Value::Null).unwrap(), Options::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (bad, word) in [
            (json!({"pull_activity_timeout": "10s"}), "at least 1m"),
            (json!({"gc": {"dangling_containers": {"creation_grace": "1s"}}}), "at least 1m"),
            (json!({"image_pull_timeout": "soon"}), "duration such as"),
            (json!({"allow_priviledged": true}), "allow_priviledged"),
            (json!({"auth": {"helper": "../x"}}), "program's name"),
            (json!({"volumes": [{}, {}]}), "one block"),
            (json!({"endpoint": "/var/run/docker.sock"}), "neither"),
            (json!({"pids_limit": -2}), "less than -1"),
        ] {
            let error = Options::parse(bad.clone()).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
        assert!("{\"gc\": 1}".parse::<OptionsText>().is_err());
        assert!("".parse::<OptionsText>().is_ok() && "@/does/not/exist".parse::<OptionsText>().is_err());
    }
}
