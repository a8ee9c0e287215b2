//! A gateway in this process, in front of a state service made of the real state machine and nothing
//! else: mutual TLS, feed and snapshots are real, raft and disks are not there. The leader can be taken
//! away, and rows can be written as any role.
#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::controller::{AllocNews, Beats, BeatsTaken};
use api::scheduler::{DryRun, DryRunResult};
use api::state::{Proposed, RaftPeer, RaftStatus, ReadIndex, SignRequest, Signed};
use api::{Code, ErrorBody};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use client::http::Http;
use client::replica::Replica;
use client::tls::Identity;
use fsm::command::{AllocClientUpdate, Command, Envelope, JobRegister, LeaseFence, LeaseName, NodeStatusChange};
use fsm::{Plan, PlanPart, Reply, Table};
use gateway::app::{App, Parts};
use gateway::blocking::{Follow, Watches};
use http_body_util::{BodyExt, Full};
use kit::gossip::{Directory, Member};
use kit::guard::Refused;
use kit::metrics::Metrics;
use kit::pki::Authority;
use kit::process::Shutdown;
use kit::server::{self, Limits, Listener, Tls};
use model::{AllocId, Allocation, ClientStatus, Evaluation, Index, Job, Node, NodeId, NodeStatus, Role};
use serde_json::{Value, json};
use tokio::sync::watch;

pub const WITHIN: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
pub const NODE: &str = "08d231b5-db9c-ee71-a77a-9bf3b918e0b0";
pub const NOBODY: &str = "11111111-1111-1111-1111-111111111111";

/// The state machine behind a listener.
pub struct Truth {
    state: Mutex<fsm::State>,
    lines: Mutex<Vec<(u64, Bytes)>>,
    last: watch::Sender<u64>,
    leader: AtomicBool,
    silent: AtomicBool,
    pub beats: Mutex<Vec<Beats>>,
    pub news: Mutex<Vec<AllocClientUpdate>>,
    pub controller_works: AtomicBool,
}

impl Truth {
    fn new() -> Arc<Self> {
        let truth = Arc::new(Self {
            state: Mutex::default(),
            lines: Mutex::default(),
            last: watch::Sender::new(0),
            leader: AtomicBool::new(true),
            silent: AtomicBool::new(false),
            beats: Mutex::default(),
            news: Mutex::default(),
            controller_works: AtomicBool::new(true),
        });
        truth.apply(Role::State, Command::ClusterInit { region: "global".into(), epoch: "one".into(), with: None });
        truth
    }

    pub fn envelope(&self, envelope: &Envelope) -> (Index, Reply) {
        let mut state = self.state.lock().unwrap();
        let index = state.index().next();
        let outcome = fsm::apply(&mut state, index, envelope);
        let reply = outcome.reply.clone();
        let mut line = model::sparse::to_vec(&outcome.into_line(&state)).unwrap();
        line.push(b'\n');
        self.lines.lock().unwrap().push((index.get(), line.into()));
        self.last.send_replace(index.get());
        (index, reply)
    }

    fn fence(&self, role: Role) -> Option<LeaseFence> {
        let lease = match role {
            Role::Applier => LeaseName::Applier,
            Role::Controller => LeaseName::Controller,
            _ => return None,
        };
        let state = self.state.lock().unwrap();
        state.lease(lease).map(|row| LeaseFence { lease, term: row.term })
    }

    pub fn apply(&self, proposer: Role, command: Command) -> (Index, Reply) {
        let lease = self.fence(proposer);
        let now = client::clock::unix_nanos();
        let (index, reply) = self.envelope(&Envelope { request: None, proposer, lease, now, command });
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        (index, reply)
    }

    pub fn state(&self) -> fsm::State {
        self.state.lock().unwrap().clone()
    }

    pub fn set_leader(&self, there: bool) {
        self.leader.store(there, Ordering::SeqCst);
    }

    /// Questions for a read index get no answer at all.
    pub fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    fn check_leader(&self) -> Result<(), Refused> {
        if self.leader.load(Ordering::SeqCst) { Ok(()) } else { Err(Refused::new(Code::NoLeader, "no leader")) }
    }
}

