//! One reader's stream: lines as they come, a sign of life when nothing does, and a sentence at its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use kit::process::Shutdown;
use model::Index;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::log::Log;
use super::topics::Wanted;

/// A reader hears something at least this often.
pub const BEAT: Duration = Duration::from_secs(30);
/// What comes sooner after the last piece waits, so that many readers of many events cost few writes.
const PACE: Duration = Duration::from_millis(10);
const BATCHES_PER_PIECE: usize = 256;
const PIECE_BYTES: usize = 256 << 10;
const BEAT_LINE: Bytes = Bytes::from_static(b"{}\n");

/// A reader on its way through the log.
struct Reader {
    log: Arc<Log>,
    wanted: Wanted,
    after: Index,
    beat: Duration,
    last: Instant,
    wake: watch::Receiver<Index>,
    shutdown: Shutdown,
    _permit: Option<OwnedSemaphorePermit>,
    state: Step,
}

enum Step {
    First,
    Going,
    Over,
}

/// The events behind `after`, for as long as they can be given without a gap.
pub fn stream(
    log: Arc<Log>,
    wanted: Wanted,
    after: Index,
    beat: Duration,
    shutdown: Shutdown,
    permit: Option<OwnedSemaphorePermit>,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let wake = log.subscribe();
    let state = Step::First;
    let reader = Reader { log, wanted, after, beat, last: Instant::now(), wake, shutdown, _permit: permit, state };
    futures::stream::unfold(reader, |mut reader| async move { Some((Ok(reader.next().await?), reader)) })
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            Step::First => {
                self.state = Step::Going;
                return Some(BEAT_LINE);
            }
            Step::Going => {}
            Step::Over => return None,
        }
        let piece = self.piece().await;
        self.last = Instant::now();
        Some(piece)
    }

    async fn piece(&mut self) -> Bytes {
        tokio::time::sleep_until(self.last + PACE).await;
        let deadline = self.last + self.beat;
        loop {
            if self.shutdown.is_requested() {
                return self.end(&format!("this gateway ends; subscribe again with index={}", self.after.next()));
            }
            self.wake.borrow_and_update();
            let batches = match self.log.behind(self.after, BATCHES_PER_PIECE) {
                Ok(batches) => batches,
                Err(missed) => return self.end(&missed.to_string()),
            };
            let mut piece = BytesMut::new();
            for batch in &batches {
                if let Some(line) = batch.line(&self.wanted) {
                    piece.extend_from_slice(&line);
                }
                self.after = batch.index;
                if piece.len() >= PIECE_BYTES {
                    break;
                }
            }
            if !piece.is_empty() {
                return piece.freeze();
            }
            if !batches.is_empty() {
                continue;
            }
            tokio::select! {
                _ = self.wake.changed() => {}
                () = tokio::time::sleep_until(deadline) => return BEAT_LINE,
                () = self.shutdown.requested() => {}
            }
        }
    }

    /// The last line says why.
    fn end(&mut self, why: &str) -> Bytes {
        self.state = Step::Over;
        tracing::info!(after = self.after.get(), why, "event stream ended");
        format!("{}\n", json!({ "Err": why })).into()
    }
}
