//! The rules of parsing and normalizing, each by its id: the row of the reference's table of rules
//! (`val-NNN`, in crates/model/tests/data/rules.tsv; docs/jobspec-coverage.md lists them with their tests).
#![allow(clippy::unwrap_used)]

mod text;

use jobspec::{Inputs, Source};
use serde_json::{Value, json};

use text::{in_job, parse, with};

fn in_group(inner: &str) -> String {
    in_job(&format!("group \"g\" {{\n{inner}\n}}"))
}

fn in_task(inner: &str) -> String {
    in_group(&format!("task \"t\" {{\n{inner}\n}}"))
}

/// Rule, file, words of the refusal.
#[test]
fn what_breaks_a_rule_of_parsing_is_refused_in_its_words() {
    let variable = |inner: &str| format!("variable \"v\" {{\n{inner}\n}}\n{}", in_job(""));
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("val-001", "job \"j\" {\n  a = \n}\n".into(), &["a.hcl:2,7-3,1: Invalid expression"]),
        ("val-001", "{\"job\": ".into(), &["a.hcl:1,9-9: Missing JSON value"]),
        ("val-002", "".into(), &["<nil>: Missing job block; A job block is required"]),
        ("val-003", in_job("") + &in_job(""), &["a.hcl:4,1-8: Duplicate job block; Only one block of type \"job\""]),
        ("val-004", "task \"t\" {}\n".to_owned() + &in_job(""), &["Unsupported block type"]),
        ("val-004", "a = 1\n".to_owned() + &in_job(""), &["Unsupported argument"]),
        ("val-005", in_job("countt = 1"), &["a.hcl:2,1-7: Unsupported argument"]),
        ("val-005", in_job("groups \"g\" {}"), &["Unsupported block type", "Did you mean \"group\"?"]),
        ("val-006", in_group("restart {}\nrestart {}"), &["Duplicate restart block"]),
        ("val-006", in_group("vault {}\nvault {}"), &["Duplicate vault block"]),
        ("val-007", in_job("meta = {}\nmeta {}"), &["Duplicate meta block"]),
        ("val-007", in_group("meta = {}\nmeta {}"), &["Duplicate meta block"]),
        ("val-007", in_task("meta = {}\nmeta {}"), &["Duplicate meta block"]),
        ("val-007", in_task("env = {}\nenv {}"), &["Duplicate env block"]),
        ("val-008", in_task("kill_timeout = \"1d\""), &["Unsuitable duration value", "unknown unit \"d\""]),
        ("val-008", in_task("kill_timeout = \"ten\""), &["Unsuitable duration value"]),
        ("val-008", in_task("kill_timeout = null"), &["Unsuitable duration value"]),
        ("val-008", in_task("kill_timeout = []"), &["Unsuitable duration value"]),
        ("val-009", in_job("priority = \"high\""), &["Unsuitable value: a number is required"]),
        ("val-009", in_job("priority = 1.5"), &["Unsuitable value: value must be a whole number"]),
        ("val-009", in_job("datacenters = \"dc1\""), &["Unsuitable value"]),
        ("val-009", in_job("all_at_once = \"maybe\""), &["Unsuitable value"]),
        ("val-010", in_task("lifecycle {}"), &["Missing required argument", "\"hook\""]),
        ("val-011", in_task("action \"a\" {}"), &["Missing required argument", "\"command\""]),
        ("val-012", in_group("scaling {}"), &["Missing required argument", "\"max\""]),
        ("val-013", in_group("scaling {\nmax = 1\ntype = \"odd\"\n}"), &["Invalid group scaling type"]),
        ("val-014", in_task("scaling \"gpu\" {}"), &["scaling policy name must be \"cpu\" or \"mem\""]),
        ("val-015", in_task("scaling \"cpu\" {}\nscaling \"CPU\" {}"), &["Duplicate scaling \"cpu\" block"]),
        ("val-016", in_task("scaling \"mem\" {\ntype = \"vertical_cpu\"\n}"), &["Invalid scaling policy type"]),
        ("val-017", "variables {\nv = 1\n}\n".to_owned() + &variable("default = 1"), &["Duplicate variable"]),
        ("val-017", "variable \"1\" {}\n".to_owned() + &in_job(""), &["Invalid variable name"]),
        ("val-017", variable("type = any\ndefault = 1"), &["Invalid type specification", "an exact type is required"]),
        ("val-017", variable("type = number\ndefault = \"x\""), &["Invalid default value for variable"]),
        ("val-018", variable("type = string"), &["Unset variable \"v\""]),
        (
            "val-020",
            variable("default = 1\nvalidation {\ncondition = var.v > 1\nerror_message = \"too few\"\n}"),
            &["too few"],
        ),
        (
            "val-021",
            variable("default = 1\nvalidation {\ncondition = var.w > 1\nerror_message = \"x\"\n}"),
            &["Invalid reference in variable validation"],
        ),
        (
            "val-021",
            variable("default = 1\nvalidation {\ncondition = 2 > 1\nerror_message = \"x\"\n}"),
            &["Invalid variable validation condition"],
        ),
        (
            "val-023",
            "locals {\na = 1\n}\nlocals {\na = 2\n}\n".to_owned() + &in_job(""),
            &["Duplicate value in locals"],
        ),
        (
            "val-023",
            "locals {\na = local.b\nb = local.a\n}\n".to_owned() + &in_job(""),
            &["does not have an attribute named"],
        ),
        ("val-024", in_job("meta {\na = file(\"/etc/passwd\")\n}"), &["filesystem function disabled"]),
        // the reference lets the last one win without a word
        ("val-025", in_group("volume \"v\" {}\nvolume \"v\" {}"), &["Duplicate volume block", "a name of its own"]),
    ];
    for (rule, text, words) in cases {
        let why = parse(&text).expect_err(&text);
        for word in words {
            assert!(why.contains(word), "{rule}: {word:?} expected\n{text}\n{why}");
        }
    }
}

