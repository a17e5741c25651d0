//! A socket of the generator, plain or with TLS.
//!
//! It never blocks, and verifies only that the server is the intended one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mio::net::TcpStream;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// The TLS configuration for one server.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For a server at `address` whose certificate is signed by one of the authorities in
    /// `ca_file`.
    pub(crate) fn new(ca_file: &Path, address: SocketAddr) -> Result<Self> {
        let pem =
            fs::read(ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
        let roots =
            wserver_tls::authorities(&pem).with_context(|| ca_file.display().to_string())?;
        let mut config = wserver_tls::trusting(roots).with_no_client_auth();
        // Every connection is another browser, which the server has not seen before.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name: address.ip().into() })
    }
}

/// A socket that reads and writes what is possible now, and otherwise returns `WouldBlock`.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, tls: Option<&Tls>) -> Result<Self> {
        let connection = |tls: &Tls| {
            ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map(Box::new)
        };
        Ok(Self { stream, tls: tls.map(connection).transpose()? })
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether a read of `count` bytes into `capacity` has left nothing behind. With TLS this does
    /// not show, because some bytes may still wait to be decrypted.
    pub(crate) fn is_drained(&self, count: usize, capacity: usize) -> bool {
        self.tls.is_none() && count < capacity
    }

    /// Writes what TLS holds because the socket did not take it, or was not connected.
    pub(crate) fn write_kept(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => return Ok(()),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The connection ended without TLS's close_notify, which is an end like any other.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            tls.read_tls(&mut self.stream)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            self.write_kept()?;
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.write(bytes) };
        let count = tls.writer().write(bytes)?;
        self.write_kept()?;
        if count == 0 && !bytes.is_empty() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(count)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_kept()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use mio::{Events, Interest, Poll, Token};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// A TLS server that echoes what it reads, once, and the path of its certificate.
    fn echo(bytes: usize) -> (SocketAddr, std::path::PathBuf) {
        let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let name = format!("wserver-load-{}-{bytes}.pem", std::process::id());
        let ca_file = std::env::temp_dir().join(name);
        fs::write(&ca_file, pair.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let tls = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = StreamOwned::new(tls, listener.accept().unwrap().0);
            let mut heard = vec![0; bytes];
            stream.read_exact(&mut heard).unwrap();
            stream.write_all(&heard).unwrap();
            // The connection ended without close_notify.
        });
        (address, ca_file)
    }

    /// More bytes than rustls buffers, so that writing pauses.
    #[test]
    fn what_is_written_is_read_behind_tls() {
        const BYTES: usize = 300_000;
        let (address, ca_file) = echo(BYTES);
        let tls = Tls::new(&ca_file, address).unwrap();
        fs::remove_file(ca_file).unwrap();
        let mut socket = Socket::new(TcpStream::connect(address).unwrap(), Some(&tls)).unwrap();
        let mut poll = Poll::new().unwrap();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(socket.stream(), Token(0), interest).unwrap();
        let said = vec![b'x'; BYTES];
        let (mut written, mut heard, mut buffer) = (0, 0, [0; 8192]);
        let mut events = Events::with_capacity(8);
        'turns: loop {
            poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
            assert!(!events.is_empty(), "{written} written, {heard} heard");
            socket.write_kept().unwrap();
            while written < BYTES {
                match socket.write(&said[written..]) {
                    Ok(count) => written += count,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
            loop {
                match socket.read(&mut buffer) {
                    Ok(0) => break 'turns,
                    Ok(count) => {
                        assert!(buffer[..count].iter().all(|byte| *byte == b'x'));
                        assert!(!socket.is_drained(count, buffer.len()), "nobody can tell");
                        heard += count;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
        }
        assert_eq!((written, heard), (BYTES, BYTES));
    }
}
