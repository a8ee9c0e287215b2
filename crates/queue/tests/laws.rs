//! One law per test. Ids in the docs are those of the scenario tables (`q-` scheduler, `s-` server).
#![allow(clippy::unwrap_used)]

mod rig;

use model::{EvalStatus, Index, Timestamp};
use queue::{Effect, Freed, Kind, Limits, QueueError, UnblockReason};
use rig::{ALL, Rig, blocked, eval};

/// q-broker-001, s-broker-016 (fresh token), q-broker-032, q-worker-006.
#[test]
fn a_nacked_eval_goes_out_again_under_a_new_token() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    assert_eq!(rig.total().ready, 1);
    let first = rig.take1();
    assert_eq!(rig.total().unacked, 1);
    assert_eq!(rig.broker.outstanding(&first.eval.id), Some(first.token.as_str()));
    rig.nack(&first).unwrap();
    assert_eq!(rig.total().waiting, 1);
    rig.pass(1_000);
    let second = rig.take1();
    assert_ne!(first.token, second.token);
    rig.complete(&second);
    assert_eq!(rig.total(), Default::default());
    assert_eq!(rig.broker.outstanding(&second.eval.id), None);
}

/// q-broker-002, s-broker-001.
#[test]
fn a_row_handed_in_twice_is_queued_once() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    rig.row(eval("a", "job", 1));
    assert_eq!(rig.total().ready, 1);
    assert_eq!(rig.take(9).len(), 1);
}

/// q-broker-003, s-broker-011.
#[test]
fn failures_delay_by_one_second_then_by_multiples_of_twenty() {
    let mut rig = Rig::with(Limits { failures_max: 9, ..Limits::default() });
    rig.row(eval("a", "job", 1));
    for delay_ms in [1_000, 20_000, 40_000, 60_000] {
        let d = rig.take1();
        rig.nack(&d).unwrap();
        rig.pass(delay_ms - 1);
        assert!(rig.take(1).is_empty(), "{delay_ms}");
        rig.pass(1);
    }
    assert_eq!(rig.take(1).len(), 1);
}

/// q-worker-002, q-broker-004, q-broker-024, s-broker-002, s-broker-003.
#[test]
fn one_eval_per_namespace_and_job_is_out_at_a_time() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let mut other = eval("c", "job", 3);
    other.namespace = "other".into();
    rig.row(other);
    let out = rig.take(9);
    assert_eq!(rig.names(&out), ["a", "c"]);
    rig.row(eval("b", "job", 12));
    assert!(rig.take(9).is_empty());
    assert_eq!(rig.total().pending, 1);
    rig.complete(&out[0]);
    assert_eq!(rig.take1().eval.id, "b");
}

#[test]
fn an_eval_that_waited_while_another_was_decided_on_a_state_with_it_is_superseded() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 11));
    rig.row(eval("b", "job", 12));
    let a = rig.take1();
    assert_eq!((a.eval.id.as_str(), a.wait_index), ("a", Index(12)));
    rig.complete(&a);
    assert_eq!(rig.finished()[0].id, "b");
    assert!(rig.take(9).is_empty());
}

/// q-broker-005, q-broker-026, q-broker-027, q-broker-029, s-broker-015.
#[test]
fn of_those_that_wait_behind_only_the_best_and_newest_is_kept() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let a = rig.take1();
    for (id, index) in [("b", 12), ("c", 13), ("d", 14), ("e", 15)] {
        rig.row(eval(id, "job", index));
    }
    let mut urgent = eval("f", "job", 13);
    urgent.priority = 90;
    rig.row(urgent);
    rig.complete(&a);
    assert!(rig.finished().is_empty(), "what a was decided on included none of them");
    let kept = rig.take1();
    assert_eq!(kept.eval.id, "f");
    assert!(kept.wait_index >= Index(15), "it must see what the superseded ones would have seen");
    rig.row(eval("late", "job", 90));
    rig.complete(&kept);
    let cancelled = rig.finished();
    assert_eq!(cancelled.len(), 4);
    assert!(cancelled.iter().all(|e| e.status == EvalStatus::Cancelled && e.id != "late"));
    assert_eq!(rig.take1().eval.id, "late");
}

