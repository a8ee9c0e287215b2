//! Evaluations: one blocked per job, ends, follow-ups.

use fsm::command::{EvalUpdate, Refusal};
use fsm::{Command, Table};
use model::metric::AllocMetric;
use model::{EvalStatus, Evaluation, Index, Role};

use crate::world::{self, World, blocked, eval, job};

fn complete(world: &World, id: &str) -> Evaluation {
    Evaluation { status: EvalStatus::Complete, ..world.eval(id).clone() }
}

#[test]
fn store_033_a_job_whose_evaluation_placed_everything_waits_for_nothing() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    world.register(job("other"));
    world.create_eval(blocked("b", "web", Index(1)));
    world.create_eval(blocked("o", "other", Index(1)));
    let first = first.unwrap();
    world.finish_eval(first.as_str());
    assert_eq!(world.eval("b").status, EvalStatus::Cancelled);
    assert!(world.eval("b").status_description.contains(first.as_str()));
    assert_eq!(world.eval("o").status, EvalStatus::Blocked);
}

#[test]
fn store_034_fsm_013_a_failed_group_leaves_the_blocked_evaluation() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    world.create_eval(blocked("b", "web", Index(1)));
    let mut done = complete(&world, first.unwrap().as_str());
    done.failed_tg_allocs.insert("g".into(), AllocMetric::default());
    world.update_eval(done);
    assert_eq!(world.eval("b").status, EvalStatus::Blocked);
}

#[test]
fn blocked_002_003_of_two_blocked_evaluations_the_later_look_is_kept() {
    let mut world = World::new();
    world.register(job("web"));
    world.create_eval(blocked("one", "web", Index(5)));
    world.create_eval(blocked("two", "web", Index(6)));
    assert_eq!([world.eval("one").status, world.eval("two").status], [EvalStatus::Cancelled, EvalStatus::Blocked]);
    // One that is put back with an older look loses.
    let mut back = blocked("three", "web", Index(900));
    back.status = EvalStatus::Pending;
    world.create_eval(back);
    let look = world.index();
    let mut newer = world.eval("three").clone();
    newer.status = EvalStatus::Blocked;
    newer.snapshot_index = look;
    world.update_eval(newer);
    assert_eq!([world.eval("two").status, world.eval("three").status], [EvalStatus::Cancelled, EvalStatus::Blocked]);
    // Per node, a system job has one each.
    for node in ["n1", "n2"] {
        world.create_eval(Evaluation { node_id: node.into(), ..blocked(node, "web", world.index()) });
    }
    assert_eq!([world.eval("n1").status, world.eval("n2").status], [EvalStatus::Blocked; 2]);
}

#[test]
fn store_035_queued_counts_are_taken_over_for_known_groups() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    let mut done = complete(&world, first.unwrap().as_str());
    done.queued_allocations = [("g".to_owned(), 3), ("gone".to_owned(), 9)].into();
    world.update_eval(done);
    assert_eq!(world.summary("web")[0], 3);
    assert_eq!(world.state.job_summary(&world::ns(), &"web".into()).unwrap().summary.len(), 1);
}

#[test]
fn a_finished_evaluation_never_changes_and_its_late_follow_up_is_not_made() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    let first = first.unwrap();
    world.finish_eval(first.as_str());
    let mut late = world.eval(first.as_str()).clone();
    late.status = EvalStatus::Failed;
    let follow_up = Evaluation { previous_eval: first.clone(), ..eval("follow", &"web".into()) };
    let free = eval("free", &"web".into());
    let command = Command::EvalUpdate { evals: vec![EvalUpdate { eval: late }], create: vec![follow_up, free] };
    world.accept(Role::Scheduler, command);
    assert_eq!(world.eval(first.as_str()).status, EvalStatus::Complete);
    assert!(world.state.eval(&"follow".into()).is_none());
    assert!(world.state.eval(&"free".into()).is_some());
}

#[test]
fn an_update_keeps_where_and_when_an_evaluation_was_made() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    let first = first.unwrap();
    let before = world.eval(first.as_str()).clone();
    let forged =
        Evaluation { id: first.clone(), job_id: "else".into(), create_index: Index(1), ..Evaluation::default() };
    world.update_eval(Evaluation { status: EvalStatus::Complete, ..forged });
    let after = world.eval(first.as_str());
    assert_eq!(
        (&after.job_id, after.create_index, after.create_time),
        (&before.job_id, before.create_index, before.create_time)
    );
    assert_eq!(after.modify_index, world.index());
    assert!(after.modify_time > after.create_time);
}

#[test]
fn only_blocked_evaluations_are_unblocked_and_finishing_finishes() {
    let mut world = World::new();
    let (.., first) = world.register(job("web"));
    let first = first.unwrap();
    world.create_eval(blocked("b", "web", Index(1)));
    let reason = "room on n1".to_owned();
    let evals = vec!["b".into(), first.clone(), "unknown".into()];
    world.accept(Role::Broker, Command::EvalUnblock { evals, reason });
    assert_eq!(world.eval("b").status, EvalStatus::Pending);
    assert_eq!(world.eval("b").status_description, "room on n1");
    assert_eq!(world.changed(Table::Evals), 1);
    let open = EvalUpdate { eval: world.eval("b").clone() };
    let refusal = world.refuse(Role::Broker, Command::EvalFinish { evals: vec![open], create: vec![] });
    assert!(matches!(refusal, Refusal::Invalid(_)));
    let eval = Evaluation { status: EvalStatus::Failed, ..world.eval("b").clone() };
    let follow = |id: &str, job: &str| Evaluation { previous_eval: "b".into(), ..world::eval(id, &job.into()) };
    let create = vec![follow("again", "web"), follow("never", "gone")];
    world.accept(Role::Broker, Command::EvalFinish { evals: vec![EvalUpdate { eval }], create });
    assert_eq!((world.eval("b").status, world.eval("again").status), (EvalStatus::Failed, EvalStatus::Pending));
    assert!(world.state.eval(&"never".into()).is_none(), "nothing follows for a job that is not there");
}

#[test]
fn an_evaluation_made_twice_is_one_and_a_bad_id_changes_nothing() {
    let mut world = World::new();
    world.register(job("web"));
    world.create_eval(eval("twice", &"web".into()));
    let index = world.index();
    world.create_eval(eval("twice", &"web".into()));
    assert_eq!(world.eval("twice").create_index, index);
    for bad in ["", "a b", "naïve", &"x".repeat(65), "a/../b"] {
        let evals = vec![eval("good", &"web".into()), eval(bad, &"web".into())];
        world.refuse(Role::Gateway, Command::EvalCreate { evals });
    }
    assert!(world.state.eval(&"good".into()).is_none(), "all or nothing");
}
