//! One node with one allocation, and a driver that can be killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use driver::cgroup::Limits;
use driver::contract::{Around, Driver as _, LogSettings, TaskConfig, new_task_id};
use driver::docker::{Docker, Options};
use driver::taskdir::AllocDirs;
use model::AllocId;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::engine;

pub const WAIT: Duration = Duration::from_secs(60);

pub fn image() -> String {
    format!("steppe-test/busybox:{}", std::process::id())
}

pub struct Host {
    pub base: tempfile::TempDir,
    pub node: String,
    pub alloc_id: String,
    pub alloc: AllocDirs,
    pub options: Value,
    pub runtime: Option<Runtime>,
    pub driver: Option<Docker>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Host {
    pub fn new(options: Value) -> Self {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let (node, alloc_id) = (
            format!("node-{}-{n}", std::process::id()),
            format!("5f1c2d3e-0000-0000-{n:04}-{:012}", std::process::id()),
        );
        let base = tempfile::tempdir().unwrap();
        let alloc = AllocDirs::new(base.path(), &alloc_id).unwrap();
        alloc.build().unwrap();
        let mut host = Self { base, node, alloc_id, alloc, options, runtime: None, driver: None };
        host.begin();
        host
    }

    pub fn begin(&mut self) {
        self.begin_with(Options::parse(self.options.clone()).unwrap());
    }

    pub fn begin_with(&mut self, options: Options) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let driver = runtime.block_on(Docker::new(options, &self.node)).unwrap();
        self.driver = Some(driver.with_memory(self.base.path().join("images.json")));
        self.runtime = Some(runtime);
    }

    /// As `kill -9`: nothing is said to anybody.
    pub fn die(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        self.driver = None;
    }

    pub fn driver(&self) -> &Docker {
        self.driver.as_ref().unwrap()
    }

    /// The engine is looked at once when the driver begins, and an engine that is busy may not answer then.
    pub fn finds_engine(&self) {
        eventually("the engine is found", || self.driver().fingerprint().healthy);
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(WAIT, work).await.expect("in time") };
        self.runtime.as_ref().unwrap().block_on(limited)
    }

    pub fn task(&self, name: &str, config: Value) -> TaskConfig {
        let mut config = config.as_object().unwrap().clone();
        config.entry("image").or_insert(json!(image()));
        let alloc_id = AllocId::from(self.alloc_id.as_str());
        let dirs = self.alloc.task(name).unwrap();
        dirs.build(1).unwrap();
        TaskConfig {
            task_id: new_task_id(&alloc_id, name),
            alloc_id,
            task: name.to_owned(),
            config,
            env: BTreeMap::from([("NOMAD_TASK_DIR".to_owned(), "/local".to_owned())]),
            user: String::new(),
            limits: Limits { cpu_mhz: 100, memory_mib: 32, memory_max_mib: 0 },
            dirs,
            logs: Some(LogSettings { max_files: 50, max_file_bytes: 1 << 20 }),
            around: Around { names: BTreeMap::from([("node_id", self.node.clone())]), ..Around::default() },
        }
    }

    pub fn sh(&self, name: &str, script: &str) -> TaskConfig {
        self.task(name, json!({"command": "/bin/sh", "args": ["-c", script]}))
    }

    pub fn start(&self, task: TaskConfig) -> driver::Handle {
        self.run(self.driver().start(task)).unwrap()
    }

    pub fn output(&self, stem: &str) -> String {
        let mut files: Vec<(u64, PathBuf)> = fs::read_dir(self.alloc.logs())
            .unwrap()
            .flatten()
            .filter_map(|e| {
                let file = e.file_name().into_string().ok()?;
                Some((file.strip_prefix(stem)?.strip_prefix('.')?.parse().ok()?, e.path()))
            })
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    pub fn name(&self, task: &str) -> String {
        format!("{task}-{}", self.alloc_id)
    }

    pub fn destroy(&self, handle: &driver::Handle) {
        self.run(self.driver().destroy(&handle.task_id, true)).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        engine::remove_labelled(&format!("com.hashicorp.nomad.alloc_id={}", self.alloc_id));
        let _ = self.alloc.destroy();
        let _ = &self.base;
    }
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT;
    while !done() {
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
