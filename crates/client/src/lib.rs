//! client
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod http;
pub mod tls;
