//! How many tokens a text can be at most, counted without a tokenizer.
//!
//! A tokenizer would be exact for one family of models and wrong for all others. This bound holds for ordinary text in all
//! of them, because byte-pair encoders join what is frequent and never need more than one token a byte: every two letters
//! of a word count as one token (in ordinary words a token has three to five), every digit, sign and line break as one
//! (encoders join up to three digits), a letter beyond ASCII as one to three by how its script fares in the older
//! encoders, anything else as its bytes. English comes out at about twice its true count. Random letters, which no text
//! is made of, can be a little above it.

/// The most tokens that `text` is likely to be, in any encoder.
pub fn token_bound(text: &str) -> u64 {
    let (mut tokens, mut letters, mut upper) = (0u64, 0u64, false);
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte.is_ascii_alphabetic() {
            // camelCase is two words to an encoder.
            if byte.is_ascii_uppercase() && !upper {
                tokens += letters.div_ceil(2);
                letters = 0;
            }
            upper = byte.is_ascii_uppercase();
            letters += 1;
            rest = after;
            continue;
        }
        tokens += letters.div_ceil(2);
        letters = 0;
        upper = false;
        if byte.is_ascii() {
            // A space belongs to the word behind it.
            tokens += u64::from(byte != b' ' || after.first().is_some_and(u8::is_ascii_digit));
            rest = after;
        } else {
            // `text` is UTF-8, so the first byte tells the length.
            let length = if byte >= 0xF0 {
                4
            } else if byte >= 0xE0 {
                3
            } else {
                2
            };
            let (character, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            tokens += tokens_of(character);
            rest = after;
        }
    }
    tokens + letters.div_ceil(2)
}

/// The most tokens of one character beyond ASCII, given as its UTF-8.
fn tokens_of(character: &[u8]) -> u64 {
    match character {
        // Latin with marks; Cyrillic (U+0400 to U+04FF). Greek and the rest of two bytes: their bytes.
        [0xC2..=0xCD, _] | [0xD0..=0xD3, _] => 1,
        [_, _] => 2,
        // Vietnamese and punctuation (U+1E00 to U+206F); Chinese, Japanese and Korean (U+3000 to U+D7FF).
        [0xE1, 0xB8..=0xBF, _] | [0xE2, 0x80 | 0x81, _] | [0xE3..=0xED, _, _] => 2,
        other => other.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with the larger of their true counts in `cl100k_base` and `o200k_base`, counted with the npm package
    /// gpt-tokenizer 4.0.0.
    const COUNTED: [(&str, u64); 18] = [
        (
            "The quick brown fox jumps over the lazy dog. Antidisestablishmentarianism isn't ordinary, however. We have 1,234 items at $5.99 each; see https://example.com/a?b=c for details.",
            48,
        ),
        ("Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.", 49),
        ("Όλες οι ευτυχισμένες οικογένειες μοιάζουν μεταξύ τους.", 52),
        ("幸福的家庭都是相似的,不幸的家庭各有各的不幸。", 32),
        ("幸福な家庭はどれも似たものだが、不幸な家庭はいずれもそれぞれに不幸なものである。", 48),
        ("सभी सुखी परिवार एक जैसे होते हैं।", 34),
        ("ყველა ბედნიერი ოჯახი ერთმანეთს ჰგავს", 67),
        ("Mọi gia đình hạnh phúc đều giống nhau, mỗi gia đình bất hạnh lại bất hạnh theo cách riêng.", 44),
        ("Toutes les familles heureuses se ressemblent, mais chaque famille malheureuse l'est à sa façon.", 24),
        (
            "pub fn take(&mut self, now: Timestamp) -> Option<u64> {\n    let limit = state.limit?;\n\tif x != 0 { return None; }\n}\n",
            35,
        ),
        (r#"{"id":"0192f3c4-5a6b-7c8d-9e0f-112233445566","a":[1,2.5,333],"nested":{"k":"v","t":true}}"#, 50),
        ("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 43),
        ("aGVsbG8gd29ybGQhIHRoaXMgaXMgYmFzZTY0IGVuY29kZWQgdGV4dA==", 38),
        ("😀🎉👩‍👩‍👧‍👦🏳️‍🌈", 32),
        ("ANTHROPIC AND OPENAI PROVIDE LARGE LANGUAGE MODELS", 13),
        ("كل العائلات السعيدة تتشابه", 19),
        ("행복한 가정은 모두 모습이 비슷하고", 18),
        ("3141592653589793238462643383279502884197", 14),
    ];

    #[test]
    fn the_bound_is_never_below_the_true_count_of_ordinary_text_and_never_above_its_bytes() {
        for (text, count) in COUNTED {
            let bound = token_bound(text);
            assert!(bound >= count, "{bound} < {count}: {text}");
            assert!(bound <= text.len() as u64, "{bound}: {text}");
        }
    }

    #[test]
    fn english_is_about_twice_its_true_count() {
        let (text, count) = COUNTED[0];
        assert!((count..=count * 5 / 2).contains(&token_bound(text)));
        assert_eq!(token_bound(""), 0);
        assert_eq!(token_bound("the"), 2);
    }
}
