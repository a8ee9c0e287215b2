//! What changed between two versions of a job, and what it leads to.
#![allow(clippy::unwrap_used)]

use model::Job;
use model::diff::{DiffError, FieldDiff, JobDiff, ObjectDiff, annotate, diff_jobs};
use model::metric::{DesiredUpdates, PlanAnnotations};
use serde_json::{Value, json};

fn wire() -> Value {
    json!({
        "ID": "web", "Name": "web", "Type": "service", "Datacenters": ["*"], "Meta": {"a": "1", "b": "2"},
        "Constraints": [{"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}],
        "TaskGroups": [{
            "Name": "g", "Count": 2, "EphemeralDisk": {"SizeMB": 20},
            "Networks": [{"ReservedPorts": [{"Label": "http", "Value": 80}], "DynamicPorts": [{"Label": "rpc"}]}],
            "Services": [{"Name": "api", "PortLabel": "http", "Tags": ["x"], "Provider": "nomad"}],
            "Tasks": [{"Name": "t", "Driver": "raw_exec", "Resources": {"CPU": 20, "MemoryMB": 20},
                "Config": {"command": "/bin/sh", "args": ["-c", "sleep 1"]}}]
        }]
    })
}

fn job(change: impl FnOnce(&mut Value)) -> Job {
    let mut value = wire();
    change(&mut value);
    let mut job: Job = serde_json::from_value(value).unwrap();
    job.region = Some("global".into());
    job.canonicalize();
    job
}

fn changed(change: impl FnOnce(&mut Value)) -> JobDiff {
    diff_jobs(Some(&job(|_| ())), &job(change)).unwrap()
}

fn lines(fields: &[FieldDiff]) -> Vec<String> {
    let moved = fields.iter().filter(|field| field.kind != "None");
    moved.map(|f| format!("{} {} {:?} {:?}", f.kind, f.name, f.old, f.new)).collect()
}

fn find<'a>(objects: &'a [ObjectDiff], name: &str) -> Vec<&'a ObjectDiff> {
    objects.iter().filter(|object| object.name == name).collect()
}

#[test]
fn job_061_the_same_job_has_no_differences_but_lists_its_groups_and_tasks() {
    let mut diff = changed(|_| ());
    let same = DesiredUpdates { ignore: 2, ..DesiredUpdates::default() };
    let plan = PlanAnnotations { desired_tg_updates: [("g".to_owned(), same)].into(), ..PlanAnnotations::default() };
    annotate(&mut diff, Some(&plan));
    let expected = json!({"Type": "None", "ID": "web", "Fields": null, "Objects": null, "TaskGroups": [{
        "Type": "None", "Name": "g", "Fields": null, "Objects": null, "Updates": {"ignore": 2},
        "Tasks": [{"Type": "None", "Name": "t", "Fields": null, "Objects": null, "Annotations": null}]}]});
    assert_eq!(serde_json::to_value(diff).unwrap(), expected);
}

#[test]
fn what_the_cluster_writes_is_no_difference() {
    let old = job(|_| ());
    let mut new = old.clone();
    new.version = Some(7);
    new.submit_time = Some(5);
    new.stable = Some(true);
    new.status = Some("running".into());
    assert_eq!(diff_jobs(Some(&old), &new).unwrap().kind, "None");
}

#[test]
fn a_new_job_is_added_with_all_it_has() {
    let diff = diff_jobs(None, &job(|_| ())).unwrap();
    assert_eq!(diff.kind, "Added");
    assert!(lines(&diff.fields).contains(&"Added Priority \"\" \"50\"".to_owned()), "{:?}", diff.fields);
    assert!(diff.fields.iter().all(|field| field.kind == "Added"), "{:?}", diff.fields);
    let group = &diff.task_groups[0];
    assert_eq!((group.kind.as_str(), lines(&group.fields)[0].as_str()), ("Added", "Added Count \"\" \"2\""));
    let task = &group.tasks[0];
    let names: Vec<&str> = task.objects.iter().map(|object| object.name.as_str()).collect();
    assert!(names.contains(&"Config") && names.contains(&"Resources"), "{names:?}");
    assert!(!names.contains(&"RestartPolicy"), "the group's policy is shown at the group: {names:?}");
    let config = find(&task.objects, "Config")[0];
    assert_eq!(
        lines(&config.fields),
        ["Added args[0] \"\" \"-c\"", "Added args[1] \"\" \"sleep 1\"", "Added command \"\" \"/bin/sh\""]
    );
}

#[test]
fn diff_001_002_a_count_that_moves_says_what_it_forces() {
    for (count, word) in [(3, "forces create"), (1, "forces destroy")] {
        let mut diff = changed(|job| job["TaskGroups"][0]["Count"] = json!(count));
        annotate(&mut diff, None);
        let group = &diff.task_groups[0];
        assert_eq!(group.fields.len(), 1, "no context beside a group's fields");
        assert_eq!(group.fields[0].annotations, [word]);
        assert_eq!((group.kind.as_str(), group.tasks[0].kind.as_str()), ("Edited", "None"));
    }
}

