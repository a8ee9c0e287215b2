//! Moving evaluations between places.

use std::sync::Arc;

use model::{EvalId, EvalStatus, Evaluation, Index, Timestamp};

use super::{Broker, Place};
use crate::finish::Why;
use crate::ready::{JobKey, behind_key, job_key};

impl Broker {
    /// Into the job's slot now, or later if the row says so. The entry is in no place.
    pub(super) fn admit_when_due(&mut self, id: &EvalId) {
        let wall = self.last.wall;
        let Some(entry) = self.entries.get_mut(id) else { return };
        match due(&entry.row, wall) {
            Some(due) if due > wall => {
                entry.place = Place::Timed(due);
                self.timed.insert((due, id.clone()));
            }
            _ => self.admit(id),
        }
    }

    /// Into the job's slot: ready, or behind the holder.
    pub(super) fn admit(&mut self, id: &EvalId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let slot = self.slots.entry(job_key(&entry.row)).or_default();
        if slot.holder.is_none() {
            slot.holder = Some(id.clone());
            entry.place = Place::Ready;
            entry.since_ms = self.last.mono_ms;
            self.ready.insert(entry.kind, &entry.row);
        } else {
            entry.place = Place::Behind;
            slot.behind.insert(behind_key(&entry.row));
        }
    }

    /// The holder is done with the job: the best that waits is next.
    pub(super) fn free_slot(&mut self, key: &JobKey) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.holder = None;
        let Some((_, _, best)) = slot.behind.pop_first() else { return };
        self.admit(&best);
    }

    /// A scheduler has decided on a state that included everything up to `index`: what waits behind
    /// and is no newer would decide the same. Not before: the one that is *going* to be delivered may
    /// have been finished already by a worker that was thought dead.
    pub(super) fn supersede(&mut self, key: &JobKey, index: Index) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let covered: Vec<_> = slot.behind.iter().filter(|behind| behind.1.0 <= index).cloned().collect();
        for behind in &covered {
            slot.behind.remove(behind);
        }
        for (_, _, id) in covered {
            if let Some(row) = self.remove_entry(&id) {
                self.finishing.add(row, Why::Superseded);
            }
        }
    }

    /// Takes an entry out of the map and its slot's count; its place must have been cleared.
    fn remove_entry(&mut self, id: &EvalId) -> Option<Arc<Evaluation>> {
        let entry = self.entries.remove(id)?;
        let key = job_key(&entry.row);
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.held = slot.held.saturating_sub(1);
            if slot.held == 0 {
                self.slots.remove(&key);
            }
        }
        Some(entry.row)
    }

    /// The evaluation is no longer the queue's, wherever it is.
    pub(super) fn forget(&mut self, id: &EvalId) {
        let Some(entry) = self.entries.get(id) else { return };
        let key = job_key(&entry.row);
        let row = Arc::clone(&entry.row);
        let kind = entry.kind;
        match &entry.place {
            Place::Ready => self.ready.remove(kind, &row),
            Place::Behind => {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.behind.remove(&behind_key(&row));
                }
            }
            Place::Timed(due) => {
                self.timed.remove(&(*due, id.clone()));
            }
            Place::Backoff(due) => {
                self.backoff.remove(&(*due, id.clone()));
            }
            Place::Out(out) => {
                let (session, deadline) = (out.session.clone(), out.deadline_ms);
                self.deliveries.remove(&(deadline, id.clone()));
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.out.remove(id);
                }
            }
            Place::Acked(ack) => {
                let (index, deadline) = (ack.index, ack.deadline_ms);
                self.acked.remove(&(index, id.clone()));
                self.deliveries.remove(&(deadline, id.clone()));
            }
        }
        let held_slot = self.slots.get(&key).is_some_and(|slot| slot.holder.as_ref() == Some(id));
        self.remove_entry(id);
        if held_slot {
            self.free_slot(&key);
        }
    }

    /// The delivery is over: the row says what comes of the evaluation. `answered`: the worker claims
    /// to be done with it, and the feed has reached the index it named.
    pub(super) fn conclude(&mut self, id: &EvalId, answered: bool) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let left_pending = match &entry.place {
            Place::Acked(ack) => {
                self.deliveries.remove(&(ack.deadline_ms, id.clone()));
                self.acked.remove(&(ack.index, id.clone()));
                ack.left_pending
            }
            Place::Out(out) => {
                self.deliveries.remove(&(out.deadline_ms, id.clone()));
                if let Some(session) = self.sessions.get_mut(&out.session) {
                    session.out.remove(id);
                }
                out.left_pending
            }
            _ => return,
        };
        if entry.row.status != EvalStatus::Pending {
            let key = job_key(&entry.row);
            self.remove_entry(id);
            self.free_slot(&key);
        } else if answered && !left_pending {
            entry.failures = entry.failures.saturating_add(1);
            self.retry_later(id);
        } else {
            if left_pending {
                entry.failures = 0;
                entry.losses = 0;
            }
            self.requeue(id);
        }
    }

    /// Back into the job's slot at once, beside those that wait there.
    pub(super) fn requeue(&mut self, id: &EvalId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let key = job_key(&entry.row);
        entry.place = Place::Behind;
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.behind.insert(behind_key(&entry.row));
        }
        self.free_slot(&key);
    }

    /// After a failure: given up at the limit, else later. Others of the job go first.
    pub(super) fn retry_later(&mut self, id: &EvalId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let key = job_key(&entry.row);
        let failures = entry.failures;
        if failures >= self.limits.failures_max {
            if let Some(row) = self.remove_entry(id) {
                self.finishing.add(row, Why::Failures(failures));
            }
        } else {
            let delay_ms = match failures {
                0 | 1 => self.limits.failure_first_ms,
                n => self.limits.failure_next_ms.saturating_mul(u64::from(n) - 1),
            };
            let due = self.last.mono_ms.saturating_add(delay_ms);
            entry.place = Place::Backoff(due);
            self.backoff.insert((due, id.clone()));
        }
        self.free_slot(&key);
    }

    /// Everything anew from its row: no deliveries, no back-off, nothing given up.
    pub(super) fn requeue_everything(&mut self) {
        let mut rows: Vec<Arc<Evaluation>> = std::mem::take(&mut self.entries)
            .into_values()
            .map(|entry| entry.row)
            .filter(|row| row.status == EvalStatus::Pending)
            .collect();
        let given_up = self.finishing.drain_rows();
        self.slots.clear();
        self.ready = crate::ready::Ready::default();
        self.timed.clear();
        self.backoff.clear();
        self.deliveries.clear();
        self.acked.clear();
        for row in given_up {
            if row.status == EvalStatus::Blocked {
                if let Some(loser) = self.blocked.block(&row) {
                    self.finishing.add(loser, Why::BlockedDuplicate);
                }
            } else {
                rows.push(row);
            }
        }
        for row in rows {
            self.enqueue_new(&row);
        }
    }
}

/// When the row may be delivered, by the wall clock. A relative wait counts from when the row was
/// written, but never makes it later than the wait from now: clocks of two machines may differ.
fn due(row: &Evaluation, wall: Timestamp) -> Option<Timestamp> {
    let until = row.wait_until.filter(|until| !until.is_zero());
    let after = (row.wait.0 > 0).then(|| {
        let from = if row.modify_time > 0 { Timestamp(row.modify_time) } else { wall };
        from.plus(row.wait).min(wall.plus(row.wait))
    });
    until.max(after)
}
