//! Which processes make up a machine, and how each is told what to do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::Config;
use kit::https::HttpsSettings;
use kit::vouched::VouchingSettings;
use model::autopilot::AutopilotConfiguration;
use model::scheduler_config::{PreemptionConfig, SchedulerConfiguration};
use model::{Nanos, Role};

use super::address::{Places, with_port};
use crate::local::cluster::node_id_file;
use crate::local::plan::Spec;

/// Everything that decides what is started.
#[derive(Clone)]
pub struct Machine {
    pub config: Config,
    pub places: Places,
    pub name: String,
    /// Absolute.
    pub data: PathBuf,
    pub dev: bool,
}

impl Machine {
    /// Where its own log lines are for those who read along.
    pub fn own_log(&self) -> PathBuf {
        self.data.join("machine.log")
    }

    /// Where the control plane's services keep their things.
    pub fn server_dir(&self) -> PathBuf {
        self.config.server.data_dir.as_ref().map_or_else(|| self.data.join("server"), PathBuf::from)
    }

    /// Where the node agent keeps its things.
    pub fn client_dir(&self) -> PathBuf {
        self.config.client.state_dir.as_ref().map_or_else(|| self.data.join("client"), PathBuf::from)
    }

    pub fn ca_dir(&self) -> PathBuf {
        self.server_dir().join("ca")
    }

    /// What `/v1/agent/self` shows of the settings.
    pub fn machine_file(&self) -> PathBuf {
        self.server_dir().join("machine.json")
    }

    /// Address of the public API as this machine reaches it.
    pub fn api(&self) -> String {
        let scheme = if self.config.tls.http { "https" } else { "http" };
        format!("{scheme}://{}", Places::own(self.places.http))
    }

    /// All processes, in the order in which they are started.
    pub fn processes(&self) -> Vec<Spec> {
        let mut all = Vec::new();
        if self.config.server.enabled {
            for role in [Role::State, Role::Broker, Role::Applier, Role::Controller, Role::Scheduler, Role::Gateway] {
                if role == Role::Scheduler && self.config.server.num_schedulers == Some(0) {
                    continue;
                }
                all.push(self.service(role));
            }
        }
        if self.config.client.enabled {
            all.push(self.agent());
        }
        all
    }

    fn spec(&self, role: Role, home: PathBuf, words: Vec<String>) -> Spec {
        Spec { name: role.as_str().to_owned(), role, home, words, log_level: log_filter(&self.config.log_level) }
    }

    /// What every process is told.
    fn common(&self, home: &Path, bind: SocketAddr) -> Words {
        let c = &self.config;
        let mut words = Words::default();
        words.say("region", &c.region);
        words.say("datacenter", &c.datacenter);
        words.say("name", &self.name);
        words.say("identity-dir", home.join("identity").display());
        words.say("bind", bind);
        words.say("advertise", self.places.advertise);
        words.say("log-level-file", level_file(home).display());
        if !self.dev {
            words.say("machine-log", self.own_log().display());
        }
        words.switch("log-json", c.log_json && !self.dev);
        words
    }

