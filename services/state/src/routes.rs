//! The state service's endpoints. Commands go to the leader, wherever they come in; feed and snapshots
//! come from this server's own copy.

use std::sync::Arc;
use std::time::Duration;

use api::state::{ChangePeers, Proposed, RaftPeer, RaftStatus, ReadIndex, SignRequest, Signed};
use api::{Code, ErrorBody};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::http::{Call, Http, Target};
use client::peers::Peers;
use kit::guard::{Peer, Refused, require};
use model::{Index, Role, Term};
use raft::{ProposeError, Verb};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::certificates::Signer;
use crate::feed::{FeedError, TableSet};
use crate::network::{self, FORWARDED, SNAPSHOT_HEADER, base64_bytes};
use crate::server::{Running, Server};
use crate::stream::Led;
use crate::{contact, stream, watch};

/// Longest time a forwarded command may take.
pub(crate) const FORWARD: Duration = Duration::from_secs(10);

/// Largest command.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;
/// Largest append call between state servers.
const RAFT_BYTES_MAX: usize = 64 << 20;

const PROPOSERS: &[Role] =
    &[Role::Gateway, Role::State, Role::Broker, Role::Scheduler, Role::Applier, Role::Controller, Role::Operator];
const READERS: &[Role] = &[
    Role::Gateway,
    Role::State,
    Role::Broker,
    Role::Scheduler,
    Role::Applier,
    Role::Controller,
    Role::Autoscaler,
    Role::Operator,
];
const SERVERS: &[Role] = &[Role::State];
/// State servers hand on what is the leader's.
const MANAGERS: &[Role] = &[Role::Gateway, Role::Operator, Role::State];
/// Everybody renews their own certificate; agents by way of a gateway.
const SIGNEES: &[Role] = &[
    Role::Gateway,
    Role::State,
    Role::Broker,
    Role::Scheduler,
    Role::Applier,
    Role::Controller,
    Role::Autoscaler,
    Role::Operator,
];

#[derive(Clone)]
pub struct App {
    pub server: Server,
    pub http: Http,
    pub peers: Arc<dyn Peers>,
    pub signer: Option<Arc<Signer>>,
    /// How long introduction tokens may be used: usually, and at most.
    pub introduction_ttl: model::Nanos,
    pub introduction_ttl_max: model::Nanos,
    pub shutdown: kit::process::Shutdown,
    /// Places for those who follow the leader.
    pub led: Arc<tokio::sync::Semaphore>,
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(OpenApiRouter::new().routes(routes!(propose)).layer(require(PROPOSERS)).layer(limit(COMMAND_BYTES_MAX)))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(read_index))
                .routes(routes!(feed))
                .routes(routes!(snapshot))
                .routes(routes!(raft_status))
                .layer(require(READERS)),
        )
        .merge(OpenApiRouter::new().routes(routes!(raft_rpc)).layer(require(SERVERS)).layer(limit(RAFT_BYTES_MAX)))
        .merge(OpenApiRouter::new().routes(routes!(raft_watch)).layer(require(SERVERS)))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(change_peers))
                .routes(routes!(archive))
                .routes(routes!(autopilot_health))
                .layer(require(MANAGERS)),
        )
        .merge(OpenApiRouter::new().routes(routes!(dismissed)).layer(require(SERVERS)))
        .merge(OpenApiRouter::new().routes(routes!(sign)).layer(require(SIGNEES)))
        .merge(crate::introductions::router())
        .merge(crate::rotate::router())
        .merge(crate::leases::router())
}

pub(crate) fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

fn limit(bytes: usize) -> axum::extract::DefaultBodyLimit {
    axum::extract::DefaultBodyLimit::max(bytes)
}

impl App {
    /// For those who use the cluster.
    pub(crate) fn running(&self) -> Result<Running, Refused> {
        if let Some(why) = self.server.contact().held() {
            return Err(Refused::new(Code::NotReady, why.as_str()));
        }
        self.raft()
    }

    /// For the servers among themselves.
    fn raft(&self) -> Result<Running, Refused> {
        self.server.get().ok_or_else(|| Refused::new(Code::NotReady, "raft is not running on this server"))
    }

