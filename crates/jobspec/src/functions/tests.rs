//! Every function by its words: an expression, and the JSON of what it is or a part of what it
//! says when it fails.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::Inputs;
use crate::eval::{Evaluator, Scope};
use crate::value::Value;
use crate::{lower, opaque};

fn eval_with(inputs: &Inputs<'_>, text: &str) -> Result<Json, String> {
    let scope = Scope::root(BTreeMap::from([(
        "var".to_owned(),
        Value::object([("x".to_owned(), Value::string("ex"))].into()),
    )]));
    let expr = lower::expression(0, text).map_err(|problem| problem.detail)?;
    Evaluator::new(inputs).eval(&expr, &scope).map(|value| opaque::to_json(&value)).map_err(|problem| problem.detail)
}

pub(super) fn eval(text: &str) -> Result<Json, String> {
    eval_with(&Inputs::default(), text)
}

#[track_caller]
pub(super) fn all(cases: &[(&str, Json)]) {
    for (text, expected) in cases {
        assert_eq!(eval(text).as_ref(), Ok(expected), "{text}");
    }
}

#[track_caller]
pub(super) fn fails(cases: &[(&str, &str)]) {
    for (text, words) in cases {
        let why = eval(text).expect_err(text);
        assert!(why.contains(words), "{text}: {why}");
    }
}

#[test]
fn every_function_of_the_reference_exists_and_no_other() {
    let mut listed: Vec<&str> = include_str!("../../tests/data/functions.tsv")
        .lines()
        .map(|row| row.split('\t').collect::<Vec<_>>())
        .filter(|columns| columns[0] != "function (absent)")
        .map(|columns| columns[1])
        .collect();
    let mut ours: Vec<&str> = super::names().collect();
    listed.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, listed);
}

#[test]
fn numbers() {
    all(&[
        ("abs(-3.5)", json!(3.5)),
        ("ceil(1.2)", json!(2)),
        ("floor(-1.2)", json!(-2)),
        ("max(1, \"7\", 3)", json!(7)),
        ("min([4, 2]...)", json!(2)),
        ("pow(2, 10)", json!(1024)),
        ("pow(4, 0.5)", json!(2)),
        ("log(8, 2)", json!(3)),
        ("signum(-9)", json!(-1)),
        ("parseint(\"ff\", 16)", json!(255)),
        ("parseint(\"-Z\", 36)", json!(-35)),
        ("parseint(\"Z\", 62)", json!(61)),
        ("range(3)", json!([0, 1, 2])),
        ("range(3, 0)", json!([3, 2, 1])),
        ("range(1, 8, 3)", json!([1, 4, 7])),
    ]);
    fails(&[
        ("max()", "must pass at least one number"),
        ("range(2000)", "more than 1024 values"),
        ("range(1, 2, 0)", "step must not be zero"),
        ("range(1, 5, -1)", "step must be positive"),
        ("parseint(\"9\", 8)", "cannot parse \"9\" as a base 8 integer"),
        ("pow(10, 400)", "not a finite number"),
        ("pow(10, 200) * pow(10, 200)", "out of range"),
        ("abs(\"x\")", "a number is required"),
        ("abs(null)", "argument must not be null"),
        ("abs()", "expects 1 argument"),
        ("abs(1, 2)", "expects only 1 argument"),
    ]);
}

