//! Where a group may run and where it fits: constraints, drivers, networks, ports, cores, limits.

use std::collections::{BTreeMap, BTreeSet};

use model::job::{Affinity, Spread, SpreadTarget};
use model::resources::{NetworkResource, Port, RequestedDevice, Resources};
use model::{ClientStatus, Job, Node};
use placement::volume::NoVolume;
use placement::{Filter, Misfit, feasible, repick_ports, verify};

use crate::world::{self, World, changed, constraint, job, names, node};

fn canonical(job: &Job) -> Job {
    let mut job = job.clone();
    job.canonicalize();
    job
}

fn filter(node: &Node, job: &Job) -> Result<(), Filter> {
    let job = canonical(job);
    feasible(node, &job, &job.task_groups[0])
}

fn port(label: &str, value: i64) -> Port {
    Port { label: label.into(), value, ..Port::default() }
}

fn with_ports(count: i64, fixed: &[i64], dynamic: &[&str]) -> Job {
    let mut job = job("service", count);
    job.task_groups[0].networks.push(NetworkResource {
        reserved_ports: fixed.iter().map(|v| port(&format!("p{v}"), *v)).collect(),
        dynamic_ports: dynamic.iter().map(|l| Port { to: -1, ..port(l, 0) }).collect(),
        ..NetworkResource::default()
    });
    job
}

/// covers: feasible-013
#[test]
fn feasible_013_a_driver_must_be_there_and_work() {
    let job = job("service", 1);
    let mut here = node(1);
    assert!(filter(&here, &job).is_ok());
    here.drivers.get_mut("mock_driver").unwrap().healthy = false;
    assert_eq!(filter(&here, &job).unwrap_err().to_string(), "missing drivers");
    here.drivers.get_mut("mock_driver").unwrap().detected = false;
    assert_eq!(filter(&here, &job), Err(Filter::Drivers));
    here.drivers.clear();
    assert!(filter(&here, &job).is_ok(), "the attribute alone will do");
    here.attributes.insert("driver.mock_driver".into(), "perhaps".into());
    assert_eq!(filter(&here, &job), Err(Filter::Drivers));
}

/// covers: feasible-011, feasible-002
#[test]
fn feasible_011_002_networks_and_providers_must_be_there() {
    let here = node(1);
    let mut asks = with_ports(1, &[], &["http"]);
    for (mode, ok) in [("", true), ("host", true), ("none", true), ("bridge", false), ("cni/mesh", false)] {
        asks.task_groups[0].networks[0].mode = mode.into();
        assert_eq!(filter(&here, &asks).is_ok(), ok, "{mode}");
    }
    asks.task_groups[0].networks[0].mode = "host".into();
    asks.task_groups[0].networks[0].dynamic_ports[0].host_network = "public".into();
    let text = filter(&here, &asks).unwrap_err().to_string();
    assert_eq!(text, "missing host network \"public\" for port \"http\"");
    let mut secret = job("service", 1);
    let provider = model::task::Secret { provider: "vault".into(), ..Default::default() };
    secret.task_groups[0].tasks[0].secrets.push(provider);
    // The implied constraint says it first; without it the check of providers does.
    let text = "${attr.plugins.secrets.vault.version} is_set ".to_owned();
    assert_eq!(filter(&here, &secret), Err(Filter::Constraint(text)));
    let plain = placement::feasible(&here, &secret, &secret.task_groups[0]);
    assert_eq!(plain, Err(Filter::Secrets("vault".into())));
}

/// What no node is known to have finds no node; it is never ignored.
#[test]
fn volumes_and_devices_that_are_nowhere_are_feasible_nowhere() {
    let here = node(1);
    let mut volume = job("service", 1);
    let request = model::group::VolumeRequest { kind: "host".into(), source: "data".into(), ..Default::default() };
    volume.task_groups[0].volumes.insert("data".into(), request.clone());
    assert_eq!(filter(&here, &volume), Err(Filter::Volume(NoVolume::Host)));
    volume.task_groups[0].volumes.insert("csi".into(), model::group::VolumeRequest { kind: "csi".into(), ..request });
    assert_eq!(filter(&here, &volume), Err(Filter::Volume(NoVolume::Csi("data".into()))));
    let mut device = job("service", 1);
    let gpu = RequestedDevice { name: "nvidia/gpu".into(), ..Default::default() };
    device.task_groups[0].tasks[0].resources.as_mut().unwrap().devices.push(gpu);
    assert_eq!(filter(&here, &device), Err(Filter::Devices));
}

