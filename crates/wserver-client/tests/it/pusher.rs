//! The pusher: what it sends, what it makes of answers, and which connections it uses.

use std::time::Duration;

use expect_test::{Expect, expect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wserver_client::{PushError, Pusher};

use crate::{LONG, both, listen, nobody};

fn pusher(address: &str) -> Pusher {
    Pusher::new(&format!("http://{address}/push")).unwrap()
}

/// Reads one request, head and body.
pub(crate) async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "hung up inside a request");
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                return text.into_owned();
            }
        }
    }
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn receipt(clients: usize) -> String {
    answer("200 OK", "", &format!("message sent to {clients} clients"))
}

/// Accepts one connection and gives these answers on it, then hangs up. Returns the requests.
pub(crate) async fn serve(listener: &TcpListener, answers: &[String]) -> Vec<String> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut requests = Vec::new();
    for answer in answers {
        requests.push(read_request(&mut stream).await);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    requests
}

#[tokio::test]
async fn it_posts_json_and_reads_the_receipt() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address).with_key("canary-key").unwrap();
    let answers = [receipt(3)];
    let (clients, requests) =
        both(pusher.push("jack", "news", "a \"b\"\n"), serve(&listener, &answers)).await;
    assert_eq!(clients.unwrap(), 3);
    expect![[r#"
        POST /push HTTP/1.1
        host: ADDRESS
        content-type: application/json
        authorization: Bearer canary-key
        content-length: 54

        {"userId":"jack","event":"news","message":"a \"b\"\n"}"#]]
    .assert_eq(&requests[0].replace('\r', "").replace(&address, "ADDRESS"));
    let shown = format!("{pusher:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

/// What becomes of a push that is answered so, and whether it may have arrived.
async fn check(answer: &str, expected: &Expect) {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let answers = [answer.to_owned()];
    let (outcome, _) = both(pusher.push("jack", "news", "x"), serve(&listener, &answers)).await;
    expected.assert_eq(&match outcome {
        Ok(clients) => format!("{clients} clients"),
        Err(error) => {
            let arrived = if error.may_have_arrived() { "perhaps" } else { "no" };
            format!("{error}; arrived: {arrived}")
        }
    });
}

#[tokio::test]
async fn answers_are_told_apart() {
    check(&receipt(0), &expect!["0 clients"]).await;
    check(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n19\r\nmessage sent to 2 clients\r\n0\r\n\r\n",
        &expect!["2 clients"],
    )
    .await;
    // An end of connection is an end of body, too.
    check("HTTP/1.0 200 OK\r\n\r\nmessage sent to 4 clients", &expect!["4 clients"]).await;
    check(
        &answer("400 Bad Request", "Wserver-Error: event is empty\r\n", "request data illegal"),
        &expect![[r#"push refused with 400 Bad Request: "request data illegal" ("event is empty"); arrived: no"#]],
    )
    .await;
    check(
        &answer("401 Unauthorized", "", ""),
        &expect![[r#"push refused with 401 Unauthorized: ""; arrived: no"#]],
    )
    .await;
    check(
        &answer("502 Bad Gateway", "", "a\n\u{1b}[31mb"),
        &expect![[r#"push refused with 502 Bad Gateway: "a\n\u{1b}[31mb"; arrived: perhaps"#]],
    )
    .await;
    check(
        &answer("200 OK", "", "<html>"),
        &expect![[r#"the answer is not a receipt: "<html>"; arrived: perhaps"#]],
    )
    .await;
    check(
        &answer("200 OK", "", &"x".repeat((64 << 10) + 1)),
        &expect!["connection lost; arrived: perhaps"],
    )
    .await;
    check("", &expect!["connection lost; arrived: perhaps"]).await;
    check(
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        &expect!["connection lost; arrived: perhaps"],
    )
    .await;
    check("SSH-2.0-OpenSSH\r\n", &expect!["connection lost; arrived: perhaps"]).await;
}

#[tokio::test]
async fn an_answer_in_json_says_more() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let delivered =
        r#"{"id":"7","matched":2,"written":1,"queued":1,"dropped":0,"reason":null,"detail":null}"#;
    let refused = r#"{"type":"urn:wserver:problem:empty-field","title":"a field is empty","status":400,"detail":"event is empty","field":"event"}"#;
    let answers = [
        answer("200 OK", "content-type: application/json\r\n", delivered),
        answer("400 Bad Request", "content-type: application/problem+json\r\n", refused),
        receipt(2),
    ];
    let pushes = async {
        let first = pusher.push_json("jack", "news", "x").await.unwrap();
        let second = pusher.push_json("jack", "", "x").await.unwrap_err();
        (first, second, pusher.push_json("jack", "news", "x").await.unwrap_err())
    };
    let ((first, second, third), requests) = both(pushes, serve(&listener, &answers)).await;
    assert!(requests.iter().all(|it| it.contains("\naccept: application/json\r")), "{requests:?}");
    assert_eq!((&*first.id, first.delivery.matched, first.delivery.delivered()), ("7", 2, 2));
    assert_eq!(
        second.to_string(),
        r#"push refused with 400 Bad Request: "a field is empty" ("event is empty")"#
    );
    let PushError::Refused { problem: Some(problem), .. } = &second else { panic!("{second:?}") };
    assert_eq!((problem.name(), problem.field.as_deref()), ("empty-field", Some("event")));
    assert!(matches!(third, PushError::NoReceipt { .. }) && third.may_have_arrived(), "{third}");
}

#[tokio::test]
async fn connections_are_used_again() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let answers = [receipt(1), answer("400 Bad Request", "", ""), receipt(2)];
    let pushes = async {
        let clone = pusher.clone();
        let first = pusher.push("jack", "news", "x").await.unwrap();
        let second = clone.push("jack", "", "x").await.unwrap_err();
        assert!(matches!(second, PushError::Refused { status, .. } if status == 400));
        [first, pusher.push("jack", "news", "x").await.unwrap()]
    };
    let (clients, requests) = both(pushes, serve(&listener, &answers)).await;
    assert_eq!(clients, [1, 2]);
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let by_header = answer("200 OK", "connection: close\r\n", "message sent to 1 clients");
    for first in [receipt(1), by_header] {
        let first = [first];
        let (clients, _) = both(pusher.push("jack", "news", "x"), serve(&listener, &first)).await;
        assert_eq!(clients.unwrap(), 1);
        // The server has hung up by now, and the client has not looked since.
        let second = [receipt(2)];
        let (clients, _) = both(pusher.push("jack", "news", "x"), serve(&listener, &second)).await;
        assert_eq!(clients.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let (clients, idle) = both(pusher.push("jack", "news", "x"), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(receipt(1).as_bytes()).await.unwrap();
        stream
    })
    .await;
    assert_eq!(clients.unwrap(), 1);
    drop(idle);
    // Whatever the runtime hears of a newer connection, it has heard of the older one's end.
    let (newer, _) = both(TcpStream::connect(&address), listener.accept()).await;
    let second = [receipt(2)];
    let (clients, _) = both(pusher.push("jack", "news", "x"), serve(&listener, &second)).await;
    assert_eq!(clients.unwrap(), 2);
    drop(newer);
}

#[tokio::test]
async fn pushes_do_not_wait_for_each_other() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        read_request(&mut first).await;
        let (mut second, _) = listener.accept().await.unwrap();
        read_request(&mut second).await;
        second.write_all(receipt(2).as_bytes()).await.unwrap();
        first.write_all(receipt(1).as_bytes()).await.unwrap();
        (first, second)
    };
    let (one, two, _) =
        tokio::join!(pusher.push("jack", "news", "x"), pusher.push("rose", "news", "x"), server);
    assert_eq!([one.unwrap(), two.unwrap()], [1, 2]);
}

#[tokio::test]
async fn large_messages_are_sent_whole() {
    let (listener, address) = listen().await;
    let pusher = pusher(&address);
    let message = "x".repeat(1 << 20);
    let answers = [receipt(1), receipt(1)];
    let (_, requests) = both(
        async {
            for _ in 0..2 {
                assert_eq!(pusher.push("jack", "news", &message).await.unwrap(), 1);
            }
        },
        serve(&listener, &answers),
    )
    .await;
    assert!(requests.iter().all(|request| request.contains(&message)));
}

#[tokio::test]
async fn no_answer_and_no_server_are_told_apart() {
    let (_listener, address) = listen().await;
    // The listener's backlog takes the connection, and nobody answers.
    let hasty = pusher(&address).with_timeout(Duration::from_millis(5));
    let error = hasty.push("jack", "news", "x").await.unwrap_err();
    assert!(matches!(error, PushError::TimedOut { .. }) && error.may_have_arrived(), "{error}");

    let (_socket, address) = nobody();
    let patient = pusher(&address).with_timeout(LONG);
    let error = patient.push("jack", "news", "x").await.unwrap_err();
    assert!(matches!(error, PushError::Unreachable { .. }) && !error.may_have_arrived(), "{error}");
}

#[test]
fn unfit_keys_are_refused() {
    for key in ["", " key", "key\n", "k\u{0}ey"] {
        pusher("localhost").with_key(key).unwrap_err();
    }
}
