//! Tasks with hours, and tasks that people pause.
#![allow(clippy::unwrap_used)]

use lifecycle::restart::{Mode, Rules};
use lifecycle::{
    AllocSpec, Class, Effect, Event, HealthSpec, Machine, RequestError, TaskExit, TaskSpec, Timer, TimerKind, Wish,
};
use model::hours::Hours;
use model::task::TaskScheduleCron;
use model::{ClientStatus, DesiredStatus, JobKind, Nanos, TaskStateKind, Timestamp};

const NONE: [u64; 0] = [];
const MINUTE: i64 = 60_000_000_000;
/// Midnight of a day, UTC.
const DAY: i64 = 1_772_409_600_000_000_000;

fn at(hour: i64, minute: i64) -> Timestamp {
    Timestamp(DAY + (hour * 60 + minute) * MINUTE)
}

/// From eight to seventeen.
fn hours() -> Option<Hours> {
    let cron = TaskScheduleCron { start: "0 8 * * * *".into(), end: "0 17".into(), timezone: "UTC".into() };
    Some(Hours::new(&cron, "UTC").unwrap())
}

fn task(name: &str, hours: Option<Hours>) -> TaskSpec {
    let (interval, delay) = (Nanos::from_secs(60), Nanos(0));
    TaskSpec {
        name: name.into(),
        class: Class::Main,
        leader: false,
        rules: Rules { attempts: 1, interval, delay, mode: Mode::Fail, on_success: true },
        kill_timeout: Nanos::from_secs(5),
        kill_signal: String::new(),
        shutdown_delay: Nanos(0),
        hours,
    }
}

fn spec(tasks: Vec<TaskSpec>) -> AllocSpec {
    AllocSpec {
        alloc_id: "a1".into(),
        kind: JobKind::Service,
        tasks,
        desired: DesiredStatus::Run,
        no_shutdown_delay: false,
        shutdown_delay: Nanos(0),
        run_until: None,
        deployment_id: "".into(),
        canary: false,
        recorded_health: None,
        health: None,
        seed: 1,
    }
}

fn starts(effects: &[Effect]) -> Vec<u64> {
    effects.iter().filter_map(|e| if let Effect::StartTask { start, .. } = e { Some(*start) } else { None }).collect()
}

fn kills(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::KillTask { .. })).count()
}

fn timer(effects: &[Effect]) -> (Timer, Nanos) {
    let set = effects.iter().rev().find_map(|e| match e {
        Effect::SetTimer { timer, after } if matches!(timer.kind, TimerKind::Hours(_)) => {
            Some((timer.clone(), Nanos(i64::try_from(after.as_nanos()).unwrap())))
        }
        _ => None,
    });
    set.unwrap()
}

fn started(machine: &mut Machine, start: u64, now: Timestamp) -> Vec<Effect> {
    machine.step(Event::Started { task: "t".into(), start }, now)
}

fn exited(machine: &mut Machine, start: u64, now: Timestamp) -> Vec<Effect> {
    machine.step(Event::Exited { task: "t".into(), start, exit: TaskExit::default() }, now)
}

fn paused(machine: &Machine) -> (TaskStateKind, String) {
    let state = machine.report().task_states["t"].clone();
    (state.state, state.paused)
}

fn kinds(machine: &Machine) -> Vec<String> {
    machine.report().task_states["t"].events.look().iter().map(|e| e.kind.clone()).collect()
}

/// Fires timers until `until`; whatever comes of it.
fn pass(machine: &mut Machine, mut effects: Vec<Effect>, mut now: Timestamp, until: Timestamp) -> Vec<Effect> {
    let mut all = Vec::new();
    loop {
        let (next, after) = timer(&effects);
        now = now.plus(after);
        if now > until {
            return all;
        }
        effects = machine.step(Event::Timer(next), now);
        all.extend(effects.clone());
    }
}

