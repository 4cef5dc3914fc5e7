//! The reference: routes, settings, commands, errors and metrics, written from the tables that the program itself uses.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::config::{UPSTREAM_FIELDS, settings_table};
use crate::http::{error_table, metrics_table, route_note, route_table};

const INTRO: &str = "\
# metergate: reference

Written by `metergate help reference` from the program's own tables; a test compares. Not to be edited by hand.

Contents: [routes](#routes) · [settings](#settings) · [commands](#commands) · [error codes](#error-codes) ·
[metrics](#metrics)
";

const ROUTES: &str = "
## Routes

JSON in, JSON out. `Authorization: Bearer KEY` on every route whose role is not `open`; the `cron secret` is a header of
its own. A body has at most 64 KiB, a batch of events 8 MiB. Days may be given as `2026-11-24`, end day included. In paths
the fixed words win: a tenant named `events` cannot be read by `GET /api/usage/{tenant}`, nor one named `check`, `enforce` or
`reserve` by `GET /api/quota/{tenant}` (405). `x-request-id` of 1 to 128 visible characters is echoed and logged, else one is
made. Decisions carry `RateLimit-Policy`, `RateLimit` and, when denied, `Retry-After`.

| route | role | what |
|---|---|---|
";

const SETTINGS: &str = "
## Settings

Flags over environment over `metergate.toml` (the file named by `--config` or `METERGATE_CONFIG`, else the one in the current
folder, else the one in the data folder). A dot is a table: `[retention]`, `realtime_days = 30`. Secrets and what names a
server are read from flags and environment only. `metergate config` shows what is in force and where it came from.

| setting | environment | default | allowed | what |
|---|---|---|---|---|
";

const UPSTREAMS: &str = "
### Upstreams

Where the OpenAI-compatible door forwards to. Each is a table `[[upstream]]` of `metergate.toml`. A model goes to the upstream
that names it, else to the longest pattern that fits. Redirects are not followed, no proxy is taken from the environment.

```toml
[[upstream]]
name = \"openai\"
base_url = \"https://api.openai.com/v1\"
api_key_env = \"OPENAI_API_KEY\"
models = [\"gpt-4o\", \"gpt-4o-mini\", \"o3*\", \"text-embedding-3-small\"]
max_output_tokens = { \"gpt-4o\" = 16384, \"gpt-4o-mini\" = 16384 }
```

| field | what |
|---|---|
";

const COMMANDS: &str = "
## Commands

Tables for people, `--json` for programs. A command that needs the store while a server has it open talks to that server:
`--server` and `--key`. `metergate help COMMAND` shows examples. Exit codes are listed by `metergate --help`.
";

const ERRORS: &str = "
## Error codes

Errors are `{error, code, details?}`. The sentence is for people; the code is stable. In the `rejected` list of a batch the
codes are the same and the answer is 200. The cron door's 401 has no code. `metergate help runbook` has more about those
that an operator meets.

| status | code | meaning | what to do |
|---|---|---|---|
";

const METRICS: &str = "
## Metrics

`GET /metrics`, Prometheus text. Counters begin at 0 with the process unless they say otherwise; no label names a tenant.

| metric | type | labels | meaning |
|---|---|---|---|
";

/// The whole text. `root` is the whole command line. Writing to a `String` cannot fail.
pub fn text(mut root: Command) -> String {
    let mut text = INTRO.to_owned();
    text.push_str(ROUTES);
    for route in route_table() {
        let note = route_note(route.operation_id).map(|note| format!(". {note}")).unwrap_or_default();
        let _ =
            writeln!(text, "| `{} {}` | {} | {}{note} |", route.method, route.path, route.role, cell(route.summary));
    }
    text.push_str(SETTINGS);
    for info in settings_table() {
        let default = if info.default.is_empty() { "none".to_owned() } else { format!("`{}`", info.default) };
        let (key, env, allowed, help) = (info.key, info.env, info.kind.allowed(), cell(info.help));
        let _ = writeln!(text, "| `{key}` | `{env}` | {default} | {} | {help} |", cell(&allowed));
    }
    text.push_str(UPSTREAMS);
    for (field, help) in UPSTREAM_FIELDS {
        let _ = writeln!(text, "| `{field}` | {} |", cell(help));
    }
    text.push_str(COMMANDS);
    root.build();
    let _ = writeln!(text, "\nEverywhere:\n");
    arguments(&root, |arg| arg.is_global_set(), &mut text);
    if let Some(asking) = root.find_subcommand("verify") {
        let _ = writeln!(text, "\nWith each command that asks for data, further down called `SERVER`:\n");
        arguments(asking, is_target, &mut text);
    }
    commands(&root, "metergate", &mut text);
    text.push_str(ERRORS);
    for info in error_table() {
        let _ =
            writeln!(text, "| {} | `{}` | {} | {} |", info.status, info.code, cell(info.meaning), cell(info.remedy));
    }
    text.push_str(METRICS);
    for info in metrics_table() {
        let labels: Vec<String> = info.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", info.name, info.kind, labels.join(", "), cell(info.help));
    }
    text
}

/// Every command below this one, in their order.
fn commands(parent: &Command, path: &str, text: &mut String) {
    for command in parent.get_subcommands().filter(|command| command.get_name() != "help" || path == "metergate") {
        let path = format!("{path} {}", command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let takes_none = command.is_subcommand_required_set();
        if !takes_none {
            let positional: String = command.get_positionals().map(|arg| format!(" {}", shown(arg))).collect();
            let _ = writeln!(text, "\n### `{path}{positional}`\n\n{about}.\n");
            arguments(command, |arg| !arg.is_global_set() && !is_target(arg), text);
            if command.get_arguments().filter(|arg| is_target(arg)).count() == 3 {
                text.push_str("- `SERVER`\n");
            }
        }
        commands(command, &path, text);
    }
}

/// Whether it is one of those that most commands share.
fn is_target(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "server" | "key" | "json")
}

fn arguments(command: &Command, wanted: impl Fn(&Arg) -> bool, text: &mut String) {
    let hidden = |arg: &Arg| matches!(arg.get_id().as_str(), "help" | "version") || arg.is_hide_set();
    for arg in command.get_arguments().filter(|arg| wanted(arg) && !hidden(arg)) {
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<String> =
            arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() && arg.get_action().takes_values() {
            let _ = write!(help, " (one of {})", values.join(", "));
        }
        let defaults: Vec<String> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        if !defaults.is_empty() && arg.get_action().takes_values() {
            let _ = write!(help, " [default: {}]", defaults.join(", "));
        }
        let required = if arg.is_required_set() && !arg.is_positional() { " (required)" } else { "" };
        let _ = writeln!(text, "- `{}`{required}: {help}", shown(arg));
    }
}

/// As it is typed: `FILE...`, `--limit <N>`, `--json`.
fn shown(arg: &Arg) -> String {
    arg.to_string()
}

/// A text within a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
