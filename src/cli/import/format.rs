//! The formats that can be imported: lines become events in the API's JSON.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns::{ColumnMap, Field, write_cell, write_member, write_text};
use super::shift::{Shift, TimeUnit};

/// The maps of named traces, by format.
pub const SHIPPED: [(Format, &str); 3] = [
    (Format::AzureLlm, include_str!("../../../data/maps/azure-llm.toml")),
    (Format::Servegen, include_str!("../../../data/maps/servegen.toml")),
    (Format::Mooncake, include_str!("../../../data/maps/mooncake.toml")),
];

/// What the lines of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One event a line, as the API takes them; or one JSON array of them
    Jsonl,
    /// A heading line, then one event a line; headings are fields of an event, or see --map
    Csv,
    /// CloudEvents 1.0, one a line or one JSON array; `data` is our event, subject is the tenant
    Cloudevents,
    /// Azure LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens; tenant `azure`
    AzureLlm,
    /// ServeGen request streams: t_ms,client,model,...; the client is the tenant
    Servegen,
    /// Mooncake traces: t_ms,input_tokens,cached_tokens,...; tenant `mooncake`
    Mooncake,
}

/// What is true of every event that does not say otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The tenant.
    pub tenant_id: Option<String>,
    /// The event type.
    pub event_type: Option<String>,
    /// The model.
    pub model: Option<String>,
}

impl Defaults {
    fn members(&self) -> [(&'static str, Option<&String>); 3] {
        [
            ("tenant_id", self.tenant_id.as_ref()),
            ("event_type", self.event_type.as_ref()),
            ("model", self.model.as_ref()),
        ]
    }
}

/// Turns the lines of one file into events.
pub struct Decoder {
    format: Format,
    map: ColumnMap,
    defaults: Defaults,
    shift: Shift,
    name: String,
    /// The columns, once the heading line was read.
    fields: Option<Vec<Field>>,
}

impl Decoder {
    /// `name` and a line's number make the id of an event that has none.
    pub fn new(format: Format, map: ColumnMap, defaults: Defaults, shift: Shift, name: String) -> Self {
        Self { format, map, defaults, shift, name, fields: None }
    }

    /// Whether lines are JSON, so that a file may also be one array.
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Jsonl | Format::Cloudevents)
    }

    /// Whether the next line is the heading line.
    pub fn wants_header(&self) -> bool {
        !self.is_json() && self.fields.is_none()
    }

    /// Reads the heading line. Fails when it does not fit the map.
    pub fn read_header(&mut self, line: &str) -> Result<(), String> {
        let header: Vec<String> = cells(line)?.into_iter().map(|cell| cell.trim().to_owned()).collect();
        self.fields = Some(self.map.over(&header, &self.defaults)?);
        Ok(())
    }

    /// Appends the event of one line to `out`. Fails with the reason; `out` is then as it was.
    pub fn decode(&mut self, number: u64, line: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        let decoded =
            if self.is_json() { self.decode_json(number, line, out) } else { self.decode_cells(number, line, out) };
        if decoded.is_err() {
            out.truncate(start);
        }
        decoded
    }

    fn decode_cells(&mut self, number: u64, line: &str, out: &mut Vec<u8>) -> Result<(), String> {
        // The heading line is read before any other.
        let fields = self.fields.as_deref().unwrap_or_default();
        let cells = cells(line)?;
        if cells.len() != fields.len() {
            return Err(format!("{} cells where the heading has {}", cells.len(), fields.len()));
        }
        out.push(b'{');
        let mut metadata = Vec::new();
        let mut given = Vec::with_capacity(4);
        for (field, cell) in fields.iter().zip(&cells) {
            let cell = cell.trim();
            if cell.is_empty() {
                continue;
            }
            match field {
                Field::Member(_) => write_cell(&mut metadata, field, cell, &mut self.shift)?,
                _ => write_cell(out, field, cell, &mut self.shift)?,
            }
            if let Field::Text(name) = field {
                given.push(*name);
            }
        }
        if metadata.pop().is_some() {
            write_member(out, "metadata", |out| {
                out.push(b'{');
                out.extend_from_slice(&metadata);
                out.push(b'}');
            });
        }
        self.finish(number, &|name| given.contains(&name), out);
        Ok(())
    }

    fn decode_json(&mut self, number: u64, line: &str, out: &mut Vec<u8>) -> Result<(), String> {
        let read: BTreeMap<String, &RawValue> = object(line)?;
        let mut event: BTreeMap<&str, &RawValue> =
            read.iter().map(|(name, value)| (self.map.renamed(name), *value)).collect();
        let data: BTreeMap<String, &RawValue>;
        if self.format == Format::Cloudevents {
            let envelope = std::mem::take(&mut event);
            if envelope.get("specversion").map(|version| version.get()) != Some("\"1.0\"") {
                return Err("specversion: it must be \"1.0\"".to_owned());
            }
            if let Some(inner) = envelope.get("data").filter(|inner| inner.get() != "null") {
                data = object(inner.get()).map_err(|error| format!("data: {error}"))?;
                event = data.iter().map(|(name, value)| (self.map.renamed(name), *value)).collect();
            }
            // The event's own fields win, as they do at the server's door.
            for (field, attribute) in
                [("event_id", "id"), ("event_timestamp", "time"), ("tenant_id", "subject"), ("event_type", "type")]
            {
                if let Some(value) = envelope.get(attribute) {
                    event.entry(field).or_insert(value);
                }
            }
        }
        // An ignored column has an empty name; null is the same as absent.
        event.retain(|name, value| !name.is_empty() && value.get() != "null");
        out.push(b'{');
        for (name, value) in &event {
            let text = value.get();
            if *name == "event_timestamp"
                && self.shift.moves()
                && let Ok(time) = serde_json::from_str::<String>(text)
            {
                let moved = self.shift.apply(TimeUnit::Any.read(&time)?)?;
                write_member(out, name, |out| write_text(out, &moved.to_string()));
            } else {
                write_member(out, name, |out| out.extend_from_slice(text.as_bytes()));
            }
        }
        self.finish(number, &|name| event.contains_key(name), out);
        Ok(())
    }

    /// Adds what the line did not give, and closes the object.
    fn finish(&self, number: u64, is_given: &dyn Fn(&str) -> bool, out: &mut Vec<u8>) {
        for (name, value) in self.defaults.members() {
            if let (Some(value), false) = (value, is_given(name)) {
                write_member(out, name, |out| write_text(out, value));
            }
        }
        if !is_given("event_id") {
            write_member(out, "event_id", |out| write_text(out, &format!("{}:{number}", self.name)));
        }
        // The comma after the last member.
        out.pop();
        out.push(b'}');
    }
}

fn object(text: &str) -> Result<BTreeMap<String, &RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// The cells of one line. A cell in quotes may hold commas, and quotes doubled, but no line end.
fn cells(line: &str) -> Result<Vec<std::borrow::Cow<'_, str>>, String> {
    if !line.contains('"') {
        return Ok(line.split(',').map(Into::into).collect());
    }
    if line.bytes().filter(|byte| *byte == b'"').count() % 2 == 1 {
        return Err("a quote is not closed on its line".to_owned());
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => Ok(record.iter().map(|cell| cell.to_owned().into()).collect()),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(Vec::new()),
    }
}
