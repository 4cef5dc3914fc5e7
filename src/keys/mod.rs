//! Keys: made, listed, rotated and revoked, and known at the door without a lock or a disk.

use std::sync::Arc;

use uuid::Uuid;

pub use crate::rules::keys::{DEFAULT_OVERLAP_SECONDS, KeyRefused, MAX_OVERLAP_SECONDS, Refused, RefusedFor};
pub use crate::writer::KeyEntry;

use crate::domain::actor::Actor;
use crate::domain::audit::AuditEntry;
use crate::domain::key::{ApiKey, KeyDigest, KeyEnd, KeyRole, KeySecret, TenantScope};
use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};
use crate::rules::keys::{KeyChange, NewKey, built_in_reset, digest_of};
use crate::writer::{IncomingAudit, KeyOutcome, WriteError, Writer};

/// The longest secret that is looked at, in bytes.
const MAX_SECRET_BYTES: usize = 4_096;

/// Makes keys and knows them again. Cheap to clone; clones share one engine.
#[derive(Clone)]
pub struct ApiKeys {
    writer: Arc<Writer>,
}

/// Why a key was not made or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It may not be.
    #[error(transparent)]
    Refused(#[from] KeyRefused),
    /// Not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a secret opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// No key has it.
    Unknown,
    /// Its key has ended.
    Ended(KeyEnd),
}

/// A key that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest {
    /// A person's or a service's name, 1 to 200 characters.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// To whom.
    pub tenants: TenantScope,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A new key with its secret, which is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeKey {
    /// The key.
    pub key: ApiKey,
    /// What its holder shows.
    pub secret: KeySecret,
}

/// A new secret: 256 random bits.
pub fn new_secret() -> KeySecret {
    KeySecret::of(crate::ids::random_bytes())
}

/// What a secret is known by; `None` for one that is empty or longer than any key.
pub fn digest(secret: &[u8]) -> Option<KeyDigest> {
    (1..=MAX_SECRET_BYTES).contains(&secret.len()).then(|| digest_of(secret))
}

