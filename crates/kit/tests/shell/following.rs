//! A copy of the state keeps itself up to date, whatever its sources do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::replica::{Observer, Replica};

use crate::fake::{Fake, WITHIN};
use fsm::{FeedLine, State, Table};
use model::{Index, Role};

/// What an observer was told.
#[derive(Default)]
struct Told {
    resets: Vec<Index>,
    lines: Vec<Index>,
    settled: Vec<Index>,
    panic_once: AtomicBool,
}

struct Ears(Arc<Mutex<Told>>);

impl Observer for Ears {
    fn reset(&mut self, state: &Arc<State>) {
        self.0.lock().unwrap().resets.push(state.index());
    }

    fn line(&mut self, state: &State, line: &FeedLine) {
        assert_eq!(state.index(), line.index);
        let mut told = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        told.lines.push(line.index);
        let panic = told.panic_once.swap(false, Ordering::SeqCst);
        drop(told);
        assert!(!panic, "as told");
    }

    fn settled(&mut self, state: &Arc<State>) {
        self.0.lock().unwrap().settled.push(state.index());
    }
}

fn follow(fake: &Fake, tables: &[Table]) -> (Replica, Arc<Mutex<Told>>) {
    let told = Arc::new(Mutex::new(Told::default()));
    let http = fake.http(Role::Gateway, "gateway");
    let ears = Box::new(Ears(told.clone()));
    (Replica::start(http, fake.peers(), tables.to_vec(), ears, fake.stop.clone()), told)
}

