//! The engine: opens the parts in order, hands out the utilities, closes in reverse.

mod housekeeping;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::audit::{AuditLogger, read_or_make_signing_key};
use crate::backup::Backups;
use crate::clock::Clock;
use crate::config::{EngineSettings, OnStorageFailure, UnknownTenants};
use crate::domain::quota::Plan;
use crate::domain::time::Timestamp;
use crate::enforcer::QuotaEnforcer;
use crate::erasure::Erasure;
use crate::keys::ApiKeys;
use crate::rules::plan_changes::file_differences;
use crate::rules::plans::{SHIPPED_PLANS, parse_plans};
use crate::rules::price_changes::{format_name, price_differences};
use crate::rules::prices::{PriceFormat, SHIPPED_PRICES};
use crate::store::{Medium, Store, StoreError, StoredBook};
use crate::tenants::Tenants;
use crate::tracker::UsageTracker;
use crate::writer::{Policies, Shipped, Writer, read_book, start};
use housekeeping::{Housekeeping, write_checkpoints};

/// Where signed checkpoints are appended unless `audit.checkpoint_file` names another place.
const CHECKPOINT_FILE: &str = "audit-checkpoints.txt";

/// Where backups are made unless `backup.folder` names another place.
const BACKUP_FOLDER: &str = "backups";

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or written.
    #[error("the data folder {path} cannot be used: {reason}")]
    Folder {
        /// Which.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Another process has it open.
    #[error("the data folder {0} is in use by another metergate: stop it, or talk to it with --server")]
    InUse(String),
    /// Written by a newer version.
    #[error(
        "the store has format {found}, this metergate reads up to {known}: use the version that wrote it or a newer one"
    )]
    NewerFormat {
        /// In the store.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// A setting is wrong.
    #[error("{field} {reason}")]
    Setting {
        /// Which.
        field: &'static str,
        /// The rest of the sentence.
        reason: String,
    },
    /// The store is damaged or the disk fails.
    #[error("the store cannot be opened: {0}")]
    Storage(String),
}

/// A running engine: one per data folder and process. Dropping it closes it.
pub struct Metergate {
    writer: Arc<Writer>,
    enforcer: QuotaEnforcer,
    backups: Backups,
    /// Where signed checkpoints of the audit log are appended, outside the store.
    checkpoint_file: PathBuf,
    housekeeping: Housekeeping,
    closed: AtomicBool,
}

