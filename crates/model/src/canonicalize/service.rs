//! Services and their checks: both steps.

use super::{connect, default, default_empty};
use crate::service::{CheckRestart, Service, ServiceCheck};
use crate::time::Nanos;

/// Where in a job a service is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub job: &'a str,
    pub group: &'a str,
    pub task: Option<&'a str>,
}

impl Place<'_> {
    /// `<job>-<group>` or `<job>-<group>-<task>`.
    fn base(&self) -> String {
        match self.task {
            Some(task) => format!("{}-{}-{task}", self.job, self.group),
            None => format!("{}-{}", self.job, self.group),
        }
    }
}

/// The first step.
pub(super) fn client(service: &mut Service, place: &Place<'_>) {
    if service.name.is_empty() {
        service.name = place.base();
    }
    default_empty(&mut service.address_mode, "auto");
    default_empty(&mut service.on_update, "require_healthy");
    default_empty(&mut service.provider, "consul");
    default_empty(&mut service.cluster, "default");
    service.check_restart.iter_mut().for_each(fill_check_restart);
    if let Some(weights) = &mut service.weights {
        for weight in [&mut weights.passing, &mut weights.warning] {
            *weight = if *weight <= 0 { 1 } else { *weight };
        }
    }
    service.connect.iter_mut().for_each(connect::client);
    for check in &mut service.checks {
        default_empty(&mut check.on_update, &service.on_update);
        fill_check(check, service.check_restart.as_ref());
    }
}

fn fill_check(check: &mut ServiceCheck, inherited: Option<&CheckRestart>) {
    for number in
        [&mut check.success_before_passing, &mut check.failures_before_critical, &mut check.failures_before_warning]
    {
        *number = (*number).max(0);
    }
    match (&mut check.check_restart, inherited) {
        (Some(own), Some(inherited)) => {
            own.limit = if own.limit == 0 { inherited.limit } else { own.limit };
            own.grace = own.grace.or(inherited.grace);
            own.ignore_warnings |= inherited.ignore_warnings;
        }
        (none @ None, Some(inherited)) => *none = Some(inherited.clone()),
        (_, None) => {}
    }
    check.check_restart.iter_mut().for_each(fill_check_restart);
}

fn fill_check_restart(restart: &mut CheckRestart) {
    default(&mut restart.grace, Nanos::from_secs(1));
}

/// The second step.
pub(super) fn server(service: &mut Service, place: &Place<'_>, namespace: &str) {
    let name = interpolate(&service.name, place);
    service.name = name;
    if let Some(task) = place.task {
        default_empty(&mut service.task_name, task);
    }
    let namespace = if service.provider == "nomad" { namespace } else { "default" };
    default_empty(&mut service.namespace, namespace);
    service.check_restart = None;
    service.connect.iter_mut().for_each(connect::server);
    for check in &mut service.checks {
        check.advertise.clear();
        if check.name.is_empty() {
            check.name = format!("service: {:?} check", service.name);
        }
    }
}

/// The names of the place that a service's name may hold.
fn interpolate(name: &str, place: &Place<'_>) -> String {
    if !name.contains("${") {
        return name.to_owned();
    }
    name.replace("${JOB}", place.job)
        .replace("${TASKGROUP}", place.group)
        .replace("${TASK}", place.task.unwrap_or(""))
        .replace("${BASE}", &place.base())
}
