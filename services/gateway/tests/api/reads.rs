//! Reads of the public API: wire form, freshness, blocking, pages, filters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{self, Cluster, NOBODY, NODE, job};

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// A recorded answer's fields. The recordings are facts about the compatible interface.
fn recorded(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_shown_in_the_wire_form() {
    let cluster = Cluster::start().await;
    let index = cluster.add_job(job("web", 2));
    let list = cluster.get("/v1/jobs").await;
    let rows = list.json();
    assert_eq!(
        keys(&rows[0]),
        recorded(
            "CreateIndex Datacenters ID JobModifyIndex JobSummary ModifyIndex Multiregion Name Namespace NodePool \
             ParameterizedJob ParentID Periodic Priority Status StatusDescription Stop SubmitTime Type"
        )
    );
    assert_eq!(rows[0]["JobSummary"]["Summary"]["g"]["Queued"], 0);
    assert_eq!((list.index(), list.header("x-nomad-knownleader")), (index.get(), "true"));
    assert_eq!(list.header("x-nomad-lastcontact"), "0");

    let info = cluster.get("/v1/job/web").await;
    assert_eq!(info.index(), index.get());
    let shown = info.json();
    for (field, value) in [("ID", "web"), ("Namespace", "default"), ("Status", "pending"), ("Region", "global")] {
        assert_eq!(shown[field], value);
    }
    assert!(shown["Constraints"].is_null() && shown.get("Reschedule").is_none());

    let versions = cluster.get("/v1/job/web/versions").await.json();
    assert_eq!(keys(&versions), recorded("Diffs Index KnownLeader LastContact NextToken Versions"));
    assert_eq!(versions["Versions"][0]["Version"], 0);
    assert_eq!(cluster.get("/v1/job/web/deployment").await.json(), Value::Null);
    for list in ["allocations", "evaluations", "deployments"] {
        assert_eq!(cluster.get(&format!("/v1/job/web/{list}")).await.json(), serde_json::json!([]), "{list}");
        assert_eq!(cluster.get(&format!("/v1/job/nope/{list}")).await.json(), serde_json::json!([]), "{list}");
    }
    let summary = cluster.get("/v1/job/web/summary").await.json();
    assert_eq!(keys(&summary), recorded("Children CreateIndex JobID ModifyIndex Namespace Summary"));
    for path in ["/v1/job/nope", "/v1/job/web?namespace=other", "/v1/job/nope/summary", "/v1/job/web/version/0"] {
        let missing = cluster.get(path).await;
        missing.says(404, "job not found");
        assert_eq!(missing.header("x-nomad-knownleader"), "true", "{path}");
        assert!(missing.index() > 0, "{path}");
    }
    cluster.get("/v1/job/nope/versions").await.says(404, "job versions not found");
    cluster.get("/v1/job/web/submission?version=0").await.says(404, "job source not found");
    cluster.get("/v1/job/web/submission").await.says(400, "Unable to parse job submission version parameter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_s_id_may_hold_slashes_written_either_way() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("param/dispatch-1-a", 1));
    for path in ["/v1/job/param%2Fdispatch-1-a", "/v1/job/param/dispatch-1-a"] {
        assert_eq!(cluster.get(path).await.json()["ID"], "param/dispatch-1-a");
        assert_eq!(cluster.get(&format!("{path}/summary")).await.json()["JobID"], "param/dispatch-1-a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_allocations_are_shown_in_the_wire_form() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 2));
    let (ids, eval) = cluster.place("web", 2);
    cluster.run_alloc(&ids[0]);

    let nodes = cluster.get("/v1/nodes").await.json();
    let stub = "Address CreateIndex Datacenter Drain Drivers HostVolumes ID LastDrain ModifyIndex Name NodeClass \
                NodePool SchedulingEligibility Status StatusDescription Version";
    assert_eq!(keys(&nodes[0]), recorded(stub));
    assert_eq!((&nodes[0]["Address"], &nodes[0]["Version"]), (&"127.0.0.1".into(), &"2.0.6".into()));
    let more = cluster.get("/v1/nodes?resources=true&os=true").await.json();
    assert_eq!(
        keys(&more[0]),
        recorded(&format!("{stub} NodeResources ReservedResources Attributes"))
            .into_iter()
            .filter(|k| k != "ReservedResources")
            .collect()
    );
    assert_eq!(more[0]["Attributes"], serde_json::json!({"os.name": "debian"}));

    let node = cluster.get(&format!("/v1/node/{NODE}")).await.json();
    assert_eq!(
        keys(&node),
        recorded(
            "Attributes CSIControllerPlugins CSINodePlugins CgroupParent ComputedClass CreateIndex Datacenter Drain \
             DrainStrategy Drivers Events GCVolumesOnNodeGC HTTPAddr HostNetworks HostVolumes ID IdentitySigningKeyID \
             LastAllocUpdateIndex LastDrain LastMissedHeartbeatIndex Links Meta ModifyIndex Name NodeClass \
             NodeMaxAllocs NodePool NodeResources ReservedResources SchedulingEligibility SecretID Status \
             StatusDescription StatusUpdatedAt TLSEnabled"
        )
    );
    assert_eq!((&node["Drain"], &node["SecretID"], &node["Status"]), (&false.into(), &"".into(), &"ready".into()));

    let id = &ids[0];
    let alloc = cluster.get(&format!("/v1/allocation/{id}")).await.json();
    assert_eq!((&alloc["Job"]["ID"], &alloc["ClientStatus"]), (&"web".into(), &"running".into()));
    let legacy = ["Resources", "SharedResources"].map(|name| alloc[name]["DiskMB"].is_number());
    assert_eq!(legacy, [true, true]);
    assert!(alloc.get("JobVersion").is_none() && alloc.get("JobIncarnation").is_none());
    let stub = "ClientDescription ClientStatus CreateIndex CreateTime DeploymentStatus DesiredDescription DesiredStatus \
                DesiredTransition EvalID FollowupEvalID ID JobID JobType JobVersion ModifyIndex ModifyTime Name \
                Namespace NextAllocation NodeID NodeName PreemptedAllocations PreemptedByAllocation \
                RescheduleTracker TaskGroup TaskStates";
    for path in [
        "/v1/allocations".to_owned(),
        "/v1/job/web/allocations".to_owned(),
        format!("/v1/evaluation/{eval}/allocations"),
        format!("/v1/allocations?prefix={}", &id.as_str()[..8]),
    ] {
        let rows = cluster.get(&path).await.json();
        assert_eq!(keys(&rows[0]), recorded(stub), "{path}");
        assert_eq!((&rows[0]["JobType"], &rows[0]["JobVersion"]), (&"service".into(), &0.into()), "{path}");
    }
    let with = cluster.get("/v1/allocations?resources=true").await.json();
    assert!(with[0]["AllocatedResources"].is_object());
    assert_eq!(cluster.get("/v1/allocations?task_states=false").await.json()[0]["TaskStates"], Value::Null);
    let full = cluster.get(&format!("/v1/node/{NODE}/allocations")).await.json();
    assert_eq!((full.as_array().unwrap().len(), &full[0]["Job"]["ID"]), (2, &"web".into()));
    assert_eq!(cluster.get(&format!("/v1/evaluation/{eval}")).await.json()["JobID"], "web");
    let count = cluster.get("/v1/evaluations/count").await.json();
    assert_eq!((keys(&count), &count["Count"]), (recorded("Count Index KnownLeader LastContact NextToken"), &1.into()));
    assert_eq!(cluster.get("/v1/evaluations?job=web").await.json().as_array().unwrap().len(), 1);
    assert_eq!(cluster.get("/v1/evaluations?status=blocked").await.json(), serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_no_id_is_refused_in_the_reference_s_words() {
    let cluster = Cluster::start().await;
    for (path, status, text) in [
        (format!("/v1/node/{NOBODY}"), 404, "node not found"),
        (format!("/v1/allocation/{NOBODY}"), 404, "alloc not found"),
        (format!("/v1/evaluation/{NOBODY}"), 404, "eval not found"),
        (format!("/v1/deployment/{NOBODY}"), 404, "deployment not found"),
        ("/v1/namespace/nope".into(), 404, "Namespace not found"),
        ("/v1/node/abcd".into(), 400, "node lookup failed: index error: UUID must be 36 characters"),
        ("/v1/allocation/abc".into(), 400, "alloc lookup failed: index error: UUID must be 36 characters"),
        (
            "/v1/nodes?prefix=zz".into(),
            400,
            "node lookup failed: index error: Invalid UUID: encoding/hex: invalid byte: U+007A 'z'",
        ),
        (
            "/v1/nodes?filter=Status+is".into(),
            400,
            "failed to create result paginator: failed to read filter expression: 1:10 (9): no match found, expected: [ \\t\\r\\n]",
        ),
        ("/v1/nodes?per_page=x".into(), 400, "Expect a number for `per_page` query string parameter"),
        ("/v1/jobs?index=abc".into(), 400, "Invalid index"),
        ("/v1/jobs?index=1&wait=abc".into(), 400, "Invalid wait time"),
        ("/v1/jobs?region=mars".into(), 500, "No path to region"),
        (
            "/v1/evaluations?filter=a==b&job=c".into(),
            400,
            "Filter expression cannot be used with other filter parameters",
        ),
        (format!("/v1/client/fs/logs/{NOBODY}?task=t&type=stdout"), 404, &format!("Unknown allocation \"{NOBODY}\"")),
    ] {
        cluster.get(&path).await.says(status, text);
    }
    let bad = cluster.get("/v1/nodes?resources=x").await;
    assert_eq!(bad.status, 400);
    assert!(
        bad.text()
            .starts_with("Failed to parse node list fields: Failed to parse value of \"resources\" (x) as a bool")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_pages_select_rows() {
    let cluster = Cluster::start().await;
    for id in ["a", "b", "c"] {
        cluster.add_job(job(id, 1));
    }
    let ids = |answer: &support::Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|j| j["ID"].as_str().unwrap().to_owned()).collect()
    };
    let page = cluster.get("/v1/jobs?per_page=2").await;
    assert_eq!((ids(&page), page.header("x-nomad-nexttoken")), (vec!["a".to_owned(), "b".into()], "default.c"));
    let page = cluster.get("/v1/jobs?per_page=2&next_token=default.c").await;
    assert_eq!((ids(&page), page.header("x-nomad-nexttoken")), (vec!["c".to_owned()], ""));
    assert_eq!(ids(&cluster.get("/v1/jobs?reverse=true").await), ["c", "b", "a"]);
    assert_eq!(ids(&cluster.get("/v1/jobs?filter=ID+%3D%3D+%22b%22").await), ["b"]);
    assert_eq!(ids(&cluster.get("/v1/jobs?filter=TaskGroups.0.Count+%3D%3D+1&prefix=a").await), ["a"]);
    assert_eq!(ids(&cluster.get("/v1/jobs?namespace=other").await), Vec::<String>::new());
    assert_eq!(ids(&cluster.get("/v1/jobs?namespace=*").await).len(), 3);
    let bad = cluster.get("/v1/jobs?filter=Nope+%3D%3D+%22x%22").await;
    bad.says(400, "failed to read result page: error finding value in datum: /Nope at part 0: couldn't find key: struct field with name \"Nope\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_filter_finds_out_a_nodes_secret() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    let secret = cluster.truth.state().nodes().next().unwrap().secret_id.clone();
    assert!(!secret.is_empty());
    for (filter, found) in [
        ("Name != \"\"".to_owned(), 1),
        ("SecretID is empty".to_owned(), 1),
        ("SecretID is not empty".to_owned(), 0),
        (format!("SecretID == {secret:?}"), 0),
        (format!("SecretID matches \"^{}\"", &secret[..1]), 0),
        (format!("Name != \"\" and SecretID contains {:?}", &secret[..1]), 0),
    ] {
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let nodes = cluster.get(&format!("/v1/nodes?filter={filter}")).await.json();
        assert_eq!(nodes.as_array().map(Vec::len), Some(found), "{filter}: {nodes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_query_returns_when_its_own_thing_changes_and_not_before() {
    let cluster = Cluster::start().await;
    let index = cluster.add_job(job("web", 1)).get();
    let path = format!("/v1/job/web?index={index}&wait=30s");
    let waiting = cluster.get(&path);
    let work = async {
        support::until(|| cluster.app.watches.waiting() == 1).await;
        // another job: no news for this query
        cluster.add_job(job("other", 1));
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(cluster.app.watches.waiting(), 1);
        (Instant::now(), cluster.add_job(job("web", 2)))
    };
    let (answer, (changed_at, changed)) = tokio::join!(waiting, work);
    // Before its wait is over.
    assert!(changed_at.elapsed() < Duration::from_secs(10));
    assert_eq!((answer.index(), &answer.json()["Version"]), (changed.get(), &1.into()));
    assert_eq!(cluster.app.watches.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_list_wakes_for_any_row_and_for_a_row_that_goes() {
    let cluster = Cluster::start().await;
    let index = cluster.add_job(job("web", 1)).get();
    let (answer, next) = tokio::join!(cluster.get(format!("/v1/jobs?index={index}&wait=5s")), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.add_job(job("other", 1))
    });
    assert_eq!((answer.index(), answer.json().as_array().unwrap().len()), (next.get(), 2));
    let path = format!("/v1/job/web?index={}&wait=5s", next.get());
    let (answer, _) = tokio::join!(cluster.get(&path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.send("DELETE", "/v1/job/web?purge=true", &Value::Null).await
    });
    answer.says(404, "job not found");
    assert!(answer.index() > next.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_over_answers_as_it_stands_with_the_caller_s_index() {
    let cluster = Cluster::start().await;
    let index = cluster.add_job(job("web", 1)).get();
    let began = Instant::now();
    let answer = cluster.get(&format!("/v1/job/web?index={index}&wait=300ms")).await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!((answer.index(), answer.json()["ID"].as_str()), (index, Some("web")));
    let future = cluster.get("/v1/jobs?index=99999999&wait=100ms").await;
    assert!(future.index() < 99_999_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_s_allocations_wake_by_job_and_not_by_table() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 1));
    cluster.add_job(job("other", 1));
    let (web, _) = cluster.place("web", 1);
    let (other, _) = cluster.place("other", 1);
    let index = cluster.get("/v1/job/web/allocations").await.index();
    let quiet = cluster.get(format!("/v1/job/web/allocations?index={index}&wait=200ms"));
    let (quiet, _) = tokio::join!(quiet, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.run_alloc(&other[0])
    });
    assert_eq!(quiet.index(), index);
    let loud = cluster.get(format!("/v1/job/web/allocations?index={index}&wait=5s"));
    let (loud, changed) = tokio::join!(loud, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cluster.run_alloc(&web[0])
    });
    assert!(loud.index() >= changed.get());
    assert_eq!(loud.json()[0]["ClientStatus"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_whose_leader_does_not_answer_has_no_leader() {
    let cluster = Cluster::start().await;
    cluster.truth.fall_silent();
    cluster.get("/v1/jobs").await.says(500, "No cluster leader");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_default_reads_fail_after_a_while_and_stale_ones_answer() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 1));
    assert_eq!(cluster.get("/v1/jobs").await.json().as_array().unwrap().len(), 1);
    cluster.truth.set_leader(false);
    let stale = cluster.get("/v1/jobs?stale").await;
    assert_eq!((stale.json().as_array().unwrap().len(), stale.header("x-nomad-knownleader")), (1, "true"));
    cluster.get("/v1/status/leader").await.says(500, "No cluster leader");
    let began = Instant::now();
    let refused = cluster.get("/v1/jobs").await;
    refused.says(500, "No cluster leader");
    assert_eq!(refused.header("retry-after"), "1");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(700), "an election takes that long: {took:?}");
    // It says so within a second where there is time for it, and before it would believe a silence.
    assert!(took < Duration::from_secs(2), "{took:?}");
    // A leader that comes in time is waited for.
    let (answer, ()) = tokio::join!(cluster.get("/v1/jobs"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.truth.set_leader(true);
    });
    assert_eq!(answer.json().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_after_a_write_sees_it() {
    let cluster = Cluster::start().await;
    for n in 0..50 {
        let index = cluster.add_job(job("web", n));
        assert_eq!(cluster.get("/v1/job/web").await.index(), index.get());
    }
}
