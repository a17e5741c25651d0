//! A fast reader of frames: walks heads in place, reads stamps, skips payloads.
//!
//! The protocol's decoder copies partial messages and checks UTF-8; a generator that shares a
//! machine with the server under test can afford neither. It refuses anything but a plain unmasked
//! frame.

use std::fmt;

use wserver_protocol::Protocol;
use wserver_protocol::frame::CONTROL_BYTES_MAX;

use crate::stamp::{STAMP_BYTES, Stamp};

/// Space to leave in front of the bytes to read, for the start of a frame that an earlier read left
/// over: of a control frame, or of a message with the longest head.
pub(crate) const HEADROOM: usize = 10 + START_BYTES;

/// How much of a payload tells what it is: the stamp, and by version 2 the line before it.
const START_BYTES: usize = 128;
const _: () = assert!(START_BYTES > CONTROL_BYTES_MAX);

/// What the head lines of version 2 begin with: of a push, of the reply to the one request that is
/// sent, and of a beat.
const PUSH: &[u8] = b"{\"event\":\"event-";
const REPLY: &[u8] = b"{\"re\":1,\"ok\":{\"registered\":[\"event-";
const BEAT: &[u8] = b"{\"beat\":";

const GAP: &[u8] = b",\"gap\":{";
const ACK: &[u8] = b",\"ack\":true}\n";

/// A short text that the server gave and gets back: a position, or the id of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Word {
    const BYTES_MAX: usize = 32;

    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { bytes, len: text.len() })
    }

    /// The text behind `key` in a JSON object, up to the next quotation mark.
    fn behind(key: &[u8], object: &[u8]) -> Option<Self> {
        let start = object.windows(key.len()).position(|it| it == key)? + key.len();
        let len = object[start..].iter().position(|it| *it == b'"')?;
        Self::new(&object[start..start + len])
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// One complete item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Message(Message),
    Ping(&'a [u8]),
    Pong,
    /// With its code, or zero without a code.
    Close(u16),
}

/// What a data frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// A push with our stamp, and its length.
    Push(Stamp, u64),
    /// The same, of a push that asks to be acknowledged by its id.
    Asked(Stamp, u64, Word),
    /// By version 2: a reply that grants everything, with the client's position, and whether it says
    /// that messages are missing.
    Granted { at: Option<Word>, is_gap: bool },
    /// By version 2: a beat.
    Said,
    /// A message that is neither.
    Foreign,
}

impl Message {
    /// What `start`, the first bytes of a payload, belongs to.
    #[inline]
    fn of(protocol: Protocol, start: &[u8], payload_len: u64) -> Self {
        match protocol {
            Protocol::V1 => {
                Stamp::read(start).map_or(Self::Foreign, |stamp| Self::Push(stamp, payload_len))
            }
            Protocol::V2 if start.starts_with(PUSH) => {
                let line_end = start[PUSH.len()..].iter().position(|it| *it == b'\n');
                let line_len = line_end.map_or(start.len(), |at| PUSH.len() + at + 1);
                let (line, rest) = start.split_at(line_len);
                let Some(stamp) = Stamp::read(rest) else { return Self::Foreign };
                let message_len = payload_len - line_len as u64;
                match line.ends_with(ACK).then(|| Word::behind(b",\"id\":\"", line)) {
                    None => Self::Push(stamp, message_len),
                    Some(Some(id)) => Self::Asked(stamp, message_len, id),
                    Some(None) => Self::Foreign,
                }
            }
            Protocol::V2 if start.starts_with(REPLY) => Self::Granted {
                at: Word::behind(b",\"at\":\"", start),
                is_gap: start.windows(GAP.len()).any(|it| it == GAP),
            },
            Protocol::V2 if start.starts_with(BEAT) => Self::Said,
            Protocol::V2 | Protocol::Sse => Self::Foreign,
        }
    }
}

/// A frame that no server sends, by its first two bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(u8, u8);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a server's frame cannot begin with {:02x} {:02x}", self.0, self.1)
    }
}

impl std::error::Error for Broken {}

/// The state of one connection between two reads.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) protocol: Protocol,
    /// The start of an incomplete frame, shorter than `HEADROOM`.
    rest: Vec<u8>,
    /// A message whose payload is incomplete.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    message: Message,
    missing: u64,
}

impl Frames {
    pub(crate) const fn new(protocol: Protocol) -> Self {
        Self { protocol, rest: Vec::new(), current: None }
    }

