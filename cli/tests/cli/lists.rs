//! What commands print of the API's answers, to the letter.
use crate::fake::{Fake, MINUTE, NOW};
use serde_json::{Value, json};

const WEB: &str = "aaaaaaaa-1111-4111-8111-000000000001";
const WEB_TWIN: &str = "aaaaaaaa-2222-4111-8111-000000000002";
const NODE: &str = "bbbbbbbb-1111-4111-8111-000000000001";
const EVAL: &str = "cccccccc-1111-4111-8111-000000000001";
const DEPLOYMENT: &str = "dddddddd-1111-4111-8111-000000000001";

fn job_stub(id: &str) -> Value {
    json!({"ID": id, "Name": id, "Namespace": "default", "Type": "service", "Priority": 50, "Status": "running",
        "SubmitTime": NOW - MINUTE})
}

fn alloc_stub(id: &str) -> Value {
    json!({"ID": id, "EvalID": EVAL, "Name": "web.g[0]", "Namespace": "default", "NodeID": NODE, "NodeName": "n1",
        "JobID": "web", "JobVersion": 3, "TaskGroup": "g", "DesiredStatus": "run", "ClientStatus": "running",
        "CreateIndex": 7, "CreateTime": NOW - 2 * MINUTE, "ModifyTime": NOW - MINUTE})
}

fn deployment() -> Value {
    json!({"ID": DEPLOYMENT, "JobID": "web", "JobVersion": 3, "Namespace": "default", "Status": "successful",
        "StatusDescription": "Deployment completed successfully", "TaskGroups": {"g": {"DesiredTotal": 1,
        "PlacedAllocs": 1, "HealthyAllocs": 1, "RequireProgressBy": "2023-11-14T22:23:20Z"}}})
}

fn eval() -> Value {
    json!({"ID": EVAL, "Priority": 50, "Type": "service", "TriggeredBy": "job-register", "JobID": "web",
        "Namespace": "default", "Status": "complete", "CreateTime": NOW - MINUTE, "ModifyTime": NOW - MINUTE})
}

fn with_web() -> Fake {
    Fake::start()
        .get("/v1/jobs", json!([job_stub("web"), job_stub("web-2")]))
        .get(
            "/v1/job/web",
            json!({"ID": "web", "Name": "web", "Type": "service", "Priority": 50, "Datacenters": ["dc1", "dc2"],
                "Namespace": "default", "NodePool": "default", "Status": "running", "SubmitTime": NOW - MINUTE}),
        )
        .get("/v1/job/web/summary", json!({"JobID": "web", "Summary": {"g": {"Running": 1}}}))
        .get("/v1/job/web/evaluations", json!([eval()]))
        .get("/v1/job/web/deployment", deployment())
        .get("/v1/job/web/allocations", json!([alloc_stub(WEB)]))
}

