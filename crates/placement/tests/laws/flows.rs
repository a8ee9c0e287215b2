//! Service and batch jobs through several evaluations: versions side by side, nodes out of reach, retries.

use model::alloc::DesiredTransition;
use model::group::{DisconnectStrategy, ReschedulePolicy};
use model::{ClientStatus, DesiredStatus, EvalStatus, Job, Nanos, NodeStatus};

use crate::world::{
    self, SECOND, World, changed, constraint, job, migrate, names, node, promote, retouched, rolling, says,
};

type Breaks = fn(&mut Job);

/// Tried again at once, so often.
fn at_once(job: &mut Job, attempts: i64) {
    job.task_groups[0].reschedule_policy = Some(ReschedulePolicy {
        attempts: Some(attempts),
        interval: Some(Nanos::from_secs(3_600)),
        delay: Some(Nanos(0)),
        delay_function: Some("constant".into()),
        max_delay: None,
        unlimited: Some(false),
    });
}

/// An operator asks for it.
fn ask(world: &mut World, alloc: &model::AllocId, wish: DesiredTransition) {
    let transitions = [(alloc.clone(), wish)].into();
    world.submit(model::Role::Gateway, fsm::Command::AllocDesiredTransition { transitions, evals: Vec::new() });
}

fn kept(job: &mut Job) {
    job.task_groups[0].disconnect =
        Some(DisconnectStrategy { lost_after: Some(Nanos::from_secs(300)), ..DisconnectStrategy::default() });
}

/// Two versions side by side: the first runs in one place, the second has its canary in another.
fn between_versions(place: impl Fn(&mut model::Node), narrow: impl Fn(&mut Job)) -> (World, Job, Job) {
    let mut world = World::with_nodes(3);
    for n in 20..23 {
        let mut far = node(n);
        place(&mut far);
        world.add_node(far);
    }
    let pool = model::namespace::NodePool { name: "far".into(), ..Default::default() };
    world.submit(model::Role::Gateway, fsm::Command::NodePoolUpsert { pools: vec![pool] });
    let mut old = rolling("service", 2, 2);
    old.datacenters = vec!["dc1".into()];
    at_once(&mut old, 5);
    world.register(&old);
    world.run_all(&old);
    world.evaluate(&old, "deployment-watcher");
    let mut new = changed(&old, "2");
    new.task_groups[0].update.as_mut().unwrap().canary = Some(1);
    narrow(&mut new);
    world.register(&new);
    (world, old, new)
}

#[test]
fn service_014_015_a_stable_version_keeps_its_own_datacenters_and_pool() {
    let dc = |node: &mut model::Node| node.datacenter = "dc2".into();
    let pool = |node: &mut model::Node| node.node_pool = "far".into();
    let (to_dc, to_pool): (Breaks, Breaks) =
        (|job| job.datacenters = vec!["dc2".into()], |job| job.node_pool = Some("far".into()));
    for (mut world, old, new) in [between_versions(dc, to_dc), between_versions(pool, to_pool)] {
        let is_far = |id: &model::NodeId, world: &World| {
            let node = world.state.node(id).unwrap();
            node.datacenter == "dc2" || node.node_pool == "far"
        };
        let canary = world.live(&old).into_iter().find(|a| a.is_canary()).unwrap();
        assert!(is_far(&canary.node_id, &world));
        let stable = world.live(&old).into_iter().find(|a| !a.is_canary()).unwrap();
        world.report(&stable, ClientStatus::Failed);
        world.evaluate(&new, "alloc-failure");
        let next = world.state.alloc(&stable.id).unwrap().next_allocation.clone();
        let next = world.state.alloc(&next).unwrap().clone();
        assert_eq!((next.job_version, is_far(&next.node_id, &world)), (Some(0), false));
    }
}

