//! Your own backend as the authenticator: the server posts a token to it, and it says whose the
//! token is.
//!
//! This file limits the damage that a bad backend can do: how long a call takes, how many calls run
//! at once, how often it gets the same question, and for how long it is left alone after failures.

mod answer;
mod breaker;
mod cache;
mod permits;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT,
    HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{Method, StatusCode};
use serde_json::json;
use tracing::{debug, info, warn};
use wserver_outgoing::AskError;

use self::answer::{Denied, Nonsense, Verdict};
use self::breaker::{Breaker, Change};
use self::cache::{Cache, Digest, DigestKey};
use self::permits::{Peer, Permit, Permits};
use crate::endpoint::HttpEndpoint;
use crate::http_client::{Call, HttpClient, HttpError};
use crate::listen::{Authenticator, Credentials, Identity, Refusal};
use crate::publisher_key::NoRandomness;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Headers that must not be forwarded, because they describe one of the two requests and not the
/// client.
const NOT_FORWARDED: [HeaderName; 13] = [
    ACCEPT,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    USER_AGENT,
    HeaderName::from_static("keep-alive"),
];

/// How to call the backend. `Debug` shows no secret.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallbackSettings {
    /// The URL to which tokens are posted.
    pub endpoint: HttpEndpoint,
    /// The secret by which the backend recognises the server, sent as `Authorization: Bearer`. None
    /// by default.
    secret: Option<HeaderValue>,
    /// Headers of the handshake to forward, such as `Cookie`. None by default.
    pub forward_headers: Vec<HeaderName>,
    /// How long one call may take; 3 s by default. Together with `wait_max` it should be shorter
    /// than the timeout of an authentication; otherwise a failing backend looks the same as clients
    /// that disconnect.
    pub timeout: Duration,
    /// The most calls at once, of which one address gets at most three quarters; 64 by default, at
    /// least 1.
    pub concurrency_max: usize,
    /// The most registrations that wait for a free call; 1,024 by default. Beyond it, the address
    /// with the most waiting registrations has one refused as unavailable at once.
    pub waiting_max: usize,
    /// How long a registration waits before it is refused as unavailable; 1 s by default.
    pub wait_max: Duration,
    /// How long an identity is remembered, at most until it expires; 10 s by default, zero disables
    /// it. A revoked token works for this much longer in new registrations.
    pub cache_for: Duration,
    /// How long a refusal is remembered; 5 s by default, zero disables it.
    pub cache_refusals_for: Duration,
    /// How many identities are remembered, and as many refusals; 10,000 by default, about 200 bytes
    /// each, at most ten million. Beyond it the oldest are forgotten.
    pub cache_entries_max: usize,
    /// After consecutive failures for this many addresses, the backend is left alone; 5 by default,
    /// at least 1. If all clients come through one proxy, the server must trust that proxy to tell
    /// the addresses apart.
    pub failures_max: u32,
    /// How long it is left alone before one call tests whether it is back; 5 s by default, at most
    /// a day.
    pub rest: Duration,
}

impl CallbackSettings {
    /// Settings that post tokens to `endpoint`, with the defaults.
    pub fn new(endpoint: HttpEndpoint) -> Self {
        Self {
            endpoint,
            secret: None,
            forward_headers: Vec::new(),
            timeout: Duration::from_secs(3),
            concurrency_max: 64,
            waiting_max: 1024,
            wait_max: Duration::from_secs(1),
            cache_for: Duration::from_secs(10),
            cache_refusals_for: Duration::from_secs(5),
            cache_entries_max: 10_000,
            failures_max: 5,
            rest: Duration::from_secs(5),
        }
    }

    /// Sends this secret with each call.
    ///
    /// # Errors
    ///
    /// If the secret is empty, or a header cannot carry it, for example because of a line end from
    /// a file.
    pub fn with_secret(mut self, secret: &str) -> Result<Self, CallbackSettingsError> {
        let unsendable = secret.is_empty() || secret.trim() != secret;
        let mut value = HeaderValue::from_str(&format!("Bearer {secret}"))
            .map_err(|_not_quoted| CallbackSettingsError::Secret)?;
        if unsendable {
            return Err(CallbackSettingsError::Secret);
        }
        value.set_sensitive(true);
        self.secret = Some(value);
        Ok(self)
    }

