//! What blocked evaluations ask for, and a tracker that is off.
#![allow(clippy::unwrap_used)]

mod rig;

use model::Evaluation;
use model::metric::AllocMetric;
use model::resources::Resources;
use queue::{Asked, BlockedResources, Freed};
use rig::{Rig, blocked};

fn short(row: Evaluation, dcs: &[&str], class: &str, cpu: i64, memory: i64) -> Evaluation {
    let asked = Resources { cpu: Some(cpu), memory_mb: Some(memory), ..Resources::default() };
    let metric = AllocMetric {
        node_pool: "default".into(),
        nodes_available: dcs.iter().map(|dc| ((*dc).to_owned(), 1)).collect(),
        class_exhausted: [(class.to_owned(), 1)].into(),
        resources_exhausted: [("t".to_owned(), asked)].into(),
        ..AllocMetric::default()
    };
    Evaluation { failed_tg_allocs: [("g".to_owned(), metric)].into(), ..row }
}

fn place(dc: &str, class: &str) -> (String, String, String) {
    (dc.to_owned(), class.to_owned(), "default".to_owned())
}

#[test]
fn q_blocked_027_028_what_is_asked_for_is_known_by_job_and_place_until_it_is_unblocked() {
    let mut rig = Rig::new();
    rig.row(short(blocked("a", "one", 1), &["dc1", "dc2"], "big", 500, 256));
    rig.row(short(blocked("b", "two", 2), &["dc1"], "big", 100, 64));
    let all = rig.broker.blocked_resources();
    let of_job = |job: &str| all.by_job[&("default".into(), job.into())];
    assert_eq!(of_job("one"), Asked { cpu_mhz: 500, memory_mb: 256 });
    assert_eq!(of_job("two"), Asked { cpu_mhz: 100, memory_mb: 64 });
    assert_eq!(all.by_place[&place("dc1", "big")], Asked { cpu_mhz: 600, memory_mb: 320 });
    assert_eq!(all.by_place[&place("dc2", "big")], Asked { cpu_mhz: 500, memory_mb: 256 });
    let mut done = blocked("a", "one", 3);
    done.status = model::EvalStatus::Cancelled;
    rig.row(done);
    let left = rig.broker.blocked_resources();
    assert_eq!((left.by_job.len(), left.by_place.len()), (1, 1), "nothing is left of what is over");
}

#[test]
fn q_blocked_030_sums_commute_and_what_is_missing_is_nothing() {
    let one = BlockedResources::of(&short(blocked("a", "one", 1), &["dc1"], "big", 500, 256));
    let two = BlockedResources::of(&short(blocked("b", "two", 1), &["dc2"], "", 100, 64));
    let nothing = BlockedResources::of(&short(blocked("c", "three", 1), &["dc1"], "big", 0, 0));
    assert_eq!(nothing, BlockedResources::default(), "what asks for nothing has no entry");
    let sum = |all: &[&BlockedResources]| BlockedResources::sum(all.iter().map(|one| (*one).clone()));
    let both = sum(&[&one, &two]);
    assert_eq!(both, sum(&[&two, &one]));
    assert_eq!((both.by_job.len(), both.by_place.len()), (2, 2));
    assert_eq!(both.by_place[&place("dc2", "")], Asked { cpu_mhz: 100, memory_mb: 64 });
    assert_eq!(sum(&[&both, &one]), sum(&[&one, &sum(&[&two, &one])]));
    assert_eq!((sum(&[&one, &nothing]), sum(&[])), (one.clone(), nothing));
}

/// q-blocked-001, q-blocked-025: a broker without the lease holds rows for the case that it gets it, and
/// wakes nobody.
#[test]
fn q_blocked_001_025_a_broker_that_is_not_active_wakes_nobody() {
    let mut rig = Rig::new();
    rig.broker.deactivate(rig.now);
    rig.row(blocked("a", "one", 3));
    let mut bound = blocked("s", "sys", 3);
    (bound.kind, bound.node_id) = ("system".to_owned(), "n".into());
    rig.row(bound);
    rig.freed("n", "c", 9);
    assert!(rig.unblocked().is_empty());
}

/// q-blocked-026: noting that something was freed does no more than to remember it; who is woken is found
/// out later, once, for all of it.
#[test]
fn q_blocked_026_many_releases_are_noted_at_once_and_looked_at_once() {
    let mut rig = Rig::new();
    for n in 0..200 {
        rig.row(blocked(&format!("e{n}"), &format!("job{n}"), 3));
    }
    for n in 0..10_000_u64 {
        rig.free(Freed::Capacity { node: format!("n{n}").as_str().into(), class: format!("c{}", n % 7) }, 10 + n);
    }
    let woken = rig.unblocked();
    assert_eq!(woken.len(), 200, "each once");
}
