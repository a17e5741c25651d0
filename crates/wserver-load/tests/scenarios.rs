//! Every scenario at a small size, against a server that is small enough to be seen through, and
//! that can be told to lie.

#![expect(clippy::unwrap_used, reason = "a server that fails should fail its test")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use clap::Parser as _;
use socket2::{Domain, Socket, Type};
use wserver_load::{Report, Settings};
use wserver_protocol::connection::{self, Asked, Granted, Reply, Request};
use wserver_protocol::{
    DecodeLimits, Decoder, Inbound, Protocol, PushRequest, Register, Role, frame, receipt, v2,
};

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// One message in seven reaches nobody, and is counted.
    Loses,
    /// One in seven comes twice.
    Repeats,
    /// One in seven waits for the next to its user.
    Swaps,
    /// One answer in seven counts one too many.
    Miscounts,
    /// Two messages in fourteen, the same of two users by their count, come to each other's users,
    /// and so do all probes.
    Misdelivers,
}

/// What the stamp of a probe begins with: its stream, 255.
const PROBE: &str = "OO";

type Bound = (String, String, Protocol, TcpStream);

/// A message by each version.
type Frame = [bytes::Bytes; 2];

#[derive(Debug)]
struct Server {
    fault: Fault,
    state: Mutex<State>,
    /// Notified of each acknowledgement.
    acknowledged: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bound: Vec<Bound>,
    pushes: usize,
    /// Without probes, which come as often as it takes.
    messages: usize,
    /// By user.
    waiting: HashMap<String, Frame>,
    /// What is kept of the users whose position somebody asked for.
    kept: HashMap<String, Vec<bytes::Bytes>>,
    /// Acknowledgements, by push.
    acks: HashMap<String, usize>,
}

