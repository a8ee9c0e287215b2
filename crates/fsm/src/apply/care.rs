//! How the servers look after themselves, and the keys they hold.

use std::sync::Arc;

use model::Index;
use model::autopilot::AutopilotConfiguration;
use model::keyring::{RootKey, RootKeyState};

use super::tx::Tx;
use crate::change::Change;
use crate::command::{KeyMaterial, Refusal, Reply};

/// Root keys, those that only verify included.
const KEYS_MAX: usize = 256;

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
    if tx.state.root_keys.len() >= KEYS_MAX {
        return Err(Refusal::Conflict(format!("there are {KEYS_MAX} root keys, remove old ones first")));
    }
    let active = tx.state.active_root_key().cloned();
    if active.is_some() && !replaces {
        return Err(Refusal::Conflict("there is an active root key already".to_owned()));
    }
    let mut new = key.clone();
    if key.meta.state == RootKeyState::Prepublished {
        let waiting = |key: &Arc<RootKey>| key.meta.state == RootKeyState::Prepublished;
        if active.is_none() || key.meta.publish_time <= 0 {
            return Err(Refusal::Invalid("a key is published ahead of an active one, with a time".to_owned()));
        }
        if tx.state.root_keys().any(waiting) {
            return Err(Refusal::Conflict("a root key is published ahead already".to_owned()));
        }
    } else {
        retire(tx, active.as_deref());
        new.meta.state = RootKeyState::Active;
    }
    new.meta.create_index = tx.index;
    new.meta.modify_index = tx.index;
    tx.state.key_material.insert(id.clone(), Arc::new(material.clone()));
    tx.put(Change::RootKey(Arc::new(new)));
    Ok(Reply::Done)
}

/// A key that was active verifies and decrypts from now on.
fn retire(tx: &mut Tx, active: Option<&RootKey>) {
    if let Some(active) = active {
        let mut old = active.clone();
        old.meta.state = RootKeyState::Inactive;
        old.meta.modify_index = tx.index;
        tx.put(Change::RootKey(Arc::new(old)));
    }
}

fn key(tx: &Tx, id: &str) -> Result<Arc<RootKey>, Refusal> {
    tx.state.root_keys.get(id).cloned().ok_or_else(|| Refusal::NotFound { what: "root key".to_owned() })
}

pub(super) fn activate(tx: &mut Tx, id: &str) -> Result<Reply, Refusal> {
    let mut new = RootKey::clone(&*key(tx, id)?);
    if new.meta.state != RootKeyState::Prepublished {
        return Err(Refusal::Conflict("the root key was not published ahead".to_owned()));
    }
    let active = tx.state.active_root_key().cloned();
    retire(tx, active.as_deref());
    new.meta.state = RootKeyState::Active;
    new.meta.modify_index = tx.index;
    tx.put(Change::RootKey(Arc::new(new)));
    Ok(Reply::Done)
}

pub(super) fn remove_key(tx: &mut Tx, id: &str, force: bool) -> Result<Reply, Refusal> {
    let conflict = |text: &str| Err(Refusal::Conflict(text.to_owned()));
    if key(tx, id)?.meta.state == RootKeyState::Active {
        return conflict("active root key cannot be deleted - call rotate first");
    }
    // What it signed is shown until the allocation has ended on both sides.
    let uses =
        |alloc: &model::Allocation| alloc.signing_key_id == id && !(alloc.server_terminal() && alloc.client_terminal());
    if !force && tx.state.allocs().any(|alloc| uses(alloc)) {
        return conflict("root key in use, cannot delete");
    }
    tx.put(Change::RootKeyGone { key_id: id.to_owned() });
    Ok(Reply::Done)
}
