//! One simulated machine: its clocks, its disk, the engine on it, and the model beside them. Everything that happens is
//! driven from one thread, one call after the other.
//!
//! What the engine does by itself is done before the clocks move again: what was noted for a later commit is written by
//! [`World::nudge`], who has run out is expired by [`World::pass`]. The engine's own threads may do the same at the same
//! simulated instant, with the same result.

use std::sync::Arc;
use std::time::Duration;

use metergate::Metergate;
use metergate::clock::{Clock, SimulatedTime};
use metergate::config::EngineSettings;
use metergate::domain::actor::Actor;
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::quota::Limit;
use metergate::domain::tenant::{TenantChange, TenantId, TenantPut};
use metergate::domain::time::{MICROS_PER_HOUR, MICROS_PER_MINUTE, Timestamp};

use super::disk::{Disk, Faults};
use super::folder::FOLDER;
use super::images::{Kind, Played};
use super::model::{CEILINGS, KEPT_DAYS, Model, Tenant, commit_time};
use super::random::Random;
use super::trace::Trace;

/// A tenant that nothing is compared of: it commits without changing anything.
pub const MARKER: &str = "marker";

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub operations: u64,
    pub denials: u64,
    pub repeats: u64,
    pub comparisons: u64,
    pub failed_syncs: u64,
    pub full_disks: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub clock_jumps: u64,
}

impl Counts {
    pub const fn faults(&self) -> u64 {
        self.failed_syncs + self.full_disks + self.crashes + self.clock_jumps
    }

    pub const fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.denials += other.denials;
        self.repeats += other.repeats;
        self.comparisons += other.comparisons;
        self.failed_syncs += other.failed_syncs;
        self.full_disks += other.full_disks;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.clock_jumps += other.clock_jumps;
    }
}

/// An answer that says nothing about what happened: to be asked again under the same ids.
#[derive(Debug)]
pub struct Again;

pub struct World {
    pub seed: u64,
    pub random: Random,
    pub model: Model,
    pub trace: Trace,
    pub counts: Counts,
    engine: Option<Metergate>,
    clock: Clock,
    time: Arc<SimulatedTime>,
    disk: Disk,
    /// The last signed checkpoint, kept outside.
    pub checkpoint: Option<String>,
}

