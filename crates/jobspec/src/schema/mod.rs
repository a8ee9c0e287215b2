//! What a job file may say: blocks, attributes, types, and where each lands on the wire.
//!
//! The tables are data. `decode` walks them with a body of the file at its side, `json_syntax`
//! uses them to tell blocks from attributes, and an error lists near misses from them. A name
//! missing here does not exist in the language.
//!
//! A wire name starting with `@` is a place to put something until `normalize` moves it where it
//! belongs; none survives. Rules about *values* (ranges, enums, what excludes what) are not here:
//! the model validates a job however it came in.

pub(crate) mod connect;
pub(crate) mod job;
pub(crate) mod service;
pub(crate) mod task;

/// One kind of block body.
pub(crate) struct Body {
    pub kind: Kind,
    pub fields: &'static [Field],
    /// Wire fields no job file can set, and what they are.
    pub hidden: &'static [(&'static str, Hidden)],
}

/// Bodies that need more than their table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Job,
    Group,
    Task,
    Constraint,
    Affinity,
    Network,
    GroupScaling,
    TaskScaling,
    Template,
    Vault,
    Periodic,
}

pub(crate) struct Field {
    /// Name in the file; empty for the label.
    pub name: &'static str,
    pub wire: &'static str,
    pub shape: Shape,
    pub required: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Text(Unset),
    Bool(Unset),
    Int(Range, Unset),
    Duration(Unset),
    TextList,
    /// A list of 16-bit numbers.
    PortList,
    /// String to string, as a block of attributes or as one attribute.
    TextMap,
    /// String to list of strings, likewise.
    TextListMap,
    /// Anything; nested blocks become lists of maps.
    Opaque,
    One(&'static Body),
    Many(&'static Body),
    /// A map on the wire, keyed by the label; the last of equal labels stays.
    ByLabel(&'static Body),
    Label,
    /// Kept as an expression by whoever reads it.
    Raw,
}

/// What an attribute that was not given is on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    Null,
    /// The zero of its type.
    Zero,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    Null,
    False,
    Empty,
    Nought,
}

#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub min: i128,
    pub max: i128,
}

pub(crate) const INT: Range = Range { min: i64::MIN as i128, max: i64::MAX as i128 };
pub(crate) const UINT: Range = Range { min: 0, max: u64::MAX as i128 };
pub(crate) const INT8: Range = Range { min: i8::MIN as i128, max: i8::MAX as i128 };
pub(crate) const UINT8: Range = Range { min: 0, max: u8::MAX as i128 };
pub(crate) const UINT16: Range = Range { min: 0, max: u16::MAX as i128 };
pub(crate) const UINT32: Range = Range { min: 0, max: u32::MAX as i128 };

const fn field(name: &'static str, wire: &'static str, shape: Shape) -> Field {
    Field { name, wire, shape, required: false }
}

const fn required(name: &'static str, wire: &'static str, shape: Shape) -> Field {
    Field { name, wire, shape, required: true }
}

const fn label(wire: &'static str) -> Field {
    Field { name: "", wire, shape: Shape::Label, required: false }
}

impl Body {
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name && !field.name.is_empty())
    }

    /// The wire name of the label, of a body that has one.
    pub fn label(&self) -> Option<&'static str> {
        self.fields.iter().find(|field| matches!(field.shape, Shape::Label)).map(|field| field.wire)
    }
}

impl Field {
    /// Whether it is written as a block (it may be writable as an attribute too).
    pub fn is_block(&self) -> bool {
        matches!(
            self.shape,
            Shape::One(_) | Shape::Many(_) | Shape::ByLabel(_) | Shape::Opaque | Shape::TextMap | Shape::TextListMap
        )
    }

    /// Whether it may be written as an attribute.
    pub fn is_attribute(&self) -> bool {
        !matches!(self.shape, Shape::One(_) | Shape::Many(_) | Shape::ByLabel(_) | Shape::Label | Shape::Opaque)
    }
}

/// A whole job file.
pub(crate) static ROOT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("job", "job", Shape::Many(&job::JOB)),
        field("variable", "variable", Shape::Many(&VARIABLE)),
        field("variables", "variables", Shape::Opaque),
        field("locals", "locals", Shape::Opaque),
    ],
    hidden: &[],
};

pub(crate) static VARIABLE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        label("name"),
        field("type", "type", Shape::Raw),
        field("default", "default", Shape::Raw),
        field("description", "description", Shape::Raw),
        field("validation", "validation", Shape::Many(&VALIDATION)),
    ],
    hidden: &[],
};

pub(crate) static VALIDATION: Body = Body {
    kind: Kind::Plain,
    fields: &[required("condition", "condition", Shape::Raw), required("error_message", "error_message", Shape::Raw)],
    hidden: &[],
};
