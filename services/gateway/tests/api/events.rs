//! The event stream: nothing is lost, nothing comes twice, nothing is passed over in silence.

use client::public::{PublicClient, PublicLines, Query, Settings};
use serde_json::Value;

use crate::support::{self, Cluster, WITHIN, job};

async fn open(cluster: &Cluster, query: Query) -> PublicLines {
    let settings = Settings { address: format!("http://{}", cluster.public), ..Settings::default() };
    let client = PublicClient::new(settings).unwrap();
    let mut lines = client.stream("/v1/event/stream", &query).await.unwrap().lines(1 << 20);
    assert_eq!(next(&mut lines).await, serde_json::json!({}), "the first line is a sign of life");
    lines
}

async fn next(lines: &mut PublicLines) -> Value {
    let line = tokio::time::timeout(WITHIN, lines.next()).await.expect("a line in time").unwrap();
    serde_json::from_slice(&line.expect("the stream goes on")).unwrap()
}

/// Topic, type and key of each event, up to the first line that holds `until`.
async fn told(lines: &mut PublicLines, until: &str) -> Vec<(u64, String, String, String)> {
    let mut all = Vec::new();
    loop {
        let line = next(lines).await;
        let index = line["Index"].as_u64().unwrap();
        for event in line["Events"].as_array().unwrap() {
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            assert_eq!(event["Index"], index);
            all.push((index, text("Topic"), text("Type"), text("Key")));
        }
        if all.iter().any(|(_, _, _, key)| key == until) {
            return all;
        }
    }
}

/// fsm-023, event-004
#[tokio::test(flavor = "multi_thread")]
async fn every_change_comes_once_in_the_order_of_its_index_to_each_who_asked_for_it() {
    let cluster = Cluster::start().await;
    let mut all = open(&cluster, Query::default()).await;
    let mut jobs = open(&cluster, Query::default().with("topic", "Job")).await;
    let mut one = open(&cluster, Query::default().with("topic", "Evaluation:web-2")).await;
    for n in 0..5 {
        let body = serde_json::json!({"Job": support::posted(&format!("web-{n}"), 1)});
        assert_eq!(cluster.send("PUT", "/v1/jobs", &body).await.status, 200);
    }
    let line = next(&mut one).await;
    assert_eq!(line["Events"].as_array().unwrap().len(), 1);
    assert_eq!(line["Events"][0]["Payload"]["Evaluation"]["JobID"], "web-2");
    let seen = told(&mut all, "web-4").await;
    assert!(seen.is_sorted_by_key(|event| event.0));
    let registered: Vec<&str> =
        seen.iter().filter(|e| e.1 == "Job" && e.2 == "JobRegistered").map(|e| e.3.as_str()).collect();
    assert_eq!(registered, ["web-0", "web-1", "web-2", "web-3", "web-4"]);
    let only_jobs = told(&mut jobs, "web-4").await;
    assert_eq!(only_jobs, seen.into_iter().filter(|e| e.1 == "Job").collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_names_an_index_gets_what_happened_from_there_on() {
    let cluster = Cluster::start().await;
    let first = cluster.add_job(job("a", 1));
    let second = cluster.add_job(job("b", 1));
    let keys = |seen: Vec<(u64, String, String, String)>| -> Vec<String> {
        seen.into_iter().filter(|e| e.1 == "Job").map(|e| e.3).collect()
    };
    support::until(|| cluster.app.watches.view().state.index() >= second).await;
    let mut from_first = open(&cluster, Query::default().with("index", first.to_string())).await;
    assert_eq!(keys(told(&mut from_first, "b").await), ["a", "b"]);
    let mut from_second = open(&cluster, Query::default().with("index", second.to_string())).await;
    assert_eq!(keys(told(&mut from_second, "b").await), ["b"]);
    let mut behind = open(&cluster, Query::default().with("index", second.next().to_string())).await;
    cluster.add_job(job("c", 1));
    assert_eq!(keys(told(&mut behind, "c").await), ["c"], "what it has seen does not come again");
}

/// event-001, made loud: what is not kept is not passed over.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_not_kept_or_not_reached_is_refused() {
    let cluster = Cluster::start().await;
    let last = cluster.add_job(job("a", 1));
    support::until(|| cluster.app.watches.view().state.index() >= last).await;
    let floor = cluster.app.watches.events().floor();
    let old = cluster.get(format!("/v1/event/stream?index={floor}")).await;
    assert_eq!(old.status, 410);
    assert!(old.text().contains("subscribe again"), "{}", old.text());
    let far = cluster.get(format!("/v1/event/stream?index={}", last.get() + 50)).await;
    assert_eq!(far.status, 410);
    assert!(far.text().contains("beyond the last one"), "{}", far.text());
    assert_eq!(cluster.get("/v1/event/stream?topic=Job:a:b").await.status, 400);
    assert_eq!(cluster.get("/v1/event/stream?topic=Jobs").await.status, 400);
    assert_eq!(cluster.get("/v1/event/stream?index=x").await.status, 400);
}

/// event-006
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_events_are_no_longer_kept_hears_why_its_stream_ends() {
    let cluster = Cluster::start().await;
    let mut lines = open(&cluster, Query::default().with("topic", "Job")).await;
    cluster.add_job(job("a", 1));
    told(&mut lines, "a").await;
    // As when this gateway's copy begins anew from a snapshot.
    cluster.app.watches.events().reset(model::Index(1_000_000));
    let last = next(&mut lines).await;
    assert!(last["Err"].as_str().unwrap().contains("began anew"), "{last}");
    assert!(tokio::time::timeout(WITHIN, lines.next()).await.unwrap().unwrap().is_none(), "then it ends");
}

/// event-007
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_which_nothing_happens_gives_signs_of_life() {
    use futures::StreamExt as _;
    let cluster = Cluster::start().await;
    let wanted = gateway::events::topics::Wanted::parse(["Deployment"].into_iter(), None).unwrap();
    let log = cluster.app.watches.events().clone();
    let after = log.floor();
    let beat = std::time::Duration::from_millis(50);
    let stream = gateway::events::stream::stream(log, wanted, after, beat, cluster.shutdown.clone(), None);
    let three: Vec<_> = stream.take(3).map(Result::unwrap).collect().await;
    assert!(three.iter().all(|piece| piece.as_ref() == b"{}\n"));
}
