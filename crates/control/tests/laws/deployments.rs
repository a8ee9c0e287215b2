//! Deployments. Ids are those of the server scenario table.

use std::sync::Arc;

use control::deployment::{Decision, decide};
use fsm::Command;
use fsm::command::DeploymentUpdate;
use model::deployment::DeploymentState;
use model::{ClientStatus, Deployment, DeploymentStatus, EvalStatus, Evaluation, Index, Job, Nanos, NodeStatus};

use crate::world::{NOW, World, deployment_of, group, health, job, policy};

/// A job `web`, its deployment `d`, and a node `n`.
struct Rollout {
    world: World,
    job: Arc<Job>,
}

impl Rollout {
    fn new(state: DeploymentState) -> Self {
        Self::of(|_| {}, state)
    }

    fn of(edit: impl FnOnce(&mut Job), state: DeploymentState) -> Self {
        let mut world = World::new();
        world.node("n", NodeStatus::Ready);
        let mut spec = job("web", "service");
        edit(&mut spec);
        let job = world.job(spec);
        world.deployment(deployment_of(&job, state));
        Self { world, job }
    }

    fn alloc(&mut self, id: &str, healthy: Option<bool>) {
        let index = self.world.index + 1;
        let status = healthy.and_then(|healthy| health(healthy, NOW, index));
        let job = Arc::clone(&self.job);
        self.world.alloc(id, &job, "n", |row| {
            row.deployment_id = "d".into();
            row.deployment_status = status;
        });
    }

    fn row(&self) -> Arc<Deployment> {
        Arc::clone(self.world.state.deployment(&"d".into()).unwrap())
    }

    fn decide(&mut self, after_s: i64) -> Decision {
        let mut ids = self.world.ids();
        let now = NOW.plus(Nanos::from_secs(after_s));
        let decision = decide(&self.world.state, &self.row(), now, &mut ids);
        let mut ids = self.world.ids();
        let again = decide(&self.world.state, &self.row(), now, &mut ids);
        assert_eq!(again.wake_at, decision.wake_at);
        assert_eq!(again.command.is_some(), decision.command.is_some(), "asked twice, the same answer");
        decision
    }

    fn update(&mut self, after_s: i64) -> DeploymentUpdate {
        match self.decide(after_s).command {
            Some(Command::DeploymentUpdate(update)) => *update,
            other => panic!("no update: {other:?}"),
        }
    }

    fn perform(&mut self, update: DeploymentUpdate) {
        self.world.perform(Command::DeploymentUpdate(Box::new(update)));
    }

    fn idle(&mut self, after_s: i64) -> bool {
        self.decide(after_s).command.is_none()
    }
}

/// deploy-020, deploy-028: the next batch.
#[test]
fn a_new_healthy_alloc_wants_one_eval_that_sees_it() {
    let mut rollout = Rollout::new(group(2, 1, 600));
    rollout.alloc("a", Some(true));
    let update = rollout.update(1);
    let eval = update.eval.clone().unwrap();
    assert_eq!((eval.triggered_by.as_str(), eval.deployment_id.as_str()), ("deployment-watcher", "d"));
    assert_eq!(update.status, None);
    rollout.perform(update);
    assert!(rollout.idle(1), "the pending evaluation will see it");
    let mut done = Evaluation::clone(rollout.world.state.eval(&eval.id).unwrap());
    (done.status, done.snapshot_index) = (EvalStatus::Complete, done.create_index);
    rollout.world.eval(done);
    assert!(rollout.idle(1), "the completed evaluation has seen it");
    rollout.alloc("b", None);
    assert!(rollout.idle(1));
}

#[test]
fn an_eval_that_waits_or_was_cancelled_or_saw_less_does_not_count() {
    let mut rollout = Rollout::new(group(2, 1, 600));
    rollout.alloc("a", Some(true));
    let base = Evaluation { namespace: "default".into(), job_id: "web".into(), ..Evaluation::default() };
    let newest = rollout.world.index;
    rollout.world.eval(Evaluation { id: "e1".into(), wait: Nanos::from_secs(60), ..base.clone() });
    rollout.world.eval(Evaluation { id: "e2".into(), status: EvalStatus::Cancelled, ..base.clone() });
    let seen = Index(newest - 1);
    rollout.world.eval(Evaluation { id: "e3".into(), status: EvalStatus::Complete, snapshot_index: seen, ..base });
    assert!(rollout.update(1).eval.is_some());
}

