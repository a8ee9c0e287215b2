//! A task and what belongs to one task.
//!
//! Rows are `name in the file, name on the wire, shape`; see [`super`].

use super::Hidden;
use super::Shape::{Bool, Duration, Int, Many, One, Opaque, Text, TextList, TextMap};
use super::Unset::{Null, Zero};
use super::job::{AFFINITY, CONSTRAINT, CONSUL, NETWORK, RESTART, TASK_SCALING};
use super::service::SERVICE;
use super::{Body, INT, Kind, UINT, field, label, required};

pub(crate) static TASK: Body = Body {
    kind: Kind::Task,
    fields: &[
        label("Name"),
        field("driver", "Driver", Text(Zero)),
        field("user", "User", Text(Zero)),
        field("lifecycle", "Lifecycle", One(&LIFECYCLE)),
        field("config", "Config", Opaque),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
        field("env", "Env", TextMap),
        field("service", "Services", Many(&SERVICE)),
        field("resources", "Resources", One(&RESOURCES)),
        field("restart", "RestartPolicy", One(&RESTART)),
        field("meta", "Meta", TextMap),
        field("kill_timeout", "KillTimeout", Duration(Null)),
        field("logs", "LogConfig", One(&LOG_CONFIG)),
        field("artifact", "Artifacts", Many(&ARTIFACT)),
        field("vault", "Vault", One(&VAULT)),
        field("consul", "Consul", One(&CONSUL)),
        field("template", "Templates", Many(&TEMPLATE)),
        field("dispatch_payload", "DispatchPayload", One(&DISPATCH_PAYLOAD)),
        field("volume_mount", "VolumeMounts", Many(&VOLUME_MOUNT)),
        field("csi_plugin", "CSIPluginConfig", One(&CSI_PLUGIN)),
        field("leader", "Leader", Bool(Zero)),
        field("shutdown_delay", "ShutdownDelay", Duration(Zero)),
        field("kill_signal", "KillSignal", Text(Zero)),
        field("kind", "Kind", Text(Zero)),
        field("scaling", "ScalingPolicies", Many(&TASK_SCALING)),
        field("secret", "Secrets", Many(&SECRET)),
        field("identity", "Identities", Many(&IDENTITY)),
        field("action", "Actions", Many(&ACTION)),
        field("schedule", "Schedule", One(&SCHEDULE)),
    ],
    hidden: &[("Identity", Hidden::Null)],
};

pub(crate) static LIFECYCLE: Body = Body {
    kind: Kind::Plain,
    fields: &[required("hook", "Hook", Text(Zero)), field("sidecar", "Sidecar", Bool(Zero))],
    hidden: &[],
};

pub(crate) static RESOURCES: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("cpu", "CPU", Int(INT, Null)),
        field("cores", "Cores", Int(INT, Null)),
        field("memory", "MemoryMB", Int(INT, Null)),
        field("memory_max", "MemoryMaxMB", Int(INT, Null)),
        field("disk", "DiskMB", Int(INT, Null)),
        field("network", "Networks", Many(&NETWORK)),
        field("device", "Devices", Many(&DEVICE)),
        field("numa", "NUMA", One(&NUMA)),
        field("secrets", "SecretsMB", Int(INT, Null)),
        field("iops", "IOPS", Int(INT, Null)),
    ],
    hidden: &[],
};

pub(crate) static DEVICE: Body = Body {
    kind: Kind::Plain,
    fields: &[
        label("Name"),
        field("count", "Count", Int(UINT, Null)),
        field("constraint", "Constraints", Many(&CONSTRAINT)),
        field("affinity", "Affinities", Many(&AFFINITY)),
    ],
    hidden: &[],
};

pub(crate) static NUMA: Body = Body {
    kind: Kind::Plain,
    fields: &[field("affinity", "Affinity", Text(Zero)), field("devices", "Devices", TextList)],
    hidden: &[],
};

pub(crate) static LOG_CONFIG: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("max_files", "MaxFiles", Int(INT, Null)),
        field("max_file_size", "MaxFileSizeMB", Int(INT, Null)),
        field("enabled", "Enabled", Bool(Null)),
        field("disabled", "Disabled", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static ARTIFACT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("source", "GetterSource", Text(Null)),
        field("options", "GetterOptions", TextMap),
        field("headers", "GetterHeaders", TextMap),
        field("mode", "GetterMode", Text(Null)),
        field("insecure", "GetterInsecure", Bool(Null)),
        field("destination", "RelativeDest", Text(Null)),
        field("chown", "Chown", Bool(Zero)),
    ],
    hidden: &[],
};

