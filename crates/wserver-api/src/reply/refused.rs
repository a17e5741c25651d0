//! The one table from each refusal to what the client is told.

use std::borrow::Cow;
use std::time::Duration;

use wserver_core::{LimitSettings, setting_name};
use wserver_node::{RegisterError, TraceError};
use wserver_protocol::v2::BodyError;
use wserver_protocol::{JsonError, PushError, receipt};

use crate::limits::HttpLimitSettings;

use super::details::ProblemDetails;
use super::kind::ProblemKind as Kind;

/// Where pushes without a key are accepted instead of at the address where browsers connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// At this URL, which only this machine can reach.
    At(String),
    /// Nowhere; only the program's handle pushes.
    Nowhere,
}

/// Why a request was not served. [`Refused::details`] is its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Method {
        allow: &'static str,
    },
    /// The body has a content coding, such as compression.
    ContentCoding {
        /// Its name, escaped and cut.
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
    /// A push without a key that a web page or a proxy may have sent.
    OpenPush {
        why: &'static str,
    },
    /// A request that only publishers may make, at an address where browsers connect: without a key
    /// it is served elsewhere.
    PushElsewhere(Elsewhere),
    /// The publisher's scope does not include this.
    Forbidden {
        field: Cow<'static, str>,
        why: &'static str,
    },
    /// The publisher may push but not administer.
    NotAdmin,
    /// A request of an administrator without a key that did not come from a program on this
    /// machine.
    OpenAdmin {
        why: &'static str,
    },
    /// The body of a push of version 1 is not valid.
    Push(PushError),
    /// A body of the HTTP API is not valid.
    Body(BodyError),
    /// A part of the path, the query or a header is not valid.
    Parameter {
        name: &'static str,
        problem: &'static str,
    },
    /// A list is longer than a request may have.
    TooMany {
        field: &'static str,
        items: usize,
        max: usize,
    },
    /// The pushes of a request name more users in total than a request may.
    TooManyInAll {
        max: usize,
    },
    /// A push would wait for acknowledgements of more connections than a request may.
    TooManyToWaitFor {
        connections: usize,
        max: usize,
    },
    /// A request has more pushes than the publisher may ever make at once.
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
    /// A request with the same `Idempotency-Key` is under way.
    KeyInUse,
    /// The same `Idempotency-Key` was used for another request.
    KeyReused,
    ConnectionUnknown,
    /// A node of the cluster that is needed for the answer does not answer.
    NodeMissing {
        node: String,
    },
    /// The registration that an operator asked for was refused.
    Registration(RegisterError),
    TracesFull {
        max: usize,
    },
    /// No event is kept for replay.
    ReplayOff,
    /// There is no room to keep the messages of another user.
    ReplayFull {
        max: usize,
    },
    Draining,
    Failed,
}

impl Refused {
    /// Why the trace did not begin.
    pub(crate) fn of_trace(error: TraceError) -> Self {
        match error {
            TraceError::TooMany { max } => Self::TracesFull { max },
            _ => Self::Draining,
        }
    }

