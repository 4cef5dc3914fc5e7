//! What callers do, drawn at random: each step is predicted by the model, done by the engine, and compared.

use metergate::Metergate;
use metergate::domain::audit::{AuditAction, AuditEntry, AuditOutcome, AuditSubmission};
use metergate::domain::event::{EventOutcome, UsageEvent};
use metergate::domain::quota::{Decision, DeniedBy, Item, QuotaType, Scope};
use metergate::domain::tenant::TenantStatus;
use metergate::domain::time::{MICROS_PER_SECOND, Timestamp};
use metergate::enforcer::{EnforceError, ReserveOutcome, ReserveRequest};
use uuid::Uuid;

use super::events::{Outcome, event_id, random_event};
use super::log::Own;
use super::model::{Amounts, Denied, Hold, Known, Stage, Tenant, amounts_of};
use super::world::{Again, World, tenant_id};

/// The type of the steps' own audit records.
pub const EVENT_TYPE: &str = "simulated";

fn outcome_of(outcome: &EventOutcome) -> Outcome {
    match outcome {
        EventOutcome::Accepted => "accepted",
        EventOutcome::Duplicate => "duplicate",
        EventOutcome::Conflict => "conflict",
        EventOutcome::Rejected(rejection) => rejection.code,
    }
}

/// Tells answers from what says nothing.
fn decided<T>(answer: Result<T, EnforceError>) -> Result<Result<T, EnforceError>, Again> {
    match answer {
        Err(EnforceError::Write(_) | EnforceError::GrantUnknown(_) | EnforceError::Storage(_)) => Err(Again),
        answer => Ok(answer),
    }
}

fn as_denied(denied: &DeniedBy) -> Denied {
    let state = denied.state;
    Denied {
        quota_type: state.quota_type,
        window: state.window,
        of_platform: denied.scope == Scope::Platform,
        asked: denied.asked,
        state: state.limit.map(|limit| (limit, state.used, state.held)),
    }
}

impl World {
    pub fn any_tenant(&mut self) -> String {
        let names: Vec<&str> = super::TENANTS.iter().map(|(name, ..)| *name).collect();
        (*self.random.pick(&names).unwrap()).to_owned()
    }

    /// One that is known and not deleted.
    pub fn living_tenant(&mut self) -> Option<String> {
        let name = self.any_tenant();
        (self.model.tenants.contains_key(&name) && !self.model.is_deleted(&name)).then_some(name)
    }

    fn number(&self) -> u64 {
        self.counts.operations
    }

    pub fn record(&mut self) {
        let name = self.any_tenant();
        let now = self.now();
        let mut events: Vec<UsageEvent> = Vec::new();
        for place in 0..1 + self.random.below(4) {
            let number = self.number() * 8 + place;
            let id = event_id(&mut self.random, number);
            let id = (self.random.below(8) > 0).then_some(id);
            events.push(random_event(&mut self.random, &name, id, now));
        }
        if self.random.below(4) == 0
            && let Some(tenant) = self.model.tenants.get(&name)
        {
            let kept =
                |event: &&super::model::Event| event.given.event_id.is_some() && self.model.is_surely_kept(event);
            let known: Vec<UsageEvent> = tenant.events.iter().filter(kept).map(|event| event.given.clone()).collect();
            events.extend(self.random.pick(&known).cloned());
        }
        if self.random.below(6) == 0 {
            // Known, or new in this very batch.
            let again = events.last().cloned().filter(|event| event.event_id.is_some());
            events.extend(again.map(|event| match self.random.coin() {
                true => event,
                false => UsageEvent { tokens_consumed: Some(event.tokens() + 1), ..event },
            }));
        }
        let wanted = self.model.record(&name, &events, None);
        let writes = wanted.contains(&"accepted") && events.iter().all(|event| event.event_id.is_some());
        let (outcomes, again) =
            self.act(writes, |engine| engine.usage_tracker().record_blocking(events.clone()).map_err(|_| Again));
        self.compare_outcomes(&name, &outcomes, &wanted, again);
        if wanted.contains(&"accepted") {
            self.note_reached(&name, true);
        }
        self.note(format!("record {name} {wanted:?}"));
    }

