//! Job summaries counted anew from the allocations there are: for numbers that went astray. What is history
//! (groups that the job no longer has, ended allocations that were forgotten) is gone after it.

use std::collections::BTreeMap;

use model::summary::TaskGroupSummary;

use super::tx::{Tx, bucket};
use crate::command::{Refusal, Reply};

pub(super) fn reconcile(tx: &mut Tx) -> Result<Reply, Refusal> {
    let jobs: Vec<_> = tx.state.jobs().cloned().collect();
    for job in jobs {
        let key = job.key();
        let groups = job.task_groups.iter().map(|group| (group.name().to_owned(), TaskGroupSummary::default()));
        let mut counted: BTreeMap<String, TaskGroupSummary> = groups.collect();
        for alloc in tx.state.allocs_of_job(&key.0, &key.1) {
            if alloc.job_incarnation == job.create_index
                && (counted.contains_key(&alloc.task_group) || !alloc.client_terminal())
            {
                let group = counted.entry(alloc.task_group.clone()).or_default();
                *bucket(group, alloc.client_status) += 1;
            }
        }
        let summary = tx.summary_or_new(&key);
        for (name, group) in &mut counted {
            group.queued = summary.summary.get(name).map_or(0, |old| old.queued);
        }
        summary.summary = counted;
    }
    Ok(Reply::Done)
}
