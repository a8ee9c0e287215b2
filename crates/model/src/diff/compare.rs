//! What does one version of a job say that another does not?
//!
//! ```text
//!   two jobs ─► their wire forms ─► groups and tasks paired by name
//!                                   ├─ scalars, and maps of them: fields (`Meta[k]`)
//!                                   ├─ blocks: objects, looked into
//!                                   ├─ lists of blocks: objects, paired by what names them, or by content
//!                                   └─ lists of texts: an object with a field for each
//! ```
//!
//! Invariants
//! * Jobs, groups and tasks are compared as they are; what differs in them, in the wire form, so a field that is added to a noun is compared without a line here; the
//!   tables below only say what is left out, what a block is called and what names one.
//! * An object that changed lists its unchanged fields too, for context; jobs, groups and tasks do not.
//! * Nothing and the empty text are the same; nothing and zero are not.
//!
//! Pure; driven by the gateway's plan and versions. Deliberately absent: what a change leads to
//! ([`super::annotate`]).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{FieldDiff, JobDiff, ObjectDiff, TaskDiff, TaskGroupDiff};
use crate::group::TaskGroup;
use crate::job::Job;
use crate::task::Task;

/// Why two jobs cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    #[error("can not diff jobs with different IDs: \"{0}\" and \"{1}\"")]
    OtherJob(String, String),
    #[error("job cannot be written: {0}")]
    Unwritable(String),
}

pub(super) const NONE: &str = "None";
pub(super) const ADDED: &str = "Added";
pub(super) const DELETED: &str = "Deleted";
pub(super) const EDITED: &str = "Edited";

/// Written by the cluster, or shown elsewhere in the answer.
const NOT_OF_JOB: [&str; 13] = [
    "ID",
    "TaskGroups",
    "Status",
    "StatusDescription",
    "Version",
    "VersionTag",
    "Stable",
    "CreateIndex",
    "ModifyIndex",
    "JobModifyIndex",
    "Update",
    "SubmitTime",
    "NomadTokenID",
];
/// Per block, by the name it has in a difference.
const NOT_OF_OBJECT: [(&str, &[&str]); 4] = [
    ("Update", &["Stagger"]),
    ("Network", &["Device", "CIDR", "IP", "MBits"]),
    ("Scaling", &["ID", "Type", "Namespace", "Target", "CreateIndex", "ModifyIndex"]),
    ("ScalingPolicy", &["ID", "Type", "Namespace", "Target", "CreateIndex", "ModifyIndex"]),
];
/// Maps whose entries are fields of what they are in.
const MAPS: [&str; 12] = [
    "Meta",
    "Env",
    "CanaryMeta",
    "Tags",
    "TaggedAddresses",
    "Header",
    "Options",
    "GetterOptions",
    "GetterHeaders",
    "ExtraClaims",
    "Attributes",
    "Labels",
];
/// Objects of free form, flattened whole.
const FREE: [&str; 2] = ["Config", "Policy"];
/// What one of a list is called, and the fields that name it; none: its content does.
const LISTS: [(&str, &str, &[&str]); 19] = [
    ("Constraints", "Constraint", &[]),
    ("Affinities", "Affinity", &[]),
    ("Spreads", "Spread", &[]),
    ("SpreadTarget", "SpreadTarget", &["Value"]),
    ("Artifacts", "Artifact", &[]),
    ("Devices", "Device", &[]),
    ("VolumeMounts", "VolumeMount", &[]),
    ("Services", "Service", &["Name", "PortLabel"]),
    ("Checks", "Check", &["Name", "Type"]),
    ("Templates", "Template", &["DestPath", "SourcePath"]),
    ("ReservedPorts", "Static Port", &["Label"]),
    ("DynamicPorts", "Dynamic Port", &["Label"]),
    ("Identities", "Identity", &["Name"]),
    ("Actions", "Action", &["Name"]),
    ("Secrets", "Secret", &["Name"]),
    ("Links", "Link", &["Label"]),
    ("Upstreams", "ConsulUpstreams", &["DestinationName"]),
    ("ScalingPolicies", "ScalingPolicy", &["Type"]),
    ("Networks", "Network", &["Mode"]),
];
/// Where there is one on each side it is the same one, whatever it is called.
const ALONE: [&str; 4] = ["Service", "Check", "Template", "Network"];

