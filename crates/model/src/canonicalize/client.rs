//! The first step: what a client's library fills in, group by group.

use super::{default, default_text, service, task};
use crate::access::{DISK_MB_DEFAULT, PRIORITY_DEFAULT, REGION_GLOBAL};
use crate::group::{
    DisconnectStrategy, EphemeralDisk, MigrateStrategy, ReschedulePolicy, RestartPolicy, ScalingPolicy, TaskGroup,
};
use crate::ids::{Index, NamespaceName};
use crate::job::{Affinity, Job, Multiregion, PeriodicConfig, Spread, UpdateStrategy};
use crate::status::JobKind;
use crate::time::Nanos;

/// Weight of an affinity or spread that names none.
const WEIGHT_DEFAULT: i64 = 50;

pub(super) fn job(job: &mut Job) {
    identify(job);
    let kind = job.kind();
    let job_update = take_update(job.update.take(), kind);
    job.update.clone_from(&job_update);
    if let Some(periodic) = &mut job.periodic {
        fill_periodic(periodic);
    }
    if let Some(multiregion) = &mut job.multiregion {
        fill_multiregion(multiregion);
    }
    affinities(&mut job.affinities);
    spreads(&mut job.spreads);
    let context = Context {
        job: job.name().to_owned(),
        kind,
        update: job_update,
        reschedule: job.reschedule.clone(),
        migrate: job.migrate.clone(),
    };
    for group in &mut job.task_groups {
        context.group(group);
    }
}

/// Who and what the job is, and the zero values of its bookkeeping.
fn identify(job: &mut Job) {
    default(&mut job.id, crate::ids::JobId::default());
    if job.name.is_none() {
        job.name = job.id.as_ref().map(|id| id.as_str().to_owned());
    }
    default_text(&mut job.parent_id, "");
    default(&mut job.namespace, NamespaceName::default_namespace());
    default(&mut job.priority, PRIORITY_DEFAULT);
    default(&mut job.stop, false);
    default_text(&mut job.region, REGION_GLOBAL);
    default_text(&mut job.node_pool, "");
    default_text(&mut job.kind, JobKind::Service.as_str());
    default(&mut job.all_at_once, false);
    default_text(&mut job.consul_namespace, "");
    default_text(&mut job.vault_namespace, "");
    default_text(&mut job.nomad_token_id, "");
    default_text(&mut job.status, "");
    default_text(&mut job.status_description, "");
    default(&mut job.stable, false);
    default(&mut job.version, 0);
    default(&mut job.create_index, Index::default());
    default(&mut job.modify_index, Index::default());
    default(&mut job.job_modify_index, Index::default());
}

/// The job-level update block in effect. A stored job carries one whose pushed-down fields are zero;
/// read as "unset", so that a group added to such a job gets defaults and not zeros.
fn take_update(update: Option<UpdateStrategy>, kind: Option<JobKind>) -> Option<UpdateStrategy> {
    let mut update = update.unwrap_or_default();
    if update.health_check.as_deref() == Some("") {
        update.health_check = None;
        for zero in [&mut update.min_healthy_time, &mut update.healthy_deadline, &mut update.progress_deadline] {
            *zero = zero.filter(|span| span.0 != 0);
        }
        update.stagger = update.stagger.filter(|span| span.0 != 0);
        update.canary = update.canary.filter(|canary| *canary != 0);
        update.auto_revert = update.auto_revert.filter(|on| *on);
        update.auto_promote = update.auto_promote.filter(|on| *on);
        if update == (UpdateStrategy { max_parallel: Some(0), ..UpdateStrategy::default() }) {
            update.max_parallel = None;
        }
    }
    let wanted = matches!(kind, Some(JobKind::Service | JobKind::System));
    if !wanted && update == UpdateStrategy::default() {
        return None;
    }
    fill_update(&mut update);
    Some(update)
}

fn fill_update(update: &mut UpdateStrategy) {
    default(&mut update.stagger, Nanos::from_secs(30));
    default(&mut update.max_parallel, 1);
    default_text(&mut update.health_check, "checks");
    default(&mut update.min_healthy_time, Nanos::from_secs(10));
    default(&mut update.healthy_deadline, Nanos::from_secs(300));
    default(&mut update.progress_deadline, Nanos::from_secs(600));
    default(&mut update.canary, 0);
    default(&mut update.auto_revert, false);
    default(&mut update.auto_promote, false);
}

