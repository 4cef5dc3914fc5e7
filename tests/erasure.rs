//! Backups and erasure on a real server: what is erased is nowhere in the file, and nothing else is missed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::path::Path;

use serde_json::{Value, json};

use support::{ADMIN_KEY, Server, cli, cli_ok, count};

/// What must not be found again.
const MARK: &str = "Zaphod-Beeblebrox-4711";

fn whole(server: &Server) -> Value {
    let found = server.post("/api/audit/verify", &json!({})).expect(200);
    assert_eq!(found["whole"], true, "{found}");
    let differences = server.post("/api/admin/verify", &json!({})).expect(200);
    assert_eq!(differences["differences_total"], 0, "{differences}");
    found
}

fn has_mark(folder: &Path) -> bool {
    let in_file = |file: &Path| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
    };
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        path.is_file() && in_file(&path)
    })
}

/// A chat by the marked visitor and one by somebody else, with their audit records.
fn chat(server: &Server) {
    let message = |session: &str, place: usize| {
        json!({"tenant_id": "acme", "event_type": "chat_message", "event_id": format!("message-{place}-{session}"),
            "chat_session_id": session, "tokens_consumed": 10, "metadata": {"user": session, "is_response": place % 2 == 1}})
    };
    let marked: Vec<Value> = (0..10).map(|place| message(MARK, place)).collect();
    let others: Vec<Value> = (0..10).map(|place| message("somebody-else", place)).collect();
    server.record(&Value::Array([marked, others].concat()));
    let audit = |actor: &str| {
        json!({"tenant_id": "acme", "event_type": "chat_message_received", "entity_type": "chat_session",
            "entity_id": actor, "action": "access", "actor_type": "visitor", "actor_id": actor,
            "new_values": {"note": format!("said by {actor}")}})
    };
    let entries: Vec<Value> = (0..20).map(|place| audit(if place % 2 == 0 { MARK } else { "somebody-else" })).collect();
    server.post("/api/audit/events", &Value::Array(entries)).expect(200);
}

fn usage(server: &Server) -> Value {
    let rows = server.get("/api/usage/acme?period=daily").expect(200);
    let row = &rows["usage"][0];
    json!(
        ["total_tokens_used", "chat_messages_sent", "chat_messages_received", "chat_sessions_created"]
            .map(|name| row[name].clone())
    )
}

/// The first index that an erasure names.
fn erased_index(server: &Server) -> u64 {
    let said = server.get("/api/audit/events?event_type=data_erased").expect(200);
    said["events"][0]["new_values"]["records"][0][0].as_u64().unwrap()
}

fn count_erased(server: &Server) -> u64 {
    whole(server)["erased"].as_u64().unwrap()
}

