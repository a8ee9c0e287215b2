//! Variables: what `var.x` is.
//!
//! A variable's value comes from, weakest first: its default, `NOMAD_VAR_` environment, `STEPPE_VAR_`
//! environment, variable files in order, `-var`. Only the winner is converted and validated. Text from outside is read
//! by the declared type: as it stands for strings and numbers, as an expression otherwise.

use std::collections::BTreeMap;

use crate::ast::{self, Attribute, Block, Body, Expr, Kind, references};
use model::nearest;

use crate::diagnostics::{Fallible, Problem, Sources, Span};
use crate::doubt::Doubt;
use crate::eval::{Evaluator, Scope};
use crate::json_syntax::{self, JsonKind};
use crate::limits;
use crate::lower;
use crate::schema::VARIABLE;
use crate::type_expr;
use crate::value::{Type, Value, convert};

struct Declared<'b> {
    of: Option<Type>,
    default: Option<(Value, Span)>,
    validations: Vec<Validation<'b>>,
    at: Span,
}

struct Validation<'b> {
    condition: &'b Expr,
    message: &'b Expr,
    at: Span,
}

/// What names of environment variables begin with, weakest first.
const ENV_PREFIXES: [&str; 2] = ["NOMAD_VAR_", "STEPPE_VAR_"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Default,
    Environment,
    File,
    Argument,
}

impl Origin {
    fn word(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Environment => "environment",
            Origin::File => "varfile",
            Origin::Argument => "-var",
        }
    }
}

struct Assigned {
    value: Value,
    origin: Origin,
    at: Option<Span>,
}

pub(crate) struct Variables<'b> {
    declared: BTreeMap<&'b str, Declared<'b>>,
    assigned: BTreeMap<&'b str, Assigned>,
    pub warnings: Vec<Problem>,
}

impl<'b> Variables<'b> {
    /// Reads `variable` and `variables` blocks.
    pub fn declare(
        evaluator: &Evaluator<'_>,
        sources: &Sources,
        body: &'b Body,
        doubt: &mut Doubt,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut declared: BTreeMap<&str, Declared<'_>> = BTreeMap::new();
        let mut places: BTreeMap<&str, Span> = BTreeMap::new();
        let mut add = |name: &'b str, at: Span, variable: Declared<'b>| {
            if let Some(first) = places.insert(name, at) {
                return Err(Problem::error(
                    at,
                    "Duplicate variable",
                    format!(
                        "Duplicate {name} variable definition found. Previous definition was at {}.",
                        sources.range(first)
                    ),
                ));
            }
            declared.insert(name, variable);
            Ok(())
        };
        for block in &body.blocks {
            match block.kind.as_str() {
                "variable" => {
                    let outcome =
                        declare_one(evaluator, block).and_then(|(name, variable)| add(name, block.header, variable));
                    if let Err(problem) = outcome {
                        match block.labels.first() {
                            Some(label) => doubt.about("var", &label.text),
                            None => doubt.about_all(),
                        }
                        problems.push(*problem);
                    }
                }
                "variables" => {
                    for attribute in &block.body.attributes {
                        let outcome = evaluator.eval(&attribute.value, &Scope::sealed()).and_then(|value| {
                            let of = Some(value.type_of()).filter(|of| *of != Type::Any);
                            let default = Some((value, attribute.value.start()));
                            let variable = Declared { of, default, validations: Vec::new(), at: attribute.name_span };
                            add(&attribute.name, attribute.name_span, variable)
                        });
                        if let Err(problem) = outcome {
                            doubt.about("var", &attribute.name);
                            problems.push(*problem);
                        }
                    }
                }
                _ => {}
            }
            if problems.len() >= limits::DIAGNOSTICS {
                break;
            }
        }
        let assigned = declared
            .iter()
            .filter_map(|(name, variable)| {
                let (value, at) = variable.default.clone()?;
                Some((*name, Assigned { value, origin: Origin::Default, at: Some(at) }))
            })
            .collect();
        Variables { declared, assigned, warnings: Vec::new() }
    }

