//! A crash at every write and sync (R1), and again while the store is being opened (R2): nothing acknowledged is lost,
//! nothing is there by half, every image opens, and what was under way can be repeated under its ids.

use std::sync::atomic::{AtomicU64, Ordering};

use metergate::Metergate;
use metergate::domain::event::EventOutcome;
use metergate::domain::time::{MICROS_PER_DAY, Timestamp};

use super::bars::tell;
use super::disk::{Call, Disk};
use super::images::{Kind, Played};
use super::model::{Model, look};
use super::random::Random;
use super::steps::{Ended, Step, Steps, event};
use super::{is_long, open, seeds, start};

/// Steps of one seed.
const STEPS: u64 = 40;
/// Seeds of the short version.
const SEEDS: u64 = 9;

/// A step as it was taken.
struct Taken {
    step: Step,
    /// Calls before it began, and before it was acknowledged.
    from: usize,
    to: usize,
    now: Timestamp,
}

struct Run {
    seed: u64,
    calls: Vec<Call>,
    taken: Vec<Taken>,
    /// The model before each step, and after the last.
    models: Vec<Model>,
}

impl Run {
    fn record(seed: u64) -> Self {
        let disk = Disk::default().recording();
        let (engine, clock) = open(&disk, start()).unwrap();
        let (mut model, mut steps, mut now) = (Model::default(), Steps::new(seed), start());
        let (mut taken, mut models) = (Vec::new(), vec![Model::default()]);
        for _ in 0..STEPS {
            let step = steps.next(&model, now);
            if let Step::Wait { micros } = step {
                clock.advance(micros);
                now = now.plus_micros(micros);
            }
            let from = disk.position();
            let ended = step.run(&engine);
            let granted = match &step {
                Step::Reserve { tenant, id, tokens, .. } => model.grants(tenant, id, *tokens, now),
                _ => true,
            };
            let expected = if granted { Ended::Done } else { Ended::Denied };
            assert_eq!(ended, expected, "seed {seed}, {step:?}");
            model.apply(&step, now);
            models.push(model.clone());
            taken.push(Taken { step, from, to: disk.position(), now });
        }
        assert_eq!(look(&engine, now).unwrap(), model.seen(now), "seed {seed}, before any crash");
        engine.abandon();
        Self { seed, calls: disk.calls(), taken, models }
    }

    /// How many steps were acknowledged when so many calls were made, and whether one more was under way.
    fn acknowledged(&self, calls: usize) -> (usize, bool) {
        let acknowledged = self.taken.iter().take_while(|taken| taken.to <= calls).count();
        (acknowledged, self.taken.get(acknowledged).is_some_and(|taken| taken.from < calls))
    }

    fn now(&self, acknowledged: usize, under_way: bool) -> Timestamp {
        let last = if under_way { Some(acknowledged) } else { acknowledged.checked_sub(1) };
        last.map_or(start(), |last| self.taken[last].now)
    }

    /// Opens an image of a crash after so many calls, and compares. `sure` when the step under way was acknowledged since.
    fn check(&self, disk: &Disk, calls: usize, sure: bool, random: &mut Random) -> Result<(), String> {
        let (acknowledged, under_way) = self.acknowledged(calls);
        let now = self.now(acknowledged, under_way);
        let (engine, _clock) = open(disk, now).map_err(|error| format!("it does not open: {error}"))?;
        let checked = self.compare(&engine, acknowledged, under_way, sure, now, random);
        engine.abandon();
        checked
    }

