//! Set algebra.

use super::{Context, Failure, Function, Outcome, Want, elements, param};
use crate::limits;
use crate::value::{Type, Value, convert, unify};

pub(super) const TABLE: &[Function] = &[
    Function {
        name: "setintersection",
        params: &[param("first_set", Want::Any)],
        rest: Some(param("other_sets", Want::Any)),
        body: intersection,
    },
    Function { name: "setproduct", params: &[], rest: Some(param("sets", Want::Any)), body: product },
    Function {
        name: "setunion",
        params: &[param("first_set", Want::Any)],
        rest: Some(param("other_sets", Want::Any)),
        body: union,
    },
];

/// All arguments as sets of one element type.
fn as_sets(args: &[Value]) -> Result<(Type, Vec<Value>), Failure> {
    let mut types = Vec::new();
    for i in 0..args.len() {
        types.push(match &args[i] {
            Value::List(seq) | Value::Set(seq) => seq.of.clone(),
            _ => unify(elements(args, i)?.iter().map(Value::type_of)).unwrap_or(Type::Any),
        });
    }
    let of = unify(types).ok_or("all sets must have the same element type")?;
    let to = Type::Set(Box::new(of.clone()));
    let sets = args
        .iter()
        .enumerate()
        .map(|(i, value)| convert(value, &to).map_err(|why| Failure::Argument(i, why)))
        .collect::<Result<_, _>>()?;
    Ok((of, sets))
}

fn union(_: &Context<'_>, args: &[Value]) -> Outcome {
    let (of, sets) = as_sets(args)?;
    let all = sets.iter().flat_map(|set| set.elements().unwrap_or_default()).cloned().collect();
    Ok(Value::set(of, all))
}

fn intersection(_: &Context<'_>, args: &[Value]) -> Outcome {
    let (of, sets) = as_sets(args)?;
    let (first, others) = sets.split_first().ok_or("at least one set is required")?;
    let kept = first
        .elements()
        .unwrap_or_default()
        .iter()
        .filter(|item| others.iter().all(|set| set.elements().unwrap_or_default().binary_search(item).is_ok()))
        .cloned()
        .collect();
    Ok(Value::set(of, kept))
}

fn product(cx: &Context<'_>, args: &[Value]) -> Outcome {
    if args.len() < 2 {
        return Err("at least two arguments are required".into());
    }
    let mut count = 1usize;
    for i in 0..args.len() {
        count = count.saturating_mul(elements(args, i)?.len());
    }
    let cost = (count as u64).saturating_mul(limits::NODE_WEIGHT * (1 + args.len() as u64));
    cx.charge(cost)?;
    if cost > limits::VALUE_WEIGHT {
        return Err("the result would be too large".into());
    }
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for i in 0..args.len() {
        let items = elements(args, i)?;
        rows = rows
            .iter()
            .flat_map(|row| items.iter().map(|item| row.iter().cloned().chain([item.clone()]).collect()))
            .collect();
    }
    let rows: Vec<Value> = rows.into_iter().map(Value::tuple).collect();
    let of = rows.first().map_or(Type::Any, Value::type_of);
    let ordered = args.iter().all(|value| matches!(value, Value::List(_) | Value::Tuple(_)));
    Ok(if ordered { Value::list(of, rows) } else { Value::set(of, rows) })
}