#[test]
fn a_job_is_shown_with_its_groups_deployment_and_allocations() {
    let done = with_web().run(&["job", "status", "web"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out,
        "ID            = web
Name          = web
Submit Date   = 2023-11-14T22:12:20Z
Type          = service
Priority      = 50
Datacenters   = dc1,dc2
Namespace     = default
Node Pool     = default
Status        = running
Periodic      = false
Parameterized = false

Summary
Task Group  Queued  Starting  Running  Failed  Complete  Lost  Unknown
g           0       0         1        0       0         0     0

Latest Deployment
ID          = dddddddd
Status      = successful
Description = Deployment completed successfully

Deployed
Task Group  Desired  Placed  Healthy  Unhealthy  Progress Deadline
g           1        1       1        0          2023-11-14T22:23:20Z

Allocations
ID        Node ID   Task Group  Version  Desired  Status   Created  Modified
aaaaaaaa  bbbbbbbb  g           3        run      running  2m ago   1m ago
"
    );
}

#[test]
fn lists_have_the_reference_s_headings() {
    let fake = with_web()
        .get("/v1/nodes", json!([{"ID": NODE, "Datacenter": "dc1", "Name": "n1", "NodePool": "default",
            "SchedulingEligibility": "eligible", "Status": "ready"}]))
        .get("/v1/allocations", json!([alloc_stub(WEB)]))
        .get("/v1/evaluations", json!([eval()]))
        .get("/v1/deployments", json!([deployment()]))
        .get("/v1/status/leader", json!("\"127.0.0.1:4647\""))
        .get("/v1/agent/members", json!({"Members": [{"Name": "s1.global", "Addr": "127.0.0.1", "Port": 4648,
            "Status": "alive", "ProtocolCur": 2, "Tags": {"port": "4647", "raft_vsn": "3", "build": "1.0", "dc": "dc1", "region": "global"}}]}))
        .get("/v1/operator/raft/configuration", json!({"Servers": [{"ID": "1", "Node": "s1.global",
            "Address": "127.0.0.1:4647", "Leader": true, "Voter": true, "RaftProtocol": "3"}]}));
    for (words, expected) in [
        (
            &["job", "status"][..],
            "ID     Type     Priority  Status   Submit Date
web    service  50        running  2023-11-14T22:12:20Z
web-2  service  50        running  2023-11-14T22:12:20Z
",
        ),
        (
            &["node", "status"],
            "ID        Node Pool  DC   Name  Class   Drain  Eligibility  Status
bbbbbbbb  default    dc1  n1    <none>  false  eligible     ready
",
        ),
        (
            &["alloc", "status"],
            "ID        Node ID   Task Group  Version  Desired  Status   Created  Modified
aaaaaaaa  bbbbbbbb  g           3        run      running  2m ago   1m ago
",
        ),
        (
            &["eval", "list"],
            "ID        Priority  Triggered By  Job ID  Namespace  Node ID  Status    Placement Failures
cccccccc  50        job-register  web     default    <none>   complete  false
",
        ),
        (
            &["deployment", "list"],
            "ID        Job ID  Job Version  Status      Description
dddddddd  web     3            successful  Deployment completed successfully
",
        ),
        (
            &["server", "members"],
            "Name       Address    Port  Status  Leader  Raft Version  Build  Datacenter  Region
s1.global  127.0.0.1  4648  alive   true    3             1.0    dc1         global
",
        ),
        (
            &["operator", "raft", "list-peers"],
            "Node       ID  Address         State   Voter  RaftProtocol
s1.global  1   127.0.0.1:4647  leader  true   3
",
        ),
        (
            &["node", "status", "-verbose", "-allocs"],
            "ID                                    Node Pool  DC   Name  Class   Address  Version  Drain  Eligibility  Status  Running Allocs
bbbbbbbb-1111-4111-8111-000000000001  default    dc1  n1    <none>  <none>   <none>   false  eligible     ready   1
",
        ),
    ] {
        let done = fake.run(words);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{words:?}");
        assert_eq!(done.out, expected, "{words:?}");
    }
}

#[test]
fn an_allocation_is_shown_with_its_ports_tasks_and_their_events() {
    let alloc = json!({"ID": WEB, "EvalID": EVAL, "Name": "web.g[0]", "Namespace": "default", "NodeID": NODE,
        "NodeName": "n1", "JobID": "web", "Job": {"ID": "web", "Version": 3}, "TaskGroup": "g", "DesiredStatus": "run",
        "ClientStatus": "running", "ClientDescription": "Tasks are running", "CreateTime": NOW - 2 * MINUTE,
        "ModifyTime": NOW - MINUTE, "AllocatedResources": {"Tasks": {"t": {"Cpu": {"CpuShares": 20},
        "Memory": {"MemoryMB": 64}}}, "Shared": {"DiskMB": 300, "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
        "Ports": [{"Label": "http", "Value": 23000, "To": 80, "HostIP": "10.0.0.1"}]}},
        "TaskStates": {"t": {"State": "running", "StartedAt": "2023-11-14T22:11:20Z", "Events": [
            {"Type": "Received", "Time": NOW - 2 * MINUTE, "DisplayMessage": "Task received by client"},
            {"Type": "Started", "Time": NOW - MINUTE, "DisplayMessage": "Task started by client"}]}}});
    let fake =
        Fake::start().get("/v1/allocations", json!([alloc_stub(WEB)])).get(&format!("/v1/allocation/{WEB}"), alloc);
    let done = fake.run(&["alloc", "status", "aaaaaaaa"]);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out,
        "ID                  = aaaaaaaa-1111-4111-8111-000000000001
Eval ID             = cccccccc
Name                = web.g[0]
Node ID             = bbbbbbbb
Node Name           = n1
Job ID              = web
Job Version         = 3
Client Status       = running
Client Description  = Tasks are running
Desired Status      = run
Desired Description = <none>
Created             = 2m ago
Modified            = 1m ago

Allocation Addresses:
Label  Dynamic  Address
*http  yes      10.0.0.1:23000 -> 80

Task \"t\" is \"running\"
Task Resources:
CPU     Memory  Disk
20 MHz  64 MiB  300 MiB

Task Events:
Started At     = 2023-11-14T22:11:20Z
Finished At    = N/A
Total Restarts = 0
Last Restart   = N/A

Recent Events:
Time                  Type      Description
2023-11-14T22:12:20Z  Started   Task started by client
2023-11-14T22:11:20Z  Received  Task received by client
"
    );
}

