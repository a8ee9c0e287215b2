//! What is read again is compared with what was read before.
#![allow(clippy::unwrap_used)]

use config::{Config, Source, changed, load};

fn read(text: &str) -> Config {
    let text = format!("data_dir = \"/d\" server {{ enabled = true bootstrap_expect = 1 }} {text}");
    load(&[Source { name: String::new(), text }], &[], false).unwrap().config
}

#[test]
fn what_differs_is_named_by_its_key_and_never_by_its_value() {
    let before = read("client { meta { a = \"1\" } }");
    assert_eq!(changed(&before, &before.clone()), Vec::<String>::new());
    let after =
        read("client { meta { a = \"2\" } } limits { http_max_conns_per_client = 7 } autopilot { min_quorum = 3 }");
    assert_eq!(changed(&before, &after), ["client.meta", "limits.http_max_conns_per_client", "autopilot"]);
}
