//! A runner with a driver that is made up.

use super::*;
use client::http::Http;
use client::tls::{Identity, Role};
use driver::contract::{Capabilities, Driver, DriverError, ExitResult, Later, TaskConfig, Usage};
use driver::mock::Mock;
use kit::pki::Authority;
use lifecycle::OfNode;
use model::node::DriverInfo;
use model::{Job, Node, TaskStateKind};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::gateways::Gateways;
use crate::host::Parts;
use crate::runner::previous::Elsewhere;
use crate::store::Store;

const DAY: Duration = Duration::from_secs(86_400);
const LIMIT: Duration = Duration::from_secs(20);

/// Tasks of the mock driver that are freed only when it is let, and a word about each start and each freeing.
struct Slow {
    mock: Mock,
    may_free: watch::Receiver<bool>,
    said: mpsc::UnboundedSender<&'static str>,
}

impl Driver for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    fn capabilities(&self) -> Capabilities {
        self.mock.capabilities()
    }
    fn fingerprint(&self) -> DriverInfo {
        self.mock.fingerprint()
    }
    fn validate(&self, config: &Map<String, Value>) -> Result<(), DriverError> {
        self.mock.validate(config)
    }
    fn start(&self, config: TaskConfig) -> Later<'_, Handle> {
        let _ = self.said.send("start");
        self.mock.start(config)
    }
    fn recover(&self, handle: Handle) -> Later<'_, ()> {
        self.mock.recover(handle)
    }
    fn wait<'a>(&'a self, task_id: &'a str) -> Later<'a, ExitResult> {
        self.mock.wait(task_id)
    }
    fn kill<'a>(&'a self, task_id: &'a str, signal: &'a str, timeout: Duration) -> Later<'a, ()> {
        self.mock.kill(task_id, signal, timeout)
    }
    fn signal<'a>(&'a self, task_id: &'a str, signal: &'a str) -> Later<'a, ()> {
        self.mock.signal(task_id, signal)
    }
    fn stats<'a>(&'a self, task_id: &'a str) -> Later<'a, Usage> {
        self.mock.stats(task_id)
    }
    fn destroy<'a>(&'a self, task_id: &'a str, force: bool) -> Later<'a, ()> {
        Box::pin(async move {
            let _ = self.may_free.clone().wait_for(|yes| *yes).await;
            let _ = self.said.send("freed");
            self.mock.destroy(task_id, force).await
        })
    }
}

fn host(dir: &std::path::Path, driver: Slow) -> Arc<Host> {
    let ca = Authority::create(dir.join("ca"), "global").unwrap();
    ca.write_identity(dir.join("id"), Role::Agent, "n", "global", DAY).unwrap();
    let http = Http::new(Identity::load(dir.join("id")).unwrap());
    std::fs::create_dir(dir.join("alloc")).unwrap();
    let (store, _, _) = Store::open(&dir.join("agent.redb")).unwrap();
    Arc::new(Host::new(Parts {
        drivers: [("slow", Arc::new(driver) as Arc<dyn Driver>)].into(),
        cgroups: None,
        cores: Arc::new(driver::cores::Cores::of_host()),
        devices: driver::devices::Devices::default(),
        elsewhere: Elsewhere { http, gateways: Gateways::new(Vec::new()) },
        cgroup_parent: String::new(),
        region: "global".into(),
        alloc_base: dir.join("alloc"),
        node: watch::Sender::new(Arc::new(Node::default())).subscribe(),
        denied: Default::default(),
        removals_max: 1,
        kill_timeout_max: model::Nanos::from_secs(30),
        bridging: Default::default(),
        store,
        outbox: Default::default(),
    }))
}

#[tokio::test]
async fn no_task_of_a_finished_group_is_started_again_before_all_of_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let (free, may_free) = watch::channel(false);
    let (said, mut heard) = mpsc::unbounded_channel();
    let host = host(dir.path(), Slow { mock: Mock::default(), may_free, said });
    let task = |name: &str| json!({"Name": name, "Driver": "slow", "Config": {"run_for": "1ms"}});
    let restart = json!({"Attempts": 0, "Mode": "fail", "Interval": 60_000_000_000_i64, "Delay": 1_000_000});
    let group = json!({"Name": "g", "Count": 1, "RestartPolicy": restart, "Tasks": [task("a"), task("b")]});
    let job = json!({"ID": "j", "Name": "j", "Type": "batch", "TaskGroups": [group]});
    let job: Job = serde_json::from_value(job).unwrap();
    let (id, task_group) = ("00000001-0000-4000-8000-000000000000".into(), "g".into());
    let alloc = Arc::new(Allocation { id, task_group, job: Some(Arc::new(job)), ..Allocation::default() });
    let node = OfNode { kill_timeout_max: host.kill_timeout_max, zone: "UTC" };
    let spec = AllocSpec::new(&alloc, alloc.job.as_deref().unwrap(), node).unwrap();
    let dirs = AllocDirs::new(&host.alloc_base, alloc.id.as_str()).unwrap();

    let (_wanted, wants) = watch::channel(Wanted { alloc: Arc::clone(&alloc), gone: false });
    let (view, mut views) = watch::channel(View::new(&alloc));
    let (asks, asked) = mpsc::channel(asks::ASKS);
    let contact = watch::Sender::new(true).subscribe();
    let channels = Channels { wanted: wants, contact, view, changed: Arc::default(), asks: asked };
    let origin = Origin { host: Arc::clone(&host), alloc, spec, dirs, progress: None, previous: Previous::default() };
    let running = tokio::spawn(Runner::run(origin, channels));

    let both_ended = |view: &View| {
        let dead = view.report.task_states.values().filter(|task| task.state == TaskStateKind::Dead);
        view.finished.is_some() && dead.count() == 2
    };
    tokio::time::timeout(LIMIT, views.wait_for(both_ended)).await.unwrap().unwrap();
    let (answer, answered) = oneshot::channel();
    assert!(asks.send(Ask::Restart { task: None, all: true, answer }).await.is_ok());
    answered.await.unwrap().unwrap();
    // Time for one that does not wait.
    tokio::time::sleep(Duration::from_millis(200)).await;
    free.send_replace(true);
    let mut order = Vec::new();
    while order.len() < 5 {
        order.push(tokio::time::timeout(LIMIT, heard.recv()).await.unwrap().unwrap());
    }
    assert_eq!(order, ["start", "start", "freed", "freed", "start"]);
    host.halt.request();
    running.await.unwrap();
    // What is mounted there goes with it.
    AllocDirs::new(&host.alloc_base, "00000001-0000-4000-8000-000000000000").unwrap().destroy().unwrap();
}
