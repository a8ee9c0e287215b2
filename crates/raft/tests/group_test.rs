//! The laws of a raft group, on real files and an in-memory network.

#![allow(clippy::unwrap_used)]

mod group;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use group::*;
use raft::*;

fn plain(_: &mut Config) {}

fn small_snapshots(config: &mut Config) {
    config.snapshot_after_entries = 50;
    config.keep_entries_after_snapshot = 10;
}

async fn write_many(group: &Group, tag: &str, count: usize) -> Vec<(u64, Bytes)> {
    futures::stream::iter(0..count)
        .map(|n| async move {
            let line = text(format!("{tag}-{n}"));
            (group.write(line.clone()).await, line)
        })
        .buffer_unordered(16)
        .collect()
        .await
}

fn assert_all_in(acked: &[(u64, Bytes)], lines: &[(u64, Bytes)]) {
    for line in acked {
        assert!(lines.contains(line), "acknowledged at {} but gone: {:?}", line.0, line.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_many_writers_are_applied_in_one_order_everywhere() {
    let group = Group::of(3, plain).await;
    let acked = write_many(&group, "w", 400).await;
    let last = acked.iter().map(|(index, _)| *index).max().unwrap();
    let lines = group.agree(last).await;
    assert_all_in(&acked, &lines);
    assert_eq!(lines.len(), 400);
    let leader = group.leader().await;
    let (index, reply) = group.node(leader).propose(text("four")).await.unwrap();
    assert_eq!(reply, text(format!("{index}:4")));
    let status = group.node(leader).status().borrow().clone();
    assert_eq!((status.role, status.voters.len()), (Role::Leader, 3));
    assert!(status.fault.is_none() && status.term > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader_and_writes_nothing() {
    let group = Group::of(3, patient).await;
    let leader = group.leader().await;
    let other = group.ids().into_iter().find(|id| *id != leader).unwrap();
    let hears = |status: &raft::Status| status.leader.as_ref().is_some_and(|known| known.id == leader);
    tokio::time::timeout(Duration::from_secs(20), group.node(other).status().wait_for(hears)).await.unwrap().unwrap();
    let refused = group.node(other).propose(text("x")).await;
    assert!(matches!(&refused, Err(ProposeError::NotLeader { leader: Some(l) }) if l.id == leader), "{refused:?}");
    let refused = group.node(other).read_index().await;
    assert!(matches!(&refused, Err(ProposeError::NotLeader { leader: Some(l) }) if l.id == leader), "{refused:?}");
    let big = Bytes::from(vec![0; (16 << 20) + 1]);
    assert!(matches!(group.node(leader).propose(big).await, Err(ProposeError::TooLarge { .. })));
    let again = group.node(other).initialize(vec![peer(other)]).await;
    assert!(matches!(again, Err(Error::NotInitializable(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_within_two_seconds_and_no_acknowledged_command_is_lost() {
    let group = Arc::new(Group::of(3, plain).await);
    let old = group.leader().await;
    let writing = {
        let group = group.clone();
        tokio::spawn(async move { write_many(&group, "during", 300).await })
    };
    group.tapes[&old].reach(40).await;
    // Its end counts from when it is gone, however long it takes to go.
    group.stop(old).await;
    let dead = Instant::now();
    let new = group.leader().await;
    let took = dead.elapsed();
    assert!(new != old && took < Duration::from_secs(2), "{took:?}");
    let acked = writing.await.unwrap();
    let last = acked.iter().map(|(index, _)| *index).max().unwrap();
    assert_all_in(&acked, &group.agree(last).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_commits_nothing_and_follows_when_the_cut_heals() {
    let group = Group::of(3, |c| c.propose_timeout = Duration::from_millis(300)).await;
    group.write(text("before")).await;
    let old = group.leader().await;
    group.isolate(old);
    let alone = group.node(old).propose(text("alone")).await;
    assert!(matches!(alone, Err(ProposeError::Unknown(_) | ProposeError::NotLeader { .. })), "{alone:?}");
    let read = group.node(old).read_index().await;
    assert!(read.is_err(), "a cut-off leader must not serve reads: {read:?}");
    let new = group.leader().await;
    assert_ne!(new, old);
    let index = group.write(text("after")).await;
    let term = group.node(new).status().borrow().term;
    group.heal();
    let lines = group.agree(index).await;
    assert!(lines.iter().any(|(_, l)| l == "after") && !lines.iter().any(|(_, l)| l == "alone"));
    // Pre-vote: coming back disturbs nobody.
    let last = group.write(text("calm")).await;
    group.agree(last).await;
    assert_eq!(group.node(group.leader().await).status().borrow().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_overtake_each_other_are_put_back_in_order() {
    let group = Group::of(3, |c| c.append_bytes_max = 200).await;
    group.hub.jitter_us.store(3_000, Ordering::Relaxed);
    let acked = write_many(&group, "jitter", 300).await;
    let last = acked.iter().map(|(index, _)| *index).max().unwrap();
    assert_all_in(&acked, &group.agree(last).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_comes_late_gets_a_snapshot_then_the_log_and_may_become_a_voter() {
    let mut group = Group::of(1, small_snapshots).await;
    let acked = write_many(&group, "early", 200).await;
    let mut status = group.node(1).status();
    tokio::time::timeout(Duration::from_secs(10), status.wait_for(|s| s.purged > 60)).await.unwrap().unwrap();
    for id in [2, 3] {
        group.start(id).await.unwrap();
        group.node(1).add_learner(peer(id)).await.unwrap();
    }
    let last = group.write(text("late")).await;
    assert_all_in(&acked, &group.agree(last).await);
    assert!(group.tapes[&2].restored.load(Ordering::Relaxed) > 0, "the log alone cannot have been enough");
    assert!(group.hub.snapshots.load(Ordering::Relaxed) >= 2);
    group.node(1).change_voters(BTreeSet::from([1, 2, 3])).await.unwrap();
    group.node(1).transfer_leadership(2).await.unwrap();
    assert!(matches!(group.node(1).transfer_leadership(3).await, Err(Error::NotLeader { .. })));
    assert_eq!(group.leader().await, 2);
    group.node(2).remove(1).await.unwrap();
    group.stop(1).await;
    let last = group.write(text("without the first")).await;
    assert_all_in(&acked, &group.agree(last).await);
    assert_eq!(group.node(2).status().borrow().voters.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_restarted_from_disk_has_the_same_data_and_refills_from_its_log() {
    let mut group = Group::of(3, small_snapshots).await;
    let acked = write_many(&group, "kept", 180).await;
    let last = acked.iter().map(|(index, _)| *index).max().unwrap();
    let before = group.agree(last).await;
    for round in 0..2 {
        for id in 1..=3 {
            group.stop(id).await;
        }
        for id in 1..=3 {
            group.start(id).await.unwrap();
            assert_eq!(stored_id(&group.home(id)).unwrap(), Some(id));
        }
        let index = group.write(text(format!("again {round}"))).await;
        assert!(index > last);
        let lines = group.agree(index).await;
        assert_eq!(&lines[..before.len()], &before[..]);
        let node = group.node(group.leader().await);
        let purged = node.status().wait_for(|s| s.applied >= index).await.unwrap().purged;
        assert!(purged > 0);
        let mut refilled = Vec::new();
        let mut from = purged + 1;
        loop {
            let some = node.entries(from, u64::MAX, 100).await.unwrap();
            let Some((at, _)) = some.last() else { break };
            from = at + 1;
            refilled.extend(some);
        }
        let expected: Vec<_> = lines.iter().filter(|(at, _)| *at > purged).cloned().collect();
        assert_eq!(refilled, expected);
        assert!(matches!(node.entries(0, 10, 100).await, Err(Error::Compacted { .. })));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_index_covers_every_command_acknowledged_before_it() {
    let group = Arc::new(Group::of(3, patient).await);
    let leader = group.leader().await;
    let tasks = (0..8).map(|task| {
        let group = group.clone();
        tokio::spawn(async move {
            for n in 0..25 {
                let (index, _) = group.node(leader).propose(text(format!("{task}.{n}"))).await.unwrap();
                let read = group.node(leader).read_index().await.unwrap();
                assert!(read >= index, "read index {read} misses {index}");
                group.tapes[&leader].reach(read).await;
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
}

fn flip(path: &std::path::Path, needle: &[u8]) {
    let mut bytes = std::fs::read(path).unwrap();
    let found: Vec<usize> =
        bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(at, _)| at).collect();
    assert!(!found.is_empty(), "the file holds what was written");
    for at in found {
        bytes[at] ^= 0x01;
    }
    std::fs::write(path, bytes).unwrap();
}

async fn start_says(group: &mut Group, id: PeerId) -> String {
    match group.start(id).await {
        Err(Error::Damaged { what }) => what,
        Err(e) => panic!("another error: {e}"),
        Ok(()) => panic!("it started"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_log_vote_or_snapshot_keeps_a_node_from_starting() {
    let mut group = Group::of(1, small_snapshots).await;
    write_many(&group, "filler", 120).await;
    group.write(text("MARKED-IN-LOG")).await;
    let mut status = group.node(1).status();
    tokio::time::timeout(Duration::from_secs(10), status.wait_for(|s| s.purged > 0)).await.unwrap().unwrap();
    group.stop(1).await;
    let home = group.home(1);
    let snapshot = std::fs::read_dir(home.join("snapshots")).unwrap().next().unwrap().unwrap().path();
    let good: Vec<_> = [home.join("log.redb"), home.join("vote"), snapshot.clone(), home.join("identity")]
        .into_iter()
        .map(|p| (std::fs::read(&p).unwrap(), p))
        .collect();
    let mend = || good.iter().for_each(|(bytes, path)| std::fs::write(path, bytes).unwrap());

    flip(&home.join("log.redb"), b"MARKED-IN-LOG");
    let what = start_says(&mut group, 1).await;
    assert!(what.contains("log row") && what.contains("checksum"), "{what}");
    mend();
    flip(&snapshot, b"filler-3");
    let what = start_says(&mut group, 1).await;
    assert!(what.contains("snapshot"), "{what}");
    mend();
    std::fs::remove_file(&snapshot).unwrap();
    let what = start_says(&mut group, 1).await;
    assert!(what.contains("purged beyond"), "{what}");
    mend();
    flip(&home.join("vote"), b"term");
    let what = start_says(&mut group, 1).await;
    assert!(what.contains("vote"), "{what}");
    mend();
    std::fs::remove_file(home.join("vote")).unwrap();
    let what = start_says(&mut group, 1).await;
    assert!(what.contains("vote is missing"), "{what}");
    mend();
    std::fs::rename(&home, group.home(2)).unwrap();
    assert!(matches!(group.start(2).await, Err(Error::WrongId { stored: 1, asked: 2 })));
    std::fs::rename(group.home(2), &home).unwrap();
    group.start(1).await.unwrap();
    group.write(text("whole again")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_from_a_peer_is_refused_and_changes_nothing() {
    let group = Group::of(1, plain).await;
    let node = group.node(1);
    for verb in Verb::ALL {
        for body in [&b""[..], b"{}", &[0xff; 64], &[1; 64]] {
            let refused = node.handle(verb, Bytes::copy_from_slice(body)).await;
            assert!(matches!(refused, Err(Error::Malformed(_))), "{verb:?} {refused:?}");
        }
    }
    let no_body = || futures::stream::empty::<Result<Bytes, std::io::Error>>();
    assert!(matches!(node.handle_snapshot(text("nonsense"), no_body()).await, Err(Error::Malformed(_))));
    let head = r#"{"from":9,"vote":{"leader_id":{"term":9,"voted_for":9},"committed":true},"last_log_id":null}"#;
    assert!(matches!(node.handle_snapshot(text(head), no_body()).await, Err(Error::Malformed(_))));
    assert!(std::fs::read_dir(group.home(1).join("snapshots")).unwrap().next().is_none(), "no leftovers");
    group.write(text("unharmed")).await;
}

/// No election timer runs out during a test.
fn patient(config: &mut Config) {
    config.election_min = Duration::from_secs(60);
    config.election_max = Duration::from_secs(120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_known_to_be_gone_is_replaced_before_any_election_timer_runs_out() {
    let mut group = Group::of(3, patient).await;
    for round in 1..=3u64 {
        let last = group.write(text(round)).await;
        group.agree(last).await;
        let old = group.leader().await;
        let term = group.node(old).status().borrow().term;
        group.stop(old).await;
        // Whoever watches the leader says so for as long as nobody answers in its place.
        let saying = async {
            loop {
                group.ids().iter().for_each(|id| group.node(*id).suspect_leader(old));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let new = tokio::select! {
            new = group.leader() => new,
            () = saying => unreachable!("it goes on"),
        };
        let now = group.node(new).status().borrow().term;
        assert!(new != old && now > term);
        group.start(old).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_only_a_minority_takes_for_gone_stays() {
    let group = Group::of(3, patient).await;
    group.write(text("before")).await;
    let old = group.leader().await;
    let term = group.node(old).status().borrow().term;
    let one = group.ids().into_iter().find(|id| *id != old).unwrap();
    for n in 0..20 {
        group.node(one).suspect_leader(old);
        let last = group.write(text(n)).await;
        group.agree(last).await;
    }
    for id in group.ids() {
        let status = group.node(id).status().borrow().clone();
        assert_eq!((status.term, status.leader.map(|l| l.id)), (term, Some(old)), "seen by {id}");
    }
}

/// Cuts, stops and restarts at random while clients write; runs for `RAFT_TEST_SECONDS` (3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_command_is_lost_and_no_two_nodes_differ_whatever_is_cut_or_restarted() {
    let seconds = std::env::var("RAFT_TEST_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let group = Group::of(3, |c| {
        small_snapshots(c);
        c.append_bytes_max = 2_000;
        c.recent_bytes_max = 1_000;
        c.propose_timeout = Duration::from_secs(2);
    })
    .await;
    group.hub.jitter_us.store(500, Ordering::Relaxed);
    let group = Arc::new(tokio::sync::RwLock::new(group));
    let until = Instant::now() + Duration::from_secs(seconds);
    let writers: Vec<_> = (0..6)
        .map(|w| {
            let group = group.clone();
            tokio::spawn(async move {
                let mut acked = Vec::new();
                for n in 0.. {
                    if Instant::now() > until {
                        break;
                    }
                    let line = text(format!("{w}.{n}"));
                    let node = {
                        let group = group.read().await;
                        let ids = group.ids();
                        group.find(ids[n % ids.len()])
                    };
                    let Some(node) = node else { continue };
                    match node.propose(line.clone()).await {
                        Ok((index, _)) => acked.push((index, line)),
                        Err(_) => tokio::time::sleep(Duration::from_millis(3)).await,
                    }
                }
                acked
            })
        })
        .collect();
    let mut dice = 0x2545_F491_4F6C_DD1Du64;
    while Instant::now() < until {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let victim = (dice >> 8) % 3 + 1;
        let pause = Duration::from_millis(100 + dice / 7 % 900);
        if dice & 1 == 0 {
            group.read().await.isolate(victim);
            tokio::time::sleep(pause).await;
            group.read().await.heal();
        } else {
            group.read().await.stop(victim).await;
            tokio::time::sleep(pause).await;
            group.write().await.start(victim).await.unwrap();
        }
    }
    let mut acked = Vec::new();
    for writer in writers {
        acked.extend(writer.await.unwrap());
    }
    group.read().await.hub.jitter_us.store(0, Ordering::Relaxed);
    let last = group.read().await.write(text("end")).await;
    let lines = group.read().await.agree(last).await;
    let have: std::collections::HashSet<_> = lines.into_iter().collect();
    assert!(acked.len() > 50, "only {} acknowledged", acked.len());
    for line in &acked {
        assert!(have.contains(line), "acknowledged at {} but gone: {:?}", line.0, line.1);
    }
    println!("{} acknowledged, {} in the log", acked.len(), last);
}
