//! Who is in the raft group? The state servers that gossip knows, without hands.
//!
//! * First start: when `bootstrap_expect` servers see each other and none has a log, the one with the
//!   lowest name founds the group with the first of them, once each of these has said that it has no log and
//!   expects the same founder. Nobody founds one who has a log, who knows of a server with a log, or who
//!   was told to join others and expects no more than itself, or whose damaged data were set aside: it waits to be
//!   added, and says for what.
//! * Later: the leader adds a state server it sees as a learner and makes it a voter once it has caught
//!   up; a member under the name of a new one (its data was lost) is replaced by it.
//! * A server whose data are of another cluster than the servers it finds is [`crate::stranger`]'s matter.
//!
//! Level-triggered: each activation looks at gossip and membership and takes at most one step. Gossip is
//! belief: what founds a group rests on the answers of those it is founded with. Two groups could share a
//! server only if that changed its mind about the founder within one round of questions.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use api::state::RaftStatus;
use client::clock::{boot_time, unix_nanos};
use client::http::Target;
use fsm::command::{Command, Founding};
use kit::gossip::{Member, Status};
use kit::process::ready::Condition;
use kit::shell::Shell;
use model::Role;
use raft::Peer;

use crate::server::{self, Running, Server};
use crate::stranger::{self, Standing};

/// Tag under which a state server gossips its raft id.
pub const TAG_RAFT_ID: &str = "raft_id";
/// Tag with how many servers found the cluster; named as clients know it.
pub const TAG_EXPECT: &str = "expect";
/// Tag that says it has a log.
pub const TAG_INITIALIZED: &str = "raft_initialized";
/// Tag with the cluster its data are of.
pub const TAG_CLUSTER: &str = "cluster";
/// Tag of one that wants to be taken in: [`Server::asks`].
pub const TAG_ASKS: &str = "raft_asks";
/// Tag with when it started, unix milliseconds; 0 for one that was not told to join others.
pub const TAG_SINCE: &str = "since";

/// For the answer of one that the group is to be founded with.
const ASK: Duration = Duration::from_millis(500);
/// Others may start a little later: only then are they said not to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the lookup of a name.
const LOOKUP: Duration = Duration::from_secs(1);

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// There is something to wait for.
    Wait(String),
    Found(Vec<Peer>),
    AddLearner(Peer),
    SetVoters(BTreeSet<u64>),
    Remove(u64),
}

/// Decides one step. `status` is this server's view; `told` those it was told to join, itself aside;
/// `seen` the state servers that gossip remembers, this one included.
pub fn decide(status: &raft::Status, bootstrap_expect: usize, told: &[String], seen: &[Seen]) -> Step {
    if !status.initialized {
        return match founders(bootstrap_expect, told, seen) {
            Ok(peers) if peers[0].id == status.id => Step::Found(peers),
            Ok(peers) => Step::Wait(format!("waits for {} to found the cluster", peers[0].name)),
            Err(why) => Step::Wait(why),
        };
    }
    if !status.is_leader() {
        return Step::Nothing;
    }
    let member = |id: u64| status.voters.iter().chain(&status.learners).any(|p| p.id == id);
    let alive = |id: u64| seen.iter().any(|s| s.alive && s.peer.id == id);
    let newcomer = seen.iter().find(|s| s.alive && !s.initialized && !member(s.peer.id));
    if let Some(newcomer) = newcomer {
        return Step::AddLearner(newcomer.peer.clone());
    }
    // A learner that has caught up becomes a voter, and takes the place of its former self.
    for learner in &status.learners {
        let matched = status.matched.get(&learner.id).copied().unwrap_or(0);
        let alive_now = alive(learner.id);
        if alive_now && matched > 0 && matched + 1_000 >= status.last_log {
            let former = |p: &&Peer| p.name != learner.name || p.id == learner.id;
            let mut voters: BTreeSet<u64> = status.voters.iter().filter(former).map(|p| p.id).collect();
            voters.insert(learner.id);
            return Step::SetVoters(voters);
        }
        let replaced = status.voters.iter().any(|v| v.name == learner.name && alive(v.id));
        if !alive_now && replaced {
            return Step::Remove(learner.id);
        }
    }
    Step::Nothing
}

