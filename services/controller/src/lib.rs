//! The controller: nodes' health, news of allocations, deployments, drains, periodic jobs, clean-up. See
//! README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod beats;
pub mod deployments;
pub mod drain;
pub mod news;
pub mod nodes;
pub mod periodic;
pub mod reap;
pub mod routes;
pub mod shared;

use std::sync::Arc;
use std::time::Duration;

use client::lease::{Held, LeaseKeeper};
use client::replica::Replica;
use client::state::StateClient;
use fsm::{LeaseName, Table};
use kit::process::{Settings, Shutdown};
use kit::shell::{Shell, ShellError};
use model::Role;
use tokio::sync::mpsc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::reap::Collection;
use crate::routes::App;
use crate::shared::{Feed, Shared};

/// Settings of a controller.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub collection: Collection,
    #[command(flatten)]
    pub beats: beats::Patience,
}

/// Tables the controller follows.
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
    Table::PeriodicLaunches,
];
/// Batches of news that may wait.
const NEWS_MAX: usize = 1_024;
const CATCH_UP: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);
const OPENAPI: &str = include_str!("../../../openapi/controller.json");

/// What the controller's concerns share.
pub struct Controller {
    pub state: StateClient,
    pub replica: Replica,
    pub lease: LeaseKeeper,
    pub shared: Arc<Shared>,
}

impl Controller {
    /// The lease, once the replica has everything that was done under the ones before.
    pub async fn active(&self) -> Option<Held> {
        let held = self.lease.current()?;
        self.replica.reached(held.index, CATCH_UP).await.ok()?;
        Some(held)
    }

    /// Until this process holds the lease, or soon after the copy has not caught up with it.
    pub async fn standby(&self) {
        let mut lease = self.lease.watch();
        if lease.borrow_and_update().is_some() {
            tokio::time::sleep(AGAIN).await;
            return;
        }
        // The sender lives as long as the service.
        let _ = lease.changed().await;
    }
}

#[derive(OpenApi)]
#[openapi(info(title = "Steppe controller", description = "Beats and news of nodes in; deployments, drains, clean-up.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")), tags((name = "nodes", description = "What nodes say"), (name = "rows", description = "What is over")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).into_openapi()
}

/// Runs a controller until shutdown.
///
/// # Errors
/// It cannot start: certificates, listener, gossip.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ShellError> {
    let shell = Shell::start(config.settings, Role::Controller, shutdown).await?;
    let shared = Shared::new(config.beats.settings());
    let state = shell.state();
    let replica = shell.replica(TABLES, Box::new(Feed(shared.clone())));
    let (lease, keeping) = shell.lease(LeaseName::Controller, &state, &replica);
    let controller = Arc::new(Controller { state, replica, lease, shared });
    let (news, waiting) = mpsc::channel(NEWS_MAX);
    let loops = [
        shell.vital("watch over nodes", nodes::run(controller.clone(), shell.shutdown.clone())),
        shell.vital("news of allocations", news::run(controller.clone(), waiting, shell.shutdown.clone())),
        shell.vital("periodic jobs", periodic::run(controller.clone(), shell.shutdown.clone())),
        shell.vital("deployments", deployments::run(controller.clone(), shell.shutdown.clone())),
        shell.vital("drains", drain::run(controller.clone(), shell.shutdown.clone())),
    ];
    reap::start(&controller, &config.collection, &shell.background);
    let router = routes::router().into_router();
    shell.serve(router.with_state(App { controller, news }), OPENAPI).await?;
    for running in loops {
        let _ = running.await;
    }
    let _ = keeping.await;
    shell.outcome()
}