async fn same(fake: &Fake, replica: &Replica) {
    let index = fake.core().state.index();
    let copy = replica.committed(index, WITHIN).await.unwrap();
    assert_eq!(copy.hash_text(), fake.core().state.hash_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_at_another_server_without_missing_or_repeating_a_line() {
    let mut fake = Fake::start(3);
    let (replica, told) = follow(&fake, &Table::ALL);
    same(&fake, &replica).await;
    let began = told.lock().unwrap().resets[0];
    for n in 0..30 {
        fake.write_namespace(&format!("n{n}"));
        match n {
            10 | 20 => {
                same(&fake, &replica).await;
                // All but one: it must move if it was there.
                fake.end_server(0);
            }
            5 | 15 | 25 => fake.cut_feeds(),
            _ => {}
        }
    }
    same(&fake, &replica).await;
    let told = told.lock().unwrap();
    assert_eq!(told.resets, [began], "one snapshot was enough");
    let expected: Vec<u64> = (began.get() + 1..=fake.core().state.index().get()).collect();
    assert_eq!(told.lines.iter().map(|i| i.get()).collect::<Vec<_>>(), expected);
    assert_eq!(told.settled.last(), told.lines.last(), "what was applied is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_too_far_back_begins_anew_from_a_snapshot() {
    let fake = Fake::start(1);
    let (replica, told) = follow(&fake, &Table::ALL);
    same(&fake, &replica).await;
    // While it reconnects, more happens than the window keeps.
    fake.cut_feeds();
    for n in 0..50 {
        fake.write_namespace(&format!("n{n}"));
    }
    fake.forget_window();
    same(&fake, &replica).await;
    fake.write_namespace("after");
    same(&fake, &replica).await;
    let told = told.lock().unwrap();
    assert!(told.resets.len() <= 2, "{:?}", told.resets);
    assert!(replica.state().namespace(&"n49".into()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_hash_differs_begins_anew() {
    let fake = Fake::start(1);
    let (replica, told) = follow(&fake, &Table::ALL);
    same(&fake, &replica).await;
    fake.shared.lie.store(true, Ordering::SeqCst);
    fake.write_namespace("doubtful");
    same(&fake, &replica).await;
    assert_eq!(told.lock().unwrap().resets.len(), 2);
    assert_eq!(fake.shared.snapshots.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lags_takes_nobody_back_in_time() {
    let fake = Fake::start(1);
    let (replica, _) = follow(&fake, &Table::ALL);
    let old = fake.core().state.clone();
    for n in 0..20 {
        fake.write_namespace(&format!("n{n}"));
    }
    same(&fake, &replica).await;
    let high = replica.index();
    fake.core().old_snapshot = Some(old);
    let before = fake.shared.snapshots.load(Ordering::SeqCst);
    fake.shared.lie.store(true, Ordering::SeqCst);
    fake.write_namespace("void");
    let asked = async {
        while fake.shared.snapshots.load(Ordering::SeqCst) < before + 3 {
            assert!(replica.index() >= high);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, asked).await.unwrap();
    assert!(replica.index() >= high && replica.state().namespace(&"n19".into()).is_some());
    fake.core().old_snapshot = None;
    same(&fake, &replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_that_panics_costs_a_fresh_start_and_not_the_copy() {
    let fake = Fake::start(1);
    let (replica, told) = follow(&fake, &Table::ALL);
    same(&fake, &replica).await;
    told.lock().unwrap().panic_once.store(true, Ordering::SeqCst);
    fake.write_namespace("one");
    fake.write_namespace("two");
    same(&fake, &replica).await;
    assert_eq!(told.lock().unwrap().resets.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_some_tables_holds_no_others_and_keeps_pace() {
    let fake = Fake::start(1);
    fake.write_namespace("before");
    let (replica, _) = follow(&fake, &[Table::Cluster, Table::Leases]);
    let index = fake.write_namespace("after");
    let copy = replica.reached(index, WITHIN).await.unwrap();
    assert_eq!((copy.namespaces().count(), copy.cluster().epoch.as_str()), (0, "first"));
    assert!(!copy.follows(Table::Namespaces));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_comes_late_is_found_and_until_then_the_copy_is_not_ready() {
    let mut fake = Fake::start(1);
    fake.end_server(0);
    let (replica, _) = follow(&fake, &Table::ALL);
    assert!(replica.reached(Index(0), Duration::from_millis(100)).await.is_err());
    assert!(!replica.is_ready());
    fake.serve(1);
    same(&fake, &replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_follows_the_leader_and_the_next_one() {
    let mut fake = Fake::start(3);
    fake.lead(0);
    let (replica, told) = follow(&fake, &Table::ALL);
    for leader in [1, 2, 0] {
        fake.led(1).await;
        fake.write_namespace(&format!("under-{leader}"));
        same(&fake, &replica).await;
        fake.lead(leader);
    }
    fake.led(1).await;
    // Its leader goes, and nobody leads yet: it follows another server until one does.
    fake.core().leader = None;
    fake.end_server(0);
    fake.led(0).await;
    fake.write_namespace("without");
    same(&fake, &replica).await;
    assert_eq!(told.lock().unwrap().resets.len(), 1, "it went on where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_has_no_place_at_the_leader_follows_another_server() {
    let fake = Fake::start(3);
    fake.core().takes_led = false;
    fake.lead(0);
    let (replica, _) = follow(&fake, &Table::ALL);
    fake.write_namespace("one");
    same(&fake, &replica).await;
    assert_eq!(*fake.shared.led.borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stands_still_is_left_once_a_reader_needs_more_and_not_before() {
    let fake = Fake::start(3);
    fake.lead(0);
    let (replica, _) = follow(&fake, &Table::ALL);
    fake.led(1).await;
    fake.stick_leader();
    let index = fake.write_namespace("committed");
    // Who waits for something to happen, or for what somebody says, does not know that it is there.
    assert!(replica.past(Index(index.get() - 1), Duration::from_secs(1)).await.is_none());
    assert!(replica.reached(Index(u64::MAX), Duration::from_secs(1)).await.is_err());
    assert_eq!(*fake.shared.led.borrow(), 1);
    same(&fake, &replica).await;
    fake.led(0).await;
}
