//! `status`: shows whatever an identifier names.

use client::public::Query;
use model::alloc::AllocStub;
use model::node::NodeListStub;
use model::{Deployment, Evaluation};
use serde_json::Value;

use super::{Cx, Failure, alloc_status, deployment, eval, job_status, lookup, namespace, node_pool, node_status};
use crate::format::count;

/// What was found, by kind.
enum Found {
    Job(String, String),
    Alloc(String),
    Node(String),
    Eval(String),
    Deployment(String),
    Namespace(String),
    Pool(String),
}

/// Namespaces and node pools that the text names; the beginning of a name does only where nothing else is meant.
async fn names(cx: &Cx, typed: &str, whole: bool) -> Vec<Found> {
    let query = Query { prefix: Some(typed.to_owned()), ..Query::default() };
    let mut found = Vec::new();
    for (path, kind) in [("/v1/namespaces", Found::Namespace as fn(String) -> Found), ("/v1/node/pools", Found::Pool)] {
        let asked = cx.client.get::<Option<Vec<Value>>>(path, &query).await;
        // An API that answered for jobs and does not for these has none.
        let rows = asked.ok().and_then(|(rows, _)| rows).unwrap_or_default();
        let names = rows.iter().filter_map(|row| row["Name"].as_str()).filter(|name| !whole || *name == typed);
        found.extend(names.map(|name| kind(name.to_owned())));
    }
    found
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    if cx.flags.args.is_empty() {
        return job_status::list(cx, false).await;
    }
    let typed = cx.arg(0).to_owned();
    let query = Query { prefix: Some(typed.clone()), ..Query::default() };
    let jobs = lookup::jobs(cx, &query).await?;
    if let Some(exact) = jobs.iter().find(|job| job.id == typed.as_str()) {
        let (id, namespace) = (exact.id.to_string(), exact.namespace.to_string());
        return job_status::one(cx, &id, &namespace, false).await;
    }
    let mut found: Vec<Found> = jobs.iter().map(|j| Found::Job(j.id.to_string(), j.namespace.to_string())).collect();
    // A single digit would match nearly everything.
    if typed.len() > 1 {
        found.extend(lookup::matching::<AllocStub>(cx, &typed).await?.iter().map(|a| Found::Alloc(a.id.to_string())));
        found.extend(lookup::matching::<NodeListStub>(cx, &typed).await?.iter().map(|n| Found::Node(n.id.to_string())));
        found.extend(lookup::matching::<Evaluation>(cx, &typed).await?.iter().map(|e| Found::Eval(e.id.to_string())));
        let deployments = lookup::matching::<Deployment>(cx, &typed).await?;
        found.extend(deployments.iter().map(|d| Found::Deployment(d.id.to_string())));
    }
    found.extend(names(cx, &typed, true).await);
    if found.is_empty() {
        found = names(cx, &typed, false).await;
    }
    match found.as_slice() {
        [] => {
            // Its error names the nearest job.
            let failure = lookup::job(cx, &typed).await.err();
            let hint = failure.and_then(|failure| failure.hint);
            let failure = Failure::new(format!("Unable to resolve ID: {typed:?}"));
            Err(hint.map_or(failure.clone(), |hint| failure.hint(hint)))
        }
        [Found::Job(id, namespace)] => job_status::one(cx, id, namespace, false).await,
        [Found::Alloc(id)] => alloc_status::one(cx, id, false).await,
        [Found::Node(id)] => node_status::one(cx, id, false).await,
        [Found::Eval(id)] => eval::one(cx, id, false).await,
        [Found::Deployment(id)] => deployment::one(cx, id, false).await,
        [Found::Namespace(_)] => namespace::status(cx).await,
        [Found::Pool(_)] => node_pool::info(cx).await,
        many => {
            let lines = many.iter().map(|one| match one {
                Found::Job(id, _) => format!("  job         {id}"),
                Found::Alloc(id) => format!("  allocation  {id}"),
                Found::Node(id) => format!("  node        {id}"),
                Found::Eval(id) => format!("  evaluation  {id}"),
                Found::Deployment(id) => format!("  deployment  {id}"),
                Found::Namespace(name) => format!("  namespace   {name}"),
                Found::Pool(name) => format!("  node pool   {name}"),
            });
            Err(Failure::new(format!(
                "Multiple matches found for id {typed:?}: {}\n{}",
                count(many.len(), "row"),
                lines.take(50).collect::<Vec<_>>().join("\n")
            )))
        }
    }
}
