//! `job status`: all jobs, or one with what runs of it.

use client::public::{Query, segment};
use model::alloc::AllocStub;
use model::summary::JobSummary;
use model::{Deployment, Evaluation, Job, Nanos, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Cx, Failure, lookup, machine, placement, show};
use crate::format::{id, pairs, row, table};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    if cx.flags.args.is_empty() {
        return list(cx, machine).await;
    }
    let found = lookup::job(cx, cx.arg(0)).await?;
    one(cx, &found.id, &found.namespace, machine).await
}

/// All jobs.
pub async fn list(cx: &mut Cx, machine: bool) -> Result<u8, Failure> {
    if machine {
        let (rows, _) = cx
            .client
            .get::<Value>("/v1/jobs", &Query::default())
            .await
            .map_err(|error| Failure::api("Error querying jobs", &error))?;
        return machine::print(cx, &rows);
    }
    let mut jobs = lookup::jobs(cx, &Query::default()).await?;
    if jobs.is_empty() {
        cx.ui.line("No running jobs");
        return Ok(0);
    }
    jobs.sort_by(|a, b| (&a.id, &a.namespace).cmp(&(&b.id, &b.namespace)));
    let text = table(&show::job_rows(cx, &jobs));
    cx.ui.line(text);
    Ok(0)
}

/// One answer about a job.
pub async fn about<T: DeserializeOwned>(cx: &Cx, job: &str, namespace: &str, what: &str) -> Result<T, Failure> {
    let path = format!("/v1/job/{}{what}", segment(job));
    let mut query = cx.within(namespace);
    if cx.flags.is("all-allocs") || cx.flags.is("all") {
        query = query.with("all", "true");
    }
    let answer = cx.client.get(&path, &query).await;
    answer.map(|(value, _)| value).map_err(|error| {
        let noun = what.trim_start_matches('/');
        Failure::api(&format!("Error querying job{}{noun}", if noun.is_empty() { "" } else { " " }), &error)
    })
}

pub async fn one(cx: &mut Cx, job_id: &str, namespace: &str, machine: bool) -> Result<u8, Failure> {
    let value: Value = about(cx, job_id, namespace, "").await?;
    if machine {
        return machine::print(cx, &value);
    }
    let job: Job = serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("Error querying job: answer is not what was expected: {error}")))?;
    let mut rows = head(cx, &job);
    let periodic = job.periodic.is_some();
    let parent = periodic || job.parameterized_job.is_some() && !job.dispatched;
    rows.extend(next_launch(cx, &job).map(|next| ("Next Periodic Launch", next)));
    rows.extend(job.parameterized_job.as_ref().filter(|_| parent).into_iter().flat_map(|config| {
        [
            ("Payload", config.payload.clone()),
            ("Required Metadata", config.meta_required.join(", ")),
            ("Optional Metadata", config.meta_optional.join(", ")),
        ]
    }));
    let text = pairs(&rows);
    cx.ui.line(text);
    if cx.flags.is("short") {
        return Ok(0);
    }
    if parent {
        children(cx, job_id, namespace).await?
    } else {
        details(cx, job_id, namespace).await?
    }
    Ok(0)
}

/// When a periodic job is launched next.
pub fn next_launch(cx: &Cx, job: &Job) -> Option<String> {
    let config = job.periodic.as_ref()?;
    if job.is_stopped() {
        return Some("none (job stopped)".to_owned());
    }
    let next = config.next(Timestamp(cx.ui.now())).ok().flatten().filter(|_| job.is_periodic_active())?;
    let ahead = Nanos(next.unix_nanos().saturating_sub(cx.ui.now()) / 1_000_000_000 * 1_000_000_000);
    Some(format!("{} ({ahead} from now)", cx.stamp(next.unix_nanos())))
}

