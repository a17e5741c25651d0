//! Tokens out of a handshake's head: none is a panic, and what is found stands there, once.
//!
//! The lines of an input are a target, and then headers.

#![no_main]

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use wserver_auth::{PushCredentials, TokenSource};

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let target = lines.next().and_then(|line| Uri::try_from(line).ok()).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = match line {
            [b'a', value @ ..] => (AUTHORIZATION, value),
            [b'k', value @ ..] => ("x-api-key".parse().unwrap(), value),
            value => (COOKIE, value),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let stands = |name: &str, token: &str| {
        headers.get_all(name).iter().any(|value| {
            value.as_bytes().windows(token.len()).any(|window| window == token.as_bytes())
        })
    };
    for name in ["session", "a", "__Host-id"] {
        let source = TokenSource::Cookie(name.to_owned());
        if let Some(token) = source.token(&headers, &target) {
            assert!(!token.is_empty() && !token.contains(';') && stands("cookie", &token));
            let pair = format!("{name}=");
            assert!(stands("cookie", &pair));
        }
    }
    if let Some(token) = TokenSource::Authorization.token(&headers, &target) {
        assert!(!token.is_empty() && stands("authorization", &token));
        assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
    }
    if let Some(token) = TokenSource::Query("token".to_owned()).token(&headers, &target) {
        assert!(!token.is_empty() && target.query().is_some());
    }
    assert_eq!(TokenSource::Message.token(&headers, &target), None);
    let text = String::from_utf8_lossy(input);
    if let Ok(source) = text.parse::<TokenSource>() {
        assert_eq!(source.to_string(), text);
    }
    let request = PushCredentials::new(headers.clone(), "10.0.0.1:80".parse().unwrap());
    assert_eq!(request.bearer(), TokenSource::Authorization.token(&headers, &target).as_deref());
    let _key = request.with_uri(target).api_key().map(str::len);
});
