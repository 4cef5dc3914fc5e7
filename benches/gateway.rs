//! What the door adds to a call (bar S13): the same calls straight to a mock upstream and through a release build of the
//! server, whole and streamed, at about 1,000 a second on loopback. Prints p50 and p99 of both and of the difference.
//!
//! ```sh
//! cargo bench --bench gateway
//! ```
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures stops at the first thing that is wrong")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const CALLS_PER_SECOND: u32 = 1_000;
const SECONDS: u32 = 10;
const CLIENTS: u32 = 16;
const PIECES: usize = 20;

fn main() {
    let upstream = mock();
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("metergate.toml");
    let text = format!(
        "[[upstream]]\nname = \"mock\"\nbase_url = \"http://{upstream}/v1\"\nprovider = \"openai\"\nmodels = [\"m\"]\n"
    );
    std::fs::write(&settings, text).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_metergate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--default-plan", "enterprise", "--log-level", "warn", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg("--config")
        .arg(&settings)
        .env("METERGATE_ADMIN_KEY", KEY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let door: SocketAddr = line.trim().rsplit_once('/').unwrap().1.parse().unwrap();

    println!("{CALLS_PER_SECOND} calls/s, {CLIENTS} clients, {SECONDS} s each; milliseconds");
    println!("{:<28} {:>8} {:>8} {:>8}", "", "p50", "p99", "max");
    for stream in [false, true] {
        let kind = if stream { "streamed" } else { "whole" };
        measure(door, stream, 1);
        let (straight_first, straight) = measure(upstream, stream, SECONDS);
        let (through_first, through) = measure(door, stream, SECONDS);
        for (what, straight, through) in
            [("first byte", straight_first, through_first), ("last byte", straight, through)]
        {
            let (straight, through) = (percentiles(straight), percentiles(through));
            for (name, [p50, p99, max]) in [("straight", straight), ("through the door", through)] {
                println!("{:<28} {p50:>8.3} {p99:>8.3} {max:>8.3}", format!("{kind}, {what}: {name}"));
            }
            println!(
                "{:<28} {:>8.3} {:>8.3}",
                format!("{kind}, {what}: added"),
                through[0] - straight[0],
                through[1] - straight[1]
            );
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Times to the first and to the last byte of calls made at a fixed pace, late ones counted from when they were due.
fn measure(address: SocketAddr, stream: bool, seconds: u32) -> (Vec<Duration>, Vec<Duration>) {
    let begin = Instant::now() + Duration::from_millis(50);
    let gap = Duration::from_secs(1) * CLIENTS / CALLS_PER_SECOND;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                let (mut first, mut last) = (Vec::new(), Vec::new());
                for round in 0..CALLS_PER_SECOND * seconds / CLIENTS {
                    let due = begin + gap * round + gap * client / CLIENTS;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    // A sleep wakes up late: what is measured begins when the call is sent.
                    let sent = Instant::now();
                    let to_first = connection.call(stream, sent);
                    first.push(to_first);
                    last.push(sent.elapsed());
                }
                (first, last)
            })
        })
        .collect();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for client in clients {
        let (some_first, some_last) = client.join().unwrap();
        first.extend(some_first);
        last.extend(some_last);
    }
    (first, last)
}

fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    [at(0.5), at(0.99), at(1.0)]
}

struct Connection {
    out: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let out = TcpStream::connect(address).unwrap();
        out.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(out.try_clone().unwrap()), out }
    }

    /// Makes a call and reads its answer to the end; gives the time to the first byte of its body.
    fn call(&mut self, stream: bool, sent: Instant) -> Duration {
        let stream = if stream { ",\"stream\":true" } else { "" };
        let body = format!(
            "{{\"model\":\"m\",\"max_tokens\":50,\"messages\":[{{\"role\":\"user\",\"content\":\"Say this\"}}]{stream}}}"
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nx-metergate-tenant: bench\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.out.write_all(request.as_bytes()).unwrap();
        let mut length = None;
        let status = self.line();
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let mut to_first = Duration::ZERO;
        let mut read = |reader: &mut BufReader<TcpStream>, length: usize| {
            let mut piece = vec![0; length];
            reader.read_exact(&mut piece).unwrap();
            if to_first.is_zero() {
                to_first = sent.elapsed();
            }
        };
        match length {
            Some(length) => read(&mut self.reader, length),
            None => loop {
                let mut line = String::new();
                self.reader.read_line(&mut line).unwrap();
                let length = usize::from_str_radix(line.trim(), 16).unwrap();
                read(&mut self.reader, length + 2);
                if length == 0 {
                    break;
                }
            },
        }
        to_first
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// An upstream that answers at once.
fn mock() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    address
}

fn answer(mut out: TcpStream) -> std::io::Result<()> {
    const USAGE: &str = "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":20,\"total_tokens\":29}";
    out.set_nodelay(true)?;
    let mut reader = BufReader::new(out.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if !body.windows(13).any(|window| window == b"\"stream\":true") {
            let body = format!(
                "{{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"hi\"}}}}],{USAGE}}}"
            );
            write!(
                out,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )?;
            continue;
        }
        let mut pieces = vec![
                "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n"
                    .to_owned();
                PIECES
            ];
        pieces.push(format!("data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[],{USAGE}}}\n\n"));
        pieces.push("data: [DONE]\n\n".to_owned());
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        for piece in pieces {
            // One write each, as a model would.
            out.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())?;
        }
        out.write_all(b"0\r\n\r\n")?;
    }
}
