//! The OpenAPI documents, generated from the handlers and checked in.

use std::path::PathBuf;

use anyhow::Context as _;

pub mod complete;
pub mod example;

/// Every service's document as the handlers say it now: (service, JSON text).
///
/// # Errors
/// A document cannot be written as JSON.
pub fn generate() -> anyhow::Result<Vec<(&'static str, String)>> {
    let documents = [
        ("agent", agent::openapi()),
        ("applier", applier::openapi()),
        ("broker", broker::openapi()),
        ("controller", controller::openapi()),
        ("gateway", gateway::openapi()),
        ("scheduler", scheduler::openapi()),
        ("state", state::openapi()),
    ];
    documents
        .into_iter()
        .map(|(service, document)| {
            let said = || format!("document of {service}");
            let mut document = serde_json::to_value(&document).with_context(said)?;
            complete::complete(&mut document, service);
            let mut text = serde_json::to_string_pretty(&document).with_context(said)?;
            text.push('\n');
            Ok((service, text))
        })
        .collect()
}

/// Where a service's document is kept.
pub fn path(service: &str) -> PathBuf {
    crate::root().join("openapi").join(format!("{service}.json"))
}
