//! A JSON value to a typed one: a serde deserializer with Go's leniency.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{BodyError, Decoded, UNKNOWN_MAX, UnknownField};

/// How alike a misspelt name and a suggestion must be, from 0 to 1.
const LIKENESS_MIN: f64 = 0.8;

pub(super) fn decode<T: DeserializeOwned>(value: Value) -> Result<Decoded<T>, BodyError> {
    let unknown = RefCell::new(Vec::new());
    let reader = Reader { value, place: &Place::Root, unknown: &unknown };
    let value = T::deserialize(reader).map_err(|error| BodyError::Type(error.0))?;
    Ok(Decoded { value, unknown: unknown.into_inner() })
}

/// Why a value does not fit.
#[derive(Debug)]
struct Misfit(String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

impl serde::de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

/// Where a value is, as a list that lives on the stack.
enum Place<'p> {
    Root,
    /// A field of the named type.
    Field(&'p Place<'p>, &'p str, &'static str),
    Key(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl Place<'_> {
    fn owner(&self) -> Option<&'static str> {
        match self {
            Self::Root => None,
            Self::Field(_, _, owner) => Some(owner),
            Self::Key(up, _) | Self::Item(up, _) => up.owner(),
        }
    }

    /// With or without list positions, which Go's errors lack.
    fn text(&self, items: bool) -> String {
        match self {
            Self::Root => String::new(),
            Self::Field(up, name, _) | Self::Key(up, name) => {
                let up = up.text(items);
                if up.is_empty() { (*name).to_owned() } else { format!("{up}.{name}") }
            }
            Self::Item(up, i) if items => format!("{}[{i}]", up.text(items)),
            Self::Item(up, _) => up.text(items),
        }
    }
}

struct Reader<'p> {
    value: Value,
    place: &'p Place<'p>,
    unknown: &'p RefCell<Vec<UnknownField>>,
}

impl<'p> Reader<'p> {
    fn at<'q>(&self, value: Value, place: &'q Place<'q>) -> Reader<'q>
    where
        'p: 'q,
    {
        Reader { value, place, unknown: self.unknown }
    }

