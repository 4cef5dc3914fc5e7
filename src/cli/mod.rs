//! The command line: words typed by a person become requests, answers become tables or JSON.

mod admin_key;
mod alerts;
mod audit;
mod audit_bundle;
mod audit_proofs;
mod backend;
mod backup;
mod completions;
mod config;
mod demo;
mod development;
mod doctor;
mod erase;
mod explain;
mod failure;
#[cfg(test)]
mod fuzz_tests;
mod help;
mod import;
mod jobs;
mod keys;
mod local;
mod moment;
mod operations;
mod plan_costs;
mod plans;
mod prices;
mod quota;
mod reconcile;
mod reference;
mod serve;
mod show;
mod target;
mod tenant_prices;
mod tenants;
mod thresholds;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use backend::Backend;
use failure::{Exit, Failure};
use local::Purpose;
use target::{Global, Target};

const AFTER_HELP: &str = "\
Start:
  metergate serve                                   nothing to set up; listens on 127.0.0.1:8080
  metergate usage acme --server http://127.0.0.1:8080
  metergate import trace.csv --format azure-llm --start-at 2026-11-20

Commands that read or change data open the data folder when no server runs, and talk to a running
one with --server URL (METERGATE_SERVER). The key is --key, METERGATE_KEY, or admin.key in the data folder.

Exit codes:
  0  done; for a check: allowed
  1  it failed, or some of the input was not taken
  2  the command line or the configuration is wrong
  3  a check says no: denied or exceeded
  4  verify found differences
  5  the server does not answer, or the data folder cannot be opened";

