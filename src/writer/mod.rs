//! One thread, one transaction, one fsync, many receipts.
//!
//! - [`Writer`] is the handle: it takes commands and hands out receipts.
//! - `thread` commits what is waiting; `stage` decides what a commit holds; `apply` does to the counters what it says.
//! - `recovery` opens a store again that failed; [`Health`] is what everybody knows of it meanwhile.
//! - `filer` moves closed generations from the journal into segments, in the background.
//! - `start` rebuilds memory from the disk.

mod alerts;
mod answers;
mod apply;
mod audit_stage;
mod bell;
mod checkpoints;
mod command;
mod company;
mod denials;
mod expiries;
mod filed_ids;
mod filer;
mod health;
mod key_book;
mod key_stage;
mod leftovers;
mod meter;
mod prices;
mod publication;
mod receipt;
mod recovery;
mod sampled;
mod shared;
mod stage;
mod start;
mod stored_totals;
mod tenant_stage;
mod thread;
mod unfiled;
mod unfolded;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError};
use parking_lot::{Mutex, MutexGuard};

pub use alerts::AlertBook;
pub use checkpoints::Checkpoints;
pub use command::ResolveOutcome;
pub(crate) use command::{
    ChangeFailed, ChangeOutcome, Command, IncomingAudit, KeyOutcome, PlanOutcome, PricesChange, Publication, Recorded,
    SettleTarget,
};
pub use expiries::Expiries;
pub(crate) use filer::rewritten_run;
pub use health::{Health, Trouble};
pub use key_book::{KeyBook, KeyEntry};
pub use meter::{Counter, Histogram, Meter};
pub(crate) use prices::read_book;
pub use prices::{PriceTable, UnpricedModel, UnpricedModels};
pub use receipt::{Receipt, WriteError};
pub use sampled::EVENT_SAMPLED_OUT;
pub use shared::{Incoming, PlanBook, Policies, Shared};
pub(crate) use start::{Shipped, Started, start};
pub use stored_totals::StoredTotals;
pub use unfiled::Unfiled;
pub use unfolded::{Unfolded, WAITING_MAX, WAITING_PER_TENANT};

use crate::counters::{Released, TenantSlot};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditEntry, AuditOutcome};
use crate::domain::quota::Hold;
use crate::domain::tenant::{TenantChange, TenantId};
use crate::domain::time::Timestamp;
use crate::rules::keys::KeyChange;
use crate::rules::plan_changes::PlanChange;
use filer::Filer;
use leftovers::Leftovers;
use thread::WriterThread;

/// Events that may wait for the writer.
const QUEUED_EVENTS_MAX: usize = 100_000;
/// Closed generations that may wait for the filer: about two million events.
const UNFILED_GENERATIONS_MAX: usize = 40;
/// Commands that may wait for the writer.
const QUEUED_COMMANDS_MAX: usize = 16_384;

/// The handle of the writer; clones share it through an `Arc`.
pub struct Writer {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    leftovers: Arc<Leftovers>,
    queued_events: Arc<AtomicUsize>,
    health: Arc<Health>,
    /// Held by whoever moves things between memory and disk in the background: the filer, a fold, a clean-up.
    maintenance: Arc<Mutex<()>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the writer's and the filer's thread over what [`start`] rebuilt.
    pub(crate) fn spawn(started: Started) -> std::io::Result<Arc<Self>> {
        let (sender, commands) = crossbeam_channel::bounded(QUEUED_COMMANDS_MAX);
        let (closed, closed_generations) = crossbeam_channel::bounded(1);
        let leftovers = Arc::new(Leftovers::new(commands.clone()));
        let shared = Arc::new(started.shared);
        let writer = Arc::new(Self {
            shared: Arc::clone(&shared),
            commands: sender,
            leftovers: Arc::clone(&leftovers),
            queued_events: Arc::default(),
            health: Arc::default(),
            maintenance: Arc::default(),
            threads: Mutex::default(),
        });
        let thread = WriterThread {
            shared,
            commands,
            waiting: std::collections::VecDeque::new(),
            queued_events: Arc::clone(&writer.queued_events),
            health: Arc::clone(&writer.health),
            numbers: started.numbers,
            next_mark: started.next_mark,
            carried: recovery::Carried::default(),
            failures: 0,
            last_commit: started.last_commit,
            closed,
            crowd: company::Crowd::default(),
            has_closed: false,
        };
        let filer = Filer::new(
            Arc::downgrade(&writer),
            closed_generations,
            (started.shadow, started.shadow_at),
            started.checkpoint,
        );
        let poison = Arc::clone(&writer.health);
        let run_writer = move || {
            let _end = EndOfThread(leftovers);
            let guard = PoisonOnPanic("writer", poison);
            thread.run();
            drop(guard);
        };
        let mut threads = vec![std::thread::Builder::new().name("writer".to_owned()).spawn(run_writer)?];
        let poison = Arc::clone(&writer.health);
        let run_filer = move || {
            let guard = PoisonOnPanic("filer", poison);
            filer.run();
            drop(guard);
        };
        threads.push(std::thread::Builder::new().name("filer".to_owned()).spawn(run_filer)?);
        *writer.threads.lock() = threads;
        Ok(writer)
    }

