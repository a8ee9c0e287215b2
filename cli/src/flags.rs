//! What was typed on a command line, taken apart: Go-style flags and arguments.
//!
//! A flag is `-name`, `--name`, `-name=value` or `-name value`. A switch takes a value only after `=`.
//! `--` ends the flags; `-` alone is an argument. Flags may stand after arguments too. Every command's
//! flags are a table ([`Flag`]), from which parsing and help both come.
//!
//! How it fails: an unknown flag, a value that does not fit, a missing value; each is a sentence with the
//! flag's name in it, and with the nearest known name where one is near.

use std::collections::BTreeMap;

use model::Nanos;
use model::time::parse_go_duration;

/// What a flag's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A switch, on without a value.
    Bool,
    Text,
    Int,
    Uint,
    /// `1h30m`, `500ms`.
    Duration,
    /// May be given several times.
    List,
}

/// One flag of a command.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    /// Its value when it is not given; empty for none.
    pub default: &'static str,
    /// How help names the value.
    pub value: &'static str,
    pub help: &'static str,
}

/// A switch that is off.
pub const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::Bool, default: "", value: "", help }
}

/// A text that is empty.
pub const fn text(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::Text, default: "", value, help }
}

/// A text that may be given several times.
pub const fn list(name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::List, default: "", value, help }
}

/// Any other flag.
pub const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, value, help }
}

/// Why a command line was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    #[error("flag provided but not defined: -{name}")]
    Unknown { name: String, near: Option<&'static str> },
    #[error("flag needs an argument: -{0}")]
    NoValue(&'static str),
    #[error("invalid value {value:?} for flag -{name}: {expected} expected")]
    BadValue { name: &'static str, value: String, expected: &'static str },
}

impl FlagError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { near: Some(near), .. } => Some(format!("did you mean -{near}?")),
            _ => None,
        }
    }
}

/// A command line taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    values: BTreeMap<&'static str, Vec<String>>,
    defaults: BTreeMap<&'static str, &'static str>,
    pub args: Vec<String>,
    /// `-h` or `-help` was given.
    pub help: bool,
}

impl Parsed {
    /// Whether the flag was given.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value: the last one given, or the default.
    pub fn text(&self, name: &str) -> &str {
        let given = self.values.get(name).and_then(|values| values.last()).map(String::as_str);
        given.unwrap_or_else(|| self.defaults.get(name).copied().unwrap_or(""))
    }

    /// The value, unless it is empty.
    pub fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    pub fn is(&self, name: &str) -> bool {
        boolean(self.text(name)).unwrap_or(false)
    }

