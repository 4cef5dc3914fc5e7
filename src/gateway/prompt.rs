//! The most tokens that a request can put in: every text that reaches the model, and a bound for each picture, sound and
//! file.
//!
//! What the door cannot see cannot be counted: a conversation that the upstream keeps (`previous_response_id`), a file it
//! holds (`file_id`), what its own tools fetch. Such calls may use more than was reserved; that is recorded in full and
//! flagged as overage.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::token_bound::token_bound;

/// What a model is told around any request: roles, separators, the beginning of the answer.
const FRAME_TOKENS: u64 = 16;
/// What a model is told about the use of tools, at the most talkative provider.
const TOOLS_TOKENS: u64 = 512;
/// The most tokens of a picture: 1,445 at GPT-4o, 3,779 at GPT-4.1 nano, 4,784 at Claude.
const IMAGE_TOKENS: u64 = 5_000;
/// The most tokens of a picture at GPT-4o mini, whose pictures are multiplied to cost as much as GPT-4o's.
const IMAGE_TOKENS_GPT_4O_MINI: u64 = 48_200;
/// Base64 bytes of sound for a token: 32 tokens a second (the most of any provider) of MP3 at 8 kbit/s (the least).
const AUDIO_BYTES_PER_TOKEN: u64 = 32;
/// Base64 bytes of a file for a token: a page of PDF has 20 kB and more, and is read as text and as a picture.
const FILE_BYTES_PER_TOKEN: u64 = 8;
/// How deep a request may be nested; serde_json itself stops at 128.
const DEPTH_MAX: usize = 100;

/// What stands at a place in the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Image,
    Audio,
    File,
}

/// Adds up the bound of one request's fields.
pub(super) struct PromptBound {
    tokens: u64,
    image_tokens: u64,
}

impl PromptBound {
    /// Of a request to this model.
    pub(super) fn new(model: &str) -> Self {
        let image_tokens = if model.contains("4o-mini") { IMAGE_TOKENS_GPT_4O_MINI } else { IMAGE_TOKENS };
        Self { tokens: FRAME_TOKENS, image_tokens }
    }

    /// Adds a field of the request with its JSON. Fails where that is nested too deep.
    pub(super) fn add(&mut self, name: &str, json: &str) -> Result<(), serde_json::Error> {
        if name == "tools" || name == "functions" {
            self.tokens += TOOLS_TOKENS;
        }
        let mut deserializer = serde_json::Deserializer::from_str(json);
        Count { bound: self, place: Place::Text, depth: 0 }.deserialize(&mut deserializer)
    }

    /// The bound.
    pub(super) const fn tokens(&self) -> u64 {
        self.tokens
    }

    fn text(&mut self, text: &str, place: Place) {
        let bytes = text.len() as u64;
        self.tokens += match place {
            Place::Text => token_bound(text),
            // The picture is counted where its part begins; what describes it is text.
            Place::Image if ["data:image/", "http://", "https://"].iter().any(|start| text.starts_with(start)) => 0,
            Place::Image => token_bound(text),
            Place::Audio => bytes.div_ceil(AUDIO_BYTES_PER_TOKEN),
            Place::File => bytes.div_ceil(FILE_BYTES_PER_TOKEN),
        };
    }
}

struct Count<'a> {
    bound: &'a mut PromptBound,
    place: Place,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.bound.text(text, self.place);
        Ok(())
    }

    // A number among texts is a few digits; among embeddings' input it is a token itself.
    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.bound.tokens += u64::from(number.checked_ilog10().unwrap_or(0)) / 3 + 1;
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.bound.tokens += u64::from(number.unsigned_abs().checked_ilog10().unwrap_or(0)) / 3 + 2;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.bound.tokens += 20;
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.bound.tokens += 1;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.bound.tokens += 1;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        while elements.next_element_seed(Count { bound: &mut *self.bound, place: self.place, depth })?.is_some() {
            self.bound.tokens += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let depth = deeper(self.depth)?;
        while let Some(name) = fields.next_key::<std::borrow::Cow<'_, str>>()? {
            let place = match name.as_ref() {
                "image_url" => Place::Image,
                "data" if self.place == Place::Audio => Place::Audio,
                "input_audio" => Place::Audio,
                "file_data" => Place::File,
                // The name of a format, a file or a part is text wherever it stands.
                _ => match self.place {
                    Place::Audio | Place::File => Place::Text,
                    place => place,
                },
            };
            if place == Place::Image && self.place != Place::Image {
                self.bound.tokens += self.bound.image_tokens;
            }
            self.bound.tokens += token_bound(&name) + 2;
            if name == "file_id" {
                // Not in the request: not countable.
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            fields.next_value_seed(Count { bound: &mut *self.bound, place, depth })?;
        }
        Ok(())
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(E::custom("nested too deep")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(model: &str, name: &str, json: &str) -> u64 {
        let mut bound = PromptBound::new(model);
        bound.add(name, json).unwrap();
        bound.tokens()
    }

    #[test]
    fn every_text_counts_and_a_picture_counts_once_however_large() {
        let said = |text: &str| format!(r#"[{{"role":"user","content":"{text}"}}]"#);
        let short = bound("gpt-4o", "messages", &said("Say this is a test"));
        assert!((12..80).contains(&short), "12 by the provider's count: {short}");
        assert!(bound("gpt-4o", "messages", &said(&"word ".repeat(1_000))) >= short + 1_000);
        let picture = |bytes: usize| {
            let url = format!("data:image/png;base64,{}", "A".repeat(bytes));
            format!(
                r#"[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}","detail":"low"}}}}]}}]"#
            )
        };
        let small = bound("gpt-4o", "messages", &picture(10));
        assert_eq!(bound("gpt-4o", "messages", &picture(1_000_000)), small);
        assert!((5_000..5_200).contains(&small), "{small}");
        assert!(bound("gpt-4o-mini", "messages", &picture(10)) > 48_000);
        // A text that calls itself a picture is a text.
        let disguised = format!(r#"{{"image_url":{{"description":"{}"}}}}"#, "word ".repeat(1_000));
        assert!(bound("gpt-4o", "tools", &disguised) > 7_000);
    }

    #[test]
    fn sound_files_and_token_lists_have_bounds_of_their_own() {
        let sound = format!(r#"{{"input_audio":{{"data":"{}","format":"mp3"}}}}"#, "A".repeat(32_000));
        assert!((1_000..1_100).contains(&bound("m", "messages", &sound)));
        let file = format!(r#"{{"file":{{"file_data":"{}"}}}}"#, "A".repeat(8_000));
        assert!((1_000..1_100).contains(&bound("m", "messages", &file)));
        let tokens = format!("[{}]", vec!["7"; 500].join(","));
        assert_eq!(bound("m", "input", &tokens), FRAME_TOKENS + 1_000);
        assert!(PromptBound::new("m").add("input", &"[".repeat(200)).is_err());
    }
}
