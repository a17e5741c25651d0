//! Whom a broker's certificate must come from, and the TLS handshake.

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

/// Trusts the authorities in `ca_pem` and nobody else, or whom this machine trusts.
pub(crate) fn config(ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, BrokerError> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        None => {
            let native = rustls_native_certs::load_native_certs().certs;
            // Machines have some that are too old to be understood; the rest is as good without them.
            roots.add_parsable_certificates(native);
        }
        Some(pem) => {
            let authorities = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
            let authorities = authorities.unwrap_or_default();
            if authorities.is_empty() {
                let message = "the broker's certificate authority is no certificate in PEM";
                return Err(BrokerError::refused(message));
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

/// The handshake, over a connection to `host`.
pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}
