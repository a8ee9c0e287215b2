//! A body of the file plus its schema → an object in wire shape.
//!
//! [`Decoder::body`] starts from the wire object with nothing set, lets each attribute and block
//! of the file put its value in, and hands the result to `normalize`. Findings are collected, so
//! that a person sees all of them at once; what could not be decoded stays unset.
//!
//! `dynamic` blocks are expanded on the way: each iteration decodes the same content body in a
//! child scope, so nothing is copied and the limit on blocks counts what was really made.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::ast::{self, Attribute, Block, Expr, Label};
use crate::diagnostics::{Fallible, Problem, Sources, Span};
use crate::doubt::Doubt;
use crate::duration;
use crate::dynamic::Dynamic;
use crate::eval::{Evaluator, Scope};
use crate::limits;
use crate::normalize;
use crate::opaque;
use crate::places::{PlaceId, Places};
use crate::schema::{Body, Field, Hidden, Kind, Range, Shape, Unset};
use crate::value::{Type, Value, convert};

pub(crate) type Wire = Map<String, Json>;

pub(crate) struct Decoder<'a> {
    pub evaluator: &'a Evaluator<'a>,
    pub sources: &'a Sources,
    doubt: &'a Doubt,
    pub problems: Vec<Problem>,
    pub places: Places,
    blocks: usize,
    emitted: u64,
}

/// A block of the file, or one iteration of a `dynamic` one.
#[derive(Clone, Copy)]
pub(crate) struct Instance<'b> {
    pub kind: &'b str,
    pub kind_span: Span,
    pub header: Span,
    pub open: Span,
    pub labels: &'b [Label],
    pub body: &'b ast::Body,
}

impl<'b> From<&'b Block> for Instance<'b> {
    fn from(block: &'b Block) -> Self {
        Instance {
            kind: &block.kind,
            kind_span: block.kind_span,
            header: block.header,
            open: block.open,
            labels: &block.labels,
            body: &block.body,
        }
    }
}

/// What is known of a body while it fills.
#[derive(Default)]
pub(crate) struct Filled {
    pub wire: Wire,
    /// By name in the file: where it was set first.
    pub set: BTreeMap<&'static str, Span>,
}

impl<'a> Decoder<'a> {
    pub fn new(evaluator: &'a Evaluator<'a>, sources: &'a Sources, doubt: &'a Doubt) -> Self {
        Decoder { evaluator, sources, doubt, problems: Vec::new(), places: Places::default(), blocks: 0, emitted: 0 }
    }

    pub fn report(&mut self, problem: impl Into<Problem>) {
        if self.problems.len() < limits::DIAGNOSTICS {
            self.problems.push(problem.into());
        }
    }

    /// Reports what is wrong with an expression, unless that follows from what was reported before.
    pub fn report_of(&mut self, expr: &Expr, problem: impl Into<Problem>) {
        if !self.doubt.covers(expr) {
            self.report(problem);
        }
    }

    /// Keeps the value, or reports the problem.
    fn keep<T>(&mut self, outcome: Fallible<T>) -> Option<T> {
        outcome.map_err(|problem| self.report(problem)).ok()
    }

    /// Whether there is no point in going on.
    fn exhausted(&self) -> bool {
        self.problems.len() >= limits::DIAGNOSTICS || self.blocks > limits::BLOCKS || self.emitted > limits::OUTPUT
    }

    /// Counts what goes into the job; `false`, and once a problem, when that is too much.
    pub fn emit(&mut self, weight: u64, at: Span) -> bool {
        let before = self.emitted;
        self.emitted = before.saturating_add(weight);
        if before <= limits::OUTPUT && self.emitted > limits::OUTPUT {
            self.report(Problem::error(
                at,
                "Job file expands to too much",
                format!("The values of a job may have at most {} bytes together.", limits::OUTPUT),
            ));
        }
        self.emitted <= limits::OUTPUT
    }

