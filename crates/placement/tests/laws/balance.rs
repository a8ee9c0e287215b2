//! In what order nodes stand: by their scores, and of those that would be well begun the one first whose free
//! shares of cpu and memory come nearer to each other by the most.

use model::metric::NodeScoreMeta;
use model::scheduler_config::{PreemptionConfig, SchedulerConfiguration};
use model::{Job, NodeId};
use placement::Amounts;
use placement::score::{self, Algorithm, WELL_BEGUN};
use proptest::prelude::*;

use crate::world::{World, constraint, job, node};

/// Of one hundredth of a node: 40 MHz, 80 MiB.
fn sized(id: &str, cpu: i64, memory: i64) -> Job {
    let mut job = job("service", 1);
    job.id = Some(id.into());
    let resources = job.task_groups[0].tasks[0].resources.as_mut().unwrap();
    (resources.cpu, resources.memory_mb) = (Some(cpu * 40), Some(memory * 80));
    job.task_groups[0].ephemeral_disk = Some(model::group::EphemeralDisk { size_mb: Some(10), ..Default::default() });
    job
}

fn at(mut job: Job, n: usize) -> Job {
    job.constraints.push(constraint("${attr.unique.hostname}", "=", &format!("node-{n}")));
    job
}

/// Nodes of which so many hundredths of cpu and memory are taken.
fn world(algorithm: &str, loads: &[(i64, i64)]) -> World {
    let mut world = World::new();
    let preemption_config = PreemptionConfig { service_scheduler_enabled: true, ..Default::default() };
    let scheduler_algorithm = algorithm.into();
    let config = SchedulerConfiguration { scheduler_algorithm, preemption_config, ..Default::default() };
    let set = fsm::Command::SchedulerConfigSet { config: Box::new(config), cas: None };
    world.submit(model::Role::Gateway, set);
    for (n, (cpu, memory)) in loads.iter().enumerate() {
        let mut node = node(n as u64);
        node.node_resources.as_mut().unwrap().memory.memory_mb = 8000;
        world.add_node(node);
        if (*cpu, *memory) != (0, 0) {
            world.register(&at(sized(&format!("load-{n}"), *cpu, *memory), n));
        }
    }
    world
}

/// Where it went, and what the nodes were given, the chosen one first.
fn place(world: &mut World, job: &Job) -> (NodeId, Vec<NodeScoreMeta>) {
    world.register(job);
    let alloc = world.live(job)[0].clone();
    (alloc.node_id.clone(), alloc.metrics.as_ref().unwrap().look().score_meta_data.clone())
}

fn id(n: u64) -> NodeId {
    node(n).id
}

#[test]
fn of_nodes_that_would_be_well_begun_the_one_that_gains_most_balance_is_taken() {
    let mut world = world("binpack", &[(30, 70), (70, 70), (0, 0)]);
    let (chosen, nodes) = place(&mut world, &sized("one", 20, 5));
    assert_eq!(chosen, id(0));
    assert_eq!(nodes.iter().map(|n| n.node_id.clone()).collect::<Vec<_>>(), [id(0), id(1), id(2)]);
    // The scores are what they are, and beside them stands why the higher one was not enough.
    assert!(nodes[0].norm_score < nodes[1].norm_score, "{nodes:?}");
    assert_eq!(nodes[0].norm_score, nodes[0].scores.get("binpack").unwrap());
    let gained: Vec<Option<f64>> =
        nodes.iter().map(|n| n.scores.get("balance").map(|b| (b * 1e6).round() / 1e6)).collect();
    assert_eq!(gained, [Some(0.15), Some(-0.15), None]);
}

#[test]
fn of_nodes_that_gain_alike_the_fuller_one_is_taken() {
    // All lean to the same side already: whatever takes more of memory than of cpu leads each as far on.
    let mut world = world("binpack", &[(40, 50), (50, 70), (45, 60)]);
    assert_eq!(place(&mut world, &sized("one", 5, 10)).0, id(1));
}

#[test]
fn below_that_nothing_but_the_score_decides() {
    let mut world = world("binpack", &[(10, 40), (30, 30)]);
    let (chosen, nodes) = place(&mut world, &sized("one", 10, 2));
    assert_eq!(chosen, id(1), "though the other would come nearer to balance");
    assert!(nodes.iter().all(|n| n.scores.get("balance").is_none()), "{nodes:?}");
    assert!(nodes[0].norm_score > nodes[1].norm_score);
}

