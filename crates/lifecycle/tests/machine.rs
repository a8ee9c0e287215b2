//! The machine against a driver that does as told.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use lifecycle::restart::{Mode, Rules};
use lifecycle::*;
use model::{ClientStatus, DesiredStatus, JobKind, Nanos, TaskStateKind, Timestamp};

const SECOND: i64 = 1_000_000_000;

struct Node {
    machine: Machine,
    now: Timestamp,
    effects: Vec<Effect>,
    timers: BTreeMap<String, (Timestamp, Timer)>,
}

fn task(name: &str, class: Class) -> TaskSpec {
    let on_success = matches!(class, Class::Main | Class::PrestartSidecar | Class::PoststartSidecar);
    let rules = Rules {
        attempts: 2,
        interval: Nanos::from_secs(1800),
        delay: Nanos::from_secs(15),
        mode: Mode::Fail,
        on_success,
    };
    TaskSpec {
        name: name.into(),
        class,
        leader: false,
        rules,
        kill_timeout: Nanos::from_secs(5),
        kill_signal: String::new(),
        shutdown_delay: Nanos(0),
        hours: None,
    }
}

fn spec(kind: JobKind, tasks: Vec<TaskSpec>) -> AllocSpec {
    AllocSpec {
        alloc_id: "a1".into(),
        kind,
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

fn batch(name: &str, attempts: u32) -> TaskSpec {
    let mut spec = task(name, Class::Main);
    spec.rules.on_success = false;
    spec.rules.attempts = attempts;
    spec
}

impl Node {
    fn new(spec: AllocSpec) -> Self {
        let now = Timestamp(1_700_000_000 * SECOND);
        let (machine, effects) = Machine::new(spec, now);
        let mut node = Self { machine, now, effects: Vec::new(), timers: BTreeMap::new() };
        node.take(effects);
        node
    }

    /// A new agent that stored everything.
    fn restart_agent(&mut self) {
        let text = serde_json::to_string(&self.machine.saved()).unwrap();
        let (machine, effects) =
            Machine::restore(self.machine.spec().clone(), serde_json::from_str(&text).unwrap(), self.now);
        self.machine = machine;
        self.timers.clear();
        self.effects.clear();
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::SetTimer { timer, after } = &effect {
                let at = self.now.plus(Nanos(i64::try_from(after.as_nanos()).unwrap()));
                self.timers.insert(format!("{:?}", timer.kind), (at, timer.clone()));
            }
            self.effects.push(effect);
        }
    }

    fn step(&mut self, event: Event) {
        let effects = self.machine.step(event, self.now);
        self.take(effects);
    }

    /// Lets time pass, firing timers in order.
    fn pass(&mut self, secs: f64) {
        #[allow(clippy::cast_possible_truncation)]
        let end = self.now.plus(Nanos((secs * 1e9) as i64));
        while let Some(key) =
            self.timers.iter().filter(|(_, (at, _))| *at <= end).min_by_key(|(_, (at, _))| *at).map(|(k, _)| k.clone())
        {
            let (at, timer) = self.timers.remove(&key).unwrap();
            self.now = self.now.max(at);
            self.step(Event::Timer(timer));
        }
        self.now = end;
    }

    /// The number of a task's latest start.
    fn start_of(&self, name: &str) -> u64 {
        self.machine.saved().tasks[name].start
    }

    fn started(&mut self, name: &str) {
        self.step(Event::Started { task: name.into(), start: self.start_of(name) });
    }

    fn exit(&mut self, name: &str, code: i32) {
        let exit = TaskExit { code, ..TaskExit::default() };
        self.step(Event::Exited { task: name.into(), start: self.start_of(name), exit });
    }

    fn start_failed(&mut self, name: &str, recoverable: bool) {
        let failure = StartFailure { kind: StartFailureKind::Driver, message: "no".into(), recoverable };
        self.step(Event::StartFailed { task: name.into(), start: self.start_of(name), failure });
    }

    fn stop(&mut self, no_delay: bool) {
        let mut spec = self.machine.spec().clone();
        spec.desired = DesiredStatus::Stop;
        spec.no_shutdown_delay = no_delay;
        self.step(Event::Updated(Box::new(spec)));
    }

    fn names(&self, pick: impl Fn(&Effect) -> Option<&String>) -> Vec<String> {
        self.effects.iter().filter_map(pick).cloned().collect()
    }

    fn starts(&self) -> Vec<String> {
        self.names(|e| if let Effect::StartTask { task, .. } = e { Some(task) } else { None })
    }

    fn kills(&self) -> Vec<String> {
        self.names(|e| if let Effect::KillTask { task, .. } = e { Some(task) } else { None })
    }

    fn finished(&self) -> bool {
        self.effects.contains(&Effect::Finished)
    }

    fn status(&self) -> ClientStatus {
        self.machine.report().client_status
    }

    fn state(&self, name: &str) -> model::alloc::TaskState {
        self.machine.report().task_states[name].clone()
    }

    fn events(&self, name: &str) -> Vec<String> {
        self.state(name).events.look().iter().map(|e| e.kind.clone()).collect()
    }

    fn healthy(&self) -> Option<bool> {
        self.machine.report().deployment_status.and_then(|s| s.healthy)
    }
}

#[test]
fn a_batch_task_that_succeeds_completes_its_allocation_task_run_01() {
    let mut node = Node::new(spec(JobKind::Batch, vec![batch("t", 3)]));
    assert_eq!((node.status(), node.starts()), (ClientStatus::Pending, vec!["t".to_owned()]));
    node.started("t");
    assert_eq!(node.machine.report().client_description, "Tasks are running");
    node.exit("t", 0);
    assert_eq!(node.events("t"), ["Received", "Task Setup", "Started", "Terminated"]);
    let report = node.machine.report();
    assert_eq!(
        (report.client_status, report.client_description.as_str()),
        (ClientStatus::Complete, "All tasks have completed")
    );
    let state = node.state("t");
    assert_eq!((state.state, state.failed), (TaskStateKind::Dead, false));
    assert!(node.finished() && state.finished_at.is_some());
}

#[test]
fn a_failure_without_restarts_fails_the_allocation_task_run_02() {
    let mut node = Node::new(spec(JobKind::Batch, vec![batch("t", 0)]));
    node.started("t");
    node.exit("t", 3);
    assert_eq!(node.events("t"), ["Received", "Task Setup", "Started", "Terminated", "Not Restarting"]);
    let state = node.state("t");
    assert_eq!(state.events.look()[3].exit_code, 3);
    assert_eq!(state.events.look()[4].display_message, "Policy allows no restarts");
    assert!(state.failed);
    assert_eq!(node.machine.report().client_description, "Failed tasks");
}

#[test]
fn a_service_that_ends_is_started_again_after_its_delay_restart_03_restart_07() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.exit("t", 0);
    let state = node.state("t");
    assert_eq!((state.state, state.restarts, state.last_restart), (TaskStateKind::Pending, 1, Some(node.now)));
    node.pass(14.9);
    assert_eq!(node.starts().len(), 1);
    node.pass(4.0);
    assert_eq!(node.starts().len(), 2);
    node.started("t");
    assert_eq!(node.status(), ClientStatus::Running);
    // The directory is built once.
    assert_eq!(node.events("t").iter().filter(|k| *k == "Task Setup").count(), 1);
}

