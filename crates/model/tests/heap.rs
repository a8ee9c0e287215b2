//! Comparing what has not changed takes no memory: a registration that says nothing new is looked at on
//! every request. And an allocation's row takes little of it.
#![allow(clippy::unwrap_used)]
// An allocator that counts can only be written so; it hands everything on to the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use model::{Allocation, Job};
use serde_json::json;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Bytes in use, as asked for.
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is the system allocator's; counting touches a cell of the thread that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        add(layout.size().cast_signed());
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-layout.size().cast_signed());
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn add(bytes: isize) {
    let _ = BYTES.try_with(|all| all.set(all.get() + bytes));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

fn job(groups: usize) -> Job {
    let group = |n: usize| {
        json!({"Name": format!("g{n}"), "Count": 3, "Meta": {"a": "b"}, "Scaling": {"Max": 9},
            "Networks": [{"DynamicPorts": [{"Label": "http", "To": 8080}]}],
            "Services": [{"Name": "s", "PortLabel": "http", "Checks": [{"Name": "c", "Type": "tcp"}]}],
            "Tasks": [{"Name": "t", "Driver": "docker", "Env": {"A": "x"},
                "Config": {"image": "a:1", "args": ["x", "y"], "labels": [{"k": "v"}]},
                "Templates": [{"EmbeddedTmpl": "x", "DestPath": "local/x"}]}]})
    };
    let groups: Vec<_> = (0..groups).map(group).collect();
    let mut job: Job = serde_json::from_value(json!({"ID": "web", "TaskGroups": groups})).unwrap();
    job.canonicalize();
    job
}

#[test]
fn comparing_unchanged_specifications_allocates_nothing() {
    let (old, new) = (job(200), job(200));
    assert_eq!(allocations(|| assert!(!old.spec_changed(&new))), 0);
    assert_eq!(allocations(|| assert!(old == new)), 0);
    // what the cluster writes is no part of the specification
    let mut stored = new.clone();
    (stored.version, stored.stable) = (Some(9), Some(true));
    stored.task_groups.iter_mut().filter_map(|group| group.scaling.as_mut()).for_each(|policy| policy.id = "p".into());
    assert_eq!(allocations(|| assert!(!old.spec_changed(&stored))), 0);
    // a change is found without memory, too
    let mut changed = new.clone();
    changed.task_groups[199].tasks[0].env.insert("A".into(), "y".into());
    changed.task_groups.iter_mut().for_each(|group| group.scaling = None);
    assert_eq!(allocations(|| assert!(old.spec_changed(&changed))), 0);
    assert!(allocations(|| drop(new.clone())) > 0, "the counter counts");
}

/// A running allocation of one task, as three state servers and two gateways keep it a hundred thousand times.
fn row() -> String {
    let event = |kind: &str, text: &str| {
        json!({"Type": kind, "Time": 1_800_000_000_000_000_000_i64, "Message": "", "DisplayMessage": text, "Details": {},
            "RestartReason": "", "ExitCode": 0, "KillTimeout": 0})
    };
    let score = |n: usize| {
        let scores =
            json!({"binpack": 0.1, "job-anti-affinity": 0.0, "node-affinity": 0.0, "node-reschedule-penalty": 0.0});
        json!({"NodeID": format!("b1c6a1f8-7f1e-4c0e-8a62-00000000000{n}"), "Scores": scores, "NormScore": 0.1})
    };
    json!({
        "ID": "6f0e2d1c-1111-4c0e-8a62-7c6f5a4b3c2d", "Namespace": "default", "EvalID": "6f0e2d1c-2222-4c0e-8a62-7c6f5a4b3c2d",
        "Name": "burst-1234-17.g[42]", "NodeID": "b1c6a1f8-7f1e-4c0e-8a62-000000000001", "NodeName": "node-0001",
        "JobID": "burst-1234-17", "TaskGroup": "g", "DesiredStatus": "run", "ClientStatus": "running",
        "ClientDescription": "Tasks are running",
        "AllocatedResources": {
            "Tasks": {"t": {"Cpu": {"CpuShares": 20}, "Memory": {"MemoryMB": 64}, "Networks": null, "Devices": null}},
            "TaskLifecycles": {"t": null}, "Shared": {"DiskMB": 10, "Networks": null, "Ports": null},
        },
        "Metrics": {"NodesEvaluated": 500, "NodesInPool": 500, "NodePool": "default", "NodesAvailable": {"dc1": 500},
            "ScoreMetaData": [score(1), score(2), score(3)]},
        "TaskStates": {"t": {"State": "running", "StartedAt": "2026-11-22T00:00:00Z", "Events": [
            event("Received", "Task received by client"), event("Task Setup", "Building Task Directory"),
            event("Started", "Task started by client")]}},
        "job_version": 0, "job_incarnation": 77,
    })
    .to_string()
}

#[test]
fn a_row_of_an_allocation_takes_little_room() {
    let text = row();
    let rows = |n: usize| (0..n).map(|_| serde_json::from_str::<Allocation>(&text).unwrap()).collect::<Vec<_>>();
    drop(rows(1));
    let before = BYTES.with(Cell::get);
    let kept = rows(64);
    let each = (BYTES.with(Cell::get) - before) / 64;
    assert_eq!(kept.len(), 64);
    let of = [size_of::<Allocation>(), size_of::<model::alloc::TaskEvent>(), size_of::<model::metric::AllocMetric>()];
    assert!(each < 3_800, "{each} bytes; the row itself, an event and a metric: {of:?}");
}
