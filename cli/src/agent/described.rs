//! What `/v1/agent/self` shows of a machine's settings: the reference's names, no secrets.
//!
//! Written when the machine starts, for its gateway. What could be a secret is `<redacted>` when it is set: gossip key, introduction token, settings of plugins.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use config::Config;
use model::node::HostNetworkInfo;
use serde_json::{Map, Value, json};

use super::address::Places;
use super::plan::Machine;

const REDACTED: &str = "<redacted>";

/// # Errors
/// The file cannot be written.
pub fn write(machine: &Machine) -> anyhow::Result<()> {
    if !machine.config.server.enabled {
        return Ok(());
    }
    let path = machine.machine_file();
    let about = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(about)?;
    }
    let text = serde_json::to_vec(&shown(machine)).with_context(about)?;
    files::replace(&path, &text, 0o644).with_context(about)
}

fn shown(machine: &Machine) -> Value {
    let (c, places) = (&machine.config, &machine.places);
    let plugins: Map<String, Value> = c.plugin.0.keys().map(|name| (name.clone(), json!(REDACTED))).collect();
    let advertised = |port: u16| format!("{}:{port}", places.advertise);
    json!({
        "ACL": { "Enabled": c.acl.enabled },
        "Addresses": { "HTTP": places.http.ip(), "RPC": places.rpc.ip(), "Serf": places.serf.ip() },
        "AdvertiseAddrs": {
            "HTTP": Places::own(places.http).to_string(),
            "RPC": advertised(places.rpc.port()),
            "Serf": advertised(places.serf.port()),
        },
        "BindAddr": c.bind_addr.as_deref().unwrap_or("0.0.0.0"),
        "Client": client(c),
        "DataDir": machine.data.display().to_string(),
        "Datacenter": c.datacenter,
        "DevMode": machine.dev,
        "DisableUpdateCheck": c.disable_update_check,
        "EnableDebug": c.enable_debug,
        "EnableSyslog": c.enable_syslog,
        "LeaveOnInt": c.leave_on_interrupt,
        "LeaveOnTerm": c.leave_on_terminate,
        "Limits": {
            "HTTPMaxConnsPerClient": c.limits.http_max_conns_per_client,
            "HTTPSHandshakeTimeout": c.limits.https_handshake_timeout.to_string(),
            "RPCHandshakeTimeout": c.limits.rpc_handshake_timeout.to_string(),
            "RPCMaxConnsPerClient": c.limits.rpc_max_conns_per_client,
        },
        "LogFile": c.log_file,
        "LogJson": c.log_json,
        "LogLevel": c.log_level,
        "LogRotateBytes": c.log_rotate_bytes,
        "LogRotateDuration": c.log_rotate_duration.to_string(),
        "LogRotateMaxFiles": c.log_rotate_max_files,
        "NodeName": machine.name,
        "Plugins": plugins,
        "Ports": { "HTTP": places.http.port(), "RPC": places.rpc.port(), "Serf": places.serf.port() },
        "Region": c.region,
        "Server": server(c),
        "SyslogFacility": c.syslog_facility,
        "TLSConfig": {
            "CAFile": c.tls.ca_file,
            "CertFile": c.tls.cert_file,
            "EnableHTTP": c.tls.http,
            "EnableRPC": c.tls.rpc,
            "KeyFile": c.tls.key_file,
            "TLSMinVersion": c.tls.tls_min_version,
            "VerifyHTTPSClient": c.tls.verify_https_client,
            "VerifyServerHostname": c.tls.verify_server_hostname,
        },
        "Telemetry": {
            "CollectionInterval": c.telemetry.collection_interval.to_string(),
            "DisableHostname": c.telemetry.disable_hostname,
            "PrometheusMetrics": c.telemetry.prometheus_metrics,
            "PublishAllocationMetrics": c.telemetry.publish_allocation_metrics,
            "PublishNodeMetrics": c.telemetry.publish_node_metrics,
        },
    })
}

/// A secret, by whether it is there.
fn secret(text: &str) -> &str {
    if text.is_empty() { "" } else { REDACTED }
}

