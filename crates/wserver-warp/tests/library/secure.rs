//! The far end of TLS: authorities, certificates, clients that speak it, requests made by hand.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion, WantsVerifier,
};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{PATIENCE, Running, eventually};

/// Both versions that are spoken.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For `localhost`.
    pub(crate) fn sign(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// A client that trusts this authority and speaks these versions.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.trusting(versions).with_no_client_auth()
    }

    /// As [`client`](Self::client), with a certificate of its own.
    pub(crate) fn client_with(&self, identity: &Identity) -> ClientConfig {
        let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        self.trusting(&VERSIONS).with_client_auth_cert(vec![certificate], key).unwrap()
    }

    fn trusting(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .unwrap();
        builder.with_root_certificates(roots)
    }
}

/// Files of one test, gone with it.
pub(crate) struct Files(PathBuf);

impl Files {
    /// `name` must be the test's own.
    pub(crate) fn new(name: &str) -> Self {
        // Short, because the path of a socket may not be long.
        let path = std::env::temp_dir().join(format!("wserver-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) type Secure = TlsStream<TcpStream>;
pub(crate) type Socket = WebSocketStream<Secure>;

/// A TLS connection, or how it failed.
pub(crate) async fn secure(address: SocketAddr, config: &ClientConfig) -> io::Result<Secure> {
    let socket = TcpSocket::new_v4().unwrap();
    // Small, so that a client that does not read is soon felt.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream = socket.connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config.clone())).connect(name, stream).await
}

/// A WebSocket over TLS, registered.
pub(crate) async fn listen(
    running: &Running,
    config: &ClientConfig,
    token: &str,
    event: &str,
) -> Socket {
    let stream = secure(running.address, config).await.unwrap();
    let (mut socket, _) = client_async("wss://localhost/ws", stream).await.unwrap();
    let bound = running.handle.counts().registrations;
    let register = format!(r#"{{"token":"{token}","event":"{event}"}}"#);
    socket.send(Message::text(register)).await.unwrap();
    eventually("bound", || running.handle.counts().registrations > bound).await;
    socket
}

/// The next message that is text or a Close.
pub(crate) async fn next(socket: &mut Socket) -> Message {
    let next = async {
        loop {
            let message = socket.next().await.expect("no end without a Close").unwrap();
            if matches!(message, Message::Text(_) | Message::Close(_)) {
                return message;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("something comes")
}

pub(crate) async fn text(socket: &mut Socket) -> String {
    match next(socket).await {
        Message::Text(text) => text.as_str().to_owned(),
        other => panic!("{other:?} instead of a text"),
    }
}

/// The code of the server's Close, behind which TLS and the socket must have ended in order.
pub(crate) async fn closed(socket: &mut Socket) -> u16 {
    let code = match next(socket).await {
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("{other:?} instead of a Close"),
    };
    let stream = socket.get_mut();
    // Without a close_notify this is an error.
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 16])).await;
    assert_eq!(end.expect("the end comes").unwrap(), 0);
    code
}

/// Sends one request and reads until the connection ends: status, headers and body as they came.
pub(crate) async fn ask<S>(
    stream: &mut S,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost");
    exchange(stream, &head, body).await
}

/// Pushes to jack's news; the answer as it came.
pub(crate) async fn push<S>(stream: &mut S, message: &str) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    push_with(stream, "host: localhost", message).await
}

/// As [`push`], with this header and no other but those that the body needs.
pub(crate) async fn push_with<S>(stream: &mut S, header: &str, message: &str) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = if header.starts_with("host") { "" } else { "host: localhost\r\n" };
    let body = format!(r#"{{"userId":"jack","event":"news","message":"{message}"}}"#);
    exchange(stream, &format!("POST /push HTTP/1.1\r\n{host}{header}"), &body).await
}

async fn exchange<S>(stream: &mut S, head: &str, body: &str) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = body.len();
    let request = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await??;
    Ok(String::from_utf8(answer).unwrap())
}

/// What a push that `count` connections took is answered with.
pub(crate) fn is_sent(answer: &str, count: usize) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
        && answer.ends_with(&format!("\r\n\r\nmessage sent to {count} clients"))
}
