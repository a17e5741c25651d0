//! The trusted authorities for NATS servers. There is no way to trust everybody.

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
                AuthoritiesError::HalfRead => format!(
                    "the certificate authority for NATS has \
                                                       {error}"
                ),
                AuthoritiesError::Unusable(why) => {
                    format!("the certificate authority for NATS cannot be used: {why}")
                }
                _ => "the certificate authority for NATS contains no certificate in PEM".to_owned(),
            })
        })?,
    };
    Ok(wserver_tls::trusting(roots).with_no_client_auth())
}

/// Explains why TLS failed for a server, if TLS was the reason. An operator must fix it.
pub(crate) fn refusal(server: &Server, error: &(dyn Error + 'static)) -> Option<BrokerError> {
    let why = match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by an authority that this node does not trust".to_owned()
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
            "it does not speak TLS: write nats:// instead of tls://, or enable TLS there".to_owned()
        }
        // TLS 1.2 has no alert of its own for a missing certificate, so its servers send the other.
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        ) => "it demands client certificates, and a node has none".to_owned(),
        other => format!("TLS failed: {other}"),
    };
    Some(BrokerError::refused(format!("NATS server {server}: {why}")))
}

/// The TLS error inside the errors wrapped around it.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error does not name its inner error as its source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