    fn compare_outcomes(&mut self, name: &str, outcomes: &[EventOutcome], wanted: &[Outcome], again: bool) {
        self.counts.repeats += wanted.iter().filter(|outcome| **outcome == "duplicate").count() as u64;
        let seen: Vec<Outcome> = outcomes.iter().map(outcome_of).collect();
        let fine = |(seen, wanted): (&Outcome, &Outcome)| {
            seen == wanted || again && (*wanted, *seen) == ("accepted", "duplicate")
        };
        let same = seen.len() == wanted.len() && seen.iter().zip(wanted).all(fine);
        self.require(same, || format!("events of {name}: {seen:?}, not {wanted:?}"));
    }

    fn random_items(&mut self) -> Vec<Item> {
        let random = &mut self.random;
        let item = |quota_type, amount: u64| Item { quota_type, amount: u128::from(amount) };
        let tokens = item(QuotaType::Tokens, 1 + random.below(2_500));
        match random.below(8) {
            0..4 => vec![tokens],
            4 => vec![tokens, item(QuotaType::ApiCalls, 1), item(QuotaType::Tokens, 10)],
            5 => vec![item(QuotaType::ChatMessages, 1), tokens],
            6 => vec![item(QuotaType::Embeddings, 1 + random.below(9)), item(QuotaType::ApiCalls, 2)],
            _ => vec![tokens, item(QuotaType::Cost, random.below(4_000) * 1_000_000_000)],
        }
    }

    /// Whether this tenant is refused whatever it asks for, and how that is told.
    fn blocked(&self, name: &str) -> Option<String> {
        match self.model.tenants.get(name)?.status_at(self.now()) {
            TenantStatus::Active => None,
            TenantStatus::Deleted => Some(EnforceError::UnknownTenant(tenant_id(name)).to_string()),
            status => Some(EnforceError::Blocked { tenant_id: tenant_id(name), status }.to_string()),
        }
    }

    fn register(&mut self, name: &str) {
        let now = self.now();
        let new = || Tenant::new("trial", chrono_tz::UTC, now);
        self.model.tenants.entry(name.to_owned()).or_insert_with(new);
    }

    pub fn reserve(&mut self) {
        let name = self.any_tenant();
        self.register(&name);
        let (mut id, mut items) = (format!("r{}", self.number()), self.random_items());
        let mut ttl = if self.random.below(4) == 0 { 3_600 } else { 10 + self.random.below(900) as u32 };
        if self.random.below(6) == 0 {
            // An id that is known, with the same items or others.
            let now = self.now();
            let young =
                |hold: &&Hold| hold.id.is_some() && now.micros_since(hold.expires_at) < 20 * 3_600 * MICROS_PER_SECOND;
            let holds: Vec<Hold> = self.model.tenant(&name).holds.iter().filter(young).cloned().collect();
            if let Some(hold) = self.random.pick(&holds) {
                id = hold.id.clone().unwrap();
                ttl = 77;
                if self.random.below(3) > 0 {
                    items =
                        hold.items.iter().map(|(kind, amount)| Item { quota_type: *kind, amount: *amount }).collect();
                }
            }
        }
        let request = ReserveRequest {
            tenant_id: tenant_id(&name),
            items: items.clone(),
            ttl_seconds: Some(ttl),
            reservation_id: Some(id.clone()),
            request_id: None,
        };
        let amounts = amounts_of(&items);
        let known = self.model.tenant(&name).reservation(&id, self.now());
        let of_known = known
            .as_ref()
            .map(|(Known::Open(place) | Known::Ended(place))| self.model.tenant(&name).holds[*place].clone());
        let (denied, observed) = self.model.judge(&name, &amounts);
        let deleted = self.model.is_deleted(&name);
        let blocked = self.blocked(&name).filter(|_| deleted || known.is_none());
        let grants = known.is_none() && blocked.is_none() && denied.is_empty();
        let (answer, again) =
            self.act(grants, |engine| decided(engine.quota_enforcer().reserve_blocking(request.clone())));
        let expires_at = self.now().plus_micros(i64::from(ttl) * MICROS_PER_SECOND);
        let told = match (answer, blocked, of_known) {
            (Err(error), Some(blocked), _) => {
                self.same("a refusal", error.to_string(), blocked.clone());
                blocked
            }
            (Err(EnforceError::ReservationConflict(_)), None, Some(hold)) if hold.items != amounts => {
                "conflict".to_owned()
            }
            (Ok(outcome), None, Some(hold)) if hold.items == amounts => {
                self.compare_grant(&name, &outcome, hold.expires_at, &amounts);
                "the same again".to_owned()
            }
            (Ok(outcome), None, None) if grants => {
                let hold = Hold {
                    id: Some(id.clone()),
                    items: amounts.clone(),
                    granted_at: self.now(),
                    expires_at,
                    stage: Stage::Open,
                };
                self.model.tenant_mut(&name).holds.push(hold);
                self.compare_grant(&name, &outcome, expires_at, &amounts);
                if !again {
                    let seen: Vec<Denied> = outcome.decision.would_deny.iter().map(as_denied).collect();
                    self.same("what would be denied", seen, observed);
                }
                format!("granted until {expires_at}")
            }
            (Ok(outcome), None, None) => self.compare_denial(&name, &outcome.decision, &denied, &amounts),
            (answer, blocked, hold) => {
                let answer = answer.map(|outcome| outcome.decision);
                self.fail(format!(
                    "reserve {id} of {name}, {items:?}: {answer:?}; blocked: {blocked:?}, known: {hold:?}"
                ))
            }
        };
        self.note(format!("reserve {name} {id} {amounts:?}: {told}"));
    }

