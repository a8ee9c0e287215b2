//! `steppe node intro create`.

use client::public::Query;
use kit::introduction::Wish;
use serde_json::{Value, json};

use super::{Cx, Failure, machine};

/// Said before anybody is asked: with the flag's name.
fn check(cx: &Cx) -> Result<(), Failure> {
    let ttl = cx.flags.text("ttl");
    // What is no time is none above zero either.
    let ttl_ns = (!ttl.is_empty()).then(|| model::time::parse_go_duration(ttl).map_or(0, |span| span.0));
    let wish = Wish { node_name: cx.flags.text("node-name"), node_pool: cx.flags.text("node-pool"), ttl_ns };
    wish.check().map_err(|(what, why)| {
        let flag = match what {
            "TTL" => "ttl",
            "NodePool" => "node-pool",
            _ => "node-name",
        };
        Failure::new(format!("Error creating introduction token: -{flag}={}: {why}", cx.flags.text(flag)))
    })
}

/// # Errors
/// The cluster makes no token.
pub async fn create(cx: &mut Cx) -> Result<u8, Failure> {
    check(cx)?;
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