#[test]
fn a_task_runs_in_its_hours_and_waits_outside_of_them() {
    let (mut machine, effects) = Machine::new(spec(vec![task("t", hours())]), at(7, 50));
    assert_eq!(starts(&effects), NONE);
    assert_eq!(paused(&machine), (TaskStateKind::Pending, "scheduled_pause".into()));
    assert_eq!(machine.report().client_status, ClientStatus::Pending);

    let effects = pass(&mut machine, effects, at(7, 50), at(8, 5));
    assert_eq!(starts(&effects), [1]);
    let begun = started(&mut machine, 1, at(8, 0));
    assert_eq!(paused(&machine), (TaskStateKind::Running, String::new()));
    assert!(!begun.iter().any(|e| matches!(e, Effect::SetTimer { .. })), "the timer of the hours runs");

    let effects = pass(&mut machine, effects, at(8, 0), at(17, 0));
    assert_eq!(kills(&effects), 1);
    let effects = exited(&mut machine, 1, at(17, 0));
    assert!(effects.contains(&Effect::FreeTask { task: "t".into(), start: 1 }) && starts(&effects).is_empty());
    assert_eq!(paused(&machine), (TaskStateKind::Pending, "scheduled_pause".into()));
    assert_eq!(machine.report().task_states["t"].restarts, 0, "a pause is no restart");
    assert_eq!(kinds(&machine)[1..], ["Pausing", "Running", "Task Setup", "Started", "Pausing", "Terminated"]);
}

#[test]
fn a_wish_goes_before_the_hours_until_it_is_taken_back() {
    let (mut machine, _) = Machine::new(spec(vec![task("t", hours())]), at(7, 0));
    let effects = machine.request_pause("t", Wish::Run, at(7, 1)).unwrap();
    assert_eq!((starts(&effects), paused(&machine).1.as_str()), (vec![1], "force_run"));
    started(&mut machine, 1, at(7, 1));
    assert_eq!(kills(&machine.request_pause("t", Wish::Scheduled, at(7, 2)).unwrap()), 1);
    assert_eq!(starts(&exited(&mut machine, 1, at(7, 3))), NONE);
    let effects = machine.request_pause("t", Wish::Pause, at(7, 4)).unwrap();
    assert_eq!(paused(&machine).1, "force_pause");
    assert_eq!(
        starts(&pass(&mut machine, effects, at(7, 4), at(9, 0))),
        NONE,
        "a paused task sleeps through its hours"
    );
    let effects = machine.request_pause("t", Wish::Scheduled, at(9, 0)).unwrap();
    assert_eq!((starts(&effects), paused(&machine).1.as_str()), (vec![2], ""));
}

#[test]
fn a_task_without_hours_can_be_paused_and_no_attempt_is_counted() {
    let (mut machine, _) = Machine::new(spec(vec![task("t", None)]), at(7, 0));
    for start in 1..6 {
        started(&mut machine, start, at(7, 0));
        assert_eq!(kills(&machine.request_pause("t", Wish::Pause, at(7, 1)).unwrap()), 1);
        assert_eq!(kills(&machine.request_pause("t", Wish::Pause, at(7, 1)).unwrap()), 0, "it is being ended");
        assert_eq!(starts(&exited(&mut machine, start, at(7, 2))), NONE);
        assert_eq!(starts(&machine.request_pause("t", Wish::Run, at(7, 3)).unwrap()), [start + 1]);
    }
    assert_eq!(machine.request_pause("x", Wish::Run, at(7, 4)).unwrap_err(), RequestError::UnknownTask("x".into()));
}

#[test]
fn a_task_that_is_unpaused_before_it_ended_starts_again() {
    let (mut machine, _) = Machine::new(spec(vec![task("t", None)]), at(7, 0));
    started(&mut machine, 1, at(7, 0));
    machine.request_pause("t", Wish::Pause, at(7, 1)).unwrap();
    assert_eq!(starts(&machine.request_pause("t", Wish::Scheduled, at(7, 1)).unwrap()), NONE);
    assert_eq!(starts(&exited(&mut machine, 1, at(7, 2))), [2]);
}

