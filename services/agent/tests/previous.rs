//! An allocation begins when what it takes the place of has ended, wherever that runs; and with its devices.
#![allow(clippy::unwrap_used)]

mod world;

use model::alloc::{AllocatedDeviceResource, AllocatedResources, AllocatedTaskResources};
use model::{AllocId, Allocation, ClientStatus, DesiredStatus};
use serde_json::json;
use world::{Agent, Cluster, alloc, events, mock, shell, until};

/// Ends a moment after it is told to; `go` lets it.
fn slow(go: &std::path::Path) -> serde_json::Value {
    let script = format!(
        "trap 'while [ ! -e {} ]; do sleep 0.02; done; echo over; exit 0' INT; echo kept > $NOMAD_ALLOC_DIR/data/f; \
         echo own > local/f; echo up; while true; do sleep 0.02; done",
        go.display()
    );
    let mut task = shell(&script);
    task["KillTimeout"] = json!(20_000_000_000_i64);
    task
}

fn sticky(mut alloc: Allocation) -> Allocation {
    let mut job = serde_json::to_value(alloc.job.as_deref().unwrap()).unwrap();
    job["TaskGroups"][0]["EphemeralDisk"] = json!({"Sticky": true, "SizeMB": 10});
    alloc.job = Some(std::sync::Arc::new(serde_json::from_value(job).unwrap()));
    alloc
}

