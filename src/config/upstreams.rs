//! `[[upstream]]` in `metergate.toml`: the servers that the metered door forwards calls to.

use std::path::Path;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::ConfigError;

/// The fields of one `[[upstream]]`, each with what it is for; the reader and the documentation both go by it.
pub const UPSTREAM_FIELDS: [(&str, &str); 8] = [
    ("name", "Its name in metrics, logs and events: 1 to 64 of A-Z a-z 0-9 . _ -; required."),
    ("base_url", "Where its API starts, such as https://api.openai.com/v1; http or https; required."),
    (
        "api_key_env",
        "The environment variable that holds its key, which never stands in the file; default: no key is sent.",
    ),
    ("provider", "Whose prices and usage shapes apply, such as openai; default: its name."),
    ("models", "The models it serves; a name that ends in * stands for all that start so; required."),
    ("timeout_seconds", "How long a call may take in all, 1 to 3,570; default: 600."),
    (
        "max_output_tokens",
        "The most a model can answer: a number for all, or a table of models and numbers; default: the price book's \
         `max_output_tokens`, where a call names no maximum.",
    ),
    ("headers", "A table of further headers to send with every call."),
];

/// How long a call may take unless told otherwise, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u32 = 600;
/// The longest timeout: a hold lives 30 s longer, and at most an hour.
const MAX_TIMEOUT_SECONDS: i64 = 3_570;
/// The most upstreams, models of one and headers of one.
const MAX_ENTRIES: usize = 1_000;
/// Headers that are the door's own business.
const RESERVED_HEADERS: [&str; 7] =
    ["authorization", "host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"];

/// One upstream as configured. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Unique.
    pub name: String,
    /// Scheme, host and the path before the endpoint's own, without a slash at its end.
    pub base_url: Uri,
    /// The environment variable of its key.
    pub api_key_env: Option<String>,
    /// Whose prices and usage shapes apply.
    pub provider: String,
    /// Names, or beginnings of names with a `*` at the end.
    pub models: Vec<String>,
    /// How long a call may take in all.
    pub timeout_seconds: u32,
    /// The most a model can answer, by name or pattern.
    pub max_output_tokens: Vec<(String, u64)>,
    /// Sent with every call.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads the value of `upstream`. Fails at the first field that is not allowed.
pub(super) fn read(path: &Path, value: &toml::Value) -> Result<Vec<UpstreamSettings>, ConfigError> {
    let wrong = |reason: String| ConfigError::Key { path: path.to_owned(), reason };
    let tables =
        value.as_array().ok_or_else(|| wrong("`upstream` is a list of tables: write [[upstream]]".to_owned()))?;
    let mut upstreams: Vec<UpstreamSettings> = Vec::new();
    for (place, table) in tables.iter().enumerate() {
        let number = place + 1;
        let table =
            table.as_table().ok_or_else(|| wrong("`upstream` is a list of tables: write [[upstream]]".to_owned()))?;
        let upstream = read_one(table).map_err(|reason| wrong(format!("[[upstream]] {number}: {reason}")))?;
        if upstreams.iter().any(|other| other.name == upstream.name) {
            return Err(wrong(format!("[[upstream]] {number}: there is another named `{}`", upstream.name)));
        }
        let twice = upstream.models.iter().find_map(|model| {
            upstreams.iter().find(|other| other.models.contains(model)).map(|other| (model, &other.name))
        });
        if let Some((model, other)) = twice {
            return Err(wrong(format!("[[upstream]] {number}: the model `{model}` is one of `{other}` already")));
        }
        upstreams.push(upstream);
    }
    if upstreams.len() > MAX_ENTRIES {
        return Err(wrong(format!("there are more than {MAX_ENTRIES} [[upstream]] tables")));
    }
    Ok(upstreams)
}

fn read_one(table: &toml::Table) -> Result<UpstreamSettings, String> {
    if let Some(unknown) = table.keys().find(|key| !UPSTREAM_FIELDS.iter().any(|(name, _)| name == key)) {
        let known: Vec<&str> = UPSTREAM_FIELDS.iter().map(|(name, _)| *name).collect();
        let hint = if unknown == "api_key" {
            " (a key never stands in the file: name its variable in api_key_env)"
        } else {
            ""
        };
        return Err(format!("there is no field `{unknown}`{hint}: use one of {}", known.join(", ")));
    }
    let name = text(table, "name")?.ok_or("`name` is missing")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > 64 || !name.bytes().all(plain) {
        return Err("`name` must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned());
    }
    let base_url = text(table, "base_url")?.ok_or("`base_url` is missing")?;
    let api_key_env = text(table, "api_key_env")?;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if api_key_env.is_some_and(|variable| !variable.bytes().all(named)) {
        return Err("`api_key_env` must be the name of an environment variable, not the key itself".to_owned());
    }
    Ok(UpstreamSettings {
        name: name.to_owned(),
        base_url: read_url(base_url)?,
        api_key_env: api_key_env.map(str::to_owned),
        provider: text(table, "provider")?.unwrap_or(name).chars().take(64).collect(),
        models: read_models(table)?,
        timeout_seconds: match table.get("timeout_seconds").map(toml::Value::as_integer) {
            None => DEFAULT_TIMEOUT_SECONDS,
            Some(Some(seconds)) if (1..=MAX_TIMEOUT_SECONDS).contains(&seconds) => seconds as u32,
            Some(_) => return Err(format!("`timeout_seconds` must be a whole number from 1 to {MAX_TIMEOUT_SECONDS}")),
        },
        max_output_tokens: read_maxima(table)?,
        headers: read_headers(table)?,
    })
}

fn text<'a>(table: &'a toml::Table, key: &str) -> Result<Option<&'a str>, String> {
    match table.get(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) if (1..=2_048).contains(&text.len()) && !text.chars().any(char::is_control) => {
            Ok(Some(text))
        }
        Some(_) => Err(format!("`{key}` must be a text of 1 to 2,048 characters")),
    }
}

