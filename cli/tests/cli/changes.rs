//! Commands that change something: what they send, what they watch, how they exit.
use crate::fake::{Fake, NOW};
use serde_json::{Value, json};

const ALLOC: &str = "aaaaaaaa-1111-4111-8111-000000000001";
const NODE: &str = "bbbbbbbb-1111-4111-8111-000000000001";
const EVAL: &str = "cccccccc-1111-4111-8111-000000000001";
const DEPLOYMENT: &str = "dddddddd-1111-4111-8111-000000000001";

const JOB: &str = r#"
variable "count" { default = 1 }
job "web" {
  group "g" {
    count = var.count
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sleep"
        args    = ["1000"]
      }
    }
  }
}
"#;

/// A job file that is gone with the value.
struct File(tempfile::TempDir);

impl File {
    fn of(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web.nomad.hcl"), text).unwrap();
        Self(dir)
    }

    fn path(&self) -> String {
        self.0.path().join("web.nomad.hcl").display().to_string()
    }
}

fn eval(status: &str) -> Value {
    json!({"ID": EVAL, "Type": "service", "TriggeredBy": "job-register", "JobID": "web", "Namespace": "default",
        "Status": status, "CreateIndex": 5, "CreateTime": NOW, "ModifyTime": NOW})
}

fn registered() -> Value {
    json!({"EvalID": EVAL, "JobModifyIndex": 5, "Index": 5, "Warnings": ""})
}

fn deployment(status: &str, healthy: u32) -> Value {
    json!({"ID": DEPLOYMENT, "JobID": "web", "Namespace": "default", "Status": status,
        "StatusDescription": format!("Deployment is {status}"),
        "TaskGroups": {"g": {"DesiredTotal": 1, "PlacedAllocs": 1, "HealthyAllocs": healthy}}})
}

/// A registration whose evaluation is decided at the second look, with a deployment that ends so.
fn with_end(end: &str) -> Fake {
    let mut done = eval("complete");
    done["DeploymentID"] = json!(DEPLOYMENT);
    let path = format!("/v1/deployment/{DEPLOYMENT}");
    Fake::start()
        .reply("PUT", "/v1/jobs", 200, 5, registered())
        .reply("GET", &format!("/v1/evaluation/{EVAL}"), 200, 5, eval("pending"))
        .reply("GET", &format!("/v1/evaluation/{EVAL}"), 200, 6, done)
        .get(
            &format!("/v1/evaluation/{EVAL}/allocations"),
            json!([{"ID": ALLOC, "NodeID": NODE, "TaskGroup": "g", "CreateIndex": 6}]),
        )
        .reply("GET", &path, 200, 7, deployment("running", 0))
        .reply("GET", &path, 502, 7, json!("the gateway is away for a moment"))
        .reply("GET", &path, 200, 8, deployment(end, 1))
}

