//! The open streams: the newest of each node, and what becomes of one that ends.
//!
//! A node has one stream. A newer one takes the older one's place and ends it. When the newest ends
//! without a word the controller is told at once; one that was closed in order, or replaced, is no news.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::NodeId;
use tokio::sync::oneshot;

/// Streams of one gateway.
pub const STREAMS_MAX: usize = 12_000;

/// The open streams of a gateway.
#[derive(Default)]
pub struct Streams {
    open: Arc<Mutex<HashMap<NodeId, Place>>>,
    next: AtomicU64,
}

struct Place {
    number: u64,
    /// Goes away with the place, which the stream in it notices.
    _held: oneshot::Sender<Infallible>,
}

fn lock(open: &Mutex<HashMap<NodeId, Place>>) -> MutexGuard<'_, HashMap<NodeId, Place>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Takes the node's place, from an older stream if there is one; `None` when there is no room.
    /// `broke` is called if the stream ends without a word while the place is still its own.
    pub(super) fn enter(&self, node: NodeId, broke: impl FnOnce(NodeId) + Send + 'static) -> Option<Open> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (held, replaced) = oneshot::channel();
        let mut open = lock(&self.open);
        if open.len() >= STREAMS_MAX && !open.contains_key(&node) {
            return None;
        }
        open.insert(node.clone(), Place { number, _held: held });
        let streams = Arc::clone(&self.open);
        Some(Open { streams, node, number, replaced, broke: Some(Box::new(broke)) })
    }
}

/// An open stream's place among the others; left when dropped.
pub(super) struct Open {
    streams: Arc<Mutex<HashMap<NodeId, Place>>>,
    node: NodeId,
    number: u64,
    replaced: oneshot::Receiver<Infallible>,
    /// Gone once the stream ended in order.
    broke: Option<Box<dyn FnOnce(NodeId) + Send>>,
}

impl Open {
    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }

    /// Waits until a newer stream has the place. May be cancelled.
    pub(super) async fn replaced(&mut self) {
        // Nothing is ever sent: it ends with the sender.
        let _ = (&mut self.replaced).await;
    }

    /// It ends in order.
    pub(super) fn close(mut self) {
        self.broke = None;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let newest = match lock(&self.streams).entry(self.node.clone()) {
            Entry::Occupied(entry) if entry.get().number == self.number => {
                entry.remove();
                true
            }
            _ => false,
        };
        if let Some(broke) = self.broke.take().filter(|_| newest) {
            tracing::info!(node_id = %self.node, "agent's stream broke");
            broke(self.node.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(Arc<Mutex<Vec<NodeId>>>);

    impl Told {
        fn enter(&self, streams: &Streams, node: &str) -> Option<Open> {
            let told = Arc::clone(&self.0);
            streams.enter(node.into(), move |node| told.lock().unwrap().push(node))
        }

        fn nodes(&self) -> Vec<NodeId> {
            self.0.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn a_newer_stream_ends_the_older_one_and_only_the_newest_tells_that_it_broke() {
        let (streams, told) = (Streams::default(), Told(Arc::default()));
        let mut old = told.enter(&streams, "a").unwrap();
        let new = told.enter(&streams, "a").unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), old.replaced()).await.expect("it is replaced");
        drop(old);
        assert_eq!((told.nodes(), streams.count()), (vec![], 1));
        drop(new);
        assert_eq!((told.nodes(), streams.count()), (vec!["a".into()], 0));
    }

    #[test]
    fn a_stream_that_ends_in_order_is_no_news() {
        let (streams, told) = (Streams::default(), Told(Arc::default()));
        told.enter(&streams, "a").unwrap().close();
        assert_eq!((told.nodes(), streams.count()), (vec![], 0));
    }

    #[test]
    fn there_is_room_for_so_many_nodes_and_always_for_one_that_comes_back() {
        let (streams, told) = (Streams::default(), Told(Arc::default()));
        let all: Vec<Open> = (0..STREAMS_MAX).map(|n| told.enter(&streams, &n.to_string()).unwrap()).collect();
        assert!(told.enter(&streams, "one more").is_none());
        assert!(told.enter(&streams, "7").is_some());
        // It has left the place of the one that it replaced.
        assert_eq!(streams.count(), STREAMS_MAX - 1);
        drop(all);
        assert_eq!(streams.count(), 0);
    }
}
