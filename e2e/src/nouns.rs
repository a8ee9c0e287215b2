//! Nodes and jobs to test with.

use model::{Evaluation, Job, Node, NodeId};
use serde_json::json;

/// A node with the mock driver and this much room.
pub fn node(n: usize, cpu: i64, memory_mb: i64) -> Node {
    let id = format!("{n:08x}-0000-4000-8000-000000000000");
    let mut node: Node = serde_json::from_value(json!({
        "ID": id, "SecretID": id, "Name": format!("node-{n}"), "Datacenter": "dc1", "NodePool": "default",
        "Status": "initializing", "SchedulingEligibility": "eligible", "HTTPAddr": "127.0.0.1:1",
        "Attributes": {"driver.mock_driver": "1", "kernel.name": "linux"},
        "Drivers": {"mock_driver": {"Detected": true, "Healthy": true}},
        "NodeResources": {
            "Cpu": {"CpuShares": cpu, "TotalCpuCores": 4}, "Memory": {"MemoryMB": memory_mb}, "Disk": {"DiskMB": 100_000},
            "Networks": [{"Device": "lo", "IP": "127.0.0.1", "Mode": "host"}],
            "NodeNetworks": [{"Mode": "host", "Device": "lo", "Speed": 1000,
                "Addresses": [{"Family": "ipv4", "Alias": "default", "Address": "127.0.0.1"}]}],
            "MinDynamicPort": 20_000, "MaxDynamicPort": 32_000,
        },
        "ReservedResources": {"Cpu": {}, "Memory": {}, "Disk": {}, "Networks": {}},
    }))
    .unwrap();
    node.computed_class = node.computed_class();
    node
}

pub fn node_id(n: usize) -> NodeId {
    node(n, 1, 1).id
}

/// A canonical job of `count` mock tasks.
pub fn job(id: &str, kind: &str, count: i64, cpu: i64) -> Job {
    let mut job: Job = serde_json::from_value(json!({
        "ID": id, "Name": id, "Type": kind, "Datacenters": ["*"],
        "TaskGroups": [{
            "Name": "g", "Count": count, "EphemeralDisk": {"SizeMB": 10},
            "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}],
            "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "1h"},
                "Resources": {"CPU": cpu, "MemoryMB": 10}}],
        }],
    }))
    .unwrap();
    job.canonicalize();
    job
}

/// The evaluation that registering it creates.
pub fn eval(job: &Job) -> Evaluation {
    let (namespace, job_id) = job.key();
    let now = client::clock::unix_nanos();
    Evaluation {
        id: client::state::new_uuid().into(),
        namespace,
        job_id,
        priority: job.priority(),
        kind: job.kind_text().to_owned(),
        triggered_by: "job-register".to_owned(),
        create_time: now,
        modify_time: now,
        ..Evaluation::default()
    }
}
