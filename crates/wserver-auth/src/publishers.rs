//! Named publishers, each with its own key, scope, rate and expiry.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::digest::SecretDigest;
use crate::identity::{Method, PublisherId};
use crate::publisher_key::PublisherKeyHash;
use crate::push::{Account, Publisher, PushAuthorizer, PushCredentials, PushRefusal};
use crate::rate::{Bucket, PushRate};
use crate::scope::PushScope;

/// The maximum length of a publisher's name, in bytes; the name is a field of logs.
pub const PUBLISHER_NAME_BYTES_MAX: usize = 64;

/// One publisher of [`PublisherKeys`]: a name, the hash of a key, and what the key permits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PublisherEntry {
    /// The name in logs: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The hash of its key.
    pub key: PublisherKeyHash,
    /// The users and events that it may push to; all by default.
    pub scope: PushScope,
    /// How often it may push; `None` is no limit.
    pub rate: Option<PushRate>,
    /// Whether it may administer the server; see [`Publisher::admin`].
    pub admin: bool,
    /// When the key expires; `None`: never.
    pub expires_at: Option<SystemTime>,
}

impl PublisherEntry {
    /// A publisher that may push everything to everyone without a rate limit, and may not
    /// administer.
    pub fn new(name: impl Into<String>, key: PublisherKeyHash) -> Self {
        Self {
            name: name.into(),
            key,
            scope: PushScope::everything(),
            rate: None,
            admin: false,
            expires_at: None,
        }
    }

    /// Restricts the scope.
    #[must_use]
    pub fn with_scope(mut self, scope: PushScope) -> Self {
        self.scope = scope;
        self
    }

    /// Limits the rate.
    #[must_use]
    pub fn with_rate(mut self, rate: PushRate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Lets the publisher administer the server.
    #[must_use]
    pub fn with_admin(mut self) -> Self {
        self.admin = true;
        self
    }

    /// Sets the moment at which the key expires.
    #[must_use]
    pub fn with_expires_at(mut self, expires_at: SystemTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}

/// A [`PushAuthorizer`] for named publishers, each with its own key.
///
/// A request presents its key as `Authorization: Bearer <key>` or `X-API-Key: <key>`. To rotate a
/// key without a gap, add a second entry under another name, let the publisher switch, and remove
/// the first entry. Each entry has its own rate. A push counts when the key is accepted, before the
/// body is read, so a push with a bad body counts too; [`Publisher::charge`] counts what a request
/// pushes beyond one. Counting starts again with a new `PublisherKeys`, unless
/// [`with_counts_of`](Self::with_counts_of) takes the counts over.
///
/// # Timing
///
/// The digest of the presented key is compared with the digest of every key, each in constant time
/// and without stopping at a match; the match itself is also selected in constant time.
///
/// ```
/// use wserver_auth::{PublisherEntry, PublisherKey, PublisherKeys, PushScope};
///
/// let key = PublisherKey::generate()?;
/// let shop = PublisherEntry::new("shop-2026", key.hash())
///     .with_scope(PushScope::everything().with_events(["order.*"]));
/// let keys = PublisherKeys::new([shop])?;
/// # let _ = keys;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PublisherKeys {
    /// Written only at construction.
    ///
    /// Invariant: never empty, and at most `u32::MAX`.
    publishers: Box<[Known]>,
}

struct Known {
    key: SecretDigest,
    publisher: Publisher,
    expires_at: Option<SystemTime>,
}

impl PublisherKeys {
    /// Builds the list.
    ///
    /// # Errors
    ///
    /// If the list is empty, if a name is empty, too long, repeated or has other characters, or if
    /// two publishers have the same key. The error reports all problems at once.
    pub fn new(
        entries: impl IntoIterator<Item = PublisherEntry>,
    ) -> Result<Self, PublisherKeysError> {
        let entries: Vec<PublisherEntry> = entries.into_iter().collect();
        let problems = problems(&entries);
        if !problems.is_empty() {
            return Err(PublisherKeysError { problems });
        }
        let origin = Instant::now();
        let publishers = entries
            .into_iter()
            .map(|entry| {
                let mut publisher = Publisher::new().with_name(entry.name).with_scope(entry.scope);
                publisher.id = publisher
                    .name
                    .as_ref()
                    .map(|name| PublisherId::new(Method::Named, [name.as_bytes()]));
                publisher.admin = entry.admin;
                publisher.account =
                    Account(entry.rate.map(|rate| Arc::new(Bucket::new(rate, origin))));
                Known { key: *entry.key.digest(), publisher, expires_at: entry.expires_at }
            })
            .collect();
        Ok(Self { publishers })
    }

    /// Takes over the counts of `running` for every publisher with the same name, key and rate in
    /// both, so that a reload does not give the publishers that stay a new burst.
    #[must_use]
    pub fn with_counts_of(mut self, running: &Self) -> Self {
        for known in &mut self.publishers {
            let same = running.publishers.iter().find(|it| {
                it.publisher.name == known.publisher.name && bool::from(it.key.ct_eq(&known.key))
            });
            if let (Some(bucket), Some(counted)) = (
                &mut known.publisher.account.0,
                same.and_then(|it| it.publisher.account.0.as_ref()),
            ) && bucket.is_like(counted)
            {
                *bucket = Arc::clone(counted);
            }
        }
        self
    }

