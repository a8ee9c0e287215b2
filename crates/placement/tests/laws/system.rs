//! System and sysbatch jobs: what each node runs, and how a change reaches them.

use std::sync::Arc;

use model::alloc::DesiredTransition;
use model::group::DisconnectStrategy;
use model::{
    Allocation, ClientStatus, Deployment, DeploymentStatus, DesiredStatus, Eligibility, EvalStatus, Evaluation, Job,
    Nanos, NodeStatus,
};

use crate::world::{SECOND, World, changed, constraint, job, migrate, node, promote, retouched, rolling, says};

fn of_version(world: &World, job: &Job, version: u64) -> Vec<Arc<Allocation>> {
    world.live(job).into_iter().filter(|a| a.job_version == Some(version)).collect()
}

fn deployment(world: &World, eval: &Evaluation) -> Arc<Deployment> {
    world.state.deployment(&eval.deployment_id).unwrap().clone()
}

/// A first version that runs everywhere, its deployment done.
fn settled(nodes: u64, job: &Job) -> World {
    let mut world = World::with_nodes(nodes);
    world.register(job);
    world.run_all(job);
    world.evaluate(job, "deployment-watcher");
    world
}

fn with_canaries(percent: i64, max_parallel: i64) -> Job {
    let mut job = rolling("system", 1, max_parallel);
    job.task_groups[0].update.as_mut().unwrap().canary = Some(percent);
    job
}

#[test]
fn system_002_what_failed_is_replaced_on_its_own_node() {
    let mut job = job("system", 1);
    job.task_groups[0].ephemeral_disk =
        Some(model::group::EphemeralDisk { sticky: Some(true), ..model::group::EphemeralDisk::default() });
    let mut world = settled(4, &job);
    let failed = world.live(&job)[2].clone();
    world.report(&failed, ClientStatus::Failed);
    let eval = world.evaluate(&job, "alloc-stop");
    assert_eq!(says(&eval), "ignore 3, place 1");
    let new = world.live(&job).into_iter().find(|a| a.previous_allocation == failed.id).unwrap();
    assert_eq!(new.node_id, failed.node_id);
}

#[test]
fn system_014_033_what_a_dead_node_ran_is_lost_or_not_needed() {
    let job = job("system", 1);
    let mut world = settled(3, &job);
    let live = world.live(&job);
    world.drain(&live[0].node_id);
    world.transition(&live[0].id, migrate());
    world.set_status(&live[0].node_id, NodeStatus::Down);
    let eval = world.evaluate(&job, "node-update");
    assert_eq!(says(&eval), "ignore 2, stop 1");
    assert_eq!(world.state.alloc(&live[0].id).unwrap().client_status, ClientStatus::Lost, "system-014");
    // The group is renamed while another node is down: nobody asks for the old one any more.
    world.set_status(&live[1].node_id, NodeStatus::Down);
    let mut other = job.clone();
    other.task_groups[0].name = Some("h".into());
    world.register(&other);
    let row = world.state.alloc(&live[1].id).unwrap();
    assert_eq!((row.desired_status, row.client_status), (DesiredStatus::Stop, ClientStatus::Running), "system-033");
}

#[test]
fn system_021_022_a_constraint_that_leaves_room_reports_no_failure() {
    let mut job = job("system", 1);
    let mut world = settled(3, &job);
    job.constraints.push(constraint("${meta.rack}", "!=", "r1"));
    let first = world.register(&job);
    assert!(first.failed_tg_allocs.is_empty());
    let again = world.evaluate(&job, "node-update");
    assert!(again.failed_tg_allocs.is_empty() && again.blocked_eval.is_empty(), "system-021");
    let in_place = world.register(&retouched(&job, 9));
    assert_eq!((says(&in_place).as_str(), in_place.failed_tg_allocs.len()), ("in-place 2", 0), "system-022");
    let mut big = changed(&retouched(&job, 9), "2");
    big.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(9_000);
    let big = world.register(&big);
    assert_eq!(big.failed_tg_allocs["g"].dimension_exhausted["cpu"], 2, "system-022");
    assert_eq!(world.live(&job).len(), 2, "what finds no room stays as it is");
}

