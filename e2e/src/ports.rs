//! Ports for what a test starts: below the ephemeral range, where nobody takes one by chance.
//!
//! Two runs beside each other have ranges of their own, as a port that was looked at is free until it is bound, and
//! free again while its process is down: `STEPPE_TEST_PORTS` is the first and the last port (`10000-17999`).

use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;

const USUAL: RangeInclusive<u16> = 10_000..=17_999;

fn range() -> RangeInclusive<u16> {
    let Ok(said) = std::env::var("STEPPE_TEST_PORTS") else { return USUAL };
    let (first, last) = said.split_once('-').expect("STEPPE_TEST_PORTS is FIRST-LAST");
    first.parse().unwrap()..=last.parse().unwrap()
}

/// What the system gives by chance, moved into the range.
fn chance() -> u16 {
    let (range, given) = (range(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    range.start() + given % (range.end() - range.start() + 1)
}

/// As TCP and as UDP.
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
}

/// A first port with room for a cluster's others behind it.
pub fn free_port() -> u16 {
    let has_room = |port: &u16| port + 2 <= *range().end() && (*port..port + 3).all(is_free);
    std::iter::repeat_with(chance).find(has_room).unwrap()
}

/// Ports that nobody has.
pub fn free_ports(count: usize) -> Vec<u16> {
    let mut found = Vec::new();
    while found.len() < count {
        let port = chance();
        if is_free(port) && !found.contains(&port) {
            found.push(port);
        }
    }
    found
}
