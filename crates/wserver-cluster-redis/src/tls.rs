//! The trusted authorities for a broker's certificate, and the TLS handshake.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wserver_cluster::BrokerError;

/// Trusts only the authorities in `ca_pem`, or else those of this machine.
pub(crate) fn config(ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, BrokerError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            // Machines have some that are too old to be read; the rest are good without them.
            roots.add_parsable_certificates(native);
        }
        Some(pem) => {
            let authorities = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let authorities = authorities.unwrap_or_default();
            if authorities.is_empty() {
                let message = "the broker's certificate authority is no certificate in PEM";
                return Err(BrokerError::refused(message));
            }
            if authorities.len() < certificates_announced(pem) {
                return Err(BrokerError::refused(
                    "the broker's certificate authority has a certificate that cannot be read: each \
                     -----BEGIN CERTIFICATE----- must begin a line of its own, and have that name",
                ));
            }
            for authority in authorities {
                roots.add(authority).map_err(|error| {
                    let message = "the broker's certificate authority cannot be used";
                    BrokerError::refused(format!("{message}: {error}"))
                })?;
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for these versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// How many certificates the PEM text announces, anywhere in a line and under any label. The reader
/// skips those that do not begin a line, for example if two files were joined without a line end.
fn certificates_announced(pem: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pem);
    let labels = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    labels.filter(|label| label.ends_with("CERTIFICATE")).count()
}

/// Performs the handshake over a connection to `host`.
pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_joined_on_one_line_are_not_half_read() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        assert!(config(Some(pem.repeat(2).as_bytes())).is_ok());
        let told = config(Some(pem.trim_end().repeat(2).as_bytes())).unwrap_err().to_string();
        assert!(told.contains("must begin a line of its own"), "{told}");
    }
}
