//! `https`: the name is checked, and the time to connect bounds the handshake too.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wserver_outgoing::{AskError, Pool, Target};

use crate::{answer, ask, both, receive, say};

/// A server with a certificate for `name`, and what a client needs that trusts it.
fn identity(name: &str) -> (TlsAcceptor, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

async fn listen(config: Arc<ClientConfig>) -> (TcpListener, Pool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/in?a=b", listener.local_addr().unwrap().port());
    let target = Target::parse(&url, "http", "https").unwrap().with_tls(config).unwrap();
    (listener, Pool::new(target))
}

#[tokio::test]
async fn the_name_of_the_host_is_checked() {
    for (name, expected) in [
        ("localhost", "200 1"),
        ("other.example", "error: no TLS connection: invalid peer certificate: "),
    ] {
        let (acceptor, config) = identity(name);
        let (listener, pool) = listen(config).await;
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await
                && receive(&mut stream).await.is_ok()
            {
                say(&mut stream, "1").await;
            }
        };
        let (asked, ()) = both(ask(&pool, "one"), Box::pin(server)).await;
        assert!(asked.starts_with(expected), "{asked}");
    }
}

#[tokio::test]
async fn the_handshake_counts_as_connecting() {
    let (listener, pool) = listen(identity("localhost").1).await;
    let pool = pool.with_connect_timeout(Duration::from_millis(5));
    let asked = answer(&pool, "one".into(), crate::LONG).await;
    assert!(matches!(asked, Err(AskError::Connect(_))), "{asked:?}");
    drop(listener);
}
