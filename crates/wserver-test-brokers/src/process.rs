//! Brokers as processes of a test's own: on a port of their own, with a folder that goes with them.

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

/// How long a broker may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether `program` is on this machine. Without it a test leaves itself out and says so aloud, but
/// where `CI` is set it fails.
///
/// # Panics
/// When it is missing and `CI` is set.
#[must_use]
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
pub fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian has servers where only root looks.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let is_found = folders.map(|folder| folder.join(program)).any(|file| file.is_file());
    if !is_found {
        let in_ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
        assert!(!in_ci, "{program} is missing, and in CI nothing is left out");
        eprintln!("LEFT OUT: {program} is not on this machine (a Debian package)");
    }
    is_found
}

/// A port that is this process's own for as long as it lives, and at which nobody listens: it is bound
/// at once and stays so. Nobody is given it by chance, and a program that is told of it can listen
/// there, over and over.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn reserved_port() -> u16 {
    static RESERVED: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    // Linux gives the port of a socket that is bound and does not listen to nobody who asks for any
    // port, and to every server that names it, since they all set SO_REUSEADDR.
    let socket = TcpSocket::new_v4().expect("there are sockets");
    socket.set_reuseaddr(true).expect("it is allowed");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port is free");
    let port = socket.local_addr().expect("it is bound").port();
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    port
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes something")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wserver-broker-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it; what it prints goes nowhere.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it where it is (SIGSTOP): it keeps its connections and answers nobody.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Ends it at once (SIGKILL) and waits for that.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, name: &str) {
        let killed =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(killed.is_ok_and(|status| status.success()), "SIG{name} is sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until somebody listens at `port` of this machine.
///
/// # Panics
/// When nobody does in time.
pub fn wait_for_port(port: u16) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_for("a broker listens", || TcpStream::connect(address).map(drop));
}

/// Waits until `try_it` works; the state of another process cannot be waited on otherwise.
///
/// # Panics
/// When it does not in time, with the last error.
pub fn wait_for<T>(what: &str, mut try_it: impl FnMut() -> io::Result<T>) -> T {
    let since = Instant::now();
    loop {
        match try_it() {
            Ok(found) => return found,
            Err(error) => assert!(since.elapsed() < PATIENCE, "not in time: {what}: {error}"),
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;

    /// Another program that came between would have made the one that was told of the port fail.
    #[test]
    fn a_reserved_port_is_given_to_nobody_by_chance() {
        let (port, other) = (reserved_port(), reserved_port());
        assert_ne!(port, other);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..2 {
            // The kernel asks no less of a port before it chooses it.
            let chance = TcpSocket::new_v4().unwrap().bind(address).unwrap_err();
            assert_eq!(chance.kind(), ErrorKind::AddrInUse);
            let nobody = TcpStream::connect(address).unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused);
            // std sets SO_REUSEADDR, as servers do.
            let server = TcpListener::bind(address).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            server.accept().unwrap();
        }
    }
}
