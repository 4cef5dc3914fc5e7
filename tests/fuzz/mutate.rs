//! Makes bad input out of good: bytes are flipped, cut, doubled and spliced; numbers, words, lines and the values of JSON
//! are exchanged for what parsers stumble over.

use std::ops::Range;

use crate::random::Random;

/// Numbers that parsers stumble over, as text.
pub const NUMBERS: [&str; 38] = [
    "0",
    "-0",
    "1",
    "-1",
    "255",
    "256",
    "32768",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211455",
    "340282366920938463463374607431768211456",
    "1e400",
    "-1e400",
    "1e-400",
    "1E308",
    "0.1",
    "1.5",
    "00",
    "01",
    "1.",
    ".5",
    "+1",
    "0x10",
    "1_000",
    "0.0000000000000001",
    "99999999999999999999999999999999999999999999999999999999",
    "NaN",
];

/// Values of JSON, and what is nearly one.
pub const VALUES: [&str; 30] = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "\"\"",
    "\" \"",
    "[null]",
    "[[]]",
    "{\"\":null}",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\u202e\"",
    "\"\u{feff}\"",
    "\"a\u{301}\"",
    "\"\\n\\t\\\\\"",
    "\"2026-02-30T00:00:00Z\"",
    "\"9999-12-31T23:59:60Z\"",
    "\"-262144-01-01T00:00:00Z\"",
    "\"1970-01-01T00:00:00+23:59\"",
    "\"../../etc/passwd\"",
    "\"%00\"",
    "\"acme\"",
    "\"tokens\"",
    "nul",
    "tru",
    "\"open",
    "{\"a\":",
    "[1,",
];

/// Bytes that end, begin or break things.
const PIECES: [&[u8]; 40] = [
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\t",
    b" ",
    b"\"",
    b"\\",
    b"\\u",
    b"'",
    b"\"\"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[",
    b",",
    b";",
    b":",
    b"=",
    b"+",
    b"-",
    b".",
    b"/",
    b"..",
    b"*",
    b"%",
    b"%zz",
    b"&",
    b"#",
    "\u{1f600}".as_bytes(),
    "\u{130}".as_bytes(),
];

/// The largest input that is made, in bytes.
const BYTES_MAX: usize = 512 * 1024;

/// Makes inputs.
pub struct Mutator {
    random: Random,
}

impl Mutator {
    /// Made by these numbers.
    pub const fn new(random: Random) -> Self {
        Self { random }
    }

    /// The next input: one of the material, changed between once and a few times.
    pub fn next(&mut self, material: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.random.one_of(material).clone();
        for _ in 0..=self.random.place(3) {
            self.change(&mut input, material);
            if input.len() > BYTES_MAX {
                input.truncate(BYTES_MAX);
            }
        }
        input
    }

    /// Changes an input in one of many ways.
    pub fn change(&mut self, input: &mut Vec<u8>, material: &[Vec<u8>]) {
        // What is text is mostly changed as text: of bytes flipped at random little is read beyond the first.
        let is_text = std::str::from_utf8(input).is_ok();
        match self.random.place(if is_text { 10 } else { 4 }) {
            0..=3 => self.change_bytes(input, material),
            4 => self.change_words(input, material),
            5 => self.change_lines(input),
            _ => self.change_json(input, material),
        }
    }

