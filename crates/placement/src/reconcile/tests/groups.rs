//! Counts: what is placed, stopped, moved, replaced.

use model::deployment::DeploymentState;
use model::group::DisconnectStrategy;
use model::{ClientStatus, DeploymentStatus};

use super::*;

const STATUSES: [ClientStatus; 6] = [
    ClientStatus::Pending,
    ClientStatus::Running,
    ClientStatus::Complete,
    ClientStatus::Failed,
    ClientStatus::Lost,
    ClientStatus::Unknown,
];

fn expect(id: &str, scene: &Scene, counts: &str) -> Got {
    let got = scene.run();
    assert_eq!(got.counts, counts, "{id}");
    got
}

#[test]
fn reconcile_017_018_a_drain_moves_what_the_count_still_wants() {
    let drained = |count, moving: Range<usize>| {
        Scene::service(count).new_ones(0..10).each(moving, |a| {
            on(DRAINING)(a);
            migrating(a);
        })
    };
    let up = expect("reconcile-017", &drained(15, 0..2), "ignore 8, place 5, migrate 2");
    assert_eq!(up.place.len(), 7);
    let down = expect("reconcile-018", &drained(8, 0..3), "ignore 7, migrate 1, stop 2");
    assert_eq!((down.place, down.stop), (vec!["[0]".to_owned()], list(0..3)));
}

#[test]
fn reconcile_022_025_groups_are_each_by_themselves() {
    let scene = Scene::service(10).new_ones(0..10).each(0..10, |a| a.task_group = "gone".into());
    let got = expect("reconcile-022", &scene, "place 10");
    assert_eq!((words(&got.all["gone"]), got.place.len(), got.stop.len()), ("stop 10".to_owned(), 10, 10));
    let mut two = Scene::service(2).new_ones(0..2);
    two.job.task_groups.push(TaskGroup { name: Some("h".into()), count: Some(10), ..two.job.task_groups[0].clone() });
    let got = expect("reconcile-025", &two, "ignore 2");
    assert_eq!(words(&got.all["h"]), "place 10");
}

#[test]
fn reconcile_026_a_group_without_steps_needs_no_deployment_of_its_own() {
    let mut scene = Scene::service(10).rolling(4, 0).new_ones(0..10).each(0..10, judged(None));
    let plain = TaskGroup { name: Some("h".into()), update: None, ..scene.job.task_groups[0].clone() };
    scene.job.task_groups.push(plain);
    let scene = scene.deployed(DeploymentStatus::Running, |_| {});
    let mut scene = scene;
    for index in 0..10 {
        scene = scene.one(0, index, |a| a.task_group = "h".into());
    }
    let got = expect("reconcile-026", &scene, "ignore 10");
    assert!(got.created.is_none());
    assert_eq!(words(&got.all["h"]), "destructive 10");
}

#[test]
fn reconcile_032_what_was_stopped_and_ended_is_replaced() {
    let scene = Scene::service(5).new_ones(0..5).each(0..1, |a| {
        complete(a);
        stopped(a);
    });
    assert_eq!(expect("reconcile-032", &scene, "ignore 4, place 1").place, ["[0]"]);
}

#[test]
fn reconcile_044_a_new_incarnation_has_a_deployment_of_its_own() {
    let mut scene = Scene::service(5).rolling(5, 0).one(1, 0, judged(Some(true)));
    scene.reborn = true;
    let scene = scene.deployed(DeploymentStatus::Running, |_| {});
    let got = scene.run();
    assert_eq!(got.updates, ["cancelled"]);
    assert_eq!((got.counts.as_str(), got.wants()), ("place 4, destructive 1", Some((5, 0))));
}

#[test]
fn reconcile_048_049_a_held_deployment_neither_grows_nor_goes_on() {
    for status in [DeploymentStatus::Paused, DeploymentStatus::Failed] {
        let grown = Scene::service(15).rolling(4, 0).new_ones(0..10).each(0..10, judged(Some(true)));
        expect("reconcile-048", &grown.deployed(status, |_| {}), "ignore 10");
        let pending = Scene::service(10).rolling(4, 0).new_ones(0..1).each(0..1, judged(Some(true))).old_ones(1..10);
        let got = expect("reconcile-049", &pending.deployed(status, |_| {}), "ignore 10");
        assert!(got.stop.is_empty() && got.place.is_empty());
    }
}

