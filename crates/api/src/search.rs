//! Search by prefix and by parts of names, in the compatible wire form.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use model::{Index, Nanos, nil};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `SearchRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct SearchRequest {
    pub prefix: String,
    /// `jobs`, `nodes` …, or `all`.
    pub context: String,
    pub region: String,
    pub namespace: String,
    pub allow_stale: bool,
    pub auth_token: String,
}

/// `FuzzySearchRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct FuzzySearchRequest {
    pub text: String,
    pub context: String,
    pub region: String,
    pub namespace: String,
    pub prefix: String,
    pub allow_stale: bool,
    pub auth_token: String,
}

/// `SearchResponse` and `FuzzySearchResponse` on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct SearchResponse<T> {
    pub matches: BTreeMap<String, Vec<T>>,
    /// Whether there is more than is answered.
    pub truncations: BTreeMap<String, bool>,
    pub index: Index,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
}

/// `FuzzyMatch` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct FuzzyMatch {
    #[serde(rename = "ID")]
    pub id: String,
    /// Where it is: namespace, job, group, task.
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub scope: Vec<String>,
}
