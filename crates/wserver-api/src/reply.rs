//! What a request is answered: successes, and refusals in the one table of `refused`.

pub(crate) mod negotiate;
pub(crate) mod kind;
pub(crate) mod refused;
pub(crate) mod details;

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use wserver_protocol::receipt;

/// An answer in one piece.
pub type Reply = Response<Bytes>;

/// The parts of a body that has no end of its own.
pub type ReplyStream = Pin<Box<dyn Stream<Item = Bytes> + Send + Sync>>;

/// The body of an answer.
pub enum ReplyBody {
    /// In one piece.
    Whole(Bytes),
    /// One piece after the other, without an end of its own.
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
    text(StatusCode::OK, receipt::sent(count))
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
    json_as(StatusCode::OK, "application/json", answer)
}

/// Made once: a value is checked byte by byte whenever it is made.
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer in text.
pub(crate) fn text(status: StatusCode, body: impl Into<Cow<'static, str>>) -> Reply {
    let body = match body.into() {
        Cow::Borrowed(body) => Bytes::from_static(body.as_bytes()),
        Cow::Owned(body) => body.into(),
    };
    typed(status, PLAIN_TEXT, body)
}

/// An answer in JSON, of this kind.
pub(crate) fn json_as(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    typed(status, HeaderValue::from_static(content_type), body.into())
}

fn typed(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}
