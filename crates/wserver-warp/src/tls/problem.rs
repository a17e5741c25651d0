//! What can be wrong with a certificate, its key and the authorities of clients.
//!
//! Nothing of a file's content is repeated: it may be a key.

use std::fmt;
use std::path::PathBuf;

/// Where a part of a listener's TLS comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPart {
    /// The name of its setting.
    pub setting: &'static str,
    /// The file; `None` where the program gave the content.
    pub file: Option<PathBuf>,
}

impl fmt::Display for TlsPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} {}", self.setting, file.display()),
            None => write!(f, "{} (given as PEM)", self.setting),
        }
    }
}

/// One thing that is wrong with a listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// A file cannot be read.
    #[error("{part}: {error}")]
    Unreadable {
        /// Which.
        part: TlsPart,
        /// What the operating system reported.
        error: String,
    },
    /// A part is not PEM.
    #[error("{part} is not PEM: {why}")]
    NotPem {
        /// Which.
        part: TlsPart,
        /// What about it, in words.
        why: &'static str,
    },
    /// A part has no certificate.
    #[error(
        "{part} holds no certificate{}",
        if *holds_key { "; it holds a private key: are the two files swapped?" }
        else { " (no -----BEGIN CERTIFICATE-----)" }
    )]
    NoCertificate {
        /// Which.
        part: TlsPart,
        /// Whether it has a private key instead.
        holds_key: bool,
    },
    /// Some certificates of a part would be passed over.
    #[error(
        "{part} holds {announced} certificates, of which {read} can be read: each must begin with \
         -----BEGIN CERTIFICATE----- on a line of its own"
    )]
    CertificatesPassedOver {
        /// Which.
        part: TlsPart,
        /// How many there seem to be.
        announced: usize,
        /// How many are read.
        read: usize,
    },
    /// A certificate is malformed.
    #[error("{part} holds a certificate that cannot be read: {error}")]
    CertificateMalformed {
        /// Where.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// A certificate cannot be the authority of others.
    #[error("{part} holds a certificate that cannot be an authority: {error}")]
    NoAuthority {
        /// Where.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// A key is encrypted.
    #[error(
        "{part} is encrypted, but a server cannot ask for the passphrase: decrypt it with `openssl \
         pkey -in KEY -out KEY.plain` and let only the server read that"
    )]
    KeyEncrypted {
        /// Which.
        part: TlsPart,
    },
    /// A part has several keys.
    #[error("{part} contains {keys} private keys, but must contain exactly one")]
    SeveralKeys {
        /// Which.
        part: TlsPart,
        /// How many.
        keys: usize,
    },
    /// A key would be passed over.
    #[error(
        "{part} holds a private key that cannot be read: -----BEGIN PRIVATE KEY----- must \
         begin a line of its own"
    )]
    KeyPassedOver {
        /// Which.
        part: TlsPart,
    },
    /// A part has no key.
    #[error(
        "{part} holds no private key{}",
        if *holds_certificate { "; it holds a certificate: are the two files swapped?" }
        else { " (no -----BEGIN PRIVATE KEY-----)" }
    )]
    NoKey {
        /// Which.
        part: TlsPart,
        /// Whether it has a certificate instead.
        holds_certificate: bool,
    },
    /// A key is of no kind that can be used.
    #[error("{part} holds a key that cannot be used: {error}")]
    KeyUnusable {
        /// Which.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// The key is another certificate's.
    #[error(
        "{key} does not match the first certificate in {certificate}; the server's own certificate \
         must come before those that signed it"
    )]
    KeyOfAnother {
        /// The key.
        key: TlsPart,
        /// The certificate.
        certificate: TlsPart,
    },
    /// A certificate is of no kind that can be used.
    #[error("{part} cannot be used: {error}")]
    CertificateUnusable {
        /// Which.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// All parts are in order, and the TLS library refuses them together.
    #[error("TLS cannot be set up: {error}")]
    Setup {
        /// The certificate.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
}

impl TlsProblem {
    /// The names of the settings that it is about, the one that is wrong first.
    #[must_use]
    pub fn settings(&self) -> Vec<&'static str> {
        match self {
            Self::KeyOfAnother { key, certificate } => vec![key.setting, certificate.setting],
            Self::Unreadable { part, .. }
            | Self::NotPem { part, .. }
            | Self::NoCertificate { part, .. }
            | Self::CertificatesPassedOver { part, .. }
            | Self::CertificateMalformed { part, .. }
            | Self::NoAuthority { part, .. }
            | Self::KeyEncrypted { part }
            | Self::SeveralKeys { part, .. }
            | Self::KeyPassedOver { part }
            | Self::NoKey { part, .. }
            | Self::KeyUnusable { part, .. }
            | Self::CertificateUnusable { part, .. }
            | Self::Setup { part, .. } => vec![part.setting],
        }
    }
}
