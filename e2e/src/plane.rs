//! The control plane in one process: real services, listeners, certificates, gossip and files; nodes are
//! played by the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ports::free_ports;
use api::controller::{AllocNews, Beats, BeatsTaken};
use client::active::Active;
use client::http::{Call, Http, Target};
use client::replica::{NoObserver, Replica};
use client::state::StateClient;
use client::tls::Identity;
use fsm::command::{AllocClientUpdate, Command, JobRegister};
use fsm::{LeaseName, State, Table};
use kit::pki::Authority;
use kit::process::{Settings, Shutdown};
use kit::shell::Shell;
use model::{ClientStatus, EvalId, Index, Job, Node, NodeId, Role};

pub const WITHIN: Duration = Duration::from_secs(30);
/// Long enough that nobody thinks of renewing.
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// A running control plane, and a caller with a gateway's certificate.
pub struct Plane {
    dir: tempfile::TempDir,
    authority: Authority,
    seed: SocketAddr,
    bootstrap_expect: usize,
    running: Vec<(String, Shutdown, tokio::task::JoinHandle<()>)>,
    pub shell: Shell,
    pub state: StateClient,
    pub replica: Replica,
    pub controller: Active,
    /// Held while a beat is under way.
    beating: Arc<tokio::sync::Mutex<Vec<NodeId>>>,
}

impl Plane {
    /// One of each, and `schedulers` schedulers.
    pub async fn start(schedulers: usize) -> Self {
        let one = [Role::State, Role::Broker, Role::Applier, Role::Controller];
        let one = one.into_iter().map(|role| (role, format!("{role}-0")));
        let many = (0..schedulers).map(|n| (Role::Scheduler, format!("scheduler-{n}")));
        Self::of(one.chain(many).collect()).await
    }

    /// These services; what is missing is the test's to play.
    pub async fn of(services: Vec<(Role, String)>) -> Self {
        Self::of_group(services, 1).await
    }

