//! Namespaces made, changed and deleted.

use axum::extract::{Path, State};
use fsm::Command;
use model::namespace::Namespace;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WriteParams;
use super::node_pools::{named_as_in_path, written};
use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::write::propose;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(update)).routes(routes!(delete))
}

/// Create or change a namespace
#[utoipa::path(post, path = "/v1/namespace", operation_id = "createNamespace", tag = "namespaces", params(WriteParams),
    request_body(content = Namespace, example = json!({"Name": "team-a", "Description": "What team A runs"})),
    responses(
        (status = 200, description = "It is so"),
        (status = 400, description = "Malformed", body = String, content_type = "text/plain")))]
async fn create(State(app): State<App>, options: Options, write: Write, body: Whole) -> Answered {
    put(&app, &options, &write, &body, None).await
}

/// Create or change a namespace by name
#[utoipa::path(post, path = "/v1/namespace/{name}", operation_id = "updateNamespace", tag = "namespaces",
    params(("name" = String, Path, description = "Name of the namespace"), WriteParams), request_body = Namespace,
    responses(
        (status = 200, description = "It is so"),
        (status = 400, description = "Malformed", body = String, content_type = "text/plain")))]
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
    let (mut namespace, _) = body.decode::<Namespace>(options)?;
    named_as_in_path(&mut namespace.name, named, "Namespace")?;
    for (what, asked) in [
        ("Quota", !namespace.quota.is_empty()),
        ("NodePoolConfiguration", namespace.node_pool_configuration.as_ref().is_some_and(|c| *c != Default::default())),
        ("Capabilities", namespace.capabilities.as_ref().is_some_and(|c| *c != Default::default())),
    ] {
        // Nothing enforces these yet, and a limit that does not hold is worse than none.
        if asked {
            return Err(ApiError::bad(format!("Invalid namespace {:?}: {what} is not built yet", namespace.name)));
        }
    }
    let (index, _) = propose(app, write, Command::NamespaceUpsert { namespaces: vec![namespace] }).await?;
    Ok(written(index))
}

/// Delete a namespace
///
/// Refused while it has jobs that are not dead, or allocations that run.
#[utoipa::path(delete, path = "/v1/namespace/{name}", operation_id = "deleteNamespace", tag = "namespaces",
    params(("name" = String, Path, description = "Name of the namespace"), WriteParams),
    responses(
        (status = 200, description = "Deleted"),
        (status = 404, description = "Namespace not found", body = String, content_type = "text/plain"),
        (status = 409, description = "Something is in it, or it is the default one", body = String, content_type = "text/plain")))]
async fn delete(State(app): State<App>, Path(name): Path<String>, write: Write) -> Answered {
    let (index, _) = propose(&app, &write, Command::NamespaceDelete { names: vec![name.into()] }).await?;
    Ok(written(index))
}
