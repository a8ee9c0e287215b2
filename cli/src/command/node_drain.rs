//! `node drain`: a node's work is moved elsewhere, and watched while it goes.
//!
//! ```text
//!   -enable ─► strategy set ─┐
//!   -monitor ────────────────┴► node and allocations (blocking queries) ─► a line for each change ─► drain is over
//!   -disable ─► strategy unset
//! ```
//!
//! Ending the command ends the watching, never the drain.

use std::collections::BTreeMap;
use std::time::Duration;

use api::operate::{DrainSpec, NodeChangeResponse, NodeUpdateDrainRequest};
use client::public::{Blocking, PublicError, Query};
use model::node::{DrainStrategy, NodeListStub};
use model::time::parse_go_duration;
use model::{Allocation, ClientStatus, Nanos, Node};

use super::monitor::passing;
use super::node_choice::{Chosen, chosen};
use super::{Cx, Failure};

const DEADLINE: Nanos = Nanos::from_secs(3_600);
const NOW: Nanos = Nanos(-1_000_000_000);
/// How often a call that failed on its way is repeated, and after which pause.
const TRIES: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

enum Wish {
    Enable(DrainSpec),
    Disable { mark_eligible: bool },
    Monitor,
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let wish = wish(cx)?;
    let meta = meta(cx)?;
    let Chosen { node, exact } = chosen(cx).await?;
    let (verb, drain_spec, mark_eligible) = match wish {
        Wish::Monitor => return monitor(cx, &node).await,
        Wish::Enable(spec) => ("enable", Some(spec), false),
        Wish::Disable { mark_eligible } => ("disable", None, mark_eligible),
    };
    if !exact && !agreed(cx, verb, &node)? {
        cx.ui.note(format!("Node \"{}\" is left as it is", node.id));
        return Ok(0);
    }
    let enabled = drain_spec.is_some();
    let request = NodeUpdateDrainRequest { node_id: node.id.to_string(), drain_spec, mark_eligible, meta };
    let path = format!("/v1/node/{}/drain", node.id);
    let sent = cx.writer()?.put::<_, NodeChangeResponse>(&path, &Query::default(), &request).await;
    sent.map_err(|error| Failure::api("Error updating drain specification", &error))?;
    let watched = enabled && !cx.flags.is("detach");
    let text = format!("Node \"{}\" drain strategy {}", node.id, if enabled { "set" } else { "unset" });
    if !watched {
        cx.ui.line(text);
        return Ok(0);
    }
    stamped(cx, "Ctrl-C to stop monitoring: will not cancel the node drain");
    stamped(cx, &text);
    monitor(cx, &node).await
}

fn wish(cx: &Cx) -> Result<Wish, Failure> {
    let flags = &cx.flags;
    let timed =
        ["deadline", "force", "no-deadline"].into_iter().filter(|name| flags.is(name) || flags.some(name).is_some());
    let timed: Vec<_> = timed.collect();
    match (flags.is("enable"), flags.is("disable"), flags.is("monitor")) {
        (true, false, false) => {}
        (false, true, false) if timed.is_empty() && !flags.is("ignore-system") => {
            return Ok(Wish::Disable { mark_eligible: !flags.is("keep-ineligible") });
        }
        (false, true, false) => {
            return Err(Failure::new("-disable can't be combined with flags configuring drain strategy"));
        }
        (false, false, true) => return Ok(Wish::Monitor),
        (_, _, true) => {
            return Err(Failure::new("The -monitor flag cannot be used with the '-enable' or '-disable' flags"));
        }
        _ => {
            return Err(Failure::new("Either the '-enable' or '-disable' flag must be set, unless using '-monitor'"));
        }
    }
    if flags.is("keep-ineligible") {
        return Err(Failure::new("-keep-ineligible can't be combined with -enable"));
    }
    let deadline = match timed.as_slice() {
        [] => DEADLINE,
        ["force"] => NOW,
        ["no-deadline"] => Nanos(0),
        ["deadline"] => {
            let text = flags.text("deadline");
            let span = parse_go_duration(text).ok_or_else(|| {
                Failure::new(format!("Failed to parse deadline {text:?}: a span such as 1h30m expected"))
            })?;
            if span.0 <= 0 {
                return Err(Failure::new("A positive drain duration must be given"));
            }
            span
        }
        _ => return Err(Failure::new("Only one of '-deadline', '-force' and '-no-deadline' can be given")),
    };
    Ok(Wish::Enable(DrainSpec { deadline, ignore_system_jobs: flags.is("ignore-system") }))
}

fn meta(cx: &Cx) -> Result<BTreeMap<String, String>, Failure> {
    let mut meta = BTreeMap::new();
    if let Some(message) = cx.flags.some("m") {
        meta.insert("message".to_owned(), message.to_owned());
    }
    for pair in cx.flags.list("meta") {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::new(format!("Error parsing meta {pair:?}: KEY=VALUE expected")));
        };
        meta.insert(key.to_owned(), value.to_owned());
    }
    Ok(meta)
}

/// A shortened id is confirmed by whoever typed it.
fn agreed(cx: &mut Cx, verb: &str, node: &NodeListStub) -> Result<bool, Failure> {
    if cx.flags.is("yes") {
        return Ok(true);
    }
    if !cx.ui.interactive {
        return Err(Failure::new(format!("The id was shortened and means node \"{}\"", node.id))
            .hint(format!("give it in full, or -yes to {verb} the drain without being asked")));
    }
    Ok(cx.ui.confirm(&format!("Are you sure you want to {verb} drain mode for node \"{}\"?", node.id)))
}

fn stamped(cx: &mut Cx, text: &str) {
    let at = cx.stamp(cx.ui.now());
    cx.ui.line(format!("{at}: {text}"));
}