#[test]
fn a_deployment_whose_allocs_are_all_healthy_succeeds_and_its_version_is_stable() {
    let mut rollout = Rollout::new(group(2, 2, 600));
    rollout.alloc("a", Some(true));
    rollout.alloc("b", Some(true));
    let update = rollout.update(1);
    assert_eq!(update.status, Some(DeploymentStatus::Successful));
    assert_eq!(update.description, "Deployment completed successfully");
    assert!(update.mark_stable);
    rollout.perform(update);
    assert_eq!(rollout.row().status, DeploymentStatus::Successful);
    assert!(rollout.world.state.job(&"default".into(), &"web".into()).unwrap().is_stable());
    assert!(rollout.idle(9_999));
}

#[test]
fn a_healthy_alloc_that_ended_does_not_complete_a_deployment() {
    let mut rollout = Rollout::new(group(2, 2, 600));
    rollout.alloc("a", Some(true));
    rollout.alloc("b", Some(true));
    let job = Arc::clone(&rollout.job);
    rollout.world.alloc("b", &job, "n", |row| {
        row.deployment_id = "d".into();
        row.deployment_status = health(true, NOW, 1);
        row.client_status = ClientStatus::Failed;
    });
    assert_ne!(
        rollout.decide(1).command.map(|c| matches!(c, Command::DeploymentUpdate(u) if u.status.is_some())),
        Some(true)
    );
}

/// deploy-014.
#[test]
fn without_progress_by_its_deadline_a_deployment_fails() {
    let mut rollout = Rollout::new(group(2, 1, 600));
    rollout.alloc("a", None);
    let before = rollout.decide(599);
    assert_eq!((before.command, before.wake_at), (None, Some(NOW.plus(Nanos::from_secs(600)))));
    let update = rollout.update(600);
    assert_eq!(update.status, Some(DeploymentStatus::Failed));
    assert_eq!(update.description, "Failed due to progress deadline");
    assert!(update.eval.is_some() && update.rollback.is_none());
    rollout.perform(update);
    assert!(rollout.idle(9_999));
}

/// deploy-012.
#[test]
fn a_paused_deployment_ignores_its_deadline() {
    let mut rollout = Rollout::new(group(2, 0, 600));
    let mut row = Deployment::clone(&rollout.row());
    row.status = DeploymentStatus::Paused;
    rollout.world.deployment(row);
    assert_eq!(rollout.decide(9_999), Decision::default());
}

/// deploy-015.
#[test]
fn a_deployment_that_only_waits_for_its_promotion_does_not_fail() {
    let state = DeploymentState { desired_canaries: 1, ..group(2, 1, 600) };
    let mut rollout = Rollout::new(state);
    rollout.alloc("a", Some(true));
    let update = rollout.update(9_999);
    assert_eq!((update.status, update.promote.is_empty()), (None, true));
    rollout.perform(update);
    assert_eq!(rollout.decide(9_999), Decision::default());
}

#[test]
fn a_deployment_is_not_complete_before_its_canaries_are_promoted() {
    let mut rollout = Rollout::new(DeploymentState { desired_canaries: 1, ..group(1, 1, 600) });
    rollout.alloc("a", Some(true));
    assert_eq!(rollout.update(1).status, None);
}

/// deploy-017.
#[test]
fn without_a_progress_deadline_the_first_unhealthy_alloc_fails_a_deployment() {
    let mut rollout = Rollout::of(|job| job.task_groups[0].reschedule_policy = Some(policy(true, 0)), group(2, 0, 0));
    rollout.alloc("a", Some(false));
    let update = rollout.update(1);
    assert_eq!(update.description, "Failed due to unhealthy allocations");
    rollout.perform(update);
    assert!(rollout.idle(1));
}

