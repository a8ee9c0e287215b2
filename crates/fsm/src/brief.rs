//! What of a row change do services need that decide?
//!
//! Of an allocation people want to know why it was placed where it is and what happened to its tasks, which
//! makes up three quarters of it. A follower of *all* tables is told every row as it is, and proves that by the
//! hash; a follower of *some* tables may get [`Change::brief`], and therefore must not write back what is
//! left out (the state machine keeps what an update in place does not carry).

use std::sync::Arc;

use model::alloc::TaskState;
use model::carried_scores::{Total, Totals};
use model::metric::{AllocMetric, NodeScoreMeta};
use model::{Allocation, Carried, NodeId};

use crate::change::Change;
use crate::command::AllocClientUpdate;

impl Change {
    /// Whether there is less to say to who only decides.
    pub fn has_brief(&self) -> bool {
        match self {
            Self::Alloc(row) => row.metrics.is_some() || row.task_states.values().any(has_events),
            Self::AllocClient { update, .. } => update.task_states.values().any(has_events),
            _ => false,
        }
    }

    /// The change without what only people read; `None` if it has nothing of that.
    pub fn brief(&self) -> Option<Self> {
        if !self.has_brief() {
            return None;
        }
        match self {
            Self::Alloc(row) => Some(Self::Alloc(Arc::new(alloc(row)))),
            Self::AllocClient { update, index } => {
                let mut update = AllocClientUpdate::clone(update);
                update.task_states.values_mut().for_each(forget_events);
                Some(Self::AllocClient { update, index: *index })
            }
            _ => None,
        }
    }
}

fn has_events(state: &TaskState) -> bool {
    !state.events.is_empty()
}

fn forget_events(state: &mut TaskState) {
    state.events = Carried::default();
}

fn alloc(row: &Allocation) -> Allocation {
    let mut brief = row.clone();
    brief.task_states.values_mut().for_each(forget_events);
    brief.metrics = row.metrics.as_ref().map(|metrics| Carried::new(score(metrics, &row.node_id)));
    brief
}

/// The score of the allocation's own node, or else of the best: an allocation that comes back is compared with its
/// replacement by it.
fn score(metrics: &Carried<AllocMetric>, node: &NodeId) -> AllocMetric {
    let totals = metrics.part(|metrics| {
        let total = |score: &NodeScoreMeta| Total { node_id: score.node_id.clone(), norm_score: score.norm_score };
        Totals { score_meta_data: metrics.score_meta_data.iter().map(total).collect() }
    });
    let all = totals.score_meta_data;
    let kept = all.iter().position(|total| total.node_id == *node).unwrap_or(0);
    let told = |Total { node_id, norm_score }| NodeScoreMeta { node_id, norm_score, ..NodeScoreMeta::default() };
    AllocMetric { score_meta_data: all.into_iter().nth(kept).map(told).into_iter().collect(), ..AllocMetric::default() }
}

#[cfg(test)]
mod tests {
    use model::Index;
    use model::alloc::TaskEvent;

    use super::*;

    fn states(events: usize) -> model::SmallMap<String, TaskState> {
        let state =
            TaskState { restarts: 3, events: Carried::new(vec![TaskEvent::default(); events]), ..TaskState::default() };
        [("t".to_owned(), state)].into()
    }

    #[test]
    fn who_decides_gets_states_and_the_score_and_nothing_that_only_people_read() {
        let score = |node: &str, norm_score| NodeScoreMeta {
            node_id: node.into(),
            norm_score,
            scores: [("binpack", norm_score)].into_iter().collect(),
        };
        let metrics = AllocMetric {
            nodes_evaluated: 9,
            score_meta_data: vec![score("best", 0.9), score("own", 0.5)],
            ..AllocMetric::default()
        };
        let row = Allocation {
            node_id: "own".into(),
            task_states: states(2),
            metrics: Some(Carried::new(metrics)),
            ..Allocation::default()
        };
        let carried: Allocation = serde_json::from_str(&model::sparse::to_string(&row).unwrap()).unwrap();
        for row in [row, carried] {
            let Some(Change::Alloc(brief)) = Change::Alloc(Arc::new(row)).brief() else { panic!("an allocation") };
            assert_eq!((brief.task_states["t"].restarts, brief.task_states["t"].events.is_empty()), (3, true));
            let kept = brief.metrics.as_ref().unwrap().look();
            assert_eq!((kept.nodes_evaluated, kept.score_meta_data.len()), (0, 1));
            assert_eq!((kept.score_meta_data[0].node_id.as_str(), kept.score_meta_data[0].norm_score), ("own", 0.5));
        }
    }

    #[test]
    fn news_keeps_states_without_their_events() {
        let news = |events| Change::AllocClient {
            update: AllocClientUpdate { id: "a".into(), task_states: states(events), ..AllocClientUpdate::default() },
            index: Index(7),
        };
        assert_eq!((news(2).brief(), news(0).brief()), (Some(news(0)), None));
    }
}
