//! How long one evaluation takes, from evaluation to finished plan, on one thread.
//!
//! `cargo bench -p placement --bench schedule [filter]`; figures and floors: `docs/benchmarks.md`. The number
//! of items is that of placements, so that the throughput is placements a second.
#![allow(clippy::unwrap_used)]

mod fixture;

use divan::Bencher;
use divan::counter::ItemsCount;
use fixture::{Shape, decide, eval, everything, full, gpus, job, node, placed, register, state};
use placement::Fleet;

fn main() {
    divan::main();
}

/// The 120 shapes.
#[divan::bench(args = fixture::shapes(), sample_count = 15, sample_size = 1)]
fn shapes(bencher: Bencher<'_, '_>, shape: &Shape) {
    let mut state = state((0..shape.nodes).map(|n| node(n, shape.racks)));
    let job = shape.job();
    register(&mut state, &job);
    let fleet = Fleet::from_state(&state);
    let eval = eval(&job);
    let count = usize::try_from(shape.group).unwrap();
    assert_eq!(placed(&decide(&state, &fleet, &eval, 1)), count);
    bencher.counter(ItemsCount::new(count)).bench(|| decide(&state, &fleet, &eval, 1));
}

/// A high-priority job of 1,000 on 5,000 full nodes: everyone takes somebody's room.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn preemption_of_1000_on_5000_full_nodes(bencher: Bencher<'_, '_>) {
    let mut state = full(5000);
    let mut high = job("high", 1000, 6000, 6000);
    high.priority = Some(80);
    register(&mut state, &high);
    let (fleet, eval) = (Fleet::from_state(&state), eval(&high));
    let decision = decide(&state, &fleet, &eval, 1);
    assert_eq!(placed(&decision), 1000);
    assert!(decision.plan.parts.values().map(|p| p.preempt.len()).sum::<usize>() >= 1000);
    bencher.counter(ItemsCount::new(1000_usize)).bench(|| decide(&state, &fleet, &eval, 1));
}

/// Spread, affinity, distinct property and devices at once.
#[divan::bench(sample_count = 15, sample_size = 1)]
fn spread_affinity_property_devices(bencher: Bencher<'_, '_>) {
    let with_gpus = |n| {
        let mut node = node(n, 50);
        gpus(&mut node, 4);
        node
    };
    let mut state = state((0..5000).map(with_gpus));
    let job = everything(1000);
    register(&mut state, &job);
    let (fleet, eval) = (Fleet::from_state(&state), eval(&job));
    assert_eq!(placed(&decide(&state, &fleet, &eval, 1)), 1000);
    bencher.counter(ItemsCount::new(1000_usize)).bench(|| decide(&state, &fleet, &eval, 1));
}

/// One allocation on 5,000 nodes: the price of looking at all of them.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn one_on_5000_nodes(bencher: Bencher<'_, '_>) {
    let mut state = state((0..5000).map(|n| node(n, 50)));
    let job = job("one", 1, 500, 256);
    register(&mut state, &job);
    let (fleet, eval) = (Fleet::from_state(&state), eval(&job));
    bencher.counter(ItemsCount::new(1_usize)).bench(|| decide(&state, &fleet, &eval, 1));
}

/// A system job on 5,000 nodes.
#[divan::bench(sample_count = 15, sample_size = 1)]
fn system_on_5000_nodes(bencher: Bencher<'_, '_>) {
    let mut state = state((0..5000).map(|n| node(n, 50)));
    let mut each = job("each", 1, 500, 256);
    each.kind = Some("system".into());
    register(&mut state, &each);
    let (fleet, eval) = (Fleet::from_state(&state), eval(&each));
    assert_eq!(placed(&decide(&state, &fleet, &eval, 1)), 5000);
    bencher.counter(ItemsCount::new(5000_usize)).bench(|| decide(&state, &fleet, &eval, 1));
}

/// A job of 10,000 that runs as it should.
#[divan::bench(sample_count = 30, sample_size = 1)]
fn reconcile_of_10000_with_nothing_to_do(bencher: Bencher<'_, '_>) {
    let mut state = state((0..2500).map(|n| node(n, 50)));
    let job = job("calm", 10_000, 500, 256);
    register(&mut state, &job);
    let nodes: Vec<_> = state.nodes().cloned().collect();
    let index = model::Index(state.index().get() + 1);
    for n in 0..10_000_u64 {
        let id = format!("{n:08x}-3333-4000-8000-{n:012x}");
        let on = &nodes[usize::try_from(n).unwrap() % nodes.len()];
        let row = fixture::alloc(&id, &job, on, 500, 256, n);
        state.commit(index, &fsm::Change::Alloc(std::sync::Arc::new(row)));
    }
    let (fleet, eval) = (Fleet::from_state(&state), eval(&job));
    let decision = decide(&state, &fleet, &eval, 1);
    assert!(decision.no_op, "{:?}", decision.plan.parts.len());
    bencher.bench(|| decide(&state, &fleet, &eval, 1));
}
