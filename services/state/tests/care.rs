//! The group of state servers looks after itself: the dead leave, newcomers take their place, who comes back
//! is taken in, and who was sent away stays away.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::BufReader;
use std::time::Duration;

use api::public::OperatorHealthReply;
use api::state::{ARCHIVE, AUTOPILOT_HEALTH, ChangePeers, RAFT_PEERS, RAFT_STATUS, RaftStatus, SNAPSHOT};
use client::http::{Call, Target};
use client::peers::Peers as _;
use fsm::{Command, Reply, RestoreStep};
use kit::shell::Shell;
use model::{Index, Role};
use support::{Group, WITHIN, namespace, propose};

/// Gossip takes some seconds to call a server dead, autopilot ten more.
const LONG: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(2);

fn target(shell: &Shell, name: &str) -> Option<Target> {
    let peer = shell.directory.peers(Role::State).into_iter().find(|p| p.name == name)?;
    Some(Target::new(peer.addr, Role::State))
}

/// Raft as its leader sees it.
async fn leader(shell: &Shell) -> Option<RaftStatus> {
    for peer in shell.directory.peers(Role::State) {
        let target = Target::new(peer.addr, Role::State);
        if let Ok(status) = shell.http.get_json::<RaftStatus>(target, RAFT_STATUS, ASK).await
            && status.role == "leader"
        {
            return Some(status);
        }
    }
    None
}

fn voters(status: &RaftStatus) -> Vec<String> {
    let mut names: Vec<String> = status.peers.iter().filter(|p| p.voter).map(|p| p.name.clone()).collect();
    names.sort();
    names
}

