//! What is to be run: the part of a job and its allocation that the life cycle depends on.

use model::cron::CronError;
use model::hash::fnv1a;
use model::hours::Hours;
use model::{Allocation, DesiredStatus, Job, JobKind, Nanos, Timestamp};

use crate::restart::Rules;

/// When in its group's life a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Prestart,
    PrestartSidecar,
    Main,
    Poststart,
    PoststartSidecar,
    Poststop,
}

impl Class {
    pub fn of(lifecycle: Option<&model::task::TaskLifecycle>) -> Self {
        match lifecycle.map(|l| (l.hook.as_str(), l.sidecar)) {
            Some(("prestart", false)) => Self::Prestart,
            Some(("prestart", true)) => Self::PrestartSidecar,
            Some(("poststart", false)) => Self::Poststart,
            Some(("poststart", true)) => Self::PoststartSidecar,
            Some(("poststop", _)) => Self::Poststop,
            _ => Self::Main,
        }
    }

    pub fn is_sidecar(self) -> bool {
        matches!(self, Self::PrestartSidecar | Self::PoststartSidecar)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    pub name: String,
    pub class: Class,
    pub leader: bool,
    pub rules: Rules,
    /// Already cut to the node's maximum.
    pub kill_timeout: Nanos,
    /// Empty: the driver's default.
    pub kill_signal: String,
    pub shutdown_delay: Nanos,
    /// When it is to run; `None`: always.
    pub hours: Option<Hours>,
}

/// How an allocation proves that it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSpec {
    pub min_healthy_time: Nanos,
    pub healthy_deadline: Nanos,
    /// Whether tasks are told why the deadline was missed: in deployments, not in migrations.
    pub explain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AllocSpec {
    pub alloc_id: model::AllocId,
    pub kind: JobKind,
    pub tasks: Vec<TaskSpec>,
    pub desired: DesiredStatus,
    pub no_shutdown_delay: bool,
    pub shutdown_delay: Nanos,
    /// When the allocation has run long enough: batch kinds only.
    pub run_until: Option<Timestamp>,
    pub deployment_id: model::DeploymentId,
    pub canary: bool,
    /// The verdict the cluster already has.
    pub recorded_health: Option<bool>,
    /// `None`: nobody watches this allocation's health.
    pub health: Option<HealthSpec>,
    /// Chooses the jitter of restarts.
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("task group {0:?} is not part of the job")]
    NoGroup(String),
    #[error("schedule of task {task:?} cannot be read: {source}")]
    Hours { task: String, source: CronError },
}

/// What a node adds.
#[derive(Clone, Copy, Debug)]
pub struct OfNode<'a> {
    pub kill_timeout_max: Nanos,
    /// The name of its time zone.
    pub zone: &'a str,
}

impl AllocSpec {
    /// # Errors
    /// The job has no such group, or hours of a task cannot be read.
    pub fn new(alloc: &Allocation, job: &Job, node: OfNode<'_>) -> Result<Self, SpecError> {
        let kind = job.kind().unwrap_or_default();
        let group = job.lookup_group(&alloc.task_group).ok_or_else(|| SpecError::NoGroup(alloc.task_group.clone()))?;
        let tasks = group.tasks.iter().map(|task| {
            let class = Class::of(task.lifecycle.as_ref());
            Ok(TaskSpec {
                name: task.name.clone(),
                class,
                leader: task.leader,
                rules: Rules::new(kind, class, group.restart_policy.as_ref(), task.restart_policy.as_ref()),
                kill_timeout: task.kill_timeout.unwrap_or(Nanos::from_secs(5)).clamp(Nanos(0), node.kill_timeout_max),
                kill_signal: task.kill_signal.clone(),
                shutdown_delay: task.shutdown_delay.max(Nanos(0)),
                hours: hours_of(task, node.zone)?,
            })
        });
        let tasks = tasks.collect::<Result<_, _>>()?;
        let batch = matches!(kind, JobKind::Batch | JobKind::SysBatch);
        let run_for = group.max_run_duration.filter(|span| batch && span.0 > 0);
        Ok(Self {
            alloc_id: alloc.id.clone(),
            kind,
            tasks,
            desired: alloc.desired_status,
            no_shutdown_delay: alloc.desired_transition.should_skip_shutdown_delay(),
            shutdown_delay: group.shutdown_delay.unwrap_or_default().max(Nanos(0)),
            run_until: run_for.map(|span| Timestamp(alloc.create_time).plus(span)),
            deployment_id: alloc.deployment_id.clone(),
            canary: alloc.is_canary(),
            recorded_health: alloc.is_healthy(),
            health: health_of(kind, alloc, group),
            seed: fnv1a(alloc.id.as_str().as_bytes()),
        })
    }

