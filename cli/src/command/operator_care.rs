//! Looking after the servers: who takes part, autopilot, the keys.

use api::public::{LeadershipTransferResponse, OperatorHealthReply};
use bytes::Bytes;
use client::public::{PublicError, Query};
use http::Method;
use model::autopilot::AutopilotConfiguration;
use model::keyring::RootKeyMeta;
use model::time::parse_go_duration;
use serde_json::Value;

use super::{Cx, Failure, machine};
use crate::format::{id, pairs, row, table};

const AUTOPILOT: &str = "/v1/operator/autopilot/configuration";

pub async fn remove_peer(cx: &mut Cx) -> Result<u8, Failure> {
    let Some(peer) = cx.flags.some("peer-id").map(str::to_owned) else {
        return Err(
            Failure::new("Missing peer id required").hint("`operator raft list-peers` lists them; -peer-id takes one")
        );
    };
    let query = Query::default().with("id", &peer);
    let sent = cx.client.send(Method::DELETE, "/v1/operator/raft/peer", &query, None).await;
    sent.map_err(|error| Failure::api("Error removing peer", &error))?;
    cx.ui.line(format!("Removed peer with id \"{peer}\""));
    Ok(0)
}

pub async fn transfer_leadership(cx: &mut Cx) -> Result<u8, Failure> {
    let query = match (cx.flags.some("peer-id"), cx.flags.some("peer-address")) {
        (Some(id), None) => Query::default().with("id", id),
        (None, Some(address)) => Query::default().with("address", address),
        (Some(_), Some(_)) => return Err(Failure::new("Cannot use both -peer-id and -peer-address")),
        (None, None) => return Err(Failure::new("Either -peer-id or -peer-address is required")),
    };
    let path = "/v1/operator/raft/transfer-leadership";
    let sent = cx.client.send(Method::PUT, path, &query, None).await;
    let answer = sent.map_err(|error| Failure::api("Error transferring leadership", &error))?;
    let done: LeadershipTransferResponse = read(&answer.body)?;
    cx.ui.line(if done.noop {
        format!("{} leads already", done.to.node)
    } else {
        format!("Success. Leadership went from {} to {}", done.from.node, done.to.node)
    });
    Ok(0)
}

fn read<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::new(format!("Error reading the answer: {error}")))
}

