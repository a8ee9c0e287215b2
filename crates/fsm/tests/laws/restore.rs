//! A snapshot becomes the state: all of it or nothing, beyond every index, the same on every server.

use crate::world::{World, job, snapshot};
use fsm::command::RestoreStep;
use fsm::{Command, Envelope, Refusal, Reply, State, Table, apply, read_snapshot};
use model::{ClientStatus, Index, Role};

/// A server as the state service drives it: indexes of the log, the offset added.
#[derive(Clone, Default)]
struct Server {
    state: State,
    log: u64,
}

impl Server {
    fn apply(&mut self, envelope: &Envelope) -> Reply {
        self.log += 1;
        let index = Index(self.log + self.state.offset());
        let reply = apply(&mut self.state, index, envelope).reply;
        self.state.check().unwrap();
        reply
    }
}

fn envelope(proposer: Role, command: Command) -> Envelope {
    Envelope { request: None, proposer, lease: None, now: 1_700_000_000_000_000_000, command }
}

fn fresh() -> Server {
    let mut server = Server::default();
    let init = Command::ClusterInit { region: "global".into(), epoch: "fresh".into(), with: None };
    assert_eq!(server.apply(&envelope(Role::State, init)), Reply::Done);
    let lease = fsm::LeaseName::Controller;
    let acquire = Command::LeaseAcquire { lease, holder: "living".into(), addr: "127.0.0.1:9".into() };
    assert!(matches!(server.apply(&envelope(Role::Controller, acquire)), Reply::Lease { .. }));
    server
}

/// A cluster with a history.
fn source() -> World {
    let mut world = World::new();
    for n in 0..40 {
        world.register(job(&format!("j{n}")));
    }
    world.node("n1");
    let mut plan = world.plan("j7");
    world.put(&mut plan, "n1", "a");
    world.apply_plan(plan);
    world.tell("a", ClientStatus::Running);
    world
}

/// The steps that bring a text in.
fn steps(text: &str, piece_bytes: usize) -> Vec<Envelope> {
    let id = "r1".to_owned();
    let mut all = vec![RestoreStep::Begin { id: id.clone() }];
    let bytes = text.as_bytes();
    for (at, piece) in bytes.chunks(piece_bytes).enumerate() {
        let lines = String::from_utf8_lossy(piece).into_owned();
        all.push(RestoreStep::Piece { id: id.clone(), at, lines });
    }
    all.push(RestoreStep::Commit { id, epoch: "restored".into() });
    all.into_iter().map(|step| envelope(Role::Gateway, Command::Restore(step))).collect()
}

fn bring_in(server: &mut Server, text: &str) -> Reply {
    let mut last = Reply::Done;
    for step in steps(text, 1000) {
        last = server.apply(&step);
    }
    last
}

fn text(state: &State) -> String {
    String::from_utf8(snapshot(state, None)).unwrap()
}

#[test]
fn snapshot_002_a_restored_state_holds_the_rows_of_the_snapshot_beyond_every_index() {
    let world = source();
    let mut server = fresh();
    assert_eq!(bring_in(&mut server, &text(&world.state)), Reply::Done);
    let state = &server.state;
    assert!(state.index() > world.index());
    assert_eq!(state.jobs().collect::<Vec<_>>(), world.state.jobs().collect::<Vec<_>>());
    assert_eq!(state.allocs().collect::<Vec<_>>(), world.state.allocs().collect::<Vec<_>>());
    assert_eq!(state.nodes().collect::<Vec<_>>(), world.state.nodes().collect::<Vec<_>>());
    assert_eq!(state.cluster().epoch, "restored");
    let holder = &state.lease(fsm::LeaseName::Controller).unwrap().holder;
    assert_eq!(holder, "living", "leases are those of the living");
    for table in Table::ALL {
        assert_eq!(state.table_index(table), state.index(), "who waits for {table:?} is woken");
    }
    assert!(state.node_fence(&"n1".into()) > world.state.node_fence(&"n1".into()));
    assert!(state.staged().is_none());
}

