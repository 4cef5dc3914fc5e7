//! Words and numbers that callers and files write: what is read is shown so that it reads the same again.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use metergate::config::{Networks, settings_table};
use metergate::domain::audit::{ActorType, AuditAction, AuditResult};
use metergate::domain::event::EventId;
use metergate::domain::key::KeyRole;
use metergate::domain::money::Money;
use metergate::domain::price_terms::Markup;
use metergate::domain::quota::{Mode, QuotaType, Window};
use metergate::domain::sampling::SamplingRules;
use metergate::domain::schedule::Schedule;
use metergate::domain::tenant::{TenantId, TenantStatus};
use metergate::domain::time::{PeriodType, Timestamp};
use metergate::rules::plan_costs::OutputShare;
use metergate::rules::reconcile::{Tolerance, read_dollars};

use super::driver::fuzz;
use super::text;

/// What is read, and is the same when what is shown of it is read.
fn shown_and_read<T>(name: &str, cases: u64, corpus: &[&str])
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    fuzz(name, cases, corpus, |bytes| {
        let Some(text) = text(bytes) else { return false };
        match text.parse::<T>() {
            Ok(read) => {
                let again = read.to_string().parse::<T>().map_err(|error| error.to_string());
                assert_eq!(again.as_ref(), Ok(&read), "`{read}` of {text:?}");
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty(), "{text:?}");
                false
            }
        }
    });
}

fn only_read<T: FromStr<Err: Display>>(name: &str, cases: u64, corpus: &[&str], see: impl Fn(T)) {
    fuzz(name, cases, corpus, |bytes| {
        let Some(text) = text(bytes) else { return false };
        match text.parse::<T>() {
            Ok(read) => {
                see(read);
                true
            }
            Err(error) => {
                assert!(!error.to_string().is_empty(), "{text:?}");
                false
            }
        }
    });
}

#[test]
fn ids_are_read_as_they_are_shown() {
    shown_and_read::<TenantId>("tenant ids", 6_000, &["acme", "A-Z.a_z:0@9"]);
    let ids = ["call-7", "019ab3f0-0000-7d2a-9f00-4b6f0c1d2e3f", "F47AC10B-58CC-4372-A567-0E02B2C3D479", "é"];
    shown_and_read::<EventId>("event ids", 6_000, &ids);
}

#[test]
fn times_and_money_are_read_as_they_are_shown() {
    let times = [
        "2026-11-24T10:30:00Z",
        "2026-11-24T01:30:00.1234567+05:45",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ];
    shown_and_read::<Timestamp>("times", 6_000, &times);
    shown_and_read::<Money>("money", 4_000, &["0", "12.5", "1.25e-3", "0.000000000000001", "999999999.999999"]);
    for quota_type in QuotaType::ALL {
        fuzz(&format!("amounts of {quota_type}"), 2_000, &["0", "10000"], |bytes| {
            let Some(Ok(amount)) = text(bytes).map(|text| quota_type.read(text)) else { return false };
            assert_eq!(quota_type.read(&quota_type.show(amount)), Ok(amount));
            true
        });
    }
    fuzz("dollars of reports", 6_000, &["0.06", "-1.5", "0.10000000000000000555", "1e-7"], |bytes| {
        text(bytes).is_some_and(|text| read_dollars(text).is_ok())
    });
}

#[test]
fn settings_are_read_as_they_are_shown() {
    shown_and_read::<SamplingRules>("shares", 6_000, &["chat_message_received=0.1,widget_loaded=0.25", "a=1", "a=0"]);
    shown_and_read::<Markup>("markups", 6_000, &["12.5%", "-25%", "0%"]);
    only_read::<Networks>("networks", 6_000, &["10.0.0.0/8,fd00::/8", "192.0.2.1"], |networks| {
        let _one_is_asked = networks.contains([10, 1, 2, 3].into());
    });
    let from: Timestamp = "2026-11-24T10:30:00Z".parse().unwrap();
    only_read::<Schedule>("schedules", 3_000, &["0 * * * *", "5 3 * * 1-5", "*/15 0,12 1 */2 *"], |schedule| {
        assert!(schedule.next_after(from).is_none_or(|next| next > from));
        let to = from.plus_micros(3 * 86_400_000_000);
        assert!(schedule.times_between(from, to, 10) <= 10);
    });
    only_read::<chrono_tz::Tz>("zones", 4_000, &["Europe/Berlin", "UTC", "America/Santiago"], |zone| {
        assert_eq!(zone.name().parse(), Ok(zone));
    });
    only_read::<OutputShare>("output shares", 2_000, &["25%", "0%"], |_| ());
    only_read::<Tolerance>("tolerances", 4_000, &["0%", "1.5%", "2%"], |tolerance| {
        assert!(tolerance.allows(0, 0) && tolerance.allows(u128::MAX, u128::MAX));
        let _far_apart = (tolerance.allows(0, u128::MAX), tolerance.allows(u128::MAX, 1));
    });
    for info in settings_table().iter().filter(|info| !info.default.is_empty()) {
        let name = format!("setting {}", info.key);
        fuzz(&name, 300, &[info.default], |bytes| text(bytes).is_some_and(|value| info.kind.allows(value)));
    }
}

#[test]
fn words_are_known_or_refused() {
    shown_and_read::<QuotaType>("quota types", 1_000, &["tokens", "cost", "api_calls"]);
    shown_and_read::<Window>("windows", 1_000, &["minute", "day", "month"]);
    shown_and_read::<Mode>("modes", 1_000, &["enforce", "observe"]);
    only_read::<PeriodType>("periods", 1_000, &["hourly", "daily", "monthly"], |period| {
        assert_eq!(period.name().parse(), Ok(period));
    });
    only_read::<TenantStatus>("statuses", 1_000, &["active", "suspended"], |_| ());
    only_read::<KeyRole>("roles", 1_000, &["admin", "viewer"], |_| ());
    only_read::<AuditAction>("actions", 1_000, &["create", "access"], |_| ());
    only_read::<ActorType>("actors", 1_000, &["admin", "system"], |_| ());
    only_read::<AuditResult>("results", 1_000, &["success", "failure"], |_| ());
}
