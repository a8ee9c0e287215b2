//! What the fields of a job, a group or a task mean when they are unset: one place for the defaults
//! that readers need, so that nobody unwraps a wire field by hand.
//!
//! Every method is total: it answers for a job that was never canonicalized too, with the value that
//! canonicalizing would have written. Nothing here changes anything.

use crate::group::{EphemeralDisk, ReschedulePolicy, RestartPolicy, TaskGroup};
use crate::ids::{Index, JobId, NamespaceName};
use crate::job::{Job, UpdateStrategy};
use crate::resources::Resources;
use crate::status::JobKind;
use crate::task::{LogConfig, Task, TaskLifecycle};
use crate::time::Nanos;

/// Priority of a job that names none.
pub const PRIORITY_DEFAULT: i64 = 50;
/// Lowest priority a job may have.
pub const PRIORITY_MIN: i64 = 1;
/// Highest priority a job may have unless the operator raises it.
pub const PRIORITY_MAX: i64 = 100;
/// Time between the kill signal and the kill of a task that names none.
pub const KILL_TIMEOUT_DEFAULT: Nanos = Nanos::from_secs(5);
/// MHz of a task that asks for neither MHz nor cores.
pub const CPU_MHZ_DEFAULT: i64 = 100;
/// MiB of memory of a task that names none.
pub const MEMORY_MB_DEFAULT: i64 = 300;
/// MiB of disk of a group that names none.
pub const DISK_MB_DEFAULT: i64 = 300;
/// Log files kept for each stream of a task that names no number.
pub const LOG_FILES_DEFAULT: i64 = 10;
/// MiB of one log file of a task that names no size.
pub const LOG_FILE_MB_DEFAULT: i64 = 10;
/// The node pool every cluster has for ordinary nodes.
pub const NODE_POOL_DEFAULT: &str = "default";
/// The node pool every node is in.
pub const NODE_POOL_ALL: &str = "all";
/// Stands for "the region of whoever receives the job".
pub const REGION_GLOBAL: &str = "global";

impl Job {
    /// The id; empty when unset.
    pub fn id(&self) -> JobId {
        self.id.clone().unwrap_or_default()
    }

    /// The namespace; `default` when unset.
    pub fn namespace(&self) -> NamespaceName {
        match &self.namespace {
            Some(name) if !name.is_empty() => name.clone(),
            _ => NamespaceName::default_namespace(),
        }
    }

    /// The same, without taking part in it.
    pub fn namespace_text(&self) -> &str {
        match &self.namespace {
            Some(name) if !name.is_empty() => name.as_str(),
            _ => NamespaceName::DEFAULT,
        }
    }

    /// What a job is known by: namespace and id.
    pub fn key(&self) -> (NamespaceName, JobId) {
        (self.namespace(), self.id())
    }

    /// The name; the id when unset.
    pub fn name(&self) -> &str {
        match (self.name.as_deref(), &self.id) {
            (Some(name), _) if !name.is_empty() => name,
            (_, Some(id)) => id.as_str(),
            _ => "",
        }
    }

    /// The type as written; `service` when unset.
    pub fn kind_text(&self) -> &str {
        self.kind.as_deref().unwrap_or(JobKind::Service.as_str())
    }

    /// Which of the four kinds it is; `None` when it names something else.
    pub fn kind(&self) -> Option<JobKind> {
        JobKind::parse(self.kind_text())
    }

    /// True for `service` and `batch`: count many allocations wherever they fit.
    pub fn is_counted(&self) -> bool {
        matches!(self.kind(), Some(JobKind::Service | JobKind::Batch))
    }

    /// True for `system` and `sysbatch`: one allocation on each fitting node.
    pub fn is_per_node(&self) -> bool {
        matches!(self.kind(), Some(JobKind::System | JobKind::SysBatch))
    }

    /// True for `batch` and `sysbatch`: tasks are meant to end.
    pub fn is_batch(&self) -> bool {
        matches!(self.kind(), Some(JobKind::Batch | JobKind::SysBatch))
    }

    pub fn priority(&self) -> i64 {
        match self.priority {
            None | Some(0) => PRIORITY_DEFAULT,
            Some(priority) => priority,
        }
    }

    /// True when somebody stopped it; its rows stay until purged or collected.
    pub fn is_stopped(&self) -> bool {
        self.stop.unwrap_or(false)
    }

    /// True for a job that is launched by the clock. Its children are ordinary jobs.
    pub fn is_periodic(&self) -> bool {
        self.periodic.is_some()
    }

    /// True for a periodic job whose clock runs: enabled, not stopped, not waiting for a dispatch.
    pub fn is_periodic_active(&self) -> bool {
        let enabled = self.periodic.as_ref().is_some_and(|periodic| periodic.enabled.unwrap_or(true));
        enabled && !self.is_stopped() && !self.is_parameterized()
    }