#[test]
fn restore_then_replay_gives_the_same_bytes() {
    let world = source();
    let more: Vec<Envelope> = {
        let register = |id: &str| {
            let register =
                fsm::command::JobRegister { job: job(id), eval: None, submission: None, enforce_index: None };
            envelope(Role::Gateway, Command::JobRegister(Box::new(register)))
        };
        ["x", "y", "j3"].into_iter().map(register).collect()
    };
    let mut log = steps(&text(&world.state), 777);
    log.extend(more);
    let mut one = fresh();
    let replies: Vec<Reply> = log.iter().map(|entry| one.apply(entry)).collect();
    assert!(replies.iter().all(|reply| !matches!(reply, Reply::Refused(_))), "{replies:?}");
    // The whole log again; and a server that restarts from its own snapshot after each entry.
    let (mut again, mut restarting) = (fresh(), fresh());
    for entry in &log {
        again.apply(entry);
        restarting.apply(entry);
        let bytes = snapshot(&restarting.state, None);
        restarting.state = read_snapshot(&bytes[..]).unwrap();
    }
    assert!(text(&again.state) == text(&one.state));
    assert!(text(&restarting.state) == text(&one.state));
}

#[test]
fn snapshot_003_a_snapshot_that_is_cut_or_damaged_anywhere_is_refused_and_changes_nothing() {
    let world = source();
    let good = text(&world.state);
    let server = fresh();
    let before = |server: &Server| {
        let mut state = server.state.clone();
        state = read_snapshot(&snapshot(&state, Some(&Table::ALL))[..]).unwrap();
        (state.jobs().count(), state.cluster().clone(), state.table_index(Table::Jobs), state.hash_text())
    };
    let refuse = |bad: &str| {
        let mut server = server.clone();
        let reply = bring_in(&mut server, bad);
        assert!(matches!(reply, Reply::Refused(Refusal::Invalid(_))), "{reply:?}");
        assert_eq!(before(&server), before(&self::fresh()));
    };
    for at in (0..good.len()).step_by(good.len() / 40) {
        refuse(&good[..at]);
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        refuse(&String::from_utf8_lossy(&bytes));
    }
    refuse("");
    refuse("{\"format\":\"other\"}\n");
}

#[test]
fn a_snapshot_of_another_region_or_of_some_tables_is_refused() {
    let mut other = Server::default();
    other.apply(&envelope(Role::State, Command::ClusterInit { region: "moon".into(), epoch: "m".into(), with: None }));
    let reply = bring_in(&mut fresh(), &text(&other.state));
    assert!(matches!(&reply, Reply::Refused(Refusal::Conflict(why)) if why.contains("moon")), "{reply:?}");
    let part = String::from_utf8(snapshot(&source().state, Some(&[Table::Nodes]))).unwrap();
    assert!(matches!(bring_in(&mut fresh(), &part), Reply::Refused(Refusal::Invalid(_))));
}

#[test]
fn a_restore_whose_pieces_are_not_all_there_in_order_is_refused() {
    let mut server = fresh();
    let log = steps(&text(&source().state), 1000);
    server.apply(&log[0]);
    assert!(matches!(server.apply(&log[2]), Reply::Refused(Refusal::Conflict(_))), "a piece too early");
    server.apply(&log[1]);
    assert!(matches!(server.apply(&log[1]), Reply::Refused(Refusal::Conflict(_))), "a piece twice");
    assert!(matches!(server.apply(log.last().unwrap()), Reply::Refused(Refusal::Invalid(_))), "too few");
    let abort = Command::Restore(RestoreStep::Abort { id: "r1".into() });
    assert_eq!(server.apply(&envelope(Role::State, abort)), Reply::Done);
    assert!(matches!(server.apply(&log[1]), Reply::Refused(Refusal::Conflict(_))), "given up");
    let begin = Command::Restore(RestoreStep::Begin { id: "x".into() });
    assert!(matches!(server.apply(&envelope(Role::Scheduler, begin)), Reply::Refused(Refusal::WrongRole { .. })));
}

#[test]
fn keyring_001_the_key_is_made_once_and_named_by_what_is_placed() {
    let mut world = World::new();
    let add = |id: &str, replaces| {
        let meta = model::keyring::RootKeyMeta { key_id: id.into(), ..Default::default() };
        let key = Box::new(model::keyring::RootKey { meta, public: "p".into() });
        let material = fsm::KeyMaterial { wrapped: "hidden".into(), wrapping_key: "hidden-too".into() };
        Command::RootKeyAdd { key, material, replaces }
    };
    world.accept(Role::State, add("k1", false));
    assert!(matches!(world.refuse(Role::State, add("k2", false)), Refusal::Conflict(_)));
    assert!(matches!(world.refuse(Role::Gateway, add("k2", true)), Refusal::WrongRole { .. }));
    world.node("n1");
    world.register(job("web"));
    world.place("web", "n1", &["a"]);
    assert_eq!(world.alloc("a").signing_key_id, "k1");
    world.accept(Role::State, add("k2", true));
    assert_eq!(world.state.active_root_key().unwrap().meta.key_id, "k2");
    assert_eq!(world.state.root_keys().count(), 2);
    world.assert_followed();
    let told: String = world.lines.iter().map(|line| model::sparse::to_string(line).unwrap()).collect();
    assert!(!told.contains("hidden"), "no follower learns what is secret");
    assert!(!String::from_utf8(snapshot(&world.state, Some(&Table::ALL))).unwrap().contains("hidden"));
    let own = read_snapshot(&snapshot(&world.state, None)[..]).unwrap();
    assert_eq!(own.key_material("k1").unwrap().wrapped, "hidden");
    assert!(!format!("{:?}", world.log).contains("hidden"), "nor any log");
}

