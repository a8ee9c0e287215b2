//! What this machine is, and what it can do at most: flushes of its disk, exchanges over its loopback.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::report::{per_second, quantile};

const FLUSHES: usize = 500;
const EXCHANGES: usize = 10_000;
/// Of a small request.
const EXCHANGE_BYTES: usize = 512;
const BLOCK: [u8; 4096] = [7; 4096];

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    pub memory_mib: u64,
    pub kernel: String,
    pub load_average: f64,
}

impl Machine {
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let memory_kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: after(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_mib: memory_kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: load_average(),
        }
    }
}

pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// Nothing that waits for the disk or passes the loopback one by one can be faster.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// Appends of 4 KiB, each with fdatasync.
    pub flushes_per_s: f64,
    pub flush_p50_ms: f64,
    pub flush_p99_ms: f64,
    /// Exchanges of 512 bytes over one TCP connection.
    pub exchanges_per_s: f64,
    pub exchange_p50_us: f64,
    pub exchange_p99_us: f64,
    pub load_average: f64,
}

impl Ceilings {
    /// `dir` is on the disk in question. Takes about a second.
    ///
    /// # Errors
    /// The directory cannot be written, or there is no loopback.
    pub fn measure(dir: &Path) -> io::Result<Self> {
        let load_average = load_average();
        let (flush, flushes_per_s) = sorted(flushes(dir)?);
        let (exchange, exchanges_per_s) = sorted(exchanges()?);
        Ok(Self {
            flushes_per_s,
            flush_p50_ms: quantile(&flush, 0.5) * 1e3,
            flush_p99_ms: quantile(&flush, 0.99) * 1e3,
            exchanges_per_s,
            exchange_p50_us: quantile(&exchange, 0.5) * 1e6,
            exchange_p99_us: quantile(&exchange, 0.99) * 1e6,
            load_average,
        })
    }
}

fn sorted(mut times: Vec<Duration>) -> (Vec<Duration>, f64) {
    let took: Duration = times.iter().sum();
    times.sort_unstable();
    let rate = per_second(times.len(), took);
    (times, rate)
}

fn flushes(dir: &Path) -> io::Result<Vec<Duration>> {
    let path = dir.join(format!(".steppe-bench-flush-{}", std::process::id()));
    let mut file = File::create(&path)?;
    let times = (0..FLUSHES)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&BLOCK)?;
            file.sync_data()?;
            Ok(start.elapsed())
        })
        .collect();
    fs::remove_file(&path)?;
    times
}

fn exchanges() -> io::Result<Vec<Duration>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let mut message = [0; EXCHANGE_BYTES];
        loop {
            far.read_exact(&mut message)?;
            far.write_all(&message)?;
        }
    });
    let mut message = [7; EXCHANGE_BYTES];
    let mut times = Vec::with_capacity(EXCHANGES);
    for _ in 0..EXCHANGES {
        let start = Instant::now();
        near.write_all(&message)?;
        near.read_exact(&mut message)?;
        times.push(start.elapsed());
    }
    drop(near);
    // It ends because the connection did.
    let _ = echo.join();
    Ok(times)
}
