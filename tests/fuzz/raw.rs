//! A client that sends whatever bytes it is given, which a proper one would not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A request, not made sure of in any way.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Vec<u8>,
    /// Path and query.
    pub target: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
    /// What is announced as the body's length; `None` for what it is.
    pub announced: Option<usize>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Request {
    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"].concat();
        for (name, value) in &self.headers {
            out.extend([name, &b": "[..], value, b"\r\n"].concat());
        }
        if let Some(body) = &self.body {
            out.extend(format!("content-length: {}\r\n", self.announced.unwrap_or(body.len())).bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
        out
    }

    /// Sends it and reads the answer; `None` where the server hung up without one.
    pub fn send(&self, address: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(address).expect("the server takes connections");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time is set");
        // The server may answer and hang up before it has read all of it. Who ends the sending is taken to be gone; only
        // what was announced and never comes is ended so.
        if stream.write_all(&self.bytes()).is_ok() && self.announced.is_some() {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer within 120 s")
            }
            // Hung up on; what was read before is read.
            Err(_) | Ok(_) => read(&answer),
        }
    }
}

fn read(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) {
        // A word on the way: the answer follows.
        return read(&bytes[end + 4..]);
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { joined(body) } else { body.to_vec() };
    Some(Answer { status, headers, body })
}

/// The chunks of a body, as far as they are whole.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let Some(length) = std::str::from_utf8(&rest[..end]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok())
        else {
            break;
        };
        let from = end + 2;
        let Some(chunk) = rest.get(from..from + length).filter(|_| length > 0) else { break };
        out.extend_from_slice(chunk);
        rest = rest.get(from + length + 2..).unwrap_or_default();
    }
    out
}
