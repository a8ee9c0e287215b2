//! What a state server answers to whom.
#![allow(clippy::unwrap_used)]

use std::io::BufReader;
use std::time::Duration;

use api::Code;
use client::error::CallError;
use client::http::{Call, Http, Target};
use e2e::plane::{Plane, WITHIN};
use fsm::{Command, Envelope, Table};
use model::namespace::Namespace;
use model::{Index, Role};

fn namespace(name: &str, bytes: usize) -> Command {
    let meta = [("filling".to_owned(), "x".repeat(bytes))].into();
    let row = Namespace { name: name.to_owned(), meta, ..Namespace::default() };
    Command::NamespaceUpsert { namespaces: vec![row] }
}

fn envelope(proposer: Role, command: Command) -> Envelope {
    let request = Some(client::state::new_request_id());
    Envelope { request, proposer, lease: None, now: client::clock::unix_nanos(), command }
}

fn code(error: &CallError) -> (u16, Option<Code>) {
    (error.status().map_or(0, |s| s.as_u16()), Code::parse(error.code()))
}

async fn post(http: &Http, to: &Target, envelope: &Envelope) -> Result<api::state::Proposed, CallError> {
    http.post_json(to.clone(), api::state::PROPOSE, envelope, WITHIN).await
}

async fn alone() -> (Plane, Target) {
    let plane = Plane::of(vec![(Role::State, "state-0".into())]).await;
    let target = plane.targets(Role::State, 1).await.remove(0);
    plane.propose(namespace("first", 1)).await;
    // The last of what a founded cluster writes by itself.
    plane.until("the cluster is founded", |s| s.active_root_key().is_some()).await;
    (plane, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_propose_is_refused_and_nobody_speaks_for_another() {
    let (plane, state) = alone().await;
    let before = plane.state.read_index(WITHIN).await.unwrap();
    let agent = plane.caller(Role::Agent, "agent");
    let error = post(&agent, &state, &envelope(Role::Agent, namespace("a", 1))).await.unwrap_err();
    assert_eq!(code(&error), (403, Some(Code::Forbidden)), "an agent proposes nothing");
    let broker = plane.caller(Role::Broker, "broker");
    let error = post(&broker, &state, &envelope(Role::Gateway, namespace("a", 1))).await.unwrap_err();
    assert_eq!(code(&error), (403, Some(Code::Forbidden)), "a broker is no gateway");
    // Not a way round: only state servers forward.
    let call = Call::post(api::state::PROPOSE, WITHIN).json(&envelope(Role::Gateway, namespace("a", 1))).unwrap();
    let call = call.header("x-steppe-forwarded".parse().unwrap(), "1".parse().unwrap());
    assert_eq!(code(&broker.call(&state, call).await.unwrap_err()), (403, Some(Code::Forbidden)));
    let raft = Call::post(format!("{}/vote", api::state::RAFT_RPC), WITHIN).bytes("{}".into());
    assert_eq!(code(&broker.call(&state, raft).await.unwrap_err()), (403, Some(Code::Forbidden)), "nor a peer");
    assert_eq!(plane.state.read_index(WITHIN).await.unwrap(), before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_is_refused_and_never_gets_into_the_log() {
    let (plane, state) = alone().await;
    let before = plane.state.read_index(WITHIN).await.unwrap();
    let bad = [
        "",
        "null",
        "[1,2",
        r#"{"proposer":"gateway"}"#,
        r#"{"proposer":"gateway","now":1,"command":{"Conquer":{}}}"#,
        r#"{"proposer":"gateway","proposer":"applier","now":1,"command":{"PlanApply":{"plans":[]}}}"#,
    ];
    for body in bad {
        let call = Call::post(api::state::PROPOSE, WITHIN).bytes(body.as_bytes().to_vec().into());
        let error = plane.shell.http.call(&state, call).await.unwrap_err();
        assert_eq!(code(&error), (400, Some(Code::BadRequest)), "{body}");
    }
    let huge = envelope(Role::Gateway, namespace("huge", 17 << 20));
    let error = post(&plane.shell.http, &state, &huge).await.unwrap_err();
    assert_eq!(code(&error).0, 413);
    assert_eq!(plane.state.read_index(WITHIN).await.unwrap(), before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_the_window_is_sent_to_the_snapshot_and_one_beyond_it_waits() {
    let (plane, state) = alone().await;
    let mut last = Index(0);
    for n in 0..12 {
        last = plane.propose(namespace(&format!("big-{n}"), 1 << 20)).await;
    }
    let copy = plane.replica.reached(last, WITHIN).await.unwrap();
    let epoch = copy.cluster().epoch.clone();
    let feed = |after: u64, more: &str| {
        let (http, state) = (plane.shell.http.clone(), state.clone());
        let path = format!("{}?after={after}{more}", api::state::FEED);
        async move { http.open_stream(&state, &path, WITHIN, Duration::from_secs(3)).await }
    };
    for (after, more) in [(1, String::new()), (last.get(), "&epoch=another".to_owned())] {
        let error = feed(after, &more).await.err().unwrap();
        assert_eq!(code(&error), (410, Some(Code::Gone)), "after {after}{more}");
    }
    let error = feed(last.get(), "&hash=0000000000000000").await.err().unwrap();
    assert_eq!(code(&error), (410, Some(Code::Gone)), "a copy that differs");
    let error = feed(last.get(), "&tables=jobs,nonsense").await.err().unwrap();
    assert_eq!(code(&error), (400, Some(Code::BadRequest)));
    let mut lines = feed(last.get() + 1_000, &format!("&epoch={epoch}")).await.unwrap().lines(1 << 20);
    assert_eq!(lines.next().await.unwrap().unwrap(), api::state::FEED_BEAT, "beyond the last index: a beat, no line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_the_tables_asked_for_and_no_others() {
    let (plane, state) = alone().await;
    plane.propose(Command::NodeRegister { node: Box::new(e2e::nouns::node(1, 100, 100)), evals: vec![] }).await;
    let get = |tables: &str| {
        let call = Call::get(format!("{}?tables={tables}", api::state::SNAPSHOT), WITHIN);
        let (http, state) = (plane.caller(Role::Scheduler, "reader"), state.clone());
        async move { http.call(&state, call).await }
    };
    let bytes = get("namespaces,leases").await.unwrap().body;
    assert!(!String::from_utf8_lossy(&bytes).contains("SecretID"));
    let copy = fsm::read_snapshot(BufReader::new(&bytes[..])).unwrap();
    assert!(copy.namespace(&"first".into()).is_some() && copy.node_count() == 0 && !copy.follows(Table::Nodes));
    let copy = fsm::read_snapshot(BufReader::new(&get("nodes").await.unwrap().body[..])).unwrap();
    assert_eq!(copy.node_count(), 1);
    assert_eq!(code(&get("nodes,gnomes").await.unwrap_err()), (400, Some(Code::BadRequest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_server_a_command_comes_to_it_reaches_the_leader() {
    let names = (0..3).map(|n| (Role::State, format!("state-{n}"))).collect();
    let mut plane = Plane::of_group(names, 3).await;
    plane.propose(namespace("first", 1)).await;
    let servers = plane.targets(Role::State, 3).await;
    let mut last = Index(0);
    for (n, server) in servers.iter().enumerate() {
        let name = format!("by-{n}");
        let proposed = post(&plane.shell.http, server, &envelope(Role::Gateway, namespace(&name, 1))).await.unwrap();
        assert!(proposed.index > last);
        last = proposed.index;
        let read: api::state::ReadIndex =
            plane.shell.http.get_json(server.clone(), api::state::READ_INDEX, WITHIN).await.unwrap();
        assert!(read.index >= last, "a read behind a write sees it, wherever it asks");
        // Forwarded calls keep the caller's role.
        let error = post(&plane.shell.http, server, &envelope(Role::Applier, namespace("x", 1))).await.unwrap_err();
        assert_eq!(code(&error), (403, Some(Code::Forbidden)));
    }
    // A leader that ends in good order names its successor: commands go on.
    let leader = leader(&plane, &servers[0]).await;
    let began = std::time::Instant::now();
    plane.stop(&leader).await;
    plane.propose(namespace("after", 1)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

async fn leader(plane: &Plane, server: &Target) -> String {
    let status: api::state::RaftStatus =
        plane.shell.http.get_json(server.clone(), api::state::RAFT_STATUS, WITHIN).await.unwrap();
    status.leader.unwrap().name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_leader_sends_its_followers_away() {
    let names = (0..3).map(|n| (Role::State, format!("state-{n}"))).collect();
    let mut plane = Plane::of_group(names, 3).await;
    plane.propose(namespace("first", 1)).await;
    let servers = plane.targets(Role::State, 3).await;
    let leader = leader(&plane, &servers[0]).await;
    let follower = (0..3).map(|n| format!("state-{n}")).find(|name| *name != leader).unwrap();
    let rest = plane.shell.directory.find(&follower).unwrap();
    let target = Target::new(rest.api, Role::State);
    let path = format!("{}?after={}", api::state::FEED, plane.replica.index());
    let feed = plane.shell.http.open_stream(&target, &path, WITHIN, Duration::from_secs(3)).await.unwrap();
    let mut lines = feed.lines(1 << 20);
    for n in 0..3 {
        let name = format!("state-{n}");
        if name != follower {
            plane.stop(&name).await;
        }
    }
    let ended = async { while let Ok(Some(_)) = lines.next().await {} };
    tokio::time::timeout(WITHIN, ended).await.expect("its feed ends");
    let error = plane.shell.http.open_stream(&target, &path, WITHIN, Duration::from_secs(3)).await.err().unwrap();
    assert_eq!(code(&error), (503, Some(Code::NotReady)));
}