/// Eight new and healthy, two old; of the new, one lost and two moving.
fn rolling_and_tainted(status: DeploymentStatus) -> Scene {
    let new = Scene::service(10).rolling(4, 0).new_ones(0..8).each(0..8, judged(Some(true)));
    let new = new.each(0..1, on(DOWN)).each(1..3, |a| {
        on(DRAINING)(a);
        migrating(a);
    });
    new.old_ones(8..10).deployed(status, |state| (state.placed_allocs, state.healthy_allocs) = (8, 8))
}

#[test]
fn reconcile_061_062_what_is_tainted_is_replaced_whatever_the_deployment_does() {
    let rolling = rolling_and_tainted(DeploymentStatus::Running);
    let got = expect("reconcile-061", &rolling, "ignore 5, place 1, migrate 2, stop 1, destructive 2");
    assert_eq!(got.place, ["[1]", "[2]", "[0] lost"]);
    let failed = rolling_and_tainted(DeploymentStatus::Failed);
    let got = expect("reconcile-062", &failed, "ignore 7, place 1, migrate 2, stop 1");
    assert!(got.destructive.is_empty());
}

#[test]
fn reconcile_065_074_a_deployment_is_done_when_replacements_are_healthy() {
    let replaced = Scene::service(10).rolling(4, 0).new_ones(0..10).each(0..10, judged(Some(true)));
    let replaced = replaced.one(1, 0, |a| {
        judged(Some(false))(a);
        failed(60)(a);
        a.next_allocation = alloc_id(0);
    });
    let running = replaced.deployed(DeploymentStatus::Running, |state| {
        (state.placed_allocs, state.healthy_allocs, state.unhealthy_allocs) = (11, 10, 1);
    });
    assert_eq!(expect("reconcile-065", &running, "ignore 10").updates, ["successful"]);
    let over = Scene::service(10).rolling(4, 0).rescheduled(2, 5).new_ones(0..10).each(0..10, judged(Some(true)));
    let over = over.each(0..5, failed(60)).deployed(DeploymentStatus::Successful, |_| {});
    let got = expect("reconcile-074", &over, "ignore 5, place 5, stop 5, now 5");
    assert_eq!(got.stop, list(0..5));
}

#[test]
fn reconcile_078_079_regions_that_wait_for_others_begin_nothing() {
    for (status, multi, counts) in [
        (DeploymentStatus::Pending, true, ""),
        (DeploymentStatus::Running, false, "place 10"),
        (DeploymentStatus::Running, true, "place 10"),
    ] {
        let mut scene = Scene::service(10).rolling(4, 0).deployed(status, |_| {});
        scene.job.multiregion = multi.then(model::job::Multiregion::default);
        expect("reconcile-078", &scene, counts);
    }
    let mut batch = Scene::batch(10);
    batch.job.multiregion = Some(model::job::Multiregion::default());
    expect("reconcile-079", &batch, "place 10");
    batch.job.periodic = Some(model::job::PeriodicConfig::default());
    expect("reconcile-079", &batch, "place 10");
}

#[test]
fn reconcile_081_082_scaling_down_counts_who_is_tried_again() {
    let failing = Scene::service(3).rescheduled(2, 5).new_ones(0..4).each(0..1, failed(60));
    let got = expect("reconcile-081", &failing, "ignore 2, place 1, stop 2, now 1");
    assert_eq!((got.place, got.stop), (vec!["[0] again".to_owned()], vec!["[0]".to_owned(), "[3]".to_owned()]));
    let deploying = Scene::service(4).rolling(4, 0).rescheduled(2, 5).new_ones(0..5).each(0..5, judged(None));
    let deploying = deploying.each(4..5, failed(60)).deployed(DeploymentStatus::Running, |_| {});
    let got = expect("reconcile-082", &deploying, "ignore 4, stop 1");
    assert_eq!(got.stop, ["[4]"], "the one that failed, none that is well");
}