impl Server {
    fn start(fault: Fault) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            Arc::new(Self { fault, state: Mutex::default(), acknowledged: Condvar::new() });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (Arc::clone(&server), stream.unwrap());
                // A connection that breaks ends its thread, as it should.
                thread::spawn(move || server.serve(stream));
            }
        });
        address
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        loop {
            let mut path = String::new();
            let mut body_len = 0;
            let mut is_upgrade = false;
            let mut protocol = Protocol::V1;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(rest) = line.strip_prefix("post ") {
                    path = rest.split(' ').next().unwrap().to_owned();
                }
                if let Some(len) = line.strip_prefix("content-length: ") {
                    body_len = len.parse().unwrap();
                }
                is_upgrade |= line == "upgrade: websocket";
                if line == "sec-websocket-protocol: wserver.v2" {
                    protocol = Protocol::V2;
                }
                if line.is_empty() {
                    break;
                }
            }
            if is_upgrade {
                writer.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
                )?;
                if protocol == Protocol::V2 {
                    writer.write_all(b"Sec-WebSocket-Protocol: wserver.v2\r\n")?;
                }
                writer.write_all(b"\r\n")?;
                let address = writer.peer_addr()?;
                let outcome = self.listen(protocol, reader.buffer().to_vec(), &writer);
                let mut state = self.state.lock().unwrap();
                state.bound.retain(|(_, _, _, it)| it.peer_addr().is_ok_and(|it| it != address));
                return outcome;
            }
            let mut body = vec![0; body_len];
            reader.read_exact(&mut body)?;
            let answer = match path.as_str() {
                "/push" => {
                    let (_, count) = self.push(&PushRequest::parse(&body).unwrap(), false);
                    receipt::sent(count).into_owned()
                }
                "/v2/push" => self.wait(&v2::Push::parse(&body).unwrap()),
                _ => {
                    let user = v2::PositionOf::parse(&body).unwrap().user;
                    v2::encode(&v2::PositionNow { at: self.position(&user) })
                }
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            writer.write_all(head.as_bytes())?;
        }
    }

    fn listen(
        &self,
        protocol: Protocol,
        mut input: Vec<u8>,
        mut stream: &TcpStream,
    ) -> std::io::Result<()> {
        let limits = DecodeLimits { message_bytes_max: 1024, fragments_max: 1 };
        let mut decoder = Decoder::new(Role::Server);
        stream.write_all(&frame::ping())?;
        loop {
            let mut close = None;
            let decoded = decoder.decode(&limits, &mut input, |inbound| {
                match inbound {
                    Inbound::Text(text) if text.starts_with("{\"ack\"") => {
                        let id = text.trim_matches(|it: char| !it.is_ascii_digit()).to_owned();
                        *self.state.lock().unwrap().acks.entry(id).or_default() += 1;
                        self.acknowledged.notify_all();
                    }
                    Inbound::Text(text) => {
                        let (user, events): (String, Vec<String>) = match protocol {
                            Protocol::V1 => {
                                let register = Register::parse(text.as_bytes()).unwrap();
                                (register.token.into(), vec![register.event.into()])
                            }
                            Protocol::V2 | Protocol::Sse => {
                                let request = Request::parse(text.as_bytes()).unwrap();
                                let Asked::Register { events, token, after } = request.asked else {
                                    panic!("{text}")
                                };
                                let user = token.unwrap();
                                let (registered, at) = (Some(events.clone()), self.position(&user));
                                let granted =
                                    Granted { registered, at: Some(at), ..Granted::default() };
                                let reply = Reply::ok(request.id, granted).encode();
                                stream.write_all(&frame::text(&reply)).unwrap();
                                if let Some(after) = after {
                                    let seen: usize = after[13..].parse().unwrap();
                                    for frame in &self.state.lock().unwrap().kept[&user][seen..] {
                                        stream.write_all(frame).unwrap();
                                    }
                                }
                                (user, events)
                            }
                        };
                        for event in events {
                            let stream = stream.try_clone().unwrap();
                            let bound = (user.clone(), event, protocol, stream);
                            self.state.lock().unwrap().bound.push(bound);
                        }
                    }
                    Inbound::Close(Some((code, _))) => close = Some(frame::close(code, "")),
                    _ => {}
                }
                ControlFlow::Continue(())
            });
            decoded.unwrap();
            if let Some(close) = close {
                stream.write_all(&close)?;
                // Closing with bytes unread would be a reset, and the Close would be lost.
                return stream.read_to_end(&mut input).map(drop);
            }
            input.resize(1024, 0);
            let count = stream.read(&mut input)?;
            if count == 0 {
                return Ok(());
            }
            input.truncate(count);
        }
    }

    /// Begins to keep messages for the user, if it has not; tells how many there are.
    fn position(&self, user: &str) -> String {
        let mut state = self.state.lock().unwrap();
        let kept = state.kept.entry(user.to_owned()).or_default();
        format!("5f3a9c01b2d4.{}", kept.len())
    }

    /// Makes a push, and waits until every connection has acknowledged it.
    fn wait(&self, push: &v2::Push<'_>) -> String {
        let v2::Recipients::User(user) = &push.recipients else { panic!("for one user") };
        let request = PushRequest {
            user_id: user.into(),
            event: (&push.event).into(),
            message: push.message.clone(),
        };
        let (id, matched) = self.push(&request, true);
        let is_short = |state: &mut State| state.acks.get(&id).copied().unwrap_or(0) < matched;
        let mut state = self.state.lock().unwrap();
        if self.fault == Fault::None {
            state = self.acknowledged.wait_while(state, is_short).unwrap();
        }
        let acked = state.acks.get(&id).copied().unwrap_or(0);
        let acks = Some(v2::Acks { acked, waiting: matched - acked, ..v2::Acks::default() });
        let delivery = v2::Delivery { matched, written: matched, acks, ..v2::Delivery::default() };
        v2::encode(&v2::PushAnswer { id, delivery, users: None, results: None })
    }

    /// Makes a push; tells its id, and how many connections took it.
    fn push(&self, push: &PushRequest<'_>, ack: bool) -> (String, usize) {
        let mut state = self.state.lock().unwrap();
        state.pushes += 1;
        state.messages += usize::from(!push.message.starts_with(PROBE));
        let frame = [
            frame::text(&push.message),
            connection::Head { ack, ..connection::Head::new(&push.event, state.pushes) }
                .frame(&push.message),
        ];
        let id = state.pushes.to_string();
        let is_seventh = state.pushes.is_multiple_of(7);
        if let Some(kept) = state.kept.get_mut(&*push.user_id)
            && !(self.fault == Fault::Loses && is_seventh)
        {
            kept.push(frame[1].clone());
        }
        let mut frames: Vec<_> = state.waiting.remove(&*push.user_id).into_iter().collect();
        match self.fault {
            Fault::Loses if is_seventh => {}
            Fault::Repeats if is_seventh => frames.extend([frame.clone(), frame]),
            Fault::Swaps if is_seventh && frames.is_empty() => {
                state.waiting.insert(push.user_id.to_string(), frame);
            }
            _ => frames.insert(0, frame),
        }
        let wanted = match self.fault {
            Fault::Misdelivers if state.messages.div_ceil(2).is_multiple_of(7) => {
                neighbour(&push.user_id)
            }
            _ => push.user_id.to_string(),
        };
        let mut count = usize::from(self.fault == Fault::Miscounts && is_seventh);
        for (user, event, protocol, stream) in &mut state.bound {
            if *user == wanted && *event == push.event {
                count += 1;
                for [v1, v2] in &frames {
                    // It may have left.
                    let _ = stream.write_all(if *protocol == Protocol::V1 { v1 } else { v2 });
                }
            }
        }
        (id, count)
    }
}

