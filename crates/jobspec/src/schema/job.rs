//! The job and its groups: everything that is not inside a task, a service or a connect block.
//!
//! Rows are `name in the file, name on the wire, shape`; see [`super`].

use super::Hidden;
use super::Shape::{Bool, ByLabel, Duration, Int, Many, One, Opaque, Text, TextList, TextMap};
use super::Unset::{Null, Zero};
use super::service::SERVICE;
use super::task::{SECRET, TASK, VAULT};
use super::{Body, INT, INT8, Kind, UINT8, field, label, required};

pub(crate) static JOB: Body = Body {
    kind: Kind::Job,
    fields: &[
        label("@label"),
        field("task", "@tasks", Many(&TASK)),
        field("vault", "@vault", One(&VAULT)),
        field("secret", "@secrets", Many(&SECRET)),
        field("region", "Region", Text(Null)),
        field("namespace", "Namespace", Text(Null)),
        field("id", "ID", Text(Null)),
        field("name", "Name", Text(Null)),
        field("type", "Type", Text(Null)),
        field("priority", "Priority", Int(INT, Null)),
        field("all_at_once", "AllAtOnce", Bool(Null)),
        field("datacenters", "Datacenters", TextList),
        field("node_pool", "NodePool", Text(Null)),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
        field("group", "TaskGroups", Many(&GROUP)),
        field("update", "Update", One(&UPDATE)),
        field("multiregion", "Multiregion", One(&MULTIREGION)),
        field("spread", "Spreads", Many(&SPREAD)),
        field("periodic", "Periodic", One(&PERIODIC)),
        field("parameterized", "ParameterizedJob", One(&PARAMETERIZED)),
        field("reschedule", "Reschedule", One(&RESCHEDULE)),
        field("migrate", "Migrate", One(&MIGRATE)),
        field("meta", "Meta", TextMap),
        field("ui", "UI", One(&UI)),
    ],
    hidden: &[
        ("Stop", Hidden::Null),
        ("ParentID", Hidden::Null),
        ("Dispatched", Hidden::False),
        ("DispatchIdempotencyToken", Hidden::Null),
        ("Payload", Hidden::Null),
        ("ConsulNamespace", Hidden::Null),
        ("VaultNamespace", Hidden::Null),
        ("NomadTokenID", Hidden::Null),
        ("Status", Hidden::Null),
        ("StatusDescription", Hidden::Null),
        ("Stable", Hidden::Null),
        ("Version", Hidden::Null),
        ("SubmitTime", Hidden::Null),
        ("CreateIndex", Hidden::Null),
        ("ModifyIndex", Hidden::Null),
        ("JobModifyIndex", Hidden::Null),
        ("VersionTag", Hidden::Null),
    ],
};

