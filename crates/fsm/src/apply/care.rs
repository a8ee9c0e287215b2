//! How the servers look after themselves, and the keys they hold.

use std::sync::Arc;

use model::Index;
use model::autopilot::AutopilotConfiguration;
use model::keyring::{RootKey, RootKeyState};

use super::tx::Tx;
use crate::change::Change;
use crate::command::{KeyMaterial, Refusal, Reply};

/// What every cluster begins with.
pub(super) fn first_autopilot(tx: &mut Tx, first: AutopilotConfiguration) {
    let (create_index, modify_index) = (tx.index, tx.index);
    let config = AutopilotConfiguration { create_index, modify_index, ..first };
    tx.put(Change::Autopilot(Arc::new(config)));
}

pub(super) fn autopilot(tx: &mut Tx, config: &AutopilotConfiguration, cas: Option<Index>) -> Result<Reply, Refusal> {
    if config.last_contact_threshold.0 < 0 || config.server_stabilization_time.0 < 0 {
        return Err(Refusal::Invalid("autopilot's durations must not be negative".to_owned()));
    }
    let old = tx.state.autopilot();
    if cas.is_some_and(|cas| old.modify_index != cas) {
        return Ok(Reply::Set { updated: false });
    }
    let create_index = if old.create_index.get() == 0 { tx.index } else { old.create_index };
    let new = AutopilotConfiguration { create_index, modify_index: tx.index, ..config.clone() };
    tx.put(Change::Autopilot(Arc::new(new)));
    Ok(Reply::Set { updated: true })
}

pub(super) fn root_key(tx: &mut Tx, key: &RootKey, material: &KeyMaterial, replaces: bool) -> Result<Reply, Refusal> {
    let id = &key.meta.key_id;
    if id.is_empty() || key.public.is_empty() {
        return Err(Refusal::Invalid("a root key needs an id and a public key".to_owned()));
    }
    if tx.state.root_keys.contains_key(id) {
        return Err(Refusal::Conflict("root key exists already".to_owned()));
    }
    if let Some(active) = tx.state.active_root_key().cloned() {
        if !replaces {
            return Err(Refusal::Conflict("there is an active root key already".to_owned()));
        }
        let mut old = RootKey::clone(&active);
        old.meta.state = RootKeyState::Inactive;
        old.meta.modify_index = tx.index;
        tx.put(Change::RootKey(Arc::new(old)));
    }
    let mut new = key.clone();
    new.meta.state = RootKeyState::Active;
    new.meta.create_index = tx.index;
    new.meta.modify_index = tx.index;
    tx.state.key_material.insert(id.clone(), Arc::new(material.clone()));
    tx.put(Change::RootKey(Arc::new(new)));
    Ok(Reply::Done)
}
