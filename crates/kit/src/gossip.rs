//! Which processes make up the cluster, and where are they?
//!
//! ```text
//!            UDP, sealed (seal)                      ┌────────────► Directory (ArcSwap, version watch)
//!   peers ◄────────────────────► engine: one task ───┤
//!            HTTP push-pull (sync) owns foca (SWIM)   └────────────► log
//! ```
//!
//! Membership is SWIM (foca): each member probes one other every half second; one that answers
//! neither it nor the three asked to try as well is *suspect*, and *down* two seconds later unless
//! it objects. News ride on the probes. Three additions to plain SWIM:
//!
//! * *Joining* asks an address, not a member: `Hello` to a seed is answered by `Here`, which says
//!   who is there and which incarnation of us it remembers. It is repeated every second while we
//!   are alone, and now and then after that, so that two halves that parted find together again.
//! * *Push-pull* over internal HTTP exchanges whole states, at joining and every quarter of a
//!   minute, because a packet holds only some ten members.
//! * *Farewell*: somebody may say of a member that failed that it will not come back (`farewell`). It is then
//!   `left`, or not shown at all; a higher incarnation of it ends that.
//! * A member is its name, role and region; its addresses may change. A restarted process comes back
//!   with a higher incarnation (its start time) and replaces what it was, on whatever port.
//!
//! Invariants
//! * A packet that is not sealed with a key of the ring has no effect but a counter.
//! * [`Directory`] always holds ourselves. It says what is believed, not what is true: whoever acts
//!   on it still needs a lease, a certificate or an answer.
//! * Nothing waits inside the engine: a packet that cannot be sent at once is dropped, as UDP may.
//!
//! Driven by [`Gossip::start`]. It fails by knowing too little; those who need a role say so on
//! `/health/ready`. Two processes with one name contend for it, which is logged.

mod engine;
mod farewell;
mod join;
mod keys;
mod member;
mod ring;
mod seal;
mod sync;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use client::http::Http;
use client::peers::{PeerAddr, Peers};
use client::tls::Role;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use join::Joined;
pub use keys::{CHANGE as KEYS_PATH, Keys, KeysAsked};
pub use member::{Member, Status, Tags};
pub use ring::{Change, Ring, RingError};
pub use seal::{KeyError, KeyRing, share, widened};
pub use sync::PATH as SYNC_PATH;

use crate::process::{Shutdown, advertised};
use engine::{Command, Engine};

const COMMANDS_MAX: usize = 64;
/// Longest wait for the engine, which never waits itself.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the addresses of a seed's name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Why gossip did not start, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    #[error("cannot bind gossip to {addr}")]
    Bind { addr: SocketAddr, source: io::Error },
    #[error("member is not usable: {0}")]
    Member(&'static str),
    #[error("gossip has ended")]
    Ended,
}

/// How fast things go; the defaults suit 3 to 30 members in one network.
#[derive(Clone, Debug)]
pub struct Timing {
    /// About: members that are well are asked in step with what else a process does.
    pub probe_period: Duration,
    /// For an answer. Then others ask whoever gave none, who is suspect after one and a half times as long again.
    pub probe_rtt: Duration,
    pub suspect: Duration,
    pub spread: Duration,
    /// Between attempts to join while alone.
    pub join: Duration,
    /// Between greetings to a seed once joined.
    pub greet: Duration,
    /// Between announcements to one member, and to one that failed: it may be back.
    pub announce: Duration,
    /// Between exchanges of everything, keys included, with one member.
    pub sync: Duration,
    /// How long a member that is down is remembered.
    pub forget: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_secs(2),
            probe_rtt: Duration::from_millis(400),
            suspect: Duration::from_secs(2),
            spread: Duration::from_millis(200),
            join: Duration::from_secs(1),
            greet: Duration::from_secs(10),
            announce: Duration::from_secs(15),
            sync: Duration::from_secs(30),
            forget: Duration::from_secs(3600),
        }
    }
}

/// Who we are to the others and how to find them.
#[derive(Clone)]
pub struct GossipConfig {
    pub name: String,
    pub role: Role,
    pub region: String,
    pub datacenter: String,
    /// Where our internal listener is reached.
    pub api: SocketAddr,
    /// A few short facts: version, raft id, public address.
    pub tags: Tags,
    pub bind: SocketAddr,
    pub advertise: Option<IpAddr>,
    /// Gossip addresses (`host:port`) of any members. Our own may be among them.
    pub seeds: Vec<String>,
    pub keys: KeyRing,
    pub timing: Timing,
}

/// A running membership. Clones share it; it ends with the process's shutdown, having said so.
#[derive(Clone)]
pub struct Gossip {
    directory: Directory,
    commands: mpsc::Sender<Command>,
    local_addr: SocketAddr,
    advertised: SocketAddr,
    seeds: Arc<[String]>,
    /// Our internal address, and how those of others are called.
    api: SocketAddr,
    http: Http,
    keys: KeyRing,
    tracker: TaskTracker,
    abort: tokio::task::AbortHandle,
}

impl Gossip {
    /// Binds and begins to join. Returns at once: the others appear in the [`Directory`].
    pub async fn start(config: GossipConfig, http: Http, shutdown: Shutdown) -> Result<Self, GossipError> {
        let fail = |source| GossipError::Bind { addr: config.bind, source };
        let socket = UdpSocket::bind(config.bind).await.map_err(fail)?;
        let bound = socket.local_addr().map_err(fail)?;
        let seed = config.seeds.iter().find_map(|s| s.parse().ok());
        let me = Member::new(&config, advertised(bound, config.advertise, seed));
        me.check().map_err(GossipError::Member)?;

        let (advertised, seeds) = (me.gossip, config.seeds.clone().into());
        let (api, calls) = (me.api, http.clone());
        let (directory, publisher) = Directory::new(vec![me.clone()]);
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let keys = config.keys.clone();
        let engine = Engine::new(config, me, socket, publisher, http, commands.downgrade());
        let tracker = TaskTracker::new();
        let task = tracker.spawn(engine.run(receiver, shutdown));
        tracker.close();
        Ok(Self {
            directory,
            commands,
            local_addr: bound,
            advertised,
            seeds,
            api,
            http: calls,
            keys,
            tracker,
            abort: task.abort_handle(),
        })
    }

