//! How well nodes are filled: ours, which looks at every node, against a scheduler that samples, on the same
//! traces of jobs that come and go.
//!
//! `cargo bench -p placement --bench quality`; figures: `docs/benchmarks.md`. The sampling one is of the
//! reference's kind, made from its description: nodes shuffled per evaluation, a ring that goes on from
//! placement to placement, as many nodes with room as `sampling::limit` says, up to three with a score of
//! 0 or less set aside, the best of them. Scores are the crate's own for both, so only the search differs.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use fixture::{decide, eval, job, node, register, state};
use fsm::{Change, State};
use model::{AllocId, Index, Job};
use placement::score::{self, Algorithm};
use placement::{Amounts, Fleet, sampling};

const SEEDS: u64 = 10;

/// Numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from + 1).unwrap())).unwrap()
    }
}

/// A job as the traces see it.
struct Arrival {
    count: i64,
    cpu: i64,
    memory: i64,
    batch: bool,
    /// How many arrivals after it was placed it ends; never for 0.
    stays: usize,
}

/// What becomes of a job that finds no room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unplaced {
    /// It is tried again whenever another one has ended, as blocked evaluations are.
    Waits,
    /// What of it found no room never comes again.
    IsLost,
}

struct Trace {
    name: &'static str,
    nodes: u64,
    /// How many come; 0: until the first that finds no node.
    jobs: usize,
    unplaced: Unplaced,
    arrival: fn(&mut Draw) -> Arrival,
}

fn mixed_batch(d: &mut Draw, stays: usize) -> Arrival {
    let (count, cpu, memory) = (d.between(1, 20), d.between(1, 16) * 500, d.between(1, 16) * 1024);
    Arrival { count, cpu, memory, batch: true, stays }
}

/// Nodes have 32,000 MHz and 65,536 MiB.
const TRACES: [Trace; 11] = [
    Trace {
        name: "small services",
        nodes: 300,
        jobs: 300,
        unplaced: Unplaced::IsLost,
        arrival: |d| Arrival {
            count: d.between(1, 10),
            cpu: d.between(2, 20) * 100,
            memory: d.between(1, 16) * 256,
            batch: false,
            stays: 0,
        },
    },
    Trace {
        name: "batch, mixed sizes",
        nodes: 300,
        jobs: 170,
        unplaced: Unplaced::IsLost,
        arrival: |d| mixed_batch(d, 0),
    },
    Trace {
        name: "cpu-heavy beside memory-heavy",
        nodes: 300,
        jobs: 300,
        unplaced: Unplaced::IsLost,
        arrival: |d| {
            let heavy = d.below(2) == 0;
            let (cpu, memory) = if heavy { (d.between(40, 80) * 100, 2048) } else { (1000, d.between(8, 20) * 1024) };
            Arrival { count: d.between(1, 8), cpu, memory, batch: false, stays: 0 }
        },
    },
    Trace {
        name: "churn",
        nodes: 300,
        jobs: 1200,
        unplaced: Unplaced::IsLost,
        arrival: |d| Arrival {
            count: d.between(1, 8),
            cpu: d.between(5, 60) * 100,
            memory: d.between(2, 40) * 256,
            batch: d.below(2) == 0,
            stays: usize::try_from(d.between(20, 200)).unwrap(),
        },
    },
    Trace {
        name: "churn, all with twice the share of memory",
        nodes: 300,
        jobs: 1200,
        unplaced: Unplaced::IsLost,
        arrival: |d| {
            let cpu = d.between(5, 40) * 100;
            let stays = usize::try_from(d.between(20, 200)).unwrap();
            Arrival { count: d.between(1, 8), cpu, memory: cpu * 4, batch: d.below(2) == 0, stays }
        },
    },
    Trace {
        name: "churn, most with more memory than cpu",
        nodes: 300,
        jobs: 1200,
        unplaced: Unplaced::IsLost,
        arrival: |d| {
            let stays = usize::try_from(d.between(20, 200)).unwrap();
            let (much, little) = (d.between(5, 40), d.between(5, 15));
            let (cpu, memory) = if d.below(10) < 7 { (little, much) } else { (much, little) };
            let (cpu, memory) = (cpu * 100, memory * 200);
            Arrival { count: d.between(1, 8), cpu, memory, batch: d.below(2) == 0, stays }
        },
    },
    Trace {
        name: "tight: batch, mixed sizes",
        nodes: 100,
        jobs: 0,
        unplaced: Unplaced::IsLost,
        arrival: |d| mixed_batch(d, 0),
    },
    Trace {
        name: "tight: large ones into what small ones leave",
        nodes: 100,
        jobs: 0,
        unplaced: Unplaced::IsLost,
        arrival: |d| {
            let large = d.below(4) == 0;
            Arrival {
                count: if large { 1 } else { d.between(1, 6) },
                cpu: if large { 16_000 } else { d.between(5, 25) * 100 },
                memory: if large { 32_768 } else { d.between(4, 20) * 256 },
                batch: d.below(2) == 0,
                stays: 0,
            }
        },
    },
    Trace {
        name: "tight: thirds and halves",
        nodes: 100,
        jobs: 0,
        unplaced: Unplaced::IsLost,
        arrival: |d| {
            let part = [2, 3, 4, 5][usize::try_from(d.below(4)).unwrap()];
            Arrival { count: 1, cpu: 32_000 / part, memory: 65_536 / part, batch: true, stays: 0 }
        },
    },
    Trace {
        name: "overload: batch that ends, the rest waits",
        nodes: 100,
        jobs: 500,
        unplaced: Unplaced::Waits,
        arrival: |d| {
            let stays = usize::try_from(d.between(20, 200)).unwrap();
            mixed_batch(d, stays)
        },
    },
    Trace {
        name: "overload: batch for ever, the rest is lost",
        nodes: 300,
        jobs: 400,
        unplaced: Unplaced::IsLost,
        arrival: |d| mixed_batch(d, 0),
    },
];

