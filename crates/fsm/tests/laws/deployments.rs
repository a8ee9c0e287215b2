//! Deployments: counters, verdicts, promotion, the end, the way back.

use fsm::command::{DeploymentUpdate, Refusal};
use fsm::{Command, PlanDeploymentUpdate, Reply};
use model::alloc::AllocDeploymentStatus;
use model::{DeploymentStatus, Evaluation, NodeFence, Role, Timestamp};

use crate::world::{self, World, eval, ids, job, job_with_count, ns};

const MINUTES_10: i64 = 600_000_000_000;

/// A job whose deployment `d` placed `a` and `b`.
fn deploying(canaries: i64) -> World {
    let mut world = World::new();
    world.node("n1");
    world.register(job("web"));
    let mut plan = world.plan("web");
    plan.deployment = Some(world::new_deployment("d", canaries));
    for id in ["a", "b"] {
        world.put(&mut plan, "n1", id);
        let row = plan.parts.get_mut("n1").unwrap().place.last_mut().unwrap();
        row.deployment_id = "d".into();
        let canary = canaries > 0;
        row.deployment_status = canary.then(|| AllocDeploymentStatus { canary, ..AllocDeploymentStatus::default() });
    }
    assert!(world.apply_plan(plan).is_full());
    world
}

fn update(status: Option<DeploymentStatus>) -> DeploymentUpdate {
    DeploymentUpdate { id: "d".into(), status, description: "said".into(), ..DeploymentUpdate::default() }
}

fn refused(reply: &Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal.clone(),
        reply => panic!("{reply:?}"),
    }
}

#[test]
fn a_deployment_counts_what_is_placed_and_gives_it_time() {
    let world = deploying(0);
    let row = world.deployment("d");
    assert_eq!((row.create_index, row.modify_index, row.job_version), (world.index(), world.index(), 0));
    assert_eq!(Some(row.job_create_index), world.job("web").create_index);
    assert_eq!((world.group("d").placed_allocs, world.group("d").healthy_allocs), (2, 0));
    assert_eq!(world.group("d").require_progress_by.0, row.create_time + MINUTES_10);
    assert_eq!(world.state.allocs_of_deployment(&"d".into()).count(), 2);
    assert_eq!(world.state.latest_deployment(&ns(), &"web".into()).unwrap().id, "d");
}

#[test]
fn deploy_020_each_verdict_is_counted_once_and_a_healthy_one_gives_time() {
    let mut world = deploying(0);
    world.now += 60_000_000_000;
    world.tell_health("a", true);
    assert_eq!((world.group("d").healthy_allocs, world.group("d").unhealthy_allocs), (1, 0));
    let health = world.alloc("a").deployment_status.clone().unwrap();
    assert_eq!((health.healthy, health.modify_index), (Some(true), world.index()));
    assert_eq!(world.group("d").require_progress_by, health.timestamp.plus(model::Nanos(MINUTES_10)));
    world.tell_health("a", true);
    assert_eq!(world.group("d").healthy_allocs, 1);
    world.tell_health("a", false);
    assert_eq!((world.group("d").healthy_allocs, world.group("d").unhealthy_allocs), (0, 1), "it moves over");
    world.tell("a", model::ClientStatus::Running);
    assert_eq!(world.alloc("a").is_healthy(), Some(false), "a verdict cannot be taken back");
}

#[test]
fn store_031_a_job_that_deploys_is_running() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    let mut plan = world.plan("web");
    plan.deployment = Some(world::new_deployment("d", 0));
    world.apply_plan(plan);
    world.finish_eval(first.unwrap().as_str());
    assert_eq!(world.status("web"), "running");
    world.update_deployment(update(Some(DeploymentStatus::Failed)));
    assert_eq!(world.status("web"), "dead");
}

#[test]
fn store_071_counters_and_promotion_are_not_the_plans_to_write() {
    let mut world = deploying(1);
    world.tell_health("a", true);
    world.tell_health("b", true);
    world.update_deployment(DeploymentUpdate { promote: vec!["g".into()], ..update(None) });
    let mut plan = world.plan("web");
    let mut again = world::new_deployment("d", 1);
    again.task_groups.get_mut("g").unwrap().placed_allocs = 40;
    again.task_groups.insert("more".into(), Default::default());
    plan.deployment = Some(again);
    world.apply_plan(plan);
    assert_eq!((world.group("d").placed_allocs, world.group("d").healthy_allocs), (2, 2));
    assert!(world.group("d").promoted, "store-072");
    assert!(world.deployment("d").task_groups.contains_key("more"));
}