    /// Hands the complete items in `buffer[HEADROOM..end]`, the bytes just read, to `sink`.
    ///
    /// It overwrites the bytes before `HEADROOM`.
    #[inline]
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        end: usize,
        mut sink: impl FnMut(Item<'_>),
    ) -> Result<(), Broken> {
        let start = HEADROOM - self.rest.len();
        buffer[start..HEADROOM].copy_from_slice(&self.rest);
        self.rest.clear();
        let mut input = &buffer[start..end];
        if let Some(mut current) = self.current.take() {
            let missing = usize::try_from(current.missing).unwrap_or(usize::MAX);
            if missing > input.len() {
                current.missing -= input.len() as u64;
                self.current = Some(current);
                return Ok(());
            }
            input = &input[missing..];
            sink(Item::Message(current.message));
        }
        while let [first, second, ..] = *input {
            let (head_len, payload_len) = match second {
                0..=125 => (2, u64::from(second)),
                126 => match input.get(2..).and_then(|it| it.first_chunk()) {
                    Some(len) => (4, u64::from(u16::from_be_bytes(*len))),
                    None => break,
                },
                127 => match input.get(2..).and_then(|it| it.first_chunk()) {
                    Some(len) => (10, u64::from_be_bytes(*len)),
                    None => break,
                },
                _ => return Err(Broken(first, second)),
            };
            let frame_len =
                usize::try_from(payload_len).map_or(usize::MAX, |it| it.saturating_add(head_len));
            match first {
                0x81 | 0x82 => {
                    let start_len = match self.protocol {
                        Protocol::V1 => STAMP_BYTES,
                        Protocol::V2 | Protocol::Sse => START_BYTES,
                    };
                    let start_len = start_len.min(frame_len - head_len);
                    if input.len() < head_len + start_len {
                        break;
                    }
                    let start = &input[head_len..head_len + start_len];
                    let message = Message::of(self.protocol, start, payload_len);
                    if frame_len > input.len() {
                        let missing = (frame_len - input.len()) as u64;
                        self.current = Some(Current { message, missing });
                        return Ok(());
                    }
                    sink(Item::Message(message));
                }
                0x88..=0x8a if head_len == 2 => {
                    let Some(payload) = input.get(head_len..frame_len) else { break };
                    sink(match first {
                        0x88 => Item::Close(
                            payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code)),
                        ),
                        0x89 => Item::Ping(payload),
                        _ => Item::Pong,
                    });
                }
                _ => return Err(Broken(first, second)),
            }
            input = &input[frame_len..];
        }
        self.rest.extend_from_slice(input);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wserver_protocol::connection::{Code, Gap, Granted, Head, Notice, Refused, Reply};
    use wserver_protocol::{CloseCode, frame};

    use super::*;

    fn told(protocol: Protocol, input: &[u8], piece: usize) -> Result<Vec<String>, Broken> {
        let mut frames = Frames::new(protocol);
        let mut told = Vec::new();
        for piece in input.chunks(piece) {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend_from_slice(piece);
            let end = buffer.len();
            frames.read(&mut buffer, end, |item| told.push(format!("{item:?}")))?;
        }
        Ok(told)
    }

    /// The reader finds the same items, however the bytes are cut.
    #[test]
    fn frames_survive_any_cut() {
        for protocol in [Protocol::V1, Protocol::V2] {
            any_cut(protocol);
        }
    }

    fn any_cut(protocol: Protocol) {
        let mut text = [b'x'; 300];
        let stamp = Stamp { stream: 3, sequence: 77, micros: 1234 };
        stamp.write(text.first_chunk_mut().unwrap());
        let text = std::str::from_utf8(&text).unwrap();
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for len in [16, 100, 125, 126, 300] {
            input.extend_from_slice(&match protocol {
                Protocol::V1 => frame::text(&text[..len]),
                Protocol::V2 | Protocol::Sse => {
                    Head::new("event-07", "5f3a9c0112345678-99").frame(&text[..len])
                }
            });
            expected.push(format!("{:?}", Item::Message(Message::Push(stamp, len as u64))));
        }
        if protocol == Protocol::V2 {
            // The longest head that a server can send.
            let (id, at) = ("5f3a9c01-18446744073709551615", "5f3a9c01b2d4.ffffffffffffffff");
            let head = Head { event: "event-07", id, at: Some(at), ack: true };
            input.extend_from_slice(&head.frame(&text[..16]));
            let id = Word::new(id.as_bytes()).unwrap();
            expected.push(format!("{:?}", Item::Message(Message::Asked(stamp, 16, id))));
            let kept = Head { ack: false, ..head };
            input.extend_from_slice(&kept.frame(text));
            expected.push(format!("{:?}", Item::Message(Message::Push(stamp, 300))));
            let at = Some(at.to_owned());
            let gap = Gap { reason: "restarted".to_owned(), spread_seconds: 15 };
            for gap in [None, Some(gap)] {
                let is_gap = gap.is_some();
                let registered = Some(vec!["event-00".to_owned()]);
                let granted = Granted { registered, at: at.clone(), gap, ..Granted::default() };
                input.extend_from_slice(&frame::text(&Reply::ok(1, granted).encode()));
                let at = Word::new(at.as_ref().unwrap().as_bytes());
                expected.push(format!("{:?}", Item::Message(Message::Granted { at, is_gap })));
            }
        }
        for foreign in ["hello", "", "{\"event\":\"event-07\"}", "{\"event\":\"event-07\"}\nhi"] {
            input.extend_from_slice(&frame::text(foreign));
            expected.push("Message(Foreign)".to_owned());
        }
        let granted =
            Granted { registered: Some(vec!["event-00".to_owned()]), ..Granted::default() };
        let nothing = "Granted { at: None, is_gap: false }";
        let replies =
            [(Notice::Beat(25).encode(), "Said"), (Reply::ok(1, granted).encode(), nothing)];
        for (text, said) in replies {
            input.extend_from_slice(&frame::text(&text));
            let said = if protocol == Protocol::V2 { said } else { "Foreign" };
            expected.push(format!("Message({said})"));
        }
        let refused = Reply::error(Some(1), Refused::new(Code::Busy, "later"));
        input.extend_from_slice(&frame::text(&refused.encode()));
        expected.push("Message(Foreign)".to_owned());
        input.extend_from_slice(&frame::ping());
        expected.push("Ping([])".to_owned());
        input.extend_from_slice(&frame::pong(&[7; 125]));
        expected.push("Pong".to_owned());
        input.extend_from_slice(&frame::close(CloseCode::NORMAL, "bye"));
        expected.push("Close(1000)".to_owned());
        for piece in 1..=input.len() {
            assert_eq!(told(protocol, &input, piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for input in [[0x81, 0x85], [0xc1, 1], [0x01, 1], [0x80, 1], [0x83, 0]] {
            assert_eq!(told(Protocol::V1, &input, 2), Err(Broken(input[0], input[1])));
        }
    }
}
