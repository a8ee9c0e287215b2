//! What the applier says of plans when the log does not answer as it should. The state servers' API is a
//! stand-in that hands everything to a real one, plans aside: what becomes of those is each test's to say.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::state::{LEASE, PROPOSE, Proposed, READ_INDEX, ReadIndex};
use api::{Code, ErrorBody};
use applier::apply::{Applier, NotActive, Submission, Watch};
use applier::room::{Follow, Room};
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use client::http::{Call, Http, Target};
use client::lease::LeaseKeeper;
use client::peers::{PeerAddr, StaticPeers};
use client::replica::Replica;
use client::state::StateClient;
use client::tls::Identity;
use e2e::nouns;
use e2e::plane::{Plane, WITHIN};
use fsm::{Command, Envelope, LeaseName, PartDropped, Plan, PlanResult, Refusal, Reply, RequestId};
use kit::metrics::Metrics;
use kit::process::Shutdown;
use kit::server::{Limits, Listener, Tls, serve};
use model::{Index, Role};
use placement::{Fleet, Request};
use tokio::sync::{mpsc, oneshot, watch};

/// What happens to a `PlanApply`.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Not taken: nothing was done.
    Unavailable,
    /// Nothing was done, but nobody knows.
    LostBefore,
    /// It was done, but nobody knows.
    LostAfter,
    /// The log has forgotten the request.
    TooOld,
    /// The log says no.
    Refused,
    /// No state server would put it into the log.
    Rejected,
}

struct StandIn {
    http: Http,
    real: Target,
    fates: Mutex<VecDeque<Fate>>,
    /// Fate of all plans behind those; `None`: they are handed on.
    always: watch::Sender<Option<Fate>>,
    /// Request and evaluation of each plan that came, in order.
    seen: watch::Sender<Vec<(RequestId, String)>>,
}

impl StandIn {
    async fn pass(&self, path: &'static str, body: Bytes) -> Response {
        match self.http.call(&self.real, Call::post(path, WITHIN).bytes(body)).await {
            Ok(reply) => reply.body.into_response(),
            Err(error) => panic!("the real one: {error}"),
        }
    }
}

fn no(status: StatusCode, code: Code) -> Response {
    let body = ErrorBody { code: code.as_str().to_owned(), message: "by the test".into(), retry_after_ms: None };
    (status, Json(body)).into_response()
}

fn says(refusal: Refusal) -> Response {
    Json(Proposed { index: Index(0), reply: Reply::Refused(refusal) }).into_response()
}

async fn propose(Shared(this): Shared<Arc<StandIn>>, body: Bytes) -> Response {
    let envelope: Envelope = serde_json::from_slice(&body).unwrap();
    let Command::PlanApply { plans } = &envelope.command else { return this.pass(PROPOSE, body).await };
    let entry = (envelope.request.unwrap(), plans[0].eval_id.to_string());
    this.seen.send_modify(|seen| seen.push(entry));
    let fate = this.fates.lock().unwrap().pop_front().or(*this.always.borrow());
    match fate {
        None => this.pass(PROPOSE, body).await,
        Some(Fate::Unavailable) => no(StatusCode::SERVICE_UNAVAILABLE, Code::NoLeader),
        Some(Fate::LostBefore) => no(StatusCode::GATEWAY_TIMEOUT, Code::UnknownOutcome),
        Some(Fate::LostAfter) => {
            this.pass(PROPOSE, body).await;
            no(StatusCode::GATEWAY_TIMEOUT, Code::UnknownOutcome)
        }
        Some(Fate::TooOld) => says(Refusal::RequestTooOld),
        Some(Fate::Refused) => says(Refusal::Conflict("by the test".into())),
        Some(Fate::Rejected) => no(StatusCode::BAD_REQUEST, Code::BadRequest),
    }
}

async fn renew(Shared(this): Shared<Arc<StandIn>>, body: Bytes) -> Response {
    this.pass(LEASE, body).await
}

async fn read_index(Shared(this): Shared<Arc<StandIn>>) -> Json<ReadIndex> {
    Json(this.http.get_json(this.real.clone(), READ_INDEX, WITHIN).await.unwrap())
}

