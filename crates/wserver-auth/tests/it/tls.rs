//! A certificate for `localhost`, made on the spot: no private key lies in the repository, and no
//! library for certificates is built for one test.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::signing::pem;

/// One that accepts with a fresh certificate, and the certificate in PEM.
pub(crate) fn acceptor() -> (TlsAcceptor, String) {
    let random = SystemRandom::new();
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref()).unwrap();
    let certificate = certificate(&pair);
    let pem = pem("CERTIFICATE", &certificate);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate)],
            PrivatePkcs8KeyDer::from(private.as_ref().to_vec()).into(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), pem)
}

/// RFC 5280, section 4.1, as far as it must be.
fn certificate(pair: &EcdsaKeyPair) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    let ecdsa_with_sha256 = der(SEQUENCE, &[&der(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
    let common_name = der(SEQUENCE, &[&der(6, &[&[0x55, 4, 3]]), &der(12, &[b"wserver test"])]);
    let name = der(SEQUENCE, &[&der(0x31, &[&common_name])]);
    let validity = der(SEQUENCE, &[&der(23, &[b"200101000000Z"]), &der(24, &[b"21000101000000Z"])]);
    let localhost = der(SEQUENCE, &[&der(0x82, &[b"localhost"])]);
    let alternative = der(SEQUENCE, &[&der(6, &[&[0x55, 0x1d, 17]]), &der(4, &[&localhost])]);
    let extensions = der(0xa3, &[&der(SEQUENCE, &[&alternative])]);
    let public = pair.public_key().as_der().unwrap();
    let content = der(
        SEQUENCE,
        &[
            &der(0xa0, &[&der(2, &[&[2]])]),
            &der(2, &[&[1]]),
            &ecdsa_with_sha256,
            &name,
            &validity,
            &name,
            public.as_ref(),
            &extensions,
        ],
    );
    let signature = pair.sign(&SystemRandom::new(), &content).unwrap();
    let signature = der(3, &[&[0], signature.as_ref()]);
    der(SEQUENCE, &[&content, &ecdsa_with_sha256, &signature])
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..=127 => vec![tag, low],
        128..=255 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content].concat()
}
