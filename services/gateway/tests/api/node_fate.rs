//! What becomes of nodes, by the public API.

use model::EvalId;
use serde_json::{Value, json};

use crate::support::{Cluster, NOBODY, NODE, job};

fn path(what: &str) -> String {
    format!("/v1/node/{NODE}/{what}")
}

/// A cluster with a node on which a job runs.
async fn with_work() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 1));
    cluster.place("web", 1);
    cluster
}

fn eval_ids(answer: &Value) -> Vec<EvalId> {
    answer["EvalIDs"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().into()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn node_027_028_eligibility_is_set_once_and_its_return_has_jobs_looked_at() {
    let cluster = with_work().await;
    let out = cluster.send("PUT", &path("eligibility"), &json!({"Eligibility": "ineligible"})).await;
    assert_eq!((out.status, &out.json()["EvalIDs"]), (200, &Value::Null));
    let node = cluster.get(format!("/v1/node/{NODE}")).await.json();
    assert_eq!(node["SchedulingEligibility"], "ineligible");
    let event = node["Events"].as_array().unwrap().last().unwrap();
    assert_eq!(event["Message"], "Node marked as ineligible for scheduling");
    assert!(!event["Timestamp"].as_str().unwrap().starts_with("0001"));
    let back = cluster.send("POST", &path("eligibility"), &json!({"eligibility": "eligible"})).await.json();
    let ids = eval_ids(&back);
    assert_eq!((ids.len(), &back["EvalCreateIndex"]), (1, &back["Index"]));
    let state = cluster.truth.state();
    let eval = state.eval(&ids[0]).unwrap();
    assert_eq!((eval.triggered_by.as_str(), eval.job_id.as_str(), eval.node_id.as_str()), ("node-update", "web", NODE));
    assert!(eval.create_time > 0);
    let again = cluster.send("PUT", &path("eligibility"), &json!({"Eligibility": "eligible"})).await.json();
    assert_eq!(again["EvalIDs"], Value::Null, "nothing changed, nobody has to look");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_set_changed_and_ended() {
    let cluster = with_work().await;
    let spec =
        json!({"DrainSpec": {"Deadline": 60_000_000_000_i64, "IgnoreSystemJobs": true}, "Meta": {"why": "disk"}});
    let set = cluster.send("PUT", &path("drain"), &spec).await;
    assert_eq!(
        (&set.json()["NodeModifyIndex"], set.index()),
        (&set.json()["Index"], set.json()["Index"].as_u64().unwrap())
    );
    let node = cluster.get(format!("/v1/node/{NODE}")).await.json();
    let strategy = &node["DrainStrategy"];
    assert_eq!((&strategy["Deadline"], &strategy["IgnoreSystemJobs"]), (&json!(60_000_000_000_i64), &json!(true)));
    assert_eq!((&node["Drain"], &node["SchedulingEligibility"]), (&json!(true), &json!("ineligible")));
    assert_eq!((&node["LastDrain"]["Status"], &node["LastDrain"]["Meta"]["why"]), (&json!("draining"), &json!("disk")));
    cluster
        .send("PUT", &path("eligibility"), &json!({"Eligibility": "eligible"}))
        .await
        .says(409, "can not set node's scheduling eligibility to eligible while it is draining");
    let longer = json!({"DrainSpec": {"Deadline": 120_000_000_000_i64}});
    cluster.send("PUT", &path("drain"), &longer).await;
    let changed = cluster.get(format!("/v1/node/{NODE}")).await.json();
    assert_eq!(changed["DrainStrategy"]["StartedAt"], strategy["StartedAt"]);
    assert!(changed["DrainStrategy"]["ForceDeadline"].as_str() > strategy["ForceDeadline"].as_str());
    assert_eq!(changed["LastDrain"]["Meta"]["why"], "disk", "what was said of it stays");
    let ended = cluster.send("PUT", &path("drain"), &json!({"DrainSpec": null, "MarkEligible": true})).await.json();
    assert_eq!(eval_ids(&ended).len(), 1, "the node may be used again");
    let node = cluster.get(format!("/v1/node/{NODE}")).await.json();
    assert_eq!((&node["DrainStrategy"], &node["SchedulingEligibility"]), (&Value::Null, &json!("eligible")));
    assert_eq!(node["LastDrain"]["Status"], "canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_evaluated_or_purged_has_its_jobs_looked_at() {
    let cluster = with_work().await;
    let evaluated = cluster.send("PUT", &path("evaluate"), &json!({})).await.json();
    assert_eq!(eval_ids(&evaluated).len(), 1);
    assert_eq!((&evaluated["NumNodes"], &evaluated["SchedulingEligibility"]), (&json!(1), &json!("eligible")));
    assert_eq!(evaluated["Servers"][0]["RPCAdvertiseAddr"], "127.0.0.1:4647");
    let purged = cluster.send("PUT", &path("purge"), &json!({})).await.json();
    let ids = eval_ids(&purged);
    let state = cluster.truth.state();
    assert!(state.node(&NODE.into()).is_none());
    assert_eq!(state.eval(&ids[0]).unwrap().job_id.as_str(), "web");
    cluster.send("PUT", &path("purge"), &json!({})).await.says(404, "node not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_become_of_a_node_is_refused_and_changes_nothing() {
    let cluster = with_work().await;
    let before = cluster.truth.state().hash_text();
    let nobody = format!("/v1/node/{NOBODY}");
    for what in ["eligibility", "drain", "evaluate", "purge"] {
        let body = json!({"Eligibility": "eligible", "DrainSpec": {"Deadline": 1}});
        cluster.send("PUT", &format!("{nobody}/{what}"), &body).await.says(404, "node not found");
        let short = cluster.send("PUT", &format!("/v1/node/abcd/{what}"), &body).await;
        short.says(400, "node lookup failed: index error: UUID must be 36 characters");
        assert_eq!(cluster.get(path(what)).await.status, 405);
    }
    let maybe = cluster.send("PUT", &path("eligibility"), &json!({"Eligibility": "maybe"})).await;
    maybe.says(400, "invalid scheduling eligibility \"maybe\"");
    let meta: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!("x"))).collect();
    for bad in [
        json!({"DrainSpec": {"Deadline": "soon"}}),
        json!({"DrainSpec": {"Deadline": i64::MAX}}),
        json!({"DrainSpec": {"Deadline": 1}, "Meta": meta}),
        json!({"DrainSpec": {"Deadline": 1}, "Meta": {"k": "x".repeat(2_000)}}),
        json!("x"),
    ] {
        assert_eq!(cluster.send("PUT", &path("drain"), &bad).await.status, 400, "{bad}");
    }
    assert_eq!(cluster.truth.state().hash_text(), before);
}
