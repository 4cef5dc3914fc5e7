//! Staging changes of keys: each with its audit record, in the same commit.

use uuid::Uuid;

use super::command::KeyOutcome;
use super::stage::Stage;
use crate::domain::actor::Actor;
use crate::domain::key::{ApiKey, MAX_KEYS};
use crate::domain::time::Timestamp;
use crate::rules::keys::{KeyChange, KeyRefused, create, revoke, rotate, to_forget};

impl Stage<'_> {
    /// Stages a change of a key.
    pub(super) fn change_key(&mut self, change: KeyChange, actor: &Actor) -> KeyOutcome {
        let now = self.commit.committed_at;
        match change {
            KeyChange::Create(new) => {
                let (key, entry) = create(new, actor, now)?;
                self.make_room(now)?;
                self.put_key(&key);
                self.audit(entry);
                Ok(key)
            }
            KeyChange::Rotate { key_id, new_key_id, digest, overlap_seconds } => {
                let old = self.key(key_id).ok_or(KeyRefused::Unknown)?;
                let (old, new, entry) = rotate(&old, (new_key_id, digest), overlap_seconds, actor, now)?;
                self.make_room(now)?;
                self.put_key(&old);
                self.put_key(&new);
                self.audit(entry);
                Ok(new)
            }
            KeyChange::Revoke(key_id) => {
                let key = self.key(key_id).ok_or(KeyRefused::Unknown)?;
                let Some((key, entry)) = revoke(&key, actor, now) else { return Ok(key) };
                self.put_key(&key);
                self.audit(entry);
                Ok(key)
            }
        }
    }

    /// Stages when keys were last used; what is forgotten meanwhile stays forgotten.
    pub(super) fn note_key_uses(&mut self, uses: Vec<(Uuid, Timestamp)>) {
        for (key_id, last) in uses {
            if let Some(key) = self.key(key_id) {
                self.put_key(&ApiKey { last_used_at: Some(last), ..key });
            }
        }
    }

    /// The key as it is in this commit.
    fn key(&self, key_id: Uuid) -> Option<ApiKey> {
        match self.keys.get(&key_id) {
            Some(staged) => staged.clone(),
            None => self.shared.keys.load().get(key_id).map(|entry| (*entry.key).clone()),
        }
    }

    fn put_key(&mut self, key: &ApiKey) {
        self.keys.insert(key.key_id, Some(key.clone()));
    }

    /// With as many keys as there may be, the one that ended first goes for the new one.
    fn make_room(&mut self, now: Timestamp) -> Result<(), KeyRefused> {
        let book = self.shared.keys.load_full();
        let new = self.keys.iter().filter(|(key_id, key)| key.is_some() && book.get(**key_id).is_none()).count();
        let forgotten = self.keys.values().filter(|key| key.is_none()).count();
        if book.len() + new - forgotten < MAX_KEYS {
            return Ok(());
        }
        let unchanged = book.after(None).map(|entry| &*entry.key).filter(|key| !self.keys.contains_key(&key.key_id));
        let forget = to_forget(unchanged, now).ok_or(KeyRefused::TooMany)?;
        self.keys.insert(forget, None);
        Ok(())
    }
}