    /// What every part shares.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Why writes are refused, if they are.
    pub fn failure(&self) -> Option<String> {
        self.health.trouble().map(|trouble| trouble.reason().to_owned())
    }

    /// Whether writes are possible, and what became of failures.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Events and commands that wait for the writer's thread.
    pub fn queued(&self) -> (usize, usize) {
        (self.queued_events.load(Ordering::Relaxed), self.commands.len())
    }

    /// Keeps the background from moving anything between memory and disk while the guard lives.
    pub(crate) fn maintenance(&self) -> MutexGuard<'_, ()> {
        self.maintenance.lock()
    }

    /// Refuses writes from here on, unless they are refused already.
    fn fail(&self, reason: String) {
        self.health.set(Trouble::Broken(reason));
    }

    /// Queues events for one commit. A full queue refuses at once, unless `wait` allows this thread to block.
    pub(crate) fn record(
        &self,
        events: Vec<Incoming>,
        settles: Option<SettleTarget>,
        wait: bool,
    ) -> Result<Receipt<Recorded>, WriteError> {
        let count = events.len();
        // Faster than it can be filed or folded: what is not lives in memory, and that has an end.
        while self.is_ahead(wait, settles.is_some()) {
            if let Some(refusal) = self.health.refusal() {
                return Err(refusal);
            }
            if !wait {
                return Err(WriteError::QueueFull);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let queued = self.queued_events.fetch_add(count, Ordering::Relaxed);
        if !wait && queued > 0 && queued + count > QUEUED_EVENTS_MAX {
            self.queued_events.fetch_sub(count, Ordering::Relaxed);
            return Err(WriteError::QueueFull);
        }
        let submitted = self.submit(wait, |promise| Command::Record { events, settles, promise });
        if submitted.is_err() {
            self.queued_events.fetch_sub(count, Ordering::Relaxed);
        }
        submitted
    }

    /// Whether more is recorded than is filed and folded. A settlement is not held up by what waits for its fold: it is of
    /// now.
    fn is_ahead(&self, can_wait: bool, settles: bool) -> bool {
        let live = self.shared.live.read();
        let (unfiled, unfolded) = (live.closed_generations(), live.waiting_deltas());
        drop(live);
        unfiled > UNFILED_GENERATIONS_MAX || !settles && self.shared.has_too_many_unfolded(unfolded, can_wait)
    }

    /// Journals a grant.
    pub(crate) fn hold(&self, slot: Arc<TenantSlot>, hold: Hold) -> Result<Receipt<()>, WriteError> {
        self.submit(false, |promise| Command::Hold { slot, hold, promise })
    }

    /// Keeps a grant that cannot be journaled now, because of `error`, for when the store is back: memory decides alone, if
    /// the settings let it. False when the grant is to be refused.
    pub(crate) fn keeps(&self, error: &WriteError, tenant_no: u32, hold: &Hold) -> bool {
        self.grants_despite(error) && self.health.keep_unjournaled(tenant_no, hold.clone())
    }

    /// Whether memory decides alone because of `error`.
    pub(crate) fn grants_despite(&self, error: &WriteError) -> bool {
        let failed = !matches!(error, WriteError::QueueFull);
        let closed = matches!(self.health.trouble().as_deref(), Some(Trouble::Closed));
        self.shared.policies.grants_without_store && failed && !closed
    }

    /// Gives a reservation back.
    pub(crate) fn release(
        &self,
        slot: Arc<TenantSlot>,
        reservation_id: String,
    ) -> Result<Receipt<Released>, WriteError> {
        self.submit(false, |promise| Command::Release { slot, reservation_id, promise })
    }

    /// Changes a tenant; for `None`, registers it if it is unknown.
    pub(crate) fn change(
        &self,
        tenant_id: TenantId,
        change: Option<TenantChange>,
        actor: &Actor,
    ) -> Result<Receipt<ChangeOutcome>, WriteError> {
        let actor = actor.clone();
        self.submit(false, |promise| Command::Change { tenant_id, change, actor, promise })
    }

    /// Changes a plan.
    pub(crate) fn change_plan(&self, change: PlanChange, actor: &Actor) -> Result<Receipt<PlanOutcome>, WriteError> {
        let actor = actor.clone();
        self.submit(false, |promise| Command::ChangePlan { change, actor, promise })
    }

    /// Puts a price book in force.
    pub(crate) fn change_prices(&self, change: PricesChange, actor: &Actor) -> Result<Receipt<()>, WriteError> {
        let (change, actor) = (Box::new(change), actor.clone());
        self.submit(false, |promise| Command::ChangePrices { change, actor, promise })
    }

    /// Changes a key.
    pub(crate) fn change_key(&self, change: KeyChange, actor: &Actor) -> Result<Receipt<KeyOutcome>, WriteError> {
        let actor = actor.clone();
        self.submit(false, |promise| Command::ChangeKey { change, actor, promise })
    }

    /// Remembers when keys were last used; blocks until it is on disk.
    pub(crate) fn note_key_uses(&self, uses: Vec<(uuid::Uuid, Timestamp)>) -> Result<(), WriteError> {
        self.submit(true, |promise| Command::NoteKeyUses { uses, promise })?.wait()
    }

    /// Queues audit entries for one commit. A full queue refuses at once, unless `wait` allows this thread to block.
    pub(crate) fn audit(
        &self,
        entries: Vec<IncomingAudit>,
        wait: bool,
    ) -> Result<Receipt<Vec<AuditOutcome>>, WriteError> {
        // They wait in the same queue as events, and take no less room.
        let count = entries.len();
        let queued = self.queued_events.fetch_add(count, Ordering::Relaxed);
        let full = !wait && queued > 0 && queued + count > QUEUED_EVENTS_MAX;
        let submitted = match full {
            true => Err(WriteError::QueueFull),
            false => self.submit(wait, |promise| Command::Audit { entries, promise }),
        };
        if submitted.is_err() {
            self.queued_events.fetch_sub(count, Ordering::Relaxed);
        }
        submitted
    }

    /// Resolves an audit record.
    pub(crate) fn resolve_audit(
        &self,
        event_id: uuid::Uuid,
        tenant_id: Option<TenantId>,
        entry: AuditEntry,
    ) -> Result<Receipt<ResolveOutcome>, WriteError> {
        let entry = Box::new(entry);
        self.submit(false, |promise| Command::ResolveAudit { event_id, tenant_id, entry, promise })
    }

    /// The signed checkpoint over every audit record that was acknowledged before.
    pub(crate) fn checkpoint(&self) -> Result<Receipt<Option<String>>, WriteError> {
        self.submit(false, |promise| Command::Checkpoint { promise })
    }

    /// Applies a prepared write; blocks until it is on disk and in memory.
    pub(crate) fn publish(&self, publication: Publication) -> Result<(), WriteError> {
        let publication = Box::new(publication);
        self.submit(true, |promise| Command::Publish { publication, promise })?.wait()
    }

    /// Runs `work` on the writer's thread between two commits; blocks until it has.
    pub(crate) fn exclusively(&self, work: Box<dyn FnOnce() + Send>) -> Result<(), WriteError> {
        self.submit(true, |promise| Command::Exclusively { work, promise })?.wait()
    }

    /// Files everything that is committed by now; blocks until it is done.
    pub(crate) fn file_everything(&self) -> Result<(), WriteError> {
        self.submit(true, |promise| Command::CloseGeneration { promise })?.wait()?;
        // What is closed from here on need not be waited for: under a steady load something always is.
        let Some(through) = self.shared.live.read().newest_closed() else { return Ok(()) };
        while self.shared.live.read().oldest_closed().is_some_and(|oldest| oldest <= through) {
            self.wait_for_filer()?;
        }
        Ok(())
    }

    /// Commits what was queued, files it, saves the counters, and ends the threads.
    pub fn stop(&self) {
        if self.threads.lock().is_empty() {
            return;
        }
        if let Err(error) = self.file_everything().and_then(|()| self.save_counters()) {
            tracing::warn!(%error, "the journal could not be filed at the stop: it is replayed at the next start");
        }
        self.end(Some(Trouble::Closed));
    }

    /// Saves the counters as of the last filing, so that the next start need not replay it; blocks until it is done.
    fn save_counters(&self) -> Result<(), WriteError> {
        self.shared.save_counters.store(true, Ordering::Release);
        // Wakes the filer.
        self.submit(true, |promise| Command::CloseGeneration { promise })?.wait()?;
        while self.shared.save_counters.load(Ordering::Acquire) {
            self.wait_for_filer()?;
        }
        // The request is taken, and met, under this lock.
        drop(self.maintenance());
        Ok(())
    }

    /// A moment for the filer; an error when there is nothing to wait for.
    fn wait_for_filer(&self) -> Result<(), WriteError> {
        if let Some(refusal) = self.health.refusal() {
            return Err(refusal);
        }
        if self.threads.lock().iter().all(JoinHandle::is_finished) {
            return Err(WriteError::Unavailable("the filer has stopped".to_owned()));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        Ok(())
    }

    /// Ends the threads without a further write.
    pub fn abandon(&self) {
        if self.threads.lock().is_empty() {
            return;
        }
        self.health.set(Trouble::Broken("metergate was abandoned".to_owned()));
        self.end(None);
    }

    fn end(&self, trouble: Option<Trouble>) {
        // The writer goes first: what it refuses from here on, callers are told.
        let _already_gone = self.commands.send(Command::Stop);
        trouble.into_iter().for_each(|trouble| self.health.set(trouble));
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread had panicked");
            }
        }
    }

    fn submit<T>(
        &self,
        wait: bool,
        command: impl FnOnce(receipt::Promise<T>) -> Command,
    ) -> Result<Receipt<T>, WriteError> {
        let (promise, receipt) = Receipt::new();
        let command = command(promise);
        if let Some(refusal) = self.health.refusal().filter(|_| !(self.health.is_full() && command.goes_on_when_full()))
        {
            return Err(refusal);
        }
        let sent = if wait {
            self.commands.send(command).map_err(|_| TrySendError::Disconnected(()))
        } else {
            self.commands.try_send(command).map_err(|error| match error {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            })
        };
        match sent {
            Ok(()) => {
                self.leftovers.after_sending();
                Ok(receipt)
            }
            Err(TrySendError::Full(())) => Err(WriteError::QueueFull),
            Err(TrySendError::Disconnected(())) => Err(WriteError::Unavailable("the writer has stopped".to_owned())),
        }
    }
}

/// Gives up what waits for the writer's thread once it has ended, also by a panic.
struct EndOfThread(Arc<Leftovers>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Marks the store as failed when this thread of it ends by a panic, so that nobody waits for it.
struct PoisonOnPanic(&'static str, Arc<Health>);

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.1.set(Trouble::Broken(format!("the {} has panicked: restart metergate", self.0)));
        }
    }
}
