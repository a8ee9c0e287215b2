//! Query parameters of the public API.

use std::fmt::Write as _;
use std::time::Duration;

/// Wait of a blocking query that names none.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);

/// The parameters most routes take; others go into `params`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Answer only with something newer; 0 answers at once.
    pub index: u64,
    pub wait: Option<Duration>,
    pub stale: bool,
    pub prefix: Option<String>,
    pub filter: Option<String>,
    pub per_page: u64,
    pub next_token: Option<String>,
    pub reverse: bool,
    /// Instead of the client's own.
    pub region: Option<String>,
    pub namespace: Option<String>,
    pub params: Vec<(String, String)>,
    /// How the answer is to be written, where a route knows more than one form.
    pub accept: Option<&'static str>,
}

impl Query {
    /// Adds a parameter.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// How long the server may take on purpose: the wait and the up to one sixteenth it adds.
    pub(super) fn wait_max(&self) -> Duration {
        if self.index == 0 {
            return Duration::ZERO;
        }
        let wait = self.wait.unwrap_or(WAIT_DEFAULT);
        wait + wait / 16
    }

    /// `path` with these parameters; `path` may have some of its own.
    pub(super) fn uri(&self, path: &str, region: Option<&str>, namespace: Option<&str>) -> String {
        let mut uri = path.to_owned();
        let mut separator = if path.contains('?') { '&' } else { '?' };
        let mut add = |name: &str, value: &str| {
            uri.push(separator);
            separator = '&';
            encode(&mut uri, name);
            uri.push('=');
            encode(&mut uri, value);
        };
        let some = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
        let number = |n: u64| (n > 0).then(|| n.to_string());
        let wait = self.wait.filter(|_| self.index > 0).map(|w| format!("{}ms", w.as_millis()));
        let pairs = [
            ("region", some(self.region.as_deref().or(region))),
            ("namespace", some(self.namespace.as_deref().or(namespace))),
            ("index", number(self.index)),
            ("wait", wait),
            ("stale", self.stale.then(String::new)),
            ("prefix", some(self.prefix.as_deref())),
            ("filter", some(self.filter.as_deref())),
            ("per_page", number(self.per_page)),
            ("next_token", some(self.next_token.as_deref())),
            ("reverse", self.reverse.then(|| "true".to_owned())),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                add(name, &value);
            }
        }
        for (name, value) in &self.params {
            add(name, value);
        }
        uri
    }
}

/// One segment of a path: an id with slashes or blanks, for instance.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(&mut out, text);
    out
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_only_sent_when_they_say_something() {
        assert_eq!(Query::default().uri("/v1/jobs", None, None), "/v1/jobs");
        let query = Query {
            index: 7,
            wait: Some(Duration::from_millis(1500)),
            stale: true,
            filter: Some("Name == \"a&b\"".to_owned()),
            namespace: Some("*".to_owned()),
            ..Query::default()
        };
        assert_eq!(
            query.with("x", "ü/").uri("/v1/jobs?a=b", Some("eu"), Some("default")),
            "/v1/jobs?a=b&region=eu&namespace=%2A&index=7&wait=1500ms&stale=&filter=Name%20%3D%3D%20%22a%26b%22&x=%C3%BC%2F"
        );
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
    }

    #[test]
    fn a_wait_counts_only_in_a_blocking_query() {
        let wait = Some(Duration::from_secs(16));
        assert_eq!(Query { wait, ..Query::default() }.wait_max(), Duration::ZERO);
        assert_eq!(Query { wait, index: 1, ..Query::default() }.wait_max(), Duration::from_secs(17));
    }
}
