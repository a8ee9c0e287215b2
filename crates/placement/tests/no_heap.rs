//! Scoring a node allocates nothing: twice the nodes, as many allocations (but for vectors that double).
#![allow(clippy::unwrap_used, unsafe_code)]

#[path = "../benches/fixture/mod.rs"]
mod fixture;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use fixture::{constraint, decide, eval, everything, full, gpus, job, node, placed, register, state};
use fsm::State;
use model::Job;
use placement::Fleet;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system's allocator's; only a number of this thread is added to.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: it came from `alloc` above with that layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(mut state: State, job: &Job, expect: usize) -> u64 {
    register(&mut state, job);
    let (fleet, eval) = (Fleet::from_state(&state), eval(job));
    let before = COUNT.with(Cell::get);
    let decision = decide(&state, &fleet, &eval, 1);
    let number = COUNT.with(Cell::get) - before;
    assert_eq!(placed(&decision), expect);
    number
}

/// Vectors that grow with the nodes double a few more times.
const DOUBLINGS: u64 = 200;

fn assert_none_per_node(name: &str, with: impl Fn(u64) -> u64) {
    let (few, many) = (with(4000), with(8000));
    assert!(many <= few + DOUBLINGS, "{name}: {few} heap allocations for 4000 nodes, {many} for 8000");
}

#[test]
fn scoring_a_node_allocates_nothing() {
    let plain = |nodes| state((0..nodes).map(|n| node(n, 25)));
    assert_none_per_node("cpu and memory", |nodes| allocations(plain(nodes), &job("one", 1, 500, 256), 1));
    let mut fixed = job("port", 1, 500, 256);
    let port = |label: &str, value| model::resources::Port { label: label.into(), value, ..Default::default() };
    fixed.task_groups[0].networks.push(model::resources::NetworkResource {
        mode: "host".into(),
        reserved_ports: vec![port("fixed", 8080)],
        dynamic_ports: vec![port("any", 0)],
        ..Default::default()
    });
    assert_none_per_node("ports", |nodes| allocations(plain(nodes), &fixed, 1));
    let with_gpus = |nodes| {
        state((0..nodes).map(|n| {
            let mut node = node(n, 25);
            gpus(&mut node, 4);
            node
        }))
    };
    assert_none_per_node("everything", |nodes| allocations(with_gpus(nodes), &everything(1), 1));
    // Nodes that are passed over, for want of room or by a check.
    assert_none_per_node("full nodes", |nodes| allocations(full(nodes), &low("none", 5), 0));
    let mut nowhere = job("nowhere", 1, 500, 256);
    nowhere.constraints.push(constraint("${meta.rack}", "=", "nowhere"));
    assert_none_per_node("infeasible nodes", |nodes| allocations(plain(nodes), &nowhere, 0));
}

fn low(id: &str, priority: i64) -> Job {
    let mut job = job(id, 1, 500, 256);
    job.priority = Some(priority);
    job
}
