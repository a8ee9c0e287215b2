//! Nodes: what outlives a registration, status, eligibility, drain, going.

use fsm::command::{NodeStatusChange, Refusal};
use fsm::{Change, Command, Table};
use model::node::{DrainStrategy, DriverInfo, NodeEvent};
use model::{Eligibility, Evaluation, Index, Nanos, Node, NodeId, NodeStatus, Role, Timestamp};

use crate::world::{self, World, eval};

fn register(world: &mut World, node: Node) {
    world.accept(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![] });
}

fn eligibility(id: &str, eligibility: Eligibility) -> Command {
    let event = Some(NodeEvent { message: "set".into(), subsystem: "Cluster".into(), ..NodeEvent::default() });
    Command::NodeEligibility { node_id: id.into(), eligibility, event, evals: vec![] }
}

fn drain(id: &str, drain: Option<DrainStrategy>, mark_eligible: bool) -> Command {
    Command::NodeDrain {
        node_id: id.into(),
        drain,
        mark_eligible,
        meta: Default::default(),
        event: None,
        evals: vec![],
    }
}

fn roomier(world: &World) -> Vec<String> {
    let room = |change: &Change| match change {
        Change::Capacity { node, .. } => Some(node.to_string()),
        _ => None,
    };
    world.last.iter().filter_map(room).collect()
}

#[test]
fn a_new_node_begins_with_one_event_and_waits_to_become_ready() {
    let mut world = World::new();
    register(&mut world, Node { node_pool: "gpu".into(), status_updated_at: 9, ..world::node("n1") });
    let row = world.node_row("n1");
    assert_eq!(
        (row.status, row.create_index, row.modify_index),
        (NodeStatus::Initializing, world.index(), world.index())
    );
    assert_eq!((row.events[0].message.as_str(), row.events[0].subsystem.as_str()), ("Node registered", "Cluster"));
    assert_eq!(row.events[0].timestamp, Timestamp(9_000_000_000));
    assert!(world.state.node_pool("gpu").is_some(), "its pool is made");
    assert_eq!(roomier(&world), Vec::<String>::new());
    world.node_status("n1", NodeStatus::Ready);
    assert_eq!(roomier(&world), ["n1"], "fsm-004");
}

#[test]
fn a_driver_whose_health_changes_is_an_event_of_its_node_docker_39() {
    let mut world = World::new();
    let with = |healthy: bool, word: &str| {
        let info = DriverInfo { healthy, health_description: word.into(), ..DriverInfo::default() };
        Node { drivers: [("docker".to_owned(), info)].into(), ..world::node("n1") }
    };
    register(&mut world, with(true, "Healthy"));
    for (node, events) in [
        (with(true, "Healthy"), 1),
        (with(false, "away"), 2),
        (with(false, "still away"), 2),
        (with(true, "Healthy"), 3),
    ] {
        register(&mut world, node);
        assert_eq!(world.node_row("n1").events.len(), events);
    }
    let row = world.node_row("n1");
    let told: Vec<_> = row.events[1..].iter().map(|e| (e.subsystem.as_str(), e.message.as_str())).collect();
    assert_eq!(told, [("Driver", "away"), ("Driver", "Healthy")]);
    assert_eq!(row.events[1].details["driver"], "docker");
}

#[test]
fn node_001_another_secret_is_refused() {
    let mut world = World::new();
    world.node("n1");
    for secret in ["", "other"] {
        let node = Node { secret_id: secret.into(), ..world::node("n1") };
        let refusal = world.refuse(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![] });
        assert_eq!(refusal, Refusal::Conflict("node secret ID does not match".into()));
    }
}

/// A node id used twice: the data directory of an agent that lives was copied.
#[test]
fn a_node_that_lives_is_not_taken_over_by_its_copy_before_it_is_down() {
    let at = |place: &str| Node {
        attributes: [(model::node::PLACE.to_owned(), place.to_owned())].into(),
        ..world::node("n1")
    };
    let mut world = World::new();
    register(&mut world, at("here"));
    for status in [None, Some(NodeStatus::Ready)] {
        if let Some(status) = status {
            world.node_status("n1", status);
        }
        let copy = Command::NodeRegister { node: Box::new(at("there")), evals: vec![] };
        let refusal = world.refuse(Role::Gateway, copy);
        assert!(matches!(&refusal, Refusal::Conflict(why) if why.contains("another agent that is alive")), "{refusal}");
        register(&mut world, at("here"));
    }
    world.node_status("n1", NodeStatus::Down);
    register(&mut world, at("there"));
    assert_eq!(world.node_row("n1").attributes[model::node::PLACE], "there");
}