#[test]
fn a_start_error_follows_the_policy_only_when_recoverable_task_run_04_task_run_05_task_run_09() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.start_failed("t", true);
    assert_eq!(node.events("t")[2..], ["Driver Failure", "Restarting"]);
    node.pass(20.0);
    node.start_failed("t", false);
    assert_eq!(node.events("t")[4..], ["Driver Failure", "Not Restarting"]);
    assert_eq!(node.status(), ClientStatus::Failed);
}

#[test]
fn an_allocation_that_is_to_stop_starts_nothing_task_run_10() {
    let mut spec = spec(JobKind::Service, vec![task("t", Class::Main)]);
    spec.desired = DesiredStatus::Stop;
    let node = Node::new(spec);
    assert!(node.starts().is_empty() && node.finished());
    assert_eq!(node.status(), ClientStatus::Complete);
}

#[test]
fn a_failed_setup_fails_every_task_task_run_11() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("a", Class::Prestart), task("b", Class::Main)]));
    node.step(Event::SetupFailed { reason: "no network".into() });
    for name in ["a", "b"] {
        assert!(node.state(name).failed && node.events(name).contains(&"Setup Failure".to_owned()), "{name}");
    }
    // The one whose start was under way ends with it, and what comes of the start is dropped.
    assert!(node.effects.iter().any(|e| matches!(e, Effect::CancelStart { task, .. } if task == "a")));
    node.started("a");
    assert!(node.finished() && node.status() == ClientStatus::Failed);
}

