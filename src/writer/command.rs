//! What the writer is asked to do.

use std::sync::Arc;

use super::receipt::Promise;
use super::shared::Incoming;
use crate::counters::{Released, Settled, TenantSlot};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditEntry, AuditOutcome};
use crate::domain::backup::BackupRecord;
use crate::domain::event::EventOutcome;
use crate::domain::job::JobRecord;
use crate::domain::key::ApiKey;
use crate::domain::quota::Hold;
use crate::domain::slice::SliceHour;
use crate::domain::tenant::{Tenant, TenantChange, TenantId};
use crate::domain::time::{Period, Timestamp};
use crate::rules::administration::ChangeRefused;
use crate::rules::keys::{KeyChange, KeyRefused};
use crate::rules::plan_changes::{PlanChange, PlanRefused};
use crate::rules::prices::PriceBook;
use crate::store::{AuditCut, Checkpoint, FiledDenial, HourMark, PreparedRun, RealtimeCut, RowBlocks, StateBlocks};

/// One request to the writer's thread, with the promise it fulfils after the commit.
pub(crate) enum Command {
    /// Record events; all in one commit, in order.
    Record { events: Vec<Incoming>, settles: Option<SettleTarget>, promise: Promise<Recorded> },
    /// Journal a grant that memory has made.
    Hold { slot: Arc<TenantSlot>, hold: Hold, promise: Promise<()> },
    /// Give a reservation back.
    Release { slot: Arc<TenantSlot>, reservation_id: String, promise: Promise<Released> },
    /// Change a tenant, with its audit records; for `None`, register it if it is unknown.
    Change { tenant_id: TenantId, change: Option<TenantChange>, actor: Actor, promise: Promise<ChangeOutcome> },
    /// Change a plan, and what follows from it for its tenants, with its audit record.
    ChangePlan { change: PlanChange, actor: Actor, promise: Promise<PlanOutcome> },
    /// Put a price book in force, with its audit record.
    ChangePrices { change: Box<PricesChange>, actor: Actor, promise: Promise<()> },
    /// Change a key, with its audit record.
    ChangeKey { change: KeyChange, actor: Actor, promise: Promise<KeyOutcome> },
    /// Remember when keys were last used.
    NoteKeyUses { uses: Vec<(uuid::Uuid, Timestamp)>, promise: Promise<()> },
    /// Write audit records; all in one commit, in order.
    Audit { entries: Vec<IncomingAudit>, promise: Promise<Vec<AuditOutcome>> },
    /// Resolve an audit record, once; `entry` is the record of it, without its tenant and entity.
    ResolveAudit {
        event_id: uuid::Uuid,
        tenant_id: Option<TenantId>,
        entry: Box<AuditEntry>,
        promise: Promise<ResolveOutcome>,
    },
    /// Sign for every audit record there is.
    Checkpoint { promise: Promise<Option<String>> },
    /// Run this between two commits: nobody writes meanwhile.
    Exclusively { work: Box<dyn FnOnce() + Send>, promise: Promise<()> },
    /// Close the open generation, so that it is filed.
    CloseGeneration { promise: Promise<()> },
    /// A prepared write of the background: filing, folding, cleaning.
    Publish { publication: Box<Publication>, promise: Promise<()> },
    /// Commit what came before, then end the thread.
    Stop,
}

impl Command {
    /// Whether it is taken although the disk is full: what gives back, and what writes next to nothing.
    pub(super) const fn goes_on_when_full(&self) -> bool {
        matches!(self, Self::Release { .. } | Self::Checkpoint { .. } | Self::CloseGeneration { .. } | Self::Stop)
    }
}

impl Command {
    /// Whether somebody waits for its commit, as far as can be told.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Record { promise, .. } => !promise.is_dropped(),
            Self::Audit { promise, .. } => !promise.is_dropped(),
            Self::Release { promise, .. } => !promise.is_dropped(),
            _ => true,
        }
    }
}

