//! Whatever jobs come: nobody is given what another has, and nothing panics.

use std::collections::BTreeSet;

use model::job::{Affinity, Constraint, Spread, SpreadTarget};
use model::node::{NodeDevice, NodeDeviceResource};
use model::resources::{NetworkResource, Port, RequestedDevice, Resources};
use model::scheduler_config::{PreemptionConfig, SchedulerConfiguration};
use model::{Allocation, EvalStatus, Job, Role};
use proptest::prelude::*;

use crate::world::{World, job, node};

#[derive(Clone, Debug)]
struct Wish {
    priority: i64,
    count: i64,
    cpu: i64,
    memory: i64,
    cores: i64,
    gpus: u64,
    fixed_port: bool,
    any_port: bool,
    system: bool,
    stop_before: Option<u8>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let size = (1..5_i64, 100..2500_i64, 100..5000_i64, prop_oneof![4 => Just(0_i64), 1 => 1..4_i64]);
    let more = (0..4_u64, prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.15));
    let rest = (prop_oneof![Just(10_i64), Just(30), Just(50), Just(90)], prop::option::weighted(0.3, any::<u8>()));
    (size, more, rest).prop_map(|((count, cpu, memory, cores), (gpus, fixed_port, any_port, system), rest)| Wish {
        priority: rest.0,
        count,
        cpu,
        memory,
        cores,
        gpus,
        fixed_port,
        any_port,
        system,
        stop_before: rest.1,
    })
}

fn as_job(n: usize, wish: &Wish) -> Job {
    let mut job = job(if wish.system { "system" } else { "service" }, if wish.system { 1 } else { wish.count });
    (job.id, job.priority) = (Some(format!("job-{n}").into()), Some(wish.priority));
    let mut resources = Resources { memory_mb: Some(wish.memory), ..Resources::default() };
    if wish.cores > 0 {
        resources.cores = Some(wish.cores)
    } else {
        resources.cpu = Some(wish.cpu)
    }
    if wish.gpus > 0 {
        let ask = RequestedDevice { name: "gpu".into(), count: Some(wish.gpus), ..RequestedDevice::default() };
        resources.devices = vec![ask];
    }
    job.task_groups[0].tasks[0].resources = Some(resources);
    let port = |label: &str, value| Port { label: label.into(), value, ..Port::default() };
    job.task_groups[0].networks = vec![NetworkResource {
        mode: "host".into(),
        reserved_ports: wish.fixed_port.then(|| port("fixed", 8080)).into_iter().collect(),
        dynamic_ports: wish.any_port.then(|| port("any", 0)).into_iter().collect(),
        ..NetworkResource::default()
    }];
    job
}

fn world() -> World {
    let mut world = World::new();
    for n in 0..4 {
        let mut node = node(n);
        let instance = |i| NodeDevice { id: format!("gpu-{i}"), healthy: i != 3, ..NodeDevice::default() };
        node.node_resources.as_mut().unwrap().devices = vec![NodeDeviceResource {
            vendor: "nvidia".into(),
            kind: "gpu".into(),
            name: "t4".into(),
            instances: (0..=n).map(instance).collect(),
            ..NodeDeviceResource::default()
        }];
        if n == 2 {
            node.node_max_allocs = 3;
        }
        world.add_node(node);
    }
    let all = PreemptionConfig {
        system_scheduler_enabled: true,
        sys_batch_scheduler_enabled: true,
        batch_scheduler_enabled: true,
        service_scheduler_enabled: true,
    };
    let config = SchedulerConfiguration { preemption_config: all, ..SchedulerConfiguration::default() };
    world.submit(Role::Gateway, fsm::Command::SchedulerConfigSet { config: Box::new(config), cas: None });
    world
}

/// Sums over those that nobody asked to stop, from the rows alone.
fn assert_nobody_has_what_another_has(world: &World) {
    for node in world.state.nodes() {
        let on = |a: &&std::sync::Arc<Allocation>| !a.is_terminal();
        let allocs: Vec<_> = world.state.allocs_of_node(&node.id).filter(on).collect();
        let total = node.node_resources.as_ref().unwrap();
        let usage: Vec<_> = allocs.iter().map(|a| a.usage()).collect();
        assert!(usage.iter().map(|u| u.cpu_mhz).sum::<i64>() <= total.cpu.cpu_shares);
        assert!(usage.iter().map(|u| u.memory_mb).sum::<i64>() <= total.memory.memory_mb);
        let cores: Vec<u16> = usage.iter().flat_map(|u| u.cores.clone()).collect();
        assert_eq!(cores.len(), cores.iter().collect::<BTreeSet<_>>().len(), "a core is given once");
        let devices: Vec<String> = allocs
            .iter()
            .flat_map(|a| a.allocated_resources.iter())
            .flat_map(|r| r.tasks.values())
            .flat_map(|t| t.devices.iter().flat_map(|d| d.device_ids.clone()))
            .collect();
        assert_eq!(devices.len(), devices.iter().collect::<BTreeSet<_>>().len(), "a device is given once");
        assert!(!devices.contains(&"gpu-3".to_owned()), "one that does not work is not given");
        let ports: Vec<_> = allocs.iter().flat_map(|a| a.host_ports()).collect();
        assert_eq!(ports.len(), ports.iter().collect::<BTreeSet<_>>().len(), "a port is given once");
        let most = usize::try_from(node.node_max_allocs).unwrap();
        assert!(most == 0 || allocs.len() <= most, "at most as many as the node takes");
    }
}

