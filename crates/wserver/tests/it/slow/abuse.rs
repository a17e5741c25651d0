//! Abuse in quantity: thousands of connections that do wrong, bodies without end, no descriptors left.
//!
//! Throughout, those who do right are served; afterwards memory and descriptors are what they were.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::Command;

use wserver_protocol::frame::Opcode;

use super::is_left_out;
use crate::harness::{PATIENCE, Server, command, eventually};
use crate::raw::{End, Frame, Raw, Socket, handshake, masked, masked_close, push_request};

const MIB: u64 = 1024 * 1024;

/// Lets this process hold as many connections as a test needs.
fn raise_descriptors() {
    let limit =
        rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be raised to the hard one");
    assert!(limit >= 8192, "these tests need 8192 descriptors (ulimit -Hn is {limit})");
}

/// Those who were there before and those who come now are served.
struct Service<'a> {
    server: &'a Server,
    http: Raw,
    listener: Socket,
    pushes: u32,
}

impl<'a> Service<'a> {
    fn of(server: &'a Server) -> Self {
        let listener = Socket::registered(server, "jack", "news");
        let mut service = Self { server, http: Raw::connect(server), listener, pushes: 0 };
        // From here on the server holds both connections.
        service.check();
        service
    }

    fn check(&mut self) {
        self.pushes += 1;
        let message = format!("push {}", self.pushes);
        assert_eq!(self.http.push("jack", "news", &message), 1);
        let mut frame = self.listener.next();
        while frame.opcode == Opcode::Ping as u8 {
            self.listener.send(masked(Opcode::Pong, &frame.payload));
            frame = self.listener.next();
        }
        assert_eq!(frame, Frame::new(Opcode::Text, &message));
    }

    fn check_newcomers(&mut self) {
        self.check();
        assert_eq!(crate::raw::push(self.server, "rose", "news", "m"), 0);
        drop(Socket::registered(self.server, "rose", "news"));
    }
}

/// Whether nothing has come, neither an answer nor the end.
fn is_quiet(raw: &Raw) -> bool {
    raw.stream.set_nonblocking(true).unwrap();
    let is_quiet =
        raw.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    raw.stream.set_nonblocking(false).unwrap();
    is_quiet
}

#[test]
fn half_open_handshakes_are_dropped_while_service_goes_on() {
    if is_left_out("half_open_handshakes_are_dropped_while_service_goes_on") {
        return;
    }
    raise_descriptors();
    let server = Server::start();
    let mut service = Service::of(&server);
    let before = server.descriptors();
    let half = handshake(&[]);
    let mut half_open: Vec<Raw> = (0..2000)
        .map(|number| {
            let mut raw = Raw::connect(&server);
            raw.send(&half.as_bytes()[..number % half.len()]);
            raw
        })
        .collect();
    service.check_newcomers();
    eventually("all of them are dropped", || {
        service.check();
        half_open.retain_mut(|raw| is_quiet(raw) || raw.try_answer("GET").is_ok());
        half_open.is_empty()
    });
    service.check_newcomers();
    eventually("the descriptors are back", || server.descriptors() <= before);
}

/// Each of them sends another byte whenever it is its turn.
#[test]
fn dripping_heads_are_dropped_while_service_goes_on() {
    if is_left_out("dripping_heads_are_dropped_while_service_goes_on") {
        return;
    }
    raise_descriptors();
    let server = Server::start();
    let mut service = Service::of(&server);
    let before = server.descriptors();
    let mut dripping: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut raw = Raw::connect(&server);
            raw.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nX: ");
            raw.stream
        })
        .collect();
    eventually("all of them are dropped", || {
        service.check();
        dripping.retain_mut(|stream| stream.write_all(b"x").is_ok());
        dripping.is_empty()
    });
    service.check_newcomers();
    eventually("the descriptors are back", || server.descriptors() <= before);
}

