//! Versions, counts, tags and statuses of jobs through the public API.

use crate::support::{Cluster, posted};
use serde_json::{Value, json};

async fn register(cluster: &Cluster, id: &str, count: i64) -> Value {
    cluster.send("PUT", "/v1/jobs", &json!({"Job": posted(id, count)})).await.json()
}

async fn with_versions(count: i64) -> Cluster {
    let cluster = Cluster::start().await;
    for n in 1..=count {
        register(&cluster, "web", n).await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn job_052_to_054_versions_are_compared_with_the_one_before_or_with_a_named_one() {
    let cluster = with_versions(3).await;
    assert_eq!(cluster.get("/v1/job/web/versions").await.json()["Diffs"], Value::Null);
    let counts = |body: &Value| -> Vec<(String, String)> {
        let diffs = body["Diffs"].as_array().unwrap();
        let field = |diff: &Value| diff["TaskGroups"][0]["Fields"][0].clone();
        let text = |value: &Value| value.as_str().unwrap_or("same").to_owned();
        diffs.iter().map(|diff| (text(&field(diff)["Old"]), text(&field(diff)["New"]))).collect()
    };
    let pair = |old: &str, new: &str| (old.to_owned(), new.to_owned());
    let body = cluster.get("/v1/job/web/versions?diffs=true").await.json();
    assert_eq!(counts(&body), [pair("2", "3"), pair("1", "2")], "job-052");
    let body = cluster.get("/v1/job/web/versions?diffs=true&diff_version=0").await.json();
    assert_eq!(counts(&body), [pair("1", "3"), pair("1", "2"), pair("same", "same")]);
    cluster.send("PUT", "/v1/job/web/versions/mid/tag", &json!({"Version": 1})).await.json();
    let body = cluster.get("/v1/job/web/versions?diffs=true&diff_tag=mid").await.json();
    assert_eq!(counts(&body), [pair("2", "3"), pair("same", "same"), pair("2", "1")], "job-053");
    cluster.get("/v1/job/web/versions?diffs=true&diff_tag=no").await.says(404, "tag \"no\" not found");
    assert_eq!(cluster.get("/v1/job/web/versions?diffs=true&diff_version=x").await.status, 400);
    assert_eq!(cluster.get("/v1/job/web/versions?diffs=perhaps").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_059_060_a_plan_says_what_would_change_when_asked() {
    let cluster = with_versions(1).await;
    let plan = |count: i64, diff: bool| {
        let body = json!({"Job": posted("web", count), "Diff": diff});
        cluster.send_owned("PUT", "/v1/job/web/plan", body)
    };
    assert_eq!(plan(4, false).await.json()["Diff"], Value::Null, "job-059");
    let diff = plan(4, true).await.json()["Diff"].clone();
    let group = &diff["TaskGroups"][0];
    assert_eq!((&diff["Type"], &group["Type"]), (&json!("Edited"), &json!("Edited")));
    let count = json!([{"Type": "Edited", "Name": "Count", "Old": "1", "New": "4", "Annotations": ["forces create"]}]);
    assert_eq!((&group["Fields"], &group["Updates"]), (&count, &json!({"create": 4})));
    assert_eq!(plan(1, true).await.json()["Diff"]["Type"], "None");
    let new = json!({"Job": posted("new", 1), "Diff": true});
    let new = cluster.send("PUT", "/v1/job/new/plan", &new).await.json();
    assert_eq!((&new["Diff"]["Type"], &new["JobModifyIndex"]), (&json!("Added"), &json!(0)), "job-060");
    assert_eq!(cluster.get("/v1/job/web").await.json()["Version"], 0, "job-064");
}

#[tokio::test(flavor = "multi_thread")]
async fn job_045_to_048_a_job_goes_back_to_what_a_version_asked_for() {
    let cluster = with_versions(2).await;
    let back = |body: Value| cluster.send_owned("PUT", "/v1/job/web/revert", body);
    cluster.send("PUT", "/v1/job/web/versions/first/tag", &json!({"Version": 0})).await.json();
    for (body, status, text) in [
        (json!({"JobID": "web", "JobVersion": 1}), 400, "can't revert to current version"),
        (json!({"JobID": "web", "JobVersion": 9}), 404, "job \"web\" in namespace \"default\" at version 9 not found"),
        (json!({"JobVersion": 0}), 400, "JobID must be specified"),
        (json!({"JobID": "other", "JobVersion": 0}), 400, "Job ID does not match"),
        (
            json!({"JobID": "web", "JobVersion": 0, "EnforcePriorVersion": 7}),
            409,
            "Current job has version 1; enforcing version 7",
        ),
    ] {
        back(body).await.says(status, text);
    }
    let answer = back(json!({"JobID": "web", "JobVersion": 0, "EnforcePriorVersion": 1})).await;
    assert_eq!((answer.header("x-nomad-knownleader"), answer.header("x-nomad-lastcontact")), ("false", "0"));
    let body = answer.json();
    assert!(!body["EvalID"].as_str().unwrap().is_empty());
    let job = cluster.get("/v1/job/web").await.json();
    assert_eq!(
        (&job["Version"], &job["TaskGroups"][0]["Count"], &job["Stable"], &job["VersionTag"]),
        (&json!(2), &json!(1), &json!(false), &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reverted_version_has_the_text_it_was_made_from() {
    let cluster = Cluster::start().await;
    let source = |text: &str| json!({"Source": text, "Format": "hcl2"});
    for (count, text) in [(1, "first"), (2, "second")] {
        let body = json!({"Job": posted("web", count), "Submission": source(text)});
        cluster.send("PUT", "/v1/jobs", &body).await.json();
    }
    cluster.send("PUT", "/v1/job/web/revert", &json!({"JobID": "web", "JobVersion": 0})).await.json();
    let row = cluster.get("/v1/job/web/submission?version=2").await.json();
    assert_eq!((&row["Source"], &row["Version"], &row["JobID"]), (&json!("first"), &json!(2), &json!("web")));
}

#[tokio::test(flavor = "multi_thread")]
async fn job_049_a_version_is_declared_stable_by_hand() {
    let cluster = with_versions(2).await;
    let body = json!({"JobID": "web", "JobVersion": 0, "Stable": true});
    let answer = cluster.send("PUT", "/v1/job/web/stable", &body).await;
    assert_eq!(answer.json(), json!({"Index": answer.index()}));
    let versions = cluster.get("/v1/job/web/versions").await.json()["Versions"].clone();
    assert_eq!([&versions[0]["Stable"], &versions[1]["Stable"]], [&json!(false), &json!(true)]);
    let unknown = json!({"JobID": "web", "JobVersion": 5, "Stable": true});
    let text = "job \"web\" in namespace \"default\" at version 5 not found";
    cluster.send("PUT", "/v1/job/web/stable", &unknown).await.says(404, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_a_name_until_it_is_taken_away() {
    let cluster = with_versions(2).await;
    let path = "/v1/job/web/versions/golden/tag";
    let answer = cluster.send("PUT", path, &json!({"Version": 0, "Description": "first"})).await;
    assert_eq!(answer.header("x-nomad-index"), "");
    let body = answer.json();
    assert_eq!((&body["Name"], &body["Description"]), (&json!("golden"), &json!("first")));
    assert!(body["TaggedTime"].as_i64().unwrap() > 0);
    let text = "tag \"golden\" already exists on a different version of job \"web\"";
    cluster.send("PUT", path, &json!({"Version": 1})).await.says(409, text);
    assert_eq!(cluster.send("PUT", path, &json!({"Version": 1, "Latest": true})).await.status, 400);
    let job = cluster.send("PUT", "/v1/job/web/versions/new/tag", &json!({"Latest": true})).await.json();
    assert_eq!(job["Name"], "new");
    assert_eq!(cluster.get("/v1/job/web").await.json()["VersionTag"]["Name"], "new");
    let body = cluster.send("DELETE", path, &Value::Null).await.json();
    assert_eq!((&body["Name"], &body["TaggedTime"]), (&json!(""), &json!(0)));
    let text = "tag \"golden\" not found on job \"web\"";
    cluster.send("DELETE", path, &Value::Null).await.says(404, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_scaled_and_says_why() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    register(&cluster, "web", 2).await;
    let (allocs, _) = cluster.place("web", 2);
    cluster.run_alloc(&allocs[0]);
    let body = json!({"Count": 3, "Target": {"Group": "g"}, "Message": "more", "Meta": {"a": 1}});
    let answer = cluster.send("POST", "/v1/job/web/scale", &body).await.json();
    let eval = cluster.get(&format!("/v1/evaluation/{}", answer["EvalID"].as_str().unwrap())).await.json();
    assert_eq!((&eval["TriggeredBy"], &answer["KnownLeader"]), (&json!("job-scaling"), &json!(true)));
    let status = cluster.get("/v1/job/web/scale").await.json();
    let group = &status["TaskGroups"]["g"];
    let counts = ["Desired", "Placed", "Running", "Healthy", "Unhealthy"].map(|name| group[name].as_i64().unwrap());
    assert_eq!(counts, [3, 2, 1, 0, 0]);
    let event = &group["Events"][0];
    assert_eq!((&event["Count"], &event["PreviousCount"], &event["Message"]), (&json!(3), &json!(2), &json!("more")));
    assert_eq!(
        (&event["EvalID"], &event["Meta"], &event["Error"]),
        (&answer["EvalID"], &json!({"a": 1}), &json!(false))
    );
    let note = json!({"Target": {"Group": "g"}, "Message": "sensor is blind", "Error": true});
    let noted = cluster.send("POST", "/v1/job/web/scale", &note).await.json();
    assert_eq!(noted["EvalID"], "");
    let events = cluster.get("/v1/job/web/scale").await.json()["TaskGroups"]["g"]["Events"].clone();
    assert_eq!(
        (&events[0]["Count"], &events[0]["Error"], &events[1]["Count"]),
        (&Value::Null, &json!(true), &json!(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_003_004_008_what_cannot_be_scaled_is_refused() {
    let cluster = with_versions(1).await;
    for (path, body, status, text) in [
        (
            "web",
            json!({"Count": 3, "Target": {"Group": "nope"}}),
            400,
            "task group \"nope\" specified for scaling does not exist in job",
        ),
        ("web", json!({"Count": -1, "Target": {"Group": "g"}}), 400, "scaling action count can't be negative"),
        ("nope", json!({"Count": 1, "Target": {"Group": "g"}}), 404, "job \"nope\" not found"),
        (
            "web",
            json!({"Count": 1, "Error": true, "Target": {"Group": "g"}}),
            400,
            "scaling action should not contain count if error is true",
        ),
        ("web", json!({"Count": 1}), 400, "missing task group name for scaling action"),
        (
            "web",
            json!({"Count": 1, "Target": {"Group": "g", "Job": "other"}}),
            400,
            "job ID in payload did not match URL",
        ),
        (
            "web",
            json!({"Count": 60_000, "Target": {"Group": "g"}}),
            400,
            "total count was greater than configured job_max_count: 60000 > 50000",
        ),
    ] {
        cluster.send("POST", &format!("/v1/job/{path}/scale"), &body).await.says(status, text);
    }
    cluster.get("/v1/job/nope/scale").await.says(404, "job not found");
    assert_eq!(cluster.get("/v1/job/web/scale").await.json()["TaskGroups"]["g"]["Events"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_listed_newest_first_and_page_by_page() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    for id in ["a", "b", "c"] {
        register(&cluster, id, 1).await;
    }
    let (allocs, _) = cluster.place("a", 1);
    cluster.run_alloc(&allocs[0]);
    let ids = |body: &Value| -> Vec<String> {
        body.as_array().unwrap().iter().map(|job| job["ID"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&cluster.get("/v1/jobs/statuses").await.json()), ["a", "c", "b"]);
    assert_eq!(ids(&cluster.get("/v1/jobs/statuses?reverse=true").await.json()), ["b", "c", "a"]);
    let page = cluster.get("/v1/jobs/statuses?per_page=2").await;
    assert_eq!(ids(&page.json()), ["a", "c"]);
    let next = format!("/v1/jobs/statuses?per_page=2&next_token={}", page.header("x-nomad-nexttoken"));
    assert_eq!(ids(&cluster.get(next).await.json()), ["b"]);
    let body = json!({"Jobs": [{"ID": "a", "Namespace": "default"}, {"ID": "gone"}]});
    let rows = cluster.send("POST", "/v1/jobs/statuses", &body).await.json();
    assert_eq!(ids(&rows), ["a"]);
    let row = &rows[0];
    assert_eq!(
        (&row["GroupCountSum"], &row["Status"], &row["ChildStatuses"]),
        (&json!(1), &json!("running"), &Value::Null)
    );
    let alloc = &row["Allocs"][0];
    assert_eq!(
        (&alloc["ClientStatus"], &alloc["Group"], &alloc["JobVersion"]),
        (&json!("running"), &json!("g"), &json!(0))
    );
    cluster.send("POST", "/v1/jobs/statuses", &json!({"Jobs": []})).await.says(400, "no jobs in request");
}