/// The other of two users whose names end in 0 and in 1.
fn neighbour(user: &str) -> String {
    let (rest, last) = user.split_at(user.len() - 1);
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}

fn run(address: SocketAddr, line: &str) -> anyhow::Result<Report> {
    let line = format!("wserver-load --address {address} {line}");
    wserver_load::run(&Settings::try_parse_from(line.split_whitespace())?)
}

const SHORT: &str = "--warmup 20ms --duration 100ms";

#[test]
fn every_scenario_holds_at_size_three() {
    let pid = std::process::id();
    for line in [
        "idle --connections 3 --heartbeats 1".to_owned(),
        format!("fanout --connections 3 --pushers 3 --saturated {SHORT}"),
        format!(
            "fanout --connections 3 --pushers 1 --saturated --events 2 {SHORT} --message-bytes 16"
        ),
        format!("fanout --connections 3 --pushers 2 --paced 200 {SHORT} --message-bytes 70000"),
        format!("unicast --connections 3 --pushers 3 {SHORT} --sources 2"),
        format!("unicast --connections 3 --pushers 2 --rate 300 {SHORT} --pid {pid}"),
        format!("unicast --connections 3 --pushers 2 --rate 300 {SHORT} --no-spin"),
        format!("unicast --connections 3 --each 2 --pushers 3 {SHORT} --broker-pid {pid}"),
        "idle --connections 3 --users 2 --heartbeats 0".to_owned(),
        format!("churn --concurrency 3 --steady 3 {SHORT}"),
        format!("mass-disconnect --connections 3 --steady 3 --arrivals 30 {SHORT}"),
        format!("slow-readers --connections 3 --stalled 0 --rate 100 {SHORT}"),
        "idle --connections 3 --events 2 --heartbeats 1 --protocol v2".to_owned(),
        format!("fanout --connections 4 --pushers 3 --saturated --protocol mixed {SHORT}"),
        format!("unicast --connections 3 --each 2 --pushers 3 --protocol mixed {SHORT}"),
        format!("churn --concurrency 3 --steady 3 --protocol v2 {SHORT}"),
        "resume --connections 3 --messages 4 --pushers 2 --protocol v2".to_owned(),
        format!("kept --users 5 --messages 2 --checked 2 --protocol v2 --pid {pid}"),
        format!("waits --connections 3 --pushes 4 --rate 200 --protocol v2 --pid {pid}"),
    ] {
        // A server of its own for each: one may not have noticed yet who left.
        let address = Server::start(Fault::None);
        let report = run(address, &line).unwrap_or_else(|err| panic!("{line}: {err:#}"));
        assert!(report.is_true(), "{line}\n{report}");
        let json = report.into_json();
        assert_eq!(json["is_true"], true);
        assert!(!json["checks"].as_array().unwrap().is_empty());
    }
}