/// q-broker-006, s-broker-013, q-broker-007: the lease is lost.
#[test]
fn a_broker_without_the_lease_delivers_nothing_and_asks_for_nothing() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let a = rig.take1();
    rig.row(blocked("x", "other", 3));
    rig.freed("n", "c", 4);
    rig.broker.deactivate(rig.now);
    assert_eq!(rig.broker.dequeue(&rig.session, &ALL, 1, rig.now).unwrap_err(), QueueError::NotActive);
    assert_eq!(rig.nack(&a).unwrap_err(), QueueError::NotOutstanding);
    rig.pass(100);
    assert!(rig.tick().is_empty());
    rig.activate(2);
    let again = rig.take1();
    assert_eq!(again.eval.id, "a");
    assert!(again.token.starts_with("2-"), "{}", again.token);
}

/// q-broker-008.
#[test]
fn an_empty_queue_gives_nothing_and_no_error() {
    assert!(Rig::new().take(5).is_empty());
}

/// q-broker-009, q-broker-013.
#[test]
fn a_row_that_arrives_makes_its_kind_ready_and_no_other() {
    let mut rig = Rig::new();
    assert!(!rig.broker.has_ready(&ALL));
    let mut row = eval("a", "job", 1);
    row.kind = "batch".to_owned();
    rig.row(row);
    assert!(rig.broker.has_ready(&[Kind::Batch]));
    assert!(!rig.broker.has_ready(&[Kind::Service, Kind::System]));
    assert!(rig.take_of(&[Kind::Service], 1).is_empty());
    assert_eq!(rig.take_of(&[Kind::Service, Kind::Batch], 1).len(), 1);
}

/// q-broker-010, q-broker-011, q-broker-021, q-broker-025, s-broker-004.
#[test]
fn delivery_goes_by_priority_then_age() {
    let mut rig = Rig::new();
    for (id, index, priority) in [("a", 1, 10), ("b", 2, 30), ("c", 3, 20), ("d", 4, 30)] {
        let mut row = eval(id, id, index);
        row.priority = priority;
        rig.row(row);
    }
    let out = rig.take(9);
    assert_eq!(rig.names(&out), ["b", "d", "c", "a"]);
}

/// q-broker-012, s-broker-005.
#[test]
fn kinds_with_equal_heads_share_by_age() {
    let mut rig = Rig::new();
    for n in 0..20u64 {
        let mut row = eval(&format!("e{n:02}"), &format!("j{n}"), n + 1);
        row.kind = if n % 2 == 0 { "service" } else { "batch" }.to_owned();
        rig.row(row);
    }
    let out = rig.take_of(&[Kind::Service, Kind::Batch], 10);
    assert_eq!(out.iter().filter(|d| d.eval.kind == "batch").count(), 5);
}

/// q-broker-014, s-broker-006: no answer from a worker that beats.
#[test]
fn an_unanswered_delivery_goes_out_again_and_does_not_count() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    for _ in 0..5 {
        let d = rig.take1();
        rig.live(60_000);
        assert_eq!(rig.ack(&d, 9).unwrap_err(), QueueError::NotOutstanding, "q-broker-031");
    }
    assert_eq!(rig.total().ready, 1);
    assert!(rig.finished().is_empty());
}

/// q-broker-015, q-broker-016, s-broker-007, s-broker-008.
#[test]
fn an_extended_delivery_gets_its_full_time_again() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    rig.live(59_000);
    rig.broker.extend(&rig.session, &d.eval.id, &d.token, rig.now).unwrap();
    rig.live(59_000);
    assert_eq!(rig.total().unacked, 1);
    rig.live(1_000);
    assert_eq!(rig.total().ready, 1);
}

