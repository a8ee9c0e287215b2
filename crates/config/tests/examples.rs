//! The files in `dist/` are what this version takes.
#![allow(clippy::unwrap_used)]

use config::{Source, load};

#[test]
fn the_example_configurations_load_without_a_warning_once_they_have_a_key_of_their_own() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "hcl") {
            continue;
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let placeholder = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        if text.contains(placeholder) {
            let shipped = load(&[Source { name: name.clone(), text: text.clone() }], &[], false).unwrap_err();
            let [sentence] = shipped.as_slice() else { panic!("{shipped:#?}") };
            assert!(sentence.starts_with("server.encrypt: it is the example's placeholder"), "{sentence}");
            assert!(sentence.contains("`steppe operator gossip keyring generate`"), "{sentence}");
        }
        assert_eq!(text.contains(placeholder), path.ends_with("server.hcl"));
        let text = text.replace(placeholder, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=");
        let loaded = load(&[Source { name, text }], &[], false).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.config.server.bootstrap_expect == 3, path.ends_with("server.hcl"));
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn the_unit_leaves_tasks_running_and_lets_them_have_cgroups() {
    let unit = include_str!("../../../dist/steppe.service");
    for line in ["KillMode=process", "Delegate=yes", "ExecReload=/bin/kill -HUP $MAINPID"] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
}
