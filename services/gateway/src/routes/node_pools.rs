//! Node pools.

use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fsm::{Command, Table};
use model::access::NODE_POOL_ALL;
use model::namespace::NodePool;
use model::node::NodeListStub;
use model::summary::JobListStub;
use model::{Index, Job, Node};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ListParams, ReadParams, WriteParams, jobs, nodes};
use crate::answer::Meta;
use crate::app::App;
use crate::blocking::{Key, View};
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, page};
use crate::options::Options;
use crate::read::read;
use crate::write::propose;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<NodePool>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(info, update, delete))
        .routes(routes!(pool_nodes))
        .routes(routes!(pool_jobs))
}

/// List node pools
#[utoipa::path(get, path = "/v1/node/pools", operation_id = "listNodePools", tag = "node-pools", params(ReadParams, ListParams),
    responses(
        (status = 200, description = "The pools", body = Vec<NodePool>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let look = |v: &View| v.tables(&[Table::NodePools]);
    let (view, mut meta) = read(&app, &options, Key::Table(Table::NodePools), look).await?;
    let pools = view.state.node_pools().map(AsRef::as_ref).filter(|pool| pool.name.starts_with(options.prefix()));
    let rows = pools.map(|pool| (Place::id(&pool.name), pool));
    let holds = |filter: &Filter, pool: &&NodePool| filter.matches(&SCHEMA, pool);
    let pools = page(rows, TokenForm::Id, &options, holds, &mut meta)?;
    options.style.read(&pools, &meta)
}

/// Read a node pool
#[utoipa::path(get, path = "/v1/node/pool/{name}", operation_id = "readNodePool", tag = "node-pools",
    params(("name" = String, Path, description = "Name of the pool"), ReadParams),
    responses(
        (status = 200, description = "The pool", body = NodePool),
        (status = 404, description = "node pool not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(name): Path<String>, options: Options) -> Answered {
    let look = |v: &View| v.row(v.state.node_pool(&name).map(|pool| pool.modify_index), Table::NodePools);
    let (view, meta) = read(&app, &options, Key::Table(Table::NodePools), look).await?;
    let pool = view.state.node_pool(&name).ok_or_else(|| not_found(&meta))?;
    options.style.read(pool, &meta)
}

fn not_found(meta: &Meta) -> ApiError {
    ApiError::not_found("node pool not found").at(meta.clone())
}

/// Create or change a node pool
#[utoipa::path(post, path = "/v1/node/pools", operation_id = "createNodePool", tag = "node-pools", params(WriteParams),
    request_body(content = NodePool, example = json!({"Name": "gpu", "Description": "Machines with cards"})),
    responses(
        (status = 200, description = "It is so"),
        (status = 400, description = "Malformed, or a built-in pool", body = String, content_type = "text/plain")))]
async fn create(State(app): State<App>, options: Options, write: Write, body: Whole) -> Answered {
    put(&app, &options, &write, &body, None).await
}

/// Create or change a node pool by name
#[utoipa::path(post, path = "/v1/node/pool/{name}", operation_id = "updateNodePool", tag = "node-pools",
    params(("name" = String, Path, description = "Name of the pool"), WriteParams), request_body = NodePool,
    responses(
        (status = 200, description = "It is so"),
        (status = 400, description = "Malformed, or a built-in pool", body = String, content_type = "text/plain")))]
async fn update(
    State(app): State<App>,
    Path(name): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    put(&app, &options, &write, &body, Some(&name)).await
}

async fn put(app: &App, options: &Options, write: &Write, body: &Whole, named: Option<&str>) -> Answered {
    let (mut pool, _) = body.decode::<NodePool>(options)?;
    named_as_in_path(&mut pool.name, named, "Node pool")?;
    let (index, _) = propose(app, write, Command::NodePoolUpsert { pools: vec![pool] }).await?;
    Ok(written(index))
}

