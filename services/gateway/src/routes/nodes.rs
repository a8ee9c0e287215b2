//! Nodes.

use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use axum::extract::{Path, State};
use fsm::Table;
use model::node::NodeListStub;
use model::{Allocation, Node, NodeId};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::allocs::public as public_alloc;
use super::{ListParams, ReadParams};
use crate::answer::Meta;
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, check_uuid, check_uuid_prefix, page};
use crate::options::Options;
use crate::read::read;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Node>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(info)).routes(routes!(allocations))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
pub struct NodeListParams {
    /// Show what each node has.
    resources: Option<bool>,
    /// Show the name of the operating system among the attributes.
    os: Option<bool>,
}

/// List nodes
#[utoipa::path(get, path = "/v1/nodes", operation_id = "listNodes", tag = "nodes", params(ReadParams, ListParams, NodeListParams),
    responses(
        (status = 200, description = "The nodes", body = Vec<NodeListStub>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let shown = Shown::of(&options)?;
    let prefix = options.prefix();
    check_uuid_prefix("node", prefix)?;
    let (view, mut meta) = read(&app, &options, Key::Table(Table::Nodes), |v| v.tables(&[Table::Nodes])).await?;
    let nodes = view.state.nodes().map(AsRef::as_ref).filter(|node: &&Node| node.id.as_str().starts_with(prefix));
    let stubs = stubs(nodes, shown, &options, &mut meta)?;
    options.style.read(&stubs, &meta)
}

/// What a list shows of each node besides the usual.
#[derive(Clone, Copy)]
pub struct Shown {
    resources: bool,
    os: bool,
}

impl Shown {
    /// # Errors
    /// A parameter is no boolean.
    pub fn of(options: &Options) -> Result<Self, ApiError> {
        let flag = |name| {
            let parsed = options.params.flag(name).map(|flag| flag.unwrap_or(false));
            parsed.map_err(|e| ApiError::bad(format!("Failed to parse node list fields: {}", e.text())))
        };
        Ok(Self { resources: flag("resources")?, os: flag("os")? })
    }
}

/// The page of these nodes that the caller asks for.
///
/// # Errors
/// The filter or the token cannot be read.
pub fn stubs<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    shown: Shown,
    options: &Options,
    meta: &mut Meta,
) -> Result<Vec<NodeListStub>, ApiError> {
    let rows = nodes.map(|node| (Place::id(node.id.as_str()), node));
    let holds = |filter: &Filter, node: &&Node| filter.matches(&SCHEMA, &public(node));
    let nodes = page(rows, TokenForm::Id, options, holds, meta)?;
    Ok(nodes.into_iter().map(|node| stub(node, shown.resources, shown.os)).collect())
}

fn stub(node: &Node, resources: bool, os: bool) -> NodeListStub {
    const OS_NAME: &str = "os.name";
    let attribute = |name: &str| node.attributes.get(name).cloned();
    let os_name = attribute(OS_NAME).filter(|_| os);
    NodeListStub {
        address: host(&node.http_addr).to_owned(),
        id: node.id.clone(),
        attributes: os_name.into_iter().map(|name| (OS_NAME.to_owned(), name)).collect(),
        datacenter: node.datacenter.clone(),
        name: node.name.clone(),
        node_pool: node.pool().to_owned(),
        node_class: node.node_class.clone(),
        version: attribute("nomad.version").unwrap_or_default(),
        drain: node.is_draining(),
        scheduling_eligibility: node.scheduling_eligibility,
        status: node.status,
        status_description: node.status_description.clone(),
        drivers: node.drivers.clone(),
        host_volumes: node.host_volumes.clone(),
        node_resources: node.node_resources.clone().filter(|_| resources),
        reserved_resources: node.reserved_resources.clone().filter(|_| resources),
        last_drain: node.last_drain.clone(),
        create_index: node.create_index,
        modify_index: node.modify_index,
    }
}

/// The host of `host:port`, brackets of an IPv6 address left out.
fn host(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A node as it is shown: without its secret, and with what older clients look at.
pub fn public(node: &Node) -> Node {
    Node { secret_id: String::new(), drain: node.is_draining(), ..node.clone() }
}

/// Read a node
#[utoipa::path(get, path = "/v1/node/{node_id}", operation_id = "readNode", tag = "nodes",
    params(("node_id" = String, Path, description = "Full id"), ReadParams),
    responses(
        (status = 200, description = "The node", body = Node),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain"),
        (status = 404, description = "node not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("node", &id)?;
    let id = NodeId::from(id);
    let look = |v: &View| v.row(v.state.node(&id).map(|node| node.modify_index), Table::Nodes);
    let (view, meta) = read(&app, &options, Key::Node(id.clone()), look).await?;
    let node = view.state.node(&id).ok_or_else(|| ApiError::not_found("node not found").at(meta.clone()))?;
    options.style.read(&public(node), &meta)
}

/// List a node's allocations
#[utoipa::path(get, path = "/v1/node/{node_id}/allocations", operation_id = "listNodeAllocations", tag = "nodes",
    params(("node_id" = String, Path, description = "Full id"), ReadParams),
    responses(
        (status = 200, description = "The allocations, with their jobs", body = Vec<Allocation>),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain")))]
async fn allocations(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("node", &id)?;
    let id = NodeId::from(id);
    let look = |v: &View| v.rows(v.state.allocs_of_node(&id).map(|alloc| alloc.modify_index), Table::Allocs);
    let (view, meta) = read(&app, &options, Key::NodeAllocs(id.clone()), look).await?;
    let allocs: Vec<_> = view.state.allocs_of_node(&id).map(|alloc| public_alloc(&view.state, alloc)).collect();
    options.style.read(&allocs, &meta)
}
