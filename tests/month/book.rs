//! The script's own books: what was sent, what is to be expected of it, and the comparison at the end.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};
use serde_json::{Value, json};

use crate::support::{Answer, Server, count, rfc3339, usage_rows, wait_for};

pub const TENANTS: [&str; 10] =
    ["acme", "globex", "initech", "umbrella", "hooli", "wonka", "stark", "wayne", "tyrell", "cyberdyne"];

/// A key that was made for the month.
pub struct Key {
    pub key_id: String,
    pub secret: String,
}

/// What a tenant's day adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    calls: u64,
    failed: u64,
    rate_limited: u64,
    tokens: u64,
    denials: u64,
}

pub struct Month {
    pub server: Server,
    first: NaiveDate,
    today: u32,
    days: BTreeMap<(&'static str, NaiveDate), Sums>,
    /// (tenant, event type, actor) in order.
    audit: Vec<(String, String, Option<String>)>,
    more: u64,
    gone: Vec<&'static str>,
}

pub fn as_key(server: &Server, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let bytes = body.map(|body| body.to_string().into_bytes());
    server.send(method, path, &headers[..if bytes.is_some() { 2 } else { 1 }], bytes.as_deref())
}

fn known(tenant: &str) -> &'static str {
    TENANTS.into_iter().find(|known| *known == tenant).unwrap()
}

impl Month {
    /// A server whose clock stands at the first of a month that is to come.
    pub fn begin() -> Self {
        let today = Utc::now().date_naive();
        let (year, month) = if today.month() == 12 { (today.year() + 1, 1) } else { (today.year(), today.month() + 1) };
        let first = NaiveDate::from_ymd_opt(year, month, 1).unwrap();
        let server = Server::with_flags(&["--dev"]);
        let mut begun =
            Self { server, first, today: 0, days: BTreeMap::new(), audit: Vec::new(), more: 0, gone: Vec::new() };
        begun.go_to_day(0, 0);
        begun
    }

    /// An hour of a day of the script, counted from 0.
    pub fn day(&self, day: u32, hour: u32) -> DateTime<Utc> {
        (self.first + Duration::days(day.into())).and_hms_opt(hour, 0, 0).unwrap().and_utc()
    }

    fn date(&self, day: u32) -> NaiveDate {
        self.first + Duration::days(day.into())
    }

    pub fn go_to_day(&mut self, day: u32, hour: u32) {
        self.today = day;
        let to = rfc3339(self.day(day, hour));
        self.server.post("/api/dev/clock", &json!({ "set": to })).expect(200);
    }

    pub fn advance(&self, seconds: u64) {
        self.server.post("/api/dev/clock", &json!({ "advance_seconds": seconds })).expect(200);
    }

    pub fn as_key(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        as_key(&self.server, key, method, path, body)
    }

    pub fn make_key(&mut self, request: &Value) -> Key {
        let made = self.server.post("/api/admin/keys", request).expect(201);
        self.audited("", "key_created", None);
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")).to_owned();
        Key { key_id: text("key_id"), secret: text("key") }
    }

    pub fn put(&mut self, tenant: &str, body: &Value, event_type: &str) {
        self.server.put_tenant(tenant, body);
        self.audited(tenant, event_type, None);
    }

    /// An audit record is to be expected, of this tenant (or none), by this actor where the script knows it.
    pub fn audited(&mut self, tenant: &str, event_type: &str, actor: Option<&str>) {
        self.audit.push((tenant.to_owned(), event_type.to_owned(), actor.map(str::to_owned)));
    }

    pub fn denied(&mut self, tenant: &str) {
        self.sums(tenant, self.today).denials += 1;
        self.audited_soon(tenant, "quota_exceeded");
    }

    pub fn expect_alert(&mut self, tenant: &str, percent: u64) {
        self.audited_soon(tenant, "quota_threshold_crossed");
        let found = self.server.get(&format!("/api/admin/alerts?tenant_id={tenant}&limit=1")).expect(200);
        assert_eq!(found["alerts"][0]["percent"], json!(percent), "{found}");
    }

    /// A record that rides on a later commit is to be expected.
    pub fn audited_soon(&mut self, tenant: &str, event_type: &str) {
        self.audited(tenant, event_type, None);
        self.wait_for_audit(tenant, event_type);
    }

    /// Until as many records of this type are there as the script expects: some ride on a later commit.
    fn wait_for_audit(&self, tenant: &str, event_type: &str) {
        let expected = self.audit.iter().filter(|(whose, kind, _)| whose == tenant && kind == event_type).count();
        wait_for("an audit record that rides on a later commit", 20, || {
            let found = self.server.get(&format!("/api/audit/events?event_type={event_type}&limit=1000")).expect(200);
            let of_tenant = |event: &&Value| event["tenant_id"].as_str().unwrap_or_default() == tenant;
            (found["events"].as_array().unwrap().iter().filter(of_tenant).count() >= expected).then_some(())
        });
    }

    fn sums(&mut self, tenant: &str, day: u32) -> &mut Sums {
        let date = self.date(day);
        self.days.entry((known(tenant), date)).or_default()
    }

    /// One more event of today, not sent yet.
    pub fn more(&mut self, tenant: &str, tokens: u64) -> Value {
        self.more += 1;
        let sums = self.sums(tenant, self.today);
        (sums.calls, sums.tokens) = (sums.calls + 1, sums.tokens + tokens);
        json!({"tenant_id": tenant, "event_type": "api_call", "event_id": format!("more-{}", self.more),
            "tokens_consumed": tokens})
    }

    pub fn record_more(&mut self, tenant: &str, tokens: u64) {
        let event = self.more(tenant, tokens);
        self.server.record(&event);
    }

