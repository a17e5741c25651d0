//! Makes a rustls configuration from PEM; every problem names the setting.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tracing::warn;

use crate::files::read_regular_file;

use super::problem::{TlsPart, TlsProblem};
use super::settings::{Names, Pem, TlsSettings};

/// The maximum size of a file of keys or certificates; all authorities of a system take a quarter
/// of it.
const KEYS_BYTES_MAX: u64 = 1024 * 1024;

/// Certificates that expire within this time cause a warning.
const EXPIRY_WARNING: Duration = Duration::from_secs(7 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// The one certificate of a listener, for every server name.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Reads the files that `settings` name.
pub(super) fn config(
    settings: &TlsSettings,
    names: Names,
) -> Result<Arc<ServerConfig>, Vec<TlsProblem>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = certificates(&settings.certificate, names.certificate);
    let key = private_key(&settings.key, names.key);
    let client_ca = settings.client_ca.as_ref().map(|pem| roots(pem, names.client_ca)).transpose();
    match (certificates, key, client_ca) {
        (Ok(certificates), Ok(key), Ok(client_ca)) => {
            if let Some(what) = validity(&certificates[0], UnixTime::now()) {
                let certificate = part(&settings.certificate, names.certificate);
                warn!(%certificate, what, "look at the TLS certificate");
            }
            assemble(settings, names, provider, certificates, key, client_ca)
                .map_err(|problem| vec![problem])
        }
        (certificates, key, client_ca) => {
            Err([certificates.err(), key.err(), client_ca.err()].into_iter().flatten().collect())
        }
    }
}