/// With whom a server without a log would found a group, the founder first; or what it waits for.
fn founders(bootstrap_expect: usize, told: &[String], seen: &[Seen]) -> Result<Vec<Peer>, String> {
    let with_log: Vec<&str> = seen.iter().filter(|s| s.initialized).map(|s| s.peer.name.as_str()).collect();
    if !with_log.is_empty() {
        return Err(format!("waits to be added by the cluster of {}", with_log.join(", ")));
    }
    if bootstrap_expect == 0 {
        return Err("waits to be added by a cluster: with --bootstrap-expect=0 it founds none".to_owned());
    }
    if bootstrap_expect == 1 && !told.is_empty() {
        let told = told.join(", ");
        return Err(format!("waits to be added by a cluster at {told}: told to join, it founds none alone"));
    }
    let mut peers: Vec<Peer> = seen.iter().filter(|s| s.alive).map(|s| s.peer.clone()).collect();
    if peers.len() < bootstrap_expect {
        return Err(format!("waits for {bootstrap_expect} state servers to found a cluster, sees {}", peers.len()));
    }
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers.truncate(bootstrap_expect);
    Ok(peers)
}

/// Of those it was told to join, each with what its name stands for, the ones where nobody is.
fn silent(told: &[(&str, Vec<SocketAddr>)], there: &[SocketAddr]) -> String {
    let is_silent = |found: &[SocketAddr]| !found.iter().any(|addr| there.contains(addr));
    let silent: Vec<&str> = told.iter().filter(|(_, found)| is_silent(found)).map(|(name, _)| *name).collect();
    silent.join(", ")
}

/// A state server as gossip shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub peer: Peer,
    pub initialized: bool,
    /// Empty when it has no data yet.
    pub cluster: String,
    pub since: u64,
    /// One that failed is remembered for a while.
    pub alive: bool,
    /// Somebody said that it will not come back.
    pub left: bool,
    /// See [`TAG_ASKS`].
    pub asks: bool,
}

impl Seen {
    pub fn from_member(member: &Member, status: Status) -> Option<Self> {
        let id = member.tag(TAG_RAFT_ID)?.parse().ok()?;
        let initialized = member.tag(TAG_INITIALIZED)? == "true";
        Some(Self {
            peer: Peer { id, name: member.name.to_string(), addr: member.api.to_string() },
            initialized,
            cluster: member.tag(TAG_CLUSTER).unwrap_or_default().to_owned(),
            since: member.tag(TAG_SINCE).and_then(|v| v.parse().ok()).unwrap_or(0),
            alive: status.is_there(),
            left: status == Status::Left,
            asks: member.tag(TAG_ASKS) == Some("true"),
        })
    }
}

/// The state servers that gossip remembers.
pub fn seen(shell: &Shell) -> Vec<Seen> {
    let all = shell.directory.all();
    let servers = all.iter().filter(|(member, _)| member.role == Role::State);
    servers.filter_map(|(member, status)| Seen::from_member(member, *status)).collect()
}

/// Looks after the membership, as seen from one server.
pub struct Members {
    shell: Shell,
    server: Server,
    bootstrap_expect: usize,
    /// Unix milliseconds.
    started: u64,
    /// The same on the clock that is never set.
    born: Duration,
    /// Those it was told to join; asked for again while there are any, for a name may come to be known.
    told: Option<Vec<String>>,
    /// Those of them that the log has named as not answering.
    silent: String,
    ready: Condition,
}

impl Members {
    pub fn new(shell: Shell, server: Server, bootstrap_expect: usize) -> Self {
        let ready = shell.readiness.condition("member", "starting");
        let started = unix_nanos().max(0).unsigned_abs() / 1_000_000;
        Self { shell, server, bootstrap_expect, started, born: boot_time(), told: None, silent: String::new(), ready }
    }

