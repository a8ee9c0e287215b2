//! Who brings what is of another cluster, or of another time, is refused with a sentence that says what to do.

use std::process::Command;
use std::time::{Duration, Instant};

use client::public::Query;
use e2e::cluster::{WITHIN, program, text};
use e2e::fleet::{Fleet, Shape, sleeping_job};
use model::Role;
use serde_json::Value;

const DAY: Duration = Duration::from_secs(86_400);
const ONE: Shape = Shape { states: 1, ..Shape::SMALL };

/// A process that ends by itself: what it says.
async fn ends(fleet: &mut Fleet, name: &str) -> String {
    fleet.spawn(name);
    let began = Instant::now();
    while !fleet.has_ended(name) {
        assert!(began.elapsed() < WITHIN, "it runs: {}", fleet.log(name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fleet.log(name)
}

#[tokio::test]
async fn services_of_another_cluster_are_told_what_is_wrong_and_change_nothing() {
    let mut ours = Fleet::start(ONE).await;
    let mut theirs = Fleet::start(ONE).await;
    // Everything is another cluster's.
    let foreign = ours.one_more(Role::Scheduler);
    ours.identify(&foreign, &theirs, &foreign, DAY);
    ours.spawn(&foreign);
    // The gossip key was carried over, the certificate was not.
    let half = ours.one_more(Role::Scheduler);
    let key = std::fs::read(ours.home(&half).join("identity/gossip.key")).unwrap();
    ours.identify(&half, &theirs, &half, DAY);
    std::fs::write(ours.home(&half).join("identity/gossip.key"), key).unwrap();
    ours.spawn(&half);
    // A state server of ours with data of theirs.
    theirs.kill("state-1");
    let stranger = ours.one_more(Role::State);
    let data = theirs.home("state-1").join("data");
    assert!(Command::new("cp").arg("-a").arg(data).arg(ours.home(&stranger)).status().unwrap().success());
    ours.spawn(&stranger);

    ours.until_said(&foreign, "nobody answers who has a gossip key of ours", 1).await;
    ours.until_said("state-1", "gossip packet rejected", 1).await;
    ours.until_said(&half, "no state server to follow: give this process a certificate of its cluster", 1).await;
    ours.until_said(&half, "certificate is of another cluster", 1).await;
    ours.until_said(&stranger, "start it with an empty data directory to join them, or tell it to join its own", 1)
        .await;
    let (status, said) = ours.readiness(&stranger);
    assert!(status == 503 && said.contains("this server's data are of cluster"), "{status} {said}");
    let peers = ours.until("/v1/status/peers", "the group", Value::is_array).await;
    assert_eq!(peers.as_array().unwrap().len(), 1, "it is not taken in");
    ours.api(0).put::<_, Value>("/v1/jobs", &Query::default(), &sleeping_job("goes-on", 0)).await.unwrap();
}

#[tokio::test]
async fn agents_with_a_stale_identity_are_told_what_to_do_and_register_nothing() {
    let mut ours = Fleet::start(ONE).await;
    let theirs = Fleet::prepare(ONE);
    let foreign = ours.one_more(Role::Agent);
    ours.identify(&foreign, &theirs, "11111111-1111-4111-8111-111111111111", DAY);
    let expired = ours.one_more(Role::Agent);
    ours.identify(&expired, &ours, "21111111-1111-4111-8111-111111111111", Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = ours.one_more(Role::Agent);
    std::fs::create_dir_all(ours.home(&other).join("data")).unwrap();
    std::fs::write(ours.home(&other).join("data/client-id"), "31111111-1111-4111-8111-111111111111").unwrap();
    let cut = ours.one_more(Role::Agent);
    let file = ours.home(&cut).join("identity/cert.pem");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();

    let said = ends(&mut ours, &other).await;
    assert!(said.contains("belongs to node 31111111-1111-4111-8111-111111111111"), "{said}");
    assert!(said.contains("give it that node's identity, or another directory"), "{said}");
    let said = ends(&mut ours, &cut).await;
    assert!(said.contains("cert.pem is not usable: it is cut short or damaged; write it anew"), "{said}");
    ours.spawn(&foreign);
    ours.spawn(&expired);
    for (name, why) in [(&foreign, "is of another cluster"), (&expired, "our certificate has expired")] {
        ours.until_said(name, "introduce this node anew", 1).await;
        ours.until_said(name, why, 1).await;
    }
    let nodes = ours.until("/v1/nodes", "an answer", Value::is_array).await;
    assert_eq!(nodes, Value::Array(Vec::new()), "none was registered");
}

#[test]
fn a_half_written_configuration_is_refused_with_the_place_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let whole = "name = \"m\"\ndata_dir = \"/nowhere\"\nserver {\n  enabled = true\n  bootstrap_expect = 1\n}\n";
    let json = r#"{"name": "m", "data_dir": "/nowhere", "server": {"enabled": true}}"#;
    for (name, whole) in [("m.hcl", whole), ("m.json", json)] {
        let file = dir.path().join(name);
        // Cut within its last block, wherever.
        for end in whole.find("server").unwrap() + 3..whole.trim_end().len() {
            std::fs::write(&file, &whole[..end]).unwrap();
            let mut command = Command::new(program());
            let done = command.args(["config", "validate"]).arg(&file).output().unwrap();
            let said = text(&done.stderr);
            assert!(!done.status.success() && said.contains(&format!("{name}:")), "cut at {end}: {said}");
        }
    }
}
