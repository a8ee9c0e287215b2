//! Random interleavings of rows, workers, time, lost effects, lagging feeds and takeovers: nothing is
//! lost, no two evaluations of a job are out together, nobody else's token works.
#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use model::{EvalId, EvalStatus, Evaluation, Index, JobId, Term, Timestamp};
use proptest::prelude::*;
use queue::{Broker, Delivery, Effect, Freed, Limits, Now, SessionId};
use rig::{ALL, eval};

const JOBS: u64 = 4;
const WORKERS: usize = 3;

#[derive(Clone, Debug)]
enum Line {
    Row(Arc<Evaluation>),
    Capacity(String),
}

/// A state service in miniature, a feed that lags, a broker, and workers.
struct World {
    rows: BTreeMap<EvalId, Arc<Evaluation>>,
    index: Index,
    feed: VecDeque<(Index, Vec<Line>)>,
    broker: Broker,
    term: u64,
    now: Now,
    workers: Vec<(SessionId, Vec<Delivery>)>,
    ids: u64,
    /// Best index that a completed delivery of each job had seen.
    covered: BTreeMap<JobId, Index>,
    newest: BTreeMap<JobId, Index>,
    tokens: BTreeSet<String>,
    effects_get_lost: bool,
}

impl World {
    fn new() -> Self {
        let now = Now { mono_ms: 1_000, wall: Timestamp(1_800_000_000_000_000_000) };
        let limits = Limits { evals_max: 40, freed_keys_max: 3, ..Limits::default() };
        let mut world = Self {
            rows: BTreeMap::new(),
            index: Index(1),
            feed: VecDeque::new(),
            broker: Broker::new(limits, Index(0), now),
            term: 0,
            now,
            workers: (0..WORKERS).map(|n| (SessionId::from(format!("w{n}").as_str()), Vec::new())).collect(),
            ids: 0,
            covered: BTreeMap::new(),
            newest: BTreeMap::new(),
            tokens: BTreeSet::new(),
            effects_get_lost: true,
        };
        world.take_over();
        world
    }

    fn commit(&mut self, lines: Vec<Line>) {
        self.feed.push_back((self.index, lines));
    }

    fn put(&mut self, mut row: Evaluation) -> Line {
        row.modify_index = self.index;
        let row = Arc::new(row);
        self.rows.insert(row.id.clone(), Arc::clone(&row));
        Line::Row(row)
    }

    fn create(&mut self, job: u64, byte: u8) {
        self.index = self.index.next();
        self.ids += 1;
        let mut row = eval(&format!("e{:04}", self.ids), &format!("j{job}"), self.index.0);
        row.priority = 50 + i64::from(byte % 3);
        row.create_time = self.now.wall.0;
        row.modify_time = self.now.wall.0;
        if byte.is_multiple_of(5) {
            row.wait = model::Nanos::from_secs(i64::from(byte % 7));
        }
        self.newest.insert(row.job_id.clone(), self.index);
        let line = self.put(row);
        self.commit(vec![line]);
    }

    fn follow(&mut self) {
        let Some((index, lines)) = self.feed.pop_front() else { return };
        for line in lines {
            match line {
                Line::Row(row) => self.broker.on_eval(&row, self.now),
                Line::Capacity(class) => {
                    self.broker.on_freed(&Freed::Capacity { node: "n".into(), class }, index, self.now);
                }
            }
        }
        self.broker.on_index(index, self.now);
    }

    fn take_over(&mut self) {
        self.term += 1;
        self.index = self.index.next();
        self.commit(Vec::new());
        self.broker.deactivate(self.now);
        self.broker.activate(Term(self.term), self.index, self.now);
        for n in 0..WORKERS {
            self.open(n);
        }
    }

    fn open(&mut self, worker: usize) {
        let (session, held) = &mut self.workers[worker];
        held.clear();
        self.broker.session_open(session, self.now).unwrap();
    }