#[test]
fn a_run_is_watched_to_the_end_of_its_deployment() {
    let file = File::of(JOB);
    let fake = with_end("successful");
    let done = fake.run(&["job", "run", &file.path()]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let at = "2023-11-14T22:13:20Z";
    let expected = format!(
        "==> {at}: Monitoring evaluation \"cccccccc\"
    {at}: Evaluation triggered by job \"web\"
    {at}: Evaluation within deployment: \"dddddddd\"
    {at}: Allocation \"aaaaaaaa\" created: node \"bbbbbbbb\", group \"g\"
    {at}: Evaluation status changed: \"pending\" -> \"complete\"
==> {at}: Evaluation \"cccccccc\" finished with status \"complete\"
==> {at}: Monitoring deployment \"dddddddd\"
    {at}: Deployment is running: group \"g\" 0/1 healthy, 0 unhealthy
  ✓ Deployment \"dddddddd\" successful

    {at}
    ID          = dddddddd
    Job ID      = web
    Job Version = 0
    Status      = successful
    Description = Deployment is successful

    Deployed
    Task Group  Desired  Placed  Healthy  Unhealthy  Progress Deadline
    g           1        1       1        0          N/A
"
    );
    assert_eq!(done.out, expected);
    let looks: Vec<_> = fake.asked().into_iter().filter(|a| a.path.starts_with("/v1/evaluation/")).collect();
    assert!(looks[1].query.contains("index=5"), "the second look waits for something newer: {}", looks[1].query);
}

#[test]
fn a_failed_deployment_is_exit_code_1() {
    let file = File::of(JOB);
    let done = with_end("failed").run(&["run", &file.path()]);
    assert_eq!(done.code, 1);
    assert!(done.out.contains("  ! Deployment \"dddddddd\" failed\n"));
}

#[test]
fn what_cannot_be_placed_is_exit_code_2_with_the_reasons() {
    let file = File::of(JOB);
    let mut unplaced = eval("complete");
    unplaced["FailedTGAllocs"] =
        json!({"g": {"NodesEvaluated": 1, "NodesExhausted": 1, "DimensionExhausted": {"memory": 1}}});
    unplaced["BlockedEval"] = json!("eeeeeeee-1111-4111-8111-000000000001");
    let fake = Fake::start()
        .reply("PUT", "/v1/jobs", 200, 5, registered())
        .get(&format!("/v1/evaluation/{EVAL}"), unplaced)
        .get(&format!("/v1/evaluation/{EVAL}/allocations"), json!([]));
    let done = fake.run(&["run", &file.path()]);
    assert_eq!(done.code, 2);
    assert!(
        done.out.ends_with(
            "but failed to place all allocations:
    Task Group \"g\" (failed to place 1 allocation):
      * Resources exhausted on 1 nodes
      * Dimension \"memory\" exhausted on 1 nodes
    Evaluation \"eeeeeeee\" waiting for additional capacity to place remainder
"
        ),
        "{}",
        done.out
    );
}

#[test]
fn detached_prints_the_evaluation_and_sends_what_was_asked() {
    let file = File::of(JOB);
    let fake = Fake::start().reply("PUT", "/v1/jobs", 200, 5, registered());
    let path = file.path();
    let words = [
        "job",
        "run",
        "-detach",
        "-check-index",
        "7",
        "-eval-priority=70",
        "-preserve-counts",
        "-var",
        "count=3",
        &path,
    ];
    let done = fake.run(&words);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(done.out, format!("Job registration successful\nEvaluation ID: {EVAL}\n"));
    let asked = fake.asked_for("PUT", "/v1/jobs");
    assert_eq!(asked.body["Job"]["TaskGroups"][0]["Count"], 3);
    assert_eq!((&asked.body["EnforceIndex"], &asked.body["JobModifyIndex"]), (&json!(true), &json!(7)));
    assert_eq!((&asked.body["EvalPriority"], &asked.body["PreserveCounts"]), (&json!(70), &json!(true)));
    assert_eq!(asked.body["Submission"]["Source"], JOB);
    assert_eq!(asked.body["Submission"]["VariableFlags"], json!({"count": "3"}));
    // The request has a name, so that a repetition acts once.
    let name = asked.headers["x-steppe-request-id"].to_str().unwrap().to_owned();
    let (when, random) = name.split_once('-').unwrap();
    assert_eq!((when, random.len()), ("1700000000000", 16));
}

#[test]
fn the_namespace_is_the_flag_s_then_the_file_s_then_the_environment_s() {
    let named = File::of(&JOB.replace("job \"web\" {", "job \"web\" {\n  namespace = \"file\""));
    let plain = File::of(JOB);
    let of = |file: &File, words: &[&str]| {
        let fake = Fake::start().reply("PUT", "/v1/jobs", 200, 5, registered());
        let path = file.path();
        let line = [&["job", "run", "-detach"], words, &[path.as_str()]].concat();
        assert_eq!(fake.run_with(&line, &[("NOMAD_NAMESPACE", "env")]).code, 0);
        let asked = fake.asked_for("PUT", "/v1/jobs");
        let namespace = asked.body["Job"]["Namespace"].as_str().unwrap().to_owned();
        assert_eq!(asked.query, format!("namespace={namespace}"));
        namespace
    };
    assert_eq!(of(&named, &["-namespace=flag"]), "flag");
    assert_eq!(of(&named, &[]), "file");
    assert_eq!(of(&plain, &[]), "env");
}

#[test]
fn variables_come_from_the_environment_files_and_flags_in_this_order() {
    let file = File::of(JOB);
    let values = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(values.path(), "count = 4\n").unwrap();
    let (path, values) = (file.path(), values.path().display().to_string());
    let count = |words: &[&str]| {
        let line = [&["job", "run", "-output"], words, &[path.as_str()]].concat();
        let done = crate::fake::run(&line, &[("NOMAD_VAR_count", "2")]);
        assert_eq!(done.code, 0, "{}", done.err);
        serde_json::from_str::<Value>(&done.out).unwrap()["Job"]["TaskGroups"][0]["Count"].clone()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["-var-file", &values]), 4);
    assert_eq!(count(&["-var-file", &values, "-var=count=9"]), 9);
}