/// The name in a body is that of the path, which may stand for both.
pub(super) fn named_as_in_path(name: &mut String, in_path: Option<&str>, noun: &str) -> Result<(), ApiError> {
    let Some(wanted) = in_path else { return Ok(()) };
    if name.is_empty() {
        wanted.clone_into(name);
    }
    if name != wanted { Err(ApiError::bad(format!("{noun} name does not match request path"))) } else { Ok(()) }
}

/// The answer to a write that has nothing to say but when.
pub(super) fn written(index: Index) -> Response {
    let mut response = StatusCode::OK.into_response();
    response.headers_mut().insert(crate::answer::INDEX, index.get().into());
    response
}

/// Delete a node pool
///
/// Refused while a node or a job that is not dead uses it.
#[utoipa::path(delete, path = "/v1/node/pool/{name}", operation_id = "deleteNodePool", tag = "node-pools",
    params(("name" = String, Path, description = "Name of the pool"), WriteParams),
    responses(
        (status = 200, description = "Deleted"),
        (status = 400, description = "A built-in pool", body = String, content_type = "text/plain"),
        (status = 404, description = "node pool not found", body = String, content_type = "text/plain"),
        (status = 409, description = "Something uses it", body = String, content_type = "text/plain")))]
async fn delete(State(app): State<App>, Path(name): Path<String>, write: Write) -> Answered {
    let (index, _) = propose(&app, &write, Command::NodePoolDelete { names: vec![name] }).await?;
    Ok(written(index))
}

fn no_prefix(options: &Options) -> Result<(), ApiError> {
    if options.prefix().is_empty() { Ok(()) } else { Err(ApiError::bad("prefix argument not allowed")) }
}

/// List a pool's nodes
#[utoipa::path(get, path = "/v1/node/pool/{name}/nodes", operation_id = "listNodePoolNodes", tag = "node-pools",
    params(("name" = String, Path, description = "Name of the pool"), ReadParams, ListParams, nodes::NodeListParams),
    responses(
        (status = 200, description = "The nodes", body = Vec<NodeListStub>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain"),
        (status = 404, description = "node pool not found", body = String, content_type = "text/plain")))]
async fn pool_nodes(State(app): State<App>, Path(name): Path<String>, options: Options) -> Answered {
    no_prefix(&options)?;
    let shown = nodes::Shown::of(&options)?;
    let (view, mut meta) = read(&app, &options, Key::Table(Table::Nodes), |v| v.tables(&[Table::Nodes])).await?;
    view.state.node_pool(&name).ok_or_else(|| not_found(&meta))?;
    let of_pool = |node: &&Node| name == NODE_POOL_ALL || node.pool() == name;
    let stubs = nodes::stubs(view.state.nodes().map(AsRef::as_ref).filter(of_pool), shown, &options, &mut meta)?;
    options.style.read(&stubs, &meta)
}

/// List a pool's jobs
#[utoipa::path(get, path = "/v1/node/pool/{name}/jobs", operation_id = "listNodePoolJobs", tag = "node-pools",
    params(("name" = String, Path, description = "Name of the pool"), ReadParams, ListParams, jobs::JobListParams),
    responses(
        (status = 200, description = "The jobs", body = Vec<JobListStub>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain"),
        (status = 404, description = "node pool not found", body = String, content_type = "text/plain")))]
async fn pool_jobs(State(app): State<App>, Path(name): Path<String>, options: Options) -> Answered {
    no_prefix(&options)?;
    let (view, mut meta) =
        read(&app, &options, Key::JobList, |v| v.tables(&[Table::Jobs, Table::JobSummaries])).await?;
    view.state.node_pool(&name).ok_or_else(|| not_found(&meta))?;
    let of_pool = |job: &&Job| job.node_pool() == name && options.shows(&job.namespace());
    let jobs = view.state.jobs().map(AsRef::as_ref).filter(of_pool);
    let stubs = jobs::stubs(&view.state, jobs, &options, &mut meta)?;
    options.style.read(&stubs, &meta)
}
