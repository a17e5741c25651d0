//! The handle: push, disconnect, shut down, ask.

use std::time::Duration;

use wserver_client::Connection as Client;
use wserver_warp::auth::StaticTokens;
use wserver_warp::{Connection, Flow, HandleError, LimitSettings, Server, Target};

use crate::{Log, PATIENCE, closed, eventually, heard, serve, serve_default};

#[tokio::test]
async fn a_push_says_how_many_and_what_is_wrong() {
    let running = serve_default();
    let handle = &running.handle;
    assert_eq!(handle.push("jack", "news", "m").await, Ok(0));
    let mut first = running.listen("jack", "news").await;
    let mut second = running.listen("jack", "news").await;
    let message = "verbatim \u{1f600} \0 \"";
    assert_eq!(handle.push("jack", "news", message).await, Ok(2));
    assert_eq!(heard(&mut first).await, message);
    assert_eq!(heard(&mut second).await, message);

    let long = "x".repeat(4097);
    assert!(matches!(handle.push("", "news", "m").await, Err(HandleError::User(_))));
    assert!(matches!(handle.push(&long, "news", "m").await, Err(HandleError::User(_))));
    assert!(matches!(handle.push("jack", "", "m").await, Err(HandleError::Event(_))));
    assert_eq!(handle.push("jack", "news", "").await, Err(HandleError::MessageEmpty));
    let (bytes, bytes_max) = ((1 << 20) + 1, 1 << 20);
    assert_eq!(
        handle.push("jack", "news", &"x".repeat(bytes)).await,
        Err(HandleError::MessageTooLarge { bytes, bytes_max })
    );
    assert!(matches!(handle.disconnect(Target::User("")), Err(HandleError::User(_))));
    assert_eq!((handle.counts().users, handle.counts().connections), (1, 2));
    assert_eq!(handle.counters().deliveries_total.value(), 2);
}

async fn all_closed(clients: &mut [Client]) {
    for client in clients {
        assert_eq!(closed(client).await, (1000, "disconnected by the server".to_owned()));
    }
}

#[tokio::test]
async fn connections_are_closed_by_what_they_are() {
    let tokens = StaticTokens::new([("aaa", "jack"), ("bbb", "jack"), ("ccc", "rose")]).unwrap();
    let kept: Log<Connection> = Log::default();
    let log = kept.clone();
    let running =
        serve(Server::builder().authenticator(tokens).on_message(move |connection, _| {
            log.add(connection.clone());
            Flow::Continue
        }));
    let handle = &running.handle;

    // By user and event.
    let mut news = running.listen("aaa", "news").await;
    let mut chat = running.listen("aaa", "chat").await;
    let by_event = Target::UserEvent { user: "jack", event: "chat" };
    assert_eq!(handle.disconnect(by_event), Ok(1));
    assert_eq!(handle.disconnect(by_event), Ok(0), "it is unbound at once");
    assert_eq!(handle.push("jack", "chat", "m").await, Ok(0));
    all_closed(std::slice::from_mut(&mut chat)).await;
    assert_eq!(handle.push("jack", "news", "still there").await, Ok(1));
    assert_eq!(heard(&mut news).await, "still there");

    // By token: the logout of one device.
    let mut other = running.listen("bbb", "news").await;
    assert_eq!(handle.disconnect(Target::Token("aaa")), Ok(1));
    assert_eq!(handle.disconnect(Target::Token("unknown")), Ok(0));
    all_closed(std::slice::from_mut(&mut news)).await;
    assert_eq!(handle.push("jack", "news", "still there").await, Ok(1));
    assert_eq!(heard(&mut other).await, "still there");

    // By id, bound or not.
    let mut unbound = running.open().await;
    let before = kept.len();
    unbound.send_text("hello").await.unwrap();
    eventually("seen", || kept.len() > before).await;
    let id = kept.all().last().unwrap().id();
    assert_eq!(handle.disconnect(Target::Connection(id)), Ok(1));
    assert_eq!(handle.disconnect(Target::Connection(id)), Ok(0));
    all_closed(std::slice::from_mut(&mut unbound)).await;

    // By user: all of them, and nobody else's.
    let mut rose = running.listen("ccc", "news").await;
    let mut more = vec![running.listen("aaa", "x").await, running.listen("bbb", "y").await];
    assert_eq!(handle.disconnect(Target::User("jack")), Ok(3));
    all_closed(&mut more).await;
    assert_eq!(handle.push("rose", "news", "m").await, Ok(1));
    assert_eq!(heard(&mut rose).await, "m");
}

/// What was queued comes before the Close.
#[tokio::test]
async fn a_disconnect_comes_behind_what_was_pushed() {
    let running = serve_default();
    let mut client = running.listen("jack", "news").await;
    let message = "x".repeat(900_000);
    for _ in 0..3 {
        assert_eq!(running.handle.push("jack", "news", &message).await, Ok(1));
    }
    assert_eq!(running.handle.disconnect(Target::User("jack")), Ok(1));
    for _ in 0..3 {
        assert!(heard(&mut client).await == message);
    }
    assert_eq!(closed(&mut client).await.0, 1000);
}