/// deploy-018: it is replaced within the deployment.
#[test]
fn an_unhealthy_alloc_that_may_be_replaced_is_flagged_once() {
    let mut rollout = Rollout::of(|job| job.task_groups[0].reschedule_policy = Some(policy(true, 0)), group(2, 0, 600));
    rollout.alloc("a", Some(false));
    let command = rollout.decide(1).command.unwrap();
    let Command::AllocDesiredTransition { transitions, evals } = &command else { panic!("{command:?}") };
    assert_eq!(transitions["a"].reschedule, Some(true));
    assert_eq!(evals[0].triggered_by, "deployment-watcher");
    rollout.world.perform(command);
    assert!(rollout.idle(1));
}

/// deploy-019.
#[test]
fn an_unhealthy_alloc_that_may_not_be_replaced_fails_a_deployment_early() {
    let mut rollout = Rollout::new(group(2, 0, 600));
    rollout.alloc("a", Some(false));
    assert_eq!(rollout.update(1).status, Some(DeploymentStatus::Failed));
}

#[test]
fn an_unhealthy_alloc_that_was_replaced_or_stopped_is_history() {
    let mut rollout = Rollout::new(group(2, 0, 600));
    let job = Arc::clone(&rollout.job);
    rollout.world.alloc("a", &job, "n", |row| {
        row.deployment_id = "d".into();
        row.deployment_status = health(false, NOW, 1);
        row.next_allocation = "b".into();
    });
    assert!(rollout.idle(1));
}

/// deploy-003, deploy-021: to the newest stable version.
#[test]
fn a_failed_deployment_goes_back_to_the_newest_stable_version() {
    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    for (priority, stable) in [(10, true), (20, true), (30, false)] {
        world.job(Job { priority: Some(priority), stable: Some(stable), ..job("web", "service") });
    }
    let present = world.job(Job { priority: Some(40), ..job("web", "service") });
    world.deployment(deployment_of(&present, DeploymentState { auto_revert: true, ..group(2, 0, 600) }));
    let mut rollout = Rollout { world, job: present };
    rollout.alloc("a", Some(false));
    let update = rollout.update(1);
    assert_eq!(update.description, "Failed due to unhealthy allocations - rolling back to job version 1");
    assert_eq!(update.rollback.as_ref().unwrap().priority, Some(20));
    rollout.perform(update);
    let now = rollout.world.state.job(&"default".into(), &"web".into()).unwrap();
    assert_eq!((now.priority, now.version(), now.is_stable()), (Some(20), 4, false));
    assert!(rollout.idle(1));
}

/// deploy-004, deploy-022.
#[test]
fn a_rollback_never_leads_to_what_just_failed_and_says_so() {
    let state = || DeploymentState { auto_revert: true, ..group(2, 0, 600) };
    let mut none = Rollout::new(state());
    none.alloc("a", Some(false));
    let update = none.update(1);
    let text = "Failed due to unhealthy allocations - no stable job version to auto revert to";
    assert_eq!((update.description.as_str(), update.rollback), (text, None));

    let mut world = World::new();
    world.node("n", NodeStatus::Ready);
    world.job(Job { stable: Some(true), ..job("web", "service") });
    let present = world.job(job("web", "service"));
    world.deployment(deployment_of(&present, state()));
    let mut same = Rollout { world, job: present };
    let update = same.update(600);
    let text = "Failed due to progress deadline - not rolling back to stable job version 0 as current job has same specification";
    assert_eq!((update.description.as_str(), update.rollback), (text, None));
}

/// deploy-009, deploy-010.
#[test]
fn canaries_promote_themselves_once_all_are_healthy() {
    let state = DeploymentState {
        auto_promote: true,
        desired_canaries: 2,
        placed_canaries: vec!["a".into(), "b".into()],
        ..group(4, 1, 600)
    };
    let mut rollout = Rollout::new(state);
    rollout.alloc("a", Some(true));
    rollout.alloc("b", None);
    assert!(rollout.update(1).promote.is_empty());
    rollout.alloc("b", Some(true));
    let update = rollout.update(1);
    assert_eq!(update.promote, ["g"]);
    rollout.perform(update);
    assert!(rollout.row().task_groups["g"].promoted);
    assert!(rollout.idle(1));
}

