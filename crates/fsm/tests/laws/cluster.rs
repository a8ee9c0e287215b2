//! The cluster's beginning, roles, leases, remembered requests, configuration.

use fsm::command::{Envelope, Founding, JobRegister, Refusal};
use fsm::{Command, LeaseFence, LeaseName, Reply, WINDOW_MS, read_snapshot};
use model::namespace::{Namespace, NodePool};
use model::scheduler_config::SchedulerConfiguration;
use model::{Index, Role, Term};

use crate::world::{World, eval, job, job_with_count, ns, request, snapshot};

fn register(job: model::Job) -> Command {
    Command::JobRegister(Box::new(JobRegister { job, eval: None, submission: None, enforce_index: None }))
}

fn acquire(holder: &str) -> Command {
    Command::LeaseAcquire { lease: LeaseName::Broker, holder: holder.into(), addr: "a:1".into() }
}

#[test]
fn a_cluster_begins_once_with_its_default_namespace_and_pools() {
    let mut world = World::new();
    let again = Command::ClusterInit { region: "other".into(), epoch: "second".into(), with: None };
    assert!(matches!(world.refuse(Role::State, again), Refusal::Conflict(_)), "fsm-021");
    assert_eq!((world.state.cluster().region.as_str(), world.state.cluster().epoch.as_str()), ("global", "first"));
    assert_eq!(world.state.namespace(&ns()).unwrap().description, "Default shared namespace");
    assert_eq!(world.state.node_pools().map(|pool| pool.name.as_str()).collect::<Vec<_>>(), ["all", "default"]);
    let config = world.state.scheduler_config();
    assert_eq!(
        (config.scheduler_algorithm.as_str(), config.preemption_config.system_scheduler_enabled),
        ("binpack", true)
    );
    world.accept(Role::State, Command::FeatureLevel { level: 3 });
    assert!(matches!(world.refuse(Role::State, Command::FeatureLevel { level: 2 }), Refusal::Conflict(_)));
    assert_eq!((world.state.cluster().feature_level, world.state.cluster().epoch.as_str()), (3, "first"));
}

#[test]
fn a_cluster_begins_with_the_configurations_that_its_founder_gives() {
    let found = |algorithm: &str| {
        let mut state = fsm::State::default();
        let scheduler = SchedulerConfiguration { scheduler_algorithm: algorithm.into(), ..Default::default() };
        let autopilot = model::autopilot::AutopilotConfiguration { min_quorum: 3, ..Default::default() };
        let with = Some(Box::new(Founding { scheduler: Some(scheduler), autopilot: Some(autopilot) }));
        let command = Command::ClusterInit { region: "global".into(), epoch: "e".into(), with };
        let envelope = Envelope { request: None, proposer: Role::State, lease: None, now: 1, command };
        let said = serde_json::to_vec(&envelope).unwrap();
        fsm::apply(&mut state, Index(1), &serde_json::from_slice(&said).unwrap());
        state
    };
    let state = found("spread");
    let scheduler = state.scheduler_config();
    assert_eq!((scheduler.scheduler_algorithm.as_str(), scheduler.modify_index), ("spread", Index(1)));
    assert!(!scheduler.preemption_config.system_scheduler_enabled, "as it was given, whole");
    assert_eq!((state.autopilot().min_quorum, state.autopilot().create_index), (3, Index(1)));
    assert!(found("best").cluster().epoch.is_empty(), "nonsense founds nothing");
}

#[test]
fn every_command_is_refused_from_a_role_that_does_not_propose_it() {
    let mut world = World::new();
    let commands: Vec<(Command, &[Role])> = vec![
        (Command::FeatureLevel { level: 0 }, &[Role::State]),
        (acquire("x"), &[Role::Broker]),
        (Command::LeaseExpire { lease: LeaseName::Broker, term: Term(1) }, &[Role::State]),
        (register(job("web")), &[Role::Gateway]),
        (Command::EvalCreate { evals: vec![] }, &[Role::Gateway, Role::Controller]),
        (Command::EvalUpdate { evals: vec![], create: vec![] }, &[Role::Scheduler]),
        (Command::EvalUnblock { evals: vec![], reason: String::new() }, &[Role::Broker]),
        (Command::EvalFinish { evals: vec![], create: vec![] }, &[Role::Broker]),
        (Command::PlanApply { plans: vec![] }, &[Role::Applier]),
        (Command::AllocClientUpdate { updates: vec![], evals: vec![] }, &[Role::Controller]),
        (Command::NamespaceUpsert { namespaces: vec![] }, &[Role::Gateway]),
        (Command::NodeSuspect { suspects: Default::default() }, &[Role::Controller]),
        (Command::Reap { evals: vec![], allocs: vec![], deployments: vec![], jobs: vec![] }, &[Role::Controller]),
    ];
    let roles = [
        Role::Gateway,
        Role::State,
        Role::Broker,
        Role::Scheduler,
        Role::Applier,
        Role::Controller,
        Role::Agent,
        Role::Autoscaler,
        Role::Operator,
    ];
    for (command, allowed) in commands {
        for role in roles.into_iter().filter(|role| !allowed.contains(role)) {
            let refusal = world.refuse(role, command.clone());
            assert!(matches!(refusal, Refusal::WrongRole { .. }), "{role} {command:?}: {refusal}");
        }
    }
}

