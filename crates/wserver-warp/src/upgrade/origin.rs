//! Which web pages may open a connection: the ancestor's `Upgrader.CheckOrigin`.
//!
//! Browsers send `Origin` and pages cannot forge it (RFC 6454); programs may send none.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{HeaderValue, ORIGIN};
use wserver_api::is_same_origin;

/// An embedder's own check.
type Check = dyn Fn(&HeaderMap) -> bool + Send + Sync;

/// The origins that a handshake may have. A request without `Origin` does not come from a browser
/// and always passes, except with [`OriginPolicy::check`].
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
    /// Every origin: any web page may connect. This is the default, as in the ancestor.
    #[must_use]
    pub fn any() -> Self {
        Self(Policy::Any)
    }

    /// Only pages whose host and port equal those of the request's `Host`.
    ///
    /// The scheme is not compared, because behind a proxy that terminates TLS it is unknown here.
    #[must_use]
    pub fn same_origin() -> Self {
        Self(Policy::SameOrigin)
    }

    /// Only these origins, each as a browser sends it: `https://app.example.com`, with the port
    /// unless it is the scheme's default. `build()` refuses origins that no browser sends, and says
    /// what a browser would send.
    ///
    /// `null` stands for pages without an origin, and `file://` for pages from files. Any page can
    /// open another in a frame with the origin `null`, so neither goes together with cookies.
    ///
    /// `https://*.example.com` stands for every host below `example.com`, at any depth, but not for
    /// `example.com` itself; scheme and port must still match.
    #[must_use]
    pub fn list<I>(origins: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self(Policy::List(origins.into_iter().map(Into::into).collect()))
    }

    /// Your own check of the handshake's headers; `true` accepts.
    #[must_use]
    pub fn check(check: impl Fn(&HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        Self(Policy::Check(Arc::new(check)))
    }

    /// The problems of the policy, for `build()`.
    pub(crate) fn problems(&self) -> Vec<OriginProblem> {
        let Policy::List(origins) = &self.0 else { return Vec::new() };
        if origins.is_empty() {
            return vec![OriginProblem::Empty];
        }
        let problem = |origin: &String| {
            let fault = fault(origin)?;
            Some(OriginProblem::Origin { origin: origin.clone(), fault })
        };
        origins.iter().filter_map(problem).collect()
    }

    /// Whether any web page may connect, possibly from a frame without an origin.
    #[must_use]
    pub fn is_any(&self) -> bool {
        match &self.0 {
            Policy::Any => true,
            Policy::List(origins) => origins.iter().any(|it| it == OPAQUE || it == FILES),
            Policy::SameOrigin | Policy::Check(_) => false,
        }
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
        // If a header comes twice, every line must be valid.
        headers.get_all(ORIGIN).iter().all(is_permitted)
    }
}

/// Whether `origin` equals the allowed one, or is below its wildcard domain.
fn is_listed(allowed: &str, origin: &str) -> bool {
    let Some((before, after)) = allowed.split_once('*') else {
        return allowed.eq_ignore_ascii_case(origin);
    };
    // `before` is a scheme with `://`, `after` a dot, the domain and possibly a port.
    let Some(labels) = strip_prefix_ignoring_case(origin, before)
        .and_then(|rest| strip_suffix_ignoring_case(rest, after))
    else {
        return false;
    };
    // No character that could end the host, such as that of a port or a user, and no empty label.
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

/// What browsers send for pages without an origin: sandboxed frames, `data:` URLs.
const OPAQUE: &str = "null";

/// What web views send for pages from files.
const FILES: &str = "file://";

/// One problem with a list of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginProblem {
    /// The list is empty.
    #[error("origin is an empty list, so no web page could connect")]
    Empty,
    /// No page can have this origin.
    #[error("origin {origin:?} {fault}")]
    Origin {
        /// The origin.
        origin: String,
        /// What is wrong with it.
        fault: OriginFault,
    },
}