fn fill_periodic(periodic: &mut PeriodicConfig) {
    default(&mut periodic.enabled, true);
    default_text(&mut periodic.spec, "");
    default_text(&mut periodic.spec_type, "cron");
    default(&mut periodic.prohibit_overlap, false);
    if periodic.time_zone.as_deref().is_none_or(str::is_empty) {
        periodic.time_zone = Some("UTC".to_owned());
    }
}

fn fill_multiregion(multiregion: &mut Multiregion) {
    let strategy = multiregion.strategy.get_or_insert_default();
    default(&mut strategy.max_parallel, 0);
    default_text(&mut strategy.on_failure, "");
    for region in &mut multiregion.regions {
        default(&mut region.count, 1);
    }
}

pub(super) fn affinities(affinities: &mut [Affinity]) {
    affinities.iter_mut().for_each(|affinity| default(&mut affinity.weight, WEIGHT_DEFAULT));
}

fn spreads(spreads: &mut [Spread]) {
    spreads.iter_mut().for_each(|spread| default(&mut spread.weight, WEIGHT_DEFAULT));
}

/// What groups inherit from their job.
struct Context {
    job: String,
    kind: Option<JobKind>,
    update: Option<UpdateStrategy>,
    reschedule: Option<ReschedulePolicy>,
    migrate: Option<MigrateStrategy>,
}

impl Context {
    fn group(&self, group: &mut TaskGroup) {
        default_text(&mut group.name, "");
        let count = group.count();
        default(&mut group.count, count);
        affinities(&mut group.affinities);
        spreads(&mut group.spreads);
        fill_disk(group.ephemeral_disk.get_or_insert_default());
        self.reschedule(group);
        self.migrate(group);
        let restart = group.restart_policy.get_or_insert_default();
        merge_restart(restart, &restart_default(self.kind));
        self.update(group);
        if let Some(scaling) = &mut group.scaling {
            fill_scaling(scaling, count);
        }
        if let Some(disconnect) = &mut group.disconnect {
            fill_disconnect(disconnect);
        }
        if let Some(consul) = &mut group.consul {
            super::default_empty(&mut consul.cluster, "default");
        }
        let place = service::Place { job: &self.job, group: group.name.as_deref().unwrap_or(""), task: None };
        group.services.iter_mut().for_each(|service| service::client(service, &place));
        for task in &mut group.tasks {
            task::client(task, &place, group.restart_policy.as_ref());
        }
    }

    /// Group over job; a group without either has none, unless the job's type brings one.
    fn update(&self, group: &mut TaskGroup) {
        match (&mut group.update, &self.update) {
            (Some(own), Some(inherited)) => {
                merge_update(own, inherited);
                fill_update(own);
            }
            (Some(own), None) => fill_update(own),
            (none, inherited) => none.clone_from(inherited),
        }
    }

    /// Group over job over the type's default; system and sysbatch have none unless they say so.
    fn reschedule(&self, group: &mut TaskGroup) {
        let type_default = reschedule_default(self.kind);
        if type_default.is_none() && group.reschedule_policy.is_none() && self.reschedule.is_none() {
            return;
        }
        let own = group.reschedule_policy.get_or_insert_default();
        for inherited in [&self.reschedule, &type_default, &Some(reschedule_zero())].into_iter().flatten() {
            own.attempts = own.attempts.or(inherited.attempts);
            own.interval = own.interval.or(inherited.interval);
            own.delay = own.delay.or(inherited.delay);
            own.max_delay = own.max_delay.or(inherited.max_delay);
            own.unlimited = own.unlimited.or(inherited.unlimited);
            if own.delay_function.is_none() {
                own.delay_function.clone_from(&inherited.delay_function);
            }
        }
    }