    /// Go's sentence for a value of the wrong type.
    fn misfit(&self, wanted: &str) -> Misfit {
        let found = match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if wanted.contains("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        Misfit(match self.place.owner() {
            Some(owner) => format!(
                "cannot unmarshal {found} into Go struct field {owner}.{} of type {wanted}",
                self.place.text(false)
            ),
            None => format!("cannot unmarshal {found} into Go value of type {wanted}"),
        })
    }

    /// Adds the place to what a type itself said of its value.
    fn located(place: &Place<'_>, error: Misfit) -> Misfit {
        let path = place.text(true);
        if error.0.starts_with("cannot unmarshal") || error.0.starts_with("at ") || path.is_empty() {
            error
        } else {
            Misfit(format!("at {path}: {}", error.0))
        }
    }

    fn integer<T: TryFrom<i128> + Default>(&self, wanted: &str) -> Result<T, Misfit> {
        let number = match &self.value {
            Value::Null => return Ok(T::default()),
            Value::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
            _ => None,
        };
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| self.misfit(wanted))
    }

    fn text(self) -> Result<String, Misfit> {
        match self.value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text),
            _ => Err(self.misfit("string")),
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $go:literal),+ $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            visitor.$visit(self.integer($go)?).map_err(|error| Self::located(self.place, error))
        }
    )+};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    integers! {
        deserialize_i8 visit_i8 "int8",
        deserialize_i16 visit_i16 "int16",
        deserialize_i32 visit_i32 "int32",
        deserialize_i64 visit_i64 "int",
        deserialize_i128 visit_i128 "int",
        deserialize_u8 visit_u8 "uint8",
        deserialize_u16 visit_u16 "uint16",
        deserialize_u32 visit_u32 "uint32",
        deserialize_u64 visit_u64 "uint64",
        deserialize_u128 visit_u128 "uint64",
    }

    /// For whoever takes any value: as it is, keys included.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let place = self.place;
        self.value.deserialize_any(visitor).map_err(|error| Self::located(place, Misfit(error.to_string())))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(flag) => visitor.visit_bool(flag),
            _ => Err(self.misfit("bool")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or(0.0)),
            _ => Err(self.misfit("float64")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let place = self.place;
        visitor.visit_string(self.text()?).map_err(|error| Self::located(place, error))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value.take() {
            Value::Null => visitor.visit_seq(Items { reader: self, items: Vec::new().into_iter().enumerate() }),
            Value::Array(items) => visitor.visit_seq(Items { reader: self, items: items.into_iter().enumerate() }),
            other => {
                self.value = other;
                Err(self.misfit("[]"))
            }
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value.take() {
            Value::Null => visitor.visit_map(Entries { reader: self, entries: Map::new().into_iter(), next: None }),
            Value::Object(map) => visitor.visit_map(Entries { reader: self, entries: map.into_iter(), next: None }),
            other => {
                self.value = other;
                Err(self.misfit("map"))
            }
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let map = match self.value.take() {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            other => {
                self.value = other;
                return Err(self.misfit(name));
            }
        };
        let known = self.known_fields(map, fields);
        visitor.visit_map(Fields { reader: self, owner: name, fields: known.into_iter(), next: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let place = self.place;
        let result = match self.value {
            Value::Null if variants.contains(&"") => visitor.visit_enum("".into_deserializer()),
            Value::String(text) => visitor.visit_enum(StringDeserializer::<Misfit>::new(text)),
            _ => Err(self.misfit("string")),
        };
        result.map_err(|error| Self::located(place, error))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_string(visitor)
    }
}

impl Reader<'_> {
    /// The entries of an object that are fields of a type, each once; notes the others.
    fn known_fields(&self, map: Map<String, Value>, fields: &'static [&'static str]) -> Vec<(&'static str, Value)> {
        let mut known: Vec<(&'static str, bool, Value)> = Vec::with_capacity(map.len());
        for (key, value) in map {
            let exact = fields.iter().find(|field| **field == key);
            let Some(field) = exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key))) else {
                self.note_unknown(&key, fields);
                continue;
            };
            // names that differ in letter case only are one field
            match known.iter_mut().find(|(other, ..)| other.eq_ignore_ascii_case(field)) {
                Some((_, was_exact, _)) if *was_exact && exact.is_none() => {}
                Some(entry) => *entry = (field, exact.is_some(), value),
                None => known.push((field, exact.is_some(), value)),
            }
        }
        known.into_iter().map(|(field, _, value)| (field, value)).collect()
    }

    fn note_unknown(&self, key: &str, fields: &[&'static str]) {
        let mut unknown = self.unknown.borrow_mut();
        if unknown.len() >= UNKNOWN_MAX {
            return;
        }
        let lower = key.to_ascii_lowercase();
        let best = fields.iter().map(|field| (likeness(&lower, field), *field)).max_by(|a, b| a.0.total_cmp(&b.0));
        let suggestion = best.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).map(|(_, field)| field.to_owned());
        unknown.push(UnknownField { path: Place::Key(self.place, key).text(true), suggestion });
    }
}

/// From 0 to 1. One slip (a letter too many, too few, wrong, or two swapped) is enough in a short name.
fn likeness(lower: &str, field: &str) -> f64 {
    let field = field.to_ascii_lowercase();
    // bounded: both measures are quadratic, and nobody misspells a name this long
    if lower.len() > 64 {
        return 0.0;
    }
    let one_slip = if strsim::damerau_levenshtein(lower, &field) == 1 { 0.95 } else { 0.0 };
    strsim::jaro_winkler(lower, &field).max(one_slip)
}

struct Items<'p> {
    reader: Reader<'p>,
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((i, value)) = self.items.next() else { return Ok(None) };
        let place = Place::Item(self.reader.place, i);
        seed.deserialize(self.reader.at(value, &place)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a free-form map.
struct Entries<'p> {
    reader: Reader<'p>,
    entries: serde_json::map::IntoIter,
    next: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let read = seed.deserialize(StringDeserializer::<Misfit>::new(key.clone()))?;
        self.next = Some((key, value));
        Ok(Some(read))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        let (key, value) = self.next.take().unwrap_or_default();
        let place = Place::Key(self.reader.place, &key);
        seed.deserialize(self.reader.at(value, &place))
    }
}

/// The known fields of a struct.
struct Fields<'p> {
    reader: Reader<'p>,
    owner: &'static str,
    fields: std::vec::IntoIter<(&'static str, Value)>,
    next: Option<(&'static str, Value)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((field, value)) = self.fields.next() else { return Ok(None) };
        self.next = Some((field, value));
        seed.deserialize(IntoDeserializer::<Misfit>::into_deserializer(field)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        let (field, value) = self.next.take().unwrap_or_default();
        let place = Place::Field(self.reader.place, field, self.owner);
        seed.deserialize(self.reader.at(value, &place))
    }
}
