//! Who asks for a change, as the audit trail tells it.

use super::audit::{ActorType, AuditEntry};

/// Who asks for something, with which key and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// A person's or a service's name; `None` is metergate itself.
    pub name: Option<String>,
    /// The key that was shown.
    pub key_id: Option<String>,
    /// An IPv4 or IPv6 address.
    pub ip_address: Option<String>,
    /// What the actor used, at most 512 characters.
    pub user_agent: Option<String>,
    /// The request, at most 128 characters.
    pub request_id: Option<String>,
}

impl Actor {
    /// metergate itself, such as when a tenant registers by its first event.
    pub const SYSTEM: Self = Self { name: None, key_id: None, ip_address: None, user_agent: None, request_id: None };

    /// Somebody without a key, such as a program that uses the library.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::SYSTEM }
    }

    /// The name, or `system`.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or("system")
    }

    /// Writes into an entry who did it.
    pub fn sign(&self, entry: &mut AuditEntry) {
        entry.actor_type = if self.name.is_some() { ActorType::Admin } else { ActorType::System };
        entry.actor_id.clone_from(&self.name);
        entry.key_id.clone_from(&self.key_id);
        entry.ip_address.clone_from(&self.ip_address);
        entry.user_agent.clone_from(&self.user_agent);
        entry.request_id.clone_from(&self.request_id);
    }
}