#[test]
fn a_clean_stop_says_killing_terminated_killed() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.stop(false);
    assert_eq!(node.kills(), ["t"]);
    let exit = TaskExit { code: 137, signal: 9, ..TaskExit::default() };
    node.step(Event::Exited { task: "t".into(), start: 1, exit });
    assert_eq!(node.events("t")[3..], ["Killing", "Terminated", "Killed"]);
    assert_eq!(node.state("t").events.look()[3].kill_timeout, Nanos::from_secs(5));
    assert!(!node.state("t").failed);
    assert_eq!(node.status(), ClientStatus::Complete);
}

#[test]
fn a_kill_the_driver_refuses_is_tried_five_times_task_run_15() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.stop(false);
    for gap in [5.0, 20.0, 80.0, 120.0] {
        node.step(Event::KillFailed { task: "t".into(), start: 1, message: "busy".into() });
        let tries = node.kills().len();
        node.pass(gap - 0.1);
        assert_eq!(node.kills().len(), tries);
        node.pass(0.2);
        assert_eq!(node.kills().len(), tries + 1);
    }
    node.step(Event::KillFailed { task: "t".into(), start: 1, message: "busy".into() });
    assert_eq!(node.kills().len(), 5);
    let state = node.state("t");
    assert_eq!((state.state, state.events.look().last().unwrap().kill_error.as_str()), (TaskStateKind::Dead, "busy"));
}

#[test]
fn a_kill_during_a_restart_delay_ends_the_task_at_once_restart_10() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.exit("t", 1);
    node.stop(false);
    assert!(node.finished() && node.kills().is_empty());
    node.pass(100.0);
    assert_eq!(node.starts().len(), 1);
}

#[test]
fn a_stop_while_the_driver_starts_waits_for_its_answer() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.stop(false);
    assert!(node.kills().is_empty() && !node.finished());
    node.started("t");
    assert_eq!(node.kills(), ["t"]);
    node.exit("t", 0);
    assert!(node.finished());
}

#[test]
fn news_of_an_older_start_is_dropped() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.exit("t", 1);
    node.pass(20.0);
    node.started("t");
    node.step(Event::Exited { task: "t".into(), start: 1, exit: TaskExit::default() });
    assert_eq!(node.status(), ClientStatus::Running);
}

#[test]
fn a_persons_restart_is_at_once_and_not_counted_task_run_16_task_run_17_task_run_18() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    let ask = |node: &mut Node| {
        let effects = node.machine.request_restart(None, false, false, "User requested task to restart", node.now);
        effects.map(|e| node.take(e))
    };
    assert_eq!(ask(&mut node), Err(RequestError::NothingRuns));
    assert_eq!(
        node.machine.request_signal(Some("t"), "SIGHUP", "", node.now),
        Err(RequestError::NotRunning("t".into()))
    );
    for n in 1..=5 {
        node.started("t");
        ask(&mut node).unwrap();
        node.exit("t", 137);
        assert_eq!(node.starts().len(), n + 1);
    }
    let events = node.events("t");
    assert_eq!(events[events.len() - 3..], ["Restart Signaled", "Terminated", "Restarting"]);
    assert_eq!(node.state("t").events.look().last().unwrap().display_message, "Task restarting in 0s");
    node.started("t");
    let effects = node.machine.request_signal(None, "SIGHUP", "", node.now).unwrap();
    assert!(matches!(&effects[0], Effect::SignalTask { signal, .. } if signal == "SIGHUP"));
    assert_eq!(
        node.machine.request_restart(Some("x"), false, false, "", node.now),
        Err(RequestError::UnknownTask("x".into()))
    );
}

