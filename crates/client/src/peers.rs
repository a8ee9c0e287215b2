//! Who is where: the processes of the cluster as this one knows them (gossip implements it, tests fake it).

use std::net::SocketAddr;

use model::Role;

/// One process and its internal listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddr {
    pub name: String,
    pub addr: SocketAddr,
}

/// The processes known at the moment.
pub trait Peers: Send + Sync + 'static {
    /// Living processes of a role in this region, in a stable order.
    fn peers(&self, role: Role) -> Vec<PeerAddr>;
}

/// A fixed list, for tests and for agents that know gateways only.
#[derive(Clone, Debug, Default)]
pub struct StaticPeers(pub Vec<(Role, PeerAddr)>);

impl Peers for StaticPeers {
    fn peers(&self, role: Role) -> Vec<PeerAddr> {
        self.0.iter().filter(|(r, _)| *r == role).map(|(_, peer)| peer.clone()).collect()
    }
}