#[test]
fn a_server_that_lies_is_found_out() {
    for (fault, found) in [
        (Fault::Loses, "UNTRUE lost"),
        (Fault::Repeats, "UNTRUE duplicated"),
        (Fault::Swaps, "UNTRUE out of order"),
        (Fault::Miscounts, "UNTRUE frames"),
        (Fault::Misdelivers, "UNTRUE duplicated"),
    ] {
        let line =
            format!("unicast --connections 2 --pushers 2 --rate 500 {SHORT} --patience 200ms");
        for protocol in ["v1", "v2"] {
            let address = Server::start(fault);
            let report = run(address, &format!("{line} --protocol {protocol}")).unwrap();
            let told = report.to_string();
            assert!(!report.is_true() && told.contains(found), "{fault:?} {protocol}\n{told}");
        }
    }
}

#[test]
fn what_is_not_replayed_or_acknowledged_is_found_out() {
    for (fault, line, found) in [
        (Fault::Loses, "resume --connections 2 --messages 7", "UNTRUE lost"),
        (Fault::Loses, "kept --users 2 --messages 7", "UNTRUE lost"),
        (Fault::Miscounts, "waits --connections 2 --pushes 3 --rate 500", "UNTRUE acknowledged"),
    ] {
        let address = Server::start(fault);
        let report = run(address, &format!("{line} --protocol v2 --patience 200ms")).unwrap();
        let told = report.to_string();
        assert!(!report.is_true() && told.contains(found), "{fault:?} {line}\n{told}");
    }
    let address = Server::start(Fault::None);
    assert!(run(address, "resume --connections 2").is_err(), "version 1 has no positions");
}

/// Where nobody listens, as long as the socket lives.
fn nobody() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn connections_and_pushers_may_be_elsewhere() {
    let address = Server::start(Fault::None);
    let (_socket, nobody) = nobody();
    let line = format!(
        "unicast --connections 3 --pushers 3 {SHORT} --listener-address {address} --pusher-address {address} --pusher-address {address}"
    );
    let report = run(nobody, &line).unwrap();
    assert!(report.is_true(), "{report}");
}

/// A generator that is held, and has said that all is open.
fn held(scenario: &str) -> (Child, BufReader<ChildStdout>) {
    let address = Server::start(Fault::None);
    let mut child = Command::new(env!("CARGO_BIN_EXE_wserver-load"))
        .args(["--address", &address.to_string(), "--hold"])
        .args(scenario.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "open\n", "{scenario}");
    (child, output)
}

#[test]
fn who_is_held_goes_on_when_told() {
    for scenario in [
        format!("unicast --connections 2 --pushers 2 {SHORT}"),
        "idle --connections 2 --heartbeats 1".to_owned(),
    ] {
        let (mut child, mut output) = held(&scenario);
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut table = String::new();
        output.read_to_string(&mut table).unwrap();
        assert!(
            child.wait().unwrap().success() && table.contains("cut off"),
            "{scenario}\n{table}"
        );
    }
}

#[test]
fn who_is_held_ends_with_who_holds_it() {
    let (mut child, mut output) = held(&format!("unicast --connections 2 --pushers 2 {SHORT}"));
    drop(child.stdin.take());
    let mut table = String::new();
    output.read_to_string(&mut table).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("standard input ended"), "{said}");
    assert_eq!(table, "");
}

#[test]
fn what_is_no_push_server_is_an_error() {
    let (_socket, address) = nobody();
    assert!(run(address, "idle --connections 1").is_err());
}
