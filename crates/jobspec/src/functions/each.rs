//! One test per function, by its name: what it gives, and how it refuses. `tests.rs` has what functions do
//! together.

use serde_json::json;

use super::tests::{all, eval, fails, with_files};

/// A test of the function's name; and the list of all, so that none is forgotten.
macro_rules! each {
    ($($name:ident { $($text:literal => $want:tt)* $(; $($bad:literal : $words:literal)*)? })*) => {
        $(#[test]
        fn $name() {
            all(&[$(($text, json!($want))),*]);
            $(fails(&[$(($bad, $words)),*]);)?
            $(assert!($text.contains(concat!(stringify!($name), "(")), "{} is about another function", $text);)*
        })*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

each! {
    abs { "abs(-3.5)" => 3.5 "abs(\"-4\")" => 4; "abs(null)": "must not be null" "abs(\"x\")": "a number is required" }
    base64decode { "base64decode(\"aMOkIQ==\")" => "hä!"; "base64decode(\"%\")": "failed to decode base64 data" "base64decode(\"/w==\")": "UTF-8" }
    base64encode { "base64encode(\"hä!\")" => "aMOkIQ==" "base64encode(\"\")" => "" }
    can { "can({}.a)" => false "can(1 + 1)" => true "can(parseint(\"x\", 10))" => false }
    ceil { "ceil(1.2)" => 2 "ceil(-1.2)" => (-1) }
    chomp { "chomp(\"a\\n\\n\")" => "a" "chomp(\"a\\r\\n\")" => "a" "chomp(\" a \")" => " a " }
    chunklist { "chunklist([1, 2, 3], 2)" => [[1, 2], [3]] "chunklist([], 2)" => []; "chunklist([1], -1)": "size" }
    cidrhost { "cidrhost(\"10.12.112.0/20\", 16)" => "10.12.112.16" "cidrhost(\"10.12.112.0/20\", -1)" => "10.12.127.255"; "cidrhost(\"10.0.0.0/30\", 4)": "does not accommodate a host numbered 4" }
    cidrnetmask { "cidrnetmask(\"172.16.0.0/12\")" => "255.240.0.0"; "cidrnetmask(\"::/0\")": "only IPv4" }
    cidrsubnet { "cidrsubnet(\"172.16.0.0/12\", 4, 2)" => "172.18.0.0/16"; "cidrsubnet(\"::/0\", 33, 0)": "more than 32 bits" }
    cidrsubnets { "cidrsubnets(\"10.1.0.0/16\", 4, 8)" => ["10.1.0.0/20", "10.1.16.0/24"]; "cidrsubnets(\"10.0.0.0/31\", 1, 1, 1)": "not enough remaining address space" }
    coalesce { "coalesce(null, \"\", \"b\")" => ""; "coalesce(null)": "no non-null arguments" }
    coalescelist { "coalescelist([], [1])" => [1]; "coalescelist([])": "no non-null" }
    compact { "compact([\"a\", \"\", \"b\"])" => ["a", "b"] }
    concat { "concat([1], [\"a\"], [])" => [1, "a"] }
    contains { "contains([\"a\", \"b\"], \"b\")" => true "contains([\"a\"], \"z\")" => false }
    convert { "convert([\"2\", \"1\", \"2\"], set(number))" => [1, 2] "convert(true, string)" => "true" "convert(\"7\", number)" => 7; "convert(\"x\", number)": "a number is required" "convert(1, any)": "an exact type is required" }
    csvdecode { "csvdecode(\"a,b\\n1,\\\"x,y\\\"\\n\")" => [{"a": "1", "b": "x,y"}]; "csvdecode(\"a,a\\n\")": "duplicate column name" }
    distinct { "distinct([\"b\", \"a\", \"b\"])" => ["b", "a"] }
    element { "element([\"a\", \"b\"], 3)" => "b"; "element([], 0)": "empty list" }
    flatten { "flatten([[1, [2]], [], 3])" => [1, 2, 3] }
    floor { "floor(-1.2)" => (-2) "floor(1.9)" => 1 }
    format { "format(\"%s-%03d|%5.1f|%q|%v|%%\", \"a\", 7, 1.25, \"q\", [1])" => "a-007|  1.2|\"q\"|[1]|%" "format(\"%[2]s%[1]s\", \"a\", \"b\")" => "ba"; "format(\"%d\", \"x\")": "a number is required" "format(\"%s\")": "not enough arguments" }
    formatdate { "formatdate(\"YYYY-MM-DD'T'hh:mm:ssZ\", \"2018-01-02T23:12:01Z\")" => "2018-01-02T23:12:01Z" "formatdate(\"EEE, D MMM YY h:mm AA\", \"2018-01-02T23:12:01Z\")" => "Tue, 2 Jan 18 23:12 PM"; "formatdate(\"YYYYY\", \"2018-01-02T23:12:01Z\")": "invalid date format verb" }
    formatlist { "formatlist(\"%s-%s\", [\"a\", \"b\"], \"x\")" => ["a-x", "b-x"]; "formatlist(\"%s%s\", [\"a\"], [\"a\", \"b\"])": "different length" }
    indent { "indent(2, \"a\\nb\\nc\")" => "a\n  b\n  c"; "indent(-1, \"a\")": "must not be negative" }
    index { "index([\"a\", \"b\"], 1)" => "b" "index(convert({a = 1}, map(number)), \"a\")" => 1; "index({a = 1}, \"a\")": "must be a list, a map or a tuple" }
    join { "join(\"-\", [\"a\", 1], [true])" => "a-1-true" "join(\",\", [])" => "" }
    jsondecode { "jsondecode(\"{\\\"a\\\": [1, true, null]}\")" => {"a": [1, true, null]}; "jsondecode(\"{\")": "EOF" }
    jsonencode { "jsonencode({b = [1, 2.5, null], a = \"<\"})" => "{\"a\":\"\\u003c\",\"b\":[1,2.5,null]}" }
    keys { "keys({b = 1, a = 2})" => ["a", "b"] }
    length { "length([1, 2])" => 2 "length(convert({a = 1}, map(string)))" => 1; "length(\"abc\")": "must be a list, a map or a tuple" "length({a = 1})": "must be a list, a map or a tuple" }
    log { "log(8, 2)" => 3 "log(1, 10)" => 0 }
    lookup { "lookup({a = 1}, \"a\", 9)" => 1 "lookup({a = 1}, \"b\", 9)" => 9; "lookup({}, \"a\")": "expects 3 arguments" }
    lower { "lower(\"ÄB\")" => "äb" }
    max { "max(1, \"7\", 3)" => 7; "max()": "must pass at least one number" }
    merge { "merge({a = 1}, null, {a = 2, b = 3})" => {"a": 2, "b": 3} }
    min { "min([4, 2]...)" => 2; "min()": "must pass at least one number" }
    parseint { "parseint(\"ff\", 16)" => 255 "parseint(\"Z\", 62)" => 61; "parseint(\"9\", 8)": "cannot parse \"9\" as a base 8 integer" "parseint(\"9\", 63)": "base" }
    pow { "pow(2, 10)" => 1024 "pow(4, 0.5)" => 2; "pow(10, 400)": "not a finite number" }
    range { "range(3)" => [0, 1, 2] "range(3, 0)" => [3, 2, 1] "range(1, 8, 3)" => [1, 4, 7]; "range(2000)": "more than 1024 values" "range(1, 2, 0)": "step must not be zero" }
    reverse { "reverse(\"abc\")" => "cba"; "reverse([1, 2])": "string required" }
    replace { "replace(\"1.2.3\", \".\", \"-\")" => "1-2-3" "replace(\"a1\", \"/[0-9]/\", \"x\")" => "a1" }
    regex_replace { "regex_replace(\"ab\", \"(a)(?P<second>b)\", \"$${second}$1\")" => "ba"; "regex_replace(\"a\", \"(\", \"\")": "unclosed group" }
    setintersection { "setintersection([\"b\", \"c\"], [\"b\"])" => ["b"] }
    setproduct { "setproduct([\"a\"], [\"x\", \"y\"])" => [["a", "x"], ["a", "y"]] }
    setunion { "setunion([\"b\"], [\"a\", \"b\"])" => ["a", "b"] }
    sha256 { "sha256(\"seed\")" => "19b25856e1c150ca834cffc8b59b23adbd0ec0389e58eb22b3b64768098d002b" }
    sha512 { "substr(sha512(\"a\"), 0, 16)" => "1f40fc92da241694" }
    md5 { "md5(\"a\")" => "0cc175b9c0f1b6a831c399e269772661" }
    sha1 { "sha1(\"a\")" => "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8" }
    signum { "signum(-9)" => (-1) "signum(0)" => 0 "signum(3)" => 1 }
    slice { "slice([1, 2, 3], 1, 3)" => [2, 3]; "slice([1], 0, 5)": "not greater than the length" "slice(convert([1], set(number)), 0, 1)": "a list or a tuple" }
    sort { "sort([\"b\", \"a\", \"B\"])" => ["B", "a", "b"] }
    split { "split(\",\", \"a,b,\")" => ["a", "b", ""] "split(\",\", \"\")" => [""] }
    strlen { "strlen(\"e\\u0301\")" => 1 }
    strrev { "strrev(\"e\\u0301x\")" => "xe\u{301}" }
    substr { "substr(\"hello\", 1, 3)" => "ell" "substr(\"hello\", -3, -1)" => "llo" "substr(\"hello\", 9, 2)" => "" }
    timeadd { "timeadd(\"2026-01-01T00:00:00Z\", \"36h\")" => "2026-01-02T12:00:00Z"; "timeadd(\"2026-01-01T00:00:00Z\", \"1d\")": "unknown unit" }
    title { "title(\"hello big-world\")" => "Hello Big-World" }
    trim { "trim(\"?!a!?\", \"!?\")" => "a" }
    trimprefix { "trimprefix(\"aab\", \"a\")" => "ab" }
    trimspace { "trimspace(\" \\t x \\n\")" => "x" }
    trimsuffix { "trimsuffix(\"abb\", \"b\")" => "ab" }
    upper { "upper(\"äb\")" => "ÄB" }
    urlencode { "urlencode(\"a b&ü\")" => "a+b%26%C3%BC" }
    uuidv5 { "uuidv5(\"dns\", \"example.internal\")" => "5ed601e2-2894-5c01-8e70-9fada686cdfe"; "uuidv5(\"nope\", \"x\")": "neither a UUID" }
    values { "values({b = 1, a = 2})" => [2, 1] }
    yamldecode { "yamldecode(\"a: 1\\nb: [x, ~, 0x10]\")" => {"a": 1, "b": ["x", null, 16]}; "yamldecode(\"a: 1\\n---\\nb: 2\")": "only one YAML document" }
    yamlencode { "yamlencode({a = [1], e = null})" => "\"a\":\n- 1\n\"e\": null\n" }
    zipmap { "zipmap([\"a\"], [1])" => {"a": 1}; "zipmap([\"a\"], [])": "does not match" }
}

#[test]
fn bcrypt() {
    let hash = eval("bcrypt(\"a\", 4)").unwrap();
    assert!(hash.as_str().unwrap().starts_with("$2a$04$"), "{hash}");
    assert!(eval("bcrypt(\"a\")").unwrap().as_str().unwrap().starts_with("$2a$10$"));
    fails(&[("bcrypt(\"a\", 31)", "cost must be between")]);
}

#[test]
fn rsadecrypt() {
    // what is right is in `rsa.rs`, with the keys
    fails(&[("rsadecrypt(\"AA==\", \"x\")", "no key found"), ("rsadecrypt(\"%\", \"x\")", "base64")]);
}

#[test]
fn r#try() {
    all(&[("try({}.a, \"fallback\")", json!("fallback")), ("try(1, 2)", json!(1))]);
    fails(&[("try({}.a, {}.b)", "no expression succeeded"), ("try()", "no expression succeeded")]);
}

#[test]
fn uuidv4() {
    let id = eval("uuidv4()").unwrap();
    let id = id.as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14], id.matches('-').count()), (36, b'4', 4), "{id}");
}

