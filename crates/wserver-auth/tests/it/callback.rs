//! Backends: asked rightly, asked rarely, and slow, failing, redirecting or talking nonsense.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wserver_auth::{
    Authenticator, CallbackAuthenticator, CallbackSettings, CallbackSettingsError, Credentials,
    EventScope, HttpEndpoint, Identity, Refusal,
};

use crate::http::{HttpServer, Received, Reply};
use crate::{PATIENCE, tls};

/// Far longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// Nothing is remembered, and no failure opens the breaker.
fn settings(server: &HttpServer) -> CallbackSettings {
    let endpoint = HttpEndpoint::new(&server.url("/auth?kind=push")).unwrap();
    let mut settings = CallbackSettings::new(endpoint);
    settings.timeout = PATIENCE;
    settings.wait_max = PATIENCE;
    settings.cache_for = Duration::ZERO;
    settings.cache_refusals_for = Duration::ZERO;
    settings.failures_max = u32::MAX;
    settings
}

fn authenticator(settings: CallbackSettings) -> Arc<CallbackAuthenticator> {
    Arc::new(CallbackAuthenticator::new(settings).unwrap())
}

fn credentials(token: &str, event: &str) -> Credentials {
    Credentials::new(token, "10.0.0.1:80".parse().unwrap()).with_event(event)
}

async fn ask(authenticator: &CallbackAuthenticator, token: &str) -> Result<Identity, Refusal> {
    authenticator.authenticate(credentials(token, "chat")).await
}

/// Asks from the address of this number.
async fn ask_from(
    authenticator: &CallbackAuthenticator,
    address: u8,
    token: &str,
) -> Result<Identity, Refusal> {
    let peer = std::net::SocketAddr::from(([10, 0, 1, address], 80));
    authenticator.authenticate(Credentials::new(token, peer).with_event("chat")).await
}

async fn shown_from(authenticator: &CallbackAuthenticator, address: u8, token: &str) -> String {
    match ask_from(authenticator, address, token).await {
        Ok(identity) => identity.user,
        Err(refusal) => refusal.as_str().to_owned(),
    }
}

async fn shown(authenticator: &CallbackAuthenticator, token: &str) -> String {
    match ask(authenticator, token).await {
        Ok(identity) => identity.user,
        Err(refusal) => refusal.as_str().to_owned(),
    }
}

