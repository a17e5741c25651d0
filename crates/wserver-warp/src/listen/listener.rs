//! Where a server listens: checked addresses, bound listeners, and what each serves.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use wserver_api::Side;

use crate::listen::transport::Transport;
use crate::tls::Tls;

/// Connections that the kernel holds between two accepts.
const BACKLOG: i32 = 4096;
/// The owner and the group of a Unix socket may push through it.
const UNIX_MODE: u32 = 0o660;
/// A client of a Unix socket has no address; it is a program on this machine.
const UNIX_PEER: SocketAddr = SocketAddr::new(LOOPBACK, 0);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The prefix of an address that is a path.
const UNIX_PREFIX: &str = "unix:";
/// The distance of the default private port from the public port.
const PRIVATE_PORT_OFFSET: u16 = 10_000;

/// Where to listen, as a setting gives it.
#[derive(Debug)]
pub(crate) enum ListenSetting {
    /// `host:port`, or `unix:/path`.
    Address(String),
    Unix(PathBuf),
    Listener(StdTcpListener),
    UnixListener(StdUnixListener),
}

/// Where to listen, checked.
#[derive(Debug)]
pub(crate) enum Listen {
    Address(SocketAddr),
    Unix(PathBuf),
    Listener(StdTcpListener),
    UnixListener(StdUnixListener),
}

/// A bound listener, what it serves and how.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: Listener,
    pub(crate) side: Side,
    pub(crate) tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        /// It comes first, because it must be dropped first: the next server then finds no file, or
        /// a stale one. `None` if another program bound the socket and keeps the file.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
}

impl ListenSetting {
    /// Resolves the address, which is the value of `setting`.
    pub(crate) fn resolve(self, setting: &'static str) -> Result<Listen, AddressProblem> {
        match self {
            Self::Listener(listener) => Ok(Listen::Listener(listener)),
            Self::UnixListener(listener) => Ok(Listen::UnixListener(listener)),
            Self::Unix(path) => Ok(Listen::Unix(path)),
            Self::Address(address) => match address.strip_prefix(UNIX_PREFIX) {
                Some("") => Err(AddressProblem { setting, address, fault: AddressFault::NoPath }),
                Some(path) => Ok(Listen::Unix(path.into())),
                None => match resolve(&address) {
                    Ok(address) => Ok(Listen::Address(address)),
                    Err(fault) => Err(AddressProblem { setting, address, fault }),
                },
            },
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {address:?} {fault}")]
#[non_exhaustive]
pub struct AddressProblem {
    /// Its setting: `address` or `private_address`.
    pub setting: &'static str,
    /// Its value.
    pub address: String,
    /// What is wrong with it.
    pub fault: AddressFault,
}

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressFault {
    /// It has the prefix of a Unix socket, but no path.
    #[error("has no path")]
    NoPath,
    /// It has another form, or its host is unknown.
    #[error("is not host:port: {error}")]
    NotHostPort {
        /// What the operating system reported.
        error: String,
    },
    /// Its host is known but has no address.
    #[error("has no address")]
    NoAddress,
}

fn resolve(address: &str) -> Result<SocketAddr, AddressFault> {
    let explicit =
        if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    explicit
        .to_socket_addrs()
        .map_err(|error| AddressFault::NotHostPort { error: error.to_string() })?
        .next()
        .ok_or(AddressFault::NoAddress)
}

impl Listen {
    /// The address at which other machines reach it, if they do. The mode of its file protects a
    /// Unix socket.
    pub(crate) fn exposed(&self) -> io::Result<Option<SocketAddr>> {
        let address = match self {
            Self::Address(address) => *address,
            Self::Listener(listener) => listener.local_addr()?,
            Self::Unix(_) | Self::UnixListener(_) => return Ok(None),
        };
        Ok((!address.ip().to_canonical().is_loopback()).then_some(address))
    }

    /// The private port that only this machine reaches: 22345 for 12345. Port 0 stays 0.
    pub(crate) fn beside_on_loopback(&self) -> io::Result<Self> {
        let address = match self {
            Self::Address(address) => *address,
            Self::Listener(listener) => listener.local_addr()?,
            Self::Unix(_) | Self::UnixListener(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        // At a loopback address other than the first, another server may have the first.
        let ip = if address.ip().is_loopback() { address.ip() } else { LOOPBACK };
        let port = match address.port() {
            0 => 0,
            port => {
                port.checked_add(PRIVATE_PORT_OFFSET).unwrap_or_else(|| port - PRIVATE_PORT_OFFSET)
            }
        };
        Ok(Self::Address(SocketAddr::new(ip, port)))
    }

    /// Whether only programs on this machine reach it.
    pub(crate) const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::UnixListener(_))
    }

    /// Starts to listen, within a runtime. An error gives the place, with the `role` of the
    /// address.
    pub(crate) fn bind(self, role: &str) -> io::Result<Listener> {
        let place = self.to_string();
        self.bound().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {role}{place}: {error}"))
        })
    }

    fn bound(self) -> io::Result<Listener> {
        match self {
            Self::Address(address) => bind_tcp(address).map(Listener::Tcp),
            Self::Listener(listener) => {
                listener.set_nonblocking(true)?;
                SockRef::from(&listener).listen(BACKLOG)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
            Self::Unix(path) => bind_unix(path),
            Self::UnixListener(listener) => {
                listener.set_nonblocking(true)?;
                let listener = UnixListener::from_std(listener)?;
                Ok(Listener::Unix { _file: None, listener })
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Listener(_) | Self::UnixListener(_) => f.write_str("the given listener"),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart must not wait until the kernel forgets the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}

fn bind_unix(path: PathBuf) -> io::Result<Listener> {
    remove_stale(&path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&path)?)?;
    let file = SocketFile::new(path)?;
    // Nobody can connect before it listens, so its earlier mode lets nobody in.
    fs::set_permissions(&file.path, fs::Permissions::from_mode(UNIX_MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok(Listener::Unix { _file: Some(file), listener })
}

/// Removes the socket file of a server that did not shut down properly.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file of this name exists and is not a socket",
        )),
        Ok(_) => match StdUnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another server listens on this socket",
            )),
        },
    }
}