    pub fn body(&mut self, schema: &'static Body, at: Instance<'_>, place: PlaceId, scope: &Scope<'_>) -> Json {
        self.blocks += 1;
        if self.blocks == limits::BLOCKS + 1 {
            self.report(Problem::error(
                at.header,
                "Job file expands to too much",
                format!("A job file may expand to at most {} blocks.", limits::BLOCKS),
            ));
        }
        let charged = self.evaluator.charge(16 * schema.fields.len() as u64, at.header);
        let kept =
            self.keep(charged).is_some() && self.emit(limits::FIELD_WEIGHT * schema.fields.len() as u64, at.header);
        if !kept || self.exhausted() {
            return Json::Null;
        }
        let mut filled = Filled { wire: unset(schema), ..Filled::default() };
        if let (Some(wire), Some(label)) = (schema.label(), at.labels.first()) {
            filled.wire.insert(wire.to_owned(), Json::from(label.text.as_str()));
        }
        for attribute in &at.body.attributes {
            self.attribute(schema, attribute, place, scope, &mut filled);
        }
        for block in &at.body.blocks {
            if block.kind == "dynamic" {
                self.dynamic(schema, block, place, scope, &mut filled);
            } else {
                self.block(schema, Instance::from(block), place, scope, &mut filled);
            }
        }
        for field in schema.fields.iter().filter(|field| field.required && !filled.set.contains_key(field.name)) {
            self.report(Problem::error(
                at.open,
                "Missing required argument",
                format!("The argument {:?} is required, but no definition was found.", field.name),
            ));
        }
        normalize::body(self, schema.kind, at, &mut filled);
        Json::Object(filled.wire)
    }

    fn attribute(
        &mut self,
        schema: &'static Body,
        attribute: &Attribute,
        within: PlaceId,
        scope: &Scope<'_>,
        filled: &mut Filled,
    ) {
        let field = match schema.field(&attribute.name) {
            Some(field) if field.is_attribute() => field,
            other => return self.report(unexpected_argument(schema, attribute, other)),
        };
        filled.set.insert(field.name, attribute.span);
        self.places.note(within, field.name, None, attribute.span);
        if let Some(json) = self.value(field, &attribute.value, scope) {
            filled.wire.insert(field.wire.to_owned(), json);
        }
    }

    /// Evaluates and converts; `None` when it was reported, or is null and so stays unset.
    fn value(&mut self, field: &Field, expr: &Expr, scope: &Scope<'_>) -> Option<Json> {
        let value = match self.evaluator.eval(expr, scope) {
            Ok(value) => value,
            Err(problem) => {
                self.report_of(expr, problem);
                if !matches!(field.shape, Shape::Duration(_)) {
                    self.report_of(expr, unsuitable(expr, "value must be known"));
                }
                return None;
            }
        };
        if (value.is_null() && !matches!(field.shape, Shape::Duration(_))) || !self.emit(value.weight(), expr.span) {
            return None;
        }
        let json = match field.shape {
            Shape::Text(_) => typed(&value, &Type::String),
            Shape::Bool(_) => typed(&value, &Type::Bool),
            Shape::Int(range, _) => whole(&value, range),
            Shape::TextList => typed(&value, &Type::List(Box::new(Type::String))),
            Shape::PortList => ports(&value),
            Shape::TextMap => typed(&value, &Type::Map(Box::new(Type::String))),
            Shape::TextListMap => typed(&value, &Type::Map(Box::new(Type::List(Box::new(Type::String))))),
            Shape::Duration(_) => {
                let outcome = nanoseconds(&value).map_err(|why| {
                    Problem::error(expr.start(), "Unsuitable value type", format!("Unsuitable duration value: {why}"))
                });
                return self.keep(outcome).map(Json::from);
            }
            _ => Ok(Json::Null),
        };
        self.keep(json.map_err(|why| unsuitable(expr, &why)))
    }

