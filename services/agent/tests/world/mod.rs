//! A cluster of fake gateways over real mutual TLS, and agents that can be killed.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::Config;
use api::node::{BEAT, Beat, BeatTaken, NEWS, News, REGISTER, Register, Registered, STREAM, StreamLine};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use client::http::{Call, Http, Target};
use client::tls::{Identity, Role};
use driver::supervisor::client::Launch;
use fsm::command::AllocClientUpdate;
use kit::guard::{Peer, Refused, require};
use kit::pki::Authority;
use kit::process::{Settings, Shutdown};
use kit::server::{Limits, Listener, Tls, serve};
use model::{AllocId, Allocation, ClientStatus, DesiredStatus, Index, Job, Node};
use serde_json::{Value, json};
use tokio::sync::watch;

const DAY: Duration = Duration::from_secs(86_400);
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for something to hold.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not come to hold: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the cluster knows: shared by its gateways.
#[derive(Default)]
pub struct Truth {
    pub allocs: BTreeMap<AllocId, Allocation>,
    gone: BTreeMap<AllocId, u64>,
    pub nodes: Vec<Node>,
    pub news: Vec<(Instant, AllocClientUpdate)>,
    pub beats: u64,
    /// Allocations that were asked for by themselves.
    pub asked: Vec<AllocId>,
    /// Address of the gateway, index and epoch asked for.
    pub streams: Vec<(SocketAddr, u64, String)>,
    pub forget_node: bool,
    /// Lines come without the jobs of their rows.
    pub lacks_jobs: bool,
    /// What beats are answered with.
    gateways: Vec<String>,
}

pub struct Cluster {
    /// Several tests share a host, and its cgroups.
    pub node_id: String,
    pub dir: tempfile::TempDir,
    ca: Authority,
    pub truth: Arc<Mutex<Truth>>,
    index: watch::Sender<u64>,
    gateways: Mutex<BTreeMap<SocketAddr, Shutdown>>,
    count: AtomicU64,
}

struct Gateway {
    addr: SocketAddr,
    truth: Arc<Mutex<Truth>>,
    index: watch::Receiver<u64>,
    dead: Shutdown,
}

impl Cluster {
    pub fn new() -> Arc<Self> {
        let (dir, node_id) = (tempfile::tempdir().unwrap(), client::state::new_uuid());
        let ca = Authority::create(dir.path().join("ca"), "global").unwrap();
        ca.write_identity(dir.path().join("agent-id"), Role::Agent, &node_id, "global", DAY).unwrap();
        Arc::new(Self {
            node_id,
            dir,
            ca,
            truth: Arc::default(),
            index: watch::Sender::new(10),
            gateways: Mutex::default(),
            count: AtomicU64::new(0),
        })
    }

    pub fn http(&self, role: Role, name: &str) -> Http {
        let dir = self.dir.path().join(name);
        self.ca.write_identity(&dir, role, name, "global", DAY).unwrap();
        Http::new(Identity::load(dir).unwrap())
    }

    /// Starts a gateway.
    pub fn gateway(&self) -> SocketAddr {
        let name = format!("g{}", self.count.fetch_add(1, Ordering::SeqCst));
        let dir = self.dir.path().join(&name);
        self.ca.write_identity(&dir, Role::Gateway, &name, "global", DAY).unwrap();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let dead = Shutdown::new();
        let gateway = Arc::new(Gateway {
            addr,
            truth: Arc::clone(&self.truth),
            index: self.index.subscribe(),
            dead: dead.clone(),
        });
        let router = Router::new()
            .route(REGISTER, post(register))
            .route(BEAT, post(beat))
            .route(STREAM, get(stream))
            .route(NEWS, post(news))
            .route("/v1/allocation/{id}", get(allocation))
            .layer(require(&[Role::Agent]))
            .with_state(gateway);
        let limits = Limits { drain: Duration::ZERO, ..Limits::internal() };
        let tls = Tls::Mutual(Identity::load(dir).unwrap());
        tokio::spawn(serve(listener, tls, router, limits, dead.clone()));
        self.gateways.lock().unwrap().insert(addr, dead);
        addr
    }

    /// A gateway dies: its connections break.
    pub fn kill_gateway(&self, addr: SocketAddr) {
        self.gateways.lock().unwrap().remove(&addr).unwrap().request();
    }

