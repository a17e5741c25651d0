//! Reads the backend's answer.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::Value;

use crate::http_client::Answer;
use crate::listen::{Identity, Refusal};
use crate::scope::EventScope;

/// What the backend decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted(Identity),
    Denied(Denied),
}

/// A refusal that can be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Unknown,
    Forbidden,
    Expired,
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::Unknown,
            Denied::Forbidden => Self::Forbidden,
            Denied::Expired => Self::Expired,
        }
    }
}

/// Why an answer gives no decision. No variant contains any part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is a redirect ({0}), which the server does not follow")]
    Redirect(StatusCode),
    #[error("the answer is not a JSON object")]
    Json,
    #[error("userId must be a non-empty string or a whole number")]
    UserId,
    #[error("expiresAt must be a number of seconds since 1970")]
    ExpiresAt,
    #[error("events must be a list of strings")]
    Events,
}

/// The last second of the year 9999, which every clock and calendar can hold.
const LAST_SECOND: u64 = 253_402_300_799;

pub(crate) fn read(answer: &Answer, now: SystemTime) -> Result<Verdict, Nonsense> {
    match answer.status {
        StatusCode::OK => body(&answer.body, now),
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Ok(Verdict::Denied(Denied::Unknown)),
        StatusCode::FORBIDDEN => Ok(Verdict::Denied(Denied::Forbidden)),
        status if status.is_redirection() => Err(Nonsense::Redirect(status)),
        status => Err(Nonsense::Status(status)),
    }
}

/// Reads the body of an answer with status 200.
pub(crate) fn body(body: &[u8], now: SystemTime) -> Result<Verdict, Nonsense> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else {
        return Err(Nonsense::Json);
    };
    let mut identity = Identity::new(match answer.get("userId") {
        Some(Value::String(user)) if !user.is_empty() => user.clone(),
        Some(Value::Number(user)) if user.is_i64() || user.is_u64() => user.to_string(),
        _ => return Err(Nonsense::UserId),
    });
    match answer.get("expiresAt") {
        None | Some(Value::Null) => {}
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_u64().unwrap_or_else(|| {
                // Negative numbers are before 1970, and numbers too large for the type never
                // expire.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it saturates"
                )]
                seconds.as_f64().map_or(0, |seconds| seconds as u64)
            });
            let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
            identity = identity.with_expires_at(end);
        }
        Some(_) => return Err(Nonsense::ExpiresAt),
    }
    match answer.get("events") {
        None | Some(Value::Null) => {}
        Some(Value::Array(events)) => {
            let events: Option<Vec<&str>> = events.iter().map(Value::as_str).collect();
            identity = identity.with_events(EventScope::only(events.ok_or(Nonsense::Events)?));
        }
        Some(_) => return Err(Nonsense::Events),
    }
    if identity.is_expired(now) {
        return Ok(Verdict::Denied(Denied::Expired));
    }
    Ok(Verdict::Accepted(identity))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn check(status: u16, body: &str, expected: &str) {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let shown = match read(&answer, now) {
            Ok(Verdict::Accepted(Identity { user, expires_at, events, .. })) => {
                let end = expires_at.map(|end| end.duration_since(now).unwrap().as_secs());
                format!("{user} {end:?} {events:?}")
            }
            Ok(Verdict::Denied(denied)) => format!("{denied:?}"),
            Err(nonsense) => nonsense.to_string(),
        };
        assert_eq!(shown, expected, "{status} {body}");
    }

    #[test]
    fn answers() {
        check(200, r#"{"userId":"jack"}"#, "jack None Any");
        check(200, r#"{"userId":7,"more":1,"expiresAt":null,"events":null}"#, "7 None Any");
        check(200, r#"{"userId":"j","expiresAt":1800000060}"#, "j Some(60) Any");
        check(200, r#"{"userId":"j","expiresAt":1800000060.9}"#, "j Some(60) Any");
        check(200, r#"{"userId":"j","expiresAt":1e99}"#, "j Some(251602300799) Any");
        check(200, r#"{"userId":"j","expiresAt":1800000000}"#, "Expired");
        check(200, r#"{"userId":"j","expiresAt":-1}"#, "Expired");
        check(200, r#"{"userId":"j","events":["a*"]}"#, r#"j None Only(["a*"])"#);
        check(200, r#"{"userId":"j","events":[]}"#, "j None Only([])");
        check(401, "", "Unknown");
        check(404, r#"{"userId":"jack"}"#, "Unknown");
        check(403, "", "Forbidden");
    }

    #[test]
    fn nonsense() {
        for (body, expected) in [
            ("", "the answer is not a JSON object"),
            ("<html>", "the answer is not a JSON object"),
            ("[]", "the answer is not a JSON object"),
            (r#"{"userId":"jack"} x"#, "the answer is not a JSON object"),
            ("{}", "userId must be a non-empty string or a whole number"),
            (r#"{"userId":""}"#, "userId must be a non-empty string or a whole number"),
            (r#"{"userId":1.5}"#, "userId must be a non-empty string or a whole number"),
            (r#"{"userid":"jack"}"#, "userId must be a non-empty string or a whole number"),
            (
                r#"{"userId":"j","expiresAt":"2030-01-01"}"#,
                "expiresAt must be a number of seconds since 1970",
            ),
            (r#"{"userId":"j","events":"a"}"#, "events must be a list of strings"),
            (r#"{"userId":"j","events":[1]}"#, "events must be a list of strings"),
        ] {
            check(200, body, expected);
        }
        check(201, r#"{"userId":"jack"}"#, "the answer is 201 Created");
        check(204, "", "the answer is 204 No Content");
        check(302, "", "the answer is a redirect (302 Found), which the server does not follow");
        check(400, "", "the answer is 400 Bad Request");
        check(429, "", "the answer is 429 Too Many Requests");
        check(500, "", "the answer is 500 Internal Server Error");
    }
}
