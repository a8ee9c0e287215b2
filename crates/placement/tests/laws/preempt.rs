//! Less important allocations make room.

use std::collections::BTreeSet;

use model::job::Constraint;
use model::node::{NodeDevice, NodeDeviceResource};
use model::resources::{NetworkResource, Port, RequestedDevice};
use model::scheduler_config::{PreemptionConfig, SchedulerConfiguration};
use model::{Allocation, DesiredStatus, Job, Role};

use crate::world::{World, job, node};

/// A cluster of `nodes` (4000 MHz, 8192 MiB) where every kind of job may preempt.
fn world(nodes: u64) -> World {
    let mut world = World::with_nodes(nodes);
    allow(&mut world, true);
    world
}

fn allow(world: &mut World, allowed: bool) {
    let preemption_config = PreemptionConfig {
        system_scheduler_enabled: allowed,
        sys_batch_scheduler_enabled: allowed,
        batch_scheduler_enabled: allowed,
        service_scheduler_enabled: allowed,
    };
    let config = SchedulerConfiguration {
        scheduler_algorithm: "binpack".into(),
        preemption_config,
        ..SchedulerConfiguration::default()
    };
    let command = fsm::Command::SchedulerConfigSet { config: Box::new(config), cas: None };
    world.submit(Role::Gateway, command);
}

fn sized(id: &str, priority: i64, count: i64, cpu: i64, memory: i64) -> Job {
    let mut job = job("service", count);
    (job.id, job.priority) = (Some(id.into()), Some(priority));
    let resources = job.task_groups[0].tasks[0].resources.as_mut().unwrap();
    (resources.cpu, resources.memory_mb) = (Some(cpu), Some(memory));
    job
}

fn evicted(world: &World, job: &Job) -> Vec<String> {
    let mut names: Vec<String> =
        world.allocs(job).iter().filter(|a| a.desired_status == DesiredStatus::Evict).map(|a| a.name.clone()).collect();
    names.sort();
    names
}

/// covers: plan-apply-003, plan-apply-009, preempt-004
#[test]
fn preempt_001_only_jobs_ten_points_less_important_make_room() {
    let mut world = world(1);
    let (low, middle) = (sized("low", 20, 1, 1900, 100), sized("middle", 41, 1, 1900, 100));
    world.register(&low);
    world.register(&middle);
    let near = sized("near", 29, 1, 1900, 100);
    let eval = world.register(&near);
    assert_eq!((world.live(&near).len(), eval.queued_allocations["g"]), (0, 1), "nine points are not enough");
    let high = sized("high", 50, 1, 1900, 100);
    let eval = world.register(&high);
    let winner = world.live(&high)[0].clone();
    assert_eq!((evicted(&world, &low), evicted(&world, &middle)), (vec!["low.g[0]".to_owned()], vec![]));
    let victim = world.allocs(&low)[0].clone();
    assert_eq!(winner.preempted_allocations, std::slice::from_ref(&victim.id));
    assert_eq!(victim.preempted_by_allocation, winner.id);
    assert_eq!(victim.desired_description, format!("Preempted by alloc ID {}", winner.id));
    let annotations = eval.plan_annotations.unwrap();
    assert_eq!(annotations.desired_tg_updates["g"].preemptions, 1);
    assert_eq!(annotations.preempted_allocs[0].id, victim.id);
    let called: Vec<_> = world.state.evals().filter(|e| e.triggered_by == "preemption").collect();
    assert_eq!((called.len(), called[0].job_id.as_str()), (1, "low"));
    let meta = winner.metrics.as_ref().unwrap().look().score_meta_data[0].clone();
    assert!(meta.scores.get("preemption").unwrap() > 0.99, "{meta:?}");
}

#[test]
fn preempt_002_nobody_leaves_when_it_would_not_help() {
    let mut world = world(1);
    let (low, fixed) = (sized("low", 10, 2, 500, 100), sized("fixed", 45, 1, 2500, 100));
    world.register(&fixed);
    world.register(&low);
    let high = sized("high", 50, 1, 2000, 100);
    let eval = world.register(&high);
    assert_eq!(evicted(&world, &low), Vec::<String>::new());
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["cpu"], 1);
}

fn with_port(mut job: Job, port: i64) -> Job {
    let reserved_ports = vec![Port { label: "http".into(), value: port, ..Port::default() }];
    job.task_groups[0].networks =
        vec![NetworkResource { mode: "host".into(), reserved_ports, ..NetworkResource::default() }];
    job
}

