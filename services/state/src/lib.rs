//! The state service: the one place where truth is written. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod autopilot;
mod beat;
pub mod certificates;
pub mod contact;
pub mod feed;
pub mod format;
pub mod introductions;
pub mod keyring;
pub mod leader;
mod leases;
pub mod machine;
pub mod members;
pub mod network;
pub mod numbers;
pub mod offline;
pub mod root_keys;
pub mod rotate;
pub mod routes;
pub mod server;
mod small_file;
pub mod stranger;
pub mod stream;
pub mod tend;
pub mod tuning;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use kit::process::{Settings, Shutdown};
use kit::shell::Shell;
use model::{Nanos, Role};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::certificates::Signer;
use crate::routes::App;
use crate::server::{Server, Starter};
use crate::tuning::Tuning;

/// Settings of a state server.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
    /// Found the raft group once this many state servers see each other; 0 = only join. A server that was
    /// told to join others founds none alone, and none founds one beside a server that has data.
    #[arg(long, default_value_t = 1)]
    pub bootstrap_expect: usize,
    /// Directory with the certificate authority's key; only servers that have it sign certificates.
    #[arg(long)]
    pub ca_dir: Option<PathBuf>,
    /// How long an introduction token may be used, unless its maker says.
    #[arg(long, default_value = "5m", value_parser = span)]
    pub introduction_ttl: Nanos,
    /// Longest time an introduction token may be used.
    #[arg(long, default_value = "30m", value_parser = span)]
    pub introduction_ttl_max: Nanos,
    /// Build a snapshot after this many log entries.
    #[arg(long, default_value_t = 8192)]
    pub snapshot_after: u64,
    #[command(flatten)]
    pub tuning: Tuning,
    #[command(flatten)]
    pub root_keys: root_keys::Turning,
}

fn span(text: &str) -> Result<Nanos, String> {
    model::time::parse_go_duration(text).ok_or_else(|| format!("`{text}` is no duration such as 30s or 1h30m"))
}

const OPENAPI: &str = include_str!("../../../openapi/state.json");

#[derive(OpenApi)]
#[openapi(info(title = "Steppe state", description = "Commands in, feed and snapshots out: the replicated log.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")),
    tags((name = "log", description = "Commands and read indexes"), (name = "feed", description = "Following the state"),
         (name = "raft", description = "The group of state servers"), (name = "trust", description = "Certificates")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).into_openapi()
}

/// Runs a state server until shutdown.
///
/// # Errors
/// It cannot start: certificates, listener, gossip.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), kit::shell::ShellError> {
    let signer =
        Signer::load(config.ca_dir.as_deref(), &config.settings.region).map_err(kit::shell::ShellError::Pki)?;
    let (data_dir, ca_dir) = (config.settings.data_dir.clone(), config.ca_dir.clone());
    let dir = data_dir.join("raft");
    let taking = tokio::task::spawn_blocking(move || server::take_dir(&data_dir));
    let taken = taking.await.map_err(|e| kit::shell::ShellError::Other(e.to_string()))?;
    let _taken = taken.map_err(|e| kit::shell::ShellError::Other(e.to_string()))?;
    let shell = Shell::start(config.settings, Role::State, shutdown).await?;
    if let Some(ca) = &ca_dir {
        // What new processes of this machine begin with.
        shell.gossip.keys().keep_also(ca.join(kit::pki::GOSSIP_KEY_FILE))?;
    }
    let server = Server::default();
    let app = App {
        server: server.clone(),
        http: shell.http.clone(),
        peers: shell.peers(),
        signer: signer.map(Arc::new),
        introduction_ttl: config.introduction_ttl,
        introduction_ttl_max: config.introduction_ttl_max,
        shutdown: shell.shutdown.clone(),
        led: Arc::new(tokio::sync::Semaphore::new(stream::LED_MAX)),
    };
    let starter =
        Starter { shell: shell.clone(), dir, snapshot_after: config.snapshot_after, tuning: config.tuning.clone() };
    let raft = shell.vital("raft", starter.keep(server.clone()));
    tend::start(&shell, &server, config.bootstrap_expect, config.tuning.founding);
    root_keys::start(&shell, &server, config.root_keys);
    let asking = contact::keep(server.clone(), shell.http.clone(), shell.peers(), shell.shutdown.clone());
    let asking = shell.vital("leader contact", asking);
    let watching = watch::keep(server.clone(), shell.http.clone(), shell.peers(), shell.shutdown.clone());
    let watching = shell.vital("leader watch", watching);
    let router = routes::router().into_router();
    shell.serve(router.with_state(app), OPENAPI).await?;
    let _ = raft.await;
    let _ = asking.await;
    let _ = watching.await;
    shell.outcome()
}
