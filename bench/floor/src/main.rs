//! The floor: the least a server can do for a push, in one thread and one epoll loop.
//!
//! A push is encoded once and written with one `send(2)` to each connection. Nothing is queued: who
//! does not take a frame at once is cut off. There are no heartbeats, no limits, no checks, and the
//! answer to every handshake is the same; it serves the benchmark's generator and nobody else.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

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
    frame: Vec<u8>,
}

fn main() -> io::Result<()> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .ok_or_else(|| io::Error::other("give it an address to listen on"))?;
    let mut listener = TcpListener::bind(address)?;
    let mut floor = Floor {
        poll: Poll::new()?,
        clients: Vec::new(),
        free: Vec::new(),
        names: HashMap::new(),
        groups: Vec::new(),
        frame: Vec::new(),
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
                Token(number) => floor.read(number, &mut buffer),
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

    fn read(&mut self, number: usize, buffer: &mut [u8]) {
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
        let Some(message) = between(input, b"\"message\":\"", b"\"}") else {
            client.rest = Some(Box::new(input.to_vec()));
            return Ok(());
        };
        let name = name(input, b"\"userId\":\"");
        self.frame.clear();
        encode(&mut self.frame, message);
        let mut lost = Vec::new();
        let mut count = 0;
        let group = name.and_then(|name| self.names.get(&*name));
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
        let body = format!("message sent to {count} clients");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        match &mut self.clients[number] {
            Some(client) => client.stream.write_all(answer.as_bytes()),
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
        let Some(name) = name(&text, b"\"token\":\"") else { return Ok(()) };
        let next = self.groups.len() as u32;
        let group = *self.names.entry(name).or_insert(next);
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

/// The user and the event that a request names.
fn name(input: &[u8], user_key: &[u8]) -> Option<Box<[u8]>> {
    let user = between(input, user_key, b"\"")?;
    let event = between(input, b"\"event\":\"", b"\"")?;
    Some([user, b"\n", event].concat().into())
}

fn between<'a>(input: &'a [u8], before: &[u8], after: &[u8]) -> Option<&'a [u8]> {
    let start = input.windows(before.len()).position(|it| it == before)? + before.len();
    let len = input[start..].windows(after.len()).position(|it| it == after)?;
    Some(&input[start..start + len])
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
