//! Inspects a token by hand: what it says, and everything that is wrong with it, in sentences.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::jwt::authenticator::JwtAuthenticator;
use crate::jwt::claims::{Times, issued_at};
use crate::jwt::fault::{JwtFault, JwtRefusal};
use crate::jwt::verifier::{Head, JwtVerifier, json, parts};
use crate::listen::Identity;

/// What a token says, and what is wrong with it.
///
/// It contains everything in the token except the signature, so do not log it. Its content is
/// verified only if [`problems`](Self::problems) is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The header as indented JSON, if it can be read.
    pub header: Option<String>,
    /// The claims as indented JSON, if they can be read.
    pub claims: Option<String>,
    /// When it was issued, by its `iat`.
    pub issued_at: Option<SystemTime>,
    /// From when it is valid, by its `nbf`.
    pub not_before: Option<SystemTime>,
    /// Until when it is valid, by its `exp`, without leeway.
    pub expires_at: Option<SystemTime>,
    /// How long it is valid, in a sentence.
    pub validity: Option<String>,
    /// The identity that registers with it, if an authenticator examined and accepted it.
    pub identity: Option<Identity>,
    /// Everything that is wrong with it, one sentence each; empty if it is accepted.
    pub problems: Vec<String>,
}

/// Inspects a token without any key: it verifies nothing, and the first problem says so.
pub fn inspect_jwt(token: &str, now: SystemTime) -> Inspection {
    let mut looked_at = Looked::at(token, now);
    looked_at.problems.insert(0, "its signature was not verified: no key is available".to_owned());
    if let Some(claims) = &looked_at.claims
        && let Some(fault) = Times::of(claims).err()
    {
        looked_at.problems.push(fault.to_string());
    }
    looked_at.told()
}

impl JwtVerifier {
    /// Inspects a token by the rules of this verifier, and continues after the first fault.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time. A fetch of keys that it waited for continues with the
    /// next caller that needs them.
    pub async fn inspect(&self, token: &str, now: SystemTime) -> Inspection {
        self.look(token, now).await.told()
    }

    async fn look(&self, token: &str, now: SystemTime) -> Looked {
        let mut looked_at = Looked::at(token, now);
        if let Ok(head) = &looked_at.head
            && let Err(refusal) = self.signed_claims(token, head).await
        {
            looked_at.problems.push(match refusal {
                JwtRefusal::Fault(fault) => fault.to_string(),
                JwtRefusal::Unavailable(source) => {
                    format!("its signature was not verified: {source}")
                }
            });
        }
        if let Some(claims) = &looked_at.claims {
            let faults = self.demands().faults(claims, now);
            looked_at.problems.extend(faults.iter().map(ToString::to_string));
        }
        looked_at
    }
}

impl JwtAuthenticator {
    /// Inspects a token by the rules of this authenticator, and continues after the first fault. If
    /// there is none, the result names the identity that registers with the token.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time. A fetch of keys that it waited for continues with the
    /// next caller that needs them.
    pub async fn inspect(&self, token: &str, now: SystemTime) -> Inspection {
        let mut looked_at = self.verifier().look(token, now).await;
        if let (Some(claims), Some(times)) = (&looked_at.claims, looked_at.times) {
            match self.identity(claims) {
                Ok(identity) => {
                    let void_at = times.void_at(self.verifier().demands().leeway);
                    looked_at.identity = Some(identity.with_expires_at(void_at));
                }
                Err(fault) => looked_at.problems.push(fault.to_string()),
            }
        }
        looked_at.told()
    }
}

struct Looked {
    head: Result<Head, JwtFault>,
    header: Option<Map<String, Value>>,
    claims: Option<Map<String, Value>>,
    times: Option<Times>,
    validity: Option<String>,
    identity: Option<Identity>,
    problems: Vec<String>,
}

impl Looked {
    fn at(token: &str, now: SystemTime) -> Self {
        let head = Head::parse(token);
        let [header, claims] = match parts(token) {
            Ok([header, claims, _]) => [json(header), json(claims)],
            Err(_) => [None, None],
        };
        let mut problems: Vec<String> =
            head.as_ref().err().map(ToString::to_string).into_iter().collect();
        if header.is_some() && claims.is_none() {
            problems.push(JwtFault::Claims.to_string());
        }
        let times = claims.as_ref().and_then(|claims| Times::of(claims).ok());
        let validity = times.map(|times| validity(times, now));
        Self { head, header, claims, times, validity, identity: None, problems }
    }

    fn told(self) -> Inspection {
        // Two of our own checks may find the same problem.
        let mut problems: Vec<String> = Vec::new();
        for problem in self.problems {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        let issued_at = self.claims.as_ref().and_then(|claims| issued_at(claims).ok().flatten());
        let shown = |json: Map<String, Value>| format!("{:#}", Value::Object(json));
        Inspection {
            header: self.header.map(shown),
            claims: self.claims.map(shown),
            issued_at: issued_at.map(moment),
            not_before: self.times.and_then(|times| times.not_before).map(moment),
            expires_at: self.times.map(|times| moment(times.expires_at)),
            validity: self.validity,
            identity: self.identity.filter(|_| problems.is_empty()),
            problems,
        }
    }
}

/// The moment that is `seconds` after 1970 began; [`Times`] holds none beyond the clock.
fn moment(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn validity(times: Times, now: SystemTime) -> String {
    match times.not_before.map(moment).map(|begins| begins.duration_since(now)) {
        Some(Ok(wait)) if !wait.is_zero() => format!("it will be valid in {}", span(wait)),
        _ => match moment(times.expires_at).duration_since(now) {
            Ok(left) => format!("it expires in {}", span(left)),
            Err(past) => format!("it has been expired for {}", span(past.duration())),
        },
    }
}

/// A duration in its two largest units.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let counts = units.map(|(unit, name)| (unit, name, seconds / unit));
    match counts.iter().position(|(_, _, count)| *count > 0) {
        None => "less than a second".to_owned(),
        Some(first) => {
            let (unit, name, count) = counts[first];
            let rest = counts.get(first + 1).map(|(next, name, _)| (seconds % unit / next, name));
            match rest {
                Some((rest, next)) if rest > 0 => format!("{count} {name} {rest} {next}"),
                _ => format!("{count} {name}"),
            }
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(header) = &self.header {
            writeln!(f, "header: {header}")?;
        }
        if let Some(claims) = &self.claims {
            writeln!(f, "claims: {claims}")?;
        }
        if let Some(validity) = &self.validity {
            writeln!(f, "{validity}")?;
        }
        match self.problems.as_slice() {
            [] => writeln!(f, "it is accepted"),
            problems => problems.iter().try_for_each(|problem| writeln!(f, "problem: {problem}")),
        }
    }
}
