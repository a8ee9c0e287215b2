//! Plans are checked against the replica, what is in flight, and the plans before them; and what the check
//! says is what the state machine then does.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use applier::check::{Checker, Repicked};
use applier::overlay::{Effect, Overlay};
use fsm::command::{JobRegister, NodeStatusChange};
use fsm::{
    Command, Envelope, LeaseFence, LeaseName, PartDropped, Plan, PlanRefusal, PlanResult, PlanStop, Reply, State,
};
use model::{
    ClientStatus, DesiredStatus, Eligibility, EvalId, Evaluation, Index, Job, Node, NodeId, NodeStatus, Role, Term,
};
use placement::{Fleet, Request};
use serde_json::json;

struct World {
    state: State,
    now: i64,
    ids: u64,
}

fn node(id: &str, cpu: i64) -> Node {
    let mut node: Node = serde_json::from_value(json!({
        "ID": id, "SecretID": id, "Name": id, "Datacenter": "dc1", "NodePool": "default",
        "Status": "initializing", "SchedulingEligibility": "eligible",
        "Attributes": {"driver.mock_driver": "1", "kernel.name": "linux"},
        "Drivers": {"mock_driver": {"Detected": true, "Healthy": true}},
        "NodeResources": {
            "Cpu": {"CpuShares": cpu, "TotalCpuCores": 4}, "Memory": {"MemoryMB": 8_000}, "Disk": {"DiskMB": 100_000},
            "Networks": [{"Device": "lo", "IP": "127.0.0.1", "Mode": "host"}],
            "NodeNetworks": [{"Mode": "host", "Device": "lo", "Speed": 1000,
                "Addresses": [{"Family": "ipv4", "Alias": "default", "Address": "127.0.0.1"}]}],
            "MinDynamicPort": 20_000, "MaxDynamicPort": 20_100,
        },
        "ReservedResources": {"Cpu": {}, "Memory": {}, "Disk": {}, "Networks": {}},
    }))
    .unwrap();
    node.computed_class = node.computed_class();
    node
}

fn job(id: &str, count: i64, cpu: i64) -> Job {
    let mut job: Job = serde_json::from_value(json!({
        "ID": id, "Name": id, "Type": "batch", "Datacenters": ["*"],
        "TaskGroups": [{
            "Name": "g", "Count": count, "EphemeralDisk": {"SizeMB": 10},
            "Networks": [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}],
            "Tasks": [{"Name": "t", "Driver": "mock_driver", "Resources": {"CPU": cpu, "MemoryMB": 10}}],
        }],
    }))
    .unwrap();
    job.canonicalize();
    job
}

impl World {
    fn new(nodes: &[Node]) -> Self {
        let mut world = Self { state: State::default(), now: 1_800_000_000_000_000_000, ids: 0 };
        world.submit(Role::State, Command::ClusterInit { region: "global".into(), epoch: "e".into(), with: None });
        for (role, lease) in [(Role::Applier, LeaseName::Applier), (Role::Controller, LeaseName::Controller)] {
            world.submit(role, Command::LeaseAcquire { lease, holder: "test".into(), addr: "t:1".into() });
        }
        for node in nodes {
            world.register_node(node.clone());
            world.status(node.id.as_str(), NodeStatus::Ready);
        }
        world
    }

    fn submit(&mut self, proposer: Role, command: Command) -> Reply {
        self.now += 1_000_000;
        let fence = |lease| Some(LeaseFence { lease, term: Term(1) });
        let lease = match proposer {
            Role::Applier => fence(LeaseName::Applier),
            Role::Controller => fence(LeaseName::Controller),
            _ => None,
        };
        let envelope = Envelope { request: None, proposer, lease, now: self.now, command };
        let index = self.state.index().next();
        let outcome = fsm::apply(&mut self.state, index, &envelope);
        self.state.check().unwrap();
        assert!(!matches!(outcome.reply, Reply::Refused(_)), "{:?}", outcome.reply);
        outcome.reply
    }

    fn register_node(&mut self, node: Node) {
        self.submit(Role::Gateway, Command::NodeRegister { node: Box::new(node), evals: vec![] });
    }

    fn status(&mut self, node: &str, status: NodeStatus) {
        let update = NodeStatusChange { node_id: node.into(), status, updated_at: 1, event: None };
        self.submit(Role::Controller, Command::NodeStatusUpdate { updates: vec![update], evals: vec![] });
    }

