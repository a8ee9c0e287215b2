//! A state service made of the real state machine and nothing else: no raft, no disk. It can be told to
//! fail in every way a caller must tell apart, to forget its feed's window, and to be several servers in
//! front of one state.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::state::{Proposed, RaftContact, ReadIndex, RenewLease};
use api::{Code, ErrorBody};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use client::http::Http;
use client::peers::{PeerAddr, Peers};
use client::state::StateClient;
use client::tls::Identity;
use fsm::{Command, Envelope, FeedLine, Reply, State, Table};
use kit::guard::Refused;
use kit::pki::Authority;
use kit::process::Shutdown;
use kit::server::{Limits, Listener, Tls, serve};
use model::namespace::Namespace;
use model::{Index, Role};
use serde::Deserialize;
use tokio::sync::watch;

pub const WITHIN: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// How the next command fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NoLeader,
    /// It is applied, and the answer says that this is not known.
    Unknown,
    /// It is applied, and the handler breaks.
    Internal,
    Forbidden,
}

/// The truth, and how it is served.
pub struct Core {
    pub state: State,
    lines: VecDeque<Bytes>,
    /// Index before the first line that is kept.
    floor: Index,
    pub faults: VecDeque<Fault>,
    /// Answers instead of the faults when they are used up.
    pub always: Option<Fault>,
    /// When each renewal came in.
    pub renewals: Vec<Duration>,
    /// How long ago a quorum was with the leader, as it says.
    pub quorum_age_ms: u64,
    /// A snapshot to give instead of the present one.
    pub old_snapshot: Option<State>,
    /// Who leads, as all servers say.
    pub leader: Option<SocketAddr>,
    /// Whether the leader has places for who follows it for that.
    pub takes_led: bool,
    /// This server is alive, and its feed stands still.
    pub stuck: Option<SocketAddr>,
}

pub struct Shared {
    core: Mutex<Core>,
    last: watch::Sender<Index>,
    /// Grows to end all feeds.
    cut: watch::Sender<u64>,
    /// The next line carries a wrong hash.
    pub lie: AtomicBool,
    pub proposals: AtomicUsize,
    pub reads: AtomicUsize,
    pub snapshots: AtomicUsize,
    /// Feeds that the leader serves for being the leader, at this moment.
    pub led: watch::Sender<usize>,
    /// Read indexes are answered while this is true.
    pub reading: watch::Sender<bool>,
}

pub struct Fake {
    dir: tempfile::TempDir,
    ca: Authority,
    pub shared: Arc<Shared>,
    servers: Vec<(SocketAddr, Shutdown)>,
    peers: Arc<Mutex<Vec<PeerAddr>>>,
    pub stop: tokio_util::sync::CancellationToken,
}

struct Known(Arc<Mutex<Vec<PeerAddr>>>);

impl Peers for Known {
    fn peers(&self, role: Role) -> Vec<PeerAddr> {
        if role == Role::State { self.0.lock().unwrap().clone() } else { Vec::new() }
    }
}

