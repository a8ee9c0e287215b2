//! Membership, with real sockets and real certificates, several members in one process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use client::http::Http;
use client::peers::Peers;
use client::tls::{Identity, Role};
use kit::gossip::{Directory, Gossip, GossipConfig, KeyRing, Member, Status, Tags, Timing};
use kit::pki::{Authority, GOSSIP_KEY_FILE};
use kit::process::Shutdown;
use kit::server::{Limits, Listener, Tls, serve};
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

struct Cluster {
    dir: tempfile::TempDir,
    ca: Authority,
}

struct Process {
    gossip: Gossip,
    shutdown: Shutdown,
}

impl Process {
    fn directory(&self) -> Directory {
        self.gossip.directory()
    }

    fn addr(&self) -> String {
        self.gossip.local_addr().to_string()
    }

    /// Ends it as a crash would.
    fn kill(self) {
        self.gossip.abort();
        self.shutdown.request();
    }
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path().join("ca"), "global").unwrap();
        Self { dir, ca }
    }

    async fn start(&self, role: Role, name: &str, seeds: &[String]) -> Process {
        let dir = self.dir.path().join(name);
        self.ca.write_identity(&dir, role, name, "global", DAY).unwrap();
        let keys = KeyRing::load(&dir.join(GOSSIP_KEY_FILE)).unwrap();
        self.start_with(role, name, seeds, keys, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_with(&self, role: Role, name: &str, seeds: &[String], keys: KeyRing, bind: SocketAddr) -> Process {
        let identity = Identity::load(self.dir.path().join(name)).unwrap();
        let shutdown = Shutdown::new();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = GossipConfig {
            name: name.to_owned(),
            role,
            region: "global".to_owned(),
            datacenter: "dc1".to_owned(),
            api: listener.local_addr().unwrap(),
            tags: Tags::from([("version".to_owned(), "0.1.0".to_owned())]),
            bind,
            advertise: None,
            seeds: seeds.to_vec(),
            keys,
            timing: Timing { announce: Duration::from_secs(2), sync: Duration::from_secs(2), ..Timing::default() },
        };
        let http = Http::new(identity.clone());
        let gossip = Gossip::start(config, http, shutdown.clone()).await.unwrap();
        tokio::spawn(serve(listener, Tls::Mutual(identity), gossip.router(), Limits::internal(), shutdown.clone()));
        Process { gossip, shutdown }
    }
}

async fn see(process: &Process, what: &str, wanted: impl FnMut(&[Member]) -> bool) {
    let directory = process.directory();
    if tokio::time::timeout(PATIENCE, directory.wait_until(wanted)).await != Ok(true) {
        panic!("never seen: {what}; members are {:#?}", directory.all());
    }
}

/// Until `survivors` notice a crash by their probes, at the latest. Each asks its members in an order that is drawn anew for
/// each round: first in one and last in the next. Mostly one of them asks within two periods, but once in some hundred
/// times all ask late.
fn slowest(survivors: u32) -> Duration {
    let Timing { probe_period, probe_rtt, suspect, .. } = Timing::default();
    probe_period * (2 * survivors - 1) + probe_rtt * 5 / 2 + suspect + Duration::from_secs(1)
}

#[tokio::test]
async fn five_members_find_each_other_through_one_of_them() {
    let cluster = Cluster::new();
    let start = Instant::now();
    let first = cluster.start(Role::State, "state-1", &[]).await;
    let mut all = vec![first];
    // Each knows only the one before it.
    for (role, name) in [
        (Role::State, "state-2"),
        (Role::Broker, "broker-1"),
        (Role::Gateway, "gateway-1"),
        (Role::Scheduler, "scheduler-1"),
    ] {
        let seed = all.last().unwrap().addr();
        all.push(cluster.start(role, name, &[seed]).await);
    }
    for process in &all {
        see(process, "all five", |members| members.len() == 5).await;
    }
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());

    let directory = all[4].directory();
    let states = directory.peers(Role::State);
    assert_eq!(states.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["state-1", "state-2"]);
    let broker = directory.find("broker-1").unwrap();
    assert_eq!((broker.tag("version"), broker.role), (Some("0.1.0"), Role::Broker));

    // A change of facts reaches all, under the same name.
    let tags = Tags::from([("version".to_owned(), "0.2.0".to_owned())]);
    all[0].gossip.set_tags(tags).await.unwrap();
    for process in &all {
        see(process, "the new version", |members| {
            members.len() == 5 && members.iter().any(|m| &*m.name == "state-1" && m.tag("version") == Some("0.2.0"))
        })
        .await;
    }

    // A crash is noticed, by silence; leaving is told, at once.
    let start = Instant::now();
    all.remove(2).kill();
    see(&all[0], "four after a crash", |members| members.len() == 4).await;
    let took = start.elapsed();
    assert!(took < slowest(4), "crash noticed after {took:?}");
    assert!(all[0].directory().all().iter().any(|(m, s)| &*m.name == "broker-1" && *s == Status::Failed));
    let start = Instant::now();
    let leaver = all.remove(2);
    leaver.shutdown.request();
    leaver.gossip.left().await;
    for process in &all {
        see(process, "three after leaving", |members| members.len() == 3).await;
    }
    assert!(start.elapsed() < Duration::from_secs(2), "leaving noticed after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_restarted_member_is_seen_at_its_new_address_under_its_old_name() {
    let cluster = Cluster::new();
    let a = cluster.start(Role::State, "a", &[]).await;
    let b = cluster.start(Role::State, "b", &[a.addr()]).await;
    let c = cluster.start(Role::Broker, "c", &[a.addr()]).await;
    for process in [&a, &b, &c] {
        see(process, "three", |members| members.len() == 3).await;
    }
    let old = a.directory().find("b").unwrap();
    b.kill();
    // Again at once, before anybody noticed.
    let b = cluster.start(Role::State, "b", &[c.addr()]).await;
    let new = b.directory().find("b").unwrap();
    assert_ne!((old.gossip, old.api), (new.gossip, new.api));
    for process in [&a, &b, &c] {
        see(process, "b at its new place", |members| {
            members.len() == 3 && members.iter().any(|m| m.gossip == new.gossip && m.api == new.api)
        })
        .await;
    }
    // And once more on the same port, after it was noticed.
    let bind = b.gossip.local_addr();
    b.kill();
    see(&a, "b failed", |members| members.len() == 2).await;
    let keys = KeyRing::load(&cluster.dir.path().join("b").join(GOSSIP_KEY_FILE)).unwrap();
    let b = cluster.start_with(Role::State, "b", &[a.addr()], keys, bind).await;
    for process in [&a, &b, &c] {
        see(process, "b again", |members| members.len() == 3).await;
    }
}

#[tokio::test]
async fn the_first_two_may_start_in_any_order_and_a_lost_seed_comes_back() {
    let cluster = Cluster::new();
    // The seed's port, free at the moment.
    let seed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let a = cluster.start(Role::Broker, "a", &["no-such-host.invalid:1".to_owned(), seed.to_string()]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let dir = cluster.dir.path().join("seed");
    cluster.ca.write_identity(&dir, Role::State, "seed", "global", DAY).unwrap();
    let keys = KeyRing::load(&dir.join(GOSSIP_KEY_FILE)).unwrap();
    let b = cluster.start_with(Role::State, "seed", &[seed.to_string()], keys.clone(), seed).await;
    for process in [&a, &b] {
        see(process, "both", |members| members.len() == 2).await;
    }
    b.kill();
    see(&a, "alone", |members| members.len() == 1).await;
    let b = cluster.start_with(Role::State, "seed", &[seed.to_string()], keys, seed).await;
    for process in [&a, &b] {
        see(process, "both again", |members| members.len() == 2).await;
    }
}

#[tokio::test]
async fn who_does_not_have_the_key_is_not_heard() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let a = cluster.start(Role::State, "a", &[]).await;
    // Right certificates, wrong gossip key.
    let dir = cluster.dir.path().join("b");
    cluster.ca.write_identity(&dir, Role::State, "b", "global", DAY).unwrap();
    let keys = KeyRing::load(&other.ca.dir().join(GOSSIP_KEY_FILE)).unwrap();
    let b = cluster.start_with(Role::State, "b", &[a.addr()], keys, "127.0.0.1:0".parse().unwrap()).await;
    // Noise and half packets.
    let noise = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [0, 1, 28, 29, 45, 1400, 60_000] {
        noise.send_to(&vec![1; length], a.gossip.local_addr()).await.unwrap();
    }
    // One that does have the key is heard meanwhile, so the others had their chance.
    let c = cluster.start(Role::State, "c", &[a.addr()]).await;
    see(&a, "c", |members| members.iter().any(|m| &*m.name == "c")).await;
    see(&c, "a", |members| members.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(a.directory().members().len(), 2);
    assert_eq!(b.directory().members().len(), 1);
}

#[tokio::test]
async fn agents_and_strangers_take_no_part_in_push_pull() {
    let cluster = Cluster::new();
    let a = cluster.start(Role::State, "a", &[]).await;
    let api = a.directory().find("a").unwrap().api;
    let dir = cluster.dir.path().join("agent");
    cluster.ca.write_identity(&dir, Role::Agent, "n1", "global", DAY).unwrap();
    assert!(!dir.join(GOSSIP_KEY_FILE).exists());
    let http = Http::new(Identity::load(&dir).unwrap());
    let body = serde_json::json!({ "members": [] });
    let error = http
        .post_json::<_, serde_json::Value>((api, Role::State), kit::gossip::SYNC_PATH, &body, PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(error.status().unwrap().as_u16(), 403);
}

#[tokio::test]
async fn a_member_that_nobody_could_reach_does_not_start() {
    let cluster = Cluster::new();
    let dir = cluster.dir.path().join("a");
    cluster.ca.write_identity(&dir, Role::State, "a", "global", DAY).unwrap();
    let config = GossipConfig {
        name: "a".to_owned(),
        role: Role::State,
        region: "global".to_owned(),
        datacenter: "dc1".to_owned(),
        api: "0.0.0.0:80".parse().unwrap(),
        tags: Tags::new(),
        bind: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        seeds: Vec::new(),
        keys: KeyRing::load(&dir.join(GOSSIP_KEY_FILE)).unwrap(),
        timing: Timing::default(),
    };
    let http = Http::new(Identity::load(&dir).unwrap());
    assert!(Gossip::start(config.clone(), http.clone(), Shutdown::new()).await.is_err());
    let tags = Tags::from([("k".to_owned(), "x".repeat(300))]);
    let config = GossipConfig { api: "127.0.0.1:80".parse().unwrap(), tags, ..config };
    assert!(Gossip::start(config, http, Shutdown::new()).await.is_err());
}

#[tokio::test]
async fn two_clusters_join_by_hand_and_a_farewell_reaches_all() {
    let cluster = Cluster::new();
    let a = cluster.start(Role::State, "state-1", &[]).await;
    let b = cluster.start(Role::State, "state-2", &[]).await;
    let c = cluster.start(Role::Gateway, "gateway-2", &[b.addr()]).await;
    let done = c.gossip.join(&[a.addr(), "127.0.0.1:1".to_owned(), "no.such.name.invalid:1".to_owned()]).await;
    assert_eq!((done.joined.as_slice(), done.errors.len()), ([a.addr()].as_slice(), 2));
    assert!(done.errors[0].contains("nobody answers there"), "{:?}", done.errors);
    for process in [&a, &b, &c] {
        see(process, "all three", |members| members.len() == 3).await;
    }
    // Said of one that lives, it has no effect; of one that failed, all are told, and who comes later, too.
    assert_eq!(a.gossip.force_leave("state-1", false).await.unwrap(), 1);
    assert_eq!(a.gossip.force_leave("nobody", false).await.unwrap(), 0);
    b.kill();
    see(&a, "two are left", |members| members.len() == 2).await;
    assert_eq!(c.gossip.force_leave("state-2.global", false).await.unwrap(), 1);
    let status = |process: &Process| {
        process.directory().all().iter().find(|(m, _)| &*m.name == "state-2").map(|(_, status)| *status)
    };
    until(|| [&a, &c].iter().all(|p| status(p) == Some(Status::Left))).await;
    let d = cluster.start(Role::Broker, "broker-1", &[a.addr()]).await;
    until(|| status(&d) == Some(Status::Left)).await;
    assert_eq!(d.gossip.force_leave("state-2", true).await.unwrap(), 1);
    until(|| [&a, &c, &d].iter().all(|p| status(p).is_none())).await;
    until(|| [&a, &c, &d].iter().all(|p| p.directory().members().len() == 3)).await;
}

async fn until(is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
