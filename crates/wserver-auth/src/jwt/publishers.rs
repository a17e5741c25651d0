//! JSON Web Tokens as a [`PushAuthorizer`]: what a publisher's token must say.

use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::Value;
use tracing::debug;

use crate::identity::{Method, PublisherId};
use crate::jwt::claims::patterns;
use crate::jwt::fault::{JwtFault, JwtRefusal};
use crate::jwt::verifier::JwtVerifier;
use crate::push::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};
use crate::scope::PushScope;

/// A [`PushAuthorizer`] for JSON Web Tokens.
///
/// The claims `users` and `events` of a publisher's token list the users and events it may push to:
/// each is an array of patterns as in [`PushScope`], or one text of patterns separated by spaces.
/// Both are mandatory (`["*"]` is everything), so that a client's token, which the same issuer may
/// have signed, never lets its holder push because of a missing claim. A separate audience for
/// publishers protects even better. `sub`, a text or a number, is the publisher's name in logs;
/// together with `iss` it is the publisher's [identity](Publisher::id), and without a `sub` the
/// token itself is.
///
/// A request presents the token as `Authorization: Bearer` or `X-API-Key`.
///
/// ```
/// use wserver_auth::{JwtKeys, JwtPublishers, JwtSettings, JwtVerifier};
///
/// let keys = JwtKeys::secret(b"thirty-two bytes at the very least")?;
/// let publishers =
///     JwtPublishers::new(JwtVerifier::new(JwtSettings::for_audience(keys, ["push-api"]))?);
/// # let _ = publishers;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct JwtPublishers {
    verifier: JwtVerifier,
}

impl JwtPublishers {
    /// A publisher with a token that `verifier` accepts may push what the token lists.
    pub fn new(verifier: JwtVerifier) -> Self {
        Self { verifier }
    }

    async fn judge(&self, token: &str, now: SystemTime) -> Result<Publisher, JwtRefusal> {
        let claims = self.verifier.verify(token, now).await?.claims;
        let listed = |claim: &str| {
            patterns(&claims, claim)?.ok_or_else(|| JwtFault::Missing { claim: claim.to_owned() })
        };
        let scope =
            PushScope::everything().with_users(listed("users")?).with_events(listed("events")?);
        let publisher = Publisher::new().with_scope(scope);
        Ok(match claims.get("sub") {
            None | Some(Value::Null) => {
                let id = PublisherId::new(Method::Token, [token.as_bytes()]);
                Publisher { id: Some(id), ..publisher }
            }
            Some(subject) => {
                // In JSON, a number differs from a text with the same digits.
                let parts = [claims.get("iss").unwrap_or(&Value::Null), subject];
                let parts = parts.map(ToString::to_string);
                let id = PublisherId::new(Method::Subject, parts.each_ref().map(String::as_bytes));
                let name = match subject {
                    Value::String(name) => Some(name.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                Publisher { id: Some(id), name, ..publisher }
            }
        })
    }
}

#[async_trait]
impl PushAuthorizer for JwtPublishers {
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        let token = request.api_key().ok_or(PushRefusal::Missing)?;
        self.judge(token, SystemTime::now()).await.map_err(|refusal| match refusal {
            JwtRefusal::Fault(fault) => {
                debug!(%fault, peer = %request.peer, "publisher's token refused");
                match fault {
                    JwtFault::Expired { .. } => PushRefusal::Expired,
                    JwtFault::NotYetValid { .. } => PushRefusal::NotYetValid,
                    _ => PushRefusal::Wrong,
                }
            }
            JwtRefusal::Unavailable(source) => PushRefusal::Unavailable { source },
        })
    }
}