async fn until_voters(shell: &Shell, wanted: &[&str]) -> RaftStatus {
    let mut last = Vec::new();
    let reached = tokio::time::timeout(LONG, async {
        loop {
            if let Some(status) = leader(shell).await {
                last = voters(&status);
                if last == wanted {
                    return status;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let reached = reached.await.ok();
    let seen: Vec<String> = shell.directory.all().iter().map(|(m, status)| format!("{m:?} {status:?}")).collect();
    reached.unwrap_or_else(|| panic!("voters are {last:?}, not {wanted:?}; gossip shows {seen:#?}"))
}

async fn health(shell: &Shell) -> Option<OperatorHealthReply> {
    let any = shell.directory.peers(Role::State).into_iter().next()?;
    shell.http.get_json(Target::new(any.addr, Role::State), AUTOPILOT_HEALTH, ASK).await.ok()
}

/// leader-005, leader-006
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_leaves_a_new_one_takes_its_place_and_the_dead_one_may_come_back() {
    let mut group = Group::of(4);
    (0..3).for_each(|n| group.run(n, 3));
    let (shell, state) = group.user(Role::Gateway).await;
    until_voters(&shell, &["state-0", "state-1", "state-2"]).await;
    propose(&state, namespace("kept")).await;
    let well = tokio::time::timeout(LONG, async {
        loop {
            match health(&shell).await {
                Some(health) if health.healthy && health.servers.len() == 3 => return health,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    let well = well.await.unwrap();
    assert_eq!((well.failure_tolerance, well.voters.len()), (1, 3));

    group.stop(2).await;
    until_voters(&shell, &["state-0", "state-1"]).await;
    group.run(3, 3);
    until_voters(&shell, &["state-0", "state-1", "state-3"]).await;
    propose(&state, namespace("without-it")).await;
    // With the data it had.
    group.run(2, 3);
    until_voters(&shell, &["state-0", "state-1", "state-2", "state-3"]).await;
    shell.shutdown.request();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_removed_by_hand_stays_out_until_it_is_started_again() {
    let mut group = Group::start(3);
    let (shell, state) = group.user(Role::Gateway).await;
    let status = until_voters(&shell, &["state-0", "state-1", "state-2"]).await;
    propose(&state, namespace("one")).await;
    let follower = status.peers.iter().find(|p| Some(p.id) != status.leader.as_ref().map(|l| l.id)).unwrap();
    let number: usize = follower.name.trim_start_matches("state-").parse().unwrap();
    // Any server takes it, and hands it to the leader.
    let call = Call::post(RAFT_PEERS, WITHIN).json(&ChangePeers::Remove { id: follower.id }).unwrap();
    shell.http.call(&target(&shell, &follower.name).unwrap(), call).await.unwrap();
    let others: Vec<String> = (0..3).filter(|n| *n != number).map(|n| format!("state-{n}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    until_voters(&shell, &others).await;
    // It does not ask to come back, though it hears no leader any more.
    let asks = |shell: &Shell| {
        let member = shell.directory.find(&follower.name);
        member.is_some_and(|member| member.tag("raft_asks") == Some("true"))
    };
    let came_back = tokio::time::timeout(Duration::from_secs(6), async {
        while !asks(&shell) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(came_back.await.is_err(), "it asks");
    assert_eq!(voters(&leader(&shell).await.unwrap()), others);
    group.stop(number).await;
    group.run(number, 3);
    until_voters(&shell, &["state-0", "state-1", "state-2"]).await;
    shell.shutdown.request();
}

/// The whole state as the operator's snapshot has it.
async fn archive(shell: &Shell, path: &str, name: &str) -> String {
    let opened = shell.http.open_stream(&target(shell, name).unwrap(), path, WITHIN, WITHIN).await;
    let mut stream = opened.unwrap_or_else(|error| panic!("{name} {path}: {error}"));
    let mut text = Vec::new();
    while let Some(piece) = stream.chunk().await.unwrap() {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

/// snapshot-002, keyring-001
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_restored_onto_a_group_is_the_state_of_all_of_its_servers_also_after_a_restart() {
    let mut group = Group::start(3);
    let (shell, state) = group.user(Role::Gateway).await;
    until_voters(&shell, &["state-0", "state-1", "state-2"]).await;
    let copy = shell.replica(&[fsm::Table::RootKeys], Box::new(client::replica::NoObserver));
    let keyed = tokio::time::timeout(LONG, async {
        while copy.state().active_root_key().is_none() {
            copy.past(copy.index(), ASK).await;
        }
    });
    keyed.await.expect("a key from the first second");
    propose(&state, namespace("before")).await;
    let index = propose(&state, namespace("saved")).await;
    let at = |path: &str, index: Index| format!("{path}?index={index}");
    let saved = archive(&shell, &at(ARCHIVE, index), "state-0").await;
    let read = fsm::read_snapshot(BufReader::new(saved.as_bytes())).unwrap();
    let key = read.active_root_key().expect("a key from the first second").meta.key_id.clone();
    let secret = read.key_material(&key).unwrap().wrapped.clone();
    assert!(!archive(&shell, SNAPSHOT, "state-0").await.contains(&secret), "followers never get it");

    let forgotten = propose(&state, namespace("forgotten")).await;
    let restore = |step: RestoreStep| Command::Restore(step);
    let id = "r".to_owned();
    propose(&state, restore(RestoreStep::Begin { id: id.clone() })).await;
    let (first, rest) = saved.split_at(saved.len() / 2);
    for (at, lines) in [first, rest].into_iter().enumerate() {
        propose(&state, restore(RestoreStep::Piece { id: id.clone(), at, lines: lines.to_owned() })).await;
    }
    let commit = restore(RestoreStep::Commit { id, epoch: "another".into() });
    let (index, reply) = state.propose(commit, None, WITHIN).await.unwrap();
    assert!(reply == Reply::Done && index > forgotten);
    let more = propose(&state, namespace("after")).await;
    assert!(more > index);
    group.stop(1).await;
    group.run(1, 3);
    let mut same = None;
    for name in ["state-0", "state-1", "state-2"] {
        let text = tokio::time::timeout(LONG, async {
            loop {
                let Some(target) = target(&shell, name) else { continue };
                let path = at(ARCHIVE, more);
                match shell.http.open_stream(&target, &path, WITHIN, WITHIN).await {
                    Ok(_) => return archive(&shell, &path, name).await,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let read = fsm::read_snapshot(BufReader::new(text.await.unwrap().as_bytes())).unwrap();
        let names: Vec<String> = read.namespaces().map(|n| n.name.clone()).collect();
        assert_eq!(names, ["after", "before", "default", "saved"], "{name}");
        assert_eq!(read.cluster().epoch, "another");
        assert_eq!(read.active_root_key().unwrap().meta.key_id, key);
        assert_eq!(*same.get_or_insert(read.hash_text()), read.hash_text(), "{name}");
    }
    shell.shutdown.request();
}