/// What is wrong with an origin in a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginFault {
    /// It has no scheme.
    #[error("needs a scheme, as in https://app.example.com")]
    NoScheme,
    /// It has a path, a wildcard in the middle, or similar.
    #[error(
        "must be scheme://host or scheme://host:port and nothing more; a host that begins with *. stands for all hosts below it"
    )]
    NotPlain,
    /// Its host is not in the form that browsers send.
    #[error("has letters beyond ASCII, which browsers encode: write the host as xn--…")]
    NotAscii,
    /// Its scheme is not valid.
    #[error("is never sent by a browser: {scheme:?} is not a scheme")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Its port is not valid.
    #[error("is never sent by a browser: {port:?} is not a port")]
    Port {
        /// The port.
        port: String,
    },
    /// Its host is not valid.
    #[error("is never sent by a browser: {host:?} is not a host name")]
    Host {
        /// The host.
        host: String,
    },
    /// Its host ends with a number but is not an address.
    #[error(
        "is never sent by a browser: {host:?} is not a host name, nor an address such as 192.0.2.1"
    )]
    HostAddress {
        /// The host.
        host: String,
    },
    /// Browsers send it in another form.
    #[error("is never sent by a browser: write {written}")]
    WrittenOtherwise {
        /// The form that they send.
        written: String,
    },
    /// Its wildcard includes domains of others.
    #[error(
        "would allow everybody's domains: after *. write a domain of yours, as in \
         https://*.example.com"
    )]
    TooWide,
}

fn fault(origin: &str) -> Option<OriginFault> {
    if origin == OPAQUE || origin == FILES {
        return None;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some(OriginFault::NoScheme);
    };
    let domain = authority.strip_prefix("*.");
    let host = domain.unwrap_or(authority);
    let is_plain = !host.is_empty() && !host.contains(['/', '?', '#', '*', ' ', '@', ',', '\\']);
    if scheme.is_empty() || scheme.contains('*') || !is_plain {
        return Some(OriginFault::NotPlain);
    }
    if !origin.is_ascii() {
        return Some(OriginFault::NotAscii);
    }
    let written = match written_by_browsers(scheme, host) {
        Ok(written) => written,
        Err(fault) => return Some(fault),
    };
    let wildcard = if domain.is_some() { "*." } else { "" };
    let (scheme, host) = written;
    let written = format!("{scheme}://{wildcard}{host}");
    if written != origin {
        return Some(OriginFault::WrittenOtherwise { written });
    }
    if let Some(domain) = domain {
        let name = domain.split(':').next().unwrap_or_default();
        if name != "localhost" && !name.trim_matches('.').contains('.') {
            return Some(OriginFault::TooWide);
        }
    }
    None
}

/// The scheme and host that a browser sends in `Origin` (HTML, "ASCII serialization of an origin"),
/// or why there is no such origin.
fn written_by_browsers(scheme: &str, authority: &str) -> Result<(String, String), OriginFault> {
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.bytes().all(is_scheme) {
        return Err(OriginFault::Scheme { scheme });
    }
    let scheme = match scheme.as_str() {
        // A page has the scheme from which it was loaded, not the one that it opens.
        "ws" => "http".to_owned(),
        "wss" => "https".to_owned(),
        _ => scheme,
    };
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        // Origins of apps and extensions have any form, and no port.
        _ => return Ok((scheme, authority.to_owned())),
    };
    // A second colon without brackets belongs to an IPv6 address.
    let is_bare_v6 = authority.parse::<Ipv6Addr>().is_ok();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 && !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let mut written = written_host(host)?;
    if let Some(port) = port {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.trim_start_matches('0').parse::<u16>().ok().filter(|_| is_number);
        let number = number.ok_or_else(|| OriginFault::Port { port: port.to_owned() })?;
        // Browsers leave out the scheme's default port.
        if number != default_port {
            written.push_str(&format!(":{number}"));
        }
    }
    Ok((scheme, written))
}

fn written_host(host: &str) -> Result<String, OriginFault> {
    let v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = v6.parse::<Ipv6Addr>() {
        // Browsers also write the last two parts of a mapped address in hexadecimal.
        return Ok(match (address.to_ipv4_mapped(), address.segments()) {
            (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
            (None, _) => format!("[{address}]"),
        });
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host.is_empty() || !host.bytes().all(is_part) {
        return Err(OriginFault::Host { host: host.to_owned() });
    }
    // For a browser, a host that ends with a number is an address, which it writes in full.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(OriginFault::HostAddress { host: host.to_owned() });
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
