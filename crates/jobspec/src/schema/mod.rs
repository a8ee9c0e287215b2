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
    /// A map on the wire, keyed by the label.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The body a path of the reference names, from the job down.
    fn body_at(path: &str) -> Option<&'static Body> {
        match path {
            "(constraint)" => return Some(&job::CONSTRAINT),
            "(affinity)" => return Some(&job::AFFINITY),
            "(root)" => return Some(&ROOT),
            _ => {}
        }
        let mut body = &ROOT;
        for part in path.split('.') {
            body = match body.field(part)?.shape {
                Shape::One(inner) | Shape::Many(inner) | Shape::ByLabel(inner) => inner,
                _ => return None,
            };
        }
        Some(body)
    }

    #[test]
    fn every_block_and_attribute_of_the_reference_is_in_the_tables_with_its_type() {
        let mut checked = 0;
        for row in include_str!("../../tests/data/blocks.tsv").lines().skip(1) {
            let columns: Vec<&str> = row.split('\t').collect();
            let (path, name, of, needed) = (columns[0], columns[1], columns[2], columns[3]);
            if name == "*" || name.starts_with("dynamic") {
                continue;
            }
            let body = body_at(path).unwrap_or_else(|| panic!("{path} is unknown"));
            if name == "(label)" {
                assert!(body.label().is_some(), "{path} has no label");
                continue;
            }
            let field = body.field(name).unwrap_or_else(|| panic!("{path} has no {name}"));
            let fits = match field.shape {
                Shape::Text(_) => of == "string",
                Shape::Bool(_) => of == "bool",
                Shape::Int(..) => of.contains("int"),
                Shape::Duration(_) => of == "duration",
                Shape::TextList => of == "list(string)",
                Shape::PortList => of == "list(number)",
                Shape::TextMap => of == "map(string)" || of.contains("string attributes"),
                Shape::TextListMap => of.contains("list(string) attributes"),
                Shape::Opaque => of.contains("opaque") || path == "(root)",
                Shape::One(_) => of.contains("at most one") || of.contains("exactly one"),
                Shape::Many(_) | Shape::ByLabel(_) => {
                    of.contains("repeated") || of.contains("last wins") || path == "(root)"
                }
                Shape::Raw => path.starts_with("variable"),
                Shape::Label => false,
            };
            assert!(fits, "{path}.{name} is {of} in the reference");
            let exempt = path == "(root)" || (path, name) == ("job.group.scaling", "max");
            assert!(
                exempt || field.required == (needed == "yes"),
                "{path}.{name}: required is {needed} in the reference"
            );
            checked += 1;
        }
        assert!(checked > 350, "{checked}");
    }

    #[test]
    fn no_body_lands_two_fields_in_one_place() {
        for body in [&job::JOB, &job::GROUP, &task::TASK, &service::SERVICE, &job::NETWORK, &job::CONSTRAINT] {
            let mut seen = std::collections::BTreeSet::new();
            for wire in body.fields.iter().map(|field| field.wire).chain(body.hidden.iter().map(|(wire, _)| *wire)) {
                assert!(seen.insert(wire), "{wire} twice");
            }
        }
    }
}