impl Metergate {
    /// Opens (or makes) a data folder with default settings.
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(EngineSettings::new(data_dir.as_ref()))
    }

    /// Opens with settings.
    pub fn open_with(settings: EngineSettings) -> Result<Self, OpenError> {
        Self::open_at(settings, Clock::system)
    }

    /// Opens with a clock of the caller's, for tests and development; it is given the last time the store saw.
    pub fn open_at(settings: EngineSettings, make_clock: impl FnOnce(Timestamp) -> Clock) -> Result<Self, OpenError> {
        Self::open_over(settings, None, make_clock)
    }

    /// Opens a store on a medium of the caller's, which may fail as it likes; the rest of the data folder is as ever.
    pub fn open_on(
        settings: EngineSettings,
        medium: Box<dyn Medium>,
        make_clock: impl FnOnce(Timestamp) -> Clock,
    ) -> Result<Self, OpenError> {
        Self::open_over(settings, Some(medium), make_clock)
    }

    fn open_over(
        settings: EngineSettings,
        medium: Option<Box<dyn Medium>>,
        make_clock: impl FnOnce(Timestamp) -> Clock,
    ) -> Result<Self, OpenError> {
        if !(1..=60).contains(&settings.realtime_days) {
            let reason = "must be from 1 to 60".to_owned();
            return Err(OpenError::Setting { field: "retention.realtime_days", reason });
        }
        if !(1..=100).contains(&settings.audit_years) {
            let reason = "must be from 1 to 100".to_owned();
            return Err(OpenError::Setting { field: "retention.audit_years", reason });
        }
        let plans = initial_plans(&settings)?;
        let configured = settings.plans_file.is_some().then(|| plans.clone());
        let prices = initial_prices(&settings)?;
        let configured_prices = settings.prices_file.is_some().then(|| prices.clone());
        make_folder(&settings.data_dir)?;
        let (cache_bytes, secret) = (settings.cache_bytes, crate::ids::random_bytes());
        let store_id = uuid::Uuid::from_bytes(crate::ids::random_bytes());
        let opened = match medium {
            Some(medium) => Store::over(medium, cache_bytes, secret, store_id),
            None => Store::open(&settings.data_dir, cache_bytes, secret, store_id),
        };
        let store = opened.map_err(|error| open_error(&settings.data_dir, error))?;
        let policies = Policies {
            audit_sampling: settings.audit_sampling.clone(),
            create_unknown_tenants: settings.unknown_tenants == UnknownTenants::Create,
            tenants_max: settings.tenants_max,
            default_plan: settings.default_plan.clone(),
            default_zone: settings.default_zone,
            realtime_days: settings.realtime_days,
            audit_years: settings.audit_years,
            grants_without_store: settings.on_storage_failure == OnStorageFailure::Open,
            allow_unpriced_models: settings.allow_unpriced_models,
            ceilings: settings.ceilings.clone(),
        };
        let signing_key = read_or_make_signing_key(&settings.data_dir)
            .map_err(|error| OpenError::Storage(format!("the key that signs the audit log: {error}")))?;
        let shipped = Shipped { plans, prices: Some(prices) };
        let started = start(store, policies, shipped, signing_key, make_clock)
            .map_err(|error| open_error(&settings.data_dir, error))?;
        let writer = Writer::spawn(started)
            .map_err(|error| OpenError::Storage(format!("a thread cannot be started: {error}")))?;
        if !writer.shared().plans.load().has(&settings.default_plan) {
            let known: Vec<String> = writer.shared().plans.load().all().into_iter().map(|plan| plan.name).collect();
            let reason = format!("names no plan of this store: use one of {}", known.join(", "));
            writer.stop();
            return Err(OpenError::Setting { field: "default_plan", reason });
        }
        if let Some(file) = configured {
            for difference in file_differences(&file, &writer.shared().plans.load().all()) {
                tracing::warn!(%difference, "the plans file differs from the store, which rules: see `metergate plans diff`");
            }
        }
        if let Some(file) = configured_prices {
            let in_force = writer.shared().prices.load();
            let differences = read_book(&file).map_or(0, |book| price_differences(&in_force.book, &book).len());
            if differences > 0 {
                tracing::warn!(
                    differences,
                    "the prices file differs from the store, which rules: see `metergate prices diff`"
                );
            }
        }
        let enforcer = QuotaEnforcer::new(Arc::clone(&writer));
        let audit = AuditLogger::new(Arc::clone(&writer));
        let backup_dir = settings.backup_dir.clone().unwrap_or_else(|| settings.data_dir.join(BACKUP_FOLDER));
        let backups = Backups::new(Arc::clone(&writer), backup_dir);
        backups.note_restore().map_err(|error| OpenError::Storage(error.to_string()))?;
        audit.note_signer().map_err(|error| OpenError::Storage(error.to_string()))?;
        let checkpoint_file =
            settings.checkpoint_file.clone().unwrap_or_else(|| settings.data_dir.join(CHECKPOINT_FILE));
        let engine = Self {
            writer,
            enforcer,
            backups,
            checkpoint_file,
            housekeeping: Housekeeping::default(),
            closed: AtomicBool::new(false),
        };
        // What ran out while nobody served.
        engine.tenants().expire_due().map_err(|error| OpenError::Storage(error.to_string()))?;
        engine.housekeeping.start(&engine.writer, &engine.checkpoint_file)?;
        Ok(engine)
    }

    /// Records usage and reads it back.
    pub fn usage_tracker(&self) -> UsageTracker {
        UsageTracker::new(Arc::clone(&self.writer))
    }

    /// Decides before the work is done.
    pub fn quota_enforcer(&self) -> QuotaEnforcer {
        self.enforcer.clone()
    }

    /// Administers tenants and plans.
    pub fn tenants(&self) -> Tenants {
        Tenants::new(Arc::clone(&self.writer))
    }

    /// Writes the audit log and reads it.
    pub fn audit_logger(&self) -> AuditLogger {
        AuditLogger::new(Arc::clone(&self.writer))
    }

    /// Makes backups and remembers them.
    pub fn backups(&self) -> Backups {
        self.backups.clone()
    }

    /// Erases what names somebody.
    pub fn erasure(&self) -> Erasure {
        Erasure::new(Arc::clone(&self.writer))
    }

    /// Makes, lists, rotates and revokes keys, and knows them at the door.
    pub fn api_keys(&self) -> ApiKeys {
        ApiKeys::new(Arc::clone(&self.writer))
    }

    /// What the utilities stand on, for the schedule and for `/metrics`.
    pub fn writer(&self) -> Arc<Writer> {
        Arc::clone(&self.writer)
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        self.writer.shared().clock.now()
    }

    /// A key of this store for authenticating cursors.
    pub fn cursor_key(&self) -> [u8; 16] {
        let mut key = [0; 16];
        // The first half keys the journal's nonces.
        key.copy_from_slice(&self.writer.shared().store.secret()[16..]);
        key
    }

    /// Whether writes are possible; `Err` says why not.
    pub fn is_ready(&self) -> Result<(), String> {
        self.writer.failure().map_or(Ok(()), Err)
    }

    /// Commits what was queued, files it and stops the threads. Later writes answer unavailable.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.housekeeping.end();
        self.api_keys().keep_record(true);
        if self.writer.failure().is_none()
            && let Err(error) = self.usage_tracker().aggregate_usage_metrics(None)
        {
            tracing::warn!(%error, "what moves could not be folded at the stop: the next start reads its events again");
        }
        self.writer.stop();
        write_checkpoints(&self.audit_logger(), &self.checkpoint_file);
        self.writer.shared().store.close();
    }

    /// Lets go of everything as a crash would, but for the threads, which end: nothing more is written. For tests.
    pub fn abandon(&self) {
        self.closed.store(true, Ordering::Release);
        self.housekeeping.end();
        self.writer.abandon();
        self.writer.shared().store.close();
    }
}

