//! What a failed TLS handshake failed of, for those who give advice.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// What a TLS handshake failed of, as far as there is something to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// No authority that is trusted has signed the server's certificate.
    UnknownIssuer,
    /// The certificate is for other names.
    WrongName,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet, by this machine's clock.
    NotYetValid,
    /// The server does not speak TLS.
    NotTls,
    /// The two sides have no version or cipher in common.
    NothingInCommon,
    /// The server speaks no version of TLS that is taken.
    VersionTooOld,
    /// The server asks clients for a certificate.
    ClientCertificate,
}

impl TlsFault {
    /// What it was, by the error that [`Dialed::secure`](crate::Dialed::secure) gave; `None` where it
    /// was something else.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref::<Error>()? {
            Error::InvalidCertificate(error) => match error {
                CertificateError::UnknownIssuer => Some(Self::UnknownIssuer),
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Some(Self::WrongName),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Some(Self::Expired)
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Some(Self::NotYetValid)
                }
                _ => None,
            },
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::NotTls),
            Error::AlertReceived(AlertDescription::HandshakeFailure) => Some(Self::NothingInCommon),
            Error::AlertReceived(AlertDescription::ProtocolVersion) => Some(Self::VersionTooOld),
            Error::AlertReceived(AlertDescription::CertificateRequired) => {
                Some(Self::ClientCertificate)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_in_what_the_library_reported() {
        let of = |error: Error| TlsFault::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        let certificate = |error| of(Error::InvalidCertificate(error));
        assert_eq!(certificate(CertificateError::UnknownIssuer), Some(TlsFault::UnknownIssuer));
        assert_eq!(certificate(CertificateError::NotValidForName), Some(TlsFault::WrongName));
        assert_eq!(certificate(CertificateError::Expired), Some(TlsFault::Expired));
        assert_eq!(certificate(CertificateError::NotValidYet), Some(TlsFault::NotYetValid));
        assert_eq!(certificate(CertificateError::Revoked), None);
        let not_tls = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(of(not_tls), Some(TlsFault::NotTls));
        let alert = |alert| of(Error::AlertReceived(alert));
        assert_eq!(alert(AlertDescription::HandshakeFailure), Some(TlsFault::NothingInCommon));
        assert_eq!(alert(AlertDescription::ProtocolVersion), Some(TlsFault::VersionTooOld));
        assert_eq!(alert(AlertDescription::CertificateRequired), Some(TlsFault::ClientCertificate));
        assert_eq!(TlsFault::of(&io::Error::other("expired")), None);
    }
}
