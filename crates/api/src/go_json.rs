//! Request bodies, read the way Go reads them.
//!
//! Clients of the compatible interface were written against a server in Go, whose JSON reader is lenient
//! in ways they rely on:
//! * field names match in any letter case; an exact match wins;
//! * `null` stands for the zero value of whatever is expected;
//! * fields nobody knows are skipped. Here they are told, each with its path and the likely meaning, so
//!   that a caller can be warned or (`?strict`) refused;
//! * only the first value of a body is read.
//!
//! ```text
//!   bytes ──text::parse──▶ Value (depth bounded, Go's words for what is broken)
//!                            └──decode──▶ T, and the unknown fields
//! ```
//!
//! Keys of free-form maps (metadata, environment, driver configuration) are data and stay as they are. A
//! type that uses `#[serde(flatten)]` reads as a free-form map too: give request types named fields.
//! Driven by the gateway, once for each request body. Fails with [`BodyError`], which is always the
//! caller's mistake: 400, with its `Display` as the body.

mod decode;
mod text;

use std::fmt;

use serde::de::DeserializeOwned;

/// How deep objects and lists may nest.
pub const DEPTH_MAX: usize = 64;
/// How many unknown fields are told of one body.
pub const UNKNOWN_MAX: usize = 100;

/// What was read, and what was skipped.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<T> {
    pub value: T,
    /// At most [`UNKNOWN_MAX`].
    pub unknown: Vec<UnknownField>,
}

/// A field that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// Like `Job.TaskGroups[0].Tsks`.
    pub path: String,
    /// The known field of the same object that it resembles.
    pub suggestion: Option<String>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown field {:?}", self.path)?;
        match &self.suggestion {
            Some(known) => write!(f, ", did you mean {known:?}?"),
            None => Ok(()),
        }
    }
}

/// Why a body cannot be read. The texts are those that Go gives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("Request body is empty")]
    Empty,
    #[error("EOF")]
    OnlySpace,
    #[error("unexpected EOF")]
    Cut,
    #[error("invalid character {found} {context}")]
    Syntax { found: String, context: &'static str },
    #[error("exceeded max depth of {DEPTH_MAX} at {path}")]
    TooDeep { path: String },
    #[error("json: {0}")]
    Type(String),
}