#[test]
fn val_019_val_022_values_from_outside_are_checked_against_what_is_declared() {
    let text = format!("variable \"v\" {{\ntype = number\n}}\n{}", in_job("priority = var.v"));
    let given = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let strict = |inputs: Inputs<'_>| with(&Inputs { strict_vars: true, ..inputs }, &text);
    let why = strict(Inputs { vars: given("v", "x"), ..Inputs::default() }).unwrap_err();
    assert!(why.contains("Invalid argument value for -var variable"), "{why}");
    let why = strict(Inputs { var_files: given("f", "v = \"x\""), ..Inputs::default() }).unwrap_err();
    assert!(why.contains("Invalid value for variable"), "{why}");
    let set = Inputs { env: given("NOMAD_VAR_v", "7"), ..Inputs::default() };
    assert_eq!(strict(set).unwrap()["Priority"], 7);
    let both = |vars| Inputs { env: given("NOMAD_VAR_v", "7"), vars, ..Inputs::default() };
    assert!(strict(both(given("w", "1"))).unwrap_err().contains("Undefined -var variable"));
    let lenient = jobspec::parse(Source { name: "a.hcl", text: &text }, &both(given("w", "1"))).unwrap();
    assert_eq!(lenient.warnings.len(), 1);
    let file = Inputs { var_files: given("f", "w = 1"), ..both(Vec::new()) };
    assert!(strict(file).unwrap_err().contains("Undefined variable"));
}

#[test]
fn our_own_name_of_a_variable_is_stronger_than_the_references() {
    let text = "variable \"v\" {\n}\n".to_owned() + &in_job("name = var.v");
    let env = [("STEPPE_VAR_v", "ours"), ("NOMAD_VAR_v", "theirs"), ("HOME_VAR_v", "no")];
    let inputs = Inputs { env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(), ..Inputs::default() };
    assert_eq!(with(&inputs, &text).unwrap()["Name"], "ours");
}

