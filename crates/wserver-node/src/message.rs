//! What a push carries, encoded once for all who get it.

use bytes::Bytes;
use wserver_protocol::frame;

/// One push, encoded once for every connection that gets it.
#[derive(Debug, Clone)]
pub struct Message {
    pub(crate) frame: Bytes,
}

impl Message {
    /// A message that arrives verbatim, as one text frame.
    #[must_use]
    pub fn text(message: &str) -> Self {
        Self { frame: frame::text(message) }
    }
}
