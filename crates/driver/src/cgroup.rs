//! One cgroup per task, on cgroup v1 (also hybrid) and v2: limits, membership, kill, usage, removal.
//!
//! Layout: `<mount>/<controller>/<parent>/<node id>/<alloc>.<task>` on v1, one per controller;
//! `<mount>/<parent>/<node id>/<alloc>.<task>.scope` on v2. The node id in the path is what lets several
//! agents share a host: an agent only ever removes what lies under its own.
//!
//! The agent makes and removes scopes ([`Cgroups`]); the supervisor only joins and kills them
//! ([`Scope`]). A host where cgroups cannot be written has an empty scope, and the task is then held by
//! its process group alone.
//!
//! A scope's cores are the task's own, or the share of all others, which [`Cgroups::share_out`] writes anew when
//! it changes. Version 1 has them in a fourth hierarchy; where that cannot be written every core is everybody's.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cores::Cores;
use crate::env::core_list;

const V1_CONTROLLERS: [&str; 3] = ["freezer", "memory", "cpu"];
const V1_CPUSET: &str = "cpuset";
const CPUS: &str = "cpuset.cpus";
const MEMS: &str = "cpuset.mems";
const V2_NEEDED: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];
const V2_WANTED: &str = "+cpuset +cpu +io +memory +pids";
const MIB: i64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    V2,
}

/// What a task may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub cpu_mhz: i64,
    pub memory_mib: i64,
    /// 0: no larger than `memory_mib`; -1: no limit.
    pub memory_max_mib: i64,
}

/// The directories of one task's cgroup. Empty when the task has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    pub version: Option<Version>,
    pub dirs: Vec<PathBuf>,
    /// False for directories somebody else made: they are joined, never limited, killed or removed.
    pub owned: bool,
}

impl Scope {
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// Where a process that somebody else put into a cgroup is, to read what is used there. Never to be limited,
    /// killed or removed: only the reading needs the mark of our own.
    pub(crate) fn of_process(pid: i32) -> Self {
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let Some(version) = host_version() else { return Self::default() };
        let mount = Path::new("/sys/fs/cgroup");
        let dirs: Option<Vec<PathBuf>> = match version {
            Version::V1 => {
                V1_CONTROLLERS.iter().map(|name| home_of(&mount.join(name).join("x"), &membership)).collect()
            }
            Version::V2 => home_of(&mount.join("x"), &membership).map(|dir| vec![dir]),
        };
        let dirs = dirs.filter(|dirs| dirs.iter().all(|dir| dir != mount && dir.is_dir())).unwrap_or_default();
        Self { version: Some(version), owned: !dirs.is_empty(), dirs }
    }

    /// Moves the calling process in. The caller starts the child and then calls [`Seats::restore`].
    pub fn enter(&self) -> io::Result<Seats> {
        let mut seats = Seats { back: Vec::new() };
        if self.is_empty() {
            return Ok(seats);
        }
        let membership = fs::read_to_string("/proc/self/cgroup")?;
        for dir in &self.dirs {
            if let Some(home) = home_of(dir, &membership) {
                seats.back.push(home);
            }
            if let Err(error) = join(dir) {
                let _ = seats.restore();
                return Err(error);
            }
        }
        Ok(seats)
    }

    /// SIGKILL to every member. True when the scope is known to be empty afterwards or was never ours.
    pub fn kill(&self) -> bool {
        if !self.owned {
            return true;
        }
        match self.version {
            Some(Version::V2) => self.dirs.iter().all(|dir| fs::write(dir.join("cgroup.kill"), "1").is_ok()),
            Some(Version::V1) => self.kill_v1(),
            None => true,
        }
    }

    fn kill_v1(&self) -> bool {
        let Some(freezer) = self.dirs.first() else { return true };
        let state = freezer.join("freezer.state");
        let _ = fs::write(&state, "FROZEN");
        for pid in self.pids() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        fs::write(&state, "THAWED").is_ok()
    }

