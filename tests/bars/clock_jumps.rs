//! R7: whatever the wall clock does, no quota is given back, no hold lapses early, no window opens again, and retention
//! removes nothing that was to stay.

use std::sync::Arc;
use std::time::Instant;

use metergate::Metergate;
use metergate::clock::{Clock, SimulatedTime};
use metergate::config::EngineSettings;
use metergate::domain::event::UsageEvent;
use metergate::domain::quota::{Item, LimitState, QuotaType, Window};
use metergate::domain::tenant::TenantId;
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_SECOND, Timestamp};
use metergate::enforcer::ReserveRequest;
use metergate::jobs::{JobError, JobName, Jobs};
use metergate::tracker::MaintainError;

use super::support::bars::tell;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
/// The wall clock jumps this many seconds after the beginning.
const JUMP_AT: i64 = 10 * MINUTE;
/// A believed difference is made up for at one percent of the pace.
const SLEW: i64 = 100;

/// What the wall clock shows so many microseconds after the beginning, in microseconds since then.
type Wall = fn(i64) -> i64;

fn noon() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// A server on a machine whose wall clock is the test's.
struct Machine {
    wall: Wall,
    /// Since the beginning, in microseconds.
    elapsed: i64,
    time: Arc<SimulatedTime>,
    engine: Metergate,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(wall: Wall) -> Self {
        let (folder, time) = (tempfile::tempdir().unwrap(), SimulatedTime::new(noon()));
        let engine = start(&folder, &time);
        Self { wall, elapsed: 0, time, engine, folder }
    }

    /// Goes on to so many seconds after the beginning, second by second.
    fn go_to(&mut self, seconds: i64) {
        while self.elapsed < seconds * MICROS_PER_SECOND {
            let before = self.engine.now();
            self.elapsed += MICROS_PER_SECOND;
            self.time.pass(MICROS_PER_SECOND);
            let shown = noon().plus_micros((self.wall)(self.elapsed));
            self.time.jump(shown.micros_since(self.time.wall()));
            assert!(self.engine.now() >= before, "it ran backwards");
        }
    }

    /// Stops and starts again, with nothing but the wall clock and the last time the store saw.
    fn restart(&mut self) {
        self.engine.close();
        self.engine = start(&self.folder, &self.time);
    }

    fn record(&self, tokens: u64, time: Option<Timestamp>) {
        let event =
            UsageEvent { tokens_consumed: Some(tokens), event_timestamp: time, ..UsageEvent::new(acme(), "api_call") };
        self.engine.usage_tracker().record_blocking(vec![event]).unwrap();
    }

    fn grants(&self, id: &str, quota_type: QuotaType, amount: u128, ttl_seconds: u32) -> bool {
        let request = ReserveRequest {
            tenant_id: acme(),
            items: vec![Item { quota_type, amount }],
            ttl_seconds: Some(ttl_seconds),
            reservation_id: Some(id.to_owned()),
            request_id: None,
        };
        self.engine.quota_enforcer().reserve_blocking(request).unwrap().decision.allowed
    }

    /// (used, held) of the tokens of the day.
    fn tokens(&self) -> (u128, u128) {
        let status = self.engine.quota_enforcer().get_quota_status(&acme()).unwrap();
        let of_day = |state: &&LimitState| (state.quota_type, state.window) == (QuotaType::Tokens, Window::Day);
        let state = status.limits.iter().find(of_day).unwrap();
        (state.used, state.held)
    }

    fn clean_up(&self) -> u64 {
        self.engine.usage_tracker().cleanup_old_realtime_events().unwrap().rows_removed
    }
}

