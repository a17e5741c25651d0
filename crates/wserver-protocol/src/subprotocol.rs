//! Which version of the protocol a connection speaks.

use bytes::Bytes;

use crate::{events, frame};

/// What a connection speaks. A client chooses a version in its handshake, or asks for a stream of
/// events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Version 1: registers without a reply, gets messages alone.
    #[default]
    V1,
    /// Version 2: requests and replies, notices, and messages with a head.
    V2,
    /// Server-Sent Events: no WebSocket, and the client says nothing.
    Sse,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::Sse];
    /// The versions that a WebSocket can speak.
    pub const VERSIONS: [Self; 2] = [Self::V1, Self::V2];

    /// Its name; that of a version is the one in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "wserver.v1",
            Self::V2 => "wserver.v2",
            Self::Sse => "sse",
        }
    }

    /// What the server says by itself, which is JSON in one line; `None` in version 1, which has no
    /// such messages.
    #[must_use]
    pub fn say(self, json: &str) -> Option<Bytes> {
        match self {
            Self::V1 => None,
            Self::V2 => Some(frame::text(json)),
            Self::Sse => Some(events::own(json)),
        }
    }

    /// The newest version among the names that a client offers; `None` if it offers neither, and
    /// then it is answered no name and speaks version 1.
    #[must_use]
    pub fn negotiate<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let known = |name| Self::VERSIONS.into_iter().find(|it| it.name() == name);
        offered.into_iter().filter_map(known).max_by_key(|it| *it as u8)
    }
}
