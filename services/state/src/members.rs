//! Who is in the raft group? The state servers that gossip knows, without hands.
//!
//! * First start: when `bootstrap_expect` servers see each other and none has a log, the one with the
//!   lowest name founds the group with all of them. A server with a log never founds one.
//! * Later: the leader adds a state server it sees as a learner and makes it a voter once it has caught
//!   up; a member under the name of a new one (its data was lost) is replaced by it.
//!
//! Level-triggered: each activation looks at gossip and membership and takes at most one step.

use std::collections::BTreeSet;

use fsm::command::Command;
use kit::gossip::Member;
use model::Role;
use raft::Peer;

use crate::server::Server;

/// Tag under which a state server gossips its raft id.
pub const TAG_RAFT_ID: &str = "raft_id";
/// Tag that says it has a log.
pub const TAG_INITIALIZED: &str = "raft_initialized";

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    Found(Vec<Peer>),
    AddLearner(Peer),
    SetVoters(BTreeSet<u64>),
    Remove(u64),
}

/// Decides one step. `status` is this server's view; `seen` the living state servers, this one included.
pub fn decide(status: &raft::Status, me: u64, bootstrap_expect: usize, seen: &[Seen]) -> Step {
    if !status.initialized {
        return found(me, bootstrap_expect, seen);
    }
    if !status.is_leader() {
        return Step::Nothing;
    }
    let member = |id: u64| status.voters.iter().chain(&status.learners).any(|p| p.id == id);
    let newcomer = seen.iter().find(|s| !s.initialized && !member(s.peer.id));
    if let Some(newcomer) = newcomer {
        return Step::AddLearner(newcomer.peer.clone());
    }
    // A learner that has caught up becomes a voter, and takes the place of its former self.
    for learner in &status.learners {
        let matched = status.matched.get(&learner.id).copied().unwrap_or(0);
        let alive = seen.iter().any(|s| s.peer.id == learner.id);
        if alive && matched > 0 && matched + 1_000 >= status.last_log {
            let former = |p: &&Peer| p.name != learner.name || p.id == learner.id;
            let mut voters: BTreeSet<u64> = status.voters.iter().filter(former).map(|p| p.id).collect();
            voters.insert(learner.id);
            return Step::SetVoters(voters);
        }
        let replaced = status.voters.iter().any(|v| v.name == learner.name && seen.iter().any(|s| s.peer.id == v.id));
        if !alive && replaced {
            return Step::Remove(learner.id);
        }
    }
    Step::Nothing
}

fn found(me: u64, bootstrap_expect: usize, seen: &[Seen]) -> Step {
    if bootstrap_expect == 0 || seen.len() < bootstrap_expect || seen.iter().any(|s| s.initialized) {
        return Step::Nothing;
    }
    let mut peers: Vec<Peer> = seen.iter().map(|s| s.peer.clone()).collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers.truncate(bootstrap_expect);
    if peers.first().is_some_and(|first| first.id == me) { Step::Found(peers) } else { Step::Nothing }
}

/// A living state server as gossip shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub peer: Peer,
    pub initialized: bool,
}

impl Seen {
    pub fn from_member(member: &Member) -> Option<Self> {
        let id = member.tags.get(TAG_RAFT_ID)?.parse().ok()?;
        let initialized = member.tags.get(TAG_INITIALIZED).is_some_and(|v| v == "true");
        Some(Self { peer: Peer { id, name: member.name.to_string(), addr: member.api.to_string() }, initialized })
    }
}

/// One activation.
///
/// # Errors
/// What raft says to the step; the next activation looks again.
pub async fn tend(shell: &kit::shell::Shell, server: &Server, bootstrap_expect: usize) -> Result<String, String> {
    let Some(running) = server.get() else { return Ok("raft is not running".to_owned()) };
    let status = running.raft.status().borrow().clone();
    shell.set_tag(TAG_RAFT_ID, status.id.to_string()).await;
    shell.set_tag(TAG_INITIALIZED, status.initialized.to_string()).await;
    let seen: Vec<Seen> = shell.directory.by_role(Role::State).iter().filter_map(Seen::from_member).collect();
    let step = decide(&status, status.id, bootstrap_expect, &seen);
    let raft = &running.raft;
    let done = match &step {
        Step::Nothing => return Ok("in order".to_owned()),
        Step::Found(peers) => raft.initialize(peers.clone()).await,
        Step::AddLearner(peer) => raft.add_learner(peer.clone()).await.map(|_| ()),
        Step::SetVoters(voters) => raft.change_voters(voters.clone()).await.map(|_| ()),
        Step::Remove(id) => raft.remove(*id).await.map(|_| ()),
    };
    match done {
        Ok(()) => {
            tracing::info!(step = ?step, "raft membership changed");
            Ok(format!("{step:?}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The first command of a cluster, from whoever leads first.
pub fn first_command(region: &str, epoch: String) -> Command {
    Command::ClusterInit { region: region.to_owned(), epoch }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64, name: &str) -> Peer {
        Peer { id, name: name.to_owned(), addr: String::new() }
    }

    fn seen(id: u64, name: &str, initialized: bool) -> Seen {
        Seen { peer: peer(id, name), initialized }
    }

    #[test]
    fn the_lowest_name_founds_the_group_once_all_are_there() {
        let blank = raft::Status::default();
        let all = [seen(7, "a", false), seen(3, "b", false), seen(5, "c", false)];
        assert_eq!(decide(&blank, 7, 3, &all[..2]), Step::Nothing);
        assert_eq!(decide(&blank, 3, 3, &all), Step::Nothing);
        assert!(matches!(decide(&blank, 7, 3, &all), Step::Found(peers) if peers.len() == 3));
    }

    #[test]
    fn nobody_founds_a_second_group_beside_a_server_with_a_log() {
        let blank = raft::Status::default();
        let all = [seen(7, "a", false), seen(3, "b", true), seen(5, "c", false)];
        assert_eq!(decide(&blank, 7, 3, &all), Step::Nothing);
    }

    #[test]
    fn a_server_that_lost_its_data_takes_the_place_of_its_former_self() {
        let mut status = raft::Status {
            initialized: true,
            role: raft::Role::Leader,
            voters: vec![peer(1, "a"), peer(2, "b"), peer(3, "c")],
            last_log: 50,
            ..raft::Status::default()
        };
        let all = [seen(1, "a", true), seen(2, "b", true), seen(9, "c", false)];
        assert_eq!(decide(&status, 1, 3, &all), Step::AddLearner(peer(9, "c")));
        status.learners = vec![peer(9, "c")];
        assert_eq!(decide(&status, 1, 3, &all), Step::Nothing, "not before it has caught up");
        status.matched.insert(9, 49);
        assert_eq!(decide(&status, 1, 3, &all), Step::SetVoters(BTreeSet::from([1, 2, 9])));
    }
}
