//! An operator's certificates, made in a directory of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn steppe(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_steppe"))
        .args(words)
        .current_dir(dir)
        .env_clear()
        // They call nobody, and do not stumble over what is for calls.
        .env("NOMAD_ADDR", "https://nowhere.example")
        .env("NOMAD_CACERT", "/nowhere.pem")
        .output()
        .unwrap()
}

fn good(dir: &Path, words: &[&str]) -> String {
    let done = steppe(dir, words);
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn bad(dir: &Path, words: &[&str]) -> String {
    let done = steppe(dir, words);
    assert_eq!(done.status.code(), Some(1), "{words:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn certificates_get_the_usual_names_keys_are_private_and_nothing_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &["tls", "ca", "create", "-name-constraint", "-additional-domain", "example"]);
    let info = good(dir, &["tls", "ca", "info", "nomad-agent-ca.pem"]);
    assert!(info.contains("Permitted DNS Domains = nomad, localhost, example"), "{info}");
    let said = good(dir, &["tls", "cert", "create", "-server", "-additional-dnsname", "a.example"]);
    assert!(said.contains("==> Server Certificate saved to global-server-nomad.pem"), "{said}");
    good(dir, &["tls", "cert", "create", "-client", "-region", "eu", "-additional-ipaddress", "10.0.0.1"]);
    good(dir, &["tls", "cert", "create", "-cli", "-days", "2"]);
    let info = good(dir, &["tls", "cert", "info", "eu-client-nomad.pem"]);
    for line in ["Common Name   = client.eu.nomad", "DNS Names     = client.eu.nomad, localhost", "127.0.0.1, 10.0.0.1"]
    {
        assert!(info.contains(line), "{line} in {info}");
    }
    let mut names: Vec<_> = dir.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let keys: Vec<_> = names.iter().filter(|name| name.ends_with("-key.pem")).collect();
    assert_eq!(keys.len(), 4, "{names:?}");
    for key in keys {
        let mode = dir.join(key).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{key}");
    }
    let before = std::fs::read(dir.join("nomad-agent-ca-key.pem")).unwrap();
    assert!(bad(dir, &["tls", "ca", "create"]).contains("nomad-agent-ca.pem is there already"));
    std::fs::remove_file(dir.join("nomad-agent-ca.pem")).unwrap();
    assert!(bad(dir, &["tls", "ca", "create"]).contains("nomad-agent-ca-key.pem is there already"));
    assert_eq!(std::fs::read(dir.join("nomad-agent-ca-key.pem")).unwrap(), before);
}

#[test]
fn what_makes_no_sense_is_refused_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(bad(dir, &["tls", "cert", "create", "-server"]).contains("nomad-agent-ca.pem"));
    good(dir, &["tls", "ca", "create"]);
    for (words, text) in [
        (&["-server", "-cli"][..], "one of -server, -client and -cli"),
        (&[], "one of -server, -client and -cli"),
        (&["-server", "-days", "0"], "days must be"),
        (&["-server", "-domain", "../x"], "is no name"),
        (&["-server", "-additional-ipaddress", "x"], "no IP address"),
        (&["-server", "-additional-dnsname", "a b"], "no name"),
    ] {
        let words: Vec<&str> = ["tls", "cert", "create"].iter().chain(words).copied().collect();
        let said = bad(dir, &words);
        assert!(said.contains(text), "{words:?}: {said}");
    }
    assert!(bad(dir, &["tls", "cert", "info", "nomad-agent-ca-key.pem"]).contains("no certificate"));
    assert_eq!(dir.read_dir().unwrap().count(), 2);
}