    fn compare_grant(&self, name: &str, outcome: &ReserveOutcome, expires_at: Timestamp, amounts: &Amounts) {
        self.require(outcome.decision.allowed && outcome.durable, || format!("not granted: {outcome:?}"));
        let told = outcome.reservation.as_ref().map(|reservation| reservation.expires_at);
        self.same("the end of a reservation", told, Some(expires_at));
        self.compare_limits(name, &outcome.decision, amounts);
    }

    /// Every limit of the types asked for, as it is after the decision, and what is left of the tightest.
    fn compare_limits(&self, name: &str, decision: &Decision, amounts: &Amounts) {
        let limits = self.model.limits(name);
        let asked = || limits.iter().filter(|limit| amounts.contains_key(&limit.quota_type));
        let counted = |limit: &metergate::domain::quota::Limit| {
            self.model.tenant(name).counted(limit.quota_type, limit.window, self.now())
        };
        let wanted: Vec<_> =
            asked().map(|limit| (limit.quota_type, limit.window, Some(limit.limit), counted(limit))).collect();
        let seen =
            decision.limits.iter().map(|state| (state.quota_type, state.window, state.limit, (state.used, state.held)));
        self.same("the limits", seen.collect::<Vec<_>>(), wanted);
        for quota_type in amounts.keys() {
            let left = |limit: &metergate::domain::quota::Limit| {
                limit.limit.saturating_sub(counted(limit).0 + counted(limit).1)
            };
            let binding = asked().filter(|limit| limit.quota_type == *quota_type && !limit.observe);
            let seen = decision.results.get(quota_type).and_then(|result| result.tokens_remaining);
            self.same("what is left", seen, binding.map(left).min());
        }
    }

    fn compare_denial(&mut self, name: &str, decision: &Decision, denied: &[Denied], amounts: &Amounts) -> String {
        let seen: Vec<Denied> = decision.denied_by.iter().map(as_denied).collect();
        self.require(!decision.allowed && !denied.is_empty(), || {
            format!("granted, not denied by {denied:?}: {decision:?}")
        });
        self.same("what denies", &seen[..], denied);
        self.compare_limits(name, decision, amounts);
        self.model.note_denial(name, denied);
        self.counts.denials += 1;
        format!("denied by {seen:?}, again in {:?} s", decision.retry_after_seconds)
    }

    pub fn check(&mut self) {
        let name = self.any_tenant();
        self.register_by_model_only(&name);
        let items = self.random_items();
        let amounts = amounts_of(&items);
        let answer = self.engine().quota_enforcer().check(&tenant_id(&name), &items);
        let (denied, _) = self.model.judge(&name, &amounts);
        let told = match (answer, self.blocked(&name)) {
            (Err(error), Some(blocked)) => {
                self.same("a refusal", error.to_string(), blocked.clone());
                blocked
            }
            (Ok(decision), None) => {
                let seen: Vec<Denied> = decision.denied_by.iter().map(as_denied).collect();
                self.same("what a check says", (decision.allowed, &seen), (denied.is_empty(), &denied));
                self.compare_limits(&name, &decision, &amounts);
                format!("{}", decision.allowed)
            }
            (answer, blocked) => self.fail(format!("check of {name}: {answer:?}; blocked: {blocked:?}")),
        };
        self.note(format!("check {name} {amounts:?}: {told}"));
    }

    /// A check registers nobody; who is unknown is looked at as new, and stays out of comparisons until known.
    fn register_by_model_only(&mut self, name: &str) {
        if !self.model.tenants.contains_key(name) {
            self.register(name);
            let put = metergate::domain::tenant::TenantChange::Put(Default::default());
            self.change(name, put);
        }
    }

