//! The audit log as a library: written, found by every field, resolved once, reported, and taken by retention.

use metergate::audit::{
    AuditLogger, ChatAudit, ConfigAudit, ErrorAudit, KbAudit, MAX_RECORDS_PER_PAGE, ResolveOutcome, TrialAudit,
};
use metergate::domain::audit::{
    ActorType, AuditAction, AuditEntry, AuditEvent, AuditFilter, AuditOutcome, AuditResult, AuditSubmission,
    ResultFilter,
};
use metergate::domain::time::MICROS_PER_DAY;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

fn plain(name: &str, event_type: &str) -> AuditEntry {
    AuditEntry::system(Some(tenant(name)), event_type, "trial", AuditAction::Access)
}

fn write(logger: &AuditLogger, entry: AuditEntry) -> Uuid {
    match logger.record_blocking(vec![entry.into()]).unwrap().remove(0) {
        AuditOutcome::Recorded(id) => id,
        other => panic!("{other:?}"),
    }
}

fn all(logger: &AuditLogger, filter: &AuditFilter, limit: usize) -> Vec<AuditEvent> {
    let (mut events, mut before) = (Vec::new(), None);
    loop {
        let mut page = logger.get_audit_events(filter, before, limit).unwrap();
        assert!(page.events.len() <= limit);
        events.append(&mut page.events);
        before = page.next;
        if before.is_none() {
            return events;
        }
    }
}

#[test]
fn a_record_keeps_every_field_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    let entry = AuditEntry {
        entity_id: Some("kb-1".to_owned()),
        actor_type: ActorType::Visitor,
        actor_id: Some("v-1".to_owned()),
        old_values: Some(r#"{"a":1}"#.to_owned()),
        new_values: Some("[2]".to_owned()),
        changes_summary: Some("from 1 to 2".to_owned()),
        result: AuditResult::Partial,
        error_message: Some("half of it".to_owned()),
        ip_address: Some("2001:db8::1".to_owned()),
        user_agent: Some("curl/8".to_owned()),
        request_id: Some("req-1".to_owned()),
        occurred_at: Some(at("2026-11-01T00:00:00.25Z")),
        ..plain("acme", "kb_changed")
    };
    let pending = engine.audit_logger().audit_log("kb_renamed", entry.clone()).unwrap();
    let [AuditOutcome::Recorded(id)] = pending.wait().unwrap()[..] else { panic!("not recorded") };
    engine.close();
    let (engine, _) = open(folder.path(), at(NOON));
    let event = engine.audit_logger().get_audit_event(id).unwrap().remove(0);
    assert_eq!(event.record.entry, AuditEntry { event_type: "kb_renamed".to_owned(), ..entry });
    assert_eq!((event.record.timestamp, event.record.index, event.resolution), (at(NOON), 0, None));
}

#[test]
fn a_repeated_id_is_a_duplicate_or_a_conflict_also_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    let id = Uuid::from_u128(7);
    let entry = |summary: &str| AuditSubmission {
        event_id: Some(id),
        entry: AuditEntry { changes_summary: Some(summary.to_owned()), ..plain("acme", "x") },
    };
    let logger = engine.audit_logger();
    let outcomes = logger.record_blocking(vec![entry("a"), entry("a"), entry("b")]).unwrap();
    assert_eq!(outcomes, [AuditOutcome::Recorded(id), AuditOutcome::Duplicate(id), AuditOutcome::Conflict]);
    let crashed = crash_copy(folder.path());
    let (engine, _) = open(crashed.path(), at(NOON));
    let mut same = entry("a");
    same.entry.key_id = Some("another key".to_owned());
    let outcomes = engine.audit_logger().record_blocking(vec![same, entry("b")]).unwrap();
    assert_eq!(outcomes, [AuditOutcome::Duplicate(id), AuditOutcome::Conflict], "the key is not the caller's content");
    assert_eq!(all(&engine.audit_logger(), &AuditFilter::default(), 10).len(), 1);
}