/// fsm-020
#[test]
fn autopilot_s_configuration_is_set_only_at_the_index_that_is_named() {
    let mut world = World::new();
    let first = world.state.autopilot();
    assert!(first.cleanup_dead_servers && first.modify_index.get() > 0);
    let set = |cas| {
        let config = model::autopilot::AutopilotConfiguration { max_trailing_logs: 9, ..Default::default() };
        Command::AutopilotSet { config: Box::new(config), cas }
    };
    assert_eq!(world.accept(Role::Gateway, set(Some(Index(999)))), Reply::Set { updated: false });
    assert_eq!(world.state.autopilot(), first);
    assert_eq!(world.accept(Role::Gateway, set(Some(first.modify_index))), Reply::Set { updated: true });
    let now = world.state.autopilot();
    assert_eq!((now.max_trailing_logs, now.create_index, now.modify_index), (9, first.create_index, world.index()));
    world.assert_followed();
}

#[test]
fn keyring_003_004_an_old_key_stays_readable_until_it_is_removed_and_the_active_one_is_never() {
    use model::keyring::{RootKey, RootKeyMeta, RootKeyState};
    let mut world = World::new();
    let add = |id: &str, state, publish_time| {
        let meta = RootKeyMeta { key_id: id.into(), state, publish_time, ..Default::default() };
        let material = fsm::KeyMaterial { wrapped: format!("w-{id}"), wrapping_key: format!("k-{id}") };
        Command::RootKeyAdd { key: Box::new(RootKey { meta, public: id.into() }), material, replaces: true }
    };
    let remove = |id: &str, force| Command::RootKeyRemove { key_id: id.into(), force };
    let state = |world: &World, id: &str| world.state.root_keys().find(|k| k.meta.key_id == id).map(|k| k.meta.state);
    world.accept(Role::State, add("k1", RootKeyState::Active, 0));
    world.node("n1");
    world.register(job("web"));
    world.place("web", "n1", &["a"]);
    assert!(matches!(world.refuse(Role::Gateway, remove("k1", true)), Refusal::Conflict(_)), "it is active");
    // Published ahead, a key changes nothing until its turn.
    world.accept(Role::State, add("k2", RootKeyState::Prepublished, 99));
    assert_eq!(world.state.active_root_key().unwrap().meta.key_id, "k1");
    assert!(matches!(world.refuse(Role::State, add("k3", RootKeyState::Prepublished, 99)), Refusal::Conflict(_)));
    world.accept(Role::State, Command::RootKeyActivate { key_id: "k2".into() });
    assert_eq!((state(&world, "k1"), state(&world, "k2")), (Some(RootKeyState::Inactive), Some(RootKeyState::Active)));
    assert!(matches!(
        world.refuse(Role::State, Command::RootKeyActivate { key_id: "k2".into() }),
        Refusal::Conflict(_)
    ));
    let material = |world: &World, id: &str| world.state.key_material(id).map(|m| m.wrapped.clone());
    assert_eq!((material(&world, "k1").unwrap(), material(&world, "k2").unwrap()), ("w-k1".into(), "w-k2".into()));
    // In use by an allocation; with force it goes, and its secrets with it.
    assert!(matches!(world.refuse(Role::Gateway, remove("k1", false)), Refusal::Conflict(_)));
    assert!(matches!(world.refuse(Role::Gateway, remove("k9", true)), Refusal::NotFound { .. }));
    world.accept(Role::Gateway, remove("k1", true));
    assert_eq!((state(&world, "k1"), material(&world, "k1")), (None, None));
    assert!(matches!(world.refuse(Role::Gateway, remove("k2", true)), Refusal::Conflict(_)), "it is active now");
    world.assert_followed();
}