/// covers: preempt-007
#[test]
fn preempt_003_who_holds_a_port_leaves_if_he_may_and_alone_if_that_suffices() {
    let mut world = world(1);
    let holder = with_port(sized("holder", 10, 1, 1500, 100), 8080);
    let other = sized("other", 10, 3, 800, 100);
    world.register(&holder);
    world.register(&other);
    let high = with_port(sized("high", 60, 1, 1500, 100), 8080);
    world.register(&high);
    assert_eq!((evicted(&world, &holder).len(), evicted(&world, &other).len()), (1, 0));
    let mut world = self::world(1);
    world.register(&with_port(sized("holder", 55, 1, 100, 100), 8080));
    world.register(&sized("other", 10, 3, 800, 100));
    let eval = world.register(&high);
    assert_eq!(world.live(&high).len(), 0);
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["network: reserved port collision http=8080"], 1);
}

#[test]
fn preempt_005_a_job_never_takes_from_itself() {
    let mut world = world(1);
    let mut own = sized("own", 10, 2, 2000, 100);
    world.register(&own);
    own.priority = Some(90);
    own.task_groups[0].count = Some(3);
    let eval = world.register(&own);
    assert_eq!((evicted(&world, &own).len(), eval.queued_allocations["g"]), (0, 1));
}

#[test]
fn preempt_008_a_group_that_moves_one_at_a_time_loses_one_at_a_time() {
    let mut world = world(2);
    let mut spare = sized("spare", 10, 2, 1900, 100);
    spare.constraints.push(Constraint { operand: "distinct_hosts".into(), ..Constraint::default() });
    let mut calm = sized("calm", 10, 2, 1900, 100);
    calm.constraints.clone_from(&spare.constraints);
    for job in [&mut spare, &mut calm] {
        job.task_groups[0].migrate =
            Some(model::group::MigrateStrategy { max_parallel: Some(1), ..Default::default() });
    }
    world.register(&spare);
    world.register(&calm);
    let high = sized("high", 60, 2, 1900, 100);
    world.register(&high);
    assert_eq!(world.live(&high).len(), 2);
    assert_eq!((evicted(&world, &spare).len(), evicted(&world, &calm).len()), (1, 1));
}

/// covers: preempt-011, rank-013
#[test]
fn preempt_009_device_holders_leave_as_few_as_serve() {
    let gpus = |ids: &[&str]| NodeDeviceResource {
        vendor: "nvidia".into(),
        kind: "gpu".into(),
        name: "t4".into(),
        instances: ids.iter().map(|id| NodeDevice { id: (*id).into(), healthy: true, ..Default::default() }).collect(),
        ..NodeDeviceResource::default()
    };
    let mut world = world(0);
    let mut here = node(1);
    here.node_resources.as_mut().unwrap().devices = vec![gpus(&["a", "b", "c", "d"])];
    world.add_node(here);
    let wants = |mut job: Job, count: u64| {
        let ask = RequestedDevice { name: "gpu".into(), count: Some(count), ..RequestedDevice::default() };
        job.task_groups[0].tasks[0].resources.as_mut().unwrap().devices = vec![ask];
        job
    };
    let (one, two) = (wants(sized("one", 10, 2, 100, 100), 1), wants(sized("two", 20, 1, 100, 100), 2));
    world.register(&one);
    world.register(&two);
    let high = wants(sized("high", 70, 1, 100, 100), 2);
    world.register(&high);
    assert_eq!((evicted(&world, &one).len(), evicted(&world, &two).len()), (2, 0));
    let more = wants(sized("more", 70, 1, 100, 100), 2);
    world.register(&more);
    assert_eq!((world.live(&high).len(), world.live(&more).len(), evicted(&world, &two).len()), (1, 1, 1));
    let by: BTreeSet<_> = world.allocs(&one).iter().map(|a| a.preempted_by_allocation.clone()).collect();
    assert_eq!(by.len(), 1, "each left once, for one");
}

/// covers: rank-012
#[test]
fn a_device_nobody_may_take_exhausts_the_node() {
    let mut world = world(0);
    let mut here = node(1);
    let instance = NodeDevice { id: "a".into(), healthy: true, ..Default::default() };
    here.node_resources.as_mut().unwrap().devices = vec![NodeDeviceResource {
        vendor: "nvidia".into(),
        kind: "gpu".into(),
        name: "t4".into(),
        instances: vec![instance],
        ..NodeDeviceResource::default()
    }];
    world.add_node(here);
    let wants = |mut job: Job| {
        let ask = RequestedDevice { name: "gpu".into(), ..RequestedDevice::default() };
        job.task_groups[0].tasks[0].resources.as_mut().unwrap().devices = vec![ask];
        job
    };
    world.register(&wants(sized("first", 65, 1, 100, 100)));
    let eval = world.register(&wants(sized("second", 70, 1, 100, 100)));
    assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["devices: gpu"], 1);
}

