//! What holds for the whole public API: every endpoint answers, in one way or the other.

use axum::body::Bytes;
use axum::http::Method;
use gateway::any_method::handled_as;
use gateway::not_built::{endpoints, is_served};

use crate::support::{Cluster, job};

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_of_the_compatible_interface_is_served_or_says_that_it_is_not_built() {
    let cluster = Cluster::start().await;
    let built = gateway::routes::router().served();
    let (mut served, mut missing) = (0, 0);
    for endpoint in endpoints() {
        if matches!(endpoint.path.as_str(), "/" | "/ui/") {
            continue;
        }
        let path: String = endpoint
            .path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in &endpoint.methods {
            let taken = |asked: &Method| handled_as(&path, asked).unwrap_or_else(|| asked.clone());
            if is_served(&built, &taken(method), &endpoint.path) {
                served += 1;
                continue;
            }
            missing += 1;
            let asked = if *method == Method::POST { vec![Method::POST, Method::PUT] } else { vec![method.clone()] };
            for asked in asked {
                let answer = cluster.ask(asked.as_str(), &path, &[], Bytes::new()).await;
                answer.says(501, &format!("{asked} {path} is not built yet"));
            }
        }
    }
    assert!(served >= 60 && served + missing >= 185, "{served} served, {missing} missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_told_apart() {
    let cluster = Cluster::start().await;
    for path in ["/v1/nonsense", "/nonsense", "/v1", "/v1/jobs/x/y/z"] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (404, ""), "{path}");
    }
    for (method, path) in
        [("PATCH", "/v1/jobs"), ("GET", "/v1/job/web/evaluate"), ("GET", "/v1/system/gc"), ("DELETE", "/v1/nodes")]
    {
        cluster.ask(method, path, &[], Bytes::new()).await.says(405, "Invalid method");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_lead_to_the_document_and_it_is_the_checked_in_one() {
    let cluster = Cluster::start().await;
    for path in ["/", "/ui/", "/ui", "/ui/jobs"] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (307, "/docs"), "{path}");
    }
    let page = cluster.get("/docs").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!page.text().contains("https://"), "the page stands alone");
    cluster.get("/openapi.json").await.json();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_packed_and_pretty_when_asked() {
    let cluster = Cluster::start().await;
    for n in 0..20 {
        cluster.add_job(job(&format!("job-{n}"), 1));
    }
    let packed = cluster.ask("GET", "/v1/jobs", &[("Accept-Encoding", "gzip")], Bytes::new()).await;
    assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
    assert_eq!(packed.body[..2], [0x1f, 0x8b]);
    let plain = cluster.get("/v1/jobs").await;
    assert!(plain.header("content-encoding").is_empty() && packed.body.len() < plain.body.len() / 2);
    let regions = cluster.get("/v1/regions?pretty").await;
    assert_eq!(regions.text(), "[\n    \"global\"\n]\n");
    assert_eq!(cluster.get("/v1/regions").await.text(), "[\"global\"]");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_agent_and_operator_routes_tell_of_the_cluster() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("/v1/status/leader").await.json(), "127.0.0.1:4647");
    assert_eq!(cluster.get("/v1/status/peers").await.json(), serde_json::json!(["127.0.0.1:4647"]));
    let raft = cluster.get("/v1/operator/raft/configuration").await.json();
    let server = serde_json::json!({"ID": "7", "Node": "state-0.global", "Address": "127.0.0.1:4647", "Leader": true, "Voter": true, "RaftProtocol": "3"});
    assert_eq!(raft, serde_json::json!({"Index": 0, "Servers": [server]}));
    let members = cluster.get("/v1/agent/members").await.json();
    assert_eq!(members["Members"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&members["Members"][0]["Name"], &members["Members"][0]["Tags"]["role"]),
        (&"state-0.global".into(), &"nomad".into())
    );
    assert_eq!(cluster.get("/v1/agent/members?all=true").await.json()["Members"].as_array().unwrap().len(), 4);
    cluster.get("/v1/agent/servers").await.says(501, "Invalid method");
    let me = cluster.get("/v1/agent/self").await.json();
    assert_eq!(me.as_object().unwrap().keys().collect::<Vec<_>>(), ["config", "member", "stats"]);
    let ok = serde_json::json!({"ok": true, "message": "ok"});
    assert_eq!(cluster.get("/v1/agent/health").await.json(), serde_json::json!({"server": ok}));
    let none = cluster.get("/v1/agent/health?type=client").await;
    assert_eq!((none.status, none.text().contains("client not enabled")), (500, true));
    cluster.add_node();
    cluster.get("/v1/jobs").await.json();
    assert_eq!(cluster.get("/v1/agent/health").await.json(), serde_json::json!({"client": ok, "server": ok}));
    cluster.truth.set_leader(false);
    let ill = cluster.get("/v1/agent/health?type=server").await;
    assert_eq!((ill.status, ill.header("content-type")), (500, "text/plain; charset=utf-8"));
    assert!(ill.text().contains("no leader"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_given_in_both_forms() {
    let cluster = Cluster::start().await;
    cluster.add_job(job("web", 1));
    cluster.get("/v1/jobs").await.json();
    let json = cluster.get("/v1/metrics").await.json();
    let gauges = json["Gauges"].as_array().unwrap();
    let pending = gauges.iter().find(|g| g["Name"] == "nomad.nomad.job_status.pending").unwrap();
    assert_eq!((&pending["Value"], &pending["Labels"]["host"]), (&1.0.into(), &"gateway-0".into()));
    assert!(json["Points"].is_array() && json["Timestamp"].is_string());
    let text = cluster.get("/v1/metrics?format=prometheus").await;
    assert!(text.text().contains("nomad_nomad_job_status_pending{host=\"gateway-0\"} 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_node_as_they_are() {
    let cluster = Cluster::start().await;
    cluster.add_node();
    let mut with_two = job("web", 1);
    let mut late = with_two.task_groups[0].tasks[0].clone();
    late.name = "late".into();
    with_two.task_groups[0].tasks.push(late);
    cluster.add_job(with_two);
    let (ids, _) = cluster.place("web", 1);
    cluster.get("/v1/jobs").await.json();
    let path = format!("/v1/client/fs/logs/{}", ids[0]);
    let plain = cluster.get(&format!("{path}?task=t&type=stdout&plain=true")).await;
    assert_eq!((plain.status, plain.text().as_str(), plain.header("content-type")), (200, "hello\n", "text/plain"));
    assert_eq!(cluster.get(&format!("{path}?task=t&type=stdout")).await.json()["Data"], "aGVsbG8K");
    let packed = [("Accept-Encoding", "gzip"), ("Origin", "http://elsewhere")];
    let followed =
        cluster.ask("GET", &format!("{path}?task=t&type=stdout&plain=true&follow=true"), &packed, Bytes::new()).await;
    assert_eq!(followed.text(), "line 0\nline 1\nline 2\n");
    assert_eq!(followed.header("access-control-allow-origin"), "*");
    for (query, status, text) in [
        ("type=stdout", 400, "must provide task name"),
        ("task=zz&type=stdout", 400, "unknown task name \"zz\""),
        ("task=t&type=stdin", 400, "must provide log type (stdout/stderr)"),
        ("task=late&type=stdout", 404, "task \"late\" not started yet. No logs available"),
    ] {
        cluster.get(&format!("{path}?{query}")).await.says(status, text);
    }
    assert_eq!(cluster.app.log_streams.available_permits(), gateway::app::LOG_STREAMS_MAX);
}
