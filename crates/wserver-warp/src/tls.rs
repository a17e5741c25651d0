//! TLS by rustls: versions 1.2 and 1.3, rustls' choice of suites, only `http/1.1` by ALPN.

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