    /// What the client is told.
    pub(crate) fn details(&self) -> ProblemDetails {
        match self {
            Self::NotFound => {
                ProblemDetails::new(Kind::NotFound, "not found", "no such path")
            }
            Self::Method { allow } => ProblemDetails::new(
                Kind::MethodNotAllowed,
                "method not allowed",
                "this path does not accept the method; the Allow header lists those it accepts",
            )
            .allow(allow),
            Self::ContentCoding { coding } => ProblemDetails::new(
                Kind::ContentCoding,
                "content coding not supported",
                format!("the body has Content-Encoding {coding}; send it without a Content-Encoding"),
            )
            .field("Content-Encoding"),
            Self::Unauthorized { why } => {
                ProblemDetails::new(Kind::Unauthorized, "unauthorized", *why).closing()
            }
            Self::AuthorizerUnavailable => ProblemDetails::new(
                Kind::AuthorizerUnavailable,
                "authoriser unavailable",
                "the push authoriser is unavailable",
            )
            .retry(1),
            // The body is unread, so the connection closes instead of reading it.
            Self::PushRate { wait } => ProblemDetails::new(
                Kind::PushRate,
                "too many pushes",
                "this push key has reached its pushes_per_second",
            )
            .setting("publisher.pushes_per_second")
            // Rounded up, so that the client does not come back too early.
            .retry(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            .closing(),
            Self::OpenPush { why } => ProblemDetails::new(
                Kind::PushNeedsKey,
                "push without a key is only for programs on this machine",
                format!("{why}; set a push key, or allow_open_push if this is meant"),
            )
            .setting("push_key_file")
            .closing(),
            Self::PushElsewhere(elsewhere) => {
                let place = match elsewhere {
                    Elsewhere::At(url) => format!("programs on this machine push at {url}"),
                    Elsewhere::Nowhere => "the program itself pushes by its handle".to_owned(),
                };
                ProblemDetails::new(
                    Kind::PushNeedsKey,
                    "this address accepts no pushes without a key",
                    format!(
                        "{place}; to accept pushes here, set push_key_file, or allow_open_push if everyone who reaches this address may push"
                    ),
                )
                .setting("push_key_file")
                .closing()
            }
            Self::Forbidden { field, why } => {
                ProblemDetails::new(Kind::OutOfScope, "forbidden", *why)
                    .field(&**field)
                    .setting("publisher")
            }
            Self::NotAdmin => ProblemDetails::new(
                Kind::NotAdmin,
                "forbidden",
                "this push key may not administer the server: its publisher needs admin = true",
            )
            .setting("publisher.admin")
            .closing(),
            Self::OpenAdmin { why } => ProblemDetails::new(
                Kind::AdminNeedsKey,
                "administration without a key is only for programs on this machine",
                format!("{why}; set a publisher with admin = true and present its key"),
            )
            .setting("publisher.admin")
            .closing(),
            Self::Push(error) => {
                let details = illegal(Kind::BodyInvalid, error.to_string());
                match error {
                    PushError::Empty { field }
                    | PushError::Json(JsonError::NotAString { field }) => details.field(*field),
                    _ => details,
                }
            }
            Self::Body(error) => {
                let details = illegal(Kind::BodyInvalid, error.to_string());
                match &error.field {
                    Some(field) => details.field(field),
                    None => details,
                }
            }
            Self::Parameter { name, problem } => ProblemDetails::new(
                Kind::ParameterInvalid,
                // The title of every 400 in version 1, whose path also takes a header.
                "request data illegal",
                format!("{name} {problem}"),
            )
            .field(*name),
            Self::TooMany { field, items, max } => ProblemDetails::new(
                Kind::TooManyItems,
                "too many items",
                format!("{field} has {items} items, the limit batch_pushes_max is {max}"),
            )
            .field(*field)
            .limit(setting_name!(HttpLimitSettings, batch_pushes_max), *max),
            Self::TooManyInAll { max } => ProblemDetails::new(
                Kind::TooManyItems,
                "too many items",
                format!(
                    "the pushes name more than {max} users in total, the limit batch_pushes_max"
                ),
            )
            .field("pushes")
            .limit(setting_name!(HttpLimitSettings, batch_pushes_max), *max),
            Self::TooManyToWaitFor { connections, max } => ProblemDetails::new(
                Kind::TooManyItems,
                "too many items",
                format!(
                    "the request would wait for {connections} connections, the limit wait_connections_max is {max}"
                ),
            )
            .field("wait")
            .limit(setting_name!(LimitSettings, wait_connections_max), *max),
            Self::BeyondBurst { burst } => ProblemDetails::new(
                Kind::TooManyItems,
                "too many items",
                format!(
                    "the request has more pushes than this push key may make at once: publisher.burst is {burst}"
                ),
            )
            .limit("publisher.burst", usize::try_from(*burst).unwrap_or(usize::MAX)),
            Self::NameTooLong { field, bytes, bytes_max } => illegal(
                Kind::NameTooLong,
                format!("{field} is {bytes} bytes long, the limit name_bytes_max is {bytes_max}"),
            )
            .field(&**field)
            .limit(setting_name!(LimitSettings, name_bytes_max), *bytes_max),
            Self::MessageTooLarge { bytes, bytes_max } => ProblemDetails::new(
                Kind::MessageTooLarge,
                "message too large",
                format!(
                    "message is {bytes} bytes long, the limit message_bytes_max is {bytes_max}"
                ),
            )
            .field("message")
            .limit(setting_name!(LimitSettings, message_bytes_max), *bytes_max),
            Self::BodyTooLarge { bytes_max } => ProblemDetails::new(
                Kind::BodyTooLarge,
                "body too large",
                format!("the body is longer than {bytes_max} bytes, the limit push_body_bytes_max"),
            )
            .limit(setting_name!(HttpLimitSettings, push_body_bytes_max), *bytes_max)
            .closing(),
            Self::BodyTimeout { seconds } => ProblemDetails::new(
                Kind::BodyTooSlow,
                "body too slow",
                format!("the body took longer than {seconds} s, the limit push_body_timeout"),
            )
            .setting(setting_name!(HttpLimitSettings, push_body_timeout))
            .closing(),
            Self::BodyBroken => illegal(Kind::BodyBroken, "the body ended before it was complete").closing(),
            Self::Busy { why, setting } => {
                let details = ProblemDetails::new(Kind::Busy, "busy", *why);
                match setting {
                    Some(setting) => details.setting(setting),
                    None => details,
                }
                .retry(1)
                .closing()
            }
            Self::KeyInUse => ProblemDetails::new(
                Kind::IdempotencyKeyInUse,
                "the same request is under way",
                "a request with this Idempotency-Key is under way",
            )
            .field("Idempotency-Key")
            .retry(1),
            Self::KeyReused => ProblemDetails::new(
                Kind::IdempotencyKeyReused,
                "the Idempotency-Key was used for another request",
                "this Idempotency-Key was already used for a request with another path or body",
            )
            .field("Idempotency-Key"),
            Self::ConnectionUnknown => ProblemDetails::new(
                Kind::ConnectionUnknown,
                "no such connection",
                "no open connection has this id",
            )
            .field("id"),
            Self::NodeMissing { node } => ProblemDetails::new(
                Kind::NodeMissing,
                "a node of the cluster does not answer",
                format!("{node} did not answer within cluster_answer_timeout"),
            )
            .setting("cluster_answer_timeout")
            .retry(1),
            Self::Registration(error) => {
                let details = ProblemDetails::new(
                    Kind::RegistrationRefused,
                    "registration refused",
                    error.to_string(),
                );
                match error {
                    RegisterError::TooMany { max } => {
                        details.limit(setting_name!(LimitSettings, bindings_per_connection_max), *max)
                    }
                    RegisterError::UserFull { max } => details.limit(setting_name!(LimitSettings, connections_per_user_max), *max),
                    RegisterError::NamesTooLong { max } => {
                        details.limit(setting_name!(LimitSettings, names_per_connection_bytes_max), *max)
                    }
                    RegisterError::NamesFull { max } => details.limit(setting_name!(LimitSettings, names_bytes_max), *max),
                    RegisterError::Ending => details,
                }
            }
            Self::TracesFull { max } => ProblemDetails::new(
                Kind::TracesFull,
                "too many traces",
                format!("{max} traces are already running (traces_max)"),
            )
            .limit(setting_name!(LimitSettings, traces_max), *max)
            .retry(5),
            Self::ReplayOff => ProblemDetails::new(
                Kind::ReplayOff,
                "no messages are kept",
                "this server keeps no messages for replay; name the events in replay",
            )
            .setting(setting_name!(LimitSettings, replay)),
            Self::ReplayFull { max } => ProblemDetails::new(
                Kind::Busy,
                "busy",
                format!("the messages kept for replay have reached replay_bytes_max, which is {max} bytes"),
            )
            .limit(setting_name!(LimitSettings, replay_bytes_max), *max)
            .retry(5),
            Self::Draining => ProblemDetails::new(
                Kind::Draining,
                "shutting down",
                "the server is shutting down",
            )
            .retry(1)
            .closing(),
            Self::Failed => ProblemDetails::new(
                Kind::Internal,
                "internal error",
                "the server failed; see its log",
            ),
        }
    }
}

/// A 400 with the body that version 1 fixes.
fn illegal(kind: Kind, why: impl Into<Cow<'static, str>>) -> ProblemDetails {
    ProblemDetails::new(kind, receipt::REQUEST_ILLEGAL, why)
}
