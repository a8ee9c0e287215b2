//! Is a field that an answer lacks misspelt, or only empty?
//!
//! Answers leave some empty fields out, so that absence alone says nothing. `fields.txt` has the names of all
//! fields of the public API, made by the test below from its description; what is not among them, no answer has. A
//! map with keys of its own (`Meta`, `TaskGroups`) lacks whatever it lacks: it is known by a key that is no field.

use serde_json::{Map, Value};

/// Sorted, one on a line.
const NAMES: &str = include_str!("fields.txt");

fn is_known(name: &str) -> bool {
    NAMES.lines().any(|known| known == name)
}

/// Whether `name` is no field of anything, and `there` an object of the API's and not somebody's map.
pub fn is_misspelt(there: &Map<String, Value>, name: &str) -> bool {
    !there.is_empty() && !is_known(name) && there.keys().all(|key| is_known(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn collect(value: &Value, all: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::Object(fields)) = map.get("properties") {
                    all.extend(fields.keys().filter(|key| key.starts_with(char::is_uppercase)).cloned());
                }
                map.values().for_each(|value| collect(value, all));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, all)),
            _ => {}
        }
    }

    #[test]
    fn the_list_of_fields_is_that_of_the_api() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let text = std::fs::read_to_string(format!("{root}/openapi/gateway.json")).unwrap();
        let mut all = BTreeSet::new();
        collect(&serde_json::from_str(&text).unwrap(), &mut all);
        let now = all.into_iter().map(|name| name + "\n").collect::<String>();
        if std::env::var_os("STEPPE_BLESS").is_some() {
            std::fs::write(format!("{root}/cli/src/template/fields.txt"), &now).unwrap();
        }
        assert!(now.lines().count() > 500);
        let again = "STEPPE_BLESS=1 cargo test -p steppe --lib the_list_of_fields";
        assert!(now == NAMES || std::env::var_os("STEPPE_BLESS").is_some(), "the API has changed: run {again}");
    }
}