/// Usage metering, quota enforcement and an audit log in one binary.
#[derive(Parser, Debug)]
#[command(name = "metergate", version, about, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve HTTP until SIGTERM or Ctrl-C, then finish what was accepted
    #[command(
        after_help = "Examples:\n  metergate serve\n  metergate serve --listen 0.0.0.0:8080 --data-dir /var/lib/metergate\n  \
        CRON_SECRET=... METERGATE_ADMIN_KEY=... metergate serve --log-format json\n  metergate serve --dev --listen 127.0.0.1:0\n\n\
        The admin key is made at the first start and kept in admin.key in the data folder (mode 0600);\n\
        METERGATE_ADMIN_KEY sets it instead. Standard output's first line says where the server listens.\n\
        A metergate.toml may look like this:\n\n  listen = \"127.0.0.1:8080\"\n  default_plan = \"trial\"\n\n  \
        [retention]\n  realtime_days = 30\n\n  [log]\n  format = \"json\""
    )]
    Serve(serve::ServeArgs),
    /// Serve with a week of invented usage and traffic flowing, to look at everything in a minute
    #[command(after_help = demo::AFTER_HELP)]
    Demo(demo::DemoArgs),
    /// Record events from files, plain or gzip; a second run adds nothing
    #[command(after_help = import::AFTER_HELP)]
    Import(import::ImportArgs),
    /// Show the usage of one tenant by period, or the totals of all
    #[command(
        after_help = "Examples:\n  metergate usage\n  metergate usage acme --period hourly --from 2026-11-23 --to 2026-11-24\n  \
        metergate usage acme --json | jq '.usage[0].total_tokens_used'"
    )]
    Usage(usage::UsageArgs),
    /// Show the tenants that use the most
    #[command(after_help = "Examples:\n  metergate top\n  metergate top cost --period monthly --limit 3")]
    Top(usage::TopArgs),
    /// Show, ask and set quotas
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
    /// List, show and change tenants
    #[command(subcommand)]
    Tenants(tenants::TenantsCommand),
    /// Show, compare and change the plans
    #[command(subcommand)]
    Plans(plans::PlansCommand),
    /// Show, compare, import and check the prices of models
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// List, make, rotate and revoke keys; make the admin key anew
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List, resolve and report audit events
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// List the thresholds of limits that were crossed, newest first
    #[command(after_help = "Examples:\n  metergate alerts --since 2026-11-24\n  metergate alerts --tenant acme --json")]
    Alerts(alerts::AlertsArgs),
    /// Compare metered usage and cost with the provider's own report, by day and model; exit code 1 beyond the tolerance
    #[command(after_help = reconcile::AFTER_HELP)]
    Reconcile(reconcile::ReconcileArgs),
    /// Make a verified backup of a store, running or not; list and check backups
    #[command(after_help = backup::AFTER_HELP)]
    Backup(backup::BackupArgs),
    /// Put a verified backup into an empty data folder
    #[command(after_help = backup::RESTORE_AFTER_HELP)]
    Restore(backup::RestoreArgs),
    /// Erase what names an actor, a chat session or a deleted tenant; without --yes only count
    #[command(after_help = erase::AFTER_HELP)]
    Erase(erase::EraseArgs),
    /// Recompute what can be recomputed and report every difference; exit code 4 when there are any
    #[command(after_help = "Example:\n  metergate verify --server http://127.0.0.1:8080")]
    Verify(operations::PlainArgs),
    /// Show the server on one screen: ready, tenants, events today, file, jobs, alarms
    #[command(after_help = "Example:\n  metergate status --server http://127.0.0.1:8080")]
    Status(jobs::StatusArgs),
    /// Show each job's last run, result and next run; run one now; confirm the clock
    #[command(after_help = "Examples:\n  metergate jobs\n  metergate jobs run aggregate_usage_metrics")]
    Jobs(jobs::JobsArgs),
    /// Show the settings in force, and where each came from
    #[command(after_help = "Examples:\n  metergate config\n  metergate config --config /etc/metergate.toml --json\n\n\
        Flags beat the environment, which beats the file, which beats the defaults.")]
    Config(config::ConfigArgs),
    /// Fold events into hourly, daily and monthly rows; running it twice changes nothing
    #[command(
        after_help = "Examples:\n  metergate aggregate-usage-metrics\n  metergate aggregate-usage-metrics --from 2026-11-01 --to 2026-11-07"
    )]
    AggregateUsageMetrics(operations::AggregateArgs),
    /// Print whether so many more tokens fit in a tenant's quota of today; exit code 3 when they do not
    #[command(after_help = "Example:\n  metergate check-tenant-quota acme --tokens 2000")]
    CheckTenantQuota(operations::CheckTenantQuotaArgs),
    /// Remove raw events older than the retention, never one that is not aggregated
    #[command(after_help = "Example:\n  metergate cleanup-old-realtime-events")]
    CleanupOldRealtimeEvents(operations::PlainArgs),
    /// Remove audit events older than the retention, at most seven days of them a run
    #[command(after_help = "Example:\n  metergate cleanup-old-audit-events")]
    CleanupOldAuditEvents(operations::PlainArgs),
    /// Mark an audit event as resolved and print whether it was open; exit code 3 when it was resolved before
    #[command(
        after_help = "Example:\n  metergate resolve-audit-event 019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f --action \"key replaced\""
    )]
    ResolveAuditEvent(audit::ResolveArgs),
    /// Look at folder, disk, clock, secrets and jobs, and try a reserve, a denial, a settle and the audit log
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::DoctorArgs),
    /// Print a script that completes commands and flags, for a shell
    #[command(after_help = "Examples:\n  metergate completions bash > /etc/bash_completion.d/metergate\n  \
        metergate completions fish > ~/.config/fish/completions/metergate.fish")]
    Completions(completions::CompletionsArgs),
    /// Explain a command, or print the reference or the runbook
    #[command(
        after_help = "Examples:\n  metergate help quota set\n  metergate help reference | less\n  metergate help runbook clock_unconfirmed"
    )]
    Help(help::HelpArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs a command line; errors become one line on standard error.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refusal) => {
            // Help and version are asked for and go to standard output; a reader may have gone away.
            let _ = refusal.print();
            return ExitCode::from(if refusal.use_stderr() { Exit::Usage as u8 } else { Exit::Ok as u8 });
        }
    };
    match dispatch(&cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            let _ = writeln!(std::io::stderr().lock(), "error: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Serve(args) => serve::run(global, args),
        Command::Demo(args) => demo::run(global, args),
        Command::Doctor(args) => doctor::run(global, args),
        Command::Completions(args) => Ok(args.run(Cli::command())),
        Command::Help(args) => args.run(Cli::command()),
        Command::Config(args) => config::run(args, &serve::settings(global, Vec::new())?),
        Command::Import(args) => {
            args.check()?;
            ask(global, &args.target, Purpose::Write, |backend| import::run(args, backend))
        }
        Command::Usage(args) => ask(global, &args.target, Purpose::Read, |backend| usage::usage(args, backend)),
        Command::Top(args) => ask(global, &args.target, Purpose::Read, |backend| usage::top(args, backend)),
        Command::Quota(command) => {
            let purpose = if command.writes() { Purpose::Write } else { Purpose::Read };
            ask(global, command.target(), purpose, |backend| command.run(backend))
        }
        Command::Tenants(command) => {
            let purpose = if command.writes() { Purpose::Write } else { Purpose::Read };
            ask(global, command.target(), purpose, |backend| command.run(backend))
        }
        Command::Plans(command) => {
            let purpose = if command.writes() { Purpose::Write } else { Purpose::Read };
            ask(global, command.target(), purpose, |backend| command.run(backend))
        }
        Command::Prices(command) => {
            let purpose = if command.writes() { Purpose::Write } else { Purpose::Read };
            ask(global, command.target(), purpose, |backend| command.run(backend))
        }
        Command::Alerts(args) => ask(global, &args.target, Purpose::Read, |backend| alerts::run(args, backend)),
        Command::Keys(command) => match command.target() {
            None => admin_key::reset(&serve::settings(global, Vec::new())?),
            Some(target) => {
                let purpose = if command.writes() { Purpose::Write } else { Purpose::Read };
                ask(global, target, purpose, |backend| command.run(backend))
            }
        },
        Command::Reconcile(args) => ask(global, &args.target, Purpose::Read, |backend| reconcile::run(args, backend)),
        Command::Backup(args) if args.is_of_a_file() => backup::check(args),
        Command::Backup(args) => ask(global, &args.target, Purpose::Read, |backend| backup::run(args, backend)),
        Command::Restore(args) => backup::restore(args, &serve::settings(global, Vec::new())?),
        Command::Erase(args) => ask(global, &args.target, Purpose::Read, |backend| erase::run(args, backend)),
        Command::Verify(args) => ask(global, &args.target, Purpose::Read, |backend| operations::verify(args, backend)),
        Command::Status(args) => ask(global, &args.target, Purpose::Read, |backend| jobs::status(args, backend)),
        Command::Jobs(args) => ask(global, args.target(), Purpose::Read, |backend| args.run(backend)),
        Command::AggregateUsageMetrics(args) => {
            ask(global, &args.target, Purpose::Read, |backend| operations::aggregate_usage_metrics(args, backend))
        }
        Command::CheckTenantQuota(args) => {
            ask(global, &args.target, Purpose::Read, |backend| operations::check_tenant_quota(args, backend))
        }
        Command::CleanupOldRealtimeEvents(args) => {
            ask(global, &args.target, Purpose::Read, |backend| operations::cleanup_old_realtime_events(args, backend))
        }
        Command::Audit(audit::AuditCommand::Verify(args)) if args.is_of_a_bundle() => audit_proofs::verify_bundle(args),
        Command::Audit(command) => ask(global, command.target(), Purpose::Read, |backend| command.run(backend)),
        Command::CleanupOldAuditEvents(args) => {
            ask(global, &args.target, Purpose::Read, |backend| operations::cleanup_old_audit_events(args, backend))
        }
        Command::ResolveAuditEvent(args) => {
            ask(global, &args.target, Purpose::Read, |backend| audit::resolve(args, backend))
        }
    }
}