/// What became of `old` in `new`. No old one: everything is added.
///
/// # Errors
/// They are different jobs.
pub fn diff_jobs(old: Option<&Job>, new: &Job) -> Result<JobDiff, DiffError> {
    if let Some(old) = old.filter(|old| old.id() != new.id()) {
        return Err(DiffError::OtherJob(old.id().to_string(), new.id().to_string()));
    }
    let (before, after) = match old {
        Some(old) => {
            let (old, new) = differing_of_job(old, new);
            (Some(written(&old)?), written(&new)?)
        }
        // Groups have a place of their own.
        None => (None, written(&Job { task_groups: Vec::new(), ..new.clone() })?),
    };
    let task_groups = groups(old.map_or(&[], |old| &old.task_groups), &new.task_groups)?;
    let parts = Parts::of(before.as_ref(), Some(&after), &NOT_OF_JOB, false);
    let changed = !parts.is_empty() || task_groups.iter().any(|group| group.kind != NONE);
    Ok(JobDiff {
        kind: kind(before.is_some(), true, changed).to_owned(),
        id: new.id().to_string(),
        fields: parts.fields,
        objects: parts.objects,
        task_groups,
    })
}

fn written(noun: &impl serde::Serialize) -> Result<Block, DiffError> {
    let value = serde_json::to_value(noun).map_err(|error| DiffError::Unwritable(error.to_string()))?;
    match value {
        Value::Object(block) => Ok(block),
        _ => Err(DiffError::Unwritable("no object".to_owned())),
    }
}

/// Two nouns with nothing in them but the fields in which they differ: what is the same need not be
/// written out to be compared. Every field is named, or the build fails.
macro_rules! differing {
    ($name:ident, $of:ident, without $($skip:ident)+, with $($field:ident)+) => {
        fn $name(old: &$of, new: &$of) -> ($of, $of) {
            let $of { $($skip: _,)+ $($field: _),+ } = old;
            let (mut before, mut after) = ($of::default(), $of::default());
            $(if old.$field != new.$field {
                before.$field.clone_from(&old.$field);
                after.$field.clone_from(&new.$field);
            })+
            (before, after)
        }
    };
}

differing!(differing_of_job, Job, without task_groups id update status status_description stable version submit_time
    create_index modify_index job_modify_index version_tag nomad_token_id,
    with region namespace name kind priority all_at_once datacenters node_pool constraints affinities multiregion
    spreads periodic parameterized_job reschedule migrate meta ui stop parent_id dispatched
    dispatch_idempotency_token payload consul_namespace vault_namespace);

differing!(differing_of_group, TaskGroup, without name tasks,
    with count constraints affinities spreads volumes restart_policy disconnect reschedule_policy ephemeral_disk
    update migrate networks meta services shutdown_delay max_run_duration stop_after_client_disconnect
    max_client_disconnect scaling consul prevent_reschedule_on_lost);

differing!(differing_of_task, Task, without name,
    with driver user lifecycle config constraints affinities env services resources restart_policy meta kill_timeout
    log_config artifacts vault consul templates dispatch_payload volume_mounts csi_plugin_config leader
    shutdown_delay kill_signal kind scaling_policies secrets identity identities actions schedule);

type Block = Map<String, Value>;

const fn kind(old: bool, new: bool, changed: bool) -> &'static str {
    match (old, new) {
        (false, true) => ADDED,
        (true, false) => DELETED,
        _ if changed => EDITED,
        _ => NONE,
    }
}

/// Both sides of what has a name, in the order of the names.
type Pairs<'a, T> = BTreeMap<&'a str, (Option<&'a T>, Option<&'a T>)>;

fn by_name<'a, T>(old: &'a [T], new: &'a [T], name: impl Fn(&'a T) -> &'a str) -> Pairs<'a, T> {
    let mut pairs: Pairs<'a, T> = BTreeMap::new();
    for noun in old {
        pairs.entry(name(noun)).or_default().0 = Some(noun);
    }
    for noun in new {
        pairs.entry(name(noun)).or_default().1 = Some(noun);
    }
    pairs
}

/// The wire forms of two sides, of which both may be without what is the same.
fn sides<T: Clone + serde::Serialize>(
    old: Option<&T>,
    new: Option<&T>,
    differing: impl Fn(&T, &T) -> (T, T),
) -> Result<(Option<Block>, Option<Block>), DiffError> {
    match (old, new) {
        (Some(old), Some(new)) => {
            let (old, new) = differing(old, new);
            Ok((Some(written(&old)?), Some(written(&new)?)))
        }
        (old, new) => Ok((old.map(written).transpose()?, new.map(written).transpose()?)),
    }
}

