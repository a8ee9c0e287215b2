//! Devices, cores and memory nodes: who gets which.

use std::collections::BTreeMap;

use model::job::{Affinity, Constraint};
use model::node::{Attribute, Core, NodeDevice, NodeDeviceLocality, NodeDeviceResource, Topology};
use model::resources::{NUMAResource, RequestedDevice, Resources};
use model::{Allocation, Job, Node, Task};
use placement::{Misfit, verify};

use crate::world::{World, job, node};

fn group(vendor: &str, name: &str, ids: &[&str], memory_gib: i64) -> NodeDeviceResource {
    let memory = Attribute { int_val: Some(memory_gib), unit: "GiB".into(), ..Attribute::default() };
    NodeDeviceResource {
        vendor: vendor.into(),
        kind: "gpu".into(),
        name: name.into(),
        instances: ids
            .iter()
            .map(|id| NodeDevice { id: (*id).into(), healthy: true, ..NodeDevice::default() })
            .collect(),
        attributes: [("memory".to_owned(), memory)].into(),
    }
}

fn with(n: u64, groups: Vec<NodeDeviceResource>) -> Node {
    let mut node = node(n);
    node.node_resources.as_mut().unwrap().devices = groups;
    node
}

fn ask(name: &str, count: u64) -> RequestedDevice {
    RequestedDevice { name: name.into(), count: Some(count), ..RequestedDevice::default() }
}

/// A job whose tasks ask for one list of devices each.
fn wants(count: i64, tasks: &[Vec<RequestedDevice>]) -> Job {
    let mut job = job("service", count);
    let task = |(n, devices): (usize, &Vec<RequestedDevice>)| {
        let resources =
            Resources { cpu: Some(100), memory_mb: Some(64), devices: devices.clone(), ..Resources::default() };
        Task { name: format!("t{n}"), driver: "mock_driver".into(), resources: Some(resources), ..Task::default() }
    };
    job.task_groups[0].tasks = tasks.iter().enumerate().map(task).collect();
    job
}

fn given(alloc: &Allocation) -> BTreeMap<String, Vec<String>> {
    let tasks = &alloc.allocated_resources.as_ref().unwrap().tasks;
    let ids = |task: &model::alloc::AllocatedTaskResources| {
        task.devices.iter().flat_map(|d| d.device_ids.clone()).collect::<Vec<_>>()
    };
    tasks.iter().map(|(name, task)| (name.clone(), ids(task))).collect()
}

fn constraint(left: &str, operand: &str, right: &str) -> Constraint {
    Constraint { l_target: left.into(), operand: operand.into(), r_target: right.into() }
}

#[test]
fn four_free_gpus_serve_two_tasks_of_two() {
    let mut world = World::new();
    world.add_node(with(1, vec![group("nvidia", "t4", &["a", "b", "c", "d"], 16)]));
    let pair = wants(2, &[vec![ask("gpu", 2)], vec![ask("nvidia/gpu", 2)]]);
    let eval = world.register(&pair);
    assert_eq!(eval.queued_allocations["g"], 1);
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["devices: gpu"], 1);
    let all = given(&world.live(&pair)[0]);
    assert_eq!(all, [("t0".into(), vec!["a".into(), "b".into()]), ("t1".into(), vec!["c".into(), "d".into()])].into());
}

/// The first task could take the one device that the second needs.
#[test]
fn whoever_is_flexible_leaves_the_scarce_device_to_who_is_not() {
    let mut world = World::new();
    world.add_node(with(1, vec![group("nvidia", "a100", &["x"], 80), group("nvidia", "t4", &["y"], 16)]));
    let mut large = ask("gpu", 1);
    large.constraints.push(constraint("${device.attr.memory}", ">=", "40 GiB"));
    let both = wants(1, &[vec![ask("gpu", 1)], vec![large]]);
    world.register(&both);
    let all = given(&world.live(&both)[0]);
    assert_eq!(all, [("t0".into(), vec!["y".to_owned()]), ("t1".into(), vec!["x".to_owned()])].into());
    // Within one group, too: by id.
    let mut world = World::new();
    world.add_node(with(1, vec![group("nvidia", "t4", &["p", "q"], 16)]));
    let mut exact = ask("gpu", 1);
    exact.constraints.push(constraint("${device.ids}", "set_contains", "p"));
    let both = wants(1, &[vec![ask("gpu", 1)], vec![exact]]);
    world.register(&both);
    let all = given(&world.live(&both)[0]);
    assert_eq!(all, [("t0".into(), vec!["q".to_owned()]), ("t1".into(), vec!["p".to_owned()])].into());
}

