//! What the feed brings: rows, releases, how far it has been followed.

use std::sync::Arc;

use model::{EvalId, EvalStatus, Evaluation, Index, JobId, NamespaceName};

use super::{Ack, Broker, Entry, Out, Place};
use crate::blocked::Freed;
use crate::finish::Why;
use crate::kind::Kind;
use crate::ready::{behind_key, job_key};
use crate::time::Now;

impl Broker {
    /// A row was created or changed, or is handed in again.
    pub fn on_eval(&mut self, row: &Arc<Evaluation>, now: Now) {
        self.observe(now);
        self.take_row(row);
    }

    /// A row was deleted.
    pub fn on_eval_gone(&mut self, id: &EvalId, now: Now) {
        self.observe(now);
        self.drop_row(id);
    }

    /// Something was freed at an index.
    pub fn on_freed(&mut self, freed: &Freed, index: Index, now: Now) {
        self.observe(now);
        self.blocked.freed(freed, index, self.last.mono_ms, &self.limits);
    }

    /// A plan of the job was applied; who gets the job next must have seen it.
    pub fn on_plan(&mut self, namespace: &NamespaceName, job: &JobId, index: Index) {
        if let Some(slot) = self.slots.get_mut(&(namespace.clone(), job.clone())) {
            slot.index = slot.index.max(index);
        }
    }

    /// All rows of the feed up to this index have been handed in.
    pub fn on_index(&mut self, index: Index, now: Now) {
        self.observe(now);
        self.index = self.index.max(index);
        while let Some((at, id)) = self.acked.first().filter(|(at, _)| *at <= self.index).cloned() {
            self.acked.remove(&(at, id.clone()));
            if let Some(entry) = self.entries.get(&id)
                && let Some(slot) = self.slots.get_mut(&job_key(&entry.row))
            {
                slot.index = slot.index.max(at);
            }
            self.conclude(&id, true);
        }
    }