pub(crate) static VAULT: Body = Body {
    kind: Kind::Vault,
    fields: &[
        field("policies", "Policies", TextList),
        field("role", "Role", Text(Zero)),
        field("namespace", "Namespace", Text(Null)),
        field("cluster", "Cluster", Text(Zero)),
        field("env", "Env", Bool(Null)),
        field("disable_file", "DisableFile", Bool(Null)),
        field("change_mode", "ChangeMode", Text(Null)),
        field("change_signal", "ChangeSignal", Text(Null)),
        field("allow_token_expiration", "AllowTokenExpiration", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static TEMPLATE: Body = Body {
    kind: Kind::Template,
    fields: &[
        field("source", "SourcePath", Text(Null)),
        field("destination", "DestPath", Text(Null)),
        field("data", "EmbeddedTmpl", Text(Null)),
        field("change_mode", "ChangeMode", Text(Null)),
        field("change_script", "ChangeScript", One(&CHANGE_SCRIPT)),
        field("change_signal", "ChangeSignal", Text(Null)),
        field("once", "Once", Bool(Null)),
        field("splay", "Splay", Duration(Null)),
        field("perms", "Perms", Text(Null)),
        field("uid", "Uid", Int(INT, Null)),
        field("gid", "Gid", Int(INT, Null)),
        field("left_delimiter", "LeftDelim", Text(Null)),
        field("right_delimiter", "RightDelim", Text(Null)),
        field("env", "Envvars", Bool(Null)),
        field("vault_grace", "VaultGrace", Duration(Null)),
        field("wait", "Wait", One(&TEMPLATE_WAIT)),
        field("error_on_missing_key", "ErrMissingKey", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static CHANGE_SCRIPT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("command", "Command", Text(Null)),
        field("args", "Args", TextList),
        field("timeout", "Timeout", Duration(Null)),
        field("fail_on_error", "FailOnError", Bool(Null)),
        field("run_on_first_render", "RunOnFirstRender", Bool(Null)),
    ],
    hidden: &[],
};

pub(crate) static TEMPLATE_WAIT: Body = Body {
    kind: Kind::Plain,
    fields: &[field("min", "Min", Duration(Null)), field("max", "Max", Duration(Null))],
    hidden: &[],
};

pub(crate) static DISPATCH_PAYLOAD: Body =
    Body { kind: Kind::Plain, fields: &[field("file", "File", Text(Zero))], hidden: &[] };

pub(crate) static VOLUME_MOUNT: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("volume", "Volume", Text(Null)),
        field("destination", "Destination", Text(Null)),
        field("read_only", "ReadOnly", Bool(Null)),
        field("propagation_mode", "PropagationMode", Text(Null)),
        field("selinux_label", "SELinuxLabel", Text(Null)),
    ],
    hidden: &[],
};

pub(crate) static CSI_PLUGIN: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("id", "ID", Text(Zero)),
        field("type", "Type", Text(Zero)),
        field("mount_dir", "MountDir", Text(Zero)),
        field("stage_publish_base_dir", "StagePublishBaseDir", Text(Zero)),
        field("health_timeout", "HealthTimeout", Duration(Zero)),
    ],
    hidden: &[],
};

pub(crate) static SECRET: Body = Body {
    kind: Kind::Plain,
    fields: &[
        label("Name"),
        field("provider", "Provider", Text(Zero)),
        field("path", "Path", Text(Zero)),
        field("config", "Config", Opaque),
        field("env", "Env", TextMap),
    ],
    hidden: &[],
};

pub(crate) static IDENTITY: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("name", "Name", Text(Zero)),
        field("aud", "Audience", TextList),
        field("change_mode", "ChangeMode", Text(Zero)),
        field("change_signal", "ChangeSignal", Text(Zero)),
        field("env", "Env", Bool(Zero)),
        field("file", "File", Bool(Zero)),
        field("filepath", "Filepath", Text(Zero)),
        field("service_name", "ServiceName", Text(Zero)),
        field("ttl", "TTL", Duration(Zero)),
        field("extra_claims", "ExtraClaims", TextList),
    ],
    hidden: &[],
};

pub(crate) static ACTION: Body = Body {
    kind: Kind::Plain,
    fields: &[label("Name"), required("command", "Command", Text(Zero)), field("args", "Args", TextList)],
    hidden: &[],
};

pub(crate) static SCHEDULE: Body =
    Body { kind: Kind::Plain, fields: &[field("cron", "Cron", One(&SCHEDULE_CRON))], hidden: &[] };

pub(crate) static SCHEDULE_CRON: Body = Body {
    kind: Kind::Plain,
    fields: &[
        field("start", "Start", Text(Zero)),
        field("end", "End", Text(Zero)),
        field("timezone", "Timezone", Text(Zero)),
    ],
    hidden: &[],
};
