//! Anything is killed, again and again, and nothing that a client was told turns out not to be so.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::public::{PublicClient, PublicError, Query};
use e2e::fleet::{Fleet, Shape};
use e2e::history::{Call, History};
use e2e::load::{Chance, Submitted, is_long};
use serde_json::{Value, json};

const CLIENTS: usize = 4;
/// Jobs that are written again and again.
const KEYS: usize = 4;
const PACE_MS: (u64, u64) = (5, 60);

/// What the clients share.
struct World {
    began: Instant,
    apis: Vec<PublicClient>,
    history: RefCell<History>,
    /// The last number written to a key.
    numbers: RefCell<BTreeMap<String, u64>>,
    over: Cell<bool>,
}

/// A job that fits nowhere: what is looked at is what it says.
fn job(id: &str, number: u64) -> Value {
    let task = json!({"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "1s"}});
    let never = json!({"LTarget": "${node.class}", "RTarget": "nowhere", "Operand": "="});
    let group = json!({"Name": "g", "Count": number, "Tasks": [task]});
    json!({"Job": {"ID": id, "Name": id, "Type": "batch", "Datacenters": ["*"], "Constraints": [never],
        "TaskGroups": [group]}})
}

impl World {
    fn api(&self, chance: &mut Chance) -> PublicClient {
        chance.pick(&self.apis).clone()
    }

    fn number(&self, key: &str) -> u64 {
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.entry(key.to_owned()).or_default();
        *number += 1;
        *number
    }

    /// Notes a write, unless it was refused.
    fn wrote(&self, key: &str, value: u64, began: Duration, answer: Result<Value, PublicError>) -> bool {
        let index = match answer {
            Ok(answer) => Some(answer["JobModifyIndex"].as_u64().unwrap()),
            Err(error) if error.status().is_some_and(|s| s.is_client_error()) => return false,
            Err(_) => None,
        };
        self.history.borrow_mut().note(key, began, self.began.elapsed(), Call::Wrote { value, index });
        index.is_some()
    }

    async fn register(&self, key: &str, chance: &mut Chance) -> bool {
        let (value, began) = (self.number(key), self.began.elapsed());
        let answer = self.api(chance).put("/v1/jobs", &Query::default(), &job(key, value)).await.map(|(v, _)| v);
        self.wrote(key, value, began, answer)
    }

    async fn scale(&self, key: &str, chance: &mut Chance) {
        let (value, began) = (self.number(key), self.began.elapsed());
        let body = json!({"Target": {"Group": "g"}, "Count": value});
        let path = format!("/v1/job/{key}/scale");
        let answer = self.api(chance).put(&path, &Query::default(), &body).await.map(|(v, _)| v);
        self.wrote(key, value, began, answer);
    }

    async fn deregister(&self, key: &str, chance: &mut Chance) {
        let (value, began) = (self.number(key), self.began.elapsed());
        let answer = self.api(chance).delete(&format!("/v1/job/{key}"), &Query::default()).await.map(|(v, _)| v);
        self.wrote(key, value, began, answer);
    }

    /// A default read. A job that was stopped has the number of its last write.
    async fn read(&self, key: &str, api: PublicClient) -> bool {
        let began = self.began.elapsed();
        let call = match api.get::<Value>(&format!("/v1/job/{key}"), &Query::default()).await {
            Ok((job, _)) => {
                let stopped = job["Stop"] == true;
                let count = job["TaskGroups"][0]["Count"].as_u64().unwrap();
                let value = if stopped { count + 1 } else { count };
                Call::Read { value, index: job["JobModifyIndex"].as_u64().unwrap() }
            }
            Err(error) if error.is_not_found() => Call::Read { value: 0, index: 0 },
            Err(_) => return false,
        };
        self.history.borrow_mut().note(key, began, self.began.elapsed(), call);
        true
    }

    /// One client's day.
    async fn work(&self, client: usize, mut chance: Chance) {
        let mut n = 0;
        while !self.over.get() {
            let key = format!("key-{}", chance.below(KEYS));
            match chance.below(8) {
                0..2 => drop(self.register(&key, &mut chance).await),
                2 => self.scale(&key, &mut chance).await,
                3 => {
                    // One of its own, which comes and goes.
                    n += 1;
                    let key = format!("brief-{client}-{n}");
                    if self.register(&key, &mut chance).await {
                        self.deregister(&key, &mut chance).await;
                    }
                    let api = self.api(&mut chance);
                    self.read(&key, api).await;
                }
                _ => {
                    let api = self.api(&mut chance);
                    self.read(&key, api).await;
                }
            }
            tokio::time::sleep(chance.millis(PACE_MS.0, PACE_MS.1)).await;
        }
    }
}

/// Kills one process, or two at once, and brings them back.
async fn cycle(fleet: &mut Fleet, chance: &mut Chance) {
    let names = fleet.names();
    let mut victims = vec![chance.pick(&names).clone()];
    if chance.below(3) == 0 {
        victims.push(chance.pick(&names).clone());
        victims.sort();
        victims.dedup();
    }
    let (gone, then) = (chance.millis(50, 1_500), chance.millis(300, 1_500));
    println!("{victims:?} for {gone:?}, then {then:?}");
    for victim in &victims {
        fleet.kill(victim);
    }
    tokio::time::sleep(gone).await;
    for victim in &victims {
        fleet.spawn(victim);
    }
    tokio::time::sleep(then).await;
}

#[tokio::test]
async fn twenty_random_kill_cycles_lose_nothing_that_was_acknowledged() {
    let mut chance = Chance::new("kill cycles");
    let mut fleet = Fleet::start(Shape::STANDBYS).await;
    let world = World {
        began: Instant::now(),
        apis: fleet.apis(),
        history: RefCell::default(),
        numbers: RefCell::default(),
        over: Cell::new(false),
    };
    let submitted = Submitted::default();
    let mut each = || {
        chance.draw();
        chance.clone()
    };
    let clients = futures::future::join_all((0..CLIENTS).map(|n| world.work(n, each())).collect::<Vec<_>>());
    let killing = async {
        for n in 0..if is_long() { 200 } else { 20 } {
            submitted.submit(world.apis[n % world.apis.len()].clone(), format!("runs-{n}")).await;
            cycle(&mut fleet, &mut chance).await;
        }
        world.over.set(true);
    };
    tokio::join!(clients, killing);
    fleet.until_ready().await;
    let settled = submitted.until_exact(&fleet, Duration::from_secs(10), "the last cycle").await;
    let keys: Vec<String> = world.numbers.borrow().keys().cloned().collect();
    for key in &keys {
        for api in &world.apis {
            assert!(world.read(key, api.clone()).await, "{key} cannot be read");
        }
    }
    let history = world.history.borrow();
    println!(
        "{} writes acknowledged and {} reads of {} jobs; {} of the jobs that run; as it should be after {settled:?}",
        history.acknowledged(),
        history.reads(),
        keys.len(),
        submitted.acknowledged().len()
    );
    assert!(history.acknowledged() > 40 && history.reads() > 40, "too little was done");
    let wrong = history.check();
    assert!(wrong.is_empty(), "{} contradictions: {wrong:#?}", wrong.len());
}
