//! Rows of lists and blocks that several commands show.

use model::alloc::AllocStub;
use model::deployment::DeploymentState;
use model::node::NodeListStub;
use model::summary::JobListStub;
use model::{Deployment, EvalStatus, Evaluation};

use super::Cx;
use crate::format::{id, indent, pairs, row, table};
use crate::ui::Tone;

/// What a job's list shows of its type: `batch/periodic`.
pub fn job_kind(kind: &str, periodic: bool, parameterized: bool) -> String {
    let mut text = kind.to_owned();
    if periodic {
        text.push_str("/periodic");
    }
    if parameterized {
        text.push_str("/parameterized");
    }
    text
}

/// A job's status, with a remark when somebody stopped it.
pub fn job_state(status: &str, stop: bool) -> String {
    if stop { format!("{status} (stopped)") } else { status.to_owned() }
}

pub fn job_rows(cx: &Cx, jobs: &[JobListStub]) -> Vec<Vec<String>> {
    let many = cx.namespace() == "*";
    let mut heads = row(["ID", "Type", "Priority", "Status", "Submit Date"]);
    if many {
        heads.insert(1, "Namespace".to_owned());
    }
    let mut rows = vec![heads];
    for job in jobs {
        let mut cells = vec![
            job.id.to_string(),
            job_kind(&job.kind, job.periodic, job.parameterized_job),
            job.priority.to_string(),
            job_state(&job.status, job.stop),
            cx.stamp(job.submit_time),
        ];
        if many {
            cells.insert(1, job.namespace.to_string());
        }
        rows.push(cells);
    }
    rows
}

/// Allocations, newest first as the caller sorted them.
pub fn alloc_rows(cx: &Cx, allocs: &[AllocStub]) -> Vec<Vec<String>> {
    alloc_table(cx, allocs, cx.verbose())
}

pub fn alloc_table(cx: &Cx, allocs: &[AllocStub], verbose: bool) -> Vec<Vec<String>> {
    let mut rows = vec![if verbose {
        row([
            "ID",
            "Eval ID",
            "Node ID",
            "Node Name",
            "Task Group",
            "Version",
            "Desired",
            "Status",
            "Created",
            "Modified",
        ])
    } else {
        row(["ID", "Node ID", "Task Group", "Version", "Desired", "Status", "Created", "Modified"])
    }];
    for alloc in allocs {
        let mut cells = vec![id(&alloc.id, verbose)];
        if verbose {
            cells.push(id(&alloc.eval_id, true));
        }
        cells.push(id(&alloc.node_id, verbose));
        if verbose {
            cells.push(alloc.node_name.clone());
        }
        cells.extend([
            alloc.task_group.clone(),
            alloc.job_version.to_string(),
            alloc.desired_status.to_string(),
            alloc.client_status.to_string(),
            cx.when(alloc.create_time),
            cx.when(alloc.modify_time),
        ]);
        rows.push(cells);
    }
    rows
}

/// Sorts as lists show them: newest first.
pub fn newest_first(allocs: &mut [AllocStub]) {
    allocs.sort_by(|a, b| b.create_index.cmp(&a.create_index).then_with(|| a.id.cmp(&b.id)));
}

/// Whether an evaluation could not place everything, as lists say it.
pub fn placement_failures(eval: &Evaluation) -> String {
    match eval.status {
        EvalStatus::Pending => "N/A - In Progress".to_owned(),
        _ => (!eval.failed_tg_allocs.is_empty()).to_string(),
    }
}

pub fn eval_rows(cx: &Cx, evals: &[Evaluation]) -> Vec<Vec<String>> {
    let verbose = cx.verbose();
    let mut rows =
        vec![row(["ID", "Priority", "Triggered By", "Job ID", "Namespace", "Node ID", "Status", "Placement Failures"])];
    for eval in evals {
        rows.push(vec![
            id(&eval.id, verbose),
            eval.priority.to_string(),
            eval.triggered_by.clone(),
            eval.job_id.to_string(),
            eval.namespace.to_string(),
            id(&eval.node_id, verbose),
            eval.status.to_string(),
            placement_failures(eval),
        ]);
    }
    rows
}

