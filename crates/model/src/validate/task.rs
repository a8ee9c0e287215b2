//! Rules of a task.

use super::problem::{Findings, labelled};
use super::{attachments, constraint, service, volume};
use crate::driver_config;
use crate::group::TaskGroup;
use crate::job::Job;
use crate::resources::Resources;
use crate::status::JobKind;
use crate::task::Task;

const CPU_MHZ_MIN: i64 = 1;
const MEMORY_MB_MIN: i64 = 10;

pub(super) fn check(task: &Task, group: &TaskGroup, job: &Job) -> Findings {
    let mut found = Findings::default();
    name(&task.name, &mut found);
    found.at("driver").when(task.driver.is_empty(), || "Missing task driver".into());
    for problem in driver_config::problems(&task.driver, &task.config) {
        found.at(format!("config.{}", problem.place)).say(format!("{} config: {problem}", task.driver));
    }
    times(task, group, job, &mut found);
    match &task.resources {
        Some(asked) => found.at("resources").part("", resources(asked)),
        None => found.at("resources").say("Missing task resources"),
    }
    logs(task, group, &mut found);
    constraint::constraints(&task.constraints, constraint::At::Task, &mut found);
    constraint::scores(&task.affinities, &[], job.kind(), &mut found);
    found.all(service::of_task(task, group));
    attachments::check(task, &mut found);
    if let Some(lifecycle) = &task.lifecycle {
        let hook = lifecycle.hook.as_str();
        let text =
            if hook.is_empty() { "no lifecycle hook provided".to_owned() } else { format!("invalid hook: {hook}") };
        found.at("lifecycle.hook").unless_known(hook, &["prestart", "poststart", "poststop"], || text);
    }
    volume::mounts(task, group, &mut found);
    consul(task, group, &mut found);
    found
}

fn consul(task: &Task, group: &TaskGroup, found: &mut Findings) {
    let Some(own) = &task.consul else { return };
    found.at("consul.cluster").when(!matches!(own.cluster.as_str(), "" | "default"), || {
        format!("Consul cluster {:?} requires Nomad Enterprise", own.cluster)
    });
    let of_group = group.consul.as_ref().map_or("", |consul| consul.partition.as_str());
    found
        .at("consul.partition")
        .when(!own.partition.is_empty() && !of_group.is_empty() && own.partition != of_group, || {
            format!("consul.partition {:?} of the task must match {of_group:?} of its group", own.partition)
        });
}

fn name(name: &str, found: &mut Findings) {
    if name.is_empty() {
        found.say("Missing task name");
    }
    found.when(name.contains(['/', '\\']), || format!("Task name {name:?} cannot include slashes"));
    found.when(name.contains('\0'), || "Task name cannot include null characters".into());
    found.when(name == "alloc", || "Task cannot be named \"alloc\"".into());
    found.when(matches!(name, "." | ".."), || format!("Task cannot be named {name:?}"));
}

fn times(task: &Task, group: &TaskGroup, job: &Job, found: &mut Findings) {
    let kill = task.kill_timeout();
    found.at("kill_timeout").when(kill.0 < 0, || "KillTimeout must be a positive value".into());
    let progress = group.update.as_ref().map(|update| update.progress_deadline()).unwrap_or_default();
    found.at("kill_timeout").when(job.kind() == Some(JobKind::Service) && progress.0 > 0 && kill > progress, || {
        format!("KillTimeout ({kill}) longer than the group's ProgressDeadline ({progress})")
    });
    found.at("shutdown_delay").when(task.shutdown_delay.0 < 0, || "ShutdownDelay must be a positive value".into());
}

fn resources(asked: &Resources) -> Findings {
    let mut found = Findings::default();
    let (cpu, cores) = (asked.cpu.unwrap_or(0), asked.cores());
    if cores > 0 && cpu > 0 {
        found.at("cores").say("Task can only ask for 'cpu' or 'cores' resource, not both.");
    } else {
        found
            .at("cpu")
            .when(cores == 0 && cpu < CPU_MHZ_MIN, || format!("minimum CPU value is {CPU_MHZ_MIN}; got {cpu}"));
    }
    found.at("cores").when(cores < 0, || format!("cores can not be negative; got {cores}"));
    let (memory, most, secrets) = (asked.memory_mb(), asked.memory_max_mb(), asked.secrets_mb());
    found
        .at("memory")
        .when(memory < MEMORY_MB_MIN, || format!("minimum MemoryMB value is {MEMORY_MB_MIN}; got {memory}"));
    found.at("memory_max").when(most != 0 && most != -1 && most < memory, || {
        format!("MemoryMaxMB value ({most}) should be larger than MemoryMB value ({memory})")
    });
    found.at("secrets").when(secrets < 0, || format!("SecretsMB value ({secrets}) cannot be negative"));
    found.at("secrets").when(secrets > memory, || {
        format!("SecretsMB value ({secrets}) cannot be larger than MemoryMB value ({memory})")
    });
    found.at("disk").when(asked.disk_mb.unwrap_or(0) > 0, || {
        "Task can't ask for disk resources, they have to be specified at the task group level.".into()
    });
    devices(asked, &mut found);
    found
}

fn devices(asked: &Resources, found: &mut Findings) {
    for (i, device) in asked.devices.iter().enumerate() {
        let mut within = Findings::default();
        within.when(device.name.is_empty(), || {
            "device name must be given as one of the following: type, vendor/type, or vendor/type/name".into()
        });
        constraint::constraints(&device.constraints, constraint::At::Device, &mut within);
        let distinct = device.constraints.iter().enumerate().filter(|(_, one)| constraint::is_distinct(&one.operand));
        for (i, one) in distinct {
            within
                .at(format!("constraint[{i}]"))
                .say(format!("Constraint using unsupported operand {:?}", one.operand));
        }
        constraint::scores(&device.affinities, &[], None, &mut within);
        found.at(labelled("device", &device.name)).part(format!("device {} failed validation", i + 1), within);
    }
    if let Some(numa) = &asked.numa {
        found.at("numa.affinity").unless_known(&numa.affinity, &["", "none", "prefer", "require"], || {
            format!("numa affinity must be one of none, prefer, or require; got {:?}", numa.affinity)
        });
        for name in numa.devices.iter().filter(|name| !asked.devices.iter().any(|device| device.name == **name)) {
            found.at("numa.devices").say(format!("numa device {name:?} not requested as task resource"));
        }
    }
}

fn logs(task: &Task, group: &TaskGroup, found: &mut Findings) {
    let Some(logs) = &task.log_config else {
        found.at("logs").say("Missing Log Config");
        return;
    };
    let (files, size) = (logs.max_files(), logs.max_file_size_mb());
    found.at("logs.max_files").when(files < 1, || format!("minimum number of files is 1; got {files}"));
    found.at("logs.max_file_size").when(size < 1, || format!("minimum file size is 1MB; got {size}"));
    let (total, disk) = (task.log_mb(), group.disk_mb());
    found.at("logs").when(!logs.is_disabled() && total >= disk, || {
        format!("log storage ({total} MB) must be less than requested disk capacity ({disk} MB)")
    });
}
