//! The one table of settings: the parser, `metergate config` and the documentation all read it.

use std::net::SocketAddr;

use super::Networks;
use crate::domain::quota::QuotaType;
use crate::domain::sampling::SamplingRules;
use crate::domain::schedule::Schedule;

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address and port.
    Address,
    /// A path; relative ones in a file start from the file's folder.
    Path,
    /// A whole number in a range, both ends included.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// An amount of a quota type: a whole number, or a decimal of dollars for cost.
    Amount(QuotaType),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IANA time zone.
    Zone,
    /// A cron schedule in UTC.
    Cron,
    /// Yes or no.
    Flag,
    /// Addresses and networks, separated by commas.
    Networks,
    /// Shares of audit event types, such as `chat_message_received=0.1`.
    Shares,
    /// Any text without control characters.
    Text,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct SettingInfo {
    /// Its dotted name in `metergate.toml`, such as `retention.realtime_days`.
    pub key: &'static str,
    /// Its environment variable.
    pub env: &'static str,
    /// Its default as text; empty: none, `help` says what happens then.
    pub default: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Whether it is shown as `(set)`.
    pub secret: bool,
    /// Whether it may stand in the file; a secret and what names a server may not.
    pub in_file: bool,
}

impl SettingInfo {
    const fn new(key: &'static str, env: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { key, env, default, help, kind, secret: false, in_file: true }
    }

    const fn only_environment(mut self, secret: bool) -> Self {
        self.in_file = false;
        self.secret = secret;
        self
    }
}

