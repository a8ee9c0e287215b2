//! What shape does a task's `config` block have, for each driver, and what an agent's `plugin` block?
//!
//! ```text
//!   registration, plan, validate ─► problems()   everything that is wrong, in words: an error
//!                                └► lacks()      what must be there and is not: a warning, as the reference accepts it
//!   a driver, before it decodes  ─► shaped()     the same block with each value in its type
//!   an agent's configuration     ─► plugin_problems(), plugin_shaped(): the same for `plugin "x" { config {} }`
//! ```
//!
//! One table per driver names each key with its kind. A job file, a JSON job and an interpolated value
//! write the same thing in different types (`"5"` and 5, a block and a list of one block): both ways in take
//! them all. A text with an interpolation passes as any scalar until the node has filled it in; an agent's
//! configuration has none.
//!
//! Deliberately absent: what values mean, and what an operator allows. The driver knows and says so when
//! the task starts. A driver without a table is not looked at. Nothing here can fail but by what it reports.
//!
//! Source of the keys: `agent-config.tsv`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A mistake is worth a suggestion when no more letters than this differ.
const NEAR: usize = 3;
/// Mistakes that are told; more tell nothing more.
const PROBLEMS_MAX: usize = 20;

/// What a key holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Flag,
    Number,
    /// A duration such as `30s`.
    Span,
    OneOf(&'static [&'static str]),
    Texts,
    /// One text or several.
    TextOrTexts,
    /// Texts by name.
    Map,
    /// At most once.
    Block(Table),
    /// Any number of times.
    Blocks(Table),
}

type Table = &'static [(&'static str, Kind)];

const RAW_EXEC: Table = &[
    ("command", Kind::Text),
    ("args", Kind::Texts),
    ("cgroup_v1_override", Kind::Map),
    ("cgroup_v2_override", Kind::Text),
    ("denied_envvars", Kind::Texts),
    ("oom_score_adj", Kind::Number),
    ("work_dir", Kind::Text),
];

const MOUNT: Table = &[
    ("type", Kind::OneOf(&["bind", "volume", "tmpfs"])),
    ("target", Kind::Text),
    ("source", Kind::Text),
    ("readonly", Kind::Flag),
    ("bind_options", Kind::Block(&[("propagation", Kind::Text)])),
    ("tmpfs_options", Kind::Block(&[("size", Kind::Number), ("mode", Kind::Number)])),
    (
        "volume_options",
        Kind::Block(&[
            ("no_copy", Kind::Flag),
            ("labels", Kind::Map),
            ("driver_config", Kind::Block(&[("name", Kind::Text), ("options", Kind::Map)])),
        ]),
    ),
];

