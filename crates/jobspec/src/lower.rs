//! Native syntax → [`ast`](crate::ast).
//!
//! `hcl-edit` parses; this module takes its tree apart at once, so that nothing else in the crate
//! knows it. What that parser gets wrong is put right here from the source text:
//!
//! * numbers are read again from their digits (it keeps 64 bits);
//! * text parts of templates are unescaped and de-indented again (`template_text`);
//! * its messages become the reference's sentences ([`grammar_problem`]).
//!
//! The recursion is as deep as that parser allows: 64 levels and 128 chained operators.

use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{self as hcl, BinaryOperator, Expression, ObjectKey, TraversalOperator, UnaryOperator};
use hcl_edit::structure::{BlockLabel, Structure};

use crate::ast::{Attribute, Block, Body, Call, Expr, For, Kind, Label, Operator, Reference, Step};
use crate::diagnostics::{Fallible, Problem, Span};
use crate::number::Number;
use crate::scan;
use crate::template_text::{self, Flavour};
use crate::value::Value;

/// Where the nodes of one text are.
pub(crate) struct Lower<'a> {
    pub file: u32,
    pub text: &'a str,
    /// Added to offsets of `text` to get offsets in the file.
    pub base: usize,
}

pub(crate) fn body(file: u32, text: &str) -> Fallible<Body> {
    scan::check(file, text)?;
    let parsed = hcl_edit::parser::parse_body(text).map_err(|error| grammar_problem(file, text, &error))?;
    Lower { file, text, base: 0 }.body(&parsed)
}

/// Whether a text parses, without making anything of it.
pub(crate) fn syntax(file: u32, text: &str) -> Fallible<()> {
    scan::check(file, text)?;
    hcl_edit::parser::parse_body(text).map(|_| ()).map_err(|error| grammar_problem(file, text, &error))
}

/// An expression on its own, as in the value of `-var`.
pub(crate) fn expression(file: u32, text: &str) -> Fallible<Expr> {
    scan::check(file, text)?;
    let parsed = hcl_edit::parser::parse_expr(text.trim()).map_err(|error| grammar_problem(file, text, &error))?;
    Lower { file, text: text.trim(), base: text.len() - text.trim_start().len() }.expr(&parsed)
}

/// A template outside quotes, as strings of JSON syntax are. `base` is where it starts in the file.
pub(crate) fn template(file: u32, text: &str, base: usize) -> Fallible<Kind> {
    if !text.contains("${") && !text.contains("%{") {
        return Ok(Kind::Literal(Value::string(text)));
    }
    let moved = |mut problem: Box<Problem>| {
        problem.at = problem.at.map(|at| Span::new(file, at.start as usize + base, at.end as usize + base));
        problem
    };
    scan::check_template(file, text, 0).map_err(moved)?;
    let parsed = hcl_edit::parser::parse_template(text).map_err(|error| moved(grammar_problem(file, text, &error)))?;
    let lower = Lower { file, text, base };
    Ok(Kind::Template(template_text::parts(&lower, &parsed, Flavour::Plain)?))
}