    /// Beats are answered with these addresses.
    pub fn learn(&self, gateways: &[SocketAddr]) {
        self.truth.lock().unwrap().gateways = gateways.iter().map(ToString::to_string).collect();
    }

    fn change(&self, work: impl FnOnce(&mut Truth, u64)) {
        self.index.send_modify(|index| {
            *index += 1;
            work(&mut self.truth.lock().unwrap(), *index);
        });
    }

    pub fn put(&self, mut alloc: Allocation) -> AllocId {
        let id = alloc.id.clone();
        self.change(|truth, index| {
            alloc.modify_index = Index(index);
            if alloc.node_id.is_empty() {
                alloc.node_id = self.node_id.as_str().into();
            }
            alloc.alloc_modify_index = Index(index);
            truth.allocs.insert(alloc.id.clone(), alloc);
        });
        id
    }

    pub fn edit(&self, id: &AllocId, edit: impl FnOnce(&mut Allocation)) {
        let mut alloc = self.truth.lock().unwrap().allocs[id].clone();
        edit(&mut alloc);
        self.put(alloc);
    }

    pub fn stop(&self, id: &AllocId) {
        self.edit(id, |alloc| alloc.desired_status = DesiredStatus::Stop);
    }

    pub fn forget(&self, id: &AllocId) {
        self.change(|truth, index| {
            truth.allocs.remove(id);
            truth.gone.insert(id.clone(), index);
        });
    }

    pub fn alloc(&self, id: &AllocId) -> Option<Allocation> {
        self.truth.lock().unwrap().allocs.get(id).cloned()
    }

    /// The statuses the node told, one after the other, repetitions left out.
    pub fn progress(&self, id: &AllocId) -> Vec<ClientStatus> {
        let truth = self.truth.lock().unwrap();
        let mut told: Vec<_> = truth.news.iter().filter(|(_, u)| u.id == *id).map(|(_, u)| u.client_status).collect();
        told.dedup();
        told
    }

    pub async fn reaches(&self, id: &AllocId, status: ClientStatus) -> Allocation {
        until(&format!("{id} is {status}"), || self.alloc(id).filter(|a| a.client_status == status)).await
    }

    /// Settings of this cluster's one node.
    pub fn config(&self, gateways: &[SocketAddr]) -> Config {
        let settings = Settings {
            data_dir: self.dir.path().join("data"),
            identity_dir: self.dir.path().join("agent-id"),
            ..Settings::default()
        };
        let args = vec!["supervise".into()];
        Config {
            settings,
            gateways: gateways.iter().map(ToString::to_string).collect(),
            network_interface: "lo".into(),
            raw_exec: true,
            mock_driver: true,
            // The machine's engine is the matter of the driver's tests.
            no_docker: true,
            cgroup_parent: format!("steppe-test-{}.slice", std::process::id()),
            // The disk of the machine that tests is not the subject.
            gc_disk_usage_threshold: 101.0,
            gc_inode_usage_threshold: 101.0,
            launch: Some(Launch { program: env!("CARGO_BIN_EXE_agent-supervise-test").into(), args }),
            ..Config::default()
        }
    }

    pub fn alloc_dir(&self, id: &AllocId) -> PathBuf {
        self.dir.path().join("data/alloc").join(id.as_str())
    }

    pub fn output(&self, id: &AllocId) -> String {
        let mut text = String::new();
        for n in 0..100 {
            let path = self.alloc_dir(id).join(format!("alloc/logs/t.stdout.{n}"));
            text += &std::fs::read_to_string(path).unwrap_or_default();
        }
        text
    }
}

async fn register(State(gw): State<Arc<Gateway>>, peer: Peer, Json(ask): Json<Register>) -> Json<Registered> {
    assert_eq!(peer.name, ask.node.id.as_str());
    gw.truth.lock().unwrap().nodes.push(ask.node);
    Json(Registered { index: Index(*gw.index.borrow()), period_ms: 200 })
}

async fn beat(State(gw): State<Arc<Gateway>>, peer: Peer, Json(ask): Json<Beat>) -> Json<BeatTaken> {
    assert_eq!(ask.node_id, peer.name);
    let mut truth = gw.truth.lock().unwrap();
    truth.beats += 1;
    let register_again = std::mem::take(&mut truth.forget_node);
    Json(BeatTaken { period_ms: 200, register_again, gateways: truth.gateways.clone() })
}

