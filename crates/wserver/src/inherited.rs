//! Listening sockets that systemd, or another program that starts this one, has bound before.
//!
//! They replace the addresses of the settings. The other program keeps them bound, so that
//! connections wait in the kernel while this program restarts, and none is refused.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use wserver_warp::ServerBuilder;

/// The name of the socket for everything, or for browsers if there is a private socket.
const PUBLIC: &str = "wserver";
/// The name of the socket for pushes.
const PRIVATE: &str = "private";

/// The listening sockets that the process inherited.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    public: Option<TcpListener>,
    private: Option<Private>,
}

#[derive(Debug)]
enum Private {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Inherited {
    /// Takes over the sockets that `LISTEN_FDS` and `LISTEN_FDNAMES` name (`sd_listen_fds(3)`).
    /// Call it once, before there is another thread.
    ///
    /// # Errors
    /// A socket with another name, the same name twice, or a socket that does not listen or is of
    /// another kind.
    pub(crate) fn take() -> Result<Self, String> {
        let names = env::var("LISTEN_FDNAMES").ok();
        let mut sockets = ListenFd::from_env();
        let mut names: Vec<&str> = names.iter().flat_map(|names| names.split(':')).collect();
        if names.is_empty() && sockets.len() == 1 {
            names.push(PUBLIC);
        }
        let mut inherited = Self::default();
        for at in 0..sockets.len() {
            let name = names.get(at).copied().unwrap_or_default();
            let taken = match name {
                PUBLIC => {
                    sockets.take_tcp_listener(at).map(|it| replaced(&mut inherited.public, it))
                }
                PRIVATE => private(&mut sockets, at).map(|it| replaced(&mut inherited.private, it)),
                _ => {
                    return Err(format!(
                        "the inherited socket {name:?} must be called {PUBLIC} or {PRIVATE} \
                         (FileDescriptorName=)"
                    ));
                }
            };
            match taken {
                Ok(false) => {}
                Ok(true) => return Err(format!("two inherited sockets are called {name}")),
                Err(error) => {
                    return Err(format!("the inherited socket {name} cannot be used: {error}"));
                }
            }
        }
        Ok(inherited)
    }

    /// Whether there is a separate socket for pushes.
    pub(crate) fn has_private(&self) -> bool {
        self.private.is_some()
    }

    /// The address of the private socket, in the form of the setting.
    pub(crate) fn private_address(&self) -> Option<String> {
        match self.private.as_ref()? {
            Private::Tcp(listener) => {
                listener.local_addr().ok().as_ref().map(SocketAddr::to_string)
            }
            Private::Unix(listener) => {
                let address = listener.local_addr().ok()?;
                Some(format!("unix:{}", address.as_pathname()?.display()))
            }
        }
    }

    /// Makes the server listen on copies of the sockets, because a reload does this again.
    ///
    /// # Errors
    /// When there is no descriptor left for a copy.
    pub(crate) fn offer(&self, mut builder: ServerBuilder) -> io::Result<ServerBuilder> {
        if let Some(listener) = &self.public {
            builder = builder.listener(listener.try_clone()?);
        }
        Ok(match &self.private {
            None => builder,
            Some(Private::Tcp(listener)) => builder.private_listener(listener.try_clone()?),
            Some(Private::Unix(listener)) => builder.private_unix_listener(listener.try_clone()?),
        })
    }
}

fn private(sockets: &mut ListenFd, at: usize) -> io::Result<Option<Private>> {
    match sockets.take_unix_listener(at) {
        Ok(listener) => Ok(listener.map(Private::Unix)),
        Err(_no_unix_socket) => Ok(sockets.take_tcp_listener(at)?.map(Private::Tcp)),
    }
}

/// Stores `listener` in `place`; returns whether `place` was occupied.
fn replaced<T>(place: &mut Option<T>, listener: Option<T>) -> bool {
    std::mem::replace(place, listener).is_some()
}
