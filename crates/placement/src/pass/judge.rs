//! What a changed job means for an allocation of an older version: nothing, an update in place, or a
//! replacement.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Index, Job, Node, NodeStatus, TaskGroup};

use crate::feasible::Checks;
use crate::read;
use crate::reconcile::{Row, Update};
use crate::updates;
use crate::volumes::{AtNode, resolved};
use crate::work::Work;

/// Judges what a changed job means for its allocations.
pub(super) struct Judge<'a, 'w> {
    work: &'w Work<'a>,
    job: Option<&'a Arc<Job>>,
    cache: RefCell<BTreeMap<(Index, u64, String), bool>>,
    checks: RefCell<BTreeMap<String, Checks>>,
}

impl<'a, 'w> Judge<'a, 'w> {
    pub(super) fn new(work: &'w Work<'a>, job: Option<&'a Arc<Job>>) -> Self {
        Self { work, job, cache: RefCell::default(), checks: RefCell::default() }
    }

    pub(super) fn classify(&self, alloc: Row<'a>) -> Update {
        let Some(job) = self.job else { return Update::Ignore };
        let (incarnation, version) = read::alloc_revision(alloc);
        if (incarnation, version) == read::revision(job) {
            return Update::Ignore;
        }
        let key = (incarnation, version, alloc.task_group.clone());
        let known = self.cache.borrow().get(&key).copied();
        let destructive = known.unwrap_or_else(|| {
            let old = self.work.state.job_of_alloc(alloc).filter(|_| incarnation == job.incarnation());
            let destructive = old.is_none_or(|old| updates::destructive(old, job, &alloc.task_group));
            self.cache.borrow_mut().insert(key, destructive);
            destructive
        });
        if destructive {
            return Update::Destructive;
        }
        if alloc.is_terminal() {
            return Update::Ignore;
        }
        let Some(node) = self.work.state.node(&alloc.node_id) else { return Update::Destructive };
        if !node.is_in_pool(job.node_pool()) || !read::in_datacenters(job, &node.datacenter) {
            return Update::Destructive;
        }
        if node.status != NodeStatus::Ready {
            // Nothing can be told to it now; an evaluation comes when it is back.
            return Update::Ignore;
        }
        let Some(group) = job.lookup_group(&alloc.task_group) else { return Update::Destructive };
        let mut all = self.checks.borrow_mut();
        let checks = all.entry(alloc.task_group.clone()).or_insert_with(|| Checks::new(job, group));
        let alone = self.work.fleet.slot(&alloc.node_id).is_none_or(|slot| self.work.of_job(slot) <= 1);
        let crowded = (checks.distinct_hosts_job || checks.distinct_hosts_group) && !alone;
        if crowded || checks.shared(node).and_then(|()| checks.own(node)).is_err() {
            return Update::Destructive;
        }
        if checks.has_volumes() && !self.keeps_volumes(job, group, alloc, node) {
            return Update::Destructive;
        }
        Update::InPlace
    }

    /// Whether its node still has the volumes that it uses, apart from its own use of them.
    fn keeps_volumes(&self, job: &Job, group: &TaskGroup, alloc: Row<'a>, node: &Node) -> bool {
        let (own, volumes) = (resolved(group, &alloc.name), self.work.fleet.volumes());
        let Some(slot) = self.work.fleet.slot(&alloc.node_id) else { return false };
        let Some(group_no) = self.work.group_no(group.name()) else { return false };
        let site = AtNode { work: self.work, slot, group_no, without: Some(&alloc.id) };
        Checks::new(job, &own).volumes(node, volumes, &site).is_ok()
    }
}
