//! R3: `kill -9` of the real process under load over HTTP, by clients that keep their own list of what was acknowledged.
//!
//! A season is one data folder that is killed 200 times under load, and some times more while it starts or while clients
//! ask again for what they do not know. Every failure names the seed of its season: `METERGATE_SEED=N` asks for the same
//! again (when the process dies depends on the machine, too), `METERGATE_LONG=1` runs 25 seasons.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod client;
mod compare;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::Utc;
use metergate::rules::checkpoint::{AuditCheckpoint, VerifierKey};
use metergate::rules::merkle::{Hash, verify_consistency};
use serde_json::{Value, json};

use client::{Client, GATES};
use random::Random;
use support::{Server, cli_ok, midnight_days_ago, rfc3339};

const CLIENTS: u64 = 6;
const KILLS_PER_SEASON: u32 = 100;
/// Seasons that run beside each other: each waits for its server most of the time.
const SEASONS_AT_ONCE: usize = 2;
/// So often a clean-up is asked for just before the kill, beside those of the schedule.
const KILLS_PER_CLEANUP: u32 = 10;
/// After so many kills it stops in order, as now and then in life: counters are saved, and the journal begins anew.
const KILLS_PER_STOP: u32 = 20;
/// Tokens by which a gate's limit rises from kill to kill: less than is asked for.
const GATE_STEP: u64 = 2_000;
/// Events of a tenant of old, which retention takes day by day meanwhile.
const OLD_TENANT: &str = "of-old";
const OLD_DAYS: i64 = 28;
const OLD_EVENTS_A_DAY: u64 = 20;

#[derive(Default)]
struct Seen {
    kills: u32,
    kills_at_start: u32,
    kills_repeating: u32,
    requests: u64,
    acknowledged: u64,
    repeated: u64,
    /// Old events that retention took.
    removed: u64,
}

struct Season {
    random: Random,
    server: Server,
    clients: Vec<Client>,
    gate_limit: u64,
    day: chrono::NaiveDate,
    kept: Option<(String, VerifierKey)>,
    /// How long the last start took.
    start: Duration,
    seen: Seen,
}

