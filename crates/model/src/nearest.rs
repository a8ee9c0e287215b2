//! Which known name somebody may have meant.

/// Longest name that is looked up: distances grow with both lengths.
const GIVEN_BYTES_MAX: usize = 64;
/// A name that differs more is another name.
const DISTANCE_MAX: usize = 2;

/// The known name that is nearest to what was given, when one is near enough.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > GIVEN_BYTES_MAX {
        return None;
    }
    known
        .filter(|name| name.len() <= GIVEN_BYTES_MAX && !name.is_empty())
        .map(|name| (strsim::levenshtein(given, name), name))
        .filter(|(distance, name)| *distance <= DISTANCE_MAX && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
