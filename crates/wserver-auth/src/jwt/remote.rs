//! Keys from a URL: fetched when they are needed, cached, renewed, and kept while the issuer is
//! unreachable.
//!
//! There is no background task: every caller that needs the keys polls the one fetch in progress.
//! The fetch is shared and belongs to no caller, so a caller that goes away, because its client
//! disconnects, neither ends it nor leaves a lock behind; the next caller continues it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tracing::{info, warn};

use crate::BackendError;
use crate::endpoint::HttpEndpoint;
use crate::http_client::{Call, HttpClient};
use crate::jwt::fault::{JwtFault, JwtRefusal};
use crate::jwt::key::{KeySet, Secrets};

/// How long a caller waits for a renewal if the old keys would do.
const RENEWAL_WAIT: Duration = Duration::from_secs(1);

/// The URL of an issuer's keys, and how often to fetch them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwksUrl {
    /// The issuer's key set.
    pub endpoint: HttpEndpoint,
    /// How long one fetch may take; 5 s by default. It should be shorter than the timeout of an
    /// authentication.
    pub timeout: Duration,
    /// The longest set that is read; 256 KiB by default, while issuers have about two.
    pub bytes_max: usize,
    /// Keys older than this are renewed when they are next needed; 10 minutes by default.
    pub renew_after: Duration,
    /// The minimum time between two fetches, even if tokens name unknown keys; 10 s by default.
    pub fetch_interval_min: Duration,
    /// Keys older than this are no longer used: the issuer has been unreachable for so long that it
    /// may have revoked a key. A day by default.
    pub stale_max: Duration,
}

impl JwksUrl {
    /// Settings that fetch keys from `endpoint`, with the defaults.
    pub fn new(endpoint: HttpEndpoint) -> Self {
        Self {
            endpoint,
            timeout: Duration::from_secs(5),
            bytes_max: 256 * 1024,
            renew_after: Duration::from_secs(10 * 60),
            fetch_interval_min: Duration::from_secs(10),
            stale_max: Duration::from_secs(24 * 60 * 60),
        }
    }
}

pub(crate) struct RemoteKeys {
    settings: JwksUrl,
    client: Arc<HttpClient>,
    /// Written by callers and by the fetch when it ends; never held while anything waits.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Kept>,
    /// The fetch in progress. It removes itself when it ends.
    fetch: Option<Fetch>,
    /// When the last fetch ended, and what went wrong.
    ended: Option<(Instant, Result<(), Arc<str>>)>,
}

#[derive(Clone)]
struct Kept {
    set: Arc<KeySet>,
    fetched_at: Instant,
}

type Fetch = Shared<BoxFuture<'static, Result<(), Arc<str>>>>;

/// What a caller does about the current keys.
enum Plan {
    Use(Arc<KeySet>),
    /// Renews them, but uses the old ones if that takes long.
    Renew(Arc<KeySet>, Fetch),
    /// There are no usable keys before this fetch ends.
    Await(Fetch),
    /// There are no usable keys, and it is too early to try again.
    Fail(Arc<str>),
}

impl RemoteKeys {
    pub(crate) fn new(settings: JwksUrl) -> Arc<Self> {
        let client = Arc::new(HttpClient::new(settings.endpoint.clone(), 0));
        Arc::new(Self { settings, client, state: Mutex::default() })
    }

    /// Applies `verdict` to the keys, and to new ones if it finds no key among the old.
    pub(crate) async fn judge<T>(
        self: &Arc<Self>,
        kid: Option<&str>,
        verdict: impl Fn(&KeySet) -> Result<T, JwtFault> + Send + Sync,
    ) -> Result<T, JwtRefusal> {
        let set = self.keys().await.map_err(|why| unavailable(&why))?;
        let fault = match verdict(&set) {
            Ok(accepted) => return Ok(accepted),
            Err(fault) => fault,
        };
        // Only their signatures distinguish keys without names.
        let perhaps_newer = match &fault {
            JwtFault::KeyUnknown | JwtFault::KeyAmbiguous | JwtFault::AlgorithmNotPermitted => true,
            JwtFault::Signature => kid.is_none(),
            _ => false,
        };
        if !perhaps_newer {
            return Err(fault.into());
        }
        let renewed = match self.fetch_unless_just_done(Instant::now()) {
            Ok(fetch) => fetch.await,
            Err(done) => done,
        };
        renewed.map_err(|why| unavailable(&why))?;
        match self.current() {
            Some(newer) if !Arc::ptr_eq(&newer, &set) => Ok(verdict(&newer)?),
            _ => Err(fault.into()),
        }
    }

