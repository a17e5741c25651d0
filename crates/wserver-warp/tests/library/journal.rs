//! What a program learns of its users: receipts, what happened of late, traces, connections.

use std::time::{Duration, Instant, SystemTime};

use wserver_warp::auth::{EventScope, Identity, Refusal, authenticate_with};
use wserver_warp::{
    CloseReason, Connection, Entry, Flow, HandleError, LimitSettings, NoDelivery, PushOptions,
    RegisterError, Server, ServerBuilder, Trace, TraceError, What,
};

use crate::{Log, PATIENCE, closed, eventually, heard, serve, serve_default};

/// Anybody but `nobody`, for `news` alone; `late` is somebody whose token is over.
fn builder() -> ServerBuilder {
    Server::builder().authenticator(authenticate_with(|credentials| async move {
        match credentials.token.as_str() {
            "nobody" => Err(Refusal::Unknown),
            "late" => Ok(Identity::new("jack").with_expires_at(SystemTime::UNIX_EPOCH)),
            user => Ok(Identity::new(user).with_events(EventScope::only(["news"]))),
        }
    }))
}

async fn next(trace: &mut Trace) -> Entry {
    let traced = tokio::time::timeout(PATIENCE, trace.next()).await.expect("something happens");
    let traced = traced.expect("the server runs");
    assert_eq!(traced.missed, 0);
    traced.entry
}

fn event_of(entry: &Entry) -> &str {
    entry.event.as_ref().map_or("", |event| event.as_str())
}

#[tokio::test]
async fn a_trace_tells_what_becomes_of_a_user() {
    let running = serve(builder());
    let handle = &running.handle;
    let mut trace = handle.trace("jack").unwrap();
    let mut client = running.listen("jack", "news").await;
    let registered = next(&mut trace).await;
    assert_eq!((registered.what, event_of(&registered)), (What::Registered, "news"));

    handle.push("jack", "news", "hello").await.unwrap();
    let pushed = next(&mut trace).await;
    assert!(matches!(pushed.what, What::Pushed { receipt } if receipt.written == 1), "{pushed:?}");

    client.register("jack", "chat").await.unwrap();
    let refused = next(&mut trace).await;
    let what = What::RegistrationRefused { reason: "forbidden" };
    assert_eq!((refused.what, event_of(&refused)), (what, "chat"));
    assert_eq!(refused.connection, registered.connection);

    assert_eq!(heard(&mut client).await, "hello");
    drop(client);
    let gone = next(&mut trace).await;
    assert_eq!(gone.what, What::Closed { reason: CloseReason::PeerGone });
    let recent = handle.recent("jack", 10).unwrap();
    assert_eq!(recent, [refused, gone], "and that is what is kept");

    handle.shutdown();
    let end = tokio::time::timeout(PATIENCE, trace.next()).await.expect("a trace ends");
    assert_eq!(end, None);
    assert_eq!(handle.trace("jack").unwrap_err(), HandleError::Trace(TraceError::Draining));
}

/// Nobody gets an entry under the name of somebody whose token they do not hold.
#[tokio::test]
async fn what_strangers_do_stands_apart() {
    let running = serve(builder());
    let mut client = running.open().await;
    client.register("nobody", "news").await.unwrap();
    client.register("late", "news").await.unwrap();
    client.send_text("no register message").await.unwrap();
    let reasons = || {
        let strangers = running.handle.recent_strangers(10);
        strangers.iter().map(|entry| entry.what).collect::<Vec<_>>()
    };
    eventually("noted", || reasons().len() == 3).await;
    let refused = |reason| What::RegistrationRefused { reason };
    assert_eq!(reasons(), ["unknown", "expired", "malformed"].map(refused));
    drop(client);
    eventually("gone", || reasons().len() == 4).await;
    assert_eq!(reasons()[3], What::Closed { reason: CloseReason::PeerGone });
    assert!(running.handle.recent("jack", 10).unwrap().is_empty());
}

#[tokio::test]
async fn connections_are_told_and_left_out() {
    let running = serve_default();
    let handle = &running.handle;
    let mut sender = running.listen("jack", "news").await;
    let told = handle.user_connections("jack", 10).unwrap();
    let [sent_from] = told.as_slice() else { panic!("{told:?}") };
    assert!(sent_from.peer.is_some_and(|peer| peer.ip().is_loopback()), "{sent_from:?}");
    let options = PushOptions { exclude: Some(sent_from.id), ..PushOptions::default() };
    let receipt = handle.push_with("jack", "news", "echo", &options).await.unwrap();
    assert_eq!(receipt.reason, Some(NoDelivery::Excluded));

    let mut other = running.listen("jack", "news").await;
    assert_eq!(handle.presence(&["rose", "jack"]), Ok(vec![0, 2]));
    assert_eq!(handle.user_connections("jack", 1).unwrap().len(), 1);
    let receipt = handle.push_with("jack", "news", "to the other", &options).await.unwrap();
    assert_eq!((receipt.matched, receipt.written), (1, 1));
    let late = PushOptions { expires_at: Some(Instant::now()), ..PushOptions::default() };
    let receipt = handle.push_with("jack", "news", "late", &late).await.unwrap();
    assert_eq!(receipt.reason, Some(NoDelivery::Expired));
    let everyone = handle.push_everyone("news", "to all", &PushOptions::default()).await.unwrap();
    assert_eq!((everyone.users, everyone.total.written), (1, 2));
    assert_eq!(heard(&mut sender).await, "to all");
    assert_eq!(heard(&mut other).await, "to the other");
    assert_eq!(heard(&mut other).await, "to all");
}

/// It need not register by itself, also when the time for that is over.
#[tokio::test]
async fn a_connection_is_registered_by_the_program() {
    let register_timeout = Duration::from_millis(1_100);
    let kept: Log<Connection> = Log::default();
    let log = kept.clone();
    let limits = LimitSettings { register_timeout, ..LimitSettings::default() };
    let running = serve(Server::builder().limits(limits).on_message(move |connection, _| {
        log.add(connection.clone());
        Flow::Continue
    }));
    let handle = &running.handle;
    let mut client = running.open().await;
    client.send_text("hello").await.unwrap();
    eventually("seen", || kept.len() == 1).await;
    let id = kept.all()[0].id();
    handle.register(id, "jack", "news").unwrap();
    // Opened later, so their time is over later.
    let mut silent = [running.open().await, running.open().await];
    for client in &mut silent {
        assert_eq!(closed(client).await.0, 1008);
    }
    drop(silent);
    // It has not said a word for that long either.
    let last_sign = || handle.user_connections("jack", 1).unwrap()[0].last_sign_of_life;
    assert!(last_sign() >= Duration::from_secs(1), "{:?}", last_sign());
    client.send_text("hello again").await.unwrap();
    eventually("a sign of life", || last_sign() < Duration::from_secs(1)).await;
    assert_eq!(handle.push("jack", "news", "still there").await, Ok(1));
    assert_eq!(heard(&mut client).await, "still there");
    assert_eq!(handle.unregister(id, "jack", "news"), Ok(true));
    assert_eq!(handle.unregister(id, "jack", "news"), Ok(false));
    assert_eq!(handle.push("jack", "news", "nobody").await, Ok(0));
    drop(client);
    eventually("gone", || handle.connections_open() == 0).await;
    let ending = Err(HandleError::Register(RegisterError::Ending));
    assert_eq!(handle.register(id, "jack", "news"), ending);
}
