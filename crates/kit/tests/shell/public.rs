//! The plain caller of the public API against a listener of ours.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Query as Params, RawQuery};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use axum::{Json, Router};
use client::public::{PublicClient, PublicError, Query, Settings};
use client::tls::Role;
use kit::certs::{self, AuthorityWish, Holder, LeafWish, Subject};
use kit::https::{Https, HttpsSettings};
use kit::pki::Authority;
use kit::process::Shutdown;
use kit::server::{Limits, Listener, Tls, serve};
use serde_json::{Value, json};

fn start(tls: Tls, router: Router) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, tls, router, Limits::public(1 << 20), Shutdown::new()));
    addr
}

fn routes() -> Router {
    let echo = |headers: HeaderMap, RawQuery(query): RawQuery| async move {
        let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        let body = json!({"token": header("x-nomad-token"), "query": query, "extra": header("x-extra")});
        ([("x-nomad-index", "42"), ("x-nomad-knownleader", "true"), ("x-nomad-nexttoken", "t")], Json(body))
    };
    Router::new()
        .route("/v1/echo", get(echo))
        .route("/v1/job", put(|Json(job): Json<Value>| async move { ([("x-nomad-index", "7")], Json(job)) }))
        .route("/v1/empty", put(|| async {}))
        .route("/v1/denied", get(|| async { (StatusCode::FORBIDDEN, "Permission denied\n") }))
        .route("/v1/text", get(|| async { "no json" }))
        .route("/v1/never", get(std::future::pending::<()>))
        .route("/v1/lines", get(|| async { "{\"a\":1}\n{}\n\n{\"b\":2}\n" }))
}

fn client(settings: Settings) -> PublicClient {
    PublicClient::new(settings).unwrap()
}

fn plain(addr: SocketAddr) -> Settings {
    Settings { address: format!("http://{addr}"), ..Settings::default() }
}

#[tokio::test]
async fn what_is_set_goes_with_every_call_and_headers_become_meta() {
    let addr = start(Tls::Plain, routes());
    let client = client(Settings {
        token: Some("secret".to_owned()),
        region: Some("global".to_owned()),
        namespace: Some("apps".to_owned()),
        headers: vec![("X-Extra".to_owned(), "1".to_owned())],
        ..plain(addr)
    });
    let (body, meta): (Value, _) = client.get("/v1/echo", &Query::default()).await.unwrap();
    assert_eq!(body, json!({"token": "secret", "query": "region=global&namespace=apps", "extra": "1"}));
    assert_eq!((meta.index, meta.known_leader, meta.next_token.as_deref()), (42, true, Some("t")));
    let (job, meta): (Value, _) = client.put("/v1/job", &Query::default(), &json!({"ID": "x"})).await.unwrap();
    assert_eq!((job, meta.index), (json!({"ID": "x"}), 7));
    let ((), _) = client.put("/v1/empty", &Query::default(), &()).await.unwrap();
}

#[tokio::test]
async fn an_error_keeps_its_status_and_text() {
    let client = client(plain(start(Tls::Plain, routes())));
    let get = |path: &'static str| {
        let client = client.clone();
        async move { client.get::<Value>(path, &Query::default()).await.unwrap_err() }
    };
    let error = get("/v1/denied").await;
    assert_eq!(error.to_string(), "unexpected response code: 403 (Permission denied)");
    assert!(get("/v1/nothing").await.is_not_found());
    assert!(matches!(get("/v1/text").await, PublicError::Decode { .. }));
    assert!(matches!(get("/v1/bad path").await, PublicError::Request(_)));
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_an_absent_server_is_named() {
    let addr = start(Tls::Plain, routes());
    let settings = Settings { timeout: Duration::from_millis(100), ..plain(addr) };
    let error = client(settings).get::<()>("/v1/never", &Query::default()).await.unwrap_err();
    assert!(matches!(error, PublicError::Timeout { .. }), "{error}");
    let gone = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
    let error = client(plain(gone)).get::<()>("/v1/echo", &Query::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to http://{gone}"));
}

#[tokio::test]
async fn a_follower_sees_each_new_index_once_and_begins_anew_when_it_goes_back() {
    // Answers 5, 5 (nothing new), 9, 3 (restored), then 3 to the question without index, 4.
    let step = Arc::new(AtomicU64::new(0));
    let indexes = [5, 5, 9, 3, 3, 4];
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = asked.clone();
    let handler = move |Params(params): Params<std::collections::HashMap<String, String>>| {
        record.lock().unwrap().push(params.get("index").cloned());
        let index = indexes[step.fetch_add(1, Ordering::SeqCst) as usize];
        async move { ([("x-nomad-index", index.to_string())], Json(index)) }
    };
    let client = client(plain(start(Tls::Plain, Router::new().route("/v1/x", get(handler)))));
    let mut follow = client.blocking::<u64>("/v1/x", Query::default());
    for want in [5, 9, 3, 4] {
        assert_eq!(follow.next().await.unwrap().0, want);
    }
    let asked: Vec<_> = asked.lock().unwrap().iter().map(|i| i.as_deref().unwrap_or("-").to_owned()).collect();
    assert_eq!(asked, ["-", "5", "5", "9", "-", "3"]);
}

#[tokio::test]
async fn https_is_checked_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::create(dir.path(), "global").unwrap();
    let pem = ca.issue(Role::Gateway, "g", "global", Duration::from_secs(3600)).unwrap();
    kit::pki::write_identity(&dir.path().join("g"), ca.ca_pem(), &pem).unwrap();
    let settings = HttpsSettings {
        cert: Some(dir.path().join("g/cert.pem")),
        key: Some(dir.path().join("g/key.pem")),
        ..HttpsSettings::default()
    };
    let https = Https::load(&settings).unwrap().unwrap();
    let addr = start(Tls::Public(https), routes());
    let base = Settings { address: format!("https://{addr}"), ..Settings::default() };
    let get = |settings: Settings| async move { client(settings).get::<Value>("/v1/echo", &Query::default()).await };

    assert!(matches!(get(base.clone()).await, Err(PublicError::Connect { .. })));
    let trusting = Settings { ca_cert: Some(dir.path().join("ca.pem")), ..base.clone() };
    assert!(matches!(get(trusting.clone()).await, Err(PublicError::Connect { .. })), "name is not checked");
    let named = Settings { tls_server_name: Some("g.gateway.global.steppe".to_owned()), ..trusting };
    get(named).await.unwrap();
    get(Settings { tls_skip_verify: true, ..base }).await.unwrap();
}

