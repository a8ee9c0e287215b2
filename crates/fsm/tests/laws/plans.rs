//! Plans: fences, pairs, all or nothing, what is refused whole.

use fsm::{Command, PartDropped, Plan, PlanPreempt, PlanRefusal, PlanStop, Refusal, Table};
use model::node::DrainStrategy;
use model::{
    AllocId, ClientStatus, DesiredStatus, Eligibility, EvalStatus, Evaluation, Index, NodeFence, NodeStatus, Role,
};

use crate::world::{self, World, add_stop, alloc, eval, ids, job, job_with_count, ns};

fn dropped(plan: Plan, world: &mut World) -> Vec<(String, PartDropped)> {
    let result = world.apply_plan(plan);
    assert_eq!(result.refused, None);
    assert_eq!(result.refresh_index, if result.dropped.is_empty() { Index(0) } else { world.index() });
    result.dropped.into_iter().map(|(node, why)| (node.to_string(), why)).collect()
}

#[test]
fn plan_apply_001_008_a_placement_is_written_with_its_version_and_times() {
    let mut world = World::with_job();
    let mut plan = world.plan("web");
    plan.now = 77;
    world.put(&mut plan, "n1", "a");
    let result = world.apply_plan(plan.clone());
    assert_eq!((result.index, result.refresh_index, result.placed), (world.index(), Index(0), ids(&["a"])));
    let row = world.alloc("a");
    assert_eq!([row.create_index, row.modify_index, row.alloc_modify_index], [world.index(); 3]);
    assert_eq!((row.create_time, row.modify_time), (77, 77));
    assert_eq!((row.eval_id.clone(), row.node_name.as_str()), (plan.eval_id.clone(), "name-n1"));
    assert_eq!(world.state.job_of_alloc(row).map(|job| job.version()), Some(0));
    assert_eq!(world.eval(plan.eval_id.as_str()).status, EvalStatus::Complete);
    assert_eq!(world.state.job_fence(&ns(), &"web".into(), plan.job_incarnation), world.index());
    for table in [Table::Allocs, Table::Evals, Table::JobFences, Table::JobSummaries, Table::Jobs] {
        assert_eq!(world.state.table_index(table), world.index(), "{table:?}");
    }
}

#[test]
fn store_036_a_placement_is_starting_and_no_longer_queued() {
    let mut world = World::with_job();
    let queued = Evaluation { queued_allocations: [("g".to_owned(), 1)].into(), ..eval("q", &"web".into()) };
    world.create_eval(queued);
    assert_eq!(world.summary("web")[..2], [1, 0]);
    world.place("web", "n1", &["a", "b"]);
    assert_eq!(world.summary("web")[..2], [0, 2], "not below zero");
}

#[test]
fn plan_001_of_two_plans_for_the_same_room_the_second_is_dropped_and_told_to_look_again() {
    let mut world = World::with_job();
    world.register(job("other"));
    let mut first = world.plan("web");
    let mut second = world.plan("other");
    world.put(&mut first, "n1", "a");
    world.put(&mut second, "n1", "b");
    world.put(&mut second, "n2", "c");
    let results = world.apply_plans(vec![first, second.clone()]);
    assert!(results[0].is_full());
    assert_eq!(results[1].dropped, [("n1".into(), PartDropped::FencePassed)].into());
    assert_eq!((results[1].placed.clone(), results[1].refresh_index), (ids(&["c"]), world.index()));
    assert_eq!(world.eval(second.eval_id.as_str()).status, EvalStatus::Pending, "it is not finished");
    assert!(world.state.alloc(&"b".into()).is_none());
}

#[test]
fn plans_of_one_command_state_the_fence_they_leave_to_each_other() {
    let mut world = World::with_job();
    world.register(job("other"));
    let mut first = world.plan("web");
    let mut second = world.plan("other");
    world.put(&mut first, "n1", "a");
    world.put(&mut first, "n1", "b");
    world.put(&mut second, "n1", "c");
    let before = first.parts["n1"].fence;
    second.parts.get_mut("n1").unwrap().fence = first.parts["n1"].fence_after();
    let results = world.apply_plans(vec![first, second]);
    assert!(results.iter().all(fsm::PlanResult::is_full), "{results:?}");
    assert_eq!(world.state.node_fence(&"n1".into()), NodeFence(before.get() + 3));
}