    /// The processes in the scope, threads left out.
    pub fn pids(&self) -> Vec<i32> {
        let Some(dir) = self.dirs.first() else { return Vec::new() };
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// How often the kernel killed a member for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let (name, dir) = match self.version {
            Some(Version::V2) => ("memory.events", self.dirs.first()),
            Some(Version::V1) => ("memory.oom_control", self.dirs.get(1)),
            None => return 0,
        };
        let Some(dir) = dir.filter(|_| self.owned) else { return 0 };
        keyed(&fs::read_to_string(dir.join(name)).unwrap_or_default(), "oom_kill").unwrap_or(0)
    }

    /// Removes the directories; members must be gone. Tries for up to a second while the kernel reaps.
    pub fn remove(&self) -> io::Result<()> {
        if !self.owned {
            return Ok(());
        }
        let mut result = Ok(());
        for dir in &self.dirs {
            for attempt in 0..20 {
                match fs::remove_dir(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if attempt == 19 => result = Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        }
        result
    }
}

/// Where a process sat before it entered a scope.
#[derive(Debug)]
pub struct Seats {
    back: Vec<PathBuf>,
}

impl Seats {
    pub fn restore(self) -> io::Result<()> {
        self.back.iter().try_for_each(|dir| join(dir))
    }
}

/// Puts the calling thread in, which for a process of one thread is the process.
///
/// Version 1 can move a single thread, and for a thread that moves itself the kernel need not stop the world:
/// `cgroup.procs` would cost a grace period, 5 to 20 ms of every start.
fn join(dir: &Path) -> io::Result<()> {
    let open = |name: &str| fs::OpenOptions::new().write(true).open(dir.join(name));
    let mut file = match open("tasks") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open("cgroup.procs")?,
        other => other?,
    };
    // "0" is the writer itself, in whichever pid namespace it lives.
    file.write_all(b"0")
}

/// The directory the process sits in now, in the hierarchy `dir` belongs to.
fn home_of(dir: &Path, membership: &str) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let under = dir.strip_prefix(root).ok()?;
    let first = under.components().next()?.as_os_str().to_str()?;
    let find = |controller: &str| {
        membership.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
            (names.split(',').any(|name| name == controller)).then(|| path.to_owned())
        })
    };
    let (base, path) = match find(first) {
        Some(path) => (root.join(first), path),
        None => (root.to_path_buf(), find("")?),
    };
    Some(base.join(path.trim_start_matches('/')))
}

/// `key value` lines.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The host's cgroups as this agent may use them.
#[derive(Clone, Debug)]
pub struct Cgroups {
    version: Version,
    mount: PathBuf,
    /// `<parent>/<node id>`.
    home: PathBuf,
    /// Version 1: its hierarchy of cores can be written.
    cpuset: bool,
    cores: Option<Arc<Cores>>,
}

impl Cgroups {
    /// Finds what the host offers. `None` when the cgroups cannot be written.
    pub fn detect(parent: &str, node_id: &str) -> Option<Self> {
        Self::detect_at(Path::new("/sys/fs/cgroup"), parent, node_id)
    }

    fn detect_at(mount: &Path, parent: &str, node_id: &str) -> Option<Self> {
        let version = version_at(mount)?;
        let parent = match version {
            Version::V1 => parent.trim_end_matches(".slice"),
            Version::V2 => parent,
        };
        let home = Path::new(parent).join(node_id);
        let mut all = Self { version, mount: mount.to_path_buf(), home, cpuset: false, cores: None };
        all.prepare().ok()?;
        all.cpuset = version == Version::V1 && all.prepare_cpuset().is_ok();
        Some(all)
    }

