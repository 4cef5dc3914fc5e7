//! The settings in force, each with where it came from.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::table::{Kind, SettingInfo, settings_table};
use super::{
    ConfigError, EngineSettings, Networks, OnStorageFailure, UnknownTenants, UpstreamSettings, environment_variable,
    file,
};
use crate::domain::quota::Limit;
use crate::domain::schedule::Schedule;

/// Where settings come from, besides defaults.
pub struct Sources<'a> {
    /// Flags that were given, as (key, text).
    pub flags: Vec<(&'static str, String)>,
    /// The file named by `--config`.
    pub config_file: Option<PathBuf>,
    /// Gives an environment variable; empty ones are unset.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Where one value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command.
    Flag,
    /// The setting's environment variable.
    Environment,
    /// This file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

/// One setting in force.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Which.
    pub info: &'static SettingInfo,
    /// Its value as text; `None` when it has no default and nobody set it.
    pub value: Option<String>,
    /// Who set it.
    pub origin: Origin,
}

impl Setting {
    /// The value for people: secrets are `(set)`, nothing is `(not set)`.
    pub fn shown(&self) -> &str {
        match &self.value {
            None => "(not set)",
            Some(_) if self.info.secret => "(set)",
            Some(value) => value,
        }
    }

    /// Where it came from, for people.
    pub fn origin_shown(&self) -> String {
        match &self.origin {
            Origin::Flag => "flag".to_owned(),
            Origin::Environment => format!("environment {}", self.info.env),
            Origin::File(path) => format!("file {}", path.display()),
            Origin::Default => "default".to_owned(),
        }
    }
}

/// Every setting in force. Each value is one that its kind allows.
#[derive(Clone, Debug)]
pub struct Settings {
    all: Vec<Setting>,
    upstreams: Vec<UpstreamSettings>,
    file: Option<PathBuf>,
}

impl Settings {
    /// Reads flags, this process's environment and the file. Fails with the first value that is not allowed.
    pub fn load(flags: Vec<(&'static str, String)>, config_file: Option<PathBuf>) -> Result<Self, ConfigError> {
        Self::from_sources(Sources { flags, config_file, environment: &environment_variable })
    }

    /// [`Settings::load`] from sources of the caller's.
    pub fn from_sources(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let mut all = Vec::new();
        for info in settings_table() {
            let flag = sources.flags.iter().find(|(key, _)| *key == info.key).map(|(_, value)| value.clone());
            let variable = (sources.environment)(info.env).filter(|value| !value.is_empty());
            let (value, origin) = match (flag, variable) {
                (Some(value), _) => (Some(value), Origin::Flag),
                (None, Some(value)) => (Some(value), Origin::Environment),
                (None, None) => (Some(info.default.to_owned()).filter(|text| !text.is_empty()), Origin::Default),
            };
            all.push(Setting { info, value, origin });
        }
        let mut settings = Self { all, upstreams: Vec::new(), file: None };
        if let Some((path, in_data_dir)) = file::find(sources.config_file, &settings.data_dir(), sources.environment) {
            let contents = file::read(&path)?;
            settings.upstreams = contents.upstreams;
            for (info, value) in contents.settings {
                if in_data_dir && info.key == "data_dir" {
                    let reason = "`data_dir` cannot be set by the file inside the data folder: remove it".to_owned();
                    return Err(ConfigError::Key { path, reason });
                }
                if let Some(setting) = settings.all.iter_mut().find(|setting| setting.info.key == info.key)
                    && setting.origin == Origin::Default
                {
                    setting.value = Some(value);
                    setting.origin = Origin::File(path.clone());
                }
            }
            settings.file = Some(path);
        }
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for Setting { info, value, origin } in &self.all {
            let Some(value) = value.as_deref().filter(|value| !info.kind.allows(value)) else { continue };
            let place = match origin {
                Origin::Flag => format!("--{}", flag_name(info.key)),
                Origin::Environment => info.env.to_owned(),
                Origin::File(path) => path.display().to_string(),
                Origin::Default => "default".to_owned(),
            };
            let shown = if info.secret { "(secret)".to_owned() } else { value.chars().take(64).collect() };
            return Err(ConfigError::Value { place, key: info.key, shown, allowed: info.kind.allowed() });
        }
        Ok(())
    }

    /// All of them, in the table's order.
    pub fn all(&self) -> &[Setting] {
        &self.all
    }

    /// The `[[upstream]]` tables of the file.
    pub fn upstreams(&self) -> &[UpstreamSettings] {
        &self.upstreams
    }

    /// The configuration file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The value of a setting as text. `None` for one that is not set, or that does not exist.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.all.iter().find(|setting| setting.info.key == key).and_then(|setting| setting.value.as_deref())
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(self.value("data_dir").unwrap_or_default())
    }

