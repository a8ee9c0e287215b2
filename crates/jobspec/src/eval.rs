//! Evaluates expressions.
//!
//! A name is looked up through [`Scope`]s, innermost first. A name no scope has is a thing only
//! the client knows (`attr`, `node`, `NOMAD_PORT_x` … none is reserved): its value is the string
//! `${source}`, with the source text of the reference kept to the byte, so that it concatenates,
//! travels through functions and arrives at the task. Evaluation of variables' defaults runs in a
//! [`Scope::sealed`] scope, where neither names nor functions exist.
//!
//! Everything is bounded: [`Evaluator::charge`] counts expressions and the weight of what they
//! make against one budget per parse, and no value may outgrow [`Value::oversized`]. Recursion
//! follows the syntax tree, whose depth the parser bounds.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::Inputs;
use crate::ast::{Call, Expr, For, Kind, Operator, Part, Reference, Step};
use model::nearest;

use crate::diagnostics::{Fallible, Problem, Span};
use crate::functions;
use crate::limits;
use crate::operators;
use crate::type_expr;
use crate::value::{Type, Value, convert, unify};

pub(crate) struct Scope<'a> {
    parent: Option<&'a Scope<'a>>,
    names: BTreeMap<String, Value>,
    sealed: bool,
}

impl<'a> Scope<'a> {
    pub fn root(names: BTreeMap<String, Value>) -> Self {
        Scope { parent: None, names, sealed: false }
    }

    /// Literals and operators only.
    pub fn sealed() -> Self {
        Scope { parent: None, names: BTreeMap::new(), sealed: true }
    }

    pub fn child(&'a self, names: BTreeMap<String, Value>) -> Scope<'a> {
        Scope { parent: Some(self), names, sealed: self.sealed }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut scope = Some(self);
        while let Some(current) = scope {
            if let Some(value) = current.names.get(name) {
                return Some(value);
            }
            scope = current.parent;
        }
        None
    }
}

pub(crate) struct Evaluator<'a> {
    pub inputs: &'a Inputs<'a>,
    spent: Cell<u64>,
    pub uuids_made: Cell<u64>,
    /// Validation rules may not read files even where the rest may.
    pub files_allowed: Cell<bool>,
}

impl<'a> Evaluator<'a> {
    pub fn new(inputs: &'a Inputs<'a>) -> Self {
        Evaluator { inputs, spent: Cell::new(0), uuids_made: Cell::new(0), files_allowed: Cell::new(true) }
    }

    pub fn charge(&self, cost: u64, at: Span) -> Fallible<()> {
        let spent = self.spent.get().saturating_add(cost);
        self.spent.set(spent);
        if spent > limits::WORK {
            return Err(Problem::error(
                at,
                "Job file expands to too much",
                "Evaluating this job file takes more work than is allowed for one file.",
            ));
        }
        Ok(())
    }

    /// Charges for a value that was just made, and refuses one that is too large.
    fn made(&self, value: Value, at: Span) -> Fallible<Value> {
        self.charge(value.weight(), at)?;
        if value.oversized() { Err(too_large(at)) } else { Ok(value) }
    }