#[test]
fn text() {
    all(&[
        ("chomp(\"a\\n\\n\")", json!("a")),
        ("indent(2, \"a\\nb\")", json!("a\n  b")),
        ("join(\"-\", [\"a\", 1], [true])", json!("a-1-true")),
        ("lower(\"ÄB\")", json!("äb")),
        ("upper(\"äb\")", json!("ÄB")),
        ("title(\"hello big-world\")", json!("Hello Big-World")),
        ("replace(\"1.2.3\", \".\", \"-\")", json!("1-2-3")),
        ("regex_replace(\"a1b22\", \"[0-9]+\", \"<$0>\")", json!("a<1>b<22>")),
        ("regex_replace(\"ab\", \"(a)(b)\", \"$${2}$${1}\")", json!("ba")),
        ("reverse(\"abc\")", json!("cba")),
        ("strrev(\"e\\u0301x\")", json!("xe\u{301}")),
        ("split(\",\", \"a,b,\")", json!(["a", "b", ""])),
        ("split(\",\", \"\")", json!([""])),
        ("strlen(\"e\\u0301\")", json!(1)),
        ("substr(\"hello\", 1, 3)", json!("ell")),
        ("substr(\"hello\", -3, -1)", json!("llo")),
        ("substr(\"hello\", 9, 2)", json!("")),
        ("trim(\"?!a!?\", \"!?\")", json!("a")),
        ("trimprefix(\"aab\", \"a\")", json!("ab")),
        ("trimsuffix(\"abb\", \"b\")", json!("ab")),
        ("trimspace(\" \\t x \\n\")", json!("x")),
        (
            "format(\"%s-%03d|%5s|%-4s|%q|%t|%v\", \"a\", 7, \"b\", \"c\", \"d\", true, [1])",
            json!("a-007|    b|c   |\"d\"|true|[1]"),
        ),
        ("format(\"%.2f %e %x %X %o %b %%\", 1.005, 1500, 255, 255, 8, 5)", json!("1.00 1.500000e+03 ff FF 10 101 %")),
        ("format(\"%[2]s %[1]s\", \"a\", \"b\")", json!("b a")),
        ("format(\"%+d % d %g\", 5, 5, 1.5)", json!("+5  5 1.5")),
        ("format(\"%#v\", \"x\")", json!("\"x\"")),
        ("formatlist(\"%s-%s\", [\"a\", \"b\"], \"x\")", json!(["a-x", "b-x"])),
    ]);
    fails(&[
        ("format(\"%d\", \"x\")", "a number is required"),
        ("format(\"%s\")", "not enough arguments"),
        ("format(\"%s\", \"a\", \"b\")", "too many arguments"),
        ("format(\"%99999999d\", 1)", "too large"),
        ("format(\"%\")", "unterminated"),
        ("formatlist(\"%s%s\", [\"a\"], [\"a\", \"b\"])", "different length"),
        ("regex_replace(\"a\", \"(\", \"\")", "unclosed group"),
        ("reverse([1, 2])", "string required"),
        ("indent(-1, \"a\")", "must not be negative"),
    ]);
}

#[test]
fn collections() {
    all(&[
        ("chunklist([1, 2, 3], 2)", json!([[1, 2], [3]])),
        ("coalesce(null, \"\", \"b\")", json!("")),
        ("coalescelist([], [1])", json!([1])),
        ("compact([\"a\", \"\", \"b\"])", json!(["a", "b"])),
        ("concat([1], [\"a\"])", json!([1, "a"])),
        ("contains([\"a\", \"b\"], \"b\")", json!(true)),
        ("contains(convert([\"1\"], list(string)), 1)", json!(true)),
        ("distinct([\"b\", \"a\", \"b\"])", json!(["b", "a"])),
        ("element([\"a\", \"b\"], 3)", json!("b")),
        ("flatten([[1, [2]], [], 3])", json!([1, 2, 3])),
        ("index([\"a\", \"b\"], 1)", json!("b")),
        ("keys({b = 1, a = 2})", json!(["a", "b"])),
        ("length([1, 2])", json!(2)),
        ("length(convert({a = 1}, map(string)))", json!(1)),
        ("lookup({a = 1}, \"b\", 9)", json!(9)),
        ("merge({a = 1}, null, {a = 2, b = 3})", json!({"a": 2, "b": 3})),
        ("slice([1, 2, 3], 1, 3)", json!([2, 3])),
        ("sort([\"b\", \"a\"])", json!(["a", "b"])),
        ("values({b = 1, a = 2})", json!([2, 1])),
        ("zipmap([\"a\"], [1])", json!({"a": 1})),
        ("setunion([\"b\"], [\"a\", \"b\"])", json!(["a", "b"])),
        ("setintersection([\"b\", \"c\"], [\"b\"])", json!(["b"])),
        ("setproduct([\"a\"], [\"x\", \"y\"])", json!([["a", "x"], ["a", "y"]])),
        ("convert([\"2\", \"1\", \"2\"], set(number))", json!([1, 2])),
        ("convert({a = \"1\", b = 2}, object({a = number}))", json!({"a": 1})),
        ("try({}.a, \"fallback\")", json!("fallback")),
        ("can({}.a)", json!(false)),
    ]);
    fails(&[
        ("coalesce(null)", "no non-null arguments"),
        ("element([], 0)", "empty list"),
        ("index({a = 1}, \"a\")", "must be a list, a map or a tuple"),
        ("length(\"abc\")", "must be a list, a map or a tuple"),
        ("length({a = 1})", "must be a list, a map or a tuple"),
        ("lookup({}, \"a\")", "expects 3 arguments"),
        ("slice([1], 0, 5)", "not greater than the length"),
        ("zipmap([\"a\"], [])", "does not match"),
        ("try({}.a, {}.b)", "no expression succeeded"),
        ("convert(\"x\", number)", "a number is required"),
        ("convert(1, any)", "an exact type is required"),
        ("convert(1, list)", "requires one argument"),
        ("tostring(1)", "There is no function named \"tostring\"."),
        ("uper(\"a\")", "Did you mean \"upper\"?"),
    ]);
}

