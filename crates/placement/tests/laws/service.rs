//! Service jobs, from registration to plan.

use std::collections::BTreeSet;

use model::job::UpdateStrategy;
use model::{ClientStatus, DeploymentStatus, DesiredStatus, Eligibility, EvalStatus, Nanos, NodeStatus};

use crate::world::{self, SECOND, World, changed, constraint, job, migrate, names, node, retouched, rolling};

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
    let desired = &eval.plan_annotations.unwrap().desired_tg_updates["g"];
    assert_eq!((desired.place, desired.stop, desired.ignore), (10, 0, 0));
    let alloc = world.live(&job).remove(0);
    assert_eq!((alloc.desired_status, alloc.client_status), (DesiredStatus::Run, ClientStatus::Pending));
    assert_eq!((alloc.job_version, alloc.node_name.is_empty(), alloc.job.is_none()), (Some(0), false, true));
    let metrics = alloc.metrics.as_ref().unwrap().look();
    assert_eq!((metrics.nodes_evaluated, metrics.nodes_in_pool, metrics.nodes_available["dc1"]), (10, 10, 10));
    assert_eq!(metrics.score_meta_data.len(), 5);
    let scores: BTreeSet<&str> = metrics.score_meta_data[0].scores.iter().map(|(name, _)| name).collect();
    assert_eq!(scores, BTreeSet::from(["binpack", "job-anti-affinity", "node-affinity", "node-reschedule-penalty"]));
}

/// service-018, service-034, reconcile-004
#[test]
fn service_018_034_a_count_of_zero_places_nothing_and_stops_what_runs() {
    let mut world = World::with_nodes(2);
    let none = job("service", 0);
    assert_eq!(world.register(&none).status, EvalStatus::Complete);
    assert!(world.allocs(&none).is_empty());
    world.register(&job("service", 3));
    assert_eq!(world.live(&none).len(), 3);
    world.register(&none);
    assert!(world.live(&none).is_empty());
}

/// service-019, metrics-001
#[test]
fn service_019_without_nodes_the_evaluation_blocks_once() {
    let mut world = World::new();
    let job = job("service", 3);
    let eval = world.register(&job);
    let metric = &eval.failed_tg_allocs["g"];
    assert_eq!((metric.nodes_evaluated, metric.coalesced_failures), (0, 2));
    assert_eq!(eval.queued_allocations["g"], 3);
    let blocked = world.eval(&eval.blocked_eval);
    assert_eq!(blocked.status, EvalStatus::Blocked);
    assert_eq!(blocked.status_description, "created to place remaining allocations");
    assert_eq!((blocked.triggered_by.as_str(), &blocked.previous_eval), ("queued-allocs", &eval.id));
}

/// service-007, service-020, metrics-003, stack-004
#[test]
fn service_007_020_what_does_not_fit_waits_with_what_was_learned() {
    let mut world = World::with_nodes(1);
    let mut job = job("service", 10);
    job.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(1500);
    let eval = world.register(&job);
    assert_eq!(world.live(&job).len(), 2);
    assert_eq!(eval.queued_allocations["g"], 8);
    let metric = &eval.failed_tg_allocs["g"];
    assert_eq!((metric.nodes_exhausted, metric.dimension_exhausted["cpu"]), (1, 1));
    assert_eq!(metric.coalesced_failures, 7);
    assert_eq!(metric.resources_exhausted["t"].cpu, Some(12_000));
    assert_eq!(metric.resources_exhausted["t"].memory_mb, Some(0));
    assert_eq!(metric.nodes_evaluated, metric.nodes_filtered + metric.nodes_exhausted);
    let blocked = world.eval(&eval.blocked_eval);
    assert!(!blocked.escaped_computed_class);
    assert_eq!(blocked.class_eligibility.values().collect::<Vec<_>>(), [&true]);
}

/// feasible-014, eligibility-001, stack-001
#[test]
fn feasible_014_a_failing_constraint_filters_under_its_text() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 1);
    job.constraints.push(constraint("${attr.kernel.name}", "=", "plan9"));
    let eval = world.register(&job);
    let metric = &eval.failed_tg_allocs["g"];
    assert_eq!((metric.nodes_evaluated, metric.nodes_filtered), (3, 3));
    assert_eq!(metric.constraint_filtered["${attr.kernel.name} = plan9"], 3);
    let blocked = world.eval(&eval.blocked_eval);
    assert!(blocked.class_eligibility.values().all(|eligible| !eligible) && !blocked.class_eligibility.is_empty());
}

