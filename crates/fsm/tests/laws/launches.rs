//! Scaling, tags, and jobs that start others.

use crate::world::{self, World, eval, job, job_with_count, ns};
use fsm::command::{JobDispatch, JobLaunch, JobScale, JobTag, TagSet};
use fsm::{Command, Refusal, Reply, Table};
use model::group::ScalingPolicy;
use model::job::{ParameterizedJobConfig, PeriodicConfig};
use model::scaling::{EVENTS_MAX, ScalingEvent};
use model::{ClientStatus, Index, Job, Role};

const SECOND: i64 = 1_000_000_000;

fn scale(id: &str, count: Option<i64>) -> JobScale {
    JobScale {
        namespace: ns(),
        job_id: id.into(),
        group: "g".into(),
        count,
        event: ScalingEvent { message: "why".into(), ..ScalingEvent::default() },
        eval: Some(eval(&format!("scale-{id}-{}", count.unwrap_or(-1)), &id.into())),
        enforce_index: None,
    }
}

fn scaled(world: &mut World, command: JobScale) -> Reply {
    world.accept(Role::Gateway, Command::JobScale(Box::new(command)))
}

fn not_scaled(world: &mut World, command: JobScale) -> Refusal {
    world.refuse(Role::Gateway, Command::JobScale(Box::new(command)))
}

#[test]
fn a_scaled_group_is_a_new_version_with_its_evaluation_and_its_event() {
    let mut world = World::new();
    world.register(job_with_count("web", 2));
    let Reply::Job { version, eval_id, .. } = scaled(&mut world, scale("web", Some(5))) else { panic!() };
    assert_eq!((version, world.job("web").task_groups[0].count()), (1, 5));
    let row = world.state.job_scaling(&ns(), &"web".into()).unwrap().clone();
    let event = &row.groups["g"][0];
    assert_eq!((event.count, event.previous_count, event.message.as_str()), (Some(5), 2, "why"));
    assert_eq!((&event.eval_id, event.create_index), (&eval_id, world.index()));
    // The same count again: an event and an evaluation, no version.
    let mut again = scale("web", Some(5));
    again.eval = Some(eval("other", &"web".into()));
    let Reply::Job { version, .. } = scaled(&mut world, again) else { panic!() };
    assert_eq!(version, 1);
    world.assert_followed();
    world.deregister("web", true);
    assert!(world.state.job_scaling(&ns(), &"web".into()).is_none());
}

#[test]
fn scale_001_to_009_a_count_that_may_not_be_is_refused_by_name() {
    let mut world = World::new();
    let mut bounded = job_with_count("web", 2);
    bounded.task_groups[0].scaling = Some(ScalingPolicy { min: Some(1), max: Some(3), ..ScalingPolicy::default() });
    let (index, ..) = world.register(bounded);
    let mut text = |command| not_scaled(&mut world, command).to_string();
    assert_eq!(text(scale("web", Some(4))), "group count was greater than scaling policy maximum: 4 > 3", "scale-001");
    assert_eq!(text(scale("web", Some(0))), "group count was less than scaling policy minimum: 0 < 1", "scale-002");
    assert_eq!(text(scale("web", Some(-1))), "scaling action count can't be negative");
    let other = JobScale { group: "nope".into(), ..scale("web", Some(2)) };
    assert_eq!(text(other), "task group \"nope\" specified for scaling does not exist in job", "scale-003");
    assert_eq!(text(scale("none", Some(2))), "job \"none\" not found", "scale-004");
    let stale = JobScale { enforce_index: Some(Index(index.get() + 9)), ..scale("web", Some(2)) };
    assert!(text(stale).starts_with("Enforcing job modify index"), "scale-009");
    let mut system = job("sys");
    system.kind = Some("system".into());
    world.register(system);
    assert!(not_scaled(&mut world, scale("sys", Some(2))).to_string().contains("scaled to 0 or 1"), "scale-005");
    scaled(&mut world, scale("sys", Some(0)));
}

