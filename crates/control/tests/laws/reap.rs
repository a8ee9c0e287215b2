//! Forgetting what is over. Ids: `s-` server scenarios, `q-` scheduler scenarios.

use control::reap::{Settings, decide};
use fsm::Command;
use model::job::JobVersionTag;
use model::{
    ClientStatus, Deployment, DeploymentStatus, DesiredStatus, EvalStatus, Evaluation, Job, Nanos, Node, NodeStatus,
    Timestamp,
};

use crate::world::{NOW, S, World, deployment_of, group, job, policy, tracker};

const HOUR: i64 = 3_600;

#[derive(Debug, Default, PartialEq)]
struct Named {
    evals: Vec<String>,
    allocs: Vec<String>,
    deployments: Vec<String>,
    jobs: Vec<String>,
    nodes: Vec<String>,
}

fn later(hours: i64) -> Timestamp {
    NOW.plus(Nanos::from_secs(hours * HOUR))
}

fn named(world: &World, settings: &Settings, now: Timestamp) -> Named {
    let mut named = Named::default();
    for command in decide(&world.state, settings, now) {
        match command {
            Command::Reap { evals, allocs, deployments, jobs } => {
                named.evals.extend(evals.iter().map(ToString::to_string));
                named.allocs.extend(allocs.iter().map(ToString::to_string));
                named.deployments.extend(deployments.iter().map(ToString::to_string));
                named.jobs.extend(jobs.iter().map(|(_, id)| id.to_string()));
            }
            Command::NodeDeregister { nodes, .. } => named.nodes.extend(nodes.iter().map(ToString::to_string)),
            other => panic!("{other:?}"),
        }
    }
    named
}

fn after(world: &World, hours: i64) -> Named {
    named(world, &Settings::default(), later(hours))
}

fn eval(world: &mut World, id: &str, job: &Job, status: EvalStatus) {
    world.eval(Evaluation {
        id: id.into(),
        namespace: job.namespace(),
        job_id: job.id(),
        kind: job.kind_text().to_owned(),
        status,
        create_time: NOW.0,
        modify_time: NOW.0,
        ..Evaluation::default()
    });
}

fn alloc(world: &mut World, id: &str, job: &Job, eval: &str, edit: impl FnOnce(&mut model::Allocation)) {
    world.alloc(id, job, "n", |row| {
        row.eval_id = eval.into();
        row.client_status = ClientStatus::Complete;
        edit(row);
    });
}

/// q-core-001, s-gc-001, and after the effect there is nothing left.
#[test]
fn a_finished_eval_goes_after_an_hour_with_its_allocs() {
    let mut world = World::new();
    let web = world.job(job("web", "service"));
    eval(&mut world, "e", &web, EvalStatus::Complete);
    eval(&mut world, "open", &web, EvalStatus::Blocked);
    alloc(&mut world, "a", &web, "e", |_| {});
    let young = named(&world, &Settings::default(), Timestamp(later(1).0 - 1));
    assert_eq!(young, Named::default());
    let old = after(&world, 1);
    assert_eq!((old.evals, old.allocs), (vec!["e".to_owned()], vec!["a".to_owned()]));
    for command in decide(&world.state, &Settings::default(), later(1)) {
        world.perform(command);
    }
    assert_eq!(after(&world, 1), Named::default());
    assert!(world.state.eval(&"e".into()).is_none() && world.state.alloc(&"a".into()).is_none());
    assert!(world.state.eval(&"open".into()).is_some());
}

/// q-core-002, s-gc-002, s-gc-003, s-gc-006.
#[test]
fn a_failed_alloc_is_kept_while_it_may_be_rescheduled() {
    let mut world = World::new();
    let mut spec = job("web", "service");
    spec.task_groups[0].reschedule_policy = Some(policy(true, 0));
    let web = world.job(spec.clone());
    eval(&mut world, "e", &web, EvalStatus::Complete);
    let failed = |row: &mut model::Allocation| row.client_status = ClientStatus::Failed;
    alloc(&mut world, "waits", &web, "e", failed);
    alloc(&mut world, "replaced", &web, "e", |row| {
        failed(row);
        row.next_allocation = "x".into();
    });
    alloc(&mut world, "stopped", &web, "e", |row| {
        failed(row);
        row.desired_status = DesiredStatus::Stop;
    });
    alloc(&mut world, "still-running", &web, "e", |row| {
        row.client_status = ClientStatus::Running;
        row.desired_status = DesiredStatus::Stop;
    });
    let some = after(&world, 2);
    assert_eq!((some.evals.len(), some.allocs), (0, vec!["replaced".to_owned(), "stopped".to_owned()]));
    world.job(Job { stop: Some(true), ..spec });
    assert!(after(&world, 2).allocs.contains(&"waits".to_owned()));
}

#[test]
fn a_limited_policy_keeps_a_failed_alloc_for_an_interval_after_its_last_try() {
    let mut world = World::new();
    let mut spec = job("web", "service");
    spec.task_groups[0].reschedule_policy = Some(policy(false, 1));
    let web = world.job(spec);
    eval(&mut world, "e", &web, EvalStatus::Complete);
    for (id, tried) in [("never", None), ("recent", Some(90 * 60)), ("long-ago", Some(0))] {
        alloc(&mut world, id, &web, "e", |row| {
            row.client_status = ClientStatus::Failed;
            row.reschedule_tracker = tried.map(|after_s| tracker(&[NOW.0 + after_s * S]));
        });
    }
    assert_eq!(after(&world, 2).allocs, ["long-ago"]);
}

