//! Tasks: both steps.

use super::service::{self, Place};
use super::{client, default, default_empty, default_text};
use crate::group::RestartPolicy;
use crate::resources::{NetworkResource, Resources};
use crate::task::{ChangeScript, LogConfig, Task, TaskArtifact, Template, Vault, VolumeMount, WorkloadIdentity};
use crate::time::Nanos;

/// Name of the identity that every task has.
const IDENTITY_DEFAULT: &str = "default";
/// Whom the default identity is meant for.
const IDENTITY_AUDIENCE: &str = "nomadproject.io";

/// The first step.
pub(super) fn client(task: &mut Task, place: &Place<'_>, restart: Option<&RestartPolicy>) {
    if task.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.hook.is_empty() && !lifecycle.sidecar) {
        task.lifecycle = None;
    }
    resources(task.resources.get_or_insert_default());
    if let Some(group) = restart {
        client::merge_restart(task.restart_policy.get_or_insert_default(), group);
    }
    default(&mut task.kill_timeout, crate::access::KILL_TIMEOUT_DEFAULT);
    logs(task.log_config.get_or_insert_default());
    client::affinities(&mut task.affinities);
    task.artifacts.iter_mut().for_each(artifact);
    task.templates.iter_mut().for_each(template);
    task.vault.iter_mut().for_each(vault);
    task.volume_mounts.iter_mut().for_each(volume_mount);
    if let Some(consul) = &mut task.consul {
        default_empty(&mut consul.cluster, "default");
    }
    if let Some(plugin) = &mut task.csi_plugin_config {
        default_empty(&mut plugin.mount_dir, "/csi");
        default_empty(&mut plugin.stage_publish_base_dir, "/local/csi");
        if plugin.health_timeout.0 == 0 {
            plugin.health_timeout = Nanos::from_secs(30);
        }
    }
    for policy in &mut task.scaling_policies {
        default(&mut policy.enabled, true);
    }
    let place = Place { task: Some(&task.name), ..*place };
    task.services.iter_mut().for_each(|service| service::client(service, &place));
}

pub(super) fn resources(resources: &mut Resources) {
    default(&mut resources.cores, 0);
    let mhz = resources.cpu_mhz();
    default(&mut resources.cpu, mhz);
    default(&mut resources.memory_mb, crate::access::MEMORY_MB_DEFAULT);
    for device in &mut resources.devices {
        default(&mut device.count, 1);
        client::affinities(&mut device.affinities);
    }
    if let Some(numa) = &mut resources.numa {
        default_empty(&mut numa.affinity, "none");
    }
}

pub(super) fn logs(logs: &mut LogConfig) {
    default(&mut logs.max_files, crate::access::LOG_FILES_DEFAULT);
    default(&mut logs.max_file_size_mb, crate::access::LOG_FILE_MB_DEFAULT);
    default(&mut logs.disabled, false);
}

fn artifact(artifact: &mut TaskArtifact) {
    default_text(&mut artifact.getter_mode, "any");
    default(&mut artifact.getter_insecure, false);
    if artifact.relative_dest.is_none() {
        let source = artifact.getter_source.as_deref().unwrap_or("");
        let source = source.split(['?', '#']).next().unwrap_or(source);
        artifact.relative_dest = Some(match artifact.getter_mode.as_deref() {
            Some("file") => format!("local/{}", source.trim_end_matches('/').rsplit('/').next().unwrap_or("")),
            _ => "local/".to_owned(),
        });
    }
}

fn template(template: &mut Template) {
    default_text(&mut template.source_path, "");
    default_text(&mut template.dest_path, "");
    default_text(&mut template.embedded_tmpl, "");
    default_text(&mut template.change_mode, "restart");
    let signal = if template.change_mode.as_deref() == Some("signal") { "SIGHUP" } else { "" };
    default_text(&mut template.change_signal, signal);
    upper_case(&mut template.change_signal);
    template.change_script.iter_mut().for_each(change_script);
    default(&mut template.once, false);
    default(&mut template.splay, Nanos::from_secs(5));
    default_text(&mut template.perms, "0644");
    default_text(&mut template.left_delim, "{{");
    default_text(&mut template.right_delim, "}}");
    default(&mut template.envvars, false);
    default(&mut template.err_missing_key, false);
    default(&mut template.vault_grace, Nanos(0));
}

fn change_script(script: &mut ChangeScript) {
    default_text(&mut script.command, "");
    default(&mut script.timeout, Nanos::from_secs(5));
    default(&mut script.fail_on_error, false);
    default(&mut script.run_on_first_render, false);
}

fn vault(vault: &mut Vault) {
    default(&mut vault.env, true);
    default(&mut vault.disable_file, false);
    default_text(&mut vault.namespace, "");
    default_empty(&mut vault.cluster, "default");
    default_text(&mut vault.change_mode, "restart");
    default_text(&mut vault.change_signal, "SIGHUP");
    upper_case(&mut vault.change_signal);
    default(&mut vault.allow_token_expiration, false);
}

pub(super) fn volume_mount(mount: &mut VolumeMount) {
    default(&mut mount.read_only, false);
    default_text(&mut mount.propagation_mode, "private");
    default_text(&mut mount.se_linux_label, "");
}

fn upper_case(text: &mut Option<String>) {
    if let Some(text) = text {
        text.make_ascii_uppercase();
    }
}

/// The second step.
pub(super) fn server(task: &mut Task, namespace: &str) {
    if let Some(resources) = &mut task.resources {
        server_resources(resources);
    }
    if let Some(logs) = &mut task.log_config {
        logs.enabled = None;
    }
    if let Some(vault) = &mut task.vault {
        vault.policies.clear();
    }
    for artifact in &mut task.artifacts {
        default_text(&mut artifact.getter_source, "");
    }
    for mount in &mut task.volume_mounts {
        default_text(&mut mount.volume, "");
        default_text(&mut mount.destination, "");
    }
    for policy in &mut task.scaling_policies {
        super::server::scaling(policy);
    }
    for secret in task.secrets.iter_mut().filter(|secret| secret.provider == "nomad" && !namespace.is_empty()) {
        secret.config.entry("namespace".to_owned()).or_insert_with(|| namespace.into());
    }
    identities(task);
}

/// Every task has a default identity; one given in the list is it.
fn identities(task: &mut Task) {
    let is_default = |identity: &WorkloadIdentity| identity.name.is_empty() || identity.name == IDENTITY_DEFAULT;
    if let Some(at) = task.identities.iter().position(is_default) {
        let given = task.identities.remove(at);
        task.identity.get_or_insert(given);
    }
    let identity = task.identity.get_or_insert_default();
    IDENTITY_DEFAULT.clone_into(&mut identity.name);
    identity.audience = vec![IDENTITY_AUDIENCE.to_owned()];
    identity.change_signal.make_ascii_uppercase();
    task.identities.iter_mut().for_each(|identity| identity.change_signal.make_ascii_uppercase());
}

pub(super) fn server_resources(resources: &mut Resources) {
    // the reference drops the legacy disk size
    resources.disk_mb = Some(0);
    default(&mut resources.memory_max_mb, 0);
    default(&mut resources.secrets_mb, 0);
    default(&mut resources.iops, 0);
    resources.networks.iter_mut().for_each(server_network);
}

/// A request names no interface.
pub(super) fn server_network(network: &mut NetworkResource) {
    network.device.clear();
    network.mbits = network.mbits.filter(|mbits| *mbits != 0);
}
