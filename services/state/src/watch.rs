//! Is the leader's process still there?
//!
//! A follower would notice a dead leader by its silence, after the election timeout. A process that ends
//! closes its connections at once, though, so each follower holds a stream to its leader open:
//!
//! ```text
//!   no leader, or it is us ──► leader known ──► stream open ──(goodbye: it hands over)──► wait for another
//!        ▲                                        │ broken
//!        └───(somebody answers there: a hiccup)── try its listener ──(refused)──► raft.suspect_leader
//! ```
//!
//! Only a listener that refuses is taken for a dead process: a host that is gone or cut off answers
//! nothing, and the election timeout decides. A follower that errs alone disturbs nobody (raft asks a
//! quorum first).
//!
//! Driven by [`keep`], for as long as the service runs; it fails by being late, which costs an election
//! timeout.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::http::Http;
use client::peers::Peers;
use futures::Stream;
use kit::process::Shutdown;
use tokio::net::TcpStream;

use crate::network;
use crate::server::{Running, Server};

const SILENCE: Duration = Duration::from_secs(5);
const OPEN: Duration = Duration::from_secs(2);
/// For the listener of a dead process to refuse.
const TRY: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(100);
/// Last word of a server that ends in good order.
const GOODBYE: &[u8] = b"goodbye\n";

/// The body that followers hold on to: a beat each second, and a goodbye.
pub fn beats(shutdown: Shutdown) -> impl Stream<Item = Result<Bytes, io::Error>> {
    futures::stream::unfold(false, move |ended| {
        let shutdown = shutdown.clone();
        async move {
            if ended {
                return None;
            }
            let over = shutdown.or(crate::beat::next()).await.is_none();
            let word: &[u8] = if over { GOODBYE } else { b"\n" };
            Some((Ok(Bytes::from_static(word)), over))
        }
    })
}

/// Watches whoever leads, until shutdown.
pub async fn keep(server: Server, http: Http, peers: Arc<dyn Peers>, shutdown: Shutdown) {
    while !shutdown.is_requested() {
        if let Some(running) = server.get() {
            let _ = shutdown.or(watch(&running, &http, &*peers)).await;
        }
        let _ = shutdown.or(tokio::time::sleep(PAUSE)).await;
    }
}

/// Watches the present leader until it is not the leader any more, or the stream ends.
async fn watch(running: &Running, http: &Http, peers: &dyn Peers) {
    let mut status = running.raft.status();
    let leader = status.borrow_and_update().leader.clone();
    let me = status.borrow().id;
    let Some(leader) = leader.filter(|leader| leader.id != me) else {
        // Until there is another one.
        let _ = tokio::time::timeout(SILENCE, status.wait_for(|s| s.leader.as_ref().is_some_and(|l| l.id != me))).await;
        return;
    };
    let Some(target) = network::target(peers, &leader) else { return };
    let addr = target.addr;
    let Ok(mut stream) = http.open_stream(target, api::state::RAFT_WATCH, OPEN, SILENCE).await else {
        return if is_refused(addr).await {
            suspect(running, &leader)
        };
    };
    let mut goodbye = false;
    let ended = async {
        while let Ok(Some(piece)) = stream.chunk().await {
            goodbye |= piece.ends_with(GOODBYE);
        }
    };
    let changed = async {
        let _ = status.wait_for(|s| s.leader.as_ref().is_none_or(|l| l.id != leader.id)).await;
    };
    let broke = tokio::select! {
        () = ended => true,
        () = changed => false,
    };
    if broke && goodbye {
        let changed = status.wait_for(|s| s.leader.as_ref().is_none_or(|l| l.id != leader.id));
        let _ = tokio::time::timeout(SILENCE, changed).await;
    } else if broke && is_refused(addr).await {
        suspect(running, &leader);
    }
}

fn suspect(running: &Running, leader: &raft::Peer) {
    tracing::info!(leader = leader.name, "the leader's process is gone, asking for an election");
    running.raft.suspect_leader(leader.id);
}

/// Nobody listens there any more: the process has ended.
async fn is_refused(addr: SocketAddr) -> bool {
    let tried = tokio::time::timeout(TRY, TcpStream::connect(addr)).await;
    matches!(tried, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn only_a_listener_that_refuses_counts_as_a_dead_process() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(!is_refused(addr).await);
        drop(listener);
        assert!(is_refused(addr).await);
    }

    #[tokio::test]
    async fn a_server_that_ends_in_good_order_says_goodbye() {
        let shutdown = Shutdown::new();
        let mut beats = std::pin::pin!(beats(shutdown.clone()));
        shutdown.request();
        assert_eq!(beats.next().await.unwrap().unwrap(), GOODBYE);
        assert!(beats.next().await.is_none());
    }
}