#[test]
fn annotate_001_diff_003_to_006_what_a_running_task_takes_on_is_in_place() {
    let task = |change: &dyn Fn(&mut Value)| {
        let mut diff = changed(|job| change(&mut job["TaskGroups"][0]["Tasks"][0]));
        annotate(&mut diff, None);
        diff.task_groups[0].tasks[0].annotations[0].clone()
    };
    let service = json!([{"Name": "s", "Provider": "nomad"}]);
    assert_eq!(task(&|t| t["KillTimeout"] = json!(9_000_000_000_i64)), "forces in-place update", "diff-003");
    assert_eq!(task(&|t| t["Services"] = service.clone()), "forces in-place update", "diff-004");
    assert_eq!(task(&|t| t["LogConfig"] = json!({"MaxFiles": 3})), "forces in-place update");
    assert_eq!(task(&|t| t["LogConfig"] = json!({"Disabled": true})), "forces create/destroy update", "diff-005");
    assert_eq!(task(&|t| t["Config"]["command"] = json!("x")), "forces create/destroy update", "diff-006");
    assert_eq!(task(&|t| t["User"] = json!("x")), "forces create/destroy update");
}

#[test]
fn an_edited_object_shows_its_other_fields_for_context() {
    let diff = changed(|job| job["TaskGroups"][0]["Tasks"][0]["Config"]["args"][1] = json!("sleep 2"));
    let config = &diff.task_groups[0].tasks[0].objects[0];
    let kinds: Vec<(&str, &str)> = config.fields.iter().map(|f| (f.kind.as_str(), f.name.as_str())).collect();
    assert_eq!(kinds, [("None", "args[0]"), ("Edited", "args[1]"), ("None", "command")]);
    assert_eq!(config.kind, "Edited");
}

#[test]
fn diff_007_008_tasks_and_groups_that_come_and_go_say_so() {
    let mut diff = changed(|job| {
        let task = job["TaskGroups"][0]["Tasks"][0].clone();
        job["TaskGroups"][0]["Tasks"].as_array_mut().unwrap().push(task);
        job["TaskGroups"][0]["Tasks"][1]["Name"] = json!("u");
        let mut group = job["TaskGroups"][0].clone();
        group["Name"] = json!("h");
        job["TaskGroups"].as_array_mut().unwrap().push(group);
    });
    annotate(&mut diff, None);
    let told: Vec<_> =
        diff.task_groups.iter().flat_map(|g| &g.tasks).map(|t| (&*t.name, t.annotations.clone())).collect();
    assert_eq!(told[0], ("t", vec![]));
    assert_eq!(told[1], ("u", vec!["forces create/destroy update".to_owned()]), "diff-007");
    assert_eq!(told[2], ("t", vec!["forces create".to_owned()]), "diff-008");
    let old = job(|_| ());
    let mut diff = diff_jobs(Some(&old), &Job { task_groups: Vec::new(), ..old.clone() }).unwrap();
    annotate(&mut diff, None);
    assert_eq!(diff.task_groups[0].tasks[0].annotations, ["forces destroy"]);
}

#[test]
fn diff_009_010_constraints_are_known_by_content_and_services_by_name() {
    let diff = changed(|job| job["Constraints"][0]["RTarget"] = json!("plan9"));
    let kinds: Vec<&str> = find(&diff.objects, "Constraint").iter().map(|object| object.kind.as_str()).collect();
    assert_eq!(kinds, ["Deleted", "Added"], "diff-009");
    let diff = changed(|job| job["TaskGroups"][0]["Services"][0]["Tags"] = json!(["y"]));
    let services = find(&diff.task_groups[0].objects, "Service");
    assert_eq!((services.len(), services[0].kind.as_str()), (1, "Edited"), "diff-010");
    assert_eq!(lines(&services[0].objects[0].fields), ["Deleted Tags \"x\" \"\"", "Added Tags \"\" \"y\""]);
}

#[test]
fn diff_011_nothing_and_no_delay_are_different() {
    let diff = changed(|job| job["TaskGroups"][0]["ShutdownDelay"] = json!(0));
    assert_eq!(lines(&diff.task_groups[0].fields), ["Added ShutdownDelay \"\" \"0\""]);
}

#[test]
fn diff_012_ports_are_known_by_their_labels() {
    let diff = changed(|job| job["TaskGroups"][0]["Networks"][0]["ReservedPorts"][0]["Value"] = json!(81));
    let network = find(&diff.task_groups[0].objects, "Network")[0];
    assert_eq!(network.kind, "Edited");
    let port = find(&network.objects, "Static Port");
    assert_eq!((port.len(), port[0].kind.as_str()), (1, "Edited"));
    assert_eq!(lines(&port[0].fields), ["Edited Value \"80\" \"81\""]);
    let diff = changed(|job| job["TaskGroups"][0]["Networks"][0]["DynamicPorts"][0]["Label"] = json!("other"));
    let network = find(&diff.task_groups[0].objects, "Network")[0];
    assert_eq!(find(&network.objects, "Dynamic Port").len(), 2, "a port of another name is another port");
}

#[test]
fn diff_013_different_jobs_are_not_compared() {
    let other = job(|job| job["ID"] = json!("other"));
    assert_eq!(diff_jobs(Some(&other), &job(|_| ())), Err(DiffError::OtherJob("other".into(), "web".into())));
}

#[test]
fn diff_014_entries_of_a_map_are_fields() {
    let diff = changed(|job| job["Meta"] = json!({"b": "3", "c": "4"}));
    assert_eq!(
        lines(&diff.fields),
        ["Deleted Meta[a] \"1\" \"\"", "Edited Meta[b] \"2\" \"3\"", "Added Meta[c] \"\" \"4\""]
    );
}
