//! The life of a key: made once, listed without its secret, rotated under load, revoked, kept over a crash.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::support::command::cli;
use super::support::{ADMIN_KEY, Server, cli_ok, metergate, wait_for};
use super::{ask, audited, make_key, rotate};

const QUOTA: &str = "/api/quota/acme";

fn status(server: &Server, secret: &str) -> u16 {
    ask(server, Some(secret), "GET", QUOTA, None).status
}

fn keys(server: &Server) -> Vec<Value> {
    server.get("/api/admin/keys").expect(200)["keys"].as_array().unwrap().clone()
}

#[test]
fn a_client_that_never_pauses_is_not_refused_during_a_rotation_with_an_overlap() {
    let server = Server::start();
    server.put_tenant("acme", &json!({}));
    let old = make_key(&server, "gateway", "viewer", &["acme"]);
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let new = thread::scope(|scope| {
        let client = || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(status(&server, &old.secret), 200);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        let past = |count: u64| wait_for("calls", 60, || (calls.load(Ordering::Relaxed) >= count).then_some(()));
        past(20);
        let new = rotate(&server, &old, 3_600);
        let at = calls.load(Ordering::Relaxed);
        assert_eq!(status(&server, &new.secret), 200, "the new one works at once");
        past(at + 20);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        new
    });
    let again = server.post(&format!("/api/admin/keys/{}/rotate", old.id), &json!({}));
    assert_eq!(again.expect_error(409, &new.id)["code"], json!("key_replaced"));

    let newest = rotate(&server, &new, 1);
    wait_for("the end of the overlap", 30, || (status(&server, &new.secret) == 401).then_some(()));
    assert_eq!(status(&server, &newest.secret), 200);
    server.delete(&format!("/api/admin/keys/{}", newest.id)).expect(200);
    assert_eq!(status(&server, &newest.secret), 401, "revoked is at once");
    let ended = server.post(&format!("/api/admin/keys/{}/rotate", newest.id), &json!({}));
    assert_eq!(ended.expect_error(409, "revoked")["code"], json!("key_ended"));
    let types: Vec<_> =
        audited(&server, "entity_type=api_key").into_iter().map(|one| one["event_type"].clone()).collect();
    assert_eq!(types, ["key_revoked", "key_rotated", "key_rotated", "key_created"]);
}

#[test]
fn keys_survive_a_power_cut_as_they_were() {
    let mut server = Server::start();
    server.put_tenant("acme", &json!({}));
    let works = make_key(&server, "works", "viewer", &["acme"]);
    let revoked = make_key(&server, "revoked", "viewer", &[]);
    server.delete(&format!("/api/admin/keys/{}", revoked.id)).expect(200);
    let rotated = make_key(&server, "rotated", "service", &[]);
    let new = rotate(&server, &rotated, 3_600);
    // When a key was last used is known to the minute.
    let shown = |server: &Server| {
        let mut keys = keys(server);
        keys.iter_mut().for_each(|key| key["last_used_at"] = Value::Null);
        keys
    };
    let before = shown(&server);
    assert_eq!(before.len(), 5);
    server.kill_9();
    server.start_again();
    assert_eq!(shown(&server), before);
    let works_now = [&works, &revoked, &rotated, &new].map(|key| status(&server, &key.secret));
    assert_eq!(works_now, [200, 401, 200, 200]);
    // A graceful stop writes it down whole.
    server.restart();
    let used = keys(&server).into_iter().filter(|key| key["last_used_at"].is_string()).count();
    assert_eq!(used, 4, "three of the store's and the built-in one");
}

