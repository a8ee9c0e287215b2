//! The numeric vectors of the compatible interface's formulas, all that concern what is built.

use std::collections::BTreeMap;

use model::Nanos;
use model::alloc::RescheduleEvent;
use model::group::ReschedulePolicy;
use model::job::{Spread, SpreadTarget};
use serde::Deserialize;

use crate::fit::Amounts;
use crate::score::{self, Algorithm};
use crate::spread::{Block, even};

const TOLERANCE: f64 = 1e-9;

fn load<T: for<'de> Deserialize<'de>>(part: &str) -> Vec<T> {
    let all: serde_json::Value = serde_json::from_str(include_str!("../testdata/formulas.json")).unwrap();
    serde_json::from_value(all[part].clone()).unwrap()
}

fn near(got: f64, expect: f64, id: &str) {
    assert!((got - expect).abs() <= TOLERANCE, "{id}: {got} is not {expect}");
}

#[derive(Deserialize)]
struct Fit {
    id: String,
    node: FitNode,
    used_after: CpuMem,
    expect: FitExpect,
}

#[derive(Deserialize)]
struct FitNode {
    cpu: i64,
    mem: i64,
    reserved_cpu: i64,
    reserved_mem: i64,
}

#[derive(Deserialize)]
struct CpuMem {
    cpu: i64,
    mem: i64,
}

#[derive(Deserialize)]
struct FitExpect {
    binpack_normalized: f64,
    spread_normalized: f64,
}

/// covers: rank-001, rank-003
#[test]
fn rank_001_003_the_fit_score_is_as_the_vectors_say() {
    for case in load::<Fit>("fit") {
        let capacity = Amounts {
            cpu: case.node.cpu - case.node.reserved_cpu,
            memory: case.node.mem - case.node.reserved_mem,
            disk: 0,
        };
        let used = Amounts { cpu: case.used_after.cpu, memory: case.used_after.mem, disk: 0 };
        near(score::fit(Algorithm::Binpack, used, capacity), case.expect.binpack_normalized, &case.id);
        near(score::fit(Algorithm::Spread, used, capacity), case.expect.spread_normalized, &case.id);
    }
}

#[derive(Deserialize)]
struct SpreadCase {
    id: String,
    count: usize,
    blocks: Vec<SpreadBlock>,
    node_values: Vec<Option<String>>,
    used_before: Vec<BTreeMap<String, i64>>,
    lowest_boost_before: f64,
    expect: SpreadExpect,
}

#[derive(Deserialize)]
struct SpreadBlock {
    attribute: String,
    weight: i64,
    targets: BTreeMap<String, u8>,
}

#[derive(Deserialize)]
struct SpreadExpect {
    score: f64,
    appended: bool,
}

/// covers: spread-001, spread-002, spread-004, spread-005, spread-007
#[test]
fn spread_001_002_004_005_007_the_spread_score_is_as_the_vectors_say() {
    for case in load::<SpreadCase>("spread") {
        let mut blocks: Vec<Block> = Vec::new();
        for (block, used) in case.blocks.iter().zip(&case.used_before) {
            let target = |(value, percent): (&String, &u8)| SpreadTarget { value: value.clone(), percent: *percent };
            let mut compiled = Block::new(
                &Spread {
                    attribute: format!("${{meta.{}}}", block.attribute),
                    weight: Some(block.weight),
                    spread_target: block.targets.iter().map(target).collect(),
                },
                case.count,
            );
            used.iter().for_each(|(value, n)| compiled.count(value, *n));
            blocks.push(compiled);
        }
        let total: i64 = case.blocks.iter().map(|b| b.weight).sum();
        #[allow(clippy::cast_precision_loss)]
        let total = total as f64;
        let scores = blocks.iter().zip(&case.node_values);
        let score: f64 = scores.map(|(b, v)| b.score(v.as_deref(), total, case.lowest_boost_before)).sum();
        near(score, case.expect.score, &case.id);
        assert_eq!(score != 0.0, case.expect.appended, "{}", case.id);
    }
}

#[derive(Deserialize)]
struct Even {
    id: String,
    used_by_value: BTreeMap<String, u64>,
    node_value: Option<String>,
    expect: f64,
}

/// covers: spread-003
#[test]
fn spread_003_the_even_boost_is_as_the_vectors_say() {
    for case in load::<Even>("spread_even") {
        near(even(&case.used_by_value, case.node_value.as_deref()), case.expect, &case.id);
    }
}

#[derive(Deserialize)]
struct Anti {
    id: String,
    collisions: u32,
    group_count: usize,
    expect: AntiExpect,
}

#[derive(Deserialize)]
struct AntiExpect {
    score: Option<f64>,
}