    fn address(&self, peer: &raft::Peer) -> Option<std::net::SocketAddr> {
        network::address(&*self.peers, peer)
    }

    pub(crate) fn leader_header(&self, running: &Running) -> HeaderMap {
        let leader = running.raft.status().borrow().leader.clone();
        let value = leader.and_then(|l| self.address(&l)).and_then(|a| HeaderValue::from_str(&a.to_string()).ok());
        let name = header::HeaderName::from_static(api::headers::LEADER);
        value.map(|v| (name, v)).into_iter().collect()
    }

    /// Hands a call to the leader as it is; `leader` as raft told.
    pub(crate) async fn forward(
        &self,
        leader: Option<raft::Peer>,
        headers: &HeaderMap,
        call: Call,
    ) -> Result<Response, Refused> {
        if headers.contains_key(FORWARDED) {
            return Err(Refused::new(Code::NoLeader, "this server is not the leader any more"));
        }
        let leader = leader.ok_or_else(|| Refused::new(Code::NoLeader, "no leader is known"))?;
        let addr =
            self.address(&leader).ok_or_else(|| Refused::new(Code::NoLeader, "the leader's address is not known"))?;
        let target = Target::new(addr, Role::State).named(leader.name.as_str());
        match self.http.call(&target, network::forwarded(call)).await {
            Ok(reply) => {
                let mut response = ([(header::CONTENT_TYPE, "application/json")], reply.body).into_response();
                if let Ok(value) = HeaderValue::from_str(&addr.to_string()) {
                    response.headers_mut().insert(header::HeaderName::from_static(api::headers::LEADER), value);
                }
                Ok(response)
            }
            Err(client::error::CallError::Status { body, .. }) => {
                Err(Refused(ErrorBody { code: body.code, message: body.message, retry_after_ms: body.retry_after_ms }))
            }
            Err(error) if error.outcome() == client::error::Outcome::NotSent => {
                Err(Refused::new(Code::NoLeader, "the leader cannot be reached"))
            }
            Err(_) => Err(Refused::new(Code::UnknownOutcome, "the leader did not answer")),
        }
    }
}

/// Propose a command
///
/// Any state server takes it; the leader puts it into the log. The answer comes once it is applied. A
/// retry with the same request id is answered with the first one's reply.
#[utoipa::path(post, path = api::state::PROPOSE, operation_id = "propose", tag = "log",
    request_body = fsm::Envelope,
    responses(
        (status = 200, description = "Applied; the reply may be a refusal", body = Proposed),
        (status = 400, description = "Not a command", body = ErrorBody),
        (status = 403, description = "The caller's role may not propose this", body = ErrorBody),
        (status = 413, description = "Larger than a command may be", body = ErrorBody),
        (status = 503, description = "No leader; nothing was done", body = ErrorBody),
        (status = 504, description = "Whether it was done is not known", body = ErrorBody)))]
async fn propose(State(app): State<App>, peer: Peer, headers: HeaderMap, body: Bytes) -> Result<Response, Refused> {
    // What is no command never gets into the log.
    let envelope: fsm::Envelope =
        serde_json::from_slice(&body).map_err(|e| Refused::new(Code::BadRequest, format!("not a command: {e}")))?;
    // A server that forwards a command has seen for whom it speaks.
    let forwarded = peer.role == Role::State && headers.contains_key(FORWARDED);
    if !forwarded && envelope.proposer != peer.role {
        let text = format!("a {} may not speak for a {}", peer.role, envelope.proposer);
        return Err(Refused::new(Code::Forbidden, text));
    }
    let running = app.running()?;
    if running.raft.status().borrow().is_leader() {
        founded(&running)?;
    }
    let _expected = running.machine.expect(&body, envelope);
    match running.raft.propose(body.clone()).await {
        Ok((_, proposed)) => {
            Ok((app.leader_header(&running), [(header::CONTENT_TYPE, "application/json")], proposed).into_response())
        }
        Err(ProposeError::NotLeader { leader }) => {
            let call = Call::post(api::state::PROPOSE, FORWARD).bytes(body);
            app.forward(leader, &headers, call).await
        }
        Err(error) => Err(propose_error(&error)),
    }
}

