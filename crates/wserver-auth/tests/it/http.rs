//! A real HTTP server on a port of its own, as bad as a test wants it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What one request was.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
    /// Which connection it came on, counted from 1.
    pub(crate) connection: usize,
}

/// What a request gets.
#[derive(Clone)]
pub(crate) enum Reply {
    /// This status with this body, and the connection stays.
    Say(u16, String),
    /// These bytes, and the connection is closed.
    Raw(Vec<u8>),
    /// Nothing, ever.
    Hang,
    /// The same as the inner one, once the test has given a permit.
    After(Arc<Semaphore>, Box<Self>),
}

type Respond = dyn Fn(&Received) -> Reply + Send + Sync;

/// Runs until it is dropped.
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    respond: Mutex<Arc<Respond>>,
    received: Mutex<Vec<Received>>,
}

impl HttpServer {
    pub(crate) async fn start(
        respond: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, respond).await
    }

    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        respond: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let respond: Arc<Respond> = Arc::new(respond);
        let shared = Arc::new(Shared { respond: Mutex::new(respond), received: Mutex::default() });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared, _serving: serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on requests get this.
    pub(crate) fn respond(&self, respond: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.shared.respond.lock().unwrap() = Arc::new(respond);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// Waits until it has got so many requests.
    pub(crate) async fn asked(&self, count: usize) {
        let asked = async {
            while self.count() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(super::PATIENCE, asked).await.expect("it is asked");
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for connection in 1.. {
        let (socket, _) = listener.accept().await.unwrap();
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => serve(socket, connection, &shared).await,
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        serve(socket, connection, &shared).await;
                    }
                }
            }
        });
    }
}

async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    shared: &Shared,
) {
    let mut bytes = Vec::new();
    while let Some(received) = read(&mut socket, &mut bytes, connection).await {
        shared.received.lock().unwrap().push(received.clone());
        let respond = Arc::clone(&shared.respond.lock().unwrap());
        let mut reply = respond(&received);
        if let Reply::After(permits, inner) = reply {
            permits.acquire().await.unwrap().forget();
            reply = *inner;
        }
        // Whoever asked may have gone away; that is what some tests are about.
        match reply {
            Reply::Say(status, body) => {
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
                if socket.write_all((head + &body).as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Raw(bytes) => {
                let _gone = socket.write_all(&bytes).await;
                let _gone = socket.shutdown().await;
                return;
            }
            Reply::Hang => return std::future::pending().await,
            Reply::After(..) => panic!("once is enough"),
        }
    }
}

async fn read(
    socket: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            let length: usize = length.unwrap_or(0);
            if rest.len() >= length {
                let received =
                    Received { head: head.to_owned(), body: rest[..length].to_owned(), connection };
                bytes.drain(..head.len() + 4 + length);
                return Some(received);
            }
        }
        if socket.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