impl ApiKeys {
    pub(crate) const fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }

    /// The key that has this secret. One hash and one look-up: under a microsecond, without a lock.
    pub fn authenticate(&self, secret: &[u8]) -> Result<Arc<KeyEntry>, Shut> {
        self.known(&digest(secret).ok_or(Shut::Unknown)?)
    }

    /// The key whose secret has this [`digest`].
    pub fn known(&self, digest: &KeyDigest) -> Result<Arc<KeyEntry>, Shut> {
        let shared = self.writer.shared();
        let book = shared.keys.load();
        let entry = book.by_digest(digest).ok_or(Shut::Unknown)?;
        let now = shared.clock.now();
        match entry.key.ended(now) {
            Some(end) => Err(Shut::Ended(end)),
            None => {
                entry.note_use(now);
                Ok(Arc::clone(entry))
            }
        }
    }

    /// The key of this id.
    pub fn get(&self, key_id: Uuid) -> Option<ApiKey> {
        self.writer.shared().keys.load().get(key_id).map(shown)
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.writer.shared().clock.now()
    }

    /// Keys in order of creation, behind `after`, at most `limit`, ended ones included.
    pub fn list(&self, after: Option<Uuid>, limit: usize) -> Vec<ApiKey> {
        let book = self.writer.shared().keys.load();
        book.after(after).take(limit).map(shown).collect()
    }

    /// How many are remembered, ended ones included.
    pub fn count(&self) -> usize {
        self.writer.shared().keys.load().len()
    }

    /// Makes a key, on disk with its audit record when this returns.
    pub async fn create(&self, request: KeyRequest, actor: &Actor) -> Result<MadeKey, KeyError> {
        let (secret, change) = self.creation(request);
        made(self.writer.change_key(change, actor)?.await?, secret)
    }

    /// [`Self::create`] for threads.
    pub fn create_blocking(&self, request: KeyRequest, actor: &Actor) -> Result<MadeKey, KeyError> {
        let (secret, change) = self.creation(request);
        made(self.writer.change_key(change, actor)?.wait()?, secret)
    }

    /// Puts a new key in a key's place; the old one works for `overlap_seconds` more, at most [`MAX_OVERLAP_SECONDS`].
    pub async fn rotate(&self, key_id: Uuid, overlap_seconds: u64, actor: &Actor) -> Result<MadeKey, KeyError> {
        let (secret, change) = self.rotation(key_id, overlap_seconds);
        made(self.writer.change_key(change, actor)?.await?, secret)
    }

    /// [`Self::rotate`] for threads.
    pub fn rotate_blocking(&self, key_id: Uuid, overlap_seconds: u64, actor: &Actor) -> Result<MadeKey, KeyError> {
        let (secret, change) = self.rotation(key_id, overlap_seconds);
        made(self.writer.change_key(change, actor)?.wait()?, secret)
    }

    /// Ends a key at once; gives it as it is then. Again changes nothing.
    pub async fn revoke(&self, key_id: Uuid, actor: &Actor) -> Result<ApiKey, KeyError> {
        Ok(self.writer.change_key(KeyChange::Revoke(key_id), actor)?.await??)
    }

    /// [`Self::revoke`] for threads.
    pub fn revoke_blocking(&self, key_id: Uuid, actor: &Actor) -> Result<ApiKey, KeyError> {
        Ok(self.writer.change_key(KeyChange::Revoke(key_id), actor)?.wait()??)
    }

    /// Audits that the built-in key was made anew; on disk when this returns.
    pub fn record_built_in_reset(&self, actor: &Actor) -> Result<(), WriteError> {
        self.writer.audit(vec![incoming(built_in_reset(actor))], true)?.wait().map(drop)
    }

    /// Notes that a known key was refused. Audited, at most once a minute and key, with the number of requests.
    pub fn note_refusal(&self, entry: &KeyEntry, refused: Refused) {
        let told = entry.note_refusal(refused, self.writer.shared().clock.now());
        self.tell(told.into_iter().collect());
    }

    /// Writes down what is only in memory: when keys were last used (at most once a minute and key) and refusals that wait
    /// for their minute; everything when `closing`. To be called every few seconds.
    pub fn keep_record(&self, closing: bool) {
        if self.writer.failure().is_some() {
            return;
        }
        let shared = self.writer.shared();
        let (book, now) = (shared.keys.load_full(), shared.clock.now());
        self.tell(book.after(None).filter_map(|entry| entry.take_refusals(now, closing)).collect());
        let since = if closing { 0 } else { MICROS_PER_MINUTE };
        let uses = book.after(None).filter_map(|entry| Some((entry.key.key_id, entry.unsaved_use(since)?)));
        let uses: Vec<(Uuid, Timestamp)> = uses.collect();
        if !uses.is_empty()
            && let Err(error) = self.writer.note_key_uses(uses)
        {
            tracing::warn!(%error, "when keys were last used could not be written; it is tried again");
        }
    }

    fn tell(&self, entries: Vec<AuditEntry>) {
        if entries.is_empty() {
            return;
        }
        // Nobody waits for the receipt: a refusal is answered at once.
        if let Err(error) = self.writer.audit(entries.into_iter().map(incoming).collect(), false) {
            tracing::warn!(%error, "refused requests of a key could not be audited");
        }
    }

    fn creation(&self, request: KeyRequest) -> (KeySecret, KeyChange) {
        let KeyRequest { name, role, tenants, expires_at } = request;
        let (key_id, secret) = (self.new_id(), new_secret());
        let digest = digest_of(secret.expose().as_bytes());
        (secret, KeyChange::Create(NewKey { key_id, name, role, tenants, digest, expires_at }))
    }

    fn rotation(&self, key_id: Uuid, overlap_seconds: u64) -> (KeySecret, KeyChange) {
        let (new_key_id, secret) = (self.new_id(), new_secret());
        let digest = digest_of(secret.expose().as_bytes());
        (secret, KeyChange::Rotate { key_id, new_key_id, digest, overlap_seconds })
    }

    fn new_id(&self) -> Uuid {
        crate::ids::new_uuid_v7(self.writer.shared().clock.now())
    }
}

fn shown(entry: &Arc<KeyEntry>) -> ApiKey {
    ApiKey { last_used_at: entry.last_used_at(), ..(*entry.key).clone() }
}

fn made(outcome: KeyOutcome, secret: KeySecret) -> Result<MadeKey, KeyError> {
    Ok(MadeKey { key: outcome?, secret })
}

fn incoming(entry: AuditEntry) -> IncomingAudit {
    IncomingAudit { event_id: None, content: 0, entry }
}
