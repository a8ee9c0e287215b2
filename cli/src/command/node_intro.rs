//! `steppe node intro create`.

use client::public::Query;
use serde_json::{Value, json};

use super::{Cx, Failure, machine};

/// # Errors
/// The cluster makes no token.
pub async fn create(cx: &mut Cx) -> Result<u8, Failure> {
    let body = json!({
        "TTL": cx.flags.text("ttl"),
        "NodeName": cx.flags.text("node-name"),
        "NodePool": cx.flags.text("node-pool"),
    });
    let (answer, _): (Value, _) = cx
        .client
        .put("/v1/acl/identity/client-introduction-token", &Query::default(), &body)
        .await
        .map_err(|error| Failure::new(format!("Error creating introduction token: {error}")))?;
    if machine::wanted(cx)? {
        return machine::print(cx, &answer);
    }
    let token = answer["JWT"].as_str().unwrap_or_default().to_owned();
    cx.ui.line(token);
    Ok(0)
}