#[test]
fn scale_006_007_a_deployment_blocks_counts_and_not_notes() {
    let mut world = World::new();
    world.register(job_with_count("web", 1));
    world.node("n1");
    let mut plan = world.plan("web");
    plan.deployment = Some(world::new_deployment("d", 1));
    world.put(&mut plan, "n1", "a");
    world.apply_plan(plan);
    assert_eq!(
        not_scaled(&mut world, scale("web", Some(2))).to_string(),
        "job scaling blocked due to active deployment"
    );
    let Reply::Job { eval_id: None, version: 0, .. } = scaled(&mut world, scale("web", None)) else { panic!() };
    let row = world.state.job_scaling(&ns(), &"web".into()).unwrap();
    assert_eq!((row.groups["g"][0].count, &row.groups["g"][0].eval_id), (None, &None));
}

#[test]
fn only_the_newest_events_of_a_group_are_kept() {
    let mut world = World::new();
    world.register(job_with_count("web", 1));
    for n in 0..EVENTS_MAX + 5 {
        let event = ScalingEvent { message: n.to_string(), ..ScalingEvent::default() };
        scaled(&mut world, JobScale { event, ..scale("web", None) });
    }
    let events = &world.state.job_scaling(&ns(), &"web".into()).unwrap().groups["g"];
    assert_eq!((events.len(), events[0].message.as_str()), (EVENTS_MAX, "24"), "newest first");
}

fn tag(name: &str, version: Option<u64>) -> Command {
    let set = Some(TagSet { version, description: "d".into() });
    Command::JobTag(Box::new(JobTag { namespace: ns(), job_id: "web".into(), name: name.into(), set }))
}

fn untag(name: &str) -> Command {
    Command::JobTag(Box::new(JobTag { namespace: ns(), job_id: "web".into(), name: name.into(), set: None }))
}

#[test]
fn a_tag_names_one_version_and_keeps_it() {
    let mut world = World::new();
    (0..2).for_each(|n| drop(world.register(job_with_count("web", n + 1))));
    let Reply::Tag { tag: Some(set) } = world.accept(Role::Gateway, tag("golden", Some(0))) else { panic!() };
    assert_eq!((set.name.as_str(), set.description.as_str(), set.tagged_time), ("golden", "d", world.now));
    assert_eq!(
        world.refuse(Role::Gateway, tag("golden", Some(1))).to_string(),
        "tag \"golden\" already exists on a different version of job \"web\""
    );
    assert_eq!(
        world.refuse(Role::Gateway, tag("x", Some(9))).to_string(),
        "job \"web\" in namespace \"default\" at version 9 not found"
    );
    assert!(matches!(world.refuse(Role::Gateway, tag("", Some(0))), Refusal::Invalid(_)));
    world.accept(Role::Gateway, tag("newest", None));
    assert_eq!(world.job("web").version_tag.as_ref().unwrap().name, "newest");
    // A new version carries no tag, and tagged ones are kept whatever comes.
    (0..12).for_each(|n| drop(world.register(job_with_count("web", n + 10))));
    assert!(world.job("web").version_tag.is_none());
    let kept: Vec<u64> = world.state.job_versions(&ns(), &"web".into()).iter().map(|job| job.version()).collect();
    assert_eq!(kept, [0, 1, 8, 9, 10, 11, 12, 13]);
    assert_eq!(world.refuse(Role::Gateway, untag("nope")).to_string(), "tag \"nope\" not found on job \"web\"");
    world.accept(Role::Gateway, untag("golden"));
    let kept: Vec<u64> = world.state.job_versions(&ns(), &"web".into()).iter().map(|job| job.version()).collect();
    assert_eq!(kept, [1, 8, 9, 10, 11, 12, 13], "what nobody names any more goes");
    world.assert_followed();
}

fn periodic(id: &str, prohibit_overlap: bool) -> Job {
    let mut job = job(id);
    job.kind = Some("batch".into());
    job.periodic = Some(PeriodicConfig {
        enabled: Some(true),
        prohibit_overlap: Some(prohibit_overlap),
        ..PeriodicConfig::default()
    });
    job
}

fn launch(world: &World, id: &str, at_s: i64, forced: bool) -> JobLaunch {
    let child = world.job(id).periodic_child(at_s);
    let eval = Some(eval(&format!("e-{id}-{at_s}"), &child.id()));
    JobLaunch { namespace: ns(), job_id: id.into(), at: at_s * SECOND, child: Some(Box::new(child)), eval, forced }
}