#[test]
fn service_069_the_newest_promoted_version_is_the_stable_one() {
    let mut world = World::with_nodes(6);
    let mut job = rolling("service", 2, 2);
    at_once(&mut job, 5);
    job.task_groups[0].update.as_mut().unwrap().canary = Some(1);
    world.register(&job);
    world.run_all(&job);
    world.evaluate(&job, "deployment-watcher");
    let second = changed(&job, "2");
    let eval = world.register(&second);
    world.run_all(&second);
    promote(&mut world, &eval.deployment_id, "g");
    for _ in 0..3 {
        world.evaluate(&second, "deployment-watcher");
        world.run_all(&second);
    }
    assert!(world.live(&job).iter().all(|a| a.job_version == Some(1)));
    let third = changed(&job, "3");
    world.register(&third);
    let stable = world.live(&job).into_iter().find(|a| a.job_version == Some(1)).unwrap();
    world.set_status(&stable.node_id, NodeStatus::Down);
    world.evaluate(&third, "node-update");
    let next = world.state.alloc(&stable.id).unwrap().next_allocation.clone();
    assert_eq!(world.state.alloc(&next).unwrap().job_version, Some(1), "not 0, and not the canaries' 2");
}

#[test]
fn service_024_an_evaluation_that_gave_up_places_when_it_is_woken() {
    let mut world = World::with_nodes(2);
    let job = job("service", 2);
    let eval = world.register_only(&job);
    let (failed, blocked) = placement::give_up(&eval, 5, world.now, &mut || world::uuid(77));
    let mut blocked = blocked.unwrap();
    world.submit(
        model::Role::Scheduler,
        fsm::Command::EvalUpdate {
            evals: vec![fsm::command::EvalUpdate { eval: failed }],
            create: vec![blocked.clone()],
        },
    );
    blocked.status = EvalStatus::Pending;
    let done = world.process(&blocked);
    assert_eq!((done.status, world.live(&job).len()), (EvalStatus::Complete, 2));
}

#[test]
fn service_039_074_an_update_in_place_leaves_what_was_given() {
    let mut world = World::with_nodes(2);
    let mut job = job("service", 1);
    job.task_groups[0].tasks[0].resources.as_mut().unwrap().cores = Some(2);
    let eval = world.register_only(&job);
    let mut decision = world.decide(&eval);
    for row in decision.plan.parts.values_mut().flat_map(|part| &mut part.place) {
        std::sync::Arc::make_mut(row.allocated_resources.as_mut().unwrap()).shared = Default::default();
    }
    world.apply(decision);
    let before = world.live(&job)[0].clone();
    assert_eq!(says(&world.register(&retouched(&job, 9))), "in-place 1");
    let after = world.live(&job)[0].clone();
    assert_eq!((&after.id, &after.allocated_resources), (&before.id, &before.allocated_resources), "service-039");
    let cores = &after.allocated_resources.as_ref().unwrap().tasks["t"].cpu.reserved_cores;
    assert_eq!(cores.len(), 2, "service-074");
    assert_eq!(after.job_version, Some(1));
}

#[test]
fn service_040_a_longer_run_needs_no_new_allocation() {
    let mut world = World::with_nodes(1);
    let mut job = job("batch", 1);
    job.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3_900);
    world.register(&job);
    let before = world.live(&job)[0].id.clone();
    job.task_groups[0].max_run_duration = Some(Nanos::from_secs(60));
    assert_eq!(says(&world.register(&job)), "in-place 1");
    assert_eq!(world.live(&job)[0].id, before);
}

#[test]
fn service_056_a_refused_plan_leaves_no_deployment_behind() {
    let mut world = World::with_nodes(2);
    let job = rolling("service", 2, 1);
    let eval = world.register_only(&job);
    let refused = world.decide(&eval).plan.deployment.unwrap().id;
    world.process(&eval);
    let made: Vec<_> = world.state.deployments().map(|d| d.id.clone()).collect();
    assert_eq!(made.len(), 1);
    assert_ne!(made[0], refused);
    assert!(world.live(&job).iter().all(|a| a.deployment_id == made[0]));
}