/// q-broker-017, q-broker-037, s-broker-009, s-leader-010.
#[test]
fn an_eval_that_workers_failed_three_times_is_given_up_and_followed() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    for _ in 0..3 {
        let d = rig.take1();
        rig.nack(&d).unwrap();
        rig.live(40_000);
    }
    assert!(rig.take(1).is_empty());
    let (evals, create) = rig.finish_effect().unwrap();
    let (failed, next) = (&evals[0], &create[0]);
    assert_eq!(failed.status, EvalStatus::Failed);
    assert!(failed.status_description.contains("delivery limit (3)"));
    assert_eq!((&failed.next_eval, &next.previous_eval), (&next.id, &failed.id));
    assert_eq!(next.triggered_by, "failed-follow-up");
    assert!((60_000_000_000..360_000_000_000).contains(&next.wait.0), "{:?}", next.wait);
    rig.live(10_000);
    let (_, again) = rig.finish_effect().unwrap();
    assert_eq!(again[0].id, next.id, "asking again names the same follow-up");
    rig.row(failed.clone());
    rig.live(20_000);
    assert!(rig.finish_effect().is_none());
}

/// q-broker-038, q-broker-039.
#[test]
fn a_given_up_eval_of_a_purged_job_or_of_the_core_gets_no_follow_up() {
    for (kind, job) in [("service", "purged"), ("_core", "job")] {
        let mut rig = Rig::with(Limits { failures_max: 1, ..Limits::default() });
        let mut row = eval("a", job, 1);
        row.kind = kind.to_owned();
        rig.row(row);
        let d = rig.take1();
        rig.nack(&d).unwrap();
        let (evals, create) = rig.finish_effect().unwrap();
        assert_eq!(evals[0].status, EvalStatus::Failed);
        assert!(create.is_empty(), "{kind} {job}");
    }
}

/// q-broker-018, s-broker-010.
#[test]
fn the_last_allowed_delivery_may_succeed() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    for _ in 0..2 {
        let d = rig.take1();
        rig.nack(&d).unwrap();
        rig.live(20_000);
    }
    let d = rig.take1();
    rig.complete(&d);
    assert_eq!(rig.total(), Default::default());
    assert!(rig.finished().is_empty());
}

/// q-broker-019.
#[test]
fn a_relative_wait_delays_and_a_takeover_does_not_start_it_anew() {
    let mut rig = Rig::new();
    let mut row = eval("a", "job", 1);
    row.modify_time = rig.now.wall.0;
    row.wait = model::Nanos::from_secs(10);
    rig.row(row);
    assert_eq!(rig.total().waiting, 1);
    rig.live(6_000);
    assert!(rig.take(1).is_empty());
    rig.activate(2);
    rig.live(4_000);
    assert_eq!(rig.take(1).len(), 1);
}

/// q-broker-020, s-broker-012, q-broker-033, s-broker-019.
#[test]
fn a_wait_until_is_kept_and_a_deleted_waiting_eval_never_comes() {
    let mut rig = Rig::new();
    for (id, at) in [("late", 2), ("soon", 1), ("gone", 1)] {
        let mut row = eval(id, id, 1);
        row.wait_until = Some(Timestamp(rig.now.wall.0 + at * 1_000_000_000));
        rig.row(row);
    }
    assert_eq!(rig.broker.next_deadline_ms().map(|ms| ms <= rig.now.mono_ms + 1_000), Some(true));
    rig.broker.on_eval_gone(&"gone".into(), rig.now);
    assert_eq!(rig.total().waiting, 2);
    rig.pass(999);
    assert!(rig.take(9).is_empty());
    rig.pass(1);
    assert_eq!(rig.take1().eval.id, "soon");
    rig.pass(1_000);
    assert_eq!(rig.take1().eval.id, "late");
}

/// q-broker-022, q-blocked-013, q-worker-016, s-broker-014: unblocked while it is still out.
#[test]
fn an_eval_reblocked_and_woken_while_out_is_ready_only_after_the_answer() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    let mut row = blocked("a", "job", 5);
    row.create_index = Index(1);
    rig.row(row);
    rig.freed("n", "c", 6);
    rig.pass(50);
    assert_eq!(rig.unblocked(), ["a"]);
    rig.row({
        let mut row = eval("a", "job", 1);
        row.modify_index = Index(7);
        row
    });
    assert!(rig.take(1).is_empty());
    rig.ack(&d, 5).unwrap();
    let again = rig.take1();
    assert!(again.wait_index >= Index(7));
}

