//! What hangs on a task: artifacts, templates, identities, secrets, actions and the like.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Findings, labelled};
use super::{escapes, is_name};
use crate::hours::Hours;
use crate::task::{Secret, Task, TaskArtifact, Template, WorkloadIdentity};

/// Levels from a task's directory up to its allocation's.
const TASK_DEPTH: usize = 1;

pub(super) fn check(task: &Task, found: &mut Findings) {
    for (i, one) in task.artifacts.iter().enumerate() {
        found.at(format!("artifact[{i}]")).part(format!("Artifact {} validation failed", i + 1), artifact(one));
    }
    templates(task, found);
    if let Some(vault) = &task.vault {
        let mut within = Findings::default();
        change_mode(vault.change_mode.as_deref(), vault.change_signal.as_deref(), "change", &mut within);
        let namespace = vault.namespace.as_deref().unwrap_or("");
        within.at("namespace").when(!namespace.is_empty(), || {
            format!("namespace {namespace:?} of vault: multiple vault namespaces requires Nomad Enterprise")
        });
        within.at("cluster").when(!matches!(vault.cluster.as_str(), "" | "default"), || {
            format!("Vault cluster {:?} requires Nomad Enterprise", vault.cluster)
        });
        found.at("vault").part("Vault validation failed", within);
    }
    actions(task, found);
    if let Some(payload) = &task.dispatch_payload {
        found.at("dispatch_payload.file").when(escapes(&payload.file, 0), || {
            "Dispatch Payload validation failed: destination escapes allocation directory".into()
        });
    }
    identities(task, found);
    secrets(task, found);
    if let Some(plugin) = &task.csi_plugin_config {
        found
            .at("csi_plugin.id")
            .when(plugin.id.is_empty(), || "CSIPluginConfig must have a non-empty PluginID".into());
        found.at("csi_plugin.type").unless_known(&plugin.kind, &["node", "controller", "monolith"], || {
            format!(
                "CSIPluginConfig PluginType must be one of 'node', 'controller', or 'monolith', got: {:?}",
                plugin.kind
            )
        });
        let below = plugin.stage_publish_base_dir.strip_prefix(plugin.mount_dir.as_str());
        found
            .at("csi_plugin.stage_publish_base_dir")
            .when(below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), || {
                "CSIPluginConfig StagePublishBaseDir must not be a subdirectory of MountDir".into()
            });
    }
    if let Some(schedule) = &task.schedule {
        match &schedule.cron {
            None => found.at("schedule").say("Schedule validation failed: missing cron"),
            Some(cron) => {
                let plain =
                    |text: &str, fields: usize| text.split_whitespace().count() == fields && !text.contains(['/', ',']);
                found
                    .at("schedule.cron.start")
                    .when(!plain(&cron.start, 6), || format!("Schedule has an invalid cron start {:?}", cron.start));
                found
                    .at("schedule.cron.end")
                    .when(!plain(&cron.end, 2), || format!("Schedule has an invalid cron end {:?}", cron.end));
                if plain(&cron.start, 6)
                    && plain(&cron.end, 2)
                    && let Err(error) = Hours::new(cron, "UTC")
                {
                    found.at("schedule.cron").say(format!("Schedule validation failed: {error}"));
                }
            }
        }
    }
}

fn artifact(artifact: &TaskArtifact) -> Findings {
    let mut found = Findings::default();
    let source = artifact.getter_source.as_deref().unwrap_or("");
    found.at("source").when(source.is_empty(), || "source must be specified".into());
    let mode = artifact.getter_mode.as_deref().unwrap_or("");
    found.at("mode").unless_known(mode, &["any", "file", "dir"], || {
        format!("invalid artifact mode {mode:?}; must be one of: any, file, dir")
    });
    found.at("destination").when(escapes(artifact.relative_dest.as_deref().unwrap_or(""), TASK_DEPTH), || {
        "destination escapes allocation directory".into()
    });
    let checksum = artifact.getter_options.get("checksum").map_or("", |text| text.trim());
    if !checksum.is_empty()
        && !checksum.contains("${")
        && let Err(reason) = check_sum(checksum)
    {
        found.at("options.checksum").say(reason);
    }
    found
}

