//! Draining nodes. Ids: `drain-` server scenarios.

use std::sync::Arc;

use control::drain::{Decision, decide};
use fsm::{Change, Command};
use model::alloc::DesiredTransition;
use model::group::MigrateStrategy;
use model::node::DrainStrategy;
use model::{
    Allocation, ClientStatus, DesiredStatus, Eligibility, Job, Nanos, Node, NodeStatus, Role, TaskGroup, Timestamp,
};

use crate::world::{NOW, World, health, job};

const MINUTE: i64 = 60;

fn service(id: &str, count: i64, max_parallel: i64) -> Job {
    let migrate = MigrateStrategy { max_parallel: Some(max_parallel), ..MigrateStrategy::default() };
    let group =
        TaskGroup { name: Some("g".into()), count: Some(count), migrate: Some(migrate), ..TaskGroup::default() };
    Job { task_groups: vec![group], ..job(id, "service") }
}

/// A world with two nodes.
fn two_nodes() -> World {
    let mut world = World::new();
    world.node("n1", NodeStatus::Ready);
    world.node("n2", NodeStatus::Ready);
    world
}

fn drain(world: &mut World, node: &str, deadline_s: i64, ignore_system_jobs: bool) {
    let strategy = DrainStrategy { deadline: Nanos::from_secs(deadline_s), ignore_system_jobs, ..Default::default() };
    set(world, node, Some(strategy), false);
}

fn set(world: &mut World, node: &str, drain: Option<DrainStrategy>, mark_eligible: bool) {
    let (meta, event) = (Default::default(), None);
    world.send(
        Role::Gateway,
        Command::NodeDrain { node_id: node.into(), drain, mark_eligible, meta, event, evals: vec![] },
    );
}

fn healthy(row: &mut Allocation) {
    row.deployment_status = health(true, NOW, 1);
}

fn look(world: &mut World, at: Timestamp) -> Decision {
    let mut ids = world.ids();
    decide(&world.state, at, &mut ids)
}

/// What is asked to move, with whether a replacement is not wanted; and the nodes that are done.
fn named(decision: &Decision) -> (Vec<(String, bool)>, Vec<String>) {
    let (mut moved, mut done) = (Vec::new(), Vec::new());
    for command in &decision.commands {
        match command {
            Command::AllocDesiredTransition { transitions, evals } => {
                assert!(!evals.is_empty() && evals.iter().all(|eval| eval.triggered_by == "node-drain"));
                for (id, wish) in transitions {
                    assert!(wish.should_migrate());
                    moved.push((id.to_string(), wish.should_skip_placement()));
                }
            }
            Command::NodeDrain { node_id, drain: None, mark_eligible: false, .. } => done.push(node_id.to_string()),
            other => panic!("{other:?}"),
        }
    }
    (moved, done)
}

/// Looks and writes what was decided; gives what moves and what is done.
fn step(world: &mut World, at: Timestamp) -> (Vec<String>, Vec<String>) {
    world.now = at;
    let decision = look(world, at);
    let (moved, done) = named(&decision);
    for command in decision.commands {
        world.perform(command);
    }
    (moved.into_iter().map(|(id, _)| id).collect(), done)
}

fn row(world: &World, id: &str) -> Allocation {
    Allocation::clone(world.state.alloc(&id.into()).unwrap())
}

fn edit(world: &mut World, id: &str, change: impl FnOnce(&mut Allocation)) {
    let mut row = row(world, id);
    change(&mut row);
    world.put(Change::Alloc(Arc::new(row)));
}

/// The scheduler's and the agents' part: the allocation ends, another runs on a node.
fn replace(world: &mut World, job: &Job, id: &str, node: &str, verdict: Option<bool>) {
    end(world, id);
    world.alloc(&format!("{id}'"), job, node, |row| {
        row.deployment_status = verdict.and_then(|verdict| health(verdict, NOW, 1));
    });
}

fn end(world: &mut World, id: &str) {
    edit(world, id, |row| {
        row.desired_status = DesiredStatus::Stop;
        row.client_status = ClientStatus::Complete;
    });
}

fn soon(seconds: i64) -> Timestamp {
    NOW.plus(Nanos::from_secs(seconds))
}

