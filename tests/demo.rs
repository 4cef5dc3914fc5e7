//! `metergate demo`, as somebody who tries metergate runs it: usage, alerts and denials within moments, and a clean end.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use support::command::metergate;
use support::wait_for;

/// Killed when the test ends early.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended by itself when all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demonstration_has_usage_alerts_and_denials_and_ends_cleanly() {
    let mut command = metergate();
    command.args(["demo", "--listen", "127.0.0.1:0", "--seed", "7", "--rate", "50"]);
    let mut demo = Demo(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.next().unwrap().strip_prefix("metergate is listening on ").unwrap().to_owned();
    let development = lines.next().unwrap();
    let folder = development.split_whitespace().find(|word| word.contains("metergate-dev-")).unwrap();
    let folder = folder.trim_end_matches(',').to_owned();
    let key = lines.next().unwrap().strip_prefix("admin key: ").unwrap().to_owned();
    let tries: Vec<String> = lines.by_ref().skip(1).take(3).collect();

    let ask = |arguments: &[&str]| -> Value {
        let output = metergate().args(arguments).args(["--server", &url, "--key", &key, "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
    };
    let tenants = wait_for("three tenants with usage on several days", 60, || {
        let answer = ask(&["top", "--limit", "10"]);
        let used = |one: &&Value| one["total_tokens_used"].as_u64().is_some_and(|tokens| tokens > 0);
        let tenants = answer["topConsumers"].as_array().unwrap().iter().filter(used).count();
        (tenants >= 3).then_some(tenants)
    });
    assert!(tenants >= 3);
    wait_for("a threshold is crossed", 60, || ask(&["alerts"])["alerts"].as_array().unwrap().first().cloned());
    wait_for("somebody is denied", 60, || {
        let usage = ask(&["usage", "corner-bakery"]);
        let denied = |row: &Value| row["quota_exceeded_count"].as_u64().is_some_and(|count| count > 0);
        usage["usage"].as_array().unwrap().iter().any(denied).then_some(())
    });
    let days = ask(&["usage", "northwind-bank", "--by-model"])["usage"].as_array().unwrap().clone();
    assert!(days.len() >= 7, "{days:?}");
    assert!(days.iter().all(|day| day["estimated_cost_usd"].as_f64().is_some_and(|cost| cost > 0.0)), "{days:?}");
    // Whoever suspends a tenant does not end the traffic of the others.
    let suspended = metergate()
        .args(["tenants", "set", "northwind-bank", "--status", "suspended", "--server", &url, "--key", &key])
        .output()
        .unwrap();
    assert!(suspended.status.success(), "{suspended:?}");
    let calls = || {
        let answer = ask(&["usage"]);
        answer["summary"]["total_api_calls"].as_u64().unwrap()
    };
    let before = calls();
    wait_for("calls go on", 60, || (calls() > before + 20).then_some(()));
    // What it says to try can be typed.
    for line in &tries {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        assert!(metergate().args(&words).output().unwrap().status.success(), "{line}");
    }

    let sent = Command::new("kill").args(["-TERM", &demo.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let status = wait_for("the demonstration ends", 30, || demo.0.try_wait().unwrap());
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut demo.0.stderr.take().unwrap(), &mut errors).unwrap();
    assert!(status.success() && errors.is_empty(), "{status}: {errors}");
    assert!(!std::path::Path::new(&folder).exists(), "{folder} is left behind");
}
