//! From a row to what a driver needs: directories, environment, interpolated `config`.

use std::sync::Arc;

use driver::beneath::Root;
use driver::cgroup::Limits;
use driver::contract::{Around, Capabilities, LogSettings, Namespace, Notes};
use driver::env::{Inputs, TaskEnv};
use driver::taskdir::AllocDirs;
use driver::{DriverError, TaskConfig};
use lifecycle::{StartFailure, StartFailureKind};
use model::alloc::AllocatedDeviceResource;
use model::resources::DNSConfig;
use model::{Allocation, Job, Node, TaskGroup};
use tokio_util::sync::CancellationToken;

use super::{chain, volumes};
use crate::bridge;
use crate::host::{Host, cores_of};

/// A task about to be started.
pub struct Task {
    pub host: Arc<Host>,
    pub alloc: Arc<Allocation>,
    /// The network its group shares.
    pub namespace: Option<Namespace>,
    pub dirs: AllocDirs,
    pub task: String,
    pub task_id: String,
    /// What its driver can do.
    pub capabilities: Capabilities,
    pub notes: Notes,
    pub cancel: CancellationToken,
}

pub fn hook_failure(message: &str) -> StartFailure {
    StartFailure { kind: StartFailureKind::Hook, message: message.to_owned(), recoverable: true }
}

fn validation_failure(message: String) -> StartFailure {
    StartFailure { kind: StartFailureKind::Validation, message, recoverable: false }
}

pub fn driver_failure(error: &DriverError) -> StartFailure {
    let recoverable = error.is_recoverable();
    let kind = StartFailureKind::Driver;
    StartFailure { kind, message: error.to_string(), recoverable }
}

impl Task {
    /// Makes the task's directories and works everything out. Blocks.
    pub fn config(self) -> Result<TaskConfig, StartFailure> {
        let Self { host, alloc, namespace, dirs, task: name, task_id, capabilities, notes, cancel } = self;
        let alloc = match &namespace {
            // The cluster's row may not know it yet, and the environment tells it.
            Some(_) => Arc::new(Allocation {
                network_status: Some(Arc::new(bridge::status(namespace.as_ref()))),
                ..(*alloc).clone()
            }),
            None => alloc,
        };
        let job = alloc.job.as_deref().ok_or_else(|| validation_failure("the job is missing".to_owned()))?;
        let group = job.lookup_group(&alloc.task_group);
        let found = group.and_then(|group| Some((group, group.lookup_task(&name)?)));
        let (group, task) = found.ok_or_else(|| validation_failure(format!("task {name:?} is not part of the job")))?;
        let dirs = dirs.task(&name).map_err(|e| hook_failure(&chain(&e)))?;
        let secrets_mib = task.resources.as_ref().and_then(|r| u32::try_from(r.secrets_mb?).ok()).unwrap_or(0);
        dirs.build(secrets_mib).map_err(|e| hook_failure(&chain(&e)))?;
        if let Some(file) = task.dispatch_payload.as_ref().map(|payload| &payload.file).filter(|file| !file.is_empty())
            && !job.payload.is_empty()
        {
            let local = Root::open(&dirs.local()).map_err(|e| hook_failure(&chain(&e)))?;
            local.write_file(file, &job.payload.0).map_err(|e| hook_failure(&chain(&e)))?;
        }
        let node = host.node.borrow().clone();
        let reserved = host.devices.reserve(devices_of(&alloc, &name)).map_err(|error| StartFailure {
            kind: StartFailureKind::Hook,
            message: error.to_string(),
            recoverable: false,
        })?;
        let env = TaskEnv::build(&Inputs {
            alloc: &alloc,
            job,
            group,
            task,
            node: &node,
            region: &host.region,
            dirs: &dirs,
            isolation: capabilities.fs_isolation,
            host: &host.env,
            deny_list: &host.env_denied,
            hooks: &reserved.env,
            parent_cgroup: Some(&host.cgroup_parent),
        });
        let interpolated = |text: &str| env.interpolate_strict(text).map_err(|e| validation_failure(e.to_string()));
        let config = env.config(&task.config).map_err(|e| validation_failure(e.to_string()))?;
        let user = interpolated(&task.user)?;
        let place = volumes::Place { alloc: &alloc, group, node: &node, mounts: capabilities.mounts };
        let known = |text: &str| env.interpolate_strict(text).map_err(|e| e.to_string());
        let mounts = volumes::resolve(&place, task, &known)
            .map_err(|message| StartFailure { recoverable: false, ..hook_failure(&message) })?;
        let dns = dns(group, &interpolated)?;
        host.denied.check_user(&task.driver, &user).map_err(validation_failure)?;
        Ok(TaskConfig {
            task_id,
            alloc_id: alloc.id.clone(),
            task: name.clone(),
            config,
            user,
            limits: limits(&alloc, &name),
            dirs,
            logs: LogSettings::from_model(task.log_config.as_ref()),
            env: env.vars,
            around: Around {
                notes,
                cancel,
                namespace,
                dns,
                devices: reserved.nodes,
                mounts,
                ..around(&alloc, job, group, &name, &node)
            },
        })
    }
}

/// What the group says of resolving names.
fn dns(
    group: &TaskGroup,
    interpolated: &impl Fn(&str) -> Result<String, StartFailure>,
) -> Result<Option<DNSConfig>, StartFailure> {
    let given = group.networks.first().and_then(|network| network.dns.as_ref());
    let all = |list: &[String]| list.iter().map(|text| interpolated(text)).collect::<Result<Vec<_>, _>>();
    let read = |dns: &DNSConfig| {
        let (servers, searches, options) = (all(&dns.servers)?, all(&dns.searches)?, all(&dns.options)?);
        Ok(DNSConfig { servers, searches, options })
    };
    given.map(read).transpose()
}

/// The devices that the cluster gave to a task.
fn devices_of<'a>(alloc: &'a Allocation, task: &str) -> &'a [AllocatedDeviceResource] {
    let given = alloc.allocated_resources.as_ref().and_then(|r| r.tasks.get(task));
    given.map(|given| given.devices.as_slice()).unwrap_or_default()
}

/// What stands around the task.
fn around(alloc: &Allocation, job: &Job, group: &TaskGroup, task: &str, node: &Node) -> Around {
    let names = [
        ("job_name", job.name().to_owned()),
        ("job_id", job.id().to_string()),
        ("parent_job_id", job.parent_id.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("task_group_name", group.name().to_owned()),
        ("task_name", task.to_owned()),
        ("namespace", alloc.namespace.to_string()),
        ("node_name", node.name.clone()),
        ("node_id", node.id.to_string()),
    ];
    let given = alloc.allocated_resources.as_ref();
    Around {
        names: names.into_iter().collect(),
        ports: given.map(|r| r.shared.ports.clone()).unwrap_or_default(),
        network_mode: group.networks.first().map(|network| network.mode.clone()).unwrap_or_default(),
        cores: cores_of(alloc, task).to_vec(),
        node_cpu_mhz: node.node_resources.as_ref().map_or(0, |r| r.cpu.cpu_shares),
        ..Around::default()
    }
}

/// What the scheduler gave the task.
fn limits(alloc: &Allocation, task: &str) -> Limits {
    let given = alloc.allocated_resources.as_ref().and_then(|r| r.tasks.get(task));
    given.map_or_else(Limits::default, |given| Limits {
        cpu_mhz: given.cpu.cpu_shares,
        memory_mib: given.memory.memory_mb,
        memory_max_mib: given.memory.memory_max_mb,
    })
}