#[test]
fn a_new_agent_knows_the_wish_and_ends_what_outlived_its_hours() {
    let (mut machine, _) = Machine::new(spec(vec![task("t", hours())]), at(9, 0));
    started(&mut machine, 1, at(9, 0));
    let (mut later, effects) = Machine::restore(machine.spec().clone(), machine.saved(), at(18, 0));
    assert_eq!(kills(&effects), 0, "it must be found first");
    assert_eq!(kills(&later.step(Event::Recovered { task: "t".into(), start: 1 }, at(18, 0))), 1);
    exited(&mut later, 1, at(18, 1));
    later.request_pause("t", Wish::Pause, at(18, 2)).unwrap();
    let (third, effects) = Machine::restore(later.spec().clone(), later.saved(), at(19, 0));
    assert_eq!((starts(&effects), paused(&third).1.as_str()), (vec![], "force_pause"));
}

#[test]
fn a_stop_ends_a_paused_task() {
    let (mut machine, _) = Machine::new(spec(vec![task("t", None)]), at(7, 0));
    started(&mut machine, 1, at(7, 0));
    machine.request_pause("t", Wish::Pause, at(7, 1)).unwrap();
    exited(&mut machine, 1, at(7, 2));
    let stop = AllocSpec { desired: DesiredStatus::Stop, ..machine.spec().clone() };
    machine.step(Event::Updated(Box::new(stop)), at(7, 3));
    assert_eq!(machine.report().client_status, ClientStatus::Complete);
    assert_eq!(machine.request_pause("t", Wish::Run, at(7, 4)).unwrap_err(), RequestError::Ended("t".into()));
}

#[test]
fn a_stop_of_a_task_that_is_being_ended_asks_for_its_end_once() {
    for restarts in [false, true] {
        let (mut machine, _) = Machine::new(spec(vec![task("t", None)]), at(7, 0));
        started(&mut machine, 1, at(7, 0));
        let first = match restarts {
            true => machine.request_restart(Some("t"), false, false, "asked", at(7, 1)),
            false => machine.request_pause("t", Wish::Pause, at(7, 1)),
        };
        assert_eq!(kills(&first.unwrap()), 1);
        let stop = AllocSpec { desired: DesiredStatus::Stop, ..machine.spec().clone() };
        assert_eq!(kills(&machine.step(Event::Updated(Box::new(stop)), at(7, 2))), 1);
        assert_eq!(machine.request_pause("t", Wish::Run, at(7, 2)).unwrap_err(), RequestError::Stopping);
        assert_eq!(starts(&exited(&mut machine, 1, at(7, 3))), NONE);
        assert_eq!(machine.report().client_status, ClientStatus::Complete);
    }
}

#[test]
fn a_restart_asked_for_during_a_pause_is_over_with_it() {
    let (mut machine, _) = Machine::new(spec(vec![task("t", None)]), at(7, 0));
    started(&mut machine, 1, at(7, 0));
    machine.request_pause("t", Wish::Pause, at(7, 1)).unwrap();
    machine.request_restart(Some("t"), false, false, "asked", at(7, 1)).unwrap();
    assert_eq!(starts(&exited(&mut machine, 1, at(7, 2))), NONE);
    assert_eq!(starts(&machine.request_pause("t", Wish::Run, at(7, 3)).unwrap()), [2]);
    started(&mut machine, 2, at(7, 3));
    assert_eq!(kills(&machine.request_pause("t", Wish::Pause, at(7, 4)).unwrap()), 1);
}

#[test]
fn a_rollout_does_not_wait_for_hours() {
    let health =
        HealthSpec { min_healthy_time: Nanos::from_secs(10), healthy_deadline: Nanos::from_secs(300), explain: true };
    let spec = AllocSpec { deployment_id: "d1".into(), health: Some(health), ..spec(vec![task("t", hours())]) };
    let (machine, _) = Machine::new(spec, at(3, 0));
    assert_eq!(machine.report().deployment_status.unwrap().healthy, Some(true));
}
