//! The control plane as a whole, in one process: what is registered is placed, once, whoever dies.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use api::scheduler::{DRY_RUN, DryRun, DryRunResult};
use client::anyone::{Anyone, Unheard};
use client::http::Call;
use e2e::nouns::{job, node, node_id};
use e2e::plane::{Plane, WITHIN};
use fsm::State;
use model::{EvalStatus, Role};

fn live(state: &State, job: &str) -> usize {
    state.allocs_of_job(&"default".into(), &job.into()).filter(|a| !a.is_terminal()).count()
}

/// No node has more than it can hold, and no port is taken twice.
fn assert_fits(state: &State) {
    for node in state.nodes() {
        let mut cpu = 0;
        let mut ports: BTreeMap<i64, &str> = BTreeMap::new();
        for alloc in state.allocs_of_node(&node.id).filter(|a| !a.is_terminal()) {
            let resources = alloc.allocated_resources.as_ref().unwrap();
            cpu += resources.tasks.values().map(|t| t.cpu.cpu_shares).sum::<i64>();
            for port in &resources.shared.ports {
                let other = ports.insert(port.value, alloc.id.as_str());
                assert_eq!(other, None, "port {} on {} is taken twice", port.value, node.name);
            }
        }
        let room = node.node_resources.as_ref().unwrap().cpu.cpu_shares;
        assert!(cpu <= room, "{} has {cpu} of {room}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_by_many_schedulers_are_placed_exactly_once_and_fit() {
    let plane = Plane::start(4).await;
    plane.nodes((1..=10).map(|n| node(n, 1_000, 8_000)).collect()).await;
    // Exactly as much as there is room for: the last ones conflict a lot.
    for n in 0..50 {
        plane.register(job(&format!("job-{n}"), "service", 2, 100)).await;
    }
    let state = plane.until("all are placed", |s| (0..50).all(|n| live(s, &format!("job-{n}")) == 2)).await;
    assert_fits(&state);
    let done = |s: &State| s.evals().all(|e| e.status.is_terminal());
    plane.until("all evaluations are finished", done).await;
}

/// Whoever comes second finds the best node full and tries again: nobody is set aside for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_meets_conflicts_and_none_of_it_is_set_aside() {
    let plane = Plane::start(3).await;
    plane.nodes((1..=60).map(|n| node(n, 100, 8_000)).collect()).await;
    let registered = (0..400).map(|n| plane.register(job(&format!("burst-{n}"), "batch", 1, 10)));
    futures::future::join_all(registered).await;
    let state = plane.until("all are placed", |s| s.allocs().count() >= 400).await;
    assert_fits(&state);
    let given_up = |e: &&std::sync::Arc<model::Evaluation>| e.triggered_by == "max-plan-attempts";
    assert_eq!(state.evals().filter(given_up).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_waits_and_is_placed_when_a_node_comes() {
    let plane = Plane::start(1).await;
    plane.nodes(vec![node(1, 300, 8_000)]).await;
    plane.register(job("big", "service", 5, 100)).await;
    let state = plane
        .until("a part is placed, the rest is blocked", |s| {
            live(s, "big") == 3 && s.evals().any(|e| e.status == EvalStatus::Blocked)
        })
        .await;
    assert_fits(&state);
    plane.nodes(vec![node(2, 1_000, 8_000)]).await;
    let state = plane.until("the rest is placed", |s| live(s, "big") == 5).await;
    assert_fits(&state);
    plane.until("nothing is blocked any more", |s| s.evals().all(|e| e.status.is_terminal())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allocations_of_a_silent_node_are_replaced_elsewhere() {
    let plane = Plane::start(1).await;
    plane.nodes(vec![node(1, 1_000, 8_000), node(2, 1_000, 8_000)]).await;
    plane.register(job("web", "service", 4, 100)).await;
    let state = plane.until("all are placed", |s| live(s, "web") == 4).await;
    plane.report_running(&state).await;
    plane.silence(&node_id(1)).await;
    let gone = node_id(1);
    let state = plane
        .until("all are on the other node", |s| live(s, "web") == 4 && s.allocs_of_node(&gone).all(|a| a.is_terminal()))
        .await;
    assert_fits(&state);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_job_runs_on_every_node_also_on_later_ones() {
    let plane = Plane::start(1).await;
    plane.nodes((1..=3).map(|n| node(n, 1_000, 8_000)).collect()).await;
    plane.register(job("sys", "system", 1, 100)).await;
    plane.until("it is on all three", |s| live(s, "sys") == 3).await;
    plane.nodes(vec![node(4, 1_000, 8_000)]).await;
    plane.until("it is on the fourth", |s| live(s, "sys") == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_when_each_service_dies_in_turn() {
    let mut plane = Plane::start(2).await;
    plane.nodes((1..=3).map(|n| node(n, 4_000, 8_000)).collect()).await;
    plane.run(Role::Broker, "broker-1");
    plane.run(Role::Applier, "applier-1");
    plane.run(Role::Controller, "controller-1");
    let mut n = 0;
    for victim in ["broker-0", "scheduler-0", "applier-0", "controller-0"] {
        for _ in 0..3 {
            plane.register(job(&format!("job-{n}"), "service", 2, 100)).await;
            n += 1;
        }
        plane.stop(victim).await;
        for _ in 0..3 {
            plane.register(job(&format!("job-{n}"), "service", 2, 100)).await;
            n += 1;
        }
        let state = plane.until("all jobs are placed", |s| (0..n).all(|n| live(s, &format!("job-{n}")) == 2)).await;
        assert_fits(&state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_scheduler_waits_for_one_that_is_just_starting() {
    let mut plane = Plane::start(0).await;
    plane.nodes(vec![node(1, 4_000, 8_000)]).await;
    let (http, peers) = (plane.shell.http.clone(), plane.shell.peers());
    let anyone = Anyone::new(&http, &*peers, Role::Scheduler);
    let dry_run = DryRun { job: job("later", "service", 1, 100), wait_index: plane.replica.index() };
    let call = Call::post(DRY_RUN, WITHIN).json(&dry_run).unwrap();

    let silent = anyone.ask::<DryRunResult>(&call).await;
    assert!(matches!(silent, Err(Unheard::Silent { last: None, .. })), "{silent:?}");
    let patient = anyone.patient(WITHIN);
    let (planned, ()) = tokio::join!(patient.ask::<DryRunResult>(&call), async { plane.run(Role::Scheduler, "late") });
    assert_eq!(planned.unwrap().annotations.desired_tg_updates["g"].place, 1);

    // What one of them refuses is not asked until patience ends.
    let nonsense = Call::post(DRY_RUN, WITHIN).json(&"nonsense").unwrap();
    let refused = tokio::time::timeout(WITHIN / 2, anyone.patient(WITHIN * 2).ask::<DryRunResult>(&nonsense)).await;
    assert!(matches!(refused, Ok(Err(Unheard::Refused { status, .. })) if status.is_client_error()));
}