    pub fn eval(&self, expr: &Expr, scope: &Scope<'_>) -> Fallible<Value> {
        self.charge(16, expr.span)?;
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Paren(inner) => self.eval(inner, scope),
            Kind::Reference(reference) => self.reference(reference, None, scope),
            Kind::Template(parts) => self.template(parts, expr.span, scope),
            Kind::Tuple(items) => self.tuple(items, expr.span, scope),
            Kind::Object(items) => self.object(items, expr.span, scope),
            Kind::GetAttr { of, name } => get_attr(&self.eval(of, scope)?, name, tail(of, expr)),
            Kind::Index { of, key } => {
                let value = self.eval(of, scope)?;
                index(&value, &self.eval(key, scope)?, tail(of, expr))
            }
            Kind::Splat { of, steps } => self.splat(of, steps, expr.span, scope),
            Kind::Call(call) => self.call(call, expr.span, scope),
            Kind::Conditional(parts) => self.conditional(parts, expr.span, scope),
            Kind::Unary { negate, of } => operators::unary(*negate, &self.eval(of, scope)?, of.span),
            Kind::Binary { op, left, right } => self.binary(*op, left, right, scope),
            Kind::For(parsed) => self.for_expr(parsed, expr.span, scope),
        }
    }

    /// `raw` is the whole `${…}` when the reference stands alone in one.
    fn reference(&self, reference: &Reference, raw: Option<&str>, scope: &Scope<'_>) -> Fallible<Value> {
        let Some(root) = scope.get(&reference.root) else {
            if scope.sealed {
                return Err(Problem::error(
                    reference.root_span,
                    "Variables not allowed",
                    "Variables may not be used here.",
                ));
            }
            return Ok(match raw {
                Some(raw) => Value::string(raw),
                None => Value::string(format!("${{{}}}", reference.source)),
            });
        };
        let mut value = root.clone();
        for (step, span) in &reference.steps {
            value = match step {
                Step::Attr(name) => get_attr(&value, name, *span)?,
                Step::Index(key) => index(&value, key, *span)?,
                Step::Computed(key) => index(&value, &self.eval(key, scope)?, *span)?,
            };
        }
        Ok(value)
    }

    fn template(&self, parts: &[Part], at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        if let [Part::Interpolation { expr, raw }] = parts {
            return self.interpolation(expr, raw, scope);
        }
        let mut out = String::new();
        self.render(parts, &mut out, at, scope)?;
        Ok(Value::string(out))
    }

    fn interpolation(&self, expr: &Expr, raw: &str, scope: &Scope<'_>) -> Fallible<Value> {
        match &expr.kind {
            Kind::Reference(reference) if !raw.is_empty() => {
                let tilde = raw.starts_with("${~") || raw.ends_with("~}");
                self.reference(reference, (!tilde).then_some(raw), scope)
            }
            _ => self.eval(expr, scope),
        }
    }

    fn render(&self, parts: &[Part], out: &mut String, at: Span, scope: &Scope<'_>) -> Fallible<()> {
        for part in parts {
            let before = out.len();
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Interpolation { expr, raw } => {
                    let value = self.interpolation(expr, raw, scope)?;
                    if value.is_null() {
                        return Err(Problem::error(
                            expr.span,
                            "Invalid template interpolation value",
                            "The expression result is null. Cannot include a null value in a string template.",
                        ));
                    }
                    match convert(&value, &Type::String) {
                        Ok(Value::String(text)) => out.push_str(&text),
                        Ok(_) => {}
                        Err(why) => {
                            return Err(Problem::error(
                                expr.span,
                                "Invalid template interpolation value",
                                format!("Cannot include the given value in a string template: {why}."),
                            ));
                        }
                    }
                }
                Part::If { condition, then, otherwise } => {
                    let chosen = if self.truth(condition, scope)? { then } else { otherwise };
                    self.render(chosen, out, at, scope)?;
                }
                Part::For { key, value, collection, body } => {
                    for (k, v) in self.iterate(collection, scope)? {
                        self.charge(16, at)?;
                        let inner = scope.child(loop_names(key.as_deref(), value, k, v));
                        self.render(body, out, at, &inner)?;
                    }
                }
            }
            if matches!(part, Part::Text(_) | Part::Interpolation { .. }) {
                self.charge((out.len() - before) as u64, at)?;
            }
            if out.len() as u64 > limits::VALUE_WEIGHT {
                return Err(too_large(at));
            }
        }
        Ok(())
    }

    fn truth(&self, condition: &Expr, scope: &Scope<'_>) -> Fallible<bool> {
        match convert(&self.eval(condition, scope)?, &Type::Bool) {
            Ok(Value::Bool(truth)) => Ok(truth),
            Ok(_) => Err(Problem::error(
                condition.span,
                "Null condition",
                "The condition value is null. Conditions must either be true or false.",
            )),
            Err(_) => Err(Problem::error(
                condition.span,
                "Incorrect condition type",
                "The condition expression must be of type bool.",
            )),
        }
    }

    fn tuple(&self, items: &[Expr], at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        let values = items.iter().map(|item| self.eval(item, scope)).collect::<Fallible<Vec<_>>>()?;
        self.made(Value::tuple(values), at)
    }

    fn object(&self, items: &[(Expr, Expr)], at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        let mut entries = BTreeMap::new();
        for (key, item) in items {
            let name = self.key(key, "object key", scope)?;
            entries.insert(name, self.eval(item, scope)?);
        }
        self.made(Value::object(entries), at)
    }

    fn key(&self, key: &Expr, what: &str, scope: &Scope<'_>) -> Fallible<String> {
        match convert(&self.eval(key, scope)?, &Type::String) {
            Ok(Value::String(text)) => Ok(text.to_string()),
            Ok(_) => Err(Problem::error(
                key.span,
                format!("Null value as {what}"),
                format!("Can't use a null value as an {what}."),
            )),
            Err(why) => Err(Problem::error(
                key.span,
                format!("Incorrect {what} type"),
                format!("Can't use this value as an {what}: {why}."),
            )),
        }
    }

    fn splat(&self, of: &Expr, steps: &[Step], at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        let value = self.eval(of, scope)?;
        let items = match (&value, value.elements()) {
            (Value::Null, _) => return Ok(Value::tuple(Vec::new())),
            (_, Some(items)) => items.to_vec(),
            (_, None) => vec![value.clone()],
        };
        let mut out = Vec::with_capacity(items.len());
        for mut item in items {
            self.charge(16, at)?;
            for step in steps {
                item = match step {
                    Step::Attr(name) => get_attr(&item, name, at)?,
                    Step::Index(key) => index(&item, key, at)?,
                    Step::Computed(key) => index(&item, &self.eval(key, scope)?, at)?,
                };
            }
            out.push(item);
        }
        self.made(Value::tuple(out), at)
    }

    fn conditional(&self, parts: &[Expr; 3], at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        let truth = self.truth(&parts[0], scope)?;
        let (taken, other) = if truth { (&parts[1], &parts[2]) } else { (&parts[2], &parts[1]) };
        let value = self.eval(taken, scope)?;
        // The other branch only lends its type; what goes wrong in it is of no interest.
        let Ok(other) = self.eval(other, scope) else { return Ok(value) };
        self.charge(value.weight().saturating_add(other.weight()), at)?;
        let (yes, no) = if truth { (value.type_of(), other.type_of()) } else { (other.type_of(), value.type_of()) };
        let mismatch = matches!((&yes, &no), (Type::Object(a), Type::Object(b)) if !a.keys().eq(b.keys()));
        let to = if mismatch { None } else { unify([yes.clone(), no.clone()]) };
        to.and_then(|to| convert(&value, &to).ok()).ok_or_else(|| {
            Problem::error(
                at,
                "Inconsistent conditional result types",
                format!(
                    "The true and false result expressions must have consistent types. The 'true' value is {}, but the \
                     'false' value is {}.",
                    yes.name(),
                    no.name()
                ),
            )
        })
    }

    fn binary(&self, op: Operator, left: &Expr, right: &Expr, scope: &Scope<'_>) -> Fallible<Value> {
        // A chain leans to the left: walk it in a loop, so that its length costs no stack.
        let mut chain = vec![(op, right)];
        let mut first = left;
        while let Kind::Binary { op, left, right } = &first.kind {
            self.charge(16, first.span)?;
            chain.push((*op, right));
            first = left;
        }
        let mut value = self.eval(first, scope)?;
        let mut left_span = first.span;
        while let Some((op, right)) = chain.pop() {
            let other = self.eval(right, scope)?;
            if matches!(op, Operator::Equal | Operator::NotEqual) {
                self.charge(value.weight().min(other.weight()), left_span)?;
            }
            value = operators::binary(op, &value, left_span, &other, right.span)?;
            left_span.end = right.span.end;
        }
        Ok(value)
    }

    fn iterate(&self, collection: &Expr, scope: &Scope<'_>) -> Fallible<Vec<(Value, Value)>> {
        let value = self.eval(collection, scope)?;
        if value.is_null() {
            return Err(Problem::error(
                collection.span,
                "Iteration over null value",
                "A null value cannot be used as the collection in a 'for' expression.",
            ));
        }
        value.pairs().ok_or_else(|| {
            Problem::error(
                collection.span,
                "Iteration over non-iterable value",
                format!(
                    "A value of type {} cannot be used as the collection in a 'for' expression.",
                    value.type_of().name()
                ),
            )
        })
    }

    fn for_expr(&self, parsed: &For, at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        let mut items = Vec::new();
        let mut entries: BTreeMap<String, Value> = BTreeMap::new();
        let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut weight = 0u64;
        for (k, v) in self.iterate(&parsed.collection, scope)? {
            self.charge(16, at)?;
            let inner = scope.child(loop_names(parsed.key.as_deref(), &parsed.value, k, v));
            if let Some(condition) = &parsed.condition
                && !self.truth(condition, &inner)?
            {
                continue;
            }
            let value = self.eval(&parsed.value_expr, &inner)?;
            weight = weight.saturating_add(value.weight());
            if weight > limits::VALUE_WEIGHT {
                return Err(too_large(at));
            }
            match &parsed.key_expr {
                None => items.push(value),
                Some(key) => {
                    let name = self.key(key, "object key", &inner)?;
                    if parsed.grouping {
                        groups.entry(name).or_default().push(value);
                    } else if entries.insert(name.clone(), value).is_some() {
                        return Err(Problem::error(
                            key.span,
                            "Duplicate object key",
                            format!(
                                "Two different items produced the key {name:?} in this 'for' expression. If duplicates \
                                 are expected, use the ellipsis (...) after the value expression to enable grouping by \
                                 key."
                            ),
                        ));
                    }
                }
            }
        }
        self.made(
            match (&parsed.key_expr, parsed.grouping) {
                (None, _) => Value::tuple(items),
                (Some(_), false) => Value::object(entries),
                (Some(_), true) => {
                    Value::object(groups.into_iter().map(|(name, items)| (name, Value::tuple(items))).collect())
                }
            },
            at,
        )
    }

    fn call(&self, call: &Call, at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        if scope.sealed {
            return Err(Problem::error(
                call.name_span,
                "Function calls not allowed",
                "Functions may not be called here.",
            ));
        }
        match call.name.as_str() {
            "can" => {
                one_argument(call, at, "expression")?;
                return Ok(Value::Bool(self.eval(&call.args[0], scope).is_ok()));
            }
            "try" => return self.try_each(call, at, scope),
            "convert" => {
                if call.args.len() != 2 {
                    return Err(functions::arity_problem(call, at, 2, "type"));
                }
                let value = self.eval(&call.args[0], scope)?;
                self.charge(value.weight(), at)?;
                let to = type_expr::parse(&call.args[1])?;
                let converted = convert(&value, &to)
                    .map_err(|why| functions::argument_problem(call.args[0].span, "value", &why))?;
                return self.made(converted, at);
            }
            _ => {}
        }
        let function = functions::find(&call.name).ok_or_else(|| unknown_function(call))?;
        let mut args = Vec::with_capacity(call.args.len());
        for (i, arg) in call.args.iter().enumerate() {
            let value = self.eval(arg, scope)?;
            if call.expand_last && i + 1 == call.args.len() {
                let items = value.elements().ok_or_else(|| {
                    Problem::error(
                        arg.span,
                        "Invalid expanding argument value",
                        "The expanding argument (indicated by ...) must be of a tuple, list, or set type.",
                    )
                })?;
                args.extend(items.iter().map(|item| (item.clone(), arg.span)));
            } else {
                args.push((value, arg.span));
            }
        }
        let result = functions::invoke(function, self, call, args, at)?;
        self.made(result, at)
    }

    fn try_each(&self, call: &Call, at: Span, scope: &Scope<'_>) -> Fallible<Value> {
        let mut failures = String::new();
        for arg in &call.args {
            match self.eval(arg, scope) {
                Ok(value) => return Ok(value),
                // Running out of the budget is not something to fall back from.
                Err(problem) if self.spent.get() > limits::WORK => return Err(problem),
                Err(problem) => failures = format!("{failures}\n- {}: {}", problem.summary, problem.detail),
            }
        }
        Err(Problem::error(
            at,
            "Error in function call",
            format!("Call to function \"try\" failed: no expression succeeded:{failures}"),
        ))
    }
}

