//! wrk over loopback, in a closed loop, against a server that runs beside it on the same cores.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bench::{Bench, far_plan};
use crate::program::Running;

/// Opens every door of the measured server.
pub const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What is sent again and again.
pub struct Load {
    /// Where to.
    pub path: &'static str,
    /// Of the bodies.
    pub content_type: &'static str,
    /// The bodies, in turn.
    pub bodies: Vec<String>,
    /// How many connections at once.
    pub connections: u32,
}

/// Whether wrk is there; says so where it is not.
pub fn is_there(bench: &Bench) -> bool {
    let there = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        bench.table.say("ABSENT: wrk (Debian: wrk): no rows over HTTP");
    }
    there
}

/// Sends for so many seconds. Panics when anything failed or was refused.
pub fn send(load: &Load, folder: &Path, address: &str, seconds: f64) -> Value {
    let file = folder.join("requests");
    let lines = [load.path, load.content_type, KEY].into_iter().map(str::to_owned);
    let lines = lines.chain(load.bodies.iter().map(|body| body.replace('\n', "\u{1}")));
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/side_by_side/wrk.lua");
    let output = Command::new("wrk")
        .args(["-t2", "--latency", "--timeout", "30s"])
        .arg(format!("-c{}", load.connections))
        .arg(format!("-d{}s", seconds.ceil()))
        .arg("-s")
        .arg(script)
        .arg(address)
        .arg("--")
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().rev().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("wrk: {text}"));
    let mut answer: Value = serde_json::from_str(told).unwrap();
    assert_eq!((&answer["failed"], &answer["refused"]), (&json!(0), &json!(0)), "{}: {text}", load.path);
    let rate = answer["requests"].as_f64().unwrap() / answer["seconds"].as_f64().unwrap();
    answer["rate"] = rate.into();
    answer
}

/// A metergate over a folder, whose tenants' plan has limits of every type, too far away to deny.
pub fn metergate(folder: &Path) -> (Running, String) {
    let (plan, plans) = far_plan(folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_metergate"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"])
        .env("METERGATE_ADMIN_KEY", KEY)
        .args(["--default-plan", &plan])
        .arg("--plans-file")
        .arg(&plans)
        .arg("--data-dir")
        .arg(folder.join("data"));
    let (running, line) = Running::start(&mut command);
    let address = line.rsplit(' ').next().unwrap_or_default().to_owned();
    (running, address)
}

/// The empty handler on the same stack.
pub fn empty_handler(bench: &Bench) -> Option<(Running, String)> {
    let (running, line) = bench.peer("http")?.start();
    Some((running, line.rsplit(' ').next().unwrap_or_default().to_owned()))
}

/// What the server answers to a GET.
pub fn get(address: &str, path: &str) -> Value {
    let mut answer =
        ureq::get(format!("{address}{path}")).header("authorization", format!("Bearer {KEY}")).call().unwrap();
    answer.body_mut().read_json().unwrap()
}

/// Sends JSON. Panics when it is refused.
pub fn post(address: &str, path: &str, body: &Value) {
    let request = ureq::post(format!("{address}{path}")).header("authorization", format!("Bearer {KEY}"));
    request.send_json(body).unwrap();
}