#[test]
fn system_023_026_034_nodes_that_are_no_targets_are_left_alone() {
    let mut job = job("system", 1);
    let mut world = settled(3, &job);
    let live = world.live(&job);
    world.drain(&live[0].node_id);
    let eval = world.eval_for(&job, "node-update");
    let plan = world.decide(&eval).plan;
    assert!(!plan.parts.contains_key(&live[0].node_id), "system-026");
    world.drain(&live[1].node_id);
    world.drain(&live[2].node_id);
    let eval = world.evaluate(&job, "node-drain");
    assert_eq!((eval.status, eval.failed_tg_allocs.len()), (EvalStatus::Complete, 0), "system-023");
    let mut world = settled(3, &job);
    job.node_pool = Some("other".into());
    let pool = model::namespace::NodePool { name: "other".into(), ..Default::default() };
    world.submit(model::Role::Gateway, fsm::Command::NodePoolUpsert { pools: vec![pool] });
    let eval = world.register(&job);
    assert_eq!((says(&eval).as_str(), world.live(&job).len()), ("stop 3", 0), "system-034, nodediff-003");
}

#[test]
fn system_027_each_group_has_its_own_nodes_and_numbers() {
    let mut world = World::with_nodes(6);
    let mut job = job("system", 1);
    job.task_groups[0].constraints.push(constraint("${meta.rack}", "=", "r0"));
    let mut other = job.task_groups[0].clone();
    other.name = Some("h".into());
    other.constraints[0] = constraint("${meta.rack}", "=", "r1");
    other.tasks[0].resources.as_mut().unwrap().cpu = Some(9_000);
    job.task_groups.push(other);
    let eval = world.register(&job);
    assert_eq!((eval.queued_allocations["g"], eval.queued_allocations["h"]), (0, 2));
    assert_eq!(world.live(&job).len(), 2);
}

fn kept(job: &mut Job) {
    job.task_groups[0].disconnect =
        Some(DisconnectStrategy { lost_after: Some(Nanos::from_secs(60)), ..DisconnectStrategy::default() });
}

/// nodediff-004 too: a node out of reach, its return, and its return noted once.
#[test]
fn system_030_031_032_what_is_out_of_reach_is_unknown_until_it_is_back_or_its_time_is_over() {
    let mut job = job("system", 1);
    kept(&mut job);
    let mut world = settled(3, &job);
    let away = world.live(&job)[0].clone();
    let row = |world: &World| world.state.alloc(&away.id).unwrap().clone();
    world.set_status(&away.node_id, NodeStatus::Disconnected);
    assert_eq!(says(&world.evaluate(&job, "node-update")), "ignore 2, disconnect 1");
    assert_eq!((row(&world).client_status, row(&world).desired_status), (ClientStatus::Unknown, DesiredStatus::Run));
    assert_eq!(says(&world.evaluate(&job, "node-update")), "ignore 3");
    world.set_status(&away.node_id, NodeStatus::Initializing);
    world.report(&away, ClientStatus::Running);
    world.set_status(&away.node_id, NodeStatus::Ready);
    assert_eq!(says(&world.evaluate(&job, "reconnect")), "ignore 3, reconnect 1");
    assert_eq!((row(&world).client_status, world.live(&job).len()), (ClientStatus::Running, 3));
    let eval = world.eval_for(&job, "node-update");
    assert!(world.decide(&eval).no_op, "noted once");
    world.set_status(&away.node_id, NodeStatus::Disconnected);
    world.evaluate(&job, "node-update");
    world.now += 61 * SECOND;
    assert_eq!(says(&world.evaluate(&job, "node-update")), "ignore 2, stop 1");
    assert_eq!(row(&world).client_status, ClientStatus::Lost);
}

