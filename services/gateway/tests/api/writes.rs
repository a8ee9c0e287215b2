//! Writes of the public API.

use axum::body::Bytes;
use serde_json::{Value, json};

use crate::support::{Cluster, NOBODY, job, posted};

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_job_is_there_with_its_evaluation() {
    let cluster = Cluster::start().await;
    let answer = cluster.send("PUT", "/v1/jobs", &json!({"Job": posted("web", 2)})).await;
    let body = answer.json();
    let fields =
        ["EvalCreateIndex", "EvalID", "Index", "JobModifyIndex", "KnownLeader", "LastContact", "NextToken", "Warnings"];
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), fields);
    let index = answer.index();
    assert_eq!(
        (&body["Index"], &body["JobModifyIndex"], &body["EvalCreateIndex"]),
        (&index.into(), &index.into(), &index.into())
    );
    let eval = cluster.get(&format!("/v1/evaluation/{}", body["EvalID"].as_str().unwrap())).await.json();
    for (field, value) in
        [("Status", "pending"), ("TriggeredBy", "job-register"), ("Type", "service"), ("JobID", "web")]
    {
        assert_eq!(eval[field], value);
    }
    assert_eq!(eval["Priority"], 50);
    // The same again: no new version, another evaluation.
    let again = cluster.send("POST", "/v1/jobs", &json!({"Job": posted("web", 2)})).await.json();
    assert_eq!(again["JobModifyIndex"], index);
    assert_ne!(again["EvalID"], body["EvalID"]);
    assert_eq!(cluster.get("/v1/job/web/versions").await.json()["Versions"].as_array().unwrap().len(), 1);
    let by_path =
        cluster.send("POST", "/v1/job/web", &json!({"Job": posted("web", 3), "EvalPriority": 77})).await.json();
    assert_eq!(cluster.get("/v1/job/web").await.json()["Version"], 1);
    let eval = cluster.get(&format!("/v1/evaluation/{}", by_path["EvalID"].as_str().unwrap())).await.json();
    assert_eq!(eval["Priority"], 77);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_named_acts_once() {
    let cluster = Cluster::start().await;
    let now = client::clock::unix_nanos() / 1_000_000;
    let name = format!("{now}-00000000000000aa");
    let body = Bytes::from(serde_json::to_vec(&json!({"Job": posted("web", 2)})).unwrap());
    let headers = [("X-Steppe-Request-Id", name.as_str())];
    let first = cluster.ask("PUT", "/v1/jobs", &headers, body.clone()).await.json();
    let second = cluster.ask("PUT", "/v1/jobs", &headers, body).await.json();
    assert_eq!((&first["EvalID"], &first["JobModifyIndex"]), (&second["EvalID"], &second["JobModifyIndex"]));
    assert_eq!(cluster.get("/v1/job/web/evaluations").await.json().as_array().unwrap().len(), 1);
    let other = Bytes::from(serde_json::to_vec(&json!({"Job": posted("web", 9)})).unwrap());
    let other = cluster.ask("PUT", "/v1/jobs", &headers, other).await;
    assert_eq!(other.status, 409);
    let bad = cluster.ask("PUT", "/v1/jobs", &[("X-Steppe-Request-Id", "x")], Bytes::from("{}")).await;
    assert_eq!(bad.status, 400);
}

