//! A docker-compose file → a job.
//!
//! ```text
//! services ──▶ one group, a task of the docker driver for each; one with several replicas: a group of its own
//! ports    ──▶ ports of the group's network, published by the driver, and a service of the provider nomad
//! depends_on ▶ the tasks that others need start first: `lifecycle { hook = "prestart" }`, as side cars or,
//!              where they are to complete, not
//! healthcheck ▶ an HTTP or TCP check of the service, where the command says what it asks
//! ```
//!
//! What has no counterpart is not dropped without a word: each such key is a note, with its service. The
//! job is built in the API's form; `write` makes a file of it.
//!
//! Source of the keys: the compose specification.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::ast::{Call, Expr, Kind};
use crate::diagnostics::Span;
use crate::eval::{Evaluator, Scope};
use crate::value::Value;
use crate::{Inputs, opaque};

/// A job in the API's form, and what of the file is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composed {
    pub job: Json,
    pub notes: Vec<String>,
}

/// Most services of a file.
const SERVICES_MAX: usize = 500;
const SECOND: i64 = 1_000_000_000;
const MIB: i64 = 1 << 20;
/// Keys that say nothing a job needs.
const SILENT: [&str; 4] = ["container_name", "expose", "stdin_open", "tty"];

/// Turns a compose file into a job. `env` is what `${NAME}` in it stands for; `name` is the job's, unless
/// the file says one.
///
/// # Errors
/// The text is no YAML, or no compose file: one sentence.
pub fn compose(text: &str, env: &[(String, String)], name: &str) -> Result<Composed, String> {
    if text.len() > crate::limits::SOURCE_BYTES {
        return Err(format!("a compose file may have at most {} bytes", crate::limits::SOURCE_BYTES));
    }
    let root = yaml(text)?;
    let services = root.get("services").and_then(Json::as_object).filter(|all| !all.is_empty());
    let services = services.ok_or("there are no services in it: is it a compose file?")?;
    if services.len() > SERVICES_MAX {
        return Err(format!("it has more than {SERVICES_MAX} services"));
    }
    let mut out = Composer { env: env.iter().cloned().collect(), ..Composer::default() };
    for (key, value) in root.as_object().into_iter().flatten() {
        match key.as_str() {
            "services" | "version" | "name" => {}
            "volumes" => out.named_volumes(value),
            key if key.starts_with("x-") => {}
            key => out.notes.push(format!("{key} of the file is not carried over")),
        }
    }
    let name = root.get("name").and_then(Json::as_str).unwrap_or(name);
    let job = out.job(&slug(name), services);
    Ok(Composed { job, notes: out.notes })
}

fn yaml(text: &str) -> Result<Json, String> {
    let span = Span::default();
    let arg = Expr { kind: Kind::Literal(Value::string(text)), span };
    let call = Call { name: "yamldecode".to_owned(), name_span: span, args: vec![arg], expand_last: false };
    let inputs = Inputs::default();
    let value =
        Evaluator::new(&inputs).eval(&Expr { kind: Kind::Call(Box::new(call)), span }, &Scope::root(BTreeMap::new()));
    value.map(|value| opaque::to_json(&value)).map_err(|problem| problem.detail)
}

#[derive(Default)]
struct Composer {
    env: BTreeMap<String, String>,
    notes: Vec<String>,
}

/// How a service is needed by others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needed {
    Started,
    Completed,
}

impl Composer {
    fn note(&mut self, service: &str, note: impl std::fmt::Display) {
        self.notes.push(format!("service {service}: {note}"));
    }

    fn named_volumes(&mut self, volumes: &Json) {
        for (name, options) in volumes.as_object().into_iter().flatten() {
            if options.as_object().is_some_and(|options| !options.is_empty()) {
                self.notes
                    .push(format!("volume {name}: its options are not carried over; docker makes it on first use"));
            }
        }
    }

