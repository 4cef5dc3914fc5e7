//! Encodes Amazon's event stream, after its specification.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// A frame of these headers and this payload.
pub fn frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = (16 + headers.len() + payload.len()) as u32;
    let mut bytes = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes.extend_from_slice(headers);
    bytes.extend_from_slice(payload);
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes
}

/// Headers whose values are texts.
pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let header = |(name, value): &(&str, &str)| {
        let length = (value.len() as u16).to_be_bytes();
        [&[name.len() as u8], name.as_bytes(), &[7], &length, value.as_bytes()].concat()
    };
    fields.iter().flat_map(header).collect()
}

/// An event of this type with any payload.
pub fn event_of(kind: &str, payload: &[u8]) -> Vec<u8> {
    let fields = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers(&fields), payload)
}

/// An event of this type.
pub fn event(kind: &str, payload: &Value) -> Vec<u8> {
    event_of(kind, payload.to_string().as_bytes())
}

/// A part of a model's own answer.
pub fn chunk(answer: &Value) -> Vec<u8> {
    event("chunk", &json!({"bytes": STANDARD.encode(answer.to_string()), "p": "abcdefghijklm"}))
}

/// The checksum of gzip, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 };
        }
    }
    !sum
}
