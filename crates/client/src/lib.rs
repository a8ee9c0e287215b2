//! Calling other services, and following the state.
//!
//! Only this crate (and the raft transport) sends HTTP between services. It opens no listener and knows
//! no service's inside: it takes typed requests from `api` to an address that `Peers` or a lease's row
//! names. How processes wait without waking for nothing is said here, too ([`calm`]), as all of them use it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod active;
pub mod anyone;
pub mod archive;
pub mod calm;
pub mod clock;
pub mod error;
pub mod http;
pub mod introduce;
mod judge;
pub mod lease;
pub mod peers;
pub mod public;
pub mod replica;
mod sight;
pub mod state;
pub mod tls;
pub mod voucher;
