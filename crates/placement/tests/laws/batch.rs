//! Batch, system and sysbatch jobs.

use std::collections::BTreeMap;

use model::alloc::DesiredTransition;
use model::{ClientStatus, DesiredStatus, Eligibility, EvalStatus, NodeStatus};

use crate::world::{SECOND, World, changed, constraint, job, migrate, names, node, retouched, rolling};

/// batch-001
#[test]
fn batch_001_what_completed_is_not_run_again() {
    let mut world = World::with_nodes(3);
    let job = job("batch", 3);
    world.register(&job);
    for alloc in world.live(&job) {
        world.report(&alloc, ClientStatus::Complete);
    }
    let eval = world.eval_for(&job, "node-update");
    let decision = world.decide(&eval);
    assert!(decision.no_op);
    assert_eq!(decision.plan.eval.unwrap().queued_allocations["g"], 0);
}

/// batch-002, batch-003, reconcile-027, reconcile-029, reconcile-077
#[test]
fn batch_002_003_a_failed_allocation_is_tried_as_often_as_the_policy_says() {
    let mut world = World::with_nodes(3);
    let job = job("batch", 1);
    world.register(&job);
    let first = world.live(&job)[0].clone();
    world.report(&first, ClientStatus::Failed);
    world.evaluate(&job, "alloc-failure");
    let followup = world.eval(&world.state.alloc(&first.id).unwrap().followup_eval_id.clone());
    assert_eq!(followup.wait_until.unwrap().unix_nanos(), world.now + 5 * SECOND);
    world.now += 5 * SECOND;
    let d = world.process(&followup).plan_annotations.unwrap().desired_tg_updates["g"].clone();
    assert_eq!((d.place, d.stop, d.reschedule_now), (1, 1, 1));
    let second = world.live(&job)[0].clone();
    world.report(&second, ClientStatus::Failed);
    world.now += 60 * SECOND;
    let eval = world.evaluate(&job, "alloc-failure");
    assert!(world.live(&job).is_empty());
    assert_eq!(eval.queued_allocations["g"], 0);
    assert_eq!(world.state.alloc(&second.id).unwrap().desired_status, DesiredStatus::Run);
}

/// batch-006, batch-010
#[test]
fn batch_006_010_success_on_a_lost_or_draining_node_counts() {
    let mut world = World::with_nodes(2);
    let job = job("batch", 2);
    world.register(&job);
    for alloc in world.live(&job) {
        world.report(&alloc, ClientStatus::Complete);
    }
    let node = world.allocs(&job)[0].node_id.clone();
    world.drain(&node);
    let eval = world.eval_for(&job, "node-drain");
    assert!(world.decide(&eval).no_op);
    world.set_status(&node, NodeStatus::Down);
    let eval = world.eval_for(&job, "node-update");
    assert!(world.decide(&eval).no_op);
}

/// batch-007, batch-008, reconcile-070
#[test]
fn batch_007_008_a_new_version_runs_again_and_leaves_the_old_results() {
    let mut world = World::with_nodes(2);
    let old = job("batch", 2);
    world.register(&old);
    for alloc in world.live(&old) {
        world.report(&alloc, ClientStatus::Complete);
    }
    let before = world.allocs(&old);
    world.register(&changed(&old, "2"));
    assert_eq!(names(&world.live(&old)), ["j.g[0]", "j.g[1]"]);
    for alloc in before {
        assert_eq!(world.state.alloc(&alloc.id).unwrap().desired_status, DesiredStatus::Run);
    }
}

