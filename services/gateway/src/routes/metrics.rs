//! Numbers of the control plane, as one server process would have them.
//!
//! This gateway's own, and those that the other processes give within a short time. Each process's series
//! carry its name as `host`, so that two of them never clash.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use client::http::{Call, Target};
use client::peers::PeerAddr;
use futures::future::join_all;
use kit::metrics::{Metrics, MetricsSummary};
use model::Role;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::Answered;
use crate::options::Options;

/// Whoever has not answered by then is left out.
const ASK: Duration = Duration::from_millis(500);
const PATH: &str = "/metrics";
/// The same as a summary in JSON.
const PATH_JSON: &str = "/metrics?format=json";
const HOST: &str = "host";
const SOURCES: [Role; 5] = [Role::State, Role::Broker, Role::Scheduler, Role::Applier, Role::Controller];

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct MetricsParams {
    /// `prometheus` for the text form.
    format: Option<String>,
}

/// Read metrics
#[utoipa::path(get, path = "/v1/metrics", operation_id = "readMetrics", tag = "metrics", params(MetricsParams),
    responses((status = 200, description = "JSON, or Prometheus text", body = Object)))]
async fn metrics(State(app): State<App>, options: Options) -> Answered {
    show_jobs(&app);
    if options.params.get("format") != Some("prometheus") {
        let mut summary = summary(&app).await;
        app.shown.retain(&mut summary);
        return options.style.json(&summary);
    }
    let mut families = Families::default();
    families.add(&app.metrics.prometheus(), &app.name);
    for (name, text) in ask(&app, PATH).await {
        families.add(&String::from_utf8_lossy(&text), &name);
    }
    families.0.retain(|name, _| app.shown.is(name));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], families.text()).into_response())
}

/// What this gateway knows of jobs and nodes from its copy of the state.
fn show_jobs(app: &App) {
    let view = app.watches.view();
    let gauge = |metrics: &Metrics, name: &str, count: usize| metrics.gauge(name, &[]).set(count as f64);
    for status in ["pending", "running", "dead"] {
        let count = view.state.jobs().filter(|job| job.status.as_deref() == Some(status)).count();
        gauge(&app.metrics, &format!("nomad.nomad.job_status.{status}"), count);
    }
    let ready = view.state.nodes().filter(|node| node.status == model::NodeStatus::Ready).count();
    gauge(&app.metrics, "nomad.nomad.heartbeat.active", ready);
    gauge(&app.metrics, "nomad.gateway.blocking_queries", app.watches.waiting());
    gauge(&app.metrics, "nomad.gateway.agent_streams", app.streams.count());
}

async fn summary(app: &App) -> MetricsSummary {
    let mut all = named(app.metrics.summary(), &app.name);
    for (name, json) in ask(app, PATH_JSON).await {
        match serde_json::from_slice(&json) {
            Ok(other) => all.merge(named(other, &name)),
            Err(error) => tracing::debug!(peer = name, error = %error, "metrics cannot be read"),
        }
    }
    all
}

fn named(mut summary: MetricsSummary, host: &str) -> MetricsSummary {
    let gauges = summary.gauges.iter_mut().map(|g| &mut g.labels);
    let sampled = summary.counters.iter_mut().chain(&mut summary.samples).map(|s| &mut s.labels);
    for labels in gauges.chain(sampled) {
        labels.entry(HOST.to_owned()).or_insert_with(|| host.to_owned());
    }
    summary
}

/// The answers of those who answer in time, with their names.
async fn ask(app: &App, path: &str) -> Vec<(String, axum::body::Bytes)> {
    let one = |role: Role, peer: PeerAddr| async move {
        let answer = app.http.call(&Target::new(peer.addr, role), Call::get(path, ASK)).await;
        answer.ok().map(|reply| (peer.name, reply.body))
    };
    let asked = SOURCES.into_iter().flat_map(|role| app.peers.peers(role).into_iter().map(move |peer| (role, peer)));
    join_all(asked.map(|(role, peer)| one(role, peer))).await.into_iter().flatten().collect()
}

/// Expositions of several processes, merged family by family: a family may stand in a text only once.
#[derive(Default)]
struct Families(BTreeMap<String, (String, Vec<String>)>);

impl Families {
    fn add(&mut self, text: &str, host: &str) {
        let mut family = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                self.0.entry(name.to_owned()).or_insert_with(|| (kind.to_owned(), Vec::new()));
                family = Some(name.to_owned());
            } else if !line.is_empty()
                && !line.starts_with('#')
                && let Some(entry) = family.as_ref().and_then(|name| self.0.get_mut(name))
            {
                entry.1.push(with_host(line, host));
            }
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for (name, (kind, lines)) in &self.0 {
            out.push_str(&format!("# TYPE {name} {kind}\n"));
            for line in lines {
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}

/// Adds the label, unless the series has it.
fn with_host(line: &str, host: &str) -> String {
    let host = host.replace('\\', "\\\\").replace('"', "\\\"");
    match line.split_once('{') {
        Some((_, labels)) if labels.starts_with("host=") || labels.contains(",host=") => line.to_owned(),
        Some((name, labels)) => format!("{name}{{{HOST}=\"{host}\",{labels}"),
        None => match line.split_once(' ') {
            Some((name, value)) => format!("{name}{{{HOST}=\"{host}\"}} {value}"),
            None => line.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_of_two_processes_stands_once_with_both_their_series() {
        let mut families = Families::default();
        families.add("# TYPE a gauge\na 1\n# TYPE b summary\nb{quantile=\"0.5\"} 2\nb_count 3\n", "one");
        families.add("# TYPE a gauge\na{host=\"x\"} 4\na 5\n", "t\"wo");
        assert_eq!(
            families.text(),
            "# TYPE a gauge\na{host=\"one\"} 1\na{host=\"x\"} 4\na{host=\"t\\\"wo\"} 5\n\
             # TYPE b summary\nb{host=\"one\",quantile=\"0.5\"} 2\nb_count{host=\"one\"} 3\n"
        );
    }
}