    fn register(&mut self, job: Job) -> EvalId {
        self.ids += 1;
        let (namespace, job_id) = job.key();
        let eval = Evaluation {
            id: format!("eval-{}", self.ids).into(),
            namespace,
            job_id,
            priority: 50,
            kind: job.kind_text().to_owned(),
            triggered_by: "job-register".to_owned(),
            ..Evaluation::default()
        };
        let id = eval.id.clone();
        let register = JobRegister { job, eval: Some(eval), submission: None, enforce_index: None };
        self.submit(Role::Gateway, Command::JobRegister(Box::new(register)));
        id
    }

    /// What a scheduler wants, looking at the state as it is now.
    fn plan(&mut self, eval: &EvalId) -> Plan {
        let fleet = Fleet::from_state(&self.state);
        let mut ids = self.ids;
        let mut new_id = || {
            ids += 1;
            format!("id-{ids}")
        };
        let eval = self.state.eval(eval).unwrap().clone();
        let request = Request {
            state: &self.state,
            fleet: &fleet,
            eval: &eval,
            now: self.now,
            seed: 7,
            retry: false,
            new_id: &mut new_id,
            suspects: &|_| false,
            clock: &|| 0,
        };
        let plan = placement::schedule(request).plan;
        self.ids = ids;
        plan
    }

    /// Registers a job and plans it.
    fn planned(&mut self, id: &str, count: i64, cpu: i64) -> Plan {
        let eval = self.register(job(id, count, cpu));
        self.plan(&eval)
    }

    fn apply(&mut self, plans: Vec<Plan>) -> (Index, Vec<PlanResult>) {
        match self.submit(Role::Applier, Command::PlanApply { plans }) {
            Reply::Plans { results } => (self.state.index(), results),
            other => panic!("{other:?}"),
        }
    }
}

/// Checks a batch against a replica and the overlay.
fn check(replica: &State, overlay: &Overlay, plans: &mut [Plan]) -> (Effect, Vec<Repicked>) {
    let fleet = Fleet::from_state(replica);
    let mut checker = Checker::new(replica, &fleet, overlay);
    let repicked = plans.iter_mut().map(|plan| checker.check(plan, 99)).collect();
    (checker.finish(), repicked)
}

fn refused(plan: &Plan) -> Vec<(&str, PartDropped)> {
    plan.parts.iter().filter_map(|(node, part)| Some((node.as_str(), part.refused?))).collect()
}

fn in_flight(overlay: &Overlay, node: &str) -> usize {
    overlay.placed(&NodeId::from(node)).count()
}

#[test]
fn plans_of_one_batch_do_not_share_room() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let mut plans = [world.planned("a", 1, 600), world.planned("b", 1, 600), world.planned("c", 1, 400)];
    check(&world.state, &Overlay::default(), &mut plans);
    assert_eq!(refused(&plans[0]), []);
    assert_eq!(refused(&plans[1]), [("n1", PartDropped::NodeFull)]);
    assert_eq!(refused(&plans[2]), [], "what was refused takes no room from those behind");
    let (_, results) = world.apply(plans.into());
    assert_eq!(results.iter().map(|r| r.placed.len()).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(results[1].dropped["n1"], PartDropped::NodeFull);
    assert!(results[1].refresh_index > Index(0));
}

#[test]
fn what_is_committed_and_not_yet_seen_holds_its_room() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let (mut first, mut second) = ([world.planned("a", 1, 600)], [world.planned("b", 1, 600)]);
    let (replica, mut overlay) = (world.state.clone(), Overlay::default());
    let (effect, _) = check(&replica, &overlay, &mut first);
    let (index, results) = world.apply(first.into());
    overlay.add(index, effect, Some(&results));
    check(&replica, &overlay, &mut second);
    assert_eq!(refused(&second[0]), [("n1", PartDropped::NodeFull)]);
    assert_eq!(in_flight(&overlay, "n1"), 1);
}

/// plan-apply-029: what is on its way is counted on by what is checked behind it.
#[test]
fn fences_of_commands_behind_one_another_are_those_the_state_machine_comes_to() {
    let mut world = World::new(&[node("n1", 10_000), node("n2", 10_000)]);
    let mut overlay = Overlay::default();
    let mut plans: Vec<Vec<Plan>> =
        (0..3).map(|batch| (0..4).map(|n| world.planned(&format!("j{batch}-{n}"), n + 1, 10)).collect()).collect();
    // The replica is the one before all of them: nothing of it has come back yet.
    let replica = world.state.clone();
    for plans in &mut plans {
        overlay.settle(&replica);
        let (effect, _) = check(&replica, &overlay, plans);
        let (index, results) = world.apply(plans.clone());
        assert!(results.iter().all(PlanResult::is_full), "{results:?}");
        overlay.add(index, effect, Some(&results));
    }
    overlay.settle(&world.state);
    assert!(overlay.is_empty(), "all is in the state");
}

