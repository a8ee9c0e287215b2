//! The two forms of a job on the wire.
#![allow(clippy::unwrap_used)]

mod samples;

use model::parse_shape;
use samples::{differences, job, samples};

#[test]
fn a_parsed_job_keeps_its_parsed_form() {
    for (name, want) in samples() {
        assert_eq!(differences(&want, &parse_shape(&job(&want))), Vec::<String>::new(), "{name}");
    }
    let bare = &samples::golden()["parsed"]["bare"];
    assert_eq!(differences(bare, &parse_shape(&job(bare))), Vec::<String>::new());
}