    /// Takes in what was given from outside, strongest last.
    pub fn assign(
        &mut self,
        evaluator: &Evaluator<'_>,
        sources: &mut Sources,
        doubt: &mut Doubt,
        problems: &mut Vec<Problem>,
    ) {
        let inputs = evaluator.inputs;
        if inputs.env.len() + inputs.vars.len() + inputs.var_files.len() > limits::VARIABLE_TEXTS {
            doubt.about_all();
            return problems.push(*Problem::nowhere(
                "Too many variables",
                format!("At most {} values may be given.", limits::VARIABLE_TEXTS),
            ));
        }
        for prefix in ENV_PREFIXES {
            for (name, text) in &inputs.env {
                let Some(name) = name.strip_prefix(prefix) else { continue };
                if self.declared.contains_key(name)
                    && let Err(problem) = self.assign_text(evaluator, sources, name, text, Origin::Environment)
                {
                    doubt.about("var", name);
                    problems.push(*problem);
                }
            }
        }
        for (name, text) in &inputs.var_files {
            self.assign_file(evaluator, sources, name, text, doubt, problems);
        }
        for (name, text) in &inputs.vars {
            if problems.len() >= limits::DIAGNOSTICS {
                return;
            }
            if self.declared.contains_key(name.as_str()) {
                if let Err(problem) = self.assign_text(evaluator, sources, name, text, Origin::Argument) {
                    doubt.about("var", name);
                    problems.push(*problem);
                }
                continue;
            }
            let problem = Problem::nowhere(
                "Undefined -var variable",
                format!(
                    "A {name:?} variable was passed in the command line but was not found in known variables. To declare \
                     variable {name:?}, place this block in your job file: variable {name:?} {{ type = string }}"
                ),
            );
            self.undeclared(inputs.strict_vars, self.near(problem, name), problems);
        }
    }

    fn near(&self, problem: Box<Problem>, name: &str) -> Box<Problem> {
        match nearest(name, self.declared.keys().copied()) {
            Some(near) => problem.hint(format!("did you mean {near:?}?")),
            None => problem,
        }
    }

    fn undeclared(&mut self, strict: bool, problem: Box<Problem>, problems: &mut Vec<Problem>) {
        if strict {
            problems.push(*problem);
        } else if self.warnings.len() < limits::DIAGNOSTICS {
            self.warnings.push(*problem.warning());
        }
    }

    fn set(&mut self, name: &str, assigned: Assigned) {
        if let Some((name, _)) = self.declared.get_key_value(name) {
            self.assigned.insert(name, assigned);
        }
    }

    fn assign_text(
        &mut self,
        evaluator: &Evaluator<'_>,
        sources: &mut Sources,
        name: &str,
        text: &str,
        origin: Origin,
    ) -> Fallible<()> {
        let place = if origin == Origin::Argument {
            format!("<value for var.{name} from arguments>")
        } else {
            format!("<value for var.{name} from env>")
        };
        let file = sources.add(&place, text);
        let at = Span::new(file, 0, text.len());
        if text.len() > limits::SOURCE_BYTES {
            return Err(Problem::error(at.head(), "Value too large", "The value of a variable is too large."));
        }
        let of = self.declared.get(name).and_then(|variable| variable.of.as_ref());
        let value = match of {
            None | Some(Type::String | Type::Number | Type::Any) => Value::string(text),
            Some(_) => {
                let parsed = lower::expression(file, text).and_then(|expr| evaluator.eval(&expr, &Scope::sealed()));
                parsed.map_err(|problem| {
                    Problem::error(
                        problem.at.unwrap_or(at),
                        format!("Invalid argument value for {} variable", origin.word()),
                        format!("The received arg value {text:?} is not a valid expression: {}", problem.detail),
                    )
                })?
            }
        };
        self.set(name, Assigned { value, origin, at: Some(at) });
        Ok(())
    }

    fn assign_file(
        &mut self,
        evaluator: &Evaluator<'_>,
        sources: &mut Sources,
        name: &str,
        text: &str,
        doubt: &mut Doubt,
        problems: &mut Vec<Problem>,
    ) {
        let too_large = text.len() > limits::SOURCE_BYTES;
        let file = sources.add(name, if too_large { "" } else { text });
        let values = if too_large {
            let detail = format!("A variable file may have at most {} bytes.", limits::SOURCE_BYTES);
            Err(Problem::error(Span::new(file, 0, 0), "Variable file too large", detail))
        } else {
            file_values(evaluator, file, text)
        };
        let values = values.unwrap_or_else(|problem| {
            doubt.about_all();
            problems.push(*problem);
            Vec::new()
        });
        for (name, at, value) in values {
            if problems.len() >= limits::DIAGNOSTICS {
                return;
            }
            if self.declared.contains_key(name.as_str()) {
                self.set(&name, Assigned { value, origin: Origin::File, at: Some(at) });
                continue;
            }
            let problem = Problem::error(
                at,
                "Undefined variable",
                format!(
                    "A {name:?} variable was set but was not found in known variables. To declare variable {name:?}, place \
                     this block in your job file: variable {name:?} {{ type = string }}"
                ),
            );
            self.undeclared(evaluator.inputs.strict_vars, self.near(problem, &name), problems);
        }
    }

