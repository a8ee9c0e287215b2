//! Which row does a person mean? Ids may be shortened everywhere; several matches are listed, none is an
//! error with the nearest name.
//!
//! Ids of allocations, nodes, evaluations and deployments are UUIDs: the API is asked for an even number
//! of digits, and the rest is compared here. Jobs go by their names.

use client::public::Query;
use model::alloc::AllocStub;
use model::node::NodeListStub;
use model::summary::JobListStub;
use model::{Deployment, Evaluation};
use serde::de::DeserializeOwned;

use super::{Cx, Failure, show};
use crate::flags::nearest;
use crate::format::table;

/// A row that an id may mean.
pub trait Row: DeserializeOwned {
    /// In messages: `allocation`.
    const NOUN: &'static str;
    const NOUNS: &'static str;
    /// Where rows are listed.
    const PATH: &'static str;
    fn id(&self) -> &str;
    /// The rows as a table.
    fn listed(cx: &Cx, rows: &[Self]) -> Vec<Vec<String>>;
}

macro_rules! row {
    ($type:ty, $noun:literal, $path:literal, $listed:path) => {
        impl Row for $type {
            const NOUN: &'static str = $noun;
            const NOUNS: &'static str = concat!($noun, "s");
            const PATH: &'static str = $path;
            fn id(&self) -> &str {
                self.id.as_str()
            }
            fn listed(cx: &Cx, rows: &[Self]) -> Vec<Vec<String>> {
                $listed(cx, rows)
            }
        }
    };
}

row!(AllocStub, "allocation", "/v1/allocations", show::alloc_rows);
row!(Evaluation, "evaluation", "/v1/evaluations", show::eval_rows);
row!(Deployment, "deployment", "/v1/deployments", show::deployment_rows);
row!(NodeListStub, "node", "/v1/nodes", show::node_rows);

/// Rows whose id begins with `typed`; none if it cannot be the beginning of one.
///
/// # Errors
/// The API's.
pub async fn matching<R: Row>(cx: &Cx, typed: &str) -> Result<Vec<R>, Failure> {
    let typed = typed.trim().to_ascii_lowercase();
    let shape = |(at, c): (usize, char)| if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() };
    if typed.is_empty() || typed.len() > 36 || !typed.char_indices().all(shape) {
        return Ok(Vec::new());
    }
    let digits = typed.chars().filter(|c| *c != '-').count();
    let mut prefix = typed.clone();
    if digits % 2 == 1 {
        prefix.pop();
    }
    let prefix = prefix.trim_end_matches('-').to_owned();
    let query = Query { prefix: Some(prefix), ..Query::default() };
    let (mut rows, _) = cx
        .client
        .get::<Option<Vec<R>>>(R::PATH, &query)
        .await
        .map_err(|error| Failure::api(&format!("Error querying {}", R::NOUN), &error))?;
    let rows = rows.get_or_insert_default();
    rows.retain(|row| row.id().starts_with(&typed));
    Ok(std::mem::take(rows))
}

/// The one row that `typed` means.
///
/// # Errors
/// The id is too short, means nothing, or means several, which are listed.
pub async fn one<R: Row>(cx: &Cx, typed: &str) -> Result<R, Failure> {
    if typed.len() == 1 {
        return Err(Failure::new(format!("{} ID must contain at least two characters.", capital(R::NOUN))));
    }
    let rows = matching::<R>(cx, typed).await?;
    pick(cx, typed, rows)
}

/// The one of `rows`.
///
/// # Errors
/// There is none, or more than one.
pub fn pick<R: Row>(cx: &Cx, typed: &str, mut rows: Vec<R>) -> Result<R, Failure> {
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err(Failure::new(format!("No {}(s) with prefix or id {typed:?} found", R::NOUN))),
        _ => {
            let listed = table(&R::listed(cx, &rows));
            Err(Failure::new(format!("Prefix matched multiple {}\n\n{listed}", R::NOUNS)))
        }
    }
}

/// A job that was found, and whether its id was typed in full.
pub struct FoundJob {
    pub id: String,
    pub namespace: String,
    pub exact: bool,
}

/// The one job that `typed` means.
///
/// # Errors
/// As [`one`]; a name nothing begins with is answered with the nearest one.
pub async fn job(cx: &Cx, typed: &str) -> Result<FoundJob, Failure> {
    let typed = typed.trim();
    let query = Query { prefix: Some(typed.to_owned()), ..Query::default() };
    let rows = jobs(cx, &query).await?;
    let exact: Vec<&JobListStub> = rows.iter().filter(|row| row.id == typed).collect();
    let chosen = match (exact.as_slice(), rows.as_slice()) {
        ([one], _) => one,
        ([], [one]) => one,
        ([], []) => return Err(no_job(cx, typed).await),
        _ => {
            let listed = table(&show::job_rows(cx, &rows));
            return Err(Failure::new(format!("Prefix matched multiple jobs\n\n{listed}")));
        }
    };
    Ok(FoundJob { id: chosen.id.to_string(), namespace: chosen.namespace.to_string(), exact: chosen.id == typed })
}

/// The jobs of a query.
///
/// # Errors
/// The API's.
pub async fn jobs(cx: &Cx, query: &Query) -> Result<Vec<JobListStub>, Failure> {
    let answer = cx.client.get::<Option<Vec<JobListStub>>>("/v1/jobs", query).await;
    answer.map(|(rows, _)| rows.unwrap_or_default()).map_err(|error| Failure::api("Error querying jobs", &error))
}

async fn no_job(cx: &Cx, typed: &str) -> Failure {
    let failure = Failure::new(format!("No job(s) with prefix or ID {typed:?} found"));
    let Ok(rows) = jobs(cx, &Query::default()).await else { return failure };
    match nearest(typed, rows.iter().map(|row| row.id.as_str())) {
        Some(near) => failure.hint(format!("did you mean {near:?}?")),
        None if cx.namespace() == "default" => failure.hint("`steppe job status` lists the jobs"),
        None => failure.hint(format!("looked in namespace {:?}", cx.namespace())),
    }
}

/// The one node that `typed` means, by id or name.
///
/// # Errors
/// As [`one`].
pub async fn node(cx: &Cx, typed: &str) -> Result<NodeListStub, Failure> {
    let by_id = if typed.len() > 1 { matching::<NodeListStub>(cx, typed).await? } else { Vec::new() };
    if !by_id.is_empty() {
        return pick(cx, typed, by_id);
    }
    let answer = cx.client.get::<Option<Vec<NodeListStub>>>("/v1/nodes", &Query::default()).await;
    let (all, _) = answer.map_err(|error| Failure::api("Error querying node", &error))?;
    let all = all.unwrap_or_default();
    let near = nearest(typed, all.iter().map(|row| row.name.as_str())).map(str::to_owned);
    let exact = all.iter().any(|row| row.name == typed);
    let named = all.into_iter().filter(|row| if exact { row.name == typed } else { row.name.starts_with(typed) });
    pick(cx, typed, named.collect()).map_err(|failure| match near {
        Some(near) => failure.hint(format!("did you mean {near:?}?")),
        None => failure,
    })
}

fn capital(noun: &str) -> String {
    let mut chars = noun.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