#[test]
fn keys_are_listed_by_cursor_with_the_built_in_one_first() {
    let server = Server::start();
    let made: Vec<String> =
        (0..5).map(|number| make_key(&server, &format!("key {number}"), "viewer", &[]).id).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/api/admin/keys?limit=2{cursor}")).expect(200);
        seen.extend(page["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen[0], "admin-key");
    assert_eq!(seen[1..], made);
    for (method, path) in [("DELETE", "/api/admin/keys/admin-key"), ("POST", "/api/admin/keys/admin-key/rotate")] {
        let body = (method == "POST").then(|| json!({}));
        assert_eq!(
            server.call(method, path, body.as_ref()).expect_error(409, "reset-admin")["code"],
            json!("built_in_key")
        );
    }
    server.delete("/api/admin/keys/019ab3f0-5c1e-7d2a-9f00-4b6f0c1d2e3f").expect_error(404, "no such key");
    for (body, field) in [
        (json!({"role": "viewer"}), "name"),
        (json!({"name": "x", "role": "root"}), "role"),
        (json!({"name": "x", "role": "admin", "tenants": ["acme"]}), "tenants"),
        (json!({"name": "x", "role": "viewer", "tenants": []}), "tenants"),
        (json!({"name": "x", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
    ] {
        assert_eq!(server.post("/api/admin/keys", &body).expect_error(400, field)["details"]["field"], json!(field));
    }
}

#[test]
fn no_secret_is_written_anywhere() {
    let mut server = Server::stopped();
    std::fs::create_dir(server.data_dir()).unwrap();
    std::fs::write(server.data_dir().join("metergate.toml"), "[log]\nlevel = \"trace\"\n").unwrap();
    server.start_again();
    server.put_tenant("acme", &json!({}));
    let first = make_key(&server, "first", "service", &["acme"]);
    let second = rotate(&server, &first, 60);
    for secret in [&first.secret, &second.secret] {
        assert_eq!(status(&server, secret), 200);
        ask(&server, Some(secret), "GET", "/api/usage/other", None).expect_error(404, "other");
        ask(&server, Some(secret), "GET", "/api/admin/keys", None).expect_error(403, "Forbidden");
        ask(&server, Some(&secret[..40]), "GET", QUOTA, None).expect_error(401, "Unauthorized");
    }
    let said = [
        serde_json::to_string(&audited(&server, "")).unwrap(),
        serde_json::to_string(&keys(&server)).unwrap(),
        server.get("/metrics").text,
    ];
    server.stop();
    let log = server.log_text();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log was not loud enough to find anything in it");
    let store = std::fs::read(server.data_dir().join("metergate.redb")).unwrap();
    for secret in [first.secret.as_str(), &second.secret, ADMIN_KEY] {
        let part = &secret[..40];
        assert!(said.iter().all(|text| !text.contains(part)) && !log.contains(part));
        assert!(!store.windows(part.len()).any(|window| window == part.as_bytes()), "the store holds digests only");
    }
}

#[test]
fn the_admin_key_is_made_anew_on_a_stopped_folder_only() {
    let mut server = Server::start();
    let folder = server.data_dir();
    let reset = |admin_key: Option<&str>| {
        let mut command = metergate();
        command.args(["keys", "reset-admin", "--data-dir"]).arg(&folder);
        command.envs(admin_key.map(|key| ("METERGATE_ADMIN_KEY", key)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, _, told) = reset(None);
    assert!(code == Some(5) && told.contains("stop it first"), "{told}");
    let key = make_key(&server, "stays", "viewer", &[]);
    server.put_tenant("acme", &json!({}));
    server.stop();
    let (code, _, told) = reset(Some(ADMIN_KEY));
    assert!(code == Some(2) && told.contains("METERGATE_ADMIN_KEY"), "{told}");

    let read = || std::fs::read_to_string(folder.join("admin.key")).unwrap().trim().to_owned();
    let (code, shown, told) = reset(None);
    assert_eq!(code, Some(0), "{told}");
    let first = read();
    assert!(shown.contains("admin.key") && !shown.contains(&first), "{shown}");
    assert_eq!(reset(None).0, Some(0));
    let second = read();
    assert_ne!(first, second);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.join("admin.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    server.use_the_folders_admin_key();
    server.start_again();
    let statuses =
        [second.as_str(), &first, ADMIN_KEY].map(|key| ask(&server, Some(key), "GET", "/api/admin/keys", None).status);
    assert_eq!(statuses, [200, 401, 401]);
    assert_eq!(status(&server, &key.secret), 200, "other keys are untouched");
    let path = "/api/audit/events?entity_type=api_key&entity_id=admin-key";
    let told = ask(&server, Some(&second), "GET", path, None).expect(200);
    assert_eq!(told["events"].as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told["events"][0]["actor_id"], json!("keys reset-admin"));
}

#[test]
fn keys_are_made_listed_rotated_and_revoked_by_command() {
    let mut server = Server::start();
    server.put_tenant("acme", &json!({}));
    let url = server.url.clone();
    let run = |args: &[&str]| cli_ok(&[args, &["--server", &url]].concat());
    let secret = run(&["keys", "create", "ci", "--role", "viewer", "--tenant", "acme", "--expires", "2199-01-01"]);
    assert_eq!(status(&server, secret.trim()), 200, "standard output is the secret alone");
    let listed: Value = serde_json::from_str(&run(&["keys", "list", "--json"])).unwrap();
    let key = &listed["keys"][1];
    assert_eq!((&key["name"], &key["tenants"], &key["status"]), (&json!("ci"), &json!(["acme"]), &json!("active")));
    let id = key["key_id"].as_str().unwrap();
    let table = run(&["keys", "list"]);
    assert!(table.contains(id) && table.contains("admin-key") && !table.contains(secret.trim()), "{table}");
    let new = run(&["keys", "rotate", id, "--overlap-hours", "0"]);
    assert_eq!((status(&server, secret.trim()), status(&server, new.trim())), (401, 200));
    let listed: Value = serde_json::from_str(&run(&["keys", "list", "--json"])).unwrap();
    let new_id = listed["keys"][1]["replaced_by"].as_str().unwrap();
    assert!(run(&["keys", "revoke", new_id]).contains("revoked at"));
    assert_eq!(status(&server, new.trim()), 401);
    let (code, _, told) = cli(&["keys", "revoke", "admin-key", "--server", &url]);
    assert!(code == 1 && told.contains("reset-admin"), "{told}");

    // The same on a stopped folder.
    server.stop();
    let folder = server.data_dir();
    let folder = folder.to_str().unwrap();
    let local = cli_ok(&["keys", "create", "local", "--role", "service", "--data-dir", folder]);
    server.start_again();
    assert_eq!(status(&server, local.trim()), 200);
}