    /// Tasks have only the cores that are theirs from here on.
    #[must_use]
    pub fn with_cores(self, cores: Arc<Cores>) -> Self {
        Self { cores: Some(cores), ..self }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    fn homes(&self) -> Vec<PathBuf> {
        match self.version {
            Version::V1 => {
                let cpuset = self.cpuset.then_some(V1_CPUSET);
                let controllers = V1_CONTROLLERS.into_iter().chain(cpuset);
                controllers.map(|name| self.mount.join(name).join(&self.home)).collect()
            }
            Version::V2 => vec![self.mount.join(&self.home)],
        }
    }

    fn prepare(&self) -> io::Result<()> {
        for home in self.homes() {
            fs::create_dir_all(home)?;
        }
        if self.version == Version::V2 {
            let mut dir = self.mount.clone();
            enable_v2(&dir)?;
            for part in &self.home {
                dir.push(part);
                enable_v2(&dir)?;
            }
        }
        if self.cpuset { self.prepare_cpuset() } else { Ok(()) }
    }

    /// A directory of version 1 has no cores and no memory of its own until it is given them.
    fn prepare_cpuset(&self) -> io::Result<()> {
        let mut dir = self.mount.join(V1_CPUSET);
        fs::create_dir_all(dir.join(&self.home))?;
        for part in &self.home {
            let above = dir.clone();
            dir.push(part);
            for file in [CPUS, MEMS] {
                inherit(&above, &dir, file)?;
            }
        }
        Ok(())
    }

    /// Makes the task's scope, with its limits in force and on `cores`, or the share of all who have none.
    pub fn create(&self, alloc: &str, task: &str, limits: Limits, cores: &[u16]) -> io::Result<Scope> {
        let name = match self.version {
            Version::V1 => format!("{alloc}.{task}"),
            Version::V2 => format!("{alloc}.{task}.scope"),
        };
        self.prepare()?;
        let dirs: Vec<_> = self.homes().into_iter().map(|home| home.join(&name)).collect();
        for dir in &dirs {
            fs::create_dir_all(dir)?;
        }
        let scope = Scope { version: Some(self.version), dirs, owned: true };
        for (dir, file, value) in limit_files(&scope, limits) {
            write_limit(&dir.join(file), &value)?;
        }
        self.place(&scope, cores)?;
        Ok(scope)
    }

    /// The directory of a scope that says which cores it has.
    fn cpuset_of<'a>(&self, scope: &'a Scope) -> Option<&'a PathBuf> {
        match self.version {
            Version::V1 => scope.dirs.last().filter(|_| self.cpuset),
            Version::V2 => scope.dirs.first().filter(|_| self.cores.is_some()),
        }
    }

    fn place(&self, scope: &Scope, own: &[u16]) -> io::Result<()> {
        let Some(dir) = self.cpuset_of(scope) else { return Ok(()) };
        if self.version == Version::V1 {
            let home = self.mount.join(V1_CPUSET).join(&self.home);
            inherit(&home, dir, MEMS)?;
            inherit(&home, dir, CPUS)?;
        }
        let Some(cores) = &self.cores else { return Ok(()) };
        if !own.is_empty() {
            return fs::write(dir.join(CPUS), core_list(own));
        }
        loop {
            let share = cores.share();
            fs::write(dir.join(CPUS), &share.list)?;
            // Who shares out may have passed before this scope was there.
            if cores.share() == share {
                return Ok(());
            }
        }
    }

    /// Gives every task without cores of its own the share as it is now. Blocks.
    pub fn share_out(&self) {
        let Some(cores) = &self.cores else { return };
        let share = cores.share();
        for (label, scope) in self.scopes() {
            let apart = label.split_once('.').is_some_and(|(alloc, task)| cores.is_apart(alloc, task));
            let Some(dir) = self.cpuset_of(&scope).filter(|dir| !apart && dir.is_dir()) else { continue };
            if let Err(error) = fs::write(dir.join(CPUS), &share.list) {
                tracing::warn!(scope = label, cores = share.list, %error, "a task keeps the cores it had");
            }
        }
    }

    /// Every scope below this node's directory, whoever made it.
    pub fn scopes(&self) -> Vec<(String, Scope)> {
        let homes = self.homes();
        let Some(entries) = homes.first().and_then(|home| fs::read_dir(home).ok()) else { return Vec::new() };
        let names = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        names
            .filter_map(|e| e.file_name().into_string().ok())
            .map(|name| {
                let dirs = homes.iter().map(|home| home.join(&name)).collect();
                let label = name.strip_suffix(".scope").unwrap_or(&name).to_owned();
                (label, Scope { version: Some(self.version), dirs, owned: true })
            })
            .collect()
    }

    /// Removes this node's own directories; they must be empty.
    pub fn remove_home(&self) {
        for home in self.homes() {
            let _ = fs::remove_dir(&home);
            if let Some(parent) = home.parent() {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

/// Copies what stands above, where nothing stands yet.
fn inherit(above: &Path, dir: &Path, file: &str) -> io::Result<()> {
    if fs::read_to_string(dir.join(file))?.trim().is_empty() {
        fs::write(dir.join(file), fs::read_to_string(above.join(file))?.trim())?;
    }
    Ok(())
}

fn version_at(mount: &Path) -> Option<Version> {
    if let Ok(controllers) = fs::read_to_string(mount.join("cgroup.controllers")) {
        let has: Vec<_> = controllers.split_whitespace().collect();
        return V2_NEEDED.iter().all(|name| has.contains(name)).then_some(Version::V2);
    }
    V1_CONTROLLERS.iter().all(|name| mount.join(name).join("cgroup.procs").exists()).then_some(Version::V1)
}

/// Which cgroup version the host runs, whether or not it can be written.
pub fn host_version() -> Option<Version> {
    version_at(Path::new("/sys/fs/cgroup"))
}

fn enable_v2(dir: &Path) -> io::Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let now = fs::read_to_string(&file)?;
    let has: Vec<_> = now.split_whitespace().collect();
    if V2_NEEDED.iter().all(|name| has.contains(name)) {
        return Ok(());
    }
    fs::write(file, V2_WANTED)
}

fn limit_files(scope: &Scope, limits: Limits) -> Vec<(PathBuf, &'static str, String)> {
    let bytes = |mib: i64| (mib.saturating_mul(MIB)).to_string();
    let (hard, soft) = match limits.memory_max_mib {
        -1 => (None, Some(limits.memory_mib)),
        max if max > limits.memory_mib => (Some(max), Some(limits.memory_mib)),
        _ => (Some(limits.memory_mib), None),
    };
    let mut files = Vec::new();
    let memory_set = limits.memory_mib > 0;
    match (scope.version, scope.dirs.as_slice()) {
        (Some(Version::V1), [_, memory, cpu, ..]) => {
            if memory_set {
                files.push((memory.clone(), "memory.limit_in_bytes", hard.map_or("-1".to_owned(), bytes)));
                files.extend(soft.map(|mib| (memory.clone(), "memory.soft_limit_in_bytes", bytes(mib))));
                files.push((memory.clone(), "memory.swappiness", "0".to_owned()));
            }
            if limits.cpu_mhz > 0 {
                files.push((cpu.clone(), "cpu.shares", limits.cpu_mhz.max(2).to_string()));
            }
        }
        (Some(Version::V2), [dir]) => {
            if memory_set {
                files.push((dir.clone(), "memory.max", hard.map_or("max".to_owned(), bytes)));
                files.extend(soft.map(|mib| (dir.clone(), "memory.low", bytes(mib))));
            }
            if limits.cpu_mhz > 0 {
                files.push((dir.clone(), "cpu.weight", weight_of_shares(limits.cpu_mhz).to_string()));
            }
        }
        _ => {}
    }
    files
}

/// Swappiness may be refused by the kernel; nothing else may.
fn write_limit(file: &Path, value: &str) -> io::Result<()> {
    match fs::write(file, value) {
        Err(_) if file.ends_with("memory.swappiness") => Ok(()),
        other => other,
    }
}

/// cgroup v1 shares (2..=262144) on v2's weight scale (1..=10000), linearly as the OCI runtimes did first.
fn weight_of_shares(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_maximum_becomes_the_hard_limit_and_the_reservation_the_soft_one_cgroup_v1_03() {
        let dirs: Vec<PathBuf> = ["/f", "/m", "/c"].iter().map(PathBuf::from).collect();
        let scope = Scope { version: Some(Version::V1), dirs, owned: true };
        let limits = Limits { cpu_mhz: 500, memory_mib: 64, memory_max_mib: 128 };
        let files = limit_files(&scope, limits);
        let value = |name: &str| files.iter().find(|f| f.1 == name).map(|f| f.2.clone());
        assert_eq!(value("memory.limit_in_bytes").unwrap(), (128_i64 << 20).to_string());
        assert_eq!(value("memory.soft_limit_in_bytes").unwrap(), (64_i64 << 20).to_string());
        assert_eq!(value("cpu.shares").unwrap(), "500");
    }

    #[test]
    fn an_unlimited_maximum_lifts_the_hard_limit_on_v2() {
        let scope = Scope { version: Some(Version::V2), dirs: vec![PathBuf::from("/s")], owned: true };
        let files = limit_files(&scope, Limits { cpu_mhz: 1024, memory_mib: 64, memory_max_mib: -1 });
        assert!(files.iter().any(|f| f.1 == "memory.max" && f.2 == "max"));
        assert!(files.iter().any(|f| f.1 == "memory.low"));
        assert!(files.iter().any(|f| f.1 == "cpu.weight" && f.2 == "39"));
    }

    #[test]
    fn the_home_of_a_process_is_looked_up_in_the_hierarchy_of_the_scope() {
        let text = "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/u\n";
        let home = |dir: &str| home_of(Path::new(dir), text).unwrap();
        assert_eq!(home("/sys/fs/cgroup/memory/steppe/x"), Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(home("/sys/fs/cgroup/cpu/steppe/x"), Path::new("/sys/fs/cgroup/cpu/"));
        assert_eq!(home("/sys/fs/cgroup/nomad.slice/x"), Path::new("/sys/fs/cgroup/u"));
    }
}
