//! The kinds of problems that a request can have: a closed list, with one table for each property.
//!
//! The exact words are those of the part that refuses.

use http::StatusCode;

wserver_core::words! {
    /// A kind of problem: the last part of its type's URI, and the label in counters and in the
    /// journal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ProblemKind {
        /// The path does not allow the method.
        MethodNotAllowed = "method_not_allowed",
        /// A push without a key at an address that requires one.
        PushNeedsKey = "push_needs_key",
        /// The key is missing or not valid.
        Unauthorized = "unauthorized",
        /// The body has a content coding, such as compression.
        ContentCoding = "content_coding",
        /// Nobody could check the key.
        AuthorizerUnavailable = "authorizer_unavailable",
        /// The key pushes more often than it may.
        PushRate = "push_rate",
        /// The key may not do this.
        OutOfScope = "out_of_scope",
        /// The body is not valid.
        BodyInvalid = "body_invalid",
        /// The body is too long.
        BodyTooLarge = "body_too_large",
        /// The body took too long.
        BodyTooSlow = "body_too_slow",
        /// The body ended before it was complete.
        BodyBroken = "body_broken",
        /// The server has no room for it now.
        Busy = "busy",
        /// A user id or an event is too long.
        NameTooLong = "name_too_long",
        /// A message is too long.
        MessageTooLarge = "message_too_large",
        /// A list is too long.
        TooManyItems = "too_many_items",
        /// A path, query or header is not valid.
        ParameterInvalid = "parameter_invalid",
        /// A request with the same key is under way.
        IdempotencyKeyInUse = "idempotency_key_in_use",
        /// Another request with the same key was answered.
        IdempotencyKeyReused = "idempotency_key_reused",
        /// The server failed.
        Internal = "internal",
        /// The request is not a WebSocket handshake.
        NotAHandshake = "not_a_handshake",
        /// The handshake asks for an unsupported version of WebSocket.
        WebsocketVersion = "websocket_version",
        /// The page's origin may not connect.
        OriginNotAllowed = "origin_not_allowed",
        /// The handshake's token is too long.
        TokenTooLong = "token_too_long",
        /// The server has reached its limit of connections.
        ConnectionsFull = "connections_full",
        /// The address has reached its limit of connections.
        AddressFull = "address_full",
        /// The address makes handshakes too often.
        HandshakeRate = "handshake_rate",
        /// The server is shutting down.
        Draining = "draining",
        /// The server is cut off from its cluster.
        CutOff = "cut_off",
        /// There is nothing at this path.
        NotFound = "not_found",
        /// The end of the body is ambiguous.
        LengthAmbiguous = "length_ambiguous",
        /// The host is missing or not valid.
        HostInvalid = "host_invalid",
        /// The key may push but not administer.
        NotAdmin = "not_admin",
        /// Administration without a key at an address that requires one.
        AdminNeedsKey = "admin_needs_key",
        /// No connection has this id.
        ConnectionUnknown = "connection_unknown",
        /// A node of the cluster does not answer.
        NodeMissing = "node_missing",
        /// The connection may not have this registration.
        RegistrationRefused = "registration_refused",
        /// The server has reached its limit of traces.
        TracesFull = "traces_full",
        /// No messages are kept for replay.
        ReplayOff = "replay_off",
    }
}

/// Which counter of refusals has a label for the problem; all others count it as `other`.
enum Family {
    Pushes,
    Handshakes,
    Both,
    Neither,
}

impl ProblemKind {
    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::LengthAmbiguous
            | Self::HostInvalid
            | Self::BodyInvalid
            | Self::BodyBroken
            | Self::NameTooLong
            | Self::TooManyItems
            | Self::ParameterInvalid
            | Self::NotAHandshake
            | Self::TokenTooLong => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::PushNeedsKey
            | Self::OutOfScope
            | Self::NotAdmin
            | Self::AdminNeedsKey
            | Self::OriginNotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound | Self::ConnectionUnknown => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::IdempotencyKeyInUse | Self::RegistrationRefused | Self::ReplayOff => {
                StatusCode::CONFLICT
            }
            Self::MessageTooLarge | Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::WebsocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::PushRate | Self::AddressFull | Self::HandshakeRate => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::AuthorizerUnavailable
            | Self::Busy
            | Self::ConnectionsFull
            | Self::Draining
            | Self::CutOff
            | Self::NodeMissing
            | Self::TracesFull => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn family(self) -> Family {
        match self {
            Self::MethodNotAllowed => Family::Both,
            Self::PushNeedsKey
            | Self::Unauthorized
            | Self::ContentCoding
            | Self::AuthorizerUnavailable
            | Self::PushRate
            | Self::OutOfScope
            | Self::BodyInvalid
            | Self::BodyTooLarge
            | Self::BodyTooSlow
            | Self::BodyBroken
            | Self::Busy
            | Self::NameTooLong
            | Self::MessageTooLarge
            | Self::TooManyItems
            | Self::ParameterInvalid
            | Self::IdempotencyKeyInUse
            | Self::IdempotencyKeyReused
            | Self::Internal => Family::Pushes,
            Self::NotAHandshake
            | Self::WebsocketVersion
            | Self::OriginNotAllowed
            | Self::TokenTooLong
            | Self::ConnectionsFull
            | Self::AddressFull
            | Self::HandshakeRate
            | Self::Draining
            | Self::CutOff => Family::Handshakes,
            Self::NotFound
            | Self::LengthAmbiguous
            | Self::HostInvalid
            | Self::NotAdmin
            | Self::AdminNeedsKey
            | Self::ConnectionUnknown
            | Self::NodeMissing
            | Self::RegistrationRefused
            | Self::TracesFull
            | Self::ReplayOff => Family::Neither,
        }
    }

    /// The labels of the counter of refused pushes.
    pub(crate) fn of_pushes() -> impl Iterator<Item = Self> {
        let is_theirs = |kind: &Self| matches!(kind.family(), Family::Pushes | Family::Both);
        Self::ALL.into_iter().filter(is_theirs)
    }

    /// The labels of the counter of refused handshakes.
    pub fn of_handshakes() -> impl Iterator<Item = Self> {
        let is_theirs = |kind: &Self| matches!(kind.family(), Family::Handshakes | Family::Both);
        Self::ALL.into_iter().filter(is_theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guide describes each problem of the HTTP API by its name and status.
    #[test]
    fn problems_are_described() {
        let guide = include_str!("../../../../docs/http-api.md");
        for kind in ProblemKind::ALL {
            // The HTTP API never answers with these.
            let is_of_the_carrier = matches!(
                kind,
                ProblemKind::AddressFull
                    | ProblemKind::ConnectionsFull
                    | ProblemKind::HandshakeRate
                    | ProblemKind::HostInvalid
                    | ProblemKind::LengthAmbiguous
                    | ProblemKind::NotAHandshake
                    | ProblemKind::OriginNotAllowed
                    | ProblemKind::TokenTooLong
                    | ProblemKind::WebsocketVersion
            );
            let is_described = guide.lines().any(|line| {
                line.starts_with(&format!("| {} |", kind.status().as_u16()))
                    && line.contains(&format!("`{kind}`"))
            });
            assert_ne!(is_described, is_of_the_carrier, "{kind} {}", kind.status());
        }
    }
}
