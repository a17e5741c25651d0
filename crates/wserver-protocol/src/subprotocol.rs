//! Which version of the protocol a connection speaks.

/// Which version of the protocol a connection speaks. A client chooses in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Version 1: registers without a reply, gets messages alone.
    #[default]
    V1,
    /// Version 2: requests and replies, notices, and messages with a head.
    V2,
}

impl Protocol {
    /// All versions.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// Its name in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "wserver.v1",
            Self::V2 => "wserver.v2",
        }
    }

    /// The newest version among the names that a client offers; `None` if it offers neither, and
    /// then it is answered no name and speaks version 1.
    #[must_use]
    pub fn negotiate<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let known = |name| Self::ALL.into_iter().find(|it| it.name() == name);
        offered.into_iter().filter_map(known).max_by_key(|it| *it as u8)
    }
}