    pub fn enforce(&mut self) {
        let name = self.any_tenant();
        self.register(&name);
        let items = self.random_items();
        let amounts = amounts_of(&items);
        let (denied, _) = self.model.judge(&name, &amounts);
        let answer = self.engine().quota_enforcer().enforce_multiple_quotas(&tenant_id(&name), &items);
        let told = match (answer, self.blocked(&name)) {
            (Err(error), Some(blocked)) => {
                self.same("a refusal", error.to_string(), blocked.clone());
                blocked
            }
            (Ok(decision), None) if denied.is_empty() => {
                let (granted_at, expires_at) = (self.now(), self.now().plus_micros(60 * MICROS_PER_SECOND));
                let hold = Hold { id: None, items: amounts.clone(), granted_at, expires_at, stage: Stage::Open };
                self.model.tenant_mut(&name).holds.push(hold);
                self.require(decision.allowed, || format!("not granted: {decision:?}"));
                self.compare_limits(&name, &decision, &amounts);
                "granted".to_owned()
            }
            (Ok(decision), None) => self.compare_denial(&name, &decision, &denied, &amounts),
            (answer, blocked) => self.fail(format!("enforce {items:?} of {name}: {answer:?}; blocked: {blocked:?}")),
        };
        self.note(format!("enforce {name} {amounts:?}: {told}"));
    }

    /// An open reservation, or now and then any of a tenant's last ones.
    fn any_reservation(&mut self) -> Option<(String, usize)> {
        let now = self.now();
        let mut places = Vec::new();
        let of_any = self.random.below(5) == 0;
        let only = self.living_tenant();
        for (name, tenant) in &self.model.tenants {
            let named = tenant.holds.iter().enumerate().rev().filter(|(_, hold)| hold.id.is_some()).take(12);
            let known = named.filter(|(_, hold)| if of_any { only.as_ref() == Some(name) } else { hold.is_open(now) });
            if tenant.status != TenantStatus::Deleted {
                places.extend(known.map(|(place, _)| (name.clone(), place)));
            }
        }
        self.random.pick(&places).cloned()
    }

    pub fn settle(&mut self) {
        let Some((name, place)) = self.any_reservation() else { return };
        let hold = self.model.tenant(&name).holds[place].clone();
        let id = hold.id.clone().unwrap();
        let known = self.model.tenant(&name).reservation(&id, self.now());
        let mut events: Vec<UsageEvent> = Vec::new();
        let same = self.random.coin();
        for index in 0..1 + self.random.below(2) {
            let now = self.now();
            let event = random_event(&mut self.random, &name, None, now);
            let before = self.model.tenant(&name).with_id(&format!("{id}:{index}")).filter(|_| same);
            events.push(match before {
                Some(before) => UsageEvent { event_id: None, ..before.given.clone() },
                None => UsageEvent { event_timestamp: None, ..event },
            });
        }
        let with_id = |index: usize, event: UsageEvent| {
            let event_id = Some(format!("{id}:{index}").parse().unwrap());
            UsageEvent { event_id, ..event }
        };
        let named: Vec<UsageEvent> =
            events.iter().cloned().enumerate().map(|(index, event)| with_id(index, event)).collect();
        let stage = match hold.stage {
            Stage::Open if known.is_some() && !hold.is_open(self.now()) => None,
            stage => Some(stage),
        };
        let Some(_) = known else {
            let answer = self.engine().quota_enforcer().settle_blocking(Some(&tenant_id(&name)), &id, events);
            self.require(matches!(answer, Err(EnforceError::UnknownReservation(_))), || {
                format!("settle of {id}: {answer:?}")
            });
            return self.note(format!("settle {name} {id}: unknown"));
        };
        let before = self.model.tenant(&name).events.len();
        let wanted = self.model.record(&name, &named, Some(hold.granted_at));
        let mut charged = Amounts::new();
        for event in &self.model.tenant(&name).events[before..] {
            event.charges.iter().for_each(|(kind, amount)| *charged.entry(*kind).or_default() += amount);
        }
        let over =
            hold.items.iter().any(|(kind, held)| *held > 0 && charged.get(kind).is_some_and(|charge| charge > held));
        let more = charged.values().any(|charge| *charge > 0);
        let (overage, lapsed) = match stage {
            None => (over, true),
            Some(Stage::Open | Stage::Closed) => (over, false),
            Some(Stage::Released) => (true, false),
            Some(Stage::Settled { overage, lapsed }) => (overage || more, lapsed),
        };
        self.model.tenant_mut(&name).holds[place].stage = match stage {
            Some(settled @ Stage::Settled { .. }) => settled,
            _ => Stage::Settled { overage, lapsed },
        };
        let (answer, again) = self.act(true, |engine| {
            let settled = engine.quota_enforcer().settle_blocking(Some(&tenant_id(&name)), &id, events.clone());
            decided(settled)
        });
        let outcome = answer.unwrap_or_else(|error| self.fail(format!("settle of {id}: {error}")));
        self.compare_outcomes(&name, &outcome.outcomes, &wanted, again);
        self.same("how a settlement is flagged", (outcome.overage, outcome.lapsed), (overage, lapsed));
        self.note_reached(&name, true);
        self.note(format!("settle {name} {id} {wanted:?}: overage {overage}, lapsed {lapsed}"));
    }

