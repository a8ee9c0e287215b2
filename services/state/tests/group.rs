//! State servers as a group.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use api::state::{ChangePeers, RaftStatus};
use client::http::{Call, Streaming, Target};
use client::peers::PeerAddr;
use client::replica::{NoObserver, Replica};
use client::state::new_uuid;
use fsm::command::{Command, LeaseName};
use fsm::{Reply, Table};
use kit::shell::Shell;
use model::{Index, Role};
use support::{Group, WITHIN, namespace, propose};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_in_every_copy_and_survives_leaders_and_restarts() {
    let mut group = Group::start(3);
    let (shell, state) = group.user(Role::Gateway).await;
    let replica = shell.replica(&Table::ALL, Box::new(NoObserver));
    let mut last = Index(0);
    for n in 0..150 {
        last = propose(&state, namespace(&format!("before-{n}"))).await;
    }
    assert!(replica.reached(last, WITHIN).await.unwrap().namespace(&"before-149".into()).is_some());

    // One after the other, whoever leads among them.
    for n in 0..3 {
        group.stop(n).await;
        last = propose(&state, namespace(&format!("without-{n}"))).await;
        assert!(
            replica.reached(last, WITHIN).await.unwrap().namespace(&format!("without-{n}").as_str().into()).is_some()
        );
        group.run(n, 3);
        // The next one may only go once this one is back, or there is no quorum.
        let read = state.read_index(WITHIN).await.unwrap();
        assert!(read >= last);
        let back = shell.directory.wait_until(|all| {
            all.iter().filter(|m| m.role == Role::State && m.tag("raft_initialized") == Some("true")).count() == 3
        });
        tokio::time::timeout(WITHIN, back).await.unwrap();
    }
    let fresh: Replica = shell.replica(&Table::ALL, Box::new(NoObserver));
    let copy = fresh.reached(last, WITHIN).await.unwrap();
    for name in ["before-0", "before-149", "without-0", "without-1", "without-2"] {
        assert!(copy.namespace(&name.into()).is_some(), "{name} is lost");
    }
    assert_eq!(copy.hash_text(), replica.reached(copy.index(), WITHIN).await.unwrap().hash_text());
    shell.shutdown.request();
}

/// The server that takes followers for leading, and the feed it then serves.
async fn led(shell: &Shell) -> (PeerAddr, Streaming) {
    let copy = shell.replica(&[Table::Cluster], Box::new(NoObserver)).reached(Index(1), WITHIN).await.unwrap();
    let path = format!("{}?after={}&epoch={}&led=true", api::state::FEED, copy.index(), copy.cluster().epoch);
    let found = async {
        loop {
            for peer in shell.peers().peers(Role::State) {
                match shell.http.open_stream(Target::new(peer.addr, Role::State), &path, WITHIN, WITHIN).await {
                    Ok(feed) => {
                        let named = feed.headers().get(api::headers::LEADER).and_then(|name| name.to_str().ok());
                        assert_eq!(named, Some(peer.addr.to_string().as_str()));
                        return (peer, feed);
                    }
                    Err(error) => {
                        // It does not lead, or has not heard yet who does.
                        let no = [api::Code::TooMany, api::Code::NotReady].map(api::Code::as_str);
                        assert!(no.contains(&error.code()), "{error}");
                    }
                }
            }
            // Nobody leads just now.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WITHIN, found).await.expect("one leads")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_leader_is_let_go_when_another_leads() {
    let group = Group::start(3);
    let (shell, state) = group.user(Role::Gateway).await;
    propose(&state, namespace("one")).await;
    let (first, feed) = led(&shell).await;
    let call = Call::get(api::state::RAFT_STATUS, WITHIN);
    let reply = shell.http.call(&Target::new(first.addr, Role::State), call).await.unwrap();
    let status: RaftStatus = serde_json::from_slice(&reply.body).unwrap();
    let other = status.peers.into_iter().find(|peer| peer.name != first.name).unwrap();
    let call = Call::post(api::state::RAFT_PEERS, WITHIN).json(&ChangePeers::TransferLeadership { to: other.id });
    shell.http.call(&Target::new(first.addr, Role::State), call.unwrap()).await.unwrap();
    let mut lines = feed.lines(1 << 20);
    let ended = async { while lines.next().await.unwrap().is_some() {} };
    tokio::time::timeout(WITHIN, ended).await.expect("the former leader ends the feed");
    // A copy made by now finds the new one by itself.
    assert_ne!(led(&shell).await.0, first);
    shell.shutdown.request();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_command_acts_once_and_gets_the_first_reply() {
    let group = Group::start(1);
    let (shell, state) = group.user(Role::Gateway).await;
    let envelope = fsm::Envelope {
        request: Some(client::state::new_request_id()),
        proposer: Role::Gateway,
        lease: None,
        now: client::clock::unix_nanos(),
        command: namespace("once"),
    };
    let first = state.propose_envelope(&envelope, WITHIN).await.unwrap();
    let second = state.propose_envelope(&envelope, WITHIN).await.unwrap();
    assert_eq!(first.1, second.1);
    let replica = shell.replica(&Table::ALL, Box::new(NoObserver));
    let copy = replica.reached(second.0, WITHIN).await.unwrap();
    assert_eq!(copy.namespace(&"once".into()).unwrap().modify_index, first.0);
    shell.shutdown.request();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_holder_loses_its_lease_and_a_role_may_not_speak_for_another() {
    let group = Group::start(1);
    let (shell, state) = group.user(Role::Broker).await;
    let holder = |name: &str| Command::LeaseAcquire {
        lease: LeaseName::Broker,
        holder: name.into(),
        addr: "127.0.0.1:1".into(),
    };
    let (_, first) = state.propose(holder("one"), None, WITHIN).await.unwrap();
    assert!(state.propose(holder("two"), None, WITHIN).await.is_err(), "it is held");
    let replica = shell.replica(&[Table::Cluster, Table::Leases], Box::new(NoObserver));
    let freed = async {
        loop {
            let copy = replica.state();
            if copy.lease(LeaseName::Broker).is_some_and(|l| l.holder.is_empty()) {
                return;
            }
            replica.past(copy.index(), Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(WITHIN, freed).await.unwrap();
    let (_, second) = state.propose(holder("two"), None, WITHIN).await.unwrap();
    assert!(matches!((first, second), (Reply::Lease { term: a }, Reply::Lease { term: b }) if b > a));

    let envelope = fsm::Envelope {
        request: None,
        proposer: Role::Applier,
        lease: None,
        now: 0,
        command: Command::PlanApply { plans: Vec::new() },
    };
    assert!(state.propose_envelope(&envelope, WITHIN).await.is_err(), "a broker is no applier ({})", new_uuid());
    shell.shutdown.request();
}
