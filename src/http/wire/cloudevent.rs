//! CloudEvents 1.0 envelopes around usage events: `data` is our event, the envelope fills its gaps.

use super::Fault;
use super::event::{EventDraft, INVALID_EVENT};
use super::object::Object;

/// Reads one envelope. The data's own fields win; `id`, `time`, `subject` and `type` fill what it leaves out.
pub fn read_cloudevent(json: &[u8]) -> Result<EventDraft, Fault> {
    let mut envelope = Object::read_as(json, INVALID_EVENT)?;
    match envelope.value::<String>("specversion")?.as_deref() {
        Some("1.0") => {}
        _ => return Err(Fault::field(INVALID_EVENT, "specversion", "must be \"1.0\"")),
    }
    if envelope.take("data_base64").is_some() {
        return Err(Fault::field(INVALID_EVENT, "data_base64", "cannot be read: send the event as JSON in `data`"));
    }
    let mut draft = match envelope.take("data") {
        Some(data) if data.get() != "null" => EventDraft::read(data.get().as_bytes())?,
        _ => EventDraft::default(),
    };
    // Each is read even when the data has its own, so that a broken envelope is never half believed.
    let (id, time) = (envelope.parsed("id")?, envelope.parsed("time")?);
    let (subject, event_type) = (envelope.parsed_as("subject", "invalid_tenant_id"), envelope.parsed("type")?);
    if draft.tenant_id.is_none() {
        // A subject that is no tenant is the producer's own affair when the data names one.
        draft.tenant_id = subject?;
    }
    draft.event_id = draft.event_id.or(id);
    draft.event_timestamp = draft.event_timestamp.or(time);
    draft.event_type = draft.event_type.or(event_type);
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_fills_gaps_and_the_data_wins() {
        let json = br#"{"specversion":"1.0","id":"e-1","source":"/app","type":"com.example.chat","time":"2026-11-24T09:30:00Z",
            "subject":"acme","traceparent":"00-1","data":{"event_type":"chat_message","input_tokens":3}}"#;
        let event = read_cloudevent(json).unwrap().finish().unwrap();
        assert_eq!((event.tenant_id.as_str(), event.event_type.as_str()), ("acme", "chat_message"));
        assert_eq!(event.event_id.unwrap().to_string(), "e-1");
        assert_eq!(event.event_timestamp.unwrap().to_string(), "2026-11-24T09:30:00Z");
        assert_eq!(event.input_tokens, Some(3));

        let named = br#"{"specversion":"1.0","id":"1","type":"search","subject":"a/b","data":{"tenant_id":"acme"}}"#;
        let event = read_cloudevent(named).unwrap().finish().unwrap();
        assert_eq!((event.tenant_id.as_str(), event.event_type.as_str()), ("acme", "search"));
    }

    #[test]
    fn a_broken_envelope_names_its_field() {
        for (json, code, field) in [
            (r#"{"id":"1"}"#, INVALID_EVENT, "specversion"),
            (r#"{"specversion":"0.3"}"#, INVALID_EVENT, "specversion"),
            (r#"{"specversion":"1.0","data_base64":"AA=="}"#, INVALID_EVENT, "data_base64"),
            (r#"{"specversion":"1.0","subject":"a/b"}"#, "invalid_tenant_id", "subject"),
            (r#"{"specversion":"1.0","time":"now"}"#, INVALID_EVENT, "time"),
            (r#"{"specversion":"1.0","data":{"output_tokens":1.5}}"#, INVALID_EVENT, "output_tokens"),
        ] {
            let fault = read_cloudevent(json.as_bytes()).unwrap_err();
            assert_eq!((fault.code, fault.field.as_deref()), (code, Some(field)), "{json}: {fault}");
        }
    }
}
