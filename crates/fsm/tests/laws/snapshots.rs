//! Snapshots and the feed: the same bytes, the same state, and nothing damaged is taken.

use fsm::{FollowError, SnapshotError, State, Table, read_snapshot};
use model::{ClientStatus, Index};

use crate::world::{self, World, job, snapshot};

/// A state with a row in every table.
fn full() -> World {
    let mut world = World::new();
    world.node("n1");
    world.register(job("web"));
    for count in 1..4 {
        world.register(world::job_with_count("web", count));
    }
    let mut plan = world.plan("web");
    plan.deployment = Some(world::new_deployment("d", 0));
    world.put(&mut plan, "n1", "a");
    world.apply_plan(plan);
    world.tell("a", ClientStatus::Running);
    world.create_eval(world::blocked("b", "web", Index(1)));
    let submission = Some(model::job::JobSubmission { source: "job {}".into(), ..Default::default() });
    let register = fsm::command::JobRegister { job: job("two"), eval: None, submission, enforce_index: None };
    let mut envelope = world.envelope(model::Role::Gateway, fsm::Command::JobRegister(Box::new(register)));
    envelope.request = world::request(u64::try_from(world.now).unwrap() / 1_000_000, 3);
    world.run(envelope);
    world
}

#[test]
fn fsm_018_snapshot_002_a_snapshot_read_back_gives_the_same_bytes() {
    let world = full();
    let bytes = snapshot(&world.state, None);
    let read = read_snapshot(&bytes[..]).unwrap();
    read.check().unwrap();
    assert!(snapshot(&read, None) == bytes);
    assert_eq!((read.index(), read.hash_text()), (world.index(), world.state.hash_text()));
    assert_eq!(read.node_fence(&"n1".into()), world.state.node_fence(&"n1".into()));
    for table in Table::ALL {
        assert_eq!(read.table_index(table), world.state.table_index(table), "{table:?}");
    }
    let empty = snapshot(&State::default(), None);
    assert!(snapshot(&read_snapshot(&empty[..]).unwrap(), None) == empty);
}

#[test]
fn snapshot_003_a_cut_snapshot_is_refused_wherever_it_is_cut() {
    let bytes = snapshot(&full().state, None);
    for end in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        let error = read_snapshot(&bytes[..end]).unwrap_err();
        assert!(matches!(error, SnapshotError::Truncated(_)), "cut at {end}: {error}");
    }
}

#[test]
fn snapshot_003_a_damaged_snapshot_is_refused_whatever_byte_is_damaged() {
    let bytes = snapshot(&full().state, None);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 7);
        assert!(read_snapshot(&bad[..]).is_err(), "byte {at} of {}", bytes.len());
    }
    let mut long = bytes;
    long.extend_from_slice(b"{}\n");
    assert!(matches!(read_snapshot(&long[..]), Err(SnapshotError::Damaged("end"))));
}

#[test]
fn another_format_or_version_is_refused_by_name() {
    let text = String::from_utf8(snapshot(&State::default(), None)).unwrap();
    let newer = text.replacen("\"version\":2", "\"version\":3", 1);
    assert!(matches!(read_snapshot(newer.as_bytes()), Err(SnapshotError::UnknownVersion(3))));
    for other in ["{}\n", "hello\n", "{\"format\":\"tar\",\"version\":1}\n"] {
        assert!(matches!(read_snapshot(other.as_bytes()), Err(SnapshotError::NotASnapshot)));
    }
}

#[test]
fn a_snapshot_of_some_tables_has_no_others() {
    let world = full();
    let bytes = snapshot(&world.state, Some(&[Table::Nodes]));
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains("secret-n1") && !text.contains("\"web\"") && !text.contains("node_fences"));
    let read = read_snapshot(&bytes[..]).unwrap();
    assert_eq!((read.nodes().count(), read.jobs().count(), read.allocs().count()), (1, 0, 0));
    assert!(read.follows(Table::Nodes) && !read.follows(Table::Jobs));
    assert_eq!(read.cluster(), world.state.cluster());
    let all = read_snapshot(&snapshot(&world.state, Some(&Table::ALL))[..]).unwrap();
    assert!(all.follows(Table::Evals), "all tables are no part of them");
}

#[test]
fn a_line_that_does_not_continue_the_copy_changes_nothing() {
    let mut world = full();
    let copy = world.full.clone();
    world.node("n2");
    let lines = world.lines.clone();
    let last = &lines[lines.len() - 2..];
    let refuse = |line: &fsm::FeedLine| {
        let mut state = copy.clone();
        let error = state.follow(&model::sparse::to_vec(line).unwrap()).unwrap_err();
        assert!(snapshot(&state, None) == snapshot(&copy, None));
        error
    };
    assert!(matches!(refuse(&last[1]), FollowError::Gap { .. }), "one is missing");
    assert!(matches!(refuse(&lines[0]), FollowError::Gap { .. }), "an old one");
    let mut line = last[0].clone();
    line.epoch = "restored".into();
    assert!(matches!(refuse(&line), FollowError::OtherEpoch { .. }));
    let mut line = last[0].clone();
    line.changes.pop();
    assert!(matches!(refuse(&line), FollowError::Diverged { .. }));
    let mut line = last[0].clone();
    line.hash = "zz".into();
    assert!(matches!(refuse(&line), FollowError::BadHash { .. }));
    // Not one byte of it may be another, whether it says something or not.
    let whole = model::sparse::to_vec(&last[0]).unwrap();
    let changes = whole.windows(5).position(|at| at == b",\"c\":").unwrap() + 5;
    for at in changes..whole.len() - 1 {
        let mut text = whole.clone();
        text[at] = if text[at] == b'1' { b'2' } else { b'1' };
        let mut state = copy.clone();
        assert!(matches!(state.follow(&text), Err(FollowError::NoLine(_) | FollowError::Diverged { .. })), "byte {at}");
        assert_eq!(state.index(), copy.index());
    }
    assert!(copy.clone().follow(&whole[..whole.len() - 1]).is_err());
}
