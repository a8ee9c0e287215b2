//! What a job asks for reaches the container, and what an operator has not allowed does not.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use driver::contract::{Driver as _, ExecInput, ExecOutput, ExecRequest};
use model::alloc::PortMapping;
use serde_json::{Value, json};

use super::engine::docker;
use super::host::{Host, eventually, image};
use super::runner;

pub const TESTS: &[runner::Test] = &[
    ("what_a_job_asks_for_reaches_the_container_docker_12_docker_13_docker_14_docker_30_docker_43", settings_reach),
    ("a_task_has_the_init_process_it_asks_for", init_is_there),
    ("a_network_mode_is_the_networks_docker_46", network_modes),
    ("output_is_kept_from_log_drivers_that_can_be_read_and_others_hold_nothing_up", log_drivers),
    ("the_images_health_check_runs_unless_switched_off_docker_41", health_checks),
    ("host_paths_and_volumes_of_the_engine_are_there_when_allowed_docker_20_docker_21", volumes_when_allowed),
    ("what_is_not_allowed_starts_nothing_docker_16_docker_18_docker_19_docker_27_docker_47", refusals_start_nothing),
    ("what_is_allowed_is_given_docker_42", allowances_hold),
    ("a_signal_reaches_the_task", signal_reaches),
    ("a_terminal_has_the_size_it_is_given", terminal_size),
];

fn inspect(name: &str) -> Value {
    let text = docker(&["inspect", name]).unwrap();
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

/// Runs a script to its end; what it wrote.
fn said(host: &Host, script: &str, more: Value) -> String {
    let mut config = json!({"command": "/bin/sh", "args": ["-c", script]});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let handle = host.start(host.task("said", config));
    let exit = host.run(host.driver().wait(&handle.task_id)).unwrap();
    let all = host.output("said.stdout");
    assert!(exit.is_success(), "{exit:?}: {all}{}", host.output("said.stderr"));
    host.destroy(&handle);
    for n in 0..3 {
        let _ = fs::remove_file(host.alloc.logs().join(format!("said.stdout.{n}")));
    }
    all
}

fn settings_reach() {
    let host = Host::new(json!({"extra_labels": ["job_*"], "oom_score_adj": 50}));
    let script = "hostname; cat /etc/hosts /etc/resolv.conf; busybox grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Groups' /proc/self/status; \
                  cat /proc/sys/net/core/somaxconn /proc/self/oom_score_adj; ulimit -n; busybox df -k /dev/shm | busybox tail -1; \
                  echo x > /dev/mine && echo device; echo \"$0\"; pwd; sleep 1000";
    let config = json!({
        "entrypoint": ["/bin/busybox"], "command": "sh", "args": ["-c", script, "arg zero"], "work_dir": "/www",
        "hostname": "named", "extra_hosts": ["db.internal:10.9.8.7"], "dns_servers": ["10.0.0.53"],
        "dns_search_domains": ["corp.internal"], "dns_options": ["ndots:2"], "labels": {"owner": "core"},
        "ulimit": {"nofile": "100:200"}, "shm_size": 16_777_216, "sysctl": {"net.core.somaxconn": "321"},
        "pids_limit": 50, "cpu_hard_limit": "true", "cpu_cfs_period": "50000", "group_add": ["8"],
        "devices": [{"host_path": "/dev/null", "container_path": "/dev/mine", "cgroup_permissions": "rw"}],
        "cap_drop": ["chown"], "security_opt": ["no-new-privileges"], "ports": ["web"],
    });
    let mut task = host.task("t", config);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    task.around.ports =
        vec![PortMapping { label: "web".into(), value: free.into(), to: 80, host_ip: "127.0.0.1".into() }];
    task.around.names.extend(BTreeMap::from([("job_name", "shop".to_owned()), ("task_name", "t".to_owned())]));
    task.around.node_cpu_mhz = 10_000;
    (task.limits.memory_mib, task.limits.memory_max_mib, task.limits.cpu_mhz) = (32, 64, 1000);
    let handle = host.start(task);
    eventually("all output", || host.output("t.stdout").ends_with("/www\n"));
    let told = host.output("t.stdout");
    for line in [
        "named",
        "10.9.8.7\tdb.internal",
        "nameserver 10.0.0.53",
        "search corp.internal",
        "options ndots:2",
        "NoNewPrivs:\t1",
        "321",
        "50",
        "100",
        "device",
        "arg zero",
    ] {
        assert!(told.lines().any(|l| l.trim() == line), "{line:?} is not in:\n{told}");
    }
    assert!(told.contains(" 16384 "), "shm of 16 MiB: {told}");
    let groups = told.lines().find(|l| l.starts_with("Groups:")).unwrap();
    assert!(groups.split_whitespace().any(|g| g == "8"), "{groups}");
    let caps = told.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).unwrap();
    let caps = u64::from_str_radix(caps.trim(), 16).unwrap();
    let has = |bit: u32| caps & (1 << bit) != 0;
    // CAP_CHOWN is dropped by the task, CAP_NET_RAW by default; CAP_KILL stays.
    assert_eq!((has(0), has(13), has(5)), (false, false, true), "{caps:x}");
    let made = inspect(&host.name("t"));
    let settings = &made["HostConfig"];
    assert_eq!((&settings["Memory"], &settings["MemoryReservation"]), (&json!(64 << 20), &json!(32 << 20)));
    assert_eq!(settings["MemorySwap"], settings["Memory"]);
    let cores = i64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    assert_eq!((&settings["CpuPeriod"], &settings["CpuQuota"]), (&json!(50_000), &json!(5_000 * cores)));
    assert_eq!((&settings["PidsLimit"], &settings["CpuShares"]), (&json!(50), &json!(1000)));
    let published = settings["PortBindings"].as_object().unwrap();
    assert_eq!(published.keys().collect::<Vec<_>>(), ["80/tcp", "80/udp"]);
    assert_eq!(published["80/udp"][0], json!({"HostIp": "127.0.0.1", "HostPort": free.to_string()}));
    let labels = &made["Config"]["Labels"];
    assert_eq!((&labels["owner"], &labels["com.hashicorp.nomad.job_name"]), (&json!("core"), &json!("shop")));
    assert_eq!(
        (&labels["com.hashicorp.nomad.alloc_id"], labels.get("com.hashicorp.nomad.task_name")),
        (&json!(host.alloc_id), None)
    );
    host.destroy(&handle);
}

