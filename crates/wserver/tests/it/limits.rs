//! Limits of connections and what they may send, each reached from outside, each recovered from.

use std::time::Duration;

use wserver_protocol::frame::Opcode;

use crate::harness::{PATIENCE, Server, eventually};
use crate::http::push_with;
use crate::metrics::{get, scrape};
use crate::raw::{
    Closed, End, Frame, Raw, Socket, handshake, masked, masked_close, push, push_request, register,
};

fn policy(reason: &str) -> Closed {
    Closed { code: 1008, reason: reason.to_owned() }
}

#[test]
fn who_never_registers_is_closed() {
    let server = Server::start_with(&["--register-timeout", "200ms"], &[]);
    for (name, bytes) in [
        ("silence", Vec::new()),
        ("pings", masked(Opcode::Ping, "")),
        ("junk", masked(Opcode::Text, "junk")),
        ("an empty field", masked(Opcode::Text, r#"{"token":"","event":"news"}"#)),
        ("half a frame", register("jack", "news")[..10].to_vec()),
    ] {
        let mut socket = Socket::open(&server);
        socket.send(bytes);
        assert_eq!(socket.closed(), policy("nothing registered in time"), "{name}");
    }
}

#[test]
fn who_has_registered_outlives_the_register_deadline() {
    let server = Server::start_with(&["--register-timeout", "200ms"], &[]);
    let mut socket = Socket::registered(&server, "jack", "news");
    // Opened later, so its deadline comes later.
    assert_eq!(Socket::open(&server).closed().code, 1008);
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
}

#[test]
fn floods_are_closed_by_the_token_bucket() {
    let server = Server::start();
    for (name, frame) in [
        ("junk", masked(Opcode::Text, "junk")),
        ("binary junk", masked(Opcode::Binary, [0; 100])),
        ("the same registration", register("jack", "news")),
        ("pings", masked(Opcode::Ping, "p")),
        ("pongs", masked(Opcode::Pong, "p")),
        ("a mixture", [masked(Opcode::Text, "junk"), masked(Opcode::Ping, "")].concat()),
    ] {
        let mut socket = Socket::open(&server);
        socket.send(frame.repeat(10_000));
        assert_eq!(socket.closed(), policy("too many messages"), "{name}");
    }
    assert_eq!(push(&server, "jack", "news", "m"), 0);
}

#[test]
fn a_burst_within_the_allowance_is_served() {
    let server = Server::start();
    let mut socket = Socket::open(&server);
    socket.send(masked(Opcode::Text, "junk").repeat(198));
    socket.register("jack", "news");
    assert_eq!(push(&server, "jack", "news", "m"), 1);
}

#[test]
fn the_129th_registration_is_ignored_and_the_others_are_served() {
    let server = Server::start();
    let mut socket = Socket::open(&server);
    for number in 0..129 {
        socket.send(register("jack", &format!("event-{number}")));
    }
    socket.sync();
    // What is bound already is no further registration.
    socket.register("jack", "event-0");
    let mut http = Raw::connect(&server);
    for number in 0..129 {
        let event = format!("event-{number}");
        assert_eq!(http.push("jack", &event, &event), usize::from(number < 128), "{event}");
        if number < 128 {
            assert_eq!(socket.next(), Frame::new(Opcode::Text, &event));
        }
    }
}

#[test]
fn registrations_are_freed_with_their_connection() {
    let server = Server::start();
    for _ in 0..3 {
        let mut socket = Socket::open(&server);
        for number in 0..128 {
            socket.send(register("jack", &format!("event-{number}")));
        }
        socket.sync();
        assert_eq!(push(&server, "jack", "event-127", "m"), 1);
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
        socket.send(masked_close(1000, b""));
        assert_eq!(socket.closed().code, 1000);
        assert_eq!(push(&server, "jack", "event-127", "m"), 0);
    }
}

#[test]
fn names_are_taken_up_to_their_limit() {
    let server = Server::start();
    let mut http = Raw::connect(&server);
    let mut socket = Socket::open(&server);
    for (name, token, event, count) in [
        ("both at the limit", "t".repeat(4096), "e".repeat(4096), 1),
        ("wide characters at the limit", "☃".repeat(1365), "é".repeat(2048), 1),
        ("one byte", "t".to_owned(), "e".to_owned(), 1),
        ("anything goes", "\0\n\" {}".to_owned(), "../%00 ".to_owned(), 1),
    ] {
        socket.register(&token, &event);
        assert_eq!(http.push(&token, &event, name), count, "{name}");
        assert_eq!(socket.next(), Frame::new(Opcode::Text, name));
    }
    // The user id is the token here, so a push cannot ask after a longer one; nor is it bound.
    socket.register(&"t".repeat(4097), "long-token");
    socket.register("jack", &"e".repeat(4097));
    socket.register("jack", "news");
    assert_eq!(http.push("jack", "news", "still open"), 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "still open"));
}

/// A handshake that is refused for lack of room, with the time after which to come again.
fn check_no_room(server: &Server, status: u16, limit: &str) {
    let mut raw = Raw::connect(server);
    raw.send(handshake(&[]));
    let answer = raw.answer();
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.error().contains(limit), "{answer:?}");
    assert!(
        answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()),
        "{answer:?}"
    );
    assert_eq!(raw.end(), End::Eof);
}

