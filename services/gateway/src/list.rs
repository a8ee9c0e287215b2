//! Which rows of a list does a page show?
//!
//! Rows are ordered by the list's key; a token names the first row of the next page by that key and is
//! compared, not looked up, so a row that vanished between two pages costs nothing. A filter is asked of
//! the full row, after the token and before counting. Rows come from a heap, one after the other: a page costs a
//! look at each row's place, and nothing else of the rows behind it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use api::filter::{Filter, FilterError};
use axum::http::StatusCode;

use crate::answer::Meta;
use crate::errors::ApiError;
use crate::options::Options;

/// How a list's tokens read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenForm {
    Id,
    /// `<create index>.<id>`
    IndexId,
    /// `<namespace>.<id>`
    NamespaceId,
    /// `<modify index>.<namespace>.<id>`
    IndexNamespaceId,
}

/// A row's place in a list; the fields that the form does not use are empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<'r> {
    pub index: u64,
    pub namespace: &'r str,
    pub id: &'r str,
}

impl<'r> Place<'r> {
    pub fn id(id: &'r str) -> Self {
        Self { id, ..Self::default() }
    }

    /// By id, or by create index and id, as the form has it.
    pub fn by(form: TokenForm, index: model::Index, id: &'r str) -> Self {
        match form {
            TokenForm::Id => Self::id(id),
            _ => Self { index: index.get(), ..Self::id(id) },
        }
    }

    pub fn namespace_id(namespace: &'r str, id: &'r str) -> Self {
        Self { namespace, ..Self::id(id) }
    }

    fn parse(form: TokenForm, token: &'r str) -> Option<Self> {
        match form {
            TokenForm::Id => Some(Self::id(token)),
            TokenForm::IndexId => {
                let (index, id) = token.split_once('.')?;
                Some(Self { index: index.parse().ok()?, ..Self::id(id) })
            }
            TokenForm::NamespaceId => {
                let (namespace, id) = token.split_once('.')?;
                Some(Self::namespace_id(namespace, id))
            }
            TokenForm::IndexNamespaceId => {
                let (index, rest) = token.split_once('.')?;
                let (namespace, id) = rest.split_once('.')?;
                Some(Self { index: index.parse().ok()?, ..Self::namespace_id(namespace, id) })
            }
        }
    }

    fn token(&self, form: TokenForm) -> String {
        match form {
            TokenForm::Id => self.id.to_owned(),
            TokenForm::IndexId => format!("{}.{}", self.index, self.id),
            TokenForm::NamespaceId => format!("{}.{}", self.namespace, self.id),
            TokenForm::IndexNamespaceId => format!("{}.{}.{}", self.index, self.namespace, self.id),
        }
    }
}

/// A row that may be shown; the greatest comes first.
struct Next<'r, R> {
    place: Place<'r>,
    row: R,
    reverse: bool,
}

impl<R> Ord for Next<'_, R> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.place.cmp(&other.place);
        if self.reverse { order } else { order.reverse() }
    }
}

impl<R> PartialOrd for Next<'_, R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> PartialEq for Next<'_, R> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<R> Eq for Next<'_, R> {}

/// The rows of the page that the caller asks for; the token of the next one goes into `meta`. `holds` asks a filter of
/// the full row.
///
/// # Errors
/// The filter or the token cannot be read.
pub fn page<'r, R>(
    rows: impl Iterator<Item = (Place<'r>, R)>,
    form: TokenForm,
    options: &Options,
    holds: impl Fn(&Filter, &R) -> Result<bool, FilterError>,
    meta: &mut Meta,
) -> Result<Vec<R>, ApiError> {
    let reverse = options.reverse;
    let filter = options.params.text("filter").map(Filter::parse).transpose()?;
    let from = options.params.text("next_token").map(|token| parse_token(form, token)).transpose()?;
    let passed = |place: Place<'_>| from.is_some_and(|from| if reverse { place > from } else { place < from });
    let rows = rows.filter(|(place, _)| !passed(*place));
    let mut rows: BinaryHeap<_> = rows.map(|(place, row)| Next { place, row, reverse }).collect();
    let mut shown = Vec::new();
    while let Some(Next { place, row, .. }) = rows.pop() {
        if let Some(filter) = &filter
            && !holds(filter, &row)?
        {
            continue;
        }
        if options.per_page > 0 && shown.len() == options.per_page {
            meta.next_token = Some(place.token(form));
            break;
        }
        shown.push(row);
    }
    Ok(shown)
}

fn parse_token(form: TokenForm, token: &str) -> Result<Place<'_>, ApiError> {
    Place::parse(form, token).ok_or_else(|| {
        ApiError::bad(format!("failed to create result paginator: failed to decode token: {token:?} is no token"))
    })
}

