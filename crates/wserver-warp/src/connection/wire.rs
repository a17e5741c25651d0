//! A connection's socket after its upgrade: plain, or TLS that encrypts under the outbox's lock.

use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::net::TcpStream;
use wserver_node::Wire;

use crate::connection::pipe::PipeWriter;
use crate::tls::TlsSocket;

/// A plain socket is only a file descriptor that we own.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    /// Boxed: a plain connection pays nothing for it.
    Tls(Box<TlsSocket>),
    /// The body of an answer.
    Pipe(Box<PipeWriter>),
}

impl Socket {
    /// Reads available bytes into `buffer`; zero if the peer has ended.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_read(stream, cx, buffer),
            Self::Tls(socket) => socket.poll_read(cx, buffer),
            Self::Pipe(pipe) => pipe.poll_end(cx),
        }
    }

    /// As [`Socket::poll_read`], for bytes that nobody will read: nothing is decrypted.
    pub(crate) fn poll_discard(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_read(stream, cx, buffer),
            Self::Tls(socket) => poll_read(socket.stream(), cx, buffer),
            Self::Pipe(pipe) => pipe.poll_end(cx),
        }
    }

    /// Tells the peer that nothing more will come; ready when that is sent, or can no longer be
    /// sent.
    ///
    /// Call it when everything is written, and again until it is ready.
    pub(crate) fn poll_shut_write(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Tls(socket) = self {
            ready!(socket.poll_notify_close(cx));
        }
        match self.stream() {
            // A socket that is already gone has nothing to shut.
            Ok(stream) => _ = SockRef::from(stream).shutdown(Shutdown::Write),
            Err(pipe) => pipe.shut(),
        }
        Poll::Ready(())
    }

    /// Lets the peer see the end at once, even if it has not read everything.
    pub(crate) fn abandon(&self) {
        match self.stream() {
            Ok(stream) => _ = stream.set_zero_linger(),
            Err(pipe) => pipe.abandon(),
        }
    }

    /// The stream, or what stands for it.
    fn stream(&self) -> Result<&TcpStream, &PipeWriter> {
        match self {
            Self::Plain(stream) => Ok(stream),
            Self::Tls(socket) => Ok(socket.stream()),
            Self::Pipe(pipe) => Err(pipe),
        }
    }
}

/// A plain socket of this process, and the end at which its bytes can be read without waiting.
///
/// # Errors
/// If the system has none left.
pub(crate) fn pair() -> io::Result<(Socket, Box<dyn Read + Send>)> {
    let (near_end, far_end) = UnixStream::pair()?;
    near_end.set_nonblocking(true)?;
    far_end.set_nonblocking(true)?;
    // For reads and writes, one kind of stream is as good as the other.
    let near_end = TcpStream::from_std(StdTcpStream::from(OwnedFd::from(near_end)))?;
    Ok((Socket::Plain(near_end), Box::new(far_end)))
}

impl Wire for Socket {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, buffers) {
            (Self::Plain(stream), [one]) => send(stream, one),
            (Self::Plain(stream), _) => stream.try_write_vectored(buffers),
            (Self::Tls(socket), _) => socket.try_write(buffers),
            (Self::Pipe(pipe), _) => pipe.try_write(buffers),
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) | Self::Pipe(_) => Ok(()),
            Self::Tls(socket) => socket.try_flush(),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream() {
            Ok(stream) => stream.poll_write_ready(cx),
            Err(pipe) => pipe.poll_write_ready(cx),
        }
    }

    /// The kernel's answer; behind a proxy it is the proxy.
    fn peer(&self) -> Option<SocketAddr> {
        match self.stream() {
            Ok(stream) => stream.peer_addr().ok(),
            Err(pipe) => Some(pipe.peer()),
        }
    }
}

/// Tries to write at once, without asking tokio first whether the socket is writable: tokio keeps
/// that state elsewhere, and looking there costs a cache miss for each delivery.
#[cfg(target_os = "linux")]
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::SendFlags;

    match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
        // Tokio must see this error itself, or it would not report when the socket is writable
        // again.
        Err(rustix::io::Errno::AGAIN) => stream.try_write(bytes),
        sent => Ok(sent?),
    }
}

#[cfg(not(target_os = "linux"))]
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.try_write(bytes)
}

