//! Functions on numbers.

use super::{Context, Failure, Function, Outcome, Want, number, param};
use crate::limits;
use crate::number::Number;
use crate::value::{Type, Value};

const NUM: &[super::Param] = &[param("num", Want::Number)];

pub(super) const TABLE: &[Function] = &[
    Function { name: "abs", params: NUM, rest: None, body: |_, a| Ok(Value::Number(number(a, 0).abs())) },
    Function { name: "ceil", params: NUM, rest: None, body: |_, a| Ok(Value::Number(number(a, 0).ceil())) },
    Function { name: "floor", params: NUM, rest: None, body: |_, a| Ok(Value::Number(number(a, 0).floor())) },
    Function { name: "log", params: &[param("num", Want::Number), param("base", Want::Number)], rest: None, body: log },
    Function {
        name: "max",
        params: &[],
        rest: Some(param("numbers", Want::Number)),
        body: |_, a| extreme(a, |a, b| a >= b),
    },
    Function {
        name: "min",
        params: &[],
        rest: Some(param("numbers", Want::Number)),
        body: |_, a| extreme(a, |a, b| a <= b),
    },
    Function {
        name: "pow",
        params: &[param("num", Want::Number), param("power", Want::Number)],
        rest: None,
        body: pow,
    },
    Function { name: "range", params: &[], rest: Some(param("params", Want::Number)), body: range },
    Function { name: "signum", params: NUM, rest: None, body: signum },
];

fn finite(value: f64) -> Outcome {
    Number::float(value).map(Value::Number).ok_or_else(|| Failure::Call("the result is not a finite number".to_owned()))
}

fn log(_: &Context<'_>, args: &[Value]) -> Outcome {
    finite(number(args, 0).as_f64().ln() / number(args, 1).as_f64().ln())
}

fn extreme(args: &[Value], better: impl Fn(Number, Number) -> bool) -> Outcome {
    let numbers: Vec<Number> = (0..args.len()).map(|i| number(args, i)).collect();
    numbers
        .into_iter()
        .reduce(|best, next| if better(best, next) { best } else { next })
        .map(Value::Number)
        .ok_or_else(|| Failure::Call("must pass at least one number".to_owned()))
}

fn pow(_: &Context<'_>, args: &[Value]) -> Outcome {
    let (base, power) = (number(args, 0), number(args, 1));
    // Whole powers stay exact for as long as they fit.
    if let Some(times) = power.as_int().and_then(|p| u32::try_from(p).ok()).filter(|p| *p <= 256) {
        let mut product = Number::int(1);
        for _ in 0..times {
            product = product.mul(base).ok_or("the result is out of range")?;
        }
        return Ok(Value::Number(product));
    }
    finite(base.as_f64().powf(power.as_f64()))
}

fn signum(_: &Context<'_>, args: &[Value]) -> Outcome {
    let sign = number(args, 0).cmp(&Number::int(0)) as i8;
    Ok(Value::Number(Number::int(i128::from(sign))))
}

fn range(_: &Context<'_>, args: &[Value]) -> Outcome {
    let (zero, one) = (Number::int(0), Number::int(1));
    let (start, end, step) = match args.len() {
        1 => (zero, number(args, 0), None),
        2 => (number(args, 0), number(args, 1), None),
        3 => (number(args, 0), number(args, 1), Some(number(args, 2))),
        _ => return Err("must have one, two, or three arguments".into()),
    };
    let down = end < start;
    let step = step.unwrap_or(if down { one.neg() } else { one });
    if step.is_zero() {
        return Err(Failure::Argument(2, "step must not be zero".to_owned()));
    }
    if start != end && down != (step < zero) {
        let words = if down {
            "end is less than start, so step must be negative"
        } else {
            "end is greater than start, so step must be positive"
        };
        return Err(Failure::Argument(2, words.to_owned()));
    }
    let mut items = Vec::new();
    let mut at = start;
    while if down { at > end } else { at < end } {
        if items.len() >= limits::RANGE {
            return Err(Failure::Call("more than 1024 values were generated; either decrease the difference between start and end or use a smaller step".to_owned()));
        }
        items.push(Value::Number(at));
        at = at.add(step).ok_or("the result is out of range")?;
    }
    Ok(Value::list(Type::Number, items))
}
