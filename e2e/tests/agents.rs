//! Nodes' agents against the real control plane, through real gateways: what is placed reaches its node,
//! what the node says is committed, whoever dies meanwhile.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use api::node::{BEAT, Beat, BeatTaken, NEWS, News, REGISTER, Register, Registered, STREAM, StreamLine};
use client::error::CallError;
use client::http::{Call, Http, Lines, Target};
use e2e::machine::until;
use e2e::nouns::{job, node, node_id};
use e2e::plane::{Plane, WITHIN};
use fsm::State;
use fsm::command::AllocClientUpdate;
use kit::process::Shutdown;
use model::{AllocId, ClientStatus, DesiredStatus, Node, NodeId, Role};

/// A node's agent as a gateway sees it.
#[derive(Clone)]
struct Agent {
    node: Node,
    http: Http,
    /// Beats and streams end with it.
    ends: Shutdown,
}

impl Agent {
    fn new(plane: &Plane, n: usize) -> Self {
        let node = node(n, 4_000, 8_000);
        let http = plane.caller(Role::Agent, node.id.as_str());
        Self { node, http, ends: Shutdown::new() }
    }

    /// Registers, and beats at whichever of the gateways takes it.
    async fn come(plane: &Plane, n: usize, gateways: &[SocketAddr]) -> Self {
        let agent = Self::new(plane, n);
        let first: Registered = agent.post(gateways[0], REGISTER, &agent.registration()).await.unwrap();
        assert!(first.period_ms > 0);
        tokio::spawn(agent.clone().beats(gateways.to_vec()));
        let id = agent.node.id.clone();
        plane.until("the node is ready", |s| s.node(&id).is_some_and(|node| node.is_ready())).await;
        agent
    }

    fn id(&self) -> &NodeId {
        &self.node.id
    }

