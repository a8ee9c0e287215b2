//! Keeps a process's certificate valid: takes up a new one from disk, and has one signed in time.
//!
//! A certificate is renewed when less than half of the authority's usual lifetime is left. The new one
//! replaces the old one's files, and all new connections use it; nothing restarts.

use std::time::{Duration, SystemTime};

use api::state::{SignRequest, Signed};
use client::http::{Http, Target};
use client::peers::Peers;
use client::tls::Identity;
use model::Role;

use crate::pki::{self, Pem};

/// With less than this left, renew.
const RENEW_BEFORE: Duration = Duration::from_secs(84 * 3600);
const CALL: Duration = Duration::from_secs(5);

/// One activation. `signer` is the role that signs, or passes the request on.
///
/// # Errors
/// Why there is no new certificate; the next activation tries again.
pub async fn tend(identity: &Identity, http: &Http, peers: &dyn Peers, signer: Role) -> Result<String, String> {
    if identity.reload_if_changed().map_err(|e| e.to_string())? {
        tracing::info!("certificate was replaced on disk and is in use");
    }
    let left = identity.not_after().duration_since(SystemTime::now()).unwrap_or_default();
    if left > RENEW_BEFORE {
        return Ok(format!("valid for {} hours", left.as_secs() / 3600));
    }
    let me = identity.me();
    let request = pki::request().map_err(|e| e.to_string())?;
    let ask = SignRequest { csr: request.csr, role: me.role, name: me.name.to_string(), admission: me.admission };
    let mut last = "nobody to ask".to_owned();
    for peer in peers.peers(signer) {
        let target = Target::new(peer.addr, signer);
        match http.post_json::<_, Signed>(target, api::state::CERTIFICATES, &ask, CALL).await {
            Ok(signed) => {
                let dir = identity.dir();
                let ca = std::fs::read_to_string(dir.join("ca.pem")).map_err(|e| e.to_string())?;
                let pem = Pem { cert: signed.certificate, key: request.key };
                pki::write_identity(dir, &ca, &pem).map_err(|e| e.to_string())?;
                identity.reload().map_err(|e| e.to_string())?;
                tracing::info!("certificate renewed");
                return Ok("renewed".to_owned());
            }
            Err(error) => last = error.to_string(),
        }
    }
    if left.is_zero() {
        let advice = "put a new one in the identity directory";
        tracing::error!(error = last, advice, "certificate has expired and cannot be renewed");
    }
    Err(format!("certificate is not renewed: {last}"))
}
