//! The settings of a machine, as types: what a file may say, what holds if it does not, and what it means.
//! `docs/configuration.md` is made from these.

mod client;
mod server;
mod shared;

pub use client::{Client, ClientJoin, DrainOnShutdown, HostNetwork, HostVolume, Reserved};
pub use server::{ClientIntroduction, Preemption, RejectionTracker, SchedulerConfig, Server, ServerJoin};
pub use shared::{Acl, Addresses, Advertise, Autopilot, Limits, Plugin, Ports, Telemetry, TlsFiles, Ui, Vault};

use std::collections::BTreeMap;

use crate::decode::{Labelled, settings};

fn text(text: &str) -> String {
    text.to_owned()
}

settings! {
    /// One machine: who it is, where it listens, and which parts of a cluster it runs.
    Config "" {
        /// Name of the machine; the host's unless given.
        name: Option<String> = None,
        /// Region of the cluster.
        region: String = text("global"),
        /// Datacenter of the machine.
        datacenter: String = text("dc1"),
        /// Directory for everything the machine keeps; an absolute path. Required, except with `-dev`.
        data_dir: Option<String> = None,
        /// IP address that listeners bind to unless `addresses` says otherwise. When neither is said, agents and servers are listened for on all addresses, and the public API on 127.0.0.1 only. `{{ GetPrivateIP }}` and `{{ GetInterfaceIP "eth0" }}` are looked up.
        bind_addr: Option<String> = None,
        /// Ports of the listeners.
        ports: Ports = Ports::default(),
        /// IP addresses that single listeners bind to.
        addresses: Addresses = Addresses::default(),
        /// IP addresses that others reach this machine at, when they are not the bound ones.
        advertise: Advertise = Advertise::default(),
        /// The control plane's part of a machine.
        server: Server = Server::default(),
        /// The node agent's part of a machine.
        client: Client = Client::default(),
        /// Who may do what.
        acl: Acl = Acl::default(),
        /// Certificates of the operator's.
        tls: TlsFiles = TlsFiles::default(),
        /// What callers may take up.
        limits: Limits = Limits::default(),
        /// How the group of servers looks after itself, from when the cluster is founded.
        autopilot: Option<Autopilot> = None,
        /// Headers of every answer of the public API, by name.
        http_api_response_headers: BTreeMap<String, String> = BTreeMap::new(),
        /// `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `OFF`, or a filter such as `info,kit=debug`. Read again on SIGHUP.
        log_level: String = text("INFO"),
        /// Log lines as JSON.
        log_json: bool = false,
        /// File for log lines, besides standard error; with a slash at its end, a directory for `steppe.log`.
        log_file: String = String::new(),
        /// Begin another log file after this time.
        log_rotate_duration: model::Nanos = model::Nanos::from_secs(86_400),
        /// Begin another log file after this many bytes; 0 = no limit.
        log_rotate_bytes: u64 = 0,
        /// Older log files that are kept; 0 = all, -1 = none.
        log_rotate_max_files: i64 = 0,
        /// Log lines to the system's log, too.
        enable_syslog: bool = false,
        /// Facility of lines in the system's log.
        syslog_facility: String = text("LOCAL0"),
        /// On an interrupt (Ctrl-C) the machine leaves: its server gives up its vote, its node is drained if `drain_on_shutdown` says so. Otherwise it only ends, and is expected back.
        leave_on_interrupt: bool = false,
        /// The same on SIGTERM.
        leave_on_terminate: bool = false,
        /// Answer `/v1/agent/host` and `/v1/agent/pprof/cmdline`, and say of the other profiles why there are none; 403 otherwise. With `-dev` always.
        enable_debug: bool = false,
        /// Accepted; there is no such check.
        disable_update_check: bool = false,
        /// Accepted; there is no such signature.
        disable_anonymous_signature: bool = false,
        /// Metrics. They are always served, at `/v1/metrics`.
        telemetry: Telemetry = Telemetry::default(),
        /// Settings of task drivers, by name: `plugin "raw_exec" { config { enabled = true } }`.
        plugin: Labelled<Plugin> = Labelled::default(),
        /// The web interface.
        ui: Ui = Ui::default(),
        /// Secrets from Vault. Accepted while it is not enabled.
        vault: Vault = Vault::default(),
    }
}
