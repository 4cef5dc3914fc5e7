//! `metergate config`: the settings in force, and where each came from.

use clap::Args;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::show;
use crate::config::{Origin, Setting, Settings, UpstreamSettings};

/// Flags of `config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Print JSON for programs instead of a table for people
    #[arg(long)]
    json: bool,
}

/// Prints every setting.
pub fn run(args: &ConfigArgs, settings: &Settings) -> Result<Exit, Failure> {
    if args.json {
        let all: Vec<Value> = settings.all().iter().map(to_json).collect();
        let upstreams: Vec<Value> = settings.upstreams().iter().map(upstream_json).collect();
        show::print(json!({"file": settings.file(), "settings": all, "upstreams": upstreams}));
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["setting", "value", "from", "environment"]);
    for setting in settings.all() {
        table.add_row([setting.info.key, setting.shown(), &setting.origin_shown(), setting.info.env]);
    }
    show::print(show::draw(table));
    if !settings.upstreams().is_empty() {
        let mut table = show::table(&["upstream", "base_url", "key from", "provider", "models", "timeout"]);
        for upstream in settings.upstreams() {
            table.add_row([
                upstream.name.clone(),
                upstream.base_url.to_string(),
                upstream.api_key_env.clone().unwrap_or_else(|| "(no key)".to_owned()),
                upstream.provider.clone(),
                upstream.models.join(", "),
                format!("{} s", upstream.timeout_seconds),
            ]);
        }
        show::print(show::draw(table));
    }
    match settings.file() {
        Some(path) => show::print(format!("\nread from {}", path.display())),
        None => {
            show::print("\nno configuration file: ./metergate.toml and the data folder's metergate.toml are looked for")
        }
    }
    Ok(Exit::Ok)
}

fn to_json(setting: &Setting) -> Value {
    let origin = match &setting.origin {
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::File(_) => "file",
        Origin::Default => "default",
    };
    let value = setting.value.as_ref().map(|_| setting.shown());
    json!({"key": setting.info.key, "value": value, "from": origin, "env": setting.info.env, "help": setting.info.help})
}

/// Without the values of its headers, which may be secrets.
fn upstream_json(upstream: &UpstreamSettings) -> Value {
    let maxima = upstream.max_output_tokens.iter().map(|(model, most)| (model.clone(), Value::from(*most)));
    let headers: Vec<&str> = upstream.headers.iter().map(|(name, _)| name.as_str()).collect();
    json!({
        "name": upstream.name, "base_url": upstream.base_url.to_string(), "api_key_env": upstream.api_key_env,
        "provider": upstream.provider, "models": upstream.models, "timeout_seconds": upstream.timeout_seconds,
        "max_output_tokens": Value::Object(maxima.collect()), "headers": headers,
    })
}