#[test]
fn plan_009_plan_apply_013_a_canary_is_one_that_was_placed() {
    let mut world = World::new();
    world.node("n1");
    world.node("n2");
    world.register(job("web"));
    let mut plan = world.plan("web");
    let mut wanted = world::new_deployment("d", 2);
    wanted.task_groups.get_mut("g").unwrap().placed_canaries = ids(&["a", "b"]);
    plan.deployment = Some(wanted);
    for (node, id) in [("n1", "a"), ("n2", "b")] {
        world.put(&mut plan, node, id);
        let row = &mut plan.parts.get_mut(node).unwrap().place[0];
        row.deployment_id = "d".into();
        row.deployment_status = Some(AllocDeploymentStatus { canary: true, ..AllocDeploymentStatus::default() });
    }
    plan.parts.get_mut("n2").unwrap().fence = NodeFence(1);
    assert!(!world.apply_plan(plan).is_full());
    assert_eq!((world.group("d").placed_canaries.clone(), world.group("d").placed_allocs), (ids(&["a"]), 1));
}

#[test]
fn an_allocation_that_joins_a_deployment_is_judged_anew() {
    let mut world = deploying(0);
    world.tell_health("a", true);
    world.register(job_with_count("web", 3));
    let mut plan = world.plan("web");
    plan.deployment = Some(world::new_deployment("d2", 0));
    let mut row = world::alloc("a", 100);
    row.deployment_id = "d2".into();
    plan.parts.entry("n1".into()).or_default().update.push(row);
    assert!(world.apply_plan(plan).is_full());
    assert_eq!((world.alloc("a").deployment_id.as_str(), world.alloc("a").is_healthy()), ("d2", None));
    assert_eq!(world.group("d2").placed_allocs, 1);
    world.tell_health("a", true);
    assert_eq!((world.group("d2").healthy_allocs, world.group("d").healthy_allocs), (1, 1));
}

#[test]
fn store_073_a_successful_deployment_proves_its_version() {
    let mut world = deploying(0);
    let version = world.job("web").job_modify_index;
    let mut plan = world.plan("web");
    plan.deployment_updates.push(PlanDeploymentUpdate {
        id: "d".into(),
        status: DeploymentStatus::Successful,
        description: "Deployment completed successfully".into(),
    });
    world.apply_plan(plan);
    assert_eq!(world.deployment("d").status, DeploymentStatus::Successful);
    assert!(world.job("web").is_stable());
    assert_eq!((world.job("web").version(), world.job("web").job_modify_index), (0, version));
    let mut plan = world.plan("web");
    let status = DeploymentStatus::Cancelled;
    plan.deployment_updates.push(PlanDeploymentUpdate { id: "d".into(), status, description: "late".into() });
    world.apply_plan(plan);
    assert_eq!(world.deployment("d").status, DeploymentStatus::Successful, "what is over stays as it is");
}

#[test]
fn deploy_001_002_an_unknown_or_finished_deployment_takes_no_order() {
    let mut world = deploying(0);
    let unknown = DeploymentUpdate { id: "nope".into(), ..update(Some(DeploymentStatus::Failed)) };
    assert_eq!(refused(&world.update_deployment(unknown)).to_string(), "deployment not found");
    world.update_deployment(update(Some(DeploymentStatus::Failed)));
    assert_eq!(world.deployment("d").status_description, "said");
    for (status, text) in [
        (DeploymentStatus::Failed, "can't fail terminal deployment"),
        (DeploymentStatus::Paused, "can't pause terminal deployment"),
        (DeploymentStatus::Running, "can't resume terminal deployment"),
        (DeploymentStatus::Unblocking, "can't unblock terminal deployment"),
    ] {
        assert_eq!(refused(&world.update_deployment(update(Some(status)))).to_string(), text);
    }
    let promote = DeploymentUpdate { promote: vec!["g".into()], ..update(None) };
    assert_eq!(refused(&world.update_deployment(promote)).to_string(), "can't promote terminal deployment");
    let health = DeploymentUpdate { healthy: ids(&["a"]), ..update(None) };
    let text = "can't set health of allocations for a terminal deployment";
    assert_eq!(refused(&world.update_deployment(health)).to_string(), text);
}

#[test]
fn deploy_005_health_is_set_by_hand_for_its_own_allocations_only() {
    let mut world = deploying(0);
    world.place("web", "n1", &["stranger"]);
    for bad in ["stranger", "nobody"] {
        let mixed = DeploymentUpdate { healthy: ids(&["a", bad]), ..update(None) };
        assert!(matches!(refused(&world.update_deployment(mixed)), Refusal::Invalid(_)));
        assert_eq!(world.alloc("a").is_healthy(), None, "all or nothing");
    }
    let both = DeploymentUpdate { healthy: ids(&["a"]), unhealthy: ids(&["b"]), ..update(None) };
    assert_eq!(world.update_deployment(both), Reply::Done);
    assert_eq!((world.group("d").healthy_allocs, world.group("d").unhealthy_allocs), (1, 1));
}

