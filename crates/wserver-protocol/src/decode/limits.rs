//! Whose frames are read, and how much of a message is let in.

/// Which end reads, and so whose frames it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server reads what clients send: every frame must be masked.
    Server,
    /// A client reads what the server sends: no frame may be masked.
    Client,
}

/// How much of one message is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The longest message, in bytes over all of its fragments.
    pub message_bytes_max: usize,
    /// The most frames of one message; an unfragmented one has a single frame.
    pub fragments_max: usize,
}
