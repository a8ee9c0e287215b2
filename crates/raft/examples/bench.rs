//! How fast a group of three in one process takes commands of 600 bytes: 1, 64 and 512 writers.
//!
//! `cargo run --release -p raft --example bench [directory] [seconds]`. All three nodes share the
//! machine and its disk; the network is a function call. Prints one line per case.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use raft::{Config, Frozen, Machine, Network, NetworkError, Peer, PeerId, Raft, Verb};

const COMMAND_BYTES: usize = 600;
const WRITERS: [usize; 3] = [1, 64, 512];

struct Count(AtomicU64);

impl Machine for Count {
    fn apply(&self, batch: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        vec![Bytes::new(); batch.len()]
    }
    fn applied(&self, _: u64) {}
    fn freeze(&self) -> Frozen {
        let count = self.0.load(Ordering::Relaxed);
        Box::new(move |out| out.write_all(&count.to_le_bytes()))
    }
    fn restore(&self, _: u64, r: &mut dyn Read) -> io::Result<()> {
        let mut count = [0; 8];
        r.read_exact(&mut count)?;
        self.0.store(u64::from_le_bytes(count), Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Switchboard {
    nodes: Arc<Mutex<HashMap<PeerId, Arc<Raft>>>>,
    appends: Arc<AtomicU64>,
}

impl Switchboard {
    fn peer(&self, to: &Peer) -> Result<Arc<Raft>, NetworkError> {
        let nodes = self.nodes.lock().unwrap_or_else(|e| e.into_inner());
        nodes.get(&to.id).cloned().ok_or_else(|| NetworkError::Unreachable(to.name.clone()))
    }
}

impl Network for Switchboard {
    fn call(&self, to: Peer, verb: Verb, body: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let this = self.clone();
        if verb == Verb::Append {
            self.appends.fetch_add(1, Ordering::Relaxed);
        }
        Box::pin(async move {
            let peer = this.peer(&to)?;
            peer.handle(verb, body).await.map_err(|e| NetworkError::Remote(e.to_string()))
        })
    }

    fn send_snapshot(
        &self,
        to: Peer,
        header: Bytes,
        file: PathBuf,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let this = self.clone();
        Box::pin(async move {
            let peer = this.peer(&to)?;
            let all = std::fs::read(file).map_err(|e| NetworkError::Remote(e.to_string()))?;
            let one = futures::stream::iter([Ok::<_, io::Error>(Bytes::from(all))]);
            peer.handle_snapshot(header, one).await.map_err(|e| NetworkError::Remote(e.to_string()))
        })
    }
}

async fn writer(leader: Arc<Raft>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let command = Bytes::from(vec![7u8; COMMAND_BYTES]);
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        if leader.propose(command.clone()).await.is_ok() {
            took.push(sent.elapsed());
        }
    }
    took
}

async fn case(leader: &Arc<Raft>, board: &Switchboard, writers: usize, time: Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let calls = board.appends.load(Ordering::Relaxed);
    let began = Instant::now();
    let tasks: Vec<_> = (0..writers).map(|_| tokio::spawn(writer(leader.clone(), stop.clone()))).collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut took: Vec<Duration> = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap_or_default());
    }
    took.sort();
    let calls = board.appends.load(Ordering::Relaxed) - calls;
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    let at = |part: f64| took.get((took.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{writers:>4} writers: {rate:>8.0} commands/s  p50 {:?}  p99 {:?}  max {:?}  {:.1} commands/call",
        at(0.50),
        at(0.99),
        at(0.9999),
        2.0 * took.len() as f64 / calls.max(1) as f64,
    );
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let home = PathBuf::from(args.next().unwrap_or_else(|| "target/raft-bench".into()));
    let seconds = args.next().map_or(Ok(3), |s| s.parse())?;
    let board = Switchboard::default();
    let peers: Vec<Peer> = (1..=3).map(|id| Peer { id, name: format!("n{id}"), addr: String::new() }).collect();
    for peer in &peers {
        let dir = home.join(peer.id.to_string());
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let config = Config::new(peer.clone(), dir);
        let node = Raft::start(config, Arc::new(Count(AtomicU64::new(0))), Arc::new(board.clone())).await?;
        board.nodes.lock().unwrap_or_else(|e| e.into_inner()).insert(peer.id, Arc::new(node));
    }
    let leader = board.peer(&peers[0])?;
    leader.initialize(peers.clone()).await?;
    leader.status().wait_for(|s| s.leader.is_some()).await?;
    let term = leader.status().borrow().term;
    for writers in WRITERS {
        case(&leader, &board, writers, Duration::from_secs(seconds)).await;
    }
    let reads = Instant::now();
    let rounds = 2_000;
    for _ in 0..rounds {
        leader.read_index().await?;
    }
    println!("read index, one caller: {:?}", reads.elapsed() / rounds);
    let status = leader.status().borrow().clone();
    println!("elections during the run: {}", status.term - term);
    for peer in &peers {
        board.peer(peer)?.shutdown().await;
    }
    Ok(())
}