fn start(folder: &tempfile::TempDir, time: &Arc<SimulatedTime>) -> Metergate {
    let clock = |not_before| Clock::simulated(Arc::clone(time), not_before);
    Metergate::open_at(EngineSettings::new(folder.path()), clock).unwrap()
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// The trial plan: 10,000 tokens a day, 30 calls a minute.
fn run(name: &str, wall: Wall) {
    let mut machine = Machine::new(wall);
    // Old enough that three years ahead would be the end of them.
    for days in 1..=20 {
        machine.record(1, Some(noon().plus_micros(-days * MICROS_PER_DAY)));
    }
    machine.record(5_000, None);
    machine.engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    assert!(machine.grants("kept", QuotaType::Tokens, 2_000, HOUR as u32));

    machine.go_to(JUMP_AT - 30);
    assert!(machine.grants("calls", QuotaType::ApiCalls, 30, HOUR as u32));
    for seconds in [JUMP_AT - 1, JUMP_AT, JUMP_AT + 1, JUMP_AT + 15, JUMP_AT + 28] {
        machine.go_to(seconds);
        assert!(
            !machine.grants(&format!("more {seconds}"), QuotaType::ApiCalls, 1, 1),
            "{name}: a minute opened again"
        );
    }
    machine.go_to(JUMP_AT + 32);
    assert!(machine.grants("next minute", QuotaType::ApiCalls, 30, 1), "{name}: a minute lasts");

    for seconds in [JUMP_AT + MINUTE, HOUR / 2, HOUR - HOUR / SLEW - 1] {
        machine.go_to(seconds);
        assert_eq!(machine.tokens(), (5_000, 2_000), "{name}, after {seconds} s");
        assert!(!machine.grants(&format!("over {seconds}"), QuotaType::Tokens, 3_001, 1), "{name}, after {seconds} s");
        assert_eq!(machine.clean_up(), 0, "{name}: retention took what is young");
    }
    machine.go_to(HOUR + HOUR / SLEW + 1);
    assert_eq!(machine.tokens(), (5_000, 0), "{name}: the hold lapses when its hour is over");

    // The day goes on to its end, and is not begun again.
    for hours in 2..=11 {
        machine.go_to(hours * HOUR);
        assert_eq!((machine.tokens(), machine.clean_up()), ((5_000, 0), 0), "{name}, after {hours} h");
    }
    machine.go_to(12 * HOUR + 12 * HOUR / SLEW + 1);
    assert_eq!(machine.tokens(), (0, 0), "{name}: midnight");
    machine.engine.close();
}

/// A jump with a restart right after it: then the wall clock is all there is, but for the last time the store saw.
fn run_with_a_restart(name: &str, wall: Wall, is_behind: bool) {
    let mut machine = Machine::new(wall);
    for days in 1..=20 {
        machine.record(1, Some(noon().plus_micros(-days * MICROS_PER_DAY)));
    }
    machine.record(5_000, None);
    machine.engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
    let jobs = |machine: &Machine| Jobs::new(machine.engine.writer(), |_| "20 3 * * *".parse().unwrap());
    jobs(&machine).run_due(JobName::CleanupOldRealtimeEvents).unwrap();
    machine.go_to(JUMP_AT - 1);
    assert!(machine.grants("kept", QuotaType::Tokens, 2_000, HOUR as u32));
    let before = machine.engine.now();
    machine.go_to(JUMP_AT + 1);
    machine.restart();
    assert!(machine.engine.now() >= before, "{name}: it ran backwards over a restart");
    if is_behind {
        assert_eq!(machine.tokens(), (5_000, 2_000), "{name}");
        assert!(!machine.grants("over", QuotaType::Tokens, 3_001, 1), "{name}");
        assert_eq!(machine.clean_up(), 0, "{name}");
    } else {
        // Years ahead: nothing goes until somebody confirms the clock.
        let jobs = jobs(&machine);
        let refused = jobs.run_due(JobName::CleanupOldRealtimeEvents).unwrap_err();
        assert_eq!(refused, JobError::Failed(MaintainError::ClockUnconfirmed), "{name}");
        assert!(jobs.alarms().iter().any(|alarm| alarm.code == "clock_unconfirmed"), "{name}");
        let again = jobs.run_due(JobName::CleanupOldRealtimeEvents).unwrap_err();
        assert_eq!(again, JobError::Failed(MaintainError::ClockUnconfirmed), "{name}");
    }
    machine.engine.close();
}

#[test]
fn r7_no_jump_of_the_wall_clock_gives_back_lapses_or_removes_anything() {
    let started = Instant::now();
    const AT: i64 = JUMP_AT * MICROS_PER_SECOND;
    let jumps: [(&str, Wall); 7] = [
        ("it agrees", |elapsed| elapsed),
        ("-1 h", |elapsed| if elapsed < AT { elapsed } else { elapsed - MICROS_PER_HOUR }),
        ("-1 day", |elapsed| if elapsed < AT { elapsed } else { elapsed - MICROS_PER_DAY }),
        ("+5 min", |elapsed| if elapsed < AT { elapsed } else { elapsed + 5 * MINUTE * MICROS_PER_SECOND }),
        ("+3 years", |elapsed| if elapsed < AT { elapsed } else { elapsed + 3 * 365 * MICROS_PER_DAY }),
        ("it stands still", |elapsed| elapsed.min(AT)),
        ("back and forth", |elapsed| elapsed + (elapsed / AT % 3 - 1) * MICROS_PER_DAY * (elapsed / AT).min(1)),
    ];
    for (name, wall) in jumps {
        run(name, wall);
        run_with_a_restart(name, wall, name != "+3 years");
    }
    tell("R7", &format!("{} jumps, each while running and over a restart, in {:.1?}", jumps.len(), started.elapsed()));
}
