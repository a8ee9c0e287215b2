//! The plan applier: checks plans against everything in flight and commits them. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod apply;
pub mod check;
pub mod overlay;
pub mod room;
pub mod routes;

use fsm::{LeaseName, Table};
use kit::metrics::{Counter, Metrics, Sample};
use kit::process::{Settings, Shutdown};
use kit::shell::{Shell, ShellError};
use model::time::parse_go_duration;
use model::{Nanos, Role};
use placement::{RejectionLimits, Rejections};
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

impl Counts {
    fn new(metrics: &Metrics) -> Self {
        Self {
            plans: metrics.counter("steppe.plan.submitted", &[]),
            conflicts: metrics.counter("nomad.nomad.plan.node_rejected", &[]),
            commit: metrics.sample("nomad.nomad.plan.apply", &[]),
        }
    }
}

/// Settings of an applier.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub rejections: RejectionOptions,
}

/// When a node on which plans keep failing is taken for a bad one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RejectionOptions {
    /// Make a node ineligible when so many plans failed on it within the window; 0 = never.
    #[arg(long, value_name = "PLANS", default_value_t = 0)]
    pub plan_rejection_threshold: usize,
    /// The window, such as `5m`.
    #[arg(long, value_parser = span)]
    pub plan_rejection_window: Option<Nanos>,
}

fn span(text: &str) -> Result<Nanos, String> {
    let span = parse_go_duration(text).filter(|span| span.0 > 0);
    span.ok_or_else(|| format!("{text:?} is no span of time such as 5m"))
}

impl RejectionOptions {
    /// What was said over what is usual.
    pub fn limits(&self) -> RejectionLimits {
        let usual = RejectionLimits::default();
        let window_ms = self.plan_rejection_window.and_then(|window| u64::try_from(window.0 / 1_000_000).ok());
        RejectionLimits {
            threshold: self.plan_rejection_threshold,
            window_ms: window_ms.unwrap_or(usual.window_ms),
            ..usual
        }
    }
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
    let limits = config.rejections.limits();
    let shell = Shell::start(config.settings, Role::Applier, shutdown).await?;
    let state = shell.state();
    let room = room::Room::default();
    let replica = shell.replica(TABLES, Box::new(room::Follow::new(room.clone())));
    let (lease, keeping) = shell.lease(LeaseName::Applier, &state, &replica);
    let counts = Counts::new(&shell.metrics);
    let (submit, submissions) = mpsc::channel(WAITING_MAX);
    let watch = apply::Watch { rejections: Rejections::new(limits, 0), since: std::time::Instant::now() };
    let applier = apply::Applier { state, replica, room, lease: lease.clone(), metrics: counts, watch };
    let applying = shell.vital("applying", applier.run(submissions));
    let router = routes::router().into_router();
    shell.serve(router.with_state(routes::App { submit, lease }), OPENAPI).await?;
    let _ = applying.await;
    let _ = keeping.await;
    shell.outcome()
}
