//! Which paths of the host does a container see?
//!
//! Always the task's own directories. What a job names beyond them lies in the allocation's directory,
//! unless the operator allows host paths. A named path is walked without following any symlink and held by
//! a handle; the daemon gets a bind mount made from that handle (a *pin*) in the agent's own directory, so
//! nothing a task swaps later is ever mounted. An agent that may not mount gives the checked path.
//! The host's volumes are the operator's own paths and mounted as they are; of such a mount a job says only where
//! in the container it is.
//!
//! Blocks. Called before a container is created; [`unpin`] after it is gone. What a crash leaves is
//! unmounted with the allocation's directory.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use bollard::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig,
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;

use super::config::{self, Config, MountKind};
use super::container::{Paths, check_security};
use super::names;
use super::options::Options;
use crate::contract::{DriverError, TaskConfig};
use crate::host_mount::{HostMount, Propagation};
use crate::taskdir::TaskDirs;

const PROFILE_BYTES_MAX: u64 = 1 << 20;

fn refused(text: impl Into<String>) -> DriverError {
    DriverError::Start { message: text.into(), recoverable: false }
}

/// Works out all paths of a task.
///
/// # Errors
/// One is not allowed here, or cannot be.
pub(super) fn prepare(options: &Options, config: &Config, task: &TaskConfig) -> Result<Paths, DriverError> {
    let mut sources = Sources { options, dirs: &task.dirs, task: &task.task, pins: 0 };
    let (mut paths, label) = (Paths::default(), &options.volumes.selinuxlabel);
    unpin(&task.dirs, &task.task);
    for (source, target, mode) in fixed(&task.dirs) {
        paths.binds.push(bind(&source, target, mode, label)?);
    }
    for (source, target, mode) in names::files(config, task)? {
        paths.binds.push(bind(&source, target, mode, label)?);
    }
    for volume in &config.volumes {
        paths.binds.push(sources.volume(config, volume)?);
    }
    for mount in config.all_mounts() {
        paths.mounts.push(sources.mount(mount)?);
    }
    for volume in &task.around.mounts {
        let target = inside(volume)?;
        // Only a bind in text can carry a label; only a mount is refused when its source is not there.
        if volume.selinux_label.is_empty() {
            paths.mounts.push(host_volume(volume, target)?);
        } else {
            let flags = [if volume.read_only { "ro" } else { "" }, propagated(volume.propagation).as_ref()].join(",");
            paths.binds.push(bind(&volume.source, &target, &flags, &volume.selinux_label)?);
        }
    }
    for option in &config.security_opt {
        check_security(options, option)?;
        paths.security.push(sources.security(option)?);
    }
    Ok(paths)
}

/// What every task sees.
fn fixed(dirs: &TaskDirs) -> [(PathBuf, &'static str, &'static str); 4] {
    [
        (dirs.alloc.shared(), "/alloc", ""),
        (dirs.local(), "/local", ""),
        (dirs.secrets(), "/secrets", ""),
        (dirs.alloc.logs(), "/alloc/logs", "ro"),
    ]
}

fn bind(source: &Path, target: &str, mode: &str, label: &str) -> Result<String, DriverError> {
    let source = source.to_str().filter(|s| !s.contains(':'));
    let source = source.ok_or_else(|| refused("a directory with a colon in its path cannot be mounted"))?;
    let mode: Vec<&str> = mode.split(',').chain([label]).filter(|part| !part.is_empty()).collect();
    let mode = mode.join(",");
    Ok(if mode.is_empty() { format!("{source}:{target}") } else { format!("{source}:{target}:{mode}") })
}

/// Where in its container a volume of the host is to be seen.
fn inside(volume: &HostMount) -> Result<String, DriverError> {
    let (name, given) = (&volume.volume, &volume.destination);
    let wrong = |why: &str| Err(refused(format!("volume {name:?} cannot be mounted at {given:?}: {why}")));
    if !given.starts_with('/') {
        return wrong("it is no absolute path of the container");
    }
    if given.contains(['\0', ':']) {
        return wrong("a path with such letters cannot be mounted");
    }
    let target = lexical(Path::new(given));
    match target.to_str() {
        Some("/" | "/alloc" | "/alloc/logs" | "/local" | "/secrets") => wrong("the task's own files are there"),
        Some(target) => Ok(target.to_owned()),
        None => wrong("it is no text"),
    }
}

