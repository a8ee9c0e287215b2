use std::collections::BTreeMap;

use model::Nanos;

use super::text;
use crate::decode::settings;

fn minutes(n: i64) -> Nanos {
    Nanos::from_secs(n * 60)
}

settings! {
    /// The control plane: state server, broker, scheduler, applier, controller, gateway.
    Server "server" {
        /// Run the control plane's services on this machine.
        enabled: bool = false,
        /// How many servers found the cluster; each of them says the same number. 0 = only join one that is there.
        bootstrap_expect: u32 = 0,
        /// Directory for the services' data; `server` in `data_dir` unless given.
        data_dir: Option<String> = None,
        /// Key that seals gossip, base64 of 32, 24 or 16 bytes, from `steppe operator gossip keyring generate`. Required when there is more than one server: whoever has it can be a server.
        encrypt: String = String::new(),
        /// Where the other servers are.
        server_join: ServerJoin = ServerJoin::default(),
        /// Older form of `server_join`.
        start_join: Vec<String> = Vec::new(),
        /// Older form of `server_join`.
        retry_join: Vec<String> = Vec::new(),
        /// Older form of `server_join`.
        retry_max: u32 = 0,
        /// Older form of `server_join`.
        retry_interval: Nanos = Nanos::from_secs(30),
        /// Accepted; a server that comes back always joins again.
        rejoin_after_leave: bool = false,
        /// Accepted; there is one protocol.
        raft_protocol: u32 = 3,
        /// Log entries after which a snapshot is built.
        raft_snapshot_threshold: u64 = 8_192,
        /// 0: no scheduler on this machine. There is one process otherwise, which is as fast as several of the reference's.
        num_schedulers: Option<u32> = None,
        /// Log entries that stay behind a snapshot, for servers that lag a little; 4096 unless given.
        raft_trailing_logs: Option<u64> = None,
        /// From 1 to 10: how many times as long as usual servers wait before they take their leader for dead.
        raft_multiplier: u32 = 1,
        /// Accepted; the log is looked at with every entry.
        raft_snapshot_interval: Nanos = Nanos::from_secs(120),
        /// Time that a node may be silent for beyond its time to live; none unless given.
        heartbeat_grace: Option<Nanos> = None,
        /// Shortest time to live of a node; 5 s, or three beats, unless given.
        min_heartbeat_ttl: Option<Nanos> = None,
        /// Most beats of all nodes together in a second: many nodes beat less often. 2000 unless given.
        max_heartbeats_per_second: Option<f64> = None,
        /// Time that every node has to be heard of after another server began to watch them; one time to live and a beat unless given.
        failover_heartbeat_ttl: Option<Nanos> = None,
        /// Nodes on which plans keep failing.
        plan_rejection_tracker: RejectionTracker = RejectionTracker::default(),
        /// How nodes' introduction tokens are made.
        client_introduction: ClientIntroduction = ClientIntroduction::default(),
        /// What the scheduler's configuration is when the cluster is founded.
        default_scheduler_config: Option<SchedulerConfig> = None,
        /// Age at which a node that is down is removed.
        node_gc_threshold: Nanos = minutes(24 * 60),
        /// Pause between looks at what may be removed.
        job_gc_interval: Nanos = minutes(5),
        /// Age at which a job that is over is removed.
        job_gc_threshold: Nanos = minutes(4 * 60),
        /// Age at which an evaluation that is over is removed.
        eval_gc_threshold: Nanos = minutes(60),
        /// The same for evaluations of batch jobs.
        batch_eval_gc_threshold: Nanos = minutes(24 * 60),
        /// Age at which a deployment that is over is removed.
        deployment_gc_threshold: Nanos = minutes(60),
        /// How long a root key signs. The next one is published after half of it.
        root_key_rotation_threshold: Nanos = minutes(720 * 60),
        /// How long a root key that signs no more is kept although nothing needs it.
        root_key_gc_threshold: Nanos = minutes(60),
        /// Pause between looks at root keys, at least 1s.
        root_key_gc_interval: Nanos = minutes(10),
    }

    /// Addresses of other servers' gossip, `host` or `host:port`; without a port, that of this machine's `ports { serf }`. They are tried again and again until one answers.
    ServerJoin "server.server_join" {
        /// Addresses.
        retry_join: Vec<String> = Vec::new(),
        /// Further addresses; there is no difference.
        start_join: Vec<String> = Vec::new(),
        /// Accepted; there is no limit.
        retry_max: u32 = 0,
        /// Accepted; they are asked each second.
        retry_interval: Nanos = Nanos::from_secs(30),
    }

    /// A node on which plans keep failing is made ineligible: at most ten at once, one more every six minutes.
    RejectionTracker "server.plan_rejection_tracker" {
        /// Do so.
        enabled: bool = false,
        /// Plans that failed on it within the window.
        node_threshold: u32 = 100,
        /// The window.
        node_window: Nanos = minutes(5),
    }

    /// Introduction tokens, `steppe node intro create`.
    ClientIntroduction "server.client_introduction" {
        /// How long a token may be used, unless its maker says.
        default_identity_ttl: Nanos = minutes(5),
        /// Longest time a token may be used.
        max_identity_ttl: Nanos = minutes(30),
    }

    /// The scheduler's configuration of a cluster that is founded, until an operator sets another.
    SchedulerConfig "server.default_scheduler_config" {
        /// `binpack` or `spread`.
        scheduler_algorithm: String = text("binpack"),
        /// Grant `memory_max`.
        memory_oversubscription_enabled: bool = false,
        /// Refuse new jobs.
        reject_job_registration: bool = false,
        /// Hand out no evaluations.
        pause_eval_broker: bool = false,
        /// Which jobs may displace others.
        preemption_config: Preemption = Preemption::default(),
    }

    /// Which jobs may displace others.
    Preemption "server.default_scheduler_config.preemption_config" {
        /// System jobs.
        system_scheduler_enabled: bool = true,
        /// Sysbatch jobs.
        sysbatch_scheduler_enabled: bool = false,
        /// Batch jobs.
        batch_scheduler_enabled: bool = false,
        /// Service jobs.
        service_scheduler_enabled: bool = false,
    }
}

impl Server {
    /// All addresses of other servers, in whichever form they were given.
    pub fn join(&self) -> Vec<String> {
        let lists = [&self.server_join.retry_join, &self.server_join.start_join, &self.retry_join, &self.start_join];
        let mut all = Vec::new();
        for address in lists.into_iter().flatten() {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    /// The thresholds for removal by name, as they are passed on.
    pub fn thresholds(&self) -> BTreeMap<&'static str, Nanos> {
        BTreeMap::from([
            ("node-gc-threshold", self.node_gc_threshold),
            ("job-gc-interval", self.job_gc_interval),
            ("job-gc-threshold", self.job_gc_threshold),
            ("eval-gc-threshold", self.eval_gc_threshold),
            ("batch-eval-gc-threshold", self.batch_eval_gc_threshold),
            ("deployment-gc-threshold", self.deployment_gc_threshold),
            ("root-key-rotation-threshold", self.root_key_rotation_threshold),
            ("root-key-gc-threshold", self.root_key_gc_threshold),
            ("root-key-gc-interval", self.root_key_gc_interval),
        ])
    }
}
