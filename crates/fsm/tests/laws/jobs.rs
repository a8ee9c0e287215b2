//! Jobs: versions, compare and set, stop and purge, what is kept.

use fsm::command::{JobRegister, Refusal};
use fsm::{Change, Command, Reply, Table};
use model::job::{JobSubmission, JobVersionTag, PeriodicConfig};
use model::{ClientStatus, EvalStatus, Index, Job, Role};

use crate::world::{self, World, eval, job, job_with_count, ns};

fn enforce(job: Job, index: u64) -> Command {
    let register = JobRegister { job, eval: None, submission: None, enforce_index: Some(Index(index)) };
    Command::JobRegister(Box::new(register))
}

fn versions(world: &World, id: &str) -> Vec<u64> {
    world.state.job_versions(&ns(), &id.into()).iter().map(|job| job.version()).collect()
}

/// covers: val-068 val-069
#[test]
fn store_001_002_a_job_needs_its_namespace_and_its_node_pool() {
    let mut world = World::new();
    let register = |job| {
        Command::JobRegister(Box::new(JobRegister {
            job,
            eval: Some(eval("e", &"web".into())),
            submission: None,
            enforce_index: None,
        }))
    };
    let mut lost = job("web");
    lost.namespace = Some("nowhere".into());
    let refusal = world.refuse(Role::Gateway, register(lost));
    assert_eq!(refusal.to_string(), "job \"web\" is in nonexistent namespace \"nowhere\"");
    let mut dry = job("web");
    dry.node_pool = Some("gpu".into());
    let refusal = world.refuse(Role::Gateway, register(dry));
    assert_eq!(refusal.to_string(), "job \"web\" is in nonexistent node pool \"gpu\"");
    assert!(world.state.eval(&"e".into()).is_none(), "fsm-007: no evaluation either");
    world.register(job("web"));
    assert_eq!(world.job("web").node_pool.as_deref(), Some("default"));
}

#[test]
fn store_003_004_a_new_job_is_version_0_and_a_changed_one_counts_on() {
    let mut world = World::new();
    let (index, version, eval) = world.register(job("web"));
    assert_eq!((index, version), (world.index(), 0));
    let row = world.job("web").clone();
    assert_eq!([row.create_index, row.modify_index, row.job_modify_index], [Some(index); 3]);
    assert_eq!((world.status("web"), row.is_stable()), ("pending", false));
    let eval = world.eval(eval.unwrap().as_str());
    assert_eq!((eval.create_index, eval.job_modify_index, eval.status), (index, index, EvalStatus::Pending));
    assert_eq!(world.summary("web"), [0; 7]);
    let (second, version, _) = world.register(job_with_count("web", 9));
    assert_eq!((world.job("web").create_index, version), (Some(index), 1));
    assert_eq!(world.job("web").job_modify_index, Some(second));
    assert_eq!(versions(&world, "web"), [0, 1]);
}

#[test]
fn job_002_the_same_specification_is_no_version_but_is_evaluated() {
    let mut world = World::new();
    let (first, ..) = world.register(job("web"));
    let mut again = job("web");
    again.status = Some("running".into());
    again.submit_time = Some(77);
    again.stop = Some(false);
    let (index, version, eval) = world.register(again);
    assert_eq!((index, version), (first, 0));
    assert_eq!(world.eval(eval.unwrap().as_str()).create_index, world.index());
    assert_eq!(world.changed(Table::Jobs), 0);
}

/// covers: val-143
#[test]
fn job_003_004_005_what_a_job_is_it_stays() {
    let mut world = World::new();
    world.register(job("web"));
    let mut batch = job("web");
    batch.kind = Some("batch".into());
    let text = world.refuse(Role::Gateway, enforce(batch, world.index().get())).to_string();
    assert!(text.starts_with("Enforcing job modify index") || text.starts_with("cannot update"), "{text}");
    let mut batch = job("web");
    batch.kind = Some("batch".into());
    let plain = JobRegister { job: batch, eval: None, submission: None, enforce_index: None };
    let refusal = world.refuse(Role::Gateway, Command::JobRegister(Box::new(plain)));
    assert_eq!(refusal.to_string(), "cannot update job from type \"service\" to \"batch\"");
    let mut cron = job("web");
    cron.periodic = Some(PeriodicConfig::default());
    let plain = JobRegister { job: cron, eval: None, submission: None, enforce_index: None };
    assert!(matches!(world.refuse(Role::Gateway, Command::JobRegister(Box::new(plain))), Refusal::Invalid(_)));
}