fn children(world: &World, id: &str) -> Vec<String> {
    world.state.children_of_job(&ns(), &id.into()).map(|job| job.id().to_string()).collect()
}

fn count(world: &World, id: &str) -> [i64; 3] {
    let children = world.state.job_summary(&ns(), &id.into()).unwrap().children.clone().unwrap();
    [children.pending, children.running, children.dead]
}

#[test]
fn a_turn_is_taken_once_whoever_asks_how_often() {
    let mut world = World::new();
    world.register_with(periodic("cron", false), None);
    let begun = world.state.periodic_launch(&ns(), &"cron".into()).unwrap().launch;
    assert_eq!(begun, world.now, "what fell due before is not made up for");
    let first = begun / SECOND + 10;
    let command = Command::JobLaunch(Box::new(launch(&world, "cron", first, false)));
    let Reply::Child { job_id, eval_id, .. } = world.accept(Role::Controller, command.clone()) else { panic!() };
    assert_eq!(job_id.as_str(), format!("cron/periodic-{first}"));
    assert!(eval_id.is_some());
    assert!(matches!(world.refuse(Role::Controller, command), Refusal::Conflict(_)), "another controller's turn");
    let earlier = launch(&world, "cron", first - 5, false);
    world.refuse(Role::Controller, Command::JobLaunch(Box::new(earlier)));
    assert_eq!((children(&world, "cron").len(), count(&world, "cron")), (1, [1, 0, 0]));
    let child = world.job(&format!("cron/periodic-{first}"));
    assert_eq!((child.parent_id.as_deref(), child.is_periodic(), child.version()), (Some("cron"), false, 0));
    world.assert_followed();
    world.deregister("cron", true);
    assert!(world.state.periodic_launch(&ns(), &"cron".into()).is_none());
    assert_eq!(children(&world, "cron").len(), 1, "children live on");
}

#[test]
fn periodic_006_007_a_running_child_prohibits_the_next_one_but_not_a_forced_one() {
    let mut world = World::new();
    world.node("n1");
    world.register_with(periodic("cron", true), None);
    let at = world.now / SECOND;
    let first = launch(&world, "cron", at + 1, false);
    world.accept(Role::Controller, Command::JobLaunch(Box::new(first)));
    let second = launch(&world, "cron", at + 2, false);
    let refusal = world.refuse(Role::Controller, Command::JobLaunch(Box::new(second)));
    assert_eq!(refusal.to_string(), "a child of \"cron\" still runs");
    // The turn is passed over.
    let passed = JobLaunch { child: None, eval: None, ..launch(&world, "cron", at + 2, false) };
    world.accept(Role::Controller, Command::JobLaunch(Box::new(passed)));
    assert_eq!(world.state.periodic_launch(&ns(), &"cron".into()).unwrap().launch, (at + 2) * SECOND);
    let forced = launch(&world, "cron", at + 3, true);
    world.accept(Role::Gateway, Command::JobLaunch(Box::new(forced)));
    assert_eq!(children(&world, "cron").len(), 2);
    // Both end; the next one goes.
    for n in [1, 3] {
        let child = format!("cron/periodic-{}", at + n);
        world.place(&child, "n1", &[&format!("a{n}")]);
        world.tell(&format!("a{n}"), ClientStatus::Running);
        assert!(world.state.is_child_live(&ns(), &"cron".into()));
        world.tell(&format!("a{n}"), ClientStatus::Complete);
        world.finish_eval(&format!("e-cron-{}", at + n));
    }
    assert!(!world.state.is_child_live(&ns(), &"cron".into()));
    let next = launch(&world, "cron", at + 4, false);
    world.accept(Role::Controller, Command::JobLaunch(Box::new(next)));
    assert_eq!(count(&world, "cron"), [1, 0, 2]);
}

#[test]
fn periodic_001_003_004_a_clock_that_stands_launches_nothing() {
    let mut world = World::new();
    world.register(job("web"));
    let mut disabled = periodic("off", false);
    disabled.periodic.as_mut().unwrap().enabled = Some(false);
    world.register_with(disabled, None);
    world.register_with(periodic("stopped", false), None);
    world.deregister("stopped", false);
    for id in ["web", "off", "stopped"] {
        let forced = launch(&world, id, world.now / SECOND, true);
        world.refuse(Role::Gateway, Command::JobLaunch(Box::new(forced)));
    }
}