async fn news(State(gw): State<Arc<Gateway>>, Json(news): Json<News>) -> Result<(), Refused> {
    let mut truth = gw.truth.lock().unwrap();
    for update in news.updates {
        if let Some(row) = truth.allocs.get_mut(&update.id) {
            row.client_status = update.client_status;
            row.client_description.clone_from(&update.client_description);
            row.task_states.clone_from(&update.task_states);
            row.deployment_status.clone_from(&update.deployment_status);
        }
        truth.news.push((Instant::now(), update));
    }
    Ok(())
}

/// As the public API: blocks until the row is newer than the index. Nobody's who asks as an agent.
async fn allocation(
    State(gw): State<Arc<Gateway>>,
    axum::extract::Path(id): axum::extract::Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: axum::http::HeaderMap,
) -> Response {
    if !headers.contains_key(api::headers::PASSED_ON) {
        return axum::http::StatusCode::NOT_FOUND.into_response();
    }
    let after: u64 = query["index"].parse().unwrap();
    let mut index = gw.index.clone();
    loop {
        index.mark_unchanged();
        let row = {
            let mut truth = gw.truth.lock().unwrap();
            truth.asked.push(id.as_str().into());
            truth.allocs.get(&AllocId::from(id.as_str())).cloned()
        };
        match row {
            None => return (axum::http::StatusCode::NOT_FOUND, "alloc not found").into_response(),
            Some(row) if row.modify_index.0 > after => return Json(row).into_response(),
            Some(_) => {
                if gw.dead.or(index.changed()).await.is_none() {
                    return axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
                }
            }
        }
    }
}

async fn stream(State(gw): State<Arc<Gateway>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let after: u64 = query["after"].parse().unwrap();
    let resumes = query["epoch"] == "e1";
    gw.truth.lock().unwrap().streams.push((gw.addr, after, query["epoch"].clone()));
    let first = (gw, if resumes { Some(after) } else { None });
    let lines = futures::stream::unfold(first, |(gw, sent)| async move {
        let mut index = gw.index.clone();
        if let Some(sent) = sent {
            let news = index.wait_for(|now| *now > sent);
            let waited = gw.dead.or(tokio::time::timeout(Duration::from_millis(500), news)).await?;
            drop(waited);
        }
        let now = *index.borrow();
        let line = {
            let truth = gw.truth.lock().unwrap();
            let after = sent.unwrap_or(0);
            let mut upserts: Vec<Allocation> =
                truth.allocs.values().filter(|a| a.modify_index.0 > after).cloned().collect();
            let jobs =
                if truth.lacks_jobs { Vec::new() } else { upserts.iter().filter_map(|a| a.job.clone()).collect() };
            upserts.iter_mut().for_each(put_apart);
            StreamLine {
                index: Index(now),
                epoch: "e1".into(),
                full: sent.is_none(),
                jobs,
                upserts,
                gone: truth.gone.iter().filter(|(_, at)| **at > after).map(|(id, _)| id.clone()).collect(),
                keepalive: sent == Some(now),
                close: false,
            }
        };
        let bytes = Bytes::from(serde_json::to_string(&line).unwrap() + "\n");
        Some((Ok::<_, std::io::Error>(bytes), (gw, Some(now))))
    });
    Body::from_stream(lines).into_response()
}

/// The job goes beside the row.
fn put_apart(row: &mut Allocation) {
    if let Some(job) = row.job.take() {
        (row.job_version, row.job_incarnation) = (job.version, job.create_index);
    }
}

/// An allocation of one task named `t`, of a version of its job that no other runs.
pub fn alloc(n: u32, kind: &str, task: Value) -> Allocation {
    let mut task = task;
    task["Name"] = json!("t");
    if task.get("KillTimeout").is_none() {
        task["KillTimeout"] = json!(2_000_000_000_i64);
    }
    let restart = task.as_object_mut().unwrap().remove("Restart");
    let restart = restart.unwrap_or_else(
        || json!({"Attempts": 0, "Mode": "fail", "Interval": 60_000_000_000_i64, "Delay": 100_000_000}),
    );
    let job = json!({"ID": "j", "Name": "j", "Type": kind, "Namespace": "default", "Datacenters": ["dc1"],
        "CreateIndex": 1, "Version": n, "TaskGroups": [{"Name": "g", "Count": 1, "RestartPolicy": restart, "Tasks": [task]}]});
    let job: Job = serde_json::from_value(job).unwrap();
    Allocation {
        id: format!("{n:08x}-0000-4000-8000-000000000000").into(),
        name: "j.g[0]".into(),
        namespace: "default".into(),
        job_id: "j".into(),
        job: Some(Arc::new(job)),
        task_group: "g".into(),
        create_time: client::clock::unix_nanos(),
        ..Allocation::default()
    }
}