impl Fake {
    /// A cluster that was founded, served by this many servers.
    pub fn start(servers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path().join("ca"), "global").unwrap();
        let core = Core {
            state: State::default(),
            lines: VecDeque::new(),
            floor: Index(0),
            faults: VecDeque::new(),
            always: None,
            renewals: Vec::new(),
            quorum_age_ms: 0,
            old_snapshot: None,
            leader: None,
            takes_led: true,
            stuck: None,
        };
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            last: watch::Sender::default(),
            cut: watch::Sender::default(),
            lie: AtomicBool::new(false),
            proposals: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            snapshots: AtomicUsize::new(0),
            led: watch::Sender::default(),
            reading: watch::Sender::new(true),
        });
        let stop = tokio_util::sync::CancellationToken::new();
        let mut fake = Self { dir, ca, shared, servers: Vec::new(), peers: Arc::default(), stop };
        fake.write(Role::State, Command::ClusterInit { region: "global".into(), epoch: "first".into(), with: None });
        for n in 0..servers {
            fake.serve(n);
        }
        fake
    }

    fn identity(&self, role: Role, name: &str) -> Identity {
        let dir = self.dir.path().join(name);
        self.ca.write_identity(&dir, role, name, "global", DAY).unwrap();
        Identity::load(dir).unwrap()
    }

    pub fn serve(&mut self, n: usize) {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (addr, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let tls = Tls::Mutual(self.identity(Role::State, &format!("state-{n}")));
        let app = App { shared: self.shared.clone(), addr, shutdown: shutdown.clone() };
        let router = Router::new()
            .route(api::state::PROPOSE, post(propose))
            .route(api::state::READ_INDEX, get(read_index))
            .route(api::state::LEASE, post(renew))
            .route(api::state::FEED, get(feed))
            .route(api::state::SNAPSHOT, get(snapshot))
            .with_state(app);
        tokio::spawn(serve(listener, tls, router, Limits::internal(), shutdown.clone()));
        self.peers.lock().unwrap().push(PeerAddr { name: format!("state-{n}"), addr });
        self.servers.push((addr, shutdown));
    }

    /// One server goes, and everybody knows.
    pub fn end_server(&mut self, n: usize) {
        let (addr, shutdown) = self.servers.remove(n);
        self.peers.lock().unwrap().retain(|peer| peer.addr != addr);
        shutdown.request();
    }

    pub fn http(&self, role: Role, name: &str) -> Http {
        Http::new(self.identity(role, name))
    }

    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(Known(self.peers.clone()))
    }

    pub fn client(&self, role: Role, name: &str) -> StateClient {
        StateClient::new(self.http(role, name), self.peers(), role)
    }

    pub fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.core.lock().unwrap()
    }

    /// Writes without a call.
    pub fn write(&self, proposer: Role, command: Command) -> Index {
        let envelope = Envelope { request: None, proposer, lease: None, now: client::clock::unix_nanos(), command };
        let (index, reply) = self.shared.apply(&envelope);
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        index
    }

    pub fn write_namespace(&self, name: &str) -> Index {
        self.write(Role::Gateway, namespace(name))
    }

    /// The feed's window is emptied, and all feeds end.
    pub fn forget_window(&self) {
        let mut core = self.core();
        core.lines.clear();
        core.floor = core.state.index();
        drop(core);
        self.cut_feeds();
    }

    /// Every server says that this one leads, and feeds end, as the former leader's do.
    pub fn lead(&self, n: usize) {
        self.core().leader = Some(self.servers[n].0);
        self.cut_feeds();
    }

    /// The leader's feed stands still, though it is alive and called the leader.
    pub fn stick_leader(&self) {
        let mut core = self.core();
        core.stuck = core.leader;
    }

    /// Waits until so many follow the leader.
    pub async fn led(&self, wanted: usize) {
        let mut led = self.shared.led.subscribe();
        tokio::time::timeout(WITHIN, led.wait_for(|n| *n == wanted)).await.expect("in time").unwrap();
    }

    pub fn cut_feeds(&self) {
        self.shared.cut.send_modify(|n| *n += 1);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
        self.servers.iter().for_each(|(_, shutdown)| shutdown.request());
    }
}

pub fn namespace(name: &str) -> Command {
    Command::NamespaceUpsert { namespaces: vec![Namespace { name: name.to_owned(), ..Namespace::default() }] }
}

impl Shared {
    fn apply(&self, envelope: &Envelope) -> (Index, Reply) {
        let mut core = self.core.lock().unwrap();
        let index = core.state.index().next();
        let outcome = fsm::apply(&mut core.state, index, envelope);
        let reply = outcome.reply.clone();
        let mut line: FeedLine = outcome.into_line(&core.state);
        if self.lie.swap(false, Ordering::SeqCst) {
            line.hash = "00000000deadbeef".to_owned();
        }
        let mut text = model::sparse::to_vec(&line).unwrap();
        text.push(b'\n');
        core.lines.push_back(text.into());
        drop(core);
        self.last.send_replace(index);
        (index, reply)
    }
}

#[derive(Clone)]
struct App {
    shared: Arc<Shared>,
    addr: SocketAddr,
    shutdown: Shutdown,
}

async fn propose(Extract(app): Extract<App>, body: Bytes) -> Response {
    app.shared.proposals.fetch_add(1, Ordering::SeqCst);
    let envelope: Envelope = serde_json::from_slice(&body).unwrap();
    let fault = {
        let mut core = app.shared.core.lock().unwrap();
        core.faults.pop_front().or(core.always)
    };
    let refuse = |code: Code| Refused(ErrorBody::new(code, "as told")).into_response();
    match fault {
        Some(Fault::NoLeader) => return refuse(Code::NoLeader),
        Some(Fault::Forbidden) => return refuse(Code::Forbidden),
        _ => {}
    }
    let (index, reply) = app.shared.apply(&envelope);
    match fault {
        Some(Fault::Unknown) => refuse(Code::UnknownOutcome),
        Some(Fault::Internal) => refuse(Code::Internal),
        _ => Json(Proposed { index, reply }).into_response(),
    }
}

