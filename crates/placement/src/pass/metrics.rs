//! Metrics of what found no node.

use model::TaskGroup;
use model::metric::AllocMetric;
use model::resources::Resources;

/// Adds what one more allocation asks for of that which is short.
pub(super) fn add_exhausted(metric: &mut AllocMetric, group: &TaskGroup) {
    let (cpu, memory) =
        (metric.dimension_exhausted.contains_key("cpu"), metric.dimension_exhausted.contains_key("memory"));
    if !cpu && !memory {
        return;
    }
    let zero = || Resources {
        cpu: Some(0),
        cores: Some(0),
        memory_mb: Some(0),
        memory_max_mb: Some(0),
        disk_mb: Some(0),
        iops: Some(0),
        secrets_mb: Some(0),
        ..Resources::default()
    };
    for task in &group.tasks {
        let sum = metric.resources_exhausted.entry(task.name.clone()).or_insert_with(zero);
        if cpu {
            sum.cpu = Some(sum.cpu.unwrap_or(0).saturating_add(task.cpu_mhz()));
        }
        if memory {
            sum.memory_mb = Some(sum.memory_mb.unwrap_or(0).saturating_add(task.memory_mb()));
        }
    }
}

/// Counts one node that was tried for a placement of its own.
pub(super) fn tally(metric: &mut AllocMetric, why: &str, filtered: bool, node: &model::Node) {
    metric.nodes_evaluated += 1;
    let (total, reasons, classes) = if filtered {
        (&mut metric.nodes_filtered, &mut metric.constraint_filtered, &mut metric.class_filtered)
    } else {
        (&mut metric.nodes_exhausted, &mut metric.dimension_exhausted, &mut metric.class_exhausted)
    };
    *total += 1;
    *reasons.entry(why.to_owned()).or_default() += 1;
    if !node.node_class.is_empty() {
        *classes.entry(node.node_class.clone()).or_default() += 1;
    }
}

/// Adds the counts of nodes that were filtered.
pub(super) fn merge_filtered(into: &mut AllocMetric, filtered: &AllocMetric) {
    into.nodes_evaluated += filtered.nodes_evaluated;
    into.nodes_filtered += filtered.nodes_filtered;
    for (text, number) in &filtered.constraint_filtered {
        *into.constraint_filtered.entry(text.clone()).or_default() += number;
    }
    for (class, number) in &filtered.class_filtered {
        *into.class_filtered.entry(class.clone()).or_default() += number;
    }
}