    fn service(&self, role: Role) -> Spec {
        let (c, places) = (&self.config, &self.places);
        let home = self.server_dir().join(role.as_str());
        let anywhere = SocketAddr::new(places.rpc.ip(), 0);
        let bind = if role == Role::Gateway { places.rpc } else { anywhere };
        let mut words = self.common(&home, bind);
        words.say("data-dir", home.display());
        let mut join = vec![Places::own(places.serf).to_string()];
        if !self.dev {
            // The other servers' gossip is where this one's is, unless somebody says otherwise.
            join.extend(c.server.join().iter().map(|address| with_port(address, c.ports.serf)));
        }
        words.say("join", join.join(","));
        let gossip = if role == Role::State { places.serf } else { SocketAddr::new(places.serf.ip(), 0) };
        words.say("gossip-bind", gossip);
        match role {
            Role::State => {
                words.say("bootstrap-expect", c.server.bootstrap_expect);
                words.say("ca-dir", self.ca_dir().display());
                words.say("introduction-ttl", span(c.server.client_introduction.default_identity_ttl));
                words.say("introduction-ttl-max", span(c.server.client_introduction.max_identity_ttl));
                words.say("snapshot-after", c.server.raft_snapshot_threshold);
                words.say("root-key-rotation-threshold", span(c.server.root_key_rotation_threshold));
                words.say("root-key-gc-threshold", span(c.server.root_key_gc_threshold));
                words.say("root-key-gc-interval", span(c.server.root_key_gc_interval));
                self.tuning(&mut words);
            }
            Role::Controller => {
                words.say("gc-interval", span(c.server.job_gc_interval));
                words.say("eval-gc-threshold", span(c.server.eval_gc_threshold));
                words.say("batch-eval-gc-threshold", span(c.server.batch_eval_gc_threshold));
                words.say("job-gc-threshold", span(c.server.job_gc_threshold));
                words.say("deployment-gc-threshold", span(c.server.deployment_gc_threshold));
                words.say("node-gc-threshold", span(c.server.node_gc_threshold));
                let s = &c.server;
                words.some("heartbeat-grace", s.heartbeat_grace.map(span));
                words.some("min-heartbeat-ttl", s.min_heartbeat_ttl.map(span));
                words.some("max-heartbeats-per-second", s.max_heartbeats_per_second);
                words.some("failover-heartbeat-ttl", s.failover_heartbeat_ttl.map(span));
            }
            Role::Applier => {
                let tracker = &c.server.plan_rejection_tracker;
                if tracker.enabled {
                    words.say("plan-rejection-threshold", tracker.node_threshold);
                    words.say("plan-rejection-window", span(tracker.node_window));
                }
            }
            Role::Gateway => {
                words.say("http-bind", places.http);
                words.say("machine-file", self.machine_file().display());
                words.switch("enable-debug", c.enable_debug || self.dev);
                if c.client.enabled {
                    words.say("node-id-file", node_id_file(&self.client_dir()).display());
                }
                for also in &places.http_also {
                    words.say("http-also", also);
                }
                words.switch("http-unauthenticated", places.http_exposed());
                self.public(&mut words);
                words.say("rpc-handshake-timeout", span(c.limits.rpc_handshake_timeout));
                words.say("rpc-connections-per-client", c.limits.rpc_max_conns_per_client);
                for rule in &c.telemetry.prefix_filter {
                    words.say("metrics-prefix", rule);
                }
                words.switch("metrics-hidden", !c.telemetry.filter_default);
                words.switch("publish-node-metrics", c.telemetry.publish_node_metrics || self.dev);
                words.switch("publish-allocation-metrics", c.telemetry.publish_allocation_metrics || self.dev);
                words.switch("metrics-without-host", c.telemetry.disable_hostname);
                words.say("statsd-address", &c.telemetry.statsd_address);
                words.say("statsite-address", &c.telemetry.statsite_address);
                words.say("datadog-address", &c.telemetry.datadog_address);
                for tag in &c.telemetry.datadog_tags {
                    words.say("datadog-tag", tag);
                }
                self.https(&mut words);
                self.vouching(&mut words);
                // A purged node comes back by a token only; a machine that tries things out has none.
                words.switch("purge-revokes", !self.dev);
            }
            _ => {}
        }
        self.spec(role, home, words.0)
    }

    /// How the public API is served, if by HTTPS.
    pub fn https_settings(&self) -> HttpsSettings {
        https_settings(&self.config)
    }

    fn https(&self, words: &mut Words) {
        let settings = self.https_settings();
        let files = [
            ("http-cert-file", settings.cert),
            ("http-key-file", settings.key),
            ("http-client-ca-file", settings.client_ca),
        ];
        for (name, file) in files {
            words.say(name, file.map(|f| f.display().to_string()).unwrap_or_default());
        }
        words.switch("http-tls13", settings.tls13);
    }

