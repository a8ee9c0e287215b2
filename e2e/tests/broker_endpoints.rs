//! Evaluations go out to workers and come back, whatever workers and brokers do. The workers are the test's.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use api::Code;
use api::broker::{
    BrokerStats, DEQUEUE, Delivered, Dequeue, Dequeued, Outcome, SESSIONS, STATS, SessionOpen, SessionOpened, VERDICTS,
    Verdict, Verdicts,
};
use client::error::CallError;
use client::http::{Call, Http, Lines, Target};
use e2e::nouns::{job, node};
use e2e::plane::{Plane, WITHIN};
use fsm::LeaseName;
use model::{EvalStatus, Index, Role};

const SECOND: Duration = Duration::from_secs(1);

/// A control plane without schedulers.
async fn plane() -> Plane {
    let services = [Role::State, Role::Broker, Role::Applier, Role::Controller];
    let plane = Plane::of(services.map(|role| (role, format!("{role}-0"))).into()).await;
    plane.nodes(vec![node(1, 1_000, 8_000)]).await;
    plane
}

async fn active(plane: &Plane) -> Target {
    let state = plane
        .until("a broker holds the lease", |s| s.lease(LeaseName::Broker).is_some_and(|l| !l.holder.is_empty()))
        .await;
    Target::new(state.lease(LeaseName::Broker).unwrap().addr.parse().unwrap(), Role::Broker)
}

struct Worker {
    http: Http,
    broker: Target,
    session: String,
    stream: Lines,
}