/// eligibility-002, eligibility-005
#[test]
fn eligibility_002_a_unique_constraint_escapes_the_class() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 1);
    job.constraints.push(constraint("${attr.unique.hostname}", "=", "node-1"));
    world.register(&job);
    assert_eq!(world.live(&job)[0].node_name, "node-1");
    job.constraints[0].r_target = "nowhere".into();
    job.id = Some("k".into());
    let eval = world.register(&job);
    let blocked = world.eval(&eval.blocked_eval);
    assert!(blocked.escaped_computed_class && blocked.class_eligibility.is_empty());
}

/// service-021
#[test]
fn service_021_a_group_that_cannot_run_does_not_stop_one_that_can() {
    let mut world = World::with_nodes(2);
    let mut job = job("service", 2);
    let mut other = job.task_groups[0].clone();
    other.name = Some("h".into());
    other.constraints.push(constraint("${attr.kernel.name}", "=", "plan9"));
    job.task_groups.push(other);
    let eval = world.register(&job);
    assert_eq!(world.live(&job).len(), 2);
    assert_eq!(eval.failed_tg_allocs.keys().collect::<Vec<_>>(), ["h"]);
    assert_eq!((eval.queued_allocations["g"], eval.queued_allocations["h"]), (0, 2));
}

/// service-026, service-027
#[test]
fn service_026_027_a_blocked_evaluation_waits_on_until_all_is_placed() {
    let mut world = World::with_nodes(1);
    let mut job = job("service", 3);
    job.constraints.push(constraint("", "distinct_hosts", ""));
    let eval = world.register(&job);
    let blocked = world.eval(&eval.blocked_eval);
    let pending = model::Evaluation { status: EvalStatus::Pending, ..blocked.clone() };
    let again = world.process(&pending);
    assert_eq!((again.status, again.queued_allocations["g"]), (EvalStatus::Blocked, 2));
    assert!(again.blocked_eval.is_empty());
    world.add_node(node(7));
    let partly = world.process(&again);
    assert_eq!((partly.status, partly.queued_allocations["g"]), (EvalStatus::Blocked, 1));
    world.add_node(node(8));
    let done = world.process(&partly);
    assert_eq!((done.status, done.queued_allocations["g"]), (EvalStatus::Complete, 0));
    assert_eq!(world.live(&job).len(), 3);
}

/// service-050
#[test]
fn service_050_nothing_to_do_is_no_plan() {
    let mut world = World::with_nodes(2);
    let job = job("service", 2);
    world.register(&job);
    let eval = world.eval_for(&job, "node-update");
    let decision = world.decide(&eval);
    assert!(decision.no_op);
    assert_eq!(decision.plan.eval.unwrap().status, EvalStatus::Complete);
}

/// service-082
#[test]
fn service_082_an_unknown_reason_fails_the_evaluation() {
    let mut world = World::with_nodes(1);
    let job = job("service", 1);
    let mut eval = world.register_only(&job);
    eval.triggered_by = "because".into();
    let decision = world.decide(&eval);
    assert!(decision.no_op);
    assert_eq!(decision.plan.eval.unwrap().status, EvalStatus::Failed);
}

/// service-028, service-079, reconcile-009, reconcile-010
#[test]
fn service_028_079_a_destructive_change_without_limit_replaces_all_under_the_same_names() {
    let mut world = World::with_nodes(5);
    let old = job("service", 5);
    world.register(&old);
    world.run_all(&old);
    let before = world.live(&old);
    let eval = world.register(&changed(&old, "2"));
    let desired = &eval.plan_annotations.unwrap().desired_tg_updates["g"];
    assert_eq!((desired.destructive_update, desired.place), (5, 0));
    let after = world.live(&old);
    assert_eq!(names(&after), names(&before));
    for new in &after {
        let previous = world.state.alloc(&new.previous_allocation).unwrap();
        assert_eq!((&previous.name, &previous.next_allocation), (&new.name, &new.id));
        assert_eq!(previous.desired_description, "alloc is being updated due to job update");
        assert_eq!(new.job_version, Some(1));
    }
}

/// service-038, util-010, reconcile-005
#[test]
fn service_038_a_harmless_change_is_taken_in_place() {
    let mut world = World::with_nodes(3);
    let old = job("service", 3);
    world.register(&old);
    world.run_all(&old);
    let before = world.live(&old);
    let eval = world.register(&retouched(&old, 9));
    assert_eq!(eval.plan_annotations.unwrap().desired_tg_updates["g"].in_place_update, 3);
    let after = world.live(&old);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(
            (&old.id, &old.node_id, &old.allocated_resources),
            (&new.id, &new.node_id, &new.allocated_resources)
        );
        assert_eq!(new.job_version, Some(1));
        assert_eq!(new.client_status, ClientStatus::Running);
    }
}