/// covers: val-036
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_registered_is_refused_and_changes_nothing() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 1));
    let before = cluster.truth.state().hash_text();
    let bad = json!({"ID": "bad", "Name": "bad", "Datacenters": ["*"], "TaskGroups": [{"Name": "g", "Count": -1, "Tasks": []}]});
    let problems = "1 error occurred:\n\t* Task group g validation failed: 2 errors occurred:\n\t* Task group count can't be negative\n\t* Missing tasks for task group\n\n\n\n";
    let mut template = posted("t", 1);
    template["TaskGroups"][0]["Tasks"][0]["Templates"] = json!([{"EmbeddedTmpl": "x", "DestPath": "local/x"}]);
    for (body, status, text) in [
        (json!({"Job": bad}), 400, problems),
        (json!({}), 400, "Job must be specified"),
        (json!({"Job": {"Name": "x"}}), 400, "Job ID hasn't been provided"),
        (json!({"Job": posted("web", 1), "Region": "mars"}), 500, "No path to region"),
        (
            json!({"Job": posted("web", 1), "Namespace": "nope"}),
            400,
            "job \"web\" is in nonexistent namespace \"nope\"",
        ),
        (
            json!({"Job": posted("web", 1), "EvalPriority": 101}),
            400,
            "Eval priority must be between 1 and 100 inclusively",
        ),
        (
            json!({"Job": posted("web", 1), "EnforceIndex": true, "JobModifyIndex": 0}),
            409,
            "Enforcing job modify index 0: job already exists",
        ),
        (
            json!({"Job": posted("fresh", 1), "EnforceIndex": true, "JobModifyIndex": 99}),
            409,
            "Enforcing job modify index 99: job does not exist",
        ),
        (
            json!({"Job": template}),
            400,
            "job cannot run as it asks to, not built yet: template in task \"t\" of group \"g\"",
        ),
    ] {
        cluster.send("PUT", "/v1/jobs", &body).await.says(status, text);
    }
    cluster
        .send("PUT", "/v1/job/other", &json!({"Job": posted("web", 1)}))
        .await
        .says(400, "Job ID does not match name");
    for (body, text) in [
        ("{\"Job\": {", "unexpected EOF"),
        ("", "Request body is empty"),
        ("x", "invalid character 'x' looking for beginning of value"),
    ] {
        cluster.ask("PUT", "/v1/jobs", &[], Bytes::from(body)).await.says(400, text);
    }
    let deep = format!("{{\"Job\": {{\"Meta\": {}{}}}}}", "[".repeat(500), "]".repeat(500));
    let deep = cluster.ask("PUT", "/v1/jobs", &[], Bytes::from(deep)).await;
    assert_eq!(deep.status, 400);
    assert!(deep.text().starts_with("exceeded max depth"));
    let wrong = cluster.send("PUT", "/v1/jobs", &json!({"Job": {"ID": "a", "Priority": "high"}})).await;
    wrong.says(400, "json: cannot unmarshal string into Go struct field Job.Job.Priority of type int");
    let huge = Bytes::from(vec![b' '; gateway::body::BODY_BYTES_MAX + 1]);
    assert_eq!(cluster.ask("PUT", "/v1/jobs", &[], huge).await.status, 413);
    assert_eq!(cluster.truth.state().hash_text(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_match_in_any_case_and_unknown_ones_are_told() {
    let cluster = Cluster::start().await;
    let body = json!({"job": {"id": "web", "name": "web", "taskgroups": [{"name": "g", "tasks": [
        {"name": "t", "driver": "raw_exec", "config": {"command": "/bin/true"}, "Lifecyle": {}}]}]}});
    let answer = cluster.send("PUT", "/v1/jobs", &body).await.json();
    let warnings = answer["Warnings"].as_str().unwrap();
    assert!(warnings.contains("Lifecyle") && warnings.contains("did you mean \"Lifecycle\"?"), "{warnings}");
    let strict = cluster.send("PUT", "/v1/jobs?strict", &body).await;
    assert_eq!(strict.status, 400);
    assert!(strict.text().contains("did you mean \"Lifecycle\"?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_of_the_query_goes_before_that_of_the_body_and_the_job() {
    let cluster = Cluster::start().await;
    for name in ["query", "body", "own"] {
        let row = model::namespace::Namespace { name: name.into(), ..Default::default() };
        let command = fsm::Command::NamespaceUpsert { namespaces: vec![row] };
        cluster.truth.apply(model::Role::Gateway, command);
    }
    let mut job = posted("web", 1);
    job["Namespace"] = "own".into();
    cluster.send("PUT", "/v1/jobs", &json!({"Job": job})).await.json();
    cluster.send("PUT", "/v1/jobs", &json!({"Job": job, "Namespace": "body"})).await.json();
    cluster.send("PUT", "/v1/jobs?namespace=query", &json!({"Job": job, "Namespace": "body"})).await.json();
    for name in ["query", "body", "own"] {
        assert_eq!(cluster.get(&format!("/v1/job/web?namespace={name}")).await.json()["Namespace"], name);
    }
    cluster.get("/v1/job/web").await.says(404, "job not found");
    assert_eq!(cluster.get("/v1/namespaces").await.json().as_array().unwrap().len(), 4);
    assert_eq!(cluster.get("/v1/namespace/default").await.json()["Name"], "default");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_resources_are_kept_when_asked() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 7));
    let mut new = posted("web", 1);
    new["TaskGroups"][0]["Tasks"][0]["Resources"]["CPU"] = 99.into();
    cluster.send("PUT", "/v1/jobs", &json!({"Job": new, "PreserveCounts": true})).await.json();
    let stored = cluster.get("/v1/job/web").await.json();
    let group = &stored["TaskGroups"][0];
    assert_eq!((&group["Count"], &group["Tasks"][0]["Resources"]["CPU"]), (&7.into(), &99.into()));
    cluster.send("PUT", "/v1/jobs", &json!({"Job": posted("web", 1), "PreserveResources": true})).await.json();
    let stored = cluster.get("/v1/job/web").await.json();
    assert_eq!(stored["TaskGroups"][0]["Tasks"][0]["Resources"]["CPU"], 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_and_plan_tell_and_change_nothing() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 1));
    let before = cluster.truth.state().hash_text();
    let good = cluster.send("PUT", "/v1/validate/job", &json!({"Job": posted("web", 1)})).await.json();
    assert_eq!(good, json!({"DriverConfigValidated": true, "Error": "", "ValidationErrors": null, "Warnings": ""}));
    let bad = json!({"Job": {"ID": "x y", "Name": "x", "Type": "odd", "Datacenters": [], "TaskGroups": []}});
    let bad = cluster.send("PUT", "/v1/validate/job", &bad).await.json();
    assert_eq!(
        bad["ValidationErrors"],
        json!(["Job ID contains a space", "Invalid job type: \"odd\"", "Missing job task groups"])
    );
    assert!(bad["Error"].as_str().unwrap().starts_with("3 errors occurred:\n\t* Job ID contains a space"));

    let plan = cluster.send("PUT", "/v1/job/web/plan", &json!({"Job": posted("web", 3), "Diff": true})).await;
    let body = plan.json();
    let fields = [
        "Annotations",
        "CreatedEvals",
        "Diff",
        "FailedTGAllocs",
        "Index",
        "JobModifyIndex",
        "NextPeriodicLaunch",
        "Warnings",
    ];
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), fields);
    assert_eq!((&body["NextPeriodicLaunch"], &body["CreatedEvals"]), (&Value::Null, &Value::Null));
    assert_eq!(body["Diff"]["Type"], "Edited");
    assert_eq!(body["Annotations"]["DesiredTGUpdates"]["g"]["Place"], 3);
    assert_eq!(body["JobModifyIndex"], plan.index());
    cluster
        .send("PUT", "/v1/job/other/plan", &json!({"Job": posted("web", 3)}))
        .await
        .says(400, "Job ID does not match");
    cluster.send("PUT", "/v1/job/web/plan", &json!({})).await.says(400, "Job must be specified");
    cluster.send("PUT", "/v1/job/web/plan", &json!({"Job": {}})).await.says(400, "Job must have a valid ID");
    assert_eq!(cluster.truth.state().hash_text(), before);
}