/// A leader's first command makes the cluster: its region, its namespaces. Nothing is read or written before.
fn founded(running: &Running) -> Result<(), Refused> {
    if running.machine.state().cluster().epoch.is_empty() {
        return Err(Refused::new(Code::NoLeader, "the cluster is being founded"));
    }
    Ok(())
}

pub(crate) fn propose_error(error: &ProposeError) -> Refused {
    let code = match error {
        ProposeError::NotLeader { .. } | ProposeError::Unavailable(_) => Code::NoLeader,
        ProposeError::Unknown(_) => Code::UnknownOutcome,
        ProposeError::TooLarge { .. } => Code::TooLarge,
    };
    Refused::new(code, error.to_string())
}

/// Read index
///
/// From this index on, any copy of the state answers linearizable reads.
#[utoipa::path(get, path = api::state::READ_INDEX, operation_id = "readIndex", tag = "log",
    responses(
        (status = 200, description = "The index", body = ReadIndex),
        (status = 503, description = "No leader", body = ErrorBody)))]
async fn read_index(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refused> {
    let running = app.running()?;
    let asked = tokio::time::timeout(FORWARD, running.raft.read_index()).await;
    let asked = asked.unwrap_or_else(|_| Err(ProposeError::Unavailable("no quorum answers in time".to_owned())));
    match asked {
        Ok(index) => {
            let mut applied = running.machine.applied_index();
            let reached = tokio::time::timeout(FORWARD, applied.wait_for(|at| *at >= Index(index))).await;
            if !matches!(reached, Ok(Ok(_))) {
                return Err(Refused::new(Code::NotReady, "the leader has not applied its own log in time"));
            }
            founded(&running)?;
            // Entries without a command have no line in the feed: name the last one that has.
            let read = ReadIndex { index: running.machine.feed().last() };
            Ok((app.leader_header(&running), Json(read)).into_response())
        }
        Err(ProposeError::NotLeader { leader }) => {
            app.forward(leader, &headers, Call::get(api::state::READ_INDEX, FORWARD)).await
        }
        Err(error) => Err(propose_error(&error)),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FeedQuery {
    /// The follower has everything up to this index.
    after: u64,
    /// Line of history the follower is on.
    epoch: Option<String>,
    /// Rolling hash at `after`, from a follower of all tables.
    hash: Option<String>,
    /// Tables, comma-separated; all when absent.
    tables: Option<String>,
    /// Only the leader's feed is wanted, as long as it leads.
    #[serde(default)]
    led: bool,
}

/// Follow the feed
///
/// Newline-delimited JSON without end: one line per committed index, `{}` when nothing happened for a
/// second. The answer's header `x-steppe-leader` says who leads: the leader has each line first, and takes some
/// followers that ask with `led`.
#[utoipa::path(get, path = api::state::FEED, operation_id = "feed", tag = "feed", params(FeedQuery),
    responses(
        (status = 200, description = "Lines of row changes", body = fsm::FeedLine, content_type = "application/x-ndjson"),
        (status = 400, description = "Unknown table", body = ErrorBody),
        (status = 410, description = "Too far back or another history: start from a snapshot", body = ErrorBody),
        (status = 429, description = "Not the leader, or it has no place left: follow any server", body = ErrorBody),
        (status = 503, description = "Not running", body = ErrorBody)))]
async fn feed(State(app): State<App>, peer: Peer, Query(query): Query<FeedQuery>) -> Result<Response, Refused> {
    let running = app.running()?;
    let tables = tables(query.tables.as_deref())?;
    let after = Index(query.after);
    let contact = Arc::clone(app.server.contact());
    if !contact.is_fresh() {
        return Err(Refused::new(Code::NotReady, "this server hears no leader"));
    }
    let feed = Arc::clone(running.machine.feed());
    feed.behind(after, query.epoch.as_deref(), 0).map_err(|e| gone(&e))?;
    if let (Some(theirs), Some(ours)) = (&query.hash, feed.hash_at(after))
        && *theirs != ours
    {
        tracing::error!(index = after.get(), "a follower's copy differs from ours");
        return Err(Refused::new(Code::Gone, "the follower's copy differs"));
    }
    let led = match query.led {
        true => Some(Led::enter(&app.led, running.raft.status()).ok_or_else(no_place)?),
        false => None,
    };
    let (epoch, patience) = (query.epoch.filter(|e| !e.is_empty()), stream::patience(peer.role));
    let follower = stream::Follower { epoch, tables, patience };
    let body = Body::from_stream(stream::feed(feed, after, follower, contact, app.shutdown.clone(), led));
    Ok((app.leader_header(&running), [(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn no_place() -> Refused {
    Refused::new(Code::TooMany, "this server does not lead, or has no place left for another follower")
}

fn tables(names: Option<&str>) -> Result<TableSet, Refused> {
    TableSet::parse(names.unwrap_or_default()).ok_or_else(|| Refused::new(Code::BadRequest, "unknown table"))
}

fn gone(error: &FeedError) -> Refused {
    Refused::new(Code::Gone, error.to_string())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SnapshotQuery {
    /// Tables, comma-separated; all when absent.
    tables: Option<String>,
}

/// Snapshot
///
/// The state at one index, in the snapshot codec; follow the feed from there.
#[utoipa::path(get, path = api::state::SNAPSHOT, operation_id = "snapshot", tag = "feed", params(SnapshotQuery),
    responses(
        (status = 200, description = "A snapshot", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, description = "Unknown table", body = ErrorBody),
        (status = 503, description = "Nothing to give yet", body = ErrorBody)))]
async fn snapshot(State(app): State<App>, Query(query): Query<SnapshotQuery>) -> Result<Response, Refused> {
    let running = app.running()?;
    let tables = tables(query.tables.as_deref())?;
    let state = running.machine.state();
    if state.cluster().epoch.is_empty() {
        return Err(Refused::new(Code::NotReady, "this server has no state yet"));
    }
    let body = Body::from_stream(stream::snapshot(state, Some(tables)));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Raft status
#[utoipa::path(get, path = api::state::RAFT_STATUS, operation_id = "raftStatus", tag = "raft",
    responses(
        (status = 200, description = "Raft as this server sees it", body = RaftStatus),
        (status = 503, description = "Not running", body = ErrorBody)))]
async fn raft_status(State(app): State<App>) -> Result<Json<RaftStatus>, Refused> {
    let running = app.raft()?;
    let status = running.raft.now();
    let peer = |voter: bool| {
        let app = app.clone();
        move |p: &raft::Peer| RaftPeer {
            id: p.id,
            name: p.name.clone(),
            addr: app.address(p).map_or_else(|| p.addr.clone(), |a| a.to_string()),
            voter,
        }
    };
    Ok(Json(RaftStatus {
        id: status.id,
        initialized: status.initialized,
        founder: app.server.founder(),
        asks: app.server.asks(&status),
        waiting: app.server.waiting().as_ref().clone(),
        name: status
            .voters
            .iter()
            .chain(&status.learners)
            .find(|p| p.id == status.id)
            .map(|p| p.name.clone())
            .unwrap_or_default(),
        role: format!("{:?}", status.role).to_lowercase(),
        term: Term(status.term),
        leader: status.leader.as_ref().filter(|_| contact::hears_leader(&running)).map(peer(true)),
        peers: status.voters.iter().map(peer(true)).chain(status.learners.iter().map(peer(false))).collect(),
        last_log: Index(status.last_log),
        committed: Index(status.committed),
        applied: Index(status.applied),
        snapshot: Index(status.snapshot),
        last_contact_ms: running.raft.contact().map_or(0, millis),
        healthy: status.fault.is_none(),
    }))
}

/// Raft message
///
/// Between state servers only.
#[utoipa::path(post, path = "/v1/internal/raft/rpc/{verb}", operation_id = "raftRpc", tag = "raft",
    params(("verb" = String, Path, description = "append, vote, pre_vote, transfer or snapshot")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The answer", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 409, description = "Meant for another raft member", body = ErrorBody),
        (status = 503, description = "Not running", body = ErrorBody)))]
async fn raft_rpc(
    State(app): State<App>,
    Path(verb): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let running = app.raft()?;
    addressed(&headers, running.raft.status().borrow().id)?;
    let answer = if verb == "snapshot" {
        let header = headers.get(SNAPSHOT_HEADER).and_then(|v| v.to_str().ok()).and_then(base64_bytes);
        let header = header.ok_or_else(|| Refused::new(Code::BadRequest, "snapshot header is missing"))?;
        running.raft.handle_snapshot(header.into(), body.into_data_stream()).await
    } else {
        let verb = Verb::ALL.into_iter().find(|v| v.as_str() == verb);
        let verb = verb.ok_or_else(|| Refused::new(Code::NotFound, "unknown raft message"))?;
        let body = axum::body::to_bytes(body, RAFT_BYTES_MAX).await;
        let body = body.map_err(|_| Refused::new(Code::TooLarge, "raft message is too large or broke off"))?;
        running.raft.handle(verb, body).await
    };
    match answer {
        Ok(bytes) => Ok(bytes.into_response()),
        Err(raft::Error::Malformed(what)) => Err(Refused::new(Code::BadRequest, what)),
        Err(error) => Err(Refused::new(Code::NotReady, error.to_string())),
    }
}

/// Watch a server
///
/// A line each second for as long as its process lives; the last one says that it ends in good order.
#[utoipa::path(get, path = api::state::RAFT_WATCH, operation_id = "raftWatch", tag = "raft",
    responses((status = 200, description = "Lines without end", body = String, content_type = "text/plain")))]