/// reconcile-006, reconcile-007, reconcile-011, reconcile-012, reconcile-003
#[test]
fn reconcile_006_007_011_012_counts_and_changes_add_up() {
    let case = |count: i64, destructive: bool| {
        let mut world = World::with_nodes(6);
        let old = job("service", 10);
        world.register(&old);
        world.run_all(&old);
        let mut new = if destructive { changed(&old, "2") } else { retouched(&old, 9) };
        new.task_groups[0].count = Some(count);
        let eval = world.register(&new);
        let d = eval.plan_annotations.unwrap().desired_tg_updates["g"].clone();
        let stopped = world.allocs(&old).iter().filter(|a| a.desired_description.contains("not needed")).count();
        assert_eq!(u64::try_from(stopped).unwrap(), d.stop);
        let live = names(&world.live(&old));
        assert_eq!(live.len(), usize::try_from(count).unwrap());
        (d.place, d.in_place_update, d.destructive_update, d.stop)
    };
    assert_eq!(case(15, false), (5, 10, 0, 0));
    assert_eq!(case(5, false), (0, 5, 0, 5));
    assert_eq!(case(15, true), (5, 0, 10, 0));
    assert_eq!(case(5, true), (0, 0, 5, 5));
}

/// reconcile-003
#[test]
fn reconcile_003_scaling_down_stops_the_highest_indexes() {
    let mut world = World::with_nodes(4);
    let mut job = job("service", 8);
    world.register(&job);
    job.task_groups[0].count = Some(3);
    world.register(&job);
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]", "j.g[2]"]);
    // reconcile-002: an index that is free again is used again.
    job.task_groups[0].count = Some(5);
    world.register(&job);
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]", "j.g[2]", "j.g[3]", "j.g[4]"]);
}

/// service-043, service-044, reconcile-023, reconcile-024
#[test]
fn service_043_044_a_stopped_or_purged_job_loses_what_runs() {
    for purge in [false, true] {
        let mut world = World::with_nodes(3);
        let job = job("service", 4);
        world.register(&job);
        let first = world.live(&job)[0].clone();
        world.report(&first, ClientStatus::Complete);
        let eval = world.stop_job(&job, purge);
        assert_eq!(eval.status, EvalStatus::Complete);
        assert!(eval.queued_allocations.is_empty());
        assert!(world.live(&job).is_empty());
        // What had ended is not stopped; with its job it is forgotten.
        let ended = world.state.alloc(&first.id).map(|row| row.desired_status);
        assert_eq!(ended, (!purge).then_some(DesiredStatus::Run));
        assert_eq!(eval.plan_annotations.unwrap().desired_tg_updates["g"].stop, 3);
    }
}

/// service-046, reconcile-013, filters-017
#[test]
fn service_046_allocations_of_a_dead_node_are_replaced_elsewhere() {
    let mut world = World::with_nodes(3);
    let job = job("service", 6);
    world.register(&job);
    world.run_all(&job);
    let victim = world.live(&job)[0].node_id.clone();
    let there = world.live(&job).iter().filter(|a| a.node_id == victim).count();
    world.set_status(&victim, NodeStatus::Down);
    let eval = world.evaluate(&job, "node-update");
    let desired = &eval.plan_annotations.unwrap().desired_tg_updates["g"];
    assert_eq!((desired.place, desired.stop), (u64::try_from(there).unwrap(), u64::try_from(there).unwrap()));
    let live = world.live(&job);
    assert_eq!(live.len(), 6);
    assert!(live.iter().all(|a| a.node_id != victim));
    let lost: Vec<_> = world.allocs(&job).into_iter().filter(|a| a.client_status == ClientStatus::Lost).collect();
    assert_eq!(lost.len(), there);
    for alloc in lost {
        assert_eq!(alloc.desired_description, "alloc is lost since its node is down");
        assert_eq!(world.state.alloc(&alloc.next_allocation).unwrap().name, alloc.name);
    }
}