/// covers: val-070 val-145
#[tokio::test(flavor = "multi_thread")]
async fn what_will_be_ignored_is_told_whoever_asks() {
    let cluster = Cluster::start().await;
    let mut old = posted("old", 1);
    old["TaskGroups"][0]["Tasks"][0]["Resources"] = json!({"MemoryMaxMB": 900, "DiskMB": 7});
    let told = ["memory_max value will be ignored", "resources.disk of task \"t\" of group \"g\" has no effect"];
    let long = "#".repeat(1_000_001);
    let body = json!({"Job": old, "Submission": {"Source": long, "Format": "hcl2"}});
    for path in ["/v1/validate/job", "/v1/job/old/plan", "/v1/jobs"] {
        let answer = cluster.send("PUT", path, &body).await.json();
        let warnings = answer["Warnings"].as_str().unwrap();
        for words in told {
            assert!(warnings.contains(words), "{path}: {words} expected in {warnings}");
        }
        assert_eq!(warnings.contains("exceeds the limit of 1000000 and is not kept"), path == "/v1/jobs");
    }
}

/// One fault, one sentence: whether somebody asks, plans or registers.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_fault_has_the_same_sentence_everywhere() {
    let cluster = Cluster::start().await;
    let mut wrong = posted("web", 1);
    wrong["TaskGroups"][0]["Tasks"][0]["Resources"] = json!({"CPU": 500, "Cores": 2});
    wrong["Priority"] = json!(101);
    let body = json!({ "Job": wrong });
    let asked = cluster.send("PUT", "/v1/validate/job", &body).await.json();
    let text = asked["Error"].as_str().unwrap().to_owned();
    assert!(text.contains("Task can only ask for 'cpu' or 'cores' resource, not both."), "{text}");
    cluster.send("PUT", "/v1/jobs", &body).await.says(400, &text);
    cluster.send("PUT", "/v1/job/web/plan", &body).await.says(400, &text);
    // as data, each with what is around it
    let bytes = Bytes::from(serde_json::to_vec(&body).unwrap());
    let accept = [("Accept", "application/vnd.steppe.diagnostics+json")];
    let told = cluster.ask("PUT", "/v1/validate/job", &accept, bytes).await;
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(
        (&told[0]["severity"], &told[0]["within"], &told[0]["detail"], &told[0]["path"], &told[0]["line"]),
        (&"error".into(), &json!([]), &"job priority must be between [1, 100]".into(), &"priority".into(), &0.into())
    );
    assert_eq!(told[1]["within"], json!(["Task group g validation failed", "Task t validation failed"]));
    assert_eq!(told[1]["path"], "group.g.task.t.resources.cores");
    // what is understood and not carried out: a warning, then the refusal
    let mut template = posted("t", 1);
    template["TaskGroups"][0]["Tasks"][0]["Templates"] = json!([{"EmbeddedTmpl": "x", "DestPath": "local/x"}]);
    let body = json!({ "Job": template });
    let told = cluster.send("PUT", "/v1/validate/job", &body).await.json()["Warnings"].as_str().unwrap().to_owned();
    let refused = cluster.send("PUT", "/v1/jobs", &body).await;
    assert!(refused.status == 400 && told.contains(refused.text().as_ref() as &str), "{told}");
}