    /// The publisher with this key, found in constant time.
    fn find(&self, presented: &SecretDigest) -> Option<&Known> {
        // 0 means no publisher.
        let mut found = 0;
        for (number, known) in (1u32..).zip(&self.publishers) {
            found.conditional_assign(&number, known.key.ct_eq(presented));
        }
        let index = usize::try_from(found).ok()?.checked_sub(1)?;
        self.publishers.get(index)
    }

    fn judge(
        &self,
        request: &PushCredentials,
        clock: SystemTime,
        now: Instant,
    ) -> Result<Publisher, PushRefusal> {
        let presented = SecretDigest::of(request.api_key().ok_or(PushRefusal::Missing)?);
        let known = self.find(&presented).ok_or(PushRefusal::Wrong)?;
        if known.expires_at.is_some_and(|expires_at| expires_at <= clock) {
            return Err(PushRefusal::Expired);
        }
        if let Some(bucket) = &known.publisher.account.0 {
            bucket.take(now).map_err(|wait| PushRefusal::RateExceeded { wait })?;
        }
        Ok(known.publisher.clone())
    }
}

#[async_trait]
impl PushAuthorizer for PublisherKeys {
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        self.judge(&request, SystemTime::now(), Instant::now())
    }
}

impl fmt::Debug for PublisherKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.publishers.iter().filter_map(|known| known.publisher.name.as_deref());
        f.debug_tuple("PublisherKeys").field(&names.collect::<Vec<_>>()).finish()
    }
}

fn problems(entries: &[PublisherEntry]) -> Vec<PublisherProblem> {
    if entries.is_empty() {
        return vec![PublisherProblem::NoPublishers];
    }
    let mut problems = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let name = &entry.name;
        let fits = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        if name.is_empty() || name.len() > PUBLISHER_NAME_BYTES_MAX || !name.chars().all(fits) {
            problems.push(PublisherProblem::Name { entry: index + 1 });
            continue;
        }
        let before = &entries[..index];
        if before.iter().any(|other| other.name == *name) {
            problems.push(PublisherProblem::NameRepeated { name: name.clone() });
        }
        if let Some(other) = before.iter().find(|other| other.key == entry.key) {
            let (name, other) = (name.clone(), other.name.clone());
            problems.push(PublisherProblem::KeyRepeated { name, other });
        }
    }
    problems
}

/// Why a list of publishers cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherKeysError {
    /// Never empty.
    pub problems: Vec<PublisherProblem>,
}

impl fmt::Display for PublisherKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("; "))
    }
}

impl std::error::Error for PublisherKeysError {}

