//! The language around the job: variables, locals, dynamic blocks, JSON syntax, and what is said
//! about mistakes.

#![allow(clippy::unwrap_used)]

mod text;

use jobspec::{FileReader, Inputs, Severity, Source};
use serde_json::{Value, json};

use text::{parse, with};

/// A job whose meta holds one expression.
fn meta(before: &str, expr: &str) -> String {
    format!("{before}\njob \"a\" {{\n  meta {{\n    v = {expr}\n  }}\n}}\n")
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn the_strongest_source_of_a_variable_wins() {
    let text = meta("variable \"v\" {\n  default = \"default\"\n}", "var.v");
    let value = |inputs: &Inputs<'_>| with(inputs, &text).unwrap()["Meta"]["v"].clone();
    let mut inputs = Inputs::default();
    assert_eq!(value(&inputs), "default");
    inputs.env = vec![pair("NOMAD_VAR_v", "env"), pair("NOMAD_VAR_other", "x")];
    assert_eq!(value(&inputs), "env");
    inputs.var_files = vec![pair("a.hcl", "v = \"first\""), pair("b.json", "{\"v\": \"second\"}")];
    assert_eq!(value(&inputs), "second");
    inputs.vars = vec![pair("v", "one"), pair("v", "two = 2")];
    assert_eq!(value(&inputs), "two = 2");
}

#[test]
fn text_from_outside_is_read_by_the_type_of_the_variable() {
    let given = |of: &str, text: &str| {
        let source = meta(&format!("variable \"v\" {{\n  type = {of}\n}}"), "jsonencode(var.v)");
        let inputs = Inputs { vars: vec![pair("v", text)], strict_vars: true, ..Inputs::default() };
        with(&inputs, &source).map(|job| job["Meta"]["v"].as_str().unwrap().to_owned())
    };
    assert_eq!(given("string", "[1]").unwrap(), "\"[1]\"");
    assert_eq!(given("number", "07.50").unwrap(), "7.5");
    assert_eq!(given("bool", "true").unwrap(), "true");
    assert_eq!(given("list(string)", "[\"a\", 1]").unwrap(), "[\"a\",\"1\"]");
    assert_eq!(given("object({a = number})", "{a = \"1\", b = 2}").unwrap(), "{\"a\":1}");
    assert!(given("number", "x").unwrap_err().contains("Invalid argument value for -var variable"));
    assert!(given("list(string)", "[").unwrap_err().contains("Invalid argument value for -var variable"));
    assert!(given("list(string)", "[upper(\"a\")]").unwrap_err().contains("Functions may not be called here"));
    assert!(given("list(string)", "[attr.x]").unwrap_err().contains("Variables may not be used here"));
}

#[test]
fn an_undeclared_variable_is_an_error_or_a_warning() {
    let text = meta("variable \"count\" {\n  default = 1\n}", "var.count");
    let mut inputs = Inputs {
        vars: vec![pair("coutn", "2")],
        var_files: vec![pair("v.hcl", "x = 1")],
        strict_vars: true,
        ..Inputs::default()
    };
    assert!(with(&inputs, &text).unwrap_err().contains("v.hcl:1,5-6: Undefined variable"));
    inputs.strict_vars = false;
    let parsed = jobspec::parse(Source { name: "a.hcl", text: &text }, &inputs).unwrap();
    assert_eq!(parsed.warnings.len(), 2);
    assert!(parsed.warnings.iter().all(|warning| warning.severity == Severity::Warning));
    assert_eq!(parsed.warnings[1].hint.as_deref(), Some("did you mean \"count\"?"));
}

#[test]
fn wrong_variable_blocks_are_refused() {
    for (block, words) in [
        ("variable \"a\" {\n  default = 1\n}\nvariable \"a\" {\n  default = 2\n}", "Duplicate variable"),
        ("variable \"1a\" {\n  default = 1\n}", "Invalid variable name"),
        ("variable {\n  default = 1\n}", "Missing name for variable"),
        ("variable \"a\" {\n  type = \"string\"\n}", "Invalid type specification"),
        ("variable \"a\" {\n  type = list\n}", "Invalid type specification"),
        ("variable \"a\" {\n  type = object({a = optional(string)})\n}", "Invalid type specification"),
        ("variable \"a\" {\n  type = number\n  default = \"x\"\n}", "Invalid default value for variable"),
        ("variable \"a\" {\n  default = upper(\"x\")\n}", "Function calls not allowed"),
        ("variable \"a\" {\n  defualt = 1\n}", "Did you mean \"default\"?"),
        (
            "variable \"a\" {\n  default = 1\n  validation {\n    condition = true\n    error_message = \"x\"\n  }\n}",
            "must refer to var.a",
        ),
        (
            "variable \"a\" {\n  default = 1\n  validation {\n    condition = var.a == var.b\n    error_message = \"x\"\n  }\n}",
            "can only refer to the variable itself",
        ),
        (
            "variable \"a\" {\n  default = 1\n  validation {\n    condition = var.a > 1\n    error_message = \" \"\n  }\n}",
            "not blank",
        ),
        (
            "variable \"a\" {\n  default = 1\n  validation {\n    condition = fileexists(var.a)\n    error_message = \"x\"\n  }\n}",
            "filesystem function disabled",
        ),
        ("locals {\n  a = 1\n}\nlocals {\n  a = 2\n}", "Duplicate value in locals"),
        ("locals {\n  a = local.missing\n}", "does not have an attribute named \"missing\""),
        ("frobnicate {}\n", "Unsupported block type"),
        ("x = 1\n", "Unsupported argument"),
    ] {
        let why = parse(&meta(block, "1")).expect_err(block);
        assert!(why.contains(words), "{block}\n{why}");
    }
}

#[test]
fn a_null_default_is_a_value() {
    assert_eq!(
        parse(&meta("variable \"a\" {\n  type = string\n  default = null\n}", "var.a == null")).unwrap()["Meta"]["v"],
        "true"
    );
}

#[test]
fn locals_may_stand_in_any_order() {
    let text = meta("locals {\n  c = \"${local.b}!\"\n  b = upper(local.a)\n}\nlocals {\n  a = \"x\"\n}", "local.c");
    assert_eq!(parse(&text).unwrap()["Meta"]["v"], "X!");
}

#[test]
fn a_circle_of_locals_is_named_in_the_hint() {
    let text = meta("locals {\n  a = local.b\n  b = local.c\n  c = local.a\n  d = local.a\n}", "1");
    let problems = jobspec::parse(Source { name: "a.hcl", text: &text }, &Inputs::default()).unwrap_err();
    assert_eq!(problems.list.len(), 1);
    assert_eq!(
        problems.list[0].hint.as_deref(),
        Some("these locals refer to each other in a circle: a -> b -> c -> a")
    );
}

#[test]
fn dynamic_blocks_make_blocks_of_any_collection() {
    let group = |dynamic: &str| parse(&format!("job \"a\" {{\n  group \"g\" {{\n{dynamic}\n  }}\n}}\n"));
    let made = group("dynamic \"service\" {\n  for_each = {b = 1, a = 2}\n  iterator = it\n  content {\n    name = \"${it.key}-${it.value}\"\n    dynamic \"check\" {\n      for_each = [\"tcp\", \"http\"]\n      content {\n        type = check.value\n        name = \"${it.key}${check.key}\"\n      }\n    }\n  }\n}").unwrap();
    let services = &made["TaskGroups"][0]["Services"];
    assert_eq!(services[0]["Name"], "a-2");
    assert_eq!(services[1]["Checks"][1]["Name"], "b1");
    assert_eq!(
        group("dynamic \"service\" {\n  for_each = []\n  content {}\n}").unwrap()["TaskGroups"][0]["Services"],
        Value::Null
    );
    for (dynamic, words) in [
        ("dynamic \"service\" {\n  for_each = null\n  content {}\n}", "null value in for_each"),
        ("dynamic \"service\" {\n  for_each = 5\n  content {}\n}", "iterable collection is required"),
        ("dynamic \"service\" {\n  content {}\n}", "\"for_each\" is required"),
        ("dynamic \"service\" {\n  for_each = []\n}", "At least 1 \"content\""),
        ("dynamic \"servise\" {\n  for_each = []\n  content {}\n}", "Unsupported block type"),
        ("dynamic \"count\" {\n  for_each = []\n  content {}\n}", "Unsupported block type"),
        ("dynamic \"task\" {\n  for_each = [1]\n  content {}\n}", "Missing name for task"),
        ("dynamic \"service\" {\n  for_each = [1]\n  labels = [\"x\"]\n  content {}\n}", "No labels are expected"),
        ("dynamic \"restart\" {\n  for_each = [1, 2]\n  content {}\n}", "Duplicate restart block"),
        ("dynamic \"service\" {\n  for_each = [1]\n  content {\n    nmae = \"x\"\n  }\n}", "Did you mean \"name\"?"),
    ] {
        let why = group(dynamic).expect_err(dynamic);
        assert!(why.contains(words), "{dynamic}\n{why}");
    }
}

#[test]
fn both_syntaxes_mean_the_same_job() {
    let native = "variable \"image\" {\n  type = string\n  default = \"nginx\"\n}\nlocals {\n  n = 2\n}\njob \"web\" {\n  datacenters = [\"dc1\"]\n  meta {\n    a = \"${local.n}\"\n  }\n  group \"g\" {\n    count = local.n\n    network {\n      port \"http\" {\n        static = 80\n      }\n      port \"db\" {}\n    }\n    dynamic \"task\" {\n      for_each = [\"x\", \"y\"]\n      iterator = t\n      labels = [\"t-${t.value}\"]\n      content {\n        driver = \"docker\"\n        config {\n          image = \"${var.image}:${NOMAD_DC}\"\n          args = [\"${attr.kernel.name}\"]\n        }\n        kill_timeout = \"5s\"\n      }\n    }\n    service {\n      name = \"one\"\n    }\n    service {\n      name = \"two\"\n    }\n  }\n}\n";
    let json = json!({
        "//": "a comment",
        "variable": {"image": {"type": "string", "default": "nginx"}},
        "locals": {"n": 2},
        "job": {"web": {
            "datacenters": ["dc1"],
            "meta": {"a": "${local.n}"},
            "group": {"g": {
                "count": "${local.n}",
                "network": {"port": {"http": {"static": 80}, "db": {}}},
                "dynamic": {"task": {
                    "for_each": ["x", "y"],
                    "iterator": "t",
                    "labels": ["t-${t.value}"],
                    "content": {
                        "driver": "docker",
                        "config": {"image": "${var.image}:${NOMAD_DC}", "args": ["${attr.kernel.name}"]},
                        "kill_timeout": "5s"
                    }
                }},
                "service": [{"name": "one"}, {"name": "two"}]
            }}
        }}
    });
    let mut native = parse(native).unwrap();
    let mut other = parse(&serde_json::to_string_pretty(&json).unwrap()).unwrap();
    // The order of JSON properties is that of the text.
    for job in [&mut native, &mut other] {
        job["TaskGroups"][0]["Networks"][0]["DynamicPorts"].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    assert_eq!(native, other);
}

#[test]
fn wrong_json_is_refused_with_its_place() {
    for (text, words) in [
        ("{\"job\": {\"a\": {\"count\": 1}}}", "a.hcl:1,16-23: Unsupported argument"),
        ("{\"job\": {\"a\": 5}}", "A JSON object is required here"),
        ("{\"job\": {\"a\": {}}", "a.hcl:1,18-18: Unclosed object"),
        ("{\"job\" {}}", "Missing property value colon"),
        ("{\"job\": nope}", "Invalid JSON keyword"),
        ("{\"job\": {\"a\": {\"meta\": {\"x\": \"${1 +}\"}}}}", "Invalid expression"),
        ("{} x", "Extraneous data after value"),
        ("{}", "Missing job block"),
    ] {
        let why = parse(text).expect_err(text);
        assert!(why.contains(words), "{text}\n{why}");
    }
}

#[test]
fn every_mistake_is_reported_with_its_place_and_near_misses() {
    let text = "job \"a\" {\n  datacentres = []\n  priority = \"high\"\n  group \"g\" {\n    cuont = 1\n    taks \"t\" {}\n    count = 1.5\n    restart {\n      interval = \"1x\"\n      attempts = []\n    }\n    restart {}\n    meta = {}\n    service \"x\" {}\n  }\n  group {}\n}\n";
    let problems = jobspec::parse(Source { name: "a.hcl", text }, &Inputs::default()).unwrap_err();
    let words = problems.reference_text();
    for expected in [
        "a.hcl:2,3-14: Unsupported argument; An argument named \"datacentres\" is not expected here. Did you mean \"datacenters\"?",
        "a.hcl:3,15-19: Unsuitable value type; Unsuitable value: a number is required",
        "a.hcl:5,5-10: Unsupported argument; An argument named \"cuont\" is not expected here. Did you mean \"count\"?",
        "a.hcl:6,5-9: Unsupported block type; Blocks of type \"taks\" are not expected here. Did you mean \"task\"?",
        "a.hcl:7,13-16: Unsuitable value type; Unsuitable value: value must be a whole number",
        "a.hcl:9,19-21: Unsuitable value type; Unsuitable duration value: time: unknown unit \"x\" in duration \"1x\"",
        "a.hcl:10,18-19: Unsuitable value type; Unsuitable value: a number is required",
        "a.hcl:12,5-12: Duplicate restart block; Only one restart block is allowed. Another was defined at a.hcl:8,5-12.",
        "a.hcl:14,13-16: Extraneous label for service; No labels are expected for service blocks.",
        "a.hcl:16,9-10: Missing name for group; All group blocks must have 1 labels (name).",
    ] {
        assert!(words.contains(expected), "missing: {expected}\n{words}");
    }
    assert_eq!(problems.list.len(), 10, "{words}");
    assert_eq!(serde_json::to_value(&problems).unwrap()[0]["severity"], "error");
}

#[test]
fn grammar_mistakes_get_the_known_words() {
    for (text, words) in [
        ("job \"a\" {\n  x = \n}\n", "a.hcl:2,7-3,1: Invalid expression"),
        ("job \"a\" {\n  x = 1 y = 2\n}\n", "a.hcl:2,9-10: Missing newline after argument"),
        ("job \"a\" {\n  x = 1\n  x = 2\n}\n", "a.hcl:3,3-4: Attribute redefined; The argument \"x\" was already set."),
        ("job \"a\" {\n  x\n}\n", "a.hcl:2,4-3,1: Invalid block definition"),
        ("job \"a\" {\n  network { port {} }\n}\n", "Argument definition required"),
        ("job \"a\" {\n  m { a = 1, b = 2 }\n}\n", "Invalid single-argument block definition"),
        ("job \"a\" {\n  x = [1 2]\n}\n", "Missing item separator"),
        ("job \"a\" {\n  x = \"\\q\"\n}\n", "Invalid escape sequence"),
        ("job \"a\" {\n  x = \"a\n\"\n}\n", "Invalid multi-line string"),
        ("job \"a\" {\n  x = \"abc\n}\n", "Invalid multi-line string"),
        ("job \"a\" {}}\n", "Missing newline after argument"),
        ("job \"a\" {\n  x = true ? 1\n}\n", "Missing false expression in conditional"),
    ] {
        let why = parse(text).expect_err(text);
        assert!(why.contains(words), "{text}\n{why}");
    }
}

#[test]
fn scaling_mistakes_are_named() {
    let task = |body: &str| parse(&format!("job \"a\" {{\n  task \"t\" {{\n{body}\n  }}\n}}\n"));
    assert!(
        task("scaling \"gpu\" {\n  max = 1\n}").unwrap_err().contains("scaling policy name must be \"cpu\" or \"mem\"")
    );
    assert!(
        task("scaling \"cpu\" {\n  max = 1\n}\nscaling \"CPU\" {\n  max = 1\n}")
            .unwrap_err()
            .contains("Duplicate scaling \"cpu\" block")
    );
    assert!(
        task("scaling \"cpu\" {\n  max = 1\n  type = \"vertical_mem\"\n}")
            .unwrap_err()
            .contains("Invalid scaling policy type")
    );
    let group =
        parse("job \"a\" {\n  group \"g\" {\n    scaling {\n      max = 1\n      type = \"vertical\"\n    }\n  }\n}\n");
    assert!(group.unwrap_err().contains("Invalid group scaling type"));
}

#[test]
fn a_task_adds_the_secrets_of_its_group_to_its_own_once() {
    let job = parse("job \"a\" {\n  group \"g\" {\n    secret \"s\" {\n      path = \"group\"\n    }\n    secret \"own\" {\n      path = \"group\"\n    }\n    task \"t\" {\n      secret \"own\" {\n        path = \"task\"\n      }\n    }\n  }\n}\n").unwrap();
    let secrets = job["TaskGroups"][0]["Tasks"][0]["Secrets"].as_array().unwrap().clone();
    let named: Vec<(&str, &str)> =
        secrets.iter().map(|s| (s["Name"].as_str().unwrap(), s["Path"].as_str().unwrap())).collect();
    assert_eq!(named, [("own", "task"), ("s", "group")]);
}

#[test]
fn line_endings_of_another_system_make_no_difference() {
    let text = "job \"a\" {\r\n  # c\r\n  meta {\r\n    v = 1\r\n  }\r\n}\r\n";
    assert_eq!(parse(text).unwrap()["Meta"]["v"], "1");
}

#[test]
fn the_same_text_and_inputs_make_the_same_job() {
    let text = meta("", "\"${uuidv4()} ${bcrypt(\"x\", 4)}\"");
    let inputs = Inputs { seed: 7, ..Inputs::default() };
    assert_eq!(with(&inputs, &text), with(&inputs, &text));
}

#[test]
fn a_lent_reader_lets_a_job_read_files() {
    struct Disk;
    impl FileReader for Disk {
        fn read(&self, path: &str) -> Result<Vec<u8>, String> {
            Ok(format!("contents of {path}").into_bytes())
        }
        fn exists(&self, _: &str) -> Result<bool, String> {
            Ok(true)
        }
        fn glob(&self, _: &str, _: &str) -> Result<Vec<String>, String> {
            Ok(Vec::new())
        }
        fn absolute(&self, path: &str) -> Result<String, String> {
            Ok(path.to_owned())
        }
        fn home(&self) -> Option<String> {
            None
        }
    }
    let text = meta("", "file(\"x.tpl\")");
    assert!(parse(&text).unwrap_err().contains("Call to function \"file\" failed: filesystem function disabled."));
    let inputs = Inputs { files: Some(&Disk), ..Inputs::default() };
    assert_eq!(with(&inputs, &text).unwrap()["Meta"]["v"], "contents of x.tpl");
}
