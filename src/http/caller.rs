//! Who asks: the key that opened the lock, whose tenants it has, and where the request came from.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};

use super::error::ApiError;
use super::frame::{RequestId, Visit};
use super::wire::Fault;
use crate::domain::actor::Actor;
use crate::domain::event::UsageEvent;
use crate::domain::key::{KeyRole, TenantScope};
use crate::domain::tenant::TenantId;
use crate::keys::KeyEntry;

/// What is kept of a longer user agent, in characters.
const USER_AGENT_CHARS_MAX: usize = 512;

/// The holder of a known key. The lock puts it into the request; cheap to clone.
#[derive(Clone)]
pub struct Caller {
    entry: Arc<KeyEntry>,
    /// The first foreign tenant that a handler found the request to name, for the lock to note. A key of all tenants
    /// cannot name one.
    foreign: Option<Arc<OnceLock<Option<TenantId>>>>,
}

impl Caller {
    /// The holder of this key.
    pub fn new(entry: Arc<KeyEntry>) -> Self {
        let foreign = (entry.key.tenants != TenantScope::All).then(Arc::default);
        Self { entry, foreign }
    }

    /// What it may do.
    pub fn role(&self) -> KeyRole {
        self.entry.key.role
    }

    /// Its tenants.
    pub fn scope(&self) -> &TenantScope {
        &self.entry.key.tenants
    }

    /// Whether it has some tenants only.
    pub fn is_scoped(&self) -> bool {
        self.foreign.is_some()
    }

    /// The key's id, as audit records have it.
    pub fn key_id(&self) -> String {
        self.entry.key.shown_id()
    }

    /// The key.
    pub(super) fn entry(&self) -> &Arc<KeyEntry> {
        &self.entry
    }

    /// Whether something of this tenant, or (`None`) of none, is the caller's to see; if not, that is noted.
    pub fn may_see(&self, tenant_id: Option<&TenantId>) -> bool {
        let Some(foreign) = &self.foreign else { return true };
        if self.scope().shows(tenant_id) {
            return true;
        }
        // Only the first is told of: the rest of a batch says no more.
        foreign.get_or_init(|| tenant_id.cloned());
        false
    }

    /// 404 for a tenant that is not the caller's, as though it did not exist.
    pub fn check(&self, tenant_id: &TenantId) -> Result<(), ApiError> {
        if self.may_see(Some(tenant_id)) { Ok(()) } else { Err(ApiError::unknown_tenant(unknown(tenant_id))) }
    }

    /// The event, if it is of a tenant of the caller's; for batches, of which the rest is taken.
    pub fn own(&self, event: UsageEvent) -> Result<UsageEvent, Fault> {
        match self.may_see(Some(&event.tenant_id)) {
            true => Ok(event),
            false => Err(Fault::whole("tenant_unknown", unknown(&event.tenant_id))),
        }
    }

    /// The foreign tenant that the request named, if it did.
    pub(super) fn named_foreign(&self) -> Option<&Option<TenantId>> {
        self.foreign.as_ref().and_then(|foreign| foreign.get())
    }
}

/// What is said of a tenant that does not exist.
pub fn unknown(tenant_id: &TenantId) -> String {
    format!("the tenant `{tenant_id}` is unknown")
}

impl<S: Sync + Send> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::internal("a handler asks for a caller behind a lock that asks for no key"))
    }
}

/// Who asks for a change, with the request it was asked by, for the audit record.
pub struct By(pub Actor);

impl<S: Sync + Send> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        Ok(Self(Origin::of(parts).actor(&caller)))
    }
}

/// Where a request came from; cheap to take along.
pub struct Origin {
    request_id: RequestId,
    user_agent: Option<HeaderValue>,
    address: Option<IpAddr>,
}

impl Origin {
    /// Of this request.
    pub fn of(parts: &Parts) -> Self {
        Self {
            request_id: RequestId::of(parts),
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            // The frame has decided whom to believe.
            address: Visit::of(&parts.extensions).and_then(|visit| visit.client),
        }
    }

    /// The caller with its request.
    pub fn actor(&self, caller: &Caller) -> Actor {
        let agent = self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()).filter(|agent| !agent.is_empty());
        Actor {
            name: Some(caller.entry.key.name.clone()),
            key_id: Some(caller.key_id()),
            ip_address: self.address.map(|address| address.to_string()),
            // What is no tab is visible ASCII by now.
            user_agent: agent.map(|agent| agent.replace('\t', " ").chars().take(USER_AGENT_CHARS_MAX).collect()),
            request_id: self.request_id.as_deref().map(str::to_owned),
        }
    }
}