    /// The object `var` is, with every value converted and validated. Without those that are wrong.
    pub fn resolve(
        &self,
        evaluator: &Evaluator<'_>,
        sources: &Sources,
        doubt: &mut Doubt,
        problems: &mut Vec<Problem>,
    ) -> Value {
        let mut values = BTreeMap::new();
        for (name, variable) in &self.declared {
            match self.resolve_one(evaluator, sources, name, variable) {
                Ok(value) => {
                    values.insert((*name).to_owned(), value);
                }
                // Reported when its value was read.
                Err(_) if doubt.is_about("var", name) => {}
                Err(problem) => {
                    doubt.about("var", name);
                    if problems.len() < limits::DIAGNOSTICS {
                        problems.push(*problem);
                    }
                }
            }
        }
        Value::object(values)
    }

    fn resolve_one(
        &self,
        evaluator: &Evaluator<'_>,
        sources: &Sources,
        name: &str,
        variable: &Declared<'_>,
    ) -> Fallible<Value> {
        let Some(assigned) = self.assigned.get(name) else {
            return Err(Problem::nowhere(
                format!("Unset variable {name:?}"),
                "A used variable must be set or have a default value; see https://developer.hashicorp.com/nomad/docs/reference/hcl2/variables  for details.",
            )
            .shown_at(variable.at)
            .hint(format!("give it a default, or a value: -var {name}=…, -var-file, or NOMAD_VAR_{name} in the environment")));
        };
        let fail = |summary: String, detail: String| {
            let mut problem = Problem::nowhere(summary, detail);
            problem.at = assigned.at;
            problem.placeless = assigned.at.is_none();
            problem
        };
        let of = variable.of.clone().unwrap_or(Type::String);
        let keep = variable.of.is_none() && assigned.origin == Origin::Default;
        let value = if keep { Ok(assigned.value.clone()) } else { convert(&assigned.value, &of) };
        let value = value.map_err(|why| match assigned.origin {
            Origin::Default => fail(
                "Invalid default value for variable".to_owned(),
                format!("This default value is not compatible with the variable's type constraint: {why}."),
            ),
            Origin::Argument => fail(
                "Invalid argument value for -var variable".to_owned(),
                format!(
                    "The received arg value for {name} is not compatible with the variable's type constraint: {why}."
                ),
            ),
            _ => fail(
                "Invalid value for variable".to_owned(),
                format!("The value for {name} is not compatible with the variable's type constraint: {why}."),
            ),
        })?;
        for rule in &variable.validations {
            let message = check(evaluator, name, &value, rule)?;
            if let Some(message) = message {
                return Err(fail(
                    format!("Invalid value for {} variable", assigned.origin.word()),
                    format!("{message}\n\nThis was checked by the validation rule at {}.", sources.range(rule.at)),
                ));
            }
        }
        Ok(value)
    }
}

fn declare_one<'b>(evaluator: &Evaluator<'_>, block: &'b Block) -> Fallible<(&'b str, Declared<'b>)> {
    let [label] = block.labels.as_slice() else {
        return Err(Problem::error(
            block.header,
            "Missing name for variable",
            "All variable blocks must have 1 labels (name).",
        ));
    };
    let identifier = label.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && label.text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    if !identifier {
        return Err(Problem::error(
            label.span,
            "Invalid variable name",
            "Name must start with a letter or underscore and may contain only letters, digits, underscores, and dashes.",
        ));
    }
    let (mut of, mut default) = (None, None);
    for attribute in &block.body.attributes {
        match attribute.name.as_str() {
            "type" => of = Some(type_of(attribute)?),
            "default" => {
                default = Some((evaluator.eval(&attribute.value, &Scope::sealed())?, attribute.value.start()));
            }
            "description" => {
                let text = evaluator.eval(&attribute.value, &Scope::sealed())?;
                convert(&text, &Type::String).map_err(|why| {
                    Problem::error(attribute.value.start(), "Unsuitable value type", format!("Unsuitable value: {why}"))
                })?;
            }
            name => {
                let mut detail = format!("An argument named {name:?} is not expected here.");
                if let Some(near) = nearest(name, VARIABLE.fields.iter().map(|field| field.name)) {
                    detail = format!("{detail} Did you mean {near:?}?");
                }
                return Err(Problem::error(attribute.name_span, "Unsupported argument", detail));
            }
        }
    }
    if of.is_none()
        && let Some((value, _)) = &default
    {
        of = Some(value.type_of()).filter(|of| *of != Type::Any);
    }
    let validations = block.body.blocks.iter().map(|inner| validation(&label.text, inner)).collect::<Fallible<_>>()?;
    Ok((&label.text, Declared { of, default, validations, at: block.header }))
}