#[test]
fn what_the_log_drops_does_not_void_what_is_checked_behind_it() {
    let mut world = World::new(&[node("n1", 10_000)]);
    let mut overlay = Overlay::default();
    let mut plans: Vec<Plan> = (0..6).map(|n| world.planned(&format!("j{n}"), 2, 10)).collect();
    let replica = world.state.clone();
    // Three commands; one plan of the first and both of the second come to nothing.
    for (at, pair) in plans.chunks_mut(2).enumerate() {
        overlay.settle(&replica);
        let (effect, _) = check(&replica, &overlay, pair);
        let mut sent = pair.to_vec();
        for plan in sent.iter_mut().take(at + 1).filter(|_| at < 2) {
            plan.eval_id = "nobody-knows".into();
        }
        let (index, results) = world.apply(sent);
        let placed: Vec<usize> = results.iter().map(|r| r.placed.len()).collect();
        assert_eq!(placed, [[0, 2], [0, 0], [2, 2]][at]);
        overlay.add(index, effect, Some(&results));
    }
    assert_eq!(in_flight(&overlay, "n1"), 6, "what was dropped holds no room");
    // And the next, checked when all is seen, is in step.
    overlay.settle(&world.state);
    assert!(overlay.is_empty());
    let mut next = [world.planned("next", 1, 10)];
    check(&world.state, &overlay, &mut next);
    let (_, results) = world.apply(next.into());
    assert!(results[0].is_full());
}

#[test]
fn what_became_of_a_command_that_is_forgotten_is_what_the_replica_says_at_that_index() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let mut overlay = Overlay::default();
    let mut plans = [world.planned("a", 1, 600)];
    let (effect, _) = check(&world.state, &overlay, &mut plans);
    world.register(job("other", 1, 10));
    let before = world.state.clone();
    let (index, _) = world.apply(plans.into());
    overlay.add(index, effect, None);
    overlay.settle(&before);
    assert_eq!(in_flight(&overlay, "n1"), 1, "it may have been done: its room is kept");
    overlay.settle(&world.state);
    assert!(overlay.is_empty());
}

#[test]
fn a_dynamic_port_that_was_taken_is_picked_anew_and_the_answer_says_so() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let mut plans = [world.planned("a", 2, 10), world.planned("b", 2, 10)];
    let ports = |plans: &[Plan]| -> Vec<i64> {
        let placed = plans.iter().flat_map(|plan| plan.parts.values()).flat_map(|part| &part.place);
        placed.flat_map(|a| a.allocated_resources.iter().flat_map(|r| &r.shared.ports)).map(|p| p.value).collect()
    };
    // Both schedulers drew the same.
    let theirs = plans[0].parts.values().flat_map(|p| p.place.clone()).collect::<Vec<_>>();
    for (mine, theirs) in plans[1].parts.get_mut("n1").unwrap().place.iter_mut().zip(theirs) {
        mine.allocated_resources = theirs.allocated_resources;
    }
    let (_, repicked) = check(&world.state, &Overlay::default(), &mut plans);
    assert_eq!((refused(&plans[1]), repicked[0].len(), repicked[1].len()), (vec![], 0, 2));
    let distinct: BTreeSet<i64> = ports(&plans).into_iter().collect();
    assert_eq!(distinct.len(), 4, "{distinct:?}");
    for (alloc, label, port) in &repicked[1] {
        let place = &plans[1].parts["n1"].place;
        let row = place.iter().find(|a| a.id == *alloc).unwrap();
        let mapped = &row.allocated_resources.as_ref().unwrap().shared.ports;
        assert!(mapped.iter().any(|p| p.label == *label && p.value == i64::from(*port)));
    }
    let (_, results) = world.apply(plans.into());
    assert!(results.iter().all(PlanResult::is_full));
}

#[test]
fn a_plan_that_is_all_or_nothing_and_does_not_fit_takes_nothing() {
    let mut world = World::new(&[node("n1", 1_000), node("n2", 1_000)]);
    let mut whole = world.planned("whole", 2, 900);
    assert_eq!(whole.parts.len(), 2);
    whole.all_at_once = true;
    let mut plans = [world.planned("first", 1, 600), whole, world.planned("last", 1, 900)];
    let taken = plans[0].parts.keys().next().unwrap().clone();
    let free: NodeId = if taken.as_str() == "n1" { "n2".into() } else { "n1".into() };
    // The last one wants the node that the one in the middle would have had.
    let part = std::mem::take(&mut plans[2].parts).into_values().next().unwrap();
    plans[2].parts.insert(free.clone(), part);
    let row = &mut plans[2].parts.get_mut(&free).unwrap().place[0];
    row.node_id = free.clone();
    let (effect, _) = check(&world.state, &Overlay::default(), &mut plans);
    assert_eq!(effect.on_node(&free).count(), 1, "the last one's");
    let (_, results) = world.apply(plans.into());
    assert_eq!(results[1].refused, Some(PlanRefusal::NotAllAtOnce));
    assert!(results[0].is_full() && results[2].is_full(), "{results:?}");
}

