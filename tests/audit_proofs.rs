//! An auditor with one kept checkpoint: proofs verify, and a log that was rolled back, cut or written anew is found out.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use metergate::rules::checkpoint::{AuditCheckpoint, VerifierKey};
use metergate::rules::merkle::{Hash, leaf_hash, verify_consistency, verify_inclusion};
use serde_json::{Value, json};

use support::bars::tell;
use support::{Server, cli, wait_for};

fn write(server: &Server, count: usize) {
    let event =
        json!({"tenant_id": "acme", "event_type": "kb_uploaded", "entity_type": "knowledge_base", "action": "create"});
    server.post("/api/audit/events", &Value::Array(vec![event; count])).expect(200);
}

fn checkpoint(server: &Server) -> (String, VerifierKey) {
    let answer = server.get("/api/audit/checkpoint");
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.text.clone(), answer.headers["x-metergate-verifier-key"].parse().unwrap())
}

fn hash(json: &Value) -> Hash {
    BASE64.decode(json.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn hashes(json: &Value) -> Vec<Hash> {
    json.as_array().unwrap().iter().map(hash).collect()
}

#[test]
fn a_kept_checkpoint_proves_each_record_and_that_the_log_has_only_grown() {
    let mut server = Server::start();
    write(&server, 5);
    let (note, key) = checkpoint(&server);
    let kept = AuditCheckpoint::open(&note, &key).unwrap();
    assert_eq!(kept.size, 5);
    assert_eq!(checkpoint(&server).0, note, "nothing new, nothing signed");

    (0..4).for_each(|_| write(&server, 500));
    server.restart();
    let (later, same_key) = checkpoint(&server);
    assert_eq!(same_key, key, "the key outlives a restart");
    let later = AuditCheckpoint::open(&later, &key).unwrap();
    assert_eq!(later.size, 2_005);
    let proof = server.get("/api/audit/proof/consistency?old=5").expect(200);
    assert_eq!((hash(&proof["old"]["root"]), hash(&proof["new"]["root"])), (kept.root, later.root));
    assert!(verify_consistency(5, 2_005, &kept.root, &later.root, &hashes(&proof["proof"])));

    let events = server.get("/api/audit/events?limit=3").expect(200);
    for event in events["events"].as_array().unwrap() {
        let id = event["event_id"].as_str().unwrap();
        let proof = server.get(&format!("/api/audit/proof/inclusion?event_id={id}")).expect(200);
        let leaf = leaf_hash(&BASE64.decode(proof["leaf"].as_str().unwrap()).unwrap());
        let index = event["index"].as_u64().unwrap();
        assert!(verify_inclusion(&leaf, index, 2_005, &hashes(&proof["proof"]), &later.root), "{proof}");
    }
    let of_then = server.get("/api/audit/proof/inclusion?index=3&size=5").expect(200);
    let leaf = leaf_hash(&BASE64.decode(of_then["leaf"].as_str().unwrap()).unwrap());
    assert!(verify_inclusion(&leaf, 3, 5, &hashes(&of_then["proof"]), &kept.root));

    // Also in a file outside the store, soon and at a stop at the latest.
    server.stop();
    let file = std::fs::read_to_string(server.data_dir().join("audit-checkpoints.txt")).unwrap();
    assert!(file.contains(&note), "{file}");
    server.start_again();
    for (query, field) in [
        ("inclusion?index=9&size=3", "index"),
        ("inclusion?index=1&size=99999", "size"),
        ("inclusion", "event_id"),
        ("consistency?old=0", "old"),
        ("consistency", "old"),
        ("consistency?old=1&new=99999", "new"),
    ] {
        server.get(&format!("/api/audit/proof/{query}")).expect_error(400, field);
    }
}

#[test]
fn a_log_that_was_rolled_back_or_written_anew_is_found_by_the_kept_checkpoint() {
    let mut server = Server::start();
    write(&server, 10);
    server.stop();
    let store = server.data_dir().join("metergate.redb");
    let earlier = std::fs::read(&store).unwrap();
    server.start_again();
    write(&server, 10);
    let (note, key) = checkpoint(&server);
    let kept = server.beside("kept.txt");
    std::fs::write(&kept, format!("{note}\n")).unwrap();
    let key = key.to_string();
    let verify = |server: &Server, with_checkpoint: bool| {
        let folder = server.data_dir().display().to_string();
        let mut arguments = vec!["audit", "verify", "--data-dir", &folder];
        let file = kept.display().to_string();
        if with_checkpoint {
            arguments.extend(["--checkpoint", &file, "--verifier-key", &key]);
        }
        cli(&arguments)
    };
    let on_the_server = server.post("/api/audit/verify", &json!({"checkpoint": note, "verifier_key": key})).expect(200);
    assert_eq!((&on_the_server["whole"], &on_the_server["checkpoint"]["agrees"]), (&json!(true), &json!(true)));
    server.stop();
    let (code, out, _) = verify(&server, true);
    assert!(code == 0 && out.contains("the checkpoint over 20 records agrees"), "{code} {out}");

    // Rolled back: it looks whole by itself, and not beside the checkpoint.
    std::fs::write(&store, &earlier).unwrap();
    let (code, out, _) = verify(&server, false);
    assert!(code == 0 && out.contains("keep one elsewhere"), "{code} {out}");
    let (code, out, _) = verify(&server, true);
    assert!(code == 1 && out.contains("its tail is gone"), "{code} {out}");

    // And gone on from there: as long as before, but not the same.
    server.start_again();
    write(&server, 15);
    server.stop();
    let (code, out, _) = verify(&server, true);
    assert!(code == 1 && out.contains("are not those it was signed over"), "{code} {out}");

    // The store of somebody else, as long and whole by itself, put in its place.
    let mut other = Server::start();
    write(&other, 25);
    other.stop();
    let own = std::fs::read(&store).unwrap();
    std::fs::copy(other.data_dir().join("metergate.redb"), &store).unwrap();
    let (code, out, _) = verify(&server, true);
    assert!(code == 1 && out.contains("are not those it was signed over"), "swapped: {code} {out}");
    std::fs::write(&store, own).unwrap();

    // Signed anew by whoever has the folder: the auditor's key is another.
    std::fs::remove_file(server.data_dir().join("audit-signing.key")).unwrap();
    server.start_again();
    let changed = server.get("/api/audit/events?event_type=audit_signing_key_changed").expect(200);
    assert_eq!(changed["events"].as_array().unwrap().len(), 1, "{changed}");
    let (forged, _) = checkpoint(&server);
    let answer = server.post("/api/audit/verify", &json!({"checkpoint": forged, "verifier_key": key})).expect(200);
    assert_eq!((&answer["whole"], &answer["checkpoint"]["agrees"]), (&json!(false), &json!(false)));
    tell("A1", "a store rolled back, gone on from there, swapped, and signed anew: each found by the kept checkpoint");
}

#[test]
fn an_export_is_verified_without_the_store_and_every_change_in_it_is_found() {
    let server = Server::start();
    write(&server, 40);
    let (note, key) = checkpoint(&server);
    let (kept, key) = (server.beside("kept.txt"), key.to_string());
    std::fs::write(&kept, note).unwrap();
    let bundle = server.beside("audit.jsonl");
    let mut found = 0;
    let (file, kept) = (bundle.display().to_string(), kept.display().to_string());
    let from = ["--server", &server.url, "--key", support::ADMIN_KEY];
    let (code, _, error) = cli(&[&["audit", "export", "--output", &file][..], &from].concat());
    assert_eq!(code, 0, "{error}");
    let verify = |text: &str| {
        std::fs::write(&bundle, text).unwrap();
        // As an auditor who has neither the store nor a server.
        cli(&["audit", "verify", "--bundle", &file, "--checkpoint", &kept, "--verifier-key", &key])
    };
    let whole = std::fs::read_to_string(&bundle).unwrap();
    let (code, out, error) = verify(&whole);
    assert!(code == 0 && out.starts_with("whole: 40 records"), "{code} {out} {error}");

    let lines: Vec<&str> = whole.lines().collect();
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        change(&mut changed);
        format!("{}\n", changed.join("\n"))
    };
    let record = |line: &str, change: &dyn Fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(line).unwrap();
        change(&mut json);
        json.to_string()
    };
    for (what, text) in [
        (
            "changed",
            with(&|lines| lines[7] = record(&lines[7], &|json| json["record"] = json!(BASE64.encode(b"another")))),
        ),
        ("taken away", with(&|lines| lines[7] = record(&lines[7], &|json| json["record"] = Value::Null))),
        ("made unreadable", with(&|lines| lines[7] = record(&lines[7], &|json| json["record"] = json!("?")))),
        ("removed", with(&|lines| drop(lines.remove(7)))),
        ("swapped", with(&|lines| lines.swap(7, 8))),
        ("doubled", with(&|lines| lines.insert(7, lines[7].clone()))),
        ("cut", with(&|lines| drop(lines.drain(20..lines.len() - 1)))),
        ("without its end", with(&|lines| drop(lines.pop()))),
        (
            "cut, and its end made to fit",
            with(&|lines| {
                lines.drain(20..);
                lines.push(json!({"kind": "end", "size": 19}).to_string());
            }),
        ),
    ] {
        let (code, out, _) = verify(&text);
        assert!(code == 1 && out.starts_with("NOT WHOLE"), "{what}: {code} {out}");
        found += 1;
    }
    tell("A1", &format!("an export changed in {found} ways, and whole; each change found without the store"));
}

