//! Who founds a cluster, who joins one, and who is kept out.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use api::Code;
use api::state::RaftStatus;
use client::http::{Call, Http, Target};
use client::replica::NoObserver;
use client::tls::Identity;
use fsm::Table;
use kit::process::Shutdown;
use kit::shell::Shell;
use model::{Index, Role};
use support::{Group, WITHIN, free_udp, namespace, propose};

/// Where a state server serves, once gossip knows it.
async fn target(shell: &Shell, n: usize) -> Target {
    let name = format!("state-{n}");
    let there = shell.directory.wait_until(|all| all.iter().any(|m| *m.name == *name && m.tag("raft_id").is_some()));
    assert!(tokio::time::timeout(WITHIN, there).await.unwrap());
    Target::new(shell.directory.find(&name).unwrap().api, Role::State)
}

async fn raft_status(shell: &Shell, at: &Target) -> RaftStatus {
    shell.http.get_json(at.clone(), api::state::RAFT_STATUS, WITHIN).await.unwrap()
}

/// Waits until the server is no part of a cluster for this reason.
async fn until_waiting(shell: &Shell, at: &Target, reason: &str) -> String {
    let asking = async {
        loop {
            let status = raft_status(shell, at).await;
            if status.waiting.contains(reason) {
                return status.waiting;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let why = tokio::time::timeout(WITHIN, asking).await.unwrap_or_else(|_| panic!("never waits: {reason}"));
    assert!(shell.http.call(at, Call::get("/health/ready", WITHIN)).await.is_err(), "and it is not ready");
    why
}

async fn until_members(shell: &Shell, at: &Target, voters: usize) -> RaftStatus {
    let asking = async {
        loop {
            let status = raft_status(shell, at).await;
            if status.peers.iter().filter(|p| p.voter).count() == voters && status.peers.len() == voters {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, asking).await.unwrap_or_else(|_| panic!("never {voters} voters"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_told_to_join_founds_nothing_and_is_added() {
    let mut group = Group::of(2);
    let (shell, state) = group.user(Role::Gateway).await;
    // The one to join is not there yet; the user is, so that somebody sees what happens.
    let mut settings = group.settings("state-1");
    settings.join.push(shell.gossip.local_addr().to_string());
    group.run_with(1, 1, settings);
    let second = target(&shell, 1).await;
    until_waiting(&shell, &second, "told to join, it founds none alone").await;
    let status = raft_status(&shell, &second).await;
    assert!(!status.initialized && status.peers.is_empty() && status.founder == 0);
    let call = Call::get(api::state::READ_INDEX, WITHIN);
    assert!(shell.http.call(&second, call).await.is_err(), "it answers nothing");

    group.run(0, 1);
    let first = target(&shell, 0).await;
    let of_first = until_members(&shell, &first, 2).await;
    let of_second = until_members(&shell, &second, 2).await;
    let ids = |status: &RaftStatus| status.peers.iter().map(|p| p.id).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&of_first), ids(&of_second));
    propose(&state, namespace("one-cluster")).await;
    let one = shell.directory.wait_until(|all| {
        let clusters: Vec<_> = all.iter().filter(|m| m.role == Role::State).filter_map(|m| m.tag("cluster")).collect();
        clusters.len() == 2 && !clusters[0].is_empty() && clusters[0] == clusters[1]
    });
    tokio::time::timeout(WITHIN, one).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_the_data_of_another_cluster_answers_nobody_and_says_why() {
    let mut group = Group::of(2);
    let (shell, state) = group.user(Role::Gateway).await;
    group.run(0, 1);
    let last = propose(&state, namespace("ours")).await;
    let replica = shell.replica(&Table::ALL, Box::new(NoObserver));
    let epoch = replica.reached(last, WITHIN).await.unwrap().cluster().epoch.clone();

    // A cluster of its own, elsewhere: nobody to join but itself.
    let mut settings = group.settings("state-1");
    settings.gossip_bind = free_udp();
    settings.join = vec![settings.gossip_bind.to_string()];
    let joins = settings.join.clone();
    group.run_with(1, 1, settings.clone());
    let mut away = group.settings("broker");
    away.join = joins;
    let away = Shell::start(away, Role::Broker, Shutdown::new()).await.unwrap();
    let other = away.state();
    let theirs = away.replica(&Table::ALL, Box::new(NoObserver));
    let other_epoch = theirs.reached(other.read_index(WITHIN).await.unwrap(), WITHIN).await;
    let other_epoch = other_epoch.unwrap().cluster().epoch.clone();
    away.shutdown.request();
    group.stop(1).await;

    settings.join = vec![group.seed.to_string()];
    group.run_with(1, 1, settings);
    let second = target(&shell, 1).await;
    let why = until_waiting(&shell, &second, "an empty data directory").await;
    assert!(why.contains(&epoch) && why.contains(&other_epoch) && why.contains("state-0"), "{why}");
    let feed = format!("{}?after=0", api::state::FEED);
    for path in [api::state::READ_INDEX, api::state::SNAPSHOT, feed.as_str()] {
        let error = shell.http.call(&second, Call::get(path, WITHIN)).await.unwrap_err();
        assert_eq!(Code::parse(error.code()), Some(Code::NotReady), "{path}");
        assert!(error.to_string().contains(&other_epoch), "{path}: {error}");
    }
    // The cluster goes on with its own, and does not take the stranger in.
    let last = propose(&state, namespace("still-ours")).await;
    let copy = replica.reached(last, WITHIN).await.unwrap();
    assert_eq!(copy.cluster().epoch, epoch);
    assert!(copy.namespace(&"ours".into()).is_some());
    assert_eq!(raft_status(&shell, &target(&shell, 0).await).await.peers.len(), 1);
    // Nor does it answer in the other's place while that one is away.
    group.stop(0).await;
    let gone = shell.directory.wait_until(|all| !all.iter().any(|m| &*m.name == "state-0"));
    tokio::time::timeout(WITHIN, gone).await.unwrap();
    until_waiting(&shell, &second, &epoch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_data_is_another_member_and_nothing_is_lost() {
    let mut group = Group::start(3);
    let (shell, state) = group.user(Role::Gateway).await;
    let mut last = Index(0);
    for n in 0..20 {
        last = propose(&state, namespace(&format!("kept-{n}"))).await;
    }
    let first = target(&shell, 0).await;
    let before = until_members(&shell, &first, 3).await;
    group.stop(2).await;
    std::fs::remove_dir_all(group.home(2).join("data")).unwrap();
    group.run(2, 3);
    let asking = async {
        loop {
            let status = until_members(&shell, &first, 3).await;
            let id_of = |status: &RaftStatus| status.peers.iter().find(|p| p.name == "state-2").map(|p| p.id);
            if id_of(&status) != id_of(&before) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, asking).await.unwrap();
    // It counts: with it and one other there is a quorum that has everything.
    group.stop(1).await;
    let replica = shell.replica(&Table::ALL, Box::new(NoObserver));
    last = last.max(propose(&state, namespace("after")).await);
    let copy = replica.reached(last, WITHIN).await.unwrap();
    assert!((0..20).all(|n| copy.namespace(&format!("kept-{n}").as_str().into()).is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_has_one_server() {
    let group = Group::start(1);
    let (shell, state) = group.user(Role::Gateway).await;
    propose(&state, namespace("first")).await;
    let settings = group.settings("state-0");
    let config = state::Config {
        settings,
        bootstrap_expect: 1,
        ca_dir: None,
        introduction_ttl: model::Nanos::from_secs(300),
        introduction_ttl_max: model::Nanos::from_secs(1_800),
        snapshot_after: 100,
        root_keys: Default::default(),
        tuning: Default::default(),
    };
    let error = tokio::time::timeout(WITHIN, state::run(config, Shutdown::new())).await.unwrap().unwrap_err();
    let data = group.home(0).join("data");
    assert_eq!(error.to_string(), format!("data directory {} is in use by another state server", data.display()));
    propose(&state, namespace("unharmed")).await;
    let servers = shell.directory.by_role(Role::State);
    assert_eq!(servers.len(), 1, "the second one never showed itself");
    assert_eq!(servers[0].api, target(&shell, 0).await.addr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raft_message_for_another_member_is_refused() {
    let group = Group::start(1);
    let (shell, state) = group.user(Role::Gateway).await;
    propose(&state, namespace("first")).await;
    let server = target(&shell, 0).await;
    let id = raft_status(&shell, &server).await.id;
    let peer = Http::new(Identity::load(group.home(0).join("identity")).unwrap());
    let vote = |to: Option<u64>| {
        let path = format!("{}/vote", api::state::RAFT_RPC);
        let mut call = Call::post(path, WITHIN).bytes("{}".into());
        if let Some(to) = to {
            call = call.header("x-steppe-raft-member".parse().unwrap(), to.into());
        }
        let (peer, server) = (peer.clone(), server.clone());
        async move { peer.call(&server, call).await.unwrap_err() }
    };
    let error = vote(Some(id + 1)).await;
    assert_eq!(Code::parse(error.code()), Some(Code::Conflict));
    assert!(error.to_string().contains(&format!("raft member {id}, the message is for {}", id + 1)), "{error}");
    let error = vote(None).await;
    assert!(error.to_string().contains("does not say for which raft member"), "{error}");
    // Not a request for a vote, but its own.
    assert_eq!(Code::parse(vote(Some(id)).await.code()), Some(Code::BadRequest), "its own are read");
}
