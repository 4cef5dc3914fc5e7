//! Which column of a CSV file is which field of an event: shipped maps, and the caller's own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::format::Defaults;
use super::shift::{Shift, TimeUnit};
use crate::domain::money::Money;

/// The fields of an event that a column can be, beside `event_timestamp`, `cost_usd`, `metadata` and `metadata.NAME`.
const TEXTS: [&str; 8] =
    ["tenant_id", "event_type", "event_id", "api_method", "api_endpoint", "chat_session_id", "model", "provider"];
const COUNTS: [&str; 10] = [
    "api_status_code",
    "api_response_time_ms",
    "embedding_tokens",
    "search_query_tokens",
    "search_result_count",
    "tokens_consumed",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
];

/// What one column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A text field.
    Text(&'static str),
    /// A field of a whole number.
    Count(&'static str),
    /// `cost_usd`.
    Cost,
    /// `event_timestamp`.
    Time(TimeUnit),
    /// A whole metadata object, as JSON.
    Metadata,
    /// One member of the metadata.
    Member(String),
    /// Left out.
    Ignored,
}

impl Field {
    /// Reads a name such as `input_tokens`, `event_timestamp:milliseconds`, `metadata.image_count` or `-`.
    pub fn read(name: &str) -> Result<Self, String> {
        let text = TEXTS.into_iter().find(|field| *field == name).map(Self::Text);
        let count = COUNTS.into_iter().find(|field| *field == name).map(Self::Count);
        if let Some(field) = text.or(count) {
            return Ok(field);
        }
        match (name, name.strip_prefix("metadata.")) {
            ("-", _) => Ok(Self::Ignored),
            ("cost_usd", _) => Ok(Self::Cost),
            ("event_timestamp", _) => Ok(Self::Time(TimeUnit::Any)),
            ("event_timestamp:naive", _) => Ok(Self::Time(TimeUnit::Naive)),
            ("event_timestamp:milliseconds", _) => Ok(Self::Time(TimeUnit::Milliseconds)),
            ("metadata", _) => Ok(Self::Metadata),
            (_, Some(member)) if !member.is_empty() => Ok(Self::Member(member.to_owned())),
            _ => Err(format!(
                "`{name}` is not a field of an event: use {}, {}, cost_usd, event_timestamp, \
                 event_timestamp:milliseconds, metadata, metadata.NAME, or - to leave the column out",
                TEXTS.join(", "),
                COUNTS.join(", ")
            )),
        }
    }
}

/// A shipped map, as its file in `data/maps/` is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapFile {
    columns: BTreeMap<String, String>,
    constants: Defaults,
}

/// Which column is which field.
#[derive(Clone, Debug, Default)]
pub struct ColumnMap {
    fields: BTreeMap<String, Field>,
}

impl ColumnMap {
    /// Reads a shipped map and what it says of every event.
    pub fn shipped(text: &str) -> Result<(Self, Defaults), String> {
        let file: MapFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let fields: Result<_, String> =
            file.columns.into_iter().map(|(column, field)| Ok((column, Field::read(&field)?))).collect();
        Ok((Self { fields: fields? }, file.constants))
    }

    /// Adds one `column=field`; it beats what was said of the column before.
    pub fn add(&mut self, pair: &str) -> Result<(), String> {
        let (column, field) = pair.rsplit_once('=').ok_or_else(|| format!("`{pair}`: write it as column=field"))?;
        self.fields.insert(column.trim().to_owned(), Field::read(field.trim())?);
        Ok(())
    }

    /// The field that a name in JSON stands for: renamed, or itself.
    pub fn renamed<'a>(&'a self, name: &'a str) -> &'a str {
        match self.fields.get(name) {
            Some(Field::Text(field) | Field::Count(field)) => field,
            Some(Field::Cost) => "cost_usd",
            Some(Field::Time(_)) => "event_timestamp",
            Some(Field::Metadata) => "metadata",
            Some(Field::Ignored) => "",
            Some(Field::Member(_)) | None => name,
        }
    }

    /// Whether its times only make sense with a start.
    pub fn is_relative(&self) -> bool {
        self.fields.values().any(|field| *field == Field::Time(TimeUnit::Milliseconds))
    }

    /// Whether it names members of the metadata.
    pub fn has_members(&self) -> bool {
        self.fields.values().any(|field| matches!(field, Field::Member(_)))
    }