/// Checks a prefix of a UUID, as the index behind the reference's lists does.
///
/// # Errors
/// It holds something that no UUID holds.
pub fn check_uuid_prefix(what: &str, prefix: &str) -> Result<(), ApiError> {
    let digits = prefix.chars().filter(|c| *c != '-');
    let problem = match digits.clone().find(|c| !c.is_ascii_hexdigit()) {
        Some(odd) => {
            // Go names the byte, and a printable one also by its character.
            let byte = u32::from(*odd.to_string().as_bytes().first().unwrap_or(&0));
            let shown = char::from_u32(byte).filter(|c| c.is_ascii_graphic());
            let shown = shown.map(|c| format!(" {c:?}")).unwrap_or_default();
            format!("Invalid UUID: encoding/hex: invalid byte: U+{byte:04X}{shown}")
        }
        None if digits.count() > 32 => "Invalid UUID length".to_owned(),
        None => return Ok(()),
    };
    Err(ApiError::bad(format!("{what} lookup failed: index error: {problem}")))
}

/// Checks the id of one row: lookups are exact, clients resolve short ids with a list.
///
/// # Errors
/// It is no full UUID.
pub fn check_uuid(what: &str, id: &str) -> Result<(), ApiError> {
    let shape = |(at, c): (usize, char)| if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() };
    let problem = if id.len() != 36 {
        "UUID must be 36 characters"
    } else if !id.char_indices().all(shape) {
        "Invalid UUID"
    } else {
        return Ok(());
    };
    let status = StatusCode::BAD_REQUEST;
    Err(ApiError::new(status, format!("{what} lookup failed: index error: {problem}")))
}

#[cfg(test)]
mod tests {
    use api::filter::Schema;

    use super::*;

    fn options(query: &[(&str, &str)]) -> Options {
        crate::options::Options::for_test(query)
    }

    fn ask(query: &[(&str, &str)]) -> (Vec<u64>, Option<String>) {
        let ids = ["id0", "id1", "id2", "id3"];
        let rows =
            [5, 3, 9, 3].into_iter().zip(ids).map(|(n, id)| (Place::by(TokenForm::IndexId, model::Index(n), id), n));
        let holds = |filter: &Filter, n: &u64| filter.matches(&Schema::any(), &serde_json::json!({ "N": n }));
        let mut meta = Meta::default();
        let shown = page(rows, TokenForm::IndexId, &options(query), holds, &mut meta).unwrap();
        (shown, meta.next_token)
    }

    #[test]
    fn pages_in_turn_show_every_row_once_in_order() {
        assert_eq!(ask(&[]), (vec![3, 3, 5, 9], None));
        let (first, token) = ask(&[("per_page", "2")]);
        assert_eq!((first, token.as_deref()), (vec![3, 3], Some("5.id0")));
        assert_eq!(ask(&[("per_page", "2"), ("next_token", "5.id0")]), (vec![5, 9], None));
        // the row of the token is gone
        assert_eq!(ask(&[("per_page", "1"), ("next_token", "4.x")]), (vec![5], Some("9.id2".to_owned())));
        let (back, token) = ask(&[("reverse", "true"), ("per_page", "1")]);
        assert_eq!((back, token.as_deref()), (vec![9], Some("5.id0")));
        assert_eq!(ask(&[("reverse", "true"), ("next_token", "5.id0")]).0, vec![5, 3, 3]);
    }

    #[test]
    fn a_filter_is_asked_before_counting() {
        assert_eq!(ask(&[("filter", "N != 3"), ("per_page", "1")]), (vec![5], Some("9.id2".to_owned())));
        assert_eq!(ask(&[("filter", "N == 9"), ("per_page", "1")]), (vec![9], None));
    }

    #[test]
    fn short_and_odd_ids_are_told_apart() {
        assert_eq!(
            check_uuid("node", "abcd").unwrap_err().text(),
            "node lookup failed: index error: UUID must be 36 characters"
        );
        assert!(check_uuid("node", "11111111-1111-1111-1111-111111111111").is_ok());
        assert!(check_uuid("node", "1111111111111-1111-1111-111111111111").is_err());
        assert_eq!(
            check_uuid_prefix("node", "zz").unwrap_err().text(),
            "node lookup failed: index error: Invalid UUID: encoding/hex: invalid byte: U+007A 'z'"
        );
        for good in ["", "a", "abc", "0123abcd-45"] {
            assert!(check_uuid_prefix("node", good).is_ok(), "{good}");
        }
        assert!(check_uuid_prefix("node", &"a".repeat(40)).is_err());
    }
}
