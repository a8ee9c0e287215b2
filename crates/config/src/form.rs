//! Texts that must have a form: lists of ports, addresses of other machines.

use std::net::{IpAddr, SocketAddr};

const HOST_BYTES_MAX: usize = 253;

/// What is wrong with `host` or `host:port`.
pub(crate) fn host_and_port(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("`{text}` is neither `host` nor `host:port`: {why}"));
    if text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok_and(|whole| whole.port() > 0) {
        return Ok(());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return wrong("a port is from 1 to 65535");
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if inner.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Ok(());
    }
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match host.len() {
        0 => wrong("there is no host"),
        1..=HOST_BYTES_MAX if host.bytes().all(name) => Ok(()),
        _ => wrong("a host is an IP address or a name of letters, digits, `-`, `.` and `_`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_or_without() {
        for good in
            ["a", "a.b-c_d", "10.0.0.1", "10.0.0.1:4647", "a:1", "::1", "[::1]", "[::1]:4647", "localhost:65535"]
        {
            assert_eq!(host_and_port(good), Ok(()), "{good}");
        }
        for bad in
            ["", " ", ":", ":1", "a:", "a:0", "x:99999", "a:b", "a:b:c", "a b", "a/b", "[::1", "[x]:1", "http://a:1"]
        {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