/// reconcile-014, reconcile-015
#[test]
fn reconcile_014_015_losses_and_count_changes_add_up() {
    let case = |count: i64| {
        let mut world = World::new();
        for i in 0..5 {
            world.add_node(node(i));
        }
        let mut job = job("service", 10);
        job.constraints.push(constraint("${meta.rack}", "is_set", ""));
        job.spreads.push(model::job::Spread { attribute: "${node.unique.id}".into(), ..Default::default() });
        world.register(&job);
        world.run_all(&job);
        let victim = world.live(&job)[0].node_id.clone();
        assert_eq!(world.live(&job).iter().filter(|a| a.node_id == victim).count(), 2);
        world.set_status(&victim, NodeStatus::Down);
        job.task_groups[0].count = Some(count);
        let d = world.register(&job).plan_annotations.unwrap().desired_tg_updates["g"].clone();
        (d.place, d.stop)
    };
    assert_eq!(case(15), (7, 2));
    assert_eq!(case(5), (0, 5));
}

/// service-045, util-012
#[test]
fn service_045_what_was_stopping_on_a_dead_node_is_lost() {
    let mut world = World::with_nodes(2);
    let job = job("service", 1);
    world.register(&job);
    world.run_all(&job);
    let alloc = world.live(&job)[0].clone();
    world.stop_job(&job, false);
    world.set_status(&alloc.node_id, NodeStatus::Down);
    world.evaluate(&job, "node-update");
    assert_eq!(world.state.alloc(&alloc.id).unwrap().client_status, ClientStatus::Lost);
}

/// service-051, service-054, reconcile-016, filters-018
#[test]
fn service_051_054_a_marked_allocation_moves_and_waits_when_it_cannot() {
    let mut world = World::with_nodes(2);
    let job = job("service", 2);
    world.register(&job);
    world.run_all(&job);
    let alloc = world.live(&job)[0].clone();
    world.drain(&alloc.node_id);
    // Draining alone moves nothing.
    let eval = world.eval_for(&job, "node-drain");
    assert!(world.decide(&eval).no_op);
    for each in world.live(&job).iter().filter(|a| a.node_id == alloc.node_id) {
        world.transition(&each.id, migrate());
    }
    world.evaluate(&job, "node-drain");
    let live = world.live(&job);
    assert_eq!(live.len(), 2);
    assert!(live.iter().all(|a| a.node_id != alloc.node_id));
    let old = world.state.alloc(&alloc.id).unwrap();
    assert_eq!(
        (old.desired_status, old.desired_description.as_str()),
        (DesiredStatus::Stop, "alloc is being migrated")
    );
    let other = live[0].node_id.clone();
    world.drain(&other);
    for each in &live {
        world.transition(&each.id, migrate());
    }
    let eval = world.evaluate(&job, "node-drain");
    assert_eq!(eval.queued_allocations["g"], 2);
    assert_eq!(world.eval(&eval.blocked_eval).status, EvalStatus::Blocked);
}

/// service-052
#[test]
fn service_052_a_draining_node_that_dies_loses_its_allocations() {
    let mut world = World::with_nodes(2);
    let job = job("service", 2);
    world.register(&job);
    world.run_all(&job);
    let alloc = world.live(&job)[0].clone();
    world.drain(&alloc.node_id);
    world.transition(&alloc.id, migrate());
    world.set_status(&alloc.node_id, NodeStatus::Down);
    world.evaluate(&job, "node-update");
    assert_eq!(world.state.alloc(&alloc.id).unwrap().client_status, ClientStatus::Lost);
    assert_eq!(world.live(&job).len(), 2);
}

/// service-057, service-042
#[test]
fn service_057_042_a_failed_allocation_is_tried_again_elsewhere() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 1);
    job.task_groups[0].reschedule_policy = Some(model::group::ReschedulePolicy {
        delay: Some(Nanos::from_secs(5)),
        delay_function: Some("constant".into()),
        unlimited: Some(true),
        ..Default::default()
    });
    world.register(&job);
    let alloc = world.live(&job)[0].clone();
    world.report(&alloc, ClientStatus::Failed);
    // service-058: not yet due.
    let eval = world.evaluate(&job, "alloc-failure");
    assert!(world.live(&job).is_empty());
    let noted = world.state.alloc(&alloc.id).unwrap().clone();
    assert_eq!(noted.desired_status, DesiredStatus::Run);
    let followup = world.eval(&noted.followup_eval_id);
    assert_eq!((followup.triggered_by.as_str(), &followup.previous_eval), ("alloc-reschedule", &eval.id));
    assert_eq!(followup.wait_until.unwrap().unix_nanos(), world.now + 5 * SECOND);
    assert_eq!(eval.next_eval, followup.id);
    // Another evaluation in between makes no second follow-up.
    let before = world.state.evals().count();
    world.evaluate(&job, "node-update");
    assert_eq!(world.state.evals().count(), before + 1);
    // reconcile-035: the follow-up itself finds it due.
    world.process(&followup);
    let new = world.live(&job)[0].clone();
    assert_ne!(new.node_id, alloc.node_id);
    assert_eq!((&new.name, &new.previous_allocation), (&alloc.name, &alloc.id));
    let tracker = new.reschedule_tracker.as_ref().unwrap();
    assert_eq!((tracker.events.len(), &tracker.events[0].prev_alloc_id), (1, &alloc.id));
    let old = world.state.alloc(&alloc.id).unwrap();
    assert_eq!((old.desired_status, &old.next_allocation), (DesiredStatus::Stop, &new.id));
    // reconcile-039
    world.evaluate(&job, "node-update");
    assert_eq!(world.live(&job).len(), 1);
    let metric = new.metrics.as_ref().unwrap().look();
    let penalized = metric.score_meta_data.iter().find(|s| s.node_id == alloc.node_id).unwrap();
    assert!((penalized.scores.get("node-reschedule-penalty").unwrap() + 1.0).abs() < f64::EPSILON);
}