/// What the parser complained about, in the reference's words.
fn grammar_problem(file: u32, text: &str, error: &hcl_edit::parser::Error) -> Box<Problem> {
    let mut offset = error.location().offset().min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let rest = text.get(offset..).unwrap_or_default();
    let width = rest.chars().next().map_or(0, char::len_utf8);
    let at = Span::new(file, offset, offset + width);
    let message = error.message();
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
    if message.contains("redefined attribute") {
        return Problem::error(
            Span::new(file, offset, offset + word.len()),
            "Attribute redefined",
            format!("The argument {word:?} was already set. Each argument may be set only once."),
        );
    }
    if message.contains("redefined object key") {
        return Problem::error(at, "Duplicate object key", "Each key of an object may be set only once.");
    }
    if message.contains("at most") {
        return Problem::error(at, "Too deeply nested", format!("The parser allows {}.", after(message, "expected ")));
    }
    if message.starts_with("invalid block body") {
        return Problem::error(
            at,
            "Invalid single-argument block definition",
            "A single-line block definition must end with a closing brace immediately after its single argument \
             definition.",
        );
    }
    if message.contains("newline") && message.contains("eof") {
        return Problem::error(at, "Missing newline after argument", "An argument definition must end with a newline.");
    }
    let (summary, detail) = if message.starts_with("invalid structure") {
        ("Invalid block definition", "Either a quoted string block label or an opening brace (\"{\") is expected here.")
    } else if message.starts_with("invalid expression") {
        ("Invalid expression", "Expected the start of an expression, but found an invalid expression token.")
    } else if message.starts_with("invalid object item") {
        ("Missing attribute separator", "Expected a newline or comma to mark the beginning of the next attribute.")
    } else if message.starts_with("invalid object value assignment") {
        ("Missing key/value separator", "Expected an equals sign (\"=\") to mark the beginning of the attribute value.")
    } else if message.starts_with("invalid escape sequence") || message.contains("hex code") {
        ("Invalid escape sequence", "Only \\n, \\r, \\t, \\\", \\\\, \\uNNNN and \\UNNNNNNNN may follow a backslash.")
    } else if message.ends_with("expected `]`") {
        ("Missing item separator", "Expected a comma to mark the beginning of the next item.")
    } else if message.ends_with("expected `:`") {
        (
            "Missing false expression in conditional",
            "The conditional operator (...?...:...) requires a false expression, delimited by a colon.",
        )
    } else {
        ("Argument or block definition required", "An argument or block definition is required here.")
    };
    Problem::error(at, summary, detail).hint(message.to_owned())
}

fn after<'a>(text: &'a str, marker: &str) -> &'a str {
    text.find(marker).map_or(text, |at| &text[at + marker.len()..])
}

