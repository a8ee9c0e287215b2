//! Where is the one process that owns a piece of work? In the lease's row: no registry beside the log.

use std::net::SocketAddr;
use std::time::Duration;

use fsm::LeaseName;
use model::Role;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::http::{Http, Target};
use crate::replica::Replica;

/// A call to the owner did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ActiveError {
    #[error("nobody holds the {0:?} lease at the moment")]
    Nobody(LeaseName),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Caller of whoever holds a lease.
#[derive(Clone)]
pub struct Active {
    http: Http,
    replica: Replica,
    lease: LeaseName,
}

impl Active {
    pub fn new(http: Http, replica: Replica, lease: LeaseName) -> Self {
        Self { http, replica, lease }
    }

    /// Where the owner serves.
    ///
    /// # Errors
    /// [`ActiveError::Nobody`].
    pub fn target(&self) -> Result<Target, ActiveError> {
        let state = self.replica.state();
        let role = match self.lease {
            LeaseName::Broker => Role::Broker,
            LeaseName::Applier => Role::Applier,
            LeaseName::Controller => Role::Controller,
        };
        state
            .lease(self.lease)
            .filter(|lease| !lease.holder.is_empty())
            .and_then(|lease| lease.addr.parse::<SocketAddr>().ok())
            .map(|addr| Target::new(addr, role))
            .ok_or(ActiveError::Nobody(self.lease))
    }

    /// One call, answered at once.
    ///
    /// # Errors
    /// See [`ActiveError`].
    pub async fn post<Req: Serialize + ?Sized, Resp: DeserializeOwned>(
        &self,
        path: &str,
        body: &Req,
        within: Duration,
    ) -> Result<Resp, ActiveError> {
        Ok(self.http.post_json(self.target()?, path, body, within).await?)
    }

    /// One call that is answered when there is something to say.
    ///
    /// # Errors
    /// See [`ActiveError`].
    pub async fn poll<Req: Serialize + ?Sized, Resp: DeserializeOwned>(
        &self,
        path: &str,
        body: &Req,
        within: Duration,
    ) -> Result<Resp, ActiveError> {
        Ok(self.http.poll_json(self.target()?, path, body, within).await?)
    }
}
