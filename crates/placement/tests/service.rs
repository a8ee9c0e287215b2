//! Service jobs, from registration to plan.
#![allow(clippy::unwrap_used)]

mod world;

use model::EvalStatus;
use world::{World, job, names};

/// service-001, reconcile-001
#[test]
fn service_001_a_new_job_gets_its_count() {
    let mut world = World::with_nodes(10);
    let job = job("service", 10);
    let eval = world.register(&job);
    assert_eq!(eval.status, EvalStatus::Complete);
    assert_eq!(world.live(&job).len(), 10);
    assert_eq!(names(&world.live(&job))[0], "j.g[0]");
    assert_eq!(eval.queued_allocations["g"], 0);
    assert!(eval.blocked_eval.is_empty());
}