/// An applier before a stand-in, a node with room for one of two jobs, and a plan for each.
struct World {
    plane: Plane,
    replica: Replica,
    stand_in: Arc<StandIn>,
    submit: mpsc::Sender<Submission>,
    first: Plan,
    second: Plan,
    shutdown: Shutdown,
}

type Answer = oneshot::Receiver<Result<Vec<PlanResult>, NotActive>>;

impl World {
    async fn new() -> Self {
        let plane = Plane::of(vec![(Role::State, "state-0".into()), (Role::Controller, "controller-0".into())]).await;
        plane.nodes(vec![nouns::node(1, 1_000, 8_000)]).await;
        let first = plan(&plane, "first").await;
        let second = plan(&plane, "second").await;
        let shutdown = Shutdown::new();
        let stand_in = Arc::new(StandIn {
            // The applier's caller: the real server must take its commands as the applier's.
            http: plane.caller(Role::Applier, "applier-0"),
            real: plane.targets(Role::State, 1).await.remove(0),
            fates: Mutex::default(),
            always: watch::Sender::new(None),
            seen: watch::Sender::default(),
        });
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let identity = Identity::load(plane.settings(Role::State, "stand-in").identity_dir).unwrap();
        let router =
            Router::new().route(PROPOSE, post(propose)).route(LEASE, post(renew)).route(READ_INDEX, get(read_index));
        let router = router.with_state(Arc::clone(&stand_in));
        tokio::spawn(serve(listener, Tls::Mutual(identity), router, Limits::internal(), shutdown.clone()));

        let peers = StaticPeers(vec![(Role::State, PeerAddr { name: "stand-in".into(), addr })]);
        let state = StateClient::new(plane.caller(Role::Applier, "applier-0"), Arc::new(peers), Role::Applier);
        let room = Room::default();
        let replica = plane.shell.replica(&fsm::Table::ALL, Box::new(Follow::new(room.clone())));
        let (lease, _) = LeaseKeeper::start(
            state.clone(),
            replica.clone(),
            LeaseName::Applier,
            "applier-0".into(),
            "127.0.0.1:1".into(),
            shutdown.token(),
        );
        let held = async { lease.watch().wait_for(Option::is_some).await.map(|_| ()).unwrap() };
        tokio::time::timeout(WITHIN, held).await.unwrap();
        let metrics = Metrics::new(&[]);
        let metrics = applier::Counts {
            plans: metrics.counter("plans", &[]),
            conflicts: metrics.counter("conflicts", &[]),
            commit: metrics.sample("commit", &[]),
        };
        let (submit, submissions) = mpsc::channel(8);
        let applier = Applier { state, replica: replica.clone(), room, lease, metrics, watch: Watch::default() };
        tokio::spawn(applier.run(submissions));
        Self { plane, replica, stand_in, submit, first, second, shutdown }
    }

    fn fates(&self, fates: impl IntoIterator<Item = Fate>) {
        self.stand_in.fates.lock().unwrap().extend(fates);
    }

    async fn submit(&self, plan: &Plan) -> Answer {
        let (answer, waiting) = oneshot::channel();
        self.submit.send(Submission { plans: vec![plan.clone()], answer }).await.unwrap();
        waiting
    }

    /// Waits until the stand-in has seen so many plans.
    async fn until_seen(&self, count: usize) {
        let mut seen = self.stand_in.seen.subscribe();
        tokio::time::timeout(WITHIN, seen.wait_for(|seen| seen.len() >= count)).await.unwrap().unwrap();
    }

    fn seen(&self) -> Vec<(RequestId, String)> {
        self.stand_in.seen.borrow().clone()
    }

