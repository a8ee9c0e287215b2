//! Go's empty collections on the wire: a nil slice or map is `null`, and either form is read back as
//! empty. `nil` writes an empty collection as `null`, `object` as `{}`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A collection that can say whether it is empty.
pub trait Empty {
    fn is_nil(&self) -> bool;
}

impl<T> Empty for Vec<T> {
    fn is_nil(&self) -> bool {
        self.is_empty()
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
pub fn deserialize<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// A map that is written as `{}` when empty.
pub mod object {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Serialize, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        value.serialize(s)
    }

    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        super::deserialize(d)
    }
}
