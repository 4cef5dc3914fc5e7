//! The server's clock: never runs backwards, follows the wall clock gently, and does not believe its jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::domain::time::{MICROS_PER_MINUTE, Timestamp};

/// How far the wall clock may be from our own pace and still be believed.
pub const AGREEMENT_MICROS: i64 = 5 * MICROS_PER_MINUTE;
/// A believed difference is made up for by running at most this fraction faster or slower, so that no step of the wall
/// clock, not even a believed one, lapses a hold: one of 60 s lapses at most 0.6 s early.
const SLEW_DIVISOR: i64 = 100;
/// How often the wall clock is read, in microseconds of our own pace; long enough for the fraction to be whole.
const WALL_EVERY_MICROS: i64 = 50_000;

/// The wall clock is more than five minutes away from the server's clock, which goes on at its own pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAlarm {
    /// What the wall clock said when it was last read.
    pub wall: Timestamp,
    /// What the server's clock said at the same moment.
    pub server: Timestamp,
}

/// The policy, as a pure function over (wall, monotonic).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// Our time at the last reading.
    time: Timestamp,
    /// The monotonic clock at the last reading, in microseconds.
    monotonic: i64,
    alarm: Option<ClockAlarm>,
}

impl Pace {
    /// Starts at the wall clock, but never before the last time the store saw.
    fn start(wall: Timestamp, monotonic: i64, not_before: Timestamp) -> Self {
        Self { time: wall.max(not_before), monotonic, alarm: None }.read(wall, monotonic)
    }

    /// The next reading.
    fn read(self, wall: Timestamp, monotonic: i64) -> Self {
        let elapsed = (monotonic - self.monotonic).max(0);
        let own = self.time.plus_micros(elapsed);
        let ahead = wall.micros_since(own);
        if ahead.abs() > AGREEMENT_MICROS {
            return Self { time: own, monotonic, alarm: Some(ClockAlarm { wall, server: own }) };
        }
        let step = elapsed / SLEW_DIVISOR;
        Self { time: own.plus_micros(ahead.clamp(-step, step)), monotonic, alarm: None }
    }
}

/// A machine's two clocks as a test moves them: a wall clock that may jump, and a monotonic one that only goes on.
#[derive(Debug)]
pub struct SimulatedTime(Mutex<(Timestamp, i64)>);

impl SimulatedTime {
    /// Starts with this wall clock.
    pub fn new(wall: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new((wall, 0))))
    }

    /// Both clocks go on by so many microseconds.
    pub fn pass(&self, micros: i64) {
        let mut clocks = self.0.lock();
        *clocks = (clocks.0.plus_micros(micros), clocks.1 + micros.max(0));
    }

    /// The wall clock alone jumps, forward or back.
    pub fn jump(&self, micros: i64) {
        let mut clocks = self.0.lock();
        clocks.0 = clocks.0.plus_micros(micros);
    }

    /// What the wall clock says.
    pub fn wall(&self) -> Timestamp {
        self.0.lock().0
    }

    fn monotonic(&self) -> i64 {
        self.0.lock().1
    }
}

/// Where a [`System`] reads its two clocks.
#[derive(Debug)]
enum Machine {
    Real { origin: Instant },
    Simulated { time: Arc<SimulatedTime>, origin: i64 },
}

impl Machine {
    fn real() -> Self {
        Self::Real { origin: Instant::now() }
    }

    fn monotonic(&self) -> i64 {
        match self {
            Self::Real { origin } => origin.elapsed().as_micros() as i64,
            Self::Simulated { time, origin } => time.monotonic() - origin,
        }
    }

    /// The wall clock, and the monotonic one at the same moment.
    fn both(&self) -> (Timestamp, i64) {
        match self {
            Self::Real { .. } => (wall_now(), self.monotonic()),
            Self::Simulated { time, origin } => {
                let (wall, monotonic) = *time.0.lock();
                (wall, monotonic - origin)
            }
        }
    }
}

/// Tells the time. Clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System(System),
    Manual(AtomicI64),
    /// Real pace, and so many microseconds ahead of it; that only grows.
    Development(System, AtomicI64),
}

#[derive(Debug)]
struct System {
    machine: Machine,
    /// Our time minus the monotonic clock, in microseconds.
    offset: AtomicI64,
    /// The monotonic time at which the wall clock is read again.
    wall_due: AtomicI64,
    /// The latest time told.
    told: AtomicI64,
    pace: Mutex<Pace>,
}

impl Clock {
    /// The machine's clock. `not_before` is the last time the store saw: a wall clock behind it is not believed when it
    /// is more than five minutes behind, and waited for at 99 % of the pace when it is less.
    pub fn system(not_before: Timestamp) -> Self {
        Self(Arc::new(Source::System(System::start(Machine::real(), not_before))))
    }

    /// [`Self::system`] on a machine whose clocks a test moves. Every thread sees the same time between two moves.
    pub fn simulated(time: Arc<SimulatedTime>, not_before: Timestamp) -> Self {
        let origin = time.monotonic();
        Self(Arc::new(Source::System(System::start(Machine::Simulated { time, origin }, not_before))))
    }