    /// True for a template that runs only when dispatched. What was dispatched from it is not one.
    pub fn is_parameterized(&self) -> bool {
        self.parameterized_job.is_some() && !self.dispatched
    }

    /// True when registering it starts nothing by itself: no evaluation is made for it.
    pub fn is_parent(&self) -> bool {
        self.is_periodic() || self.is_parameterized()
    }

    pub fn is_multiregion(&self) -> bool {
        self.multiregion.as_ref().is_some_and(|multiregion| !multiregion.regions.is_empty())
    }

    /// The group of that name.
    pub fn lookup_group(&self, name: &str) -> Option<&TaskGroup> {
        self.task_groups.iter().find(|group| group.name() == name)
    }

    /// Which version of the specification this is, from 0.
    pub fn version(&self) -> u64 {
        self.version.unwrap_or(0)
    }

    /// Tells a job from an earlier, purged one of the same id: the index at which it was created.
    pub fn incarnation(&self) -> Index {
        self.create_index.unwrap_or_default()
    }

    /// Index of the last change of the specification.
    pub fn job_modify_index(&self) -> Index {
        self.job_modify_index.unwrap_or_default()
    }

    pub fn is_stable(&self) -> bool {
        self.stable.unwrap_or(false)
    }

    pub fn node_pool(&self) -> &str {
        match self.node_pool.as_deref() {
            Some(pool) if !pool.is_empty() => pool,
            _ => NODE_POOL_DEFAULT,
        }
    }

    /// Allocations it wants over all groups, saturating; negative counts are none.
    pub fn total_count(&self) -> i64 {
        self.task_groups.iter().fold(0_i64, |sum, group| sum.saturating_add(group.count().max(0)))
    }
}

impl TaskGroup {
    /// The name; empty when unset.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("")
    }

    /// Allocations it wants; the lower bound of its scaling block, or 1, when unset.
    pub fn count(&self) -> i64 {
        self.count.or_else(|| self.scaling.as_ref().and_then(|scaling| scaling.min)).unwrap_or(1)
    }

    pub fn lookup_task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// MiB of disk an allocation of it keeps.
    pub fn disk_mb(&self) -> i64 {
        self.ephemeral_disk.as_ref().map_or(DISK_MB_DEFAULT, EphemeralDisk::size_mb)
    }

    /// The update block when it makes updates go in steps: one with `max_parallel` other than 0.
    pub fn rolling_update(&self) -> Option<&UpdateStrategy> {
        self.update.as_ref().filter(|update| update.max_parallel() != 0)
    }

    /// The reschedule block when it allows anything at all.
    pub fn rescheduling(&self) -> Option<&ReschedulePolicy> {
        self.reschedule_policy.as_ref().filter(|policy| policy.is_enabled())
    }
}

impl EphemeralDisk {
    pub fn size_mb(&self) -> i64 {
        self.size_mb.unwrap_or(DISK_MB_DEFAULT)
    }
}

impl UpdateStrategy {
    pub fn max_parallel(&self) -> i64 {
        self.max_parallel.unwrap_or(1)
    }

    pub fn canary(&self) -> i64 {
        self.canary.unwrap_or(0)
    }

    pub fn auto_revert(&self) -> bool {
        self.auto_revert.unwrap_or(false)
    }

    pub fn auto_promote(&self) -> bool {
        self.auto_promote.unwrap_or(false)
    }

    /// `checks`, `task_states` or `manual`.
    pub fn health_check(&self) -> &str {
        self.health_check.as_deref().unwrap_or("checks")
    }

    pub fn min_healthy_time(&self) -> Nanos {
        self.min_healthy_time.unwrap_or(Nanos::from_secs(10))
    }

    pub fn healthy_deadline(&self) -> Nanos {
        self.healthy_deadline.unwrap_or(Nanos::from_secs(300))
    }

    /// How long a deployment may go without a new healthy allocation; 0 fails it at the first failure.
    pub fn progress_deadline(&self) -> Nanos {
        self.progress_deadline.unwrap_or(Nanos::from_secs(600))
    }
}

impl ReschedulePolicy {
    /// True when a failed allocation may be replaced at all.
    pub fn is_enabled(&self) -> bool {
        self.is_unlimited() || self.attempts.unwrap_or(0) > 0
    }

    pub fn is_unlimited(&self) -> bool {
        self.unlimited.unwrap_or(false)
    }
}

impl RestartPolicy {
    pub fn attempts(&self) -> i64 {
        self.attempts.unwrap_or(0)
    }