/// Reads the first JSON value of a body.
///
/// # Errors
/// [`BodyError`] when it is no JSON, nests too deep or does not fit `T`.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<Decoded<T>, BodyError> {
    decode::decode(text::parse(body)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Register {
        job: Option<model::Job>,
        enforce_index: bool,
        job_modify_index: u64,
        labels: BTreeMap<String, String>,
        free: BTreeMap<String, Value>,
        small: u8,
        note: String,
    }

    fn read(text: &str) -> Result<Decoded<Register>, BodyError> {
        from_slice(text.as_bytes())
    }

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn keys_match_in_any_letter_case_and_an_exact_one_wins() {
        let got = read(r#"{"JOB": {"id": "a", "taskgroups": [{"NAME": "g"}]}, "enforceindex": true}"#).unwrap();
        let job = got.value.job.unwrap();
        assert_eq!((job.id().as_str(), job.task_groups[0].name()), ("a", "g"));
        assert!(got.value.enforce_index && got.unknown.is_empty());
        assert_eq!(read(r#"{"NOTE": "x", "Note": "y", "note": "z"}"#).unwrap().value.note, "y");
        let ui = r#"{"Job": {"UI": {"Links": [{"url": "u", "URL": "v", "Url": "v"}]}}}"#;
        assert_eq!(read(ui).unwrap().value.job.unwrap().ui.unwrap().links[0].url, "v");
    }

    #[test]
    fn keys_of_free_form_maps_stay_as_they_are() {
        let got = read(r#"{"Labels": {"job": "x", "Job": "y"}, "Free": {"a": {"B": 1.5, "b": null}}}"#).unwrap();
        assert_eq!(got.value.labels.len(), 2);
        assert_eq!(got.value.free["a"], serde_json::json!({"B": 1.5, "b": null}));
        assert!(got.unknown.is_empty());
    }

    #[test]
    fn null_is_the_zero_value() {
        let text = r#"{"Job": null, "EnforceIndex": null, "JobModifyIndex": null, "Labels": null, "Note": null,
                       "Free": null, "Small": null}"#;
        assert_eq!(read(text).unwrap().value, Register::default());
        assert_eq!(read("null").unwrap().value, Register::default());
        let task =
            r#"{"Job": {"TaskGroups": [{"Tasks": [{"Name": null, "ShutdownDelay": null, "Env": {"A": null}}]}]}}"#;
        let job = read(task).unwrap().value.job.unwrap();
        assert_eq!(job.task_groups[0].tasks[0].env["A"], "");
    }

    #[test]
    fn an_unknown_field_is_told_with_its_path_and_a_suggestion() {
        let got = read(r#"{"Job": {"TaskGroups": [{"Tsks": [], "Zebra": 1}]}, "Jbo": {}}"#).unwrap();
        let mut told: Vec<String> = got.unknown.iter().map(ToString::to_string).collect();
        told.sort();
        assert_eq!(
            told,
            [
                r#"unknown field "Jbo", did you mean "Job"?"#,
                r#"unknown field "Job.TaskGroups[0].Tsks", did you mean "Tasks"?"#,
                r#"unknown field "Job.TaskGroups[0].Zebra""#,
            ]
        );
        let many: String = (0..500).map(|i| format!(r#""x{i}": 1,"#)).collect();
        assert_eq!(read(&format!("{{{many} \"Note\": \"n\"}}")).unwrap().unknown.len(), UNKNOWN_MAX);
    }

    #[test]
    fn only_the_first_value_is_read() {
        assert_eq!(read(r#"{"Note": "a"} {"Note": "b"} trailing"#).unwrap().value.note, "a");
    }

    /// The first is recorded ("register broken json").
    #[test]
    fn what_is_broken_is_said_in_go_s_words() {
        for (text, want) in [
            (r#"{"Job": {"#, "unexpected EOF"),
            (r#"{"Note": "abc"#, "unexpected EOF"),
            ("", "Request body is empty"),
            (" \n", "EOF"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a": 1 "b"}"#, "invalid character '\"' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{\"Note\": \"a\nb\"}", "invalid character '\\n' in string literal"),
            (r#""\q""#, "invalid character 'q' in string escape code"),
            (r#""\u12x4""#, "invalid character 'x' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e'", "invalid character '\\'' in exponent of numeric literal"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            (r#"{"Note": 5}"#, "json: cannot unmarshal number into Go struct field Register.Note of type string"),
            (
                r#"{"Job": {"Priority": "high"}}"#,
                "json: cannot unmarshal string into Go struct field Job.Job.Priority of type int",
            ),
            (
                r#"{"Job": {"Priority": 1.5}}"#,
                "json: cannot unmarshal number 1.5 into Go struct field Job.Job.Priority of type int",
            ),
            (
                r#"{"Small": 300}"#,
                "json: cannot unmarshal number 300 into Go struct field Register.Small of type uint8",
            ),
            (
                r#"{"JobModifyIndex": -1}"#,
                "json: cannot unmarshal number -1 into Go struct field Register.JobModifyIndex of type uint64",
            ),
            (r#"{"Job": []}"#, "json: cannot unmarshal array into Go struct field Register.Job of type Job"),
            ("[]", "json: cannot unmarshal array into Go value of type Register"),
        ] {
            assert_eq!(refusal(text), want, "{text}");
        }
        assert!(refusal(r#"{"Job": {"Priority": 1e3}}"#).contains("of type int"));
        assert!(refusal(r#"{"Job": {"Payload": "%"}}"#).starts_with("json: "));
    }

    #[test]
    fn a_body_that_nests_too_deep_is_refused_with_the_place() {
        let deep = |n: usize| format!(r#"{{"Free": {{"k": {}{}}}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(read(&deep(DEPTH_MAX - 2)).is_ok());
        let text = refusal(&deep(DEPTH_MAX - 1));
        assert!(text.starts_with("exceeded max depth of 64 at Free.k[0][0]"), "{text}");
        assert!(refusal(&"[".repeat(1_000_000)).starts_with("exceeded max depth"));
    }

    #[test]
    fn text_is_read_as_go_reads_it() {
        let got = read(r#"{"Note": "\u00e9\ud83d\ude00\ud800 \/\t"}"#).unwrap().value.note;
        assert_eq!(got, "\u{e9}\u{1f600}\u{fffd} /\t");
        let got: Decoded<String> = from_slice(b"\"a\xffb\"").unwrap();
        assert_eq!(got.value, "a\u{fffd}b");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            let key = prop_oneof!["(?i)job|id|taskgroups|tasks|name|config|env|update|resources|constraints", ".{0,6}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_json_says_is_what_is_read(value in any_json()) {
            let text = serde_json::to_vec(&value).unwrap();
            let got: Decoded<Value> = from_slice(&text).unwrap();
            prop_assert_eq!(got.value, value);
        }

        #[test]
        fn no_value_makes_a_job_panic(value in any_json()) {
            let text = serde_json::to_vec(&value).unwrap();
            if let Ok(Decoded { value: mut job, .. }) = from_slice::<model::Job>(&text) {
                job.canonicalize();
                let mut again = job.clone();
                again.canonicalize();
                prop_assert_eq!(&again, &job);
                let _ = model::validate(&job);
                let _ = model::warnings(&job);
                let _ = model::unbuilt(&job);
                let _ = model::parse_shape(&job);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..80) {
            let _ = from_slice::<Register>(&bytes);
            let mut text = br#"{"Job": {"ID": "a\u00e9", "TaskGroups": [{"Count": -1.5e3, "Meta": {"k": null}}]}}"#.to_vec();
            text.truncate(cut);
            let _ = from_slice::<Register>(&text);
            text.append(&mut bytes);
            let _ = from_slice::<Register>(&text);
        }
    }
}
