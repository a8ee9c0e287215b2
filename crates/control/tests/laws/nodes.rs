//! Nodes: who is alive, and which jobs a change concerns. Ids are those of the server scenario table.

use control::Trigger;
use control::heartbeat::{Beats, Settings, on_beat, silenced};
use control::node::{evals_for_node, event, node_event, registration_needs_evals};
use fsm::Command;
use model::group::DisconnectStrategy;
use model::node::{NodeNetworkAddress, NodeNetworkResource, NodeResources};
use model::{ClientStatus, DesiredStatus, Index, Nanos, Node, NodeStatus, Timestamp};

use crate::world::{NOW, S, World, job};

/// A controller that watches, its clock, and beats.
struct Watch {
    beats: Beats,
    ms: u64,
}

impl Watch {
    fn over(world: &World) -> Self {
        Self::with(world, Settings::default())
    }

    fn with(world: &World, settings: Settings) -> Self {
        let mut beats = Beats::new(settings, 0);
        beats.take_over(&world.state, 0);
        Self { beats, ms: 0 }
    }

    /// Time passes with a tick every half second; the ids declared down, and when.
    fn run(&mut self, world: &World, ms: u64, beating: &[&str]) -> Vec<(u64, String)> {
        let mut down = Vec::new();
        let until = self.ms + ms;
        while self.ms < until {
            self.ms += 500;
            for id in beating {
                self.beats.beat(&(*id).into(), "gw", self.ms);
            }
            let changes = self.beats.tick(&world.state, self.ms, NOW);
            down.extend(changes.into_iter().map(|c| (self.ms, c.node_id.to_string())));
        }
        down
    }
}

/// heartbeat-002.
#[test]
fn the_period_grows_with_the_number_of_nodes_and_a_ttl_is_three_of_them_and_five_seconds_at_least() {
    let settings = Settings::default();
    let at = |nodes| (settings.period_ms(nodes), settings.ttl_ms(nodes));
    assert_eq!(at(1), (1_000, 5_000));
    assert_eq!(at(5_000), (3_000, 9_000));
    assert_eq!(at(10_000), (5_000, 15_000));
    assert_eq!(at(20_000), (10_000, 30_000), "the rate of beats stays");
}

#[test]
fn a_node_may_be_silent_for_the_operator_s_grace_and_for_longer_after_a_take_over_if_that_is_said() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let settings = Settings { grace_ms: 4_000, ..Settings::default() };
    let mut watch = Watch::with(&world, settings.clone());
    watch.run(&world, 500, &["n"]);
    assert_eq!(watch.run(&world, 12_000, &[])[0], (9_500, "n".to_owned()), "a TTL and the grace after its beat");
    let mut watch = Watch::with(&world, Settings { failover_ms: Some(30_000), ..settings });
    assert_eq!(watch.run(&world, 31_000, &[])[0], (30_000, "n".to_owned()));
}

/// heartbeat-001, heartbeat-004: one period of grace after a take-over.
#[test]
fn after_a_take_over_a_silent_node_has_its_ttl_and_one_period() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let mut watch = Watch::over(&world);
    let down = watch.run(&world, 7_000, &[]);
    assert_eq!(down, [(6_000, "n".to_owned())]);
}

#[test]
fn a_node_that_beats_stays_up_and_one_that_stops_has_its_whole_ttl() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let mut watch = Watch::over(&world);
    assert!(watch.run(&world, 60_000, &["n"]).is_empty());
    assert!(watch.run(&world, 4_500, &[]).is_empty());
    assert_eq!(watch.run(&world, 500, &[]).len(), 1);
}

#[test]
fn an_overdue_node_is_named_until_its_row_is_down() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let mut watch = Watch::over(&world);
    let down = watch.run(&world, 10_000, &[]);
    assert_eq!(down.iter().map(|d| d.0).collect::<Vec<_>>(), [6_000, 8_000, 10_000]);
    let change = silenced(&world.state, world.state.node(&"n".into()).unwrap(), NOW).unwrap();
    world.perform(Command::NodeStatusUpdate { updates: vec![change], evals: vec![] });
    let row = world.state.node(&"n".into()).unwrap().clone();
    assert_eq!(row.status, NodeStatus::Down);
    assert!(silenced(&world.state, &row, NOW).is_none());
    watch.beats.on_node(&row, watch.ms);
    assert!(watch.run(&world, 10_000, &[]).is_empty());
    assert_eq!(watch.beats.watched(), 0);
}

/// heartbeat-007.
#[test]
fn a_node_that_was_deleted_is_forgotten() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let mut watch = Watch::over(&world);
    watch.beats.on_node_gone(&"n".into());
    assert!(watch.run(&world, 10_000, &[]).is_empty());
}

#[test]
fn a_controller_that_stood_still_finds_nobody_overdue() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let mut watch = Watch::over(&world);
    watch.run(&world, 2_000, &["n"]);
    watch.ms += 600_000;
    assert!(watch.run(&world, 4_500, &[]).is_empty());
    assert_eq!(watch.run(&world, 1_000, &[]).len(), 1);
}

