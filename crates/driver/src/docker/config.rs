//! A task's `config` block for Docker: what it says, in types. Pure.
//!
//! The block's shape is `model::driver_config`'s: strict in keys, lenient in types. Whether the operator
//! allows what is asked is decided in [`super::container`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::contract::DriverError;

/// The `config` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub image: String,
    pub advertise_ipv6_address: bool,
    pub args: Vec<String>,
    pub auth: Option<TaskAuth>,
    pub auth_soft_fail: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub cgroupns: String,
    pub command: String,
    pub container_exists_attempts: Option<u32>,
    pub cpu_cfs_period: Option<i64>,
    pub cpu_hard_limit: bool,
    pub cpuset_cpus: String,
    pub devices: Vec<Device>,
    pub dns_options: Vec<String>,
    pub dns_search_domains: Vec<String>,
    pub dns_servers: Vec<String>,
    pub entrypoint: Vec<String>,
    pub extra_hosts: Vec<String>,
    pub force_pull: bool,
    pub group_add: Vec<String>,
    pub healthchecks: Healthchecks,
    pub hostname: String,
    pub image_pull_timeout: String,
    pub init: bool,
    pub interactive: bool,
    pub ipc_mode: String,
    pub ipv4_address: String,
    pub ipv6_address: String,
    pub isolation: String,
    pub labels: BTreeMap<String, String>,
    pub load: String,
    pub logging: Option<TaskLogging>,
    pub mac_address: String,
    pub memory_hard_limit: i64,
    pub mount: Vec<Mount>,
    pub mounts: Vec<Mount>,
    pub network_aliases: Vec<String>,
    pub network_mode: String,
    pub oom_score_adj: Option<i64>,
    pub pid_mode: String,
    pub pids_limit: i64,
    pub port_map: BTreeMap<String, String>,
    pub ports: Vec<String>,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub runtime: String,
    pub security_opt: Vec<String>,
    pub shm_size: i64,
    pub storage_opt: BTreeMap<String, String>,
    pub sysctl: BTreeMap<String, String>,
    pub tty: bool,
    pub ulimit: BTreeMap<String, String>,
    pub userns_mode: String,
    pub uts_mode: String,
    pub volume_driver: String,
    pub volumes: Vec<String>,
    pub work_dir: String,
}

/// Credentials for the image's registry.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskAuth {
    pub username: String,
    pub password: String,
    pub email: String,
    pub server_address: String,
}

