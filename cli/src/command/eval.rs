//! `eval list` and `eval status`.

use client::public::Query;
use model::Evaluation;
use model::alloc::AllocStub;
use serde_json::Value;

use super::{Cx, Failure, lookup, machine, monitor, placement, show};
use crate::format::{id, pairs, row, table};

pub async fn list(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let mut query = Query {
        filter: cx.flags.some("filter").map(str::to_owned),
        per_page: cx.flags.uint("per-page"),
        next_token: cx.flags.some("page-token").map(str::to_owned),
        ..Query::default()
    };
    for name in ["job", "status"] {
        if let Some(value) = cx.flags.some(name) {
            query = query.with(name, value);
        }
    }
    let (value, meta) = cx
        .client
        .get::<Value>("/v1/evaluations", &query)
        .await
        .map_err(|error| Failure::api("Error querying evaluations", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let evals: Option<Vec<Evaluation>> =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying evaluations: {error}")))?;
    let mut evals = evals.unwrap_or_default();
    if evals.is_empty() {
        cx.ui.line("No evals found");
        return Ok(0);
    }
    if query.per_page == 0 {
        evals.sort_by_key(|eval| monitor::newest(eval.create_index));
    }
    let text = table(&show::eval_rows(cx, &evals));
    cx.ui.line(text);
    cx.more("eval list", meta.next_token.as_deref());
    Ok(0)
}

pub async fn status(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let found: Evaluation = lookup::one(cx, cx.arg(0)).await?;
    if cx.flags.is("monitor") {
        return monitor::evaluation(cx, found.id.as_str(), found.namespace.as_str()).await;
    }
    one(cx, found.id.as_str(), machine).await
}

pub async fn one(cx: &mut Cx, eval_id: &str, machine: bool) -> Result<u8, Failure> {
    let path = format!("/v1/evaluation/{eval_id}");
    let query = Query::default().with("related", "true");
    let failed = |error| Failure::api("Error querying evaluation", &error);
    let (value, _) = cx.client.get::<Value>(&path, &query).await.map_err(failed)?;
    if machine {
        return machine::print(cx, &value);
    }
    let eval: Evaluation =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying evaluation: {error}")))?;
    let text = pairs(&head(cx, &eval));
    cx.ui.line(text);
    if !eval.failed_tg_allocs.is_empty() {
        let mut body = placement::failures(&eval.failed_tg_allocs);
        if let Some(blocked) = eval.blocked_eval.non_empty() {
            let shown = id(blocked, cx.verbose());
            body.push_str(&format!("\n\nEvaluation {shown:?} waiting for additional capacity to place remainder"));
        }
        let text = show::section(cx, "Failed Placements", &body);
        cx.ui.line(text);
    }
    if let Some(text) = plan_table(&eval) {
        let text = show::section(cx, "Plan Annotations", &text);
        cx.ui.line(text);
    }
    if !eval.related_evals.is_empty() {
        let mut rows = vec![row(["ID", "Priority", "Triggered By", "Node ID", "Status", "Description"])];
        for related in &eval.related_evals {
            rows.push(vec![
                id(&related.id, cx.verbose()),
                related.priority.to_string(),
                related.triggered_by.clone(),
                id(&related.node_id, cx.verbose()),
                related.status.to_string(),
                related.status_description.clone(),
            ]);
        }
        let text = show::section(cx, "Related Evaluations", &table(&rows));
        cx.ui.line(text);
    }
    let (allocs, _) = cx
        .client
        .get::<Option<Vec<AllocStub>>>(&format!("{path}/allocations"), &cx.within(eval.namespace.as_str()))
        .await
        .map_err(|error| Failure::api("Error querying allocations", &error))?;
    let mut allocs = allocs.unwrap_or_default();
    if !allocs.is_empty() {
        show::newest_first(&mut allocs);
        let text = show::section(cx, "Placed Allocations", &table(&show::alloc_rows(cx, &allocs)));
        cx.ui.line(text);
    }
    Ok(0)
}

fn head(cx: &Cx, eval: &Evaluation) -> Vec<(&'static str, String)> {
    let verbose = cx.verbose();
    let mut rows = vec![
        ("ID", id(&eval.id, verbose)),
        ("Create Time", cx.when(eval.create_time)),
        ("Modify Time", cx.when(eval.modify_time)),
        ("Status", eval.status.to_string()),
        (
            "Status Description",
            match eval.status_description.as_str() {
                "" => eval.status.to_string(),
                text => text.to_owned(),
            },
        ),
        ("Type", eval.kind.clone()),
        ("TriggeredBy", eval.triggered_by.clone()),
        ("Job ID", eval.job_id.to_string()),
        ("Namespace", eval.namespace.to_string()),
    ];
    if let Some(node) = eval.node_id.non_empty() {
        rows.push(("Node ID", id(node, verbose)));
    }
    rows.push(("Priority", eval.priority.to_string()));
    rows.push(("Placement Failures", show::placement_failures(eval)));
    if let Some(until) = eval.wait_until.filter(|until| !until.is_zero()) {
        rows.push(("Wait Until", cx.stamp(until.unix_nanos())));
    }
    if !eval.quota_limit_reached.is_empty() {
        rows.push(("Quota Limit Reached", eval.quota_limit_reached.clone()));
    }
    if verbose {
        rows.push(("Previous Eval", eval.previous_eval.to_string()));
        rows.push(("Next Eval", eval.next_eval.to_string()));
        rows.push(("Blocked Eval", eval.blocked_eval.to_string()));
    }
    rows
}

/// What the scheduler meant to do, per group.
fn plan_table(eval: &Evaluation) -> Option<String> {
    let updates = &eval.plan_annotations.as_ref()?.desired_tg_updates;
    let mut rows = vec![row(["Task Group", "Ignore", "Place", "Stop", "InPlace", "Destructive"])];
    for (group, update) in updates {
        let mut cells = vec![group.clone()];
        let numbers = [update.ignore, update.place, update.stop, update.in_place_update, update.destructive_update];
        cells.extend(numbers.map(|n| n.to_string()));
        rows.push(cells);
    }
    (rows.len() > 1).then(|| table(&rows))
}
