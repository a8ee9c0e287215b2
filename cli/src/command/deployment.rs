//! `deployment list` and `deployment status`.

use client::public::Query;
use model::Deployment;
use model::alloc::AllocStub;
use serde_json::Value;

use super::{Cx, Failure, lookup, machine, monitor, show};
use crate::format::table;

pub async fn list(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let query = Query { filter: cx.flags.some("filter").map(str::to_owned), ..Query::default() };
    let (value, _) = cx
        .client
        .get::<Value>("/v1/deployments", &query)
        .await
        .map_err(|error| Failure::api("Error retrieving deployments", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let rows: Option<Vec<Deployment>> = serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("Error retrieving deployments: {error}")))?;
    let mut rows = rows.unwrap_or_default();
    rows.sort_by_key(|row| monitor::newest(row.create_index));
    let text =
        if rows.is_empty() { "No deployments found".to_owned() } else { table(&show::deployment_rows(cx, &rows)) };
    cx.ui.line(text);
    Ok(0)
}

pub async fn status(cx: &mut Cx) -> Result<u8, Failure> {
    if cx.flags.args.is_empty() {
        return list(cx).await;
    }
    let machine = machine::wanted(cx)?;
    let found: Deployment = lookup::one(cx, cx.arg(0)).await?;
    if cx.flags.is("monitor") {
        return monitor::deployment(cx, found.id.as_str(), found.namespace.as_str()).await;
    }
    one(cx, found.id.as_str(), machine).await
}

pub async fn one(cx: &mut Cx, deployment_id: &str, machine: bool) -> Result<u8, Failure> {
    let path = format!("/v1/deployment/{deployment_id}");
    let failed = |error| Failure::api("Error retrieving deployment", &error);
    let (value, _) = cx.client.get::<Value>(&path, &Query::default()).await.map_err(failed)?;
    if machine {
        return machine::print(cx, &value);
    }
    let one: Deployment =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error retrieving deployment: {error}")))?;
    let text = show::deployment_block(cx, &one, cx.verbose());
    cx.ui.line(text);
    if cx.verbose() {
        let path = format!("/v1/deployment/allocations/{deployment_id}");
        let (allocs, _) = cx
            .client
            .get::<Option<Vec<AllocStub>>>(&path, &cx.within(one.namespace.as_str()))
            .await
            .map_err(|error| Failure::api("Error retrieving allocations of the deployment", &error))?;
        let mut allocs = allocs.unwrap_or_default();
        show::newest_first(&mut allocs);
        let text = show::section(cx, "Allocations", &table(&show::alloc_rows(cx, &allocs)));
        cx.ui.line(text);
    }
    Ok(0)
}