#[test]
fn a_dropped_part_moves_the_fence_as_if_it_had_passed_and_a_refused_one_does_not() {
    let mut world = World::with_job();
    world.register(job("other"));
    let fence = |world: &World| world.state.node_fence(&"n1".into()).get();
    let before = fence(&world);
    // Refused as a whole, behind it what counted on it.
    let mut unknown = world.plan("web");
    world.put(&mut unknown, "n1", "a");
    world.put(&mut unknown, "n1", "b");
    unknown.eval_id = "nobody-knows".into();
    let mut behind = world.plan("other");
    world.put(&mut behind, "n1", "c");
    behind.parts.get_mut("n1").unwrap().fence = unknown.parts["n1"].fence_after();
    let results = world.apply_plans(vec![unknown, behind]);
    assert_eq!((results[0].placed.len(), results[1].placed.clone()), (0, ids(&["c"])));
    assert_eq!(fence(&world), before + 3);
    world.assert_followed();
    // Its fence is not the one: nobody counts on less than what it wanted.
    let mut stale = world.plan("web");
    world.put(&mut stale, "n1", "d");
    stale.parts.get_mut("n1").unwrap().fence = NodeFence(before);
    assert_eq!(world.apply_plan(stale).dropped["n1"], PartDropped::FencePassed);
    assert_eq!(fence(&world), before + 4);
    // What the applier itself refused, nobody counted on.
    let mut refused = world.plan("web");
    world.put(&mut refused, "n1", "e");
    refused.parts.get_mut("n1").unwrap().refused = Some(PartDropped::NodeFull);
    world.apply_plan(refused);
    assert_eq!(fence(&world), before + 4);
    let mut whole = world.plan("web");
    world.put(&mut whole, "n1", "f");
    world.put(&mut whole, "n2", "g");
    whole.all_at_once = true;
    whole.parts.get_mut("n2").unwrap().refused = Some(PartDropped::NodeFull);
    assert_eq!(world.apply_plan(whole).refused, Some(PlanRefusal::NotAllAtOnce));
    assert_eq!(fence(&world), before + 4);
    assert_eq!(world.last.iter().filter(|c| matches!(c, fsm::Change::NodeFence { .. })).count(), 0);
    world.assert_followed();
}

#[test]
fn whatever_takes_room_from_a_node_makes_older_parts_void() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 6] = [
        ("another placement", |world| world.place("web", "n1", &["other"])),
        ("an unknown allocation comes back", |world| world.tell("unknown", ClientStatus::Running)),
        ("the node shrinks", |world| {
            let mut node = world::node("n1");
            node.node_resources = Some(world::resources(900));
            world.accept(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![] });
        }),
        ("down and back", |world| {
            world.node_status("n1", NodeStatus::Down);
            world.node_status("n1", NodeStatus::Ready);
        }),
        ("ineligible and back", |world| {
            for eligibility in [Eligibility::Ineligible, Eligibility::Eligible] {
                let node_id = "n1".into();
                let command = Command::NodeEligibility { node_id, eligibility, event: None, evals: vec![] };
                world.accept(Role::Gateway, command);
            }
        }),
        ("purged, and another of its id comes", |world| {
            world.accept(
                Role::Gateway,
                Command::NodeDeregister { nodes: vec!["n1".into()], revoke: false, evals: vec![] },
            );
            world.node("n1");
        }),
    ];
    for (what, change) in changes {
        let mut world = World::with_job();
        world.place("web", "n1", &["unknown"]);
        let mut plan = world.plan("web");
        plan.parts.entry("n1".into()).or_default().stop.push(PlanStop {
            id: "unknown".into(),
            desired_status: DesiredStatus::Run,
            client_status: Some(ClientStatus::Unknown),
            ..PlanStop::default()
        });
        world.node_status("n1", NodeStatus::Disconnected);
        world.apply_plan(plan);
        world.node_status("n1", NodeStatus::Ready);
        world.register(job("late"));
        let mut plan = world.plan("late");
        world.put(&mut plan, "n1", "a");
        change(&mut world);
        assert_eq!(dropped(plan, &mut world), [("n1".to_owned(), PartDropped::FencePassed)], "{what}");
    }
}

