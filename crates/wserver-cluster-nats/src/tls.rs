//! Whom a node trusts to be NATS. Nothing here trusts everybody.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, ClientConfig};
use wserver_cluster::BrokerError;
use wserver_tls::AuthoritiesError;

use crate::servers::Server;

/// Trusts the authorities in `ca_pem`, or those of the system.
pub(crate) fn config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, BrokerError> {
    let roots = match ca_pem {
        None => wserver_tls::system_authorities(),
        Some(pem) => wserver_tls::authorities(pem).map_err(|error| {
            BrokerError::refused(match error {
                AuthoritiesError::HalfRead => format!("the authority of NATS has {error}"),
                AuthoritiesError::Unusable(why) => {
                    format!("the authority of NATS cannot be used: {why}")
                }
                _ => "the authority of NATS holds no certificate in PEM".to_owned(),
            })
        })?,
    };
    Ok(wserver_tls::trusting(roots).with_no_client_auth())
}

/// What TLS has against a server, if it was TLS that failed. It takes somebody to change that.
pub(crate) fn refusal(server: &Server, error: &(dyn Error + 'static)) -> Option<BrokerError> {
    let why = match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by an authority that is not trusted here".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another host".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        rustls::Error::InvalidCertificate(other) => {
            format!("its certificate cannot be trusted: {other}")
        }
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS: write nats:// in place of tls://, or set TLS up there"
                .to_owned()
        }
        // Servers of before TLS 1.3's own word for it say the other, of the one that is missing.
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        ) => "it demands a certificate of its clients, and a node has none".to_owned(),
        other => format!("TLS fails: {other}"),
    };
    Some(BrokerError::refused(format!("NATS server {server}: {why}")))
}

/// The error of TLS within those that were wrapped around it.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error does not tell what is in it as its source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
