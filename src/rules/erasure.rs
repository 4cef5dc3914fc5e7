//! Erasure: whom a record or an event names, what of it is blanked, and the record that says so without naming anybody.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::audit::{AuditEntry, ENTITY_AUDIT_LOG, EVENT_DATA_ERASED};
use crate::domain::event::UsageEvent;
use crate::domain::tenant::TenantId;

/// An id is looked for inside longer texts from this many characters on; a shorter one would be found everywhere.
pub const INSIDE_TEXT_FROM: usize = 8;
/// The longest id that can be asked for, in characters.
pub const ID_CHARS_MAX: usize = 255;
/// What stands for an erased chat session, with the keyed hash that the metrics rows count it by.
const ERASED_SESSION: &str = "erased:";

/// Whose data is to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Everything of a tenant.
    Tenant(TenantId),
    /// What names an actor: a user, a visitor, an administrator.
    Actor {
        /// As it stands in `actor_id`.
        id: String,
        /// Only within this tenant.
        tenant_id: Option<TenantId>,
    },
    /// What names a chat session.
    Session {
        /// As it stands in `chat_session_id`.
        id: String,
        /// Only within this tenant.
        tenant_id: Option<TenantId>,
    },
}

impl Subject {
    /// What kind it is: `tenant`, `actor` or `session`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Actor { .. } => "actor",
            Self::Session { .. } => "session",
        }
    }

    /// The only tenant whose data may be touched, if there is one.
    pub const fn tenant_id(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant_id) => Some(tenant_id),
            Self::Actor { tenant_id, .. } | Self::Session { tenant_id, .. } => tenant_id.as_ref(),
        }
    }

    fn id(&self) -> Option<&str> {
        match self {
            Self::Tenant(_) => None,
            Self::Actor { id, .. } | Self::Session { id, .. } => Some(id),
        }
    }

    /// Whether an audit record is about it. The record of an erasure is nobody's: it names nobody and has to stay.
    pub fn concerns(&self, entry: &AuditEntry) -> bool {
        if entry.event_type == EVENT_DATA_ERASED {
            return false;
        }
        if self.tenant_id().is_some_and(|tenant_id| entry.tenant_id.as_ref() != Some(tenant_id)) {
            return false;
        }
        let Some(id) = self.id() else { return true };
        let fields = [&entry.actor_id, &entry.entity_id, &entry.request_id, &entry.ip_address, &entry.user_agent];
        let texts = [&entry.changes_summary, &entry.error_message];
        let values = [&entry.old_values, &entry.new_values];
        fields.into_iter().chain(texts).flatten().any(|text| names(text, id))
            || values.into_iter().flatten().any(|json| json_names(json, id))
    }

    /// Blanks what is personal in an event, if the event is about it; what is counted stays. `session_hash` is the keyed hash
    /// that rows count its chat session by. Gives whether anything changed.
    ///
    /// The id of an event goes where it holds the id that is erased, and always with a whole tenant: `new_id` is put in its
    /// place.
    pub fn blank(
        &self,
        event: &mut UsageEvent,
        event_id: &mut Blankable<'_>,
        session_hash: impl Fn(&str) -> u64,
    ) -> bool {
        if self.tenant_id().is_some_and(|tenant_id| event.tenant_id != *tenant_id) {
            return false;
        }
        let named = |text: &str| self.id().is_none_or(|id| names(text, id));
        let in_session = event.chat_session_id.as_deref().is_some_and(|session| !is_erased(session) && named(session));
        let in_endpoint = event.api_endpoint.as_deref().is_some_and(named);
        let in_metadata = event.metadata.as_deref().is_some_and(|json| {
            (self.id().is_none() && !is_blank(json)) || self.id().is_some_and(|id| json_names(json, id))
        });
        let in_id = event_id.given && named(event_id.text);
        if !(in_session || in_endpoint || in_metadata || in_id) {
            return false;
        }
        // A session is its subject's from end to end: what else it says goes, too.
        if let Some(session) = event.chat_session_id.as_deref().filter(|_| in_session) {
            event.chat_session_id = Some(format!("{ERASED_SESSION}{:016x}", session_hash(session)).into());
        }
        if in_endpoint {
            event.api_endpoint = None;
        }
        if in_metadata || in_session {
            event.metadata = kept_metadata(event.metadata.as_deref());
        }
        event_id.replaced = in_id;
        true
    }
}

