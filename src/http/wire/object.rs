//! Small JSON objects read field by field, so that every error names its field.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Fault, reason, unquoted};

/// The code of a request that is valid JSON and yet not what is asked for.
pub const INVALID_REQUEST: &str = "invalid_request";

/// What is told of why a text is wrong, in characters.
const REASON_CHARS_MAX: usize = 400;

/// The fields of one JSON object that are not read yet.
#[derive(Debug)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    code: &'static str,
}

impl<'a> Object<'a> {
    /// Splits an object into its fields; later faults carry [`INVALID_REQUEST`].
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        Self::read_as(bytes, INVALID_REQUEST)
    }

    /// Splits an object into its fields; later faults carry `code`.
    pub fn read_as(bytes: &'a [u8], code: &'static str) -> Result<Self, Fault> {
        let fields: Fields = serde_json::from_slice(bytes).map_err(|error| match error.is_data() {
            true => Fault::whole(code, format!("the body {}", reason(&error))),
            false => Fault::syntax(&error),
        })?;
        Ok(Self { fields: fields.0, code })
    }

    /// A field's JSON as it was sent, null included.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(place).1)
    }

    /// Whether a field was sent and is not read yet.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// A field of any shape; null counts as absent.
    pub fn value<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, Fault> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|error| Fault::field(self.code, name, reason(&error)))
    }

    /// A field that is read from its text; null counts as absent.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Result<Option<T>, Fault> {
        let code = self.code;
        self.parsed_as(name, code)
    }

    /// Like [`Object::parsed`], with a code of its own.
    pub fn parsed_as<T: FromStr<Err: fmt::Display>>(
        &mut self,
        name: &'static str,
        code: &'static str,
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.value::<String>(name)? else { return Ok(None) };
        let wrong = |error: T::Err| {
            let reason: String = unquoted(error, &text).chars().take(REASON_CHARS_MAX).collect();
            Fault::field(code, name, format_args!("is wrong: {reason}"))
        };
        text.parse().map(Some).map_err(wrong)
    }

    /// The fault of a field that must be there.
    pub fn missing(&self, name: &'static str) -> Fault {
        Fault::field(self.code, name, "is required")
    }

    /// Fails when a field was sent that nobody asked for.
    pub fn finish(self, known: &str) -> Result<(), Fault> {
        match self.fields.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let name = super::named(&name).to_owned();
                Err(Fault::field(self.code, name, format_args!("is not a known field: use {known}")))
            }
        }
    }
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Self::Value = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(de::Error::custom(format_args!("has more than {FIELDS_MAX} fields")));
                    }
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format_args!("has the field {} twice", super::named(&name))));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

/// No request has so many; it bounds the search for repeats.
const FIELDS_MAX: usize = 64;

struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(NameVisitor).map(Name)
    }
}

/// Splits a JSON array into its elements, at most `max`.
pub fn read_array(bytes: &[u8], max: usize) -> Result<Vec<&RawValue>, Fault> {
    struct Bounded(usize);
    impl<'de> Visitor<'de> for Bounded {
        type Value = Option<Vec<&'de RawValue>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = seq.next_element()? {
                if elements.len() == self.0 {
                    return Err(de::Error::custom("too long"));
                }
                elements.push(element);
            }
            Ok(Some(elements))
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let elements = reader.deserialize_seq(Bounded(max)).and_then(|elements| reader.end().map(|()| elements));
    match elements {
        Ok(elements) => Ok(elements.unwrap_or_default()),
        Err(error) if error.is_data() && super::bare_message(&error) == "too long" => Err(too_many(max)),
        Err(error) if error.is_data() => Err(Fault::whole(INVALID_REQUEST, format!("the batch {}", reason(&error)))),
        Err(error) => Err(Fault::syntax(&error)),
    }
}

/// The fault of a batch with more than `max` elements.
pub fn too_many(max: usize) -> Fault {
    Fault::whole("batch_too_large", format!("a batch has at most {max} events: send several, or NDJSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_names_its_field() {
        let read = |body: &'static str| -> Result<u32, Fault> {
            let mut object = Object::read(body.as_bytes())?;
            let ttl = object.value("ttl_seconds")?.ok_or_else(|| object.missing("ttl_seconds"))?;
            object.finish("ttl_seconds").map(|()| ttl)
        };
        assert_eq!(read(r#"{"ttl_seconds": 60}"#), Ok(60));
        for (body, code, field) in [
            (r#"{"ttl_seconds": "x"}"#, INVALID_REQUEST, Some("ttl_seconds")),
            (r#"{"ttl_seconds": -1}"#, INVALID_REQUEST, Some("ttl_seconds")),
            (r#"{}"#, INVALID_REQUEST, Some("ttl_seconds")),
            (r#"{"ttl_seconds": 1, "tll": 2}"#, INVALID_REQUEST, Some("tll")),
            (r#"{"ttl_seconds": 1, "ttl_seconds": 2}"#, INVALID_REQUEST, None),
            (r#"[]"#, INVALID_REQUEST, None),
            (r#"{"ttl_seconds": 1"#, "invalid_json", None),
        ] {
            let fault = read(body).unwrap_err();
            assert_eq!((fault.code, fault.field.as_deref()), (code, field), "{body}: {fault}");
        }
    }

    #[test]
    fn a_long_word_is_not_quoted() {
        let body = format!("{{\"status\": \"{}\"}}", "x".repeat(60_000));
        let fault =
            Object::read(body.as_bytes()).unwrap().parsed::<crate::domain::tenant::TenantStatus>("status").unwrap_err();
        assert!(
            fault.message.starts_with("status is wrong: ") && !fault.message.contains("xxx"),
            "{} bytes",
            fault.message.len()
        );
    }

    #[test]
    fn broken_json_names_line_and_column() {
        let fault = Object::read(b"{\n  \"a\": 1,\n  oops\n}").unwrap_err();
        assert_eq!((fault.code, fault.place), ("invalid_json", Some((3, 3))), "{fault}");
    }

    #[test]
    fn an_array_is_bounded() {
        assert_eq!(read_array(b"[1, {}]", 2).map(|elements| elements.len()), Ok(2));
        assert_eq!(read_array(b"[1, 2, 3]", 2).unwrap_err().code, "batch_too_large");
        assert_eq!(read_array(b"[1, 2", 2).unwrap_err().code, "invalid_json");
        assert_eq!(read_array(b"[1] 2", 2).unwrap_err().code, "invalid_json");
    }
}