    fn check(&self) -> Result<(), CallbackSettingsError> {
        let ranges = [
            ("concurrency_max", (1..=CALLS_MAX).contains(&self.concurrency_max), "1 to a million"),
            ("waiting_max", self.waiting_max <= CALLS_MAX, "at most a million"),
            ("cache_entries_max", self.cache_entries_max <= ENTRIES_MAX, "at most ten million"),
            ("failures_max", self.failures_max > 0, "at least 1"),
            ("timeout", !self.timeout.is_zero(), "longer than zero"),
            ("rest", self.rest <= REST_MAX, "at most a day"),
        ];
        if let Some((setting, _, range)) = ranges.into_iter().find(|(_, fits, _)| !fits) {
            return Err(CallbackSettingsError::OutOfRange { setting, range });
        }
        for header in &self.forward_headers {
            let name = header.as_str();
            if NOT_FORWARDED.contains(header) || name.starts_with("sec-websocket") {
                return Err(CallbackSettingsError::Header { header: header.clone() });
            }
        }
        if self.secret.is_some() && self.forward_headers.contains(&AUTHORIZATION) {
            return Err(CallbackSettingsError::TwoAuthorizations);
        }
        Ok(())
    }
}

/// The upper limit for calls and for waiting registrations: more than any machine has sockets.
const CALLS_MAX: usize = 1_000_000;

/// The upper limit for remembered answers: two gigabytes of them, and as many refusals.
const ENTRIES_MAX: usize = 10_000_000;

/// The upper limit for a rest: a longer one would be an outage of our own making.
const REST_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why settings do not make a callback authenticator. No variant holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackSettingsError {
    /// The secret is empty or cannot be sent.
    #[error(
        "the secret is empty, begins or ends with white space, or contains a character that a \
         header cannot carry, such as a line end or U+FEFF"
    )]
    Secret,
    /// A number is out of range.
    #[error("{setting} must be {range}")]
    OutOfRange {
        /// The name of it.
        setting: &'static str,
        /// The range that is allowed.
        range: &'static str,
    },
    /// A header must not be forwarded.
    #[error("{header} cannot be forwarded: it belongs to the handshake itself")]
    Header {
        /// The name of it.
        header: HeaderName,
    },
    /// The secret and a forwarded header both need the one `Authorization` header.
    #[error("authorization cannot be forwarded, because the secret is sent in that header")]
    TwoAuthorizations,
    /// The key of the cache could not be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// An [`Authenticator`] that asks a backend over HTTP.
///
/// It posts `{"token": "…", "event": "…"}` and understands:
///
/// | answer | meaning |
/// |---|---|
/// | `200` and `{"userId": "jack"}` | the token is jack's; a whole number will do too |
/// | … and `"expiresAt": 1893456000` | until then, in seconds since 1970 |
/// | … and `"events": ["order.*"]` | for these events only, as patterns of [`EventScope`] |
/// | `401`, `404` | the token is nobody's |
/// | `403` | the token is good, and not for this event |
/// | anything else, or nothing in time | nobody can tell: refused as unavailable |
///
/// [`EventScope`]: crate::EventScope
///
/// Answers are remembered for a short time, under a keyed digest of the token, the event and the
/// forwarded headers. After some consecutive failures the backend is left alone for a while; the
/// log says so once, and again when the backend is back. Failures are: no connection, no answer in
/// time, and 502, 503 and 504. All but the first count once per address, and any other answer shows
/// that the backend is well, so no client can have it left alone by a token that it does not like.
/// Addresses also share the calls fairly.
///
/// ```
/// use http::header::COOKIE;
/// use wserver_auth::{CallbackAuthenticator, CallbackSettings, HttpEndpoint};
///
/// let endpoint = HttpEndpoint::new("http://localhost:8000/auth/push")?;
/// let mut settings = CallbackSettings::new(endpoint).with_secret("a secret of both")?;
/// settings.forward_headers = vec![COOKIE];
/// let authenticator = CallbackAuthenticator::new(settings)?;
/// # let _ = authenticator;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CallbackAuthenticator {
    settings: CallbackSettings,
    client: HttpClient,
    permits: Permits,
    breaker: Breaker,
    /// The key of the digests under which answers are remembered. Each instance has its own, so
    /// that nobody can predict the digests.
    digest_key: DigestKey,
    identities: Cache<Arc<Identity>>,
    refusals: Cache<Denied>,
}

