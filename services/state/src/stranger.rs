//! Are this server's data of another cluster than the state servers it finds?
//!
//! Certificates and the gossip key keep other clusters out; they do not help when one cluster was founded
//! twice, or a data directory was carried over. Two histories under one roof would be merged by whoever
//! follows now this server, now that one. So one side answers nobody but raft: the side that is not in
//! contact with others of its own cluster and is the smaller one, or as small and the later one among
//! those that were told to join. It says why. Servers that failed count as long as gossip remembers them:
//! a restart of the one side is no leave for the other to answer.
//!
//! Level-triggered and pure; driven by [`crate::members::Members::tend`]. What raft itself sends names
//! the member it is for (`routes::raft_rpc`), so logs of two clusters never touch.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::members::Seen;

/// A lone server that was told to join looks this long for others before it answers.
pub const LOOK: Duration = Duration::from_secs(3);

/// It may yet find those of its own.
pub const LOOKS: &str = "looks for the state servers it was told to join";

/// How this server stands.
pub struct Standing<'a> {
    /// Cluster of its data; empty when it has none.
    pub cluster: String,
    /// When it started; 0 when it was not told to join others.
    pub since: u64,
    pub status: &'a raft::Status,
    /// It hears a leader that a quorum of more than itself follows.
    pub in_contact: bool,
    pub up: Duration,
}

/// Why this server must not answer now, if it must not.
pub fn refusal(me: &Standing<'_>, seen: &[Seen]) -> Option<String> {
    if me.cluster.is_empty() || me.in_contact {
        return None;
    }
    let others = || seen.iter().filter(|s| s.peer.id != me.status.id);
    if me.since > 0 && me.status.voters.len() <= 1 && me.up < LOOK && !others().any(|s| s.alive) {
        return Some(LOOKS.to_owned());
    }
    let is_member = |id: u64| me.status.voters.iter().chain(&me.status.learners).any(|p| p.id == id);
    let (mut ours, mut theirs) = (1usize, BTreeMap::<&str, (usize, u64, Vec<&str>)>::new());
    for other in others().filter(|s| !s.cluster.is_empty()) {
        if other.cluster == me.cluster || is_member(other.peer.id) {
            ours += 1;
        } else {
            let group = theirs.entry(&other.cluster).or_insert((0, u64::MAX, Vec::new()));
            group.0 += 1;
            group.1 = group.1.min(other.since);
            group.2.push(&other.peer.name);
        }
    }
    let stronger = |(count, since, _): &(usize, u64, Vec<&str>)| *count > ours || *count == ours && *since < me.since;
    let (cluster, (_, _, names)) = theirs.into_iter().find(|(_, group)| stronger(group))?;
    Some(format!(
        "this server's data are of cluster {}, but {} here are of cluster {cluster}: start it with an empty data \
         directory to join them, or tell it to join its own",
        me.cluster,
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use raft::Peer;

    use super::*;

    fn seen(id: u64, cluster: &str, since: u64) -> Seen {
        let peer = Peer { id, name: format!("s{id}"), addr: String::new() };
        Seen { peer, initialized: true, cluster: cluster.to_owned(), since, alive: true, left: false, asks: false }
    }

    fn alone(id: u64) -> raft::Status {
        let voters = vec![Peer { id, ..Peer::default() }];
        raft::Status { id, initialized: true, voters, ..raft::Status::default() }
    }

    fn standing<'a>(status: &'a raft::Status, cluster: &str, since: u64) -> Standing<'a> {
        Standing { cluster: cluster.to_owned(), since, status, in_contact: false, up: LOOK }
    }

    #[test]
    fn of_two_clusters_exactly_one_answers() {
        let (one, two) = (alone(1), alone(2));
        let all = [seen(1, "A", 0), seen(2, "B", 70)];
        assert_eq!(refusal(&standing(&one, "A", 0), &all), None, "it was not told to join anybody");
        let why = refusal(&standing(&two, "B", 70), &all).unwrap();
        assert!(why.contains("are of cluster B, but s1 here are of cluster A"), "{why}");
        let later = [seen(1, "A", 60), seen(2, "B", 70)];
        assert_eq!(refusal(&standing(&one, "A", 60), &later), None, "both were told: the first one stays");
        assert!(refusal(&standing(&two, "B", 70), &later).is_some());
        let more = [seen(1, "A", 0), seen(2, "B", 70), seen(3, "B", 80)];
        assert!(refusal(&standing(&one, "A", 0), &more).is_some(), "and the larger one in any case");
        assert_eq!(refusal(&standing(&two, "B", 70), &more), None);
    }

    #[test]
    fn a_member_of_a_living_group_is_never_silenced_by_strangers() {
        let status = alone(1);
        let all = [seen(1, "A", 9), seen(2, "B", 0), seen(3, "B", 0)];
        let me = Standing { in_contact: true, ..standing(&status, "A", 9) };
        assert_eq!(refusal(&me, &all), None);
    }

    #[test]
    fn members_of_ones_own_group_are_no_strangers_whatever_they_say() {
        let mut status = alone(1);
        status.voters.push(Peer { id: 2, ..Peer::default() });
        assert_eq!(refusal(&standing(&status, "A", 9), &[seen(1, "A", 9), seen(2, "B", 0)]), None);
    }

    #[test]
    fn a_lone_server_that_was_told_to_join_looks_round_before_it_answers() {
        let status = alone(1);
        let me = Standing { up: Duration::ZERO, ..standing(&status, "A", 9) };
        assert!(refusal(&me, &[seen(1, "A", 9)]).is_some());
        assert_eq!(refusal(&me, &[seen(1, "A", 9), seen(2, "A", 5)]), None, "somebody is there");
        let founder = Standing { up: Duration::ZERO, ..standing(&status, "A", 0) };
        assert_eq!(refusal(&founder, &[seen(1, "A", 0)]), None);
    }
}
