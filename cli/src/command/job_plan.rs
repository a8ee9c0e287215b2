//! `job plan` and `job validate`: what would happen, and whether it may.

use api::public::{JobPlanResponse, JobValidateResponse};
use client::public::segment;
use model::metric::PlanAnnotations;
use serde_json::{Value, json};

use jobspec::Places;

use super::findings::{self, Finding};
use super::{Cx, Failure, diff, jobfile, machine, placement};
use crate::format::{self, count, id, indent, row, table};
use crate::ui::Tone;

/// Placements of a group that are shown one by one.
const PLACEMENTS_SHOWN: usize = 10;
const CHECK_INDEX: &str = "When running the job with the check-index flag, the job will only be run if the\n\
    job modify index given matches the server-side version. If the index has\n\
    changed, another user has modified the job and the plan's results are\n\
    potentially invalid.";

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let file = jobfile::load(cx).await?;
    let with_diff = cx.flags.is("diff");
    let body = json!({ "Job": file.job, "Diff": with_diff, "PolicyOverride": cx.flags.is("policy-override") });
    let path = format!("/v1/job/{}/plan", segment(file.id()));
    let answer = cx.client.put::<_, Value>(&path, &file.query().with("explain", "true"), &body).await;
    let (answer, _) = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(file.failure(cx, "Error during plan", &error)),
    };
    let plan: JobPlanResponse = serde_json::from_value(answer.clone())
        .map_err(|error| Failure::new(format!("Error during plan: answer is not what was expected: {error}")))?;
    let changes = plan.annotations.as_ref().is_some_and(changes_allocations);
    let code = u8::from(changes);
    if cx.flags.is("json-output") || cx.flags.some("t").is_some() {
        machine::print(cx, &answer)?;
        return Ok(code);
    }
    if with_diff {
        match &plan.diff {
            Some(job_diff) => {
                let text = diff::render(&cx.ui, job_diff, cx.verbose());
                cx.ui.line(format!("{}\n", text.trim_end()));
            }
            None => summary(cx, plan.annotations.as_ref()),
        }
    }
    dry_run(cx, &plan);
    placements(cx, &plan);
    preemptions(cx, &plan);
    if !plan.warnings.trim().is_empty() {
        cx.ui.warn(&format!("Job Warnings:\n{}\n", plan.warnings.trim_end()));
    }
    let index = plan.job_modify_index;
    let bold = cx.ui.bold(&format!("Job Modify Index: {index}"));
    let typed = command_line(cx, index.0);
    cx.ui.line(format!("{bold}\nTo submit the job with version verification run:\n\n{typed}\n\n{CHECK_INDEX}"));
    Ok(code)
}