/// drain-001.
#[test]
fn one_migrates_at_a_time_after_the_one_before_is_healthy_elsewhere() {
    let mut world = two_nodes();
    let web = world.job(service("web", 3, 1));
    for id in ["a", "b", "c"] {
        world.alloc(id, &web, "n1", healthy);
    }
    drain(&mut world, "n1", 60 * MINUTE, false);
    for id in ["a", "b", "c"] {
        assert_eq!(step(&mut world, NOW), (vec![id.to_owned()], vec![]));
        assert_eq!(step(&mut world, NOW), (vec![], vec![]), "it is not healthy elsewhere yet");
        replace(&mut world, &web, id, "n2", None);
        let done = if id == "c" { vec!["n1".to_owned()] } else { vec![] };
        assert_eq!(step(&mut world, NOW), (vec![], done), "the node is left, or the next waits for the last");
        edit(&mut world, &format!("{id}'"), healthy);
    }
    let node = world.state.node(&"n1".into()).unwrap();
    assert!(!node.is_draining() && node.scheduling_eligibility == Eligibility::Ineligible);
    assert_eq!(node.last_drain.as_ref().unwrap().status, "complete");
    assert_eq!(node.events.last().unwrap().message, "Node drain complete");
}

/// drain-001, with a wider migrate block.
#[test]
fn as_many_move_at_once_as_the_migrate_block_allows() {
    let mut world = two_nodes();
    let web = world.job(service("web", 5, 2));
    for id in ["a", "b", "c", "d", "e"] {
        world.alloc(id, &web, "n1", healthy);
    }
    drain(&mut world, "n1", 0, false);
    assert_eq!(step(&mut world, NOW).0, ["a", "b"]);
    replace(&mut world, &web, "a", "n2", Some(true));
    assert_eq!(step(&mut world, NOW).0, ["c"]);
}

/// drain-002.
#[test]
fn at_the_deadline_everything_left_goes_and_batch_work_is_not_placed_again() {
    let mut world = two_nodes();
    let web = world.job(service("web", 3, 1));
    let (sum, fs) = (world.job(job("sum", "batch")), world.job(job("fs", "system")));
    for id in ["a", "b", "c"] {
        world.alloc(id, &web, "n1", healthy);
    }
    world.alloc("s", &sum, "n1", |_| {});
    world.alloc("y", &fs, "n1", |_| {});
    drain(&mut world, "n1", 10 * MINUTE, false);
    assert_eq!(look(&mut world, NOW).wake_at, Some(soon(600)));
    assert_eq!(step(&mut world, soon(599)).0, ["a"], "batch work is left to end, system work is last");
    let decision = look(&mut world, soon(600));
    let left = ["b", "c", "s", "y"].map(|id| (id.to_owned(), id == "s"));
    let mut moved = named(&decision).0;
    moved.sort();
    assert_eq!((moved, decision.wake_at), (left.to_vec(), None));
    let jobs: Vec<_> = decision
        .commands
        .iter()
        .flat_map(|command| match command {
            Command::AllocDesiredTransition { evals, .. } => evals.iter().map(|e| e.job_id.to_string()).collect(),
            _ => vec![],
        })
        .collect();
    assert_eq!(jobs, ["fs", "sum", "web"], "one evaluation for each job");
    step(&mut world, soon(600));
    for id in ["a", "b", "c", "s", "y"] {
        assert_eq!(step(&mut world, soon(601)), (vec![], vec![]), "what still runs is waited for");
        end(&mut world, id);
    }
    assert_eq!(step(&mut world, soon(602)).1, ["n1"]);
    let node = world.state.node(&"n1".into()).unwrap();
    assert_eq!(node.events.last().unwrap().details["deadline_reached"], "true");
}

/// drain-003.
#[test]
fn without_a_deadline_batch_work_is_waited_for_however_long() {
    let mut world = two_nodes();
    let sum = world.job(job("sum", "batch"));
    let each = world.job(job("each", "sysbatch"));
    world.alloc("s", &sum, "n1", |_| {});
    world.alloc("e", &each, "n1", |_| {});
    drain(&mut world, "n1", 0, false);
    let decision = look(&mut world, soon(365 * 86_400));
    assert_eq!(decision, Decision::default());
    end(&mut world, "s");
    edit(&mut world, "e", |row| row.client_status = ClientStatus::Complete);
    assert_eq!(step(&mut world, NOW).1, ["n1"]);
}

