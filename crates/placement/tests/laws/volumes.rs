//! Host and CSI volumes: what their rows and their present use allow, as far as a scheduler is told of them.

use std::collections::BTreeMap;

use model::group::VolumeRequest;
use model::node::{CSIInfo, CSINodeInfo, CSITopology, HostVolumeInfo};
use model::{ClientStatus, EvalStatus, Job, Node};
use placement::volume::{CsiVolume, CsiWriter, HostVolume};
use placement::{Claim, Verdict, Volumes};

use crate::world::{World, changed, job, names, node, uuid};

fn request(kind: &str, source: &str) -> VolumeRequest {
    VolumeRequest { name: "v".into(), kind: kind.into(), source: source.into(), ..VolumeRequest::default() }
}

fn asking(mut job: Job, request: VolumeRequest) -> Job {
    job.task_groups[0].volumes = BTreeMap::from([("v".to_owned(), request)]);
    job
}

/// A node with a dynamic host volume of that id, under the name `data`.
fn holder(n: u64, id: &str) -> Node {
    let info = HostVolumeInfo { id: id.into(), path: "/v".into(), ..HostVolumeInfo::default() };
    Node { host_volumes: [("data".to_owned(), info)].into(), ..node(n) }
}

fn dynamic(id: &str, access: &str) -> (String, HostVolume) {
    let capabilities = vec![(access.to_owned(), "file-system".to_owned())];
    let row =
        HostVolume { id: id.into(), namespace: "default".into(), ready: true, capabilities, ..HostVolume::default() };
    (id.to_owned(), row)
}

/// A node with a healthy plugin `p` in that zone, which takes so many volumes.
fn plugged(n: u64, zone: &str, max_volumes: i64) -> Node {
    let topology = CSITopology { segments: [("zone".to_owned(), zone.to_owned())].into() };
    let own = CSINodeInfo { max_volumes, accessible_topology: Some(topology), ..CSINodeInfo::default() };
    let info = CSIInfo { healthy: true, node_info: Some(own), ..CSIInfo::default() };
    Node { csi_node_plugins: [("p".to_owned(), info)].into(), ..node(n) }
}

fn csi(ids: &[&str], zone: Option<&str>) -> Volumes {
    let row = |id: &&str| {
        let topologies = zone.map(|zone| BTreeMap::from([("zone".to_owned(), zone.to_owned())]));
        let row = CsiVolume {
            id: (*id).to_owned(),
            plugin: "p".into(),
            topologies: topologies.into_iter().collect(),
            may_read: true,
            may_write: true,
            writers_max: Some(1),
            writers: Vec::new(),
        };
        (("default".into(), (*id).to_owned()), row)
    };
    Volumes { csi: ids.iter().map(row).collect(), ..Volumes::default() }
}

fn tell(world: &mut World, volumes: Volumes) {
    world.fleet = std::mem::take(&mut world.fleet).with_volumes(volumes);
}

fn homes(world: &World, job: &Job) -> Vec<String> {
    let mut homes: Vec<String> = world.live(job).iter().map(|alloc| alloc.node_name.clone()).collect();
    homes.sort();
    homes
}

#[test]
fn service_005_what_replaces_a_sticky_claimant_goes_where_the_claimed_volumes_are() {
    let mut world = World::new();
    for n in 0..6 {
        world.add_node(holder(n, &format!("v{n}")));
    }
    let sticky = VolumeRequest { sticky: true, ..request("host", "data") };
    let job = asking(job("service", 2), sticky);
    let rows = || (0..6).map(|n| dynamic(&format!("v{n}"), "single-node-writer")).collect();
    tell(&mut world, Volumes { host: rows(), ..Volumes::default() });
    world.register(&job);
    world.run_all(&job);
    let first = homes(&world, &job);
    assert_eq!(first.len(), 2);
    let claim = |alloc: &std::sync::Arc<model::Allocation>| Claim {
        namespace: "default".into(),
        job: "j".into(),
        group: "g".into(),
        volume: format!("v{}", alloc.node_name.trim_start_matches("node-")),
        node: alloc.node_id.clone(),
    };
    let claims = world.live(&job).iter().map(claim).collect();
    tell(&mut world, Volumes { host: rows(), claims, ..Volumes::default() });
    // Whatever the seed, there is nowhere else.
    for round in 0..4 {
        world.seed = round;
        let next = changed(&job, &round.to_string());
        let eval = world.register(&next);
        assert!(eval.blocked_eval.is_empty(), "{:?}", eval.failed_tg_allocs);
        world.run_all(&next);
        assert_eq!(homes(&world, &next), first);
    }
    let failed = world.live(&job)[0].clone();
    world.report(&failed, ClientStatus::Failed);
    world.now += 3_600 * crate::world::SECOND;
    world.evaluate(&job, "alloc-failure");
    assert_eq!(homes(&world, &job), first, "rescheduled, too");
    // One more than there are claims may go anywhere.
    let more = Job { task_groups: vec![model::TaskGroup { count: Some(3), ..job.task_groups[0].clone() }], ..job };
    world.register(&changed(&more, "3"));
    assert_eq!(world.live(&more).len(), 3);
}