#[test]
fn an_id_that_several_rows_begin_with_lists_them() {
    let fake = Fake::start().get("/v1/allocations", json!([alloc_stub(WEB), alloc_stub(WEB_TWIN)]));
    let done = fake.run(&["alloc", "status", "aaaaaaa"]);
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    assert!(done.err.starts_with("Prefix matched multiple allocations\n\nID"), "{}", done.err);
    assert_eq!(done.err.lines().count(), 5);
    // The API takes an even number of digits.
    assert!(fake.asked_for("GET", "/v1/allocations").query.contains("prefix=aaaaaa"));
    let done = fake.run(&["alloc", "status", "aaaaaaaa-3"]);
    assert_eq!(done.err, "No allocation(s) with prefix or id \"aaaaaaaa-3\" found\n");
    assert_eq!(fake.run(&["alloc", "status", "a"]).err, "Allocation ID must contain at least two characters.\n");
    assert_eq!(fake.run(&["alloc", "status", "xyz"]).code, 1);
}

#[test]
fn a_job_s_exact_id_wins_over_longer_ones_and_a_typo_is_answered_with_the_nearest() {
    let fake = with_web();
    assert!(fake.run(&["job", "status", "-short", "web"]).out.starts_with("ID            = web\n"));
    let fake = Fake::start().get("/v1/jobs", json!([job_stub("web-1"), job_stub("web-2")]));
    assert!(fake.run(&["job", "status", "web"]).err.starts_with("Prefix matched multiple jobs\n\n"));
    let fake = Fake::start().reply("GET", "/v1/jobs", 200, 1, json!([])).get("/v1/jobs", json!([job_stub("website")]));
    let done = fake.run(&["job", "status", "webiste"]);
    assert_eq!(done.err, "No job(s) with prefix or ID \"webiste\" found\nhint: did you mean \"website\"?\n");
}

#[test]
fn machine_output_is_the_api_s_answer_as_json_or_by_a_template() {
    let fake = with_web();
    let done = fake.run(&["job", "status", "-json", "web"]);
    let value: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((done.code, value["ID"].as_str()), (0, Some("web")));
    assert!(done.out.contains("\n    \"ID\": \"web\""), "indented by four");
    let done = fake.run(&["job", "status", "-t", "{{range .}}{{.ID}} {{end}}"]);
    assert_eq!(done.out, "web web-2 \n");
    let done = fake.run(&["job", "status", "-t", "{{.ID", "web"]);
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    assert!(done.err.contains("unclosed action"));
    let done = fake.run(&["job", "status", "-json", "-t", "x", "web"]);
    assert_eq!(done.err, "Error formatting: both json and template formatting are not allowed\n");
}

#[test]
fn status_finds_out_what_an_identifier_names() {
    let fake = with_web()
        .get("/v1/allocations", json!([]))
        .get("/v1/nodes", json!([]))
        .get("/v1/evaluations", json!([eval()]))
        .get("/v1/deployments", json!([]))
        .get(&format!("/v1/evaluation/{EVAL}"), eval())
        .get(&format!("/v1/evaluation/{EVAL}/allocations"), json!([]));
    assert!(fake.run(&["status", "web"]).out.contains("Latest Deployment"));
    let jobless = Fake::start()
        .get("/v1/jobs", json!([]))
        .get("/v1/allocations", json!([]))
        .get("/v1/nodes", json!([]))
        .get("/v1/evaluations", json!([eval()]))
        .get("/v1/deployments", json!([]))
        .get(&format!("/v1/evaluation/{EVAL}"), eval())
        .get(&format!("/v1/evaluation/{EVAL}/allocations"), json!([]));
    assert!(jobless.run(&["status", "cccc"]).out.contains("TriggeredBy        = job-register"));
    let done = jobless.run(&["status", "nothing"]);
    assert_eq!((done.code, done.err.lines().next()), (1, Some("Unable to resolve ID: \"nothing\"")));
}

#[test]
fn logs_keep_stdout_and_stderr_apart() {
    let path = format!("/v1/client/fs/logs/{WEB}");
    let fake = Fake::start()
        .get("/v1/allocations", json!([alloc_stub(WEB)]))
        .get(&format!("/v1/allocation/{WEB}"), json!({"ID": WEB, "Namespace": "default", "ClientStatus": "running", "TaskStates": {"t": {"State": "running"}}}))
        .get(&path, json!("one\ntwo\nthree\n"));
    let done = fake.run(&["alloc", "logs", "aaaaaaaa"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "one\ntwo\nthree\n", "one\ntwo\nthree\n"));
    let done = fake.run(&["alloc", "logs", "-stdout", "-tail", "-n", "2", "aaaaaaaa", "t"]);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("two\nthree\n", ""));
    let query = fake.asked_for("GET", &path).query;
    for part in ["task=t", "type=stdout", "plain=true", "follow=false", "origin=end"] {
        assert!(query.contains(part), "{query}");
    }
    let done = fake.run(&["logs", "aaaaaaaa", "tt"]);
    assert_eq!(done.err, "Could not find task named: tt\nhint: did you mean \"t\"?\n");
}