impl Season {
    fn new(seed: u64) -> Self {
        let mut server = Server::start();
        let midnight = |days| rfc3339(midnight_days_ago(days) + chrono::Duration::hours(7));
        for days in 2..=OLD_DAYS {
            let old = (0..OLD_EVENTS_A_DAY).map(|n| {
                json!({"tenant_id": OLD_TENANT, "event_type": "api_call", "event_id": format!("{days}-{n}"),
                    "event_timestamp": midnight(days), "tokens_consumed": days})
            });
            server.record(&old.collect());
        }
        // Only what is aggregated may go, and no server here lives long enough to aggregate by itself.
        server.aggregate();
        // From now on a day of it goes with each clean-up, and there is one each minute: a missed one at the next start.
        server.flags =
            ["--realtime-days", "1", "--cleanup-cron", "* * * * *", "--log-level", "warn"].map(str::to_owned).to_vec();
        server.restart();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|number| Client::new(number, seed)).collect();
        for client in &mut clients {
            for tenant in client.own_tenants() {
                server.put_tenant(&tenant, &json!({"plan": "enterprise"}));
                let limit = 1_000_000_000_000;
                server
                    .put(&format!("/api/admin/tenants/{tenant}/quotas/tokens"), &json!({ "limit": limit }))
                    .expect(200);
                client.list.limits.insert(tenant, limit);
            }
        }
        for gate in GATES {
            server.put_tenant(gate, &json!({"plan": "enterprise"}));
        }
        Self {
            random: Random::new(seed),
            server,
            clients,
            gate_limit: 0,
            day: Utc::now().date_naive(),
            kept: None,
            start: Duration::from_millis(200),
            seen: Seen::default(),
        }
    }

    fn address(&self) -> String {
        self.server.url.trim_start_matches("http://").to_owned()
    }

    /// One kill under load, and the comparison after it.
    fn round(&mut self, last: bool) {
        self.gate_limit += GATE_STEP;
        for gate in GATES {
            let path = format!("/api/admin/tenants/{gate}/quotas/tokens");
            self.server.put(&path, &json!({ "limit": self.gate_limit })).expect(200);
        }
        let since = rfc3339(Utc::now() - chrono::Duration::seconds(1));
        let after = Duration::from_micros(5_000 + self.random.below(200_000));
        let cleans = self.seen.kills.is_multiple_of(KILLS_PER_CLEANUP);
        self.killed_after(after, |client, killed| {
            if cleans && client.number == 0 {
                client.clean_up(killed);
            }
            client.load(killed);
        });
        self.seen.kills += 1;
        loop {
            while self.random.below(4) == 0 {
                let most = self.start.as_micros() as u64 * 5 / 4;
                self.server.start_and_kill_9(Duration::from_micros(self.random.below(most)));
                self.seen.kills_at_start += 1;
            }
            let started = Instant::now();
            self.server.start_again();
            self.start = started.elapsed();
            self.gates_hold();
            self.log_has_only_grown();
            let same_day = Utc::now().date_naive() == self.day;
            if self.random.below(10) == 0 {
                let after = Duration::from_micros(self.random.below(100_000));
                self.killed_after(after, |client, killed| {
                    let ended = compare::settle_up(client, &since, same_day);
                    assert!(ended.is_ok() || killed.load(Ordering::SeqCst), "the server is gone by itself: {ended:?}");
                });
                self.seen.kills_repeating += 1;
                continue;
            }
            self.with_every_client(|client| compare::settle_up(client, &since, same_day).unwrap());
            break;
        }
        let (events, tokens) = (OLD_EVENTS_A_DAY, (2..=OLD_DAYS as u64).sum::<u64>() * OLD_EVENTS_A_DAY);
        let rows = support::period_rows(&self.server, OLD_TENANT, "daily");
        let sum = |column| rows.iter().map(|row| support::count(row, column)).sum::<u64>();
        assert_eq!((sum("api_calls_total"), sum("total_tokens_used")), (events * (OLD_DAYS as u64 - 1), tokens));
        if Utc::now().date_naive() == self.day {
            self.gates_are_exact();
        }
        self.keep_a_checkpoint();
        if self.seen.kills.is_multiple_of(KILLS_PER_STOP) {
            self.server.restart();
        }
        if last || self.seen.kills.is_multiple_of(25) {
            let (note, key) = self.kept.as_ref().unwrap();
            let body = json!({"checkpoint": note, "verifier_key": key.to_string()});
            let verified = self.server.post("/api/audit/verify", &body).expect(200);
            assert_eq!(
                (&verified["whole"], &verified["checkpoint"]["agrees"]),
                (&json!(true), &json!(true)),
                "{verified}"
            );
        }
    }

    /// Lets every client do this, and kills the server so long afterwards.
    fn killed_after(&mut self, after: Duration, act: impl Fn(&mut Client, &AtomicBool) + Sync) {
        let (killed, address) = (AtomicBool::new(false), self.address());
        let (server, clients) = (&mut self.server, &mut self.clients);
        std::thread::scope(|scope| {
            for client in clients {
                client.turn_to(&address);
                let (act, killed) = (&act, &killed);
                scope.spawn(move || act(client, killed));
            }
            std::thread::sleep(after);
            killed.store(true, Ordering::SeqCst);
            server.kill_9();
        });
    }

    fn with_every_client(&mut self, act: impl Fn(&mut Client) + Sync) {
        let address = self.address();
        std::thread::scope(|scope| {
            for client in &mut self.clients {
                client.turn_to(&address);
                let act = &act;
                scope.spawn(move || act(client));
            }
        });
    }

    /// What all clients did together, while something may still be unknown: never more than the limit.
    fn gates_hold(&self) {
        for gate in GATES {
            let quota = self.server.quota(gate, "tokens");
            let (used, held) = (support::count(&quota, "used"), compare::quota_held(&quota));
            assert!(used + held <= self.gate_limit, "{gate}: {used} + {held} of {}: {quota}", self.gate_limit);
            assert_eq!(support::count(&quota, "limit"), self.gate_limit, "{quota}");
        }
    }

    /// What all clients did together, added up from their lists.
    fn gates_are_exact(&self) {
        for gate in GATES {
            let sums = self.clients.iter().map(|client| client.list.sums(gate));
            let sums = sums.fold((0, 0, 0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2));
            let quota = self.server.quota(gate, "tokens");
            let rows = support::period_rows(&self.server, gate, "daily");
            let events = rows.iter().map(|row| support::count(row, "api_calls_total")).sum::<u64>();
            let seen = (events, support::count(&quota, "used"), compare::quota_held(&quota));
            assert_eq!(seen, sums, "events, tokens and held tokens of {gate}");
        }
    }

    fn keep_a_checkpoint(&mut self) {
        let answer = self.server.get("/api/audit/checkpoint");
        assert_eq!(answer.status, 200, "{answer:?}");
        let key: VerifierKey = answer.headers["x-metergate-verifier-key"].parse().unwrap();
        self.kept = Some((answer.text, key));
    }

    fn log_has_only_grown(&self) {
        let Some((note, key)) = &self.kept else { return };
        let kept = AuditCheckpoint::open(note, key).unwrap();
        let proof = self.server.get(&format!("/api/audit/proof/consistency?old={}", kept.size)).expect(200);
        let hash = |json: &Value| -> Hash { BASE64.decode(json.as_str().unwrap()).unwrap().try_into().unwrap() };
        let hashes: Vec<Hash> = proof["proof"].as_array().unwrap().iter().map(hash).collect();
        let (size, root) = (proof["new"]["size"].as_u64().unwrap(), hash(&proof["new"]["root"]));
        assert!(verify_consistency(kept.size, size, &kept.root, &root, &hashes), "{proof}");
    }

    /// Everything from the beginning, once more, and the folder by itself.
    fn end(mut self) -> Seen {
        let same_day = Utc::now().date_naive() == self.day;
        self.with_every_client(|client| compare::compare_all(client, same_day).unwrap());
        let left = self.server.get(&format!("/api/usage/{OLD_TENANT}/events?limit=1000")).expect(200);
        self.seen.removed = OLD_EVENTS_A_DAY * (OLD_DAYS as u64 - 1) - left["events"].as_array().unwrap().len() as u64;
        self.server.kill_9();
        let kept = self.server.beside("kept.txt");
        let (note, key) = self.kept.take().unwrap();
        std::fs::write(&kept, note).unwrap();
        let (folder, kept, key) = (self.server.data_dir(), kept.display().to_string(), key.to_string());
        let folder = folder.display().to_string();
        let verified =
            cli_ok(&["audit", "verify", "--data-dir", &folder, "--checkpoint", &kept, "--verifier-key", &key]);
        assert!(verified.contains("agrees"), "{verified}");
        cli_ok(&["verify", "--data-dir", &folder]);
        for client in &self.clients {
            self.seen.requests += client.requests;
            self.seen.acknowledged += client.acknowledged;
            self.seen.repeated += client.repeated;
        }
        self.seen
    }
}