#[test]
fn a_checkpoint_is_signed_within_a_minute_by_itself() {
    let server = Server::with_flags(&["--dev"]);
    write(&server, 1);
    server.post("/api/dev/clock", &json!({"advance_seconds": 61})).expect(200);
    let file = server.data_dir().join("audit-checkpoints.txt");
    wait_for("the checkpoint is in its file", 20, || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("metergate/")).then_some(())
    });
}

#[test]
fn a_note_that_a_crash_kept_from_the_file_is_written_by_the_next_start() {
    let mut server = Server::start();
    write(&server, 3);
    let (note, _) = checkpoint(&server);
    server.kill_9();
    let file = server.data_dir().join("audit-checkpoints.txt");
    let _it_may_not_be_there = std::fs::remove_file(&file);
    server.start_again();
    server.stop();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&note));
    // What a full disk or a crash broke off does not spoil the next one.
    std::fs::write(&file, &note[..note.len() / 2]).unwrap();
    server.start_again();
    write(&server, 1);
    let (next, key) = checkpoint(&server);
    server.stop();
    let (file, key, folder) = (file.display().to_string(), key.to_string(), server.data_dir().display().to_string());
    assert!(std::fs::read_to_string(&file).unwrap().contains(&next));
    let (code, out, _) =
        cli(&["audit", "verify", "--data-dir", &folder, "--checkpoint", &file, "--verifier-key", &key]);
    assert!(code == 0 && out.contains("the checkpoint over 4 records agrees"), "{code} {out}");
}
