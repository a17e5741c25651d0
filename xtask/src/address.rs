//! Free addresses for programs that need to be told where to listen.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// An address where nothing listens, reserved as long as this process lives: the system gives it to
/// no other program, and a program that knows it can listen there repeatedly.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    // If a program asks for any port, Linux never picks that of a socket that is bound and does not
    // listen. A server that names this port gets it, because servers set SO_REUSEADDR.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Another program once took Caddy's port between the search for a free port and its use.
    #[test]
    fn a_free_address_is_given_to_nobody_by_chance() {
        let (address, other) = (free_address().unwrap(), free_address().unwrap());
        assert_ne!(address, other);
        for _ in 0..2 {
            // The kernel makes the same check before it picks a port.
            let chance = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            assert_eq!(chance.bind(&address.into()).unwrap_err().kind(), ErrorKind::AddrInUse);
            let nobody = TcpStream::connect(address).unwrap_err();
            assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused);
            // std sets SO_REUSEADDR, as servers do.
            let server = TcpListener::bind(address).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            server.accept().unwrap();
        }
    }
}
