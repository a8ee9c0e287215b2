//! Numbers of the machine that was asked, as one process would have them.
//!
//! This gateway's own, those that the machine's other processes give within a short time, and those that follow
//! from rows (`crate::numbers`). Each process's series carry its name as `host`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use client::http::Call;
use futures::future::join_all;
use kit::metrics::{Metrics, MetricsSummary};
use model::Role;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::Answered;
use crate::machine::Asked;
use crate::numbers;
use crate::options::Options;
use crate::processes::{self, Process};

/// Whoever has not answered by then is left out.
const ASK: Duration = Duration::from_millis(500);
const PATH: &str = "/metrics";
/// The same as a summary in JSON.
const PATH_JSON: &str = "/metrics?format=json";
const HOST: &str = "host";

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
async fn metrics(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    if options.params.get("format") != Some("prometheus") {
        return options.style.json(&summary(&app, &asked).await);
    }
    let machine = processes::of_asked(&app, &asked);
    let mut families = Families { by_name: BTreeMap::new(), without_host: app.told.published().metrics_without_host };
    if asked.server {
        show_own(&app);
        families.add(&app.metrics.prometheus(), &app.name);
    }
    let rows = Metrics::default();
    for gauge in numbers::of(&app, &machine).await {
        let labels: Vec<(&str, &str)> = gauge.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        rows.gauge_of_many(&gauge.name, &labels).set(gauge.value);
    }
    families.add(&rows.prometheus(), &host_of(&app, &asked));
    for (name, text) in ask(&app, &machine, PATH).await {
        families.add(&String::from_utf8_lossy(&text), &name);
    }
    let shown = app.told.shown();
    families.by_name.retain(|name, _| shown.is(name));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], families.text()).into_response())
}

/// What this gateway counts of itself.
fn show_own(app: &App) {
    let gauge = |name: &str, count: usize| app.metrics.gauge(name, &[]).set(count as f64);
    gauge("nomad.gateway.blocking_queries", app.watches.waiting());
    gauge("nomad.gateway.agent_streams", app.streams.count());
}

/// The name of the machine that was asked.
fn host_of(app: &App, asked: &Asked) -> String {
    let view = app.watches.view();
    let node = asked.node.as_ref().filter(|_| !asked.server).and_then(|id| view.state.node(id));
    node.map_or_else(|| app.name.clone(), |node| node.name.clone())
}

/// Everything that the machine's processes count, and what follows from rows, as far as it is to be shown.
pub async fn summary(app: &App, asked: &Asked) -> MetricsSummary {
    let machine = processes::of_asked(app, asked);
    let with_host = !app.told.published().metrics_without_host;
    let named = |summary, host: &str| if with_host { named(summary, host) } else { summary };
    show_own(app);
    let own = app.metrics.summary();
    let mut all = MetricsSummary { timestamp: own.timestamp.clone(), ..MetricsSummary::default() };
    if asked.server {
        all.merge(named(own, &app.name));
    }
    let rows = MetricsSummary { gauges: numbers::of(app, &machine).await, ..MetricsSummary::default() };
    all.merge(named(rows, &host_of(app, asked)));
    for (name, json) in ask(app, &machine, PATH_JSON).await {
        match serde_json::from_slice(&json) {
            Ok(other) => all.merge(named(other, &name)),
            Err(error) => tracing::debug!(peer = name, error = %error, "metrics cannot be read"),
        }
    }
    app.told.shown().retain(&mut all);
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

/// The answers of those of the machine who answer in time, with their names; without this gateway's own.
async fn ask(app: &App, machine: &[Process], path: &str) -> Vec<(String, axum::body::Bytes)> {
    let mut asked = Vec::new();
    for process in machine {
        let own = matches!(process, Process::Service { role: Role::Gateway, name } if *name == app.name);
        if !own {
            asked.push(ask_one(app.clone(), process.clone(), path.to_owned()));
        }
    }
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask_one(app: App, process: Process, path: String) -> Option<(String, axum::body::Bytes)> {
    let asked = async {
        let target = process.target(&app).await?;
        app.http.call(&target, Call::get(path, ASK)).await.ok()
    };
    let reply = tokio::time::timeout(ASK, asked).await.ok().flatten()?;
    let name = match process {
        Process::Service { name, .. } => name,
        Process::Node(id) => app.watches.view().state.node(&id)?.name.clone(),
    };
    Some((name, reply.body))
}

/// Expositions of several processes, merged family by family: a family may stand in a text only once.
#[derive(Default)]
struct Families {
    by_name: BTreeMap<String, (String, Vec<String>)>,
    without_host: bool,
}

impl Families {
    fn add(&mut self, text: &str, host: &str) {
        let mut family = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                self.by_name.entry(name.to_owned()).or_insert_with(|| (kind.to_owned(), Vec::new()));
                family = Some(name.to_owned());
            } else if !line.is_empty()
                && !line.starts_with('#')
                && let Some(entry) = family.as_ref().and_then(|name| self.by_name.get_mut(name))
            {
                entry.1.push(if self.without_host { line.to_owned() } else { with_host(line, host) });
            }
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for (name, (kind, lines)) in &self.by_name {
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
