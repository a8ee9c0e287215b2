//! What is done with an allocation from outside, with real processes: files, exec, restart, signal, usage, collecting.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::public::{Heard, PublicError, Query, WebReceiver, WebSender};
use e2e::cluster::{Cluster, WITHIN};
use serde_json::{Value, json};

const JOB: &str = r#"job "web" {
  datacenters = ["*"]
  group "g" {
    restart {
      attempts = 5
      delay    = "100ms"
    }
    task "t" {
      driver = "raw_exec"
      env {
        GREETING = "moin"
      }
      action "greet" {
        command = "/bin/sh"
        args    = ["-c", "echo hello from $NOMAD_TASK_NAME; exit 3"]
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "trap 'echo usr1' USR1; echo data > local/f.txt; echo hidden > secrets/key; echo begun; while true; do sleep 0.05; done"]
      }
      resources {
        cpu    = 50
        memory = 50
      }
    }
  }
}
"#;

struct Place {
    cluster: Cluster,
    id: String,
}

impl Place {
    async fn new() -> Self {
        let cluster = Cluster::start();
        let file = cluster.file("web.nomad.hcl", JOB);
        cluster.ok(&["job", "run", "-detach", &file]);
        let id = cluster.until_allocs("web", "running", 1).await[0]["ID"].as_str().unwrap().to_owned();
        let place = Self { cluster, id };
        place.until_logged("begun", 1).await;
        place
    }

