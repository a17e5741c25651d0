//! The protocol RESP2: encoding and decoding, without connections and without meaning.
//!
//! It is the older version on purpose: a subscriber has its own connection here, so nothing of the
//! newer version is needed.

use std::fmt;
use std::io::Write as _;

use bytes::{Bytes, BytesMut};

/// One frame from a server. Its bytes are slices of the read buffer, not copies, and keep that
/// buffer alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(Bytes),
    Error(Bytes),
    Integer(i64),
    Bulk(Bytes),
    Nil,
    Array(Vec<Self>),
}

/// The input is not this protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotResp;

/// The largest frame. Our messages are far smaller, and so is the map of a cluster.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The deepest nesting; no answer to our commands is deeper.
const DEPTH_MAX: u8 = 8;
/// The longest line; the longest ones are errors.
const LINE_BYTES_MAX: usize = 64 * 1024;

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(text) | Self::Error(text) | Self::Bulk(text) => {
                f.write_str(&String::from_utf8_lossy(text))
            }
            Self::Integer(number) => number.fmt(f),
            Self::Nil | Self::Array(_) => Ok(()),
        }
    }
}

impl Reply {
    /// Takes the first frame out of `input` once it is complete.
    pub(crate) fn take(input: &mut BytesMut) -> Result<Option<Self>, NotResp> {
        let mut cursor = Cursor { text: input, at: 0 };
        match cursor.skip(DEPTH_MAX) {
            Ok(()) => {
                let end = cursor.at;
                let frame = input.split_to(end).freeze();
                let mut cursor = Cursor { text: &frame, at: 0 };
                Ok(Some(cursor.read(&frame)?))
            }
            Err(Stop::More(bytes)) => {
                // A large frame is read into a buffer of its size, and not moved from one to the
                // next.
                input.reserve(bytes);
                Ok(None)
            }
            Err(Stop::NotResp) => Err(NotResp),
        }
    }
}