/// covers: feasible-020, feasible-021, service-008
#[test]
fn feasible_020_021_service_008_distinct_hosts_take_one_each() {
    let mut world = World::with_nodes(3);
    let mut one = job("service", 5);
    one.constraints.push(constraint("", "distinct_hosts", "true"));
    let eval = world.register(&one);
    let nodes: BTreeSet<_> = world.live(&one).iter().map(|a| a.node_id.clone()).collect();
    assert_eq!((nodes.len(), world.live(&one).len(), eval.queued_allocations["g"]), (3, 3, 2));
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered["distinct_hosts"], 3);
    let mut off = job("service", 5);
    off.id = Some("off".into());
    off.constraints.push(constraint("", "distinct_hosts", "false"));
    world.register(&off);
    assert_eq!(world.live(&off).len(), 5);
    // At group level another group of the job may share the node.
    let mut two = job("service", 3);
    two.id = Some("two".into());
    two.task_groups[0].constraints.push(constraint("", "distinct_hosts", ""));
    let mut other = two.task_groups[0].clone();
    other.name = Some("h".into());
    two.task_groups.push(other);
    world.register(&two);
    assert_eq!(world.live(&two).len(), 6);
}

/// covers: feasible-022, feasible-023, feasible-024, service-009, service-011, service-041
#[test]
fn feasible_022_023_024_a_property_is_shared_by_so_many_and_no_more() {
    let mut world = World::with_nodes(6);
    let mut bare = node(9);
    bare.meta.clear();
    world.add_node(bare);
    let mut limited = job("service", 7);
    limited.constraints.push(constraint("${meta.rack}", "distinct_property", "2"));
    let eval = world.register(&limited);
    let racks = |world: &World| {
        let mut racks: BTreeMap<String, usize> = BTreeMap::new();
        for alloc in world.live(&limited) {
            *racks.entry(world.state.node(&alloc.node_id).unwrap().meta["rack"].clone()).or_default() += 1;
        }
        racks
    };
    assert_eq!(racks(&world).values().copied().collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(eval.queued_allocations["g"], 1);
    let filtered = &eval.failed_tg_allocs["g"].constraint_filtered;
    assert_eq!(filtered["missing property \"${meta.rack}\""], 1);
    assert_eq!(filtered["distinct_property: ${meta.rack}=r0 used by 2 allocs"], 2);
    // Replacements may use the values they free.
    world.run_all(&limited);
    world.register(&changed(&limited, "2"));
    assert_eq!(racks(&world).values().copied().collect::<Vec<_>>(), [2, 2, 2]);
}

/// A static port is had once per node; dynamic ports are told apart and lie in the range.
/// covers: rank-004
#[test]
fn rank_004_static_ports_are_had_once_per_node_and_dynamic_ones_differ() {
    let mut world = World::with_nodes(2);
    let fixed = with_ports(3, &[8080], &[]);
    let eval = world.register(&fixed);
    assert_eq!((world.live(&fixed).len(), eval.queued_allocations["g"]), (2, 1));
    let exhausted = &eval.failed_tg_allocs["g"].dimension_exhausted;
    assert_eq!(exhausted["network: reserved port collision p8080=8080"], 2);
    let mut many = with_ports(20, &[], &["http", "admin"]);
    many.id = Some("many".into());
    many.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(10);
    world.register(&many);
    let mut seen = BTreeSet::new();
    for alloc in world.live(&many) {
        let shared = &alloc.allocated_resources.as_ref().unwrap().shared;
        assert_eq!(shared.ports.len(), 2);
        assert_eq!(shared.networks[0].dynamic_ports[0].value, shared.ports[0].value);
        assert!(shared.networks[0].ip.starts_with("10.0.0."));
        for mapping in &shared.ports {
            assert!((20_000..=32_000).contains(&mapping.value), "{mapping:?}");
            assert_eq!((mapping.to, &mapping.host_ip), (mapping.value, &shared.networks[0].ip));
            assert!(seen.insert((alloc.node_id.clone(), mapping.value)));
        }
    }
    assert_eq!(seen.len(), 40);
    // It is free again when the node says that it ended.
    let one = world.live(&fixed)[0].clone();
    world.report(&one, ClientStatus::Complete);
    world.evaluate(&fixed, "node-update");
    assert_eq!(world.live(&fixed).len(), 2);
}

/// A replacement may have the static port of what it replaces.
#[test]
fn a_replacement_has_the_static_port_of_its_predecessor() {
    let mut world = World::with_nodes(2);
    let old = with_ports(2, &[8080], &[]);
    world.register(&old);
    world.run_all(&old);
    let eval = world.register(&changed(&old, "2"));
    assert_eq!((eval.queued_allocations["g"], world.live(&old).len()), (0, 2));
}

/// covers: plan-apply-017, plan-apply-021, rank-010, plan-apply-028
#[test]
fn plan_apply_017_021_028_the_fit_rule_names_what_is_short() {
    let mut world = World::with_nodes(1);
    let mut full = with_ports(2, &[], &["http"]);
    full.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(2000);
    world.register(&full);
    let live = world.live(&full);
    let here = node(0);
    let new = model::Allocation::clone(&live[0]);
    let all = || live.iter().map(|a| &**a);
    assert_eq!(verify(&here, all(), std::slice::from_ref(&new)), Err(Misfit::Cpu));
    assert!(verify(&here, all().skip(1), std::slice::from_ref(&new)).is_ok());
    let mut light = new.clone();
    std::sync::Arc::make_mut(light.allocated_resources.as_mut().unwrap()).tasks.get_mut("t").unwrap().cpu.cpu_shares =
        0;
    let taken = verify(&here, all(), std::slice::from_ref(&light)).unwrap_err();
    assert!(taken.to_string().starts_with("network: reserved port collision"), "{taken}");
    let changed = repick_ports(&here, all(), &mut light, 9).unwrap();
    assert_eq!(changed.len(), 1);
    assert!(verify(&here, all(), std::slice::from_ref(&light)).is_ok());
    let shared = &light.allocated_resources.as_ref().unwrap().shared;
    let (mapping, listed) = (&shared.ports[0], &shared.networks[0].dynamic_ports[0]);
    assert_eq!((mapping.value, mapping.to), (i64::from(changed[0].1), i64::from(changed[0].1)));
    assert_eq!(listed.value, mapping.value);
    // Asked again it keeps what is free.
    assert!(repick_ports(&here, all(), &mut light, 10).unwrap().is_empty());
    let mut small = here.clone();
    small.node_max_allocs = 2;
    assert_eq!(verify(&small, all(), std::slice::from_ref(&light)), Err(Misfit::MaxAllocs));
    // plan-apply-022: what ended on the node is free, what was only asked to stop is not.
    let mut ending = model::Allocation::clone(&live[0]);
    ending.desired_status = model::DesiredStatus::Stop;
    assert_eq!(verify(&here, [&ending, &*live[1]].into_iter(), std::slice::from_ref(&new)), Err(Misfit::Cpu));
    ending.client_status = ClientStatus::Complete;
    assert!(verify(&here, [&ending, &*live[1]].into_iter(), std::slice::from_ref(&new)).is_ok());
}

/// covers: rank-009, stack-005
#[test]
fn rank_009_stack_005_cores_are_given_once() {
    let mut world = World::with_nodes(1);
    let mut pinned = job("service", 3);
    let resources = Resources { cores: Some(2), memory_mb: Some(64), ..Resources::default() };
    pinned.task_groups[0].tasks[0].resources = Some(resources);
    let eval = world.register(&pinned);
    let cores: Vec<Vec<u16>> = world
        .live(&pinned)
        .iter()
        .map(|a| a.allocated_resources.as_ref().unwrap().tasks["t"].cpu.reserved_cores.clone())
        .collect();
    assert_eq!(cores, [[0, 1], [2, 3]]);
    let shares = world.live(&pinned)[0].allocated_resources.as_ref().unwrap().tasks["t"].cpu.cpu_shares;
    assert_eq!(shares, 2000);
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["cores"], 1);
}

