//! Policies against headers as browsers and programs send them.

use hyper::header::HOST;
use proptest::prelude::*;

use super::*;

fn headers(origin: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "push.example.com:8080".parse().unwrap());
    if let Some(origin) = origin {
        headers.insert(ORIGIN, origin.parse().unwrap());
    }
    headers
}

#[test]
fn policies() {
    let list = OriginPolicy::list(["https://app.example.com", "http://localhost:3000"]);
    for (policy, origin, permitted) in [
        (OriginPolicy::any(), Some("https://evil.example"), true),
        (OriginPolicy::same_origin(), None, true),
        (OriginPolicy::same_origin(), Some("http://push.example.com:8080"), true),
        (OriginPolicy::same_origin(), Some("http://PUSH.example.com:8080"), true),
        (OriginPolicy::same_origin(), Some("http://push.example.com"), false),
        (OriginPolicy::same_origin(), Some("null"), false),
        (list.clone(), Some("https://app.example.com"), true),
        (list.clone(), Some("HTTPS://APP.example.com"), true),
        (list.clone(), Some("https://app.example.com.evil.example"), false),
        (list.clone(), Some("http://app.example.com"), false),
        (list.clone(), Some("null"), false),
        (list, None, true),
        (OriginPolicy::check(|headers| headers.contains_key(ORIGIN)), None, false),
    ] {
        assert_eq!(policy.permits(&headers(origin)), permitted, "{policy:?} {origin:?}");
    }
}

/// Any page can open a frame whose origin is one of these two.
#[test]
fn a_policy_is_any_if_any_page_can_connect() {
    for (policy, is_any) in [
        (OriginPolicy::any(), true),
        (OriginPolicy::list(["https://app.example.com", "null"]), true),
        (OriginPolicy::list(["https://app.example.com", "file://"]), true),
        (OriginPolicy::list(["https://*.example.com"]), false),
        (OriginPolicy::same_origin(), false),
        (OriginPolicy::check(|_| true), false),
    ] {
        assert_eq!(policy.is_any(), is_any, "{policy:?}");
    }
}

#[test]
fn lists_that_no_browser_would_match_are_refused() {
    for origin in [
        "app.example.com",
        "https://app.example.com/",
        "*",
        "*.example.com",
        "*://app.example.com",
        "https://*",
        "https://*.",
        "https://*.com",
        "https://*.com:8443",
        "https://*example.com",
        "https://app.*.example.com",
        "https://*.*.example.com",
        "https://*.example.com:443",
        "https://a.example:443",
    ] {
        assert_eq!(OriginPolicy::list([origin]).problems().len(), 1, "{origin}");
    }
    for (origin, told) in [
        ("wss://app.example.com", "write https://app.example.com"),
        ("ws://localhost:3000", "write http://localhost:3000"),
        ("https://app.example.com:443", "write https://app.example.com"),
        ("https://app.example.com:0443", "write https://app.example.com"),
        ("https://app.example.com:08443", "write https://app.example.com:8443"),
        ("http://a.example:80", "write http://a.example"),
        ("HTTPS://App.Example.com", "write https://app.example.com"),
        ("https://*.Example.com", "write https://*.example.com"),
        ("https://::1", "write https://[::1]"),
        ("https://[0:0::1]:8443", "write https://[::1]:8443"),
        ("https://[2001:DB8::1]", "write https://[2001:db8::1]"),
        ("https://[::ffff:192.0.2.1]", "write https://[::ffff:c000:201]"),
        ("https://bücher.example", "write the host as xn--…"),
        ("https://app.example.com:", "is not a port"),
        ("https://app.example.com:0", "is not a port"),
        ("https://app.example.com:65536", "is not a port"),
        ("https://app.example.com:+1", "is not a port"),
        ("https://a:b:1", "is not a host name"),
        ("https://[::1", "is not a host name"),
        ("https://[::1].example", "is not a host name"),
        ("https://127.1", "is not a host name, nor an address"),
        ("https://010.0.0.1", "is not a host name, nor an address"),
        ("https://a%2eb.example", "is not a host name"),
        ("NULL", "needs a scheme"),
        ("file:///", "nothing more"),
    ] {
        let problems = OriginPolicy::list([origin]).problems();
        assert!(
            problems.len() == 1 && problems[0].to_string().contains(told),
            "{origin}: {problems:?}"
        );
    }
    assert_eq!(OriginPolicy::list(Vec::<String>::new()).problems().len(), 1);
    assert!(
        OriginPolicy::list([
            "https://app.example.com",
            "http://[::1]:3000",
            "https://*.example.com",
            "http://*.localhost:3000",
            "http://192.0.2.1:8080",
            "https://xn--bcher-kva.example",
            "https://app.example.com.",
            "chrome-extension://abcdefghijklmnop",
            "capacitor://localhost",
            "null",
            "file://",
        ])
        .problems()
        .is_empty()
    );
}

