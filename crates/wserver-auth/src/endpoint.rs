//! A URL to call, checked once: where it leads, and which authorities to trust there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use wserver_outgoing::{Target, TargetError};
use wserver_tls::AuthoritiesError;

/// A URL of a backend or an issuer, and how a connection to it is secured.
///
/// `https` trusts the certificate authorities of the system (on Unix, `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name others), or those that you give instead. `http` is only for addresses of
/// this machine, unless you explicitly allow more. Redirects are not followed, and proxies in the
/// environment are not used. `Debug` shows only the host of the URL.
///
/// ```
/// use wserver_auth::HttpEndpoint;
///
/// assert!(HttpEndpoint::new("http://127.0.0.1:8000/auth?kind=push").is_ok());
/// assert!(HttpEndpoint::new("http://backend.example/auth").is_err());
/// assert!(HttpEndpoint::allowing_plain_http("http://backend.example/auth").is_ok());
/// ```
#[derive(Clone)]
pub struct HttpEndpoint {
    /// As the URL has it, with the brackets of an IPv6 address.
    host: String,
    target: Target,
}

impl HttpEndpoint {
    /// An endpoint over `https` that trusts the system's certificate authorities, or over `http` on
    /// this machine.
    ///
    /// # Errors
    ///
    /// If the URL is not of this kind, or if the system has no certificate authorities.
    pub fn new(url: &str) -> Result<Self, HttpEndpointError> {
        Self::parse(url, Plain::Loopback, None)
    }

    /// Like [`new`](Self::new), but allows `http` to any host. Anybody in between can then read and
    /// change the traffic, so it is only for networks that nobody else can reach.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), except that any host is allowed.
    pub fn allowing_plain_http(url: &str) -> Result<Self, HttpEndpointError> {
        Self::parse(url, Plain::Anywhere, None)
    }

    /// An endpoint over `https` that trusts only the certificate authorities in this PEM text.
    ///
    /// # Errors
    ///
    /// If the URL is not of this kind, or if the text has no certificate, or one that cannot be an
    /// authority.
    pub fn trusting(url: &str, authorities_pem: &str) -> Result<Self, HttpEndpointError> {
        Self::parse(url, Plain::Nowhere, Some(authorities_pem))
    }

    fn parse(
        url: &str,
        plain: Plain,
        authorities: Option<&str>,
    ) -> Result<Self, HttpEndpointError> {
        let target = Target::parse(url, "http", "https").map_err(|error| match error {
            TargetError::OtherScheme => HttpEndpointError::Scheme,
            TargetError::UserInfo => HttpEndpointError::UserInfo,
            _ => HttpEndpointError::NoUrl,
        })?;
        let host = match target.host() {
            address if address.contains(':') => format!("[{address}]"),
            host => host.to_owned(),
        };
        if !target.is_secure() {
            if plain == Plain::Nowhere || plain == Plain::Loopback && !is_loopback(target.host()) {
                return Err(HttpEndpointError::Plain { host });
            }
            return Ok(Self { host, target });
        }
        let roots = match authorities {
            Some(pem) => wserver_tls::authorities(pem.as_bytes()).map_err(|error| match error {
                AuthoritiesError::HalfRead => HttpEndpointError::AuthorityHalfRead,
                _ => HttpEndpointError::Authority,
            })?,
            None => wserver_tls::system_authorities(),
        };
        if roots.is_empty() {
            return Err(HttpEndpointError::NoAuthorities);
        }
        let mut config = wserver_tls::trusting(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let target = target.with_tls(Arc::new(config));
        Ok(Self { host, target: target.map_err(|_no_name| HttpEndpointError::NoUrl)? })
    }

    /// The host of the URL, fit for logs.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

/// Where plain HTTP is allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Nowhere,
    Loopback,
    Anywhere,
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpEndpoint").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Why an endpoint cannot be used. No variant contains any part of the URL except the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpEndpointError {
    /// It is not a URL with a scheme and a host.
    #[error("this is not a URL such as https://host/path")]
    NoUrl,
    /// It has another scheme.
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    /// It holds a user name or password, which would appear wherever URLs do.
    #[error("the URL must not contain a user or password; set the secret separately")]
    UserInfo,
    /// It is plain HTTP to another machine.
    #[error(
        "plain http:// to {host} can be read and changed in transit; use https://, or allow \
             plain HTTP"
    )]
    Plain {
        /// The host.
        host: String,
    },
    /// The system has no certificate authorities.
    #[error(
        "the system has no certificate authorities; install them, or name a file that contains \
             them"
    )]
    NoAuthorities,
    /// The given authorities cannot be used.
    #[error("the PEM text contains no authority's certificate, or one that cannot be read")]
    Authority,
    /// One of the given authorities would be skipped.
    #[error(
        "the PEM text contains a certificate that cannot be read: each must begin with -----BEGIN \
         CERTIFICATE----- on a line of its own"
    )]
    AuthorityHalfRead,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(url: &str, expected: &Expect) {
        let shown = match HttpEndpoint::new(url) {
            Ok(endpoint) => format!(
                "{} {} {:?} {}",
                endpoint.target.host(),
                endpoint.target.port(),
                endpoint.target.authority(),
                endpoint.target.resource()
            ),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn urls_are_checked() {
        check("http://localhost", &expect![[r#"localhost 80 "localhost" /"#]]);
        check(
            "http://127.0.0.1:8000/a?b=c#d",
            &expect![[r#"127.0.0.1 8000 "127.0.0.1:8000" /a?b=c"#]],
        );
        check("http://[::1]:1/", &expect![[r#"::1 1 "[::1]:1" /"#]]);
        check(
            "http://10.0.0.1/canary",
            &expect![
                "plain http:// to 10.0.0.1 can be read and changed in transit; use https://, or \
                 allow plain HTTP"
            ],
        );
        check(
            "http://localhost.evil.test/",
            &expect![
                "plain http:// to localhost.evil.test can be read and changed in transit; use \
                 https://, or allow plain HTTP"
            ],
        );
        check(
            "http://user:canary@localhost/",
            &expect!["the URL must not contain a user or password; set the secret separately"],
        );
        check("ftp://localhost/", &expect!["the URL must begin with https:// or http://"]);
        check("", &expect!["this is not a URL such as https://host/path"]);
        check("/canary", &expect!["this is not a URL such as https://host/path"]);
        check("localhost:80", &expect!["this is not a URL such as https://host/path"]);
        check("http://localhost:65536/", &expect!["this is not a URL such as https://host/path"]);
        check("https://", &expect!["this is not a URL such as https://host/path"]);
    }

    #[test]
    fn authorities_are_checked() {
        for pem in ["", "canary", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            let built = HttpEndpoint::trusting("https://localhost/", pem);
            assert_eq!(built.unwrap_err(), HttpEndpointError::Authority, "{pem}");
        }
        let plain = HttpEndpoint::trusting("http://localhost/", "");
        assert!(matches!(plain, Err(HttpEndpointError::Plain { .. })));
    }

    #[test]
    fn debug_shows_the_host_alone() {
        let endpoint = HttpEndpoint::new("http://localhost/canary?canary").unwrap();
        assert_eq!(format!("{endpoint:?}"), r#"HttpEndpoint { host: "localhost", .. }"#);
    }
}