#[test]
fn a_broken_job_file_is_told_with_line_column_and_caret() {
    let file = File::of("job \"web\" {\n  grup \"g\" {\n  }\n}\n");
    let path = file.path();
    for (words, code) in [(["job", "run", &path], 1), (["job", "plan", &path], 255), (["job", "validate", &path], 255)]
    {
        let done = crate::fake::run(&words, &[]);
        assert_eq!((done.code, done.out.as_str()), (code, ""));
        assert!(done.err.contains(&format!("--> {path}:2:3")), "{}", done.err);
        assert!(done.err.contains("\n  |   ^^^^"), "{}", done.err);
        assert!(done.err.contains("group"), "{}", done.err);
    }
    let done = crate::fake::run(&["job", "run", &path.replace("web.", "wbe.")], &[]);
    assert!(done.err.contains("hint: did you mean") && done.err.contains("web.nomad.hcl"), "{}", done.err);
}

#[test]
fn a_plan_exits_by_whether_allocations_would_change() {
    let file = File::of(JOB);
    let path = file.path();
    for (place, code) in [(0, 0), (2, 1)] {
        let fake = Fake::start().reply(
            "PUT",
            "/v1/job/web/plan",
            200,
            5,
            json!({"JobModifyIndex": 9, "Diff": null,
            "Annotations": {"DesiredTGUpdates": {"g": {"Place": place, "Ignore": 1}}}}),
        );
        let done = fake.run(&["job", "plan", "-var=count=2", &path]);
        assert_eq!((done.code, done.err.as_str()), (code, ""));
        assert!(done.out.contains("- All tasks successfully allocated.\n\nJob Modify Index: 9\n"), "{}", done.out);
        assert!(done.out.contains(&format!("\nsteppe job run -check-index 9 -var=count=2 {path}\n")));
    }
    let fake = Fake::start().reply("PUT", "/v1/job/web/plan", 500, 5, json!("No cluster leader"));
    let done = fake.run(&["job", "plan", &path]);
    assert_eq!(
        (done.code, done.err.as_str()),
        (255, "Error during plan: Unexpected response code: 500 (No cluster leader)\n")
    );
}

#[test]
fn an_invalid_job_is_told_all_at_once() {
    let file = File::of(JOB);
    let fake = Fake::start().reply(
        "PUT",
        "/v1/validate/job",
        200,
        5,
        json!({"ValidationErrors": ["one", "two"], "Error": "2 errors"}),
    );
    let done = fake.run(&["job", "validate", &file.path()]);
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (1, "", "Job validation errors:\n  * one\n  * two\n")
    );
    let fake = Fake::start().reply(
        "PUT",
        "/v1/validate/job",
        200,
        5,
        json!({"ValidationErrors": null, "Warnings": "careful"}),
    );
    let done = fake.run(&["job", "validate", &file.path()]);
    assert_eq!((done.code, done.out.as_str()), (0, "Job validation successful\n"));
    assert!(done.err.contains("careful"));
}

