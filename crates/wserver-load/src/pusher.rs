//! One keep-alive HTTP connection that pushes, one request at a time.

use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, Result, ensure};
use wserver_protocol::v2::Acks;

use crate::frames::Word;
use crate::socket::Socket;
use crate::target::{PushTemplate, Said, Target};

/// A push that has its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) pusher: usize,
    pub(crate) user: u32,
    pub(crate) status: u16,
    /// How many connections took the message, according to the server.
    pub(crate) count: Option<u64>,
    pub(crate) acks: Option<Acks>,
    pub(crate) at: Option<Word>,
    /// When it was or should have been sent, in microseconds of the engine's clock.
    pub(crate) due: u64,
    pub(crate) done: u64,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    user: u32,
    due: u64,
    written: usize,
}

/// One HTTP connection.
#[derive(Debug)]
pub(crate) struct Pusher {
    pub(crate) socket: Socket,
    pub(crate) request: PushTemplate,
    /// The server closed the connection, as it may while no request is under way.
    pub(crate) is_closed: bool,
    in_flight: Option<InFlight>,
    response: Vec<u8>,
}

impl Pusher {
    pub(crate) fn new(socket: Socket, request: PushTemplate) -> Self {
        Self { socket, request, is_closed: false, in_flight: None, response: Vec::new() }
    }

    /// Sends the request, which is already filled in for `user`.
    pub(crate) fn start(&mut self, user: u32, due: u64) -> Result<()> {
        debug_assert!(self.in_flight.is_none(), "one push at a time");
        self.in_flight = Some(InFlight { user, due, written: 0 });
        self.handle_writable()
    }

    pub(crate) fn handle_writable(&mut self) -> Result<()> {
        self.socket.write_kept().context("cannot push")?;
        let Some(in_flight) = &mut self.in_flight else { return Ok(()) };
        while in_flight.written < self.request.bytes().len() {
            match self.socket.write(&self.request.bytes()[in_flight.written..]) {
                Ok(count) => in_flight.written += count,
                Err(error) => match error.kind() {
                    // A socket that is still connecting reports that it is not connected.
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => break,
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error).context("cannot push"),
                },
            }
        }
        Ok(())
    }

    /// Reads what has arrived of the answer.
    pub(crate) fn handle_readable(
        &mut self,
        number: usize,
        target: Target,
        buffer: &mut [u8],
        is_read_closed: bool,
        now: u64,
    ) -> Result<Option<Answer>> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) if self.in_flight.is_none() => {
                    self.is_closed = true;
                    return Ok(None);
                }
                Ok(0) => {
                    self.is_closed = true;
                    break;
                }
                Ok(count) => {
                    self.response.extend_from_slice(&buffer[..count]);
                    if self.socket.is_drained(count, buffer.len()) && !is_read_closed {
                        break;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error).context("cannot read the answer to a push"),
                },
            }
        }
        let Some((status, body, len)) = parse(&self.response)? else {
            ensure!(!self.is_closed, "the server closed a pusher's connection");
            return Ok(None);
        };
        let in_flight =
            self.in_flight.take().context("the server sent an answer without a push")?;
        ensure!(len == self.response.len(), "the server answered one push more than once");
        let Said { count, acks, at } = target.said(body);
        let answer = Answer {
            pusher: number,
            user: in_flight.user,
            status,
            count,
            acks,
            at,
            due: in_flight.due,
            done: now,
        };
        self.response.clear();
        Ok(Some(answer))
    }
}

/// The status and the body of a complete answer, and where it ends.
fn parse(response: &[u8]) -> Result<Option<(u16, &str, usize)>> {
    let Some(head_len) = response.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head =
        std::str::from_utf8(&response[..head_len]).context("the head of an answer is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|it| it.parse().ok()).context("an answer has no status")?;
    let body_len = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse::<usize>())
        .context("the Content-Length of an answer is not a number")?;
    let end = head_len + 4 + body_len;
    let Some(body) = response.get(head_len + 4..end) else { return Ok(None) };
    Ok(Some((status, std::str::from_utf8(body).context("the body of an answer is not text")?, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\ndate: now\r\n\r\nmessage sent to 1 clients";
        for len in 0..answer.len() {
            assert!(parse(&answer[..len]).unwrap().is_none(), "{len}");
        }
        let (status, body, end) = parse(answer).unwrap().unwrap();
        assert_eq!((status, body, end), (200, "message sent to 1 clients", answer.len()));
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
