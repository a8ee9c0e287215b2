//! Why a decision came out as it did, asked of a cluster of real processes: every node's verdict while a
//! scheduler remembers it, what lasts afterwards.
#![allow(clippy::unwrap_used)]

use client::public::{PublicError, Query};
use e2e::cluster::{Cluster, text};
use serde_json::Value;

fn job(name: &str, count: u32, more: &str, memory: u32) -> String {
    format!(
        "job \"{name}\" {{\n  {more}\n  group \"g\" {{\n    count = {count}\n    task \"t\" {{\n      driver = \"raw_exec\"\n      \
         config {{\n        command = \"/bin/sleep\"\n        args    = [\"1000\"]\n      }}\n      resources {{\n        \
         cpu    = 20\n        memory = {memory}\n      }}\n    }}\n  }}\n}}\n"
    )
}

async fn explained(cluster: &Cluster, eval: &str) -> Result<Value, PublicError> {
    let path = format!("/v1/evaluation/{eval}/explain");
    cluster.api.get::<Value>(&path, &Query::default()).await.map(|(value, _)| value)
}

/// The first evaluation of a job, once it is finished.
async fn eval_of(cluster: &Cluster, job: &str) -> String {
    let first =
        |evals: &Value| evals.as_array().and_then(|all| all.iter().min_by_key(|e| e["CreateIndex"].as_u64()).cloned());
    let done = |evals: &Value| first(evals).is_some_and(|eval| eval["Status"] == "complete");
    let evals = cluster.until(&format!("/v1/job/{job}/evaluations"), "the first evaluation is finished", done).await;
    first(&evals).unwrap()["ID"].as_str().unwrap().to_owned()
}

fn happenings(told: &Value) -> Vec<&str> {
    told["Timeline"].as_array().unwrap().iter().map(|one| one["What"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_explained_node_by_node_until_the_scheduler_forgets() {
    let cluster = Cluster::start();
    let fits = cluster.file("fits.nomad.hcl", &job("fits", 2, "", 20));
    cluster.ok(&["job", "run", "-detach", &fits]);
    cluster.until_allocs("fits", "running", 2).await;

    let more = cluster.file("more.nomad.hcl", &job("fits", 3, "", 20));
    let eval = eval_of(&cluster, "fits").await;
    let told = explained(&cluster, &eval).await.unwrap();
    let what = happenings(&told);
    for (earlier, later) in [
        ("created", "dequeued"),
        ("dequeued", "feasibility"),
        ("feasibility", "ranking"),
        ("ranking", "plan-submitted"),
        ("plan-submitted", "plan-accepted"),
        ("plan-accepted", "alloc-created"),
        ("alloc-created", "finished"),
    ] {
        let at = |name| what.iter().position(|one| *one == name).unwrap_or_else(|| panic!("no {name} in {what:?}"));
        assert!(at(earlier) < at(later), "{what:?}");
    }
    assert_eq!(what.iter().filter(|one| **one == "alloc-created").count(), 2);
    assert_eq!(what.last(), Some(&"finished"));
    let times: Vec<i64> =
        told["Timeline"].as_array().unwrap().iter().map(|one| one["Time"].as_i64().unwrap()).collect();
    assert!(times.iter().all(|time| *time > 1_600_000_000_000_000_000), "{times:?}");
    let group = &told["Groups"][0];
    assert_eq!(group["Placed"].as_array().unwrap().len(), 2);
    assert!(group["Placed"][0]["Score"].as_f64().unwrap() > 0.0, "{group}");
    let nodes = group["Nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    for node in nodes {
        assert!(node["Standing"] == "fits" && node["Score"].as_f64().unwrap() > 0.0, "{group}");
        assert!(node["Scores"]["binpack"].as_f64().unwrap() > 0.0, "{group}");
    }
    let planned = text(&cluster.steppe(&["job", "plan", &more]).stdout);
    assert!(planned.contains("fits.g[2] on agent-"), "{planned}");

    // One that no node may run, one that no node has room for.
    let constraint = "constraint {\n    attribute = \"${attr.kernel.name}\"\n    value     = \"plan9\"\n  }";
    let filtered = cluster.file("filtered.nomad.hcl", &job("filtered", 1, constraint, 20));
    cluster.ok(&["job", "run", "-detach", &filtered]);
    let huge = cluster.file("huge.nomad.hcl", &job("huge", 1, "", 9_000_000));
    cluster.ok(&["job", "run", "-detach", &huge]);
    for (name, standing, reason) in [("filtered", "filtered", "plan9"), ("huge", "exhausted", "memory")] {
        let eval = eval_of(&cluster, name).await;
        let told = explained(&cluster, &eval).await.unwrap();
        let group = &told["Groups"][0];
        assert_eq!(group["Unplaced"], 1, "{told}");
        for node in group["Nodes"].as_array().unwrap() {
            assert_eq!(node["Standing"], standing, "{told}");
            assert!(node["Reason"].as_str().unwrap().contains(reason), "{told}");
        }
        let needs = group["Needs"][0].as_str().unwrap_or_default();
        let nearest =
            if name == "huge" { "MB more memory on 2 nodes that pass all else" } else { "2 nodes have room and fail" };
        assert!(needs.contains(nearest), "{told}");
        let file = if name == "huge" { &huge } else { &filtered };
        let planned = text(&cluster.steppe(&["job", "plan", file]).stdout);
        assert!(planned.contains("1 allocation without a place") && planned.contains(reason), "{planned}");
        let said = cluster.ok(&["eval", "explain", &eval[..8]]);
        assert!(said.contains(reason) && said.contains("1 without a place") && said.contains("dequeued"), "{said}");
    }

    // Verdicts die with the scheduler that made them; what lasts still answers.
    let scheduler = told["Scheduler"].as_str().unwrap();
    cluster.kill(scheduler);
    match explained(&cluster, &eval).await {
        Err(PublicError::Status { status, body }) => {
            assert_eq!(status.as_u16(), 410);
            assert!(body.contains("summary=true"), "{body}");
        }
        other => panic!("the trace outlived its scheduler: {other:?}"),
    }
    let said = cluster.ok(&["eval", "explain", &eval]);
    assert!(said.contains("2 placed") && said.contains("alloc-created"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_is_not_there_is_not_explained() {
    let cluster = Cluster::start();
    for (id, status) in [("nonsense", 400), ("8c7fa1a3-3c45-4bf8-9d27-38e7bd9a2c11", 404)] {
        match explained(&cluster, id).await {
            Err(PublicError::Status { status: got, .. }) => assert_eq!(got.as_u16(), status, "{id}"),
            other => panic!("{id}: {other:?}"),
        }
    }
}