/// One thing that is wrong with a list of publishers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublisherProblem {
    /// The list is empty: it would refuse everybody, which is probably a mistake.
    #[error("the list of publishers is empty")]
    NoPublishers,
    /// A name has characters or a length that do not suit a log.
    #[error(
        "the name of publisher {entry} must be 1 to {PUBLISHER_NAME_BYTES_MAX} letters, digits, \
         - _ or ."
    )]
    Name {
        /// Its position, counted from 1.
        entry: usize,
    },
    /// Two publishers have the same name, so they could not be told apart.
    #[error("publisher {name} is listed twice")]
    NameRepeated {
        /// The name.
        name: String,
    },
    /// Two publishers have the same key.
    #[error("publisher {name} has the same key as publisher {other}")]
    KeyRepeated {
        /// The later one.
        name: String,
        /// The earlier one.
        other: String,
    },
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use http::HeaderMap;
    use http::header::HeaderValue;

    use super::*;
    use crate::testing::answer;

    fn entry(name: &str, key: &str) -> PublisherEntry {
        PublisherEntry::new(name, PublisherKeyHash::of(key))
    }

    fn request(key: &str) -> PushCredentials {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_str(key).unwrap());
        PushCredentials::new(headers, "10.0.0.1:80".parse().unwrap())
    }

    fn shown(answer: Result<Publisher, PushRefusal>) -> String {
        match answer {
            Ok(publisher) => publisher.name.unwrap(),
            Err(refusal) => refusal.as_str().to_owned(),
        }
    }

    #[test]
    fn each_key_is_its_publishers() {
        let scope = PushScope::everything().with_users(["shop:*"]);
        let keys = PublisherKeys::new([
            entry("shop", "canary-key-1").with_scope(scope.clone()),
            entry("blog", "canary-key-2").with_admin(),
            entry("blog.next", "canary-key-3"),
        ])
        .unwrap();
        for (key, expected) in [
            ("canary-key-1", "shop"),
            ("canary-key-2", "blog"),
            ("canary-key-3", "blog.next"),
            ("canary-key-4", "wrong"),
            ("canary-key-", "wrong"),
            ("canary-key-11", "wrong"),
        ] {
            assert_eq!(shown(answer(keys.authorize(request(key)))), expected, "{key}");
        }
        let nothing = PushCredentials::new(HeaderMap::new(), "10.0.0.1:80".parse().unwrap());
        assert_eq!(shown(answer(keys.authorize(nothing))), "missing");
        let shop = answer(keys.authorize(request("canary-key-1"))).unwrap();
        assert!(shop.scope == scope && !shop.admin);
        assert!(answer(keys.authorize(request("canary-key-2"))).unwrap().admin);
        assert_eq!(format!("{keys:?}"), r#"PublisherKeys(["shop", "blog", "blog.next"])"#);
    }

    /// The hash is written down, so presenting it must open nothing.
    #[test]
    fn the_hash_is_no_key() {
        let hash = PublisherKeyHash::of("canary-key-1");
        let keys = PublisherKeys::new([entry("shop", "canary-key-1")]).unwrap();
        let presented = request(&hash.to_string());
        assert_eq!(shown(answer(keys.authorize(presented))), "wrong");
    }

    #[test]
    fn a_key_ends() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let keys = PublisherKeys::new([entry("shop", "k").with_expires_at(end)]).unwrap();
        let second = Duration::from_secs(1);
        let at = |clock| shown(keys.judge(&request("k"), clock, Instant::now()));
        assert_eq!([at(end - second), at(end), at(end + second)], ["shop", "expired", "expired"]);
    }

    #[test]
    fn each_publisher_has_a_rate_of_its_own() {
        let two = NonZeroU32::new(2).unwrap();
        let rate = PushRate { pushes_per_second: two, burst: two };
        let keys = PublisherKeys::new([
            entry("shop", "k1").with_rate(rate),
            entry("blog", "k2").with_rate(rate),
            entry("free", "k3"),
        ])
        .unwrap();
        let now = Instant::now();
        let ask = |key| keys.judge(&request(key), SystemTime::now(), now);
        assert_eq!([shown(ask("k1")), shown(ask("k1"))], ["shop", "shop"]);
        let refusal = ask("k1").unwrap_err();
        assert_eq!(refusal.as_str(), "rate_exceeded");
        assert!(matches!(refusal, PushRefusal::RateExceeded { wait } if !wait.is_zero()));
        assert_eq!(shown(ask("k2")), "blog");
        let blog = ask("k2").unwrap();
        assert_eq!(blog.charge(1000).unwrap_err().as_str(), "beyond_burst");
        assert_eq!(blog.charge(1).unwrap_err().as_str(), "rate_exceeded");
        ask("k3").unwrap().charge(1000).unwrap();
        assert!((0..100).all(|_| ask("k3").is_ok()));
    }

    #[test]
    fn who_stays_is_counted_on() {
        let one = NonZeroU32::MIN;
        let two = NonZeroU32::new(2).unwrap();
        let rate = |burst| PushRate { pushes_per_second: one, burst };
        let keys = |entries: [PublisherEntry; 4]| PublisherKeys::new(entries).unwrap();
        let running = keys([
            entry("stays", "k1").with_rate(rate(one)),
            entry("slows", "k2").with_rate(rate(one)),
            entry("rekeyed", "k3").with_rate(rate(one)),
            entry("renamed", "k4").with_rate(rate(one)),
        ]);
        let next = || {
            keys([
                entry("stays", "k1").with_rate(rate(one)).with_admin(),
                entry("slows", "k2").with_rate(rate(two)),
                entry("rekeyed", "k5").with_rate(rate(one)),
                entry("other", "k4").with_rate(rate(one)),
            ])
        };
        let now = Instant::now();
        let ask =
            |keys: &PublisherKeys, key| shown(keys.judge(&request(key), SystemTime::now(), now));
        for key in ["k1", "k2", "k3", "k4"] {
            assert_ne!(ask(&running, key), "rate_exceeded");
            assert_eq!(ask(&running, key), "rate_exceeded");
        }
        let next = next().with_counts_of(&running);
        assert_eq!(ask(&next, "k1"), "rate_exceeded");
        for (key, name) in [("k2", "slows"), ("k5", "rekeyed"), ("k4", "other")] {
            assert_eq!(ask(&next, key), name);
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let check = |entries: Vec<PublisherEntry>, expected: Expect| {
            let built = PublisherKeys::new(entries);
            expected.assert_eq(&built.map_or_else(|error| error.to_string(), |_| "fit".into()));
        };
        check(vec![], expect!["the list of publishers is empty"]);
        check(
            vec![
                entry("shop", "k1"),
                entry("", "k2"),
                entry("two words", "k3"),
                entry(&"x".repeat(65), "k4"),
                entry("shop", "k5"),
                entry("blog", "k1"),
            ],
            expect![
                "the name of publisher 2 must be 1 to 64 letters, digits, - _ or .; the name of \
                 publisher 3 must be 1 to 64 letters, digits, - _ or .; the name of publisher 4 \
                 must be 1 to 64 letters, digits, - _ or .; publisher shop is listed twice; \
                 publisher blog has the same key as publisher shop"
            ],
        );
        check(vec![entry(&"x".repeat(64), "k1")], expect!["fit"]);
    }
}
