//! What holds for every list of the public API: pages, order, filters, prefixes, namespaces, freshness, waiting, bad
//! parameters. One table of lists; each law is asked of all of them.

use std::time::{Duration, Instant};

use crate::support::{Answer, Cluster, job, posted, until};
use serde_json::{Value, json};

struct List {
    path: &'static str,
    /// The field that tells rows apart.
    id: &'static str,
    /// Takes `namespace`; `*` shows all.
    spaced: bool,
    /// Takes `filter`, `per_page`, `next_token` and `reverse`.
    paged: bool,
    prefixed: bool,
}

const fn list(path: &'static str, id: &'static str) -> List {
    List { path, id, spaced: true, paged: true, prefixed: true }
}

const LISTS: [List; 11] = [
    list("/v1/jobs", "ID"),
    List { prefixed: false, ..list("/v1/jobs/statuses", "ID") },
    list("/v1/allocations", "ID"),
    list("/v1/evaluations", "ID"),
    list("/v1/deployments", "ID"),
    list("/v1/scaling/policies", "ID"),
    List { spaced: false, ..list("/v1/nodes", "ID") },
    List { spaced: false, ..list("/v1/node/pools", "Name") },
    List { spaced: false, prefixed: false, ..list("/v1/node/pool/default/nodes", "ID") },
    List { prefixed: false, ..list("/v1/node/pool/default/jobs", "ID") },
    List { spaced: false, paged: false, ..list("/v1/namespaces", "Name") },
];

/// Two namespaces with jobs, and of everything else some rows.
async fn world() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.add_node();
    cluster.send("PUT", "/v1/namespace", &json!({"Name": "other"})).await;
    for name in ["gpu", "edge", "big"] {
        cluster.send("PUT", "/v1/node/pools", &json!({"Name": name})).await;
    }
    for (n, namespace) in (0..9).zip(["default", "default", "other"].into_iter().cycle()) {
        let mut job = posted(&format!("job-{n}"), 1);
        job["Namespace"] = namespace.into();
        job["TaskGroups"][0]["Scaling"] = json!({"Min": 0, "Max": 9});
        cluster.send("PUT", "/v1/jobs", &json!({"Job": job})).await.json();
    }
    for n in [0, 1, 3] {
        cluster.place(&format!("job-{n}"), 2);
    }
    for (n, id) in [(0, "a"), (1, "b"), (3, "c")] {
        let id = format!("{}{}", id.repeat(8), "-1111-4111-8111-000000000001");
        cluster.deploy(&format!("job-{n}"), &id, Default::default());
    }
    cluster
}

fn url(list: &List, query: &str) -> String {
    let everywhere = if list.spaced { "namespace=*" } else { "" };
    format!("{}?{everywhere}&{query}", list.path)
}

fn rows(answer: &Answer) -> Vec<Value> {
    answer.json().as_array().unwrap_or_else(|| panic!("{}", answer.text())).clone()
}

fn ids(list: &List, rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row[list.id].as_str().unwrap().to_owned()).collect()
}

async fn whole(cluster: &Cluster, list: &List) -> Vec<Value> {
    rows(&cluster.get(url(list, "")).await)
}

fn encoded(text: &str) -> String {
    text.replace(' ', "+").replace('"', "%22").replace('=', "%3D").replace('!', "%21")
}

