//! Alerts on the wire.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::scalar::{Number, amount, text};
use crate::domain::quota::{Mode, QuotaType, Window};
use crate::domain::tenant::TenantId;
use crate::domain::threshold::Alert;
use crate::domain::time::Timestamp;

/// A threshold that was crossed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertJson {
    /// The id of its audit record.
    #[serde(with = "text")]
    pub event_id: Uuid,
    /// Whose limit.
    #[serde(with = "text")]
    pub tenant_id: TenantId,
    /// Of what.
    #[serde(with = "text")]
    pub quota_type: QuotaType,
    /// Over which time: day or month.
    #[serde(with = "text")]
    pub window: Window,
    /// When that day or month began.
    #[serde(with = "text")]
    pub window_start: Timestamp,
    /// The threshold, in percent of the limit.
    pub percent: u16,
    /// The limit then.
    pub limit: Number,
    /// What was used when it was noticed.
    pub used: Number,
    /// `enforce` or `observe`.
    pub mode: String,
    /// When it was noticed.
    #[serde(with = "text")]
    pub at: Timestamp,
}

impl From<Alert> for AlertJson {
    fn from(alert: Alert) -> Self {
        let crossing = alert.crossing;
        let mode = if crossing.observed { Mode::Observe } else { Mode::Enforce };
        Self {
            event_id: alert.event_id,
            tenant_id: alert.tenant_id,
            quota_type: crossing.quota_type,
            window: crossing.window,
            window_start: crossing.window_start,
            percent: crossing.percent,
            limit: amount(crossing.quota_type, crossing.limit),
            used: amount(crossing.quota_type, crossing.used),
            mode: mode.name().to_owned(),
            at: crossing.at,
        }
    }
}

/// A page of alerts, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertsJson {
    /// The page.
    pub alerts: Vec<AlertJson>,
    /// Where to go on; null at the end.
    pub next_cursor: Option<String>,
}
