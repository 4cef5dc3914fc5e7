//! What the server holds, compared with a client's list: everything acknowledged once, nothing else but what is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::Value;

use super::client::{Client, GATES};
use super::work::{Shape, Work, settled_id};

/// What is asked for in one page.
const PAGE: usize = 1_000;
/// Lines of a stream that are one commit.
const LINES_PER_COMMIT: usize = 1_000;

/// Compares, asks again for what is unknown, and compares again; after that nothing is unknown. An error: the server is gone.
pub fn settle_up(client: &mut Client, since: &str, same_day: bool) -> io::Result<()> {
    let there = compare(client, since, same_day, &client.own_tenants())?;
    let known: Vec<u64> = client.unknown.iter().map(|work| present(work, &there)).collect();
    let touched: BTreeSet<String> = client.unknown.iter().filter_map(tenant_of).map(str::to_owned).collect();
    let touches = !client.unknown.is_empty();
    client.repeat(&known)?;
    if touches {
        let own: Vec<String> = client.own_tenants().into_iter().filter(|tenant| touched.contains(tenant)).collect();
        compare(client, since, same_day, &own)?;
    }
    client.list.recent.clear();
    client.list.recent_audit.clear();
    client.list.recent_changes.clear();
    Ok(())
}

/// Ids of events and audit records that are there although it was not known whether they are.
type There = BTreeSet<String>;

/// How many of its events or records are there.
fn present(work: &Work, there: &There) -> u64 {
    let count = |ids: &mut dyn Iterator<Item = &String>| ids.filter(|id| there.contains(*id)).count() as u64;
    match work {
        Work::Events { events, .. } => count(&mut events.iter().map(|(id, _)| id)),
        Work::Settle { id, .. } => u64::from(there.contains(&settled_id(id))),
        Work::Audit { ids } => count(&mut ids.iter()),
        _ => 0,
    }
}

/// The tenant that it changes.
fn tenant_of(work: &Work) -> Option<&str> {
    match work {
        Work::Events { tenant, .. } | Work::Reserve { tenant, .. } | Work::Settle { tenant, .. } => Some(tenant),
        Work::Release { tenant, .. } | Work::Limit { tenant, .. } | Work::Enforce { tenant } => Some(tenant),
        Work::Audit { .. } | Work::Resolve { .. } | Work::Aggregate | Work::BackUp | Work::Verify => None,
    }
}

/// These tenants of its own, the gates and its audit records.
fn compare(client: &mut Client, since: &str, same_day: bool, own: &[String]) -> io::Result<There> {
    let mut there = There::new();
    for tenant in own.iter().map(String::as_str).chain(GATES) {
        compare_events(client, tenant, Some(since), &mut there)?;
    }
    nothing_by_half(client, &there);
    for tenant in own {
        compare_sums(client, tenant, &there)?;
        compare_quota(client, tenant, same_day, &there)?;
        compare_changes(client, tenant, since)?;
    }
    compare_audit(client, Some(since), &mut there)?;
    nothing_by_half(client, &there);
    Ok(there)
}

/// Every event of every tenant of its own, from the beginning.
pub fn compare_all(client: &mut Client, same_day: bool) -> io::Result<()> {
    assert!(client.unknown.is_empty());
    let mut there = There::new();
    for tenant in client.own_tenants() {
        client.list.recent = client
            .list
            .events
            .get(&tenant)
            .into_iter()
            .flat_map(|events| events.keys().map(|id| (tenant.clone(), id.clone())))
            .collect();
        compare_events(client, &tenant, None, &mut there)?;
        compare_sums(client, &tenant, &there)?;
        compare_quota(client, &tenant, same_day, &there)?;
    }
    client.list.recent_audit = client.list.audit.keys().cloned().collect();
    compare_audit(client, None, &mut there)?;
    assert!(there.is_empty());
    Ok(())
}

