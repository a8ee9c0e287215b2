//! What cannot be, though each key by itself could: found before anything is started.

use base64::Engine as _;

use crate::decode::Notes;
use crate::form;
use crate::settings::Config;
use crate::syntax::Place;
use model::Nanos;
use model::driver_config::{Fault, Wrong, plugin_problems};

/// For what stands in no file.
pub(crate) const NOWHERE: Place = Place { source: usize::MAX, line: 0, column: 0 };
/// Lengths that a gossip key may have.
pub const GOSSIP_KEY_BYTES: [usize; 3] = [16, 24, 32];
/// Drivers that have settings.
const DRIVERS: [&str; 3] = ["raw_exec", "docker", "mock_driver"];

/// Older settings of a node that are obeyed.
const OPTIONS: [&str; 6] = [
    "driver.raw_exec.enable",
    "driver.allowlist",
    "driver.denylist",
    "env.denylist",
    "user.denylist",
    "user.checked_drivers",
];
/// So few connections of an address would not do for a node.
const RPC_CONNECTIONS_MIN: u32 = 20;
/// Headers that belong to the listener.
const OWN_HEADERS: [&str; 4] = ["content-length", "transfer-encoding", "connection", "content-type"];

/// The bytes of a gossip key.
pub fn gossip_key(text: &str) -> Option<Vec<u8>> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    GOSSIP_KEY_BYTES.contains(&bytes.len()).then_some(bytes)
}

struct Check<'a> {
    config: &'a Config,
    notes: &'a mut Notes,
}

pub(crate) fn check(config: &Config, dev: bool, notes: &mut Notes) {
    let mut check = Check { config, notes };
    check.machine(dev);
    check.addresses();
    check.logging();
    check.server();
    check.timing();
    check.client();
    check.drivers();
    check.trust();
    check.limits();
    check.telemetry();
    check.not_obeyed();
}