#[test]
fn what_gives_room_back_leaves_older_parts_good() {
    let mut world = World::with_job();
    world.place("web", "n1", &["x", "y"]);
    world.register(job("late"));
    let mut plan = world.plan("late");
    world.put(&mut plan, "n1", "a");
    world.tell("x", ClientStatus::Running);
    world.tell("x", ClientStatus::Complete);
    world.stop("web", "y", None);
    let mut node = world::node("n1");
    node.node_resources = Some(world::resources(2000));
    world.accept(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![] });
    assert_eq!(dropped(plan, &mut world), []);
}

#[test]
fn plan_apply_011_014_015_016_plan_007_a_node_that_is_not_there_or_not_ready_receives_nothing_new() {
    let mut world = World::with_job();
    for node in ["init", "down", "off", "drain"] {
        world.node(node);
    }
    world.node_status("init", NodeStatus::Initializing);
    world.node_status("down", NodeStatus::Down);
    let node_id = "off".into();
    let eligibility = Eligibility::Ineligible;
    world.accept(Role::Gateway, Command::NodeEligibility { node_id, eligibility, event: None, evals: vec![] });
    let drain = Some(DrainStrategy::default());
    let command = Command::NodeDrain {
        node_id: "drain".into(),
        drain,
        mark_eligible: false,
        meta: Default::default(),
        event: None,
        evals: vec![],
    };
    world.accept(Role::Gateway, command);
    let mut plan = world.plan("web");
    for node in ["init", "down", "off", "drain", "nowhere", "n1"] {
        world.put(&mut plan, node, &format!("on-{node}"));
    }
    let not_ready = PartDropped::NodeNotReady;
    let expected = [
        ("down", not_ready),
        ("drain", not_ready),
        ("init", not_ready),
        ("nowhere", PartDropped::NodeGone),
        ("off", not_ready),
    ];
    assert_eq!(dropped(plan, &mut world), expected.map(|(node, why)| (node.to_owned(), why)));
    assert!(world.state.alloc(&"on-n1".into()).is_some());
    assert_eq!(world.state.allocs().count(), 1);
}

#[test]
fn plan_003_004_plan_apply_023_024_stops_pass_on_any_node() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a", "b"]);
    world.tell("a", ClientStatus::Running);
    world.node_status("n1", NodeStatus::Down);
    let mut plan = world.plan("web");
    add_stop(&mut plan, "n1", "a", Some(ClientStatus::Lost));
    add_stop(&mut plan, "n1", "b", None);
    assert_eq!(dropped(plan, &mut world), []);
    assert_eq!(
        (world.alloc("a").client_status, world.alloc("b").client_status),
        (ClientStatus::Lost, ClientStatus::Pending)
    );
    assert!(world.alloc("b").server_terminal());
    world.accept(Role::Gateway, Command::NodeDeregister { nodes: vec!["n1".into()], revoke: false, evals: vec![] });
    let mut plan = world.plan("web");
    add_stop(&mut plan, "n1", "b", Some(ClientStatus::Lost));
    assert_eq!(dropped(plan, &mut world), [], "nor must the node still be there");
    assert_eq!(world.alloc("b").client_status, ClientStatus::Lost);
}

#[test]
fn plan_006_plan_apply_019_020_an_update_in_place_needs_no_room_and_takes_none() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    world.tell("a", ClientStatus::Running);
    let node_id = "n1".into();
    let eligibility = Eligibility::Ineligible;
    world.accept(Role::Gateway, Command::NodeEligibility { node_id, eligibility, event: None, evals: vec![] });
    world.register(job_with_count("web", 5));
    let fence = world.state.node_fence(&"n1".into());
    let before = world.alloc("a").clone();
    let mut plan = world.plan("web");
    let part = plan.parts.entry("n1".into()).or_default();
    part.fence = NodeFence(1);
    // A row that claims more: what it holds is not the update's to say.
    part.update.push(alloc("a", 5000));
    assert_eq!(dropped(plan.clone(), &mut world), []);
    let after = world.alloc("a");
    assert_eq!((after.job_version, after.eval_id.clone()), (Some(1), plan.eval_id));
    assert_eq!(after.allocated_resources, before.allocated_resources);
    assert_eq!((after.client_status, after.create_index), (ClientStatus::Running, before.create_index));
    assert_eq!(after.alloc_modify_index, world.index());
    assert_eq!(world.state.node_fence(&"n1".into()), fence);
    world.node_status("n1", NodeStatus::Down);
    let mut plan = world.plan("web");
    plan.parts.entry("n1".into()).or_default().update.push(alloc("a", 100));
    assert_eq!(dropped(plan, &mut world), [("n1".to_owned(), PartDropped::NodeNotReady)]);
}