#[test]
fn what_is_erased_is_not_in_the_file_and_is_not_missed() {
    let mut server = Server::start();
    chat(&server);
    let before = usage(&server);
    let note = server.get("/api/audit/checkpoint");
    let key = note.headers["x-metergate-verifier-key"].clone();
    let backup = server.post("/api/admin/backups", &json!({})).expect(200);

    let body = json!({"subject": "actor", "id": MARK, "tenant_id": "acme", "dry_run": true});
    let counted = server.post("/api/admin/erase", &body).expect(200);
    assert_eq!((count(&counted, "audit_records"), count(&counted, "events")), (10, 10), "{counted}");
    assert!(
        whole(&server)["erased"] == 0 && server.get(&format!("/api/audit/events?actor_id={MARK}")).text.contains(MARK)
    );

    assert!(has_mark(&server.data_dir()), "it is in the file before");
    let from = ["--server", &server.url, "--key", ADMIN_KEY, "--json"];
    let erased = cli_ok(&[&["erase", "--actor", MARK, "--of", "acme", "--yes"][..], &from].concat());
    let erased: Value = serde_json::from_str(&erased).unwrap();
    assert_eq!((count(&erased, "audit_records"), count(&erased, "events")), (10, 10), "{erased}");
    assert_eq!((&erased["file_rewritten"], &erased["old_files_still_read"]), (&json!(true), &json!(0)), "{erased}");
    assert_eq!(erased["backups"][0]["name"], backup["name"], "the backup of before still has it");
    assert!(!has_mark(&server.data_dir()), "its bytes are in the file");
    assert!(has_mark(&server.data_dir().join("backups")), "the test can find it");

    // Totals stand, sessions are as many, and the log is whole beside the checkpoint of before.
    assert_eq!(usage(&server), before);
    assert_eq!(count_erased(&server), 10);
    let kept = server.post("/api/audit/verify", &json!({"checkpoint": note.text, "verifier_key": key})).expect(200);
    assert_eq!((&kept["whole"], &kept["checkpoint"]["agrees"]), (&json!(true), &json!(true)), "{kept}");
    let listed = server.get(&format!("/api/audit/events?actor_id={MARK}")).expect(200);
    assert_eq!(listed["events"], json!([]));
    let first = erased_index(&server);
    let proof = server.get(&format!("/api/audit/proof/inclusion?index={first}")).expect(200);
    assert_eq!(proof["index"], first, "an erased record is still proved to be in the log");
    let said = server.get("/api/audit/events?event_type=data_erased").text;
    assert!(said.contains("data_erased") && !said.contains(MARK), "{said}");
    let others = server.get("/api/audit/events?actor_id=somebody-else").expect(200);
    assert_eq!(others["events"].as_array().unwrap().len(), 10);

    // The export says so, too, to whoever has nothing but it.
    let bundle = server.beside("audit.jsonl").display().to_string();
    cli_ok(&["audit", "export", "--output", &bundle, "--server", &server.url, "--key", ADMIN_KEY]);
    let out = cli_ok(&["audit", "verify", "--bundle", &bundle, "--verifier-key", &key]);
    assert!(out.starts_with("whole") && out.contains("10 erased"), "{out}");

    // An answered retry counts nothing, and writes nothing of it again.
    let retry = json!([{"tenant_id": "acme", "event_type": "chat_message", "event_id": "message-0-somebody-else",
        "chat_session_id": "somebody-else", "tokens_consumed": 10, "metadata": {"user": "somebody-else", "is_response": false}}]);
    assert_eq!(server.post("/api/usage/events", &retry).expect(200)["duplicates"], 1);

    // After a crash and on the stopped folder it is the same.
    server.kill_9();
    server.start_again();
    assert_eq!((usage(&server), count_erased(&server)), (before, 10));
    server.stop();
    let folder = server.data_dir().display().to_string();
    let out = cli_ok(&["audit", "verify", "--data-dir", &folder]);
    assert!(out.starts_with("whole") && out.contains("10 erased"), "{out}");
    let again = cli_ok(&["erase", "--session", MARK, "--yes", "--data-dir", &folder]);
    assert!(again.contains("0 audit records, 0 events") && !has_mark(&server.data_dir()), "{again}");
}

#[test]
fn a_tenant_is_erased_once_it_is_deleted_and_its_totals_stay() {
    let server = Server::start();
    server.put_tenant("acme", &json!({"name": MARK, "labels": {"contact": MARK}}));
    chat(&server);
    let before = usage(&server);
    let body = json!({"subject": "tenant", "id": "acme"});
    assert_eq!(server.post("/api/admin/erase", &body).expect_error(409, "not deleted")["code"], "tenant_not_deleted");
    server.delete("/api/admin/tenants/acme").expect(200);
    let erased = server.post("/api/admin/erase", &body).expect(200);
    assert_eq!(count(&erased, "events"), 20, "{erased}");
    assert!(count(&erased, "audit_records") >= 20, "{erased}");
    assert!(!has_mark(&server.data_dir()), "its bytes are in the file");
    whole(&server);
    assert_eq!(server.get("/api/audit/events?tenant_id=acme").expect(200)["events"], json!([]));
    server.put_tenant("acme", &json!({}));
    assert_eq!(usage(&server), before);
    for (body, field) in [
        (json!({"subject": "actor"}), "id"),
        (json!({"subject": "planet", "id": "x"}), "subject"),
        (json!({"subject": "tenant", "id": "acme", "tenant_id": "acme"}), "tenant_id"),
        (json!({"subject": "actor", "id": "x", "all": true}), "all"),
        (json!({"subject": "actor", "id": ""}), "id"),
    ] {
        server.post("/api/admin/erase", &body).expect_error(400, field);
    }
    let forged = json!({"event_type": "data_erased", "entity_type": "audit_log", "action": "delete"});
    server.post("/api/audit/events", &forged).expect_error(400, "data_erased");
}

