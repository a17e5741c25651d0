//! What nodes tell each other of acknowledgements.

use prost::Message;

/// What a push waits for.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Wait {
    /// The numbers that [`Waited`] repeats.
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    /// Whether the first acknowledgement is enough.
    #[prost(bool, tag = "3")]
    pub(crate) is_first_enough: bool,
    /// How many milliseconds after the request was written the answer must be written.
    #[prost(uint32, tag = "4")]
    pub(crate) time_ms: u32,
}

/// The second answer to a push that waits: what came of it in its time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Waited {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) acks: Option<Acks>,
}

/// The node that asked has the answer that it waits for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WaitOver {
    #[prost(uint64, tag = "1")]
    pub(crate) request: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
}

/// How many connections have acknowledged a push, or will not.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Acks {
    #[prost(uint64, tag = "1")]
    pub(crate) acked: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) waiting: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) unable: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) lost: u64,
}
