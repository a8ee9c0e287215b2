//! Smaller rules of ranking and of what metrics say.

use model::job::Spread;
use model::namespace::NodePoolSchedulerConfiguration;
use model::node::NodeNetworkResource;
use model::resources::{NetworkResource, Port};
use model::{ClientStatus, DesiredStatus, Job};
use placement::{Nearest, Quantity, Verdict};

use crate::world::{World, job, node};

fn with_port(id: &str, port: i64) -> Job {
    let mut job = job("service", 1);
    job.id = Some(id.into());
    let reserved_ports = vec![Port { label: "http".into(), value: port, ..Port::default() }];
    job.task_groups[0].networks =
        vec![NetworkResource { mode: "host".into(), reserved_ports, ..NetworkResource::default() }];
    job
}

#[test]
fn rank_005_a_port_the_node_keeps_does_not_collide_with_another() {
    let mut world = World::new();
    let mut here = node(1);
    let mut own = model::node::NodeReservedResources::default();
    own.networks.reserved_host_ports = "22,80-81".into();
    here.reserved_resources = Some(own);
    world.add_node(here);
    let (web, kept) = (with_port("web", 8080), with_port("kept", 81));
    world.register(&web);
    let eval = world.register(&kept);
    assert_eq!((world.live(&web).len(), world.live(&kept).len()), (1, 0));
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["network: reserved port collision http=81"], 1);
}

fn on(network: &str, id: &str, port: Option<i64>) -> Job {
    let mut job = with_port(id, port.unwrap_or(0));
    let asked = &mut job.task_groups[0].networks[0];
    asked.reserved_ports[0].host_network = network.into();
    if port.is_none() {
        asked.dynamic_ports = std::mem::take(&mut asked.reserved_ports);
    }
    job
}

/// Its addresses beside that of `default`.
fn with_networks(n: u64, networks: &[(&str, &str)]) -> model::Node {
    let mut node = node(n);
    let addresses = networks.iter().map(|(alias, ip)| model::node::NodeNetworkAddress {
        alias: (*alias).into(),
        address: (*ip).into(),
        family: "ipv4".into(),
        reserved_ports: "22".into(),
        ..Default::default()
    });
    let network = NodeNetworkResource { mode: "host".into(), device: "x".into(), ..NodeNetworkResource::default() };
    let network = NodeNetworkResource { addresses: addresses.collect(), ..network };
    node.node_resources.as_mut().unwrap().node_networks.push(network);
    node
}

#[test]
fn rank_007_a_host_network_is_named_or_found_by_what_the_node_says() {
    let mut world = World::new();
    world.add_node(node(1));
    let mut told = with_networks(2, &[("lan", "192.168.0.2"), ("lan", "192.168.0.3")]);
    told.meta.insert("net".into(), "lan".into());
    world.add_node(told);
    let given = |world: &mut World, job: &Job| {
        world.register(job);
        let ports =
            |a: &std::sync::Arc<model::Allocation>| a.allocated_resources.as_ref().unwrap().shared.ports.clone();
        world.live(job).iter().flat_map(ports).map(|port| (port.host_ip, port.value)).collect::<Vec<_>>()
    };
    assert_eq!(given(&mut world, &on("lan", "first", Some(80))), [("192.168.0.2".to_owned(), 80)]);
    assert_eq!(given(&mut world, &on("${meta.net}", "second", Some(80))), [("192.168.0.3".to_owned(), 80)]);
    let [(ip, port)] = &given(&mut world, &on("${meta.net}", "third", None))[..] else { panic!() };
    assert!(ip == "192.168.0.2" && (20_000..=32_000).contains(port), "{ip} {port}");
    // Both addresses have it by now; the other node has no such network, or does not say which.
    for (network, id, port, missing) in [
        ("lan", "full", 80, "missing host network \"lan\" for port \"http\""),
        ("${meta.net}", "kept", 22, "missing host network \"${meta.net}\" for port \"http\""),
    ] {
        let eval = world.register(&on(network, id, Some(port)));
        let metric = &eval.failed_tg_allocs["g"];
        assert_eq!(metric.constraint_filtered.get(missing), Some(&1), "{metric:?}");
        let taken = format!("network: reserved port collision http={port}");
        assert_eq!(metric.dimension_exhausted.get(&taken), Some(&1), "{metric:?}");
    }
    let eval = world.register(&on("wan", "wan", None));
    let missing = "missing host network \"wan\" for port \"http\"";
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered.get(missing), Some(&2));
}

