//! The closed sets of states that rows are in. What a person writes (a job's type, say) stays text
//! until it is validated; what Steppe itself writes is one of these.

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? } default $default:ident) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        // By hand: the derived one does not see a name that a macro hands on.
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .description(Some(concat!($($doc),*).trim_start()))
                    .enum_values(Some([$($text),+]))
                    .into()
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}

        impl Default for $name {
            fn default() -> Self { Self::$default }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

states!(
    /// The four kinds of job.
    JobKind { Service = "service", Batch = "batch", System = "system", SysBatch = "sysbatch" } default Service
);
states!(
    /// Where a job stands as a whole.
    JobStatus { Pending = "pending", Running = "running", Dead = "dead" } default Pending
);
states!(
    /// What the cluster wants of an allocation.
    DesiredStatus { Run = "run", Stop = "stop", Evict = "evict" } default Run
);
states!(
    /// What the node says of an allocation.
    ClientStatus {
        Pending = "pending", Running = "running", Complete = "complete", Failed = "failed", Lost = "lost",
        Unknown = "unknown",
    } default Pending
);
states!(
    /// A task's state on its node.
    TaskStateKind { Pending = "pending", Running = "running", Dead = "dead" } default Pending
);
states!(
    /// Where an evaluation stands.
    EvalStatus {
        Blocked = "blocked", Pending = "pending", Complete = "complete", Failed = "failed", Cancelled = "canceled",
    } default Pending
);
states!(
    /// Where a deployment stands.
    DeploymentStatus {
        Running = "running", Paused = "paused", Failed = "failed", Successful = "successful",
        Cancelled = "cancelled", Pending = "pending", Blocked = "blocked", Unblocking = "unblocking",
    } default Running
);
states!(
    /// Where a node stands.
    NodeStatus { Initializing = "initializing", Ready = "ready", Down = "down", Disconnected = "disconnected" } default Initializing
);
states!(
    /// Whether a node may receive new allocations.
    Eligibility { Eligible = "eligible", Ineligible = "ineligible" } default Eligible
);
states!(
    /// Which service a process is. Stands in its certificate.
    Role {
        Gateway = "gateway", State = "state", Broker = "broker", Scheduler = "scheduler", Applier = "applier",
        Controller = "controller", Agent = "agent", Autoscaler = "autoscaler", Operator = "operator",
    } default Operator
);

impl ClientStatus {
    /// True when the node will do no more for the allocation.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Lost)
    }
}

impl EvalStatus {
    /// True when no scheduler will look at the evaluation again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Cancelled)
    }
}

impl DeploymentStatus {
    /// True while the deployment may still move.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Blocked | Self::Unblocking | Self::Pending)
    }
}
