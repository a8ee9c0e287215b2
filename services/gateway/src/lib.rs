//! The gateway: the public API, and the agents' door. Holds nothing; any number may run. See README.md.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agents;
pub mod answer;
pub mod any_method;
pub mod app;
pub mod blocking;
pub mod body;
pub mod bounds;
pub mod dry_run;
pub mod errors;
pub mod events;
mod findings;
pub mod intake;
pub mod list;
pub mod machine;
pub mod not_built;
pub mod numbers;
pub mod options;
pub mod processes;
pub mod public;
pub mod raft_status;
pub mod read;
pub mod routes;
pub mod statsd;
pub mod traces;
mod wishes;
pub mod write;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use fsm::Table;
use kit::guard::Peer;
use kit::https::{Https, HttpsSettings};
use kit::process::{Settings, Shutdown};
use kit::server::live::Live;
use kit::server::{self, Limits, Listener, Tls};
use kit::shell::{Shell, ShellError, Stranger};
use kit::vouched::{Vouching, VouchingSettings};
use model::Role;
use tower::ServiceExt as _;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::app::{App, Parts};
use crate::blocking::{Follow, Watches};

/// Settings of a gateway.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
    /// Address of the public API.
    #[arg(long, default_value = "127.0.0.1:4646")]
    pub http_bind: SocketAddr,
    /// A further address of the public API. May be repeated.
    #[arg(long)]
    pub http_also: Vec<SocketAddr>,
    /// Let the public API, which asks nobody who they are, listen where others than this machine reach it.
    #[arg(long)]
    pub http_unauthenticated: bool,
    #[command(flatten)]
    pub https: HttpsSettings,
    #[command(flatten)]
    pub vouching: VouchingSettings,
    /// A node that is purged is shut out for good, whatever certificate it shows, until it is introduced
    /// anew. Without it, a purged node that is alive registers again.
    #[arg(long)]
    pub purge_revokes: bool,
    #[command(flatten)]
    pub bounds: bounds::ListenerBounds,
    #[command(flatten)]
    pub published: numbers::Published,
    #[command(flatten)]
    pub statsd: statsd::Statsd,
    #[command(flatten)]
    pub machine: machine::Machine,
}

const OPENAPI: &str = include_str!("../../../openapi/gateway.json");
/// Tag with the address of the public API.
pub const TAG_HTTP: &str = "http";

#[derive(OpenApi)]
#[openapi(info(title = "Steppe", description = "The public API, compatible with Nomad's `/v1`, and the agents' protocol (`/v1/internal`, mutual TLS). Errors of the public API are plain text, those of the agents' protocol are JSON. `PUT` is taken wherever `POST` is.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")),
    tags((name = "jobs", description = "What is to run"), (name = "allocations", description = "What runs, one instance each"),
         (name = "evaluations", description = "Requests to a scheduler to look at a job"), (name = "deployments", description = "Rollouts of a job's versions"),
         (name = "nodes", description = "Where things run"), (name = "node-pools", description = "Nodes apart"), (name = "namespaces", description = "Names apart"),
         (name = "search", description = "Finding things"), (name = "status", description = "Who leads"), (name = "events", description = "What happens, as it happens"), (name = "agent", description = "Processes and their health"),
         (name = "operator", description = "How the cluster works, and on which servers"), (name = "system", description = "The cluster put in order by hand"), (name = "client", description = "What only a node knows"),
         (name = "metrics", description = "Numbers"), (name = "agents", description = "Nodes' agents, over mutual TLS")))]
struct Document;

/// The service's OpenAPI document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Document::openapi()).merge(routes::router()).merge(agents::router()).into_openapi()
}

