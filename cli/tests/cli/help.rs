//! Help, and what happens to words that are not commands.
use crate::fake::run;

#[test]
fn help_is_what_the_golden_file_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/help.txt");
    let now = cli::command::help::everything();
    if std::env::var_os("STEPPE_BLESS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(golden == now, "help has changed: look at it and run this test with STEPPE_BLESS=1");
}

#[test]
fn every_line_of_help_fits_a_terminal_and_ends_in_ink() {
    for line in cli::command::help::everything().lines() {
        assert!(line.chars().count() <= 120, "{line}");
        assert_eq!(line, line.trim_end(), "{line:?}");
    }
}

#[test]
fn no_two_commands_share_a_name_and_none_is_both_built_and_not() {
    use cli::command::table::{NOT_BUILT, commands};
    let mut seen = std::collections::BTreeSet::new();
    for command in commands() {
        for name in command.aliases.iter().chain([&command.path]) {
            assert!(seen.insert(*name), "{name}");
            assert!(!NOT_BUILT.iter().any(|n| n == name || name.starts_with(&format!("{n} "))), "{name}");
        }
        let names: Vec<_> = command.tables().concat().iter().map(|flag| flag.name).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{} has a flag twice", command.path);
    }
}

#[test]
fn help_of_a_command_and_of_a_group_goes_to_stdout() {
    for words in [&["job", "run", "-h"][..], &["run", "--help"], &["job", "-help"], &["-help"], &["dev", "-help"]] {
        let done = run(words, &[]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{words:?}");
        assert!(done.out.starts_with("Usage: steppe "), "{words:?}");
    }
}

#[test]
fn an_unknown_command_is_127_with_the_one_that_was_meant() {
    let done = run(&["job", "stauts", "x"], &[]);
    assert_eq!((done.code, done.out.as_str()), (127, ""));
    assert_eq!(done.err, "There is no command \"steppe job stauts x\"\nhint: did you mean `steppe job status`?\n");
    assert_eq!(run(&["job"], &[]).code, 127);
    assert_eq!(run(&[], &[]).code, 127);
    let done = run(&["volume", "create", "f"], &[]);
    assert_eq!((done.code, done.err.lines().next()), (1, Some("steppe volume is not built yet")));
}

#[test]
fn misuse_is_answered_with_what_would_be_right() {
    let done = run(&["job", "run", "-detahc", "f"], &[]);
    assert_eq!(done.code, 1);
    assert_eq!(done.err, "flag provided but not defined: -detahc\nhint: did you mean -detach?\n");
    let done = run(&["job", "run"], &[]);
    assert_eq!(done.err.lines().next(), Some("This command takes one argument: <path>"));
    assert_eq!(run(&["job", "plan"], &[]).code, 255);
    assert_eq!(run(&["version", "-json"], &[]).code, 1);
    assert!(run(&["version"], &[]).out.starts_with("Steppe v"));
    assert_eq!(run(&["-version"], &[]).out, run(&["version"], &[]).out);
}
