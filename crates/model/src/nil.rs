//! Go's empty collections on the wire: a nil slice or map is `null`, and either form is read back as
//! empty. `nil` writes an empty collection as `null`, `object` as `{}`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A collection that can say whether it is empty.
pub trait Empty {
    fn is_nil(&self) -> bool;

    /// Gives back the room that reading took and did not fill: a list of one that was read takes the room
    /// of four or eight, and what is read here stays, in each process that follows the state.
    fn fit(&mut self) {}
}

impl<T> Empty for Vec<T> {
    fn is_nil(&self) -> bool {
        self.is_empty()
    }

    fn fit(&mut self) {
        self.shrink_to_fit();
    }
}

impl<K, V> Empty for std::collections::BTreeMap<K, V> {
    fn is_nil(&self) -> bool {
        self.is_empty()
    }
}

/// True for a value that the wire leaves out.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// # Errors
/// Those of the serializer.
pub fn serialize<T: Empty + Serialize, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    if value.is_nil() { s.serialize_none() } else { value.serialize(s) }
}

/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, T: Empty + Default + Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    let mut value = Option::<T>::deserialize(d)?.unwrap_or_default();
    value.fit();
    Ok(value)
}

/// A map that is written as `{}` when empty.
pub mod object {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Empty;

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        value.serialize(s)
    }

    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, T: Empty + Default + Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        super::deserialize(d)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Row {
        #[serde(with = "super")]
        list: Vec<[u64; 16]>,
    }

    #[test]
    fn what_was_read_takes_no_more_room_than_it_fills() {
        for n in [0, 1, 3, 5, 9] {
            let text = serde_json::json!({ "list": vec![[7; 16]; n] }).to_string();
            let row: Row = serde_json::from_str(&text).unwrap();
            assert_eq!((row.list.len(), row.list.capacity()), (n, n));
        }
        assert!(serde_json::from_str::<Row>(r#"{"list":null}"#).unwrap().list.is_empty());
    }
}