/// However much is wrong with a job, an answer is short, and says how much it leaves out.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_findings_are_listed_and_the_rest_counted() {
    let cluster = Cluster::start().await;
    let blocks = 15_000;
    let text = HCL.replace("count = 2", &"constraint {}\n".repeat(blocks));
    let accept = [("Accept", "application/vnd.steppe.diagnostics+json")];
    let parse = json!({"JobHCL": text, "Validate": true});
    let parsed = cluster.send("PUT", "/v1/jobs/parse", &json!({"JobHCL": text})).await.json();
    let validate = json!({"Job": parsed, "Submission": {"Source": text, "Format": "hcl2"}});
    for (path, body) in [("/v1/jobs/parse", &parse), ("/v1/validate/job", &validate)] {
        let told = cluster.ask("PUT", path, &accept, Bytes::from(serde_json::to_vec(body).unwrap())).await;
        let told: Vec<Value> = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told.len(), 101, "{path}");
        assert!(told[..100].iter().all(|one| one["line"].as_u64() > Some(2) && one["severity"] == "error"), "{path}");
        let last = told[100]["detail"].as_str().unwrap();
        let more: usize = last.split(' ').next().unwrap().parse().unwrap();
        assert!(more >= blocks - 100 && last.ends_with(" more findings are not listed"), "{last}");
        assert_eq!(told[100]["severity"], "error");
    }
}

