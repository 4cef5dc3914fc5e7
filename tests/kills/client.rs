//! A client with a seed of its own, which keeps its own list of what was acknowledged and of what is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::random::Random;
use super::support::ADMIN_KEY;
use super::support::connection::{Answer, Connection};
use super::work::{Request, Shape, Work, settled_id};

/// Tenants of a client's own.
const OWN_TENANTS: u64 = 2;
/// Tenants with a tight limit, which all clients share; their events come by settlements within what was held.
pub const GATES: [&str; 2] = ["gate-0", "gate-1"];

/// What was acknowledged.
#[derive(Default)]
pub struct List {
    /// Tokens by event id, by tenant.
    pub events: BTreeMap<String, BTreeMap<String, u64>>,
    /// Those since the last comparison.
    pub recent: BTreeSet<(String, String)>,
    /// Open reservations by tenant and id.
    pub holds: BTreeMap<(String, String), u64>,
    /// Limits of their own.
    pub limits: BTreeMap<String, u64>,
    /// Audit records, and whether they are resolved.
    pub audit: BTreeMap<String, bool>,
    pub recent_audit: BTreeSet<String>,
    /// Changes of limits since the last comparison, by tenant and request id.
    pub recent_changes: BTreeSet<(String, String)>,
    /// Those that were asked for more than once.
    pub repeated_changes: BTreeSet<String>,
}

pub struct Client {
    pub number: u64,
    address: String,
    connection: Option<Connection>,
    random: Random,
    next: u64,
    pub list: List,
    /// What was sent and may or may not have been done.
    pub unknown: Vec<Work>,
    pub requests: u64,
    pub acknowledged: u64,
    pub repeated: u64,
}

impl Client {
    pub fn new(number: u64, seed: u64) -> Self {
        Self {
            number,
            address: String::new(),
            connection: None,
            random: Random::new(seed << 8 | number),
            next: 0,
            list: List::default(),
            unknown: Vec::new(),
            requests: 0,
            acknowledged: 0,
            repeated: 0,
        }
    }

    pub fn name(&self) -> String {
        format!("client-{}", self.number)
    }

    pub fn own_tenants(&self) -> Vec<String> {
        (0..=OWN_TENANTS).map(|place| self.own(place)).collect()
    }

    /// The last of a client's tenants is the one that only enforces and records.
    pub fn enforcing(&self) -> String {
        self.own(OWN_TENANTS)
    }

    fn own(&self, place: u64) -> String {
        format!("c{}-t{place}", self.number)
    }