/// Opens what the command asks, runs it, and closes what was opened even when it failed.
fn ask(
    global: &Global,
    target: &Target,
    purpose: Purpose,
    command: impl FnOnce(&Backend) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let backend = Backend::open(target, &serve::settings(global, Vec::new())?, purpose)?;
    let outcome = command(&backend);
    backend.close();
    outcome
}

/// Every command that can be typed, as (name such as `quota set`, one line about it).
pub fn command_table() -> Vec<(String, String)> {
    fn walk(command: &clap::Command, prefix: &str, table: &mut Vec<(String, String)>) {
        for inner in command.get_subcommands() {
            let name = format!("{prefix}{}", inner.get_name());
            if inner.has_subcommands() {
                walk(inner, &format!("{name} "), table);
            } else {
                table.push((name, inner.get_about().map(ToString::to_string).unwrap_or_default()));
            }
        }
    }
    let mut table = Vec::new();
    walk(&Cli::command(), "", &mut table);
    table
}

/// Whether a line such as `metergate quota status acme` could be typed.
pub fn can_be_typed(line: &str) -> bool {
    Cli::command().try_get_matches_from(line.split_whitespace()).is_ok()
}

/// The reference as `metergate help reference` prints it.
pub fn reference() -> String {
    reference::text(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_each_teaches() {
        Cli::command().debug_assert();
        let names: Vec<String> = command_table().into_iter().map(|(name, _)| name).collect();
        for name in ["serve", "quota set", "tenants list", "check-tenant-quota", "cleanup-old-realtime-events"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        for (name, about) in command_table() {
            assert!(!about.is_empty(), "{name}");
            let mut command = Cli::command();
            let mut found = &mut command;
            for word in name.split(' ') {
                found = found.find_subcommand_mut(word).unwrap();
            }
            assert!(found.get_after_help().is_some_and(|help| help.to_string().contains("Example")), "{name}");
        }
    }
}