#[test]
fn a_suspect_keeps_its_status_until_its_ttl_and_a_beat_clears_it() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    let mut watch = Watch::over(&world);
    watch.run(&world, 1_000, &["n"]);
    assert!(watch.beats.suspect(&"n".into(), watch.ms), "news: ask for a beat");
    assert!(!watch.beats.suspect(&"n".into(), watch.ms));
    assert!(watch.run(&world, 2_000, &[]).is_empty());
    assert!(watch.beats.is_suspect(&"n".into()));
    watch.run(&world, 500, &["n"]);
    assert_eq!(watch.beats.suspects().count(), 0);
    assert!(!watch.beats.suspect(&"unknown".into(), watch.ms));
}

#[test]
fn nodes_of_a_dead_gateway_have_the_time_that_so_many_handshakes_take() {
    let mut world = World::new();
    let ids: Vec<String> = (0..2_000).map(|n| format!("n{n:04}")).collect();
    for id in &ids {
        world.node(id, NodeStatus::Ready);
    }
    let mut watch = Watch::over(&world);
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    watch.run(&world, 500, &names);
    watch.beats.gateway_lost("gw", watch.ms);
    let ttl_ms = Settings::default().ttl_ms(2_000);
    assert!(watch.run(&world, ttl_ms + 3_500, &[]).is_empty(), "2,000 nodes at 500 a second take four seconds");
    assert!(!watch.run(&world, 1_500, &[]).is_empty());
}

#[test]
fn decisions_of_one_call_are_bounded() {
    let mut world = World::new();
    for n in 0..600 {
        world.node(&format!("n{n:03}"), NodeStatus::Ready);
    }
    let mut beats = Beats::new(Settings::default(), 0);
    beats.take_over(&world.state, 0);
    let mut sizes = Vec::new();
    for ms in (500..12_000).step_by(500) {
        sizes.push(beats.tick(&world.state, ms, NOW).len());
    }
    assert_eq!(sizes.iter().copied().find(|n| *n > 0), Some(512));
    assert!(beats.next_deadline_ms().is_some_and(|ms| ms <= 12_000));
}

/// heartbeat-005, heartbeat-006.
#[test]
fn a_silent_node_is_disconnected_while_something_there_is_to_be_kept() {
    let mut world = World::new();
    let mut spec = job("web", "service");
    let lost_after = Some(Nanos::from_secs(60));
    spec.task_groups[0].disconnect = Some(DisconnectStrategy { lost_after, ..DisconnectStrategy::default() });
    let spec = world.job(spec);
    let node = world.node("n", NodeStatus::Ready);
    world.alloc("a", &spec, "n", |_| {});
    assert_eq!(silenced(&world.state, &node, NOW).unwrap().status, NodeStatus::Disconnected);
    let mut gone = Node::clone(&node);
    gone.status = NodeStatus::Disconnected;
    assert!(silenced(&world.state, &gone, NOW).is_none());
    world.alloc("a", &spec, "n", |row| {
        row.client_status = ClientStatus::Unknown;
        row.alloc_states = vec![model::alloc::AllocState { value: "unknown".into(), time: NOW, ..Default::default() }];
    });
    assert_eq!(silenced(&world.state, &gone, NOW.plus(Nanos::from_secs(60))).unwrap().status, NodeStatus::Down);
    let mut young = Node::clone(&node);
    young.status = NodeStatus::Initializing;
    assert_eq!(silenced(&world.state, &young, NOW).unwrap().status, NodeStatus::Down);
}

/// node-002, node-003, node-004, node-005, node-006.
#[test]
fn a_beat_makes_a_node_ready_once_it_has_told_of_its_allocations() {
    let mut world = World::new();
    let spec = world.job(job("web", "service"));
    let node = world.node("n", NodeStatus::Initializing);
    let status = |world: &World, node: &Node| on_beat(&world.state, node, NOW).map(|change| change.status);
    assert_eq!(status(&world, &node), Some(NodeStatus::Ready));
    let with = |status, missed, synced| {
        let mut node = Node::clone(&node);
        node.status = status;
        (node.last_missed_heartbeat_index, node.last_alloc_update_index) = (Index(missed), Index(synced));
        node
    };
    assert_eq!(status(&world, &with(NodeStatus::Ready, 0, 0)), None);
    assert_eq!(status(&world, &with(NodeStatus::Disconnected, 9, 0)), Some(NodeStatus::Initializing));
    world.alloc("a", &spec, "n", |_| {});
    assert_eq!(status(&world, &with(NodeStatus::Initializing, 9, 3)), None);
    assert_eq!(status(&world, &with(NodeStatus::Initializing, 9, 10)), Some(NodeStatus::Ready));
    let mut poolless = with(NodeStatus::Initializing, 9, 10);
    poolless.node_pool = "gpu".into();
    assert_eq!(status(&world, &poolless), None);
}