#[test]
fn what_is_out_of_bounds_falls_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    let bad = |change: fn(&mut AuditEntry)| {
        let mut entry = plain("acme", "x");
        change(&mut entry);
        AuditSubmission::from(entry)
    };
    let outcomes = engine.audit_logger().record_blocking(vec![
        bad(|entry| entry.event_type = "x".repeat(101)),
        bad(|_| ()),
        bad(|entry| entry.ip_address = Some("nowhere".to_owned())),
        bad(|entry| entry.new_values = Some("{oops".to_owned())),
        bad(|entry| entry.occurred_at = Some(at("2026-11-24T12:05:00.000001Z"))),
        bad(|entry| entry.occurred_at = Some(at("2026-11-24T12:05:00Z"))),
    ]);
    let said: Vec<String> = outcomes
        .unwrap()
        .into_iter()
        .map(|outcome| match outcome {
            AuditOutcome::Rejected(rejection) => rejection.message.split(' ').next().unwrap().to_owned(),
            _ => "ok".to_owned(),
        })
        .collect();
    assert_eq!(said, ["event_type", "ok", "ip_address", "new_values", "occurred_at", "ok"]);
}

#[test]
fn any_filter_finds_what_a_scan_finds_and_pages_do_not_move() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    let words = ["a", "b", "c"];
    for batch in 0..12usize {
        let entries = (0..25usize).map(|n| {
            let pick = |salt: usize| words[(batch * 7 + n * salt + n / 3) % 3].to_owned();
            AuditSubmission::from(AuditEntry {
                tenant_id: (n % 5 > 0).then(|| tenant(&pick(1))),
                event_type: pick(2),
                entity_type: pick(3),
                entity_id: Some(pick(4)),
                action: AuditAction::ALL[(n + batch) % 5],
                actor_type: ActorType::ALL[n % 4],
                actor_id: (n % 2 == 0).then(|| pick(5)),
                result: AuditResult::ALL[(n / 2 + batch) % 3],
                ip_address: Some(format!("10.0.0.{}", n % 4)),
                user_agent: Some(pick(6)),
                request_id: Some(format!("r{batch}-{}", n / 5)),
                ..AuditEntry::default()
            })
        });
        logger.record_blocking(entries.collect()).unwrap();
        clock.advance(1_000_000);
    }
    let everything = all(&logger, &AuditFilter::default(), MAX_RECORDS_PER_PAGE);
    assert_eq!(everything.len(), 300);
    assert!(everything.is_sorted_by(|newer, older| newer.record.index > older.record.index));
    let text = |text: &str| Some(text.to_owned());
    let second = |n: i64| Some(at(NOON).plus_micros(n * 1_000_000));
    let filters = [
        AuditFilter { tenant_id: Some(tenant("a")), ..AuditFilter::default() },
        AuditFilter { event_types: vec!["a".to_owned(), "c".to_owned()], ..AuditFilter::default() },
        AuditFilter { entity_type: text("b"), entity_id: text("a"), ..AuditFilter::default() },
        AuditFilter { action: Some(AuditAction::Delete), tenant_id: Some(tenant("b")), ..AuditFilter::default() },
        AuditFilter { actor_type: Some(ActorType::Admin), actor_id: text("c"), ..AuditFilter::default() },
        AuditFilter {
            result: Some(ResultFilter::Original(AuditResult::Failure)),
            user_agent: text("a"),
            ..AuditFilter::default()
        },
        AuditFilter { result: Some(ResultFilter::Original(AuditResult::Success)), ..AuditFilter::default() },
        AuditFilter { ip_address: text("10.0.0.3"), from: second(3), to: second(9), ..AuditFilter::default() },
        AuditFilter { request_id: text("r7-2"), ..AuditFilter::default() },
        AuditFilter { tenant_id: Some(tenant("nobody")), ..AuditFilter::default() },
        AuditFilter { from: second(11), ..AuditFilter::default() },
    ];
    for filter in filters {
        let wanted: Vec<u64> = everything
            .iter()
            .filter(|event| {
                let time = event.record.timestamp;
                filter.agrees(&event.record.entry)
                    && filter.from.is_none_or(|from| from <= time)
                    && filter.to.is_none_or(|to| time < to)
            })
            .map(|event| event.record.index)
            .collect();
        for limit in [1, 7, 1_000] {
            let found: Vec<u64> = all(&logger, &filter, limit).iter().map(|event| event.record.index).collect();
            assert_eq!(found, wanted, "{filter:?} by {limit}");
        }
    }
    // The last page says that it is the last.
    assert_eq!(logger.get_audit_events(&AuditFilter::default(), None, 300).unwrap().next, None);
    // Between two pages more is written.
    let first = logger.get_audit_events(&AuditFilter::default(), None, 10).unwrap();
    write(&logger, plain("a", "later"));
    let second = logger.get_audit_events(&AuditFilter::default(), first.next, 10).unwrap();
    assert_eq!([first.events, second.events].concat(), everything[..20]);
}

