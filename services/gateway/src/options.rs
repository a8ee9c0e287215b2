//! What a caller says in the query: which namespace and region, how fresh, how long to wait, which page.
//!
//! [`Options`] is an extractor: a value that does not parse is refused before the handler runs, in the
//! words that clients match on.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use model::time::parse_go_duration;
use model::{Index, NamespaceName};

use crate::answer::Style;
use crate::app::App;
use crate::errors::ApiError;

/// Longest a blocking query waits, and how long when it does not say.
pub const WAIT_MAX: Duration = Duration::from_secs(300);
/// Longest query (filters have a limit of their own).
const QUERY_BYTES_MAX: usize = 32 * 1024;

/// The pairs of a query, in order.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    fn parse(parts: &Parts) -> Result<Self, ApiError> {
        let too_long = parts.uri.query().is_some_and(|q| q.len() > QUERY_BYTES_MAX);
        if too_long {
            return Err(ApiError::new(StatusCode::URI_TOO_LONG, "query is too long"));
        }
        Query::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|_| ApiError::bad("query cannot be read"))
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// True when the name occurs, with any value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value, unless it is absent or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// # Errors
    /// The value is no boolean as Go reads them.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse_bool(text).map(Some).ok_or_else(|| {
            ApiError::bad(format!(
                "Failed to parse value of {name:?} ({text}) as a bool: strconv.ParseBool: parsing {text:?}: invalid syntax"
            ))
        })
    }

    /// # Errors
    /// The value is no integer.
    pub fn int(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::bad(format!(
                "Failed to parse value of {name:?} ({text}) as a int: strconv.Atoi: parsing {text:?}: invalid syntax"
            ))
        })
    }
}

/// A boolean as Go reads it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The query of any request.
#[derive(Clone, Debug)]
pub struct Options {
    pub params: Params,
    pub style: Style,
    /// As given; `None` = the default one.
    pub namespace: Option<NamespaceName>,
    pub stale: bool,
    /// Wait for something newer than this; 0 = do not wait.
    pub index: Index,
    pub wait: Duration,
    /// Rows on a page; 0 = all.
    pub per_page: usize,
    pub reverse: bool,
}

impl Options {
    fn parse(params: Params, region: &str) -> Result<Self, ApiError> {
        if params.text("region").is_some_and(|wanted| wanted != region) {
            return Err(no_path_to_region());
        }
        Ok(Self {
            style: Style { pretty: params.get("pretty").is_some_and(|v| v != "0") },
            namespace: params.text("namespace").map(NamespaceName::from),
            stale: stale(params.get("stale"))?,
            index: index(params.text("index"))?,
            wait: wait(params.text("wait"))?,
            per_page: per_page(params.text("per_page"))?,
            reverse: params.get("reverse") == Some("true"),
            params,
        })
    }

    /// The one namespace that is meant.
    pub fn namespace(&self) -> NamespaceName {
        self.namespace.clone().unwrap_or_else(NamespaceName::default_namespace)
    }

    /// Whether a list shows rows of that namespace.
    pub fn shows(&self, namespace: &NamespaceName) -> bool {
        match &self.namespace {
            Some(wanted) => wanted == "*" || wanted == namespace,
            None => namespace == "default",
        }
    }

    pub fn prefix(&self) -> &str {
        self.params.get("prefix").unwrap_or("")
    }

    pub fn strict(&self) -> bool {
        self.params.get("strict").is_some_and(|v| parse_bool(v) != Some(false))
    }
}

/// The reference's words for a region that is not this one's.
pub fn no_path_to_region() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "No path to region")
}

fn stale(value: Option<&str>) -> Result<bool, ApiError> {
    match value {
        None => Ok(false),
        Some("") => Ok(true),
        Some(text) => {
            parse_bool(text).ok_or_else(|| ApiError::bad("Expect `true` or `false` for `stale` query string parameter"))
        }
    }
}