#[test]
fn encodings() {
    all(&[
        ("base64encode(\"hi\")", json!("aGk=")),
        ("base64decode(\"aGk=\")", json!("hi")),
        ("urlencode(\"a b&ü\")", json!("a+b%26%C3%BC")),
        ("jsonencode({b = [1, 2.5, null], a = \"<x>\"})", json!("{\"a\":\"\\u003cx\\u003e\",\"b\":[1,2.5,null]}")),
        ("jsondecode(\"{\\\"a\\\": [1, true]}\")", json!({"a": [1, true]})),
        ("csvdecode(\"a,b\\n1,\\\"x,\\\"\\\"y\\\"\\\"\\\"\\n\")", json!([{"a": "1", "b": "x,\"y\""}])),
        (
            "yamldecode(\"a: 1\\nb: [x, 'y', ~, true, 0x10, 1.5]\\nc:\\n  - d: e\")",
            json!({"a": 1, "b": ["x", "y", null, true, 16, 1.5], "c": [{"d": "e"}]}),
        ),
        ("yamldecode(\"x: &a {k: 1}\\ny: {<<: *a, z: 2}\")", json!({"x": {"k": 1}, "y": {"k": 1, "z": 2}})),
        (
            "yamlencode({a = [1, {b = \"c\"}], d = {}, e = null})",
            json!("\"a\":\n- 1\n- \"b\": \"c\"\n\"d\": {}\n\"e\": null\n"),
        ),
        ("yamldecode(yamlencode([[1, [2]], {a = [[\"x\"]]}]))", json!([[1, [2]], {"a": [["x"]]}])),
    ]);
    fails(&[
        ("base64decode(\"%\")", "failed to decode base64 data"),
        ("base64decode(\"/w==\")", "UTF-8"),
        ("jsondecode(\"{\")", "EOF"),
        ("csvdecode(\"a,a\\n\")", "duplicate column name"),
        ("csvdecode(\"a\\n1,2\\n\")", "wrong number of fields"),
        ("yamldecode(\"a: [\")", "Invalid value for \"src\""),
        ("yamldecode(\"a: 1\\n---\\nb: 2\")", "only one YAML document"),
        ("rsadecrypt(\"AA==\", \"x\")", "no key found"),
    ]);
}

#[test]
fn digests_and_ids() {
    all(&[
        ("md5(\"a\")", json!("0cc175b9c0f1b6a831c399e269772661")),
        ("sha1(\"a\")", json!("86f7e437faa5a7fce15d1ddcb9eaeaea377667b8")),
        ("sha256(\"seed\")", json!("19b25856e1c150ca834cffc8b59b23adbd0ec0389e58eb22b3b64768098d002b")),
        ("strlen(sha512(\"a\"))", json!(128)),
        ("uuidv5(\"dns\", \"example.internal\")", json!("5ed601e2-2894-5c01-8e70-9fada686cdfe")),
        (
            "uuidv5(\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\", \"example.internal\")",
            json!("5ed601e2-2894-5c01-8e70-9fada686cdfe"),
        ),
    ]);
    fails(&[("uuidv5(\"nope\", \"x\")", "neither a UUID"), ("bcrypt(\"a\", 31)", "cost must be between")]);
}