#[test]
fn plan_002_plan_apply_012_all_at_once_is_all_or_nothing() {
    let mut world = World::with_job();
    let mut plan = world.plan("web");
    plan.all_at_once = true;
    plan.deployment = Some(world::new_deployment("d", 0));
    world.put(&mut plan, "n1", "a");
    world.put(&mut plan, "nowhere", "b");
    let result = world.apply_plan(plan);
    assert_eq!((result.refused, result.index), (Some(PlanRefusal::NotAllAtOnce), Index(0)));
    assert_eq!(result.dropped, [("nowhere".into(), PartDropped::NodeGone)].into());
    assert!(world.last.iter().all(|c| matches!(c, fsm::Change::NodeFence { .. })), "no row changed");
}

#[test]
fn an_allocation_is_stopped_only_with_its_replacement_unless_it_is_lost() {
    let mut world = World::with_job();
    world.place("web", "n1", &["old", "gone", "surplus"]);
    let mut plan = world.plan("web");
    for (new, previous) in [("new", "old"), ("again", "gone")] {
        world.put(&mut plan, "n2", new);
        plan.parts.get_mut("n2").unwrap().place.last_mut().unwrap().previous_allocation = previous.into();
    }
    add_stop(&mut plan, "n1", "old", None);
    add_stop(&mut plan, "n1", "gone", Some(ClientStatus::Lost));
    add_stop(&mut plan, "n1", "surplus", None);
    plan.parts.get_mut("n2").unwrap().fence = NodeFence(1);
    assert_eq!(dropped(plan, &mut world), [("n2".to_owned(), PartDropped::FencePassed)]);
    assert!(!world.alloc("old").is_terminal());
    assert_eq!(world.alloc("old").next_allocation, AllocId::default());
    assert_eq!(world.alloc("gone").client_status, ClientStatus::Lost);
    assert!(world.alloc("surplus").server_terminal());
}

#[test]
fn a_placement_that_needs_the_room_of_a_withheld_stop_is_dropped_too() {
    let mut world = World::with_job();
    world.place("web", "n1", &["old"]);
    let mut plan = world.plan("web");
    world.put(&mut plan, "n2", "new");
    plan.parts.get_mut("n2").unwrap().place[0].previous_allocation = "old".into();
    world.put(&mut plan, "n1", "needs-room");
    add_stop(&mut plan, "n1", "old", None);
    plan.parts.get_mut("n2").unwrap().fence = NodeFence(1);
    let expected = [("n1".to_owned(), PartDropped::NodeFull), ("n2".to_owned(), PartDropped::FencePassed)];
    assert_eq!(dropped(plan, &mut world), expected);
    assert!(!world.alloc("old").is_terminal());
}

#[test]
fn store_047_a_replaced_allocation_names_its_successor_without_news_for_its_node() {
    let mut world = World::with_job();
    world.place("web", "n1", &["old", "dead"]);
    world.tell("dead", ClientStatus::Failed);
    let before = world.alloc("dead").clone();
    let mut plan = world.plan("web");
    for (new, previous) in [("new", "old"), ("next", "dead")] {
        world.put(&mut plan, "n2", new);
        plan.parts.get_mut("n2").unwrap().place.last_mut().unwrap().previous_allocation = previous.into();
    }
    add_stop(&mut plan, "n1", "old", None);
    assert_eq!(dropped(plan, &mut world), []);
    assert_eq!(world.alloc("old").next_allocation, "new");
    let after = world.alloc("dead");
    assert_eq!((after.next_allocation.as_str(), after.modify_index), ("next", world.index()));
    assert_eq!(after.alloc_modify_index, before.alloc_modify_index);
    assert_eq!(world.changed(Table::Allocs), 4, "each row once");
}

