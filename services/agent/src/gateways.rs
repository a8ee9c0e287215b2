//! The gateways this agent may talk to, and the one it talks to now.
//!
//! Those given by the operator are forgotten only when the operator gives others; those learnt from beats come and go with each answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::peers::{PeerAddr, Peers};
use model::Role;
use rand::seq::SliceRandom as _;

const LEARNT_MAX: usize = 64;
const RESOLVE: Duration = Duration::from_secs(2);

/// Clones share the list.
#[derive(Clone, Debug)]
pub struct Gateways(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    given: Vec<String>,
    learnt: Vec<String>,
    /// Addresses found last.
    known: Vec<SocketAddr>,
    current: Option<SocketAddr>,
}

impl Gateways {
    pub fn new(given: Vec<String>) -> Self {
        let known = given.iter().filter_map(|text| text.parse().ok()).collect();
        Self(Arc::new(Inner { book: Mutex::new(Book { given, known, ..Book::default() }) }))
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gateways at hand, as one of them named them. An empty list says nothing.
    pub fn learn(&self, mut addresses: Vec<String>) {
        if !addresses.is_empty() {
            addresses.truncate(LEARNT_MAX);
            self.lock().learnt = addresses;
        }
    }

    /// Others are given in the place of those given before; they are the only ones until one of them names more.
    pub fn give(&self, given: Vec<String>) {
        let known = given.iter().filter_map(|text| text.parse().ok()).collect();
        *self.lock() = Book { given, known, ..Book::default() };
    }

    /// All that are known by name or address.
    pub fn names(&self) -> Vec<String> {
        let book = self.lock();
        let mut names: Vec<String> = book.given.iter().chain(&book.learnt).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// The one to call, and whom to call when it does not answer.
    pub fn in_order(&self) -> Vec<SocketAddr> {
        let book = self.lock();
        let others = book.known.iter().copied().filter(|addr| Some(*addr) != book.current);
        book.current.into_iter().chain(others).collect()
    }

    pub fn current(&self) -> Option<SocketAddr> {
        self.lock().current
    }

    pub fn settle(&self, addr: SocketAddr) {
        self.lock().current = Some(addr);
    }

    /// Calls to that one fail: it is nobody's first choice any more.
    pub fn leave(&self, addr: SocketAddr) {
        let mut book = self.lock();
        if book.current == Some(addr) {
            book.current = None;
        }
    }

    /// Looks all names up and picks one by chance; `not` only when there is no other.
    pub async fn pick(&self, not: Option<SocketAddr>) -> Option<SocketAddr> {
        let names: Vec<String> = {
            let book = self.lock();
            book.given.iter().chain(&book.learnt).cloned().collect()
        };
        let mut found = Vec::new();
        for name in names {
            let addresses: Vec<SocketAddr> = match name.parse() {
                Ok(addr) => vec![addr],
                Err(_) => look_up(&name).await,
            };
            found.extend(addresses.into_iter().filter(|addr| !found.contains(addr)).collect::<Vec<_>>());
        }
        found.shuffle(&mut rand::rng());
        self.lock().known.clone_from(&found);
        found.iter().copied().find(|addr| Some(*addr) != not).or(not.filter(|addr| found.contains(addr)))
    }
}

async fn look_up(name: &str) -> Vec<SocketAddr> {
    match tokio::time::timeout(RESOLVE, tokio::net::lookup_host(name)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            tracing::warn!(gateway = name, %error, "gateway's name cannot be looked up");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

impl Peers for Gateways {
    fn peers(&self, role: Role) -> Vec<PeerAddr> {
        if role != Role::Gateway {
            return Vec::new();
        }
        self.in_order().into_iter().map(|addr| PeerAddr { name: addr.to_string(), addr }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn another_one_is_picked_while_there_is_another() {
        let gateways = Gateways::new(vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()]);
        for _ in 0..20 {
            assert_eq!(gateways.pick(Some(addr(1))).await, Some(addr(2)));
        }
        let lonely = Gateways::new(vec!["127.0.0.1:1".into()]);
        assert_eq!(lonely.pick(Some(addr(1))).await, Some(addr(1)));
        assert_eq!(Gateways::new(vec!["nowhere.invalid:1".into()]).pick(None).await, None);
    }

    #[tokio::test]
    async fn given_anew_the_old_ones_are_forgotten() {
        let gateways = Gateways::new(vec!["127.0.0.1:1".into()]);
        gateways.learn(vec!["127.0.0.1:2".into()]);
        assert_eq!(gateways.names(), ["127.0.0.1:1", "127.0.0.1:2"]);
        gateways.give(vec!["127.0.0.1:3".into()]);
        assert_eq!(gateways.in_order(), [addr(3)]);
        assert_eq!(gateways.pick(None).await, Some(addr(3)));
        assert_eq!(gateways.names(), ["127.0.0.1:3"]);
    }

    #[tokio::test]
    async fn learnt_ones_are_used_and_given_ones_kept_node_07() {
        let gateways = Gateways::new(vec!["127.0.0.1:1".into()]);
        gateways.learn(vec!["127.0.0.1:2".into(), "127.0.0.1:1".into()]);
        gateways.pick(None).await;
        gateways.settle(addr(2));
        assert_eq!(gateways.in_order(), [addr(2), addr(1)]);
        gateways.learn(vec!["127.0.0.1:3".into()]);
        gateways.learn(Vec::new());
        gateways.pick(None).await;
        gateways.leave(addr(2));
        let mut all = gateways.in_order();
        all.sort();
        assert_eq!(all, [addr(1), addr(3)]);
    }
}