proptest! {
    /// Every origin that a wildcard accepts has a host below its domain, for every parser.
    #[test]
    fn a_wildcard_lets_in_nothing_else(
        before in "(https?://)?[a-z.@:/?#%*\\\\-]{0,12}",
        after in "(\\.example\\.com)?(:8443)?[a-z.:/#@]{0,3}",
    ) {
        let policy = OriginPolicy::list(["https://*.example.com"]);
        let origin = before + &after;
        let Ok(value) = origin.parse() else { return Ok(()) };
        let headers = HeaderMap::from_iter([(ORIGIN, value)]);
        let labels = origin
            .strip_prefix("https://")
            .and_then(|host| host.strip_suffix(".example.com"))
            .filter(|labels| labels.split('.').all(|label| !label.is_empty()))
            .filter(|labels| labels.chars().all(|c| c.is_ascii_lowercase() || "-.".contains(c)));
        prop_assert_eq!(policy.permits(&headers), labels.is_some(), "{}", origin);
    }
}

#[test]
fn pages_without_an_origin_may_be_listed() {
    let policy = OriginPolicy::list(["null", "file://"]);
    for (origin, permitted) in
        [("null", true), ("file://", true), ("https://app.example.com", false), ("file:///", false)]
    {
        assert_eq!(policy.permits(&headers(Some(origin))), permitted, "{origin}");
    }
    assert!(policy.is_any(), "so no cookie is read");
    assert!(!OriginPolicy::list(["https://app.example.com"]).is_any());
}

#[test]
fn a_wildcard_is_what_is_below_a_domain() {
    let policy = OriginPolicy::list(["https://*.example.com", "http://*.localhost:3000"]);
    for (origin, permitted) in [
        ("https://app.example.com", true),
        ("https://a.b-c.d_e.example.com", true),
        ("HTTPS://APP.Example.COM", true),
        ("http://shop.localhost:3000", true),
        // The bare domain, another scheme, another port.
        ("https://example.com", false),
        ("https://.example.com", false),
        ("http://app.example.com", false),
        ("https://app.example.com:8443", false),
        ("http://shop.localhost", false),
        ("http://shop.localhost:30000", false),
        // Other domains in disguise.
        ("https://app.example.com.evil.example", false),
        ("https://evilexample.com", false),
        ("https://evil.example/.example.com", false),
        ("https://evil.example:1.example.com", false),
        ("https://evil.example#.example.com", false),
        ("https://evil.example?.example.com", false),
        ("https://evil@app.example.com", false),
        ("https://evil.example\\.example.com", false),
        ("https://a..example.com", false),
        ("https://*.example.com", false),
        ("null", false),
        ("", false),
    ] {
        assert_eq!(policy.permits(&headers(Some(origin))), permitted, "{origin}");
    }
    let mut two = headers(Some("https://app.example.com"));
    assert!(policy.permits(&two));
    two.append(ORIGIN, "https://evil.example".parse().unwrap());
    assert!(!policy.permits(&two), "both count");
}