#[test]
fn a_node_that_was_down_is_ready_at_its_next_beat_and_its_history_says_so() {
    let mut world = World::new();
    let node = world.node("n", NodeStatus::Down);
    let change = on_beat(&world.state, &node, NOW).unwrap();
    assert_eq!(change.updated_at, NOW.0 / S);
    let said = change.event.clone().unwrap();
    assert_eq!((said.message.as_str(), said.subsystem.as_str()), ("Node reregistered by heartbeat", "Cluster"));
    world.perform(Command::NodeStatusUpdate { updates: vec![change], evals: vec![] });
    let row = world.state.node(&"n".into()).unwrap();
    assert_eq!(row.status, NodeStatus::Ready);
    assert!(on_beat(&world.state, row, NOW).is_none());
}

#[test]
fn a_missed_heartbeat_stands_in_the_history_of_its_own_source() {
    let missed = node_event(event::HEARTBEAT_MISSED, NOW);
    assert_eq!((missed.message.as_str(), missed.subsystem.as_str()), ("Node heartbeat missed", "Heartbeat"));
    assert_eq!(node_event(event::DRAIN_COMPLETE, NOW).subsystem, "Drain");
    assert_eq!(node_event(event::REGISTERED, NOW).subsystem, "Cluster");
}

/// node-007, node-009, node-010, node-011.
#[test]
fn a_node_concerns_jobs_with_live_work_on_it_and_system_jobs_that_match_it() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    world.node("other", NodeStatus::Ready);
    let web = world.job(job("web", "service"));
    let done = world.job(job("done", "batch"));
    let busy = world.job(job("busy", "batch"));
    let stopped = world.job(job("stopped", "service"));
    let elsewhere = world.job(job("elsewhere", "service"));
    let sysbatch = world.job(job("sysbatch", "sysbatch"));
    world.job(model::Job { status: Some("dead".into()), ..job("sysbatch-over", "sysbatch") });
    world.job(job("system", "system"));
    world.job(model::Job { stop: Some(true), ..job("system-stopped", "system") });
    world.job(model::Job { datacenters: vec!["eu-*".into()], ..job("system-far", "system") });
    world.job(model::Job { node_pool: Some("gpu".into()), ..job("system-pool", "system") });
    world.alloc("a1", &web, "n", |_| {});
    world.alloc("a2", &web, "n", |row| row.client_status = ClientStatus::Failed);
    world.alloc("b1", &done, "n", |row| row.client_status = ClientStatus::Complete);
    world.alloc("b2", &busy, "n", |_| {});
    world.alloc("c1", &stopped, "n", |row| {
        row.client_status = ClientStatus::Complete;
        row.desired_status = DesiredStatus::Stop;
    });
    world.alloc("d1", &elsewhere, "other", |_| {});
    world.alloc("e1", &sysbatch, "n", |_| {});
    let mut ids = world.ids();
    let evals = evals_for_node(&world.state, &"n".into(), Trigger::NodeUpdate, NOW, &mut ids);
    let mut jobs: Vec<&str> = evals.iter().map(|eval| eval.job_id.as_str()).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, ["busy", "sysbatch", "system", "web"]);
    let modify_index = world.state.node(&"n".into()).unwrap().modify_index;
    for eval in &evals {
        assert_eq!((eval.triggered_by.as_str(), eval.node_id.as_str()), ("node-update", "n"));
        assert_eq!((eval.node_modify_index, eval.create_time), (modify_index, NOW.0));
    }
}

/// node-007, node-008.
#[test]
fn a_registration_needs_evals_only_if_it_says_something_that_placement_asks() {
    let old = Node { id: "n".into(), datacenter: "dc1".into(), ..Node::default() };
    let changed = |edit: fn(&mut Node)| {
        let mut new = old.clone();
        edit(&mut new);
        registration_needs_evals(Some(&old), &new)
    };
    assert!(!registration_needs_evals(None, &old), "before it is ready nothing can run there");
    assert!(!changed(|_| {}));
    assert!(!changed(|node| node.http_addr = "x".into()));
    assert!(!changed(|node| node.node_resources = Some(Default::default())), "room wakes blocked evaluations");
    let with_network = |node: &mut Node| {
        let address = NodeNetworkAddress { alias: "vpn".into(), ..NodeNetworkAddress::default() };
        let network = NodeNetworkResource { addresses: vec![address], ..NodeNetworkResource::default() };
        node.node_resources = Some(NodeResources { node_networks: vec![network], ..NodeResources::default() });
    };
    assert!(changed(with_network), "a host network has an address now");
    assert!(changed(|node| node.datacenter = "dc2".into()));
    assert!(changed(|node| node.node_class = "big".into()));
    assert!(changed(|node| drop(node.attributes.insert("a".into(), "b".into()))));
    assert!(changed(|node| drop(node.meta.insert("a".into(), "b".into()))));
    assert!(changed(|node| drop(node.drivers.insert("raw_exec".into(), Default::default()))));
    assert!(!changed(|node| node.status_updated_at = Timestamp(9).0), "not a matter of placement");
}
