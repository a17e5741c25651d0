//! HTTP requests to one configured server: to issuers and backends, and from the tools.
//!
//! * [`Target`] is a parsed URL, with how to secure a connection to it.
//! * [`Pool`] sends requests to the target, over connections that it keeps for the next request.
//! * [`Line`] is one of these connections, for callers that connect step by step.
//!
//! It promises every caller:
//!
//! * **No task.** The call that uses a connection drives it; between two calls it sleeps. Dropping
//!   the call closes its connection, dropping the pool closes all of them, and a shutdown has
//!   nothing to wait for.
//! * **Limits on everything:** the time to connect and the time of the whole call, the head and the
//!   body of the answer, and the number of kept connections.
//! * **No redirects:** a redirect is an answer like any other, and proxies in the environment are
//!   not used.
//! * **Nothing is sent twice** unless the caller allows it; see [`Pool::repeating`].
//! * **No missing TLS:** if the URL asks for TLS, the crate does not connect before
//!   [`Target::with_tls`] says which authorities to trust. It always checks the host's name.
//!
//! This crate knows neither retries, signatures nor what an answer means.
//!
//! It stands on hyper's connection, not on hyper-util's pooling client, which spawns a task for each
//! connection. With that client, a call that timed out while it sent 8 MiB to a server that does not
//! read left its task and its socket behind for as long as the server lived, even after the client
//! was dropped: neither a timeout nor a shutdown ended them.

mod stream;
mod target;

mod line;
mod pool;

pub use line::{Body, Incoming, Line, LineError};
pub use pool::{AskError, Pool};
pub use stream::{Io, Stream};
pub use target::{DialError, Target, TargetError};

/// The cause of an error, from the library that saw it.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;
