//! Which events are in a line of the feed? One for each row that it changed and somebody may read about:
//! what stands in the end, once, however often one command touched the row.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fsm::{Change, FeedLine, State};
use model::namespace::NodePool;
use model::{Allocation, Deployment, Evaluation, Index, Job, JobId, NamespaceName, Node};
use serde::Serialize;

use crate::routes::{allocs, nodes};

/// A row as it stands after the change; of rows that are gone, as they stood before.
#[derive(Clone, Debug)]
enum Row {
    Job(Arc<Job>, bool),
    Evaluation(Arc<Evaluation>),
    Allocation(Arc<Allocation>),
    Deployment(Arc<Deployment>),
    Node(Arc<Node>),
    NodePool(Arc<NodePool>),
}

/// One event. Its JSON is made when somebody first reads it.
#[derive(Debug)]
pub struct Event {
    pub topic: &'static str,
    kind: String,
    pub key: String,
    /// `None` for what is in no namespace.
    pub namespace: Option<NamespaceName>,
    pub filter_keys: Vec<String>,
    index: Index,
    row: Row,
    json: OnceLock<Bytes>,
}

impl Event {
    /// Its JSON; `made` is told the length when it is made now.
    pub fn json(&self, made: impl FnOnce(usize)) -> &Bytes {
        self.json.get_or_init(|| {
            let wire = Wire {
                topic: self.topic,
                kind: &self.kind,
                key: &self.key,
                namespace: self.namespace.as_ref().map_or("", |name| name.as_str()),
                filter_keys: (!self.filter_keys.is_empty()).then_some(&self.filter_keys),
                index: self.index,
                payload: payload(&self.row),
            };
            let json = serde_json::to_vec(&wire).unwrap_or_default();
            made(json.len());
            json.into()
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    topic: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
    key: &'a str,
    namespace: &'a str,
    filter_keys: Option<&'a Vec<String>>,
    index: Index,
    payload: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Job {
        #[serde(rename = "Job")]
        job: &'a Job,
        #[serde(rename = "Deleted", skip_serializing_if = "std::ops::Not::not")]
        deleted: bool,
    },
    Evaluation {
        #[serde(rename = "Evaluation")]
        row: &'a Evaluation,
    },
    Allocation {
        #[serde(rename = "Allocation")]
        row: Box<WithoutJob>,
    },
    Deployment {
        #[serde(rename = "Deployment")]
        row: &'a Deployment,
    },
    Node {
        #[serde(rename = "Node")]
        row: Box<model::Node>,
    },
    NodePool {
        #[serde(rename = "NodePool")]
        row: &'a NodePool,
    },
}

/// An allocation whose job is said to be left out.
#[derive(Serialize)]
struct WithoutJob {
    #[serde(flatten)]
    row: Allocation,
    #[serde(rename = "Job")]
    job: (),
}

fn payload(row: &Row) -> Payload<'_> {
    match row {
        Row::Job(job, deleted) => Payload::Job { job, deleted: *deleted },
        Row::Evaluation(row) => Payload::Evaluation { row },
        Row::Allocation(row) => {
            let bare = Allocation {
                job: None,
                job_version: None,
                job_incarnation: None,
                signed_identities: Default::default(),
                ..Allocation::clone(row)
            };
            Payload::Allocation { row: Box::new(WithoutJob { row: allocs::expanded(bare), job: () }) }
        }
        Row::Deployment(row) => Payload::Deployment { row },
        Row::Node(node) => Payload::Node { row: Box::new(nodes::public(node)) },
        Row::NodePool(row) => Payload::NodePool { row },
    }
}

/// The events of a line. `before` is the state before it, or somewhat earlier; `after` the one after it.
pub fn events(before: &State, after: &State, line: &FeedLine) -> Vec<Event> {
    let mut found = Found { line, places: HashMap::new(), events: Vec::new() };
    for change in &line.changes {
        found.add(before, after, change);
    }
    found.events
}

struct Found<'a> {
    line: &'a FeedLine,
    places: HashMap<(&'static str, String, String), usize>,
    events: Vec<Event>,
}

impl Found<'_> {
    fn add(&mut self, before: &State, after: &State, change: &Change) {
        match change {
            Change::Job(job) => self.job(Arc::clone(job)),
            Change::JobStatus { namespace, id, .. } => {
                after.job(namespace, id).cloned().into_iter().for_each(|job| self.job(job));
            }
            Change::JobGone { namespace, id } => self.job_gone(before.job(namespace, id).cloned(), namespace, id),
            Change::Eval(row) => {
                let keys = keys([row.job_id.as_str(), row.deployment_id.as_str()]);
                let namespace = Some(row.namespace.clone());
                self.put("Evaluation", row.id.to_string(), namespace, keys, Row::Evaluation(Arc::clone(row)));
            }
            Change::Alloc(row) => self.alloc(Arc::clone(row)),
            Change::AllocClient { update, .. } => {
                after.alloc(&update.id).cloned().into_iter().for_each(|row| self.alloc(row));
            }
            Change::Deployment(row) => {
                let keys = keys([row.job_id.as_str()]);
                let namespace = Some(row.namespace.clone());
                self.put("Deployment", row.id.to_string(), namespace, keys, Row::Deployment(Arc::clone(row)));
            }
            Change::Node(node) => self.put("Node", node.id.to_string(), None, Vec::new(), Row::Node(Arc::clone(node))),
            Change::NodeGone { id } => {
                let gone = before.node(id).cloned();
                let gone = gone.unwrap_or_else(|| Arc::new(Node { id: id.clone(), ..Node::default() }));
                self.put("Node", id.to_string(), None, Vec::new(), Row::Node(gone));
                self.rename("NodeDeregistration");
            }
            Change::NodePool(row) => {
                self.put("NodePool", row.name.clone(), None, Vec::new(), Row::NodePool(Arc::clone(row)));
            }
            Change::NodePoolGone { name } => {
                let gone = before.node_pool(name).cloned();
                let gone = gone.unwrap_or_else(|| Arc::new(NodePool { name: name.clone(), ..NodePool::default() }));
                self.put("NodePool", name.clone(), None, Vec::new(), Row::NodePool(gone));
                self.rename("NodePoolDeleted");
            }
            // Rows that nobody reads about, and rows whose end is no news.
            _ => {}
        }
    }

    fn job(&mut self, job: Arc<Job>) {
        let (namespace, id) = job.key();
        self.put("Job", id.to_string(), Some(namespace), Vec::new(), Row::Job(job, false));
    }

    fn job_gone(&mut self, job: Option<Arc<Job>>, namespace: &NamespaceName, id: &JobId) {
        let bare = || Arc::new(Job { id: Some(id.clone()), namespace: Some(namespace.clone()), ..Job::default() });
        let row = Row::Job(job.unwrap_or_else(bare), true);
        self.put("Job", id.to_string(), Some(namespace.clone()), Vec::new(), row);
    }

    fn alloc(&mut self, row: Arc<Allocation>) {
        let keys = keys([row.job_id.as_str(), row.deployment_id.as_str()]);
        self.put("Allocation", row.id.to_string(), Some(row.namespace.clone()), keys, Row::Allocation(row));
    }

    fn put(
        &mut self,
        topic: &'static str,
        key: String,
        namespace: Option<NamespaceName>,
        filter_keys: Vec<String>,
        row: Row,
    ) {
        let kind = if self.line.cause.is_empty() { usual(topic) } else { &self.line.cause };
        let (kind, index) = (kind.to_owned(), self.line.index);
        let place = (topic, namespace.as_ref().map(ToString::to_string).unwrap_or_default(), key.clone());
        let event = Event { topic, kind, key, namespace, filter_keys, index, row, json: OnceLock::new() };
        match self.places.get(&place) {
            Some(at) => self.events[*at] = event,
            None => {
                self.places.insert(place, self.events.len());
                self.events.push(event);
            }
        }
    }

    /// The last event is of this type, whatever the command was.
    fn rename(&mut self, kind: &str) {
        if let Some(last) = self.events.last_mut() {
            kind.clone_into(&mut last.kind);
        }
    }
}

/// The type of events of a topic whose command has no word of its own.
fn usual(topic: &str) -> &'static str {
    match topic {
        "Job" => "JobRegistered",
        "Evaluation" => "EvaluationUpdated",
        "Allocation" => "AllocationUpdated",
        "Deployment" => "DeploymentStatusUpdate",
        "Node" => "NodeStreamEvent",
        _ => "NodePoolUpserted",
    }
}

