//! The plan applier: checks plans against everything in flight and commits them. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod apply;
pub mod check;
pub mod overlay;
pub mod routes;

use client::replica::NoObserver;
use fsm::{LeaseName, Table};
use kit::metrics::{Counter, Sample};
use kit::process::{Settings, Shutdown};
use kit::shell::{Shell, ShellError};
use model::Role;
use tokio::sync::mpsc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// What the applier counts.
#[derive(Clone)]
pub struct Counts {
    pub plans: Counter,
    pub conflicts: Counter,
    pub commit: Sample,
}

/// Settings of an applier.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
}

/// Tables the applier follows.
const TABLES: &[Table] = &[Table::Cluster, Table::Leases, Table::Jobs, Table::JobVersions, Table::Nodes, Table::Allocs];
/// Submissions that may wait; the next is told to come again.
const WAITING_MAX: usize = 1_024;

const OPENAPI: &str = include_str!("../../../openapi/applier.json");

#[derive(OpenApi)]
#[openapi(info(title = "Steppe applier", description = "Plans in, what became of them out.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")), tags((name = "plans", description = "Submitting plans")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).into_openapi()
}

/// Runs an applier until shutdown.
///
/// # Errors
/// It cannot start: certificates, listener, gossip.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ShellError> {
    let shell = Shell::start(config.settings, Role::Applier, shutdown).await?;
    let state = shell.state();
    let replica = shell.replica(TABLES, Box::new(NoObserver));
    let (lease, keeping) = shell.lease(LeaseName::Applier, &state, &replica);
    let counts = Counts {
        plans: shell.metrics.counter("steppe.plan.submitted", &[]),
        conflicts: shell.metrics.counter("nomad.nomad.plan.node_rejected", &[]),
        commit: shell.metrics.sample("nomad.nomad.plan.apply", &[]),
    };
    let (submit, submissions) = mpsc::channel(WAITING_MAX);
    let applier = apply::Applier { state, replica, lease: lease.clone(), metrics: counts };
    let applying = shell.vital("applying", applier.run(submissions));
    let router = routes::router().into_router();
    shell.serve(router.with_state(routes::App { submit, lease }), OPENAPI).await?;
    let _ = applying.await;
    let _ = keeping.await;
    shell.outcome()
}
