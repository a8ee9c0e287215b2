//! Recorded rows keep their form through the types.
#![allow(clippy::unwrap_used)]

mod samples;

use samples::{differences, read};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn keeps_its_form<T: DeserializeOwned + Serialize>(name: &str) {
    let rows = read("rows.json");
    let rows = rows[name].as_array().unwrap();
    assert!(!rows.is_empty());
    for (i, row) in rows.iter().enumerate() {
        let noun: T = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(differences(row, &serde_json::to_value(&noun).unwrap()), Vec::<String>::new(), "{name} {i}");
    }
}

#[test]
fn a_recorded_allocation_keeps_its_form() {
    keeps_its_form::<model::Allocation>("allocation");
}

#[test]
fn a_recorded_allocation_in_a_list_keeps_its_form() {
    keeps_its_form::<model::alloc::AllocStub>("alloc_stub");
}

#[test]
fn a_recorded_evaluation_keeps_its_form() {
    keeps_its_form::<model::Evaluation>("evaluation");
}

#[test]
fn a_recorded_deployment_keeps_its_form() {
    keeps_its_form::<model::Deployment>("deployment");
}

#[test]
fn a_recorded_node_keeps_its_form() {
    keeps_its_form::<model::Node>("node");
}

#[test]
fn a_recorded_node_in_a_list_keeps_its_form() {
    keeps_its_form::<model::node::NodeListStub>("node_stub");
}

#[test]
fn a_recorded_summary_keeps_its_form() {
    keeps_its_form::<model::summary::JobSummary>("job_summary");
}
