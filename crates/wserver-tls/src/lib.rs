//! The authorities that a wserver's outgoing TLS connections trust.
//!
//! Issuers and callbacks, brokers, and the servers of the tools are all trusted in the same way:
//! through the authorities of the system, or through those in a PEM text. This crate reads both and
//! makes the [`ClientConfig`] with which rustls connects. It uses TLS 1.2 and 1.3, always checks
//! host names, and has no way to trust everybody.
//!
//! It opens no socket, and reads no file but those in which the system keeps its authorities (on
//! Unix, `SSL_CERT_FILE` and `SSL_CERT_DIR` name others). Errors are facts here; the caller says what
//! they mean to an operator.

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// What is wrong with a PEM text of authorities. No variant quotes any part of the text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthoritiesError {
    /// It has no certificate, or a broken section.
    #[error("no certificate in PEM")]
    NoCertificate,
    /// The reader would skip a certificate that the text announces, for example because two files
    /// were joined without a line end.
    #[error(
        "a certificate that cannot be read: each must begin with -----BEGIN CERTIFICATE----- on a \
         line of its own"
    )]
    HalfRead,
    /// One of the certificates cannot be an authority.
    #[error("a certificate that cannot be an authority: {0}")]
    Unusable(rustls::Error),
}

/// Every certificate of a PEM text, at least one.
///
/// # Errors
///
/// [`NoCertificate`](AuthoritiesError::NoCertificate) and
/// [`HalfRead`](AuthoritiesError::HalfRead).
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_may_quote_it| AuthoritiesError::NoCertificate)?;
    if certificates.is_empty() {
        return Err(AuthoritiesError::NoCertificate);
    }
    if certificates.len() < certificates_announced(pem) {
        return Err(AuthoritiesError::HalfRead);
    }
    Ok(certificates)
}

/// Only the authorities in a PEM text.
///
/// # Errors
///
/// As for [`certificates`], and [`Unusable`](AuthoritiesError::Unusable).
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(AuthoritiesError::Unusable)?;
    }
    Ok(roots)
}

/// The certificates that the system trusts, read again at each call; empty if it has none.
pub fn system_certificates() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// The authorities that the system trusts, read again at each call; empty if it has none.
pub fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Systems carry a certificate or two that are too old to be read; the rest are good without
    // them.
    roots.add_parsable_certificates(system_certificates());
    roots
}

/// A connection's configuration without the trusted authorities, for callers with their own
/// verifier.
pub fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for these versions")
}

/// A connection's configuration that trusts `authorities`, without a client certificate yet.
pub fn trusting(authorities: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    builder().with_root_certificates(authorities)
}

/// How many certificates the PEM text announces, anywhere in a line and under any label.
fn certificates_announced(pem: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pem);
    let labels = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    labels.filter(|label| label.ends_with("CERTIFICATE")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    fn check(pem: &str, expected: &Result<usize, AuthoritiesError>) {
        assert_eq!(authorities(pem.as_bytes()).map(|roots| roots.len()), *expected, "{pem}");
    }

    #[test]
    fn all_authorities_of_a_text_are_read_or_none() {
        let (one, two) = (authority(), authority());
        check(&one, &Ok(1));
        check(&format!("a comment\n{one}{two}"), &Ok(2));
        // Joined without a line end, the second would be passed over.
        check(&format!("{}{two}", one.trim_end()), &Err(AuthoritiesError::HalfRead));
        check(&one.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), &Err(NO_CERTIFICATE));
        check(
            &format!("{one}{}", two.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            &Err(AuthoritiesError::HalfRead),
        );
    }

    #[test]
    fn what_is_no_authority_is_none() {
        for pem in [
            "",
            "canary",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n",
        ] {
            check(pem, &Err(NO_CERTIFICATE));
        }
        let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = authorities(no_der.as_bytes()).unwrap_err();
        assert!(matches!(error, AuthoritiesError::Unusable(_)), "{error}");
    }

    const NO_CERTIFICATE: AuthoritiesError = AuthoritiesError::NoCertificate;
}