impl Worker {
    async fn open(plane: &Plane, name: &str) -> Self {
        let (http, broker) = (plane.caller(Role::Scheduler, name), active(plane).await);
        let open = SessionOpen { name: name.to_owned(), kinds: Vec::new() };
        let began = Instant::now();
        loop {
            let call = Call::post(SESSIONS, WITHIN).json(&open).unwrap();
            match http.open(&broker, call, 3 * SECOND).await {
                Ok(stream) => {
                    let mut stream = stream.lines(4_096);
                    let first = stream.next().await.unwrap().unwrap();
                    let opened: SessionOpened = serde_json::from_slice(&first).unwrap();
                    return Self { http, broker, session: opened.session, stream };
                }
                // It hears of its lease a moment after everybody else.
                Err(error) => assert!(began.elapsed() < WITHIN, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn dequeue(&self, wait: Duration) -> Result<Vec<Delivered>, CallError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap();
        let ask = Dequeue { session: self.session.clone(), max: 8, wait_ms };
        let found: Dequeued = self.http.poll_json(self.broker.clone(), DEQUEUE, &ask, wait + 5 * SECOND).await?;
        Ok(found.deliveries)
    }

    async fn one(&self) -> Delivered {
        let mut found = self.dequeue(10 * SECOND).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    async fn verdict(&self, given: &[(&Delivered, Outcome)]) -> Result<(), CallError> {
        let verdict = |(delivered, outcome): &(&Delivered, Outcome)| Verdict {
            eval_id: delivered.eval.id.clone(),
            token: delivered.token.clone(),
            outcome: *outcome,
        };
        let body = Verdicts { session: self.session.clone(), verdicts: given.iter().map(verdict).collect() };
        let call = Call::post(VERDICTS, WITHIN).json(&body).unwrap();
        self.http.call(&self.broker, call).await.map(|_| ())
    }

    async fn stats(&self) -> BrokerStats {
        self.http.get_json(self.broker.clone(), STATS, WITHIN).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_when_there_is_work_and_when_its_time_is_over() {
    let plane = plane().await;
    let worker = Worker::open(&plane, "w1").await;
    let began = Instant::now();
    assert!(worker.dequeue(Duration::from_millis(300)).await.unwrap().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
    let (delivered, _) = tokio::join!(worker.one(), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        plane.register(job("web", "service", 1, 10)).await;
    });
    let lease = plane.replica.state().lease(LeaseName::Broker).unwrap().index;
    assert!(delivered.wait_index >= delivered.eval.modify_index && delivered.wait_index >= lease);
    assert!(began.elapsed() < 5 * SECOND, "woken, not timed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_held_goes_out_again_within_a_second_of_its_connections_end() {
    let plane = plane().await;
    let first = Worker::open(&plane, "w1").await;
    let second = Worker::open(&plane, "w2").await;
    plane.register(job("web", "service", 1, 10)).await;
    let held = first.one().await;
    assert!(second.dequeue(Duration::ZERO).await.unwrap().is_empty(), "one worker at a time");
    let ended = Instant::now();
    drop(first);
    let again = second.one().await;
    assert!(ended.elapsed() < SECOND, "{:?}", ended.elapsed());
    assert_eq!(again.eval.id, held.eval.id);
    assert_ne!(again.token, held.token);
    assert_eq!(second.stats().await.sessions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_verdict_changes_nothing_and_does_not_keep_others_from_counting() {
    let plane = plane().await;
    let worker = Worker::open(&plane, "w1").await;
    plane.register(job("a", "service", 1, 10)).await;
    let a = worker.one().await;
    worker.verdict(&[(&a, Outcome::Returned)]).await.unwrap();
    let again = worker.one().await;
    plane.register(job("b", "service", 1, 10)).await;
    let b = worker.one().await;
    let error = worker.verdict(&[(&a, Outcome::Failed), (&b, Outcome::Returned)]).await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), error.code()), (409, Code::StaleDelivery.as_str()));
    assert_eq!(worker.one().await.eval.id, b.eval.id, "the good one counted");
    // A verdict of another session is stale too.
    let other = Worker::open(&plane, "w2").await;
    assert_eq!(other.verdict(&[(&again, Outcome::Failed)]).await.unwrap_err().code(), Code::StaleDelivery.as_str());
    assert_eq!(worker.stats().await.unacked, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_is_not_held_against_it_and_what_failed_is() {
    let plane = plane().await;
    let worker = Worker::open(&plane, "w1").await;
    let eval = plane.register(job("web", "service", 1, 10)).await;
    for _ in 0..10 {
        let delivered = worker.one().await;
        worker.verdict(&[(&delivered, Outcome::Returned)]).await.unwrap();
    }
    let delivered = worker.one().await;
    let failed = Instant::now();
    worker.verdict(&[(&delivered, Outcome::Failed)]).await.unwrap();
    let delivered = worker.one().await;
    assert!(failed.elapsed() >= Duration::from_secs(1), "a failure waits");
    assert_eq!(delivered.eval.id, eval);
    assert_eq!(plane.replica.state().eval(&eval).unwrap().status, EvalStatus::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_reads_at_its_leases_index_and_delivers_again() {
    let mut plane = plane().await;
    plane.run(Role::Broker, "broker-1");
    plane.targets(Role::Broker, 2).await;
    let mut first = Worker::open(&plane, "w1").await;
    let eval = plane.register(job("web", "service", 1, 10)).await;
    let held = first.one().await;
    let term = plane.replica.state().lease(LeaseName::Broker).unwrap().term;
    // The standby says so.
    let brokers = plane.targets(Role::Broker, 2).await;
    let standby = brokers.iter().find(|t| t.addr != first.broker.addr).unwrap();
    let open = Call::post(SESSIONS, WITHIN).json(&SessionOpen { name: "w".into(), kinds: Vec::new() }).unwrap();
    let error = first.http.open(standby, open, SECOND).await.err().unwrap();
    assert_eq!((error.status().unwrap().as_u16(), error.code()), (503, Code::NotActive.as_str()));
    plane.stop("broker-0").await;
    let ended = async { while let Ok(Some(_)) = first.stream.next().await {} };
    tokio::time::timeout(WITHIN, ended).await.expect("its sessions end");
    plane
        .until("the standby has the lease", |s| {
            s.lease(LeaseName::Broker).unwrap().term > term && !s.lease(LeaseName::Broker).unwrap().holder.is_empty()
        })
        .await;
    let second = Worker::open(&plane, "w2").await;
    assert_eq!(second.broker.addr, standby.addr);
    let again = second.one().await;
    assert_eq!(again.eval.id, eval);
    let lease = plane.replica.state().lease(LeaseName::Broker).unwrap().clone();
    assert!(again.wait_index >= lease.index && lease.index > held.wait_index.min(Index(0)));
    assert!(again.token.starts_with(&lease.term.to_string()), "{}", again.token);
}