    /// Group over job over the default; only service jobs have one unless they say so.
    fn migrate(&self, group: &mut TaskGroup) {
        if self.kind != Some(JobKind::Service) && group.migrate.is_none() && self.migrate.is_none() {
            return;
        }
        let own = group.migrate.get_or_insert_default();
        for inherited in [self.migrate.as_ref(), Some(&migrate_default())].into_iter().flatten() {
            own.max_parallel = own.max_parallel.or(inherited.max_parallel);
            own.min_healthy_time = own.min_healthy_time.or(inherited.min_healthy_time);
            own.healthy_deadline = own.healthy_deadline.or(inherited.healthy_deadline);
            if own.health_check.is_none() {
                own.health_check.clone_from(&inherited.health_check);
            }
        }
    }
}

fn merge_update(own: &mut UpdateStrategy, inherited: &UpdateStrategy) {
    own.stagger = own.stagger.or(inherited.stagger);
    own.max_parallel = own.max_parallel.or(inherited.max_parallel);
    own.min_healthy_time = own.min_healthy_time.or(inherited.min_healthy_time);
    own.healthy_deadline = own.healthy_deadline.or(inherited.healthy_deadline);
    own.progress_deadline = own.progress_deadline.or(inherited.progress_deadline);
    own.canary = own.canary.or(inherited.canary);
    own.auto_revert = own.auto_revert.or(inherited.auto_revert);
    own.auto_promote = own.auto_promote.or(inherited.auto_promote);
    if own.health_check.is_none() {
        own.health_check.clone_from(&inherited.health_check);
    }
}

pub(super) fn merge_restart(own: &mut RestartPolicy, inherited: &RestartPolicy) {
    own.interval = own.interval.or(inherited.interval);
    own.attempts = own.attempts.or(inherited.attempts);
    own.delay = own.delay.or(inherited.delay);
    own.render_templates = own.render_templates.or(inherited.render_templates);
    if own.mode.is_none() {
        own.mode.clone_from(&inherited.mode);
    }
}

fn restart_default(kind: Option<JobKind>) -> RestartPolicy {
    let batch = matches!(kind, Some(JobKind::Batch | JobKind::SysBatch));
    RestartPolicy {
        interval: Some(Nanos::from_secs(if batch { 24 * 3600 } else { 30 * 60 })),
        attempts: Some(if batch { 3 } else { 2 }),
        delay: Some(Nanos::from_secs(15)),
        mode: Some("fail".to_owned()),
        render_templates: Some(false),
    }
}

fn reschedule_zero() -> ReschedulePolicy {
    ReschedulePolicy {
        attempts: Some(0),
        interval: Some(Nanos(0)),
        delay: Some(Nanos(0)),
        delay_function: Some(String::new()),
        max_delay: Some(Nanos(0)),
        unlimited: Some(false),
    }
}

fn reschedule_default(kind: Option<JobKind>) -> Option<ReschedulePolicy> {
    match kind {
        Some(JobKind::Service) => Some(ReschedulePolicy {
            delay: Some(Nanos::from_secs(30)),
            delay_function: Some("exponential".to_owned()),
            max_delay: Some(Nanos::from_secs(3600)),
            unlimited: Some(true),
            ..reschedule_zero()
        }),
        Some(JobKind::Batch) => Some(ReschedulePolicy {
            attempts: Some(1),
            interval: Some(Nanos::from_secs(24 * 3600)),
            delay: Some(Nanos::from_secs(5)),
            delay_function: Some("constant".to_owned()),
            ..reschedule_zero()
        }),
        Some(JobKind::System | JobKind::SysBatch) => None,
        None => Some(reschedule_zero()),
    }
}

fn migrate_default() -> MigrateStrategy {
    MigrateStrategy {
        max_parallel: Some(1),
        health_check: Some("checks".to_owned()),
        min_healthy_time: Some(Nanos::from_secs(10)),
        healthy_deadline: Some(Nanos::from_secs(300)),
    }
}

fn fill_disk(disk: &mut EphemeralDisk) {
    default(&mut disk.sticky, false);
    default(&mut disk.migrate, false);
    default(&mut disk.size_mb, DISK_MB_DEFAULT);
}

fn fill_disconnect(disconnect: &mut DisconnectStrategy) {
    default(&mut disconnect.replace, true);
    default_text(&mut disconnect.reconcile, "best_score");
}

fn fill_scaling(scaling: &mut ScalingPolicy, count: i64) {
    default(&mut scaling.enabled, true);
    default(&mut scaling.min, count);
    super::default_empty(&mut scaling.kind, "horizontal");
}