type Here = State<Arc<Truth>>;

async fn propose(State(truth): Here, body: Bytes) -> Result<Json<Proposed>, Refused> {
    truth.check_leader()?;
    let envelope: Envelope = serde_json::from_slice(&body).unwrap();
    let (index, reply) = truth.envelope(&envelope);
    Ok(Json(Proposed { index, reply }))
}

async fn read_index(State(truth): Here) -> Result<Json<ReadIndex>, Refused> {
    if truth.silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    truth.check_leader()?;
    Ok(Json(ReadIndex { index: truth.state.lock().unwrap().index() }))
}

async fn feed(State(truth): Here, Query(query): Query<Vec<(String, String)>>) -> Response {
    let after: u64 = query.iter().find(|(k, _)| k == "after").unwrap().1.parse().unwrap();
    let last = truth.last.subscribe();
    let stream = futures::stream::unfold((truth, last, after), |(truth, mut last, at)| async move {
        let waited = tokio::time::timeout(Duration::from_secs(1), last.wait_for(|last| *last > at)).await.is_ok();
        let mut piece = Vec::new();
        let mut to = at;
        if waited {
            for (index, line) in truth.lines.lock().unwrap().iter().filter(|(index, _)| *index > at) {
                piece.extend_from_slice(line);
                to = *index;
            }
        } else {
            piece.extend_from_slice(b"{}\n");
        }
        Some((Ok::<_, Infallible>(Bytes::from(piece)), (truth, last, to)))
    });
    Body::from_stream(stream).into_response()
}

async fn snapshot(State(truth): Here) -> Vec<u8> {
    let mut out = Vec::new();
    fsm::write_snapshot(&truth.state.lock().unwrap(), &mut out, None).unwrap();
    out
}

async fn raft_status(State(truth): Here) -> Json<RaftStatus> {
    let peer = RaftPeer { id: 7, name: "state-0".into(), addr: "127.0.0.1:4647".into(), voter: true };
    let leader = truth.leader.load(Ordering::SeqCst).then(|| peer.clone());
    Json(RaftStatus { leader, peers: vec![peer], ..RaftStatus::default() })
}

async fn sign(Json(request): Json<SignRequest>) -> Json<Signed> {
    Json(Signed { certificate: format!("for {}{}", request.name, request.admission), ca: String::new() })
}

async fn beats(State(truth): Here, Json(beats): Json<Beats>) -> Result<Json<BeatsTaken>, Refused> {
    if !truth.controller_works.load(Ordering::SeqCst) {
        return Err(Refused(ErrorBody::new(Code::NotActive, "not the controller")));
    }
    let known = truth.state();
    let unknown = beats.nodes.iter().filter(|id| known.node(id).is_none()).cloned().collect();
    truth.beats.lock().unwrap().push(beats);
    Ok(Json(BeatsTaken { period_ms: 1_234, unknown }))
}

async fn news(State(truth): Here, Json(news): Json<AllocNews>) -> axum::http::StatusCode {
    truth.news.lock().unwrap().extend(news.updates.clone());
    truth.apply(Role::Controller, Command::AllocClientUpdate { updates: news.updates, evals: Vec::new() });
    axum::http::StatusCode::NO_CONTENT
}

async fn dry_run(Json(ask): Json<DryRun>) -> Json<DryRunResult> {
    let mut result = DryRunResult::default();
    let updates = model::metric::DesiredUpdates { place: ask.job.total_count().unsigned_abs(), ..Default::default() };
    result.annotations.desired_tg_updates.insert("g".into(), updates);
    Json(result)
}