/// The runtime takes a task that has ended off its books a moment later, which is all that is waited for.
#[test]
fn after_a_shutdown_no_task_is_alive() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::builder().address("127.0.0.1:0").build().unwrap().bind().unwrap();
        let (handle, address) = (server.handle(), server.local_addr());
        let url = format!("ws://{address}/ws");
        let clients = async {
            let mut clients = Vec::new();
            for number in 0..50 {
                let mut client = wserver_client::Client::connect(&url).await.unwrap();
                client.register("jack", "news").await.unwrap();
                eventually("bound", || handle.counts().registrations == number + 1).await;
                clients.push(client);
            }
            // A walk is under way when the end begins.
            for number in 0..20 {
                assert_eq!(handle.push("jack", "news", &number.to_string()).await, Ok(50));
            }
            handle.shutdown();
            for client in &mut clients {
                let mut next = 0;
                while let Ok(text) = client.next_text(PATIENCE).await {
                    assert_eq!(text, next.to_string());
                    next += 1;
                }
                assert_eq!(client.close_frame().and_then(|frame| frame.code), Some(1001));
            }
        };
        let (drained, ()) = tokio::join!(server.serve(), clients);
        assert_eq!((drained.closed, drained.cut_off), (50, 0));
        eventually("no task is alive", || runtime.metrics().num_alive_tasks() == 0).await;
        assert_eq!(handle.connections_open(), 0);
        assert_eq!(handle.push("jack", "news", "m").await, Ok(0), "the handle stays good");
        assert!(wserver_client::Client::connect(&url).await.is_err());
    });
}

/// Not even of connections that say nothing, half a request or half a handshake.
#[test]
fn a_shutdown_waits_for_nobody_beyond_its_time() {
    use std::io::Write as _;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let limits =
            LimitSettings { drain_timeout: Duration::from_millis(300), ..LimitSettings::default() };
        let server = Server::builder().address("127.0.0.1:0").limits(limits);
        let server = server.build().unwrap().bind().unwrap();
        let (handle, address) = (server.handle(), server.local_addr());
        let held: Vec<_> = [
            "",
            "GET /ws HT",
            "POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
        ]
        .into_iter()
        .map(|sent| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(sent.as_bytes()).unwrap();
            stream
        })
        .collect();
        // Accepted in order, so whoever came before was accepted as well.
        let probe = async {
            let url = format!("ws://{address}/ws");
            drop(wserver_client::Client::connect(&url).await.unwrap());
            handle.shutdown();
        };
        let (drained, ()) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(server.serve(), probe) })
                .await
                .expect("a shutdown ends");
        assert_eq!(drained.cut_off, 0);
        eventually("no task is alive", || runtime.metrics().num_alive_tasks() == 0).await;
        drop(held);
    });
}

#[tokio::test]
async fn serve_until_is_a_shutdown_by_a_future() {
    let server = Server::builder().address("127.0.0.1:0").build().unwrap();
    let drained = server.serve_until(std::future::ready(())).await.unwrap();
    assert_eq!((drained.closed, drained.cut_off), (0, 0));
}

/// Whether a whole drain was waited for or not: what serves is owned by the future that serves.
#[test]
fn a_server_whose_serving_is_dropped_serves_no_more() {
    use std::io::{Read as _, Write as _};
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::builder().address("127.0.0.1:0").allow_open_push();
        let server = server.build().unwrap().bind().unwrap();
        let (handle, address) = (server.handle(), server.local_addr());
        let url = format!("ws://{address}/ws");
        let mut kept = std::net::TcpStream::connect(address).unwrap();
        kept.set_read_timeout(Some(PATIENCE)).unwrap();
        let use_it = async {
            let mut client = wserver_client::Client::connect(&url).await.unwrap();
            client.register("jack", "news").await.unwrap();
            eventually("registered", || handle.counts().registrations == 1).await;
            // One connection that is kept, and one in the middle of a request.
            kept.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            assert!(kept.read(&mut [0; 1024]).unwrap() > 0);
            let mut half = std::net::TcpStream::connect(address).unwrap();
            let head = b"POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
            half.write_all(head).unwrap();
            (client, half)
        };
        let (mut client, half) = tokio::select! {
            biased;
            used = use_it => used,
            _ = server.serve() => panic!("nothing has ended it"),
        };
        assert_eq!(closed(&mut client).await.0, 1001);
        eventually("no task is alive", || runtime.metrics().num_alive_tasks() == 0).await;
        assert_eq!(kept.read(&mut [0; 1024]).unwrap(), 0, "its end");
        assert_eq!(handle.connections_open(), 0);
        assert!(wserver_client::Client::connect(&url).await.is_err());
        drop(half);
    });
}