fn too_large(at: Span) -> Box<Problem> {
    Problem::error(
        at,
        "Value too large",
        format!(
            "One value may have at most {} bytes and {} levels of nesting.",
            limits::VALUE_WEIGHT,
            limits::VALUE_DEPTH
        ),
    )
}

fn loop_names(key: Option<&str>, value: &str, k: Value, v: Value) -> BTreeMap<String, Value> {
    let mut names = BTreeMap::new();
    if let Some(key) = key {
        names.insert(key.to_owned(), k);
    }
    names.insert(value.to_owned(), v);
    names
}

/// The part of `whole` after `of`.
fn tail(of: &Expr, whole: &Expr) -> Span {
    Span { start: of.span.end, ..whole.span }
}

fn one_argument(call: &Call, at: Span, name: &str) -> Fallible<()> {
    if call.args.len() == 1 { Ok(()) } else { Err(functions::arity_problem(call, at, 1, name)) }
}

fn unknown_function(call: &Call) -> Box<Problem> {
    let mut detail = format!("There is no function named {:?}.", call.name);
    if let Some(near) = nearest(&call.name, functions::names()) {
        detail = format!("{detail} Did you mean {near:?}?");
    }
    let problem = Problem::error(call.name_span, "Call to unknown function", detail);
    match call.name.as_str() {
        "tostring" | "tonumber" | "tobool" | "tolist" | "toset" | "tomap" => {
            problem.hint(format!("use convert(value, {}) instead", call.name.trim_start_matches("to")))
        }
        _ => problem,
    }
}

