//! Messages and notices as Server-Sent Events (HTML, section 9.2).
//!
//! A stream has lines of text, so it cannot keep the kind of a line end: whatever a message has, CR
//! LF, LF or CR, a reader gets LF.

use std::fmt;
use std::io::Write as _;

use bytes::Bytes;

/// The event under which the server speaks for itself.
pub const OWN_EVENT: &str = "wserver";

/// Why no stream can carry an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventNameError {
    /// A line cannot carry the name.
    #[error("has a CR, LF or NUL, which a stream of events cannot carry")]
    Unspeakable,
    /// An `EventSource` has its own events of this name, or the server has.
    #[error(
        "is a name that an EventSource or the server uses itself: error, open, message, wserver"
    )]
    Taken,
}

/// Checks whether a stream can carry an event of this name.
///
/// # Errors
/// [`EventNameError`]. A message of an event `error` would arrive at the handlers for failures of
/// the connection.
pub fn check_event(event: &str) -> Result<(), EventNameError> {
    if event.contains(['\r', '\n', '\0']) {
        return Err(EventNameError::Unspeakable);
    }
    match event {
        "error" | "open" | "message" | OWN_EVENT => Err(EventNameError::Taken),
        _ => Ok(()),
    }
}

/// One message of an event; `at` is the position behind it, if it is kept for replay.
///
/// The event has passed [`check_event`], and `at` has no line end.
#[must_use]
pub fn event(event: &str, at: Option<impl fmt::Display>, message: &str) -> Bytes {
    let mut block = Vec::with_capacity(event_len(event, at.as_ref(), message));
    if let Some(at) = at {
        writeln!(block, "id: {at}").expect("a vector takes it");
    }
    block.extend_from_slice(b"event: ");
    block.extend_from_slice(event.as_bytes());
    block.push(b'\n');
    for line in lines(message) {
        block.extend_from_slice(b"data: ");
        block.extend_from_slice(line.as_bytes());
        block.push(b'\n');
    }
    block.push(b'\n');
    block.into()
}

/// The length of that block.
#[must_use]
pub fn event_len(event: &str, at: Option<impl fmt::Display>, message: &str) -> usize {
    let at = at.map_or(0, |at| "id: \n".len() + at.to_string().len());
    let data: usize = lines(message).map(|line| "data: \n".len() + line.len()).sum();
    at + "event: \n".len() + event.len() + data + 1
}

/// What the server says for itself, which is JSON in one line.
#[must_use]
pub fn own(json: &str) -> Bytes {
    debug_assert!(!json.contains(['\r', '\n']), "JSON of one line");
    format!("event: {OWN_EVENT}\ndata: {json}\n\n").into()
}

/// A comment, which readers skip; it shows that the server lives.
#[must_use]
pub fn beat() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// When a reader should come back after the end of the stream.
#[must_use]
pub fn retry(milliseconds: u64) -> Bytes {
    format!("retry: {milliseconds}\n\n").into()
}

/// The lines of a text, whatever ends them; at least one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = Some(tail.strip_prefix("\r\n").unwrap_or_else(|| &tail[1..]));
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of a stream: the id, the event and the data of each event (HTML, section
    /// 9.2.6), for streams whose lines end with LF.
    fn read(stream: &str) -> Vec<(String, String, String)> {
        let (mut id, mut event, mut data) = (String::new(), String::new(), String::new());
        let mut events = Vec::new();
        for line in stream.split('\n') {
            assert!(!line.contains('\r'), "{stream:?}");
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    if !data.is_empty() {
                        data.pop();
                        events.push((id.clone(), event.clone(), data.clone()));
                    }
                    event.clear();
                    data.clear();
                }
                "id" => value.clone_into(&mut id),
                "event" => value.clone_into(&mut event),
                "data" => data += &format!("{value}\n"),
                _ => {}
            }
        }
        events
    }

    #[test]
    fn a_reader_gets_the_message_with_lf_for_every_line_end() {
        for (message, read_as) in [
            ("paid", "paid"),
            ("", ""),
            (" two  spaces ", " two  spaces "),
            ("a\nb", "a\nb"),
            ("a\r\nb\rc\n", "a\nb\nc\n"),
            ("\n\r", "\n\n"),
            (":colon", ":colon"),
            ("data: x\n\nevent: y", "data: x\n\nevent: y"),
            ("ü\u{2028}\0", "ü\u{2028}\0"),
        ] {
            for at in [None, Some("5f3a9c01b2d4.0000002a")] {
                let block = event("order", at, message);
                assert_eq!(block.len(), event_len("order", at, message), "{message:?}");
                let stream = String::from_utf8([&beat()[..], &block].concat()).unwrap();
                let id = at.unwrap_or_default().to_owned();
                let expected = (id, "order".to_owned(), read_as.to_owned());
                assert_eq!(read(&stream), [expected], "{message:?}");
            }
        }
        let said = String::from_utf8([&retry(500)[..], &own(r#"{"beat":1}"#)].concat()).unwrap();
        assert_eq!(
            read(&said),
            [(String::new(), "wserver".to_owned(), r#"{"beat":1}"#.to_owned())]
        );
    }

    #[test]
    fn dangerous_names_are_refused() {
        for name in ["error", "open", "message", "wserver"] {
            assert_eq!(check_event(name), Err(EventNameError::Taken), "{name}");
        }
        for name in ["a\nb", "a\r", "\0"] {
            assert_eq!(check_event(name), Err(EventNameError::Unspeakable), "{name:?}");
        }
        for name in ["order", "Error", "errors", " ", "ü:", "message.new"] {
            assert_eq!(check_event(name), Ok(()), "{name}");
        }
    }
}
