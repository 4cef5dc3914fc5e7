//! Makes requests bad: path, query, method, headers and body, as a seed says.

use super::mutate::{Mutator, NUMBERS, VALUES};
use super::random::Random;
use super::raw::Request;

/// Makes requests bad.
pub struct Spoiler {
    random: Random,
    mutator: Mutator,
    bodies: Vec<Vec<u8>>,
    queries: Vec<Vec<u8>>,
    cursors: Vec<String>,
}

const METHODS: [&str; 12] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO", "get", "PROPFIND", "X-Y"];
const MEDIA: [&str; 14] = [
    "application/json",
    "application/json; charset=utf-16",
    "application/x-ndjson",
    "application/ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/toml",
    "",
    ";",
    "application/json, text/html",
    "\u{e9}",
];
const SEGMENTS: [&str; 22] = [
    "",
    "%00",
    "%2F",
    "a%2Fb",
    "..",
    "%2e%2e%2f",
    "%zz",
    "%",
    "%ff%fe",
    "%F0%9F%98%80",
    "a b",
    "acme%20",
    "ACME",
    "events",
    "today",
    "0",
    "-1",
    "null",
    "nobody",
    "%0d%0ax:%20y",
    "{tenant}",
    "*",
];
const NAMES: [&str; 17] = [
    "startDate",
    "endDate",
    "limit",
    "cursor",
    "period",
    "metric",
    "tenantId",
    "tenant_id",
    "window",
    "dry_run",
    "at",
    "index",
    "size",
    "old",
    "new",
    "event_type",
    "unknown",
];
const DATES: [&str; 12] = [
    "2026-11-24",
    "2026-02-30",
    "0000-00-00",
    "9999-12-31",
    "-0001-01-01",
    "1969-12-31",
    "2026-11-24T10:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "2026-11-24T10:00:00",
    "2026-11-24T10:00:00%2B99:99",
    "tomorrow",
    "\u{0662}\u{0660}26-01-01",
];

impl Spoiler {
    /// With this material: bodies, queries, and cursors that the server gave.
    pub fn new(seed: u64, bodies: Vec<Vec<u8>>, queries: Vec<Vec<u8>>, cursors: Vec<String>) -> Self {
        let mutator = Mutator::new(Random::new(seed ^ 1));
        Self { random: Random::new(seed), mutator, bodies, queries, cursors }
    }

