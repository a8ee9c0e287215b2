//! Functions on lists, tuples, maps and objects.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, Failure, Function, Outcome, Want, elements, nullable, param, strings, text, whole};
use crate::eval;
use crate::limits;
use crate::value::{Type, Value, convert, unify};

pub(super) const TABLE: &[Function] = &[
    Function {
        name: "chunklist",
        params: &[param("list", Want::Any), param("size", Want::Number)],
        rest: None,
        body: chunklist,
    },
    Function { name: "coalesce", params: &[], rest: Some(nullable("vals")), body: coalesce },
    Function { name: "coalescelist", params: &[], rest: Some(nullable("vals")), body: coalescelist },
    Function { name: "compact", params: &[param("list", Want::TextList)], rest: None, body: compact },
    Function { name: "concat", params: &[], rest: Some(param("seqs", Want::Any)), body: concat },
    Function { name: "contains", params: &[param("list", Want::Any), nullable("value")], rest: None, body: contains },
    Function { name: "distinct", params: &[param("list", Want::Any)], rest: None, body: distinct },
    Function {
        name: "element",
        params: &[param("list", Want::Any), param("index", Want::Number)],
        rest: None,
        body: element,
    },
    Function { name: "flatten", params: &[param("list", Want::Any)], rest: None, body: flatten },
    Function {
        name: "index",
        params: &[param("collection", Want::Any), param("key", Want::Any)],
        rest: None,
        body: index,
    },
    Function { name: "keys", params: &[param("inputMap", Want::Any)], rest: None, body: keys },
    Function { name: "length", params: &[param("collection", Want::Any)], rest: None, body: length },
    Function {
        name: "lookup",
        params: &[param("inputMap", Want::Any), param("key", Want::Text), nullable("default")],
        rest: None,
        body: lookup,
    },
    Function { name: "merge", params: &[], rest: Some(nullable("maps")), body: merge },
    Function {
        name: "slice",
        params: &[param("list", Want::Any), param("start_index", Want::Number), param("end_index", Want::Number)],
        rest: None,
        body: slice,
    },
    Function { name: "sort", params: &[param("list", Want::TextList)], rest: None, body: sort },
    Function { name: "values", params: &[param("mapping", Want::Any)], rest: None, body: values },
    Function {
        name: "zipmap",
        params: &[param("keys", Want::TextList), param("values", Want::Any)],
        rest: None,
        body: zipmap,
    },
];

/// A list or tuple; sets have no order and are refused.
fn sequence(args: &[Value], i: usize) -> Result<&[Value], Failure> {
    match &args[i] {
        Value::List(seq) | Value::Tuple(seq) => Ok(&seq.items),
        _ => Err(Failure::Argument(i, "must be a list or a tuple".to_owned())),
    }
}

fn entries(args: &[Value], i: usize) -> Result<&BTreeMap<String, Value>, Failure> {
    args[i].entries().ok_or_else(|| Failure::Argument(i, "must be a map or an object".to_owned()))
}

/// As a list when the elements agree on a type, else as a tuple.
fn list_or_tuple(items: Vec<Value>) -> Value {
    match unify(items.iter().map(Value::type_of)) {
        Some(of) => {
            let converted: Result<Vec<_>, _> = items.iter().map(|item| convert(item, &of)).collect();
            converted.map_or_else(|_| Value::tuple(items), |converted| Value::list(of, converted))
        }
        None => Value::tuple(items),
    }
}

fn element_type(value: &Value) -> Type {
    match value {
        Value::List(seq) | Value::Set(seq) => seq.of.clone(),
        other => unify(other.elements().unwrap_or_default().iter().map(Value::type_of)).unwrap_or(Type::Any),
    }
}

