//! Comparing what has not changed takes no memory: a registration that says nothing new is looked at on
//! every request.
#![allow(clippy::unwrap_used)]
// An allocator that counts can only be written so; it hands everything on to the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use model::Job;
use serde_json::json;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is the system allocator's; counting touches a cell of the thread that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
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
