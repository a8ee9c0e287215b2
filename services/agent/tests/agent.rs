//! An agent as the cluster sees it: real mutual TLS, real processes, a cluster that is made up.
#![allow(clippy::unwrap_used)]

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use agent::Config;
use client::http::{Call, Target};
use client::tls::Role;
use model::{AllocId, ClientStatus, DesiredStatus};
use serde_json::json;
use world::{Agent, Cluster, alloc, ask, events, exists, mock, processes, running, shell, until};

async fn node_addr(cluster: &Cluster) -> SocketAddr {
    until("the node registers", || {
        let truth = cluster.truth.lock().unwrap();
        truth.nodes.last().map(|node| node.http_addr.parse().unwrap())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_registers_beats_and_registers_again_when_asked_node_08_node_10() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(Config { node_class: "c1".into(), ..cluster.config(&[gateway]) });
    let addr = node_addr(&cluster).await;
    {
        let truth = cluster.truth.lock().unwrap();
        let node = &truth.nodes[0];
        assert_eq!((node.id.as_str(), node.node_class.as_str()), (cluster.node_id.as_str(), "c1"));
        assert!(node.secret_id.len() >= 32 && node.has_driver("raw_exec") && node.has_driver("mock_driver"));
        assert_eq!(node.computed_class, node.computed_class());
    }
    until("it beats", || (cluster.truth.lock().unwrap().beats >= 3).then_some(())).await;
    cluster.truth.lock().unwrap().forget_node = true;
    until("it registers again", || (cluster.truth.lock().unwrap().nodes.len() >= 2).then_some(())).await;
    let http = cluster.http(Role::Gateway, "asker");
    let ready = async || ask(&http, addr, "/health/ready").await.is_ok();
    while !ready().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ask(&http, addr, "/metrics").await.unwrap().starts_with(b"#"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_and_its_end_is_told_task_run_01() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(1, "batch", shell("echo out; echo err >&2; echo $NOMAD_TASK_NAME $NOMAD_ALLOC_ID")));
    let done = cluster.reaches(&id, ClientStatus::Complete).await;
    assert_eq!(cluster.progress(&id).last(), Some(&ClientStatus::Complete));
    assert_eq!(events(&done), ["Received", "Task Setup", "Started", "Terminated"]);
    let texts: Vec<_> = done.task_states["t"].events.look().iter().map(|e| e.display_message.clone()).collect();
    assert_eq!(texts, ["Task received by client", "Building Task Directory", "Task started by client", "Exit Code: 0"]);
    assert_eq!(done.client_description, "All tasks have completed");
    assert_eq!(cluster.output(&id), format!("out\nt {id}\n"));
    let state = &done.task_states["t"];
    assert!(state.started_at.is_some() && state.finished_at.is_some() && !state.failed);
    until("the supervisor leaves", || processes(id.as_str()).is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_is_restarted_as_its_policy_says_restart_01_task_run_02() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let mut task = shell("echo run; exit 3");
    task["Restart"] = json!({"Attempts": 1, "Mode": "fail", "Interval": 60_000_000_000_i64, "Delay": 1_000_000});
    let id = cluster.put(alloc(2, "batch", task));
    let done = cluster.reaches(&id, ClientStatus::Failed).await;
    assert_eq!(
        events(&done),
        ["Received", "Task Setup", "Started", "Terminated", "Restarting", "Started", "Terminated", "Not Restarting"]
    );
    let state = &done.task_states["t"];
    assert!(state.failed && state.restarts == 1);
    assert_eq!(state.events.look()[6].exit_code, 3);
    assert_eq!(cluster.output(&id), "run\nrun\n");
    assert_eq!(done.client_description, "Failed tasks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_program_in_good_order_task_run_14_restore_02() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let mut task = shell("trap 'echo bye; exit 0' USR1; echo hi; while true; do sleep 0.02; done");
    task["KillSignal"] = json!("SIGUSR1");
    let id = cluster.put(alloc(3, "service", task));
    cluster.reaches(&id, ClientStatus::Running).await;
    until("it runs", || cluster.output(&id).contains("hi").then_some(())).await;
    cluster.stop(&id);
    let done = cluster.reaches(&id, ClientStatus::Complete).await;
    assert_eq!(events(&done), ["Received", "Task Setup", "Started", "Killing", "Terminated", "Killed"]);
    assert_eq!(cluster.output(&id), "hi\nbye\n");
    let told = cluster.progress(&id);
    // Whether it was heard of before it ran depends on how fast it came to run.
    let told = told.strip_prefix(&[ClientStatus::Pending]).unwrap_or(&told);
    assert_eq!(told, [ClientStatus::Running, ClientStatus::Complete]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stubborn_program_is_killed_task_run_13() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let mut task = shell("trap '' INT; echo hi; while true; do sleep 0.02; done");
    task["KillTimeout"] = json!(100_000_000);
    let id = cluster.put(alloc(4, "service", task));
    cluster.reaches(&id, ClientStatus::Running).await;
    until("it runs", || cluster.output(&id).contains("hi").then_some(())).await;
    cluster.stop(&id);
    let done = cluster.reaches(&id, ClientStatus::Complete).await;
    assert_eq!(done.task_states["t"].events.look()[4].exit_code, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_forgotten_allocation_is_left_alloc_sync_10() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(5, "service", shell("exec sleep 7000.5")));
    cluster.reaches(&id, ClientStatus::Running).await;
    let dir = cluster.alloc_dir(&id);
    assert!(exists(&dir) && running("7000.5").await.len() == 1);
    cluster.forget(&id);
    until("all is gone", || (!exists(&dir) && processes("7000.5").is_empty()).then_some(())).await;
    until("the supervisor is gone", || processes(id.as_str()).is_empty().then_some(())).await;
    let http = cluster.http(Role::Gateway, "asker");
    let path = format!("/v1/client/fs/logs/{id}?task=t&type=stdout");
    let refused = ask(&http, node_addr(&cluster).await, &path).await.unwrap_err();
    assert_eq!(refused, (404, format!("state for allocation {id} not found on client")));
}

#[tokio::test(flavor = "multi_thread")]
async fn mock_tasks_run_and_fail_as_told_task_run_04_task_run_05() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let good = cluster.put(alloc(6, "batch", mock(json!({"run_for": "30ms", "stdout_string": "hello"}))));
    let bad = cluster.put(alloc(7, "batch", mock(json!({"start_error": "no luck"}))));
    cluster.reaches(&good, ClientStatus::Complete).await;
    assert_eq!(cluster.output(&good), "hello");
    let failed = cluster.reaches(&bad, ClientStatus::Failed).await;
    assert_eq!(events(&failed), ["Received", "Task Setup", "Driver Failure", "Not Restarting"]);
    assert_eq!(failed.task_states["t"].events.look()[2].display_message, "no luck");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_told_once_alloc_sync_09_task_run_09() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let mut groupless = alloc(8, "batch", mock(json!({})));
    groupless.task_group = "other".into();
    let groupless = cluster.put(groupless);
    let driverless = cluster.put(alloc(9, "batch", json!({"Driver": "qemu", "Config": {}})));
    let unknown = cluster.put(alloc(10, "batch", shell("echo ${nonsense.here}")));
    let failed = cluster.reaches(&groupless, ClientStatus::Failed).await;
    assert!(failed.client_description.contains("other"), "{}", failed.client_description);
    let failed = cluster.reaches(&driverless, ClientStatus::Failed).await;
    assert_eq!(events(&failed), ["Received", "Task Setup", "Driver Failure", "Not Restarting"]);
    let failed = cluster.reaches(&unknown, ClientStatus::Failed).await;
    assert!(events(&failed).contains(&"Failed Validation".to_owned()));
    assert!(failed.task_states["t"].finished_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_of_another_node_is_left_alone() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let mut foreign = alloc(40, "batch", shell("echo ran"));
    foreign.node_id = "another".into();
    let foreign = cluster.put(foreign);
    let own = cluster.put(alloc(41, "batch", shell("echo ran")));
    cluster.reaches(&own, ClientStatus::Complete).await;
    assert!(!exists(&cluster.alloc_dir(&foreign)) && cluster.progress(&foreign).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_that_is_to_stop_is_never_started_task_run_10() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let mut stopped = alloc(11, "service", shell("echo ran"));
    stopped.desired_status = DesiredStatus::Stop;
    let id = cluster.put(stopped);
    let _agent = Agent::start(cluster.config(&[gateway]));
    let done = cluster.reaches(&id, ClientStatus::Complete).await;
    assert!(!events(&done).contains(&"Started".to_owned()));
    assert_eq!(cluster.output(&id), "");
}

const COUNTING: &str = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.01; done";

fn numbers(text: &str) -> Vec<u64> {
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_comes_back_to_the_same_program_and_all_its_output_restore_01() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(12, "service", shell(COUNTING)));
    let before = cluster.reaches(&id, ClientStatus::Running).await;
    let shell_pid = running(COUNTING).await[0];
    agent.kill();
    let so_far = cluster.output(&id).lines().count();
    let written = || cluster.output(&id).lines().count();
    until("it goes on without an agent", || (written() > so_far + 20).then_some(())).await;
    let agent = Agent::start(cluster.config(&[gateway]));
    let streams = cluster.truth.lock().unwrap().streams.len();
    until("it follows again", || (cluster.truth.lock().unwrap().streams.len() > streams).then_some(())).await;
    let here = written();
    until("it goes on with one", || (written() > here + 20).then_some(())).await;
    // The shell itself; what it forks comes and goes.
    assert!(processes(COUNTING).contains(&shell_pid));
    cluster.stop(&id);
    let done = cluster.reaches(&id, ClientStatus::Complete).await;
    assert_eq!(events(&done)[..3], events(&before)[..3]);
    assert_eq!(events(&done)[3..], ["Killing", "Terminated", "Killed"]);
    let counted = numbers(&cluster.output(&id));
    assert_eq!(counted, (1..=counted.len() as u64).collect::<Vec<_>>(), "no line is lost");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_the_agent_was_dead_is_told_when_it_is_back() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(
        13,
        "batch",
        shell("echo a; while [ ! -e $NOMAD_TASK_DIR/go ]; do sleep 0.01; done; echo b; exit 4"),
    ));
    cluster.reaches(&id, ClientStatus::Running).await;
    agent.kill();
    std::fs::write(cluster.alloc_dir(&id).join("t/local/go"), "").unwrap();
    until("it ended", || cluster.output(&id).ends_with("b\n").then_some(())).await;
    let _agent = Agent::start(cluster.config(&[gateway]));
    let done = cluster.reaches(&id, ClientStatus::Failed).await;
    assert_eq!(events(&done)[3..], ["Terminated", "Not Restarting"]);
    assert_eq!(done.task_states["t"].events.look()[3].exit_code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_lost_with_its_supervisor_is_started_again_restore_04() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(14, "service", shell("echo up; sleep 7014.5")));
    cluster.reaches(&id, ClientStatus::Running).await;
    agent.kill();
    // As a reboot does.
    driver::orphans::sweep(&cluster.dir.path().join("data/alloc"), None, &driver::orphans::Keep::default());
    until("all is dead", || processes("7014.5").is_empty().then_some(())).await;
    let agent = Agent::start(cluster.config(&[gateway]));
    let again = until("it runs again", || {
        cluster.alloc(&id).filter(|a| events(a).iter().filter(|e| **e == "Started").count() == 2)
    })
    .await;
    assert!(events(&again).contains(&"Failed Restoring Task".to_owned()), "{:?}", events(&again));
    assert_eq!(again.task_states["t"].restarts, 0);
    running("7014.5").await;
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_done_is_not_run_or_told_again_restore_06_alloc_sync_06() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(15, "batch", shell("echo once")));
    cluster.reaches(&id, ClientStatus::Complete).await;
    agent.end().await;
    let told = || cluster.truth.lock().unwrap().news.iter().filter(|(_, u)| u.id == id).count();
    let before = told();
    let agent = Agent::start(cluster.config(&[gateway]));
    let streams = cluster.truth.lock().unwrap().streams.len();
    until("it is back", || (cluster.truth.lock().unwrap().streams.len() > streams).then_some(())).await;
    let other = cluster.put(alloc(16, "batch", shell("echo two")));
    cluster.reaches(&other, ClientStatus::Complete).await;
    assert_eq!((cluster.output(&id).as_str(), told()), ("once\n", before));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_outlive_an_agent_that_is_asked_to_end_restore_11() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(17, "service", shell("exec sleep 7017.5")));
    cluster.reaches(&id, ClientStatus::Running).await;
    let pids = running("7017.5").await;
    agent.end().await;
    assert_eq!(processes("7017.5"), pids);
    // No gateway is there when it comes back.
    cluster.kill_gateway(gateway);
    let agent = Agent::start(cluster.config(&[gateway]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(processes("7017.5"), pids);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_goes_on_with_another_gateway_where_it_was() {
    let cluster = Cluster::new();
    let (first, second) = (cluster.gateway(), cluster.gateway());
    let agent = Agent::start(cluster.config(&[first, second]));
    let id = cluster.put(alloc(18, "service", shell("exec sleep 7018.5")));
    cluster.reaches(&id, ClientStatus::Running).await;
    let pids = running("7018.5").await;
    let followed = || cluster.truth.lock().unwrap().streams.last().map(|(addr, _, _)| *addr).unwrap();
    for n in 19..22 {
        let dead = followed();
        cluster.kill_gateway(dead);
        let third = cluster.gateway();
        let batch = cluster.put(alloc(n, "batch", shell("true")));
        cluster.reaches(&batch, ClientStatus::Complete).await;
        // What the dead one had sent may have come before its end was noticed.
        until("it follows another one", || (followed() != dead).then_some(())).await;
        cluster.learn(&[third]);
        let beats = cluster.truth.lock().unwrap().beats;
        until("it learns of the new one", || (cluster.truth.lock().unwrap().beats > beats + 1).then_some(())).await;
    }
    assert_eq!(processes("7018.5"), pids);
    let streams = cluster.truth.lock().unwrap().streams.clone();
    assert!(streams.iter().skip(1).all(|(_, after, epoch)| *after > 0 && epoch == "e1"), "{streams:?}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_lacks_a_job_ends_its_stream_and_changes_nothing() {
    let cluster = Cluster::new();
    let agent = Agent::start(cluster.config(&[cluster.gateway()]));
    let first = cluster.put(alloc(51, "batch", shell("true")));
    cluster.reaches(&first, ClientStatus::Complete).await;
    let opened = || cluster.truth.lock().unwrap().streams.len();
    let before = opened();
    cluster.truth.lock().unwrap().lacks_jobs = true;
    let id = cluster.put(alloc(52, "batch", shell("true")));
    until("it asks anew", || (opened() > before + 1).then_some(())).await;
    assert_eq!(cluster.progress(&id), [], "nothing is said of a row without its job");
    cluster.truth.lock().unwrap().lacks_jobs = false;
    cluster.reaches(&id, ClientStatus::Complete).await;
    let (_, after, epoch) = cluster.truth.lock().unwrap().streams.last().cloned().unwrap();
    assert_eq!((after, epoch.as_str()), (0, ""), "it wants to hear everything again");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_is_ended_and_removed() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(23, "service", shell("exec sleep 7023.5")));
    cluster.reaches(&id, ClientStatus::Running).await;
    agent.kill();
    cluster.forget(&id);
    until("the store is let go", || std::fs::remove_file(cluster.dir.path().join("data/agent.redb")).ok()).await;
    let _agent = Agent::start(cluster.config(&[gateway]));
    let dir = cluster.alloc_dir(&id);
    until("it is gone", || (processes("7023.5").is_empty() && !exists(&dir)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_told_to_leaves_nothing_behind_and_the_next_one_starts_it_all_again() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let config = Config { stop_tasks_on_exit: true, ..cluster.config(&[gateway]) };
    let agent = Agent::start(config.clone());
    let script = "trap 'echo bye; exit 0' INT; echo up 7024; while true; do sleep 0.02; done";
    let id = cluster.put(alloc(24, "service", shell(script)));
    cluster.reaches(&id, ClientStatus::Running).await;
    until("it runs", || cluster.output(&id).contains("up").then_some(())).await;
    agent.end().await;
    assert_eq!(cluster.output(&id), "up 7024\nbye\n");
    let left = || processes("up 7024").len() + processes(id.as_str()).len();
    // The agent kills its supervisors last, and their end takes a moment.
    until("no process is left", || (left() == 0).then_some(())).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&cluster.dir.path().display().to_string()));
    for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/freezer"] {
        let home = std::path::Path::new(root).join(config.cgroup_parent.trim_end_matches(".slice"));
        assert!(!exists(&home.join(&cluster.node_id)));
    }
    // The cluster was told nothing, so the job still wants to run.
    assert_eq!(cluster.alloc(&id).unwrap().client_status, ClientStatus::Running);
    let agent = Agent::start(config);
    until("it runs again", || (cluster.output(&id).matches("up").count() == 2).then_some(())).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_read_and_followed_by_gateways_only_logs_14_logs_15() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(
        25,
        "service",
        shell("echo hello; while [ ! -e $NOMAD_TASK_DIR/go ]; do sleep 0.01; done; echo more; sleep 7025"),
    ));
    cluster.reaches(&id, ClientStatus::Running).await;
    until("it spoke", || cluster.output(&id).contains("hello").then_some(())).await;
    let addr = node_addr(&cluster).await;
    let http = cluster.http(Role::Gateway, "asker");
    let path = |rest: &str| format!("/v1/client/fs/logs/{id}?type=stdout{rest}");
    assert_eq!(&ask(&http, addr, &path("&task=t&plain=true")).await.unwrap()[..], b"hello\n");
    assert_eq!(&ask(&http, addr, &path("&task=t&plain=true&offset=2")).await.unwrap()[..], b"llo\n");
    let frame = ask(&http, addr, &path("&task=t")).await.unwrap();
    assert_eq!(&frame[..], br#"{"Offset":6,"Data":"aGVsbG8K","File":"alloc/logs/t.stdout.0"}"#);
    assert_eq!(ask(&http, addr, &path("")).await.unwrap_err(), (400, "must provide task name".to_owned()));
    assert_eq!(ask(&http, addr, &path("&task=zz")).await.unwrap_err(), (400, "unknown task name \"zz\"".to_owned()));

    let target = Target::new(addr, Role::Agent);
    let call = Call::get(path("&task=t&plain=true&follow=true"), Duration::from_secs(5));
    let mut stream = http.open(&target, call, Duration::from_secs(10)).await.unwrap();
    assert_eq!(&stream.chunk().await.unwrap().unwrap()[..], b"hello\n");
    std::fs::write(cluster.alloc_dir(&id).join("t/local/go"), "").unwrap();
    assert_eq!(&stream.chunk().await.unwrap().unwrap()[..], b"more\n");
    let call = Call::get(path("&task=t&follow=true&origin=end"), Duration::from_secs(5));
    let mut stream = http.open(&target, call, Duration::from_secs(10)).await.unwrap();
    assert_eq!(&stream.chunk().await.unwrap().unwrap()[..], b"{}");

    let stranger = cluster.http(Role::Scheduler, "stranger");
    assert_eq!(ask(&stranger, addr, &path("&task=t")).await.unwrap_err().0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_a_task_that_never_started_is_not_there_logs_14() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let id = cluster.put(alloc(26, "batch", mock(json!({"start_error": "no"}))));
    cluster.reaches(&id, ClientStatus::Failed).await;
    let http = cluster.http(Role::Gateway, "asker");
    let path = format!("/v1/client/fs/logs/{id}?task=t&type=stdout");
    let refused = ask(&http, node_addr(&cluster).await, &path).await.unwrap_err();
    assert_eq!(refused, (404, "task \"t\" not started yet. No logs available".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_allocation_says_so_once_health_01() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let mut row = alloc(27, "service", mock(json!({"run_for": "1h"})));
    row.deployment_id = "d1".into();
    let job = std::sync::Arc::make_mut(row.job.as_mut().unwrap());
    let update =
        json!({"MinHealthyTime": 50_000_000, "HealthyDeadline": 10_000_000_000_i64, "HealthCheck": "task_states"});
    job.task_groups[0].update = Some(serde_json::from_value(update).unwrap());
    let id = cluster.put(row);
    let healthy = until("it is healthy", || cluster.alloc(&id).filter(|a| a.is_healthy() == Some(true))).await;
    assert_eq!(healthy.client_status, ClientStatus::Running);
    cluster.stop(&id);
    let done = cluster.reaches(&id, ClientStatus::Complete).await;
    assert_eq!(done.is_healthy(), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_finished_allocation_gives_up_its_files_gc_01_gc_06() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let agent = Agent::start(Config { gc_max_allocs: 2, ..cluster.config(&[gateway]) });
    let mut ids = Vec::<AllocId>::new();
    for n in 30..34 {
        let id = cluster.put(alloc(n, "batch", mock(json!({"run_for": "1ms"}))));
        cluster.reaches(&id, ClientStatus::Complete).await;
        ids.push(id);
    }
    let there = || ids.iter().map(|id| exists(&cluster.alloc_dir(id))).collect::<Vec<_>>();
    until("two are left", || (there().iter().filter(|yes| **yes).count() <= 2).then_some(())).await;
    assert!(!there()[0], "{:?}", there());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_allocations_run_at_once_and_an_update_in_place_changes_nothing_that_runs() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let ids: Vec<_> = (100..160).map(|n| cluster.put(alloc(n, "service", mock(json!({"run_for": "1h"}))))).collect();
    for id in &ids {
        cluster.reaches(id, ClientStatus::Running).await;
    }
    cluster.edit(&ids[0], |row| {
        let job = std::sync::Arc::make_mut(row.job.as_mut().unwrap());
        job.version = Some(1);
        job.task_groups[0].tasks[0].kill_timeout = Some(model::Nanos::from_secs(1));
    });
    cluster.stop(&ids[1]);
    cluster.reaches(&ids[1], ClientStatus::Complete).await;
    let same = cluster.alloc(&ids[0]).unwrap();
    assert_eq!((same.client_status, events(&same).len()), (ClientStatus::Running, 3));
}