/// The tenant's events: each once, as it was sent, all that were acknowledged; and which of the unknown ones are there.
fn compare_events(client: &mut Client, tenant: &str, since: Option<&str>, there: &mut There) -> io::Result<()> {
    let who = format!("client {}, tenant {tenant}", client.number);
    let mine = format!("c{}-", client.number);
    let mut unknown: BTreeMap<String, u64> = BTreeMap::new();
    for work in &client.unknown {
        match work {
            Work::Events { tenant: of, events, .. } if of == tenant => unknown.extend(events.iter().cloned()),
            Work::Settle { tenant: of, id, tokens, .. } if of == tenant => unknown.extend([(settled_id(id), *tokens)]),
            _ => {}
        }
    }
    let start = since.map(|since| format!("&startDate={since}")).unwrap_or_default();
    let events = pages(client, &format!("/api/usage/{tenant}/events?limit={PAGE}{start}"))?;
    let mut seen = BTreeSet::new();
    for event in events {
        let id = event["event_id"].as_str().unwrap_or_default().to_owned();
        if !id.starts_with(&mine) {
            assert!(GATES.contains(&tenant), "{who}: nobody recorded {event}");
            continue;
        }
        let known = client.list.events.get(tenant).and_then(|known| known.get(&id)).or(unknown.get(&id));
        assert_eq!(event["tokens_consumed"].as_u64(), known.copied(), "{who}: {event}");
        if unknown.contains_key(&id) {
            there.insert(id.clone());
        }
        assert!(seen.insert(id), "{who}: it is there twice: {event}");
    }
    let recent = client.list.recent.iter().filter(|(of, _)| of == tenant);
    let lost: Vec<_> = recent.filter(|(_, id)| !seen.contains(id)).collect();
    assert!(lost.is_empty(), "{who}: {} acknowledged events are lost, the first is {:?}", lost.len(), lost[0]);
    Ok(())
}

/// A commit is there or it is not.
fn nothing_by_half(client: &Client, there: &There) {
    for work in &client.unknown {
        let commits: Vec<Vec<&String>> = match work {
            Work::Events { events, shape: Shape::Lines, .. } => {
                events.chunks(LINES_PER_COMMIT).map(|chunk| chunk.iter().map(|(id, _)| id).collect()).collect()
            }
            Work::Events { events, .. } => vec![events.iter().map(|(id, _)| id).collect()],
            Work::Audit { ids } if ids.iter().any(|id| there.contains(id)) => vec![ids.iter().collect()],
            _ => continue,
        };
        let mut before = true;
        for ids in commits {
            let count = ids.iter().filter(|id| there.contains(**id)).count();
            assert!(
                count == 0 || before && count == ids.len(),
                "by half: {count} of {} are there of {work:?}",
                ids.len()
            );
            before = count > 0;
        }
    }
}

/// The daily rows of all time.
fn compare_sums(client: &mut Client, tenant: &str, there: &There) -> io::Result<()> {
    let (mut events, mut tokens, _) = client.list.sums(tenant);
    for work in &client.unknown {
        match work {
            Work::Events { tenant: of, events: sent, .. } if of == tenant => {
                for (_, more) in sent.iter().filter(|(id, _)| there.contains(id)) {
                    (events, tokens) = (events + 1, tokens + more);
                }
            }
            Work::Settle { tenant: of, id, tokens: more, .. } if of == tenant && there.contains(&settled_id(id)) => {
                (events, tokens) = (events + 1, tokens + more);
            }
            _ => {}
        }
    }
    let rows = client.get(&format!("/api/usage/{tenant}?period=daily"))?.json();
    let sum = |column: &str| {
        let rows = rows["usage"].as_array().unwrap_or_else(|| panic!("no rows in {rows}"));
        rows.iter().map(|row| row[column].as_u64().unwrap_or_else(|| panic!("no {column} in {row}"))).sum::<u64>()
    };
    let seen = (sum("api_calls_total"), sum("total_tokens_used"));
    assert_eq!(seen, (events, tokens), "client {}: events and tokens of {tenant}", client.number);
    Ok(())
}

/// Limit, used and held of today.
fn compare_quota(client: &mut Client, tenant: &str, same_day: bool, there: &There) -> io::Result<()> {
    let quota = client.get(&format!("/api/quota/{tenant}"))?.json()["quotas"]["tokens"].take();
    let seen = |name: &str| quota[name].as_u64();
    let who = format!("client {}, tenant {tenant}: {quota}, unknown {:?}", client.number, client.unknown);
    let mut limits = vec![client.list.limits.get(tenant).copied()];
    let (_, mut used, held) = client.list.sums(tenant);
    // What may be held: each reservation and release that is unknown was done, or was not.
    let mut may_be_held = BTreeSet::from([held]);
    for work in &client.unknown {
        match work {
            Work::Limit { tenant: of, limit, .. } if of == tenant => limits.push(Some(*limit)),
            Work::Reserve { tenant: of, tokens, .. } if of == tenant => {
                may_be_held = may_be_held.iter().flat_map(|held| [*held, held + tokens]).collect();
            }
            Work::Release { tenant: of, held: less, .. } if of == tenant => {
                may_be_held = may_be_held.iter().flat_map(|held| [*held, held - less]).collect();
            }
            // A settlement is one commit: its event and the end of the hold.
            Work::Settle { tenant: of, id, held: less, tokens } if of == tenant && there.contains(&settled_id(id)) => {
                used += tokens;
                may_be_held = may_be_held.iter().map(|held| held - less).collect();
            }
            Work::Events { tenant: of, events, .. } if of == tenant => {
                used += events.iter().filter(|(id, _)| there.contains(id)).map(|(_, tokens)| tokens).sum::<u64>();
            }
            _ => {}
        }
    }
    assert!(limits.contains(&seen("limit")), "{who}: the limit is one of {limits:?}");
    if same_day {
        assert_eq!(seen("used"), Some(used), "{who}");
        if tenant != client.enforcing() {
            let held = quota_held(&quota);
            assert!(may_be_held.contains(&held), "{who}: {held} held, not one of {may_be_held:?}");
        }
    }
    Ok(())
}

