//! A tree and data to text.

use std::borrow::Cow;

use serde_json::Value;

use super::parse::{Node, Pipeline, Term};
use super::{OUTPUT_BYTES_MAX, STEPS_MAX, TemplateError};
use super::{fields, functions};

type Datum<'a> = Cow<'a, Value>;

const NULL: Value = Value::Null;

pub fn run(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut state = State { out: String::new(), vars: vec![("$".to_owned(), Cow::Borrowed(data))], steps: 0 };
    state.walk(nodes, &Cow::Borrowed(data))?;
    Ok(state.out)
}

/// What a body asks of the loop around it.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    out: String,
    vars: Vec<(String, Datum<'a>)>,
    steps: usize,
}

impl<'a> State<'a> {
    fn step(&mut self, line: usize) -> Result<(), TemplateError> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(TemplateError::new(line, "too many steps"));
        }
        if self.out.len() > OUTPUT_BYTES_MAX {
            return Err(TemplateError::new(line, "the output grows too large"));
        }
        Ok(())
    }

    fn walk(&mut self, nodes: &[Node], dot: &Datum<'a>) -> Result<Flow, TemplateError> {
        let scope = self.vars.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.vars.truncate(scope);
                return Ok(flow);
            }
        }
        self.vars.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Datum<'a>) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
            Node::Pipe(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.names.is_empty() {
                    functions::print(&value, &mut self.out);
                } else {
                    self.set(pipeline, value)?;
                }
            }
            Node::If(cases, otherwise) => {
                let scope = self.vars.len();
                for (condition, body) in cases {
                    let value = self.pipeline(condition, dot)?;
                    let chosen = functions::truth(&value);
                    self.set(condition, value)?;
                    if chosen {
                        let flow = self.walk(body, dot);
                        self.vars.truncate(scope);
                        return flow;
                    }
                }
                let flow = self.walk(otherwise, dot);
                self.vars.truncate(scope);
                return flow;
            }
            Node::With(subject, body, otherwise) => {
                let scope = self.vars.len();
                let value = self.pipeline(subject, dot)?;
                self.set(subject, value.clone())?;
                let flow = if functions::truth(&value) { self.walk(body, &value) } else { self.walk(otherwise, dot) };
                self.vars.truncate(scope);
                return flow;
            }
            Node::Range(subject, body, otherwise) => return self.range(subject, body, otherwise, dot),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        subject: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &Datum<'a>,
    ) -> Result<Flow, TemplateError> {
        let over = self.pipeline(subject, dot)?;
        let mut any = false;
        let mut next = Items::of(over, subject.line)?;
        while let Some((key, value)) = next.next() {
            any = true;
            self.step(subject.line)?;
            let scope = self.vars.len();
            match subject.names.as_slice() {
                [] => {}
                [one] => self.bind(subject, one, value.clone())?,
                [first, second, ..] => {
                    self.bind(subject, first, Cow::Owned(key))?;
                    self.bind(subject, second, value.clone())?;
                }
            }
            let flow = self.walk(body, &value)?;
            self.vars.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        if any { Ok(Flow::On) } else { self.walk(otherwise, dot) }
    }

    fn set(&mut self, pipeline: &Pipeline, value: Datum<'a>) -> Result<(), TemplateError> {
        match pipeline.names.as_slice() {
            [] => Ok(()),
            [name] => self.bind(pipeline, name, value),
            _ => Err(TemplateError::new(pipeline.line, "too many declarations: only range sets two variables")),
        }
    }

    fn bind(&mut self, pipeline: &Pipeline, name: &str, value: Datum<'a>) -> Result<(), TemplateError> {
        if pipeline.declares {
            self.vars.push((name.to_owned(), value));
            return Ok(());
        }
        match self.vars.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, slot)) => *slot = value,
            None => return Err(undefined(pipeline.line, name)),
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Datum<'a>) -> Result<Datum<'a>, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            self.step(pipeline.line)?;
            value = Some(self.command(pipeline.line, command, dot, value)?);
        }
        Ok(value.unwrap_or(Cow::Borrowed(&NULL)))
    }

    fn command(
        &mut self,
        line: usize,
        terms: &[Term],
        dot: &Datum<'a>,
        piped: Option<Datum<'a>>,
    ) -> Result<Datum<'a>, TemplateError> {
        let [first, rest @ ..] = terms else { return Err(TemplateError::new(line, "missing value for command")) };
        let Term::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err(TemplateError::new(line, "can't give arguments to something that is not a function"));
            }
            return self.term(line, first, dot);
        };
        if matches!(name.as_str(), "and" | "or") {
            return self.short_circuit(line, name == "and", rest, dot, piped);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for term in rest {
            args.push(self.term(line, term, dot)?);
        }
        args.extend(piped);
        functions::call(name, &args).map(Cow::Owned).map_err(|message| TemplateError::new(line, message))
    }

    fn short_circuit(
        &mut self,
        line: usize,
        all: bool,
        terms: &[Term],
        dot: &Datum<'a>,
        piped: Option<Datum<'a>>,
    ) -> Result<Datum<'a>, TemplateError> {
        let mut last = None;
        for term in terms {
            let value = self.term(line, term, dot)?;
            if functions::truth(&value) != all {
                return Ok(value);
            }
            last = Some(value);
        }
        let name = if all { "and" } else { "or" };
        piped
            .or(last)
            .ok_or_else(|| TemplateError::new(line, format!("wrong number of args for {name}: want at least 1 got 0")))
    }

    fn term(&mut self, line: usize, term: &Term, dot: &Datum<'a>) -> Result<Datum<'a>, TemplateError> {
        self.step(line)?;
        match term {
            Term::Dot => Ok(dot.clone()),
            Term::Literal(value) => Ok(Cow::Owned(value.clone())),
            Term::Variable(name) => {
                let found = self.vars.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| undefined(line, name))
            }
            Term::Function(_) => self.command(line, std::slice::from_ref(term), dot, None),
            Term::Group(pipeline) => self.pipeline(pipeline, dot),
            Term::Fields(of, names) => {
                let mut value = self.term(line, of, dot)?;
                for name in names {
                    value = field(line, value, name)?;
                }
                Ok(value)
            }
        }
    }
}

