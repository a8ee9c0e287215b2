//! The placers' shortcuts against the plain thing: for every placement, score every node from the rows
//! and take the best. Random fleets, random jobs; both must choose the same nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use fsm::{Change, State};
use model::alloc::{AllocatedResources, AllocatedTaskResources, PortMapping};
use model::hash::fnv1a;
use model::job::{Affinity, Constraint, Spread, SpreadTarget};
use model::node::{DriverInfo, NodeNetworkAddress, NodeNetworkResource, NodeResources};
use model::resources::{NetworkResource, Port, Resources};
use model::{Allocation, ClientStatus, Evaluation, Index, Job, Node, NodeStatus, Task, TaskGroup};
use proptest::prelude::*;

use crate::constraint::{Check, Target};
use crate::fit::{Amounts, Facts, Held, capacity};
use crate::rng::tie;
use crate::score::{self, Algorithm};
use crate::spread::Block;
use crate::{Fleet, Request, feasible, schedule, verify};

#[derive(Clone, Debug)]
struct NodeCase {
    cpu: i64,
    memory: i64,
    rack: Option<u8>,
    zone: u8,
    class: u8,
    ready: bool,
    max_allocs: i64,
    load: Vec<(i64, i64, bool)>,
}

#[derive(Clone, Debug)]
struct JobCase {
    count: i64,
    cpu: i64,
    memory: i64,
    pattern: &'static str,
    constraint: Option<u8>,
    distinct_hosts: bool,
    distinct_rack: Option<u8>,
    affinity: Option<(u8, i64)>,
    spread: u8,
    static_port: bool,
    existing: Vec<u8>,
    algorithm: Algorithm,
}

fn nodes() -> impl Strategy<Value = Vec<NodeCase>> {
    let load = prop::collection::vec((0..1500_i64, 0..1500_i64, any::<bool>()), 0..4);
    let node = (1000..6000_i64, 500..5000_i64, prop::option::weighted(0.9, 0..4_u8), 0..3_u8, 0..3_u8);
    let rest = (prop::bool::weighted(0.9), prop_oneof![4 => Just(0_i64), 1 => 1..5_i64], load);
    let case = (node, rest).prop_map(|((cpu, memory, rack, zone, class), (ready, max_allocs, load))| NodeCase {
        cpu,
        memory,
        rack,
        zone,
        class,
        ready,
        max_allocs,
        load,
    });
    prop::collection::vec(case, 1..24)
}

fn jobs() -> impl Strategy<Value = JobCase> {
    let size = (1..30_i64, 50..1200_i64, 50..1200_i64, prop_oneof![Just("*"), Just("dc1"), Just("dc*")]);
    let rules = (
        prop::option::of(0..3_u8),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.3, 1..4_u8),
        prop::option::of((0..4_u8, prop_oneof![-100..0_i64, 1..100_i64])),
        0..5_u8,
        prop::bool::weighted(0.2),
    );
    let rest = (prop::collection::vec(any::<u8>(), 0..5), any::<bool>());
    (size, rules, rest).prop_map(|((count, cpu, memory, pattern), rules, (existing, spreads))| JobCase {
        count,
        cpu,
        memory,
        pattern,
        constraint: rules.0,
        distinct_hosts: rules.1,
        distinct_rack: rules.2,
        affinity: rules.3,
        spread: rules.4,
        static_port: rules.5,
        existing,
        algorithm: if spreads { Algorithm::Spread } else { Algorithm::Binpack },
    })
}

fn node(n: usize, case: &NodeCase) -> Node {
    let address = NodeNetworkAddress { alias: "default".into(), address: format!("10.0.0.{n}"), ..Default::default() };
    let network = NodeNetworkResource { mode: "host".into(), addresses: vec![address], ..Default::default() };
    let mut resources = NodeResources { node_networks: vec![network], ..NodeResources::default() };
    resources.cpu.cpu_shares = case.cpu;
    resources.memory.memory_mb = case.memory;
    resources.disk.disk_mb = 10_000;
    let mut node = Node {
        id: format!("{n:08x}").into(),
        datacenter: format!("dc{}", case.zone),
        node_class: format!("class{}", case.class),
        status: if case.ready { NodeStatus::Ready } else { NodeStatus::Initializing },
        node_max_allocs: case.max_allocs,
        node_resources: Some(resources),
        ..Node::default()
    };
    if let Some(rack) = case.rack {
        node.meta.insert("rack".into(), format!("r{rack}"));
    }
    let works = DriverInfo { detected: true, healthy: true, ..DriverInfo::default() };
    node.drivers.insert("mock".into(), works);
    node.computed_class = node.computed_class();
    node
}

