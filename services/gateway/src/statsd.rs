//! Metrics for whoever takes statsd, or DogStatsD, by UDP, or statsite by TCP.
//!
//! Every interval of the metrics (10 s) this machine's summary is sent: gauges as they are, counters by how much
//! they grew, samples by their mean. Packets are short and nobody waits for them: what cannot be sent is lost.

use std::net::SocketAddr;
use std::time::Duration;

use kit::metrics::MetricsSummary;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;
use crate::machine::Asked;
use crate::routes::metrics;

/// The interval that a summary reports.
const PERIOD: Duration = Duration::from_secs(10);
/// For the name of the receiver to be found.
const LOOK_UP: Duration = Duration::from_secs(2);
/// For a round to be taken by a connection.
const SEND: Duration = Duration::from_secs(5);
/// Fits into one packet of any network.
const PACKET_BYTES_MAX: usize = 1_200;
/// Lines of one round.
const LINES_MAX: usize = 20_000;

/// Where metrics are sent.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Statsd {
    /// `host:port` that metrics are sent to as statsd takes them.
    #[arg(long)]
    pub statsd_address: Option<String>,
    /// `host:port` that metrics are sent to by TCP, as statsite takes them.
    #[arg(long)]
    pub statsite_address: Option<String>,
    /// `host:port` of a DogStatsD agent.
    #[arg(long)]
    pub datadog_address: Option<String>,
    /// Tag, `key:value`, of everything that the DogStatsD agent is sent. May be repeated.
    #[arg(long = "datadog-tag")]
    pub datadog_tags: Vec<String>,
}

/// Sends until shutdown, to whom the settings name at the time.
pub fn spawn(settings: Statsd, app: App) -> watch::Sender<Statsd> {
    let (sender, mut now) = watch::channel(settings);
    tokio::spawn(async move {
        let shutdown = app.shutdown.clone();
        let working = async {
            loop {
                let _sending = begin(&now.borrow_and_update().clone(), &app);
                if now.changed().await.is_err() {
                    // Nobody is left who could change them.
                    std::future::pending::<()>().await;
                }
            }
        };
        shutdown.or(working).await;
    });
    sender
}

/// One task for each; they end when the set is dropped.
fn begin(settings: &Statsd, app: &App) -> JoinSet<()> {
    let mut sending = JoinSet::new();
    let plain = settings.statsd_address.clone().map(|address| Sink { address, by_tcp: false, tags: None });
    let by_tcp = settings.statsite_address.clone().map(|address| Sink { address, by_tcp: true, tags: None });
    let tags = || Some(settings.datadog_tags.clone());
    let tagged = settings.datadog_address.clone().map(|address| Sink { address, by_tcp: false, tags: tags() });
    for sink in plain.into_iter().chain(by_tcp).chain(tagged) {
        sending.spawn(keep(app.clone(), sink));
    }
    sending
}

/// Somebody to be sent to.
struct Sink {
    address: String,
    by_tcp: bool,
    /// Labels are tags, these among them.
    tags: Option<Vec<String>>,
}

async fn keep(app: App, sink: Sink) {
    let Sink { address, by_tcp, tags } = sink;
    let mut rounds = tokio::time::interval(PERIOD);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        rounds.tick().await;
        let asked = Asked { node: app.machine.node(), server: true };
        let summary = metrics::summary(&app, &asked).await;
        let lines = lines(&summary, tags.as_deref());
        let sent = match by_tcp {
            true => send_whole(&address, &lines.concat()).await,
            false => send(&address, &packets(&lines)).await,
        };
        match sent {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(address, %error, "metrics cannot be sent");
            }
            Err(_) => {}
        }
    }
}

async fn look_up(address: &str) -> std::io::Result<SocketAddr> {
    let looked_up = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(address)).await;
    let found = looked_up.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??.next();
    found.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
}

/// By a connection of its own each time: whoever takes them may be started anew.
async fn send_whole(address: &str, lines: &str) -> std::io::Result<()> {
    let to = look_up(address).await?;
    let sending = async {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(lines.as_bytes()).await?;
        stream.shutdown().await
    };
    let sent = tokio::time::timeout(SEND, sending).await;
    sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

async fn send(address: &str, packets: &[String]) -> std::io::Result<()> {
    let to = look_up(address).await?;
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    for packet in packets {
        // Nobody listening there is told by the packet before.
        let _ = socket.try_send(packet.as_bytes());
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// A line for each series. Without tags, labels are part of the name, in the order of their names.
fn lines(summary: &MetricsSummary, tags: Option<&[String]>) -> Vec<String> {
    let gauges = summary.gauges.iter().map(|g| (&g.name, &g.labels, g.value, "g"));
    let counters = summary.counters.iter().map(|c| (&c.name, &c.labels, c.sum, "c"));
    let samples = summary.samples.iter().map(|s| (&s.name, &s.labels, s.mean, "ms"));
    let all = gauges.chain(counters).chain(samples).take(LINES_MAX);
    let line = |(name, labels, value, kind): (&String, &std::collections::BTreeMap<String, String>, f64, &str)| {
        let Some(more) = tags else {
            let parts = labels.values().map(|value| format!(".{}", plain(value)));
            return format!("{}{}:{value}|{kind}\n", plain(name), parts.collect::<String>());
        };
        let own = labels.iter().map(|(name, value)| format!("{}:{}", plain(name), plain(value)));
        let tags: Vec<String> = own.chain(more.iter().map(|tag| tag.replace(['\n', '|', ','], "_"))).collect();
        let tags = if tags.is_empty() { String::new() } else { format!("|#{}", tags.join(",")) };
        format!("{}:{value}|{kind}{tags}\n", plain(name))
    };
    all.map(line).collect()
}

/// Without what means something on the wire.
fn plain(text: &str) -> String {
    text.replace([':', '|', '@', '#', ',', ' ', '\n'], "_")
}

fn packets(lines: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| line.len() <= PACKET_BYTES_MAX) {
        match all.last_mut() {
            Some(last) if last.len() + line.len() <= PACKET_BYTES_MAX => last.push_str(line),
            _ => all.push(line.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use kit::metrics::Metrics;

    use super::*;

    #[test]
    fn each_kind_is_written_as_statsd_takes_it_with_labels_as_tags_or_in_the_name() {
        let metrics = Metrics::new(&[]);
        metrics.gauge("nomad.client.uptime", &[("host", "a b"), ("dc", "x")]).set(7.0);
        metrics.counter("nomad.raft.apply", &[]).add(3.0);
        metrics.sample("nomad.nomad.plan.apply", &[]).record(4.0);
        let summary = metrics.summary();
        assert_eq!(
            lines(&summary, None),
            ["nomad.client.uptime.x.a_b:7|g\n", "nomad.raft.apply:3|c\n", "nomad.nomad.plan.apply:4|ms\n"]
        );
        let tags = ["env:prod".to_owned()];
        assert_eq!(lines(&summary, Some(&tags))[0], "nomad.client.uptime:7|g|#dc:x,host:a_b,env:prod\n");
    }

    #[test]
    fn packets_are_short_and_hold_whole_lines() {
        let lines: Vec<String> = (0..200).map(|n| format!("metric.{n}:1|g\n")).chain(["x".repeat(5_000)]).collect();
        let all = packets(&lines);
        assert!(all.iter().all(|packet| packet.len() <= PACKET_BYTES_MAX && packet.ends_with('\n')));
        assert_eq!(all.concat().lines().count(), 200);
    }
}