    fn block(
        &mut self,
        schema: &'static Body,
        at: Instance<'_>,
        within: PlaceId,
        scope: &Scope<'_>,
        filled: &mut Filled,
    ) {
        if self.exhausted() {
            return;
        }
        let field = match schema.field(at.kind) {
            Some(field) if field.is_block() => field,
            other => return self.report(unexpected_block(schema, at, other)),
        };
        let labels = match field.shape {
            Shape::One(inner) | Shape::Many(inner) | Shape::ByLabel(inner) => usize::from(inner.label().is_some()),
            _ => 0,
        };
        if let Err(problem) = check_labels(at, labels) {
            return self.report(problem);
        }
        let single = !matches!(field.shape, Shape::Many(_) | Shape::ByLabel(_));
        if let Some(first) = filled.set.get(field.name).copied().filter(|_| single) {
            let open_form = matches!(field.shape, Shape::TextMap | Shape::TextListMap);
            return self.report(self.duplicate(at, first, open_form));
        }
        filled.set.entry(field.name).or_insert(at.header);
        let label = at.labels.first().map(|label| label.text.as_str());
        let place = self.places.note(within, field.name, label, at.header);
        match field.shape {
            Shape::One(inner) => {
                let json = self.body(inner, at, place, scope);
                filled.wire.insert(field.wire.to_owned(), json);
            }
            Shape::Many(inner) => {
                let json = self.body(inner, at, place, scope);
                if field.name == "identity" {
                    // found by its name: the default one is taken out of the list
                    let name = json["Name"].as_str().filter(|name| !name.is_empty()).unwrap_or("default");
                    self.places.label(place, name);
                }
                push(&mut filled.wire, field.wire, json);
            }
            Shape::ByLabel(inner) => {
                let json = self.body(inner, at, place, scope);
                let label = at.labels.first().map_or("", |label| label.text.as_str());
                // The reference lets the last one win, and says nothing.
                if filled.wire.get(field.wire).is_some_and(|map| map.get(label).is_some()) {
                    return self.report(Problem::error(
                        at.header,
                        format!("Duplicate {} block", at.kind),
                        format!("There already is a {} {label:?}; each needs a name of its own.", at.kind),
                    ));
                }
                let slot = filled.wire.entry(field.wire).or_insert(Json::Null);
                if !slot.is_object() {
                    *slot = Json::Object(Wire::new());
                }
                if let Some(map) = slot.as_object_mut() {
                    map.insert(label.to_owned(), json);
                }
            }
            Shape::TextMap | Shape::TextListMap => {
                self.entries(at, place);
                let map = self.open_map(field, at, scope);
                filled.wire.insert(field.wire.to_owned(), Json::Object(map));
            }
            _ => {
                self.entries(at, place);
                let outcome = opaque::body(self, at.body, scope);
                filled.wire.insert(field.wire.to_owned(), Json::Object(outcome));
            }
        }
    }

    /// Notes what stands in a body without a schema.
    fn entries(&mut self, at: Instance<'_>, place: PlaceId) {
        for attribute in &at.body.attributes {
            self.places.note(place, "", Some(&attribute.name), attribute.span);
        }
        for block in &at.body.blocks {
            self.places.note(place, "", Some(&block.kind), block.header);
        }
    }

    fn duplicate(&self, at: Instance<'_>, first: Span, open_form: bool) -> Box<Problem> {
        let before = self.sources.range(first);
        let name = at.kind;
        let detail = if open_form {
            format!("{name} may not be defined more than once. Another definition is defined at {before}.")
        } else {
            format!("Only one {name} block is allowed. Another was defined at {before}.")
        };
        Problem::error(at.header, format!("Duplicate {name} block"), detail)
    }

