//! From a posted body to a job that may be registered: where it belongs, its defaults, what is wrong with
//! it.

use model::{Job, JobId, NamespaceName, Problem};

use crate::app::App;
use crate::errors::ApiError;
use crate::options::{Options, no_path_to_region};

/// What a body says about where its job belongs, besides the job itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    pub region: &'a str,
    pub namespace: &'a str,
}

/// Settles region and namespace and fills in the defaults. The region of the body goes before that of the
/// query, the namespace of the query before that of the body; both before the job's own.
///
/// What the job says that nothing reads is dropped with the rest that only a client writes; the answer
/// tells it.
///
/// # Errors
/// The job is meant for another region.
pub fn settle(app: &App, options: &Options, envelope: Envelope<'_>, job: &mut Job) -> Result<Vec<String>, ApiError> {
    let own = job.region.as_deref().filter(|region| *region != model::access::REGION_GLOBAL);
    let asked = [Some(envelope.region), options.params.get("region"), own];
    let region = asked.into_iter().flatten().find(|region| !region.is_empty()).unwrap_or(&app.region);
    if region != app.region {
        return Err(no_path_to_region());
    }
    job.region = Some(app.region.clone());
    let asked = options.namespace.clone().or_else(|| Some(NamespaceName::from(envelope.namespace)));
    let namespace = asked.filter(|name| !name.is_empty()).unwrap_or_else(|| job.namespace());
    job.namespace = Some(namespace);
    let dropped = model::without_effect(job);
    job.canonicalize();
    Ok(dropped)
}

/// The job of a body, with its id.
///
/// # Errors
/// There is none; `no_id` is said when it has no id.
pub fn job_of(job: Option<Job>, no_id: &str) -> Result<Job, ApiError> {
    let job = job.ok_or_else(|| ApiError::bad("Job must be specified"))?;
    if job.id().is_empty() {
        return Err(ApiError::bad(no_id));
    }
    Ok(job)
}

/// Why a job is refused: sentence by sentence, and as one text.
#[derive(Debug)]
pub struct Refused {
    pub problems: Vec<Problem>,
    pub text: String,
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        ApiError::bad(refused.text)
    }
}

/// # Errors
/// Everything that is wrong with a canonical job, at once.
pub fn check(job: &Job) -> Result<(), Refused> {
    let problems = model::validate(job);
    let text = model::report(&problems);
    if problems.is_empty() { Ok(()) } else { Err(Refused { problems, text }) }
}

/// # Errors
/// The job has blocks that nothing carries out yet.
pub fn check_built(job: &Job) -> Result<(), Refused> {
    unbuilt(job).map_or(Ok(()), |text| Err(Refused { problems: unbuilt_parts(job), text }))
}

/// The same, one by one.
pub fn unbuilt_parts(job: &Job) -> Vec<Problem> {
    let text = |part: &str| format!("job cannot run as it asks to, not built yet: {part}");
    model::unbuilt::unbuilt_in(job).into_iter().map(|(part, path)| Problem::new(text(&part)).at(path)).collect()
}

/// The refusal of a job that cannot run as it asks to. Validate and plan tell it as a warning.
pub fn unbuilt(job: &Job) -> Option<String> {
    let unbuilt = model::unbuilt(job);
    (!unbuilt.is_empty()).then(|| format!("job cannot run as it asks to, not built yet: {}", unbuilt.join("; ")))
}

/// What is accepted but should be known, as one text.
pub fn warnings(app: &App, job: &Job, more: &[String]) -> String {
    let mut all = model::warnings(job);
    all.extend(more_warnings(app, job));
    all.extend_from_slice(more);
    model::report_warnings(&all)
}

/// Warnings that depend on the cluster.
pub fn more_warnings(app: &App, job: &Job) -> Vec<String> {
    ignored_memory_max(app, job).into_iter().collect()
}

/// Whether tasks may use more memory than they reserve is the cluster's or the node pool's to say.
fn ignored_memory_max(app: &App, job: &Job) -> Option<String> {
    let mut tasks = job.task_groups.iter().flat_map(|group| &group.tasks);
    let view = app.watches.view();
    let of_pool = view.state.node_pool(job.node_pool()).and_then(|pool| pool.scheduler_configuration.as_ref());
    let allowed = of_pool
        .and_then(|config| config.memory_oversubscription_enabled)
        .unwrap_or(view.state.scheduler_config().memory_oversubscription_enabled);
    let asked = |task: &model::task::Task| task.resources.as_ref().is_some_and(|asked| asked.memory_max_mb() != 0);
    (!allowed && tasks.any(asked))
        .then(|| "Memory oversubscription is not enabled; Task memory_max value will be ignored".to_owned())
}

/// Takes over what an update is to leave as it is: counts, or resources, by name.
pub fn preserve(old: &Job, new: &mut Job, counts: bool, resources: bool) {
    for group in &mut new.task_groups {
        let Some(before) = old.lookup_group(group.name()) else { continue };
        if counts {
            group.count = before.count;
        }
        for task in group.tasks.iter_mut().filter(|_| resources) {
            if let Some(before) = before.lookup_task(&task.name) {
                task.resources.clone_from(&before.resources);
            }
        }
    }
}

/// The key of a job in a path.
pub fn key(options: &Options, id: &str) -> (NamespaceName, JobId) {
    (options.namespace(), JobId::from(id))
}
