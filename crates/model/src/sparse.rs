//! JSON between Steppe's own processes: rows without the fields that say nothing.
//!
//! Clients of the public API see every field of a row. Between services and on the log most of a row's text would be
//! `null`, `0`, `""` and names of them, made on three servers and read by all. Here a field whose value is empty is
//! left out; whoever reads it fills in the same, as it would for a client that leaves it out.
//!
//! Invariants
//! * What is written reads back as it was: only fields named in PascalCase are left out, which are those of the model's
//!   rows, and every struct of the model reads a missing field as empty ([`CUSTOM`] names those whose own defaults
//!   are not empty; the house rules' test `rows_read_what_is_missing_as_empty` holds both).
//! * `Some` is never left out, nor an element of a list, an entry of a map, or a variant's field.
//! * Equal values have equal texts, so hashes of texts may be compared.
//!
//! It fails where serde_json does: a map's key that is no text.

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

/// Structs whose default says something: they are written whole.
pub const CUSTOM: [&str; 1] = ["AutopilotConfiguration"];

/// Name of what has another form between processes: the text it was read from ([`crate::Carried`]), or a shorter one
/// ([`crate::carried_scores`]). A serializer that knows the name and says that it is not for people (`is_human_readable`)
/// gets that form; a deserializer that says so is asked for the value's fields, not for a text.
pub const CARRIED: &str = "$steppe::Carried";

/// The sparse JSON of a value.
///
/// # Errors
/// The value has no JSON form.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string(&Sparse(value))
}

/// See [`to_string`].
///
/// # Errors
/// The value has no JSON form.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Sparse(value))
}

/// See [`to_string`].
///
/// # Errors
/// The value has no JSON form, or the writer fails.
pub fn to_writer<T: Serialize + ?Sized>(writer: impl std::io::Write, value: &T) -> serde_json::Result<()> {
    serde_json::to_writer(writer, &Sparse(value))
}

/// A value that is written without empty fields.
pub struct Sparse<'a, T: ?Sized>(pub &'a T);

impl<T: Serialize + ?Sized> Serialize for Sparse<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Leaner { to: serializer, carried: false })
    }
}

/// Hands everything on, with what is inside made sparse.
struct Leaner<S> {
    to: S,
    /// What comes has been sparse since it was first written.
    carried: bool,
}

macro_rules! hand_on {
    ($($name:ident: $kind:ty),+ $(,)?) => {
        $(fn $name(self, value: $kind) -> Result<S::Ok, S::Error> { self.to.$name(value) })+
    };
}

