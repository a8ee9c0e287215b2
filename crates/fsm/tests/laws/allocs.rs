//! Allocations: what their nodes say, what operators ask, when room appears, when rows are forgotten.

use std::sync::Arc;

use fsm::command::{AllocClientUpdate, Refusal};
use fsm::{Change, Command, Plan, PlanStop, State, Table};
use model::alloc::DesiredTransition;
use model::{Allocation, ClientStatus, DesiredStatus, EvalStatus, Evaluation, Index, NodeStatus, Role};

use crate::world::{self, World, eval, ids, job, ns};

fn roomier(world: &World) -> usize {
    world.changed(Table::Capacity)
}

/// The node of an allocation is out of reach; `later` is when that is given up.
fn make_unknown(world: &mut World, job: &str, id: &str, later: &str) {
    let mut plan: Plan = world.plan(job);
    plan.parts.entry(world.alloc(id).node_id.clone()).or_default().stop.push(PlanStop {
        id: id.into(),
        desired_status: DesiredStatus::Run,
        client_status: Some(ClientStatus::Unknown),
        followup_eval_id: later.into(),
        ..PlanStop::default()
    });
    let node = world.alloc(id).node_id.to_string();
    world.node_status(&node, NodeStatus::Disconnected);
    assert!(world.apply_plan(plan).is_full());
    world.node_status(&node, NodeStatus::Ready);
}

#[test]
fn a_node_that_is_back_already_makes_nothing_unknown_and_a_return_is_recorded_once() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    world.tell("a", ClientStatus::Running);
    let note = |world: &mut World, status| {
        let mut plan = world.plan("web");
        let note = PlanStop {
            id: "a".into(),
            desired_status: DesiredStatus::Run,
            client_status: Some(status),
            ..PlanStop::default()
        };
        plan.parts.entry("n1".into()).or_default().stop.push(note);
        assert!(world.apply_plan(plan).is_full());
    };
    note(&mut world, ClientStatus::Unknown);
    assert_eq!((world.alloc("a").client_status, world.alloc("a").alloc_states.len()), (ClientStatus::Running, 0));
    make_unknown(&mut world, "web", "a", "");
    note(&mut world, ClientStatus::Running);
    assert_eq!(world.alloc("a").client_status, ClientStatus::Unknown, "only its node says that it runs");
    world.tell("a", ClientStatus::Running);
    assert!(world.alloc("a").needs_reconnect());
    note(&mut world, ClientStatus::Running);
    note(&mut world, ClientStatus::Running);
    let recorded: Vec<String> = world.alloc("a").alloc_states.iter().map(|state| state.value.clone()).collect();
    assert_eq!(recorded, ["unknown", "running"]);
    world.assert_followed();
}

#[test]
fn store_037_038_a_summary_moves_what_moves_and_keeps_what_ended() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a", "b"]);
    world.tell("a", ClientStatus::Running);
    assert_eq!(world.summary("web"), [0, 1, 1, 0, 0, 0, 0]);
    world.tell("a", ClientStatus::Complete);
    assert_eq!(world.summary("web"), [0, 1, 0, 1, 0, 0, 0]);
    world.tell("b", ClientStatus::Failed);
    world.tell("b", ClientStatus::Complete);
    assert_eq!(world.summary("web"), [0, 0, 0, 2, 1, 0, 0], "failed stays counted");
}

#[test]
fn store_042_news_of_unknown_allocations_are_left_out_and_the_rest_taken() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    let known = world.news("a", ClientStatus::Running);
    let unknown = AllocClientUpdate { id: "zz".into(), ..known.clone() };
    world.tell_all(vec![unknown, known]);
    assert_eq!(world.alloc("a").client_status, ClientStatus::Running);
}

#[test]
fn node_012_a_node_speaks_for_its_own_allocations_only() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    world.place("web", "n2", &["b"]);
    let foreign = AllocClientUpdate { node_id: "n2".into(), ..world.news("a", ClientStatus::Failed) };
    let own = world.news("b", ClientStatus::Running);
    let command = Command::AllocClientUpdate { updates: vec![foreign.clone()], evals: vec![] };
    assert!(matches!(world.refuse(Role::Controller, command), Refusal::Invalid(_)));
    world.tell_all(vec![foreign, own]);
    assert_eq!(world.alloc("a").client_status, ClientStatus::Pending);
    assert_eq!(world.alloc("b").client_status, ClientStatus::Running, "another's mistake does not harm it");
}

#[test]
fn what_a_node_says_is_a_small_delta_and_no_news_to_it() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    let placed = world.alloc("a").alloc_modify_index;
    world.tell("a", ClientStatus::Running);
    let delta = world.last.iter().find(|change| matches!(change, Change::AllocClient { .. })).unwrap();
    let bytes = model::sparse::to_vec(delta).unwrap().len();
    assert!(bytes < 260, "{bytes}");
    assert_eq!((world.alloc("a").modify_index, world.alloc("a").alloc_modify_index), (world.index(), placed));
    world.tell("a", ClientStatus::Running);
    assert!(world.last.is_empty(), "the same again is no write");
}

