//! Finds the ends of a request's head and body, as the bytes pass on their way to hyper.
//!
//! Requests with both `Content-Length` and `Transfer-Encoding`, or with two lengths, can be
//! smuggled past a proxy (RFC 9112, section 6.1). hyper drops one of these headers before we see
//! them, so this module counts the lines of a head that give a length. It looks only at heads,
//! because a body may contain anything.

use memchr::memchr;

/// The beginning of the lines to count.
const LENGTH: &[u8] = b"content-length:";

/// The part of a request's head that has come.
#[derive(Debug, Default)]
pub(crate) struct Head {
    line: Line,
    /// A line that is not empty has come; empty lines before a request do not count (RFC 9112,
    /// section 2.2).
    pub(crate) has_begun: bool,
    /// The number of lines that give a length.
    pub(crate) lengths: u32,
}

/// The part of a line that has come.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// So many bytes, all equal to those of `LENGTH`.
    Matches(usize),
    /// Others too.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Self::Matches(0)
    }
}

impl Head {
    /// Takes new bytes; returns where among them the head ends, if it does.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.line {
                Line::Matches(0) if byte == b'\n' => {
                    at += 1;
                    if self.has_begun {
                        return Some(at);
                    }
                }
                Line::Matches(0) if byte == b'\r' => at += 1,
                Line::Matches(matched) => {
                    self.has_begun = true;
                    // The byte that differs is checked again, because it may end the line.
                    self.line = Line::Other;
                    if byte.eq_ignore_ascii_case(&LENGTH[matched]) {
                        at += 1;
                        if matched + 1 == LENGTH.len() {
                            self.lengths += 1;
                        } else {
                            self.line = Line::Matches(matched + 1);
                        }
                    }
                }
                Line::Other => {
                    at += memchr(b'\n', &bytes[at..])? + 1;
                    self.line = Line::default();
                }
            }
        }
        None
    }
}

/// The part of a body that is still to come.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(u64),
    Chunks(Chunks),
}

impl Body {
    /// Takes new bytes; returns where among them the body ends, if it does.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Bytes(left) => match usize::try_from(*left) {
                Ok(length) if length <= bytes.len() => Some(length),
                _ => {
                    *left -= bytes.len() as u64;
                    None
                }
            },
            Self::Chunks(chunks) => chunks.take(bytes),
        }
    }
}

/// A body in chunks (RFC 9112, section 7.1). hyper reports what is wrong with it, and then the
/// connection ends.
#[derive(Debug, Default)]
pub(crate) enum Chunks {
    /// Digits of a chunk's size.
    Size(u64),
    /// The rest of the line with the size.
    Extension(u64),
    /// The rest of a chunk, including the line end after it.
    Data(u64),
    /// A line after the last chunk, and whether it is not empty.
    Trailer(bool),
    #[default]
    Start,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            *self = match *self {
                Self::Start | Self::Size(_) | Self::Extension(_) if byte == b'\n' => {
                    match self.size() {
                        0 => Self::Trailer(false),
                        size => Self::Data(size.saturating_add(2)),
                    }
                }
                Self::Start | Self::Size(_) => match char::from(byte).to_digit(16) {
                    Some(digit) => {
                        Self::Size(self.size().saturating_mul(16).saturating_add(digit.into()))
                    }
                    None => Self::Extension(self.size()),
                },
                Self::Extension(size) => Self::Extension(size),
                Self::Data(left) => {
                    let here = (bytes.len() - at + 1) as u64;
                    let passed = left.min(here);
                    at += usize::try_from(passed).unwrap_or(usize::MAX) - 1;
                    if passed == left { Self::Start } else { Self::Data(left - passed) }
                }
                Self::Trailer(false) if byte == b'\n' => return Some(at),
                Self::Trailer(true) if byte == b'\n' => Self::Trailer(false),
                Self::Trailer(has_any) => Self::Trailer(has_any || byte != b'\r'),
            };
        }
        None
    }

    fn size(&self) -> u64 {
        match *self {
            Self::Size(size) | Self::Extension(size) => size,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end is found wherever the bytes are cut.
    fn end(
        mut take: impl FnMut(&[u8]) -> Option<usize>,
        bytes: &[u8],
        cut: usize,
    ) -> Option<usize> {
        let (first, second) = bytes.split_at(cut);
        take(first).or_else(|| take(second).map(|end| end + cut))
    }

    #[test]
    fn a_head_ends_with_an_empty_line_and_its_lengths_are_counted() {
        for (head, lengths) in [
            ("GET / HTTP/1.1\r\n\r\n", 0),
            ("GET / HTTP/1.1\nHost: a\n\n", 0),
            ("\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", 1),
            ("\nPOST / HTTP/1.1\r\ncontent-length:4\r\nCONTENT-LENGTH:4\r\n\r\n", 2),
            ("POST / HTTP/1.1\r\nContent-Length-Of: 4\r\nContent-Lengt: 4\r\n\r\n", 0),
            ("POST / HTTP/1.1\r\nX: content-length:\r\ncontent-\r\n\r\n", 0),
        ] {
            for cut in 0..=head.len() {
                let all =
                    [head.as_bytes(), b"content-length: 1\r\ncontent-length: 2\r\n\r\n"].concat();
                let mut scanned = Head::default();
                assert_eq!(
                    end(|it| scanned.take(it), &all, cut),
                    Some(head.len()),
                    "{head:?} {cut}"
                );
                assert_eq!(scanned.lengths, lengths, "{head:?} {cut}");
                let mut half = Head::default();
                assert_eq!(half.take(&all[..head.len() - 1]), None, "{head:?}");
            }
        }
    }

    #[test]
    fn a_body_ends_where_hyper_ends_it() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=b\r\n\r\n\r\n0\r\n0;x\r\n\r\n",
            "A\r\n0123456789\r\n000\r\nTrailer: 0\r\n\r\n",
            "0b \r\n0\r\n\r\n0\r\n\r\n0\r\n00\r\nA: b\r\nC: d\r\n\r\n",
        ] {
            let all = [body.as_bytes(), b"POST / HTTP/1.1\r\n\r\n"].concat();
            for cut in 0..=body.len() {
                let mut chunks = Body::Chunks(Chunks::default());
                assert_eq!(
                    end(|it| chunks.take(it), &all, cut),
                    Some(body.len()),
                    "{body:?} {cut}"
                );
            }
        }
        let mut bytes = Body::Bytes(7);
        assert_eq!((bytes.take(b"123"), bytes.take(b"4567890")), (None, Some(4)));
    }
}
