//! The TLS of one listener while it serves: handshakes, and the reload of its files.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::load;
use super::problem::TlsProblem;
use super::settings::{Names, TlsSettings};
use super::socket::TlsStream;
use crate::listen::canned;

/// How often to check whether certificate files have changed.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How long such a check may take before a warning.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);

/// The first byte of a client that speaks TLS (RFC 8446, section 5.1: a record of a handshake).
const HANDSHAKE: u8 = 22;

/// How much of a plain request to read, so that a reset does not overtake the answer.
const PLAIN_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// The state of a file: its modification time, and its length in bytes. `None` if it did not exist.
type Stamp = Option<(SystemTime, u64)>;

/// The TLS of one listener while it serves.
pub(crate) struct Tls {
    settings: TlsSettings,
    names: Names,
    /// For new connections. Written by a reload.
    config: Mutex<Arc<ServerConfig>>,
    /// The state of the files when they were last read, successfully or not, so that a mistake is
    /// reported once.
    seen: Mutex<Vec<Stamp>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads and checks everything; the error has every problem.
    pub(crate) fn new(settings: &TlsSettings, names: Names) -> Result<Self, Vec<TlsProblem>> {
        let seen = Mutex::new(stamps(settings));
        let config = Mutex::new(load::config(settings, names)?);
        Ok(Self { settings: settings.clone(), names, config, seen })
    }

    /// Makes a TLS connection on `stream`. A client that does not speak TLS is told so.
    ///
    /// It may wait for ever: the caller sets the deadline.
    pub(crate) async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != HANDSHAKE {
            if first[0].is_ascii_uppercase() {
                let _ = stream.try_read(&mut [0; PLAIN_REQUEST_BYTES_MAX]);
                stream.write_all(canned::PLAIN_HTTP).await?;
                stream.shutdown().await?;
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS"));
        }
        let config = Arc::clone(&lock(&self.config));
        TlsAcceptor::from(config).accept(stream).await
    }

    fn has_files(&self) -> bool {
        self.settings.files_named().next().is_some()
    }

    fn has_changed(&self) -> bool {
        *lock(&self.seen) != stamps(&self.settings)
    }

    fn read(&self) -> Result<Arc<ServerConfig>, Vec<TlsProblem>> {
        // Before the files are read, so that a change in between is noticed later.
        *lock(&self.seen) = stamps(&self.settings);
        load::config(&self.settings, self.names)
    }
}

/// Whether a file of any listener has changed since it was last read.
pub(crate) fn have_changed(listeners: &[Arc<Tls>]) -> bool {
    listeners.iter().any(|tls| tls.has_changed())
}

/// Reads everything again; new connections use it, existing ones keep what they have. If anything
/// is wrong, nothing changes.
pub(crate) fn reload(listeners: &[Arc<Tls>]) -> Result<(), Vec<TlsProblem>> {
    let mut configs = Vec::new();
    let mut problems = Vec::new();
    for tls in listeners {
        match tls.read() {
            Ok(config) => configs.push(config),
            Err(more) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for (tls, config) in listeners.iter().zip(configs) {
        *lock(&tls.config) = config;
    }
    Ok(())
}

/// Reloads when files have changed, until `stop`.
pub(crate) async fn watch(listeners: Arc<[Arc<Tls>]>, stop: CancellationToken) {
    if !listeners.iter().any(|tls| tls.has_files()) {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        let listeners = Arc::clone(&listeners);
        let look = move || have_changed(&listeners).then(|| reload(&listeners));
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = in_thread(look) => looked,
        };
        match looked {
            Ok(None) => {}
            Ok(Some(Ok(()))) => info!("the certificates changed and were reloaded"),
            Ok(Some(Err(problems))) => {
                warn!(
                    problems =
                        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    "the certificates changed, but cannot be used; the old ones stay in force"
                );
            }
            Err(error) => warn!(%error, "could not check the certificates"),
        }
    }
}

/// Runs work that may wait for a disk that does not answer, in a thread for which neither a
/// shutdown nor the end of the runtime waits.
async fn in_thread<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (answer, mut looked) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("certificates".to_owned());
    thread.spawn(move || {
        // The caller may have gone.
        let _ = answer.send(look());
    })?;
    let looked = match tokio::time::timeout(LOOK_PATIENCE, &mut looked).await {
        Ok(looked) => looked,
        Err(_elapsed) => {
            warn!(waited = ?LOOK_PATIENCE, "reading the certificates did not finish in time; the \
                                            server keeps waiting");
            looked.await
        }
    };
    looked.map_err(|_panicked| io::Error::other("checking the certificates panicked"))
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let stamp = |path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    settings.files_named().map(stamp).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Values under these locks are replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::settings::PUBLIC;

    /// Files that are wrong are told of once, and looked at again only after the next change.
    #[test]
    fn a_change_is_seen_once() {
        let folder = std::env::temp_dir().join(format!("wserver-seen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, identity.cert.pem()).unwrap();
        std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
        let tls = Tls::new(&TlsSettings::files(&certificate, &key), PUBLIC).unwrap();
        let listeners = [Arc::new(tls)];
        assert!(!have_changed(&listeners));
        std::fs::write(&key, "no key").unwrap();
        assert!(have_changed(&listeners));
        assert_eq!(reload(&listeners).unwrap_err().len(), 1);
        assert!(!have_changed(&listeners));
        std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
        assert!(have_changed(&listeners));
        reload(&listeners).unwrap();
        assert!(!have_changed(&listeners));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
