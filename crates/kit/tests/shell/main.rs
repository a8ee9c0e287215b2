//! The process shell in process, over real sockets.
#![allow(clippy::unwrap_used)]

mod calling_state;
mod fake;
mod following;
mod gossip;
mod leases;
mod public;
mod transport;
