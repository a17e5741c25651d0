//! The replies to requests: successes, and the refusals of the one table in `refused`.

pub(crate) mod negotiate;
pub(crate) mod kind;
pub(crate) mod refused;
pub(crate) mod details;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use wserver_protocol::receipt;

/// A complete reply.
pub type Reply = Response<Bytes>;

/// The parts of an endless body.
pub type ReplyStream = Pin<Box<dyn Stream<Item = Bytes> + Send + Sync>>;

/// The body of a reply.
pub enum ReplyBody {
    /// Complete.
    Whole(Bytes),
    /// Endless, part by part.
    Stream(ReplyStream),
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => f.debug_tuple("Whole").field(&bytes.len()).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// The format of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// That of version 1.
    Text,
    /// That of the HTTP API.
    Json,
}

/// The success of a push in version 1.
pub(crate) fn sent(count: usize) -> Reply {
    text(StatusCode::OK, receipt::sent(count))
}

/// The nodes of a cluster that did not answer, so that more connections may have got the message
/// than the count says.
const NODES_MISSING: HeaderName = HeaderName::from_static("wserver-nodes-missing");

/// Adds to a success of version 1 the nodes that its count leaves out.
pub(crate) fn add_missing(reply: &mut Reply, nodes: &[String]) {
    // Names are visible ASCII. If one is not, the header still says that a node is missing.
    let names = HeaderValue::from_str(&nodes.join(", "));
    let names = names.unwrap_or(HeaderValue::from_static("unknown"));
    reply.headers_mut().insert(NODES_MISSING, names);
}

/// Marks a reply as that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Marks a success as that of an earlier request.
pub(crate) fn add_replayed(reply: &mut Reply) {
    reply.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
}

/// A success of the HTTP API.
pub(crate) fn json(answer: String) -> Reply {
    json_as(StatusCode::OK, "application/json", answer)
}

/// Made once, because each construction checks the value byte by byte.
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A reply with text.
pub(crate) fn text(status: StatusCode, body: impl Into<Cow<'static, str>>) -> Reply {
    let body = match body.into() {
        Cow::Borrowed(body) => Bytes::from_static(body.as_bytes()),
        Cow::Owned(body) => body.into(),
    };
    typed(status, PLAIN_TEXT, body)
}

/// A reply with JSON of this content type.
pub(crate) fn json_as(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    typed(status, HeaderValue::from_static(content_type), body.into())
}

fn typed(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}