#[test]
fn where_the_emptiest_are_used_first_balance_counts_for_nothing() {
    let mut world = world("spread", &[(30, 70), (10, 10), (70, 70)]);
    let (chosen, nodes) = place(&mut world, &sized("one", 20, 5));
    assert_eq!(chosen, id(1));
    assert!(nodes.iter().all(|n| n.scores.get("balance").is_none()), "{nodes:?}");
}

#[test]
fn what_the_job_likes_comes_before_balance() {
    let mut world = world("binpack", &[(30, 70), (70, 70)]);
    let mut likes = sized("one", 20, 5);
    likes.affinities = vec![model::job::Affinity {
        l_target: "${attr.unique.hostname}".into(),
        operand: "=".into(),
        r_target: "node-1".into(),
        weight: Some(1),
    }];
    assert_eq!(place(&mut world, &likes).0, id(1));
}

/// The node is looked at as it is once somebody left.
#[test]
fn who_makes_room_is_found_in_the_same_order() {
    let mut world = world("binpack", &[(30, 70), (70, 70)]);
    for (n, (cpu, memory)) in [(60, 20), (25, 25)].into_iter().enumerate() {
        let mut low = at(sized(&format!("low-{n}"), cpu, memory), n);
        low.priority = Some(10);
        world.register(&low);
    }
    let mut high = sized("high", 20, 5);
    high.priority = Some(90);
    let (chosen, nodes) = place(&mut world, &high);
    assert_eq!(chosen, id(0));
    assert!(nodes[0].norm_score < nodes[1].norm_score && nodes[0].scores.get("preemption").is_some(), "{nodes:?}");
    assert!(world.live(&sized("low-0", 60, 20)).is_empty());
}

#[test]
fn an_explanation_has_the_score_that_the_formulas_give_and_the_balance_beside_it() {
    let mut world = world("binpack", &[(30, 70), (70, 70), (0, 0)]);
    let eval = world.register_only(&sized("one", 20, 5));
    let explain = world.decide(&eval).traces;
    let group = &explain.groups[0];
    assert_eq!(group.placed[0].node, id(0));
    let stood = |n: u64| match group.node(&id(n)) {
        Some(placement::Verdict::Fits { score, parts }) => (score, parts),
        other => panic!("{other:?}"),
    };
    let names = |n: u64| stood(n).1.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(
        [names(0), names(1), names(2)],
        [vec!["binpack", "balance"], vec!["binpack", "balance"], vec!["binpack"]]
    );
    assert!((stood(0).0 - group.placed[0].score).abs() < 1e-6 && stood(1).0 > stood(0).0);
}

fn amounts(cpu: i64, memory: i64) -> Amounts {
    Amounts { cpu: cpu * 40, memory: memory * 80, disk: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Stated once more, apart from how it is done.
    #[test]
    fn no_node_passed_over_comes_before_the_chosen_one(
        loads in prop::collection::vec((0..90_i64, 0..90_i64), 2..7), cpu in 1..30_i64, memory in 1..30_i64
    ) {
        prop_assume!(loads.iter().any(|(c, m)| c + cpu <= 100 && m + memory <= 100));
        let (chosen, _) = place(&mut world("binpack", &loads), &sized("one", cpu, memory));
        let whole = amounts(100, 100);
        let stands = |(of_cpu, of_memory): (i64, i64)| {
            let used = amounts(of_cpu + cpu, of_memory + memory);
            let fit = score::fit(Algorithm::Binpack, used, whole);
            let apart = |cpu: i64, memory: i64| (cpu - memory).abs();
            (fit, apart(of_cpu, of_memory) - apart(of_cpu + cpu, of_memory + memory))
        };
        let n = (0..loads.len()).find(|n| id(*n as u64) == chosen).unwrap();
        let (fit, gained) = stands(loads[n]);
        for load in loads.into_iter().filter(|(c, m)| c + cpu <= 100 && m + memory <= 100) {
            let (other_fit, other_gained) = stands(load);
            let before = if fit >= WELL_BEGUN && other_fit >= WELL_BEGUN {
                other_gained > gained || other_gained == gained && other_fit > fit
            } else {
                other_fit > fit
            };
            prop_assert!(!before, "{load:?} before {chosen}: {other_fit} {other_gained}, {fit} {gained}");
        }
    }
}