#[test]
fn a_resolution_is_a_record_of_its_own_and_happens_once() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    let id = write(&logger, ErrorAudit::api_error(&tenant("acme"), "/api/chat", 502, "upstream is gone"));
    let before = logger.get_audit_event(id).unwrap().remove(0);
    clock.advance(5_000_000);
    assert!(logger.resolve_audit_event(id, "upstream restarted", Some("ops")).unwrap());
    assert!(!logger.resolve_audit_event(id, "again", Some("ops")).unwrap());
    assert!(!logger.resolve_audit_event(Uuid::from_u128(1), "of nothing", None).unwrap());
    engine.close();

    let (engine, _) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    assert!(!logger.resolve_audit_event(id, "after a restart", None).unwrap());
    let event = logger.get_audit_event(id).unwrap().remove(0);
    assert_eq!(event.record, before.record, "the original stands");
    let resolution = event.resolution.as_ref().unwrap();
    assert_eq!((event.result_name(), resolution.resolution_action.as_str()), ("resolved", "upstream restarted"));
    assert_eq!(resolution.resolved_at, at("2026-11-24T12:00:05Z"));
    // Failures go by the original result.
    let failed = logger.get_failed_operations(Some(&tenant("acme")), 10).unwrap();
    assert_eq!(failed, std::slice::from_ref(&event));
    let resolved = AuditFilter { result: Some(ResultFilter::Resolved), ..AuditFilter::default() };
    assert_eq!(all(&logger, &resolved, 10), [event]);
    let trail = logger.get_tenant_audit_trail(&tenant("acme"), 7, 50).unwrap();
    let own = &trail[0].record.entry;
    assert_eq!((trail.len(), own.event_type.as_str()), (2, "audit_event_resolved"));
    assert_eq!((own.entity_id.clone(), own.actor_id.as_deref()), (Some(id.to_string()), Some("ops")));
}

#[test]
fn of_many_who_resolve_at_once_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    let id = write(&logger, plain("acme", "x"));
    let resolved = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let logger = logger.clone();
                scope.spawn(move || logger.resolve_audit_event(id, &format!("by {n}"), None).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|resolved| *resolved).count()
    });
    assert_eq!(resolved, 1);
}