/// reconcile with `disconnect`, from the loss of a node to its return.
#[test]
fn service_073_what_is_out_of_reach_is_unknown_and_replaced_meanwhile() {
    let mut world = World::with_nodes(4);
    let mut job = job("service", 2);
    at_once(&mut job, 5);
    kept(&mut job);
    world.register(&job);
    world.run_all(&job);
    let away = world.live(&job)[0].clone();
    world.set_status(&away.node_id, NodeStatus::Disconnected);
    let eval = world.evaluate(&job, "node-update");
    assert_eq!(says(&eval), "ignore 1, place 1, disconnect 1, now 1");
    let row = world.state.alloc(&away.id).unwrap().clone();
    assert_eq!((row.client_status, row.desired_status), (ClientStatus::Unknown, DesiredStatus::Run));
    let timeout = world.eval(&row.followup_eval_id);
    assert_eq!(timeout.triggered_by, "max-disconnect-timeout");
    assert_eq!(timeout.wait_until.unwrap().unix_nanos(), world.now + 300 * SECOND);
    let next = world.state.alloc(&row.next_allocation).unwrap().clone();
    assert_eq!((&next.name, &next.previous_allocation), (&away.name, &away.id));
    assert_ne!(next.node_id, away.node_id);
    let idle = world.eval_for(&job, "node-update");
    assert!(world.decide(&idle).no_op, "looked at again, nothing more");
    // It comes back: the better of both stays, which is the older one when the other does not run.
    world.set_status(&away.node_id, NodeStatus::Initializing);
    world.report(&away, ClientStatus::Running);
    world.set_status(&away.node_id, NodeStatus::Ready);
    assert_eq!(world.eval(&timeout.id).status, EvalStatus::Cancelled);
    assert_eq!(says(&world.evaluate(&job, "reconnect")), "ignore 2, stop 1, reconnect 1");
    assert_eq!(world.state.alloc(&next.id).unwrap().desired_status, DesiredStatus::Stop);
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]"]);
    let idle = world.eval_for(&job, "node-update");
    assert!(world.decide(&idle).no_op, "noted once");
}

#[test]
fn service_073_what_stays_out_of_reach_is_lost_when_its_time_is_over() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 2);
    job.task_groups[0].reschedule_policy =
        Some(ReschedulePolicy { attempts: Some(0), unlimited: Some(false), ..ReschedulePolicy::default() });
    kept(&mut job);
    world.register(&job);
    world.run_all(&job);
    let away = world.live(&job)[0].clone();
    world.set_status(&away.node_id, NodeStatus::Disconnected);
    assert_eq!(says(&world.evaluate(&job, "node-update")), "ignore 2, disconnect 1", "its policy replaces nothing");
    world.now += 300 * SECOND;
    let timeout = world.eval(&world.state.alloc(&away.id).unwrap().followup_eval_id.clone());
    assert_eq!(says(&world.process(&timeout)), "ignore 1, place 1, stop 1");
    assert_eq!(world.state.alloc(&away.id).unwrap().client_status, ClientStatus::Lost);
}

#[test]
fn service_061_what_is_out_of_reach_is_replaced_once_when_there_is_room() {
    let mut world = World::with_nodes(1);
    let mut job = job("service", 1);
    job.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3_000);
    at_once(&mut job, 5);
    kept(&mut job);
    world.register(&job);
    world.run_all(&job);
    let away = world.live(&job)[0].clone();
    world.set_status(&away.node_id, NodeStatus::Disconnected);
    let eval = world.evaluate(&job, "node-update");
    assert_eq!((eval.queued_allocations["g"], eval.blocked_eval.is_empty()), (1, false));
    world.add_node(node(20));
    world.evaluate(&job, "queued-allocs");
    assert_eq!(world.live(&job).len(), 2);
    world.evaluate(&job, "queued-allocs");
    let live = world.live(&job);
    assert_eq!((live.len(), world.state.alloc(&away.id).unwrap().client_status), (2, ClientStatus::Unknown));
    assert_eq!(live.iter().filter(|a| a.previous_allocation == away.id).count(), 1);
}

