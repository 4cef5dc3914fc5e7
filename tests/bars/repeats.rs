//! R8: a million events, 30 % of them repeats, shuffled, with crashes between: exact totals, and other content under a
//! known id is refused every time.

use std::time::Instant;

use metergate::Metergate;
use metergate::domain::event::{EventId, EventOutcome, UsageEvent};
use metergate::domain::time::{MICROS_PER_DAY, PeriodType, Timestamp};

use super::random::Random;
use super::support::bars::tell;
use super::{is_long, seed};

const TENANTS: u64 = 50;
const BATCH: usize = 1_000;
const CRASHES: usize = 10;

/// The event of this number: the same whenever it is sent.
fn event(number: u64, extra: u64) -> UsageEvent {
    UsageEvent {
        event_id: Some(EventId::Text(format!("event-{number}").into())),
        tokens_consumed: Some(number % 997 + extra),
        ..UsageEvent::new(format!("tenant-{}", number % TENANTS).parse().unwrap(), "api_call")
    }
}

#[test]
fn r8_shuffled_repeats_with_crashes_between_count_once_and_other_content_is_always_refused() {
    let started = Instant::now();
    let (seed, sent) = (seed(), if is_long() { 1_000_000 } else { 200_000 });
    let told = format!("METERGATE_SEED={seed}");
    let mut random = Random::new(seed);
    // Of ten, seven are new and three are sent again.
    let unique = sent as u64 * 7 / 10;
    let mut order: Vec<u64> = (0..unique).chain((unique..sent as u64).map(|_| random.below(unique))).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, random.below(place as u64 + 1) as usize);
    }
    let batches: Vec<&[u64]> = order.chunks(BATCH).collect();
    let mut crashes: Vec<usize> = (0..CRASHES).map(|_| random.below(batches.len() as u64) as usize).collect();
    crashes.sort_unstable();

    let folder = tempfile::tempdir().unwrap();
    let mut engine = Metergate::open(folder.path()).unwrap();
    let mut seen = vec![false; unique as usize];
    let (mut duplicates, mut conflicts, mut repeated_after_crash) = (0_u64, 0_u64, 0_u64);
    for (place, batch) in batches.iter().enumerate() {
        // One in a hundred comes once more with other content, if it was here.
        let known = batch.iter().filter(|number| seen[**number as usize] && **number % 100 == 0);
        let changed: Vec<UsageEvent> = known.map(|number| event(*number, 1)).collect();
        let sent = batch.iter().map(|number| event(*number, 0)).chain(changed.iter().cloned()).collect();
        let outcomes = engine.usage_tracker().record_blocking(sent).unwrap();
        let (plain, refused) = outcomes.split_at(batch.len());
        for (number, outcome) in batch.iter().zip(plain) {
            let expected = if seen[*number as usize] { EventOutcome::Duplicate } else { EventOutcome::Accepted };
            assert_eq!(*outcome, expected, "{told}: event {number} in batch {place}");
            duplicates += u64::from(seen[*number as usize]);
            seen[*number as usize] = true;
        }
        assert!(refused.iter().all(|outcome| *outcome == EventOutcome::Conflict), "{told}: {refused:?}");
        conflicts += refused.len() as u64;
        while crashes.first() == Some(&place) {
            crashes.remove(0);
            engine.abandon();
            drop(engine);
            engine = Metergate::open(folder.path()).unwrap();
            // As a client does that did not get its answer.
            let again: Vec<UsageEvent> = batch.iter().map(|number| event(*number, 0)).collect();
            let outcomes = engine.usage_tracker().record_blocking(again).unwrap();
            assert!(outcomes.iter().all(|outcome| *outcome == EventOutcome::Duplicate), "{told}: after batch {place}");
            repeated_after_crash += batch.len() as u64;
        }
        if place % 50 == 49 {
            engine.usage_tracker().aggregate_usage_metrics(None).unwrap();
        }
    }
    assert!(seen.iter().all(|seen| *seen) && conflicts > 0);
    let end = engine.now().plus_micros(MICROS_PER_DAY);
    for tenant in 0..TENANTS {
        let id = format!("tenant-{tenant}").parse().unwrap();
        let rows = engine.usage_tracker().get_tenant_usage(&id, Timestamp::default(), end, PeriodType::Daily).unwrap();
        let sums = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.api_calls_total, sum.1 + row.total_tokens_used));
        let own: Vec<u64> =
            (0..unique).filter(|number| number % TENANTS == tenant).map(|number| number % 997).collect();
        assert_eq!(sums, (own.len() as u64, own.iter().sum::<u64>()), "{told}: tenant {tenant}");
    }
    let verified = engine.usage_tracker().verify().unwrap();
    assert!(verified.differences.is_empty(), "{told}: {:?}", verified.differences);
    engine.close();
    let seen = format!(
        "{sent} events, {duplicates} of them repeats, {repeated_after_crash} more after {CRASHES} crashes, {conflicts} \
         conflicts refused, totals exact, in {:.1?}",
        started.elapsed()
    );
    tell("R8", &seen);
}
