//! `metergate config`: the settings in force, and where each came from.

use clap::Args;
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::show;
use crate::config::{Origin, Setting, Settings};

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
        show::print(json!({"file": settings.file(), "settings": all}));
        return Ok(Exit::Ok);
    }
    let mut table = show::table(&["setting", "value", "from", "environment"]);
    for setting in settings.all() {
        table.add_row([setting.info.key, setting.shown(), &setting.origin_shown(), setting.info.env]);
    }
    show::print(table);
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
