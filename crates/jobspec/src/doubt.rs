//! What is not known because of a mistake that has been reported.
//!
//! A variable or local that is wrong would make every expression that names it wrong, too. Whoever
//! evaluates one asks here whether its complaint would be about somebody else's mistake; all other
//! mistakes of the file are reported beside it.

use std::collections::BTreeSet;

use crate::ast::{Expr, Step, references};
use crate::value::Value;

#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// `var.x`, `local.y`.
    names: BTreeSet<String>,
    /// Something is missing that nobody can name.
    nameless: bool,
}

impl Doubt {
    pub fn about(&mut self, root: &str, name: &str) {
        self.names.insert(format!("{root}.{name}"));
    }

    pub fn about_all(&mut self) {
        self.nameless = true;
    }

    pub fn is_about(&self, root: &str, name: &str) -> bool {
        self.nameless || self.names.contains(&format!("{root}.{name}"))
    }

    /// Whether what is wrong with the expression may follow from what was reported.
    pub fn covers(&self, expr: &Expr) -> bool {
        if self.names.is_empty() && !self.nameless {
            return false;
        }
        let mut covered = false;
        references(expr, &mut Vec::new(), &mut |reference, _| {
            if !matches!(reference.root.as_str(), "var" | "local") {
                return;
            }
            covered |= self.nameless
                || match reference.steps.first() {
                    Some((Step::Attr(name), _)) => self.names.contains(&format!("{}.{name}", reference.root)),
                    Some((Step::Index(Value::String(name)), _)) => {
                        self.names.contains(&format!("{}.{name}", reference.root))
                    }
                    _ => true,
                };
        });
        covered
    }
}
