//! A hostile job file fails within a second and within 64 MB: each in a process of its own, whose peak
//! memory the kernel tells.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jobspec::{Inputs, STACK_BYTES, Source};

/// Says to this test's own binary which file to parse, and how long it is to be.
const CASE: &str = "STEPPE_HOSTILE_CASE";
const SIZE: &str = "STEPPE_HOSTILE_SIZE";
/// The whole process, with the file in it.
const PEAK_KIB_MAX: u64 = 64 * 1024;
/// An unoptimized parser takes some ten times as long.
const TIME_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

fn repeated(text: &str, bytes: usize) -> String {
    text.repeat(bytes / text.len())
}

fn numbered(bytes: usize, line: impl Fn(usize, &mut String)) -> String {
    let mut out = String::with_capacity(bytes + 100);
    let mut n = 0;
    while out.len() < bytes {
        line(n, &mut out);
        n += 1;
    }
    out
}

/// As much as a file may have.
const FULL: usize = jobspec::limits::SOURCE_BYTES - 200;

fn in_job(inner: &str) -> String {
    format!("job \"a\" {{\n{inner}\n}}\n")
}

/// What it is called, and its text, of about so many bytes.
type Case = (&'static str, fn(usize) -> String);

const CASES: &[Case] = &[
    ("seven megabytes of tiny blocks", |_| repeated("a{}\n", 7_000_000)),
    ("a full file of tiny blocks", |size| in_job(&repeated("a{}\n", size))),
    ("a full file of tiny groups", |size| in_job(&numbered(size, |n, out| _ = writeln!(out, "group \"{n}\"{{}}")))),
    ("a full file of nested blocks", |size| in_job(&repeated("a{\na{\na{\n}\n}\n}\n", size))),
    ("a full file of attributes", |size| in_job(&numbered(size, |n, out| _ = writeln!(out, "a{n}=1")))),
    ("a full file of list items", |size| format!("locals {{\na=[{}]\n}}\n{}", repeated("1,", size), in_job(""))),
    ("a full file of empty lists", |size| format!("locals {{\na=[{}]\n}}\n{}", repeated("[],", size), in_job(""))),
    ("a full file of empty strings", |size| format!("locals {{\na=[{}]\n}}\n{}", repeated("\"\",", size), in_job(""))),
    ("a full file of additions", |size| format!("locals {{\na=[{}]\n}}\n{}", repeated("1+1+1+1,", size), in_job(""))),
    ("a full file of calls", |size| format!("locals {{\na=[{}]\n}}\n{}", repeated("f(),", size), in_job(""))),
    ("a full file of templates", |size| format!("locals {{\na=\"{}\"\n}}\n{}", repeated("${a}", size), in_job(""))),
    ("a full file of small objects", |size| format!("locals {{\na=[{}]\n}}\n{}", repeated("{a=1},", size), in_job(""))),
    ("a full file of labels", |size| format!("job {} {{}}\n", repeated("\"a\"", size))),
    ("a full file of comments", |size| repeated("#\n", size)),
    ("a full file of locals", |size| numbered(size, |n, out| _ = writeln!(out, "locals {{\na{n}=1\n}}"))),
    ("a full file of variables", |size| numbered(size, |n, out| _ = writeln!(out, "variable \"a{n}\" {{}}"))),
    ("deep lists", |size| format!("locals {{\na={}", repeated("[", size))),
    ("deep blocks", |size| repeated("a{\n", size)),
    ("a full JSON file of small objects", |size| {
        format!("{{\"job\":{{\"a\":{{\"x\":[{}1]}}}}}}", repeated("{},", size))
    }),
    ("a full JSON file of groups", |size| {
        let groups = numbered(size, |n, out| _ = write!(out, "\"{n}\":{{}},"));
        format!("{{\"job\":{{\"a\":{{\"group\":{{{groups}\"x\":{{}}}}}}}}}}")
    }),
    ("a full JSON file of strings", |size| {
        format!("{{\"job\":{{\"a\":{{\"x\":[{}1]}}}}}}", repeated("\"${a}\",", size))
    }),
    ("range upon range", |_| {
        format!("locals {{\na=[for x in range(1024):[for y in range(1024):range(1024)]]\n}}\n{}", in_job(""))
    }),
    ("text that doubles", |_| {
        let mut text = String::from("locals {\nl0=\"0123456789\"\n");
        for n in 0..200 {
            let _ = writeln!(text, "l{}=\"${{local.l{n}}}${{local.l{n}}}\"", n + 1);
        }
        format!("{text}}}\n{}", in_job(""))
    }),
    ("blocks that multiply", |_| {
        in_job(
            "dynamic \"group\" {\nfor_each=range(1000)\nlabels=[\"g${group.value}\"]\ncontent {\ndynamic \"task\" {\nfor_each=range(1000)\nlabels=[\"t\"]\ncontent {\ndynamic \"service\" {\nfor_each=range(1000)\ncontent {}\n}\n}\n}\n}\n}",
        )
    }),
    ("a secret for every task", |_| {
        in_job(&format!(
            "secret \"s\" {{\nprovider=\"p\"\npath=\"p\"\nconfig {{\nx=\"{}\"\n}}\n}}\ndynamic \"task\" {{\nfor_each=range(1000)\nlabels=[\"t${{task.value}}\"]\ncontent {{}}\n}}",
            "x".repeat(500_000)
        ))
    }),
    ("a large text for every group", |_| {
        format!(
            "locals {{\nbig=join(\"\", [for i in range(1000):\"{}\"])\n}}\n{}",
            "x".repeat(1000),
            in_job(
                "dynamic \"group\" {\nfor_each=range(1000)\nlabels=[\"g${group.value}\"]\ncontent {\nmeta {\nx=local.big\n}\n}\n}"
            )
        )
    }),
];

/// Parses one file, when this process was started for that.
#[test]
fn child() {
    let Ok(name) = std::env::var(CASE) else { return };
    let size = std::env::var(SIZE).unwrap().parse().unwrap();
    let text = CASES.iter().find(|case| case.0 == name).unwrap().1(size);
    let work = move || {
        let start = Instant::now();
        let outcome = jobspec::parse(Source { name: "a.hcl", text: &text }, &Inputs::default());
        let words = outcome.map_or_else(|found| found.list[0].summary.clone(), |_| "ACCEPTED".to_owned());
        (start.elapsed(), words)
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES + (1 << 20)).spawn(work).unwrap();
    let (took, words) = thread.join().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    println!("\nresult {kib} {} {words}", took.as_millis());
}

/// Peak memory in KiB, time and the first words of a parse in a process of its own.
fn measure(name: &str, size: usize) -> (u64, Duration, String) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(CASE, name)
        .env(SIZE, size.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("result ")).unwrap_or_else(|| panic!("{name}: {text}"));
    let mut words = line.splitn(3, ' ');
    let kib = words.next().unwrap().parse().unwrap();
    let took = Duration::from_millis(words.next().unwrap().parse().unwrap());
    (kib, took, words.next().unwrap().to_owned())
}

/// As long as a file may be, and then shorter until it is read to its end: both ends of what is refused.
#[test]
fn a_hostile_file_fails_soon_and_in_little_memory() {
    let mut wrong = Vec::new();
    for (name, make) in CASES {
        let sized = make(1000).len() < 5000;
        let mut size = FULL;
        loop {
            let (kib, took, why) = measure(name, size);
            println!("{name}, {size} bytes: {} MB, {took:?}: {why}", kib / 1024);
            if kib > PEAK_KIB_MAX || took > TIME_MAX {
                wrong.push(format!("{name}, {size} bytes: {} MB, {took:?}: {why}", kib / 1024));
            }
            if !sized || why != "Job file too large" {
                break;
            }
            size = size * 7 / 10;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
