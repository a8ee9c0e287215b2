//! Finding things by the beginning of their id, or by a part of their name.
//!
//! A context is a kind of thing. Kinds that this cluster does not have yet (volumes, plugins, variables)
//! are known and empty.
//!
//! Limits: [`MATCHES_MAX`] matches of a context, then its truncation is said.

use std::collections::BTreeMap;

use api::search::{FuzzyMatch, FuzzySearchRequest, SearchRequest, SearchResponse};
use axum::extract::State;
use fsm::{State as Rows, Table};
use model::{Job, NamespaceName, Task};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WriteParams;
use crate::answer::Meta;
use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::read::{fresh, meta};

/// Matches of one context.
const MATCHES_MAX: usize = 20;
/// Matches of a fuzzy search that are put in order before the best are answered.
const CANDIDATES_MAX: usize = 10_000;
const TEXT_CHARS_MIN: usize = 2;
const TEXT_BYTES_MAX: usize = 1024;

/// Contexts by the beginning of an id, in the words of the API.
const CONTEXTS: [&str; 12] = [
    "allocs",
    "deployment",
    "evals",
    "host_volumes",
    "jobs",
    "namespaces",
    "node_pools",
    "nodes",
    "plugins",
    "scaling_policy",
    "vars",
    "volumes",
];
/// What a fuzzy search of jobs finds, besides jobs.
const IN_JOBS: [&str; 6] = ["groups", "tasks", "services", "images", "commands", "classes"];

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(search)).routes(routes!(fuzzy))
}

/// Search by the beginning of ids
#[utoipa::path(post, path = "/v1/search", operation_id = "search", tag = "search",
    request_body(content = SearchRequest, example = json!({"Prefix": "he", "Context": "jobs"})), params(WriteParams),
    responses(
        (status = 200, description = "Ids by context", body = SearchResponse<String>),
        (status = 400, description = "There is no such context", body = String, content_type = "text/plain")))]
async fn search(State(app): State<App>, options: Options, body: Whole) -> Answered {
    let (request, _) = body.decode::<SearchRequest>(&options)?;
    check_text(&request.prefix)?;
    let contexts = contexts(&request.context)?;
    let options = within(options, &request.namespace);
    let view = fresh(&app, options.stale || request.allow_stale).await?;
    let meta = meta(&app, options.stale, newest(&view.state));
    let mut found = Found::default();
    for context in contexts {
        found.take(context, ids(&view.state, &options, context, &request.prefix));
    }
    options.style.read(&found.response(&meta), &meta)
}

/// Search by parts of names
///
/// Letter case does not matter; the closest matches come first.
#[utoipa::path(post, path = "/v1/search/fuzzy", operation_id = "searchFuzzy", tag = "search",
    request_body(content = FuzzySearchRequest, example = json!({"Text": "ello", "Context": "all"})), params(WriteParams),
    responses(
        (status = 200, description = "Names by context, and where they are", body = SearchResponse<FuzzyMatch>),
        (status = 400, description = "The text is too short, or there is no such context", body = String, content_type = "text/plain")))]
async fn fuzzy(State(app): State<App>, options: Options, body: Whole) -> Answered {
    let (request, _) = body.decode::<FuzzySearchRequest>(&options)?;
    check_text(&request.text)?;
    let count = request.text.chars().count();
    if count < TEXT_CHARS_MIN {
        let text = format!("fuzzy search query must be at least {TEXT_CHARS_MIN} characters, got {count}");
        return Err(ApiError::bad(text));
    }
    let contexts = contexts(&request.context)?;
    let options = within(options, &request.namespace);
    let view = fresh(&app, options.stale || request.allow_stale).await?;
    let meta = meta(&app, options.stale, newest(&view.state));
    let text = request.text.to_lowercase();
    let mut hits = Hits { text, by_context: BTreeMap::new() };
    let mut found = Found::default();
    for context in contexts {
        match context {
            "jobs" => {
                view.state.jobs().filter(|job| options.shows(&job.namespace())).for_each(|job| hits.job(job));
                for context in IN_JOBS {
                    found.take_ordered(context, hits.ordered(context));
                }
            }
            "nodes" => view.state.nodes().for_each(|node| hits.add("nodes", &node.name, || vec![node.id.to_string()])),
            "allocs" => view.state.allocs().filter(|alloc| options.shows(&alloc.namespace)).for_each(|alloc| {
                hits.add("allocs", &alloc.name, || vec![alloc.namespace.to_string(), alloc.id.to_string()]);
            }),
            "namespaces" => view.state.namespaces().for_each(|row| hits.add("namespaces", &row.name, Vec::new)),
            "node_pools" => view.state.node_pools().for_each(|row| hits.add("node_pools", &row.name, Vec::new)),
            // Of these there is only an id.
            _ => {
                let ids = ids(&view.state, &options, context, &request.text);
                found.take(context, ids.map(|id| FuzzyMatch { id, scope: Vec::new() }));
                continue;
            }
        }
        found.take_ordered(context, hits.ordered(context));
    }
    options.style.read(&found.response(&meta), &meta)
}