/// How a cluster stands over a trace.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    nodes_used: f64,
    /// Share of the used nodes' capacity that nobody has; of all nodes', where the trace ends with the first
    /// allocation that finds no node.
    free: f64,
    placed: f64,
}

trait Scheduler {
    /// Places what finds room of what is missing of a job; how many those were.
    fn arrive(&mut self, n: usize, arrival: &Arrival, seed: u64) -> usize;
    fn leave(&mut self, n: usize);
    fn used(&self) -> Vec<Amounts>;
}

const CAPACITY: Amounts = Amounts { cpu: 32_000, memory: 65_536, disk: 1_000_000 };

struct Ours {
    state: State,
    fleet: Fleet,
    allocs: BTreeMap<usize, Vec<AllocId>>,
}

impl Ours {
    fn new(nodes: u64) -> Self {
        let state = state((0..nodes).map(|n| node(n, 10)));
        let fleet = Fleet::from_state(&state);
        Self { state, fleet, allocs: BTreeMap::new() }
    }

    fn commit(&mut self, change: &Change) {
        self.state.commit(Index(self.state.index().get() + 1), change);
        self.fleet.apply(&self.state, change);
    }
}

fn as_job(n: usize, arrival: &Arrival) -> Job {
    let mut job = job(&format!("job-{n}"), arrival.count, arrival.cpu, arrival.memory);
    if arrival.batch {
        job.kind = Some("batch".into());
    }
    job
}

impl Scheduler for Ours {
    fn arrive(&mut self, n: usize, arrival: &Arrival, seed: u64) -> usize {
        let job = as_job(n, arrival);
        let before = self.allocs.get(&n).map_or(0, Vec::len);
        if before == 0 {
            register(&mut self.state, &job);
        }
        let decision = decide(&self.state, &self.fleet, &eval(&job), seed);
        let placed: Vec<_> = decision.plan.parts.into_values().flat_map(|part| part.place).collect();
        for (at, mut alloc) in (before..).zip(placed.iter().cloned()) {
            alloc.id = format!("{n:08x}-4444-4000-8000-{at:012x}").into();
            self.allocs.entry(n).or_default().push(alloc.id.clone());
            self.commit(&Change::Alloc(Arc::new(alloc)));
        }
        placed.len()
    }