#[test]
fn randomness_comes_from_the_seed_alone() {
    let with = |seed| Inputs { seed, ..Inputs::default() };
    let two = "[uuidv4(), uuidv4()]";
    assert_eq!(eval_with(&with(1), two), eval_with(&with(1), two));
    assert_ne!(eval_with(&with(1), two), eval_with(&with(2), two));
    let pair = eval_with(&with(1), two).unwrap();
    assert_ne!(pair[0], pair[1]);
    assert_eq!(pair[0].as_str().unwrap().as_bytes()[14], b'4');
}

#[test]
fn addresses() {
    all(&[
        ("cidrhost(\"10.12.112.0/20\", 16)", json!("10.12.112.16")),
        ("cidrhost(\"10.12.112.0/20\", -1)", json!("10.12.127.255")),
        ("cidrhost(\"fd00:fd12:3456:7890::/72\", 34)", json!("fd00:fd12:3456:7890::22")),
        ("cidrnetmask(\"172.16.0.0/12\")", json!("255.240.0.0")),
        ("cidrsubnet(\"172.16.0.0/12\", 4, 2)", json!("172.18.0.0/16")),
        ("cidrsubnet(\"fd00::/8\", 8, 255)", json!("fdff::/16")),
        (
            "cidrsubnets(\"10.1.0.0/16\", 4, 4, 8, 4)",
            json!(["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"]),
        ),
        ("cidrsubnet(\"0.0.0.0/0\", 32, 4294967295)", json!("255.255.255.255/32")),
    ]);
    fails(&[
        ("cidrhost(\"10.0.0.0/30\", 4)", "does not accommodate a host numbered 4"),
        ("cidrsubnet(\"10.0.0.0/30\", 4, 0)", "insufficient address space"),
        ("cidrsubnet(\"10.0.0.0/8\", 2, 4)", "does not accommodate a subnet numbered 4"),
        ("cidrsubnets(\"10.0.0.0/31\", 1, 1, 1)", "not enough remaining address space"),
        ("cidrhost(\"10.0.0.0\", 1)", "invalid CIDR"),
        ("cidrnetmask(\"::/0\")", "only IPv4"),
        ("cidrsubnet(\"::/0\", 33, 0)", "more than 32 bits"),
    ]);
}

#[test]
fn times() {
    all(&[
        ("timeadd(\"2026-01-01T00:00:00Z\", \"36h\")", json!("2026-01-02T12:00:00Z")),
        ("timeadd(\"2024-02-28T23:59:59+02:00\", \"1s\")", json!("2024-02-29T00:00:00+02:00")),
        ("timeadd(\"2026-01-01T00:00:00Z\", \"-1s\")", json!("2025-12-31T23:59:59Z")),
        (
            "formatdate(\"EEEE, DD-MMM-YY hh:mm:ss ZZZ\", \"2018-01-02T23:12:01Z\")",
            json!("Tuesday, 02-Jan-18 23:12:01 UTC"),
        ),
        ("formatdate(\"H:mmaa 'o''clock' Z\", \"2018-01-02T23:12:01-08:00\")", json!("11:12pm o'clock -08:00")),
    ]);
    fails(&[
        ("timeadd(\"2026-02-30T00:00:00Z\", \"1h\")", "not a valid RFC3339 timestamp"),
        ("timeadd(\"2026-01-01T00:00:00Z\", \"1d\")", "unknown unit"),
        ("formatdate(\"YYYYY\", \"2018-01-02T23:12:01Z\")", "invalid date format verb"),
        ("formatdate(\"'x\", \"2018-01-02T23:12:01Z\")", "unterminated literal"),
    ]);
}