/// Nodes of one class are asked one by one then.
#[test]
fn a_host_network_may_be_named_by_what_is_unique_to_a_node() {
    let mut world = World::new();
    for (n, name) in [(1, "a"), (2, "b"), (3, "lan"), (4, "d")] {
        let mut node = with_networks(n, &[("lan", "192.168.0.2")]);
        node.meta.insert("unique.net".into(), name.into());
        world.add_node(node);
    }
    let job = on("${meta.unique.net}", "one", None);
    world.register(&job);
    assert_eq!(world.live(&job).iter().map(|a| a.node_name.as_str()).collect::<Vec<_>>(), ["node-3"]);
}

/// What the plan places counts at once, and what it stops is free for it.
#[test]
fn rank_008_a_plan_sees_itself() {
    let mut world = World::with_nodes(1);
    let mut large = job("service", 2);
    large.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(2000);
    let eval = world.register(&large);
    assert_eq!((world.live(&large).len(), eval.queued_allocations["g"]), (2, 0));
    large.task_groups[0].tasks[0].env.insert("A".into(), "1".into());
    let eval = world.register(&large);
    assert_eq!((world.live(&large).len(), eval.queued_allocations["g"]), (2, 0), "each has the room of the one before");
}

#[test]
fn rank_015_a_node_where_it_failed_is_liked_less_by_one() {
    let mut world = World::with_nodes(3);
    let mut fails = job("service", 1);
    fails.task_groups[0].reschedule_policy = Some(model::group::ReschedulePolicy {
        attempts: Some(3),
        interval: Some(model::Nanos::from_secs(3600)),
        delay: Some(model::Nanos::from_secs(5)),
        delay_function: Some("constant".into()),
        unlimited: Some(false),
        ..Default::default()
    });
    world.register(&fails);
    let first = world.live(&fails)[0].clone();
    world.report(&first, ClientStatus::Failed);
    world.now += 10 * crate::world::SECOND;
    world.evaluate(&fails, "alloc-failure");
    let second = world.live(&fails).into_iter().find(|a| a.previous_allocation == first.id).unwrap();
    assert_ne!(second.node_id, first.node_id);
    let meta = second.metrics.as_ref().unwrap().look().score_meta_data.clone();
    let penalty = |node: &model::NodeId| {
        meta.iter()
            .find(|m| m.node_id == *node)
            .map(|m| m.scores.get("node-reschedule-penalty").unwrap().round() as i64)
    };
    assert_eq!((penalty(&first.node_id), penalty(&second.node_id)), (Some(-1), Some(0)));
}

#[test]
fn feasible_012_a_client_too_old_to_say_has_bridges() {
    let mut bridged = job("service", 1);
    bridged.task_groups[0].networks = vec![NetworkResource { mode: "bridge".into(), ..NetworkResource::default() }];
    let mut here = node(1);
    let group = &bridged.task_groups[0];
    assert!(placement::feasible(&here, &bridged, group).is_err());
    here.attributes.insert("nomad.version".into(), "0.11.8".into());
    assert!(placement::feasible(&here, &bridged, group).is_ok());
    here.attributes.insert("nomad.version".into(), "0.12.0".into());
    assert!(placement::feasible(&here, &bridged, group).is_err());
    let bridge = NodeNetworkResource { mode: "bridge".into(), ..NodeNetworkResource::default() };
    here.node_resources.as_mut().unwrap().node_networks.push(bridge);
    assert!(placement::feasible(&here, &bridged, group).is_ok());
}

/// covers: stack-003, select-003
#[test]
fn metrics_002_the_five_best_are_shown_best_first_and_counts_begin_anew() {
    let mut world = World::with_nodes(8);
    world.register(&job("service", 2));
    for alloc in world.live(&job("service", 2)) {
        let metric = alloc.metrics.as_ref().unwrap().look();
        assert_eq!((metric.nodes_evaluated, metric.score_meta_data.len()), (8, 5));
        let scores: Vec<f64> = metric.score_meta_data.iter().map(|m| m.norm_score).collect();
        assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
        assert_eq!(metric.score_meta_data[0].node_id, alloc.node_id);
    }
}

#[test]
fn spread_008_an_older_version_without_the_spread_is_placed() {
    let mut world = World::with_nodes(3);
    let mut job = job("service", 2);
    world.register(&job);
    job.task_groups[0].spreads =
        vec![Spread { attribute: "${meta.rack}".into(), weight: Some(50), spread_target: Vec::new() }];
    job.task_groups[0].count = Some(4);
    let eval = world.register(&job);
    assert_eq!((world.live(&job).len(), eval.queued_allocations["g"]), (4, 0));
    job.task_groups[0].spreads.clear();
    job.task_groups[0].count = Some(6);
    world.register(&job);
    assert_eq!(world.live(&job).len(), 6);
}

