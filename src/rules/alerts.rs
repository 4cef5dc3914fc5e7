//! A crossed threshold as an audit record, and back; and the name that makes it one record.

use serde_json::{Value, json};

use crate::domain::audit::{AuditAction, AuditEntry};
use crate::domain::quota::Mode;
use crate::domain::tenant::TenantId;
use crate::domain::threshold::Crossing;

/// The event type of a crossed threshold.
pub const THRESHOLD_CROSSED: &str = "quota_threshold_crossed";

/// What a crossing is told by, the same whenever it is noticed again: tenant, limit and its amount, window and percentage.
///
/// The amount belongs to it: whoever is given ten times the limit is warned again at 80 % of that.
pub fn crossing_name(tenant_id: &TenantId, crossing: &Crossing) -> String {
    let Crossing { quota_type, window, window_start, percent, limit, .. } = crossing;
    format!("{THRESHOLD_CROSSED} {tenant_id} {quota_type} {window} {} {percent} {limit}", window_start.micros())
}

/// The audit record of a crossing. Its result is a success whatever the percentage: it tells of use, and nothing failed;
/// what was denied has records of its own.
pub fn crossing_entry(tenant_id: &TenantId, crossing: &Crossing) -> AuditEntry {
    let Crossing { quota_type, window, window_start, percent, limit, used, observed, at } = crossing;
    let mode = if *observed { Mode::Observe } else { Mode::Enforce };
    let (limit, used) = (quota_type.show(*limit), quota_type.show(*used));
    AuditEntry {
        entity_id: Some(format!("{quota_type}-{window}")),
        changes_summary: Some(format!("{percent} % of {quota_type} per {window} is used: {used} of {limit}")),
        new_values: Some(
            json!({
                "quota_type": quota_type.name(),
                "window": window.name(),
                "window_start": window_start.to_string(),
                "percent": percent,
                "limit": limit,
                "used": used,
                "mode": mode.name(),
            })
            .to_string(),
        ),
        occurred_at: Some(*at),
        ..AuditEntry::system(Some(tenant_id.clone()), THRESHOLD_CROSSED, "usage_quota", AuditAction::Update)
    }
}

/// The crossing that a record tells of; `None` when [`crossing_entry`] did not write it.
pub fn crossing_of(entry: &AuditEntry) -> Option<Crossing> {
    let values: Value = serde_json::from_str(entry.new_values.as_deref()?).ok()?;
    let text = |name: &str| values.get(name).and_then(Value::as_str);
    let quota_type: crate::domain::quota::QuotaType = text("quota_type")?.parse().ok()?;
    Some(Crossing {
        quota_type,
        window: text("window")?.parse().ok()?,
        window_start: text("window_start")?.parse().ok()?,
        percent: values.get("percent").and_then(Value::as_u64).and_then(|percent| u16::try_from(percent).ok())?,
        limit: quota_type.read(text("limit")?).ok()?,
        // Use has no upper bound as limits have.
        used: match quota_type {
            crate::domain::quota::QuotaType::Cost => quota_type.read(text("used")?).ok()?,
            _ => text("used")?.parse().ok()?,
        },
        observed: text("mode")?.parse::<Mode>().ok()? == Mode::Observe,
        at: entry.occurred_at?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quota::{QuotaType, Window};
    use crate::domain::time::Timestamp;

    #[test]
    fn a_crossing_is_read_back_from_its_record() {
        let tenant_id: TenantId = "acme".parse().unwrap();
        let of = |quota_type, limit, used, observed| Crossing {
            quota_type,
            window: Window::Month,
            window_start: Timestamp::from_seconds(1_800_000_000),
            percent: 95,
            limit,
            used,
            observed,
            at: Timestamp::from_seconds(1_800_000_060),
        };
        for crossing in
            [of(QuotaType::Tokens, 10_000, 1 << 60, false), of(QuotaType::Cost, 12_500_000_000_000_000, 1 << 60, true)]
        {
            let entry = crossing_entry(&tenant_id, &crossing);
            assert_eq!(crossing_of(&entry), Some(crossing));
            assert_eq!(entry.validate(), Ok(()));
            assert_eq!(crossing_of(&AuditEntry { new_values: Some("{}".to_owned()), ..entry }), None);
        }
    }
}