/// Rule, file, place in the job, what is there.
#[test]
fn what_the_parser_moves_or_fills_in_is_there() {
    let task = "/TaskGroups/0/Tasks/0";
    let cases: Vec<(&str, String, String, Value)> = vec![
        ("val-026", in_job(""), "/ID".into(), json!("j")),
        ("val-026", in_job(""), "/Name".into(), json!("j")),
        ("val-026", in_job("id = \"x\""), "/ID".into(), json!("x")),
        ("val-027", in_job("periodic {\ncron = \"@daily\"\n}"), "/Periodic/SpecType".into(), json!("cron")),
        ("val-027", in_job("periodic {\ncrons = [\"@daily\"]\n}"), "/Periodic/SpecType".into(), json!("cron")),
        ("val-028", in_job("group \"g\" {}\ntask \"t\" {}"), "/TaskGroups/0/Name".into(), json!("t")),
        ("val-028", in_job("group \"g\" {}\ntask \"t\" {}"), "/TaskGroups/0/Tasks/0/Name".into(), json!("t")),
        ("val-028", in_job("group \"g\" {}\ntask \"t\" {}"), "/TaskGroups/1/Name".into(), json!("g")),
        ("val-029", in_job("vault {}\ntask \"t\" {}"), format!("{task}/Vault/Env"), json!(true)),
        ("val-029", in_job("vault {}\ntask \"t\" {}"), format!("{task}/Vault/DisableFile"), json!(false)),
        ("val-029", in_job("vault {}\ntask \"t\" {}"), format!("{task}/Vault/ChangeMode"), json!("restart")),
        ("val-029", in_group("vault {\nrole = \"r\"\n}\ntask \"t\" {}"), format!("{task}/Vault/Role"), json!("r")),
        ("val-029", in_group("secret \"s\" {}\ntask \"t\" {}"), format!("{task}/Secrets/0/Name"), json!("s")),
        ("val-030", in_task("template {}"), format!("{task}/Templates/0/ChangeMode"), json!("restart")),
        ("val-030", in_task("template {}"), format!("{task}/Templates/0/Perms"), json!("0644")),
        ("val-030", in_task("template {}"), format!("{task}/Templates/0/Splay"), json!(5_000_000_000_i64)),
        ("val-030", in_task("template {}"), format!("{task}/Templates/0/ErrMissingKey"), json!(false)),
        (
            "val-030",
            in_task("template {\nchange_script {}\n}"),
            format!("{task}/Templates/0/ChangeScript/Timeout"),
            json!(5_000_000_000_i64),
        ),
        (
            "val-031",
            in_group("network {\nport \"a\" {\nstatic = 80\n}\nport \"b\" {}\n}"),
            "/TaskGroups/0/Networks/0/ReservedPorts/0/Value".into(),
            json!(80),
        ),
        ("val-032", in_task("identity {\nfile = true\n}"), format!("{task}/Identity/File"), json!(true)),
        ("val-032", in_task("identity {\nname = \"x\"\n}"), format!("{task}/Identities/0/Name"), json!("x")),
    ];
    for (rule, text, place, want) in cases {
        let job = parse(&text).unwrap();
        assert_eq!(job.pointer(&place), Some(&want), "{rule}: {place}\n{text}");
    }
}

