//! Who may come in: keys compared in constant time, and the role each route asks for.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::error::ApiError;

/// The header of the cron job's door.
pub const CRON_SECRET_HEADER: &str = "x-cron-secret";

/// What a route asks of its caller. Until keys have roles of their own, the admin key has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Open,
    /// Reads its tenants.
    Viewer,
    /// Records and reserves.
    Service,
    /// Everything.
    Admin,
    /// The cron job's own secret.
    CronSecret,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Viewer => "viewer",
            Self::Service => "service",
            Self::Admin => "admin",
            Self::CronSecret => "cron secret",
        })
    }
}

/// A secret that is never shown; an empty one matches nothing.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Keeps the secret's bytes.
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().into())
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, given: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.ct_eq(given))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The keys that open the routes.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Opens everything but the cron door.
    pub admin: Secret,
    /// Opens the cron door; unset or empty closes it.
    pub cron: Option<Secret>,
}

impl Keys {
    /// Whether these headers have what `role` asks for.
    pub fn admit(&self, role: Role, headers: &HeaderMap) -> Result<(), ApiError> {
        match role {
            Role::Open => Ok(()),
            Role::Viewer | Role::Service | Role::Admin => match bearer(headers) {
                Some(key) if self.admin.matches(key) => Ok(()),
                _ => Err(ApiError::unauthorized()),
            },
            Role::CronSecret => {
                let given = headers.get(CRON_SECRET_HEADER).map_or(&b""[..], |value| value.as_bytes());
                match &self.cron {
                    Some(secret) if secret.matches(given) => Ok(()),
                    _ => Err(ApiError::wrong_cron_secret()),
                }
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// The lock of one route: runs before the body is read.
pub async fn lock(State((keys, role)): State<(Keys, Role)>, request: Request, next: Next) -> Response {
    match keys.admit(role, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    fn keys(admin: &str, cron: Option<&str>) -> Keys {
        Keys { admin: Secret::new(admin), cron: cron.map(Secret::new) }
    }

    #[test]
    fn only_the_exact_key_opens() {
        for (admin, given, opens) in [
            ("k3y", "Bearer k3y", true),
            ("k3y", "bearer k3y", true),
            ("k3y", "Bearer k3", false),
            ("k3y", "Bearer k3yy", false),
            ("k3y", "Bearer K3Y", false),
            ("k3y", "Basic k3y", false),
            ("k3y", "k3y", false),
            ("k3y", "Bearer ", false),
            ("", "Bearer ", false),
            ("", "Bearer", false),
        ] {
            for role in [Role::Viewer, Role::Service, Role::Admin] {
                let admitted = keys(admin, None).admit(role, &with("authorization", given)).is_ok();
                assert_eq!(admitted, opens, "{admin:?} {given:?}");
            }
        }
        assert!(keys("k3y", None).admit(Role::Admin, &HeaderMap::new()).is_err());
        assert!(keys("k3y", None).admit(Role::Open, &HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_wrong_an_empty_and_an_unset_cron_secret_keep_the_door_closed() {
        for (cron, given, opens) in [
            (Some("s3cret"), "s3cret", true),
            (Some("s3cret"), "s3cre", false),
            (Some("s3cret"), "", false),
            (Some(""), "", false),
            (None, "", false),
            (None, "s3cret", false),
        ] {
            let admitted = keys("k3y", cron).admit(Role::CronSecret, &with(CRON_SECRET_HEADER, given)).is_ok();
            assert_eq!(admitted, opens, "{cron:?} {given:?}");
        }
        let admin = with("authorization", "Bearer k3y");
        let refused = keys("k3y", Some("s3cret")).admit(Role::CronSecret, &admin).unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.message()), (401, "Unauthorized"));
        assert!(!format!("{:?}", keys("k3y", Some("s3cret"))).contains("3"), "a secret is never shown");
    }
}
