//! Bodies that go on: the feed, and snapshots written by a blocking thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fsm::State;
use futures::Stream;
use kit::process::Shutdown;
use model::{Index, Role};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

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
    /// How long a line may wait until others have it: little waits for what this follower does with it.
    pub patience: Duration,
}

/// A controller follows what others decide, in steps of tens of milliseconds and more: it gets lines after those for
/// whose next step a user waits.
const PATIENCE: Duration = Duration::from_millis(5);

/// See [`Follower::patience`].
pub fn patience(role: Role) -> Duration {
    if role == Role::Controller { PATIENCE } else { Duration::ZERO }
}

/// Followers that one leader takes for being the leader; others follow any server.
pub const LED_MAX: usize = 16;

/// A follower's place at the leader, as long as this server leads.
pub struct Led {
    status: watch::Receiver<raft::Status>,
    _place: OwnedSemaphorePermit,
}

impl Led {
    /// `None` if this server does not lead, or has no place left of `places`.
    pub fn enter(places: &Arc<Semaphore>, status: watch::Receiver<raft::Status>) -> Option<Self> {
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let led = Self { status, _place: place };
        led.leads().then_some(led)
    }

    /// Asked with each line and each beat: to wait for it would wake every follower with all that raft does.
    fn leads(&self) -> bool {
        self.status.borrow().is_leader()
    }
}

/// The lines behind `after`, for ever; ends when the follower falls out of the window, history changes,
/// this server hears no leader any more, or is not the leader whom the follower wants, or it shuts down.
pub fn feed(
    feed: Arc<Feed>,
    after: Index,
    follower: Follower,
    contact: Arc<Contact>,
    shutdown: Shutdown,
    led: Option<Led>,
) -> impl Stream<Item = Result<Bytes, io::Error>> {
    let wake = feed.subscribe();
    futures::stream::unfold((after, wake, led), move |(after, mut wake, led)| {
        let (feed, follower, shutdown) = (Arc::clone(&feed), follower.clone(), shutdown.clone());
        let contact = Arc::clone(&contact);
        async move {
            loop {
                if shutdown.is_requested() || !contact.is_fresh() || led.as_ref().is_some_and(|led| !led.leads()) {
                    return None;
                }
                wake.borrow_and_update();
                let lines = feed.behind(after, follower.epoch.as_deref(), LINES_PER_PIECE).ok()?;
                if let Some((piece, last)) = piece(&lines, follower.tables) {
                    return Some((Ok(piece), (last, wake, led)));
                }
                tokio::select! {
                    changed = wake.changed() => {
                        changed.ok()?;
                        if !follower.patience.is_zero() {
                            tokio::time::sleep(follower.patience).await;
                        }
                    }
                    () = crate::beat::next() => return Some((Ok(Bytes::from_static(b"{}\n")), (after, wake, led))),
                    () = shutdown.requested() => return None,
                }
            }
        }
    })
}

/// The first lines in one piece, at least one and as many as fit; and the index of the last of them.
fn piece(lines: &[Arc<Line>], tables: TableSet) -> Option<(Bytes, Index)> {
    let mut last = lines.first()?.index;
    let mut texts: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        let text = line.render(tables);
        if !texts.is_empty() && bytes + text.len() > PIECE_BYTES {
            break;
        }
        bytes += text.len();
        last = line.index;
        texts.push(text);
    }
    // One line, which may be of megabytes, goes as it is to all who follow the same tables.
    let piece = if texts.len() == 1 { texts.swap_remove(0) } else { texts.concat().into() };
    Some((piece, last))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(index: u64, bytes: usize) -> Arc<Line> {
        let hash = "h".repeat(bytes);
        let line = Line::new(Index(index), Index(index - 1), Arc::from("e"), hash, "", Vec::new(), Vec::new());
        Arc::new(line.unwrap())
    }

    #[test]
    fn a_line_that_fills_a_piece_is_handed_on_as_it_is_and_small_ones_go_together_in_order() {
        let lines = [line(1, PIECE_BYTES), line(2, 10), line(3, 10), line(4, PIECE_BYTES)];
        let (piece_of_one, last) = piece(&lines, TableSet::ALL).unwrap();
        assert_eq!((piece_of_one.as_ptr(), last), (lines[0].render(TableSet::ALL).as_ptr(), Index(1)));
        let (several, last) = piece(&lines[1..], TableSet::ALL).unwrap();
        let both: Vec<u8> = lines[1..3].iter().flat_map(|line| line.render(TableSet::ALL)).collect();
        assert_eq!((&several[..], last), (&both[..], Index(3)));
        assert!(piece(&[], TableSet::ALL).is_none());
    }
}
