//! Plans as a whole: several of one batch, dry runs, and what random histories lead to.

use std::collections::{BTreeMap, BTreeSet};

use model::resources::{NetworkResource, Port};
use model::{ClientStatus, Eligibility, EvalStatus, Evaluation, Job, NodeId, NodeStatus};
use placement::{Request, Verdict, dry_run, schedule};
use proptest::prelude::*;

use crate::world::{SECOND, World, changed, constraint, job, migrate, node, retouched, rolling, uuid};

/// Two evaluations of one batch see each other's plans and do not collide.
#[test]
fn plans_of_one_batch_do_not_collide() {
    let mut world = World::with_nodes(2);
    let mut fleet = world.fleet.clone();
    let mut plans = Vec::new();
    for n in 0..6 {
        let mut job = job("batch", 1);
        job.id = Some(format!("j{n}").as_str().into());
        job.task_groups[0].tasks[0].resources.as_mut().unwrap().cpu = Some(1300);
        let port = Port { label: "http".into(), to: -1, ..Port::default() };
        job.task_groups[0].networks.push(NetworkResource { dynamic_ports: vec![port], ..Default::default() });
        let eval = world.register_only(&job);
        plans.push(eval);
    }
    let mut ids = 0;
    let decisions: Vec<_> = plans
        .iter()
        .map(|eval| {
            let mut new_id = || {
                ids += 1;
                uuid(0xb000_0000 + ids)
            };
            let suspects = |_: &NodeId| false;
            let (state, fleet_now) = (&world.state, &fleet);
            let request = Request {
                state,
                fleet: fleet_now,
                eval,
                now: 1,
                seed: 3,
                retry: false,
                new_id: &mut new_id,
                suspects: &suspects,
                clock: &|| 0,
            };
            let decision = schedule(request);
            fleet.assume(&decision.plan);
            decision
        })
        .collect();
    let mut per_node: BTreeMap<NodeId, Vec<model::Allocation>> = BTreeMap::new();
    for decision in decisions {
        assert_eq!(decision.plan.eval.as_ref().unwrap().queued_allocations["g"], 0);
        for (id, part) in decision.plan.parts {
            per_node.entry(id).or_default().extend(part.place);
        }
    }
    for (id, all) in per_node {
        assert_eq!(all.len(), 3);
        placement::verify(world.state.node(&id).unwrap(), std::iter::empty(), &all).unwrap();
    }
}

fn plan(world: &World, job: &Job) -> placement::DryRun {
    let mut job = job.clone();
    job.canonicalize();
    let eval = Evaluation {
        id: uuid(9).into(),
        namespace: job.namespace(),
        job_id: job.id(),
        kind: job.kind_text().to_owned(),
        priority: 50,
        triggered_by: "job-register".into(),
        annotate_plan: true,
        ..Evaluation::default()
    };
    let mut n = 0;
    let mut new_id = || {
        n += 1;
        uuid(0xc000_0000 + n)
    };
    let suspects = |_: &NodeId| false;
    let (state, fleet) = (&world.state, &world.fleet);
    dry_run(
        Request {
            state,
            fleet,
            eval: &eval,
            now: 1,
            seed: 1,
            retry: false,
            new_id: &mut new_id,
            suspects: &suspects,
            clock: &|| 0,
        },
        &job,
    )
}

/// service-017, system-005: the same answers as the recorded plans.
#[test]
fn service_017_a_dry_run_tells_what_would_change_and_changes_nothing() {
    let mut world = World::with_nodes(1);
    let web = rolling("service", 2, 1);
    let new = plan(&world, &web);
    assert_eq!(new.annotations.desired_tg_updates["g"].place, 2);
    assert!(new.created_evals.is_empty() && new.failed_tg_allocs.is_empty());
    world.register(&web);
    world.run_all(&web);
    world.evaluate(&web, "deployment-watcher");
    let same = plan(&world, &web).annotations.desired_tg_updates["g"].clone();
    assert_eq!((same.ignore, same.place), (2, 0));
    let mut more = web.clone();
    more.task_groups[0].count = Some(3);
    let count = plan(&world, &more).annotations.desired_tg_updates["g"].clone();
    assert_eq!((count.place, count.in_place_update), (1, 2));
    let other = plan(&world, &changed(&web, "2")).annotations.desired_tg_updates["g"].clone();
    assert_eq!((other.destructive_update, other.ignore), (1, 1));
    let mut huge = job("service", 1);
    huge.id = Some("huge".into());
    huge.task_groups[0].tasks[0].resources.as_mut().unwrap().memory_mb = Some(99_999_999);
    let before = world.state.index();
    let huge = plan(&world, &huge);
    let metric = &huge.failed_tg_allocs["g"];
    assert_eq!((metric.nodes_exhausted, metric.dimension_exhausted["memory"]), (1, 1));
    assert_eq!(metric.resources_exhausted["t"].memory_mb, Some(99_999_999));
    let blocked = &huge.created_evals[0];
    assert_eq!((blocked.status, blocked.snapshot_index.get()), (EvalStatus::Blocked, 0));
    assert_eq!(blocked.class_eligibility.values().collect::<Vec<_>>(), [&true]);
    assert_eq!(world.state.index(), before);
    let mut system = job("system", 1);
    system.id = Some("system".into());
    system.name = system.id.as_ref().map(ToString::to_string);
    assert_eq!(plan(&world, &system).annotations.desired_tg_updates["g"].place, 1);
}

