//! Nodes that are back: who stays.

use model::alloc::TaskState;
use model::metric::{AllocMetric, NodeScoreMeta};
use model::{ClientStatus, DeploymentStatus};

use super::super::reconnect::{Side, survivor};
use super::*;

fn scored(score: f64) -> impl Fn(&mut Allocation) {
    move |alloc| {
        let meta = NodeScoreMeta { node_id: alloc.node_id.clone(), norm_score: score, ..NodeScoreMeta::default() };
        alloc.metrics =
            Some(model::Carried::new(AllocMetric { score_meta_data: vec![meta], ..AllocMetric::default() }));
    }
}

fn started(task: &str, ago: Option<i64>, restarted: Option<i64>) -> impl Fn(&mut Allocation) {
    let task = task.to_owned();
    move |alloc| {
        let at = |ago: i64| Timestamp(NOW - ago * SECOND);
        let state = TaskState {
            state: TaskStateKind::Running,
            started_at: ago.map(at),
            last_restart: restarted.map(at),
            restarts: u64::from(restarted.is_some()),
            ..TaskState::default()
        };
        alloc.task_states.insert(task.clone(), state);
    }
}

fn pick(strategy: &str, set: [&dyn Fn(&mut Allocation); 2]) -> Side {
    let scene = Scene::service(1).disconnects(|block| block.reconcile = Some(strategy.into()));
    let mut scene = scene.one(0, 0, |_| {}).one(0, 0, |_| {});
    set[0](&mut scene.allocs[0]);
    set[1](&mut scene.allocs[1]);
    survivor(&scene.job.task_groups[0], &scene.allocs[0], &scene.allocs[1])
}

#[test]
fn reconnect_001_to_006_the_strategy_says_who_stays() {
    let newer = |alloc: &mut Allocation| alloc.job_version = Some(3);
    for strategy in ["best_score", "keep_original", "keep_replacement", "longest_running"] {
        assert_eq!(pick(strategy, [&|_| {}, &newer]), Side::Replacement, "reconnect-001 {strategy}");
        let reborn = |alloc: &mut Allocation| alloc.job_incarnation = Some(model::Index(99));
        assert_eq!(pick(strategy, [&|_| {}, &reborn]), Side::Replacement, "reconnect-001 {strategy}");
    }
    let (low, high) = (scored(0.2), scored(0.9));
    let waiting = |alloc: &mut Allocation| {
        scored(0.9)(alloc);
        client(alloc, ClientStatus::Pending);
    };
    let gone = |alloc: &mut Allocation| {
        scored(0.2)(alloc);
        client(alloc, ClientStatus::Unknown);
    };
    assert_eq!(pick("best_score", [&low, &high]), Side::Replacement, "reconnect-002");
    assert_eq!(pick("best_score", [&low, &waiting]), Side::Original, "reconnect-003");
    assert_eq!(pick("best_score", [&gone, &waiting]), Side::Replacement, "reconnect-004");
    assert_eq!(pick("best_score", [&high, &low]), Side::Original, "reconnect-005");
    assert_eq!(pick("keep_original", [&low, &high]), Side::Original, "reconnect-006");
    assert_eq!(pick("keep_replacement", [&high, &low]), Side::Replacement, "reconnect-006");
}

#[test]
fn reconnect_007_to_011_who_runs_longest_stays() {
    fn pick(set: [&dyn Fn(&mut Allocation); 2]) -> Side {
        super::reconnect::pick("longest_running", set)
    }
    let two = |first: i64, second: i64| {
        move |alloc: &mut Allocation| {
            started("t", Some(first), None)(alloc);
            started("u", Some(second), None)(alloc);
        }
    };
    assert_eq!(pick([&two(10, 90), &two(50, 40)]), Side::Original, "reconnect-007");
    assert_eq!(pick([&two(10, 20), &two(50, 40)]), Side::Replacement, "reconnect-007");
    let restarted = pick([&started("t", Some(90), Some(5)), &started("t", Some(50), None)]);
    assert_eq!(restarted, Side::Replacement, "reconnect-009");
    let never = started("t", None, None);
    assert_eq!(pick([&never, &started("t", Some(5), None)]), Side::Replacement, "reconnect-010");
    assert_eq!(pick([&started("t", Some(5), None), &never]), Side::Original, "reconnect-010");
    let unstarted = |score: f64| {
        move |alloc: &mut Allocation| {
            started("t", None, None)(alloc);
            scored(score)(alloc);
        }
    };
    assert_eq!(pick([&unstarted(0.9), &unstarted(0.1)]), Side::Original, "reconnect-011");
    assert_eq!(pick([&unstarted(0.1), &unstarted(0.9)]), Side::Replacement, "reconnect-011");
}

