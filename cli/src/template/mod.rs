//! What does `-t` print? A template over the API's answer, in the language of Go's text templates.
//!
//! ```text
//! text ─ lex ─► pieces: text, actions of tokens ─ parse ─► nodes ─ eval (with functions) ─► output
//! ```
//!
//! Built: text with `{{- -}}` trimming, comments, pipelines, fields, variables (`:=`, `=`), `if`, `else if`,
//! `with`, `range` (with `else`, `break`, `continue`), literals, and the functions in [`functions`]. Not
//! built, and refused by name: `define`, `block`, `template`, `call`, methods.
//!
//! Invariants: nothing a template says panics or runs without end (nesting, steps and output are bounded);
//! a field that an answer leaves out prints `<no value>`; one that no answer has ([`fields`]) is an error, as a
//! field that a Go struct lacks.
//!
//! Driven by the commands that have `-t`. It fails with a line and a sentence.

mod eval;
mod fields;
mod functions;
mod lex;
mod parse;

use serde_json::Value;

/// The largest template.
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// Blocks and parentheses within each other.
const NESTING_MAX: usize = 64;
/// Actions carried out in all.
const STEPS_MAX: usize = 5_000_000;
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// A template that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: format:{line}: {message}")]
pub struct TemplateError {
    pub line: usize,
    pub message: String,
}