fn init_is_there() {
    let host = Host::new(json!({}));
    let task = host.task("t", json!({"command": "/bin/sleep", "args": ["1000"], "init": true}));
    match host.run(host.driver().start(task)) {
        Ok(handle) => {
            assert_eq!(inspect(&host.name("t"))["HostConfig"]["Init"], true);
            let one = docker(&["exec", &host.name("t"), "/bin/cat", "/proc/1/comm"]).unwrap();
            assert!(one.contains("init") || one.contains("tini"), "{one}");
            host.destroy(&handle);
        }
        // An engine without the program says so, and nothing is left.
        Err(error) => {
            assert!(error.to_string().contains("docker-init") && !error.is_recoverable(), "{error}");
            assert_eq!(docker(&["inspect", &host.name("t")]), None);
        }
    }
    let handle = host.start(host.task("u", json!({"command": "/bin/sleep", "args": ["1000"], "init": false})));
    assert_eq!(docker(&["exec", &host.name("u"), "/bin/cat", "/proc/1/comm"]).unwrap(), "sleep");
    host.destroy(&handle);
}

fn network_modes() {
    let host = Host::new(json!({}));
    let mine = fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy().into_owned();
    let where_am_i = "/bin/busybox readlink /proc/self/ns/net";
    assert_eq!(said(&host, where_am_i, json!({"network_mode": "host"})).trim(), mine);
    let lone = said(&host, "/bin/busybox ls /sys/class/net", json!({"network_mode": "none"}));
    assert_eq!(
        lone.split_whitespace().filter(|name| *name == "lo" || name.starts_with("eth")).collect::<Vec<_>>(),
        ["lo"]
    );
    let first = host.start(host.sh("first", "sleep 1000"));
    let theirs = docker(&["exec", &host.name("first"), "/bin/busybox", "readlink", "/proc/1/ns/net"]).unwrap();
    let joined = json!({"network_mode": format!("container:{}", host.name("first"))});
    assert_eq!(said(&host, where_am_i, joined).trim(), theirs);
    host.destroy(&first);

    let network = format!("steppe-test-{}", std::process::id());
    docker(&["network", "create", "--subnet", "10.213.77.0/24", &network]).expect("a network of its own");
    let config = json!({
        "command": "/bin/sleep", "args": ["1000"], "network_mode": network,
        "network_aliases": ["alias"], "ipv4_address": "10.213.77.9", "mac_address": "02:42:0a:d5:4d:09",
    });
    let handle = host.start(host.task("net", config));
    let found = inspect(&host.name("net"))["NetworkSettings"]["Networks"][&network].clone();
    assert_eq!((&found["IPAddress"], &found["MacAddress"]), (&"10.213.77.9".into(), &"02:42:0a:d5:4d:09".into()));
    assert!(found["Aliases"].as_array().unwrap().contains(&json!("alias")), "{found}");
    host.destroy(&handle);
    docker(&["network", "rm", &network]).unwrap();
    let error = host
        .run(host.driver().start(host.task("gone", json!({"command": "/bin/sleep", "network_mode": network}))))
        .unwrap_err();
    assert!(error.to_string().contains(&network) && !error.to_string().contains('\n'), "{error}");
    assert_eq!(docker(&["inspect", &host.name("gone")]), None, "nothing is left");
}

