//! TLS by rustls: TLS 1.2 and 1.3, its own choice of suites, `http/1.1` and nothing else by ALPN.

mod settings;
mod load;
mod problem;
mod listener;
mod socket;

pub(crate) use listener::{Tls, reload, watch};
pub use problem::{TlsPart, TlsProblem};
pub use settings::TlsSettings;
pub(crate) use settings::{PRIVATE, PUBLIC};
pub(crate) use socket::{TlsSocket, TlsStream};
