//! Where the keys come from that verify tokens: a secret, a file, a URL.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "jwks")]
use crate::BackendError;
use crate::jwt::algorithm::{self, JwtAlgorithm};
use crate::jwt::fault::{JwtFault, JwtRefusal};
use crate::jwt::key::{JwtKeyError, Key, KeySet, Secrets};
#[cfg(feature = "jwks")]
use crate::jwt::remote::{JwksUrl, RemoteKeys};

/// Where the keys come from that verify tokens. Cloning is cheap: clones share the keys.
///
/// Each key permits the algorithms of its kind and no other, so that nobody can pass a public key
/// off as a shared secret. `Debug` shows no secret.
#[derive(Clone)]
pub struct JwtKeys {
    source: Source,
    /// What was asked for with [`only`](Self::only); empty: whatever the key permits.
    only: Arc<[JwtAlgorithm]>,
}

impl JwtKeys {
    /// One shared secret, for HS256, HS384 and HS512. These are its bytes: a text that says them in
    /// base64 or in hexadecimal is to be decoded before.
    ///
    /// # Errors
    ///
    /// When it is shorter than [`JWT_SECRET_BYTES_MIN`](crate::JWT_SECRET_BYTES_MIN).
    pub fn secret(secret: &[u8]) -> Result<Self, JwtKeyError> {
        Ok(Self::fixed(KeySet::one(Key::secret(secret)?)))
    }

    /// One public key in PEM form, as OpenSSL writes it: `BEGIN PUBLIC KEY`, or `BEGIN RSA PUBLIC
    /// KEY`. RSA of 2048 to 8192 bits, P-256, P-384, and Ed25519.
    ///
    /// # Errors
    ///
    /// When it is something else, such as a certificate or, by mistake, the private key.
    pub fn public_key_pem(pem: &str) -> Result<Self, JwtKeyError> {
        Ok(Self::fixed(KeySet::one(Key::from_pem(pem)?)))
    }

    /// The keys of a JSON Web Key Set (RFC 7517).
    ///
    /// Keys of unknown kinds, and those that are not for signatures, are passed over, as the RFC
    /// asks. A shared secret may be among the others, so the text may be a secret itself.
    ///
    /// # Errors
    ///
    /// When the text is no such set, or no key of it can be used; the error says why the last one
    /// could not.
    pub fn jwks(text: &str) -> Result<Self, JwtKeyError> {
        Ok(Self::fixed(KeySet::parse(text.as_bytes(), Secrets::Allowed)?))
    }

    /// The keys of an issuer's JSON Web Key Set, fetched when they are first needed, and renewed
    /// when they are old and when a token names a key that is not among them.
    ///
    /// A set from a URL may hold no shared secret: whoever can fetch it could make tokens. While the
    /// issuer cannot be reached the keys are kept on, up to [`JwksUrl::stale_max`]; without any,
    /// registrations are refused as unavailable.
    #[cfg(feature = "jwks")]
    pub fn jwks_url(url: JwksUrl) -> Self {
        Self { source: Source::Url(RemoteKeys::new(url)), only: Arc::default() }
    }

    /// Fetches keys that come from a URL, if there are none yet, so that a start-up can tell
    /// whether they can be had. Keys of other origins are there already.
    ///
    /// # Errors
    ///
    /// When they cannot be fetched. They are tried for again when they are needed.
    #[cfg(feature = "jwks")]
    pub async fn prefetch(&self) -> Result<(), BackendError> {
        match &self.source {
            Source::Fixed(_) => Ok(()),
            Source::Url(keys) => match keys.keys().await {
                Ok(_keys) => Ok(()),
                Err(why) => Err(BackendError::from(&*why)),
            },
        }
    }

    /// The same keys, for these algorithms only. Each key still permits its own kind alone.
    ///
    /// # Errors
    ///
    /// When the list is empty, and when an algorithm of it fits none of the keys: it is a mistake
    /// that would show only later.
    pub fn only(
        mut self,
        algorithms: impl IntoIterator<Item = JwtAlgorithm>,
    ) -> Result<Self, JwtKeyError> {
        let only: Arc<[JwtAlgorithm]> = algorithms.into_iter().collect();
        if only.is_empty() {
            return Err(JwtKeyError::NoAlgorithms);
        }
        let permitted = match &self.source {
            Source::Fixed(set) => set.algorithms(),
            #[cfg(feature = "jwks")]
            Source::Url(_) => {
                JwtAlgorithm::all().filter(|it| !algorithm::HMAC.contains(it)).collect()
            }
        };
        if let Some(unfit) = only.iter().find(|it| !permitted.contains(it)) {
            let permitted = algorithm::list(&permitted);
            return Err(JwtKeyError::AlgorithmUnfit { algorithm: *unfit, permitted });
        }
        self.only = only;
        Ok(self)
    }

    fn fixed(set: KeySet) -> Self {
        Self { source: Source::Fixed(Arc::new(set)), only: Arc::default() }
    }

    /// What `verdict` says of the keys there are.
    #[cfg_attr(
        not(feature = "jwks"),
        expect(clippy::unused_async, unused_variables, reason = "keys from a URL are waited for")
    )]
    pub(crate) async fn judge<T>(
        &self,
        kid: Option<&str>,
        verdict: impl Fn(&KeySet) -> Result<T, JwtFault> + Send + Sync,
    ) -> Result<T, JwtRefusal> {
        match &self.source {
            Source::Fixed(set) => Ok(verdict(set)?),
            #[cfg(feature = "jwks")]
            Source::Url(keys) => keys.judge(kid, verdict).await,
        }
    }

    /// Whether `algorithm` may be used at all.
    pub(crate) fn permits(&self, algorithm: JwtAlgorithm) -> bool {
        self.only.is_empty() || self.only.contains(&algorithm)
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKeys").field("source", &self.source).field("only", &self.only).finish()
    }
}

#[derive(Debug, Clone)]
enum Source {
    Fixed(Arc<KeySet>),
    #[cfg(feature = "jwks")]
    Url(Arc<RemoteKeys>),
}
