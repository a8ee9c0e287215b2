//! On which addresses does a machine listen, and at which do others reach it?

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use config::Config;

/// Addresses of the public API.
const ADDRESSES_MAX: usize = 16;

/// Where a machine's listeners are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Public API.
    pub http: SocketAddr,
    /// The public API's further addresses.
    pub http_also: Vec<SocketAddr>,
    /// Whether somebody chose the public API's address.
    pub http_chosen: bool,
    /// Agents and other machines.
    pub rpc: SocketAddr,
    /// Gossip of the state server.
    pub serf: SocketAddr,
    /// What others are told; the ports are the listeners' own.
    pub advertise: IpAddr,
}

/// What the host's interfaces are, by name.
pub type Interfaces = BTreeMap<String, Vec<IpAddr>>;

impl Places {
    /// # Errors
    /// An address is none, a template cannot be carried out, or others could not reach this machine.
    pub fn of(config: &Config, dev: bool, interfaces: &Interfaces) -> anyhow::Result<Self> {
        let given = |key: &str, text: &Option<String>| -> anyhow::Result<Option<IpAddr>> {
            let Some(text) = text.as_deref().map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
            address(text, interfaces).map(Some).with_context(|| key.to_owned())
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let bind = given("bind_addr", &config.bind_addr)?;
        let any = if dev { loopback } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let chosen = several(config.addresses.http.as_deref().unwrap_or_default(), interfaces);
        let mut chosen = chosen.context("addresses.http")?.into_iter();
        let http = chosen.next().or(bind);
        let rpc = given("addresses.rpc", &config.addresses.rpc)?.or(bind).unwrap_or(any);
        let serf = given("addresses.serf", &config.addresses.serf)?.or(bind).unwrap_or(any);
        let told = [
            ("advertise.rpc", &config.advertise.rpc, config.ports.rpc),
            ("advertise.serf", &config.advertise.serf, config.ports.serf),
        ];
        let mut advertise = None;
        for (key, text, port) in told {
            let text = text.as_deref().map(|text| host_of(text, port)).transpose().with_context(|| key.to_owned())?;
            let found = given(key, &text)?;
            ensure!(
                advertise.is_none() || found.is_none() || advertise == found,
                "advertise.serf: it differs from advertise.rpc; a machine has one address for the others"
            );
            advertise = advertise.or(found);
        }
        if let Some(text) = config.advertise.http.as_deref().map(str::trim).filter(|text| text.starts_with("{{")) {
            address(text, interfaces).context("advertise.http")?;
        }
        let advertise = match advertise {
            Some(ip) => ip,
            None if !rpc.is_unspecified() => rpc,
            None => kit::process::advertised(SocketAddr::new(rpc, 1), None, None).ip(),
        };
        let alone = config.server.bootstrap_expect <= 1 && config.server.join().is_empty();
        ensure!(
            alone || !config.server.enabled || !advertise.is_loopback() || rpc.is_loopback(),
            "advertise.rpc: no address is found that other machines could reach this one at; say which"
        );
        Ok(Self {
            http: SocketAddr::new(http.unwrap_or(loopback), config.ports.http),
            http_also: chosen.map(|ip| SocketAddr::new(ip, config.ports.http)).collect(),
            http_chosen: http.is_some(),
            rpc: SocketAddr::new(rpc, config.ports.rpc),
            serf: SocketAddr::new(serf, config.ports.serf),
            advertise,
        })
    }

    /// Every address of the public API.
    pub fn https(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.http).chain(self.http_also.iter().copied())
    }

    /// The public API listens where others reach it, and somebody chose that.
    pub fn http_exposed(&self) -> bool {
        self.http_chosen && self.https().any(|addr| !addr.ip().is_loopback())
    }

    /// How this machine itself reaches one of its listeners.
    pub fn own(listener: SocketAddr) -> SocketAddr {
        if listener.ip().is_unspecified() {
            let ip =
                if listener.is_ipv6() { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) } else { IpAddr::from([127, 0, 0, 1]) };
            return SocketAddr::new(ip, listener.port());
        }
        listener
    }
}

/// `host` or `host:port` without the port, which must be the listener's.
fn host_of(text: &str, port: u16) -> anyhow::Result<String> {
    if let Ok(whole) = text.parse::<SocketAddr>() {
        ensure!(whole.port() == port, "the port that is told must be the listener's own, {port}");
        return Ok(whole.ip().to_string());
    }
    Ok(text.to_owned())
}

/// `host` or `host:port`, with the port that goes without saying.
pub fn with_port(text: &str, port: u16) -> String {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return SocketAddr::new(ip, port).to_string();
    }
    match text.rsplit_once(':') {
        Some((host, p)) if !host.contains(':') && p.parse::<u16>().is_ok() => text.to_owned(),
        Some((host, p)) if host.ends_with(']') && p.parse::<u16>().is_ok() => text.to_owned(),
        _ => format!("{text}:{port}"),
    }
}

/// Addresses with blanks between them; a template may hold blanks, too. Each is named once.
fn several(text: &str, interfaces: &Interfaces) -> anyhow::Result<Vec<IpAddr>> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let end = match rest.starts_with("{{") {
            true => rest.find("}}").map(|at| at + 2),
            false => rest.find(char::is_whitespace),
        };
        let (one, more) = rest.split_at(end.unwrap_or(rest.len()));
        let ip = address(one, interfaces)?;
        if !found.contains(&ip) {
            found.push(ip);
        }
        ensure!(found.len() <= ADDRESSES_MAX, "more than {ADDRESSES_MAX} addresses");
        rest = more.trim_start();
    }
    Ok(found)
}

