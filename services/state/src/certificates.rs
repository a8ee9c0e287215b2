//! The cluster's certificate authority: only a state server holds its key.

use std::path::Path;
use std::time::Duration;

use api::state::SignRequest;
use kit::pki::{Authority, PkiError};

/// How long a certificate that is signed here lasts.
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

pub struct Signer {
    authority: Authority,
    region: String,
}

impl Signer {
    /// `None` when this server does not hold the key.
    ///
    /// # Errors
    /// The key is there and cannot be used.
    pub fn load(dir: Option<&Path>, region: &str) -> Result<Option<Self>, PkiError> {
        let Some(dir) = dir else { return Ok(None) };
        Ok(Some(Self { authority: Authority::load(dir)?, region: region.to_owned() }))
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// What introduction tokens are made with.
    pub fn introduction_key(&self) -> Vec<u8> {
        self.authority.introduction_key()
    }

    /// # Errors
    /// The request cannot be used.
    pub fn sign(&self, request: &SignRequest) -> Result<String, PkiError> {
        let SignRequest { csr, role, name, admission } = request;
        self.authority.sign_csr_of(csr, *role, name, &self.region, LIFETIME, admission)
    }
}