#[test]
fn service_006_a_sticky_request_finds_no_static_volume() {
    let mut world = World::new();
    for n in 0..3 {
        world.add_node(holder(n, ""));
    }
    let sticky = VolumeRequest { sticky: true, ..request("host", "data") };
    let job = asking(job("service", 1), sticky);
    let eval = world.register(&job);
    assert!(world.live(&job).is_empty());
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered["missing host volumes"], 3);
    assert_eq!(world.eval(&eval.blocked_eval).status, EvalStatus::Blocked);
    let plain = asking(crate::world::job("service", 1), request("host", "data"));
    world.register(&plain);
    assert_eq!(world.live(&plain).len(), 1, "without, it does");
}

#[test]
fn service_071_each_index_has_its_volume_and_one_without_waits_for_it() {
    let mut world = World::new();
    for n in 0..4 {
        world.add_node(plugged(n, "a", 0));
    }
    tell(&mut world, csi(&["data[0]", "data[1]"], None));
    let each = VolumeRequest { per_alloc: true, ..request("csi", "data") };
    let job = asking(job("service", 3), each);
    let eval = world.register(&job);
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]"]);
    assert_eq!(eval.queued_allocations["g"], 1);
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered["missing CSI Volume data[2]"], 4);
    let blocked = world.eval(&eval.blocked_eval);
    assert_eq!(blocked.missing_non_node_resources, ["csi-volume:default:data[2]"]);
    assert!(blocked.escaped_computed_class);
    // Scheduling again changes nothing; when the volume is there, the third is placed.
    let again = world.decide(&eval);
    assert_eq!(again.plan.parts.values().map(|part| part.place.len()).sum::<usize>(), 0);
    tell(&mut world, csi(&["data[0]", "data[1]", "data[2]"], None));
    world.process(&blocked);
    assert_eq!(names(&world.live(&job)), ["j.g[0]", "j.g[1]", "j.g[2]"]);
}

#[test]
fn service_071_an_index_that_finds_nothing_is_explained_for_itself() {
    let mut world = World::new();
    for n in 0..2 {
        world.add_node(plugged(n, "a", 0));
    }
    tell(&mut world, csi(&["data[0]"], None));
    let each = VolumeRequest { per_alloc: true, ..request("csi", "data") };
    let eval = world.register_only(&asking(job("service", 2), each));
    let traces = world.decide(&eval).traces;
    assert_eq!(traces.groups.len(), 1);
    let group = &traces.groups[0];
    assert_eq!((group.placed.len(), group.unplaced), (1, 1));
    assert!(group.nodes().all(|(_, verdict)| verdict == Verdict::Filtered("missing CSI Volume data[1]")));
    assert!(group.nearest[0].to_string().contains("data[1]"), "{:?}", group.nearest);
}

#[test]
fn service_072_a_volume_is_reached_where_its_topology_says() {
    let mut world = World::new();
    for n in 0..6 {
        world.add_node(plugged(n, if n % 2 == 0 { "a" } else { "b" }, 0));
    }
    world.add_node(node(6));
    tell(&mut world, csi(&["data"], Some("b")));
    let job = asking(job("service", 6), request("csi", "data"));
    let eval = world.register(&job);
    assert!(eval.blocked_eval.is_empty());
    let homes = homes(&world, &job);
    assert_eq!(homes.len(), 6);
    assert!(homes.iter().all(|home| ["node-1", "node-3", "node-5"].contains(&home.as_str())), "{homes:?}");
    let metrics = world.live(&job)[0].metrics.as_ref().unwrap().look();
    assert_eq!(metrics.constraint_filtered["did not meet topology requirement"], 3);
    assert_eq!(metrics.constraint_filtered["CSI plugin p is missing from client"], 1);
}

#[test]
fn system_037_a_system_job_runs_where_its_volume_is_reached() {
    let mut world = World::new();
    for n in 0..4 {
        world.add_node(plugged(n, if n == 3 { "b" } else { "a" }, 0));
    }
    tell(&mut world, csi(&["data"], Some("a")));
    let job = asking(job("system", 1), request("csi", "data"));
    let eval = world.register(&job);
    assert_eq!(homes(&world, &job), ["node-0", "node-1", "node-2"]);
    assert_eq!(eval.queued_allocations["g"], 0, "a node that may not is passed over");
    world.run_all(&job);
    let again = world.evaluate(&job, "node-update");
    assert_eq!(crate::world::says(&again), "ignore 3", "what runs stays");
}

