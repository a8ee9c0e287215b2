//! Scheduler configuration, garbage, summaries, evaluations in bulk, node pools, namespaces.

use axum::body::Bytes;
use fsm::Command;
use model::Role;
use serde_json::{Value, json};

use crate::support::{Answer, Cluster, NODE, job};

const SCHEDULER: &str = "/v1/operator/scheduler/configuration";

async fn delete(cluster: &Cluster, path: &str, body: &Value) -> Answer {
    cluster.ask("DELETE", path, &[], Bytes::from(body.to_string())).await
}

/// fsm-019.
#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_configuration_is_set_whole_and_only_if_it_is_as_known() {
    let cluster = Cluster::start().await;
    let first = cluster.get(SCHEDULER).await.json();
    assert_eq!(first["SchedulerConfig"]["SchedulerAlgorithm"], "binpack");
    assert_eq!(first["Index"], first["SchedulerConfig"]["ModifyIndex"]);
    let spread = json!({"SchedulerAlgorithm": "spread", "PauseEvalBroker": true});
    let set = cluster.send("PUT", SCHEDULER, &spread).await;
    assert_eq!((set.json()["Updated"].clone(), set.json()["Index"].clone()), (json!(true), json!(set.index())));
    let now = cluster.get(SCHEDULER).await.json()["SchedulerConfig"].clone();
    assert_eq!((&now["SchedulerAlgorithm"], &now["PauseEvalBroker"]), (&json!("spread"), &json!(true)));
    assert_eq!(now["PreemptionConfig"]["SystemSchedulerEnabled"], false, "what is left out is its default");
    let stale = cluster.send("PUT", &format!("{SCHEDULER}?cas=1"), &json!({})).await;
    assert_eq!((stale.status, &stale.json()["Updated"]), (200, &json!(false)));
    let cas = format!("{SCHEDULER}?cas={}", now["ModifyIndex"]);
    assert_eq!(cluster.send("PUT", &cas, &json!({})).await.json()["Updated"], true);
    let magic = cluster.send("PUT", SCHEDULER, &json!({"SchedulerAlgorithm": "magic"})).await;
    magic.says(400, "invalid scheduler algorithm: magic");
    for (path, body) in [(format!("{SCHEDULER}?cas=x"), "{}"), (SCHEDULER.to_owned(), "{"), (SCHEDULER.to_owned(), "")]
    {
        let bad = cluster.ask("PUT", &path, &[], Bytes::from(body)).await;
        assert_eq!(bad.status, 400);
        assert!(bad.text().starts_with("Error parsing "), "{}", bad.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_counted_anew_only_by_put() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 2));
    let (ids, _) = cluster.place("web", 2);
    cluster.run_alloc(&ids[0]);
    let path = "/v1/system/reconcile/summaries";
    let before = cluster.get("/v1/job/web/summary").await.json();
    let done = cluster.ask("PUT", path, &[], Bytes::new()).await;
    assert_eq!((done.status, done.text().as_str()), (200, ""));
    let after = cluster.get("/v1/job/web/summary").await.json();
    assert_eq!(before["Summary"], after["Summary"], "what was right stays");
    assert_eq!(after["Summary"]["g"]["Running"], 1);
    for (method, path) in [("GET", path), ("POST", path), ("POST", "/v1/system/gc"), ("DELETE", "/v1/system/gc")] {
        cluster.ask(method, path, &[], Bytes::new()).await.says(405, "Invalid method");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_are_deleted_only_while_the_broker_is_paused_and_nothing_may_follow() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 1));
    let (_, placed) = cluster.place("web", 1);
    for n in 0..3 {
        let eval = model::Evaluation {
            id: format!("eeeeeeee-1111-4111-8111-00000000000{n}").as_str().into(),
            namespace: "default".into(),
            job_id: "web".into(),
            kind: "service".into(),
            ..model::Evaluation::default()
        };
        cluster.truth.apply(Role::Gateway, Command::EvalCreate { evals: vec![eval] });
    }
    let one = json!({"EvalIDs": ["eeeeeeee-1111-4111-8111-000000000000"]});
    let all = json!({"Filter": "JobID == \"web\""});
    for body in [&one, &all] {
        let refused = delete(&cluster, "/v1/evaluations", body).await;
        assert_eq!(refused.status, 409);
        assert!(refused.text().starts_with("eval broker is enabled"), "{}", refused.text());
    }
    cluster.send("PUT", SCHEDULER, &json!({"PauseEvalBroker": true})).await;
    let done = delete(&cluster, "/v1/evaluations", &one).await;
    assert_eq!((done.status, &done.json()["Count"], &done.json()["Index"]), (200, &json!(1), &json!(done.index())));
    delete(&cluster, "/v1/evaluations", &one).await.says(404, "eval not found");
    let live = json!({"EvalIDs": [placed]});
    delete(&cluster, "/v1/evaluations", &live).await.says(409, &format!("eval {placed} is not safe to delete"));
    assert_eq!(delete(&cluster, "/v1/evaluations", &all).await.json()["Count"], 2, "the one that placed is left out");
    assert_eq!(delete(&cluster, "/v1/evaluations", &json!({"Filter": "JobID == x"})).await.json()["Count"], 0);
    assert_eq!(cluster.get("/v1/evaluations/count").await.json()["Count"], 1);
    let many: Vec<_> = (0..7_282).map(|n| format!("eeeeeeee-1111-4111-8111-{n:012}")).collect();
    for (body, text) in [
        (json!({"EvalIDs": ["x"], "Filter": "y"}), "evals cannot be deleted by both ID and filter"),
        (json!({}), "evals must be deleted by either ID or filter"),
        (json!({"EvalIDs": many}), "request includes 7282 evaluation IDs, must be 7281 or fewer"),
        (json!({"EvalIDs": ["abc"]}), "eval lookup failed: index error: UUID must be 36 characters"),
    ] {
        delete(&cluster, "/v1/evaluations", &body).await.says(400, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_pools_are_made_listed_and_deleted_when_nothing_uses_them() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    let names = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|pool| pool["Name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&cluster.get("/v1/node/pools").await), ["all", "default"]);
    let gpu = json!({"Name": "gpu", "Description": "cards", "Meta": {"a": "b"}, "NodeIdentityTTL": "1h"});
    let made = cluster.send("PUT", "/v1/node/pools", &gpu).await;
    assert_eq!((made.status, made.text().as_str()), (200, ""));
    let pool = cluster.get("/v1/node/pool/gpu").await;
    assert_eq!(pool.index(), made.index());
    let fields: Vec<_> = pool.json().as_object().unwrap().keys().cloned().collect();
    let expected = [
        "CreateIndex",
        "Description",
        "Hash",
        "Meta",
        "ModifyIndex",
        "Name",
        "NodeIdentityTTL",
        "SchedulerConfiguration",
    ];
    assert_eq!(fields, expected);
    assert_eq!(pool.json()["NodeIdentityTTL"], "1h0m0s");
    assert_eq!(cluster.get("/v1/node/pool/default").await.json()["NodeIdentityTTL"], "24h0m0s");
    cluster.send("POST", "/v1/node/pool/gpu", &json!({"Description": "more cards"})).await;
    assert_eq!(cluster.get("/v1/node/pool/gpu").await.json()["Description"], "more cards");
    assert_eq!(names(&cluster.get("/v1/node/pools?prefix=g").await), ["gpu"]);
    assert_eq!(names(&cluster.get("/v1/node/pools?filter=Name+!%3D+gpu&reverse=true").await), ["default", "all"]);
    let page = cluster.get("/v1/node/pools?per_page=1").await;
    assert_eq!((names(&page), page.header("x-nomad-nexttoken")), (vec!["all".to_owned()], "default"));

    let mut web = job("web", 1);
    web.node_pool = Some("gpu".into());
    cluster.add_job(web);
    for (pool, nodes, jobs) in [("all", 1, 0), ("default", 1, 0), ("gpu", 0, 1)] {
        let count = |answer: Answer| answer.json().as_array().unwrap().len();
        assert_eq!(count(cluster.get(format!("/v1/node/pool/{pool}/nodes")).await), nodes, "{pool}");
        assert_eq!(count(cluster.get(format!("/v1/node/pool/{pool}/jobs")).await), jobs, "{pool}");
    }
    assert_eq!(cluster.get("/v1/node/pool/all/nodes").await.json()[0]["ID"], NODE);
    delete(&cluster, "/v1/node/pool/gpu", &json!({}))
        .await
        .says(409, "node pool \"gpu\" has non-terminal jobs in regions: [global]");
    delete(&cluster, "/v1/job/web?purge=true", &json!({})).await;
    assert_eq!(delete(&cluster, "/v1/node/pool/gpu", &json!({})).await.status, 200);
    for what in ["", "/nodes", "/jobs"] {
        cluster.get(format!("/v1/node/pool/gpu{what}")).await.says(404, "node pool not found");
    }
    delete(&cluster, "/v1/node/pool/gpu", &json!({})).await.says(404, "node pool not found");
    for what in ["nodes", "jobs"] {
        let prefixed = cluster.get(format!("/v1/node/pool/all/{what}?prefix=a")).await;
        prefixed.says(400, "prefix argument not allowed");
    }
    for (path, body, text) in [
        ("/v1/node/pools", json!({"Name": "all"}), "modifying node pool \"all\" is not allowed"),
        ("/v1/node/pool/default", json!({}), "modifying node pool \"default\" is not allowed"),
        ("/v1/node/pool/a", json!({"Name": "b"}), "Node pool name does not match request path"),
        ("/v1/node/pools", json!({"Name": "a b"}), "invalid node pool name \"a b\""),
    ] {
        cluster.send("PUT", path, &body).await.says(400, text);
    }
    delete(&cluster, "/v1/node/pool/all", &json!({})).await.says(400, "deleting node pool \"all\" is not allowed");
}

/// store-061, store-062, store-063.
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_made_changed_and_deleted_when_empty() {
    let cluster = Cluster::start().await;
    let made = cluster.send("PUT", "/v1/namespace", &json!({"Name": "dev", "Meta": {"a": "b"}})).await;
    assert_eq!((made.status, made.text().as_str()), (200, ""));
    cluster.send("POST", "/v1/namespace/dev", &json!({"Name": "dev", "Description": "for trying"})).await;
    let dev = cluster.get("/v1/namespace/dev").await.json();
    assert_eq!((&dev["Description"], &dev["CreateIndex"]), (&json!("for trying"), &json!(made.index())));
    let mut web = job("web", 1);
    web.namespace = Some("dev".into());
    cluster.add_job(web);
    delete(&cluster, "/v1/namespace/dev", &json!({}))
        .await
        .says(409, "namespace \"dev\" has non-terminal jobs in regions: [global]");
    let stopped = delete(&cluster, "/v1/job/web?namespace=dev", &json!({})).await.json();
    let eval_id = stopped["EvalID"].as_str().unwrap().into();
    let done = model::Evaluation {
        status: model::EvalStatus::Complete,
        ..model::Evaluation::clone(cluster.truth.state().eval(&eval_id).unwrap())
    };
    let evals = vec![fsm::command::EvalUpdate { eval: done }];
    cluster.truth.apply(Role::Scheduler, Command::EvalUpdate { evals, create: vec![] });
    assert_eq!(delete(&cluster, "/v1/namespace/dev", &json!({})).await.status, 200, "dead jobs do not keep it");
    delete(&cluster, "/v1/namespace/dev", &json!({})).await.says(404, "Namespace not found");
    delete(&cluster, "/v1/namespace/default", &json!({})).await.says(409, "can not delete default namespace");
    for (path, body, text) in [
        ("/v1/namespace/a", json!({"Name": "b"}), "Namespace name does not match request path"),
        ("/v1/namespace", json!({"Name": "q", "Quota": "big"}), "Invalid namespace \"q\": Quota is not built yet"),
    ] {
        cluster.send("PUT", path, &body).await.says(400, text);
    }
    assert_eq!(cluster.send("PUT", "/v1/namespace", &json!({"Name": "a b"})).await.status, 400);
}
