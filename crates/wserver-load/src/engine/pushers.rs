//! The HTTP connections that push, and what they ask.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use mio::event::Event;
use mio::{Interest, Token};

use super::{Engine, in_turn};
use crate::connection;
use crate::pusher::Pusher;
use crate::sampler::wrapped;
use crate::socket::Socket;
use crate::stamp::Stamp;
use crate::target::{Ask, PushTemplate};

impl Engine {
    /// Opens HTTP connections until there are `count`.
    pub(crate) fn open_pushers(&mut self, count: usize) -> Result<()> {
        while self.pushers.len() < count {
            let pusher = self.connect_pusher(self.pushers.len())?;
            self.pushers.push(pusher);
        }
        Ok(())
    }

    fn connect_pusher(&mut self, number: usize) -> Result<Pusher> {
        let address = in_turn(&self.pusher_addresses, number);
        let mut stream = connection::connect(address, None, None)
            .with_context(|| format!("cannot connect to {address}"))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.pusher_poll.registry().register(&mut stream, Token(number), interest)?;
        let request = self.request(address);
        Ok(Pusher::new(Socket::new(stream, self.tls.as_ref())?, request))
    }

    fn request(&self, address: SocketAddr) -> PushTemplate {
        let key = self.push_key.as_deref();
        self.target.request(self.ask, address, key, self.message_bytes)
    }

    /// From now on pushers, which are idle, ask this.
    pub(crate) fn ask(&mut self, ask: Ask) {
        self.ask = ask;
        for number in 0..self.pushers.len() {
            self.pushers[number].request = self.request(in_turn(&self.pusher_addresses, number));
        }
    }

    /// Sends one push; the answer comes in a later turn.
    pub(crate) fn send(
        &mut self,
        pusher: usize,
        user: u32,
        event: u32,
        (stream, sequence): (u8, u32),
        due: u64,
    ) -> Result<()> {
        let stamp = Stamp { stream, sequence, micros: wrapped(due) };
        if self.pushers[pusher].is_closed {
            self.pushers[pusher] = self.connect_pusher(pusher)?;
        }
        let pusher = &mut self.pushers[pusher];
        pusher.request.fill(user, event, stamp);
        pusher.start(user, due)
    }

    /// Serves the socket of one pusher.
    pub(super) fn handle_pusher(&mut self, event: &Event) -> Result<()> {
        let Token(number) = event.token();
        let now = self.now();
        let pusher = &mut self.pushers[number];
        if event.is_writable() {
            pusher.handle_writable()?;
        }
        if event.is_readable() {
            let (buffer, is_read_closed) = (&mut self.buffer, event.is_read_closed());
            let answer =
                pusher.handle_readable(number, self.target, buffer, is_read_closed, now)?;
            self.answers.extend(answer);
        }
        Ok(())
    }
}
