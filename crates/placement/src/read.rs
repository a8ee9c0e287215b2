//! How rows are read where the nouns themselves have no word for it.

use model::{Allocation, ClientStatus, Index, Job, JobKind, Node, NodeStatus, TaskGroup, Timestamp};

pub(crate) fn kind(job: &Job) -> JobKind {
    job.kind().unwrap_or_default()
}

/// (incarnation, version): which specification somebody runs.
pub(crate) fn revision(job: &Job) -> (Index, u64) {
    (job.incarnation(), job.version())
}

pub(crate) fn alloc_revision(alloc: &Allocation) -> (Index, u64) {
    (alloc.job_incarnation().unwrap_or_default(), alloc.job_version().unwrap_or(0))
}

pub(crate) fn group_count(group: &TaskGroup) -> usize {
    usize::try_from(group.count()).unwrap_or(0)
}

/// When it ended badly, Unix nanoseconds: the last task's end, else the last news of it.
pub(crate) fn failure_time(alloc: &Allocation) -> i64 {
    let ends = alloc.task_states.values().filter_map(|s| s.finished_at).filter(|t| !t.is_zero());
    ends.map(Timestamp::unix_nanos).max().unwrap_or(alloc.modify_time)
}

/// The `i` of `job.group[i]`.
pub(crate) fn name_index(name: &str) -> Option<usize> {
    model::alloc_state::alloc_index(name).and_then(|i| usize::try_from(i).ok())
}

/// In state, but its allocations there cannot be trusted to be running.
pub(crate) fn is_unreachable(node: &Node) -> bool {
    matches!(node.status, NodeStatus::Down | NodeStatus::Disconnected)
}

/// Asked to stop, and the node has not said yet that it did.
pub(crate) fn stuck_on_node(alloc: &Allocation) -> bool {
    alloc.server_terminal() && matches!(alloc.client_status, ClientStatus::Running | ClientStatus::Pending)
}

/// Whole-text match of a datacenter pattern, in which only `*` is special.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    while let Some((part, after)) = tail.split_once('*') {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        tail = after;
    }
    rest.ends_with(tail)
}

pub(crate) fn in_datacenters(job: &Job, datacenter: &str) -> bool {
    job.datacenters.iter().any(|pattern| glob(pattern, datacenter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datacenter_pattern_matches_the_whole_name() {
        let cases = [("*", "dc1", true), ("dc*", "dc1", true), ("dc1", "dc10", false), ("*1", "dc10", false)];
        let more = [("d*1", "dc1", true), ("d*1*", "dc1x", true), ("a*b*c", "aXbYc", true), ("a*b*c", "acb", false)];
        for (pattern, text, expect) in cases.into_iter().chain(more) {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        }
        assert!(!glob("ab*b", "ab"));
    }
}
