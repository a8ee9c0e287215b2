//! Finds the best node for each allocation of one group, over all nodes.
//!
//! ```text
//!  new():  scan all slots once ──> seats (standing, sum of scores)   O(M)
//!                              └─> buckets: one heap per (spread tuple, number of scores given)
//!  pick(): sync() re-scores the slots that changed since              O(changes · log M)
//!          best of the buckets' tops; the top five go into the metric
//! ```
//!
//! Within a bucket all nodes get the same spread score and divide by the same number, so the order by
//! sum is the order by final score, whatever the spread score is at the moment: a placement changes one
//! node's sum and a few tuples' spread scores, and never forces a re-scoring of everything.
//!
//! Full scan makes all schedulers like the same node, and who comes second finds it full. A retry therefore
//! draws, by its seed, from the best few that differ only in how full they are.
//!
//! Invariants: the node picked is one that a scan of all nodes with the formulas of [`crate::score`]
//! would pick, retries aside (the tests compare the two); equal scores are ordered by a hash seeded per evaluation; an
//! entry in a heap is void unless its version is the seat's.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use model::metric::{AllocMetric, NodeScoreMeta};
use model::{Job, Node, TaskGroup};

use crate::ask::Ask;
use crate::constraint::Check;
use crate::feasible::{Checks, Filter};
use crate::fleet::{Hot, Slot};
use crate::read;
use crate::rng::tie;
use crate::score;
use crate::seats::{ReasonNo, Seat, Seats, Standing};
use crate::spread::{Spreads, Tuple};
use crate::work::{GroupNo, Work};

/// Nodes whose scores go into a metric.
const SCORES_KEPT: usize = 5;
/// Why a node whose stream broke gets nothing, as metrics count it.
pub(crate) const SUSPECT: &str = "node does not answer";

#[derive(Clone, Copy, Debug)]
struct Entry {
    sum: f64,
    tie: u64,
    slot: Slot,
    version: u32,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.sum.total_cmp(&other.sum).then(self.tie.cmp(&other.tie));
        by_score.then_with(|| other.slot.cmp(&self.slot)).then(self.version.cmp(&other.version))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// What nodes of one shape have in common for this group.
#[derive(Clone, Copy, Debug)]
struct ShapeView {
    failed: Option<ReasonNo>,
    /// Whether nodes of its computed class may run the group; `None` when the class does not say.
    class: Option<bool>,
    affinity: Option<f64>,
    tuple: Tuple,
}

/// A node that was found.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub slot: Slot,
    ranked: Vec<Ranked>,
}

#[derive(Clone, Copy, Debug)]
struct Ranked {
    slot: Slot,
    score: f64,
    /// The sum as the heaps order it, so that scores that round to the same stay ordered.
    sum: f64,
    tie: u64,
    penalty: bool,
    spread: Option<f64>,
}

impl Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score).then(other.sum.total_cmp(&self.sum));
        by_score.then(other.tie.cmp(&self.tie)).then(self.slot.cmp(&other.slot))
    }
}

/// How many allocations share each value of a property.
#[derive(Clone, Debug, Default)]
struct PropertyUse {
    used: BTreeMap<String, i64>,
    /// Nodes that were filtered because of a value.
    waiting: BTreeMap<String, Vec<Slot>>,
}

/// One group's search; see the module's text.
pub(crate) struct Placer {
    pub job: Arc<Job>,
    pub group: TaskGroup,
    pub group_no: GroupNo,
    pub ask: Ask,
    checks: Checks,
    /// One allocation per node: room and feasibility only, no ranking.
    per_node: bool,
    affinities: Vec<(Check, i64)>,
    own_affinity: bool,
    own_tuple: bool,
    spreads: Spreads,
    properties: Vec<PropertyUse>,
    pool: Option<u32>,
    any_pool: bool,
    datacenters: Vec<bool>,
    shapes: Vec<Option<ShapeView>>,
    seats: Seats,
    buckets: BTreeMap<(Tuple, u8), BinaryHeap<Entry>>,
    available: BTreeMap<String, i64>,
    cursor: usize,
}