async fn renew(Extract(app): Extract<App>, Json(renewal): Json<RenewLease>) -> Response {
    let mut core = app.shared.core.lock().unwrap();
    core.renewals.push(client::clock::boot_time());
    if core.faults.pop_front().or(core.always) == Some(Fault::NoLeader) {
        return Refused::new(Code::NoLeader, "as told").into_response();
    }
    let row = core.state.lease(renewal.lease).cloned();
    match row {
        Some(row) if row.term == renewal.term && row.holder == renewal.holder => {
            Json(RaftContact { age_ms: core.quorum_age_ms }).into_response()
        }
        _ => Refused::new(Code::StaleTerm, "over").into_response(),
    }
}

/// The index is read when the question arrives, and answered when that is allowed.
async fn read_index(Extract(app): Extract<App>) -> Json<ReadIndex> {
    app.shared.reads.fetch_add(1, Ordering::SeqCst);
    let index = app.shared.core.lock().unwrap().state.index();
    let mut reading = app.shared.reading.subscribe();
    reading.wait_for(|reading| *reading).await.unwrap();
    Json(ReadIndex { index })
}

#[derive(Deserialize)]
struct FeedQuery {
    after: u64,
    epoch: Option<String>,
    #[serde(default)]
    led: bool,
}

/// Counts a feed that is served for being the leader.
struct Led(Arc<Shared>);

impl Led {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.led.send_modify(|n| *n += 1);
        Self(shared.clone())
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        self.0.led.send_modify(|n| *n -= 1);
    }
}

async fn feed(Extract(app): Extract<App>, Query(query): Query<FeedQuery>) -> Response {
    let leader = app.shared.core.lock().unwrap().leader;
    let named = leader.map(|leader| [(api::headers::LEADER, leader.to_string())]);
    {
        let core = app.shared.core.lock().unwrap();
        if query.led && !(leader == Some(app.addr) && core.takes_led) {
            return Refused::new(Code::TooMany, "follow any server").into_response();
        }
        let other = query.epoch.is_some_and(|e| e != core.state.cluster().epoch);
        if other || Index(query.after) < core.floor {
            return Refused::new(Code::Gone, "too far back").into_response();
        }
    }
    let (last, cut) = (app.shared.last.subscribe(), app.shared.cut.subscribe());
    let began = *cut.borrow();
    let led = query.led.then(|| Led::new(&app.shared));
    let lines = futures::stream::unfold((Index(query.after), last, cut), move |(after, mut last, mut cut)| {
        let (app, _led) = (app.clone(), &led);
        async move {
            loop {
                last.borrow_and_update();
                if *cut.borrow_and_update() != began || app.shutdown.is_requested() {
                    return None;
                }
                let found = {
                    let core = app.shared.core.lock().unwrap();
                    let skip = usize::try_from(after.get().saturating_sub(core.floor.get())).unwrap();
                    core.lines.get(skip).filter(|_| core.stuck != Some(app.addr)).cloned()
                };
                if let Some(line) = found {
                    return Some((Ok::<_, std::io::Error>(line), (after.next(), last, cut)));
                }
                tokio::select! {
                    _ = last.changed() => {}
                    _ = cut.changed() => {}
                    () = app.shutdown.requested() => return None,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {
                        return Some((Ok(Bytes::from_static(b"{}\n")), (after, last, cut)));
                    }
                }
            }
        }
    });
    let body = Body::from_stream(lines);
    named.map_or_else(|| Body::empty().into_response(), IntoResponse::into_response).map(|_| body)
}

#[derive(Deserialize)]
struct SnapshotQuery {
    tables: String,
}

async fn snapshot(Extract(app): Extract<App>, Query(query): Query<SnapshotQuery>) -> Bytes {
    app.shared.snapshots.fetch_add(1, Ordering::SeqCst);
    let core = app.shared.core.lock().unwrap();
    let state = core.old_snapshot.clone().unwrap_or_else(|| core.state.clone());
    let tables: Vec<Table> = query.tables.split(',').filter_map(Table::parse).collect();
    let mut bytes = Vec::new();
    fsm::write_snapshot(&state, &mut bytes, Some(&tables)).unwrap();
    bytes.into()
}
