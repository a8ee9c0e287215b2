//! The listener and the client of the cluster's own processes, end to end over loopback.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use client::error::{CallError, Outcome};
use client::http::{Call, Http, HttpLimits, Target};
use client::tls::{Identity, Role};
use futures::StreamExt;
use kit::guard::{self, Peer};
use kit::pki::Authority;
use kit::process::Shutdown;
use kit::server::{Limits, Listener, PeerAddr, Tls, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
/// For what is answered at once, on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

/// A cluster's CA and the identities made with it.
struct Cluster {
    dir: tempfile::TempDir,
    ca: Authority,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path().join("ca"), "global").unwrap();
        Self { dir, ca }
    }

    fn identity_dir(&self, role: Role, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        self.ca.write_identity(&dir, role, name, "global", DAY).unwrap();
        dir
    }

    fn identity(&self, role: Role, name: &str) -> Identity {
        Identity::load(self.identity_dir(role, name)).unwrap()
    }
}

struct Server {
    addr: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
    /// Calls of `/slow` and `/never` that have come in.
    begun: Arc<AtomicUsize>,
}

impl Server {
    fn start(tls: Tls, limits: Limits) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, tls, routes(Arc::clone(&begun)), limits, shutdown.clone()));
        Self { addr, shutdown, task, begun }
    }
}

/// A gateway's client, a state server that it may call, and what must live as long as they do.
fn caller() -> (Http, Target, (Cluster, Server)) {
    let cluster = Cluster::new();
    let server = Server::start(Tls::Mutual(cluster.identity(Role::State, "s1")), Limits::internal());
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let to = Target::new(server.addr, Role::State);
    (http, to, (cluster, server))
}

/// Counts a call that has come in.
fn noted<F>(begun: &AtomicUsize, work: F) -> F {
    begun.fetch_add(1, Ordering::SeqCst);
    work
}

/// `begun` counts the calls of `/slow` and `/never`.
fn routes(begun: Arc<AtomicUsize>) -> Router {
    let slow = Arc::clone(&begun);
    let lines = |Path(n): Path<u64>| async move {
        let lines = futures::stream::iter((0..n).map(|i| io::Result::Ok(Bytes::from(format!("{{\"n\":{i}}}\n\n")))));
        Body::from_stream(lines)
    };
    Router::new()
        .route("/who", get(|peer: Peer| async move { Json(json!({"name": peer.name, "role": peer.role})) }))
        .route("/addr", get(|axum::Extension(addr): axum::Extension<PeerAddr>| async move { addr.0.to_string() }))
        .route("/echo", post(|Json(body): Json<Value>| async move { Json(body) }))
        .route("/bytes", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/state-only", get(|| async { "null" }).layer(guard::require(&[Role::State])))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("handler")
                }
            }),
        )
        .route("/slow", get(move || noted(&slow, tokio::time::sleep(SECOND / 2))))
        .route("/never", get(move || noted(&begun, std::future::pending::<()>())))
        .route("/lines/{n}", get(lines))
        .route("/silent", get(|| async { Body::from_stream(futures::stream::pending::<io::Result<Bytes>>()) }))
        .route("/cut", get(|| async { Body::from("{\"n\":1}\n{\"n\"") }))
        .route(
            "/upload",
            post(|body: Body| async move {
                let mut stream = body.into_data_stream();
                let mut n = 0;
                while let Some(Ok(piece)) = stream.next().await {
                    n += piece.len();
                }
                n.to_string()
            }),
        )
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        text = format!("{text}: {e}");
        next = e.source();
    }
    text
}

