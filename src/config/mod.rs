//! Settings: flags over environment over `metergate.toml` over defaults, read here and nowhere else.

mod engine_settings;
mod file;
mod networks;
mod settings;
mod table;
mod upstreams;

use std::path::PathBuf;

pub use engine_settings::{EngineSettings, OnStorageFailure, UnknownTenants};
pub use networks::{Networks, NetworksError};
pub use settings::{Origin, Setting, Settings, Sources};
pub use table::{Kind, SettingInfo, settings_table};
pub use upstreams::{UPSTREAM_FIELDS, UpstreamSettings};

/// Why the settings cannot be used. Each names the place, the key and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not valid TOML: {reason}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The file names something that does not exist, or may not stand in a file.
    #[error("{path}: {reason}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// The key and what is allowed.
        reason: String,
    },
    /// A value is not allowed.
    #[error("{place}: `{shown}` is not allowed for {key}: it must be {allowed}")]
    Value {
        /// The flag, variable or file it came from.
        place: String,
        /// The setting.
        key: &'static str,
        /// The value, cut to 64 characters.
        shown: String,
        /// What is allowed, as the rest of the sentence.
        allowed: String,
    },
}

/// One variable of this process's environment; unset, empty and not Unicode are all `None`.
pub fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where this machine keeps what is thrown away.
pub fn temporary_folder() -> PathBuf {
    std::env::temp_dir()
}
