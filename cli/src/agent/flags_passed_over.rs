//! Flags of the reference's agent whose settings have no effect here, yet or for good. They are taken, so that a
//! unit file from elsewhere starts; each stands for its key, and what is said of the key holds for the flag: a
//! warning where something is not built, nothing where there is nothing to do.

use config::syntax::Value;

use crate::flags::{Flag, Kind, Parsed, flag};

const KEYS: &[(&str, Kind, &str)] = &[
    ("retry-max", Kind::Uint, "server.server_join.retry_max"),
    ("retry-interval", Kind::Duration, "server.server_join.retry_interval"),
    ("rejoin", Kind::Bool, "server.rejoin_after_leave"),
    ("raft-protocol", Kind::Uint, "server.raft_protocol"),
    ("alloc-mounts-dir", Kind::Text, "client.alloc_mounts_dir"),
    ("host-volumes-dir", Kind::Text, "client.host_volumes_dir"),
    ("host-volume-plugin-dir", Kind::Text, "client.host_volume_plugin_dir"),
    ("preferred-address-family", Kind::Text, "client.preferred_address_family"),
    ("network-speed", Kind::Uint, "client.network_speed"),
    ("plugin-dir", Kind::Text, "plugin_dir"),
    ("log-include-location", Kind::Bool, "log_include_location"),
    ("eventlog", Kind::Bool, "eventlog.enabled"),
    ("eventlog-level", Kind::Text, "eventlog.level"),
    ("acl-replication-token", Kind::Text, "acl.replication_token"),
    ("consul-auth", Kind::Text, "consul.auth"),
    ("consul-auto-advertise", Kind::Bool, "consul.auto_advertise"),
    ("consul-ca-file", Kind::Text, "consul.ca_file"),
    ("consul-cert-file", Kind::Text, "consul.cert_file"),
    ("consul-key-file", Kind::Text, "consul.key_file"),
    ("consul-checks-use-advertise", Kind::Bool, "consul.checks_use_advertise"),
    ("consul-client-auto-join", Kind::Bool, "consul.client_auto_join"),
    ("consul-client-service-name", Kind::Text, "consul.client_service_name"),
    ("consul-client-http-check-name", Kind::Text, "consul.client_http_check_name"),
    ("consul-client-failures-before-critical", Kind::Uint, "consul.client_failures_before_critical"),
    ("consul-client-failures-before-warning", Kind::Uint, "consul.client_failures_before_warning"),
    ("consul-server-service-name", Kind::Text, "consul.server_service_name"),
    ("consul-server-http-check-name", Kind::Text, "consul.server_http_check_name"),
    ("consul-server-serf-check-name", Kind::Text, "consul.server_serf_check_name"),
    ("consul-server-rpc-check-name", Kind::Text, "consul.server_rpc_check_name"),
    ("consul-server-failures-before-critical", Kind::Uint, "consul.server_failures_before_critical"),
    ("consul-server-failures-before-warning", Kind::Uint, "consul.server_failures_before_warning"),
    ("consul-server-auto-join", Kind::Bool, "consul.server_auto_join"),
    ("consul-ssl", Kind::Bool, "consul.ssl"),
    ("consul-token", Kind::Text, "consul.token"),
    ("consul-verify-ssl", Kind::Bool, "consul.verify_ssl"),
    ("consul-address", Kind::Text, "consul.address"),
    ("vault-enabled", Kind::Bool, "vault.enabled"),
    ("vault-address", Kind::Text, "vault.address"),
    ("vault-namespace", Kind::Text, "vault.namespace"),
    ("vault-create-from-role", Kind::Text, "vault.create_from_role"),
    ("vault-ca-file", Kind::Text, "vault.ca_file"),
    ("vault-ca-path", Kind::Text, "vault.ca_path"),
    ("vault-cert-file", Kind::Text, "vault.cert_file"),
    ("vault-key-file", Kind::Text, "vault.key_file"),
    ("vault-tls-skip-verify", Kind::Bool, "vault.tls_skip_verify"),
    ("vault-tls-server-name", Kind::Text, "vault.tls_server_name"),
];

/// They stand for whole clusters of other programs.
const DEV: &[(&str, &str)] = &[
    ("dev-connect", "Consul's service mesh is not built yet; this is -dev"),
    ("dev-consul", "Consul is not built yet; this is -dev"),
    ("dev-vault", "Vault is not built yet; this is -dev"),
];

const fn table() -> [Flag; KEYS.len() + DEV.len()] {
    let mut all = [flag("", Kind::Bool, "", "", ""); KEYS.len() + DEV.len()];
    let mut at = 0;
    while at < KEYS.len() {
        all[at] = flag(KEYS[at].0, KEYS[at].1, "", "", "");
        at += 1;
    }
    while at < all.len() {
        all[at] = flag(DEV[at - KEYS.len()].0, Kind::Bool, "", "", "");
        at += 1;
    }
    all
}

/// For parsing; help does not list them one by one.
pub static FLAGS: &[Flag] = &table();

/// What was typed of them, as settings.
pub fn over(typed: &Parsed) -> impl Iterator<Item = (String, Value)> {
    let given = KEYS.iter().filter(|(flag, ..)| typed.given(flag));
    given.map(|(flag, _, key)| ((*key).to_owned(), Value::Text(typed.text(flag).to_owned())))
}

/// Whether one of them means `-dev`.
pub fn dev(typed: &Parsed) -> bool {
    DEV.iter().any(|(flag, _)| typed.is(flag))
}

/// What else is to be said of those that were typed.
pub fn warnings(typed: &Parsed) -> impl Iterator<Item = String> {
    DEV.iter().filter(|(flag, _)| typed.is(flag)).map(|(flag, text)| format!("-{flag}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::parse;

    #[test]
    fn every_flag_stands_for_a_key_that_there_is() {
        for (name, kind, key) in KEYS {
            let value = if *kind == Kind::Duration { "1s" } else { "3" };
            let value = if *kind == Kind::Bool { "false" } else { value };
            let typed = parse(&[FLAGS], &[format!("-{name}={value}")]).unwrap();
            let text = "data_dir = \"/d\" server { enabled = true bootstrap_expect = 1 }".to_owned();
            let over: Vec<_> = over(&typed).collect();
            let loaded = config::load(&[config::Source { name: "f".to_owned(), text }], &over, false).unwrap();
            let silent = key.starts_with("server.") || key.starts_with("vault.");
            let expected = format!("command line: {key}: is not built yet and has no effect");
            assert_eq!(loaded.warnings, if silent { Vec::new() } else { vec![expected] }, "-{name}");
        }
        let typed = parse(&[FLAGS], &["-dev-connect".to_owned()]).unwrap();
        assert!(dev(&typed) && warnings(&typed).count() == 1);
    }
}
