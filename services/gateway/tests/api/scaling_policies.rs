//! Scaling policies, as jobs bring them and take them away.

use crate::support::{Cluster, NOBODY, posted};
use serde_json::{Value, json};

fn scaled(id: &str, max: i64) -> Value {
    let mut job = posted(id, 1);
    job["TaskGroups"][0]["Scaling"] = json!({"Min": 1, "Max": max, "Policy": {"cooldown": "1m"}});
    job
}

async fn register(cluster: &Cluster, job: Value) {
    cluster.send("PUT", "/v1/jobs", &json!({"Job": job})).await.json();
}

async fn only(cluster: &Cluster, query: &str) -> Value {
    let list = cluster.get(&format!("/v1/scaling/policies{query}")).await.json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    list[0].clone()
}

/// store-016, store-065 to store-067
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_lives_and_changes_with_its_job() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("/v1/scaling/policies").await.json(), json!([]));
    register(&cluster, scaled("web", 3)).await;
    let first = only(&cluster, "").await;
    let target = json!({"Namespace": "default", "Job": "web", "Group": "g"});
    assert_eq!((&first["Enabled"], &first["Type"], &first["Target"]), (&json!(true), &json!("horizontal"), &target));
    let path = format!("/v1/scaling/policy/{}", first["ID"].as_str().unwrap());
    let whole = cluster.get(&path).await;
    assert_eq!(whole.index(), whole.json()["ModifyIndex"].as_u64().unwrap());
    let whole = whole.json();
    assert_eq!((&whole["Min"], &whole["Max"], &whole["Policy"]), (&json!(1), &json!(3), &json!({"cooldown": "1m"})));
    register(&cluster, scaled("web", 3)).await;
    assert_eq!(only(&cluster, "").await, first, "store-065");
    let mut other = scaled("web", 3);
    other["Priority"] = json!(60);
    register(&cluster, other).await;
    assert_eq!(only(&cluster, "").await, first, "the policy did not change with its job");
    let plan = json!({"Job": scaled("web", 3), "Diff": true});
    let plan = cluster.send("PUT", "/v1/job/web/plan", &plan).await.json();
    let fields = plan["Diff"]["TaskGroups"][0]["Objects"].clone();
    assert_eq!(fields, Value::Null, "job-065: the policy's id and indexes are no change");
    register(&cluster, scaled("web", 4)).await;
    let changed = only(&cluster, "").await;
    assert_eq!(changed["ID"], first["ID"]);
    assert!(changed["ModifyIndex"].as_u64() > first["ModifyIndex"].as_u64());
    cluster.ask("DELETE", "/v1/job/web", &[], Default::default()).await.json();
    let stopped = only(&cluster, "").await;
    assert_eq!((&stopped["ID"], &stopped["Enabled"]), (&first["ID"], &json!(false)), "store-067");
    assert_eq!(cluster.get(&path).await.json()["Enabled"], false);
    register(&cluster, scaled("web", 4)).await;
    assert_eq!(only(&cluster, "").await["Enabled"], true, "store-067");
    register(&cluster, posted("web", 1)).await;
    assert_eq!(cluster.get("/v1/scaling/policies").await.json(), json!([]), "store-066");
    cluster.get(&path).await.says(404, "policy not found");
    register(&cluster, scaled("web", 4)).await;
    cluster.ask("DELETE", "/v1/job/web?purge=true", &[], Default::default()).await.json();
    assert_eq!(cluster.get("/v1/scaling/policies").await.json(), json!([]), "store-016");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_listed_by_job_type_prefix_and_namespace() {
    let cluster = Cluster::start().await;
    cluster.send("PUT", "/v1/namespace", &json!({"Name": "other"})).await;
    register(&cluster, scaled("web", 3)).await;
    register(&cluster, scaled("db", 3)).await;
    let mut far = scaled("far", 2);
    far["Namespace"] = json!("other");
    register(&cluster, far).await;
    let all = cluster.get("/v1/scaling/policies?namespace=*").await.json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    assert_eq!(cluster.get("/v1/scaling/policies").await.json().as_array().unwrap().len(), 2);
    let web = only(&cluster, "?job=web").await;
    assert_eq!(web["Target"]["Job"], "web");
    let id = web["ID"].as_str().unwrap();
    assert_eq!(only(&cluster, &format!("?prefix={}", &id[..12])).await, web);
    assert_eq!(only(&cluster, "?namespace=other&type=horizontal").await["Target"]["Job"], "far");
    assert_eq!(cluster.get("/v1/scaling/policies?type=vertical_cpu").await.json(), json!([]));
    let found = cluster.send("PUT", "/v1/search", &json!({"Prefix": id, "Context": "scaling_policy"})).await.json();
    assert_eq!(found["Matches"]["scaling_policy"], json!([id]));
    cluster.get(&format!("/v1/scaling/policy/{NOBODY}")).await.says(404, "policy not found");
    assert_eq!(cluster.get("/v1/scaling/policies?prefix=zz").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_no_services_and_no_job_is_an_error() {
    let cluster = Cluster::start().await;
    register(&cluster, posted("web", 1)).await;
    assert_eq!(cluster.get("/v1/job/web/services").await.json(), json!([]));
    cluster.get("/v1/job/none/services").await.says(404, "job not found");
}
