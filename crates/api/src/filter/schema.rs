//! What a type has on the wire: its fields, theirs, and so on.
//!
//! Read from the type's own `Deserialize`: a deserializer that owns no data answers each question with an
//! empty value and notes what was asked. So there is no second list of fields to keep in step.
//!
//! A type within itself is known once; deeper, anything goes. So is a type whose reading refuses the
//! empty value: its fields noted so far are kept, and others are let pass.

use std::fmt;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

/// What a value is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Kind {
    #[default]
    Any,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Kind>),
    Map(Box<Kind>),
    /// `open`: may have fields beyond these.
    Struct {
        fields: Vec<(&'static str, Kind)>,
        open: bool,
    },
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Text => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Struct { .. } => "struct",
        }
    }
}

/// The selectors of a row's type.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema(Kind);

impl Schema {
    /// That of a type. Costs up to a tenth of a millisecond: make it once, not for each row.
    pub fn of<T: DeserializeOwned>() -> Self {
        let mut kind = Kind::Any;
        // a refusal of the empty value leaves what was noted until then
        let _refused = T::deserialize(Trace::new(&mut kind, &mut Vec::new()));
        Self(kind)
    }

    /// That of rows without a type: every selector is allowed.
    pub fn any() -> Self {
        Self(Kind::Any)
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.0
    }
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the empty value is refused")
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Answers a type's questions and notes them.
struct Trace<'t> {
    kind: &'t mut Kind,
    /// Names of the structs around.
    within: &'t mut Vec<&'static str>,
    /// What comes is usually read as a text that nobody looks into; here its fields are wanted.
    carried: bool,
}

impl<'t> Trace<'t> {
    fn new(kind: &'t mut Kind, within: &'t mut Vec<&'static str>) -> Self {
        Self { kind, within, carried: false }
    }
}

macro_rules! leaves {
    ($($($method:ident)+ => $kind:ident $visit:ident $value:expr;)+) => {$($(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            *self.kind = Kind::$kind;
            visitor.$visit($value)
        }
    )+)+};
}

impl<'de> Deserializer<'de> for Trace<'_> {
    type Error = Refused;

    leaves! {
        deserialize_bool => Bool visit_bool false;
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 => Int visit_i64 0;
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 => Int visit_u64 0;
        deserialize_f32 deserialize_f64 => Float visit_f64 0.0;
        deserialize_str deserialize_string deserialize_identifier => Text visit_str "";
        deserialize_bytes deserialize_byte_buf => Text visit_bytes b"";
        deserialize_char => Text visit_char '\0';
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(Self { carried: name == model::sparse::CARRIED, ..self })
    }

    fn is_human_readable(&self) -> bool {
        !self.carried
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let mut of = Kind::Any;
        let read = visitor.visit_seq(One { trace: Some(Trace::new(&mut of, self.within)) });
        *self.kind = Kind::List(Box::new(of));
        read
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let mut of = Kind::Any;
        let read = visitor.visit_map(One { trace: Some(Trace::new(&mut of, self.within)) });
        *self.kind = Kind::Map(Box::new(of));
        read
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if self.within.contains(&name) {
            // all of its fields are optional, or reading it ends here
            return visitor.visit_map(Fields { names: [].iter(), fields: &mut Vec::new(), within: self.within });
        }
        let mut fields = Vec::with_capacity(names.len());
        self.within.push(name);
        let read = visitor.visit_map(Fields { names: names.iter(), fields: &mut fields, within: self.within });
        self.within.pop();
        *self.kind = Kind::Struct { fields, open: read.is_err() };
        read
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        *self.kind = Kind::Text;
        let first = variants.first().copied().unwrap_or("");
        visitor.visit_enum(StringDeserializer::<Refused>::new(first.to_owned()))
    }
}

/// A list with one item, or a map with one key.
struct One<'t> {
    trace: Option<Trace<'t>>,
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        self.trace.take().map(|trace| seed.deserialize(trace)).transpose()
    }
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        if self.trace.is_none() {
            return Ok(None);
        }
        seed.deserialize(StrDeserializer::<Refused>::new("")).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        self.trace.take().ok_or(Refused).and_then(|trace| seed.deserialize(trace))
    }
}

/// Every field of a struct, once.
struct Fields<'t> {
    names: std::slice::Iter<'static, &'static str>,
    fields: &'t mut Vec<(&'static str, Kind)>,
    within: &'t mut Vec<&'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        // an alias in another letter case is the same field
        let known = &*self.fields;
        let fresh = |name: &&&'static str| !known.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let Some(name) = self.names.by_ref().find(fresh).copied() else { return Ok(None) };
        self.fields.push((name, Kind::Any));
        seed.deserialize(IntoDeserializer::<Refused>::into_deserializer(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        let (_, kind) = self.fields.last_mut().ok_or(Refused)?;
        seed.deserialize(Trace::new(kind, self.within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(mut kind: &'a Kind, path: &[&str]) -> &'a Kind {
        for part in path {
            kind = match kind {
                Kind::Struct { fields, open: false } => &fields.iter().find(|(name, _)| name == part).unwrap().1,
                Kind::List(of) | Kind::Map(of) => of,
                other => panic!("{other:?} has no {part}"),
            };
        }
        kind
    }

    #[test]
    fn a_schema_is_what_the_type_says() {
        let alloc = Schema::of::<model::Allocation>();
        for (path, kind) in [
            (&["ID"][..], Kind::Text),
            (&["ClientStatus"], Kind::Text),
            (&["CreateIndex"], Kind::Int),
            (&["Metrics", "ScoreMetaData", "0", "NodeID"], Kind::Text),
            (&["TaskStates", "*", "Failed"], Kind::Bool),
            (&["TaskStates", "*", "StartedAt"], Kind::Text),
            (&["Job", "TaskGroups", "0", "Tasks", "0", "KillTimeout"], Kind::Int),
            (&["Job", "TaskGroups", "0", "Tasks", "0", "Config", "*"], Kind::Any),
        ] {
            assert_eq!(*at(alloc.kind(), path), kind, "{path:?}");
        }
        let evaluation = Schema::of::<model::Evaluation>();
        assert_eq!(*at(evaluation.kind(), &["Status"]), Kind::Text);
        assert_eq!(*at(Schema::of::<model::Node>().kind(), &["Attributes", "*"]), Kind::Text);
        assert_eq!(*at(Schema::of::<model::Deployment>().kind(), &["TaskGroups", "*", "Promoted"]), Kind::Bool);
    }

    #[test]
    fn a_type_within_itself_ends() {
        let diff = Schema::of::<model::diff::JobDiff>();
        assert_eq!(*at(diff.kind(), &["Objects", "0", "Objects", "0"]), Kind::Any);
    }
}
