//! Bodies that go on: the feed, and snapshots written by a blocking thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fsm::State;
use futures::Stream;
use kit::process::Shutdown;
use model::Index;
use tokio::sync::mpsc;

use crate::feed::{Feed, TableSet};

/// A follower hears something at least this often.
const BEAT: Duration = Duration::from_secs(1);
/// Lines rendered into one piece.
const LINES_PER_PIECE: usize = 512;
const PIECE_BYTES: usize = 256 << 10;

/// The lines behind `after`, for ever; ends when the follower falls out of the window, history changes,
/// or the server shuts down.
pub fn feed(
    feed: Arc<Feed>,
    after: Index,
    epoch: Option<String>,
    tables: TableSet,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let wake = feed.subscribe();
    futures::stream::unfold((after, wake), move |(after, mut wake)| {
        let (feed, epoch, shutdown) = (Arc::clone(&feed), epoch.clone(), shutdown.clone());
        async move {
            loop {
                if shutdown.is_requested() {
                    return None;
                }
                wake.borrow_and_update();
                let lines = feed.behind(after, epoch.as_deref().filter(|e| !e.is_empty()), LINES_PER_PIECE).ok()?;
                if let Some(last) = lines.last() {
                    let mut piece = BytesMut::new();
                    for line in &lines {
                        piece.extend_from_slice(&line.render(tables));
                    }
                    return Some((Ok(piece.freeze()), (last.index, wake)));
                }
                tokio::select! {
                    changed = wake.changed() => changed.ok()?,
                    () = tokio::time::sleep(BEAT) => return Some((Ok(Bytes::from_static(b"{}\n")), (after, wake))),
                    () = shutdown.requested() => return None,
                }
            }
        }
    })
}

/// A snapshot of `state`, for these tables.
pub fn snapshot(state: Arc<State>, tables: TableSet) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let wanted = tables.tables();
        let mut out = Pieces { sender, buffer: BytesMut::with_capacity(PIECE_BYTES) };
        let filter = (tables != TableSet::ALL).then_some(wanted.as_slice());
        let written = fsm::write_snapshot(&state, &mut out, filter).map_err(io::Error::other);
        if let Err(error) = written.and_then(|_| out.flush()) {
            // The reader sees a stream that ends too early, which its codec refuses.
            let _ = out.sender.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

struct Pieces {
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
    buffer: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