    /// Spoils a request in one to three ways.
    pub fn spoil(&mut self, request: &mut Request) {
        for _ in 0..=self.random.place(3) {
            match self.random.place(if request.body.is_some() { 12 } else { 7 }) {
                0 | 1 => self.spoil_path(request),
                2 | 3 => self.spoil_query(request),
                4 => request.method = (*self.random.one_of(&METHODS)).into(),
                5 | 6 => self.spoil_headers(request),
                _ => self.spoil_body(request),
            }
        }
        // What would make another request of it than it is: a request line has no spaces, line ends or controls.
        for part in [&mut request.target, &mut request.method] {
            part.retain(|byte| byte.is_ascii_graphic() || *byte >= 0x80);
        }
        if request.target.first() != Some(&b'/') {
            request.target.insert(0, b'/');
        }
        request.target.truncate(16 * 1024);
        for (name, value) in &mut request.headers {
            name.retain(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
            value.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        }
        request.headers.retain(|(name, _)| !name.is_empty());
    }

    fn spoil_path(&mut self, request: &mut Request) {
        let end = request.target.iter().position(|byte| *byte == b'?').unwrap_or(request.target.len());
        let (path, query) = request.target.split_at(end);
        let mut segments: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let place = self.random.place(segments.len());
        // Mostly where the things are named, behind what makes the route.
        let place =
            if self.random.place(3) > 0 { segments.len().saturating_sub(1 + self.random.place(2)) } else { place };
        segments[place] = match self.random.place(6) {
            0 => "x".repeat(*self.random.one_of(&[128usize, 129, 4_000])).into_bytes(),
            1 => encoded(&self.mutator.next(&[segments[place].clone(), b"acme".to_vec()])),
            2 => self.random.one_of(&NUMBERS).as_bytes().to_vec(),
            _ => self.random.one_of(&SEGMENTS).as_bytes().to_vec(),
        };
        request.target = [segments.join(&b'/'), query.to_vec()].concat();
    }

    fn spoil_query(&mut self, request: &mut Request) {
        let mut more = match self.random.place(6) {
            0 => encoded(&self.mutator.next(&self.queries)),
            1 => self.mutator.next(&self.queries),
            2 => {
                let cursor = self.random.one_of(&self.cursors).clone().into_bytes();
                let cursor = if self.random.place(2) == 0 { cursor.clone() } else { self.mutator.next(&[cursor]) };
                [&b"cursor="[..], &encoded(&cursor)].concat()
            }
            _ => {
                let value = match self.random.place(4) {
                    0 => self.random.one_of(&NUMBERS).as_bytes().to_vec(),
                    1 => encoded(self.random.one_of(&VALUES).as_bytes()),
                    2 => self.random.one_of(&DATES).as_bytes().to_vec(),
                    _ => self.random.one_of(&SEGMENTS).as_bytes().to_vec(),
                };
                [self.random.one_of(&NAMES).as_bytes(), b"=", &value].concat()
            }
        };
        let has_query = request.target.contains(&b'?');
        // Instead of what was there, or behind it: then a parameter may be given twice.
        if has_query && self.random.place(2) == 0 {
            let end = request.target.iter().position(|byte| *byte == b'?').unwrap_or_default();
            request.target.truncate(end);
        }
        request.target.push(if request.target.contains(&b'?') { b'&' } else { b'?' });
        request.target.append(&mut more);
    }

    fn spoil_headers(&mut self, request: &mut Request) {
        let keys: [&[u8]; 7] =
            [b"", b"Bearer ", b"Basic YTpi", b"Bearer \xff\xfe", b"bearer mg_00", b"Bearer x y", b"\tBearer"];
        let (name, value): (&str, Vec<u8>) = match self.random.place(11) {
            0 => ("authorization", self.random.one_of(&keys).to_vec()),
            1 | 2 => ("content-type", self.random.one_of(&MEDIA).as_bytes().to_vec()),
            3 => ("idempotency-key", self.mutator.next(&[b"order-7".to_vec()])),
            4 => ("x-request-id", self.mutator.next(&[b"req-7".to_vec()])),
            5 => ("x-metergate-tenant", self.mutator.next(&[b"acme".to_vec()])),
            6 => ("expect", (*self.random.one_of(&["100-continue", "x", ""])).into()),
            7 => ("x-forwarded-for", self.mutator.next(&[b"203.0.113.9, 10.0.0.2".to_vec()])),
            8 => ("origin", (*self.random.one_of(&["https://x.example", "null", "\u{e9}", ""])).into()),
            9 => ("content-encoding", (*self.random.one_of(&["gzip", "br", "identity", "x"])).into()),
            _ => ("accept", (*self.random.one_of(&["text/html", "*/*;q=0", "x", "application/xml"])).into()),
        };
        if self.random.place(3) > 0 {
            request.headers.retain(|(known, _)| known != name.as_bytes());
        }
        let mut value = value;
        value.truncate(9_000);
        request.headers.push((name.into(), value));
        // Removed altogether.
        if self.random.place(6) == 0 {
            let place = self.random.place(request.headers.len());
            request.headers.remove(place);
        }
    }

    fn spoil_body(&mut self, request: &mut Request) {
        let Some(body) = &mut request.body else { return };
        match self.random.place(20) {
            0 => *body = vec![b' '; *self.random.one_of(&[64 * 1024, 64 * 1024 + 1, 200_000])],
            1 => *body = [&b"{\"tenant_id\":\""[..], &vec![b'x'; 70_000], b"\"}"].concat(),
            2 => body.clear(),
            3 => request.announced = Some(body.len() + 1 + self.random.place(100)),
            4 => *body = self.mutator.next(&self.bodies),
            5 => {
                let line = [&body[..], b"\n"].concat();
                *body = line.repeat(3);
            }
            _ => self.mutator.change(body, &self.bodies),
        }
    }
}

/// Every byte that a path or a query may not hold as it is, encoded.
fn encoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bytes {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'=' | b'&' => out.push(*byte),
            _ => out.extend(format!("%{byte:02X}").bytes()),
        }
    }
    out
}