const DOCKER: Table = &[
    ("image", Kind::Text),
    ("advertise_ipv6_address", Kind::Flag),
    ("args", Kind::Texts),
    (
        "auth",
        Kind::Block(&[
            ("username", Kind::Text),
            ("password", Kind::Text),
            ("email", Kind::Text),
            ("server_address", Kind::Text),
        ]),
    ),
    ("auth_soft_fail", Kind::Flag),
    ("cap_add", Kind::Texts),
    ("cap_drop", Kind::Texts),
    ("cgroupns", Kind::Text),
    ("command", Kind::Text),
    ("container_exists_attempts", Kind::Number),
    ("cpu_cfs_period", Kind::Number),
    ("cpu_hard_limit", Kind::Flag),
    ("cpuset_cpus", Kind::Text),
    (
        "devices",
        Kind::Blocks(&[("host_path", Kind::Text), ("container_path", Kind::Text), ("cgroup_permissions", Kind::Text)]),
    ),
    ("dns_options", Kind::Texts),
    ("dns_search_domains", Kind::Texts),
    ("dns_servers", Kind::Texts),
    ("entrypoint", Kind::TextOrTexts),
    ("extra_hosts", Kind::Texts),
    ("force_pull", Kind::Flag),
    ("group_add", Kind::Texts),
    ("healthchecks", Kind::Block(&[("disable", Kind::Flag)])),
    ("hostname", Kind::Text),
    ("image_pull_timeout", Kind::Text),
    ("init", Kind::Flag),
    ("interactive", Kind::Flag),
    ("ipc_mode", Kind::Text),
    ("ipv4_address", Kind::Text),
    ("ipv6_address", Kind::Text),
    ("isolation", Kind::Text),
    ("labels", Kind::Map),
    ("load", Kind::Text),
    ("logging", Kind::Block(&[("type", Kind::Text), ("driver", Kind::Text), ("config", Kind::Map)])),
    ("mac_address", Kind::Text),
    ("memory_hard_limit", Kind::Number),
    ("mount", Kind::Blocks(MOUNT)),
    ("mounts", Kind::Blocks(MOUNT)),
    ("network_aliases", Kind::Texts),
    ("network_mode", Kind::Text),
    ("oom_score_adj", Kind::Number),
    ("pid_mode", Kind::Text),
    ("pids_limit", Kind::Number),
    ("port_map", Kind::Map),
    ("ports", Kind::Texts),
    ("privileged", Kind::Flag),
    ("readonly_rootfs", Kind::Flag),
    ("runtime", Kind::Text),
    ("security_opt", Kind::Texts),
    ("shm_size", Kind::Number),
    ("storage_opt", Kind::Map),
    ("sysctl", Kind::Map),
    ("tty", Kind::Flag),
    ("ulimit", Kind::Map),
    ("userns_mode", Kind::Text),
    ("uts_mode", Kind::Text),
    ("volume_driver", Kind::Text),
    ("volumes", Kind::Texts),
    ("work_dir", Kind::Text),
];

const RAW_EXEC_PLUGIN: Table = &[
    ("enabled", Kind::Flag),
    ("denied_host_uids", Kind::Text),
    ("denied_host_gids", Kind::Text),
    ("denied_envvars", Kind::Texts),
];

const DOCKER_PLUGIN: Table = &[
    ("endpoint", Kind::Text),
    ("auth", Kind::Block(&[("config", Kind::Text), ("helper", Kind::Text)])),
    ("tls", Kind::Block(&[("cert", Kind::Text), ("key", Kind::Text), ("ca", Kind::Text)])),
    ("extra_labels", Kind::Texts),
    ("logging", Kind::Block(&[("type", Kind::Text), ("config", Kind::Map)])),
    (
        "gc",
        Kind::Block(&[
            ("image", Kind::Flag),
            ("image_delay", Kind::Span),
            ("container", Kind::Flag),
            (
                "dangling_containers",
                Kind::Block(&[
                    ("enabled", Kind::Flag),
                    ("period", Kind::Span),
                    ("creation_grace", Kind::Span),
                    ("dry_run", Kind::Flag),
                ]),
            ),
        ]),
    ),
    ("volumes", Kind::Block(&[("enabled", Kind::Flag), ("selinuxlabel", Kind::Text)])),
    ("allow_privileged", Kind::Flag),
    ("allow_caps", Kind::Texts),
    ("allow_runtimes", Kind::Texts),
    ("nvidia_runtime", Kind::Text),
    (
        "allowed_modes",
        Kind::Block(&[("pid", Kind::Texts), ("ipc", Kind::Texts), ("userns", Kind::Texts), ("uts", Kind::Texts)]),
    ),
    ("infra_image", Kind::Text),
    ("infra_image_pull_timeout", Kind::Span),
    ("image_pull_timeout", Kind::Span),
    ("pull_activity_timeout", Kind::Span),
    ("container_exists_attempts", Kind::Number),
    ("oom_score_adj", Kind::Number),
    ("pids_limit", Kind::Number),
    ("publish_address", Kind::Text),
    ("disable_log_collection", Kind::Flag),
    ("windows_allow_insecure_container_admin", Kind::Flag),
];

fn plugin_table(driver: &str) -> Option<Table> {
    match driver {
        "docker" => Some(DOCKER_PLUGIN),
        "raw_exec" => Some(RAW_EXEC_PLUGIN),
        _ => None,
    }
}

/// The keys of a driver, and which of them there must be.
fn table(driver: &str) -> Option<(Table, &'static str)> {
    match driver {
        "docker" => Some((DOCKER, "image")),
        "raw_exec" => Some((RAW_EXEC, "command")),
        _ => None,
    }
}

