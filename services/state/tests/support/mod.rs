//! State servers in one process: real listeners, real gossip, real files.
#![allow(clippy::unwrap_used, dead_code)]

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use client::state::StateClient;
use fsm::command::Command;
use kit::pki::Authority;
use kit::process::{Settings, Shutdown};
use kit::shell::Shell;
use model::namespace::Namespace;
use model::{Index, NamespaceName, Role};

pub const WITHIN: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

/// A cluster of state servers and somebody who uses it.
pub struct Group {
    pub dir: tempfile::TempDir,
    pub seed: SocketAddr,
    servers: Vec<Option<(Shutdown, tokio::task::JoinHandle<()>)>>,
}

/// Below the ephemeral range, where nobody takes it by chance before it is bound.
pub fn free_udp() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1_000).unwrap();
    let next = || SocketAddr::from(([127, 0, 0, 1], 7_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 1_000));
    std::iter::repeat_with(next).find(|addr| UdpSocket::bind(addr).is_ok()).unwrap()
}

impl Group {
    /// Founded by this many.
    pub fn start(count: usize) -> Self {
        let mut group = Self::of(count);
        (0..count).for_each(|n| group.run(n, count));
        group
    }

    /// Room for this many, none of which runs.
    pub fn of(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path().join("ca"), "global").unwrap();
        let identify = |role: Role, name: &str| {
            authority.write_identity(dir.path().join(name).join("identity"), role, name, "global", DAY).unwrap();
        };
        (0..count).for_each(|n| identify(Role::State, &format!("state-{n}")));
        for role in [Role::Gateway, Role::Broker] {
            identify(role, role.as_str());
        }
        let servers = (0..count).map(|_| None).collect();
        Self { dir, seed: free_udp(), servers }
    }

    pub fn home(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("state-{n}"))
    }

    pub fn settings(&self, name: &str) -> Settings {
        let home: &Path = &self.dir.path().join(name);
        Settings {
            data_dir: home.join("data"),
            identity_dir: home.join("identity"),
            join: vec![self.seed.to_string()],
            ..Settings::default()
        }
    }

    /// The first one is at the address that all join.
    pub fn run(&mut self, n: usize, expect: usize) {
        let mut settings = self.settings(&format!("state-{n}"));
        if n == 0 {
            settings.gossip_bind = self.seed;
        }
        self.run_with(n, expect, settings);
    }

    pub fn run_with(&mut self, n: usize, expect: usize, settings: Settings) {
        let ca_dir = Some(self.dir.path().join("ca"));
        let config = state::Config {
            settings,
            bootstrap_expect: expect,
            ca_dir,
            introduction_ttl: model::Nanos::from_secs(300),
            introduction_ttl_max: model::Nanos::from_secs(1_800),
            snapshot_after: 100,
            root_keys: Default::default(),
            tuning: Default::default(),
        };
        let shutdown = Shutdown::new();
        let wish = shutdown.clone();
        let task = tokio::spawn(async move { state::run(config, wish).await.unwrap() });
        self.servers[n] = Some((shutdown, task));
    }

    pub async fn stop(&mut self, n: usize) {
        let (shutdown, task) = self.servers[n].take().unwrap();
        shutdown.request();
        task.await.unwrap();
    }

    pub async fn user(&self, role: Role) -> (Shell, StateClient) {
        let shell = Shell::start(self.settings(role.as_str()), role, Shutdown::new()).await.unwrap();
        let state = StateClient::new(shell.http.clone(), shell.peers(), role);
        (shell, state)
    }
}

pub fn namespace(name: &str) -> Command {
    let row = Namespace { name: NamespaceName::from(name).to_string(), ..Namespace::default() };
    Command::NamespaceUpsert { namespaces: vec![row] }
}

pub async fn propose(state: &StateClient, command: Command) -> Index {
    state.propose(command, None, WITHIN).await.unwrap().0
}