impl Placer {
    pub(crate) fn new(work: &mut Work<'_>, job: &Arc<Job>, group: &TaskGroup, per_node: bool) -> Self {
        let group_no = work.group(group.name());
        let of_tasks = group.tasks.iter().flat_map(|t| &t.affinities);
        let affinities: Vec<(Check, i64)> = (job.affinities.iter().chain(&group.affinities).chain(of_tasks))
            .map(|a| (Check::new(&a.l_target, &a.operand, &a.r_target), a.weight.unwrap_or(0)))
            .collect();
        let spreads = if per_node { Spreads::default() } else { Spreads::new(job, group) };
        let unique = |s: &model::job::Spread| crate::constraint::escapes(&s.attribute);
        let checks = Checks::new(job, group);
        let fleet = &work.fleet;
        let mut placer = Self {
            job: job.clone(),
            group: group.clone(),
            group_no,
            ask: Ask::new(group, work.oversubscription),
            per_node,
            own_affinity: affinities.iter().any(|(check, _)| check.escaped),
            own_tuple: job.spreads.iter().chain(&group.spreads).any(unique),
            affinities: if per_node { Vec::new() } else { affinities },
            spreads,
            properties: vec![PropertyUse::default(); checks.properties.len()],
            checks,
            pool: fleet.pool(job.node_pool()),
            any_pool: job.node_pool() == model::access::NODE_POOL_ALL,
            datacenters: fleet.datacenters().iter().map(|name| read::in_datacenters(job, name)).collect(),
            shapes: vec![None; fleet.shapes().len()],
            seats: Seats::new(fleet.end()),
            buckets: BTreeMap::new(),
            available: BTreeMap::new(),
            cursor: 0,
        };
        placer.count_existing(work);
        placer.scan(work);
        placer
    }

    /// True when nodes of one class may answer this group's (or its job's) checks differently.
    pub(crate) fn escaped(&self) -> bool {
        self.checks.job_escaped || self.checks.group_escaped
    }

