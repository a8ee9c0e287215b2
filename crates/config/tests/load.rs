//! What configuration files mean, as their writers see it.
#![allow(clippy::unwrap_used)]

use config::syntax::{Node, Place, Value};
use config::{Loaded, Source, load};

fn source(text: &str) -> Source {
    Source { name: "a.hcl".to_owned(), text: text.to_owned() }
}

fn loaded(texts: &[&str]) -> Loaded {
    let sources: Vec<Source> = texts.iter().map(|t| source(t)).collect();
    load(&sources, &[], false).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn refused(text: &str) -> Vec<String> {
    load(&[source(text)], &[], false).expect_err(text)
}

const ONE: &str = "data_dir = \"/d\"\nserver { enabled = true bootstrap_expect = 1 }\n";

#[test]
fn hcl_and_json_say_the_same_whatever_they_are_called() {
    let hcl = "data_dir = \"/d\"\nclient {\n  enabled = \"true\"\n  servers = [\"a:1\"]\n  meta { rack = 1 }\n  \
               host_volume \"v\" { path = \"/v\" }\n  gc_interval = \"2m\"\n}\nports { http = \"5646\" }\n\
               plugin \"raw_exec\" { config { enabled = true } }";
    let json = r#"{"data_dir": "/d", "client": [{"enabled": true, "servers": "a:1", "meta": {"rack": "1"},
        "host_volume": {"v": [{"path": "/v"}]}, "gc_interval": 120000000000}], "ports": {"http": 5646},
        "plugin": [{"raw_exec": [{"config": [{"enabled": true}]}]}]}"#;
    let (a, b) = (loaded(&[hcl]).config, loaded(&[json]).config);
    assert_eq!(a, b);
    assert_eq!((a.ports.http, a.ports.rpc, a.client.meta["rack"].as_str()), (5646, 4647, "1"));
    assert_eq!(a.plugin.0["raw_exec"].config.0["enabled"], true);
}

#[test]
fn a_key_repeated_in_json_adds_up_as_in_hcl() {
    let json = r#"{"data_dir": "/d", "client": {"enabled": true, "meta": {"a": "1"}, "servers": ["x"]},
        "client": {"node_class": "c", "meta": {"b": 2.5}, "meta": {"c": "3"}, "servers": ["y"]}, "region": "a", "region": "b"}"#;
    let config = loaded(&[json]).config;
    assert!(config.client.enabled && config.client.node_class == "c");
    let meta: Vec<_> = config.client.meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(meta, ["a=1", "b=2.5", "c=3"]);
    assert_eq!((config.client.join(), config.region.as_str()), (vec!["x".to_owned(), "y".to_owned()], "b"));
    let deep = format!("{{\"client\": {}1{}}}", "[".repeat(40), "]".repeat(40));
    assert!(refused(&deep)[0].ends_with("nested deeper than 32"));
}

#[test]
fn values_that_could_never_work_are_found_before_the_start() {
    let client =
        "data_dir = \"/d\"\nclient { enabled = true servers = [\"a\"] cpu_total_compute = 1000 reserved { %r } }\n";
    let with = |reserved: &str, more: &str| refused(&format!("{}{more}", client.replace("%r", reserved)));
    assert_eq!(
        with("reserved_ports = \"0-99999,,zz\" cpu = 1000", ""),
        [
            "client.reserved.reserved_ports: `0-99999` is no port from 1 to 65535, and no range of them such as 8500-8600",
            "client.reserved.cpu: 1000 MHz of 1000 leave nothing for tasks"
        ]
    );
    assert_eq!(
        with("", "advertise { http = \"127.0.0.1:99999\" }"),
        ["advertise.http: `127.0.0.1:99999` is neither `host` nor `host:port`: a port is from 1 to 65535"]
    );
    let errors = with("", "client { servers = [\"a:b:c\", \"\", \":\", \"x:99999\"] }");
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors.iter().all(|error| error.starts_with("client.servers: `")), "{errors:#?}");
    let server =
        "data_dir = \"/d\"\nserver { enabled = true bootstrap_expect = 1 server_join { retry_join = [\"a:0\"] } }";
    assert!(refused(server).iter().any(|error| error.starts_with("server.server_join: `a:0` is neither")));
}

