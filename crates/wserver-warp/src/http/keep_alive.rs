//! The headers about the connection in every answer: whether it stays open, for how long, and the
//! date.

use std::time::Duration;

use hyper::header::{CONNECTION, DATE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Version};
use tokio_util::sync::CancellationToken;

use crate::http::date;
use crate::http::notes::Notes;

/// No longer registered (RFC 9112, appendix C.2.2), but many clients read it.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Whether the client of this request wants its connection to stay open (RFC 9112, section 9.3).
pub(crate) fn is_persistent(version: Version, headers: &HeaderMap) -> bool {
    let has_option = |option: &str| {
        let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        let mut options = lines.flat_map(|line| line.split(','));
        options.any(|it| it.trim().eq_ignore_ascii_case(option))
    };
    !has_option("close") && (version >= Version::HTTP_11 || has_option("keep-alive"))
}

/// The headers about connections in the answers of one server.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    /// The value of `Keep-Alive`; there is none for less than a second.
    value: Option<HeaderValue>,
    /// The same headers as text.
    lines: Vec<u8>,
    /// Cancelled when a shutdown begins.
    stop: CancellationToken,
}

impl KeepAlive {
    pub(crate) fn new(idle_timeout: Duration, stop: CancellationToken) -> Self {
        let seconds = idle_timeout.as_secs();
        let value = (seconds > 0).then(|| HeaderValue::try_from(format!("timeout={seconds}")));
        let value = value.and_then(Result::ok);
        let lines = value.as_ref().map(|value| {
            [b"\r\nconnection: keep-alive\r\nkeep-alive: ", value.as_bytes()].concat()
        });
        Self { value, lines: lines.unwrap_or_default(), stop }
    }

    /// Whether the connection stays open after an answer with these headers.
    ///
    /// After a shutdown begins none stays open, so that no client sends its next request on a
    /// connection that is about to end.
    pub(crate) fn is_kept(&self, headers: &HeaderMap, notes: &Notes, is_persistent: bool) -> bool {
        is_persistent
            && !headers.contains_key(CONNECTION)
            && !self.stop.is_cancelled()
            && !notes.seat().is_over()
    }

    /// Adds the headers about the connection, which is kept or not, to an answer.
    pub(crate) fn finish(&self, headers: &mut HeaderMap, is_kept: bool) {
        if !is_kept {
            headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
        } else if let Some(value) = &self.value {
            headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
            headers.insert(KEEP_ALIVE, value.clone());
        }
        headers.insert(DATE, date::now());
    }

    /// Writes the same headers as text. `bytes` end with a header line without its line end, before
    /// and after the call. Most answers to pushes are written this way, because a map of headers
    /// would be hashed for each.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>, headers: &HeaderMap, is_kept: bool) {
        if is_kept {
            bytes.extend_from_slice(&self.lines);
        } else if !headers.contains_key(CONNECTION) {
            bytes.extend_from_slice(b"\r\nconnection: close");
        }
        bytes.extend_from_slice(b"\r\ndate: ");
        date::with_now(|now| bytes.extend_from_slice(now.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::listen::places::{Found, Places};

    /// A client whose connection must end is told so, if a request of its crosses that decision.
    #[test]
    fn what_is_about_to_end_is_not_said_to_stay() {
        let places = Places::new(1, 0);
        let stop = CancellationToken::new();
        let keep_alive = KeepAlive::new(Duration::from_secs(75), stop.clone());
        let [first, second] = [(); 2].map(|()| match places.find(None).now_or_never() {
            Some(Found::Place { place, .. }) => place,
            other => panic!("{other:?}"),
        });
        let [first, second] = [&first, &second].map(|place| Notes::new(place.seat.clone()));
        let headers = HeaderMap::new();
        assert!(!keep_alive.is_kept(&headers, &first, true), "the second has its place");
        assert!(keep_alive.is_kept(&headers, &second, true));
        assert!(!keep_alive.is_kept(&headers, &second, false));
        stop.cancel();
        assert!(!keep_alive.is_kept(&headers, &second, true));
    }
}