#[test]
fn task_states_are_kept_when_an_update_has_none() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    let mut update = world.news("a", ClientStatus::Running);
    update.task_states.insert("t".into(), world::task_state());
    world.tell_all(vec![update]);
    world.tell("a", ClientStatus::Complete);
    assert_eq!(world.alloc("a").task_states.len(), 1);
}

#[test]
fn an_ended_allocation_never_lives_again_but_may_learn_how_it_ended() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    world.tell("a", ClientStatus::Running);
    world.stop("web", "a", Some(ClientStatus::Lost));
    let fence = world.state.node_fence(&"n1".into());
    for status in [ClientStatus::Running, ClientStatus::Pending, ClientStatus::Unknown] {
        world.tell("a", status);
        assert_eq!(world.alloc("a").client_status, ClientStatus::Lost);
    }
    world.tell("a", ClientStatus::Complete);
    assert_eq!(world.alloc("a").client_status, ClientStatus::Complete);
    assert_eq!(world.summary("web"), [0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(world.state.node_fence(&"n1".into()), fence);
}

#[test]
fn store_039_050_051_052_an_unknown_allocation_that_is_heard_of_needs_no_follow_up() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a", "b", "c"]);
    for id in ["a", "b", "c"] {
        world.tell(id, ClientStatus::Running);
    }
    for later in ["shared", "own"] {
        let until = Some(model::Timestamp(world.now + 1_000));
        world.create_eval(Evaluation { wait_until: until, ..eval(later, &"web".into()) });
    }
    for (id, later) in [("a", "shared"), ("b", "shared"), ("c", "own")] {
        make_unknown(&mut world, "web", id, later);
    }
    assert_eq!(world.summary("web")[6], 3);
    world.tell("c", ClientStatus::Lost);
    assert_eq!((world.alloc("c").followup_eval_id.as_str(), world.eval("own").status), ("own", EvalStatus::Pending));
    let fence = world.state.node_fence(&"n1".into());
    world.tell("a", ClientStatus::Running);
    assert!(world.state.node_fence(&"n1".into()) > fence);
    assert_eq!((world.alloc("a").followup_eval_id.as_str(), world.eval("shared").status), ("", EvalStatus::Pending));
    world.tell("b", ClientStatus::Complete);
    assert_eq!(world.eval("shared").status, EvalStatus::Cancelled);
    assert_eq!(world.summary("web"), [0, 0, 1, 1, 0, 1, 0]);
    world.assert_followed();
}

#[test]
fn node_016_an_allocation_whose_job_is_gone_is_not_wanted_any_more() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a", "b"]);
    world.deregister("web", true);
    world.tell("a", ClientStatus::Failed);
    world.tell("b", ClientStatus::Running);
    assert_eq!(
        [world.alloc("a").desired_status, world.alloc("b").desired_status],
        [DesiredStatus::Stop, DesiredStatus::Run]
    );
}

#[test]
fn fsm_014_room_is_news_when_an_allocation_ends_and_when_its_node_is_through_with_it() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a", "b", "c"]);
    world.tell("a", ClientStatus::Running);
    assert_eq!(roomier(&world), 0);
    world.tell("a", ClientStatus::Complete);
    assert_eq!(roomier(&world), 1);
    let room = world.last.iter().find(|change| change.table() == Table::Capacity).unwrap();
    let expected =
        Change::Capacity { node: "n1".into(), class: "v1:1".into(), pool: "default".into(), datacenter: "dc1".into() };
    assert_eq!(*room, expected);
    world.tell("a", ClientStatus::Failed);
    assert_eq!(roomier(&world), 0, "nothing is freed twice");
    world.stop("web", "b", None);
    assert_eq!(roomier(&world), 1, "from now on it may be given to others");
    world.tell("b", ClientStatus::Complete);
    assert_eq!(roomier(&world), 1, "now its processes are gone too");
    let both = vec![world.news("b", ClientStatus::Complete), world.news("c", ClientStatus::Complete)];
    world.tell_all(both);
    assert_eq!(roomier(&world), 1, "once per node and command");
    world.place("web", "n2", &["d"]);
    world.node_status("n2", NodeStatus::Down);
    world.stop("web", "d", Some(ClientStatus::Lost));
    assert_eq!(roomier(&world), 0, "room on a node that is down is none");
}