    /// `meta { a = 1 }`: every attribute is an entry.
    fn open_map(&mut self, field: &Field, at: Instance<'_>, scope: &Scope<'_>) -> Wire {
        let to = match field.shape {
            Shape::TextListMap => Type::List(Box::new(Type::String)),
            _ => Type::String,
        };
        let mut map = Wire::new();
        for attribute in &at.body.attributes {
            match self.evaluator.eval(&attribute.value, scope) {
                Ok(value) => {
                    if !self.emit(value.weight() + attribute.name.len() as u64, attribute.span) {
                        return map;
                    }
                    let outcome =
                        if value.is_null() { Err(format!("{} required", to.name())) } else { typed(&value, &to) };
                    if let Some(json) = self.keep(outcome.map_err(|why| unsuitable(&attribute.value, &why))) {
                        map.insert(attribute.name.clone(), json);
                    }
                }
                Err(problem) => {
                    self.report_of(&attribute.value, problem);
                    self.report_of(&attribute.value, unsuitable(&attribute.value, "value must be known"));
                }
            }
        }
        for block in &at.body.blocks {
            self.report(Problem::error(
                block.kind_span,
                format!("Unexpected {:?} block", block.kind),
                "Blocks are not allowed here.",
            ));
        }
        map
    }

    fn dynamic(
        &mut self,
        schema: &'static Body,
        block: &Block,
        within: PlaceId,
        scope: &Scope<'_>,
        filled: &mut Filled,
    ) {
        let expanded = Dynamic::read(block, schema);
        let Some(dynamic) = self.keep(expanded) else { return };
        let items = match dynamic.items(self.evaluator, scope) {
            Ok(items) => items,
            Err(problem) => return self.report_of(dynamic.for_each, problem),
        };
        for (key, value) in items {
            if self.exhausted() {
                return;
            }
            let iterator = Value::object([("key".to_owned(), key), ("value".to_owned(), value)].into());
            let inner = scope.child([(dynamic.iterator.clone(), iterator)].into());
            let labels = match (dynamic.labels(self.evaluator, &inner), dynamic.labels) {
                (Ok(labels), _) => labels,
                (Err(problem), Some(expr)) => return self.report_of(expr, problem),
                (Err(problem), None) => return self.report(problem),
            };
            let at = Instance {
                kind: dynamic.kind,
                kind_span: dynamic.kind_span,
                header: block.header,
                open: dynamic.content.open,
                labels: &labels,
                body: &dynamic.content.body,
            };
            self.block(schema, at, within, &inner, filled);
        }
    }
}

/// The wire object of a body with nothing in it.
fn unset(schema: &'static Body) -> Wire {
    let mut wire = Wire::new();
    for (name, hidden) in schema.hidden {
        let json = match hidden {
            Hidden::Null => Json::Null,
            Hidden::False => Json::Bool(false),
            Hidden::Empty => Json::from(""),
            Hidden::Nought => Json::from(0),
        };
        wire.insert((*name).to_owned(), json);
    }
    for field in schema.fields {
        let json = match field.shape {
            Shape::Text(Unset::Zero) => Json::from(""),
            Shape::Bool(Unset::Zero) => Json::Bool(false),
            Shape::Int(_, Unset::Zero) | Shape::Duration(Unset::Zero) => Json::from(0),
            _ => Json::Null,
        };
        wire.insert(field.wire.to_owned(), json);
    }
    // The one field the reference leaves out when it is empty.
    if schema.kind == Kind::Task {
        wire.remove("CSIPluginConfig");
    }
    wire
}

/// The group a loose task is wrapped into.
pub(crate) fn empty_group() -> Wire {
    let mut wire = unset(&crate::schema::job::GROUP);
    wire.retain(|name, _| !name.starts_with('@'));
    wire
}

pub(crate) fn push(wire: &mut Wire, name: &str, json: Json) {
    match wire.get_mut(name) {
        Some(Json::Array(items)) => items.push(json),
        _ => {
            wire.insert(name.to_owned(), Json::Array(vec![json]));
        }
    }
}