/// What only the server knows is shown in the file, as what the parser finds is.
#[test]
fn a_fault_found_by_the_server_is_told_with_line_column_and_caret() {
    let file = File::of(JOB);
    let path = file.path();
    let line = JOB.lines().position(|line| line.contains("count =") && line.contains("var")).unwrap() + 1;
    let finding = json!({"severity": "error", "within": ["Task group g validation failed"], "path": "group.g.count",
        "detail": "too many", "hint": "fewer"});
    let warning = json!({"severity": "warning", "within": [], "path": "", "detail": "careful"});
    for (words, route, status, code, head) in [
        ("run", "/v1/jobs", 400, 1, "Error submitting job: 1 error occurred:\n\n"),
        ("plan", "/v1/job/web/plan", 400, 255, "Error during plan: 1 error occurred:\n\n"),
        ("validate", "/v1/validate/job", 200, 1, "Job validation errors:\n\n"),
    ] {
        let mut list = vec![finding.clone()];
        if words == "validate" {
            list.push(warning.clone());
        }
        let fake = Fake::start().reply("PUT", route, status, 5, json!(list));
        let done = fake.run(&["job", words, "-var=count=2", &path]);
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{}", done.err);
        assert!(done.err.contains(head), "{}", done.err);
        assert!(
            done.err.contains(&format!("error: Task group g validation failed\n --> {path}:{line}:")),
            "{}",
            done.err
        );
        assert!(done.err.contains("= too many\n  hint: fewer\n"), "{}", done.err);
        assert_eq!(done.err.contains("Job Warnings:\n\nwarning: careful\n"), words == "validate", "{}", done.err);
    }
}

#[test]
fn a_shortened_id_is_not_stopped_without_a_yes() {
    let stub = json!({"ID": "website", "Namespace": "default", "Type": "service", "Status": "running"});
    let fake = Fake::start().get("/v1/jobs", json!([stub])).reply(
        "DELETE",
        "/v1/job/website",
        200,
        5,
        json!({"EvalID": EVAL, "Index": 5}),
    );
    let done = fake.run(&["job", "stop", "web"]);
    assert_eq!(done.code, 1);
    assert!(!fake.asked().iter().any(|asked| asked.method == "DELETE"));
    let done = fake.run(&["job", "stop", "-yes", "-detach", "-purge", "web"]);
    assert_eq!((done.code, done.out), (0, format!("Evaluation ID: {EVAL}\n")));
    let asked = fake.asked_for("DELETE", "/v1/job/website");
    assert!(asked.query.contains("purge=true") && asked.query.contains("namespace=default"), "{}", asked.query);
}

#[test]
fn settings_come_from_flags_then_our_variables_then_the_compatible_ones() {
    let fake = Fake::start().get("/v1/jobs", json!([]));
    let token = |words: &[&str], env: &[(&str, &str)]| {
        assert_eq!(fake.run_with(words, env).code, 0);
        fake.asked_for("GET", "/v1/jobs").headers["x-nomad-token"].to_str().unwrap().to_owned()
    };
    let both = [("STEPPE_TOKEN", "ours"), ("NOMAD_TOKEN", "theirs")];
    assert_eq!(token(&["job", "status", "-token=flag"], &both), "flag");
    assert_eq!(token(&["job", "status"], &both), "ours");
    assert_eq!(token(&["job", "status"], &both[1..]), "theirs");
    fake.run_with(&["job", "status"], &[("NOMAD_HTTP_AUTH", "u:p")]);
    assert_eq!(fake.asked_for("GET", "/v1/jobs").headers["authorization"], "Basic dTpw");
}

#[test]
fn an_api_that_is_not_there_is_told_with_what_to_do() {
    let done = crate::fake::run(&["job", "status", "-address=http://127.0.0.1:1"], &[]);
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    assert!(done.err.starts_with("Error querying jobs: cannot connect to http://127.0.0.1:1: "), "{}", done.err);
    assert!(done.err.contains("\nhint: is the cluster running?"));
    let done = crate::fake::run(&["job", "status", "-address=ftp://x"], &[]);
    assert!(done.err.starts_with("Error initializing client: address `ftp://x` is not usable"), "{}", done.err);
}

#[test]
fn nothing_is_coloured_where_there_is_no_terminal_unless_forced() {
    let fake = with_end("successful");
    let file = File::of(JOB);
    assert!(!fake.run(&["job", "run", &file.path()]).out.contains('\u{1b}'));
    let fake = with_end("successful");
    assert!(fake.run(&["job", "run", "-force-color", &file.path()]).out.contains('\u{1b}'));
}
