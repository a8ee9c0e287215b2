//! A job in the form in which `/v1/jobs/parse` answers it.
//!
//! The wire knows two forms of a job. The *stored* form is what [`Job`] serializes to. The *parsed* form
//! is that of a client's own structs: it also has the fields that only a client writes (`null` or zero
//! when unset), it lacks those that only the cluster writes, and it leaves no field of a network out.
//! This module turns the first into the second. It invents no value: whatever is in the job stays.

use serde_json::{Map, Value, json};

use crate::job::Job;

/// The job as `/v1/jobs/parse` answers it.
pub fn parse_shape(job: &Job) -> Value {
    let mut value = serde_json::to_value(job).expect("a job has string keys only and no failing serializer");
    if let Value::Object(fields) = &mut value {
        shape_job(fields);
    }
    value
}

fn shape_job(job: &mut Map<String, Value>) {
    add(job, "Reschedule", Value::Null);
    add(job, "Migrate", Value::Null);
    if let Some(Value::Object(ui)) = job.get_mut("UI") {
        each(ui, "Links", |link| {
            let url = link.remove("Url").unwrap_or_default();
            add(link, "URL", url);
        });
    }
    each(job, "TaskGroups", |group| {
        each(group, "Networks", shape_network);
        each(group, "Services", shape_service);
        within(group, "Scaling", shape_scaling);
        each(group, "Tasks", shape_task);
    });
}

fn shape_task(task: &mut Map<String, Value>) {
    if task.get("CSIPluginConfig").is_some_and(Value::is_null) {
        task.remove("CSIPluginConfig");
    }
    each(task, "Services", shape_service);
    each(task, "ScalingPolicies", shape_scaling);
    within(task, "Resources", |resources| each(resources, "Networks", shape_network));
    within(task, "LogConfig", |logs| add(logs, "Enabled", Value::Null));
    within(task, "Vault", |vault| add(vault, "Policies", Value::Null));
}

fn shape_network(network: &mut Map<String, Value>) {
    for text in ["Mode", "Device", "CIDR", "IP", "Hostname"] {
        add(network, text, json!(""));
    }
    for unset in ["DNS", "ReservedPorts", "DynamicPorts", "MBits", "CNI"] {
        add(network, unset, Value::Null);
    }
}

fn shape_scaling(policy: &mut Map<String, Value>) {
    add(policy, "Namespace", json!(""));
}

fn shape_service(service: &mut Map<String, Value>) {
    service.remove("Namespace");
    add(service, "CheckRestart", Value::Null);
    each(service, "Checks", |check| add(check, "Advertise", json!("")));
    within(service, "Connect", |connect| {
        within(connect, "SidecarTask", |task| {
            within(task, "Resources", |resources| each(resources, "Networks", shape_network));
            within(task, "LogConfig", |logs| add(logs, "Enabled", Value::Null));
        });
        within(connect, "SidecarService", |sidecar| {
            within(sidecar, "Proxy", |proxy| {
                add(proxy, "ExposeConfig", Value::Null);
                within(proxy, "Expose", |expose| add(expose, "Path", Value::Null));
            });
        });
        within(connect, "Gateway", |gateway| {
            within(gateway, "Proxy", |proxy| {
                if let Some(Value::Object(addresses)) = proxy.get_mut("EnvoyGatewayBindAddresses") {
                    for address in addresses.values_mut().filter_map(Value::as_object_mut) {
                        add(address, "Name", json!(""));
                    }
                }
            });
        });
    });
}

/// Adds a field that is not there.
fn add(fields: &mut Map<String, Value>, name: &str, value: Value) {
    fields.entry(name).or_insert(value);
}

fn within(fields: &mut Map<String, Value>, name: &str, shape: impl Fn(&mut Map<String, Value>)) {
    if let Some(Value::Object(inner)) = fields.get_mut(name) {
        shape(inner);
    }
}

fn each(fields: &mut Map<String, Value>, name: &str, shape: impl Fn(&mut Map<String, Value>)) {
    if let Some(Value::Array(rows)) = fields.get_mut(name) {
        rows.iter_mut().filter_map(Value::as_object_mut).for_each(shape);
    }
}