#[test]
fn system_038_the_group_limits_before_the_job() {
    for (group, of_job, expect) in [(3, 2, 3), (3, 0, 3), (0, 2, 2), (0, 0, 10)] {
        let mut old = job("system", 1);
        for (update, most) in [(&mut old.task_groups[0].update, group), (&mut old.update, of_job)] {
            update.as_mut().unwrap().max_parallel = Some(most);
        }
        let mut world = settled(10, &old);
        let eval = world.register_only_unchecked(&changed(&old, "2"));
        let eval = world.process(&eval);
        let replaced = eval.plan_annotations.unwrap().desired_tg_updates["g"].destructive_update;
        assert_eq!(replaced, expect, "group {group}, job {of_job}");
    }
}

#[test]
fn system_040_043_without_an_update_block_or_halfway_there_is_no_deployment() {
    let plain = job("system", 1);
    let world = settled(3, &plain);
    assert_eq!((world.live(&plain).len(), world.state.deployments().count()), (3, 0), "system-040");
    // A version that began without steps has none when a node of the old version is back.
    let mut world = settled(4, &plain);
    let late = world.live(&plain)[0].clone();
    world.set_eligible(&late.node_id, Eligibility::Ineligible);
    let mut new = changed(&plain, "2");
    world.register(&new);
    world.run_all(&new);
    new.task_groups[0].update = rolling("system", 1, 1).task_groups[0].update.clone();
    world.set_eligible(&late.node_id, Eligibility::Eligible);
    let eval = world.register(&new);
    assert_eq!(world.state.deployments().count(), usize::from(!eval.deployment_id.is_empty()), "system-043");
}

#[test]
fn system_044_045_what_failed_or_is_missing_does_not_use_the_limit() {
    let old = rolling("system", 1, 2);
    let mut world = settled(10, &old);
    let new = changed(&old, "2");
    world.register(&new);
    let fresh = of_version(&world, &old, 1);
    assert_eq!(fresh.len(), 2);
    for alloc in &fresh {
        world.report_with(alloc, ClientStatus::Failed, Some(false));
    }
    let eval = world.evaluate(&new, "deployment-watcher");
    assert_eq!(says(&eval), "ignore 6, place 2, destructive 2", "system-044");
    // Half of the nodes have the old version, the others nothing.
    let mut world = settled(5, &old);
    (20..25).for_each(|n| {
        world.add_node(node(n));
    });
    let eval = world.register(&new);
    assert_eq!(says(&eval), "ignore 3, place 5, destructive 2", "system-045");
    assert_eq!(deployment(&world, &eval).task_groups["g"].desired_total, 10);
}

#[test]
fn system_046_to_050_canaries_are_a_share_of_the_nodes() {
    let old = with_canaries(30, 2);
    let mut world = settled(10, &old);
    let new = changed(&old, "2");
    let eval = world.register(&new);
    assert_eq!(says(&eval), "ignore 8, canary 2", "system-046");
    let group = deployment(&world, &eval).task_groups["g"].clone();
    assert_eq!((group.desired_canaries, group.desired_total, group.placed_canaries.len()), (2, 10, 2), "system-046");
    assert_eq!(deployment(&world, &eval).status_description, "Deployment is running but requires manual promotion");
    assert!(of_version(&world, &old, 1).iter().all(|a| a.is_canary()));
    for alloc in of_version(&world, &old, 1) {
        world.report_with(&alloc, ClientStatus::Running, Some(true));
    }
    let idle = world.eval_for(&new, "deployment-watcher");
    assert!(world.decide(&idle).plan.parts.is_empty(), "system-049");
    promote(&mut world, &eval.deployment_id, "g");
    assert_eq!(says(&world.evaluate(&new, "deployment-watcher")), "ignore 8, destructive 2", "system-050");
    for round in 0..4 {
        world.run_all(&new);
        world.evaluate(&new, "deployment-watcher");
        assert!(of_version(&world, &old, 1).len() >= 4 + 2 * round.min(3), "round {round}");
    }
    world.run_all(&new);
    world.evaluate(&new, "deployment-watcher");
    assert_eq!(deployment(&world, &eval).status, DeploymentStatus::Successful);
}

