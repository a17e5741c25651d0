//! A trace: the server's event stream (`text/event-stream`), read as far as our server uses the
//! format.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt as _};
use wserver_outgoing::Incoming;
use wserver_protocol::v2::{BodyError, Entry, Missed};

use crate::Cause;

/// The longest event that the client keeps.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// What happens to one user, as it happens: a stream that ends when the server ends it.
pub struct Trace {
    incoming: Incoming,
    events: Events,
    ended: bool,
}

/// One item of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceUpdate {
    /// Something happened.
    Entry(Box<Entry>),
    /// The client read too slowly; the trace lacks this many entries here.
    Missed(u64),
}

/// Why a trace broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The connection broke.
    #[error("connection lost")]
    Lost {
        /// What went wrong.
        #[source]
        source: Cause,
    },
    /// An event is longer than any event of a server.
    #[error("event exceeds {EVENT_BYTES_MAX} bytes")]
    TooLong,
    /// An event that no server sends.
    #[error("the event is not of the requested type")]
    Malformed {
        /// What is wrong with it.
        #[from]
        source: BodyError,
    },
}

impl Trace {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming, events: Events::default(), ended: false }
    }

    /// The next item. It is the stream, for callers that wait for one item. `None` when the server
    /// has ended the trace.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or its content is not a trace. The trace is then over.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has taken nothing.
    pub async fn next_update(&mut self) -> Result<Option<TraceUpdate>, TraceError> {
        self.next().await.transpose()
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<TraceUpdate>, TraceError>> {
        loop {
            if let Some(Event { name, data }) = self.events.next() {
                let data = data.as_bytes();
                return Poll::Ready(Ok(Some(if name == "missed" {
                    TraceUpdate::Missed(Missed::parse(data)?.missed)
                } else {
                    // All other events are named after what happened.
                    TraceUpdate::Entry(Entry::parse(data)?.into())
                })));
            }
            match ready!(self.incoming.poll_data(cx)) {
                Some(Ok(data)) => self.events.feed(&data)?,
                Some(Err(source)) => return Poll::Ready(Err(TraceError::Lost { source })),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl Stream for Trace {
    type Item = Result<TraceUpdate, TraceError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let update = ready!(this.poll_event(cx)).transpose();
        this.ended = !matches!(update, Some(Ok(_)));
        Poll::Ready(update)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// One event in the format of the stream.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Takes bytes as they arrive and yields complete events, by the rules of the HTML standard,
/// section 9.2.6. It ignores ids and retry times.
#[derive(Debug, Default)]
struct Events {
    /// Bytes that are not parsed yet.
    buffer: Vec<u8>,
    name: String,
    data: Option<String>,
}

impl Events {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let data = self.data.as_ref().map_or(0, String::len);
        if data + self.buffer.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TraceError::TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next event, if it is complete.
    fn next(&mut self) -> Option<Event> {
        let mut read = 0;
        let mut event = None;
        while event.is_none()
            && let Some(length) = self.buffer[read..].iter().position(|&byte| byte == b'\n')
        {
            let line = String::from_utf8_lossy(&self.buffer[read..read + length]).into_owned();
            read += length + 1;
            event = self.take_line(line.trim_end_matches('\r'));
        }
        self.buffer.drain(..read);
        event
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            let name = if name.is_empty() { "message".to_owned() } else { name };
            return Some(Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // The server sends comments as signs of life.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream = ": hello\n\nevent: entry\nid: 7\ndata: {\"a\":\ndata:1}\n\ndata: é\r\n\r\n\
                      event: nothing\n\ndata\n\ndata: half";
        let expected = [("entry", "{\"a\":\n1}"), ("message", "é"), ("message", "")]
            .map(|(name, data)| Event { name: name.to_owned(), data: data.to_owned() });
        for size in [1, 2, 3, 7, stream.len()] {
            let mut events = Events::default();
            let mut read = Vec::new();
            for bytes in stream.as_bytes().chunks(size) {
                events.feed(bytes).unwrap();
                read.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(read, expected, "{size} bytes at a time");
        }
    }

    #[test]
    fn an_event_is_bounded() {
        let mut events = Events::default();
        let part = [b'x'; 1 << 16];
        let mut fed = 0;
        while events.feed(&part).is_ok() {
            fed += part.len();
            assert_eq!(events.next(), None);
        }
        assert_eq!(fed, EVENT_BYTES_MAX);

        // Many short lines also make one event.
        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(1 << 16));
        assert!((0..32).any(|_| {
            let fed = events.feed(line.as_bytes());
            assert_eq!(events.next(), None);
            fed.is_err()
        }));
    }
}
