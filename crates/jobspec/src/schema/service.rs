//! Services and their checks.
//!
//! Rows are `name in the file, name on the wire, shape`; see [`super`].

use super::Shape::{Bool, Duration, Int, Many, One, Text, TextList, TextListMap, TextMap};
use super::Unset::{Null, Zero};
use super::connect::CONNECT;
use super::task::IDENTITY;
use super::{Body, INT, Kind, field};

pub(crate) static SERVICE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("name", "Name", Text(Zero)),
        field("tags", "Tags", TextList),
        field("canary_tags", "CanaryTags", TextList),
        field("enable_tag_override", "EnableTagOverride", Bool(Zero)),
        field("port", "PortLabel", Text(Zero)),
        field("address_mode", "AddressMode", Text(Zero)),
        field("address", "Address", Text(Zero)),
        field("check", "Checks", Many(&CHECK)),
        field("check_restart", "CheckRestart", One(&CHECK_RESTART)),
        field("connect", "Connect", One(&CONNECT)),
        field("meta", "Meta", TextMap),
        field("canary_meta", "CanaryMeta", TextMap),
        field("tagged_addresses", "TaggedAddresses", TextMap),
        field("task", "TaskName", Text(Zero)),
        field("on_update", "OnUpdate", Text(Zero)),
        field("identity", "Identity", One(&IDENTITY)),
        field("weights", "Weights", One(&WEIGHTS)),
        field("provider", "Provider", Text(Zero)),
        field("cluster", "Cluster", Text(Zero)),
        field("kind", "Kind", Text(Zero)),
    ],
    hidden: &[],
};

pub(crate) static CHECK: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("name", "Name", Text(Zero)),
        field("type", "Type", Text(Zero)),
        field("command", "Command", Text(Zero)),
        field("args", "Args", TextList),
        field("path", "Path", Text(Zero)),
        field("protocol", "Protocol", Text(Zero)),
        field("port", "PortLabel", Text(Zero)),
        field("expose", "Expose", Bool(Zero)),
        field("address_mode", "AddressMode", Text(Zero)),
        field("advertise", "Advertise", Text(Zero)),
        field("interval", "Interval", Duration(Zero)),
        field("timeout", "Timeout", Duration(Zero)),
        field("initial_status", "InitialStatus", Text(Zero)),
        field("notes", "Notes", Text(Zero)),
        field("tls_server_name", "TLSServerName", Text(Zero)),
        field("tls_skip_verify", "TLSSkipVerify", Bool(Zero)),
        field("header", "Header", TextListMap),
        field("method", "Method", Text(Zero)),
        field("check_restart", "CheckRestart", One(&CHECK_RESTART)),
        field("grpc_service", "GRPCService", Text(Zero)),
        field("grpc_use_tls", "GRPCUseTLS", Bool(Zero)),
        field("task", "TaskName", Text(Zero)),
        field("success_before_passing", "SuccessBeforePassing", Int(INT, Zero)),
        field("failures_before_critical", "FailuresBeforeCritical", Int(INT, Zero)),
        field("failures_before_warning", "FailuresBeforeWarning", Int(INT, Zero)),
        field("body", "Body", Text(Zero)),
        field("on_update", "OnUpdate", Text(Zero)),
    ],
    hidden: &[],
};

pub(crate) static CHECK_RESTART: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("limit", "Limit", Int(INT, Zero)),
        field("grace", "Grace", Duration(Null)),
        field("ignore_warnings", "IgnoreWarnings", Bool(Zero)),
    ],
    hidden: &[],
};

pub(crate) static WEIGHTS: Body = Body {
    kind: Kind::Plain,
    fields: &[field("passing", "Passing", Int(INT, Zero)), field("warning", "Warning", Int(INT, Zero))],
    hidden: &[],
};