#[test]
fn a_node_without_an_id_or_in_every_pool_is_refused() {
    let mut world = World::new();
    for bad in [Node { id: "".into(), ..world::node("x") }, Node { node_pool: "all".into(), ..world::node("x") }] {
        let refusal = world.refuse(Role::Gateway, Command::NodeRegister { node: Box::new(bad), evals: vec![] });
        assert!(matches!(refusal, Refusal::Invalid(_)));
    }
}

#[test]
fn store_053_what_was_decided_about_a_node_outlives_its_registration() {
    let mut world = World::new();
    world.node("n1");
    let strategy = DrainStrategy { deadline: Nanos::from_secs(60), ..DrainStrategy::default() };
    world.accept(Role::Gateway, drain("n1", Some(strategy), false));
    let before = world.node_row("n1").clone();
    register(
        &mut world,
        Node { name: "renamed".into(), scheduling_eligibility: Eligibility::Eligible, ..world::node("n1") },
    );
    let after = world.node_row("n1").clone();
    assert_eq!(after.name, "renamed");
    let decided = |node: &Node| {
        (
            node.status,
            node.scheduling_eligibility,
            node.drain_strategy.clone(),
            node.last_drain.clone(),
            node.events.clone(),
        )
    };
    assert_eq!(decided(&after), decided(&before));
    assert_eq!((after.create_index, after.modify_index), (before.create_index, world.index()));
    register(&mut world, Node { name: "renamed".into(), ..world::node("n1") });
    assert!(world.last.is_empty(), "node-008: the same again is no write");
}

#[test]
fn store_054_055_a_node_that_comes_back_says_so_and_ten_events_are_kept() {
    let mut world = World::new();
    world.node("n1");
    world.node_status("n1", NodeStatus::Down);
    register(&mut world, world::node("n1"));
    let row = world.node_row("n1");
    assert_eq!((row.status, row.events.last().unwrap().message.as_str()), (NodeStatus::Down, "Node re-registered"));
    for turn in 0..7 {
        for to in [Eligibility::Ineligible, Eligibility::Eligible] {
            let mut command = eligibility("n1", to);
            if let Command::NodeEligibility { event: Some(event), .. } = &mut command {
                event.message = format!("{turn} {to}");
            }
            world.accept(Role::Gateway, command);
        }
    }
    let events = &world.node_row("n1").events;
    assert_eq!(
        (events.len(), events[0].message.as_str(), events[9].message.as_str()),
        (10, "2 ineligible", "6 eligible")
    );
    assert_eq!(events[9].create_index, world.index());
}

#[test]
fn store_056_node_002_a_missed_heartbeat_is_dated_and_an_unchanged_status_is_no_write() {
    let mut world = World::new();
    world.node("n1");
    world.node_status("n1", NodeStatus::Ready);
    assert!(world.last.is_empty());
    world.node_status("n1", NodeStatus::Down);
    assert_eq!(world.node_row("n1").last_missed_heartbeat_index, world.index());
    assert_eq!(world.node_row("n1").status_updated_at, 5);
    world.node_status("n1", NodeStatus::Ready);
    assert_eq!(world.node_row("n1").last_missed_heartbeat_index, Index(0));
    assert_eq!(roomier(&world), ["n1"]);
    let update = NodeStatusChange { node_id: "nope".into(), status: NodeStatus::Down, updated_at: 1, event: None };
    let refusal = world.refuse(Role::Controller, Command::NodeStatusUpdate { updates: vec![update], evals: vec![] });
    assert_eq!(refusal.to_string(), "node not found");
}

#[test]
fn node_027_028_store_057_eligibility_changes_once_and_not_under_a_drain() {
    let mut world = World::new();
    world.node("n1");
    world.accept(Role::Gateway, eligibility("n1", Eligibility::Eligible));
    assert!(world.last.is_empty());
    world.accept(Role::Gateway, eligibility("n1", Eligibility::Ineligible));
    assert_eq!(roomier(&world), Vec::<String>::new());
    world.accept(Role::Gateway, eligibility("n1", Eligibility::Eligible));
    assert_eq!(roomier(&world), ["n1"]);
    world.accept(Role::Gateway, drain("n1", Some(DrainStrategy::default()), false));
    let refusal = world.refuse(Role::Gateway, eligibility("n1", Eligibility::Eligible));
    assert_eq!(refusal.to_string(), "can not set node's scheduling eligibility to eligible while it is draining");
    assert_eq!(world.refuse(Role::Gateway, eligibility("nope", Eligibility::Eligible)).to_string(), "node not found");
}

