//! Values and types of the expression language, and the conversions between them.
//!
//! A collection knows its *weight* (logical size, counting shared parts every time) and *depth*
//! when it is made, so that limits are checks of a number: sharing by `Arc` cannot hide an
//! exponential value, and no recursion over a value is deeper than [`limits::VALUE_DEPTH`], since
//! the evaluator refuses a deeper one ([`Value::oversized`]).
//!
//! There is no "unknown": a reference to something only known at run time *is* the string
//! `${…}` (see `eval`), which is what the task will be given to interpolate.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits;
use crate::number::Number;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Not constrained, or not known (of `null`).
    Any,
    Bool,
    Number,
    String,
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>),
    Tuple(Vec<Type>),
    Object(BTreeMap<String, Type>),
}

#[derive(Clone, Debug)]
pub(crate) struct Seq {
    /// Element type; for tuples [`Type::Any`].
    pub of: Type,
    pub items: Vec<Value>,
    weight: u64,
    depth: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Element type; for objects [`Type::Any`].
    pub of: Type,
    pub items: BTreeMap<String, Value>,
    weight: u64,
    depth: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(Arc<str>),
    List(Arc<Seq>),
    /// Sorted, without duplicates.
    Set(Arc<Seq>),
    Tuple(Arc<Seq>),
    Map(Arc<Table>),
    Object(Arc<Table>),
}

fn seq(of: Type, items: Vec<Value>) -> Arc<Seq> {
    let weight = items.iter().fold(limits::NODE_WEIGHT, |sum, item| sum.saturating_add(item.weight()));
    let depth = items.iter().map(Value::depth).max().unwrap_or(0).saturating_add(1);
    Arc::new(Seq { of, items, weight, depth })
}

fn table(of: Type, items: BTreeMap<String, Value>) -> Arc<Table> {
    let weight = items.iter().fold(limits::NODE_WEIGHT, |sum, (key, item)| {
        sum.saturating_add(item.weight()).saturating_add(limits::NODE_WEIGHT + key.len() as u64)
    });
    let depth = items.values().map(Value::depth).max().unwrap_or(0).saturating_add(1);
    Arc::new(Table { of, items, weight, depth })
}

impl Value {
    pub fn string(text: impl AsRef<str>) -> Value {
        Value::String(Arc::from(text.as_ref()))
    }

    pub fn int(value: usize) -> Value {
        Value::Number(Number::count(value))
    }

    pub fn list(of: Type, items: Vec<Value>) -> Value {
        Value::List(seq(of, items))
    }

    pub fn strings<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> Value {
        Value::list(Type::String, items.into_iter().map(Value::string).collect())
    }

    pub fn set(of: Type, mut items: Vec<Value>) -> Value {
        items.sort();
        items.dedup();
        Value::Set(seq(of, items))
    }

    pub fn tuple(items: Vec<Value>) -> Value {
        Value::Tuple(seq(Type::Any, items))
    }

    pub fn map(of: Type, items: BTreeMap<String, Value>) -> Value {
        Value::Map(table(of, items))
    }

    pub fn object(items: BTreeMap<String, Value>) -> Value {
        Value::Object(table(Type::Any, items))
    }

    pub fn weight(&self) -> u64 {
        match self {
            Value::Null | Value::Bool(_) | Value::Number(_) => limits::NODE_WEIGHT,
            Value::String(text) => limits::NODE_WEIGHT + text.len() as u64,
            Value::List(seq) | Value::Set(seq) | Value::Tuple(seq) => seq.weight,
            Value::Map(table) | Value::Object(table) => table.weight,
        }
    }

    fn depth(&self) -> u32 {
        match self {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
            Value::List(seq) | Value::Set(seq) | Value::Tuple(seq) => seq.depth,
            Value::Map(table) | Value::Object(table) => table.depth,
        }
    }

