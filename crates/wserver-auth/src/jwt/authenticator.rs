//! JSON Web Tokens as an [`Authenticator`]: which claim is the user, and which limits the events.

use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tracing::debug;

use crate::jwt::claims::{patterns, user};
use crate::jwt::fault::{JwtFault, JwtRefusal};
use crate::jwt::verifier::JwtVerifier;
use crate::listen::{Authenticator, Credentials, Identity, Refusal};
use crate::scope::EventScope;

/// An [`Authenticator`] for JSON Web Tokens.
///
/// The user is in the claim `sub`, or in another of your choice. The identity expires with the
/// token, leeway included. The log says at level debug why a token was refused, without any part of
/// the token.
///
/// ```
/// use wserver_auth::{JwtAuthenticator, JwtKeys, JwtSettings, JwtVerifier};
///
/// let keys = JwtKeys::secret(b"thirty-two bytes at the very least")?;
/// let verifier = JwtVerifier::new(JwtSettings::for_audience(keys, ["push"]))?;
/// let authenticator = JwtAuthenticator::new(verifier).with_user_claim("uid");
/// # let _ = authenticator;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct JwtAuthenticator {
    verifier: JwtVerifier,
    user_claim: String,
    /// `None`: every event.
    events_claim: Option<String>,
}

impl JwtAuthenticator {
    /// A client with a token that `verifier` accepts may register every event of the user in `sub`.
    pub fn new(verifier: JwtVerifier) -> Self {
        Self { verifier, user_claim: "sub".to_owned(), events_claim: None }
    }

    /// Takes the user from this claim: a text, or a whole number.
    #[must_use]
    pub fn with_user_claim(mut self, claim: impl Into<String>) -> Self {
        self.user_claim = claim.into();
        self
    }

    /// Restricts the events to those that this claim lists: an array of patterns as in
    /// [`EventScope`], or one text of patterns separated by spaces. A token without the claim
    /// permits no event, so that an issuer that forgot it will notice.
    #[must_use]
    pub fn with_events_claim(mut self, claim: impl Into<String>) -> Self {
        self.events_claim = Some(claim.into());
        self
    }

    async fn judge(&self, token: &str, now: SystemTime) -> Result<Identity, JwtRefusal> {
        let verified = self.verifier.verify(token, now).await?;
        Ok(self.identity(&verified.claims)?.with_expires_at(verified.void_at))
    }

    /// The identity in these claims, without its expiry.
    pub(crate) fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, JwtFault> {
        let user = user(claims, &self.user_claim)?;
        let events = match &self.events_claim {
            None => EventScope::Any,
            Some(claim) => EventScope::only(patterns(claims, claim)?.unwrap_or_default()),
        };
        Ok(Identity::new(user).with_events(events))
    }

    pub(crate) fn verifier(&self) -> &JwtVerifier {
        &self.verifier
    }
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        self.judge(&credentials.token, SystemTime::now()).await.map_err(|refusal| match refusal {
            JwtRefusal::Fault(fault) => {
                debug!(%fault, peer = %credentials.peer, "token refused");
                match fault {
                    JwtFault::Expired { .. } => Refusal::Expired,
                    JwtFault::NotYetValid { .. } => Refusal::NotYetValid,
                    fault => Refusal::Faulty { fault: fault.as_str() },
                }
            }
            JwtRefusal::Unavailable(source) => Refusal::Unavailable { source },
        })
    }
}