#[test]
fn batch_005_012_013_015_a_batch_is_moved_stopped_and_run_again() {
    let mut world = World::with_nodes(1);
    let mut one = job("batch", 1);
    at_once(&mut one, 3);
    one.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3_000);
    world.register(&one);
    let failed = world.live(&one)[0].clone();
    world.report(&failed, ClientStatus::Failed);
    let mut other = one.clone();
    (other.id, other.name) = (Some("k".into()), Some("k".into()));
    world.register(&other);
    let eval = world.evaluate(&one, "alloc-failure");
    assert_eq!(eval.queued_allocations["g"], 1, "batch-005");
    let mut world = World::with_nodes(3);
    let mut two = job("batch", 2);
    at_once(&mut two, 3);
    world.register(&two);
    world.run_all(&two);
    let stop = |reschedule: bool| DesiredTransition {
        reschedule: Some(reschedule),
        migrate_disable_placement: (!reschedule).then_some(true),
        ..migrate()
    };
    let first = world.live(&two)[0].clone();
    ask(&mut world, &first.id, stop(true));
    world.evaluate(&two, "alloc-stop");
    assert_eq!(names(&world.live(&two)), ["j.g[0]", "j.g[1]"], "batch-012");
    let live = world.live(&two);
    assert!(live.iter().any(|a| a.previous_allocation == first.id && a.reschedule_tracker.is_some()), "{live:?}");
    let second = world.live(&two)[1].clone();
    ask(&mut world, &second.id, stop(false));
    world.evaluate(&two, "alloc-stop");
    assert_eq!(world.live(&two).len(), 1, "batch-013");
    world.live(&two).iter().for_each(|a| world.report(a, ClientStatus::Complete));
    world.stop_job(&two, true);
    assert_eq!(says(&world.register(&two)).split(", ").last(), Some("place 2"), "batch-015");
    assert_eq!(world.live(&two).len(), 2);
}

#[test]
fn service_010_a_property_of_one_group_limits_that_group_only() {
    let mut world = World::with_nodes(6);
    let mut job = job("service", 6);
    let mut free = job.task_groups[0].clone();
    free.name = Some("h".into());
    job.task_groups[0].constraints.push(constraint("${meta.rack}", "distinct_property", "1"));
    job.task_groups.push(free);
    let eval = world.register(&job);
    let of = |group: &str| world.live(&job).iter().filter(|a| a.task_group == group).count();
    assert_eq!((of("g"), of("h")), (3, 6), "one for each of three racks, and no limit for the other");
    assert_eq!((eval.queued_allocations["g"], eval.queued_allocations["h"]), (3, 0));
}

#[test]
fn service_066_where_services_may_not_displace_others_the_urgent_one_waits() {
    let mut world = World::with_nodes(1);
    let mut low = job("service", 1);
    low.priority = Some(20);
    low.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3_900);
    world.register(&low);
    let mut high = low.clone();
    (high.id, high.name, high.priority) = (Some("k".into()), Some("k".into()), Some(90));
    let eval = world.register(&high);
    assert_eq!((eval.queued_allocations["g"], eval.blocked_eval.is_empty()), (1, false));
    assert_eq!((world.live(&low).len(), world.live(&high).len()), (1, 0), "nobody is evicted");
}

#[test]
fn util_001_ready_nodes_are_those_of_pool_and_datacenters() {
    let mut world = World::new();
    for (n, dc, pool) in
        [(1, "dc1", "default"), (2, "dc1", "default"), (3, "dc2", "default"), (4, "east", "default"), (5, "dc1", "gpu")]
    {
        let mut node = node(n);
        (node.datacenter, node.node_pool) = (dc.into(), pool.into());
        world.add_node(node);
    }
    world.set_status(&world::uuid(2).as_str().into(), NodeStatus::Down);
    for (patterns, pool, available) in [
        (vec!["dc*"], "default", vec![("dc1", 1), ("dc2", 1)]),
        (vec!["*"], "default", vec![("dc1", 1), ("dc2", 1), ("east", 1)]),
        (vec!["dc1", "east"], "default", vec![("dc1", 1), ("east", 1)]),
        (vec!["*"], "gpu", vec![("dc1", 1)]),
        (vec!["*"], "all", vec![("dc1", 2), ("dc2", 1), ("east", 1)]),
        (vec!["west*"], "default", vec![]),
    ] {
        let mut job = job("service", 1);
        job.constraints.push(constraint("${meta.rack}", "=", "nowhere"));
        job.datacenters = patterns.iter().map(|p| (*p).to_owned()).collect();
        job.node_pool = Some(pool.into());
        let eval = world.register_only_unchecked(&job);
        let metric = world.decide(&eval).plan.eval.unwrap().failed_tg_allocs["g"].clone();
        let got: Vec<(&str, i64)> =
            metric.nodes_available.iter().map(|(dc, n)| (dc.as_str(), *n)).filter(|(_, n)| *n > 0).collect();
        assert_eq!(got, available, "{patterns:?} {pool}");
    }
}