    fn dequeue(&mut self, worker: usize, max: usize) {
        let session = self.workers[worker].0.clone();
        let Ok(out) = self.broker.dequeue(&session, &ALL, max, self.now) else {
            self.open(worker);
            return;
        };
        for d in &out {
            assert!(self.tokens.insert(d.token.clone()), "a token is never used twice");
            assert!(d.wait_index >= d.eval.modify_index);
            assert!(d.token.starts_with(&format!("{}-", self.term)));
        }
        self.workers[worker].1.extend(out);
        let mut jobs = BTreeSet::new();
        for d in self.workers.iter().flat_map(|(_, held)| held) {
            if self.broker.outstanding(&d.eval.id) == Some(&d.token) {
                assert!(jobs.insert(d.eval.job_id.clone()), "two evaluations of one job are out");
            }
        }
    }

    /// A worker finishes what it holds: as the state machine would, only a pending row moves.
    fn finish(&mut self, worker: usize, status: EvalStatus, answer: bool) {
        let (session, held) = &mut self.workers[worker];
        let session = session.clone();
        let Some(d) = held.pop() else { return };
        if self.rows[&d.eval.id].status == EvalStatus::Pending {
            self.index = self.index.next();
            let mut lines = Vec::new();
            let mut row = (*self.rows[&d.eval.id]).clone();
            row.status = status;
            row.snapshot_index = d.wait_index;
            row.class_eligibility = [("c0".to_owned(), true), ("c1".to_owned(), false)].into();
            lines.push(self.put(row));
            if status == EvalStatus::Complete {
                let covered = self.covered.entry(d.eval.job_id.clone()).or_default();
                *covered = d.wait_index.max(*covered);
                let siblings: Vec<_> = self.rows.values().filter(|r| r.job_id == d.eval.job_id).cloned().collect();
                for other in siblings.into_iter().filter(|r| r.status == EvalStatus::Blocked) {
                    let mut row = (*other).clone();
                    row.status = EvalStatus::Cancelled;
                    lines.push(self.put(row));
                }
            }
            self.commit(lines);
        }
        if answer {
            let _ = self.broker.ack(&session, &d.eval.id, &d.token, self.index, self.now);
        }
    }

    fn lie(&mut self, worker: usize, fail: bool) {
        let (session, held) = &mut self.workers[worker];
        let Some(d) = held.pop() else { return };
        let _ = if fail {
            self.broker.nack(session, &d.eval.id, &d.token, self.now)
        } else {
            self.broker.ack(session, &d.eval.id, &d.token, self.index, self.now).map(|_| ())
        };
    }

    fn forge(&mut self, worker: usize) {
        let other = &self.workers[(worker + 1) % WORKERS].0;
        if let Some(d) = self.workers[worker].1.last() {
            let before = self.broker.outstanding(&d.eval.id).map(str::to_owned);
            assert!(self.broker.ack(other, &d.eval.id, &d.token, self.index, self.now).is_err());
            assert!(self.broker.nack(other, &d.eval.id, "0-0", self.now).is_err());
            assert_eq!(self.broker.outstanding(&d.eval.id).map(str::to_owned), before);
        }
    }

    fn capacity(&mut self, class: u8) {
        self.index = self.index.next();
        self.commit(vec![Line::Capacity(format!("c{}", class % 4))]);
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall = Timestamp(self.now.wall.0 + i64::try_from(ms).unwrap() * 1_000_000);
    }

    fn resync(&mut self) {
        self.feed.clear();
        let open: Vec<_> = self.rows.values().filter(|row| !row.status.is_terminal()).cloned().collect();
        self.broker.resync(open.iter(), self.index, self.now);
    }

