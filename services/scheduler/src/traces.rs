//! Why a decision came out as it did, for each of the last evaluations; forgotten oldest first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use model::EvalId;
use placement::Explain;

/// Traces kept.
const TRACES_MAX: usize = 2_048;

#[derive(Default)]
pub struct Traces(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    order: VecDeque<EvalId>,
    traces: HashMap<EvalId, Arc<Explain>>,
}

impl Traces {
    pub fn keep(&self, eval: &EvalId, trace: Explain) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.traces.insert(eval.clone(), Arc::new(trace)).is_none() {
            ring.order.push_back(eval.clone());
        }
        while ring.order.len() > TRACES_MAX {
            if let Some(oldest) = ring.order.pop_front() {
                ring.traces.remove(&oldest);
            }
        }
    }

    pub fn get(&self, eval: &EvalId) -> Option<Arc<Explain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).traces.get(eval).cloned()
    }
}