/// q-broker-023.
#[test]
fn a_failure_of_an_eval_woken_while_out_redelivers_once() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    rig.row(blocked("a", "job", 5));
    rig.row({
        let mut row = eval("a", "job", 1);
        row.modify_index = Index(7);
        row
    });
    rig.nack(&d).unwrap();
    assert_eq!((rig.total().waiting, rig.total().ready), (1, 0));
    rig.pass(1_000);
    assert_eq!(rig.take(9).len(), 1);
}

/// q-broker-028.
#[test]
fn effects_are_bounded() {
    let mut rig = Rig::with(Limits { effect_evals_max: 4, ..Limits::default() });
    rig.row(eval("a", "job", 1));
    let a = rig.take1();
    for n in 2..12 {
        rig.row(eval(&format!("e{n:02}"), "job", n));
    }
    rig.complete(&a);
    let best = rig.take1();
    rig.complete(&best);
    let sizes: Vec<usize> = rig
        .tick()
        .iter()
        .map(|e| match e {
            Effect::Finish { evals, .. } => evals.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(sizes, [4, 4, 1], "nine of ten that waited");
}

/// q-broker-030, s-broker-016.
#[test]
fn a_wrong_answer_changes_nothing() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    let mut forged = d.clone();
    forged.token = "1-99".to_owned();
    assert_eq!(rig.ack(&forged, 9).unwrap_err(), QueueError::TokenMismatch);
    assert_eq!(rig.nack(&forged).unwrap_err(), QueueError::TokenMismatch);
    rig.broker.session_open(&"other".into(), rig.now).unwrap();
    let stolen = rig.broker.nack(&"other".into(), &d.eval.id, &d.token, rig.now);
    assert_eq!(stolen.unwrap_err(), QueueError::TokenMismatch);
    assert_eq!(rig.broker.nack(&rig.session, &"zz".into(), &d.token, rig.now).unwrap_err(), QueueError::NotOutstanding);
    assert_eq!(rig.total().unacked, 1);
    rig.complete(&d);
}

/// q-broker-034, q-worker-003, s-broker-017, s-leader-012.
#[test]
fn a_paused_queue_delivers_nothing_and_keeps_everything() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    rig.row(blocked("x", "other", 3));
    rig.freed("n", "c", 4);
    rig.broker.set_paused(true);
    assert!(rig.take(1).is_empty());
    rig.pass(100);
    assert!(rig.tick().is_empty());
    rig.broker.set_paused(false);
    assert_eq!(rig.take(1).len(), 1);
    assert_eq!(rig.unblocked(), ["x"]);
}

/// q-broker-035, q-worker-001.
#[test]
fn the_wait_index_covers_lease_row_and_the_jobs_newest_plan() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 10));
    rig.row(eval("b", "low", 2));
    let out = rig.take(2);
    let index_of = |id: &str| out.iter().find(|d| d.eval.id == *id).unwrap().wait_index;
    assert_eq!(index_of("a"), Index(10));
    assert_eq!(index_of("b"), Index(5), "the lease was taken at 5");
    rig.row(eval("c", "job", 11));
    rig.broker.on_plan(&"default".into(), &"job".into(), Index(14));
    let a = out.into_iter().find(|d| d.eval.id == "a").unwrap();
    rig.complete(&a);
    let c = rig.take1();
    assert!(c.wait_index >= Index(14));
}

/// The shell's feed may lag behind the worker.
#[test]
fn an_acknowledged_eval_is_neither_lost_nor_delivered_again_while_its_row_is_under_way() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 6));
    let d = rig.take1();
    rig.row(eval("b", "job", 7));
    rig.ack(&d, 20).unwrap();
    assert!(rig.take(9).is_empty(), "the job's place is not free before the row is seen");
    let mut done = eval("a", "job", 6);
    (done.status, done.modify_index) = (EvalStatus::Complete, Index(20));
    rig.row_at(done, 20);
    let b = rig.take1();
    assert_eq!(b.eval.id, "b");
    assert!(b.wait_index >= Index(20));
}

