//! What one address and one user may have: budgets that are reached from outside, and given back.

use wserver_protocol::frame::{Fin, Opcode};

use crate::harness::{Server, eventually};
use crate::metrics::scrape;
use crate::raw::{
    Answer, Closed, End, Frame, Raw, Socket, fragment, handshake, masked, push, register,
};

/// One handshake with these headers; the connection is kept by the caller or ends.
fn attempt(server: &Server, headers: &[(&str, &str)]) -> (Answer, Raw) {
    let mut raw = Raw::connect(server);
    raw.send(handshake(headers));
    (raw.answer(), raw)
}

fn check_refused(server: &Server, headers: &[(&str, &str)], limit: &str) {
    let (answer, mut raw) = attempt(server, headers);
    assert_eq!(answer.status, 429, "{headers:?} {answer:?}");
    assert!(answer.error().contains(limit), "{headers:?} {answer:?}");
    let seconds: u64 = answer.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!(seconds >= 1, "{answer:?}");
    assert_eq!(raw.end(), End::Eof);
}

fn accepted(server: &Server, headers: &[(&str, &str)]) -> Raw {
    let (answer, raw) = attempt(server, headers);
    assert_eq!(answer.status, 101, "{headers:?} {answer:?}");
    raw
}

fn from(client: &str) -> [(&str, &str); 1] {
    [("x-forwarded-for", client)]
}

const RATE: &str = "this address has reached handshakes_per_address_per_second, which is 1";

#[test]
fn handshakes_of_one_address_are_bounded() {
    let flags =
        ["--handshakes-per-address-per-second", "1", "--handshakes-per-address-burst", "50"];
    let server = Server::start_with(&flags, &[]);
    // Attempts that fail for another reason count as well.
    for _ in 0..45 {
        let (answer, _raw) = attempt(&server, &[("sec-websocket-version", "8")]);
        assert_eq!(answer.status, 426, "{answer:?}");
    }
    // The rest of the burst, and what has come meanwhile; then some are refused.
    let (mut served, mut refused) = (45, 0);
    while refused < 3 {
        let (answer, _raw) = attempt(&server, &[]);
        match answer.status {
            101 => served += 1,
            _ => {
                assert_eq!((answer.status, answer.error()), (429, RATE));
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert_eq!(answer.body, format!("too many handshakes from this address: {RATE}"));
                refused += 1;
            }
        }
    }
    assert!(served >= 50, "{served} were served");
    // Other requests have no such bound, and the address is let in again.
    Raw::connect(&server).tick();
    eventually("it may again", || attempt(&server, &[]).0.status == 101);
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let flags =
        ["--trusted-proxies", "127.0.0.0/8,10.0.0.0/8", "--connections-per-address-max", "2"];
    let server = Server::start_with(&flags, &[]);
    let limit = "this address has reached connections_per_address_max, which is 2";
    let mut held = vec![
        accepted(&server, &from("192.0.2.1")),
        accepted(&server, &from("203.0.113.3, 192.0.2.1, 10.1.2.3")),
    ];
    check_refused(&server, &from("192.0.2.1"), limit);
    // What the client invents stands left of what the proxy wrote, and counts for nothing.
    check_refused(&server, &from("203.0.113.4, 192.0.2.1"), limit);
    check_refused(&server, &[("x-forwarded-for", "x"), ("x-forwarded-for", "192.0.2.1")], limit);
    let _other = accepted(&server, &from("192.0.2.2"));
    // IPv6 counts by /64.
    let _v6 = [accepted(&server, &from("2001:db8::1")), accepted(&server, &from("2001:db8::2:1"))];
    check_refused(&server, &from("[2001:db8::3]:4711"), limit);
    // The proxy's own address has its bound too, and all that cannot be read is the proxy's.
    let _own = [accepted(&server, &[]), accepted(&server, &from("unknown"))];
    check_refused(&server, &[], limit);
    check_refused(&server, &from("192.0.2.9, junk"), limit);
    check_refused(&server, &[("forwarded", "for=192.0.2.9"), ("x-real-ip", "192.0.2.9")], limit);
    held.pop();
    eventually("there is room again", || attempt(&server, &from("192.0.2.1")).0.status == 101);
}