/// The command that runs what was planned.
fn command_line(cx: &Cx, index: u64) -> String {
    let mut words = vec!["steppe job run".to_owned(), format!("-check-index {index}")];
    for flag in ["var", "var-file"] {
        words.extend(cx.flags.list(flag).iter().map(|value| format!("-{flag}={}", quoted(value))));
    }
    words.extend(cx.flags.is("json").then(|| "-json".to_owned()));
    words.push(quoted(cx.arg(0)));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whether allocations would be made or ended.
fn changes_allocations(annotations: &PlanAnnotations) -> bool {
    annotations.desired_tg_updates.values().any(|group| {
        group.place + group.stop + group.migrate + group.destructive_update + group.canary + group.preemptions > 0
    })
}

/// What a counter counts, as a plan says it.
fn planned(counter: &str) -> &str {
    match counter {
        "place" => "create",
        "stop" => "destroy",
        "in-place" => "in-place update",
        "destructive" => "create/destroy update",
        "now" => "reschedule now",
        "later" => "reschedule later",
        other => other,
    }
}

/// What would become of each group, when there is no difference to show.
fn summary(cx: &mut Cx, annotations: Option<&PlanAnnotations>) {
    let Some(annotations) = annotations.filter(|a| !a.desired_tg_updates.is_empty()) else { return };
    for (group, updates) in &annotations.desired_tg_updates {
        let said: Vec<String> = updates.counted().map(|(name, n)| format!("{n} {}", planned(name))).collect();
        let said = if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") };
        cx.ui.line(format!("Task Group: {group:?} ({said})"));
    }
    cx.ui.line("");
}

fn dry_run(cx: &mut Cx, plan: &JobPlanResponse) {
    let bold = cx.ui.bold("Scheduler dry-run:");
    cx.ui.line(bold);
    if plan.failed_tg_allocs.is_empty() {
        let good = cx.ui.tone(Tone::Good, "- All tasks successfully allocated.");
        cx.ui.line(good);
    } else {
        let warning = cx.ui.tone(Tone::Warn, "- WARNING: Failed to place all allocations.");
        cx.ui.line(format!("{warning}\n{}", indent(&placement::failures(&plan.failed_tg_allocs), 2)));
    }
    let rolling = plan.created_evals.iter().find(|eval| eval.triggered_by == "rolling-update");
    if let Some(next) = rolling {
        cx.ui.line(format!("- Rolling update, next evaluation will be in {}.", next.wait));
    }
    if let Some(launch) = plan.next_periodic_launch.filter(|launch| !launch.is_zero()) {
        let at = cx.stamp(launch.unix_nanos());
        cx.ui.line(format!("- If submitted now, next periodic launch would be at {at}."));
    }
    cx.ui.line("");
}

/// Where each allocation would go, and the nearest change that would place the rest.
fn placements(cx: &mut Cx, plan: &JobPlanResponse) {
    let shown = if cx.verbose() { usize::MAX } else { PLACEMENTS_SHOWN };
    for group in plan.placements.iter().filter(|group| !group.placed.is_empty() || group.unplaced > 0) {
        let mut lines: Vec<String> = Vec::new();
        for one in group.placed.iter().take(shown) {
            lines.push(format!("{} on {} (score {:.3})", one.name, one.node_name, one.score));
        }
        if let Some(more) = group.placed.len().checked_sub(shown).filter(|more| *more > 0) {
            lines.push(format!("and {more} more, -verbose shows them"));
        }
        if group.unplaced > 0 {
            lines
                .push(format!("{} without a place", count(usize::try_from(group.unplaced).unwrap_or(0), "allocation")));
            lines.extend(group.needs.iter().map(|need| format!("  * {need}")));
        }
        cx.ui.line(format!("Placements of group {:?}:\n{}\n", group.task_group, format::indent(&lines.join("\n"), 2)));
    }
}

fn preemptions(cx: &mut Cx, plan: &JobPlanResponse) {
    let Some(preempted) = plan.annotations.as_ref().map(|a| &a.preempted_allocs).filter(|list| !list.is_empty()) else {
        return;
    };
    let mut rows = vec![row(["Alloc ID", "Job ID", "Task Group"])];
    rows.extend(preempted.iter().map(|a| vec![id(&a.id, cx.verbose()), a.job_id.to_string(), a.task_group.clone()]));
    let bold = cx.ui.bold("Preemptions:");
    cx.ui.line(format!("{bold}\n\n{}\n", table(&rows)));
}

pub async fn validate(cx: &mut Cx) -> Result<u8, Failure> {
    let file = jobfile::load(cx).await?;
    let body = json!({ "Job": file.job });
    let answer = cx.client.put::<_, Value>("/v1/validate/job", &file.query(), &body).await;
    let (answer, _) = answer.map_err(|error| {
        let failure = Failure::api("Error validating job", &error);
        if error.status().is_some() { failure.code(1) } else { failure }
    })?;
    if let (Some(found), Some(places)) = (findings::of_value(&answer), &file.places) {
        return validated(cx, places, found);
    }
    let checked: JobValidateResponse = serde_json::from_value(answer)
        .map_err(|error| Failure::new(format!("Error validating job: answer is not what was expected: {error}")))?;
    if !checked.warnings.trim().is_empty() {
        cx.ui.warn(&format!("Job Warnings:\n{}\n", checked.warnings.trim_end()));
    }
    if !checked.validation_errors.is_empty() || !checked.error.is_empty() {
        let list = checked.validation_errors.iter().map(|problem| format!("  * {problem}"));
        let list = list.collect::<Vec<_>>().join("\n");
        let text = if list.is_empty() { checked.error } else { list };
        return Err(Failure::new(format!("Job validation errors:\n{}", format::indent(&text, 0))).code(1));
    }
    valid(cx)
}

fn valid(cx: &mut Cx) -> Result<u8, Failure> {
    let good = cx.ui.tone(Tone::Good, "Job validation successful");
    cx.ui.line(good);
    Ok(0)
}

/// What was found, each finding in its place; errors make the job invalid.
fn validated(cx: &mut Cx, places: &Places, found: Vec<Finding>) -> Result<u8, Failure> {
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) = found.into_iter().partition(Finding::is_error);
    if !warnings.is_empty() {
        cx.ui.warn("Job Warnings:\n");
        findings::show(cx, places, &warnings);
        cx.ui.note("");
    }
    if errors.is_empty() {
        return valid(cx);
    }
    cx.ui.note("Job validation errors:\n");
    findings::show(cx, places, &errors);
    // All is said.
    Err(Failure::new("").code(1))
}
