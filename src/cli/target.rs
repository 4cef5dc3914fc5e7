//! The flags that most commands share: whom to ask, and how to show the answer.

use std::path::PathBuf;

use clap::Args;

/// Flags of every command.
#[derive(Args, Debug, Default)]
pub struct Global {
    /// The data folder [env: METERGATE_DATA_DIR] [default: ./metergate-data]
    #[arg(long, value_name = "DIR", global = true, help_heading = "Everywhere")]
    pub data_dir: Option<PathBuf>,

    /// The configuration file [env: METERGATE_CONFIG] [default: ./metergate.toml, then DIR/metergate.toml]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Everywhere")]
    pub config: Option<PathBuf>,
}

/// Flags of commands that read or change data.
#[derive(Args, Debug, Default)]
pub struct Target {
    /// Ask the server at this URL instead of opening the data folder [env: METERGATE_SERVER]
    #[arg(long, value_name = "URL", help_heading = "Whom to ask")]
    pub server: Option<String>,

    /// The server's key [env: METERGATE_KEY] [default: admin.key in the data folder]
    #[arg(long, value_name = "KEY", help_heading = "Whom to ask")]
    pub key: Option<String>,

    /// Print JSON for programs instead of a table for people
    #[arg(long)]
    pub json: bool,
}