    /// Fetches the keys if there are none yet.
    pub(crate) async fn keys(self: &Arc<Self>) -> Result<Arc<KeySet>, Arc<str>> {
        match self.plan(Instant::now()) {
            Plan::Use(set) => Ok(set),
            Plan::Fail(why) => Err(why),
            Plan::Renew(old, fetch) => {
                // Whether the fetch succeeded, failed or is not done yet: the current keys are
                // used.
                let _ended = tokio::time::timeout(RENEWAL_WAIT, fetch).await;
                Ok(self.current().unwrap_or(old))
            }
            Plan::Await(fetch) => {
                fetch.await?;
                self.current().ok_or_else(|| "the keys are gone".into())
            }
        }
    }

    fn plan(self: &Arc<Self>, now: Instant) -> Plan {
        let kept = self.lock().keys.clone();
        let age = |kept: &Kept| now.saturating_duration_since(kept.fetched_at);
        match kept.filter(|kept| age(kept) < self.settings.stale_max) {
            Some(kept) if age(&kept) < self.settings.renew_after => Plan::Use(kept.set),
            Some(kept) => match self.fetch_unless_just_done(now) {
                Ok(fetch) => Plan::Renew(kept.set, fetch),
                Err(_done) => Plan::Use(kept.set),
            },
            None => match self.fetch_unless_just_done(now) {
                Ok(fetch) => Plan::Await(fetch),
                Err(Err(why)) => Plan::Fail(why),
                Err(Ok(())) => Plan::Fail("the keys are too old".into()),
            },
        }
    }

    /// The fetch in progress, or a new one; or the result of the last one, if that ended a moment
    /// ago.
    fn fetch_unless_just_done(
        self: &Arc<Self>,
        now: Instant,
    ) -> Result<Fetch, Result<(), Arc<str>>> {
        let mut state = self.lock();
        if let Some(fetch) = &state.fetch {
            return Ok(fetch.clone());
        }
        if let Some((ended, outcome)) = &state.ended
            && now.saturating_duration_since(*ended) < self.settings.fetch_interval_min
        {
            return Err(outcome.clone());
        }
        let (client, settings) = (Arc::clone(&self.client), self.settings.clone());
        // The fetch must not own the state that owns it.
        let keys = Arc::downgrade(self);
        let fetch = async move {
            let fetched = fetch(&client, &settings).await;
            keys.upgrade().ok_or("the keys are gone")?.finish(fetched)
        };
        let fetch = fetch.boxed().shared();
        state.fetch = Some(fetch.clone());
        Ok(fetch)
    }

    fn finish(&self, fetched: Result<KeySet, String>) -> Result<(), Arc<str>> {
        let now = Instant::now();
        let mut state = self.lock();
        state.fetch = None;
        let host = self.client.host();
        let outcome = match fetched {
            Ok(set) => {
                let old = state.keys.as_ref().map(|kept| kept.set.names());
                if old != Some(set.names()) {
                    info!(host, keys = ?set.names(), "the JWKS has new keys");
                }
                state.keys = Some(Kept { set: Arc::new(set), fetched_at: now });
                Ok(())
            }
            Err(error) => {
                match state.keys.as_ref().map(|kept| now - kept.fetched_at) {
                    Some(age) => {
                        warn!(host, %error, ?age, "could not fetch the JWKS; the old keys stay in \
                                                   use until stale_max");
                    }
                    None => warn!(host, %error, "could not fetch the JWKS; there are no keys yet"),
                }
                Err(format!("could not fetch the JWKS from {host}: {error}").into())
            }
        };
        state.ended = Some((now, outcome.clone()));
        outcome
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        self.lock().keys.as_ref().map(|kept| Arc::clone(&kept.set))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(client: &HttpClient, settings: &JwksUrl) -> Result<KeySet, String> {
    let mut headers = HeaderMap::new();
    let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
    headers.insert(ACCEPT, accept);
    let call = Call {
        method: Method::GET,
        headers,
        body: Bytes::new(),
        timeout: settings.timeout,
        answer_bytes_max: settings.bytes_max,
    };
    let answer = client.call(&call).await.map_err(|error| error.to_string())?;
    match answer.status {
        StatusCode::OK => {
            KeySet::parse(&answer.body, Secrets::Refused).map_err(|error| error.to_string())
        }
        status if status.is_redirection() => {
            Err(format!("the answer is a redirect ({status}), which the server does not follow"))
        }
        status => Err(format!("the answer is {status}")),
    }
}

fn unavailable(why: &str) -> JwtRefusal {
    JwtRefusal::Unavailable(BackendError::from(why))
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("settings", &self.settings).finish_non_exhaustive()
    }
}
