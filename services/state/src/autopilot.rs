//! Is the group of state servers well, and which of them are to go or to come back?
//!
//! ```text
//!   leader, every 2 s: gossip, raft, each server's own word ─► judge ─► Health (for operators)
//!                                                          └─► decide ─► at most one step
//! ```
//!
//! * A voter that gossip has called dead for [`DEAD`] leaves the group, if a majority of the voters lives and
//!   at least `MinQuorum` stay. So the next failure finds a group that can afford it.
//! * One that somebody said farewell to (`server force-leave`) leaves at once, on the same condition of a majority.
//! * A server that left so and comes back asks to be taken in again (it has a log and hears no leader); if its
//!   data are of this cluster and it still asks when asked, it is taken in as a learner, and votes once it has
//!   caught up. One that was removed by hand does not ask before
//!   it is started again.
//!
//! Level-triggered; driven by [`Autopilot::tend`], on the leader only. What it decides rests on gossip; that a
//! removal is safe rests on raft, which commits it by a majority of the voters it has now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::public::{OperatorHealthReply, ServerHealth};
use api::state::RaftStatus;
use client::clock::{boot_time, unix_nanos};
use futures::future::join_all;
use kit::shell::{Shell, TAG_VERSION};
use model::autopilot::AutopilotConfiguration;
use model::{Index, Nanos, Role, Term, Timestamp};

use crate::members::{Seen, word_of};
use crate::server::{Running, Server};

/// Gossip has called it dead for this long.
pub const DEAD: Duration = Duration::from_secs(10);
/// A server that seems to hear its leader too seldom is asked once more: one late heartbeat is none.
const ASK_AGAIN: Duration = Duration::from_millis(120);

/// What is to be done about the membership.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    TakeIn(raft::Peer),
    Remove(raft::Peer),
}

/// Decides one step on the leader. `cluster` is ours; `silent` says for how long each member that is not
/// alive has not been.
pub fn decide(
    status: &raft::Status,
    cluster: &str,
    config: &AutopilotConfiguration,
    seen: &[Seen],
    silent: &BTreeMap<u64, Duration>,
) -> Step {
    let members = || status.voters.iter().chain(&status.learners);
    let ours = |s: &Seen| s.cluster == cluster || s.cluster.is_empty();
    let back = |s: &&Seen| s.alive && s.asks && s.initialized && ours(s) && !members().any(|p| p.id == s.peer.id);
    if let Some(back) = seen.iter().find(back) {
        return Step::TakeIn(back.peer.clone());
    }
    let left = |peer: &raft::Peer| seen.iter().any(|s| s.peer.id == peer.id && s.left);
    let old = |peer: &raft::Peer| silent.get(&peer.id).is_some_and(|since| *since >= DEAD);
    let dead =
        |peer: &&raft::Peer| silent.contains_key(&peer.id) && left(peer) || config.cleanup_dead_servers && old(peer);
    if let Some(learner) = status.learners.iter().find(dead) {
        return Step::Remove(learner.clone());
    }
    let Some(voter) = status.voters.iter().find(dead) else { return Step::Nothing };
    let all = status.voters.len();
    let alive = status.voters.iter().filter(|p| !silent.contains_key(&p.id)).count();
    let stays = left(voter) || u64::try_from(all - 1).unwrap_or(u64::MAX) >= config.min_quorum;
    if alive > all / 2 && stays { Step::Remove(voter.clone()) } else { Step::Nothing }
}

fn knows_cluster(seen: &[Seen], id: u64) -> bool {
    seen.iter().any(|s| s.peer.id == id && !s.cluster.is_empty())
}

/// Whether a server whose state names no cluster, for nobody told it what of its log is committed, was of
/// this group: its log names one of the present members. Raft ids are random and made once, so no two groups
/// share one.
fn shares_members(said: &RaftStatus, status: &raft::Status) -> bool {
    let members = || status.voters.iter().chain(&status.learners);
    said.peers.iter().any(|known| known.id != said.id && members().any(|p| p.id == known.id))
}

/// What one server says of itself, and gossip of it.
#[derive(Clone, Debug, Default)]
pub struct Word {
    pub peer: raft::Peer,
    pub voter: bool,
    pub alive: bool,
    pub version: String,
    pub said: Option<RaftStatus>,
}