fn chunklist(_: &Context<'_>, args: &[Value]) -> Outcome {
    let items = sequence(args, 0)?;
    let size = usize::try_from(whole(args, 1)?)
        .map_err(|_| Failure::Argument(1, "the size argument must be positive".to_owned()))?;
    let of = element_type(&args[0]);
    let whole_list = Type::List(Box::new(of.clone()));
    let chunks = if size == 0 {
        vec![Value::list(of, items.to_vec())]
    } else {
        items.chunks(size).map(|chunk| Value::list(of.clone(), chunk.to_vec())).collect()
    };
    Ok(Value::list(whole_list, chunks))
}

fn coalesce(_: &Context<'_>, args: &[Value]) -> Outcome {
    let found = args.iter().find(|value| !value.is_null()).ok_or("no non-null arguments")?;
    let of = unify(args.iter().map(Value::type_of)).ok_or("all arguments must have the same type")?;
    convert(found, &of).map_err(Failure::Call)
}

fn coalescelist(_: &Context<'_>, args: &[Value]) -> Outcome {
    for (i, value) in args.iter().enumerate().filter(|(_, value)| !value.is_null()) {
        if !sequence(args, i)?.is_empty() {
            return Ok(value.clone());
        }
    }
    Err("no non-null, non-empty arguments".into())
}

fn compact(_: &Context<'_>, args: &[Value]) -> Outcome {
    let kept = elements(args, 0)?.iter().filter(|item| matches!(item, Value::String(text) if !text.is_empty()));
    Ok(Value::list(Type::String, kept.cloned().collect()))
}

fn concat(_: &Context<'_>, args: &[Value]) -> Outcome {
    if args.is_empty() {
        return Err("at least one argument is required".into());
    }
    let mut all = Vec::new();
    for i in 0..args.len() {
        all.extend_from_slice(sequence(args, i)?);
        if all.len() as u64 * limits::NODE_WEIGHT > limits::VALUE_WEIGHT {
            return Err("the result would be too large".into());
        }
    }
    let lists = args.iter().all(|value| matches!(value, Value::List(_)));
    Ok(if lists { list_or_tuple(all) } else { Value::tuple(all) })
}

fn contains(cx: &Context<'_>, args: &[Value]) -> Outcome {
    let items = elements(args, 0)?;
    cx.charge(args[1].weight())?;
    // In a typed collection the wanted value is first made one of its kind.
    let wanted = match &args[0] {
        Value::List(seq) | Value::Set(seq) => convert(&args[1], &seq.of).unwrap_or_else(|_| args[1].clone()),
        _ => args[1].clone(),
    };
    Ok(Value::Bool(items.contains(&wanted)))
}

fn distinct(_: &Context<'_>, args: &[Value]) -> Outcome {
    let mut seen = BTreeSet::new();
    let kept = sequence(args, 0)?.iter().filter(|item| seen.insert(*item)).cloned().collect();
    Ok(Value::list(element_type(&args[0]), kept))
}

fn element(_: &Context<'_>, args: &[Value]) -> Outcome {
    let items = sequence(args, 0)?;
    if items.is_empty() {
        return Err(Failure::Argument(0, "cannot use element function with an empty list".to_owned()));
    }
    let at = whole(args, 1)?;
    let at = usize::try_from(at)
        .map_err(|_| Failure::Argument(1, "cannot use element function with a negative index".to_owned()))?;
    Ok(items[at % items.len()].clone())
}

fn flatten(cx: &Context<'_>, args: &[Value]) -> Outcome {
    fn into(items: &[Value], out: &mut Vec<Value>) {
        for item in items {
            match item.elements() {
                Some(inner) => into(inner, out),
                None => out.push(item.clone()),
            }
        }
    }
    cx.charge(args[0].weight())?;
    let mut out = Vec::new();
    into(elements(args, 0)?, &mut out);
    Ok(Value::tuple(out))
}

