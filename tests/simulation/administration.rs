//! What administrators and jobs do.

use metergate::audit::AuditError;
use metergate::domain::quota::{Limit, Mode, Plan, QuotaType, Window};
use metergate::domain::schedule::Schedule;
use metergate::domain::tenant::{TenantChange, TenantPut, TenantStatus};
use metergate::domain::time::{MICROS_PER_DAY, MICROS_PER_HOUR};
use metergate::jobs::Jobs;
use metergate::rules::plan_changes::PlanChange;
use metergate::rules::prices::own_rates;
use metergate::tenants::Actor;
use metergate::tracker::MaintainError;

use super::model::{Model, Terms};
use super::world::{Again, World};

/// Changes of one tenant's prices: fewer than it may have.
const TERMS_MAX: usize = 15;

/// A plan's name, and what it limits.
type PlanLimits = (&'static str, &'static [(QuotaType, Window, u64)]);

/// Plans whose limits change.
pub const PLANS: [PlanLimits; 2] = [
    (
        "small",
        &[
            (QuotaType::Tokens, Window::Minute, 5_000),
            (QuotaType::Tokens, Window::Day, 12_000),
            (QuotaType::Tokens, Window::Month, 150_000),
            (QuotaType::ApiCalls, Window::Minute, 9),
        ],
    ),
    (
        "priced",
        &[
            (QuotaType::ApiCalls, Window::Day, 60),
            (QuotaType::ChatMessages, Window::Day, 9),
            (QuotaType::Embeddings, Window::Month, 60),
            (QuotaType::Cost, Window::Day, 20_000_000_000_000),
            (QuotaType::Cost, Window::Month, 150_000_000_000_000),
        ],
    ),
];

impl World {
    pub fn change_plan(&mut self) {
        let (name, limits) = PLANS[self.random.below(PLANS.len() as u64) as usize];
        let random = &mut self.random;
        let percent = 50 + random.below(151);
        let limit = |(quota_type, window, limit): &(QuotaType, Window, u64)| Limit {
            quota_type: *quota_type,
            window: *window,
            limit: u128::from(*limit) * u128::from(percent) / 100,
            observe: false,
        };
        self.put_plan(name, limits.iter().map(limit).collect());
        self.note(format!("plan {name} at {percent} %"));
    }

    pub fn put_plan(&mut self, name: &str, limits: Vec<Limit>) {
        let change = PlanChange::Put(Plan::new(name, limits.clone()));
        if let Err(error) = self.engine().tenants().change_plan_blocking(change, &Actor::named("a step")) {
            self.fail(format!("plan {name}: {error}"));
        }
        self.model.plans.insert(name.to_owned(), limits);
    }

    pub fn change_override(&mut self) {
        let Some(name) = self.living_tenant() else { return };
        let kinds = [
            (QuotaType::Tokens, Window::Day, 15_000),
            (QuotaType::Tokens, Window::Month, 200_000),
            (QuotaType::Tokens, Window::Minute, 4_000),
            (QuotaType::ApiCalls, Window::Minute, 12),
            (QuotaType::Cost, Window::Day, 30_000_000_000_000),
        ];
        let (quota_type, window, about) = *self.random.pick(&kinds).unwrap();
        if self.random.below(4) == 0 {
            self.change(&name, TenantChange::RemoveOverride { quota_type, window });
            self.model.tenant_mut(&name).overrides.remove(&(quota_type, window));
            return self.note(format!("{name} has no {quota_type} a {window} of its own"));
        }
        let limit = (self.random.below(8) > 0).then(|| u128::from(about * (20 + self.random.below(180)) / 100));
        let hours = 1 + self.random.below(70) as i64;
        let until = self.random.coin().then(|| self.now().plus_micros(hours * MICROS_PER_HOUR));
        let reason = Some("a step".to_owned());
        self.change(&name, TenantChange::SetOverride { quota_type, window, limit, reason, until });
        self.model.tenant_mut(&name).overrides.insert((quota_type, window), (limit, until));
        self.note(format!("{name} has {limit:?} {quota_type} a {window} until {until:?}"));
    }

