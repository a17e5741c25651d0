//! TLS by rustls: TLS 1.2 and 1.3, its own choice of suites, `http/1.1` and nothing else by ALPN.

pub(crate) mod settings;
mod load;
mod listener;
mod socket;

pub(crate) use listener::{Tls, reload, watch};
pub(crate) use settings::{PRIVATE, PUBLIC, TlsSettings};
pub(crate) use socket::{TlsSocket, TlsStream};
