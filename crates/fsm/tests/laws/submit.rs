//! What a worker hands in, and what becomes of it: the rows about workers and about the queue of plans that
//! are the state machine's here.

use fsm::command::EvalUpdate;
use fsm::{Command, PartDropped, Plan, PlanRefusal, PlanStop, Reply};
use model::node::NodeEvent;
use model::{ClientStatus, DesiredStatus, Eligibility, EvalStatus, Evaluation, Index, NodeId, NodeStatus, Role};

use crate::world::{World, add_stop, eval, job};

#[test]
fn q_worker_010_a_plan_that_passes_is_in_state_at_the_index_of_its_commit() {
    let mut world = World::with_job();
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    let result = world.apply_plan(plan);
    let row = world.alloc("a");
    assert!(result.is_full() && result.index > Index(0));
    assert_eq!([row.create_index, row.modify_index, row.alloc_modify_index], [result.index; 3]);
    assert_eq!(result.placed, [model::AllocId::from("a")]);
}

#[test]
fn q_worker_011_012_q_plan_queue_010_a_plan_names_its_job_and_what_it_stops_and_carries_neither() {
    let mut world = World::with_job();
    world.place("web", "n1", &["old"]);
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    add_stop(&mut plan, "n1", "old", None);
    let text = serde_json::to_value(&plan).unwrap();
    assert_eq!((&text["namespace"], &text["job_id"]), (&"default".into(), &"web".into()));
    assert!(text.get("job").is_none(), "q-worker-012");
    let part = &text["parts"]["n1"];
    assert!(part["place"][0].get("Job").is_none());
    let mut keys: Vec<&str> = part["stop"][0].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["description", "desired_status", "followup_eval_id", "id"], "q-worker-011");
    // One that has a job embedded all the same places the one it names.
    plan.parts.values_mut().for_each(|part| part.place[0].job = Some(std::sync::Arc::new(job("other"))));
    assert!(world.apply_plan(plan).is_full());
    assert_eq!((world.alloc("a").job_id.as_str(), world.alloc("a").job.is_none()), ("web", true), "q-plan-queue-010");
}

#[test]
fn q_worker_013_a_node_that_does_not_exist_is_reported_with_the_state_to_look_at() {
    let mut world = World::with_job();
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    world.put(&mut plan, "nowhere", "b");
    let eval = plan.eval_id.clone();
    let result = world.apply_plan(plan);
    assert_eq!(result.dropped, [(NodeId::from("nowhere"), PartDropped::NodeGone)].into());
    assert!(result.refresh_index >= result.index && result.index > Index(0));
    assert_eq!(world.eval(eval.as_str()).status, EvalStatus::Pending, "it is not over");
}

#[test]
fn q_worker_014_015_what_a_worker_writes_of_its_evaluation_has_its_snapshot_and_newer_times() {
    let mut world = World::with_job();
    world.create_eval(eval("mine", &"web".into()));
    let before = world.eval("mine").clone();
    let update = Evaluation {
        status: EvalStatus::Complete,
        snapshot_index: Index(7),
        modify_time: before.create_time,
        next_eval: "next".into(),
        ..before.clone()
    };
    let follow_up = Evaluation {
        previous_eval: "mine".into(),
        snapshot_index: Index(7),
        wait_until: Some(model::Timestamp(world.now + 1_000)),
        ..eval("next", &"web".into())
    };
    let command = Command::EvalUpdate { evals: vec![EvalUpdate { eval: update }], create: vec![follow_up] };
    world.accept(Role::Scheduler, command);
    let after = world.eval("mine").clone();
    assert_eq!((after.snapshot_index, after.next_eval.as_str()), (Index(7), "next"));
    assert!(after.modify_time > after.create_time && after.modify_index > before.modify_index, "q-worker-014");
    let next = world.eval("next");
    assert_eq!(
        (next.previous_eval.as_str(), next.status, next.snapshot_index),
        ("mine", EvalStatus::Pending, Index(7))
    );
    assert!(next.create_index == next.modify_index && next.create_index > before.modify_index, "q-worker-015");
}