#[test]
fn store_049_a_transition_is_merged_and_is_news_for_the_node() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    let wish = |migrate, reschedule| DesiredTransition { migrate, reschedule, ..DesiredTransition::default() };
    let command = |id: &str, wish| Command::AllocDesiredTransition {
        transitions: [(id.into(), wish)].into(),
        evals: vec![eval("stop", &"web".into())],
    };
    world.accept(Role::Gateway, command("a", wish(None, Some(true))));
    world.accept(Role::Controller, command("a", wish(Some(true), None)));
    assert_eq!(world.changed(Table::Allocs), 0, "a drain moves nothing off a node that is not draining");
    world.accept(Role::Gateway, command("a", wish(Some(true), None)));
    let row = world.alloc("a");
    assert_eq!(row.desired_transition, wish(Some(true), Some(true)));
    assert_eq!(row.alloc_modify_index, world.index());
    world.accept(Role::Gateway, command("a", wish(Some(true), None)));
    assert_eq!(world.changed(Table::Allocs), 0);
    assert_eq!(world.refuse(Role::Gateway, command("nope", wish(None, None))).to_string(), "allocation not found");
    assert!(world.state.eval(&"stop".into()).is_some());
}

#[test]
fn node_003_004_a_node_that_is_not_ready_shows_that_it_told_of_its_allocations() {
    let mut world = World::with_job();
    world.place("web", "n1", &["a"]);
    world.tell("a", ClientStatus::Running);
    assert_eq!(world.node_row("n1").last_alloc_update_index, Index(0), "no row per batch for a ready one");
    world.node_status("n1", NodeStatus::Disconnected);
    world.node_status("n1", NodeStatus::Initializing);
    world.tell("a", ClientStatus::Running);
    let row = world.node_row("n1");
    assert!(row.last_alloc_update_index > row.last_missed_heartbeat_index);
}

#[test]
fn only_what_is_over_is_forgotten() {
    let mut world = World::with_job();
    let first = world.state.open_evals().next().unwrap().id.clone();
    world.place("web", "n1", &["live", "over", "stopping", "never-started"]);
    for id in ["live", "over", "stopping"] {
        world.tell(id, ClientStatus::Running);
    }
    world.tell("over", ClientStatus::Complete);
    world.stop("web", "stopping", None);
    world.stop("web", "never-started", None);
    let reap = Command::Reap {
        evals: world.state.evals().map(|eval| eval.id.clone()).collect(),
        allocs: ids(&["live", "over", "stopping", "never-started", "unknown"]),
        deployments: vec![],
        jobs: vec![(ns(), "web".into()), (ns(), "unknown".into())],
    };
    world.accept(Role::Controller, reap);
    let left: Vec<_> = world.state.allocs().map(|row| row.id.to_string()).collect();
    assert_eq!(left, ["live", "stopping"]);
    assert_eq!(world.state.evals().map(|eval| eval.id.clone()).collect::<Vec<_>>(), [first]);
    assert_eq!(world.summary("web"), [0, 0, 2, 1, 0, 0, 0], "what ended stays counted, what never ran does not");
    assert_eq!(world.status("web"), "running");
}

#[test]
fn store_032_a_job_whose_last_evaluation_is_forgotten_is_dead_and_can_go() {
    let mut world = World::new();
    let (.., first) = world.register(job("once"));
    let first = first.unwrap();
    world.finish_eval(first.as_str());
    assert_eq!(world.status("once"), "dead");
    let reap = |evals, jobs| Command::Reap { evals, allocs: vec![], deployments: vec![], jobs };
    world.accept(Role::Controller, reap(vec![first], vec![]));
    assert_eq!(world.status("once"), "dead");
    world.register(job("fresh"));
    world.accept(Role::Controller, reap(vec![], vec![(ns(), "once".into()), (ns(), "fresh".into())]));
    assert!(world.state.job(&ns(), &"once".into()).is_none());
    assert!(world.state.job(&ns(), &"fresh".into()).is_some(), "a pending job is kept");
}

#[test]
fn the_allocations_of_a_job_are_those_of_all_that_name_it_in_the_order_of_ids() {
    let mut state = State::default();
    // Ids that are the beginning of others, and allocations of several jobs between each other: 1 of 2, 1 of 3, few.
    let jobs = ["a", "ab", "a b", "b", "", "z"];
    let mut seed = 7_u64;
    for n in 0..2_000_u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let job = match seed >> 60 {
            0..8 => "a",
            8..13 => "ab",
            other => jobs[usize::try_from(other % 6).unwrap()],
        };
        let namespace = if seed >> 50 & 7 == 0 { "other" } else { "default" };
        let row = Allocation {
            id: format!("{:016x}", seed.rotate_left(17)).into(),
            namespace: namespace.into(),
            job_id: job.into(),
            node_id: format!("n{}", n % 7).into(),
            ..Allocation::default()
        };
        state.commit(Index(n + 1), &Change::Alloc(Arc::new(row)));
    }
    for namespace in ["default", "other", "none"] {
        for job in jobs.into_iter().chain(["aa", "nobody"]) {
            let got: Vec<_> = state.allocs_of_job(&namespace.into(), &job.into()).map(|a| a.id.clone()).collect();
            let all = state.allocs().filter(|a| a.job_id == *job && a.namespace == *namespace);
            assert_eq!(got, all.map(|a| a.id.clone()).collect::<Vec<_>>(), "{namespace} {job:?}");
        }
    }
    assert!(state.allocs_of_job(&"default".into(), &"a".into()).count() > 500);
}
