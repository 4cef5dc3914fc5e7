//! Cursors: opaque to callers, authenticated, and bound to what they were given for.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use super::error::ApiError;

/// Bytes of the authentication tag in front.
const TAG_BYTES: usize = 16;
/// The longest payload: a tenant id.
const PAYLOAD_BYTES_MAX: usize = 128;

/// Seals `payload` for `scope` (the list, the tenant, the filters): hexadecimal text.
pub fn seal(key: &[u8; 16], scope: &[&str], payload: &[u8]) -> String {
    let tag = tag(key, scope, payload);
    tag.iter().chain(payload).map(|byte| format!("{byte:02x}")).collect()
}

/// Opens what [`seal`] gave for the same scope. Anything else is 400 `invalid_cursor`.
pub fn open(key: &[u8; 16], scope: &[&str], cursor: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = from_hex(cursor).filter(|bytes| bytes.len() >= TAG_BYTES).ok_or_else(invalid)?;
    let (given, payload) = bytes.split_at(TAG_BYTES);
    match bool::from(tag(key, scope, payload).ct_eq(given)) {
        true => Ok(payload.to_vec()),
        false => Err(invalid()),
    }
}

/// 400: this list gave no such cursor.
pub fn invalid() -> ApiError {
    let message = "the cursor does not belong to this list and its filters: start again without one";
    ApiError::new(axum::http::StatusCode::BAD_REQUEST, "invalid_cursor", message).at_field("cursor")
}

fn tag(key: &[u8; 16], scope: &[&str], payload: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = SipHasher24::new_with_key(key);
    // Lengths keep neighbours apart: ("ab", "c") is not ("a", "bc").
    for part in scope.iter().map(|part| part.as_bytes()).chain([payload]) {
        hasher.write_u64(part.len() as u64);
        hasher.write(part);
    }
    hasher.finish128().as_bytes()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * (TAG_BYTES + PAYLOAD_BYTES_MAX) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = [7; 16];

    #[test]
    fn a_cursor_opens_only_for_its_own_list() {
        let cursor = seal(&KEY, &["events", "acme", ""], b"place");
        assert_eq!(open(&KEY, &["events", "acme", ""], &cursor).unwrap(), b"place");
        for scope in [&["events", "other", ""], &["events", "acme", "search"], &["events", "acm", "e"]] {
            assert_eq!(open(&KEY, scope, &cursor).unwrap_err().code(), "invalid_cursor");
        }
        assert!(open(&[8; 16], &["events", "acme", ""], &cursor).is_err());
    }

    #[test]
    fn every_tampered_digit_is_found() {
        let cursor = seal(&KEY, &["events"], &[1, 2, 3]);
        for place in 0..cursor.len() {
            let mut tampered = cursor.clone().into_bytes();
            tampered[place] = if tampered[place] == b'0' { b'1' } else { b'0' };
            assert!(open(&KEY, &["events"], std::str::from_utf8(&tampered).unwrap()).is_err(), "{place}");
        }
        for text in ["", "zz", "abc", "é", &"00".repeat(200), &cursor[..cursor.len() - 2]] {
            assert!(open(&KEY, &["events"], text).is_err(), "{text}");
        }
    }
}