#[test]
fn system_047_048_054_failed_canaries_are_replaced_and_missing_ones_added() {
    let old = with_canaries(30, 3);
    let mut world = settled(10, &old);
    let new = changed(&old, "2");
    world.register(&new);
    let canaries = of_version(&world, &old, 1);
    assert_eq!(canaries.len(), 3);
    // One fails, the node of another is no target any more.
    world.report_with(&canaries[0], ClientStatus::Failed, Some(false));
    world.set_eligible(&canaries[1].node_id, Eligibility::Ineligible);
    let eval = world.evaluate(&new, "deployment-watcher");
    assert_eq!(says(&eval), "ignore 8, place 1, canary 1", "system-047, system-048");
    let live = of_version(&world, &old, 1);
    assert_eq!(live.iter().filter(|a| a.is_canary()).count(), 4);
    assert!(live.iter().any(|a| a.previous_allocation == canaries[0].id && a.node_id == canaries[0].node_id));
    // Another group's canaries are not this group's.
    let mut two = with_canaries(50, 5);
    let mut other = two.task_groups[0].clone();
    other.name = Some("h".into());
    two.task_groups.push(other);
    let mut world = settled(4, &two);
    let mut newer = changed(&two, "2");
    newer.task_groups[1].tasks[0].env.insert("V".into(), "2".into());
    let eval = world.register(&newer);
    let desired = eval.plan_annotations.unwrap().desired_tg_updates;
    assert_eq!((desired["g"].canary, desired["h"].canary), (2, 2), "system-054");
}

#[test]
fn system_051_053_056_only_nodes_that_may_run_it_count() {
    let old = with_canaries(50, 2);
    let mut world = settled(10, &old);
    let mut new = changed(&old, "2");
    new.constraints.push(constraint("${meta.rack}", "!=", "r1"));
    let eval = world.register(&new);
    // Racks are dealt out in turn: four of r0, three of r1, three of r2.
    assert_eq!(says(&eval), "ignore 5, destructive 3, canary 2", "system-053");
    let group = deployment(&world, &eval).task_groups["g"].clone();
    assert_eq!((group.desired_total, group.desired_canaries), (7, 2), "system-056: capped");
    assert_eq!(world.live(&old).len(), 7, "what may not stay is stopped at once");
    let gone = of_version(&world, &old, 0)[0].clone();
    world.set_eligible(&gone.node_id, Eligibility::Ineligible);
    world.evaluate(&new, "node-update");
    assert_eq!(world.state.alloc(&gone.id).unwrap().desired_status, DesiredStatus::Stop, "system-051");
    assert_eq!(deployment(&world, &eval).task_groups["g"].desired_total, 6, "system-051");
}

#[test]
fn system_052_055_057_without_anything_to_replace_there_are_no_canaries() {
    let old = with_canaries(30, 2);
    let mut world = World::with_nodes(4);
    let eval = world.register(&old);
    assert_eq!(says(&eval), "place 4", "system-052");
    assert_eq!(deployment(&world, &eval).task_groups["g"].desired_canaries, 0);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    assert_eq!(deployment(&world, &eval).status, DeploymentStatus::Successful);
    let mut narrow = old.clone();
    narrow.constraints.push(constraint("${meta.rack}", "=", "r0"));
    world.register(&narrow);
    let before = world.state.deployments().count();
    world.evaluate(&narrow, "node-update");
    assert_eq!(world.state.deployments().count(), before, "system-055");
    // A group that joins a job whose deployment knows nothing of it.
    let mut world = World::with_nodes(2);
    let mut two = old.clone();
    let mut late = two.task_groups[0].clone();
    late.name = Some("h".into());
    late.constraints.push(constraint("${meta.rack}", "=", "nowhere"));
    two.task_groups.push(late);
    let eval = world.register(&two);
    assert!(!deployment(&world, &eval).task_groups.contains_key("h"));
    world.run_all(&two);
    let eval = world.evaluate(&two, "deployment-watcher");
    assert_eq!(deployment(&world, &eval).status, DeploymentStatus::Successful, "system-057");
}