    /// The machine's pace, moved on by [`Clock::advance`] and [`Clock::set`], for `serve --dev`. Starts where the store
    /// was left, however far ahead that is.
    pub fn development(not_before: Timestamp) -> Self {
        let system = System::start(Machine::real(), Timestamp::default());
        let ahead = not_before.micros_since(system.now()).max(0);
        Self(Arc::new(Source::Development(system, ahead.into())))
    }

    /// A clock that only moves when told to, for tests.
    pub fn manual(start: Timestamp) -> Self {
        Self(Arc::new(Source::Manual(AtomicI64::new(start.micros()))))
    }

    /// The server's time, never before one it told already. Costs some tens of nanoseconds.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System(system) => system.now(),
            Source::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::Acquire)),
            Source::Development(system, ahead) => system.now().plus_micros(ahead.load(Ordering::Acquire)),
        }
    }

    /// Whether [`Clock::advance`] and [`Clock::set`] move it.
    pub fn can_be_moved(&self) -> bool {
        !matches!(&*self.0, Source::System(_))
    }

    /// Whether the wall clock is not believed at the moment, and how far off it is.
    pub fn alarm(&self) -> Option<ClockAlarm> {
        match &*self.0 {
            Source::System(system) => system.pace.lock().alarm,
            Source::Manual(_) | Source::Development(..) => None,
        }
    }

    /// Moves the clock on. False, and nothing happens, for the machine's clock or a negative step.
    pub fn advance(&self, micros: i64) -> bool {
        match &*self.0 {
            Source::Manual(moved) | Source::Development(_, moved) if micros >= 0 => {
                moved.fetch_add(micros, Ordering::AcqRel);
                true
            }
            _ => false,
        }
    }

    /// Sets the clock. False, and nothing happens, for the machine's clock or a time before its own.
    pub fn set(&self, to: Timestamp) -> bool {
        match &*self.0 {
            Source::Manual(time) => time.fetch_max(to.micros(), Ordering::AcqRel) <= to.micros(),
            Source::Development(system, ahead) => {
                let wanted = to.micros_since(system.now());
                ahead.fetch_max(wanted, Ordering::AcqRel) <= wanted
            }
            Source::System(_) => false,
        }
    }
}

impl System {
    fn start(machine: Machine, not_before: Timestamp) -> Self {
        let (wall, monotonic) = machine.both();
        let pace = Pace::start(wall, monotonic, not_before);
        Self {
            machine,
            offset: AtomicI64::new(pace.time.micros() - pace.monotonic),
            wall_due: AtomicI64::new(WALL_EVERY_MICROS),
            told: AtomicI64::new(pace.time.micros()),
            pace: Mutex::new(pace),
        }
    }

    fn now(&self) -> Timestamp {
        let monotonic = self.machine.monotonic();
        if monotonic >= self.wall_due.load(Ordering::Relaxed) {
            self.read_wall();
        }
        let time = monotonic + self.offset.load(Ordering::Acquire);
        // A slower pace, or another thread's later reading, must not be seen as a step back.
        if time <= self.told.load(Ordering::Relaxed) {
            return Timestamp::from_micros(self.told.load(Ordering::Acquire));
        }
        Timestamp::from_micros(self.told.fetch_max(time, Ordering::AcqRel).max(time))
    }

    fn read_wall(&self) {
        // One thread reads; the others go on with the offset they have.
        let lock = match self.machine {
            Machine::Real { .. } => self.pace.try_lock(),
            Machine::Simulated { .. } => Some(self.pace.lock()),
        };
        let Some(mut pace) = lock else { return };
        let (wall, monotonic) = self.machine.both();
        *pace = pace.read(wall, monotonic);
        self.offset.store(pace.time.micros() - monotonic, Ordering::Release);
        self.wall_due.store(monotonic + WALL_EVERY_MICROS, Ordering::Relaxed);
    }
}