    fn job(&mut self, name: &str, services: &Map<String, Json>) -> Json {
        let needed = self.dependencies(services);
        let mut shared = Group::new(name);
        let mut groups = Vec::new();
        for (service, spec) in services {
            let Some(spec) = spec.as_object() else {
                self.note(service, "is no map, and is left out");
                continue;
            };
            let replicas = self.replicas(spec);
            let mut task = self.task(service, spec);
            if replicas == 1 {
                if let Some(how) = needed.get(service.as_str()) {
                    let hook = json!({"Hook": "prestart", "Sidecar": *how == Needed::Started});
                    task.insert("Lifecycle".to_owned(), hook);
                }
                self.ports(service, spec, &mut task, &mut shared);
                self.restart(service, spec, &mut task);
                shared.tasks.push(Json::Object(task));
                continue;
            }
            let mut own = Group::new(&slug(service));
            own.count = replicas;
            if needed.contains_key(service.as_str()) {
                self.note(
                    service,
                    "is a group of its own, because it has replicas: who depends on it does not wait for it",
                );
            }
            self.ports(service, spec, &mut task, &mut own);
            self.restart(service, spec, &mut task);
            own.tasks.push(Json::Object(task));
            groups.push(own.json());
        }
        let all_needed = shared.tasks.iter().all(|task| task.get("Lifecycle").is_some());
        if all_needed && !shared.tasks.is_empty() {
            // A group has at least one task that is not there for others.
            if let Some(task) = shared.tasks.last_mut().and_then(Json::as_object_mut) {
                task.remove("Lifecycle");
            }
        }
        if !shared.tasks.is_empty() {
            groups.insert(0, shared.json());
        }
        if services.len() > 1 {
            let text = "services do not find each other by name: reach a port of another one at ${NOMAD_ADDR_label}, the label of its port";
            self.notes.push(text.to_owned());
        }
        json!({"ID": name, "Name": name, "Type": "service", "TaskGroups": groups})
    }

