//! The names, ids and parameters of a request; each is checked, and a refusal names it.

use std::borrow::Cow;

use http::header::HeaderName;
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use wserver_core::{ConnectionId, EventName, Limits, NameError, UserId};
use wserver_protocol::v2::BodyError;

use crate::push::idempotency::KEY_BYTES_MAX;
use crate::reply::refused::Refused;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The user in the field `field` of a request.
pub(crate) fn user(
    limits: &Limits,
    field: impl Into<Cow<'static, str>>,
    name: &str,
) -> Result<UserId, Refused> {
    UserId::parse(name, limits.name_bytes_max).map_err(|error| refused(error, field.into()))
}

/// The event in a request.
pub(crate) fn event(limits: &Limits, name: &str) -> Result<EventName, Refused> {
    let bytes_max = limits.name_bytes_max;
    EventName::parse(name, bytes_max).map_err(|error| refused(error, "event".into()))
}

fn refused(error: NameError, field: Cow<'static, str>) -> Refused {
    match error {
        NameError::TooLong { bytes, bytes_max } => Refused::NameTooLong { field, bytes, bytes_max },
        _ => Refused::Body(BodyError::new(field, "is empty")),
    }
}

/// A connection's id in a body.
pub(crate) fn connection_field(field: &'static str, id: &str) -> Result<ConnectionId, Refused> {
    parse_id(id)
        .ok_or_else(|| Refused::Body(BodyError::new(field, "is not the id of a connection")))
}

/// A connection's id in a path.
pub(crate) fn connection_id(id: &str) -> Result<ConnectionId, Refused> {
    parse_id(id).ok_or(Refused::ConnectionUnknown)
}

/// The digits as the server writes them: without sign and leading zeros.
fn parse_id(id: &str) -> Option<ConnectionId> {
    let number: u64 = id.parse().ok()?;
    (number.to_string() == id).then(|| ConnectionId::new(number))
}

/// A user in a path.
pub(crate) fn decode(segment: &str) -> Result<Cow<'_, str>, Refused> {
    if segment.is_empty() {
        return Err(Refused::Parameter { name: "user", problem: "is empty" });
    }
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_error| Refused::Parameter { name: "user", problem: "is not UTF-8" })
}

/// The values of the parameters `names`. Each must be given once and not be empty; there must be no
/// others.
pub(crate) fn query<const N: usize>(
    uri: &Uri,
    names: [&'static str; N],
) -> Result<[String; N], Refused> {
    let mut values = [const { String::new() }; N];
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        let Some(at) = names.iter().position(|known| *known == name) else {
            return Err(Refused::Parameter { name: "query", problem: "has an unknown parameter" });
        };
        if !values[at].is_empty() {
            return Err(Refused::Parameter { name: names[at], problem: "comes twice" });
        }
        values[at] = value.into_owned();
    }
    match values.iter().position(String::is_empty) {
        Some(at) => Err(Refused::Parameter { name: names[at], problem: "is missing or empty" }),
        None => Ok(values),
    }
}

/// The value of `Idempotency-Key`, if it was sent.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len());
    // A proxy may change a value that contains spaces.
    if !fits || !key.bytes().all(|byte| byte.is_ascii_graphic()) || values.next().is_some() {
        return Err(Refused::Parameter {
            name: "Idempotency-Key",
            problem: "must come once, as 1 to 255 visible ASCII characters",
        });
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn parameters_are_named_when_they_are_wrong() {
        for (target, expected) in [
            ("/?user=jack&event=news", Ok(["jack", "news"])),
            ("/?event=a%26b+c&user=%C3%A9", Ok(["é", "a&b c"])),
            ("/?user=jack", Err("event")),
            ("/?user=&event=news", Err("user")),
            ("/", Err("user")),
            ("/?user=a&user=b&event=c", Err("user")),
            ("/?user=a&event=b&more=c", Err("query")),
        ] {
            let found = query(&target.parse().unwrap(), ["user", "event"]);
            let found = match &found {
                Ok([user, event]) => Ok([user.as_str(), event.as_str()]),
                Err(Refused::Parameter { name, .. }) => Err(*name),
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn a_key_comes_once_and_is_short_and_visible() {
        let longest = "x".repeat(255);
        for (values, is_taken) in [
            (&["a"][..], true),
            (&[&*longest], true),
            (&[&*format!("{longest}x")], false),
            (&[""], false),
            (&["a b"], false),
            (&["é"], false),
            (&["a", "a"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let name = "Idempotency-Key";
            match idempotency_key(&headers) {
                Ok(key) => assert!(is_taken && key == Some(values[0]), "{values:?}"),
                Err(Refused::Parameter { name: named, .. }) => {
                    assert!(!is_taken && named == name, "{values:?}");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn ids_are_taken_as_they_are_given_out() {
        assert_eq!(connection_id("7"), Ok(ConnectionId::new(7)));
        for id in ["", "x", "07", "+7", "-7", "7 ", "18446744073709551616"] {
            assert_eq!(connection_id(id), Err(Refused::ConnectionUnknown), "{id:?}");
        }
    }
}