    /// The operator's certificates by which nodes come in, if they do.
    pub fn vouching_settings(&self) -> VouchingSettings {
        let tls = &self.config.tls;
        let file = |path: &str| tls.rpc.then(|| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)));
        VouchingSettings {
            rpc_cert: file(&tls.cert_file),
            rpc_key: file(&tls.key_file),
            rpc_ca: file(&tls.ca_file),
            rpc_verify_name: tls.rpc && tls.verify_server_hostname,
        }
    }

    fn vouching(&self, words: &mut Words) {
        let settings = self.vouching_settings();
        let files = [
            ("rpc-cert-file", settings.rpc_cert),
            ("rpc-key-file", settings.rpc_key),
            ("rpc-ca-file", settings.rpc_ca),
        ];
        for (name, file) in files {
            words.say(name, file.map(|f| f.display().to_string()).unwrap_or_default());
        }
        words.switch("rpc-verify-name", settings.rpc_verify_name);
    }

    fn agent(&self) -> Spec {
        let (c, client) = (&self.config, &self.config.client);
        let home = self.client_dir();
        let mut words = self.common(&home, SocketAddr::new(self.places.rpc.ip(), 0));
        words.say("data-dir", home.display());
        let alloc_dir = client.alloc_dir.as_ref().map_or_else(|| self.data.join("alloc"), PathBuf::from);
        words.say("alloc-dir", alloc_dir.display());
        words.say("node-name", &self.name);
        if c.server.enabled {
            words.say("gateway", Places::own(self.places.rpc));
        }
        for server in client.join() {
            words.say("gateway", with_port(&server, 4647));
        }
        words.say("node-class", &client.node_class);
        words.say("node-pool", &client.node_pool);
        for (key, value) in &client.meta {
            words.say("meta", format!("{key}={value}"));
        }
        for (name, volume) in &client.host_volume.0 {
            let mode = if volume.read_only { ":ro" } else { "" };
            words.say("host-volume", format!("{name}={}{mode}", volume.path));
        }
        for (name, paths) in &client.device {
            words.say("device", format!("{name}={paths}"));
        }
        words.say("network-interface", &client.network_interface);
        for network in client.host_networks() {
            let keys =
                [("cidr", network.cidr), ("interface", network.interface), ("reserved_ports", network.reserved_ports)];
            let said: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            words.say("host-network", format!("{}:{}", network.name, said.join(";")));
        }
        words.say("bridge-network-name", &client.bridge_network_name);
        words.say("bridge-network-subnet", &client.bridge_network_subnet);
        words.switch("bridge-ports-at-address", !client.bind_wildcard_default_host_network);
        words.say("min-dynamic-port", client.min_dynamic_port);
        words.say("max-dynamic-port", client.max_dynamic_port);
        for (name, number) in [
            ("cpu-total-compute", client.cpu_total_compute),
            ("memory-total-mb", client.memory_total_mb),
            ("disk-total-mb", client.disk_total_mb),
        ] {
            if number > 0 {
                words.say(name, number);
            }
        }
        words.say("reserved-cpu", client.reserved.cpu);
        words.say("reserved-memory-mb", client.reserved.memory);
        words.say("reserved-disk-mb", client.reserved.disk);
        words.say("reserved-ports", &client.reserved.reserved_ports);
        words.say("max-kill-timeout", span(client.max_kill_timeout));
        if !c.server.enabled {
            words.say("http-bind", self.places.http);
            for also in &self.places.http_also {
                words.say("http-also", also);
            }
            words.switch("http-unauthenticated", self.places.http_exposed());
            self.public(&mut words);
            self.https(&mut words);
        }
        words.say("gc-interval", span(client.gc_interval));
        words.say("gc-parallel-destroys", client.gc_parallel_destroys);
        words.say("gc-max-allocs", client.gc_max_allocs);
        words.say("gc-disk-usage-threshold", client.gc_disk_usage_threshold);
        words.say("gc-inode-usage-threshold", client.gc_inode_usage_threshold);
        words.say("cgroup-parent", &client.cgroup_parent);
        words.switch("stop-tasks-on-exit", self.dev);
        if self.dev {
            words.say("stop-tasks-within", "2400ms");
        }
        self.drivers(&mut words);
        self.denied(&mut words);
        self.spec(Role::Agent, home, words.0)
    }

    /// What the public listener is told, whoever has it.
    fn public(&self, words: &mut Words) {
        let c = &self.config;
        words.say("http-handshake-timeout", span(c.limits.https_handshake_timeout));
        words.say("http-connections-per-client", c.limits.http_max_conns_per_client);
        for (name, value) in &c.http_api_response_headers {
            words.say("http-response-header", format!("{name}={value}"));
        }
    }

    /// What a state server is told about the log, and about a cluster that it founds.
    fn tuning(&self, words: &mut Words) {
        let server = &self.config.server;
        words.some("trailing-logs", server.raft_trailing_logs);
        words.say("raft-multiplier", server.raft_multiplier);
        let scheduler = server.default_scheduler_config.as_ref().map(|said| SchedulerConfiguration {
            scheduler_algorithm: said.scheduler_algorithm.clone(),
            preemption_config: PreemptionConfig {
                system_scheduler_enabled: said.preemption_config.system_scheduler_enabled,
                sys_batch_scheduler_enabled: said.preemption_config.sysbatch_scheduler_enabled,
                batch_scheduler_enabled: said.preemption_config.batch_scheduler_enabled,
                service_scheduler_enabled: said.preemption_config.service_scheduler_enabled,
            },
            memory_oversubscription_enabled: said.memory_oversubscription_enabled,
            reject_job_registration: said.reject_job_registration,
            pause_eval_broker: said.pause_eval_broker,
            ..SchedulerConfiguration::default()
        });
        let autopilot = self.config.autopilot.as_ref().map(|said| AutopilotConfiguration {
            cleanup_dead_servers: said.cleanup_dead_servers,
            last_contact_threshold: said.last_contact_threshold,
            max_trailing_logs: said.max_trailing_logs,
            min_quorum: said.min_quorum,
            server_stabilization_time: said.server_stabilization_time,
            ..AutopilotConfiguration::default()
        });
        if scheduler.is_some() || autopilot.is_some() {
            words.say("founding", serde_json::json!({ "scheduler": scheduler, "autopilot": autopilot }));
        }
    }

    /// What tasks are kept from.
    fn denied(&self, words: &mut Words) {
        let c = &self.config;
        for (option, word) in [
            ("driver.allowlist", "driver-allow"),
            ("driver.denylist", "driver-deny"),
            ("env.denylist", "env-deny"),
            ("user.denylist", "user-deny"),
            ("user.checked_drivers", "user-check"),
        ] {
            let said = c.client.options.get(option).map(String::as_str).unwrap_or_default();
            for name in said.split(',').map(str::trim) {
                words.say(word, name);
            }
        }
        let raw_exec = c.plugin.0.get("raw_exec").and_then(|plugin| plugin.config.0.get("denied_envvars"));
        for glob in raw_exec.and_then(|list| list.as_array()).into_iter().flatten().filter_map(|glob| glob.as_str()) {
            words.say("raw-exec-denied-envvars", glob);
        }
    }

    fn drivers(&self, words: &mut Words) {
        let c = &self.config;
        let config = |name: &str| c.plugin.0.get(name).map(|plugin| &plugin.config.0);
        let enabled = |name: &str| config(name).and_then(|c| c.get("enabled")).map(is_true);
        let option = |name: &str| c.client.options.get(name).map(|text| matches!(text.as_str(), "1" | "true"));
        let raw_exec = enabled("raw_exec").or_else(|| option("driver.raw_exec.enable")).unwrap_or(self.dev);
        words.switch("raw-exec", raw_exec);
        if let Some(config) = config("docker") {
            words.say("docker-options", serde_json::Value::Object(config.clone().into_iter().collect()));
        }
        words.switch("mock-driver", enabled("mock_driver").unwrap_or(self.dev));
        for (key, word) in [("denied_host_uids", "raw-exec-denied-uids"), ("denied_host_gids", "raw-exec-denied-gids")]
        {
            if let Some(text) = config("raw_exec").and_then(|c| c.get(key)?.as_str()) {
                words.say(word, text);
            }
        }
    }
}

