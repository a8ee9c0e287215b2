//! The eval broker: hands evaluations to schedulers, one at a time per job. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod effects;
pub mod gauges;
pub mod routes;
pub mod shared;

use fsm::{LeaseName, Table};
use kit::process::{Settings, Shutdown};
use kit::shell::{Shell, ShellError};
use model::Role;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::effects::Ticker;
use crate::gauges::Gauges;
use crate::shared::{Feed, Shared};

/// Settings of a broker.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
}

/// Tables the broker follows. Not the jobs, which are most of what is written: whether the job of an
/// evaluation that is given up still exists, and there is a follow-up, is for the log to say.
const TABLES: &[Table] =
    &[Table::Cluster, Table::Leases, Table::Evals, Table::JobFences, Table::Capacity, Table::SchedulerConfig];

const OPENAPI: &str = include_str!("../../../openapi/broker.json");

#[derive(OpenApi)]
#[openapi(info(title = "Steppe broker", description = "Evaluations out to schedulers, verdicts in.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")), tags((name = "work", description = "Sessions, deliveries, verdicts")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).into_openapi()
}

/// Runs a broker until shutdown.
///
/// # Errors
/// It cannot start: certificates, listener, gossip.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ShellError> {
    let shell = Shell::start(config.settings, Role::Broker, shutdown).await?;
    let shared = Shared::new();
    let state = shell.state();
    let replica = shell.replica(TABLES, Box::new(Feed::new(shared.clone())));
    let (lease, keeping) = shell.lease(LeaseName::Broker, &state, &replica);
    let ticker = Ticker { shared: shared.clone(), lease: lease.clone(), state, gauges: Gauges::new(&shell.metrics) };
    let ticking = shell.vital("queue's clock", ticker.run(shell.shutdown.clone()));
    let router = routes::router().into_router();
    let app = routes::App { shared, lease, shutdown: shell.shutdown.clone() };
    shell.serve(router.with_state(app), OPENAPI).await?;
    let _ = ticking.await;
    let _ = keeping.await;
    shell.outcome()
}
