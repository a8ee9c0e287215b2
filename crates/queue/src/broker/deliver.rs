//! What workers call.

use std::sync::Arc;

use model::{EvalId, Index};

use super::{Ack, Acked, Broker, Delivery, Out, Place, QueueError, Session, SessionId};
use crate::kind::Kind;
use crate::ready::job_key;
use crate::time::Now;

impl Broker {
    /// A worker connects. A session of that name which is still open is closed first.
    ///
    /// # Errors
    /// `NotActive`, `TooManySessions`.
    pub fn session_open(&mut self, session: &SessionId, now: Now) -> Result<(), QueueError> {
        self.advance(now);
        if self.active.is_none() {
            return Err(QueueError::NotActive);
        }
        self.close(session);
        if self.sessions.len() >= self.limits.sessions_max {
            return Err(QueueError::TooManySessions);
        }
        let opened = Session { beat_ms: self.last.mono_ms, out: std::collections::BTreeSet::new() };
        self.sessions.insert(session.clone(), opened);
        Ok(())
    }

    /// The worker lives.
    ///
    /// # Errors
    /// `UnknownSession`.
    pub fn beat(&mut self, session: &SessionId, now: Now) -> Result<(), QueueError> {
        self.observe(now);
        let session = self.sessions.get_mut(session).ok_or(QueueError::UnknownSession)?;
        session.beat_ms = self.last.mono_ms;
        Ok(())
    }

    /// The worker's connection ended: what it has goes out again at once.
    pub fn session_closed(&mut self, session: &SessionId, now: Now) {
        self.advance(now);
        self.close(session);
    }

