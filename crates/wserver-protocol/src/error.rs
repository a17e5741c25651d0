//! Why bytes are refused: one enum per operation, with texts that are safe to log and to send back.
//!
//! No text repeats any part of the input except the number of a close code, and each is one line of
//! visible ASCII. The caller decides what follows from a refusal, apart from the close code, which
//! the RFC prescribes.

use crate::CloseCode;

/// Why a message is not a registration. The text contains no part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The input is not a JSON object with strings in the right places.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field is absent, `null` or has no characters.
    #[error("{field} is empty")]
    Empty {
        /// The field, spelled as in the contract.
        field: &'static str,
    },
}

/// Why a body is not a push. The text contains no part of the body, and is one line of visible
/// ASCII, fit for the `Wserver-Error` header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The input is not a JSON object with strings in the right places.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field is absent, `null` or has no characters.
    #[error("{field} is empty")]
    Empty {
        /// The field, spelled as in the contract.
        field: &'static str,
    },
}

/// Why bytes are not a JSON object with the expected strings.
///
/// No variant repeats any part of the input, so each is safe to log and to send back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The first thing that is not white space does not open an object.
    ///
    /// A byte order mark counts: JSON on the wire has none (RFC 8259, section 8.1).
    #[error("not a JSON object")]
    NotAnObject,
    /// The object is not JSON: wrong grammar, not UTF-8, a lone surrogate, a number that a double
    /// cannot hold, or more than 127 levels of nesting.
    #[error("invalid JSON at byte {byte}: {problem}")]
    Syntax {
        /// The position of the byte where the parser noticed the problem, counted from 1.
        byte: usize,
        /// What is wrong there, in the parser's words: visible ASCII, one line.
        problem: Box<str>,
    },
    /// An expected member is neither a string nor `null`.
    #[error("{field} must be a string")]
    NotAString {
        /// The member, spelled as in the contract.
        field: &'static str,
    },
}

/// Why a stream of frames is refused: a closed list. The caller must close the connection with
/// [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A reserved bit is set, though no extension was agreed (section 5.2).
    #[error("a reserved bit is set")]
    ReservedBit,
    /// The opcode has no meaning (section 5.2).
    #[error("the opcode is reserved")]
    ReservedOpcode,
    /// A Ping, Pong or Close is fragmented (section 5.5).
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// A Ping, Pong or Close has more than 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A continuation frame arrived, but no message has begun (section 5.4).
    #[error("a continuation without a message")]
    ContinuationUnexpected,
    /// A new message began before the last one ended (section 5.4).
    #[error("a new message inside a fragmented one")]
    ContinuationExpected,
    /// A client's frame is not masked (section 5.1).
    #[error("a frame of a client is not masked")]
    NotMasked,
    /// A server's frame is masked (section 5.1).
    #[error("a frame of a server is masked")]
    Masked,
    /// A payload length takes more bytes than it needs (section 5.2).
    #[error("a length is not in its shortest form")]
    LengthNotShortest,
    /// The payload of a Close is one byte, half of a code (section 5.5.1).
    #[error("a close payload of one byte")]
    CloseTruncated,
    /// A Close has a code that must not be sent (section 7.4).
    #[error("the close code {0} is not allowed")]
    CloseCodeInvalid(u16),
    /// Text or a close reason is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A message is longer than [`message_bytes_max`](crate::DecodeLimits::message_bytes_max).
    #[error("a message is too long")]
    MessageTooLong,
    /// A message has more frames than [`fragments_max`](crate::DecodeLimits::fragments_max).
    #[error("a message has too many fragments")]
    TooManyFragments,
}

impl DecodeError {
    /// A label from a closed set, for counters and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReservedBit => "reserved_bit",
            Self::ReservedOpcode => "reserved_opcode",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::ContinuationUnexpected => "continuation_unexpected",
            Self::ContinuationExpected => "continuation_expected",
            Self::NotMasked => "not_masked",
            Self::Masked => "masked",
            Self::LengthNotShortest => "length_not_shortest",
            Self::CloseTruncated => "close_truncated",
            Self::CloseCodeInvalid(_) => "close_code_invalid",
            Self::NotUtf8 => "not_utf8",
            Self::MessageTooLong => "message_too_long",
            Self::TooManyFragments => "too_many_fragments",
        }
    }

    /// The error with this label, if it is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::ReservedBit,
            Self::ReservedOpcode,
            Self::ControlFragmented,
            Self::ControlTooLong,
            Self::ContinuationUnexpected,
            Self::ContinuationExpected,
            Self::NotMasked,
            Self::Masked,
            Self::LengthNotShortest,
            Self::CloseTruncated,
            Self::CloseCodeInvalid(0),
            Self::NotUtf8,
            Self::MessageTooLong,
            Self::TooManyFragments,
        ];
        all.into_iter().find(|error| error.as_str() == word)
    }

    /// The code to close with: 1002 for the protocol, 1007 for UTF-8, 1009 for size.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBit
            | Self::ReservedOpcode
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::ContinuationUnexpected
            | Self::ContinuationExpected
            | Self::NotMasked
            | Self::Masked
            | Self::LengthNotShortest
            | Self::CloseTruncated
            | Self::CloseCodeInvalid(_) => CloseCode::PROTOCOL,
            Self::NotUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooLong | Self::TooManyFragments => CloseCode::TOO_BIG,
        }
    }
}