impl Check<'_> {
    fn no(&mut self, wrong: bool, key: &str, message: impl Into<String>) {
        if wrong {
            self.notes.problem(NOWHERE, key, message);
        }
    }

    fn machine(&mut self, dev: bool) {
        let c = self.config;
        let label = |text: &str| {
            !text.is_empty()
                && text.len() <= 63
                && !text.starts_with('-')
                && !text.ends_with('-')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        self.no(!label(&c.region), "region", "it is letters, digits, `-` and `_`, at most 63");
        self.no(!label(&c.datacenter), "datacenter", "it is letters, digits, `-` and `_`, at most 63");
        let name = c.name.as_deref().unwrap_or("x");
        self.no(
            name.len() > 128 || !name.split('.').all(label),
            "name",
            "it is letters, digits, `-` and `_`, in parts joined by dots",
        );
        self.no(
            !c.server.enabled && !c.client.enabled,
            "",
            "neither server nor client is enabled: say `server { enabled = true }`, `client { enabled = true }`, or -dev",
        );
        match &c.data_dir {
            None => self.no(!dev, "data_dir", "it is required, an absolute path"),
            Some(dir) => self.no(!dir.starts_with('/'), "data_dir", format!("`{dir}` is not an absolute path")),
        }
        for (key, dir) in [
            ("server.data_dir", &c.server.data_dir),
            ("client.state_dir", &c.client.state_dir),
            ("client.alloc_dir", &c.client.alloc_dir),
        ] {
            let Some(dir) = dir else { continue };
            self.no(!dir.starts_with('/'), key, format!("`{dir}` is not an absolute path"));
        }
        self.no(c.acl.enabled, "acl.enabled", "access control is not built yet, and the API would be open to anybody");
        self.no(c.vault.enabled, "vault.enabled", "Vault is not built yet");
    }

    fn addresses(&mut self) {
        let c = self.config;
        let ports = [("ports.http", c.ports.http), ("ports.rpc", c.ports.rpc), ("ports.serf", c.ports.serf)];
        for (key, port) in ports {
            self.no(port == 0, key, "it is a port from 1 to 65535");
        }
        self.no(c.ports.http == c.ports.rpc && c.ports.http != 0, "ports.rpc", "it is the same port as ports.http");
        for (key, value) in [
            ("advertise.http", &c.advertise.http),
            ("advertise.rpc", &c.advertise.rpc),
            ("advertise.serf", &c.advertise.serf),
        ] {
            let Some(value) = value else { continue };
            self.no(value.trim().is_empty(), key, "it is an IP address, not nothing");
            let looked_up = value.trim().starts_with("{{");
            if let Err(wrong) = if looked_up { Ok(()) } else { form::host_and_port(value.trim()) } {
                self.no(!value.trim().is_empty(), key, wrong);
            }
        }
    }

    fn logging(&mut self) {
        let c = self.config;
        let is_filter = c.log_level.contains([',', '=']);
        let known = ["trace", "debug", "info", "warn", "error", "off"];
        self.no(
            !is_filter && !known.contains(&c.log_level.to_ascii_lowercase().as_str()),
            "log_level",
            format!("`{}` is none of TRACE, DEBUG, INFO, WARN, ERROR, OFF", c.log_level),
        );
        let facility = c.syslog_facility.to_ascii_uppercase();
        self.no(
            !matches!(facility.as_str(), "USER" | "DAEMON")
                && !facility.strip_prefix("LOCAL").is_some_and(|n| matches!(n.parse(), Ok(0_u8..=7))),
            "syslog_facility",
            "it is USER, DAEMON, or LOCAL0 to LOCAL7",
        );
        self.no(c.log_rotate_max_files < -1, "log_rotate_max_files", "it is -1, 0 or a number of files");
    }

    fn server(&mut self) {
        let s = &self.config.server;
        if !s.enabled {
            return;
        }
        let join = s.join();
        self.no(
            s.bootstrap_expect == 0 && join.is_empty(),
            "server.bootstrap_expect",
            "it is required, unless server_join says where the cluster is",
        );
        self.no(
            !s.encrypt.is_empty() && gossip_key(&s.encrypt).is_none(),
            "server.encrypt",
            "it is 32, 24 or 16 bytes in base64; make one with `steppe operator gossip keyring generate`",
        );
        self.no(
            s.encrypt.is_empty() && (s.bootstrap_expect > 1 || !join.is_empty()),
            "server.encrypt",
            "it is required when there is more than one server, the same on each; make one with \
             `steppe operator gossip keyring generate`",
        );
        self.no(
            gossip_key(&s.encrypt).is_some_and(|key| key.iter().all(|byte| *byte == 0)),
            "server.encrypt",
            "it is the example's placeholder, which everybody knows; make one of your own with \
             `steppe operator gossip keyring generate`",
        );
        self.no(s.bootstrap_expect > 9, "server.bootstrap_expect", "more than 9 servers make nothing safer");
        for address in &join {
            self.no(
                address.contains("provider="),
                "server.server_join",
                "finding servers by a cloud's tags is not built yet; name addresses",
            );
        }
        self.others("server.server_join", &join);
        self.no(s.raft_protocol != 3, "server.raft_protocol", "it is 3");
        self.no(s.raft_snapshot_threshold == 0, "server.raft_snapshot_threshold", "it is at least 1");
        let intro = &s.client_introduction;
        self.no(
            intro.default_identity_ttl > intro.max_identity_ttl,
            "server.client_introduction.default_identity_ttl",
            "it is longer than max_identity_ttl",
        );
        if let Some(scheduler) = &s.default_scheduler_config {
            self.no(
                !matches!(scheduler.scheduler_algorithm.as_str(), "binpack" | "spread"),
                "server.default_scheduler_config.scheduler_algorithm",
                "it is binpack or spread",
            );
        }
    }

    /// Addresses of other machines.
    fn others(&mut self, key: &str, addresses: &[String]) {
        for address in addresses.iter().filter(|address| !address.contains("provider=")) {
            if let Err(wrong) = form::host_and_port(address) {
                self.no(true, key, wrong);
            }
        }
    }

    /// What is kept back of totals that the file itself says.
    fn reserved(&mut self) {
        let c = self.config;
        for (key, kept, total, unit) in [
            ("client.reserved.cpu", c.client.reserved.cpu, c.client.cpu_total_compute, "MHz"),
            ("client.reserved.memory", c.client.reserved.memory, c.client.memory_total_mb, "MiB"),
            ("client.reserved.disk", c.client.reserved.disk, c.client.disk_total_mb, "MiB"),
        ] {
            let total = u64::try_from(total).unwrap_or(0);
            self.no(total > 0 && kept >= total, key, format!("{kept} {unit} of {total} leave nothing for tasks"));
        }
    }

    fn timing(&mut self) {
        let s = &self.config.server;
        self.no(!(1..=10).contains(&s.raft_multiplier), "server.raft_multiplier", "it is from 1 to 10");
        let ttl = s.min_heartbeat_ttl.is_some_and(|ttl| ttl < Nanos::from_secs(1));
        self.no(ttl, "server.min_heartbeat_ttl", "it is at least 1s");
        let rate = s.max_heartbeats_per_second.is_some_and(|rate| !(0.01..=1e6).contains(&rate));
        self.no(rate, "server.max_heartbeats_per_second", "it is from 0.01 to 1000000");
    }

    fn limits(&mut self) {
        let limits = &self.config.limits;
        self.no(
            (1..=RPC_CONNECTIONS_MIN).contains(&limits.rpc_max_conns_per_client),
            "limits.rpc_max_conns_per_client",
            format!("it is 0, or more than {RPC_CONNECTIONS_MIN}"),
        );
        for (name, value) in &self.config.http_api_response_headers {
            let key = format!("http_api_response_headers.{name}");
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            self.no(name.is_empty() || !name.bytes().all(token), &key, "it is no name of a header");
            let own = OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str());
            self.no(own, &key, "every answer has its own");
            self.no(!value.bytes().all(|b| (32..127).contains(&b)), &key, "it is printable ASCII");
        }
    }

    fn telemetry(&mut self) {
        for rule in &self.config.telemetry.prefix_filter {
            let wrong = !rule.starts_with(['+', '-']) || rule.len() < 2;
            self.no(
                wrong,
                "telemetry.prefix_filter",
                format!("`{rule}` begins with neither + nor -, or is nothing else"),
            );
        }
    }

    fn client(&mut self) {
        let (c, server) = (&self.config.client, self.config.server.enabled);
        if !c.enabled {
            return;
        }
        self.no(
            !server && c.join().is_empty(),
            "client.servers",
            "it is required on a machine that is not a server itself",
        );
        self.others("client.servers", &c.join());
        if let Err(wrong) = model::host_network::check_ports(&c.reserved.reserved_ports) {
            self.no(true, "client.reserved.reserved_ports", wrong);
        }
        self.reserved();
        self.no(
            c.min_dynamic_port > c.max_dynamic_port,
            "client.min_dynamic_port",
            format!("{} to {} is no range of ports", c.min_dynamic_port, c.max_dynamic_port),
        );
        let pool = &c.node_pool;
        let fits = !pool.is_empty()
            && pool.len() <= 128
            && pool.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        self.no(!fits, "client.node_pool", "it is letters, digits, `-` and `_`, at most 128");
        self.no(pool == "all", "client.node_pool", "no node is in pool `all` by its own word: every node is");
        for (name, volume) in &c.host_volume.0 {
            let key = format!("client.host_volume \"{name}\".path");
            self.no(!volume.path.starts_with('/'), &key, "it is required, an absolute path");
        }
        for network in c.host_networks() {
            let key = format!("client.host_network \"{}\"", network.name);
            let dotted = |at: &str| if at.is_empty() { key.clone() } else { format!("{key}.{at}") };
            if let Some((at, wrong)) = network.problem() {
                self.no(true, &dotted(at), wrong);
            }
            if let Err(wrong) = model::host_network::check_ports(&network.reserved_ports) {
                self.no(true, &dotted("reserved_ports"), wrong);
            }
        }
        for (name, paths) in &c.device {
            let named = name.split('/').count() == 3 && name.split('/').all(|part| !part.trim().is_empty());
            let fine = |path: &str| path.trim().starts_with("/dev/") && !path.contains("..");
            let text = "it is \"vendor/type/name\" = \"/dev/a,/dev/b\"";
            self.no(!named || !paths.split(',').all(fine), &format!("client.device {name:?}"), text);
        }
        for (key, percent) in [
            ("client.gc_disk_usage_threshold", c.gc_disk_usage_threshold),
            ("client.gc_inode_usage_threshold", c.gc_inode_usage_threshold),
        ] {
            self.no(!(0.0..=100.0).contains(&percent), key, "it is a percentage from 0 to 100");
        }
        for (key, number) in [
            ("client.cpu_total_compute", c.cpu_total_compute),
            ("client.memory_total_mb", c.memory_total_mb),
            ("client.disk_total_mb", c.disk_total_mb),
        ] {
            self.no(number < 0, key, "it is not negative");
        }
        self.no(c.gc_interval < Nanos::from_secs(1), "client.gc_interval", "it is at least 1s");
        self.no(c.gc_parallel_destroys == 0, "client.gc_parallel_destroys", "it is at least 1");
    }

    fn drivers(&mut self) {
        for (name, plugin) in &self.config.plugin.0 {
            let key = format!("plugin \"{name}\"");
            if !DRIVERS.contains(&name.as_str()) {
                self.notes.warning(NOWHERE, &key, "this driver is not built yet, and its settings have no effect");
            }
            for Wrong { place, what } in plugin_problems(name, &plugin.config.0) {
                let key = format!("{key}.config.{place}");
                match what {
                    Fault::Unknown(near) => {
                        let hint = near.map(|near| format!("did you mean `{near}`?"));
                        self.notes.problem_with(NOWHERE, &key, "there is no such key", hint);
                    }
                    Fault::Must(text) => self.notes.problem(NOWHERE, &key, format!("it must be {text}")),
                }
            }
        }
    }

    fn trust(&mut self) {
        let tls = &self.config.tls;
        for (key, file) in [("tls.cert_file", &tls.cert_file), ("tls.key_file", &tls.key_file)] {
            self.no(tls.http && file.is_empty(), key, "it is required with tls.http");
        }
        for (key, file) in
            [("tls.ca_file", &tls.ca_file), ("tls.cert_file", &tls.cert_file), ("tls.key_file", &tls.key_file)]
        {
            self.no(tls.rpc && file.is_empty(), key, "it is required with tls.rpc");
        }
        self.no(
            tls.verify_https_client && tls.ca_file.is_empty(),
            "tls.ca_file",
            "it is required with tls.verify_https_client",
        );
        self.no(
            !matches!(tls.tls_min_version.as_str(), "tls12" | "tls13"),
            "tls.tls_min_version",
            "it is tls12 or tls13; older ones are not offered",
        );
        self.no(tls.verify_https_client && !tls.http, "tls.verify_https_client", "it needs tls.http");
    }

    /// Settings that are read and that nothing does yet: nobody should believe that they work.
    fn not_obeyed(&mut self) {
        let unknown = self.config.client.options.keys().filter(|key| !OPTIONS.contains(&key.as_str()));
        for key in unknown {
            self.notes.warning(NOWHERE, &format!("client.options.{key}"), "is not built yet and has no effect");
        }
    }
}