    /// One activation.
    ///
    /// # Errors
    /// What raft says to the step; the next activation looks again.
    pub async fn tend(&mut self) -> Result<String, String> {
        let Some(running) = self.server.get() else { return Ok("raft is not running".to_owned()) };
        let status = running.raft.status().borrow().clone();
        if self.told.as_ref().is_none_or(|told| !told.is_empty() && !status.initialized) {
            self.told = Some(self.shell.gossip.others_to_join().await);
        }
        let told = self.told.clone().unwrap_or_default();
        let since = if told.is_empty() { 0 } else { self.started };
        let cluster = running.machine.state().cluster().epoch.clone();
        let facts = [
            (TAG_RAFT_ID, status.id.to_string()),
            (TAG_EXPECT, self.bootstrap_expect.to_string()),
            (TAG_INITIALIZED, status.initialized.to_string()),
            (TAG_CLUSTER, cluster.clone()),
            (TAG_SINCE, since.to_string()),
            (TAG_ASKS, self.server.asks(&status).to_string()),
        ];
        self.shell.set_tags(facts).await;
        let mut seen = seen(&self.shell);
        let standing = Standing {
            cluster,
            since,
            status: &status,
            in_contact: status.voters.len() > 1 && self.server.contact().is_heard(),
            up: boot_time().saturating_sub(self.born),
        };
        if let Some(why) = stranger::refusal(&standing, &seen) {
            self.server.hold(Some(&why));
            // It may yet find those of its own.
            return Ok(if why == stranger::LOOKS { self.say(why) } else { self.warn(why) });
        }
        self.server.hold(None);
        if let Some(why) = bereft(&status, &seen, &self.shell.settings.data_dir.join("raft")) {
            self.server.expect_founder(0);
            return Ok(self.warn(why));
        }
        let founder = (!status.initialized).then(|| founders(self.bootstrap_expect, &told, &seen).ok()).flatten();
        self.server.expect_founder(founder.map_or(0, |peers| peers[0].id));
        let step = loop {
            match decide(&status, self.bootstrap_expect, &told, &seen) {
                // Gossip may be of the time before it got its log: one that was removed since is no newcomer.
                Step::AddLearner(peer) if word_of(&self.shell, &peer).await.is_none_or(|said| said.initialized) => {
                    seen.retain(|s| s.peer.id != peer.id);
                }
                step => break step,
            }
        };
        match step {
            Step::Nothing => {
                self.ready.met();
                self.server.wait_for("");
                Ok("in order".to_owned())
            }
            Step::Wait(why) => {
                self.warn_of_the_silent(&told).await;
                Ok(self.say(why))
            }
            step => self.take(step, &running).await,
        }
    }