/// covers: preempt-010
#[test]
fn no_victim_can_be_left_out_of_the_set() {
    let mut world = world(1);
    let (small, large) = (sized("small", 10, 1, 1000, 100), sized("large", 20, 1, 3000, 100));
    world.register(&small);
    world.register(&large);
    // By priority the small one is taken first, and is not enough; the large one is enough alone.
    let high = sized("high", 60, 1, 3000, 100);
    world.register(&high);
    assert_eq!((evicted(&world, &small).len(), evicted(&world, &large).len()), (0, 1));
}

#[test]
fn preemption_is_allowed_for_each_kind_of_job() {
    let mut world = world(1);
    allow(&mut world, false);
    world.register(&sized("low", 10, 2, 2000, 100));
    let high = sized("high", 60, 1, 2000, 100);
    let eval = world.register(&high);
    assert_eq!(eval.queued_allocations["g"], 1);
    let mut each = sized("each", 60, 1, 2000, 100);
    each.kind = Some("system".into());
    world.register(&each);
    assert_eq!(world.live(&each).len(), 0);
    allow(&mut world, true);
    world.register(&Job { id: Some("each2".into()), ..each.clone() });
    let placed: Vec<Allocation> =
        world.state.allocs().filter(|a| a.job_id.as_str() == "each2").map(|a| Allocation::clone(a)).collect();
    assert_eq!((placed.len(), placed[0].preempted_allocations.len()), (1, 1));
}

fn of_kind(kind: &str, priority: i64, cpu: i64) -> Job {
    let mut job = sized(kind, priority, 1, cpu, 100);
    job.kind = Some(kind.into());
    job
}

#[test]
fn service_065_a_service_takes_the_node_of_a_less_important_one() {
    let mut world = world(1);
    let (low, high) = (sized("low", 20, 1, 3000, 100), sized("high", 70, 1, 3000, 100));
    world.register(&low);
    world.register(&high);
    let winner = world.live(&high)[0].clone();
    assert_eq!((evicted(&world, &low), world.live(&low).len()), (vec!["low.g[0]".to_owned()], 0));
    assert_eq!(winner.preempted_allocations, [world.allocs(&low)[0].id.clone()]);
}

#[test]
fn system_004_a_full_node_is_taken_from_the_less_important_only_where_the_configuration_says_so() {
    for kind in ["system", "sysbatch"] {
        for allowed in [false, true] {
            let mut world = World::with_nodes(1);
            allow(&mut world, allowed);
            let low = sized("low", 20, 1, 3000, 100);
            world.register(&low);
            let job = of_kind(kind, 70, 3000);
            let eval = world.register(&job);
            assert_eq!(world.live(&job).len(), usize::from(allowed), "{kind}");
            assert_eq!(evicted(&world, &low).len(), usize::from(allowed), "{kind}");
            if !allowed {
                assert_eq!(eval.failed_tg_allocs["g"].dimension_exhausted["cpu"], 1, "{kind}");
            }
        }
    }
}

#[test]
fn sysbatch_011_nothing_is_evicted_for_a_sysbatch_job_unless_somebody_turned_that_on() {
    let mut world = World::with_nodes(1);
    let low = sized("low", 20, 1, 3000, 100);
    world.register(&low);
    let job = of_kind("sysbatch", 70, 3000);
    world.register(&job);
    assert_eq!((world.live(&job).len(), evicted(&world, &low).len()), (0, 0));
    allow(&mut world, true);
    world.evaluate(&job, "node-update");
    assert_eq!((world.live(&job).len(), evicted(&world, &low).len()), (1, 1));
}

#[test]
fn system_028_a_system_job_evicts_as_many_as_it_needs_and_none_within_ten_points() {
    let mut world = world(1);
    let jobs = [("a", 20), ("b", 30), ("near", 65)].map(|(id, priority)| sized(id, priority, 1, 1200, 100));
    for job in &jobs {
        world.register(job);
    }
    let important = of_kind("system", 70, 2400);
    world.register(&important);
    assert_eq!(world.live(&important).len(), 1);
    assert_eq!(jobs.each_ref().map(|job| evicted(&world, job).len()), [1, 1, 0]);
}