#[test]
fn a_pool_has_its_own_algorithm_and_memory_rule() {
    let mut world = World::new();
    for n in 0..2 {
        let mut node = node(n);
        node.node_pool = "gpu".into();
        world.add_node(node);
    }
    let own = NodePoolSchedulerConfiguration {
        scheduler_algorithm: "spread".into(),
        memory_oversubscription_enabled: Some(true),
    };
    let pool =
        model::namespace::NodePool { name: "gpu".into(), scheduler_configuration: Some(own), ..Default::default() };
    world.submit(model::Role::Gateway, fsm::Command::NodePoolUpsert { pools: vec![pool] });
    let mut first = job("service", 1);
    first.node_pool = Some("gpu".into());
    first.task_groups[0].tasks[0].resources.as_mut().unwrap().memory_max_mb = Some(1024);
    world.register(&first);
    let second = Job { id: Some("second".into()), ..first.clone() };
    world.register(&second);
    let (a, b) = (world.live(&first)[0].clone(), world.live(&second)[0].clone());
    assert_ne!(a.node_id, b.node_id, "the emptiest first");
    assert_eq!(a.allocated_resources.as_ref().unwrap().tasks["t"].memory.memory_max_mb, 1024);
}

#[test]
fn a_trace_says_of_every_node_why_and_what_would_help() {
    let mut world = World::with_nodes(3);
    let mut other = node(7);
    other.node_class = "small".into();
    other.node_resources.as_mut().unwrap().memory.memory_mb = 8000;
    world.add_node(other);
    let mut large = job("service", 1);
    large.constraints.push(model::job::Constraint {
        l_target: "${meta.rack}".into(),
        operand: "!=".into(),
        r_target: "r2".into(),
    });
    large.task_groups[0].tasks[0].resources.as_mut().unwrap().memory_mb = Some(8404);
    let eval = world.register_only(&large);
    let decision = world.decide(&eval);
    let trace = &decision.traces.groups[0];
    assert_eq!((trace.unplaced, trace.placed.len()), (1, 0));
    let room = Nearest::Room { of: Quantity::Memory, amount: 212, nodes: 3 };
    assert_eq!(trace.nearest[0], room);
    assert_eq!(room.to_string(), "needs 212 MB more memory on 3 nodes that pass all else");
    let verdicts: Vec<String> = trace.nodes().map(|(_, verdict)| format!("{verdict:?}")).collect();
    assert_eq!(verdicts.iter().filter(|v| **v == "Exhausted(\"memory\")").count(), 3, "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|v| **v == "Filtered(\"${meta.rack} != r2\")").count(), 1, "{verdicts:?}");
    let small = Job { id: Some("small".into()), ..job("service", 2) };
    let eval = world.register_only(&small);
    let decision = world.decide(&eval);
    let trace = &decision.traces.groups[0];
    assert!(trace.nearest.is_empty());
    assert_eq!(trace.placed.len(), 2);
    let best = trace.node(&trace.placed[0].node).unwrap();
    let Verdict::Fits { score, parts } = best else { panic!("{best:?}") };
    assert!((score - trace.placed[0].score).abs() < 1e-6);
    assert_eq!(parts[0].0, "binpack");
}

#[test]
fn plan_apply_002_an_evicted_row_keeps_what_is_not_about_its_end() {
    let mut world = World::with_nodes(1);
    let config = model::scheduler_config::SchedulerConfiguration {
        preemption_config: model::scheduler_config::PreemptionConfig {
            service_scheduler_enabled: true,
            ..Default::default()
        },
        ..Default::default()
    };
    world.submit(model::Role::Gateway, fsm::Command::SchedulerConfigSet { config: Box::new(config), cas: None });
    let mut low = job("service", 1);
    low.priority = Some(10);
    low.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(3000);
    world.register(&low);
    let before = world.live(&low)[0].clone();
    let mut high = low.clone();
    (high.id, high.priority) = (Some("high".into()), Some(70));
    world.register(&high);
    let mut after = model::Allocation::clone(&world.allocs(&low)[0]);
    assert_eq!(after.desired_status, DesiredStatus::Evict);
    after.desired_status = before.desired_status;
    after.desired_description.clone_from(&before.desired_description);
    after.preempted_by_allocation = before.preempted_by_allocation.clone();
    (after.modify_index, after.alloc_modify_index) = (before.modify_index, before.alloc_modify_index);
    after.modify_time = before.modify_time;
    assert_eq!(after, *before);
}
