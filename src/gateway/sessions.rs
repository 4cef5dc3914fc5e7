//! The chat widget's sessions: in memory, bounded in number, with limits per session and per address.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_MINUTE, MICROS_PER_SECOND, Timestamp};

/// How long a session lives from its last use.
const LIFE_MICROS: i64 = 30 * MICROS_PER_MINUTE;
/// How long one that has expired is told from one that never was.
const REMEMBERED_MICROS: i64 = MICROS_PER_DAY;
/// The most sessions, expired ones included.
const SESSIONS_MAX: usize = 100_000;
/// The most sessions of one tenant, expired ones included.
const TENANT_SESSIONS_MAX: usize = 10_000;
/// The most addresses that are watched at once.
const ADDRESSES_MAX: usize = 100_000;
/// Messages of one session in any 60 seconds.
const SESSION_MESSAGES_PER_MINUTE: usize = 20;
/// Messages of one address in any 60 seconds, over all its sessions.
const ADDRESS_MESSAGES_PER_MINUTE: usize = 60;

/// Why a message is not let in. In the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefused {
    /// No such session.
    #[error("the session is unknown")]
    Unknown,
    /// Too many messages in a minute.
    #[error("Rate limit exceeded")]
    TooFast,
    /// Not used for 30 minutes.
    #[error("the session has expired")]
    Expired,
}

/// Who a message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) tenant_id: TenantId,
    pub(super) visitor_id: Option<String>,
}

#[derive(Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<String, Session>,
    by_tenant: HashMap<TenantId, usize>,
    cleared_at: Option<Timestamp>,
    addresses: HashMap<IpAddr, Recent>,
}

struct Session {
    tenant_id: TenantId,
    visitor_id: Option<String>,
    expires_at: Timestamp,
    recent: Recent,
}

impl State {
    fn is_full(&self, tenant_id: &TenantId) -> bool {
        self.sessions.len() >= SESSIONS_MAX
            || self.by_tenant.get(tenant_id).is_some_and(|sessions| *sessions >= TENANT_SESSIONS_MAX)
    }

    /// Forgets sessions that have expired; at most once a second, since it looks at all of them.
    fn clear(&mut self, now: Timestamp) {
        if self.cleared_at.is_some_and(|at| now.micros_since(at).abs() < MICROS_PER_SECOND) {
            return;
        }
        self.cleared_at = Some(now);
        self.sessions.retain(|_, session| now < session.expires_at);
        self.by_tenant.clear();
        for session in self.sessions.values() {
            *self.by_tenant.entry(session.tenant_id.clone()).or_default() += 1;
        }
    }

    fn forget(&mut self, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        if let Some(sessions) = self.by_tenant.get_mut(&session.tenant_id) {
            *sessions -= 1;
            if *sessions == 0 {
                self.by_tenant.remove(&session.tenant_id);
            }
        }
    }
}

/// What is watched for an address: of version 6 the network of 64 bits, which is the least that one household has.
fn watched(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        version_4 => version_4,
    }
}

/// The messages of the last 60 seconds.
#[derive(Default)]
struct Recent(VecDeque<Timestamp>);

impl Recent {
    fn count(&mut self, now: Timestamp) -> usize {
        while self.0.front().is_some_and(|at| now.micros_since(*at) >= MICROS_PER_MINUTE) {
            self.0.pop_front();
        }
        self.0.len()
    }
}

impl Sessions {
    /// A new session: its id of 192 random bits, and when it expires unless it is used. `None` when there are too many.
    pub(super) fn create(
        &self,
        tenant_id: TenantId,
        visitor_id: Option<String>,
        now: Timestamp,
    ) -> Option<(String, Timestamp)> {
        let mut state = self.0.lock();
        if state.is_full(&tenant_id) {
            state.clear(now);
        }
        if state.is_full(&tenant_id) {
            return None;
        }
        let id: String = crate::ids::random_bytes::<24>().iter().map(|byte| format!("{byte:02x}")).collect();
        let expires_at = now.plus_micros(LIFE_MICROS);
        *state.by_tenant.entry(tenant_id.clone()).or_default() += 1;
        state.sessions.insert(id.clone(), Session { tenant_id, visitor_id, expires_at, recent: Recent::default() });
        Some((id, expires_at))
    }

