//! Whether writes are possible, and if not, why and for how long: what the supervisor knows and everybody reads.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::meter::Counter;
use super::receipt::WriteError;
use crate::domain::quota::Hold;

/// Grants that memory made alone and that wait for the journal; beyond them, requests are refused.
const UNJOURNALED_MAX: usize = 100_000;

/// Why writes are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The store failed and is being reopened.
    Down(String),
    /// The disk is full: releases and reads go on.
    Full(String),
    /// Something that only a restart mends.
    Broken(String),
    /// The engine is closed.
    Closed,
}

impl Trouble {
    /// The sentence of it.
    pub fn reason(&self) -> &str {
        match self {
            Self::Down(reason) | Self::Full(reason) | Self::Broken(reason) => reason,
            Self::Closed => "metergate is closed",
        }
    }

    const fn is_passing(&self) -> bool {
        matches!(self, Self::Down(_) | Self::Full(_))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Health {
    trouble: ArcSwapOption<Trouble>,
    unjournaled: Mutex<Vec<(u32, Hold)>>,
    /// How often the store was opened again.
    pub reopened: Counter,
    /// Grants of memory alone, while `on_storage_failure` was `open`.
    pub not_durable: Counter,
}

impl Health {
    /// What is wrong now.
    pub fn trouble(&self) -> Option<Arc<Trouble>> {
        self.trouble.load_full()
    }

    /// Whether writes are taken.
    pub fn is_well(&self) -> bool {
        self.trouble.load().is_none()
    }

    /// The error of a write that is refused now.
    pub(super) fn refusal(&self) -> Option<WriteError> {
        self.trouble.load().as_ref().map(|trouble| match &**trouble {
            Trouble::Full(reason) => WriteError::Full(reason.clone()),
            other => WriteError::Unavailable(other.reason().to_owned()),
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.trouble.load().as_ref().is_some_and(|trouble| matches!(**trouble, Trouble::Full(_)))
    }

    /// Notes what is wrong. What only a restart mends stays; of the rest the last word counts.
    pub(super) fn set(&self, trouble: Trouble) {
        let trouble = Arc::new(trouble);
        self.trouble.rcu(|known| match known {
            Some(known) if !known.is_passing() && *trouble != Trouble::Closed => Some(Arc::clone(known)),
            _ => Some(Arc::clone(&trouble)),
        });
    }

    /// All is well again, unless a restart is needed.
    pub(super) fn clear(&self) {
        self.trouble.rcu(|known| known.clone().filter(|known| !known.is_passing()));
    }

    /// Keeps a grant for the journal. False when there is no room for it.
    pub(crate) fn keep_unjournaled(&self, tenant_no: u32, hold: Hold) -> bool {
        let mut unjournaled = self.unjournaled.lock();
        let fits = unjournaled.len() < UNJOURNALED_MAX;
        if fits {
            self.not_durable.add(1);
            unjournaled.push((tenant_no, hold));
        }
        fits
    }

    pub(super) fn has_unjournaled(&self) -> bool {
        !self.unjournaled.lock().is_empty()
    }

    pub(super) fn take_unjournaled(&self) -> Vec<(u32, Hold)> {
        std::mem::take(&mut self.unjournaled.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_restart_mends_is_not_covered_by_what_passes() {
        let health = Health::default();
        health.set(Trouble::Down("once".to_owned()));
        health.set(Trouble::Full("then".to_owned()));
        assert_eq!(health.refusal(), Some(WriteError::Full("then".to_owned())));
        health.clear();
        assert!(health.is_well());
        health.set(Trouble::Broken("for good".to_owned()));
        health.set(Trouble::Down("later".to_owned()));
        health.clear();
        assert_eq!(health.trouble().unwrap().reason(), "for good");
        health.set(Trouble::Closed);
        assert_eq!(health.trouble().unwrap().reason(), "metergate is closed");
    }
}