fn parameterized(id: &str) -> Job {
    let mut job = job(id);
    job.kind = Some("batch".into());
    job.parameterized_job = Some(ParameterizedJobConfig { payload: "optional".into(), ..Default::default() });
    job
}

fn dispatch(world: &World, id: &str, name: &str, token: &str) -> JobDispatch {
    let mut child = world.job(id).dispatched_child(name);
    child.dispatch_idempotency_token = Some(token.to_owned());
    let eval = Some(eval(&format!("e-{id}-{name}"), &child.id()));
    JobDispatch { parent: id.into(), child, eval }
}

#[test]
fn dispatch_009_a_token_dispatches_once() {
    let mut world = World::new();
    world.register_with(parameterized("p"), None);
    assert_eq!(world.status("p"), "running");
    let send = |world: &mut World, name: &str, token: &str| {
        let command = dispatch(world, "p", name, token);
        let Reply::Child { job_id, eval_id, .. } = world.accept(Role::Gateway, Command::JobDispatch(Box::new(command)))
        else {
            panic!()
        };
        (job_id.to_string(), eval_id)
    };
    let first = send(&mut world, "1-a", "t");
    assert_eq!(first.0, "p/dispatch-1-a");
    assert_eq!(send(&mut world, "2-b", "t"), first, "the same child and its evaluation");
    assert_eq!(world.changed(Table::Evals), 0);
    assert_ne!(send(&mut world, "3-c", "u"), first);
    send(&mut world, "4-d", "");
    assert_eq!((children(&world, "p").len(), count(&world, "p")), (3, [3, 0, 0]));
    world.assert_followed();
}

#[test]
fn dispatch_006_007_only_a_parameterized_job_that_is_not_stopped_is_dispatched() {
    let mut world = World::new();
    world.register(job("web"));
    world.register_with(parameterized("p"), None);
    let other = dispatch(&world, "web", "1-a", "");
    let text = |refusal: Refusal| refusal.to_string();
    assert_eq!(
        text(world.refuse(Role::Gateway, Command::JobDispatch(Box::new(other)))),
        "Specified job \"web\" is not a parameterized job"
    );
    let foreign = JobDispatch { child: job("elsewhere"), ..dispatch(&world, "p", "1-a", "") };
    world.refuse(Role::Gateway, Command::JobDispatch(Box::new(foreign)));
    let unknown = JobDispatch { parent: "none".into(), ..dispatch(&world, "p", "1-a", "") };
    assert_eq!(
        text(world.refuse(Role::Gateway, Command::JobDispatch(Box::new(unknown)))),
        "parameterized job not found"
    );
    world.deregister("p", false);
    let late = dispatch(&world, "p", "1-a", "");
    assert_eq!(
        text(world.refuse(Role::Gateway, Command::JobDispatch(Box::new(late)))),
        "Specified job \"p\" is stopped"
    );
}

#[test]
fn a_child_s_way_counts_in_its_parent_s_summary() {
    let mut world = World::new();
    world.node("n1");
    world.register_with(parameterized("p"), None);
    let one = dispatch(&world, "p", "1-a", "");
    world.accept(Role::Gateway, Command::JobDispatch(Box::new(one)));
    world.place("p/dispatch-1-a", "n1", &["a"]);
    assert_eq!(count(&world, "p"), [0, 1, 0]);
    world.tell("a", ClientStatus::Complete);
    world.finish_eval("e-p-1-a");
    assert_eq!(count(&world, "p"), [0, 0, 1]);
    world.deregister("p/dispatch-1-a", true);
    assert_eq!(count(&world, "p"), [0, 0, 1], "what ended stays counted");
    let two = dispatch(&world, "p", "2-b", "");
    world.accept(Role::Gateway, Command::JobDispatch(Box::new(two)));
    world.deregister("p/dispatch-2-b", true);
    assert_eq!(count(&world, "p"), [0, 0, 2], "what was purged while it waited ended");
}
