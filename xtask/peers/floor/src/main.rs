//! The floor: the least a server can do for a push, in one thread and one epoll loop.
//!
//! A push is encoded once and written with one `send(2)` to each connection. Nothing is queued: who
//! does not take a frame at once is cut off. There are no heartbeats, no limits, no checks, and the
//! answer to every handshake is the same; it serves the benchmark's generator and nobody else.
//!
//! It is written plainly: it reads until there is no more, and looks for a push's names byte by
//! byte. With `bare` behind the address it does both as well as can be: a short read is the last
//! one, and the search is vectorised.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use memchr::memmem::Finder;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Nobody yet.
const NO_GROUP: u32 = u32::MAX;

struct Client {
    stream: TcpStream,
    group: u32,
    is_websocket: bool,
    /// A request that has not come whole.
    rest: Option<Box<Vec<u8>>>,
}

struct Floor {
    poll: Poll,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// By user and event, as they stand in the requests.
    names: HashMap<Box<[u8]>, u32>,
    groups: Vec<Vec<u32>>,
    is_bare: bool,
    keys: Keys,
    name: Vec<u8>,
    frame: Vec<u8>,
    answer: Vec<u8>,
}

/// What is searched for.
struct Keys {
    user: Key,
    token: Key,
    event: Key,
    message: Key,
}

struct Key {
    text: &'static [u8],
    /// Made ready for a search that is vectorised.
    finder: Option<Finder<'static>>,
}

fn main() -> io::Result<()> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .ok_or_else(|| io::Error::other("give it an address to listen on"))?;
    let is_bare = std::env::args().nth(2).is_some_and(|it| it == "bare");
    let key = |text: &'static [u8]| Key { text, finder: is_bare.then(|| Finder::new(text)) };
    let mut listener = TcpListener::bind(address)?;
    let mut floor = Floor {
        poll: Poll::new()?,
        clients: Vec::new(),
        free: Vec::new(),
        names: HashMap::new(),
        groups: Vec::new(),
        is_bare,
        keys: Keys {
            user: key(b"\"userId\":\""),
            token: key(b"\"token\":\""),
            event: key(b"\"event\":\""),
            message: key(b"\"message\":\""),
        },
        name: Vec::new(),
        frame: Vec::new(),
        answer: Vec::new(),
    };
    floor.poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener)?,
                Token(number) => floor.read(number, event.is_read_closed(), &mut buffer),
            }
        }
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => continue,
            };
            stream.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            self.poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            self.clients[number] =
                Some(Client { stream, group: NO_GROUP, is_websocket: false, rest: None });
        }
    }

    fn read(&mut self, number: usize, is_ending: bool, buffer: &mut [u8]) {
        loop {
            let Some(client) = self.clients.get_mut(number).and_then(Option::as_mut) else {
                return;
            };
            match client.stream.read(buffer) {
                Ok(0) => return self.drop(number),
                Ok(count) => {
                    if self.handle(number, &buffer[..count]).is_err() {
                        return self.drop(number);
                    }
                    // A short read has taken all there was; what comes later is an event of its own.
                    if self.is_bare && count < buffer.len() && !is_ending {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop(number),
            }
        }
    }

    fn drop(&mut self, number: usize) {
        if let Some(client) = self.clients[number].take() {
            if let Some(group) = self.groups.get_mut(client.group as usize) {
                group.retain(|&member| member as usize != number);
            }
            self.free.push(number);
        }
    }

    fn handle(&mut self, number: usize, input: &[u8]) -> io::Result<()> {
        let Some(client) = &mut self.clients[number] else { return Ok(()) };
        if client.is_websocket {
            return self.register(number, input);
        }
        let joined;
        let input = match client.rest.take() {
            None => input,
            Some(mut rest) => {
                rest.extend_from_slice(input);
                joined = rest;
                &joined
            }
        };
        if input.ends_with(b"\r\n\r\n") && input.starts_with(b"GET ") {
            client.is_websocket = true;
            return client.stream.write_all(UPGRADE);
        }
        let message = quoted(input, &self.keys.message);
        let Some(message) = message.filter(|(_, rest)| rest.starts_with(b"\"}")) else {
            client.rest = Some(Box::new(input.to_vec()));
            return Ok(());
        };
        self.frame.clear();
        encode(&mut self.frame, message.0);
        let is_named = name(&mut self.name, input, &self.keys.user, &self.keys.event).is_some();
        let group = self.names.get(&*self.name).filter(|_| is_named);
        let mut lost = Vec::new();
        let mut count = 0u32;
        for &member in group.map_or(&[][..], |&group| &self.groups[group as usize]) {
            let Some(client) = &mut self.clients[member as usize] else { continue };
            match client.stream.write(&self.frame) {
                Ok(written) if written == self.frame.len() => count += 1,
                _ => lost.push(member as usize),
            }
        }
        for number in lost {
            self.drop(number);
        }
        let digits = count.checked_ilog10().unwrap_or(0) + 1;
        let length = "message sent to  clients".len() + digits as usize;
        self.answer.clear();
        write!(self.answer, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
        write!(self.answer, "message sent to {count} clients")?;
        match &mut self.clients[number] {
            Some(client) => client.stream.write_all(&self.answer),
            None => Ok(()),
        }
    }

    /// Takes a registration, which comes as one short masked frame; other frames are not looked at.
    fn register(&mut self, number: usize, input: &[u8]) -> io::Result<()> {
        let [first, second, rest @ ..] = input else { return Ok(()) };
        match first & 0x0f {
            0x1 => {}
            0x8 => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => return Ok(()),
        }
        let Some((key, payload)) = rest.split_first_chunk::<4>() else { return Ok(()) };
        let payload = &payload[..payload.len().min(usize::from(second & 0x7f))];
        let text: Vec<u8> =
            payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        if name(&mut self.name, &text, &self.keys.token, &self.keys.event).is_none() {
            return Ok(());
        }
        let next = self.groups.len() as u32;
        let group = *self.names.entry(self.name.clone().into()).or_insert(next);
        if group == next {
            self.groups.push(Vec::new());
        }
        self.groups[group as usize].push(number as u32);
        if let Some(client) = &mut self.clients[number] {
            client.group = group;
        }
        Ok(())
    }
}

/// Makes one name of the user and the event that a request names.
fn name(out: &mut Vec<u8>, input: &[u8], user: &Key, event: &Key) -> Option<()> {
    out.clear();
    out.extend_from_slice(quoted(input, user)?.0);
    out.push(b'\n');
    out.extend_from_slice(quoted(input, event)?.0);
    Some(())
}

/// What stands between a key and the next quote, and what comes from there.
fn quoted<'a>(input: &'a [u8], key: &Key) -> Option<(&'a [u8], &'a [u8])> {
    let start = match &key.finder {
        Some(finder) => finder.find(input)?,
        None => input.windows(key.text.len()).position(|it| it == key.text)?,
    };
    let value = &input[start + key.text.len()..];
    let len = match key.finder {
        Some(_) => memchr::memchr(b'"', value)?,
        None => value.iter().position(|&byte| byte == b'"')?,
    };
    Some(value.split_at(len))
}

fn encode(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match payload.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