    /// How many allocations the log really has.
    async fn placed(&self) -> usize {
        let index = self.plane.state.read_index(WITHIN).await.unwrap();
        self.replica.reached(index, WITHIN).await.unwrap().allocs().count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

/// What a scheduler wants for a job that takes more than half of the node.
async fn plan(plane: &Plane, name: &str) -> Plan {
    let eval = plane.register(nouns::job(name, "batch", 1, 600)).await;
    let state = plane.until("the evaluation", |state| state.eval(&eval).is_some()).await;
    let (fleet, eval) = (Fleet::from_state(&state), state.eval(&eval).unwrap().clone());
    let mut new_id = client::state::new_uuid;
    let request = Request {
        state: &state,
        fleet: &fleet,
        eval: &eval,
        now: client::clock::unix_nanos(),
        seed: 7,
        retry: false,
        new_id: &mut new_id,
        suspects: &|_| false,
        clock: &|| 0,
    };
    placement::schedule(request).plan
}

async fn answered(waiting: Answer) -> Result<Vec<PlanResult>, NotActive> {
    tokio::time::timeout(WITHIN, waiting).await.expect("an answer").unwrap()
}

fn is_dropped(results: &[PlanResult]) -> bool {
    results.len() == 1 && results[0].placed.is_empty() && results[0].dropped.values().eq([&PartDropped::NodeFull])
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_the_outcome_is_unknown_nothing_is_answered_and_the_same_request_is_sent_again() {
    let world = World::new().await;
    // Longer than one proposal lasts, so that the applier itself has to ask again.
    world.stand_in.always.send_replace(Some(Fate::LostBefore));
    world.fates([Fate::Unavailable, Fate::LostBefore, Fate::LostAfter]);
    let mut first = world.submit(&world.first).await;
    let second = world.submit(&world.second).await;
    world.until_seen(4).await;
    // One proposal has its ten seconds; the next attempt is one of the applier's own.
    let own = tokio::time::sleep(Duration::from_millis(10_500));
    tokio::select! {
        answer = &mut first => panic!("answered while nobody knows: {answer:?}"),
        () = own => {}
    }
    let seen = world.seen();
    assert!(seen.iter().all(|entry| *entry == seen[0]), "one request, and nothing overtakes it: {seen:?}");
    world.stand_in.always.send_replace(None);

    let results = answered(first).await.unwrap();
    assert!(results.len() == 1 && results[0].placed.len() == 1, "done once, at the third attempt: {results:?}");
    assert!(is_dropped(&answered(second).await.unwrap()), "its room was never free");
    assert_eq!(world.placed().await, 1);
    let seen = world.seen();
    assert!(seen.iter().filter(|(_, eval)| *eval == seen[0].1).all(|(request, _)| *request == seen[0].0));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_are_refused_are_not_answered_as_done_and_leave_their_room() {
    for fate in [Fate::Refused, Fate::Rejected] {
        let world = World::new().await;
        world.fates([Fate::Unavailable, fate]);
        assert_eq!(answered(world.submit(&world.first).await).await, Err(NotActive), "{fate:?}");
        assert_eq!(world.placed().await, 0, "{fate:?}");
        let results = answered(world.submit(&world.second).await).await.unwrap();
        assert_eq!(results[0].placed.len(), 1, "{fate:?}: the room is free");
        let seen = world.seen();
        assert_eq!(seen.len(), 3);
        assert!(seen[0] == seen[1] && seen[1].0 != seen[2].0, "{fate:?}: another command, another request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_and_forgotten_holds_its_room_and_is_not_answered_as_done() {
    let world = World::new().await;
    world.fates([Fate::LostAfter, Fate::TooOld]);
    assert_eq!(answered(world.submit(&world.first).await).await, Err(NotActive));
    assert!(is_dropped(&answered(world.submit(&world.second).await).await.unwrap()));
    assert_eq!(world.placed().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_done_and_forgotten_gives_its_room_back() {
    let world = World::new().await;
    world.fates([Fate::LostBefore, Fate::TooOld]);
    assert_eq!(answered(world.submit(&world.first).await).await, Err(NotActive));
    let index = world.plane.state.read_index(WITHIN).await.unwrap();
    world.replica.reached(index, WITHIN).await.unwrap();
    let results = answered(world.submit(&world.second).await).await.unwrap();
    assert_eq!(results[0].placed.len(), 1);
    assert_eq!(world.placed().await, 1);
}
