//! `scaling policy list|info`: the bounds that groups set to their counts.

use std::collections::BTreeMap;

use client::public::Query;
use model::group::ScalingPolicy;
use model::scaling::ScalingPolicyListStub;
use serde_json::Value;

use super::lookup::{self, Row};
use super::{Cx, Failure, machine, show};
use crate::format::{id, pairs, row, table};

const PATH: &str = "/v1/scaling/policies";

impl Row for ScalingPolicyListStub {
    const NOUN: &'static str = "scaling policy";
    const NOUNS: &'static str = "scaling policies";
    const PATH: &'static str = PATH;

    fn id(&self) -> &str {
        &self.id
    }

    fn listed(cx: &Cx, rows: &[Self]) -> Vec<Vec<String>> {
        let mut out = vec![row(["ID", "Enabled", "Type", "Target"])];
        out.extend(rows.iter().map(|one| {
            vec![id(&one.id, cx.verbose()), one.enabled.to_string(), one.kind.clone(), target(&one.target)]
        }));
        out
    }
}

/// From the widest to the narrowest.
fn target(target: &BTreeMap<String, String>) -> String {
    let parts = ["Namespace", "Job", "Group", "Task"].iter();
    let parts = parts.filter_map(|part| Some(format!("{part}:{}", target.get(*part)?)));
    parts.collect::<Vec<_>>().join(",")
}

pub async fn list(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let mut query = Query::default();
    for name in ["job", "type"] {
        if let Some(value) = cx.flags.some(name) {
            query = query.with(name, value);
        }
    }
    let asked = cx.client.get::<Value>(PATH, &query).await;
    let (value, _) = asked.map_err(|error| Failure::api("Error listing scaling policies", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let rows: Option<Vec<ScalingPolicyListStub>> = serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("Error listing scaling policies: {error}")))?;
    let rows = rows.unwrap_or_default();
    let text = if rows.is_empty() { "No policies found".to_owned() } else { table(&Row::listed(cx, &rows)) };
    cx.ui.line(text);
    Ok(0)
}

pub async fn info(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let stub: ScalingPolicyListStub = lookup::one(cx, cx.arg(0)).await?;
    let asked = cx.client.get::<Value>(&format!("/v1/scaling/policy/{}", stub.id), &Query::default()).await;
    let (value, _) = asked.map_err(|error| Failure::api("Error querying scaling policy", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let policy: ScalingPolicy = serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("Error querying scaling policy: {error}")))?;
    let number = |value: Option<i64>| value.map_or_else(|| "<none>".to_owned(), |value| value.to_string());
    let text = pairs(&[
        ("ID", id(&policy.id, cx.verbose())),
        ("Enabled", policy.enabled.unwrap_or(true).to_string()),
        ("Target", target(&policy.target)),
        ("Min", number(policy.min)),
        ("Max", number(policy.max)),
    ]);
    cx.ui.line(text);
    if !policy.policy.is_empty() {
        let policy = Value::Object(policy.policy.into_iter().collect());
        let text = show::section(cx, "Policy", &crate::format::json(&policy));
        cx.ui.line(text);
    }
    Ok(0)
}