    pub fn wants_stop(&self) -> bool {
        self.desired != DesiredStatus::Run
    }
}

fn hours_of(task: &model::Task, zone: &str) -> Result<Option<Hours>, SpecError> {
    let cron = task.schedule.as_ref().and_then(|schedule| schedule.cron.as_ref());
    let read = cron.map(|cron| Hours::new(cron, zone)).transpose();
    read.map_err(|source| SpecError::Hours { task: task.name.clone(), source })
}

fn health_of(kind: JobKind, alloc: &Allocation, group: &model::TaskGroup) -> Option<HealthSpec> {
    if !matches!(kind, JobKind::Service | JobKind::System) {
        return None;
    }
    let (min, deadline) = (Nanos::from_secs(10), Nanos::from_secs(300));
    if alloc.deployment_id.is_empty() {
        let migrate = group.migrate.as_ref();
        return Some(HealthSpec {
            min_healthy_time: migrate.and_then(|m| m.min_healthy_time).unwrap_or(min),
            healthy_deadline: migrate.and_then(|m| m.healthy_deadline).unwrap_or(deadline),
            explain: false,
        });
    }
    let update = group.update.as_ref()?;
    if update.health_check.as_deref() == Some("manual") {
        return None;
    }
    Some(HealthSpec {
        min_healthy_time: update.min_healthy_time.unwrap_or(min),
        healthy_deadline: update.healthy_deadline.unwrap_or(deadline),
        explain: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::group::MigrateStrategy;
    use model::job::UpdateStrategy;
    use model::{Task, TaskGroup};

    const NODE: OfNode<'_> = OfNode { kill_timeout_max: Nanos(30_000_000_000), zone: "UTC" };

    fn alloc_and_job(kind: &str) -> (Allocation, Job) {
        let task = Task { name: "t".into(), kill_timeout: Some(Nanos::from_secs(90)), ..Task::default() };
        let group = TaskGroup {
            name: Some("g".into()),
            tasks: vec![task],
            max_run_duration: Some(Nanos::from_secs(60)),
            ..TaskGroup::default()
        };
        let job = Job { kind: Some(kind.into()), task_groups: vec![group], ..Job::default() };
        let alloc = Allocation { task_group: "g".into(), create_time: 1_000, ..Allocation::default() };
        (alloc, job)
    }

    #[test]
    fn the_kill_timeout_is_cut_to_the_nodes_maximum_task_run_12() {
        let (alloc, job) = alloc_and_job("service");
        let spec = AllocSpec::new(&alloc, &job, NODE).unwrap();
        assert_eq!(spec.tasks[0].kill_timeout, NODE.kill_timeout_max);
    }

    #[test]
    fn only_batch_kinds_have_a_maximum_run_duration_alloc_status_10() {
        let (alloc, job) = alloc_and_job("service");
        assert_eq!(AllocSpec::new(&alloc, &job, NODE).unwrap().run_until, None);
        let (alloc, job) = alloc_and_job("batch");
        let until = AllocSpec::new(&alloc, &job, NODE).unwrap().run_until;
        assert_eq!(until, Some(Timestamp(60_000_001_000)));
    }

    #[test]
    fn health_follows_the_update_block_in_a_deployment_and_migrate_otherwise_health_11_health_12_health_13() {
        let spec = |kind: &str, deployment: &str, update: Option<UpdateStrategy>| {
            let (mut alloc, mut job) = alloc_and_job(kind);
            alloc.deployment_id = deployment.into();
            job.task_groups[0].update = update;
            let migrate = MigrateStrategy { min_healthy_time: Some(Nanos(7)), ..MigrateStrategy::default() };
            job.task_groups[0].migrate = Some(migrate);
            AllocSpec::new(&alloc, &job, NODE).unwrap().health
        };
        let update = UpdateStrategy { min_healthy_time: Some(Nanos(3)), ..UpdateStrategy::default() };
        assert_eq!(spec("batch", "", None), None);
        assert_eq!(spec("service", "", None).unwrap().min_healthy_time, Nanos(7));
        assert!(!spec("service", "", None).unwrap().explain);
        assert_eq!(spec("system", "d", Some(update.clone())).unwrap().min_healthy_time, Nanos(3));
        assert_eq!(spec("service", "d", None), None);
        let manual = UpdateStrategy { health_check: Some("manual".into()), ..update };
        assert_eq!(spec("service", "d", Some(manual)), None);
    }
}
