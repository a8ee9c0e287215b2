//! How fast the queue is: `cargo run --release -p queue --example cycles [CYCLES]`.
//!
//! One cycle is an evaluation's life here, on one thread: its row arrives, it is delivered, its row says that
//! it is complete, it is acknowledged. Jobs take turns, so that the map of jobs is in use.

use std::sync::Arc;
use std::time::Instant;

use model::{EvalStatus, Evaluation, Index, Term, Timestamp};
use queue::{Broker, Kind, Limits, Now, QueueError, SessionId};

const JOBS: u64 = 1_000;

fn row(n: u64) -> Evaluation {
    Evaluation {
        id: format!("{n:08x}-0000-4000-8000-000000000000").into(),
        job_id: format!("job-{}", n % JOBS).into(),
        namespace: "default".into(),
        kind: "service".to_owned(),
        priority: 50,
        triggered_by: "job-register".to_owned(),
        create_index: Index(10 + 2 * n),
        modify_index: Index(10 + 2 * n),
        ..Evaluation::default()
    }
}

fn main() -> Result<(), QueueError> {
    let cycles: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let now = Now { mono_ms: 1_000_000, wall: Timestamp(1_800_000_000_000_000_000) };
    let mut broker = Broker::new(Limits::default(), Index(5), now);
    broker.on_index(Index(5), now);
    broker.activate(Term(1), Index(5), now);
    let session = SessionId::from("worker");
    broker.session_open(&session, now)?;
    // The rows are the feed's; making them is not the queue's work.
    let chunk = 100_000.min(cycles.max(1));
    let (mut done, mut spent) = (0, std::time::Duration::ZERO);
    while done < cycles {
        let rows: Vec<(Arc<Evaluation>, Arc<Evaluation>)> = (done..done + chunk)
            .map(|n| {
                let pending = row(n);
                let modify_index = Index(11 + 2 * n);
                let status = EvalStatus::Complete;
                let complete =
                    Evaluation { status, modify_index, snapshot_index: pending.modify_index, ..pending.clone() };
                (Arc::new(pending), Arc::new(complete))
            })
            .collect();
        let started = Instant::now();
        for (pending, complete) in &rows {
            broker.on_eval(pending, now);
            broker.on_index(pending.modify_index, now);
            for delivery in broker.dequeue(&session, &[Kind::Service], 1, now)? {
                broker.on_eval(complete, now);
                broker.on_index(complete.modify_index, now);
                broker.ack(&session, &delivery.eval.id, &delivery.token, complete.modify_index, now)?;
            }
        }
        spent += started.elapsed();
        done += chunk;
    }
    let left = broker.stats().total();
    println!(
        "{:.0} cycles/s, {} left of {done}",
        done as f64 / spent.as_secs_f64(),
        left.ready + left.unacked + left.pending
    );
    Ok(())
}
