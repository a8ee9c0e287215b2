//! What the compatible interface has and this gateway does not yet.
//!
//! `endpoints.tsv` lists all of it. What no handler takes gets a route that says 501 and what
//! is missing: a caller must never take a gap for an empty answer or for a wrong address. So whoever
//! builds an endpoint has nothing to delete here.

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodFilter, on};
use utoipa::openapi::HttpMethod;

use crate::errors::ApiError;
use crate::public::AskedMethod;

const ENDPOINTS: &str = include_str!("endpoints.tsv");

/// One endpoint, with the methods it takes; `PUT` and `POST` are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub methods: Vec<Method>,
    /// With parameters as `{name}`.
    pub path: String,
}

/// Every endpoint of the compatible interface.
pub fn endpoints() -> Vec<Endpoint> {
    let lines = ENDPOINTS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('\t')).map(|(methods, path)| endpoint(methods, path)).collect()
}

fn endpoint(methods: &str, path: &str) -> Endpoint {
    let any = methods.contains("any");
    let wanted = [
        (Method::GET, any || methods.contains("GET")),
        (Method::POST, any || methods.contains("PUT") || methods.contains("POST")),
        (Method::DELETE, any || methods.contains("DELETE")),
    ];
    let methods = wanted.into_iter().filter_map(|(method, takes)| takes.then_some(method)).collect();
    Endpoint { methods, path: axum_path(path) }
}

/// `/v1/job/:job_id` as `/v1/job/{job_id}`; variables' paths and profiles go on to the end.
fn axum_path(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        ":path" => "{*path}".to_owned(),
        "*" => "{*rest}".to_owned(),
        _ => match segment.strip_prefix(':') {
            Some(name) => format!("{{{name}}}"),
            None => segment.to_owned(),
        },
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Paths with the methods that have a handler.
pub type Served = [(String, Vec<HttpMethod>)];

/// Whether a handler takes a method of a path.
pub fn is_served(served: &Served, method: &Method, path: &str) -> bool {
    let takes = |taken: &HttpMethod| match *method {
        Method::GET => *taken == HttpMethod::Get,
        Method::POST => matches!(taken, HttpMethod::Post | HttpMethod::Put),
        Method::DELETE => *taken == HttpMethod::Delete,
        _ => false,
    };
    served.iter().any(|(at, methods)| at == path && methods.iter().any(takes))
}

/// Pages that are served without being in the document.
const PAGES: [&str; 2] = ["/", "/ui/"];

/// Routes for all that has no handler.
pub fn router<S: Clone + Send + Sync + 'static>(served: &Served) -> Router<S> {
    let mut router = Router::new();
    for endpoint in endpoints().iter().filter(|e| !PAGES.contains(&e.path.as_str())) {
        let missing = endpoint.methods.iter().filter(|method| !is_served(served, method, &endpoint.path));
        let filters = missing.filter_map(|method| MethodFilter::try_from(method.clone()).ok());
        if let Some(filter) = filters.reduce(MethodFilter::or) {
            router = router.route(&endpoint.path, on(filter, not_built));
        }
    }
    router
}

async fn not_built(AskedMethod(method): AskedMethod, uri: axum::http::Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("{method} {} is not built yet", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_parameters_are_read_from_the_list() {
        let get = |methods: &str, path: &str| endpoint(methods, path);
        assert_eq!(get("PUT|POST", "/v1/job/:job_id/scale").path, "/v1/job/{job_id}/scale");
        assert_eq!(get("PUT|POST", "/v1/x").methods, [Method::POST]);
        assert_eq!(get("GET(websocket)", "/v1/x").methods, [Method::GET]);
        assert_eq!(get("any", "/v1/x").methods, [Method::GET, Method::POST, Method::DELETE]);
        assert_eq!(get("GET", "/v1/var/:path").path, "/v1/var/{*path}");
        assert!(endpoints().len() > 200);
    }
}