/// One thing that is wrong with a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The key, with the blocks around it: `gc.image_delay`.
    pub place: String,
    pub what: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such key; perhaps this one was meant.
    Unknown(Option<&'static str>),
    /// It must be something else.
    Must(String),
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = &self.place;
        match &self.what {
            Fault::Unknown(Some(near)) => write!(f, "unknown key {place:?}, did you mean {near:?}?"),
            Fault::Unknown(None) => write!(f, "unknown key {place:?}"),
            Fault::Must(text) => write!(f, "{place:?} must be {text}"),
        }
    }
}

/// What is wrong with the shape of a `config` block, as far as the driver has a table. Empty when nothing is.
pub fn problems(driver: &str, config: &BTreeMap<String, Value>) -> Vec<Wrong> {
    let Some((table, _)) = table(driver) else { return Vec::new() };
    let mut shaping = Shaping { open: true, ..Shaping::default() };
    let _ = shaping.object(table, "", config.iter());
    shaping.problems
}

/// What is wrong with the settings of a driver, as far as it has a table of them.
pub fn plugin_problems(driver: &str, config: &Map<String, Value>) -> Vec<Wrong> {
    let Some(table) = plugin_table(driver) else { return Vec::new() };
    let mut shaping = Shaping::default();
    let _ = shaping.object(table, "", config.iter());
    shaping.problems
}

/// The settings of a driver with each value in its type.
///
/// # Errors
/// The first thing that is wrong with their shape.
pub fn plugin_shaped(driver: &str, config: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let Some(table) = plugin_table(driver) else { return Ok(config.clone()) };
    Shaping::default().whole(table, config)
}

/// The key without which no task of this driver starts, when it is not there.
pub fn lacks(driver: &str, config: &BTreeMap<String, Value>) -> Option<&'static str> {
    let (_, required) = table(driver)?;
    config.get(required).is_none_or(|value| value.is_null() || value == "").then_some(required)
}

/// The block with each value in its type.
///
/// # Errors
/// The first thing that is wrong with its shape.
pub fn shaped(driver: &str, config: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let Some((table, _)) = table(driver) else { return Ok(config.clone()) };
    Shaping { open: true, ..Shaping::default() }.whole(table, config)
}

/// Walks a block once, and keeps what is wrong.
#[derive(Default)]
struct Shaping {
    problems: Vec<Wrong>,
    /// A text with an interpolation may become anything.
    open: bool,
}

impl Shaping {
    fn say(&mut self, place: &str, what: Fault) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Wrong { place: place.to_owned(), what });
        }
    }

    fn whole(mut self, table: Table, config: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let shaped = self.object(table, "", config.iter());
        match self.problems.first() {
            None => Ok(shaped),
            Some(problem) => Err(problem.to_string()),
        }
    }

    fn object<'a>(
        &mut self,
        table: Table,
        at: &str,
        given: impl Iterator<Item = (&'a String, &'a Value)>,
    ) -> Map<String, Value> {
        let mut out = Map::new();
        for (name, value) in given.filter(|(_, value)| !value.is_null()) {
            let place = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            match table.iter().find(|(known, _)| known == name) {
                Some((_, kind)) => drop(out.insert(name.clone(), self.value(*kind, &place, value))),
                None => self.say(&place, Fault::Unknown(near(table, name))),
            }
        }
        out
    }

    fn value(&mut self, kind: Kind, at: &str, given: &Value) -> Value {
        let open = self.open && given.as_str().is_some_and(is_open);
        let found = match (kind, given) {
            (Kind::Flag | Kind::Number | Kind::Span | Kind::OneOf(_), value) if open => Some(value.clone()),
            (Kind::Span, Value::String(text)) => {
                crate::time::parse_go_duration(text).filter(|span| span.0 >= 0).map(|_| given.clone())
            }
            (Kind::OneOf(words), Value::String(text)) => words.contains(&text.as_str()).then(|| given.clone()),
            (Kind::Text, value) => text(value).map(Value::String),
            (Kind::Flag, value) => flag(value),
            (Kind::Number, value) => number(value),
            (Kind::TextOrTexts, value @ Value::String(_)) => Some(Value::Array(vec![value.clone()])),
            (Kind::Texts | Kind::TextOrTexts, Value::Array(items)) => {
                items.iter().map(|item| text(item).map(Value::String)).collect::<Option<Vec<_>>>().map(Value::Array)
            }
            (Kind::Map, Value::Object(_) | Value::Array(_)) => map(given),
            (Kind::Block(table), Value::Object(fields)) => {
                return Value::Object(self.object(table, at, fields.iter()));
            }
            (Kind::Block(table), Value::Array(items)) if items.len() <= 1 => match items.first() {
                Some(Value::Object(fields)) => return Value::Object(self.object(table, at, fields.iter())),
                None => return Value::Object(Map::new()),
                Some(_) => None,
            },
            (Kind::Blocks(table), Value::Object(fields)) => {
                return Value::Array(vec![Value::Object(self.object(table, at, fields.iter()))]);
            }
            (Kind::Blocks(table), Value::Array(items)) => {
                return Value::Array(items.iter().map(|item| self.value(Kind::Block(table), at, item)).collect());
            }
            _ => None,
        };
        found.unwrap_or_else(|| {
            self.say(at, Fault::Must(meant(kind, given)));
            Value::Null
        })
    }
}

