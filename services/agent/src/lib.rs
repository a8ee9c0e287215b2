//! The node's agent: runs what the cluster wants here, and says how it goes. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bridge;
pub mod collect;
pub mod config;
pub mod data_dir;
pub mod denied;
pub mod gateways;
mod gauges;
mod host;
pub mod link;
pub mod meta;
pub mod node;
pub mod outbox;
mod pass_on;
mod roster;
mod routes;
mod runner;
mod start;
mod stats;
mod store;
mod sweep;
mod teardown;

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use config::Config;
pub use start::{AgentError, limits_out, run};

const OPENAPI: &str = include_str!("../../../openapi/agent.json");

#[derive(OpenApi)]
#[openapi(info(title = "Steppe agent", description = "What runs on one node, for the gateways.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")), tags((name = "tasks", description = "Tasks of this node"), (name = "files", description = "Files of allocations"),
        (name = "host", description = "This node itself")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).into_openapi()
}
