//! The most tokens that a request can put in: every text that reaches the model, and a bound for each picture, sound and
//! file.
//!
//! What the door cannot see cannot be counted: a conversation that the upstream keeps (`previous_response_id`), a file it
//! holds (`file_id`), what its own tools fetch. Such calls may use more than was reserved; that is recorded in full and
//! flagged as overage.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

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

/// The longest address of a picture.
const ADDRESS_BYTES_MAX: usize = 8 * 1024;
/// The longest name of a file that the upstream holds.
const FILE_ID_BYTES_MAX: usize = 256;

/// What stands at a place in the request. Only the parts of messages hold pictures, sounds and files; elsewhere their names
/// are names like any other, and what stands under them is text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Text, and all under it.
    Text,
    /// Messages, items, and their parts.
    Parts,
    Picture,
    Sound,
    SoundData,
    File,
    FileId,
}

impl Place {
    /// What stands under a name at this place.
    fn under(self, name: &str) -> Self {
        match (self, name) {
            (Self::Parts, "content" | "output" | "file") => Self::Parts,
            (Self::Parts, "image_url") | (Self::Picture, "url") => Self::Picture,
            (Self::Parts, "input_audio") => Self::Sound,
            (Self::Sound, "data") => Self::SoundData,
            (Self::Parts, "file_data") => Self::File,
            (Self::Parts, "file_id") => Self::FileId,
            _ => Self::Text,
        }
    }
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
        let place = if name == "messages" || name == "input" { Place::Parts } else { Place::Text };
        Count { bound: self, place, depth: 0 }.deserialize(&mut deserializer)
    }

    /// The bound.
    pub(super) const fn tokens(&self) -> u64 {
        self.tokens
    }

    fn text(&mut self, text: &str, place: Place) {
        self.tokens += match place {
            Place::Picture if is_picture(text) => self.image_tokens,
            // Whatever it is: it may be seen, and may be read.
            Place::Picture => self.image_tokens + token_bound(text),
            Place::SoundData if is_base64(text) => (text.len() as u64).div_ceil(AUDIO_BYTES_PER_TOKEN),
            Place::File => file_bound(text),
            // Not in the request: not countable.
            Place::FileId if text.len() <= FILE_ID_BYTES_MAX => 0,
            Place::Text | Place::Parts | Place::Sound | Place::SoundData | Place::FileId => token_bound(text),
        };
    }
}

/// The address of a picture, or a picture as a `data:` address.
fn is_picture(text: &str) -> bool {
    if let Some(data) = text.strip_prefix("data:image/") {
        return data.split_once(";base64,").is_some_and(|(kind, data)| is_media(kind) && is_base64(data));
    }
    let is_address = text.starts_with("http://") || text.starts_with("https://");
    is_address && text.len() <= ADDRESS_BYTES_MAX && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_media(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-./;=_".contains(&byte))
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte))
}

/// Of a file in Base64, with or without its media type. Texts have at most a token a byte; documents of pages are told by how
/// they begin.
fn file_bound(text: &str) -> u64 {
    let data = text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let (media, data) = data.unwrap_or(("", text));
    if !is_media(media) || !is_base64(data) {
        return token_bound(text);
    }
    let is_text = media.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"));
    // `%PDF`, and the ZIP that office documents are.
    match ["JVBERi", "UEsDB"].iter().any(|start| data.starts_with(start)) && !is_text {
        true => (data.len() as u64).div_ceil(FILE_BYTES_PER_TOKEN),
        false => (data.len() as u64).div_ceil(4) * 3,
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
            let place = self.place.under(&name);
            self.bound.tokens += token_bound(&name) + 2;
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
        assert!(bound("gpt-4o", "tools", &disguised) > 2_500);
    }

    #[test]
    fn sound_files_and_token_lists_have_bounds_of_their_own() {
        let part = |part: String| bound("m", "messages", &format!(r#"[{{"content":[{part}]}}]"#));
        let sound = format!(r#"{{"input_audio":{{"data":"{}","format":"mp3"}}}}"#, "A".repeat(32_000));
        assert!((1_000..1_100).contains(&part(sound)));
        let file = |data: &str| part(format!(r#"{{"file":{{"file_data":"{data}{}"}}}}"#, "A".repeat(8_000)));
        assert!((1_000..1_100).contains(&file("JVBERi")));
        assert!((1_000..1_100).contains(&file("data:application/pdf;base64,JVBERi")));
        for text in ["data:text/plain;base64,JVBERi", "data:text/plain;base64,", "data:application/json;base64,", ""] {
            assert!((6_000..6_100).contains(&file(text)), "{text}: {}", file(text));
        }
        let tokens = format!("[{}]", vec!["7"; 500].join(","));
        assert_eq!(bound("m", "input", &tokens), FRAME_TOKENS + 1_000);
        assert!(PromptBound::new("m").add("input", &"[".repeat(200)).is_err());
    }

    #[test]
    fn a_text_is_a_text_whatever_it_calls_itself() {
        let words = "word ".repeat(1_000);
        let part = |part: &str| bound("m", "messages", &format!(r#"[{{"content":[{part}]}}]"#));
        for disguised in [
            format!(r#"{{"file_id":"{words}"}}"#),
            format!(r#"{{"file_id":["{words}"]}}"#),
            format!(r#"{{"file_id":{{"id":"{words}"}}}}"#),
            format!(r#"{{"file_data":"{words}"}}"#),
            format!(r#"{{"input_audio":"{words}"}}"#),
            format!(r#"{{"input_audio":{{"data":"{words}"}}}}"#),
            format!(r#"{{"input_audio":{{"text":"{words}"}}}}"#),
            format!(r#"{{"image_url":"https://{words}"}}"#),
            format!(r#"{{"image_url":{{"url":"https://example.com/?{}"}}}}"#, "word".repeat(2_500)),
            format!(r#"{{"image_url":"data:image/png;base64,{words}"}}"#),
            format!(r#"{{"image_url":"data:image/{words};base64,AAAA"}}"#),
            format!(r#"{{"image_url":{{"detail":"{words}"}}}}"#),
        ] {
            assert!(part(&disguised) >= 2_000, "{}: {disguised:.60}", part(&disguised));
        }
        let schema = "word".repeat(1_000);
        for name in ["image_url", "input_audio", "file_data", "file_id", "data"] {
            for field in ["tools", "functions", "response_format", "instructions"] {
                let json = format!(r#"[{{"content":{{"{name}":"https://{schema}"}}}}]"#);
                assert!(bound("m", field, &json) >= 2_000, "{field}: {name}");
            }
            let json = format!(r#"[{{"tool_calls":[{{"{name}":"https://{schema}"}}]}}]"#);
            assert!(bound("m", "messages", &json) >= 2_000, "{name}");
        }
        assert!(part(r#"{"type":"input_file","file_id":"file-abc"}"#) < 60);
    }

    #[test]
    fn each_picture_of_a_list_counts() {
        let urls = [r#""https://example.com/a.png""#; 3].join(",");
        let list = format!(r#"[{{"content":[{{"image_url":[{urls}]}}]}}]"#);
        assert!((15_000..15_200).contains(&bound("m", "messages", &list)));
        let output =
            r#"[{"type":"function_call_output","output":[{"type":"input_image","image_url":"https://e.com/a"}]}]"#;
        assert!((5_000..5_200).contains(&bound("m", "input", output)));
    }
}