    fn compare(
        &self,
        engine: &Metergate,
        acknowledged: usize,
        under_way: bool,
        sure: bool,
        now: Timestamp,
        random: &mut Random,
    ) -> Result<(), String> {
        let seen = look(engine, now)?;
        let before = self.models[acknowledged].seen(now);
        let after = if under_way { self.models[acknowledged + 1].seen(now) } else { before.clone() };
        if seen != after && (sure || seen != before) {
            return Err(format!("it holds\n{seen:#?}\nnot\n{before:#?}\nnor\n{after:#?}"));
        }
        if under_way && self.taken[acknowledged].step.is_repeatable() {
            let ended = self.taken[acknowledged].step.run(engine);
            if !matches!(ended, Ended::Done | Ended::Denied) {
                return Err(format!("{:?}, repeated: {ended:?}", self.taken[acknowledged].step));
            }
            let repeated = look(engine, now)?;
            if repeated != after {
                return Err(format!("after the repeat it holds\n{repeated:#?}\nnot\n{after:#?}"));
            }
        }
        let young = |at: &Timestamp| now.micros_since(*at) < 20 * MICROS_PER_DAY;
        let known: Vec<_> = self.models[acknowledged].events();
        let known: Vec<_> = known.iter().filter(|(_, id, _, at)| !id.contains(':') && young(at)).collect();
        if let Some((tenant, id, tokens, _)) = random.pick(&known) {
            let again = vec![event(tenant, id, *tokens), event(tenant, id, *tokens + 1)];
            let outcomes = engine.usage_tracker().record_blocking(again).map_err(|error| error.to_string())?;
            if outcomes != [EventOutcome::Duplicate, EventOutcome::Conflict] {
                return Err(format!("{id} of {tenant} again: {outcomes:?}"));
            }
        }
        let audit = engine.audit_logger().verify_audit(None, None).map_err(|error| error.to_string())?;
        if !audit.is_whole() {
            return Err(format!("the audit log is not whole: {:?}", audit.check.faults));
        }
        if random.below(32) == 0 {
            let verified = engine.usage_tracker().verify().map_err(|error| error.to_string())?;
            if !verified.differences.is_empty() {
                return Err(format!("rows differ: {:?}", verified.differences));
            }
        }
        Ok(())
    }

    /// Does something with every image, on two threads. What fails is told with how to get there again.
    fn for_each_image(
        &self,
        one_in: u64,
        see: impl Fn(Vec<u8>, usize, &mut Random) -> Result<(), String> + Sync,
    ) -> u64 {
        let images = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for turn in 0..2 {
                let (images, see) = (&images, &see);
                scope.spawn(move || {
                    let mut played = Played::over(Vec::new());
                    for (point, call) in self.calls.iter().enumerate() {
                        played.play(call);
                        if point % 2 != turn {
                            continue;
                        }
                        for (number, kind) in Kind::ALL.into_iter().enumerate() {
                            let mut random = Random::new(self.seed << 32 ^ (point as u64) << 8 ^ number as u64);
                            if random.below(one_in) > 0 {
                                continue;
                            }
                            let image = played.image(kind, &mut random);
                            images.fetch_add(1, Ordering::Relaxed);
                            if let Err(wrong) = see(image, point + 1, &mut random) {
                                panic!(
                                    "METERGATE_SEED={}, a crash after call {}, {kind:?}: {wrong}",
                                    self.seed,
                                    point + 1
                                );
                            }
                        }
                    }
                });
            }
        });
        images.load(Ordering::Relaxed)
    }
}

#[test]
fn a_crash_at_any_write_or_sync_loses_nothing_acknowledged_and_leaves_nothing_by_half() {
    let started = std::time::Instant::now();
    let (mut images, mut points) = (0, 0);
    for seed in seeds(SEEDS) {
        let run = Run::record(seed);
        points += run.calls.len();
        images += run.for_each_image(1, |image, calls, random| run.check(&Disk::of(image), calls, false, random));
    }
    tell("R1", &format!("{images} images of {points} points of a crash, 0 lost, in {:.1?}", started.elapsed()));
}

#[test]
fn a_second_crash_while_the_store_is_opened_again_loses_nothing_either() {
    let started = std::time::Instant::now();
    let images = AtomicU64::new(0);
    for seed in seeds(1) {
        let run = Run::record(seed + 100);
        run.for_each_image(if is_long() { 2 } else { 5 }, |image, calls, random| {
            let (acknowledged, under_way) = run.acknowledged(calls);
            let disk = Disk::of(image.clone()).recording();
            let now = run.now(acknowledged, under_way);
            let (engine, _clock) = open(&disk, now).map_err(|error| format!("it does not open: {error}"))?;
            let mut repeated_by = usize::MAX;
            if under_way && run.taken[acknowledged].step.is_repeatable() {
                run.taken[acknowledged].step.run(&engine);
                repeated_by = disk.position();
            }
            engine.abandon();
            let again = disk.calls();
            for _ in 0..3 {
                let point = random.below(again.len() as u64 + 1) as usize;
                let mut played = Played::over(image.clone());
                again[..point].iter().for_each(|call| played.play(call));
                let kind = Kind::ALL[random.below(6) as usize];
                let second = Disk::of(played.image(kind, random));
                images.fetch_add(1, Ordering::Relaxed);
                run.check(&second, calls, point >= repeated_by, random)
                    .map_err(|wrong| format!("and again after call {point} of {}, {kind:?}: {wrong}", again.len()))?;
            }
            Ok(())
        });
    }
    let images = images.load(Ordering::Relaxed);
    tell("R2", &format!("{images} images of a crash while recovering, 0 lost, in {:.1?}", started.elapsed()));
}