fn log_drivers() {
    let host = Host::new(json!({}));
    for (logging, wanted) in [
        (json!({"type": "local"}), "words\n"),
        (json!({"driver": "json-file", "config": [{"max-size": "1m", "max-file": 1}]}), "words\n"),
        (json!({"type": "none"}), ""),
    ] {
        let began = Instant::now();
        assert_eq!(said(&host, "echo words", json!({"logging": [logging]})), wanted, "{logging}");
        assert!(began.elapsed() < Duration::from_secs(20), "{logging} holds the end up");
    }
    let handle = host.start(host.task("t", json!({"command": "/bin/sleep", "args": ["1000"]})));
    let made = inspect(&host.name("t"));
    assert_eq!(
        made["HostConfig"]["LogConfig"],
        json!({"Type": "json-file", "Config": {"max-file": "2", "max-size": "2m"}})
    );
    host.destroy(&handle);
    let error = host
        .run(
            host.driver()
                .start(host.task("bad", json!({"command": "/bin/sleep", "logging": {"type": "carrier-pigeon"}}))),
        )
        .unwrap_err();
    assert!(error.to_string().contains("carrier-pigeon") && !error.is_recoverable(), "{error}");
    assert_eq!(docker(&["inspect", &host.name("bad")]), None, "nothing is left");
}

fn health_checks() {
    let host = Host::new(json!({}));
    let name = format!("steppe-test/checked:{}", std::process::id());
    let tar = host.base.path().join("rootfs.tar");
    fs::write(&tar, super::engine::rootfs()).unwrap();
    let check = "HEALTHCHECK --interval=1s CMD [\"/bin/touch\", \"/tmp/checked\"]";
    docker(&["import", "-c", check, tar.to_str().unwrap(), &name]).expect("an image with a health check");
    let task = |task: &str, disable: bool| {
        let script = "while [ ! -e /local/stop ]; do usleep 100000; done; [ -e /tmp/checked ] && echo checked; exit 0";
        let config =
            json!({"image": name, "command": "/bin/sh", "args": ["-c", script], "healthchecks": {"disable": disable}});
        host.start(host.task(task, config))
    };
    let (with, without) = (task("with", false), task("without", true));
    eventually("a check", || inspect(&host.name("with"))["State"]["Health"]["Status"] == "healthy");
    assert_eq!(inspect(&host.name("without"))["State"].get("Health"), None);
    for (handle, name, wanted) in [(&with, "with", "checked\n"), (&without, "without", "")] {
        fs::write(host.alloc.task(name).unwrap().local().join("stop"), "").unwrap();
        host.run(host.driver().wait(&handle.task_id)).unwrap();
        assert_eq!(host.output(&format!("{name}.stdout")), wanted);
        host.destroy(handle);
    }
    docker(&["rmi", "-f", &name]);
}

