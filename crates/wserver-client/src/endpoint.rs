//! The server of a [`Client`](crate::Client), a [`Pusher`](crate::Pusher) or an
//! [`Api`](crate::Api): its URL, whom to trust there, and what to show.
//!
//! This is the one place where a URL becomes something to connect to.

#[cfg(unix)]
use std::path::PathBuf;

use wserver_outgoing::{Target, TargetError};

#[cfg(feature = "tls")]
use crate::tls::{CertificateError, Tls};

/// Where a server is, and how a connection to it is secured.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Invariant: where its URL asks for TLS, it is connected to as `tls` says.
    target: Target,
    /// `None` where the URL asks for none; what is said of it is not looked at then.
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Endpoint {
    /// The server at `url`, which must have the scheme `plain`, or `secure`, which is that with TLS.
    pub(crate) fn parse(url: &str, plain: &'static str, secure: &str) -> Result<Self, UrlError> {
        let target = Target::parse(url, plain, secure).map_err(|error| match error {
            TargetError::NoScheme | TargetError::OtherScheme => {
                UrlError::Scheme { expected: plain }
            }
            TargetError::UserInfo => UrlError::UserInfo,
            _ => UrlError::Malformed,
        })?;
        if target.is_secure() && cfg!(not(feature = "tls")) {
            return Err(UrlError::Tls);
        }
        #[cfg(feature = "tls")]
        let (target, tls) = if target.is_secure() {
            let tls = Tls::new();
            let target = target.with_tls(tls.config()).map_err(|_no_name| UrlError::Malformed)?;
            (target, Some(tls))
        } else {
            (target, None)
        };
        Ok(Self {
            target,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The same, by this socket instead of the host, and without TLS.
    #[cfg(unix)]
    pub(crate) fn with_unix_socket(self, path: PathBuf) -> Self {
        Self { target: self.target.with_unix_socket(path), ..self }
    }

    /// The same, trusting these authorities as well.
    #[cfg(feature = "tls")]
    pub(crate) fn with_ca_pem(self, pem: &[u8]) -> Result<Self, CertificateError> {
        self.with_tls(|tls| tls.with_authorities(pem))
    }

    /// The same, trusting this certificate of the server and no other.
    #[cfg(feature = "tls")]
    pub(crate) fn with_server_certificate_pem(self, pem: &[u8]) -> Result<Self, CertificateError> {
        self.with_tls(|tls| tls.with_pinned(pem))
    }

    /// The same, with a certificate of the client's own.
    #[cfg(feature = "tls")]
    pub(crate) fn with_identity_pem(
        self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        self.with_tls(|tls| tls.with_identity(certificate, key))
    }

    #[cfg(feature = "tls")]
    fn with_tls(
        mut self,
        change: impl FnOnce(&Tls) -> Result<Tls, CertificateError>,
    ) -> Result<Self, CertificateError> {
        if let Some(tls) = &mut self.tls {
            *tls = change(tls)?;
            self.target = self.target.with_tls(tls.config()).expect("the host was a name before");
        }
        Ok(self)
    }
}

/// Why a URL cannot be connected to. It quotes nothing of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is no absolute URL with a host and, where there is one, a port up to 65535.
    #[error("malformed URL")]
    Malformed,
    /// Its scheme is another, or missing.
    #[error("URL does not begin with {expected}://")]
    Scheme {
        /// The one that was expected.
        expected: &'static str,
    },
    /// It asks for TLS, and the feature `tls` of this crate is off.
    #[error("URL needs TLS, but this client was built without it")]
    Tls,
    /// It has a user name or password in it, for which the contract has no use.
    #[error("URL contains a user name or password")]
    UserInfo,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(url: &str, expected: &Expect) {
        let shown = match Endpoint::parse(url, "ws", "wss") {
            Ok(endpoint) => format!("{:?}", endpoint.target),
            Err(error) => format!("error: {error}"),
        };
        expected.assert_eq(&shown);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn with_tls_the_host_must_be_a_name() {
        check("wss://localhost", &expect![[r#"Target { host: "localhost", port: 443, .. }"#]]);
        check("wss://can*ary", &expect!["error: malformed URL"]);
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn without_tls_that_is_said() {
        check(
            "wss://canary",
            &expect!["error: URL needs TLS, but this client was built without it"],
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_not_quoted() {
        check("", &expect!["error: malformed URL"]);
        check("canary", &expect!["error: URL does not begin with ws://"]);
        check("http://canary", &expect!["error: URL does not begin with ws://"]);
        check("ws://user:canary@host/", &expect!["error: URL contains a user name or password"]);
        check("ws://canary:65536/", &expect!["error: malformed URL"]);
    }
}
