//! The trusted authorities for NATS servers. There is no way to trust everybody.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use wserver_cluster::BrokerError;

use crate::servers::Server;

/// Trusts the authorities in `ca_pem`, or those of the system.
pub(crate) fn config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, BrokerError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for authority in certificates(pem)? {
                roots.add(authority).map_err(|error| {
                    BrokerError::refused(format!("the authority of NATS cannot be used: {error}"))
                })?;
            }
        }
        None => {
            // Machines have some that are too old to be read; the rest are good without them.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for these versions")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// How many certificates the PEM text announces, anywhere in a line and under any label. The reader
/// skips those that do not begin a line, for example if two files were joined without a line end.
fn certificates_announced(pem: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pem);
    let labels = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    labels.filter(|label| label.ends_with("CERTIFICATE")).count()
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.len() < certificates_announced(pem) => {
            Err(BrokerError::refused(
                "the authority of NATS has a certificate that cannot be read: each \
                 -----BEGIN CERTIFICATE----- must begin a line of its own, and have that name",
            ))
        }
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(BrokerError::refused("the authority of NATS holds no certificate in PEM")),
    }
}

/// Explains why TLS failed for a server, if TLS was the reason. An operator must fix it.
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
        // TLS 1.2 has no alert of its own for a missing certificate, so its servers send the other.
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        ) => "it demands a certificate of its clients, and a node has none".to_owned(),
        other => format!("TLS fails: {other}"),
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
