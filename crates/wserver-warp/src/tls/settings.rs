//! The certificate and key of a listener, and the clients that may connect to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The certificate and key of one listener, all in PEM, and the clients that may connect.
///
/// Files are read when the server is built, and again when they change or when
/// [`Handle::reload_tls`](crate::Handle::reload_tls) is called.
#[derive(Clone)]
pub struct TlsSettings {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
    pub(super) client_ca: Option<Pem>,
}

#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    /// May be a secret.
    Bytes(Arc<[u8]>),
}

impl TlsSettings {
    /// Uses two files: the certificate with its chain, the server's own first, and its unencrypted
    /// private key.
    #[must_use]
    pub fn files(certificate_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            certificate: Pem::File(certificate_file.into()),
            key: Pem::File(key_file.into()),
            client_ca: None,
        }
    }

    /// As [`files`](Self::files), with the contents instead of files. They cannot be reloaded.
    #[must_use]
    pub fn pem(certificate: &[u8], key: &[u8]) -> Self {
        Self {
            certificate: Pem::Bytes(certificate.into()),
            key: Pem::Bytes(key.into()),
            client_ca: None,
        }
    }

    /// Lets only clients connect whose certificate one of these authorities has signed; rarely
    /// useful for a listener for browsers.
    ///
    /// The server reads no revocation lists, so use short-lived certificates. It resumes no
    /// sessions, so every connection shows its certificate again.
    #[must_use]
    pub fn client_ca_file(mut self, client_ca_file: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(Pem::File(client_ca_file.into()));
        self
    }

    /// As [`client_ca_file`](Self::client_ca_file), with the content instead of a file.
    #[must_use]
    pub fn client_ca_pem(mut self, client_ca: &[u8]) -> Self {
        self.client_ca = Some(Pem::Bytes(client_ca.into()));
        self
    }

    /// Whether every client must have a certificate.
    pub(crate) fn asks_for_clients(&self) -> bool {
        self.client_ca.is_some()
    }

    pub(super) fn files_named(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|pem| match pem {
                Pem::File(path) => Some(path.as_path()),
                Pem::Bytes(_) => None,
            })
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("client_ca", &self.client_ca)
            .finish()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Bytes(_) => f.write_str("PEM"),
        }
    }
}

/// The names of the parts of one listener's TLS in problems.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
    pub(super) client_ca: &'static str,
}

/// The names for the public listener.
pub(crate) const PUBLIC: Names = Names {
    certificate: "tls_certificate_file",
    key: "tls_key_file",
    client_ca: "tls_client_ca_file",
};

/// The names for the private listener.
pub(crate) const PRIVATE: Names = Names {
    certificate: "private_tls_certificate_file",
    key: "private_tls_key_file",
    client_ca: "private_client_ca_file",
};
