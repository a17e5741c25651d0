//! A URL to call, checked once: where it leads, and which authorities to trust there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use http::header::HeaderValue;
use http::uri::Scheme;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

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
    host: String,
    port: u16,
    host_header: HeaderValue,
    /// Path and query.
    target: Uri,
    security: Security,
}

#[derive(Clone)]
pub(crate) enum Security {
    Plain,
    Tls { config: Arc<ClientConfig>, name: ServerName<'static> },
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
        let uri: Uri = url.parse().map_err(|_not_quoted| HttpEndpointError::NoUrl)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(HttpEndpointError::NoUrl);
        };
        if authority.as_str().contains('@') {
            return Err(HttpEndpointError::UserInfo);
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() {
            return Err(HttpEndpointError::NoUrl);
        }
        let (security, port) = if *scheme == Scheme::HTTPS {
            let name = ServerName::try_from(bare.to_owned())
                .map_err(|_not_a_name| HttpEndpointError::NoUrl)?;
            (Security::Tls { config: tls(authorities)?, name }, 443)
        } else if *scheme == Scheme::HTTP {
            if plain == Plain::Nowhere || plain == Plain::Loopback && !is_loopback(bare) {
                return Err(HttpEndpointError::Plain { host: host.to_owned() });
            }
            (Security::Plain, 80)
        } else {
            return Err(HttpEndpointError::Scheme);
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            host_header: HeaderValue::from_str(authority.as_str())
                .map_err(|_not_a_header| HttpEndpointError::NoUrl)?,
            target: target.parse().map_err(|_not_quoted| HttpEndpointError::NoUrl)?,
            security,
        })
    }

    /// The host of the URL, fit for logs.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host in the form for a resolver.
    pub(crate) fn connect_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    pub(crate) fn target(&self) -> &Uri {
        &self.target
    }

    pub(crate) fn security(&self) -> &Security {
        &self.security
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

/// How many certificates the PEM text announces, anywhere in a line and under any label. The reader
/// skips those that do not begin a line, for example if two files were joined without a line end.
fn certificates_announced(pem: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pem);
    let labels = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    labels.filter(|label| label.ends_with("CERTIFICATE")).count()
}

fn tls(authorities: Option<&str>) -> Result<Arc<ClientConfig>, HttpEndpointError> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = authorities {
        let mut read = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            read += 1;
            let added = certificate.is_ok_and(|certificate| roots.add(certificate).is_ok());
            if !added {
                return Err(HttpEndpointError::Authority);
            }
        }
        if roots.is_empty() {
            return Err(HttpEndpointError::Authority);
        }
        if read < certificates_announced(pem.as_bytes()) {
            return Err(HttpEndpointError::AuthorityHalfRead);
        }
    } else {
        // Systems carry an odd certificate or two that nothing can read; they are skipped.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(HttpEndpointError::NoAuthorities);
        }
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
    #[error("this is no URL as https://host/path")]
    NoUrl,
    /// It has another scheme.
    #[error("the URL begins with neither https:// nor http://")]
    Scheme,
    /// It holds a user name or password, which would appear wherever URLs do.
    #[error("the URL has a user or password before the host; use a secret of its own")]
    UserInfo,
    /// It is plain HTTP to another machine.
    #[error("http:// to {host} can be read and changed on the way; use https://, or allow it")]
    Plain {
        /// The host.
        host: String,
    },
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities; install them, or name a file of them")]
    NoAuthorities,
    /// The given authorities cannot be used.
    #[error("there is no certificate of an authority in the PEM text, or one that cannot be read")]
    Authority,
    /// One of the given authorities would be skipped.
    #[error(
        "the PEM text has a certificate that cannot be read: each -----BEGIN CERTIFICATE----- must begin a line of its own, and have that name"
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
                endpoint.connect_host(),
                endpoint.port,
                endpoint.host_header,
                endpoint.target
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
                "http:// to 10.0.0.1 can be read and changed on the way; use https://, or allow it"
            ],
        );
        check(
            "http://localhost.evil.test/",
            &expect![
                "http:// to localhost.evil.test can be read and changed on the way; use https://, or allow it"
            ],
        );
        check(
            "http://user:canary@localhost/",
            &expect!["the URL has a user or password before the host; use a secret of its own"],
        );
        check("ftp://localhost/", &expect!["the URL begins with neither https:// nor http://"]);
        check("", &expect!["this is no URL as https://host/path"]);
        check("/canary", &expect!["this is no URL as https://host/path"]);
        check("localhost:80", &expect!["this is no URL as https://host/path"]);
        check("https://", &expect!["this is no URL as https://host/path"]);
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
