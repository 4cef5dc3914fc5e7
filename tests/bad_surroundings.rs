//! Bad surroundings: floods, stalled clients, and folders that cannot be used. The server lives, or says what to do.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use support::server::serve_command;
use support::{ADMIN_KEY, Server, cli, wait_for};

const MIB: usize = 1024 * 1024;

#[test]
fn a_body_of_a_hundred_megabytes_is_refused_unkept_and_the_server_lives() {
    let server = Server::start();
    server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
    let before_kib = server.peak_memory_kib();
    for framing in ["content-length: 104857600", "transfer-encoding: chunked"] {
        let chunked = framing.starts_with("transfer");
        let mut stream = connect(&server);
        let head = format!(
            "POST /api/usage/events HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
             content-type: application/json\r\n{framing}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut piece = vec![b' '; MIB];
        if chunked {
            piece.splice(0..0, *b"100000\r\n");
            piece.extend(b"\r\n");
        }
        let sent = (0..100).take_while(|_| stream.write_all(&piece).is_ok()).count();
        if chunked {
            let _ = stream.write_all(b"0\r\n\r\n");
        }
        // Cut off in the middle, the answer may be lost with the connection; read to its end, there must be one.
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 413 ") || (sent < 100 && answer.is_empty()), "{framing}: {answer:?}");
        server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
    }
    if let (Some(before), Some(after)) = (before_kib, server.peak_memory_kib()) {
        assert!(after - before < 64 * 1024, "it took {} KiB to refuse a body", after - before);
    }
    // A body just above the limit of 8 MiB is answered.
    let body = format!("[{}]", " ".repeat(8 * MIB));
    let answer = server.post_as("application/json", "/api/usage/events", &[], body.as_bytes());
    assert_eq!(answer.expect(413)["code"], json!("body_too_large"));
}

#[test]
fn a_line_of_a_stream_that_never_ends_is_not_kept() {
    let server = Server::start();
    server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
    let before_kib = server.peak_memory_kib();
    let mut stream = connect(&server);
    let head = format!(
        "POST /api/usage/events HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: 104857600\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let line = vec![b'x'; MIB];
    let sent = (0..100).take_while(|_| stream.write_all(&line).is_ok()).count();
    let answer = read_answer(&mut stream);
    // Either it stops reading, or it skips the line and answers.
    assert!(sent < 100 || answer.starts_with("HTTP/1.1 "), "{answer}");
    if let (Some(before), Some(after)) = (before_kib, server.peak_memory_kib()) {
        assert!(after - before < 64 * 1024, "it took {} KiB to skip a line", after - before);
    }
    server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
}

#[test]
fn a_header_of_many_megabytes_is_refused() {
    let server = Server::start();
    let mut stream = connect(&server);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\nx-much: ").unwrap();
    let much = vec![b'x'; MIB];
    let sent = (0..16).take_while(|_| stream.write_all(&much).is_ok()).count();
    assert!(sent < 16, "all of it was read");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn clients_that_dribble_a_header_or_stall_in_a_body_are_closed_in_fifteen_seconds() {
    let server = Server::start();
    let head = "POST /api/usage/events HTTP/1.1\r\nhost: t\r\n";
    let stalled = format!(
        "{head}authorization: Bearer {ADMIN_KEY}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    std::thread::scope(|scope| {
        for (what, opening, dribbles) in
            [("silent header", head, false), ("slow header", head, true), ("body", stalled.as_str(), false)]
        {
            let server = &server;
            scope.spawn(move || {
                let took = closed_after(connect(server), opening, dribbles);
                assert!(took <= Duration::from_secs(16), "{what}: open for {took:?}");
            });
        }
        for _ in 0..20 {
            assert_eq!(server.get("/healthz").status, 200, "healthy callers are served meanwhile");
        }
    });
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_and_told_what_to_do() {
    let server = Server::start();
    let (code, told) = fails_to_serve(&server.data_dir());
    assert_ne!(code, 0);
    assert!(told.contains("in use") && told.contains("stop"), "{told}");
    assert_eq!(server.get("/healthz").status, 200, "the first goes on");

    let folder = server.data_dir();
    let (code, _, told) = cli(&["usage", "t", "--json", "--data-dir", folder.to_str().unwrap()]);
    // It opens the folder, or finds that a server has it and says how to talk to that.
    assert!(code != 0 && told.contains("--server"), "{code}: {told}");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let server = Server::stopped();
    let file = server.beside("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    for folder in [file.join("below"), file.clone()] {
        let (code, told) = fails_to_serve(&folder);
        assert_ne!(code, 0);
        assert!(told.contains(folder.to_str().unwrap()), "it names {folder:?}: {told}");
        assert!(!told.contains("panicked"), "{told}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a folder");
}

#[test]
fn a_file_that_is_no_store_is_not_touched() {
    let mut server = Server::start();
    server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
    server.stop();
    let store = std::fs::read_dir(server.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    let store = store.max_by_key(|path| path.metadata().map_or(0, |about| about.len())).expect("a store");
    let nonsense = "this is no store\n".repeat(1_000);
    std::fs::write(&store, &nonsense).unwrap();
    let (code, told) = fails_to_serve(&server.data_dir());
    assert_ne!(code, 0);
    assert!(!told.is_empty() && !told.contains("panicked"), "{told}");
    assert_eq!(std::fs::read_to_string(&store).unwrap(), nonsense, "it may be somebody's");
}

/// Runs `serve` where it must end by itself: (exit code, standard error).
fn fails_to_serve(folder: &std::path::Path) -> (i32, String) {
    let mut command = serve_command(folder);
    let command = command.env("METERGATE_ADMIN_KEY", ADMIN_KEY).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it serves {folder:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    (status.code().unwrap_or(-1), told)
}

/// What the server says before the head of its answer ends, or it closes.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends the opening, then at most a byte every half second, until the server closes.
fn closed_after(mut stream: TcpStream, opening: &str, dribbles: bool) -> Duration {
    let opened = Instant::now();
    stream.write_all(opening.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answer = [0; 1024];
    wait_for("the server closes", 25, || {
        match stream.read(&mut answer) {
            Ok(0) => return Some(()),
            // An answer such as 408 comes before the end.
            Ok(_) => return None,
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => return Some(()),
        }
        (dribbles && stream.write_all(b"x").is_err()).then_some(())
    });
    opened.elapsed()
}