fn client(config: &Config) -> Value {
    let c = &config.client;
    let all = c.host_volume.0.iter();
    let volumes: Map<String, Value> =
        all.map(|(name, v)| (name.clone(), json!({ "Name": name, "Path": v.path, "ReadOnly": v.read_only }))).collect();
    let networks: BTreeMap<String, HostNetworkInfo> =
        c.host_networks().map(|network| (network.name.clone(), network)).collect();
    json!({
        "AllocDir": c.alloc_dir.as_deref().unwrap_or_default(),
        "BindWildcardDefaultHostNetwork": c.bind_wildcard_default_host_network,
        "BridgeNetworkAllocSubnet": c.bridge_network_subnet,
        "BridgeNetworkName": c.bridge_network_name,
        "CgroupParent": c.cgroup_parent,
        "CpuCompute": c.cpu_total_compute,
        "DiskTotalMB": c.disk_total_mb,
        "Enabled": c.enabled,
        "GCDiskUsageThreshold": c.gc_disk_usage_threshold,
        "GCInodeUsageThreshold": c.gc_inode_usage_threshold,
        "GCInterval": c.gc_interval.0,
        "GCMaxAllocs": c.gc_max_allocs,
        "GCParallelDestroys": c.gc_parallel_destroys,
        "HostNetworks": networks,
        "HostVolumes": volumes,
        "IntroToken": secret(&c.intro_token),
        "MaxDynamicPort": c.max_dynamic_port,
        "MaxKillTimeout": c.max_kill_timeout.to_string(),
        "MemoryMB": c.memory_total_mb,
        "Meta": c.meta,
        "MinDynamicPort": c.min_dynamic_port,
        "NetworkInterface": c.network_interface,
        "NodeClass": c.node_class,
        "NodePool": c.node_pool,
        "Options": c.options,
        "Reserved": {
            "CPU": c.reserved.cpu,
            "DiskMB": c.reserved.disk,
            "MemoryMB": c.reserved.memory,
            "ReservedPorts": c.reserved.reserved_ports,
        },
        "Servers": c.join(),
        "StateDir": c.state_dir.as_deref().unwrap_or_default(),
    })
}

fn server(config: &Config) -> Value {
    let s = &config.server;
    json!({
        "BatchEvalGCThreshold": s.batch_eval_gc_threshold.to_string(),
        "BootstrapExpect": s.bootstrap_expect,
        "ClientIntroduction": {
            "DefaultIdentityTTL": s.client_introduction.default_identity_ttl.0,
            "MaxIdentityTTL": s.client_introduction.max_identity_ttl.0,
        },
        "DataDir": s.data_dir.as_deref().unwrap_or_default(),
        "DeploymentGCThreshold": s.deployment_gc_threshold.to_string(),
        "Enabled": s.enabled,
        "EncryptKey": secret(&s.encrypt),
        "EvalGCThreshold": s.eval_gc_threshold.to_string(),
        "HeartbeatGrace": s.heartbeat_grace.unwrap_or_default().0,
        "JobGCInterval": s.job_gc_interval.to_string(),
        "JobGCThreshold": s.job_gc_threshold.to_string(),
        "MinHeartbeatTTL": s.min_heartbeat_ttl.unwrap_or_default().0,
        "NodeGCThreshold": s.node_gc_threshold.to_string(),
        "NumSchedulers": s.num_schedulers,
        "RaftProtocol": s.raft_protocol,
        "RaftSnapshotThreshold": s.raft_snapshot_threshold,
        "ServerJoin": { "RetryJoin": s.join() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let mut config = Config::default();
        config.server.enabled = true;
        config.server.encrypt = "gossip-secret".to_owned();
        config.client.intro_token = "token-secret".to_owned();
        let places = Places::of(&config, true, &Default::default()).unwrap();
        let machine = Machine { config, places, name: "m".into(), data: "/d".into(), dev: true };
        let text = shown(&machine).to_string();
        assert!(!text.contains("-secret"), "{text}");
        assert_eq!(shown(&machine)["Server"]["EncryptKey"], REDACTED);
        assert_eq!(shown(&machine)["Ports"]["HTTP"], 4646);
    }
}
