//! A broker with a fake clock and one worker session.
#![allow(dead_code)]

use std::sync::Arc;

use model::{EvalStatus, Evaluation, Index, Term, Timestamp};
use queue::{Acked, Broker, Delivery, Effect, Freed, Kind, KindStats, Limits, Now, QueueError, SessionId};

pub const ALL: [Kind; 4] = [Kind::Service, Kind::Batch, Kind::System, Kind::SysBatch];

pub fn eval(id: &str, job: &str, index: u64) -> Evaluation {
    Evaluation {
        id: id.into(),
        job_id: job.into(),
        namespace: "default".into(),
        kind: "service".to_owned(),
        priority: 50,
        triggered_by: "job-register".to_owned(),
        create_index: Index(index),
        modify_index: Index(index),
        ..Evaluation::default()
    }
}

/// A blocked row, decided on the state at `index`.
pub fn blocked(id: &str, job: &str, index: u64) -> Evaluation {
    Evaluation {
        status: EvalStatus::Blocked,
        triggered_by: "queued-allocs".to_owned(),
        snapshot_index: Index(index),
        ..eval(id, job, index)
    }
}

pub fn arc(row: Evaluation) -> Arc<Evaluation> {
    Arc::new(row)
}

pub struct Rig {
    pub broker: Broker,
    pub now: Now,
    pub session: SessionId,
    ids: u64,
    asked: Vec<Effect>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        Self::build(limits, 0)
    }

    pub fn started_at(index: u64) -> Self {
        Self::build(Limits::default(), index)
    }

    fn build(limits: Limits, index: u64) -> Self {
        let now = Now { mono_ms: 1_000_000, wall: Timestamp(1_800_000_000_000_000_000) };
        let mut rig = Self {
            broker: Broker::new(limits, Index(index), now),
            now,
            session: "worker".into(),
            ids: 0,
            asked: Vec::new(),
        };
        rig.broker.on_index(Index(index.max(5)), now);
        rig.activate_at(1, index.max(5));
        rig.open();
        rig
    }

    pub fn activate(&mut self, term: u64) {
        self.activate_at(term, 5);
        self.open();
    }

    pub fn activate_at(&mut self, term: u64, index: u64) {
        self.broker.activate(Term(term), Index(index), self.now);
        self.broker.check();
    }

    pub fn open(&mut self) {
        self.broker.session_open(&self.session, self.now).unwrap();
        self.broker.check();
    }

    pub fn row(&mut self, row: Evaluation) {
        let index = row.modify_index.0;
        self.row_at(row, index);
    }

    pub fn row_at(&mut self, row: Evaluation, index: u64) {
        self.broker.on_eval(&Arc::new(row), self.now);
        self.broker.on_index(Index(index), self.now);
        self.broker.check();
    }

    pub fn free(&mut self, freed: Freed, index: u64) {
        self.broker.on_freed(&freed, Index(index), self.now);
    }

    pub fn freed(&mut self, node: &str, class: &str, index: u64) {
        self.free(Freed::Capacity { node: node.into(), class: class.to_owned() }, index);
    }

    pub fn broker_take(&mut self, max: usize) -> Vec<Delivery> {
        self.take(max)
    }

    pub fn take(&mut self, max: usize) -> Vec<Delivery> {
        self.take_of(&ALL.iter().copied().chain([Kind::Core]).collect::<Vec<_>>(), max)
    }

    pub fn take_of(&mut self, kinds: &[Kind], max: usize) -> Vec<Delivery> {
        let out = self.broker.dequeue(&self.session, kinds, max, self.now).unwrap();
        self.broker.check();
        out
    }

    pub fn take1(&mut self) -> Delivery {
        self.take(1).pop().unwrap()
    }

    pub fn names(&self, out: &[Delivery]) -> Vec<String> {
        out.iter().map(|d| d.eval.id.to_string()).collect()
    }

    pub fn ack(&mut self, d: &Delivery, index: u64) -> Result<Acked, QueueError> {
        let acked = self.broker.ack(&self.session, &d.eval.id, &d.token, Index(index), self.now);
        self.broker.check();
        acked
    }

    pub fn nack(&mut self, d: &Delivery) -> Result<(), QueueError> {
        let nacked = self.broker.nack(&self.session, &d.eval.id, &d.token, self.now);
        self.broker.check();
        nacked
    }

    /// The worker commits the eval's end and acknowledges.
    pub fn complete(&mut self, d: &Delivery) {
        let mut row = (*d.eval).clone();
        row.status = EvalStatus::Complete;
        row.snapshot_index = d.wait_index;
        row.modify_index = self.broker.index().max(row.modify_index).next();
        let index = row.modify_index.0;
        self.row(row);
        self.ack(d, index).unwrap();
    }

    /// Time passes in one step, unnoticed by the broker.
    pub fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall = Timestamp(self.now.wall.0 + i64::try_from(ms).unwrap() * 1_000_000);
    }

    /// Time passes with beats and ticks; effects are kept for `finished`, `unblocked` and `tick_seen`.
    pub fn live(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(500);
            self.pass(step);
            left -= step;
            let _ = self.broker.beat(&self.session, self.now);
            let effects = self.tick_now();
            self.asked.extend(effects);
        }
    }

    fn tick_now(&mut self) -> Vec<Effect> {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            format!("follow-up-{ids}")
        };
        let effects = self.broker.tick(self.now, &mut new_id, &|_, job| *job != "purged");
        self.broker.check();
        effects
    }

    pub fn tick(&mut self) -> Vec<Effect> {
        self.tick_now()
    }

    /// What `live` collected and what is asked for now.
    pub fn tick_seen(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.asked);
        effects.extend(self.tick_now());
        effects
    }

    pub fn finish_effect(&mut self) -> Option<(Vec<Evaluation>, Vec<Evaluation>)> {
        self.tick_seen().into_iter().find_map(|effect| match effect {
            Effect::Finish { evals, create } => Some((evals, create)),
            _ => None,
        })
    }

    pub fn finished(&mut self) -> Vec<Evaluation> {
        self.finish_effect().map(|(evals, _)| evals).unwrap_or_default()
    }

    /// Ids asked to be unblocked, once the window in which releases are gathered is over.
    pub fn unblocked(&mut self) -> Vec<String> {
        self.pass(50);
        let _ = self.broker.beat(&self.session, self.now);
        let effects = self.tick_seen();
        let mut ids: Vec<String> = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Unblock { evals, .. } => Some(evals),
                _ => None,
            })
            .flatten()
            .map(|id| id.to_string())
            .collect();
        ids.sort();
        ids
    }

    pub fn total(&self) -> KindStats {
        self.broker.stats().total()
    }
}
