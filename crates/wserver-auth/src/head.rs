//! Finds the secrets in the head of a request, in the places where secrets travel.
//!
//! A value that appears twice counts as absent: a proxy or library in front may have read either
//! one, and an attacker may have added the other.

use std::str;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, Uri};

/// The value of a header that was sent exactly once, if it is UTF-8.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = exactly_one(headers.get_all(name).iter())?;
    str::from_utf8(value.as_bytes()).ok()
}

/// The token of the only `Authorization` header, if its scheme is `Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = only(headers, AUTHORIZATION.as_str())?.split_once(' ')?;
    let secret = secret.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}

/// The value of the only cookie of this name, without quotes around it (RFC 6265, section 4.1.1);
/// cookies have no other encoding of their own.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let headers = headers.get_all(COOKIE).iter();
    let pairs = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let values = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        (&pair[..equals] == name.as_bytes()).then_some(&pair[equals + 1..])
    });
    let value = str::from_utf8(exactly_one(values)?).ok()?;
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some(unquoted.unwrap_or(value)).filter(|value| !value.is_empty())
}

/// The value of the only parameter of this name in the query.
pub(crate) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    let values = pairs.filter(|(found, _)| found == name).map(|(_, value)| value);
    exactly_one(values).filter(|value| !value.is_empty()).map(Into::into)
}

fn exactly_one<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_first| items.next().is_none())
}