#[test]
fn deploy_006_007_008_016_canaries_are_promoted_when_all_of_them_are_healthy() {
    let mut world = deploying(2);
    assert_eq!(world.group("d").placed_canaries, ids(&["a", "b"]));
    let promote = DeploymentUpdate { promote: vec!["g".into()], description: String::new(), ..update(None) };
    world.tell_health("a", true);
    let text = refused(&world.update_deployment(promote.clone())).to_string();
    assert!(text.contains("\"g\"") && text.contains("1/2"), "{text}");
    world.tell_health("b", true);
    world.now += 5_000_000_000;
    let with_eval = DeploymentUpdate { eval: Some(eval("go", &"web".into())), ..promote };
    assert_eq!(world.update_deployment(with_eval), Reply::Done);
    let group = world.group("d");
    assert!(group.promoted);
    assert_eq!(group.require_progress_by, Timestamp(world.now).plus(model::Nanos(MINUTES_10)));
    assert!(!world.alloc("a").is_canary() && !world.alloc("b").is_canary());
    assert_eq!(world.alloc("a").alloc_modify_index, world.index());
    assert_eq!(world.deployment("d").status_description, "Deployment is running");
    assert_eq!(world.eval("go").create_index, world.index());
    let mut plain = deploying(0);
    let nothing = DeploymentUpdate { promote: vec!["g".into()], ..update(None) };
    plain.update_deployment(nothing);
    assert!(!plain.group("d").promoted, "without canaries there is nothing to promote");
}

#[test]
fn deploy_011_013_a_pause_and_its_end_set_the_time_anew() {
    let mut world = deploying(0);
    let by = Timestamp(world.now + 77);
    let status = Some(DeploymentStatus::Paused);
    world.update_deployment(DeploymentUpdate { progress_by: [("g".to_owned(), by)].into(), ..update(status) });
    assert_eq!((world.deployment("d").status, world.group("d").require_progress_by), (DeploymentStatus::Paused, by));
    world.update_deployment(update(Some(DeploymentStatus::Running)));
    assert_eq!(world.deployment("d").status, DeploymentStatus::Running);
}

#[test]
fn deploy_003_004_a_failure_goes_back_to_the_given_version_once() {
    let mut world = deploying(0);
    world.update_deployment(DeploymentUpdate { mark_stable: true, ..update(None) });
    let stable = world.job("web").clone();
    world.register(job_with_count("web", 9));
    let mut plan = world.plan("web");
    plan.deployment = Some(world::new_deployment("d2", 0));
    world.apply_plan(plan);
    let back = DeploymentUpdate {
        id: "d2".into(),
        rollback: Some(Box::new(stable.clone())),
        eval: Some(Evaluation { deployment_id: "d2".into(), ..eval("back", &"web".into()) }),
        ..update(Some(DeploymentStatus::Failed))
    };
    world.update_deployment(back);
    let row = world.job("web").clone();
    assert_eq!((row.version(), row.is_stable(), row.lookup_group("g").unwrap().count()), (2, false, 2));
    assert_eq!(row.job_modify_index, Some(world.index()));
    assert_eq!(world.eval("back").job_modify_index, world.index());
    assert_eq!(world.deployment("d2").status, DeploymentStatus::Failed);
    // The same specification, or a job that somebody changed meanwhile, is left alone.
    for (register, deployment) in [(false, "d3"), (true, "d4")] {
        let mut plan = world.plan("web");
        plan.deployment = Some(world::new_deployment(deployment, 0));
        world.apply_plan(plan);
        let mut to = world.job("web").clone();
        if register {
            to = stable.clone();
            world.register(job_with_count("web", 33));
        }
        let version = world.job("web").version();
        let rollback = Some(Box::new(to));
        let status = Some(DeploymentStatus::Failed);
        world.update_deployment(DeploymentUpdate { id: deployment.into(), rollback, ..update(status) });
        assert_eq!(world.job("web").version(), version, "{deployment}");
    }
}

#[test]
fn a_finished_deployment_is_forgotten_and_an_active_one_is_kept() {
    let mut world = deploying(0);
    let reap = Command::Reap { evals: vec![], allocs: vec![], deployments: vec!["d".into()], jobs: vec![] };
    world.accept(Role::Controller, reap.clone());
    assert!(world.state.deployment(&"d".into()).is_some());
    world.update_deployment(update(Some(DeploymentStatus::Successful)));
    world.accept(Role::Controller, reap);
    assert!(world.state.deployment(&"d".into()).is_none());
    world.tell_health("a", true);
    assert_eq!(world.alloc("a").is_healthy(), Some(true), "its allocations go on");
}