    /// A put: what is `Some` is set, and what follows from it.
    pub fn put(&mut self, name: &str, put: TenantPut) {
        self.change(name, TenantChange::Put(put.clone()));
        let now = self.now();
        // Who is new begins in its own zone; a later change waits for the end of the window.
        let new = || super::model::Tenant::new("trial", put.zone.unwrap_or(chrono_tz::UTC), now);
        let tenant = self.model.tenants.entry(name.to_owned()).or_insert_with(new);
        put.plan.into_iter().for_each(|plan| tenant.plan = plan);
        put.zone.into_iter().for_each(|zone| tenant.zone = zone);
        put.mode.into_iter().for_each(|mode| tenant.mode = mode);
        let extended = put.plan_expires_at.is_some_and(|end| end.is_none_or(|end| now < end));
        put.plan_expires_at.into_iter().for_each(|end| tenant.plan_expires_at = end);
        tenant.status = match (put.status, tenant.status) {
            (Some(status), _) => status,
            (None, TenantStatus::Deleted) => TenantStatus::Active,
            (None, TenantStatus::Expired) if extended => TenantStatus::Active,
            (None, status) => status,
        };
        // Whoever is active past its end is expired by the same change.
        self.model.advance(now);
    }

    pub fn change_tenant(&mut self) {
        let Some(name) = self.living_tenant() else { return };
        let hours = 2 + self.random.below(60) as i64;
        let end = self.now().plus_micros(hours * MICROS_PER_HOUR);
        let expired = self.model.tenant(&name).status == TenantStatus::Expired;
        let put = match self.random.below(6) {
            0 => TenantPut {
                zone: self.random.pick(&super::TENANTS.map(|(_, zone, _)| zone)).copied(),
                ..TenantPut::default()
            },
            1 => TenantPut {
                plan: self.random.pick(&["trial", "small", "priced"]).map(|&plan| plan.to_owned()),
                ..TenantPut::default()
            },
            2 => TenantPut { plan_expires_at: Some(Some(end)), ..TenantPut::default() },
            3 => TenantPut { plan_expires_at: Some(None), ..TenantPut::default() },
            4 => TenantPut { mode: self.random.pick(&[Mode::Enforce, Mode::Observe]).copied(), ..TenantPut::default() },
            _ if expired => TenantPut { plan_expires_at: Some(None), ..TenantPut::default() },
            _ => {
                let statuses =
                    [TenantStatus::Active, TenantStatus::Active, TenantStatus::Suspended, TenantStatus::Cancelled];
                TenantPut { status: self.random.pick(&statuses).copied(), ..TenantPut::default() }
            }
        };
        self.note(format!("put {name}: {put:?}"));
        self.put(&name, put);
    }

    pub fn delete_or_revive(&mut self) {
        let name = self.any_tenant();
        match self.model.tenants.get(&name).map(|tenant| tenant.status) {
            None => {}
            Some(TenantStatus::Deleted) => {
                self.put(&name, TenantPut::default());
                self.note(format!("{name} is revived"));
            }
            Some(_) if self.random.below(4) > 0 => {}
            Some(_) => {
                self.change(&name, TenantChange::Delete);
                self.model.tenant_mut(&name).status = TenantStatus::Deleted;
                self.note(format!("{name} is deleted"));
            }
        }
    }

    pub fn change_prices(&mut self) {
        let Some(name) = self.living_tenant() else { return };
        if self.model.tenant(&name).terms.len() >= TERMS_MAX {
            return;
        }
        let rate = self.random.coin().then_some((100_000_000, 500_000_000));
        let points = *self.random.pick(&[1_250, -1_000, 3_000]).unwrap();
        let text = match rate {
            Some(_) => r#"{"openai": {"ada": {"input": "0.1", "output": "0.5"}}}"#,
            None => "{}",
        };
        let rates = own_rates(&serde_json::from_str(text).unwrap()).unwrap();
        let markup = metergate::domain::price_terms::Markup::from_basis_points(points).unwrap();
        self.change(&name, TenantChange::SetPrices { from: None, markup, rates });
        let terms = Terms { from: self.now(), points, rate };
        let tenant = self.model.tenant_mut(&name);
        tenant.terms.retain(|known| known.from != terms.from);
        tenant.terms.push(terms);
        self.note(format!("prices of {name}: {points} points, {rate:?}"));
    }

