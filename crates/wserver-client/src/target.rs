//! Where to connect: a URL, parsed once when it is given.
//!
//! A URL can contain secrets in its query, so no error here quotes a URL, and `Debug` omits the
//! query.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

use http::Uri;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
#[cfg(feature = "tls")]
use rustls::pki_types::ServerName;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpStream, lookup_host};

use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::{CertificateError, Tls};

/// The server's address, and the resource to request.
#[derive(Clone)]
pub(crate) struct Target {
    /// In the form of the resolver: an IPv6 address without brackets.
    host: String,
    port: u16,
    /// The value of the `Host` header.
    authority: HeaderValue,
    resource: PathAndQuery,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    /// The socket to connect to instead of the host.
    #[cfg(unix)]
    unix_socket: Option<PathBuf>,
}

impl Target {
    /// Parses `url`, which must have the scheme `plain`, or `secure`, the same with TLS.
    pub(crate) fn parse(url: &str, plain: &'static str, secure: &str) -> Result<Self, UrlError> {
        let parts = url.parse::<Uri>().map_err(|_ignored| UrlError::Malformed)?.into_parts();
        let is_secure = match parts.scheme {
            Some(scheme) if scheme.as_str().eq_ignore_ascii_case(plain) => false,
            Some(scheme) if scheme.as_str().eq_ignore_ascii_case(secure) => true,
            _ => return Err(UrlError::Scheme { expected: plain }),
        };
        if is_secure && cfg!(not(feature = "tls")) {
            return Err(UrlError::Tls);
        }
        let authority = parts.authority.ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(UrlError::Malformed);
        }
        Ok(Self {
            #[cfg(feature = "tls")]
            tls: if is_secure {
                let name = ServerName::try_from(host.to_owned());
                Some(Tls::new(name.map_err(|_ignored| UrlError::Malformed)?))
            } else {
                None
            },
            #[cfg(unix)]
            unix_socket: None,
            host: host.to_owned(),
            port: match authority.port() {
                Some(port) => port.as_u16(),
                // `port` is also `None` if the URL has a port that is not a u16.
                None if authority.host().len() == authority.as_str().len() => {
                    if is_secure {
                        443
                    } else {
                        80
                    }
                }
                None => return Err(UrlError::Malformed),
            },
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_ignored| UrlError::Malformed)?,
            resource: match parts.path_and_query {
                // "ws://host?query" has an empty path, which is sent, and shown, as "/".
                Some(resource) => {
                    resource.to_string().parse().map_err(|_ignored| UrlError::Malformed)?
                }
                None => PathAndQuery::from_static("/"),
            },
        })
    }

    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    pub(crate) fn resource(&self) -> &PathAndQuery {
        &self.resource
    }

    /// Connects without Nagle's delay, because what the client sends is small and complete.
    pub(crate) async fn dial(&self) -> io::Result<Stream> {
        #[cfg(unix)]
        if let Some(path) = &self.unix_socket {
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        self.secure(stream).await
    }

    /// Resolves the host.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((self.host.as_str(), self.port)).await?.collect())
    }

    /// Makes the TLS handshake, if the URL requires TLS.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_async, reason = "TLS waits"))]
    pub(crate) async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.connect(stream).await?;
            return Ok(Box::new(stream));
        }
        Ok(Box::new(stream))
    }

    /// Connects to this socket instead of the host, without TLS.
    #[cfg(unix)]
    pub(crate) fn with_unix_socket(self, path: PathBuf) -> Self {
        Self { unix_socket: Some(path), ..self }
    }

    /// Also trusts these certificate authorities.
    #[cfg(feature = "tls")]
    pub(crate) fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        if let Some(tls) = &mut self.tls {
            *tls = tls.with_authorities(pem)?;
        }
        Ok(self)
    }

    /// Trusts only this certificate of the server.
    #[cfg(feature = "tls")]
    pub(crate) fn with_server_certificate_pem(
        mut self,
        pem: &[u8],
    ) -> Result<Self, CertificateError> {
        if let Some(tls) = &mut self.tls {
            *tls = tls.with_pinned(pem)?;
        }
        Ok(self)
    }

    /// Presents a certificate of the client.
    #[cfg(feature = "tls")]
    pub(crate) fn with_identity_pem(
        mut self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        if let Some(tls) = &mut self.tls {
            *tls = tls.with_identity(certificate, key)?;
        }
        Ok(self)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &self.resource.path())
            .finish_non_exhaustive()
    }
}

/// Why a URL is not valid for a connection. It quotes nothing of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is not an absolute URL with a host and, if it has a port, one up to 65535.
    #[error("malformed URL")]
    Malformed,
    /// It has another scheme, or none.
    #[error("URL does not begin with {expected}://")]
    Scheme {
        /// The expected scheme.
        expected: &'static str,
    },
    /// It requires TLS, and the feature `tls` of this crate is off.
    #[error("URL asks for TLS, which was left out of this client")]
    Tls,
    /// It contains a user name or password, which the contract does not use.
    #[error("URL holds a user name or password")]
    UserInfo,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(url: &str, expected: &Expect) {
        let shown = match Target::parse(url, "ws", "wss") {
            Ok(target) => format!(
                "{} {} {:?} {}",
                target.host, target.port, target.authority, target.resource
            ),
            Err(error) => format!("error: {error}"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn urls_are_taken_apart() {
        check("ws://localhost", &expect![[r#"localhost 80 "localhost" /"#]]);
        check("WS://localhost:1/ws", &expect![[r#"localhost 1 "localhost:1" /ws"#]]);
        check(
            "ws://10.0.0.1:65535/ws?a=b#c",
            &expect![[r#"10.0.0.1 65535 "10.0.0.1:65535" /ws?a=b"#]],
        );
        check("ws://[::1]:8080/", &expect![[r#"::1 8080 "[::1]:8080" /"#]]);
        check("ws://[::1]", &expect![[r#"::1 80 "[::1]" /"#]]);
        check("ws://localhost?a=b", &expect![[r#"localhost 80 "localhost" /?a=b"#]]);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn urls_with_tls_have_a_port_of_their_own() {
        check("wss://localhost", &expect![[r#"localhost 443 "localhost" /"#]]);
        check("WSS://10.0.0.1:80/ws", &expect![[r#"10.0.0.1 80 "10.0.0.1:80" /ws"#]]);
        check("wss://[::1]", &expect![[r#"::1 443 "[::1]" /"#]]);
        check("wss://can*ary", &expect!["error: malformed URL"]);
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_that_is_said() {
        check(
            "wss://canary",
            &expect!["error: URL asks for TLS, which was left out of this client"],
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_not_quoted() {
        check("", &expect!["error: malformed URL"]);
        check("canary", &expect!["error: URL does not begin with ws://"]);
        check("/canary", &expect!["error: URL does not begin with ws://"]);
        check("http://canary", &expect!["error: URL does not begin with ws://"]);
        check("ws://user:canary@host/", &expect!["error: URL holds a user name or password"]);
        check("ws://canary:65536/", &expect!["error: malformed URL"]);
        check("ws://canary:/", &expect!["error: malformed URL"]);
        check("ws://:80/", &expect!["error: malformed URL"]);
        check("ws:///canary", &expect!["error: malformed URL"]);
        check("ws://canary/ /", &expect!["error: malformed URL"]);
    }

    #[test]
    fn debug_leaves_the_query_out() {
        let target = Target::parse("ws://localhost/ws?token=canary", "ws", "wss").unwrap();
        expect![[r#"Target { host: "localhost", port: 80, path: "/ws", .. }"#]]
            .assert_eq(&format!("{target:?}"));
    }
}
