//! The public routes, one file per resource. Handlers say what they look at and what they show; freshness,
//! waiting, paging and wire details are elsewhere.

use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;

pub mod agent;
pub mod allocs;
pub mod at_node;
pub mod client_allocs;
pub mod client_files;
pub mod client_meta;
pub mod client_nodes;
mod client_pause;
pub mod deployment_wishes;
pub mod deployments;
pub mod eval_delete;
pub mod evals;
pub mod events;
pub mod exec;
pub mod explain;
pub mod gossip_keys;
pub mod host;
pub mod introduction;
pub mod jobs;
pub mod keyring;
pub mod launch;
pub mod local_node;
pub mod logs;
pub mod membership;
pub mod metrics;
pub mod monitor;
pub mod monitor_export;
pub mod namespace_writes;
pub mod namespaces;
pub mod node_fate;
pub mod node_pools;
pub mod nodes;
pub mod operator;
pub mod operator_autopilot;
pub mod operator_raft;
pub mod operator_snapshot;
pub mod parse;
pub mod process;
pub mod register;
pub mod scale;
pub mod scaling_policies;
pub mod search;
pub mod status;
pub mod statuses;
pub mod stop;
pub mod system;
pub mod versions;

/// All of them.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(jobs::router())
        .merge(register::router())
        .merge(scale::router())
        .merge(scaling_policies::router())
        .merge(search::router())
        .merge(launch::router())
        .merge(versions::router())
        .merge(statuses::router())
        .merge(parse::router())
        .merge(stop::router())
        .merge(nodes::router())
        .merge(node_fate::router())
        .merge(node_pools::router())
        .merge(allocs::router())
        .merge(evals::router())
        .merge(explain::router())
        .merge(eval_delete::router())
        .merge(deployments::router())
        .merge(deployment_wishes::router())
        .merge(namespaces::router())
        .merge(namespace_writes::router())
        .merge(introduction::router())
        .merge(status::router())
        .merge(agent::router())
        .merge(local_node::router())
        .merge(membership::router())
        .merge(operator::router())
        .merge(system::router())
        .merge(logs::router())
        .merge(events::router())
        .merge(client_allocs::router())
        .merge(client_pause::router())
        .merge(client_files::router())
        .merge(client_nodes::router())
        .merge(client_meta::router())
        .merge(exec::router())
        .merge(operator_raft::router())
        .merge(operator_autopilot::router())
        .merge(operator_snapshot::router())
        .merge(keyring::router())
        .merge(gossip_keys::router())
        .merge(metrics::router())
        .merge(monitor::router())
        .merge(monitor_export::router())
        .merge(process::router())
        .merge(host::router())
}

/// How fresh an answer is to be, and how it is written.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
pub struct ReadParams {
    /// Region; there is one.
    region: Option<String>,
    /// Namespace; `default` unless given.
    namespace: Option<String>,
    /// Answer from this gateway's copy without asking the leader.
    stale: Option<bool>,
    /// Wait until the answer is newer than this index.
    index: Option<u64>,
    /// How long to wait, such as `30s`; at most and by default `5m`.
    wait: Option<String>,
    /// Indented JSON.
    pretty: Option<String>,
}

/// Which rows of a list, besides [`ReadParams`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
pub struct ListParams {
    /// Only rows whose id begins so.
    prefix: Option<String>,
    /// Only rows for which this expression holds, such as `Status == "running"`.
    filter: Option<String>,
    /// Rows on a page; 0 = all.
    per_page: Option<u32>,
    /// Where the page begins: `X-Nomad-NextToken` of the page before.
    next_token: Option<String>,
    /// The other way round.
    reverse: Option<bool>,
}

/// Where a write goes, and how strictly it is read.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
pub struct WriteParams {
    /// Region; there is one.
    region: Option<String>,
    /// Namespace.
    namespace: Option<String>,
    /// Fields that nobody knows are errors, not warnings.
    strict: Option<bool>,
    /// Indented JSON.
    pretty: Option<String>,
}