/// covers: rank-014
#[test]
fn rank_014_the_anti_affinity_is_as_the_vectors_say() {
    for case in load::<Anti>("job_anti_affinity") {
        let got = score::anti_affinity(case.collisions, case.group_count);
        assert_eq!(got.is_some(), case.expect.score.is_some(), "{}", case.id);
        near(got.unwrap_or(0.0), case.expect.score.unwrap_or(0.0), &case.id);
    }
}

#[derive(Deserialize)]
struct AffinityCase {
    id: String,
    weights: Vec<i64>,
    matches: Vec<bool>,
    expect: f64,
}

/// covers: rank-017
#[test]
fn rank_017_the_affinity_is_as_the_vectors_say() {
    for case in load::<AffinityCase>("node_affinity") {
        let got = score::affinity(case.weights.iter().copied().zip(case.matches.iter().copied()));
        near(got.unwrap(), case.expect, &case.id);
    }
}

#[derive(Deserialize)]
struct Final {
    id: String,
    appended: BTreeMap<String, f64>,
    expect: f64,
}

/// covers: rank-016
#[test]
fn rank_016_the_final_score_is_as_the_vectors_say() {
    for case in load::<Final>("final_normalization") {
        let given: Vec<f64> = case.appended.values().copied().collect();
        near(score::mean(&given), case.expect, &case.id);
    }
}