impl<S: Serializer> Serializer for Leaner<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Inside<S::SerializeSeq>;
    type SerializeTuple = Inside<S::SerializeTuple>;
    type SerializeTupleStruct = Inside<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Inside<S::SerializeTupleVariant>;
    type SerializeMap = Inside<S::SerializeMap>;
    type SerializeStruct = Fields<S::SerializeStruct>;
    type SerializeStructVariant = Inside<S::SerializeStructVariant>;

    hand_on!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str,
        serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    );

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.to.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.serialize_some(&Sparse(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.to.serialize_unit()
    }

    fn serialize_unit_variant(self, name: &'static str, at: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.to.serialize_unit_variant(name, at, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        if name == CARRIED {
            return value.serialize(Self { carried: true, ..self });
        }
        self.to.serialize_newtype_struct(name, &Sparse(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.to.serialize_newtype_variant(name, at, variant, &Sparse(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.to.serialize_seq(len).map(Inside)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.to.serialize_tuple(len).map(Inside)
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.to.serialize_tuple_struct(name, len).map(Inside)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.to.serialize_tuple_variant(name, at, variant, len).map(Inside)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.to.serialize_map(len).map(Inside)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let whole = CUSTOM.contains(&name);
        self.to.serialize_struct(name, len).map(|inner| Fields { inner, whole })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        at: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.to.serialize_struct_variant(name, at, variant, len).map(Inside)
    }

    fn is_human_readable(&self) -> bool {
        !self.carried && self.to.is_human_readable()
    }
}

/// A list, a map or a variant, whose parts are all written.
struct Inside<S>(S);

macro_rules! inside {
    ($($kind:ident.$add:ident),+) => {
        $(impl<S: ser::$kind> ser::$kind for Inside<S> {
            type Ok = S::Ok;
            type Error = S::Error;
            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> { self.0.$add(&Sparse(value)) }
            fn end(self) -> Result<S::Ok, S::Error> { self.0.end() }
        })+
    };
}

inside!(
    SerializeSeq.serialize_element,
    SerializeTuple.serialize_element,
    SerializeTupleStruct.serialize_field,
    SerializeTupleVariant.serialize_field
);

impl<S: ser::SerializeMap> ser::SerializeMap for Inside<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.0.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_value(&Sparse(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

impl<S: ser::SerializeStructVariant> ser::SerializeStructVariant for Inside<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), S::Error> {
        self.0.serialize_field(name, &Sparse(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

/// A struct, of which empty fields are left out.
struct Fields<S> {
    inner: S,
    whole: bool,
}

impl<S: ser::SerializeStruct> ser::SerializeStruct for Fields<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), S::Error> {
        let of_a_row = name.starts_with(|first: char| first.is_ascii_uppercase());
        if of_a_row && !self.whole && value.serialize(Probe).is_ok() {
            return self.inner.skip_field(name);
        }
        self.inner.serialize_field(name, &Sparse(value))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

/// Finds out whether a value is empty, and stops at the first that is not: `Ok` is empty.
struct Probe;

/// It says something.
#[derive(Debug, thiserror::Error)]
#[error("not empty")]
struct Says;

impl ser::Error for Says {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

const fn empty_if(empty: bool) -> Result<(), Says> {
    if empty { Ok(()) } else { Err(Says) }
}

macro_rules! empty_at_nought {
    ($($name:ident: $kind:ty),+ $(,)?) => {
        $(fn $name(self, value: $kind) -> Result<(), Says> { empty_if(value == <$kind>::default()) })+
    };
}

impl Serializer for Probe {
    type Ok = ();
    type Error = Says;
    type SerializeSeq = Nothing;
    type SerializeTuple = Nothing;
    type SerializeTupleStruct = Nothing;
    type SerializeTupleVariant = Impossible<(), Says>;
    type SerializeMap = Nothing;
    type SerializeStruct = Nothing;
    type SerializeStructVariant = Impossible<(), Says>;

    empty_at_nought!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_str: &str,
    );

    fn serialize_char(self, _: char) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Says> {
        empty_if(bytes.is_empty())
    }

    fn serialize_none(self) -> Result<(), Says> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_unit(self) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Says> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Nothing, Says> {
        empty_if(len.unwrap_or(0) == 0).map(|()| Nothing)
    }

    fn serialize_tuple(self, _: usize) -> Result<Nothing, Says> {
        Err(Says)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Nothing, Says> {
        Err(Says)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Says> {
        Err(Says)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Nothing, Says> {
        empty_if(len.unwrap_or(0) == 0).map(|()| Nothing)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Nothing, Says> {
        empty_if(!CUSTOM.contains(&name)).map(|()| Nothing)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Says> {
        Err(Says)
    }
}

/// A list, a map or a struct in which nothing was found yet.
struct Nothing;

macro_rules! nothing {
    ($($kind:ident.$add:ident),+) => {
        $(impl ser::$kind for Nothing {
            type Ok = ();
            type Error = Says;
            fn $add<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Says> { Err(Says) }
            fn end(self) -> Result<(), Says> { Ok(()) }
        })+
    };
}

nothing!(SerializeSeq.serialize_element, SerializeTuple.serialize_element, SerializeTupleStruct.serialize_field);

impl ser::SerializeMap for Nothing {
    type Ok = ();
    type Error = Says;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Says> {
        Err(Says)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Says> {
        Err(Says)
    }

    fn end(self) -> Result<(), Says> {
        Ok(())
    }
}

impl ser::SerializeStruct for Nothing {
    type Ok = ();
    type Error = Says;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Says> {
        value.serialize(Probe)
    }

    fn end(self) -> Result<(), Says> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::{TaskEvent, TaskState};
    use crate::{Allocation, Job, autopilot::AutopilotConfiguration};

    #[test]
    fn what_is_empty_is_left_out_and_reads_back_the_same() {
        let event = TaskEvent { kind: "Started".into(), time: 5, ..TaskEvent::default() };
        let state = TaskState { events: [event, TaskEvent::default()].into_iter().collect(), ..TaskState::default() };
        let row = Allocation { id: "a".into(), task_states: [("t".to_owned(), state)].into(), ..Allocation::default() };
        let (text, whole) = (to_string(&row).unwrap(), serde_json::to_string(&row).unwrap());
        assert!(text.len() * 4 < whole.len(), "{text}");
        assert!(!text.contains("null") && !text.contains(":\"\"") && text.contains("{}"), "{text}");
        assert_eq!(serde_json::from_str::<Allocation>(&text).unwrap(), row);
        assert_eq!(serde_json::from_str::<Allocation>(&whole).unwrap(), row);
    }

    #[test]
    fn what_is_nought_on_purpose_is_written() {
        let job = Job { priority: Some(0), all_at_once: Some(false), name: Some(String::new()), ..Job::default() };
        let text = to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job, "{text}");
        let off = AutopilotConfiguration { cleanup_dead_servers: false, ..AutopilotConfiguration::default() };
        let text = to_string(&off).unwrap();
        assert_eq!(serde_json::from_str::<AutopilotConfiguration>(&text).unwrap(), off, "{text}");
    }

    #[test]
    fn names_of_other_kinds_are_no_rows() {
        #[derive(Serialize)]
        struct Told {
            index: u64,
            rows: Vec<Option<u8>>,
        }
        assert_eq!(to_string(&Told { index: 0, rows: vec![None, Some(0)] }).unwrap(), r#"{"index":0,"rows":[null,0]}"#);
    }
}