    pub(super) fn close(&mut self, session: &SessionId) {
        let Some(closed) = self.sessions.remove(session) else { return };
        for id in closed.out {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.losses = entry.losses.saturating_add(1);
            }
            self.conclude(&id, false);
        }
    }

    /// The best evaluations for a worker, none when there are none or it has its fill.
    ///
    /// One that was lost with its worker twice already is delivered alone: should it be what kills
    /// workers, it takes no others with it.
    ///
    /// # Errors
    /// `NotActive`, `UnknownSession`.
    pub fn dequeue(
        &mut self,
        session: &SessionId,
        kinds: &[Kind],
        max: usize,
        now: Now,
    ) -> Result<Vec<Delivery>, QueueError> {
        self.advance(now);
        let Some((term, lease_index)) = self.active else { return Err(QueueError::NotActive) };
        self.beat(session, now)?;
        if !self.is_serving() {
            return Ok(Vec::new());
        }
        let held = self.sessions.get(session).map_or(0, |s| s.out.len());
        let max = max.min(self.limits.batch_max).min(self.limits.session_unacked_max.saturating_sub(held));
        let mut deliveries = Vec::new();
        while deliveries.len() < max {
            let Some(id) = self.ready.best(kinds).map(|key| key.2.clone()) else { break };
            let suspect = self.entries.get(&id).is_some_and(|entry| entry.losses >= 2);
            if suspect && !deliveries.is_empty() {
                break;
            }
            self.tokens += 1;
            let token = format!("{term}-{}", self.tokens);
            let Some(delivery) = self.deliver(&id, session, token, lease_index) else { break };
            deliveries.push(delivery);
            if suspect {
                break;
            }
        }
        Ok(deliveries)
    }

    fn deliver(&mut self, id: &EvalId, session: &SessionId, token: String, floor: Index) -> Option<Delivery> {
        let now_ms = self.last.mono_ms;
        let deadline_ms = now_ms.saturating_add(self.limits.delivery_ms);
        let holder = self.sessions.get_mut(session)?;
        let entry = self.entries.get_mut(id)?;
        self.ready.remove(entry.kind, &entry.row);
        let job_index = self.slots.get(&job_key(&entry.row)).map(|slot| slot.index).unwrap_or_default();
        let wait_index = floor.max(entry.row.modify_index).max(job_index);
        holder.out.insert(id.clone());
        self.deliveries.insert((deadline_ms, id.clone()));
        entry.place = Place::Out(Out {
            session: session.clone(),
            token: token.clone(),
            at_ms: now_ms,
            deadline_ms,
            left_pending: false,
        });
        let waited_ms = now_ms.saturating_sub(entry.since_ms);
        Some(Delivery { eval: Arc::clone(&entry.row), token, wait_index, waited_ms })
    }

    fn outstanding_of(&self, session: &SessionId, eval: &EvalId, token: &str) -> Result<Out, QueueError> {
        match self.entries.get(eval).map(|entry| &entry.place) {
            Some(Place::Out(out)) if out.token == token && out.session == *session => Ok(out.clone()),
            Some(Place::Out(_)) => Err(QueueError::TokenMismatch),
            _ => Err(QueueError::NotOutstanding),
        }
    }

    /// The worker is done: what it decided was committed at `index` or before. The job's place is free
    /// once the feed has brought the row at that index.
    ///
    /// # Errors
    /// `NotOutstanding`, `TokenMismatch`; nothing changes then.
    pub fn ack(
        &mut self,
        session: &SessionId,
        eval: &EvalId,
        token: &str,
        index: Index,
        now: Now,
    ) -> Result<Acked, QueueError> {
        self.advance(now);
        let out = self.outstanding_of(session, eval, token)?;
        let processed_ms = self.last.mono_ms.saturating_sub(out.at_ms);
        self.deliveries.remove(&(out.deadline_ms, eval.clone()));
        if let Some(session) = self.sessions.get_mut(session) {
            session.out.remove(eval);
        }
        let deadline_ms = self.last.mono_ms.saturating_add(self.limits.ack_lag_ms);
        let ack = Ack { index, deadline_ms, left_pending: out.left_pending };
        if let Some(entry) = self.entries.get_mut(eval) {
            let seen = index <= self.index || entry.row.status.is_terminal();
            if index <= self.index
                && let Some(slot) = self.slots.get_mut(&job_key(&entry.row))
            {
                slot.index = slot.index.max(index);
            }
            entry.place = Place::Acked(ack);
            if seen {
                self.conclude(eval, true);
            } else {
                self.acked.insert((index, eval.clone()));
                self.deliveries.insert((deadline_ms, eval.clone()));
            }
        }
        Ok(Acked { processed_ms })
    }

    /// The worker says that it failed.
    ///
    /// # Errors
    /// `NotOutstanding`, `TokenMismatch`; nothing changes then.
    pub fn nack(&mut self, session: &SessionId, eval: &EvalId, token: &str, now: Now) -> Result<(), QueueError> {
        self.advance(now);
        self.outstanding_of(session, eval, token)?;
        self.conclude_failed(eval);
        Ok(())
    }

    /// The worker hands it back through no fault of its own (no applier, shutting down): it goes out
    /// again at once and nothing is counted.
    ///
    /// # Errors
    /// `NotOutstanding`, `TokenMismatch`; nothing changes then.
    pub fn give_back(&mut self, session: &SessionId, eval: &EvalId, token: &str, now: Now) -> Result<(), QueueError> {
        self.advance(now);
        self.outstanding_of(session, eval, token)?;
        self.conclude(eval, false);
        Ok(())
    }

    /// A failure counts unless the row has moved on all the same.
    fn conclude_failed(&mut self, eval: &EvalId) {
        if let Some(entry) = self.entries.get_mut(eval)
            && let Place::Out(out) = &mut entry.place
        {
            out.left_pending = false;
        }
        self.conclude(eval, true);
    }

    /// The worker asks for a full delivery time again, for a plan that waits or a large job.
    ///
    /// # Errors
    /// `NotOutstanding`, `TokenMismatch`.
    pub fn extend(&mut self, session: &SessionId, eval: &EvalId, token: &str, now: Now) -> Result<(), QueueError> {
        self.advance(now);
        let out = self.outstanding_of(session, eval, token)?;
        let deadline_ms = self.last.mono_ms.saturating_add(self.limits.delivery_ms);
        self.deliveries.remove(&(out.deadline_ms, eval.clone()));
        self.deliveries.insert((deadline_ms, eval.clone()));
        if let Some(Place::Out(out)) = self.entries.get_mut(eval).map(|entry| &mut entry.place) {
            out.deadline_ms = deadline_ms;
        }
        Ok(())
    }
}