    /// Lets a message in, and the session live on.
    pub(super) fn admit(&self, id: &str, address: Option<IpAddr>, now: Timestamp) -> Result<Admitted, SessionRefused> {
        let mut state = self.0.lock();
        let forgotten = |session: &Session| now.micros_since(session.expires_at) > REMEMBERED_MICROS;
        if state.sessions.get(id).is_some_and(forgotten) {
            state.forget(id);
        }
        let State { sessions, addresses, .. } = &mut *state;
        let Some(session) = sessions.get_mut(id) else { return Err(SessionRefused::Unknown) };
        if session.recent.count(now) >= SESSION_MESSAGES_PER_MINUTE {
            return Err(SessionRefused::TooFast);
        }
        // Before the session's end is looked at: who asks with one that has expired is counted too.
        if let Some(address) = address.map(watched) {
            if addresses.len() >= ADDRESSES_MAX {
                addresses.retain(|_, recent| recent.count(now) > 0);
            }
            if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&address) {
                return Err(SessionRefused::TooFast);
            }
            let recent = addresses.entry(address).or_default();
            if recent.count(now) >= ADDRESS_MESSAGES_PER_MINUTE {
                return Err(SessionRefused::TooFast);
            }
            recent.0.push_back(now);
        }
        if now >= session.expires_at {
            return Err(SessionRefused::Expired);
        }
        session.recent.0.push_back(now);
        session.expires_at = now.plus_micros(LIFE_MICROS);
        Ok(Admitted { tenant_id: session.tenant_id.clone(), visitor_id: session.visitor_id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn a_session_lives_thirty_minutes_from_its_last_use() {
        let sessions = Sessions::default();
        let (id, expires_at) = sessions.create("acme".parse().unwrap(), Some("v".to_owned()), at(0)).unwrap();
        assert!(id.len() == 48 && expires_at == at(1_800));
        assert_eq!(sessions.admit(&id, None, at(1_799)).unwrap().tenant_id.as_str(), "acme");
        assert!(sessions.admit(&id, None, at(3_598)).is_ok());
        assert_eq!(sessions.admit(&id, None, at(5_398)), Err(SessionRefused::Expired));
        assert_eq!(sessions.admit(&id, None, at(200_000)), Err(SessionRefused::Unknown));
        assert_eq!(sessions.admit("another", None, at(0)), Err(SessionRefused::Unknown));
    }

    #[test]
    fn a_session_and_an_address_have_their_limits_in_any_minute() {
        let sessions = Sessions::default();
        let address: Option<IpAddr> = "192.0.2.1".parse().ok();
        let make = || sessions.create("acme".parse().unwrap(), None, at(0)).unwrap().0;
        let ids = [make(), make(), make(), make()];
        for id in &ids[..3] {
            let let_in = (0..25).filter(|second| sessions.admit(id, address, at(*second)).is_ok()).count();
            assert_eq!(let_in, 20);
        }
        assert_eq!(sessions.admit(&ids[3], address, at(25)), Err(SessionRefused::TooFast));
        assert!(sessions.admit(&ids[3], "192.0.2.2".parse().ok(), at(25)).is_ok());
        assert!(sessions.admit(&ids[0], address, at(60)).is_ok());
    }

    #[test]
    fn one_tenant_does_not_take_the_sessions_of_others() {
        let sessions = Sessions::default();
        let make = |tenant: &str, second| sessions.create(tenant.parse().unwrap(), None, at(second));
        let first = make("a", 0).unwrap().0;
        for _ in 1..TENANT_SESSIONS_MAX {
            assert!(make("a", 10).is_some());
        }
        assert_eq!(make("a", 20), None);
        assert!(make("b", 20).is_some());
        assert!(make("a", 1_805).is_some(), "the first has expired");
        assert_eq!(make("a", 1_805), None);
        assert_eq!(sessions.admit(&first, None, at(1_805)), Err(SessionRefused::Unknown));
        assert!(make("a", 1_812).is_some());
        let state = sessions.0.lock();
        assert_eq!(state.by_tenant.values().sum::<usize>(), state.sessions.len());
    }

    #[test]
    fn addresses_of_one_network_of_64_bits_are_one() {
        let sessions = Sessions::default();
        let ids: Vec<String> =
            (0..4).map(|_| sessions.create("acme".parse().unwrap(), None, at(0)).unwrap().0).collect();
        let from = |last: usize| format!("2001:db8:0:1::{last:x}").parse().ok();
        for (place, id) in ids[..3].iter().enumerate() {
            assert_eq!((0..20).filter(|n| sessions.admit(id, from(place * 20 + n), at(1)).is_ok()).count(), 20);
        }
        assert_eq!(sessions.admit(&ids[3], from(999), at(2)), Err(SessionRefused::TooFast));
        assert!(sessions.admit(&ids[3], "2001:db8:0:2::1".parse().ok(), at(2)).is_ok());
        assert_eq!(watched("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