fn groups(old: &[TaskGroup], new: &[TaskGroup]) -> Result<Vec<TaskGroupDiff>, DiffError> {
    by_name(old, new, TaskGroup::name)
        .into_iter()
        .map(|(name, (old, new))| {
            let tasks = tasks(old, new)?;
            let parts = if old == new {
                Parts::default()
            } else {
                let (before, after) = sides(old, new, differing_of_group)?;
                Parts::of(before.as_ref(), after.as_ref(), &["Name", "Tasks"], false)
            };
            let changed = !parts.is_empty() || tasks.iter().any(|task| task.kind != NONE);
            Ok(TaskGroupDiff {
                kind: kind(old.is_some(), new.is_some(), changed).to_owned(),
                name: name.to_owned(),
                fields: parts.fields,
                objects: parts.objects,
                tasks,
                updates: BTreeMap::new(),
            })
        })
        .collect()
}

fn tasks(old_group: Option<&TaskGroup>, new_group: Option<&TaskGroup>) -> Result<Vec<TaskDiff>, DiffError> {
    let inherits = |task: Option<&Task>, group: Option<&TaskGroup>| {
        task.is_none_or(|task| group.is_some_and(|group| task.restart_policy == group.restart_policy))
    };
    fn list(group: Option<&TaskGroup>) -> &[Task] {
        group.map_or(&[], |group| &group.tasks)
    }
    let (old_tasks, new_tasks) = (list(old_group), list(new_group));
    by_name(old_tasks, new_tasks, |task| task.name.as_str())
        .into_iter()
        .map(|(name, (old, new))| {
            let parts = if old == new {
                Parts::default()
            } else {
                // A policy that is the group's is shown there.
                let own = !(inherits(old, old_group) && inherits(new, new_group));
                let skip: &[&str] = if own { &["Name"] } else { &["Name", "RestartPolicy"] };
                let (before, after) = sides(old, new, differing_of_task)?;
                Parts::of(before.as_ref(), after.as_ref(), skip, false)
            };
            Ok(TaskDiff {
                kind: kind(old.is_some(), new.is_some(), !parts.is_empty()).to_owned(),
                name: name.to_owned(),
                fields: parts.fields,
                objects: parts.objects,
                annotations: Vec::new(),
            })
        })
        .collect()
}

/// The fields and objects of a block that differ.
#[derive(Default)]
struct Parts {
    fields: Vec<FieldDiff>,
    objects: Vec<ObjectDiff>,
}

impl Parts {
    fn is_empty(&self) -> bool {
        self.fields.iter().all(|field| field.kind == NONE) && self.objects.is_empty()
    }

    /// With `context`, fields that are the same are there too.
    fn of<'b>(old: Option<&'b Block>, new: Option<&'b Block>, skip: &[&str], context: bool) -> Self {
        let mut parts = Self::default();
        let keys: BTreeSet<&String> = [old, new].into_iter().flatten().flat_map(Map::keys).collect();
        for key in keys.into_iter().filter(|key| !skip.contains(&key.as_str())) {
            let side = |block: Option<&'b Block>| block.and_then(|block| block.get(key)).unwrap_or(&Value::Null);
            let (old, new) = (side(old), side(new));
            // A scalar that is the same may be context; anything else that is the same is nothing.
            if context || old != new {
                parts.entry(key, old, new, context);
            }
        }
        parts.fields.sort_by(|a, b| a.name.cmp(&b.name));
        parts.objects.sort_by(|a, b| a.name.cmp(&b.name));
        parts
    }

    fn entry(&mut self, key: &str, old: &Value, new: &Value, context: bool) {
        let shape = if old.is_null() { new } else { old };
        match shape {
            Value::Null => {}
            Value::Object(_) if MAPS.contains(&key) => self.flattened(key, old, new, context),
            Value::Object(_) if FREE.contains(&key) => {
                let mut parts = Self::default();
                parts.flattened("", old, new, true);
                self.objects.extend(object(key, old.as_object(), new.as_object(), parts));
            }
            Value::Object(_) if key == "Volumes" => {
                let names: BTreeSet<&String> =
                    [old, new].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
                self.objects.extend(names.into_iter().filter_map(|name| {
                    let side = |value: &'_ Value| value.get(name).and_then(Value::as_object).cloned();
                    block("Volume", side(old).as_ref(), side(new).as_ref())
                }));
            }
            Value::Object(_) => self.objects.extend(block(key, old.as_object(), new.as_object())),
            Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
                self.objects.extend(texts(key, old, new));
            }
            Value::Array(_) => self.objects.extend(blocks(key, old, new)),
            _ => self.field(key, text(Some(old)), text(Some(new)), context),
        }
    }

    fn field(&mut self, name: &str, old: String, new: String, context: bool) {
        let kind = match (old.is_empty(), new.is_empty()) {
            _ if old == new => NONE,
            (true, _) => ADDED,
            (_, true) => DELETED,
            _ => EDITED,
        };
        if kind != NONE || context {
            self.fields.push(FieldDiff { kind: kind.to_owned(), name: name.to_owned(), old, new, annotations: vec![] });
        }
    }

    fn flattened(&mut self, prefix: &str, old: &Value, new: &Value, context: bool) {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        flatten(prefix, old, &mut before);
        flatten(prefix, new, &mut after);
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let side = |side: &BTreeMap<String, String>| side.get(name).cloned().unwrap_or_default();
            self.field(name, side(&before), side(&after), context);
        }
        self.fields.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// A value as `a`, `a[0]`, `a[key]` …
