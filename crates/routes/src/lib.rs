//! Which handlers does a service have, and how are they described?
//!
//! Handlers carry their description ([`utoipa::path`]). The published `utoipa-axum` builds a service's whole
//! document while it builds the router, at every start: some 20 MB for a state server, thrown away at once,
//! because what is served is the checked-in document. Here a route keeps *how* it is described, as function
//! pointers, and only [`OpenApiRouter::into_openapi`] calls them: `xtask specs` and the drift tests do.
//!
//! It has the words of `utoipa-axum` that the services use ([`router::OpenApiRouter`], [`routes!`]), and is
//! their dependency under that name.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, Route};
use tower_layer::Layer;
use tower_service::Service;
use utoipa::__dev::{SchemaReferences, Tags};
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Components, OpenApi, OpenApiBuilder, RefOr};

pub mod router {
    pub use crate::OpenApiRouter;
}

#[doc(hidden)]
pub use pastey::paste;

/// Names of types, and what they look like.
type Schemas = Vec<(String, RefOr<Schema>)>;

/// How one handler is described.
#[derive(Clone, Copy)]
struct Described {
    path: fn() -> String,
    methods: fn() -> Vec<HttpMethod>,
    operation: fn() -> Operation,
    tags: fn() -> Vec<&'static str>,
    schemas: fn(&mut Schemas),
}

impl Described {
    fn add_to(self, document: &mut OpenApi) {
        let mut operation = (self.operation)();
        let tags = (self.tags)();
        if !tags.is_empty() {
            operation.tags.get_or_insert_default().extend(tags.into_iter().map(str::to_owned));
        }
        document.paths.add_path_operation((self.path)(), (self.methods)(), operation);
        let mut schemas = Schemas::new();
        (self.schemas)(&mut schemas);
        document.components.get_or_insert_with(Components::new).schemas.extend(schemas);
    }
}

/// Handlers, as [`routes!`] lists them.
pub struct Routes<S> {
    routes: Vec<(String, MethodRouter<S>)>,
    described: Vec<Described>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { routes: Vec::new(), described: Vec::new() }
    }

    /// Adds a handler, described by `P`, at its path and methods.
    #[must_use]
    pub fn with<P, H, T>(mut self, handler: H) -> Self
    where
        P: utoipa::Path + Tags<'static> + SchemaReferences,
        H: Handler<T, S>,
        T: 'static,
    {
        let filter = P::methods().iter().map(filter).reduce(MethodFilter::or);
        let route = filter.map_or_else(MethodRouter::new, |filter| axum::routing::on(filter, handler));
        self.routes.push((P::path(), route));
        self.described.push(Described {
            path: P::path,
            methods: P::methods,
            operation: P::operation,
            tags: P::tags,
            schemas: P::schemas,
        });
        self
    }

    /// See [`MethodRouter::layer`]: for these handlers alone.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        let layered = |(path, route): (String, MethodRouter<S>)| (path, route.layer(layer.clone()));
        self.routes = self.routes.into_iter().map(layered).collect();
        self
    }
}

fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
    }
}

/// Lists handlers (`handler` or `module::handler`) that go together.
#[macro_export]
macro_rules! routes {
    (@next $routes:expr;) => { $routes };
    (@next $routes:expr; $module:ident :: $handler:ident $(, $($rest:tt)*)?) => {
        $crate::routes!(@next
            $routes.with::<$crate::paste!($module::[<__path_ $handler>]), _, _>($module::$handler); $($($rest)*)?)
    };
    (@next $routes:expr; $handler:ident $(, $($rest:tt)*)?) => {
        $crate::routes!(@next
            $routes.with::<$crate::paste!([<__path_ $handler>]), _, _>($handler); $($($rest)*)?)
    };
    ($($handlers:tt)+) => { $crate::routes!(@next $crate::Routes::new(); $($handlers)+) };
}

/// A router that can be described.
pub struct OpenApiRouter<S = ()> {
    router: Router<S>,
    document: Option<OpenApi>,
    described: Vec<Described>,
}

impl<S: Clone + Send + Sync + 'static> Default for OpenApiRouter<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> OpenApiRouter<S> {
    pub fn new() -> Self {
        Self { router: Router::new(), document: None, described: Vec::new() }
    }

    /// One whose document begins with this.
    pub fn with_openapi(document: OpenApi) -> Self {
        Self { document: Some(document), ..Self::new() }
    }

    #[must_use]
    pub fn routes(mut self, routes: Routes<S>) -> Self {
        for (path, route) in routes.routes {
            self.router = self.router.route(&path, route);
        }
        self.described.extend(routes.described);
        self
    }

    /// Adds the routes of another, whose own beginning of a document is left out.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.described.extend(other.described);
        Self { router: self.router.merge(other.router), ..self }
    }

    /// See [`Router::layer`].
    #[must_use]
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        Self { router: self.router.layer(layer), ..self }
    }

    /// The paths and methods that have a handler.
    pub fn served(&self) -> Vec<(String, Vec<HttpMethod>)> {
        self.described.iter().map(|described| ((described.path)(), (described.methods)())).collect()
    }

    pub fn into_router(self) -> Router<S> {
        self.router
    }

    /// Builds the document.
    pub fn into_openapi(self) -> OpenApi {
        let mut document = self.document.unwrap_or_else(|| OpenApiBuilder::new().build());
        self.described.into_iter().for_each(|described| described.add_to(&mut document));
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate as utoipa_axum;

    #[utoipa::path(get, path = "/things", tag = "things", responses((status = 200, body = String)))]
    async fn list() -> &'static str {
        "none"
    }

    #[utoipa::path(post, path = "/things", tag = "things", responses((status = 200, body = String)))]
    async fn make() -> &'static str {
        "made"
    }

    mod inner {
        #[utoipa::path(delete, path = "/thing", tag = "things", responses((status = 204)))]
        pub async fn end() {}
    }

    fn router() -> OpenApiRouter {
        OpenApiRouter::new()
            .routes(utoipa_axum::routes!(list, make))
            .merge(OpenApiRouter::new().routes(routes!(inner::end)))
    }

    #[test]
    fn what_is_routed_is_described() {
        let served: Vec<String> = router().served().into_iter().map(|(path, _)| path).collect();
        assert_eq!(served, ["/things", "/things", "/thing"]);
        let document = serde_json::to_value(router().into_openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths["/things"].as_object().unwrap().len(), 2);
        assert_eq!(paths["/thing"]["delete"]["tags"][0], "things");
        let _ = router().into_router();
    }
}
