//! Namespaces, as they are read.

use axum::extract::{Path, State};
use fsm::Table;
use model::NamespaceName;
use model::namespace::Namespace;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::read::read;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(info))
}

/// List namespaces
#[utoipa::path(get, path = "/v1/namespaces", operation_id = "listNamespaces", tag = "namespaces", params(ReadParams),
    responses((status = 200, description = "The namespaces", body = Vec<Namespace>)))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let (view, meta) = read(&app, &options, Key::Table(Table::Namespaces), |v| v.tables(&[Table::Namespaces])).await?;
    let rows = view.state.namespaces().filter(|row| row.name.starts_with(options.prefix()));
    options.style.read(&rows.collect::<Vec<_>>(), &meta)
}

/// Read a namespace
#[utoipa::path(get, path = "/v1/namespace/{name}", operation_id = "readNamespace", tag = "namespaces",
    params(("name" = String, Path, description = "Name of the namespace"), ReadParams),
    responses(
        (status = 200, description = "The namespace", body = Namespace),
        (status = 404, description = "Namespace not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(name): Path<String>, options: Options) -> Answered {
    let name = NamespaceName::from(name);
    let look = |v: &View| v.row(v.state.namespace(&name).map(|row| row.modify_index), Table::Namespaces);
    let (view, meta) = read(&app, &options, Key::Namespace(name.clone()), look).await?;
    let missing = || ApiError::not_found("Namespace not found").at(meta.clone());
    options.style.read(view.state.namespace(&name).ok_or_else(missing)?, &meta)
}