/// covers: val-144
#[test]
fn job_011_012_013_store_022_an_enforced_index_lets_exactly_one_win() {
    let mut world = World::new();
    let refusal = world.refuse(Role::Gateway, enforce(job("web"), 7));
    assert_eq!(refusal, Refusal::Conflict("Enforcing job modify index 7: job does not exist".into()));
    world.accept(Role::Gateway, enforce(job("web"), 0));
    let index = world.index().get();
    let refusal = world.refuse(Role::Gateway, enforce(job("web"), 0));
    assert_eq!(refusal, Refusal::Conflict("Enforcing job modify index 0: job already exists".into()));
    world.accept(Role::Gateway, enforce(job_with_count("web", 3), index));
    let now = world.index().get();
    let refusal = world.refuse(Role::Gateway, enforce(job_with_count("web", 4), index));
    let text = format!("Enforcing job modify index {index}: job exists with conflicting job modify index: {now}");
    assert_eq!(refusal, Refusal::Conflict(text));
    assert_eq!(world.job("web").lookup_group("g").unwrap().count(), 3);
}

/// covers: val-146
#[test]
fn job_017_a_parent_gets_no_evaluation_and_store_027_runs_until_stopped() {
    let mut world = World::new();
    let mut cron = job("cron");
    cron.kind = Some("batch".into());
    cron.periodic = Some(PeriodicConfig::default());
    let (_, _, eval) = world.register_with(cron, None);
    assert_eq!((eval, world.status("cron")), (None, "running"));
    world.deregister("cron", false);
    assert_eq!(world.status("cron"), "dead");
}

#[test]
fn store_028_029_system_jobs_run_without_allocations_and_sysbatch_jobs_end() {
    let mut world = World::new();
    let of_kind = |id: &str, kind: &str| Job { kind: Some(kind.into()), ..job(id) };
    world.register(of_kind("sys", "system"));
    assert_eq!(world.status("sys"), "running");
    world.node("n1");
    let (_, _, eval) = world.register(of_kind("once", "sysbatch"));
    world.place("once", "n1", &["a"]);
    world.finish_eval(eval.unwrap().as_str());
    assert_eq!(world.status("once"), "running");
    world.tell("a", ClientStatus::Complete);
    assert_eq!(world.status("once"), "dead");
}

#[test]
fn store_030_a_job_that_waits_for_a_reschedule_is_pending_not_dead() {
    let mut world = World::new();
    world.node("n1");
    let (_, _, first) = world.register(job("web"));
    world.place("web", "n1", &["a"]);
    world.finish_eval(first.unwrap().as_str());
    world.create_eval(model::Evaluation {
        wait_until: Some(model::Timestamp(world.now + 5)),
        ..eval("later", &"web".into())
    });
    world.tell("a", ClientStatus::Failed);
    assert_eq!(world.status("web"), "pending");
    world.finish_eval("later");
    assert_eq!(world.status("web"), "dead");
}