    /// Talks to this server from now on.
    pub fn turn_to(&mut self, address: &str) {
        address.clone_into(&mut self.address);
        self.connection = None;
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        let answer =
            self.exchange(&Request { method: "GET", path: path.to_owned(), headers: String::new(), body: Vec::new() })?;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        Ok(answer)
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address, ADMIN_KEY)?,
        };
        let answer = connection.exchange(request.method, &request.path, &request.headers, &request.body)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Asks for a clean-up of old events; whether it was done is seen at the end.
    pub fn clean_up(&mut self, killed: &AtomicBool) {
        let asked = self.exchange(&Request {
            method: "POST",
            path: "/api/admin/jobs".to_owned(),
            headers: "content-type: application/json\r\n".to_owned(),
            body: br#"{"job": "cleanup_old_realtime_events"}"#.to_vec(),
        });
        match asked {
            Ok(answer) => assert!([200, 409].contains(&answer.status), "{answer:?}"),
            Err(error) => assert!(killed.load(Ordering::SeqCst), "the server is gone by itself: {error}"),
        }
    }

    /// Asks for one thing after the other until the server is gone.
    pub fn load(&mut self, killed: &AtomicBool) {
        while !killed.load(Ordering::SeqCst) {
            let work = self.choose();
            let request = work.request(&self.name(), false);
            self.requests += 1;
            match self.exchange(&request) {
                Ok(answer) => self.acknowledge(work, &answer, 0),
                Err(error) => {
                    assert!(killed.load(Ordering::SeqCst), "{work:?}: the server is gone by itself: {error}");
                    if work.is_owed() {
                        self.unknown.push(work);
                    }
                }
            }
        }
    }

    /// Asks again for what is not known. `present` is how many of the events of each are there already.
    pub fn repeat(&mut self, present: &[u64]) -> io::Result<()> {
        for present in present {
            let work = self.unknown[0].clone();
            if let Work::Limit { change, .. } = &work {
                self.list.repeated_changes.insert(change.clone());
            }
            self.requests += 1;
            let answer = self.exchange(&work.request(&self.name(), true))?;
            self.repeated += 1;
            self.unknown.remove(0);
            // A reservation that was refused, or was unknown, changed nothing, and is as it was.
            self.acknowledge(work, &answer, *present);
        }
        Ok(())
    }

    /// Takes an answer down. So many of its events were there before, and must be duplicates.
    fn acknowledge(&mut self, work: Work, answer: &Answer, known: u64) {
        let told = || format!("client {}, {work:?}, {known} known before: {answer:?}", self.number);
        let ok = |status: u16| assert_eq!(answer.status, status, "{}", told());
        let counted = |sent: usize| {
            ok(200);
            let json = answer.json();
            let counts =
                (json["accepted"].as_u64(), json["duplicates"].as_u64(), json["rejected"].as_array().map(Vec::len));
            assert_eq!(counts, (Some(sent as u64 - known), Some(known), Some(0)), "{}", told());
        };
        match &work {
            Work::Events { events, shape: Shape::Queued, .. } if answer.status == 202 => {
                assert_eq!(answer.json()["queued"].as_u64(), Some(events.len() as u64), "{}", told());
                self.unknown.push(work);
                return;
            }
            Work::Events { tenant, events, .. } => {
                counted(events.len());
                events.iter().for_each(|(id, tokens)| self.list.note(tenant, id, *tokens));
            }
            Work::Reserve { tenant, id, tokens } => {
                // Only a gate may say no.
                if answer.status != 429 || !GATES.contains(&tenant.as_str()) {
                    ok(200);
                    self.list.holds.insert((tenant.clone(), id.clone()), *tokens);
                }
            }
            Work::Settle { tenant, id, tokens, .. } => {
                counted(1);
                assert_eq!(answer.json()["overage"], false, "{}", told());
                self.list.holds.remove(&(tenant.clone(), id.clone()));
                self.list.note(tenant, &settled_id(id), *tokens);
            }
            Work::Release { tenant, id, .. } => {
                ok(200);
                self.list.holds.remove(&(tenant.clone(), id.clone()));
            }
            Work::Enforce { .. } | Work::BackUp => ok(200),
            Work::Audit { ids } => {
                counted(ids.len());
                for id in ids {
                    self.list.audit.entry(id.clone()).or_default();
                    self.list.recent_audit.insert(id.clone());
                }
            }
            Work::Resolve { id } => {
                ok(200);
                self.list.audit.insert(id.clone(), true);
            }
            Work::Limit { tenant, limit, change } => {
                ok(200);
                self.list.limits.insert(tenant.clone(), *limit);
                self.list.recent_changes.insert((tenant.clone(), change.clone()));
            }
            Work::Aggregate => {
                ok(200);
                assert_eq!(answer.json()["success"], true, "{}", told());
            }
            Work::Verify => {
                ok(200);
                assert_eq!(answer.json()["whole"], true, "{}", told());
            }
        }
        self.acknowledged += 1;
    }

    /// What to ask for next. Nothing is asked twice while it is unknown.
    fn choose(&mut self) -> Work {
        let kind = self.random.below(1_000);
        let place = self.random.below(OWN_TENANTS);
        let tenant = self.own(place);
        match kind {
            0..50 => self.events(&tenant, 1, Shape::Queued),
            50..300 => self.events(&tenant, 1, Shape::One),
            300..430 => {
                let count = 2 + self.random.below(30);
                self.events(&tenant, count, Shape::Batch)
            }
            430..435 => {
                let count = 100 + self.random.below(1_500);
                self.events(&tenant, count, Shape::Lines)
            }
            435..500 => self.known_before(tenant),
            500..680 => {
                let gate = self.random.coin().then(|| GATES[self.random.below(2) as usize].to_owned());
                let (id, tokens) = (self.id(), 1 + self.random.below(500));
                Work::Reserve { tenant: gate.unwrap_or(tenant), id, tokens }
            }
            680..780 => self.settle_or_release(tenant, true),
            780..840 => self.settle_or_release(tenant, false),
            840..870 => Work::Enforce { tenant: self.enforcing() },
            870..880 => {
                let tenant = self.enforcing();
                self.events(&tenant, 1, Shape::One)
            }
            880..950 => {
                let count = if self.random.coin() { 1 } else { 1 + self.random.below(20) };
                Work::Audit { ids: (0..count).map(|_| self.uuid()).collect() }
            }
            950..965 => {
                let open: Vec<&String> =
                    self.list.audit.iter().filter(|(_, resolved)| !**resolved).map(|(id, _)| id).collect();
                let id = self.random.pick(&open).map(|id| (*id).clone());
                id.map_or(Work::Verify, |id| Work::Resolve { id })
            }
            965..994 => {
                self.next += 1;
                let (limit, change) = (1_000_000_000_000 + self.next, format!("change-{}-{}", self.number, self.next));
                Work::Limit { tenant, limit, change }
            }
            // The jobs are one client's, so that they do not only wait for each other.
            _ if self.number > 0 => self.events(&tenant, 1, Shape::One),
            994..999 => Work::Aggregate,
            _ => Work::BackUp,
        }
    }

    fn events(&mut self, tenant: &str, count: u64, shape: Shape) -> Work {
        let events = (0..count).map(|_| (self.id(), 1 + self.random.below(1_000))).collect();
        Work::Events { tenant: tenant.to_owned(), events, shape }
    }

    /// Repeats something that was acknowledged, here and now: it must be a duplicate, and a conflict with other content.
    fn known_before(&mut self, tenant: String) -> Work {
        let own = self.list.events.get(&tenant);
        let known: Vec<(&String, &u64)> =
            own.map(|events| events.iter().rev().take(3_000).collect()).unwrap_or_default();
        // Settled ones had no id and no model when they were sent.
        let known: Vec<_> = known.into_iter().filter(|(id, _)| !id.contains(':')).collect();
        let Some((id, tokens)) = self.random.pick(&known).map(|(id, tokens)| ((*id).clone(), **tokens)) else {
            return self.events(&tenant, 1, Shape::One);
        };
        for (tokens, status) in [(tokens, 200), (tokens + 4, 409)] {
            let again = Work::Events { tenant: tenant.clone(), events: vec![(id.clone(), tokens)], shape: Shape::One };
            self.requests += 1;
            // Gone is gone: the next request says so, too.
            let Ok(answer) = self.exchange(&again.request(&self.name(), true)) else { break };
            assert_eq!(answer.status, status, "{again:?}: {answer:?}");
            if status == 200 {
                assert_eq!(answer.json()["duplicates"], 1, "{again:?}: {answer:?}");
            }
        }
        Work::Enforce { tenant: self.enforcing() }
    }

    fn settle_or_release(&mut self, tenant: String, settles: bool) -> Work {
        let open: Vec<(&(String, String), &u64)> = self.list.holds.iter().collect();
        let Some(((tenant, id), held)) = self.random.pick(&open).map(|(key, held)| ((*key).clone(), **held)) else {
            return self.events(&tenant, 1, Shape::One);
        };
        match settles {
            true => Work::Settle { tenant, id, held, tokens: 1 + self.random.below(held) },
            false => Work::Release { tenant, id, held },
        }
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("c{}-{:07}", self.number, self.next)
    }

    fn uuid(&mut self) -> String {
        Uuid::from_u64_pair(self.random.next(), self.random.next()).to_string()
    }
}

impl List {
    fn note(&mut self, tenant: &str, id: &str, tokens: u64) {
        self.events.entry(tenant.to_owned()).or_default().insert(id.to_owned(), tokens);
        self.recent.insert((tenant.to_owned(), id.to_owned()));
    }

    /// Events, tokens and held tokens of a tenant.
    pub fn sums(&self, tenant: &str) -> (u64, u64, u64) {
        let (mut events, mut tokens) = (0, 0);
        if let Some(known) = self.events.get(tenant) {
            (events, tokens) = (known.len() as u64, known.values().sum());
        }
        let held = self.holds.iter().filter(|((of, _), _)| of == tenant).map(|(_, held)| held).sum();
        (events, tokens, held)
    }
}