#[test]
fn restarting_all_runs_dead_prestarts_again_before_main_lifecycle_15_task_run_17() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("pre", Class::Prestart), task("main", Class::Main)]));
    node.started("pre");
    node.exit("pre", 0);
    node.started("main");
    let effects = node.machine.request_restart(None, true, false, "again", node.now).unwrap();
    node.take(effects);
    assert_eq!(node.starts(), ["pre", "main", "pre"]);
    node.exit("main", 137);
    assert_eq!(node.starts().len(), 3);
    node.started("pre");
    node.exit("pre", 0);
    assert_eq!(node.starts()[3..], ["main"]);
}

#[test]
fn a_task_dropped_by_an_update_is_killed_and_failed_task_run_20() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("a", Class::Main), task("b", Class::Main)]));
    node.started("a");
    node.started("b");
    node.step(Event::Updated(Box::new(spec(JobKind::Service, vec![task("a", Class::Main)]))));
    assert_eq!(node.kills(), ["b"]);
    node.exit("b", 0);
    assert!(node.state("b").failed);
}

#[test]
fn a_task_shutdown_delay_holds_the_signal_back_shutdown_delay_01_shutdown_delay_05_shutdown_delay_06() {
    let mut delayed = task("t", Class::Main);
    delayed.shutdown_delay = Nanos::from_secs(2);
    let mut node = Node::new(spec(JobKind::Service, vec![delayed.clone()]));
    node.started("t");
    node.stop(false);
    assert!(node.effects.contains(&Effect::Stopping { task: Some("t".into()) }));
    assert!(node.events("t").contains(&"Waiting for shutdown delay".to_owned()));
    node.pass(1.9);
    assert!(node.kills().is_empty());
    node.pass(0.2);
    assert_eq!(node.kills(), ["t"]);

    let mut node = Node::new(spec(JobKind::Service, vec![delayed]));
    node.started("t");
    node.stop(false);
    node.exit("t", 0);
    node.pass(10.0);
    assert!(node.finished() && node.kills().is_empty() && node.starts().len() == 1);
}

#[test]
fn a_group_shutdown_delay_comes_once_before_all_tasks_shutdown_delay_02_shutdown_delay_08() {
    let mut all = spec(JobKind::Service, vec![task("a", Class::Main), task("b", Class::Main)]);
    all.shutdown_delay = Nanos::from_secs(2);
    let mut node = Node::new(all.clone());
    node.started("a");
    node.started("b");
    node.stop(false);
    node.pass(1.9);
    assert!(node.kills().is_empty());
    node.pass(0.2);
    assert_eq!(node.kills(), ["a", "b"]);

    all.kind = JobKind::Batch;
    all.tasks = vec![batch("a", 0)];
    let mut node = Node::new(all);
    node.started("a");
    node.exit("a", 0);
    node.stop(false);
    assert!(node.finished() && !node.timers.contains_key("GroupDelay"));
}

#[test]
fn a_stop_without_delay_cuts_every_delay_short_shutdown_delay_03_shutdown_delay_04() {
    let mut delayed = task("t", Class::Main);
    delayed.shutdown_delay = Nanos::from_secs(60);
    let mut all = spec(JobKind::Service, vec![delayed]);
    all.shutdown_delay = Nanos::from_secs(60);
    let mut node = Node::new(all.clone());
    node.started("t");
    node.stop(true);
    assert_eq!(node.kills(), ["t"]);
    assert!(node.events("t").contains(&"Skipping shutdown delay".to_owned()));

    let mut node = Node::new(all.clone());
    node.started("t");
    node.stop(false);
    assert!(node.kills().is_empty());
    node.stop(true);
    assert_eq!(node.kills(), ["t"]);

    let mut node = Node::new(all);
    node.started("t");
    node.stop(false);
    node.pass(61.0);
    assert!(node.kills().is_empty());
    node.stop(true);
    assert_eq!(node.kills(), ["t"]);
    node.pass(100.0);
    assert_eq!(node.kills(), ["t"]);
}