/// covers: service-076, service-077, service-078, rank-002
#[test]
fn service_076_077_078_peaks_are_compared_and_limits_recorded() {
    let mut world = World::with_nodes(1);
    let mut peaks = job("service", 2);
    let mut init = peaks.task_groups[0].tasks[0].clone();
    init.name = "init".into();
    init.resources.as_mut().unwrap().cpu = Some(2000);
    init.lifecycle = Some(model::task::TaskLifecycle { hook: "prestart".into(), sidecar: false });
    peaks.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(1900);
    peaks.task_groups[0].tasks[0].resources.as_mut().unwrap().memory_max_mb = Some(512);
    peaks.task_groups[0].tasks.push(init);
    let eval = world.register(&peaks);
    assert_eq!(eval.queued_allocations["g"], 0);
    let memory = |world: &World, job: &Job| {
        world.live(job)[0].allocated_resources.as_ref().unwrap().tasks["t"].memory.memory_max_mb
    };
    assert_eq!(memory(&world, &peaks), 0);
    let mut config = model::scheduler_config::SchedulerConfiguration::clone(&world.state.scheduler_config());
    config.memory_oversubscription_enabled = true;
    let set = fsm::Command::SchedulerConfigSet { config: Box::new(config), cas: None };
    world.submit(model::Role::Gateway, set);
    world.stop_job(&peaks, true);
    for alloc in world.allocs(&peaks) {
        world.report(&alloc, ClientStatus::Complete);
    }
    world.register(&peaks);
    assert_eq!(memory(&world, &peaks), 512);
}