/// batch-009, reconcile-019, reconcile-020
#[test]
fn reconcile_019_020_batch_work_moves_unless_its_place_is_not_to_be_filled() {
    for fill in [true, false] {
        let mut world = World::with_nodes(3);
        let job = job("batch", 2);
        world.register(&job);
        world.run_all(&job);
        let alloc = world.live(&job)[0].clone();
        world.drain(&alloc.node_id);
        let flags = DesiredTransition { migrate_disable_placement: (!fill).then_some(true), ..migrate() };
        world.transition(&alloc.id, flags);
        world.evaluate(&job, "node-drain");
        assert_eq!(world.state.alloc(&alloc.id).unwrap().desired_status, DesiredStatus::Stop);
        assert_eq!(world.live(&job).len(), if fill { 2 } else { 1 });
        // batch-014: it goes on counting while it ends.
        world.evaluate(&job, "node-update");
        assert_eq!(world.live(&job).len(), if fill { 2 } else { 1 });
    }
}

/// reconcile-080
#[test]
fn reconcile_080_scaling_down_counts_what_has_ended() {
    let mut world = World::with_nodes(3);
    let mut job = job("batch", 4);
    world.register(&job);
    let first = world.live(&job)[0].clone();
    world.report(&first, ClientStatus::Complete);
    job.task_groups[0].count = Some(3);
    world.register(&job);
    assert_eq!(world.live(&job).len(), 3);
}

/// system-001, system-006, system-013, system-016
#[test]
fn system_001_006_013_every_ready_node_runs_one() {
    let mut world = World::with_nodes(10);
    let job = job("system", 1);
    let eval = world.register(&job);
    assert_eq!((eval.status, eval.queued_allocations["g"]), (EvalStatus::Complete, 0));
    let mut per_node: BTreeMap<_, usize> = BTreeMap::new();
    world.live(&job).iter().for_each(|a| *per_node.entry(a.node_id.clone()).or_default() += 1);
    assert_eq!((per_node.len(), per_node.values().max()), (10, Some(&1)));
    world.run_all(&job);
    let eval = world.eval_for(&job, "node-update");
    assert!(world.decide(&eval).no_op);
    let new = world.add_node(node(30));
    world.evaluate(&job, "node-update");
    assert_eq!(world.live(&job).iter().filter(|a| a.node_id == new).count(), 1);
    assert_eq!(world.live(&job).len(), 11);
    world.set_status(&new, NodeStatus::Down);
    world.evaluate(&job, "node-update");
    assert_eq!(world.live(&job).len(), 10);
    let lost = world.allocs(&job).into_iter().find(|a| a.node_id == new).unwrap();
    assert_eq!(lost.client_status, ClientStatus::Lost);
}

/// system-007, system-018, system-020, system-024
#[test]
fn system_007_018_020_nodes_that_may_not_run_it_block_nothing() {
    let mut world = World::new();
    let mut job = job("system", 1);
    let eval = world.register(&job);
    assert!(eval.failed_tg_allocs.is_empty() && eval.blocked_eval.is_empty());
    for i in 0..4 {
        world.add_node(node(i));
    }
    job.constraints.push(constraint("${attr.kernel.name}", "=", "plan9"));
    let eval = world.register(&job);
    assert_eq!(eval.queued_allocations["g"], 0);
    assert!(eval.blocked_eval.is_empty());
    let metric = &eval.failed_tg_allocs["g"];
    assert_eq!((metric.nodes_filtered, metric.constraint_filtered["${attr.kernel.name} = plan9"]), (4, 4));
    // system-019
    job.constraints[0] = constraint("${meta.rack}", "=", "r1");
    let eval = world.register(&job);
    assert!(eval.failed_tg_allocs.is_empty());
    assert_eq!(world.live(&job).len(), 1);
}

/// system-003
#[test]
fn system_003_a_full_node_is_waited_for() {
    let mut world = World::with_nodes(3);
    let mut big = job("system", 1);
    big.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3000);
    world.register(&big);
    let mut other = big.clone();
    other.id = Some("k".into());
    other.name = Some("k".into());
    let eval = world.register(&other);
    assert_eq!((world.live(&other).len(), eval.queued_allocations["g"]), (0, 3));
    let metric = &eval.failed_tg_allocs["g"];
    assert_eq!((metric.nodes_exhausted, metric.dimension_exhausted["cpu"]), (3, 3));
    assert_eq!(metric.nodes_available["dc1"], 3);
    assert_eq!(world.eval(&eval.blocked_eval).status, EvalStatus::Blocked);
}

