//! News of allocations. Ids are those of the server scenario table.

use control::alloc::evals_for_updates;
use fsm::Command;
use model::{ClientStatus, DesiredStatus, Evaluation};

use crate::world::{NOW, S, World, job, news, policy, tracker};

fn decide(world: &mut World, updates: &[fsm::command::AllocClientUpdate]) -> Vec<Evaluation> {
    let mut ids = world.ids();
    evals_for_updates(&world.state, updates, NOW, &mut ids)
}

fn rescheduling(world: &mut World, id: &str, kind: &str) -> std::sync::Arc<model::Job> {
    let mut spec = job(id, kind);
    spec.task_groups[0].reschedule_policy = Some(policy(false, 1));
    world.job(spec)
}

/// node-015, and the effect is in the state: nothing more.
#[test]
fn a_failed_alloc_that_may_be_rescheduled_wants_an_eval_once() {
    let mut world = World::new();
    world.node("n", model::NodeStatus::Ready);
    let spec = rescheduling(&mut world, "web", "service");
    world.alloc("a", &spec, "n", |_| {});
    let updates = [news("a", "n", ClientStatus::Failed)];
    let evals = decide(&mut world, &updates);
    assert_eq!(evals.len(), 1);
    assert_eq!((evals[0].triggered_by.as_str(), evals[0].job_id.as_str()), ("alloc-failure", "web"));
    world.perform(Command::AllocClientUpdate { updates: updates.to_vec(), evals });
    assert!(decide(&mut world, &updates).is_empty());
}

/// node-018.
#[test]
fn a_batch_of_news_wants_one_eval_for_each_job() {
    let mut world = World::new();
    let a = rescheduling(&mut world, "a", "service");
    let b = rescheduling(&mut world, "b", "batch");
    for (id, spec) in [("a1", &a), ("a2", &a), ("b1", &b)] {
        world.alloc(id, spec, "n", |_| {});
    }
    let updates: Vec<_> = ["a1", "a2", "b1"].iter().map(|id| news(id, "n", ClientStatus::Failed)).collect();
    let evals = decide(&mut world, &updates);
    assert_eq!(evals.iter().map(|e| e.job_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_failure_that_no_policy_answers_wants_no_eval() {
    let mut world = World::new();
    let spec = rescheduling(&mut world, "web", "service");
    let bare = world.job(job("bare", "system"));
    world.alloc("used-up", &spec, "n", |row| row.reschedule_tracker = Some(tracker(&[NOW.0 - 60 * S])));
    world.alloc("waits", &spec, "n", |row| row.followup_eval_id = "f".into());
    world.alloc("stopped", &spec, "n", |row| row.desired_status = DesiredStatus::Stop);
    world.alloc("no-policy", &bare, "n", |_| {});
    world.alloc("foreign", &spec, "other", |_| {});
    for id in ["used-up", "waits", "stopped", "no-policy", "foreign", "unknown"] {
        assert!(decide(&mut world, &[news(id, "n", ClientStatus::Failed)]).is_empty(), "{id}");
    }
    world.alloc("rested", &spec, "n", |row| row.reschedule_tracker = Some(tracker(&[NOW.0 - 3_600 * S])));
    assert_eq!(decide(&mut world, &[news("rested", "n", ClientStatus::Failed)]).len(), 1);
}

#[test]
fn progress_and_success_want_no_eval() {
    let mut world = World::new();
    let spec = rescheduling(&mut world, "web", "batch");
    world.alloc("a", &spec, "n", |row| row.client_status = ClientStatus::Pending);
    for status in [ClientStatus::Running, ClientStatus::Pending, ClientStatus::Complete] {
        assert!(decide(&mut world, &[news("a", "n", status)]).is_empty(), "{status}");
    }
}

/// node-016.
#[test]
fn an_alloc_that_ends_without_its_job_wants_the_deregistration_finished() {
    let mut world = World::new();
    let spec = rescheduling(&mut world, "web", "service");
    world.alloc("a", &spec, "n", |_| {});
    world.put(fsm::Change::JobGone { namespace: "default".into(), id: "web".into() });
    let evals = decide(&mut world, &[news("a", "n", ClientStatus::Complete)]);
    assert_eq!(evals[0].triggered_by, "job-deregister");
}

/// node-017.
#[test]
fn an_alloc_thought_unreachable_that_is_heard_of_wants_an_eval_whatever_it_says() {
    for status in [ClientStatus::Running, ClientStatus::Complete, ClientStatus::Failed] {
        let mut world = World::new();
        let spec = rescheduling(&mut world, "web", "service");
        world.alloc("a", &spec, "n", |row| row.client_status = ClientStatus::Unknown);
        let evals = decide(&mut world, &[news("a", "n", status)]);
        assert_eq!(evals[0].triggered_by, "reconnect", "{status}");
        assert!(decide(&mut world, &[news("a", "n", ClientStatus::Unknown)]).is_empty());
    }
}
