//! A node is drained, from the outside.
#![allow(clippy::unwrap_used)]

use e2e::cluster::Cluster;
use model::Timestamp;
use serde_json::{Value, json};

fn job(id: &str, kind: &str, blocks: &str) -> String {
    format!(
        r#"job "{id}" {{
  type        = "{kind}"
  datacenters = ["*"]
  group "g" {{
    {blocks}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sleep"
        args    = ["1000"]
      }}
      resources {{
        cpu    = 20
        memory = 20
      }}
    }}
  }}
}}
"#
    )
}

const PACED: &str = r#"count = 3
    migrate {
      max_parallel     = 1
      health_check     = "task_states"
      min_healthy_time = "300ms"
      healthy_deadline = "20s"
    }"#;

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

fn moment(row: &Value) -> i64 {
    Timestamp::parse(row.as_str().unwrap()).unwrap().unix_nanos()
}

/// Where in the output a line with both stands.
fn line_of(output: &str, a: &str, b: &str) -> usize {
    let found = output.lines().position(|line| line.contains(a) && line.contains(b));
    found.unwrap_or_else(|| panic!("no line with {a:?} and {b:?}:\n{output}"))
}

/// drain-001, drain-016, and system work last.
#[tokio::test]
async fn a_drained_node_is_left_one_by_one_and_a_new_controller_goes_on() {
    let cluster = Cluster::start();
    let nodes = cluster.get("/v1/nodes").await;
    let (a, b) = (text(&nodes[0], "ID").to_owned(), text(&nodes[1], "ID").to_owned());
    // All of it on one node.
    cluster.ok(&["node", "eligibility", "-disable", &b]);
    for (id, kind, blocks) in [("web", "service", PACED), ("each", "system", "")] {
        let file = cluster.file(&format!("{id}.nomad.hcl"), &job(id, kind, blocks));
        cluster.ok(&["job", "run", "-detach", &file]);
    }
    let healthy = |count: usize| {
        move |allocs: &Value| {
            let fine = |x: &&Value| text(x, "DesiredStatus") == "run" && x["DeploymentStatus"]["Healthy"] == true;
            allocs.as_array().unwrap().iter().filter(fine).count() == count
        }
    };
    let first = cluster.until("/v1/job/web/allocations", "all are healthy", healthy(3)).await;
    cluster.ok(&["node", "eligibility", "-enable", &b]);
    cluster.until_allocs("each", "running", 2).await;

    let output = cluster.ok(&["node", "drain", "-enable", "-yes", "-m", "a new kernel", &a]);
    assert!(output.contains(&format!("Node \"{a}\" drain strategy set\n")), "{output}");
    assert!(output.contains(&format!("Drain complete for node \"{a}\"\n")), "{output}");
    assert!(output.ends_with(&format!("All allocations on node \"{a}\" have stopped\n")), "{output}");

    let node = cluster.get(&format!("/v1/node/{a}")).await;
    assert_eq!((text(&node, "SchedulingEligibility"), &node["DrainStrategy"]), ("ineligible", &Value::Null));
    assert_eq!(
        (text(&node["LastDrain"], "Status"), &node["LastDrain"]["Meta"]["message"]),
        ("complete", &json!("a new kernel"))
    );
    let here = cluster.get(&format!("/v1/node/{a}/allocations")).await;
    assert!(here.as_array().unwrap().iter().all(|x| text(x, "ClientStatus") == "complete"));
    let each = here.as_array().unwrap().iter().find(|x| text(x, "JobID") == "each").unwrap();
    let last = first.as_array().unwrap().iter().map(|x| line_of(&output, text(x, "ID"), "-> complete")).max().unwrap();
    assert!(line_of(&output, text(each, "ID"), "marked for migration") > last, "system work goes last:\n{output}");

    // One at a time: each replacement was made when the one before it was healthy.
    let allocs = cluster.until("/v1/job/web/allocations", "the last is healthy too", healthy(3)).await;
    let mut moved: Vec<&Value> = allocs.as_array().unwrap().iter().filter(|x| text(x, "NodeID") == b).collect();
    moved.sort_by_key(|x| x["CreateTime"].as_i64());
    assert_eq!(moved.len(), 3);
    for pair in moved.windows(2) {
        let healthy_at = moment(&pair[0]["DeploymentStatus"]["Timestamp"]);
        assert!(pair[1]["CreateTime"].as_i64().unwrap() >= healthy_at, "{pair:#?}");
    }

    // Back again, and the controller dies meanwhile.
    cluster.ok(&["node", "eligibility", "-enable", &a]);
    cluster.ok(&["node", "drain", "-enable", "-yes", "-detach", "-ignore-system", "-deadline", "5m", &b]);
    let begun = cluster.get(&format!("/v1/node/{b}")).await["DrainStrategy"]["ForceDeadline"].clone();
    let on_a = |allocs: &Value| {
        let back = |x: &&Value| text(x, "NodeID") == a && text(x, "DesiredStatus") == "run";
        allocs.as_array().unwrap().iter().filter(back).count()
    };
    cluster.until("/v1/job/web/allocations", "the first has moved", |allocs| on_a(allocs) >= 1).await;
    cluster.kill("controller-1");
    let now = cluster.get(&format!("/v1/node/{b}")).await;
    assert_eq!(now["DrainStrategy"]["ForceDeadline"], begun, "the drain is still under way, with its deadline");
    cluster.up();
    let done =
        cluster.until(&format!("/v1/node/{b}"), "the drain is over", |node| node["DrainStrategy"].is_null()).await;
    assert_eq!(text(&done["LastDrain"], "Status"), "complete");
    cluster.until("/v1/job/web/allocations", "all are back", healthy(3)).await;
    let each = cluster.until_allocs("each", "running", 2).await;
    assert!(each.iter().any(|x| text(x, "NodeID") == b), "system work was to stay");
}

