//! What every answer says of its connection, whichever way it was made: whether it stays, for how
//! long, and what time it is.

use std::time::Duration;

use hyper::header::{CONNECTION, DATE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Version};

use crate::edge::Edge;
use crate::http::date;
use crate::http::io::Notes;

/// Not registered any more (RFC 9112, appendix C.2.2), and read by many a client all the same.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Whether who sent this request wants its connection to stay (RFC 9112, section 9.3).
pub(crate) fn is_persistent(version: Version, headers: &HeaderMap) -> bool {
    let has_option = |option: &str| {
        let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        let mut options = lines.flat_map(|line| line.split(','));
        options.any(|it| it.trim().eq_ignore_ascii_case(option))
    };
    !has_option("close") && (version >= Version::HTTP_11 || has_option("keep-alive"))
}

/// Whether the connection stays behind an answer with these headers.
///
/// From the moment a shutdown begins none stays, so that no client sends its next request on a
/// connection that is about to end.
pub(crate) fn is_kept(
    headers: &HeaderMap,
    edge: &Edge,
    notes: &Notes,
    is_persistent: bool,
) -> bool {
    is_persistent
        && !headers.contains_key(CONNECTION)
        && !edge.stop.is_cancelled()
        && !notes.seat().is_over()
}

/// Adds to an answer what it says of its connection, which is kept or not.
pub(crate) fn finish(headers: &mut HeaderMap, edge: &Edge, is_kept: bool) {
    if !is_kept {
        headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
    } else if let Some(keep_alive) = &edge.kept.value {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(KEEP_ALIVE, keep_alive.clone());
    }
    headers.insert(DATE, date::now());
}

/// The same as it is written: `bytes` end with the line before, without its end, and so they do
/// afterwards. Pushes are mostly answered so, and headers would be hashed for each.
pub(crate) fn write(bytes: &mut Vec<u8>, headers: &HeaderMap, edge: &Edge, is_kept: bool) {
    if is_kept {
        bytes.extend_from_slice(&edge.kept.lines);
    } else if !headers.contains_key(CONNECTION) {
        bytes.extend_from_slice(b"\r\nconnection: close");
    }
    bytes.extend_from_slice(b"\r\ndate: ");
    date::with_now(|now| bytes.extend_from_slice(now.as_bytes()));
}

/// What answers say where connections are kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Of `Keep-Alive`; of less than a second nothing can be said.
    value: Option<HeaderValue>,
    lines: Vec<u8>,
}

impl Kept {
    pub(crate) fn new(idle_timeout: Duration) -> Self {
        let seconds = idle_timeout.as_secs();
        let value = (seconds > 0).then(|| HeaderValue::try_from(format!("timeout={seconds}")));
        let value = value.and_then(Result::ok);
        let lines = value.as_ref().map(|value| {
            [b"\r\nconnection: keep-alive\r\nkeep-alive: ", value.as_bytes()].concat()
        });
        Self { value, lines: lines.unwrap_or_default() }
    }
}
