//! Job files as their author handles them: laid out, turned into another form, read from the web.
use crate::fake::{Fake, run};
use serde_json::{Value, json};

const UNTIDY: &str = "job \"a\" {\ncount=1 # one\n  datacenters=[\"x\"]\r\n}\n";
const TIDY: &str = "job \"a\" {\n  count       = 1 # one\n  datacenters = [\"x\"]\n}\n";

fn text(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn fmt_writes_lists_and_checks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("deep")).unwrap();
    for name in ["a.nomad.hcl", "deep/b.nomad", "c.txt"] {
        std::fs::write(path(name), UNTIDY).unwrap();
    }
    let dir = folder.path().to_str().unwrap();
    let check = run(&["fmt", "-check", dir], &[]);
    assert_eq!((check.code, check.out.trim_end()), (1, path("a.nomad.hcl").to_str().unwrap()), "{check:?}");
    assert_eq!(text(&path("a.nomad.hcl")), UNTIDY, "a check writes nothing");
    assert_eq!(run(&["fmt", "-write=false", dir], &[]).code, 0);
    assert_eq!(text(&path("a.nomad.hcl")), UNTIDY);
    let quiet = run(&["fmt", "-recursive", "-list=false", dir], &[]);
    assert_eq!((quiet.code, quiet.out.as_str()), (0, ""));
    assert_eq!((text(&path("a.nomad.hcl")).as_str(), text(&path("deep/b.nomad")).as_str()), (TIDY, TIDY));
    assert_eq!(text(&path("c.txt")), UNTIDY, "only job files of a directory");
    assert_eq!(run(&["fmt", "-check", "-recursive", dir], &[]).code, 0);
    std::fs::write(path("bad.hcl"), "job {\n").unwrap();
    let bad = run(&["fmt", dir], &[]);
    assert!(
        bad.code == 1 && bad.err.contains("Unclosed configuration block") && bad.err.contains("bad.hcl:1"),
        "{bad:?}"
    );
}

#[test]
fn convert_goes_both_ways_and_says_what_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let hcl = "job \"a\" {\n  group \"g\" {\n    task \"t\" {\n      driver = \"docker\"\n\n      config {\n        image = \"x:${NOMAD_DC}\"\n      }\n    }\n  }\n}\n";
    std::fs::write(path("a.nomad.hcl"), hcl).unwrap();
    let made = run(&["job", "convert", "-out", &path("a.json"), &path("a.nomad.hcl")], &[]);
    assert_eq!((made.code, made.err.as_str()), (0, ""), "{made:?}");
    let job: Value = serde_json::from_str(&text(path("a.json").as_ref())).unwrap();
    assert_eq!(job["Job"]["TaskGroups"][0]["Tasks"][0]["Config"]["image"], "x:${NOMAD_DC}");
    let back = run(&["job", "convert", &path("a.json")], &[]);
    assert_eq!((back.code, back.out.as_str()), (0, hcl), "{back:?}");

    std::fs::write(
        path("docker-compose.yml"),
        "name: shop\nservices:\n  web:\n    image: w:${TAG}\n    ports: ['80']\n    networks: [n]\n",
    )
    .unwrap();
    let composed = run(&["job", "convert", &path("docker-compose.yml")], &[("TAG", "2")]);
    assert!(composed.out.starts_with("job \"shop\"") && composed.out.contains("\"w:2\""), "{composed:?}");
    assert_eq!(composed.err.trim_end(), "not carried over: service web: networks is not carried over");
    let wrong = run(&["job", "convert", "-to", "xml", &path("a.json")], &[]);
    assert!(wrong.code == 1 && wrong.err.contains("it may be hcl or json"), "{wrong:?}");
}

#[test]
fn a_job_file_is_read_from_the_web() {
    let fake = Fake::start().get("/jobs/a.hcl", json!({"job": {"far": {"group": {"g": {}}}}}));
    let url = format!("{}/jobs/a.hcl", fake.address);
    let made = run(&["job", "run", "-output", &url], &[("NOMAD_TOKEN", "secret")]);
    assert!(made.code == 0 && made.out.contains("\"ID\": \"far\""), "{made:?}");
    assert!(!format!("{:?}", fake.asked_for("GET", "/jobs/a.hcl")).contains("secret"), "no token goes to a web server");
    let missing = run(&["job", "validate", &format!("{}/nope", fake.address)], &[]);
    assert!(missing.code == 255 && missing.err.contains("Error reading job file from http://"), "{missing:?}");
}

/// Each example is a job file of the language, with and without its comments.
#[test]
fn every_example_of_init_is_a_job_file() {
    for (flags, id, groups) in [
        (&[][..], "example", 1),
        (&["-short"][..], "example", 1),
        (&["-connect"][..], "countdash", 2),
        (&["-short", "-connect"][..], "countdash", 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.nomad.hcl").display().to_string();
        let done = crate::fake::run(&[&["job", "init"], flags, &[path.as_str()]].concat(), &[]);
        assert_eq!((done.code, done.out), (0, format!("Example job file written to {path}\n")), "{}", done.err);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.contains("# "), !flags.contains(&"-short"), "{text}");
        let done = crate::fake::run(&["job", "run", "-output", &path], &[]);
        assert_eq!(done.code, 0, "{}", done.err);
        let job: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!((&job["Job"]["ID"], job["Job"]["TaskGroups"].as_array().unwrap().len()), (&id.into(), groups));
        // and its layout is the canonical one
        assert_eq!(crate::fake::run(&["fmt", "-check", &path], &[]).code, 0, "{text}");
        let mut job: model::Job = serde_json::from_value(job["Job"].clone()).unwrap();
        job.canonicalize();
        assert_eq!(model::report(&model::validate(&job)), "");
        // one that is there is not replaced
        assert_eq!(crate::fake::run(&["job", "init", &path], &[]).code, 1);
    }
}