fn address(text: &str, interfaces: &Interfaces) -> anyhow::Result<IpAddr> {
    if let Some(inner) = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")) {
        return template(inner.trim(), interfaces);
    }
    ensure!(!text.contains(char::is_whitespace), "`{text}`: one address is meant here");
    text.parse().with_context(|| format!("`{text}` is no IP address"))
}

fn template(inner: &str, interfaces: &Interfaces) -> anyhow::Result<IpAddr> {
    let all = || interfaces.values().flatten().copied();
    match inner.split_once(char::is_whitespace).map_or((inner, ""), |(name, rest)| (name, rest.trim())) {
        ("GetPrivateIP", "") => {
            let private = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_private());
            all().find(private).context("the host has no private address")
        }
        ("GetInterfaceIP", name) => {
            let name = name.trim_matches('"');
            let found = interfaces.get(name).with_context(|| format!("the host has no interface `{name}`"))?;
            let first = found.iter().find(|ip| ip.is_ipv4()).or_else(|| found.first());
            first.copied().with_context(|| format!("interface `{name}` has no address"))
        }
        _ => bail!("`{{{{ {inner} }}}}` is not built yet; there are GetPrivateIP and GetInterfaceIP \"name\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("data_dir = \"/d\" server {{ enabled = true bootstrap_expect = 1 }} {text}");
        config::load(&[config::Source { name: String::new(), text }], &[], false).unwrap().config
    }

    fn places(text: &str) -> anyhow::Result<Places> {
        let interfaces = Interfaces::from([
            ("lo".to_owned(), vec![IpAddr::from([127, 0, 0, 1])]),
            ("eth0".to_owned(), vec![IpAddr::from([10, 0, 0, 5])]),
        ]);
        Places::of(&config(text), false, &interfaces)
    }

    #[test]
    fn the_public_api_is_on_loopback_unless_somebody_chose_otherwise() {
        let places_of = |text| places(text).unwrap();
        let plain = places_of("");
        assert_eq!((plain.http.to_string().as_str(), plain.http_chosen), ("127.0.0.1:4646", false));
        assert_eq!(plain.rpc.to_string(), "0.0.0.0:4647");
        let bound = places_of("bind_addr = \"127.0.0.2\" ports { serf = 7000 }");
        assert_eq!(bound.http.to_string(), "127.0.0.2:4646");
        assert_eq!(
            (bound.serf.to_string().as_str(), bound.advertise.to_string().as_str()),
            ("127.0.0.2:7000", "127.0.0.2")
        );
        let looked_up =
            places_of("addresses { http = \"{{ GetInterfaceIP \\\"eth0\\\" }}\" rpc = \"{{ GetPrivateIP }}\" }");
        assert_eq!(
            (looked_up.http.ip(), looked_up.rpc.ip()),
            (IpAddr::from([10, 0, 0, 5]), IpAddr::from([10, 0, 0, 5]))
        );
        assert_eq!(places_of("advertise { rpc = \"192.0.2.7:4647\" }").advertise.to_string(), "192.0.2.7");
    }

    #[test]
    fn the_public_api_has_as_many_addresses_as_are_said_each_once() {
        let text = "addresses { http = \"127.0.0.1  {{ GetInterfaceIP \\\"eth0\\\" }} ::1 10.0.0.5\" }";
        let found = places(text).unwrap();
        let all: Vec<String> = found.https().map(|addr| addr.to_string()).collect();
        assert_eq!(all, ["127.0.0.1:4646", "10.0.0.5:4646", "[::1]:4646"]);
        assert!(found.http_exposed());
        assert!(!places("addresses { http = \"127.0.0.1 127.0.0.2\" }").unwrap().http_exposed());
        let many: Vec<String> = (1..=17).map(|n| format!("127.0.0.{n}")).collect();
        assert!(places(&format!("addresses {{ http = \"{}\" }}", many.join(" "))).is_err());
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_key() {
        for (text, expected) in [
            ("bind_addr = \"nowhere\"", "bind_addr: `nowhere` is no IP address"),
            ("bind_addr = \"{{ GetInterfaceIP \\\"eth9\\\" }}\"", "the host has no interface `eth9`"),
            ("bind_addr = \"{{ GetPublicIP }}\"", "is not built yet"),
            ("advertise { rpc = \"192.0.2.7:1\" }", "must be the listener's own, 4647"),
            (
                "addresses { rpc = \"127.0.0.1 10.0.0.5\" }",
                "addresses.rpc: `127.0.0.1 10.0.0.5`: one address is meant here",
            ),
            ("addresses { http = \"127.0.0.1 nowhere\" }", "addresses.http: `nowhere` is no IP address"),
        ] {
            let error = format!("{:#}", places(text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_port_that_is_not_said_goes_without_saying() {
        for (text, full) in
            [("a", "a:1"), ("a:2", "a:2"), ("10.0.0.1", "10.0.0.1:1"), ("::1", "[::1]:1"), ("[::1]:2", "[::1]:2")]
        {
            assert_eq!(with_port(text, 1), full);
        }
    }
}
