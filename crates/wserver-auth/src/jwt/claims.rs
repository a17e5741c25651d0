//! The rules for a token's claims: its times, its audience, its issuer.
//!
//! The clock is a parameter. The same checks serve the authenticator, which stops at the first
//! fault, and the inspection by hand, which reports all.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::jwt::fault::JwtFault;

/// The audience that a token must have in its `aud`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtAudience {
    /// One of these. A token that names none of them, or has no `aud`, is refused.
    OneOf(Vec<String>),
    /// Any: `aud` is ignored. A token that the same issuer made for another service is then valid
    /// here too.
    Any,
}

/// The rules that the claims of a token must meet.
#[derive(Debug)]
pub(crate) struct Demands {
    pub(crate) audience: JwtAudience,
    /// Empty: any.
    pub(crate) issuers: Vec<String>,
    pub(crate) leeway: Duration,
}

/// The times of a token, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) expires_at: u64,
    pub(crate) not_before: Option<u64>,
}

/// The last second of the year 9999, which every clock and calendar can hold.
const LAST_SECOND: u64 = 253_402_300_799;

impl Times {
    pub(crate) fn of(claims: &Map<String, Value>) -> Result<Self, JwtFault> {
        let expires_at = date(claims, "exp")?;
        let expires_at = expires_at.ok_or_else(|| JwtFault::Missing { claim: "exp".to_owned() })?;
        Ok(Self { expires_at, not_before: date(claims, "nbf")? })
    }

    /// The moment at which the token expires, leeway included.
    pub(crate) fn void_at(self, leeway: Duration) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.expires_at) + leeway
    }

    fn check(self, leeway: Duration, now: SystemTime) -> Result<(), JwtFault> {
        let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_1970(now).unwrap_or_default().as_secs();
        if self.void_at(leeway) <= now {
            return Err(JwtFault::Expired { seconds: seconds.saturating_sub(self.expires_at) });
        }
        let not_before = self.not_before.unwrap_or_default();
        if SystemTime::UNIX_EPOCH + Duration::from_secs(not_before) > now + leeway {
            return Err(JwtFault::NotYetValid { seconds: not_before.saturating_sub(seconds) });
        }
        Ok(())
    }
}