#[test]
fn a_node_that_changed_since_the_snapshot_is_asked_again_whether_it_is_feasible() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let mut old = [world.planned("a", 1, 10)];
    let mut without = node("n1", 1_000);
    without.attributes.remove("driver.mock_driver");
    without.drivers.clear();
    without.computed_class = without.computed_class();
    world.register_node(without);
    check(&world.state, &Overlay::default(), &mut old);
    assert_eq!(refused(&old[0]), [("n1", PartDropped::Infeasible)]);
}

#[test]
fn nothing_is_placed_where_nothing_may_be() {
    type Spoil = fn(&mut World);
    let spoils: [(Spoil, PartDropped); 4] = [
        (
            |w| {
                drop(w.submit(
                    Role::Gateway,
                    Command::NodeDeregister { nodes: vec!["n1".into()], revoke: false, evals: vec![] },
                ))
            },
            PartDropped::NodeGone,
        ),
        (|w| w.status("n1", NodeStatus::Down), PartDropped::NodeNotReady),
        (
            |w| {
                let (node_id, eligibility) = ("n1".into(), Eligibility::Ineligible);
                w.submit(Role::Gateway, Command::NodeEligibility { node_id, eligibility, event: None, evals: vec![] });
            },
            PartDropped::NodeNotReady,
        ),
        (
            |w| drop(w.submit(Role::Controller, Command::NodeSuspect { suspects: [("n1".into(), true)].into() })),
            PartDropped::NodeNotReady,
        ),
    ];
    for (spoil, why) in spoils {
        let mut world = World::new(&[node("n1", 1_000)]);
        let mut plans = [world.planned("a", 1, 10)];
        spoil(&mut world);
        let (effect, _) = check(&world.state, &Overlay::default(), &mut plans);
        assert_eq!(refused(&plans[0]), [("n1", why)]);
        assert_eq!(effect.on_node(&"n1".into()).count(), 0);
        let (_, results) = world.apply(plans.into());
        assert_eq!((results[0].placed.len(), results[0].dropped["n1"]), (0, why));
    }
}

#[test]
fn what_a_lost_node_held_is_free_and_what_was_only_asked_to_stop_is_not() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let first = world.planned("a", 1, 900);
    world.apply(vec![first]);
    let running = world.state.allocs().next().unwrap().id.clone();
    let stop = |client_status| PlanStop {
        id: running.clone(),
        desired_status: DesiredStatus::Stop,
        client_status,
        ..PlanStop::default()
    };
    let eval = world.register(job("b", 1, 10));
    let other = world.plan(&eval);
    for (status, fits) in [(None, false), (Some(ClientStatus::Lost), true)] {
        let mut stopping = Plan { parts: [].into(), ..other.clone() };
        stopping.parts.entry("n1".into()).or_default().stop.push(stop(status));
        let mut wanting = other.clone();
        let row = &mut wanting.parts.get_mut("n1").unwrap().place[0];
        let resources = row.allocated_resources.as_mut().unwrap();
        std::sync::Arc::make_mut(resources).tasks.get_mut("t").unwrap().cpu.cpu_shares = 500;
        let mut plans = [stopping, wanting];
        check(&world.state, &Overlay::default(), &mut plans);
        assert_eq!(refused(&plans[1]).is_empty(), fits, "{status:?}");
    }
}

#[test]
fn a_plan_that_cannot_be_checked_is_refused_and_the_others_are_not() {
    let mut world = World::new(&[node("n1", 1_000)]);
    let mut plans = [world.planned("bad", 1, 10), world.planned("good", 1, 10)];
    let overlay = Overlay::default();
    let fleet = Fleet::from_state(&world.state);
    let mut checker = Checker::new(&world.state, &fleet, &overlay);
    checker.skip(&mut plans[0]);
    checker.check(&mut plans[1], 1);
    let (_, results) = world.apply(plans.into());
    assert_eq!(results.iter().map(|r| r.placed.len()).collect::<Vec<_>>(), [0, 1]);
}
