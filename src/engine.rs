//! The engine: opens the parts in order, hands out the utilities, closes in reverse.

use std::path::Path;

use crate::config::EngineSettings;
use crate::domain::time::Timestamp;
use crate::enforcer::QuotaEnforcer;
use crate::tenants::Tenants;
use crate::tracker::UsageTracker;

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

/// A running engine: one per data folder and process.
pub struct Metergate {}

impl Metergate {
    /// Opens (or makes) a data folder with default settings.
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(EngineSettings::new(data_dir.as_ref()))
    }

    /// Opens with settings.
    pub fn open_with(settings: EngineSettings) -> Result<Self, OpenError> {
        let _ = settings;
        todo!()
    }

    /// Records usage and reads it back.
    pub fn usage_tracker(&self) -> UsageTracker {
        todo!()
    }

    /// Decides before the work is done.
    pub fn quota_enforcer(&self) -> QuotaEnforcer {
        todo!()
    }

    /// Administers tenants and plans.
    pub fn tenants(&self) -> Tenants {
        todo!()
    }

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        todo!()
    }

    /// A key of this store for authenticating cursors.
    pub fn cursor_key(&self) -> [u8; 16] {
        todo!()
    }

    /// Whether writes are possible; `Err` says why not.
    pub fn is_ready(&self) -> Result<(), String> {
        todo!()
    }

    /// Commits what was queued, saves the live state and stops the threads. Later writes answer unavailable.
    pub fn close(&self) {
        todo!()
    }
}
