//! What a request is answered: successes, and refusals in the one table of `refused`.

pub mod negotiate;
pub(crate) mod refused;
pub(crate) mod told;

use std::fmt;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use wserver_protocol::receipt;

/// An answer in one piece.
pub type Reply = Response<Bytes>;

/// The body of an answer.
pub enum ReplyBody {
    /// In one piece.
    Whole(Bytes),
    /// One piece after the other, without an end of its own.
    Stream(BoxStream<'static, Bytes>),
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => f.debug_tuple("Whole").field(&bytes.len()).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// How a refusal is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As version 1 has it.
    Text,
    /// As the HTTP API has it.
    Json,
}

/// The success of a push, as version 1 has it.
pub(crate) fn sent(count: usize) -> Reply {
    told::text(StatusCode::OK, receipt::sent(count))
}

/// Which nodes of a cluster did not answer, so that more may have got it than the count says.
const NODES_MISSING: HeaderName = HeaderName::from_static("wserver-nodes-missing");

/// Adds to a success of version 1 which nodes of the cluster are not in its count.
pub(crate) fn add_missing(reply: &mut Reply, nodes: &[String]) {
    // Names are visible ASCII; should one not be, that something is missing is told all the same.
    let names = HeaderValue::from_str(&nodes.join(", "));
    let names = names.unwrap_or(HeaderValue::from_static("unknown"));
    reply.headers_mut().insert(NODES_MISSING, names);
}

/// Says that the answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Adds to a success that it was given before.
pub(crate) fn add_replayed(reply: &mut Reply) {
    reply.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}

/// A success of the HTTP API.
pub(crate) fn json(answer: String) -> Reply {
    told::json(StatusCode::OK, "application/json", answer)
}
