//! Commands and read indexes, against a state service that fails in every way a caller must tell apart.

use std::sync::atomic::Ordering;
use std::time::Duration;

use client::state::{ProposeError, StateClient};
use futures::FutureExt as _;

use crate::fake::{Fake, Fault, WITHIN, namespace};
use fsm::{Envelope, Reply};
use model::{Index, Role};

const SHORT: Duration = Duration::from_millis(400);

fn envelope(name: &str, repeatable: bool) -> Envelope {
    let request = repeatable.then(client::state::new_request_id);
    Envelope {
        request,
        proposer: Role::Gateway,
        lease: None,
        now: client::clock::unix_nanos(),
        command: namespace(name),
    }
}

async fn send(fake: &Fake, faults: &[Fault], repeatable: bool, within: Duration) -> Result<Index, ProposeError> {
    fake.core().faults.extend(faults);
    let client = fake.client(Role::Gateway, "gateway");
    client.propose_envelope(&envelope("n", repeatable), within).await.map(|(index, reply)| {
        assert_eq!(reply, Reply::Done);
        index
    })
}

fn calls(fake: &Fake) -> usize {
    fake.shared.proposals.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_a_request_id_is_sent_until_it_is_answered_and_acts_once() {
    let fake = Fake::start(2);
    let before = fake.core().state.index();
    send(&fake, &[Fault::NoLeader, Fault::Unknown, Fault::Internal], true, WITHIN).await.unwrap();
    assert_eq!(calls(&fake), 4);
    let row = fake.core().state.namespace(&"n".into()).unwrap().clone();
    assert_eq!(row.modify_index, before.next(), "the first that was applied, and no other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_request_id_is_not_sent_again_once_it_may_have_happened() {
    for fault in [Fault::Unknown, Fault::Internal] {
        let fake = Fake::start(1);
        let error = send(&fake, &[Fault::NoLeader, fault], false, WITHIN).await.unwrap_err();
        assert!(matches!(error, ProposeError::Unknown(_)), "{error}");
        assert_eq!(calls(&fake), 2, "before, it had surely not happened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_happened_is_never_reported_as_surely_not_done() {
    let fake = Fake::start(1);
    fake.core().always = Some(Fault::NoLeader);
    let error = send(&fake, &[], true, SHORT).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(_)), "{error}");
    let error = send(&fake, &[Fault::Unknown], true, SHORT).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_can_never_succeed_is_sent_once() {
    let fake = Fake::start(1);
    let error = send(&fake, &[Fault::Forbidden], true, WITHIN).await.unwrap_err();
    assert!(matches!(error, ProposeError::Rejected(_)), "{error}");
    assert_eq!(calls(&fake), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_log_is_an_answer() {
    let fake = Fake::start(1);
    let client = fake.client(Role::Gateway, "gateway");
    let mut one = envelope("one", true);
    client.propose_envelope(&one, WITHIN).await.unwrap();
    one.command = namespace("two");
    let error = client.propose_envelope(&one, WITHIN).await.unwrap_err();
    assert!(matches!(error, ProposeError::Refused(fsm::Refusal::RequestReused)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_ask_is_no_leader_in_time() {
    let fake = Fake::start(0);
    let error = send(&fake, &[], true, SHORT).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unavailable(None)), "{error}");
}

/// Asks in a task. The question waits for its turn, or shares one that does, when this returns.
fn ask(client: &StateClient) -> tokio::task::JoinHandle<Index> {
    let client = client.clone();
    let mut asking = Box::pin(async move { client.read_index(WITHIN).await.unwrap() });
    assert!((&mut asking).now_or_never().is_none());
    tokio::spawn(asking)
}

/// Asks, and waits until the question is at the state service.
async fn ask_first(fake: &Fake, client: &StateClient) -> tokio::task::JoinHandle<Index> {
    let asking = ask(client);
    let arrived = async {
        while fake.shared.reads.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WITHIN, arrived).await.unwrap();
    asking
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_never_stems_from_before_its_question_and_waiting_callers_share_one() {
    let fake = Fake::start(1);
    let client = fake.client(Role::Gateway, "gateway");
    fake.shared.reading.send_replace(false);
    let first = ask_first(&fake, &client).await;
    let old = fake.core().state.index();
    let written = fake.write_namespace("later");
    let mut later = Vec::new();
    for _ in 0..10 {
        later.push(ask(&client));
    }
    assert_eq!(fake.shared.reads.load(Ordering::SeqCst), 1, "they wait for the one on its way");
    fake.shared.reading.send_replace(true);
    assert_eq!(first.await.unwrap(), old);
    for asking in later {
        assert!(asking.await.unwrap() >= written, "asked after the write, answered from before it");
    }
    assert_eq!(fake.shared.reads.load(Ordering::SeqCst), 2, "and share the next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_leaves_the_others_their_answer() {
    let fake = Fake::start(1);
    let client = fake.client(Role::Gateway, "gateway");
    fake.shared.reading.send_replace(false);
    let first = ask_first(&fake, &client).await;
    let leader_of_next = ask(&client);
    let other = ask(&client);
    leader_of_next.abort();
    let _ = leader_of_next.await;
    first.abort();
    fake.shared.reading.send_replace(true);
    let answer = tokio::time::timeout(WITHIN, other).await.unwrap().unwrap();
    assert_eq!(answer, fake.core().state.index());
}