#[test]
fn util_004_the_same_seed_orders_equals_alike_and_another_does_not() {
    let order = |seed: u64| {
        let mut world = World::with_nodes(12);
        world.seed = seed;
        let mut job = job("service", 6);
        job.constraints.push(constraint("", "distinct_hosts", ""));
        world.register(&job);
        world.live(&job).iter().map(|a| a.node_name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(order(7), order(7));
    assert!((8..12).any(|seed| order(seed) != order(7)));
}

#[test]
fn util_008_011_a_size_that_no_longer_fits_moves_and_only_what_is_new_was_waited_for() {
    let mut world = World::with_nodes(1);
    let job = job("service", 2);
    world.register(&job);
    world.run_all(&job);
    let mut big = job.clone();
    big.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(4_500);
    let mut wide = node(30);
    wide.node_resources.as_mut().unwrap().cpu.cpu_shares = 9_000;
    let wide = world.add_node(wide);
    world.register(&big);
    assert!(world.live(&job).iter().all(|a| a.node_id == wide), "util-008");
    // Taken in place, and grown beyond what there is room for.
    let mut world = World::with_nodes(1);
    world.register(&job);
    let mut more = retouched(&job, 9);
    more.task_groups[0].count = Some(10);
    let eval = world.register(&more);
    assert_eq!(says(&eval), "place 8, in-place 2");
    assert_eq!((eval.queued_allocations["g"], world.live(&job).len()), (2, 8), "util-011");
}

#[test]
fn eligibility_003_004_what_passes_by_comes_beside_what_the_class_says() {
    let mut world = World::with_nodes(2);
    let mut sick = node(20);
    sick.drivers.get_mut("mock_driver").unwrap().healthy = false;
    world.add_node(sick);
    let mut job = job("service", 9);
    job.constraints.push(constraint("", "distinct_hosts", ""));
    let eval = world.register(&job);
    let metric = &eval.failed_tg_allocs["g"];
    assert_eq!((world.live(&job).len(), metric.constraint_filtered["missing drivers"]), (2, 1));
    let blocked = world.eval(&eval.blocked_eval);
    assert!(
        blocked.class_eligibility.values().all(|eligible| *eligible),
        "eligibility-003: a sick driver says nothing"
    );
    job.task_groups[0].constraints.push(constraint("${meta.rack}", "=", "nowhere"));
    let blocked = world.register(&job).blocked_eval;
    assert!(world.eval(&blocked).class_eligibility.values().all(|eligible| !eligible), "eligibility-004");
    job.task_groups[0].constraints[0].l_target = "${meta.unique.rack}".into();
    let blocked = world.register(&job).blocked_eval;
    assert!(world.eval(&blocked).escaped_computed_class, "eligibility-004");
}

#[test]
fn eligibility_006_one_group_that_may_run_speaks_for_the_class_and_the_job_against_it() {
    let mut world = World::with_nodes(1);
    let mut job = job("service", 20);
    let mut never = job.task_groups[0].clone();
    never.name = Some("h".into());
    never.constraints.push(constraint("${attr.kernel.name}", "=", "plan9"));
    job.task_groups.push(never);
    let eval = world.register(&job);
    let known = world.eval(&eval.blocked_eval).class_eligibility;
    assert_eq!(known.values().collect::<Vec<_>>(), [&true]);
    let mut none = job.clone();
    (none.id, none.name) = (Some("k".into()), Some("k".into()));
    none.constraints.push(constraint("${attr.kernel.name}", "=", "plan9"));
    let eval = world.register(&none);
    let known = world.eval(&eval.blocked_eval).class_eligibility;
    assert_eq!(known.values().collect::<Vec<_>>(), [&false]);
}

#[test]
fn eligibility_007_a_plan_counts_what_it_stops_places_and_leaves_once() {
    let mut world = World::with_nodes(1);
    let mut job = rolling("service", 4, 4);
    job.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(1_000);
    world.register(&job);
    assert_eq!(world.live(&job).len(), 4, "the node is full");
    assert_eq!(says(&world.register(&retouched(&job, 9))), "in-place 4", "an update is not counted twice");
    let eval = world.register(&changed(&retouched(&job, 9), "2"));
    assert_eq!((says(&eval).as_str(), eval.queued_allocations["g"]), ("destructive 4", 0), "what stops is free");
    let mut more = changed(&retouched(&job, 9), "2");
    more.task_groups[0].count = Some(5);
    assert_eq!(world.register(&more).queued_allocations["g"], 1, "what is placed is taken");
}

/// Scheduling again on the result does nothing, and what runs is what was asked for, whatever happened.
#[test]
fn a_plan_once_done_leaves_nothing_to_do_and_counts_come_true() {
    for round in 0..60_u64 {
        let mut world = World::with_nodes(8);
        world.seed = round;
        let kind = if round % 3 == 0 { "batch" } else { "service" };
        let mut job = job(kind, 4 + i64::try_from(round % 4).unwrap());
        at_once(&mut job, 9);
        if round % 2 == 0 {
            kept(&mut job);
        }
        world.register(&job);
        world.run_all(&job);
        for (at, alloc) in world.live(&job).into_iter().enumerate() {
            match (at as u64 * 5 + round) % 11 {
                0 => world.set_status(&alloc.node_id, NodeStatus::Down),
                1 => world.set_status(&alloc.node_id, NodeStatus::Disconnected),
                2 => ask(&mut world, &alloc.id, migrate()),
                3 => world.report(&alloc, ClientStatus::Failed),
                4 => world.drain(&alloc.node_id),
                _ => {}
            }
        }
        let mut next = if round % 5 == 0 { changed(&job, "2") } else { retouched(&job, 9) };
        next.task_groups[0].count = Some(i64::try_from(2 + round % 7).unwrap());
        world.register(&next);
        let eval = world.eval_for(&next, "node-update");
        let again = world.decide(&eval);
        let rows = || {
            let say = |a: &model::Allocation| {
                (a.name.clone(), a.job_version, a.desired_status, a.client_status, a.next_allocation.is_empty())
            };
            world.allocs(&next).iter().map(|a| say(a)).collect::<Vec<_>>()
        };
        assert!(again.no_op, "round {round}: {}, {:?}", says(again.plan.eval.as_ref().unwrap()), rows());
        let reachable = world.live(&next).iter().filter(|a| a.client_status != ClientStatus::Unknown).count();
        let away = world.live(&next).len() - reachable;
        let wanted = usize::try_from(next.task_groups[0].count()).unwrap();
        assert!(reachable <= wanted && reachable + away >= wanted, "round {round}: {reachable} and {away} of {wanted}");
    }
}

/// What makes no sense at all fails with a sentence that says what; it does not wait for a node that cannot come.
#[test]
fn an_evaluation_of_a_job_that_makes_no_sense_fails_and_says_why() {
    let target = |value: &str, percent| model::job::SpreadTarget { value: value.into(), percent };
    let spread = |targets: Vec<model::job::SpreadTarget>| model::job::Spread {
        attribute: "${meta.rack}".into(),
        weight: Some(50),
        spread_target: targets,
    };
    let mut twice = job("service", 1);
    twice.spreads = vec![spread(vec![target("r1", 40), target("r1", 40)])];
    let mut overfull = job("service", 1);
    overfull.task_groups[0].spreads = vec![spread(vec![target("r1", 70), target("r2", 70)])];
    let mut odd = job("service", 1);
    odd.task_groups[0].tasks[0].constraints = vec![constraint("${attr.kernel.name}", "resembles", "linux")];
    let mut wish = job("service", 1);
    wish.affinities = vec![model::job::Affinity {
        l_target: "${meta.rack}".into(),
        operand: "~~".into(),
        r_target: "r1".into(),
        weight: Some(50),
    }];
    let mut huge = job("service", 1);
    huge.task_groups[0].tasks[0].resources.as_mut().unwrap().memory_mb = Some(i64::MAX);
    let mut negative = job("service", 1);
    negative.task_groups[0].count = Some(-3);
    let mut doubled = job("service", 1);
    doubled.task_groups.push(doubled.task_groups[0].clone());
    for (bad, why) in [
        (twice, "has target \"r1\" twice"),
        (overfull, "has targets of 140 %"),
        (odd, "unknown operator \"resembles\""),
        (wish, "unknown operator \"~~\""),
        (huge, "MB of memory"),
        (negative, "a count of -3"),
        (doubled, "two groups are named \"g\""),
    ] {
        let mut world = World::with_nodes(2);
        let eval = world.register_only_unchecked(&bad);
        let row = world.decide(&eval).plan.eval.unwrap();
        assert_eq!(row.status, EvalStatus::Failed, "{why}");
        assert!(row.status_description.contains(why), "{}", row.status_description);
    }
    // Targets that name each other are texts: they are looked up once, and nothing goes round.
    let mut cyclic = job("service", 1);
    cyclic.constraints = vec![constraint("${meta.a}", "=", "${meta.b}"), constraint("${meta.b}", "=", "${meta.a}")];
    let mut world = World::new();
    let mut odd = crate::world::node(0);
    odd.meta = [("a".to_owned(), "${meta.b}".to_owned()), ("b".to_owned(), "${meta.a}".to_owned())].into();
    world.add_node(odd);
    let eval = world.register(&cyclic);
    assert_eq!(eval.failed_tg_allocs["g"].nodes_filtered, 1);
}

/// A job that no validation should have let through: its evaluation ends, with or without placements.
#[test]
fn a_job_that_makes_no_sense_fails_or_waits_and_never_panics() {
    let breakers: Vec<(&str, Breaks)> = vec![
        ("negative count", |job| job.task_groups[0].count = Some(-3)),
        ("least count", |job| job.task_groups[0].count = Some(i64::MIN)),
        ("absurd resources", |job| {
            let resources = job.task_groups[0].tasks[0].resources.as_mut().unwrap();
            (resources.cpu, resources.memory_mb) = (Some(i64::MAX), Some(i64::MAX));
        }),
        ("negative resources", |job| {
            let resources = job.task_groups[0].tasks[0].resources.as_mut().unwrap();
            (resources.cpu, resources.memory_mb, resources.cores) = (Some(-1), Some(i64::MIN), Some(-2));
        }),
        ("unknown operator", |job| job.constraints.push(constraint("${attr.kernel.name}", "resembles", "linux"))),
        ("broken expression", |job| job.constraints.push(constraint("${attr.kernel.name}", "regexp", "((("))),
        ("two groups of a name", |job| job.task_groups.push(job.task_groups[0].clone())),
        ("two tasks of a name", |job| {
            let task = job.task_groups[0].tasks[0].clone();
            job.task_groups[0].tasks.push(task);
        }),
        ("no tasks", |job| job.task_groups[0].tasks.clear()),
        ("no groups", |job| job.task_groups.clear()),
        ("negative max_parallel", |job| job.task_groups[0].update.as_mut().unwrap().max_parallel = Some(-1)),
        ("absurd canaries", |job| {
            let update = job.task_groups[0].update.as_mut().unwrap();
            (update.max_parallel, update.canary) = (Some(1), Some(i64::MAX));
        }),
        ("negative delays", |job| {
            job.task_groups[0].reschedule_policy = Some(ReschedulePolicy {
                attempts: Some(-1),
                interval: Some(Nanos(i64::MIN)),
                delay: Some(Nanos(i64::MIN)),
                max_delay: Some(Nanos(-1)),
                ..ReschedulePolicy::default()
            });
        }),
        ("endless loss", |job| {
            job.task_groups[0].disconnect =
                Some(DisconnectStrategy { lost_after: Some(Nanos(i64::MAX)), ..DisconnectStrategy::default() });
        }),
    ];
    for kind in ["service", "batch", "system", "sysbatch"] {
        for (what, breaks) in &breakers {
            let mut world = World::with_nodes(3);
            let good = rolling(kind, 2, 1);
            world.register(&good);
            world.run_all(&good);
            let mut bad = changed(&good, "2");
            breaks(&mut bad);
            let eval = world.register_only_unchecked(&bad);
            let failed = world.live(&good)[0].clone();
            world.report(&failed, ClientStatus::Failed);
            world.set_status(&failed.node_id, NodeStatus::Disconnected);
            let row = world.decide(&eval).plan.eval.unwrap();
            assert!(row.status.is_terminal() || row.status == EvalStatus::Blocked, "{kind}, {what}: {}", row.status);
        }
    }
}
