//! The one table from what happened to what the peer is told: HTTP replies and close codes.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use wserver_core::CloseReason;
use wserver_node::RegisterError;
use wserver_protocol::v2::BodyError;
use wserver_protocol::{CloseCode, JsonError, PushError, frame, receipt, reconnect_reason};

use crate::edge::Elsewhere;
use crate::told::{self, Told};

pub(crate) type Reply = Response<Bytes>;

/// How a refusal is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// As version 1 has it.
    Text,
    /// As the HTTP API has it.
    Json,
}

/// Why a request was not served. [`Refused::told`] is its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Method {
        allow: &'static str,
    },
    /// Where the body ends could be read in two ways (RFC 9112, section 6.1).
    AmbiguousLength,
    /// The host that is asked for is missing, or is none.
    Host {
        why: &'static str,
    },
    /// The body is compressed, or coded otherwise.
    ContentCoding {
        /// How, escaped and cut.
        coding: String,
    },
    Unauthorized {
        why: &'static str,
    },
    AuthorizerUnavailable,
    /// The publisher pushes more often than its key allows.
    PushRate {
        wait: Duration,
    },
    /// An unauthenticated push that a web page or a proxy may have sent.
    OpenPush {
        why: &'static str,
    },
    /// What only publishers may ask for, asked where browsers connect: without a key it is not there.
    PushElsewhere(Elsewhere),
    /// The publisher's scope does not reach so far.
    Forbidden {
        field: Cow<'static, str>,
        why: &'static str,
    },
    /// The publisher may push, and no more.
    NotAdmin,
    /// Something about administration without a key that did not come from a program on this machine.
    OpenAdmin {
        why: &'static str,
    },
    /// The body of version 1.
    Push(PushError),
    /// A body of the HTTP API.
    Body(BodyError),
    /// What stands in the path, the query or a header.
    Parameter {
        name: &'static str,
        problem: &'static str,
    },
    /// A list longer than one request may have.
    TooMany {
        field: &'static str,
        items: usize,
        max: usize,
    },
    /// Pushes to more users, over all pushes of a request, than one request may have.
    TooManyInAll {
        max: usize,
    },
    /// More pushes in one request than the publisher may ever make at once.
    BeyondBurst {
        burst: u32,
    },
    NameTooLong {
        field: Cow<'static, str>,
        bytes: usize,
        bytes_max: usize,
    },
    MessageTooLarge {
        bytes: usize,
        bytes_max: usize,
    },
    BodyTooLarge {
        bytes_max: usize,
    },
    BodyTimeout {
        seconds: u64,
    },
    BodyBroken,
    Busy {
        why: &'static str,
        setting: Option<&'static str>,
    },
    /// The same `Idempotency-Key` is under way.
    KeyInUse,
    /// The same `Idempotency-Key` came with another request.
    KeyReused,
    ConnectionUnknown,
    /// What was asked for belongs to a node of the cluster that does not answer.
    NodeMissing {
        node: String,
    },
    /// A registration that an operator asked for.
    Registration(RegisterError),
    TracesFull {
        max: usize,
    },
    /// The page that asks is not among the allowed ones.
    Origin {
        /// What it says it is, escaped and cut.
        origin: String,
    },
    Upgrade {
        why: &'static str,
    },
    UpgradeVersion,
    /// The token of a handshake.
    TokenTooLong {
        bytes: usize,
        bytes_max: usize,
    },
    Full {
        max: usize,
    },
    AddressFull {
        max: usize,
    },
    /// More handshakes from one address than it may make.
    HandshakeRate {
        per_second: u32,
        /// Until there may be another, at least 1.
        seconds: u64,
    },
    Draining,
    /// The others count on this node's having no connections.
    CutOff,
    Failed,
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

/// The reply for what went wrong, as version 1 has it.
pub(crate) fn reply(refused: &Refused) -> Reply {
    refused.told().reply(Format::Text)
}