/// drain-004.
#[test]
fn a_negative_deadline_stops_everything_at_once() {
    for (ignore_system, expected) in [(false, vec!["a", "b", "s", "y"]), (true, vec!["a", "b", "s"])] {
        let mut world = two_nodes();
        let web = world.job(service("web", 2, 1));
        let (sum, fs) = (world.job(job("sum", "batch")), world.job(job("fs", "system")));
        world.alloc("a", &web, "n1", healthy);
        world.alloc("b", &web, "n1", |_| {});
        world.alloc("s", &sum, "n1", |_| {});
        world.alloc("y", &fs, "n1", |_| {});
        drain(&mut world, "n1", -1, ignore_system);
        let mut moved = step(&mut world, NOW).0;
        moved.sort();
        assert_eq!(moved, expected);
        assert_eq!(step(&mut world, NOW), (vec![], vec![]), "nothing is asked twice");
    }
}

/// drain-005, and system work goes last.
#[test]
fn system_work_goes_when_nothing_else_is_left_or_stays_if_it_is_to_be_ignored() {
    for ignore_system in [false, true] {
        let mut world = two_nodes();
        let (web, fs) = (world.job(service("web", 1, 1)), world.job(job("fs", "system")));
        world.alloc("a", &web, "n1", healthy);
        world.alloc("y", &fs, "n1", |_| {});
        drain(&mut world, "n1", 60 * MINUTE, ignore_system);
        assert_eq!(step(&mut world, NOW), (vec!["a".to_owned()], vec![]));
        edit(&mut world, "a", |row| row.desired_status = DesiredStatus::Stop);
        assert_eq!(step(&mut world, NOW), (vec![], vec![]), "it still runs");
        replace(&mut world, &web, "a", "n2", None);
        if ignore_system {
            assert_eq!(step(&mut world, NOW), (vec![], vec!["n1".to_owned()]));
            assert!(!row(&world, "y").desired_transition.should_migrate());
        } else {
            assert_eq!(step(&mut world, NOW), (vec!["y".to_owned()], vec![]));
            end(&mut world, "y");
            assert_eq!(step(&mut world, NOW), (vec![], vec!["n1".to_owned()]));
        }
    }
}

/// drain-006.
#[test]
fn an_empty_node_is_done_at_once_and_stays_ineligible() {
    let mut world = two_nodes();
    drain(&mut world, "n1", 60 * MINUTE, false);
    assert_eq!(step(&mut world, NOW), (vec![], vec!["n1".to_owned()]));
    assert_eq!(world.state.node(&"n1".into()).unwrap().scheduling_eligibility, Eligibility::Ineligible);
    assert_eq!(look(&mut world, NOW), Decision::default());
}

/// drain-007.
#[test]
fn deadlines_close_together_are_handled_together() {
    let mut world = two_nodes();
    world.node("n3", NodeStatus::Ready);
    let sum = world.job(job("sum", "batch"));
    for (id, node, deadline_s) in [("a", "n1", 60), ("b", "n2", 64), ("c", "n3", 120)] {
        world.alloc(id, &sum, node, |_| {});
        drain(&mut world, node, deadline_s, false);
    }
    assert_eq!(step(&mut world, soon(59)).0.len(), 0);
    let decision = look(&mut world, soon(60));
    assert_eq!(named(&decision).0.len(), 2);
    assert_eq!(decision.commands.len(), 1);
    assert_eq!(decision.wake_at, Some(soon(120)));
}

/// drain-008: the deadline counts from the change, the drain from its beginning.
#[test]
fn a_changed_drain_keeps_its_beginning_and_gets_a_new_deadline() {
    let mut world = two_nodes();
    drain(&mut world, "n1", 60, false);
    world.now = soon(30);
    drain(&mut world, "n1", 120, true);
    let node = world.state.node(&"n1".into()).unwrap();
    let strategy = node.drain_strategy.as_ref().unwrap();
    assert_eq!((strategy.started_at, strategy.force_deadline), (NOW, soon(150)));
    let last = node.last_drain.as_ref().unwrap();
    assert_eq!((last.started_at, last.updated_at), (NOW, soon(30)));
}

