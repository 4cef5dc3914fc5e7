//! `metergate serve`: everything from an empty folder to a listening server, and a graceful stop.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::admin_key::{self, AdminKey};
use super::development::{self, DevelopmentFolder};
use super::failure::{Exit, Failure, chain};
use super::local::{open_failure, prepare_folder};
use super::target::Global;
use crate::app::{self, AppError, AppSettings};
use crate::config::{Settings, environment_variable};
use crate::gateway::{GatewaySettings, WidgetSettings};
use crate::http::ServerLimits;
use crate::jobs::JobName;

/// A key shorter than this is warned about.
const KEY_LENGTH_ADVISED: usize = 16;

/// Flags of `serve`. Each but `--dev` is also a setting: see `metergate config`.
#[derive(Args, Debug, Default)]
pub struct ServeArgs {
    /// For development: a temporary folder, loopback only, and a clock that POST /api/dev/clock moves forward
    #[arg(long)]
    dev: bool,
    /// Where to listen; port 0 takes a free one [env: METERGATE_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// create: a tenant never seen is registered; deny: it is answered with 404 [env: METERGATE_UNKNOWN_TENANTS] [default: create]
    #[arg(long, value_name = "create|deny")]
    unknown_tenants: Option<String>,
    /// The most tenants that are registered [env: METERGATE_TENANTS_MAX] [default: 100000]
    #[arg(long, value_name = "N")]
    tenants_max: Option<String>,
    /// The plan of a tenant that registers itself [env: METERGATE_DEFAULT_PLAN] [default: trial]
    #[arg(long, value_name = "PLAN")]
    default_plan: Option<String>,
    /// The time zone of a new tenant's quota day [env: METERGATE_DEFAULT_ZONE] [default: UTC]
    #[arg(long, value_name = "ZONE")]
    default_zone: Option<String>,
    /// Days that raw events are kept, 1 to 60 [env: METERGATE_RETENTION_REALTIME_DAYS] [default: 30]
    #[arg(long, value_name = "DAYS")]
    realtime_days: Option<String>,
    /// Years that audit records are kept, 1 to 100 [env: METERGATE_RETENTION_AUDIT_YEARS] [default: 2]
    #[arg(long, value_name = "YEARS")]
    audit_years: Option<String>,
    /// When events are aggregated: cron text in UTC [env: METERGATE_JOBS_AGGREGATE_CRON] [default: 5 * * * *]
    #[arg(long, value_name = "CRON")]
    aggregate_cron: Option<String>,
    /// When old events are removed: cron text in UTC [env: METERGATE_JOBS_CLEANUP_CRON] [default: 20 3 * * *]
    #[arg(long, value_name = "CRON")]
    cleanup_cron: Option<String>,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks [env: METERGATE_TRUSTED_PROXIES] [default: none]
    #[arg(long, value_name = "ADDRESSES")]
    trusted_proxies: Option<String>,
    /// The store's page cache in MiB [env: METERGATE_STORAGE_CACHE_MIB] [default: 16]
    #[arg(long, value_name = "MIB")]
    cache_mib: Option<String>,
    /// The plans that fill an empty store [env: METERGATE_PLANS_FILE] [default: the shipped ones]
    #[arg(long, value_name = "FILE")]
    plans_file: Option<PathBuf>,
    /// off, error, warn, info, debug or trace [env: METERGATE_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [env: METERGATE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl ServeArgs {
    /// What `metergate demo` serves with: a development server.
    pub fn of_demo(listen: &str, log_level: &str) -> Self {
        let (listen, log_level) = (Some(listen.to_owned()), Some(log_level.to_owned()));
        Self { dev: true, listen, log_level, ..Self::default() }
    }

    /// The flags that were given, by the keys of their settings.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let plans_file = self.plans_file.as_ref().map(|path| path.to_string_lossy().into_owned());
        [
            ("listen", &self.listen),
            ("unknown_tenants", &self.unknown_tenants),
            ("tenants_max", &self.tenants_max),
            ("default_plan", &self.default_plan),
            ("default_zone", &self.default_zone),
            ("retention.realtime_days", &self.realtime_days),
            ("retention.audit_years", &self.audit_years),
            ("jobs.aggregate_cron", &self.aggregate_cron),
            ("jobs.cleanup_cron", &self.cleanup_cron),
            ("trusted_proxies", &self.trusted_proxies),
            ("storage.cache_mib", &self.cache_mib),
            ("plans_file", &plans_file),
            ("log.level", &self.log_level),
            ("log.format", &self.log_format),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.clone().map(|value| (key, value)))
        .collect()
    }
}