/// Whoever sends the file beside the job is told the place in the file, wherever it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn findings_as_data_say_where_in_the_job_file_they_are() {
    let cluster = Cluster::start().await;
    let text = HCL
        .replace("count = 2", "count = var.n")
        .replace("job \"hcl\"", "variable \"n\" {\n  type = number\n}\njob \"hcl\"");
    let parsed = cluster.send("PUT", "/v1/jobs/parse", &json!({"JobHCL": text, "Variables": "n = -3"})).await.json();
    let submission = json!({"Source": text, "Format": "hcl2", "VariableFlags": {"n": "-3"}});
    let body = json!({"Job": parsed, "Submission": submission});
    let bytes = |body: &Value| Bytes::from(serde_json::to_vec(body).unwrap());
    let accept = [("Accept", "application/vnd.steppe.diagnostics+json")];
    let parse = json!({"JobHCL": text, "Variables": "n = -3", "Validate": true});
    for (path, status, body) in [
        ("/v1/validate/job", 200, &body),
        ("/v1/jobs", 400, &body),
        ("/v1/job/hcl", 400, &body),
        ("/v1/job/hcl/plan", 400, &body),
        ("/v1/jobs/parse", 400, &parse),
    ] {
        let told = cluster.ask("PUT", path, &accept, bytes(body)).await;
        assert_eq!(told.status, status, "{path}");
        let told: Value = serde_json::from_slice(&told.body).unwrap();
        let one = &told[0];
        assert_eq!(
            (&one["detail"], &one["path"], &one["file"], &one["line"], &one["column"], &one["snippet_line"]),
            (
                &"Task group count can't be negative".into(),
                &"group.g.count".into(),
                &"input.hcl".into(),
                &7.into(),
                &5.into(),
                &"    count = var.n".into()
            ),
            "{path}: {told}"
        );
        assert_eq!(one["summary"], "Task group g validation failed");
    }
    // the same sentence when it is read as text
    let text = cluster.send("PUT", "/v1/validate/job", &body).await.json()["Error"].as_str().unwrap().to_owned();
    cluster.send("PUT", "/v1/jobs/parse", &parse).await.says(400, &text);
    cluster.send("PUT", "/v1/jobs", &body).await.says(400, &text);
    // a file that only its author can read costs the places, not the findings
    let own =
        json!({"Job": parsed, "Submission": {"Source": "job \"hcl\" { region = file(\"x\") }", "Format": "hcl2"}});
    let told = cluster.ask("PUT", "/v1/jobs", &accept, bytes(&own)).await;
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((&told[0]["path"], &told[0]["line"]), (&"group.g.count".into(), &0.into()));
    // what is not carried out is a finding, too
    let text = HCL.replace("driver =", "vault {\n      }\n      driver =");
    let parsed = cluster.send("PUT", "/v1/jobs/parse", &json!({ "JobHCL": text })).await.json();
    let body = json!({"Job": parsed, "Submission": {"Source": text, "Format": "hcl2"}});
    let told = cluster.ask("PUT", "/v1/jobs", &accept, bytes(&body)).await;
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((&told[0]["path"], &told[0]["line"]), (&"group.g.task.t.vault".into(), &6.into()), "{told}");
}