#[tokio::test]
async fn calls_carry_the_callers_identity_over_h1_and_h2() {
    let (http, to, _alive) = caller();
    let who: Value = http.get_json(&to, "/who", WITHIN).await.unwrap();
    assert_eq!(who, json!({"name": "g1", "role": "gateway"}));
    let echo: Value = http.post_json(&to, "/echo", &json!({"a": [1]}), WITHIN).await.unwrap();
    assert_eq!(echo, json!({"a": [1]}));
    let echo: Value = http.poll_json(&to, "/echo", &json!({"h": 2}), WITHIN).await.unwrap();
    assert_eq!(echo, json!({"h": 2}));
    assert_eq!(http.post_bytes(&to, "/bytes", Bytes::from(vec![0; 3 << 20]), WITHIN).await.unwrap(), "3145728");
}

#[tokio::test]
async fn calls_reuse_a_connection_and_polls_share_one() {
    let (http, to, _alive) = caller();
    let addr = |poll: bool| {
        let (http, to) = (http.clone(), to.clone());
        async move {
            let call = Call::get("/addr", WITHIN);
            let reply = if poll { http.poll(&to, call).await } else { http.call(&to, call).await };
            reply.unwrap().body
        }
    };
    let first = addr(false).await;
    assert_eq!(addr(false).await, first);
    // An error answer does not cost the connection.
    http.call(&to, Call::get("/nowhere", WITHIN)).await.unwrap_err();
    assert_eq!(addr(false).await, first);
    let polls = futures::future::join_all((0..20).map(|_| addr(true))).await;
    assert!(polls.iter().all(|a| *a == polls[0] && *a != first));
}

#[tokio::test]
async fn a_shared_connection_that_let_a_call_or_a_stream_wait_too_long_gets_no_more_calls() {
    let (http, to, _alive) = caller();
    let addr = || async { http.poll(&to, Call::get("/addr", WITHIN)).await.unwrap().body };
    let first = addr().await;
    let mut lines = http.open_shared(&to, Call::get("/lines/3", WITHIN), WITHIN).await.unwrap().lines(64);
    let mut silent = http.open_shared(&to, Call::get("/silent", WITHIN), SECOND / 10).await.unwrap();
    assert_eq!(addr().await, first, "streams and calls go over one connection");

    http.poll(&to, Call::get("/never", SECOND / 10)).await.unwrap_err();
    let second = addr().await;
    assert_ne!(second, first);
    // What the older one has goes on, and says nothing of the newer one.
    for n in 0..3 {
        assert_eq!(lines.next().await.unwrap().unwrap(), format!("{{\"n\":{n}}}"));
    }
    assert!(matches!(silent.chunk().await, Err(CallError::Timeout { .. })));
    assert_eq!(addr().await, second);

    let mut silent = http.open_shared(&to, Call::get("/silent", WITHIN), SECOND / 10).await.unwrap();
    assert!(matches!(silent.chunk().await, Err(CallError::Timeout { .. })));
    assert!(![first, second].contains(&addr().await));
    // An error answer is an answer.
    let third = addr().await;
    let error = http.open_shared(&to, Call::get("/nowhere", WITHIN), WITHIN).await.err().unwrap();
    assert_eq!((error.status().unwrap().as_u16(), addr().await), (404, third));
}

