//! The process shell that every service is built in: certificates, listeners, who may call what,
//! settings, logging, readiness, metrics, background tasks and membership. It knows no nouns of
//! the scheduler's world and decides nothing.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod again;
pub mod background;
pub mod certs;
mod error_bodies;
pub mod gossip;
pub mod guard;
pub mod https;
pub mod introduction;
pub mod metrics;
pub mod pki;
pub mod process;
pub mod renew;
pub mod server;
pub mod shell;
pub mod vouched;