/// Whether a handshake is accepted now.
fn is_accepted(server: &Server) -> bool {
    let mut raw = Raw::connect(server);
    raw.send(handshake(&[]));
    raw.answer().status == 101
}

#[test]
fn websockets_are_bounded_and_http_still_answers() {
    for (flags, status, limit) in [
        (["--connections-max", "3"], 503, "connections_max"),
        (["--connections-per-address-max", "3"], 429, "connections_per_address_max"),
    ] {
        let server = Server::start_with(&flags, &[]);
        let mut sockets: Vec<Socket> =
            (0..3).map(|_| Socket::registered(&server, "jack", "news")).collect();
        check_no_room(&server, status, limit);
        check_no_room(&server, status, limit);
        assert_eq!(push(&server, "jack", "news", "m"), 3, "{limit}");
        // A refused handshake of another kind takes no place either.
        let mut raw = Raw::connect(&server);
        raw.send(handshake(&[("upgrade", "x")]).replace("websocket\r\n", "none\r\n"));
        assert_eq!(raw.answer().status, 400);
        sockets.pop();
        eventually("there is room again", || is_accepted(&server));
    }
}

/// A connection with a request under way: the server waits for its body.
fn busy(server: &Server) -> Raw {
    let mut raw = Raw::connect(server);
    raw.send(push_with(&["Expect: 100-continue", "Content-Length: 100"], ""));
    assert_eq!(raw.answer().status, 100);
    raw
}

#[test]
fn http_connections_are_bounded_and_the_bound_is_left_again() {
    let server = Server::start_with(&["--http-connections-max", "3"], &[]);
    let mut held = [busy(&server), busy(&server), busy(&server)];
    for _ in 0..20 {
        let mut raw = Raw::connect(&server);
        raw.send(push_request("jack", "news", "m"));
        let answer = raw.answer();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.error().contains("http_connections_max"), "{answer:?}");
        assert_eq!(raw.end(), End::Eof);
    }
    // Those who are in are served, and then there is room.
    held[0].send(" ".repeat(100));
    assert_eq!(held[0].answer().status, 400);
    eventually("there is room again", || {
        let mut raw = Raw::connect(&server);
        raw.send(push_request("jack", "news", "m"));
        raw.answer().status == 200
    });
}

/// Whatever else there is no room for.
#[test]
fn health_answers_when_every_place_is_busy() {
    let server = Server::start_with(&["--http-connections-max", "2"], &[]);
    let _held = [busy(&server), busy(&server)];
    // Those who only hold the last places are no obstacle.
    let _silent: Vec<Raw> = (0..20).map(|_| Raw::connect(&server)).collect();
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&server, path, &[]).status, 200, "{path}");
    }
    assert_eq!(get(&server, "/metrics", &[]).status, 503);
}