#[test]
fn a_lease_goes_to_whoever_finds_it_free_and_its_term_grows_with_each_holder() {
    let mut world = World::new();
    assert_eq!(
        world.refuse(Role::Broker, acquire("two")),
        Refusal::LeaseHeld { lease: LeaseName::Broker, holder: "one".into(), term: Term(1) }
    );
    let expire = |term| Command::LeaseExpire { lease: LeaseName::Broker, term };
    assert!(matches!(world.refuse(Role::State, expire(Term(9))), Refusal::StaleLease { .. }));
    world.accept(Role::State, expire(Term(1)));
    world.accept(Role::State, expire(Term(1)));
    assert!(world.last.is_empty(), "it is free already");
    assert_eq!(world.accept(Role::Broker, acquire("two")), Reply::Lease { term: Term(2) });
    assert_eq!(world.state.lease(LeaseName::Broker).unwrap().index, world.index());
    assert_eq!(world.accept(Role::Broker, acquire("two")), Reply::Lease { term: Term(3) }, "another life of it");
    let release = |term| Command::LeaseRelease { lease: LeaseName::Broker, holder: "two".into(), term };
    assert!(matches!(world.refuse(Role::Broker, release(Term(2))), Refusal::StaleLease { .. }));
    world.accept(Role::Broker, release(Term(3)));
    assert_eq!(world.accept(Role::Broker, acquire("one")), Reply::Lease { term: Term(4) });
}

#[test]
fn a_command_under_a_stale_or_foreign_lease_is_refused() {
    let mut world = World::new();
    let finish = || Command::EvalFinish { evals: vec![], create: vec![] };
    let bad = [
        None,
        Some(LeaseFence { lease: LeaseName::Broker, term: Term(0) }),
        Some(LeaseFence { lease: LeaseName::Broker, term: Term(2) }),
        Some(LeaseFence { lease: LeaseName::Applier, term: Term(1) }),
    ];
    for lease in bad {
        let mut envelope = world.envelope(Role::Broker, finish());
        envelope.lease = lease;
        assert!(matches!(world.run(envelope), Reply::Refused(Refusal::StaleLease { current: Term(1), .. })));
    }
    world.accept(Role::Broker, finish());
    world.accept(Role::State, Command::LeaseExpire { lease: LeaseName::Broker, term: Term(1) });
    assert!(matches!(world.refuse(Role::Broker, finish()), Refusal::StaleLease { .. }), "free is not held");
    world.accept(Role::Controller, Command::EvalCreate { evals: vec![] });
    let mut envelope = world.envelope(Role::Controller, Command::EvalCreate { evals: vec![] });
    envelope.lease = None;
    assert!(matches!(world.run(envelope), Reply::Refused(Refusal::StaleLease { .. })));
}

#[test]
fn a_request_that_comes_again_is_answered_again_and_not_run_again() {
    let mut world = World::new();
    let at = |world: &World| u64::try_from(world.now / 1_000_000).unwrap();
    let id = request(at(&world), 1);
    let mut envelope = world.envelope(Role::Gateway, register(job("web")));
    envelope.request = id;
    let first = world.run(envelope.clone());
    world.register(job_with_count("web", 9));
    assert_eq!(world.run(envelope.clone()), first);
    assert!(world.last.is_empty());
    let later = Envelope { now: envelope.now + 1, ..envelope.clone() };
    assert_eq!(world.run(later.clone()), first, "at another time");
    let (index, sorted) = (world.state.index().next(), serde_json::to_value(&later).unwrap().to_string());
    let outcome = fsm::apply_entry(&mut world.state.clone(), index, &later, sorted.as_bytes());
    assert_eq!((outcome.reply, outcome.changes), (first.clone(), Vec::new()), "written another way");
    assert_eq!(world.job("web").lookup_group("g").unwrap().count(), 9, "the newer registration stands");
    let mut other = world.envelope(Role::Gateway, register(job("else")));
    other.request = id;
    assert_eq!(world.run(other), Reply::Refused(Refusal::RequestReused));
    // Also after a restart from a snapshot.
    world.state = read_snapshot(&snapshot(&world.state, None)[..]).unwrap();
    world.full = world.state.clone();
    assert_eq!(world.run(envelope.clone()), first);
    // And when the window has gone by, it is refused.
    world.now += i64::try_from(WINDOW_MS).unwrap() * 1_000_000 + 5_000_000;
    let mut later = world.envelope(Role::Gateway, register(job("later")));
    later.request = request(at(&world), 2);
    world.run(later);
    assert_eq!(world.run(envelope), Reply::Refused(Refusal::RequestTooOld));
}

