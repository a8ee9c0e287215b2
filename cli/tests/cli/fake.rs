//! A public API that answers what a test told it to, and remembers what it was asked.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use cli::env::Env;
use cli::ui::Ui;
use serde_json::Value;

/// 2023-11-14T22:13:20Z
pub const NOW: i64 = 1_700_000_000_000_000_000;
pub const MINUTE: i64 = 60_000_000_000;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Value,
}

#[derive(Clone)]
struct Reply {
    status: u16,
    index: u64,
    body: String,
}

#[derive(Default)]
struct Book {
    /// By `METHOD path`; the last reply stays.
    replies: HashMap<String, Vec<Reply>>,
    asked: Vec<Asked>,
    /// What follows a page, by path.
    tokens: HashMap<String, String>,
}

pub struct Fake {
    pub address: String,
    book: Arc<Mutex<Book>>,
}

impl Fake {
    pub fn start() -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&book));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Self { address, book }
    }

    /// Answers `GET path` so, from now on.
    pub fn get(self, path: &str, body: Value) -> Self {
        self.reply("GET", path, 200, 1, body)
    }

    /// Adds an answer: each is given once, the last for ever.
    pub fn reply(self, method: &str, path: &str, status: u16, index: u64, body: Value) -> Self {
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        let reply = Reply { status, index, body };
        self.book.lock().unwrap().replies.entry(format!("{method} {path}")).or_default().push(reply);
        self
    }

    /// Says that another page follows what is at this path.
    pub fn more(self, path: &str, token: &str) -> Self {
        self.book.lock().unwrap().tokens.insert(path.to_owned(), token.to_owned());
        self
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.book.lock().unwrap().asked.clone()
    }

    /// The request that was sent to this path.
    pub fn asked_for(&self, method: &str, path: &str) -> Asked {
        let found = self.asked().into_iter().rev().find(|a| a.method == method && a.path == path);
        found.unwrap_or_else(|| panic!("nobody asked {method} {path}: {:?}", self.asked()))
    }

    /// Runs a command line against this API.
    pub fn run(&self, words: &[&str]) -> Done {
        self.run_with(words, &[])
    }

    pub fn run_with(&self, words: &[&str], env: &[(&str, &str)]) -> Done {
        let mut all = vec![("NOMAD_ADDR", self.address.as_str())];
        all.extend_from_slice(env);
        run(words, &all)
    }
}

async fn answer(
    State(book): State<Arc<Mutex<Book>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut book = book.lock().unwrap();
    book.asked.push(Asked {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or("").to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    });
    let reply = match book.replies.get_mut(&format!("{method} {}", uri.path())) {
        Some(replies) if replies.len() > 1 => replies.remove(0),
        Some(replies) => replies[0].clone(),
        None => Reply { status: 404, index: 1, body: format!("not told what {method} {} is", uri.path()) },
    };
    let mut answer = Response::builder().status(reply.status).header("X-Nomad-Index", reply.index);
    if let Some(token) = book.tokens.get(uri.path()) {
        answer = answer.header("X-Nomad-NextToken", token);
    }
    answer.body(Body::from(reply.body)).unwrap()
}

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    pub code: u8,
    pub out: String,
    pub err: String,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a command line in these surroundings: no terminal, UTC, a clock that stands at [`NOW`].
pub fn run(words: &[&str], env: &[(&str, &str)]) -> Done {
    let (out, err) = (Sink::default(), Sink::default());
    let ui = Ui::fixed(Box::new(out.clone()), Box::new(err.clone()), || NOW);
    let env = Env(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let code = cli::command::run(&words, env, ui);
    let text = |sink: Sink| String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    Done { code, out: text(out), err: text(err) }
}