impl Lower<'_> {
    pub fn span(&self, range: Option<Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        Span::new(self.file, range.start + self.base, range.end + self.base)
    }

    pub fn slice(&self, range: Option<Range<usize>>) -> &str {
        range.and_then(|range| self.text.get(range)).unwrap_or_default()
    }

    fn body(&self, parsed: &hcl_edit::structure::Body) -> Fallible<Body> {
        let mut body = Body::default();
        for structure in parsed {
            match structure {
                Structure::Attribute(attribute) => {
                    let name_span = self.span(attribute.key.span());
                    let value = self.expr(&attribute.value)?;
                    body.attributes.push(Attribute {
                        name: attribute.key.to_string(),
                        name_span,
                        span: Span { end: value.span.end, ..name_span },
                        value,
                        from_json: false,
                    });
                }
                Structure::Block(block) => body.blocks.push(self.block(block)?),
            }
        }
        Ok(body)
    }

    fn block(&self, block: &hcl_edit::structure::Block) -> Fallible<Block> {
        let kind_span = self.span(block.ident.span());
        let labels: Vec<Label> = block.labels.iter().map(|label| self.label(label)).collect::<Fallible<_>>()?;
        let end = labels.last().map_or(kind_span.end, |label| label.span.end);
        let from = (end as usize).saturating_sub(self.base);
        let brace = self.text.get(from..).and_then(|rest| rest.find('{')).map_or(from, |at| from + at);
        Ok(Block {
            kind: block.ident.to_string(),
            kind_span,
            header: Span { end, ..kind_span },
            open: self.span(Some(brace..brace)),
            labels,
            body: self.body(&block.body)?,
        })
    }

    fn label(&self, label: &BlockLabel) -> Fallible<Label> {
        let (text, span) = match label {
            BlockLabel::Ident(ident) => (ident.to_string(), ident.span()),
            BlockLabel::String(text) => (text.value().clone(), text.span()),
        };
        Ok(Label { text, span: self.span(span) })
    }

    pub fn boxed(&self, expr: &Expression) -> Fallible<Box<Expr>> {
        self.expr(expr).map(Box::new)
    }

    pub fn expr(&self, expr: &Expression) -> Fallible<Expr> {
        let span = self.span(expr.span());
        let kind = match expr {
            Expression::Null(_) => Kind::Literal(Value::Null),
            Expression::Bool(value) => Kind::Literal(Value::Bool(*value.value())),
            Expression::Number(_) => self.number(expr, span)?,
            Expression::String(text) => Kind::Literal(Value::string(text.value())),
            Expression::Array(items) => Kind::Tuple(items.iter().map(|item| self.expr(item)).collect::<Fallible<_>>()?),
            Expression::Object(object) => self.object(object)?,
            Expression::StringTemplate(template) => {
                Kind::Template(template_text::parts(self, template, Flavour::Quoted)?)
            }
            Expression::HeredocTemplate(heredoc) => {
                let dedent = self.slice(expr.span()).starts_with("<<-");
                Kind::Template(template_text::parts(self, &heredoc.template, Flavour::Heredoc { dedent })?)
            }
            Expression::Parenthesis(inner) => Kind::Paren(self.boxed(inner.inner())?),
            Expression::Variable(name) => Kind::Reference(Reference {
                root: name.to_string(),
                root_span: span,
                steps: Vec::new(),
                source: name.to_string(),
            }),
            Expression::Conditional(conditional) => Kind::Conditional(Box::new([
                self.expr(&conditional.cond_expr)?,
                self.expr(&conditional.true_expr)?,
                self.expr(&conditional.false_expr)?,
            ])),
            Expression::FuncCall(call) => self.call(call)?,
            Expression::Traversal(traversal) => return self.traversal(traversal, span),
            Expression::UnaryOp(unary) => {
                Kind::Unary { negate: *unary.operator.value() == UnaryOperator::Neg, of: self.boxed(&unary.expr)? }
            }
            Expression::BinaryOp(binary) => Kind::Binary {
                op: operator(*binary.operator.value()),
                left: self.boxed(&binary.lhs_expr)?,
                right: self.boxed(&binary.rhs_expr)?,
            },
            Expression::ForExpr(parsed) => self.for_expr(parsed)?,
        };
        Ok(Expr { kind, span })
    }

    fn number(&self, expr: &Expression, span: Span) -> Fallible<Kind> {
        let digits: String = self.slice(expr.span()).chars().filter(|c| !c.is_whitespace()).collect();
        Number::parse(&digits).map(|number| Kind::Literal(Value::Number(number))).ok_or_else(|| {
            Problem::error(span, "Invalid number literal", "Failed to recognize the value of this number literal.")
        })
    }

    fn object(&self, object: &hcl::Object) -> Fallible<Kind> {
        let items = object
            .iter()
            .map(|(key, value)| {
                let key = match key {
                    ObjectKey::Ident(name) => {
                        Expr { kind: Kind::Literal(Value::string(name.as_str())), span: self.span(name.span()) }
                    }
                    ObjectKey::Expression(expr) => self.expr(expr)?,
                };
                Ok((key, self.expr(value.expr())?))
            })
            .collect::<Fallible<_>>()?;
        Ok(Kind::Object(items))
    }

    fn call(&self, call: &hcl::FuncCall) -> Fallible<Kind> {
        let name = call.name.namespace.iter().map(|part| format!("{}::", part.as_str())).collect::<String>()
            + call.name.name.as_str();
        Ok(Kind::Call(Box::new(Call {
            name,
            name_span: self.span(call.name.name.span()),
            args: call.args.iter().map(|arg| self.expr(arg)).collect::<Fallible<_>>()?,
            expand_last: call.args.expand_final(),
        })))
    }

    fn for_expr(&self, parsed: &hcl::ForExpr) -> Fallible<Kind> {
        Ok(Kind::For(Box::new(For {
            key: parsed.intro.key_var.as_ref().map(|name| name.to_string()),
            value: parsed.intro.value_var.to_string(),
            collection: self.expr(&parsed.intro.collection_expr)?,
            key_expr: parsed.key_expr.as_ref().map(|expr| self.expr(expr)).transpose()?,
            value_expr: self.expr(&parsed.value_expr)?,
            grouping: parsed.grouping,
            condition: parsed.cond.as_ref().map(|cond| self.expr(&cond.expr)).transpose()?,
        })))
    }

    /// Literal steps on a name stay together as one reference; the rest wraps it, step by step.
    fn traversal(&self, traversal: &hcl::Traversal, whole: Span) -> Fallible<Expr> {
        let mut expr = self.expr(&traversal.expr)?;
        let mut steps = traversal.operators.iter().peekable();
        if let Kind::Reference(reference) = &mut expr.kind {
            while let Some(operator) = steps.peek() {
                let Some(step) = literal_step(operator.value()) else { break };
                let span = self.span(operator.span());
                reference.steps.push((step, span));
                expr.span.end = span.end;
                steps.next();
            }
            let from = (expr.span.start as usize).saturating_sub(self.base);
            let to = (expr.span.end as usize).saturating_sub(self.base);
            self.slice(Some(from..to)).trim_end().clone_into(&mut reference.source);
        }
        while let Some(operator) = steps.next() {
            let span = Span { end: self.span(operator.span()).end.min(whole.end), ..expr.span };
            let kind = match operator.value() {
                TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                    let full = matches!(operator.value(), TraversalOperator::FullSplat(_));
                    let mut applied = Vec::new();
                    while let Some(step) = steps.peek() {
                        match (step.value(), literal_step(step.value())) {
                            (TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_), _) => break,
                            (TraversalOperator::Index(_), _) if !full => break,
                            (_, Some(step)) => applied.push(step),
                            (TraversalOperator::Index(key), None) => applied.push(Step::Computed(self.expr(key)?)),
                            _ => break,
                        }
                        steps.next();
                    }
                    Kind::Splat { of: Box::new(expr), steps: applied }
                }
                TraversalOperator::GetAttr(name) => Kind::GetAttr { of: Box::new(expr), name: name.to_string() },
                TraversalOperator::Index(key) => Kind::Index { of: Box::new(expr), key: self.boxed(key)? },
                TraversalOperator::LegacyIndex(index) => {
                    let key = Expr {
                        kind: Kind::Literal(Value::Number(Number::int(i128::from(*index.value())))),
                        span: self.span(operator.span()),
                    };
                    Kind::Index { of: Box::new(expr), key: Box::new(key) }
                }
            };
            expr = Expr { kind, span };
        }
        expr.span.end = whole.end.max(expr.span.end);
        Ok(expr)
    }
}