#[test]
fn handshake_rates_are_of_the_client_behind_a_proxy() {
    let flags = [
        "--trusted-proxies",
        "127.0.0.1",
        "--handshakes-per-address-per-second",
        "1",
        "--handshakes-per-address-burst",
        "1",
    ];
    let server = Server::start_with(&flags, &[]);
    // One second is short on a busy machine, so that many are tried.
    let is_refused =
        |client: &str| (0..1000).any(|_| attempt(&server, &from(client)).0.status == 429);
    assert!(is_refused("192.0.2.1"));
    // Each of these has a burst of its own.
    for client in ["192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8:0:1::1"] {
        let _accepted = accepted(&server, &from(client));
    }
    assert!(is_refused("192.0.2.1"));
}

#[test]
fn whoever_is_no_trusted_proxy_is_not_believed() {
    for flags in [&[][..], &["--trusted-proxies", "10.0.0.0/8"]] {
        let flags = [flags, &["--connections-per-address-max", "1"]].concat();
        let server = Server::start_with(&flags, &[]);
        let _held = accepted(&server, &from("192.0.2.1"));
        check_refused(
            &server,
            &from("192.0.2.2"),
            "this address has reached connections_per_address_max, which is 1",
        );
    }
}

fn policy(reason: &str) -> Closed {
    Closed { code: 1008, reason: reason.to_owned() }
}

#[test]
fn one_connection_too_many_of_a_user_is_refused() {
    let server = Server::start_with(&["--connections-per-user-max", "2"], &[]);
    let mut first = Socket::registered(&server, "jack", "news");
    let second = Socket::registered(&server, "jack", "chat");
    // A further event of the same connection is none.
    first.register("jack", "chat");
    let mut refused = Socket::open(&server);
    refused.register("rose", "news");
    refused.send(register("jack", "news"));
    assert_eq!(refused.closed(), policy("too many connections of this user"));
    assert_eq!(push(&server, "rose", "news", "m"), 0);
    assert_eq!(push(&server, "jack", "chat", "m"), 2);
    assert_eq!(first.next(), Frame::new(Opcode::Text, "m"));
    drop(second);
    eventually("there is room again", || {
        let mut socket = Socket::open(&server);
        socket.send(register("jack", "news"));
        socket.send(masked(Opcode::Ping, ""));
        socket.next().opcode == Opcode::Pong as u8
    });
}

#[test]
fn one_connection_too_many_of_a_user_replaces_the_oldest() {
    let flags =
        ["--connections-per-user-max", "2", "--connections-per-user-policy", "close_oldest"];
    let server = Server::start_with(&flags, &[]);
    let mut sockets: Vec<Socket> =
        (0..4).map(|_| Socket::registered(&server, "jack", "news")).collect();
    let _other_user = Socket::registered(&server, "rose", "news");
    for replaced in &mut sockets[..2] {
        assert_eq!(replaced.closed(), policy("replaced by a newer connection of this user"));
    }
    assert_eq!(push(&server, "jack", "news", "m"), 2);
    for kept in &mut sockets[2..] {
        assert_eq!(kept.next(), Frame::new(Opcode::Text, "m"));
    }
}

/// Its own queue is far from its bound, and still it is closed: the others fill what there is.
#[test]
fn one_queue_too_many_over_all_connections_is_closed() {
    const ALL: usize = 32 * 1024 * 1024;
    let flags = [
        "--message-bytes-max",
        "64KiB",
        "--outbox-bytes-max",
        "32MiB",
        "--outboxes-bytes-max",
        "32MiB",
        // They answer no ping, which is not what this is about.
        "--ping-interval",
        "1h",
    ];
    let server = Server::start_with(&flags, &[]);
    let users = ["jack", "rose", "cal"];
    let mut stalled = users.map(|user| {
        let mut socket = Socket::open_on(Raw::connect_small(&server));
        socket.register(user, "news");
        socket
    });
    let message = "x".repeat(60 * 1024);
    let mut http = Raw::connect(&server);
    let mut accepted = [0; 3];
    let closed = loop {
        let turn = accepted.iter().sum::<usize>() % 3;
        if http.push(users[turn], "news", &message) == 0 {
            break turn;
        }
        accepted[turn] += 1;
        assert!(accepted[turn] * message.len() < ALL, "it was its own bound");
    };
    // There is room again, and who reads needs none.
    assert_eq!(http.push(users[(closed + 1) % 3], "news", &message), 1);
    let mut reader = Socket::registered(&server, "reader", "news");
    assert_eq!(http.push("reader", "news", "m"), 1);
    assert_eq!(reader.next(), Frame::new(Opcode::Text, "m"));
    let told = Closed { code: 1013, reason: "reading too slowly".to_owned() };
    assert_eq!(stalled[closed].closed(), told);
}