#[test]
fn the_documented_builders_write_the_documented_types() {
    let acme = tenant("acme");
    let values = |text: &Option<String>| serde_json::from_str::<Value>(text.as_deref().unwrap()).unwrap();
    let upgraded = TrialAudit::upgraded(&acme, "trial", "pro");
    assert_eq!(values(&upgraded.old_values), json!({"plan": "trial"}));
    assert_eq!(values(&upgraded.new_values), json!({"plan": "pro"}));
    assert_eq!(upgraded.changes_summary.as_deref(), Some("Plan upgraded from trial to pro"));
    let exceeded = ErrorAudit::quota_exceeded(&acme, "tokens", 100, 90, 30);
    let documented = json!({"quota_type": "tokens", "limit": 100, "used": 90, "exceeded_by": 20});
    assert_eq!((values(&exceeded.new_values), exceeded.result), (documented, AuditResult::Failure));

    let entries = [
        (TrialAudit::created(&acme, "trial"), "trial_created", "trial"),
        (upgraded, "trial_upgraded", "trial"),
        (TrialAudit::extended(&acme, None, at(NOON)), "trial_extended", "trial"),
        (TrialAudit::expired(&acme), "trial_expired", "trial"),
        (TrialAudit::cancelled(&acme, None), "trial_cancelled", "trial"),
        (KbAudit::uploaded(&acme, "kb", "a.pdf", 9), "kb_uploaded", "knowledge_base"),
        (KbAudit::upload_failed(&acme, "kb", "a.pdf", "too large"), "kb_upload_failed", "knowledge_base"),
        (KbAudit::crawled(&acme, "c1", "https://example.org", 9, 1), "kb_crawled", "crawl_job"),
        (KbAudit::manual_added(&acme, "kb", "FAQ"), "kb_manual_added", "knowledge_base"),
        (KbAudit::deleted(&acme, "kb"), "kb_deleted", "knowledge_base"),
        (ChatAudit::session_created(&acme, "s1", Some("v")), "chat_session_created", "chat_session"),
        (ChatAudit::message_received(&acme, "s1", None, 12), "chat_message_received", "chat_session"),
        (ChatAudit::response_sent(&acme, "s1", 90, 800), "chat_response_sent", "chat_session"),
        (ChatAudit::session_ended(&acme, "s1", 4), "chat_session_ended", "chat_session"),
        (ConfigAudit::branding_updated(&acme, "ann", &json!({}), &json!({})), "branding_updated", "widget_config"),
        (ConfigAudit::tools_assigned(&acme, "ann", &["search"]), "tools_assigned", "widget_config"),
        (ConfigAudit::widget_generated(&acme, "ann", "w1"), "widget_generated", "widget_config"),
        (ErrorAudit::api_error(&acme, "/api/chat", 500, "down"), "api_error", "api_endpoint"),
        (exceeded, "quota_exceeded", "usage_quota"),
        (ErrorAudit::security_violation(&acme, "/", "bad key", Some("10.0.0.1")), "security_violation", "api_endpoint"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    for (entry, event_type, entity_type) in &entries {
        assert_eq!((entry.event_type.as_str(), entry.entity_type.as_str()), (*event_type, *entity_type));
        write(&logger, entry.clone());
    }
    let security = logger.get_security_events(Some(&acme), 10).unwrap();
    let types: Vec<&str> = security.iter().map(|event| event.record.entry.event_type.as_str()).collect();
    assert_eq!(types, ["security_violation", "quota_exceeded"]);
    assert_eq!(logger.get_security_events(None, 1).unwrap().len(), 1);

    let report = logger.generate_audit_report(&acme, at(NOON), at("2026-11-25T00:00:00Z")).unwrap();
    assert_eq!((report.total, report.events.len(), report.failures, report.successes), (20, 20, 4, 15));
    assert_eq!((report.by_type["kb_crawled"], report.by_action["error"]), (1, 4));
    assert!(logger.generate_audit_report(&acme, at(NOON), at(NOON)).is_err());

    clock.advance(8 * MICROS_PER_DAY);
    assert_eq!(logger.get_tenant_audit_trail(&acme, 7, 50).unwrap(), []);
    assert_eq!(logger.get_tenant_audit_trail(&acme, 9, 5).unwrap().len(), 5);
}

#[test]
fn retention_takes_what_is_strictly_older_at_most_seven_days_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2024-11-24T12:00:00Z"));
    let logger = engine.audit_logger();
    let ids: Vec<Uuid> = (0..30)
        .map(|_| {
            let id = write(&logger, plain("acme", "x"));
            clock.advance(MICROS_PER_DAY);
            id
        })
        .collect();
    assert!(logger.resolve_audit_event(ids[0], "done", None).unwrap());
    clock.set(at("2026-11-24T12:00:00Z"));
    let run = || logger.cleanup_old_audit_events().unwrap().rows_removed;
    assert_eq!(run(), 0, "exactly two years old is not older");
    clock.set(at("2026-12-20T12:00:00Z"));
    let left = |logger: &AuditLogger| {
        let filter = AuditFilter { event_types: vec!["x".to_owned()], ..AuditFilter::default() };
        all(logger, &filter, 1_000).len()
    };
    let (mut removed, mut gone) = (Vec::new(), 0);
    for _ in 0..5 {
        let step = run();
        gone += step as usize;
        removed.push(step);
        assert_eq!(left(&logger), 30 - gone);
    }
    assert_eq!(removed, [7, 7, 7, 5, 0], "26 of 30 days lie before the cut");
    assert!(logger.get_audit_event(ids[25]).unwrap().is_empty());
    assert_eq!(logger.get_audit_event(ids[26]).unwrap().len(), 1);
    assert!(!logger.resolve_audit_event(ids[3], "too late", None).unwrap());
    // Its id may be used again; the numbers go on.
    let again = AuditSubmission { event_id: Some(ids[3]), entry: plain("acme", "again") };
    assert_eq!(logger.record_blocking(vec![again]).unwrap(), [AuditOutcome::Recorded(ids[3])]);
    engine.close();
    let records = audit_of(folder.path());
    assert_eq!(records.first().unwrap().index, 26);
    assert_eq!(records.last().unwrap().index, 31);
}

#[test]
fn a_log_that_retention_emptied_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, clock) = open(folder.path(), at("2024-11-01T12:00:00Z"));
    for _ in 0..3 {
        write(&engine.audit_logger(), plain("acme", "x"));
    }
    clock.set(at("2026-12-01T12:00:00Z"));
    assert_eq!(engine.audit_logger().cleanup_old_audit_events().unwrap().rows_removed, 3);
    engine.close();
    assert_eq!(audit_of(folder.path()), []);
    let (engine, _) = open(folder.path(), at("2026-12-01T12:00:00Z"));
    write(&engine.audit_logger(), plain("acme", "x"));
    engine.close();
    assert_eq!(audit_of(folder.path())[0].index, 3);
}