    /// Who is needed by others. Something that needs others itself can only wait for those that complete.
    fn dependencies<'s>(&mut self, services: &'s Map<String, Json>) -> BTreeMap<&'s str, Needed> {
        let mut out = BTreeMap::new();
        for (service, spec) in services {
            let wanted: Vec<(&'s str, &str)> = match spec.get("depends_on") {
                Some(Json::Array(names)) => {
                    names.iter().filter_map(Json::as_str).map(|name| (name, "service_started")).collect()
                }
                Some(Json::Object(names)) => names
                    .iter()
                    .map(|(name, how)| {
                        (name.as_str(), how.get("condition").and_then(Json::as_str).unwrap_or("service_started"))
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for (name, condition) in wanted {
                if !services.contains_key(name) {
                    self.note(service, format!("depends on {name}, which is no service of the file"));
                    continue;
                }
                let how =
                    if condition == "service_completed_successfully" { Needed::Completed } else { Needed::Started };
                if condition == "service_healthy" {
                    self.note(
                        service,
                        format!("starts after {name} has started, and does not wait until it is healthy"),
                    );
                }
                let kept = out.entry(name).or_insert(how);
                *kept = (*kept).max(how);
            }
        }
        let chained: BTreeSet<&str> = out
            .keys()
            .copied()
            .filter(|name| services[*name].get("depends_on").is_some_and(|on| !is_empty(on)))
            .collect();
        for name in chained {
            self.note(name, "and what it depends on start together: there is one step before the main tasks");
        }
        out
    }

    fn replicas(&mut self, spec: &Map<String, Json>) -> i64 {
        let of_deploy = spec.get("deploy").and_then(|deploy| deploy.get("replicas"));
        of_deploy.or(spec.get("scale")).and_then(Json::as_i64).filter(|count| *count >= 0).unwrap_or(1)
    }

    fn task(&mut self, service: &str, spec: &Map<String, Json>) -> Map<String, Json> {
        let mut config = Map::new();
        let mut task =
            Map::from_iter([("Name".to_owned(), json!(slug(service))), ("Driver".to_owned(), json!("docker"))]);
        for (key, value) in spec {
            let value = self.substituted(service, value);
            self.one(service, key, &value, &mut task, &mut config);
        }
        if !config.contains_key("image") {
            config.insert("image".to_owned(), json!(format!("{}:latest", slug(service))));
            self.note(service, "has no image: build it, push it to a registry, and name it in config.image");
        }
        task.insert("Config".to_owned(), Json::Object(config));
        task
    }

    /// One key of a service.
    fn one(
        &mut self,
        service: &str,
        key: &str,
        value: &Json,
        task: &mut Map<String, Json>,
        config: &mut Map<String, Json>,
    ) {
        let mut set = |name: &str, value: Json| drop(config.insert(name.to_owned(), value));
        match (key, value) {
            (
                "image" | "hostname" | "privileged" | "init" | "cap_add" | "cap_drop" | "group_add" | "runtime"
                | "mac_address",
                _,
            ) => {
                set(key, value.clone());
            }
            ("security_opt" | "extra_hosts", Json::Array(_)) => set(key, value.clone()),
            ("extra_hosts", Json::Object(hosts)) => {
                set(key, hosts.iter().map(|(name, to)| json!(format!("{name}:{}", plain(to)))).collect());
            }
            ("working_dir", _) => set("work_dir", value.clone()),
            ("read_only", _) => set("readonly_rootfs", value.clone()),
            ("entrypoint", _) => set("entrypoint", words(value)),
            // What the image runs stays: compose's command is its arguments.
            ("command", _) => set("args", words(value)),
            ("dns", _) => set("dns_servers", listed(value)),
            ("dns_search", _) => set("dns_search_domains", listed(value)),
            ("dns_opt", _) => set("dns_options", listed(value)),
            ("network_mode", Json::String(mode)) if !mode.starts_with("service:") => set("network_mode", value.clone()),
            ("pid", _) => set("pid_mode", value.clone()),
            ("ipc", _) => set("ipc_mode", value.clone()),
            ("userns_mode", _) => set("userns_mode", value.clone()),
            ("sysctls", _) => set("sysctl", json!([pairs(value)])),
            ("labels", _) => set("labels", json!([pairs(value)])),
            ("pids_limit", Json::Number(_)) => set("pids_limit", value.clone()),
            ("shm_size", _) => match bytes(value) {
                Some(size) => set("shm_size", json!(size)),
                None => self.note(service, format!("shm_size {value} is no size")),
            },
            ("ulimits", Json::Object(limits)) => {
                let one = |limit: &Json| match limit {
                    Json::Object(both) => format!("{}:{}", plain(&both["soft"]), plain(&both["hard"])),
                    other => plain(other),
                };
                let limits: Map<String, Json> =
                    limits.iter().map(|(name, limit)| (name.clone(), json!(one(limit)))).collect();
                set("ulimit", json!([limits]));
            }
            ("volumes", Json::Array(volumes)) => self.volumes(service, volumes, config),
            ("environment", _) => drop(task.insert("Env".to_owned(), pairs(value))),
            ("user", _) => drop(task.insert("User".to_owned(), json!(plain(value)))),
            ("stop_signal", _) => drop(task.insert("KillSignal".to_owned(), json!(plain(value)))),
            ("stop_grace_period", _) => match span(value) {
                Some(nanos) => drop(task.insert("KillTimeout".to_owned(), json!(nanos))),
                None => self.note(service, format!("stop_grace_period {value} is no duration")),
            },
            ("mem_limit", _) => self.memory(service, value, task),
            ("cpus", _) => self.cpus(service, value),
            ("deploy", Json::Object(deploy)) => self.deploy(service, deploy, task),
            // read where the task's place in its group is known
            ("ports" | "healthcheck" | "depends_on" | "restart" | "scale", _) => {}
            ("build", _) => self.note(service, "build is not carried over: a job runs images that exist"),
            ("env_file", _) => {
                self.note(service, "env_file is not carried over: put its lines into env, or render them by a template")
            }
            (key, _) if SILENT.contains(&key) || key.starts_with("x-") => {}
            (key, _) => self.note(service, format!("{key} is not carried over")),
        }
    }

    fn memory(&mut self, service: &str, value: &Json, task: &mut Map<String, Json>) {
        match bytes(value) {
            Some(size) => {
                let resources = task.entry("Resources").or_insert_with(|| json!({}));
                resources["MemoryMB"] = json!((size / MIB).max(10));
            }
            None => self.note(service, format!("memory limit {value} is no size")),
        }
    }

    fn cpus(&mut self, service: &str, value: &Json) {
        self.note(
            service,
            format!("a limit of {} CPUs is not carried over: set resources.cpu in MHz, or cores", plain(value)),
        );
    }

    fn deploy(&mut self, service: &str, deploy: &Map<String, Json>, task: &mut Map<String, Json>) {
        for (key, value) in deploy {
            match key.as_str() {
                "replicas" => {}
                "resources" => {
                    let of = |kind: &str, name: &str| value.get(kind).and_then(|limits| limits.get(name)).cloned();
                    if let Some(limit) = of("limits", "memory").or(of("reservations", "memory")) {
                        self.memory(service, &limit, task);
                    }
                    if let Some(limit) = of("limits", "cpus").or(of("reservations", "cpus")) {
                        self.cpus(service, &limit);
                    }
                    if of("reservations", "devices").is_some() {
                        self.note(service, "deploy.resources.reservations.devices is not carried over");
                    }
                }
                key => self.note(service, format!("deploy.{key} is not carried over")),
            }
        }
    }

    fn volumes(&mut self, service: &str, volumes: &[Json], config: &mut Map<String, Json>) {
        let (mut short, mut mounts) = (Vec::new(), Vec::new());
        for volume in volumes {
            match volume {
                Json::String(text) => {
                    if text.starts_with(['.', '~']) {
                        self.note(service, format!("volume {text}: a relative path is meant from the task's directory, which each allocation has anew; write it in full"));
                    }
                    if text.contains(':') {
                        short.push(json!(text));
                    } else {
                        mounts.push(json!({"type": "volume", "target": text}));
                    }
                }
                Json::Object(spec) => {
                    let mut mount = Map::new();
                    for (key, value) in spec {
                        match key.as_str() {
                            "type" | "source" | "target" => drop(mount.insert(key.clone(), value.clone())),
                            "read_only" => drop(mount.insert("readonly".to_owned(), value.clone())),
                            key => self.note(service, format!("volumes.{key} is not carried over")),
                        }
                    }
                    mounts.push(Json::Object(mount));
                }
                _ => {}
            }
        }
        if !short.is_empty() {
            config.insert("volumes".to_owned(), Json::Array(short));
        }
        if !mounts.is_empty() {
            config.insert("mount".to_owned(), Json::Array(mounts));
        }
    }

    fn restart(&mut self, service: &str, spec: &Map<String, Json>, task: &mut Map<String, Json>) {
        let Some(policy) = spec.get("restart") else { return };
        let policy = plain(policy);
        let (attempts, mode) = match policy.split_once(':').unwrap_or((&policy, "")) {
            ("no" | "false", _) => (0, "fail"),
            ("always" | "unless-stopped", _) => (2, "delay"),
            ("on-failure", count) => (count.parse().unwrap_or(2), if count.is_empty() { "delay" } else { "fail" }),
            _ => return self.note(service, format!("restart {policy:?} is unknown")),
        };
        task.insert("RestartPolicy".to_owned(), json!({"Attempts": attempts, "Mode": mode}));
    }

    /// Ports go to the group's network, the driver publishes them, a service names the first.
    fn ports(&mut self, service: &str, spec: &Map<String, Json>, task: &mut Map<String, Json>, group: &mut Group) {
        let mut labels = Vec::new();
        for port in spec.get("ports").and_then(Json::as_array).into_iter().flatten() {
            let port = self.substituted(service, port);
            let Some((published, target)) = self.port(service, &port) else { continue };
            let mut label = format!("{}_{target}", slug(service).replace('-', "_"));
            while group.labels.contains(&label) {
                label.push('x');
            }
            group.labels.insert(label.clone());
            let list = if published > 0 { &mut group.reserved } else { &mut group.dynamic };
            list.push(json!({"Label": label, "Value": published, "To": target}));
            labels.push(json!(label));
        }
        let check = spec.get("healthcheck").and_then(|check| self.check(service, check));
        match labels.first().cloned() {
            Some(first) => {
                let mut named = json!({"Name": slug(service), "PortLabel": first, "Provider": "nomad",
                    "TaskName": slug(service)});
                if let Some(check) = check {
                    named["Checks"] = json!([check]);
                }
                group.services.push(named);
                task["Config"]["ports"] = Json::Array(labels);
            }
            None if check.is_some() => {
                self.note(
                    service,
                    "its healthcheck needs a port that is published: a check asks from outside the container",
                );
            }
            None => {}
        }
    }

    /// What is published and what it leads to.
    fn port(&mut self, service: &str, port: &Json) -> Option<(i64, i64)> {
        if let Json::Object(long) = port {
            let number = |name: &str| long.get(name).map(plain).and_then(|text| text.parse().ok());
            if let Some(host) = long.get("host_ip") {
                self.note(service, format!("host_ip {} of a port is not carried over: see host_network", plain(host)));
            }
            if long.get("protocol").is_some_and(|protocol| protocol == "udp") {
                self.note(service, "a udp port is published for tcp and udp");
            }
            let Some(target) = number("target") else {
                self.note(service, format!("port {port} has no target"));
                return None;
            };
            return Some((number("published").unwrap_or(0), target));
        }
        let text = plain(port);
        let (text, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        if protocol == "udp" {
            self.note(service, format!("port {text} is published for tcp and udp"));
        }
        let parts: Vec<&str> = text.rsplitn(3, ':').collect();
        if let Some(host) = parts.get(2) {
            self.note(service, format!("the address {host} of port {text} is not carried over: see host_network"));
        }
        let read = |part: Option<&&str>| part.map_or(Some(0), |part| part.parse::<u16>().ok().map(i64::from));
        match (read(parts.get(1)), read(parts.first())) {
            (Some(published), Some(target)) if target > 0 => Some((published, target)),
            _ => {
                self.note(service, format!("port {text} is no single port, and is left out"));
                None
            }
        }
    }

    /// A command that asks for a page or a port says what a check is to ask.
    fn check(&mut self, service: &str, spec: &Json) -> Option<Json> {
        if spec.get("disable") == Some(&json!(true)) {
            return None;
        }
        let command = match spec.get("test") {
            Some(Json::Array(words)) => words.iter().map(plain).collect::<Vec<_>>().join(" "),
            Some(test) => plain(test),
            None => return None,
        };
        let nanos = |name: &str, default: i64| spec.get(name).and_then(span).unwrap_or(default * SECOND).max(SECOND);
        let mut check = json!({"Name": "health", "Interval": nanos("interval", 30), "Timeout": nanos("timeout", 30)});
        if spec.get("retries").is_some() || spec.get("start_period").is_some() {
            let grace = spec.get("start_period").and_then(span).unwrap_or(SECOND);
            let limit = spec.get("retries").and_then(Json::as_i64).unwrap_or(3);
            check["CheckRestart"] = json!({"Limit": limit, "Grace": grace});
        }
        let url =
            command.split([' ', '"', '\'']).find(|word| word.starts_with("http://") || word.starts_with("https://"));
        if let Some((scheme, rest)) = url.and_then(|url| url.split_once("://")) {
            let path = rest.split_once('/').map_or("/".to_owned(), |(_, path)| format!("/{path}"));
            (check["Type"], check["Path"], check["Protocol"]) = (json!("http"), json!(path), json!(scheme));
            return Some(check);
        }
        self.note(
            service,
            format!("healthcheck {command:?} is a command inside the container; its port is asked instead"),
        );
        check["Type"] = json!("tcp");
        Some(check)
    }

    /// `${NAME}`, `${NAME:-default}` and `$$` in all texts of a value.
    fn substituted(&mut self, service: &str, value: &Json) -> Json {
        match value {
            Json::String(text) if text.contains('$') => json!(self.text(service, text)),
            Json::Array(items) => items.iter().map(|item| self.substituted(service, item)).collect(),
            Json::Object(items) => {
                Json::Object(items.iter().map(|(key, item)| (key.clone(), self.substituted(service, item))).collect())
            }
            other => other.clone(),
        }
    }

    fn text(&mut self, service: &str, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let (inner, after) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some(both) => both,
                None => {
                    rest.split_at(rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len()))
                }
            };
            rest = after;
            let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            let (name, default) = inner.split_at(end);
            let default = default.trim_start_matches(':').strip_prefix('-');
            match (self.env.get(name), default) {
                (Some(value), _) if !value.is_empty() || default.is_none() => out.push_str(value),
                (_, Some(default)) => out.push_str(default),
                _ => self.note(service, format!("${{{name}}} is not set in the environment, and stands for nothing")),
            }
        }
        out + rest
    }
}