    async fn until_logged(&self, line: &str, times: usize) {
        let deadline = Instant::now() + WITHIN;
        loop {
            let log = self.text(&format!("/v1/client/fs/logs/{}?task=t&type=stdout&plain=true", self.id)).await;
            if log.is_ok_and(|log| log.lines().filter(|l| *l == line).count() >= times) {
                return;
            }
            assert!(Instant::now() < deadline, "{line:?} was not logged {times} times");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Status and text of a refusal, or the text of an answer.
    async fn text(&self, path: &str) -> Result<String, (u16, String)> {
        match self.cluster.api.stream(path, &Query::default()).await {
            Ok(mut stream) => {
                let mut all = Vec::new();
                while let Ok(Some(piece)) = stream.chunk().await {
                    all.extend_from_slice(&piece);
                }
                Ok(String::from_utf8_lossy(&all).into_owned())
            }
            Err(PublicError::Status { status, body }) => Err((status.as_u16(), body)),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    async fn file(&self, action: &str, path: &str) -> Result<String, (u16, String)> {
        self.text(&format!("/v1/client/fs/{action}/{}?path={path}", self.id)).await
    }

    /// The allocation's directory on this machine.
    fn dir(&self) -> PathBuf {
        let agents = ["agent-1", "agent-2"].map(|agent| self.cluster.data().join(agent));
        let find = |agent: &Path| {
            let found =
                std::process::Command::new("find").arg(agent).args(["-maxdepth", "4", "-name", &self.id]).output();
            String::from_utf8(found.unwrap().stdout).unwrap().lines().next().map(PathBuf::from)
        };
        agents.iter().find_map(|agent| find(agent)).expect("the allocation is on one of the nodes")
    }

    /// The name of the process that holds the allocation's tasks.
    fn agent(&self) -> &'static str {
        if self.dir().starts_with(self.cluster.data().join("agent-1")) { "agent-1" } else { "agent-2" }
    }

    async fn exec(&self, words: &[&str], tty: bool) -> (WebSender, WebReceiver) {
        let query =
            Query::default().with("task", "t").with("command", json!(words).to_string()).with("tty", tty.to_string());
        self.cluster.api.websocket(&format!("/v1/client/allocation/{}/exec", self.id), &query).await.unwrap()
    }

    async fn put(&self, what: &str, body: &Value) -> Result<Value, (u16, String)> {
        let path = format!("/v1/client/allocation/{}/{what}", self.id);
        match self.cluster.api.put::<_, Value>(&path, &Query::default(), body).await {
            Ok((value, _)) => Ok(value),
            Err(PublicError::Status { status, body }) => Err((status.as_u16(), body)),
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

async fn heard(receiver: &mut WebReceiver) -> Heard {
    tokio::time::timeout(WITHIN, receiver.next()).await.expect("something is heard in time")
}

/// All frames until the connection's end.
async fn rest(receiver: &mut WebReceiver) -> (Vec<String>, Heard) {
    let mut frames = Vec::new();
    loop {
        match heard(receiver).await {
            Heard::Text(text) => frames.push(text),
            end => return (frames, end),
        }
    }
}

fn closed(code: u16, reason: &str) -> Heard {
    Heard::Closed { code, reason: reason.to_owned() }
}

#[tokio::test]
async fn files_are_listed_and_read_and_hostile_paths_are_refused_fs_01_fs_02_fs_04_fs_06() {
    let place = Place::new().await;
    let entries: Value = serde_json::from_str(&place.file("ls", "t/local").await.unwrap()).unwrap();
    assert_eq!(
        (&entries[0]["Name"], &entries[0]["Size"], &entries[0]["IsDir"]),
        (&"f.txt".into(), &5.into(), &false.into())
    );
    let info: Value = serde_json::from_str(&place.file("stat", "t/local/f.txt").await.unwrap()).unwrap();
    assert_eq!(info["ContentType"], "text/plain; charset=utf-8");
    assert_eq!(place.file("cat", "t/local/f.txt").await.unwrap(), "data\n");
    assert_eq!(place.file("readat", "t/local/f.txt&offset=1&limit=2").await.unwrap(), "at");
    let framed = place.file("stream", "t/local/f.txt&follow=false").await.unwrap();
    assert_eq!(framed, r#"{"Offset":5,"Data":"ZGF0YQo=","File":"t/local/f.txt"}"#);

    // Everything below is the task's own doing: it may put what it likes into its directory.
    let local = place.dir().join("t/local");
    std::os::unix::fs::symlink("/etc/passwd", local.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../../etc/passwd", local.join("relative")).unwrap();
    std::os::unix::fs::symlink("../secrets/key", local.join("sneaky")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root", local.join("magic")).unwrap();
    std::os::unix::fs::symlink("loop", local.join("loop")).unwrap();
    std::process::Command::new("mkfifo").arg(local.join("pipe")).status().unwrap();
    std::process::Command::new("mknod").arg(local.join("zero")).args(["c", "1", "5"]).status().unwrap();
    let escapes = (400, "Path escapes the alloc directory".to_owned());
    for action in ["ls", "stat", "cat", "readat", "stream"] {
        for path in ["../../", "t/../../x", "t/local/absolute", "t/local/relative", "t/local/magic/etc/passwd"] {
            let refused = place.file(action, &format!("{path}&offset=0")).await.unwrap_err();
            assert_eq!(refused, escapes, "{action} {path}");
        }
        let (status, text) = place.file(action, "t/local/loop&offset=0").await.unwrap_err();
        assert!(status == 400 && text.ends_with("too many levels of symbolic links"), "{action}: {status} {text}");
        let long = format!("{}&offset=0", "a/".repeat(5000));
        assert_eq!(place.file(action, &long).await.unwrap_err().0, 400, "{action}");
        assert_eq!(place.file(action, "a%00b&offset=0").await.unwrap_err().0, 400, "{action}");
        assert_eq!(
            place.file(action, "/etc/passwd&offset=0").await.unwrap_err().0,
            if action == "stream" { 400 } else { 404 }
        );
    }
    for action in ["cat", "readat", "stream"] {
        for path in ["t/secrets/key", "t/SECRETS/key", "t/local/../secrets/key", "t/local/sneaky", ".supervisor/lock"] {
            let (status, text) = place.file(action, &format!("{path}&offset=0")).await.unwrap_err();
            assert!(matches!(status, 403 | 400 | 404) && !text.contains("hidden"), "{action} {path}: {status} {text}");
        }
        for path in ["t/local/pipe", "t/local/zero", "t/local"] {
            let (status, text) = place.file(action, &format!("{path}&offset=0")).await.unwrap_err();
            assert_eq!(status, 400, "{action} {path}: {text}");
        }
    }
    // Names of secrets may be seen, what they hold may not.
    let secrets: Value = serde_json::from_str(&place.file("ls", "t/secrets").await.unwrap()).unwrap();
    assert_eq!(secrets[0]["Name"], "key");
    let (status, text) = place.file("stat", "t/nope").await.unwrap_err();
    assert!(
        status == 404 && text.starts_with("stat /") && text.ends_with("t/nope: no such file or directory"),
        "{text}"
    );
    assert_eq!(place.file("cat", "").await.unwrap_err(), (400, "must provide a file name".to_owned()));
    assert_eq!(place.text("/v1/client/fs/ls/").await.unwrap_err(), (400, "must provide a valid alloc id".to_owned()));
    assert_eq!(place.text(&format!("/v1/client/fs/odd/{}", place.id)).await.unwrap_err().0, 404);

    let listed = place.cluster.ok(&["alloc", "fs", &place.id[..8], "t/local"]);
    assert!(listed.contains("f.txt") && listed.starts_with("Mode"), "{listed}");
    assert_eq!(place.cluster.ok(&["alloc", "fs", "-job", "web", "t/local/f.txt"]), "data\n");
}

#[tokio::test]
async fn a_symlink_swapped_while_it_is_read_never_shows_what_is_outside() {
    let place = Place::new().await;
    let local = place.dir().join("t/local");
    let script = "cd \"$0\"; echo inside > in; while true; do ln -sfn in a; ln -sfn /etc/passwd a; done";
    let mut swapping = std::process::Command::new("/bin/sh").args(["-c", script]).arg(&local).spawn().unwrap();
    let (mut inside, mut outside) = (0, 0);
    for _ in 0..300 {
        match place.file("cat", "t/local/a").await {
            Ok(text) => {
                assert_eq!(text, "inside\n");
                inside += 1;
            }
            Err((status, text)) => {
                assert!(matches!(status, 400 | 404) && !text.contains("root:"), "{status} {text}");
                outside += 1;
            }
        }
    }
    swapping.kill().unwrap();
    swapping.wait().unwrap();
    assert!(inside + outside == 300 && outside > 0, "{inside} {outside}");
}

#[tokio::test]
async fn a_command_runs_beside_a_task_and_frames_are_exact_exec_session_03_exec_session_07_exec_session_08() {
    let place = Place::new().await;
    let (_sender, mut receiver) = place.exec(&["/bin/sh", "-c", "echo $GREETING; echo no >&2; exit 7"], false).await;
    let (mut frames, end) = rest(&mut receiver).await;
    assert_eq!(frames.pop().unwrap(), r#"{"exited":true,"result":{"exit_code":7}}"#);
    for frame in [r#"{"stdout":{"data":"bW9pbgo="}}"#, r#"{"stderr":{"data":"bm8K"}}"#, r#"{"stdout":{"close":true}}"#]
    {
        assert!(frames.contains(&frame.to_owned()), "{frame}: {frames:?}");
    }
    assert_eq!(end, closed(1000, ""));

    let (mut sender, mut receiver) = place.exec(&["cat"], false).await;
    assert!(sender.send(r#"{"stdin":{"data":"aGkK"}}"#.to_owned()).await);
    assert!(sender.send("{}".to_owned()).await);
    assert!(sender.send(r#"{"stdin":{"close":true}}"#.to_owned()).await);
    let (frames, _) = rest(&mut receiver).await;
    assert!(frames.contains(&r#"{"stdout":{"data":"aGkK"}}"#.to_owned()), "{frames:?}");
    assert_eq!(frames.last().unwrap(), r#"{"exited":true,"result":{}}"#);

    let (_sender, mut receiver) = place.exec(&["sh", "-c", "kill -9 $$"], false).await;
    let (frames, _) = rest(&mut receiver).await;
    assert_eq!(frames.last().unwrap(), r#"{"exited":true,"result":{"exit_code":137,"signal":9}}"#);

    let api = &place.cluster.api;
    let query = Query::default().with("action", "greet");
    let (_sender, mut receiver) = api.websocket("/v1/job/web/action", &query).await.unwrap();
    let (frames, _) = rest(&mut receiver).await;
    assert_eq!(frames.last().unwrap(), r#"{"exited":true,"result":{"exit_code":3}}"#);
    let actions = place.cluster.get("/v1/job/web/actions").await;
    assert_eq!((&actions[0]["Name"], &actions[0]["TaskName"]), (&"greet".into(), &"t".into()));

    let ran =
        place.cluster.steppe(&["alloc", "exec", "-i=false", &place.id[..8], "sh", "-c", "echo $GREETING; exit 9"]);
    assert_eq!((ran.stdout.as_slice(), ran.status.code()), (&b"moin\n"[..], Some(9)));
    let ran = place.cluster.steppe(&["job", "action", "-job", "web", "greet"]);
    assert_eq!((ran.stdout.as_slice(), ran.status.code()), (&b"hello from t\n"[..], Some(3)));
}

#[tokio::test]
async fn sessions_that_cannot_be_end_with_a_reason_exec_session_04_exec_session_09() {
    let place = Place::new().await;
    let api = &place.cluster.api;
    let path = |id: &str| format!("/v1/client/allocation/{id}/exec");
    let query = |task: &str| Query::default().with("task", task).with("command", r#"["true"]"#);
    let unknown = "11111111-1111-1111-1111-111111111111";
    let (_sender, mut receiver) = api.websocket(&path(unknown), &query("t")).await.unwrap();
    assert_eq!(heard(&mut receiver).await, closed(1008, &format!("Unknown allocation \"{unknown}\"")));
    let (_sender, mut receiver) = api.websocket(&path(&place.id), &query("nope")).await.unwrap();
    assert_eq!(heard(&mut receiver).await, closed(1008, "unknown task name \"nope\""));
    let (_sender, mut receiver) = place.exec(&["no-such-program"], false).await;
    let Heard::Closed { code: 1008, reason } = heard(&mut receiver).await else { panic!("not closed") };
    assert!(reason.contains("no-such-program"), "{reason}");
    let action = Query::default().with("action", "nope");
    let (_sender, mut receiver) = api.websocket("/v1/job/web/action", &action).await.unwrap();
    assert_eq!(heard(&mut receiver).await, closed(1008, "action \"nope\" not found"));
    for (name, value) in [("command", "x"), ("command", "[]"), ("tty", "maybe")] {
        let query = Query::default().with(name, value).with("task", "t").with("command", r#"["true"]"#);
        let refused = api.websocket(&path(&place.id), &query).await.err().unwrap();
        assert_eq!(refused.status().unwrap().as_u16(), 400, "{name}={value}");
    }
    // The handshake of pages that cannot send headers.
    let hello = query("t").with("ws_handshake", "true");
    let (mut sender, mut receiver) = api.websocket(&path(&place.id), &hello).await.unwrap();
    assert!(sender.send(r#"{"version":1,"auth_token":""}"#.to_owned()).await);
    assert_eq!(rest(&mut receiver).await.0.last().unwrap(), r#"{"exited":true,"result":{}}"#);
    let (mut sender, mut receiver) = api.websocket(&path(&place.id), &hello).await.unwrap();
    assert!(sender.send(r#"{"version":2}"#.to_owned()).await);
    assert!(matches!(heard(&mut receiver).await, Heard::Closed { code: 1008, .. }));
    // Nonsense in the middle.
    let (mut sender, mut receiver) = place.exec(&["cat"], false).await;
    assert!(sender.send("nonsense".to_owned()).await);
    assert!(matches!(rest(&mut receiver).await.1, Heard::Closed { code: 1011, .. }));
}

/// The pid that a session's `echo $$` says.
async fn pid_of(receiver: &mut WebReceiver) -> u32 {
    let Heard::Text(frame) = heard(receiver).await else { panic!("no output") };
    let frame: Value = serde_json::from_str(&frame).unwrap();
    let data = frame["stdout"]["data"].as_str().unwrap();
    let decoded = std::process::Command::new("sh").args(["-c", "echo \"$0\" | base64 -d", data]).output().unwrap();
    String::from_utf8(decoded.stdout).unwrap().trim().parse().unwrap()
}

async fn until_gone(pid: u32) {
    let deadline = Instant::now() + WITHIN;
    let is_there = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while is_there() {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn whoever_goes_away_a_session_leaves_nothing_behind() {
    let place = Place::new().await;
    let script = ["sh", "-c", "echo $$; exec sleep 600"];
    let (sender, mut receiver) = place.exec(&script, true).await;
    let pid = pid_of(&mut receiver).await;
    drop((sender, receiver));
    until_gone(pid).await;

    let (_sender, mut receiver) = place.exec(&script, false).await;
    let pid = pid_of(&mut receiver).await;
    place.cluster.ok(&["alloc", "restart", &place.id]);
    assert!(rest(&mut receiver).await.0.last().unwrap().contains("\"exit_code\":137"));
    until_gone(pid).await;
    place.until_logged("begun", 2).await;

    let (_sender, mut receiver) = place.exec(&script, false).await;
    pid_of(&mut receiver).await;
    place.cluster.kill(place.agent());
    assert_eq!(rest(&mut receiver).await.1, closed(1011, "the connection to the node was lost"));
}

#[tokio::test]
async fn tasks_are_signalled_restarted_measured_and_collected_task_run_16_gc_05_gc_06_gc_07() {
    let place = Place::new().await;
    assert_eq!(place.put("signal", &json!({"Task": "t", "Signal": "SIGUSR1"})).await.unwrap(), json!({"Index": 0}));
    place.until_logged("usr1", 1).await;
    place.cluster.ok(&["alloc", "signal", "-s", "usr1", &place.id[..8], "t"]);
    place.until_logged("usr1", 2).await;
    for (what, body, text) in [
        ("signal", json!({"Task": "nope", "Signal": "SIGUSR2"}), "Task not found"),
        ("signal", json!({"Task": "t", "Signal": "SIGNOPE"}), "unknown signal \"SIGNOPE\""),
        ("restart", json!({"TaskName": "nope"}), "Could not find task runner for task: nope"),
    ] {
        assert_eq!(place.put(what, &body).await.unwrap_err(), (400, text.to_owned()));
    }
    assert_eq!(place.put("restart", &json!({"TaskName": "t"})).await.unwrap(), json!({"Index": 0}));
    place.until_logged("begun", 2).await;
    let path = format!("/v1/allocation/{}", place.id);
    let shown = place
        .cluster
        .until(&path, "it runs again", |a| a["ClientStatus"] == "running" && a["TaskStates"]["t"]["Restarts"] == 1);
    let shown = shown.await;
    let events: Vec<&str> =
        shown["TaskStates"]["t"]["Events"].as_array().unwrap().iter().map(|e| e["Type"].as_str().unwrap()).collect();
    assert!(events.contains(&"Signaling") && events.contains(&"Restart Signaled"), "{events:?}");

    let used = place.cluster.get(&format!("/v1/client/allocation/{}/stats", place.id)).await;
    assert!(used["Tasks"]["t"]["ResourceUsage"]["MemoryStats"]["RSS"].as_u64().unwrap() > 0, "{used}");
    assert!(!used["Tasks"]["t"]["Pids"].as_object().unwrap().is_empty());
    let node = shown["NodeID"].as_str().unwrap();
    let host = place.cluster.get(&format!("/v1/client/stats?node_id={node}")).await;
    assert!(host["Memory"]["Total"].as_u64().unwrap() > 0 && !host["CPU"].as_array().unwrap().is_empty(), "{host}");
    assert!(place.cluster.ok(&["alloc", "status", "-stats", &place.id]).contains("Memory Stats"));
    assert!(place.cluster.ok(&["node", "status", "-stats", node]).contains("Host Resource Utilization"));
    assert_eq!(place.cluster.get(&format!("/v1/client/allocation/{}/checks", place.id)).await, Value::Null);
    assert_eq!(place.cluster.get(&format!("/v1/allocation/{}/services", place.id)).await, json!([]));

    let meta = json!({"Meta": {"rack": "r1", "gone": null}});
    let path_of_meta = format!("/v1/client/metadata?node_id={node}");
    let (said, _) = place.cluster.api.post::<_, Value>(&path_of_meta, &Query::default(), &meta).await.unwrap();
    assert_eq!((&said["Meta"]["rack"], &said["Dynamic"]), (&"r1".into(), &json!({"rack": "r1", "gone": null})));
    place.cluster.ok(&["node", "meta", "apply", "-node-id", node, "-unset", "rack", "zone=z1"]);
    place
        .cluster
        .until(&format!("/v1/node/{node}"), "the cluster knows it", |n| {
            n["Meta"]["zone"] == "z1" && n["Meta"]["rack"].is_null()
        })
        .await;
    assert!(place.cluster.ok(&["node", "meta", "read", "-node-id", node]).contains("zone = z1"));
    let refused = place.cluster.api.put::<_, Value>(&path_of_meta, &Query::default(), &meta).await.unwrap_err();
    assert_eq!(refused.status().unwrap().as_u16(), 405);

    assert_eq!(place.put("gc", &json!({})).await.unwrap_err().0, 400, "a running allocation is not collected");
    place.cluster.ok(&["job", "stop", "-detach", "web"]);
    place.cluster.until(&path, "it has ended", |a| a["ClientStatus"] == "complete").await;
    let dir = place.dir();
    place.put("gc", &json!({})).await.unwrap();
    let deadline = Instant::now() + WITHIN;
    while dir.exists() {
        assert!(Instant::now() < deadline, "the directory is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (status, text) = place.file("ls", "/").await.unwrap_err();
    assert_eq!((status, text), (404, format!("state for allocation {} not found on client", place.id)));
    place.cluster.api.get::<Value>(&format!("/v1/client/gc?node_id={node}"), &Query::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_paused_is_ended_and_waits_also_over_its_agents_restart() {
    let place = Place::new().await;
    let cluster = &place.cluster;
    let path = format!("/v1/allocation/{}", place.id);
    let state = |v: &Value| v["TaskStates"]["t"]["State"].as_str().unwrap_or_default().to_owned();
    let status = || cluster.ok(&["alloc", "pause", "-status", &place.id, "t"]);

    cluster.ok(&["alloc", "pause", &place.id, "t"]);
    cluster.until(&path, "the task waits", |v| state(v) == "pending" && v["TaskStates"]["t"]["Paused"] != "").await;
    assert!(status().contains("force_pause"), "{}", status());
    let whole = cluster.get(&path).await;
    assert_eq!(whole["DesiredStatus"], "run");
    assert_eq!(whole["TaskStates"]["t"]["Restarts"], 0, "the restart policy does not count it");

    cluster.kill(place.agent());
    cluster.up();
    let ready = |v: &Value| v.as_array().is_some_and(|nodes| nodes.iter().all(|node| node["Status"] == "ready"));
    cluster.until("/v1/nodes", "the nodes are back", ready).await;
    assert!(status().contains("force_pause"), "{}", status());
    let log = place.text(&format!("/v1/client/fs/logs/{}?task=t&type=stdout&plain=true", place.id)).await.unwrap();
    assert_eq!(log.matches("begun").count(), 1, "it is not started by a restart of the agent");

    cluster.ok(&["alloc", "pause", "-state=run", &place.id, "t"]);
    cluster.until(&path, "the task runs again", |v| state(v) == "running").await;
    place.until_logged("begun", 2).await;
    let refused = cluster.steppe(&["alloc", "pause", "-state=sometimes", &place.id, "t"]);
    assert!(!refused.status.success());
}