/// drain-009: what was decided before the end of the drain has no effect behind it.
#[test]
fn a_cancelled_drain_moves_nothing_more() {
    let mut world = two_nodes();
    let web = world.job(service("web", 2, 1));
    world.alloc("a", &web, "n1", healthy);
    world.alloc("b", &web, "n1", healthy);
    drain(&mut world, "n1", 60 * MINUTE, false);
    let late = look(&mut world, NOW);
    set(&mut world, "n1", None, true);
    for command in late.commands {
        world.perform(command);
    }
    assert_eq!(row(&world, "a").desired_transition, DesiredTransition::default());
    let node = world.state.node(&"n1".into()).unwrap();
    assert!(node.is_ready());
    assert_eq!(node.last_drain.as_ref().unwrap().status, "canceled");
    assert_eq!(look(&mut world, soon(7_200)), Decision::default());
}

/// drain-010.
#[test]
fn a_node_that_is_purged_while_draining_is_forgotten() {
    let mut world = two_nodes();
    let web = world.job(service("web", 2, 1));
    world.alloc("a", &web, "n1", healthy);
    drain(&mut world, "n1", 60, false);
    world.send(Role::Gateway, Command::NodeDeregister { nodes: vec!["n1".into()], revoke: false, evals: vec![] });
    assert_eq!(look(&mut world, soon(3_600)), Decision::default());
}

/// drain-011.
#[test]
fn when_all_nodes_drain_the_group_stays_but_for_max_parallel() {
    let mut world = two_nodes();
    let web = world.job(service("web", 4, 1));
    for (id, node) in [("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n2")] {
        world.alloc(id, &web, node, healthy);
    }
    drain(&mut world, "n1", 0, false);
    drain(&mut world, "n2", 0, false);
    assert_eq!(step(&mut world, NOW).0, ["a"]);
    end(&mut world, "a");
    assert_eq!(step(&mut world, soon(86_400)), (vec![], vec![]), "there is no room for it");
}

/// drain-013.
#[test]
fn an_unhealthy_alloc_goes_first_and_counts_for_nothing() {
    let mut world = two_nodes();
    let web = world.job(service("web", 3, 1));
    world.alloc("a", &web, "n1", healthy);
    world.alloc("b", &web, "n2", healthy);
    world.alloc("c", &web, "n1", |row| row.deployment_status = health(false, NOW, 1));
    drain(&mut world, "n1", 0, false);
    assert_eq!(step(&mut world, NOW).0, ["c"], "nobody loses anything by it");
    replace(&mut world, &web, "c", "n2", None);
    assert_eq!(step(&mut world, NOW).0.len(), 0);
    edit(&mut world, "c'", |row| row.deployment_status = health(false, NOW, 2));
    assert_eq!(step(&mut world, NOW).0.len(), 0, "two healthy ones are what is left to keep");
    edit(&mut world, "c'", healthy);
    assert_eq!(step(&mut world, NOW).0, ["a"]);
}

/// drain-014.
#[test]
fn a_job_that_is_stopped_while_its_node_drains_is_left_to_its_end() {
    let mut world = two_nodes();
    let web = world.job(service("web", 2, 2));
    world.alloc("a", &web, "n1", healthy);
    drain(&mut world, "n1", 0, false);
    world.job(Job { stop: Some(true), ..Job::clone(&web) });
    assert_eq!(step(&mut world, NOW), (vec![], vec![]));
    edit(&mut world, "a", |row| row.desired_status = DesiredStatus::Stop);
    assert_eq!(step(&mut world, NOW), (vec![], vec![]));
    end(&mut world, "a");
    assert_eq!(step(&mut world, NOW).1, ["n1"]);
}