/// The file of a Unix socket, which is removed on drop.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, which distinguish the file from another of the same name.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If the file cannot be removed, the next server finds it stale and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Listener {
    /// The address, with the actual port for port 0. A Unix socket has none.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Unix { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The next connection, and its address.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<(Transport, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Transport::Tcp(stream), canonical(peer)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Transport::Unix(stream), UNIX_PEER))
            }
        }
    }

    /// A connection that has already arrived, and its address; straight from the kernel, because
    /// the runtime may not know of it yet.
    pub(crate) fn accept_waiting(&self) -> io::Result<Option<(Transport, SocketAddr)>> {
        let accepted = match self {
            Self::Tcp(listener) => SockRef::from(listener).accept(),
            Self::Unix { listener, .. } => SockRef::from(listener).accept(),
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        Ok(Some(match self {
            Self::Tcp(_) => {
                let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                (Transport::Tcp(TcpStream::from_std(socket.into())?), canonical(peer))
            }
            Self::Unix { .. } => (Transport::Unix(UnixStream::from_std(socket.into())?), UNIX_PEER),
        }))
    }
}

/// Shows and counts an IPv4 client of a dual-stack listener as IPv4.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_beside_an_address_is_of_this_machine() {
        for (address, beside) in [
            ("127.0.0.1:12345", "127.0.0.1:22345"),
            ("0.0.0.0:12345", "127.0.0.1:22345"),
            ("192.0.2.1:80", "127.0.0.1:10080"),
            ("[::]:12345", "127.0.0.1:22345"),
            ("[::1]:12345", "[::1]:22345"),
            ("127.0.0.2:55535", "127.0.0.2:65535"),
            ("127.0.0.1:55536", "127.0.0.1:45536"),
            ("127.0.0.1:65535", "127.0.0.1:55535"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            let listen = Listen::Address(address.parse().unwrap()).beside_on_loopback().unwrap();
            assert_eq!(listen.to_string(), beside, "{address}");
        }
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let beside = Listen::Listener(listener).beside_on_loopback().unwrap().to_string();
        assert_eq!(
            beside.parse::<SocketAddr>().unwrap().port().abs_diff(port),
            PRIVATE_PORT_OFFSET
        );
    }
}