fn alloc(id: &str, job: &str, node: &Node, cpu: i64, memory: i64, disk: i64) -> Allocation {
    let mut task = AllocatedTaskResources::default();
    task.cpu.cpu_shares = cpu;
    task.memory.memory_mb = memory;
    let mut resources = AllocatedResources::default();
    resources.tasks.insert("t".into(), task);
    resources.shared.disk_mb = disk;
    Allocation {
        id: id.into(),
        namespace: "default".into(),
        job_id: job.into(),
        task_group: "g".into(),
        node_id: node.id.clone(),
        allocated_resources: Some(Arc::new(resources)),
        job_version: Some(0),
        job_incarnation: Some(Index(1)),
        client_status: ClientStatus::Running,
        ..Allocation::default()
    }
}

fn job(case: &JobCase) -> Job {
    let resources = Resources { cpu: Some(case.cpu), memory_mb: Some(case.memory), ..Resources::default() };
    let task = Task { name: "t".into(), driver: "mock".into(), resources: Some(resources), ..Task::default() };
    let disk = model::group::EphemeralDisk { size_mb: Some(10), ..Default::default() };
    let mut group = TaskGroup {
        name: Some("g".into()),
        count: Some(case.count),
        tasks: vec![task],
        ephemeral_disk: Some(disk),
        ..TaskGroup::default()
    };
    if case.static_port {
        let port = Port { label: "http".into(), value: 8080, ..Port::default() };
        group.networks.push(NetworkResource { mode: "host".into(), reserved_ports: vec![port], ..Default::default() });
    }
    let constraint =
        |l: &str, o: &str, r: &str| Constraint { l_target: l.into(), operand: o.into(), r_target: r.into() };
    let mut job = Job {
        id: Some("j".into()),
        kind: Some("batch".into()),
        datacenters: vec![case.pattern.into()],
        create_index: Some(Index(1)),
        version: Some(0),
        ..Job::default()
    };
    if let Some(class) = case.constraint {
        job.constraints.push(constraint("${node.class}", "!=", &format!("class{class}")));
    }
    if case.distinct_hosts {
        group.constraints.push(constraint("", "distinct_hosts", "true"));
    }
    if let Some(limit) = case.distinct_rack {
        job.constraints.push(constraint("${meta.rack}", "distinct_property", &limit.to_string()));
    }
    if let Some((rack, weight)) = case.affinity {
        job.affinities.push(Affinity {
            l_target: "${meta.rack}".into(),
            operand: "=".into(),
            r_target: format!("r{rack}"),
            weight: Some(weight),
        });
    }
    let target = |value: &str, percent| SpreadTarget { value: value.into(), percent };
    let targets = [vec![], vec![target("r0", 50), target("r1", 20)], vec![target("r0", 60), target("r2", 40)]];
    if (1..4).contains(&case.spread) {
        let spread_target = targets[usize::from(case.spread) - 1].clone();
        job.spreads.push(Spread { attribute: "${meta.rack}".into(), weight: Some(70), spread_target });
    }
    if case.spread >= 3 {
        group.spreads.push(Spread {
            attribute: "${node.datacenter}".into(),
            weight: Some(30),
            spread_target: Vec::new(),
        });
    }
    job.task_groups.push(group);
    job
}

/// The cluster as plain rows.
struct Rows {
    nodes: Vec<Arc<Node>>,
    allocs: Vec<Arc<Allocation>>,
}

impl Rows {
    fn on<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Allocation> {
        self.allocs.iter().filter(|a| a.node_id == node.id && a.occupies_node()).map(|a| &**a)
    }

