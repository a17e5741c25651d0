//! Building and binding: what is refused, and where it listens.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::{COOKIE, HeaderName};
use wserver_warp::auth::{
    Authenticator, Credentials, Identity, Refusal, StaticPushKeys, authenticate_with,
};
use wserver_warp::{BuildProblem, LimitSettings, OriginPolicy, Server, TokenSource};

use crate::{Log, PATIENCE, closed, heard, serve, serve_default};

fn problems(builder: wserver_warp::ServerBuilder) -> Vec<String> {
    match builder.build() {
        Ok(server) => panic!("built: {server:?}"),
        Err(error) => error.problems().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_problem_is_found_at_once_by_its_settings() {
    let limits = LimitSettings {
        ping_interval: Duration::ZERO,
        outbox_bytes_max: 1024,
        ..LimitSettings::default()
    };
    let error = Server::builder()
        .address("nowhere")
        .ws_path("ws")
        .push_path("/push?x")
        .origin(OriginPolicy::list(["app.example.com"]))
        .trusted_proxies(["nobody"])
        .limits(limits)
        .build()
        .unwrap_err();
    let found: Vec<_> = error.problems().iter().map(BuildProblem::settings).collect();
    assert_eq!(
        found,
        [
            &["address"][..],
            &["ws_path"],
            &["push_path"],
            &["origin"],
            &["trusted_proxies"],
            &["ping_interval"],
            &["outbox_bytes_max", "walk_bytes_max", "message_bytes_max", "name_bytes_max"],
        ],
        "{error}"
    );
    for words in ["nowhere", "app.example.com", "nobody"] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Whoever takes cookies has to say whose pages may send them.
#[test]
fn cookies_need_a_policy_of_origins() {
    let cookie = || Server::builder().token_source(TokenSource::Cookie("session".to_owned()));
    let reading = || {
        let judge = authenticate_with(|credentials| async { Ok(Identity::new(credentials.token)) });
        Server::builder().authenticator(judge.reading(["cookie".parse().unwrap()]))
    };
    for (builder, told) in [(cookie(), "token_source cookie:session"), (reading(), "reads cookies")]
    {
        let found = problems(builder);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(told) && found[0].contains("origin any"), "{found:?}");
    }
    for origin in [
        OriginPolicy::same_origin(),
        OriginPolicy::list(["https://app.example.com"]),
        OriginPolicy::check(|_| true),
    ] {
        assert!(cookie().origin(origin.clone()).build().is_ok(), "{origin}");
        assert!(reading().origin(origin.clone()).build().is_ok(), "{origin}");
    }
    for source in [TokenSource::Authorization, TokenSource::Query("token".to_owned())] {
        assert!(Server::builder().token_source(source).build().is_ok());
    }
    let found = problems(Server::builder().token_source(TokenSource::Query(String::new())));
    assert!(found.len() == 1 && found[0].contains("token_source query:"), "{found:?}");
}

/// Reads other headers from one moment to the next.
#[derive(Clone, Default)]
struct Fickle {
    reads: Arc<Mutex<Vec<HeaderName>>>,
    seen: Log<usize>,
}

#[async_trait]
impl Authenticator for Fickle {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        self.seen.add(credentials.headers.len());
        Ok(Identity::new(credentials.token))
    }

    fn handshake_headers(&self) -> Vec<HeaderName> {
        self.reads.lock().unwrap().clone()
    }
}

/// Whoever changes his mind about headers later gets no cookie that `build` would have refused.
#[tokio::test]
async fn where_every_page_may_connect_no_cookie_is_handed_over() {
    for (origin, expected) in [(OriginPolicy::any(), [0, 1]), (OriginPolicy::same_origin(), [0, 2])]
    {
        let fickle = Fickle::default();
        let running = serve(Server::builder().authenticator(fickle.clone()).origin(origin));
        let own: HeaderName = "x-own".parse().unwrap();
        let client = running.client().with_header(COOKIE, "session=abc".parse().unwrap());
        let client = client.with_header(own.clone(), "abc".parse().unwrap());
        let mut before = client.open().await.unwrap();
        running.register(&mut before, "jack", "one").await;
        *fickle.reads.lock().unwrap() = vec![COOKIE, own];
        let mut after = client.open().await.unwrap();
        running.register(&mut after, "jack", "two").await;
        assert_eq!(fickle.seen.all(), expected);
    }
}

#[test]
fn paths_are_checked() {
    let with = |ws: &str, push: &str| Server::builder().ws_path(ws).push_path(push);
    for (ws, push, told) in [
        ("", "/push", "ws_path"),
        ("ws", "/push", "ws_path"),
        ("/ws", "push", "push_path"),
        ("/same", "/same", "must differ"),
        ("/w s", "/push", "plain path"),
        ("/ws", "/push#x", "plain path"),
        ("/ws", "/%70ush", "plain path"),
    ] {
        let found = problems(with(ws, push));
        assert!(found.len() == 1 && found[0].contains(told), "{ws} {push}: {found:?}");
    }
    let found = problems(with("/", "/push").demo_page());
    assert!(found.iter().any(|it| it.contains("neither ws_path nor push_path")), "{found:?}");
    let found = problems(Server::builder().demo_page());
    assert!(found.len() == 1 && found[0].contains("private_on_loopback"), "{found:?}");
    assert!(with("/", "/push").build().is_ok());
}

/// Not where others may see it, nor where its WebSockets would be refused.
#[tokio::test]
async fn the_demo_page_is_for_this_machine() {
    let local = || Server::builder().address("127.0.0.1:0").demo_page_on_loopback();
    let private = || local().private_address("127.0.0.1:0");
    for (name, builder, is_served) in [
        ("open pushes", local().allow_open_push(), true),
        ("no pushes", local(), false),
        ("everywhere", local().address("0.0.0.0:0").allow_open_push(), false),
        ("behind a proxy", local().allow_open_push().trusted_proxies(["127.0.0.1"]), false),
        ("apart", private(), true),
        ("apart, of one origin", private().origin(OriginPolicy::same_origin()), false),
        ("apart, behind a proxy", private().trusted_proxies(["127.0.0.1"]), false),
    ] {
        let server = builder.build().unwrap().bind().unwrap();
        assert_eq!(server.serves_demo_page(), is_served, "{name}");
    }
}

/// Nobody opens a push endpoint to other machines by leaving something out.
#[test]
fn beyond_loopback_an_open_push_must_be_meant() {
    for address in ["0.0.0.0:0", ":0", "[::]:0"] {
        // It builds, since pushes are not taken there.
        assert!(Server::builder().address(address).build().is_ok());
        let found = problems(Server::builder().private_address(address));
        assert!(found.len() == 1 && found[0].contains("allow_open_push"), "{address}: {found:?}");
        assert!(Server::builder().address(address).allow_open_push().build().is_ok());
        let keys = StaticPushKeys::new(["a push key of some length"]).unwrap();
        assert!(Server::builder().address(address).push_authorizer(keys).build().is_ok());
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let found = problems(Server::builder().private_listener(listener));
    assert!(found.len() == 1 && found[0].contains("allow_open_push"), "{found:?}");
    for address in ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.1.2.3:0"] {
        assert!(Server::builder().address(address).build().is_ok(), "{address}");
    }
}

#[tokio::test]
async fn port_zero_is_a_port_of_its_own() {
    let (first, second) = (serve_default(), serve_default());
    assert_ne!(first.address.port(), 0);
    assert_ne!(first.address.port(), second.address.port());
    let taken = Server::builder().address(first.address.to_string()).build().unwrap().bind();
    assert!(taken.is_err());
}

/// Who connects before it is served waits in the kernel and is served.
#[tokio::test]
async fn a_listener_that_is_bound_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().listener(listener).build().unwrap().bind().unwrap();
    assert_eq!(server.local_addr(), address);
    let handle = server.handle();
    let url = format!("ws://{address}/ws");
    let early = async {
        let mut connection = wserver_client::Client::connect(&url).await.unwrap();
        connection.register("jack", "news").await.unwrap();
        while handle.push("jack", "news", "m").await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(heard(&mut connection).await, "m");
        handle.shutdown();
        connection.next_text(PATIENCE).await.unwrap_err();
    };
    let (drained, ()) = tokio::join!(server.serve(), early);
    assert_eq!(drained.closed, 1);
}

#[test]
fn without_a_runtime_it_says_so() {
    let server = Server::builder().address("127.0.0.1:0").build().unwrap();
    assert!(server.bind().is_err());
}

/// Nothing is global: two servers in one program know nothing of each other.
#[tokio::test]
async fn two_servers_are_apart() {
    let (first, second) = (serve_default(), serve_default());
    let mut of_first = first.listen("jack", "news").await;
    let mut of_second = second.listen("jack", "news").await;
    assert_eq!(first.handle.push("jack", "news", "to the first").await, Ok(1));
    assert_eq!(second.pusher().push("jack", "news", "to the second").await.unwrap(), 1);
    assert_eq!(heard(&mut of_first).await, "to the first");
    assert_eq!(heard(&mut of_second).await, "to the second");
    first.handle.shutdown();
    assert_eq!(closed(&mut of_first).await.0, 1001);
    drop(of_first);
    assert_eq!(first.shut_down().await.closed, 1);
    assert_eq!(second.handle.push("jack", "news", "still there").await, Ok(1));
    assert_eq!(heard(&mut of_second).await, "still there");
    assert_eq!(second.handle.counters().pushes_total.value(), 2);
}
