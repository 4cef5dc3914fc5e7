//! Comparisons of everything that can be read with the model.

use std::collections::{BTreeMap, BTreeSet};

use metergate::domain::audit::{AuditEvent, AuditFilter};
use metergate::domain::quota::LimitState;
use metergate::domain::tenant::TenantStatus;
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR, PeriodType, Timestamp};
use metergate::rules::alerts::{THRESHOLD_CROSSED, crossing_of};
use metergate::tracker::EventQuery;

use super::model::CEILINGS;
use super::rows::rows;
use super::steps::EVENT_TYPE;
use super::world::{MARKER, World, tenant_id};

impl World {
    fn names(&self) -> Vec<String> {
        self.model.tenants.keys().filter(|name| *name != MARKER).cloned().collect()
    }

    /// Quotas and today's usage of everybody, and the platform's ceilings.
    pub fn look_at_quotas(&mut self) {
        self.counts.comparisons += 1;
        for name in self.names() {
            self.look_at_quota(&name);
        }
        let seen = self.engine().writer().shared().platform_status();
        let seen = seen.iter().map(|state| (state.quota_type, state.window, state.used, state.held));
        let wanted = CEILINGS.map(|(quota_type, window, _)| {
            let (used, held) = self.model.platform(quota_type, window);
            (quota_type, window, used, held)
        });
        self.same("the platform", seen.collect::<Vec<_>>(), wanted.to_vec());
    }

    fn look_at_quota(&mut self, name: &str) {
        let status = self.engine().quota_enforcer().get_quota_status(&tenant_id(name));
        let today = self.engine().usage_tracker().get_today_usage(&tenant_id(name));
        if self.model.is_deleted(name) {
            return self
                .require(status.is_err() && today.is_err(), || format!("{name} is deleted, and read: {status:?}"));
        }
        let status = status.unwrap_or_else(|error| self.fail(error));
        let today = today.unwrap_or_else(|error| self.fail(error));
        self.same("the status", status.status, self.model.tenant(name).status_at(self.now()));
        self.same("the plan", &status.plan, &self.model.tenant(name).plan);
        let limits = self.model.limits(name);
        let in_force = status.limits.iter().filter(|state| state.limit.is_some());
        let in_force: Vec<_> = in_force.map(|state| (state.quota_type, state.window, state.limit)).collect();
        let wanted: Vec<_> = limits.iter().map(|limit| (limit.quota_type, limit.window, Some(limit.limit))).collect();
        self.same(name, in_force, wanted);
        for LimitState { quota_type, window, used, held, resets_at, .. } in &status.limits {
            let wanted = self.model.tenant(name).counted(*quota_type, *window, self.now());
            self.require((*used, *held) == wanted, || {
                format!("{name}, {quota_type} a {window}: {used} used and {held} held, not {wanted:?}")
            });
            let tenant = self.model.tenant(name);
            match window {
                metergate::domain::quota::Window::Day => self.same("the end of the day", *resets_at, tenant.day.end),
                metergate::domain::quota::Window::Month => {
                    self.same("the end of the month", *resets_at, tenant.month.end)
                }
                metergate::domain::quota::Window::Minute => {}
            }
        }
        let row = rows(self.model.tenant(name), PeriodType::Daily).remove(&today.period.start()).unwrap_or_default();
        if let Some(difference) = row.differs_from(&today) {
            self.fail(format!("{name} today: {difference}"));
        }
        self.trace.add(format!("{name}: {:?} {}", status.limits, today.total_tokens_used));
    }

    /// Everything: rows of all periods, raw events, the audit log, and what verifies itself.
    pub fn look_at_everything(&mut self) {
        self.look_at_quotas();
        for name in self.names() {
            if self.model.tenant(&name).status != TenantStatus::Deleted {
                let from = self.now().plus_micros(-2 * MICROS_PER_DAY);
                self.look_at_rows(&name, PeriodType::Hourly, from);
                self.look_at_rows(&name, PeriodType::Daily, Timestamp::default());
                self.look_at_rows(&name, PeriodType::Monthly, Timestamp::default());
                self.look_at_events(&name);
            }
        }
        self.look_at_the_log();
    }

    /// At the end: also every hourly row, and what the engine says of itself.
    pub fn look_at_the_end(&mut self) {
        self.look_at_everything();
        for name in self.names() {
            if self.model.tenant(&name).status != TenantStatus::Deleted {
                self.look_at_rows(&name, PeriodType::Hourly, Timestamp::default());
            }
        }
        let verified = self.engine().usage_tracker().verify().unwrap_or_else(|error| self.fail(error));
        self.require(verified.differences.is_empty(), || format!("rows differ: {:?}", verified.differences));
    }