fn host_volume(volume: &HostMount, target: String) -> Result<Mount, DriverError> {
    let Some(source) = volume.source.to_str() else {
        return Err(refused(format!("volume {:?} cannot be mounted: its path is no text", volume.volume)));
    };
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target),
        read_only: Some(volume.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(propagated(volume.propagation)),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    })
}

fn propagated(mode: Propagation) -> MountBindOptionsPropagationEnum {
    match mode {
        Propagation::Private => MountBindOptionsPropagationEnum::RPRIVATE,
        Propagation::HostToTask => MountBindOptionsPropagationEnum::RSLAVE,
        Propagation::Bidirectional => MountBindOptionsPropagationEnum::RSHARED,
    }
}

struct Sources<'a> {
    options: &'a Options,
    dirs: &'a TaskDirs,
    task: &'a str,
    pins: u32,
}

impl Sources<'_> {
    fn volume(&mut self, config: &Config, given: &str) -> Result<String, DriverError> {
        let parts: Vec<&str> = given.split(':').collect();
        let (source, target, mode) = match parts.as_slice() {
            [source, target] => (*source, *target, ""),
            [source, target, mode] => (*source, *target, *mode),
            _ => return Err(refused(format!("invalid docker volume {given:?}"))),
        };
        let mode_ok = mode.chars().all(|c| c.is_ascii_alphanumeric() || c == ',');
        if source.is_empty() || !target.starts_with('/') || !mode_ok {
            return Err(refused(format!("invalid docker volume {given:?}")));
        }
        let label = &self.options.volumes.selinuxlabel;
        if !config.volume_driver.is_empty() {
            self.volumes_allowed(given)?;
            return bind(Path::new(source), target, mode, label);
        }
        let source = self.source(source)?;
        bind(&source, target, mode, label)
    }

    fn volumes_allowed(&self, what: &str) -> Result<(), DriverError> {
        if self.options.volumes.enabled {
            return Ok(());
        }
        Err(refused(format!("volumes are not enabled on this node, cannot use {what:?}")))
    }

    fn mount(&mut self, mount: &config::Mount) -> Result<Mount, DriverError> {
        let text = |given: &str| (!given.is_empty()).then(|| given.to_owned());
        let mut made =
            Mount { target: Some(mount.target.clone()), read_only: Some(mount.readonly), ..Mount::default() };
        match mount.kind {
            MountKind::Tmpfs => {
                let (size, mode) = (mount.tmpfs_options.size, mount.tmpfs_options.mode);
                made.typ = Some(MountType::TMPFS);
                made.tmpfs_options = Some(MountTmpfsOptions {
                    size_bytes: (size > 0).then_some(size),
                    mode: (mode > 0).then_some(mode),
                    ..MountTmpfsOptions::default()
                });
            }
            MountKind::Volume => {
                self.volumes_allowed(&mount.source)?;
                let (given, driver) = (&mount.volume_options, &mount.volume_options.driver_config);
                made.typ = Some(MountType::VOLUME);
                made.source = text(&mount.source);
                made.volume_options = Some(MountVolumeOptions {
                    no_copy: Some(given.no_copy),
                    labels: Some(given.labels.clone().into_iter().collect()),
                    driver_config: text(&driver.name).map(|name| MountVolumeOptionsDriverConfig {
                        name: Some(name),
                        options: Some(driver.options.clone().into_iter().collect()),
                    }),
                    ..MountVolumeOptions::default()
                });
            }
            MountKind::Bind => {
                made.typ = Some(MountType::BIND);
                made.source = Some(self.source(&mount.source)?.to_string_lossy().into_owned());
                made.bind_options = propagation(&mount.bind_options.propagation)?
                    .map(|propagation| MountBindOptions { propagation: Some(propagation), ..Default::default() });
            }
        }
        Ok(made)
    }

    /// Where a source that a job names is, as the daemon may mount it.
    fn source(&mut self, given: &str) -> Result<PathBuf, DriverError> {
        let root = &self.dirs.alloc.root;
        let asked = if given.starts_with('/') { PathBuf::from(given) } else { self.dirs.dir.join(given) };
        let asked = lexical(&asked);
        let Ok(inner) = asked.strip_prefix(root) else {
            if self.options.volumes.enabled {
                return Ok(asked);
            }
            return Err(refused(format!(
                "volumes are not enabled on this node, cannot mount host path {:?}",
                asked.display().to_string()
            )));
        };
        self.refuse_private(inner)?;
        let handle = walk(root, inner).map_err(|e| refused(format!("volume source {given:?} cannot be used: {e}")))?;
        self.pin(&handle, &asked)
    }

    /// The agent's own directories and the secrets of other tasks are nobody's to mount.
    fn refuse_private(&self, inner: &Path) -> Result<(), DriverError> {
        let parts: Vec<String> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let private = match parts.as_slice() {
            [] => true,
            [first, ..] if first == crate::supervisor::DIR_NAME => true,
            [_, second, ..] if second == "private" => true,
            [first, second, ..] if second == "secrets" => first != self.task,
            // Another task's directory holds its secrets.
            [first] => first != "alloc",
            _ => false,
        };
        if private { Err(refused(format!("{:?} cannot be mounted", inner.display().to_string()))) } else { Ok(()) }
    }

    /// Makes the handle a path that stays what it is.
    fn pin(&mut self, handle: &OwnedFd, checked: &Path) -> Result<PathBuf, DriverError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(checked.to_path_buf());
        }
        let pins = pins(self.dirs, self.task);
        let place = pins.join(self.pins.to_string());
        self.pins += 1;
        let made = || -> std::io::Result<bool> {
            let kind = FileType::from_raw_mode(rustix::fs::fstat(handle)?.st_mode);
            if kind == FileType::Directory {
                fs::create_dir_all(&place)?;
            } else {
                fs::create_dir_all(&pins)?;
                fs::File::create(&place)?;
            }
            let held = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
            match rustix::mount::mount_bind_recursive(held.as_str(), &place) {
                Ok(()) => Ok(true),
                Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => Ok(false),
                Err(error) => Err(error.into()),
            }
        };
        match made() {
            Ok(true) => Ok(place),
            Ok(false) => Ok(checked.to_path_buf()),
            Err(error) => Err(refused(format!("{:?} cannot be mounted: {error}", checked.display().to_string()))),
        }
    }

    /// A profile is a file; the daemon wants its content.
    fn security(&self, option: &str) -> Result<String, DriverError> {
        let Some(file) = option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:")) else {
            return Ok(option.to_owned());
        };
        if file == "unconfined" {
            return Ok(option.to_owned());
        }
        let failed = |e: &dyn std::fmt::Display| refused(format!("seccomp profile {file:?} cannot be read: {e}"));
        let content = self.profile(file).map_err(|e| failed(&e))?;
        let profile: serde_json::Value = serde_json::from_str(&content).map_err(|e| failed(&e))?;
        Ok(format!("seccomp={profile}"))
    }

    fn profile(&self, file: &str) -> Result<String, String> {
        use std::io::Read as _;
        let opened = if file.starts_with('/') && !Path::new(file).starts_with(&self.dirs.alloc.root) {
            if !self.options.volumes.enabled {
                return Err("host paths are not enabled on this node".to_owned());
            }
            fs::File::open(file).map_err(|e| e.to_string())?
        } else {
            let asked = lexical(&self.dirs.dir.join(file));
            let inner = asked.strip_prefix(&self.dirs.dir).map_err(|_| "it is outside of the task's directory")?;
            let root = crate::beneath::Root::open(&self.dirs.dir).map_err(|e| e.to_string())?;
            root.open_file(&inner.to_string_lossy()).map_err(|e| e.to_string())?
        };
        let mut content = String::new();
        opened.take(PROFILE_BYTES_MAX).read_to_string(&mut content).map_err(|e| e.to_string())?;
        Ok(content)
    }
}