#[test]
fn a_frozen_scheduler_and_its_twin_cannot_both_place() {
    let mut world = World::with_job();
    let twin = world.plan("web");
    let (mut first, mut second) = (twin.clone(), twin);
    first.eval = None;
    world.put(&mut first, "n1", "a");
    world.put(&mut second, "n2", "b");
    assert!(world.apply_plan(first).is_full());
    let result = world.apply_plan(second.clone());
    assert_eq!((result.refused, result.refresh_index), (Some(PlanRefusal::StaleSnapshot), world.index()));
    // In one command as well.
    let mut third = world.plan("web");
    let mut fourth = world.plan("web");
    world.put(&mut third, "n1", "c");
    world.put(&mut fourth, "n2", "d");
    let results = world.apply_plans(vec![third, fourth]);
    assert!(results[0].is_full());
    assert_eq!(results[1].refused, Some(PlanRefusal::StaleSnapshot));
    // And not once the evaluation is over.
    second.snapshot_index = world.index();
    world.finish_eval(second.eval_id.as_str());
    assert_eq!(world.apply_plan(second.clone()).refused, Some(PlanRefusal::EvalFinished));
    second.eval_id = "unknown".into();
    assert_eq!(world.apply_plan(second).refused, Some(PlanRefusal::EvalNotFound));
    assert_eq!(world.state.allocs().count(), 2);
}

#[test]
fn store_045_plan_apply_032_a_stopped_or_purged_job_gets_nothing_new_but_stops_pass() {
    for purge in [false, true] {
        let mut world = World::with_job();
        world.place("web", "n1", &["old"]);
        let mut plan = world.plan("web");
        world.put(&mut plan, "n2", "new");
        plan.parts.get_mut("n2").unwrap().place[0].previous_allocation = "old".into();
        plan.deployment = Some(world::new_deployment("d", 0));
        add_stop(&mut plan, "n1", "old", None);
        plan.parts.get_mut("n1").unwrap().update.push(alloc("old", 1));
        let evaluation = plan.eval_id.clone();
        world.deregister("web", purge);
        let result = world.apply_plan(plan);
        if purge {
            assert_eq!(result.refused, Some(PlanRefusal::EvalFinished), "a purge ends what is pending");
            continue;
        }
        assert_eq!((result.refused, result.index), (Some(PlanRefusal::JobStopped), world.index()));
        assert!(world.alloc("old").server_terminal());
        assert_eq!(world.state.allocs().count(), 1);
        assert!(world.state.deployment(&"d".into()).is_none());
        assert_eq!(world.eval(evaluation.as_str()).status, EvalStatus::Pending);
    }
}

#[test]
fn a_plan_for_an_earlier_incarnation_places_nothing() {
    let mut world = World::with_job();
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    world.deregister("web", true);
    world.register(job("web"));
    world.create_eval(eval("live", &"web".into()));
    plan.eval_id = "live".into();
    plan.eval = None;
    assert_eq!(world.apply_plan(plan).refused, Some(PlanRefusal::JobStopped));
    assert_eq!(world.state.allocs().count(), 0);
}

#[test]
fn store_043_044_what_the_node_said_wins_over_the_plan_unless_the_plan_states_a_loss() {
    let mut world = World::with_job();
    world.place("web", "n1", &["done", "runs"]);
    world.tell("done", ClientStatus::Complete);
    world.tell("runs", ClientStatus::Running);
    let mut plan = world.plan("web");
    for id in ["done", "runs"] {
        add_stop(&mut plan, "n1", id, Some(ClientStatus::Lost));
    }
    assert_eq!(dropped(plan, &mut world), []);
    assert_eq!(world.alloc("done").client_status, ClientStatus::Complete);
    let lost = world.alloc("runs");
    assert_eq!((lost.client_status, lost.alloc_states.len()), (ClientStatus::Lost, 1));
    assert_eq!(world.summary("web"), [0, 0, 0, 1, 0, 1, 0]);
}

