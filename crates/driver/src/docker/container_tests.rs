use std::collections::BTreeMap;

use model::alloc::PortMapping;
use serde_json::{Value, json};

use super::*;
use crate::cgroup::Limits;
use crate::contract::Around;
use crate::taskdir::AllocDirs;

const HOST: HostFacts = HostFacts { cgroup_v1: true, cores: 4 };

fn task() -> TaskConfig {
    let names = [("job_id", "j"), ("task_name", "web"), ("task_group_name", "g"), ("node_id", "n1")];
    TaskConfig {
        task_id: "a1/web/0".into(),
        alloc_id: "a1".into(),
        task: "web".into(),
        config: Default::default(),
        env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        user: String::new(),
        limits: Limits { cpu_mhz: 500, memory_mib: 64, memory_max_mib: 0 },
        dirs: AllocDirs::new(std::path::Path::new("/d"), "a1").unwrap().task("web").unwrap(),
        logs: None,
        around: Around {
            names: names.into_iter().map(|(k, v)| (k, v.to_owned())).collect(),
            ports: vec![PortMapping { label: "http".into(), value: 20_001, to: 80, host_ip: "127.0.0.1".into() }],
            node_cpu_mhz: 10_000,
            ..Around::default()
        },
    }
}

fn made_for(task: &TaskConfig, options: Value, config: Value) -> Result<ContainerCreateBody, DriverError> {
    let options = Options::parse(options).unwrap();
    let mut config = config.as_object().unwrap().clone();
    config.insert("image".into(), "i:1".into());
    let config = Config::decode(&config).unwrap();
    request(&options, &config, task, HOST, "i:1", Paths::default())
}

fn made(options: Value, config: Value) -> Result<ContainerCreateBody, DriverError> {
    made_for(&task(), options, config)
}

fn host_of(options: Value, config: Value) -> HostConfig {
    made(options, config).unwrap().host_config.unwrap()
}

#[test]
fn what_is_not_allowed_is_refused_docker_15_docker_16_docker_18_docker_19() {
    for (options, config, word) in [
        (json!({}), json!({"privileged": true}), "privileged"),
        (json!({}), json!({"cap_add": ["net_raw"]}), "net_raw"),
        (json!({}), json!({"cap_add": ["all"]}), "all"),
        (json!({"pids_limit": 10}), json!({"pids_limit": 11}), "pids_limit 11"),
        (json!({}), json!({"pid_mode": "host"}), "pid_mode \"host\""),
        (json!({"allowed_modes": {"pid": ["host"]}}), json!({"ipc_mode": "host"}), "ipc_mode"),
        (json!({}), json!({"runtime": "kata"}), "runtime \"kata\""),
        (json!({}), json!({"memory_hard_limit": 32}), "memory_hard_limit 32"),
        (json!({}), json!({"ports": ["nope"]}), "port \"nope\" not found"),
        (json!({}), json!({"network_aliases": ["a"]}), "network_mode"),
    ] {
        let error = made(options, config.clone()).unwrap_err();
        assert!(error.to_string().contains(word) && !error.is_recoverable(), "{config}: {error}");
    }
    let modes = json!({"allowed_modes": {"pid": ["host", "container:*"]}});
    assert_eq!(host_of(modes, json!({"pid_mode": "container:x"})).pid_mode.as_deref(), Some("container:x"));
    let free = json!({"allow_privileged": true, "allow_caps": ["all"]});
    let host = host_of(free.clone(), json!({"privileged": true, "uts_mode": "host"}));
    assert_eq!((host.privileged, host.uts_mode.as_deref()), (Some(true), Some("host")));
    assert_eq!(host_of(free, json!({"cap_add": ["CAP_SYS_ADMIN"]})).cap_add.unwrap(), ["SYS_ADMIN"]);
}

#[test]
fn security_options_that_loosen_are_refused() {
    let (plain, free) = (Options::default(), Options { allow_privileged: true, ..Options::default() });
    for loose in ["seccomp=unconfined", "apparmor:unconfined", "label=disable", "systempaths=unconfined"] {
        assert!(check_security(&plain, loose).is_err() && check_security(&free, loose).is_ok(), "{loose}");
    }
    assert!(check_security(&plain, "no-new-privileges").is_ok() && check_security(&plain, "bogus=1").is_err());
}

#[test]
fn a_task_that_asks_for_nothing_loses_what_only_the_daemon_gives_docker_17() {
    let host = host_of(json!({}), json!({}));
    assert_eq!((host.cap_add, host.cap_drop.unwrap()), (None, vec!["NET_RAW".to_owned()]));
    let host =
        host_of(json!({"allow_caps": ["CHOWN", "net_raw"]}), json!({"cap_add": ["net_raw"], "cap_drop": ["chown"]}));
    let drop = host.cap_drop.unwrap();
    assert!(
        drop.contains(&"CHOWN".to_owned())
            && drop.contains(&"KILL".to_owned())
            && !drop.contains(&"NET_RAW".to_owned())
    );
}