/// covers: service-022, service-023
#[test]
fn service_022_binpack_joins_the_loaded_node_and_spread_the_empty_one() {
    for (algorithm, joins) in [("binpack", true), ("spread", false)] {
        let mut world = World::with_nodes(2);
        let config = model::scheduler_config::SchedulerConfiguration {
            scheduler_algorithm: algorithm.into(),
            ..Default::default()
        };
        let set = fsm::Command::SchedulerConfigSet { config: Box::new(config), cas: None };
        world.submit(model::Role::Gateway, set);
        let first = job("service", 1);
        world.register(&first);
        let mut second = first.clone();
        second.id = Some("second".into());
        world.register(&second);
        assert_eq!(world.live(&first)[0].node_id == world.live(&second)[0].node_id, joins, "{algorithm}");
    }
}

/// covers: service-012, service-016, spread-006
#[test]
fn service_012_016_a_spread_meets_its_targets() {
    let mut world = World::new();
    for i in 0..30 {
        let mut node = node(i);
        node.datacenter = if i % 2 == 0 { "dc1" } else { "dc2" }.into();
        world.add_node(node);
    }
    let per_dc = |world: &World, job: &Job| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for alloc in world.live(job) {
            *counts.entry(world.state.node(&alloc.node_id).unwrap().datacenter.clone()).or_default() += 1;
        }
        counts.into_values().collect::<Vec<_>>()
    };
    let mut shares = job("service", 10);
    let target = |value: &str, percent| SpreadTarget { value: value.into(), percent };
    shares.spreads.push(Spread {
        attribute: "${node.datacenter}".into(),
        weight: Some(100),
        spread_target: vec![target("dc1", 70), target("dc2", 30)],
    });
    world.register(&shares);
    assert_eq!(per_dc(&world, &shares), [7, 3]);
    let mut even = job("service", 12);
    even.id = Some("even".into());
    even.spreads.push(Spread { attribute: "${meta.rack}".into(), weight: Some(50), spread_target: Vec::new() });
    world.register(&even);
    let mut racks: BTreeMap<String, usize> = BTreeMap::new();
    for alloc in world.live(&even) {
        *racks.entry(world.state.node(&alloc.node_id).unwrap().meta["rack"].clone()).or_default() += 1;
    }
    assert_eq!(racks.into_values().collect::<Vec<_>>(), [4, 4, 4]);
}