    pub fn release(&mut self) {
        let Some((name, place)) = self.any_reservation() else { return };
        let id = self.model.tenant(&name).holds[place].id.clone().unwrap();
        let known = self.model.tenant(&name).reservation(&id, self.now());
        let release =
            |engine: &Metergate| decided(engine.quota_enforcer().release_blocking(Some(&tenant_id(&name)), &id));
        let (answer, again) = self.act(matches!(known, Some(Known::Open(_))), release);
        let told = match (answer, known) {
            (Ok(held), Some(Known::Open(_))) if held || again => {
                self.model.tenant_mut(&name).holds[place].stage = Stage::Released;
                "released"
            }
            (Ok(false), Some(Known::Ended(_))) => "nothing",
            (Err(EnforceError::UnknownReservation(_)), None) => "unknown",
            (answer, known) => self.fail(format!("release of {id}: {answer:?}, known: {known:?}")),
        };
        self.note(format!("release {name} {id}: {told}"));
    }

    pub fn audit(&mut self) {
        let tenant = self.any_tenant();
        let id = Uuid::from_u128(u128::from(self.random.next()) << 64 | u128::from(self.number()));
        let mut own = Own { id, tenant, summary: format!("step {}", self.number()), at: self.now(), resolved: false };
        let mut wanted = "accepted";
        if self.random.below(5) == 0
            && let Some(recent) = self.model.log.own.last().filter(|own| own.at >= self.model.log.cut)
        {
            own = recent.clone();
            wanted = "duplicate";
            if self.random.coin() {
                own.summary.push('!');
                wanted = "conflict";
            }
        }
        let (outcomes, again) = self.act(wanted == "accepted", |engine| {
            let entry = AuditEntry {
                changes_summary: Some(own.summary.clone()),
                ..AuditEntry::system(Some(tenant_id(&own.tenant)), EVENT_TYPE, "step", AuditAction::Create)
            };
            let submission = AuditSubmission { event_id: Some(own.id), entry };
            engine.audit_logger().record_blocking(vec![submission]).map_err(|_| Again)
        });
        let seen = match &outcomes[..] {
            [AuditOutcome::Recorded(_)] => "accepted",
            [AuditOutcome::Duplicate(_)] => "duplicate",
            [AuditOutcome::Conflict] => "conflict",
            _ => "something else",
        };
        let fine = seen == wanted || again && seen == "duplicate";
        self.require(fine, || format!("audit of {own:?}: {outcomes:?}, not {wanted}"));
        self.note(format!("audit {}: {wanted}", own.id));
        if wanted == "accepted" {
            self.model.log.own.push(own);
        }
    }

    pub fn resolve(&mut self) {
        let visible = |own: &Own, cut: Timestamp| own.at >= cut;
        let cut = self.model.log.cut;
        let places: Vec<usize> =
            (0..self.model.log.own.len()).filter(|place| visible(&self.model.log.own[*place], cut)).collect();
        let Some(&place) = self.random.pick(&places) else { return };
        let Own { id, resolved, .. } = self.model.log.own[place];
        let (answer, again) = self
            .act(!resolved, |engine| engine.audit_logger().resolve_audit_event(id, "seen to", None).map_err(|_| Again));
        self.require(answer != resolved || again, || format!("resolve {id}: {answer}, resolved before: {resolved}"));
        self.model.log.own[place].resolved = true;
        self.note(format!("resolve {id}: {}", !resolved));
    }
}