#[test]
fn main_starts_after_prestarts_and_sidecars_lifecycle_01_lifecycle_03() {
    let tasks = vec![task("main", Class::Main), task("pre", Class::Prestart), task("side", Class::PrestartSidecar)];
    let mut node = Node::new(spec(JobKind::Service, tasks));
    assert_eq!(node.starts(), ["pre", "side"]);
    node.started("pre");
    node.exit("pre", 0);
    assert_eq!(node.starts().len(), 2);
    node.started("side");
    assert_eq!(node.starts()[2..], ["main"]);
}

#[test]
fn a_prestart_that_fails_for_good_ends_the_group_and_poststop_runs_lifecycle_04() {
    let mut pre = task("pre", Class::Prestart);
    pre.rules.attempts = 0;
    let tasks = vec![pre, task("main", Class::Main), task("post", Class::Poststop)];
    let mut node = Node::new(spec(JobKind::Service, tasks));
    node.started("pre");
    node.exit("pre", 1);
    assert!(node.events("main").contains(&"Sibling Task Failed".to_owned()));
    assert_eq!(node.starts(), ["pre", "post"]);
    assert_eq!(node.status(), ClientStatus::Failed);
    node.started("post");
    node.exit("post", 0);
    assert!(node.finished() && node.status() == ClientStatus::Failed);
}

#[test]
fn poststart_runs_once_beside_main_lifecycle_05_lifecycle_06() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("main", Class::Main), task("post", Class::Poststart)]));
    assert_eq!(node.starts(), ["main"]);
    node.started("main");
    assert_eq!(node.starts(), ["main", "post"]);
    node.started("post");
    node.exit("post", 0);
    assert_eq!(node.status(), ClientStatus::Running);
    node.exit("main", 1);
    node.pass(20.0);
    assert_eq!(node.starts(), ["main", "post", "main"]);
}

#[test]
fn poststop_runs_last_also_when_a_person_stops_lifecycle_07_lifecycle_08_restart_11() {
    let tasks = || vec![batch("main", 0), task("post", Class::Poststop)];
    let mut node = Node::new(spec(JobKind::Batch, tasks()));
    node.started("main");
    node.exit("main", 0);
    assert_eq!((node.starts().len(), node.status()), (2, ClientStatus::Running));
    node.started("post");
    node.exit("post", 0);
    assert!(node.finished() && node.status() == ClientStatus::Complete);

    let mut node = Node::new(spec(JobKind::Batch, tasks()));
    node.started("main");
    node.stop(false);
    node.exit("main", 0);
    assert_eq!(node.starts()[1..], ["post"]);
    node.started("post");
    for _ in 0..2 {
        node.exit("post", 1);
        node.pass(20.0);
        node.started("post");
    }
    node.exit("post", 1);
    assert!(node.finished() && node.status() == ClientStatus::Failed);
}

#[test]
fn the_leader_takes_the_others_with_it_and_is_stopped_first_lifecycle_09_lifecycle_10() {
    let tasks = || {
        let mut lead = batch("lead", 0);
        lead.leader = true;
        vec![task("a", Class::Main), lead]
    };
    let mut node = Node::new(spec(JobKind::Batch, tasks()));
    node.started("a");
    node.started("lead");
    node.exit("lead", 0);
    assert!(node.events("a").contains(&"Leader Task Dead".to_owned()));
    assert_eq!(node.kills(), ["a"]);
    node.exit("a", 137);
    assert_eq!(node.status(), ClientStatus::Complete);

    let mut node = Node::new(spec(JobKind::Batch, tasks()));
    node.started("a");
    node.started("lead");
    node.stop(false);
    assert_eq!(node.kills(), ["lead"]);
    node.exit("lead", 0);
    assert_eq!(node.kills(), ["lead", "a"]);
}

#[test]
fn sidecars_end_after_main_lifecycle_11_lifecycle_12_lifecycle_13() {
    let tasks = || vec![batch("main", 0), batch("more", 0), task("side", Class::PrestartSidecar)];
    let mut node = Node::new(spec(JobKind::Batch, tasks()));
    node.started("side");
    node.started("main");
    node.started("more");
    node.exit("main", 0);
    assert!(node.kills().is_empty() && node.status() == ClientStatus::Running);
    node.exit("more", 0);
    assert!(node.events("side").contains(&"Main Tasks Dead".to_owned()));
    assert_eq!(node.kills(), ["side"]);
    node.exit("side", 137);
    assert_eq!(node.status(), ClientStatus::Complete);

    let mut node = Node::new(spec(JobKind::Batch, tasks()));
    node.started("side");
    node.started("main");
    node.started("more");
    node.stop(false);
    assert_eq!(node.kills(), ["main", "more"]);
    node.exit("main", 0);
    node.exit("more", 0);
    assert_eq!(node.kills(), ["main", "more", "side"]);
}

