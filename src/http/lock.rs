//! The lock before each route: who asks is found out before the body is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use tower::{Layer, Service};

use super::auth::{Keys, Role, TenantCheck};
use super::caller::{Caller, Origin};
use super::error::ApiError;
use super::frame::Visit;
use super::params::segment;
use crate::domain::key::KeyRole;
use crate::domain::tenant::TenantId;
use crate::keys::{Refused, RefusedFor};

/// The lock of one route.
pub struct Lock {
    /// What opens it.
    pub keys: Keys,
    /// What the route asks of its caller.
    pub role: Role,
    /// Where its tenant is checked.
    pub tenants: TenantCheck,
    /// Where the route stands in the table.
    pub place: usize,
    /// The route's method.
    pub method: &'static str,
    /// The route's pattern.
    pub path: &'static str,
}

/// Puts a [`Lock`] before a route.
#[derive(Clone)]
pub struct LockLayer(pub Arc<Lock>);

impl<S> Layer<S> for LockLayer {
    type Service = Locked<S>;

    fn layer(&self, inner: S) -> Locked<S> {
        Locked { lock: Arc::clone(&self.0), inner }
    }
}

/// A route behind its lock. Runs before the body is read: finds out who asks, refuses, or lets the request in with its
/// [`Caller`].
#[derive(Clone)]
pub struct Locked<S> {
    lock: Arc<Lock>,
    inner: S,
}

/// What becomes of a request at a lock.
pub enum AtLock<F> {
    /// It is let in, and there is nothing to look after.
    In(F),
    /// It is refused; `None` once that is told.
    Refused(Option<Box<Response>>),
    /// It is of a key of some tenants, whose it names is seen while it runs; or of too small a role, which is noted.
    Watched(Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>),
}

impl<F: Future<Output = Result<Response, Infallible>> + Unpin> Future for AtLock<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::In(running) => Pin::new(running).poll(context),
            Self::Refused(answer) => {
                let answer = answer.take().map(|answer| *answer);
                Poll::Ready(Ok(
                    answer.unwrap_or_else(|| ApiError::internal("an answer was asked for twice").into_response())
                ))
            }
            Self::Watched(running) => running.as_mut().poll(context),
        }
    }
}

impl<S> Service<Request> for Locked<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Unpin + Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = AtLock<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> AtLock<S::Future> {
        if let Some(visit) = Visit::of(request.extensions())
            && request.method() == self.lock.method
        {
            visit.found(self.lock.place);
        }
        match self.lock.admit(request.headers()) {
            Err(refused) => AtLock::Refused(Some(Box::new(refused.into_response()))),
            Ok(None) => AtLock::In(self.inner.call(request)),
            Ok(Some((caller, role))) if caller.role().can(role) && !caller.is_scoped() => {
                request.extensions_mut().insert(caller);
                AtLock::In(self.inner.call(request))
            }
            Ok(Some((caller, role))) => {
                let (lock, inner) = (Arc::clone(&self.lock), self.inner.clone());
                AtLock::Watched(Box::pin(async move { Ok(lock.watch(caller, role, request, inner).await) }))
            }
        }
    }
}

impl Lock {
    /// Who asks, and the role that is needed; `None` where no key is.
    fn admit(&self, headers: &HeaderMap) -> Result<Option<(Caller, KeyRole)>, ApiError> {
        match self.role {
            Role::Open => Ok(None),
            Role::CronSecret => self.keys.admit_cron(headers).map(|()| None),
            Role::Viewer | Role::Service | Role::Support | Role::Admin => {
                let caller = self.keys.authenticate(headers)?;
                Ok(self.role.of_key().map(|role| (caller, role)))
            }
        }
    }

    /// Lets a request in, or refuses it, of a key of some tenants or of too small a role; what is refused is noted.
    async fn watch<S>(&self, caller: Caller, role: KeyRole, request: Request, mut inner: S) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let (mut parts, body) = request.into_parts();
        let origin = Origin::of(&parts);
        if !caller.role().can(role) || (self.tenants == TenantCheck::All && caller.is_scoped()) {
            self.note(&caller, &origin, RefusedFor::Role);
            return ApiError::forbidden().into_response();
        }
        if self.tenants == TenantCheck::Path
            && caller.is_scoped()
            && let Some(tenant_id) = path_tenant(&mut parts).await
            && let Err(error) = caller.check(&tenant_id)
        {
            self.note(&caller, &origin, RefusedFor::Tenant(Some(tenant_id)));
            return error.into_response();
        }
        parts.extensions.insert(caller.clone());
        let response = inner.call(Request::from_parts(parts, body)).await.unwrap_or_else(|never| match never {});
        if let Some(tenant_id) = caller.named_foreign() {
            self.note(&caller, &origin, RefusedFor::Tenant(tenant_id.clone()));
        }
        response
    }

    fn note(&self, caller: &Caller, origin: &Origin, why: RefusedFor) {
        let (endpoint, actor) = (format!("{} {}", self.method, self.path), origin.actor(caller));
        self.keys.note_refusal(caller.entry(), Refused { endpoint, why, actor });
    }
}

/// The tenant that the path names; what cannot be one is left to the handler, which says so.
async fn path_tenant(parts: &mut Parts) -> Option<TenantId> {
    segment(parts, &(), "tenant").await.ok()?.parse().ok()
}
