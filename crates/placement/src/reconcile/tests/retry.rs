//! Allocations that failed: now, later, or not at all.

use model::DeploymentStatus;

use super::*;

#[test]
fn reconcile_021_a_batch_stopped_to_be_tried_again_follows_its_policy() {
    let moved = |scene: Scene| {
        scene.new_ones(0..2).each(0..1, |a| {
            migrating(a);
            a.desired_transition.reschedule = Some(true);
            a.modify_time = NOW - 60 * SECOND;
        })
    };
    // One that says nothing is not left unset: registering fills in the default of batch jobs.
    let none = moved(Scene::batch(2)).run();
    assert_eq!((none.place.len(), none.followups.len()), (0, 0), "{}", none.counts);
    assert_eq!(none.stop, ["[0]"]);
    let due = moved(Scene::batch(2).rescheduled(1, 5)).run();
    assert_eq!(due.place, ["[0] again"]);
    let later = moved(Scene::batch(2).rescheduled(1, 600)).run();
    assert_eq!((later.place.len(), later.followups), (0, vec![("alloc-reschedule".to_owned(), 540)]));
}

#[test]
fn reconcile_008_030_033_034_what_is_not_due_waits_and_holds_its_place() {
    let later = Scene::service(5).rescheduled(1, 15).new_ones(0..4).each(0..1, failed(0)).run();
    assert_eq!(later.counts, "ignore 4, place 1, later 1", "reconcile-030");
    assert_eq!((later.followups, later.noted), (vec![("alloc-reschedule".to_owned(), 15)], vec!["[0]".to_owned()]));
    let now = Scene::service(5).rescheduled(1, 15).new_ones(0..4).each(0..1, failed(15)).run();
    assert_eq!(now.counts, "ignore 3, place 2, stop 1, now 1", "reconcile-033");
    assert_eq!(now.place, ["[4]", "[0] again"]);
    let soon = Scene::service(4).rescheduled(1, 15).new_ones(0..4).each(0..1, failed(14)).run();
    assert_eq!(soon.counts, "ignore 3, place 1, stop 1, now 1", "reconcile-034");
    let back = Scene::service(4).rescheduled(1, 600).rolling(1, 0).one(0, 0, |_| {}).one(1, 1, failed(5));
    let got = back.one(1, 0, complete).run();
    assert_eq!((got.followups.len(), got.noted), (1, vec!["[1]".to_owned()]), "reconcile-008");
}

/// A roll back: one old, one that failed and is due later, and no others.
#[test]
fn reconcile_008_a_roll_back_keeps_who_waits() {
    let scene = Scene::service(4).rescheduled(1, 600).update(Update::InPlace);
    let got = scene.one(0, 0, |_| {}).one(1, 1, failed(5)).one(0, 9, |_| {}).run();
    assert_eq!(got.counts, "ignore 1, place 1, in-place 2, later 1");
}

#[test]
fn reconcile_071_072_a_deployment_says_who_of_it_is_tried_again() {
    let scene = |status| {
        let scene = Scene::service(10).rolling(10, 0).rescheduled(5, 5).new_ones(0..10).each(0..10, judged(None));
        let marked = |alloc: &mut Allocation| alloc.desired_transition.reschedule = Some(true);
        scene.each(0..5, failed(60)).each(0..2, marked).deployed(status, |_| {})
    };
    let failed = scene(DeploymentStatus::Failed).run();
    assert!(failed.place.is_empty() && failed.stop.is_empty(), "reconcile-071: {failed:?}");
    let running = scene(DeploymentStatus::Running).run();
    assert_eq!(running.counts, "ignore 8, place 2, stop 2, now 2", "reconcile-072");
    assert_eq!(running.place, ["[0] again", "[1] again"]);
}

#[test]
fn reconcile_075_a_hand_overrules_the_limit_of_attempts() {
    let tired = Scene::service(5).rescheduled(1, 15).new_ones(0..5).each(0..1, |a| {
        failed(60)(a);
        tried(1, 120)(a);
    });
    assert_eq!(tired.run().counts, "ignore 5");
    let forced = tired.each(0..1, |a| a.desired_transition.force_reschedule = Some(true)).run();
    assert_eq!(forced.counts, "ignore 4, place 1, stop 1, now 1");
}

/// service-047: a node goes down under an allocation that failed before: the policy says, not the node.
#[test]
fn service_047_what_failed_before_its_node_went_follows_the_policy() {
    for (policy, counts) in
        [((0, 5), "ignore 2"), ((1, 5), "ignore 1, place 1, stop 1, now 1"), ((1, 600), "ignore 2, later 1")]
    {
        let scene = Scene::service(2).rescheduled(policy.0, policy.1).new_ones(0..2).each(0..1, |a| {
            failed(60)(a);
            on(DOWN)(a);
        });
        assert_eq!(scene.run().counts, counts, "{policy:?}");
    }
}

/// service-063, service-064
#[test]
fn service_063_064_of_a_failed_deployment_only_the_marked_are_tried_again() {
    let scene = || Scene::service(2).rolling(2, 0).rescheduled(3, 5).new_ones(0..2).each(0..2, judged(Some(false)));
    let scene = || scene().each(0..1, failed(60)).deployed(DeploymentStatus::Running, |_| {});
    assert_eq!(scene().run().counts, "ignore 2");
    let marked = scene().each(0..1, |a| a.desired_transition.reschedule = Some(true)).run();
    assert_eq!((marked.place, marked.stop), (vec!["[0] again".to_owned()], vec!["[0]".to_owned()]));
}

/// service-070, service-075: rows that contradict themselves.
#[test]
fn service_070_075_who_has_a_successor_gets_no_other() {
    let next = |alloc: &mut Allocation| alloc.next_allocation = alloc_id(7);
    let running = Scene::service(2).rescheduled(3, 5).new_ones(0..2).each(0..1, next).run();
    assert_eq!(running.counts, "ignore 2", "service-070");
    let forced = |alloc: &mut Allocation| alloc.desired_transition.force_reschedule = Some(true);
    let odd = Scene::service(3).rescheduled(3, 0).disconnects(|_| {}).new_ones(0..3);
    let odd = odd.each(0..1, forced).each(1..2, |a| {
        unknown(60)(a);
        next(a);
    });
    assert_eq!(odd.run().counts, "ignore 3", "service-075");
}

/// service-048, service-049
#[test]
fn service_049_a_replacement_waits_until_the_node_has_stopped_it() {
    let scene =
        || Scene::service(2).group(|g| g.stop_after_client_disconnect = Some(Nanos::from_secs(60))).new_ones(0..2);
    let fresh = scene().each(0..1, on(DOWN)).run();
    assert_eq!((fresh.stop, fresh.place.len()), (vec!["[0] lost later".to_owned()], 0));
    assert_eq!(fresh.followups, [("alloc-failure".to_owned(), 65)]);
    let over = scene().each(0..1, |a| {
        on(DOWN)(a);
        recorded(&[(ClientStatus::Lost, 66)])(a);
    });
    assert_eq!((over.run().stop, over.run().place), (vec!["[0] lost".to_owned()], vec!["[0] lost".to_owned()]));
}