/// What a group is made of.
#[derive(Default)]
struct Group {
    name: String,
    count: i64,
    tasks: Vec<Json>,
    services: Vec<Json>,
    reserved: Vec<Json>,
    dynamic: Vec<Json>,
    labels: BTreeSet<String>,
}

impl Group {
    fn new(name: &str) -> Self {
        Group { name: name.to_owned(), count: 1, ..Group::default() }
    }

    fn json(self) -> Json {
        let mut group = json!({"Name": self.name, "Count": self.count, "Tasks": self.tasks});
        if !self.labels.is_empty() {
            group["Networks"] = json!([{"ReservedPorts": self.reserved, "DynamicPorts": self.dynamic}]);
        }
        if !self.services.is_empty() {
            group["Services"] = Json::Array(self.services);
        }
        group
    }
}

fn is_empty(value: &Json) -> bool {
    value.as_array().is_none_or(Vec::is_empty) && value.as_object().is_none_or(Map::is_empty)
}

/// A name that jobs, groups, tasks and services may have.
fn slug(name: &str) -> String {
    let text: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    let text: String = text.trim_matches('-').chars().take(63).collect();
    if text.is_empty() { "app".to_owned() } else { text }
}

/// A scalar as text.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn listed(value: &Json) -> Json {
    match value {
        Json::Array(_) => value.clone(),
        one => json!([plain(one)]),
    }
}