    /// Where to listen.
    pub fn listen(&self) -> SocketAddr {
        // `check` parsed it already; the fallback is the documented default.
        let fallback = SocketAddr::from(([127, 0, 0, 1], 8080));
        self.value("listen").and_then(|text| text.parse().ok()).unwrap_or(fallback)
    }

    /// Whose word about a client's address is believed.
    pub fn trusted_proxies(&self) -> Networks {
        // `check` parsed it already; none is the documented default.
        self.value("trusted_proxies").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// How many events one key may record a second; `None` for no cap.
    pub fn per_key_events_per_second(&self) -> Option<u64> {
        self.value("ingest.per_key_events_per_second").and_then(|text| text.parse().ok())
    }

    /// A schedule among the settings.
    pub fn schedule(&self, key: &str) -> Schedule {
        // `check` parsed it already; a setting that is no schedule is once an hour.
        self.value(key).and_then(|text| text.parse().ok()).unwrap_or_else(Schedule::hourly)
    }

    /// The ceilings over all tenants that are set.
    fn ceilings(&self) -> Vec<Limit> {
        let mut ceilings = Vec::new();
        for Setting { info, value, .. } in &self.all {
            let (Kind::Amount(quota_type), Some(text)) = (info.kind, value) else { continue };
            // The key ends with a window's name, and `check` read the amount already.
            let window = info.key.rsplit('_').next().and_then(|window| window.parse().ok());
            if let (Some(window), Ok(limit)) = (window, quota_type.read(text)) {
                ceilings.push(Limit { quota_type, window, limit, observe: false });
            }
        }
        ceilings
    }

    /// What the engine needs.
    pub fn engine(&self) -> EngineSettings {
        let mut engine = EngineSettings::new(self.data_dir());
        let text = |key| self.value(key).unwrap_or_default();
        let count = |key| text(key).parse::<u64>().ok();
        if text("unknown_tenants") == "deny" {
            engine.unknown_tenants = UnknownTenants::Deny;
        }
        engine.tenants_max = count("tenants_max").unwrap_or(engine.tenants_max);
        engine.default_plan = text("default_plan").to_owned();
        engine.default_zone = text("default_zone").parse().unwrap_or(engine.default_zone);
        // All are within the ranges of their kinds, far below the ends of the types.
        engine.realtime_days = count("retention.realtime_days").map_or(engine.realtime_days, |days| days as u32);
        engine.audit_years = count("retention.audit_years").map_or(engine.audit_years, |years| years as u32);
        engine.cache_bytes = count("storage.cache_mib").map_or(engine.cache_bytes, |mib| mib as usize * 1024 * 1024);
        engine.ceilings = self.ceilings();
        engine.audit_sampling = text("audit.sampling").parse().unwrap_or(engine.audit_sampling);
        engine.checkpoint_file = self.value("audit.checkpoint_file").map(PathBuf::from);
        engine.backup_dir = self.value("backup.folder").map(PathBuf::from);
        engine.prices_file = self.value("prices_file").map(PathBuf::from);
        if text("on_storage_failure") == "open" {
            engine.on_storage_failure = OnStorageFailure::Open;
        }
        engine.allow_unpriced_models = text("unpriced_models") == "allow";
        engine.plans_file = self.value("plans_file").map(PathBuf::from);
        engine
    }
}

/// `retention.realtime_days` is `--realtime-days` on the command line.
fn flag_name(key: &str) -> String {
    let last = key.rsplit('.').next().unwrap_or(key);
    let name = if key.starts_with("log.") { key } else { last };
    name.replace(['.', '_'], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        flags: &[(&'static str, &str)],
        variables: &[(&str, &str)],
        file: Option<(&Path, &str)>,
    ) -> Result<Settings, String> {
        let config_file = file.map(|(folder, text)| {
            let path = folder.join("metergate.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let environment =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::from_sources(Sources {
            flags: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            config_file,
            environment: &environment,
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file_which_beats_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "listen = \"127.0.0.1:1\"\ntenants_max = 7\ndefault_plan = \"pro\"\n[retention]\nrealtime_days = 9\n";
        let settings = load(
            &[("listen", "127.0.0.1:3")],
            &[("METERGATE_LISTEN", "127.0.0.1:2"), ("METERGATE_TENANTS_MAX", "8"), ("METERGATE_DEFAULT_ZONE", "")],
            Some((folder.path(), text)),
        )
        .unwrap();
        assert_eq!(settings.listen().port(), 3);
        let engine = settings.engine();
        assert_eq!((engine.tenants_max, engine.realtime_days), (8, 9));
        assert_eq!((engine.default_plan.as_str(), engine.default_zone), ("pro", chrono_tz::UTC));
        let origin = |key: &str| settings.all().iter().find(|setting| setting.info.key == key).unwrap().origin.clone();
        assert_eq!(origin("listen"), Origin::Flag);
        assert_eq!(origin("tenants_max"), Origin::Environment);
        assert_eq!(origin("default_plan"), Origin::File(folder.path().join("metergate.toml")));
        assert_eq!(origin("default_zone"), Origin::Default);
    }

    #[test]
    fn a_mistake_in_the_file_names_file_key_and_what_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("lisen = 1", vec!["metergate.toml", "`lisen`", "use one of data_dir, listen"]),
            ("[retention]\nrealtime_days = 61", vec!["retention.realtime_days", "from 1 to 60", "`61`"]),
            ("[retention]\nrealtime_days = \"9\"", vec!["retention.realtime_days", "without quotes"]),
            ("tenants_max = true", vec!["tenants_max", "boolean", "whole number"]),
            ("cron_secret = \"x\"", vec!["CRON_SECRET", "may not stand in a file"]),
            ("retention = 3", vec!["[retention]"]),
            ("default_zone = \"Mars/Olympus\"", vec!["default_zone", "IANA", "Mars/Olympus"]),
            ("[jobs]\ncleanup_cron = \"daily\"", vec!["jobs.cleanup_cron", "cron schedule", "`daily`"]),
            ("[platform]\ntokens_per_day = -1", vec!["platform.tokens_per_day", "a whole number from 0", "`-1`"]),
            ("[platform]\ncost_usd_per_day = 1.5", vec!["platform.cost_usd_per_day", "float", "in quotes"]),
            ("[platform]\nwords_per_day = 1", vec!["there is no setting `platform.words_per_day`"]),
            ("[metrics]\nopen = \"yes\"", vec!["metrics.open", "true or false"]),
            ("listen = ", vec!["not valid TOML"]),
        ] {
            let error = load(&[], &[], Some((folder.path(), text))).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
        }
    }

    #[test]
    fn ceilings_are_those_that_are_set() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[platform]\ntokens_per_day = 5\ncost_usd_per_month = \"2.50\"\n";
        let variables = [("METERGATE_PLATFORM_API_CALLS_PER_MINUTE", "7")];
        let engine = load(&[], &variables, Some((folder.path(), text))).unwrap().engine();
        let shown: Vec<String> = engine
            .ceilings
            .iter()
            .map(|Limit { quota_type, window, limit, .. }| format!("{quota_type}/{window} {}", quota_type.show(*limit)))
            .collect();
        assert_eq!(shown, ["tokens/day 5", "api_calls/minute 7", "cost/month 2.5"]);
        assert_eq!(load(&[], &[], None).unwrap().engine().ceilings, []);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let settings = load(&[], &[("CRON_SECRET", "hush")], None).unwrap();
        let secret = settings.all().iter().find(|setting| setting.info.key == "cron_secret").unwrap();
        assert_eq!((secret.shown(), secret.origin_shown().as_str()), ("(set)", "environment CRON_SECRET"));
        let error = load(&[("listen", "here")], &[], None).unwrap_err();
        assert!(error.starts_with("--listen: `here` is not allowed for listen"), "{error}");
        let error = load(&[], &[("CRON_SECRET", "hu\nsh")], None).unwrap_err();
        assert!(!error.contains("hu"), "{error}");
    }
}