#[test]
fn the_run_time_ends_a_batch_allocation_also_across_agents_alloc_status_07_alloc_status_08_alloc_status_09() {
    let mut all = spec(JobKind::Batch, vec![batch("t", 3), task("post", Class::Poststop)]);
    all.run_until = Some(Timestamp(1_700_000_060 * SECOND));
    let mut node = Node::new(all.clone());
    node.started("t");
    node.pass(61.0);
    assert_eq!(node.kills(), ["t"]);
    node.exit("t", 137);
    assert_eq!((node.status(), node.starts()), (ClientStatus::Complete, vec!["t".to_owned()]));
    assert!(node.machine.report().client_description.contains("max_run_duration"));

    let mut node = Node::new(all.clone());
    node.started("t");
    node.now = node.now.plus(Nanos::from_secs(120));
    node.restart_agent();
    node.step(Event::Recovered { task: "t".into(), start: 1 });
    node.pass(0.0);
    assert_eq!(node.kills(), ["t"]);

    let mut node = Node::new(all.clone());
    node.started("t");
    all.run_until = Some(Timestamp(1_700_000_600 * SECOND));
    node.step(Event::Updated(Box::new(all)));
    node.pass(100.0);
    assert!(node.kills().is_empty());
    node.pass(600.0);
    assert_eq!(node.kills(), ["t"]);
}

#[test]
fn a_running_task_is_found_again_without_a_trace_restore_01_lifecycle_16() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("pre", Class::Prestart), task("main", Class::Main)]));
    node.started("pre");
    node.exit("pre", 0);
    node.started("main");
    let before = node.machine.report();
    node.restart_agent();
    assert_eq!(node.machine.report(), before);
    assert!(node.effects.contains(&Effect::RecoverTask { task: "main".into(), start: 1 }));
    node.step(Event::Recovered { task: "main".into(), start: 1 });
    assert_eq!(node.machine.report(), before);
    assert!(node.starts().is_empty());
    node.exit("main", 1);
    assert_eq!(node.state("main").restarts, 1);
}

#[test]
fn a_task_that_cannot_be_found_waits_for_the_cluster_restore_04_restore_05() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.restart_agent();
    node.step(Event::RecoverFailed { task: "t".into(), start: 1 });
    assert!(node.starts().is_empty() && node.events("t").contains(&"Failed Restoring Task".to_owned()));
    assert_eq!(node.state("t").state, TaskStateKind::Pending);
    node.step(Event::ServerContact);
    assert_eq!(node.starts(), ["t"]);
    node.started("t");
    assert_eq!(node.state("t").restarts, 0);

    // The cluster may be heard of first: then there is nothing to wait for, but still something to tell.
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.restart_agent();
    node.step(Event::ServerContact);
    node.step(Event::RecoverFailed { task: "t".into(), start: 1 });
    assert_eq!(node.starts(), ["t"]);
    assert!(node.events("t").contains(&"Failed Restoring Task".to_owned()));

    let mut node = Node::new(spec(JobKind::System, vec![task("t", Class::Main)]));
    node.started("t");
    node.restart_agent();
    node.step(Event::RecoverFailed { task: "t".into(), start: 1 });
    assert_eq!(node.starts(), ["t"]);
}

#[test]
fn what_was_over_before_the_agent_restarted_stays_over_restore_06_hooks_09() {
    let mut node = Node::new(spec(JobKind::Batch, vec![batch("t", 3)]));
    node.started("t");
    node.exit("t", 0);
    node.restart_agent();
    assert!(node.starts().is_empty() && node.finished() && node.status() == ClientStatus::Complete);
}

#[test]
fn a_restart_delay_is_not_waited_for_twice_restore_09() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.exit("t", 1);
    node.restart_agent();
    assert_eq!(node.starts(), ["t"]);
}