#[test]
fn plan_008_010_plan_apply_003_010_a_victim_is_evicted_unless_it_ended_by_itself() {
    let mut world = World::with_job();
    world.register(job("victim"));
    world.place("victim", "n1", &["v", "ended"]);
    world.tell("ended", ClientStatus::Complete);
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    world.put(&mut plan, "n2", "b");
    plan.parts.get_mut("n2").unwrap().fence = NodeFence(1);
    for id in ["v", "ended"] {
        plan.parts.get_mut("n1").unwrap().preempt.push(PlanPreempt { id: id.into(), by: "a".into() });
    }
    let look =
        |trigger: &str, id: &str, job: &str| Evaluation { triggered_by: trigger.into(), ..eval(id, &job.into()) };
    plan.create_evals = vec![look("preemption", "for-victim", "victim"), look("queued-allocs", "for-self", "web")];
    assert_eq!(dropped(plan, &mut world), [("n2".to_owned(), PartDropped::FencePassed)]);
    let victim = world.alloc("v");
    assert_eq!((victim.desired_status, victim.preempted_by_allocation.as_str()), (DesiredStatus::Evict, "a"));
    assert_eq!(victim.desired_description, "Preempted by alloc ID a");
    assert_eq!(world.alloc("ended").desired_status, DesiredStatus::Run);
    assert!(world.state.eval(&"for-victim".into()).is_some(), "the victim's job is looked at in any case");
    assert!(world.state.eval(&"for-self".into()).is_none(), "the rest comes with a full plan only");
}

#[test]
fn plan_apply_017_a_part_that_the_applier_found_full_is_dropped_with_its_pairs() {
    let mut world = World::with_job();
    world.place("web", "n1", &["old"]);
    let mut plan = world.plan("web");
    world.put(&mut plan, "n2", "new");
    let part = plan.parts.get_mut("n2").unwrap();
    part.place[0].previous_allocation = "old".into();
    part.refused = Some(PartDropped::PortTaken);
    add_stop(&mut plan, "n1", "old", None);
    assert_eq!(dropped(plan, &mut world), [("n2".to_owned(), PartDropped::PortTaken)]);
    assert!(!world.alloc("old").is_terminal());
    assert_eq!(world.state.allocs().count(), 1);
}

#[test]
fn a_plan_that_contradicts_itself_is_refused_and_spares_its_neighbours() {
    let mut world = World::with_job();
    world.register(job("other"));
    world.place("web", "n1", &["taken"]);
    type Spoil = fn(&mut Plan);
    let spoils: [(&str, Spoil); 7] = [
        ("an id twice", |plan| {
            let row = plan.parts["n1"].place[0].clone();
            plan.parts.get_mut("n1").unwrap().place.push(row);
        }),
        ("an id that is taken", |plan| plan.parts.get_mut("n1").unwrap().place[0].id = "taken".into()),
        ("no id", |plan| plan.parts.get_mut("n1").unwrap().place[0].id = AllocId::default()),
        ("another node", |plan| plan.parts.get_mut("n1").unwrap().place[0].node_id = "n2".into()),
        ("another incarnation", |plan| {
            plan.parts.get_mut("n1").unwrap().place[0].job_incarnation = Some(Index(1));
        }),
        ("another job's evaluation", |plan| plan.job_id = "other".into()),
        ("another evaluation's end", |plan| plan.eval.as_mut().unwrap().id = "else".into()),
    ];
    for (at, (what, spoil)) in spoils.into_iter().enumerate() {
        let mut bad = world.plan("web");
        world.put(&mut bad, "n1", &format!("bad{at}"));
        spoil(&mut bad);
        let mut good = world.plan("other");
        world.put(&mut good, "n2", &format!("good{at}"));
        let results = world.apply_plans(vec![bad, good]);
        assert_eq!(results[0].refused, Some(PlanRefusal::Malformed), "{what}");
        assert!(results[1].is_full(), "{what}");
    }
}

#[test]
fn a_version_forgotten_since_the_snapshot_can_be_run_by_nobody() {
    let mut world = World::with_job();
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    for count in 10..20 {
        world.register(job_with_count("web", count));
    }
    assert_eq!(world.apply_plan(plan).refused, Some(PlanRefusal::StaleSnapshot));
}

#[test]
fn plans_come_from_the_applier_under_its_lease_only() {
    let mut world = World::with_job();
    let command = Command::PlanApply { plans: vec![] };
    let refusal = world.refuse(Role::Scheduler, command.clone());
    assert_eq!(refusal, Refusal::WrongRole { role: Role::Scheduler, command: "PlanApply".into() });
    let mut envelope = world.envelope(Role::Applier, command);
    envelope.lease = None;
    assert!(matches!(world.run(envelope), fsm::Reply::Refused(Refusal::StaleLease { .. })));
}