    /// What was learned of computed classes.
    pub(crate) fn classes<'w>(&'w self, work: &'w Work<'_>) -> impl Iterator<Item = (&'w str, bool)> {
        let views = self.shapes.iter().zip(work.fleet.shapes());
        let known = views.filter_map(|(view, shape)| Some((shape.sample.computed_class.as_str(), (*view)?.class?)));
        known.filter(|(class, _)| !class.is_empty())
    }

    /// Counts who has which value of spread attributes and distinct properties.
    fn count_existing(&mut self, work: &Work<'_>) {
        if self.spreads.is_empty() && self.properties.is_empty() {
            self.cursor = work.events.len();
            return;
        }
        for alloc in work.allocs.iter().filter(|a| !a.is_terminal()) {
            if let Some(slot) = work.fleet.slot(&alloc.node_id) {
                let mine = alloc.task_group == self.group.name();
                self.count(work.fleet.node(slot), mine, 1);
            }
        }
        for event in &work.events {
            self.count(work.fleet.node(event.slot), event.group == self.group_no, event.living);
        }
        self.cursor = work.events.len();
    }

    /// Returns the nodes that a freed value of a property lets in again.
    fn count(&mut self, node: &Node, mine: bool, change: i64) -> Vec<Slot> {
        if change == 0 {
            return Vec::new();
        }
        if mine && !self.spreads.is_empty() {
            let tuple = self.spreads.tuple(node);
            self.spreads.count(tuple, change);
        }
        let mut freed = Vec::new();
        for (property, tally) in self.checks.properties.iter().zip(&mut self.properties) {
            if property.group_only && !mine {
                continue;
            }
            if let Some(value) = property.target.resolve(node) {
                *tally.used.entry(value.to_owned()).or_default() += change;
                if change < 0 {
                    freed.extend(tally.waiting.remove(value).unwrap_or_default());
                }
            }
        }
        freed
    }

    fn scan(&mut self, work: &Work<'_>) {
        let mut available: Vec<i64> = vec![0; self.datacenters.len()];
        let mut entries: BTreeMap<(Tuple, u8), Vec<Entry>> = BTreeMap::new();
        // Runs of nodes mostly share a bucket; the map is asked when it changes.
        let mut last: Option<((Tuple, u8), Vec<Entry>)> = None;
        for (slot, hot) in work.fleet.scan() {
            if !self.is_candidate(hot) {
                continue;
            }
            available[hot.datacenter as usize] += 1;
            let seat = self.evaluate(work, slot, hot);
            self.seats.set(slot, seat, &work.fleet);
            if seat.standing != Standing::Open || self.per_node {
                continue;
            }
            let key = (seat.tuple, seat.given);
            let entry = Entry { sum: seat.sum, tie: tie(work.seed, hot.hash), slot, version: 1 };
            match &mut last {
                Some((at, run)) if *at == key => run.push(entry),
                _ => {
                    if let Some((at, run)) = last.take() {
                        entries.insert(at, run);
                    }
                    let mut run = entries.remove(&key).unwrap_or_default();
                    run.push(entry);
                    last = Some((key, run));
                }
            }
        }
        entries.extend(last);
        self.buckets = entries.into_iter().map(|(key, run)| (key, BinaryHeap::from(run))).collect();
        let names = work.fleet.datacenters();
        let counted = available.iter().enumerate().filter(|(_, n)| **n > 0);
        self.available = counted.map(|(at, n)| (names[at].clone(), *n)).collect();
    }

    fn is_candidate(&self, hot: &Hot) -> bool {
        hot.ready
            && (self.any_pool || self.pool == Some(hot.pool))
            && self.datacenters.get(hot.datacenter as usize).copied().unwrap_or(false)
    }

    /// Where a node stands now.
    fn evaluate(&mut self, work: &Work<'_>, slot: Slot, hot: &Hot) -> Seat {
        let view = self.shape(work, hot.shape);
        let mut seat = Seat { tuple: view.tuple, ..Seat::default() };
        if let Some(reason) = view.failed {
            seat.standing = Standing::Filtered(reason);
            return seat;
        }
        if let Err(filter) = self.of_node(work, slot) {
            seat.standing = Standing::Filtered(self.seats.reason(&filter.to_string()));
            return seat;
        }
        let row = work.fleet.row(slot);
        let used = match self.ask.fits(hot, row) {
            Ok(used) => used,
            Err(misfit) => {
                seat.standing = Standing::Exhausted(self.seats.reason(&misfit.to_string()));
                return seat;
            }
        };
        seat.standing = Standing::Open;
        if self.own_tuple && !self.per_node {
            seat.tuple = self.spreads.tuple(&row.node);
        }
        let affinity = if self.own_affinity { self.affinity(&row.node) } else { view.affinity };
        let given = [Some(score::fit(work.algorithm, used, hot.capacity)), self.anti_affinity(work, slot), affinity];
        for score in given.into_iter().flatten() {
            seat.sum += score;
            seat.given += 1;
        }
        seat
    }

    fn anti_affinity(&self, work: &Work<'_>, slot: Slot) -> Option<f64> {
        if self.per_node {
            return None;
        }
        score::anti_affinity(work.of_group(self.group_no, slot), read::group_count(&self.group))
    }

    fn affinity(&self, node: &Node) -> Option<f64> {
        score::affinity(self.affinities.iter().map(|(check, weight)| (*weight, check.holds(node))))
    }

    fn shape(&mut self, work: &Work<'_>, shape: u32) -> ShapeView {
        if let Some(Some(view)) = self.shapes.get(shape as usize) {
            return *view;
        }
        let node = &work.fleet.shapes()[shape as usize].sample;
        let result = self.checks.shared(node);
        let class = match &result {
            Ok(()) => Some(true),
            Err(filter) => filter.is_of_class().then_some(false),
        };
        let view = ShapeView {
            failed: result.err().map(|filter| self.seats.reason(&filter.to_string())),
            class,
            affinity: self.affinity(node),
            tuple: if self.own_tuple { 0 } else { self.spreads.tuple(node) },
        };
        self.shapes[shape as usize] = Some(view);
        view
    }

    /// Checks that nodes of one shape answer differently.
    fn of_node(&mut self, work: &Work<'_>, slot: Slot) -> Result<(), Filter> {
        if self.checks.has_own() {
            self.checks.own(work.fleet.node(slot))?;
        }
        if !self.per_node {
            let job = self.checks.distinct_hosts_job && work.of_job(slot) > 0;
            if job || self.checks.distinct_hosts_group && work.of_group(self.group_no, slot) > 0 {
                return Err(Filter::DistinctHosts);
            }
        }
        for (property, tally) in self.checks.properties.iter().zip(&mut self.properties) {
            let Some(value) = property.target.resolve(work.fleet.node(slot)) else {
                return Err(Filter::DistinctProperty(format!("missing property \"{}\"", property.text)));
            };
            let used = tally.used.get(value).copied().unwrap_or(0).max(0);
            if usize::try_from(used).is_ok_and(|used| used >= property.limit) {
                tally.waiting.entry(value.to_owned()).or_default().push(slot);
                let text = format!("distinct_property: {}={value} used by {used} allocs", property.text);
                return Err(Filter::DistinctProperty(text));
            }
        }
        Ok(())
    }

    /// Looks again at the nodes that changed.
    pub(crate) fn sync(&mut self, work: &Work<'_>) {
        while let Some(event) = work.events.get(self.cursor).copied() {
            self.cursor += 1;
            let node = work.fleet.node(event.slot).clone();
            let freed = self.count(&node, event.group == self.group_no, event.living);
            self.rescore(work, event.slot);
            for slot in freed {
                self.rescore(work, slot);
            }
        }
    }

    fn rescore(&mut self, work: &Work<'_>, slot: Slot) {
        let hot = work.fleet.hot(slot);
        if !self.is_candidate(hot) {
            return;
        }
        let seat = self.evaluate(work, slot, hot);
        self.seats.set(slot, seat, &work.fleet);
        if seat.standing == Standing::Open && !self.per_node {
            let version = self.seats.get(slot).version;
            let entry = Entry { sum: seat.sum, tie: tie(work.seed, hot.hash), slot, version };
            self.buckets.entry((seat.tuple, seat.given)).or_default().push(entry);
        }
    }

    /// True when that one node would do.
    pub(crate) fn takes(&mut self, work: &Work<'_>, slot: Slot) -> bool {
        self.sync(work);
        self.seats.get(slot).standing == Standing::Open && self.recheck(work, slot)
    }

    /// What may have changed of an open node without anything happening on it: a placement elsewhere used
    /// up the value of a property, or it stopped answering.
    fn recheck(&mut self, work: &Work<'_>, slot: Slot) -> bool {
        if (work.suspects)(&work.fleet.node(slot).id) {
            self.filter(work, slot, SUSPECT);
            return false;
        }
        if self.properties.is_empty() {
            return true;
        }
        match self.of_node(work, slot) {
            Ok(()) => true,
            Err(filter) => {
                self.filter(work, slot, &filter.to_string());
                false
            }
        }
    }

    fn filter(&mut self, work: &Work<'_>, slot: Slot, why: &str) {
        let reason = self.seats.reason(why);
        let seat = Seat { standing: Standing::Filtered(reason), ..*self.seats.get(slot) };
        self.seats.set(slot, seat, &work.fleet);
    }

    /// How a node stands, with the reason's text when it is passed over.
    pub(crate) fn standing(&self, slot: Slot) -> (Standing, &str) {
        let standing = self.seats.get(slot).standing;
        let text = match standing {
            Standing::Filtered(no) | Standing::Exhausted(no) => self.seats.reasons().get(usize::from(no)),
            _ => None,
        };
        (standing, text.map_or("", String::as_str))
    }

    pub(crate) fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Puts one node first, as if it were the best.
    pub(crate) fn only(&self, work: &Work<'_>, slot: Slot) -> Pick {
        let hot = work.fleet.hot(slot);
        let seat = *self.seats.get(slot);
        let spread = self.spreads.score(seat.tuple);
        Pick { slot, ranked: vec![self.ranked(&seat, slot, tie(work.seed, hot.hash), false, spread)] }
    }

    /// The best node; nodes of `penalty` are liked less. `None` when none has room.
    pub(crate) fn pick(&mut self, work: &Work<'_>, penalty: &[Slot]) -> Option<Pick> {
        self.sync(work);
        let spreads: BTreeMap<Tuple, Option<f64>> =
            self.buckets.keys().map(|(tuple, _)| (*tuple, self.spreads.score(*tuple))).collect();
        let mut ranked: Vec<Ranked> = Vec::with_capacity(SCORES_KEPT + penalty.len());
        let mut taken: Vec<((Tuple, u8), Entry)> = Vec::with_capacity(SCORES_KEPT);
        while ranked.len() < SCORES_KEPT {
            let Some((key, entry)) = self.pop_best(&spreads) else { break };
            if !self.recheck(work, entry.slot) {
                continue;
            }
            taken.push((key, entry));
            if !penalty.contains(&entry.slot) {
                let seat = *self.seats.get(entry.slot);
                ranked.push(self.ranked(&seat, entry.slot, entry.tie, false, spreads[&key.0]));
            }
        }
        for (key, entry) in taken {
            self.buckets.entry(key).or_default().push(entry);
        }
        for (at, &slot) in penalty.iter().enumerate() {
            let seat = *self.seats.get(slot);
            let open = seat.standing == Standing::Open && !penalty[..at].contains(&slot);
            if open && self.recheck(work, slot) {
                let spread = self.spreads.score(seat.tuple);
                ranked.push(self.ranked(&seat, slot, tie(work.seed, work.fleet.hot(slot).hash), true, spread));
            }
        }
        ranked.sort_by(Ranked::cmp);
        ranked.truncate(SCORES_KEPT);
        let best = ranked.first()?;
        let slot = if work.retry { self.draw(work, best, &ranked) } else { best.slot };
        Some(Pick { slot, ranked })
    }

    /// One of the nodes ranked, among those that differ from the best only in how full they are. Schedulers
    /// that all insist on the best keep meeting there.
    fn draw(&self, work: &Work<'_>, best: &Ranked, ranked: &[Ranked]) -> Slot {
        let affinity = |slot: Slot| self.affinity(&work.fleet.row(slot).node);
        let liked = affinity(best.slot);
        let alike = |r: &&Ranked| r.penalty == best.penalty && r.spread == best.spread && affinity(r.slot) == liked;
        ranked.iter().filter(alike).max_by_key(|r| (r.tie, r.slot)).unwrap_or(best).slot
    }

    /// Marks a node that turned out not to have the ports after all.
    pub(crate) fn exhaust(&mut self, work: &Work<'_>, slot: Slot, why: &str) {
        let reason = self.seats.reason(why);
        let seat = Seat { standing: Standing::Exhausted(reason), ..*self.seats.get(slot) };
        self.seats.set(slot, seat, &work.fleet);
    }

    fn pop_best(&mut self, spreads: &BTreeMap<Tuple, Option<f64>>) -> Option<((Tuple, u8), Entry)> {
        let mut best: Option<((Tuple, u8), Ranked)> = None;
        let seats = &self.seats;
        for (key, heap) in &mut self.buckets {
            while heap.peek().is_some_and(|e| seats.get(e.slot).version != e.version) {
                heap.pop();
            }
            let Some(top) = heap.peek() else { continue };
            let spread = spreads.get(&key.0).copied().flatten();
            let ranked = rank(top.sum, key.1, top.slot, top.tie, false, spread);
            if best.as_ref().is_none_or(|(_, other)| ranked.cmp(other).is_lt()) {
                best = Some((*key, ranked));
            }
        }
        let (key, _) = best?;
        self.buckets.get_mut(&key)?.pop().map(|entry| (key, entry))
    }

    fn ranked(&self, seat: &Seat, slot: Slot, tie: u64, penalty: bool, spread: Option<f64>) -> Ranked {
        rank(seat.sum, seat.given, slot, tie, penalty, spread)
    }

    /// The metric of an allocation placed by `pick`, or of one that found no node.
    pub(crate) fn metric(&self, work: &Work<'_>, pick: Option<&Pick>) -> AllocMetric {
        let mut metric = AllocMetric {
            node_pool: self.job.node_pool().to_owned(),
            nodes_available: self.available.clone(),
            nodes_in_pool: self.available.values().sum(),
            ..AllocMetric::default()
        };
        self.seats.fill(&mut metric);
        let ranked = pick.map_or(&[][..], |p| &p.ranked);
        metric.score_meta_data = ranked.iter().map(|r| self.score_meta(work, r)).collect();
        metric
    }

    fn score_meta(&self, work: &Work<'_>, ranked: &Ranked) -> NodeScoreMeta {
        let (hot, row) = (work.fleet.hot(ranked.slot), work.fleet.row(ranked.slot));
        let fit = self.ask.fits(hot, row).map_or(0.0, |used| score::fit(work.algorithm, used, hot.capacity));
        let mut scores = BTreeMap::from([("binpack".to_owned(), fit)]);
        if !self.per_node {
            let anti = self.anti_affinity(work, ranked.slot).unwrap_or(0.0);
            scores.insert("job-anti-affinity".to_owned(), anti);
            scores.insert("node-reschedule-penalty".to_owned(), if ranked.penalty { -1.0 } else { 0.0 });
            scores.insert("node-affinity".to_owned(), self.affinity(&row.node).unwrap_or(0.0));
        }
        if !self.spreads.is_empty() {
            scores.insert("allocation-spread".to_owned(), ranked.spread.unwrap_or(0.0));
        }
        NodeScoreMeta { node_id: row.node.id.clone(), scores, norm_score: ranked.score }
    }
}

/// Mean of what a node was given, in the order of the scorers.
fn rank(sum: f64, given: u8, slot: Slot, tie: u64, penalty: bool, spread: Option<f64>) -> Ranked {
    let (mut total, mut number) = (sum, f64::from(given));
    for more in [penalty.then_some(-1.0), spread].into_iter().flatten() {
        total += more;
        number += 1.0;
    }
    let score = if number > 0.0 { total / number } else { 0.0 };
    Ranked { slot, score, sum, tie, penalty, spread }
}
