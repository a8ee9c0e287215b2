//! What a call between two services costs, in one process over loopback with mutual TLS:
//! `cargo run --release -p kit --example transport`.

use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use axum::{Json, Router};
use client::http::{Http, Target};
use client::tls::{Identity, Role};
use kit::pki::Authority;
use kit::process::{Shutdown, runtime};
use kit::server::{Limits, Listener, Tls, serve};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const LINE_BYTES: usize = 972;
const LINES: usize = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("steppe-transport-{}", std::process::id()));
    let ca = Authority::create(dir.join("ca"), "global")?;
    for (role, name) in [(Role::State, "server"), (Role::Gateway, "caller")] {
        ca.write_identity(dir.join(name), role, name, "global", SECOND * 3600)?;
    }
    let server = Identity::load(dir.join("server"))?;
    let http = Http::new(Identity::load(dir.join("caller"))?);
    std::fs::remove_dir_all(&dir)?;
    runtime("transport")?.block_on(measure(server, http))
}

fn routes() -> Router {
    let line: Bytes = [vec![b'x'; LINE_BYTES - 1], b"\n".to_vec()].concat().into();
    let lines = move || {
        let line = line.clone();
        async move { Body::from_stream(futures::stream::iter((0..LINES).map(move |_| io::Result::Ok(line.clone())))) }
    };
    Router::new().route("/echo", post(|Json(body): Json<Value>| async move { Json(body) })).route("/lines", get(lines))
}

async fn measure(server: Identity, http: Http) -> Result<(), Box<dyn std::error::Error>> {
    let listener = Listener::bind("127.0.0.1:0".parse()?)?;
    let to = Target::new(listener.local_addr()?, Role::State);
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(serve(listener, Tls::Mutual(server), routes(), Limits::internal(), shutdown.clone()));
    println!("{:24} {} MiB", "idle, PSS", pss_mib()?);

    let body = json!({ "text": "x".repeat(1000) });
    for callers in [1_usize, 32, 256] {
        for poll in [false, true] {
            let start = Instant::now();
            let tasks = (0..callers).map(|_| {
                let (http, to, body) = (http.clone(), to.clone(), body.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while start.elapsed() < SECOND * 2 {
                        let begin = Instant::now();
                        let answer: Value = if poll {
                            http.poll_json(&to, "/echo", &body, SECOND * 5).await?
                        } else {
                            http.post_json(&to, "/echo", &body, SECOND * 5).await?
                        };
                        assert_eq!(answer, body);
                        times.push(begin.elapsed());
                    }
                    Ok::<_, client::error::CallError>(times)
                })
            });
            let mut times = Vec::new();
            for task in tasks.collect::<Vec<_>>() {
                times.extend(task.await??);
            }
            times.sort_unstable();
            let rate = times.len() as f64 / start.elapsed().as_secs_f64();
            let at = |q: usize| times[times.len() * q / 100].as_micros();
            let kind = if poll { "poll (h2)" } else { "call (h1)" };
            println!("{kind} x {callers:<12} {rate:7.0}/s  p50 {} us  p99 {} us", at(50), at(99));
        }
    }

    let start = Instant::now();
    let mut lines = http.open_stream(&to, "/lines", SECOND, SECOND).await?.lines(LINE_BYTES);
    let mut bytes = 0;
    while let Some(line) = lines.next().await? {
        bytes += line.len() + 1;
    }
    assert_eq!(bytes, LINES * LINE_BYTES);
    println!("{:24} {:.0} MB/s", "lines", bytes as f64 / start.elapsed().as_secs_f64() / 1e6);
    println!("{:24} {} MiB", "after all, PSS", pss_mib()?);
    shutdown.request();
    serving.await?;
    Ok(())
}

fn pss_mib() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).ok_or("no Pss line")?;
    Ok(line.split_whitespace().next().ok_or("empty Pss line")?.parse::<u64>()? / 1024)
}