/// q-core-003, s-gc-004, s-gc-005.
#[test]
fn a_live_batch_job_keeps_the_allocs_of_its_present_version() {
    let mut world = World::new();
    let first = world.job(job("sum", "batch"));
    let second = world.job(Job { priority: Some(60), ..job("sum", "batch") });
    for (eval_id, alloc_id, version) in [("e1", "a1", &first), ("e2", "a2", &second)] {
        eval(&mut world, eval_id, version, EvalStatus::Complete);
        alloc(&mut world, alloc_id, version, eval_id, |_| {});
    }
    assert_eq!(after(&world, 23), Named::default());
    let old = after(&world, 25);
    assert_eq!((old.evals.len(), old.allocs), (0, vec!["a1".to_owned()]));
}

/// q-core-004, q-core-005, s-gc-004, s-gc-007, s-gc-008, s-gc-009.
#[test]
fn a_job_goes_after_four_hours_when_it_is_over_for_good() {
    let dead = |id: &str, kind: &str| Job { status: Some("dead".into()), ..job(id, kind) };
    let stop = |job: Job| Job { stop: Some(true), ..job };
    let mut world = World::new();
    let sum = world.job(dead("one-shot", "batch"));
    eval(&mut world, "e", &sum, EvalStatus::Complete);
    alloc(&mut world, "a", &sum, "e", |_| {});
    world.job(stop(dead("stopped", "service")));
    world.job(dead("service-not-stopped", "service"));
    world.job(job("running", "batch"));
    let tag = Some(JobVersionTag { name: "keep".into(), ..JobVersionTag::default() });
    world.job(Job { version_tag: tag, ..stop(dead("tagged", "service")) });
    let open = world.job(stop(dead("open-eval", "service")));
    eval(&mut world, "open", &open, EvalStatus::Pending);
    let parent = |id: &str| Job { parameterized_job: Some(Default::default()), ..dead(id, "batch") };
    world.job(parent("parent"));
    world.job(stop(parent("parent-stopped")));
    assert_eq!(after(&world, 3), Named::default());
    let old = after(&world, 4);
    assert_eq!(old.jobs, ["one-shot", "parent-stopped", "stopped"]);
    assert_eq!((old.evals, old.allocs), (vec!["e".to_owned()], vec!["a".to_owned()]));
    for command in decide(&world.state, &Settings::default(), later(4)) {
        world.perform(command);
    }
    assert_eq!(after(&world, 4).jobs.len(), 0);
    assert!(world.state.job(&"default".into(), &"one-shot".into()).is_none());
}

/// q-core-006, s-gc-010.
#[test]
fn a_node_goes_after_a_day_down_unless_something_may_live_there() {
    let mut world = World::new();
    let web = world.job(job("web", "service"));
    for (id, status) in [("n", NodeStatus::Down), ("empty", NodeStatus::Down), ("up", NodeStatus::Ready)] {
        let status_updated_at = NOW.0 / S;
        world.put_node(Node { id: id.into(), status, status_updated_at, ..Node::default() });
    }
    world.alloc("a", &web, "n", |_| {});
    assert_eq!(after(&world, 23).nodes.len(), 0);
    assert_eq!(after(&world, 24).nodes, ["empty"]);
    world.alloc("a", &web, "n", |row| row.client_status = ClientStatus::Lost);
    assert_eq!(after(&world, 24).nodes, ["empty", "n"]);
    for command in decide(&world.state, &Settings::default(), later(24)) {
        world.perform(command);
    }
    assert_eq!(after(&world, 24).nodes.len(), 0);
}

/// q-core-007, s-gc-011.
#[test]
fn a_deployment_goes_an_hour_after_its_end_unless_its_allocs_live() {
    let mut world = World::new();
    let web = world.job(job("web", "service"));
    for (id, status) in [
        ("over", DeploymentStatus::Failed),
        ("live", DeploymentStatus::Successful),
        ("active", DeploymentStatus::Running),
    ] {
        let modify_time = NOW.0;
        world.deployment(Deployment { id: id.into(), status, modify_time, ..deployment_of(&web, group(1, 0, 0)) });
    }
    world.alloc("a", &web, "n", |row| row.deployment_id = "live".into());
    assert_eq!(after(&world, 1).deployments, ["over"]);
}

/// q-core-008, s-gc-012.
#[test]
fn a_forced_collection_does_not_wait_but_takes_only_what_is_over() {
    let mut world = World::new();
    let web = world.job(job("web", "service"));
    eval(&mut world, "e", &web, EvalStatus::Complete);
    eval(&mut world, "open", &web, EvalStatus::Pending);
    let forced = named(&world, &Settings::forced(), NOW);
    assert_eq!(forced.evals, ["e"]);
}

/// q-core-009: bounded commands, and all of it in the end.
#[test]
fn much_is_forgotten_in_bounded_steps() {
    let mut world = World::new();
    let web = world.job(job("web", "service"));
    for n in 0..100 {
        eval(&mut world, &format!("e{n:03}"), &web, EvalStatus::Complete);
    }
    let big = world.job(Job { status: Some("dead".into()), ..job("big", "batch") });
    for n in 0..25 {
        eval(&mut world, &format!("b{n:03}"), &big, EvalStatus::Complete);
    }
    let settings = Settings { rows_max: 10, commands_max: 4, ..Settings::default() };
    for _ in 0..10 {
        let commands = decide(&world.state, &settings, later(30));
        assert!(commands.len() <= 4);
        for command in commands {
            if let Command::Reap { evals, allocs, deployments, jobs } = &command {
                assert!(evals.len() + allocs.len() + deployments.len() + jobs.len() <= 10);
            }
            world.perform(command);
        }
    }
    assert_eq!(world.state.evals().count(), 0);
    assert!(world.state.job(&"default".into(), &"big".into()).is_none());
    assert!(decide(&world.state, &settings, later(30)).is_empty());
}
