//! Combines several methods: the first that accepts wins.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::HeaderName;

use crate::listen::{Authenticator, Credentials, Identity, Refusal};
use crate::push::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};

/// Asks several authenticators in turn; the first that accepts wins.
///
/// Put methods first that are cheap and give definite answers. If none accepts, the refusal is the
/// most informative one: [`Unavailable`](Refusal::Unavailable), because the method that could not
/// answer might have accepted, then [`Forbidden`](Refusal::Forbidden),
/// [`Expired`](Refusal::Expired), [`NotYetValid`](Refusal::NotYetValid),
/// [`Faulty`](Refusal::Faulty), and [`Unknown`](Refusal::Unknown) last.
///
/// ```
/// use std::sync::Arc;
/// use wserver_auth::{AnyOf, Identity, Refusal, StaticTokens, authenticate_with};
///
/// let sessions = authenticate_with(|_| async { Err::<Identity, _>(Refusal::Unknown) });
/// let either = AnyOf::new().or(StaticTokens::new([("aaa", "jack")])?).or(sessions);
/// # let _ = either;
/// # Ok::<(), wserver_auth::TokenListError>(())
/// ```
#[derive(Clone, Default)]
pub struct AnyOf {
    authenticators: Vec<Arc<dyn Authenticator>>,
}

impl AnyOf {
    /// An empty combination, which refuses everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, which is asked after the others.
    #[must_use]
    pub fn or(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticators.push(Arc::new(authenticator));
        self
    }
}

#[async_trait]
impl Authenticator for AnyOf {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        let mut told = Refusal::Unknown;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(credentials.clone()).await {
                Ok(identity) => return Ok(identity),
                Err(refusal) if weight(&refusal) > weight(&told) => told = refusal,
                Err(_says_less) => {}
            }
        }
        Err(told)
    }

    /// The headers that any of them asks for, each once.
    fn handshake_headers(&self) -> Vec<HeaderName> {
        let mut headers = Vec::new();
        for header in self.authenticators.iter().flat_map(|it| it.handshake_headers()) {
            if !headers.contains(&header) {
                headers.push(header);
            }
        }
        headers
    }

    fn is_open(&self) -> bool {
        self.authenticators.iter().any(|authenticator| authenticator.is_open())
    }
}

fn weight(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::Unknown => 0,
        Refusal::Faulty { .. } => 1,
        Refusal::NotYetValid => 2,
        Refusal::Expired => 3,
        Refusal::Forbidden => 4,
        Refusal::Unavailable { .. } => 5,
    }
}

impl fmt::Debug for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyOf").field("len", &self.authenticators.len()).finish_non_exhaustive()
    }
}

/// Asks several push authorisers in turn; the first that accepts wins.
///
/// If none accepts, the refusal is the most informative one. A publisher that pushes [too
/// often](PushRefusal::RateExceeded) has been authenticated, so no other authoriser is asked.
///
/// ```
/// use wserver_auth::{AnyOfPush, PublisherEntry, PublisherKey, PublisherKeys, StaticPushKeys};
///
/// let named = PublisherEntry::new("shop", PublisherKey::generate()?.hash());
/// let either = AnyOfPush::new()
///     .or(StaticPushKeys::new(["6f1e0c2b9a7d4411"])?)
///     .or(PublisherKeys::new([named])?);
/// # let _ = either;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct AnyOfPush {
    authorizers: Vec<Arc<dyn PushAuthorizer>>,
}

impl AnyOfPush {
    /// An empty combination, which refuses everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, which is asked after the others.
    #[must_use]
    pub fn or(mut self, authorizer: impl PushAuthorizer) -> Self {
        self.authorizers.push(Arc::new(authorizer));
        self
    }
}

#[async_trait]
impl PushAuthorizer for AnyOfPush {
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        let mut told = PushRefusal::Missing;
        for authorizer in &self.authorizers {
            match authorizer.authorize(request.clone()).await {
                Ok(publisher) => return Ok(publisher),
                Err(refusal @ PushRefusal::RateExceeded { .. }) => return Err(refusal),
                Err(refusal) if push_weight(&refusal) > push_weight(&told) => told = refusal,
                Err(_says_less) => {}
            }
        }
        Err(told)
    }

    fn is_open(&self) -> bool {
        self.authorizers.iter().any(|authorizer| authorizer.is_open())
    }
}

