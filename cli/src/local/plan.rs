//! Which processes make up a cluster on one machine, and how each is told what to do.

use std::path::{Path, PathBuf};

use model::Role;

/// Ports of one cluster. Everything else is ephemeral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Public API.
    pub http: u16,
    /// The agents' door: the gateway's mutual-TLS listener.
    pub rpc: u16,
    /// Gossip of the first state server; the others' follow in steps of ten.
    pub gossip: u16,
}

impl Ports {
    /// 4646, 4647, 4648, or the like from another first port.
    pub fn from_http(http: u16) -> Self {
        Self { http, rpc: http.saturating_add(1), gossip: http.saturating_add(2) }
    }

    fn gossip_of(&self, state: u16) -> u16 {
        self.gossip.saturating_add(state * 10)
    }
}

/// How many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub states: u16,
    pub schedulers: u16,
    pub agents: u16,
}

impl Size {
    /// What `scripts/up` starts.
    pub const CLUSTER: Self = Self { states: 3, schedulers: 2, agents: 2 };
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name in the file system, and in the certificate unless it is an agent.
    pub name: String,
    pub role: Role,
    /// Where it keeps its things.
    pub home: PathBuf,
    /// Words behind `steppe serve <role>`.
    pub words: Vec<String>,
    /// Log filter.
    pub log_level: String,
}

/// openraft tells each step at `info`.
const LOG_LEVEL: &str = "info,openraft=warn";

/// Where one process keeps its things.
pub fn home(data: &Path, name: &str) -> PathBuf {
    data.join(name)
}

/// First and last dynamic port of the nth of `count` agents: disjoint, for they share the host.
fn dynamic_ports(n: u16, count: u16) -> (u16, u16) {
    let share = 12_000 / count.max(1);
    let first = 20_000 + n * share;
    (first, first + share - 1)
}

/// All processes, in the order in which they are started.
pub fn processes(data: &Path, ports: Ports, size: Size) -> Vec<Spec> {
    let seeds: Vec<String> = (0..size.states).map(|n| format!("127.0.0.1:{}", ports.gossip_of(n))).collect();
    let common = |name: &str| {
        let home = home(data, name);
        vec![
            "--data-dir".to_owned(),
            home.join("data").display().to_string(),
            "--identity-dir".to_owned(),
            home.join("identity").display().to_string(),
        ]
    };
    let member = |role: Role, name: String, more: &[String]| {
        let mut words = common(&name);
        words.extend(["--join".to_owned(), seeds.join(",")]);
        words.extend_from_slice(more);
        Spec { home: home(data, &name), name, role, words, log_level: LOG_LEVEL.to_owned() }
    };
    let mut all = Vec::new();
    for n in 0..size.states {
        let more = [
            format!("--gossip-bind=127.0.0.1:{}", ports.gossip_of(n)),
            format!("--bootstrap-expect={}", size.states),
            format!("--ca-dir={}", data.join("ca").display()),
        ];
        all.push(member(Role::State, format!("state-{}", n + 1), &more));
    }
    all.push(member(Role::Broker, "broker-1".to_owned(), &[]));
    all.push(member(Role::Applier, "applier-1".to_owned(), &[]));
    all.push(member(Role::Controller, "controller-1".to_owned(), &[]));
    for n in 0..size.schedulers {
        all.push(member(Role::Scheduler, format!("scheduler-{}", n + 1), &[]));
    }
    let doors = [format!("--http-bind=127.0.0.1:{}", ports.http), format!("--bind=127.0.0.1:{}", ports.rpc)];
    all.push(member(Role::Gateway, "gateway-1".to_owned(), &doors));
    for n in 0..size.agents {
        let name = format!("agent-{}", n + 1);
        let (first, last) = dynamic_ports(n, size.agents);
        let mut words = common(&name);
        words.extend([
            format!("--gateway=127.0.0.1:{}", ports.rpc),
            format!("--node-name={name}"),
            format!("--min-dynamic-port={first}"),
            format!("--max-dynamic-port={last}"),
            "--raw-exec".to_owned(),
            "--mock-driver".to_owned(),
            "--stop-tasks-on-exit".to_owned(),
        ]);
        all.push(Spec { home: home(data, &name), name, role: Role::Agent, words, log_level: LOG_LEVEL.to_owned() });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_has_eleven_processes_and_agents_do_not_share_ports() {
        let all = processes(Path::new("/data"), Ports::from_http(4646), Size::CLUSTER);
        assert_eq!(all.len(), 11);
        assert_eq!((dynamic_ports(0, 2), dynamic_ports(1, 2)), ((20_000, 25_999), (26_000, 31_999)));
        let names: std::collections::BTreeSet<_> = all.iter().map(|s| &s.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