    pub fn interval(&self) -> Nanos {
        self.interval.unwrap_or_default()
    }

    pub fn delay(&self) -> Nanos {
        self.delay.unwrap_or_default()
    }

    /// `fail` or `delay`: what happens when the attempts of an interval are used up.
    pub fn mode(&self) -> &str {
        self.mode.as_deref().unwrap_or("fail")
    }
}

/// When in an allocation's life a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskStage {
    /// Has no lifecycle block: starts after the prestart tasks; its end is the allocation's end.
    Main,
    Prestart,
    Poststart,
    Poststop,
}

impl Task {
    /// When it runs; a hook that validation would refuse counts as main.
    pub fn stage(&self) -> TaskStage {
        match self.lifecycle.as_ref().map(|lifecycle| lifecycle.hook.as_str()) {
            Some("prestart") => TaskStage::Prestart,
            Some("poststart") => TaskStage::Poststart,
            Some("poststop") => TaskStage::Poststop,
            _ => TaskStage::Main,
        }
    }

    /// True for a lifecycle task that runs beside the main tasks until they end.
    pub fn is_sidecar(&self) -> bool {
        self.lifecycle.as_ref().is_some_and(TaskLifecycle::is_sidecar)
    }

    pub fn kill_timeout(&self) -> Nanos {
        self.kill_timeout.unwrap_or(KILL_TIMEOUT_DEFAULT)
    }

    /// MHz it asks for; 0 when it asks for whole cores.
    pub fn cpu_mhz(&self) -> i64 {
        self.resources.as_ref().map_or(CPU_MHZ_DEFAULT, Resources::cpu_mhz)
    }

    pub fn memory_mb(&self) -> i64 {
        self.resources.as_ref().map_or(MEMORY_MB_DEFAULT, Resources::memory_mb)
    }

    /// MiB its logs take at most on disk, both streams counted once as the reference does.
    pub fn log_mb(&self) -> i64 {
        self.log_config.as_ref().map_or(LOG_FILES_DEFAULT * LOG_FILE_MB_DEFAULT, |logs| {
            logs.max_files().saturating_mul(logs.max_file_size_mb())
        })
    }
}

impl TaskLifecycle {
    pub fn is_sidecar(&self) -> bool {
        self.sidecar
    }
}

impl LogConfig {
    pub fn max_files(&self) -> i64 {
        self.max_files.unwrap_or(LOG_FILES_DEFAULT)
    }

    pub fn max_file_size_mb(&self) -> i64 {
        self.max_file_size_mb.unwrap_or(LOG_FILE_MB_DEFAULT)
    }

    pub fn is_disabled(&self) -> bool {
        self.disabled.unwrap_or(false)
    }
}

impl Resources {
    pub fn cores(&self) -> i64 {
        self.cores.unwrap_or(0)
    }

    /// MHz; 0 when cores are asked for and MHz are not.
    pub fn cpu_mhz(&self) -> i64 {
        self.cpu.unwrap_or(if self.cores() > 0 { 0 } else { CPU_MHZ_DEFAULT })
    }

    pub fn memory_mb(&self) -> i64 {
        self.memory_mb.unwrap_or(MEMORY_MB_DEFAULT)
    }

    /// Memory limit above the reservation; 0 is none, -1 unlimited.
    pub fn memory_max_mb(&self) -> i64 {
        self.memory_max_mb.unwrap_or(0)
    }

    pub fn secrets_mb(&self) -> i64 {
        self.secrets_mb.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unset_field_answers_with_its_default() {
        let mut job = Job { id: Some("web".into()), ..Job::default() };
        assert_eq!(job.key(), ("default".into(), "web".into()));
        assert_eq!((job.name(), job.kind(), job.priority()), ("web", Some(JobKind::Service), 50));
        assert!(!job.is_stopped() && !job.is_periodic() && job.node_pool() == "default");
        job.kind = Some("odd".into());
        assert_eq!(job.kind(), None);
        let group = TaskGroup::default();
        assert_eq!((group.count(), group.disk_mb()), (1, 300));
        let task = Task::default();
        assert_eq!((task.cpu_mhz(), task.memory_mb(), task.kill_timeout().0), (100, 300, 5_000_000_000));
        let cores = Resources { cores: Some(2), ..Resources::default() };
        assert_eq!(cores.cpu_mhz(), 0);
    }

    #[test]
    fn a_dispatched_child_is_not_parameterized() {
        let mut job = Job { parameterized_job: Some(crate::job::ParameterizedJobConfig::default()), ..Job::default() };
        assert!(job.is_parameterized() && job.is_parent());
        job.dispatched = true;
        assert!(!job.is_parameterized() && !job.is_parent());
    }
}