#[test]
fn an_affinity_draws_and_a_negative_one_repels() {
    let mut world = World::with_nodes(6);
    let mut drawn = job("service", 2);
    let affinity = |weight| Affinity {
        l_target: "${meta.rack}".into(),
        operand: "=".into(),
        r_target: "r2".into(),
        weight: Some(weight),
    };
    drawn.affinities.push(affinity(100));
    world.register(&drawn);
    let rack = |world: &World, id: &model::NodeId| world.state.node(id).unwrap().meta["rack"].clone();
    assert!(world.live(&drawn).iter().all(|a| rack(&world, &a.node_id) == "r2"));
    let mut repelled = job("service", 4);
    repelled.id = Some("repelled".into());
    repelled.affinities.push(affinity(-100));
    world.register(&repelled);
    assert!(world.live(&repelled).iter().all(|a| rack(&world, &a.node_id) != "r2"));
}

/// Schedulers that met a conflict do not all insist on the one best node, and still go where the job wants to be.
#[test]
fn a_retry_draws_from_the_best_few_and_never_leaves_what_the_job_likes() {
    let mut world = World::with_nodes(30);
    let mut there = job("service", 1);
    there.constraints.push(constraint("${meta.rack}", "=", "r2"));
    world.register(&there);
    let mut wanted = job("service", 1);
    wanted.id = Some("wanted".into());
    wanted.affinities.push(Affinity {
        l_target: "${meta.rack}".into(),
        operand: "=".into(),
        r_target: "r2".into(),
        weight: Some(10),
    });
    let eval = world.register_only(&wanted);
    let chosen = |world: &mut World, retry: bool| -> BTreeSet<model::NodeId> {
        world.retry = retry;
        let nodes = (0..40).map(|seed| {
            world.seed = seed;
            world.decide(&eval).plan.parts.into_keys().next().unwrap()
        });
        nodes.collect()
    };
    assert_eq!(chosen(&mut world, false).len(), 1, "one is the best");
    let drawn = chosen(&mut world, true);
    assert!(drawn.len() > 2, "{drawn:?}");
    assert!(drawn.iter().all(|id| world.state.node(id).unwrap().meta["rack"] == "r2"));
}

/// covers: service-029, service-030, batch-011
#[test]
fn service_029_doubled_names_become_unique_when_replaced() {
    let mut world = World::with_nodes(3);
    let old = job("service", 2);
    world.register(&old);
    world.run_all(&old);
    // A second allocation of the same name, as a lost reply long ago might have left.
    let mut twin = model::Allocation::clone(&world.live(&old)[0]);
    twin.id = world::uuid(77).into();
    let index = model::Index(world.state.index().get() + 1);
    let change = fsm::Change::Alloc(std::sync::Arc::new(twin));
    world.state.commit(index, &change);
    world.fleet.apply(&world.state, &change);
    assert_eq!(names(&world.live(&old)), ["j.g[0]", "j.g[0]", "j.g[1]"]);
    let mut new = changed(&old, "2");
    new.task_groups[0].count = Some(3);
    let eval = world.register_only_unchecked(&new);
    let plan = world.decide(&eval).plan;
    let mut placed: Vec<&str> = plan.parts.values().flat_map(|p| &p.place).map(|a| a.name.as_str()).collect();
    placed.sort_unstable();
    assert_eq!(placed, ["j.g[0]", "j.g[1]", "j.g[2]"]);
    // batch-011: on scaling down one of each name is kept.
    let mut fewer = old.clone();
    fewer.task_groups[0].count = Some(2);
    let eval = world.register_only_unchecked(&fewer);
    let plan = world.decide(&eval).plan;
    let stopped: Vec<_> = plan.parts.values().flat_map(|p| &p.stop).collect();
    assert_eq!(stopped.len(), 1);
    assert_eq!(world.state.alloc(&stopped[0].id).unwrap().name, "j.g[0]");
}