/// Certificates of an operator's in `dir`: an authority, and one for a server and for a person.
fn operators(dir: &Path) -> HttpsSettings {
    let subject = Subject { common_name: "ours".into(), ..Subject::default() };
    let ca = certs::authority(&AuthorityWish { subject, days: 10, domains: Vec::new() }).unwrap();
    let leaf = |holder, region: &str| {
        let wish = LeafWish {
            holder,
            region: region.to_owned(),
            domain: "nomad".into(),
            days: 5,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        };
        certs::certificate(&ca.cert, &ca.key, &wish).unwrap()
    };
    std::fs::write(dir.join("ca.pem"), &ca.cert).unwrap();
    for (name, pem) in [
        ("server", leaf(Holder::Server, "global")),
        ("next", leaf(Holder::Server, "next")),
        ("cli", leaf(Holder::Cli, "global")),
    ] {
        std::fs::write(dir.join(format!("{name}.pem")), pem.cert).unwrap();
        std::fs::write(dir.join(format!("{name}-key.pem")), pem.key).unwrap();
    }
    HttpsSettings {
        cert: Some(dir.join("server.pem")),
        key: Some(dir.join("server-key.pem")),
        ..HttpsSettings::default()
    }
}

#[tokio::test]
async fn callers_without_a_certificate_are_kept_out_when_one_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| Some(dir.path().join(name));
    let settings = HttpsSettings { client_ca: file("ca.pem"), ..operators(dir.path()) };
    let addr = start(Tls::Public(Https::load(&settings).unwrap().unwrap()), routes());
    let base = Settings { address: format!("https://{addr}"), ca_cert: file("ca.pem"), ..Settings::default() };
    let get = |settings: Settings| async move { client(settings).get::<Value>("/v1/echo", &Query::default()).await };
    assert!(get(base.clone()).await.is_err());
    let (client_cert, client_key) = (file("cli.pem"), file("cli-key.pem"));
    get(Settings { client_cert, client_key, ..base.clone() }).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    operators(other.path());
    let (client_cert, client_key) = (Some(other.path().join("cli.pem")), Some(other.path().join("cli-key.pem")));
    assert!(get(Settings { client_cert, client_key, ..base }).await.is_err());
    // A caller who does not speak TLS at all is told so.
    let plain = get(Settings { address: format!("http://{addr}"), ..Settings::default() }).await.unwrap_err();
    assert!(plain.to_string().contains("Client sent an HTTP request to an HTTPS server."), "{plain}");
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not_while_connections_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let settings = operators(dir.path());
    let https = Https::load(&settings).unwrap().unwrap();
    let addr = start(Tls::Public(https.clone()), routes());
    let named = |region: &str| {
        client(Settings {
            address: format!("https://{addr}"),
            ca_cert: Some(dir.path().join("ca.pem")),
            tls_server_name: Some(format!("server.{region}.nomad")),
            ..Settings::default()
        })
    };
    let get = async |client: &PublicClient| client.get::<Value>("/v1/echo", &Query::default()).await;
    let old = named("global");
    get(&old).await.unwrap();
    // Half of a renewal: the key is another's.
    std::fs::copy(dir.path().join("next-key.pem"), settings.key.as_ref().unwrap()).unwrap();
    https.reload().unwrap_err();
    get(&named("global")).await.unwrap();
    std::fs::copy(dir.path().join("next.pem"), settings.cert.as_ref().unwrap()).unwrap();
    https.reload().unwrap();
    get(&named("next")).await.unwrap();
    assert!(get(&named("global")).await.is_err());
    // The connection that was open is still.
    get(&old).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_an_address_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move { axum::serve(listener, routes()).await });
    let client = client(Settings { address: format!("unix://{}", path.display()), ..Settings::default() });
    let (_, meta) = client.get::<Value>("/v1/echo", &Query::default()).await.unwrap();
    assert_eq!(meta.index, 42);
}

#[tokio::test]
async fn a_stream_is_read_line_by_line() {
    let client = client(plain(start(Tls::Plain, routes())));
    let mut lines = client.stream("/v1/lines", &Query::default()).await.unwrap().lines(100);
    for want in ["{\"a\":1}", "{}", "{\"b\":2}"] {
        assert_eq!(lines.next().await.unwrap().unwrap(), want);
    }
    assert_eq!(lines.next().await.unwrap(), None);
    let error = client.stream("/v1/denied", &Query::default()).await.err().unwrap();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN));
}