/// reconnect-008
#[test]
fn reconnect_008_the_leader_counts_for_its_allocation() {
    let mut scene = Scene::service(1).disconnects(|block| block.reconcile = Some("longest_running".into()));
    let mut leader = scene.job.task_groups[0].tasks[0].clone();
    (leader.name, leader.leader) = ("lead".into(), true);
    scene.job.task_groups[0].tasks.push(leader);
    let mut scene = scene.one(0, 0, |_| {}).one(0, 0, |_| {});
    for (at, task, lead) in [(0, 900, 10), (1, 5, 60)] {
        started("t", Some(task), None)(&mut scene.allocs[at]);
        started("lead", Some(lead), None)(&mut scene.allocs[at]);
    }
    assert_eq!(survivor(&scene.job.task_groups[0], &scene.allocs[0], &scene.allocs[1]), Side::Replacement);
}

/// Two wanted; the first is back and was replaced.
fn replaced(reconcile: &str) -> Scene {
    let scene = Scene::service(2).disconnects(|block| block.reconcile = Some(reconcile.into())).rescheduled(3, 0);
    let scene = scene.one(1, 0, back).one(1, 1, |_| {}).one(1, 0, |a| a.previous_allocation = alloc_id(0));
    scene.each(0..1, |a| a.next_allocation = alloc_id(2))
}

#[test]
fn reconnect_012_013_017_018_one_of_each_pair_goes_on() {
    let alone = Scene::service(2).disconnects(|_| {}).one(1, 0, back).one(1, 1, |_| {}).run();
    assert_eq!((alone.counts.as_str(), alone.reconnected), ("ignore 2, reconnect 1", list(0..1)), "reconnect-012");
    let kept = replaced("keep_original").run();
    assert_eq!((kept.counts.as_str(), kept.stop), ("ignore 2, stop 1, reconnect 1", list(0..1)), "reconnect-013");
    let other = replaced("keep_replacement").run();
    assert_eq!((other.counts.as_str(), other.reconnected.len()), ("ignore 2, stop 1", 0));
    let chain = replaced("keep_original").one(1, 0, |a| a.previous_allocation = alloc_id(2));
    let chain = chain.each(2..3, |a| {
        failed(60)(a);
        a.next_allocation = alloc_id(3);
    });
    let got = chain.run();
    assert_eq!((got.stop.len(), got.counts.as_str()), (2, "ignore 2, stop 2, reconnect 1"), "reconnect-017");
    let unwanted = replaced("keep_original").each(0..1, |a| a.desired_transition.migrate = Some(true));
    let got = unwanted.run();
    assert!(got.reconnected.is_empty(), "reconnect-018: {got:?}");
    let ended = replaced("keep_original").each(0..1, stopped).run();
    assert_eq!((ended.counts.as_str(), ended.stop.len(), ended.place.len()), ("ignore 2", 0, 0), "reconnect-018");
}

#[test]
fn reconnect_014_015_016_who_ended_meanwhile_is_not_kept() {
    let fail = |alloc: &mut Allocation| {
        failed(60)(alloc);
        on(READY)(alloc);
    };
    let got = replaced("keep_original").each(0..1, fail).run();
    assert_eq!((got.counts.as_str(), got.stop, got.place.len()), ("ignore 2, stop 1", list(0..1), 0), "reconnect-014");
    let alone = Scene::service(2).disconnects(|_| {}).rescheduled(3, 0).one(1, 0, back).one(1, 1, |_| {});
    let got = alone.each(0..1, fail).run();
    assert_eq!((got.place, got.stop), (vec!["[0] again".to_owned()], list(0..1)), "reconnect-015");
    let done = Scene::batch(2).disconnects(|_| {}).one(1, 0, back).one(1, 1, |_| {}).each(0..1, complete).run();
    assert_eq!((done.counts.as_str(), done.place.len(), done.stop.len()), ("ignore 2", 0, 0), "reconnect-016");
}