impl TemplateError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// Carries out `source` with `data` as its dot.
///
/// # Errors
/// The template is not one, uses what is not built, or asks something impossible of the data.
pub fn render(source: &str, data: &Value) -> Result<String, TemplateError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(TemplateError::new(1, format!("the template is longer than {SOURCE_BYTES_MAX} bytes")));
    }
    let nodes = parse::parse(lex::lex(source)?)?;
    eval::run(&nodes, data)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(source: &str) -> String {
        let data = json!({
            "ID": "web", "Count": 3, "Ratio": 0.5, "Stop": false, "None": null,
            "Groups": [{"Name": "a", "N": 1}, {"Name": "b", "N": 2}],
            "Meta": {"x": "1", "y": "2"}, "Empty": [], "Bare": {},
        });
        render(source, &data).unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn values_print_as_in_go() {
        assert_eq!(of("{{.ID}} {{ .Count }} {{.Ratio}} {{.Stop}} {{.Meta}}"), "web 3 0.5 false map[x:1 y:2]");
        assert_eq!(
            of("{{.NextEval}} {{.None}} {{.Groups}}"),
            "<no value> <no value> [map[N:1 Name:a] map[N:2 Name:b]]"
        );
        assert_eq!(of("{{.Meta.x}}{{(index .Groups 1).Name}}{{$.ID}}"), "1bweb");
    }

    #[test]
    fn range_goes_over_lists_and_maps_in_order() {
        assert_eq!(of("{{range .Groups}}{{.Name}}={{.N}} {{end}}"), "a=1 b=2 ");
        assert_eq!(of("{{range $i, $g := .Groups}}{{$i}}{{$g.Name}}{{end}}"), "0a1b");
        assert_eq!(of("{{range $k, $v := .Meta}}{{$k}}{{$v}},{{end}}"), "x1,y2,");
        assert_eq!(of("{{range .Empty}}x{{else}}none{{end}}"), "none");
        assert_eq!(of("{{range .Groups}}{{if eq .N 2}}{{break}}{{end}}{{.Name}}{{end}}"), "a");
        assert_eq!(of("{{range .Groups}}{{if eq .N 1}}{{continue}}{{end}}{{.Name}}{{end}}"), "b");
        assert_eq!(of("{{range 3}}{{.}}{{end}}"), "012");
    }

    #[test]
    fn conditions_choose_and_with_moves_the_dot() {
        assert_eq!(of("{{if .Stop}}a{{else if gt .Count 2}}b{{else}}c{{end}}"), "b");
        assert_eq!(of("{{with .Meta}}{{.y}}{{end}}{{with .Empty}}x{{else}}y{{end}}"), "2y");
        assert_eq!(of("{{if and .ID (not .Stop)}}yes{{end}}{{if or .None .Empty}}x{{end}}"), "yes");
    }

    #[test]
    fn pipelines_hand_the_last_argument_on() {
        assert_eq!(of(r#"{{.Groups | len | printf "%03d"}}"#), "002");
        assert_eq!(
            of(r#"{{printf "%s|%-5s|%5d|%q|%.2f|%v|%t|%%" .ID .ID .Count .ID .Ratio .Meta .Stop}}"#),
            "web|web  |    3|\"web\"|0.50|map[x:1 y:2]|false|%"
        );
        assert_eq!(of(r#"{{print 1 2 "a"}}{{println}}"#), "1 2a\n");
    }

    #[test]
    fn variables_live_to_the_end_of_their_block() {
        assert_eq!(of("{{$n := 0}}{{range .Groups}}{{$n = .N}}{{end}}{{$n}}"), "2");
        assert!(of("{{if .ID}}{{$x := 1}}{{end}}{{$x}}").contains("undefined variable \"$x\""));
    }

    #[test]
    fn dashes_trim_and_comments_vanish() {
        assert_eq!(of("a \n {{- .ID -}} \n b {{/* c */}}{{- /* d */ -}} c"), "awebb c");
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
        let cases = [
            ("a\n{{define \"x\"}}", "template: format:2: define is not supported"),
            ("{{template \"x\"}}", "template: format:1: template is not supported"),
            ("{{.ID", "template: format:1: unclosed action"),
            ("{{if .ID}}", "template: format:1: unexpected end: if is not closed by {{end}}"),
            ("{{end}}", "template: format:1: unexpected {{end}}"),
            ("{{printff .ID}}", "template: format:1: function \"printff\" not defined, did you mean \"printf\"?"),
            ("{{\n.ID.x}}", "template: format:2: can't evaluate field x in a string"),
            ("{{index .Groups 9}}", "template: format:1: error calling index: index 9 is out of range, there are 2"),
            ("{{printf \"%y\" 1}}", "template: format:1: error calling printf: verb %y is not supported"),
        ];
        for (source, expected) in cases {
            assert_eq!(of(source), expected, "{source}");
        }
    }

    #[test]
    fn a_field_that_no_answer_has_is_an_error_and_a_key_that_a_map_lacks_is_not() {
        let data = json!([{"ID": "a", "Name": "b", "Status": "running", "Meta": {"x": "1"}, "TaskGroups": null}]);
        let of = |source: &str| render(source, &data).unwrap_or_else(|e| e.to_string());
        let none = "template: format:1: can't evaluate field Nope: the answer has none";
        assert_eq!(of("{{(index . 0).Nope}}"), none);
        assert_eq!(
            of("{{range .}}{{.Staus}}{{end}}"),
            "template: format:1: can't evaluate field Staus: the answer has none, did you mean Status?"
        );
        assert_eq!(of("{{(index . 0).Namespace}}{{(index . 0).Meta.nope}}"), "<no value><no value>");
        assert_eq!(of("{{range .}}{{.TaskGroups.Nope}}{{end}}"), "<no value>");
    }

    #[test]
    fn text_is_made_safe_for_where_it_goes() {
        assert_eq!(of("{{html \"<a href='x'>&\"}}"), "&lt;a href=&#39;x&#39;&gt;&amp;");
        assert_eq!(of("{{js \"it's <b>=\"}}"), r"it\'s \u003Cb\u003E\u003D");
        assert_eq!(of("{{.ID | urlquery}}{{urlquery \"a b/ü\"}}"), "weba+b%2F%C3%BC");
        assert!(of("{{call .ID}}").contains("function \"call\" is not supported"));
    }

    #[test]
    fn nothing_runs_or_grows_without_end() {
        assert!(of("{{range 99999999}}{{range 99999999}}{{end}}{{end}}").contains("too many steps"));
        assert!(of(&"{{if .ID}}".repeat(500)).contains("nested too deeply"));
        assert!(of(&format!("{{{{{}", "(".repeat(5000))).contains("unclosed action"));
        assert!(of(&format!("{{{{{}.ID{}}}}}", "(".repeat(500), ")".repeat(500))).contains("nested too deeply"));
        assert!(of("{{printf \"%999999999d\" 1}}").contains("too wide"));
    }

    #[test]
    fn arbitrary_text_never_panics() {
        let pieces =
            ["{{", "}}", "-", " ", ".", "$x", ":=", "\"", "`", "if", "end", "range", "(", ")", "|", "%d", "ü", "1e9"];
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..(seed >> 33) % 12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[usize::try_from(seed >> 40).unwrap() % pieces.len()]);
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let _ = render(&text, &json!({"a": [1, {"b": null}]}));
        }
    }
}