#[test]
fn store_005_006_seven_versions_keep_six_and_one_stable_one() {
    let mut world = World::new();
    world.register(job_with_count("web", 0));
    let stable = Command::JobStability { namespace: ns(), job_id: "web".into(), version: 0, stable: true };
    world.accept(Role::Gateway, stable.clone());
    assert_eq!((world.job("web").is_stable(), world.job("web").version()), (true, 0), "store-013");
    world.accept(Role::Gateway, stable);
    assert!(world.last.is_empty(), "store-012: the same again is no write");
    for count in 1..=7 {
        world.register(job_with_count("web", count));
    }
    assert_eq!(versions(&world, "web"), [0, 3, 4, 5, 6, 7], "the stable one stays, the next oldest goes");
    let unknown = Command::JobStability { namespace: ns(), job_id: "web".into(), version: 1, stable: true };
    let refusal = world.refuse(Role::Gateway, unknown);
    assert_eq!(refusal.to_string(), "job \"web\" in namespace \"default\" at version 1 not found");
    world.register(job_with_count("plain", 0));
    for count in 1..=9 {
        world.register(job_with_count("plain", count));
    }
    assert_eq!(versions(&world, "plain"), [4, 5, 6, 7, 8, 9]);
    world.assert_followed();
}

#[test]
fn store_006_the_write_of_a_seventh_version_ends_the_first_ones_tracking_even_while_allocations_run_it() {
    let mut world = World::new();
    world.node("n1");
    world.register(job_with_count("web", 0));
    world.place("web", "n1", &["old"]);
    let incarnation = world.job("web").incarnation();
    let kept = |world: &World| world.state.job_version(&ns(), &"web".into(), incarnation, 0).is_some();
    for count in 1..=9 {
        let submission = Some(JobSubmission { source: "s".into(), ..JobSubmission::default() });
        let job = job_with_count("web", count);
        let register = JobRegister { job, eval: None, submission, enforce_index: None };
        world.accept(Role::Gateway, Command::JobRegister(Box::new(register)));
        let from = u64::try_from(count).unwrap().saturating_sub(5);
        assert_eq!(versions(&world, "web"), (from..=u64::try_from(count).unwrap()).collect::<Vec<_>>());
    }
    assert!(kept(&world) && world.state.job_of_alloc(world.alloc("old")).is_some(), "its allocation still runs it");
    assert!(world.state.job_version_tracked(&ns(), &"web".into(), 0).is_none());
    let stable = Command::JobStability { namespace: ns(), job_id: "web".into(), version: 0, stable: true };
    assert!(matches!(world.refuse(Role::Gateway, stable), Refusal::NotFound { .. }), "and nobody else sees it");
    world.tell("old", ClientStatus::Complete);
    assert!(kept(&world));
    let reap = Command::Reap { evals: vec![], allocs: world::ids(&["old"]), deployments: vec![], jobs: vec![] };
    world.accept(Role::Controller, reap);
    assert!(!kept(&world), "it goes with the last allocation");
    assert_eq!(versions(&world, "web"), [4, 5, 6, 7, 8, 9]);
    world.assert_followed();
}

