//! What no validation should have let through, and no scheduling can carry out: an evaluation of such a job
//! fails and says so, instead of waiting for nodes that cannot come.
//!
//! Asked once per evaluation, before anything else; costs what reading the job costs.

use std::collections::BTreeSet;

use model::job::Spread;
use model::{Job, Task, TaskGroup};

use crate::constraint::is_operator;

/// Most allocations of one job.
const COUNT_MAX: i64 = 1_000_000;
/// Most of anything that one task asks for, in MHz or MiB: a thousand times what any machine has.
const AMOUNT_MAX: i64 = 1 << 40;

/// What is wrong with a job; `None` for one that makes sense.
pub(crate) fn absurd(job: &Job) -> Option<String> {
    let mut total = 0_i64;
    let mut groups = BTreeSet::new();
    let of_job = operators(&job.constraints, &job.affinities).or_else(|| spreads(&job.spreads));
    if of_job.is_some() {
        return of_job;
    }
    for group in &job.task_groups {
        let (name, count) = (group.name(), group.count());
        total = total.saturating_add(count.max(0));
        if !groups.insert(name) {
            return Some(format!("two groups are named {name:?}"));
        }
        if count < 0 {
            return Some(format!("group {name:?} has a count of {count}"));
        }
        if let Some(what) = of_group(group) {
            return Some(format!("{what} in group {name:?}"));
        }
    }
    (total > COUNT_MAX).then(|| format!("it has {total} allocations, more than {COUNT_MAX}"))
}

fn of_group(group: &TaskGroup) -> Option<String> {
    let found = operators(&group.constraints, &group.affinities).or_else(|| spreads(&group.spreads));
    if found.is_some() {
        return found;
    }
    if !(0..=AMOUNT_MAX).contains(&group.disk_mb()) {
        return Some(format!("{} MB of disk", group.disk_mb()));
    }
    let mut tasks = BTreeSet::new();
    for task in &group.tasks {
        if !tasks.insert(&task.name) {
            return Some(format!("two tasks are named {:?}", task.name));
        }
        let found = resources(task).map(|what| format!("task {:?} asks for {what}", task.name));
        let found = found.or_else(|| operators(&task.constraints, &task.affinities));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn resources(task: &Task) -> Option<String> {
    let asked = task.resources.as_ref();
    let cores = asked.map_or(0, model::resources::Resources::cores);
    for (amount, what) in [(task.cpu_mhz(), "MHz"), (task.memory_mb(), "MB of memory"), (cores, "cores")] {
        if !(0..=AMOUNT_MAX).contains(&amount) {
            return Some(format!("{amount} {what}"));
        }
    }
    let devices = asked.map(|asked| asked.devices.as_slice()).unwrap_or_default();
    devices.iter().find_map(|device| operators(&device.constraints, &device.affinities))
}

fn operators(constraints: &[model::job::Constraint], affinities: &[model::job::Affinity]) -> Option<String> {
    let asked = constraints.iter().map(|c| (&c.l_target, &c.operand, &c.r_target));
    let wished = affinities.iter().map(|a| (&a.l_target, &a.operand, &a.r_target));
    let unknown = asked.chain(wished).find(|(_, operand, _)| !is_operator(operand));
    unknown.map(|(left, operand, right)| format!("unknown operator {operand:?} in \"{left} {operand} {right}\""))
}

fn spreads(spreads: &[Spread]) -> Option<String> {
    spreads.iter().find_map(|spread| {
        let (mut values, mut sum) = (BTreeSet::new(), 0_u32);
        for target in &spread.spread_target {
            if !values.insert(&target.value) {
                return Some(format!("spread over {:?} has target {:?} twice", spread.attribute, target.value));
            }
            sum = sum.saturating_add(u32::from(target.percent));
        }
        (sum > 100).then(|| format!("spread over {:?} has targets of {sum} %", spread.attribute))
    })
}