/// deploy-024, deploy-025.
#[test]
fn a_deployment_of_an_older_version_or_a_purged_or_stopped_job_is_left_alone() {
    let mut older = Rollout::new(group(2, 0, 600));
    older.world.job(Job { priority: Some(60), ..job("web", "service") });
    assert_eq!(older.decide(9_999), Decision::default());
    let mut purged = Rollout::new(group(2, 0, 600));
    purged.world.put(fsm::Change::JobGone { namespace: "default".into(), id: "web".into() });
    assert_eq!(purged.decide(9_999), Decision::default());
    let mut stopped = Rollout::of(|job| job.stop = Some(true), group(2, 0, 600));
    assert_eq!(stopped.decide(9_999), Decision::default());
}

#[test]
fn a_deployment_with_an_empty_plan_for_groups_does_not_succeed_by_accident() {
    let mut rollout = Rollout::new(group(2, 0, 600));
    let mut row = Deployment::clone(&rollout.row());
    row.task_groups.clear();
    rollout.world.deployment(row);
    assert_eq!(rollout.decide(9_999), Decision::default());
}

mod hand {
    use control::deployment::hand::{HandError, Wish, by_hand};
    use fsm::command::DeploymentUpdate;
    use fsm::{Command, Reply};
    use model::{Job, Role};

    use super::*;

    impl Rollout {
        fn wish(&mut self, wish: Wish) -> Result<(DeploymentUpdate, Option<u64>), HandError> {
            let mut ids = self.world.ids();
            by_hand(&self.world.state, &self.row(), wish, NOW, &mut ids)
        }

        fn attempt(&mut self, wish: Wish) -> Reply {
            let (update, _) = self.wish(wish).unwrap();
            self.world.try_send(Role::Gateway, Command::DeploymentUpdate(Box::new(update)))
        }

        fn carry_out(&mut self, wish: Wish) {
            let reply = self.attempt(wish);
            assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        }

        fn refused(&mut self, wish: Wish) -> String {
            match self.attempt(wish) {
                Reply::Refused(refusal) => refusal.to_string(),
                reply => panic!("{reply:?}"),
            }
        }
    }

    fn canaries(count: i64, promote: bool) -> DeploymentState {
        DeploymentState { desired_canaries: count, auto_promote: promote, ..group(3, 0, 60) }
    }

    #[test]
    fn deploy_011_012_013_a_paused_deployment_waits_and_a_resumed_one_has_its_full_time_again() {
        let mut rollout = Rollout::new(group(2, 0, 60));
        let (pause, _) = rollout.wish(Wish::Pause).unwrap();
        assert_eq!((pause.status, &pause.eval), (Some(DeploymentStatus::Paused), &None));
        rollout.carry_out(Wish::Pause);
        let row = rollout.row();
        assert_eq!((row.status, row.status_description.as_str()), (DeploymentStatus::Paused, "Deployment is paused"));
        assert_eq!(rollout.decide(3600), Decision::default(), "deploy-012");
        let (resume, _) = rollout.wish(Wish::Resume).unwrap();
        assert!(resume.eval.is_some());
        rollout.carry_out(Wish::Resume);
        let row = rollout.row();
        assert_eq!(row.task_groups["g"].require_progress_by, NOW.plus(Nanos::from_secs(60)));
        assert_eq!((row.status, row.status_description.as_str()), (DeploymentStatus::Running, "Deployment is running"));
        let mut rollout = Rollout::new(canaries(1, false));
        rollout.carry_out(Wish::Resume);
        assert_eq!(rollout.row().status_description, "Deployment is running but requires manual promotion");
    }