fn propagation(given: &str) -> Result<Option<MountBindOptionsPropagationEnum>, DriverError> {
    use MountBindOptionsPropagationEnum as P;
    Ok(Some(match given {
        "" => return Ok(None),
        "private" => P::PRIVATE,
        "rprivate" => P::RPRIVATE,
        "shared" => P::SHARED,
        "rshared" => P::RSHARED,
        "slave" => P::SLAVE,
        "rslave" => P::RSLAVE,
        other => return Err(refused(format!("propagation {other:?} is not known"))),
    }))
}

/// Resolves `.` and `..` by name alone.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    clean
}

/// Opens `inner` below `root`, following no symlink; directories that are missing are made.
fn walk(root: &Path, inner: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for name in inner {
        let open = || rustix::fs::openat2(&at, name, flags | OFlags::NOFOLLOW, Mode::empty(), resolve);
        let next = match open() {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755))?;
                open()?
            }
            Err(rustix::io::Errno::LOOP) => return Err(std::io::Error::other("a symlink is on its way")),
            other => other?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        if kind == FileType::Symlink {
            return Err(std::io::Error::other("a symlink is on its way"));
        }
        at = next;
    }
    Ok(at)
}

fn pins(dirs: &TaskDirs, task: &str) -> PathBuf {
    dirs.alloc.supervisor().join("mounts").join(task)
}

