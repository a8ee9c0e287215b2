//! What was done to the counts of a job's groups, and why; what may be done to them.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::group::ScalingPolicy;
use crate::hash::{fnv1a, fnv1a_from};
use crate::ids::{EvalId, Index, JobId, NamespaceName};
use crate::job::Job;
use crate::nil;

/// Events kept per group.
pub const EVENTS_MAX: usize = 20;

/// `ScalingEvent` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ScalingEvent {
    /// Unix nanoseconds.
    pub time: i64,
    /// `None`: only something to note.
    pub count: Option<i64>,
    pub previous_count: i64,
    pub message: String,
    pub error: bool,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub meta: BTreeMap<String, Value>,
    #[serde(rename = "EvalID")]
    pub eval_id: Option<EvalId>,
    pub create_index: Index,
}

/// The row of a job's scaling events, newest first. Never on the public wire as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct JobScaling {
    pub namespace: NamespaceName,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub groups: BTreeMap<String, Vec<ScalingEvent>>,
    pub modify_index: Index,
}

impl JobScaling {
    /// Adds an event, and forgets the oldest of its group beyond [`EVENTS_MAX`].
    pub fn add(&mut self, group: &str, event: ScalingEvent) {
        let events = self.groups.entry(group.to_owned()).or_default();
        events.insert(0, event);
        events.truncate(EVENTS_MAX);
    }
}

/// The id of a group's scaling policy: the same as long as the job lives, whatever its versions.
pub fn policy_id(namespace: &NamespaceName, job: &JobId, incarnation: Index, group: &str, kind: &str) -> String {
    let mut text = Vec::new();
    for part in [namespace.as_str(), job.as_str(), &incarnation.get().to_string(), group, kind] {
        text.extend_from_slice(part.as_bytes());
        text.push(0);
    }
    let high = fnv1a(&text);
    let low = fnv1a_from(high, &text);
    // A version 8 UUID: made by a rule of our own.
    let high = (high & !0xf000) | 0x8000;
    let low = (low & (u64::MAX >> 2)) | (1 << 63);
    let (high, low) = (format!("{high:016x}"), format!("{low:016x}"));
    format!("{}-{}-{}-{}-{}", &high[..8], &high[8..12], &high[12..], &low[..4], &low[4..])
}

impl Job {
    /// Names the scaling policies of a new version and says what they are about. A policy that asks for the
    /// same as in `old` keeps its indexes; one that does not, or whose job stops or starts, changed at `index`.
    pub fn name_scaling_policies(&mut self, old: Option<&Job>, index: Index) {
        let (namespace, id) = self.key();
        let (incarnation, stopped) = (self.incarnation(), self.is_stopped());
        for group in &mut self.task_groups {
            let name = group.name().to_owned();
            let Some(policy) = &mut group.scaling else { continue };
            let target = [("Namespace", namespace.as_str()), ("Job", id.as_str()), ("Group", &name)];
            policy.target = target.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            policy.id = policy_id(&namespace, &id, incarnation, &name, &policy.kind);
            let before = old.and_then(|old| old.lookup_group(&name)?.scaling.as_ref());
            let before = before.filter(|before| before.id == policy.id);
            policy.create_index = before.map_or(index, |before| before.create_index);
            policy.modify_index = index;
            let started = old.is_some_and(|old| old.is_stopped() != stopped);
            if let Some(before) = before
                && !started
                && (ScalingPolicy { modify_index: before.modify_index, ..policy.clone() }) == *before
            {
                policy.modify_index = before.modify_index;
            }
        }
    }
}

/// `ScalingPolicyListStub` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ScalingPolicyListStub {
    #[serde(rename = "ID")]
    pub id: String,
    pub enabled: bool,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub target: BTreeMap<String, String>,
    pub create_index: Index,
    pub modify_index: Index,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::TaskGroup;

    fn job(max: i64) -> Job {
        let scaling = Some(ScalingPolicy { max: Some(max), kind: "horizontal".into(), ..ScalingPolicy::default() });
        let group = TaskGroup { name: Some("g".into()), scaling, ..TaskGroup::default() };
        Job {
            id: Some("j".into()),
            create_index: Some(Index(5)),
            task_groups: vec![group, TaskGroup { name: Some("plain".into()), ..TaskGroup::default() }],
            ..Job::default()
        }
    }

    fn named(mut job: Job, old: Option<&Job>, index: u64) -> (Job, ScalingPolicy) {
        job.name_scaling_policies(old, Index(index));
        let policy = job.task_groups[0].scaling.clone().unwrap();
        (job, policy)
    }

    /// store-065, store-067
    #[test]
    fn a_policy_keeps_its_id_and_its_index_until_it_changes() {
        let (first, policy) = named(job(5), None, 5);
        assert_eq!((policy.create_index, policy.modify_index), (Index(5), Index(5)));
        assert_eq!(policy.target["Group"], "g");
        assert_eq!(policy.id.len(), 36, "{}", policy.id);
        assert_eq!(&policy.id[14..15], "8");
        let (same, again) = named(job(5), Some(&first), 9);
        assert_eq!(again, policy);
        let (_, changed) = named(job(6), Some(&same), 11);
        assert_eq!(changed.id, policy.id);
        assert_eq!((changed.create_index, changed.modify_index), (Index(5), Index(11)));
        let (_, stopped) = named(Job { stop: Some(true), ..job(5) }, Some(&same), 12);
        assert_eq!((stopped.id, stopped.modify_index), (policy.id, Index(12)));
    }

    #[test]
    fn other_jobs_groups_and_lives_have_other_policies() {
        let id = |namespace: &str, job: &str, life, group: &str| {
            policy_id(&namespace.into(), &job.into(), Index(life), group, "horizontal")
        };
        let ids = [id("a", "b", 1, "c"), id("a", "bc", 1, ""), id("a", "b", 2, "c"), id("ab", "", 1, "c")];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