    fn registration(&self) -> Register {
        Register { node: self.node.clone() }
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        to: SocketAddr,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, CallError> {
        self.http.post_json(Target::new(to, Role::Gateway), path, body, WITHIN).await
    }

    /// Beats until one is taken, as agents do.
    async fn beat(&self, to: SocketAddr) -> BeatTaken {
        let beat = Beat { node_id: self.id().to_string() };
        until("a beat is taken", async || self.post(to, BEAT, &beat).await.ok()).await
    }

    async fn beats(self, gateways: Vec<SocketAddr>) {
        let beat = Beat { node_id: self.id().to_string() };
        while !self.ends.is_requested() {
            for gateway in &gateways {
                if self.post::<BeatTaken>(*gateway, BEAT, &beat).await.is_ok() {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    async fn follow(&self, to: SocketAddr, after: u64, epoch: &str) -> Result<Lines, CallError> {
        let path = format!("{STREAM}?node={}&after={after}&epoch={epoch}", self.id());
        let call = Call::get(path, WITHIN);
        Ok(self.http.open(Target::new(to, Role::Gateway), call, Duration::from_secs(4)).await?.lines(16 << 20))
    }

    fn news(&self, id: &AllocId, status: ClientStatus) -> News {
        let update = AllocClientUpdate {
            id: id.clone(),
            node_id: self.id().clone(),
            client_status: status,
            modify_time: client::clock::unix_nanos(),
            ..AllocClientUpdate::default()
        };
        News { updates: vec![update] }
    }

    async fn tell(&self, to: SocketAddr, news: &News) -> Result<Option<()>, CallError> {
        self.post(to, NEWS, news).await
    }
}

/// The next line that says something; keepalives keep it waiting.
async fn next(lines: &mut Lines) -> StreamLine {
    let wait = async {
        loop {
            let mut line: StreamLine = serde_json::from_slice(&lines.next().await.unwrap().expect("a line")).unwrap();
            line.rejoin().unwrap();
            if !line.keepalive {
                return line;
            }
        }
    };
    tokio::time::timeout(WITHIN, wait).await.expect("a line in time")
}

fn status(result: Result<impl std::fmt::Debug, CallError>) -> u16 {
    result.unwrap_err().status().expect("an answer").as_u16()
}

/// Refused by its size: the connection may end before all of it was sent.
fn is_too_large(error: &CallError) -> bool {
    matches!(error, CallError::Broken { .. }) || error.status().is_some_and(|status| status.as_u16() == 413)
}

fn live(state: &State, node: &NodeId) -> Vec<AllocId> {
    state.allocs_of_node(node).filter(|a| !a.is_terminal()).map(|a| a.id.clone()).collect()
}

async fn gateway(plane: &mut Plane, name: &str) -> SocketAddr {
    plane.run(Role::Gateway, name);
    plane.addr(Role::Gateway, name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_placed_reaches_its_node_and_what_the_node_says_is_committed() {
    let mut plane = Plane::start(1).await;
    let gateway = gateway(&mut plane, "gateway-0").await;
    let agent = Agent::come(&plane, 1, &[gateway]).await;
    let mut lines = agent.follow(gateway, 0, "").await.unwrap();
    let first = next(&mut lines).await;
    assert!(first.full && first.upserts.is_empty() && !first.epoch.is_empty());

    plane.register(job("web", "service", 1, 100)).await;
    let line = next(&mut lines).await;
    assert!(!line.full && line.index > first.index);
    let [alloc] = &line.upserts[..] else { panic!("{line:?}") };
    assert_eq!((&alloc.node_id, alloc.job.as_ref().unwrap().id().as_str()), (agent.id(), "web"));

    agent.tell(gateway, &agent.news(&alloc.id, ClientStatus::Running)).await.unwrap();
    let index = plane.state.read_index(WITHIN).await.unwrap();
    let state = plane.replica.reached(index, WITHIN).await.unwrap();
    assert_eq!(state.alloc(&alloc.id).unwrap().client_status, ClientStatus::Running, "it is there once answered");

    // The next thing it hears is the cluster's wish, not its own news.
    let mut stopped = job("web", "service", 1, 100);
    stopped.stop = Some(true);
    plane.register(stopped).await;
    let line = next(&mut lines).await;
    let [stop] = &line.upserts[..] else { panic!("{line:?}") };
    assert_eq!((&stop.id, stop.desired_status), (&alloc.id, DesiredStatus::Stop));
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_of_their_own_allocations_only() {
    let mut plane = Plane::start(1).await;
    let gateway = gateway(&mut plane, "gateway-0").await;
    let (one, two) = (Agent::come(&plane, 1, &[gateway]).await, Agent::come(&plane, 2, &[gateway]).await);
    let mut of_one = one.follow(gateway, 0, "").await.unwrap();
    let mut of_two = two.follow(gateway, 0, "").await.unwrap();
    next(&mut of_one).await;
    next(&mut of_two).await;
    plane.register(job("everywhere", "system", 1, 100)).await;
    for (agent, lines) in [(&one, &mut of_one), (&two, &mut of_two)] {
        let line = next(lines).await;
        let nodes: Vec<_> = line.upserts.iter().map(|a| a.node_id.clone()).collect();
        assert_eq!(nodes, [agent.id().clone()]);
    }
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_for_its_own_node_only_node_012() {
    let mut plane = Plane::start(1).await;
    let gateway = gateway(&mut plane, "gateway-0").await;
    let (one, two) = (Agent::come(&plane, 1, &[gateway]).await, Agent::come(&plane, 2, &[gateway]).await);
    plane.register(job("everywhere", "system", 1, 100)).await;
    let placed = |s: &State| live(s, one.id()).len() == 1 && live(s, two.id()).len() == 1;
    let state = plane.until("both have it", placed).await;
    let (mine, theirs) = (&live(&state, one.id())[0], &live(&state, two.id())[0]);

    // Under another's name, under its own name but of another's allocation, and both in one message.
    assert_eq!(status(one.tell(gateway, &two.news(theirs, ClientStatus::Failed)).await), 403);
    assert_eq!(status(one.tell(gateway, &one.news(theirs, ClientStatus::Failed)).await), 403);
    let mut mixed = one.news(mine, ClientStatus::Failed);
    mixed.updates.extend(one.news(theirs, ClientStatus::Failed).updates);
    assert_eq!(status(one.tell(gateway, &mixed).await), 403);
    assert_eq!(status(one.post::<Registered>(gateway, REGISTER, &two.registration()).await), 403);
    let beat = Beat { node_id: two.id().to_string() };
    assert_eq!(status(one.post::<BeatTaken>(gateway, BEAT, &beat).await), 403);
    let foreign = Agent { http: one.http.clone(), ..two.clone() };
    assert_eq!(status(foreign.follow(gateway, 0, "").await.map(|_| ())), 403);
    // A service of the cluster is no agent, even under a node's name.
    let service = Agent { http: plane.caller(Role::Broker, "broker-9"), ..one.clone() };
    assert_eq!(status(service.post::<BeatTaken>(gateway, BEAT, &beat).await), 403);

    let index = plane.state.read_index(WITHIN).await.unwrap();
    let state = plane.replica.reached(index, WITHIN).await.unwrap();
    for id in [mine, theirs] {
        assert_eq!(state.alloc(id).unwrap().client_status, ClientStatus::Pending, "nothing changed");
    }
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_registered_is_told_so_and_gets_no_listing_node_10() {
    let mut plane = Plane::start(1).await;
    let gateway = gateway(&mut plane, "gateway-0").await;
    let known = Agent::come(&plane, 1, &[gateway]).await;
    let agent = Agent::new(&plane, 2);
    // What is not in a listing is ended by the node: an empty one would end everything.
    assert_eq!(status(agent.follow(gateway, 0, "").await.map(|_| ())), 404);
    let taken = agent.beat(gateway).await;
    assert!(taken.register_again && taken.period_ms > 0);
    assert!(taken.gateways.contains(&gateway.to_string()));
    let _: Registered = agent.post(gateway, REGISTER, &agent.registration()).await.unwrap();
    let taken = agent.beat(gateway).await;
    assert!(!taken.register_again);
    assert!(next(&mut agent.follow(gateway, 0, "").await.unwrap()).await.full);
    known.ends.request();
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_makes_no_sense_is_refused_and_nothing_else_suffers() {
    let mut plane = Plane::start(1).await;
    let gateway = gateway(&mut plane, "gateway-0").await;
    let agent = Agent::come(&plane, 1, &[gateway]).await;
    let mut fat = agent.registration();
    fat.node.attributes.insert("fat".into(), "x".repeat(3 << 20));
    assert!(is_too_large(&agent.post::<Registered>(gateway, REGISTER, &fat).await.unwrap_err()));
    let one = agent.news(&"a".into(), ClientStatus::Running).updates.remove(0);
    let many = News { updates: vec![one; 1_025] };
    assert_eq!(status(agent.tell(gateway, &many).await), 413);
    let mut long = agent.news(&"a".into(), ClientStatus::Running);
    long.updates[0].client_description = "x".repeat(3 << 20);
    assert_eq!(status(agent.tell(gateway, &long).await), 413);
    let beat = Beat { node_id: "x".repeat(100 << 10) };
    assert!(is_too_large(&agent.post::<BeatTaken>(gateway, BEAT, &beat).await.unwrap_err()));
    for path in [REGISTER, BEAT, NEWS] {
        let refused = status(agent.post::<Option<()>>(gateway, path, &serde_json::json!("nonsense")).await);
        assert!((400..500).contains(&refused), "{path}: {refused}");
    }
    let path = format!("{STREAM}?node={}&after=minus-one", agent.id());
    let asked = agent.http.open(Target::new(gateway, Role::Gateway), Call::get(path, WITHIN), WITHIN).await;
    assert_eq!(status(asked.map(|_| ())), 400);
    // News of what nobody knows is taken and changes nothing.
    agent.tell(gateway, &agent.news(&"nobody-knows".into(), ClientStatus::Running)).await.unwrap();
    assert!(plane.replica.state().node(agent.id()).unwrap().is_ready());
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_at_another_gateway_and_nothing_is_missed() {
    let mut plane = Plane::start(1).await;
    let gateways = [gateway(&mut plane, "gateway-0").await, gateway(&mut plane, "gateway-1").await];
    let agent = Agent::come(&plane, 1, &gateways).await;
    let mut lines = agent.follow(gateways[0], 0, "").await.unwrap();
    let first = next(&mut lines).await;
    plane.register(job("before", "service", 1, 100)).await;
    let seen = next(&mut lines).await;
    assert_eq!(seen.upserts.len(), 1);
    // It leaves in order: with a word, and without harm to the node.
    plane.stop("gateway-0").await;
    assert!(next(&mut lines).await.close);
    plane.register(job("between", "service", 1, 100)).await;
    plane.until("it is placed", |s| live(s, agent.id()).len() == 2).await;
    let mut lines = agent.follow(gateways[1], seen.index.get(), &first.epoch).await.unwrap();
    let line = next(&mut lines).await;
    assert!(!line.full, "it is resumed");
    let ids: Vec<_> = line.upserts.iter().map(|a| a.job_id.as_str().to_owned()).collect();
    assert_eq!(ids, ["between"]);
    assert!(plane.replica.state().node(agent.id()).unwrap().is_ready());
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_told_while_there_is_no_controller_is_committed_by_the_next_one() {
    let mut plane = Plane::start(1).await;
    let gateway = gateway(&mut plane, "gateway-0").await;
    let agent = Agent::come(&plane, 1, &[gateway]).await;
    plane.register(job("web", "service", 1, 100)).await;
    let state = plane.until("it is placed", |s| live(s, agent.id()).len() == 1).await;
    let alloc = live(&state, agent.id()).remove(0);
    plane.crash("controller-0").await;
    plane.run(Role::Controller, "controller-1");
    // Said once: the gateway tries again until the new controller takes it.
    agent.tell(gateway, &agent.news(&alloc, ClientStatus::Running)).await.unwrap();
    let index = plane.state.read_index(WITHIN).await.unwrap();
    let state = plane.replica.reached(index, WITHIN).await.unwrap();
    assert_eq!(state.alloc(&alloc).unwrap().client_status, ClientStatus::Running);
    assert!(state.node(&node_id(1)).unwrap().is_ready(), "and the node was not lost meanwhile");
    plane.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_makes_its_node_suspect_until_it_beats_and_a_closed_one_does_not() {
    let mut plane = Plane::start(1).await;
    let gateways = [gateway(&mut plane, "gateway-0").await, gateway(&mut plane, "gateway-1").await];
    let agent = Agent::come(&plane, 1, &gateways).await;
    // From here on it beats when the test says so.
    agent.ends.request();
    let mut lines = agent.follow(gateways[0], 0, "").await.unwrap();
    let first = next(&mut lines).await;
    plane.stop("gateway-0").await;
    assert!(next(&mut lines).await.close);
    let mut lines = agent.follow(gateways[1], first.index.get(), &first.epoch).await.unwrap();
    next(&mut lines).await;
    agent.beat(gateways[1]).await;
    assert!(!plane.replica.state().is_suspect(agent.id()), "it moved in order");

    drop(lines);
    let broke = std::time::Instant::now();
    plane.until("the node is suspect", |s| s.is_suspect(agent.id())).await;
    assert!(broke.elapsed() < Duration::from_secs(3), "long before its time to live is over: {:?}", broke.elapsed());
    agent.beat(gateways[1]).await;
    plane.until("the node is believed again", |s| !s.is_suspect(agent.id())).await;
    assert!(plane.replica.state().node(agent.id()).unwrap().is_ready(), "its status never changed");
    plane.stop_all().await;
}

/// The `disconnect` block: a node that cannot be reached keeps its allocation, unknown, beside a
/// replacement; when it is back one of the two stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_out_of_reach_is_unknown_and_replaced_until_its_node_is_back() {
    let mut plane = Plane::start(1).await;
    let gateways = [gateway(&mut plane, "gateway-0").await];
    let agents = [Agent::come(&plane, 1, &gateways).await, Agent::come(&plane, 2, &gateways).await];
    let mut spec = job("web", "service", 1, 100);
    let lost_after = Some(model::Nanos::from_secs(600));
    let reconcile = Some("keep_original".to_owned());
    spec.task_groups[0].disconnect =
        Some(model::group::DisconnectStrategy { lost_after, reconcile, ..Default::default() });
    // One of a deployment that is under way would not be replaced.
    (spec.update, spec.task_groups[0].update) = (None, None);
    let delay = Some(model::Nanos(0));
    let policy = spec.task_groups[0].reschedule_policy.get_or_insert_default();
    (policy.delay, policy.unlimited, policy.attempts) = (delay, Some(true), Some(0));
    plane.register(spec).await;
    let of_job = |s: &State| s.allocs().filter(|a| a.job_id.as_str() == "web").cloned().collect::<Vec<_>>();
    let state = plane.until("it is placed", |s| of_job(s).len() == 1).await;
    let first = of_job(&state).remove(0);
    let (away, other) = if &first.node_id == agents[0].id() { (0, 1) } else { (1, 0) };
    agents[away].tell(gateways[0], &agents[away].news(&first.id, ClientStatus::Running)).await.unwrap();

    agents[away].ends.request();
    plane
        .until("its node is out of reach", |s| {
            s.node(&first.node_id).unwrap().status == model::NodeStatus::Disconnected
        })
        .await;
    let state = plane.until("it is replaced", |s| of_job(s).len() == 2).await;
    let row = state.alloc(&first.id).unwrap();
    assert_eq!((row.client_status, row.desired_status), (ClientStatus::Unknown, DesiredStatus::Run));
    let second = state.alloc(&row.next_allocation).unwrap().clone();
    assert_eq!((&second.node_id, &second.name), (agents[other].id(), &first.name));
    let timeout = state.eval(&row.followup_eval_id).unwrap();
    assert_eq!(timeout.triggered_by, "max-disconnect-timeout");
    agents[other].tell(gateways[0], &agents[other].news(&second.id, ClientStatus::Running)).await.unwrap();

    let back = Agent { ends: Shutdown::new(), ..agents[away].clone() };
    tokio::spawn(back.clone().beats(gateways.to_vec()));
    plane.until("it is heard of", |s| s.node(&first.node_id).unwrap().status != model::NodeStatus::Disconnected).await;
    back.tell(gateways[0], &back.news(&first.id, ClientStatus::Running)).await.unwrap();
    let state =
        plane.until("one of both stays", |s| s.alloc(&second.id).unwrap().desired_status == DesiredStatus::Stop).await;
    let row = state.alloc(&first.id).unwrap();
    assert_eq!((row.client_status, row.desired_status), (ClientStatus::Running, DesiredStatus::Run));
    assert!(!row.needs_reconnect(), "its return is recorded");
    plane.stop_all().await;
}
