//! `wss` and `https`: whom the client trusts, what it shows of itself, what it says when that fails.

use std::error::Error;
use std::io;
use std::sync::Arc;

use futures::SinkExt as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use wserver_client::{CertificateError, Client, ConnectError, PushError, Pusher};

use crate::{LONG, both, listen};

/// A certificate that signed itself.
struct Identity(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Identity {
    fn new(name: &str) -> Self {
        Self(rcgen::generate_simple_self_signed([name.to_owned()]).unwrap())
    }

    fn pem(&self) -> String {
        self.0.cert.pem()
    }

    fn key_pem(&self) -> String {
        self.0.signing_key.serialize_pem()
    }

    /// A server that proves itself with it, and asks for `client` if there is one.
    fn acceptor(&self, client: Option<&Self>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match client {
            Some(client) => {
                let mut roots = RootCertStore::empty();
                roots.add(client.0.cert.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::Pkcs8(self.0.signing_key.serialize_der().into());
        let certificate = self.0.cert.der().clone();
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap()).into()
    }
}

async fn accept(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
) -> io::Result<Box<TlsStream<TcpStream>>> {
    let (stream, _) = listener.accept().await.unwrap();
    Box::pin(acceptor.accept(stream)).await.map(Box::new)
}

#[tokio::test]
async fn a_listener_and_a_pusher_over_tls() {
    let identity = Identity::new("127.0.0.1");
    let acceptor = identity.acceptor(None);
    let (listener, address) = listen().await;
    let client = Client::new(&format!("wss://{address}/ws")).unwrap();
    let client = client.with_ca_pem(identity.pem().as_bytes()).unwrap();
    let (mut connection, mut server) = both(async { client.open().await.unwrap() }, async {
        let stream = accept(&listener, &acceptor).await.unwrap();
        Box::pin(tokio_tungstenite::accept_async(stream)).await.unwrap()
    })
    .await;
    // Larger than a record.
    let message = "x".repeat(100_000);
    let sending = server.send(Message::text(message.clone()));
    let (heard, sent) = both(connection.next_text(LONG), sending).await;
    sent.unwrap();
    assert!(heard.unwrap() == message);

    let pusher = Pusher::new(&format!("https://{address}/push")).unwrap();
    let pusher = pusher.with_ca_pem(identity.pem().as_bytes()).unwrap();
    let (count, ()) = both(pusher.push("jack", "news", "m"), async {
        let mut stream = accept(&listener, &acceptor).await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\nmessage sent to 7 clients";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    assert_eq!(count.unwrap(), 7);
}

/// All that an error says, with its causes.
fn told(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

#[tokio::test]
async fn who_does_not_prove_its_name_is_not_spoken_to() {
    let (here, elsewhere) = (Identity::new("127.0.0.1"), Identity::new("elsewhere.example"));
    let (listener, address) = listen().await;
    for (identity, trusted, why) in [
        (&here, None, "UnknownIssuer"),
        (&here, Some(&elsewhere), "invalid peer certificate"),
        (&elsewhere, Some(&elsewhere), "not valid for name"),
    ] {
        let acceptor = identity.acceptor(None);
        let mut client = Client::new(&format!("wss://{address}/ws")).unwrap();
        let mut pusher = Pusher::new(&format!("https://{address}/push")).unwrap();
        if let Some(trusted) = trusted {
            client = client.with_ca_pem(trusted.pem().as_bytes()).unwrap();
            pusher = pusher.with_ca_pem(trusted.pem().as_bytes()).unwrap();
        }
        let (opened, accepted) = both(client.open(), accept(&listener, &acceptor)).await;
        accepted.unwrap_err();
        let error = opened.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
        assert!(told(&error).contains(why), "{}", told(&error));
        let pushing = pusher.push("jack", "news", "m");
        let (pushed, _) = both(pushing, accept(&listener, &acceptor)).await;
        let error = pushed.unwrap_err();
        assert!(matches!(error, PushError::Unreachable { .. }), "{error:?}");
        assert!(!error.may_have_arrived());
        assert!(told(&error).contains(why), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (server, own) = (Identity::new("127.0.0.1"), Identity::new("backend"));
    let acceptor = server.acceptor(Some(&own));
    let (listener, address) = listen().await;
    let client = Client::new(&format!("wss://{address}/ws")).unwrap();
    let client = client.with_ca_pem(server.pem().as_bytes()).unwrap();
    let (_, refused) = both(client.open(), accept(&listener, &acceptor)).await;
    refused.unwrap_err();

    let client = client.with_identity_pem(own.pem().as_bytes(), own.key_pem().as_bytes()).unwrap();
    let opening = async { client.open().await.unwrap() };
    let accepting = async {
        let stream = accept(&listener, &acceptor).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], *own.0.cert.der());
        Box::pin(tokio_tungstenite::accept_async(stream)).await.unwrap()
    };
    both(opening, accepting).await;
}

#[test]
fn what_is_no_certificate_is_told() {
    let (own, other) = (Identity::new("127.0.0.1"), Identity::new("127.0.0.1"));
    let client = || Client::new("wss://localhost/ws").unwrap();
    let with_ca = |pem: &str| client().with_ca_pem(pem.as_bytes()).unwrap_err();
    assert_eq!(with_ca(""), CertificateError::NoCertificate);
    assert_eq!(with_ca(&own.key_pem()), CertificateError::NoCertificate);
    // Two files joined without a line end between them.
    let joined = format!("{}{}", own.pem().trim_end(), other.pem());
    assert_eq!(with_ca(&joined), CertificateError::HalfRead);
    let garbage = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
    assert_eq!(with_ca(garbage), CertificateError::Certificate);
    let with_key = |key: &str| {
        client().with_identity_pem(own.pem().as_bytes(), key.as_bytes()).map(|_| ()).unwrap_err()
    };
    assert_eq!(with_key(&own.pem()), CertificateError::NoKey);
    assert_eq!(with_key(&other.key_pem()), CertificateError::Key);
}