pub fn tenant_id(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn settings() -> EngineSettings {
    let ceiling = |(quota_type, window, limit)| Limit { quota_type, window, limit, observe: false };
    EngineSettings {
        prices_file: Some(FOLDER.path().join("prices.toml")),
        cache_bytes: 1 << 20,
        realtime_days: KEPT_DAYS,
        audit_years: 1,
        ceilings: CEILINGS.map(ceiling).to_vec(),
        ..EngineSettings::new(FOLDER.path())
    }
}

impl World {
    pub fn new(seed: u64, start: Timestamp) -> Self {
        let (time, disk) = (SimulatedTime::new(start), Disk::default());
        let clock = Clock::simulated(Arc::clone(&time), Timestamp::default());
        let opened = Metergate::open_on(settings(), Box::new(disk.clone()), |_| clock.clone());
        let engine = opened.unwrap_or_else(|error| panic!("METERGATE_SEED={seed}: {error}"));
        let mut world = Self {
            seed,
            random: Random::new(seed),
            model: Model { now: start, ..Model::default() },
            trace: Trace::default(),
            counts: Counts::default(),
            engine: Some(engine),
            clock,
            time,
            disk,
            checkpoint: None,
        };
        let plans = world.engine().tenants().plans();
        world.model.plans = plans.into_iter().map(|plan| (plan.name, plan.limits)).collect();
        world.change(MARKER, TenantChange::Put(TenantPut::default()));
        world.model.tenants.insert(MARKER.to_owned(), Tenant::new("trial", chrono_tz::UTC, start));
        world
    }

    pub fn engine(&self) -> &Metergate {
        self.engine.as_ref().unwrap()
    }

    pub fn now(&self) -> Timestamp {
        self.model.now
    }

    /// Ends the run with all that is needed to see it again.
    pub fn fail(&self, what: impl std::fmt::Display) -> ! {
        let lines = self.trace.last_lines();
        panic!("METERGATE_SEED={} at {}: {what}\n  the last operations:\n{lines}", self.seed, self.model.now)
    }

    pub fn require(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub fn same<T: PartialEq + std::fmt::Debug>(&self, what: &str, seen: T, wanted: T) {
        self.require(seen == wanted, || format!("{what}: {seen:?}, not {wanted:?}"));
    }

    /// Writes down an operation and its answer.
    pub fn note(&mut self, line: String) {
        self.counts.operations += 1;
        self.trace.add(format!("{} {line}", self.model.now));
    }

    /// A change by an administrator, which must succeed.
    pub fn change(&self, name: &str, change: TenantChange) {
        if let Err(error) = self.engine().tenants().change_blocking(&tenant_id(name), change, &Actor::named("a step")) {
            self.fail(format!("a change of {name}: {error}"));
        }
    }

    /// Writes what waits for a later commit: by an event that is refused for its time, which changes nothing.
    pub fn nudge(&mut self) {
        let late = self.now().plus_micros(MICROS_PER_HOUR);
        let event = UsageEvent { event_timestamp: Some(late), ..UsageEvent::new(tenant_id(MARKER), "api_call") };
        let outcomes = self.engine().usage_tracker().record_blocking(vec![event]);
        let refused =
            matches!(outcomes.as_deref(), Ok([EventOutcome::Rejected(why)]) if why.code == "timestamp_in_future");
        self.require(refused, || format!("an event of the next hour: {outcomes:?}"));
        self.model.log.commit(commit_time(self.model.now), false);
    }

    /// Both clocks go on.
    pub fn pass(&mut self, micros: i64) {
        // As long as both agree within five minutes, the server's follows the wall clock by at most a hundredth.
        let own = self.now().plus_micros(micros);
        self.time.pass(micros);
        let ahead = self.time.wall().micros_since(own);
        let believed = ahead.abs() <= 5 * MICROS_PER_MINUTE;
        let followed = if believed { ahead.clamp(-micros / 100, micros / 100) } else { 0 };
        self.same("the server's time", self.clock.now(), own.plus_micros(followed));
        self.same("the clock's alarm", self.clock.alarm().is_some(), !believed);
        self.arrive(own.plus_micros(followed));
    }

    fn arrive(&mut self, now: Timestamp) {
        self.model.advance(now);
        if let Err(error) = self.engine().tenants().expire_due() {
            self.fail(format!("expiries: {error}"));
        }
        self.nudge();
    }

    pub fn jump(&mut self, micros: i64) {
        self.time.jump(micros);
        self.counts.clock_jumps += 1;
        self.note(format!("the wall clock jumps by {micros} us"));
    }

    /// How far the wall clock is ahead of the server's.
    pub fn wall_ahead(&self) -> i64 {
        self.time.wall().micros_since(self.now())
    }

    /// A commit that changes nothing, so that a restart knows how late it is.
    pub fn mark(&self) {
        self.change(MARKER, TenantChange::Put(TenantPut::default()));
    }

    /// The machine stops, is off for a while, and starts again; by a crash, or in order.
    pub fn restart(&mut self, crash: bool, off_micros: i64) {
        self.mark();
        let last_commit = commit_time(self.now());
        if crash {
            self.counts.crashes += 1;
            self.engine().abandon();
        } else {
            self.counts.restarts += 1;
            self.engine().close();
            self.model.log.commit(last_commit, true);
        }
        let contents = self.disk.contents();
        self.time.pass(off_micros);
        self.start_on(contents, last_commit);
        self.note(format!("restart, crash: {crash}, {off_micros} us off"));
    }

    fn start_on(&mut self, contents: Vec<u8>, last_commit: Timestamp) {
        // Two engines never share a medium.
        self.engine = None;
        self.disk = Disk::of(contents);
        let mut clock = None;
        let opened = Metergate::open_on(settings(), Box::new(self.disk.clone()), |not_before| {
            let made = Clock::simulated(Arc::clone(&self.time), not_before);
            clock = Some((made.clone(), not_before));
            made
        });
        match (opened, clock) {
            (Ok(engine), Some((clock, not_before))) => {
                (self.engine, self.clock) = (Some(engine), clock);
                self.same("the last time the store saw", not_before, last_commit);
            }
            (opened, _) => self.fail(format!("it does not open: {:?}", opened.err())),
        }
        let now = self.time.wall().max(last_commit);
        self.same("the server's time after a start", self.clock.now(), now);
        if now.micros_since(last_commit) > 48 * MICROS_PER_HOUR {
            self.model.clock_in_doubt = true;
        }
        self.model.log.restart();
        // A start looks for what its last commit may have reached.
        for name in self.model.tenants.keys().cloned().collect::<Vec<_>>() {
            self.note_reached(&name, false);
        }
        self.model.advance(now);
        self.nudge();
    }

    /// Notes the thresholds that use has reached: `must` after a charge, which looks.
    pub fn note_reached(&mut self, name: &str, must: bool) {
        for (quota_type, window, start, percent, limit) in self.model.reached(name) {
            let crossed = (name.to_owned(), quota_type, window, start, percent, limit);
            if must {
                self.model.log.must.insert(crossed.clone());
            }
            self.model.log.may.insert(crossed);
        }
    }

    /// Acts, with a fault now and then where it writes; what is left open is asked again. Gives the answer, and whether
    /// it may be that of a repeat. `act` must be repeatable under its ids.
    pub fn act<T>(&mut self, writes: bool, act: impl Fn(&Metergate) -> Result<T, Again>) -> (T, bool) {
        let draw = if writes { self.random.below(1_000) } else { 999 };
        let (keeps, own_seed) = (self.random.coin(), self.random.next());
        let fault = match draw {
            0..12 => "syncs fail",
            12..18 => "the disk is full",
            18..34 if self.wall_ahead() <= 0 => "a crash",
            _ => "",
        };
        if !fault.is_empty() {
            self.trace.add(format!("{}, at what comes next", fault));
        }
        match draw {
            0..12 => self.act_with_failing_syncs(act, keeps),
            12..18 => self.act_on_a_full_disk(act, keeps),
            // A start may set the clock forward to the wall clock; here it is to stay.
            18..34 if self.wall_ahead() <= 0 => self.act_and_crash(act, &mut Random::new(own_seed)),
            _ => match act(self.engine()) {
                Ok(answer) => (answer, false),
                Err(Again) => self.fail(format!("no fault, and no answer: {:?}", self.engine().is_ready())),
            },
        }
    }

    fn act_with_failing_syncs<T>(&mut self, act: impl Fn(&Metergate) -> Result<T, Again>, keeps: bool) -> (T, bool) {
        self.counts.failed_syncs += 1;
        let next = self.disk.syncs() + 1;
        let syncs = (next..next + 1_000).collect();
        self.disk.set_faults(Faults { syncs, failed_syncs_keep: keeps, ..Faults::default() });
        let first = act(self.engine());
        self.disk.set_faults(Faults::default());
        if first.is_ok() {
            self.fail("acknowledged, although no sync succeeds");
        }
        self.until_answered(act)
    }

    fn act_on_a_full_disk<T>(&mut self, act: impl Fn(&Metergate) -> Result<T, Again>, tells_free: bool) -> (T, bool) {
        self.counts.full_disks += 1;
        let capacity = Some(self.disk.contents().len() as u64);
        self.disk.set_faults(Faults { capacity, tells_free, ..Faults::default() });
        let first = act(self.engine());
        self.disk.set_faults(Faults::default());
        match first {
            // There was room in the file.
            Ok(answer) => {
                self.until_ready();
                (answer, true)
            }
            Err(Again) => self.until_answered(act),
        }
    }

    fn act_and_crash<T>(&mut self, act: impl Fn(&Metergate) -> Result<T, Again>, random: &mut Random) -> (T, bool) {
        self.counts.crashes += 1;
        self.mark();
        let last_commit = commit_time(self.now());
        let before = self.disk.contents();
        drop(self.disk.clone().recording());
        let from = self.disk.position();
        if act(self.engine()).is_err() {
            self.fail("no fault yet, and no answer");
        }
        self.engine().abandon();
        let calls = self.disk.calls();
        let point = from + random.below((calls.len() - from) as u64 + 1) as usize;
        let mut played = Played::over(before);
        calls[from..point].iter().for_each(|call| played.play(call));
        let kind = Kind::ALL[random.below(Kind::ALL.len() as u64) as usize];
        let image = played.image(kind, random);
        self.start_on(image, last_commit);
        self.until_answered(act)
    }

    fn until_answered<T>(&mut self, act: impl Fn(&Metergate) -> Result<T, Again>) -> (T, bool) {
        for _ in 0..100 {
            self.until_ready();
            if let Ok(answer) = act(self.engine()) {
                self.nudge();
                return (answer, true);
            }
        }
        self.fail("the fault is over, and there is no answer");
    }

    fn until_ready(&self) {
        for _ in 0..60_000 {
            if self.engine().is_ready().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.fail(format!("the store is not open again: {:?}", self.engine().is_ready()));
    }

    /// Lets go of the engine at the end.
    pub fn end(&mut self) {
        self.engine().abandon();
        self.engine = None;
    }
}