fn read_url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("`base_url` must be an http or https address without user, query or fragment, not `{text}`");
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let host =
        uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    if scheme && host && uri.query().is_none() && !text.contains('#') { Ok(uri) } else { Err(wrong()) }
}

fn read_models(table: &toml::Table) -> Result<Vec<String>, String> {
    let wrong =
        || format!("`models` must be a list of 1 to {MAX_ENTRIES} names of models; a `*` only at the end of one");
    let list = table.get("models").and_then(toml::Value::as_array).ok_or_else(wrong)?;
    let names: Option<Vec<String>> =
        list.iter().map(|name| name.as_str().filter(|name| is_model(name)).map(str::to_owned)).collect();
    names.filter(|names| (1..=MAX_ENTRIES).contains(&names.len())).ok_or_else(wrong)
}

fn is_model(name: &str) -> bool {
    let stem = name.strip_suffix('*').unwrap_or(name);
    !name.is_empty() && name.len() <= 128 && !stem.contains('*') && !name.chars().any(char::is_control)
}

fn read_maxima(table: &toml::Table) -> Result<Vec<(String, u64)>, String> {
    let wrong = || {
        "`max_output_tokens` must be a number from 1 to 1,000,000,000, or a table of models and such numbers".to_owned()
    };
    let count = |value: &toml::Value| {
        value.as_integer().filter(|count| (1..=1_000_000_000).contains(count)).map(|count| count as u64)
    };
    match table.get("max_output_tokens") {
        None => Ok(Vec::new()),
        Some(toml::Value::Table(models)) if models.len() <= MAX_ENTRIES => models
            .iter()
            .map(|(model, most)| {
                count(most).filter(|_| is_model(model)).map(|most| (model.clone(), most)).ok_or_else(wrong)
            })
            .collect(),
        Some(value) => count(value).map(|most| vec![("*".to_owned(), most)]).ok_or_else(wrong),
    }
}

fn read_headers(table: &toml::Table) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let wrong = || "`headers` must be a table of at most 1,000 names and texts".to_owned();
    let Some(value) = table.get("headers") else { return Ok(Vec::new()) };
    let headers = value.as_table().filter(|headers| headers.len() <= MAX_ENTRIES).ok_or_else(wrong)?;
    let read = |(name, value): (&String, &toml::Value)| {
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        if RESERVED_HEADERS.contains(&name.as_str()) {
            return Err(format!("`headers` cannot set {name}, which the door sets itself"));
        }
        let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok()).ok_or_else(wrong)?;
        Ok((name, value))
    };
    headers.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<UpstreamSettings>, String> {
        let table: toml::Table = text.parse().unwrap();
        read(Path::new("metergate.toml"), &table["upstream"]).map_err(|error| error.to_string())
    }

    #[test]
    fn an_upstream_is_read_with_its_defaults() {
        let all = parse(
            "[[upstream]]\nname = \"openai\"\nbase_url = \"https://api.openai.com/v1/\"\napi_key_env = \"OPENAI_API_KEY\"\n\
             models = [\"gpt-4o\", \"o3*\"]\n[upstream.max_output_tokens]\n\"gpt-4o\" = 16384\n[upstream.headers]\nx-team = \"a\"\n",
        )
        .unwrap();
        let one = &all[0];
        assert_eq!((one.provider.as_str(), one.timeout_seconds), ("openai", 600));
        assert_eq!(one.base_url.to_string(), "https://api.openai.com/v1");
        assert_eq!(one.max_output_tokens, [("gpt-4o".to_owned(), 16_384)]);
        assert_eq!((one.models.len(), one.headers.len()), (2, 1));
    }

    #[test]
    fn a_mistake_names_the_table_the_field_and_what_is_allowed() {
        let good = "name = \"a\"\nbase_url = \"http://h\"\nmodels = [\"m\"]\n";
        for (text, expected) in [
            ("[upstream]\nname = \"a\"".to_owned(), "write [[upstream]]"),
            (format!("[[upstream]]\n{good}api_key = \"sk-1\""), "api_key_env"),
            (format!("[[upstream]]\n{good}timeout_seconds = 3571"), "from 1 to 3570"),
            (format!("[[upstream]]\n{good}api_key_env = \"sk-proj-1\""), "not the key itself"),
            (format!("[[upstream]]\n{good}max_output_tokens = 0"), "`max_output_tokens`"),
            (format!("[[upstream]]\n{good}headers = {{ authorization = \"x\" }}"), "cannot set authorization"),
            (format!("[[upstream]]\n{good}[[upstream]]\n{good}"), "[[upstream]] 2: there is another named `a`"),
            ("[[upstream]]\nname = \"a\"\nmodels = [\"m\"]".to_owned(), "`base_url` is missing"),
            ("[[upstream]]\nname = \"a\"\nbase_url = \"ftp://h\"\nmodels = [\"m\"]".to_owned(), "http or https"),
            ("[[upstream]]\nname = \"a\"\nbase_url = \"http://u:p@h\"\nmodels = [\"m\"]".to_owned(), "without user"),
            ("[[upstream]]\nname = \"a\"\nbase_url = \"http://h\"\nmodels = [\"m*x\"]".to_owned(), "`models`"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected) && error.contains("metergate.toml"), "{expected}: {error}");
        }
    }
}