/// With a reader lent, what they give; without one, as over the API, a refusal.
macro_rules! each_of_files {
    ($($name:ident { $($text:literal => $want:tt)* })*) => {
        $(#[test]
        fn $name() {
            $(assert_eq!(with_files($text), Ok(json!($want)), "{}", $text);
            assert!(eval($text).unwrap_err().contains("filesystem function disabled"), "{}", $text);)*
        })*
        const TESTED_OF_FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

each_of_files! {
    abspath { "abspath(\"x\")" => "/base/x" }
    basename { "basename(\"a/b/\")" => "b" }
    dirname { "dirname(\"a/./b/../c\")" => "a" }
    file { "file(\"a.txt\")" => "body" }
    filebase64 { "filebase64(\"a.txt\")" => "Ym9keQ==" }
    fileexists { "fileexists(\"b.txt\")" => false "fileexists(\"a.txt\")" => true }
    fileset { "fileset(\".\", \"*\")" => ["a", "b"] }
    pathexpand { "pathexpand(\"~/x\")" => "/home/me/x" }
}

#[test]
fn no_function_is_without_a_test() {
    let mut tested: Vec<&str> = TESTED.iter().chain(TESTED_OF_FILES).copied().collect();
    tested.extend(["bcrypt", "rsadecrypt", "try", "uuidv4"]);
    let mut ours: Vec<&str> = super::names().collect();
    tested.sort_unstable();
    ours.sort_unstable();
    assert_eq!(tested, ours);
    assert_eq!(ours.len(), 83);
}