fn head(cx: &Cx, job: &Job) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut rows = vec![
        ("ID", job.id.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Name", text(&job.name)),
        ("Submit Date", cx.stamp(job.submit_time.unwrap_or(0))),
        ("Type", text(&job.kind)),
        ("Priority", job.priority.unwrap_or(0).to_string()),
        ("Datacenters", job.datacenters.join(",")),
        ("Namespace", job.namespace.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Node Pool", text(&job.node_pool)),
        ("Status", show::job_state(&text(&job.status), job.stop == Some(true))),
        ("Periodic", job.periodic.is_some().to_string()),
        // What was dispatched has its parent's block, and is none itself.
        ("Parameterized", (job.parameterized_job.is_some() && !job.dispatched).to_string()),
    ];
    if let Some(token) = job.dispatch_idempotency_token.as_ref().filter(|token| !token.is_empty()) {
        rows.push(("Idempotency Token", token.clone()));
    }
    if cx.verbose()
        && let Some(description) = job.status_description.as_ref().filter(|text| !text.is_empty())
    {
        rows.push(("Description", description.clone()));
    }
    rows
}

/// A job that only launches others.
async fn children(cx: &mut Cx, job_id: &str, namespace: &str) -> Result<(), Failure> {
    let summary: JobSummary = about(cx, job_id, namespace, "/summary").await?;
    if let Some(counts) = summary.children {
        let cells = [counts.pending, counts.running, counts.dead].map(|n| n.to_string());
        let body = table(&[row(["Pending", "Running", "Dead"]), cells.to_vec()]);
        let text = show::section(cx, "Children Job Summary", &body);
        cx.ui.line(text);
    }
    let query = Query { prefix: Some(format!("{job_id}/")), ..cx.within(namespace) };
    let launched: Vec<_> = lookup::jobs(cx, &query).await?.into_iter().filter(|j| j.parent_id == job_id).collect();
    let text = if launched.is_empty() {
        "\nNo instances of this job launched yet".to_owned()
    } else {
        let mut rows = vec![row(["ID", "Status"])];
        rows.extend(launched.iter().map(|j| vec![j.id.to_string(), show::job_state(&j.status, j.stop)]));
        show::section(cx, "Previously Launched Jobs", &table(&rows))
    };
    cx.ui.line(text);
    Ok(())
}

async fn details(cx: &mut Cx, job_id: &str, namespace: &str) -> Result<(), Failure> {
    let summary: JobSummary = about(cx, job_id, namespace, "/summary").await?;
    let text = show::section(cx, "Summary", &summary_table(&summary));
    cx.ui.line(text);
    let evals: Option<Vec<Evaluation>> = about(cx, job_id, namespace, "/evaluations").await?;
    let mut evals = evals.unwrap_or_default();
    evals.sort_by_key(|eval| std::cmp::Reverse(eval.create_index.0));
    if cx.flags.is("evals") || cx.verbose() {
        let text = show::section(cx, "Evaluations", &eval_table(cx, &evals));
        cx.ui.line(text);
    }
    // Only what still holds: a blocked evaluation's reasons.
    let blocked = evals.iter().find(|e| e.status == model::EvalStatus::Blocked && !e.failed_tg_allocs.is_empty());
    if let Some(eval) = blocked {
        let text = show::section(cx, "Placement Failure", &placement::failures(&eval.failed_tg_allocs));
        cx.ui.line(text);
    }
    let latest: Option<Deployment> = about(cx, job_id, namespace, "/deployment").await?;
    if let Some(latest) = latest.filter(|latest| !latest.id.is_empty()) {
        let block = show::deployment_block(cx, &latest, cx.verbose());
        // The job is known already.
        let shorter = block.lines().filter(|line| !line.starts_with("Job ID") && !line.starts_with("Job Version"));
        let text = show::section(cx, "Latest Deployment", &shorter.collect::<Vec<_>>().join("\n"));
        cx.ui.line(text);
    }
    let allocs: Option<Vec<AllocStub>> = about(cx, job_id, namespace, "/allocations").await?;
    let mut allocs = allocs.unwrap_or_default();
    show::newest_first(&mut allocs);
    let body =
        if allocs.is_empty() { "No allocations placed".to_owned() } else { table(&show::alloc_rows(cx, &allocs)) };
    let text = show::section(cx, "Allocations", &body);
    cx.ui.line(text);
    Ok(())
}

pub fn summary_table(summary: &JobSummary) -> String {
    let mut rows = vec![row(["Task Group", "Queued", "Starting", "Running", "Failed", "Complete", "Lost", "Unknown"])];
    for (group, counts) in &summary.summary {
        let mut cells = vec![group.clone()];
        let numbers = [
            counts.queued,
            counts.starting,
            counts.running,
            counts.failed,
            counts.complete,
            counts.lost,
            counts.unknown,
        ];
        cells.extend(numbers.map(|n| n.to_string()));
        rows.push(cells);
    }
    table(&rows)
}

fn eval_table(cx: &Cx, evals: &[Evaluation]) -> String {
    let mut rows = vec![row(["ID", "Priority", "Triggered By", "Status", "Placement Failures"])];
    for eval in evals {
        rows.push(vec![
            id(&eval.id, cx.verbose()),
            eval.priority.to_string(),
            eval.triggered_by.clone(),
            eval.status.to_string(),
            show::placement_failures(eval),
        ]);
    }
    table(&rows)
}