#[test]
fn a_trace_tells_of_every_node() {
    let mut world = World::with_nodes(3);
    world.set_eligible(&uuid(0).into(), Eligibility::Ineligible);
    let mut picky = job("service", 1);
    picky.constraints.push(constraint("${meta.rack}", "=", "r1"));
    let eval = world.register_only(&picky);
    let traces = world.decide(&eval).traces;
    let verdicts: Vec<String> = traces.groups[0]
        .nodes()
        .map(|(_, verdict)| match verdict {
            Verdict::Fits { .. } => "fits".to_owned(),
            Verdict::Filtered(why) | Verdict::Exhausted(why) => why.to_owned(),
            Verdict::NotCandidate => "no candidate".to_owned(),
        })
        .collect();
    assert_eq!(verdicts, ["no candidate", "fits", "${meta.rack} = r1"]);
}

#[derive(Clone, Debug)]
enum Step {
    Count(i64),
    Destructive(u8),
    InPlace(u8),
    Stop,
    NodeDown(u8),
    NodeUp(u8),
    NodeDrain(u8),
    NodeNew(u8),
    Ineligible(u8),
    Fail(u8),
    Complete(u8),
    RunAll,
    Wait(i64),
    Evaluate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..9_i64).prop_map(Step::Count),
        2 => any::<u8>().prop_map(Step::Destructive),
        1 => any::<u8>().prop_map(Step::InPlace),
        1 => Just(Step::Stop),
        2 => any::<u8>().prop_map(Step::NodeDown),
        2 => any::<u8>().prop_map(Step::NodeUp),
        1 => any::<u8>().prop_map(Step::NodeDrain),
        1 => any::<u8>().prop_map(Step::NodeNew),
        1 => any::<u8>().prop_map(Step::Ineligible),
        3 => any::<u8>().prop_map(Step::Fail),
        2 => any::<u8>().prop_map(Step::Complete),
        4 => Just(Step::RunAll),
        2 => (1..600_i64).prop_map(Step::Wait),
        3 => Just(Step::Evaluate),
    ]
}

struct History {
    world: World,
    job: Job,
    nodes: Vec<NodeId>,
    kind: &'static str,
}

impl History {
    fn node(&self, n: u8) -> NodeId {
        self.nodes[usize::from(n) % self.nodes.len()].clone()
    }

    fn live(&self, n: u8) -> Option<std::sync::Arc<model::Allocation>> {
        let live: Vec<_> = self.world.allocs(&self.job).into_iter().filter(|a| !a.client_terminal()).collect();
        (!live.is_empty()).then(|| live[usize::from(n) % live.len()].clone())
    }