pub fn deployment_rows(cx: &Cx, deployments: &[Deployment]) -> Vec<Vec<String>> {
    let mut rows = vec![row(["ID", "Job ID", "Job Version", "Status", "Description"])];
    for one in deployments {
        rows.push(vec![
            id(&one.id, cx.verbose()),
            one.job_id.to_string(),
            one.job_version.to_string(),
            one.status.to_string(),
            one.status_description.clone(),
        ]);
    }
    rows
}

pub fn node_rows(cx: &Cx, nodes: &[NodeListStub]) -> Vec<Vec<String>> {
    let mut rows = vec![row(["ID", "Node Pool", "DC", "Name", "Class", "Drain", "Eligibility", "Status"])];
    for node in nodes {
        rows.push(vec![
            id(&node.id, cx.verbose()),
            node.node_pool.clone(),
            node.datacenter.clone(),
            node.name.clone(),
            node.node_class.clone(),
            node.drain.to_string(),
            node.scheduling_eligibility.to_string(),
            node.status.to_string(),
        ]);
    }
    rows
}

/// A deployment as a block: what it is, and how far each group is.
pub fn deployment_block(cx: &Cx, deployment: &Deployment, verbose: bool) -> String {
    let status = deployment.status.to_string();
    let tone = match status.as_str() {
        "successful" => Tone::Good,
        "failed" | "cancelled" => Tone::Bad,
        _ => Tone::Bold,
    };
    let mut out = pairs(&[
        ("ID", id(&deployment.id, verbose)),
        ("Job ID", deployment.job_id.to_string()),
        ("Job Version", deployment.job_version.to_string()),
        ("Status", status.clone()),
        ("Description", deployment.status_description.clone()),
    ]);
    if cx.ui.colour {
        out = out.replace(&format!("Status      = {status}"), &format!("Status      = {}", cx.ui.tone(tone, &status)));
    }
    if !deployment.task_groups.is_empty() {
        out.push_str(&format!("\n\n{}\n{}", cx.ui.bold("Deployed"), table(&group_rows(cx, deployment))));
    }
    out
}

/// The groups of a deployment; columns that say nothing are left out.
fn group_rows(cx: &Cx, deployment: &Deployment) -> Vec<Vec<String>> {
    let any = |test: fn(&DeploymentState) -> bool| deployment.task_groups.values().any(test);
    let reverts = any(|state| state.auto_revert);
    let canaries = any(|state| state.desired_canaries > 0);
    let mut heads = vec!["Task Group"];
    heads.extend(reverts.then_some("Auto Revert"));
    heads.extend(canaries.then_some("Promoted"));
    heads.push("Desired");
    heads.extend(canaries.then_some("Canaries"));
    heads.extend(["Placed", "Healthy", "Unhealthy", "Progress Deadline"]);
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (name, state) in &deployment.task_groups {
        let mut cells = vec![name.clone()];
        cells.extend(reverts.then(|| state.auto_revert.to_string()));
        cells.extend(canaries.then(|| match state.desired_canaries {
            0 => "N/A".to_owned(),
            _ => state.promoted.to_string(),
        }));
        cells.push(state.desired_total.to_string());
        cells.extend(canaries.then(|| state.desired_canaries.to_string()));
        cells.extend([state.placed_allocs, state.healthy_allocs, state.unhealthy_allocs].map(|n| n.to_string()));
        cells.push(cx.stamp(state.require_progress_by.unix_nanos()));
        rows.push(cells);
    }
    rows
}

/// A heading and what stands below it.
pub fn section(cx: &Cx, title: &str, body: &str) -> String {
    format!("\n{}\n{body}", cx.ui.bold(title))
}

/// A section whose body is moved to the right.
pub fn indented(text: &str) -> String {
    indent(text, 4)
}
