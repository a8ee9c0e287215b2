//! Does this server hear a leader that a quorum follows?
//!
//! A server that is cut off goes on answering from what it has, and says so to nobody. Whoever follows
//! its feed would grow stale without knowing. So each server asks the leader now and then how long ago a
//! quorum was with it, the leader itself included, and one that knows of none for [`FRESH`] ends the feeds it
//! serves: their followers go to another server, or, when no quorum lives, see their copy's age grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::state::{RAFT_STATUS, RaftStatus};
use arc_swap::ArcSwapOption;
use client::clock::boot_time;
use client::http::Http;
use client::peers::Peers;
use kit::process::Shutdown;

use crate::network;
use crate::server::{Running, Server};

/// Without contact for longer than this, a server's feed is not to be relied on.
pub const FRESH: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// While there is none, so that a new leader is noticed soon.
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK: Duration = Duration::from_secs(1);

/// When a quorum was last known to follow the leader this server hears.
#[derive(Debug)]
pub struct Contact {
    /// When this server began to listen.
    since: Duration,
    /// Milliseconds since boot; 0 = never.
    at_ms: AtomicU64,
    /// Why this server must not be relied on, whomever it hears.
    held: ArcSwapOption<String>,
}

impl Default for Contact {
    fn default() -> Self {
        Self { since: boot_time(), at_ms: AtomicU64::new(0), held: ArcSwapOption::empty() }
    }
}

impl Contact {
    pub fn touch(&self, at: Duration) {
        self.at_ms.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX).max(1), Ordering::Release);
    }

    /// It may be relied on.
    pub fn is_fresh(&self) -> bool {
        self.held.load().is_none() && self.is_heard()
    }

    /// See [`crate::server::Server::hold`].
    pub fn hold(&self, why: Option<&str>) {
        if self.held.load().as_ref().map(|held| held.as_str()) != why {
            self.held.store(why.map(|why| Arc::new(why.to_owned())));
        }
    }

    pub fn held(&self) -> Option<Arc<String>> {
        self.held.load_full()
    }

    /// No leader is heard, and one would have been by now.
    pub fn is_missed(&self) -> bool {
        !self.is_heard() && boot_time().saturating_sub(self.since) > FRESH
    }

    /// A leader is heard.
    pub fn is_heard(&self) -> bool {
        let at = self.at_ms.load(Ordering::Acquire);
        at > 0 && boot_time().saturating_sub(Duration::from_millis(at)) <= FRESH
    }
}

/// Keeps asking until shutdown.
pub async fn keep(server: Server, http: Http, peers: Arc<dyn Peers>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        let asked = boot_time();
        let age = match server.get() {
            Some(running) => shutdown.or(ask(&running, &http, &*peers)).await.flatten(),
            None => None,
        };
        if let Some(age) = age {
            server.contact().touch(asked.saturating_sub(age));
        }
        if age.is_some_and(|age| age < FRESH) {
            let _ = shutdown.or(client::calm::about(ASK_EVERY)).await;
        } else {
            let _ = shutdown.or(tokio::time::sleep(ASK_AGAIN)).await;
        }
    }
}

/// How long ago a quorum was with the leader.
async fn ask(running: &Running, http: &Http, peers: &dyn Peers) -> Option<Duration> {
    let status = running.raft.status().borrow().clone();
    if status.is_leader() {
        return running.raft.contact();
    }
    let target = network::target(peers, status.leader.as_ref()?)?;
    let said: RaftStatus = http.get_json(target, RAFT_STATUS, ASK).await.ok()?;
    let leads = said.leader.is_some_and(|leader| leader.id == said.id);
    (leads && hears_leader(running)).then_some(Duration::from_millis(said.last_contact_ms))
}

/// The leader itself speaks to this server; a leader is answered by a quorum. A server that was taken out of the
/// group still knows whom to ask, and gets an answer; a leader whom all others have left still calls itself one.
pub fn hears_leader(running: &Running) -> bool {
    running.raft.contact().is_some_and(|age| age <= FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_is_fresh_for_a_while_after_it_was_asked_for_and_never_before() {
        let mut contact = Contact::default();
        assert!(!contact.is_fresh());
        assert!(!contact.is_missed(), "it has hardly listened");
        contact.since = contact.since.saturating_sub(FRESH * 2);
        assert!(contact.is_missed());
        contact.touch(boot_time());
        assert!(contact.is_fresh() && !contact.is_missed());
        contact.hold(Some("of another cluster"));
        assert!(!contact.is_fresh() && contact.is_heard());
        contact.hold(None);
        assert!(contact.is_fresh());
        contact.touch(boot_time().saturating_sub(FRESH + Duration::from_millis(10)));
        assert!(!contact.is_fresh());
    }
}