/// Why a call gives no decision.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Answer(#[from] Nonsense),
}

/// What a failed call can be due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// Only this token: the backend is there and answers.
    Token,
    /// A backend that is down or overloaded, or a token that takes it too long.
    Either,
    /// The backend: no token was sent yet.
    Backend,
}

impl CallError {
    fn blame(&self) -> Blame {
        match self {
            Self::Http(HttpError::Ask(AskError::Connect(_) | AskError::Tls(_))) => Blame::Backend,
            Self::Http(HttpError::Ask(AskError::TooLong { .. }) | HttpError::Encoded) => {
                Blame::Token
            }
            Self::Http(HttpError::Ask(_)) => Blame::Either,
            Self::Answer(Nonsense::Status(
                StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
            )) => Blame::Either,
            Self::Answer(_) => Blame::Token,
        }
    }
}

impl CallbackAuthenticator {
    /// An authenticator with these settings. It makes no call before it is asked.
    ///
    /// # Errors
    ///
    /// If a number is out of range, or a header cannot be forwarded.
    pub fn new(settings: CallbackSettings) -> Result<Self, CallbackSettingsError> {
        settings.check()?;
        Ok(Self {
            client: HttpClient::new(settings.endpoint.clone(), settings.concurrency_max.min(64)),
            permits: Permits::new(settings.concurrency_max, settings.waiting_max),
            breaker: Breaker::new(settings.failures_max, settings.rest),
            digest_key: DigestKey::new()?,
            identities: Cache::new(settings.cache_entries_max),
            refusals: Cache::new(settings.cache_entries_max),
            settings,
        })
    }

    /// Interprets the body of a backend's answer with status 200 at the time `now`. It serves the
    /// tests of a backend, and our own.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`] if the identity in it has expired, and [`Refusal::Unavailable`], with
    /// the reason, if the body is invalid.
    pub fn read_answer(body: &[u8], now: SystemTime) -> Result<Identity, Refusal> {
        match answer::body(body, now) {
            Ok(Verdict::Accepted(identity)) => Ok(identity),
            Ok(Verdict::Denied(denied)) => Err(denied.into()),
            Err(nonsense) => Err(Refusal::unavailable(nonsense)),
        }
    }

    fn remembered(&self, digest: &Digest) -> Option<Result<Identity, Refusal>> {
        let now = Instant::now();
        if let Some(identity) = self.identities.find(digest, now) {
            // The clock may have been set since.
            let valid = !identity.is_expired(SystemTime::now());
            return valid.then(|| Ok(Identity::clone(&identity)));
        }
        self.refusals.find(digest, now).map(|denied| Err(denied.into()))
    }