fn index(_: &Context<'_>, args: &[Value]) -> Outcome {
    if matches!(args[0], Value::Object(_) | Value::Set(_)) {
        return Err(Failure::Argument(0, "collection must be a list, a map or a tuple".to_owned()));
    }
    eval::index(&args[0], &args[1], crate::diagnostics::Span::default())
        .map_err(|problem| Failure::Call(problem.detail.trim_end_matches('.').to_owned()))
}

fn keys(_: &Context<'_>, args: &[Value]) -> Outcome {
    let names: Vec<Value> = entries(args, 0)?.keys().map(Value::string).collect();
    Ok(match &args[0] {
        Value::Map(_) => Value::list(Type::String, names),
        _ => Value::tuple(names),
    })
}

fn length(_: &Context<'_>, args: &[Value]) -> Outcome {
    match &args[0] {
        Value::Map(table) => Ok(Value::int(table.items.len())),
        value => match value.elements() {
            Some(items) => Ok(Value::int(items.len())),
            None => Err(Failure::Argument(0, "collection must be a list, a map or a tuple".to_owned())),
        },
    }
}

fn lookup(_: &Context<'_>, args: &[Value]) -> Outcome {
    let found = entries(args, 0)?.get(text(args, 1));
    match (&args[0], found) {
        (_, Some(value)) => Ok(value.clone()),
        (Value::Map(table), None) => convert(&args[2], &table.of).map_err(|_| {
            Failure::Argument(2, "the default value must have the same type as the map elements".to_owned())
        }),
        _ => Ok(args[2].clone()),
    }
}

fn merge(_: &Context<'_>, args: &[Value]) -> Outcome {
    let mut all = BTreeMap::new();
    let mut of: Vec<&Type> = Vec::new();
    let mut maps = true;
    for (i, value) in args.iter().enumerate().filter(|(_, value)| !value.is_null()) {
        all.extend(entries(args, i)?.iter().map(|(k, v)| (k.clone(), v.clone())));
        match value {
            Value::Map(table) => of.push(&table.of),
            _ => maps = false,
        }
    }
    maps &= of.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(match of.first() {
        Some(of) if maps => Value::map((*of).clone(), all),
        _ => Value::object(all),
    })
}

fn slice(_: &Context<'_>, args: &[Value]) -> Outcome {
    let items = sequence(args, 0)?;
    let (start, end) = (whole(args, 1)?, whole(args, 2)?);
    let bound = |value: i64, i: usize| {
        usize::try_from(value).ok().filter(|at| *at <= items.len()).ok_or_else(|| {
            Failure::Argument(i, "index must not be negative, and not greater than the length of the list".to_owned())
        })
    };
    let (start, end) = (bound(start, 1)?, bound(end, 2)?);
    if start > end {
        return Err(Failure::Argument(1, "start index must not be greater than end index".to_owned()));
    }
    let part = items[start..end].to_vec();
    Ok(match &args[0] {
        Value::List(seq) => Value::list(seq.of.clone(), part),
        _ => Value::tuple(part),
    })
}

fn sort(_: &Context<'_>, args: &[Value]) -> Outcome {
    let mut items = strings(args, 0)?;
    items.sort_unstable();
    Ok(Value::strings(items))
}

fn values(_: &Context<'_>, args: &[Value]) -> Outcome {
    let items: Vec<Value> = entries(args, 0)?.values().cloned().collect();
    Ok(match &args[0] {
        Value::Map(table) => Value::list(table.of.clone(), items),
        _ => Value::tuple(items),
    })
}

fn zipmap(_: &Context<'_>, args: &[Value]) -> Outcome {
    let (names, items) = (strings(args, 0)?, sequence(args, 1)?);
    if names.len() != items.len() {
        return Err(
            format!("number of keys ({}) does not match number of values ({})", names.len(), items.len()).into()
        );
    }
    let paired = names.into_iter().map(String::from).zip(items.iter().cloned()).collect();
    Ok(match &args[1] {
        Value::List(seq) => Value::map(seq.of.clone(), paired),
        _ => Value::object(paired),
    })
}
