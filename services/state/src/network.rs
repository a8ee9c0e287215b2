//! Raft's calls to its peers, over the cluster's mutual TLS.
//!
//! Internal ports are ephemeral: a peer is found by its name in the membership, and only if gossip does
//! not know it by the address in the raft log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::error::{CallError, Outcome};
use client::http::{Call, Http, Target};
use client::peers::Peers;
use futures::future::BoxFuture;
use http::HeaderValue;
use model::Role;
use raft::{NetworkError, Peer, Verb};
use tokio_util::io::ReaderStream;

/// Carries the header of a snapshot beside its bytes, base64.
pub const SNAPSHOT_HEADER: http::HeaderName = http::HeaderName::from_static("x-steppe-snapshot");
/// Path of a raft verb.
pub fn rpc_path(verb: &str) -> String {
    format!("{}/{verb}", api::state::RAFT_RPC)
}

/// Marks a call that was forwarded once already.
pub const FORWARDED: http::HeaderName = http::HeaderName::from_static("x-steppe-forwarded");

/// Names the raft member that a raft message is for.
pub const MEMBER: http::HeaderName = http::HeaderName::from_static("x-steppe-raft-member");

/// Address of a state server: where gossip knows its name, else where the raft log says.
pub fn address(peers: &dyn Peers, peer: &Peer) -> Option<SocketAddr> {
    let known = peers.peers(Role::State).into_iter().find(|p| p.name == peer.name);
    known.map(|p| p.addr).or_else(|| peer.addr.parse().ok())
}

/// A state server as the target of a call.
pub fn target(peers: &dyn Peers, peer: &Peer) -> Option<Target> {
    Some(Target::new(address(peers, peer)?, Role::State).named(peer.name.as_str()))
}

/// The call, not to be forwarded again.
pub fn forwarded(call: Call) -> Call {
    call.header(FORWARDED, HeaderValue::from_static("1"))
}

pub struct Network {
    http: Http,
    peers: Arc<dyn Peers>,
}

impl Network {
    pub fn new(http: Http, peers: Arc<dyn Peers>) -> Self {
        Self { http, peers }
    }

    fn target(&self, to: &Peer) -> Result<Target, NetworkError> {
        let unknown = || NetworkError::Unreachable(format!("address of {} is not known", to.name));
        target(&*self.peers, to).ok_or_else(unknown)
    }
}

impl raft::Network for Network {
    fn call(
        &self,
        to: Peer,
        verb: Verb,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let target = self.target(&to);
        let http = self.http.clone();
        Box::pin(async move {
            let call = Call::post(rpc_path(verb.as_str()), deadline).bytes(body).header(MEMBER, to.id.into());
            http.call(&target?, call).await.map(|reply| reply.body).map_err(network_error)
        })
    }

    fn send_snapshot(
        &self,
        to: Peer,
        header: Bytes,
        file: PathBuf,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let target = self.target(&to);
        let http = self.http.clone();
        Box::pin(async move {
            let file = tokio::fs::File::open(&file).await.map_err(|e| NetworkError::Remote(e.to_string()))?;
            let header =
                HeaderValue::from_str(&base64_text(&header)).map_err(|e| NetworkError::Remote(e.to_string()))?;
            let call = Call::post(rpc_path("snapshot"), deadline).header(SNAPSHOT_HEADER, header);
            let call = call.header(MEMBER, to.id.into());
            let reply = http.send_stream(target?, call, ReaderStream::with_capacity(file, 256 << 10)).await;
            reply.map(|r| r.body).map_err(network_error)
        })
    }
}

pub fn base64_text(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn network_error(error: CallError) -> NetworkError {
    match (&error, error.outcome()) {
        (CallError::Timeout { .. }, Outcome::Unknown) => NetworkError::Timeout,
        (_, Outcome::Refused) => NetworkError::Remote(error.to_string()),
        _ => NetworkError::Unreachable(error.to_string()),
    }
}