/// A disk with one file.
struct Disk;
impl crate::FileReader for Disk {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        if path == "a.txt" { Ok(b"body".to_vec()) } else { Err(format!("no file exists at {path}")) }
    }
    fn exists(&self, path: &str) -> Result<bool, String> {
        Ok(path == "a.txt")
    }
    fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, String> {
        Ok(vec!["b".to_owned(), "a".to_owned()])
    }
    fn absolute(&self, path: &str) -> Result<String, String> {
        Ok(format!("/base/{path}"))
    }
    fn home(&self) -> Option<String> {
        Some("/home/me".to_owned())
    }
}

pub(super) fn with_files(text: &str) -> Result<Json, String> {
    eval_with(&Inputs { files: Some(&Disk), ..Inputs::default() }, text)
}

#[test]
fn files_are_refused_unless_a_reader_is_lent() {
    for call in [
        "abspath(\"a\")",
        "basename(\"a\")",
        "dirname(\"a\")",
        "file(\"a\")",
        "filebase64(\"a\")",
        "fileexists(\"a\")",
        "fileset(\"a\", \"*\")",
        "pathexpand(\"a\")",
    ] {
        let why = eval(call).expect_err(call);
        assert!(why.contains("filesystem function disabled"), "{why}");
    }
    for (text, expected) in [
        ("file(\"a.txt\")", json!("body")),
        ("filebase64(\"a.txt\")", json!("Ym9keQ==")),
        ("fileexists(\"b.txt\")", json!(false)),
        ("fileset(\".\", \"*\")", json!(["a", "b"])),
        ("abspath(\"x\")", json!("/base/x")),
        ("basename(\"a/b/\")", json!("b")),
        ("dirname(\"a/./b/../c\")", json!("a")),
        ("pathexpand(\"~/x\")", json!("/home/me/x")),
    ] {
        assert_eq!(with_files(text), Ok(expected), "{text}");
    }
}

#[test]
fn operators_convert_what_they_are_given() {
    all(&[
        ("\"10\" + 5", json!(15)),
        ("0.1 + 0.2", json!(0.3)),
        ("\"80\" > 79", json!(true)),
        ("7 % 3", json!(1)),
        ("-7 % 3", json!(-1)),
        ("1 + 2 * 3 - 4 / 2", json!(5)),
        ("!false && (true || false)", json!(true)),
        ("\"true\" && true", json!(true)),
        ("\"1\" == 1", json!(false)),
        ("null == null", json!(true)),
        ("[1, 2] == [1, 2]", json!(true)),
        ("true ? 1 : \"x\"", json!("1")),
        ("false ? [] : [\"a\"]", json!(["a"])),
        ("true ? null : 5", json!(null)),
        ("-(3)", json!(-3)),
    ]);
    fails(&[
        ("7 % 0", "The right operand of this operation is zero."),
        ("1 / 0", "The right operand of this operation is zero."),
        ("1 / (2 - 2.0)", "The right operand of this operation is zero."),
        ("\"a\" + 1", "Unsuitable value for left operand: a number is required."),
        ("null + 1", "must not be null"),
        ("true ? {a = 1} : {b = 1}", "must have consistent types"),
        ("true ? [1] : 5", "must have consistent types"),
        ("null ? 1 : 2", "Conditions must either be true or false"),
    ]);
}

