// What is done with each input. `fuzz_targets/` give it libFuzzer's inputs, `crates/jobspec/examples/fuzz.rs` its
// own. Nothing may panic, hang or grow; what was understood once must be understood again.

use jobspec::{Inputs, Severity, Source};

/// Everything that becomes of a text that somebody calls a job file.
pub fn job_file(text: &str) {
    let source = Source { name: jobspec::API_FILE_NAME, text };
    match jobspec::parse(source, &Inputs::default()) {
        Ok(parsed) => understood(parsed),
        Err(found) => {
            assert!(!found.list.is_empty(), "refused without a reason");
            let _ = (found.reference_text(), found.render(true));
        }
    }
    if let Ok(formatted) = jobspec::format("input.hcl", text) {
        let again = jobspec::format("input.hcl", &formatted);
        assert_eq!(again.ok().as_deref(), Some(formatted.as_str()), "laid out twice is laid out once");
    }
    let _ = jobspec::compose(text, &[], "folder");
}

fn understood(parsed: jobspec::Parsed) {
    let mut job = parsed.job;
    let written = jobspec::write(&parsed.json);
    let source = Source { name: "written.hcl", text: &written.text };
    if let Err(found) = jobspec::parse(source, &Inputs::default()) {
        assert!(!written.notes.is_empty(), "written and not understood: {}\n{}", found.reference_text(), written.text);
    }
    job.canonicalize();
    let problems = model::validate(&job);
    for one in parsed.places.diagnostics(Severity::Error, &problems) {
        assert!(one.line > 0, "a fault of a job file has a place in it: {}", one.path);
        let _ = one.render(true);
    }
    let _ = (model::report(&problems), model::warnings(&job), model::unbuilt(&job));
    let before = job.clone();
    job.canonicalize();
    assert_eq!(job, before, "canonicalized twice is canonicalized once");
    assert_eq!(model::validate(&job), problems);
    let diff = model::diff::diff_jobs(Some(&before), &job).expect("the same job");
    assert_eq!(diff.kind, "None", "{diff:?}");
}
