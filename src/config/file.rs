//! `metergate.toml`: read whole, flattened to dotted keys, and compared with the table of settings.

use std::path::{Path, PathBuf};

use super::ConfigError;
use super::table::{Kind, SettingInfo, settings_table};
use super::upstreams::{self, UpstreamSettings};

/// The name of the file where none is given.
const FILE_NAME: &str = "metergate.toml";

/// The file in force: the one named by flag or METERGATE_CONFIG, else `./metergate.toml`, else the data folder's.
/// The second value tells whether it is the data folder's.
pub(super) fn find(
    named: Option<PathBuf>,
    data_dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<(PathBuf, bool)> {
    if let Some(path) = named.or_else(|| environment("METERGATE_CONFIG").map(PathBuf::from)) {
        return Some((path, false));
    }
    let (here, inside) = (PathBuf::from(FILE_NAME), data_dir.join(FILE_NAME));
    if here.is_file() { Some((here, false)) } else { inside.is_file().then_some((inside, true)) }
}

/// What a file says.
pub(super) struct Contents {
    /// Settings as (setting, text).
    pub(super) settings: Vec<(&'static SettingInfo, String)>,
    /// Its `[[upstream]]` tables.
    pub(super) upstreams: Vec<UpstreamSettings>,
}

/// Reads the file. Fails at the first key that is unknown or of a wrong type.
pub(super) fn read(path: &Path) -> Result<Contents, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: error.to_string().trim().to_owned(),
    })?;
    // The one key that is no setting of the table: a list of tables of its own.
    let upstreams = table.remove("upstream").map(|value| upstreams::read(path, &value)).transpose()?;
    let mut settings = Vec::new();
    flatten(path, "", &table, &mut settings)?;
    Ok(Contents { settings, upstreams: upstreams.unwrap_or_default() })
}

fn flatten(
    path: &Path,
    prefix: &str,
    table: &toml::Table,
    found: &mut Vec<(&'static SettingInfo, String)>,
) -> Result<(), ConfigError> {
    let wrong = |reason: String| ConfigError::Key { path: path.to_owned(), reason };
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let Some(info) = settings_table().iter().find(|info| info.key == key) else {
            let is_section = settings_table().iter().any(|info| info.key.starts_with(&format!("{key}.")));
            match value {
                toml::Value::Table(inner) if is_section => flatten(path, &key, inner, found)?,
                _ if is_section => return Err(wrong(format!("`{key}` is a section: write [{key}]"))),
                _ => return Err(wrong(format!("there is no setting `{key}`: use one of {}", file_keys()))),
            }
            continue;
        };
        if !info.in_file {
            return Err(wrong(format!("`{key}` may not stand in a file: set the environment variable {}", info.env)));
        }
        let text = match (value, info.kind) {
            (toml::Value::Boolean(flag), Kind::Flag) => flag.to_string(),
            (toml::Value::Integer(number), Kind::Count { .. } | Kind::Amount(_)) => number.to_string(),
            (toml::Value::String(_), Kind::Count { .. }) => {
                return Err(wrong(format!("`{key}` is a text: it must be {}, without quotes", info.kind.allowed())));
            }
            // A relative path is meant from where the file stands, wherever the server is started.
            (toml::Value::String(text), Kind::Path) if !text.is_empty() => match path.parent() {
                Some(folder) if folder != Path::new("") => folder.join(text).to_string_lossy().into_owned(),
                _ => text.clone(),
            },
            (toml::Value::String(text), _) => text.clone(),
            (other, kind) => {
                return Err(wrong(format!("`{key}` is of type {}: it must be {}", other.type_str(), kind.allowed())));
            }
        };
        found.push((info, text));
    }
    Ok(())
}

fn file_keys() -> String {
    let keys: Vec<&str> = settings_table().iter().filter(|info| info.in_file).map(|info| info.key).collect();
    keys.join(", ")
}
