//! A mock of an OpenAI-compatible upstream in the test's own process: it answers as it is told, piece by piece, and
//! remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// What the mock was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub body: Vec<u8>,
}

impl Asked {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How the mock answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, further header lines, and all of the body.
    Whole(u16, String, Vec<u8>),
    /// Server-sent events in these pieces, each written apart, then the end.
    Pieces(Vec<Vec<u8>>),
    /// These pieces, then the connection is cut.
    Broken(Vec<Vec<u8>>),
    /// These pieces, then silence until the other side hangs up.
    Stuck(Vec<Vec<u8>>),
    /// No answer, until the other side hangs up.
    Silent,
    /// No answer: the connection is closed once the call was read.
    HungUp,
}

impl Reply {
    /// JSON with status 200.
    pub fn json(body: &Value) -> Self {
        Self::Whole(200, "content-type: application/json\r\n".to_owned(), body.to_string().into_bytes())
    }
}

/// The mock. It serves until the process ends.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    hung_up: Arc<Mutex<u64>>,
}

impl Upstream {
    /// A mock that answers each request as `reply` says.
    pub fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (asked, hung_up) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<u64>>::default());
        let (log, left, reply) = (Arc::clone(&asked), Arc::clone(&hung_up), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, left, reply) = (Arc::clone(&log), Arc::clone(&left), Arc::clone(&reply));
                std::thread::spawn(move || {
                    // A caller that is gone ends its connection's thread.
                    let _ = serve(stream, &log, &left, reply.as_ref());
                });
            }
        });
        Self { address, asked, hung_up }
    }

    /// Everything it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no thread panics with it").clone()
    }

    /// How often the other side hung up on an answer that was stuck.
    pub fn hung_up(&self) -> u64 {
        *self.hung_up.lock().expect("no thread panics with it")
    }

    /// A `metergate.toml` with this mock as the upstream of the models `gpt*` and `text-embedding*`, and these lines.
    pub fn settings(&self, more: &str) -> String {
        format!(
            "[[upstream]]\nname = \"mock\"\nbase_url = \"http://{}/v1\"\nprovider = \"openai\"\n\
             models = [\"gpt-4o-mini\", \"gpt*\", \"text-embedding*\"]\n{more}\n",
            self.address
        )
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    left: &Mutex<u64>,
    reply: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length =
            headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let asked = Asked { path, headers, body };
        log.lock().expect("no thread panics with it").push(asked.clone());
        let answer = reply(&asked);
        match answer {
            Reply::Whole(status, headers, body) => {
                write!(out, "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len())?;
                out.write_all(&body)?;
            }
            Reply::Pieces(pieces) => {
                write_pieces(&mut out, &pieces)?;
                out.write_all(b"0\r\n\r\n")?;
            }
            Reply::Broken(pieces) => return write_pieces(&mut out, &pieces),
            Reply::Stuck(pieces) => {
                write_pieces(&mut out, &pieces)?;
                return wait_for_hang_up(&mut reader, left);
            }
            Reply::HungUp => return Ok(()),
            Reply::Silent => return wait_for_hang_up(&mut reader, left),
        }
    }
}

fn wait_for_hang_up(reader: &mut impl Read, left: &Mutex<u64>) -> std::io::Result<()> {
    let ended = reader.read(&mut [0; 16]);
    *left.lock().expect("no thread panics with it") += 1;
    ended.map(drop)
}

fn write_pieces(out: &mut TcpStream, pieces: &[Vec<u8>]) -> std::io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        write!(out, "{:x}\r\n", piece.len())?;
        out.write_all(piece)?;
        out.write_all(b"\r\n")?;
        // A breath, so that pieces arrive as they are cut.
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// A chat completion with this text and usage.
pub fn completion(text: &str, input: u64, output: u64) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": input.min(4)}, "completion_tokens_details": {"reasoning_tokens": output.min(2)}},
    })
}

/// A stream of a chat completion, one event for each word; with usage at its end when it is asked for.
pub fn completion_stream(words: &[&str], usage: Option<(u64, u64)>) -> String {
    let head =
        "\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o-mini-2024-07-18\"";
    let null = if usage.is_some() { ",\"usage\":null" } else { "" };
    let mut stream = String::new();
    for word in words {
        stream.push_str(&format!(
            "data: {{{head},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]{null}}}\n\n"
        ));
    }
    stream.push_str(&format!(
        "data: {{{head},\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]{null}}}\n\n"
    ));
    if let Some((input, output)) = usage {
        stream.push_str(&format!(
            "data: {{{head},\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}}}}\n\n",
            input + output
        ));
    }
    stream.push_str("data: [DONE]\n\n");
    stream
}

/// The same bytes, cut at random places that a seed decides.
pub fn cut(bytes: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let (mut pieces, mut state, mut rest) = (Vec::new(), seed | 1, bytes);
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = ((state >> 33) as usize % 97 + 1).min(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}