#[derive(Deserialize)]
struct Reschedule {
    id: String,
    policy: Policy,
    runtime_before_each_failure: Vec<f64>,
    expect: Vec<RescheduleExpect>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Policy {
    attempts: Option<i64>,
    unlimited: Option<bool>,
    interval: i64,
    delay: i64,
    function: String,
    max_delay: i64,
}

#[derive(Deserialize)]
struct RescheduleExpect {
    fail_time: f64,
    delay: i64,
    eligible: bool,
    next_time: f64,
}

#[allow(clippy::cast_possible_truncation)]
fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// service-059: delays and eligibility of an allocation that fails again and again, rescheduled at the
/// very moment each time.
#[test]
fn service_059_rescheduling_is_as_the_vectors_say() {
    for case in load::<Reschedule>("reschedule") {
        let policy = ReschedulePolicy {
            attempts: case.policy.attempts,
            unlimited: case.policy.unlimited,
            interval: Some(Nanos::from_secs(case.policy.interval)),
            delay: Some(Nanos::from_secs(case.policy.delay)),
            delay_function: Some(case.policy.function.clone()),
            max_delay: Some(Nanos::from_secs(case.policy.max_delay)),
        };
        let mut events: Vec<RescheduleEvent> = Vec::new();
        let mut started = 0_i64;
        for (runtime, expect) in case.runtime_before_each_failure.iter().zip(&case.expect) {
            let failed = started + nanos(*runtime);
            let verdict = crate::reschedule::judge(&policy, &events, failed);
            let id = format!("{} at {}", case.id, expect.fail_time);
            assert_eq!(failed, nanos(expect.fail_time), "{id}");
            assert_eq!(verdict.delay, Nanos::from_secs(expect.delay), "{id}");
            assert_eq!(verdict.eligible, expect.eligible, "{id}");
            assert_eq!(verdict.next, nanos(expect.next_time), "{id}");
            started = verdict.next;
            let event =
                RescheduleEvent { reschedule_time: verdict.next, delay: verdict.delay, ..RescheduleEvent::default() };
            events.push(event);
        }
    }
}

#[derive(Deserialize)]
struct PreemptionScore {
    id: String,
    priorities: Priorities,
    expect: ScoreExpect,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Priorities {
    Listed(Vec<i32>),
    Repeated { value: i32, repeat: usize },
}

#[derive(Deserialize)]
struct ScoreExpect {
    score: f64,
}

#[test]
fn the_preemption_score_is_as_the_vectors_say() {
    let cases = load::<PreemptionScore>("preemption_score");
    assert_eq!(cases.len(), 20);
    for case in cases {
        let priorities = match case.priorities {
            Priorities::Listed(all) => all,
            Priorities::Repeated { value, repeat } => vec![value; repeat],
        };
        near(score::preemption(priorities.into_iter()), case.expect.score, &case.id);
    }
}

#[derive(Deserialize)]
struct Distance {
    id: String,
    remaining_ask: CpuMemDisk,
    victim: CpuMemDisk,
    max_parallel: u32,
    already_preempted: u32,
    expect: f64,
}

#[derive(Deserialize)]
struct CpuMemDisk {
    cpu: i64,
    mem: i64,
    disk: i64,
}

impl CpuMemDisk {
    fn amounts(&self) -> Amounts {
        Amounts { cpu: self.cpu, memory: self.mem, disk: self.disk }
    }
}

#[test]
fn the_distance_of_a_victim_is_as_the_vectors_say() {
    use crate::preempt::{distance, penalty};
    let cases = load::<Distance>("preemption_distance");
    assert_eq!(cases.len(), 12);
    for case in cases {
        let far = distance(case.remaining_ask.amounts(), case.victim.amounts());
        near(far + penalty(case.already_preempted, case.max_parallel), case.expect, &case.id);
    }
}

#[derive(Deserialize)]
struct Class {
    id: String,
    a: serde_json::Value,
    b: serde_json::Value,
    expect_same_class: bool,
}

/// The parts of a vector's node that a class could depend on.
fn class_node(from: &serde_json::Value) -> model::Node {
    use model::node::{Attribute, DriverInfo, NodeDevice, NodeDeviceResource, NodeResources};
    let text = |key: &str| from[key].as_str().unwrap_or_default().to_owned();
    let map = |value: &serde_json::Value| -> BTreeMap<String, String> {
        serde_json::from_value(value.clone()).unwrap_or_default()
    };
    let device = |value: &serde_json::Value| NodeDeviceResource {
        vendor: value["vendor"].as_str().unwrap().into(),
        kind: value["type"].as_str().unwrap().into(),
        name: value["name"].as_str().unwrap().into(),
        attributes: map(&value["attributes"])
            .into_iter()
            .map(|(key, text)| (key, Attribute { string_val: Some(text), ..Attribute::default() }))
            .collect(),
        instances: (value["instances"].as_array().into_iter().flatten())
            .map(|i| NodeDevice {
                id: i["id"].as_str().unwrap().into(),
                healthy: i["healthy"].as_bool().unwrap_or(false),
                ..NodeDevice::default()
            })
            .collect(),
    };
    let mut resources = NodeResources {
        devices: from["devices"].as_array().into_iter().flatten().map(device).collect(),
        ..NodeResources::default()
    };
    resources.cpu.cpu_shares = from["cpu"].as_i64().unwrap_or(0);
    resources.memory.memory_mb = from["mem"].as_i64().unwrap_or(0);
    let mut node = model::Node {
        id: text("id").as_str().into(),
        name: text("name"),
        datacenter: text("datacenter"),
        node_class: text("class"),
        node_pool: text("pool"),
        attributes: map(&from["attributes"]),
        meta: map(&from["meta"]),
        node_resources: Some(resources),
        ..model::Node::default()
    };
    for (name, info) in from["drivers"].as_object().into_iter().flatten() {
        let healthy = info["healthy"].as_bool().unwrap_or(false);
        node.drivers.insert(name.clone(), DriverInfo { detected: true, healthy, ..DriverInfo::default() });
    }
    for name in from["host_volumes"].as_array().into_iter().flatten() {
        node.host_volumes.insert(name.as_str().unwrap().into(), model::node::HostVolumeInfo::default());
    }
    node
}

#[test]
fn nodes_share_a_class_where_the_vectors_say_so() {
    let cases = load::<Class>("computed_class");
    assert_eq!(cases.len(), 25);
    for case in cases {
        let same = class_node(&case.a).computed_class() == class_node(&case.b).computed_class();
        assert_eq!(same, case.expect_same_class, "{}", case.id);
    }
}

#[derive(Deserialize)]
struct SamplingLimit {
    id: String,
    nodes: usize,
    batch: bool,
    affinity_or_spread: bool,
    group_count: usize,
    node_limit: usize,
    expect: usize,
}

/// We look at every node; the limit is that of the scheduler we compare ourselves with.
#[test]
fn a_sampling_scheduler_looks_at_as_many_nodes_as_the_vectors_say() {
    let cases = load::<SamplingLimit>("sampling_limit");
    assert_eq!(cases.len(), 18);
    for case in cases {
        let wide = case.affinity_or_spread.then_some(case.group_count);
        assert_eq!(crate::sampling::limit(case.nodes, case.batch, wide, case.node_limit), case.expect, "{}", case.id);
    }
}

#[derive(Deserialize)]
struct SystemCanaries {
    id: String,
    canary_percent: i64,
    destructive: usize,
    existing_canaries: usize,
    max_parallel: usize,
    expect: usize,
}

#[test]
fn a_system_job_begins_with_as_many_canaries_as_the_vectors_say() {
    let cases = load::<SystemCanaries>("system_canaries");
    assert_eq!(cases.len(), 12);
    for case in cases {
        let all = case.destructive + case.existing_canaries;
        let got = crate::reconcile::canaries_of(case.canary_percent, all, case.max_parallel);
        assert_eq!(got, case.expect, "{}", case.id);
    }
}