/// Judges the group. `since` remembers since when each server has been healthy, or not.
pub fn judge(
    leader: &raft::Status,
    config: &AutopilotConfiguration,
    region: &str,
    words: &[Word],
    since: &mut BTreeMap<u64, (bool, Timestamp)>,
    now: Timestamp,
) -> OperatorHealthReply {
    let mut servers = Vec::new();
    for word in words {
        let leads = word.peer.id == leader.id;
        let said = word.said.clone().unwrap_or_default();
        let contact = Nanos(i64::try_from(said.last_contact_ms).unwrap_or(i64::MAX / 2_000_000) * 1_000_000);
        let contact = if leads { Nanos(0) } else { contact };
        let healthy = word.alive
            && word.said.is_some()
            && said.healthy
            && contact <= config.last_contact_threshold
            && said.term.get() == leader.term
            && said.last_log.get().saturating_add(config.max_trailing_logs) >= leader.last_log;
        let stable = since.entry(word.peer.id).or_insert((healthy, now));
        if stable.0 != healthy {
            *stable = (healthy, now);
        }
        servers.push(ServerHealth {
            id: word.peer.id.to_string(),
            name: format!("{}.{region}", word.peer.name),
            address: word.peer.addr.clone(),
            serf_status: if word.alive { "alive" } else { "failed" }.to_owned(),
            version: word.version.clone(),
            leader: leads,
            last_contact: contact.to_string(),
            last_term: if word.said.is_some() { said.term } else { Term(0) },
            last_index: if word.said.is_some() { said.last_log } else { Index(0) },
            healthy,
            voter: word.voter,
            stable_since: stable.1,
        });
    }
    since.retain(|id, _| words.iter().any(|word| word.peer.id == *id));
    let voters: Vec<String> = servers.iter().filter(|s| s.voter).map(|s| s.id.clone()).collect();
    let well = servers.iter().filter(|s| s.voter && s.healthy).count();
    let quorum = voters.len() / 2 + 1;
    OperatorHealthReply {
        healthy: servers.iter().all(|s| s.healthy),
        failure_tolerance: u64::try_from(well.saturating_sub(quorum)).unwrap_or(0),
        leader: leader.id.to_string(),
        servers,
        voters,
    }
}

/// Looks after the group, as seen from one server.
pub struct Autopilot {
    shell: Shell,
    server: Server,
    since: BTreeMap<u64, (bool, Timestamp)>,
    /// When each member was first found not to be alive.
    gone: BTreeMap<u64, Duration>,
    /// A restore on its way in: its id, how many pieces it had, and since when it has had no more.
    staged: Option<(String, usize, Duration)>,
    /// When it last looked at all of them.
    looked: Option<Duration>,
}

/// How often the leader looks at all servers.
pub const LOOK: Duration = Duration::from_secs(2);

/// A restore that does not go on for this long is given up.
const RESTORE_SILENCE: Duration = Duration::from_secs(60);

impl Autopilot {
    pub fn new(shell: Shell, server: Server) -> Self {
        Self { shell, server, since: BTreeMap::new(), gone: BTreeMap::new(), staged: None, looked: None }
    }

    /// One activation.
    ///
    /// # Errors
    /// What raft says to the step; the next activation looks again.
    pub async fn tend(&mut self) -> Result<String, String> {
        let Some(running) = self.server.get() else { return Ok("raft is not running".to_owned()) };
        let status = running.raft.status().borrow().clone();
        if !status.is_leader() || !crate::contact::hears_leader(&running) {
            self.since.clear();
            self.gone.clear();
            self.staged = None;
            self.looked = None;
            self.server.set_health(None);
            return Ok("not leading".to_owned());
        }
        if self.looked.is_some_and(|at| boot_time().saturating_sub(at) < LOOK) {
            return Ok("leading".to_owned());
        }
        self.looked = Some(boot_time());
        let state = running.machine.state();
        let config = state.autopilot();
        let mut seen = crate::members::seen(&self.shell);
        let words = self.words(&status, &seen, config.last_contact_threshold).await;
        let now = Timestamp(unix_nanos());
        let health = judge(&status, &config, &self.shell.settings.region, &words, &mut self.since, now);
        let text = format!("{} servers, healthy: {}", health.servers.len(), health.healthy);
        self.server.set_health(Some(Arc::new(health)));
        self.give_up_restore(&running).await?;
        let silent = self.silent(&words);
        let step = loop {
            let step = decide(&status, &state.cluster().epoch, &config, &seen, &silent);
            let Step::TakeIn(peer) = &step else { break step };
            // Gossip may be of the time before it was removed by hand.
            let said = word_of(&self.shell, peer).await;
            if said.is_some_and(|said| said.asks && (knows_cluster(&seen, peer.id) || shares_members(&said, &status))) {
                break step;
            }
            let passed_over = peer.id;
            seen.retain(|s| s.peer.id != passed_over);
        };
        match &step {
            Step::Nothing => return Ok(text),
            Step::TakeIn(peer) => running.raft.add_learner(peer.clone()).await,
            Step::Remove(peer) => running.raft.remove(peer.id).await,
        }
        .map_err(|error| error.to_string())?;
        tracing::info!(step = ?step, "autopilot changed the raft membership");
        Ok(format!("{step:?}"))
    }