/// `{a: b}` or `[a=b]`, as text to text.
fn pairs(value: &Json) -> Json {
    let pair = |item: &Json| {
        let text = plain(item);
        text.split_once('=').map_or((text.clone(), String::new()), |(name, value)| (name.to_owned(), value.to_owned()))
    };
    let all: Map<String, Json> = match value {
        Json::Array(items) => items.iter().map(pair).map(|(name, value)| (name, json!(value))).collect(),
        Json::Object(items) => items.iter().map(|(name, value)| (name.clone(), json!(plain(value)))).collect(),
        _ => Map::new(),
    };
    Json::Object(all)
}

/// A command as a shell would take it apart.
fn words(value: &Json) -> Json {
    let Json::String(text) = value else { return listed(value) };
    let (mut out, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => (quote, any) = (Some(c), true),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => word.extend(chars.next()),
            (None, c) if c.is_whitespace() => {
                if any || !word.is_empty() {
                    out.push(json!(std::mem::take(&mut word)));
                }
                any = false;
            }
            (_, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        out.push(json!(word));
    }
    Json::Array(out)
}

/// `512m`, `1g`, `1.5gb`, a number of bytes.
fn bytes(value: &Json) -> Option<i64> {
    let text = plain(value).to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim().trim_end_matches('b') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        _ => return None,
    };
    #[allow(clippy::cast_possible_truncation)] // far below what a float holds exactly
    Some((number * unit).min(1e15) as i64)
}