#[test]
fn sysbatch_002_006_010_013_new_nodes_changes_and_constraints() {
    let mut job = job("sysbatch", 1);
    let mut world = settled(3, &job);
    world.add_node(node(20));
    assert_eq!(says(&world.evaluate(&job, "node-update")), "ignore 3, place 1", "sysbatch-002");
    world.run_all(&job);
    assert_eq!(says(&world.register(&retouched(&job, 9))), "in-place 4", "sysbatch-006");
    let mut world = World::with_nodes(6);
    job.constraints.push(constraint("${meta.rack}", "=", "r0"));
    let eval = world.register(&job);
    assert_eq!((world.live(&job).len(), eval.queued_allocations["g"]), (2, 0), "sysbatch-010");
    let eval = world.evaluate(&job, "periodic-job");
    assert_eq!(eval.status, EvalStatus::Complete, "sysbatch-013");
}

/// nodediff-005 too.
#[test]
fn sysbatch_009_what_failed_on_a_node_that_is_back_is_not_run_twice() {
    let mut job = job("sysbatch", 1);
    kept(&mut job);
    let mut world = settled(2, &job);
    let away = world.live(&job)[0].clone();
    world.set_status(&away.node_id, NodeStatus::Disconnected);
    world.evaluate(&job, "node-update");
    world.set_status(&away.node_id, NodeStatus::Initializing);
    world.report(&away, ClientStatus::Failed);
    world.set_status(&away.node_id, NodeStatus::Ready);
    assert_eq!(says(&world.evaluate(&job, "reconnect")), "ignore 2");
    assert_eq!(world.allocs(&job).len(), 2);
    assert_eq!(says(&world.register(&changed(&job, "2"))), "place 1, destructive 1", "nodediff-005");
}

#[test]
fn sysbatch_012_an_evaluation_that_keeps_colliding_leaves_nothing_behind() {
    let mut world = World::with_nodes(1);
    let eval = world.register_only(&job("sysbatch", 1));
    let (failed, blocked) = placement::give_up(&eval, 2, world.now, &mut || "x".to_owned());
    assert_eq!((failed.status, blocked), (EvalStatus::Failed, None));
}

#[test]
fn nodediff_006_007_a_deployment_follows_its_version_and_each_allocation_has_one_fate() {
    let old = rolling("system", 1, 2);
    let mut world = settled(6, &old);
    let done = world.state.deployments().count();
    world.evaluate(&old, "node-update");
    assert_eq!(world.state.deployments().count(), done, "a successful one is over");
    let first = world.register(&changed(&old, "2"));
    assert_eq!(world.evaluate(&old, "node-update").deployment_id, first.deployment_id, "a running one is kept");
    let second = world.register(&changed(&old, "3"));
    assert_eq!(deployment(&world, &first).status, DeploymentStatus::Cancelled, "of an older version");
    assert_ne!(second.deployment_id, first.deployment_id);
    world.stop_job(&old, false);
    assert_eq!(deployment(&world, &second).status, DeploymentStatus::Cancelled, "of a stopped job");
    // Any mixture: every allocation is in one list of the plan at most.
    for round in 0..40_usize {
        let mut world = settled(8, &old);
        for (at, alloc) in world.live(&old).into_iter().enumerate() {
            match (at * 7 + round * 5) % 8 {
                0 => world.set_status(&alloc.node_id, NodeStatus::Down),
                1 => world.set_status(&alloc.node_id, NodeStatus::Disconnected),
                2 => world.drain(&alloc.node_id),
                3 => world.transition(&alloc.id, DesiredTransition { migrate: Some(true), ..Default::default() }),
                4 => world.report(&alloc, ClientStatus::Failed),
                5 => world.set_eligible(&alloc.node_id, Eligibility::Ineligible),
                _ => {}
            }
        }
        let new = if round % 2 == 0 { changed(&old, "2") } else { retouched(&old, 9) };
        let eval = world.register_only(&new);
        let plan = world.decide(&eval).plan;
        let stops = plan.parts.values().flat_map(|p| &p.stop).map(|s| s.id.clone());
        let updates = plan.parts.values().flat_map(|p| &p.update).map(|a| a.id.clone());
        let mut all: Vec<_> = stops.chain(updates).collect();
        let total = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), total, "round {round}");
    }
}