fn end_what_was_asked_to(world: &mut World) {
    let ending: Vec<_> =
        world.state.allocs().filter(|a| a.server_terminal() && !a.client_terminal()).cloned().collect();
    for alloc in ending {
        world.report(&alloc, model::ClientStatus::Complete);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn no_node_is_ever_given_more_than_it_has(wishes in prop::collection::vec(wish(), 1..10), end in any::<bool>()) {
        let mut world = world();
        let mut jobs = Vec::new();
        for (n, wish) in wishes.iter().enumerate() {
            if let Some(which) = wish.stop_before.filter(|_| !jobs.is_empty()) {
                let stopped: &Job = &jobs[usize::from(which) % jobs.len()];
                let stopped = stopped.clone();
                world.stop_job(&stopped, false);
            }
            if end {
                end_what_was_asked_to(&mut world);
            }
            let job = as_job(n, wish);
            // The world checks each plan with the applier's rule before it is committed.
            world.register(&job);
            jobs.push(job);
            assert_nobody_has_what_another_has(&world);
            let again = world.eval_for(jobs.last().unwrap(), "job-register");
            let decision = world.decide(&again);
            prop_assert!(decision.plan.parts.values().all(|part| part.place.is_empty()), "idempotent");
        }
    }

    #[test]
    fn what_no_validation_should_let_through_fails_and_never_panics(
        numbers in prop::collection::vec(prop_oneof![
            Just(i64::MIN), Just(i64::MAX), Just(-1_i64), Just(0), Just(1), Just(70_000), any::<i64>()
        ], 12),
        text in "\\PC{0,12}", operand in "\\PC{0,8}", percent in any::<u8>(), kind in 0..4_usize,
    ) {
        let mut world = world();
        let mut bad = job(["service", "batch", "system", "sysbatch"][kind], numbers[0]);
        bad.priority = Some(numbers[1]);
        let port = |n: usize| Port { label: text.clone(), value: numbers[n], to: numbers[n], ..Port::default() };
        let ask = RequestedDevice {
            name: text.clone(),
            count: Some(numbers[2].unsigned_abs()),
            constraints: vec![Constraint { l_target: text.clone(), operand: operand.clone(), r_target: text.clone() }],
            affinities: Vec::new(),
        };
        let group = &mut bad.task_groups[0];
        group.tasks[0].resources = Some(Resources {
            cpu: Some(numbers[3]),
            memory_mb: Some(numbers[4]),
            memory_max_mb: Some(numbers[5]),
            cores: (percent % 2 == 0).then_some(numbers[6]),
            devices: if percent % 3 == 0 { vec![ask] } else { Vec::new() },
            ..Resources::default()
        });
        group.networks =
            vec![NetworkResource { reserved_ports: vec![port(7)], dynamic_ports: vec![port(8)], ..Default::default() }];
        let condition = Constraint { l_target: format!("${{{text}"), operand: operand.clone(), r_target: text.clone() };
        bad.constraints.push(condition.clone());
        bad.constraints.push(Constraint { operand: "distinct_property".into(), ..condition.clone() });
        bad.constraints.push(Constraint { operand: "regexp".into(), r_target: text.clone(), ..condition });
        bad.affinities.push(Affinity {
            l_target: text.clone(),
            operand,
            r_target: text.clone(),
            weight: Some(numbers[9]),
        });
        let target = |percent| SpreadTarget { value: text.clone(), percent };
        bad.spreads.push(Spread {
            attribute: "${meta.rack}".into(),
            weight: Some(numbers[10]),
            spread_target: vec![target(percent), target(255)],
        });
        let eval = world.register_only_unchecked(&bad);
        let decision = world.decide(&eval);
        let row = decision.plan.eval.unwrap();
        if numbers[0] < 0 {
            prop_assert_eq!(row.status, EvalStatus::Failed);
            prop_assert!(!row.status_description.is_empty());
        }
    }
}
