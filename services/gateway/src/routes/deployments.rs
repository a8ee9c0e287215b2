//! Deployments.

use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use axum::extract::{Path, State};
use fsm::Table;
use model::{Deployment, DeploymentId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::allocs::{AllocStubs, stub};
use super::{ListParams, ReadParams};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, check_uuid, check_uuid_prefix, page};
use crate::options::Options;
use crate::read::read;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Deployment>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(info)).routes(routes!(allocations))
}

/// List deployments
#[utoipa::path(get, path = "/v1/deployments", operation_id = "listDeployments", tag = "deployments",
    params(ReadParams, ListParams),
    responses(
        (status = 200, description = "The deployments", body = Vec<Deployment>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let prefix = options.prefix();
    check_uuid_prefix("deployment", prefix)?;
    let (view, mut meta) =
        read(&app, &options, Key::Table(Table::Deployments), |v| v.tables(&[Table::Deployments])).await?;
    let form = if prefix.is_empty() { TokenForm::IndexId } else { TokenForm::Id };
    let wanted = |row: &&Deployment| options.shows(&row.namespace) && row.id.as_str().starts_with(prefix);
    let rows = view.state.deployments().map(AsRef::as_ref).filter(wanted);
    let rows = rows.map(|row| (Place::by(form, row.create_index, row.id.as_str()), row));
    let holds = |filter: &Filter, row: &&Deployment| filter.matches(&SCHEMA, row);
    let rows = page(rows, form, &options, holds, &mut meta)?;
    options.style.read(&rows, &meta)
}

/// Read a deployment
#[utoipa::path(get, path = "/v1/deployment/{deployment_id}", operation_id = "readDeployment", tag = "deployments",
    params(("deployment_id" = String, Path, description = "Full id"), ReadParams),
    responses(
        (status = 200, description = "The deployment", body = Deployment),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain"),
        (status = 404, description = "deployment not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("deployment", &id)?;
    let id = DeploymentId::from(id);
    let look = |v: &View| v.row(v.state.deployment(&id).map(|row| row.modify_index), Table::Deployments);
    let (view, meta) = read(&app, &options, Key::Deployment(id.clone()), look).await?;
    let missing = || ApiError::not_found("deployment not found").at(meta.clone());
    let row = view.state.deployment(&id).ok_or_else(missing)?;
    options.style.read(row, &meta)
}

/// List a deployment's allocations
#[utoipa::path(get, path = "/v1/deployment/allocations/{deployment_id}", operation_id = "listDeploymentAllocations", tag = "deployments",
    params(("deployment_id" = String, Path, description = "Full id"), ReadParams),
    responses((status = 200, description = "The allocations", body = Vec<model::alloc::AllocStub>)))]
async fn allocations(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("deployment", &id)?;
    let id = DeploymentId::from(id);
    let look = |v: &View| v.rows(v.state.allocs_of_deployment(&id).map(|alloc| alloc.modify_index), Table::Allocs);
    let (view, meta) = read(&app, &options, Key::DeploymentAllocs(id.clone()), look).await?;
    let allocs = view.state.allocs_of_deployment(&id);
    let stubs: Vec<_> = allocs.map(|alloc| stub(&view.state, alloc, AllocStubs::default())).collect();
    options.style.read(&stubs, &meta)
}