/// What an agent answers when asked for a log.
async fn agent_logs(Query(query): Query<Vec<(String, String)>>) -> Response {
    let is = |name: &str, value: &str| query.iter().any(|(k, v)| k == name && v == value);
    if is("task", "late") {
        return Refused::new(Code::NotFound, "task \"late\" not started yet. No logs available").into_response();
    }
    if is("follow", "true") {
        let pieces = futures::stream::unfold(0u8, |n| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (n < 3).then(|| (Ok::<_, Infallible>(Bytes::from(format!("line {n}\n"))), n + 1))
        });
        return Body::from_stream(pieces).into_response();
    }
    if is("plain", "true") { "hello\n" } else { r#"{"Data":"aGVsbG8K","File":"alloc/logs/t.stdout.0","Offset":6}"# }
        .into_response()
}

/// A gateway with everything around it.
pub struct Cluster {
    pub dir: tempfile::TempDir,
    authority: Authority,
    pub truth: Arc<Truth>,
    pub app: App,
    pub public: SocketAddr,
    /// The gateway's mutual-TLS listener.
    pub internal: SocketAddr,
    pub shutdown: Shutdown,
}

fn serve(listener: Listener, tls: Tls, router: Router, shutdown: &Shutdown) {
    tokio::spawn(server::serve(listener, tls, router, Limits::internal(), shutdown.clone()));
}