pub async fn autopilot_get(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let answer = cx.client.get::<Value>(AUTOPILOT, &Query::default()).await;
    let (value, _) = answer.map_err(|error| Failure::api("Error querying Autopilot configuration", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let config: AutopilotConfiguration =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error reading the answer: {error}")))?;
    cx.ui.line(pairs(&[
        ("CleanupDeadServers", config.cleanup_dead_servers.to_string()),
        ("LastContactThreshold", config.last_contact_threshold.to_string()),
        ("MaxTrailingLogs", config.max_trailing_logs.to_string()),
        ("MinQuorum", config.min_quorum.to_string()),
        ("ServerStabilizationTime", config.server_stabilization_time.to_string()),
        ("EnableRedundancyZones", config.enable_redundancy_zones.to_string()),
        ("DisableUpgradeMigration", config.disable_upgrade_migration.to_string()),
        ("EnableCustomUpgrades", config.enable_custom_upgrades.to_string()),
    ]));
    Ok(0)
}

pub async fn autopilot_set(cx: &mut Cx) -> Result<u8, Failure> {
    let answer = cx.client.get::<AutopilotConfiguration>(AUTOPILOT, &Query::default()).await;
    let (mut config, _) = answer.map_err(|error| Failure::api("Error querying Autopilot configuration", &error))?;
    let before = config.modify_index;
    boolean(cx, "cleanup-dead-servers", &mut config.cleanup_dead_servers)?;
    boolean(cx, "enable-redundancy-zones", &mut config.enable_redundancy_zones)?;
    boolean(cx, "disable-upgrade-migration", &mut config.disable_upgrade_migration)?;
    boolean(cx, "enable-custom-upgrades", &mut config.enable_custom_upgrades)?;
    number(cx, "max-trailing-logs", &mut config.max_trailing_logs)?;
    number(cx, "min-quorum", &mut config.min_quorum)?;
    for (name, place) in [
        ("last-contact-threshold", &mut config.last_contact_threshold),
        ("server-stabilization-time", &mut config.server_stabilization_time),
    ] {
        if let Some(text) = cx.flags.some(name) {
            *place = parse_go_duration(text)
                .ok_or_else(|| Failure::new(format!("Error: -{name} takes a duration such as 10s, not {text:?}")))?;
        }
    }
    let query = Query::default().with("cas", before.to_string());
    let sent = cx.client.put::<_, bool>(AUTOPILOT, &query, &config).await;
    let (updated, _) = sent.map_err(|error| Failure::api("Error setting Autopilot configuration", &error))?;
    if !updated {
        return Err(Failure::new("Configuration could not be atomically updated, please try again"));
    }
    cx.ui.line("Configuration updated!");
    Ok(0)
}

fn boolean(cx: &Cx, name: &str, place: &mut bool) -> Result<(), Failure> {
    if let Some(text) = cx.flags.some(name) {
        *place = text.parse().map_err(|_| Failure::new(format!("Error: -{name} takes true or false, not {text:?}")))?;
    }
    Ok(())
}

fn number(cx: &Cx, name: &str, place: &mut u64) -> Result<(), Failure> {
    if let Some(text) = cx.flags.some(name) {
        *place = text.parse().map_err(|_| Failure::new(format!("Error: -{name} takes a number, not {text:?}")))?;
    }
    Ok(())
}

pub async fn autopilot_health(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let sent = cx.client.send(Method::GET, "/v1/operator/autopilot/health", &Query::default(), None).await;
    let body = match sent {
        Ok(answer) => answer.body,
        // Not healthy is an answer, too.
        Err(PublicError::Status { status, body }) if status.as_u16() == 429 => body.into(),
        Err(error) => return Err(Failure::api("Error querying Autopilot health", &error)),
    };
    if machine {
        return machine::print(cx, &read(&body)?);
    }
    let health: OperatorHealthReply = read(&body)?;
    cx.ui.line(format!("Healthy: {}\nFailureTolerance: {}", health.healthy, health.failure_tolerance));
    cx.ui.line(format!("Leader: {}\nVoters:\n\t{}\nServers:", health.leader, health.voters.join("\n\t")));
    let mut rows = vec![row([
        "ID",
        "Name",
        "Address",
        "SerfStatus",
        "Version",
        "Leader",
        "Voter",
        "Healthy",
        "LastContact",
        "LastTerm",
        "LastIndex",
        "StableSince",
    ])];
    for server in health.servers {
        rows.push(vec![
            server.id,
            server.name,
            server.address,
            server.serf_status,
            server.version,
            server.leader.to_string(),
            server.voter.to_string(),
            server.healthy.to_string(),
            server.last_contact,
            server.last_term.to_string(),
            server.last_index.to_string(),
            server.stable_since.to_string(),
        ]);
    }
    cx.ui.line(table(&rows));
    Ok(0)
}

pub async fn keyring_list(cx: &mut Cx) -> Result<u8, Failure> {
    let answer = cx.client.get::<Vec<RootKeyMeta>>("/v1/operator/keyring/keys", &Query::default()).await;
    let (keys, _) = answer.map_err(|error| Failure::api("error", &error))?;
    let text = key_table(cx, &keys);
    cx.ui.line(text);
    Ok(0)
}

fn key_table(cx: &Cx, keys: &[RootKeyMeta]) -> String {
    let mut rows = vec![row(["Key", "State", "Create Time", "Publish Time"])];
    for key in keys {
        let state =
            serde_json::to_value(key.state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let published = if key.publish_time == 0 { "<none>".to_owned() } else { cx.stamp(key.publish_time) };
        rows.push(vec![id(&key.key_id, cx.verbose()), state, cx.stamp(key.create_time), published]);
    }
    table(&rows)
}

pub async fn keyring_rotate(cx: &mut Cx) -> Result<u8, Failure> {
    let mut query = Query::default();
    let ahead = cx.flags.some("prepublish").map(|text| {
        let span = parse_go_duration(text).filter(|span| span.0 > 0);
        span.ok_or_else(|| Failure::new(format!("Error: -prepublish takes a duration such as 24h, not {text:?}")))
    });
    match (ahead.transpose()?, cx.flags.is("full"), cx.flags.is("now")) {
        (Some(_), true, _) | (Some(_), _, true) => {
            return Err(Failure::new("The -prepublish flag cannot be used together with -full or -now"));
        }
        (Some(span), ..) => query = query.with("publish_time", (cx.ui.now() + span.0).to_string()),
        (None, true, _) => query = query.with("full", "true"),
        (None, false, _) => {}
    }
    let sent = cx.writer()?.send(Method::PUT, "/v1/operator/keyring/rotate", &query, None).await;
    let answer = sent.map_err(|error| Failure::api("error", &error))?;
    let value: Value = read(&answer.body)?;
    let key: RootKeyMeta = serde_json::from_value(value["Key"].clone())
        .map_err(|error| Failure::new(format!("Error reading the answer: {error}")))?;
    let text = key_table(cx, &[key]);
    cx.ui.line(text);
    Ok(0)
}

pub async fn keyring_remove(cx: &mut Cx) -> Result<u8, Failure> {
    let asked = cx.arg(0).to_owned();
    let answer = cx.client.get::<Vec<RootKeyMeta>>("/v1/operator/keyring/keys", &Query::default()).await;
    let (keys, _) = answer.map_err(|error| Failure::api("error", &error))?;
    let meant: Vec<&RootKeyMeta> = keys.iter().filter(|key| key.key_id.starts_with(&asked)).collect();
    let key_id = match meta_ids(&meant)[..] {
        [one] => one.to_owned(),
        [] => return Err(Failure::new(format!("error: there is no root key {asked:?}"))),
        _ => return Err(Failure::new(format!("error: several root keys begin with {asked:?}"))),
    };
    let mut query = Query::default();
    if cx.flags.is("force") {
        query = query.with("force", "true");
    }
    let sent = cx.writer()?.send(Method::DELETE, &format!("/v1/operator/keyring/key/{key_id}"), &query, None).await;
    sent.map_err(|error| Failure::api("error", &error))?;
    cx.ui.line(format!("Root encryption key {key_id} successfully removed."));
    Ok(0)
}

fn meta_ids<'a>(keys: &[&'a RootKeyMeta]) -> Vec<&'a str> {
    keys.iter().map(|key| key.key_id.as_str()).collect()
}
