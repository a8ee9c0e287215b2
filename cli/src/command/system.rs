//! `system …`: the cluster put in order by hand.

use bytes::Bytes;
use client::public::Query;
use http::Method;

use super::{Cx, Failure};

pub async fn gc(cx: &mut Cx) -> Result<u8, Failure> {
    put(cx, "/v1/system/gc", "Error running system garbage-collection").await
}

pub async fn reconcile_summaries(cx: &mut Cx) -> Result<u8, Failure> {
    put(cx, "/v1/system/reconcile/summaries", "Error running system summary reconciliation").await
}

async fn put(cx: &mut Cx, path: &str, doing: &str) -> Result<u8, Failure> {
    let body = Some(("application/json", Bytes::from_static(b"{}")));
    let sent = cx.writer()?.send(Method::PUT, path, &Query::default(), body).await;
    sent.map_err(|error| Failure::api(doing, &error))?;
    Ok(0)
}
