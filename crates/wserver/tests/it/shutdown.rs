//! How the server ends: in order on the first signal, at once on the second.

use std::net::TcpStream;

use wserver_protocol::frame::Opcode;

use crate::harness::{Server, eventually};
use crate::metrics::{get, scrape};
use crate::raw::{End, Frame, Raw, Socket, post, push, push_body};

const MIB: usize = 1024 * 1024;

/// Whoever is told to go is told when to come back.
fn check_going_away(socket: &mut Socket, code: u16) {
    let closed = socket.closed();
    assert_eq!(closed.code, code, "{closed:?}");
    let seconds = closed.reason.strip_prefix("server is shutting down; reconnect in ");
    let seconds = seconds.and_then(|it| it.strip_suffix('s')?.parse::<u32>().ok());
    assert!(seconds.is_some_and(|it| (1..=5).contains(&it)), "{closed:?}");
}

/// The log's last word.
fn stopped(log: &str) -> serde_json::Value {
    let last = log.lines().last().expect("a log");
    let event: serde_json::Value = serde_json::from_str(last).expect("a log line is JSON");
    assert_eq!(event["message"], "stopped", "{log}");
    event
}

/// A connection with so much queued that its Close cannot be sent while nobody reads.
fn stall(server: &Server) -> Socket {
    let mut stalled = Socket::open_on(Raw::connect_small(server));
    stalled.register("slow", "news");
    let mut raw = Raw::connect(server);
    for number in 0..QUEUED {
        assert_eq!(raw.push("slow", "news", &large(number)), 1);
    }
    stalled
}

/// More messages of 1 MiB than the kernel holds for a socket; they fit into `ROOMY`.
const QUEUED: usize = 12;
const ROOMY: [&str; 4] = ["--outbox-bytes-max", "16MiB", "--ping-interval", "1h"];

fn large(number: usize) -> String {
    format!("{number:016}").repeat(MIB / 16)
}

#[test]
fn everybody_is_told_and_the_log_says_how_many() {
    for signal in ["TERM", "INT"] {
        let server = Server::start();
        let mut sockets: Vec<Socket> =
            (0..20).map(|_| Socket::registered(&server, "jack", "news")).collect();
        sockets.push(Socket::open(&server));
        assert_eq!(push(&server, "jack", "news", "last words"), 20);
        server.signal(signal);
        for (number, socket) in sockets.iter_mut().enumerate() {
            if number < 20 {
                assert_eq!(socket.next(), Frame::new(Opcode::Text, "last words"));
            }
            check_going_away(socket, 1001);
        }
        drop(sockets);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        let stopped = stopped(&log);
        assert_eq!((&stopped["closed"], &stopped["cut_off"]), (&21.into(), &0.into()), "{log}");
        assert_eq!((&stopped["pushes"], &stopped["deliveries"]), (&1.into(), &20.into()), "{log}");
    }
}

#[test]
fn the_close_code_is_a_setting() {
    let server = Server::start_with(&["--drain-close-code", "1012"], &[]);
    let mut socket = Socket::registered(&server, "jack", "news");
    let closed = "wserver_connections_closed_total{reason=\"shutdown\",code=\"1012\"}";
    assert_eq!(scrape(&server).of(closed), 0.0);
    server.signal("TERM");
    check_going_away(&mut socket, 1012);
    drop(socket);
    assert_eq!(server.wait().0.code(), Some(0));
}

/// While balancers find out, nobody is turned away.
#[test]
fn before_anybody_is_told_to_go_the_server_is_not_ready() {
    let flags = ["--drain-delay", "1h", "--drain-timeout", "2h"];
    let server = Server::start_with(&flags, &[]);
    let mut early = Socket::registered(&server, "jack", "news");
    assert_eq!(get(&server, "/readyz", &[]).status, 200);
    server.signal("TERM");
    eventually("it is not ready", || get(&server, "/readyz", &[]).status == 503);
    let answer = get(&server, "/readyz", &[]);
    assert_eq!(answer.body, "the server is shutting down");
    assert_eq!(get(&server, "/livez", &[]).status, 200);
    assert_eq!(scrape(&server).of("wserver_draining"), 1.0);
    let mut late = Socket::registered(&server, "jack", "news");
    assert_eq!(push(&server, "jack", "news", "m"), 2);
    for socket in [&mut early, &mut late] {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    }
    assert_eq!(signal_until_it_ends(server).0.code(), Some(1));
}

