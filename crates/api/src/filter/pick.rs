//! The fields of a row that an expression names, as JSON. A row is large, and most expressions name one field.

use std::fmt::Display;

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Error, Map, Value};

/// The fields with these names (sorted) of a row that is a struct, a map, or nothing.
///
/// # Errors
/// The row is something else, or has no JSON form.
pub(super) fn fields(row: &impl Serialize, names: &[String]) -> Result<Value, Error> {
    row.serialize(Row { names })
}

struct Row<'n> {
    names: &'n [String],
}

struct Picked<'n> {
    names: &'n [String],
    key: Option<String>,
    found: Map<String, Value>,
}

impl Picked<'_> {
    fn take<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        if self.names.binary_search_by(|name| name.as_str().cmp(key)).is_ok() {
            self.found.insert(key.to_owned(), serde_json::to_value(value)?);
        }
        Ok(())
    }
}

impl SerializeStruct for Picked<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.take(key, value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Object(self.found))
    }
}

impl SerializeMap for Picked<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let key = serde_json::to_value(key)?;
        self.key = Some(key.as_str().ok_or_else(no_row)?.to_owned());
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(no_row)?;
        self.take(&key, value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(Value::Object(self.found))
    }
}

fn no_row() -> Error {
    Error::custom("a row is a struct or a map with texts for keys")
}

macro_rules! refuse {
    ($($name:ident($($kind:ty),*) $(-> $answer:ident)?;)+) => {
        $(fn $name(self, $(_: $kind),*) -> Result<refuse!(@ $($answer)?), Error> { Err(no_row()) })+
    };
    (@) => { Value };
    (@ $answer:ident) => { Self::$answer };
}

impl<'n> Serializer for Row<'n> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = Impossible<Value, Error>;
    type SerializeTuple = Impossible<Value, Error>;
    type SerializeTupleStruct = Impossible<Value, Error>;
    type SerializeTupleVariant = Impossible<Value, Error>;
    type SerializeStructVariant = Impossible<Value, Error>;
    type SerializeMap = Picked<'n>;
    type SerializeStruct = Picked<'n>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Picked<'n>, Error> {
        Ok(Picked { names: self.names, key: None, found: Map::new() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Picked<'n>, Error> {
        self.serialize_struct("", 0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<Value, Error> {
        Err(no_row())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Value, Error> {
        Err(no_row())
    }

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_picked_is_what_the_wire_shows_of_it() {
        let mut job = model::Job { id: Some("web".into()), ..Default::default() };
        job.meta.insert("team".into(), "core".into());
        job.task_groups = vec![model::TaskGroup::default()];
        job.canonicalize();
        let whole = serde_json::to_value(&job).unwrap();
        for names in [&["ID"][..], &["ID", "Meta", "Nope"], &["TaskGroups"], &[]] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let wanted: Map<String, Value> =
                names.iter().filter_map(|name| Some((name.clone(), whole.get(name)?.clone()))).collect();
            assert_eq!(fields(&job, &names).unwrap(), Value::Object(wanted.clone()));
            assert_eq!(fields(&Some(&whole), &names).unwrap(), Value::Object(wanted));
        }
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let names = ["a".to_owned()];
        assert_eq!(fields(&Value::Null, &names).unwrap(), Value::Null);
        assert!(fields(&7, &names).is_err() && fields(&["a"], &names).is_err() && fields(&"a", &names).is_err());
    }
}
