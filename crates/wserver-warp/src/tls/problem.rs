//! What can be wrong with a certificate, its key and the authorities of clients.
//!
//! No problem repeats the content of a file, which may be a key.

use std::fmt;
use std::path::PathBuf;

/// The source of a part of a listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPart {
    /// The name of its setting.
    pub setting: &'static str,
    /// The file; `None` if the program passed the content.
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

/// One problem with a listener's TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// A file cannot be read.
    #[error("{part}: {error}")]
    Unreadable {
        /// The file.
        part: TlsPart,
        /// What the operating system reported.
        error: String,
    },
    /// A part is not PEM.
    #[error("{part} is not PEM: {why}")]
    NotPem {
        /// The part.
        part: TlsPart,
        /// What is wrong, in words.
        why: &'static str,
    },
    /// A part has no certificate.
    #[error(
        "{part} holds no certificate{}",
        if *holds_key { "; it holds a private key: are the two files swapped?" }
        else { " (no -----BEGIN CERTIFICATE-----)" }
    )]
    NoCertificate {
        /// The part.
        part: TlsPart,
        /// Whether it has a private key instead.
        holds_key: bool,
    },
    /// Some certificates of a part would be skipped.
    #[error(
        "{part} holds {announced} certificates, of which {read} can be read: each must begin with \
         -----BEGIN CERTIFICATE----- on a line of its own"
    )]
    CertificatesPassedOver {
        /// The part.
        part: TlsPart,
        /// How many there seem to be.
        announced: usize,
        /// How many can be read.
        read: usize,
    },
    /// A certificate is malformed.
    #[error("{part} holds a certificate that cannot be read: {error}")]
    CertificateMalformed {
        /// The part.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// A certificate cannot be the authority of others.
    #[error("{part} holds a certificate that cannot be an authority: {error}")]
    NoAuthority {
        /// The part.
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
        /// The part.
        part: TlsPart,
    },
    /// A part has several keys.
    #[error("{part} contains {keys} private keys, but must contain exactly one")]
    SeveralKeys {
        /// The part.
        part: TlsPart,
        /// The number of keys.
        keys: usize,
    },
    /// A key would be skipped.
    #[error(
        "{part} holds a private key that cannot be read: -----BEGIN PRIVATE KEY----- must \
         begin a line of its own"
    )]
    KeyPassedOver {
        /// The part.
        part: TlsPart,
    },
    /// A part has no key.
    #[error(
        "{part} holds no private key{}",
        if *holds_certificate { "; it holds a certificate: are the two files swapped?" }
        else { " (no -----BEGIN PRIVATE KEY-----)" }
    )]
    NoKey {
        /// The part.
        part: TlsPart,
        /// Whether it has a certificate instead.
        holds_certificate: bool,
    },
    /// A key has an unsupported type.
    #[error("{part} holds a key that cannot be used: {error}")]
    KeyUnusable {
        /// The part.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// The key belongs to another certificate.
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
    /// A certificate has an unsupported type.
    #[error("{part} cannot be used: {error}")]
    CertificateUnusable {
        /// The part.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
    /// All parts are valid, but the TLS library refuses them together.
    #[error("TLS cannot be set up: {error}")]
    Setup {
        /// The certificate.
        part: TlsPart,
        /// What the TLS library reported.
        error: String,
    },
}

impl TlsProblem {
    /// The names of the settings concerned, the wrong one first.
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
