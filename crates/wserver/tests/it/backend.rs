//! An HTTP server of a test's own: an issuer or a backend, as good or as bad as the test wants it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::PATIENCE;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What a request gets.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// This status with this body, and the connection stays.
    Say(u16, String),
    /// These bytes, and the connection is closed.
    Raw(String),
    /// Nothing, for as long as the one who asks holds on.
    Hang,
    /// This status with this body, once the gate is open.
    Behind(Gate, u16, String),
}

/// Keeps answers back until the test opens it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let is_closed = |is_open: &mut bool| !*is_open;
        let open = self.0.1.wait_timeout_while(self.0.0.lock().unwrap(), PATIENCE, is_closed);
        assert!(!open.unwrap().1.timed_out(), "the gate is opened");
    }
}

type Respond = dyn Fn(&Asked) -> Reply + Send + Sync;

/// Serves until it is dropped; then nobody listens at its address.
pub(crate) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    respond: Mutex<Arc<Respond>>,
    asked: Mutex<Vec<Asked>>,
    news: Condvar,
    is_over: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

impl Backend {
    pub(crate) fn start(respond: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, Arc::new(respond))
    }

    /// One that gives every request the same.
    pub(crate) fn saying(status: u16, body: impl Into<String>) -> Self {
        let reply = Reply::Say(status, body.into());
        Self::start(move |_| reply.clone())
    }

    /// The same over TLS, with this certificate and its key in PEM.
    pub(crate) fn saying_by_tls(status: u16, body: &str, certificate: &str, key: &str) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let reply = Reply::Say(status, body.to_owned());
        Self::serve(Some(Arc::new(tls)), Arc::new(move |_: &Asked| reply.clone()))
    }

    fn serve(tls: Option<Arc<ServerConfig>>, respond: Arc<Respond>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            respond: Mutex::new(respond),
            asked: Mutex::default(),
            news: Condvar::new(),
            is_over: AtomicBool::new(false),
            tls,
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on requests get this.
    pub(crate) fn respond(&self, respond: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.shared.respond.lock().unwrap() = Arc::new(respond);
    }

    /// From now on requests get the same.
    pub(crate) fn say(&self, status: u16, body: impl Into<String>) {
        let reply = Reply::Say(status, body.into());
        self.respond(move |_| reply.clone());
    }

    /// How often it was asked.
    pub(crate) fn count(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// Waits for the request of this number, counted from 1.
    pub(crate) fn asked(&self, number: usize) -> Asked {
        let asked = self.shared.asked.lock().unwrap();
        let is_early = |asked: &mut Vec<Asked>| asked.len() < number;
        let (asked, waited) =
            self.shared.news.wait_timeout_while(asked, PATIENCE, is_early).unwrap();
        assert!(!waited.timed_out(), "asked {} times, not {number}", asked.len());
        asked[number - 1].clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // It looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
        let _ = self.accepting.take().map(thread::JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let (socket, shared) = (socket.unwrap(), Arc::clone(shared));
        // It ends with its connection.
        thread::spawn(move || match &shared.tls {
            None => serve(socket, &shared),
            Some(tls) => {
                let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                serve(StreamOwned::new(connection, socket), &shared);
            }
        });
    }
}

/// Whoever asked may go away at any time; that is what some tests are about.
fn serve(mut socket: impl Read + Write, shared: &Shared) {
    let mut bytes = Vec::new();
    while let Some(asked) = read(&mut socket, &mut bytes) {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let respond = Arc::clone(&shared.respond.lock().unwrap());
        let reply = respond(&asked);
        shared.asked.lock().unwrap().push(asked);
        shared.news.notify_all();
        let (status, body) = match reply {
            Reply::Say(status, body) => (status, body),
            Reply::Behind(gate, status, body) => {
                gate.pass();
                (status, body)
            }
            Reply::Raw(text) => {
                let _ = socket.write_all(text.as_bytes());
                return;
            }
            Reply::Hang => {
                let _ = socket.read(&mut [0]);
                return;
            }
        };
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
        if socket.write_all((head + &body).as_bytes()).and_then(|()| socket.flush()).is_err() {
            return;
        }
    }
}

fn read(socket: &mut impl Read, bytes: &mut Vec<u8>) -> Option<Asked> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse().unwrap());
            if rest.len() >= length {
                bytes.drain(..head.len() + 4 + length);
                return Some(Asked { head: head.to_owned(), body: rest[..length].to_owned() });
            }
        }
        let mut more = [0; 4096];
        let count = socket.read(&mut more).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&more[..count]);
    }
}