    /// The feed began anew from a snapshot: these are all rows there are. What was freed in between is
    /// unknown, so whoever was blocked before is tried once more.
    pub fn resync<'a>(&mut self, rows: impl Iterator<Item = &'a Arc<Evaluation>>, index: Index, now: Now) {
        self.observe(now);
        let mut stale: std::collections::BTreeSet<EvalId> = self.entries.keys().cloned().collect();
        stale.extend(self.blocked.rows().map(|row| row.id.clone()));
        stale.extend(self.finishing.ids().cloned());
        let blocked: Vec<EvalId> = self.blocked.rows().map(|row| row.id.clone()).collect();
        for id in blocked {
            self.blocked.remove(&id);
        }
        self.blocked = crate::blocked::Blocked::new(index);
        self.overflow = 0;
        for row in rows {
            stale.remove(&row.id);
            self.take_row(row);
        }
        for id in stale {
            self.drop_row(&id);
        }
        self.on_index(index, now);
    }

    /// The answer to [`Effect::Rescan`](crate::Effect::Rescan): every pending and blocked row, as far as
    /// the feed has been followed.
    pub fn refill<'a>(&mut self, rows: impl Iterator<Item = &'a Arc<Evaluation>>, now: Now) {
        self.observe(now);
        self.overflow = 0;
        self.rescan_at_ms = 0;
        for row in rows {
            self.take_row(row);
        }
    }

    fn take_row(&mut self, row: &Arc<Evaluation>) {
        if let Some(slot) = self.slots.get_mut(&job_key(row)) {
            slot.index = slot.index.max(row.modify_index);
        }
        let held = self.entries.get(&row.id).map(|entry| &entry.row).or_else(|| self.blocked.row(&row.id));
        if held.is_some_and(|held| held.modify_index > row.modify_index) {
            return;
        }
        if matches!(row.status, EvalStatus::Complete | EvalStatus::Blocked) {
            self.supersede(&job_key(row), row.snapshot_index);
        }
        match row.status {
            EvalStatus::Pending => self.take_pending(row),
            EvalStatus::Blocked => self.take_blocked(row),
            EvalStatus::Complete | EvalStatus::Failed | EvalStatus::Cancelled => self.end_row(row),
        }
    }

    fn take_pending(&mut self, row: &Arc<Evaluation>) {
        self.blocked.remove(&row.id);
        if self.finishing.contains(&row.id) {
            return;
        }
        if self.entries.contains_key(&row.id) {
            self.replace_row(row);
        } else if self.has_room() {
            self.enqueue_new(row);
        }
    }

    fn take_blocked(&mut self, row: &Arc<Evaluation>) {
        match self.entries.get_mut(&row.id).map(|entry| (&mut entry.row, &mut entry.place)) {
            Some((held, Place::Out(Out { left_pending, .. }) | Place::Acked(Ack { left_pending, .. }))) => {
                *left_pending = true;
                *held = Arc::clone(row);
            }
            Some(_) => self.forget(&row.id),
            None => {}
        }
        if self.finishing.contains(&row.id) || !(self.blocked.contains(&row.id) || self.has_room()) {
            return;
        }
        if let Some(loser) = self.blocked.block(row) {
            self.finishing.add(loser, Why::BlockedDuplicate);
        }
    }

    /// The row is terminal. A worker that still has it keeps the job's place until it answers, so that
    /// it and the next one do not overlap; but not for long, its answer may have been lost.
    fn end_row(&mut self, row: &Arc<Evaluation>) {
        let Some(Entry { row: held, place: Place::Out(out), .. }) = self.entries.get_mut(&row.id) else {
            self.drop_row(&row.id);
            return;
        };
        out.left_pending = true;
        *held = Arc::clone(row);
        self.deliveries.remove(&(out.deadline_ms, row.id.clone()));
        out.deadline_ms = out.deadline_ms.min(self.last.mono_ms.saturating_add(self.limits.settle_ms));
        self.deliveries.insert((out.deadline_ms, row.id.clone()));
        self.blocked.remove(&row.id);
    }

    fn drop_row(&mut self, id: &EvalId) {
        self.blocked.remove(id);
        self.finishing.remove(id);
        self.forget(id);
    }

    fn has_room(&mut self) -> bool {
        let room = self.held() < self.limits.evals_max;
        if !room {
            self.overflow = self.overflow.saturating_add(1);
        }
        room
    }

    pub(super) fn enqueue_new(&mut self, row: &Arc<Evaluation>) {
        let Some(kind) = Kind::of(row) else {
            self.finishing.add(Arc::clone(row), Why::UnknownKind);
            return;
        };
        let slot = self.slots.entry(job_key(row)).or_default();
        slot.held += 1;
        slot.index = slot.index.max(row.modify_index);
        let entry = Entry {
            row: Arc::clone(row),
            kind,
            place: Place::Backoff(0),
            failures: 0,
            losses: 0,
            since_ms: self.last.mono_ms,
        };
        self.entries.insert(row.id.clone(), entry);
        self.admit_when_due(&row.id);
    }

    /// A pending row changed and is pending still, or again.
    fn replace_row(&mut self, row: &Arc<Evaluation>) {
        let Some(entry) = self.entries.get_mut(&row.id) else { return };
        let old = std::mem::replace(&mut entry.row, Arc::clone(row));
        match entry.place {
            Place::Ready => {
                let kind = entry.kind;
                self.ready.remove(kind, &old);
                self.ready.insert(kind, row);
            }
            Place::Behind => {
                if let Some(slot) = self.slots.get_mut(&job_key(row)) {
                    slot.behind.remove(&behind_key(&old));
                    slot.behind.insert(behind_key(row));
                }
            }
            Place::Timed(due) => {
                self.timed.remove(&(due, row.id.clone()));
                self.admit_when_due(&row.id);
            }
            Place::Backoff(_) | Place::Out(_) | Place::Acked(_) => {}
        }
    }
}
