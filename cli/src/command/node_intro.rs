//! `steppe node intro create`.

use client::public::Query;
use serde_json::{Value, json};

use super::{Cx, Failure, machine};

/// A token that no machine could use is not made.
fn check(cx: &Cx) -> Result<(), Failure> {
    let wrong = |flag: &str, why: &str| {
        Failure::new(format!("Error creating introduction token: -{flag}={}: {why}", cx.flags.text(flag)))
    };
    let ttl = cx.flags.text("ttl");
    if !ttl.is_empty() && model::time::parse_go_duration(ttl).is_none_or(|span| span.0 <= 0) {
        return Err(wrong("ttl", "it is a time above zero, such as 5m"));
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let pool = cx.flags.text("node-pool");
    if pool == "all" {
        return Err(wrong("node-pool", "no node is in pool `all` by its own word: every node is"));
    }
    if pool.len() > 128 || !pool.bytes().all(name) {
        return Err(wrong("node-pool", "it is letters, digits, `-` and `_`, at most 128"));
    }
    let node = cx.flags.text("node-name");
    if node.len() > 128 || !node.bytes().all(|byte| name(byte) || byte == b'.') {
        return Err(wrong("node-name", "it is letters, digits, `-` and `_`, in parts joined by dots"));
    }
    Ok(())
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
