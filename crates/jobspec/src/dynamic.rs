//! `dynamic "kind" { for_each, iterator, labels, content }`, taken apart. `decode` runs it.

use crate::ast::{Block, Expr, Kind as ExprKind, Label};
use crate::diagnostics::{Fallible, Problem, Span};
use crate::eval::{Evaluator, Scope};
use crate::schema::Body;
use crate::value::{Type, Value, convert};

/// A `dynamic` block, taken apart.
pub(crate) struct Dynamic<'b> {
    pub kind: &'b str,
    pub kind_span: Span,
    pub for_each: &'b Expr,
    pub iterator: String,
    pub labels: Option<&'b Expr>,
    pub content: &'b Block,
}

impl<'b> Dynamic<'b> {
    pub fn read(block: &'b Block, schema: &'static Body) -> Fallible<Self> {
        let [label] = block.labels.as_slice() else {
            return Err(Problem::error(
                block.header,
                "Missing dynamic block type",
                "A dynamic block has one label: the type of the blocks to make.",
            ));
        };
        if schema.field(&label.text).is_none_or(|field| !field.is_block()) {
            return Err(Problem::error(
                label.span,
                "Unsupported block type",
                format!("Blocks of type {:?} are not expected here.", label.text),
            ));
        }
        let mut dynamic = (None, None, None);
        for attribute in &block.body.attributes {
            match attribute.name.as_str() {
                "for_each" => dynamic.0 = Some(&attribute.value),
                "iterator" => dynamic.1 = Some(&attribute.value),
                "labels" => dynamic.2 = Some(&attribute.value),
                name => {
                    return Err(Problem::error(
                        attribute.name_span,
                        "Unsupported argument",
                        format!("An argument named {name:?} is not expected here."),
                    ));
                }
            }
        }
        let missing = |name: &str| {
            Problem::error(
                block.open,
                "Missing required argument",
                format!("The argument {name:?} is required, but no definition was found."),
            )
        };
        let contents: Vec<&Block> = block.body.blocks.iter().filter(|inner| inner.kind == "content").collect();
        if let Some(other) = block.body.blocks.iter().find(|inner| inner.kind != "content") {
            return Err(Problem::error(
                other.kind_span,
                "Unsupported block type",
                format!("Blocks of type {:?} are not expected here.", other.kind),
            ));
        }
        let content = match contents.as_slice() {
            [content] => *content,
            [] => {
                return Err(Problem::error(
                    block.open,
                    "Insufficient content blocks",
                    "At least 1 \"content\" blocks are required.",
                ));
            }
            [_, again, ..] => {
                return Err(Problem::error(
                    again.header,
                    "Extraneous content block",
                    "Only one nested \"content\" block is allowed for each \"dynamic\" block.",
                ));
            }
        };
        Ok(Dynamic {
            kind: &label.text,
            kind_span: label.span,
            for_each: dynamic.0.ok_or_else(|| missing("for_each"))?,
            iterator: match dynamic.1 {
                Some(expr) => iterator_name(expr)?,
                None => label.text.clone(),
            },
            labels: dynamic.2,
            content,
        })
    }

    pub fn items(&self, evaluator: &Evaluator<'_>, scope: &Scope<'_>) -> Fallible<Vec<(Value, Value)>> {
        let value = evaluator.eval(self.for_each, scope)?;
        let invalid = |detail: &str| Problem::error(self.for_each.span, "Invalid dynamic for_each value", detail);
        if value.is_null() {
            return Err(invalid("Cannot use a null value in for_each."));
        }
        value.pairs().ok_or_else(|| {
            invalid(&format!(
                "Cannot use a {} value in for_each. An iterable collection is required.",
                value.type_of().name()
            ))
        })
    }

    pub fn labels(&self, evaluator: &Evaluator<'_>, scope: &Scope<'_>) -> Fallible<Vec<Label>> {
        let Some(expr) = self.labels else { return Ok(Vec::new()) };
        let invalid = |why: &str| {
            Problem::error(
                expr.span,
                "Invalid dynamic block label",
                format!("Cannot use this value as dynamic block labels: {why}."),
            )
        };
        let list =
            convert(&evaluator.eval(expr, scope)?, &Type::List(Box::new(Type::String))).map_err(|why| invalid(&why))?;
        let items = list.elements().ok_or_else(|| invalid("list of string required"))?;
        items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Label { text: text.to_string(), span: expr.span }),
                _ => Err(invalid("a label must not be null")),
            })
            .collect()
    }
}

fn iterator_name(expr: &Expr) -> Fallible<String> {
    match &expr.kind {
        ExprKind::Reference(reference) if reference.steps.is_empty() => Ok(reference.root.clone()),
        // JSON syntax has no bare names.
        ExprKind::Literal(Value::String(text)) => Ok(text.to_string()),
        _ => Err(Problem::error(
            expr.span,
            "Invalid expression",
            "The iterator of a dynamic block must be a single variable name.",
        )),
    }
}