impl Demands {
    /// Everything that is wrong with `claims` at `now`.
    pub(crate) fn faults(&self, claims: &Map<String, Value>, now: SystemTime) -> Vec<JwtFault> {
        let times = Times::of(claims).and_then(|times| times.check(self.leeway, now));
        let checks = [times, self.check_audience(claims), self.check_issuer(claims)];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), JwtFault> {
        let JwtAudience::OneOf(ours) = &self.audience else { return Ok(()) };
        let ours = |name: &str| ours.iter().any(|our| our == name);
        let found = match claims.get("aud") {
            None | Some(Value::Null) => {
                return Err(JwtFault::Missing { claim: "aud".to_owned() });
            }
            Some(Value::String(name)) => ours(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(ours),
            Some(_) => {
                let expected = "a string or a list of strings";
                return Err(JwtFault::WrongType { claim: "aud".to_owned(), expected });
            }
        };
        if found { Ok(()) } else { Err(JwtFault::Audience) }
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), JwtFault> {
        if self.issuers.is_empty() {
            return Ok(());
        }
        match claims.get("iss") {
            None | Some(Value::Null) => Err(JwtFault::Missing { claim: "iss".to_owned() }),
            Some(Value::String(name)) if self.issuers.contains(name) => Ok(()),
            Some(_) => Err(JwtFault::Issuer),
        }
    }
}

/// When a token was issued, in seconds since 1970. No check uses it.
pub(crate) fn issued_at(claims: &Map<String, Value>) -> Result<Option<u64>, JwtFault> {
    date(claims, "iat")
}

/// A date in seconds since 1970, whole or with a fraction, which is dropped (RFC 7519).
fn date(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, JwtFault> {
    let number = match claims.get(claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => {
            let expected = "a number of seconds since 1970";
            return Err(JwtFault::WrongType { claim: claim.to_owned(), expected });
        }
    };
    let seconds = number.as_u64().unwrap_or_else(|| {
        // Negative numbers are before 1970, and numbers too large for the type never expire.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        number.as_f64().map_or(0, |seconds| seconds as u64)
    });
    Ok(Some(seconds.min(LAST_SECOND)))
}

/// The user of a token: a non-empty text, or a whole number.
pub(crate) fn user(claims: &Map<String, Value>, claim: &str) -> Result<String, JwtFault> {
    match claims.get(claim) {
        None | Some(Value::Null) => Err(JwtFault::Missing { claim: claim.to_owned() }),
        Some(Value::String(user)) if !user.is_empty() => Ok(user.clone()),
        Some(Value::Number(user)) if user.is_i64() || user.is_u64() => Ok(user.to_string()),
        Some(_) => {
            let expected = "a non-empty string or a whole number";
            Err(JwtFault::WrongType { claim: claim.to_owned(), expected })
        }
    }
}

/// A list of patterns: an array of texts, or one text with spaces between the patterns.
pub(crate) fn patterns(
    claims: &Map<String, Value>,
    claim: &str,
) -> Result<Option<Vec<String>>, JwtFault> {
    let wrong = || JwtFault::WrongType {
        claim: claim.to_owned(),
        expected: "a list of strings, or one string of names with spaces between them",
    };
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            Ok(Some(text.split_ascii_whitespace().map(ToOwned::to_owned).collect()))
        }
        Some(Value::Array(list)) => list
            .iter()
            .map(|pattern| pattern.as_str().map(ToOwned::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn map(json: Value) -> Map<String, Value> {
        let Value::Object(map) = json else { panic!("{json}") };
        map
    }

    fn check(claims: Value, expected: &str) {
        let demands = Demands {
            audience: JwtAudience::OneOf(vec!["push".to_owned(), "chat".to_owned()]),
            issuers: vec!["https://id.example".to_owned()],
            leeway: Duration::from_secs(30),
        };
        let faults =
            demands.faults(&map(claims), SystemTime::UNIX_EPOCH + Duration::from_secs(NOW));
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.join("; "), expected);
    }

    /// Good claims, with these changes.
    fn with(changes: Value) -> Value {
        let mut claims = map(json!({"exp": NOW + 60, "aud": "push", "iss": "https://id.example"}));
        claims.extend(map(changes));
        Value::Object(claims)
    }

    #[test]
    fn times() {
        check(with(json!({})), "");
        check(with(json!({"exp": NOW - 29})), "");
        check(with(json!({"exp": NOW - 30})), "it expired 30 seconds ago");
        check(with(json!({"exp": NOW as f64 - 29.5})), "it expired 30 seconds ago");
        check(with(json!({"exp": NOW - 86400})), "it expired 86400 seconds ago");
        check(with(json!({"exp": -5})), "it expired 1800000000 seconds ago");
        check(with(json!({"exp": u64::MAX})), "");
        check(with(json!({"exp": 1e300})), "");
        check(with(json!({"exp": null})), "it has no exp");
        check(with(json!({"exp": "2030"})), "its exp is not a number of seconds since 1970");
        check(with(json!({"exp": true})), "its exp is not a number of seconds since 1970");
        check(with(json!({"nbf": NOW + 30})), "");
        check(with(json!({"nbf": NOW + 31})), "it becomes valid in 31 seconds");
        check(with(json!({"nbf": []})), "its nbf is not a number of seconds since 1970");
        check(with(json!({"iat": NOW + 9999})), "");
    }

    #[test]
    fn audiences_and_issuers() {
        check(with(json!({"aud": ["other", "chat"]})), "");
        check(with(json!({"aud": ["other"]})), "its aud contains none of the configured audiences");
        check(with(json!({"aud": []})), "its aud contains none of the configured audiences");
        check(with(json!({"aud": "Push"})), "its aud contains none of the configured audiences");
        check(with(json!({"aud": "push "})), "its aud contains none of the configured audiences");
        check(with(json!({"aud": null})), "it has no aud");
        check(with(json!({"aud": 1})), "its aud is not a string or a list of strings");
        check(
            with(json!({"iss": "https://id.example/"})),
            "its iss is not one of the configured issuers",
        );
        check(
            with(json!({"iss": ["https://id.example"]})),
            "its iss is not one of the configured issuers",
        );
        check(json!({}), "it has no exp; it has no aud; it has no iss");
    }

    #[test]
    fn users_are_texts_or_whole_numbers() {
        for (claims, expected) in [
            (json!({"sub": "jack"}), "jack"),
            (json!({"sub": 42}), "42"),
            (json!({"sub": -1}), "-1"),
            (json!({"sub": u64::MAX}), "18446744073709551615"),
            (json!({"sub": ""}), "its sub is not a non-empty string or a whole number"),
            (json!({"sub": 1.5}), "its sub is not a non-empty string or a whole number"),
            (json!({"sub": {}}), "its sub is not a non-empty string or a whole number"),
            (json!({}), "it has no sub"),
        ] {
            let found = user(&map(claims), "sub").unwrap_or_else(|fault| fault.to_string());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn patterns_are_lists_or_words() {
        for (claims, expected) in [
            (json!({}), Ok(None)),
            (json!({"events": null}), Ok(None)),
            (json!({"events": []}), Ok(Some(vec![]))),
            (json!({"events": ""}), Ok(Some(vec![]))),
            (json!({"events": ["a b", "c*"]}), Ok(Some(vec!["a b", "c*"]))),
            (json!({"events": " a  b "}), Ok(Some(vec!["a", "b"]))),
            (json!({"events": ["a", 1]}), Err(())),
            (json!({"events": 1}), Err(())),
        ] {
            let found = patterns(&map(claims.clone()), "events");
            let expected = expected.map(|it| {
                it.map(|it: Vec<&str>| it.into_iter().map(ToOwned::to_owned).collect::<Vec<_>>())
            });
            assert_eq!(found.map_err(|_fault| ()), expected, "{claims}");
        }
    }
}
