//! A3: a page of 100 audit records, filtered by tenant, type, entity or failures, out of many.

use std::time::{Duration, Instant};

use metergate::Metergate;
use metergate::domain::audit::{
    AuditAction, AuditEntry, AuditFilter, AuditOutcome, AuditResult, AuditSubmission, ResultFilter,
};

use super::random::Random;
use super::support::bars::tell;
use super::{is_long, seed};

const FAILURES: ResultFilter = ResultFilter::Original(AuditResult::Failure);
const BATCH: u64 = 1_000;
const PAGE: usize = 100;
/// Tenants, of which a few have most of the records.
const TENANTS: u64 = 1_000;
const TYPES: u64 = 40;
const ENTITIES: u64 = 5_000;
const QUERIES: usize = 400;
const P99_MAX: Duration = Duration::from_millis(50);

/// One of `many`, the first ones far more often than the last.
fn skewed(random: &mut Random, many: u64) -> u64 {
    random.below(many).min(random.below(many)).min(random.below(many))
}

fn record(random: &mut Random) -> AuditSubmission {
    let result = if random.below(50) == 0 { AuditResult::Failure } else { AuditResult::Success };
    let entry = AuditEntry {
        tenant_id: Some(format!("tenant-{}", skewed(random, TENANTS)).parse().unwrap()),
        event_type: format!("type_{}", skewed(random, TYPES)),
        entity_type: "knowledge_base".to_owned(),
        entity_id: Some(format!("kb-{}", skewed(random, ENTITIES))),
        action: AuditAction::Update,
        result,
        ..AuditEntry::default()
    };
    AuditSubmission { event_id: None, entry }
}

/// A filter of each kind, and of several at once.
fn filter(kind: usize, random: &mut Random) -> AuditFilter {
    let tenant_id = Some(format!("tenant-{}", random.below(TENANTS)).parse().unwrap());
    let event_types = vec![format!("type_{}", random.below(TYPES))];
    let entity = (Some("knowledge_base".to_owned()), Some(format!("kb-{}", random.below(ENTITIES))));
    match kind % 6 {
        0 => AuditFilter { tenant_id, ..AuditFilter::default() },
        1 => AuditFilter { event_types, ..AuditFilter::default() },
        2 => AuditFilter { entity_type: entity.0, entity_id: entity.1, ..AuditFilter::default() },
        3 => AuditFilter { result: Some(FAILURES), ..AuditFilter::default() },
        4 => AuditFilter { tenant_id, event_types, ..AuditFilter::default() },
        _ => AuditFilter { tenant_id, result: Some(FAILURES), ..AuditFilter::default() },
    }
}

/// How long this thread was running, without what it waited for others; where the system tells.
fn worked_so_far() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

#[test]
fn a3_a_page_of_filtered_audit_records_comes_soon() {
    let asked = std::env::var("METERGATE_AUDIT_RECORDS").ok().and_then(|count| count.parse().ok());
    let records: u64 = asked.unwrap_or(if is_long() { 10_000_000 } else { 100_000 });
    let (started, mut random) = (Instant::now(), Random::new(seed()));
    let folder = tempfile::tempdir().unwrap();
    let engine = Metergate::open(folder.path()).unwrap();
    let (mut failures, mut of_first) = (0, 0);
    for _ in 0..records / BATCH {
        let batch: Vec<AuditSubmission> = (0..BATCH).map(|_| record(&mut random)).collect();
        failures += batch.iter().filter(|one| one.entry.result == AuditResult::Failure).count();
        let first = "tenant-0".parse().unwrap();
        of_first += batch.iter().filter(|one| one.entry.tenant_id.as_ref() == Some(&first)).count();
        let outcomes = engine.audit_logger().record_blocking(batch).unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, AuditOutcome::Recorded(_))));
    }
    let written = started.elapsed();
    // What is found is all there is.
    for (filter, expected) in [
        (AuditFilter { result: Some(FAILURES), ..AuditFilter::default() }, failures),
        (AuditFilter { tenant_id: Some("tenant-0".parse().unwrap()), ..AuditFilter::default() }, of_first),
    ] {
        let (mut found, mut before) = (0, None);
        loop {
            let page = engine.audit_logger().get_audit_events(&filter, before, 1_000).unwrap();
            found += page.events.len();
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{filter:?}");
    }
    let (mut times, mut worked) = (Vec::new(), Vec::new());
    for kind in 0..QUERIES {
        let filter = filter(kind, &mut random);
        // Newest, and from somewhere in the middle, as the next pages are.
        let before = (kind % 4 == 3).then(|| random.below(records));
        let (asked, work) = (Instant::now(), worked_so_far());
        let page = engine.audit_logger().get_audit_events(&filter, before, PAGE).unwrap();
        times.push(asked.elapsed());
        worked.push(match (work, worked_so_far()) {
            (Some(before), Some(after)) => after - before,
            _ => asked.elapsed(),
        });
        assert!(page.events.len() <= PAGE);
    }
    engine.close();
    times.sort_unstable();
    worked.sort_unstable();
    let (p99, median, p99_worked) = (times[QUERIES * 99 / 100], times[QUERIES / 2], worked[QUERIES * 99 / 100]);
    tell(
        "A3",
        &format!(
            "{records} audit records written in {written:.1?}, pages of {PAGE} by six kinds of filter: median {median:.1?}, \
             p99 {p99:.1?} ({p99_worked:.1?} of work)"
        ),
    );
    // The work alone: a machine that is busy elsewhere makes some of them late.
    assert!(p99_worked <= P99_MAX, "p99 {p99_worked:?} of work, {p99:?} in all, median {median:?}");
}
