//! What each difference leads to, in the words that clients show.
//!
//! The counts of a group come from a scheduler's dry run; the words at fields and tasks are a guide to
//! which line caused them.

use super::compare::{ADDED, DELETED, EDITED, NONE};
use super::{FieldDiff, JobDiff, TaskDiff, TaskGroupDiff};
use crate::metric::{DesiredUpdates, PlanAnnotations};

const CREATE: &str = "forces create";
const DESTROY: &str = "forces destroy";
const IN_PLACE: &str = "forces in-place update";
const REPLACE: &str = "forces create/destroy update";
/// Objects of a task that a running one takes on.
const TAKEN_ON: [&str; 4] = ["Service", "Constraint", "Affinity", "Spread"];

/// Writes into a difference what it leads to.
pub fn annotate(diff: &mut JobDiff, plan: Option<&PlanAnnotations>) {
    for group in &mut diff.task_groups {
        if let Some(updates) = plan.and_then(|plan| plan.desired_tg_updates.get(&group.name)) {
            counts(group, updates);
        }
        let kind = group.kind.clone();
        if kind == NONE {
            continue;
        }
        group.fields.iter_mut().filter(|field| field.name == "Count").for_each(count);
        for one in &mut group.tasks {
            task(one, &kind);
        }
    }
}

fn counts(group: &mut TaskGroupDiff, updates: &DesiredUpdates) {
    let all = [
        ("ignore", updates.ignore),
        ("create", updates.place),
        ("destroy", updates.stop),
        ("migrate", updates.migrate),
        ("canary", updates.canary),
        ("in-place update", updates.in_place_update),
        ("create/destroy update", updates.destructive_update),
    ];
    let moved = all.into_iter().filter(|(_, count)| *count > 0);
    group.updates = moved.map(|(what, count)| (what.to_owned(), count)).collect();
}

fn count(field: &mut FieldDiff) {
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    match number(&field.old).cmp(&number(&field.new)) {
        std::cmp::Ordering::Less => field.annotations = vec![CREATE.to_owned()],
        std::cmp::Ordering::Greater => field.annotations = vec![DESTROY.to_owned()],
        std::cmp::Ordering::Equal => {}
    }
}

fn task(task: &mut TaskDiff, group: &str) {
    let word = match (task.kind.as_str(), group) {
        (NONE, _) => return,
        (_, ADDED) => CREATE,
        (_, DELETED) => DESTROY,
        (EDITED, _) if is_taken_on(task) => IN_PLACE,
        _ => REPLACE,
    };
    task.annotations = vec![word.to_owned()];
}

fn is_taken_on(task: &TaskDiff) -> bool {
    let fields = task.fields.iter().filter(|field| field.kind != NONE).all(|field| field.name == "KillTimeout");
    let objects = task.objects.iter().filter(|object| object.kind != NONE).all(|object| {
        let log = object.name == "LogConfig"
            && !object.fields.iter().any(|field| field.name == "Disabled" && field.kind != NONE);
        log || TAKEN_ON.contains(&object.name.as_str())
    });
    fields && objects
}