#[test]
fn a_kill_goes_on_after_the_agent_restarted_restore_10() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.started("t");
    node.stop(false);
    node.restart_agent();
    node.step(Event::Recovered { task: "t".into(), start: 1 });
    assert_eq!(node.kills(), ["t"]);
    node.exit("t", 0);
    assert!(node.finished());
}

#[test]
fn a_dead_leader_still_ends_the_others_after_an_agent_restart_lifecycle_14() {
    let mut lead = batch("lead", 0);
    lead.leader = true;
    let mut node = Node::new(spec(JobKind::Batch, vec![lead, task("a", Class::Main)]));
    node.started("lead");
    node.started("a");
    node.exit("lead", 0);
    node.restart_agent();
    node.step(Event::Recovered { task: "a".into(), start: 1 });
    assert_eq!(node.kills(), ["a"]);
}

fn in_deployment() -> AllocSpec {
    let mut all = spec(JobKind::Service, vec![task("t", Class::Main)]);
    all.deployment_id = "d1".into();
    let (min_healthy_time, healthy_deadline) = (Nanos::from_secs(10), Nanos::from_secs(300));
    all.health = Some(HealthSpec { min_healthy_time, healthy_deadline, explain: true });
    all
}

#[test]
fn an_allocation_is_healthy_after_the_minimum_time_and_restarts_move_it_health_01_health_02() {
    let mut node = Node::new(in_deployment());
    node.started("t");
    node.pass(5.0);
    node.exit("t", 1);
    node.pass(20.0);
    node.started("t");
    node.pass(9.9);
    assert_eq!(node.healthy(), None);
    node.pass(0.2);
    assert_eq!(node.healthy(), Some(true));
    // Once given, a verdict stays, whatever comes.
    node.exit("t", 1);
    node.pass(1000.0);
    assert_eq!(node.healthy(), Some(true));
}

#[test]
fn a_failed_task_is_unhealthy_at_once_health_03_alloc_status_05() {
    let mut node = Node::new(in_deployment());
    node.start_failed("t", false);
    assert_eq!(node.healthy(), Some(false));
}

#[test]
fn a_missed_deadline_says_why_health_04() {
    let mut node = Node::new(in_deployment());
    node.pass(301.0);
    assert_eq!(node.healthy(), Some(false));
    let event = node.state("t").events.look().last().unwrap().clone();
    assert_eq!(event.kind, "Alloc Unhealthy");
    assert!(event.display_message.contains("not running by healthy_deadline of 5m0s"));

    let mut quiet = in_deployment();
    quiet.health.as_mut().unwrap().explain = false;
    let mut node = Node::new(quiet);
    node.pass(301.0);
    assert_eq!((node.healthy(), node.events("t").len()), (Some(false), 2));
}

#[test]
fn a_new_deployment_watches_again_and_a_stop_ends_watching_health_14_health_15_health_16() {
    let mut node = Node::new(in_deployment());
    node.started("t");
    node.pass(11.0);
    assert_eq!(node.healthy(), Some(true));
    node.restart_agent();
    node.step(Event::Recovered { task: "t".into(), start: 1 });
    assert_eq!(node.healthy(), Some(true));
    let mut next = in_deployment();
    next.deployment_id = "d2".into();
    next.health.as_mut().unwrap().min_healthy_time = Nanos::from_secs(60);
    node.step(Event::Updated(Box::new(next)));
    assert_eq!(node.healthy(), None);
    node.stop(false);
    node.pass(400.0);
    assert_eq!(node.healthy(), None);
}

#[test]
fn only_a_changed_status_is_urgent_alloc_sync_04_alloc_sync_05_alloc_sync_06() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("t", Class::Main)]));
    node.effects.clear();
    node.started("t");
    assert_eq!(node.effects, [Effect::Report { urgent: true }]);
    node.effects.clear();
    node.step(Event::DriverMessage { task: "t".into(), message: "pulling".into(), annotations: BTreeMap::new() });
    assert_eq!(node.effects, [Effect::Report { urgent: false }]);
    node.effects.clear();
    node.step(Event::ServerContact);
    assert!(node.effects.is_empty());
}