/// With the default 20 s, and more of them than bodies fit into memory by what they announce.
#[test]
fn dripping_bodies_are_refused_while_service_goes_on() {
    if is_left_out("dripping_bodies_are_refused_while_service_goes_on") {
        return;
    }
    raise_descriptors();
    let server = Server::start();
    let mut service = Service::of(&server);
    let memory = server.resident_bytes();
    let mut dripping: Vec<Raw> = (0..1000)
        .map(|_| {
            let mut raw = Raw::connect(&server);
            raw.send("POST /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n");
            raw
        })
        .collect();
    let mut refused = 0;
    eventually("all of them are refused", || {
        service.check();
        dripping.retain_mut(|raw| {
            let goes_on = raw.stream.write_all(b" ").is_ok() && is_quiet(raw);
            if !goes_on {
                assert_eq!(raw.answer().status, 408);
                refused += 1;
            }
            goes_on
        });
        dripping.is_empty()
    });
    assert_eq!(refused, 1000);
    service.check_newcomers();
    let growth = server.resident_bytes().saturating_sub(memory);
    assert!(growth < 128 * MIB, "grew by {growth}");
}

#[test]
fn a_body_of_ten_gigabytes_is_refused_early() {
    if is_left_out("a_body_of_ten_gigabytes_is_refused_early") {
        return;
    }
    let server = Server::start();
    let mut service = Service::of(&server);
    let memory = server.resident_bytes();
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 10737418240"] {
        let mut raw = Raw::connect(&server);
        raw.send(format!("POST /push HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"));
        let mut piece = b"100000\r\n".to_vec();
        piece.resize(piece.len() + 0x10_0000, b' ');
        piece.extend_from_slice(b"\r\n");
        let mut pieces = 0;
        // It does not look up before it is cut off.
        let error = loop {
            if let Err(error) = raw.stream.write_all(&piece) {
                break error;
            }
            pieces += 1;
            assert!(pieces < 10 * 1024, "all of it was taken");
        };
        assert!(
            matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "{error}"
        );
        service.check_newcomers();
    }
    let growth = server.resident_bytes().saturating_sub(memory);
    assert!(growth < 64 * MIB, "grew by {growth}");
}

/// Connections that the kernel makes, whether or not the server ever takes them.
fn flood(server: &Server, connections: usize) -> Vec<TcpStream> {
    (0..connections)
        .filter_map(|_| TcpStream::connect_timeout(&server.address, PATIENCE).ok())
        .collect()
}

fn is_served(server: &Server) -> bool {
    let mut raw = Raw::connect(server);
    raw.send(push_request("nobody", "news", "m"));
    raw.try_answer("GET").is_ok_and(|answer| answer.status == 200)
}

#[test]
fn few_descriptors_are_enough_for_those_who_are_served() {
    if is_left_out("few_descriptors_are_enough_for_those_who_are_served") {
        return;
    }
    raise_descriptors();
    let binary = command().get_program().to_owned();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 256; exec \"$0\" --address 127.0.0.1:0 --log-format json"])
        .arg(binary)
        .env_clear();
    let mut server = Server::spawn(&mut limited);
    let log = server.read_log();
    let mut service = Service::of(&server);
    let before = server.descriptors();
    let silent = flood(&server, 1000);
    assert!(silent.len() > 256);
    for _ in 0..100 {
        service.check();
    }
    drop(silent);
    eventually("newcomers are served again", || is_served(&server));
    service.check_newcomers();
    eventually("the descriptors are back", || server.descriptors() <= before);
    // WebSockets alone cannot use up what HTTP needs.
    let mut sockets = Vec::new();
    loop {
        let mut raw = Raw::connect(&server);
        raw.send(handshake(&[]));
        match raw.try_answer("GET") {
            Ok(answer) if answer.status == 101 => sockets.push(raw),
            Ok(answer) => {
                assert_eq!(answer.status, 503);
                break;
            }
            Err(end) => panic!("{end:?} after {}", sockets.len()),
        }
        assert!(sockets.len() < 256);
    }
    service.check();
    assert!(is_served(&server));
    drop(sockets);
    eventually("the descriptors are back", || server.descriptors() <= before);
    service.check_newcomers();
    server.signal("TERM");
    drop(service);
    let log = log.join().expect("the log is text");
    assert!(log.contains("the limit of open files lowers the connection limits"), "{log}");
}

