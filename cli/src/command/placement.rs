//! Why could something not be placed, in words.

use std::collections::BTreeMap;

use model::metric::AllocMetric;

use crate::format::{count, printable, row, table};

/// Task groups that could not be placed, each with its reasons.
pub fn failures(failed: &BTreeMap<String, AllocMetric>) -> String {
    let groups = failed.iter().map(|(group, metric)| {
        let missing = usize::try_from(metric.coalesced_failures + 1).unwrap_or(1);
        let heading = format!("Task Group {group:?} (failed to place {}):", count(missing, "allocation"));
        let reasons = reasons(metric).into_iter().map(|reason| format!("  * {reason}"));
        std::iter::once(heading).chain(reasons).collect::<Vec<_>>().join("\n")
    });
    groups.collect::<Vec<_>>().join("\n\n")
}

/// The reasons in a metric, the most general first.
pub fn reasons(metric: &AllocMetric) -> Vec<String> {
    let mut out = Vec::new();
    if metric.nodes_in_pool == 0 && metric.nodes_evaluated == 0 && !metric.node_pool.is_empty() {
        out.push(format!("No nodes were eligible for evaluation in node pool {:?}", metric.node_pool));
    } else if metric.nodes_evaluated == 0 {
        out.push("No nodes were eligible for evaluation".to_owned());
    }
    for (datacenter, available) in &metric.nodes_available {
        if *available == 0 {
            out.push(format!("No nodes are available in datacenter {datacenter:?}"));
        }
    }
    let each = |map: &model::SmallMap<String, i64>, text: fn(&str, i64) -> String| -> Vec<String> {
        map.iter().map(|(name, number)| text(&printable(name), *number)).collect()
    };
    out.extend(each(&metric.class_filtered, |class, n| format!("Class {class:?}: {n} nodes excluded by filter")));
    out.extend(each(&metric.constraint_filtered, |c, n| format!("Constraint {c:?}: {n} nodes excluded by filter")));
    if metric.nodes_exhausted > 0 {
        out.push(format!("Resources exhausted on {} nodes", metric.nodes_exhausted));
    }
    out.extend(each(&metric.class_exhausted, |class, n| format!("Class {class:?} exhausted on {n} nodes")));
    out.extend(each(&metric.dimension_exhausted, |dim, n| format!("Dimension {dim:?} exhausted on {n} nodes")));
    out.extend(metric.quota_exhausted.iter().map(|dim| format!("Quota limit hit {dim:?}")));
    out
}

/// What stands among the scores and is none of them.
pub const BALANCE: &str = "balance";
/// Why the chosen node may have a lower score than another.
pub const BALANCE_SAYS: &str = "Nodes with a balance are well begun: in the order of nodes their binpack counts as 0.65, \
    and of those that are alike otherwise the one with the highest balance comes first. It is by how much the free \
    shares of cpu and memory come nearer to each other.";

/// The scores of the nodes that came into question, as a table; empty if there are none.
pub fn scores(metric: &AllocMetric, verbose: bool) -> String {
    if metric.score_meta_data.is_empty() {
        return String::new();
    }
    let mut names: Vec<&str> =
        metric.score_meta_data.iter().flat_map(|m| m.scores.iter().map(|(name, _)| name)).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != "normalized-score");
    let mut heads = row(["Node"]);
    heads.extend(names.iter().map(|name| (*name).to_owned()));
    heads.push("final score".to_owned());
    let mut rows = vec![heads];
    for node in &metric.score_meta_data {
        let mut cells = vec![crate::format::id(&node.node_id, verbose)];
        cells.extend(names.iter().map(|name| match node.scores.get(name) {
            None if *name == BALANCE => "-".to_owned(),
            score => short(score.unwrap_or(0.0)),
        }));
        cells.push(short(node.norm_score));
        rows.push(cells);
    }
    let says = if names.contains(&BALANCE) { format!("\n{BALANCE_SAYS}") } else { String::new() };
    format!("{}{says}", table(&rows))
}

fn short(score: f64) -> String {
    let text = format!("{score:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_and_the_missing_are_counted() {
        let metric = AllocMetric {
            nodes_evaluated: 3,
            nodes_filtered: 1,
            nodes_in_pool: 3,
            nodes_exhausted: 2,
            coalesced_failures: 2,
            constraint_filtered: model::SmallMap::from([("${attr.kernel.name} = plan9".to_owned(), 1)]),
            dimension_exhausted: model::SmallMap::from([("memory".to_owned(), 2)]),
            ..AllocMetric::default()
        };
        let text = failures(&BTreeMap::from([("web".to_owned(), metric)]));
        assert_eq!(
            text,
            "Task Group \"web\" (failed to place 3 allocations):\n  \
             * Constraint \"${attr.kernel.name} = plan9\": 1 nodes excluded by filter\n  \
             * Resources exhausted on 2 nodes\n  \
             * Dimension \"memory\" exhausted on 2 nodes"
        );
    }

    #[test]
    fn a_lower_score_that_was_chosen_for_its_balance_is_said_to_be() {
        let node = |id: &str, scores: &[(&'static str, f64)], norm_score| model::metric::NodeScoreMeta {
            node_id: id.into(),
            scores: scores.iter().copied().collect(),
            norm_score,
        };
        let plain = node("empty", &[("binpack", 0.25)], 0.25);
        let told = AllocMetric { score_meta_data: vec![plain.clone()], ..AllocMetric::default() };
        assert!(!scores(&told, true).contains("balance"));
        let level = node("level", &[("balance", 0.15), ("binpack", 0.75)], 0.75);
        let fuller = node("fuller", &[("balance", -0.15), ("binpack", 0.875)], 0.875);
        let told = AllocMetric { score_meta_data: vec![level, fuller, plain], ..AllocMetric::default() };
        let text = scores(&told, true);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["Node", "balance", "binpack", "final", "score"]);
        assert_eq!(lines[1], ["level", "0.15", "0.75", "0.75"]);
        assert_eq!(lines[3], ["empty", "-", "0.25", "0.25"]);
        assert!(text.ends_with(BALANCE_SAYS), "{text}");
    }

    #[test]
    fn a_cluster_without_nodes_says_so() {
        assert_eq!(reasons(&AllocMetric::default()), ["No nodes were eligible for evaluation"]);
    }
}