/// service-060
#[test]
fn service_060_a_failed_allocation_keeps_its_tracker_while_it_waits_for_room() {
    let mut world = World::with_nodes(1);
    let job = job("service", 1);
    world.register(&job);
    let alloc = world.live(&job)[0].clone();
    world.report(&alloc, ClientStatus::Failed);
    world.set_eligible(&alloc.node_id, Eligibility::Ineligible);
    world.now += 60 * SECOND;
    let eval = world.evaluate(&job, "alloc-failure");
    assert_eq!(eval.queued_allocations["g"], 1);
    assert_eq!(world.state.alloc(&alloc.id).unwrap().desired_status, DesiredStatus::Run);
    world.add_node(node(5));
    let blocked = world.eval(&eval.blocked_eval);
    let done = world.process(&blocked);
    assert_eq!(done.status, EvalStatus::Complete);
    let new = world.live(&job)[0].clone();
    assert_eq!(new.previous_allocation, alloc.id);
    assert_eq!(new.reschedule_tracker.as_ref().unwrap().events.len(), 1);
}

/// reconcile-076
#[test]
fn reconcile_076_without_a_policy_a_failed_allocation_keeps_its_slot() {
    let mut world = World::with_nodes(2);
    let mut job = job("service", 2);
    let off = model::group::ReschedulePolicy { attempts: Some(0), unlimited: Some(false), ..Default::default() };
    job.task_groups[0].reschedule_policy = Some(off);
    world.register(&job);
    let alloc = world.live(&job)[0].clone();
    world.report(&alloc, ClientStatus::Failed);
    world.now += 3600 * SECOND;
    world.evaluate(&job, "alloc-failure");
    assert_eq!(world.live(&job).len(), 1);
}

/// reconcile-031
#[test]
fn reconcile_031_a_completed_service_allocation_is_replaced() {
    let mut world = World::with_nodes(2);
    let job = job("service", 2);
    world.register(&job);
    let alloc = world.live(&job)[0].clone();
    world.report(&alloc, ClientStatus::Complete);
    world.evaluate(&job, "node-update");
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]"]);
    assert_eq!(world.state.alloc(&alloc.id).unwrap().desired_status, DesiredStatus::Run);
}

/// reconcile-028
#[test]
fn reconcile_028_failures_close_in_time_share_a_follow_up() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 6);
    job.task_groups[0].reschedule_policy = Some(model::group::ReschedulePolicy {
        delay: Some(Nanos::from_secs(30)),
        delay_function: Some("constant".into()),
        unlimited: Some(true),
        ..Default::default()
    });
    world.register(&job);
    for (at, alloc) in world.live(&job).into_iter().enumerate() {
        world.report(&alloc, ClientStatus::Failed);
        world.now += if at == 2 { 10 } else { 1 } * SECOND;
    }
    world.evaluate(&job, "alloc-failure");
    let ids: BTreeSet<_> = world.allocs(&job).iter().map(|a| a.followup_eval_id.clone()).collect();
    assert_eq!(ids.len(), 2);
    let triggers: BTreeSet<_> = ids.iter().map(|id| world.eval(id).triggered_by).collect();
    assert_eq!(triggers, BTreeSet::from(["alloc-reschedule".to_owned(), "alloc-failure".to_owned()]));
}

