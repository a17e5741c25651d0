//! Which web pages may open a connection: the ancestor's `Upgrader.CheckOrigin`.
//!
//! Browsers send `Origin` and pages cannot forge it (RFC 6454); programs may send none.

use std::fmt;
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderValue, ORIGIN};

/// A check of an embedder's own.
type Check = dyn Fn(&HeaderMap) -> bool + Send + Sync;

/// Which origins are accepted at the handshake. A request without `Origin` is no browser's and always passes,
/// except by [`OriginPolicy::check`].
#[derive(Clone, Default)]
pub struct OriginPolicy(Policy);

#[derive(Clone, Default)]
enum Policy {
    #[default]
    Any,
    SameOrigin,
    List(Arc<[String]>),
    Check(Arc<Check>),
}

impl fmt::Debug for OriginPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for OriginPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Policy::Any => f.write_str("any"),
            Policy::SameOrigin => f.write_str("same-origin"),
            Policy::List(origins) => f.write_str(&origins.join(",")),
            Policy::Check(_) => f.write_str("custom check"),
        }
    }
}

impl OriginPolicy {
    /// Every origin: any web page may connect. The default, as the ancestor's.
    #[must_use]
    pub fn any() -> Self {
        Self(Policy::Any)
    }

    /// Only pages whose host and port are those of the request's `Host`.
    ///
    /// The scheme is not compared: behind a proxy that ends TLS it is not known here.
    #[must_use]
    pub fn same_origin() -> Self {
        Self(Policy::SameOrigin)
    }

    /// Only these origins, each as a browser sends it: `https://app.example.com`, with the port where it is not the
    /// scheme's own. Compared without regard to case. What no browser would send is refused when the server is built.
    ///
    /// `https://*.example.com` stands for every host below `example.com`, however deep, and not for `example.com`
    /// itself; scheme and port must still be the same.
    #[must_use]
    pub fn list<I>(origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self(Policy::List(origins.into_iter().map(Into::into).collect()))
    }

    /// A check of your own over the handshake's headers; `true` accepts.
    #[must_use]
    pub fn check(check: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        Self(Policy::Check(Arc::new(check)))
    }

    /// What is wrong with the policy, for `build()`.
    pub(crate) fn problems(&self) -> Vec<String> {
        let Policy::List(origins) = &self.0 else { return Vec::new() };
        if origins.is_empty() {
            return vec!["origin is an empty list, so no web page could connect".to_owned()];
        }
        origins.iter().filter_map(|origin| list_problem(origin)).collect()
    }

    /// Whether it is open: any web page may connect.
    pub(crate) fn is_any(&self) -> bool {
        matches!(self.0, Policy::Any)
    }

    pub(crate) fn permits(&self, headers: &HeaderMap) -> bool {
        if let Policy::Check(check) = &self.0 {
            return check(headers);
        }
        let is_permitted = |origin: &HeaderValue| match (&self.0, origin.to_str()) {
            (Policy::Any | Policy::Check(_), _) => true,
            (_, Err(_)) => false,
            (Policy::SameOrigin, Ok(origin)) => is_same_origin(origin, headers),
            (Policy::List(allowed), Ok(origin)) => {
                allowed.iter().any(|allowed| is_listed(allowed, origin))
            }
        };
        // Of a header that comes twice every line must be in order.
        headers.get_all(ORIGIN).iter().all(is_permitted)
    }
}

/// Whether `origin` is the one allowed, or below the domain that is allowed with a wildcard.
fn is_listed(allowed: &str, origin: &str) -> bool {
    let Some((before, after)) = allowed.split_once('*') else {
        return allowed.eq_ignore_ascii_case(origin);
    };
    // `before` is a scheme with `://`, `after` a dot, the domain and perhaps a port.
    let Some(labels) = strip_prefix_ignoring_case(origin, before)
        .and_then(|rest| strip_suffix_ignoring_case(rest, after))
    else {
        return false;
    };
    // Nothing that could end the host, such as a port or a user, and no label without a character.
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    labels.split('.').all(is_label)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    end.eq_ignore_ascii_case(suffix).then_some(rest)
}

fn list_problem(origin: &str) -> Option<String> {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some(format!("origin {origin:?} needs a scheme, as in https://app.example.com"));
    };
    let domain = authority.strip_prefix("*.");
    let host = domain.unwrap_or(authority);
    let is_plain = !host.is_empty() && !host.contains(['/', '?', '#', '*', ' ', '@', ',']);
    if scheme.is_empty() || scheme.contains('*') || !is_plain {
        return Some(format!(
            "origin {origin:?} must be scheme://host or scheme://host:port and nothing more; \
             the host may begin with *. for all that is below it"
        ));
    }
    if let Some(domain) = domain {
        let name = domain.split(':').next().unwrap_or_default();
        if name != "localhost" && !name.trim_matches('.').contains('.') {
            return Some(format!(
                "origin {origin:?} would allow everybody's domains: below *. there must be a domain of yours, \
                 as in https://*.example.com"
            ));
        }
    }
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    authority
        .ends_with(default_port)
        .then(|| format!("origin {origin:?} names its scheme's own port, which browsers leave out"))
}

/// Whether `origin` is the host and port that the request was sent to.
pub(crate) fn is_same_origin(origin: &str, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    authority.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(OriginPolicy::list(Vec::<String>::new()).problems().len(), 1);
        assert!(
            OriginPolicy::list([
                "https://app.example.com",
                "http://[::1]:3000",
                "https://*.example.com",
                "http://*.localhost:3000",
            ])
            .problems()
            .is_empty()
        );
    }

    proptest! {
        /// Whatever a wildcard lets in is a host below its domain to whoever takes it apart.
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
            // Another domain in any guise.
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
}
