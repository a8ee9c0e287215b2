//! Allocations.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use api::public::AllocStopResponse;
use axum::extract::{Path, State};
use fsm::{Command, State as Rows, Table};
use model::alloc::{AllocStub, AllocatedResources, AllocatedTaskResources, DesiredTransition};
use model::resources::Resources;
use model::{AllocId, Allocation};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ListParams, ReadParams};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::body::Write;
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, check_uuid, check_uuid_prefix, page};
use crate::options::Options;
use crate::read::{fresh, read};
use crate::write::{Trigger, evaluation, propose};

/// Fields that [`public`] shows otherwise than the row has them: signed identities are secrets, the job is beside the row,
/// the older forms of resources are made for the answer. A filter sees them as they are shown, and the others in the row.
const SHOWN_OTHERWISE: [&str; 6] =
    ["Job", "JobIncarnation", "Resources", "SharedResources", "SignedIdentities", "TaskResources"];

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Allocation>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(info)).routes(routes!(stop))
}

/// What a list shows of each allocation.
#[derive(Clone, Copy, Debug)]
pub struct AllocStubs {
    pub resources: bool,
    pub task_states: bool,
}

impl Default for AllocStubs {
    fn default() -> Self {
        Self { resources: false, task_states: true }
    }
}

/// An allocation's line in a list.
pub fn stub(state: &Rows, alloc: &Allocation, show: AllocStubs) -> AllocStub {
    let job = state.job_of_alloc(alloc).or_else(|| state.job(&alloc.namespace, &alloc.job_id));
    AllocStub {
        id: alloc.id.clone(),
        eval_id: alloc.eval_id.clone(),
        name: alloc.name.clone(),
        namespace: alloc.namespace.clone(),
        node_id: alloc.node_id.clone(),
        node_name: alloc.node_name.clone(),
        job_id: alloc.job_id.clone(),
        job_type: job.map(|job| job.kind_text().to_owned()).unwrap_or_default(),
        job_version: alloc.job_version().unwrap_or(0),
        task_group: alloc.task_group.clone(),
        allocated_resources: alloc.allocated_resources.clone().filter(|_| show.resources),
        desired_status: alloc.desired_status,
        desired_description: alloc.desired_description.clone(),
        client_status: alloc.client_status,
        client_description: alloc.client_description.clone(),
        desired_transition: alloc.desired_transition.clone(),
        task_states: if show.task_states { alloc.task_states.clone() } else { model::SmallMap::new() },
        deployment_status: alloc.deployment_status.clone(),
        followup_eval_id: alloc.followup_eval_id.clone(),
        next_allocation: alloc.next_allocation.clone(),
        reschedule_tracker: alloc.reschedule_tracker.clone(),
        preempted_allocations: alloc.preempted_allocations.clone(),
        preempted_by_allocation: alloc.preempted_by_allocation.clone(),
        create_index: alloc.create_index,
        modify_index: alloc.modify_index,
        create_time: alloc.create_time,
        modify_time: alloc.modify_time,
    }
}

/// An allocation as it is shown: with its job, and with what it holds in the older form, too.
pub fn public(state: &Rows, alloc: &Allocation) -> Allocation {
    expanded(with_job(state, alloc))
}

/// With what it holds in the older form, too.
pub fn expanded(mut shown: Allocation) -> Allocation {
    if let Some(held) = &shown.allocated_resources {
        shown.resources = Some(Box::new(total(held)));
        shown.task_resources = held.tasks.iter().map(|(name, task)| (name.clone(), of_task(task))).collect();
        let networks = held.shared.networks.clone();
        let shared = Resources { disk_mb: Some(held.shared.disk_mb), networks, ..nothing() };
        shown.shared_resources = Some(Box::new(shared));
    }
    shown
}

fn nothing() -> Resources {
    let none = Some(0);
    Resources {
        cpu: none,
        cores: none,
        memory_mb: none,
        memory_max_mb: none,
        disk_mb: none,
        secrets_mb: none,
        iops: none,
        ..Resources::default()
    }
}

fn of_task(task: &AllocatedTaskResources) -> Resources {
    Resources {
        cpu: Some(task.cpu.cpu_shares),
        cores: i64::try_from(task.cpu.reserved_cores.len()).ok(),
        memory_mb: Some(task.memory.memory_mb),
        memory_max_mb: Some(task.memory.memory_max_mb),
        networks: task.networks.clone(),
        ..nothing()
    }
}

fn total(held: &AllocatedResources) -> Resources {
    let sum = |of: fn(&AllocatedTaskResources) -> i64| Some(held.tasks.values().map(of).fold(0, i64::saturating_add));
    Resources {
        cpu: sum(|task| task.cpu.cpu_shares),
        cores: sum(|task| i64::try_from(task.cpu.reserved_cores.len()).unwrap_or(0)),
        memory_mb: sum(|task| task.memory.memory_mb),
        memory_max_mb: sum(|task| task.memory.memory_max_mb.max(task.memory.memory_mb)),
        disk_mb: Some(held.shared.disk_mb),
        ..nothing()
    }
}

