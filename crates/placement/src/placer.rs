//! Finds the best node for each allocation of one group, over all nodes.
//!
//! ```text
//!  new():   scan all slots once ──> seats (standing, sum of scores)   O(M)
//!                               └─> ranking (see crate::ranking)
//!  pick():  sync() re-scores the slots that changed since              O(changes · log M)
//!           the best few of the ranking; the top five go into the metric
//!  evict(): like pick(), over the nodes that lack only room            first call O(M), then as pick()
//! ```
//!
//! A placement changes one node's sum and a few tuples' spread scores, and never forces a re-scoring of
//! everything. Scoring a node allocates nothing (`tests/no_heap.rs`).
//!
//! Full scan makes all schedulers like the same node, and who comes second finds it full. A retry therefore
//! draws, by its seed, from the best few that differ only in how full they are.
//!
//! Invariants: the node picked is one that a scan of all nodes with the formulas and the order of
//! [`crate::score`] would pick, retries aside (the tests compare the two); nodes that weigh the same are
//! ordered by a hash seeded per evaluation.

mod evict;
mod metric;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Job, Node, TaskGroup};

use crate::ask::{Ask, Fit};
use crate::constraint::Check;
use crate::cores::Hands;
use crate::device::{DeviceAsk, Options};
use crate::feasible::{Checks, Property};
use crate::fit::{Amounts, Short};
use crate::fleet::{Hot, Slot, Tenant, job_key};
use crate::preempt::Claimant;
use crate::ranking::{Entry, Ranked, Ranking};
use crate::read;
use crate::rng::tie;
use crate::score;
use crate::seats::{Fill, Parts, ReasonNo, Seat, Seats, Standing};
use crate::spread::{Spreads, Tuple};
use crate::volumes::AtNode;
use crate::work::{GroupNo, Work};
use evict::Evictions;

/// Nodes whose scores go into a metric.
const SCORES_KEPT: usize = 5;
/// Why a node whose stream broke gets nothing, as metrics count it.
pub(crate) const SUSPECT: &str = "node does not answer";

/// What nodes of one shape have in common for this group.
#[derive(Clone, Debug)]
struct ShapeView {
    failed: Option<ReasonNo>,
    /// Whether nodes of its computed class may run the group; `None` when the class does not say.
    class: Option<bool>,
    affinity: Option<f64>,
    tuple: Tuple,
    /// Which groups of devices may serve each request.
    devices: Options,
}

/// A node that was found.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    pub slot: Slot,
    /// Who has to leave first.
    pub victims: Vec<Arc<Tenant>>,
    /// The best few, and their scores one by one.
    ranked: Vec<(Ranked, Parts)>,
}

impl Pick {
    pub(crate) fn score(&self) -> f64 {
        self.ranked.iter().find(|(r, _)| r.slot == self.slot).map_or(0.0, |(r, parts)| r.score(parts))
    }
}

/// How many allocations share each value of a property.
#[derive(Clone, Debug)]
struct PropertyUse {
    property: Property,
    values: BTreeMap<String, ValueUse>,
    missing: Option<ReasonNo>,
}

