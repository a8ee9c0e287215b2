//! What time brings, and what the shell shall do.

use model::JobId;
use model::ids::NewId;
use model::{EvalId, NamespaceName};

use super::{Broker, Place, SessionId};
use crate::effect::Effect;
use crate::finish::Outside;
use crate::ready::JobKey;
use crate::time::Now;

impl Broker {
    /// Lets time pass and gives what is to be proposed. Call it after inputs and at
    /// [`next_deadline_ms`](Self::next_deadline_ms). `job_exists` decides whether an evaluation that is
    /// given up gets a follow-up.
    pub fn tick(
        &mut self,
        now: Now,
        new_id: NewId<'_>,
        job_exists: &dyn Fn(&NamespaceName, &JobId) -> bool,
    ) -> Vec<Effect> {
        self.advance(now);
        if !self.is_serving() {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let job_exists = |key: &JobKey| job_exists(&key.0, &key.1);
        let mut outside = Outside { new_id, job_exists: &job_exists };
        while let Some(effect) = self.finishing.effect(self.last, &self.limits, &mut outside) {
            effects.push(effect);
        }
        if self.ready.len() <= self.limits.ready_before_unblock_max
            && let Some((evals, reason)) = self.blocked.take_wanted(self.last.mono_ms, &self.limits)
        {
            effects.push(Effect::Unblock { evals, reason });
        }
        if self.wants_rescan() && self.last.mono_ms >= self.rescan_at_ms {
            self.rescan_at_ms = self.last.mono_ms.saturating_add(self.limits.effect_retry_ms.max(1));
            effects.push(Effect::Rescan);
        }
        effects
    }

    /// When `tick` wants to be called next, on the shell's monotonic clock; in the past when there is
    /// something to do now, `None` when only an input can change anything.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let now_ms = self.last.mono_ms;
        let serving = self.is_serving();
        let timed = self.timed.first().map(|(due, _)| {
            let ahead = due.unix_nanos().saturating_sub(self.last.wall.unix_nanos()).max(0);
            // The wall clock may be set while we wait for it.
            let ahead_ms = u64::try_from(ahead).unwrap_or(0).div_ceil(1_000_000).min(10_000);
            now_ms.saturating_add(ahead_ms)
        });
        let unblock = serving && self.blocked.has_wanted() && self.ready.len() <= self.limits.ready_before_unblock_max;
        let effects = [
            if serving { self.finishing.next_due_ms() } else { None },
            unblock.then_some(now_ms),
            self.blocked.next_deadline_ms(&self.limits),
            (serving && self.wants_rescan()).then_some(self.rescan_at_ms),
            timed,
            self.backoff.first().map(|(due, _)| *due),
            self.deliveries.first().map(|(due, _)| *due),
            self.sessions.values().map(|s| s.beat_ms.saturating_add(self.limits.session_ms)).min(),
            // Often enough that a standstill of the shell is noticed as one.
            (!self.sessions.is_empty()).then_some(now_ms.saturating_add(self.limits.gap_ms / 2)),
        ];
        effects.into_iter().flatten().min()
    }

    fn wants_rescan(&self) -> bool {
        self.overflow > 0 && self.held() <= self.limits.evals_max / 4 * 3
    }

    /// Everything that falls due, without effects.
    pub(super) fn advance(&mut self, now: Now) {
        self.observe(now);
        let (now_ms, wall) = (self.last.mono_ms, self.last.wall);
        let ttl = self.limits.session_ms;
        let dead = self.sessions.iter().filter(|(_, s)| s.beat_ms.saturating_add(ttl) <= now_ms);
        for id in dead.map(|(id, _)| id.clone()).collect::<Vec<SessionId>>() {
            self.close(&id);
        }
        while let Some((due, id)) = self.deliveries.first().filter(|(due, _)| *due <= now_ms).cloned() {
            self.deliveries.remove(&(due, id.clone()));
            self.overdue(&id);
        }
        while let Some((due, id)) = self.timed.first().filter(|(due, _)| *due <= wall).cloned() {
            self.timed.remove(&(due, id.clone()));
            self.admit(&id);
        }
        while let Some((due, id)) = self.backoff.first().filter(|(due, _)| *due <= now_ms).cloned() {
            self.backoff.remove(&(due, id.clone()));
            self.admit(&id);
        }
        self.blocked.advance(now_ms, &self.limits);
    }

    /// No answer, or an answer whose row never came: delivered again, and not counted.
    fn overdue(&mut self, id: &EvalId) {
        if let Some(entry) = self.entries.get_mut(id)
            && matches!(entry.place, Place::Out(_))
        {
            entry.losses = entry.losses.saturating_add(1);
        }
        self.conclude(id, false);
    }
}