/// covers: device-001, stack-001
#[test]
fn feasible_025_a_request_names_type_vendor_or_all_and_takes_what_works() {
    let mut sick = group("nvidia", "t4", &["a", "b"], 16);
    sick.instances[0].healthy = false;
    let cases: Vec<(RequestedDevice, bool)> = vec![
        (ask("gpu", 1), true),
        (ask("nvidia/gpu", 1), true),
        (ask("nvidia/gpu/t4", 1), true),
        (ask("amd/gpu", 1), false),
        (ask("fpga", 1), false),
        (ask("nvidia/gpu/t4/x", 1), false),
        (ask("gpu", 2), false),
        (ask("gpu", u64::MAX), false),
        (ask("gpu", 0), true),
    ];
    for (asked, fits) in cases {
        let mut world = World::new();
        world.add_node(with(1, vec![sick.clone()]));
        let text = format!("{asked:?}");
        let one = wants(1, &[vec![asked]]);
        let eval = world.register(&one);
        assert_eq!(world.live(&one).len(), usize::from(fits), "{text}");
        if !fits {
            assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered["missing devices"], 1, "{text}");
        }
    }
    let constraints = [
        ("${device.attr.memory}", ">", "15000 MB", true),
        ("${device.attr.memory}", ">", "16 GiB", false),
        ("${device.attr.memory}", "=", "16384 MiB", true),
        ("${device.attr.memory}", ">", "1 W", false),
        ("${device.vendor}", "=", "nvidia", true),
        ("${device.model}", "regexp", "^t[0-9]$", true),
        ("${device.type}", "!=", "gpu", false),
        ("${device.attr.cores}", "is_set", "", false),
        ("${device.attr.cores}", "is_not_set", "", true),
        ("${device.ids}", "set_contains_any", "b,z", true),
        ("${device.ids}", "=", "a", false),
        ("${device.what}", "=", "a", false),
        ("${device.model}", "nonsense", "t4", false),
    ];
    for (left, operand, right, fits) in constraints {
        let mut world = World::new();
        world.add_node(with(1, vec![sick.clone()]));
        let mut asked = ask("gpu", 1);
        asked.constraints.push(constraint(left, operand, right));
        let one = wants(1, &[vec![asked]]);
        world.register(&one);
        assert_eq!(world.live(&one).len(), usize::from(fits), "{left} {operand} {right}");
    }
}

#[test]
fn rank_011_the_liked_devices_are_taken_and_count_in_the_score() {
    let mut world = World::new();
    world.add_node(with(1, vec![group("nvidia", "t4", &["s"], 16)]));
    world.add_node(with(2, vec![group("nvidia", "t4", &["u"], 16), group("nvidia", "a100", &["l"], 80)]));
    let mut liked = ask("gpu", 1);
    let affinity = |left: &str, operand: &str, right: &str, weight| Affinity {
        l_target: left.into(),
        operand: operand.into(),
        r_target: right.into(),
        weight: Some(weight),
    };
    liked.affinities.push(affinity("${device.attr.memory}", ">=", "40 GiB", 60));
    liked.affinities.push(affinity("${device.model}", "=", "t4", -20));
    let one = wants(4, &[vec![liked]]);
    let eval = world.register(&one);
    let live = world.live(&one);
    assert_eq!(live.len(), 3);
    assert_eq!(given(&live[0])["t0"], ["l"]);
    let scores = live[0].metrics.as_ref().unwrap().look().score_meta_data.clone();
    assert!((scores[0].scores.get("devices").unwrap() - 0.75).abs() < 1e-9, "{scores:?}");
    assert!((scores[1].scores.get("devices").unwrap() + 0.25).abs() < 1e-9, "{scores:?}");
    let all = [scores[0].scores.get("binpack").unwrap(), 0.75];
    assert!((scores[0].norm_score - (all[0] + all[1]) / 2.0).abs() < 1e-9);
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["devices: gpu"], 2);
    // One that ends gives its instance back.
    world.report(&live[0].clone(), model::ClientStatus::Failed);
    let again = wants(1, &[vec![ask("gpu", 1)]]);
    let again = Job { id: Some("again".into()), ..again };
    world.register(&again);
    assert_eq!(given(&world.live(&again)[0])["t0"], ["l"]);
}

