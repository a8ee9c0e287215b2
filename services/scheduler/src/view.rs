//! What a scheduler decides from: the state and the fleet's flat arrays, of one and the same index.

use std::sync::Arc;

use arc_swap::ArcSwap;
use client::replica::Observer;
use fsm::{FeedLine, State};
use placement::Fleet;

/// One consistent view.
#[derive(Clone)]
pub struct View {
    pub state: Arc<State>,
    pub fleet: Fleet,
}

/// The newest view, for workers.
pub type Views = Arc<ArcSwap<View>>;

pub fn empty() -> Views {
    let state = State::default();
    let fleet = Fleet::from_state(&state);
    Arc::new(ArcSwap::from_pointee(View { state: Arc::new(state), fleet }))
}

/// Keeps the fleet up to date with the feed. A view is published before the replica says that it has
/// reached its index, so whoever waited for the index finds a view at least that new.
pub struct Follow {
    pub views: Views,
    fleet: Fleet,
}

impl Follow {
    pub fn new(views: Views) -> Self {
        let fleet = views.load().fleet.clone();
        Self { views, fleet }
    }

    fn publish(&self, state: &Arc<State>) {
        self.views.store(Arc::new(View { state: Arc::clone(state), fleet: self.fleet.clone() }));
    }
}

impl Observer for Follow {
    fn reset(&mut self, state: &Arc<State>) {
        self.fleet = Fleet::from_state(state);
        self.publish(state);
    }

    fn line(&mut self, state: &State, line: &FeedLine) {
        for change in &line.changes {
            self.fleet.apply(state, change);
        }
    }

    fn settled(&mut self, state: &Arc<State>) {
        self.publish(state);
    }
}