fn season(seed: u64) -> Seen {
    let mut season = Season::new(seed);
    for kill in 1..=KILLS_PER_SEASON {
        season.round(kill == KILLS_PER_SEASON);
    }
    season.end()
}

#[test]
fn r3_kills_under_load_lose_nothing_that_was_acknowledged_and_count_nothing_twice() {
    let started = Instant::now();
    let seeds: Vec<u64> = match std::env::var("METERGATE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()) {
        Some(seed) => vec![seed],
        None if std::env::var("METERGATE_LONG").is_ok_and(|value| value == "1") => (0..50).collect(),
        None => vec![0, 1],
    };
    let mut seen = Seen::default();
    let beside = |seeds: &[u64]| {
        std::thread::scope(|scope| {
            let seasons: Vec<_> = seeds.iter().map(|seed| (seed, scope.spawn(|| season(*seed)))).collect();
            let end = |(seed, season): (&u64, std::thread::ScopedJoinHandle<'_, Seen>)| {
                season.join().unwrap_or_else(|_| panic!("METERGATE_SEED={seed} failed, see above"))
            };
            seasons.into_iter().map(end).collect::<Vec<_>>()
        })
    };
    for of_season in seeds.chunks(SEASONS_AT_ONCE).flat_map(beside) {
        seen.kills += of_season.kills;
        seen.kills_at_start += of_season.kills_at_start;
        seen.kills_repeating += of_season.kills_repeating;
        seen.requests += of_season.requests;
        seen.acknowledged += of_season.acknowledged;
        seen.repeated += of_season.repeated;
        seen.removed += of_season.removed;
    }
    assert!(seen.removed > 0, "retention took nothing meanwhile");
    support::bars::tell(
        "R3",
        &format!(
            "{} kills under load, {} while starting, {} while asking again; {} requests of {CLIENTS} clients, {} \
             acknowledged, {} repeated, {} old events removed: 0 lost, 0 twice, in {:.0?}",
            seen.kills,
            seen.kills_at_start,
            seen.kills_repeating,
            seen.requests,
            seen.acknowledged,
            seen.repeated,
            seen.removed,
            started.elapsed()
        ),
    );
}