/// A pong says that its sender lives, not that it reads.
#[test]
fn a_listener_that_sends_pongs_and_reads_nothing_is_closed() {
    let flags = [
        "--stall-timeout",
        "500ms",
        "--close-timeout",
        "1h",
        "--outbox-bytes-max",
        "16MiB",
        "--ping-interval",
        "1h",
        "--inbound-messages-burst",
        "1000000",
    ];
    let server = Server::start_with(&flags, &[]);
    let mut hoarder = Socket::open_on(Raw::connect_small(&server));
    hoarder.register("jack", "news");
    let message = "x".repeat(1024 * 1024);
    let mut http = Raw::connect(&server);
    while scrape(&server).of("wserver_queued_bytes") == 0.0 {
        assert_eq!(http.push("jack", "news", &message), 1);
    }
    eventually("it is closed", || {
        hoarder.send(masked(Opcode::Pong, "I live"));
        scrape(&server).of("wserver_registrations") == 0.0
    });
    let stalled = "wserver_slow_evictions_total{bound=\"stall_timeout\"}";
    assert_eq!(scrape(&server).of(stalled), 1.0);
    assert_eq!(http.push("jack", "news", "m"), 0);
    let told = Closed { code: 1013, reason: "reading too slowly".to_owned() };
    assert_eq!(hoarder.closed(), told);
}

/// What has arrived of messages has a bound over all connections; a small part is never refused.
#[test]
fn half_messages_have_a_bound_in_all() {
    let flags = ["--inbound-bytes-max", "128KiB", "--close-timeout", "1h"];
    let server = Server::start_with(&flags, &[]);
    let half = |bytes: usize| fragment(Fin::More, Opcode::Text, "x".repeat(bytes));
    let mut holding: Vec<Socket> = (0..2)
        .map(|_| {
            let mut socket = Socket::open(&server);
            socket.send(half(60_000));
            socket.sync();
            socket
        })
        .collect();
    let mut refused = Socket::open(&server);
    refused.send(half(60_000));
    let told = Closed { code: 1013, reason: "too many messages are half read".to_owned() };
    assert_eq!(refused.closed(), told);
    assert!(scrape(&server).of("wserver_inbound_bytes") >= 120_000.0);
    // A registration in two pieces is served all the same.
    let mut ordinary = Socket::open(&server);
    let registration = register("jack", "news");
    ordinary.send(&registration[..20]);
    Raw::connect(&server).tick();
    ordinary.send(&registration[20..]);
    ordinary.sync();
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    // What is whole, or whose connection ends, makes room.
    holding[0].send(fragment(Fin::Last, Opcode::Continuation, ""));
    holding[0].sync();
    holding.pop();
    eventually("there is room again", || scrape(&server).of("wserver_inbound_bytes") == 0.0);
}

/// A connection's names have a bound that a registration fits into.
#[test]
fn names_of_one_connection_are_bounded() {
    let server = Server::start_with(&["--names-per-connection-bytes-max", "8KiB"], &[]);
    let mut socket = Socket::open(&server);
    let [first, second] = ["a", "b"].map(|letter| letter.repeat(4000));
    socket.register("jack", &first);
    socket.register("jack", &second);
    socket.register("jack", &"c".repeat(4000));
    let mut http = Raw::connect(&server);
    let counts = [&first, &second, &"c".repeat(4000)].map(|event| http.push("jack", event, "m"));
    assert_eq!(counts, [1, 1, 0]);
    let refused = "wserver_registrations_refused_total{reason=\"names_too_long\"}";
    assert_eq!(scrape(&server).of(refused), 1.0);
}