const HCL: &str = r#"job "hcl" {
  datacenters = ["*"]
  group "g" {
    count = 2
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
      }
    }
  }
}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_file_is_parsed_or_its_mistakes_are_told_with_their_place() {
    let cluster = Cluster::start().await;
    let parse = |body: Value| cluster.send_owned("PUT", "/v1/jobs/parse", body);
    let bare = parse(json!({"JobHCL": HCL})).await.json();
    assert_eq!((&bare["ID"], &bare["TaskGroups"][0]["Count"], &bare["Type"]), (&"hcl".into(), &2.into(), &Value::Null));
    let full = parse(json!({"JobHCL": HCL, "Canonicalize": true})).await.json();
    assert_eq!((&full["Type"], &full["Priority"], &full["Reschedule"]), (&"service".into(), &50.into(), &Value::Null));
    let text = format!("variable \"n\" {{\n  type = number\n}}\n{}", HCL.replace("count = 2", "count = var.n"));
    let with = parse(json!({"JobHCL": text, "Variables": "n = 3"})).await.json();
    assert_eq!(with["TaskGroups"][0]["Count"], 3);
    parse(json!({"JobHCL": ""})).await.says(400, "Job spec is empty");
    let wrong = json!({"JobHCL": HCL.replace("count = 2", "replicas = 2")});
    parse(wrong.clone()).await.says(400, "Failed to parse job: input.hcl:4,5-13: Unsupported argument; An argument named \"replicas\" is not expected here.");
    let body = Bytes::from(serde_json::to_vec(&wrong).unwrap());
    let accept = [("Accept", "application/vnd.steppe.diagnostics+json")];
    let told = cluster.ask("PUT", "/v1/jobs/parse", &accept, body).await;
    assert_eq!(told.status, 400);
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!((&told[0]["line"], &told[0]["column"]), (&4.into(), &5.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_stopped_purged_and_stopped_again_without_harm() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 1));
    let stop = cluster.send("DELETE", "/v1/job/web", &Value::Null).await;
    let body = stop.json();
    assert_eq!((&body["Index"], &body["VolumeEvalID"]), (&stop.index().into(), &"".into()));
    let eval = cluster.get(&format!("/v1/evaluation/{}", body["EvalID"].as_str().unwrap())).await.json();
    assert_eq!(eval["TriggeredBy"], "job-deregister");
    assert_eq!(cluster.get("/v1/job/web").await.json()["Stop"], true);
    cluster.send("DELETE", "/v1/job/web?purge=true", &Value::Null).await.json();
    cluster.get("/v1/job/web").await.says(404, "job not found");
    let nothing = cluster.send("DELETE", "/v1/job/web", &Value::Null).await;
    assert_eq!((nothing.index(), &nothing.json()["EvalID"]), (0, &"".into()));
    let bad = cluster.send("DELETE", "/v1/job/web?purge=maybe", &Value::Null).await;
    assert_eq!(bad.status, 400);
    let bad = cluster.send("DELETE", "/v1/job/web?eval_priority=1000", &Value::Null).await;
    bad.says(400, "Eval priority must be between 1 and 100 inclusively");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_is_stopped_and_a_job_evaluated() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.add_job(job("web", 1));
    let (ids, _) = cluster.place("web", 1);
    let stop =
        cluster.send("PUT", &format!("/v1/allocation/{}/stop?no_shutdown_delay=true", ids[0]), &Value::Null).await;
    let eval = cluster.get(&format!("/v1/evaluation/{}", stop.json()["EvalID"].as_str().unwrap())).await.json();
    assert_eq!((&eval["TriggeredBy"], &eval["JobID"]), (&"alloc-stop".into(), &"web".into()));
    let wish = &cluster.get(&format!("/v1/allocation/{}", ids[0])).await.json()["DesiredTransition"];
    assert_eq!(
        (&wish["Migrate"], &wish["NoShutdownDelay"], &wish["Reschedule"]),
        (&true.into(), &true.into(), &false.into())
    );
    cluster.send("PUT", &format!("/v1/allocation/{NOBODY}/stop"), &Value::Null).await.says(404, "allocation not found");

    let evaluate = cluster.ask("PUT", "/v1/job/web/evaluate", &[], Bytes::new()).await;
    assert_eq!(evaluate.json()["EvalCreateIndex"], evaluate.index());
    let body = json!({"JobID": "web", "EvalOptions": {"ForceReschedule": true}});
    assert_ne!(cluster.send("PUT", "/v1/job/web/evaluate", &body).await.json()["EvalID"], "");
    cluster.send("PUT", "/v1/job/web/evaluate", &json!({})).await.says(400, "Job ID must be specified");
    cluster.send("PUT", "/v1/job/web/evaluate", &json!({"JobID": "x"})).await.says(400, "JobID not same as job name");
    cluster.ask("PUT", "/v1/job/nope/evaluate", &[], Bytes::new()).await.says(404, "job not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_on_every_write_get_a_4xx_and_change_nothing() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 1));
    cluster.get("/v1/jobs").await.json();
    let before = cluster.truth.state().hash_text();
    let bodies = [
        "[]",
        "5",
        "\"x\"",
        "{",
        "{\"Job\": 5}",
        "{\"Job\": {\"TaskGroups\": {}}}",
        "{\"Job\":{\"ID\":7}}",
        "\u{0}",
        "nul",
    ];
    for path in
        ["/v1/jobs", "/v1/job/web", "/v1/job/web/plan", "/v1/validate/job", "/v1/jobs/parse", "/v1/job/web/evaluate"]
    {
        for body in bodies {
            let answer = cluster.ask("PUT", path, &[], Bytes::from(body)).await;
            let refused = (400..500).contains(&answer.status);
            assert!(refused, "{path} {body:?}: {} {}", answer.status, answer.text());
        }
    }
    assert_eq!(cluster.truth.state().hash_text(), before);
}
