//! The body of the fuzz target as a plain loop, where there is no nightly and no cargo-fuzz: samples of the
//! reference, changed at random. `cargo run --release -p jobspec --example fuzz -- SECONDS [SEED]`. Each input has
//! its own seed, which is printed when it fails, with the input.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../../fuzz/body.rs"]
mod body;

/// Words that mean something, so that chance finds the language sooner.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "${",
    "%{",
    "}",
    "~}",
    "=",
    "==",
    "\n",
    "\r\n",
    ",",
    ":",
    "?",
    ".",
    "*",
    "...",
    "<<EOT\n",
    "<<-EOT\n",
    "EOT\n",
    "for",
    "in",
    "if",
    "else",
    "endif",
    "endfor",
    "null",
    "true",
    "-1",
    "1e308",
    "0x10",
    "dynamic",
    "content",
    "for_each",
    "labels",
    "group",
    "task",
    "job",
    "variable",
    "locals",
    "service",
    "connect",
    "sidecar_service",
    "template",
    "config",
    "meta",
    "env",
    "var.",
    "local.",
    "range(0, 1000)",
    "format(\"%9999s\", 1)",
    "\\u0000",
    "\u{feff}",
    "\u{1f469}\u{200d}\u{1f680}",
    "#",
    "//",
    "/*",
    "*/",
    "jsonencode(",
    "merge(",
    "count = -1",
];

struct Chance(u64);

impl Chance {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap()
    }
}

fn samples() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/samples");
    let mut out = Vec::new();
    for dir in [root.clone(), root.join("invalid")] {
        let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        out.extend(paths.iter().filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()));
    }
    out
}

/// A character boundary of the text.
fn cut(text: &str, chance: &mut Chance) -> usize {
    let mut at = chance.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn input(samples: &[String], chance: &mut Chance) -> String {
    let mut text = samples[chance.below(samples.len())].clone();
    for _ in 0..=chance.below(6) {
        let (a, b) = (cut(&text, chance), cut(&text, chance));
        let (from, to) = (a.min(b), a.max(b));
        match chance.below(8) {
            0 => text.insert_str(from, WORDS[chance.below(WORDS.len())]),
            1 => {
                let end = text[from..to].char_indices().nth(40).map_or(to, |(at, _)| from + at);
                text.replace_range(from..end, "");
            }
            2 => {
                let part = text[from..to].to_owned();
                text.insert_str(to, &part);
            }
            3 => {
                let other = &samples[chance.below(samples.len())];
                let (c, d) = (cut(other, chance), cut(other, chance));
                text.insert_str(from, &other[c.min(d)..c.max(d)]);
            }
            4 => {
                let lines: Vec<&str> = text.lines().collect();
                let line = lines[chance.below(lines.len())].to_owned();
                text.insert_str(from, &format!("\n{line}\n"));
            }
            5 => {
                // another number or word in the place of one
                let words: Vec<(usize, &str)> = text.match_indices(|c: char| c.is_ascii_digit()).collect();
                if !words.is_empty() {
                    let at = words[chance.below(words.len())].0;
                    text.replace_range(at..=at, ["-1", "0", "99999999999999999999", "x", "\"\""][chance.below(5)]);
                }
            }
            6 => {
                text =
                    text.replacen("= ", ["= -", "= \"\" # ", "= null\n", "= [", "{ "][chance.below(5)], chance.below(4))
            }
            _ => text.insert(from, char::from_u32(u32::try_from(chance.below(0x3000)).unwrap()).unwrap_or('x')),
        }
        if text.len() > 200_000 || text.is_empty() {
            break;
        }
    }
    if text.is_empty() { samples[0].clone() } else { text }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(60, |text| text.parse().expect("seconds"));
    let first: u64 = args.next().map_or(1, |text| text.parse().expect("a seed"));
    let (samples, start) = (samples(), Instant::now());
    let (mut done, mut slowest) = (0_u64, (Duration::ZERO, 0));
    while start.elapsed() < Duration::from_secs(seconds) {
        let seed = first.wrapping_add(done);
        let text = input(&samples, &mut Chance(seed));
        let copy = text.clone();
        let began = Instant::now();
        let worker = std::thread::Builder::new().stack_size(jobspec::STACK_BYTES).spawn(move || body::job_file(&text));
        if worker.unwrap().join().is_err() {
            println!("seed {seed} fails; the input:\n{copy}");
            std::process::exit(1);
        }
        slowest = slowest.max((began.elapsed(), seed));
        done += 1;
    }
    println!("{done} inputs in {seconds} s, the slowest {:?} (seed {})", slowest.0, slowest.1);
}