    fn look_at_rows(&mut self, name: &str, period: PeriodType, from: Timestamp) {
        let to = self.now().plus_micros(MICROS_PER_DAY);
        let seen = self.engine().usage_tracker().get_tenant_usage(&tenant_id(name), from, to, period);
        let seen = seen.unwrap_or_else(|error| self.fail(error));
        let wanted = rows(self.model.tenant(name), period);
        let wanted: BTreeMap<_, _> = wanted.into_iter().filter(|(start, _)| *start >= from).collect();
        let starts: Vec<Timestamp> = seen.iter().map(|row| row.period.start()).collect();
        let wanted_starts: Vec<Timestamp> = wanted.keys().rev().copied().collect();
        self.require(starts == wanted_starts, || {
            format!("{name} has {} rows by {}: {starts:?}, not {wanted_starts:?}", period.name(), starts.len())
        });
        for row in seen {
            if let Some(difference) = wanted[&row.period.start()].differs_from(&row) {
                self.fail(format!("{name}, {} from {}: {difference}", period.name(), row.period.start()));
            }
            self.trace.add(format!(
                "{name} {} {} {:?}",
                row.period.start(),
                row.total_tokens_used,
                row.estimated_cost_usd
            ));
        }
    }

    fn look_at_events(&mut self, name: &str) {
        let to = self.now().plus_micros(MICROS_PER_HOUR);
        let mut query = EventQuery { from: Timestamp::default(), to, event_type: None, limit: 61, after: None };
        let mut seen = Vec::new();
        loop {
            let page = self.engine().usage_tracker().get_tenant_events(&tenant_id(name), &query);
            let page = page.unwrap_or_else(|error| self.fail(error));
            for recorded in page.events {
                let id = recorded.event_id_given.then(|| recorded.event_id.to_string());
                let cost = recorded.event.cost().map(|cost| cost.femtos());
                seen.push((recorded.event_timestamp, id, recorded.event.tokens(), cost));
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let events = self.model.tenant(name).events.iter().enumerate().filter(|(_, event)| event.at >= self.model.cut);
        let mut wanted: Vec<_> = events.collect();
        wanted.sort_by_key(|(place, event)| std::cmp::Reverse((event.at, *place)));
        let wanted = wanted.into_iter().map(|(_, event)| {
            let id = event.given.event_id.as_ref().map(ToString::to_string);
            (event.at, id, event.given.tokens(), event.cost)
        });
        self.same(name, seen, wanted.collect());
    }

    fn log_of(&self, event_type: &str) -> Vec<AuditEvent> {
        let filter = AuditFilter { event_types: vec![event_type.to_owned()], ..AuditFilter::default() };
        let (mut before, mut events) = (None, Vec::new());
        loop {
            let page = self.engine().audit_logger().get_audit_events(&filter, before, 1_000);
            let page = page.unwrap_or_else(|error| self.fail(error));
            events.extend(page.events);
            before = page.next;
            if before.is_none() {
                events.reverse();
                return events;
            }
        }
    }

    fn look_at_the_log(&mut self) {
        let of = |event: &AuditEvent| event.record.entry.tenant_id.as_ref().map_or(String::new(), ToString::to_string);
        let own = self.log_of(EVENT_TYPE).into_iter().map(|event| {
            let summary = event.record.entry.changes_summary.clone().unwrap_or_default();
            (event.record.event_id, of(&event), summary, event.record.timestamp, event.resolution.is_some())
        });
        let visible = self.model.log.own.iter().filter(|own| own.at >= self.model.log.cut);
        let wanted = visible.map(|own| (own.id, own.tenant.clone(), own.summary.clone(), own.at, own.resolved));
        self.same("own records", own.collect::<Vec<_>>(), wanted.collect());

        let mut denials = Vec::new();
        for event in self.log_of("quota_exceeded") {
            let values = event.record.entry.new_values.as_deref().unwrap_or_default();
            let values: serde_json::Value = serde_json::from_str(values).unwrap_or_default();
            let count = values["denials"].as_u64().unwrap_or_default();
            denials.push((of(&event), event.record.entry.entity_id.clone().unwrap_or_default(), count));
        }
        let mut wanted = self.model.log.denials.clone();
        denials.sort();
        wanted.sort();
        self.same("records of denials", denials, wanted);

        let mut expiries: Vec<String> = self.log_of("trial_expired").iter().map(of).collect();
        let mut wanted = self.model.log.expiries.clone();
        expiries.sort();
        wanted.sort();
        self.same("records of expiries", expiries, wanted);

        let mut crossed = BTreeSet::new();
        for event in self.log_of(THRESHOLD_CROSSED).iter().filter(|event| of(event) != MARKER) {
            let Some(crossing) = crossing_of(&event.record.entry) else { self.fail("a crossing cannot be read") };
            let found = (
                of(event),
                crossing.quota_type,
                crossing.window,
                crossing.window_start,
                crossing.percent,
                crossing.limit,
            );
            self.require(self.model.log.may.contains(&found), || format!("not crossed, and recorded: {found:?}"));
            self.require(crossed.insert(found.clone()), || format!("recorded twice: {found:?}"));
        }
        let missing = self.model.log.must.difference(&crossed).next();
        self.require(missing.is_none(), || format!("crossed, and not recorded: {missing:?}"));

        let audit = self.engine().audit_logger().verify_audit(self.checkpoint.as_deref(), None);
        let audit = audit.unwrap_or_else(|error| self.fail(error));
        self.require(audit.is_whole(), || format!("the audit log is not whole: {audit:?}"));
        self.trace.add(format!("{} records in the log", audit.check.size));
    }
}
