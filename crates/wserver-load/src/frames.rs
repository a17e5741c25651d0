//! A fast reader of frames: walks heads in place, reads stamps, skips payloads.
//!
//! The protocol's decoder copies partial messages and checks UTF-8; a generator that shares a
//! machine with the server under test can afford neither. It refuses anything but a plain unmasked
//! frame.

use std::fmt;

use wserver_protocol::frame::CONTROL_BYTES_MAX;

use crate::stamp::{STAMP_BYTES, Stamp};

/// Space to leave in front of the bytes to read, for the start of a frame that an earlier read left
/// over.
pub(crate) const HEADROOM: usize = 2 + CONTROL_BYTES_MAX + 1;

/// One complete item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// A message with our stamp; the length is that of its payload.
    Message(Stamp, u64),
    /// A message without a stamp.
    Foreign,
    Ping(&'a [u8]),
    Pong,
    /// With its code, or zero without a code.
    Close(u16),
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
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The start of an incomplete frame, shorter than `HEADROOM`.
    rest: Vec<u8>,
    /// A message whose payload is incomplete.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    stamp: Option<Stamp>,
    payload_len: u64,
    missing: u64,
}

impl Frames {
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
            sink(message(current.stamp, current.payload_len));
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
                    let stamp_len = STAMP_BYTES.min(frame_len - head_len);
                    if input.len() < head_len + stamp_len {
                        break;
                    }
                    let stamp = Stamp::read(&input[head_len..head_len + stamp_len]);
                    if frame_len > input.len() {
                        let missing = (frame_len - input.len()) as u64;
                        self.current = Some(Current { stamp, payload_len, missing });
                        return Ok(());
                    }
                    sink(message(stamp, payload_len));
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

fn message(stamp: Option<Stamp>, payload_len: u64) -> Item<'static> {
    stamp.map_or(Item::Foreign, |stamp| Item::Message(stamp, payload_len))
}

#[cfg(test)]
mod tests {
    use wserver_protocol::CloseCode;
    use wserver_protocol::frame;

    use super::*;

    fn told(input: &[u8], piece: usize) -> Result<Vec<String>, Broken> {
        let mut frames = Frames::default();
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
        let mut text = [b'x'; 300];
        let stamp = Stamp { stream: 3, sequence: 77, micros: 1234 };
        stamp.write(text.first_chunk_mut().unwrap());
        let text = std::str::from_utf8(&text).unwrap();
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for len in [16, 100, 125, 126, 300] {
            input.extend_from_slice(&frame::text(&text[..len]));
            expected.push(format!("{:?}", Item::Message(stamp, len as u64)));
        }
        input.extend_from_slice(&frame::text("hello"));
        expected.push("Foreign".to_owned());
        input.extend_from_slice(&frame::ping());
        expected.push("Ping([])".to_owned());
        input.extend_from_slice(&frame::pong(&[7; 125]));
        expected.push("Pong".to_owned());
        input.extend_from_slice(&frame::close(CloseCode::NORMAL, "bye"));
        expected.push("Close(1000)".to_owned());
        for piece in 1..=input.len() {
            assert_eq!(told(&input, piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for input in [[0x81, 0x85], [0xc1, 1], [0x01, 1], [0x80, 1], [0x83, 0]] {
            assert_eq!(told(&input, 2), Err(Broken(input[0], input[1])));
        }
    }
}