    fn leave(&mut self, n: usize) {
        for id in self.allocs.remove(&n).unwrap_or_default() {
            self.commit(&Change::AllocGone { id });
        }
    }

    fn used(&self) -> Vec<Amounts> {
        self.state.nodes().map(|node| self.fleet.used(&node.id).unwrap()).collect()
    }
}

struct Sampling {
    used: Vec<Amounts>,
    allocs: BTreeMap<usize, Vec<(usize, Amounts)>>,
}

impl Scheduler for Sampling {
    fn arrive(&mut self, n: usize, arrival: &Arrival, seed: u64) -> usize {
        let mut draw = Draw(seed ^ 0x5eed);
        let mut ring: Vec<usize> = (0..self.used.len()).collect();
        for at in (1..ring.len()).rev() {
            ring.swap(at, usize::try_from(draw.below(at as u64 + 1)).unwrap());
        }
        let ask = Amounts { cpu: arrival.cpu, memory: arrival.memory, disk: 300 };
        let (mut from, mut placed) = (0, 0);
        let mut mine: BTreeMap<usize, u32> = BTreeMap::new();
        let before = self.allocs.get(&n).map_or(0, Vec::len);
        for (node, _) in self.allocs.get(&n).into_iter().flatten() {
            *mine.entry(*node).or_default() += 1;
        }
        for _ in before..usize::try_from(arrival.count).unwrap() {
            let limit = sampling::limit(ring.len(), arrival.batch, None, 100);
            let mut seen: Vec<(f64, usize)> = Vec::new();
            let mut aside: Vec<(f64, usize)> = Vec::new();
            for _ in 0..ring.len() {
                if seen.len() >= limit {
                    break;
                }
                let node = ring[from % ring.len()];
                from += 1;
                let sum = |a: Amounts, b: Amounts| Amounts {
                    cpu: a.cpu + b.cpu,
                    memory: a.memory + b.memory,
                    disk: a.disk + b.disk,
                };
                let after = sum(self.used[node], ask);
                if after.cpu > CAPACITY.cpu || after.memory > CAPACITY.memory || after.disk > CAPACITY.disk {
                    continue;
                }
                let anti = score::anti_affinity(
                    mine.get(&node).copied().unwrap_or(0),
                    usize::try_from(arrival.count).unwrap(),
                );
                let scores: Vec<f64> =
                    [Some(score::fit(Algorithm::Binpack, after, CAPACITY)), anti].into_iter().flatten().collect();
                let score = score::mean(&scores);
                if score <= 0.0 && aside.len() < sampling::SET_ASIDE_MAX {
                    aside.push((score, node));
                } else {
                    seen.push((score, node));
                }
            }
            let missing = limit.saturating_sub(seen.len());
            seen.extend(aside.into_iter().take(missing));
            let best = seen.iter().fold(None, |best: Option<(f64, usize)>, &(score, node)| match best {
                Some((known, _)) if known >= score => best,
                _ => Some((score, node)),
            });
            let Some((_, node)) = best else { break };
            let used = &mut self.used[node];
            (used.cpu, used.memory, used.disk) = (used.cpu + ask.cpu, used.memory + ask.memory, used.disk + ask.disk);
            *mine.entry(node).or_default() += 1;
            self.allocs.entry(n).or_default().push((node, ask));
            placed += 1;
        }
        placed
    }

    fn leave(&mut self, n: usize) {
        for (node, ask) in self.allocs.remove(&n).unwrap_or_default() {
            let used = &mut self.used[node];
            (used.cpu, used.memory, used.disk) = (used.cpu - ask.cpu, used.memory - ask.memory, used.disk - ask.disk);
        }
    }

    fn used(&self) -> Vec<Amounts> {
        self.used.clone()
    }
}

