//! The agents' protocol, over mutual TLS.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::node::{BEAT, Beat, BeatTaken, NEWS, News, REGISTER, Register, Registered, STREAM, StreamLine};
use api::state::{CERTIFICATES, SignRequest, Signed};
use client::error::CallError;
use client::http::{Http, Lines, Target};
use fsm::Command;
use fsm::command::AllocClientUpdate;
use model::{AllocId, ClientStatus, Role};

use crate::support::{Cluster, NOBODY, NODE, WITHIN, job, node, until};

fn agent(cluster: &Cluster) -> (Http, Target) {
    (Http::new(cluster.identity(Role::Agent, NODE)), Target::new(cluster.internal, Role::Gateway))
}

async fn follow(cluster: &Cluster, query: &str) -> Lines {
    let (http, to) = agent(cluster);
    let path = format!("{STREAM}?node={NODE}{query}");
    http.open_stream(to, &path, WITHIN, WITHIN).await.unwrap().lines(1 << 20)
}

/// The next line that says something.
async fn next(lines: &mut Lines) -> StreamLine {
    loop {
        let line: StreamLine = serde_json::from_slice(&lines.next().await.unwrap().expect("a line")).unwrap();
        if !line.keepalive {
            return line;
        }
    }
}

fn news(id: &AllocId, status: ClientStatus) -> AllocClientUpdate {
    AllocClientUpdate { id: id.clone(), node_id: NODE.into(), client_status: status, ..AllocClientUpdate::default() }
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, CallError>, status: u16) {
    assert_eq!(result.unwrap_err().status().map(|s| s.as_u16()), Some(status));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_itself_and_nobody_else() {
    let cluster = Cluster::start().await;
    let (http, to) = agent(&cluster);
    let request = Register { node: node("127.0.0.1:9") };
    let done: Registered = http.post_json(&to, REGISTER, &request, WITHIN).await.unwrap();
    assert_eq!(done.period_ms, 1_234);
    let state = cluster.truth.state();
    let row = state.node(&NODE.into()).unwrap();
    assert!(row.modify_index <= done.index && row.computed_class.starts_with("v1:"));
    assert_eq!(cluster.truth.beats.lock().unwrap()[0].nodes, [NODE]);

    let mut foreign = request.clone();
    foreign.node.id = NOBODY.into();
    refused(http.post_json::<_, Registered>(&to, REGISTER, &foreign, WITHIN).await, 403);
    let mut nameless = request.clone();
    nameless.node.name.clear();
    refused(http.post_json::<_, Registered>(&to, REGISTER, &nameless, WITHIN).await, 400);
    let mut thief = request.clone();
    thief.node.secret_id = "other".into();
    refused(http.post_json::<_, Registered>(&to, REGISTER, &thief, WITHIN).await, 409);
    let operator = Http::new(cluster.identity(Role::Operator, "operator"));
    refused(operator.post_json::<_, Registered>(&to, REGISTER, &request, WITHIN).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_reach_the_controller_together_and_an_unknown_node_is_told() {
    let cluster = Cluster::start().await;
    let (http, to) = agent(&cluster);
    let beat = Beat { node_id: NODE.into() };
    let taken: BeatTaken = http.post_json(&to, BEAT, &beat, WITHIN).await.unwrap();
    assert!(taken.register_again);
    assert_eq!(taken.gateways, [cluster.internal.to_string()]);
    cluster.add_node();
    let taken: BeatTaken = http.post_json(&to, BEAT, &beat, WITHIN).await.unwrap();
    assert!(!taken.register_again && taken.period_ms == 1_234);
    refused(http.post_json::<_, BeatTaken>(&to, BEAT, &Beat { node_id: NOBODY.into() }, WITHIN).await, 403);
    cluster.truth.controller_works.store(false, Ordering::SeqCst);
    refused(http.post_json::<_, BeatTaken>(&to, BEAT, &beat, WITHIN).await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_first_everything_and_then_what_changes() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 2));
    let (first, _) = cluster.place("web", 1);
    let mut lines = follow(&cluster, "").await;
    let line = next(&mut lines).await;
    assert!(line.full && line.epoch == "one");
    assert_eq!((line.upserts.len(), &line.upserts[0].id), (1, &first[0]));
    assert_eq!(line.jobs[0].id(), "web");

    let (second, _) = cluster.place("web", 1);
    let line = next(&mut lines).await;
    assert!(!line.full);
    assert_eq!((line.upserts.len(), &line.upserts[0].id), (1, &second[0]));

    // Its own news are none to it; a stop is.
    cluster.run_alloc(&first[0]);
    cluster.send("PUT", &format!("/v1/allocation/{}/stop", second[0]), &serde_json::Value::Null).await.json();
    let line = next(&mut lines).await;
    assert_eq!((line.upserts.len(), &line.upserts[0].id), (1, &second[0]));
    assert!(line.upserts[0].desired_transition.should_migrate());
    assert_eq!(cluster.app.streams.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_each_version_of_a_job_once() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    for name in ["web", "db"] {
        cluster.add_job(job(name, 3));
        cluster.place(name, 3);
    }
    let mut line = next(&mut follow(&cluster, "").await).await;
    let of = |line: &StreamLine| line.jobs.iter().map(|job| job.id().to_string()).collect::<Vec<_>>();
    assert_eq!(of(&line), ["db", "web"]);
    assert!(line.upserts.iter().all(|row| row.job.is_none() && row.metrics.is_none()));
    line.rejoin().unwrap();
    assert_eq!(line.upserts.iter().filter(|row| row.job_id == "web").count(), 3);
    assert!(line.upserts.iter().all(|row| row.job.as_ref().unwrap().id() == row.job_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_another_ended_if_that_can_be_told() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 2));
    // The gateway has seen this much by itself.
    cluster.get("/v1/jobs").await.json();
    let (first, _) = cluster.place("web", 1);
    let mut lines = follow(&cluster, "").await;
    let at = next(&mut lines).await.index;
    let (second, _) = cluster.place("web", 1);
    drop(lines);
    let placed = cluster.truth.state().index();
    until(|| cluster.app.watches.view().state.index() >= placed).await;
    let mut lines = follow(&cluster, &format!("&after={at}&epoch=one")).await;
    let line = next(&mut lines).await;
    assert!(!line.full);
    assert_eq!(line.upserts.iter().map(|a| a.id.clone()).collect::<Vec<_>>(), second);
    let mut lines = follow(&cluster, &format!("&after={at}&epoch=other")).await;
    assert!(next(&mut lines).await.full);

    // What was forgotten cannot be told as a change: everything is told again.
    cluster.truth.apply(
        Role::Controller,
        Command::AllocClientUpdate { updates: vec![news(&first[0], ClientStatus::Complete)], evals: vec![] },
    );
    let state = cluster.truth.state();
    let eval = state.alloc(&first[0]).unwrap().eval_id.clone();
    let reap = Command::Reap { evals: vec![eval], allocs: first.clone(), deployments: vec![], jobs: vec![] };
    cluster.truth.apply(Role::Controller, reap);
    assert!(cluster.truth.state().alloc(&first[0]).is_none(), "it is forgotten");
    let line = next(&mut lines).await;
    assert!(line.full);
    assert_eq!(line.upserts.iter().map(|a| a.id.clone()).collect::<Vec<_>>(), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_says_that_it_lives_and_ends_with_a_word() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    let mut lines = follow(&cluster, "").await;
    next(&mut lines).await;
    let line = tokio::time::timeout(Duration::from_secs(3), lines.next()).await.unwrap().unwrap().unwrap();
    assert!(serde_json::from_slice::<StreamLine>(&line).unwrap().keepalive);
    cluster.shutdown.request();
    assert!(next(&mut lines).await.close);
    assert!(lines.next().await.ok().flatten().is_none());
    assert!(cluster.truth.beats.lock().unwrap().iter().all(|beats| beats.broken.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_is_told_to_the_controller_and_one_that_is_replaced_is_not() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    let mut old = follow(&cluster, "").await;
    next(&mut old).await;
    let mut new = follow(&cluster, "").await;
    next(&mut new).await;
    drop(old);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let broken = || cluster.truth.beats.lock().unwrap().iter().map(|beats| beats.broken.len()).sum::<usize>();
    assert_eq!((broken(), cluster.app.streams.count()), (0, 1));
    drop(new);
    until(|| broken() == 1).await;
    assert_eq!(cluster.app.streams.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn news_are_answered_once_committed_and_only_a_node_s_own_are_taken() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 1));
    let (ids, _) = cluster.place("web", 1);
    let (http, to) = agent(&cluster);
    let mine = News { updates: vec![news(&ids[0], ClientStatus::Running)] };
    http.post_json::<_, Option<()>>(&to, NEWS, &mine, WITHIN).await.unwrap();
    assert_eq!(cluster.truth.state().alloc(&ids[0]).unwrap().client_status, ClientStatus::Running);
    let mut foreign = mine.clone();
    foreign.updates[0].node_id = NOBODY.into();
    refused(http.post_json::<_, Option<()>>(&to, NEWS, &foreign, WITHIN).await, 403);
    http.post_json::<_, Option<()>>(&to, NEWS, &News::default(), WITHIN).await.unwrap();
    assert_eq!(cluster.truth.news.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_the_agent_s_own_name_only() {
    let cluster = Cluster::start().await;
    let (http, to) = agent(&cluster);
    let own = SignRequest { csr: "csr".into(), role: Role::Agent, name: NODE.into(), admission: String::new() };
    let signed: Signed = http.post_json(&to, CERTIFICATES, &own, WITHIN).await.unwrap();
    assert_eq!(signed.certificate, format!("for {NODE}"));
    for wrong in [SignRequest { name: NOBODY.into(), ..own.clone() }, SignRequest { role: Role::Gateway, ..own }] {
        refused(http.post_json::<_, Signed>(&to, CERTIFICATES, &wrong, WITHIN).await, 403);
    }
}

/// A node whose trust was revoked is told that nothing is wanted of it, and is not heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_node_is_shut_out_whatever_it_says() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 1));
    let (ids, _) = cluster.place("web", 1);
    let mut open = follow(&cluster, "").await;
    assert_eq!(next(&mut open).await.upserts.len(), 1);
    cluster
        .truth
        .apply(Role::Gateway, Command::NodeDeregister { nodes: vec![NODE.into()], revoke: true, evals: vec![] });
    let (http, to) = agent(&cluster);
    let beat = Beat { node_id: NODE.into() };
    let refuses = || async { http.post_json::<_, BeatTaken>(&to, BEAT, &beat, WITHIN).await.is_err() };
    let deadline = tokio::time::Instant::now() + WITHIN;
    while !refuses().await {
        assert!(tokio::time::Instant::now() < deadline, "the gateway learns of it");
    }
    refused(http.post_json::<_, BeatTaken>(&to, BEAT, &beat, WITHIN).await, 403);
    let request = Register { node: node("127.0.0.1:9") };
    refused(http.post_json::<_, Registered>(&to, REGISTER, &request, WITHIN).await, 403);
    let told = News { updates: vec![news(&ids[0], ClientStatus::Running)] };
    refused(http.post_json::<_, serde_json::Value>(&to, NEWS, &told, WITHIN).await, 403);
    let line = next(&mut follow(&cluster, "").await).await;
    assert!(line.full && line.upserts.is_empty() && !line.close, "what it runs is to end: {line:?}");
    cluster.truth.apply(Role::Gateway, Command::NodeAdmit { nodes: vec![NODE.into()], admission: String::new() });
    let again = || async { http.post_json::<_, Registered>(&to, REGISTER, &request, WITHIN).await.is_ok() };
    let deadline = tokio::time::Instant::now() + WITHIN;
    while !again().await {
        assert!(tokio::time::Instant::now() < deadline, "it may come back");
    }
}

/// A certificate that was stolen before the purge opens nothing after the node came back, not even a stream that
/// was open all the time.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_node_that_came_back_no_certificate_from_before_the_purge_is_taken_anywhere() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    let (http, to) = agent(&cluster);
    let mut open = follow(&cluster, "").await;
    next(&mut open).await;
    let gone = || Command::NodeDeregister { nodes: vec![NODE.into()], revoke: true, evals: vec![] };
    cluster.truth.apply(Role::Gateway, gone());
    assert!(next(&mut open).await.full, "it is told that nothing is wanted of it");
    cluster.truth.apply(Role::Gateway, Command::NodeAdmit { nodes: vec![NODE.into()], admission: "new".into() });
    cluster.add_node();
    cluster.add_job(job("web", 1));
    cluster.place("web", 1);
    // Nothing at all may come; only time can tell that.
    let told = tokio::time::timeout(Duration::from_secs(1), next(&mut open)).await;
    assert!(told.is_err(), "the old stream learns nothing of what the node does now: {told:?}");

    let beat = Beat { node_id: NODE.into() };
    let said = http.post_json::<_, BeatTaken>(&to, BEAT, &beat, WITHIN).await.unwrap_err().to_string();
    assert!(said.contains("from before the node was purged"), "{said}");
    let request = Register { node: node("127.0.0.1:9") };
    refused(http.post_json::<_, Registered>(&to, REGISTER, &request, WITHIN).await, 403);
    let told = News { updates: vec![] };
    refused(http.post_json::<_, serde_json::Value>(&to, NEWS, &told, WITHIN).await, 403);
    let sign = SignRequest { csr: "csr".into(), role: Role::Agent, name: NODE.into(), admission: "new".into() };
    refused(http.post_json::<_, Signed>(&to, CERTIFICATES, &sign, WITHIN).await, 403);
    let path = format!("{STREAM}?node={NODE}");
    refused(http.get_json::<serde_json::Value>(&to, &path, WITHIN).await, 403);
}