    /// Says once which of those it was told to join are not there, when it has waited for some time.
    async fn warn_of_the_silent(&mut self, told: &[String]) {
        if boot_time().saturating_sub(self.born) < PATIENCE {
            return;
        }
        let mut known = Vec::new();
        for address in told {
            let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(address)).await;
            known.push((address.as_str(), found.ok().and_then(Result::ok).into_iter().flatten().collect()));
        }
        let there: Vec<SocketAddr> = self.shell.directory.by_role(Role::State).iter().map(|m| m.gossip).collect();
        let silent = silent(&known, &there);
        if silent != self.silent && !silent.is_empty() {
            tracing::warn!(addresses = silent, "state servers that this one was told to join do not answer");
        }
        self.silent = silent;
    }

    /// Says once what is waited for.
    fn say(&self, why: String) -> String {
        if self.is_news(&why) {
            tracing::info!(why, "this server is not part of a cluster");
        }
        why
    }

    /// Says once what somebody has to mend.
    fn warn(&self, why: String) -> String {
        if self.is_news(&why) {
            tracing::warn!(why, "this server is not part of a cluster");
        }
        why
    }

    fn is_news(&self, why: &str) -> bool {
        let news = *self.server.waiting() != why;
        if news {
            self.ready.unmet(why.to_owned());
            self.server.wait_for(why);
        }
        news
    }

    async fn take(&mut self, step: Step, running: &Running) -> Result<String, String> {
        if let Step::Found(peers) = &step
            && let Err(why) = self.agreed(peers).await
        {
            return Ok(self.say(why));
        }
        let raft = &running.raft;
        let done = match &step {
            Step::Nothing | Step::Wait(_) => Ok(()),
            Step::Found(peers) => raft.initialize(peers.clone()).await,
            Step::AddLearner(peer) => raft.add_learner(peer.clone()).await.map(|_| ()),
            Step::SetVoters(voters) => raft.change_voters(voters.clone()).await.map(|_| ()),
            Step::Remove(id) => raft.remove(*id).await.map(|_| ()),
        };
        done.map_err(|error| error.to_string())?;
        tracing::info!(step = ?step, "raft membership changed");
        Ok(format!("{step:?}"))
    }

    /// Every other one says itself that it has no log and expects the same founder.
    async fn agreed(&self, peers: &[Peer]) -> Result<(), String> {
        let me = &peers[0];
        for peer in &peers[1..] {
            let said = word_of(&self.shell, peer).await;
            let said = said.ok_or_else(|| format!("waits for an answer of {}", peer.name))?;
            if said.initialized || said.founder != me.id {
                return Err(format!("waits for {} to expect {} as the cluster's founder", peer.name, me.name));
            }
        }
        Ok(())
    }
}

/// Why a server that lost its data founds nothing: an empty cluster in place of the one that was would end all its
/// tasks. Where others have the data, it waits for them like any newcomer.
fn bereft(status: &raft::Status, seen: &[Seen], dir: &Path) -> Option<String> {
    if status.initialized || seen.iter().any(|s| s.initialized && s.peer.id != status.id) {
        return None;
    }
    let aside = server::damaged(dir)?.display().to_string();
    Some(format!(
        "its data was damaged and is set aside in {aside}: it founds no cluster in place of the one that was. It waits \
         for a server that has the data; to begin with an empty state and restore a snapshot into it, move {aside} away"
    ))
}

/// What a server says of itself now; gossip tells what it said a while ago.
pub async fn word_of(shell: &Shell, peer: &Peer) -> Option<RaftStatus> {
    let target = Target::new(peer.addr.parse().ok()?, Role::State).named(peer.name.as_str());
    let said: RaftStatus = shell.http.get_json(target, api::state::RAFT_STATUS, ASK).await.ok()?;
    (said.id == peer.id).then_some(said)
}