#[tokio::test]
async fn a_drain_that_is_forced_or_cancelled_says_so_and_garbage_is_collected_when_asked() {
    let cluster = Cluster::start();
    let nodes = cluster.get("/v1/nodes").await;
    let (a, b) = (text(&nodes[0], "ID").to_owned(), text(&nodes[1], "ID").to_owned());
    cluster.ok(&["node", "eligibility", "-disable", &b]);
    let file = cluster.file("sum.nomad.hcl", &job("sum", "batch", ""));
    cluster.ok(&["job", "run", "-detach", &file]);
    cluster.until_allocs("sum", "running", 1).await;

    cluster.ok(&["node", "drain", "-enable", "-yes", "-detach", "-no-deadline", &a]);
    let refused = cluster.steppe(&["node", "eligibility", "-enable", &a]);
    assert!(!refused.status.success(), "not while it drains");
    assert_eq!(cluster.ok(&["node", "drain", "-disable", "-yes", &a]), format!("Node \"{a}\" drain strategy unset\n"));
    let node = cluster.get(&format!("/v1/node/{a}")).await;
    assert_eq!((text(&node["LastDrain"], "Status"), text(&node, "SchedulingEligibility")), ("canceled", "eligible"));
    cluster.until_allocs("sum", "running", 1).await;

    let output = cluster.ok(&["node", "drain", "-enable", "-yes", "-force", &a]);
    assert!(output.contains("status running -> complete"), "{output}");
    let allocs = cluster.get("/v1/job/sum/allocations").await;
    assert_eq!(allocs.as_array().unwrap().len(), 1, "batch work is not begun anew: {allocs:#}");

    cluster.ok(&["job", "stop", "sum"]);
    cluster.until("/v1/job/sum", "the job is dead", |job| text(job, "Status") == "dead").await;
    cluster.ok(&["system", "gc"]);
    assert_eq!(cluster.get("/v1/jobs").await, json!([]));
    assert_eq!(cluster.get("/v1/evaluations").await, json!([]));
    assert_eq!(cluster.get("/v1/allocations").await, json!([]));
}

/// drain-004, drain-005, drain-009, drain-011 on real processes.
#[tokio::test]
async fn when_every_node_drains_work_stays_until_there_is_a_place_for_it() {
    let cluster = Cluster::start();
    let nodes = cluster.get("/v1/nodes").await;
    let (a, b) = (text(&nodes[0], "ID").to_owned(), text(&nodes[1], "ID").to_owned());
    for (id, kind, blocks) in [("web", "service", PACED), ("each", "system", "")] {
        let file = cluster.file(&format!("{id}.nomad.hcl"), &job(id, kind, blocks));
        cluster.ok(&["job", "run", "-detach", &file]);
    }
    let fine = |x: &&Value| text(x, "DesiredStatus") == "run" && x["DeploymentStatus"]["Healthy"] == true;
    let healthy = |allocs: &Value| allocs.as_array().unwrap().iter().filter(fine).count() == 3;
    cluster.until("/v1/job/web/allocations", "all are healthy", healthy).await;
    cluster.until_allocs("each", "running", 2).await;

    cluster.ok(&["node", "drain", "-enable", "-yes", "-detach", "-deadline", "1h", &a]);
    cluster.ok(&["node", "drain", "-enable", "-yes", "-detach", "-deadline", "1h", "-ignore-system", &b]);
    let blocked = |evals: &Value| evals.as_array().unwrap().iter().any(|eval| text(eval, "Status") == "blocked");
    cluster.until("/v1/job/web/evaluations", "there is no place", blocked).await;
    let allocs = cluster.get("/v1/job/web/allocations").await;
    let runs = |x: &&Value| text(x, "ClientStatus") == "running";
    assert!(allocs.as_array().unwrap().iter().filter(runs).count() >= 2, "count - max_parallel stay: {allocs:#}");

    cluster.ok(&["node", "drain", "-disable", "-keep-ineligible", "-yes", &a]);
    let node = cluster.get(&format!("/v1/node/{a}")).await;
    assert_eq!((text(&node["LastDrain"], "Status"), text(&node, "SchedulingEligibility")), ("canceled", "ineligible"));
    assert!(!cluster.get(&format!("/v1/node/{b}")).await["DrainStrategy"].is_null(), "the other one goes on");

    cluster.ok(&["node", "eligibility", "-enable", &a]);
    let done =
        cluster.until(&format!("/v1/node/{b}"), "the drain is over", |node| node["DrainStrategy"].is_null()).await;
    assert_eq!(text(&done["LastDrain"], "Status"), "complete");
    let allocs = cluster.until("/v1/job/web/allocations", "all are healthy", healthy).await;
    assert!(allocs.as_array().unwrap().iter().filter(fine).all(|x| text(x, "NodeID") == a), "{allocs:#}");
    let on_b = cluster.get(&format!("/v1/node/{b}/allocations")).await;
    let left: Vec<_> = on_b.as_array().unwrap().iter().filter(runs).map(|x| text(x, "JobID")).collect();
    assert_eq!(left, ["each"], "system work was to stay");

    cluster.ok(&["node", "drain", "-enable", "-force", "-yes", &a]);
    let on_a = cluster.get(&format!("/v1/node/{a}/allocations")).await;
    assert!(!on_a.as_array().unwrap().iter().any(|x| runs(&x)), "forced: system work, too: {on_a:#}");
}