    pub fn aggregate(&mut self) {
        // There is something to be filed.
        self.mark();
        self.act(true, |engine| match engine.usage_tracker().aggregate_usage_metrics(None) {
            Ok(_) => Ok(()),
            Err(_) => Err(Again),
        });
        self.note("aggregate".to_owned());
    }

    pub fn clean_up(&mut self) {
        if let Err(error) = self.engine().usage_tracker().aggregate_usage_metrics(None) {
            self.fail(format!("aggregate: {error}"));
        }
        let before = self.model.cut;
        match (self.engine().usage_tracker().cleanup_old_realtime_events(), self.model.clock_in_doubt) {
            (Err(MaintainError::ClockUnconfirmed), true) => {
                self.note("clean up: the clock is in doubt".to_owned());
            }
            (Ok(done), false) => {
                let cut = self.model.next_cut();
                let removed = self.model.events_between(before, cut);
                self.same("what a clean-up removes", (done.cut, done.rows_removed), (cut, removed));
                self.model.cut = cut;
                self.note(format!("clean up {removed} up to {cut}"));
            }
            (done, in_doubt) => self.fail(format!("clean up: {done:?}, in doubt: {in_doubt}")),
        }
    }

    pub fn clean_up_audit(&mut self) {
        match (self.engine().audit_logger().cleanup_old_audit_events(), self.model.clock_in_doubt) {
            (Err(AuditError::ClockUnconfirmed), true) => {
                self.note("clean up audit: the clock is in doubt".to_owned());
            }
            (Ok(done), false) => {
                let (before, cut) = (self.model.log.cut, self.model.log.next_cut(self.now()));
                let removed = self.model.log.old.iter().filter(|at| before <= **at && **at < cut).count() as u64;
                self.same("what a clean-up of the log removes", (done.cut, done.rows_removed), (cut, removed));
                self.model.log.cut = cut;
                self.note(format!("clean up audit {removed} up to {cut}"));
            }
            (done, in_doubt) => self.fail(format!("clean up audit: {done:?}, in doubt: {in_doubt}")),
        }
    }

    pub fn confirm_clock(&mut self) {
        let jobs = Jobs::new(self.engine().writer(), |_| Schedule::hourly());
        let confirmed = jobs.confirm_clock().unwrap_or_else(|error| self.fail(error));
        self.same("whether the clock was in doubt", confirmed, self.model.clock_in_doubt);
        self.model.clock_in_doubt = false;
        self.note(format!("confirm the clock: {confirmed}"));
    }

    pub fn sign(&mut self) {
        let note = self.engine().audit_logger().checkpoint_blocking().unwrap_or_else(|error| self.fail(error));
        self.checkpoint = note;
        self.note("sign".to_owned());
    }

    /// The wall clock jumps, or is set right again.
    pub fn move_wall_clock(&mut self) {
        let ahead = self.wall_ahead();
        let jump = match self.random.below(10) {
            0..5 if ahead != 0 => -ahead,
            0..3 => 200_000 * (1 + self.random.below(1_400) as i64),
            3..6 => -200_000 * (1 + self.random.below(1_400) as i64),
            6 => -MICROS_PER_HOUR,
            7 => MICROS_PER_HOUR,
            8 => -MICROS_PER_DAY,
            _ => 3 * 365 * MICROS_PER_DAY,
        };
        self.jump(jump);
    }

    /// Stops and starts. A wall clock that is years ahead was set right before.
    pub fn start_again(&mut self) {
        if self.wall_ahead() > 3 * MICROS_PER_DAY {
            self.jump(-self.wall_ahead());
        }
        let crash = self.random.coin();
        let off = match self.random.below(40) {
            0 => 50 * MICROS_PER_HOUR,
            1..10 => self.random.below(7_200) as i64 * 1_000_000,
            _ => 1_000_000,
        };
        self.restart(crash, off);
    }
}

impl Model {
    /// Whether everybody is gone: then nothing much can happen.
    pub fn all_deleted(&self) -> bool {
        let living = self.tenants.values().filter(|tenant| tenant.status != TenantStatus::Deleted);
        living.count() <= 1
    }
}