pub(crate) fn get_attr(value: &Value, name: &str, at: Span) -> Fallible<Value> {
    let unsupported = |detail: String| Problem::error(at, "Unsupported attribute", detail);
    match value {
        Value::Null => Err(Problem::error(
            at,
            "Attempt to get attribute from null value",
            "This value is null, so it does not have any attributes.",
        )),
        Value::Object(table) => table.items.get(name).cloned().ok_or_else(|| {
            let problem = unsupported(format!("This object does not have an attribute named {name:?}."));
            match nearest(name, table.items.keys().map(String::as_str)) {
                Some(near) => problem.hint(format!("did you mean {near:?}?")),
                None => problem,
            }
        }),
        Value::Map(table) => table.items.get(name).cloned().ok_or_else(|| {
            Problem::error(at, "Missing map element", format!("This map does not have an element with the key {name:?}."))
        }),
        Value::List(_) | Value::Tuple(_) | Value::Set(_) => Err(unsupported(
            "This value is a collection of elements and has no attributes; use an index or a splat to reach an element."
                .to_owned(),
        )),
        other => Err(unsupported(format!(
            "Can't access attributes on a primitive-typed value ({}).",
            other.type_of().name()
        ))),
    }
}

pub(crate) fn index(value: &Value, key: &Value, at: Span) -> Fallible<Value> {
    let invalid = |detail: String| Problem::error(at, "Invalid index", detail);
    if value.is_null() {
        return Err(Problem::error(
            at,
            "Attempt to index null value",
            "This value is null, so it does not have any indices.",
        ));
    }
    if key.is_null() {
        return Err(invalid("Can't use a null value as an indexing key.".to_owned()));
    }
    match value {
        Value::List(seq) | Value::Tuple(seq) => {
            let Ok(Value::Number(number)) = convert(key, &Type::Number) else {
                return Err(invalid(
                    "The given key does not identify an element in this collection value: a number is required."
                        .to_owned(),
                ));
            };
            number.as_int().and_then(|n| usize::try_from(n).ok()).and_then(|n| seq.items.get(n)).cloned().ok_or_else(
                || invalid("The given key does not identify an element in this collection value.".to_owned()),
            )
        }
        Value::Map(table) | Value::Object(table) => {
            let Ok(Value::String(name)) = convert(key, &Type::String) else {
                return Err(invalid(
                    "The given key does not identify an element in this collection value: string required.".to_owned(),
                ));
            };
            table.items.get(&*name).cloned().ok_or_else(|| {
                invalid("The given key does not identify an element in this collection value.".to_owned())
            })
        }
        _ => Err(invalid("This value does not have any indices.".to_owned())),
    }
}