/// What is held of a limit.
pub fn quota_held(quota: &Value) -> u64 {
    quota["held"].as_u64().unwrap_or_else(|| panic!("nothing is said of what is held in {quota}"))
}

/// A change of a limit and its audit record are one commit: the record is there once, where the change was acknowledged.
fn compare_changes(client: &mut Client, tenant: &str, since: &str) -> io::Result<()> {
    let path =
        format!("/api/audit/events?event_type=quota_override_set&tenant_id={tenant}&limit={PAGE}&startDate={since}");
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for event in pages(client, &path)? {
        *seen.entry(event["request_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    for work in client.unknown.clone() {
        let Work::Limit { tenant: of, limit, change } = &work else { continue };
        if of == tenant {
            let quota = client.get(&format!("/api/quota/{tenant}"))?.json();
            let changed = quota["quotas"]["tokens"]["limit"].as_u64() == Some(*limit);
            let records = seen.get(change).copied().unwrap_or_default();
            assert!((records > 0) == changed, "client {}: {records} audit records of {work:?}", client.number);
        }
    }
    for (of, change) in &client.list.recent_changes {
        // One that was asked for again may have been done before.
        let records = seen.get(change).copied().unwrap_or_default();
        let most = if client.list.repeated_changes.contains(change) { u64::MAX } else { 1 };
        let told = format!("client {}: {records} audit records of {change}", client.number);
        assert!(of != tenant || (1..=most).contains(&records), "{told}");
    }
    Ok(())
}

/// The client's audit records: each once, resolved where that was acknowledged; and which of the unknown ones are there.
fn compare_audit(client: &mut Client, since: Option<&str>, there: &mut There) -> io::Result<()> {
    let (mut unknown, mut resolving) = (BTreeSet::new(), BTreeSet::new());
    for work in &client.unknown {
        match work {
            Work::Audit { ids } => unknown.extend(ids.iter().cloned()),
            Work::Resolve { id } => resolving.extend([id.clone()]),
            _ => {}
        }
    }
    let start = since.map(|since| format!("&startDate={since}")).unwrap_or_default();
    let path = format!("/api/audit/events?event_type=kills&entity_id={}&limit={PAGE}{start}", client.name());
    let mut seen = BTreeSet::new();
    for event in pages(client, &path)? {
        let id = event["event_id"].as_str().unwrap_or_default().to_owned();
        match client.list.audit.get(&id) {
            Some(resolved) => {
                let is_resolved = event["result"] == "resolved";
                assert!(is_resolved == *resolved || is_resolved && resolving.contains(&id), "{resolved}: {event}");
            }
            None => {
                assert!(unknown.contains(&id), "client {}: nobody wrote {event}", client.number);
                there.insert(id.clone());
            }
        }
        assert!(seen.insert(id), "client {}: it is there twice: {event}", client.number);
    }
    let lost: Vec<_> = client.list.recent_audit.difference(&seen).collect();
    assert!(
        lost.is_empty(),
        "client {}: {} acknowledged audit records are lost: {:?}",
        client.number,
        lost.len(),
        lost[0]
    );
    Ok(())
}

/// All that a list holds, page by page.
fn pages(client: &mut Client, path: &str) -> io::Result<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut page = client.get(&format!("{path}{cursor}"))?.json();
        let Value::Array(events) = page["events"].take() else { panic!("no events in {page}") };
        all.extend(events);
        match page["next_cursor"].as_str() {
            None => return Ok(all),
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}