/// The limit shrinks under a running server, so that its accept fails.
#[test]
fn without_any_descriptor_left_the_served_are_served_and_it_recovers() {
    if is_left_out("without_any_descriptor_left_the_served_are_served_and_it_recovers") {
        return;
    }
    let mut server = Server::start();
    let log = server.read_log();
    let mut service = Service::of(&server);
    let before = server.descriptors();
    let limited = Command::new("prlimit")
        .args(["--pid", &server.pid().to_string(), &format!("--nofile={}", before + 4)])
        .status()
        .expect("prlimit is there");
    assert!(limited.success());
    let silent = flood(&server, 100);
    eventually("no descriptor is left", || server.descriptors() >= before + 3);
    for _ in 0..100 {
        service.check();
    }
    drop(silent);
    eventually("newcomers are served again", || is_served(&server));
    service.check_newcomers();
    eventually("the descriptors are back", || server.descriptors() <= before);
    server.signal("TERM");
    drop(service);
    let log = log.join().expect("the log is text");
    let failures = log.lines().filter(|line| line.contains("accept failed")).count();
    assert!((1..1000).contains(&failures), "{failures} lines about it: {log}");
}

/// One connection and the way it ends.
fn churn(server: &Server, way: usize) {
    match way {
        0 => {
            let mut socket = Socket::registered(server, "jack", "churn");
            socket.send(masked_close(1000, b""));
            assert_eq!(socket.closed().code, 1000);
        }
        1 => drop(Socket::registered(server, "jack", "churn")),
        2 => {
            let mut socket = Socket::open_on(Raw::connect_to_reset(server));
            socket.register("jack", "churn");
        }
        3 => {
            let mut raw = Raw::connect(server);
            raw.send(&handshake(&[]).as_bytes()[..50]);
        }
        4 => {
            let mut raw = Raw::connect_to_reset(server);
            raw.send(handshake(&[]));
        }
        5 => {
            let mut socket = Socket::registered(server, &format!("user {way}"), &"e".repeat(4096));
            socket.send([0xff; 100]);
            // What comes behind that is no frame, so no answer to the Close can be found in it.
            assert_eq!(socket.close().code, 1002);
        }
        6 => {
            let mut raw = Raw::connect(server);
            raw.push("jack", "nobody", &"m".repeat(10_000));
        }
        7 => drop(Raw::connect_to_reset(server)),
        8 => {
            let mut raw = Raw::connect(server);
            raw.send("POST /push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{");
        }
        _ => {
            let mut raw = Raw::connect(server);
            raw.send("nonsense\r\n\r\n");
            while raw.try_answer("GET").is_ok() {}
            assert_eq!(raw.end(), End::Eof);
        }
    }
}

/// A wave of connections with long names: what they took goes back to the system behind them.
#[test]
fn memory_goes_back_behind_a_wave() {
    if is_left_out("memory_goes_back_behind_a_wave") {
        return;
    }
    raise_descriptors();
    let server = Server::start();
    let mut service = Service::of(&server);
    let before = server.resident_bytes();
    let wave: Vec<Socket> = (0..2000)
        .map(|number| {
            let mut socket = Socket::open(&server);
            for event in 0..15 {
                let event = format!("{number}-{event}-{}", "e".repeat(4000));
                socket.register(&format!("user {number}"), &event);
            }
            socket
        })
        .collect();
    eventually("the wave is there", || server.resident_bytes() > before + 100 * MIB);
    drop(wave);
    eventually("its memory is back", || server.resident_bytes() < before + 40 * MIB);
    service.check_newcomers();
}

#[test]
fn churn_leaves_nothing_behind() {
    if is_left_out("churn_leaves_nothing_behind") {
        return;
    }
    const WAYS: usize = 10;
    let server = Server::start();
    let mut service = Service::of(&server);
    let round = |service: &mut Service<'_>, count: usize| {
        for number in 0..count {
            churn(&server, number % WAYS);
            if number % 100 == 0 {
                service.check();
            }
        }
    };
    service.check();
    let descriptors = server.descriptors();
    // Until what is kept for ever has grown to its size.
    round(&mut service, 1000);
    eventually("the descriptors are back", || server.descriptors() <= descriptors);
    let memory = server.resident_bytes();
    round(&mut service, 5000);
    eventually("the descriptors are back", || server.descriptors() <= descriptors);
    let growth = server.resident_bytes().saturating_sub(memory);
    // A leak of one kibibyte for each connection would be five.
    assert!(growth < 4 * MIB, "grew by {growth}");
    assert_eq!(service.http.push("jack", "churn", "m"), 0);
    service.check_newcomers();
}