#[derive(Clone, Debug, Default)]
struct ValueUse {
    used: i64,
    /// Text of the refusal, and the number of uses it names.
    reason: Option<(i64, ReasonNo)>,
    /// Nodes that were filtered because of the value.
    waiting: Vec<Slot>,
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
    claimant: Claimant,
    count: usize,
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
    ranking: Ranking,
    /// The best few of the last search: room to use again.
    ranked: Vec<Ranked>,
    /// Nodes that are known to answer.
    answers: Vec<bool>,
    /// The last fit score, and of what: most nodes are as full as the one before.
    last_fit: Option<(Fit, Amounts, Fill)>,
    evictions: Option<Box<Evictions>>,
    hands: Hands,
    reasons: BTreeMap<Short, ReasonNo>,
    distinct_hosts: Option<ReasonNo>,
    available: model::SmallMap<String, i64>,
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
        let priority = i32::try_from(job.priority()).unwrap_or(i32::MAX);
        let property =
            |property: &Property| PropertyUse { property: property.clone(), values: BTreeMap::new(), missing: None };
        let mut placer = Self {
            job: job.clone(),
            group: group.clone(),
            group_no,
            ask: Ask::new(group, work.oversubscription),
            per_node,
            claimant: Claimant { priority, job: job_key(&job.namespace(), &job.id()) },
            count: read::group_count(group),
            own_affinity: affinities.iter().any(|(check, _)| check.escaped),
            own_tuple: job.spreads.iter().chain(&group.spreads).any(unique),
            affinities: if per_node { Vec::new() } else { affinities },
            spreads,
            properties: checks.properties.iter().map(property).collect(),
            checks,
            pool: fleet.pool(job.node_pool()),
            any_pool: job.node_pool() == model::access::NODE_POOL_ALL,
            datacenters: fleet.datacenters().iter().map(|name| read::in_datacenters(job, name)).collect(),
            shapes: vec![None; fleet.shapes().len()],
            seats: Seats::new(fleet),
            ranking: Ranking::default(),
            ranked: Vec::with_capacity(SCORES_KEPT),
            answers: vec![false; fleet.end()],
            last_fit: None,
            evictions: None,
            hands: Hands::default(),
            reasons: BTreeMap::new(),
            distinct_hosts: None,
            available: model::SmallMap::new(),
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

    /// What no change of a node would bring, of what the group asks for.
    pub(crate) fn missing(&self, work: &Work<'_>) -> impl Iterator<Item = String> {
        self.checks.missing(work.fleet.volumes())
    }

    /// What was learned of computed classes.
    pub(crate) fn classes<'w>(&'w self, work: &'w Work<'_>) -> impl Iterator<Item = (&'w str, bool)> {
        let views = self.shapes.iter().zip(work.fleet.shapes());
        let known =
            views.filter_map(|(view, shape)| Some((shape.sample.computed_class.as_str(), view.as_ref()?.class?)));
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
                self.count(work, slot, mine, 1);
            }
        }
        for event in &work.events {
            self.count(work, event.slot, event.group == self.group_no, event.living);
        }
        self.cursor = work.events.len();
    }

    /// Returns the nodes that a freed value of a property lets in again.
    fn count(&mut self, work: &Work<'_>, slot: Slot, mine: bool, change: i64) -> Vec<Slot> {
        if change == 0 {
            return Vec::new();
        }
        let node = work.fleet.node(slot);
        if mine && !self.spreads.is_empty() {
            let seat = self.seats.get(slot);
            let tuple = if seat.standing == Standing::Open { seat.tuple } else { self.spreads.tuple(node) };
            self.spreads.count(tuple, change);
        }
        let mut freed = Vec::new();
        for tally in &mut self.properties {
            if tally.property.group_only && !mine {
                continue;
            }
            if let Some(value) = tally.property.target.resolve(node) {
                let value = value_use(&mut tally.values, value);
                value.used += change;
                if change < 0 {
                    freed.append(&mut value.waiting);
                }
            }
        }
        freed
    }

    fn scan(&mut self, work: &Work<'_>) {
        let mut available: Vec<i64> = vec![0; self.datacenters.len()];
        for (slot, hot) in work.fleet.scan() {
            if self.is_candidate(hot) {
                available[hot.datacenter as usize] += 1;
                self.seat(work, slot, hot);
            }
        }
        let names = work.fleet.datacenters();
        let counted = available.iter().enumerate().filter(|(_, n)| **n > 0);
        self.available = counted.map(|(at, n)| (names[at].clone(), *n)).collect();
    }

    fn is_candidate(&self, hot: &Hot) -> bool {
        hot.ready
            && (self.any_pool || self.pool == Some(hot.pool))
            && self.datacenters.get(hot.datacenter as usize).copied().unwrap_or(false)
    }

    /// Looks at a node and gives it its place.
    fn seat(&mut self, work: &Work<'_>, slot: Slot, hot: &Hot) {
        let seat = self.evaluate(work, slot, hot);
        self.seats.set(slot, seat, hot);
        if seat.standing == Standing::Open && !self.per_node {
            let version = self.seats.get(slot).version;
            let entry = Entry { sum: seat.sum, tie: tie(work.seed, hot.hash), slot, version };
            self.ranking.push(seat.tuple, seat.given, entry);
        }
    }

    /// Where a node stands now.
    fn evaluate(&mut self, work: &Work<'_>, slot: Slot, hot: &Hot) -> Seat {
        self.shape(work, hot.shape);
        let Some(view) = self.shapes[hot.shape as usize].as_ref() else { return Seat::default() };
        let mut seat = Seat { tuple: view.tuple, ..Seat::default() };
        let mut affinity = view.affinity;
        if let Some(reason) = view.failed {
            seat.standing = Standing::Filtered(reason);
            return seat;
        }
        if let Err(reason) = self.of_node(work, slot) {
            seat.standing = Standing::Filtered(reason);
            return seat;
        }
        let Some(view) = self.shapes[hot.shape as usize].as_ref() else { return seat };
        let row = work.fleet.row(slot);
        let own = self.own_options(work, slot);
        let options = own.as_ref().unwrap_or(&view.devices);
        let fit = self.ask.fits(hot, row, options, &mut self.hands);
        let fit = match fit {
            Ok(fit) => fit,
            Err(short) => {
                seat.standing = Standing::Exhausted(self.short_reason(work, slot, short));
                return seat;
            }
        };
        seat.standing = Standing::Open;
        if self.own_tuple && !self.per_node {
            seat.tuple = self.spreads.tuple(&row.node);
        }
        if self.own_affinity {
            affinity = self.affinity(&row.node);
        }
        let parts = self.parts(work, slot, fit, affinity);
        (seat.sum, seat.given) = parts.weight();
        self.seats.set_parts(slot, parts);
        seat
    }

    /// The scores of a node into which the group fits so.
    fn parts(&mut self, work: &Work<'_>, slot: Slot, fit: Fit, affinity: Option<f64>) -> Parts {
        let capacity = work.fleet.hot(slot).capacity;
        let fill = match &self.last_fit {
            Some((known, of, fill)) if known.used == fit.used && *of == capacity && known.ask == fit.ask => *fill,
            _ => {
                let fill = self.fill(work, fit, capacity);
                self.last_fit = Some((fit, capacity, fill));
                fill
            }
        };
        Parts::new(fill, fit.devices, self.anti_affinity(work, slot), affinity)
    }

    fn fill(&self, work: &Work<'_>, fits: Fit, capacity: Amounts) -> Fill {
        let fit = score::fit(work.algorithm, fits.used, capacity);
        let balance = score::balance(work.algorithm, fit, fits.ask, fits.used, capacity);
        Fill::new(fit, balance.filter(|_| !self.per_node))
    }

    /// The number of a reason, which has a text from the first time on.
    fn short_reason(&mut self, work: &Work<'_>, slot: Slot, short: Short) -> ReasonNo {
        if let Some(reason) = self.reasons.get(&short) {
            return *reason;
        }
        let text = self.ask.misfit(short, work.fleet.row(slot)).to_string();
        let reason = self.seats.reason(&text);
        if !self.ask.is_of_node(short) {
            self.reasons.insert(short, reason);
        }
        reason
    }

    fn anti_affinity(&self, work: &Work<'_>, slot: Slot) -> Option<f64> {
        if self.per_node {
            return None;
        }
        score::anti_affinity(work.of_group(self.group_no, slot), self.count)
    }

    fn affinity(&self, node: &Node) -> Option<f64> {
        score::affinity(self.affinities.iter().map(|(check, weight)| (*weight, check.holds(node))))
    }

    /// Asks what nodes of that shape answer alike, if nobody has.
    fn shape(&mut self, work: &Work<'_>, shape: u32) {
        if self.shapes[shape as usize].is_some() {
            return;
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
            devices: DeviceAsk::options(&self.ask.devices, node),
        };
        self.shapes[shape as usize] = Some(view);
    }

    /// Checks that nodes of one shape answer differently.
    fn of_node(&mut self, work: &Work<'_>, slot: Slot) -> Result<(), ReasonNo> {
        if self.checks.has_own
            && let Err(filter) = self.checks.own(work.fleet.node(slot))
        {
            return Err(self.seats.reason(&filter.to_string()));
        }
        if self.checks.has_volumes() {
            let site = AtNode { work, slot, group_no: self.group_no, without: None };
            if let Err(filter) = self.checks.volumes(work.fleet.node(slot), work.fleet.volumes(), &site) {
                return Err(self.seats.reason(&filter.to_string()));
            }
        }
        if !self.per_node {
            let job = self.checks.distinct_hosts_job && work.of_job(slot) > 0;
            if job || self.checks.distinct_hosts_group && work.of_group(self.group_no, slot) > 0 {
                let seats = &mut self.seats;
                return Err(*self.distinct_hosts.get_or_insert_with(|| seats.reason("distinct_hosts")));
            }
        }
        for tally in &mut self.properties {
            let (property, seats) = (&tally.property, &mut self.seats);
            let Some(text) = property.target.resolve(work.fleet.node(slot)) else {
                let reason = || seats.reason(&format!("missing property \"{}\"", property.text));
                return Err(*tally.missing.get_or_insert_with(reason));
            };
            let Some(value) = tally.values.get_mut(text) else {
                if property.limit == 0 {
                    return Err(seats.reason(&format!("distinct_property: {}={text} used by 0 allocs", property.text)));
                }
                continue;
            };
            let used = value.used.max(0);
            if usize::try_from(used).is_ok_and(|used| used >= property.limit) {
                value.waiting.push(slot);
                let known = value.reason.filter(|(of, _)| *of == used).map(|(_, reason)| reason);
                let reason = known.unwrap_or_else(|| {
                    seats.reason(&format!("distinct_property: {}={text} used by {used} allocs", property.text))
                });
                value.reason = Some((used, reason));
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Looks again at the nodes that changed.
    pub(crate) fn sync(&mut self, work: &Work<'_>) {
        while let Some(event) = work.events.get(self.cursor).copied() {
            self.cursor += 1;
            let mine = event.group == self.group_no;
            let freed = self.count(work, event.slot, mine, event.living);
            self.rescore(work, event.slot);
            for slot in freed {
                self.rescore(work, slot);
            }
        }
    }

    fn rescore(&mut self, work: &Work<'_>, slot: Slot) {
        let hot = work.fleet.hot(slot);
        if self.is_candidate(hot) {
            self.seat(work, slot, hot);
            if let Some(mut evictions) = self.evictions.take() {
                self.consider(work, slot, &mut evictions);
                self.evictions = Some(evictions);
            }
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
        if !self.answers[slot as usize] {
            if (work.suspects)(&work.fleet.node(slot).id) {
                let reason = self.seats.reason(SUSPECT);
                self.put_aside(work, slot, Standing::Filtered(reason));
                return false;
            }
            self.answers[slot as usize] = true;
        }
        if self.properties.is_empty() {
            return true;
        }
        match self.of_node(work, slot) {
            Ok(()) => true,
            Err(reason) => {
                self.put_aside(work, slot, Standing::Filtered(reason));
                false
            }
        }
    }

    fn put_aside(&mut self, work: &Work<'_>, slot: Slot, standing: Standing) {
        let seat = Seat { standing, ..*self.seats.get(slot) };
        self.seats.set(slot, seat, work.fleet.hot(slot));
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

    pub(crate) fn spreads(&self) -> &Spreads {
        &self.spreads
    }

    /// Puts one node first, as if it were the best.
    pub(crate) fn only(&self, work: &Work<'_>, slot: Slot) -> Pick {
        Pick { slot, victims: Vec::new(), ranked: self.with_parts(&[self.ranked(work, slot, false)]) }
    }

    fn with_parts(&self, ranked: &[Ranked]) -> Vec<(Ranked, Parts)> {
        ranked.iter().map(|r| (*r, *self.seats.parts(r.slot))).collect()
    }

    fn ranked(&self, work: &Work<'_>, slot: Slot, penalty: bool) -> Ranked {
        let seat = self.seats.get(slot);
        let tie = tie(work.seed, work.fleet.hot(slot).hash);
        let entry = Entry { sum: seat.sum, tie, slot, version: seat.version };
        Ranked::new(&entry, seat.given, penalty, self.spreads.score(seat.tuple))
    }

    /// The best node; nodes of `penalty` are liked less. `None` when none has room.
    pub(crate) fn pick(&mut self, work: &Work<'_>, penalty: &[Slot]) -> Option<Pick> {
        self.sync(work);
        let mut ranked = std::mem::take(&mut self.ranked);
        ranked.clear();
        let mut ranking = std::mem::take(&mut self.ranking);
        ranking.begin(&self.spreads);
        while ranked.len() < SCORES_KEPT {
            let is_current = |entry: &Entry| self.seats.get(entry.slot).version == entry.version;
            let Some(next) = ranking.next(is_current) else { break };
            if self.recheck(work, next.slot) && !penalty.contains(&next.slot) {
                ranked.push(next);
            }
        }
        self.ranking = ranking;
        for (at, &slot) in penalty.iter().enumerate() {
            let open = self.seats.get(slot).standing == Standing::Open && !penalty[..at].contains(&slot);
            if open && self.recheck(work, slot) {
                ranked.push(self.ranked(work, slot, true));
            }
        }
        ranked.sort_by(Ranked::cmp);
        ranked.truncate(SCORES_KEPT);
        let found = ranked.first().map(|best| {
            let slot = if work.retry { self.draw(work, best, &ranked) } else { best.slot };
            Pick { slot, victims: Vec::new(), ranked: self.with_parts(&ranked) }
        });
        self.ranked = ranked;
        found
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
    pub(crate) fn exhaust(&mut self, work: &Work<'_>, slot: Slot, short: Short) {
        let reason = self.short_reason(work, slot, short);
        self.put_aside(work, slot, Standing::Exhausted(reason));
    }

    /// Hands out what the ask needs of a node.
    ///
    /// # Errors
    /// What turned out to be short.
    pub(crate) fn allocate(
        &mut self,
        work: &Work<'_>,
        slot: Slot,
        rng: &mut crate::rng::Rng,
    ) -> Result<(model::alloc::AllocatedResources, crate::fit::Held), Short> {
        let (row, own) = (work.fleet.row(slot), self.own_options(work, slot));
        let view = self.shapes[work.fleet.hot(slot).shape as usize].as_ref();
        let options = own.as_ref().or(view.map(|view| &view.devices)).unwrap_or(&NO_DEVICES);
        self.ask.allocate(row, options, &mut self.hands, rng)
    }

    /// Which devices may serve the requests, where nodes of a shape differ in that.
    fn own_options(&self, work: &Work<'_>, slot: Slot) -> Option<Options> {
        let unique = self.checks.has_unique_devices;
        unique.then(|| DeviceAsk::options(&self.ask.devices, work.fleet.node(slot)))
    }
}

fn value_use<'a>(values: &'a mut BTreeMap<String, ValueUse>, text: &str) -> &'a mut ValueUse {
    if !values.contains_key(text) {
        values.insert(text.to_owned(), ValueUse::default());
    }
    values.get_mut(text).expect("it was put there")
}

static NO_DEVICES: Options = Vec::new();
