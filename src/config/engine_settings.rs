//! What the engine needs to know to open a store.

use std::path::PathBuf;

use crate::domain::quota::Limit;
use crate::domain::sampling::SamplingRules;

/// What the engine needs to open a store.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Whether unknown tenants are registered on `default_plan` or denied.
    pub unknown_tenants: UnknownTenants,
    /// The most tenants that are registered.
    pub tenants_max: u64,
    /// The plan of a tenant that registers itself.
    pub default_plan: String,
    /// The zone of a new tenant.
    pub default_zone: chrono_tz::Tz,
    /// Days that realtime events are kept, 1 to 60.
    pub realtime_days: u32,
    /// Years that audit records are kept, 1 to 100.
    pub audit_years: u32,
    /// Ceilings over all tenants together, each type and window at most once; `observe` is not looked at.
    pub ceilings: Vec<Limit>,
    /// The share of audit event types that is kept.
    pub audit_sampling: SamplingRules,
    /// Where signed checkpoints of the audit log are appended; default: a file in the data folder.
    pub checkpoint_file: Option<PathBuf>,
    /// Where backups are made; default: `backups` in the data folder.
    pub backup_dir: Option<PathBuf>,
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// A plans file that fills an empty store; default: the shipped one.
    pub plans_file: Option<PathBuf>,
    /// A prices file that fills an empty store; default: the shipped one.
    pub prices_file: Option<PathBuf>,
    /// What reserve and enforce answer while the store fails.
    pub on_storage_failure: OnStorageFailure,
    /// Whether a tenant with a cost limit may reserve for a model that has no price.
    pub allow_unpriced_models: bool,
}

/// What reserve and enforce answer while the store fails or its disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStorageFailure {
    /// They refuse: nothing is granted that a crash would forget.
    Closed,
    /// Memory decides, and the answer says that it is not durable.
    Open,
}

/// What happens to a tenant that was never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownTenants {
    /// It is registered on the default plan.
    Create,
    /// It is refused with 404 `tenant_unknown`.
    Deny,
}

impl EngineSettings {
    /// The defaults for a data folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            unknown_tenants: UnknownTenants::Create,
            tenants_max: 100_000,
            default_plan: "trial".to_owned(),
            default_zone: chrono_tz::UTC,
            realtime_days: 30,
            audit_years: 2,
            ceilings: Vec::new(),
            audit_sampling: SamplingRules::default(),
            checkpoint_file: None,
            backup_dir: None,
            cache_bytes: 16 * 1024 * 1024,
            plans_file: None,
            prices_file: None,
            on_storage_failure: OnStorageFailure::Closed,
            allow_unpriced_models: false,
        }
    }
}
