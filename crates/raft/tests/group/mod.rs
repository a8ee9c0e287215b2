//! A raft group in one process: an in-memory network that can be cut, slowed and reordered, and a
//! machine that remembers every command.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use raft::*;
use tempfile::TempDir;
use tokio::sync::watch;

pub struct Tape {
    pub lines: Mutex<Vec<(u64, Bytes)>>,
    pub applied: watch::Sender<u64>,
    pub restored: AtomicU64,
}

impl Default for Tape {
    fn default() -> Self {
        Self { lines: Mutex::default(), applied: watch::Sender::new(0), restored: AtomicU64::new(0) }
    }
}

impl Tape {
    pub fn lines(&self) -> Vec<(u64, Bytes)> {
        self.lines.lock().unwrap().clone()
    }

    pub async fn reach(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        tokio::time::timeout(Duration::from_secs(20), applied.wait_for(|at| *at >= index))
            .await
            .expect("applied")
            .unwrap();
    }
}

impl Machine for Tape {
    fn apply(&self, batch: Vec<(u64, Bytes)>) -> Vec<Bytes> {
        let mut lines = self.lines.lock().unwrap();
        batch
            .into_iter()
            .map(|(index, command)| {
                assert!(lines.last().is_none_or(|(last, _)| *last < index), "applied out of order");
                let reply = Bytes::from(format!("{index}:{}", command.len()));
                lines.push((index, command));
                reply
            })
            .collect()
    }

    fn applied(&self, index: u64) {
        self.applied.send_replace(index);
    }

    fn freeze(&self) -> Frozen {
        let lines = self.lines();
        Box::new(move |out| {
            for (index, command) in lines {
                out.write_all(&index.to_le_bytes())?;
                out.write_all(&(command.len() as u32).to_le_bytes())?;
                out.write_all(&command)?;
            }
            Ok(())
        })
    }

    fn restore(&self, _: u64, r: &mut dyn Read) -> io::Result<()> {
        let mut all = Vec::new();
        r.read_to_end(&mut all)?;
        let (mut rest, mut lines) = (&all[..], Vec::new());
        while let Some((head, tail)) = rest.split_at_checked(12) {
            let index = u64::from_le_bytes(head[..8].try_into().unwrap());
            let (command, tail) = tail.split_at(u32::from_le_bytes(head[8..].try_into().unwrap()) as usize);
            lines.push((index, Bytes::copy_from_slice(command)));
            rest = tail;
        }
        *self.lines.lock().unwrap() = lines;
        self.restored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Default)]
pub struct Hub {
    pub nodes: Mutex<HashMap<PeerId, Arc<Raft>>>,
    pub cut: Mutex<HashSet<(PeerId, PeerId)>>,
    /// Calls take up to this long, each its own time, so that they overtake each other.
    pub jitter_us: AtomicU64,
    pub appends: AtomicU64,
    pub snapshots: AtomicU64,
}

pub struct Link {
    pub me: PeerId,
    pub hub: Arc<Hub>,
}

impl Link {
    fn peer(&self, to: &Peer) -> Result<Arc<Raft>, NetworkError> {
        let gone = || NetworkError::Unreachable(to.name.clone());
        let cut = self.hub.cut.lock().unwrap();
        if cut.contains(&(self.me, to.id)) || cut.contains(&(to.id, self.me)) {
            return Err(gone());
        }
        self.hub.nodes.lock().unwrap().get(&to.id).cloned().ok_or_else(gone)
    }
}

impl Network for Link {
    fn call(&self, to: Peer, verb: Verb, body: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let link = Link { me: self.me, hub: self.hub.clone() };
        let nth = if verb == Verb::Append { self.hub.appends.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let jitter = self.hub.jitter_us.load(Ordering::Relaxed);
        Box::pin(async move {
            if jitter > 0 {
                // A cheap, uneven spread.
                let us = nth.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                tokio::time::sleep(Duration::from_micros(us % jitter)).await;
            }
            let peer = link.peer(&to)?;
            let answer = peer.handle(verb, body).await.map_err(|e| NetworkError::Remote(e.to_string()))?;
            link.peer(&to).map(|_| answer)
        })
    }

    fn send_snapshot(
        &self,
        to: Peer,
        header: Bytes,
        file: PathBuf,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetworkError>> {
        let link = Link { me: self.me, hub: self.hub.clone() };
        self.hub.snapshots.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let peer = link.peer(&to)?;
            let all = Bytes::from(std::fs::read(file).map_err(|e| NetworkError::Remote(e.to_string()))?);
            let pieces: Vec<_> = (0..all.len())
                .step_by(1_000)
                .map(|at| Ok::<_, io::Error>(all.slice(at..all.len().min(at + 1_000))))
                .collect();
            let sent = peer.handle_snapshot(header, futures::stream::iter(pieces)).await;
            sent.map_err(|e| NetworkError::Remote(e.to_string()))
        })
    }
}