pub(crate) static GROUP: Body = Body {
    kind: Kind::Group,
    fields: &[
        label("Name"),
        field("vault", "@vault", One(&VAULT)),
        field("secret", "@secrets", Many(&SECRET)),
        field("count", "Count", Int(INT, Null)),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
        field("task", "Tasks", Many(&TASK)),
        field("spread", "Spreads", Many(&SPREAD)),
        field("volume", "Volumes", ByLabel(&VOLUME)),
        field("restart", "RestartPolicy", One(&RESTART)),
        field("disconnect", "Disconnect", One(&DISCONNECT)),
        field("reschedule", "ReschedulePolicy", One(&RESCHEDULE)),
        field("ephemeral_disk", "EphemeralDisk", One(&EPHEMERAL_DISK)),
        field("update", "Update", One(&UPDATE)),
        field("migrate", "Migrate", One(&MIGRATE)),
        field("network", "Networks", Many(&NETWORK)),
        field("meta", "Meta", TextMap),
        field("service", "Services", Many(&SERVICE)),
        field("shutdown_delay", "ShutdownDelay", Duration(Null)),
        field("max_run_duration", "MaxRunDuration", Duration(Null)),
        field("stop_after_client_disconnect", "StopAfterClientDisconnect", Duration(Null)),
        field("max_client_disconnect", "MaxClientDisconnect", Duration(Null)),
        field("scaling", "Scaling", One(&GROUP_SCALING)),
        field("consul", "Consul", One(&CONSUL)),
        field("prevent_reschedule_on_lost", "PreventRescheduleOnLost", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static CONSTRAINT: Body = Body {
    kind: Kind::Constraint,
    fields: &[
        field("attribute", "LTarget", Text(Zero)),
        field("value", "RTarget", Text(Zero)),
        field("operator", "Operand", Text(Zero)),
        field("version", "@version", Text(Null)),
        field("semver", "@semver", Text(Null)),
        field("regexp", "@regexp", Text(Null)),
        field("set_contains", "@set_contains", Text(Null)),
        field("distinct_property", "@distinct_property", Text(Null)),
        field("set_contains_all", "@set_contains_all", Text(Null)),
        field("set_contains_any", "@set_contains_any", Text(Null)),
        field("is_set", "@is_set", Text(Null)),
        field("is_not_set", "@is_not_set", Text(Null)),
        field("distinct_hosts", "@distinct_hosts", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static AFFINITY: Body = Body {
    kind: Kind::Affinity,
    fields: &[
        field("attribute", "LTarget", Text(Zero)),
        field("value", "RTarget", Text(Zero)),
        field("operator", "Operand", Text(Zero)),
        field("weight", "Weight", Int(INT8, Null)),
        field("version", "@version", Text(Null)),
        field("semver", "@semver", Text(Null)),
        field("regexp", "@regexp", Text(Null)),
        field("set_contains", "@set_contains", Text(Null)),
        field("set_contains_all", "@set_contains_all", Text(Null)),
        field("set_contains_any", "@set_contains_any", Text(Null)),
    ],
    hidden: &[],
};

pub(crate) static UPDATE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("stagger", "Stagger", Duration(Null)),
        field("max_parallel", "MaxParallel", Int(INT, Null)),
        field("health_check", "HealthCheck", Text(Null)),
        field("min_healthy_time", "MinHealthyTime", Duration(Null)),
        field("healthy_deadline", "HealthyDeadline", Duration(Null)),
        field("progress_deadline", "ProgressDeadline", Duration(Null)),
        field("canary", "Canary", Int(INT, Null)),
        field("auto_revert", "AutoRevert", Bool(Null)),
        field("auto_promote", "AutoPromote", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static MULTIREGION: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("strategy", "Strategy", One(&MULTIREGION_STRATEGY)),
        field("region", "Regions", Many(&MULTIREGION_REGION)),
    ],
    hidden: &[],
};

pub(crate) static MULTIREGION_STRATEGY: Body = Body {
    kind: Kind::Plain,
    fields: &[field("max_parallel", "MaxParallel", Int(INT, Null)), field("on_failure", "OnFailure", Text(Null))],
    hidden: &[],
};

pub(crate) static MULTIREGION_REGION: Body = Body {
    kind: Kind::Plain,
    fields: &[
        label("Name"),
        field("count", "Count", Int(INT, Null)),
        field("datacenters", "Datacenters", TextList),
        field("node_pool", "NodePool", Text(Zero)),
        field("meta", "Meta", TextMap),
    ],
    hidden: &[],
};

pub(crate) static SPREAD: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("attribute", "Attribute", Text(Zero)),
        field("weight", "Weight", Int(INT8, Null)),
        field("target", "SpreadTarget", Many(&SPREAD_TARGET)),
    ],
    hidden: &[],
};

pub(crate) static SPREAD_TARGET: Body =
    Body { kind: Kind::Plain, fields: &[label("Value"), field("percent", "Percent", Int(UINT8, Zero))], hidden: &[] };

pub(crate) static PERIODIC: Body = Body {
    kind: Kind::Periodic,
    fields: &[
        field("enabled", "Enabled", Bool(Null)),
        field("cron", "Spec", Text(Null)),
        field("crons", "Specs", TextList),
        field("prohibit_overlap", "ProhibitOverlap", Bool(Null)),
        field("time_zone", "TimeZone", Text(Null)),
    ],
    hidden: &[("SpecType", Hidden::Null)],
};

pub(crate) static PARAMETERIZED: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("payload", "Payload", Text(Zero)),
        field("meta_required", "MetaRequired", TextList),
        field("meta_optional", "MetaOptional", TextList),
    ],
    hidden: &[],
};

pub(crate) static RESCHEDULE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("attempts", "Attempts", Int(INT, Null)),
        field("interval", "Interval", Duration(Null)),
        field("delay", "Delay", Duration(Null)),
        field("delay_function", "DelayFunction", Text(Null)),
        field("max_delay", "MaxDelay", Duration(Null)),
        field("unlimited", "Unlimited", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static MIGRATE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("max_parallel", "MaxParallel", Int(INT, Null)),
        field("health_check", "HealthCheck", Text(Null)),
        field("min_healthy_time", "MinHealthyTime", Duration(Null)),
        field("healthy_deadline", "HealthyDeadline", Duration(Null)),
    ],
    hidden: &[],
};

pub(crate) static UI: Body = Body {
    kind: Kind::Plain,
    fields: &[field("description", "Description", Text(Zero)), field("link", "Links", Many(&UI_LINK))],
    hidden: &[],
};

pub(crate) static UI_LINK: Body = Body {
    kind: Kind::Plain,
    fields: &[field("label", "Label", Text(Zero)), field("url", "URL", Text(Zero))],
    hidden: &[],
};