fn flatten(name: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&format!("{name}[{at}]"), item, out));
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                let name = if name.is_empty() { key.clone() } else { format!("{name}[{key}]") };
                flatten(&name, item, out);
            }
        }
        scalar => drop(out.insert(name.to_owned(), text(Some(scalar)))),
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn block(name: &str, old: Option<&Block>, new: Option<&Block>) -> Option<ObjectDiff> {
    if old == new {
        return None;
    }
    let skip = NOT_OF_OBJECT.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, skip)| skip);
    object(name, old, new, Parts::of(old, new, skip, true))
}

fn object(name: &str, old: Option<&Block>, new: Option<&Block>, parts: Parts) -> Option<ObjectDiff> {
    let kind = kind(old.is_some(), new.is_some(), !parts.is_empty());
    if kind == NONE {
        return None;
    }
    Some(ObjectDiff { kind: kind.to_owned(), name: name.to_owned(), fields: parts.fields, objects: parts.objects })
}

/// A list of texts, as a set.
fn texts(key: &str, old: &Value, new: &Value) -> Option<ObjectDiff> {
    let side = |value: &Value| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().map(|item| text(Some(item))).collect()
    };
    let (before, after) = (side(old), side(new));
    if before == after {
        return None;
    }
    let mut parts = Parts::default();
    for item in before.union(&after) {
        let has = |side: &BTreeSet<String>| if side.contains(item) { item.clone() } else { String::new() };
        parts.field(key, has(&before), has(&after), true);
    }
    let kind = match (before.is_empty(), after.is_empty()) {
        (true, _) => ADDED,
        (_, true) => DELETED,
        _ => EDITED,
    };
    Some(ObjectDiff { kind: kind.to_owned(), name: key.to_owned(), fields: parts.fields, objects: Vec::new() })
}

/// A list of blocks: what is there unchanged is left out, then each is paired with the one that has its
/// names, by as many of them as possible.
fn blocks(key: &str, old: &Value, new: &Value) -> Vec<ObjectDiff> {
    let listed = LISTS.iter().find(|(of, ..)| *of == key);
    let (name, names) = listed.map_or((key, &[][..]), |(_, name, names)| (*name, *names));
    let side = |value: &Value| {
        value.as_array().into_iter().flatten().filter_map(Value::as_object).cloned().collect::<Vec<_>>()
    };
    let (mut before, mut after) = (side(old), side(new));
    before.retain(|block| match after.iter().position(|other| other == block) {
        Some(at) => {
            after.remove(at);
            false
        }
        None => true,
    });
    let mut out = Vec::new();
    for count in (1..=names.len()).rev() {
        let Some(names) = names.get(..count) else { continue };
        before.retain(|block_before| {
            let same = |other: &Block| names.iter().all(|name| other.get(*name) == block_before.get(*name));
            let Some(at) = after.iter().position(same) else { return true };
            out.extend(block(name, Some(block_before), Some(&after.remove(at))));
            false
        });
    }
    if let ([one], [other], true) = (&before[..], &after[..], ALONE.contains(&name)) {
        out.extend(block(name, Some(one), Some(other)));
        return out;
    }
    out.extend(before.iter().filter_map(|one| block(name, Some(one), None)));
    out.extend(after.iter().filter_map(|one| block(name, None, Some(one))));
    out
}