#[test]
fn memory_and_cpu_become_limits_docker_13_docker_14() {
    let host = host_of(json!({}), json!({}));
    assert_eq!((host.memory, host.memory_reservation, host.memory_swap), (Some(64 << 20), None, Some(64 << 20)));
    assert_eq!((host.cpu_shares, host.cpu_quota, host.memory_swappiness), (Some(500), None, Some(0)));
    let mut more = task();
    more.limits.memory_max_mib = 128;
    let host = made_for(&more, json!({}), json!({"cpu_hard_limit": true})).unwrap().host_config.unwrap();
    assert_eq!((host.memory, host.memory_reservation), (Some(128 << 20), Some(64 << 20)));
    // A twentieth of the node's compute, over four cores.
    assert_eq!((host.cpu_quota, host.cpu_period), (Some(20_000), Some(100_000)));
    more.limits.memory_max_mib = -1;
    more.around.cores = vec![1, 2];
    more.around.node_cpu_mhz = 2 * SHARES_MAX;
    let host = made_for(&more, json!({}), json!({})).unwrap().host_config.unwrap();
    assert_eq!((host.memory, host.memory_reservation, host.memory_swap), (Some(0), Some(64 << 20), None));
    assert_eq!((host.cpu_shares, host.cpuset_cpus.as_deref()), (Some(250), Some("1-2")));
}

#[test]
fn ports_are_published_for_both_protocols_docker_27_docker_28() {
    let body = made(json!({}), json!({"ports": ["http"]})).unwrap();
    assert_eq!(body.exposed_ports.unwrap(), ["80/tcp", "80/udp"]);
    let bindings = body.host_config.unwrap().port_bindings.unwrap();
    let binding = &bindings["80/tcp"].as_ref().unwrap()[0];
    assert_eq!((binding.host_ip.as_deref(), binding.host_port.as_deref()), (Some("127.0.0.1"), Some("20001")));
    let body = made(json!({"publish_address": "10.0.0.1"}), json!({"ports": ["http"]})).unwrap();
    let bindings = body.host_config.unwrap().port_bindings.unwrap();
    assert_eq!(bindings["80/udp"].as_ref().unwrap()[0].host_ip.as_deref(), Some("10.0.0.1"));
    assert!(Options::parse(json!({"publish_address": "nowhere"})).is_err());
    for mode in ["host", "none", "container:x"] {
        let body = made(json!({}), json!({"ports": ["http"], "network_mode": mode})).unwrap();
        assert_eq!(body.exposed_ports, None, "{mode}");
    }
    let mut isolated = task();
    isolated.around.network_mode = "none".into();
    let body = made_for(&isolated, json!({}), json!({})).unwrap();
    assert_eq!(body.host_config.unwrap().network_mode.as_deref(), Some("none"));
}

#[test]
fn labels_say_whose_it_is_and_what_the_operator_wants_docker_11_docker_12() {
    let labels = made(json!({}), json!({"labels": {"owner": "core", LABEL_OWNER: "forged"}})).unwrap().labels.unwrap();
    assert_eq!(labels.len(), 3);
    assert_eq!((labels[LABEL_ALLOC].as_str(), labels[LABEL_OWNER].as_str()), ("a1", "n1/a1/web/0"));
    let labels = made(json!({"extra_labels": ["task*"]}), json!({})).unwrap().labels.unwrap();
    assert_eq!(labels["com.hashicorp.nomad.task_name"], "web");
    assert_eq!(labels["com.hashicorp.nomad.task_group_name"], "g");
    assert_eq!(labels.len(), 4);
}

#[test]
fn a_name_has_only_letters_the_daemon_takes_docker_10() {
    let mut task = task();
    task.task = "a/b c".into();
    assert_eq!(name(&task), "a_b_c-a1");
    task.task = "_x".into();
    assert_eq!(name(&task), "t_x-a1");
}

#[test]
fn the_rest_is_passed_on_docker_30_docker_41_docker_46_docker_47() {
    let body = made(
        json!({"oom_score_adj": 7}),
        json!({
            "command": "serve", "args": ["-p", 1], "entrypoint": ["/entry"], "work_dir": "/w", "hostname": "h",
            "dns_servers": ["10.0.0.2"], "healthchecks": {"disable": true}, "init": true, "readonly_rootfs": true,
            "network_mode": "mine", "network_aliases": ["a"], "ipv4_address": "10.1.0.9", "shm_size": 1000,
            "ulimit": {"nofile": "10"}, "devices": [{"host_path": "/dev/fuse"}], "logging": {"driver": "syslog"},
            "extra_hosts": ["db:10.0.0.9"], "group_add": ["44"], "sysctl": {"a": 1}, "storage_opt": {"size": "1G"},
        }),
    )
    .unwrap();
    assert_eq!(body.cmd.unwrap(), ["serve", "-p", "1"]);
    assert_eq!((body.entrypoint.unwrap(), body.working_dir.as_deref()), (vec!["/entry".to_owned()], Some("/w")));
    assert_eq!(body.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    let endpoint = &body.networking_config.unwrap().endpoints_config.unwrap()["mine"];
    assert_eq!(endpoint.ipam_config.as_ref().unwrap().ipv4_address.as_deref(), Some("10.1.0.9"));
    let host = body.host_config.unwrap();
    assert_eq!((host.oom_score_adj, host.init, host.shm_size), (Some(7), Some(true), Some(1000)));
    assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("syslog"));
    assert_eq!(host.devices.unwrap()[0].path_in_container.as_deref(), Some("/dev/fuse"));
}

#[test]
fn a_container_may_open_the_devices_that_its_task_was_given_device_03() {
    let mut task = task();
    task.around.devices = vec![crate::devices::DeviceNode("/dev/nvidia0".into())];
    let body = made_for(&task, json!({}), json!({"devices": [{"host_path": "/dev/fuse"}]})).unwrap();
    let devices = body.host_config.unwrap().devices.unwrap();
    let paths: Vec<_> = devices.iter().map(|one| one.path_in_container.as_deref().unwrap()).collect();
    assert_eq!(paths, ["/dev/fuse", "/dev/nvidia0"]);
    assert_eq!(devices[1].cgroup_permissions.as_deref(), Some("rwm"));
}
