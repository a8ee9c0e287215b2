//! The job file as this crate sees it, whichever syntax it was written in.
//!
//! `lower` makes it from native syntax, `json_syntax` from JSON. Nodes carry spans; a reference
//! also carries its own source text, because a reference nobody can resolve at parse time becomes
//! exactly that text inside `${…}`.

use crate::diagnostics::Span;
use crate::value::Value;

#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub attributes: Vec<Attribute>,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub name: String,
    pub name_span: Span,
    /// Name to end of value.
    pub span: Span,
    pub value: Expr,
    /// JSON has no difference between a block and an object, so nothing is inferred from it.
    pub from_json: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub kind: String,
    pub kind_span: Span,
    pub labels: Vec<Label>,
    /// Block type and labels.
    pub header: Span,
    /// Where the body opens, empty: the place to report something missing from it.
    pub open: Span,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub text: String,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub kind: Kind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    /// A string with parts. A sole interpolation keeps the type of its expression.
    Template(Vec<Part>),
    Tuple(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    /// A name followed by literal steps only.
    Reference(Reference),
    GetAttr {
        of: Box<Expr>,
        name: String,
    },
    Index {
        of: Box<Expr>,
        key: Box<Expr>,
    },
    /// The steps after `[*]` or `.*`, applied to each element.
    Splat {
        of: Box<Expr>,
        steps: Vec<Step>,
    },
    Call(Box<Call>),
    Conditional(Box<[Expr; 3]>),
    Unary {
        negate: bool,
        of: Box<Expr>,
    },
    Binary {
        op: Operator,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    For(Box<For>),
    Paren(Box<Expr>),
}

#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub root: String,
    pub root_span: Span,
    pub steps: Vec<(Step, Span)>,
    /// As written, without the braces.
    pub source: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Attr(String),
    Index(Value),
    /// Only after a splat: an index that has to be computed.
    Computed(Expr),
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub name: String,
    pub name_span: Span,
    pub args: Vec<Expr>,
    pub expand_last: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct For {
    pub key: Option<String>,
    pub value: String,
    pub collection: Expr,
    /// `Some` makes an object.
    pub key_expr: Option<Expr>,
    pub value_expr: Expr,
    pub grouping: bool,
    pub condition: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Text(String),
    /// `raw` is the whole sequence with its braces.
    Interpolation {
        expr: Expr,
        raw: String,
    },
    If {
        condition: Expr,
        then: Vec<Part>,
        otherwise: Vec<Part>,
    },
    For {
        key: Option<String>,
        value: String,
        collection: Expr,
        body: Vec<Part>,
    },
}

impl Expr {
    /// Where the reference points when it complains about the value: into a string, at the name
    /// and parenthesis of a call, else at the whole expression.
    pub fn start(&self) -> Span {
        match &self.kind {
            Kind::Call(call) => Span { end: call.name_span.end + 1, ..call.name_span },
            Kind::Reference(reference) => reference.root_span,
            Kind::Literal(Value::String(_)) | Kind::Template(_) if self.span.end >= self.span.start + 2 => {
                Span { start: self.span.start + 1, end: self.span.end - 1, ..self.span }
            }
            Kind::Tuple(_) | Kind::Object(_) | Kind::Paren(_) | Kind::For(_) => {
                Span { end: (self.span.start + 1).min(self.span.end), ..self.span }
            }
            Kind::GetAttr { of, .. } | Kind::Index { of, .. } | Kind::Splat { of, .. } => of.start(),
            Kind::Conditional(parts) => parts[0].start(),
            Kind::Binary { left, .. } => left.start(),
            _ => self.span,
        }
    }
}

/// Calls `visit` for every reference in an expression, with the names bound around it.
pub(crate) fn references<'e>(
    expr: &'e Expr,
    bound: &mut Vec<&'e str>,
    visit: &mut dyn FnMut(&'e Reference, &[&'e str]),
) {
    match &expr.kind {
        Kind::Literal(_) => {}
        Kind::Reference(reference) => visit(reference, bound),
        Kind::Paren(inner) | Kind::GetAttr { of: inner, .. } | Kind::Unary { of: inner, .. } => {
            references(inner, bound, visit);
        }
        Kind::Template(parts) => part_references(parts, bound, visit),
        Kind::Tuple(items) => items.iter().for_each(|item| references(item, bound, visit)),
        Kind::Object(items) => {
            for (key, item) in items {
                references(key, bound, visit);
                references(item, bound, visit);
            }
        }
        Kind::Index { of, key } => {
            references(of, bound, visit);
            references(key, bound, visit);
        }
        Kind::Splat { of, steps } => {
            references(of, bound, visit);
            for step in steps {
                if let Step::Computed(key) = step {
                    references(key, bound, visit);
                }
            }
        }
        Kind::Call(call) => call.args.iter().for_each(|arg| references(arg, bound, visit)),
        Kind::Conditional(parts) => parts.iter().for_each(|part| references(part, bound, visit)),
        Kind::Binary { left, right, .. } => {
            references(left, bound, visit);
            references(right, bound, visit);
        }
        Kind::For(parsed) => {
            references(&parsed.collection, bound, visit);
            let outer = bound.len();
            bound.extend(parsed.key.as_deref());
            bound.push(&parsed.value);
            for inner in
                [parsed.key_expr.as_ref(), Some(&parsed.value_expr), parsed.condition.as_ref()].into_iter().flatten()
            {
                references(inner, bound, visit);
            }
            bound.truncate(outer);
        }
    }
}

fn part_references<'e>(parts: &'e [Part], bound: &mut Vec<&'e str>, visit: &mut dyn FnMut(&'e Reference, &[&'e str])) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Interpolation { expr, .. } => references(expr, bound, visit),
            Part::If { condition, then, otherwise } => {
                references(condition, bound, visit);
                part_references(then, bound, visit);
                part_references(otherwise, bound, visit);
            }
            Part::For { key, value, collection, body } => {
                references(collection, bound, visit);
                let outer = bound.len();
                bound.extend(key.as_deref());
                bound.push(value);
                part_references(body, bound, visit);
                bound.truncate(outer);
            }
        }
    }
}