/// The settings in force for these flags.
pub fn settings(global: &Global, mut flags: Vec<(&'static str, String)>) -> Result<Settings, Failure> {
    if let Some(folder) = &global.data_dir {
        flags.push(("data_dir", folder.to_string_lossy().into_owned()));
    }
    Settings::load(flags, global.config.clone()).map_err(|error| Failure::new(Exit::Usage, chain(&error)))
}

/// Serves until SIGTERM or SIGINT, then finishes what was accepted.
pub fn run(global: &Global, args: &ServeArgs) -> Result<Exit, Failure> {
    serve(global, args, |_, _| {})
}

/// [`run`], which tells `on_listening` the address and the admin key once it listens.
pub fn serve(
    global: &Global,
    args: &ServeArgs,
    on_listening: impl FnOnce(SocketAddr, &str) + Send,
) -> Result<Exit, Failure> {
    let mut settings = settings(global, args.flags())?;
    let folder = if args.dev {
        development::refuse_others(settings.listen())?;
        let folder = DevelopmentFolder::make(global.data_dir.as_deref())?;
        let own = Global { data_dir: Some(folder.path().to_owned()), config: global.config.clone() };
        settings = self::settings(&own, args.flags())?;
        Some(folder)
    } else {
        None
    };
    start_logging(&settings);
    prepare_folder(&settings.data_dir())?;
    let key = match settings.value("admin_key") {
        Some(key) => {
            admin_key::check(key).map_err(|reason| Failure::usage(format!("METERGATE_ADMIN_KEY: {reason}")))?;
            if key.len() < KEY_LENGTH_ADVISED {
                tracing::warn!("METERGATE_ADMIN_KEY is shorter than {KEY_LENGTH_ADVISED} characters: easy to guess");
            }
            AdminKey { key: key.to_owned(), made: None }
        }
        None => admin_key::read_or_make(&settings.data_dir())?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused(Exit::Failed, "the server's threads cannot be started", &error))?;
    let served = runtime.block_on(listen(&settings, key, args.dev, on_listening));
    // Only now is nothing in it open any more.
    drop(folder);
    served
}

async fn listen(
    settings: &Settings,
    key: AdminKey,
    development: bool,
    listening: impl FnOnce(SocketAddr, &str),
) -> Result<Exit, Failure> {
    let stop = stop_signal().map_err(|error| Failure::caused(Exit::Failed, "signals cannot be watched", &error))?;
    let gateway = gateway_settings(settings)?;
    let app = AppSettings {
        gateway,
        widget: widget_settings(settings),
        listen: settings.listen(),
        admin_key: key.key.clone(),
        cron_secret: settings.value("cron_secret").map(str::to_owned),
        aggregate_schedule: settings.schedule(JobName::AggregateUsageMetrics.setting()),
        cleanup_schedule: settings.schedule(JobName::CleanupOldRealtimeEvents.setting()),
        metrics_open: settings.value("metrics.open") == Some("true"),
        trusted_proxies: settings.trusted_proxies(),
        per_key_events_per_second: settings.per_key_events_per_second(),
        engine: settings.engine(),
        development,
        limits: ServerLimits::default(),
    };
    let folder = development.then(|| settings.data_dir());
    let on_listening = move |address| {
        announce(address, &key);
        if let Some(folder) = folder {
            development::announce(&folder);
        }
        listening(address, &key.key);
    };
    match app::run(app, stop, on_listening).await {
        Ok(()) => Ok(Exit::Ok),
        Err(AppError::Open(error)) => Err(open_failure(error)),
        Err(error) => Err(Failure::new(Exit::Failed, chain(&error))),
    }
}

/// The upstreams with their keys, which only the environment has.
fn gateway_settings(settings: &Settings) -> Result<GatewaySettings, Failure> {
    let mut upstreams = Vec::new();
    for upstream in settings.upstreams() {
        let key = upstream.api_key_env.as_deref().map(|variable| {
            environment_variable(variable).ok_or_else(|| {
                let (name, reason) =
                    (&upstream.name, "is not set: set it to the upstream's key, or remove api_key_env");
                Failure::usage(format!("upstream `{name}`: the environment variable {variable} {reason}"))
            })
        });
        upstreams.push((upstream.clone(), key.transpose()?));
    }
    let default = GatewaySettings::default();
    Ok(GatewaySettings {
        upstreams,
        // `Settings` has checked its range already.
        default_output_tokens: settings
            .value("default_output_tokens")
            .and_then(|text| text.parse().ok())
            .unwrap_or(default.default_output_tokens),
        cap_output: settings.value("cap_output") != Some("false"),
    })
}

fn widget_settings(settings: &Settings) -> WidgetSettings {
    let text = |key| settings.value(key).map(str::to_owned);
    let origins = settings.value("widget.origins").unwrap_or_default().split(',').map(str::trim);
    WidgetSettings {
        origins: origins.filter(|origin| !origin.is_empty()).map(str::to_owned).collect(),
        upstream: text("widget.upstream"),
        model: text("widget.model"),
        system_prompt: text("widget.system_prompt"),
    }
}

/// Standard output's first line is where the server listens; a new key follows, on a terminal only.
fn announce(address: SocketAddr, key: &AdminKey) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading: the server serves all the same.
    let _ = writeln!(out, "metergate is listening on http://{address}");
    if let Some(path) = &key.made {
        if out.is_terminal() {
            let _ = writeln!(out, "admin key (shown once, kept in {}): {}", path.display(), key.key);
        }
        tracing::info!(path = %path.display(), "the admin key was made");
    }
    let _ = out.flush();
}

/// Ends at the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            tracing::info!("stopping: requests in progress are finished first");
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn start_logging(settings: &Settings) {
    let filter = EnvFilter::new(settings.value("log.level").unwrap_or("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A test that runs the command twice in one process keeps the first.
    let _ = match settings.value("log.format") {
        Some("json") => lines.json().flatten_event(true).try_init(),
        _ => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