    /// Whether the value is beyond what one value may be.
    pub fn oversized(&self) -> bool {
        self.weight() > limits::VALUE_WEIGHT || self.depth() > limits::VALUE_DEPTH
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The elements of a list, set or tuple.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::List(seq) | Value::Set(seq) | Value::Tuple(seq) => Some(&seq.items),
            _ => None,
        }
    }

    /// The entries of a map or object.
    pub fn entries(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Value::Map(table) | Value::Object(table) => Some(&table.items),
            _ => None,
        }
    }

    /// Key and value of every element, in iteration order; `None` when it cannot be iterated.
    pub fn pairs(&self) -> Option<Vec<(Value, Value)>> {
        Some(match self {
            Value::List(seq) | Value::Tuple(seq) => {
                seq.items.iter().enumerate().map(|(i, v)| (Value::int(i), v.clone())).collect()
            }
            Value::Set(seq) => seq.items.iter().map(|v| (v.clone(), v.clone())).collect(),
            Value::Map(table) | Value::Object(table) => {
                table.items.iter().map(|(k, v)| (Value::string(k), v.clone())).collect()
            }
            _ => return None,
        })
    }

    pub fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Any,
            Value::Bool(_) => Type::Bool,
            Value::Number(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::List(seq) => Type::List(Box::new(seq.of.clone())),
            Value::Set(seq) => Type::Set(Box::new(seq.of.clone())),
            Value::Tuple(seq) => Type::Tuple(seq.items.iter().map(Value::type_of).collect()),
            Value::Map(table) => Type::Map(Box::new(table.of.clone())),
            Value::Object(table) => Type::Object(table.items.iter().map(|(k, v)| (k.clone(), v.type_of())).collect()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::List(_) => 4,
            Value::Set(_) => 5,
            Value::Tuple(_) => 6,
            Value::Map(_) => 7,
            Value::Object(_) => 8,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::List(a), Value::List(b)) | (Value::Set(a), Value::Set(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
                a.items.cmp(&b.items)
            }
            (Value::Map(a), Value::Map(b)) | (Value::Object(a), Value::Object(b)) => a.items.cmp(&b.items),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Type {
    /// The name a person knows it by.
    pub fn name(&self) -> String {
        match self {
            Type::Any => "dynamic".to_owned(),
            Type::Bool => "bool".to_owned(),
            Type::Number => "number".to_owned(),
            Type::String => "string".to_owned(),
            Type::List(of) => format!("list of {}", of.name()),
            Type::Set(of) => format!("set of {}", of.name()),
            Type::Map(of) => format!("map of {}", of.name()),
            Type::Tuple(_) => "tuple".to_owned(),
            Type::Object(_) => "object".to_owned(),
        }
    }

    fn required(&self) -> String {
        match self {
            Type::Number | Type::Bool => format!("a {} is required", self.name()),
            other => format!("{} required", other.name()),
        }
    }
}

/// Converts to a type, or says what was required.
pub(crate) fn convert(value: &Value, to: &Type) -> Result<Value, String> {
    match (value, to) {
        (_, Type::Any) => Ok(value.clone()),
        (Value::Null, _) => Ok(Value::Null),
        (Value::Bool(_), Type::Bool) | (Value::Number(_), Type::Number) | (Value::String(_), Type::String) => {
            Ok(value.clone())
        }
        (Value::Bool(b), Type::String) => Ok(Value::string(if *b { "true" } else { "false" })),
        (Value::Number(n), Type::String) => Ok(Value::string(n.to_string())),
        (Value::String(text), Type::Number) => {
            Number::parse(text).map(Value::Number).ok_or_else(|| "a number is required".to_owned())
        }
        (Value::String(text), Type::Bool) => match &**text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err("a bool is required".to_owned()),
        },
        (Value::List(_) | Value::Set(_) | Value::Tuple(_), Type::List(_) | Type::Set(_)) => to_sequence(value, to),
        (Value::List(_) | Value::Tuple(_), Type::Tuple(types)) => to_tuple(value, types),
        (Value::Map(_) | Value::Object(_), Type::Map(of)) => to_map(value, of),
        (Value::Map(_) | Value::Object(_), Type::Object(attributes)) => to_object(value, attributes),
        _ => Err(to.required()),
    }
}

fn to_sequence(value: &Value, to: &Type) -> Result<Value, String> {
    let items = value.elements().unwrap_or_default();
    let (Type::List(of) | Type::Set(of)) = to else { return Err(to.required()) };
    let of = match &**of {
        Type::Any => unify(items.iter().map(Value::type_of))
            .ok_or_else(|| "all list elements must have the same type".to_owned())?,
        of => of.clone(),
    };
    let converted = items
        .iter()
        .enumerate()
        .map(|(i, item)| convert(item, &of).map_err(|e| format!("element {i}: {e}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match to {
        Type::Set(_) => Value::set(of, converted),
        _ => Value::list(of, converted),
    })
}

fn to_tuple(value: &Value, types: &[Type]) -> Result<Value, String> {
    let items = value.elements().unwrap_or_default();
    if items.len() != types.len() {
        return Err(format!("a tuple of {} elements is required", types.len()));
    }
    let converted = items
        .iter()
        .zip(types)
        .enumerate()
        .map(|(i, (item, of))| convert(item, of).map_err(|e| format!("element {i}: {e}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Value::tuple(converted))
}

fn to_map(value: &Value, of: &Type) -> Result<Value, String> {
    let Some(entries) = value.entries() else { return Err("a map is required".to_owned()) };
    let of = match of {
        Type::Any => unify(entries.values().map(Value::type_of))
            .ok_or_else(|| "all map elements must have the same type".to_owned())?,
        of => of.clone(),
    };
    let converted = entries
        .iter()
        .map(|(key, item)| Ok((key.clone(), convert(item, &of).map_err(|e| format!("element {key:?}: {e}"))?)))
        .collect::<Result<BTreeMap<_, _>, String>>()?;
    Ok(Value::map(of, converted))
}

fn to_object(value: &Value, attributes: &BTreeMap<String, Type>) -> Result<Value, String> {
    let Some(entries) = value.entries() else { return Err("object required".to_owned()) };
    let converted = attributes
        .iter()
        .map(|(name, of)| {
            let item = entries.get(name).ok_or_else(|| format!("attribute {name:?} is required"))?;
            Ok((name.clone(), convert(item, of).map_err(|e| format!("attribute {name:?}: {e}"))?))
        })
        .collect::<Result<BTreeMap<_, _>, String>>()?;
    Ok(Value::object(converted))
}

/// The one type all of these convert to without loss of meaning, if there is one.
pub(crate) fn unify(types: impl IntoIterator<Item = Type>) -> Option<Type> {
    let mut types = types.into_iter();
    let first = types.next().unwrap_or(Type::Any);
    types.try_fold(first, |a, b| unify_two(&a, &b))
}

fn unify_two(a: &Type, b: &Type) -> Option<Type> {
    Some(match (a, b) {
        (Type::Any, other) | (other, Type::Any) => other.clone(),
        (a, b) if a == b => a.clone(),
        (Type::String, Type::Number | Type::Bool) | (Type::Number | Type::Bool, Type::String) => Type::String,
        (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => {
            Type::Tuple(a.iter().zip(b).map(|(a, b)| unify_two(a, b)).collect::<Option<_>>()?)
        }
        (Type::Tuple(a), Type::Tuple(b)) => Type::List(Box::new(unify(a.iter().chain(b).cloned())?)),
        (Type::Tuple(items), Type::List(of)) | (Type::List(of), Type::Tuple(items)) => {
            Type::List(Box::new(unify(items.iter().cloned().chain([(**of).clone()]))?))
        }
        (Type::Tuple(items), Type::Set(of)) | (Type::Set(of), Type::Tuple(items)) => {
            Type::Set(Box::new(unify(items.iter().cloned().chain([(**of).clone()]))?))
        }
        (Type::List(a), Type::Set(b)) | (Type::Set(a), Type::List(b)) | (Type::List(a), Type::List(b)) => {
            Type::List(Box::new(unify_two(a, b)?))
        }
        (Type::Set(a), Type::Set(b)) => Type::Set(Box::new(unify_two(a, b)?)),
        (Type::Map(a), Type::Map(b)) => Type::Map(Box::new(unify_two(a, b)?)),
        (Type::Object(a), Type::Object(b)) if a.keys().eq(b.keys()) => Type::Object(
            a.iter().zip(b.values()).map(|((k, a), b)| Some((k.clone(), unify_two(a, b)?))).collect::<Option<_>>()?,
        ),
        (Type::Object(a), Type::Object(b)) => Type::Map(Box::new(unify(a.values().chain(b.values()).cloned())?)),
        (Type::Object(items), Type::Map(of)) | (Type::Map(of), Type::Object(items)) => {
            Type::Map(Box::new(unify(items.values().cloned().chain([(**of).clone()]))?))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_convert_both_ways() {
        let seven = Value::Number(Number::int(7));
        assert_eq!(convert(&Value::string("7"), &Type::Number), Ok(seven.clone()));
        assert_eq!(convert(&seven, &Type::String), Ok(Value::string("7")));
        assert_eq!(convert(&Value::string("x"), &Type::Number), Err("a number is required".to_owned()));
        assert_eq!(convert(&Value::tuple(vec![]), &Type::String), Err("string required".to_owned()));
    }

    #[test]
    fn sets_are_sorted_and_free_of_duplicates() {
        let set = convert(&Value::strings(["b", "a", "b"]), &Type::Set(Box::new(Type::String))).unwrap();
        assert_eq!(set, Value::set(Type::String, vec![Value::string("a"), Value::string("b")]));
    }

    #[test]
    fn sharing_does_not_hide_weight_or_depth() {
        let mut value = Value::string("0123456789");
        for _ in 0..40 {
            value = Value::tuple(vec![value.clone(), value]);
        }
        assert!(value.oversized());
        let mut deep = Value::Null;
        for _ in 0..=limits::VALUE_DEPTH {
            deep = Value::tuple(vec![deep]);
        }
        assert!(deep.oversized());
    }

    #[test]
    fn objects_drop_what_their_type_does_not_name() {
        let given = Value::object([("a".to_owned(), Value::int(1)), ("b".to_owned(), Value::int(2))].into());
        let wanted = Type::Object([("a".to_owned(), Type::String)].into());
        let got = convert(&given, &wanted).unwrap();
        assert_eq!(got.entries().unwrap().len(), 1);
        assert!(convert(&Value::object(BTreeMap::new()), &wanted).is_err());
    }
}
