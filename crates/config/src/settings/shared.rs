use model::Nanos;

use super::text;
use crate::decode::{Free, settings};

settings! {
    /// Ports. Several machines run side by side on one host with ports, or addresses, of their own.
    Ports "ports" {
        /// Public API.
        http: u16 = 4646,
        /// Agents and other machines, mutual TLS.
        rpc: u16 = 4647,
        /// Gossip between servers, UDP.
        serf: u16 = 4648,
    }

    /// Where single listeners bind.
    Addresses "addresses" {
        /// Public API; 127.0.0.1 unless this or `bind_addr` is said. Several, with blanks between them: the first is what others are told.
        http: Option<String> = None,
        /// Agents and other machines.
        rpc: Option<String> = None,
        /// Gossip.
        serf: Option<String> = None,
    }

    /// What others are told. An IP address, without a port or with the listener's own.
    Advertise "advertise" {
        /// Public API.
        http: Option<String> = None,
        /// Agents and other machines.
        rpc: Option<String> = None,
        /// Gossip.
        serf: Option<String> = None,
    }

    /// Access control.
    Acl "acl" {
        /// Not built yet: a machine with this refuses to start, rather than run open.
        enabled: bool = false,
    }

    /// Certificates of the operator's. The files are read again when they change, and on SIGHUP; nothing restarts.
    TlsFiles "tls" {
        /// The public API is served by HTTPS, with `cert_file` and `key_file`.
        http: bool = false,
        /// Nodes come in by certificates of the operator's, without a token: set it, with all three files, on servers and on nodes. Between processes and machines there is always mutual TLS, with certificates of the cluster's own authority, which it makes, renews and revokes itself; an operator's certificate is shown once, to get the first of these.
        rpc: bool = false,
        /// Authority of whom `verify_https_client` lets in, and of servers and nodes with `rpc`, PEM.
        ca_file: String = String::new(),
        /// Certificate, PEM.
        cert_file: String = String::new(),
        /// Key of the certificate, PEM.
        key_file: String = String::new(),
        /// Callers of the public API must show a certificate of the authority.
        verify_https_client: bool = false,
        /// With `rpc`: a server's certificate must be for `server.<region>.nomad`, a node's for that or for `client.<region>.nomad`. Otherwise any certificate of the authority will do that is not plainly for people or for another region.
        verify_server_hostname: bool = false,
        /// `tls12` or `tls13`, for the public API. Older versions are refused.
        tls_min_version: String = text("tls12"),
    }

    /// What a stranger may take up of the listeners.
    Limits "limits" {
        /// Longest time for a TLS handshake with the public API, and for the first byte where there is none.
        https_handshake_timeout: Nanos = Nanos::from_secs(5),
        /// Most connections of one address to the public API; 0 = no limit.
        http_max_conns_per_client: u32 = 100,
        /// Longest time for a TLS handshake of an agent or a machine.
        rpc_handshake_timeout: Nanos = Nanos::from_secs(5),
        /// Most connections of one address to the agents' listener, more than 20; no limit, or 0, unless given: a node that passes on its API's requests has many.
        rpc_max_conns_per_client: u32 = 0,
    }

    /// Metrics are always served, at `/v1/metrics`, as JSON and for Prometheus.
    Telemetry "telemetry" {
        /// Accepted; they are always there for Prometheus.
        prometheus_metrics: bool = false,
        /// Give `nomad.client.allocs.*`: what each task of this machine's node uses, asked of the node at each reading. With `-dev` always.
        publish_allocation_metrics: bool = false,
        /// Give `nomad.client.host.*`: what this machine's host uses. With `-dev` always.
        publish_node_metrics: bool = false,
        /// Series carry no label `host`; names never hold it.
        disable_hostname: bool = false,
        /// `host:port` that metrics are sent to by UDP as statsd takes them, every 10 s; from servers, and of this machine.
        statsd_address: String = String::new(),
        /// `host:port` that the same is sent to by TCP, as statsite takes it.
        statsite_address: String = String::new(),
        /// Accepted; the label `host` always holds the machine's name, which is the host's unless another is given.
        use_node_name: bool = false,
        /// `host:port` of a DogStatsD agent: the same, with labels as tags.
        datadog_address: String = String::new(),
        /// Tags, `key:value`, of everything that is sent to `datadog_address`.
        datadog_tags: Vec<String> = Vec::new(),
        /// Accepted; values are read when they are asked for.
        collection_interval: Nanos = Nanos::from_secs(1),
        /// Names of metrics that are shown, `+nomad.raft`, or not, `-nomad.broker`, by how they begin. The longest that fits decides.
        prefix_filter: Vec<String> = Vec::new(),
        /// Whether metrics that `prefix_filter` says nothing of are shown.
        filter_default: bool = true,
    }

    /// The configuration of autopilot in a cluster that is founded, until an operator sets another.
    Autopilot "autopilot" {
        /// Take dead servers out of the group while a majority lives.
        cleanup_dead_servers: bool = true,
        /// A server that has not heard from the leader for longer is not healthy.
        last_contact_threshold: Nanos = Nanos(200_000_000),
        /// A server that lags by more log entries is not healthy.
        max_trailing_logs: u64 = 250,
        /// Never fewer servers than this by taking dead ones out; 0 = no such limit.
        min_quorum: u64 = 0,
        /// A new server is healthy for this long before it votes.
        server_stabilization_time: Nanos = Nanos::from_secs(10),
    }

    /// A task driver.
    Plugin "plugin" {
        /// Settings of the driver.
        config: Free = Free::default(),
    }

    /// The web interface.
    Ui "ui" {
        /// Accepted; there is no web interface yet.
        enabled: bool = true,
    }

    /// Secrets from Vault.
    Vault "vault" {
        /// Not built yet: a machine with this refuses to start.
        enabled: bool = false,
    }
}