#[test]
fn silent_connections_keep_nobody_out() {
    let flags = ["--http-connections-max", "8", "--header-timeout", "1h"];
    let server = Server::start_with(&flags, &[]);
    let mut publisher = Raw::connect(&server);
    assert_eq!(publisher.push("jack", "news", "m"), 0);
    let silent: Vec<Raw> = (0..50).map(|_| Raw::connect_from([127, 0, 0, 2], &server)).collect();
    let mut sockets = Vec::new();
    for round in 0..10 {
        assert_eq!(get(&server, "/readyz", &[]).status, 200, "{round}");
        assert_eq!(push(&server, "jack", "news", "m"), round);
        sockets.push(Socket::registered(&server, "jack", "news"));
        // Whoever pushes keeps its connection, whoever has waited for longest.
        assert_eq!(publisher.push("jack", "news", "m"), round + 1);
    }
    let evicted = scrape(&server).of("wserver_http_connections_evicted_total");
    assert!(evicted >= (silent.len() - 8) as f64, "{evicted}");
}

/// Of one address too, who has waited longest goes.
#[test]
fn the_longest_idle_connection_goes_for_a_new_one() {
    let server = Server::start_with(&["--http-connections-max", "3"], &[]);
    let mut held = [(); 3].map(|()| Raw::connect(&server));
    held.iter_mut().for_each(Raw::tick);
    // Times are told apart in milliseconds.
    held[0].stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    held[0].stream.peek(&mut [0]).unwrap_err();
    held[0].stream.set_read_timeout(Some(PATIENCE)).unwrap();
    held[0].tick();
    held[2].tick();
    let mut new = Raw::connect(&server);
    new.tick();
    assert_eq!(held[1].end(), End::Eof);
    held[0].tick();
    held[2].tick();
    new.tick();
}

#[test]
fn one_address_takes_no_more_http_connections_than_it_may() {
    const PAIR: [&str; 2] = ["--http-connections-per-address-max", "2"];
    let server = Server::start_with(&PAIR, &[]);
    // A WebSocket is none of them once it is open.
    let mut sockets = [(); 3].map(|()| Socket::open(&server));
    sockets.iter_mut().for_each(Socket::sync);
    // One that is served and stays; who has just left may still be counted.
    let held = |server: &Server| {
        let mut held = None;
        eventually("there is room", || {
            let mut raw = Raw::connect(server);
            raw.send("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n");
            let is_served = raw.try_answer("GET").is_ok_and(|answer| answer.status == 404);
            held = is_served.then_some(raw);
            is_served
        });
        held
    };
    let two = [held(&server), held(&server)];
    for _ in 0..3 {
        let mut raw = Raw::connect(&server);
        let answer = raw.answer();
        assert_eq!(answer.status, 429, "{answer:?}");
        assert_eq!(answer.error(), "http_connections_per_address_max is reached");
        assert_eq!(answer.body, "too many connections from this address");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // Others are served meanwhile, and the address when it has left.
    let mut other = Raw::connect_from([127, 0, 0, 2], &server);
    other.tick();
    drop(two);
    drop(held(&server));
    // Behind a proxy there are many.
    let server =
        Server::start_with(&[&PAIR[..], &["--trusted-proxies", "127.0.0.1"]].concat(), &[]);
    let _many = [(); 4].map(|()| {
        let mut raw = Raw::connect(&server);
        raw.tick();
        raw
    });
}

/// No timer of hyper's runs while a reply is not taken.
#[test]
fn a_client_that_reads_no_reply_gives_its_place_back() {
    let flags = ["--http-connections-max", "1", "--header-timeout", "300ms"];
    let server = Server::start_with(&flags, &[]);
    let mut deaf = Raw::connect_small(&server);
    // The page many times over: more than the kernel holds for one socket.
    deaf.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1000));
    eventually("there is room again", || {
        let mut raw = Raw::connect(&server);
        raw.send("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n");
        raw.try_answer("GET").is_ok_and(|answer| answer.status == 404)
    });
    drop(deaf);
}