fn check_text(text: &str) -> Result<(), ApiError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ApiError::bad(format!("what is searched for has at most {TEXT_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn contexts(asked: &str) -> Result<Vec<&'static str>, ApiError> {
    if matches!(asked, "all" | "") {
        return Ok(CONTEXTS.to_vec());
    }
    let known = CONTEXTS.iter().find(|context| **context == asked);
    known.map(|context| vec![*context]).ok_or_else(|| {
        let all = CONTEXTS.join(" ");
        ApiError::bad(format!("context must be one of [{all}] or 'all' for all contexts; got {asked:?}"))
    })
}

/// The namespace of the query goes before that of the body.
fn within(options: Options, body: &str) -> Options {
    let own = (!body.is_empty()).then(|| NamespaceName::from(body));
    Options { namespace: options.namespace.clone().or(own), ..options }
}

fn newest(state: &Rows) -> model::Index {
    let tables = [Table::Jobs, Table::Allocs, Table::Evals, Table::Deployments, Table::Nodes, Table::NodePools];
    tables.iter().map(|table| state.table_index(*table)).max().unwrap_or_default()
}

type Ids<'a> = Box<dyn Iterator<Item = String> + 'a>;

/// The ids of a context that begin so.
fn ids<'a>(state: &'a Rows, options: &'a Options, context: &str, prefix: &'a str) -> Ids<'a> {
    let all: Ids<'a> = match context {
        "allocs" => Box::new(state.allocs().filter(|row| options.shows(&row.namespace)).map(|row| row.id.to_string())),
        "deployment" => {
            Box::new(state.deployments().filter(|row| options.shows(&row.namespace)).map(|row| row.id.to_string()))
        }
        "evals" => Box::new(state.evals().filter(|row| options.shows(&row.namespace)).map(|row| row.id.to_string())),
        "jobs" => Box::new(state.jobs().filter(|job| options.shows(&job.namespace())).map(|job| job.id().to_string())),
        "namespaces" => Box::new(state.namespaces().map(|row| row.name.clone())),
        "node_pools" => Box::new(state.node_pools().map(|row| row.name.clone())),
        "nodes" => Box::new(state.nodes().map(|row| row.id.to_string())),
        "scaling_policy" => {
            let policies =
                super::scaling_policies::policies(state).filter(|(namespace, _, _)| options.shows(namespace));
            Box::new(policies.map(|(_, _, policy)| policy.id.clone()))
        }
        _ => Box::new(std::iter::empty()),
    };
    Box::new(all.filter(move |id| id.starts_with(prefix)))
}

/// Matches by context, within their limit.
struct Found<T> {
    matches: BTreeMap<String, Vec<T>>,
    truncations: BTreeMap<String, bool>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { matches: BTreeMap::new(), truncations: BTreeMap::new() }
    }
}

impl<T> Found<T> {
    fn take(&mut self, context: &str, found: impl Iterator<Item = T>) {
        self.take_ordered(context, found.take(MATCHES_MAX + 1).collect());
    }

    fn take_ordered(&mut self, context: &str, mut found: Vec<T>) {
        self.truncations.insert(context.to_owned(), found.len() > MATCHES_MAX);
        found.truncate(MATCHES_MAX);
        self.matches.insert(context.to_owned(), found);
    }

    fn response(self, meta: &Meta) -> SearchResponse<T> {
        SearchResponse {
            matches: self.matches,
            truncations: self.truncations,
            index: meta.index,
            last_contact: model::Nanos::default(),
            known_leader: meta.known_leader,
            next_token: String::new(),
        }
    }
}

/// Names that hold the text, with where in the name it is.
struct Hits {
    text: String,
    by_context: BTreeMap<&'static str, Vec<(usize, FuzzyMatch)>>,
}

impl Hits {
    fn add(&mut self, context: &'static str, name: &str, scope: impl FnOnce() -> Vec<String>) {
        let Some(at) = name.to_lowercase().find(&self.text) else { return };
        let hits = self.by_context.entry(context).or_default();
        let hit = FuzzyMatch { id: name.to_owned(), scope: scope() };
        if hits.len() < CANDIDATES_MAX && !hits.iter().any(|(_, other)| *other == hit) {
            hits.push((at, hit));
        }
    }

    /// A job, and what is named in it.
    fn job(&mut self, job: &Job) {
        let of_job = [job.namespace().to_string(), job.id().to_string()];
        let scope = |more: &[&str]| {
            let more = more.iter().map(|part| (*part).to_owned());
            of_job.iter().cloned().chain(more).collect::<Vec<_>>()
        };
        self.add("jobs", job.name(), || scope(&[]));
        for group in &job.task_groups {
            self.add("groups", group.name(), || scope(&[]));
            for service in &group.services {
                self.add("services", &service.name, || scope(&[group.name()]));
            }
            for task in &group.tasks {
                self.add("tasks", &task.name, || scope(&[group.name()]));
                for service in &task.services {
                    self.add("services", &service.name, || scope(&[group.name(), &task.name]));
                }
                if let Some((context, value)) = what_runs(task) {
                    self.add(context, &value, || scope(&[group.name(), &task.name]));
                }
            }
        }
    }

    /// The hits of a context, the closest first: by place, then the shorter, then by letters.
    fn ordered(&mut self, context: &str) -> Vec<FuzzyMatch> {
        let mut hits = self.by_context.remove(context).unwrap_or_default();
        hits.sort_by(|(a, x), (b, y)| (a, x.id.len(), &x.id, &x.scope).cmp(&(b, y.id.len(), &y.id, &y.scope)));
        hits.into_iter().map(|(_, hit)| hit).collect()
    }
}

/// The image, command or class that a task runs.
fn what_runs(task: &Task) -> Option<(&'static str, String)> {
    let (context, key) = match task.driver.as_str() {
        "docker" => ("images", "image"),
        "exec" | "raw_exec" => ("commands", "command"),
        "java" => ("classes", "class"),
        _ => return None,
    };
    task.config.get(key).and_then(Value::as_str).map(|value| (context, value.to_owned()))
}