/// service-035, reconcile-042, reconcile-060, reconcile-064, service-081
#[test]
fn service_035_a_rolling_update_goes_in_steps_to_success() {
    let mut world = World::with_nodes(6);
    let old = rolling("service", 10, 3);
    let first = world.register(&old);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    let d0 = world.state.deployment(&first.deployment_id).unwrap().clone();
    assert_eq!(d0.status, DeploymentStatus::Successful);
    assert_eq!(d0.status_description, "Deployment completed successfully");
    let new = changed(&old, "2");
    let eval = world.register(&new);
    let desired = eval.plan_annotations.unwrap().desired_tg_updates["g"].clone();
    assert_eq!((desired.destructive_update, desired.ignore), (3, 7));
    let id = eval.deployment_id.clone();
    let deployment = world.state.deployment(&id).unwrap().clone();
    assert_eq!(deployment.task_groups["g"].desired_total, 10);
    assert_eq!((deployment.job_version, deployment.status_description.as_str()), (1, "Deployment is running"));
    let fresh = |world: &World| world.live(&old).iter().filter(|a| a.job_version == Some(1)).count();
    assert_eq!(fresh(&world), 3);
    // reconcile-068: nothing is healthy yet.
    world.evaluate(&new, "deployment-watcher");
    assert_eq!(fresh(&world), 3);
    for steps in [6, 9, 10] {
        world.run_all(&new);
        world.evaluate(&new, "deployment-watcher");
        assert_eq!(fresh(&world), steps);
    }
    world.run_all(&new);
    world.evaluate(&new, "deployment-watcher");
    assert_eq!(world.state.deployment(&id).unwrap().status, DeploymentStatus::Successful);
    assert_eq!(world.live(&old).len(), 10);
    // reconcile-063
    let eval = world.eval_for(&new, "node-update");
    assert!(world.decide(&eval).no_op);
}

/// An unhealthy allocation holds the update; a newer version goes past it.
/// reconcile-041, reconcile-067
#[test]
fn reconcile_041_067_an_unhealthy_step_holds_and_a_newer_version_takes_over() {
    let mut world = World::with_nodes(4);
    let old = rolling("service", 4, 2);
    world.register(&old);
    world.run_all(&old);
    let eval = world.register(&changed(&old, "2"));
    let held = eval.deployment_id.clone();
    let bad = world.live(&old).into_iter().find(|a| a.job_version == Some(1)).unwrap();
    world.report_with(&bad, ClientStatus::Running, Some(false));
    let d = world.evaluate(&old, "deployment-watcher").plan_annotations.unwrap().desired_tg_updates["g"].clone();
    assert_eq!((d.destructive_update, d.ignore), (0, 4));
    let eval = world.register(&changed(&old, "3"));
    let cancelled = world.state.deployment(&held).unwrap();
    assert_eq!(cancelled.status, DeploymentStatus::Cancelled);
    assert_eq!(cancelled.status_description, "Cancelled due to newer version of job");
    assert_ne!(eval.deployment_id, held);
    assert_eq!(world.live(&old).iter().filter(|a| a.job_version == Some(2)).count(), 2);
}

/// service-080, reconcile-040
#[test]
fn service_080_stopping_a_job_cancels_its_deployment() {
    let mut world = World::with_nodes(2);
    let job = rolling("service", 2, 1);
    let eval = world.register(&job);
    world.stop_job(&job, false);
    let deployment = world.state.deployment(&eval.deployment_id).unwrap();
    assert_eq!(deployment.status_description, "Cancelled because job is stopped");
}

/// reconcile-043, reconcile-045
#[test]
fn reconcile_043_045_an_update_in_place_is_deployed_and_no_change_is_not() {
    let mut world = World::with_nodes(3);
    let old = rolling("service", 3, 1);
    let first = world.register(&old);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    let same = world.evaluate(&old, "node-update");
    assert_eq!(same.plan_annotations.unwrap().desired_tg_updates["g"].ignore, 3);
    assert_eq!(world.state.deployments().count(), 1);
    let eval = world.register(&retouched(&old, 9));
    assert_ne!(eval.deployment_id, first.deployment_id);
    let live = world.live(&old);
    assert!(live.iter().all(|a| a.deployment_id == eval.deployment_id && a.is_healthy().is_none()));
}

/// reconcile-069
#[test]
fn reconcile_069_missing_ones_share_the_budget() {
    let mut world = World::with_nodes(5);
    let old = rolling("service", 7, 4);
    world.register(&old);
    world.run_all(&old);
    let mut new = changed(&old, "2");
    new.task_groups[0].count = Some(10);
    let d = world.register(&new).plan_annotations.unwrap().desired_tg_updates["g"].clone();
    assert_eq!((d.place, d.destructive_update, d.ignore), (3, 1, 6));
}