#[tokio::test]
async fn who_goes_from_peer_to_peer_leaves_no_connection_behind() {
    let cluster = Cluster::new();
    let start = |name: &str| Server::start(Tls::Mutual(cluster.identity(Role::State, name)), Limits::internal());
    let servers = [start("s1"), start("s2"), start("s3")];
    let limits = HttpLimits { idle: SECOND / 10, ..HttpLimits::default() };
    let http = Http::with_limits(cluster.identity(Role::Gateway, "g1"), limits);
    let addr = |at: usize| {
        let (http, to) = (http.clone(), Target::new(servers[at].addr, Role::State));
        async move { http.poll(&to, Call::get("/addr", WITHIN)).await.unwrap().body }
    };
    let open = |at: usize| {
        let (http, to) = (http.clone(), Target::new(servers[at].addr, Role::State));
        async move { http.open_shared(&to, Call::get("/silent", WITHIN), WITHIN).await.unwrap() }
    };
    let (first, _stream, second) = (addr(0).await, open(0).await, addr(1).await);
    tokio::time::sleep(SECOND / 5).await;
    addr(2).await;
    assert_eq!(addr(0).await, first, "it carries a stream");
    assert_ne!(addr(1).await, second, "nobody used it");
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_refused_on_loopback_too() {
    let cluster = Cluster::new();
    let server = Server::start(Tls::Mutual(cluster.identity(Role::State, "s1")), Limits::internal());
    // Plain text.
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    // TLS without a client certificate.
    let mut roots = rustls::RootCertStore::empty();
    for cert in <rustls::pki_types::CertificateDer as rustls::pki_types::pem::PemObject>::pem_slice_iter(
        cluster.ca.ca_pem().as_bytes(),
    ) {
        roots.add(cert.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(client::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let name = "s1.state.global.steppe".try_into().unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap();
    let _ = tls.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await.unwrap_err();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn neither_side_believes_another_clusters_ca() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let server = Server::start(Tls::Mutual(ours.identity(Role::State, "s1")), Limits::internal());
    let http = Http::new(theirs.identity(Role::State, "s1"));
    let error = http.get_json::<Value>((server.addr, Role::State), "/who", WITHIN).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{}", chain(&error));

    // A caller that skips its own check still does not get in: its CA is foreign to the server.
    let mixed = ours.dir.path().join("mixed");
    let pem = theirs.ca.issue(Role::Gateway, "g", "global", DAY).unwrap();
    kit::pki::write_identity(&mixed, ours.ca.ca_pem(), &pem).unwrap();
    let http = Http::new(Identity::load(&mixed).unwrap());
    let error = http.get_json::<Value>((server.addr, Role::State), "/who", WITHIN).await.unwrap_err();
    assert!(matches!(error, CallError::Broken { .. } | CallError::Connect { .. }), "{}", chain(&error));
}

#[tokio::test]
async fn neither_side_believes_a_certificate_that_has_expired_and_says_so() {
    let cluster = Cluster::new();
    let soon = |role: Role, name: &str| {
        let dir = cluster.dir.path().join(name);
        cluster.ca.write_identity(&dir, role, name, "global", SECOND).unwrap();
        Identity::load(dir).unwrap()
    };
    let (old_server, old_caller) = (soon(Role::State, "s1"), soon(Role::Gateway, "g1"));
    let server = Server::start(Tls::Mutual(old_server.clone()), Limits::internal());
    let good = Server::start(Tls::Mutual(cluster.identity(Role::State, "s2")), Limits::internal());
    while std::time::SystemTime::now() <= old_server.not_after().max(old_caller.not_after()) + SECOND {
        tokio::time::sleep(SECOND / 10).await;
    }
    let http = Http::new(cluster.identity(Role::Gateway, "g2"));
    let error = http.get_json::<Value>((server.addr, Role::State), "/who", WITHIN).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(chain(&error).to_lowercase().contains("expired"), "{}", chain(&error));
    http.get_json::<Value>((good.addr, Role::State), "/who", WITHIN).await.unwrap();
    let error = Http::new(old_caller).get_json::<Value>((good.addr, Role::State), "/who", WITHIN).await.unwrap_err();
    assert!(chain(&error).to_lowercase().contains("expired"), "{}", chain(&error));
}

#[tokio::test]
async fn a_server_of_another_role_region_or_name_is_not_spoken_to() {
    let cluster = Cluster::new();
    let server = Server::start(Tls::Mutual(cluster.identity(Role::Broker, "b1")), Limits::internal());
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let good = Target::new(server.addr, Role::Broker);
    for bad in [Target::new(server.addr, Role::State), good.clone().in_region("eu"), good.clone().named("b2")] {
        let error = http.get_json::<Value>(&bad, "/who", WITHIN).await.unwrap_err();
        assert!(chain(&error).contains("the peer is b1.broker.global.steppe"), "{}", chain(&error));
        assert_eq!(error.outcome(), Outcome::NotSent);
    }
    http.get_json::<Value>(&good.named("b1"), "/who", WITHIN).await.unwrap();
}

#[tokio::test]
async fn a_route_is_open_to_its_roles_only() {
    let cluster = Cluster::new();
    let mutual = Server::start(Tls::Mutual(cluster.identity(Role::State, "s1")), Limits::internal());
    let to = Target::new(mutual.addr, Role::State);
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let error = http.get_json::<Value>(&to, "/state-only", WITHIN).await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.code()), (403, "forbidden"));
    let http = Http::new(cluster.identity(Role::State, "s2"));
    http.get_json::<Value>(&to, "/state-only", WITHIN).await.unwrap();
    // The same route on a plain listener knows no caller at all.
    let plain = Server::start(Tls::Plain, Limits::internal());
    let answer = raw(plain.addr, "GET /state-only HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("\"unauthenticated\""), "{answer}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let cluster = Cluster::new();
    let server_dir = cluster.identity_dir(Role::State, "s1");
    let server_identity = Identity::load(&server_dir).unwrap();
    let server = Server::start(Tls::Mutual(server_identity.clone()), Limits::internal());
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let to = Target::new(server.addr, Role::State);
    http.get_json::<Value>(&to, "/who", WITHIN).await.unwrap();
    assert!(!server_identity.reload_if_changed().unwrap());

    // The server becomes a broker: new connections see that, the pooled one goes on.
    cluster.ca.write_identity(&server_dir, Role::Broker, "s1", "global", DAY * 2).unwrap();
    assert!(server_identity.reload_if_changed().unwrap());
    http.get_json::<Value>(&to, "/who", WITHIN).await.unwrap();
    http.identity().reload().unwrap();
    let error = http.get_json::<Value>(&to, "/who", WITHIN).await.unwrap_err();
    assert!(chain(&error).contains("the peer is s1.broker.global.steppe"), "{}", chain(&error));
    http.get_json::<Value>((server.addr, Role::Broker), "/who", WITHIN).await.unwrap();

    // A damaged renewal changes nothing.
    std::fs::write(server_dir.join("cert.pem"), "nonsense").unwrap();
    server_identity.reload_if_changed().unwrap_err();
    assert_eq!(server_identity.me().role, Role::Broker);
}

#[tokio::test]
async fn every_call_ends_at_its_deadline_and_says_what_is_known() {
    let (http, to, _alive) = caller();
    for poll in [false, true] {
        // With a connection made before, the call is surely sent.
        let known = Call::get("/addr", WITHIN);
        if poll { http.poll(&to, known).await } else { http.call(&to, known).await }.unwrap();
        let call = Call::get("/never", SECOND / 5);
        let start = Instant::now();
        let error = if poll { http.poll(&to, call).await } else { http.call(&to, call).await }.unwrap_err();
        assert!(matches!(error, CallError::Timeout { sent: true, .. }), "{error}");
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert!(start.elapsed() < SECOND * 5);
    }
    // Nobody listens there.
    let dead = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap();
    let error = http.get_json::<Value>((dead, Role::State), "/who", WITHIN).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
}

#[tokio::test]
async fn a_call_survives_a_server_that_restarted_meanwhile() {
    let cluster = Cluster::new();
    let identity = cluster.identity(Role::State, "s1");
    let server = Server::start(Tls::Mutual(identity.clone()), Limits::internal());
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let to = Target::new(server.addr, Role::State);
    http.get_json::<Value>(&to, "/who", WITHIN).await.unwrap();
    http.poll_json::<_, Value>(&to, "/echo", &1, WITHIN).await.unwrap();
    server.shutdown.request();
    server.task.await.unwrap();

    let listener = Listener::bind(server.addr).unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(serve(listener, Tls::Mutual(identity), routes(Arc::default()), Limits::internal(), shutdown));
    http.get_json::<Value>(&to, "/who", WITHIN).await.unwrap();
    http.poll_json::<_, Value>(&to, "/echo", &1, WITHIN).await.unwrap();
}

#[tokio::test]
async fn lines_arrive_whole_and_beats_are_passed_over() {
    let (http, to, _alive) = caller();
    let mut lines = http.open_stream(&to, "/lines/20000", WITHIN, WITHIN).await.unwrap().lines(64);
    for i in 0..20_000 {
        assert_eq!(lines.next().await.unwrap().unwrap(), format!("{{\"n\":{i}}}"));
    }
    assert_eq!(lines.next().await.unwrap(), None);

    let mut lines = http.open_stream(&to, "/lines/3", WITHIN, WITHIN).await.unwrap().lines(4);
    assert!(matches!(lines.next().await, Err(CallError::TooLong { limit_bytes: 4, .. })));
    let mut lines = http.open_stream(&to, "/cut", WITHIN, WITHIN).await.unwrap().lines(64);
    lines.next().await.unwrap().unwrap();
    assert!(matches!(lines.next().await, Err(CallError::Truncated { .. })));
    let mut silent = http.open_stream(&to, "/silent", WITHIN, SECOND / 10).await.unwrap();
    assert!(matches!(silent.chunk().await, Err(CallError::Timeout { .. })));
    let error = http.open_stream(&to, "/nowhere", WITHIN, WITHIN).await.err().unwrap();
    assert_eq!(error.status().unwrap().as_u16(), 404);
}

#[tokio::test]
async fn an_upload_streams_past_the_body_limit_of_extractors() {
    let cluster = Cluster::new();
    let limits = Limits { body_bytes: 1000, ..Limits::internal() };
    let server = Server::start(Tls::Mutual(cluster.identity(Role::State, "s1")), limits);
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let to = Target::new(server.addr, Role::State);
    let pieces = futures::stream::iter((0..200).map(|_| Ok(Bytes::from(vec![7; 100_000]))));
    let reply = http.send_stream(&to, Call::post("/upload", SECOND * 10), pieces).await.unwrap();
    assert_eq!(reply.body, "20000000");

    for size in [1000, 1001] {
        let result = http.post_bytes(&to, "/bytes", Bytes::from(vec![0; size]), WITHIN).await;
        match size {
            1000 => assert_eq!(result.unwrap(), "1000"),
            _ => assert_eq!(result.unwrap_err().status().unwrap().as_u16(), 413),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_is_still_sending_sees_why_it_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start(Tls::Plain, Limits { body_bytes: 1000, ..Limits::internal() });
    let body = vec![7; 20 << 20];
    for _ in 0..10 {
        let mut tcp = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let head = format!("POST /bytes HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        tcp.write_all(head.as_bytes()).await.unwrap();
        // All of it, before it looks for an answer.
        tokio::time::timeout(SECOND * 10, tcp.write_all(&body)).await.unwrap().unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(SECOND * 10, tcp.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
}

#[tokio::test]
async fn a_panicking_handler_answers_500_and_nothing_else_suffers() {
    let (http, to, _alive) = caller();
    let error = http.get_json::<Value>(&to, "/panic", WITHIN).await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.code()), (500, "internal"));
    http.get_json::<Value>(&to, "/who", WITHIN).await.unwrap();
}

async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SECOND * 10, tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn who_says_nothing_or_too_slowly_is_cut_off() {
    let limits = Limits { handshake: SECOND / 5, head: SECOND / 5, ..Limits::public(1 << 20) };
    let cluster = Cluster::new();
    let plain = Server::start(Tls::Plain, limits.clone());
    let mutual = Server::start(Tls::Mutual(cluster.identity(Role::State, "s1")), limits);
    for (addr, first) in [(plain.addr, ""), (plain.addr, "P"), (plain.addr, "GET / HTTP/1.1\r\nx: "), (mutual.addr, "")]
    {
        let start = Instant::now();
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        tcp.write_all(first.as_bytes()).await.unwrap();
        let drip = async {
            let mut buffer = [0; 1024];
            loop {
                tokio::select! {
                    n = tcp.read(&mut buffer) => if n.unwrap_or(0) == 0 { return },
                    () = tokio::time::sleep(SECOND / 20) => {
                        if first.len() > 1 && tcp.write_all(b"y").await.is_err() { return }
                    }
                }
            }
        };
        tokio::time::timeout(SECOND * 3, drip).await.unwrap_or_else(|_| panic!("{first:?} was not cut off"));
        assert!(start.elapsed() < SECOND * 2);
    }
}

#[tokio::test]
async fn a_plain_listener_speaks_both_http_versions() {
    let server = Server::start(Tls::Plain, Limits::public(1 << 20));
    let answer = raw(server.addr, "GET /addr HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // The preface in two pieces, then an empty SETTINGS frame; the answer begins with SETTINGS.
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.write_all(b"PR").await.unwrap();
    tokio::time::sleep(SECOND / 20).await;
    tcp.write_all(b"I * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    tokio::time::timeout(WITHIN, tcp.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[3], 4);
}

#[tokio::test]
async fn one_address_may_not_take_all_connections() {
    let limits = Limits { connections_per_ip_max: Some(2), ..Limits::public(1 << 20) };
    let server = Server::start(Tls::Plain, limits);
    let request = "GET /addr HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let held = [TcpStream::connect(server.addr).await.unwrap(), TcpStream::connect(server.addr).await.unwrap()];
    let answer = raw(server.addr, request).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1"), "{answer}");
    drop(held);
    let again = async {
        while !raw(server.addr, request).await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(SECOND / 100).await;
        }
    };
    tokio::time::timeout(SECOND * 5, again).await.unwrap();
}

#[tokio::test]
async fn shutdown_finishes_what_runs_and_cuts_what_does_not_end() {
    let cluster = Cluster::new();
    let limits = Limits { drain: SECOND, ..Limits::internal() };
    let server = Server::start(Tls::Mutual(cluster.identity(Role::State, "s1")), limits);
    let http = Http::new(cluster.identity(Role::Gateway, "g1"));
    let to = Target::new(server.addr, Role::State);
    let call = |path: &'static str| {
        let (http, to) = (http.clone(), to.clone());
        tokio::spawn(async move { http.call(&to, Call::get(path, SECOND * 5)).await })
    };
    let (slow, never) = (call("/slow"), call("/never"));
    let begun = async {
        while server.begun.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(SECOND / 100).await;
        }
    };
    tokio::time::timeout(WITHIN, begun).await.unwrap();
    server.shutdown.request();
    slow.await.unwrap().unwrap();
    let error = never.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Broken { sent: true, .. }), "{error}");
    server.task.await.unwrap();
    assert!(matches!(http.call(&to, Call::get("/who", WITHIN)).await, Err(CallError::Connect { .. })));
}

#[tokio::test]
async fn operators_see_liveness_readiness_metrics_and_the_interface() {
    let readiness = kit::process::ready::Readiness::new();
    let condition = readiness.condition("raft", "no leader");
    let metrics = kit::metrics::Metrics::new(&[("host", "h")]);
    metrics.counter("nomad.raft.apply", &[]).increment();
    let ops = kit::process::ops::router(readiness, metrics, "{\"openapi\":\"3.1.0\"}", &Shutdown::new());
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Tls::Plain, ops, Limits::internal(), Shutdown::new()));
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        async move { raw(addr, &request).await }
    };
    assert!(get("/health/live").await.starts_with("HTTP/1.1 200 "));
    let answer = get("/health/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"reason\":\"no leader\""), "{answer}");
    condition.met();
    assert!(get("/health/ready").await.starts_with("HTTP/1.1 200 "));
    assert!(get("/metrics").await.contains("nomad_raft_apply{host=\"h\"} 1"));
    assert!(get("/openapi.json").await.ends_with("{\"openapi\":\"3.1.0\"}"));
}
