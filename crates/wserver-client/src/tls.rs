//! Whom a client trusts, and what it shows. Nothing here trusts everybody, not even on request.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error, OtherError,
    ProtocolVersion, RootCertStore, SignatureScheme,
};
use wserver_tls::AuthoritiesError;

/// The authorities that this machine trusts, read once.
static NATIVE: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();

/// How one client secures its connections to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    trust: Trust,
    identity: Option<Arc<Identity>>,
    config: Arc<ClientConfig>,
}

/// The certificates that the client trusts.
#[derive(Clone)]
struct Trust {
    roots: Arc<RootCertStore>,
    /// The certificates that the caller gave; a server can be its own authority.
    given: Arc<[CertificateDer<'static>]>,
    /// The only certificate that is trusted, whatever its name.
    pinned: Option<CertificateDer<'static>>,
}

/// The client's own certificate with its chain, and its key, which is a secret.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a certificate or a key cannot be used. It quotes neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The text contains no certificate, or is not PEM.
    #[error("no certificate in PEM")]
    NoCertificate,
    /// The reader would skip one of the certificates.
    #[error(
        "a certificate cannot be read: each must begin with -----BEGIN CERTIFICATE----- on a line \
         of its own"
    )]
    HalfRead,
    /// The certificate is unreadable, or cannot be an authority.
    #[error("certificate cannot be used")]
    Certificate,
    /// The text contains no private key, the key is encrypted, or the text is not PEM.
    #[error("no unencrypted private key in PEM")]
    NoKey,
    /// The key does not belong to the certificate, or its kind is not supported.
    #[error("private key does not match the certificate")]
    Key,
}

impl Tls {
    /// Reads whom the machine trusts, the first time.
    pub(crate) fn new() -> Self {
        let native = NATIVE.get_or_init(wserver_tls::system_certificates);
        let mut roots = RootCertStore::empty();
        // Machines have some that are too old to be parsed; the others work without them.
        roots.add_parsable_certificates(native.iter().cloned());
        let trust = Trust { roots: Arc::new(roots), given: [].into(), pinned: None };
        let config = finished(builder(&trust).with_no_client_auth());
        Self { trust, identity: None, config }
    }

    /// How rustls connects.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn with_authorities(&self, pem: &[u8]) -> Result<Self, CertificateError> {
        let mut roots = RootCertStore::clone(&self.trust.roots);
        let authorities = certificates(pem)?;
        for authority in authorities.iter().cloned() {
            roots.add(authority).map_err(|_ignored| CertificateError::Certificate)?;
        }
        let given = self.trust.given.iter().cloned().chain(authorities).collect();
        let trust = Trust { roots: roots.into(), given, ..self.trust.clone() };
        self.rebuilt(trust, self.identity.clone())
    }

    /// Trusts only the first certificate of this text.
    pub(crate) fn with_pinned(&self, pem: &[u8]) -> Result<Self, CertificateError> {
        let pinned = certificates(pem)?.into_iter().next();
        self.rebuilt(Trust { pinned, ..self.trust.clone() }, self.identity.clone())
    }

    pub(crate) fn with_identity(
        &self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_ignored| CertificateError::NoKey)?;
        self.rebuilt(self.trust.clone(), Some(Arc::new(Identity { chain, key })))
    }

    fn rebuilt(
        &self,
        trust: Trust,
        identity: Option<Arc<Identity>>,
    ) -> Result<Self, CertificateError> {
        let builder = builder(&trust);
        let config = match &identity {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|_ignored| CertificateError::Key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self { trust, identity, config: finished(config) })
    }
}

fn builder(trust: &Trust) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let builder = wserver_tls::builder();
    let (roots, provider) = (Arc::clone(&trust.roots), Arc::clone(builder.crypto_provider()));
    let Ok(authorities) = WebPkiServerVerifier::builder_with_provider(roots, provider).build()
    else {
        // Without any trusted authority there is no verifier; handshakes fail and say so.
        return builder.with_root_certificates(Arc::clone(&trust.roots));
    };
    let (given, pinned) = (Arc::clone(&trust.given), trust.pinned.clone());
    let verifier = Verifier { authorities, given, pinned };
    builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
}

/// The library's verifier, with two additions that the library does not offer.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    given: Arc<[CertificateDer<'static>]>,
    pinned: Option<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(pinned) = &self.pinned {
            let is_it = pinned == certificate;
            let other = rustls::CertificateError::ApplicationVerificationFailure;
            return if is_it { Ok(ServerCertVerified::assertion()) } else { Err(other.into()) };
        }
        let verified =
            self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now);
        match verified {
            // A certificate that signed itself is an authority, such as `openssl req -x509` makes.
            // Its validity was already checked; what remains is whether it is trusted, and its
            // name.
            Err(error) if is_authority(&error) => {
                if !self.is_trusted_itself(certificate) {
                    return Err(rustls::CertificateError::UnknownIssuer.into());
                }
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

impl Verifier {
    fn is_trusted_itself(&self, certificate: &CertificateDer<'_>) -> bool {
        let native = NATIVE.get().into_iter().flatten();
        self.given.iter().chain(native).any(|trusted| trusted == certificate)
    }
}

/// Whether the only objection to a server's certificate is that it may sign others.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(cause))) = error
    else {
        return false;
    };
    cause.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    wserver_tls::certificates(pem).map_err(|error| match error {
        AuthoritiesError::HalfRead => CertificateError::HalfRead,
        _ => CertificateError::NoCertificate,
    })
}

/// What a TLS handshake has shown of a server that proved its name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The version that was agreed on, as `TLS 1.3`.
    pub version: String,
    /// The DNS names in its certificate.
    pub names: Vec<String>,
    /// When its certificate ends.
    pub not_after: Option<SystemTime>,
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

/// When the certificate expires. The library reports the expiry only of expired certificates, so
/// this asks about a time so far off that every certificate has expired by then. The check of the
/// expiry comes before the check of the issuer.
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