#[test]
fn websockets_take_no_place_of_http() {
    let server = Server::start_with(&["--http-connections-max", "1"], &[]);
    let mut sockets = Vec::new();
    for _ in 0..5 {
        eventually("there is room", || {
            let mut raw = Raw::connect(&server);
            raw.send(handshake(&[]));
            match raw.try_answer("GET") {
                Ok(answer) if answer.status == 101 => {
                    sockets.push(Socket { raw });
                    true
                }
                _ => false,
            }
        });
    }
    for socket in &mut sockets {
        socket.register("jack", "news");
    }
    eventually("HTTP has its place", || {
        let mut raw = Raw::connect(&server);
        raw.send(push_request("jack", "news", "m"));
        raw.try_answer("GET").is_ok_and(|answer| answer.body == "message sent to 5 clients")
    });
}

#[test]
fn who_answers_no_ping_is_closed_and_unbound() {
    let server = Server::start_with(&["--ping-interval", "200ms", "--pong-timeout", "200ms"], &[]);
    let mut silent = Socket::registered(&server, "jack", "news");
    assert_eq!(silent.next(), Frame::new(Opcode::Ping, ""));
    // What it sends itself is no answer, and half a message is no sign of life either.
    silent.send(masked(Opcode::Ping, "mine"));
    silent.send(&register("jack", "more")[..10]);
    assert_eq!(silent.closed(), policy("no pong in time"));
    assert_eq!(push(&server, "jack", "news", "m"), 0);
}

#[test]
fn who_answers_pings_stays() {
    let server = Server::start_with(&["--ping-interval", "200ms", "--pong-timeout", "200ms"], &[]);
    let mut socket = Socket::registered(&server, "jack", "news");
    for _ in 0..5 {
        assert_eq!(socket.next(), Frame::new(Opcode::Ping, ""));
        socket.send(masked(Opcode::Pong, ""));
    }
    assert_eq!(push(&server, "jack", "news", "m"), 1);
}

/// Whether the server's side of a client's connection stands, as the kernel has it
/// (proc_pid_net(5): local address, remote address and state are columns, and 01 is established).
///
/// The table is no picture of one instant: while other sockets come and go a line may be missing
/// from it, though hardly twice in a row.
pub(crate) fn is_established(server: &Server, client: std::net::SocketAddr) -> bool {
    let ends_in_port = |address: &str, port| address.ends_with(&format!(":{port:04X}"));
    let is_in_table = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().any(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, local, remote, "01", ..] => {
                ends_in_port(local, server.address.port()) && ends_in_port(remote, client.port())
            }
            _ => false,
        })
    };
    (0..3).any(|_| is_in_table())
}

#[test]
fn the_push_behind_a_reset_does_not_count_it() {
    // On a busy machine a ping would come between the messages.
    let server = Server::start_with(&["--ping-interval", "1h"], &[]);
    let mut http = Raw::connect(&server);
    let mut stays = Socket::registered(&server, "jack", "news");
    for round in 0..50 {
        let mut socket = Socket::open_on(Raw::connect_to_reset(&server));
        socket.register("jack", "news");
        let message = format!("m{round}");
        assert_eq!(http.push("jack", "news", &message), 2);
        assert_eq!(stays.next(), Frame::new(Opcode::Text, &message));
        let address = socket.raw.stream.local_addr().unwrap();
        drop(socket);
        // A busy kernel may take its time over the way from one socket to the other.
        eventually("the reset has come", || !is_established(&server, address));
        assert_eq!(http.push("jack", "news", "after"), 1, "{round}");
        assert_eq!(stays.next(), Frame::new(Opcode::Text, "after"));
    }
}

#[test]
fn an_end_without_a_close_unbinds() {
    let server = Server::start();
    let mut http = Raw::connect(&server);
    let socket = Socket::registered(&server, "jack", "news");
    drop(socket);
    eventually("it is unbound", || http.push("jack", "news", "m") == 0);
    // So does the end of what the client sends, although it could still read.
    let socket = Socket::registered(&server, "jack", "news");
    socket.raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("it is unbound", || http.push("jack", "news", "m") == 0);
}
