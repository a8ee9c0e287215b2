//! Locals: what `local.x` is.
//!
//! They are evaluated after what they refer to, whatever their order in the file. The reference
//! tries them in no fixed order until nothing changes; the outcome is the same, except that `try`
//! never takes its fallback here because a local was not there *yet*.

use std::collections::{BTreeMap, BTreeSet};

use crate::ast::{self, Attribute, Body, Expr, references};
use crate::diagnostics::{Fallible, Problem, Sources};
use crate::doubt::Doubt;
use crate::eval::{Evaluator, Scope, get_attr};
use crate::limits;
use crate::value::Value;

/// Evaluates all locals. `var` is already in `names`; `local` is there afterwards.
pub(crate) fn evaluate(
    evaluator: &Evaluator<'_>,
    sources: &Sources,
    body: &Body,
    names: &mut BTreeMap<String, Value>,
    doubt: &mut Doubt,
    problems: &mut Vec<Problem>,
) {
    let mut all: BTreeMap<&str, &Attribute> = BTreeMap::new();
    for block in body.blocks.iter().filter(|block| block.kind == "locals") {
        for inner in block.body.blocks.iter().take(limits::DIAGNOSTICS) {
            doubt.about("local", &inner.kind);
            problems.push(*Problem::error(
                inner.kind_span,
                format!("Unexpected {:?} block", inner.kind),
                "Blocks are not allowed here.",
            ));
        }
        for attribute in &block.body.attributes {
            if let Some(first) = all.insert(&attribute.name, attribute) {
                problems.push(*Problem::error(
                    attribute.name_span,
                    "Duplicate value in locals",
                    format!(
                        "Duplicate {} definition found. Previous definition was at {}.",
                        attribute.name,
                        sources.range(first.name_span)
                    ),
                ));
                if problems.len() >= limits::DIAGNOSTICS {
                    return;
                }
            }
        }
    }
    let mut done: BTreeMap<String, Value> = BTreeMap::new();
    let order = order(&all);
    for name in &order.sorted {
        let Some(attribute) = all.get(name) else { continue };
        let value = visible(evaluator, &done, attribute).and_then(|local| {
            names.insert("local".to_owned(), local);
            evaluator.eval(&attribute.value, &Scope::root(names.clone()))
        });
        match value {
            Ok(value) => drop(done.insert((*name).to_owned(), value)),
            Err(problem) => {
                if !doubt.covers(&attribute.value) && problems.len() < limits::DIAGNOSTICS {
                    problems.push(*problem);
                }
                doubt.about("local", name);
            }
        }
    }
    if let Some(cycle) = order.cycle {
        problems.push(*cyclic(&all, &cycle));
        let there: BTreeSet<&str> = order.sorted.into_iter().collect();
        all.keys().filter(|name| !there.contains(*name)).for_each(|name| doubt.about("local", name));
    }
    names.insert("local".to_owned(), Value::object(done));
}

/// Which locals an expression names, and whether it also uses `local` as a whole.
fn mentions(expr: &Expr) -> (BTreeSet<&str>, bool) {
    let mut named = BTreeSet::new();
    let mut whole = false;
    references(expr, &mut Vec::new(), &mut |reference, _| {
        if reference.root == "local" {
            match reference.steps.first() {
                Some((ast::Step::Attr(name), _)) => {
                    named.insert(name.as_str());
                }
                Some((ast::Step::Index(Value::String(name)), _)) => {
                    named.insert(&**name);
                }
                _ => whole = true,
            }
        }
    });
    (named, whole)
}

/// The part of `local` one expression looks at, so that making it costs what is used.
fn visible(evaluator: &Evaluator<'_>, done: &BTreeMap<String, Value>, attribute: &Attribute) -> Fallible<Value> {
    let (named, whole) = mentions(&attribute.value);
    if whole {
        evaluator.charge(limits::NODE_WEIGHT * done.len() as u64, attribute.span)?;
        return Ok(Value::object(done.clone()));
    }
    let kept = named.into_iter().filter_map(|name| Some((name.to_owned(), done.get(name)?.clone())));
    Ok(Value::object(kept.collect()))
}

struct Order<'e> {
    sorted: Vec<&'e str>,
    /// Names that wait for each other, in the order they do.
    cycle: Option<Vec<&'e str>>,
}

/// Sorts locals so that each comes after those it names (Kahn's algorithm). Those that use
/// `local` as a whole come as late as that allows, and see what is there by then.
fn order<'e>(all: &BTreeMap<&'e str, &'e Attribute>) -> Order<'e> {
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut late: BTreeSet<&str> = BTreeSet::new();
    for (name, attribute) in all {
        let (named, whole) = mentions(&attribute.value);
        let found: BTreeSet<&str> = named.into_iter().filter(|other| all.contains_key(other)).collect();
        if whole {
            late.insert(name);
        }
        for other in &found {
            needed_by.entry(other).or_default().push(name);
        }
        needs.insert(name, found);
    }
    let (mut later, mut ready): (Vec<&str>, Vec<&str>) =
        needs.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).partition(|name| late.contains(name));
    let mut sorted = Vec::new();
    while let Some(name) = ready.pop().or_else(|| later.pop()) {
        sorted.push(name);
        for waiting in needed_by.remove(name).unwrap_or_default() {
            let Some(needs) = needs.get_mut(waiting) else { continue };
            needs.remove(name);
            if needs.is_empty() {
                if late.contains(waiting) { later.push(waiting) } else { ready.push(waiting) }
            }
        }
    }
    let cycle = (sorted.len() < all.len()).then(|| walk_cycle(&needs));
    Order { sorted, cycle }
}

fn walk_cycle<'e>(needs: &BTreeMap<&'e str, BTreeSet<&'e str>>) -> Vec<&'e str> {
    let mut path: Vec<&str> = Vec::new();
    let mut next = needs.iter().find(|(_, needs)| !needs.is_empty()).map(|(name, _)| *name);
    while let Some(name) = next {
        if let Some(at) = path.iter().position(|seen| *seen == name) {
            return path.split_off(at);
        }
        path.push(name);
        if path.len() > 1000 {
            break;
        }
        next = needs.get(name).and_then(|needs| needs.first().copied());
    }
    path
}

/// Reports a cycle as the reference does: the last one tried does not find its neighbour.
fn cyclic(all: &BTreeMap<&str, &Attribute>, cycle: &[&str]) -> Box<Problem> {
    let last = cycle.iter().filter_map(|name| all.get(name)).max_by_key(|attribute| attribute.name_span.start);
    let mut found = None;
    if let Some(attribute) = last {
        references(&attribute.value, &mut Vec::new(), &mut |reference, _| {
            if let (true, Some((ast::Step::Attr(name), at))) = (reference.root == "local", reference.steps.first())
                && cycle.contains(&name.as_str())
            {
                found.get_or_insert((name.clone(), *at));
            }
        });
    }
    let mut path: Vec<&str> = cycle.to_vec();
    path.extend(cycle.first());
    let (name, at) = found.unwrap_or_default();
    match get_attr(&Value::object(BTreeMap::new()), &name, at) {
        Err(problem) => problem.hint(format!("these locals refer to each other in a circle: {}", path.join(" -> "))),
        Ok(_) => Problem::error(at, "Cycle in locals", path.join(" -> ")),
    }
}
