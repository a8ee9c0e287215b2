//! What changed between two versions of a job, as lines with signs: `+` added, `-` deleted, `+/-` edited.

use model::diff::{FieldDiff, JobDiff, ObjectDiff, TaskDiff, TaskGroupDiff};

use crate::format::printable;
use crate::ui::{Tone, Ui};

/// A difference as text. Without `verbose`, fields that an added or deleted part has by default are there
/// too: they are what the part consists of.
pub fn render(ui: &Ui, job: &JobDiff, verbose: bool) -> String {
    let mut out = Lines { ui, lines: Vec::new(), verbose };
    out.line(&job.kind, 0, &format!("Job: {:?}", job.id), "");
    if job.kind == "Edited" || verbose {
        out.fields(&job.fields, 0);
        out.objects(&job.objects, 0);
    }
    for group in &job.task_groups {
        out.group(group);
    }
    out.lines.join("\n")
}

struct Lines<'a> {
    ui: &'a Ui,
    lines: Vec<String>,
    verbose: bool,
}

impl Lines<'_> {
    fn line(&mut self, kind: &str, indent: usize, text: &str, remark: &str) {
        let (sign, tone) = match kind {
            "Added" => ("+   ", Some(Tone::Good)),
            "Deleted" => ("-   ", Some(Tone::Bad)),
            "Edited" => ("+/- ", Some(Tone::Warn)),
            _ => ("    ", None),
        };
        let sign = tone.map_or_else(|| sign.to_owned(), |tone| self.ui.tone(tone, sign));
        let remark = if remark.is_empty() { String::new() } else { format!(" ({remark})") };
        self.lines.push(format!("{:indent$}{sign}{}{remark}", "", printable(text)).trim_end().to_owned());
    }

    fn group(&mut self, group: &TaskGroupDiff) {
        let updates: Vec<String> = group.updates.iter().map(|(what, count)| format!("{count} {what}")).collect();
        self.line(&group.kind, 0, &format!("Task Group: {:?}", group.name), &updates.join(", "));
        if group.kind == "Edited" || self.verbose {
            self.fields(&group.fields, 2);
            self.objects(&group.objects, 2);
        }
        for task in &group.tasks {
            if task.kind != "None" || self.verbose {
                self.task(task);
            }
        }
    }

    fn task(&mut self, task: &TaskDiff) {
        self.line(&task.kind, 2, &format!("Task: {:?}", task.name), &task.annotations.join(", "));
        if task.kind == "Edited" || self.verbose {
            self.fields(&task.fields, 4);
            self.objects(&task.objects, 4);
        }
    }

    fn fields(&mut self, fields: &[FieldDiff], indent: usize) {
        let width = fields.iter().map(|f| f.name.chars().count() + 1).max().unwrap_or(0);
        for field in fields {
            let text = match field.kind.as_str() {
                "Added" => format!("{:?}", field.new),
                "Deleted" => format!("{:?}", field.old),
                "Edited" => format!("{:?} => {:?}", field.old, field.new),
                _ => format!("{:?}", field.new),
            };
            let name = format!("{}:", field.name);
            self.line(&field.kind, indent, &format!("{name:width$} {text}"), &field.annotations.join(", "));
        }
    }

    fn objects(&mut self, objects: &[ObjectDiff], indent: usize) {
        for object in objects {
            self.line(&object.kind, indent, &format!("{} {{", object.name), "");
            self.fields(&object.fields, indent + 2);
            self.objects(&object.objects, indent + 2);
            self.line("None", indent, "}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn signs_say_what_happens_to_each_line() {
        let job: JobDiff = serde_json::from_value(json!({
            "Type": "Edited", "ID": "web",
            "TaskGroups": [{
                "Type": "Edited", "Name": "g", "Updates": {"create": 1, "in-place update": 2},
                "Fields": [{"Type": "Edited", "Name": "Count", "Old": "2", "New": "3", "Annotations": ["forces create"]}],
                "Tasks": [{"Type": "Edited", "Name": "t", "Annotations": ["forces in-place update"], "Objects": [
                    {"Type": "Added", "Name": "Config", "Fields": [{"Type": "Added", "Name": "command", "New": "a"}]}
                ]}, {"Type": "None", "Name": "same"}]
            }]
        }))
        .unwrap();
        let ui = Ui::fixed(Box::new(std::io::sink()), Box::new(std::io::sink()), || 0);
        assert_eq!(
            render(&ui, &job, false),
            "+/- Job: \"web\"\n\
             +/- Task Group: \"g\" (1 create, 2 in-place update)\n  \
             +/- Count: \"2\" => \"3\" (forces create)\n  \
             +/- Task: \"t\" (forces in-place update)\n    \
             +   Config {\n      \
             +   command: \"a\"\n        \
             }"
        );
    }
}