fn check_sum(text: &str) -> Result<(), String> {
    let (kind, sum) = text.split_once(':').ok_or_else(|| "checksum must be given as \"type:value\"".to_owned())?;
    let bytes = match kind {
        "md5" => 16,
        "sha1" => 20,
        "sha256" => 32,
        "sha512" => 64,
        "file" => return Ok(()),
        _ => return Err(format!("unsupported checksum type: {kind:?}")),
    };
    if !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("invalid checksum: {sum:?} is not hexadecimal"));
    }
    if sum.len() != bytes * 2 {
        return Err(format!("invalid {kind} checksum: {sum:?}"));
    }
    Ok(())
}

fn templates(task: &Task, found: &mut Findings) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, one) in task.templates.iter().enumerate() {
        found.at(format!("template[{i}]")).part(format!("Template {} validation failed", i + 1), template(one));
        let destination = one.dest_path.as_deref().unwrap_or("");
        match seen.get(destination) {
            Some(first) if !destination.is_empty() => {
                found
                    .at(format!("template[{i}].destination"))
                    .say(format!("Template {} has same destination as {first}", i + 1));
            }
            _ => drop(seen.insert(destination, i + 1)),
        }
    }
}

fn template(one: &Template) -> Findings {
    let mut found = Findings::default();
    let text = |field: &Option<String>| field.as_deref().unwrap_or("").to_owned();
    let (source, destination) = (text(&one.source_path), text(&one.dest_path));
    found.at("source").when(source.is_empty() && text(&one.embedded_tmpl).is_empty(), || {
        "Must specify a source path or have an embedded template".into()
    });
    found.at("destination").when(destination.is_empty(), || "Must specify a destination for the template".into());
    found
        .at("destination")
        .when(escapes(&destination, TASK_DEPTH), || "destination escapes allocation directory".into());
    let (mode, signal) = (text(&one.change_mode), text(&one.change_signal));
    match mode.as_str() {
        "noop" | "restart" => {}
        "signal" => {
            found
                .at("change_signal")
                .when(signal.is_empty(), || "Must specify signal value when change mode is signal".into());
            found.at("env").when(one.envvars.unwrap_or(false), || "cannot use signals with env var templates".into());
        }
        "script" => {
            let command = one.change_script.as_ref().and_then(|script| script.command.as_deref()).unwrap_or("");
            found.at("change_script").when(one.change_script.is_none(), || {
                "must specify change script configuration value when change mode is script".into()
            });
            found.at("change_script.command").when(one.change_script.is_some() && command.is_empty(), || {
                "must specify script path value when change mode is script".into()
            });
        }
        _ => found.at("change_mode").unless_known(&mode, &["noop", "signal", "script", "restart"], || {
            format!("Invalid change mode given: {mode:?}. Must be one of the following: noop, signal, script, restart")
        }),
    }
    found.at("splay").when(one.splay.is_some_and(|splay| splay.0 < 0), || "Must specify positive splay value".into());
    let perms = text(&one.perms);
    let octal = i64::from_str_radix(&perms, 8).is_ok_and(|bits| (0..=0o7777).contains(&bits));
    found.at("perms").when(!perms.is_empty() && !octal, || format!("Failed to parse {perms:?} as octal"));
    if let Some(wait) = &one.wait {
        found.at("wait.min").when(wait.min.is_some() && wait.max.is_some() && wait.min > wait.max, || {
            format!("wait min {} is greater than max {}", wait.min.unwrap_or_default(), wait.max.unwrap_or_default())
        });
    }
    found
}