/// What was last seen of an allocation.
struct Seen {
    status: ClientStatus,
    migrating: bool,
    stopped: bool,
}

struct Watch {
    node_id: String,
    strategy: Option<DrainStrategy>,
    status: model::NodeStatus,
    allocs: Option<BTreeMap<String, Seen>>,
}

async fn monitor(cx: &mut Cx, node: &NodeListStub) -> Result<u8, Failure> {
    let path = format!("/v1/node/{}", node.id);
    let mut nodes = cx.client.blocking::<Node>(path.clone(), Query::default());
    let mut allocs = cx.client.blocking::<Option<Vec<Allocation>>>(format!("{path}/allocations"), Query::default());
    let first = next(&mut nodes).await.map_err(|error| Failure::api("Error monitoring the drain", &error))?;
    let mut watch = Watch {
        node_id: node.id.to_string(),
        strategy: first.drain_strategy.clone(),
        status: first.status,
        allocs: None,
    };
    if first.drain_strategy.is_none() && cx.flags.is("monitor") {
        let text = format!("No drain strategy set for node \"{}\"", node.id);
        stamped(cx, &text);
        return Ok(0);
    }
    let mut over = ended(&first);
    while over.is_none() {
        tokio::select! {
            node = next(&mut nodes) => match node {
                Ok(node) => {
                    watch.node(cx, &node);
                    over = ended(&node);
                }
                Err(error) if error.is_not_found() => over = Some("was purged".to_owned()),
                Err(error) => return Err(Failure::api("Error monitoring the drain", &error)),
            },
            rows = next(&mut allocs) => {
                let rows = rows.map_err(|error| Failure::api("Error monitoring the drain", &error))?;
                watch.rows(cx, &rows.unwrap_or_default());
            }
        }
    }
    // What happened up to the end, once more.
    if let Ok((rows, _)) =
        cx.client.get::<Option<Vec<Allocation>>>(&format!("{path}/allocations"), &Query::default()).await
    {
        watch.rows(cx, &rows.unwrap_or_default());
    }
    watch.finish(cx, over.as_deref().unwrap_or_default());
    Ok(0)
}

/// The next answer; a gateway that goes away meanwhile is waited for.
async fn next<T: serde::de::DeserializeOwned>(from: &mut Blocking<T>) -> Result<T, PublicError> {
    let mut tries = 0;
    loop {
        match from.next().await {
            Ok((value, _)) => return Ok(value),
            Err(error) => {
                tries += 1;
                if !passing(&error) || tries >= TRIES {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How the drain ended, if it has.
fn ended(node: &Node) -> Option<String> {
    if node.drain_strategy.is_some() {
        return None;
    }
    Some(node.last_drain.as_ref().map_or_else(String::new, |last| last.status.clone()))
}

impl Watch {
    fn node(&mut self, cx: &mut Cx, node: &Node) {
        if let (Some(old), Some(new)) = (&self.strategy, &node.drain_strategy)
            && old != new
        {
            let text = format!("Node \"{}\" drain updated: {}", self.node_id, described(new));
            stamped(cx, &text);
        }
        if node.status != self.status {
            let text = format!("Node \"{}\" status {} -> {}", self.node_id, self.status, node.status);
            stamped(cx, &text);
        }
        self.status = node.status;
        self.strategy = node.drain_strategy.clone().or_else(|| self.strategy.take());
    }

    /// Tells what changed, in the order in which it did; of what had ended before the watch began nothing is told.
    fn rows(&mut self, cx: &mut Cx, rows: &[Allocation]) {
        let first = self.allocs.is_none();
        let seen = self.allocs.get_or_insert_default();
        let mut lines = Vec::new();
        let mut rows: Vec<&Allocation> = rows.iter().collect();
        rows.sort_by_key(|row| row.modify_index);
        for row in rows {
            let now = Seen {
                status: row.client_status,
                migrating: row.desired_transition.should_migrate(),
                stopped: row.server_terminal(),
            };
            let id = row.id.to_string();
            let old = seen.get(&id);
            let over = first && row.client_terminal();
            if now.migrating && !over && old.is_none_or(|old| !old.migrating) {
                lines.push(format!("Alloc \"{id}\" marked for migration"));
            }
            if now.stopped && !over && !row.client_terminal() && old.is_none_or(|old| !old.stopped) {
                lines.push(format!("Alloc \"{id}\" draining"));
            }
            if let Some(old) = old.filter(|old| old.status != now.status) {
                lines.push(format!("Alloc \"{id}\" status {} -> {}", old.status, now.status));
            }
            seen.insert(id, now);
        }
        for line in lines {
            stamped(cx, &line);
        }
    }

    fn finish(&self, cx: &mut Cx, how: &str) {
        let id = &self.node_id;
        match how {
            "complete" => {
                stamped(cx, &format!("Drain complete for node \"{id}\""));
                let live = |seen: &&Seen| !seen.status.is_terminal();
                let left = self.allocs.iter().flat_map(BTreeMap::values).filter(live).count();
                match left {
                    0 => stamped(cx, &format!("All allocations on node \"{id}\" have stopped")),
                    _ => {
                        stamped(cx, &format!("All allocations on node \"{id}\" have stopped but {left} of system jobs"))
                    }
                }
            }
            "" | "canceled" => stamped(cx, &format!("Drain of node \"{id}\" was cancelled")),
            other => stamped(cx, &format!("Node \"{id}\" {other}")),
        }
    }
}

fn described(strategy: &DrainStrategy) -> String {
    match strategy.deadline.0 {
        0 => "no deadline".to_owned(),
        n if n < 0 => "force drain".to_owned(),
        _ => format!("deadline {}", strategy.deadline),
    }
}