pub(crate) static VOLUME: Body = Body {
    kind: Kind::Plain,
    fields: &[
        label("Name"),
        field("type", "Type", Text(Zero)),
        field("source", "Source", Text(Zero)),
        field("read_only", "ReadOnly", Bool(Zero)),
        field("sticky", "Sticky", Bool(Zero)),
        field("access_mode", "AccessMode", Text(Zero)),
        field("attachment_mode", "AttachmentMode", Text(Zero)),
        field("mount_options", "MountOptions", One(&MOUNT_OPTIONS)),
        field("per_alloc", "PerAlloc", Bool(Zero)),
    ],
    hidden: &[],
};

pub(crate) static MOUNT_OPTIONS: Body = Body {
    kind: Kind::Plain,
    fields: &[field("fs_type", "FSType", Text(Zero)), field("mount_flags", "MountFlags", TextList)],
    hidden: &[],
};

pub(crate) static RESTART: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("interval", "Interval", Duration(Null)),
        field("attempts", "Attempts", Int(INT, Null)),
        field("delay", "Delay", Duration(Null)),
        field("mode", "Mode", Text(Null)),
        field("render_templates", "RenderTemplates", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static DISCONNECT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("lost_after", "LostAfter", Duration(Null)),
        field("stop_on_client_after", "StopOnClientAfter", Duration(Null)),
        field("replace", "Replace", Bool(Null)),
        field("reconcile", "Reconcile", Text(Null)),
    ],
    hidden: &[],
};

pub(crate) static EPHEMERAL_DISK: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("sticky", "Sticky", Bool(Null)),
        field("migrate", "Migrate", Bool(Null)),
        field("size", "SizeMB", Int(INT, Null)),
    ],
    hidden: &[],
};

pub(crate) static NETWORK: Body = Body {
    kind: Kind::Network,
    fields: &[
        field("mode", "Mode", Text(Zero)),
        field("device", "Device", Text(Zero)),
        field("cidr", "CIDR", Text(Zero)),
        field("ip", "IP", Text(Zero)),
        field("dns", "DNS", One(&DNS)),
        field("reserved_ports", "@reserved_ports", Many(&PORT)),
        field("port", "@port", Many(&PORT)),
        field("hostname", "Hostname", Text(Zero)),
        field("mbits", "MBits", Int(INT, Null)),
        field("cni", "CNI", One(&CNI)),
    ],
    hidden: &[("ReservedPorts", Hidden::Null), ("DynamicPorts", Hidden::Null)],
};

pub(crate) static PORT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        label("Label"),
        field("static", "Value", Int(INT, Zero)),
        field("to", "To", Int(INT, Zero)),
        field("host_network", "HostNetwork", Text(Zero)),
        field("ignore_collision", "IgnoreCollision", Bool(Zero)),
    ],
    hidden: &[],
};

pub(crate) static DNS: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("servers", "Servers", TextList),
        field("searches", "Searches", TextList),
        field("options", "Options", TextList),
    ],
    hidden: &[],
};

pub(crate) static CNI: Body = Body { kind: Kind::Plain, fields: &[field("args", "Args", TextMap)], hidden: &[] };

pub(crate) static GROUP_SCALING: Body = Body {
    kind: Kind::GroupScaling,
    fields: &[
        field("min", "Min", Int(INT, Null)),
        required("max", "Max", Int(INT, Null)),
        field("policy", "Policy", Opaque),
        field("enabled", "Enabled", Bool(Null)),
        field("type", "Type", Text(Zero)),
    ],
    hidden: &[
        ("ID", Hidden::Empty),
        ("Namespace", Hidden::Empty),
        ("Target", Hidden::Null),
        ("CreateIndex", Hidden::Nought),
        ("ModifyIndex", Hidden::Nought),
    ],
};

pub(crate) static TASK_SCALING: Body = Body {
    kind: Kind::TaskScaling,
    fields: &[
        label("@label"),
        field("min", "Min", Int(INT, Null)),
        field("max", "Max", Int(INT, Null)),
        field("policy", "Policy", Opaque),
        field("enabled", "Enabled", Bool(Null)),
        field("type", "Type", Text(Zero)),
    ],
    hidden: &[
        ("ID", Hidden::Empty),
        ("Namespace", Hidden::Empty),
        ("Target", Hidden::Null),
        ("CreateIndex", Hidden::Nought),
        ("ModifyIndex", Hidden::Nought),
    ],
};

pub(crate) static CONSUL: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("namespace", "Namespace", Text(Zero)),
        field("cluster", "Cluster", Text(Zero)),
        field("partition", "Partition", Text(Zero)),
    ],
    hidden: &[],
};
