//! Endpoints of the compatible interface that take any method (`any` in `endpoints.tsv`): a request that comes
//! with another one than the handler's is given the handler's.

use axum::http::Method;

/// The method of the handler that serves this path whatever the caller's method is; `None` elsewhere.
pub fn handled_as(path: &str, asked: &Method) -> Option<Method> {
    let method = match path {
        "/v1/client/stats" | "/v1/agent/keyring/list" | "/v1/agent/monitor" | "/v1/agent/monitor/export" => Method::GET,
        "/v1/agent/keyring/install" | "/v1/agent/keyring/use" | "/v1/agent/keyring/remove" => Method::POST,
        "/v1/client/gc" => get_or_post(asked),
        _ if path.starts_with("/v1/agent/pprof/") => Method::GET,
        _ => match path.strip_prefix("/v1/client/allocation/")?.split_once('/')?.1 {
            "restart" => Method::POST,
            "gc" => get_or_post(asked),
            _ => return None,
        },
    };
    Some(method)
}

/// Both have a handler.
fn get_or_post(asked: &Method) -> Method {
    if *asked == Method::POST { Method::POST } else { Method::GET }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::not_built::{endpoints, is_served};

    #[test]
    fn every_endpoint_that_takes_any_method_has_a_handler_for_each_if_it_has_one_at_all() {
        let served = crate::routes::router().served();
        let any: Vec<_> = endpoints().into_iter().filter(|endpoint| endpoint.methods.len() == 3).collect();
        assert!(any.len() >= 12);
        for endpoint in any {
            let path = endpoint.path.replace("{alloc_id}", "1").replace("{profile}", "heap");
            let methods = [Method::GET, Method::POST, Method::DELETE];
            let taken = |method: &Method| handled_as(&path, method).unwrap_or_else(|| method.clone());
            if methods.iter().any(|method| is_served(&served, method, &endpoint.path)) {
                let deaf = methods.iter().find(|method| !is_served(&served, &taken(method), &endpoint.path));
                assert_eq!(deaf, None, "{path}");
            }
        }
        assert_eq!(handled_as("/v1/jobs", &Method::DELETE), None);
        assert_eq!(handled_as("/v1/client/allocation/1/stats", &Method::DELETE), None);
    }
}
