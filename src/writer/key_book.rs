//! The keys in memory: found by what their secrets are known by, without a lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::domain::audit::AuditEntry;
use crate::domain::key::{ApiKey, KeyDigest};
use crate::domain::time::{MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp};
use crate::rules::keys::{Refused, unauthorized_access};

/// Every key. Never changed: a change makes another, in which all but what changed is shared.
#[derive(Clone, Debug, Default)]
pub struct KeyBook {
    by_digest: HashMap<KeyDigest, Arc<KeyEntry>>,
    by_id: BTreeMap<Uuid, Arc<KeyEntry>>,
}

/// One key, and what happens with it that need not be on disk at once.
#[derive(Debug)]
pub struct KeyEntry {
    /// As it is on disk.
    pub key: Arc<ApiKey>,
    used: Arc<Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// In microseconds; 0 is never.
    last: AtomicI64,
    refusals: Mutex<Refusals>,
}

/// Requests of one key that were refused for its role or its tenants. Last told long ago: the first is told at once.
#[derive(Debug, Default)]
struct Refusals {
    told_at: Timestamp,
    untold: u64,
    last: Option<Refused>,
}

impl KeyBook {
    /// Of these keys.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        let mut book = Self::default();
        for key in keys {
            let used = Used { last: key.last_used_at.map_or(0, Timestamp::micros).into(), ..Used::default() };
            book.put(KeyEntry { key: Arc::new(key), used: Arc::new(used) });
        }
        book
    }

    /// The same with these keys replaced, added, or for `None` removed.
    pub fn with(&self, changes: &HashMap<Uuid, Option<ApiKey>>) -> Self {
        let mut book = self.clone();
        for (key_id, change) in changes {
            let before = book.by_id.remove(key_id);
            if let Some(before) = &before {
                book.by_digest.remove(&before.key.digest);
            }
            if let Some(key) = change {
                let used = before.map_or_else(Arc::default, |before| Arc::clone(&before.used));
                book.put(KeyEntry { key: Arc::new(key.clone()), used });
            }
        }
        book
    }

    fn put(&mut self, entry: KeyEntry) {
        let entry = Arc::new(entry);
        self.by_digest.insert(entry.key.digest, Arc::clone(&entry));
        self.by_id.insert(entry.key.key_id, entry);
    }

    /// The key whose secret has this digest.
    pub fn by_digest(&self, digest: &KeyDigest) -> Option<&Arc<KeyEntry>> {
        self.by_digest.get(digest)
    }

    /// The key of this id.
    pub fn get(&self, key_id: Uuid) -> Option<&Arc<KeyEntry>> {
        self.by_id.get(&key_id)
    }

    /// The keys behind `after`, in order of creation.
    pub fn after(&self, after: Option<Uuid>) -> impl Iterator<Item = &Arc<KeyEntry>> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.by_id.range((after.map_or(Unbounded, Excluded), Unbounded)).map(|(_, entry)| entry)
    }

    /// How many there are, ended ones included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl KeyEntry {
    /// A key that is none of the store's.
    pub fn of(key: ApiKey) -> Self {
        Self { key: Arc::new(key), used: Arc::default() }
    }

    /// Notes that it opened something. A few nanoseconds; writes at most once a second, so that threads do not fight.
    pub fn note_use(&self, now: Timestamp) {
        if now.micros() - self.used.last.load(Ordering::Relaxed) >= MICROS_PER_SECOND {
            self.used.last.store(now.micros(), Ordering::Relaxed);
        }
    }

    /// When it last opened something, to the second.
    pub fn last_used_at(&self) -> Option<Timestamp> {
        Some(self.used.last.load(Ordering::Relaxed)).filter(|micros| *micros > 0).map(Timestamp::from_micros)
    }

    /// Its last use, when the disk knows nothing within `at_least_micros` of it.
    pub fn unsaved_use(&self, at_least_micros: i64) -> Option<Timestamp> {
        let last = self.last_used_at()?;
        let known = self.key.last_used_at;
        known.is_none_or(|known| last.micros_since(known) >= at_least_micros.max(1)).then_some(last)
    }

    /// Notes a refused request; gives the audit record that is due now.
    pub fn note_refusal(&self, refused: Refused, now: Timestamp) -> Option<AuditEntry> {
        {
            let mut refusals = self.used.refusals.lock();
            refusals.untold += 1;
            refusals.last = Some(refused);
        }
        self.take_refusals(now, false)
    }

    /// The audit record of refused requests that is due now: at most one a minute, unless `closing`.
    pub fn take_refusals(&self, now: Timestamp, closing: bool) -> Option<AuditEntry> {
        let mut refusals = self.used.refusals.lock();
        if !closing && now.micros_since(refusals.told_at) < MICROS_PER_MINUTE {
            return None;
        }
        let last = refusals.last.take()?;
        refusals.told_at = now;
        Some(unauthorized_access(&self.key, &last, std::mem::take(&mut refusals.untold)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::actor::Actor;
    use crate::domain::key::{KeyRole, TenantScope};
    use crate::rules::keys::RefusedFor;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn key(number: u8) -> ApiKey {
        ApiKey {
            key_id: Uuid::from_u128(number.into()),
            name: "ci".to_owned(),
            role: KeyRole::Viewer,
            tenants: TenantScope::All,
            digest: KeyDigest([number; 32]),
            created_by: "ada".to_owned(),
            created_at: NOW,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            replaces: None,
            replaced_by: None,
        }
    }

    #[test]
    fn a_change_of_one_key_leaves_the_others_and_its_own_use_alone() {
        let book = KeyBook::new(vec![key(1), key(2)]);
        book.get(Uuid::from_u128(1)).unwrap().note_use(NOW);
        let revoked = ApiKey { revoked_at: Some(NOW), ..key(1) };
        let forgotten = (Uuid::from_u128(2), None);
        let after = book.with(&[(revoked.key_id, Some(revoked)), forgotten, (Uuid::from_u128(3), Some(key(3)))].into());
        let ids: Vec<u128> = after.after(None).map(|entry| entry.key.key_id.as_u128()).collect();
        assert_eq!((ids, after.len(), book.len()), (vec![1, 3], 2, 2));
        let first = after.by_digest(&KeyDigest([1; 32])).unwrap();
        assert_eq!((first.key.revoked_at, first.last_used_at()), (Some(NOW), Some(NOW)));
        assert!(after.by_digest(&KeyDigest([2; 32])).is_none());
        assert_eq!(after.after(Some(Uuid::from_u128(1))).count(), 1);
    }

    #[test]
    fn a_use_is_saved_once_a_minute_and_the_last_one_at_the_close() {
        let entry = KeyEntry::of(key(1));
        assert_eq!(entry.unsaved_use(MICROS_PER_MINUTE), None);
        entry.note_use(NOW);
        assert_eq!(entry.unsaved_use(MICROS_PER_MINUTE), Some(NOW), "the first use is news");
        let saved = KeyBook::new(vec![ApiKey { last_used_at: Some(NOW), ..key(1) }]);
        let entry = saved.get(Uuid::from_u128(1)).unwrap();
        entry.note_use(NOW.plus_micros(59 * MICROS_PER_SECOND));
        assert_eq!((entry.unsaved_use(MICROS_PER_MINUTE), entry.unsaved_use(0).is_some()), (None, true));
        entry.note_use(NOW.plus_micros(MICROS_PER_MINUTE));
        assert!(entry.unsaved_use(MICROS_PER_MINUTE).is_some());
    }

    #[test]
    fn refusals_are_told_at_once_and_then_once_a_minute_with_their_number() {
        let entry = KeyEntry::of(key(1));
        let later = |seconds: i64| NOW.plus_micros(seconds * MICROS_PER_SECOND);
        let count = |told: Option<AuditEntry>| told.map(|entry| entry.changes_summary.unwrap());
        let refuse = |seconds| {
            let (endpoint, actor) = ("GET /x".to_owned(), Actor::named("ci"));
            count(entry.note_refusal(Refused { endpoint, why: RefusedFor::Role, actor }, later(seconds)))
        };
        let told = |number: u64| Some(format!("{number} requests of the key of ci refused"));
        assert_eq!(refuse(0), told(1));
        assert_eq!([1, 30, 59].map(refuse), [None, None, None]);
        assert_eq!(count(entry.take_refusals(later(59), false)), None);
        assert_eq!(count(entry.take_refusals(later(60), false)), told(3));
        assert_eq!(count(entry.take_refusals(later(200), true)), None);
        assert_eq!((refuse(61), count(entry.take_refusals(later(61), true))), (None, told(1)));
    }
}