pub struct Group {
    pub dir: TempDir,
    pub hub: Arc<Hub>,
    pub tapes: HashMap<PeerId, Arc<Tape>>,
    pub tune: fn(&mut Config),
}

pub fn peer(id: PeerId) -> Peer {
    Peer { id, name: format!("n{id}"), addr: format!("127.0.0.1:{id}") }
}

pub fn text(s: impl ToString) -> Bytes {
    Bytes::from(s.to_string())
}

impl Group {
    pub fn empty(tune: fn(&mut Config)) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), hub: Arc::default(), tapes: HashMap::new(), tune }
    }

    /// Founded by node 1, with a leader.
    pub async fn of(size: u64, tune: fn(&mut Config)) -> Self {
        let mut group = Self::empty(tune);
        for id in 1..=size {
            group.start(id).await.unwrap();
        }
        group.node(1).initialize((1..=size).map(peer).collect()).await.unwrap();
        group.leader().await;
        group
    }

    pub fn home(&self, id: PeerId) -> PathBuf {
        self.dir.path().join(id.to_string())
    }

    pub async fn start(&mut self, id: PeerId) -> Result<(), Error> {
        let mut config = Config::new(peer(id), self.home(id));
        (self.tune)(&mut config);
        let tape = Arc::new(Tape::default());
        let link = Arc::new(Link { me: id, hub: self.hub.clone() });
        let raft = Raft::start(config, tape.clone(), link).await?;
        self.tapes.insert(id, tape);
        self.hub.nodes.lock().unwrap().insert(id, Arc::new(raft));
        Ok(())
    }

    pub async fn stop(&self, id: PeerId) {
        let node = self.hub.nodes.lock().unwrap().remove(&id).unwrap();
        node.shutdown().await;
    }

    pub fn node(&self, id: PeerId) -> Arc<Raft> {
        self.find(id).expect("a running node")
    }

    /// None while it is stopped, which in some tests is at any moment.
    pub fn find(&self, id: PeerId) -> Option<Arc<Raft>> {
        self.hub.nodes.lock().unwrap().get(&id).cloned()
    }

    pub fn ids(&self) -> Vec<PeerId> {
        let mut ids: Vec<_> = self.hub.nodes.lock().unwrap().keys().copied().collect();
        ids.sort();
        ids
    }

    pub fn isolate(&self, id: PeerId) {
        let mut cut = self.hub.cut.lock().unwrap();
        cut.extend(self.tapes.keys().filter(|other| **other != id).map(|other| (id, *other)));
    }

    pub fn heal(&self) {
        self.hub.cut.lock().unwrap().clear();
    }

    /// Some node that is reachable from the others and leads, by the word of a majority.
    pub async fn leader(&self) -> PeerId {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let cut: HashSet<_> = self.hub.cut.lock().unwrap().iter().map(|(a, _)| *a).collect();
            let mut said: HashMap<PeerId, usize> = HashMap::new();
            for id in self.ids().into_iter().filter(|id| !cut.contains(id)) {
                let Some(node) = self.find(id) else { continue };
                let status = node.status().borrow().clone();
                if let Some(leader) = status.leader.filter(|l| !cut.contains(&l.id)) {
                    *said.entry(leader.id).or_default() += 1;
                }
            }
            let majority = self.tapes.len() / 2 + 1;
            if let Some((id, _)) =
                said.into_iter().find(|(id, n)| *n >= majority.min(self.ids().len()) && self.ids().contains(id))
            {
                return id;
            }
            assert!(tokio::time::Instant::now() < until, "no leader");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Proposes at whoever leads until it is acknowledged; like a client that retries.
    pub async fn write(&self, command: Bytes) -> u64 {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let leader = self.leader().await;
            let Some(node) = self.find(leader) else { continue };
            match node.propose(command.clone()).await {
                Ok((index, _)) => return index,
                Err(e) => assert!(tokio::time::Instant::now() < until, "not written: {e}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every running node has the same lines, up to at least this index.
    pub async fn agree(&self, index: u64) -> Vec<(u64, Bytes)> {
        let ids = self.ids();
        for id in &ids {
            self.tapes[id].reach(index).await;
        }
        let upto = |id: &PeerId| -> Vec<(u64, Bytes)> {
            self.tapes[id].lines().into_iter().filter(|(at, _)| *at <= index).collect()
        };
        let first = upto(&ids[0]);
        for id in &ids {
            assert!(upto(id) == first, "node {id} differs from node {}", ids[0]);
        }
        first
    }
}
