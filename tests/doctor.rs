//! `metergate doctor` on a stopped folder, a broken one, and a running server.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use serde_json::{Value, json};

use support::{Server, cli};

/// The findings with the exit code.
fn doctor(arguments: &[&str]) -> (i32, Vec<Value>) {
    let (code, out, error) = cli(&[&["doctor", "--json"], arguments].concat());
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("no JSON: {out} {error}"));
    (code, report["findings"].as_array().unwrap().clone())
}

#[track_caller]
fn is(findings: &[Value], what: &str, verdict: &str) {
    let found = findings.iter().any(|finding| finding["what"] == what && finding["verdict"] == verdict);
    assert!(found, "{what} is {verdict}: {findings:#?}");
}

#[test]
fn a_stopped_folder_is_looked_at_and_left_as_it_was() {
    let mut server = Server::start();
    server.record(&json!({"tenant_id": "t", "event_type": "api_call", "cost_usd": 0.5}));
    server.stop();
    let folder = server.data_dir().display().to_string();
    let (code, findings) = doctor(&["--data-dir", &folder]);
    assert_eq!(code, 0, "{findings:#?}");
    for what in ["settings", "folder", "admin key", "cron secret", "version", "clock", "jobs", "alarms", "reserve"] {
        is(&findings, what, "ok");
    }
    for what in ["deny", "settle", "audit", "unpriced events"] {
        is(&findings, what, "ok");
    }
    assert!(findings.iter().any(|finding| finding["what"] == "sync time"));
    let (code, shown, _) = cli(&["doctor", "--data-dir", &folder]);
    assert!(code == 0 && shown.contains("WHAT TO DO") && shown.lines().any(|line| line.starts_with("ok ")), "{shown}");
    server.start_again();
    assert_eq!(server.get("/api/admin/tenants").expect(200)["total"], json!(1), "the trial was elsewhere");
}

#[cfg(unix)]
#[test]
fn what_is_wrong_fails_with_what_to_do() {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    let mut server = Server::start();
    server.stop();
    let folder = server.data_dir();
    let shown = folder.display().to_string();
    let key = folder.join("admin.key");
    write(&key, "short\n").unwrap();
    set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let (code, findings) = doctor(&["--data-dir", &shown]);
    assert_eq!(code, 0);
    is(&findings, "admin key", "warn");

    set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let (code, findings) = doctor(&["--data-dir", &shown]);
    assert_eq!(code, 1);
    is(&findings, "admin key", "fail");
    is(&findings, "folder", "warn");

    write(folder.join("metergate.redb"), b"this is no store").unwrap();
    let (code, findings) = doctor(&["--data-dir", &shown]);
    assert_eq!(code, 1);
    is(&findings, "store", "fail");

    write(folder.join("metergate.toml"), "lisen = 1\n").unwrap();
    let (code, findings) = doctor(&["--data-dir", &shown]);
    assert_eq!(code, 1);
    is(&findings, "settings", "fail");
    let all_told = findings.iter().filter(|finding| finding["verdict"] != "ok").all(|finding| finding["remedy"] != "");
    assert!(all_told, "{findings:#?}");
}

#[test]
fn a_running_server_is_asked_and_only_written_to_when_told() {
    let server = Server::start();
    server.record(&json!({"tenant_id": "t", "event_type": "api_call"}));
    let folder = server.data_dir().display().to_string();
    let (code, findings) = doctor(&["--data-dir", &folder]);
    assert_eq!(code, 0);
    is(&findings, "store", "warn");

    let (code, findings) = doctor(&["--server", &server.url]);
    assert_eq!(code, 0, "{findings:#?}");
    is(&findings, "ready", "ok");
    is(&findings, "check", "ok");
    is(&findings, "unpriced events", "warn");
    assert_eq!(server.get("/api/admin/tenants").expect(200)["total"], json!(1));

    for _ in 0..2 {
        let (code, findings) = doctor(&["--server", &server.url, "--on-the-store"]);
        assert_eq!(code, 0, "{findings:#?}");
        is(&findings, "settle", "ok");
    }
    let (code, findings) = doctor(&["--server", "http://127.0.0.1:9"]);
    assert_eq!(code, 1);
    is(&findings, "status", "fail");
}