/// Where the reference ignores what somebody wrote.
#[test]
fn nothing_that_was_written_is_ignored() {
    let constraint = |inner: &str| parse(&in_job(&format!("constraint {{\nattribute = \"${{meta.x}}\"\n{inner}\n}}")));
    for (shorthand, operator, value) in [
        ("set_contains_all = \"a,b\"", "set_contains_all", "a,b"),
        ("set_contains_any = \"a,b\"", "set_contains_any", "a,b"),
        ("is_set = true", "is_set", ""),
        ("is_set = \"false\"", "is_not_set", ""),
        ("is_not_set = true", "is_not_set", ""),
        ("version = \"> 1\"\noperator = \"version\"", "version", "> 1"),
        ("distinct_property = \"${meta.rack}\"\nvalue = \"2\"", "distinct_property", "2"),
    ] {
        let made = constraint(shorthand).unwrap()["Constraints"][0].clone();
        assert_eq!((&made["Operand"], &made["RTarget"]), (&json!(operator), &json!(value)), "{shorthand}");
    }
    let alone = parse(&in_job("constraint {\nis_set = \"${meta.y}\"\n}")).unwrap();
    assert_eq!(alone["Constraints"][0]["LTarget"], "${meta.y}");
    for both in [
        "version = \"1\"\nregexp = \"x\"",
        "regexp = \"x\"\noperator = \"=\"",
        "regexp = \"x\"\nvalue = \"y\"",
        "is_set = true\nvalue = \"y\"",
        "distinct_hosts = true\ndistinct_property = \"${meta.rack}\"",
    ] {
        assert!(constraint(both).unwrap_err().contains("Conflicting arguments"), "{both}");
    }
    assert!(constraint("is_set = \"perhaps\"").unwrap_err().contains("is true or false"));
    let affinity = parse(&in_job("affinity {\nattribute = \"a\"\nversion = \"1\"\nsemver = \"1.0.0\"\n}"));
    assert!(affinity.unwrap_err().contains("\"version\" and \"semver\" make two"));

    let ports = parse(&in_group(
        "network {\nreserved_ports \"a\" {\nstatic = 22\n}\nport \"b\" {}\nport \"c\" {\nstatic = 80\n}\n}",
    ))
    .unwrap();
    let network = &ports["TaskGroups"][0]["Networks"][0];
    let labels: Vec<&Value> = network["ReservedPorts"].as_array().unwrap().iter().map(|port| &port["Label"]).collect();
    assert_eq!((labels, &network["DynamicPorts"][0]["Label"]), (vec![&json!("a"), &json!("c")], &json!("b")));
    let twice = in_task("identity {\nenv = true\n}\nidentity {\nname = \"default\"\n}");
    assert!(parse(&twice).unwrap_err().contains("Duplicate identity block"));
    let gateway = "service {\nconnect {\ngateway {\nproxy {\nenvoy_gateway_bind_addresses \"a\" {}\nenvoy_gateway_bind_addresses \"a\" {}\n}\n}\n}\n}";
    assert!(parse(&in_group(gateway)).unwrap_err().contains("Duplicate envoy_gateway_bind_addresses block"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let text = format!("\u{feff}{}", in_job("prioritty = 1"));
    assert!(parse(&text).unwrap_err().starts_with("a.hcl:2,1-10: Unsupported argument"));
    assert_eq!(parse("\u{feff}{\"job\": {\"j\": {\"priority\": 7}}}").unwrap()["Priority"], 7);
    assert_eq!(parse(&format!("\u{feff}{}", in_job("")).replace('\n', "\r\n")).unwrap()["ID"], "j");
}

/// What is wrong outside the job and inside it is told together; what only follows from it is not.
#[test]
fn all_mistakes_of_meaning_are_told_at_once() {
    let text = "variable \"unset\" {\n}\nvariable \"bad\" {\n  type = number\n  default = \"x\"\n}\nvariable \"good\" {\n  default = 5\n}\nlocals {\n  follows = var.bad + 1\n  broken = upper(1, 2)\n  fine = var.good + 1\n}\nbogus {}\njob \"j\" {\n  priority = var.unset\n  name = local.follows\n  region = local.broken\n  datacentres = []\n  type = local.fine > 5 ? local.typo : \"x\"\n  group \"g\" {\n    dynamic \"task\" {\n      for_each = var.unset\n      content {}\n    }\n    count = \"many\"\n  }\n}\n";
    let found = jobspec::parse(Source { name: "a.hcl", text }, &Inputs::default()).unwrap_err();
    let words = found.reference_text();
    for expected in [
        "Unsupported block type; Blocks of type \"bogus\"",
        "Unset variable \"unset\"",
        "Invalid default value for variable",
        "Too many function arguments",
        "Did you mean \"datacenters\"?",
        "does not have an attribute named \"typo\"",
        "a number is required",
    ] {
        assert!(words.contains(expected), "{expected} expected in\n{words}");
    }
    // and one more for the value that the conditional cannot have
    assert_eq!(found.list.len(), 8, "{words}");
}
