//! The trusted authorities for a broker's certificate, and the TLS handshake.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wserver_cluster::BrokerError;
use wserver_tls::AuthoritiesError;

/// Trusts only the authorities in `ca_pem`, or else those of this machine.
pub(crate) fn config(ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, BrokerError> {
    let roots = match ca_pem {
        None => wserver_tls::system_authorities(),
        Some(pem) => wserver_tls::authorities(pem).map_err(|error| {
            let authority = "the broker's certificate authority";
            BrokerError::refused(match error {
                AuthoritiesError::HalfRead => format!("{authority} has {error}"),
                AuthoritiesError::Unusable(why) => format!("{authority} cannot be used: {why}"),
                _ => format!("{authority} is not a certificate in PEM"),
            })
        })?,
    };
    Ok(Arc::new(wserver_tls::trusting(roots).with_no_client_auth()))
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
        assert!(told.contains("on a line of its own"), "{told}");
    }
}