/// system-008, system-025
#[test]
fn system_008_025_a_destructive_change_replaces_on_the_same_nodes() {
    let mut world = World::with_nodes(4);
    let old = job("system", 1);
    world.register(&old);
    world.run_all(&old);
    world.register(&changed(&old, "2"));
    assert_eq!(world.live(&old).len(), 4);
    for new in world.live(&old) {
        let previous = world.state.alloc(&new.previous_allocation).unwrap();
        assert_eq!((&previous.node_id, previous.desired_status), (&new.node_id, DesiredStatus::Stop));
    }
}

/// system-009, system-041, system-042, system-039
#[test]
fn system_009_041_042_a_rolling_change_waits_for_health() {
    let mut world = World::with_nodes(5);
    let old = rolling("system", 1, 2);
    let first = world.register(&old);
    assert_eq!(world.live(&old).len(), 5);
    assert_eq!(world.state.deployment(&first.deployment_id).unwrap().task_groups["g"].desired_total, 5);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    assert!(!world.state.deployment(&first.deployment_id).unwrap().status.is_active());
    let new = changed(&old, "2");
    let eval = world.register(&new);
    let fresh = |world: &World| world.live(&old).iter().filter(|a| a.job_version == Some(1)).count();
    assert_eq!(fresh(&world), 2);
    assert_eq!(world.state.deployment(&eval.deployment_id).unwrap().task_groups["g"].desired_total, 5);
    world.evaluate(&new, "deployment-watcher");
    assert_eq!(fresh(&world), 2);
    for step in [4, 5] {
        world.run_all(&new);
        world.evaluate(&new, "deployment-watcher");
        assert_eq!(fresh(&world), step);
    }
    world.run_all(&new);
    world.evaluate(&new, "deployment-watcher");
    let done = world.state.deployment(&eval.deployment_id).unwrap();
    assert_eq!(done.status, model::DeploymentStatus::Successful);
    // A node that joins later gets the version without another deployment.
    world.add_node(node(40));
    world.evaluate(&new, "node-update");
    assert_eq!((world.live(&old).len(), world.state.deployments().count()), (6, 2));
}

/// system-010, system-011, system-012
#[test]
fn system_010_011_012_changes_in_place_targets_and_stops() {
    let mut world = World::with_nodes(3);
    let mut far = node(20);
    far.datacenter = "dc2".into();
    let far = world.add_node(far);
    let job = job("system", 1);
    world.register(&job);
    world.run_all(&job);
    let before = world.live(&job);
    let eval = world.register(&retouched(&job, 9));
    assert_eq!(eval.plan_annotations.unwrap().desired_tg_updates["g"].in_place_update, 4);
    let ids = |list: &[std::sync::Arc<model::Allocation>]| list.iter().map(|a| a.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&world.live(&job)), ids(&before));
    let mut near = retouched(&job, 9);
    near.datacenters = vec!["dc1".into()];
    world.register(&near);
    assert!(world.live(&job).iter().all(|a| a.node_id != far));
    assert_eq!(world.live(&job).len(), 3);
    world.stop_job(&job, true);
    assert!(world.live(&job).is_empty());
}