fn meant(kind: Kind, given: &Value) -> String {
    let words = match kind {
        Kind::Text => "a text",
        Kind::Flag => "true or false",
        Kind::Number => "a whole number",
        Kind::Span => "a duration such as \"30s\"",
        Kind::OneOf(words) => return format!("one of {}, not {given}", words.join(", ")),
        Kind::Texts => "a list of texts",
        Kind::TextOrTexts => "a text or a list of texts",
        Kind::Map => "a map of texts",
        Kind::Block(_) => "one block",
        Kind::Blocks(_) => "a block or a list of blocks",
    };
    words.to_owned()
}

/// The key that was meant, perhaps. In a short name fewer letters may differ.
fn near(table: Table, name: &str) -> Option<&'static str> {
    let near = table.iter().map(|(known, _)| (distance(name, known), *known));
    near.filter(|(d, known)| *d <= NEAR && *d < known.len()).min().map(|(_, known)| known)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn is_open(text: &str) -> bool {
    text.contains("${")
}

fn flag(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(value.clone()),
        Value::Number(number) => match number.as_i64() {
            Some(n @ (0 | 1)) => Some(Value::Bool(n == 1)),
            _ => None,
        },
        Value::String(text) => match text.as_str() {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

fn number(value: &Value) -> Option<Value> {
    match value {
        Value::Number(number) if number.is_i64() => Some(value.clone()),
        // A whole number in the notation of a float.
        Value::Number(number) => {
            let text = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| format!("{n:.0}"));
            text.and_then(|text| text.parse::<i64>().ok()).map(Value::from)
        }
        Value::String(text) => text.parse::<i64>().ok().map(Value::from),
        _ => None,
    }
}

/// One map of texts, from one object or a list of them.
fn map(value: &Value) -> Option<Value> {
    let maps = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut out = Map::new();
    for one in maps {
        for (name, value) in one.as_object()?.iter().filter(|(_, value)| !value.is_null()) {
            out.insert(name.clone(), Value::String(text(value)?));
        }
    }
    Some(Value::Object(out))
}

/// Letters to change, add or remove. Long names are not near to anything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = corner + usize::from(left != *right);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(driver: &str, config: &Value) -> Vec<String> {
        let config = config.as_object().unwrap().clone().into_iter().collect();
        problems(driver, &config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_wrong_with_a_config_is_told_at_once() {
        let config = json!({
            "imge": "a", "command": ["x"], "args": "x", "tty": "maybe", "pids_limit": 1.5, "labels": ["x"],
            "auth": [{"user": "u"}], "mount": [{"target": "/x", "tmpfs_options": {"sise": 1}}], "logging": [{}, {}],
        });
        assert_eq!(
            wrong("docker", &config),
            [
                "\"args\" must be a list of texts",
                "unknown key \"auth.user\"",
                "\"command\" must be a text",
                "unknown key \"imge\", did you mean \"image\"?",
                "\"labels\" must be a map of texts",
                "\"logging\" must be one block",
                "unknown key \"mount.tmpfs_options.sise\", did you mean \"size\"?",
                "\"pids_limit\" must be a whole number",
                "\"tty\" must be true or false",
            ]
        );
        assert_eq!(lacks("docker", &BTreeMap::new()), Some("image"));
        assert_eq!(lacks("raw_exec", &BTreeMap::from([("command".to_owned(), json!("x"))])), None);
        assert_eq!(wrong("raw_exec", &json!({"image": "x"})), ["unknown key \"image\""]);
    }

    #[test]
    fn a_word_that_must_be_one_of_a_few_is_none_other() {
        let config = json!({"image": "a", "mount": [{"type": "foo", "target": "/x"}, {"type": "${meta.kind}"}]});
        assert_eq!(wrong("docker", &config), ["\"mount.type\" must be one of bind, volume, tmpfs, not \"foo\""]);
    }

    #[test]
    fn the_settings_of_a_driver_are_looked_at_like_its_tasks() {
        let wrong = |driver: &str, config: Value| -> Vec<String> {
            plugin_problems(driver, config.as_object().unwrap()).iter().map(ToString::to_string).collect()
        };
        let config = json!({
            "gcc": {}, "gc": {"image_delay": "x", "dangling_containers": {"dryrun": true}}, "allow_caps": "chown",
            "allow_privileged": "maybe", "pids_limit": "${meta.x}", "volumes": [{}, {}],
        });
        assert_eq!(
            wrong("docker", config),
            [
                "\"allow_caps\" must be a list of texts",
                "\"allow_privileged\" must be true or false",
                "unknown key \"gc.dangling_containers.dryrun\", did you mean \"dry_run\"?",
                "\"gc.image_delay\" must be a duration such as \"30s\"",
                "unknown key \"gcc\", did you mean \"gc\"?",
                "\"pids_limit\" must be a whole number",
                "\"volumes\" must be one block",
            ]
        );
        assert_eq!(wrong("raw_exec", json!({"enabled": "maybe"})), ["\"enabled\" must be true or false"]);
        assert!(wrong("raw_exec", json!({"enabled": 1})).is_empty() && wrong("qemu", json!({"x": 1})).is_empty());
        let given = json!({"gc": [{"container": "false"}], "pids_limit": "5"});
        let shaped = plugin_shaped("docker", given.as_object().unwrap()).unwrap();
        assert_eq!(Value::Object(shaped), json!({"gc": {"container": false}, "pids_limit": 5}));
    }

    #[test]
    fn what_the_node_fills_in_later_passes() {
        let config =
            json!({"image": "${meta.image}", "tty": "${meta.tty}", "pids_limit": "${meta.pids}", "init": null});
        assert_eq!(wrong("docker", &config), Vec::<String>::new());
        assert_eq!(wrong("mock_driver", &json!({"anything": 1})), Vec::<String>::new());
    }

    #[test]
    fn a_value_gets_its_type_however_it_was_written() {
        let given = json!({
            "image": "a", "tty": "true", "pids_limit": "5", "shm_size": 64.0, "hostname": 7, "entrypoint": "/e",
            "labels": [{"a": 1}, {"b": true}], "auth": [{"username": "u"}], "devices": {"host_path": "/dev/x"},
            "healthchecks": [], "load": null,
        });
        let wanted = json!({
            "image": "a", "tty": true, "pids_limit": 5, "shm_size": 64, "hostname": "7", "entrypoint": ["/e"],
            "labels": {"a": "1", "b": "true"}, "auth": {"username": "u"}, "devices": [{"host_path": "/dev/x"}],
            "healthchecks": {},
        });
        assert_eq!(Value::Object(shaped("docker", given.as_object().unwrap()).unwrap()), wanted);
    }

    #[test]
    fn problems_are_bounded() {
        let config = (0..1000).map(|n| (format!("key-{n}"), json!(n))).collect();
        assert_eq!(problems("docker", &config).len(), PROBLEMS_MAX);
    }
}
