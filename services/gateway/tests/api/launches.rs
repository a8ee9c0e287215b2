//! Dispatch, forced launches, wishes about deployments, and search, through the public API.

use crate::support::{Cluster, NOBODY, posted};
use axum::body::Bytes;
use model::deployment::DeploymentState;
use serde_json::{Value, json};

fn batch(id: &str, more: &[(&str, Value)]) -> Value {
    let mut job = posted(id, 1);
    job["Type"] = json!("batch");
    more.iter().for_each(|(key, value)| job[*key] = value.clone());
    json!({"Job": job})
}

async fn parameterized(payload: &str) -> Cluster {
    let cluster = Cluster::start().await;
    let config = json!({"Payload": payload, "MetaRequired": ["who"], "MetaOptional": ["opt"]});
    let answer = cluster.send("PUT", "/v1/jobs", &batch("param", &[("ParameterizedJob", config)])).await.json();
    assert_eq!(answer["EvalID"], "", "job-017");
    cluster
}

/// covers: val-151
#[tokio::test(flavor = "multi_thread")]
async fn a_dispatched_child_carries_what_it_was_given() {
    let cluster = parameterized("optional").await;
    let body = json!({"Payload": "aGVsbG8=", "Meta": {"who": "me"}, "Priority": 70, "IdPrefixTemplate": "run"});
    let answer = cluster.send("PUT", "/v1/job/param/dispatch", &body).await.json();
    let id = answer["DispatchedJobID"].as_str().unwrap();
    assert!(id.starts_with("param/dispatch-run-"), "dispatch-008: {id}");
    let child = cluster.get(&format!("/v1/job/{id}")).await.json();
    assert_eq!(
        [&child["Dispatched"], &child["ParentID"], &child["Payload"], &child["Meta"]["who"], &child["Priority"]],
        [&json!(true), &json!("param"), &json!("aGVsbG8="), &json!("me"), &json!(70)]
    );
    let eval = cluster.get(&format!("/v1/evaluation/{}", answer["EvalID"].as_str().unwrap())).await.json();
    assert_eq!((&eval["JobID"], &eval["Priority"]), (&json!(id), &json!(70)));
    let children = cluster.get("/v1/job/param/summary").await.json()["Children"].clone();
    assert_eq!(children, json!({"Pending": 1, "Running": 0, "Dead": 0}));
    let row = cluster.send("POST", "/v1/jobs/statuses", &json!({"Jobs": [{"ID": "param"}]})).await.json();
    assert_eq!((&row[0]["ChildStatuses"], &row[0]["Allocs"]), (&json!(["pending"]), &json!([])));
    // Children are listed only when they are asked for.
    assert_eq!(cluster.get("/v1/jobs/statuses").await.json().as_array().unwrap().len(), 1);
    assert_eq!(cluster.get("/v1/jobs/statuses?include_children=true").await.json().as_array().unwrap().len(), 2);
    let raw = Bytes::from(vec![0_u8, 1, 2]);
    let text = "Dispatch did not provide required meta keys: [who]";
    cluster.ask("PUT", "/v1/job/param/dispatch/payload", &[], raw).await.says(400, text);
}

