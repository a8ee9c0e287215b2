//! Faults that are found after parsing are shown where they stand in the text, like those of the parser.
#![allow(clippy::unwrap_used)]

use jobspec::{Inputs, Severity, Source};

/// Each finding of the validated job as `line:column path: detail (hint)`.
fn found(text: &str) -> Vec<String> {
    let parsed = jobspec::parse(Source { name: "a.hcl", text }, &Inputs::default()).unwrap();
    let mut job = parsed.job;
    job.canonicalize();
    let list = parsed.places.diagnostics(Severity::Error, &model::validate(&job));
    list.iter()
        .map(|one| {
            let detail = if one.detail.is_empty() { &one.summary } else { &one.detail };
            let hint = one.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
            format!("{}:{} {}: {detail}{hint}", one.line, one.column, one.path)
        })
        .collect()
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/samples/invalid/{name}.nomad.hcl", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
}

#[test]
fn what_registration_refuses_is_shown_where_it_stands() {
    for (name, wanted) in [
        ("13-system-count", "group.g.count: Job task group g has count 2"),
        ("14-batch-with-update", "group.g.update: Job type \"batch\" does not allow update block"),
        ("15-periodic-service", "periodic: Periodic can only be used"),
        ("16-cpu-and-cores", "group.g.task.t.resources.cores: Task can only ask"),
        ("17-duplicate-static-port", "group.g.network[0].port.two.static: Static port 8080"),
        ("18-bad-constraint-target", "constraint[0].attribute: unsupported attribute"),
        ("19-only-lifecycle-tasks", "group.g: Task group g must have"),
        (
            "20-unknown-volume-mount",
            "group.g.task.t.volume_mount[0].volume: Volume Mount (0) references undefined volume data",
        ),
    ] {
        let text = sample(name);
        let found = found(&text);
        let one = found.iter().find(|one| one.split_once(' ').unwrap().1.starts_with(wanted));
        let (place, _) = one.unwrap_or_else(|| panic!("{name}: {found:?}")).split_once(' ').unwrap();
        // the line is that of the attribute, or the head of the block
        let line = text.lines().nth(place.split_once(':').unwrap().0.parse::<usize>().unwrap() - 1).unwrap();
        let last = wanted.split(':').next().unwrap().rsplit('.').next().unwrap();
        let word = last.split('[').next().unwrap();
        let word = if word == "g" { "group" } else { word };
        assert!(line.contains(word), "{name}: {word:?} is not in {line:?}");
    }
}

#[test]
fn all_faults_of_meaning_come_at_once_each_with_what_was_expected() {
    let text = r#"
job "a" {
  update {
    max_parallel = 2
    health_check = "chekcs"
  }
  group "web" {
    count = -1
    restart {
      mode = "dealy"
    }
    volume "data" {
      type   = "hots"
      source = "x"
    }
    task "api" {
      driver = "raw_exec"
      config {
        command = "x"
        agrs    = []
      }
      lifecycle {
        hook = "prestrt"
      }
      resources {
        cpu = 0
      }
      volume_mount {
        volume      = "dat"
        destination = "/x"
      }
      template {
        destination = "../../../x"
        data        = "y"
        change_mode = "restrt"
      }
    }
    task "main" {
      driver = "raw_exec"
      config { command = "x" }
    }
    task "main" {
      driver = "raw_exec"
      config { command = "x" }
    }
  }
}
"#;
    let wanted = [
        "8:5 group.web.count: Task group count can't be negative",
        "10:7 group.web.restart.mode: Unsupported restart mode: \"dealy\" (did you mean \"delay\"?)",
        "5:5 group.web.update.health_check: Invalid health check given: \"chekcs\" (did you mean \"checks\"?)",
        "13:7 group.web.volume.data.type: volume has unrecognized type hots (did you mean \"host\"?)",
        "42:5 group.web.task.main[1]: Task 3 redefines \"main\" from task 2",
        "20:9 group.web.task.api.config.agrs: raw_exec config: unknown key \"agrs\", did you mean \"args\"?",
        "26:9 group.web.task.api.resources.cpu: minimum CPU value is 1; got 0",
        "33:9 group.web.task.api.template[0].destination: destination escapes allocation directory",
        "35:9 group.web.task.api.template[0].change_mode: Invalid change mode given: \"restrt\"",
        "23:9 group.web.task.api.lifecycle.hook: invalid hook: prestrt (did you mean \"prestart\"?)",
        "29:9 group.web.task.api.volume_mount[0].volume: Volume Mount (0) references undefined volume dat",
    ];
    let found = found(text);
    for want in wanted {
        assert!(found.iter().any(|one| one.starts_with(want)), "{want}\nnot in\n{}", found.join("\n"));
    }
}

#[test]
fn a_missing_argument_is_shown_at_the_block_that_lacks_it() {
    let text = "job \"a\" {\n  group \"g\" {\n    task \"t\" {\n      template {\n        data = \"x\"\n      }\n    }\n  }\n}\n";
    let found = found(text);
    assert!(found.iter().any(|one| one.starts_with("3:5 group.g.task.t.driver: Missing task driver")), "{found:?}");
    assert!(
        found.iter().any(|one| one.starts_with("4:7 group.g.task.t.template[0].destination: Must specify")),
        "{found:?}"
    );
}

#[test]
fn what_a_dynamic_block_made_is_shown_at_its_content() {
    let text = r#"
job "a" {
  dynamic "group" {
    for_each = ["x", "y"]
    labels   = [group.value]
    content {
      count = -2
      task "t" {
        driver = "raw_exec"
        config { command = "x" }
      }
    }
  }
}
"#;
    let found = found(text);
    assert!(found.iter().any(|one| one.starts_with("7:7 group.y.count: ")), "{found:?}");
}

#[test]
fn json_syntax_and_loose_tasks_have_places_too() {
    let text = "{\"job\": {\"a\": {\n  \"task\": {\"t\": {\n    \"driver\": \"raw_exec\",\n    \"config\": {\"command\": \"x\"},\n    \"kill_timeout\": \"-1s\"\n  }}\n}}}";
    let found = found(text);
    assert!(found.iter().any(|one| one.starts_with("5:5 group.t.task.t.kill_timeout: KillTimeout")), "{found:?}");
}

#[test]
fn names_that_are_no_plain_words_are_found() {
    let text =
        "job \"a\" {\n  group \"a.b\\\"c\" {\n    count = -1\n    task \"t 1\" {\n      driver = \"\"\n    }\n  }\n}\n";
    let found = found(text);
    assert!(found.iter().any(|one| one.starts_with("3:5 group[\"a.b\\\"c\"].count: ")), "{found:?}");
    assert!(found.iter().any(|one| one.starts_with("5:7 group[\"a.b\\\"c\"].task[\"t 1\"].driver: ")), "{found:?}");
}

#[test]
fn the_terminal_form_shows_line_and_caret_of_a_fault_of_meaning() {
    let text = "job \"a\" {\n  priority = 500\n  group \"g\" {\n    task \"t\" {\n      driver = \"raw_exec\"\n      config { command = \"x\" }\n    }\n  }\n}\n";
    let parsed = jobspec::parse(Source { name: "a.hcl", text }, &Inputs::default()).unwrap();
    let mut job = parsed.job;
    job.canonicalize();
    let list = parsed.places.diagnostics(Severity::Error, &model::validate(&job));
    assert_eq!(
        list[0].render(false),
        "error: job priority must be between [1, 100]\n --> a.hcl:2:3\n  |\n2 |   priority = 500\n  |   ^^^^^^^^^^^^^^\n"
    );
}
