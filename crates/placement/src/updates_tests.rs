//! Field by field: what a running allocation takes over, and what it cannot.

use model::Job;
use serde_json::{Value, json};

use super::destructive;

/// A job with something of everything, in the wire form.
fn base() -> Value {
    json!({
        "ID": "j", "Name": "j", "Type": "service", "Priority": 50, "Meta": {"m": "1"},
        "TaskGroups": [{
            "Name": "g", "Count": 1, "Meta": {"m": "1"},
            "EphemeralDisk": {"SizeMB": 300},
            "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http", "To": 80}], "ReservedPorts": [{"Label": "ssh", "Value": 22}]}],
            "Services": [
                {"Name": "plain", "PortLabel": "http", "Tags": ["a"]},
                {"Name": "mesh", "PortLabel": "http", "Connect": {"SidecarService": {"Port": "9000", "Tags": ["a"]}}}
            ],
            "Consul": {"Namespace": "one", "Cluster": "c1"},
            "Tasks": [{
                "Name": "t", "Driver": "mock_driver", "User": "u", "Config": {"a": "1"}, "Env": {"E": "1"}, "Meta": {"m": "1"},
                "KillTimeout": 5_000_000_000_i64,
                "Resources": {"CPU": 500, "MemoryMB": 256},
                "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1}
            }]
        }]
    })
}

/// The job with one value put in place, below what the pointer names.
fn with(pointer: &str, key: &str, value: &Value) -> Value {
    let mut job = base();
    job.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}"))[key] = value.clone();
    job
}

fn needs_replacement(old: &Value, new: &Value) -> bool {
    let read = |value: &Value| serde_json::from_value::<Job>(value.clone()).unwrap();
    destructive(&read(old), &read(new), "g")
}

const GROUP: &str = "/TaskGroups/0";
const NETWORK: &str = "/TaskGroups/0/Networks/0";
const MESH: &str = "/TaskGroups/0/Services/1";
const TASK: &str = "/TaskGroups/0/Tasks/0";
const RESOURCES: &str = "/TaskGroups/0/Tasks/0/Resources";

#[test]
fn util_005_each_of_these_fields_needs_a_new_allocation() {
    let task = base().pointer(TASK).unwrap().clone();
    let rows = [
        (GROUP, "Tasks", json!([task, {"Name": "u", "Driver": "mock_driver"}])),
        (GROUP, "Tasks", json!([{"Name": "renamed", "Driver": "mock_driver"}])),
        (GROUP, "EphemeralDisk", json!({"SizeMB": 301})),
        (GROUP, "EphemeralDisk", json!({"SizeMB": 300, "Sticky": true})),
        (GROUP, "EphemeralDisk", json!({"SizeMB": 300, "Migrate": true})),
        (GROUP, "Networks", json!([])),
        (NETWORK, "Mode", json!("bridge")),
        (NETWORK, "MBits", json!(10)),
        (NETWORK, "Hostname", json!("h")),
        (NETWORK, "DNS", json!({"Servers": ["1.1.1.1"]})),
        (NETWORK, "CNI", json!({"Args": {"a": "b"}})),
        (NETWORK, "DynamicPorts", json!([{"Label": "web", "To": 80}])),
        (NETWORK, "DynamicPorts", json!([{"Label": "http", "To": 81}])),
        (NETWORK, "DynamicPorts", json!([{"Label": "http", "To": 80, "HostNetwork": "public"}])),
        (NETWORK, "ReservedPorts", json!([{"Label": "ssh", "Value": 23}])),
        (GROUP, "Consul", json!({"Namespace": "two", "Cluster": "c1"})),
        (GROUP, "Consul", json!({"Namespace": "one", "Cluster": "c2"})),
        (GROUP, "Volumes", json!({"v": {"Name": "v", "Type": "host", "Source": "s"}})),
        (TASK, "Driver", json!("docker")),
        (TASK, "User", json!("root")),
        (TASK, "Config", json!({"a": "2"})),
        (TASK, "Env", json!({"E": "2"})),
        (TASK, "Artifacts", json!([{"GetterSource": "http://x"}])),
        (TASK, "Vault", json!({"Policies": ["p"]})),
        (TASK, "Secrets", json!([{"Name": "s", "Provider": "p", "Path": "x"}])),
        (TASK, "Consul", json!({"Namespace": "two"})),
        (TASK, "Templates", json!([{"EmbeddedTmpl": "x"}])),
        (TASK, "CSIPluginConfig", json!({"ID": "p"})),
        (TASK, "VolumeMounts", json!([{"Volume": "v"}])),
        (TASK, "Meta", json!({"m": "2"})),
        (GROUP, "Meta", json!({"n": "2"})),
        ("", "Meta", json!({"n": "2"})),
        (RESOURCES, "CPU", json!(501)),
        (RESOURCES, "Cores", json!(1)),
        (RESOURCES, "MemoryMB", json!(257)),
        (RESOURCES, "MemoryMaxMB", json!(512)),
        (RESOURCES, "SecretsMB", json!(2)),
        (RESOURCES, "Devices", json!([{"Name": "gpu", "Count": 1}])),
        (RESOURCES, "Networks", json!([{"MBits": 1}])),
    ];
    for (at, key, value) in rows {
        assert!(needs_replacement(&base(), &with(at, key, &value)), "{at}/{key} = {value}");
    }
}

