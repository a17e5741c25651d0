//! The server embedded in a program: built, served, asked and told through what the library shows.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod authenticate;
mod build;
#[cfg(feature = "cluster")]
mod cluster;
mod ends;
mod expiry;
mod handle;
mod hooks;
mod inbound;
mod journal;
mod places;
mod publishers;
mod raw;
mod requests;
mod shutdown;
mod upgrade;
mod version_2;
#[cfg(feature = "tls")]
mod private;
#[cfg(feature = "tls")]
mod secure;
#[cfg(feature = "tls")]
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use wserver_client::{Client, Connection, NextTextError, Pusher};
use wserver_warp::{Drained, Handle, Server, ServerBuilder};

/// How long anything may take before a test gives up: far beyond what is expected of a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One server that is being served.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) address: SocketAddr,
    serving: JoinSet<Drained>,
}

/// Serves on a free port, where pushes are taken too.
pub(crate) fn serve(builder: ServerBuilder) -> Running {
    serve_as_it_is(builder.allow_open_push())
}

/// Serves on a free port.
pub(crate) fn serve_as_it_is(builder: ServerBuilder) -> Running {
    let server = builder.address("127.0.0.1:0").build().unwrap().bind().unwrap();
    let (handle, address) = (server.handle(), server.local_addr());
    let mut serving = JoinSet::new();
    serving.spawn(server.serve());
    Running { handle, address, serving }
}

/// The defaults.
pub(crate) fn serve_default() -> Running {
    serve(Server::builder())
}

impl Running {
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("ws://{}/ws", self.address)).unwrap()
    }

    pub(crate) fn pusher(&self) -> Pusher {
        Pusher::new(&format!("http://{}/push", self.address)).unwrap().with_timeout(PATIENCE)
    }

    pub(crate) async fn open(&self) -> Connection {
        self.client().open().await.unwrap()
    }

    /// A connection that is bound.
    pub(crate) async fn listen(&self, token: &str, event: &str) -> Connection {
        let mut connection = self.open().await;
        self.register(&mut connection, token, event).await;
        connection
    }

    /// Registers and waits until that is bound.
    pub(crate) async fn register(&self, connection: &mut Connection, token: &str, event: &str) {
        let bound = self.handle.counts().registrations;
        connection.register(token, event).await.unwrap();
        eventually("bound", || self.handle.counts().registrations > bound).await;
    }

    /// Begins the shutdown and waits for its end.
    pub(crate) async fn shut_down(mut self) -> Drained {
        self.handle.shutdown();
        let ended = tokio::time::timeout(PATIENCE, self.serving.join_next()).await;
        ended.expect("a shutdown ends").expect("it was served").unwrap()
    }
}

/// Waits until `is_so`, for what shows in nothing that could be waited on.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Moves the timers of the runtime, which must have a single thread, forward by `time`. Deadlines of
/// connections follow the system's clock, so they do not move.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(crate) async fn heard(connection: &mut Connection) -> String {
    connection.next_text(PATIENCE).await.unwrap()
}

/// Waits for the server's Close, with nothing before it.
pub(crate) async fn closed(connection: &mut Connection) -> (u16, String) {
    match connection.next_text(PATIENCE).await {
        Err(NextTextError::Closed { frame: Some(frame) }) => {
            (frame.code.unwrap_or(1005), frame.reason)
        }
        other => panic!("{other:?} instead of a Close"),
    }
}

/// The sample of a counter or gauge on the page of metrics, by its name with labels.
pub(crate) fn counted(running: &Running, name: &str) -> u64 {
    let page = running.handle.metrics();
    let samples = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    samples.map(|value| value.parse::<u64>().unwrap()).next().unwrap_or_else(|| panic!("no {name}"))
}

/// What hooks and authenticators saw, in order.
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Log<T> {
    pub(crate) fn add(&self, entry: T) {
        self.0.lock().unwrap().push(entry);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Notes when a future that holds it is dropped.
pub(crate) struct Held(pub(crate) Log<String>, pub(crate) String);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(self.1.clone());
    }
}