#[test]
fn q_plan_queue_006_007_008_plans_that_nobody_may_make_are_refused_each_by_its_name() {
    let mut world = World::with_job();
    type Spoil = fn(&mut Plan);
    let spoils: [(&str, Spoil, PlanRefusal); 5] = [
        ("q-plan-queue-006: no job", |plan| plan.job_id = "".into(), PlanRefusal::Malformed),
        ("q-plan-queue-008: nothing", |plan| *plan = Plan::default(), PlanRefusal::EvalNotFound),
        ("q-plan-queue-008: no evaluation", |plan| plan.eval_id = "".into(), PlanRefusal::EvalNotFound),
        ("q-plan-queue-008: another evaluation", |plan| plan.eval_id = "nobody".into(), PlanRefusal::EvalNotFound),
        ("an incarnation that never was", |plan| plan.job_incarnation = Index(9_999), PlanRefusal::Malformed),
    ];
    for (what, spoil, expect) in spoils {
        let mut plan = world.plan("web");
        world.put(&mut plan, "n1", "a");
        if plan.parts.values().all(|part| part.place.iter().all(|row| row.job_incarnation.is_none())) {
            let incarnation = Some(plan.job_incarnation);
            plan.parts
                .values_mut()
                .for_each(|part| part.place.iter_mut().for_each(|row| row.job_incarnation = incarnation));
        }
        spoil(&mut plan);
        assert_eq!(world.apply_plan(plan).refused, Some(expect), "{what}");
    }
    // Its evaluation has ended: whoever was given it anew was first.
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    let done = Evaluation { status: EvalStatus::Complete, ..world.eval(plan.eval_id.as_str()).clone() };
    world.update_eval(done);
    assert_eq!(world.apply_plan(plan).refused, Some(PlanRefusal::EvalFinished), "q-plan-queue-008");
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    world.deregister("web", true);
    // Its evaluations end with the job.
    assert_eq!(world.apply_plan(plan).refused, Some(PlanRefusal::EvalFinished), "q-plan-queue-007");
    assert_eq!(world.state.allocs().count(), 0);
}

#[test]
fn q_plan_queue_009_plans_of_many_evaluations_lose_nothing_of_each_other() {
    let mut world = World::with_job();
    let plans: Vec<Plan> = (0..20)
        .map(|n| {
            let id = format!("job{n}");
            world.register(job(&id));
            let mut plan = world.plan(&id);
            world.put(&mut plan, if n % 2 == 0 { "n1" } else { "n2" }, &format!("a{n}"));
            plan
        })
        .collect();
    // As an applier states them: each part behind the ones before it on its node.
    let mut plans = plans;
    for node in ["n1", "n2"] {
        let mut fence = world.state.node_fence(&node.into());
        for part in plans.iter_mut().filter_map(|plan| plan.parts.get_mut(node)) {
            part.fence = fence;
            fence = part.fence_after();
        }
    }
    let results = world.apply_plans(plans);
    assert!(results.iter().all(fsm::PlanResult::is_full), "{results:?}");
    assert_eq!(world.state.allocs().count(), 20);
}

#[test]
fn plan_tracker_004_the_applier_may_make_a_node_ineligible_and_say_why() {
    let mut world = World::with_job();
    let event = NodeEvent { message: "rejected".into(), subsystem: "Scheduler".into(), ..NodeEvent::default() };
    let command = Command::NodeEligibility {
        node_id: "n1".into(),
        eligibility: Eligibility::Ineligible,
        event: Some(event),
        evals: vec![],
    };
    assert!(matches!(world.accept(Role::Applier, command), Reply::Done));
    let node = world.node_row("n1");
    assert_eq!(node.scheduling_eligibility, Eligibility::Ineligible);
    assert_eq!(node.events.last().unwrap().message, "rejected");
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "a");
    let result = world.apply_plan(plan);
    assert_eq!(result.dropped, [(NodeId::from("n1"), PartDropped::NodeNotReady)].into());
}

#[test]
fn plan_apply_025_026_a_node_out_of_reach_takes_what_makes_its_work_unknown_and_no_placement() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a", "b"]);
    for id in ["a", "b"] {
        world.tell(id, ClientStatus::Running);
    }
    world.node_status("n1", NodeStatus::Disconnected);
    let unknown = |id: &str| PlanStop {
        id: id.into(),
        desired_status: DesiredStatus::Run,
        client_status: Some(ClientStatus::Unknown),
        ..PlanStop::default()
    };
    let mut plan = world.plan("web");
    plan.parts.entry("n1".into()).or_default().stop.push(unknown("a"));
    assert!(world.apply_plan(plan).is_full(), "plan-apply-025");
    assert_eq!(world.alloc("a").client_status, ClientStatus::Unknown);
    let mut plan = world.plan("web");
    world.put(&mut plan, "n1", "c");
    plan.parts.entry("n1".into()).or_default().stop.push(unknown("b"));
    let result = world.apply_plan(plan);
    assert_eq!(result.dropped, [(NodeId::from("n1"), PartDropped::NodeNotReady)].into(), "plan-apply-026");
    assert!(world.state.alloc(&"c".into()).is_none());
}