fn index(value: Option<&str>) -> Result<Index, ApiError> {
    let parsed = value.map_or(Ok(0), str::parse);
    parsed.map(Index).map_err(|_| ApiError::bad("Invalid index"))
}

fn wait(value: Option<&str>) -> Result<Duration, ApiError> {
    let Some(text) = value else { return Ok(WAIT_MAX) };
    let span = parse_go_duration(text).ok_or_else(|| ApiError::bad("Invalid wait time"))?.to_std();
    Ok(if span.is_zero() { WAIT_MAX } else { span.min(WAIT_MAX) })
}

fn per_page(value: Option<&str>) -> Result<usize, ApiError> {
    let parsed = value.map_or(Ok(0), str::parse::<u32>);
    parsed.map(|n| n as usize).map_err(|_| ApiError::bad("Expect a number for `per_page` query string parameter"))
}

impl FromRequestParts<App> for Options {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Self::parse(Params::parse(parts)?, &app.region)
    }
}

#[cfg(test)]
impl Options {
    /// The options of a query with these pairs.
    pub fn for_test(pairs: &[(&str, &str)]) -> Self {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self::parse(Params(pairs), "global").unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Options, String> {
        let request = axum::http::Request::builder().uri(format!("/x?{query}")).body(()).unwrap();
        let params = Params::parse(&request.into_parts().0).map_err(|e| e.text().to_owned())?;
        Options::parse(params, "global").map_err(|e| e.text().to_owned())
    }

    #[test]
    fn what_is_not_said_has_the_reference_s_default() {
        let options = parse("").unwrap();
        assert_eq!((options.index, options.wait, options.per_page), (Index(0), WAIT_MAX, 0));
        assert!(!options.stale && !options.reverse && !options.style.pretty);
        assert_eq!(options.namespace(), "default");
        assert!(options.shows(&"default".into()) && !options.shows(&"other".into()));
        assert!(parse("namespace=*").unwrap().shows(&"other".into()));
        assert_eq!(parse("index=1&wait=1h").unwrap().wait, WAIT_MAX);
        assert_eq!(parse("index=1&wait=0s").unwrap().wait, WAIT_MAX);
        assert_eq!(parse("index=1&wait=300ms").unwrap().wait, Duration::from_millis(300));
        assert!(parse("stale").unwrap().stale && parse("stale=true").unwrap().stale);
        assert!(parse("pretty").unwrap().style.pretty && !parse("pretty=0").unwrap().style.pretty);
        assert!(parse("reverse=true").unwrap().reverse && !parse("reverse=1").unwrap().reverse);
    }

    #[test]
    fn what_does_not_parse_is_refused_in_the_reference_s_words() {
        for (query, text) in [
            ("index=abc", "Invalid index"),
            ("index=-1", "Invalid index"),
            ("index=1&wait=abc", "Invalid wait time"),
            ("stale=maybe", "Expect `true` or `false` for `stale` query string parameter"),
            ("per_page=x", "Expect a number for `per_page` query string parameter"),
            ("per_page=-1", "Expect a number for `per_page` query string parameter"),
            ("region=mars", "No path to region"),
        ] {
            assert_eq!(parse(query).unwrap_err(), text, "{query}");
        }
        let flag = parse("purge=x").unwrap().params.flag("purge").unwrap_err();
        let text = r#"Failed to parse value of "purge" (x) as a bool: strconv.ParseBool: parsing "x": invalid syntax"#;
        assert_eq!(flag.text(), text);
        assert!(parse("eval_priority=x").unwrap().params.int("eval_priority").is_err());
    }

    #[test]
    fn odd_queries_are_read_or_refused_but_never_break() {
        for query in ["%", "%zz=1", "a=%ff", "&&&", "=", "index=99999999999999999999", "namespace=%00"] {
            let _ = parse(query);
        }
        assert!(parse(&"a".repeat(QUERY_BYTES_MAX + 1)).is_err());
    }
}