#[test]
fn a_lost_answer_to_a_finished_eval_holds_the_job_for_a_second_at_most() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 6));
    rig.take1();
    rig.row(eval("b", "job", 7));
    let mut done = eval("a", "job", 6);
    (done.status, done.modify_index) = (EvalStatus::Complete, Index(8));
    rig.row(done);
    assert!(rig.take(1).is_empty());
    rig.live(1_000);
    assert_eq!(rig.take1().eval.id, "b");
}

/// A worker thought dead may finish an evaluation that a wiser one has by now.
#[test]
fn a_decision_on_an_older_state_supersedes_nothing_newer() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 6));
    rig.take1();
    rig.open();
    rig.row(eval("b", "job", 7));
    assert_eq!(rig.take1().wait_index, Index(7));
    let mut done = eval("a", "job", 6);
    (done.status, done.snapshot_index, done.modify_index) = (EvalStatus::Complete, Index(6), Index(8));
    rig.row(done);
    assert!(rig.finished().is_empty());
    rig.live(1_000);
    assert_eq!(rig.take1().eval.id, "b");
}

#[test]
fn an_acknowledgement_without_effect_counts_as_a_failure() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 6));
    for n in 0..3 {
        let d = rig.take1();
        rig.ack(&d, 8 + n).unwrap();
        rig.broker.on_index(Index(8 + n), rig.now);
        rig.live(20_000);
    }
    assert_eq!(rig.finished()[0].status, EvalStatus::Failed);
}

#[test]
fn an_acknowledgement_whose_row_never_comes_is_given_up_waiting_for() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 6));
    let d = rig.take1();
    rig.ack(&d, 1_000_000).unwrap();
    rig.live(5_000);
    let again = rig.take1();
    assert!(again.wait_index < Index(1_000_000));
}

/// q-worker-020: whoever ends with an evaluation in hand ends its session.
#[test]
fn a_dead_sessions_evals_go_out_again_within_a_second_and_do_not_count() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    for _ in 0..5 {
        assert_eq!(rig.take(1).len(), 1);
        rig.broker.session_closed(&rig.session, rig.now);
        rig.open();
    }
    assert_eq!(rig.take(1).len(), 1);
    for _ in 0..10 {
        rig.pass(500);
        rig.tick();
    }
    assert_eq!(rig.broker.beat(&rig.session, rig.now).unwrap_err(), QueueError::UnknownSession);
    rig.open();
    assert_eq!(rig.take(1).len(), 1);
    assert!(rig.finished().is_empty());
}

#[test]
fn a_session_that_beats_lives() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    rig.live(30_000);
    rig.complete(&d);
}

#[test]
fn a_standstill_of_the_broker_kills_no_session() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    rig.pass(30_000);
    rig.tick();
    rig.complete(&d);
}

#[test]
fn a_session_opened_again_loses_what_it_had() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 1));
    let d = rig.take1();
    rig.open();
    assert_eq!(rig.ack(&d, 9).unwrap_err(), QueueError::NotOutstanding);
    assert_eq!(rig.take(1).len(), 1);
}

#[test]
fn an_eval_that_was_lost_twice_is_delivered_alone() {
    let mut rig = Rig::new();
    rig.row(eval("a", "a", 1));
    for _ in 0..2 {
        rig.take1();
        rig.open();
    }
    rig.row(eval("b", "b", 2));
    rig.row(eval("c", "c", 3));
    assert_eq!(rig.take(9).len(), 1);
    assert_eq!(rig.take(9).len(), 2);
}

#[test]
fn a_standby_that_takes_over_delivers_only_from_its_lease_index_on() {
    let mut rig = Rig::new();
    rig.row(eval("a", "job", 6));
    rig.activate_at(3, 50);
    rig.open();
    assert!(rig.take(1).is_empty());
    rig.broker.on_index(Index(50), rig.now);
    assert_eq!(rig.take1().wait_index, Index(50));
}

#[test]
fn what_a_standby_would_have_cancelled_is_queued_when_it_takes_over() {
    let mut rig = Rig::new();
    rig.broker.deactivate(rig.now);
    for (id, index) in [("a", 6), ("b", 7), ("c", 8)] {
        rig.row(eval(id, "job", index));
    }
    let mut done = eval("a", "job", 6);
    (done.status, done.modify_index) = (EvalStatus::Complete, Index(9));
    rig.row(done);
    let mut other_choice = eval("c", "job", 8);
    (other_choice.status, other_choice.modify_index) = (EvalStatus::Cancelled, Index(10));
    rig.row(other_choice);
    rig.activate(2);
    rig.open();
    assert_eq!(rig.take1().eval.id, "b");
}