    fn change_bytes(&mut self, input: &mut Vec<u8>, material: &[Vec<u8>]) {
        let random = &mut self.random;
        let place = random.place(input.len() + 1);
        match random.place(10) {
            0 => {
                if let Some(byte) = input.get_mut(place) {
                    *byte ^= 1 << random.place(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(place) {
                    *byte = *random.one_of(&[0, 1, 0x7f, 0x80, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, b'0', b'9', b'"']);
                }
            }
            2 => {
                if let Some(byte) = input.get_mut(place) {
                    *byte = byte.wrapping_add(random.next() as u8 % 9).wrapping_sub(4);
                }
            }
            3 => {
                let more: Vec<u8> = (0..random.place(12)).map(|_| random.next() as u8).collect();
                input.splice(place..place, more);
            }
            4 => {
                let piece = *random.one_of(&PIECES);
                input.splice(place..place, piece.iter().copied());
            }
            5 => {
                let range = random.range(input.len());
                input.drain(range);
            }
            6 => {
                let range = random.range(input.len());
                let copy = input[range].to_vec();
                input.splice(place..place, copy);
            }
            7 => {
                // Many times over.
                let range = random.range(input.len());
                let copy = input[range].to_vec();
                let times = *random.one_of(&[2usize, 17, 300, 5_000]);
                let many = copy.repeat(times.min(64 * 1024 / copy.len().max(1)));
                input.splice(place..place, many);
            }
            8 => {
                let other = random.one_of(material).clone();
                input.truncate(place);
                input.extend_from_slice(&other[random.place(other.len() + 1)..]);
            }
            _ => input.truncate(place),
        }
    }

    /// Exchanges a number for another, or a word for one from elsewhere.
    fn change_words(&mut self, input: &mut Vec<u8>, material: &[Vec<u8>]) {
        let other = self.random.one_of(material).clone();
        let random = &mut self.random;
        if random.place(2) == 0 {
            let numbers = runs(input, |byte| byte.is_ascii_digit());
            if !numbers.is_empty() {
                let range = random.one_of(&numbers).clone();
                input.splice(range, random.one_of(&NUMBERS).bytes());
            }
            return;
        }
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let (mine, theirs) = (runs(input, is_word), runs(&other, is_word));
        if mine.is_empty() || theirs.is_empty() {
            return;
        }
        let (range, from) = (random.one_of(&mine).clone(), random.one_of(&theirs).clone());
        match random.place(4) {
            0 => input[range].make_ascii_uppercase(),
            1 => {
                let word = input[range.clone()].to_vec();
                let times = *random.one_of(&[2usize, 9, 40, 200, 3_000]);
                input.splice(range, word.repeat(times.min(64 * 1024 / word.len().max(1))));
            }
            _ => {
                input.splice(range, other[from].iter().copied());
            }
        }
    }

    fn change_lines(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let mut lines: Vec<Vec<u8>> = input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if lines.is_empty() {
            return;
        }
        let (one, two) = (random.place(lines.len()), random.place(lines.len()));
        match random.place(5) {
            0 => drop(lines.remove(one)),
            1 => {
                let line = lines[one].clone();
                lines.insert(two, line);
            }
            2 => lines.swap(one, two),
            3 => {
                lines[one].pop();
            }
            _ => lines[one].extend_from_slice(b"\r\n"),
        }
        *input = lines.concat();
    }

    /// Changes a value of JSON for another kind of value, or a member of an object.
    fn change_json(&mut self, input: &mut Vec<u8>, material: &[Vec<u8>]) {
        let other = self.random.one_of(material).clone();
        let random = &mut self.random;
        let (values, members) = parts_of_json(input);
        if values.is_empty() {
            return self.change_bytes(input, material);
        }
        let range = random.one_of(&values).clone();
        match random.place(9) {
            0 => drop(input.splice(range, random.one_of(&NUMBERS).bytes())),
            1 | 2 => drop(input.splice(range, random.one_of(&VALUES).bytes())),
            3 => {
                // Another value of this input, or of another.
                let text = if random.place(2) == 0 { input.clone() } else { other };
                let (theirs, _) = parts_of_json(&text);
                if !theirs.is_empty() {
                    let from = random.one_of(&theirs).clone();
                    input.splice(range, text[from].iter().copied());
                }
            }
            4 => {
                let depth = *random.one_of(&[1usize, 3, 60, 130, 3_000, 60_000]);
                let (open, close) = *random.one_of(&[("[", "]"), ("{\"a\":", "}")]);
                let inner = String::from_utf8_lossy(&input[range.clone()]).into_owned();
                let (before, behind) =
                    (open.repeat(depth), if random.place(8) == 0 { "" } else { close }.repeat(depth));
                input.splice(range, format!("{before}{inner}{behind}").into_bytes());
            }
            5 => {
                let length = *random.one_of(&[0usize, 1, 50, 51, 128, 129, 255, 256, 4_096, 65_536, 100_000]);
                let letter = *random.one_of(&["x", "é", "\u{1f600}", "\\u0041", " ", "\\\\"]);
                input.splice(range, format!("\"{}\"", letter.repeat(length / letter.len().max(1))).into_bytes());
            }
            6 if !members.is_empty() => {
                // A member twice, with another value perhaps.
                let member = random.one_of(&members).clone();
                let mut copy = vec![b','];
                copy.extend_from_slice(&input[member.clone()]);
                input.splice(member.end..member.end, copy);
            }
            7 if !members.is_empty() => {
                let member = random.one_of(&members).clone();
                let mut end = member.end;
                end += usize::from(input.get(end) == Some(&b','));
                input.drain(member.start..end);
            }
            _ => {
                let more = format!("{{\"x\":{},\"x\":1}}", random.one_of(&VALUES));
                input.splice(range, more.into_bytes());
            }
        }
    }
}

/// The longest runs of bytes that `belongs`.
fn runs(input: &[u8], belongs: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let (mut found, mut from) = (Vec::new(), None);
    for (place, byte) in input.iter().enumerate() {
        match (belongs(*byte), from) {
            (true, None) => from = Some(place),
            (false, Some(start)) => {
                found.push(start..place);
                from = None;
            }
            _ => {}
        }
    }
    found.extend(from.map(|start| start..input.len()));
    found
}

/// Where the values of JSON stand, and the members of objects, in whatever text it is: nothing is checked.
fn parts_of_json(input: &[u8]) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let (mut values, mut members) = (Vec::new(), Vec::new());
    // Where open objects and lists begin; where the name of the member begins that the next value ends.
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let (mut place, mut name) = (0, None);
    while place < input.len() {
        let start = place;
        match input[place] {
            b'"' => {
                place += 1;
                while place < input.len() && input[place] != b'"' {
                    place += if input[place] == b'\\' { 2 } else { 1 };
                }
                place = (place + 1).min(input.len());
                let behind = input[place..].iter().position(|byte| !byte.is_ascii_whitespace());
                if behind.is_some_and(|behind| input[place + behind] == b':') {
                    name = Some(start);
                    continue;
                }
            }
            b'{' | b'[' => {
                open.push((start, name.take()));
                place += 1;
                continue;
            }
            b'}' | b']' => {
                place += 1;
                let Some((from, of)) = open.pop() else { continue };
                values.push(from..place);
                members.extend(of.map(|of| of..place));
                continue;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                let ends = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'));
                place += input[place..].iter().position(ends).unwrap_or(input.len() - place);
            }
            _ => {
                place += 1;
                continue;
            }
        }
        values.push(start..place);
        members.extend(name.take().map(|of| of..place));
    }
    (values, members)
}