/// system-015, system-035, system-036, nodediff-001, nodediff-002
#[test]
fn system_015_035_036_draining_and_ineligible_nodes() {
    let mut world = World::with_nodes(3);
    let job = job("system", 1);
    world.register(&job);
    world.run_all(&job);
    let live = world.live(&job);
    world.drain(&live[0].node_id);
    world.set_eligible(&live[1].node_id, Eligibility::Ineligible);
    let eval = world.eval_for(&job, "node-update");
    assert!(world.decide(&eval).no_op);
    world.transition(&live[0].id, migrate());
    world.evaluate(&job, "node-drain");
    assert_eq!(world.state.alloc(&live[0].id).unwrap().desired_status, DesiredStatus::Stop);
    assert_eq!(world.live(&job).len(), 2);
    world.register(&changed(&job, "2"));
    assert_eq!(world.state.alloc(&live[1].id).unwrap().desired_status, DesiredStatus::Stop);
    assert_eq!(world.live(&job).len(), 1);
}

/// system-053: a change that excludes a node stops what runs there.
#[test]
fn system_053_a_new_constraint_stops_what_may_not_stay() {
    let mut world = World::with_nodes(3);
    let mut job = job("system", 1);
    world.register(&job);
    world.run_all(&job);
    job.constraints.push(constraint("${meta.rack}", "!=", "r1"));
    world.register(&job);
    assert_eq!(world.live(&job).len(), 2);
}

/// system-029
#[test]
fn system_029_reasons_that_are_not_for_system_jobs_fail() {
    let mut world = World::with_nodes(1);
    let job = job("system", 1);
    let mut eval = world.register_only(&job);
    eval.triggered_by = "periodic-job".into();
    assert_eq!(world.decide(&eval).plan.eval.unwrap().status, EvalStatus::Failed);
}

/// sysbatch-001, sysbatch-003, sysbatch-004, sysbatch-005
#[test]
fn sysbatch_001_003_004_005_each_node_runs_each_version_once() {
    let mut world = World::with_nodes(4);
    let job = job("sysbatch", 1);
    world.register(&job);
    assert_eq!(world.live(&job).len(), 4);
    for alloc in world.live(&job) {
        world.report(&alloc, ClientStatus::Complete);
    }
    let eval = world.eval_for(&job, "node-update");
    assert!(world.decide(&eval).no_op);
    let new = world.add_node(node(20));
    world.evaluate(&job, "node-update");
    let live = world.live(&job);
    assert_eq!((live.len(), &live[0].node_id), (1, &new));
    world.register(&changed(&job, "2"));
    assert_eq!(world.live(&job).len(), 5);
}

/// sysbatch-007, sysbatch-008
#[test]
fn sysbatch_007_008_a_dead_node_loses_what_ran_and_keeps_what_ended() {
    let mut world = World::with_nodes(2);
    let job = job("sysbatch", 1);
    world.register(&job);
    world.run_all(&job);
    let live = world.live(&job);
    world.report(&live[0], ClientStatus::Complete);
    for alloc in &live {
        world.set_status(&alloc.node_id, NodeStatus::Down);
    }
    world.evaluate(&job, "node-update");
    assert_eq!(world.state.alloc(&live[0].id).unwrap().client_status, ClientStatus::Complete);
    assert_eq!(world.state.alloc(&live[1].id).unwrap().client_status, ClientStatus::Lost);
}

/// service-055, batch-016, system-017
#[test]
fn service_055_system_017_an_evaluation_that_keeps_colliding_gives_up() {
    let mut world = World::with_nodes(1);
    for (kind, leaves) in [("service", true), ("batch", true), ("system", false)] {
        let mut job = job(kind, 1);
        job.id = Some(kind.into());
        let eval = world.register_only(&job);
        let (failed, blocked) = placement::give_up(&eval, 5, world.now, &mut || "x".to_owned());
        assert_eq!((failed.status, blocked.is_some()), (EvalStatus::Failed, leaves));
        assert_eq!(failed.status_description, "maximum attempts reached (5)");
        if let Some(blocked) = blocked {
            assert_eq!((blocked.status, blocked.triggered_by.as_str()), (EvalStatus::Blocked, "max-plan-attempts"));
            assert_eq!(failed.blocked_eval, blocked.id);
        }
    }
}