#[test]
fn expressions_build_and_take_apart_collections() {
    all(&[
        ("[for x in [1, 2, 3] : x * 2 if x != 2]", json!([2, 6])),
        ("{for k, v in {a = 1, b = 2} : upper(k) => v}", json!({"A": 1, "B": 2})),
        ("{for v in [\"a\", \"b\", \"aa\"] : substr(v, 0, 1) => v...}", json!({"a": ["a", "aa"], "b": ["b"]})),
        ("[for i, v in [\"x\"] : \"${i}${v}\"]", json!(["0x"])),
        ("[{a = {b = 1}}, {a = {b = 2}}][*].a.b", json!([1, 2])),
        ("[{a = 1}].*.a", json!([1])),
        ("[[1, 2], [3]][*][0]", json!([1, 3])),
        ("null[*]", json!([])),
        ("{a = [1, 2]}.a[1]", json!(2)),
        ("{a = [1, 2]}.a.1", json!(2)),
        ("{(\"a${1}\") = 2, \"b c\" : 3}", json!({"a1": 2, "b c": 3})),
        ("\"${[1, 2]}\"", json!([1, 2])),
        ("\"%{ if var.x == \"ex\" }yes%{ else }no%{ endif }\"", json!("yes")),
        ("\"%{ for v in [1, 2] }${v},%{ endfor }\"", json!("1,2,")),
        ("\"a\\tb\\u00e9\\\"$${x}%%{y}\"", json!("a\tbé\"${x}%{y}")),
        ("\"%{ if true }a\\n\\\"b\\\"%{ endif }\"", json!("a\n\"b\"")),
        ("\"x  %{~ if true ~}  y  %{~ endif ~}  z\"", json!("xyz")),
        ("<<E\na\n  b\nE\n", json!("a\n  b\n")),
        ("<<-E\n    a\n\n      b\n  E\n", json!("a\n\n  b\n")),
        ("<<-E\n  ${var.x}\n    y\n  E\n", json!("ex\n  y\n")),
        ("18446744073709551616 / 2", json!(9_223_372_036_854_775_808_u64)),
    ]);
    fails(&[
        ("{for v in [1, 1] : \"k\" => v}", "Two different items produced the key \"k\""),
        ("[for x in 5 : x]", "cannot be used as the collection"),
        ("[for x in null : x]", "null value cannot be used as the collection"),
        ("[1][5]", "does not identify an element"),
        ("{a = 1}.b", "does not have an attribute named \"b\""),
        ("var.y", "does not have an attribute named \"y\""),
        ("\"a${null}\"", "Cannot include a null value"),
        ("\"a${[1]}\"", "string required"),
        ("max(5...)", "must be of a tuple, list, or set type"),
    ]);
}

/// Whatever nobody here knows goes to the task as it was written.
#[test]
fn run_time_references_stay_as_written() {
    all(&[
        ("attr.kernel.name", json!("${attr.kernel.name}")),
        ("\"${ attr.kernel.name }\"", json!("${ attr.kernel.name }")),
        ("\"pre-${NOMAD_PORT_db}-${var.x}\"", json!("pre-${NOMAD_PORT_db}-ex")),
        ("\"${env[\"HOME\"]}/${meta.dash-ed.0}\"", json!("${env[\"HOME\"]}/${meta.dash-ed.0}")),
        ("upper(NOMAD_DC)", json!("${NOMAD_DC}")),
        ("lower(NOMAD_DC)", json!("${nomad_dc}")),
        ("[for node in [1] : node]", json!([1])),
        ("\"${upper(\"a\")}${attr.x}\"", json!("A${attr.x}")),
        ("<<E\n${node.unique.name} ${var.x}\nE\n", json!("${node.unique.name} ex\n")),
        ("true ? attr.a : meta.b", json!("${attr.a}")),
    ]);
    fails(&[("attr.a + 1", "a number is required"), ("attr[var.x]", "does not have any indices")]);
}

/// Numbers and text that would need more than is allowed end in an error, at once.
#[test]
fn nothing_grows_beyond_its_bounds() {
    let bombs = [
        "[for a in range(1024) : [for b in range(1024) : [for c in range(1024) : \"x\"]]]",
        "join(\"\", [for a in range(1024) : join(\"\", [for b in range(1024) : join(\"\", [for c in range(1000) : \"xxxxxxxx\"])])])",
        "setproduct(range(1024), range(1024), range(1024))",
        "replace(join(\"\", [for a in range(1024) : \"aaaaaaaaaaaaaaaa\"]), \"\", join(\"\", [for a in range(1024) : \"aaaaaaaa\"]))",
        "yamldecode(\"a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\")",
        "[for a in range(1024) : bcrypt(\"x\", 12)]",
        "[for a in range(1024) : regex_replace(\"x\", \"(x{500}){500}\", \"\")]",
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        assert!(eval(bomb).is_err(), "{bomb}");
        assert!(start.elapsed().as_secs() < 20, "{bomb} took {:?}", start.elapsed());
    }
}