impl Drop for Metergate {
    fn drop(&mut self) {
        self.close();
    }
}

fn initial_plans(settings: &EngineSettings) -> Result<Vec<Plan>, OpenError> {
    let (text, name) = match &settings.plans_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| OpenError::Setting {
                field: "plans_file",
                reason: format!("{} cannot be read: {error}", path.display()),
            })?;
            (text, path.display().to_string())
        }
        None => (SHIPPED_PLANS.to_owned(), "the shipped plans".to_owned()),
    };
    parse_plans(&text).map_err(|error| OpenError::Setting { field: "plans_file", reason: format!("{name}: {error}") })
}

/// The prices that fill an empty store. A file of others is read as what it looks like.
fn initial_prices(settings: &EngineSettings) -> Result<StoredBook, OpenError> {
    let wrong = |reason: String| OpenError::Setting { field: "prices_file", reason };
    let (text, name) = match &settings.prices_file {
        Some(path) => {
            let read = std::fs::read_to_string(path);
            (
                read.map_err(|error| wrong(format!("{} cannot be read: {error}", path.display())))?,
                path.display().to_string(),
            )
        }
        None => (SHIPPED_PRICES.to_owned(), "the shipped prices".to_owned()),
    };
    let format = format_name(PriceFormat::sniff(&text)).to_owned();
    let file = StoredBook { format, text, applied_at: Timestamp::default() };
    if settings.prices_file.is_some() {
        read_book(&file).map_err(|error| wrong(format!("{name}: {error}")))?;
    }
    Ok(file)
}

/// Makes the folder with mode 0700 and finds out at once whether it can be written.
fn make_folder(path: &Path) -> Result<(), OpenError> {
    let unusable = |reason: String| OpenError::Folder { path: path.display().to_string(), reason };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| unusable(format!("{error}: choose another with --data-dir or mend its permissions")))
}

fn open_error(path: &Path, error: StoreError) -> OpenError {
    let folder = path.display().to_string();
    match error {
        StoreError::InUse => OpenError::InUse(folder),
        StoreError::NewerFormat { found } => OpenError::NewerFormat { found, known: crate::store::FORMAT_VERSION },
        error => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            OpenError::Storage(format!("{folder}: {error}{cause}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_a_newer_version_is_refused_with_what_to_do() {
        let error = open_error(Path::new("data"), StoreError::NewerFormat { found: 99 });
        assert!(matches!(error, OpenError::NewerFormat { found: 99, known: crate::store::FORMAT_VERSION }));
        assert_eq!(
            error.to_string(),
            "the store has format 99, this metergate reads up to 3: use the version that wrote it or a newer one"
        );
    }

    #[test]
    fn a_stop_leaves_nothing_to_replay() {
        let folder = tempfile::tempdir().unwrap();
        let stopped_at = |events: usize| {
            let engine = Metergate::open(folder.path()).unwrap();
            let event = || crate::domain::event::UsageEvent::new("acme".parse().unwrap(), "api_call");
            for _ in 0..events {
                engine.usage_tracker().record_blocking(vec![event()]).unwrap();
            }
            engine.close();
            drop(engine);
            let engine = Metergate::open(folder.path()).unwrap();
            let snapshot = engine.writer().shared().store.snapshot().unwrap();
            let mut left = 0;
            let seen = snapshot.commits_after(0, |_| {
                left += 1;
                std::ops::ControlFlow::Continue(())
            });
            seen.unwrap();
            let checkpoint = snapshot.checkpoint().unwrap();
            assert_eq!((left, checkpoint.state_seq), (0, checkpoint.filed_seq));
            assert_eq!(engine.writer().shared().live.read().filed_deltas(), 0, "nor events to be read again");
            checkpoint.filed_seq
        };
        let first = stopped_at(3);
        assert!(first >= 3);
        assert_eq!(stopped_at(0), first);
        assert!(stopped_at(1) > first);
    }
}