/// The first command of a cluster, from whoever leads first.
pub fn first_command(region: &str, epoch: String, with: Founding) -> Command {
    let with = (with != Founding::default()).then(|| Box::new(with));
    Command::ClusterInit { region: region.to_owned(), epoch, with }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64, name: &str) -> Peer {
        Peer { id, name: name.to_owned(), addr: String::new() }
    }

    fn seen(id: u64, name: &str, initialized: bool) -> Seen {
        Seen {
            peer: peer(id, name),
            initialized,
            cluster: String::new(),
            since: 0,
            alive: true,
            left: false,
            asks: false,
        }
    }

    fn blank(id: u64) -> raft::Status {
        raft::Status { id, ..raft::Status::default() }
    }

    fn waits(step: &Step, text: &str) -> bool {
        matches!(step, Step::Wait(why) if why.contains(text))
    }

    #[test]
    fn the_lowest_name_founds_the_group_once_all_are_there() {
        let all = [seen(7, "a", false), seen(3, "b", false), seen(5, "c", false)];
        let told = ["elsewhere:4648".to_owned()];
        assert!(waits(&decide(&blank(7), 3, &told, &all[..2]), "waits for 3 state servers"));
        assert!(waits(&decide(&blank(3), 3, &told, &all), "waits for a to found"));
        assert!(matches!(decide(&blank(7), 3, &told, &all), Step::Found(peers) if peers.len() == 3));
    }

    #[test]
    fn nobody_founds_a_second_group_beside_a_server_with_a_log_even_one_that_failed() {
        let mut all = [seen(7, "a", false), seen(3, "b", true), seen(5, "c", false)];
        assert!(waits(&decide(&blank(7), 3, &[], &all), "the cluster of b"));
        all[1].alive = false;
        for expect in 0..4 {
            assert!(waits(&decide(&blank(7), expect, &[], &all), "the cluster of b"));
        }
        let me = [seen(7, "a", false)];
        assert!(matches!(decide(&blank(7), 1, &[], &me), Step::Found(_)), "alone it may");
    }

    #[test]
    fn an_address_where_no_state_server_is_gets_named() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let told =
            [("a:4648", vec![addr("10.0.0.1:4648")]), ("b:4648", vec![addr("10.0.0.2:4648")]), ("c:4648", vec![])];
        assert_eq!(silent(&told, &[addr("10.0.0.1:4648")]), "b:4648, c:4648");
        assert_eq!(silent(&told, &[addr("10.0.0.1:7000"), addr("10.0.0.2:4648")]), "a:4648, c:4648");
        assert_eq!(silent(&told[..1], &[addr("10.0.0.1:4648")]), "");
    }

    #[test]
    fn a_server_that_was_told_to_join_founds_no_group_alone() {
        let me = [seen(7, "a", false)];
        let told = ["10.0.0.1:4648".to_owned()];
        assert!(waits(&decide(&blank(7), 1, &told, &me), "at 10.0.0.1:4648"));
        let both = [seen(7, "a", false), seen(3, "b", false)];
        assert!(waits(&decide(&blank(7), 1, &told, &both), "at 10.0.0.1:4648"), "nor beside another such");
        assert!(waits(&decide(&blank(7), 0, &[], &me), "--bootstrap-expect=0"));
    }

    #[test]
    fn a_server_that_lost_its_data_takes_the_place_of_its_former_self() {
        let mut status = raft::Status {
            id: 1,
            initialized: true,
            role: raft::Role::Leader,
            voters: vec![peer(1, "a"), peer(2, "b"), peer(3, "c")],
            last_log: 50,
            ..raft::Status::default()
        };
        let mut all = vec![seen(1, "a", true), seen(2, "b", true), seen(9, "c", false)];
        assert_eq!(decide(&status, 3, &[], &all), Step::AddLearner(peer(9, "c")));
        let mut gone = seen(8, "d", false);
        gone.alive = false;
        all[2] = gone;
        assert_eq!(decide(&status, 3, &[], &all), Step::Nothing, "one that failed is not added");
        all[2] = seen(9, "c", false);
        status.learners = vec![peer(9, "c")];
        assert_eq!(decide(&status, 3, &[], &all), Step::Nothing, "not before it has caught up");
        status.matched.insert(9, 49);
        assert_eq!(decide(&status, 3, &[], &all), Step::SetVoters(BTreeSet::from([1, 2, 9])));
    }

    #[test]
    fn a_server_whose_data_was_set_aside_founds_nothing_unless_it_was_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let (raft, aside) = (dir.path().join("raft"), dir.path().join("raft.damaged-0"));
        let none = raft::Status { id: 1, ..raft::Status::default() };
        let alone = [seen(1, "one", false)];
        assert_eq!(bereft(&none, &alone, &raft), None);
        std::fs::create_dir(&aside).unwrap();
        assert!(bereft(&none, &alone, &raft).unwrap().contains("raft.damaged-0"));
        let others = [seen(1, "one", false), seen(2, "two", true)];
        assert_eq!(bereft(&none, &others, &raft), None, "they take it in");
        let status = raft::Status { initialized: true, ..none.clone() };
        assert_eq!(bereft(&status, &alone, &raft), None, "it has data");
        std::fs::rename(&aside, dir.path().join("kept")).unwrap();
        assert_eq!(bereft(&none, &alone, &raft), None);
    }
}