/// What the node has taken up and not begun.
async fn taken_up(cluster: &Cluster, id: &AllocId) {
    // Another one that is sent after it has begun and ended.
    let n = u32::from_str_radix(&id.as_str()[..8], 16).unwrap() + 0x100;
    let later = cluster.put(alloc(n, "batch", mock(json!({"run_for": "1ms"}))));
    cluster.reaches(&later, ClientStatus::Complete).await;
    assert_eq!(cluster.progress(id), [], "it began too early");
    assert!(!cluster.alloc_dir(id).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_here_ends_first_and_leaves_its_files_migrate_01_migrate_10() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let go = cluster.dir.path().join("go");
    let old = cluster.put(alloc(1, "service", slow(&go)));
    until("it runs", || cluster.output(&old).contains("up").then_some(())).await;
    cluster.stop(&old);
    let mut next = sticky(alloc(2, "batch", shell("cat $NOMAD_ALLOC_DIR/data/f local/f")));
    next.previous_allocation = old.clone();
    let next = cluster.put(next);
    taken_up(&cluster, &next).await;
    std::fs::write(&go, "").unwrap();
    cluster.reaches(&old, ClientStatus::Complete).await;
    let done = cluster.reaches(&next, ClientStatus::Complete).await;
    assert_eq!(cluster.output(&next), "kept\nown\n");
    assert!(done.task_states["t"].started_at >= cluster.alloc(&old).unwrap().task_states["t"].finished_at);
    assert!(cluster.truth.lock().unwrap().asked.is_empty(), "nobody else has to say so");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_preempted_ends_first_and_keeps_its_files_migrate_11() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let go = cluster.dir.path().join("go");
    let old = cluster.put(alloc(3, "service", slow(&go)));
    until("it runs", || cluster.output(&old).contains("up").then_some(())).await;
    cluster.edit(&old, |alloc| alloc.desired_status = DesiredStatus::Evict);
    let mut next = sticky(alloc(4, "batch", shell("ls $NOMAD_ALLOC_DIR/data local")));
    next.preempted_allocations = vec![old.clone(), "00000fff-0000-4000-8000-000000000000".into()];
    let next = cluster.put(next);
    taken_up(&cluster, &next).await;
    std::fs::write(&go, "").unwrap();
    cluster.reaches(&next, ClientStatus::Complete).await;
    assert!(!cluster.output(&next).lines().any(|line| line == "f"), "{}", cluster.output(&next));
    assert!(cluster.alloc_dir(&old).join("alloc/data/f").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_elsewhere_is_asked_after_until_it_ended_is_unknown_or_forgotten_migrate_09() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    for (n, end) in [(5, Some(ClientStatus::Complete)), (7, Some(ClientStatus::Unknown)), (9, None)] {
        let mut old = alloc(n, "service", mock(json!({"run_for": "1h"})));
        old.node_id = "11111111-0000-4000-8000-000000000000".into();
        old.client_status = ClientStatus::Running;
        old.desired_status = DesiredStatus::Stop;
        // The node is not sent what is another's.
        let old = cluster.put(old);
        let mut next = alloc(n + 1, "batch", mock(json!({"run_for": "1ms"})));
        next.previous_allocation = old.clone();
        let next = cluster.put(next);
        until("it is asked for", || cluster.truth.lock().unwrap().asked.contains(&old).then_some(())).await;
        taken_up(&cluster, &next).await;
        match end {
            Some(status) => cluster.edit(&old, |alloc| alloc.client_status = status),
            None => cluster.forget(&old),
        }
        cluster.reaches(&next, ClientStatus::Complete).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_while_it_waits_starts_nothing() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let _agent = Agent::start(cluster.config(&[gateway]));
    let old = cluster.put(alloc(20, "service", mock(json!({"run_for": "1h"}))));
    cluster.reaches(&old, ClientStatus::Running).await;
    let mark = cluster.dir.path().join("ran");
    let waiting = |n| {
        let mut next = alloc(n, "service", shell(&format!("echo > {}", mark.display())));
        next.previous_allocation = old.clone();
        cluster.put(next)
    };
    let (stopped, gone) = (waiting(21), waiting(22));
    taken_up(&cluster, &stopped).await;
    cluster.stop(&stopped);
    let done = cluster.reaches(&stopped, ClientStatus::Complete).await;
    assert!(!events(&done).contains(&"Started".to_owned()));
    cluster.forget(&gone);
    let later = cluster.put(alloc(23, "batch", mock(json!({"run_for": "1ms"}))));
    cluster.reaches(&later, ClientStatus::Complete).await;
    until("nothing of it stays", || (!cluster.alloc_dir(&gone).exists()).then_some(())).await;
    assert!(!mark.exists(), "it ran");
    assert_eq!(cluster.alloc(&old).unwrap().client_status, ClientStatus::Running);
}

fn with_device(n: u32, id: &str) -> Allocation {
    let mut given = alloc(n, "batch", shell("echo $STEPPE_DEVICES"));
    let device = AllocatedDeviceResource {
        vendor: "acme".into(),
        kind: "null".into(),
        name: "n".into(),
        device_ids: vec![id.into()],
    };
    let task = AllocatedTaskResources { devices: vec![device], ..AllocatedTaskResources::default() };
    given.allocated_resources =
        Some(AllocatedResources { tasks: [("t".to_owned(), task)].into(), ..AllocatedResources::default() }.into());
    given
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_knows_its_devices_and_one_that_is_not_there_is_no_start_device_03_device_04_env_08() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway();
    let devices = vec![("acme/null/n".to_owned(), "/dev/null,/dev/zero".to_owned())];
    let _agent = Agent::start(agent::Config { devices, ..cluster.config(&[gateway]) });
    let given = cluster.put(with_device(30, "/dev/zero"));
    cluster.reaches(&given, ClientStatus::Complete).await;
    assert_eq!(cluster.output(&given), "/dev/zero\n");
    let unknown = cluster.put(with_device(31, "/dev/full"));
    let failed = cluster.reaches(&unknown, ClientStatus::Failed).await;
    let said =
        failed.task_states["t"].events.look().iter().any(|event| event.display_message.contains("is not on this node"));
    assert!(said && !events(&failed).contains(&"Started".to_owned()), "{:?}", failed.task_states);
    let truth = cluster.truth.lock().unwrap();
    let listed = truth.nodes[0].node_resources.as_ref().unwrap().devices.iter().find(|group| group.vendor == "acme");
    let ids: Vec<&str> = listed.unwrap().instances.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["/dev/null", "/dev/zero"]);
}