/// Appends one command.
pub(crate) fn encode(output: &mut Vec<u8>, words: &[&[u8]]) {
    head(output, b'*', words.len());
    for word in words {
        head(output, b'$', word.len());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

fn head(output: &mut Vec<u8>, kind: u8, length: usize) {
    output.push(kind);
    write!(output, "{length}\r\n").expect("a vector takes everything");
}

/// Why a frame cannot be read.
enum Stop {
    /// At least this many bytes are missing.
    More(usize),
    NotResp,
}

impl From<Stop> for NotResp {
    fn from(_: Stop) -> Self {
        Self
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Skips one frame, with at most `depth` levels of nesting.
    fn skip(&mut self, depth: u8) -> Result<(), Stop> {
        let (kind, line) = self.line()?;
        match kind {
            b'+' | b'-' => Ok(()),
            b':' => number(line).map(drop),
            b'$' => match length(line)? {
                Some(length) => self.bulk(length).map(drop),
                None => Ok(()),
            },
            b'*' => {
                let depth = depth.checked_sub(1).ok_or(Stop::NotResp)?;
                (0..length(line)?.unwrap_or(0)).try_for_each(|_| self.skip(depth))
            }
            _ => Err(Stop::NotResp),
        }
    }

    /// Reads a frame that was skipped before, so it is complete and valid.
    fn read(&mut self, frame: &Bytes) -> Result<Reply, Stop> {
        let (kind, line) = self.line()?;
        Ok(match kind {
            b'+' => Reply::Status(frame.slice_ref(line)),
            b'-' => Reply::Error(frame.slice_ref(line)),
            b':' => Reply::Integer(number(line)?),
            b'$' => match length(line)? {
                Some(length) => Reply::Bulk(frame.slice_ref(self.bulk(length)?)),
                None => Reply::Nil,
            },
            _ => match length(line)? {
                Some(length) => {
                    let items = (0..length).map(|_| self.read(frame));
                    Reply::Array(items.collect::<Result<_, _>>()?)
                }
                None => Reply::Nil,
            },
        })
    }

    fn line(&mut self) -> Result<(u8, &'a [u8]), Stop> {
        let rest = &self.text[self.at..];
        let Some((&kind, rest)) = rest.split_first() else { return Err(Stop::More(1)) };
        if !b"+-:$*".contains(&kind) {
            return Err(Stop::NotResp);
        }
        let Some(length) = rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\r') else {
            let is_short = rest.len() < LINE_BYTES_MAX;
            return Err(if is_short { Stop::More(1) } else { Stop::NotResp });
        };
        match rest.get(length + 1) {
            None => return Err(Stop::More(1)),
            Some(b'\n') => self.at += length + 3,
            Some(_) => return Err(Stop::NotResp),
        }
        Ok((kind, &rest[..length]))
    }

    fn bulk(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.text[self.at..];
        match rest.get(length..length + 2) {
            None => Err(Stop::More(length + 2 - rest.len())),
            Some(b"\r\n") => {
                self.at += length + 2;
                Ok(&rest[..length])
            }
            Some(_) => Err(Stop::NotResp),
        }
    }
}

fn number(line: &[u8]) -> Result<i64, Stop> {
    let text = std::str::from_utf8(line).map_err(|_ignored| Stop::NotResp)?;
    text.parse().map_err(|_ignored| Stop::NotResp)
}

fn length(line: &[u8]) -> Result<Option<usize>, Stop> {
    match number(line)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) if length <= FRAME_BYTES_MAX => Ok(Some(length)),
            _ => Err(Stop::NotResp),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn taken(text: &[u8]) -> Result<Option<Reply>, NotResp> {
        Reply::take(&mut BytesMut::from(text))
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let line = "[a-zA-Z0-9 ]{0,20}".prop_map(Bytes::from);
        let leaf = prop_oneof![
            line.clone().prop_map(Reply::Status),
            line.prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            bytes().prop_map(Reply::Bulk),
            Just(Reply::Nil),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| vec(inner, 0..4).prop_map(Reply::Array))
    }

    fn write(output: &mut Vec<u8>, reply: &Reply) {
        let mut line = |kind: &str, text: &[u8]| {
            output.extend_from_slice(kind.as_bytes());
            output.extend_from_slice(text);
            output.extend_from_slice(b"\r\n");
        };
        match reply {
            Reply::Status(text) => line("+", text),
            Reply::Error(text) => line("-", text),
            Reply::Integer(number) => line(":", number.to_string().as_bytes()),
            Reply::Nil => line("$-1", b""),
            Reply::Bulk(text) => {
                line("$", text.len().to_string().as_bytes());
                line("", text);
            }
            Reply::Array(items) => {
                line("*", items.len().to_string().as_bytes());
                items.iter().for_each(|item| write(output, item));
            }
        }
    }

    proptest! {
        #[test]
        fn frames_are_read_however_they_come_in(
            replies in vec(reply(), 1..5),
            piece in 1_usize..30,
        ) {
            let mut text = Vec::new();
            replies.iter().for_each(|reply| write(&mut text, reply));
            let (mut input, mut found) = (BytesMut::new(), Vec::new());
            for piece in text.chunks(piece) {
                input.extend_from_slice(piece);
                while let Some(reply) = Reply::take(&mut input).unwrap() {
                    found.push(reply);
                }
            }
            prop_assert_eq!(found, replies);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn nothing_read_is_a_panic(text in vec(prop_oneof![any::<u8>(), Just(b'*'), Just(b'$'),
            Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'-')], 0..60)) {
            let _ = taken(&text);
        }

        #[test]
        fn commands_are_arrays_of_bulks(words in vec(bytes(), 1..5)) {
            let mut output = Vec::new();
            encode(&mut output, &words.iter().map(|word| &word[..]).collect::<Vec<_>>());
            let words = words.into_iter().map(Reply::Bulk).collect();
            prop_assert_eq!(taken(&output), Ok(Some(Reply::Array(words))));
        }
    }

    #[test]
    fn what_is_no_frame_is_told_from_what_is_not_all_there() {
        for text in ["HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "$-2\r\n", "$1\r\nabc", ":1\rx"] {
            assert_eq!(taken(text.as_bytes()), Err(NotResp), "{text}");
        }
        assert_eq!(taken(b"$99999999999\r\n"), Err(NotResp), "too large");
        assert_eq!(taken("*1\r\n".repeat(20).as_bytes()), Err(NotResp), "too deep");
        assert_eq!(taken(&[b'+'; LINE_BYTES_MAX + 2]), Err(NotResp), "too long");
        for text in ["", "*", "*2\r\n+a\r\n", "$3\r\nab", "$3\r\nabc\r", "+OK\r"] {
            assert_eq!(taken(text.as_bytes()), Ok(None), "{text}");
        }
    }
}
