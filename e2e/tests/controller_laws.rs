//! Nodes' health, their news, and deployments, as gateways and schedulers see them. The agents are the test's.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use api::Code;
use api::controller::{ALLOC_NEWS, AllocNews, BEATS, Beats, BeatsTaken};
use client::active::ActiveError;
use client::error::CallError;
use client::http::Call;
use e2e::nouns::{job, node, node_id};
use e2e::plane::{Plane, WITHIN};
use fsm::State;
use fsm::command::AllocClientUpdate;
use model::alloc::AllocDeploymentStatus;
use model::job::UpdateStrategy;
use model::{Allocation, ClientStatus, DeploymentStatus, Nanos, NodeId, NodeStatus, Role, Timestamp};

fn live<'a>(state: &'a State, job: &str) -> Vec<&'a Allocation> {
    state.allocs_of_job(&"default".into(), &job.into()).filter(|a| !a.is_terminal()).map(|a| &**a).collect()
}

async fn beat(plane: &Plane, nodes: &[NodeId], broken: &[NodeId]) -> Result<BeatsTaken, ActiveError> {
    let beats = Beats { gateway: "g2".into(), nodes: nodes.to_vec(), broken: broken.to_vec() };
    plane.controller.post(BEATS, &beats, WITHIN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_is_answered_with_the_next_ones_time_and_an_unknown_node_is_told_to_register() {
    let plane = Plane::start(1).await;
    plane.nodes(vec![node(1, 1_000, 8_000)]).await;
    let taken = beat(&plane, &[node_id(1), node_id(9)], &[]).await.unwrap();
    assert_eq!((taken.period_ms, taken.unknown), (1_000, vec![node_id(9)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_stream_broke_gets_nothing_new_until_it_beats() {
    let plane = Plane::start(2).await;
    plane.nodes(vec![node(1, 1_000, 8_000), node(2, 200, 8_000)]).await;
    plane.silence(&node_id(1)).await;
    beat(&plane, &[], &[node_id(1)]).await.unwrap();
    let state = plane.until("it is suspect", |s| s.is_suspect(&node_id(1))).await;
    assert_eq!(state.node(&node_id(1)).unwrap().status, NodeStatus::Ready, "no status changes");
    // As much as goes onto the other one, and no more.
    plane.register(job("web", "service", 4, 100)).await;
    let state = plane.until("two are placed", |s| live(s, "web").len() == 2).await;
    assert!(live(&state, "web").iter().all(|a| a.node_id == node_id(2)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(live(&plane.replica.state(), "web").len(), 2, "the others wait");
    beat(&plane, &[node_id(1)], &[]).await.unwrap();
    let began = Instant::now();
    plane.until("it is trusted again", |s| !s.is_suspect(&node_id(1))).await;
    let state = plane.until("all are placed", |s| live(s, "web").len() == 4).await;
    assert_eq!(live(&state, "web").iter().filter(|a| a.node_id == node_id(1)).count(), 2);
    assert!(began.elapsed() < Duration::from_secs(4), "woken by the beat: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspicion_outlives_its_controller_and_ends_with_the_node() {
    let mut plane = Plane::start(1).await;
    plane.nodes(vec![node(1, 1_000, 8_000), node(2, 1_000, 8_000)]).await;
    plane.run(Role::Controller, "controller-1");
    plane.targets(Role::Controller, 2).await;
    plane.silence(&node_id(1)).await;
    beat(&plane, &[], &[node_id(1)]).await.unwrap();
    plane.until("it is suspect", |s| s.is_suspect(&node_id(1))).await;
    plane.stop("controller-0").await;
    plane
        .until("the standby has the lease", |s| {
            s.lease(fsm::LeaseName::Controller).is_some_and(|lease| lease.holder == "controller-1")
        })
        .await;
    // Beats of the other node reach the new controller.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(plane.replica.state().is_suspect(&node_id(1)), "nobody heard of it");
    let state = plane.until("it is down", |s| s.node(&node_id(1)).unwrap().status == NodeStatus::Down).await;
    assert!(!state.is_suspect(&node_id(1)));
    assert_eq!(state.node(&node_id(2)).unwrap().status, NodeStatus::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_down_after_its_time_and_back_with_its_next_beat() {
    let plane = Plane::start(1).await;
    plane.nodes(vec![node(1, 1_000, 8_000)]).await;
    let began = Instant::now();
    plane.silence(&node_id(1)).await;
    plane.until("it is down", |s| s.node(&node_id(1)).unwrap().status == NodeStatus::Down).await;
    let took = began.elapsed();
    assert!(took > Duration::from_secs(4) && took < Duration::from_secs(9), "{took:?}");
    // It beats on, as agents do: the controller may hear of its own verdict a moment after us.
    let beats = async {
        loop {
            beat(&plane, &[node_id(1)], &[]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = beats => {}
        _ = plane.until("it is back", |s| s.node(&node_id(1)).unwrap().is_ready()) => {}
    }
}

fn running(alloc: &Allocation) -> AllocClientUpdate {
    AllocClientUpdate {
        id: alloc.id.clone(),
        node_id: alloc.node_id.clone(),
        client_status: ClientStatus::Running,
        modify_time: client::clock::unix_nanos(),
        ..AllocClientUpdate::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_many_is_committed_together_and_acknowledged_when_it_is() {
    let plane = Plane::start(1).await;
    plane.nodes((1..=5).map(|n| node(n, 10_000, 80_000)).collect()).await;
    plane.register(job("web", "service", 200, 10)).await;
    let state = plane.until("all are placed", |s| live(s, "web").len() == 200).await;
    let before = plane.state.read_index(WITHIN).await.unwrap();
    let tell = live(&state, "web").into_iter().map(|alloc| {
        let news = AllocNews { updates: vec![running(alloc)] };
        let controller = plane.controller.clone();
        async move {
            let done: Result<serde_json::Value, _> = controller.post(ALLOC_NEWS, &news, WITHIN).await;
            done.map(|_| ())
        }
    });
    let answers = futures_join(tell.collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    let after = plane.state.read_index(WITHIN).await.unwrap();
    let state = plane.replica.reached(after, WITHIN).await.unwrap();
    assert!(
        live(&state, "web").iter().all(|a| a.client_status == ClientStatus::Running),
        "acknowledged, so it is there"
    );
    assert!(after.get() - before.get() < 100, "200 messages took {} commands", after.get() - before.get());
}

async fn futures_join<T: Send + 'static>(work: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.unwrap());
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_not_the_active_one_takes_nothing() {
    let mut plane = Plane::start(1).await;
    plane.nodes(vec![node(1, 1_000, 8_000)]).await;
    plane.run(Role::Controller, "controller-1");
    let active = plane.controller.target().unwrap().addr;
    let standby = plane.targets(Role::Controller, 2).await.into_iter().find(|t| t.addr != active).unwrap();
    let beats = Call::post(BEATS, WITHIN).json(&Beats::default()).unwrap();
    let news = AllocNews { updates: vec![AllocClientUpdate::default()] };
    let news = Call::post(ALLOC_NEWS, WITHIN).json(&news).unwrap();
    for call in [beats, news] {
        let error: CallError = plane.shell.http.call(&standby, call).await.unwrap_err();
        assert_eq!((error.status().unwrap().as_u16(), error.code()), (503, Code::NotActive.as_str()));
    }
    let agent = plane.caller(Role::Agent, "agent");
    let beats = Call::post(BEATS, WITHIN).json(&Beats::default()).unwrap();
    let error = agent.call(&plane.controller.target().unwrap(), beats).await.unwrap_err();
    assert_eq!(error.code(), Code::Forbidden.as_str(), "agents speak to gateways");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_goes_on_batch_by_batch_as_its_allocations_become_healthy() {
    let plane = Plane::start(2).await;
    plane.nodes(vec![node(1, 10_000, 80_000)]).await;
    let mut web = job("web", "service", 5, 10);
    let update = UpdateStrategy {
        max_parallel: Some(2),
        min_healthy_time: Some(Nanos(0)),
        healthy_deadline: Some(Nanos::from_secs(60)),
        progress_deadline: Some(Nanos::from_secs(120)),
        ..UpdateStrategy::default()
    };
    for group in &mut web.task_groups {
        group.update = Some(update.clone());
    }
    web.canonicalize();
    plane.register(web.clone()).await;
    healthy_until(&plane, "the first version is deployed", |s| {
        s.latest_deployment(&"default".into(), &"web".into()).is_some_and(|d| d.status == DeploymentStatus::Successful)
    })
    .await;
    assert_eq!(live(&plane.replica.state(), "web").len(), 5);
    // Another version, replaced two at a time.
    let mut next = web.clone();
    for task in next.task_groups.iter_mut().flat_map(|g| &mut g.tasks) {
        task.env.insert("VERSION".into(), "2".into());
    }
    plane.register(next).await;
    healthy_until(&plane, "the second version is deployed", |s| {
        let unhealthy = live(s, "web").iter().filter(|a| a.job_version == Some(1) && a.is_healthy().is_none()).count();
        assert!(unhealthy <= 2, "{unhealthy} at once");
        let done = s.latest_deployment(&"default".into(), &"web".into());
        done.is_some_and(|d| d.job_version == 1 && d.status == DeploymentStatus::Successful)
    })
    .await;
    let state = plane.replica.state();
    assert_eq!(live(&state, "web").iter().filter(|a| a.job_version == Some(1)).count(), 5);
    assert!(state.job(&"default".into(), &"web".into()).unwrap().is_stable());
}

/// Plays agents whose tasks are healthy at once and stop when asked.
async fn healthy_until(plane: &Plane, what: &str, done: impl Fn(&State) -> bool) {
    let work = async {
        loop {
            let state = plane.replica.state();
            if done(&state) {
                return;
            }
            let updates: Vec<AllocClientUpdate> = state.allocs().filter_map(|a| news_of(a)).collect();
            if !updates.is_empty() {
                let news = AllocNews { updates };
                let _: Result<serde_json::Value, _> = plane.controller.post(ALLOC_NEWS, &news, WITHIN).await;
            }
            plane.replica.past(state.index(), Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(WITHIN, work).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn news_of(alloc: &Allocation) -> Option<AllocClientUpdate> {
    if alloc.client_terminal() {
        return None;
    }
    if alloc.server_terminal() {
        return Some(AllocClientUpdate { client_status: ClientStatus::Complete, ..running(alloc) });
    }
    let healthy = AllocDeploymentStatus {
        healthy: Some(true),
        timestamp: Timestamp(client::clock::unix_nanos()),
        ..AllocDeploymentStatus::default()
    };
    alloc.is_healthy().is_none().then(|| AllocClientUpdate { deployment_status: Some(healthy), ..running(alloc) })
}
