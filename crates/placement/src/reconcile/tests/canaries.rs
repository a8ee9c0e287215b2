//! Canaries: who is placed, who goes, who replaces whom.

use model::DeploymentStatus;

use super::*;

const RUNNING: DeploymentStatus = DeploymentStatus::Running;

/// Ten old ones and so many canaries with the first names.
fn canarying(wanted: i64, placed: usize) -> Scene {
    let scene = Scene::service(10).rolling(2, wanted).old_ones(0..10).new_ones(0..placed);
    scene.each(10..10 + placed, canary).deployed(RUNNING, has_canaries(wanted, 10..10 + placed))
}

#[test]
fn reconcile_037_038_a_canary_that_fails_is_tried_again_as_one() {
    let scene = || canarying(2, 2).rescheduled(2, 5);
    let marked = |alloc: &mut Allocation| {
        failed(60)(alloc);
        alloc.desired_transition.reschedule = Some(true);
    };
    let both = scene().each(10..12, marked).run();
    assert_eq!(both.place, ["[0] canary again", "[1] canary again"], "reconcile-037");
    assert_eq!(both.stop.len(), 2);
    let tired = scene().each(10..12, marked).each(10..11, tried(2, 120)).run();
    assert_eq!(tired.place, ["[1] canary again"], "reconcile-038");
}

#[test]
fn reconcile_046_a_paused_deployment_gets_no_more_canaries() {
    let mut scene = canarying(2, 1);
    scene.deployment.as_mut().unwrap().status = DeploymentStatus::Paused;
    let got = scene.run();
    assert_eq!((got.counts.as_str(), got.place.len()), ("ignore 11", 0));
}

#[test]
fn reconcile_051_a_canary_that_is_lost_is_placed_again() {
    let got = canarying(2, 2).each(10..11, on(DOWN)).run();
    assert_eq!((got.place, got.stop), (vec!["[0] canary".to_owned()], vec!["[0] lost".to_owned()]));
    assert_eq!(got.counts, "ignore 11, canary 1");
}

#[test]
fn reconcile_053_no_more_canaries_are_placed_than_the_count() {
    let got = Scene::service(3).rolling(10, 7).old_ones(0..3).run();
    assert_eq!((got.wants(), got.place.len()), (Some((3, 7)), 3));
}

#[test]
fn reconcile_054_two_groups_with_canaries_share_a_deployment() {
    let mut scene = Scene::service(10).rolling(4, 2).old_ones(0..10);
    scene.job.task_groups.push(TaskGroup { name: Some("h".into()), ..scene.job.task_groups[0].clone() });
    for index in 0..10 {
        scene = scene.one(0, index, |a| a.task_group = "h".into());
    }
    let got = scene.run();
    assert_eq!(["g", "h"].map(|name| words(&got.all[name])), ["ignore 10, canary 2"; 2]);
    let groups: Vec<i64> = got.created.unwrap().task_groups.values().map(|state| state.desired_canaries).collect();
    assert_eq!(groups, [2, 2]);
}

#[test]
fn reconcile_056_fewer_and_canaries_stop_the_surplus_first() {
    let got = Scene::service(5).rolling(4, 2).old_ones(0..10).run();
    assert_eq!(got.counts, "ignore 5, stop 5, canary 2");
    assert_eq!((got.place, got.stop), (vec!["[0] canary".to_owned(), "[1] canary".to_owned()], list(5..10)));
}

#[test]
fn reconcile_059_as_many_canaries_as_wanted_replace_all() {
    let scene = Scene::service(2).rolling(2, 2).old_ones(0..2).new_ones(0..2).each(2..4, |a| {
        canary(a);
        judged(Some(true))(a);
    });
    let got = scene
        .deployed(RUNNING, |state| {
            has_canaries(2, 2..4)(state);
            (state.promoted, state.placed_allocs, state.healthy_allocs) = (true, 2, 2);
        })
        .run();
    assert_eq!((got.counts.as_str(), got.stop, got.place.len()), ("ignore 2, stop 2", list(0..2), 0));
}

#[test]
fn reconcile_066_a_failed_deployment_stops_what_was_not_promoted() {
    let mut scene = Scene::service(10).rolling(4, 2).old_ones(0..10).new_ones(0..2).each(10..12, canary);
    scene.job.task_groups.push(TaskGroup { name: Some("h".into()), ..scene.job.task_groups[0].clone() });
    for index in 0..10 {
        scene = scene.one(u64::from(index < 2), index, |a| {
            a.task_group = "h".into();
            if index < 2 {
                canary(a);
            }
        });
    }
    let mut scene = scene.deployed(DeploymentStatus::Failed, has_canaries(2, 10..12));
    let groups = &mut scene.deployment.as_mut().unwrap().task_groups;
    let mut promoted = groups["g"].clone();
    (promoted.promoted, promoted.placed_canaries) = (true, vec![alloc_id(12), alloc_id(13)]);
    groups.insert("h".into(), promoted);
    let got = scene.run();
    assert_eq!((got.counts.as_str(), got.stop), ("ignore 10, stop 2", list(0..2)));
    assert_eq!(words(&got.all["h"]), "ignore 10");
}

/// service-053, service-067: a drain under canaries.
#[test]
fn service_053_067_what_moves_keeps_its_version() {
    let drained = |alloc: &mut Allocation| {
        on(DRAINING)(alloc);
        migrating(alloc);
    };
    let canary = canarying(2, 2).each(10..11, drained).run();
    assert_eq!((canary.place, canary.stop.len()), (vec!["[0] canary".to_owned()], 1), "service-053");
    let stable = canarying(2, 2).each(5..6, drained).run();
    assert_eq!((stable.place, stable.stop), (vec!["[5] stable".to_owned()], list(5..6)), "service-067");
}