#[test]
fn util_006_of_a_mesh_the_running_sidecar_counts_and_its_settings_do_not() {
    for connect in [
        json!({"SidecarService": {"Port": "9000", "Tags": ["b"]}}),
        json!({"SidecarService": {"Port": "9000", "Tags": ["a"], "Proxy": {"LocalServicePort": 1}}}),
    ] {
        assert!(!needs_replacement(&base(), &with(MESH, "Connect", &connect)), "{connect}");
    }
    for connect in [
        json!({"SidecarService": {"Port": "9001", "Tags": ["a"]}}),
        json!({"SidecarService": null, "Native": true}),
        json!({"Native": true, "SidecarService": {"Port": "9000", "Tags": ["a"]}}),
        json!({"Gateway": {"Mesh": {}}, "SidecarService": {"Port": "9000", "Tags": ["a"]}}),
        json!({"SidecarService": {"Port": "9000", "Tags": ["a"]}, "SidecarTask": {"Driver": "docker"}}),
        json!(null),
    ] {
        assert!(needs_replacement(&base(), &with(MESH, "Connect", &connect)), "{connect}");
    }
    assert!(needs_replacement(&base(), &with(MESH, "PortLabel", &json!("ssh"))));
    assert!(needs_replacement(&base(), &with(MESH, "Cluster", &json!("other"))));
    let joins = with("/TaskGroups/0/Services/0", "Connect", &json!({"Native": true}));
    assert!(needs_replacement(&base(), &joins), "a service joins the mesh");
}

#[test]
fn util_007_identities_numa_logs_and_templates_need_a_new_allocation() {
    for (at, key, value) in [
        (TASK, "Identity", json!({"Env": true})),
        (TASK, "Identities", json!([{"Name": "aud", "Audience": ["x"]}])),
        (RESOURCES, "NUMA", json!({"Affinity": "prefer"})),
        (TASK, "LogConfig", json!({"MaxFiles": 1, "MaxFileSizeMB": 1, "Disabled": true})),
        (TASK, "RestartPolicy", json!({"RenderTemplates": true})),
        (GROUP, "RestartPolicy", json!({"RenderTemplates": true})),
    ] {
        assert!(needs_replacement(&base(), &with(at, key, &value)), "{at}/{key} = {value}");
    }
}

#[test]
fn what_running_tasks_do_not_depend_on_is_taken_in_place() {
    let constraint = json!([{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "linux"}]);
    let affinity = json!([{"LTarget": "${node.class}", "Operand": "=", "RTarget": "a", "Weight": 50}]);
    let rows = [
        ("", "Priority", json!(60)),
        ("", "Constraints", constraint.clone()),
        ("", "Affinities", affinity.clone()),
        ("", "Spreads", json!([{"Attribute": "${node.datacenter}", "Weight": 50}])),
        (GROUP, "Count", json!(9)),
        (GROUP, "Constraints", constraint.clone()),
        (GROUP, "Update", json!({"MaxParallel": 3})),
        (GROUP, "ReschedulePolicy", json!({"Attempts": 3})),
        (GROUP, "Migrate", json!({"MaxParallel": 3})),
        (GROUP, "RestartPolicy", json!({"Attempts": 9})),
        (GROUP, "Disconnect", json!({"LostAfter": 60_000_000_000_i64})),
        (GROUP, "Scaling", json!({"Min": 1, "Max": 9})),
        (GROUP, "MaxRunDuration", json!(60_000_000_000_i64)),
        ("/TaskGroups/0/Services/0", "Tags", json!(["b"])),
        ("/TaskGroups/0/Services/0", "Checks", json!([{"Type": "tcp"}])),
        (TASK, "Constraints", constraint),
        (TASK, "Affinities", affinity),
        (TASK, "KillTimeout", json!(9_000_000_000_i64)),
        (TASK, "LogConfig", json!({"MaxFiles": 9, "MaxFileSizeMB": 9})),
        (TASK, "Leader", json!(true)),
        (TASK, "Lifecycle", json!({"Hook": "prestart"})),
        (TASK, "RestartPolicy", json!({"Attempts": 9})),
        (NETWORK, "DynamicPorts", json!([{"Label": "http", "To": 80, "Value": 25_000}])),
    ];
    for (at, key, value) in rows {
        assert!(!needs_replacement(&base(), &with(at, key, &value)), "{at}/{key} = {value}");
    }
    // Metadata is one table to the tasks, wherever it is written.
    assert!(!needs_replacement(&base(), &with(GROUP, "Meta", &json!({}))));
}
