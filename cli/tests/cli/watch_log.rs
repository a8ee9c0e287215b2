//! `monitor`: a machine's log.
use crate::fake::Fake;
use serde_json::json;

const NODE: &str = "bbbbbbbb-1111-4111-8111-000000000001";

#[test]
fn lines_are_printed_as_the_machine_wrote_them_and_beats_are_not() {
    let path = "/v1/agent/monitor";
    let fake = Fake::start()
        .get("/v1/nodes", json!([{"ID": NODE, "Name": "n1", "Status": "ready"}]))
        .get(path, json!("{\"Data\":\"YQo=\"}{}{\"Data\":\"Ygo=\"}{}"));
    let done = fake.run(&["monitor", "-log-level", "DEBUG", "-node-id", "bbbb", "-json", "-log-include-location"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, "a\nb\n", ""));
    let query = fake.asked_for("GET", path).query;
    for part in ["log_level=DEBUG", &format!("node_id={NODE}"), "log_json=true", "log_include_location=true"] {
        assert!(query.contains(part), "{query}");
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let fake = Fake::start().reply("GET", "/v1/agent/monitor", 404, 0, json!("unknown Nomad server x"));
    let done = fake.run(&["monitor", "-server-id", "x"]);
    assert_eq!(done.code, 1);
    assert!(
        done.err.starts_with("Error starting monitor: ") && done.err.contains("unknown Nomad server x"),
        "{}",
        done.err
    );
}