const TABLE: [SettingInfo; 42] = [
    SettingInfo::new(
        "data_dir",
        "METERGATE_DATA_DIR",
        "./metergate-data",
        Kind::Path,
        "The one folder everything is kept in, mode 0700.",
    ),
    SettingInfo::new(
        "listen",
        "METERGATE_LISTEN",
        "127.0.0.1:8080",
        Kind::Address,
        "Where the server listens; port 0 takes a free one.",
    ),
    SettingInfo::new(
        "unknown_tenants",
        "METERGATE_UNKNOWN_TENANTS",
        "create",
        Kind::Choice(&["create", "deny"]),
        "Whether a tenant never seen is registered on the default plan, or answered with 404.",
    ),
    SettingInfo::new(
        "tenants_max",
        "METERGATE_TENANTS_MAX",
        "100000",
        Kind::Count { min: 1, max: 100_000_000 },
        "The most tenants that are registered.",
    ),
    SettingInfo::new(
        "default_plan",
        "METERGATE_DEFAULT_PLAN",
        "trial",
        Kind::Text,
        "The plan of a tenant that registers itself.",
    ),
    SettingInfo::new(
        "default_zone",
        "METERGATE_DEFAULT_ZONE",
        "UTC",
        Kind::Zone,
        "The zone of a new tenant's quota day, by its IANA name.",
    ),
    SettingInfo::new(
        "retention.realtime_days",
        "METERGATE_RETENTION_REALTIME_DAYS",
        "30",
        Kind::Count { min: 1, max: 60 },
        "Days that raw events are kept.",
    ),
    SettingInfo::new(
        "retention.audit_years",
        "METERGATE_RETENTION_AUDIT_YEARS",
        "2",
        Kind::Count { min: 1, max: 100 },
        "Years that audit records are kept.",
    ),
    SettingInfo::new(
        "audit.sampling",
        "METERGATE_AUDIT_SAMPLING",
        "",
        Kind::Shares,
        "Shares of high-volume audit event types that are kept, such as chat_message_received=0.1; failures always are; default: all.",
    ),
    SettingInfo::new(
        "audit.checkpoint_file",
        "METERGATE_AUDIT_CHECKPOINT_FILE",
        "",
        Kind::Path,
        "Where signed checkpoints of the audit log are appended, best on another disk; default: audit-checkpoints.txt in the data folder.",
    ),
    SettingInfo::new(
        "backup.folder",
        "METERGATE_BACKUP_FOLDER",
        "",
        Kind::Path,
        "Where backups are made, best on another disk; default: backups in the data folder.",
    ),
    SettingInfo::new(
        "jobs.aggregate_cron",
        "METERGATE_JOBS_AGGREGATE_CRON",
        "5 * * * *",
        Kind::Cron,
        "When aggregate_usage_metrics runs: cron text in UTC.",
    ),
    SettingInfo::new(
        "jobs.cleanup_cron",
        "METERGATE_JOBS_CLEANUP_CRON",
        "20 3 * * *",
        Kind::Cron,
        "When the clean-ups run: cron text in UTC.",
    ),
    SettingInfo::new(
        "metrics.open",
        "METERGATE_METRICS_OPEN",
        "false",
        Kind::Flag,
        "Whether GET /metrics answers without a key.",
    ),
    SettingInfo::new(
        "ingest.per_key_events_per_second",
        "METERGATE_INGEST_PER_KEY_EVENTS_PER_SECOND",
        "",
        Kind::Count { min: 1, max: 1_000_000_000 },
        "Events, of usage and audit together, that one key may record a second; the built-in key any; default: no cap.",
    ),
    SettingInfo::new(
        "trusted_proxies",
        "METERGATE_TRUSTED_PROXIES",
        "",
        Kind::Networks,
        "Proxies whose X-Forwarded-For is believed (Forwarded is ignored); default: none.",
    ),
    SettingInfo::new(
        "storage.cache_mib",
        "METERGATE_STORAGE_CACHE_MIB",
        "16",
        Kind::Count { min: 1, max: 1_048_576 },
        "The store's page cache, in MiB.",
    ),
    SettingInfo::new(
        "plans_file",
        "METERGATE_PLANS_FILE",
        "",
        Kind::Path,
        "The plans that fill an empty store; default: the shipped ones.",
    ),
    SettingInfo::new(
        "default_output_tokens",
        "METERGATE_DEFAULT_OUTPUT_TOKENS",
        "1024",
        Kind::Count { min: 1, max: 1_000_000 },
        "The output that the OpenAI-compatible door reserves, and asks for at most, when a call names no maximum.",
    ),
    SettingInfo::new(
        "cap_output",
        "METERGATE_CAP_OUTPUT",
        "true",
        Kind::Flag,
        "Whether what is reserved is sent upstream as the call's maximum; false permits overage, which is flagged.",
    ),
    SettingInfo::new(
        "widget.origins",
        "METERGATE_WIDGET_ORIGINS",
        "",
        Kind::Text,
        "The origins that may use POST /api/widget/chat, such as https://example.com, separated by commas; default: none.",
    ),
    SettingInfo::new(
        "widget.upstream",
        "METERGATE_WIDGET_UPSTREAM",
        "",
        Kind::Text,
        "The [[upstream]] that answers the chat widget; default: the one that has widget.model.",
    ),
    SettingInfo::new(
        "widget.model",
        "METERGATE_WIDGET_MODEL",
        "",
        Kind::Text,
        "The model that answers the chat widget; default: the chat route is closed.",
    ),
    SettingInfo::new(
        "widget.system_prompt",
        "METERGATE_WIDGET_SYSTEM_PROMPT",
        "",
        Kind::Text,
        "What the chat widget's model is told before each message; default: nothing.",
    ),
    SettingInfo::new(
        "prices_file",
        "METERGATE_PRICES_FILE",
        "",
        Kind::Path,
        "The prices that fill an empty store, ours, of genai-prices or of LiteLLM; default: the shipped ones.",
    ),
    SettingInfo::new(
        "on_storage_failure",
        "METERGATE_ON_STORAGE_FAILURE",
        "closed",
        Kind::Choice(&["closed", "open"]),
        "While the disk fails: `closed` refuses reservations, `open` lets memory decide, and the answer says `durable: false`.",
    ),
    SettingInfo::new(
        "unpriced_models",
        "METERGATE_UNPRICED_MODELS",
        "deny",
        Kind::Choice(&["deny", "allow"]),
        "Whether a tenant with a cost limit may reserve for a named model that has no price.",
    ),
    SettingInfo::new(
        "platform.tokens_per_minute",
        "METERGATE_PLATFORM_TOKENS_PER_MINUTE",
        "",
        Kind::Amount(QuotaType::Tokens),
        "Tokens that all tenants together may take in any 60 seconds; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.tokens_per_day",
        "METERGATE_PLATFORM_TOKENS_PER_DAY",
        "",
        Kind::Amount(QuotaType::Tokens),
        "Tokens that all tenants together may take a day of default_zone; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.tokens_per_month",
        "METERGATE_PLATFORM_TOKENS_PER_MONTH",
        "",
        Kind::Amount(QuotaType::Tokens),
        "Tokens that all tenants together may take a month of default_zone; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.api_calls_per_minute",
        "METERGATE_PLATFORM_API_CALLS_PER_MINUTE",
        "",
        Kind::Amount(QuotaType::ApiCalls),
        "Calls that all tenants together may take in any 60 seconds; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.api_calls_per_day",
        "METERGATE_PLATFORM_API_CALLS_PER_DAY",
        "",
        Kind::Amount(QuotaType::ApiCalls),
        "Calls that all tenants together may take a day of default_zone; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.api_calls_per_month",
        "METERGATE_PLATFORM_API_CALLS_PER_MONTH",
        "",
        Kind::Amount(QuotaType::ApiCalls),
        "Calls that all tenants together may take a month of default_zone; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.cost_usd_per_minute",
        "METERGATE_PLATFORM_COST_USD_PER_MINUTE",
        "",
        Kind::Amount(QuotaType::Cost),
        "Dollars that all tenants together may take in any 60 seconds; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.cost_usd_per_day",
        "METERGATE_PLATFORM_COST_USD_PER_DAY",
        "",
        Kind::Amount(QuotaType::Cost),
        "Dollars that all tenants together may take a day of default_zone; default: no ceiling.",
    ),
    SettingInfo::new(
        "platform.cost_usd_per_month",
        "METERGATE_PLATFORM_COST_USD_PER_MONTH",
        "",
        Kind::Amount(QuotaType::Cost),
        "Dollars that all tenants together may take a month of default_zone; default: no ceiling.",
    ),
    SettingInfo::new(
        "log.level",
        "METERGATE_LOG_LEVEL",
        "info",
        Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]),
        "How much the server logs.",
    ),
    SettingInfo::new(
        "log.format",
        "METERGATE_LOG_FORMAT",
        "text",
        Kind::Choice(&["text", "json"]),
        "How the server's log lines look.",
    ),
    SettingInfo::new(
        "cron_secret",
        "CRON_SECRET",
        "",
        Kind::Text,
        "Opens POST /api/admin/metrics/aggregate; default: that door is closed.",
    )
    .only_environment(true),
    SettingInfo::new(
        "admin_key",
        "METERGATE_ADMIN_KEY",
        "",
        Kind::Text,
        "The server's admin key; default: made once and kept in admin.key in the data folder.",
    )
    .only_environment(true),
    SettingInfo::new(
        "server",
        "METERGATE_SERVER",
        "",
        Kind::Text,
        "The server that commands talk to; default: they open the data folder.",
    )
    .only_environment(false),
    SettingInfo::new(
        "key",
        "METERGATE_KEY",
        "",
        Kind::Text,
        "The key that commands show to the server; default: admin.key in the data folder.",
    )
    .only_environment(true),
];