    #[test]
    fn deploy_002_a_deployment_that_is_over_takes_nothing() {
        let mut rollout = Rollout::new(group(2, 0, 60));
        rollout.carry_out(Wish::Fail);
        let names = Some(vec!["g".to_owned()]);
        let health = Wish::Health { healthy: vec!["a".into()], unhealthy: vec![] };
        for (wish, verb) in [
            (Wish::Fail, "fail"),
            (Wish::Pause, "pause"),
            (Wish::Resume, "resume"),
            (Wish::Promote(None), "promote"),
            (Wish::Promote(names), "promote"),
            (Wish::Unblock, "unblock"),
            (health, "set health of allocations for a"),
        ] {
            assert_eq!(rollout.refused(wish), format!("can't {verb} terminal deployment"));
        }
    }

    #[test]
    fn deploy_006_007_promotion_needs_every_canary_healthy() {
        let mut rollout = Rollout::new(canaries(1, false));
        assert_eq!(rollout.refused(Wish::Promote(None)), "Task group \"g\" has 0/1 healthy allocations");
        let job = Arc::clone(&rollout.job);
        rollout.world.alloc("a", &job, "n", |row| {
            row.deployment_id = "d".into();
            row.deployment_status = health(true, NOW, 5);
        });
        let mut row = Deployment::clone(&rollout.row());
        row.task_groups.get_mut("g").unwrap().placed_canaries = vec!["a".into()];
        rollout.world.deployment(row);
        rollout.carry_out(Wish::Promote(None));
        assert!(rollout.row().task_groups["g"].promoted, "deploy-006");
        assert_eq!(
            rollout.wish(Wish::Promote(Some(vec!["nope".into()]))).unwrap_err(),
            HandError::NoGroup("nope".into())
        );
    }

    #[test]
    fn deploy_008_groups_without_canaries_have_nothing_to_promote() {
        let mut rollout = Rollout::new(group(2, 0, 60));
        rollout.carry_out(Wish::Promote(None));
        assert!(!rollout.row().task_groups["g"].promoted);
    }

    #[test]
    fn deploy_003_005_a_bad_verdict_by_hand_fails_the_deployment() {
        let mut rollout = Rollout::new(group(2, 0, 60));
        rollout.alloc("a", None);
        let verdict =
            |ids: &[&str]| Wish::Health { healthy: vec![], unhealthy: ids.iter().map(|id| (*id).into()).collect() };
        assert_eq!(rollout.wish(verdict(&[])).unwrap_err(), HandError::NoAllocs);
        assert!(rollout.refused(verdict(&["other"])).contains("is not part of deployment"), "deploy-005");
        rollout.carry_out(verdict(&["a"]));
        let row = rollout.row();
        assert_eq!(row.status, DeploymentStatus::Failed);
        assert_eq!(row.status_description, "Failed due to unhealthy allocations");
    }

    #[test]
    fn deploy_021_022_a_deployment_failed_by_hand_goes_back_where_that_is_asked_for() {
        let mut rollout = Rollout::new(group(2, 0, 60));
        let (update, reverted) = rollout.wish(Wish::Fail).unwrap();
        assert_eq!((update.description.as_str(), reverted), ("Deployment marked as failed", None));
        let mut rollout = Rollout::new(DeploymentState { auto_revert: true, ..group(2, 0, 60) });
        let (update, reverted) = rollout.wish(Wish::Fail).unwrap();
        let text = "Deployment marked as failed - no stable job version to auto revert to";
        assert_eq!((update.description.as_str(), reverted), (text, None), "deploy-022");
        let old = Job { stable: Some(true), version: Some(0), priority: Some(70), ..Job::clone(&rollout.job) };
        rollout.world.put(fsm::Change::JobVersion(Arc::new(old)));
        let mut newer = Job::clone(&rollout.job);
        newer.version = Some(1);
        let newer = rollout.world.put(fsm::Change::Job(Arc::new(newer)));
        assert!(newer.get() > 0);
        let row = Deployment { job_version: 1, ..Deployment::clone(&rollout.row()) };
        rollout.world.deployment(row);
        let (update, reverted) = rollout.wish(Wish::Fail).unwrap();
        assert_eq!(reverted, Some(0), "deploy-021");
        assert_eq!(update.description, "Deployment marked as failed - rolling back to job version 0");
    }
}
