//! How long a large job file takes, run by hand: `cargo run --release -p jobspec --example speed`.
//! docs/benchmarks.md has its figures.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jobspec::{Inputs, Source};
use model::Job;
use model::diff::diff_jobs;

/// A group as people write them: network, service with a check, policies, a task with all that is usual.
fn file(groups: usize) -> String {
    let mut out =
        String::from("variable \"tag\" {\n  default = \"1.0\"\n}\njob \"large\" {\n  datacenters = [\"*\"]\n");
    for n in 0..groups {
        let _ = write!(
            out,
            "  group \"g{n}\" {{\n    count = {}\n    network {{\n      port \"http\" {{\n        to = 8080\n      }}\n    }}\n    \
             service {{\n      name = \"s{n}\"\n      port = \"http\"\n      provider = \"nomad\"\n      check {{\n        type = \"http\"\n        path = \"/health\"\n        interval = \"10s\"\n        timeout = \"2s\"\n      }}\n    }}\n    \
             restart {{\n      attempts = 2\n      interval = \"30m\"\n      delay = \"15s\"\n      mode = \"fail\"\n    }}\n    \
             update {{\n      max_parallel = 2\n      canary = 1\n    }}\n    task \"t\" {{\n      driver = \"docker\"\n      config {{\n        image = \"registry/app:${{var.tag}}\"\n        ports = [\"http\"]\n        args = [\"-p\", \"${{NOMAD_PORT_http}}\"]\n      }}\n      env {{\n        A = \"x\"\n        B = \"${{attr.kernel.name}}\"\n      }}\n      resources {{\n        cpu = 500\n        memory = 256\n      }}\n      template {{\n        data = <<EOT\nkey = {{{{ env \"A\" }}}}\nEOT\n        destination = \"local/a.conf\"\n      }}\n    }}\n  }}\n",
            1 + n % 3
        );
    }
    out + "}\n"
}

/// The median of some runs.
fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..21).map(|_| run()).collect();
    all.sort();
    all[10]
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn parse(text: &str) -> Job {
    match jobspec::parse(Source { name: "large.hcl", text }, &Inputs::default()) {
        Ok(parsed) => parsed.job,
        Err(problems) => panic!("{}", problems.reference_text()),
    }
}

fn main() {
    for groups in [1, 100, 500] {
        let text = file(groups);
        let whole = median(|| {
            timed(|| {
                let mut job = parse(&text);
                job.canonicalize();
                assert!(model::validate(&job).is_empty());
            })
        });
        let only = median(|| timed(|| drop(parse(&text))));
        println!(
            "parse, canonicalize, validate {groups} groups ({} lines): {whole:?}, of that parse {only:?}",
            text.lines().count()
        );
    }
    let mut old = parse(&file(500));
    let more = parse(&file(500));
    old.task_groups.extend(more.task_groups.into_iter().enumerate().map(|(n, mut group)| {
        group.name = Some(format!("h{n}"));
        group
    }));
    old.canonicalize();
    let mut new = old.clone();
    for group in new.task_groups.iter_mut().step_by(10) {
        group.count = group.count.map(|count| count + 1);
        group.tasks[0].env.insert("A".into(), "y".into());
    }
    let groups = old.task_groups.len();
    let changed = median(|| timed(|| drop(diff_jobs(Some(&old), &new))));
    println!("diff of {groups} groups, every tenth changed: {changed:?}");
    let all = {
        let mut other = old.clone();
        other.task_groups.iter_mut().for_each(|group| group.count = group.count.map(|count| count + 1));
        other
    };
    println!("diff of {groups} groups, each changed: {:?}", median(|| timed(|| drop(diff_jobs(Some(&old), &all)))));
    let same = old.clone();
    println!(
        "spec_changed of {groups} groups, unchanged: {:?}",
        median(|| timed(|| assert!(!old.spec_changed(&same))))
    );
}