    pub fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// The bound UDP address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The seeds that are not our own address: those we were told to join. A name that nobody knows now
    /// counts as another's.
    pub async fn others_to_join(&self) -> Vec<String> {
        let mut others = Vec::new();
        for seed in self.seeds.iter() {
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(seed)).await;
            let addresses: Vec<SocketAddr> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
            if addresses.is_empty() || !addresses.iter().all(|addr| self.is_own(*addr)) {
                others.push(seed.clone());
            }
        }
        others
    }

    fn is_own(&self, addr: SocketAddr) -> bool {
        let bound = self.local_addr;
        // Bound to all addresses of this machine: whatever can be bound here is one of them.
        let here = || bound.ip().is_unspecified() && std::net::UdpSocket::bind((addr.ip(), 0)).is_ok();
        addr == self.advertised || addr.port() == bound.port() && (addr.ip() == bound.ip() || here())
    }

    /// Tells everybody new facts about us. Those not named are removed.
    pub async fn set_tags(&self, tags: Tags) -> Result<(), GossipError> {
        member::check_tags(&tags).map_err(GossipError::Member)?;
        self.commands.send(Command::SetTags(tags)).await.map_err(|_| GossipError::Ended)
    }

    /// The keys that seal packets.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The routes for push-pull and keys, to be merged into the internal router.
    pub fn router(&self) -> axum::Router {
        sync::router(self.clone()).merge(keys::router(self.keys.clone()))
    }

    /// Waits until shutdown was requested and the others have been told.
    pub async fn left(&self) {
        self.tracker.wait().await;
    }

    /// Ends without a word, as a crash would; for tests of the others.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// Takes in what another knows and returns what we know.
    async fn exchange(&self, theirs: sync::Known) -> Result<sync::Known, GossipError> {
        let (reply, answer) = oneshot::channel();
        let work = async {
            self.commands.send(Command::Exchange { theirs, reply }).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(ENGINE_TIMEOUT, work).await.ok().flatten().ok_or(GossipError::Ended)
    }
}

/// The members as this process believes them to be. Reading costs no lock.
#[derive(Clone)]
pub struct Directory {
    seen: Arc<ArcSwap<Seen>>,
    version: watch::Receiver<u64>,
    /// Keeps the version channel of a fixed directory open.
    _fixed: Option<Arc<watch::Sender<u64>>>,
}

struct Seen {
    alive: Arc<Vec<Member>>,
    all: Arc<Vec<(Member, Status)>>,
}

/// The engine's end of a [`Directory`].
struct Publisher {
    seen: Arc<ArcSwap<Seen>>,
    version: watch::Sender<u64>,
}

impl Publisher {
    fn publish(&self, mut all: Vec<(Member, Status)>) {
        all.sort_by_key(|(member, _)| member.key());
        if *self.seen.load().all == all {
            return;
        }
        self.seen.store(Arc::new(Seen::of(all)));
        self.version.send_modify(|v| *v += 1);
    }
}

impl Seen {
    fn of(all: Vec<(Member, Status)>) -> Self {
        let alive = all.iter().filter(|(_, status)| status.is_there()).map(|(m, _)| m.clone()).collect();
        Self { alive: Arc::new(alive), all: Arc::new(all) }
    }
}

impl Directory {
    fn new(members: Vec<Member>) -> (Self, Publisher) {
        let seen = Seen::of(members.into_iter().map(|m| (m, Status::Alive)).collect());
        let seen = Arc::new(ArcSwap::from_pointee(seen));
        let (version, receiver) = watch::channel(0);
        (Self { seen: seen.clone(), version: receiver, _fixed: None }, Publisher { seen, version })
    }

    /// A directory that never changes, for tests and single processes.
    pub fn fixed(members: Vec<Member>) -> Self {
        let (mut directory, publisher) = Self::new(members);
        directory._fixed = Some(Arc::new(publisher.version));
        directory
    }

    /// Living members, ourselves included, by role and name.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.seen.load().alive.clone()
    }

    /// All members, those that failed or left included, for people to look at.
    pub fn all(&self) -> Arc<Vec<(Member, Status)>> {
        self.seen.load().all.clone()
    }

    /// Living members of a role.
    pub fn by_role(&self, role: Role) -> Vec<Member> {
        self.seen.load().alive.iter().filter(|m| m.role == role).cloned().collect()
    }

    /// The living member of that name.
    pub fn find(&self, name: &str) -> Option<Member> {
        self.seen.load().alive.iter().find(|m| &*m.name == name).cloned()
    }

    /// Grows with each change.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// Waits until the living members satisfy `wanted`; `false` if gossip ended before.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&[Member]) -> bool) -> bool {
        let mut version = self.version.clone();
        loop {
            version.borrow_and_update();
            if wanted(&self.members()) {
                return true;
            }
            if version.changed().await.is_err() {
                return false;
            }
        }
    }
}

impl Peers for Directory {
    fn peers(&self, role: Role) -> Vec<PeerAddr> {
        let address = |m: Member| PeerAddr { name: m.name.to_string(), addr: m.api };
        self.by_role(role).into_iter().map(address).collect()
    }
}

/// A task that ends with its owner.
type Helper = AbortOnDropHandle<()>;