async fn raft_watch(State(app): State<App>) -> Response {
    let body = Body::from_stream(watch::beats(app.shutdown));
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Names and addresses are given again to servers with other data, raft ids never: what was meant for
/// another member would mix two logs.
fn addressed(headers: &HeaderMap, id: u64) -> Result<(), Refused> {
    let to = headers.get(network::MEMBER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    match to {
        Some(to) if to == id => Ok(()),
        Some(to) => {
            Err(Refused::new(Code::Conflict, format!("this server is raft member {id}, the message is for {to}")))
        }
        None => Err(Refused::new(Code::BadRequest, "the message does not say for which raft member it is")),
    }
}

/// Change the set of peers
#[utoipa::path(post, path = api::state::RAFT_PEERS, operation_id = "changePeers", tag = "raft",
    request_body = ChangePeers,
    responses(
        (status = 204, description = "Done"),
        (status = 409, description = "Raft refuses the change", body = ErrorBody),
        (status = 503, description = "No leader", body = ErrorBody)))]
async fn change_peers(
    State(app): State<App>,
    headers: HeaderMap,
    Json(change): Json<ChangePeers>,
) -> Result<Response, Refused> {
    let running = app.running()?;
    let done = match &change {
        ChangePeers::Add(peer) => running
            .raft
            .add_learner(raft::Peer { id: peer.id, name: peer.name.clone(), addr: peer.addr.clone() })
            .await
            .map(|_| ()),
        ChangePeers::Remove { id } => {
            let status = running.raft.status().borrow().clone();
            let goes = status.voters.iter().chain(&status.learners).find(|p| p.id == *id);
            // First, or it might ask, and be taken in, before it hears of it.
            if let (true, Some(goes)) = (status.is_leader(), goes) {
                dismiss(&app, goes).await;
            }
            running.raft.remove(*id).await.map(|_| ())
        }
        ChangePeers::TransferLeadership { to } => running.raft.transfer_leadership(*to).await,
    };
    match done {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(raft::Error::NotLeader { leader }) => {
            let call = Call::post(api::state::RAFT_PEERS, FORWARD).json(&change);
            let call = call.map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
            app.forward(leader, &headers, call).await
        }
        Err(error) => Err(Refused::new(Code::Conflict, error.to_string())),
    }
}