    /// All values given.
    pub fn list(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// What was typed, flags only and each with a blank behind it, without those named.
    pub fn again(&self, without: &[&str]) -> String {
        let given = self.values.iter().filter(|(name, _)| !without.contains(name));
        let words = given.flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        words.map(|(name, value)| format!("-{name}={} ", crate::command::quoted(value))).collect()
    }

    /// A number; values were checked when they were read.
    pub fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    pub fn uint(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    pub fn duration(&self, name: &str) -> Nanos {
        parse_go_duration(self.text(name)).unwrap_or_default()
    }
}

/// Takes `line` apart by the tables.
///
/// # Errors
/// See [`FlagError`]; the first problem ends it.
pub fn parse(tables: &[&'static [Flag]], line: &[String]) -> Result<Parsed, FlagError> {
    parse_until(tables, line, usize::MAX)
}

/// The same for a command whose arguments are a command line of their own: after so many arguments, the rest is
/// taken as it is.
///
/// # Errors
/// As [`parse`].
pub fn parse_until(tables: &[&'static [Flag]], line: &[String], args_max: usize) -> Result<Parsed, FlagError> {
    let known = || tables.iter().flat_map(|table| table.iter());
    let mut parsed = Parsed::default();
    for flag in known().filter(|flag| !flag.default.is_empty()) {
        parsed.defaults.insert(flag.name, flag.default);
    }
    let mut rest = line.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            parsed.args.extend(rest.cloned());
            break;
        }
        let Some(body) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|body| !body.is_empty())
        else {
            parsed.args.push(word.clone());
            if parsed.args.len() >= args_max {
                parsed.args.extend(rest.cloned());
                break;
            }
            continue;
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        let Some(flag) = known().find(|flag| flag.name == name) else {
            if matches!(name, "h" | "help") {
                parsed.help = true;
                continue;
            }
            let near = nearest(name, known().map(|flag| flag.name));
            return Err(FlagError::Unknown { name: name.to_owned(), near });
        };
        let value = match (flag.kind, inline) {
            (_, Some(value)) => value,
            (Kind::Bool, None) => "true".to_owned(),
            (_, None) => rest.next().cloned().ok_or(FlagError::NoValue(flag.name))?,
        };
        check(flag, &value)?;
        parsed.values.entry(flag.name).or_default().push(value);
    }
    Ok(parsed)
}

fn check(flag: &Flag, value: &str) -> Result<(), FlagError> {
    let expected = match flag.kind {
        Kind::Text | Kind::List => return Ok(()),
        Kind::Bool if boolean(value).is_some() => return Ok(()),
        Kind::Int if value.parse::<i64>().is_ok() => return Ok(()),
        Kind::Uint if value.parse::<u64>().is_ok() => return Ok(()),
        Kind::Duration if parse_go_duration(value).is_some() => return Ok(()),
        Kind::Bool => "true or false",
        Kind::Int => "a whole number",
        Kind::Uint => "a whole number, not below zero,",
        Kind::Duration => "a duration such as 1h30m or 500ms",
    };
    Err(FlagError::BadValue { name: flag.name, value: value.to_owned(), expected })
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The known name nearest to what was typed, if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if typed.is_empty() || typed.len() > 64 {
        return None;
    }
    let allowed = (typed.chars().count() / 3).clamp(1, 3);
    let with_distance = known.map(|name| (strsim::damerau_levenshtein(typed, name), name));
    with_distance.filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        switch("detach", ""),
        flag("diff", Kind::Bool, "true", "", ""),
        text("address", "ADDR", ""),
        list("var", "K=V", ""),
        flag("n", Kind::Int, "-1", "N", ""),
        flag("wait", Kind::Duration, "2s", "TIME", ""),
    ];

    fn of(words: &[&str]) -> Result<Parsed, FlagError> {
        parse(&[TABLE], &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_dash_and_two_mean_the_same() {
        for words in [["-detach", "-address=x", "f"], ["--detach", "--address=x", "f"]] {
            let parsed = of(&words).unwrap();
            assert!(parsed.is("detach"));
            assert_eq!((parsed.text("address"), parsed.args.as_slice()), ("x", ["f".to_owned()].as_slice()));
        }
    }

    #[test]
    fn a_value_follows_as_a_word_or_after_an_equals_sign() {
        let parsed = of(&["-address", "x", "-var", "a=b=c", "-var=d=", "-n", "-5", "job"]).unwrap();
        assert_eq!(parsed.text("address"), "x");
        assert_eq!(parsed.list("var"), ["a=b=c", "d="]);
        assert_eq!(parsed.int("n"), -5);
        assert_eq!(parsed.args, ["job"]);
    }

    #[test]
    fn a_switch_takes_no_word_and_may_be_turned_off() {
        let parsed = of(&["-detach", "false", "-diff=false"]).unwrap();
        assert!(parsed.is("detach") && !parsed.is("diff"));
        assert_eq!(parsed.args, ["false"]);
        assert!(of(&[]).unwrap().is("diff"), "the default counts");
    }

    #[test]
    fn flags_may_follow_arguments_and_two_dashes_end_them() {
        let parsed = of(&["a", "-detach", "-", "--", "-n", "--"]).unwrap();
        assert!(parsed.is("detach"));
        assert_eq!(parsed.args, ["a", "-", "-n", "--"]);
    }

    #[test]
    fn a_command_line_among_the_arguments_keeps_its_flags() {
        let words: Vec<String> = ["-detach", "id", "-n", "3", "ls", "-la", "--", "x"].map(str::to_owned).to_vec();
        let parsed = parse_until(&[TABLE], &words, 2).unwrap();
        assert_eq!(parsed.args, ["id", "ls", "-la", "--", "x"]);
        assert!(parsed.is("detach") && parsed.int("n") == 3);
    }

    #[test]
    fn a_misspelt_flag_is_answered_with_the_one_that_was_meant() {
        let error = of(&["-adress=x"]).unwrap_err();
        assert_eq!(error.to_string(), "flag provided but not defined: -adress");
        assert_eq!(error.hint().as_deref(), Some("did you mean -address?"));
        assert_eq!(of(&["-zzzzzz"]).unwrap_err().hint(), None);
    }

    #[test]
    fn values_that_do_not_fit_are_refused_with_what_would() {
        assert_eq!(of(&["-n=x"]).unwrap_err().to_string(), "invalid value \"x\" for flag -n: a whole number expected");
        assert!(of(&["-wait", "5"]).is_err() && of(&["-detach=maybe"]).is_err());
        assert_eq!(of(&["-address"]).unwrap_err(), FlagError::NoValue("address"));
        assert_eq!(of(&["-wait=1m"]).unwrap().duration("wait"), Nanos::from_secs(60));
        assert_eq!(of(&[]).unwrap().duration("wait"), Nanos::from_secs(2));
    }
}
