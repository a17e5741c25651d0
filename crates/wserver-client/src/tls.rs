//! Whom a client trusts, and the TLS handshake. Nothing here trusts everybody, not even on request.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::probe::TlsFacts;

/// The authorities that this machine trusts, read once.
static NATIVE: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();

/// How one client secures its connections to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    /// What the server's certificate must be for.
    host: ServerName<'static>,
    roots: Arc<RootCertStore>,
    identity: Option<Arc<Identity>>,
    config: Arc<ClientConfig>,
}

/// A client's own certificate with its chain, and its key, which is a secret.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("host", &self.host)
            .field("has_identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a certificate or a key cannot be used. It quotes nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is no certificate in it, or it is not PEM.
    #[error("no certificate in PEM")]
    NoCertificate,
    /// One of the certificates would be passed over.
    #[error(
        "a certificate cannot be read: each -----BEGIN CERTIFICATE----- must begin a line of its own, and have that name"
    )]
    HalfRead,
    /// The certificate cannot be read, or cannot be an authority.
    #[error("certificate cannot be used")]
    Certificate,
    /// There is no private key in it, it is encrypted, or it is not PEM.
    #[error("no private key in PEM that is not encrypted")]
    NoKey,
    /// The key does not fit the certificate, or is of a kind that is not supported.
    #[error("private key does not fit the certificate")]
    Key,
}

impl Tls {
    /// Reads whom the machine trusts, the first time.
    pub(crate) fn new(host: ServerName<'static>) -> Self {
        let native = NATIVE.get_or_init(|| rustls_native_certs::load_native_certs().certs);
        let mut roots = RootCertStore::empty();
        // Machines have some that are too old to be understood; the rest is as good without them.
        roots.add_parsable_certificates(native.iter().cloned());
        let roots = Arc::new(roots);
        let config = finished(builder(&roots).with_no_client_auth());
        Self { host, roots, identity: None, config }
    }

    pub(crate) fn with_authorities(&self, pem: &[u8]) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::clone(&self.roots);
        for authority in certificates(pem)? {
            roots.add(authority).map_err(|_ignored| CertificateError::Certificate)?;
        }
        self.rebuilt(roots.into(), self.identity.clone())
    }

    pub(crate) fn with_identity(
        &self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_ignored| CertificateError::NoKey)?;
        self.rebuilt(Arc::clone(&self.roots), Some(Arc::new(Identity { chain, key })))
    }

    fn rebuilt(
        &self,
        roots: Arc<RootCertStore>,
        identity: Option<Arc<Identity>>,
    ) -> Result<Self, CertificateError> {
        let builder = builder(&roots);
        let config = match &identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|_ignored| CertificateError::Key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self { host: self.host.clone(), roots, identity, config: finished(config) })
    }

    /// The handshake, over a connection to the host.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        // Boxed, so that those who go without TLS do not carry its size.
        Box::pin(connector.connect(self.host.clone(), stream)).await
    }
}

fn builder(roots: &Arc<RootCertStore>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for these versions")
        .with_root_certificates(Arc::clone(roots))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// How many certificates PEM announces, wherever in a line and by whichever name. The reader passes
/// over those that do not begin a line, as where two files were joined without a line end.
fn certificates_announced(pem: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pem);
    let labels = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    labels.filter(|label| label.ends_with("CERTIFICATE")).count()
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => {
            if certificates.len() < certificates_announced(pem) {
                return Err(CertificateError::HalfRead);
            }
            Ok(certificates)
        }
        _ => Err(CertificateError::NoCertificate),
    }
}

impl TlsFacts {
    pub(crate) fn of(connection: &ClientConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.and_then(|it| webpki::EndEntityCert::try_from(it).ok());
        let names = certificate.iter().flat_map(|it| it.valid_dns_names()).map(str::to_owned);
        Self {
            version,
            names: names.collect(),
            not_after: certificate.as_ref().and_then(not_after),
        }
    }
}

/// The end of a certificate, which the library tells only of those that have ended: so it is asked
/// of a time that none of them sees. Whoever signed it is not looked at before that.
fn not_after(certificate: &webpki::EndEntityCert<'_>) -> Option<SystemTime> {
    const TEN_THOUSAND_YEARS: Duration = Duration::from_secs(10_000 * 366 * 24 * 60 * 60);
    let time = UnixTime::since_unix_epoch(TEN_THOUSAND_YEARS);
    let usage = webpki::KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()? {
        webpki::Error::CertExpired { not_after, .. } => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}
