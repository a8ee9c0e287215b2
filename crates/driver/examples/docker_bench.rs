//! What the Docker driver costs over the engine itself, and how long 50 containers take to be found again.
//!
//! `cargo run --release -p driver --example docker_bench -- IMAGE [STARTS]`, with an image that is here, has a
//! fixed tag and holds `/bin/sleep`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use driver::cgroup::Limits;
use driver::contract::{Around, Driver as _, Handle, LogSettings, TaskConfig, new_task_id};
use driver::docker::{Docker, Options};
use driver::taskdir::AllocDirs;
use model::AllocId;
use serde_json::json;

const REATTACHED: usize = 50;

fn main() {
    let mut args = std::env::args().skip(1);
    let image = args.next().expect("an image that is here");
    let starts: usize = args.next().map_or(40, |n| n.parse().unwrap());
    let base = tempfile::tempdir().unwrap();
    let alloc_id = format!("5f1c2d3e-0000-0000-0000-{:012}", std::process::id());
    let alloc = AllocDirs::new(base.path(), &alloc_id).unwrap();
    alloc.build().unwrap();
    let task = |name: &str| {
        let alloc_id = AllocId::from(alloc_id.as_str());
        let dirs = alloc.task(name).unwrap();
        dirs.build(1).unwrap();
        let config = json!({"image": image, "command": "/bin/sleep", "args": ["3600"]});
        TaskConfig {
            task_id: new_task_id(&alloc_id, name),
            alloc_id,
            task: name.to_owned(),
            config: config.as_object().unwrap().clone(),
            env: BTreeMap::new(),
            user: String::new(),
            limits: Limits { cpu_mhz: 100, memory_mib: 16, memory_max_mib: 0 },
            dirs,
            logs: Some(LogSettings { max_files: 1, max_file_bytes: 1 << 20 }),
            around: Around { names: BTreeMap::from([("node_id", "bench".to_owned())]), ..Around::default() },
        }
    };

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let driver = runtime.block_on(Docker::new(Options::default(), "bench")).unwrap();
    let (mut ours, mut engines) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        for n in 0..starts {
            // Turn by turn, so that both meet the same machine.
            engines.push(engine_alone(&image).await);
            let config = task(&format!("one-{n}"));
            let began = Instant::now();
            let handle = driver.start(config).await.unwrap();
            ours.push(began.elapsed());
            driver.destroy(&handle.task_id, true).await.unwrap();
        }
    });
    print("start by the engine alone (create, start)", &mut engines);
    print("start by the driver", &mut ours);

    let handles: Vec<Handle> = runtime.block_on(async {
        let starting = (0..REATTACHED).map(|n| driver.start(task(&format!("many-{n}"))));
        futures::future::join_all(starting).await.into_iter().map(Result::unwrap).collect()
    });
    runtime.shutdown_background();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let driver = Docker::new(Options::default(), "bench").await.unwrap();
        let recovering = handles.iter().map(|handle| driver.recover(handle.clone()));
        let all: Result<Vec<()>, _> = futures::future::join_all(recovering).await.into_iter().collect();
        all.unwrap();
        println!("{REATTACHED} containers re-attached: {:?}", began.elapsed());
        let ending = handles.iter().map(|handle| driver.destroy(&handle.task_id, true));
        futures::future::join_all(ending).await;
    });
    alloc.destroy().unwrap();
}

/// The same container, without us.
async fn engine_alone(image: &str) -> Duration {
    let docker = driver::docker::client(&Options::default()).unwrap();
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["/bin/sleep".to_owned(), "3600".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let began = Instant::now();
    let made = docker.create_container(None, body).await.unwrap();
    docker.start_container(&made.id, None).await.unwrap();
    let took = began.elapsed();
    let options = bollard::query_parameters::RemoveContainerOptions { force: true, ..Default::default() };
    docker.remove_container(&made.id, Some(options)).await.unwrap();
    took
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("{what}: p50 {:?}, p90 {:?}, p99 {:?} of {}", at(50), at(90), at(99), times.len());
}