/// drain-015.
#[test]
fn a_node_that_goes_down_while_draining_is_done_when_its_allocs_are_lost() {
    let mut world = two_nodes();
    let web = world.job(service("web", 1, 1));
    world.alloc("a", &web, "n1", healthy);
    drain(&mut world, "n1", 60, false);
    let node = Node::clone(world.state.node(&"n1".into()).unwrap());
    world.put_node(Node { status: NodeStatus::Down, ..node });
    assert_eq!(step(&mut world, soon(61)), (vec![], vec![]), "the scheduler replaces what is lost");
    edit(&mut world, "a", |row| {
        row.desired_status = DesiredStatus::Stop;
        row.client_status = ClientStatus::Lost;
    });
    assert_eq!(step(&mut world, soon(62)).1, ["n1"]);
}

/// drain-016: nothing but rows is asked, so who takes over comes to the same.
#[test]
fn a_controller_that_takes_over_goes_on_with_the_same_deadline() {
    let mut world = two_nodes();
    let web = world.job(service("web", 3, 1));
    for id in ["a", "b", "c"] {
        world.alloc(id, &web, "n1", healthy);
    }
    drain(&mut world, "n1", 600, false);
    let (first, second) = (look(&mut world, NOW), look(&mut world, NOW));
    assert_eq!((named(&first), first.wake_at), (named(&second), second.wake_at));
    // The old holder's command was written, and the new one decides the same again before it sees it.
    for command in first.commands.into_iter().chain(second.commands) {
        world.perform(command);
    }
    let moving = world.state.allocs().filter(|alloc| alloc.desired_transition.should_migrate()).count();
    assert_eq!(moving, 1);
    assert_eq!(look(&mut world, NOW).wake_at, Some(soon(600)));
}

#[test]
fn a_canary_goes_without_waiting_and_is_not_counted() {
    let mut world = two_nodes();
    let web = world.job(service("web", 2, 1));
    world.alloc("a", &web, "n2", healthy);
    world.alloc("b", &web, "n2", healthy);
    world.alloc("canary", &web, "n1", |row| {
        healthy(row);
        row.deployment_status.as_mut().unwrap().canary = true;
    });
    drain(&mut world, "n1", 0, false);
    assert_eq!(step(&mut world, NOW).0, ["canary"]);
    drain(&mut world, "n2", 0, false);
    assert_eq!(step(&mut world, NOW).0, ["a"]);
}

/// Whatever happens in whatever order: what a drain may take is never exceeded, and every drain ends.
#[test]
fn under_any_order_of_events_enough_stays_healthy_and_every_drain_ends() {
    for seed in 1..=200_u64 {
        let mut rng = seed;
        let mut draw = |below: u64| {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            rng % below
        };
        let (count, max_parallel) = (2 + draw(5), 1 + draw(3));
        let mut world = two_nodes();
        world.node("n3", NodeStatus::Ready);
        let web = world.job(service("web", count as i64, max_parallel as i64));
        for at in 0..count {
            world.alloc(&format!("a{at}"), &web, if draw(2) == 0 { "n1" } else { "n2" }, healthy);
        }
        drain(&mut world, "n1", 0, false);
        let mut both = false;
        for turn in 0.. {
            assert!(turn < 2_000, "seed {seed}: the drain does not end");
            if !both && draw(5) == 0 {
                both = true;
                drain(&mut world, "n2", 0, false);
            }
            step(&mut world, NOW);
            let stays = |alloc: &&Arc<Allocation>| {
                !alloc.is_terminal() && !alloc.desired_transition.should_migrate() && alloc.is_healthy() == Some(true)
            };
            let in_place = world.state.allocs().filter(stays).count() as u64;
            assert!(in_place + max_parallel >= count, "seed {seed}: {in_place} of {count} stay");
            let rows: Vec<Allocation> = world.state.allocs().map(|a| Allocation::clone(a)).collect();
            for alloc in rows.iter().filter(|alloc| !alloc.is_terminal()) {
                match draw(3) {
                    0 if alloc.desired_transition.should_migrate() => {
                        replace(&mut world, &web, alloc.id.as_str(), "n3", None);
                    }
                    1 if alloc.is_healthy().is_none() => edit(&mut world, alloc.id.as_str(), healthy),
                    _ => {}
                }
            }
            if both && world.state.nodes().all(|node| !node.is_draining()) {
                break;
            }
        }
        assert!(world.state.allocs().filter(|a| !a.is_terminal()).all(|a| a.node_id.as_str() == "n3"));
    }
}