/// An allocation as a node gets it: with its job instead of the reference to it.
pub fn with_job(state: &Rows, alloc: &Allocation) -> Allocation {
    let job = alloc.job.clone().or_else(|| state.job_of_alloc(alloc).cloned());
    Allocation { job, job_version: None, job_incarnation: None, signed_identities: Default::default(), ..alloc.clone() }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct StubParams {
    /// Show what each holds.
    resources: Option<bool>,
    /// Show the states of tasks; true unless given.
    task_states: Option<bool>,
}

/// List allocations
#[utoipa::path(get, path = "/v1/allocations", operation_id = "listAllocations", tag = "allocations",
    params(ReadParams, ListParams, StubParams),
    responses(
        (status = 200, description = "The allocations", body = Vec<AllocStub>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let show = AllocStubs {
        resources: options.params.flag("resources")?.unwrap_or(false),
        task_states: options.params.flag("task_states")?.unwrap_or(true),
    };
    let prefix = options.prefix();
    check_uuid_prefix("alloc", prefix)?;
    let (view, mut meta) = read(&app, &options, Key::Table(Table::Allocs), |v| v.tables(&[Table::Allocs])).await?;
    let form = if prefix.is_empty() { TokenForm::IndexId } else { TokenForm::Id };
    let wanted = |alloc: &&Allocation| options.shows(&alloc.namespace) && alloc.id.as_str().starts_with(prefix);
    let allocs = view.state.allocs().map(AsRef::as_ref).filter(wanted);
    let rows = allocs.map(|alloc| (Place::by(form, alloc.create_index, alloc.id.as_str()), alloc));
    let holds = |filter: &Filter, alloc: &&Allocation| {
        if SHOWN_OTHERWISE.iter().any(|field| filter.asks(field)) {
            filter.matches(&SCHEMA, &Allocation { job_version: alloc.job_version, ..public(&view.state, alloc) })
        } else {
            filter.matches(&SCHEMA, alloc)
        }
    };
    let allocs = page(rows, form, &options, holds, &mut meta)?;
    let stubs: Vec<AllocStub> = allocs.into_iter().map(|alloc| stub(&view.state, alloc, show)).collect();
    options.style.read(&stubs, &meta)
}

/// Read an allocation
#[utoipa::path(get, path = "/v1/allocation/{alloc_id}", operation_id = "readAllocation", tag = "allocations",
    params(("alloc_id" = String, Path, description = "Full id"), ReadParams),
    responses(
        (status = 200, description = "The allocation, with its job", body = Allocation),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain"),
        (status = 404, description = "alloc not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("alloc", &id)?;
    let id = AllocId::from(id);
    let look = |v: &View| v.row(v.state.alloc(&id).map(|alloc| alloc.modify_index), Table::Allocs);
    let (view, meta) = read(&app, &options, Key::Alloc(id.clone()), look).await?;
    let alloc = view.state.alloc(&id).ok_or_else(|| ApiError::not_found("alloc not found").at(meta.clone()))?;
    options.style.read(&public(&view.state, alloc), &meta)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct StopParams {
    /// Tasks end without waiting for their shutdown delay.
    no_shutdown_delay: Option<bool>,
    /// Count it as a reschedule, by the group's policy.
    reschedule: Option<bool>,
}

/// Stop an allocation
///
/// Its job gets a new one in its place, where it wants one.
#[utoipa::path(post, path = "/v1/allocation/{alloc_id}/stop", operation_id = "stopAllocation", tag = "allocations",
    params(("alloc_id" = String, Path, description = "Full id"), StopParams, super::WriteParams),
    responses(
        (status = 200, description = "It will be stopped", body = AllocStopResponse),
        (status = 404, description = "allocation not found", body = String, content_type = "text/plain")))]
async fn stop(State(app): State<App>, Path(id): Path<String>, options: Options, mut write: Write) -> Answered {
    let wish = DesiredTransition {
        migrate: Some(true),
        no_shutdown_delay: Some(options.params.flag("no_shutdown_delay")?.unwrap_or(false)),
        reschedule: Some(options.params.flag("reschedule")?.unwrap_or(false)),
        ..DesiredTransition::default()
    };
    check_uuid("alloc", &id)?;
    let view = fresh(&app, false).await?;
    let missing = || ApiError::not_found("allocation not found");
    let alloc = view.state.alloc(&AllocId::from(id)).ok_or_else(missing)?;
    let job = view.state.job(&alloc.namespace, &alloc.job_id).or_else(|| view.state.job_of_alloc(alloc));
    let eval = evaluation(&mut write, job.ok_or_else(missing)?, Trigger::AllocStop, None);
    let eval_id = eval.id.to_string();
    let transitions = BTreeMap::from([(alloc.id.clone(), wish)]);
    let command = Command::AllocDesiredTransition { transitions, evals: vec![eval] };
    let (index, _) = propose(&app, &write, command).await?;
    options.style.write(&AllocStopResponse { eval_id, index }, index)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    #[test]
    fn filters_know_what_is_shown_otherwise_than_it_is_kept() {
        let held = AllocatedResources { tasks: [("t".to_owned(), Default::default())].into(), ..Default::default() };
        let alloc = Allocation {
            id: "a".into(),
            job_version: Some(3),
            job_incarnation: Some(model::Index(7)),
            signed_identities: [("t".to_owned(), "secret".to_owned())].into_iter().collect(),
            allocated_resources: Some(Arc::new(held)),
            ..Allocation::default()
        };
        let kept = Allocation { job: Some(Arc::new(model::Job::default())), ..alloc.clone() };
        let fields = |alloc: &Allocation| {
            let Ok(Value::Object(fields)) = serde_json::to_value(alloc) else { panic!("a row is an object") };
            fields
        };
        let (kept, shown) = (fields(&alloc), fields(&public(&Rows::default(), &kept)));
        let names: BTreeSet<&String> = kept.keys().chain(shown.keys()).collect();
        let differ: Vec<&str> =
            names.into_iter().filter(|name| kept.get(*name) != shown.get(*name)).map(String::as_str).collect();
        // Filters know the version of the job, which a list shows.
        assert_eq!(differ.into_iter().filter(|name| *name != "JobVersion").collect::<Vec<_>>(), SHOWN_OTHERWISE);
    }
}