/// Takes away what was mounted for a task.
pub(super) fn unpin(dirs: &TaskDirs, task: &str) {
    let pins = pins(dirs, task);
    let Ok(entries) = fs::read_dir(&pins) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // What is still mounted must not be removed: it is the task's own content.
        if rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {
            let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        }
    }
    let _ = fs::remove_dir(&pins);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    struct Place {
        _base: tempfile::TempDir,
        task: TaskConfig,
    }

    impl Place {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            let alloc = crate::taskdir::AllocDirs::new(base.path(), "a1").unwrap();
            alloc.build().unwrap();
            let dirs = alloc.task("web").unwrap();
            for dir in [dirs.local(), dirs.secrets(), dirs.private(), alloc.root.join("other/secrets")] {
                fs::create_dir_all(dir).unwrap();
            }
            let task = TaskConfig {
                task_id: "a1/web/0".into(),
                alloc_id: "a1".into(),
                task: "web".into(),
                config: Default::default(),
                env: Default::default(),
                user: String::new(),
                limits: Default::default(),
                dirs,
                logs: None,
                around: Default::default(),
            };
            Self { _base: base, task }
        }

        fn prepare(&self, options: Value, config: Value) -> Result<Paths, DriverError> {
            let mut config = config.as_object().unwrap().clone();
            config.insert("image".into(), "i:1".into());
            let config = Config::decode(&config).unwrap();
            prepare(&Options::parse(options).unwrap(), &config, &self.task)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            self.task.dirs.alloc.unmount();
        }
    }

    #[test]
    fn host_paths_and_named_volumes_need_leave_docker_20_docker_21() {
        let place = Place::new();
        for config in [
            json!({"volumes": ["/etc:/x"]}),
            json!({"volumes": ["../../../etc:/x"]}),
            json!({"mount": {"type": "bind", "source": "/etc", "target": "/x"}}),
            json!({"mount": {"type": "volume", "source": "v", "target": "/x"}}),
            json!({"volumes": ["v:/x"], "volume_driver": "d"}),
            json!({"security_opt": ["seccomp=/etc/hostname"]}),
        ] {
            let error = place.prepare(json!({}), config.clone()).unwrap_err().to_string();
            assert!(error.contains("not enabled"), "{config}: {error}");
            assert!(
                place.prepare(json!({"volumes": {"enabled": true}}), config.clone()).is_ok()
                    || config.get("security_opt").is_some()
            );
        }
        let paths = place.prepare(json!({}), json!({"volumes": ["local/conf:/conf:ro"]})).unwrap();
        assert!(paths.binds[4].ends_with(":/conf:ro") && place.task.dirs.local().join("conf").is_dir());
        assert_eq!(paths.binds[3], format!("{}:/alloc/logs:ro", place.task.dirs.alloc.logs().display()));
    }

    #[test]
    fn symlinks_and_private_directories_are_never_mounted() {
        let place = Place::new();
        std::os::unix::fs::symlink("/etc", place.task.dirs.local().join("link")).unwrap();
        for bad in [
            "local/link:/x",
            "local/link/ssl:/x",
            "private:/x",
            "../other/secrets:/x",
            "../other:/x",
            "..:/x",
            "../.supervisor:/x",
            "secrets/../private:/x",
            "local:relative",
            "local",
            "a:b:c:d",
        ] {
            assert!(place.prepare(json!({}), json!({"volumes": [bad]})).is_err(), "{bad}");
        }
        assert!(place.prepare(json!({}), json!({"volumes": ["secrets:/x", "../alloc/data:/y"]})).is_ok());
    }

    fn volume(destination: &str) -> HostMount {
        HostMount {
            volume: "v".into(),
            source: "/srv/da:ta".into(),
            destination: destination.into(),
            read_only: false,
            propagation: Propagation::Private,
            selinux_label: String::new(),
        }
    }

    fn mounted(volume: HostMount) -> Result<Paths, DriverError> {
        let mut place = Place::new();
        place.task.around.mounts = vec![volume];
        // The operator has not allowed host paths in jobs: a volume is no such path.
        place.prepare(json!({}), json!({}))
    }

    #[test]
    fn a_volume_of_the_host_is_a_mount_as_the_agent_says_docker_22() {
        use MountBindOptionsPropagationEnum as P;
        let paths = mounted(volume("/data")).unwrap();
        let [mount] = paths.mounts.as_slice() else { panic!("{paths:?}") };
        assert_eq!((mount.typ, mount.read_only), (Some(MountType::BIND), Some(false)));
        assert_eq!((mount.source.as_deref(), mount.target.as_deref()), (Some("/srv/da:ta"), Some("/data")));
        for (propagation, expected) in [
            (Propagation::Private, P::RPRIVATE),
            (Propagation::HostToTask, P::RSLAVE),
            (Propagation::Bidirectional, P::RSHARED),
        ] {
            let paths = mounted(HostMount { read_only: true, propagation, ..volume("/data") }).unwrap();
            let bind = paths.mounts[0].bind_options.as_ref().unwrap();
            assert_eq!((paths.mounts[0].read_only, bind.propagation), (Some(true), Some(expected)));
        }
        let labelled = HostMount {
            source: "/srv/data".into(),
            read_only: true,
            propagation: Propagation::HostToTask,
            selinux_label: "z".into(),
            ..volume("/data")
        };
        let paths = mounted(labelled.clone()).unwrap();
        assert_eq!((paths.binds.last().unwrap().as_str(), paths.mounts.len()), ("/srv/data:/data:ro,rslave,z", 0));
        let error = mounted(HostMount { source: "/srv/da:ta".into(), ..labelled }).unwrap_err();
        assert!(error.to_string().contains("colon"), "{error}");
    }

    #[test]
    fn a_volume_is_seen_inside_the_container_and_nowhere_else() {
        for (destination, seen) in [
            ("/data", "/data"),
            ("/local/data", "/local/data"),
            ("/../../etc/x", "/etc/x"),
            ("/a/../../b/./c/", "/b/c"),
            ("/alloc/../alloc/data/../data", "/alloc/data"),
        ] {
            let paths = mounted(volume(destination)).unwrap();
            assert_eq!(paths.mounts[0].target.as_deref(), Some(seen), "{destination}");
        }
        for (destination, why) in [
            ("", "no absolute path"),
            ("data", "no absolute path"),
            ("../data", "no absolute path"),
            ("/", "own files"),
            ("/..", "own files"),
            ("/local/", "own files"),
            ("/x/../secrets", "own files"),
            ("/alloc", "own files"),
            ("/alloc/logs", "own files"),
            ("/data:/etc", "cannot be mounted"),
        ] {
            let error = mounted(volume(destination)).unwrap_err();
            assert!(!error.is_recoverable(), "{destination}");
            assert!(error.to_string().contains(why) && error.to_string().contains("volume \"v\""), "{error}");
        }
    }

    #[test]
    fn a_seccomp_profile_is_read_in_docker_42() {
        let place = Place::new();
        fs::write(place.task.dirs.local().join("p.json"), "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }").unwrap();
        let paths = place.prepare(json!({}), json!({"security_opt": ["seccomp=local/p.json"]})).unwrap();
        assert_eq!(paths.security, ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]);
        for bad in ["seccomp=local/none.json", "seccomp=../../x", "seccomp=unconfined"] {
            assert!(place.prepare(json!({}), json!({"security_opt": [bad]})).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_that_is_swapped_later_stays_what_it_was() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = Place::new();
        let data = place.task.dirs.local().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("mine"), "x").unwrap();
        let paths = place.prepare(json!({}), json!({"volumes": ["local/data:/x"]})).unwrap();
        fs::rename(&data, place.task.dirs.local().join("gone")).unwrap();
        std::os::unix::fs::symlink("/etc", &data).unwrap();
        let source = paths.binds[4].split(':').next().unwrap();
        assert!(Path::new(source).join("mine").exists());
        unpin(&place.task.dirs, "web");
        assert!(!Path::new(source).exists() && place.task.dirs.local().join("gone/mine").exists());
    }
}