#[test]
fn an_eval_of_unknown_type_is_failed_and_not_kept_for_ever() {
    let mut rig = Rig::new();
    let mut row = eval("a", "job", 1);
    row.kind = "cron".to_owned();
    rig.row(row);
    let failed = rig.finished();
    assert_eq!(failed[0].status, EvalStatus::Failed);
    assert!(failed[0].status_description.contains("cron"));
}

#[test]
fn a_full_queue_passes_rows_over_and_asks_for_them_when_there_is_room() {
    let mut rig = Rig::with(Limits { evals_max: 4, ..Limits::default() });
    for n in 1..=6 {
        rig.row(eval(&format!("e{n}"), &format!("j{n}"), n));
    }
    let stats = rig.broker.stats();
    assert_eq!((stats.total().ready, stats.overflow), (4, 2));
    let out = rig.take(9);
    rig.complete(&out[0]);
    assert_eq!(rig.tick(), [Effect::Rescan]);
    assert!(rig.tick().is_empty());
    rig.live(10_000);
    assert_eq!(rig.tick_seen(), [Effect::Rescan], "asked again until it is answered");
    let rows: Vec<_> = (2..=6).map(|n| rig::arc(eval(&format!("e{n}"), &format!("j{n}"), n))).collect();
    rig.broker.refill(rows.iter(), rig.now);
    assert_eq!(rig.broker.stats().overflow, 1);
    assert_eq!(
        {
            let out = rig.take(9);
            rig.names(&out)
        },
        ["e5"],
        "one of four places was free"
    );
}

#[test]
fn sessions_and_their_deliveries_are_bounded() {
    let mut rig = Rig::with(Limits { sessions_max: 2, session_unacked_max: 3, batch_max: 2, ..Limits::default() });
    rig.broker.session_open(&"two".into(), rig.now).unwrap();
    assert_eq!(rig.broker.session_open(&"three".into(), rig.now).unwrap_err(), QueueError::TooManySessions);
    for n in 1..=6 {
        rig.row(eval(&format!("e{n}"), &format!("j{n}"), n));
    }
    assert_eq!([rig.take(9).len(), rig.take(9).len(), rig.take(9).len()], [2, 1, 0]);
}

#[test]
fn a_resync_forgets_what_is_gone_and_retries_who_was_blocked() {
    let mut rig = Rig::new();
    rig.row(eval("a", "a", 1));
    rig.row(eval("b", "b", 2));
    rig.row(blocked("x", "x", 3));
    let rows = [rig::arc(eval("b", "b", 2)), rig::arc(blocked("x", "x", 3))];
    rig.broker.resync(rows.iter(), Index(40), rig.now);
    assert_eq!(rig.take1().eval.id, "b");
    assert_eq!(rig.unblocked(), ["x"]);
}

/// q-blocked-002, q-blocked-005, q-blocked-031, s-blocked-002, s-blocked-003, s-leader-011.
#[test]
fn one_blocked_eval_per_job_is_kept_the_newest() {
    let mut rig = Rig::new();
    rig.row(blocked("old", "job", 6));
    rig.row(blocked("new", "job", 8));
    assert_eq!(rig.finished()[0].id, "old");
    let mut late = blocked("late", "job", 4);
    late.snapshot_index = Index(4);
    rig.row(late);
    assert_eq!(rig.finished()[0].id, "late");
    assert_eq!(rig.total().blocked, 1);
}