fn poll_read(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_costs_a_plain_connection_nothing() {
        assert_eq!(size_of::<Socket>(), size_of::<TcpStream>());
    }

    #[test]
    fn an_outbox_costs_no_more_than_its_budget() {
        // With the two counts of its Arc it fills a size class of 128 bytes; the next is 160.
        let bytes = size_of::<wserver_node::Outbox<Socket>>();
        assert!(bytes <= 112, "{bytes}");
    }

    /// Otherwise a task that waits for room would be woken at once, again and again.
    #[tokio::test]
    async fn a_full_socket_is_ready_when_its_peer_has_read() {
        use std::future::poll_fn;

        use tokio::io::AsyncReadExt as _;
        use tokio::net::TcpListener;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (socket, mut peer) = (Socket::Plain(ours.unwrap()), theirs.unwrap().0);
        poll_fn(|cx| socket.poll_write_ready(cx)).await.unwrap();
        let block = [0; 64 * 1024];
        let mut written = 0;
        loop {
            match socket.try_write(&[IoSlice::new(&block)]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let is_ready = poll_fn(|cx| Poll::Ready(socket.poll_write_ready(cx).is_ready())).await;
        assert!(!is_ready, "{written} bytes fill it");
        let mut rest = vec![0; written];
        let (ready, read) =
            tokio::join!(poll_fn(|cx| socket.poll_write_ready(cx)), peer.read_exact(&mut rest));
        ready.unwrap();
        assert_eq!(read.unwrap(), written);
    }

    #[cfg(feature = "tls")]
    mod tls {
        use std::future::poll_fn;
        use std::sync::Arc;
        use std::time::Duration;

        use rustls::pki_types::{PrivateKeyDer, ServerName};
        use rustls::{ClientConfig, RootCertStore, ServerConfig};
        use tokio::io::AsyncReadExt as _;
        use tokio::net::TcpListener;
        use tokio_rustls::{TlsAcceptor, TlsConnector};

        use super::super::*;
        use crate::tls::TlsStream;

        /// The two ends of one connection during HTTP: ours and a client's.
        async fn pair() -> (TlsStream, tokio_rustls::client::TlsStream<TcpStream>) {
            let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let certificate = identity.cert.der().clone();
            let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.clone()], key)
                .unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(certificate).unwrap();
            let client = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let dialed = TcpStream::connect(listener.local_addr().unwrap());
            let (dialed, accepted) = tokio::join!(dialed, listener.accept());
            let name = ServerName::try_from("localhost").unwrap();
            let connecting = TlsConnector::from(Arc::new(client)).connect(name, dialed.unwrap());
            let accepting = TlsAcceptor::from(Arc::new(server)).accept(accepted.unwrap().0);
            let (client, server) = tokio::join!(connecting, accepting);
            (server.unwrap(), client.unwrap())
        }

        async fn within<T>(work: impl Future<Output = T>) -> T {
            tokio::time::timeout(Duration::from_secs(60), work).await.expect("it ends")
        }

        fn is_blocked<T>(result: &io::Result<T>) -> bool {
            result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        }

        /// The bytes are neither lost nor reported as sent: `try_flush` tells the task to finish
        /// sending them.
        #[tokio::test]
        async fn what_is_taken_from_the_outbox_arrives() {
            let (server, mut client) = pair().await;
            let socket = Socket::Tls(Box::new(server.into()));
            within(poll_fn(|cx| socket.poll_write_ready(cx))).await.unwrap();
            // In two buffers, of which the second begins in the middle of a step.
            let part = vec![b'x'; 100_000];
            let buffers = [IoSlice::new(&part), IoSlice::new(&part)];
            let mut taken = 0;
            loop {
                match socket.try_write(&buffers) {
                    Ok(count) => taken += count,
                    result => break assert!(is_blocked(&result), "{result:?}"),
                }
            }
            assert!(is_blocked(&socket.try_flush()), "something is held back");
            assert!(is_blocked(&socket.try_write(&buffers)), "and nothing is taken beyond it");
            let flushing = async {
                while is_blocked(&socket.try_flush()) {
                    poll_fn(|cx| socket.poll_write_ready(cx)).await.unwrap();
                }
            };
            let reading = async {
                let mut heard = vec![0; taken];
                client.read_exact(&mut heard).await.unwrap();
                assert!(heard.iter().all(|byte| *byte == b'x'));
            };
            within(async { tokio::join!(flushing, reading) }).await;
            within(poll_fn(|cx| socket.poll_shut_write(cx))).await;
            assert_eq!(within(client.read(&mut [0; 16])).await.unwrap(), 0, "it ends in order");
        }

        /// An alert does not wait for the next message (RFC 8446, section 6.2).
        #[tokio::test]
        async fn a_peer_that_breaks_tls_is_told_so() {
            use tokio::io::AsyncWriteExt as _;
            let (server, mut client) = pair().await;
            let socket = Socket::Tls(Box::new(server.into()));
            client.get_mut().0.write_all(&[23, 3, 3, 0, 20].repeat(5)).await.unwrap();
            let mut buffer = [0; 64];
            let read = within(poll_fn(|cx| socket.poll_read(cx, &mut buffer))).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
            let told = within(client.read(&mut [0; 16])).await.unwrap_err().to_string();
            assert!(told.contains("alert"), "{told}");
        }

        /// What hyper has not read when it returns the connection is read by us.
        #[tokio::test]
        async fn what_was_decrypted_before_the_upgrade_is_read_behind_it() {
            use tokio::io::AsyncWriteExt as _;
            let (mut server, mut client) = pair().await;
            client.write_all(b"head and frames").await.unwrap();
            let mut head = [0; 4];
            within(server.read_exact(&mut head)).await.unwrap();
            let socket = Socket::Tls(Box::new(server.into()));
            let mut buffer = [0; 64];
            let count = within(poll_fn(|cx| socket.poll_read(cx, &mut buffer))).await.unwrap();
            assert_eq!((&head, &buffer[..count]), (b"head", &b" and frames"[..]));
        }
    }
}