/// Follows the tokens of the pages of a query.
async fn pages(cluster: &Cluster, list: &List, query: &str, per_page: usize) -> Vec<Value> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let answer = cluster.get(url(list, &format!("{query}&per_page={per_page}&next_token={token}"))).await;
        let page = rows(&answer);
        let next = answer.header("x-nomad-nexttoken").to_owned();
        assert!(page.len() == per_page || next.is_empty(), "{}: a short page has no next one", list.path);
        assert!(next.is_empty() || next != token, "{}: pages go on", list.path);
        all.extend(page);
        if next.is_empty() {
            return all;
        }
        token = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_and_direction_give_the_whole_list_once_and_in_order() {
    let cluster = world().await;
    for list in LISTS.iter().filter(|list| list.paged) {
        let all = whole(&cluster, list).await;
        assert!(!all.is_empty(), "{}", list.path);
        let mut backwards = all.clone();
        backwards.reverse();
        assert_eq!(rows(&cluster.get(url(list, "reverse=true")).await), backwards, "{}", list.path);
        for per_page in 1..=all.len() + 1 {
            assert_eq!(pages(&cluster, list, "", per_page).await, all, "{} by {per_page}", list.path);
            assert_eq!(pages(&cluster, list, "reverse=true", per_page).await, backwards, "{} by {per_page}", list.path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_selects_rows_of_the_whole_list_before_pages_are_cut() {
    let cluster = world().await;
    for list in LISTS.iter().filter(|list| list.paged) {
        let all = whole(&cluster, list).await;
        let first = ids(list, &all).remove(0);
        let same = encoded(&format!("filter={} == \"{first}\"", list.id)).replacen("%3D", "=", 1);
        let others = encoded(&format!("filter={} != \"{first}\"", list.id)).replacen("%3D", "=", 1);
        assert_eq!(rows(&cluster.get(url(list, &same)).await), all[..1], "{}", list.path);
        for per_page in [1, 2, 100] {
            assert_eq!(pages(&cluster, list, &others, per_page).await, all[1..], "{} by {per_page}", list.path);
        }
        let bad = cluster.get(url(list, "filter=Nope+%3D%3D+%22x%22")).await;
        assert_eq!(bad.status, 400, "{}: {}", list.path, bad.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_shows_the_rows_that_begin_so() {
    let cluster = world().await;
    for list in LISTS.iter().filter(|list| list.prefixed) {
        let all = ids(list, &whole(&cluster, list).await);
        for id in &all {
            for length in [2, 4, id.len()] {
                let prefix = &id[..length.min(id.len())];
                let mut found = ids(list, &rows(&cluster.get(url(list, &format!("prefix={prefix}"))).await));
                let mut expected: Vec<String> = all.iter().filter(|id| id.starts_with(prefix)).cloned().collect();
                found.sort();
                expected.sort();
                assert_eq!(found, expected, "{} {prefix}", list.path);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_namespaces_are_each_namespace_and_nothing_else() {
    let cluster = world().await;
    for list in LISTS.iter().filter(|list| list.spaced) {
        let of = async |query: &str| {
            let answer = cluster.get(format!("{}{query}", list.path)).await;
            let mut found = ids(list, &rows(&answer));
            found.sort();
            found
        };
        let (default, other) = (of("").await, of("?namespace=other").await);
        assert_eq!(default, of("?namespace=default").await, "{}", list.path);
        let mut both = [default, other].concat();
        both.sort();
        assert_eq!(both, of("?namespace=*").await, "{}", list.path);
        assert_eq!(of("?namespace=nowhere").await, Vec::<String>::new(), "{}", list.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_says_how_fresh_it_is_and_is_read_stale_without_a_leader() {
    let cluster = world().await;
    let mut fresh = Vec::new();
    for list in &LISTS {
        let answer = cluster.get(url(list, "")).await;
        assert!(answer.index() > 0, "{}", list.path);
        let said = ["x-nomad-knownleader", "x-nomad-lastcontact", "x-nomad-nexttoken"].map(|name| answer.header(name));
        assert_eq!(said, ["true", "0", ""], "{}", list.path);
        fresh.push((answer.index(), answer.json()));
    }
    cluster.truth.set_leader(false);
    for (list, (index, body)) in LISTS.iter().zip(fresh) {
        for stale in ["stale", "stale=true"] {
            let answer = cluster.get(url(list, stale)).await;
            assert_eq!((answer.status, answer.index(), answer.json()), (200, index, body.clone()), "{}", list.path);
            assert!(answer.header("x-nomad-lastcontact").parse::<u64>().is_ok(), "{}", list.path);
        }
    }
    let urls: Vec<String> = LISTS.iter().map(|list| url(list, "")).collect();
    let refused = futures::future::join_all(urls.iter().map(|url| cluster.get(url))).await;
    for answer in refused {
        answer.says(500, "No cluster leader");
    }
}

/// Writes a row of the kind that a list shows.
async fn change(cluster: &Cluster, list: &List) {
    match list.path {
        "/v1/allocations" => drop(cluster.place("job-0", 1)),
        "/v1/deployments" => cluster.deploy("job-4", "dddddddd-1111-4111-8111-000000000001", Default::default()),
        "/v1/namespaces" => drop(cluster.send("PUT", "/v1/namespace", &json!({"Name": "third"})).await),
        "/v1/node/pools" => drop(cluster.send("PUT", "/v1/node/pools", &json!({"Name": "small"})).await),
        path if path.contains("nodes") => {
            let path = format!("/v1/node/{}/eligibility", crate::support::NODE);
            cluster.send("PUT", &path, &json!({"Eligibility": "ineligible"})).await.json();
            cluster.send("PUT", &path, &json!({"Eligibility": "eligible"})).await.json();
        }
        path => {
            let mut job = posted(&format!("new-{}", path.len()), 1);
            job["TaskGroups"][0]["Scaling"] = json!({"Min": 0, "Max": 9});
            cluster.send("PUT", "/v1/jobs", &json!({"Job": job})).await.json();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_waits_is_answered_when_its_list_changes_or_its_time_is_over() {
    let cluster = world().await;
    for list in &LISTS {
        let now = cluster.get(url(list, "")).await.index();
        let began = Instant::now();
        let older = cluster.get(url(list, &format!("index={}&wait=30s", now - 1))).await;
        assert_eq!(older.index(), now, "{}", list.path);
        assert!(began.elapsed() < Duration::from_secs(5), "{}: it is newer already", list.path);
        let began = Instant::now();
        let over = cluster.get(url(list, &format!("index={now}&wait=60ms"))).await;
        assert_eq!((over.index(), began.elapsed() >= Duration::from_millis(60)), (now, true), "{}", list.path);
        let path = url(list, &format!("index={now}&wait=60s"));
        let (woken, ()) = tokio::join!(cluster.get(&path), async {
            until(|| cluster.app.watches.waiting() == 1).await;
            change(&cluster, list).await;
        });
        assert!(woken.index() > now, "{}", list.path);
        assert_eq!(cluster.app.watches.waiting(), 0, "{}", list.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_make_no_sense_are_the_caller_s_mistake() {
    let cluster = world().await;
    for list in &LISTS {
        for query in ["index=abc", "index=-1", "index=1&wait=abc", "stale=maybe"] {
            assert_eq!(cluster.get(url(list, query)).await.status, 400, "{} {query}", list.path);
        }
        for query in [
            "per_page=x",
            "per_page=-1",
            "per_page=99999999999",
            "next_token=%00",
            "next_token=....",
            "next_token=99999999999999999999.x",
            "next_token=-1.%C3%A9",
            "filter=%28%28%28",
            "filter=ID",
            "filter=ID+matches+%22%28%22",
            "filter=%00",
            "prefix=%C3%A9",
            "prefix=%00",
            "prefix=zz",
            "namespace=%00",
            "reverse=perhaps",
        ] {
            let answer = cluster.get(url(list, query)).await;
            assert!(matches!(answer.status, 200 | 400), "{} {query}: {} {}", list.path, answer.status, answer.text());
        }
        let deep = format!("filter={}ID%3D%3D%22x%22{}", "%28".repeat(2000), "%29".repeat(2000));
        assert_eq!(cluster.get(url(list, &deep)).await.status, if list.paged { 400 } else { 200 }, "{}", list.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_lists_show_and_say_when_there_is_more() {
    let cluster = world().await;
    for (context, path) in [
        ("jobs", "/v1/jobs"),
        ("allocs", "/v1/allocations"),
        ("evals", "/v1/evaluations"),
        ("deployment", "/v1/deployments"),
        ("nodes", "/v1/nodes"),
        ("node_pools", "/v1/node/pools"),
        ("scaling_policy", "/v1/scaling/policies"),
        ("namespaces", "/v1/namespaces"),
    ] {
        let list = LISTS.iter().find(|list| list.path == path).unwrap();
        for id in ids(list, &whole(&cluster, list).await) {
            let body = json!({"Prefix": id, "Context": context});
            let found = cluster.send("PUT", "/v1/search?namespace=*", &body).await.json();
            let matches = found["Matches"][context].as_array().unwrap();
            assert!(matches.contains(&json!(id)), "{context} {id}: {found}");
            assert_eq!(found["Truncations"][context], false);
        }
    }
    for n in 0..21 {
        cluster.add_job(job(&format!("many-{n}"), 1));
    }
    let body = |text: &str| json!({"Prefix": text, "Text": text, "Context": "jobs"});
    for (path, text) in [("/v1/search", "many"), ("/v1/search/fuzzy", "any")] {
        let found = cluster.send("PUT", path, &body(text)).await.json();
        assert_eq!(found["Matches"]["jobs"].as_array().unwrap().len(), 20, "{path}");
        assert_eq!(found["Truncations"]["jobs"], true, "{path}");
    }
    for path in ["/v1/search", "/v1/search/fuzzy"] {
        for body in [json!({"Prefix": "x", "Text": "xx", "Context": "nope"}), json!([]), json!("x")] {
            assert_eq!(cluster.send("PUT", path, &body).await.status, 400, "{path} {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_are_counted_as_they_are_listed() {
    let cluster = world().await;
    let all = cluster.get("/v1/evaluations?namespace=*").await.json();
    let first = all[0]["ID"].as_str().unwrap().to_owned();
    for query in [
        "namespace=*".to_owned(),
        "namespace=other".into(),
        "namespace=nowhere".into(),
        "".into(),
        format!("namespace=*&prefix={}", &first[..4]),
        "namespace=*&filter=JobID+%3D%3D+%22job-0%22".into(),
        "filter=JobID+%3D%3D+%22none%22".into(),
    ] {
        let listed = cluster.get(format!("/v1/evaluations?{query}")).await;
        let counted = cluster.get(format!("/v1/evaluations/count?{query}")).await;
        assert_eq!(counted.json()["Count"], listed.json().as_array().unwrap().len(), "{query}");
        assert_eq!(counted.index(), listed.index(), "{query}");
    }
    assert_eq!(cluster.get("/v1/evaluations/count?filter=Nope+%3D%3D+%22x%22").await.status, 400);
}