    async fn ask(&self, credentials: &Credentials, digest: Digest) -> Result<Identity, Refusal> {
        let peer = Peer::of(credentials.peer.ip());
        self.breaker.check(peer, Instant::now()).map_err(|_resting| self.resting())?;
        let _place = self.permit(peer).await?;
        let admission =
            self.breaker.admit(peer, Instant::now()).map_err(|_resting| self.resting())?;
        let host = self.client.host();
        let error = match self.call(credentials).await {
            Ok(verdict) => {
                self.note(admission.succeeded());
                self.remember(digest, &verdict);
                return match verdict {
                    Verdict::Accepted(identity) => Ok(identity),
                    Verdict::Denied(denied) => Err(denied.into()),
                };
            }
            Err(error) => error,
        };
        debug!(host, %error, "callback failed");
        let now = Instant::now();
        let change = match error.blame() {
            // The backend answers, whatever it thinks of this token.
            Blame::Token => admission.succeeded(),
            Blame::Either => admission.failed(now),
            Blame::Backend => admission.failed_for_all(now),
        };
        if change == Some(Change::Opened) {
            let (failures, rest) = (self.settings.failures_max, self.settings.rest);
            warn!(host, %error, failures, ?rest, "the callback backend keeps failing; calls to it \
                                                  are suspended");
        } else {
            self.note(change);
        }
        Err(Refusal::unavailable(format!("the callback backend at {host} failed: {error}")))
    }

    fn note(&self, change: Option<Change>) {
        if change == Some(Change::Closed) {
            info!(host = self.client.host(), "the callback backend answers again");
        }
    }

    fn resting(&self) -> Refusal {
        let host = self.client.host();
        Refusal::unavailable(format!(
            "the callback backend at {host} failed before; calls to it \
                                      are suspended"
        ))
    }

    /// A place for a call, for which it waits if there is room to wait.
    async fn permit(&self, peer: Peer) -> Result<Permit<'_>, Refusal> {
        let permit = self.permits.take(peer, self.settings.wait_max).await;
        permit.map_err(|_busy| {
            Refusal::unavailable(
                "too many calls to the callback backend are in \
                                                     progress",
            )
        })
    }

    async fn call(&self, credentials: &Credentials) -> Result<Verdict, CallError> {
        let body = json!({"token": credentials.token, "event": credentials.event});
        let call = Call {
            method: Method::POST,
            headers: self.headers(credentials),
            body: Bytes::from(body.to_string()),
            timeout: self.settings.timeout,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = self.client.call(&call).await?;
        Ok(answer::read(&answer, SystemTime::now())?)
    }

    fn headers(&self, credentials: &Credentials) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        for (name, value) in self.forwarded(credentials) {
            headers.append(name, value.clone());
        }
        if let Some(secret) = &self.settings.secret {
            headers.insert(AUTHORIZATION, secret.clone());
        }
        headers
    }

    fn forwarded<'a>(
        &'a self,
        credentials: &'a Credentials,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        self.settings.forward_headers.iter().flat_map(|name| {
            credentials.headers.get_all(name).into_iter().map(move |value| (name, value))
        })
    }

    /// A digest of everything that the answer depends on.
    fn digest(&self, credentials: &Credentials) -> Digest {
        let event = credentials.event.as_deref();
        let fixed = [credentials.token.as_bytes(), event.unwrap_or_default().as_bytes()];
        let forwarded = self.forwarded(credentials);
        let forwarded =
            forwarded.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        let asked: [&[u8]; 1] = [&[u8::from(event.is_some())]];
        self.digest_key.digest(asked.into_iter().chain(fixed).chain(forwarded))
    }

    fn remember(&self, digest: Digest, verdict: &Verdict) {
        let now = Instant::now();
        match verdict {
            Verdict::Accepted(identity) => {
                let left = identity
                    .expires_at
                    .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
                let keep = left.unwrap_or(Duration::MAX).min(self.settings.cache_for);
                self.identities.insert(digest, Arc::new(identity.clone()), now, keep);
            }
            Verdict::Denied(denied) => {
                self.refusals.insert(digest, *denied, now, self.settings.cache_refusals_for);
            }
        }
    }
}

#[async_trait]
impl Authenticator for CallbackAuthenticator {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        let digest = self.digest(&credentials);
        match self.remembered(&digest) {
            Some(remembered) => remembered,
            None => self.ask(&credentials, digest).await,
        }
    }

    fn handshake_headers(&self) -> Vec<HeaderName> {
        self.settings.forward_headers.clone()
    }
}

impl fmt::Debug for CallbackAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackAuthenticator")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
