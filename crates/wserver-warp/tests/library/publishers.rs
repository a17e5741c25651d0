//! Publishers that are refused, and what an authoriser is asked.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use wserver_client::PushError;
use wserver_warp::Server;
use wserver_warp::auth::{
    Publisher, PublisherEntry, PublisherKeyHash, PublisherKeys, PushRate, PushRefusal, PushScope,
    authorize_with,
};

use crate::{Held, Log, PATIENCE, Running, eventually, serve};

/// The status, and what `Wserver-Error` says.
async fn refused(running: &Running, user: &str, event: &str, key: &str) -> (u16, String) {
    let pusher = running.pusher().with_key(key).unwrap();
    match pusher.push(user, event, "m").await {
        Ok(_) => (200, String::new()),
        Err(PushError::Refused { status, reason, .. }) => {
            (status.as_u16(), reason.unwrap_or_default())
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn publishers_are_held_to_what_they_may() {
    let running = serve(Server::builder().push_authorizer(authorize_with(|request| async move {
        match request.api_key() {
            None => Err(PushRefusal::Missing),
            Some("shop") => Ok(Publisher::new()
                .with_scope(PushScope::everything().with_events(["order.*"]).with_users(["j*"]))),
            Some("old") => Err(PushRefusal::Expired),
            Some("early") => Err(PushRefusal::NotYetValid),
            Some("down") => Err(PushRefusal::unavailable("the key store does not answer")),
            Some(_) => Err(PushRefusal::Wrong),
        }
    })));
    let cases = [
        ("jack", "order.paid", "shop", (200, "")),
        ("jack", "news", "shop", (403, "this push key may not push this event")),
        ("rose", "order.paid", "shop", (403, "this push key may not push to this userId")),
        ("jack", "order.paid", "down", (503, "the push authoriser is unavailable")),
        ("jack", "order.paid", "old", (401, "the push key is expired")),
        ("jack", "order.paid", "early", (401, "the push key is not yet valid")),
        ("jack", "order.paid", "other", (401, "the push key is wrong")),
    ];
    for (user, event, key, (status, reason)) in cases {
        let expected = (status, reason.to_owned());
        assert_eq!(refused(&running, user, event, key).await, expected, "{user} {event} {key}");
    }
    let without = running.pusher().push("jack", "order.paid", "m").await;
    let Err(PushError::Refused { status, .. }) = without else { panic!("{without:?}") };
    assert_eq!(status.as_u16(), 401);
}

fn push_request() -> String {
    let body = r#"{"userId":"jack","event":"news","message":"m"}"#;
    let length = body.len();
    format!("POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Closing a socket with something unread makes the kernel reset it.
#[tokio::test]
async fn no_reset_overtakes_a_refusal_whatever_the_client_goes_on_sending() {
    let asked: Log<()> = Log::default();
    let gate = Arc::new(Semaphore::new(0));
    let (seen, opened) = (asked.clone(), Arc::clone(&gate));
    let running = serve(Server::builder().push_authorizer(authorize_with(move |_| {
        seen.add(());
        let opened = Arc::clone(&opened);
        async move {
            let _permit = opened.acquire().await;
            Err(PushRefusal::Wrong)
        }
    })));
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(push_request().as_bytes()).await.unwrap();
    eventually("asked", || asked.len() == 1).await;
    // More than the server reads at a time, so that some of it is unread when it refuses.
    client.write_all(&[b'x'; 200_000]).await.unwrap();
    gate.add_permits(1);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an end, and no reset");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    // Here the end comes before a reset, which then meets what is sent next.
    client.write_all(b"x").await.expect("it is still read");
}

/// Whether a push comes whole or in parts, what is asked for it ends with its client.
#[tokio::test]
async fn an_authoriser_is_not_waited_for_when_the_client_has_gone() {
    for parts_at in [0, 10] {
        let log: Log<String> = Log::default();
        let seen = log.clone();
        let running = serve(Server::builder().push_authorizer(authorize_with(move |_| {
            seen.add("asked".to_owned());
            let held = Held(seen.clone(), "dropped".to_owned());
            async move {
                let _held = held;
                std::future::pending().await
            }
        })));
        let push = push_request();
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (first, second) = push.as_bytes().split_at(parts_at);
        client.write_all(first).await.unwrap();
        client.write_all(second).await.unwrap();
        eventually("asked", || log.all() == ["asked"]).await;
        // The end alone of what it sends would be no sign, since it could still read.
        client.set_zero_linger().unwrap();
        drop(client);
        eventually("dropped", || log.all() == ["asked", "dropped"]).await;
    }
}

/// A rate of one push in a second and no burst: of two at once the second is told to wait.
#[tokio::test]
async fn who_pushes_too_often_is_told_to_wait() {
    let one = NonZeroU32::MIN;
    let shop = PublisherEntry::new("shop", PublisherKeyHash::of("shop"))
        .with_rate(PushRate { pushes_per_second: one, burst: one });
    let keys = PublisherKeys::new([shop]).unwrap();
    let running = serve(Server::builder().push_authorizer(keys));
    // On a machine that stands still the second push may come late enough to pass.
    let request = "POST /push HTTP/1.1\r\nhost: localhost\r\nx-api-key: shop\r\ncontent-length: 43\r\n\r\n\
                   {\"userId\":\"u\",\"event\":\"e\",\"message\":\"mmmm\"}";
    let answer = async || {
        let mut socket = TcpStream::connect(running.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1024];
        let read = socket.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    let refused = async {
        loop {
            let answer = answer().await;
            if answer.starts_with("HTTP/1.1 429 ") {
                break answer;
            }
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("the rate is kept");
    assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("this push key has reached its pushes_per_second"), "{refused}");
    assert_eq!(
        running.handle.push("u", "e", "m").await,
        Ok(0),
        "the program itself is not limited"
    );
}
