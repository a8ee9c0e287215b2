//! Where one allocation stands, and what becomes of one that failed.

use model::alloc::RescheduleTracker;
use model::{Allocation, ClientStatus, DesiredStatus};

use super::*;

type Set = fn(&mut Allocation);

fn failed_back(alloc: &mut Allocation) {
    back(alloc);
    client(alloc, ClientStatus::Failed);
}

fn pending(alloc: &mut Allocation) {
    client(alloc, ClientStatus::Pending);
}

fn evicted(alloc: &mut Allocation) {
    alloc.desired_status = DesiredStatus::Evict;
}

fn class(scene: Scene, set: impl FnOnce(&mut Allocation)) -> String {
    scene.one(1, 0, set).classes().remove(0)
}

#[test]
fn filters_002_to_018_each_allocation_stands_in_one_class() {
    let kept = || Scene::service(1).disconnects(|_| {});
    let stays = || Scene::service(1).disconnects(|block| (block.lost_after, block.replace) = (None, Some(false)));
    let plain = || Scene::service(1);
    let rows: Vec<(&str, Scene, Set, &str)> = vec![
        ("filters-002", kept(), failed_back, "Reconnecting"),
        ("filters-003", plain(), stopped, "Ignored"),
        (
            "filters-004",
            plain(),
            |a| {
                failed(5)(a);
                canary(a);
                migrating(a);
            },
            "Migrate",
        ),
        ("filters-005", plain(), complete, "Untainted"),
        ("filters-006", kept(), |a| unknown(301)(a), "Expiring"),
        ("not yet", kept(), |a| unknown(299)(a), "Untainted"),
        (
            "filters-007",
            kept(),
            |a| {
                failed_back(a);
                stopped(a);
            },
            "Ignored",
        ),
        ("filters-008", kept(), |a| unknown(1)(a), "Untainted"),
        (
            "filters-009",
            kept(),
            |a| {
                on(AWAY)(a);
                pending(a);
            },
            "Lost",
        ),
        ("filters-010", plain(), |a| on(AWAY)(a), "Lost"),
        ("filters-011", kept(), |a| on(AWAY)(a), "Disconnecting"),
        ("filters-012", plain(), migrating, "Migrate"),
        ("filters-013", kept(), back, "Reconnecting"),
        ("filters-014", plain(), |a| on(GONE)(a), "Lost"),
        (
            "filters-015",
            stays(),
            |a| {
                unknown(9_999)(a);
                on(DOWN)(a);
            },
            "Untainted",
        ),
        ("filters-016", stays(), |a| on(DOWN)(a), "Disconnecting"),
        ("filters-017", plain(), |a| on(DOWN)(a), "Lost"),
        ("filters-018", plain(), |a| on(DRAINING)(a), "Untainted"),
        (
            "an older field says the same",
            plain().group(|g| g.max_client_disconnect = Some(Nanos(9))),
            |a| on(AWAY)(a),
            { "Disconnecting" },
        ),
    ];
    for (id, scene, set, expect) in rows {
        assert_eq!(class(scene, set), expect, "{id}");
    }
}

/// filters-001: what the server ended is no longer looked at, but for batch work, which may be done.
#[test]
fn filters_001_a_stop_ends_a_service_and_not_what_a_batch_has_done() {
    for end in [stopped as Set, evicted] {
        let service = Scene::service(1).one(1, 0, end).run();
        assert_eq!(service.counts, "place 1");
        let done = Scene::batch(1).one(1, 0, |a| {
            complete(a);
            end(a);
        });
        assert_eq!(done.run().counts, "ignore 1, place 1", "ended by the server, so it is not what runs");
    }
    let again = Scene::batch(1).one(1, 0, |a| {
        stopped(a);
        complete(a);
        a.desired_transition.reschedule = Some(true);
    });
    assert_eq!(again.run().counts, "place 1", "a flagged one is not even counted");
}

fn no_node(alloc: &mut Allocation) {
    stopped(alloc);
    failed(60)(alloc);
    alloc.reschedule_tracker =
        Some(RescheduleTracker { last_reschedule: "no placement".into(), ..RescheduleTracker::default() });
}

#[test]
fn filters_019_to_024_who_failed_is_tried_again_who_ended_well_is_not() {
    let retry = |kind: &str| Scene::new(kind, 1).rescheduled(2, 5);
    let success_stopped: Set = |a| {
        complete(a);
        stopped(a);
    };
    let fail_stopped: Set = |a| {
        failed(60)(a);
        stopped(a);
    };
    let rows: Vec<(&str, Scene, Set, &str)> = vec![
        ("filters-019 running", retry("batch"), |_| {}, "stay"),
        ("filters-019 stopped, successful", retry("batch"), success_stopped, "stay"),
        ("filters-019 stopped, failed", retry("batch"), fail_stopped, "drop"),
        ("filters-019 evicted", retry("batch"), evicted, "drop"),
        ("filters-019 failed", retry("batch"), |a| failed(60)(a), "now"),
        ("filters-020 batch", retry("batch"), no_node, "now"),
        ("filters-020 service", retry("service"), no_node, "now"),
        ("filters-021 running", retry("service"), |_| {}, "stay"),
        ("filters-021 stopped", retry("service"), fail_stopped, "drop"),
        ("filters-021 evicted", retry("service"), evicted, "drop"),
        ("filters-021 complete", retry("service"), complete, "drop"),
        ("filters-022 due", retry("batch").rescheduled(2, 0).disconnects(|_| {}), |a| on(AWAY)(a), "now"),
        ("filters-022 not yet due", retry("batch").disconnects(|_| {}), |a| on(AWAY)(a), "later"),
        ("filters-022 no policy", Scene::batch(1).disconnects(|_| {}), |a| on(AWAY)(a), "stay"),
        (
            "filters-024",
            retry("batch"),
            |a| {
                complete(a);
                a.modify_time = NOW - 60 * SECOND;
                a.desired_transition.reschedule = Some(true);
            },
            "now",
        ),
    ];
    for (id, scene, set, expect) in rows {
        assert_eq!(scene.one(1, 0, set).fates(), [expect], "{id}");
    }
}

/// filters-023: it is noted as out of reach once.
#[test]
fn filters_023_what_is_unknown_already_is_not_disconnected_again() {
    let got = Scene::service(1).disconnects(|_| {}).one(1, 0, unknown(9)).run();
    assert_eq!((got.counts.as_str(), got.unknown.len(), got.followups.len()), ("ignore 1", 0, 0));
}