#[test]
fn later_files_go_over_earlier_ones_and_flags_over_files() {
    let first =
        format!("{ONE}region = \"eu\"\nclient {{ enabled = true meta {{ a = \"1\" b = \"1\" }} servers = [\"x\"] }}");
    let second = "region = \"us\"\nclient { meta { b = \"2\" } servers = [\"y\"] servers = [\"z\"] }";
    let config = loaded(&[&first, second]).config;
    assert_eq!(config.region, "us");
    assert_eq!((config.client.meta["a"].as_str(), config.client.meta["b"].as_str()), ("1", "2"));
    assert_eq!(config.client.join(), ["y", "z"], "a list is replaced by a later file and adds up in one");
    let flag = |key: &str, value: Value| (key.to_owned(), value);
    let list = Value::List(vec![Node { at: Place::default(), value: Value::Text("w".to_owned()) }]);
    let over = [flag("region", Value::Text("flag".to_owned())), flag("client.servers", list)];
    let config = load(&[source(&first), source(second)], &over, false).unwrap().config;
    assert_eq!((config.region.as_str(), config.client.servers.as_slice()), ("flag", &["w".to_owned()][..]));
    assert!(config.server.enabled);
}

#[test]
fn dev_turns_both_on_whatever_the_file_says() {
    let config = load(&[source("server { enabled = false } client { enabled = false }")], &[], true).unwrap().config;
    assert!(config.server.enabled && config.client.enabled);
}

#[test]
fn unknown_keys_are_errors_with_place_and_suggestion() {
    let errors = refused(&format!(
        "{ONE}clinet {{ enabled = true }}\nserver {{\n  bootstrap_exepct = 1\n  client_introduction {{ x = 1 }}\n}}\n"
    ));
    assert_eq!(
        errors,
        [
            "a.hcl:5:3: server.bootstrap_exepct: there is no such key; did you mean `bootstrap_expect`?",
            "a.hcl:6:25: server.client_introduction.x: there is no such key",
            "a.hcl:3:1: clinet: there is no such key; did you mean `client`?",
        ]
    );
    let errors =
        refused(&format!("{ONE}plugin \"raw_exec\" {{ config {{ enable = true }} }}\nconsul {{ adress = \"x\" }}"));
    assert_eq!(
        errors,
        [
            "a.hcl:4:10: consul.adress: there is no such key; did you mean `address`?",
            "plugin \"raw_exec\".config.enable: there is no such key; did you mean `enabled`?",
        ]
    );
}

#[test]
fn keys_that_are_not_built_yet_are_named_in_a_warning() {
    let text = format!(
        "{ONE}consul {{ address = \"x\" }}\nvault {{ enabled = false address = \"x\" }}\nclient {{ template {{ wait {{ min = \
         \"5s\" }} }} fingerprint \"env_aws\" {{ retry_attempts = 3 }} }}\nautopilot {{ enable_custom_upgrades = true }}\nplugin \"qemu\" {{ }}"
    );
    let warnings = loaded(&[&text]).warnings;
    let not_built = "is not built yet and has no effect";
    assert_eq!(
        warnings,
        [
            format!("a.hcl:3:10: consul.address: {not_built}"),
            format!("a.hcl:5:28: client.template.wait.min: {not_built}"),
            format!("a.hcl:5:67: client.fingerprint \"env_aws\".retry_attempts: {not_built}"),
            format!("a.hcl:6:13: autopilot.enable_custom_upgrades: {not_built}"),
            "plugin \"qemu\": this driver is not built yet, and its settings have no effect".to_owned(),
        ]
    );
}