/// reconcile-083, reconcile-084: whatever the rows are, nothing panics, nothing is stopped twice, no more
/// is placed than asked for, and canaries that nobody waits for are stopped.
#[test]
fn reconcile_083_084_any_rows_give_a_sound_answer() {
    let mut seed = 1_u64;
    let mut draw = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for round in 0..600 {
        let count = i64::try_from(draw(8)).unwrap();
        let kind = if draw(2) == 0 { "service" } else { "batch" };
        let mut scene = Scene::new(kind, count);
        if draw(2) == 0 {
            scene = scene.rolling(i64::try_from(draw(4)).unwrap(), i64::try_from(draw(3)).unwrap());
        }
        if draw(2) == 0 {
            let delay = i64::try_from(draw(2) * 60).unwrap();
            scene = scene.rescheduled(i64::try_from(draw(3)).unwrap(), delay);
        }
        if draw(2) == 0 {
            let reconcile = ["best_score", "keep_original", "keep_replacement", "longest_running"][draw(4) as usize];
            let replace = Some(draw(3) > 0);
            scene = scene.disconnects(|block| {
                let reconcile = Some(reconcile.to_owned());
                *block = DisconnectStrategy { replace, reconcile, ..block.clone() };
            });
        }
        let rows = draw(14);
        for _ in 0..rows {
            let (version, index) = (draw(2), draw(9) as usize);
            let (node, status, shape, next) = (1 + draw(5), draw(6), draw(12), draw(rows) as usize);
            scene = scene.one(version, index, |alloc| {
                on(node)(alloc);
                client(alloc, STATUSES[status as usize]);
                match shape {
                    0 => stopped(alloc),
                    1 => migrating(alloc),
                    2 => alloc.next_allocation = alloc_id(next),
                    3 => canary(alloc),
                    4 => recorded(&[(ClientStatus::Unknown, 10)])(alloc),
                    5 => {
                        recorded(&[(ClientStatus::Unknown, 10)])(alloc);
                        alloc.next_allocation = alloc_id(next);
                    }
                    6 => alloc.desired_transition.force_reschedule = Some(true),
                    7 => judged(Some(false))(alloc),
                    8 => judged(Some(true))(alloc),
                    _ => {}
                }
            });
        }
        let before = draw(2) == 0;
        let promoted = draw(2) == 0;
        let canaries: Vec<AllocId> = scene.allocs.iter().filter(|a| a.is_canary()).map(|a| a.id.clone()).collect();
        let wanted = i64::try_from(canaries.len()).unwrap();
        let of = |state: &mut DeploymentState| {
            (state.desired_canaries, state.promoted) = (wanted, promoted);
            state.placed_canaries.clone_from(&canaries);
        };
        scene = match draw(3) {
            0 => scene,
            _ if before => scene.deployed_before(DeploymentStatus::Running, of),
            _ => scene.deployed(
                [DeploymentStatus::Running, DeploymentStatus::Paused, DeploymentStatus::Failed][draw(3) as usize],
                of,
            ),
        };
        let got = scene.run();
        let most = usize::try_from(count).unwrap();
        let moved = got.all.get("g").map_or(0, |desired| desired.migrate as usize);
        assert!(got.place.len() <= most + moved, "round {round}: {got:?}");
        assert!(got.destructive.len() <= most.max(scene.allocs.len()), "round {round}: {got:?}");
        if before && !promoted && scene.deployment.is_some() && count > 0 && kind == "service" {
            let live = scene.allocs.iter().filter(|a| canaries.contains(&a.id) && !a.is_terminal()).count();
            assert!(got.stop.len() >= live, "round {round}: old canaries go, {got:?}");
        }
    }
}

/// util-003: what is down, away, draining or gone is tainted; what is ready is not.
#[test]
fn util_003_all_nodes_but_ready_ones_are_tainted() {
    for (node, class) in [(READY, "Untainted"), (DOWN, "Lost"), (AWAY, "Lost"), (GONE, "Lost"), (DRAINING, "Migrate")] {
        let scene = Scene::service(1).one(1, 0, |a| {
            on(node)(a);
            if node == DRAINING {
                migrating(a);
            }
        });
        assert_eq!(scene.classes(), [class], "node {node}");
    }
}

#[test]
fn service_031_batch_004_names_that_occur_twice_are_left_while_all_is_well() {
    let twice = Scene::service(3).update(Update::InPlace).old_ones(0..2).one(0, 1, |_| {});
    let got = expect("service-031", &twice, "in-place 3");
    assert!(got.place.is_empty() && got.stop.is_empty());
    let batch = Scene::batch(3).new_ones(0..2).one(1, 1, |a| {
        on(DOWN)(a);
        stopped(a);
        client(a, ClientStatus::Lost);
    });
    let got = expect("batch-004", &batch, "ignore 3, place 1");
    assert_eq!(got.place, ["[2]"]);
}

#[test]
fn names_002_the_highest_names_go_first_and_no_more_than_there_are() {
    for (count, gone) in [(2, 2..3), (1, 1..3), (0, 0..3)] {
        let got = Scene::service(count).new_ones(0..3).run();
        assert_eq!(got.stop, list(gone), "count {count}");
    }
}