impl Refused {
    /// What the peer is told of it.
    pub(crate) fn told(&self) -> Told {
        use StatusCode as Status;
        match self {
            Self::NotFound => {
                Told::new(Status::NOT_FOUND, "not_found", "not found", "no such path")
            }
            Self::Method { allow } => Told::new(
                Status::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "method not allowed",
                "the method is not allowed here, see Allow",
            )
            .allow(allow),
            Self::AmbiguousLength => Told::new(
                Status::BAD_REQUEST,
                "length_ambiguous",
                "bad request",
                "content-length may come once, or transfer-encoding: chunked once, and not both",
            )
            .closing(),
            Self::Host { why } => {
                Told::new(Status::BAD_REQUEST, "host_invalid", "bad request", *why).closing()
            }
            Self::ContentCoding { coding } => Told::new(
                Status::UNSUPPORTED_MEDIA_TYPE,
                "content_coding",
                "content coding not supported",
                format!("the body is coded as {coding}, and must be sent as it is: without Content-Encoding"),
            )
            .field("Content-Encoding"),
            Self::Unauthorized { why } => {
                Told::new(Status::UNAUTHORIZED, "unauthorized", "unauthorized", *why).closing()
            }
            Self::AuthorizerUnavailable => Told::new(
                Status::SERVICE_UNAVAILABLE,
                "authorizer_unavailable",
                "authoriser unavailable",
                "the push authoriser is unavailable",
            )
            .retry(1),
            // Its body is unread: only closing spares reading it.
            Self::PushRate { wait } => Told::new(
                Status::TOO_MANY_REQUESTS,
                "push_rate",
                "too many pushes",
                "this push key has reached its pushes_per_second",
            )
            .setting("publisher.pushes_per_second")
            // A second too late is better than a moment too early.
            .retry(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            .closing(),
            Self::OpenPush { why } => Told::new(
                Status::FORBIDDEN,
                "push_needs_key",
                "push without a key is only for programs on this machine",
                format!("{why}; set a push key, or allow_open_push if this is meant"),
            )
            .setting("push_key_file")
            .closing(),
            Self::PushElsewhere(elsewhere) => {
                let place = match elsewhere {
                    Elsewhere::At(url) => format!("on this machine they are taken at {url}"),
                    Elsewhere::Nowhere => "in the program itself its handle pushes".to_owned(),
                };
                Told::new(
                    Status::FORBIDDEN,
                    "push_needs_key",
                    "pushes without a key are not taken at this address",
                    format!(
                        "{place}; to take them here set push_key_file, or allow_open_push if everyone \
                         who reaches this address may push"
                    ),
                )
                .setting("push_key_file")
                .closing()
            }
            Self::Forbidden { field, why } => {
                Told::new(Status::FORBIDDEN, "out_of_scope", "forbidden", *why)
                    .field(&**field)
                    .setting("publisher")
            }
            Self::NotAdmin => Told::new(
                Status::FORBIDDEN,
                "not_admin",
                "forbidden",
                "this push key may not administer the server: its publisher needs admin = true",
            )
            .setting("publisher.admin")
            .closing(),
            Self::OpenAdmin { why } => Told::new(
                Status::FORBIDDEN,
                "admin_needs_key",
                "administration without a key is only for programs on this machine",
                format!("{why}; set a publisher with admin = true and present its key"),
            )
            .setting("publisher.admin")
            .closing(),
            Self::Push(error) => {
                let told = illegal("body_invalid", error.to_string());
                match error {
                    PushError::Empty { field }
                    | PushError::Json(JsonError::NotAString { field }) => told.field(*field),
                    _ => told,
                }
            }
            Self::Body(error) => {
                let told = illegal("body_invalid", error.to_string());
                match &error.field {
                    Some(field) => told.field(field),
                    None => told,
                }
            }
            Self::Parameter { name, problem } => Told::new(
                Status::BAD_REQUEST,
                "parameter_invalid",
                // As every 400 of version 1 has it, whose path takes a header too.
                "request data illegal",
                format!("{name} {problem}"),
            )
            .field(*name),
            Self::TooMany { field, items, max } => Told::new(
                Status::BAD_REQUEST,
                "too_many_items",
                "too many items",
                format!("{field} has {items} items, the limit batch_pushes_max is {max}"),
            )
            .field(*field)
            .limit("batch_pushes_max", *max),
            Self::TooManyInAll { max } => Told::new(
                Status::BAD_REQUEST,
                "too_many_items",
                "too many items",
                format!(
                    "pushes have more than {max} users in all, the limit batch_pushes_max is {max}"
                ),
            )
            .field("pushes")
            .limit("batch_pushes_max", *max),
            Self::BeyondBurst { burst } => Told::new(
                Status::BAD_REQUEST,
                "too_many_items",
                "too many items",
                format!(
                    "the request is more pushes than this push key may make at once, \
                     publisher.burst is {burst}"
                ),
            )
            .limit("publisher.burst", usize::try_from(*burst).unwrap_or(usize::MAX)),
            Self::NameTooLong { field, bytes, bytes_max } => illegal(
                "name_too_long",
                format!("{field} is {bytes} bytes long, the limit name_bytes_max is {bytes_max}"),
            )
            .field(&**field)
            .limit("name_bytes_max", *bytes_max),
            Self::MessageTooLarge { bytes, bytes_max } => Told::new(
                Status::PAYLOAD_TOO_LARGE,
                "message_too_large",
                "message too large",
                format!(
                    "message is {bytes} bytes long, the limit message_bytes_max is {bytes_max}"
                ),
            )
            .field("message")
            .limit("message_bytes_max", *bytes_max),
            Self::BodyTooLarge { bytes_max } => Told::new(
                Status::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "body too large",
                format!("the body is longer than the limit push_body_bytes_max, {bytes_max}"),
            )
            .limit("push_body_bytes_max", *bytes_max)
            .closing(),
            Self::BodyTimeout { seconds } => Told::new(
                Status::REQUEST_TIMEOUT,
                "body_too_slow",
                "body too slow",
                format!("the body took longer than the limit push_body_timeout, {seconds} s"),
            )
            .setting("push_body_timeout")
            .closing(),
            Self::BodyBroken => illegal("body_broken", "the body broke off").closing(),
            Self::Busy { why, setting } => {
                let told = Told::new(Status::SERVICE_UNAVAILABLE, "busy", "busy", *why);
                match setting {
                    Some(setting) => told.setting(setting),
                    None => told,
                }
                .retry(1)
                .closing()
            }
            Self::KeyInUse => Told::new(
                Status::CONFLICT,
                "idempotency_key_in_use",
                "the same request is under way",
                "a request with this Idempotency-Key is under way",
            )
            .field("Idempotency-Key")
            .retry(1),
            Self::KeyReused => Told::new(
                Status::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "the Idempotency-Key was used for another request",
                "a request with this Idempotency-Key and another path or body was answered already",
            )
            .field("Idempotency-Key"),
            Self::ConnectionUnknown => Told::new(
                Status::NOT_FOUND,
                "connection_unknown",
                "no such connection",
                "no live connection has this id",
            )
            .field("id"),
            Self::NodeMissing { node } => Told::new(
                Status::SERVICE_UNAVAILABLE,
                "node_missing",
                "a node of the cluster does not answer",
                format!("no answer of {node} within cluster_answer_timeout"),
            )
            .setting("cluster_answer_timeout")
            .retry(1),
            Self::Registration(error) => {
                let told = Told::new(
                    Status::CONFLICT,
                    "registration_refused",
                    "registration refused",
                    error.to_string(),
                );
                match error {
                    RegisterError::TooMany { max } => {
                        told.limit("bindings_per_connection_max", *max)
                    }
                    RegisterError::UserFull { max } => told.limit("connections_per_user_max", *max),
                    RegisterError::NamesTooLong { max } => {
                        told.limit("names_per_connection_bytes_max", *max)
                    }
                    RegisterError::NamesFull { max } => told.limit("names_bytes_max", *max),
                    _ => told,
                }
            }
            Self::TracesFull { max } => Told::new(
                Status::SERVICE_UNAVAILABLE,
                "traces_full",
                "too many traces",
                format!("traces_max is {max}"),
            )
            .limit("traces_max", *max)
            .retry(5),
            Self::Origin { origin } => Told::new(
                Status::FORBIDDEN,
                "origin_not_allowed",
                "origin not allowed",
                format!(
                    "the Origin \"{origin}\" is not among those that the setting origin allows"
                ),
            )
            .setting("origin")
            .closing(),
            Self::Upgrade { why } => {
                Told::new(Status::BAD_REQUEST, "not_a_handshake", "not a WebSocket handshake", *why)
                    .closing()
            }
            Self::UpgradeVersion => Told::new(
                Status::UPGRADE_REQUIRED,
                "websocket_version",
                "WebSocket version not supported",
                "Sec-WebSocket-Version must be 13",
            ),
            Self::TokenTooLong { bytes, bytes_max } => Told::new(
                Status::BAD_REQUEST,
                "token_too_long",
                "token too long",
                format!("the token is {bytes} bytes long, the limit name_bytes_max is {bytes_max}"),
            )
            .limit("name_bytes_max", *bytes_max)
            .closing(),
            Self::Full { max } => Told::new(
                Status::SERVICE_UNAVAILABLE,
                "connections_full",
                "too many connections",
                format!("connections_max is {max}"),
            )
            .limit("connections_max", *max)
            .retry(5)
            .closing(),
            Self::AddressFull { max } => Told::new(
                Status::TOO_MANY_REQUESTS,
                "address_full",
                "too many connections from this address",
                format!("connections_per_address_max is {max}"),
            )
            .limit("connections_per_address_max", *max)
            .retry(5)
            .closing(),
            Self::HandshakeRate { per_second, seconds } => Told::new(
                Status::TOO_MANY_REQUESTS,
                "handshake_rate",
                "too many handshakes from this address",
                format!("handshakes_per_address_per_second is {per_second}"),
            )
            .limit("handshakes_per_address_per_second", *per_second as usize)
            .retry(*seconds)
            .closing(),
            Self::Draining => Told::new(
                Status::SERVICE_UNAVAILABLE,
                "draining",
                "shutting down",
                "the server is shutting down",
            )
            .retry(1)
            .closing(),
            Self::CutOff => Told::new(
                Status::SERVICE_UNAVAILABLE,
                "cut_off",
                "cut off from the cluster",
                "the server has been cut off from its cluster for cluster_cut_off_max, and takes \
                 nobody in until it is back",
            )
            .retry(5)
            .closing(),
            Self::Failed => Told::new(
                Status::INTERNAL_SERVER_ERROR,
                "internal",
                "internal error",
                "the server failed, and its log says more",
            ),
        }
    }
}

/// The 400 whose body version 1 has promised.
fn illegal(name: &'static str, why: impl Into<Cow<'static, str>>) -> Told {
    Told::new(StatusCode::BAD_REQUEST, name, receipt::REQUEST_ILLEGAL, why)
}

/// What is written to a connection that comes when no more can be served, before it is closed.
pub(crate) const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\nwserver-error: http_connections_max is reached\r\ncontent-length: 4\r\n\r\nbusy";

/// What is written to a connection of an address that has as many as it may, before it is closed.
pub(crate) const ADDRESS_FULL: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\n\
wserver-error: http_connections_per_address_max is reached\r\ncontent-length: 38\r\n\r\n\
too many connections from this address";

/// What is written to a client that speaks plain HTTP where TLS is spoken, before it is closed.
#[cfg(feature = "tls")]
pub(crate) const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\nwserver-error: plain HTTP was sent to a port of TLS\r\n\
content-length: 56\r\n\r\nthis port speaks TLS: use https:// or wss:// to reach it";

/// The longest time after which a client is asked to come back when the server shuts down, in
/// seconds; the shortest is 1. Together with the time over which clients are told it is what keeps
/// them from coming back at once.
const RECONNECT_SECONDS_MAX: u32 = 5;

/// The Close frames of a shutdown, of which each client gets one.
pub(crate) fn goodbyes(code: CloseCode) -> Vec<Bytes> {
    reconnecting(code, GOODBYE)
}

/// The same of a server that its cluster does not reach.
pub(crate) fn goodbyes_of_cut_off(code: CloseCode) -> Vec<Bytes> {
    reconnecting(code, CUT_OFF)
}

fn reconnecting(code: CloseCode, why: &str) -> Vec<Bytes> {
    (1..=RECONNECT_SECONDS_MAX)
        .map(|seconds| frame::close(code, &reconnect_reason(why, seconds)))
        .collect()
}

const GOODBYE: &str = "server is shutting down";
const CUT_OFF: &str = "server is cut off from its cluster";

/// The Close frame that tells a peer `reason`, if there is anything to tell.
pub(crate) fn close_frame(reason: CloseReason) -> Option<Bytes> {
    close_code(reason).map(|(code, text)| frame::close(code, text))
}

/// The code and the words that the server chooses for `reason`, if it is the one who chooses.
pub(crate) fn close_code(reason: CloseReason) -> Option<(CloseCode, &'static str)> {
    Some(match reason {
        // The answer to a Close carries its own code; who is gone gets none.
        CloseReason::PeerClosed | CloseReason::PeerGone => return None,
        CloseReason::Silent => (CloseCode::POLICY, "no pong in time"),
        CloseReason::NotRegistered => (CloseCode::POLICY, "nothing registered in time"),
        CloseReason::Flood => (CloseCode::POLICY, "too many messages"),
        CloseReason::ProtocolError => (CloseCode::PROTOCOL, "protocol error"),
        CloseReason::InvalidPayload => (CloseCode::INVALID_PAYLOAD, "text is not UTF-8"),
        CloseReason::TooBig => (CloseCode::TOO_BIG, "message too big"),
        CloseReason::InboundFull => (CloseCode::TRY_AGAIN_LATER, "too many messages are half read"),
        CloseReason::Slow => (CloseCode::TRY_AGAIN_LATER, "reading too slowly"),
        CloseReason::Disconnected => (CloseCode::NORMAL, "disconnected by the server"),
        CloseReason::Expired => (CloseCode::POLICY, "token expired"),
        CloseReason::UserFull => (CloseCode::POLICY, "too many connections of this user"),
        CloseReason::Replaced => (CloseCode::POLICY, "replaced by a newer connection of this user"),
        CloseReason::Shutdown => (CloseCode::GOING_AWAY, GOODBYE),
        CloseReason::CutOff => (CloseCode::GOING_AWAY, CUT_OFF),
        CloseReason::Internal => (CloseCode::INTERNAL, "internal error"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the HTTP API may answer is described by its name and its status.
    #[test]
    fn problems_are_described() {
        let guide = include_str!("../../../docs/http-api.md");
        for refused in [
            Refused::NotFound,
            Refused::Method { allow: "GET" },
            Refused::ContentCoding { coding: String::new() },
            Refused::Unauthorized { why: "" },
            Refused::AuthorizerUnavailable,
            Refused::PushRate { wait: Duration::from_millis(1) },
            Refused::OpenPush { why: "" },
            Refused::OpenAdmin { why: "" },
            Refused::PushElsewhere(Elsewhere::Nowhere),
            Refused::Forbidden { field: "user".into(), why: "" },
            Refused::NotAdmin,
            Refused::Push(PushError::Empty { field: "userId" }),
            Refused::Body(BodyError::new("user", "is empty")),
            Refused::Parameter { name: "user", problem: "is missing" },
            Refused::TooMany { field: "users", items: 2, max: 1 },
            Refused::NameTooLong { field: "user".into(), bytes: 2, bytes_max: 1 },
            Refused::MessageTooLarge { bytes: 2, bytes_max: 1 },
            Refused::BodyTooLarge { bytes_max: 1 },
            Refused::BodyTimeout { seconds: 1 },
            Refused::BodyBroken,
            Refused::Busy { why: "", setting: None },
            Refused::KeyInUse,
            Refused::KeyReused,
            Refused::ConnectionUnknown,
            Refused::Registration(RegisterError::TooMany { max: 1 }),
            Refused::TracesFull { max: 1 },
            Refused::Draining,
            Refused::CutOff,
            Refused::Failed,
        ] {
            let problem = refused.told().problem();
            let line = guide.lines().find(|line| {
                line.starts_with(&format!("| {} |", problem.status))
                    && line.contains(&format!("`{}`", problem.name()))
            });
            assert!(line.is_some(), "{} {} is not in the guide", problem.status, problem.name());
        }
    }
}