#[test]
fn plan_apply_018_an_instance_is_given_once() {
    let mut world = World::new();
    world.add_node(with(1, vec![group("nvidia", "t4", &["a", "b"], 16)]));
    let one = wants(1, &[vec![ask("gpu", 1)]]);
    world.register(&one);
    let node = world.state.nodes().next().unwrap().clone();
    let mine = world.live(&one)[0].clone();
    let mut other = Allocation::clone(&mine);
    other.id = "other".into();
    let taken = verify(&node, [&*mine].into_iter(), std::slice::from_ref(&other));
    assert!(matches!(taken, Err(Misfit::Devices(_))), "{taken:?}");
    std::sync::Arc::make_mut(other.allocated_resources.as_mut().unwrap()).tasks.get_mut("t0").unwrap().devices[0]
        .device_ids = vec!["b".into()];
    assert_eq!(verify(&node, [&*mine].into_iter(), std::slice::from_ref(&other)), Ok(()));
    let twice = vec!["b".to_owned(), "b".to_owned()];
    std::sync::Arc::make_mut(other.allocated_resources.as_mut().unwrap()).tasks.get_mut("t0").unwrap().devices[0]
        .device_ids = twice;
    assert!(verify(&node, [&*mine].into_iter(), std::slice::from_ref(&other)).is_err());
    let mut gone = Node::clone(&node);
    gone.node_resources.as_mut().unwrap().devices.clear();
    assert!(verify(&gone, std::iter::empty(), &[Allocation::clone(&mine)]).is_err());
}

/// Eight cores on two memory nodes, a device on each.
fn two_memories(n: u64) -> Node {
    let mut gpus = group("nvidia", "t4", &["near0", "near1"], 16);
    for (at, instance) in gpus.instances.iter_mut().enumerate() {
        instance.locality = Some(NodeDeviceLocality { pci_bus_id: format!("00000000:{at}A:00.0") });
    }
    let mut node = with(n, vec![gpus]);
    // What a job with a `numa` block implies.
    node.attributes.insert("nomad.version".into(), "2.0.6".into());
    let resources = node.node_resources.as_mut().unwrap();
    let core = |id: u16| Core { id, node_id: id / 4, base_speed: 500, ..Core::default() };
    resources.processors.topology = Some(Topology {
        nodes: vec![0, 1],
        cores: (0..8).map(core).collect(),
        bus_associativity: [("0000:0a:00.0".to_owned(), 0), ("1A:00.0".to_owned(), 1)].into(),
        ..Topology::default()
    });
    resources.cpu.reservable_cpu_cores = (0..8).collect();
    resources.cpu.total_cpu_cores = 8;
    node
}

fn pinned(id: &str, cores: i64, affinity: &str, devices: &[&str]) -> Job {
    let mut job = wants(1, &[devices.iter().map(|name| ask(name, 1)).collect()]);
    job.id = Some(id.into());
    let resources = job.task_groups[0].tasks[0].resources.as_mut().unwrap();
    (resources.cpu, resources.cores) = (None, Some(cores));
    let devices = devices.iter().map(|d| (*d).to_owned()).collect();
    resources.numa = Some(NUMAResource { affinity: affinity.into(), devices });
    job
}

fn cores(world: &World, job: &Job) -> Vec<u16> {
    world.live(job)[0].allocated_resources.as_ref().unwrap().tasks["t0"].cpu.reserved_cores.clone()
}

/// covers: device-003
#[test]
fn device_002_cores_and_listed_devices_share_a_memory_node() {
    let mut world = World::new();
    world.add_node(two_memories(1));
    let first = pinned("first", 3, "none", &[]);
    world.register(&first);
    assert_eq!(cores(&world, &first), [0, 1, 2], "the lowest without a wish");
    let near = pinned("near", 2, "require", &["gpu"]);
    world.register(&near);
    assert_eq!((cores(&world, &near), given(&world.live(&near)[0])["t0"].clone()), (vec![4, 5], vec!["near1".into()]));
    // Three more on one memory node are nowhere: one there, two here.
    let wide = pinned("wide", 3, "require", &[]);
    let eval = world.register(&wide);
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["numa-cores"], 1);
    let loose = pinned("loose", 3, "prefer", &[]);
    world.register(&loose);
    assert_eq!(cores(&world, &loose), [3, 6, 7]);
    let many = pinned("many", 1, "require", &[]);
    let eval = world.register(&many);
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["cores"], 1);
}

#[test]
fn a_device_that_is_not_listed_may_be_far() {
    let mut world = World::new();
    world.add_node(two_memories(1));
    let first = pinned("first", 2, "require", &["gpu"]);
    world.register(&first);
    let (mut far, used) = (pinned("far", 2, "require", &["gpu"]), given(&world.live(&first)[0]));
    assert_eq!(used["t0"], ["near0"]);
    far.task_groups[0].tasks[0].resources.as_mut().unwrap().numa.as_mut().unwrap().devices.clear();
    world.register(&far);
    // The fuller memory node has the cores; the only free device hangs on the other.
    assert_eq!((cores(&world, &far), given(&world.live(&far)[0])["t0"].clone()), (vec![2, 3], vec!["near1".into()]));
}
