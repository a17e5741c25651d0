//! Whose frames the decoder reads, and how long a message may be.

/// Which endpoint reads, and therefore whose frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The server reads what clients send: every frame must be masked.
    Server,
    /// A client reads what the server sends: no frame may be masked.
    Client,
}

/// The limits on one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// The longest message, in bytes over all of its fragments.
    pub message_bytes_max: usize,
    /// The most frames of one message; an unfragmented one has a single frame.
    pub fragments_max: usize,
}
