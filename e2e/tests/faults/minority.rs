//! Who is cut off from the majority says so at once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::fleet::{Fleet, Shape, sleeping_job};
use model::Role;
use serde_json::Value;

/// An answer as it came.
struct Answer {
    status: u16,
    headers: String,
    body: String,
    took: Duration,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    }
}

fn ask(address: &str, method: &str, path: &str, body: &str) -> Answer {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (first, headers) = head.split_once("\r\n").unwrap();
    let status = first.split_whitespace().nth(1).unwrap().parse().unwrap();
    Answer { status, headers: headers.to_owned(), body: body.to_owned(), took: began.elapsed() }
}

/// federation-010
#[tokio::test]
async fn a_minority_refuses_writes_and_default_reads_within_a_second_and_answers_stale_ones() {
    let fleet = Fleet::start(Shape::SMALL).await;
    let address = fleet.address(0);
    let job = |id: &str| sleeping_job(id, 0).to_string();
    assert_eq!(ask(&address, "PUT", "/v1/jobs", &job("before")).status, 200);
    let leader = fleet.leader().await;
    let follower = fleet.of(Role::State).into_iter().find(|name| *name != leader).unwrap();
    for left in [leader, follower] {
        let cut: Vec<String> = fleet.of(Role::State).into_iter().filter(|name| *name != left).collect();
        cut.iter().for_each(|name| fleet.signal(name, "-STOP"));
        let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        // From the first moment on: nobody knows yet that there is no majority.
        for n in 0..4 {
            for (method, path, body) in
                [("GET", "/v1/jobs", String::new()), ("PUT", "/v1/jobs", job(&format!("{left}-{n}")))]
            {
                let answer = ask(&address, method, path, &body);
                let said = (answer.status, answer.header("Retry-After"));
                let what = format!("{method} {path} with {left} alone, {n}: {said:?} {}", answer.body);
                assert!(matches!(answer.status, 500 | 504) && answer.header("Retry-After") == Some("1"), "{what}");
                took.entry(method).or_default().push(answer.took);
            }
            let stale = ask(&address, "GET", "/v1/jobs?stale", "");
            let jobs: Value = serde_json::from_str(&stale.body).unwrap();
            assert!(stale.status == 200 && jobs.as_array().is_some_and(|all| all.iter().any(|j| j["ID"] == "before")));
        }
        // A busy machine only adds to it; what is held for a leader that is merely slow takes five seconds and more.
        println!("{left} alone: {took:?}");
        for (method, mut took) in took {
            took.sort();
            assert!(took[1] <= Duration::from_secs(1), "{method} with {left} alone: {took:?}");
            assert!(took[3] <= Duration::from_secs(2), "{method} with {left} alone: {took:?}");
        }
        cut.iter().for_each(|name| fleet.signal(name, "-CONT"));
        fleet.until("/v1/jobs", "default reads are answered again", Value::is_array).await;
        fleet.until_ready().await;
    }
}