#[test]
fn two_tenants_may_use_the_same_id_and_neither_learns_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    let id = Uuid::from_u128(77);
    let write = |name: &str, plan: &str| {
        let entry = TrialAudit::created(&tenant(name), plan);
        logger.record_blocking(vec![AuditSubmission { event_id: Some(id), entry }]).unwrap().remove(0)
    };
    assert_eq!(write("acme", "pro"), AuditOutcome::Recorded(id));
    assert_eq!(write("globex", "starter"), AuditOutcome::Recorded(id));
    assert_eq!(write("globex", "starter"), AuditOutcome::Duplicate(id));
    assert_eq!(write("globex", "pro"), AuditOutcome::Conflict);
    assert_eq!(logger.get_audit_event(id).unwrap().len(), 2);

    // Without a tenant it is not known which of the two is meant.
    assert!(!logger.resolve_audit_event(id, "done", None).unwrap());
    let globex = tenant("globex");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let resolve =
        |tenant| runtime.block_on(logger.resolve(id, tenant, "done", &metergate::tenants::Actor::SYSTEM)).unwrap();
    assert_eq!(resolve(None), ResolveOutcome::Ambiguous);
    assert_eq!(resolve(Some(&globex)), ResolveOutcome::Resolved);
    assert_eq!(resolve(Some(&globex)), ResolveOutcome::AlreadyResolved);
    assert_eq!(resolve(Some(&tenant("initech"))), ResolveOutcome::Unknown);
    let resolved = |event: &AuditEvent| event.resolution.is_some();
    let events = logger.get_audit_event(id).unwrap();
    assert_eq!(events.iter().filter(|event| resolved(event)).count(), 1);
    assert!(events.iter().any(|event| resolved(event) && event.record.entry.tenant_id == Some(globex.clone())));
}

#[test]
fn what_sampling_leaves_out_is_counted_in_the_log_and_a_retry_fares_as_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = EngineSettings::new(folder.path());
    settings.audit_sampling = "chat_message_received=0.25".parse().unwrap();
    let clock = Clock::manual(at(NOON));
    let engine = Metergate::open_at(settings, |_| clock.clone()).unwrap();
    let logger = engine.audit_logger();
    let submit = |n: u128, entry: AuditEntry| {
        let entries = vec![AuditSubmission { event_id: Some(Uuid::from_u128(n)), entry }];
        logger.record_blocking(entries).unwrap().remove(0)
    };
    let message = || plain("acme", "chat_message_received");
    let first: Vec<AuditOutcome> = (0..400).map(|n| submit(n, message())).collect();
    let left_out = first.iter().filter(|outcome| **outcome == AuditOutcome::SampledOut).count();
    assert!((240..=360).contains(&left_out), "{left_out} of 400, where 300 are to be expected");
    for (n, before) in (0..400).zip(&first) {
        let again = submit(n, message());
        match before {
            AuditOutcome::SampledOut => assert_eq!(again, AuditOutcome::SampledOut),
            _ => assert_eq!(again, AuditOutcome::Duplicate(Uuid::from_u128(n))),
        }
    }
    let failed = AuditEntry { result: AuditResult::Failure, ..message() };
    assert!((500..600).all(|n| submit(n, failed.clone()) == AuditOutcome::Recorded(Uuid::from_u128(n))));
    assert!((600..700).all(|n| submit(n, plain("acme", "kb_uploaded")) == AuditOutcome::Recorded(Uuid::from_u128(n))));
    engine.close();

    let (engine, _) = open(folder.path(), at(NOON));
    let logger = engine.audit_logger();
    let of = |event_type: &str| {
        let filter = AuditFilter { event_types: vec![event_type.to_owned()], ..AuditFilter::default() };
        all(&logger, &filter, 1_000)
    };
    assert_eq!(of("chat_message_received").len(), 400 - left_out + 100);
    let told = of("audit_sampled_out").remove(0);
    let values: Value = serde_json::from_str(told.record.entry.new_values.as_deref().unwrap()).unwrap();
    assert_eq!((&values["sampled_out"], &values["share_kept"]), (&json!(2 * left_out), &json!("0.25")));
}