    fn silent(&mut self, words: &[Word]) -> BTreeMap<u64, Duration> {
        let now = boot_time();
        self.gone.retain(|id, _| words.iter().any(|w| w.peer.id == *id && !w.alive));
        words
            .iter()
            .filter(|w| !w.alive)
            .map(|w| (w.peer.id, now.saturating_sub(*self.gone.entry(w.peer.id).or_insert(now))))
            .collect()
    }

    /// What each member says, those that are not alive included.
    async fn words(&self, status: &raft::Status, seen: &[Seen], threshold: Nanos) -> Vec<Word> {
        let members = status.voters.iter().map(|p| (p, true)).chain(status.learners.iter().map(|p| (p, false)));
        let all = self.shell.directory.all();
        let one = |(peer, voter): (&raft::Peer, bool)| {
            let known = seen.iter().find(|s| s.peer.id == peer.id);
            let member = all.iter().find(|(m, _)| m.role == Role::State && *m.name == *peer.name);
            let version = member.and_then(|(m, _)| m.tag(TAG_VERSION)).unwrap_or_default().to_owned();
            let mut word = Word { peer: peer.clone(), voter, version, ..Word::default() };
            if let Some(known) = known {
                word.alive = known.alive;
                word.peer.addr.clone_from(&known.peer.addr);
            }
            let own = peer.id == status.id;
            async move {
                if word.alive {
                    word.said = word_of(&self.shell, &word.peer).await;
                }
                let late = |said: &RaftStatus| i128::from(said.last_contact_ms) * 1_000_000 > i128::from(threshold.0);
                if word.said.as_ref().is_some_and(late) && !own {
                    tokio::time::sleep(ASK_AGAIN).await;
                    word.said = word_of(&self.shell, &word.peer).await;
                }
                word
            }
        };
        join_all(members.map(one)).await
    }