#[test]
fn reconnect_019_020_021_what_never_ran_or_is_old_does_not_come_back() {
    let pending = Scene::service(2).disconnects(|_| {}).new_ones(0..2).each(0..1, |a| {
        on(AWAY)(a);
        client(a, ClientStatus::Pending);
    });
    let got = pending.run();
    assert_eq!((got.counts.as_str(), got.stop), ("ignore 1, place 1, stop 1", vec!["[0] lost".to_owned()]));
    let old = Scene::service(2).disconnects(|_| {}).update(Update::InPlace).one(0, 0, back).one(1, 1, |_| {}).run();
    assert_eq!((old.counts.as_str(), old.stop), ("ignore 1, place 1, stop 1", list(0..1)), "reconnect-020");
    let later = Scene::service(1).disconnects(|_| {}).update(Update::InPlace).one(0, 0, |a| {
        back(a);
        recorded(&[(ClientStatus::Unknown, 60), (ClientStatus::Running, 30)])(a);
    });
    assert_eq!(later.run().counts, "in-place 1", "reconnect-021");
}

#[test]
fn reconnect_022_023_a_canary_out_of_reach_is_replaced_and_not_forgotten() {
    let scene = || {
        let scene = Scene::service(10).rolling(3, 3).disconnects(|_| {}).old_ones(0..10).new_ones(0..3);
        scene.each(10..13, canary).deployed(DeploymentStatus::Running, has_canaries(3, 10..13))
    };
    let one = scene().each(10..11, on(AWAY)).run();
    assert_eq!((one.counts.as_str(), one.unknown), ("ignore 13, canary 1, disconnect 1", list(0..1)), "reconnect-022");
    let two = scene().each(10..12, on(AWAY)).each(10..11, |a| client(a, ClientStatus::Pending)).run();
    assert_eq!((two.stop, two.unknown), (vec!["[0] lost".to_owned()], list(1..2)), "reconnect-023");
    assert_eq!(two.place.len(), 2);
    let next = scene().one(1, 0, canary).each(10..11, |a| {
        let of = a.deployment_status.clone();
        unknown(5)(a);
        a.deployment_status = of;
    });
    let next = next.deployed(DeploymentStatus::Running, has_canaries(3, 10..14)).run();
    assert!(next.place.is_empty() && next.stop.is_empty(), "asked again, nothing more: {next:?}");
}

/// reconnect-024: whoever is back is kept or stopped, never both, and never kept beside a replacement that
/// goes on.
#[test]
fn reconnect_024_each_is_in_exactly_one_of_kept_or_stopped() {
    for bits in 0..128_u32 {
        let strategy = ["best_score", "keep_original", "keep_replacement", "longest_running"][bits as usize % 4];
        let scene = replaced(strategy)
            .each(0..1, scored(f64::from(bits & 4) / 8.0))
            .each(2..3, scored(0.25))
            .each(2..3, |a| client(a, if bits & 8 > 0 { ClientStatus::Pending } else { ClientStatus::Running }))
            .each(0..1, |a| a.job_version = Some(u64::from(bits & 16 == 0)))
            .each(2..3, |a| started("t", (bits & 32 > 0).then_some(90), None)(a))
            .each(0..1, |a| a.desired_transition.migrate = Some(bits & 64 > 0));
        let got = scene.run();
        assert_eq!(
            got.reconnected.len() + got.stop.len() - usize::from(got.reconnected.len() == 1),
            1,
            "{bits}: {got:?}"
        );
        assert!(got.place.is_empty(), "{bits}: {got:?}");
    }
}