fn volumes_when_allowed() {
    let host = Host::new(json!({"volumes": {"enabled": true}}));
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a"), "from the host\n").unwrap();
    let path = outside.path().display();
    let named = format!("steppe-test-{}", std::process::id());
    let more = json!({
        "volumes": [format!("{path}:/host:ro"), format!("{path}:/written")],
        "mount": [
            {"type": "volume", "source": named, "target": "/named", "volume_options": [{"labels": [{"of": "test"}]}]},
            {"type": "bind", "source": path.to_string(), "target": "/bound", "readonly": true, "bind_options": [{"propagation": "rprivate"}]},
        ],
    });
    let script = "cat /host/a /bound/a; touch /host/b 2>/dev/null || echo no; touch /bound/b 2>/dev/null || echo no; \
                  echo kept > /named/x; echo back > /written/c";
    assert_eq!(said(&host, script, more), "from the host\nfrom the host\nno\nno\n");
    assert_eq!(fs::read_to_string(outside.path().join("c")).unwrap(), "back\n");
    let again = json!({"mount": {"type": "volume", "source": named, "target": "/named"}});
    assert_eq!(said(&host, "cat /named/x", again), "kept\n", "a named volume outlives its container");
    assert_eq!(docker(&["volume", "inspect", "-f", "{{index .Labels \"of\"}}", &named]).unwrap(), "test");
    docker(&["volume", "rm", &named]).unwrap();
}

fn refusals_start_nothing() {
    let host = Host::new(json!({"pids_limit": 100}));
    let secret = host.alloc.task("other").unwrap();
    secret.build(1).unwrap();
    for (config, word) in [
        (json!({"privileged": true}), "privileged mode is disabled"),
        (json!({"cap_add": ["net_admin", "SYS_ADMIN"]}), "net_admin, sys_admin"),
        (json!({"pid_mode": "host"}), "pid_mode \"host\" is not allowed"),
        (json!({"ipc_mode": "host"}), "ipc_mode \"host\" is not allowed"),
        (json!({"uts_mode": "host"}), "uts_mode \"host\" is not allowed"),
        (json!({"userns_mode": "host"}), "userns_mode \"host\" is not allowed"),
        (json!({"runtime": "kata"}), "runtime \"kata\" is not allowed"),
        (json!({"security_opt": ["seccomp=unconfined"]}), "not allowed"),
        (json!({"security_opt": ["apparmor=unconfined"]}), "not allowed"),
        (json!({"security_opt": ["seccomp=../../../etc/passwd"]}), "cannot be read"),
        (json!({"devices": [{"host_path": "/etc/shadow"}]}), "below /dev"),
        (json!({"volumes": ["/etc:/x"]}), "volumes are not enabled"),
        (json!({"volumes": ["../other/secrets:/x"]}), "cannot be mounted"),
        (json!({"mount": {"type": "bind", "source": "/", "target": "/x"}}), "volumes are not enabled"),
        (json!({"mount": {"source": "named", "target": "/x"}}), "volumes are not enabled"),
        (json!({"volume_driver": "nfs", "volumes": ["a:/x"]}), "volumes are not enabled"),
        (json!({"pids_limit": 101}), "above this node's limit of 100"),
        (json!({"memory_hard_limit": 1}), "memory_hard_limit"),
        (json!({"ports": ["none"]}), "port \"none\" not found"),
        (json!({"command": " padded"}), "blanks"),
        (json!({"comand": "x"}), "did you mean \"command\""),
        (json!({"image": "nowhere.invalid/none:1", "privileged": true}), "privileged"),
    ] {
        let began = Instant::now();
        let error = host.run(host.driver().start(host.task("t", config.clone()))).unwrap_err();
        assert!(!error.is_recoverable() && error.to_string().contains(word), "{config}: {error}");
        // It is said before anything is pulled.
        assert!(began.elapsed() < Duration::from_secs(5), "{config}");
        assert_eq!(docker(&["inspect", &host.name("t")]), None, "{config}");
    }
    host.finds_engine();
}

