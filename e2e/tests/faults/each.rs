//! Each service in turn is killed and frozen while jobs are submitted.

use std::time::{Duration, Instant};

use e2e::fleet::{Fleet, Shape};
use e2e::load::{Chance, Submitted, is_long};
use model::Role;

/// Of every service but the agent, after the end of its fault.
const SETTLES: Duration = Duration::from_secs(10);
/// An agent's time to live with so few nodes.
const TTL: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
}

/// Whom the fault shall meet: of services that have one owner of their work, the owner.
async fn victim(fleet: &Fleet, role: Role, chance: &mut Chance) -> String {
    match role {
        Role::State => fleet.leader().await,
        Role::Broker | Role::Applier | Role::Controller => fleet.holder(role),
        _ => chance.pick(&fleet.of(role)).clone(),
    }
}

/// Submits `count` jobs over a second, and makes the fault meanwhile; when it ended.
async fn fail_under_load(
    fleet: &mut Fleet,
    (victim, fault): (&str, Fault),
    count: usize,
    (submitted, prefix): (&Submitted, &str),
    chance: &mut Chance,
) -> Instant {
    let apis = fleet.apis();
    let submit = |n: usize| {
        let (api, submitted, id) = (apis[n % apis.len()].clone(), submitted.clone(), format!("{prefix}-{n}"));
        let pause = chance.millis(0, 1_500);
        async move {
            tokio::time::sleep(pause).await;
            submitted.submit(api, id).await;
        }
    };
    let load = futures::future::join_all((0..count).map(submit).collect::<Vec<_>>());
    let begins = chance.millis(0, 1_000);
    // An agent may be back before its time to live is over, or after it.
    let longest = if fleet.role(victim) == Role::Agent { 9_000 } else { 4_000 };
    let lasts = chance.millis(100, longest);
    println!("{fault:?} {victim} after {begins:?} for {lasts:?}");
    let failing = async {
        tokio::time::sleep(begins).await;
        match fault {
            Fault::Kill => fleet.kill(victim),
            Fault::Freeze => fleet.signal(victim, "-STOP"),
        }
        tokio::time::sleep(lasts).await;
        match fault {
            Fault::Kill => fleet.spawn(victim),
            Fault::Freeze => fleet.signal(victim, "-CONT"),
        }
        Instant::now()
    };
    let ((), ended) = tokio::join!(async { drop(load.await) }, failing);
    ended
}

#[tokio::test]
async fn whichever_process_is_killed_or_frozen_each_acknowledged_job_runs_exactly_once() {
    let mut chance = Chance::new("each service fails");
    let mut fleet = Fleet::start(Shape::STANDBYS).await;
    let submitted = Submitted::default();
    // `STEPPE_ROLES=state,agent` looks into some of them.
    let chosen = std::env::var("STEPPE_ROLES").unwrap_or_default();
    let is_chosen = |role: &Role| chosen.is_empty() || chosen.split(',').any(|name| name == role.as_str());
    let roles: Vec<Role> = e2e::fleet::ROLES.into_iter().filter(is_chosen).collect();
    let faults = 2 * roles.len();
    let (all, rounds) = (200, if is_long() { faults } else { 1 });
    let count = (all * rounds).div_ceil(faults);
    let (mut asked, mut longest) = (0, Duration::ZERO);
    for fault in [Fault::Kill, Fault::Freeze] {
        for role in roles.iter().copied() {
            let victim = victim(&fleet, role, &mut chance).await;
            let prefix = format!("{fault:?}-{role}").to_lowercase();
            let what = (victim.as_str(), fault);
            let ended = fail_under_load(&mut fleet, what, count, (&submitted, &prefix), &mut chance).await;
            asked += count;
            let within = if role == Role::Agent { TTL + Duration::from_secs(2) } else { SETTLES };
            let left = within.saturating_sub(ended.elapsed());
            submitted.until_exact(&fleet, left, &format!("{fault:?} {victim}")).await;
            println!("as it should be {:?} after the end of the fault", ended.elapsed());
            longest = longest.max(ended.elapsed());
        }
    }
    let acknowledged = submitted.acknowledged().len();
    println!("{acknowledged} of {asked} jobs were acknowledged; at most {longest:?} after a fault's end all was well");
    assert!(acknowledged * 2 > asked, "{acknowledged} of {asked} were acknowledged");
}