#[test]
fn what_cannot_be_is_refused_each_with_one_sentence() {
    let server = "data_dir = \"/d\" server { enabled = true bootstrap_expect = 1 }";
    let client = "data_dir = \"/d\" client { enabled = true servers = [\"a\"] }";
    for (text, expected) in [
        ("data_dir = \"/d\"", "neither server nor client is enabled"),
        ("server { enabled = true bootstrap_expect = 1 }", "data_dir: it is required"),
        ("data_dir = \"rel\" server { enabled = true bootstrap_expect = 1 }", "`rel` is not an absolute path"),
        (&format!("{server} acl {{ enabled = true }}"), "acl.enabled: access control is not built yet"),
        (&format!("{server} vault {{ enabled = true }}"), "vault.enabled: Vault is not built yet"),
        (&format!("{server} region = \"a.b\""), "region: it is letters"),
        (&format!("{server} log_level = \"loud\""), "log_level: `loud` is none of"),
        (
            &format!("{server} ports {{ http = 70000 }}"),
            "ports.http: it is a whole number from 0 to 65535, not `70000`",
        ),
        (&format!("{server} ports {{ http = 4647 }}"), "ports.rpc: it is the same port as ports.http"),
        (
            &format!("{server} tls {{ http = true ca_file = \"a\" cert_file = \"b\" }}"),
            "tls.key_file: it is required with tls.http",
        ),
        (
            &format!("{server} tls {{ rpc = true cert_file = \"a\" key_file = \"b\" }}"),
            "tls.ca_file: it is required with tls.rpc",
        ),
        (
            &format!("{server} tls {{ http = true verify_https_client = true cert_file = \"b\" key_file = \"c\" }}"),
            "tls.ca_file: it is required with tls.verify_https_client",
        ),
        ("data_dir = \"/d\" server { enabled = true }", "server.bootstrap_expect: it is required"),
        ("data_dir = \"/d\" server { enabled = true bootstrap_expect = 3 }", "server.encrypt: it is required"),
        (
            "data_dir = \"/d\" server { enabled = true bootstrap_expect = 3 encrypt = \"x\" }",
            "server.encrypt: it is 32",
        ),
        ("data_dir = \"/d\" client { enabled = true }", "client.servers: it is required"),
        (&format!("{client} client {{ min_dynamic_port = 9 max_dynamic_port = 8 }}"), "9 to 8 is no range of ports"),
        (&format!("{client} client {{ node_pool = \"all\" }}"), "no node is in pool `all`"),
        (&format!("{client} client {{ host_volume \"v\" {{ }} }}"), "client.host_volume \"v\".path: it is required"),
        (&format!("{client} client {{ host_network \"a\" {{ }} }}"), "client.host_network \"a\": it needs a cidr"),
        (
            &format!("{client} client {{ host_network \"a\" {{ cidr = \"10.0.0.1\" }} }}"),
            "client.host_network \"a\".cidr: `10.0.0.1` is no range",
        ),
        (
            &format!("{client} client {{ host_network \"a\" {{ interface = \"lo\" reserved_ports = \"x\" }} }}"),
            "client.host_network \"a\".reserved_ports: `x` is no port",
        ),
        (
            &format!("{client} client {{ host_network \"default\" {{ interface = \"lo\" }} }}"),
            "client.host_network \"default\": this one is the interface's",
        ),
        (&format!("{client} client {{ device = {{ \"a/b\" = \"/dev/x\" }} }}"), "client.device \"a/b\": it is"),
        (&format!("{client} client {{ device = {{ \"a/b/c\" = \"/etc/x\" }} }}"), "client.device \"a/b/c\": it is"),
        (&format!("{client} client {{ max_kill_timeout = \"soon\" }}"), "it is a duration such as"),
        (&format!("{client} client {{ meta = 3 }}"), "client.meta: it is a block, not a number"),
        ("{\"data_dir\": }", "a.hcl:1:14: expected value"),
    ] {
        let errors = refused(text);
        assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:#?}");
    }
}

#[test]
fn host_networks_are_read_without_a_warning() {
    let text = format!(
        "{ONE}client {{ host_network \"public\" {{ cidr = \"203.0.113.0/24, 2001:db8::/32\" reserved_ports = \"22,80\" }}\n\
         host_network \"vpn\" {{ interface = \"wg0\" }} }}"
    );
    let Loaded { config, warnings } = loaded(&[&text]);
    assert_eq!(warnings, Vec::<String>::new());
    let networks: Vec<_> = config.client.host_networks().map(|n| (n.name, n.interface, n.reserved_ports)).collect();
    let row = |name: &str, device: &str, ports: &str| (name.to_owned(), device.to_owned(), ports.to_owned());
    assert_eq!(networks, [row("public", "", "22,80"), row("vpn", "wg0", "")]);
}