/// `1m30s`, in nanoseconds.
fn span(value: &Json) -> Option<i64> {
    crate::duration::parse(&plain(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name: shop\nservices:\n  web:\n    image: shop/web:${TAG:-1.0}\n    command: serve --port 80 \"two words\"\n    ports: [\"8080:80\", \"9000\"]\n    environment:\n      DB: db\n      N: 3\n    volumes:\n      - ./conf:/etc/web:ro\n      - data:/var/lib/web\n    depends_on:\n      db: {condition: service_healthy}\n      migrate: {condition: service_completed_successfully}\n    healthcheck:\n      test: [\"CMD\", \"curl\", \"-f\", \"http://localhost/health\"]\n      interval: 10s\n      timeout: 2s\n      retries: 5\n    restart: on-failure:3\n    stop_grace_period: 1m30s\n    mem_limit: 512m\n    networks: [front]\n  db:\n    image: postgres:16\n    environment: [\"POSTGRES_PASSWORD=${SECRET}\", \"A=$$x\"]\n    ports:\n      - target: 5432\n        published: 5432\n    healthcheck:\n      test: pg_isready\n    volumes:\n      - type: volume\n        source: data\n        target: /data\n        read_only: true\n  migrate:\n    build: .\n    restart: \"no\"\n  worker:\n    image: w\n    deploy: {replicas: 3, resources: {limits: {memory: 1g, cpus: '0.5'}}}\nnetworks:\n  front: {}\nvolumes:\n  data: {driver: local}\n";

    fn composed() -> Composed {
        compose(FILE, &[("TAG".into(), "2.0".into())], "x").unwrap()
    }

    fn task<'j>(job: &'j Json, name: &str) -> &'j Json {
        let groups = job["TaskGroups"].as_array().unwrap();
        let mut tasks = groups.iter().flat_map(|group| group["Tasks"].as_array().unwrap());
        tasks.find(|task| task["Name"] == name).unwrap()
    }

    #[test]
    fn services_become_tasks_with_all_that_has_a_counterpart() {
        let Composed { job, .. } = composed();
        assert_eq!(job["ID"], "shop");
        let web = task(&job, "web");
        assert_eq!(web["Config"]["image"], "shop/web:2.0");
        assert_eq!(web["Config"]["args"], json!(["serve", "--port", "80", "two words"]));
        assert_eq!(web["Config"]["ports"], json!(["web_80", "web_9000"]));
        assert_eq!(web["Config"]["volumes"], json!(["./conf:/etc/web:ro", "data:/var/lib/web"]));
        assert_eq!(web["Env"], json!({"DB": "db", "N": "3"}));
        assert_eq!(web["RestartPolicy"], json!({"Attempts": 3, "Mode": "fail"}));
        assert_eq!((&web["KillTimeout"], &web["Resources"]["MemoryMB"]), (&json!(90 * SECOND), &json!(512)));
        assert!(web.get("Lifecycle").is_none());
        let db = task(&job, "db");
        assert_eq!(db["Lifecycle"], json!({"Hook": "prestart", "Sidecar": true}));
        assert_eq!(
            db["Config"]["mount"][0],
            json!({"type": "volume", "source": "data", "target": "/data", "readonly": true})
        );
        assert_eq!(db["Env"], json!({"POSTGRES_PASSWORD": "", "A": "$x"}));
        assert_eq!(task(&job, "migrate")["Lifecycle"], json!({"Hook": "prestart", "Sidecar": false}));
        let group = &job["TaskGroups"][0];
        assert_eq!(
            group["Networks"][0]["ReservedPorts"],
            json!([{"Label": "db_5432", "Value": 5432, "To": 5432}, {"Label": "web_80", "Value": 8080, "To": 80}])
        );
        assert_eq!(group["Networks"][0]["DynamicPorts"], json!([{"Label": "web_9000", "Value": 0, "To": 9000}]));
        let checks: Vec<(&Json, &Json)> =
            group["Services"].as_array().unwrap().iter().map(|s| (&s["Name"], &s["Checks"][0]["Type"])).collect();
        assert_eq!(checks, [(&json!("db"), &json!("tcp")), (&json!("web"), &json!("http"))]);
        assert_eq!(group["Services"][1]["Checks"][0]["Path"], "/health");
        assert_eq!(job["TaskGroups"][1]["Count"], 3);
    }

    #[test]
    fn what_is_not_carried_over_is_said() {
        let notes = composed().notes.join("\n");
        for words in [
            "networks of the file",
            "volume data: its options",
            "service web: networks is not carried over",
            "service web: starts after db has started, and does not wait until it is healthy",
            "service web: volume ./conf",
            "service db: healthcheck \"pg_isready\" is a command",
            "service db: ${SECRET} is not set",
            "service migrate: build is not carried over",
            "service migrate: has no image",
            "service worker: a limit of 0.5 CPUs",
            "services do not find each other by name",
        ] {
            assert!(notes.contains(words), "{words} expected in\n{notes}");
        }
    }

    #[test]
    fn the_job_is_written_parses_and_is_valid() {
        let written = crate::write(&composed().job);
        assert_eq!(written.notes, Vec::<String>::new());
        let parsed = crate::parse(crate::Source { name: "a", text: &written.text }, &Inputs::default());
        let mut job = parsed.unwrap_or_else(|problems| panic!("{}\n{}", written.text, problems.reference_text())).job;
        job.canonicalize();
        assert_eq!(model::report(&model::validate(&job)), "", "{}", written.text);
    }

    #[test]
    fn what_is_no_compose_file_is_refused() {
        for text in ["", "a: [", "services: {}", "services: 5", "- a", "version: 3"] {
            assert!(compose(text, &[], "x").is_err(), "{text}");
        }
    }
}