#[test]
fn store_007_a_tagged_version_outlives_the_six() {
    let mut world = World::new();
    world.register(job_with_count("web", 0));
    let mut tagged = world.job("web").clone();
    tagged.version_tag = Some(JobVersionTag { name: "golden".into(), ..JobVersionTag::default() });
    // No command tags yet: the row as a command to come will write it.
    let index = world.index();
    let mut state = world.state.clone();
    state.commit(index, &Change::Job(tagged.into()));
    let line =
        |state: &fsm::State| state.job_versions(&ns(), &"web".into()).iter().map(|j| j.version()).collect::<Vec<_>>();
    for count in 1..=8 {
        let register =
            JobRegister { job: job_with_count("web", count), eval: None, submission: None, enforce_index: None };
        let envelope = world.envelope(Role::Gateway, Command::JobRegister(Box::new(register)));
        let index = state.index().next();
        assert!(!matches!(fsm::apply(&mut state, index, &envelope).reply, Reply::Refused(_)));
    }
    assert_eq!(line(&state), [0, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn store_014_015_a_submission_belongs_to_its_version() {
    let mut world = World::new();
    let with = |count, source: &str| {
        let submission =
            Some(JobSubmission { source: source.into(), format: "hcl2".into(), ..JobSubmission::default() });
        let job = job_with_count("web", count);
        Command::JobRegister(Box::new(JobRegister { job, eval: None, submission, enforce_index: None }))
    };
    world.accept(Role::Gateway, with(1, "one"));
    world.accept(Role::Gateway, with(2, "two"));
    let source = |world: &World, version| world.state.job_submission(&ns(), &"web".into(), version).cloned();
    assert_eq!(source(&world, 0).unwrap().source, "one");
    let second = source(&world, 1).unwrap();
    assert_eq!((second.version, second.job_modify_index, second.job_id.as_str()), (1, world.index(), "web"));
    let stable = Command::JobStability { namespace: ns(), job_id: "web".into(), version: 1, stable: true };
    world.accept(Role::Gateway, stable);
    assert_eq!(source(&world, 1).unwrap().source, "two");
    for count in 3..=9 {
        world.accept(Role::Gateway, with(count, "more"));
    }
    assert_eq!(source(&world, 0), None);
}

#[test]
fn job_039_fsm_009_a_stopped_job_is_a_new_version_and_runs_again_when_registered() {
    let mut world = World::new();
    world.register(job("web"));
    world.now += 1_000;
    world.deregister("web", false);
    let row = world.job("web").clone();
    assert_eq!((row.is_stopped(), row.version(), row.submit_time), (true, 1, Some(world.now)));
    world.deregister("web", false);
    assert_eq!(world.job("web").version(), 1, "stopping twice is one version");
    let (_, version, _) = world.register(job("web"));
    assert_eq!((version, world.job("web").is_stopped(), world.status("web")), (2, false, "pending"));
}

#[test]
fn job_038_stopping_an_unknown_job_succeeds_and_does_nothing() {
    let mut world = World::new();
    assert_eq!(world.deregister("nope", false), None);
    assert!(world.last.is_empty());
}

#[test]
fn store_016_017_018_a_purge_forgets_the_job_and_no_other() {
    let mut world = World::new();
    world.node("n1");
    for id in ["web", "web-2", "Web"] {
        world.register(job(id));
    }
    world.place("web", "n1", &["a", "ended"]);
    world.tell("ended", ClientStatus::Complete);
    world.create_eval(world::blocked("b", "web", world.index()));
    world.create_eval(eval("waiting", &"web".into()));
    let purge = world.deregister("web", true).unwrap();
    assert!(world.state.job(&ns(), &"web".into()).is_none() && world.state.job_summary(&ns(), &"web".into()).is_none());
    assert_eq!(world.eval("waiting").status, EvalStatus::Complete);
    assert_eq!(world.eval("b").status, EvalStatus::Cancelled, "nothing to wait for");
    assert!(world.state.alloc(&"ended".into()).is_none(), "what had ended is forgotten with it");
    assert!(world.state.job_of_alloc(world.alloc("a")).is_some(), "allocations keep the version they run");
    assert!(world.state.job(&ns(), &"web-2".into()).is_some() && world.state.job(&ns(), &"Web".into()).is_some());
    // The evaluation of the purge stops what still runs.
    let mut plan = world.plan_for("web", purge.as_str());
    world::add_stop(&mut plan, "n1", "a", None);
    assert!(world.apply_plan(plan).is_full());
    assert!(world.alloc("a").server_terminal());
    world.tell("a", ClientStatus::Complete);
    let reap = Command::Reap { evals: vec![], allocs: world::ids(&["a"]), deployments: vec![], jobs: vec![] };
    world.accept(Role::Controller, reap);
    let (namespace, id) = (ns(), "web".into());
    assert!(world.state.job_versions(&namespace, &id).is_empty());
    world.assert_followed();
}

#[test]
fn store_040_a_purged_and_registered_job_counts_anew() {
    let mut world = World::new();
    world.node("n1");
    world.register(job("web"));
    world.place("web", "n1", &["old"]);
    world.deregister("web", true);
    world.register(job("web"));
    world.tell("old", ClientStatus::Running);
    assert_eq!(world.summary("web"), [0; 7]);
    assert_eq!(world.status("web"), "pending");
    assert_eq!((world.job("web").version(), world.job("web").create_index), (0, world.job("web").job_modify_index));
}