fn unsuitable(expr: &Expr, why: &str) -> Box<Problem> {
    Problem::error(expr.start(), "Unsuitable value type", format!("Unsuitable value: {why}"))
}

fn typed(value: &Value, to: &Type) -> Result<Json, String> {
    let json = opaque::to_json(&convert(value, to)?);
    let null_inside = match &json {
        Json::Array(items) => items.iter().any(Json::is_null),
        Json::Object(items) => items.values().any(Json::is_null),
        _ => false,
    };
    if null_inside { Err("elements must not be null".to_owned()) } else { Ok(json) }
}

fn whole(value: &Value, range: Range) -> Result<Json, String> {
    let Value::Number(number) = convert(value, &Type::Number)? else { return Err("a number is required".to_owned()) };
    let number = number
        .as_int()
        .filter(|n| (range.min..=range.max).contains(n))
        .ok_or_else(|| format!("value must be a whole number, between {} and {} inclusive", range.min, range.max))?;
    Ok(i64::try_from(number).map(Json::from).or_else(|_| u64::try_from(number).map(Json::from)).unwrap_or(Json::Null))
}

fn ports(value: &Value) -> Result<Json, String> {
    let items = value.elements().ok_or("list of number required")?;
    items.iter().map(|item| whole(item, crate::schema::UINT16)).collect::<Result<Vec<_>, _>>().map(Json::Array)
}

fn nanoseconds(value: &Value) -> Result<i64, String> {
    match value {
        Value::String(text) => duration::parse(text),
        Value::Number(number) => number
            .as_int()
            .and_then(|n| i64::try_from(n).ok())
            .ok_or_else(|| "value must be a whole number of nanoseconds".to_owned()),
        Value::Null => Err("value must not be null".to_owned()),
        other => Err(format!("expected a string but found {}", other.type_of().name())),
    }
}

fn check_labels(at: Instance<'_>, wanted: usize) -> Fallible<()> {
    let (kind, given) = (at.kind, at.labels.len());
    if given < wanted {
        return Err(Problem::error(
            Span { end: at.open.start + 1, ..at.open },
            format!("Missing name for {kind}"),
            format!("All {kind} blocks must have {wanted} labels (name)."),
        ));
    }
    let Some(extra) = at.labels.get(wanted) else { return Ok(()) };
    let detail = if wanted == 0 {
        format!("No labels are expected for {kind} blocks.")
    } else {
        format!("Only {wanted} labels (name) are expected for {kind} blocks.")
    };
    Err(Problem::error(extra.span, format!("Extraneous label for {kind}"), detail))
}

fn unexpected_argument(schema: &'static Body, attribute: &Attribute, field: Option<&Field>) -> Box<Problem> {
    let name = &attribute.name;
    let mut detail = format!("An argument named {name:?} is not expected here.");
    if field.is_some() {
        detail = format!("{detail} Did you mean to define a block of type {name:?}?");
    } else if let Some(near) = model::nearest(name, schema.fields.iter().filter(|f| f.is_attribute()).map(|f| f.name)) {
        detail = format!("{detail} Did you mean {near:?}?");
    }
    Problem::error(attribute.name_span, "Unsupported argument", detail)
}

fn unexpected_block(schema: &'static Body, at: Instance<'_>, field: Option<&Field>) -> Box<Problem> {
    let name = at.kind;
    let mut detail = format!("Blocks of type {name:?} are not expected here.");
    if field.is_some() {
        detail = format!(
            "{detail} Did you mean to define argument {name:?}? If so, use the equals sign to assign it a value."
        );
    } else if let Some(near) = model::nearest(name, schema.fields.iter().filter(|f| f.is_block()).map(|f| f.name)) {
        detail = format!("{detail} Did you mean {near:?}?");
    }
    Problem::error(at.kind_span, "Unsupported block type", detail)
}