    fn step(&mut self, step: Step) {
        let chosen = match &step {
            Step::NodeDown(n) | Step::NodeUp(n) | Step::NodeDrain(n) | Step::Ineligible(n) => self.node(*n),
            _ => NodeId::default(),
        };
        let world = &mut self.world;
        match step {
            Step::Count(count) => {
                let per_node = matches!(self.kind, "system" | "sysbatch");
                self.job.task_groups[0].count = Some(if per_node { count % 2 } else { count });
                drop(world.register(&self.job));
            }
            Step::Destructive(n) => {
                self.job = changed(&self.job, &n.to_string());
                drop(world.register(&self.job));
            }
            Step::InPlace(n) => {
                self.job = retouched(&self.job, i64::from(n % 20) + 1);
                drop(world.register(&self.job));
            }
            Step::Stop => drop(world.stop_job(&self.job, false)),
            Step::NodeDown(_) => world.set_status(&chosen, NodeStatus::Down),
            Step::NodeUp(_) => world.set_status(&chosen, NodeStatus::Ready),
            Step::NodeDrain(_) => {
                let id = chosen;
                world.drain(&id);
                for alloc in world.live(&self.job).iter().filter(|a| a.node_id == id) {
                    world.transition(&alloc.id, migrate());
                }
            }
            Step::NodeNew(n) => {
                let id = world.add_node(node(100 + u64::from(n)));
                if !self.nodes.contains(&id) {
                    self.nodes.push(id);
                }
            }
            Step::Ineligible(_) => world.set_eligible(&chosen, Eligibility::Ineligible),
            Step::Fail(n) => {
                if let Some(alloc) = self.live(n) {
                    self.world.report(&alloc, ClientStatus::Failed);
                }
            }
            Step::Complete(n) => {
                if let Some(alloc) = self.live(n) {
                    self.world.report(&alloc, ClientStatus::Complete);
                }
            }
            Step::RunAll => world.run_all(&self.job),
            Step::Wait(seconds) => world.now += seconds * SECOND,
            Step::Evaluate => drop(world.evaluate(&self.job, "node-update")),
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let eval = self.world.eval_for(&self.job, "node-update");
        let decision = self.world.decide(&eval);
        let mut touched = BTreeSet::new();
        for part in decision.plan.parts.values() {
            for stop in &part.stop {
                let effect = stop.desired_status == model::DesiredStatus::Stop && !stop.description.is_empty();
                prop_assert!(effect || !stop.followup_eval_id.is_empty(), "a stop has a reason: {stop:?}");
                prop_assert!(touched.insert(stop.id.clone()), "stopped twice: {stop:?}");
            }
            for update in &part.update {
                prop_assert!(touched.insert(update.id.clone()), "stopped and updated: {}", update.name);
            }
        }
        let twin = Evaluation { id: eval.id.clone(), ..eval };
        let placed = |d: &placement::Decision| {
            d.plan.parts.iter().map(|(n, p)| (n.clone(), p.place.len(), p.stop.len())).collect::<Vec<_>>()
        };
        prop_assert_eq!(placed(&decision), placed(&self.world.decide(&twin)), "same seed, same plan");
        self.world.verify(&decision);
        for _ in 0..2 {
            self.world.evaluate(&self.job, "node-update");
        }
        let live = self.world.live(&self.job);
        let count = usize::try_from(self.job.task_groups[0].count.unwrap()).unwrap();
        match self.kind {
            "service" | "batch" => prop_assert!(live.len() <= count, "{} live of {count}", live.len()),
            _ => {
                let mut nodes = BTreeSet::new();
                prop_assert!(live.iter().all(|a| nodes.insert(a.node_id.clone())), "two on one node");
            }
        }
        for alloc in &live {
            let node = self.world.state.node(&alloc.node_id).unwrap();
            prop_assert!(node.status == NodeStatus::Ready, "{} lives on a dead node", alloc.name);
        }
        Ok(())
    }
}

fn run(kind: &'static str, update: bool, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let world = World::with_nodes(4);
    let nodes = (0..4).map(|n| uuid(n).into()).collect();
    let count = if matches!(kind, "system" | "sysbatch") { 1 } else { 4 };
    let job = if update { rolling(kind, count, 2) } else { job(kind, count) };
    let mut history = History { world, job, nodes, kind };
    let job = history.job.clone();
    history.world.register(&job);
    for step in steps {
        history.step(step);
    }
    history.check()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// reconcile-083: whatever happened, the count is not exceeded, nothing is stopped twice, every plan
    /// fits and is applied whole.
    #[test]
    fn reconcile_083_any_history_of_a_service_ends_in_order(
        update in any::<bool>(), steps in prop::collection::vec(step(), 1..25)
    ) {
        run("service", update, steps)?;
    }

    #[test]
    fn reconcile_083_any_history_of_a_batch_job_ends_in_order(steps in prop::collection::vec(step(), 1..25)) {
        run("batch", false, steps)?;
    }

    /// nodediff-007
    #[test]
    fn nodediff_007_any_history_of_a_system_job_ends_in_order(
        update in any::<bool>(), steps in prop::collection::vec(step(), 1..25)
    ) {
        run("system", update, steps)?;
    }

    #[test]
    fn nodediff_007_any_history_of_a_sysbatch_job_ends_in_order(steps in prop::collection::vec(step(), 1..25)) {
        run("sysbatch", false, steps)?;
    }
}