    /// Pieces whose sender is gone take memory on every server.
    async fn give_up_restore(&mut self, running: &Running) -> Result<(), String> {
        let state = running.machine.state();
        let Some((id, pieces)) = state.staged() else {
            self.staged = None;
            return Ok(());
        };
        let now = boot_time();
        match &self.staged {
            Some((known, had, since)) if known == id && *had == pieces => {
                if now.saturating_sub(*since) < RESTORE_SILENCE {
                    return Ok(());
                }
            }
            _ => {
                self.staged = Some((id.to_owned(), pieces, now));
                return Ok(());
            }
        }
        tracing::warn!(id, pieces, "a restore did not go on, it is given up");
        let abort = fsm::RestoreStep::Abort { id: id.to_owned() };
        crate::leader::propose(running, fsm::Command::Restore(abort)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64) -> raft::Peer {
        raft::Peer { id, name: format!("s{id}"), addr: String::new() }
    }

    fn leader(voters: &[u64]) -> raft::Status {
        raft::Status {
            id: 1,
            role: raft::Role::Leader,
            initialized: true,
            term: 4,
            last_log: 1_000,
            voters: voters.iter().map(|id| peer(*id)).collect(),
            ..raft::Status::default()
        }
    }

    fn silent(ids: &[(u64, u64)]) -> BTreeMap<u64, Duration> {
        ids.iter().map(|(id, seconds)| (*id, Duration::from_secs(*seconds))).collect()
    }

    #[test]
    fn a_server_that_knows_of_no_cluster_is_ours_when_its_log_names_one_of_us() {
        let said = |peers: &[u64]| RaftStatus {
            id: 3,
            peers: peers.iter().map(|id| api::state::RaftPeer { id: *id, ..Default::default() }).collect(),
            ..RaftStatus::default()
        };
        assert!(shares_members(&said(&[1, 3, 9]), &leader(&[1, 2])));
        assert!(!shares_members(&said(&[3, 8, 9]), &leader(&[1, 2])), "strangers all of them");
        assert!(!shares_members(&said(&[3]), &leader(&[1, 2, 3])), "itself is no witness");
    }

    /// leader-005
    #[test]
    fn a_dead_server_leaves_the_group_while_a_majority_lives_and_enough_stay() {
        let config = AutopilotConfiguration::default();
        let step = |voters: &[u64], dead: &[(u64, u64)], config: &AutopilotConfiguration| {
            decide(&leader(voters), "c", config, &[], &silent(dead))
        };
        assert_eq!(step(&[1, 2, 3], &[(3, 11)], &config), Step::Remove(peer(3)));
        assert_eq!(step(&[1, 2, 3], &[(3, 9)], &config), Step::Nothing, "not at once");
        assert_eq!(step(&[1, 2, 3], &[(2, 11), (3, 11)], &config), Step::Nothing, "no majority");
        assert_eq!(step(&[1, 2], &[(2, 99)], &config), Step::Nothing, "no majority of two");
        assert_eq!(step(&[1, 2, 3, 4, 5], &[(4, 2), (5, 11)], &config), Step::Remove(peer(5)));
        let kept = AutopilotConfiguration { min_quorum: 3, ..config.clone() };
        assert_eq!(step(&[1, 2, 3], &[(3, 99)], &kept), Step::Nothing);
        let off = AutopilotConfiguration { cleanup_dead_servers: false, ..config };
        assert_eq!(step(&[1, 2, 3], &[(3, 99)], &off), Step::Nothing);
    }

    /// leader-006
    #[test]
    fn a_server_that_was_said_farewell_to_leaves_at_once_whatever_is_cleaned_up() {
        let off = AutopilotConfiguration { cleanup_dead_servers: false, min_quorum: 3, ..Default::default() };
        let gone = |id: u64, alive: bool| Seen {
            peer: peer(id),
            initialized: true,
            cluster: "c".into(),
            since: 0,
            alive,
            left: !alive,
            asks: false,
        };
        let step = |seen: &[Seen], dead: &[(u64, u64)]| decide(&leader(&[1, 2, 3]), "c", &off, seen, &silent(dead));
        assert_eq!(step(&[gone(3, false)], &[(3, 0)]), Step::Remove(peer(3)));
        assert_eq!(step(&[gone(3, true)], &[]), Step::Nothing, "it lives");
        assert_eq!(step(&[gone(2, false), gone(3, false)], &[(2, 0), (3, 0)]), Step::Nothing, "no majority");
    }

    #[test]
    fn a_server_that_left_dead_and_asks_is_taken_in_again_if_it_is_one_of_ours() {
        let back = |edit: fn(&mut Seen)| {
            let mut seen = Seen {
                peer: peer(3),
                initialized: true,
                cluster: "c".into(),
                since: 0,
                alive: true,
                left: false,
                asks: true,
            };
            edit(&mut seen);
            decide(&leader(&[1, 2]), "c", &AutopilotConfiguration::default(), &[seen], &BTreeMap::new())
        };
        assert_eq!(back(|_| ()), Step::TakeIn(peer(3)));
        assert_eq!(back(|s| s.asks = false), Step::Nothing);
        assert_eq!(back(|s| s.alive = false), Step::Nothing);
        assert_eq!(back(|s| s.cluster = "other".into()), Step::Nothing);
        assert_eq!(back(|s| s.cluster.clear()), Step::TakeIn(peer(3)), "whether it is ours, its log says");
        assert_eq!(back(|s| s.peer.id = 2), Step::Nothing, "it is a member");
    }

    #[test]
    fn a_server_is_healthy_when_it_lives_hears_its_leader_and_keeps_up() {
        let word = |id: u64, contact_ms: u64, last_log: u64, alive: bool| Word {
            peer: peer(id),
            voter: true,
            alive,
            version: "1".into(),
            said: Some(RaftStatus {
                term: Term(4),
                last_log: Index(last_log),
                last_contact_ms: contact_ms,
                healthy: true,
                ..RaftStatus::default()
            }),
        };
        let mut since = BTreeMap::new();
        let mut judged = |words: &[Word], now: i64| {
            let config = AutopilotConfiguration::default();
            judge(&leader(&[1, 2, 3]), &config, "global", words, &mut since, Timestamp(now))
        };
        let all = judged(&[word(1, 900, 1_000, true), word(2, 50, 990, true), word(3, 0, 800, true)], 10);
        assert!(all.healthy && all.failure_tolerance == 1);
        assert_eq!(all.servers[1].last_contact, "50ms");
        let bad = judged(&[word(1, 0, 1_000, true), word(2, 201, 1_000, true), word(3, 0, 1_000, true)], 20);
        assert!(!bad.healthy && !bad.servers[1].healthy && bad.failure_tolerance == 0);
        assert_eq!((bad.servers[0].stable_since, bad.servers[1].stable_since), (Timestamp(10), Timestamp(20)));
        assert!(!judged(&[word(2, 0, 700, true)], 30).healthy, "it trails");
        assert!(!judged(&[word(2, 0, 1_000, false)], 30).healthy, "it is dead");
    }
}