/// q-blocked-003, q-blocked-010, q-blocked-011, q-blocked-012, q-blocked-018, q-blocked-021, s-blocked-007.
#[test]
fn a_quota_wakes_those_it_limits_and_those_without_one() {
    let mut rig = Rig::new();
    let mut limited = blocked("q", "q", 6);
    limited.quota_limit_reached = "foo".to_owned();
    rig.row(limited.clone());
    rig.row(blocked("x", "x", 6));
    assert_eq!(rig.broker.stats().quota_limited, 1);
    rig.free(Freed::Quota("bar".to_owned()), 7);
    assert_eq!(rig.unblocked(), ["x"]);
    rig.free(Freed::Quota("foo".to_owned()), 8);
    assert_eq!(rig.unblocked(), ["q"]);
    rig.broker.on_eval_gone(&"q".into(), rig.now);
    assert_eq!(rig.broker.stats().quota_limited, 0);
    limited.id = "late".into();
    rig.row(limited);
    assert_eq!(rig.unblocked(), ["late"], "its snapshot is older than the release");
}

/// q-blocked-006, q-blocked-014, s-blocked-004.
#[test]
fn an_escaped_eval_wakes_on_any_class() {
    let mut rig = Rig::new();
    let mut row = blocked("e", "e", 6);
    row.escaped_computed_class = true;
    rig.row(row.clone());
    assert_eq!(rig.broker.stats().escaped, 1);
    rig.freed("n", "any", 7);
    assert_eq!(rig.unblocked(), ["e"]);
    row.id = "late".into();
    row.job_id = "late".into();
    rig.row(row);
    assert_eq!(rig.unblocked(), ["late"]);
}

/// q-blocked-007, q-blocked-008, q-blocked-009, q-blocked-015, q-blocked-016, q-blocked-017, q-blocked-004,
/// s-blocked-005, s-blocked-006, s-blocked-008, s-blocked-009.
#[test]
fn a_class_wakes_all_but_those_known_not_to_fit_it() {
    let mut rig = Rig::new();
    let knows = |id: &str, class: Option<bool>, index| {
        let mut row = blocked(id, id, index);
        row.class_eligibility = class.map(|fits| ("c".to_owned(), fits)).into_iter().collect();
        row
    };
    rig.row(knows("fits", Some(true), 6));
    rig.row(knows("unfit", Some(false), 6));
    rig.row(knows("unknown", None, 6));
    rig.freed("n", "c", 7);
    assert_eq!(rig.unblocked(), ["fits", "unknown"]);
    rig.row(knows("fits-late", Some(true), 6));
    rig.row(knows("unknown-late", None, 6));
    rig.row(knows("unfit-late", Some(false), 6));
    rig.row(knows("seen", Some(true), 7));
    rig.row(knows("seen-unknown", None, 8));
    assert_eq!(rig.unblocked(), ["fits-late", "unknown-late"]);
}

#[test]
fn a_class_that_was_freed_before_the_snapshot_does_not_wake_when_another_is_freed() {
    let mut rig = Rig::new();
    rig.freed("n1", "c", 7);
    let mut row = blocked("a", "a", 8);
    row.class_eligibility = [("c".to_owned(), true), ("d".to_owned(), false)].into();
    rig.row(row);
    rig.freed("n2", "d", 9);
    assert!(rig.unblocked().is_empty());
    rig.freed("n1", "c", 10);
    assert_eq!(rig.unblocked(), ["a"]);
}

/// q-blocked-019, s-blocked-011.
#[test]
fn evals_blocked_by_plan_conflicts_are_retried_every_few_seconds() {
    let mut rig = Rig::new();
    let mut row = blocked("conflict", "conflict", 6);
    row.triggered_by = "max-plan-attempts".to_owned();
    rig.row(row);
    rig.row(blocked("room", "room", 6));
    rig.live(4_000);
    assert!(rig.unblocked().is_empty());
    rig.live(2_000);
    let effects = rig.tick_seen();
    assert_eq!(effects, [Effect::Unblock { evals: vec!["conflict".into()], reason: UnblockReason::ConflictRetry }]);
}

/// q-blocked-020, q-blocked-024, s-blocked-010: the state cancels the row, the queue follows.
#[test]
fn a_blocked_row_that_ends_is_no_longer_tracked() {
    let mut rig = Rig::new();
    for (id, node) in [("a", "n1"), ("b", "n2")] {
        let mut row = blocked(id, "job", 6);
        row.kind = "system".to_owned();
        row.node_id = node.into();
        rig.row(row);
    }
    assert_eq!(rig.total().blocked, 2);
    for id in ["a", "b"] {
        let mut row = blocked(id, "job", 6);
        (row.status, row.modify_index) = (EvalStatus::Cancelled, Index(9));
        rig.row(row);
    }
    assert_eq!(rig.total().blocked, 0);
}