    fn tick(&mut self, lose: bool) {
        let mut ids = self.ids;
        let mut new_id = || {
            ids += 1;
            format!("f{ids:04}")
        };
        let effects = self.broker.tick(self.now, &mut new_id, &|_, _| true);
        self.ids = ids;
        if lose && self.effects_get_lost {
            return;
        }
        for effect in effects {
            if effect != Effect::Rescan {
                self.index = self.index.next();
            }
            let mut lines = Vec::new();
            match effect {
                Effect::Unblock { evals, .. } => {
                    for id in evals {
                        if self.rows[&id].status == EvalStatus::Blocked {
                            let mut row = (*self.rows[&id]).clone();
                            row.status = EvalStatus::Pending;
                            lines.push(self.put(row));
                        }
                    }
                }
                Effect::Finish { evals, create } => {
                    for row in evals {
                        assert!(row.status.is_terminal());
                        if !self.rows[&row.id].status.is_terminal() {
                            lines.push(self.put(row));
                        }
                    }
                    for mut row in create {
                        if !self.rows.contains_key(&row.id) {
                            row.create_index = self.index;
                            lines.push(self.put(row));
                        }
                    }
                }
                Effect::Rescan => {
                    while !self.feed.is_empty() {
                        self.follow();
                    }
                    let open: Vec<_> = self.rows.values().filter(|row| !row.status.is_terminal()).cloned().collect();
                    self.broker.refill(open.iter(), self.now);
                }
            }
            if !lines.is_empty() {
                self.commit(lines);
            }
        }
    }

    fn step(&mut self, op: u8, byte: u8) {
        let worker = usize::from(byte) % WORKERS;
        match op % 20 {
            0..=3 => self.create(u64::from(byte) % JOBS, byte / 4),
            4..=7 => self.follow(),
            8..=10 => self.dequeue(worker, 1 + usize::from(byte / 64)),
            11 | 12 => self.finish(worker, EvalStatus::Complete, byte < 230),
            13 => self.finish(worker, EvalStatus::Blocked, byte < 230),
            14 => self.lie(worker, byte < 128),
            15 => self.capacity(byte),
            16 => self.pass(u64::from(byte) * 40),
            17 => self.open(worker),
            18 => self.forge(worker),
            _ if byte < 60 => self.take_over(),
            _ if byte < 100 => self.resync(),
            _ => self.pass(20),
        }
        self.tick(byte.is_multiple_of(4));
        self.broker.check();
        assert!(self.broker.stats().total().unacked <= usize::try_from(JOBS).unwrap());
    }

    /// Everything works from here on: all that is open must come to an end.
    fn drain(&mut self) {
        self.effects_get_lost = false;
        for round in 0..400 {
            while !self.feed.is_empty() {
                self.follow();
            }
            self.pass(900);
            for worker in 0..WORKERS {
                let session = self.workers[worker].0.clone();
                if self.broker.beat(&session, self.now).is_err() {
                    self.open(worker);
                }
                self.dequeue(worker, 8);
                while !self.workers[worker].1.is_empty() {
                    self.finish(worker, EvalStatus::Complete, true);
                }
            }
            self.tick(false);
            self.broker.check();
            if round % 50 == 0 {
                self.capacity(0);
            }
            if round > 60 && self.rows.values().all(|row| row.status.is_terminal()) && self.feed.is_empty() {
                return;
            }
        }
        let open: Vec<_> = self.rows.values().filter(|row| !row.status.is_terminal()).collect();
        assert!(open.is_empty(), "lost: {open:#?}\n{:#?}", self.broker.stats());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_eval_is_lost_and_no_job_is_worked_on_twice(ops in prop::collection::vec((any::<u8>(), any::<u8>()), 1..250)) {
        let mut world = World::new();
        for (op, byte) in ops {
            world.step(op, byte);
        }
        world.drain();
        for (job, newest) in &world.newest {
            let covered = world.covered.get(job).copied().unwrap_or_default();
            prop_assert!(covered >= *newest, "the last wish for {job:?} was made at {newest} and seen at {covered}");
        }
        prop_assert_eq!(world.broker.stats().total(), Default::default());
    }
}