fn allowances_hold() {
    let options = json!({
        "allow_privileged": true, "allow_caps": ["all"],
        "allowed_modes": {"pid": ["host"], "ipc": ["*"]},
    });
    let host = Host::new(options);
    // An engine that may not do so itself refuses in its own words: it was asked.
    let privileged = json!({"command": "/bin/sleep", "args": ["1000"], "privileged": true});
    match host.run(host.driver().start(host.task("t", privileged))) {
        Ok(handle) => {
            assert_eq!(inspect(&host.name("t"))["HostConfig"]["Privileged"], true);
            host.destroy(&handle);
        }
        Err(error) => assert!(error.to_string().contains("operation not permitted"), "{error}"),
    }
    let caps =
        said(&host, "busybox grep CapEff /proc/self/status", json!({"cap_add": ["net_admin"], "cap_drop": ["kill"]}));
    let caps = u64::from_str_radix(caps.trim().trim_start_matches("CapEff:").trim(), 16).unwrap();
    assert_eq!((caps & (1 << 12) != 0, caps & (1 << 5) != 0), (true, false), "{caps:x}");
    assert_ne!(said(&host, "echo $$", json!({"pid_mode": "host"})).trim(), "1");
    let plain = Host::new(json!({}));
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    fs::write(plain.task("said", json!({})).dirs.local().join("profile.json"), profile.to_string()).unwrap();
    let script = "busybox mkdir /tmp/x 2>/dev/null || echo refused; busybox touch /tmp/y && echo touched";
    assert_eq!(said(&plain, script, json!({"security_opt": ["seccomp=local/profile.json"]})), "refused\ntouched\n");
    assert_eq!(said(&plain, "busybox mkdir /tmp/x && echo made", json!({})), "made\n");
}

fn signal_reaches() {
    let host = Host::new(json!({}));
    let handle =
        host.start(host.sh("t", "trap 'echo usr1' USR1; trap 'echo hup' HUP; echo up; while :; do usleep 10000; done"));
    eventually("the traps", || host.output("t.stdout") == "up\n");
    for (signal, wanted) in [("SIGUSR1", "up\nusr1\n"), ("SIGHUP", "up\nusr1\nhup\n")] {
        host.run(host.driver().signal(&handle.task_id, signal)).unwrap();
        eventually(signal, || host.output("t.stdout") == wanted);
    }
    assert_eq!(inspect(&host.name("t"))["State"]["Running"], true);
    host.destroy(&handle);
}

fn terminal_size() {
    let host = Host::new(json!({}));
    let handle =
        host.start(host.task("t", json!({"image": image(), "command": "/bin/sleep", "args": ["1000"], "tty": true})));
    let command =
        ["/bin/sh", "-c", "read go; busybox stty size; [ -t 0 ] && echo terminal; exit 3"].map(str::to_owned).to_vec();
    let told = host.run(async {
        let mut session = host.driver().exec(&handle.task_id, ExecRequest { command, tty: true }).await.unwrap();
        session.input.send(ExecInput::Resize { rows: 41, columns: 123 }).await.unwrap();
        session.input.send(ExecInput::Stdin(b"go\n".to_vec())).await.unwrap();
        let mut told = Vec::new();
        while let Some(piece) = session.output.recv().await {
            told.push(piece);
        }
        told
    });
    let out: Vec<u8> = told
        .iter()
        .filter_map(|p| if let ExecOutput::Stdout(b) = p { Some(b.clone()) } else { None })
        .flatten()
        .collect();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("41 123\r\n") && out.contains("terminal\r\n"), "{out:?}");
    assert!(!told.iter().any(|piece| matches!(piece, ExecOutput::Stderr(_))), "one stream");
    assert!(matches!(told.last(), Some(ExecOutput::Exited(exit)) if exit.code == 3), "{told:?}");
    host.destroy(&handle);
}