    fn of_job(&self) -> impl Iterator<Item = (&Allocation, &Node)> {
        let mine = self.allocs.iter().filter(|a| a.job_id == *"j" && !a.is_terminal());
        mine.filter_map(|a| self.nodes.iter().find(|n| n.id == a.node_id).map(|n| (&**a, &**n)))
    }

    /// What a node weighs in the order of nodes, and the sum of that without spread; nothing if it will not do.
    fn weight(&self, node: &Node, job: &Job, case: &JobCase, wanted: &Allocation) -> Option<(f64, f64)> {
        let group = &job.task_groups[0];
        if !node.is_ready() || feasible(node, job, group).is_err() {
            return None;
        }
        let mine = self.on(node).filter(|a| a.job_id == *"j").count();
        if case.distinct_hosts && mine > 0 {
            return None;
        }
        if let Some(limit) = case.distinct_rack {
            let rack = node.meta.get("rack")?;
            let used = self.of_job().filter(|(_, n)| n.meta.get("rack") == Some(rack)).count();
            if used >= usize::from(limit) {
                return None;
            }
        }
        verify(node, self.on(node), std::slice::from_ref(wanted)).ok()?;
        let facts = Facts::of(node);
        let mut used = Amounts::default();
        self.on(node).for_each(|a| used.add(Held::of(a, &facts).amounts));
        used.add(Held::of(wanted, &facts).amounts);
        let affinities = job
            .affinities
            .iter()
            .map(|a| (a.weight.unwrap_or(0), Check::new(&a.l_target, &a.operand, &a.r_target).holds(node)));
        let fit = score::fit(case.algorithm, used, capacity(node));
        let balance = score::balance(case.algorithm, fit, Held::of(wanted, &facts).amounts, used, capacity(node));
        let plain = [
            Some(score::weight(fit, balance)),
            score::anti_affinity(u32::try_from(mine).unwrap(), usize::try_from(case.count).unwrap()),
            score::affinity(affinities),
        ];
        let mut given: Vec<f64> = plain.into_iter().flatten().collect();
        let sum = given.iter().sum();
        given.extend(self.spread(node, job, case));
        Some((score::mean(&given), sum))
    }

    fn spread(&self, node: &Node, job: &Job, case: &JobCase) -> Option<f64> {
        let all = || job.spreads.iter().chain(&job.task_groups[0].spreads);
        #[allow(clippy::cast_precision_loss)]
        let weight: f64 = all().map(|s| s.weight.unwrap_or(50) as f64).sum();
        let scores = all().map(|spread| {
            let mut block = Block::new(spread, usize::try_from(case.count).unwrap());
            let target = Target::parse(&spread.attribute);
            for (_, other) in self.of_job() {
                if let Some(value) = target.resolve(other) {
                    block.count(value, 1);
                }
            }
            block.score(target.resolve(node), weight, -1.0)
        });
        let total: f64 = scores.sum();
        (total != 0.0).then_some(total)
    }
}

