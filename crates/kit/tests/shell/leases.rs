//! Who holds a lease believes it no longer than is safe.

use std::time::Duration;

use client::clock::boot_time;
use client::lease::{Held, LeaseKeeper};
use client::replica::{NoObserver, Replica};

use crate::fake::{Fake, Fault, WITHIN};
use fsm::{Command, LeaseName, Table};
use model::{Role, Term};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Process {
    keeper: LeaseKeeper,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    fn start(fake: &Fake, name: &str, addr: &str) -> Self {
        let (http, stop) = (fake.http(Role::Broker, name), fake.stop.child_token());
        let tables = vec![Table::Cluster, Table::Leases];
        let replica = Replica::start(http.clone(), fake.peers(), tables, Box::new(NoObserver), stop.clone());
        let state = client::state::StateClient::new(http, fake.peers(), Role::Broker);
        let (keeper, task) =
            LeaseKeeper::start(state, replica, LeaseName::Broker, name.to_owned(), addr.to_owned(), stop.clone());
        Self { keeper, stop, task }
    }

    async fn held(&self) -> Held {
        let mut watch = self.keeper.watch();
        let held = tokio::time::timeout(WITHIN, watch.wait_for(Option::is_some)).await.unwrap().unwrap();
        held.clone().unwrap()
    }

    async fn lost(&self) {
        let mut watch = self.keeper.watch();
        tokio::time::timeout(WITHIN, watch.wait_for(Option::is_none)).await.unwrap().unwrap();
    }
}

fn row(fake: &Fake) -> (String, Term) {
    fake.core().state.lease(LeaseName::Broker).map(|row| (row.holder.clone(), row.term)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_stops_two_seconds_after_it_sent_its_last_good_renewal() {
    let fake = Fake::start(1);
    let process = Process::start(&fake, "one", "127.0.0.1:1");
    let held = process.held().await;
    let renewed = async {
        while fake.core().renewals.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WITHIN, renewed).await.unwrap();
    // The log takes nothing more. What was last taken, was sent before it came in.
    let last = {
        let mut core = fake.core();
        core.always = Some(Fault::NoLeader);
        *core.renewals.last().unwrap()
    };
    assert!(held.is_valid());
    let mut believed = boot_time();
    loop {
        let before = boot_time();
        if !held.is_valid() {
            break;
        }
        believed = before;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // However late we look: whenever it says so, it is true.
    assert!(believed <= last + Duration::from_secs(2), "it believed for {:?}", believed.saturating_sub(last));
    // The renewal was sent up to a call's time before it came in.
    let after = boot_time().saturating_sub(last);
    assert!(after >= Duration::from_secs(1), "it gave up early, after {after:?}");
    assert!(process.keeper.current().is_none());
    process.lost().await;
    // The row is its own still: with the log back it begins anew, at a higher term.
    fake.core().always = None;
    assert!(process.held().await.term > held.term);
    assert!(!held.is_valid(), "what has lapsed stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_a_quorum_has_left_keeps_no_holder_believing() {
    let fake = Fake::start(1);
    let process = Process::start(&fake, "one", "127.0.0.1:1");
    let held = process.held().await;
    // It goes on answering, and says what it knows.
    fake.core().quorum_age_ms = 2_500;
    tokio::time::timeout(WITHIN, async { process.lost().await }).await.unwrap();
    assert!(!held.is_valid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_told_that_its_term_is_over_stops_at_once() {
    let fake = Fake::start(1);
    let process = Process::start(&fake, "one", "127.0.0.1:1");
    let held = process.held().await;
    fake.write(Role::State, Command::LeaseExpire { lease: LeaseName::Broker, term: held.term });
    let other = Command::LeaseAcquire { lease: LeaseName::Broker, holder: "two".into(), addr: "127.0.0.1:2".into() };
    fake.write(Role::Broker, other);
    process.lost().await;
    assert_eq!(row(&fake).0, "two");
    let term = row(&fake).1;
    fake.write(Role::State, Command::LeaseExpire { lease: LeaseName::Broker, term });
    assert!(process.held().await.term > term, "and takes it when it is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_started_again_takes_over_from_its_former_self_at_once() {
    let fake = Fake::start(1);
    let former = Command::LeaseAcquire { lease: LeaseName::Broker, holder: "one".into(), addr: "127.0.0.1:1".into() };
    fake.write(Role::Broker, former);
    let process = Process::start(&fake, "one", "127.0.0.1:2");
    assert_eq!(process.held().await.term, Term(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_of_one_name_the_younger_holds_and_the_elder_waits() {
    let fake = Fake::start(1);
    let elder = Process::start(&fake, "one", "127.0.0.1:1");
    elder.held().await;
    let younger = Process::start(&fake, "one", "127.0.0.1:2");
    younger.held().await;
    elder.lost().await;
    let term = row(&fake).1;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(row(&fake).1, term, "they take it from each other");
    younger.stop.cancel();
    younger.task.await.unwrap();
    assert!(elder.held().await.term > term, "and takes over when the younger ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquisition_whose_answer_was_lost_is_found() {
    let fake = Fake::start(1);
    fake.core().faults.push_back(Fault::Unknown);
    let process = Process::start(&fake, "one", "127.0.0.1:1");
    let held = process.held().await;
    assert_eq!(row(&fake), ("one".to_owned(), held.term));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_frees_its_lease_and_one_that_waits_takes_nothing() {
    let fake = Fake::start(1);
    let first = Process::start(&fake, "one", "127.0.0.1:1");
    first.held().await;
    let second = Process::start(&fake, "two", "127.0.0.1:2");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(second.keeper.current().is_none());
    first.stop.cancel();
    first.task.await.unwrap();
    assert!(first.keeper.current().is_none());
    assert_eq!(second.held().await.term, Term(2));
}