/// reconcile-070 (service), a purged job registered again under the same id is another one.
#[test]
fn a_new_incarnation_replaces_what_is_left_of_the_old() {
    let mut world = World::with_nodes(3);
    let job = job("service", 2);
    world.register(&job);
    world.run_all(&job);
    let old = world.live(&job);
    world.stop_job(&job, true);
    world.register(&job);
    let live = world.live(&job);
    assert_eq!(live.len(), 2);
    assert!(live.iter().all(|a| old.iter().all(|o| o.id != a.id)));
}

/// service-037, reconcile-052, service-068, reconcile-050, reconcile-057, reconcile-058
#[test]
fn service_037_canaries_run_beside_the_stable_version_until_promoted() {
    let mut world = World::with_nodes(6);
    let old = rolling("service", 4, 2);
    world.register(&old);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    let mut new = changed(&old, "2");
    new.task_groups[0].update.as_mut().unwrap().canary = Some(2);
    let eval = world.register(&new);
    let d = eval.plan_annotations.unwrap().desired_tg_updates["g"].clone();
    assert_eq!((d.canary, d.place, d.destructive_update, d.ignore), (2, 0, 0, 4));
    let id = eval.deployment_id.clone();
    let state = world.state.deployment(&id).unwrap().clone();
    assert_eq!(state.status_description, "Deployment is running but requires manual promotion");
    assert_eq!((state.task_groups["g"].desired_canaries, state.task_groups["g"].placed_canaries.len()), (2, 2));
    assert_eq!(state.task_groups["g"].desired_total, 4);
    assert_eq!(world.live(&old).len(), 6);
    let canaries: Vec<_> = world.live(&old).into_iter().filter(|a| a.is_canary()).collect();
    assert_eq!(names(&canaries), ["j.g[0]", "j.g[1]"]);
    // reconcile-055: healthy canaries change nothing by themselves.
    world.run_all(&new);
    world.evaluate(&new, "deployment-watcher");
    assert_eq!(world.live(&old).len(), 6);
    // reconcile-050: a canary that must move is replaced as a canary.
    world.drain(&canaries[0].node_id);
    world.transition(&canaries[0].id, migrate());
    world.evaluate(&new, "node-drain");
    let canaries: Vec<_> = world.live(&old).into_iter().filter(|a| a.is_canary()).collect();
    assert_eq!(canaries.len(), 2);
    assert!(canaries.iter().all(|c| c.deployment_id == id && c.job_version == Some(1)));
    // reconcile-036: a stable one that is lost comes back stable.
    let stable = world.live(&old).into_iter().find(|a| !a.is_canary()).unwrap();
    world.set_status(&stable.node_id, NodeStatus::Down);
    world.evaluate(&new, "node-update");
    let back = world.state.alloc(&world.state.alloc(&stable.id).unwrap().next_allocation).unwrap().clone();
    assert_eq!((back.job_version, back.is_canary()), (Some(0), false));
}

/// reconcile-047, reconcile-073
#[test]
fn reconcile_047_a_failed_deployment_loses_its_canaries() {
    let mut world = World::with_nodes(4);
    let old = rolling("service", 2, 1);
    world.register(&old);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    let mut new = changed(&old, "2");
    new.task_groups[0].update = Some(UpdateStrategy { canary: Some(1), max_parallel: Some(1), ..Default::default() });
    let eval = world.register(&new);
    let update = fsm::command::DeploymentUpdate {
        id: eval.deployment_id.clone(),
        status: Some(DeploymentStatus::Failed),
        description: "Deployment marked as failed".into(),
        ..Default::default()
    };
    world.submit(model::Role::Controller, fsm::Command::DeploymentUpdate(Box::new(update)));
    world.evaluate(&new, "deployment-watcher");
    let live = world.live(&old);
    assert_eq!(live.len(), 2);
    assert!(live.iter().all(|a| a.job_version == Some(0)));
}

/// service-025
#[test]
fn service_025_after_a_partial_commit_only_what_is_missing_is_planned() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 3);
    job.constraints.push(constraint("", "distinct_hosts", ""));
    let eval = world.register_only(&job);
    let decision = world.decide(&eval);
    let gone = decision.plan.parts.keys().next().unwrap().clone();
    world.set_eligible(&gone, Eligibility::Ineligible);
    let result = world.apply(decision);
    assert_eq!(result.placed.len(), 2);
    world.add_node(node(9));
    let eval = world.eval(&eval.id);
    let decision = world.decide(&eval);
    assert_eq!(decision.plan.parts.values().map(|p| p.place.len()).sum::<usize>(), 1);
    world.apply(decision);
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]", "j.g[2]"]);
}