#[test]
fn a_refusal_is_remembered_too_and_the_window_is_not_in_the_feed() {
    let mut world = World::new();
    let mut envelope = world.envelope(Role::Broker, acquire("two"));
    envelope.request = request(u64::try_from(world.now / 1_000_000).unwrap(), 4);
    let refusal = world.run(envelope.clone());
    assert!(matches!(refusal, Reply::Refused(Refusal::LeaseHeld { .. })));
    world.accept(Role::State, Command::LeaseExpire { lease: LeaseName::Broker, term: Term(1) });
    assert_eq!(world.run(envelope), refusal, "one request has one answer");
    world.assert_followed();
    assert!(snapshot(&world.state, None) != snapshot(&world.full, None));
}

#[test]
fn fsm_019_the_scheduler_is_configured_by_compare_and_set() {
    let mut world = World::new();
    let index = world.state.scheduler_config().modify_index;
    let set = |algorithm: &str, cas| {
        let config = SchedulerConfiguration { scheduler_algorithm: algorithm.into(), ..Default::default() };
        Command::SchedulerConfigSet { config: Box::new(config), cas }
    };
    let refusal = world.refuse(Role::Gateway, set("magic", None));
    assert_eq!(refusal.to_string(), "invalid scheduler algorithm: magic");
    let stale = world.accept(Role::Gateway, set("spread", Some(Index(999))));
    assert_eq!((stale, world.last.len()), (Reply::Set { updated: false }, 0));
    assert_eq!(world.accept(Role::Gateway, set("spread", Some(index))), Reply::Set { updated: true });
    let config = world.state.scheduler_config();
    assert_eq!((config.create_index, config.modify_index), (index, world.index()));
    assert_eq!(config.scheduler_algorithm, "spread");
}

#[test]
fn namespaces_and_pools_are_named_well_and_built_in_pools_stay() {
    let mut world = World::new();
    let namespace = |name: &str| Namespace { name: name.into(), ..Namespace::default() };
    for bad in ["", "a b", "a/b", &"x".repeat(129)] {
        let namespaces = vec![namespace("fine"), namespace(bad)];
        let refusal = world.refuse(Role::Gateway, Command::NamespaceUpsert { namespaces });
        assert!(refusal.to_string().starts_with(&format!("Invalid namespace \"{bad}\"")));
    }
    let command = Command::NamespaceUpsert { namespaces: vec![namespace("dev")] };
    world.accept(Role::Gateway, command.clone());
    let made = world.index();
    world.accept(Role::Gateway, command);
    assert!(world.last.is_empty());
    assert_eq!(world.state.namespace(&"dev".into()).unwrap().create_index, made);
    let mut other = job("web");
    other.namespace = Some("dev".into());
    world.register(other);
    assert!(world.state.job(&"dev".into(), &"web".into()).is_some() && world.state.job(&ns(), &"web".into()).is_none());
    let pool =
        |name: &str| Command::NodePoolUpsert { pools: vec![NodePool { name: name.into(), ..NodePool::default() }] };
    for built_in in ["all", "default"] {
        let text = format!("modifying node pool \"{built_in}\" is not allowed");
        assert_eq!(world.refuse(Role::Gateway, pool(built_in)).to_string(), text);
    }
    world.refuse(Role::Gateway, pool("no spaces"));
    world.accept(Role::Gateway, pool("gpu_1"));
    assert!(world.state.node_pool("gpu_1").is_some());
}

#[test]
fn an_index_that_does_not_grow_changes_nothing() {
    let mut world = World::new();
    let before = snapshot(&world.state, None);
    let envelope = world.envelope(Role::Gateway, Command::EvalCreate { evals: vec![eval("e", &"web".into())] });
    for index in [Index(0), world.index()] {
        let outcome = fsm::apply(&mut world.state, index, &envelope);
        assert!(matches!(outcome.reply, Reply::Refused(Refusal::Invalid(_))));
    }
    assert_eq!(snapshot(&world.state, None), before);
}