#[test]
fn a_setting_that_nothing_obeys_yet_is_named_in_a_warning() {
    let text = "data_dir = \"/d\" client { enabled = true servers = [\"a\"] chroot_env { a = \"b\" } \
                options { driver.denylist = \"x\" fingerprint.denylist = \"y\" } }";
    let warnings = loaded(&[text]).warnings;
    for key in ["client.chroot_env", "client.options.fingerprint.denylist"] {
        assert!(warnings.iter().any(|w| w.contains(key) && w.contains("has no effect")), "{key}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
}

/// Issue 4 lists them: each works, and so none of them is warned of.
#[test]
fn what_an_operator_says_about_limits_beats_the_log_and_leaving_is_obeyed_without_a_warning() {
    let text = format!(
        "{ONE}leave_on_interrupt = true leave_on_terminate = true enable_debug = true disable_update_check = true\n\
         limits {{ http_max_conns_per_client = 7 https_handshake_timeout = \"2s\" rpc_max_conns_per_client = 30 }}\n\
         server {{ heartbeat_grace = \"1m\" min_heartbeat_ttl = \"10s\" max_heartbeats_per_second = 50 failover_heartbeat_ttl \
         = \"5m\" raft_protocol = 3 raft_multiplier = 5 raft_trailing_logs = 100 raft_snapshot_threshold = 9 \
         raft_snapshot_interval = \"1m\"\n default_scheduler_config {{ scheduler_algorithm = \"spread\" preemption_config {{ \
         batch_scheduler_enabled = true }} }} }}\n\
         autopilot {{ cleanup_dead_servers = false min_quorum = 3 }}\n\
         telemetry {{ prometheus_metrics = true publish_node_metrics = true disable_hostname = true prefix_filter = \
         [\"-nomad.broker\"] filter_default = true }}\n\
         http_api_response_headers {{ Access-Control-Allow-Origin = \"*\" }}\n ui {{ enabled = false }}\n\
         client {{ max_kill_timeout = \"1m\" gc_interval = \"5m\" gc_parallel_destroys = 4 drain_on_shutdown {{ deadline = \
         \"1m\" }} options {{ driver.denylist = \"docker\" env.denylist = \"A,B\" user.denylist = \"root\" }} }}\n\
         plugin \"raw_exec\" {{ config {{ enabled = true denied_envvars = [\"AWS_*\"] }} }}\n"
    );
    let Loaded { config, warnings } = loaded(&[&text]);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.server.max_heartbeats_per_second, Some(50.0));
    assert_eq!(config.autopilot.map(|a| (a.min_quorum, a.max_trailing_logs)), Some((3, 250)));
    assert!(config.client.drain_on_shutdown.is_some_and(|d| d.deadline.0 == 60_000_000_000 && !d.force));
    for (wrong, expected) in [
        ("limits { rpc_max_conns_per_client = 20 }", "limits.rpc_max_conns_per_client: it is 0, or more than 20"),
        ("server { raft_multiplier = 11 }", "server.raft_multiplier: it is from 1 to 10"),
        ("server { min_heartbeat_ttl = \"1ms\" }", "server.min_heartbeat_ttl: it is at least 1s"),
        ("telemetry { prefix_filter = [\"nomad\"] }", "`nomad` begins with neither + nor -"),
        ("http_api_response_headers { \"a b\" = \"x\" }", "it is no name of a header"),
        ("http_api_response_headers { Content-Length = \"1\" }", "every answer has its own"),
    ] {
        let errors = refused(&format!("{ONE}{wrong}"));
        assert!(errors.len() == 1 && errors[0].contains(expected), "{wrong}: {errors:#?}");
    }
}

#[test]
fn every_key_of_the_compatible_configuration_is_known() {
    // The lists are made from one table; a key must not be in both.
    let mut fields = Vec::new();
    let mut blocks = vec![<config::Config as config::Block>::doc()];
    while let Some(block) = blocks.pop() {
        for field in block.fields {
            fields.push((block.path, field.key));
            blocks.extend(field.within);
        }
    }
    for (block, key, _) in config::known::all() {
        assert!(!fields.contains(&(block, key)), "{block}.{key} is built and not built");
    }
    assert!(fields.len() > 120 && config::known::all().count() > 250);
}