#[test]
fn every_task_hears_of_the_reconnect_alloc_sync_11() {
    let mut node = Node::new(spec(JobKind::Service, vec![task("a", Class::Main), task("b", Class::Main)]));
    node.step(Event::Reconnected);
    assert!(["a", "b"].iter().all(|t| node.events(t).contains(&"Reconnected".to_owned())));
}

mod random {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Started(usize),
        Exit(usize, i32),
        Fail(usize, bool),
        Pass(u16),
        Stop(bool),
        RestartAll,
        Agent,
        Recover(usize, bool),
        KillFailed(usize),
        Contact,
    }

    fn act() -> impl Strategy<Value = Act> {
        let n = 0..6_usize;
        prop_oneof![
            4 => n.clone().prop_map(Act::Started),
            4 => (n.clone(), 0..2_i32).prop_map(|(n, c)| Act::Exit(n, c)),
            1 => (n.clone(), any::<bool>()).prop_map(|(n, r)| Act::Fail(n, r)),
            3 => (0..400_u16).prop_map(Act::Pass),
            1 => any::<bool>().prop_map(Act::Stop),
            1 => Just(Act::RestartAll),
            1 => Just(Act::Agent),
            2 => (n.clone(), any::<bool>()).prop_map(|(n, f)| Act::Recover(n, f)),
            1 => n.prop_map(Act::KillFailed),
            1 => Just(Act::Contact),
        ]
    }

    const CLASSES: [Class; 6] = [
        Class::Prestart,
        Class::PrestartSidecar,
        Class::Main,
        Class::Poststart,
        Class::PoststartSidecar,
        Class::Poststop,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Whatever happened, a stop or destroy ends everything as long as the driver answers, and what has
        /// ended for good starts nothing by itself.
        #[test]
        fn a_destroyed_allocation_comes_to_rest(acts in prop::collection::vec(act(), 0..60), delay in 0..3_i64) {
            let tasks: Vec<TaskSpec> = CLASSES.iter().enumerate().map(|(n, c)| {
                let mut t = task(&format!("t{n}"), *c);
                t.shutdown_delay = Nanos::from_secs(delay);
                t
            }).collect();
            let mut all = in_deployment();
            all.tasks = tasks;
            all.shutdown_delay = Nanos::from_secs(delay);
            let mut node = Node::new(all);
            for act in acts {
                let name = |n: usize| format!("t{n}");
                match act {
                    Act::Started(n) => node.started(&name(n)),
                    Act::Exit(n, code) => node.exit(&name(n), code),
                    Act::Fail(n, recoverable) => node.start_failed(&name(n), recoverable),
                    Act::Pass(secs) => node.pass(f64::from(secs)),
                    Act::Stop(no_delay) => node.stop(no_delay),
                    Act::RestartAll => {
                        let effects = node.machine.request_restart(None, true, false, "again", node.now);
                        node.take(effects.unwrap_or_default());
                    }
                    Act::Agent => node.restart_agent(),
                    Act::Recover(n, true) => {
                        let start = node.start_of(&name(n));
                        node.step(Event::Recovered { task: name(n), start });
                    }
                    Act::Recover(n, false) => {
                        let start = node.start_of(&name(n));
                        node.step(Event::RecoverFailed { task: name(n), start });
                    }
                    Act::KillFailed(n) => {
                        let start = node.start_of(&name(n));
                        node.step(Event::KillFailed { task: name(n), start, message: "busy".into() });
                    }
                    Act::Contact => node.step(Event::ServerContact),
                }
                let report = node.machine.report();
                prop_assert!(report.task_states.values().all(|t| t.events.look().len() <= 10));
            }
            node.step(Event::Destroy);
            for _ in 0..20 {
                for n in 0..CLASSES.len() {
                    let name = format!("t{n}");
                    let start = node.start_of(&name);
                    node.step(Event::RecoverFailed { task: name.clone(), start });
                    node.start_failed(&name, true);
                    node.exit(&name, 137);
                }
            }
            let report = node.machine.report();
            prop_assert!(report.client_status.is_terminal(), "{report:?}");
            let starts = node.starts().len();
            node.pass(10_000.0);
            prop_assert_eq!(node.starts().len(), starts);
        }
    }
}
