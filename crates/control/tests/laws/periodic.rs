//! Periodic jobs. Ids are those of the server scenario table.

use crate::world::{NOW, World, job};
use control::periodic::{Agenda, Decision};
use fsm::Command;
use fsm::command::JobLaunch;
use model::job::{ParameterizedJobConfig, PeriodicConfig};
use model::{ClientStatus, EvalStatus, Evaluation, Job, NodeStatus, Timestamp};

const MINUTE: i64 = 60_000_000_000;

/// Due at each full minute.
fn cron(id: &str, prohibit_overlap: bool) -> Job {
    let mut job = job(id, "batch");
    job.periodic = Some(PeriodicConfig {
        enabled: Some(true),
        specs: vec!["* * * * *".into()],
        prohibit_overlap: Some(prohibit_overlap),
        ..PeriodicConfig::default()
    });
    job.submit_time = Some(NOW.unix_nanos());
    job
}

/// Some seconds behind the n-th full minute from now.
fn minute(n: i64, seconds: f64) -> Timestamp {
    let first = NOW.unix_nanos().div_euclid(MINUTE) + n;
    Timestamp(first * MINUTE + (seconds * 1e9) as i64)
}

fn decide(world: &mut World, now: Timestamp) -> Decision {
    let mut ids = world.ids();
    Agenda::default().decide(&world.state, now, &mut ids)
}

fn launches(decision: &Decision) -> Vec<&JobLaunch> {
    decision.commands.iter().map(launch).collect()
}

fn launch(command: &Command) -> &JobLaunch {
    match command {
        Command::JobLaunch(launch) => launch,
        other => panic!("{other:?}"),
    }
}

fn child_ids(decision: &Decision) -> Vec<String> {
    let id = |launch: &&JobLaunch| launch.child.as_ref().map_or("passed over".to_owned(), |job| job.id().to_string());
    launches(decision).iter().map(id).collect()
}

fn carry_out(world: &mut World, decision: &Decision) {
    decision.commands.iter().for_each(|command| world.perform(command.clone()));
}

#[test]
fn a_job_is_launched_when_its_time_comes_and_once() {
    let mut world = World::new();
    world.job(cron("c", false));
    assert_eq!(decide(&mut world, NOW), Decision { commands: vec![], wake_at: Some(minute(1, 0.0)) });
    let decision = decide(&mut world, minute(1, 0.01));
    let at_s = minute(1, 0.0).unix_nanos() / 1_000_000_000;
    assert_eq!(child_ids(&decision), [format!("c/periodic-{at_s}")]);
    let eval = launches(&decision)[0].eval.as_ref().unwrap();
    assert_eq!((eval.triggered_by.as_str(), eval.job_id.as_str()), ("periodic-job", child_ids(&decision)[0].as_str()));
    carry_out(&mut world, &decision);
    let again = decide(&mut world, minute(1, 0.5));
    assert_eq!(again, Decision { commands: vec![], wake_at: Some(minute(2, 0.0)) });
}

#[test]
fn periodic_012_014_missed_turns_are_made_up_for_once() {
    let mut world = World::new();
    world.job(cron("c", false));
    let late = minute(7, 23.7);
    let decision = decide(&mut world, late);
    let at_s = late.unix_nanos() / 1_000_000_000;
    assert_eq!(child_ids(&decision), [format!("c/periodic-{at_s}")]);
    carry_out(&mut world, &decision);
    assert_eq!(decide(&mut world, late).wake_at, Some(minute(8, 0.0)), "periodic-014");
}

#[test]
fn periodic_006_013_a_running_child_has_the_turn_passed_over() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    world.job(cron("c", true));
    let first = decide(&mut world, minute(1, 0.0));
    carry_out(&mut world, &first);
    let second = decide(&mut world, minute(2, 0.0));
    assert_eq!(child_ids(&second), ["passed over"]);
    carry_out(&mut world, &second);
    assert_eq!(decide(&mut world, minute(2, 0.1)).wake_at, Some(minute(3, 0.0)), "not queued");
    assert_eq!(child_ids(&decide(&mut world, minute(9, 5.0))), ["passed over"], "periodic-013");
    // The child ends.
    let child = launches(&first)[0].child.clone().unwrap();
    let eval = launches(&first)[0].eval.clone().unwrap();
    world.eval(Evaluation { status: EvalStatus::Complete, ..eval });
    let job = world.state.job(&child.namespace(), &child.id()).unwrap().clone();
    world.alloc("a", &job, "n", |row| row.client_status = ClientStatus::Complete);
    assert_eq!(child_ids(&decide(&mut world, minute(3, 0.0))).len(), 1, "periodic-007");
    assert_ne!(child_ids(&decide(&mut world, minute(3, 0.0))), ["passed over"]);
}

#[test]
fn periodic_001_003_a_clock_that_stands_has_no_turns() {
    let mut world = World::new();
    world.job(job("plain", "batch"));
    let mut stopped = cron("stopped", false);
    stopped.stop = Some(true);
    world.job(stopped);
    let mut template = cron("template", false);
    template.parameterized_job = Some(ParameterizedJobConfig::default());
    world.job(template);
    let mut disabled = cron("disabled", false);
    disabled.periodic.as_mut().unwrap().enabled = Some(false);
    world.job(disabled);
    assert_eq!(decide(&mut world, minute(5, 0.0)), Decision::default());
}

#[test]
fn periodic_002_a_changed_job_counts_from_its_change() {
    let mut world = World::new();
    let mut job = cron("c", false);
    job.submit_time = Some(minute(3, 30.0).unix_nanos());
    world.job(job);
    assert_eq!(decide(&mut world, minute(3, 40.0)).wake_at, Some(minute(4, 0.0)));
}

#[test]
fn periodic_008_009_jobs_of_one_moment_and_one_id_do_not_disturb_each_other() {
    let mut world = World::new();
    world.job(cron("a", false));
    world.job(cron("b", false));
    let mut other = cron("a", false);
    other.namespace = Some("other".into());
    world.job(other);
    let decision = decide(&mut world, minute(1, 0.0));
    assert_eq!(decision.commands.len(), 3);
    let namespaces: Vec<_> = launches(&decision).iter().map(|launch| launch.namespace.to_string()).collect();
    assert_eq!(namespaces, ["default", "default", "other"]);
}