fn check(nodes: &[NodeCase], case: &JobCase, seed: u64) -> Result<(), TestCaseError> {
    let mut rows = Rows { nodes: Vec::new(), allocs: Vec::new() };
    for (n, case) in nodes.iter().enumerate() {
        let node = node(n, case);
        for (at, (cpu, memory, ended)) in case.load.iter().enumerate() {
            let mut other = alloc(&format!("load-{n}-{at}"), "other", &node, *cpu, *memory, 1);
            if *ended {
                other.client_status = ClientStatus::Complete;
            }
            rows.allocs.push(Arc::new(other));
        }
        rows.nodes.push(Arc::new(node));
    }
    for (at, pick) in case.existing.iter().enumerate().take(usize::try_from(case.count).unwrap()) {
        let node = rows.nodes[usize::from(*pick) % rows.nodes.len()].clone();
        let mut mine = alloc(&format!("mine-{at}"), "j", &node, case.cpu, case.memory, 10);
        mine.name = format!("j.g[{at}]");
        rows.allocs.push(Arc::new(mine));
    }
    let job = Arc::new(job(case));
    let mut state = State::default();
    let changes = rows.nodes.iter().map(|n| Change::Node(n.clone()));
    let changes = changes.chain(rows.allocs.iter().map(|a| Change::Alloc(a.clone())));
    let config = model::scheduler_config::SchedulerConfiguration {
        scheduler_algorithm: if case.algorithm == Algorithm::Spread { "spread" } else { "binpack" }.into(),
        ..Default::default()
    };
    let more = [Change::Job(job.clone()), Change::JobVersion(job.clone()), Change::SchedulerConfig(Arc::new(config))];
    let mut fleet = Fleet::default();
    for change in changes.chain(more) {
        state.commit(Index(5), &change);
        fleet.apply(&state, &change);
    }
    let eval = Evaluation {
        id: "e".into(),
        namespace: "default".into(),
        job_id: "j".into(),
        kind: "batch".into(),
        triggered_by: "job-register".into(),
        ..Evaluation::default()
    };
    let decide = |fleet: &Fleet| {
        let mut next = 0;
        let mut new_id = || {
            next += 1;
            format!("new-{next:04}")
        };
        let (state, eval, suspects) = (&state, &eval, &|_: &model::NodeId| false);
        schedule(Request {
            state,
            fleet,
            eval,
            now: 1,
            seed,
            retry: false,
            new_id: &mut new_id,
            suspects,
            clock: &|| 0,
        })
    };
    let plan = decide(&fleet).plan;
    prop_assert_eq!(&plan, &decide(&Fleet::from_state(&state)).plan, "not the same for the same seed");
    let mut turned = Fleet::default();
    rows.nodes.iter().rev().for_each(|node| turned.apply(&state, &Change::Node(node.clone())));
    prop_assert_eq!(&plan, &decide(&turned).plan, "not the same when nodes come in another order");
    let eval = plan.eval.clone().unwrap();
    let mut placed: Vec<Allocation> = plan.parts.into_values().flat_map(|part| part.place).collect();
    placed.sort_by(|a, b| a.id.cmp(&b.id));
    for got in &placed {
        let best = best(&rows, &job, case, seed);
        prop_assert_eq!(best.as_ref().map(|n| &n.id), Some(&got.node_id), "{}", got.name);
        rows.allocs.push(Arc::new(got.clone()));
    }
    let queued = eval.queued_allocations.get("g").copied().unwrap_or(0);
    if queued > 0 {
        prop_assert!(best(&rows, &job, case, seed).is_none(), "it says nothing fits");
        let metric = &eval.failed_tg_allocs["g"];
        prop_assert_eq!(metric.nodes_evaluated, metric.nodes_filtered + metric.nodes_exhausted);
    }
    let mut per_name: BTreeMap<&str, usize> = BTreeMap::new();
    placed.iter().for_each(|a| *per_name.entry(&a.name).or_default() += 1);
    prop_assert!(per_name.values().all(|n| *n == 1), "names are unique");
    Ok(())
}

fn best<'a>(rows: &'a Rows, job: &Job, case: &JobCase, seed: u64) -> Option<&'a Arc<Node>> {
    let scored = rows.nodes.iter().enumerate().filter_map(|(slot, node)| {
        let mut wanted = alloc("w", "j", node, case.cpu, case.memory, 10);
        if case.static_port {
            let ip = &node.node_resources.as_ref().unwrap().node_networks[0].addresses[0].address;
            let port = PortMapping { label: "http".into(), value: 8080, to: 0, host_ip: ip.clone() };
            Arc::make_mut(wanted.allocated_resources.as_mut().unwrap()).shared.ports.push(port);
        }
        let (weight, sum) = rows.weight(node, job, case, &wanted)?;
        Some((weight, sum, tie(seed, fnv1a(node.id.as_str().as_bytes())), std::cmp::Reverse(slot), node))
    });
    let order = |a: &(f64, f64, u64, std::cmp::Reverse<usize>, &Arc<Node>), b: &(f64, f64, u64, _, _)| {
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)).then(a.3.cmp(&b.3))
    };
    scored.max_by(order).map(|(.., node)| node)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_placer_chooses_what_a_scan_of_every_node_for_every_placement_would(
        nodes in nodes(), job in jobs(), seed in any::<u64>()
    ) {
        check(&nodes, &job, seed)?;
    }
}