    /// The fields of these columns, in order. Fails when a column means nothing, twice the same, or is missing.
    pub fn over(&self, header: &[String], defaults: &Defaults) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        for column in header {
            let field = match self.fields.get(column) {
                Some(field) => field.clone(),
                None => Field::read(column).map_err(|_| {
                    format!("the column `{column}` is not a field of an event: say what it is with --map {column}=FIELD, or leave it out with --map {column}=-")
                })?,
            };
            let kind = |field: &Field| match field {
                Field::Time(_) => Some(Field::Time(TimeUnit::Any)),
                Field::Ignored => None,
                other => Some(other.clone()),
            };
            if kind(&field).is_some() && fields.iter().any(|other| kind(other) == kind(&field)) {
                return Err(format!("the column `{column}` is a field that another column is already"));
            }
            fields.push(field);
        }
        if let Some(column) = self.fields.keys().find(|column| !header.contains(column)) {
            return Err(format!("there is no column `{column}`: the first line has {}", header.join(", ")));
        }
        let has = |name| fields.contains(&Field::Text(name));
        if !has("tenant_id") && defaults.tenant_id.is_none() {
            return Err("no column is tenant_id: name one with --map COLUMN=tenant_id, or give --tenant".to_owned());
        }
        if !has("event_type") && defaults.event_type.is_none() {
            return Err(
                "no column is event_type: name one with --map COLUMN=event_type, or give --event-type".to_owned()
            );
        }
        if fields.contains(&Field::Metadata) && fields.iter().any(|field| matches!(field, Field::Member(_))) {
            return Err("one column is metadata, another a member of it: map only one of the two".to_owned());
        }
        Ok(fields)
    }
}

/// One cell as a member of the event, written to `out` as `"name":value,`. An empty cell is no member.
pub fn write_cell(out: &mut Vec<u8>, field: &Field, cell: &str, shift: &mut Shift) -> Result<(), String> {
    let whole = |name: &str| format!("{name}: `{}` is not a whole number", cell.chars().take(64).collect::<String>());
    match field {
        Field::Text(name) => write_member(out, name, |out| write_text(out, cell)),
        Field::Count(name) => {
            let count: u64 = cell.parse().map_err(|_| whole(name))?;
            write_member(out, name, |out| out.extend_from_slice(count.to_string().as_bytes()));
        }
        Field::Cost => {
            let cost: Money = cell.parse().map_err(|error| format!("cost_usd: {error}"))?;
            write_member(out, "cost_usd", |out| out.extend_from_slice(cost.to_string().as_bytes()));
        }
        Field::Time(unit) => {
            let time = shift.apply(unit.read(cell)?)?;
            write_member(out, "event_timestamp", |out| write_text(out, &time.to_string()));
        }
        Field::Metadata => {
            let object: Result<BTreeMap<&str, &serde_json::value::RawValue>, _> = serde_json::from_str(cell);
            object.map_err(|error| format!("metadata: not a JSON object: {error}"))?;
            write_member(out, "metadata", |out| out.extend_from_slice(cell.as_bytes()));
        }
        Field::Member(name) => {
            let is_number = serde_json::from_str::<serde_json::Number>(cell).is_ok();
            write_member(out, name, |out| {
                if is_number { out.extend_from_slice(cell.as_bytes()) } else { write_text(out, cell) }
            });
        }
        Field::Ignored => {}
    }
    Ok(())
}

/// Writes `"name":value,`.
pub fn write_member(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    write_text(out, name);
    out.push(b':');
    value(out);
    out.push(b',');
}

/// Writes a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn a_column_that_means_nothing_is_named_with_the_remedy() {
        let named =
            Defaults { tenant_id: Some("t".to_owned()), event_type: Some("x".to_owned()), ..Defaults::default() };
        let mut map = ColumnMap::default();
        let error = map.over(&header("input_tokens,foo"), &named).unwrap_err();
        assert!(error.contains("`foo`") && error.contains("--map foo=-"), "{error}");
        map.add("foo=output_tokens").unwrap();
        assert_eq!(
            map.over(&header("input_tokens,foo"), &named).unwrap(),
            [Field::Count("input_tokens"), Field::Count("output_tokens")]
        );
        assert!(map.over(&header("input_tokens"), &named).unwrap_err().contains("no column `foo`"));
        assert!(map.over(&header("output_tokens,foo"), &named).unwrap_err().contains("already"));
        assert!(map.over(&header("foo"), &Defaults::default()).unwrap_err().contains("--tenant"));
        assert!(map.add("foo=price").unwrap_err().contains("metadata.NAME"));
        assert!(map.add("foo").unwrap_err().contains("column=field"));
    }

    #[test]
    fn the_shipped_maps_are_whole() {
        for text in super::super::format::SHIPPED.map(|(_, text)| text) {
            let (map, defaults) = ColumnMap::shipped(text).unwrap();
            let columns: Vec<String> = map.fields.keys().cloned().collect();
            assert!(map.over(&columns, &defaults).is_ok(), "{text}");
        }
    }
}