async fn cause(authenticator: &CallbackAuthenticator, token: &str) -> String {
    match ask(authenticator, token).await {
        Err(Refusal::Unavailable { source }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The user is the token, of those that begin with `user`.
fn backend(received: &Received) -> Reply {
    let asked: Value = serde_json::from_str(&received.body).unwrap();
    let token = asked["token"].as_str().unwrap();
    if token.starts_with("user") {
        Reply::Say(200, json!({"userId": token}).to_string())
    } else {
        Reply::Say(401, String::new())
    }
}

fn always(reply: Reply) -> impl Fn(&Received) -> Reply + Send + Sync {
    move |_| reply.clone()
}

#[tokio::test]
async fn the_backend_gets_what_it_needs_and_no_more() {
    let server = HttpServer::start(backend).await;
    let mut settings = settings(&server).with_secret("canary-secret").unwrap();
    settings.forward_headers = vec![COOKIE, HeaderName::from_static("x-forwarded-for")];
    let authenticator = authenticator(settings);
    assert_eq!(authenticator.handshake_headers().len(), 2);
    let mut headers = HeaderMap::new();
    headers.append(COOKIE, HeaderValue::from_static("session=canary"));
    headers.append("x-other", HeaderValue::from_static("not asked for"));
    let credentials = credentials("user \"ü\"", "order.paid").with_headers(headers);
    let identity = authenticator.authenticate(credentials).await.unwrap();
    assert_eq!(identity.user, "user \"ü\"");
    let [received] = server.received().try_into().unwrap();
    let body: Value = serde_json::from_str(&received.body).unwrap();
    assert_eq!(body, json!({"token": "user \"ü\"", "event": "order.paid"}));
    let mut head: Vec<&str> = received.head.lines().collect();
    assert_eq!(head.remove(0), "POST /auth?kind=push HTTP/1.1");
    head.sort_unstable();
    let host = format!("host: {}", server.address);
    let length = format!("content-length: {}", received.body.len());
    let agent = format!("user-agent: wserver/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        head,
        [
            "accept: application/json",
            "authorization: Bearer canary-secret",
            &length,
            "content-type: application/json",
            "cookie: session=canary",
            &host,
            &agent,
        ]
    );
    let shown = format!("{authenticator:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn what_the_backend_grants_is_granted() {
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
    let answer = json!({"userId": 7, "expiresAt": end, "events": ["order.*"]});
    let server = HttpServer::start(always(Reply::Say(200, answer.to_string()))).await;
    let authenticator = authenticator(settings(&server));
    let expected = Identity::new("7")
        .with_expires_at(SystemTime::UNIX_EPOCH + Duration::from_secs(end))
        .with_events(EventScope::only(["order.*"]));
    assert_eq!(ask(&authenticator, "t").await.unwrap(), expected);
    for (status, label) in [(401, "unknown"), (404, "unknown"), (403, "forbidden")] {
        server.respond(always(Reply::Say(status, "canary".to_owned())));
        assert_eq!(shown(&authenticator, "t").await, label);
    }
    server.respond(always(Reply::Say(200, json!({"userId": 7, "expiresAt": 1}).to_string())));
    assert_eq!(shown(&authenticator, "t").await, "expired");
}

#[tokio::test]
async fn a_backend_that_misbehaves_is_unavailable() {
    let elsewhere = HttpServer::start(backend).await;
    let redirect = format!("HTTP/1.1 307 x\r\nlocation: {}\r\n\r\n", elsewhere.url("/"));
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let endless = format!("HTTP/1.1 200 x\r\n\r\n{{\"userId\":\"{}", "x".repeat(70_000));
    for (reply, expected) in [
        (
            raw(&redirect),
            "the answer is a redirect (307 Temporary Redirect), which the server does not follow",
        ),
        (raw(&endless), "the answer is longer than the limit of 65536 bytes"),
        (raw("HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{"), "HTTP broke off"),
        (raw("canary\r\n\r\n"), "HTTP broke off"),
        (raw(""), "HTTP broke off"),
        (Reply::Say(500, "canary".to_owned()), "the answer is 500 Internal Server Error"),
        (Reply::Say(200, "<html>canary</html>".to_owned()), "the answer is not a JSON object"),
        (Reply::Say(200, r#"{"user":"canary"}"#.to_owned()), "userId must be a non-empty string"),
        (Reply::Say(204, String::new()), "the answer is 204 No Content"),
    ] {
        let server = HttpServer::start(always(reply)).await;
        let cause = cause(&authenticator(settings(&server)), "canary-token").await;
        assert!(cause.contains(expected), "{cause}");
        assert!(!cause.contains("canary"), "{cause}");
    }
    assert_eq!(elsewhere.count(), 0, "redirects are not followed");
    let server = HttpServer::start(always(Reply::Hang)).await;
    let mut impatient = settings(&server);
    impatient.timeout = Duration::from_millis(10);
    let cause = cause(&authenticator(impatient), "t").await;
    assert_eq!(cause, "the callback backend at 127.0.0.1 failed: no answer within 10ms");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let settings = CallbackSettings::new(HttpEndpoint::new(&url).unwrap());
    let cause = cause(&authenticator(settings), "t").await;
    assert!(cause.contains("no connection: "), "{cause}");
}

#[tokio::test]
async fn answers_are_remembered_by_all_that_they_depend_on() {
    let server = HttpServer::start(backend).await;
    let mut settings = settings(&server);
    settings.cache_for = LONG;
    settings.cache_refusals_for = LONG;
    settings.forward_headers = vec![COOKIE];
    let authenticator = authenticator(settings);
    let with = |token: &str, event: &str, cookie: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static(cookie));
        credentials(token, event).with_headers(headers)
    };
    for (credentials, calls) in [
        (credentials("user1", "chat"), 1),
        (credentials("user1", "chat"), 1),
        (credentials("user2", "chat"), 2),
        (credentials("user1", "news"), 3),
        (with("user1", "chat", "a=b"), 4),
        (with("user1", "chat", "a=b"), 4),
        (with("user1", "chat", "a=c"), 5),
        (credentials("nobody", "chat"), 6),
        (credentials("nobody", "chat"), 6),
        (credentials("user1", "chat"), 6),
    ] {
        let known = credentials.token != "nobody";
        assert_eq!(authenticator.authenticate(credentials).await.is_ok(), known);
        assert_eq!(server.count(), calls);
    }
}

#[tokio::test]
async fn what_may_not_be_remembered_is_not() {
    let server = HttpServer::start(backend).await;
    let forgetful = authenticator(settings(&server));
    for calls in 1..=3 {
        assert_eq!(shown(&forgetful, "user").await, "user");
        assert_eq!(server.count(), calls);
    }
    // Failures are not, however long refusals are.
    let mut remembering = settings(&server);
    remembering.cache_for = LONG;
    remembering.cache_refusals_for = LONG;
    let remembering = authenticator(remembering);
    server.respond(always(Reply::Say(500, String::new())));
    assert_eq!(shown(&remembering, "user").await, "unavailable");
    server.respond(backend);
    assert_eq!(shown(&remembering, "user").await, "user");
}

/// Three at once may come, of which one waits.
#[tokio::test]
async fn calls_at_once_are_bounded() {
    let permits = Arc::new(Semaphore::new(0));
    let answer = Reply::Say(200, json!({"userId": "jack"}).to_string());
    let server = HttpServer::start(always(Reply::After(Arc::clone(&permits), answer.into()))).await;
    let mut settings = settings(&server);
    settings.concurrency_max = 2;
    settings.waiting_max = 1;
    let authenticator = authenticator(settings);
    let mut asking = JoinSet::new();
    for _ in 0..2 {
        let authenticator = Arc::clone(&authenticator);
        asking.spawn(async move { shown(&authenticator, "t").await });
    }
    server.asked(2).await;
    // The third waits, and gets the place of the first who is done; the fourth is refused.
    let mut third = Box::pin(shown(&authenticator, "t"));
    tokio::select! {
        biased;
        answered = &mut third => panic!("{answered}"),
        () = std::future::ready(()) => {}
    }
    let refused = cause(&authenticator, "t").await;
    assert_eq!(refused, "too many calls to the callback backend are in progress");
    assert_eq!(server.count(), 2);
    permits.add_permits(3);
    assert_eq!(third.await, "jack");
    assert_eq!(asking.join_all().await, ["jack", "jack"]);
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn who_waits_too_long_is_refused() {
    let server = HttpServer::start(always(Reply::Hang)).await;
    let mut settings = settings(&server);
    settings.concurrency_max = 1;
    settings.wait_max = Duration::from_millis(10);
    let authenticator = authenticator(settings);
    let mut first = Box::pin(shown(&authenticator, "t"));
    tokio::select! {
        biased;
        answered = &mut first => panic!("{answered}"),
        () = server.asked(1) => {}
    }
    let refused = cause(&authenticator, "t").await;
    assert_eq!(refused, "too many calls to the callback backend are in progress");
    // Whoever goes away leaves its place to others.
    drop(first);
    server.respond(backend);
    assert_eq!(shown(&authenticator, "user").await, "user");
}

#[tokio::test]
async fn a_backend_that_fails_is_left_alone_for_a_while() {
    let server = HttpServer::start(always(Reply::Say(503, String::new()))).await;
    let mut resting = settings(&server);
    resting.failures_max = 3;
    resting.rest = LONG;
    let authenticator = authenticator(resting.clone());
    for (address, calls) in [(1, 1), (1, 2), (2, 3), (3, 4), (4, 4), (5, 4)] {
        assert_eq!(shown_from(&authenticator, address, "user").await, "unavailable");
        assert_eq!(server.count(), calls);
    }
    let told = cause(&authenticator, "user").await;
    assert_eq!(told, "the callback backend at 127.0.0.1 failed before; calls to it are suspended");
    // With no rest the next call is the one that tries.
    resting.rest = Duration::ZERO;
    let trying = crate::callback::authenticator(resting);
    for address in 1..=5 {
        assert_eq!(shown_from(&trying, address, "user").await, "unavailable");
    }
    // A client that leaves in the middle of the trial leaves it to the next one.
    server.respond(always(Reply::Hang));
    let asked = server.count() + 1;
    let mut probe = Box::pin(shown(&trying, "user"));
    tokio::select! {
        biased;
        answered = &mut probe => panic!("{answered}"),
        () = server.asked(asked) => {}
    }
    assert_eq!(shown(&trying, "user").await, "unavailable", "one tries at a time");
    assert_eq!(server.count(), asked);
    drop(probe);
    server.respond(backend);
    assert_eq!(shown(&trying, "user").await, "user");
    assert_eq!(shown(&trying, "nobody").await, "unknown");
}

/// What a backend cannot make anything of is that token's affair, however often it is tried.
#[tokio::test]
async fn a_token_that_the_backend_chokes_on_stops_nobody_else() {
    let server = HttpServer::start(backend).await;
    let mut settings = settings(&server);
    settings.failures_max = 1;
    settings.rest = LONG;
    let authenticator = authenticator(settings);
    for status in [500, 400, 422, 302, 204, 501] {
        server.respond(move |received| match backend(received) {
            Reply::Say(401, _) => Reply::Say(status, String::new()),
            reply => reply,
        });
        for address in 1..=3 {
            assert_eq!(shown_from(&authenticator, address, "\0").await, "unavailable", "{status}");
        }
        assert_eq!(shown_from(&authenticator, 9, "user").await, "user", "{status}");
    }
}

/// Nor does a token that it takes too long over.
#[tokio::test]
async fn one_address_has_the_backend_left_alone_for_nobody() {
    let server = HttpServer::start(|received: &Received| match backend(received) {
        Reply::Say(401, _) => Reply::Say(504, String::new()),
        reply => reply,
    })
    .await;
    let mut settings = settings(&server);
    settings.failures_max = 2;
    settings.rest = LONG;
    let authenticator = authenticator(settings);
    for _ in 0..20 {
        assert_eq!(shown_from(&authenticator, 1, "slow").await, "unavailable");
    }
    assert_eq!(shown_from(&authenticator, 2, "user").await, "user");
}

/// Where strangers make up tokens, somebody else's registration waits for one of them, not for all.
#[tokio::test]
async fn made_up_tokens_of_one_address_keep_nobody_else_waiting() {
    let permits = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&permits);
    let server = HttpServer::start(move |received: &Received| match backend(received) {
        Reply::Say(401, body) => Reply::After(Arc::clone(&gate), Reply::Say(401, body).into()),
        reply => reply,
    })
    .await;
    let mut settings = settings(&server);
    settings.concurrency_max = 4;
    settings.waiting_max = 8;
    let authenticator = authenticator(settings);
    let mut strangers = JoinSet::new();
    for number in 0..60 {
        let authenticator = Arc::clone(&authenticator);
        strangers.spawn(async move {
            shown_from(&authenticator, 1, &format!("made up {number}")).await
        });
    }
    // Three of them call, eight wait, and the others were refused; one place is for others.
    server.asked(3).await;
    for address in 2..=20 {
        assert_eq!(shown_from(&authenticator, address, "user").await, "user");
    }
    permits.add_permits(60);
    let answers = strangers.join_all().await;
    let told = |what| answers.iter().filter(|answer| *answer == what).count();
    assert_eq!((told("unknown"), told("unavailable")), (11, 49));
}

/// Refusals are answers: however many, the backend is well.
#[tokio::test]
async fn refusals_are_no_failures() {
    let server = HttpServer::start(backend).await;
    let mut settings = settings(&server);
    settings.failures_max = 1;
    settings.rest = LONG;
    let authenticator = authenticator(settings);
    for calls in 1..=5 {
        assert_eq!(shown(&authenticator, "nobody").await, "unknown");
        assert_eq!(server.count(), calls);
    }
}

#[tokio::test]
async fn connections_are_kept_and_replaced_when_the_backend_closes_them() {
    let server = HttpServer::start(backend).await;
    let authenticator = authenticator(settings(&server));
    for _ in 0..3 {
        assert_eq!(shown(&authenticator, "user").await, "user");
    }
    let connections: Vec<usize> =
        server.received().iter().map(|received| received.connection).collect();
    // A machine that stands still may let one grow old.
    assert!(connections.windows(2).all(|pair| pair[0] <= pair[1]), "{connections:?}");
    // It answers and closes, without having said that it would.
    let body = json!({"userId": "jack"}).to_string();
    let closing = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    server.respond(always(Reply::Raw(closing.into_bytes())));
    for _ in 0..5 {
        assert_eq!(shown(&authenticator, "user").await, "jack");
    }
}

#[tokio::test]
async fn over_tls_too() {
    let (acceptor, authority) = tls::acceptor();
    let server = HttpServer::start_with(Some(acceptor), backend).await;
    let url = format!("https://localhost:{}/auth", server.address.port());
    let mut settings = settings(&server);
    settings.endpoint = HttpEndpoint::trusting(&url, &authority).unwrap();
    let authenticator = authenticator(settings);
    for _ in 0..3 {
        assert_eq!(shown(&authenticator, "user").await, "user");
    }
}

#[test]
fn settings_are_checked() {
    let endpoint = HttpEndpoint::new("http://localhost/").unwrap();
    let new = || CallbackSettings::new(endpoint.clone());
    let check = |change: &dyn Fn(&mut CallbackSettings), expected: &str| {
        let mut settings = new();
        change(&mut settings);
        let error = CallbackAuthenticator::new(settings).unwrap_err().to_string();
        assert_eq!(error, expected);
    };
    for calls in [0, 1_000_001] {
        check(&|it| it.concurrency_max = calls, "concurrency_max must be 1 to a million");
    }
    check(&|it| it.waiting_max = 1_000_001, "waiting_max must be at most a million");
    check(&|it| it.cache_entries_max = usize::MAX, "cache_entries_max must be at most ten million");
    check(&|it| it.failures_max = 0, "failures_max must be at least 1");
    check(&|it| it.timeout = Duration::ZERO, "timeout must be longer than zero");
    check(&|it| it.rest = Duration::MAX, "rest must be at most a day");
    check(
        &|it| it.forward_headers = vec![COOKIE, HOST],
        "host cannot be forwarded: it belongs to the handshake itself",
    );
    check(
        &|it| it.forward_headers = vec![HeaderName::from_static("sec-websocket-key")],
        "sec-websocket-key cannot be forwarded: it belongs to the handshake itself",
    );
    check(
        &|it| {
            *it = it.clone().with_secret("s").unwrap();
            it.forward_headers = vec![AUTHORIZATION];
        },
        "authorization cannot be forwarded, because the secret is sent in that header",
    );
    for secret in ["", "canary\n", " canary", "can\u{0}ary"] {
        assert_eq!(new().with_secret(secret).unwrap_err(), CallbackSettingsError::Secret);
    }
    let shown = format!("{:?}", new().with_secret("canary").unwrap());
    assert!(!shown.contains("canary"), "{shown}");
}