    pub fn recorded_elsewhere(&mut self, tenant: &str, calls: u64, tokens_each: u64) {
        let sums = self.sums(tenant, self.today);
        (sums.calls, sums.tokens) = (sums.calls + calls, sums.tokens + calls * tokens_each);
    }

    /// What each tenant does on any day: calls through the day, some of them failed or rate limited, all sent twice.
    pub fn use_of_the_day(&mut self, day: u32) {
        let mut events = Vec::new();
        for (number, tenant) in (0u64..).zip(TENANTS) {
            if self.gone.contains(&tenant) {
                continue;
            }
            let calls = 4 + (number * 3 + u64::from(day) * 5) % 9;
            for call in 0..calls {
                let status = match (call + u64::from(day)) % 11 {
                    7 => 500,
                    9 => 429,
                    _ => 200,
                };
                let tokens = if status == 200 { 10 + number * 7 + call } else { 0 };
                let at = self.day(day, 0) + Duration::minutes((call * 40) as i64);
                let sums = self.sums(tenant, day);
                sums.calls += 1;
                sums.failed += u64::from(status == 500);
                sums.rate_limited += u64::from(status == 429);
                sums.tokens += tokens;
                events.push(json!({"tenant_id": tenant, "event_type": "api_call", "event_timestamp": rfc3339(at),
                    "event_id": format!("d{day}-{call}"), "api_status_code": status, "tokens_consumed": tokens}));
            }
        }
        // A client that never heard the answer sends all of it again.
        let sent = events.len() as u64;
        let batch = Value::Array(events);
        self.server.record(&batch);
        let again = self.server.post("/api/usage/events", &batch).expect(200);
        assert_eq!((&again["accepted"], &again["duplicates"]), (&json!(0), &json!(sent)));
    }

    pub fn restart(&mut self) {
        self.server.restart();
    }

    pub fn kill(&mut self) {
        self.record_more("stark", 77);
        self.server.kill_9();
        self.server.start_again();
        self.go_to_day(self.today, 10);
    }

    /// The folder is copied elsewhere, as to another machine, and goes on there.
    pub fn move_folder(&mut self) {
        self.server.stop();
        let (here, there) = (self.server.data_dir(), self.server.beside("moved"));
        std::fs::rename(&here, &there).unwrap();
        self.server.use_folder(there);
        self.server.start_again();
    }

    pub fn gone(&mut self, tenant: &str) {
        self.gone.push(known(tenant));
        self.audited(tenant, "tenant_deleted", None);
    }

    /// (calls, tokens) of a tenant up to now.
    pub fn so_far(&self, tenant: &str) -> (u64, u64) {
        let own = self.days.iter().filter(|((whose, _), _)| *whose == tenant);
        own.fold((0, 0), |(calls, tokens), (_, sums)| (calls + sums.calls, tokens + sums.tokens))
    }

    pub fn audit_of(&self, tenant: &str) -> usize {
        self.audit.iter().filter(|(whose, ..)| whose == tenant).count()
    }

    /// Daily and monthly rows of each tenant, also of the one that is gone.
    pub fn figures_are_the_scripts(&mut self) {
        self.server.aggregate();
        // Whoever is gone is looked at by bringing it back.
        for tenant in std::mem::take(&mut self.gone) {
            self.put(tenant, &json!({"status": "active"}), "tenant_updated");
        }
        for tenant in TENANTS {
            let read = |period: &str| {
                let path = format!("/api/usage/{tenant}?period={period}&startDate=2020-01-01");
                let rows = self.server.get(&path).expect(200);
                let rows = usage_rows(&rows);
                let sums = rows.iter().map(|row| {
                    let date: DateTime<Utc> = row["period_start"].as_str().unwrap().parse().unwrap();
                    let sums = Sums {
                        calls: count(row, "api_calls_total"),
                        failed: count(row, "api_calls_failed"),
                        rate_limited: count(row, "api_calls_rate_limited"),
                        tokens: count(row, "total_tokens_used"),
                        denials: count(row, "quota_exceeded_count"),
                    };
                    (date.date_naive(), sums)
                });
                sums.collect::<BTreeMap<NaiveDate, Sums>>()
            };
            let mut months: BTreeMap<NaiveDate, Sums> = BTreeMap::new();
            let mut days = BTreeMap::new();
            for ((_, date), sums) in self.days.iter().filter(|((whose, _), _)| *whose == tenant) {
                days.insert(*date, *sums);
                let month = months.entry(date.with_day(1).unwrap()).or_default();
                month.calls += sums.calls;
                month.failed += sums.failed;
                month.rate_limited += sums.rate_limited;
                month.tokens += sums.tokens;
                month.denials += sums.denials;
            }
            assert_eq!(read("daily"), days, "{tenant}");
            assert_eq!(read("monthly"), months, "{tenant}");
        }
    }

    /// Every record of the log, oldest first, is the one that the script expects.
    pub fn audit_is_the_scripts(&self) {
        let (mut events, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.server.get(&format!("/api/audit/events?limit=100{cursor}")).expect(200);
            events.extend(page["events"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        events.reverse();
        let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let written: Vec<(String, String)> =
            events.iter().map(|event| (text(event, "tenant_id"), text(event, "event_type"))).collect();
        let expected: Vec<(String, String)> =
            self.audit.iter().map(|(tenant, kind, _)| (tenant.clone(), kind.clone())).collect();
        assert_eq!(written, expected);
        for (event, (_, kind, actor)) in events.iter().zip(&self.audit) {
            if let Some(actor) = actor {
                assert_eq!(text(event, "actor_id"), *actor, "{kind}: {event}");
            }
        }
    }
}