    /// With as many state servers as are expected to found the group.
    pub async fn of_group(services: Vec<(Role, String)>, bootstrap_expect: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path().join("ca"), "global").unwrap();
        let seed = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
        let settings = identity(&dir, &authority, seed, Role::Gateway, "test-gateway");
        let shell = Shell::start(settings, Role::Gateway, Shutdown::new()).await.unwrap();
        let state = StateClient::new(shell.http.clone(), shell.peers(), Role::Gateway);
        let replica = shell.replica(&Table::ALL, Box::new(NoObserver));
        let controller = Active::new(shell.http.clone(), replica.clone(), LeaseName::Controller);
        let beating = Arc::default();
        let running = Vec::new();
        let mut plane =
            Self { dir, authority, seed, bootstrap_expect, running, shell, state, replica, controller, beating };
        for (role, name) in services {
            plane.run(role, &name);
        }
        plane.keep_beating();
        plane
    }

    /// The settings, identity included, of a process that the test plays.
    pub fn settings(&self, role: Role, name: &str) -> Settings {
        identity(&self.dir, &self.authority, self.seed, role, name)
    }

    /// Where the processes of a role serve, once there are `count`.
    pub async fn targets(&self, role: Role, count: usize) -> Vec<Target> {
        let there = self.shell.directory.wait_until(|all| all.iter().filter(|m| m.role == role).count() >= count);
        tokio::time::timeout(WITHIN, there).await.unwrap();
        self.shell.directory.by_role(role).iter().map(|m| Target::new(m.api, role)).collect()
    }

    /// Starts a service (again).
    pub fn run(&mut self, role: Role, name: &str) {
        let mut settings = identity(&self.dir, &self.authority, self.seed, role, name);
        let shutdown = Shutdown::new();
        let wish = shutdown.clone();
        let (seed, bootstrap_expect) = (self.seed, self.bootstrap_expect);
        let first = name.ends_with("-0");
        let task = tokio::spawn(async move {
            match role {
                Role::State => {
                    if first {
                        settings.gossip_bind = seed;
                    }
                    let config = state::Config {
                        settings,
                        bootstrap_expect,
                        ca_dir: None,
                        introduction_ttl: model::Nanos::from_secs(300),
                        introduction_ttl_max: model::Nanos::from_secs(1_800),
                        snapshot_after: 8192,
                        root_keys: Default::default(),
                        tuning: Default::default(),
                    };
                    state::run(config, wish).await.unwrap();
                }
                Role::Broker => broker::run(broker::Config { settings }, wish).await.unwrap(),
                Role::Applier => {
                    applier::run(applier::Config { settings, rejections: applier::RejectionOptions::default() }, wish)
                        .await
                        .unwrap()
                }
                Role::Controller => controller::run(
                    controller::Config { settings, collection: Default::default(), beats: Default::default() },
                    wish,
                )
                .await
                .unwrap(),
                Role::Scheduler => scheduler::run(scheduler::Config { settings }, wish).await.unwrap(),
                Role::Gateway => {
                    let http_bind = SocketAddr::from(([127, 0, 0, 1], 0));
                    let config = gateway::Config {
                        published: Default::default(),
                        statsd: Default::default(),
                        settings,
                        http_bind,
                        http_also: Vec::new(),
                        http_unauthenticated: false,
                        purge_revokes: false,
                        bounds: Default::default(),
                        machine: Default::default(),
                        https: kit::https::HttpsSettings::default(),
                        vouching: kit::vouched::VouchingSettings::default(),
                    };
                    gateway::run(config, wish).await.unwrap();
                }
                other => panic!("{other} is not run here"),
            }
        });
        self.running.push((name.to_owned(), shutdown, task));
    }

    /// Where a service's internal listener is, once the others know of it and it says that it is ready.
    pub async fn addr(&self, role: Role, name: &str) -> SocketAddr {
        let seen = self.shell.directory.wait_until(|members| members.iter().any(|m| &*m.name == name));
        assert!(tokio::time::timeout(WITHIN, seen).await.unwrap());
        let addr = self.shell.directory.find(name).unwrap().api;
        let ready = async {
            let target = Target::new(addr, role);
            while self.shell.http.call(&target, Call::get("/health/ready", WITHIN)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WITHIN, ready).await.expect("it is ready in time");
        addr
    }

    /// A caller with a certificate of this role and name.
    pub fn caller(&self, role: Role, name: &str) -> Http {
        let settings = identity(&self.dir, &self.authority, self.seed, role, name);
        Http::new(Identity::load(settings.identity_dir).unwrap())
    }

    /// Ends a service without a word, as a crash would: its tasks stop where they are.
    pub async fn crash(&mut self, name: &str) {
        let at = self.running.iter().position(|(n, ..)| n == name).unwrap();
        let (_, _, task) = self.running.remove(at);
        task.abort();
        let _ = task.await;
    }

    /// Ends a service in good order.
    pub async fn stop(&mut self, name: &str) {
        let at = self.running.iter().position(|(n, ..)| n == name).unwrap();
        let (_, shutdown, task) = self.running.remove(at);
        shutdown.request();
        task.await.unwrap();
    }

    /// Ends everything in good order.
    pub async fn stop_all(mut self) {
        self.shell.shutdown.request();
        for (_, shutdown, _) in &self.running {
            shutdown.request();
        }
        for (_, _, task) in self.running.drain(..) {
            task.await.unwrap();
        }
    }

    fn keep_beating(&self) {
        let (controller, beating) = (self.controller.clone(), self.beating.clone());
        let shutdown = self.shell.shutdown.clone();
        tokio::spawn(async move {
            while !shutdown.is_requested() {
                let nodes = beating.lock().await;
                let beats = Beats { gateway: "test-gateway".to_owned(), nodes: nodes.clone(), broken: Vec::new() };
                let _: Result<BeatsTaken, _> = controller.post(api::controller::BEATS, &beats, WITHIN).await;
                drop(nodes);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }

    /// Registers nodes, lets them beat, and waits until they are ready.
    pub async fn nodes(&self, nodes: Vec<Node>) {
        let ids: Vec<NodeId> = nodes.iter().map(|n| n.id.clone()).collect();
        for node in nodes {
            self.propose(Command::NodeRegister { node: Box::new(node), evals: Vec::new() }).await;
        }
        self.beating.lock().await.extend(ids.iter().cloned());
        self.until("nodes are ready", |state| ids.iter().all(|id| state.node(id).is_some_and(|n| n.is_ready()))).await;
    }

    /// The node falls silent: none of its beats is under way any more.
    pub async fn silence(&self, id: &NodeId) {
        self.beating.lock().await.retain(|n| n != id);
    }

    pub async fn propose(&self, command: Command) -> Index {
        self.state.propose(command, None, WITHIN).await.unwrap().0
    }

    /// Registers a job; the evaluation's id.
    pub async fn register(&self, job: Job) -> EvalId {
        let eval = crate::nouns::eval(&job);
        let id = eval.id.clone();
        let register = JobRegister { job, eval: Some(eval), submission: None, enforce_index: None };
        self.propose(Command::JobRegister(Box::new(register))).await;
        id
    }

    /// Says for every allocation that should run and is new that its tasks run.
    pub async fn report_running(&self, state: &State) {
        let updates: Vec<AllocClientUpdate> = state
            .allocs()
            .filter(|a| a.client_status == ClientStatus::Pending && a.desired_status == model::DesiredStatus::Run)
            .map(|a| AllocClientUpdate {
                id: a.id.clone(),
                node_id: a.node_id.clone(),
                client_status: ClientStatus::Running,
                modify_time: client::clock::unix_nanos(),
                ..AllocClientUpdate::default()
            })
            .collect();
        if !updates.is_empty() {
            let news = AllocNews { updates };
            let _: Result<serde_json::Value, _> =
                self.controller.post(api::controller::ALLOC_NEWS, &news, WITHIN).await;
        }
    }

    /// Waits until the state is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&State) -> bool) -> Arc<State> {
        let look = async {
            let mut index = Index(0);
            loop {
                let state = self.replica.state();
                if wanted(&state) {
                    return state;
                }
                index = index.max(state.index());
                self.replica.past(index, Duration::from_millis(500)).await;
            }
        };
        match tokio::time::timeout(WITHIN, look).await {
            Ok(state) => state,
            Err(_) => panic!("not in time: {what}"),
        }
    }
}

fn identity(dir: &tempfile::TempDir, authority: &Authority, seed: SocketAddr, role: Role, name: &str) -> Settings {
    let home = dir.path().join(name);
    authority.write_identity(home.join("identity"), role, name, "global", LIFETIME).unwrap();
    Settings {
        data_dir: home.join("data"),
        identity_dir: home.join("identity"),
        join: vec![seed.to_string()],
        ..Settings::default()
    }
}