fn wall_now() -> Timestamp {
    // A wall clock before 1970 is as wrong as one at 1970.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// The machine's own time, for how long something takes: it says nothing about when.
pub fn stopwatch() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_SECOND};

    const START: i64 = 1_800_000_000_000_000;

    /// Runs an hour by the monotonic clock, a reading a second, while `wall` tells something of its own.
    /// Gives our time past the hour, in microseconds, and whether there was an alarm at the end.
    fn run(wall: impl Fn(i64) -> i64) -> (i64, bool) {
        let mut pace = Pace::start(Timestamp::from_micros(START), 0, Timestamp::default());
        let mut last = pace.time;
        for second in 1..=3_600 {
            let elapsed = second * MICROS_PER_SECOND;
            pace = pace.read(Timestamp::from_micros(START + wall(elapsed)), elapsed);
            let step = pace.time.micros_since(last);
            assert!((990_000..=1_010_000).contains(&step), "a second took {step} us");
            last = pace.time;
        }
        (pace.time.micros() - START - MICROS_PER_HOUR, pace.alarm.is_some())
    }

    #[test]
    fn jumps_of_the_wall_clock_are_never_believed_at_once() {
        let after = |jump: i64| move |elapsed: i64| elapsed + if elapsed > MICROS_PER_MINUTE { jump } else { 0 };
        // 59 minutes at one percent.
        let slewed = 3_540 * MICROS_PER_SECOND / 100;
        for (name, (drift, alarm), expected) in [
            ("agrees", run(|elapsed| elapsed), (0, false)),
            ("-1 h", run(after(-MICROS_PER_HOUR)), (0, true)),
            ("-1 day", run(after(-MICROS_PER_DAY)), (0, true)),
            ("+5 min", run(after(5 * MICROS_PER_MINUTE)), (slewed, false)),
            ("-5 min", run(after(-5 * MICROS_PER_MINUTE)), (-slewed, false)),
            ("+10 s", run(after(10 * MICROS_PER_SECOND)), (10 * MICROS_PER_SECOND, false)),
            ("+3 years", run(after(3 * 365 * MICROS_PER_DAY)), (0, true)),
        ] {
            assert_eq!((drift, alarm), expected, "{name}");
        }
        let (drift, alarm) = run(|_| 0);
        assert!(alarm && (-4 * MICROS_PER_SECOND..0).contains(&drift), "a wall clock that stands still: {drift}");
    }

    #[test]
    fn a_wall_clock_that_comes_back_is_followed_again() {
        let pace = Pace::start(Timestamp::from_micros(START), 0, Timestamp::default());
        let lost = pace.read(Timestamp::from_micros(START + MICROS_PER_DAY), MICROS_PER_SECOND);
        assert!(lost.alarm.is_some());
        let found = lost.read(Timestamp::from_micros(START + 2 * MICROS_PER_SECOND), 2 * MICROS_PER_SECOND);
        assert_eq!((found.time.micros(), found.alarm), (START + 2 * MICROS_PER_SECOND, None));
    }

    #[test]
    fn time_goes_on_from_the_last_time_the_store_saw() {
        for (not_before, start, alarm) in [
            (START - MICROS_PER_DAY, START, false),
            (START + MICROS_PER_MINUTE, START + MICROS_PER_MINUTE, false),
            (START + MICROS_PER_DAY, START + MICROS_PER_DAY, true),
        ] {
            let pace = Pace::start(Timestamp::from_micros(START), 0, Timestamp::from_micros(not_before));
            assert_eq!((pace.time.micros(), pace.alarm.is_some()), (start, alarm));
        }
    }

    #[test]
    fn a_simulated_machine_has_the_policy_of_a_real_one() {
        let time = SimulatedTime::new(Timestamp::from_micros(START));
        let clock = Clock::simulated(Arc::clone(&time), Timestamp::default());
        time.pass(MICROS_PER_HOUR);
        assert_eq!(clock.now().micros(), START + MICROS_PER_HOUR);
        time.jump(-MICROS_PER_DAY);
        time.pass(MICROS_PER_HOUR);
        assert_eq!((clock.now().micros(), clock.alarm().is_some()), (START + 2 * MICROS_PER_HOUR, true));
        time.jump(MICROS_PER_DAY + 10 * MICROS_PER_SECOND);
        time.pass(100 * MICROS_PER_SECOND);
        let slewed = START + 2 * MICROS_PER_HOUR + 101 * MICROS_PER_SECOND;
        assert_eq!((clock.now().micros(), clock.alarm()), (slewed, None));
        assert_eq!(Clock::simulated(time, Timestamp::MAX).now(), Timestamp::MAX);
    }

    #[test]
    fn no_thread_sees_the_clock_run_backwards() {
        let clock = Clock::system(Timestamp::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut last = clock.now();
                    for _ in 0..100_000 {
                        let now = clock.now();
                        assert!(now >= last);
                        last = now;
                    }
                });
            }
        });
        assert_eq!(clock.alarm(), None);
    }

    #[test]
    fn a_manual_clock_moves_forward_and_only_when_told() {
        let clock = Clock::manual(Timestamp::from_seconds(100));
        assert!(clock.advance(MICROS_PER_SECOND) && clock.set(Timestamp::from_seconds(105)));
        assert!(!clock.set(Timestamp::from_seconds(90)) && !clock.advance(-1));
        assert_eq!(clock.clone().now(), Timestamp::from_seconds(105));
    }

    #[test]
    fn a_development_clock_keeps_the_pace_and_moves_forward_only() {
        let left = Clock::system(Timestamp::default()).now().plus_micros(40 * MICROS_PER_DAY);
        let clock = Clock::development(left);
        let start = clock.now();
        assert!(start >= left && start.micros_since(left) < MICROS_PER_MINUTE, "it goes on where the store was left");
        assert!(clock.advance(MICROS_PER_DAY) && clock.now() >= start.plus_micros(MICROS_PER_DAY));
        let to = start.plus_micros(3 * MICROS_PER_DAY);
        assert!(clock.set(to) && clock.now() >= to && clock.now().micros_since(to) < MICROS_PER_MINUTE);
        assert!(!clock.set(start) && !clock.advance(-1) && clock.now() >= to);
        assert!(clock.can_be_moved() && clock.alarm().is_none() && !Clock::system(left).can_be_moved());
    }
}