/// q-blocked-022, q-blocked-032, s-blocked-012.
#[test]
fn a_system_eval_bound_to_a_node_wakes_with_that_node_only() {
    let mut rig = Rig::new();
    for (id, node, index) in [("old", "n1", 6), ("a", "n1", 7), ("b", "n2", 7)] {
        let mut row = blocked(id, "job", index);
        row.kind = "system".to_owned();
        row.node_id = node.into();
        rig.row(row);
    }
    assert_eq!(rig.finished()[0].id, "old", "one per job and node");
    rig.freed("n2", "c", 8);
    assert_eq!(rig.unblocked(), ["b"]);
}

/// q-blocked-023, s-blocked-013.
#[test]
fn a_missing_resource_wakes_who_misses_it() {
    let mut rig = Rig::new();
    let mut row = blocked("a", "a", 6);
    row.missing_non_node_resources = vec!["csi-volume:default:v".to_owned()];
    rig.row(row);
    rig.free(Freed::Resource("csi-volume:default:w".to_owned()), 7);
    assert!(rig.unblocked().is_empty());
    rig.free(Freed::Resource("csi-volume:default:v".to_owned()), 8);
    assert_eq!(rig.unblocked(), ["a"]);
}

/// q-blocked-029, s-blocked-014.
#[test]
fn what_was_forgotten_concerns_everybody_who_is_older() {
    let mut rig = Rig::new();
    rig.freed("n", "c", 7);
    rig.live(17 * 60_000);
    let unfit = |id: &str, index| {
        let mut row = blocked(id, id, index);
        row.class_eligibility = [("c".to_owned(), false)].into();
        row
    };
    rig.row(unfit("older", 6));
    rig.row(unfit("newer", 7));
    assert_eq!(rig.unblocked(), ["older"]);
}

#[test]
fn what_was_freed_before_this_broker_followed_is_taken_to_concern_who_is_older() {
    let mut rig = Rig::started_at(100);
    rig.row(blocked("before", "before", 90));
    rig.row(blocked("after", "after", 100));
    assert_eq!(rig.unblocked(), ["before"]);
}

#[test]
fn an_unblocking_without_effect_is_asked_for_again_and_stops_with_the_row() {
    let mut rig = Rig::new();
    rig.row(blocked("a", "a", 6));
    rig.freed("n", "c", 7);
    assert_eq!(rig.unblocked(), ["a"]);
    assert!(rig.unblocked().is_empty());
    rig.live(10_000);
    assert_eq!(rig.tick_seen().len(), 1);
    let mut row = eval("a", "a", 6);
    row.modify_index = Index(8);
    rig.row(row);
    rig.live(10_000);
    assert!(rig.tick_seen().is_empty());
    assert_eq!(rig.take(1).len(), 1);
}

#[test]
fn an_eval_blocked_again_on_a_newer_state_does_not_spin() {
    let mut rig = Rig::new();
    rig.freed("n", "c", 7);
    let mut row = eval("a", "a", 6);
    row.modify_index = Index(8);
    rig.row(row);
    let d = rig.take1();
    let mut row = blocked("a", "a", 9);
    row.snapshot_index = d.wait_index;
    rig.row(row);
    rig.ack(&d, 9).unwrap();
    rig.pass(100);
    assert!(rig.unblocked().is_empty());
}

#[test]
fn a_busy_queue_is_not_flooded_by_unblocking() {
    let mut rig = Rig::with(Limits { ready_before_unblock_max: 1, ..Limits::default() });
    rig.row(eval("a", "a", 1));
    rig.row(eval("b", "b", 2));
    rig.row(blocked("x", "x", 6));
    rig.freed("n", "c", 7);
    assert!(rig.unblocked().is_empty());
    rig.take1();
    assert_eq!(rig.unblocked(), ["x"]);
}