#[test]
fn store_058_a_drain_ends_complete_or_canceled() {
    let mut world = World::new();
    world.node("n1");
    let strategy = DrainStrategy { deadline: Nanos::from_secs(60), ..DrainStrategy::default() };
    world.accept(Role::Gateway, drain("n1", Some(strategy.clone()), false));
    let row = world.node_row("n1").clone();
    let running = row.drain_strategy.unwrap();
    assert_eq!(
        (running.started_at, running.force_deadline),
        (Timestamp(world.now), Timestamp(world.now).plus(strategy.deadline))
    );
    assert!(row.drain && row.scheduling_eligibility == Eligibility::Ineligible);
    assert_eq!(row.last_drain.unwrap().status, "draining");
    world.accept(Role::Gateway, drain("n1", Some(strategy.clone()), false));
    let again = world.node_row("n1").drain_strategy.clone().unwrap();
    assert_eq!((again.started_at, again.force_deadline > running.force_deadline), (running.started_at, true));
    world.accept(Role::Controller, drain("n1", None, false));
    let row = world.node_row("n1").clone();
    assert_eq!((row.drain, row.drain_strategy, row.scheduling_eligibility), (false, None, Eligibility::Ineligible));
    assert_eq!(row.last_drain.unwrap().status, "complete");
    world.accept(Role::Gateway, drain("n1", Some(strategy), false));
    world.accept(Role::Gateway, drain("n1", None, true));
    let row = world.node_row("n1").clone();
    assert_eq!(
        (row.scheduling_eligibility, row.last_drain.unwrap().status.as_str()),
        (Eligibility::Eligible, "canceled")
    );
    assert_eq!(roomier(&world), ["n1"]);
}

#[test]
fn store_059_a_list_with_an_unknown_node_removes_none() {
    let mut world = World::new();
    world.node("n1");
    let gone = |nodes: &[&str]| {
        let nodes = nodes.iter().map(|id| (*id).into()).collect();
        Command::NodeDeregister { nodes, revoke: false, evals: vec![eval("after", &"web".into())] }
    };
    assert_eq!(world.refuse(Role::Gateway, gone(&["n1", "nope"])).to_string(), "node not found");
    assert!(world.state.eval(&"after".into()).is_none());
    world.accept(Role::Gateway, gone(&["n1", "n1"]));
    assert_eq!((world.state.node_count(), world.changed(Table::Nodes)), (0, 1));
}

#[test]
fn a_node_that_grows_makes_room_and_its_evaluations_know_its_index() {
    let mut world = World::new();
    world.node("n1");
    let node = Node { node_resources: Some(world::resources(4000)), ..world::node("n1") };
    let look = Evaluation { node_id: "n1".into(), ..eval("look", &"sys".into()) };
    world.accept(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![look] });
    assert_eq!(roomier(&world), ["n1"]);
    assert_eq!(world.eval("look").node_modify_index, world.index());
}

/// A purge that revokes: the node is refused until it is admitted, through snapshots too.
#[test]
fn a_revoked_node_comes_back_only_when_it_is_admitted() {
    let mut world = World::new();
    world.node("n1");
    let gone = |revoke| Command::NodeDeregister { nodes: vec!["n1".into()], revoke, evals: vec![] };
    let register = || Command::NodeRegister { node: Box::new(world::node("n1")), evals: vec![] };
    world.accept(Role::Gateway, gone(false));
    world.accept(Role::Gateway, register());
    assert!(matches!(world.refuse(Role::Controller, gone(true)), Refusal::Invalid(_)), "that is for a person to say");
    world.accept(Role::Gateway, gone(true));
    assert!(world.state.is_revoked(&"n1".into()));
    assert_eq!(world.refuse(Role::Gateway, register()).to_string(), "node was purged and must be introduced anew");
    let mut bytes = Vec::new();
    fsm::write_snapshot(&world.state, &mut bytes, None).unwrap();
    assert!(fsm::read_snapshot(bytes.as_slice()).unwrap().is_revoked(&"n1".into()));
    let admit = |mark: &str| Command::NodeAdmit { nodes: vec!["n1".into(), "nobody".into()], admission: mark.into() };
    world.accept(Role::Gateway, admit(""));
    assert!(!world.state.is_revoked(&"n1".into()));
    world.accept(Role::Gateway, register());
}