fn push_weight(refusal: &PushRefusal) -> u8 {
    match refusal {
        PushRefusal::Missing => 0,
        PushRefusal::Wrong => 1,
        PushRefusal::NotYetValid => 2,
        PushRefusal::Expired => 3,
        PushRefusal::Unavailable { .. } => 4,
        PushRefusal::RateExceeded { .. } | PushRefusal::BeyondBurst { .. } => 5,
    }
}

impl fmt::Debug for AnyOfPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyOfPush").field("len", &self.authorizers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use http::header::{AUTHORIZATION, COOKIE};

    use super::*;
    use crate::testing::answer;
    use crate::{OpenAuthenticator, OpenPush, authenticate_with, authorize_with};

    fn refusal(label: &str) -> Refusal {
        match label {
            "expired" => Refusal::Expired,
            "not_yet_valid" => Refusal::NotYetValid,
            "forbidden" => Refusal::Forbidden,
            "unavailable" => Refusal::unavailable("down"),
            _ => Refusal::Unknown,
        }
    }

    fn check(labels: &[&'static str], expected: &str) {
        let mut any = AnyOf::new();
        for &label in labels {
            any = any.or(authenticate_with(move |_| async move {
                match label.strip_prefix('=') {
                    Some(user) => Ok(Identity::new(user)),
                    None => Err(refusal(label)),
                }
            }));
        }
        let credentials = Credentials::new("t", "10.0.0.1:80".parse().unwrap());
        let told = match answer(any.authenticate(credentials)) {
            Ok(identity) => identity.user,
            Err(refusal) => refusal.as_str().to_owned(),
        };
        assert_eq!(told, expected, "{labels:?}");
    }

    #[test]
    fn the_first_that_accepts_wins() {
        check(&[], "unknown");
        check(&["unknown", "=jack", "=rose"], "jack");
        check(&["unavailable", "expired", "=jack"], "jack");
        check(&["=jack", "unavailable"], "jack");
    }

    #[test]
    fn of_refusals_the_one_that_says_most_is_told() {
        check(&["unknown", "unavailable", "unknown"], "unavailable");
        check(&["expired", "unavailable", "forbidden"], "unavailable");
        check(&["unknown", "expired", "not_yet_valid"], "expired");
        check(&["expired", "forbidden"], "forbidden");
        check(&["not_yet_valid", "unknown"], "not_yet_valid");
    }

    #[test]
    fn headers_and_openness_are_those_of_all() {
        let reading = |headers: Vec<HeaderName>| {
            authenticate_with(|_| async { Err(Refusal::Unknown) }).reading(headers)
        };
        let any = AnyOf::new()
            .or(reading(vec![COOKIE]))
            .or(reading(vec![]))
            .or(reading(vec![AUTHORIZATION, COOKIE]));
        assert_eq!(any.handshake_headers(), [COOKIE, AUTHORIZATION]);
        assert!(!any.is_open());
        assert!(any.or(OpenAuthenticator).is_open());
        assert!(!AnyOfPush::new().is_open() && AnyOfPush::new().or(OpenPush).is_open());
    }

    fn push_refusal(label: &str) -> PushRefusal {
        match label {
            "wrong" => PushRefusal::Wrong,
            "expired" => PushRefusal::Expired,
            "not_yet_valid" => PushRefusal::NotYetValid,
            "unavailable" => PushRefusal::unavailable("down"),
            "rate_exceeded" => PushRefusal::RateExceeded { wait: Duration::from_secs(1) },
            _ => PushRefusal::Missing,
        }
    }

    #[test]
    fn publishers_alike() {
        for (labels, expected) in [
            (&[][..], "missing"),
            (&["missing", "wrong"], "wrong"),
            (&["wrong", "=shop"], "shop"),
            (&["wrong", "unavailable", "expired"], "unavailable"),
            (&["not_yet_valid", "expired", "wrong"], "expired"),
            (&["rate_exceeded", "=shop"], "rate_exceeded"),
        ] {
            let mut any = AnyOfPush::new();
            for &label in labels {
                any = any.or(authorize_with(move |_| async move {
                    match label.strip_prefix('=') {
                        Some(name) => Ok(Publisher::new().with_name(name)),
                        None => Err(push_refusal(label)),
                    }
                }));
            }
            let request = PushCredentials::new(HeaderMap::new(), "10.0.0.1:80".parse().unwrap());
            let told = match answer(any.authorize(request)) {
                Ok(publisher) => publisher.name.unwrap(),
                Err(refusal) => refusal.as_str().to_owned(),
            };
            assert_eq!(told, expected, "{labels:?}");
        }
    }
}
