//! State servers as a group, in one process: real listeners, real gossip, real files.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use client::replica::{NoObserver, Replica};
use client::state::{StateClient, new_uuid};
use fsm::command::{Command, LeaseName};
use fsm::{Reply, Table};
use kit::pki::Authority;
use kit::process::{Settings, Shutdown};
use kit::shell::Shell;
use model::namespace::Namespace;
use model::{Index, NamespaceName, Role};

const WITHIN: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

/// A cluster of state servers and somebody who uses it.
struct Group {
    dir: tempfile::TempDir,
    seed: SocketAddr,
    servers: Vec<Option<(Shutdown, tokio::task::JoinHandle<()>)>>,
}

fn free_udp() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Group {
    fn start(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path().join("ca"), "global").unwrap();
        for n in 0..count {
            let name = format!("state-{n}");
            authority
                .write_identity(dir.path().join(&name).join("identity"), Role::State, &name, "global", DAY)
                .unwrap();
        }
        for role in [Role::Gateway, Role::Broker] {
            let name = role.as_str();
            authority.write_identity(dir.path().join(name).join("identity"), role, name, "global", DAY).unwrap();
        }
        let mut group = Self { dir, seed: free_udp(), servers: Vec::new() };
        for n in 0..count {
            group.servers.push(None);
            group.run(n, count);
        }
        group
    }

    fn settings(&self, name: &str) -> Settings {
        let home: &Path = &self.dir.path().join(name);
        Settings {
            data_dir: home.join("data"),
            identity_dir: home.join("identity"),
            join: vec![self.seed.to_string()],
            ..Settings::default()
        }
    }

    fn run(&mut self, n: usize, expect: usize) {
        let mut settings = self.settings(&format!("state-{n}"));
        if n == 0 {
            settings.gossip_bind = self.seed;
        }
        let ca_dir = Some(self.dir.path().join("ca"));
        let config = state::Config { settings, bootstrap_expect: expect, ca_dir, snapshot_after: 100 };
        let shutdown = Shutdown::new();
        let wish = shutdown.clone();
        let task = tokio::spawn(async move { state::run(config, wish).await.unwrap() });
        self.servers[n] = Some((shutdown, task));
    }

    async fn stop(&mut self, n: usize) {
        let (shutdown, task) = self.servers[n].take().unwrap();
        shutdown.request();
        task.await.unwrap();
    }

    async fn user(&self, role: Role) -> (Shell, StateClient) {
        let shell = Shell::start(self.settings(role.as_str()), role, Shutdown::new()).await.unwrap();
        let state = StateClient::new(shell.http.clone(), shell.peers(), role);
        (shell, state)
    }
}

fn namespace(name: &str) -> Command {
    let row = Namespace { name: NamespaceName::from(name).to_string(), ..Namespace::default() };
    Command::NamespaceUpsert { namespaces: vec![row] }
}

async fn propose(state: &StateClient, command: Command) -> Index {
    state.propose(command, None, WITHIN).await.unwrap().0
}

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
