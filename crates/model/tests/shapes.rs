//! The two forms of a job on the wire.
#![allow(clippy::unwrap_used)]

mod samples;

use model::parse_shape;
use samples::{differences, job, samples};

#[test]
fn a_parsed_job_keeps_its_parsed_form() {
    for (name, want) in samples() {
        assert_eq!(differences(&want, &parse_shape(&job(&want))), Vec::<String>::new(), "{name}");
    }
    let bare = &samples::golden()["parsed"]["bare"];
    assert_eq!(differences(bare, &parse_shape(&job(bare))), Vec::<String>::new());
}

#[test]
fn parsing_with_canonicalize_fills_in_what_a_client_would() {
    let golden = samples::golden();
    let mut parsed = job(&golden["parsed"]["bare"]);
    parsed.canonicalize_parsed();
    assert_eq!(differences(&golden["parsed"]["canonical"], &parse_shape(&parsed)), Vec::<String>::new());
}

/// What the cluster writes after a job was accepted.
const BOOKKEEPING: [&str; 7] =
    [".CreateIndex", ".JobModifyIndex", ".ModifyIndex", ".SubmitTime", ".Status:", ".Stable", ".Version:"];

#[test]
fn a_registered_job_reads_back_in_its_stored_form() {
    for (name, pair) in samples::golden()["registered"].as_object().unwrap() {
        let mut stored = job(&pair["sent"]);
        stored.canonicalize();
        let mut found = differences(&pair["got"], &serde_json::to_value(&stored).unwrap());
        found.retain(|line| !BOOKKEEPING.iter().any(|field| line.starts_with(field)));
        assert_eq!(found, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn canonicalizing_twice_changes_nothing_more() {
    let golden = samples::golden();
    let recorded =
        golden["registered"].as_object().unwrap().iter().map(|(name, pair)| (name.clone(), pair["sent"].clone()));
    for (name, value) in samples().into_iter().chain(recorded) {
        let mut parsed = job(&value);
        parsed.canonicalize_parsed();
        let mut again = parsed.clone();
        again.canonicalize_parsed();
        assert_eq!(parsed, again, "{name}");
        parsed.canonicalize();
        let mut again = parsed.clone();
        again.canonicalize();
        assert_eq!(parsed, again, "{name}");
        // a client reads the stored form and registers it again
        let mut read = job(&serde_json::to_value(&parsed).unwrap());
        assert_eq!(read, parsed, "{name}");
        read.canonicalize();
        assert!(!read.spec_changed(&parsed), "{name}");
    }
}

#[test]
fn a_group_added_to_a_stored_job_gets_defaults_and_not_zeros() {
    let mut stored = job(&samples::golden()["registered"]["service"]["got"]);
    stored.task_groups.push(model::TaskGroup { name: Some("new".into()), ..Default::default() });
    stored.canonicalize();
    let update = stored.task_groups[1].update.as_ref().unwrap();
    assert_eq!((update.health_check(), update.healthy_deadline().0), ("checks", 300_000_000_000));

    // an update of everything at once stays one
    let mut at_once = stored.clone();
    at_once.update = Some(model::job::UpdateStrategy { max_parallel: Some(0), ..Default::default() });
    at_once.task_groups.iter_mut().for_each(|group| group.update = None);
    at_once.canonicalize();
    let mut again = at_once.clone();
    again.canonicalize();
    assert_eq!(at_once, again);
    assert_eq!(again.task_groups[0].update.as_ref().unwrap().max_parallel(), 0);
}

#[test]
fn a_stored_batch_job_that_is_registered_again_has_no_update_block() {
    let mut stored = job(&samples::golden()["registered"]["batch"]["got"]);
    let before = stored.clone();
    stored.canonicalize();
    assert!(stored.task_groups[0].update.is_none());
    assert!(!stored.spec_changed(&before));
}
