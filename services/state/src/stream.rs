//! Bodies that go on: the feed, and snapshots written by a blocking thread.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fsm::State;
use futures::Stream;
use kit::process::Shutdown;
use model::Index;
use tokio::sync::mpsc;

use crate::contact::Contact;
use crate::feed::{Feed, Line, TableSet};

/// Lines rendered into one piece.
const LINES_PER_PIECE: usize = 512;
const PIECE_BYTES: usize = 256 << 10;

/// What a follower of the feed asked for.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The line of history it is on.
    pub epoch: Option<String>,
    pub tables: TableSet,
}

/// The lines behind `after`, for ever; ends when the follower falls out of the window, history changes,
/// this server hears no leader any more, or it shuts down.
pub fn feed(
    feed: Arc<Feed>,
    after: Index,
    follower: Follower,
    contact: Arc<Contact>,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let wake = feed.subscribe();
    futures::stream::unfold((after, wake), move |(after, mut wake)| {
        let (feed, follower, shutdown) = (Arc::clone(&feed), follower.clone(), shutdown.clone());
        let contact = Arc::clone(&contact);
        async move {
            loop {
                if shutdown.is_requested() || !contact.is_fresh() {
                    return None;
                }
                wake.borrow_and_update();
                let lines = feed.behind(after, follower.epoch.as_deref(), LINES_PER_PIECE).ok()?;
                if let Some((piece, last)) = piece(&lines, follower.tables) {
                    return Some((Ok(piece), (last, wake)));
                }
                tokio::select! {
                    changed = wake.changed() => changed.ok()?,
                    () = crate::beat::next() => return Some((Ok(Bytes::from_static(b"{}\n")), (after, wake))),
                    () = shutdown.requested() => return None,
                }
            }
        }
    })
}

/// The first lines in one piece, at least one and as many as fit; and the index of the last of them.
fn piece(lines: &[Arc<Line>], tables: TableSet) -> Option<(Bytes, Index)> {
    let first = lines.first()?;
    let (mut piece, mut last) = (BytesMut::from(first.render(tables)), first.index);
    for line in lines.iter().skip(1) {
        let text = line.render(tables);
        if piece.len() + text.len() > PIECE_BYTES {
            break;
        }
        piece.extend_from_slice(&text);
        last = line.index;
    }
    Some((piece.freeze(), last))
}

/// A snapshot of `state`, for these tables; `None` adds what never leaves the state servers otherwise.
pub fn snapshot(state: Arc<State>, tables: Option<TableSet>) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let wanted = tables.map(TableSet::tables);
        let mut out = Pieces { sender, buffer: BytesMut::with_capacity(PIECE_BYTES) };
        let written = fsm::write_snapshot(&state, &mut out, wanted.as_deref()).map_err(io::Error::other);
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