/// A server that lives is told that it was taken out on purpose, so that it does not ask to come back.
async fn dismiss(app: &App, peer: &raft::Peer) {
    let Some(target) = network::target(&*app.peers, peer) else { return };
    if let Err(error) = app.http.call(&target, Call::post(api::state::DISMISSED, FORWARD / 10)).await {
        tracing::info!(peer = peer.name, error = %error, "the removed server does not know of it");
    }
}

/// Hear of the own removal
#[utoipa::path(post, path = api::state::DISMISSED, operation_id = "dismissed", tag = "raft",
    responses((status = 204, description = "This server does not ask to be taken in again before it is restarted")))]
async fn dismissed(State(app): State<App>) -> StatusCode {
    tracing::info!("an operator removed this server from the group");
    app.server.dismiss();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ArchiveQuery {
    /// Not before the state has reached this index.
    index: Option<u64>,
}

/// The whole state
///
/// With what is secret of the keys and with answered requests: for an operator's snapshot.
#[utoipa::path(get, path = api::state::ARCHIVE, operation_id = "archive", tag = "feed", params(ArchiveQuery),
    responses(
        (status = 200, description = "A snapshot", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 503, description = "Nothing to give yet", body = ErrorBody)))]
async fn archive(State(app): State<App>, Query(query): Query<ArchiveQuery>) -> Result<Response, Refused> {
    let running = app.running()?;
    let wanted = Index(query.index.unwrap_or(0));
    let mut feed = running.machine.feed().subscribe();
    let reached = tokio::time::timeout(FORWARD, feed.wait_for(|at| *at >= wanted)).await;
    let state = running.machine.state();
    if !matches!(reached, Ok(Ok(_))) || state.index() < wanted || state.cluster().epoch.is_empty() {
        return Err(Refused::new(Code::NotReady, "this server's state is not that far"));
    }
    let body = Body::from_stream(stream::snapshot(state, None));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Read the group's health
#[utoipa::path(get, path = api::state::AUTOPILOT_HEALTH, operation_id = "autopilotHealth", tag = "raft",
    responses(
        (status = 200, description = "As the leader last found it", body = api::public::OperatorHealthReply),
        (status = 503, description = "No leader, or it has not looked yet", body = ErrorBody)))]
