//! What a container in its group's network knows names from: `/etc/hosts` and `/etc/resolv.conf`.
//!
//! The engine takes no names for a container that shares another's network, so they are files in the task's
//! directory. Blocks.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use super::config::Config;
use super::container::is_joined;
use crate::beneath::Root;
use crate::contract::{DriverError, Namespace, TaskConfig};

const HOSTS: &str = "hosts";
const RESOLV: &str = "resolv.conf";
const HOST_RESOLV: &str = "/etc/resolv.conf";
const LOCAL: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\nff00::0 \
                     ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\nff02::3 ip6-allhosts\n";
const TO_GATEWAY: &str = "host-gateway";

fn refused(message: String) -> DriverError {
    DriverError::Start { message, recoverable: false }
}

/// Files to mount: where they are, where to, and how.
///
/// # Errors
/// One of `extra_hosts` is none, or a file cannot be written.
pub(super) fn files(
    config: &Config,
    task: &TaskConfig,
) -> Result<Vec<(PathBuf, &'static str, &'static str)>, DriverError> {
    let joined = is_joined(config, task);
    let mut out = Vec::new();
    let dir = &task.dirs.dir;
    let write = |name: &str, text: &str| {
        let written = Root::open(dir).and_then(|root| root.write_file(name, text.as_bytes()));
        written.map_err(|error| refused(format!("{name} cannot be written: {error}")))
    };
    if let Some(shared) = joined {
        write(HOSTS, &hosts(config, shared)?)?;
        out.push((dir.join(HOSTS), "/etc/hosts", ""));
    }
    if let Some(text) = resolv(config, task, joined.is_some()) {
        write(RESOLV, &text)?;
        out.push((dir.join(RESOLV), "/etc/resolv.conf", "ro"));
    }
    Ok(out)
}

fn hosts(config: &Config, shared: &Namespace) -> Result<String, DriverError> {
    let mut text = LOCAL.to_owned();
    if !shared.address.is_empty() {
        let _ = writeln!(text, "{} {}", shared.address, shared.hostname);
    }
    for given in &config.extra_hosts {
        let bad = || refused(format!("extra_hosts: {given:?} is not NAME:ADDRESS"));
        let (name, address) = given.split_once([':', '=']).ok_or_else(bad)?;
        let address = if address == TO_GATEWAY { shared.gateway.as_str() } else { address };
        let address: IpAddr = address.trim_matches(['[', ']']).parse().map_err(|_| bad())?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad());
        }
        let _ = writeln!(text, "{address} {name}");
    }
    Ok(text)
}

/// The group's words, else the task's where the engine would not take them. What is left out is the host's.
fn resolv(config: &Config, task: &TaskConfig, joined: bool) -> Option<String> {
    let own = (&config.dns_servers, &config.dns_search_domains, &config.dns_options);
    let (servers, searches, options) = match &task.around.dns {
        Some(dns) => (&dns.servers, &dns.searches, &dns.options),
        None if joined && !(own.0.is_empty() && own.1.is_empty() && own.2.is_empty()) => own,
        None => return None,
    };
    let host = std::fs::read_to_string(HOST_RESOLV).unwrap_or_default();
    Some(resolv_text(&host, servers, searches, options))
}

fn resolv_text(host: &str, servers: &[String], searches: &[String], options: &[String]) -> String {
    let mut text = String::new();
    let lines = |word: &'static str| {
        host.lines().filter(move |line| line.split_whitespace().next() == Some(word)).map(str::to_owned)
    };
    let clean = |given: &[String]| -> Vec<String> {
        given.iter().map(|one| one.split_whitespace().collect()).filter(|one: &String| !one.is_empty()).collect()
    };
    let (servers, searches, options) = (clean(servers), clean(searches), clean(options));
    let one = |word: &str, given: &[String]| format!("{word} {}", given.join(" "));
    let mut all: Vec<String> = servers.iter().map(|server| format!("nameserver {server}")).collect();
    if servers.is_empty() {
        all.extend(lines("nameserver"));
    }
    if searches.is_empty() {
        all.extend(lines("search"))
    } else {
        all.push(one("search", &searches))
    }
    if options.is_empty() {
        all.extend(lines("options"))
    } else {
        all.push(one("options", &options))
    }
    for line in all {
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_hosts() {
        let host = "# a\nnameserver 10.0.0.1\nsearch a.example\noptions ndots:2\n";
        let given = |text: &str| vec![text.to_owned()];
        assert_eq!(
            resolv_text(host, &given("10.9.9.9"), &[], &given("timeout:1")),
            "nameserver 10.9.9.9\nsearch a.example\noptions timeout:1\n"
        );
        assert_eq!(
            resolv_text(host, &[], &given("b.example"), &[]),
            "nameserver 10.0.0.1\nsearch b.example\noptions ndots:2\n"
        );
        assert_eq!(
            resolv_text(host, &given("1.1.1.1\nnameserver 6.6.6.6"), &[], &[]).lines().count(),
            3,
            "a line stays one"
        );
    }

    #[test]
    fn hosts_have_the_groups_address_and_the_tasks_own_names() {
        let shared = Namespace {
            address: "172.26.64.2".into(),
            hostname: "web".into(),
            gateway: "172.26.64.1".into(),
            ..Namespace::default()
        };
        let config = |hosts: &[&str]| Config {
            extra_hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            ..Config::decode(serde_json::json!({"image": "i"}).as_object().unwrap()).unwrap()
        };
        let text = hosts(&config(&["db:10.0.0.5", "me:host-gateway", "six:[fd00::1]"]), &shared).unwrap();
        assert!(text.ends_with("172.26.64.2 web\n10.0.0.5 db\n172.26.64.1 me\nfd00::1 six\n"), "{text}");
        for bad in ["db", "db:", ":10.0.0.1", "a b:10.0.0.1"] {
            assert!(hosts(&config(&[bad]), &shared).is_err(), "{bad}");
        }
    }
}
