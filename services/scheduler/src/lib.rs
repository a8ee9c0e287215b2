//! The scheduler: decides where allocations go. Holds nothing; any number may run. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod narrate;
pub mod pieces;
pub mod routes;
pub mod session;
pub mod traces;
pub mod view;
pub mod worker;

use client::active::Active;
use fsm::{LeaseName, Table};
use kit::metrics::Sample;
use kit::process::{Settings, Shutdown};
use kit::shell::{Shell, ShellError};
use model::Role;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::traces::Traces;
use crate::view::Follow;
use crate::worker::Worker;

/// Settings of a scheduler.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
}

/// What a scheduler measures.
#[derive(Clone)]
pub struct Counts {
    /// By the evaluation's type.
    pub schedule: [(&'static str, Sample); 4],
    pub submit: Sample,
}

/// Tables a scheduler follows.
const TABLES: &[Table] = &[
    Table::Cluster,
    Table::Leases,
    Table::Jobs,
    Table::JobVersions,
    Table::Nodes,
    Table::Allocs,
    Table::Evals,
    Table::Deployments,
    Table::NodePools,
    Table::SchedulerConfig,
    Table::JobFences,
];

const OPENAPI: &str = include_str!("../../../openapi/scheduler.json");

#[derive(OpenApi)]
#[openapi(info(title = "Steppe scheduler", description = "Dry runs; the work itself is fetched from the broker.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")), tags((name = "decisions", description = "Asking what would happen")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).into_openapi()
}

/// Runs a scheduler until shutdown.
///
/// # Errors
/// It cannot start: certificates, listener, gossip.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ShellError> {
    let shell = Shell::start(config.settings, Role::Scheduler, shutdown).await?;
    let views = view::empty();
    let traces = Traces::default();
    let replica = shell.replica(TABLES, Box::new(Follow::new(views.clone())));
    let active = |lease| Active::new(shell.http.clone(), replica.clone(), lease);
    let worker = Worker {
        name: shell.name.clone(),
        http: shell.http.clone(),
        broker: active(LeaseName::Broker),
        applier: active(LeaseName::Applier),
        state: shell.state(),
        replica: replica.clone(),
        views: views.clone(),
        traces: traces.clone(),
        counts: Counts {
            schedule: ["service", "batch", "system", "sysbatch"]
                .map(|kind| (kind, shell.metrics.sample(&format!("nomad.nomad.worker.invoke_scheduler.{kind}"), &[]))),
            submit: shell.metrics.sample("nomad.nomad.worker.submit_plan", &[]),
        },
    };
    let working = shell.vital("worker", worker.run(shell.shutdown.clone()));
    let router = routes::router().into_router();
    shell.serve(router.with_state(routes::App { name: shell.name.clone(), replica, views, traces }), OPENAPI).await?;
    let _ = working.await;
    shell.outcome()
}