/// An event's id on its way through [`Subject::blank`].
pub struct Blankable<'a> {
    /// The id.
    pub text: &'a str,
    /// Whether the caller gave it.
    pub given: bool,
    /// Whether another has to take its place.
    pub replaced: bool,
}

/// The hash that an erased session goes on to be counted by; `None` of any other.
pub fn erased_session_hash(session: &str) -> Option<u64> {
    let digits = session.strip_prefix(ERASED_SESSION)?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

fn is_erased(session: &str) -> bool {
    erased_session_hash(session).is_some()
}

/// What counting needs of metadata: whether a chat message was an answer.
fn kept_metadata(json: Option<&str>) -> Option<Box<str>> {
    let is_response = json.and_then(|json| serde_json::from_str::<Value>(json).ok())?["is_response"] == true;
    is_response.then(|| BLANK_RESPONSE.into())
}

const BLANK_RESPONSE: &str = r#"{"is_response":true}"#;

fn is_blank(json: &str) -> bool {
    json == BLANK_RESPONSE
}

/// Whether a text is this id, or, of a long id, has it as a word.
fn names(text: &str, id: &str) -> bool {
    if text == id {
        return true;
    }
    if id.chars().count() < INSIDE_TEXT_FROM {
        return false;
    }
    let edge = |character: Option<char>| character.is_none_or(|character| !character.is_alphanumeric());
    text.match_indices(id)
        .any(|(from, _)| edge(text[..from].chars().next_back()) && edge(text[from + id.len()..].chars().next()))
}

fn json_names(json: &str, id: &str) -> bool {
    fn walk(value: &Value, id: &str) -> bool {
        match value {
            Value::String(text) => names(text, id),
            Value::Number(number) => number.to_string() == id,
            Value::Array(values) => values.iter().any(|value| walk(value, id)),
            Value::Object(fields) => fields.iter().any(|(name, value)| names(name, id) || walk(value, id)),
            Value::Null | Value::Bool(_) => false,
        }
    }
    // What cannot be parsed is searched as it stands.
    serde_json::from_str(json).map_or_else(|_| json.contains(id), |value| walk(&value, id))
}

/// Indices as ranges, both ends included; `indices` ascend.
pub fn ranges_of(indices: &[u64]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &index in indices {
        add_to_ranges(&mut ranges, index);
    }
    ranges
}

/// Adds an index that is above all others.
pub fn add_to_ranges(ranges: &mut Vec<(u64, u64)>, index: u64) {
    match ranges.last_mut() {
        Some((_, last)) if *last + 1 == index => *last = index,
        _ => ranges.push((index, index)),
    }
}

/// What of `ranges` is in none of `covers`. `ranges` ascend; `covers` come as they are.
pub fn uncovered(ranges: &[(u64, u64)], mut covers: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    covers.sort_unstable();
    let mut left = Vec::new();
    let mut place = 0;
    for &(from, to) in ranges {
        let mut from = from;
        // Covers do not nest in practice, and it is no harm when they do: each is looked at from the first that may reach.
        while place < covers.len() && covers[place].1 < from {
            place += 1;
        }
        for &(first, last) in &covers[place..] {
            if first > to || from > to {
                break;
            }
            if last < from {
                continue;
            }
            if first > from {
                left.push((from, first - 1));
            }
            from = from.max(last + 1);
        }
        if from <= to {
            left.push((from, to));
        }
    }
    left
}

/// What of `ranges` is in any of `covers`. `ranges` ascend; `covers` come as they are.
pub fn covered(ranges: &[(u64, u64)], covers: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let outside = uncovered(ranges, covers.to_vec());
    uncovered(ranges, outside)
}

/// The record that says which records were erased: it names nobody, and is nobody's.
pub fn erasure_entry(erasure_id: Uuid, kind: &str, indices: &[u64], events_blanked: u64) -> AuditEntry {
    let mut entry =
        AuditEntry::system(None, EVENT_DATA_ERASED, ENTITY_AUDIT_LOG, crate::domain::audit::AuditAction::Delete);
    entry.entity_id = Some(erasure_id.to_string());
    let ranges: Vec<[u64; 2]> = ranges_of(indices).into_iter().map(|(from, to)| [from, to]).collect();
    let values = json!({ "subject": kind, "records": ranges, "events_blanked": events_blanked });
    entry.new_values = Some(values.to_string());
    entry.changes_summary = Some(format!("{} audit records erased, {events_blanked} events blanked", indices.len()));
    entry
}

/// The records that a record says were erased: ranges of indices, both ends included. `None` of any other record.
pub fn erased_by(entry: &AuditEntry) -> Option<Vec<(u64, u64)>> {
    if entry.event_type != EVENT_DATA_ERASED || entry.entity_type != ENTITY_AUDIT_LOG {
        return None;
    }
    let values: Value = serde_json::from_str(entry.new_values.as_deref()?).ok()?;
    let ranges = values["records"].as_array()?.iter();
    Some(ranges.filter_map(|range| Some((range[0].as_u64()?, range[1].as_u64()?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(actor: &str, values: &str) -> AuditEntry {
        AuditEntry {
            tenant_id: Some("acme".parse().unwrap()),
            event_type: "kb_uploaded".to_owned(),
            actor_id: Some(actor.to_owned()),
            new_values: Some(values.to_owned()),
            ..AuditEntry::default()
        }
    }

    fn actor(id: &str) -> Subject {
        Subject::Actor { id: id.to_owned(), tenant_id: None }
    }

    #[test]
    fn a_record_is_about_whom_any_of_its_fields_names() {
        assert!(actor("u1").concerns(&entry("u1", "{}")));
        assert!(actor("u1").concerns(&entry("u2", r#"{"by": ["u1"]}"#)));
        assert!(!actor("u1").concerns(&entry("u12", r#"{"text": "u1 was here"}"#)), "short ids: whole fields only");
        assert!(actor("visitor-77").concerns(&entry("x", r#"{"text": "for visitor-77, at \u0031"}"#)));
        assert!(!actor("visitor-77").concerns(&entry("x", r#"{"text": "visitor-778"}"#)));
        assert!(Subject::Tenant("acme".parse().unwrap()).concerns(&entry("x", "{}")));
        let elsewhere = Subject::Actor { id: "u1".to_owned(), tenant_id: Some("other".parse().unwrap()) };
        assert!(!elsewhere.concerns(&entry("u1", "{}")));
        let erasure = erasure_entry(Uuid::nil(), "actor", &[1], 0);
        assert!(!actor(&Uuid::nil().to_string()).concerns(&erasure), "a record of an erasure stays");
    }

    #[test]
    fn what_is_blanked_is_counted_as_before_and_blanked_once() {
        let mut event = UsageEvent::new("acme".parse().unwrap(), "chat_message");
        event.chat_session_id = Some("session-1".into());
        event.metadata = Some(r#"{"is_response":true,"user":"Ann"}"#.into());
        let subject = Subject::Session { id: "session-1".to_owned(), tenant_id: None };
        let mut id = Blankable { text: "message-of-session-1", given: true, replaced: false };
        assert!(subject.blank(&mut event, &mut id, |_| 42));
        assert!(id.replaced);
        let session = event.chat_session_id.clone().unwrap();
        assert_eq!(erased_session_hash(&session), Some(42));
        assert_eq!(event.metadata.as_deref(), Some(BLANK_RESPONSE));
        let whole = Subject::Tenant("acme".parse().unwrap());
        let mut id = Blankable { text: "made", given: false, replaced: false };
        assert!(!whole.blank(&mut event, &mut id, |_| 43), "there is nothing left to blank");
        assert_eq!(event.chat_session_id, Some(session));
    }

    #[test]
    fn ranges_are_covered_or_not() {
        assert_eq!(ranges_of(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(uncovered(&[(1, 3), (7, 10)], vec![(8, 8), (0, 2)]), [(3, 3), (7, 7), (9, 10)]);
        assert_eq!(uncovered(&[(1, 3)], vec![(2, 2), (0, 9)]), []);
        assert_eq!(uncovered(&[(1, 3), (5, 5)], vec![]), [(1, 3), (5, 5)]);
        assert_eq!(covered(&[(1, 3), (7, 10)], &[(8, 8), (0, 2), (20, 30)]), [(1, 2), (8, 8)]);
        let said = erased_by(&erasure_entry(Uuid::nil(), "session", &[4, 5, 9], 2));
        assert_eq!(said, Some(vec![(4, 5), (9, 9)]));
    }
}
