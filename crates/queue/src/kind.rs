//! The queues an evaluation can stand in.

use model::Evaluation;

/// Which scheduler an evaluation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    Batch,
    System,
    SysBatch,
    Core,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Service, Self::Batch, Self::System, Self::SysBatch, Self::Core];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Batch => "batch",
            Self::System => "system",
            Self::SysBatch => "sysbatch",
            Self::Core => "_core",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// `None` for a type that no scheduler will ever serve.
    pub fn of(eval: &Evaluation) -> Option<Self> {
        Self::parse(&eval.kind)
    }
}