impl std::fmt::Debug for TaskAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// One device of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Device {
    pub host_path: String,
    pub container_path: String,
    pub cgroup_permissions: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Healthchecks {
    pub disable: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskLogging {
    #[serde(rename = "type")]
    pub kind: String,
    /// Another name of `type`.
    pub driver: String,
    pub config: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Bind,
    #[default]
    Volume,
    Tmpfs,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    #[serde(rename = "type")]
    pub kind: MountKind,
    pub target: String,
    pub source: String,
    pub readonly: bool,
    pub bind_options: BindOptions,
    pub tmpfs_options: TmpfsOptions,
    pub volume_options: VolumeOptions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BindOptions {
    pub propagation: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TmpfsOptions {
    /// Bytes.
    pub size: i64,
    pub mode: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeOptions {
    pub no_copy: bool,
    pub labels: BTreeMap<String, String>,
    pub driver_config: DriverConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriverConfig {
    pub name: String,
    pub options: BTreeMap<String, String>,
}

impl Config {
    /// Decodes a `config` block and refuses what no setting of the operator could make right.
    ///
    /// # Errors
    /// [`DriverError::Config`].
    pub fn decode(map: &Map<String, Value>) -> Result<Self, DriverError> {
        let shaped = model::driver_config::shaped(super::NAME, map).map_err(bad)?;
        let mut config: Self = serde_json::from_value(Value::Object(shaped)).map_err(|e| bad(e.to_string()))?;
        if let Some(bare) = ["https://", "http://"].iter().find_map(|scheme| config.image.strip_prefix(scheme)) {
            config.image = bare.to_owned();
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), DriverError> {
        if self.image.is_empty() {
            return Err(bad("image name required for docker driver"));
        }
        check_image(&self.image)?;
        if !self.command.is_empty() && self.command.trim() != self.command
            || !self.command.is_empty() && self.command.trim().is_empty()
        {
            return Err(bad(format!("command {:?} must not begin or end with blanks", self.command)));
        }
        if let Some(period) = self.cpu_cfs_period.filter(|p| !(0..=1_000_000).contains(p)) {
            return Err(bad(format!("cpu_cfs_period {period} is not within 0 to 1000000")));
        }
        if !matches!(self.cgroupns.as_str(), "" | "host" | "private") {
            return Err(bad(format!("cgroupns {:?} is neither \"host\" nor \"private\"", self.cgroupns)));
        }
        if !self.isolation.is_empty() {
            return Err(bad("isolation is for Windows only"));
        }
        if self.pids_limit < 0 || self.shm_size < 0 || self.memory_hard_limit < 0 {
            return Err(bad("pids_limit, shm_size and memory_hard_limit must not be negative"));
        }
        self.pull_timeout()?;
        for device in &self.devices {
            check_device(device)?;
        }
        for mount in self.all_mounts() {
            check_mount(mount)?;
        }
        for (name, limit) in &self.ulimit {
            ulimit(name, limit)?;
        }
        if !self.work_dir.is_empty() && !self.work_dir.starts_with('/') {
            return Err(bad(format!("work_dir must be absolute: {:?}", self.work_dir)));
        }
        if !self.port_map.is_empty() {
            return Err(bad("port_map needs a network in the task's resources, which is not supported: use ports"));
        }
        Ok(())
    }

    /// Mounts in both notations.
    pub fn all_mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mount.iter().chain(&self.mounts)
    }

    /// How long this task's pull may take; `None`: as the operator says.
    pub fn pull_timeout(&self) -> Result<Option<Duration>, DriverError> {
        if self.image_pull_timeout.is_empty() {
            return Ok(None);
        }
        let read = model::time::parse_go_duration(&self.image_pull_timeout).filter(|n| n.0 > 0);
        let nanos =
            read.ok_or_else(|| bad(format!("image_pull_timeout {:?} is no duration", self.image_pull_timeout)))?;
        Ok(Some(nanos.to_std()))
    }
}

fn bad(text: impl Into<String>) -> DriverError {
    DriverError::Config(text.into())
}

/// A reference goes into a path of the daemon's API: only what a reference may hold gets there.
pub(super) fn check_image(image: &str) -> Result<(), DriverError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    let parts_ok = image.split(['/', ':', '@']).all(|part| !part.is_empty() && !part.starts_with('.'));
    if image.len() > 512 || !image.chars().all(allowed) || !parts_ok {
        return Err(bad(format!("{image:?} is no image reference")));
    }
    Ok(())
}

fn check_device(device: &Device) -> Result<(), DriverError> {
    let path = std::path::Path::new(&device.host_path);
    if device.host_path.is_empty() {
        return Err(bad("a device needs its host_path"));
    }
    let plain = path.components().all(|c| !matches!(c, std::path::Component::ParentDir));
    if !path.starts_with("/dev") || !plain {
        return Err(bad(format!("device {:?} is not below /dev", device.host_path)));
    }
    if !device.cgroup_permissions.chars().all(|c| "rwm".contains(c)) {
        return Err(bad(format!("cgroup_permissions {:?} may hold r, w and m only", device.cgroup_permissions)));
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> Result<(), DriverError> {
    if !mount.target.starts_with('/') {
        return Err(bad(format!("mount target {:?} must be absolute", mount.target)));
    }
    match mount.kind {
        MountKind::Tmpfs if !mount.source.is_empty() => Err(bad("a tmpfs mount has no source")),
        MountKind::Bind if mount.source.is_empty() => Err(bad("a bind mount needs a source")),
        _ => Ok(()),
    }
}

/// `soft[:hard]`; -1 is no limit.
pub(super) fn ulimit(name: &str, text: &str) -> Result<(i64, i64), DriverError> {
    let wrong = || bad(format!("malformed ulimit specification {name}={text:?}"));
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let number = |part: &str| part.trim().parse::<i64>().ok().filter(|n| *n >= -1).ok_or_else(wrong);
    let (soft, hard) = (number(soft)?, number(hard)?);
    if name.is_empty() || (hard >= 0 && (soft > hard || soft < 0)) {
        return Err(wrong());
    }
    Ok((soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decode(value: &Value) -> Result<Config, DriverError> {
        Config::decode(value.as_object().unwrap())
    }

    #[test]
    fn a_config_is_read_in_the_shapes_a_job_file_gives() {
        let config = decode(&json!({
            "image": "https://registry.internal/full:1",
            "auth": [{"username": "u", "password": "p"}],
            "labels": [{"owner": "core"}, {"n": 1}],
            "logging": [{"type": "json-file", "config": [{"max-size": "5m"}]}],
            "mount": [{"type": "tmpfs", "target": "/s", "tmpfs_options": [{"size": 1000}]}],
            "mounts": [{"type": "volume", "source": "named", "target": "/named"}],
            "ulimit": [{"nofile": "2048:4096"}],
            "sysctl": {"net.core.somaxconn": "1024"},
            "args": ["a", 1, true],
            "entrypoint": "/entry",
            "image_pull_timeout": "90s",
        }))
        .unwrap();
        assert_eq!(config.image, "registry.internal/full:1");
        assert_eq!((config.labels["owner"].as_str(), config.labels["n"].as_str()), ("core", "1"));
        assert_eq!(config.all_mounts().count(), 2);
        assert_eq!(
            (config.args, config.entrypoint),
            (vec!["a".into(), "1".into(), "true".into()], vec!["/entry".to_owned()])
        );
        assert_eq!(ulimit("nofile", &config.ulimit["nofile"]).unwrap(), (2048, 4096));
        assert_eq!(config.logging.unwrap().config["max-size"], "5m");
    }

    #[test]
    fn what_could_never_start_is_refused_docker_43_docker_47() {
        for (bad, word) in [
            (json!({}), "image name required"),
            (json!({"image": "a", "comand": "x"}), "did you mean \"command\""),
            (json!({"image": "a", "command": " x"}), "blanks"),
            (json!({"image": "a", "command": "  "}), "blanks"),
            (json!({"image": "../containers/x"}), "no image reference"),
            (json!({"image": "a?x=1"}), "no image reference"),
            (json!({"image": "a/../b"}), "no image reference"),
            (json!({"image": "a", "ulimit": {"nofile": "1:2:3"}}), "malformed ulimit"),
            (json!({"image": "a", "ulimit": {"nofile": "9:3"}}), "malformed ulimit"),
            (json!({"image": "a", "cpu_cfs_period": 2_000_000}), "cpu_cfs_period"),
            (json!({"image": "a", "devices": [{"host_path": "/etc/shadow"}]}), "below /dev"),
            (json!({"image": "a", "devices": [{"host_path": "/dev/../etc"}]}), "below /dev"),
            (json!({"image": "a", "mount": {"type": "tmpfs", "source": "x", "target": "/t"}}), "no source"),
            (json!({"image": "a", "mount": {"type": "weird", "target": "/t"}}), "bind, volume, tmpfs, not \"weird\""),
            (json!({"image": "a", "work_dir": "local"}), "absolute"),
            (json!({"image": "a", "image_pull_timeout": "soon"}), "no duration"),
        ] {
            let error = decode(&bad).unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        let config = decode(&json!({"image": "a", "auth": {"username": "u", "password": "hidden"}})).unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