fn assemble(
    settings: &TlsSettings,
    names: Names,
    provider: Arc<CryptoProvider>,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_ca: Option<RootCertStore>,
) -> Result<Arc<ServerConfig>, TlsProblem> {
    let certificate_part = || part(&settings.certificate, names.certificate);
    let key_part = || part(&settings.key, names.key);
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsProblem::KeyUnusable { part: key_part(), error: error.to_string() })?;
    let certified = CertifiedKey::new(certificates, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsProblem::KeyOfAnother {
                key: key_part(),
                certificate: certificate_part(),
            });
        }
        Err(error) => {
            let error = error.to_string();
            return Err(TlsProblem::CertificateUnusable { part: certificate_part(), error });
        }
    }
    let failed = |error: &dyn std::fmt::Display| TlsProblem::Setup {
        part: certificate_part(),
        error: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let is_resumable = client_ca.is_none();
    let builder = match client_ca {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| failed(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(OneCertificate(Arc::new(certified))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Clients keep their sessions, in tickets under a key that rotates: the server stores none.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if is_resumable {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| failed(&error))?;
    } else {
        // The server would not ask for the certificate again in a resumed session.
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

fn certificates(pem: &Pem, name: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let text = read(pem, name)?;
    let text = without_byte_order_mark(&text);
    let certificates = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsProblem::NotPem { part: part(pem, name), why: told(&error) })?;
    let Some(first) = certificates.first() else {
        let holds_key = contains(text, "PRIVATE KEY-----");
        return Err(TlsProblem::NoCertificate { part: part(pem, name), holds_key });
    };
    let (announced, read) = (announced(text, "CERTIFICATE"), certificates.len());
    if read < announced {
        let part = part(pem, name);
        return Err(TlsProblem::CertificatesPassedOver { part, announced, read });
    }
    webpki::EndEntityCert::try_from(first).map_err(|error| TlsProblem::CertificateMalformed {
        part: part(pem, name),
        error: error.to_string(),
    })?;
    Ok(certificates)
}

fn private_key(pem: &Pem, name: &'static str) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let text = read(pem, name)?;
    let text = without_byte_order_mark(&text);
    let part = || part(pem, name);
    if contains(text, "BEGIN ENCRYPTED PRIVATE KEY") || contains(text, "Proc-Type: 4,ENCRYPTED") {
        return Err(TlsProblem::KeyEncrypted { part: part() });
    }
    let keys = announced(text, "PRIVATE KEY");
    if keys > 1 {
        return Err(TlsProblem::SeveralKeys { part: part(), keys });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if keys > 0 => TlsProblem::KeyPassedOver { part: part() },
        pem::Error::NoItemsFound => {
            let holds_certificate = contains(text, "BEGIN CERTIFICATE");
            TlsProblem::NoKey { part: part(), holds_certificate }
        }
        error => TlsProblem::NotPem { part: part(), why: told(&error) },
    })
}

fn roots(pem: &Pem, name: &'static str) -> Result<RootCertStore, TlsProblem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, name)? {
        roots.add(certificate).map_err(|error| TlsProblem::NoAuthority {
            part: part(pem, name),
            error: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// The warning about the validity of a certificate, if there is one.
fn validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let at = |time: UnixTime| {
        // The signer is not needed, because the validity is checked first.
        let usage = webpki::KeyUsage::server_auth();
        certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
    };
    let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + EXPIRY_WARNING);
    let days = |seconds: u64| seconds.div_ceil(DAY);
    match (at(now), at(soon)) {
        (Some(webpki::Error::CertExpired { not_after, .. }), _) => {
            let days = days(now.as_secs().saturating_sub(not_after.as_secs()));
            Some(format!("it has expired, within the last {days} days: clients will refuse it"))
        }
        (Some(webpki::Error::CertNotValidYet { not_before, .. }), _) => {
            let days = days(not_before.as_secs().saturating_sub(now.as_secs()));
            Some(format!("it is not valid yet, but within {days} days: clients will refuse it"))
        }
        (_, Some(webpki::Error::CertExpired { not_after, .. })) => {
            let days = days(not_after.as_secs().saturating_sub(now.as_secs()));
            Some(format!("it expires within {days} days"))
        }
        _ => None,
    }
}

/// The setting and the file of a part.
fn part(pem: &Pem, setting: &'static str) -> TlsPart {
    let file = match pem {
        Pem::File(path) => Some(path.clone()),
        Pem::Bytes(_) => None,
    };
    TlsPart { setting, file }
}

fn read<'a>(pem: &'a Pem, name: &'static str) -> Result<Cow<'a, [u8]>, TlsProblem> {
    match pem {
        Pem::File(path) => {
            let read = read_regular_file(path, KEYS_BYTES_MAX);
            read.map(Cow::Owned).map_err(|error| TlsProblem::Unreadable {
                part: part(pem, name),
                error: error.to_string(),
            })
        }
        Pem::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
    }
}

/// The reason, without the content, which may be a key.
fn told(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    }
}

/// Removes a byte order mark, which some editors write and which would hide the first line.
fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// The number of PEM sections whose label ends with `what`, anywhere in a line. The reader skips
/// those that do not begin a line, which happens if two files are joined without a line end.
fn announced(text: &[u8], what: &str) -> usize {
    let text = String::from_utf8_lossy(text);
    let names = text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    names.filter(|name| name.ends_with(what)).count()
}

fn contains(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|window| window == what.as_bytes())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_time_of_a_certificate_is_told_when_it_matters() {
        let now = date_time_ymd(2030, 6, 15).unix_timestamp().try_into().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let key = KeyPair::generate().unwrap();
        for (from, to, told) in [
            ((2030, 1, 1), (2031, 1, 1), None),
            ((2030, 1, 1), (2030, 6, 10), Some("expired, within the last 5 days")),
            ((2030, 6, 16), (2031, 1, 1), Some("not valid yet, but within 1 days")),
            ((2030, 1, 1), (2030, 6, 18), Some("expires within 3 days")),
            ((2030, 1, 1), (2030, 6, 30), None),
        ] {
            // A self-signed certificate, as people use for experiments, may also be an authority.
            for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
                let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
                params.is_ca = is_ca;
                params.not_before = date_time_ymd(from.0, from.1, from.2);
                params.not_after = date_time_ymd(to.0, to.1, to.2);
                let certificate = params.self_signed(&key).unwrap();
                let found = validity(certificate.der(), now);
                match (&found, told) {
                    (None, None) => {}
                    (Some(found), Some(told)) => assert!(found.contains(told), "{found}"),
                    _ => panic!("{from:?} {to:?}: {found:?}"),
                }
            }
        }
    }
}