/// Every setting there is, in the order they are shown.
pub fn settings_table() -> &'static [SettingInfo] {
    &TABLE
}

impl Kind {
    /// What is allowed, as the rest of "it must be ...".
    pub fn allowed(self) -> String {
        match self {
            Self::Address => "an address and a port, such as 127.0.0.1:8080 or [::1]:0".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Amount(kind @ QuotaType::Cost) => {
                format!(
                    "dollars from 0 to {} with at most 15 decimals, in quotes, such as \"250.00\"",
                    kind.show(kind.max())
                )
            }
            Self::Amount(kind) => format!("a whole number from 0 to {}", kind.show(kind.max())),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Zone => "an IANA time zone, such as UTC or America/Santiago".to_owned(),
            Self::Cron => "a cron schedule in UTC, such as 5 * * * * (minute, hour, day, month, weekday)".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Networks => "addresses or networks separated by commas, such as 127.0.0.1, 10.0.0.0/8".to_owned(),
            Self::Shares => {
                "event types with shares from 0 to 1, such as chat_message_received=0.1, kb_crawled=0.5".to_owned()
            }
            Self::Text => "a text of 1 to 4,096 characters without control characters".to_owned(),
        }
    }

    /// Whether `value` is allowed.
    pub fn allows(self, value: &str) -> bool {
        let plain = !value.is_empty() && value.len() <= 4096 && !value.chars().any(char::is_control);
        plain
            && match self {
                Self::Address => value.parse::<SocketAddr>().is_ok(),
                Self::Count { min, max } => value.parse::<u64>().is_ok_and(|count| (min..=max).contains(&count)),
                Self::Amount(kind) => kind.read(value).is_ok_and(|amount| amount <= kind.max()),
                Self::Choice(words) => words.contains(&value),
                Self::Zone => value.parse::<chrono_tz::Tz>().is_ok(),
                Self::Cron => value.parse::<Schedule>().is_ok(),
                Self::Networks => value.parse::<Networks>().is_ok(),
                Self::Shares => value.parse::<SamplingRules>().is_ok(),
                Self::Flag => matches!(value, "true" | "false"),
                Self::Path | Self::Text => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed_and_every_name_is_there_once() {
        for info in settings_table() {
            assert!(info.default.is_empty() || info.kind.allows(info.default), "{}", info.key);
            assert_eq!(settings_table().iter().filter(|other| other.key == info.key).count(), 1);
            assert_eq!(settings_table().iter().filter(|other| other.env == info.env).count(), 1);
            assert!(!info.secret || !info.in_file, "{} is a secret", info.key);
        }
    }
}