/// Runs a gateway until shutdown.
///
/// # Errors
/// It cannot start: certificates, listeners, gossip, or a public address that strangers reach without
/// that being asked for.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), ShellError> {
    let binds: Vec<SocketAddr> = std::iter::once(config.http_bind).chain(config.http_also).collect();
    for bind in &binds {
        check_exposure(*bind, config.http_unauthenticated || config.https.verifies())?;
    }
    let tls = https(&config.https, &shutdown)?;
    let vouching = vouching(&config.vouching, &config.settings.region, &shutdown)?;
    let mut publics = Vec::new();
    for addr in binds {
        let fail = |source| ShellError::Listen { addr, source };
        let listener = Listener::bind(addr).map_err(fail)?;
        publics.push((listener.local_addr().map_err(fail)?, listener));
    }
    let mut settings = config.settings;
    settings.join.extend(routes::membership::remembered(&settings.data_dir));
    let shell = Shell::start(settings, Role::Gateway, shutdown).await?;
    let watches = Watches::new();
    let replica = shell.replica(&Table::ALL, Box::new(Follow::new(Arc::clone(&watches))));
    let told = bounds::Told::new(config.bounds.shown(), config.published);
    let app = App::start(Parts {
        name: shell.name.clone(),
        region: shell.settings.region.clone(),
        datacenter: shell.settings.datacenter.clone(),
        http: shell.http.clone(),
        directory: shell.directory.clone(),
        replica,
        watches,
        metrics: shell.metrics.clone(),
        shutdown: shell.shutdown.clone(),
        purge_revokes: config.purge_revokes,
        told: told.clone(),
        gossip: Some(shell.gossip.clone()),
        machine: config.machine,
        data_dir: Some(shell.settings.data_dir.clone()),
        keys: shell.gossip.keys().clone(),
    });
    let statsd = statsd::spawn(config.statsd, app.clone());
    // The first is the one that others are told.
    shell.set_tags(publics.first().map(|(addr, _)| (TAG_HTTP, addr.to_string()))).await;
    let router = config.bounds.public.adorn(public::router(app.clone()));
    let usual = || Limits::public(body::BODY_BYTES_MAX);
    let (limits, agents) = (config.bounds.public.limit(usual()), config.bounds.agents());
    let (of_public, of_agents) = (Live::of(&limits), Live::of(&agents));
    let (limits, agents) =
        (Limits { live: Some(of_public.clone()), ..limits }, Limits { live: Some(of_agents.clone()), ..agents });
    let level_file = shell.settings.log_level_file.clone();
    let followed = kit::again::follow(level_file.as_deref(), move |now: Config| {
        of_public.set(&now.bounds.public.limit(usual()));
        of_agents.set(&now.bounds.agents());
        told.set(now.bounds.shown(), now.published);
        statsd.send_if_modified(|sent| std::mem::replace(sent, now.statsd.clone()) != now.statsd);
        tracing::info!("limits and telemetry were read again");
    });
    if let Err(error) = followed {
        tracing::warn!(%error, "limits and telemetry cannot be read again while this runs");
    }
    let mut serving = Vec::new();
    for (addr, listener) in publics {
        if !addr.ip().is_loopback() && !config.https.verifies() {
            tracing::warn!(%addr, "public api listens for anybody, without authentication");
        }
        let (router, limits, wish) = (router.clone(), limits.clone(), shell.shutdown.clone());
        serving.push(tokio::spawn(server::serve(listener, tls.clone(), router, limits, wish)));
        tracing::info!(%addr, "public api listens");
    }
    let internal = agents::router().into_router();
    // A machine that runs only an agent answers the public API by passing it on.
    let passed_on = config.bounds.public.adorn(public::router(app.clone())).layer(kit::guard::require(&[Role::Agent]));
    let internal = internal.with_state(app.clone()).fallback(|| async { StatusCode::NOT_FOUND });
    let internal = internal.layer(from_fn_with_state((app, passed_on), public_only));
    let stranger = Stranger { path: api::state::INTRODUCE, vouching };
    shell.serve_with(internal, OPENAPI, Some(stranger), agents).await?;
    for serving in serving {
        let _ = serving.await;
    }
    Ok(())
}

/// How the public API is served.
fn https(settings: &HttpsSettings, shutdown: &Shutdown) -> Result<Tls, ShellError> {
    let unusable = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        ShellError::Other(format!("certificate of the public API cannot be used: {error}{cause}"))
    };
    let Some(https) = Https::load(settings).map_err(|e| unusable(&e))? else {
        return Ok(Tls::Plain);
    };
    https.keep(shutdown.clone()).map_err(|e| unusable(&e))?;
    Ok(Tls::Public(https))
}

/// Whether nodes may come in by an operator's certificates.
fn vouching(settings: &VouchingSettings, region: &str, shutdown: &Shutdown) -> Result<Option<Vouching>, ShellError> {
    let unusable = |error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        ShellError::Other(format!("certificate for nodes cannot be used: {error}{cause}"))
    };
    let vouching = Vouching::load(settings, region).map_err(|e| unusable(&e))?;
    if let Some(vouching) = &vouching {
        vouching.https.keep(shutdown.clone()).map_err(|e| unusable(&e))?;
    }
    Ok(vouching)
}

/// What an agent passes on for somebody else reaches the public routes, never those that the agent's own
/// certificate opens.
async fn public_only(State((app, public)): State<(App, Router)>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(api::headers::PASSED_ON) {
        return next.run(request).await;
    }
    if let Some(Err(refused)) = request.extensions().get::<Peer>().map(|peer| agents::trusted(&app, peer)) {
        return refused.into_response();
    }
    match public.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The public API asks nobody who they are: it listens on this machine only, unless told otherwise.
fn check_exposure(bind: SocketAddr, allowed: bool) -> Result<(), ShellError> {
    if bind.ip().is_loopback() {
        return Ok(());
    }
    if !allowed {
        return Err(ShellError::Other(format!(
            "the public API would listen on {bind} for anybody, without authentication; \
             bind it to 127.0.0.1, or say --http-unauthenticated if that is meant"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_api_is_bound_beyond_this_machine_only_when_told() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 4646));
        let any = SocketAddr::from(([0, 0, 0, 0], 4646));
        assert!(check_exposure(loopback, false).is_ok());
        assert!(check_exposure(any, false).is_err());
        assert!(check_exposure(any, true).is_ok());
    }

    /// Endpoints that the reference does not have.
    const OURS: [&str; 1] = ["/v1/evaluation/{eval_id}/explain"];

    #[test]
    fn what_is_served_is_a_nomad_endpoint_or_ours_or_of_the_agents_protocol() {
        let document = openapi();
        let known: Vec<String> = not_built::endpoints().into_iter().map(|e| e.path).collect();
        for path in document.paths.paths.keys() {
            let ours = OURS.contains(&path.as_str());
            assert!(known.contains(path) || ours || path.starts_with("/v1/internal/"), "{path}");
        }
    }
}