fn literal_step(operator: &TraversalOperator) -> Option<Step> {
    match operator {
        TraversalOperator::GetAttr(name) => Some(Step::Attr(name.to_string())),
        TraversalOperator::LegacyIndex(index) => {
            Some(Step::Index(Value::Number(Number::int(i128::from(*index.value())))))
        }
        TraversalOperator::Index(Expression::String(text)) => Some(Step::Index(Value::string(text.value()))),
        TraversalOperator::Index(Expression::Number(number)) => {
            number.value().as_i64().map(|n| Step::Index(Value::Number(Number::int(i128::from(n)))))
        }
        _ => None,
    }
}

fn operator(parsed: BinaryOperator) -> Operator {
    match parsed {
        BinaryOperator::Or => Operator::Or,
        BinaryOperator::And => Operator::And,
        BinaryOperator::Eq => Operator::Equal,
        BinaryOperator::NotEq => Operator::NotEqual,
        BinaryOperator::Less => Operator::Less,
        BinaryOperator::LessEq => Operator::LessEqual,
        BinaryOperator::Greater => Operator::Greater,
        BinaryOperator::GreaterEq => Operator::GreaterEqual,
        BinaryOperator::Plus => Operator::Add,
        BinaryOperator::Minus => Operator::Subtract,
        BinaryOperator::Mul => Operator::Multiply,
        BinaryOperator::Div => Operator::Divide,
        BinaryOperator::Mod => Operator::Remainder,
    }
}