#[test]
fn an_idle_server_ends_at_once() {
    let server = Server::start();
    let mut idle = Raw::connect(&server);
    idle.tick();
    server.signal("TERM");
    assert_eq!(idle.end(), End::Eof, "a connection without a request is let go");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(stopped(&log)["closed"], 0);
}

#[test]
fn what_is_queued_is_delivered_before_the_close() {
    let server = Server::start_with(&[&ROOMY[..], &["--close-timeout", "100ms"]].concat(), &[]);
    let mut witness = Socket::registered(&server, "jack", "news");
    let mut stalled = stall(&server);
    server.signal("TERM");
    check_going_away(&mut witness, 1001);
    for number in 0..QUEUED {
        assert!(stalled.next() == Frame::new(Opcode::Text, large(number)), "message {number}");
    }
    check_going_away(&mut stalled, 1001);
    drop((witness, stalled));
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(stopped(&log)["cut_off"], 0);
}

#[test]
fn who_does_not_go_is_cut_off_in_time() {
    let flags = [&ROOMY[..], &["--drain-timeout", "300ms"]].concat();
    let server = Server::start_with(&flags, &[]);
    let mut stalled = stall(&server);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let stopped = stopped(&log);
    assert_eq!((&stopped["closed"], &stopped["cut_off"]), (&1.into(), &1.into()), "{log}");
    while stalled.try_next().is_ok() {}
}

/// A server that is draining, held up by one connection that does not read.
struct Draining {
    server: Server,
    _stalled: Socket,
}

fn drain(before_signal: impl FnOnce(&Server)) -> Draining {
    let flags = [&ROOMY[..], &["--drain-timeout", "60s"]].concat();
    let server = Server::start_with(&flags, &[]);
    let mut witness = Socket::registered(&server, "jack", "news");
    let stalled = stall(&server);
    before_signal(&server);
    server.signal("TERM");
    check_going_away(&mut witness, 1001);
    // The listener is closed when the last one has been told, but not in the same task.
    while TcpStream::connect(server.address).is_ok() {}
    Draining { server, _stalled: stalled }
}

#[test]
fn a_second_signal_ends_at_once() {
    let Draining { server, _stalled } = drain(|_| {});
    let (status, log) = signal_until_it_ends(server);
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("ending the process at once"), "{log}");
}

/// Another signal counts once the first is a moment ago.
fn signal_until_it_ends(mut server: Server) -> (std::process::ExitStatus, String) {
    let log = server.read_log();
    let state = format!("/proc/{}/stat", server.pid());
    eventually("it ends", || {
        server.signal("TERM");
        // What has ended is not reaped yet.
        std::fs::read_to_string(&state).unwrap().contains(") Z ")
    });
    (server.wait().0, log.join().unwrap())
}

/// As supervisors do that signal a process and its group.
#[test]
fn a_signal_that_is_said_twice_is_one() {
    let server = Server::start();
    let mut sockets: Vec<Socket> =
        (0..20).map(|_| Socket::registered(&server, "jack", "news")).collect();
    for _ in 0..3 {
        server.signal("TERM");
    }
    server.signal("INT");
    for socket in &mut sockets {
        check_going_away(socket, 1001);
    }
    drop(sockets);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn nobody_is_let_in_while_it_drains() {
    let Draining { server, _stalled } = drain(|_| {});
    TcpStream::connect(server.address).unwrap_err();
    assert_eq!(signal_until_it_ends(server).0.code(), Some(1));
}

#[test]
fn a_push_under_way_is_answered() {
    let body = push_body("jack", "news", "m");
    let request = post(&[("expect", "100-continue")], &body);
    let (head, body) = request.split_at(request.len() - body.len());
    let mut raw = None;
    let Draining { server, _stalled } = drain(|server| {
        let raw = raw.insert(Raw::connect(server));
        raw.send(head);
        assert_eq!(raw.answer().status, 100, "the server waits for the body");
    });
    let mut raw = raw.unwrap();
    raw.send(body);
    let answer = raw.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "message sent to 0 clients"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(raw.end(), End::Eof);
    assert_eq!(signal_until_it_ends(server).0.code(), Some(1));
}