/// A price book on its way to the writer.
pub(crate) struct PricesChange {
    /// As read from its file.
    pub(crate) book: PriceBook,
    /// The name of its format.
    pub(crate) format: String,
    /// The file.
    pub(crate) text: String,
}

/// An audit entry on its way to the writer.
pub(crate) struct IncomingAudit {
    /// The caller's id, which it may repeat.
    pub(crate) event_id: Option<uuid::Uuid>,
    /// The digest of the caller's fields.
    pub(crate) content: u64,
    pub(crate) entry: AuditEntry,
}

/// How an audit record was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveOutcome {
    /// Now, by a record of its own.
    Resolved,
    /// It was before: nothing changed.
    AlreadyResolved,
    /// There is no such record, or retention has taken it.
    Unknown,
    /// Several tenants have a record of this id, and none of them was named: nothing changed.
    Ambiguous,
}

/// The reservation that events settle.
pub(crate) struct SettleTarget {
    pub(crate) slot: Arc<TenantSlot>,
    pub(crate) reservation_id: String,
}

/// What became of recorded events.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) outcomes: Vec<EventOutcome>,
    pub(crate) settled: Option<Settled>,
}

/// A changed tenant.
pub(crate) type ChangeOutcome = Result<(Arc<TenantSlot>, Tenant), ChangeFailed>;

/// Whether a plan was changed.
pub(crate) type PlanOutcome = Result<(), PlanRefused>;

/// The key after a change; of a rotation, the new one.
pub(crate) type KeyOutcome = Result<ApiKey, KeyRefused>;

/// Why a tenant was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeFailed {
    Refused(ChangeRefused),
    TooManyTenants,
}

/// A write prepared in the background, applied in one short transaction.
#[derive(Default)]
pub struct Publication {
    /// New runs of segments, and the sequence number that names them.
    pub runs: Vec<PreparedRun>,
    /// The number of the new runs.
    pub run: u64,
    /// Denials of each day.
    pub denials: Vec<(u32, Vec<FiledDenial>)>,
    /// A day whose old runs (given by number) are replaced by one.
    pub merged: Option<(Vec<u64>, PreparedRun)>,
    /// How far hours are filed and folded.
    pub hours: Vec<(SliceHour, HourMark)>,
    /// Rows, by period.
    pub rows: Vec<RowBlocks>,
    /// Quota counters at the checkpoint.
    pub quota_states: StateBlocks,
    /// The checkpoint after this.
    pub checkpoint: Option<Checkpoint>,
    /// The journal may be deleted up to here.
    pub journal_through: Option<u64>,
    /// Whole days to drop.
    pub dropped_days: Vec<u32>,
    /// The retention cut after this.
    pub cut: Option<RealtimeCut>,
    /// Denials of days before this one are dropped.
    pub denials_before: Option<u32>,
    /// The audit log's retention cut after this.
    pub audit_cut: Option<AuditCut>,
    /// So many audit records below this index are freed.
    pub audit_freed: Option<(u64, usize)>,
    /// The audit records at these indices are erased; `audit` says so.
    pub audit_erased: Vec<u64>,
    /// Something was erased that the file still has in freed pages.
    pub erasure_open: bool,
    /// Backups that were made.
    pub backups: Vec<BackupRecord>,
    /// That the store goes on from a backup is recorded by this.
    pub ends_restore: bool,
    /// The verifier key of who signs the audit log's checkpoints.
    pub audit_verifier: Option<String>,
    /// Last runs of jobs.
    pub jobs: Vec<JobRecord>,
    /// Rows of periods before these are dropped.
    pub rows_before: Vec<Period>,
    /// What the audit log has to say of it.
    pub audit: Option<AuditEntry>,
    /// The oldest closed generation is filed by this.
    pub files_generation: bool,
    /// These hours' filed layers are in the rows of this.
    pub folds_hours: Vec<SliceHour>,
}
