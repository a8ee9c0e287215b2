//! The cluster's keys: what encrypts variables and signs the identities of workloads.
//!
//! A root key is two secrets, one that encrypts (AES-256-GCM) and one that signs (Ed25519). What is here is
//! what everybody may know of it.

use serde::{Deserialize, Serialize};

use crate::ids::Index;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum RootKeyState {
    /// Signs and encrypts; there is one.
    #[default]
    Active,
    /// Verifies and decrypts only.
    Inactive,
    /// Its public part is told already; it signs from its publish time on.
    Prepublished,
}

/// `RootKeyMeta` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct RootKeyMeta {
    #[serde(rename = "KeyID")]
    pub key_id: String,
    pub algorithm: String,
    /// Unix nanoseconds.
    pub create_time: i64,
    pub create_index: Index,
    pub modify_index: Index,
    pub state: RootKeyState,
    /// Unix nanoseconds; 0 = it was public from the beginning.
    pub publish_time: i64,
}

/// A key's row: what is listed of it, and what verifies its signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RootKey {
    pub meta: RootKeyMeta,
    /// The Ed25519 public key, base64 without padding, URL-safe: as a JSON web key has it.
    pub public: String,
}