fn change_mode(mode: Option<&str>, signal: Option<&str>, what: &str, found: &mut Findings) {
    match mode.unwrap_or("") {
        "noop" | "restart" => {}
        "signal" => found.at("change_signal").when(signal.unwrap_or("").is_empty(), || {
            format!("Signal must be specified when using {what} mode \"signal\"")
        }),
        other => found
            .at("change_mode")
            .unless_known(other, &["noop", "signal", "restart"], || format!("Unknown {what} mode {other:?}")),
    }
}

fn actions(task: &Task, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for action in &task.actions {
        let name = &action.name;
        let path = labelled("action", name);
        found.at(path.clone()).when(!is_name(name, |c| !c.is_whitespace() && c != '\0'), || {
            format!("Action {name:?} has an invalid name")
        });
        found
            .at(format!("{path}.command"))
            .when(action.command.is_empty(), || format!("Action {name:?} has no command"));
        found
            .at(format!("{path}[1]"))
            .when(!seen.insert(name), || format!("Action {name:?} is defined multiple times"));
    }
}

fn identities(task: &Task, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for one in task.identity.iter().chain(&task.identities) {
        let path = labelled("identity", &one.name);
        found.at(path.clone()).part(format!("Identity {:?} is invalid", one.name), identity(one));
        found
            .at(format!("{path}[1]"))
            .when(!seen.insert(&one.name), || format!("Identity {:?} is defined multiple times", one.name));
    }
}

pub(super) fn identity(one: &WorkloadIdentity) -> Findings {
    let mut found = Findings::default();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    found.at("name").when(!is_name(&one.name, fits), || format!("invalid name {:?}", one.name));
    found.at("aud").when(one.audience.iter().any(String::is_empty), || "an empty string is an invalid audience".into());
    match one.change_mode.as_str() {
        "" | "noop" | "restart" => found
            .at("change_signal")
            .when(!one.change_signal.is_empty(), || "can only use change_signal with change_mode \"signal\"".into()),
        "signal" => found.at("change_signal").when(one.change_signal.is_empty(), || {
            "change_signal must be specified when using change_mode \"signal\"".into()
        }),
        other => found
            .at("change_mode")
            .unless_known(other, &["", "noop", "restart", "signal"], || format!("invalid change_mode {other:?}")),
    }
    found.at("ttl").when(one.ttl.0 < 0, || "ttl must be >= 0".into());
    found
        .at("ttl")
        .when(one.name == "default" && one.ttl.0 > 0, || "ttl for default identity not yet supported".into());
    found.at("filepath").when(!one.filepath.is_empty() && !one.file, || {
        "file parameter must be true in order to specify filepath".into()
    });
    found.at("filepath").when(escapes(&one.filepath, TASK_DEPTH), || "filepath escapes allocation directory".into());
    found
}

fn secrets(task: &Task, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for one in &task.secrets {
        let path = labelled("secret", &one.name);
        found.at(format!("{path}[1]")).when(!seen.insert(&one.name), || format!("Duplicate secret {:?}", one.name));
        found.at(path.clone()).part(format!("Secret {:?} is invalid", one.name), secret(one));
        found.at(path).when(one.provider == "vault" && task.vault.is_none(), || {
            format!("Secret {:?} has provider \"vault\" but the task has no vault block", one.name)
        });
    }
}

fn secret(one: &Secret) -> Findings {
    let mut found = Findings::default();
    found.when(!is_name(&one.name, |c| c.is_ascii_alphanumeric() || c == '_'), || {
        format!("invalid name {:?}", one.name)
    });
    found.at("provider").when(one.provider.is_empty(), || "provider cannot be empty".into());
    found.at("path").when(one.path.is_empty(), || "path cannot be empty".into());
    let built_in = matches!(one.provider.as_str(), "nomad" | "vault");
    found.at("env").when(built_in && !one.env.is_empty(), || format!("provider {:?} does not use env", one.provider));
    found
        .at("config")
        .when(!built_in && !one.config.is_empty(), || format!("provider {:?} does not use config", one.provider));
    found
}