fn undefined(line: usize, name: &str) -> TemplateError {
    TemplateError::new(line, format!("undefined variable {name:?}"))
}

fn field<'a>(line: usize, of: Datum<'a>, name: &str) -> Result<Datum<'a>, TemplateError> {
    if let Value::Object(there) = of.as_ref()
        && !there.contains_key(name)
        && fields::is_misspelt(there, name)
    {
        let near = crate::flags::nearest(name, there.keys().map(String::as_str));
        let meant = near.map_or_else(String::new, |near| format!(", did you mean {near}?"));
        return Err(TemplateError::new(line, format!("can't evaluate field {name}: the answer has none{meant}")));
    }
    match &of {
        Cow::Borrowed(Value::Object(fields)) => Ok(Cow::Borrowed(fields.get(name).unwrap_or(&NULL))),
        Cow::Owned(Value::Object(fields)) => Ok(Cow::Owned(fields.get(name).cloned().unwrap_or_default())),
        Cow::Borrowed(Value::Null) | Cow::Owned(Value::Null) => Ok(Cow::Borrowed(&NULL)),
        other => {
            let message = format!("can't evaluate field {name} in {}", functions::kind(other));
            Err(TemplateError::new(line, message))
        }
    }
}

/// What a range goes over.
enum Items<'a> {
    List(Datum<'a>, usize),
    Map(Datum<'a>, std::vec::IntoIter<String>),
    Count(i64, i64),
    Nothing,
}

impl<'a> Items<'a> {
    fn of(over: Datum<'a>, line: usize) -> Result<Self, TemplateError> {
        match over.as_ref() {
            Value::Array(_) => Ok(Self::List(over, 0)),
            Value::Object(map) => {
                let mut keys: Vec<String> = map.keys().cloned().collect();
                keys.sort();
                Ok(Self::Map(over, keys.into_iter()))
            }
            Value::Null => Ok(Self::Nothing),
            Value::Number(number) if number.is_i64() => Ok(Self::Count(0, number.as_i64().unwrap_or(0))),
            other => Err(TemplateError::new(line, format!("range can't iterate over {}", functions::kind(other)))),
        }
    }

    fn next(&mut self) -> Option<(Value, Datum<'a>)> {
        match self {
            Self::Nothing => None,
            Self::Count(at, end) => {
                *at += 1;
                (*at <= *end).then(|| (Value::from(*at - 1), Cow::Owned(Value::from(*at - 1))))
            }
            Self::List(list, at) => {
                let value = match list {
                    Cow::Borrowed(list) => Cow::Borrowed(list.get(*at)?),
                    Cow::Owned(list) => Cow::Owned(list.get(*at)?.clone()),
                };
                *at += 1;
                Some((Value::from(*at - 1), value))
            }
            Self::Map(map, keys) => {
                let key = keys.next()?;
                let value = match map {
                    Cow::Borrowed(map) => Cow::Borrowed(map.get(&key)?),
                    Cow::Owned(map) => Cow::Owned(map.get(&key)?.clone()),
                };
                Some((Value::from(key), value))
            }
        }
    }
}