/// covers: val-147 val-148 val-149 val-150
#[tokio::test(flavor = "multi_thread")]
async fn dispatch_001_to_010_what_the_job_does_not_ask_for_is_refused() {
    let cluster = parameterized("required").await;
    cluster.send("PUT", "/v1/jobs", &json!({"Job": posted("web", 1)})).await.json();
    let long = "A".repeat(4 * (16 * 1024 / 3 + 10));
    for (job, body, status, text) in [
        ("param", json!({"Meta": {"who": "me"}}), 400, "Payload is not provided but required by parameterized job"),
        ("param", json!({"Payload": "aGk="}), 400, "Dispatch did not provide required meta keys: [who]"),
        (
            "param",
            json!({"Payload": "aGk=", "Meta": {"who": "me", "zz": "1"}}),
            400,
            "Dispatch request included unpermitted metadata keys: [zz]",
        ),
        ("param", json!({"Payload": long, "Meta": {"who": "me"}}), 400, "Payload exceeds maximum size; 16413 > 16384"),
        (
            "param",
            json!({"Payload": "aGk=", "Meta": {"who": "me"}, "Priority": 101}),
            400,
            "job priority must be between [1, 100]",
        ),
        ("param", json!({"JobID": "other"}), 400, "Job ID does not match"),
        ("web", json!({}), 400, "Specified job \"web\" is not a parameterized job"),
        ("nope", json!({}), 404, "parameterized job not found"),
    ] {
        cluster.send("PUT", &format!("/v1/job/{job}/dispatch"), &body).await.says(status, text);
    }
    cluster.send("DELETE", "/v1/job/param", &Value::Null).await.json();
    let body = json!({"Payload": "aGk=", "Meta": {"who": "me"}});
    cluster.send("PUT", "/v1/job/param/dispatch", &body).await.says(400, "Specified job \"param\" is stopped");
    let cluster = parameterized("forbidden").await;
    let text = "Payload provided but forbidden by parameterized job";
    cluster.send("PUT", "/v1/job/param/dispatch", &body).await.says(400, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatch_009_a_repeated_token_gets_the_same_child() {
    let cluster = parameterized("optional").await;
    let send =
        || cluster.send_owned("PUT", "/v1/job/param/dispatch?idempotency_token=t", json!({"Meta": {"who": "me"}}));
    let (first, second) = (send().await.json(), send().await.json());
    assert_eq!((&first["DispatchedJobID"], &first["EvalID"]), (&second["DispatchedJobID"], &second["EvalID"]));
    assert_eq!(cluster.get("/v1/jobs?prefix=param/").await.json().as_array().unwrap().len(), 1);
}

fn cron(spec: &str, zone: &str) -> Value {
    json!({"Enabled": true, "SpecType": "cron", "Specs": [spec], "ProhibitOverlap": true, "TimeZone": zone})
}

/// covers: val-152
#[tokio::test(flavor = "multi_thread")]
async fn periodic_004_005_a_periodic_job_is_launched_by_hand() {
    let cluster = Cluster::start().await;
    let answer =
        cluster.send("PUT", "/v1/jobs", &batch("cron", &[("Periodic", cron("0 0 1 1 *", "UTC"))])).await.json();
    assert_eq!(answer["EvalID"], "", "job-017");
    let forced = cluster.send("PUT", "/v1/job/cron/periodic/force", &Value::Null).await.json();
    let eval = cluster.get(&format!("/v1/evaluation/{}", forced["EvalID"].as_str().unwrap())).await.json();
    assert_eq!(eval["TriggeredBy"], "periodic-job");
    let child = eval["JobID"].as_str().unwrap();
    assert!(child.starts_with("cron/periodic-"), "{child}");
    let child = cluster.get(&format!("/v1/job/{child}")).await.json();
    assert_eq!(
        (&child["ParentID"], &child["Periodic"], &child["Status"]),
        (&json!("cron"), &Value::Null, &json!("pending"))
    );
    cluster.send("PUT", "/v1/jobs", &json!({"Job": posted("web", 1)})).await.json();
    let text = "can't force launch non-periodic job";
    cluster.send("PUT", "/v1/job/web/periodic/force", &Value::Null).await.says(400, text);
    cluster.send("PUT", "/v1/job/nope/periodic/force", &Value::Null).await.says(404, "job not found");
    cluster.send("DELETE", "/v1/job/cron", &Value::Null).await.json();
    let text = "can't force run non-tracked job";
    cluster.send("PUT", "/v1/job/cron/periodic/force", &Value::Null).await.says(400, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_when_a_periodic_job_is_launched_first() {
    let cluster = Cluster::start().await;
    let plan = |spec: &str, zone: &str| {
        cluster.send_owned("PUT", "/v1/job/cron/plan", batch("cron", &[("Periodic", cron(spec, zone))]))
    };
    let next = plan("30 12 1 1 *", "Europe/Berlin").await.json()["NextPeriodicLaunch"].clone();
    assert!(next.as_str().unwrap().ends_with("-01-01T11:30:00Z"), "{next}");
    let refused = plan("30 12 1 1 *", "Mars/Olympus").await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("unknown time zone Mars/Olympus"), "{}", refused.text());
    assert!(plan("not cron", "").await.text().contains("Invalid cron spec"));
}

/// A job with a deployment that waits for its canary.
async fn rollout(cluster: &Cluster) -> String {
    cluster.add_node();
    let mut job = posted("web", 2);
    job["TaskGroups"][0]["Update"] = json!({"MaxParallel": 1, "Canary": 1});
    cluster.send("PUT", "/v1/jobs", &json!({"Job": job})).await.json();
    let id = client::state::new_uuid();
    let state = DeploymentState { desired_total: 2, desired_canaries: 1, ..DeploymentState::default() };
    cluster.deploy("web", &id, state);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_paused_resumed_and_failed_by_hand() {
    let cluster = Cluster::start().await;
    let id = rollout(&cluster).await;
    let send = |verb: &str, body: Value| {
        cluster.send_owned("PUT", Box::leak(format!("/v1/deployment/{verb}/{id}").into_boxed_str()), body)
    };
    let status = || async {
        let row = cluster.get(format!("/v1/deployment/{id}")).await.json();
        (row["Status"].as_str().unwrap().to_owned(), row["StatusDescription"].as_str().unwrap().to_owned())
    };
    let answer = send("pause", json!({"DeploymentID": id, "Pause": true})).await;
    let index = answer.index();
    let expected = json!({"EvalID": "", "EvalCreateIndex": 0, "DeploymentModifyIndex": index, "Index": index, "RevertedJobVersion": null});
    assert_eq!(answer.json(), expected);
    assert_eq!(status().await, ("paused".into(), "Deployment is paused".into()));
    let resumed = send("pause", json!({"DeploymentID": id, "Pause": false})).await.json();
    let eval = cluster.get(format!("/v1/evaluation/{}", resumed["EvalID"].as_str().unwrap())).await.json();
    assert_eq!((&eval["TriggeredBy"], &eval["DeploymentID"]), (&json!("deployment-watcher"), &json!(id)));
    assert_eq!(status().await, ("running".into(), "Deployment is running but requires manual promotion".into()));
    let text = "Task group \"g\" has 0/1 healthy allocations";
    send("promote", json!({"DeploymentID": id, "All": true})).await.says(409, text);
    send("promote", json!({"DeploymentID": id, "Groups": ["nope"]}))
        .await
        .says(400, "deployment has no task group \"nope\"");
    send("promote", json!({"DeploymentID": id}))
        .await
        .says(400, "all groups, or some by their names, must be specified");
    send("unblock", json!({"DeploymentID": id})).await.says(409, "can't unblock a deployment that is not blocked");
    send("pause", json!({"Pause": true})).await.says(400, "DeploymentID must be specified");
    send("pause", json!({"DeploymentID": NOBODY, "Pause": true})).await.says(400, "Deployment ID does not match");
    let text = "at least one healthy or unhealthy allocation must be specified";
    send("allocation-health", json!({"DeploymentID": id})).await.says(400, text);
    send("fail", Value::Null).await.json();
    assert_eq!(status().await, ("failed".into(), "Deployment marked as failed".into()));
    for (verb, body, word) in [
        ("fail", Value::Null, "fail"),
        ("pause", json!({"DeploymentID": id, "Pause": true}), "pause"),
        ("pause", json!({"DeploymentID": id, "Pause": false}), "resume"),
        ("promote", json!({"DeploymentID": id, "All": true}), "promote"),
        ("unblock", json!({"DeploymentID": id}), "unblock"),
    ] {
        send(verb, body).await.says(409, &format!("can't {word} terminal deployment"));
    }
    let unknown = cluster.send("PUT", &format!("/v1/deployment/fail/{NOBODY}"), &Value::Null).await;
    unknown.says(404, "deployment not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn search_002_ids_are_found_by_their_beginning_and_cut_off_at_twenty() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    for n in 0..22 {
        cluster.add_job(crate::support::job(&format!("web-{n:02}"), 1));
    }
    cluster.add_job(crate::support::job("other", 1));
    let find = |prefix: &str, context: &str| {
        cluster.send_owned("PUT", "/v1/search", json!({"Prefix": prefix, "Context": context}))
    };
    let found = find("web", "jobs").await.json();
    assert_eq!(found["Matches"]["jobs"].as_array().unwrap().len(), 20);
    assert_eq!(found["Truncations"], json!({"jobs": true}));
    let all = find("other", "all").await.json();
    assert_eq!((&all["Matches"]["jobs"], &all["Matches"]["volumes"]), (&json!(["other"]), &json!([])));
    assert_eq!(all["Truncations"]["nodes"], false);
    let node = find(&crate::support::NODE[..9], "nodes").await.json();
    assert_eq!(node["Matches"], json!({"nodes": [crate::support::NODE]}), "search-001");
    let bad = find("x", "planets").await;
    assert_eq!(bad.status, 400);
    assert!(bad.text().ends_with("or 'all' for all contexts; got \"planets\""), "{}", bad.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn search_004_005_parts_of_names_are_found_with_where_they_are() {
    let cluster = Cluster::start().await;
    let mut job = posted("shop", 1);
    let mut image = job["TaskGroups"][0]["Tasks"][0].clone();
    image["Name"] = json!("sidecar");
    image["Driver"] = json!("docker");
    image["Config"] = json!({"image": "redis:7"});
    job["TaskGroups"][0]["Tasks"].as_array_mut().unwrap().push(image);
    let mut job: model::Job = serde_json::from_value(job).unwrap();
    job.canonicalize();
    cluster.add_job(job);
    cluster.add_job(crate::support::job("workshop", 1));
    let find = |text: &str| cluster.send_owned("PUT", "/v1/search/fuzzy", json!({"Text": text, "Context": "jobs"}));
    let found = find("SHOP").await.json()["Matches"]["jobs"].clone();
    let expected =
        json!([{"ID": "shop", "Scope": ["default", "shop"]}, {"ID": "workshop", "Scope": ["default", "workshop"]}]);
    assert_eq!(found, expected, "the earlier hit first");
    let found = find("redis").await.json()["Matches"]["images"].clone();
    assert_eq!(found, json!([{"ID": "redis:7", "Scope": ["default", "shop", "g", "sidecar"]}]), "search-005");
    let found = find("bin/sh").await.json()["Matches"]["commands"].clone();
    assert_eq!(found.as_array().unwrap().len(), 2);
    let short = find("s").await;
    short.says(400, "fuzzy search query must be at least 2 characters, got 1");
}
