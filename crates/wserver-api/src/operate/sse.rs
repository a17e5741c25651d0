//! The format of Server-Sent Events (HTML, section 9.2).

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use crate::reply::ReplyBody;

/// A comment, which readers skip.
const COMMENT: &[u8] = b":\n\n";

/// One event in its format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event(Bytes);

impl Event {
    /// An event of this kind. `data` is one line.
    pub(crate) fn new(kind: &str, data: &str) -> Self {
        debug_assert!(!kind.contains('\n') && !data.contains('\n'), "each is one line");
        Self(format!("event:{kind}\ndata:{data}\n\n").into())
    }
}

/// `events`, with a comment after each `interval` without an event.
pub(crate) fn kept_alive(
    events: impl Stream<Item = Event> + Send + Sync + 'static,
    interval: Duration,
) -> impl Stream<Item = Bytes> + Send + Sync + 'static {
    stream::unfold(Box::pin(events), move |mut events| async move {
        match tokio::time::timeout(interval, events.next()).await {
            Ok(Some(Event(bytes))) => Some((bytes, events)),
            Ok(None) => None,
            Err(_elapsed) => Some((Bytes::from_static(COMMENT), events)),
        }
    })
}

/// The answer with a stream of events.
pub(crate) fn reply(
    events: impl Stream<Item = Bytes> + Send + Sync + 'static,
) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::Stream(Box::pin(events)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quiet_stream_is_kept_alive() {
        let events = stream::iter([Event::new("closed", "{}")]).chain(stream::pending());
        let mut written = Box::pin(kept_alive(events, Duration::from_millis(1)));
        assert_eq!(written.next().await.unwrap(), "event:closed\ndata:{}\n\n");
        for _ in 0..2 {
            assert_eq!(written.next().await.unwrap(), ":\n\n");
        }
    }
}