async fn autopilot_health(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refused> {
    if let Some(health) = app.server.health() {
        return Ok(Json(health).into_response());
    }
    let leader = app.running()?.raft.status().borrow().clone();
    if leader.is_leader() {
        return Err(Refused::new(Code::NotReady, "the leader has not looked at the group yet"));
    }
    app.forward(leader.leader, &headers, Call::get(api::state::AUTOPILOT_HEALTH, FORWARD)).await
}

/// Sign a certificate
///
/// Renews the caller's own certificate. An operator may have one signed for another; a gateway for an
/// agent that it has authenticated.
#[utoipa::path(post, path = api::state::CERTIFICATES, operation_id = "signCertificate", tag = "trust",
    request_body = SignRequest,
    responses(
        (status = 200, description = "The certificate", body = Signed),
        (status = 400, description = "Not a usable signing request", body = ErrorBody),
        (status = 403, description = "Not the caller's own name", body = ErrorBody),
        (status = 503, description = "This server does not have the authority's key", body = ErrorBody)))]
async fn sign(
    State(app): State<App>,
    peer: Peer,
    Json(mut request): Json<SignRequest>,
) -> Result<Json<Signed>, Refused> {
    let own = request.role == peer.role && request.name == peer.name;
    let vouched = peer.role == Role::Operator || peer.role == Role::Gateway && request.role == Role::Agent;
    if !own && !vouched {
        return Err(Refused::new(Code::Forbidden, "a certificate is signed for the caller's own name only"));
    }
    if !vouched {
        request.admission.clone_from(&peer.admission);
    }
    let signer = app
        .signer
        .as_ref()
        .ok_or_else(|| Refused::new(Code::NotReady, "this server does not have the authority's key"))?;
    let certificate = signer.sign(&request).map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
    tracing::info!(role = %request.role, name = request.name, "certificate signed");
    Ok(Json(Signed { certificate, ca: signer.ca_pem().to_owned() }))
}
