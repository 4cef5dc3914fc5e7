//! The chat widget's sessions: in memory, bounded in number, with limits per session and per address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::domain::tenant::TenantId;
use crate::domain::time::{MICROS_PER_DAY, MICROS_PER_MINUTE, Timestamp};

/// How long a session lives from its last use.
const LIFE_MICROS: i64 = 30 * MICROS_PER_MINUTE;
/// How long one that has expired is told from one that never was.
const REMEMBERED_MICROS: i64 = MICROS_PER_DAY;
/// The most sessions, expired ones included.
const SESSIONS_MAX: usize = 100_000;
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
    addresses: HashMap<IpAddr, Recent>,
}

struct Session {
    tenant_id: TenantId,
    visitor_id: Option<String>,
    expires_at: Timestamp,
    recent: Recent,
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
        if state.sessions.len() >= SESSIONS_MAX {
            state.sessions.retain(|_, session| now < session.expires_at);
        }
        if state.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        let id: String = crate::ids::random_bytes::<24>().iter().map(|byte| format!("{byte:02x}")).collect();
        let expires_at = now.plus_micros(LIFE_MICROS);
        state.sessions.insert(id.clone(), Session { tenant_id, visitor_id, expires_at, recent: Recent::default() });
        Some((id, expires_at))
    }

    /// Lets a message in, and the session live on.
    pub(super) fn admit(&self, id: &str, address: Option<IpAddr>, now: Timestamp) -> Result<Admitted, SessionRefused> {
        let mut state = self.0.lock();
        let State { sessions, addresses } = &mut *state;
        let Some(session) = sessions.get_mut(id) else { return Err(SessionRefused::Unknown) };
        if now.micros_since(session.expires_at) > REMEMBERED_MICROS {
            sessions.remove(id);
            return Err(SessionRefused::Unknown);
        }
        if session.recent.count(now) >= SESSION_MESSAGES_PER_MINUTE {
            return Err(SessionRefused::TooFast);
        }
        if let Some(address) = address {
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
}