fn listener() -> (Listener, SocketAddr) {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn member(role: Role, name: &str, api: SocketAddr) -> Member {
    Member {
        name: name.into(),
        role,
        region: "global".into(),
        datacenter: "dc1".into(),
        gossip: api,
        api,
        incarnation: 1,
        tags: Default::default(),
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path().join("ca"), "global").unwrap();
        let truth = Truth::new();
        let shutdown = Shutdown::new();
        let mut members = Vec::new();
        let identity = |role: Role, name: &str| {
            let home = dir.path().join(name);
            authority.write_identity(&home, role, name, "global", DAY).unwrap();
            Identity::load(home).unwrap()
        };
        let routes = [
            (
                Role::State,
                Router::new()
                    .route(api::state::PROPOSE, post(propose))
                    .route(api::state::READ_INDEX, get(read_index))
                    .route(api::state::FEED, get(feed))
                    .route(api::state::SNAPSHOT, get(snapshot))
                    .route(api::state::RAFT_STATUS, get(raft_status))
                    .route(api::state::CERTIFICATES, post(sign)),
            ),
            (
                Role::Controller,
                Router::new().route(api::controller::BEATS, post(beats)).route(api::controller::ALLOC_NEWS, post(news)),
            ),
            (Role::Scheduler, Router::new().route(api::scheduler::DRY_RUN, post(dry_run))),
        ];
        for (role, router) in routes {
            let (bound, addr) = listener();
            let name = format!("{role}-0");
            members.push(member(role, &name, addr));
            serve(bound, Tls::Mutual(identity(role, &name)), router.with_state(Arc::clone(&truth)), &shutdown);
            if role == Role::Controller {
                let holder = LeaseName::Controller;
                truth.apply(role, Command::LeaseAcquire { lease: holder, holder: name, addr: addr.to_string() });
            }
        }
        let applier =
            Command::LeaseAcquire { lease: LeaseName::Applier, holder: "applier-0".into(), addr: "127.0.0.1:1".into() };
        truth.apply(Role::Applier, applier);
        let own = identity(Role::Gateway, "gateway-0");
        let (bound, internal) = listener();
        members.push(member(Role::Gateway, "gateway-0", internal));
        let directory = Directory::fixed(members);
        let http = Http::new(own.clone());
        let watches = Watches::new();
        let replica = Replica::start(
            http.clone(),
            Arc::new(directory.clone()),
            Table::ALL.to_vec(),
            Box::new(Follow::new(Arc::clone(&watches))),
            shutdown.token(),
        );
        let node_id_file = dir.path().join("node-id");
        let app = App::start(Parts {
            told: Default::default(),
            name: "gateway-0".into(),
            region: "global".into(),
            datacenter: "dc1".into(),
            http,
            directory,
            replica,
            watches,
            metrics: Metrics::default(),
            shutdown: shutdown.clone(),
            purge_revokes: false,
            gossip: None,
            machine: gateway::machine::Machine {
                node_id_file: Some(node_id_file),
                machine_file: None,
                enable_debug: false,
            },
            data_dir: None,
            keys: kit::gossip::KeyRing::parse("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=").unwrap(),
        });
        let agents = gateway::agents::router().into_router();
        serve(bound, Tls::Mutual(own), agents.with_state(app.clone()), &shutdown);
        let (bound, public) = listener();
        let limits = Limits::public(gateway::body::BODY_BYTES_MAX);
        tokio::spawn(server::serve(bound, Tls::Plain, gateway::public::router(app.clone()), limits, shutdown.clone()));
        let cluster = Self { dir, authority, truth, app, public, internal, shutdown };
        // Its copy is there: what happens from here on is a change of it, and not its beginning.
        let founded = cluster.truth.state().index();
        until(|| cluster.app.watches.view().state.index() >= founded).await;
        cluster
    }

    /// The identity of a process that is not there yet.
    pub fn identity(&self, role: Role, name: &str) -> Identity {
        let home = self.dir.path().join(name);
        if !home.exists() {
            self.authority.write_identity(&home, role, name, "global", DAY).unwrap();
        }
        Identity::load(home).unwrap()
    }

    /// A node that is ready, whose agent serves logs.
    pub fn add_node(&self) -> NodeId {
        let (bound, addr) = listener();
        let router = Router::new().route("/v1/client/fs/logs/{id}", get(agent_logs));
        serve(bound, Tls::Mutual(self.identity(Role::Agent, NODE)), router, &self.shutdown);
        let command = Command::NodeRegister { node: Box::new(node(&addr.to_string())), evals: Vec::new() };
        self.truth.apply(Role::Gateway, command);
        let change = NodeStatusChange { node_id: NODE.into(), status: NodeStatus::Ready, updated_at: 1, event: None };
        self.truth.apply(Role::Controller, Command::NodeStatusUpdate { updates: vec![change], evals: Vec::new() });
        NODE.into()
    }

    pub fn add_job(&self, job: Job) -> Index {
        let register = JobRegister { job, eval: None, submission: None, enforce_index: None };
        self.truth.apply(Role::Gateway, Command::JobRegister(Box::new(register))).0
    }

    /// Places allocations of a job that is there, as a plan does. Answers their ids and the eval's.
    pub fn place(&self, job_id: &str, count: usize) -> (Vec<AllocId>, String) {
        let state = self.truth.state();
        let job = state.job(&"default".into(), &job_id.into()).unwrap();
        let eval_id = client::state::new_uuid();
        let eval = Evaluation {
            id: eval_id.as_str().into(),
            namespace: "default".into(),
            job_id: job_id.into(),
            priority: 50,
            kind: job.kind_text().into(),
            triggered_by: "job-register".into(),
            ..Evaluation::default()
        };
        self.truth.apply(Role::Gateway, Command::EvalCreate { evals: vec![eval] });
        let state = self.truth.state();
        let ids: Vec<AllocId> = (0..count).map(|_| AllocId::from(client::state::new_uuid())).collect();
        let place = ids.iter().enumerate().map(|(n, id)| Allocation {
            id: id.clone(),
            namespace: "default".into(),
            eval_id: eval_id.as_str().into(),
            name: format!("{job_id}.g[{n}]"),
            node_id: NODE.into(),
            node_name: "node-1".into(),
            job_id: job_id.into(),
            task_group: "g".into(),
            job_version: job.version,
            job_incarnation: job.create_index,
            allocated_resources: Some(Default::default()),
            ..Allocation::default()
        });
        let part = PlanPart { fence: state.node_fence(&NODE.into()), place: place.collect(), ..PlanPart::default() };
        let plan = Plan {
            eval_id: eval_id.as_str().into(),
            namespace: "default".into(),
            job_id: job_id.into(),
            job_incarnation: job.incarnation(),
            job_version: job.version(),
            snapshot_index: state.index(),
            priority: 50,
            parts: [(NodeId::from(NODE), part)].into(),
            now: client::clock::unix_nanos(),
            ..Plan::default()
        };
        let (_, reply) = self.truth.apply(Role::Applier, Command::PlanApply { plans: vec![plan] });
        let Reply::Plans { results } = &reply else { panic!("{reply:?}") };
        assert_eq!(results[0].placed.len(), count, "{reply:?}");
        (ids, eval_id)
    }

    /// A deployment of a job that is there, with one group `g`.
    pub fn deploy(&self, job_id: &str, id: &str, group: model::deployment::DeploymentState) {
        let state = self.truth.state();
        let job = state.job(&"default".into(), &job_id.into()).unwrap();
        let eval = Evaluation {
            id: client::state::new_uuid().into(),
            namespace: "default".into(),
            job_id: job_id.into(),
            priority: 50,
            kind: job.kind_text().into(),
            ..Evaluation::default()
        };
        self.truth.apply(Role::Gateway, Command::EvalCreate { evals: vec![eval.clone()] });
        let plan = Plan {
            eval_id: eval.id,
            namespace: "default".into(),
            job_id: job_id.into(),
            job_incarnation: job.incarnation(),
            job_version: job.version(),
            snapshot_index: self.truth.state().index(),
            priority: 50,
            deployment: Some(model::Deployment {
                id: id.into(),
                namespace: "default".into(),
                job_id: job_id.into(),
                job_create_index: job.incarnation(),
                job_version: job.version(),
                task_groups: [("g".to_owned(), group)].into(),
                ..model::Deployment::default()
            }),
            now: client::clock::unix_nanos(),
            ..Plan::default()
        };
        self.truth.apply(Role::Applier, Command::PlanApply { plans: vec![plan] });
        assert!(self.truth.state().deployment(&id.into()).is_some());
    }

    pub fn run_alloc(&self, id: &AllocId) -> Index {
        let update = AllocClientUpdate {
            id: id.clone(),
            node_id: NODE.into(),
            client_status: ClientStatus::Running,
            ..AllocClientUpdate::default()
        };
        self.truth.apply(Role::Controller, Command::AllocClientUpdate { updates: vec![update], evals: vec![] }).0
    }

    pub async fn get(&self, path: impl AsRef<str>) -> Answer {
        self.ask("GET", path.as_ref(), &[], Bytes::new()).await
    }

    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(method, path, &[], serde_json::to_vec(body).unwrap().into()).await
    }

    pub async fn send_owned(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, path, &body).await
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        tokio::time::timeout(WITHIN, ask(self.public, method, path, headers, body)).await.expect("no answer")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

async fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
    let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(tcp);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = axum::http::Request::builder().method(method).uri(path).header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// An answer of the public API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: axum::http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub fn says(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text().as_str()), (status, text));
        assert_eq!(self.header("content-type"), "text/plain; charset=utf-8");
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or("")
    }

    #[track_caller]
    pub fn index(&self) -> u64 {
        self.header("x-nomad-index").parse().expect("an index header")
    }
}

pub fn node(addr: &str) -> Node {
    let mut node = Node {
        id: NODE.into(),
        name: "node-1".into(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        http_addr: addr.into(),
        secret_id: "very-secret".into(),
        node_resources: Some(Default::default()),
        ..Node::default()
    };
    node.attributes.insert("nomad.version".into(), "2.0.6".into());
    node.attributes.insert("os.name".into(), "debian".into());
    node
}

/// A job that may be registered, as somebody posts it.
pub fn posted(id: &str, count: i64) -> Value {
    json!({"ID": id, "Name": id, "Type": "service", "Datacenters": ["*"], "TaskGroups": [{"Name": "g", "Count": count,
        "Tasks": [{"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sh", "args": ["-c", "sleep 1000"]},
                   "Resources": {"CPU": 20, "MemoryMB": 20}}]}]})
}

/// The same as it is stored.
pub fn job(id: &str, count: i64) -> Job {
    let mut job: Job = serde_json::from_value(posted(id, count)).unwrap();
    job.canonicalize();
    job
}

/// Waits until something holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, wait).await.expect("did not come to hold");
}
