//! `eval explain`: why an evaluation came out as it did, node by node.

use std::collections::BTreeMap;

use api::explain::{EvalExplanation, GroupExplanation, Moment, NodeVerdict, Standing};
use client::public::Query;
use model::Evaluation;
use serde_json::Value;

use super::{Cx, Failure, lookup, machine, placement, show};
use crate::format::{count, id, pairs, row, table};

/// More nodes than this are counted by what became of them, unless each is asked for.
const NODES_SHOWN: usize = 25;

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let found: Evaluation = lookup::one(cx, cx.arg(0)).await?;
    let path = format!("/v1/evaluation/{}/explain", found.id);
    let query = cx.within(found.namespace.as_str());
    let (value, gone) = match cx.client.get::<Value>(&path, &query).await {
        Ok((value, _)) => (value, false),
        Err(error) if error.status().is_some_and(|status| status.as_u16() == 410) => {
            let query = Query::with(query, "summary", "true");
            let again = cx.client.get::<Value>(&path, &query).await;
            (again.map_err(|error| Failure::api("Error explaining evaluation", &error))?.0, true)
        }
        Err(error) => return Err(Failure::api("Error explaining evaluation", &error)),
    };
    if machine {
        return machine::print(cx, &value);
    }
    let told: EvalExplanation =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error explaining evaluation: {error}")))?;
    let text = pairs(&head(cx, &told));
    cx.ui.line(text);
    let text = show::section(cx, "Timeline", &timeline(cx, &told.timeline));
    cx.ui.line(text);
    for group in &told.groups {
        let text = group_text(cx, group);
        let title = format!("Task Group {:?}: {}", group.task_group, outcome(group));
        let text = show::section(cx, &title, &text);
        cx.ui.line(text);
    }
    if gone {
        cx.ui.warn("No scheduler remembers this evaluation any more: what each node's verdict was is gone.");
    }
    Ok(0)
}

fn head(cx: &Cx, told: &EvalExplanation) -> Vec<(&'static str, String)> {
    let status = match told.status_description.as_str() {
        "" => told.status.to_string(),
        why => format!("{}: {why}", told.status),
    };
    let mut rows = vec![
        ("ID", id(&told.eval_id, cx.verbose())),
        ("Job ID", told.job_id.to_string()),
        ("Namespace", told.namespace.to_string()),
        ("Type", told.kind.clone()),
        ("Triggered By", told.triggered_by.clone()),
        ("Status", status),
        ("Scheduler", told.scheduler.clone()),
    ];
    if let Some(blocked) = told.blocked_eval.non_empty() {
        rows.push(("Blocked Eval", id(blocked, cx.verbose())));
    }
    rows
}

/// Each moment with the time since the first.
fn timeline(cx: &Cx, moments: &[Moment]) -> String {
    let first = moments.first().map_or(0, |one| one.time);
    let mut rows = vec![row(["Time", "After", "What", "Detail"])];
    for one in moments {
        let what = serde_json::to_value(one.what).ok();
        rows.push(vec![
            cx.stamp(one.time),
            since(one.time.saturating_sub(first)),
            what.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            one.detail.clone(),
        ]);
    }
    table(&rows)
}

fn since(ns: i64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let ms = ns as f64 / 1e6;
    if ms.abs() < 10_000.0 { format!("{ms:.1}ms") } else { format!("{:.1}s", ms / 1e3) }
}

/// What a counter counts, once it is done.
fn done(counter: &str) -> &str {
    match counter {
        "ignore" => "left alone",
        "stop" => "stopped",
        "migrate" => "migrated",
        "in-place" => "updated in place",
        "destructive" => "replaced",
        "canary" => "replaced by canaries",
        "preemptions" => "preempted",
        "disconnect" => "disconnected",
        "reconnect" => "reconnected",
        "now" => "rescheduled",
        "later" => "rescheduled later",
        other => other,
    }
}

fn outcome(group: &GroupExplanation) -> String {
    let mut said = vec![format!("{} placed", group.placed.len())];
    if let Some(desired) = &group.desired {
        // What was placed is listed.
        let counted = desired.counted().filter(|(name, _)| *name != "place");
        said.extend(counted.map(|(name, n)| format!("{n} {}", done(name))));
    }
    if group.unplaced > 0 {
        said.push(format!("{} without a place", group.unplaced));
    }
    said.join(", ")
}

fn group_text(cx: &Cx, group: &GroupExplanation) -> String {
    let verbose = cx.verbose();
    let mut blocks = Vec::new();
    if !group.placed.is_empty() {
        let mut rows = vec![row(["Alloc ID", "Name", "Node", "Score", "Of"])];
        for one in &group.placed {
            let shown = [&one.name, &one.node_name, &format!("{:.3}", one.score), &components(&one.scores)];
            rows.push(std::iter::once(id(&one.alloc_id, verbose)).chain(shown.map(Clone::clone)).collect());
        }
        blocks.push(table(&rows));
    }
    if group.unplaced > 0 {
        let reasons = match group.needs.as_slice() {
            [] => group.failure.as_ref().map(placement::reasons).unwrap_or_default(),
            needs => needs.to_vec(),
        };
        blocks.push(reasons.iter().map(|reason| format!("* {reason}")).collect::<Vec<_>>().join("\n"));
    }
    let each = verbose || group.nodes.len() <= NODES_SHOWN;
    if !group.nodes.is_empty() {
        blocks.push(if each { each_node(&group.nodes, verbose) } else { counted(&group.nodes) });
    }
    let nodes = group.nodes.iter().filter(|_| each).map(|node| &node.scores);
    let mut shown = group.placed.iter().map(|one| &one.scores).chain(nodes);
    if shown.any(|scores| scores.contains_key(placement::BALANCE)) {
        blocks.push(placement::BALANCE_SAYS.to_owned());
    }
    blocks.join("\n\n")
}

fn each_node(nodes: &[NodeVerdict], verbose: bool) -> String {
    let mut nodes: Vec<&NodeVerdict> = nodes.iter().collect();
    nodes.sort_by(|a, b| b.score.unwrap_or(f64::MIN).total_cmp(&a.score.unwrap_or(f64::MIN)));
    let mut rows = vec![row(["Node ID", "Node", "Standing", "Score", "Why"])];
    for node in nodes {
        let why = if node.reason.is_empty() { components(&node.scores) } else { node.reason.clone() };
        let score = node.score.map(|score| format!("{score:.3}")).unwrap_or_default();
        let shown = [node.node_name.clone(), standing(node.standing).to_owned(), score, why];
        rows.push(std::iter::once(id(&node.node_id, verbose)).chain(shown).collect());
    }
    table(&rows)
}

fn counted(nodes: &[NodeVerdict]) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for node in nodes {
        *counts.entry((standing(node.standing), &node.reason)).or_default() += 1;
    }
    let mut rows = vec![row(["Nodes", "Standing", "Why"])];
    rows.extend(counts.iter().map(|((standing, why), n)| vec![n.to_string(), (*standing).into(), (*why).into()]));
    format!("{}\n{} in all, -verbose shows each", table(&rows), count(nodes.len(), "node"))
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::NoCandidate => "no candidate",
        Standing::Filtered => "filtered",
        Standing::Exhausted => "exhausted",
        Standing::Fits => "fits",
    }
}

fn components(scores: &BTreeMap<String, f64>) -> String {
    let parts = scores.iter().filter(|(name, _)| *name != "normalized-score");
    parts.map(|(name, score)| format!("{name} {score:.3}")).collect::<Vec<_>>().join(", ")
}
