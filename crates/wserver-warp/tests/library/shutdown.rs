//! A shutdown step by step, as `docs/operations.md` has them.

use std::time::Duration;

use tokio::net::TcpStream;
use wserver_protocol::frame::Opcode;
use wserver_warp::{LimitSettings, Server};

use crate::raw::{End, Raw, get, masked, push, register};
use crate::{eventually, serve};

/// Only `/readyz` changes during `drain_delay`, and every answer says that its connection ends.
#[tokio::test]
async fn a_delay_refuses_nobody() {
    let limits = LimitSettings {
        drain_delay: Duration::from_secs(600),
        drain_timeout: Duration::from_secs(1200),
        ..LimitSettings::default()
    };
    let running = serve(Server::builder().limits(limits));
    let mut before = Raw::open(&running, &[]).await;
    before.send(register("jack", "news")).await;
    eventually("registered", || running.handle.counts().registrations == 1).await;
    running.handle.shutdown();
    for (request, status) in
        [(get("/readyz"), 503), (get("/livez"), 200), (push(&[], "m"), 200), (get("/x"), 404)]
    {
        let mut raw = Raw::connect(&running).await;
        let answer = raw.ask(&request).await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
        assert_eq!(raw.end().await, End::Eof, "{request}");
    }
    assert_eq!(before.text().await, "m");
    let mut during = Raw::open(&running, &[]).await;
    for raw in [&mut before, &mut during] {
        raw.send(masked(Opcode::Ping, "p")).await;
        assert_eq!(raw.frame().await, (Opcode::Pong as u8, b"p".to_vec()));
    }
}

/// Whoever the kernel has let in is answered: no listener closes over somebody who waits there.
#[tokio::test]
async fn who_has_connected_is_answered() {
    use std::io::Write as _;
    let server = Server::builder().address("127.0.0.1:0").build().unwrap().bind().unwrap();
    let (handle, address) = (server.handle(), server.local_addr());
    let mut connected = Vec::new();
    let connecting = async {
        handle.shutdown();
        // Without a pause, so that the server cannot look before each step of its end.
        while let Ok(mut stream) = std::net::TcpStream::connect(address) {
            stream.write_all(get("/livez").as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            connected.push(Raw::new(TcpStream::from_std(stream).unwrap()));
            tokio::task::yield_now().await;
        }
        for raw in &mut connected {
            assert_eq!(raw.answer().await.status, 200);
            assert_eq!(raw.end().await, End::Eof);
        }
        connected.len()
    };
    let (drained, count) = futures::future::join(server.serve(), connecting).await;
    assert!(count > 0);
    assert_eq!(drained.cut_off, 0);
}