/// `sh -c script` as a `raw_exec` task.
pub fn shell(script: &str) -> Value {
    json!({"Driver": "raw_exec", "Config": {"command": "/bin/sh", "args": ["-c", script]}})
}

pub fn mock(config: Value) -> Value {
    json!({"Driver": "mock_driver", "Config": config})
}

/// The types of a task's events.
pub fn events(alloc: &Allocation) -> Vec<String> {
    alloc.task_states["t"].events.look().iter().map(|e| e.kind.clone()).collect()
}

/// An agent on a runtime of its own, so that it can be killed.
pub struct Agent {
    runtime: Option<tokio::runtime::Runtime>,
    shutdown: Shutdown,
    done: Arc<AtomicBool>,
}

impl Agent {
    pub fn start(config: Config) -> Self {
        if let Ok(filter) = std::env::var("TEST_LOG") {
            let _ = kit::process::telemetry::init(&filter, false);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (shutdown, done) = (Shutdown::new(), Arc::new(AtomicBool::new(false)));
        let (end, flag) = (shutdown.clone(), Arc::clone(&done));
        runtime.spawn(async move {
            agent::run(config, end).await.unwrap();
            flag.store(true, Ordering::SeqCst);
        });
        Self { runtime: Some(runtime), shutdown, done }
    }

    /// As SIGKILL does: nothing it was doing comes to an end.
    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// As SIGTERM does.
    pub async fn end(mut self) {
        self.shutdown.request();
        until("the agent ends", || self.done.load(Ordering::SeqCst).then_some(())).await;
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.shutdown.request();
        let deadline = Instant::now() + LIMIT;
        while !self.done.load(Ordering::SeqCst) && Instant::now() < deadline && !std::thread::panicking() {
            std::thread::sleep(Duration::from_millis(5));
        }
        runtime.shutdown_background();
    }
}

/// Whatever became of agents, nothing of the test stays on the host.
impl Drop for Cluster {
    fn drop(&mut self) {
        let base = self.dir.path().join("data/alloc");
        let parent = self.config(&[]).cgroup_parent;
        let cgroups = driver::cgroup::Cgroups::detect(&parent, &self.node_id);
        driver::orphans::sweep(&base, cgroups.as_ref(), &driver::orphans::Keep::default());
        for entry in std::fs::read_dir(&base).into_iter().flatten().flatten() {
            driver::taskdir::AllocDirs { root: entry.path() }.unmount();
        }
        if let Some(cgroups) = cgroups {
            cgroups.remove_home();
        }
    }
}

/// The living processes whose arguments contain `mark`.
pub fn processes(mark: &str) -> Vec<i32> {
    let alive = |pid: &i32| driver::procfs::cmdline(*pid).iter().any(|arg| arg.contains(mark));
    driver::procfs::pids().into_iter().filter(alive).collect()
}

/// The processes with this very argument, once there is one.
///
/// A task counts as running while its program is still being put in place, and until it stands there it has no
/// arguments. One that puts another program in its own place has none again for a moment: an argument that only the
/// last one has is there to stay.
pub async fn running(argument: &str) -> Vec<i32> {
    let has = |pid: &i32| driver::procfs::cmdline(*pid).iter().any(|arg| arg == argument);
    until(&format!("a process with the argument {argument}"), || {
        Some(driver::procfs::pids().into_iter().filter(has).collect::<Vec<_>>()).filter(|found| !found.is_empty())
    })
    .await
}

/// What an agent's listener answers a gateway.
pub async fn ask(http: &Http, addr: SocketAddr, path: &str) -> Result<Bytes, (u16, String)> {
    let target = Target::new(addr, Role::Agent);
    match http.call(&target, Call::get(path, Duration::from_secs(5))).await {
        Ok(reply) => Ok(reply.body),
        Err(client::error::CallError::Status { status, body, .. }) => Err((status.as_u16(), body.message)),
        Err(error) => panic!("{error}"),
    }
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