/// A certificate that was stolen before the purge is of no use after the node came back, through snapshots too.
#[test]
fn of_a_node_that_was_admitted_again_only_certificates_of_that_admission_are_taken() {
    let mut world = World::new();
    let id: NodeId = "n1".into();
    let register = || Command::NodeRegister { node: Box::new(world::node("n1")), evals: vec![] };
    let gone = || Command::NodeDeregister { nodes: vec!["n1".into()], revoke: true, evals: vec![] };
    let admit = |mark: &str| Command::NodeAdmit { nodes: vec!["n1".into()], admission: mark.into() };
    world.accept(Role::Gateway, register());
    assert!(!world.state.shuts_out(&id, "") && !world.state.shuts_out(&id, "any"));
    // Each admission ends what was good before it; one that comes too late changes nothing.
    for (mark, before) in [("one", ""), ("two", "one")] {
        world.accept(Role::Gateway, gone());
        for any in ["", "one", "two"] {
            assert!(world.state.shuts_out(&id, any), "nothing is taken while it is revoked");
        }
        world.accept(Role::Gateway, admit(mark));
        world.accept(Role::Gateway, admit("late"));
        assert_eq!(world.state.admission(&id), mark);
        for state in [&world.state, &fsm::read_snapshot(&world::snapshot(&world.state, None)[..]).unwrap()] {
            assert!(!state.shuts_out(&id, mark));
            assert!(state.shuts_out(&id, before) && state.shuts_out(&id, "late"));
        }
        world.assert_followed();
        world.accept(Role::Gateway, register());
    }
    assert!(matches!(world.refuse(Role::Gateway, admit(&"x".repeat(64))), Refusal::Invalid(_)));
    // What nothing of this is in, older programs read.
    let never = String::from_utf8(world::snapshot(&World::new().state, None)).unwrap();
    assert!(!never.contains("node_admissions"));
}

fn suspect(suspects: &[(&str, bool)]) -> Command {
    Command::NodeSuspect { suspects: suspects.iter().map(|(id, suspect)| ((*id).into(), *suspect)).collect() }
}

#[test]
fn a_suspicion_is_no_news_of_the_node_and_its_end_is_room() {
    let mut world = World::new();
    world.node("n1");
    let (before, row) = (world.state.table_index(Table::Nodes), world.node_row("n1").clone());
    world.accept(Role::Controller, suspect(&[("n1", true), ("nowhere", true)]));
    assert!(world.state.is_suspect(&"n1".into()) && world.full.is_suspect(&"n1".into()));
    assert_eq!(world.state.suspects().count(), 1, "a node that is not there is left out");
    assert_eq!((world.state.table_index(Table::Nodes), world.node_row("n1")), (before, &row));
    assert_eq!(roomier(&world), Vec::<String>::new());
    world.accept(Role::Controller, suspect(&[("n1", true)]));
    assert!(world.last.is_empty(), "it is known");
    world.assert_followed();
    let copy = fsm::read_snapshot(&world::snapshot(&world.state, None)[..]).unwrap();
    assert!(copy.is_suspect(&"n1".into()), "it outlives a snapshot");
    world.accept(Role::Controller, suspect(&[("n1", false)]));
    assert!(!world.state.is_suspect(&"n1".into()));
    assert_eq!(roomier(&world), ["n1"]);
    world.assert_followed();
}

#[test]
fn a_node_that_is_down_or_gone_is_suspect_no_longer() {
    let mut world = World::new();
    world.node("n1");
    world.node("n2");
    world.accept(Role::Controller, suspect(&[("n1", true), ("n2", true)]));
    world.node_status("n1", NodeStatus::Down);
    world.accept(Role::Gateway, Command::NodeDeregister { nodes: vec!["n2".into()], revoke: false, evals: vec![] });
    assert_eq!(world.state.suspects().count(), 0);
    world.accept(Role::Controller, suspect(&[("n1", true)]));
    assert_eq!(world.state.suspects().count(), 0, "a node that is down is not suspect");
    world.assert_followed();
}