#[test]
fn a_plugin_takes_as_many_volumes_as_it_says_in_one_plan_too() {
    let mut world = World::new();
    world.add_node(plugged(0, "a", 2));
    world.add_node(plugged(1, "a", 1));
    tell(&mut world, csi(&["data[0]", "data[1]", "data[2]", "data[3]"], None));
    let each = VolumeRequest { per_alloc: true, ..request("csi", "data") };
    let job = asking(job("service", 4), each);
    let eval = world.register(&job);
    assert_eq!(homes(&world, &job), ["node-0", "node-0", "node-1"]);
    let filtered = &eval.failed_tg_allocs["g"].constraint_filtered;
    assert!(filtered.keys().all(|why| why.contains("has the maximum number of volumes")), "{filtered:?}");
    assert_eq!(filtered.len(), 2);
}

#[test]
fn a_single_writer_is_alone_on_its_volume_in_one_plan_too() {
    let mut world = World::new();
    for n in 0..2 {
        world.add_node(holder(n, &format!("v{n}")));
    }
    let rows = (0..2).map(|n| dynamic(&format!("v{n}"), "single-node-single-writer")).collect();
    tell(&mut world, Volumes { host: rows, ..Volumes::default() });
    let single = VolumeRequest {
        access_mode: "single-node-single-writer".into(),
        attachment_mode: "file-system".into(),
        ..request("host", "data")
    };
    let job = asking(job("service", 3), single);
    let eval = world.register(&job);
    assert_eq!(homes(&world, &job), ["node-0", "node-1"]);
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered["missing host volumes"], 2);
    // In place it stays where it writes; replaced, it takes its own place.
    world.run_all(&job);
    let touched = crate::world::retouched(&job, 9);
    world.register(&touched);
    assert_eq!(homes(&world, &touched), ["node-0", "node-1"]);
    assert!(world.live(&touched).iter().all(|alloc| alloc.job_version == Some(1)));
    world.register(&changed(&touched, "2"));
    assert_eq!(homes(&world, &touched), ["node-0", "node-1"]);
}

#[test]
fn a_write_claim_of_another_job_keeps_writers_away_and_readers_not() {
    let mut world = World::new();
    world.add_node(plugged(0, "a", 0));
    let mut rows = csi(&["data"], None);
    let writer = CsiWriter { job: Some(("default".into(), "other".into())) };
    rows.csi.get_mut(&("default".into(), "data".into())).unwrap().writers = vec![writer];
    tell(&mut world, rows);
    let writing = asking(job("service", 1), request("csi", "data"));
    let eval = world.register(&writing);
    let why = "CSI volume data has exhausted its available writer claims";
    assert_eq!(eval.failed_tg_allocs["g"].constraint_filtered[why], 1);
    let reading = asking(job("service", 1), VolumeRequest { read_only: true, ..request("csi", "data") });
    world.register(&reading);
    assert_eq!(world.live(&reading).len(), 1);
    assert_eq!(world.live(&reading)[0].node_id.as_str(), uuid(0));
}

#[test]
fn volumes_of_another_namespace_count_for_the_plugin_under_their_own_names() {
    let mut world = World::new();
    world.add_node(plugged(0, "a", 2));
    let mut rows = csi(&["data"], None);
    let other = rows.csi.values().next().unwrap().clone();
    rows.csi.insert(("apart".into(), "data".into()), other.clone());
    rows.csi.insert(("default".into(), "more".into()), other);
    tell(&mut world, rows);
    let namespace = model::namespace::Namespace { name: "apart".into(), ..model::namespace::Namespace::default() };
    world.submit(model::Role::Gateway, fsm::Command::NamespaceUpsert { namespaces: vec![namespace] });
    let mut apart = job("service", 1);
    apart.namespace = Some("apart".into());
    let reading = |source: &str| VolumeRequest { read_only: true, ..request("csi", source) };
    let apart = asking(apart, reading("data"));
    world.register(&apart);
    assert_eq!(world.live(&apart).len(), 1);
    let here = asking(job("service", 1), reading("data"));
    world.register(&here);
    assert_eq!(world.live(&here).len(), 1, "one name, two volumes, and room for two");
    let mut third = asking(job("service", 1), reading("more"));
    third.id = Some("third".into());
    let eval = world.register(&third);
    let filtered = &eval.failed_tg_allocs["g"].constraint_filtered;
    assert!(filtered.keys().all(|why| why.contains("has the maximum number of volumes")), "{filtered:?}");
    assert_eq!((filtered.len(), world.live(&third).len()), (1, 0));
}