/// service-033, service-036
#[test]
fn service_036_a_replacement_uses_what_its_predecessor_frees() {
    let mut world = World::with_nodes(2);
    let mut old = job("service", 2);
    old.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3500);
    world.register(&old);
    world.run_all(&old);
    let eval = world.register(&changed(&old, "2"));
    assert_eq!(eval.queued_allocations["g"], 0);
    assert_eq!(world.live(&old).len(), 2);
}

/// service-002, stack-002
#[test]
fn service_002_a_sticky_disk_stays_where_it_is() {
    let mut world = World::with_nodes(12);
    let mut old = job("service", 3);
    let disk = model::group::EphemeralDisk { sticky: Some(true), ..Default::default() };
    old.task_groups[0].ephemeral_disk = Some(disk);
    world.register(&old);
    world.run_all(&old);
    for value in ["2", "3"] {
        world.seed += 1;
        world.register(&changed(&old, value));
        for new in world.live(&old) {
            assert_eq!(world.state.alloc(&new.previous_allocation).unwrap().node_id, new.node_id);
        }
        world.run_all(&old);
    }
    // service-003, service-004: not where the job may no longer run.
    let mut moved = changed(&old, "4");
    moved.datacenters = vec!["dc2".into()];
    let mut far = node(50);
    far.datacenter = "dc2".into();
    world.add_node(far);
    world.register(&moved);
    assert!(world.live(&old).iter().all(|a| a.node_name == "node-50"));
}

/// service-032, util-009
#[test]
fn service_032_allocations_outside_the_datacenters_are_replaced() {
    let mut world = World::with_nodes(2);
    let mut far = node(9);
    far.datacenter = "dc2".into();
    let far = world.add_node(far);
    let mut job = job("service", 2);
    job.datacenters = vec!["dc1".into()];
    world.register(&job);
    world.run_all(&job);
    job.datacenters = vec!["dc2".into()];
    world.register(&job);
    let live = world.live(&job);
    assert_eq!(live.len(), 2);
    assert!(live.iter().all(|a| a.node_id == far));
}

/// A node whose stream broke gets nothing new; what waits is woken when its class has room again.
#[test]
fn a_suspect_node_receives_nothing_and_is_waited_for() {
    let mut world = World::with_nodes(2);
    let suspect = model::NodeId::from(world::uuid(0));
    world.suspects = vec![suspect.clone()];
    let mut job = job("service", 2);
    job.constraints.push(constraint("", "distinct_hosts", ""));
    let eval = world.register(&job);
    assert!(world.live(&job).iter().all(|a| a.node_id != suspect));
    let again = world.eval(&eval.blocked_eval);
    assert_eq!((again.status, again.wait_until), (EvalStatus::Blocked, None));
    let class = &world.state.node(&suspect).unwrap().computed_class;
    assert!(again.escaped_computed_class || again.class_eligibility[class], "its room wakes the evaluation");
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered["node does not answer"], 1);
    world.suspects.clear();
    let done = world.process(&again);
    assert_eq!((done.status, world.live(&job).len()), (EvalStatus::Complete, 2));
}

/// service-048
#[test]
fn service_048_a_client_that_stops_its_allocations_itself_is_given_the_time() {
    let mut world = World::with_nodes(2);
    let mut job = job("service", 1);
    let disconnect =
        model::group::DisconnectStrategy { stop_on_client_after: Some(Nanos::from_secs(20)), ..Default::default() };
    job.task_groups[0].disconnect = Some(disconnect);
    world.register(&job);
    world.run_all(&job);
    let alloc = world.live(&job)[0].clone();
    world.set_status(&alloc.node_id, NodeStatus::Down);
    world.evaluate(&job, "node-update");
    assert!(world.live(&job).is_empty());
    let lost = world.state.alloc(&alloc.id).unwrap().clone();
    assert_eq!(lost.client_status, ClientStatus::Lost);
    let followup = world.eval(&lost.followup_eval_id);
    assert_eq!(followup.triggered_by, "alloc-failure");
    assert_eq!(followup.wait_until.unwrap().unix_nanos(), world.now + 25 * SECOND);
    world.now += 25 * SECOND;
    world.process(&followup);
    assert_eq!(world.live(&job).len(), 1);
}
