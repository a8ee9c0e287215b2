//! A worker's session with the active broker: an open stream, beats, and a way to end.

use std::sync::Arc;
use std::time::Duration;

use api::broker::{BEAT, SESSIONS, SessionBeat, SessionOpen, SessionOpened};
use client::active::{Active, ActiveError};
use client::http::{Call, Http, Target};
use model::JobKind;
use tokio_util::sync::{CancellationToken, DropGuard};

const CALL: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(3);
const LINE_BYTES_MAX: usize = 4 << 10;

/// An open session. Dropping it closes it.
pub struct Session {
    pub name: Arc<str>,
    pub target: Target,
    /// Ends when the session does, whatever the reason.
    pub ended: CancellationToken,
    _close: DropGuard,
}

impl Session {
    /// Opens one with whoever holds the broker's lease.
    ///
    /// # Errors
    /// Nobody holds it, or it does not answer.
    pub async fn open(http: &Http, broker: &Active, worker: &str) -> Result<Self, ActiveError> {
        let target = broker.target()?;
        let kinds = vec![JobKind::Service, JobKind::Batch, JobKind::System, JobKind::SysBatch];
        let call = Call::post(SESSIONS, CALL).json(&SessionOpen { name: worker.to_owned(), kinds })?;
        let mut lines = http.open(&target, call, SILENCE).await?.lines(LINE_BYTES_MAX);
        let first = lines.next().await?.unwrap_or_default();
        let opened: SessionOpened = serde_json::from_slice(&first)
            .map_err(|source| ActiveError::Call(client::error::CallError::Decode { addr: target.addr, source }))?;
        let ended = CancellationToken::new();
        let name: Arc<str> = opened.session.into();
        let stream_end = ended.clone();
        tokio::spawn(async move {
            let _ = stream_end.run_until_cancelled(async { while let Ok(Some(_)) = lines.next().await {} }).await;
            stream_end.cancel();
        });
        tokio::spawn(beat(http.clone(), target.clone(), Arc::clone(&name), ended.clone()));
        Ok(Self { name, target, _close: ended.clone().drop_guard(), ended })
    }
}

/// Beats until the session is over. A broker that does not know it any more ends it.
async fn beat(http: Http, target: Target, name: Arc<str>, ended: CancellationToken) {
    let beat = SessionBeat { session: name.to_string() };
    let pause = || client::calm::about(Duration::from_millis(api::broker::BEAT_MS));
    while ended.run_until_cancelled(pause()).await.is_some() {
        let Ok(call) = Call::post(BEAT, CALL).json(&beat) else { return };
        if let Err(error) = http.call(&target, call).await
            && error.status().is_some()
        {
            ended.cancel();
            return;
        }
    }
}
