//! Who is measured, and what each is.

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Floor,
    /// The leanest possible floor.
    BareFloor,
    Ours,
    /// Ours, with all connections and pushes behind TLS.
    Tls,
    /// Ours, with tokens for clients and keys for publishers.
    Keys,
    /// Ours, with connections of version 2 of the protocol.
    V2,
    /// The same, and it keeps every event for replay.
    Replay,
    /// An earlier build of ours, if two builds are compared and no peer.
    Before,
    Bun,
    Nchan,
    Gorilla,
    Ws,
    NaiveWarp,
}

impl Subject {
    /// The subjects of a complete run. Subjects that are compared come one after the other.
    pub(super) const ALL: [Self; 12] = [
        Self::BareFloor,
        Self::Floor,
        Self::Ours,
        Self::Bun,
        Self::V2,
        Self::Replay,
        Self::Tls,
        Self::Keys,
        Self::Nchan,
        Self::Gorilla,
        Self::Ws,
        Self::NaiveWarp,
    ];

    /// Whether it is our server, with any settings.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::V2 | Self::Replay | Self::Tls | Self::Keys | Self::Before)
    }

    /// Its name for `wserver-load --target`.
    pub(super) fn target(self) -> String {
        if self.is_ours() { Self::Ours.name() } else { self.folder() }
    }

    pub(super) fn name(self) -> String {
        let name = match self {
            Self::Floor => "floor",
            Self::BareFloor => "floor-bare",
            Self::Ours => "wserver",
            Self::Tls => "wserver-tls",
            Self::Keys => "wserver-keys",
            Self::V2 => "wserver-v2",
            Self::Replay => "wserver-replay",
            Self::Before => "before",
            Self::Bun => "bun",
            Self::Nchan => "nchan",
            Self::Gorilla => "gorilla",
            Self::Ws => "ws",
            Self::NaiveWarp => "naive-warp",
        };
        name.to_owned()
    }

    /// Where its program stands in `xtask/peers/`, and what that is called.
    pub(super) fn folder(self) -> String {
        if self == Self::BareFloor { Self::Floor.name() } else { self.name() }
    }

    /// Its description, in a few words.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Floor => "one epoll loop, one `send(2)` of a ready frame for each connection",
            Self::BareFloor => {
                "the floor, with a vectorised search of the names in a push, and no read that finds nothing"
            }
            Self::Ours => "the release binary with its default settings",
            Self::Tls => "the same, with clients and publishers behind TLS 1.3",
            Self::Keys => {
                "the same, where clients present a JSON Web Token and publishers the key of a `[[publisher]]` with a scope and a rate"
            }
            Self::V2 => "the same, with clients that speak version 2 of the protocol",
            Self::Replay => {
                "the same, which keeps the messages of every event for clients that come back"
            }
            Self::Before => "an earlier build, with its default settings",
            Self::Bun => "`Bun.serve` with topics and `server.publish`",
            Self::Nchan => "nginx with nchan, one worker",
            Self::Gorilla => "Go, gorilla/websocket, the design of the ancestor",
            Self::Ws => "node with `ws`",
            Self::NaiveWarp => "`warp::ws()` with a channel and a task for each connection",
        }
    }

    /// The source of its program in `xtask/peers/`, if it has one.
    pub(super) fn source(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::BareFloor => Some(include_str!("../../peers/floor/src/main.rs")),
            Self::Bun => Some(include_str!("../../peers/bun/server.ts")),
            Self::Nchan => Some(include_str!("../../peers/nchan/nginx.conf")),
            Self::Gorilla => Some(include_str!("../../peers/gorilla/main.go")),
            Self::Ws => Some(include_str!("../../peers/ws/server.js")),
            Self::NaiveWarp => Some(include_str!("../../peers/naive-warp/src/main.rs")),
            Self::Ours | Self::V2 | Self::Replay | Self::Tls | Self::Keys | Self::Before => None,
        }
    }

    /// Whether it needs something from outside this project.
    pub(super) fn is_foreign(self) -> bool {
        !self.is_ours() && !matches!(self, Self::Floor | Self::BareFloor | Self::NaiveWarp)
    }
}