/// JSON syntax writes a type as a string.
fn type_of(attribute: &Attribute) -> Fallible<Type> {
    match &attribute.value.kind {
        Kind::Literal(Value::String(text)) if attribute.from_json => {
            let mut expr = lower::expression(attribute.value.span.file, text)?;
            expr.span = attribute.value.span;
            type_expr::parse(&expr)
        }
        _ => type_expr::parse(&attribute.value),
    }
}

fn validation<'b>(variable: &str, block: &'b Block) -> Fallible<Validation<'b>> {
    if block.kind != "validation" {
        return Err(Problem::error(
            block.kind_span,
            "Unsupported block type",
            format!("Blocks of type {:?} are not expected here.", block.kind),
        ));
    }
    let find = |name: &str| {
        block
            .body
            .attributes
            .iter()
            .find(|attribute| attribute.name == name)
            .map(|attribute| &attribute.value)
            .ok_or_else(|| {
                Problem::error(
                    block.open,
                    "Missing required argument",
                    format!("The argument {name:?} is required, but no definition was found."),
                )
            })
    };
    if let Some(other) =
        block.body.attributes.iter().find(|a| !matches!(a.name.as_str(), "condition" | "error_message"))
    {
        return Err(Problem::error(
            other.name_span,
            "Unsupported argument",
            format!("An argument named {:?} is not expected here.", other.name),
        ));
    }
    let (condition, message) = (find("condition")?, find("error_message")?);
    let mut to_self = false;
    let mut stray = None;
    references(condition, &mut Vec::new(), &mut |reference, bound| {
        let own = reference.root == "var"
            && matches!(reference.steps.first(), Some((ast::Step::Attr(name), _)) if name == variable);
        to_self |= own;
        if !own && !bound.contains(&reference.root.as_str()) {
            stray.get_or_insert(reference.root_span);
        }
    });
    if let Some(at) = stray {
        return Err(Problem::error(
            at,
            "Invalid reference in variable validation",
            format!(
                "The condition for variable {variable:?} can only refer to the variable itself, using var.{variable}."
            ),
        ));
    }
    if !to_self {
        return Err(Problem::error(
            condition.span,
            "Invalid variable validation condition",
            format!(
                "The condition for variable {variable:?} must refer to var.{variable} in order to test incoming values."
            ),
        ));
    }
    Ok(Validation { condition, message, at: block.kind_span })
}

/// The message of a rule that does not hold.
fn check(evaluator: &Evaluator<'_>, name: &str, value: &Value, rule: &Validation<'_>) -> Fallible<Option<String>> {
    let object = Value::object([(name.to_owned(), value.clone())].into());
    let scope = Scope::root([("var".to_owned(), object)].into());
    let files = evaluator.files_allowed.replace(false);
    let outcome = evaluator.eval(rule.condition, &scope);
    let message = evaluator.eval(rule.message, &scope);
    evaluator.files_allowed.set(files);
    match convert(&outcome?, &Type::Bool) {
        Ok(Value::Bool(true)) => return Ok(None),
        Ok(Value::Bool(false)) => {}
        _ => {
            return Err(Problem::error(
                rule.condition.span,
                "Invalid variable validation result",
                "Validation condition expression must return either true or false, not null.",
            ));
        }
    }
    match convert(&message?, &Type::String) {
        Ok(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.to_string())),
        _ => Err(Problem::error(
            rule.message.span,
            "Invalid validation error message",
            "The error message must be a text that is not blank.",
        )),
    }
}

/// Name, place and value of everything a variable file sets.
fn file_values(evaluator: &Evaluator<'_>, file: u32, text: &str) -> Fallible<Vec<(String, Span, Value)>> {
    if json_syntax::is_json(text.trim_start()) {
        let json = json_syntax::read(file, text)?;
        let JsonKind::Object(items) = &json.kind else { return Ok(Vec::new()) };
        return Ok(items.iter().map(|(name, _, item)| (name.clone(), item.span, item.literal())).collect());
    }
    let body = lower::body(file, text)?;
    if let Some(block) = body.blocks.first() {
        return Err(Problem::error(
            block.header,
            format!("Unexpected {:?} block", block.kind),
            "Blocks are not allowed here. A variable file only assigns values; declare variables in the job file.",
        ));
    }
    body.attributes
        .iter()
        .map(|attribute| {
            let value = evaluator.eval(&attribute.value, &Scope::sealed())?;
            Ok((attribute.name.clone(), attribute.value.start(), value))
        })
        .collect()
}