/// How the public API is served, if by HTTPS.
pub fn https_settings(config: &Config) -> HttpsSettings {
    let tls = &config.tls;
    let file = |path: &str| std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    HttpsSettings {
        cert: tls.http.then(|| file(&tls.cert_file)),
        key: tls.http.then(|| file(&tls.key_file)),
        client_ca: (tls.http && tls.verify_https_client).then(|| file(&tls.ca_file)),
        tls13: tls.http && tls.tls_min_version == "tls13",
    }
}

/// The file in which a process finds the log filter when it is told to look again.
pub fn level_file(home: &Path) -> PathBuf {
    home.join("log-level")
}

/// `INFO` as a filter.
pub fn log_filter(level: &str) -> String {
    level.to_ascii_lowercase()
}

fn is_true(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Bool(b) => *b,
        serde_json::Value::String(text) => matches!(text.as_str(), "1" | "true"),
        other => *other == 1,
    }
}

fn span(span: Nanos) -> String {
    format!("{}ns", span.0)
}

/// Words behind `steppe serve <role>`.
#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    /// `--name=value`, unless there is nothing to say.
    fn say(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push(format!("--{name}={value}"));
        }
    }

    fn some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.say(name, value);
        }
    }

    fn switch(&mut self, name: &str, on: bool) {
        if on {
            self.0.push(format!("--{name}"));
        }
    }
}
