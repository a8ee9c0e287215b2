//! `eval delete`: forgets evaluations, one by its id or many by a filter. The broker must be paused.

use api::operate::{EvalDeleteRequest, EvalDeleteResponse};
use bytes::Bytes;
use client::public::{PublicError, Query};
use http::Method;
use model::Evaluation;
use serde_json::Value;

use super::{Cx, Failure, lookup};
use crate::format::count;

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let filter = cx.flags.some("filter").map(str::to_owned);
    let request = match (filter, cx.flags.args.first()) {
        (Some(_), Some(_)) => return Err(Failure::new("Please specify eval ID or filter, not both")),
        (None, None) => return Err(Failure::new("Please specify eval ID or filter")),
        (Some(filter), None) => by_filter(cx, filter).await?,
        (None, Some(_)) => by_id(cx).await?,
    };
    let Some(request) = request else {
        cx.ui.line("Eval deletion was cancelled, nothing was deleted");
        return Ok(0);
    };
    let failed = |error: PublicError| {
        let failure = Failure::api("Error deleting evaluations", &error);
        match &error {
            PublicError::Status { body, .. } if body.starts_with("eval broker is enabled") => {
                failure.hint("pause it: `steppe operator scheduler set-config -pause-eval-broker=true`")
            }
            _ => failure,
        }
    };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    let body = Some(("application/json", Bytes::from(body)));
    let answer = cx.writer()?.send(Method::DELETE, "/v1/evaluations", &Query::default(), body).await.map_err(failed)?;
    let done: EvalDeleteResponse = serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::new(format!("Error deleting evaluations: {error}")))?;
    cx.ui.line(format!("Successfully deleted {}", count(done.count, "evaluation")));
    Ok(0)
}

async fn by_id(cx: &mut Cx) -> Result<Option<EvalDeleteRequest>, Failure> {
    let typed = cx.arg(0).to_owned();
    let eval: Evaluation = lookup::one(cx, &typed).await?;
    let agreed = eval.id.as_str() == typed || agreed(cx, &format!("evaluation \"{}\"", eval.id))?;
    Ok(agreed.then(|| EvalDeleteRequest { eval_ids: vec![eval.id], ..EvalDeleteRequest::default() }))
}

async fn by_filter(cx: &mut Cx, filter: String) -> Result<Option<EvalDeleteRequest>, Failure> {
    let query = Query { filter: Some(filter.clone()), namespace: Some("*".to_owned()), ..Query::default() };
    let asked = cx.client.get::<Value>("/v1/evaluations/count", &query).await;
    let (counted, _) = asked.map_err(|error| Failure::api("Error querying evaluations", &error))?;
    let number = usize::try_from(counted["Count"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    if number == 0 {
        return Err(Failure::new("No evals found to delete"));
    }
    let agreed = agreed(cx, &count(number, "evaluation"))?;
    Ok(agreed.then(|| EvalDeleteRequest { filter, ..EvalDeleteRequest::default() }))
}

fn agreed(cx: &mut Cx, what: &str) -> Result<bool, Failure> {
    if cx.flags.is("yes") {
        return Ok(true);
    }
    if !cx.ui.interactive {
        return Err(Failure::new(format!("This would delete {what}")).hint("-yes deletes without asking"));
    }
    Ok(cx.ui.confirm(&format!("Are you sure you want to delete {what}?")))
}