/// A job of which some found no room yet.
struct Waiting {
    n: usize,
    arrival: Arrival,
    missing: usize,
}

fn run(trace: &Trace, seed: u64, scheduler: &mut dyn Scheduler) -> Outcome {
    let mut draw = Draw(seed);
    let (mut out, mut looks) = (Outcome::default(), 0.0);
    let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let jobs = if trace.jobs == 0 { 10_000 } else { trace.jobs };
    let mut waiting: Vec<Waiting> = Vec::new();
    for n in 0..jobs {
        let gone = ends.remove(&n).unwrap_or_default();
        gone.iter().for_each(|gone| scheduler.leave(*gone));
        let arrival = (trace.arrival)(&mut draw);
        let missing = usize::try_from(arrival.count).unwrap();
        let untried = if gone.is_empty() { waiting.len() } else { 0 };
        waiting.push(Waiting { n, arrival, missing });
        for one in &mut waiting[untried..] {
            let placed = scheduler.arrive(one.n, &one.arrival, seed * 1_000_003 + (n * jobs + one.n) as u64);
            one.missing -= placed;
            out.placed += placed as f64;
            if one.missing == 0 && one.arrival.stays > 0 {
                ends.entry(n + one.arrival.stays).or_default().push(one.n);
            }
        }
        if trace.jobs == 0 && waiting.iter().any(|one| one.missing > 0) {
            break;
        }
        waiting.retain(|one| one.missing > 0 && trace.unplaced == Unplaced::Waits);
        // The second half of the trace, every tenth arrival.
        if trace.jobs > 0 && n * 2 >= jobs && n % 10 == 9 {
            let used: Vec<Amounts> = scheduler.used().into_iter().filter(|u| u.cpu > 0).collect();
            out.nodes_used += used.len() as f64;
            out.free += used.iter().map(free).sum::<f64>() / used.len().max(1) as f64;
            looks += 1.0;
        }
    }
    if trace.jobs == 0 {
        let used = scheduler.used();
        let nodes_used = used.iter().filter(|u| u.cpu > 0).count() as f64;
        return Outcome { nodes_used, free: used.iter().map(free).sum::<f64>() / used.len() as f64, ..out };
    }
    Outcome { nodes_used: out.nodes_used / looks, free: out.free / looks, placed: out.placed }
}

/// Share of a node that nobody has, mean of cpu and memory.
fn free(used: &Amounts) -> f64 {
    let cpu = 1.0 - used.cpu as f64 / CAPACITY.cpu as f64;
    let memory = 1.0 - used.memory as f64 / CAPACITY.memory as f64;
    f64::midpoint(cpu, memory)
}

fn mean(all: &[Outcome], of: fn(&Outcome) -> f64) -> f64 {
    all.iter().map(of).sum::<f64>() / all.len() as f64
}

fn main() {
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    println!(
        "| trace, mean of {SEEDS} seeds | nodes used: ours | sampling | change | stranded: ours | sampling | placed: ours | sampling |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for trace in &TRACES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for seed in 1..=SEEDS {
            ours.push(run(trace, seed, &mut Ours::new(trace.nodes)));
            let nodes = usize::try_from(trace.nodes).unwrap();
            let mut sampling = Sampling { used: vec![Amounts::default(); nodes], allocs: BTreeMap::new() };
            theirs.push(run(trace, seed, &mut sampling));
        }
        let used = (mean(&ours, |o| o.nodes_used), mean(&theirs, |o| o.nodes_used));
        let stranded = (mean(&ours, |o| o.free) * 100.0, mean(&theirs, |o| o.free) * 100.0);
        let placed = (mean(&ours, |o| o.placed), mean(&theirs, |o| o.placed));
        println!(
            "| {} | {:.1} | {:.1} | {:+.1} % | {:.1} % | {:.1} % | {:.1} | {:.1} |",
            trace.name,
            used.0,
            used.1,
            (used.0 / used.1 - 1.0) * 100.0,
            stranded.0,
            stranded.1,
            placed.0,
            placed.1
        );
    }
}