#[test]
fn an_erasure_that_a_kill_broke_off_is_finished_by_asking_again() {
    let mut server = Server::start();
    chat(&server);
    let body = json!({"subject": "session", "id": MARK}).to_string();
    // Asked for again and again while the process dies at another moment each time.
    for milliseconds in [1, 5, 20, 60, 150] {
        let (url, body) = (format!("{}/api/admin/erase", server.url), body.clone());
        let asked = std::thread::spawn(move || {
            let agent = support::client::agent();
            let _it_is_killed = agent
                .post(&url)
                .header("authorization", format!("Bearer {ADMIN_KEY}"))
                .header("content-type", "application/json")
                .send(body.as_bytes());
        });
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        server.kill_9();
        asked.join().unwrap();
        server.start_again();
        let found = server.post("/api/audit/verify", &json!({})).expect(200);
        assert_eq!(found["whole"], true, "killed after {milliseconds} ms: {found}");
    }
    server.post("/api/admin/erase", &json!({"subject": "session", "id": MARK})).expect(200);
    assert!(!has_mark(&server.data_dir()), "its bytes are in the file");
    let alarms = server.get("/api/admin/status").text;
    assert!(!alarms.contains("erasure_unfinished"), "{alarms}");
    assert_eq!(count_erased(&server), 10);
}

#[test]
fn a_backup_of_a_busy_server_is_one_state_and_is_restored_into_an_empty_folder_only() {
    let mut server = Server::start();
    chat(&server);
    let file = server.beside("copy.redb").display().to_string();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let server = &server;
                scope.spawn(move || {
                    for place in 0..40 {
                        let event = json!({"tenant_id": format!("t{writer}"), "event_type": "api_call",
                            "event_id": format!("{writer}-{place}"), "tokens_consumed": 1});
                        server.record(&json!([event]));
                    }
                })
            })
            .collect();
        let made = cli_ok(&["backup", "--output", &file, "--server", &server.url, "--key", ADMIN_KEY]);
        assert!(made.contains("verified"), "{made}");
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    let checked = cli_ok(&["backup", "--check", &file]);
    assert!(checked.starts_with("whole"), "{checked}");
    let listed = server.get("/api/admin/backups").expect(200);
    assert_eq!((listed["backups"].as_array().unwrap().len(), &listed["backups"][0]["present"]), (1, &json!(true)));
    server.get("/api/admin/backups/nothing").expect_error(404, "backup");
    let said = server.get("/api/audit/events?event_type=backup_made").expect(200);
    assert_eq!(said["events"].as_array().unwrap().len(), 1);
    let before = usage(&server);
    server.stop();

    // Not over anything, and not from anything that is not whole.
    let full = server.data_dir().display().to_string();
    let (code, _, error) = cli(&["restore", &file, "--data-dir", &full]);
    assert!(code == 1 && error.contains("not empty"), "{code} {error}");
    let fresh = server.beside("restored");
    let folder = fresh.display().to_string();
    let mut bytes = std::fs::read(&file).unwrap();
    let mark = bytes.windows(13).position(|window| window == b"somebody-else").unwrap();
    bytes[mark] ^= 1;
    let broken = server.beside("broken.redb");
    std::fs::write(&broken, &bytes).unwrap();
    let (code, _, error) = cli(&["restore", &broken.display().to_string(), "--data-dir", &folder]);
    assert!(code == 1 && error.contains("not as it was written in"), "{code} {error}");
    assert!(!fresh.join("metergate.redb").exists() && std::fs::read_dir(&fresh).unwrap().next().is_none());

    cli_ok(&["restore", &file, "--data-dir", &folder]);
    server.use_folder(fresh);
    server.start_again();
    whole(&server);
    assert_eq!(usage(&server), before);
    let said = server.get("/api/audit/events?event_type=store_restored").expect(200);
    assert_eq!(said["events"].as_array().unwrap().len(), 1, "{said}");
    let signer = server.get("/api/audit/events?event_type=audit_signing_key_changed").expect(200);
    assert_eq!(signer["events"].as_array().unwrap().len(), 1, "the key is not in a backup");
    server.restart();
    let said = server.get("/api/audit/events?event_type=store_restored").expect(200);
    assert_eq!(said["events"].as_array().unwrap().len(), 1, "once");
}
