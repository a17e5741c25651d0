//! Where to connect: a URL, parsed once.
//!
//! A URL may hold secrets in its path and query. So no error here quotes one, and `Debug` leaves
//! both out.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
#[cfg(feature = "tls")]
use rustls::ClientConfig;
#[cfg(feature = "tls")]
use rustls::pki_types::ServerName;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpStream, lookup_host};
#[cfg(feature = "tls")]
use tokio_rustls::TlsConnector;

use crate::line::Body;
use crate::stream::Stream;

/// A server's address, how a connection to it is secured, and what to ask it for.
#[derive(Clone)]
pub struct Target {
    /// The host in the form for the resolver: an IPv6 address without brackets.
    host: String,
    port: u16,
    /// The value of the `Host` header.
    authority: HeaderValue,
    resource: PathAndQuery,
    /// Whether the URL asks for TLS.
    is_secure: bool,
    #[cfg(feature = "tls")]
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Connected to instead of the host.
    #[cfg(unix)]
    unix_socket: Option<PathBuf>,
}

/// Why a URL is not a target. No variant quotes any part of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is not an absolute URL with a host and, if there is one, a port up to 65535.
    #[error("malformed URL")]
    Malformed,
    /// It does not begin with a scheme.
    #[error("URL has no scheme")]
    NoScheme,
    /// Its scheme is not one of the two expected ones.
    #[error("URL has an unknown scheme")]
    OtherScheme,
    /// It holds a user name or password, which would appear wherever URLs do.
    #[error("URL contains a user name or password")]
    UserInfo,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name is unknown, the port is closed, or there is no route.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The TLS handshake failed, for example because the server's certificate is not trusted.
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect(error) | DialError::Tls(error) => error,
        }
    }
}

impl Target {
    /// Parses `url`, which must have the scheme `plain`, or `secure` for TLS.
    ///
    /// # Errors
    ///
    /// If it is not such a URL.
    pub fn parse(url: &str, plain: &str, secure: &str) -> Result<Self, TargetError> {
        let parts = url.parse::<Uri>().map_err(|_quotes_it| TargetError::Malformed)?.into_parts();
        let scheme = parts.scheme.ok_or(TargetError::NoScheme)?;
        let is_secure = match scheme.as_str() {
            scheme if scheme.eq_ignore_ascii_case(plain) => false,
            scheme if scheme.eq_ignore_ascii_case(secure) => true,
            _ => return Err(TargetError::OtherScheme),
        };
        let authority = parts.authority.ok_or(TargetError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(TargetError::UserInfo);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(TargetError::Malformed);
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // `port` is also `None` where there is one that is no u16.
            None if authority.host().len() != authority.as_str().len() => {
                return Err(TargetError::Malformed);
            }
            None if is_secure => 443,
            None => 80,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_quotes_it| TargetError::Malformed)?,
            resource: match parts.path_and_query {
                // "ws://host?query" has an empty path, which is sent, and shown, as "/".
                Some(resource) => {
                    resource.to_string().parse().map_err(|_quotes_it| TargetError::Malformed)?
                }
                None => PathAndQuery::from_static("/"),
            },
            is_secure,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(unix)]
            unix_socket: None,
        })
    }

    /// Sets the TLS configuration, which must offer only `http/1.1` by ALPN. It has no effect if
    /// the URL does not ask for TLS.
    ///
    /// # Errors
    ///
    /// [`Malformed`](TargetError::Malformed) if no certificate can be for the host.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, config: Arc<ClientConfig>) -> Result<Self, TargetError> {
        if self.is_secure {
            let name = ServerName::try_from(self.host.clone());
            self.tls = Some((config, name.map_err(|_quotes_it| TargetError::Malformed)?));
        }
        Ok(self)
    }

    /// Connects to this socket instead of the host, without TLS.
    #[cfg(unix)]
    #[must_use]
    pub fn with_unix_socket(self, path: PathBuf) -> Self {
        Self { unix_socket: Some(path), ..self }
    }

    /// Whether the URL asks for TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The host in the form for the resolver: an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: 443 or 80 unless the URL names another.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Path and query.
    pub fn resource(&self) -> &PathAndQuery {
        &self.resource
    }

    /// A request for `resource`, with its `Host` header.
    pub fn request(&self, method: Method, resource: PathAndQuery, body: Bytes) -> Request<Body> {
        let mut request = Request::new(Body::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(resource);
        request.headers_mut().insert(HOST, self.authority.clone());
        request
    }

    /// The addresses that the resolver finds for the host.
    ///
    /// # Errors
    ///
    /// The resolver's error.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((self.host.as_str(), self.port)).await?.collect())
    }

    /// Connects, without Nagle's delay: what is sent here is small and whole.
    ///
    /// # Errors
    ///
    /// If there is no connection, or no secure one although the URL asks for TLS.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; it leaves no connection behind.
    pub async fn dial(&self) -> Result<Stream, DialError> {
        #[cfg(unix)]
        if let Some(path) = &self.unix_socket {
            let stream = UnixStream::connect(path).await.map_err(DialError::Connect)?;
            return Ok(Box::new(stream));
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        self.secure(stream).await.map_err(DialError::Tls)
    }

    /// Performs the TLS handshake over a connection to the host, if the URL asks for TLS.
    ///
    /// # Errors
    ///
    /// If the handshake fails, or if [`with_tls`](Self::with_tls) was not called.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes `stream`.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_async, reason = "TLS waits"))]
    pub async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        if !self.is_secure {
            return Ok(Box::new(stream));
        }
        #[cfg(feature = "tls")]
        if let Some((config, name)) = &self.tls {
            let connector = TlsConnector::from(Arc::clone(config));
            // Boxed, so that connections without TLS do not carry its size.
            let stream = Box::pin(connector.connect(name.clone(), stream)).await?;
            return Ok(Box::new(stream));
        }
        let message = "the URL needs TLS, which is not configured";
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
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
        check("wss://localhost", &expect![[r#"localhost 443 "localhost" /"#]]);
        check("WSS://10.0.0.1:80/ws", &expect![[r#"10.0.0.1 80 "10.0.0.1:80" /ws"#]]);
        check("wss://[::1]", &expect![[r#"::1 443 "[::1]" /"#]]);
    }

    #[test]
    fn what_is_wrong_is_named_and_not_quoted() {
        check("", &expect!["error: malformed URL"]);
        check("canary", &expect!["error: URL has no scheme"]);
        check("canary:80", &expect!["error: URL has no scheme"]);
        check("/canary", &expect!["error: URL has no scheme"]);
        check("http://canary", &expect!["error: URL has an unknown scheme"]);
        check("ws://user:canary@host/", &expect!["error: URL contains a user name or password"]);
        check("ws://canary:65536/", &expect!["error: malformed URL"]);
        check("ws://canary:/", &expect!["error: malformed URL"]);
        check("ws://:80/", &expect!["error: malformed URL"]);
        check("ws:///canary", &expect!["error: malformed URL"]);
        check("ws://canary/ /", &expect!["error: malformed URL"]);
    }

    #[test]
    fn debug_leaves_path_and_query_out() {
        let target = Target::parse("ws://localhost/canary?token=canary", "ws", "wss").unwrap();
        expect![[r#"Target { host: "localhost", port: 80, .. }"#]]
            .assert_eq(&format!("{target:?}"));
    }
}