fn keys<const N: usize>(all: [&str; N]) -> Vec<String> {
    all.into_iter().filter(|key| !key.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cause: &str, changes: Vec<Change>) -> FeedLine {
        let cause = cause.to_owned();
        FeedLine { index: Index(7), previous: Index(6), epoch: "e".into(), hash: String::new(), cause, changes }
    }

    fn json(event: &Event) -> serde_json::Value {
        serde_json::from_slice(event.json(drop)).unwrap()
    }

    #[test]
    fn a_row_that_one_command_changed_twice_is_told_once_as_it_stands_in_the_end() {
        let eval = |status| {
            let row = Evaluation { id: "e".into(), namespace: "default".into(), status, ..Evaluation::default() };
            Change::Eval(Arc::new(row))
        };
        let line = line("PlanResult", vec![eval(model::EvalStatus::Pending), eval(model::EvalStatus::Complete)]);
        let events = events(&State::default(), &State::default(), &line);
        assert_eq!(events.len(), 1);
        let json = json(&events[0]);
        assert_eq!(json["Payload"]["Evaluation"]["Status"], "complete");
        assert_eq!(
            (&json["Type"], &json["Topic"], &json["Index"]),
            (&"PlanResult".into(), &"Evaluation".into(), &7.into())
        );
        assert!(json["FilterKeys"].is_null());
    }

    #[test]
    fn no_event_shows_a_node_s_secret_or_an_allocation_s_job() {
        let node = Node { id: "n".into(), secret_id: "hush".into(), ..Node::default() };
        let alloc = Allocation {
            id: "a".into(),
            job: Some(Arc::new(Job::default())),
            job_id: "j".into(),
            ..Allocation::default()
        };
        let line = line("", vec![Change::Node(Arc::new(node)), Change::Alloc(Arc::new(alloc))]);
        let events = events(&State::default(), &State::default(), &line);
        assert!(!String::from_utf8_lossy(events[0].json(drop)).contains("hush"));
        let json = json(&events[1]);
        assert!(json["Payload"]["Allocation"].as_object().unwrap()["Job"].is_null());
        assert_eq!(json["FilterKeys"], serde_json::json!(["j"]));
        assert_eq!(json["Type"], "AllocationUpdated");
    }

    #[test]
    fn a_purged_job_is_told_as_it_was_and_as_deleted() {
        let mut before = State::default();
        let job = Job { id: Some("j".into()), namespace: Some("default".into()), priority: Some(77), ..Job::default() };
        before.commit(Index(3), &Change::Job(Arc::new(job)));
        let gone = Change::JobGone { namespace: "default".into(), id: "j".into() };
        let events = events(&before, &State::default(), &line("JobDeregistered", vec![gone]));
        let json = json(&events[0]);
        assert_eq!(json["Payload"]["Deleted"], true);
        assert_eq!(json["Payload"]["Job"]["Priority"], 77);
    }
}
